//! One exchange: the request out, the whole answer in, below a size cap.

use reqwest::{Client, Url};

use super::reply::Reply;
use super::settings::root_cause;
use crate::config::Secret;

/// Why there is no whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// No connection: refused, no such host, TLS.
    Connect(String),
    /// The deadline passed, before or within the answer.
    Timeout,
    /// The connection ended or the answer broke off.
    Cut(String),
    /// A redirect that is not followed.
    Redirect(String),
    /// The body is longer than the cap; `said` is its length if the other side told it.
    TooLarge { said: Option<u64>, cap: Cap },
}

/// How long a body may be, and the key of the configuration that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    pub bytes: u64,
    pub key: &'static str,
}

/// Sends a GET and reads the answer to its end. The caller sets the deadline.
/// `shown` is the address without secrets.
pub(super) async fn get(
    client: &Client,
    url: Url,
    shown: String,
    cap: u64,
    secret: Option<Secret>,
) -> Result<Reply, Broken> {
    let response = client.get(url).send().await.map_err(broken)?;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = read(response, cap).await?;
    Ok(Reply::new(status, headers, body, shown, secret))
}

/// Copies the body once, from the connection's buffers to the place where it stays.
async fn read(mut response: reqwest::Response, cap: u64) -> Result<Vec<u8>, Broken> {
    let said = response.content_length();
    let cap = Cap { bytes: cap, key: "body_max" };
    if said.is_some_and(|said| said > cap.bytes) {
        return Err(Broken::TooLarge { said, cap });
    }
    let mut body = Vec::with_capacity(usize::try_from(said.unwrap_or(0)).unwrap_or(0));
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if (body.len() + chunk.len()) as u64 > cap.bytes {
            return Err(Broken::TooLarge { said, cap });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

pub(super) fn broken(error: reqwest::Error) -> Broken {
    let error = error.without_url();
    let cause = root_cause(&error);
    if error.is_connect() {
        // Resolvers speak of addresses without saying that it is about the name.
        Broken::Connect(if error.is_dns() { format!("no such host: {cause}") } else { cause })
    } else if error.is_redirect() {
        Broken::Redirect(cause)
    } else if error.is_timeout() {
        Broken::Timeout
    } else {
        Broken::Cut(cause)
    }
}

/// The address as logs and errors show it: without the values of parameters that sound like a secret.
pub(super) fn for_logs(url: &Url) -> String {
    if url.query().is_none() {
        return url.to_string();
    }
    let mut shown = url.clone();
    shown.query_pairs_mut().clear().extend_pairs(url.query_pairs().map(|(name, value)| {
        let value = if sounds_secret(&name) { "***".into() } else { value };
        (name, value)
    }));
    shown.to_string()
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "token", "secret", "password", "signature", "auth"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        let shown = |url: &str| for_logs(&Url::parse(url).unwrap());
        assert_eq!(shown("http://h/a?page=2&group=A+b"), "http://h/a?page=2&group=A+b");
        assert_eq!(shown("http://h/a?api_key=hunter2&Access_Token=x"), "http://h/a?api_key=***&Access_Token=***");
        assert_eq!(shown("http://h/a"), "http://h/a");
    }
}
