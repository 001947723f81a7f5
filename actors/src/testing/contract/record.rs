//! Promises of `commit`, `record` and `record_crash`: each part once, stale leases refused, each outcome its state.

use std::time::Duration;

use serde_json::json;

use super::{at, claim_one, complete, end, failure, inserted, job, put, show, start, state, write};
use crate::checkpoint::{Checkpoint, Counts, Part};
use crate::job::{FailCause, Lease, Outcome, State};
use crate::ledger::{Change, Ledger, LedgerError, Receipt, Record, Reject};

pub async fn a_commit_moves_the_checkpoint(ledger: &dyn Ledger) {
    let first = start(ledger, job(), at(0)).await;
    let mut expected = Checkpoint::default();
    let pages = [(Part::Plan, None), (Part::Page(1), Some(json!(2))), (Part::Page(0), Some(json!(1)))];
    for (part, following) in pages {
        let total = (part == Part::Page(0)).then_some(70);
        let counts =
            Counts { received: 5, inserted: 1, updated: 1, unchanged: 1, removed: 1, rejected: 1, repeated: 0 };
        expected.merge(part, following.clone(), total, &counts);
        let receipt = Receipt { following, total, ..Receipt::new(first.lease, part) };
        ledger.commit(receipt, counts, at(1)).await.expect("commit");
        let row = show(ledger, first.id).await;
        assert_eq!((&row.checkpoint, row.counts), (&expected, expected.counts), "after {part:?}");
    }
    end(ledger, first.lease, Outcome::Interrupted, at(2)).await;
    let second = claim_one(ledger, at(3)).await;
    assert_eq!(second.checkpoint, expected, "the next try goes on from there");
    write(ledger, second.lease, Part::Closing, inserted(1), at(4)).await.expect("commit");
    complete(ledger, second.lease, at(5)).await;
    expected.merge(Part::Closing, None, None, &inserted(1));
    let row = show(ledger, first.id).await;
    assert_eq!((&row.checkpoint, row.counts), (&expected, expected.counts));
}

pub async fn a_commit_told_twice_counts_once(ledger: &dyn Ledger) {
    let parent = start(ledger, job(), at(0)).await;
    for part in [Part::Plan, Part::Page(3), Part::Page(0), Part::Closing] {
        let reject = Reject { key: None, reason: "bad".to_owned(), raw: "{}".to_owned() };
        let receipt = Receipt { children: vec![job()], rejects: vec![reject], ..Receipt::new(parent.lease, part) };
        ledger.commit(receipt.clone(), inserted(2), at(1)).await.expect("commit");
        let once = show(ledger, parent.id).await;
        ledger.commit(receipt, inserted(2), at(2)).await.expect("a part that is held is fine");
        let twice = show(ledger, parent.id).await;
        assert_eq!(once.checkpoint, twice.checkpoint, "{part:?} told twice");
        assert_eq!((once.counts, once.children), (twice.counts, twice.children), "{part:?} told twice");
    }
    let row = show(ledger, parent.id).await;
    assert_eq!((row.counts, row.children.open), (inserted(8), 4));
}

pub async fn what_tries_ran_adds_up(ledger: &dyn Ledger) {
    let first = start(ledger, job(), at(0)).await;
    assert_eq!(first.ran, Duration::ZERO);
    end(ledger, first.lease, Outcome::Snoozed { until: at(50), reason: "down".to_owned() }, at(20)).await;
    ledger.release(at(60)).await.expect("release");
    let second = claim_one(ledger, at(70)).await;
    assert_eq!(second.ran, at(20).since(at(0)), "the wait between two tries is not run");
    end(ledger, second.lease, Outcome::Interrupted, at(75)).await;
    let third = claim_one(ledger, at(80)).await;
    assert_eq!(third.ran, at(25).since(at(0)));
    end(ledger, third.lease, failure("no"), at(90)).await;
    ledger.change(third.id, Change::Retry, at(95)).await.expect("retry");
    assert_eq!(claim_one(ledger, at(99)).await.ran, Duration::ZERO, "an operator's retry begins anew");
}

pub async fn stale_writes_are_refused_and_counted(ledger: &dyn Ledger) {
    let first = start(ledger, job(), at(0)).await;
    end(ledger, first.lease, Outcome::Interrupted, at(1)).await;
    refuse_all(ledger, first.lease, "a waiting job").await;
    let second = claim_one(ledger, at(2)).await;
    refuse_all(ledger, first.lease, "an older lease").await;
    refuse_all(ledger, Lease { fence: second.lease.fence + 1, ..second.lease }, "a lease never given").await;
    complete(ledger, second.lease, at(3)).await;
    refuse_all(ledger, second.lease, "a completed job").await;
    assert_eq!(state(ledger, first.id).await, State::Completed);
}

/// Every kind of write with this lease is refused and counted, and changes nothing.
async fn refuse_all(ledger: &dyn Ledger, lease: Lease, what: &str) {
    let before = (ledger.stats().await.expect("stats").stale_writes, image(ledger, lease).await);
    let stale = Err(LedgerError::Stale(lease));
    let receipt = Receipt { children: vec![job()], ..Receipt::new(lease, Part::Page(9)) };
    assert_eq!(ledger.commit(receipt, inserted(1), at(90)).await, stale, "commit to {what}");
    let outcomes = [Outcome::Completed { note: None }, Outcome::Interrupted, failure("late")];
    for outcome in outcomes {
        let record = Record { lease, outcome, entity: None };
        assert_eq!(ledger.record(record, at(91)).await, stale, "record of {what}");
    }
    let crash = ledger.record_crash(lease, "boom".to_owned(), at(92)).await;
    assert_eq!(crash, Err(LedgerError::Stale(lease)), "crash of {what}");
    let after = (ledger.stats().await.expect("stats").stale_writes, image(ledger, lease).await);
    assert_eq!(after, (before.0 + 5, before.1), "five refused writes to {what}");
}

async fn image(ledger: &dyn Ledger, lease: Lease) -> String {
    format!("{:?} {:?}", show(ledger, lease.job).await, ledger.stats().await.expect("stats").kinds)
}

pub async fn every_outcome_has_its_state(ledger: &dyn Ledger) {
    let reason = || "because".to_owned();
    let cases = [
        (Outcome::Completed { note: Some("a note".to_owned()) }, State::Completed, None, Some("a note")),
        (Outcome::Retry { at: at(500), reason: reason() }, State::Delayed, None, Some("because")),
        (Outcome::Snoozed { until: at(500), reason: reason() }, State::Delayed, None, None),
        (failure("because"), State::Failed, Some(FailCause::Permanent), Some("because")),
        (
            Outcome::Failed { cause: FailCause::Exhausted, reason: reason() },
            State::Failed,
            Some(FailCause::Exhausted),
            Some("because"),
        ),
        (
            Outcome::Failed { cause: FailCause::Poison, reason: reason() },
            State::Failed,
            Some(FailCause::Poison),
            Some("because"),
        ),
        (Outcome::Cancelled { reason: reason() }, State::Cancelled, None, Some("because")),
        (Outcome::Interrupted, State::Waiting, None, None),
    ];
    for (outcome, state, cause, message) in cases {
        let claimed = start(ledger, job(), at(0)).await;
        end(ledger, claimed.lease, outcome.clone(), at(10)).await;
        let row = show(ledger, claimed.id).await;
        assert_eq!((row.state, row.cause), (state, cause), "{outcome:?}");
        assert_eq!(row.owner, None, "{outcome:?} ends the lease");
        assert_eq!(row.finished_at, state.is_final().then(|| at(10)), "{outcome:?}");
        if message.is_some() {
            assert_eq!(row.message.as_deref(), message, "{outcome:?}");
        }
        if state == State::Delayed {
            assert_eq!(row.run_at, at(500), "{outcome:?}");
        }
    }
}

pub async fn only_tries_that_count_burn_attempts(ledger: &dyn Ledger) {
    let id = put(ledger, job(), at(0)).await;
    let again = || Outcome::Retry { at: at(10), reason: "busy".to_owned() };
    let snooze = || Outcome::Snoozed { until: at(10), reason: "closed".to_owned() };
    let tries = [
        (Outcome::Interrupted, 1, 0),
        (again(), 1, 1),
        (snooze(), 2, 1),
        (Outcome::Interrupted, 2, 1),
        (again(), 2, 2),
        (failure("no"), 3, 3),
    ];
    for (outcome, during, after) in tries {
        let claimed = claim_one(ledger, at(1)).await;
        assert_eq!(claimed.attempt, during, "before {outcome:?}");
        end(ledger, claimed.lease, outcome.clone(), at(2)).await;
        assert_eq!(show(ledger, id).await.attempt, after, "after {outcome:?}");
        ledger.release(at(20)).await.expect("release");
    }
}

pub async fn crashes_are_counted_apart(ledger: &dyn Ledger) {
    let first = start(ledger, job(), at(0)).await;
    assert_eq!(ledger.record_crash(first.lease, "panic: one".to_owned(), at(1)).await, Ok(1));
    assert_eq!(ledger.record_crash(first.lease, "panic: two".to_owned(), at(2)).await, Ok(2));
    let row = show(ledger, first.id).await;
    assert_eq!((row.state, row.crashes, row.attempt), (State::Active, 2, 1), "it is still being worked on");
    end(ledger, first.lease, Outcome::Interrupted, at(3)).await;
    let second = claim_one(ledger, at(4)).await;
    assert_eq!((second.crashes, second.attempt), (2, 1));
}

pub async fn history_tells_the_tries(ledger: &dyn Ledger) {
    let id = put(ledger, job(), at(0)).await;
    let tries = [
        Outcome::Retry { at: at(5), reason: "busy".to_owned() },
        Outcome::Snoozed { until: at(5), reason: "closed".to_owned() },
        Outcome::Interrupted,
        failure("no"),
    ];
    for (round, outcome) in (0..).zip(tries) {
        let claimed = claim_one(ledger, at(10 * round)).await;
        if round == 0 {
            ledger.record_crash(claimed.lease, "panic: here".to_owned(), at(1)).await.expect("crash");
        }
        end(ledger, claimed.lease, outcome, at(10 * round + 2)).await;
        ledger.release(at(10 * round + 5)).await.expect("release");
    }
    let history = show(ledger, id).await.history;
    let outcomes: Vec<&str> = history.iter().map(|attempt| attempt.outcome.as_str()).collect();
    assert_eq!(outcomes, ["crashed", "retry", "snoozed", "interrupted", "failed"], "oldest first");
    let [crashed, retry, snoozed, _, failed] = &history[..] else { panic!("five rows: {history:?}") };
    assert_eq!((crashed.attempt, crashed.at, crashed.reason.as_str()), (1, at(1), "panic: here"));
    assert_eq!((retry.attempt, retry.at, retry.reason.as_str()), (1, at(2), "busy"));
    assert_eq!((snoozed.at, snoozed.reason.as_str()), (at(12), "closed"));
    assert_eq!((failed.attempt, failed.at, failed.reason.as_str()), (2, at(32), "no"));

    let other = start(ledger, job(), at(40)).await;
    end(ledger, other.lease, Outcome::Cancelled { reason: "enough".to_owned() }, at(41)).await;
    let history = show(ledger, other.id).await.history;
    assert_eq!(history.iter().map(|attempt| attempt.outcome.as_str()).collect::<Vec<_>>(), ["cancelled"]);
}

pub async fn a_delayed_job_is_released_when_due(ledger: &dyn Ledger) {
    let late = put(ledger, job().run_at(at(300)), at(0)).await;
    let soon = put(ledger, job().run_at(at(100)), at(0)).await;
    let again = start(ledger, job(), at(0)).await;
    end(ledger, again.lease, Outcome::Retry { at: at(200), reason: "busy".to_owned() }, at(1)).await;

    let steps = [(99, 0, Some(100)), (100, 1, Some(200)), (250, 1, Some(300)), (400, 1, None), (500, 0, None)];
    let mut states = Vec::new();
    for (millis, count, next) in steps {
        let released = ledger.release(at(millis)).await.expect("release");
        assert_eq!((released.count, released.next_due), (count, next.map(at)), "at {millis}");
        for id in [soon, again.id, late] {
            states.push(state(ledger, id).await);
        }
    }
    let (w, d) = (State::Waiting, State::Delayed);
    assert_eq!(states, [d, d, d, w, d, d, w, w, d, w, w, w, w, w, w]);
}
