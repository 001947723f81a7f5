//! A typed client of API-Football v3, as far as football reads it. GET only.
//!
//! ```text
//! fetch ──▶ ApiFootball ──▶ the day's quota ──▶ Transport (rate, breaker, deadline, size) ──▶ api-sports.io
//!                 ▲                                                                              │
//!                 └─ fail, wait for the minute, wait for the day ◀── 200 with an error in it ◀───┘
//! ```
//!
//! The provider answers HTTP 200 to nearly everything and tells an error in the body: a wrong key, a used-up quota, a
//! plan that is too small. An answer with errors is never taken for an empty list. What each of them means is decided
//! here, and nowhere above.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_actors::job::Fault;

use crate::domains::football::model::{Body, Envelope, Errors, Extent, Request};
use crate::domains::football::quota::Quota;
use crate::upstreams::{Reply, Upstream};

pub const BASE_URL: &str = "https://v3.football.api-sports.io";
/// The header that holds the key.
pub const KEY_HEADER: &str = "x-apisports-key";
/// What the health probe reads: it costs nothing of the quota, and tells a wrong key.
pub const HEALTH_PATH: &str = "/status";
/// The provider's name in texts.
pub const WHO: &str = "API-Football";

/// The limit of a minute is over after this, whenever the minute began.
const MINUTE: Duration = Duration::from_secs(60);
/// Characters that are shown of the provider's own words.
const TEXT_MAX: usize = 200;

const DAY_LEFT: &str = "x-ratelimit-requests-remaining";
const MINUTE_LEFT: &str = "x-ratelimit-remaining";

/// The HTTP client as this module sees it; tests script it.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Answers 2xx and 4xx other than 429; everything else is a fault already.
    async fn get(&self, path: &str) -> Result<Raw, Fault>;

    /// A fault while no call would be let out: then none is taken from the quota.
    fn ready(&self) -> Result<(), Fault>;

    /// No call for so long.
    fn pause_for(&self, pause: Duration);
}

/// An answer as it came, the key blotted out.
#[derive(Debug)]
pub struct Raw {
    pub status: u16,
    /// `None` if it is not UTF-8.
    pub body: Option<String>,
    /// The beginning of the body in one line.
    pub snippet: String,
    /// Calls that are left today, and in this minute. `/status` tells neither.
    pub day_left: Option<u32>,
    pub minute_left: Option<u32>,
}

#[async_trait]
impl Transport for Upstream {
    async fn get(&self, path: &str) -> Result<Raw, Fault> {
        Upstream::get(self, path, &[]).await.map(|reply| raw(&reply))
    }

    fn ready(&self) -> Result<(), Fault> {
        Upstream::ready(self)
    }

    fn pause_for(&self, pause: Duration) {
        Upstream::pause_for(self, pause);
    }
}

fn raw(reply: &Reply) -> Raw {
    let number = |name| reply.header(name).and_then(|value| value.trim().parse().ok());
    Raw {
        status: reply.status(),
        body: reply.text(),
        snippet: reply.text_snippet(),
        day_left: number(DAY_LEFT),
        minute_left: number(MINUTE_LEFT),
    }
}

/// What an error in the body comes down to. Each holds the provider's words.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    /// No retry mends it.
    Fail(String),
    /// The day's quota is used up.
    Day(String),
    /// Too many calls in this minute.
    Minute(String),
}

#[derive(Clone)]
pub struct ApiFootball {
    transport: Arc<dyn Transport>,
    quota: Quota,
}

impl ApiFootball {
    pub fn new(transport: Arc<dyn Transport>, quota: Quota) -> Self {
        Self { transport, quota }
    }

    /// One call.
    pub async fn ask(&self, request: Request) -> Result<(Body, Extent), Fault> {
        if request.is_counted() {
            self.transport.ready()?;
            self.quota.take().await?;
        }
        let raw = self.transport.get(request.path()).await?;
        if raw.minute_left == Some(0) {
            self.transport.pause_for(MINUTE);
        }
        if let Some(left) = raw.day_left {
            self.quota.note_left(left).await?;
        }
        let Envelope { errors, body, extent } = open(&raw, request)?;
        match refusal(&errors) {
            Some(Refusal::Fail(text)) => Err(Fault::fail(text)),
            Some(Refusal::Day(text)) => Err(self.quota.used_up(&text).await),
            Some(Refusal::Minute(reason)) => {
                self.transport.pause_for(MINUTE);
                Err(Fault::Unavailable { what: WHO.to_owned(), reason, retry_in: Some(MINUTE) })
            }
            None => {
                let none =
                    || Fault::fail(format!("{WHO}'s answer of {} has no response: {}", request.path(), raw.snippet));
                Ok((body.ok_or_else(none)?, extent))
            }
        }
    }

    /// `/status` tells what was used today.
    pub async fn note_used(&self, used: u32) -> Result<(), Fault> {
        self.quota.note_used(used).await
    }
}

/// Whether an answer of [`HEALTH_PATH`] says that all is well. A limit that is reached is no illness.
pub fn healthy(reply: &Reply) -> Result<(), String> {
    let envelope = open(&raw(reply), Request::Status).map_err(|fault| fault.to_string())?;
    match refusal(&envelope.errors) {
        Some(Refusal::Fail(text)) => Err(text),
        Some(Refusal::Day(_) | Refusal::Minute(_)) | None => Ok(()),
    }
}

/// Takes an answer apart, or says what it is instead. What breaks off or is no JSON comes from something in between and
/// may be right the next time; JSON of another form will not.
fn open(raw: &Raw, request: Request) -> Result<Envelope, Fault> {
    let Raw { status, body, snippet, .. } = raw;
    let path = request.path();
    match status {
        // Documented: 204 for nothing to say, 499 for a call that took the provider too long.
        204 | 499 => return Err(Fault::retry(format!("{WHO} answered {path} with HTTP {status}: {snippet}"))),
        200..=299 => {}
        401 | 403 => {
            return Err(Fault::fail(format!("{WHO} refused the key (HTTP {status}: {snippet}): {KEY_ADVICE}")));
        }
        404 => {
            let advice = "check domains.football.base_url";
            return Err(Fault::fail(format!("{WHO} has no {path} (HTTP 404: {snippet}): {advice}")));
        }
        _ => return Err(Fault::fail(format!("{WHO} refused {path} (HTTP {status}: {snippet})"))),
    }
    let Some(text) = body.clone() else {
        return Err(Fault::retry(format!("{WHO} answered bytes that are not UTF-8")));
    };
    Envelope::read(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => Fault::retry(format!("{WHO}'s answer breaks off")),
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => {
            Fault::retry(format!("{WHO}'s answer is not JSON: {snippet}"))
        }
        serde_json::error::Category::Data => {
            let (line, column) = (error.line(), error.column());
            Fault::fail(format!("{WHO}'s answer is not as expected (see line {line}, column {column}): {snippet}"))
        }
    })
}

const KEY_ADVICE: &str = "check domains.football.api_key or API_FOOTBALL_KEY";

/// What errors mean, by their keys: the texts change. `None`: there is none.
fn refusal(errors: &Errors) -> Option<Refusal> {
    let Errors(errors) = errors;
    if errors.is_empty() {
        return None;
    }
    let said: Vec<String> = errors.iter().map(|(key, text)| format!("{key}: {text}")).collect();
    let said = shortened(&said.join("; "));
    let has = |wanted: &str| errors.iter().any(|(key, _)| key == wanted);
    Some(if has("token") {
        Refusal::Fail(format!("{WHO} refused the key ({said}): {KEY_ADVICE}"))
    } else if has("access") {
        Refusal::Fail(format!("{WHO} refused the account ({said}): see its dashboard"))
    } else if has("requests") {
        Refusal::Day(said)
    } else if has("rateLimit") {
        Refusal::Minute(said)
    } else if has("plan") {
        Refusal::Fail(format!("the plan with {WHO} does not cover this ({said})"))
    } else {
        // Wrong parameters, each under its own name, and whatever else there may be.
        Refusal::Fail(format!("{WHO} refused the request ({said})"))
    })
}

/// One line, without control characters.
fn shortened(text: &str) -> String {
    let words = text.split(|sign: char| sign.is_whitespace() || sign.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use longshore_actors::clock::{Clock, Timestamp};
    use tempfile::TempDir;

    use super::*;
    use crate::domains::football::PROVIDER;
    use crate::store::Store;
    use crate::store::sqlite::{Settings, SqliteStore};

    const LEAGUES: Request = Request::Leagues { allow_removal: false };

    /// Errors in the shapes that the provider was seen to send.
    const TOKEN: &str = r#"{"get":"status","parameters":[],"errors":{
        "token":"Error/Missing application key. Go to https://example.org/v3 to learn how to get your API application key."
        },"response":[],"results":0,"paging":{"current":1,"total":1}}"#;
    const ACCESS: &str = r#"{"get":"leagues","parameters":[],"errors":{
        "access":"Your account is suspended, check on https://example.org."
        },"results":0,"paging":{"current":1,"total":1},"response":[]}"#;
    const REQUESTS: &str = r#"{"get":"leagues","parameters":[],"errors":{
        "requests":"You have reached the request limit for the day, Go to https://example.org to upgrade your plan."
        },"results":0,"response":[]}"#;
    const RATE: &str = r#"{"get":"leagues","parameters":[],"errors":{
        "rateLimit":"Too many requests. Your rate limit is 10 requests per minute."
        },"results":0,"paging":{"current":1,"total":1},"response":[]}"#;
    const PLAN: &str = r#"{"get":"leagues","parameters":{"season":"2020"},"errors":{
        "plan":"Free plans do not have access to this season, try from 2022 to 2024."
        },"results":0,"paging":{"current":1,"total":1},"response":[]}"#;
    const FIELDS: &str = r#"{"get":"teams","parameters":{"season":"2021","leaguee":"123"},"errors":{
        "league":"The League field is required.","leaguee":"The Leaguee field do not exist."
        },"results":0,"paging":{"current":1,"total":1},"response":[]}"#;
    const BUG: &str = r#"{"errors":{"bug":"This is on our side, please report us this bug."},"response":[]}"#;
    const FINE: &str = r#"{"get":"leagues","parameters":[],"errors":[],"results":1,"paging":{"current":1,"total":1},
        "response":[{"league":{"id":39}}]}"#;

    struct Scripted {
        answer: fn() -> Raw,
        is_down: bool,
        calls: Mutex<u32>,
        pauses: Mutex<Vec<Duration>>,
    }

    #[async_trait]
    impl Transport for Scripted {
        async fn get(&self, _: &str) -> Result<Raw, Fault> {
            *self.calls.lock().unwrap() += 1;
            Ok((self.answer)())
        }

        fn ready(&self) -> Result<(), Fault> {
            if self.is_down { Err(Fault::unavailable("x", "its breaker is open")) } else { Ok(()) }
        }

        fn pause_for(&self, pause: Duration) {
            self.pauses.lock().unwrap().push(pause);
        }
    }

    /// Noon of a day.
    const NOON: Timestamp = Timestamp(20_000 * 86_400_000 + 43_200_000);
    const HALF_A_DAY: Duration = Duration::from_secs(12 * 3600);

    struct Bench {
        client: ApiFootball,
        transport: Arc<Scripted>,
        store: SqliteStore,
        _folder: TempDir,
    }

    fn bench(now: Timestamp, configured: u32, answer: fn() -> Raw) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("store.db"), Settings::default(), now).unwrap();
        let quota = Quota { store: Arc::new(store.clone()), clock: Clock::following_tokio(now), configured };
        let transport =
            Arc::new(Scripted { answer, is_down: false, calls: Mutex::default(), pauses: Mutex::default() });
        Bench { client: ApiFootball::new(transport.clone(), quota), transport, store, _folder: folder }
    }

    fn said(body: &str) -> Raw {
        let snippet = body.chars().take(80).collect();
        Raw { status: 200, body: Some(body.to_owned()), snippet, day_left: None, minute_left: None }
    }

    fn errors(body: &str) -> Option<Refusal> {
        refusal(&open(&said(body), LEAGUES).unwrap().errors)
    }

    #[test]
    fn every_error_of_the_provider_has_its_meaning() {
        for (body, says) in [
            (TOKEN, "refused the key (token: Error/Missing application key. Go to https://example.org/v3"),
            (ACCESS, "refused the account (access: Your account is suspended"),
            (PLAN, "does not cover this (plan: Free plans do not have access to this season"),
            (FIELDS, "(league: The League field is required.; leaguee: The Leaguee field do not exist.)"),
            (BUG, "refused the request (bug: This is on our side"),
        ] {
            let Some(Refusal::Fail(text)) = errors(body) else { panic!("{body}") };
            assert!(text.contains(says) && !text.contains('\n') && text.len() < 400, "{text}");
        }
        assert!(matches!(errors(REQUESTS), Some(Refusal::Day(text)) if text.starts_with("requests: You have reached")));
        assert!(matches!(errors(RATE), Some(Refusal::Minute(text)) if text.contains("10 requests per minute")));
        assert_eq!(errors(FINE), None);
        let both = r#"{"errors":{"token":"no","requests":"none"},"response":[]}"#;
        assert!(matches!(errors(both), Some(Refusal::Fail(_))), "a wrong key is wrong tomorrow, too");
        let long = format!(r#"{{"errors":{{"bug":"{}"}},"response":[]}}"#, "ü".repeat(5_000));
        assert!(matches!(errors(&long), Some(Refusal::Fail(text)) if text.chars().count() < 300 && text.contains('…')));
        let token = errors(TOKEN);
        assert!(matches!(token, Some(Refusal::Fail(text)) if text.contains("API_FOOTBALL_KEY")));
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        let open = |status, body: &str| open(&Raw { status, ..said(body) }, LEAGUES).map(drop);
        for (status, body) in [(200, "<html>"), (200, r#"{"errors":[],"resp"#), (200, ""), (204, ""), (499, "{}")] {
            assert!(matches!(open(status, body), Err(Fault::Retry { .. })), "{status} {body}");
        }
        for (status, body) in [(200, "[]"), (200, r#"{"results":"many"}"#), (403, "{}"), (404, "{}"), (400, "{}")] {
            assert!(matches!(open(status, body), Err(Fault::Fail { .. })), "{status} {body}");
        }
        assert_eq!(open(200, FINE), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_answer_is_taken_and_counted() {
        let Bench { client, transport, store, _folder } = bench(NOON, 2, || said(FINE));
        for _ in 0..2 {
            let (body, extent) = client.ask(LEAGUES).await.unwrap();
            assert_eq!((body.len(), extent.results, extent.pages), (1, Some(1), Some(1)));
        }
        let Err(Fault::Unavailable { what, reason, retry_in }) = client.ask(LEAGUES).await else { panic!() };
        assert_eq!((what.as_str(), retry_in), (WHO, Some(HALF_A_DAY)));
        assert!(reason.contains("the day's 2 requests are used up") && reason.contains("00:00 UTC"), "{reason}");
        assert_eq!(*transport.calls.lock().unwrap(), 2, "nobody is asked in vain");
        client.ask(Request::Status).await.unwrap();
        assert!(!store.take_quota(PROVIDER, 1, 2, NOON).await.unwrap());
        let tomorrow = NOON.plus(HALF_A_DAY);
        assert!(store.take_quota(PROVIDER, 2, 2, tomorrow).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_that_the_provider_calls_used_up_is_used_up() {
        let Bench { client, transport, _folder, .. } =
            bench(NOON, 100, || Raw { day_left: Some(40), ..said(REQUESTS) });
        for _ in 0..2 {
            let Err(Fault::Unavailable { retry_in, .. }) = client.ask(LEAGUES).await else { panic!() };
            assert_eq!(retry_in, Some(HALF_A_DAY));
        }
        assert_eq!(*transport.calls.lock().unwrap(), 1);
        // Just after midnight by our clock it may be yesterday by theirs: the new day is not given up for that.
        let midnight = NOON.plus(HALF_A_DAY + Duration::from_secs(1));
        let Bench { client, transport, _folder, .. } = bench(midnight, 100, || said(REQUESTS));
        for _ in 0..2 {
            let Err(Fault::Unavailable { retry_in, .. }) = client.ask(LEAGUES).await else { panic!() };
            assert_eq!(retry_in, Some(CLOCKS));
        }
        assert_eq!(*transport.calls.lock().unwrap(), 2);
    }

    const CLOCKS: Duration = Duration::from_secs(5 * 60);

    #[tokio::test(start_paused = true)]
    async fn what_the_headers_say_is_left_counts() {
        let Bench { client, transport, _folder, .. } = bench(NOON, 100, || Raw { day_left: Some(0), ..said(FINE) });
        client.ask(LEAGUES).await.unwrap();
        assert!(matches!(client.ask(LEAGUES).await, Err(Fault::Unavailable { .. })));
        assert_eq!(transport.pauses.lock().unwrap().len(), 0);
        // A larger account than we know of leaves our own count as it is.
        let Bench { client, _folder, .. } = bench(NOON, 2, || Raw { day_left: Some(7_000), ..said(FINE) });
        client.ask(LEAGUES).await.unwrap();
        client.ask(LEAGUES).await.unwrap();
        assert!(client.ask(LEAGUES).await.is_err());
        let Bench { client, transport, _folder, .. } = bench(NOON, 100, || Raw { minute_left: Some(0), ..said(FINE) });
        client.ask(LEAGUES).await.unwrap();
        assert_eq!(*transport.pauses.lock().unwrap(), [MINUTE], "before the next call is refused");
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_costs_nothing_of_the_quota() {
        let Bench { client, store, _folder, .. } = bench(NOON, 1, || said(FINE));
        let down = Scripted { answer: || said(FINE), is_down: true, calls: Mutex::default(), pauses: Mutex::default() };
        let down = ApiFootball { transport: Arc::new(down), ..client };
        assert!(matches!(down.ask(LEAGUES).await, Err(Fault::Unavailable { .. })));
        assert!(store.take_quota(PROVIDER, 1, 1, NOON).await.unwrap(), "the one call is left");
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_in_a_minute_pause_all_and_burn_no_attempt() {
        let Bench { client, transport, _folder, .. } = bench(NOON, 100, || said(RATE));
        let Err(Fault::Unavailable { reason, retry_in, .. }) = client.ask(LEAGUES).await else { panic!() };
        assert!(reason.contains("10 requests per minute") && retry_in == Some(MINUTE), "{reason}");
        assert_eq!(*transport.pauses.lock().unwrap(), [MINUTE]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_retry_mends_fails() {
        let answers: [fn() -> Raw; 5] = [
            || said(TOKEN),
            || said(ACCESS),
            || said(PLAN),
            || said(FIELDS),
            || said(r#"{"message":"not subscribed"}"#),
        ];
        for answer in answers {
            let Bench { client, _folder, .. } = bench(NOON, 100, answer);
            assert!(matches!(client.ask(LEAGUES).await, Err(Fault::Fail { .. })));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_midnight_the_header_counts_anew() {
        let midnight = NOON.plus(HALF_A_DAY + Duration::from_secs(1));
        let Bench { client, transport, _folder, .. } =
            bench(midnight, 100, || Raw { day_left: Some(0), ..said(REQUESTS) });
        for _ in 0..2 {
            let Err(Fault::Unavailable { retry_in, .. }) = client.ask(LEAGUES).await else { panic!() };
            assert_eq!(retry_in, Some(CLOCKS));
        }
        assert_eq!(*transport.calls.lock().unwrap(), 2);
    }
}
