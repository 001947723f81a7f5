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
use super::secret::Secret;
use super::settings::{UpstreamError, UpstreamSettings};
use super::verdict::{Facts, Verdict, judge};

/// The client of one upstream; cheap to clone.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

struct Inner {
    settings: UpstreamSettings,
    base: Url,
    client: reqwest::Client,
    limiter: Limiter,
    breaker: Arc<Breaker>,
    phases: Phases,
    calls: AtomicU64,
    faults: AtomicU64,
    bytes: AtomicU64,
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
        let shown = exchange::for_logs(&url);
        let pass = self.admit().await?;
        let started = Instant::now();
        self.inner.calls.fetch_add(1, Ordering::Relaxed);
        let exchange = exchange::get(client, url, settings.body_max, self.secret());
        let result = tokio::select! {
            biased;
            // Also a hanging upstream lets the service end.
            () = phases.reached(Phase::Stop) => return Err(Fault::Cancelled),
            result = tokio::time::timeout(settings.timeout, exchange) => result.unwrap_or(Err(Broken::Timeout)),
        };
        let facts = Facts {
            name: &settings.name,
            url: &shown,
            timeout: settings.timeout,
            pause_default: settings.pause_default,
        };
        let verdict = judge(result, jiff::Timestamp::now(), facts);
        self.settle(pass, verdict, &shown, started.elapsed())
    }

    /// Asks for `path` to see whether the upstream is well. It goes the way of every call, so it also is the probe
    /// that closes a half-open breaker.
    pub async fn probe(&self, path: &str) -> Probe {
        let started = Instant::now();
        let reason = match self.get(path, &[]).await {
            Ok(reply) if reply.status() < 400 => None,
            Ok(reply) => Some(format!("GET {}: {}", reply.url(), reply.summary())),
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
    async fn admit(&self) -> Result<Pass, Fault> {
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
    fn settle(&self, pass: Pass, verdict: Verdict, url: &str, took: Duration) -> Result<Reply, Fault> {
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

    fn secret(&self) -> Option<Secret> {
        self.inner.settings.auth.as_ref().map(|auth| auth.secret.clone())
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
