//! What becomes of a try that did not end well: a pure function from the facts to an [`Outcome`].

use std::time::Duration;

use crate::clock::Timestamp;
use crate::job::{FailCause, Fault, Outcome};
use crate::settings::KindPolicy;

/// Why the driving function ended without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Fault(Fault),
    /// The attempt ran into its timeout.
    TimedOut,
    /// The job has killed this many workers.
    Poison {
        crashes: u32,
        reason: String,
    },
    /// The driving function itself panicked: a bug of ours, and counted as a failed try.
    Panicked {
        reason: String,
    },
}

/// When a dependency is down and nobody knows for how long.
const SNOOZE: Duration = Duration::from_secs(5);

/// `attempt` counts from 1; `chance` (0 to 1) spreads the backoff.
pub(crate) fn decide(ended: Ended, attempt: u32, policy: &KindPolicy, now: Timestamp, chance: f64) -> Outcome {
    let retry = |reason: String, after: Option<Duration>| {
        if attempt >= policy.attempts {
            return Outcome::Failed { cause: FailCause::Exhausted, reason };
        }
        let backoff = policy.backoff.after(attempt, chance);
        Outcome::Retry { at: now.plus(backoff.max(after.unwrap_or_default())), reason }
    };
    match ended {
        Ended::Fault(Fault::Retry { reason, after }) => retry(reason, after),
        Ended::Fault(Fault::Fail { reason }) => Outcome::Failed { cause: FailCause::Permanent, reason },
        // A reject of a whole job: its params or its plan are the bad record.
        Ended::Fault(Fault::Reject { reason }) => Outcome::Failed { cause: FailCause::Permanent, reason },
        Ended::Fault(Fault::Cancelled) => Outcome::Interrupted,
        Ended::Fault(Fault::Unavailable { what, reason, retry_in }) => Outcome::Snoozed {
            until: now.plus(retry_in.unwrap_or(SNOOZE)),
            reason: format!("{what} is unavailable: {reason}"),
        },
        Ended::TimedOut => retry(format!("timed out after {:?}", policy.timeout), None),
        Ended::Poison { crashes, reason } => Outcome::Failed {
            cause: FailCause::Poison,
            reason: format!("killed its worker {crashes} times, the last time by {reason}"),
        },
        Ended::Panicked { reason } => retry(reason, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Backoff;

    #[test]
    fn every_end_has_its_outcome() {
        let policy = KindPolicy {
            attempts: 3,
            backoff: Backoff::fixed(Duration::from_secs(10)),
            timeout: Duration::from_secs(60),
            ..KindPolicy::default()
        };
        let now = Timestamp(1_000_000);
        let seconds = |count: u64| now.plus(Duration::from_secs(count));
        let failed = |cause, reason: &str| Outcome::Failed { cause, reason: reason.into() };
        let after = |after| Ended::Fault(Fault::Retry { reason: "503".into(), after });
        let table = [
            (1, after(None), Outcome::Retry { at: seconds(10), reason: "503".into() }),
            (2, after(Some(Duration::from_secs(99))), Outcome::Retry { at: seconds(99), reason: "503".into() }),
            (2, after(Some(Duration::from_secs(1))), Outcome::Retry { at: seconds(10), reason: "503".into() }),
            (3, after(None), failed(FailCause::Exhausted, "503")),
            (1, Ended::Fault(Fault::fail("no key")), failed(FailCause::Permanent, "no key")),
            (1, Ended::Fault(Fault::reject("bad")), failed(FailCause::Permanent, "bad")),
            (3, Ended::Fault(Fault::Cancelled), Outcome::Interrupted),
            (
                3,
                Ended::Fault(Fault::unavailable("host", "refused")),
                Outcome::Snoozed { until: seconds(5), reason: "host is unavailable: refused".into() },
            ),
            (1, Ended::TimedOut, Outcome::Retry { at: seconds(10), reason: "timed out after 60s".into() }),
            (3, Ended::TimedOut, failed(FailCause::Exhausted, "timed out after 60s")),
            (
                1,
                Ended::Poison { crashes: 3, reason: "panic: x".into() },
                failed(FailCause::Poison, "killed its worker 3 times, the last time by panic: x"),
            ),
            (3, Ended::Panicked { reason: "panic: y".into() }, failed(FailCause::Exhausted, "panic: y")),
        ];
        for (row, (attempt, ended, outcome)) in table.into_iter().enumerate() {
            assert_eq!(decide(ended, attempt, &policy, now, 0.5), outcome, "row {row}");
        }
    }
}
