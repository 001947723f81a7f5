//! Promises about parents and children: who ends with whom, and whose counts are whose.

use super::{
    KIND, adopt, at, claim_all, claim_of, claim_one, complete, end, failure, inserted, job, put, show, start_family,
    state, write,
};
use crate::checkpoint::Part;
use crate::job::{FailCause, NewJob, OnChildFailed, Outcome, State, UniqueScope};
use crate::ledger::{Change, Children, Ledger, LedgerError};

fn minding() -> NewJob {
    NewJob { on_child_failed: OnChildFailed::Fail, ..job() }
}

pub async fn a_parent_ends_with_its_last_child(ledger: &dyn Ledger) {
    let (parent, children) = start_family(ledger, job(), vec![job(), job(), job()], at(0)).await;
    assert_eq!(children.len(), 3);
    write(ledger, parent.lease, Part::Page(0), inserted(10), at(1)).await.expect("commit");
    end(ledger, parent.lease, Outcome::Completed { note: Some("asked".to_owned()) }, at(2)).await;
    let row = show(ledger, parent.id).await;
    assert_eq!((row.state, row.finished_at), (State::Active, None), "it has open children");
    assert_eq!((row.children.open, row.counts), (3, inserted(10)));

    let claimed = claim_all(ledger, at(3)).await;
    assert!(claimed.iter().all(|child| child.parent == Some(parent.id)));
    write(ledger, claimed[0].lease, Part::Page(0), inserted(1), at(4)).await.expect("commit");
    complete(ledger, claimed[0].lease, at(5)).await;
    let row = show(ledger, parent.id).await;
    assert_eq!((row.state, row.counts), (State::Active, inserted(11)));
    assert_eq!(row.children, Children { open: 2, completed: 1, failed: 0, cancelled: 0 });

    write(ledger, claimed[1].lease, Part::Page(0), inserted(2), at(6)).await.expect("commit");
    end(ledger, claimed[1].lease, failure("no"), at(7)).await;
    let retry = Outcome::Retry { at: at(20), reason: "busy".to_owned() };
    end(ledger, claimed[2].lease, retry, at(8)).await;
    assert_eq!(state(ledger, parent.id).await, State::Active, "a delayed child is open");

    ledger.release(at(20)).await.expect("release");
    complete(ledger, claim_one(ledger, at(21)).await.lease, at(22)).await;
    let row = show(ledger, parent.id).await;
    assert_eq!((row.state, row.cause, row.finished_at), (State::Completed, None, Some(at(22))));
    assert_eq!((row.counts, row.message.as_deref()), (inserted(13), Some("asked")));
    assert_eq!(row.children, Children { open: 0, completed: 2, failed: 1, cancelled: 0 });
}

pub async fn a_waiting_parent_has_no_lease(ledger: &dyn Ledger) {
    let (parent, _) = start_family(ledger, job(), vec![job()], at(0)).await;
    complete(ledger, parent.lease, at(1)).await;
    assert_eq!(show(ledger, parent.id).await.owner, None);
    let stale = Err(LedgerError::Stale(parent.lease));
    assert_eq!(write(ledger, parent.lease, Part::Page(0), inserted(1), at(2)).await, stale);
    assert_eq!(ledger.renew(vec![parent.lease], at(100)).await, Ok(vec![parent.lease]));
    let claimed = claim_all(ledger, at(3)).await;
    assert!(claimed.iter().all(|job| job.id != parent.id), "there is nothing of its own left to do");
}

pub async fn a_parent_may_mind_a_failed_child(ledger: &dyn Ledger) {
    let (parent, children) = start_family(ledger, minding(), vec![job(), job()], at(0)).await;
    complete(ledger, parent.lease, at(1)).await;
    let claimed = claim_all(ledger, at(2)).await;
    assert_eq!(claimed.len(), children.len());
    end(ledger, claimed[0].lease, failure("no"), at(3)).await;
    assert_eq!(state(ledger, parent.id).await, State::Active, "not before all have ended");
    complete(ledger, claimed[1].lease, at(4)).await;
    let row = show(ledger, parent.id).await;
    assert_eq!((row.state, row.cause, row.finished_at), (State::Failed, Some(FailCause::Child), Some(at(4))));
}

/// The child has failed before the parent's own work is done.
pub async fn a_parent_minds_an_early_failure_too(ledger: &dyn Ledger) {
    let (parent, _) = start_family(ledger, minding(), vec![job()], at(0)).await;
    end(ledger, claim_one(ledger, at(1)).await.lease, failure("no"), at(2)).await;
    let row = show(ledger, parent.id).await;
    assert_eq!((row.state, row.owner.is_some()), (State::Active, true), "its own work goes on");
    complete(ledger, parent.lease, at(3)).await;
    let row = show(ledger, parent.id).await;
    assert_eq!((row.state, row.cause), (State::Failed, Some(FailCause::Child)));
}

pub async fn ends_cascade_to_grandparents(ledger: &dyn Ledger) {
    let (top, _) = start_family(ledger, minding(), vec![minding()], at(0)).await;
    write(ledger, top.lease, Part::Page(0), inserted(100), at(1)).await.expect("commit");
    complete(ledger, top.lease, at(1)).await;
    let middle = claim_one(ledger, at(2)).await;
    adopt(ledger, middle.lease, vec![job()], at(3)).await;
    write(ledger, middle.lease, Part::Page(0), inserted(20), at(3)).await.expect("commit");
    complete(ledger, middle.lease, at(4)).await;
    let leaf = claim_one(ledger, at(5)).await;
    write(ledger, leaf.lease, Part::Page(0), inserted(3), at(6)).await.expect("commit");
    for id in [top.id, middle.id] {
        assert_eq!(state(ledger, id).await, State::Active);
    }
    end(ledger, leaf.lease, failure("no"), at(7)).await;
    for (id, counts) in [(top.id, 123), (middle.id, 23), (leaf.id, 3)] {
        let row = show(ledger, id).await;
        assert_eq!((row.state, row.finished_at, row.counts), (State::Failed, Some(at(7)), inserted(counts)));
    }
}

pub async fn a_taken_child_is_skipped(ledger: &dyn Ledger) {
    let keyed = || job().unique("image", UniqueScope::UntilCompleted);
    let other = put(ledger, keyed().priority(9), at(0)).await;
    let parent = put(ledger, job(), at(0)).await;
    let parent = {
        let claimed = ledger.claim(claim_of(&[(KIND, 1)], 1, at(1))).await.expect("claim");
        assert_eq!(claimed.iter().map(|job| job.id).collect::<Vec<_>>(), [parent], "priority goes first");
        claimed[0].clone()
    };
    let children = adopt(ledger, parent.lease, vec![keyed(), job()], at(2)).await;
    assert_eq!(children.len(), 1, "one of the two has a key that is taken");
    assert_eq!(show(ledger, other).await.parent, None, "it is not adopted");
    complete(ledger, parent.lease, at(3)).await;
    let claimed = claim_all(ledger, at(4)).await;
    let child = claimed.iter().find(|job| job.id == children[0]).expect("the child is waiting");
    complete(ledger, child.lease, at(5)).await;
    assert_eq!(state(ledger, parent.id).await, State::Completed, "it does not wait for the other");
}

/// `counts` are those of the descendants as they are now, not as they were each time one of them ended.
pub async fn a_retried_child_counts_once(ledger: &dyn Ledger) {
    let (parent, children) = start_family(ledger, job(), vec![job(), job()], at(0)).await;
    complete(ledger, parent.lease, at(1)).await;
    let [first, second] = &claim_all(ledger, at(2)).await[..] else { panic!("two children: {children:?}") };
    write(ledger, first.lease, Part::Page(0), inserted(5), at(3)).await.expect("commit");
    end(ledger, first.lease, failure("no"), at(4)).await;
    ledger.change(first.id, Change::Retry, at(5)).await.expect("retry");
    assert_eq!(show(ledger, parent.id).await.children.open, 2, "a retried child is open again");
    let again = claim_one(ledger, at(6)).await;
    write(ledger, again.lease, Part::Page(1), inserted(3), at(7)).await.expect("commit");
    complete(ledger, again.lease, at(8)).await;
    complete(ledger, second.lease, at(9)).await;
    let row = show(ledger, parent.id).await;
    assert_eq!((row.state, row.counts), (State::Completed, inserted(8)));
    assert_eq!(row.children, Children { open: 0, completed: 2, failed: 0, cancelled: 0 });
}
