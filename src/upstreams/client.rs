//! [`Upstream`]: one credential at one host, and the way of a call through its limits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longshore_actors::breaker::{Breaker, BreakerStatus, Pass, Refusal};
use longshore_actors::events::Events;
use longshore_actors::job::Fault;
use longshore_actors::limits::{BadRate, Cancelled, Limiter, LimiterStatus, Rate};
use longshore_actors::shutdown::{Phase, Phases};
use reqwest::Url;
use serde::Serialize;
use tokio::time::Instant;

use super::exchange::{self, Broken};
use super::reply::Reply;
use super::settings::{UpstreamError, UpstreamSettings};
use super::verdict::{Facts, Verdict, judge};
use crate::config::Secret;

/// The client of one upstream; cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) settings: UpstreamSettings,
    pub(super) base: Url,
    pub(super) client: reqwest::Client,
    limiter: Limiter,
    breaker: Arc<Breaker>,
    pub(super) phases: Phases,
    pub(super) calls: AtomicU64,
    pub(super) faults: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// An upstream as its status shows it.
#[derive(Clone, Debug, Serialize)]
pub struct UpstreamStatus {
    pub name: String,
    pub base_url: String,
    pub breaker: BreakerStatus,
    pub limiter: LimiterStatus,
    /// Calls that were sent, and how many of them ended in a fault.
    pub calls: u64,
    pub faults: u64,
    /// Bytes of bodies, decompressed.
    pub bytes: u64,
}

/// What a health probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    pub ok: bool,
    /// Waiting for a permit included.
    pub took: Duration,
    /// Why it is not ok.
    pub reason: Option<String>,
}

impl Upstream {
    /// # Errors
    /// [`UpstreamError`] when the settings make no client; nothing is sent yet.
    pub fn new(settings: UpstreamSettings, phases: Phases, events: Events) -> Result<Self, UpstreamError> {
        let base = settings.url()?;
        let client = settings.client(&base)?;
        let limiter = Limiter::new(settings.rate()?);
        let breaker = Arc::new(Breaker::new(settings.name.clone(), settings.breaker).with_events(events));
        let (calls, faults, bytes) = Default::default();
        Ok(Self { inner: Arc::new(Inner { settings, base, client, limiter, breaker, phases, calls, faults, bytes }) })
    }

    pub fn name(&self) -> &str {
        &self.inner.settings.name
    }

    pub fn breaker(&self) -> Arc<Breaker> {
        self.inner.breaker.clone()
    }

    /// Asks for `path` below the base address. Both `path` and `query` are plain text and are encoded here; a `/` in
    /// `path` parts its segments.
    ///
    /// # Errors
    /// What the transport alone can tell (see the table in `verdict.rs`); every answer but 429 and 5xx is a reply.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Reply, Fault> {
        let Inner { settings, client, phases, .. } = &*self.inner;
        let url = address(&self.inner.base, path, query);
        let shown = self.shown(&url);
        let pass = self.admit().await?;
        let started = Instant::now();
        self.inner.calls.fetch_add(1, Ordering::Relaxed);
        let exchange = exchange::get(client, url, shown.clone(), settings.body_max, self.secret());
        let result = tokio::select! {
            biased;
            // Also a hanging upstream lets the service end.
            () = phases.reached(Phase::Stop) => return Err(Fault::Cancelled),
            result = tokio::time::timeout(settings.timeout, exchange) => result.unwrap_or(Err(Broken::Timeout)),
        };
        let verdict = judge(result, jiff::Timestamp::now(), self.facts(&shown));
        self.settle(pass, verdict, &shown, started.elapsed())
    }

    /// Whether a call would be let out now, as far as the breaker tells: for who pays for a call before it is made.
    ///
    /// # Errors
    /// `Unavailable` while the breaker is open.
    pub fn ready(&self) -> Result<(), Fault> {
        self.inner.breaker.check(Instant::now()).map_err(|refusal| self.refused(refusal))
    }

    /// Asks for `path` to see whether the upstream is well. It goes the way of every call, so it also is the probe
    /// that closes a half-open breaker.
    pub async fn probe(&self, path: &str) -> Probe {
        let started = Instant::now();
        let reason = match self.get(path, &[]).await {
            Ok(reply) => {
                let ill = (self.inner.settings.healthy)(&reply).err();
                ill.map(|reason| format!("GET {}: {reason}", reply.url()))
            }
            Err(fault) => Some(fault.to_string()),
        };
        Probe { ok: reason.is_none(), took: started.elapsed(), reason }
    }

    /// No call for `pause`: for providers that announce their limits in headers of their own.
    pub fn pause_for(&self, pause: Duration) {
        if self.inner.limiter.pause_until(Instant::now() + pause) {
            tracing::info!(upstream = self.name(), ?pause, "upstream asks for a pause: its calls wait");
        }
    }

    /// Changes the rate, at once; `None` is unlimited.
    ///
    /// # Errors
    /// [`BadRate`], and the old rate stays.
    pub fn set_rate(&self, per_second: Option<f64>, burst: u32) -> Result<(), BadRate> {
        let rate = per_second.map(|per_second| Rate::new(per_second, burst)).transpose()?;
        self.inner.limiter.set_rate(rate);
        Ok(())
    }

    pub fn status(&self) -> UpstreamStatus {
        let Inner { settings, base, client: _, limiter, breaker, phases: _, calls, faults, bytes } = &*self.inner;
        UpstreamStatus {
            name: settings.name.clone(),
            base_url: base.to_string(),
            breaker: breaker.status(),
            limiter: limiter.status(),
            calls: calls.load(Ordering::Relaxed),
            faults: faults.load(Ordering::Relaxed),
            bytes: bytes.load(Ordering::Relaxed),
        }
    }

    /// The right to one call: not while the service drains or the breaker is open, and in turn.
    pub(super) async fn admit(&self) -> Result<Pass, Fault> {
        let Inner { settings, limiter, breaker, phases, .. } = &*self.inner;
        if phases.now() >= Phase::Drain {
            return Err(Fault::Cancelled);
        }
        let now = Instant::now();
        breaker.check(now).map_err(|refusal| self.refused(refusal))?;
        let paused_for = limiter.paused_until().map(|until| until - now).unwrap_or_default();
        if paused_for > settings.wait_max {
            return Err(self.unavailable(format!("paused for {paused_for:.0?}"), paused_for));
        }
        let admitted = async {
            limiter.acquire(phases).await.map_err(|Cancelled| Fault::Cancelled)?;
            // The pass last: what happened to the breaker while we waited counts.
            tokio::select! {
                biased;
                () = phases.reached(Phase::Drain) => Err(Fault::Cancelled),
                pass = breaker.pass() => pass.map_err(|refusal| self.refused(refusal)),
            }
        };
        let wait_max = settings.wait_max;
        tokio::time::timeout(wait_max, admitted).await.unwrap_or_else(|_| {
            let paused_until = limiter.paused_until();
            let retry_in = paused_until.map_or(wait_max, |until| until - Instant::now());
            Err(self.unavailable(format!("no turn within {wait_max:?}"), retry_in))
        })
    }

    /// Carries out a verdict: tells breaker and bucket, counts, logs.
    pub(super) fn settle(&self, pass: Pass, verdict: Verdict, url: &str, took: Duration) -> Result<Reply, Fault> {
        let Verdict { result, bad, pause } = verdict;
        match bad {
            None => pass.succeeded(),
            Some(reason) => pass.failed(&reason),
        }
        if let Some(pause) = pause {
            self.pause_for(pause);
        }
        match &result {
            Ok(reply) => {
                let (status, bytes) = (reply.status(), reply.body().len());
                self.inner.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                tracing::debug!(upstream = self.name(), url, status, bytes, ?took, "call answered");
            }
            Err(fault) => {
                self.inner.faults.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(upstream = self.name(), url, %fault, ?took, "call failed");
            }
        }
        result
    }

    fn refused(&self, refusal: Refusal) -> Fault {
        let Refusal { retry_in, reason } = refusal;
        self.unavailable(reason, retry_in)
    }

    fn unavailable(&self, reason: String, retry_in: Duration) -> Fault {
        Fault::Unavailable { what: self.name().to_owned(), reason, retry_in: Some(retry_in) }
    }

    /// What is blotted out of bodies that an error quotes.
    pub(super) fn secret(&self) -> Option<Secret> {
        let UpstreamSettings { auth, path_secret, .. } = &self.inner.settings;
        auth.as_ref().map(|auth| &auth.secret).or(path_secret.as_ref()).cloned()
    }

    /// An address as logs and errors show it.
    pub(super) fn shown(&self, url: &Url) -> String {
        let shown = exchange::for_logs(url);
        self.inner.settings.path_secret.as_ref().map_or(shown.clone(), |secret| secret.mask(&shown))
    }

    pub(super) fn facts<'a>(&'a self, url: &'a str) -> Facts<'a> {
        let UpstreamSettings { name, timeout, pause_default, .. } = &self.inner.settings;
        Facts { name, url, timeout: *timeout, pause_default: *pause_default }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({} at {})", self.name(), self.inner.base)
    }
}

fn address(base: &Url, path: &str, query: &[(&str, String)]) -> Url {
    let mut url = base.clone();
    url.path_segments_mut()
        .expect("an http address, which has a path, was checked when the upstream was opened")
        .pop_if_empty()
        .extend(path.split('/').filter(|segment| !segment.is_empty()));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;
    use std::sync::Mutex;

    use longshore_actors::breaker::{BreakerPolicy, BreakerState};
    use tracing_subscriber::fmt::MakeWriter;

    use super::super::loopback::{Answer, Server, answer};
    use super::super::settings::Auth;
    use super::*;

    const KEY: &str = "sk-hunter2-0123456789";

    /// `{"bundles":[1,2,3]}`.
    const GZIPPED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x56\x4a\x2a\xcd\x4b\xc9\x49\x2d\x56\xb2\x8a\x36\xd4\x31\xd2\x31\x8e\xad\x05\x00\x40\x0b\x09\x9b\x13\x00\x00\x00";

    /// 300,000 blanks.
    const GZIPPED_BLANKS: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xed\xc1\x01\x0d\x00\x00\x00\xc2\xa0\x2a\xef\x9f\xd2\x1e\x0e\x28\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf8\x31\xdf\x2a\x1f\x54\xe0\x93\x04\x00";

    fn ok(body: &str) -> Answer {
        answer("200 OK", "content-type: application/json\r\n", body.as_bytes())
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Settings with a key, a patience of some seconds and a breaker that opens at the second failure, for an hour.
    fn settings(server: &Server) -> UpstreamSettings {
        UpstreamSettings {
            auth: Some(Auth::header("X-API-Key", Secret::from(KEY))),
            wait_max: Duration::from_secs(5),
            breaker: BreakerPolicy { failures: 2, open_for: HOUR, open_max: HOUR, half_open_max: 1 },
            ..UpstreamSettings::new("catalog", format!("{}/v2.5/", server.url))
        }
    }

    fn open(settings: UpstreamSettings) -> Upstream {
        Upstream::new(settings, Phases::default(), Events::new(16)).unwrap()
    }

    /// Lets an hour pass at once; the clock goes on from there.
    async fn skip_an_hour() {
        tokio::time::pause();
        tokio::time::advance(HOUR).await;
        tokio::time::resume();
    }

    fn counts(upstream: &Upstream) -> (u64, u64) {
        let counts = upstream.breaker().status().counts;
        (counts.succeeded, counts.failed)
    }

    #[tokio::test]
    async fn a_call_carries_the_key_and_encodes_what_it_is_given() {
        let server = Server::start(vec![ok("{\"rows\":3}")]).await;
        let upstream = open(settings(&server));
        let query = [("group", "Standard - Lite & more".to_owned()), ("page", "1".to_owned())];
        let reply = upstream.get("/catalogue/bundle/a b?/../#c", &query).await.unwrap();
        assert_eq!((reply.status(), reply.body(), reply.is_success()), (200, &b"{\"rows\":3}"[..], true));
        let head = &server.heads()[0];
        let line = "GET /v2.5/catalogue/bundle/a%20b%3F/%23c?group=Standard+-+Lite+%26+more&page=1 HTTP/1.1";
        assert_eq!(head.lines().next(), Some(line));
        for header in ["x-api-key: sk-hunter2-0123456789", "user-agent: longshore/", "accept-encoding: "] {
            assert!(head.contains(header), "{header} in {head}");
        }
        for encoding in ["gzip", "br", "zstd"] {
            assert!(head.contains(encoding), "{encoding} in {head}");
        }
    }

    #[tokio::test]
    async fn connections_are_kept_and_used_again() {
        let server = Server::start(vec![ok("[]")]).await;
        let upstream = open(settings(&server));
        for _ in 0..20 {
            upstream.get("catalogue", &[]).await.unwrap();
        }
        assert_eq!((server.heads().len(), server.connections()), (20, 1));
        let status = upstream.status();
        assert_eq!((status.calls, status.faults, status.bytes, status.limiter.granted), (20, 0, 40, 20));
    }

    #[tokio::test]
    async fn other_statuses_are_for_the_typed_client() {
        for status in ["204 No Content", "304 Not Modified", "400 Bad Request", "401 Unauthorized", "404 Not Found"] {
            let server = Server::start(vec![answer(status, "", b"")]).await;
            let upstream = open(settings(&server));
            let reply = upstream.get("p", &[]).await.unwrap();
            assert_eq!(reply.status().to_string(), status[..3]);
            assert_eq!(counts(&upstream), (1, 0), "{status}");
        }
    }

    #[tokio::test]
    async fn retry_after_pauses_the_whole_bucket() {
        let busy = answer("429 Too Many Requests", "retry-after: 60\r\n", b"{\"message\":\"slow down\"}");
        let server = Server::start(vec![busy]).await;
        let upstream = open(settings(&server));
        let started = Instant::now();
        let fault = upstream.get("p", &[]).await.unwrap_err();
        let Fault::Retry { reason, after } = fault else { panic!("{fault:?}") };
        assert_eq!(after, Some(Duration::from_secs(60)));
        assert!(reason.ends_with("/v2.5/p: 429 Too Many Requests: {\"message\":\"slow down\"}"), "{reason}");

        // Longer than anyone is to wait: no worker is held, no attempt burnt, nothing sent.
        let fault = upstream.clone().get("p", &[]).await.unwrap_err();
        let Fault::Unavailable { retry_in: Some(retry_in), .. } = fault else { panic!("{fault:?}") };
        let passed = started.elapsed();
        assert!(retry_in <= Duration::from_secs(60) && retry_in + passed >= Duration::from_secs(60), "{retry_in:?}");
        assert_eq!((server.heads().len(), counts(&upstream)), (1, (1, 0)));
    }

    #[tokio::test]
    async fn a_short_pause_is_waited_for() {
        let busy = answer("503 Service Unavailable", "retry-after: 0.2\r\n", b"");
        let server = Server::start(vec![busy, ok("[]")]).await;
        let upstream = open(settings(&server));
        assert!(upstream.get("p", &[]).await.is_err());
        let started = Instant::now();
        assert!(upstream.get("p", &[]).await.is_ok());
        assert!(started.elapsed() > Duration::from_millis(150), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_tried_again() {
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"bundles\":[".to_vec();
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"bun\r\n".to_vec();
        for cut in [half, chunked, b"HTTP/1.1 200 O".to_vec(), Vec::new(), b"SSH-2.0-OpenSSH\r\n".to_vec()] {
            let server = Server::start(vec![Answer::Cut(cut)]).await;
            let upstream = open(settings(&server));
            let fault = upstream.get("p", &[]).await.unwrap_err();
            let Fault::Retry { reason, after: None } = fault else { panic!("{fault:?}") };
            assert!(reason.contains("/v2.5/p: the answer was cut off: "), "{reason}");
            assert_eq!(counts(&upstream), (0, 1));
        }
    }

    #[tokio::test]
    async fn a_slow_answer_meets_one_deadline_body_included() {
        let started = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"bundles\":[".to_vec();
        for slow in [Vec::new(), started] {
            let server = Server::start(vec![Answer::Hang(slow)]).await;
            let upstream = open(UpstreamSettings { timeout: Duration::from_millis(100), ..settings(&server) });
            let fault = upstream.get("p", &[]).await.unwrap_err();
            let Fault::Retry { reason, after: None } = fault else { panic!("{fault:?}") };
            assert!(reason.ends_with("no whole answer within 100ms"), "{reason}");
            assert_eq!(counts(&upstream), (0, 1));
        }
    }

    #[tokio::test]
    async fn a_body_over_the_cap_fails_the_call() {
        // The length that is announced is believed without reading; nothing of it needs to exist.
        let announced = Answer::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 200000000\r\n\r\n{".to_vec());
        let endless = Answer::Hang([&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b' '; 150_000]].concat());
        let bomb = answer("200 OK", "content-encoding: gzip\r\n", GZIPPED_BLANKS);
        for (large, says) in [
            (announced, "a body of 200000000 bytes, over the cap of 100000"),
            (endless, "a body of more than 100000 bytes"),
            (bomb, "a body of more than 100000 bytes"),
        ] {
            let server = Server::start(vec![large]).await;
            let upstream = open(UpstreamSettings { body_max: 100_000, ..settings(&server) });
            let fault = upstream.get("p", &[]).await.unwrap_err();
            let Fault::Fail { reason } = fault else { panic!("{fault:?}") };
            assert!(reason.contains(says), "{reason}");
            assert_eq!(counts(&upstream), (1, 0), "it answers, so it is not down");
        }
    }

    #[tokio::test]
    async fn compressed_bodies_arrive_plain_and_broken_ones_are_tried_again() {
        let whole = answer("200 OK", "content-encoding: gzip\r\n", GZIPPED);
        let half = answer("200 OK", "content-encoding: gzip\r\n", &GZIPPED[..20]);
        let server = Server::start(vec![whole, half]).await;
        let upstream = open(settings(&server));
        let page: serde_json::Value = upstream.get("p", &[]).await.unwrap().json().unwrap();
        assert_eq!(page, serde_json::json!({ "bundles": [1, 2, 3] }));
        assert!(matches!(upstream.get("p", &[]).await, Err(Fault::Retry { .. })));
    }

    #[tokio::test]
    async fn html_where_json_is_due_is_one_line() {
        let html = answer("200 OK", "content-type: text/html\r\n", b"<html>\n<h1>Welcome to the hotel</h1>\n");
        let server = Server::start(vec![html]).await;
        let reply = open(settings(&server)).get("p", &[]).await.unwrap();
        let fault = reply.json::<serde_json::Value>().unwrap_err().to_string();
        assert!(fault.contains("200 text/html: not JSON") && fault.contains("Welcome to the hotel"), "{fault}");
        assert!(!fault.contains('\n'));
    }

    #[tokio::test]
    async fn an_outage_opens_the_breaker_and_a_good_probe_closes_it() {
        let down = answer("500 Internal Server Error", "", b"{\"message\":\"unexpected error occurred\"}");
        let server = Server::start(vec![down.clone(), down.clone(), down, ok("[]")]).await;
        let upstream = open(settings(&server));
        let breaker = upstream.breaker();
        for _ in 0..2 {
            assert!(matches!(upstream.get("p", &[]).await, Err(Fault::Retry { after: None, .. })));
        }
        assert_eq!(breaker.state(), BreakerState::Open);
        let fault = upstream.get("p", &[]).await.unwrap_err();
        let Fault::Unavailable { what, reason, retry_in: Some(_) } = fault else { panic!("{fault:?}") };
        assert_eq!(what, "catalog");
        assert!(reason.starts_with("breaker open after: GET http://127.0.0.1"), "{reason}");
        assert!(reason.ends_with("unexpected error occurred\"}"), "{reason}");
        assert_eq!(server.heads().len(), 2, "nothing is sent while it is open");

        skip_an_hour().await;
        breaker.ready().await;
        assert!(matches!(upstream.get("p", &[]).await, Err(Fault::Retry { .. })), "the probe fails");
        assert_eq!(breaker.state(), BreakerState::Open);
        let probe = upstream.probe("organisation/groups").await;
        assert!(!probe.ok && probe.reason.unwrap().contains("breaker open"));

        skip_an_hour().await;
        breaker.ready().await;
        let probe = upstream.probe("organisation/groups").await;
        assert_eq!((probe.ok, probe.reason), (true, None));
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(server.heads()[3].starts_with("GET /v2.5/organisation/groups "));
    }

    #[tokio::test]
    async fn no_connection_is_an_outage() {
        // Bound, so that no other test gets the port, and never listened at.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let upstream = open(UpstreamSettings::new("catalog", url));
        let fault = upstream.get("p", &[]).await.unwrap_err();
        let Fault::Unavailable { what, reason, retry_in: Some(_) } = fault else { panic!("{fault:?}") };
        assert_eq!(what, "catalog");
        assert!(reason.contains("/p: no connection: Connection refused"), "{reason}");
        assert_eq!(counts(&upstream), (0, 1));
    }

    #[tokio::test]
    async fn a_host_that_speaks_no_tls_is_an_outage() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let https = format!("https://{}", listener.local_addr().unwrap());
        let answers = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        };
        match Upstream::new(UpstreamSettings::new("catalog", https), Phases::default(), Events::new(1)) {
            // A system without roots says so before anything is sent.
            Err(error) => assert!(error.to_string().contains("No CA certificates"), "{error}"),
            Ok(upstream) => {
                let (result, ()) = tokio::join!(upstream.get("p", &[]), answers);
                let fault = result.unwrap_err();
                let Fault::Unavailable { reason, .. } = fault else { panic!("{fault:?}") };
                assert!(reason.contains("/p: no connection: received corrupt message"), "{reason}");
                assert_eq!(counts(&upstream), (0, 1));
            }
        }
    }

    #[tokio::test]
    async fn a_probe_says_what_is_wrong() {
        let denied = answer("403 Forbidden", "", b"{\"message\":\"Unauthorised\"}");
        let server = Server::start(vec![denied]).await;
        let probe = open(settings(&server)).probe("organisation/groups").await;
        assert!(!probe.ok);
        assert!(probe.reason.unwrap().ends_with("/organisation/groups: 403 Forbidden: {\"message\":\"Unauthorised\"}"));
    }

    #[tokio::test]
    async fn the_key_does_not_follow_a_redirect_to_another_origin() {
        let other = Server::start(vec![ok("[]")]).await;
        let location = format!("location: {}/steal?token=abc\r\n", other.url);
        let server = Server::start(vec![answer("302 Found", &location, b"")]).await;
        let upstream = open(settings(&server));
        let fault = upstream.get("p", &[]).await.unwrap_err();
        let Fault::Fail { reason } = fault else { panic!("{fault:?}") };
        assert!(reason.ends_with(&format!("redirected to {}; if that is right, make it the base_url", other.url)));
        assert_eq!(other.connections(), 0);

        let within = answer("302 Found", "location: /v3/p\r\n", b"");
        let server = Server::start(vec![within.clone(), ok("[]")]).await;
        assert!(open(settings(&server)).get("p", &[]).await.is_ok());
        assert!(server.heads()[1].starts_with("GET /v3/p ") && server.heads()[1].contains(KEY));

        let server = Server::start(vec![within]).await;
        let fault = open(settings(&server)).get("p", &[]).await.unwrap_err();
        assert!(
            matches!(&fault, Fault::Fail { reason } if reason.ends_with("redirected more than 3 times")),
            "{fault:?}"
        );
        assert_eq!(server.heads().len(), 4);
    }

    #[tokio::test]
    async fn drain_ends_waits_and_stop_ends_calls() {
        let server = Server::start(vec![Answer::Hang(Vec::new())]).await;
        let phases = Phases::default();
        let settings = UpstreamSettings { timeout: HOUR, wait_max: HOUR, ..settings(&server) };
        let upstream = Upstream::new(settings, phases.clone(), Events::new(1)).unwrap();
        let hanging = upstream.get("p", &[]);
        let waiting = async {
            while server.heads().is_empty() {
                tokio::task::yield_now().await;
            }
            upstream.pause_for(HOUR / 2);
            upstream.get("p", &[]).await
        };
        let end = async {
            while upstream.status().limiter.waiting == 0 {
                tokio::task::yield_now().await;
            }
            phases.enter(Phase::Drain);
            while upstream.status().limiter.waiting > 0 {
                tokio::task::yield_now().await;
            }
            phases.enter(Phase::Stop);
        };
        let started = Instant::now();
        let (hanging, waiting, ()) = tokio::join!(hanging, waiting, end);
        assert_eq!((hanging.unwrap_err(), waiting.unwrap_err()), (Fault::Cancelled, Fault::Cancelled));
        assert_eq!(upstream.get("p", &[]).await.unwrap_err(), Fault::Cancelled);
        assert!(started.elapsed() < HOUR / 10, "{:?}", started.elapsed());
        assert_eq!((server.heads().len(), counts(&upstream)), (1, (0, 0)));
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_is_unavailable_and_a_new_rate_helps() {
        let server = Server::start(vec![ok("[]")]).await;
        let patience = Duration::from_millis(50);
        let slow = UpstreamSettings { rate_per_second: Some(0.001), wait_max: patience, ..settings(&server) };
        let upstream = open(slow);
        assert!(upstream.get("p", &[]).await.is_ok());
        let fault = upstream.get("p", &[]).await.unwrap_err();
        let Fault::Unavailable { reason, retry_in, .. } = fault else { panic!("{fault:?}") };
        assert_eq!((reason.as_str(), retry_in), ("no turn within 50ms", Some(patience)));
        assert!(upstream.set_rate(Some(-1.0), 1).is_err());
        upstream.set_rate(None, 1).unwrap();
        assert!(upstream.get("p", &[]).await.is_ok());
    }

    /// Collects what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Log;

        fn make_writer(&'a self) -> Log {
            self.clone()
        }
    }

    /// Invariant 10: no secret reaches a log, an error or a status.
    #[tokio::test]
    async fn the_key_is_in_no_log_error_or_status() {
        let log = Log::default();
        // With a single subscriber in the program, tracing asks the thread that comes to a line of code first whether
        // anybody wants it, and tests on other threads would answer no for good. A second one makes it ask all.
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
        let _guard = tracing::subscriber::set_default(subscriber.finish());
        let echo = format!("{{\"message\":\"no such key: {KEY}\"}}");
        let answers = vec![
            ok("[]"),
            answer("403 Forbidden", "", echo.as_bytes()),
            answer("429 Too Many Requests", "retry-after: 0.01\r\n", echo.as_bytes()),
            answer("200 OK", &format!("content-type: {KEY}\r\n"), echo.as_bytes()),
            answer("302 Found", &format!("location: http://elsewhere.invalid/{KEY}\r\n"), b""),
            answer("500 Internal Server Error", "", echo.as_bytes()),
            Answer::Cut(format!("HTTP/1.1 200 {KEY}").into_bytes()),
        ];
        let count = answers.len();
        let server = Server::start(answers).await;
        let upstream = open(settings(&server));
        let mut said = format!("{upstream:?} {:?}", settings(&server));
        for _ in 0..count + 1 {
            let result = upstream.get("p", &[("api_key", KEY.to_owned())]).await;
            said += &format!("{result:?}");
            match result {
                Ok(reply) => said += &format!("{} {:?}", reply.summary(), reply.json::<Vec<u8>>()),
                Err(fault) => said += &fault.to_string(),
            }
        }
        said += &format!("{:?}", upstream.probe("p").await);
        said += &serde_json::to_string(&upstream.status()).unwrap();
        let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        for what in ["call answered", "call failed", "breaker opened", "asks for a pause"] {
            assert!(logged.contains(what), "{what} in {logged}");
        }
        assert!(said.contains("no such key: ***"), "{said}");
        assert!(server.heads().iter().all(|head| head.contains(KEY)), "it was sent, so it could have leaked");
        for line in said.lines().chain(logged.lines()) {
            assert!(!line.contains("hunter2"), "{line}");
        }
    }
}
