//! Promises of `rescue`: what a dead owner held is waiting again, and nothing else is touched.

use std::time::Duration;

use serde_json::json;

use super::{
    DOMAIN, KIND, OWNER, at, claim_of, claim_one, complete, job, put, show, start, start_family, state, write,
};
use crate::checkpoint::{Counts, Part};
use crate::job::{NewJob, State};
use crate::ledger::{Claim, Ledger, LedgerError, Rescue};

pub async fn rescue_gives_back_what_others_held(ledger: &dyn Ledger) {
    let dead = start(ledger, job(), at(0)).await;
    write(ledger, dead.lease, Part::Page(0), super::inserted(4), at(1)).await.expect("commit");
    ledger.record_crash(dead.lease, "panic".to_owned(), at(1)).await.expect("crash");
    let mine = put(ledger, job(), at(1)).await;
    let claim = Claim { owner: "process-2/1".into(), ..claim_of(&[(KIND, 1)], 1, at(2)) };
    assert_eq!(ledger.claim(claim).await.expect("claim").len(), 1);
    let foreign = put(ledger, NewJob::new("beta", "beta.one", json!({})), at(1)).await;
    let claim = Claim { domain: "beta".into(), ..claim_of(&[("beta.one", 1)], 1, at(2)) };
    assert_eq!(ledger.claim(claim).await.expect("claim").len(), 1);

    let rescue = || Rescue::Domain { domain: DOMAIN.into(), but: "process-2/1".into() };
    assert_eq!(ledger.rescue(rescue()).await, Ok(1));
    assert_eq!(ledger.rescue(rescue()).await, Ok(0), "there is no more to give back");
    for (id, expected) in [(dead.id, State::Waiting), (mine, State::Active), (foreign, State::Active)] {
        assert_eq!(state(ledger, id).await, expected, "job {id}");
    }
    let row = show(ledger, dead.id).await;
    assert_eq!((row.attempt, row.crashes, row.owner), (0, 1, None), "no attempt is burnt, crashes stay");
    assert_eq!(row.history.last().map(|attempt| attempt.outcome.as_str()), Some("rescued"));
    let write_late = write(ledger, dead.lease, Part::Page(1), Counts::default(), at(3)).await;
    assert_eq!(write_late, Err(LedgerError::Stale(dead.lease)), "the dead cannot write");
    let again = claim_one(ledger, at(4)).await;
    assert_eq!((again.id, again.attempt, again.crashes, again.checkpoint.prefix), (dead.id, 1, 1, 1));
    assert!(again.lease.fence > dead.lease.fence);
}

pub async fn rescue_gives_back_lapsed_leases(ledger: &dyn Ledger) {
    let mut ids = Vec::new();
    for (domain, millis) in [(DOMAIN, 100), ("beta", 100), (DOMAIN, 300)] {
        ids.push(put(ledger, NewJob::new(domain, KIND, json!({})), at(0)).await);
        let until = at(millis);
        let claim = Claim { domain: domain.into(), until, ..claim_of(&[(KIND, 1)], 1, at(0)) };
        assert_eq!(ledger.claim(claim).await.expect("claim").len(), 1);
    }
    assert_eq!(ledger.rescue(Rescue::Lapsed { now: at(99) }).await, Ok(0));
    assert_eq!(ledger.rescue(Rescue::Lapsed { now: at(101) }).await, Ok(2), "of any domain");
    for (id, expected) in ids.into_iter().zip([State::Waiting, State::Waiting, State::Active]) {
        let row = show(ledger, id).await;
        assert_eq!((row.state, row.attempt), (expected, u32::from(expected == State::Active)));
    }
}

/// A parent that only waits for its children has no owner that could be dead.
pub async fn rescue_leaves_waiting_parents(ledger: &dyn Ledger) {
    let (parent, children) = start_family(ledger, job(), vec![job()], at(0)).await;
    complete(ledger, parent.lease, at(1)).await;
    let far = at(0).plus(Duration::from_secs(1_000_000));
    assert_eq!(ledger.rescue(Rescue::Lapsed { now: far }).await, Ok(0));
    assert_eq!(ledger.rescue(Rescue::Domain { domain: DOMAIN.into(), but: "new/1".into() }).await, Ok(0));
    assert_eq!(state(ledger, parent.id).await, State::Active);
    let child = claim_one(ledger, at(2)).await;
    assert_eq!(child.id, children[0]);
    assert_eq!(show(ledger, child.id).await.owner.as_deref(), Some(OWNER));
    complete(ledger, child.lease, at(3)).await;
    assert_eq!(state(ledger, parent.id).await, State::Completed);
}
