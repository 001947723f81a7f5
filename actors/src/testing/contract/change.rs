//! Promises of `change`: what an operator may do, and what is refused.

use super::{
    adopt, assert_refused, at, claim_all, claim_one, complete, end, failure, inserted, job, put, show, start,
    start_family, state, write,
};
use crate::checkpoint::{Checkpoint, Counts, Part};
use crate::job::{JobId, Outcome, State, UniqueScope};
use crate::ledger::{Change, Enqueued, Ledger, LedgerError};

fn cancel() -> Change {
    Change::Cancel { reason: "not needed".to_owned() }
}

pub async fn retry_starts_afresh(ledger: &dyn Ledger) {
    let cases = [
        // Whether the pages stay committed, and whether the plan's children stay asked for.
        (Outcome::Completed { note: Some("done".to_owned()) }, false, false),
        (failure("no"), true, false),
        (Outcome::Cancelled { reason: "enough".to_owned() }, true, false),
        (Outcome::Retry { at: at(9_999), reason: "busy".to_owned() }, true, true),
    ];
    for (outcome, keeps, planned) in cases {
        let first = start(ledger, job(), at(0)).await;
        write(ledger, first.lease, Part::Plan, Counts::default(), at(1)).await.expect("commit");
        write(ledger, first.lease, Part::Page(0), inserted(2), at(1)).await.expect("commit");
        ledger.record_crash(first.lease, "panic".to_owned(), at(1)).await.expect("crash");
        let before = show(ledger, first.id).await.checkpoint;
        end(ledger, first.lease, outcome.clone(), at(2)).await;
        ledger.change(first.id, Change::Retry, at(3)).await.expect("retry");
        let row = show(ledger, first.id).await;
        assert_eq!((row.state, row.attempt, row.crashes), (State::Waiting, 0, 0), "after {outcome:?}");
        assert_eq!((row.message, row.cause, row.finished_at), (None, None, None), "after {outcome:?}");
        let expected = if keeps { Checkpoint { planned, ..before } } else { Checkpoint::default() };
        assert_eq!(row.checkpoint, expected, "after {outcome:?}");
        let second = claim_one(ledger, at(4)).await;
        assert_eq!((second.id, second.attempt, second.crashes), (first.id, 1, 0));
        assert!(second.lease.fence > first.lease.fence);
        complete(ledger, second.lease, at(5)).await;
    }
}

pub async fn retry_goes_by_the_state(ledger: &dyn Ledger) {
    let id = put(ledger, job(), at(0)).await;
    assert_refused(ledger.change(id, Change::Retry, at(1)).await, "the retry of a waiting job");
    let claimed = claim_one(ledger, at(2)).await;
    assert_refused(ledger.change(id, Change::Retry, at(3)).await, "the retry of an active job");
    complete(ledger, claimed.lease, at(4)).await;
    let missing = JobId(id.0 + 1_000);
    for change in [Change::Retry, cancel()] {
        assert_eq!(ledger.change(missing, change, at(5)).await, Err(LedgerError::Missing(missing)));
    }
}

pub async fn retry_respects_the_key(ledger: &dyn Ledger) {
    let keyed = || job().unique("key", UniqueScope::UntilCompleted);
    let first = start(ledger, keyed(), at(0)).await;
    end(ledger, first.lease, failure("no"), at(1)).await;
    let second = start(ledger, keyed(), at(2)).await;
    let reason = assert_refused(ledger.change(first.id, Change::Retry, at(3)).await, "a second job with the key");
    assert!(reason.contains(&second.id.to_string()), "it names job {}: {reason}", second.id);
    assert_eq!(state(ledger, first.id).await, State::Failed);
    complete(ledger, second.lease, at(4)).await;
    ledger.change(first.id, Change::Retry, at(5)).await.expect("the key is free again");
    let answer = ledger.enqueue(vec![keyed()], at(6)).await;
    assert_eq!(answer, Ok(vec![Enqueued::Existing(first.id)]), "it took its key again");
}

pub async fn cancel_goes_by_the_state(ledger: &dyn Ledger) {
    let active = start(ledger, job(), at(0)).await;
    let delayed = put(ledger, job().run_at(at(500)), at(0)).await;
    let waiting = put(ledger, job(), at(0)).await;
    for id in [active.id, delayed, waiting] {
        ledger.change(id, cancel(), at(5)).await.expect("cancel");
        let row = show(ledger, id).await;
        assert_eq!((row.state, row.finished_at, row.owner), (State::Cancelled, Some(at(5)), None));
        assert_eq!(row.message.as_deref(), Some("not needed"));
        assert_refused(ledger.change(id, cancel(), at(6)).await, "the cancelling of a cancelled job");
    }
    let stale = Err(LedgerError::Stale(active.lease));
    assert_eq!(write(ledger, active.lease, Part::Page(0), Counts::default(), at(7)).await, stale);
    assert_eq!(ledger.renew(vec![active.lease], at(100)).await, Ok(vec![active.lease]));
    assert_eq!(ledger.release(at(1_000)).await.expect("release"), Default::default());
    assert!(claim_all(ledger, at(8)).await.is_empty());

    for outcome in [Outcome::Completed { note: None }, failure("no")] {
        let ended = start(ledger, job(), at(9)).await;
        end(ledger, ended.lease, outcome.clone(), at(10)).await;
        let before = state(ledger, ended.id).await;
        assert_refused(ledger.change(ended.id, cancel(), at(11)).await, outcome.as_str());
        assert_eq!(state(ledger, ended.id).await, before);
    }
}

pub async fn cancel_takes_the_descendants(ledger: &dyn Ledger) {
    let (top, _) = start_family(ledger, job(), vec![job(), job(), job()], at(0)).await;
    complete(ledger, top.lease, at(1)).await;
    let [done, middle, _] = &claim_all(ledger, at(2)).await[..] else { panic!("three children") };
    complete(ledger, done.lease, at(3)).await;
    let leaves = adopt(ledger, middle.lease, vec![job(), job().run_at(at(900))], at(4)).await;
    let active = claim_one(ledger, at(5)).await;
    assert_eq!(active.id, leaves[0]);

    ledger.change(top.id, cancel(), at(6)).await.expect("a parent that waits for children is open");
    for id in [top.id, middle.id, leaves[0], leaves[1]] {
        let row = show(ledger, id).await;
        assert_eq!((row.state, row.finished_at), (State::Cancelled, Some(at(6))), "job {id}");
    }
    assert_eq!(state(ledger, done.id).await, State::Completed, "what has ended stays as it is");
    for lease in [active.lease, middle.lease] {
        assert_eq!(ledger.renew(vec![lease], at(100)).await, Ok(vec![lease]));
    }
    let children = show(ledger, top.id).await.children;
    assert_eq!((children.open, children.completed, children.cancelled), (0, 1, 2));
}

/// A child that failed has left one of its own that runs on.
pub async fn cancel_goes_below_what_has_ended(ledger: &dyn Ledger) {
    let (top, _) = start_family(ledger, job(), vec![job()], at(0)).await;
    let middle = claim_one(ledger, at(1)).await;
    let leaves = adopt(ledger, middle.lease, vec![job()], at(2)).await;
    end(ledger, middle.lease, failure("no"), at(3)).await;
    ledger.change(top.id, cancel(), at(4)).await.expect("cancel");
    assert_eq!(state(ledger, leaves[0]).await, State::Cancelled);
    assert_eq!(state(ledger, middle.id).await, State::Failed, "what has ended stays as it is");
    let children = show(ledger, middle.id).await.children;
    assert_eq!((children.open, children.cancelled), (0, 1));
}

pub async fn a_cancelled_child_ends_its_parent(ledger: &dyn Ledger) {
    let (parent, children) = start_family(ledger, job(), vec![job()], at(0)).await;
    complete(ledger, parent.lease, at(1)).await;
    ledger.change(children[0], cancel(), at(2)).await.expect("cancel");
    let row = show(ledger, parent.id).await;
    assert_eq!((row.state, row.children.cancelled, row.finished_at), (State::Completed, 1, Some(at(2))));
}
