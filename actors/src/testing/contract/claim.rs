//! Promises of `claim` and `renew`: order, room, leases and fences.

use std::time::Duration;

use serde_json::json;

use super::{DOMAIN, KIND, OWNER, at, claim_all, claim_of, claim_one, complete, end, job, put, show, start};
use crate::checkpoint::Checkpoint;
use crate::job::{JobId, Lease, NewJob, Outcome, State};
use crate::ledger::{Ledger, Rescue};

pub async fn claims_go_by_priority_then_age(ledger: &dyn Ledger) {
    let mut ids = Vec::new();
    for priority in [5, 0, -3, 0, 5, -3] {
        ids.push(put(ledger, job().priority(priority), at(0)).await);
    }
    let by_priority = [2, 5, 1, 3, 0, 4].map(|index: usize| ids[index]);
    let first = ledger.claim(claim_of(&[(KIND, 100)], 4, at(1))).await.expect("claim");
    let rest = ledger.claim(claim_of(&[(KIND, 100)], 4, at(2))).await.expect("claim");
    assert_eq!(first.len(), 4, "at most `max`");
    let order: Vec<JobId> = first.iter().chain(&rest).map(|job| job.id).collect();
    assert_eq!(order, by_priority);
}

pub async fn claims_keep_to_the_room(ledger: &dyn Ledger) {
    let kinds = ["alpha.one", "alpha.one", "alpha.one", "alpha.two", "alpha.two", "alpha.shut", "alpha.unlisted"];
    for kind in kinds {
        put(ledger, NewJob::new(DOMAIN, kind, json!({})), at(0)).await;
    }
    put(ledger, NewJob::new("beta", "alpha.one", json!({})), at(0)).await;
    let claim = claim_of(&[("alpha.one", 2), ("alpha.two", 5), ("alpha.shut", 0)], 10, at(1));
    let claimed = ledger.claim(claim).await.expect("claim");
    let mut kinds: Vec<&str> = claimed.iter().map(|job| &*job.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["alpha.one", "alpha.one", "alpha.two", "alpha.two"]);
    assert!(claimed.iter().all(|job| &*job.domain == DOMAIN));
    assert!(ledger.claim(claim_of(&[(KIND, 5)], 0, at(2))).await.expect("claim").is_empty(), "no room at all");
}

pub async fn a_claim_gives_the_lease(ledger: &dyn Ledger) {
    let id = put(ledger, NewJob::new(DOMAIN, KIND, json!({"page": 3})), at(0)).await;
    let claimed = claim_one(ledger, at(7)).await;
    assert_eq!((claimed.id, claimed.lease.job, &*claimed.domain, &*claimed.kind), (id, id, DOMAIN, KIND));
    assert_eq!((claimed.attempt, claimed.crashes, claimed.parent), (1, 0, None));
    assert_eq!((claimed.params, claimed.enqueued_at), (json!({"page": 3}), at(0)));
    assert_eq!(claimed.checkpoint, Checkpoint::default());
    let row = show(ledger, id).await;
    assert_eq!((row.state, row.attempt, row.started_at), (State::Active, 1, Some(at(7))));
    assert_eq!((row.owner.as_deref(), row.fence), (Some(OWNER), claimed.lease.fence));
}

pub async fn a_job_is_claimed_once(ledger: &dyn Ledger) {
    for _ in 0..20 {
        put(ledger, job(), at(0)).await;
    }
    let claims = (0..8).map(|_| ledger.claim(claim_of(&[(KIND, 3)], 3, at(1))));
    let claimed = futures::future::try_join_all(claims).await.expect("claim");
    let mut ids: Vec<JobId> = claimed.into_iter().flatten().map(|job| job.id).collect();
    assert_eq!(ids.len(), 20, "eight claims of three at the same time take all there are");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20, "and none twice");
}

pub async fn fences_grow(ledger: &dyn Ledger) {
    let mut lease = start(ledger, job(), at(0)).await.lease;
    for round in 1..6 {
        match round % 3 {
            0 => end(ledger, lease, Outcome::Interrupted, at(round * 10)).await,
            1 => {
                let retry = Outcome::Retry { at: at(round * 10), reason: "again".to_owned() };
                end(ledger, lease, retry, at(round * 10)).await;
                ledger.release(at(round * 10)).await.expect("release");
            }
            _ => {
                let rescue = Rescue::Domain { domain: DOMAIN.into(), but: "process-2/1".into() };
                assert_eq!(ledger.rescue(rescue).await, Ok(1));
            }
        }
        let next = claim_one(ledger, at(round * 10 + 1)).await.lease;
        assert!(next.fence > lease.fence, "{next:?} comes after {lease:?}");
        lease = next;
    }
}

pub async fn renew_answers_the_lost(ledger: &dyn Ledger) {
    put(ledger, job(), at(0)).await;
    put(ledger, job(), at(0)).await;
    let jobs = claim_all(ledger, at(0)).await;
    let [held, ended] = [jobs[0].lease, jobs[1].lease];
    complete(ledger, ended, at(1)).await;
    let other = Lease { fence: held.fence + 1, ..held };
    let missing = Lease { job: JobId(ended.job.0 + 1_000), fence: 1 };
    let until = at(200_000);
    let mut lost = ledger.renew(vec![ended, held, other, missing], until).await.expect("renew");
    lost.sort_by_key(|lease| (lease.job, lease.fence));
    assert_eq!(lost, [other, ended, missing]);

    let lapsed = |millis| Rescue::Lapsed { now: at(millis) };
    let before = until.minus(Duration::from_millis(1));
    assert_eq!(ledger.rescue(Rescue::Lapsed { now: before }).await, Ok(0), "the lease was lengthened");
    assert_eq!(ledger.rescue(lapsed(200_001)).await, Ok(1));
    assert_eq!(ledger.renew(vec![held], at(300_000)).await, Ok(vec![held]), "it was given back");
}
