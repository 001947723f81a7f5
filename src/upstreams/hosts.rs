//! The hosts that the addresses of one provider may name, and no others.
//!
//! ```text
//! https://images.example/a.jpg ──of──▶ on the list? ─▶ the upstream of that host (its own bucket, its own breaker)
//!                                          └─ no ─▶ refused, nothing is sent
//! ```
//!
//! A feed's addresses are outside input: without the list they could point to anything this machine reaches. The host
//! of `base_url` is always on it. The others are opened when they are first needed.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use longshore_actors::events::Events;
use longshore_actors::job::Fault;
use longshore_actors::limits::BadRate;
use longshore_actors::shutdown::Phases;
use reqwest::Url;

use super::client::Upstream;
use super::settings::{UpstreamError, UpstreamSettings, is_loopback};

/// Cheap to clone.
#[derive(Clone)]
pub struct Hosts {
    inner: Arc<Inner>,
}

struct Inner {
    base: Upstream,
    base_url: Url,
    others: Vec<Other>,
    settings: UpstreamSettings,
    /// Of those that are opened later.
    rate: Mutex<(Option<f64>, u32)>,
    phases: Phases,
    events: Events,
}

struct Other {
    /// `host`, or `host:port`.
    host: String,
    opened: OnceLock<Result<Upstream, String>>,
}

impl Hosts {
    /// `settings` are those of the host of `base_url`; the others have the same but for name and address.
    ///
    /// # Errors
    /// [`UpstreamError`] when the settings make no client; nothing is sent yet.
    pub fn new(
        settings: UpstreamSettings,
        others: &[String],
        phases: Phases,
        events: Events,
    ) -> Result<Self, UpstreamError> {
        let base_url = settings.url()?;
        let base = Upstream::new(settings.clone(), phases.clone(), events.clone())?;
        let others = others.iter().map(|host| Other { host: host.to_ascii_lowercase(), opened: OnceLock::new() });
        let rate = Mutex::new((settings.rate_per_second, settings.burst));
        let inner = Inner { base, base_url, others: others.collect(), settings, rate, phases, events };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn base(&self) -> &Upstream {
        &self.inner.base
    }

    /// Whether `host` (with its port, where the address names one) is on the list.
    pub fn allows(&self, host: &str) -> bool {
        let base = authority(&self.inner.base_url);
        host.eq_ignore_ascii_case(&base) || self.inner.others.iter().any(|other| host.eq_ignore_ascii_case(&other.host))
    }

    /// The upstream for an address, and the address as it is to be asked for: plain `http` becomes `https` where the
    /// host speaks it.
    ///
    /// # Errors
    /// `Fail` when the host is not on the list.
    pub fn of(&self, address: &str) -> Result<(Upstream, Url), Fault> {
        let mut url = Url::parse(address).map_err(|error| Fault::fail(format!("no address: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(Fault::fail("an address is http or https, without a user name"));
        }
        let host = authority(&url);
        if host == authority(&self.inner.base_url) {
            secure(&mut url, self.inner.base_url.scheme());
            return Ok((self.inner.base.clone(), url));
        }
        let Some(other) = self.inner.others.iter().find(|other| other.host == host) else {
            return Err(Fault::fail(format!("the host {host} is not on the list of hosts: nothing is asked of it")));
        };
        if !is_loopback(&url) {
            secure(&mut url, "https");
        }
        match other.opened.get_or_init(|| self.open(&url, &host)) {
            Ok(upstream) => Ok((upstream.clone(), url)),
            Err(reason) => Err(Fault::fail(reason.clone())),
        }
    }

    /// Changes the rate of each host, at once.
    ///
    /// # Errors
    /// [`BadRate`], and the old rates stay.
    pub fn set_rate(&self, per_second: Option<f64>, burst: u32) -> Result<(), BadRate> {
        self.inner.base.set_rate(per_second, burst)?;
        for other in &self.inner.others {
            if let Some(Ok(upstream)) = other.opened.get() {
                upstream.set_rate(per_second, burst)?;
            }
        }
        *self.inner.rate.lock().unwrap_or_else(PoisonError::into_inner) = (per_second, burst);
        Ok(())
    }

    fn open(&self, url: &Url, host: &str) -> Result<Upstream, String> {
        let Inner { settings, rate, phases, events, .. } = &*self.inner;
        let (rate_per_second, burst) = *rate.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = UpstreamSettings {
            name: format!("{} {host}", settings.name),
            base_url: url.origin().ascii_serialization(),
            rate_per_second,
            burst,
            ..settings.clone()
        };
        Upstream::new(settings, phases.clone(), events.clone()).map_err(|error| error.to_string())
    }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn secure(url: &mut Url, scheme: &str) {
    if scheme == "https" && url.scheme() == "http" {
        // Between http and https it cannot fail.
        let _ = url.set_scheme("https");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::exchange::Cap;
    use super::super::loopback::{Server, answer};
    use super::super::stream::Validators;
    use super::*;

    #[tokio::test]
    async fn an_address_goes_to_its_host_and_to_no_other() {
        let (base, images) = (
            Server::start(vec![answer("200 OK", "", b"b")]).await,
            Server::start(vec![answer("200 OK", "", b"i")]).await,
        );
        let listed = images.url.trim_start_matches("http://").to_owned();
        let settings = UpstreamSettings::new("feed", format!("{}/Live", base.url));
        let hosts = Hosts::new(settings, &[listed], Phases::default(), Events::new(1)).unwrap();
        for (server, body) in [(&base, b"b"), (&images, b"i")] {
            let (upstream, url) = hosts.of(&format!("{}/x", server.url)).unwrap();
            let stream = upstream.open(url, &Validators::default(), Cap { bytes: 10, key: "body_max" }).await.unwrap();
            assert_eq!(stream.read().await.unwrap(), body);
        }
        assert_eq!(hosts.base().status().calls, 1, "each host has a bucket and a breaker of its own");
        for (address, says) in [
            ("http://169.254.169.254/latest", "the host 169.254.169.254 is not on the list"),
            ("http://127.0.0.1:1/x", "the host 127.0.0.1:1 is not on the list"),
            ("ftp://127.0.0.1/x", "http or https"),
            ("https://user@127.0.0.1/x", "without a user name"),
            ("/x", "no address"),
        ] {
            let fault = hosts.of(address).err().unwrap();
            assert!(matches!(&fault, Fault::Fail { reason } if reason.contains(says)), "{fault:?}");
        }
    }

    #[test]
    fn plain_http_becomes_https_where_the_host_speaks_it() {
        let secured = |address: &str, scheme: &str| {
            let mut url = Url::parse(address).unwrap();
            secure(&mut url, scheme);
            url.to_string()
        };
        assert_eq!(secured("http://a.example/x", "https"), "https://a.example/x");
        assert_eq!(secured("https://a.example/x", "http"), "https://a.example/x");
        assert_eq!(authority(&Url::parse("https://a.example:443/x").unwrap()), "a.example");
        assert_eq!(authority(&Url::parse("http://a.example:8080/x").unwrap()), "a.example:8080");
    }
}
