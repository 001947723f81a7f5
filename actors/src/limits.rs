//! A rate limit: one bucket for one credential, shared by everyone who calls with it.
//!
//! ```text
//! acquire ──▶ queue, first come first served ──▶ head ──▶ not paused? ──▶ bucket has a permit? ──▶ go
//!                                                  ▲          │ no              │ no
//!                                                  └── until the pause ends, the next permit, or a change
//! ```
//!
//! Only the head of the queue looks at the bucket, so permits go out in the order of asking, and a pause or a new
//! rate reaches everyone who waits through that one.
//!
//! Invariants: a pause never gets shorter; a new rate hands out no burst that the old one had not; no wait goes past
//! [`Phase::Drain`].
//!
//! It does not bound how long one waits (the caller does, around [`Limiter::acquire`]) and does not read
//! `Retry-After` (whoever saw the header calls [`Limiter::pause_until`]).

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::shutdown::{Phase, Phases};

/// The slowest bucket fills up within this time. Anything slower is a quota, not a rate, and governor counts in
/// nanoseconds of 64 bits.
const FILLS_WITHIN: Duration = Duration::from_secs(365 * 24 * 3600);

/// How fast, and how many at once after a quiet time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    per_second: f64,
    burst: NonZeroU32,
}

impl Rate {
    /// `per_second` may be a fraction: 0.5 is one every two seconds. `burst` is at least 1.
    ///
    /// # Errors
    /// A sentence for the operator, when the numbers make no bucket.
    pub fn new(per_second: f64, burst: u32) -> Result<Self, BadRate> {
        let bad = |problem| BadRate { per_second, burst, problem };
        if !per_second.is_finite() || per_second <= 0.0 {
            return Err(bad("calls per second must be more than 0"));
        }
        let Some(burst_size) = NonZeroU32::new(burst) else {
            return Err(bad("the burst must be at least 1"));
        };
        let rate = Self { per_second, burst: burst_size };
        let fills = rate.period().and_then(|period| period.checked_mul(burst));
        match fills {
            Some(time) if time <= FILLS_WITHIN => Ok(rate),
            Some(_) | None => Err(bad("the bucket would take more than a year to fill")),
        }
    }

    pub fn per_second(self) -> f64 {
        self.per_second
    }

    pub fn burst(self) -> u32 {
        self.burst.get()
    }

    /// The time that makes one permit. Governor counts in nanoseconds, hence at least one.
    fn period(self) -> Option<Duration> {
        Duration::try_from_secs_f64(1.0 / self.per_second).ok().map(|period| period.max(Duration::from_nanos(1)))
    }

    fn bucket(self) -> Bucket {
        let period = self.period().expect("Rate::new has checked that the period is a duration");
        let quota = Quota::with_period(period).expect("a period is at least one nanosecond");
        RateLimiter::direct_with_clock(quota.allow_burst(self.burst), TokioClock)
    }
}

/// Numbers that make no bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BadRate {
    per_second: f64,
    burst: u32,
    problem: &'static str,
}

impl fmt::Display for BadRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_second, burst, problem } = self;
        write!(f, "rate of {per_second} a second with a burst of {burst}: {problem}")
    }
}

impl std::error::Error for BadRate {}

/// The wait was cut short by the service's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

/// One bucket; shared by `Arc`.
#[derive(Debug)]
pub struct Limiter {
    gate: Mutex<Gate>,
    /// One permit: the head of the queue. Tokio hands it on in the order of asking.
    turn: Semaphore,
    /// Wakes the head when the gate has changed. Only the head listens, so one stored wake-up is enough.
    changed: Notify,
    waiting: AtomicU64,
    granted: AtomicU64,
}

#[derive(Debug)]
struct Gate {
    /// `None` is unlimited.
    limit: Option<(Rate, Bucket)>,
    paused_until: Option<Instant>,
}

/// A limiter as its status shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimiterStatus {
    pub rate: Option<Rate>,
    /// Callers that wait now.
    pub waiting: u64,
    /// Permits given since the start.
    pub granted: u64,
    /// What is left of the pause.
    pub paused_for: Option<Duration>,
}

impl Limiter {
    /// `None` is unlimited; it can still be paused.
    pub fn new(rate: Option<Rate>) -> Self {
        Self {
            gate: Mutex::new(Gate { limit: rate.map(|rate| (rate, rate.bucket())), paused_until: None }),
            turn: Semaphore::new(1),
            changed: Notify::new(),
            waiting: AtomicU64::new(0),
            granted: AtomicU64::new(0),
        }
    }

    /// Waits for a permit, in order. Dropping the future leaves the queue and costs nobody a permit.
    ///
    /// # Errors
    /// [`Cancelled`] once the service drains, when a permit is not there at once.
    pub async fn acquire(&self, phases: &Phases) -> Result<(), Cancelled> {
        // The free way first: nobody queues and the bucket has a permit. A released turn goes straight to the one
        // who waits for it, so this overtakes nobody.
        if let Ok(_turn) = self.turn.try_acquire()
            && self.try_take().is_ok()
        {
            return Ok(());
        }
        let _waiting = Waiting::count(&self.waiting);
        tokio::select! {
            biased;
            () = phases.reached(Phase::Drain) => Err(Cancelled),
            () = self.wait() => Ok(()),
        }
    }

    async fn wait(&self) {
        let _turn = self.turn.acquire().await.expect("the turn is never closed");
        while let Err(at) = self.try_take() {
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(at) => {}
            }
        }
    }

    /// Takes a permit, or says when it is worth asking again.
    fn try_take(&self) -> Result<(), Instant> {
        self.gate().try_take(Instant::now())?;
        self.granted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives no permit before `until`. A pause that already lasts longer stays; the answer says whether this one
    /// made a difference.
    pub fn pause_until(&self, until: Instant) -> bool {
        let longer = {
            let mut gate = self.gate();
            let longer = until > Instant::now() && gate.paused_until.is_none_or(|now| until > now);
            if longer {
                gate.paused_until = Some(until);
            }
            longer
        };
        if longer {
            self.changed.notify_one();
        }
        longer
    }

    /// The instant the pause ends, if it is paused now.
    pub fn paused_until(&self) -> Option<Instant> {
        self.gate().paused_until.filter(|until| *until > Instant::now())
    }

    /// Changes the rate, at once and also for those who wait. A pause stays.
    pub fn set_rate(&self, rate: Option<Rate>) {
        self.gate().set_rate(rate);
        self.changed.notify_one();
    }

    pub fn status(&self) -> LimiterStatus {
        let now = Instant::now();
        let gate = self.gate();
        LimiterStatus {
            rate: gate.limit.as_ref().map(|(rate, _)| *rate),
            waiting: self.waiting.load(Ordering::Relaxed),
            granted: self.granted.load(Ordering::Relaxed),
            paused_for: gate.paused_until.map(|until| until - now).filter(|left| !left.is_zero()),
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    fn try_take(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(until) = self.paused_until {
            if now < until {
                return Err(until);
            }
            self.paused_until = None;
        }
        match &self.limit {
            None => Ok(()),
            Some((_, bucket)) => bucket.check().map_err(|not_until| not_until.earliest_possible().0),
        }
    }

    /// Governor's quota cannot change, so the bucket is replaced. The new one starts with what was left in the old
    /// one: otherwise every change of the rate would let a burst through.
    fn set_rate(&mut self, rate: Option<Rate>) {
        let Some(rate) = rate else {
            self.limit = None;
            return;
        };
        let bucket = rate.bucket();
        if let Some((old_rate, old)) = &self.limit
            && let Some(spent) = NonZeroU32::new(rate.burst().saturating_sub(empty(old, old_rate.burst)))
        {
            // Fits always: at most the burst, of a bucket that is full.
            let _ = bucket.check_n(spent);
        }
        self.limit = Some((rate, bucket));
    }
}

/// Takes everything out of a bucket and says how much it was, bit by bit from the highest. More than the burst is
/// not asked for: governor would compute, and overflow, before it says no.
fn empty(bucket: &Bucket, burst: NonZeroU32) -> u32 {
    (0..u32::BITS)
        .rev()
        .filter_map(|bit| NonZeroU32::new(1 << bit))
        .filter(|part| *part <= burst && matches!(bucket.check_n(*part), Ok(Ok(()))))
        .fold(0, |sum, part| sum.saturating_add(part.get()))
}

/// Counts one caller for as long as it waits, however that ends.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn count(waiting: &'a AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<TokioInstant>>;

/// Governor on tokio's clock, which tests pause and advance.
#[derive(Clone, Copy, Debug)]
struct TokioClock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TokioInstant(Instant);

impl Clock for TokioClock {
    type Instant = TokioInstant;

    fn now(&self) -> TokioInstant {
        TokioInstant(Instant::now())
    }
}

impl Reference for TokioInstant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl Add<Nanos> for TokioInstant {
    type Output = Self;

    fn add(self, other: Nanos) -> Self {
        Self(self.0 + Duration::from(other))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use futures::FutureExt;

    use super::*;

    fn limiter(per_second: f64, burst: u32) -> Limiter {
        Limiter::new(Some(Rate::new(per_second, burst).unwrap()))
    }

    /// Takes `count` permits and says, in milliseconds from now, when each came.
    async fn times(limiter: &Limiter, count: usize) -> Vec<u128> {
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..count {
            limiter.acquire(&Phases::default()).await.unwrap();
            times.push(start.elapsed().as_millis());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn permits_come_at_the_rate_after_the_burst() {
        // Tokio's timers count whole milliseconds and round up.
        let got = times(&limiter(10.0, 3), 6).await;
        assert_eq!(got[..3], [0, 0, 0]);
        for (got, expected) in got[3..].iter().zip([100, 200, 300]) {
            assert!((expected..=expected + 1).contains(got), "{got} instead of {expected}");
        }
        let slow = times(&limiter(0.5, 1), 2).await;
        assert!((2000..=2001).contains(&slow[1]), "{slow:?}");
        assert_eq!(times(&Limiter::new(None), 1000).await.last(), Some(&0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everyone_and_the_later_one_wins() {
        for limiter in [Limiter::new(None), limiter(1000.0, 10)] {
            let now = Instant::now();
            assert!(limiter.pause_until(now + Duration::from_secs(5)));
            assert!(!limiter.pause_until(now + Duration::from_secs(2)), "a shorter pause changes nothing");
            assert_eq!(limiter.status().paused_for, Some(Duration::from_secs(5)));
            assert_eq!(times(&limiter, 1).await, [5000]);
            assert_eq!(limiter.paused_until(), None);
            assert_eq!(limiter.status().paused_for, None);
            assert!(!limiter.pause_until(now), "an instant that has passed is no pause");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_pause_reaches_those_who_wait_already() {
        let limiter = Limiter::new(None);
        let start = Instant::now();
        limiter.pause_until(start + Duration::from_secs(1));
        let phases = Phases::default();
        let waits = limiter.acquire(&phases);
        let longer = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            limiter.pause_until(start + Duration::from_secs(3));
        };
        assert_eq!(futures::join!(waits, longer).0, Ok(()));
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_rate_is_effective_at_once_also_for_those_who_wait() {
        let limiter = limiter(0.001, 1);
        let start = Instant::now();
        assert_eq!(times(&limiter, 1).await, [0]);
        let phases = Phases::default();
        let waits = limiter.acquire(&phases);
        let faster = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            limiter.set_rate(Some(Rate::new(10.0, 5).unwrap()));
        };
        assert_eq!(futures::join!(waits, faster).0, Ok(()));
        // One permit's time at the new rate, and no burst of five.
        assert!((1100..=1101).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        assert!(times(&limiter, 1).await[0] >= 99);

        limiter.set_rate(None);
        assert_eq!(times(&limiter, 100).await.last(), Some(&0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_rate_keeps_what_was_left() {
        let limiter = limiter(1.0, 4);
        times(&limiter, 2).await;
        limiter.set_rate(Some(Rate::new(1.0, 10).unwrap()));
        let got = times(&limiter, 3).await;
        assert_eq!(got[..2], [0, 0], "two of four were left");
        assert!(got[2] >= 1000, "{got:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn emptying_a_bucket_counts_what_was_in_it() {
        for burst in [1, 2, 3, 7, 100, 12_345, u32::MAX] {
            let rate = Rate::new(2.0, burst).or_else(|_| Rate::new(1e12, burst)).unwrap();
            let bucket = rate.bucket();
            let spent = u32::from(burst > 1);
            for _ in 0..spent {
                bucket.check().unwrap();
            }
            assert_eq!(empty(&bucket, rate.burst), burst - spent);
            assert!(bucket.check().is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_are_served_in_the_order_of_asking() {
        let limiter = Arc::new(limiter(100.0, 1));
        let served = Arc::new(Mutex::new(Vec::new()));
        let phases = Phases::default();
        let waits = (0..20).map(|number| {
            let (limiter, served, phases) = (limiter.clone(), served.clone(), phases.clone());
            async move {
                limiter.acquire(&phases).await.unwrap();
                served.lock().unwrap().push(number);
            }
        });
        let all = futures::future::join_all(waits);
        let status = async {
            tokio::task::yield_now().await;
            limiter.status()
        };
        let (_, status) = futures::join!(all, status);
        assert_eq!((status.waiting, status.granted), (19, 1));
        assert_eq!(*served.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert_eq!((limiter.status().waiting, limiter.status().granted), (0, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_at_the_head_leaves_the_turn_to_the_next() {
        let limiter = limiter(1.0, 1);
        let phases = Phases::default();
        limiter.acquire(&phases).await.unwrap();
        let mut first = Box::pin(limiter.acquire(&phases));
        let mut second = Box::pin(limiter.acquire(&phases));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(limiter.status().waiting, 2);
        drop(first);
        assert_eq!(second.await, Ok(()));
        assert_eq!((limiter.status().waiting, limiter.status().granted), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn drain_cuts_every_wait_short() {
        let limiter = Limiter::new(None);
        let start = Instant::now();
        limiter.pause_until(start + Duration::from_secs(3600));
        let phases = Phases::default();
        let drain = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            phases.enter(Phase::Quiet);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(limiter.status().waiting, 2, "quiet lets them wait on");
            phases.enter(Phase::Drain);
        };
        let (head, second, ()) = futures::join!(limiter.acquire(&phases), limiter.acquire(&phases), drain);
        assert_eq!((head, second), (Err(Cancelled), Err(Cancelled)));
        assert_eq!(start.elapsed().as_secs(), 2);
        assert_eq!(limiter.acquire(&phases).await, Err(Cancelled));
        assert_eq!(limiter.status().waiting, 0);
    }

    #[test]
    fn numbers_that_make_no_bucket_are_refused() {
        for (per_second, burst) in [(0.0, 1), (-1.0, 1), (f64::NAN, 1), (f64::INFINITY, 1), (1.0, 0), (1e-300, 1)] {
            assert!(Rate::new(per_second, burst).is_err(), "{per_second} {burst}");
        }
        assert!(Rate::new(1e-6, 1000).unwrap_err().to_string().contains("more than a year"));
        for (per_second, burst) in [(1e12, u32::MAX), (0.001, 1000), (10.0, 10)] {
            let rate = Rate::new(per_second, burst).unwrap();
            assert!(rate.bucket().check().is_ok(), "{per_second} {burst}");
        }
    }
}
