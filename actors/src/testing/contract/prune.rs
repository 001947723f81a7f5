//! Promises of `prune`: by age, by count, by bytes, in batches, and never a part of an open family.

use std::time::Duration;

use serde_json::json;

use super::{DOMAIN, KIND, at, complete, end, failure, job, put, start, start_family, state};
use crate::job::{JobId, NewJob, Outcome, State};
use crate::ledger::{Filter, Ledger, Retention};

/// Keeps everything.
const KEEP: Retention = Retention {
    completed_for: Duration::from_secs(1_000_000),
    completed_max: 1_000_000,
    failed_for: Duration::from_secs(1_000_000),
    failed_max: 1_000_000,
    bytes_max: 1_000_000_000,
    batch: 100,
};

fn cancelled() -> Outcome {
    Outcome::Cancelled { reason: "enough".to_owned() }
}

/// Puts a job in and ends it at this instant.
async fn ended(ledger: &dyn Ledger, outcome: Outcome, millis: i64) -> JobId {
    let claimed = start(ledger, job(), at(millis)).await;
    end(ledger, claimed.lease, outcome, at(millis)).await;
    claimed.id
}

fn completed() -> Outcome {
    Outcome::Completed { note: None }
}

/// Prunes to the end; answers how many went.
async fn prune(ledger: &dyn Ledger, retention: Retention, millis: i64) -> u64 {
    let mut jobs = 0;
    loop {
        let pruned = ledger.prune(retention, at(millis)).await.expect("prune");
        assert!(pruned.jobs <= retention.batch as u64, "at most a batch in one call: {pruned:?}");
        assert!(pruned.jobs > 0 || !pruned.more, "a call that leaves more has done something");
        jobs += pruned.jobs;
        if !pruned.more {
            return jobs;
        }
    }
}

/// The ids that are left, oldest first.
async fn left(ledger: &dyn Ledger) -> Vec<JobId> {
    let jobs = ledger.jobs(Filter { limit: 1_000, ..Filter::default() }).await.expect("jobs");
    jobs.iter().rev().map(|job| job.id).collect()
}

pub async fn prune_goes_by_age(ledger: &dyn Ledger) {
    let mut ids = Vec::new();
    for (outcome, millis) in
        [(completed(), 0), (completed(), 100), (failure("no"), 0), (failure("no"), 100), (cancelled(), 0)]
    {
        ids.push(ended(ledger, outcome, millis).await);
    }
    let waiting = put(ledger, job(), at(0)).await;
    let delayed = put(ledger, job().run_at(at(50)), at(0)).await;
    let span = Duration::from_millis(50);
    let short = Retention { completed_for: span, failed_for: span * 4, ..KEEP };
    assert_eq!(prune(ledger, KEEP, 10_000).await, 0);
    assert_eq!(prune(ledger, short, 40).await, 0, "all are younger");
    assert_eq!(prune(ledger, short, 120).await, 1, "one completed is older");
    assert_eq!(left(ledger).await, [ids[1], ids[2], ids[3], ids[4], waiting, delayed]);
    assert_eq!(prune(ledger, short, 220).await, 3, "the other completed, a failed and a cancelled");
    assert_eq!(left(ledger).await, [ids[3], waiting, delayed]);
    assert_eq!(prune(ledger, short, 1_000_000).await, 1, "what has not ended stays");
    assert_eq!(left(ledger).await, [waiting, delayed]);
    let stats = ledger.stats().await.expect("stats");
    assert_eq!(State::ALL.map(|state| stats.total(state)), [1, 1, 0, 0, 0, 0], "pruned jobs are counted out");
}

pub async fn prune_goes_by_count(ledger: &dyn Ledger) {
    let mut ids = Vec::new();
    for (outcome, millis) in
        [(completed(), 3), (failure("no"), 4), (completed(), 5), (cancelled(), 6), (completed(), 7), (failure("no"), 8)]
    {
        ids.push(ended(ledger, outcome, millis).await);
    }
    assert_eq!(prune(ledger, Retention { completed_max: 3, failed_max: 3, ..KEEP }, 10).await, 0);
    assert_eq!(prune(ledger, Retention { completed_max: 1, failed_max: 2, ..KEEP }, 10).await, 3);
    assert_eq!(left(ledger).await, [ids[3], ids[4], ids[5]], "the oldest of each go first");
}

pub async fn prune_goes_by_bytes(ledger: &dyn Ledger) {
    let mut ids = Vec::new();
    for millis in 0..8 {
        let big = NewJob::new(DOMAIN, KIND, json!("x".repeat(1_000)));
        let claimed = start(ledger, big, at(millis)).await;
        let outcome = if millis % 2 == 0 { completed() } else { failure("no") };
        end(ledger, claimed.lease, outcome, at(millis)).await;
        ids.push(claimed.id);
    }
    put(ledger, NewJob::new(DOMAIN, KIND, json!("x".repeat(9_000))), at(9)).await;
    assert_eq!(prune(ledger, Retention { bytes_max: 9_000, ..KEEP }, 10).await, 0, "waiting jobs do not count");
    assert_eq!(prune(ledger, Retention { bytes_max: 3_500, ..KEEP }, 10).await, 5);
    assert_eq!(left(ledger).await[..3], ids[5..], "three of a thousand bytes are left, the youngest");
}

pub async fn prune_goes_in_batches(ledger: &dyn Ledger) {
    for millis in 0..5 {
        ended(ledger, completed(), millis).await;
    }
    let none = Retention { completed_max: 0, batch: 2, ..KEEP };
    let first = ledger.prune(none, at(10)).await.expect("prune");
    assert_eq!((first.jobs, first.more), (2, true));
    assert_eq!(prune(ledger, none, 10).await, 3);
    assert_eq!(left(ledger).await, []);
}

pub async fn prune_keeps_open_families(ledger: &dyn Ledger) {
    let old = Retention { completed_for: Duration::ZERO, failed_for: Duration::ZERO, ..KEEP };
    let (parent, _) = start_family(ledger, job(), vec![job(), job()], at(0)).await;
    let [first, second] = &super::claim_all(ledger, at(1)).await[..] else { panic!("two children") };
    complete(ledger, first.lease, at(2)).await;
    assert_eq!(prune(ledger, old, 1_000).await, 0, "its parent is open");
    end(ledger, parent.lease, failure("no"), at(3)).await;
    assert_eq!(state(ledger, parent.id).await, State::Failed);
    assert_eq!(prune(ledger, Retention { completed_for: KEEP.completed_for, ..old }, 1_000).await, 0);
    assert_eq!(state(ledger, parent.id).await, State::Failed, "a child is open");
    complete(ledger, second.lease, at(4)).await;
    assert_eq!(prune(ledger, old, 1_000).await, 3);
    assert_eq!(left(ledger).await, []);
}
