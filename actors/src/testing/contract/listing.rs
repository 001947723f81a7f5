//! Promises of `jobs` and `stats`.

use serde_json::json;

use super::{DOMAIN, KIND, adopt, at, claim_of, claim_one, complete, end, failure, job, put, start, start_family};
use crate::job::{JobId, NewJob, Outcome, State};
use crate::ledger::{Claim, Filter, KindStats, Ledger};

async fn ids(ledger: &dyn Ledger, filter: Filter) -> Vec<JobId> {
    ledger.jobs(filter).await.expect("jobs").iter().map(|job| job.id).collect()
}

pub async fn listings_are_filtered(ledger: &dyn Ledger) {
    let (parent, children) = start_family(ledger, job(), vec![job(), job()], at(0)).await;
    end(ledger, parent.lease, failure("no"), at(1)).await;
    let two = put(ledger, NewJob::new(DOMAIN, "alpha.two", json!({})).run_at(at(50)), at(2)).await;
    let beta = put(ledger, NewJob::new("beta", "beta.one", json!({})), at(3)).await;
    let all = [beta, two, children[1], children[0], parent.id];
    let none = Filter::default;
    let cases = [
        (none(), all.to_vec()),
        (Filter { domain: Some("beta".to_owned()), ..none() }, vec![beta]),
        (Filter { kind: Some(KIND.to_owned()), ..none() }, all[2..].to_vec()),
        (Filter { states: vec![State::Delayed, State::Failed], ..none() }, vec![two, parent.id]),
        (Filter { parent: Some(parent.id), ..none() }, all[2..4].to_vec()),
        (Filter { ids: vec![parent.id, beta, JobId(9_999)], ..none() }, vec![beta, parent.id]),
        (Filter { states: vec![State::Waiting], domain: Some(DOMAIN.to_owned()), ..none() }, all[2..4].to_vec()),
        (Filter { domain: Some("nobody".to_owned()), ..none() }, vec![]),
    ];
    for (filter, expected) in cases {
        let said = format!("{filter:?}");
        assert_eq!(ids(ledger, filter).await, expected, "{said}");
    }
    let rows = ledger.jobs(Filter { ids: vec![parent.id, beta], ..none() }).await.expect("jobs");
    assert!(rows.iter().all(|row| row.history.is_empty()), "history is for one job alone");
}

pub async fn listings_have_pages(ledger: &dyn Ledger) {
    ledger.enqueue(vec![job(); 60], at(0)).await.expect("enqueue");
    let first = ids(ledger, Filter::default()).await;
    assert_eq!(first.len(), 50, "0 means 50");
    assert!(first.windows(2).all(|pair| pair[0] > pair[1]), "newest first");
    let next = Filter { before: first.last().copied(), ..Filter::default() };
    let second = ids(ledger, next).await;
    assert_eq!(second.len(), 10);
    assert!(second.iter().all(|id| id < &first[49]), "`before` itself is not in the next page");
    let short = Filter { before: Some(first[0]), limit: 3, ..Filter::default() };
    assert_eq!(ids(ledger, short).await, first[1..4]);
    assert_eq!(ids(ledger, Filter { limit: 100, ..Filter::default() }).await.len(), 60);
}

/// Children and grandchildren alike, the ended ones included, and nobody else's.
pub async fn families_are_counted_by_kind(ledger: &dyn Ledger) {
    let two = || NewJob::new(DOMAIN, "alpha.two", json!({}));
    let (parent, _) = start_family(ledger, job(), vec![job(), two(), two()], at(0)).await;
    let child = claim_one(ledger, at(1)).await;
    adopt(ledger, child.lease, vec![two()], at(2)).await;
    put(ledger, job(), at(3)).await;
    let claim = claim_of(&[("alpha.two", 1)], 1, at(4));
    let first = ledger.claim(claim).await.expect("claim").remove(0);
    end(ledger, first.lease, failure("no"), at(5)).await;
    let mut family = ledger.family(parent.id).await.expect("family");
    family.sort_by(|a, b| a.kind.cmp(&b.kind));
    let seen: Vec<_> = family.iter().map(|kind| (&*kind.kind, kind.active, kind.waiting, kind.failed)).collect();
    assert_eq!(seen, [(KIND, 1, 0, 0), ("alpha.two", 0, 2, 1)]);
    assert_eq!(family.iter().map(KindStats::total).collect::<Vec<_>>(), [1, 3]);
    let of_child = ledger.family(child.id).await.expect("family");
    assert_eq!(of_child.iter().map(|kind| (&*kind.kind, kind.total())).collect::<Vec<_>>(), [("alpha.two", 1)]);
    assert!(ledger.family(first.id).await.expect("family").is_empty());
}

pub async fn stats_count_the_states(ledger: &dyn Ledger) {
    let outcomes = [
        Outcome::Completed { note: None },
        failure("no"),
        Outcome::Cancelled { reason: "enough".to_owned() },
        Outcome::Retry { at: at(500), reason: "busy".to_owned() },
    ];
    for outcome in outcomes {
        let claimed = start(ledger, job(), at(0)).await;
        end(ledger, claimed.lease, outcome, at(1)).await;
    }
    let (parent, _) = start_family(ledger, job(), vec![job(), job()], at(2)).await;
    complete(ledger, parent.lease, at(3)).await;
    ledger.enqueue(vec![NewJob::new("beta", KIND, json!({})); 3], at(4)).await.expect("enqueue");
    let claim = Claim { domain: "beta".into(), ..claim_of(&[(KIND, 1)], 1, at(5)) };
    assert_eq!(ledger.claim(claim).await.expect("claim").len(), 1);

    let stats = ledger.stats().await.expect("stats");
    let mut seen: Vec<_> = (stats.kinds.iter())
        .filter(|kind| State::ALL.iter().any(|state| kind.count(*state) > 0))
        .map(|kind| (kind.domain.as_str(), kind.kind.as_str(), State::ALL.map(|state| kind.count(state))))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [(DOMAIN, KIND, [2, 1, 1, 1, 1, 1]), ("beta", KIND, [2, 0, 1, 0, 0, 0])]);
    assert_eq!(State::ALL.map(|state| stats.total(state)), [4, 1, 2, 1, 1, 1]);
    assert_eq!(stats.stale_writes, 0);
}
