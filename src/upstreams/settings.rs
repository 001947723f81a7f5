//! What it takes to open an upstream, checked before anything is sent.

use std::time::Duration;

use longshore_actors::breaker::BreakerPolicy;
use longshore_actors::limits::{BadRate, Rate};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect;

use super::reply::Reply;
use crate::config::Secret;

/// Redirects within the origin that are followed.
const REDIRECTS_MAX: usize = 3;

/// Every number of one upstream. Start from [`UpstreamSettings::new`].
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Name in logs, status and the breaker: the domain's, or the provider's.
    pub name: String,
    /// `https://host/prefix`; paths are appended to it.
    pub base_url: String,
    pub auth: Option<Auth>,
    /// A secret that stands in the paths of this upstream: no address that is shown has it.
    pub path_secret: Option<Secret>,
    /// `None` is unlimited.
    pub rate_per_second: Option<f64>,
    /// Calls that may go out at once after a quiet time.
    pub burst: u32,
    /// From sending to the last byte of the body.
    pub timeout: Duration,
    pub connect_timeout: Duration,
    /// A call waits no longer for its turn (rate, pause, probe of a breaker); then it is `Unavailable`.
    pub wait_max: Duration,
    /// Pause after a 429 that does not say for how long.
    pub pause_default: Duration,
    /// Bytes of a body, after decompression; a longer one fails the call.
    pub body_max: u64,
    /// Connections kept open while nobody calls.
    pub idle_connections: usize,
    pub breaker: BreakerPolicy,
    pub user_agent: String,
    /// What a health probe makes of an answer: for providers that tell an error under status 200.
    pub healthy: fn(&Reply) -> Result<(), String>,
}

impl UpstreamSettings {
    pub fn new(name: impl Into<String>, base_url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            base_url: base_url.into(),
            auth: None,
            path_secret: None,
            rate_per_second: None,
            burst: 1,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            wait_max: Duration::from_secs(60),
            pause_default: Duration::from_secs(5),
            // A page of 6000 bundles is 8 MB.
            body_max: 64 * 1024 * 1024,
            // More than a fetch pool has actors: with fewer, busy pools open and close connections all the time.
            idle_connections: 32,
            breaker: BreakerPolicy::default(),
            user_agent: concat!("longshore/", env!("CARGO_PKG_VERSION")).to_owned(),
            healthy: |reply| if reply.status() < 400 { Ok(()) } else { Err(reply.summary()) },
        }
    }

    /// The address, checked: `http` or `https`, a host, and nothing that belongs elsewhere.
    pub(super) fn url(&self) -> Result<Url, UpstreamError> {
        let bad = |problem: &str| UpstreamError::BadUrl { name: self.name.clone(), problem: problem.to_owned() };
        let url = Url::parse(&self.base_url).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("it must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("it holds a user name or password; set the key instead"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it must end with its path, without ? or #"));
        }
        Ok(url)
    }

    pub(super) fn rate(&self) -> Result<Option<Rate>, UpstreamError> {
        let rate = self.rate_per_second.map(|per_second| Rate::new(per_second, self.burst)).transpose();
        rate.map_err(|problem| UpstreamError::BadRate { name: self.name.clone(), problem })
    }

    /// The client for `url`: pooled connections, decompression, the key in a header that is marked sensitive.
    pub(super) fn client(&self, url: &Url) -> Result<reqwest::Client, UpstreamError> {
        // reqwest is built without a provider of its own and panics when there is none. An error means that
        // there is one already, which will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .default_headers(self.headers()?)
            .connect_timeout(self.connect_timeout)
            .pool_max_idle_per_host(self.idle_connections)
            .tcp_nodelay(true)
            .redirect(redirects());
        if url.scheme() == "http" {
            // No roots are needed, and reading the system's fails where it has none.
            client = client.tls_certs_only([]);
        }
        if is_loopback(url) {
            // A proxy of the environment cannot reach what listens on this machine only.
            client = client.no_proxy();
        }
        client.build().map_err(|error| UpstreamError::Client { name: self.name.clone(), problem: root_cause(&error) })
    }

    fn headers(&self) -> Result<HeaderMap, UpstreamError> {
        let mut headers = HeaderMap::new();
        if let Some(Auth { header, prefix, secret }) = &self.auth {
            let bad = |problem| UpstreamError::BadAuth { name: self.name.clone(), problem };
            let header = HeaderName::try_from(header).map_err(|_| bad("the name of the header is not valid"))?;
            let value = HeaderValue::try_from(format!("{prefix}{}", secret.expose()));
            let mut value = value.map_err(|_| bad("the key holds characters that no header can carry"))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        Ok(headers)
    }
}

/// How the key is sent.
#[derive(Clone, Debug)]
pub struct Auth {
    pub header: String,
    /// What stands before the secret: empty, or `Bearer `.
    pub prefix: &'static str,
    pub secret: Secret,
}

impl Auth {
    pub fn header(name: impl Into<String>, secret: Secret) -> Self {
        Self { header: name.into(), prefix: "", secret }
    }

    pub fn bearer(secret: Secret) -> Self {
        Self { header: "authorization".to_owned(), prefix: "Bearer ", secret }
    }
}

/// Settings that make no upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("base_url of {name}: {problem}")]
    BadUrl { name: String, problem: String },
    #[error("key of {name}: {problem}")]
    BadAuth { name: String, problem: &'static str },
    #[error("limit of {name}: {problem}")]
    BadRate { name: String, problem: BadRate },
    #[error("http client of {name}: {problem} (for https the system needs its CA certificates, or SSL_CERT_FILE)")]
    Client { name: String, problem: String },
}

/// Follows within the origin only. The key stands in a header that reqwest does not know for a secret, so it would
/// travel along to wherever a redirect points.
fn redirects() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let same = attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
        if !same {
            let origin = attempt.url().origin().ascii_serialization();
            return attempt.error(format!("redirected to {origin}; if that is right, make it the base_url"));
        }
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error(format!("redirected more than {REDIRECTS_MAX} times"));
        }
        attempt.follow()
    })
}

pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let address: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// The last of a chain of errors, which is the one that says what happened.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn problem(settings: UpstreamSettings) -> String {
        let url = match settings.url() {
            Ok(url) => url,
            Err(error) => return error.to_string(),
        };
        let rate = settings.rate().map(drop);
        let client = rate.and_then(|()| settings.client(&url).map(drop));
        client.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn bad_settings_are_named_and_quote_no_secret() {
        let good = UpstreamSettings::new("catalog", "http://127.0.0.1:1/v2");
        assert_eq!(problem(good.clone()), "");
        for (base_url, says) in [
            ("api.example.com", "relative URL"),
            ("ftp://example.com", "http:// or https://"),
            ("https://user:hunter2@example.com", "user name or password"),
            ("https://example.com/?key=hunter2", "without ? or #"),
            ("https://", "empty host"),
        ] {
            let said = problem(UpstreamSettings { base_url: base_url.to_owned(), ..good.clone() });
            assert!(said.starts_with("base_url of catalog: ") && said.contains(says), "{base_url}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        let auth = Some(Auth::header("X-API-Key", Secret::from("hunter2\n")));
        let said = problem(UpstreamSettings { auth, ..good.clone() });
        assert!(said.contains("no header can carry") && !said.contains("hunter2"), "{said}");
        let auth = Some(Auth::header("X API Key", Secret::from("hunter2")));
        assert!(problem(UpstreamSettings { auth, ..good.clone() }).contains("name of the header"));
        let said = problem(UpstreamSettings { rate_per_second: Some(0.0), ..good });
        assert!(said.contains("limit of catalog") && said.contains("more than 0"), "{said}");
    }

    #[test]
    fn the_clients_debug_form_hides_the_key() {
        let auth = Some(Auth::bearer(Secret::from("hunter2")));
        let settings = UpstreamSettings { auth, ..UpstreamSettings::new("catalog", "http://localhost:1") };
        let client = settings.client(&settings.url().unwrap()).unwrap();
        let shown = format!("{client:?} {settings:?} {:?}", settings.headers().unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn loopback_is_known_in_each_spelling() {
        for (url, expected) in [
            ("http://localhost:80", true),
            ("http://127.0.0.1:8500/v2", true),
            ("http://[::1]:80", true),
            ("http://example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
