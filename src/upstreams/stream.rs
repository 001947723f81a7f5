//! An answer that is read piece by piece, for files that are too long to be held.
//!
//! ```text
//! Upstream::open ─▶ bucket, breaker ─▶ head ─▶ Stream ─next─▶ bytes ─next─▶ bytes … ─▶ None, and the call counts
//!                                        └─▶ 429, 5xx: a fault, as with `get`
//! ```
//!
//! Invariants: one deadline from sending to the last byte, one cap on the bytes, and Stop ends it, as with
//! [`Upstream::get`]. The breaker hears of the call when it ends. A stream that is dropped says nothing of the
//! upstream.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use longshore_actors::breaker::Pass;
use longshore_actors::job::Fault;
use longshore_actors::shutdown::Phase;
use reqwest::header::{
    CONNECTION, ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, TRANSFER_ENCODING,
};
use reqwest::{Url, Version};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::client::{Probe, Upstream};
use super::exchange::{Broken, Cap, broken};
use super::reply::Reply;
use super::verdict::judge;

/// Bytes of an answer that is none of the file's: enough to say what it is.
const REFUSAL_BYTES: usize = 16 * 1024;

/// What a file said of its version when it was read last; while that holds the server answers 304.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Validators {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

/// An answer whose head is here and whose body is on its way: any status except 429 and 5xx.
pub struct Stream {
    upstream: Upstream,
    response: Option<reqwest::Response>,
    pass: Option<Pass>,
    status: u16,
    headers: HeaderMap,
    announced: bool,
    shown: String,
    cap: Cap,
    received: u64,
    started: Instant,
}

impl Upstream {
    /// Asks for an address of this upstream's own origin; `cap` bounds the bytes of the body, decompressed.
    ///
    /// # Errors
    /// As [`Upstream::get`]; `Fail` also when the body announces more than `cap`, before any of it is read.
    pub async fn open(&self, url: Url, since: &Validators, cap: Cap) -> Result<Stream, Fault> {
        let inner = &*self.inner;
        let shown = self.shown(&url);
        if url.origin() != inner.base.origin() {
            return Err(Fault::fail(format!("GET {shown}: not at the host of {}", self.name())));
        }
        let pass = self.admit().await?;
        let started = Instant::now();
        inner.calls.fetch_add(1, Ordering::Relaxed);
        let mut request = inner.client.get(url);
        if let Some(etag) = &since.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(date) = &since.last_modified {
            request = request.header(IF_MODIFIED_SINCE, date);
        }
        let head = tokio::select! {
            biased;
            () = inner.phases.reached(Phase::Stop) => return Err(Fault::Cancelled),
            head = tokio::time::timeout(inner.settings.timeout, request.send()) => head,
        };
        let head = head.map_or(Err(Broken::Timeout), |head| head.map_err(broken));
        let (head, said) = match head {
            Ok(head) => {
                let said = head.content_length();
                (Ok(head), said)
            }
            Err(broken) => (Err(broken), None),
        };
        let head = match said {
            Some(said) if said > cap.bytes => Err(Broken::TooLarge { said: Some(said), cap }),
            Some(_) | None => head,
        };
        let response = match head {
            Ok(response) => response,
            Err(broken) => {
                let verdict = judge(Err(broken), jiff::Timestamp::now(), self.facts(&shown));
                // A verdict on what broke is a fault always.
                return match self.settle(pass, verdict, &shown, started.elapsed()) {
                    Ok(reply) => Err(Fault::retry(reply.summary())),
                    Err(fault) => Err(fault),
                };
            }
        };
        let status = response.status().as_u16();
        let stream = Stream {
            upstream: self.clone(),
            status,
            announced: is_announced(&response),
            headers: response.headers().clone(),
            response: Some(response),
            pass: Some(pass),
            shown,
            cap,
            received: 0,
            started,
        };
        if status == 429 || status >= 500 {
            return Err(stream.refused().await);
        }
        Ok(stream)
    }

    /// Whether this address answers, without reading what it holds.
    pub async fn probe_at(&self, url: Url) -> Probe {
        let started = Instant::now();
        let reason = match self.open(url, &Validators::default(), Cap { bytes: u64::MAX, key: "body_max" }).await {
            Ok(stream) if stream.status < 400 => {
                stream.enough();
                None
            }
            Ok(stream) => Some(stream.refusal().await),
            Err(fault) => Some(fault.to_string()),
        };
        Probe { ok: reason.is_none(), took: started.elapsed(), reason }
    }
}

impl Stream {
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The address, without secrets.
    pub fn url(&self) -> &str {
        &self.shown
    }

    pub fn validators(&self) -> Validators {
        let text = |name| self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }

    /// Whether the end of the body is announced, so that one that ends early is an error and not a short body.
    pub fn is_announced(&self) -> bool {
        self.announced
    }

    /// The next piece of the body; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let Some(response) = &mut self.response else { return Ok(None) };
        let inner = &*self.upstream.inner;
        let deadline = self.started + inner.settings.timeout;
        let piece = tokio::select! {
            biased;
            () = inner.phases.reached(Phase::Stop) => return Err(Fault::Cancelled),
            piece = tokio::time::timeout_at(deadline, response.chunk()) => piece,
        };
        match piece.map_or(Err(Broken::Timeout), |piece| piece.map_err(broken)) {
            Ok(Some(piece)) => {
                self.received += piece.len() as u64;
                if self.received > self.cap.bytes {
                    return Err(self.end(Broken::TooLarge { said: None, cap: self.cap }));
                }
                Ok(Some(piece))
            }
            Ok(None) => {
                self.well();
                Ok(None)
            }
            Err(broken) => Err(self.end(broken)),
        }
    }

    /// The whole body, below the cap.
    pub async fn read(mut self) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        while let Some(piece) = self.next().await? {
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// No more of it is needed: what came was good.
    pub fn enough(mut self) {
        self.well();
    }

    /// What an answer that is not the file says, in one line; of a status that no `Fault` was made of.
    pub async fn refusal(mut self) -> String {
        let reply = self.beginning().await;
        self.well();
        format!("GET {}: {}", self.shown, reply.summary())
    }

    /// A 429 or a 5xx, as `get` judges it.
    async fn refused(mut self) -> Fault {
        let reply = self.beginning().await;
        let verdict = judge(Ok(reply), jiff::Timestamp::now(), self.upstream.facts(&self.shown));
        self.response = None;
        let settled = match self.pass.take() {
            Some(pass) => self.upstream.settle(pass, verdict, &self.shown, self.started.elapsed()),
            None => verdict.result,
        };
        settled.map_or_else(|fault| fault, |reply| Fault::retry(reply.summary()))
    }

    async fn beginning(&mut self) -> Reply {
        let mut body = Vec::new();
        while body.len() < REFUSAL_BYTES {
            let Some(response) = &mut self.response else { break };
            let deadline = self.started + self.upstream.inner.settings.timeout;
            let piece = tokio::select! {
                biased;
                () = self.upstream.inner.phases.reached(Phase::Stop) => break,
                piece = tokio::time::timeout_at(deadline, response.chunk()) => piece,
            };
            match piece {
                Ok(Ok(Some(piece))) => body.extend_from_slice(&piece),
                // It only explains; what of it came will do.
                Ok(Ok(None) | Err(_)) | Err(_) => break,
            }
        }
        body.truncate(REFUSAL_BYTES);
        Reply::new(self.status, self.headers.clone(), body, self.shown.clone(), self.upstream.secret())
    }

    fn well(&mut self) {
        self.response = None;
        if let Some(pass) = self.pass.take() {
            pass.succeeded();
            self.upstream.inner.bytes.fetch_add(self.received, Ordering::Relaxed);
            let (url, status, bytes, took) = (&self.shown, self.status, self.received, self.started.elapsed());
            tracing::debug!(upstream = self.upstream.name(), url, status, bytes, ?took, "call answered");
        }
    }

    fn end(&mut self, broken: Broken) -> Fault {
        self.response = None;
        let verdict = judge(Err(broken), jiff::Timestamp::now(), self.upstream.facts(&self.shown));
        let settled = match self.pass.take() {
            Some(pass) => self.upstream.settle(pass, verdict, &self.shown, self.started.elapsed()),
            None => verdict.result,
        };
        settled.map_or_else(|fault| fault, |reply| Fault::retry(reply.summary()))
    }
}

/// In HTTP/2 always. Before, by a length or by chunks; the length of a compressed body is lost on the way here, so what
/// keeps its connection is believed to have had one.
fn is_announced(response: &reqwest::Response) -> bool {
    let headers = response.headers();
    let closes = headers.get(CONNECTION).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    match response.version() {
        Version::HTTP_09 | Version::HTTP_10 | Version::HTTP_11 => {
            let said = response.content_length().is_some() || headers.contains_key(TRANSFER_ENCODING);
            said || (response.version() == Version::HTTP_11 && !closes)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use longshore_actors::breaker::BreakerState;
    use longshore_actors::events::Events;
    use longshore_actors::shutdown::Phases;

    use super::super::loopback::{Answer, Server, answer};
    use super::super::settings::UpstreamSettings;
    use super::*;
    use crate::config::Secret;

    const CAP: Cap = Cap { bytes: 1_000, key: "image_max" };
    const SECRET: &str = "hunter2-0123456789";
    const HOUR: Duration = Duration::from_secs(3_600);

    fn upstream(server: &Server) -> Upstream {
        upstream_within(server, HOUR)
    }

    fn upstream_within(server: &Server, timeout: Duration) -> Upstream {
        let settings = UpstreamSettings {
            path_secret: Some(Secret::from(SECRET)),
            timeout,
            ..UpstreamSettings::new("feed", server.url.clone())
        };
        Upstream::new(settings, Phases::default(), Events::new(16)).unwrap()
    }

    fn url(server: &Server) -> Url {
        Url::parse(&format!("{}/Live/{SECRET}/Import.txt", server.url)).unwrap()
    }

    async fn open(upstream: &Upstream, url: Url) -> Result<Stream, Fault> {
        upstream.open(url, &Validators::default(), CAP).await
    }

    fn counts(upstream: &Upstream) -> (u64, u64) {
        let counts = upstream.breaker().status().counts;
        (counts.succeeded, counts.failed)
    }

    #[tokio::test]
    async fn a_body_comes_in_pieces_and_counts_when_it_has_ended() {
        let chunked =
            b"HTTP/1.1 200 OK\r\netag: \"v1\"\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let server = Server::start(vec![Answer::Send(chunked.to_vec())]).await;
        let upstream = upstream(&server);
        let mut stream = open(&upstream, url(&server)).await.unwrap();
        assert_eq!((stream.status(), stream.is_announced()), (200, true));
        assert_eq!(stream.validators(), Validators { etag: Some("\"v1\"".into()), last_modified: None });
        let mut body = Vec::new();
        while let Some(piece) = stream.next().await.unwrap() {
            assert_eq!(counts(&upstream), (0, 0));
            body.extend_from_slice(&piece);
        }
        assert_eq!((body.as_slice(), counts(&upstream), upstream.status().bytes), (&b"abcde"[..], (1, 0), 5));
        assert!(stream.next().await.unwrap().is_none(), "the end stays the end");
    }

    #[tokio::test]
    async fn what_did_not_change_is_304_and_asked_for_with_its_validators() {
        let server = Server::start(vec![answer("304 Not Modified", "", b"")]).await;
        let since = Validators { etag: Some("\"v1\"".into()), last_modified: Some("Sun, 22 Nov 2026".into()) };
        let stream = upstream(&server).open(url(&server), &since, CAP).await.unwrap();
        assert_eq!((stream.status(), stream.read().await.unwrap().len()), (304, 0));
        let head = &server.heads()[0];
        assert!(head.contains("if-none-match: \"v1\"") && head.contains("if-modified-since: Sun, 22"), "{head}");
        assert!(head.contains(SECRET), "it was sent, so it could leak");
    }

    #[tokio::test]
    async fn every_way_to_break_is_a_fault_without_the_secret() {
        let cut = Answer::Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec());
        let hung = Answer::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec());
        let large = Answer::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 500000000\r\n\r\nabc".to_vec());
        let endless = Answer::Cut([&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b' '; 2_000]].concat());
        let echo = format!("no {SECRET} here");
        let down = answer("503 Service Unavailable", "retry-after: 0\r\n", echo.as_bytes());
        let busy = answer("429 Too Many Requests", "retry-after: 0\r\n", echo.as_bytes());
        for (what, timeout, says, retried, counted) in [
            (cut, HOUR, "the answer was cut off", true, (0, 1)),
            (hung, Duration::from_millis(400), "no whole answer within 400ms", true, (0, 1)),
            (large, HOUR, "a body of 500000000 bytes, over the cap of 1000 (image_max)", false, (1, 0)),
            (endless, HOUR, "a body of more than 1000 bytes", false, (1, 0)),
            (down, HOUR, "503 Service Unavailable: no *** here", true, (0, 1)),
            (busy, HOUR, "429 Too Many Requests: no *** here", true, (1, 0)),
        ] {
            let server = Server::start(vec![what]).await;
            let upstream = upstream_within(&server, timeout);
            let result = async { open(&upstream, url(&server)).await?.read().await }.await;
            let fault = result.unwrap_err();
            assert_eq!(matches!(fault, Fault::Retry { .. }), retried, "{fault:?}");
            let told = fault.to_string();
            assert!(told.contains(says) && told.contains("/Live/***/Import.txt"), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
            assert_eq!(counts(&upstream), counted, "{told}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_told_and_is_no_failure_of_the_upstream() {
        let server = Server::start(vec![answer("404 Not Found", "", format!("no {SECRET}").as_bytes())]).await;
        let upstream = upstream(&server);
        let stream = open(&upstream, url(&server)).await.unwrap();
        assert_eq!(stream.status(), 404);
        let told = stream.refusal().await;
        assert!(told.ends_with("/Live/***/Import.txt: 404 Not Found: no ***"), "{told}");
        assert_eq!((counts(&upstream), upstream.breaker().state()), ((1, 0), BreakerState::Closed));
        let probe = upstream.probe_at(url(&server)).await;
        assert!(!probe.ok && !probe.reason.unwrap().contains("hunter2"));
    }

    #[tokio::test]
    async fn a_probe_reads_nothing_of_the_body_and_a_dropped_stream_says_nothing() {
        let long = Answer::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 30000000\r\n\r\nabc".to_vec());
        let server = Server::start(vec![long]).await;
        let upstream = upstream(&server);
        let probe = upstream.probe_at(url(&server)).await;
        assert_eq!((probe.ok, counts(&upstream)), (true, (1, 0)));
        drop(upstream.open(url(&server), &Validators::default(), Cap { bytes: u64::MAX, ..CAP }).await.unwrap());
        assert_eq!(counts(&upstream), (1, 0));
    }

    #[tokio::test]
    async fn an_end_that_nobody_announced_is_known_for_it() {
        let until_close = |head: &str| Answer::Cut(format!("HTTP/1.1 200 OK\r\n{head}\r\nabc").into_bytes());
        for (what, announced) in [
            (until_close("connection: close\r\n"), false),
            (Answer::Cut(b"HTTP/1.0 200 OK\r\n\r\nabc".to_vec()), false),
            (answer("200 OK", "connection: close\r\n", b"abc"), true),
            (answer("200 OK", "", b"abc"), true),
        ] {
            let server = Server::start(vec![what]).await;
            let stream = open(&upstream(&server), url(&server)).await.unwrap();
            assert_eq!(stream.is_announced(), announced);
            assert_eq!(stream.read().await.unwrap(), b"abc");
        }
    }

    #[tokio::test]
    async fn another_origin_is_refused_before_anything_is_sent() {
        let (server, other) = (Server::start(vec![answer("200 OK", "", b"")]).await, Server::start(vec![]).await);
        let fault = open(&upstream(&server), url(&other)).await.err().unwrap();
        assert!(matches!(&fault, Fault::Fail { reason } if reason.contains("not at the host of feed")), "{fault:?}");
        assert_eq!(other.connections(), 0);
    }

    #[tokio::test]
    async fn stop_ends_a_stream() {
        let hung = Answer::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec());
        let server = Server::start(vec![hung]).await;
        let phases = Phases::default();
        let settings = UpstreamSettings::new("feed", server.url.clone());
        let upstream = Upstream::new(settings, phases.clone(), Events::new(1)).unwrap();
        let mut stream = open(&upstream, url(&server)).await.unwrap();
        assert_eq!(stream.next().await.unwrap().as_deref(), Some(&b"abc"[..]));
        let (next, ()) = tokio::join!(stream.next(), async { phases.enter(Phase::Stop) });
        assert_eq!(next.unwrap_err(), Fault::Cancelled);
        assert_eq!(counts(&upstream), (0, 0));
    }

    #[tokio::test]
    async fn stop_ends_a_refusal() {
        let hung = Answer::Hang(b"HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\nabc".to_vec());
        let server = Server::start(vec![hung]).await;
        let phases = Phases::default();
        let settings = UpstreamSettings { timeout: HOUR, ..UpstreamSettings::new("feed", server.url.clone()) };
        let upstream = Upstream::new(settings, phases.clone(), Events::new(1)).unwrap();
        let stream = open(&upstream, url(&server)).await.unwrap();
        let started = std::time::Instant::now();
        let (_, ()) = tokio::join!(stream.refusal(), async { phases.enter(Phase::Stop) });
        assert!(started.elapsed() < HOUR / 10, "{:?}", started.elapsed());
    }
}
