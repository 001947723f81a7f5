//! A typed client of the eSIM Go API, as far as the catalog reads it. GET only.
//!
//! ```text
//! fetch ──▶ EsimGo ──▶ Transport (the shared HTTP client: rate, breaker, deadline, size) ──▶ api.esim-go.com/v2.5
//! ```
//!
//! The transport turns what concerns every upstream (no connection, 429, 503, 5xx) into a [`Fault`]. What only eSIM Go
//! means by a status is decided here, and nowhere above.
//!
//! It follows no pages and keeps nothing but the organisation's currency.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use longshore_actors::job::Fault;
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::domains::catalog::model::{Body, Extent, GroupRecord, Listing, Organisations};
use crate::upstreams::Upstream;

/// The newest documented version; older ones are frozen, not switched off.
pub const BASE_URL: &str = "https://api.esim-go.com/v2.5";
/// The header that holds the key. `Authorization: Bearer` does not work (seen in the wild).
pub const KEY_HEADER: &str = "X-API-Key";
/// What the health probe reads: small, and refused with a wrong key.
pub const HEALTH_PATH: &str = GROUPS_PATH;

const GROUPS_PATH: &str = "/organisation/groups";
/// The currency is worth this many calls; without it rows have none.
const CURRENCY_TRIES: u32 = 3;
/// After that many in vain it is left alone for this long.
const CURRENCY_AGAIN: Duration = Duration::from_secs(5 * 60);

/// The HTTP client as this module sees it; tests script it.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// `path` is plain text and is encoded by the transport. Answers 2xx and 4xx other than 429; everything else is a
    /// fault already.
    async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Raw, Fault>;
}

/// An answer as it came.
#[derive(Debug)]
pub struct Raw {
    pub status: u16,
    pub body: Vec<u8>,
    /// The beginning of the body in one line, free of secrets: the only part of it that a reason may quote.
    pub snippet: String,
}

#[async_trait]
impl Transport for Upstream {
    async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Raw, Fault> {
        let reply = Upstream::get(self, path, query).await?;
        let (status, snippet) = (reply.status(), reply.text_snippet());
        Ok(Raw { status, snippet, body: reply.into_body() })
    }
}

/// What became of one call for a page.
#[derive(Debug)]
pub enum Listed {
    Page(Body, Extent),
    /// The upstream did not want to answer so many records at once.
    Refused,
}

#[derive(Clone)]
pub struct EsimGo {
    transport: Arc<dyn Transport>,
    currency: Arc<Currency>,
}

/// What is known of the organisation's currency.
#[derive(Default)]
struct Currency {
    known: OnceCell<Option<Arc<str>>>,
    /// When it was last asked for in vain.
    missed: Mutex<Option<Instant>>,
}

impl EsimGo {
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, currency: Arc::default() }
    }

    /// One call of `GET /catalogue`. `small` says that `per_page` is too little to be refused for its size.
    ///
    /// Ordered by name (documented: `orderBy=bundleName`), so that pages hold still while they are read.
    pub async fn catalogue(&self, of: &Listing, page: u32, per_page: u32, small: bool) -> Result<Listed, Fault> {
        let filter = match of {
            Listing::Group(name) => ("group", name.to_string()),
            Listing::Country(iso) => ("countries", iso.to_string()),
        };
        let query = [
            filter,
            ("page", page.to_string()),
            ("perPage", per_page.to_string()),
            ("orderBy", "bundleName".to_owned()),
            ("direction", "asc".to_owned()),
        ];
        let raw = self.transport.get("/catalogue", &query).await?;
        match raw.status {
            200..=299 => match split(raw, "bundles")? {
                // Taken for a listing of one it would make all others look vanished.
                (body, _) if body.lone => {
                    Err(Fault::fail("eSIM Go answered /catalogue with a single record instead of a list of bundles"))
                }
                (body, extent) => Ok(Listed::Page(body, extent)),
            },
            // In the wild: 401 for a large perPage although the key is right. 400 and 413 would be the proper words.
            400 | 401 | 413 if !small => Ok(Listed::Refused),
            // A key that was good for the pages before has not gone bad: try again, and let the attempts run out.
            401 if page > 1 => {
                Err(Fault::retry(format!("eSIM Go refused page {page} (HTTP 401) after it answered others")))
            }
            _ => Err(refusal(&raw, "/catalogue")),
        }
    }

    /// `GET /catalogue/bundle/{name}`. An unknown name is `Fault::Fail`.
    pub async fn bundle(&self, name: &str) -> Result<Body, Fault> {
        let path = format!("/catalogue/bundle/{name}");
        let raw = self.transport.get(&path, &[]).await?;
        match raw.status {
            200..=299 => match split(raw, "bundles")? {
                (body, _) if body.is_empty() => Err(Fault::fail(format!("eSIM Go's answer for {name:?} is empty"))),
                (body, _) => Ok(body),
            },
            404 => Err(Fault::fail(format!("eSIM Go has no bundle {name:?}: names are case-sensitive"))),
            _ => Err(refusal(&raw, &path)),
        }
    }

    /// `GET /organisation/groups`: the bundle groups of the account.
    pub async fn groups(&self) -> Result<Body, Fault> {
        let raw = self.transport.get(GROUPS_PATH, &[]).await?;
        match raw.status {
            200..=299 => split(raw, "groups").map(|(body, _)| body),
            _ => Err(refusal(&raw, GROUPS_PATH)),
        }
    }

    /// The names of the account's groups.
    pub async fn group_names(&self) -> Result<Vec<String>, Fault> {
        let groups = self.groups().await?;
        let read = |record| serde_json::from_str::<GroupRecord>(record).ok()?.name;
        Ok(groups.records().filter_map(read).collect())
    }

    /// The currency that prices are in; asked once for all clones. `None` when the organisation has none or it cannot
    /// be had: a catalogue without it is better than none, and after a while it is asked for again. An outage is
    /// passed on, since it will end.
    pub async fn currency(&self) -> Result<Option<Arc<str>>, Fault> {
        let Currency { known, missed } = &*self.currency;
        let last = *missed.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get().is_none() && last.is_some_and(|last| last.elapsed() < CURRENCY_AGAIN) {
            return Ok(None);
        }
        let currency = known.get_or_try_init(|| self.ask_currency()).await;
        match currency {
            Ok(currency) => Ok(currency.clone()),
            Err(Missed::Outage(fault)) => Err(fault),
            Err(Missed::Refused(reason)) => {
                tracing::warn!(reason, "the organisation's currency is unknown: prices are stored without it");
                *missed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(None)
            }
        }
    }

    async fn ask_currency(&self) -> Result<Option<Arc<str>>, Missed> {
        let mut reason = String::new();
        for _ in 0..CURRENCY_TRIES {
            match self.transport.get("/organisation", &[]).await {
                Ok(raw) if raw.status < 300 => match read_currency(&raw.body) {
                    Ok(currency) => return Ok(currency),
                    // Half an answer or a page of something in between: it says nothing of the organisation.
                    Err(error) => reason = format!("the answer of /organisation is not as expected: {error}"),
                },
                Ok(raw) => {
                    reason = refusal(&raw, "/organisation").to_string();
                    break;
                }
                Err(fault @ (Fault::Unavailable { .. } | Fault::Cancelled | Fault::Retry { after: Some(_), .. })) => {
                    return Err(Missed::Outage(fault));
                }
                Err(Fault::Retry { reason: again, after: None }) => reason = again,
                Err(fault @ (Fault::Fail { .. } | Fault::Reject { .. })) => {
                    reason = fault.to_string();
                    break;
                }
            }
        }
        Err(Missed::Refused(reason))
    }
}

/// Why the currency could not be had.
enum Missed {
    /// It will end, and the page waits for it.
    Outage(Fault),
    /// The page goes on without.
    Refused(String),
}

fn read_currency(body: &[u8]) -> serde_json::Result<Option<Arc<str>>> {
    let organisations = serde_json::from_slice::<Organisations>(body)?.organisations.unwrap_or_default();
    let currency = organisations.into_iter().find_map(|organisation| organisation.currency).unwrap_or_default();
    let currency = currency.trim().to_ascii_uppercase();
    let known = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
    Ok(known.then(|| currency.into()))
}

/// Splits an answer, or says what it is instead. Half an answer and an HTML page come from something in between and
/// may be right the next time; JSON of another form will not.
fn split(raw: Raw, list: &'static str) -> Result<(Body, Extent), Fault> {
    let Raw { body, snippet, .. } = raw;
    let text = String::from_utf8(body).map_err(|_| Fault::retry("eSIM Go answered bytes that are not UTF-8"))?;
    Body::split(text, list).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => Fault::retry("eSIM Go's answer breaks off"),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => {
            Fault::retry(format!("eSIM Go's answer is not JSON: {snippet}"))
        }
        // The place and not the error's own words, which quote what stands there.
        serde_json::error::Category::Data => {
            let (line, column) = (error.line(), error.column());
            Fault::fail(format!(
                "eSIM Go's answer is no list of {list} as expected (see line {line}, column {column}): {snippet}"
            ))
        }
    })
}

/// A status that no retry mends. Errors are `{"message": "..."}` (documented and recorded).
fn refusal(raw: &Raw, path: &str) -> Fault {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let message =
        serde_json::from_str(&raw.snippet).map_or_else(|_| raw.snippet.clone(), |Message { message }| message);
    let status = raw.status;
    Fault::fail(match status {
        // Documented: 403 "Unauthorised" for a wrong key. In the wild: 401.
        401 | 403 => format!(
            "eSIM Go refused the key (HTTP {status}: {message}): check domains.catalog.api_key or ESIM_GO_API_KEY"
        ),
        404 => format!("eSIM Go has no {path} (HTTP 404: {message}): check domains.catalog.base_url"),
        _ => format!("eSIM Go refused {path} (HTTP {status}: {message})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_tell_what_may_pass_from_what_will_not() {
        let raw = |text: &str| Raw { status: 200, body: text.into(), snippet: text.to_owned() };
        let split = |text: &str| split(raw(text), "bundles").map(|_| ());
        assert!(matches!(split("<html>Request Rejected"), Err(Fault::Retry { .. })));
        assert!(matches!(split(r#"{"bundles":[{"na"#), Err(Fault::Retry { .. })));
        assert!(matches!(split("nothing"), Err(Fault::Retry { .. })));
        assert!(matches!(split(r#"{"bundles":7}"#), Err(Fault::Fail { .. })));
        assert!(matches!(split(r#"{"message":"fine"}"#), Err(Fault::Fail { .. })));
        let Err(Fault::Fail { reason }) = split(r#"{"bundles":[],"pageCount":-1}"#) else { panic!("a count below 0") };
        assert!(reason.contains("line 1, column 28"), "{reason}");
    }

    #[test]
    fn a_currency_is_three_letters_or_none() {
        let read = |text: &str| read_currency(text.as_bytes()).unwrap_or_default();
        assert_eq!(read(r#"{"organisations":[{"name":"x","currency":"usd"}]}"#).as_deref(), Some("USD"));
        assert_eq!(
            read(r#"{"organisations":[{"name":"x","currency":null},{"currency":"GBP"}]}"#).as_deref(),
            Some("GBP")
        );
        assert_eq!(read(r#"{"organisations":null}"#), None);
        assert_eq!(read(r#"{"organisations":[{"currency":"$"}]}"#), None);
        for garbled in ["<html>", r#"{"organisations":[{"curr"#] {
            assert!(read_currency(garbled.as_bytes()).is_err(), "{garbled} says nothing of the organisation");
        }
    }
}
