//! Promises of `enqueue`: ids, what a new job looks like, unique keys.

use std::time::Duration;

use serde_json::json;

use super::{DOMAIN, KIND, at, claim_of, claim_one, complete, end, failure, job, put, show};
use crate::job::{NewJob, Outcome, State, UniqueScope};
use crate::ledger::{Enqueued, Ledger};

pub async fn ids_grow(ledger: &dyn Ledger) {
    let first = ledger.enqueue(vec![job(), job(), job()], at(0)).await.expect("enqueue");
    let second = ledger.enqueue(vec![job()], at(1)).await.expect("enqueue");
    let all: Vec<_> = first.iter().chain(&second).collect();
    assert!(all.iter().all(|answer| matches!(answer, Enqueued::New(_))), "none has a key: {all:?}");
    assert!(all.windows(2).all(|pair| pair[0].id() < pair[1].id()), "answers in order, ids growing: {all:?}");
    assert_eq!(ledger.enqueue(Vec::new(), at(2)).await, Ok(Vec::new()));
}

pub async fn enqueued_jobs_stand_as_asked(ledger: &dyn Ledger) {
    let wanted = NewJob::new(DOMAIN, KIND, json!({"deep": [1, null, "ü"]})).priority(-7);
    let id = put(ledger, wanted.unique("key", UniqueScope::UntilCompleted), at(5)).await;
    let row = show(ledger, id).await;
    assert_eq!((row.domain.as_str(), row.kind.as_str()), (DOMAIN, KIND));
    assert_eq!(row.params, json!({"deep": [1, null, "ü"]}));
    assert_eq!((row.state, row.priority, row.enqueued_at), (State::Waiting, -7, at(5)));
    assert_eq!(row.unique_key.as_deref(), Some("key"));
    assert_eq!((row.attempt, row.crashes, row.parent), (0, 0, None));
    assert_eq!((row.started_at, row.finished_at, row.owner), (None, None, None));
    assert_eq!((row.checkpoint, row.counts), Default::default());
    assert_eq!((row.message, row.cause), (None, None));

    let parent = id;
    let child = NewJob { parent: Some(parent), ..job().run_at(at(100)) };
    let row = show(ledger, put(ledger, child, at(6)).await).await;
    assert_eq!((row.state, row.run_at, row.parent), (State::Delayed, at(100), Some(parent)));
    assert_eq!(show(ledger, parent).await.children.open, 1);
}

/// Whether there is a handler is not for the ledger to know.
pub async fn unknown_kinds_wait(ledger: &dyn Ledger) {
    let stranger = put(ledger, NewJob::new("nobody", "nobody.knows", json!(null)), at(0)).await;
    let kind = put(ledger, NewJob::new(DOMAIN, "alpha.unknown", json!({})), at(0)).await;
    assert!(ledger.claim(claim_of(&[(KIND, 9)], 9, at(1))).await.expect("claim").is_empty());
    for id in [stranger, kind] {
        assert_eq!(show(ledger, id).await.state, State::Waiting);
    }
    let claimed = ledger.claim(claim_of(&[("alpha.unknown", 1)], 9, at(2))).await.expect("claim");
    assert_eq!(claimed.iter().map(|job| job.id).collect::<Vec<_>>(), [kind], "known by now");
}

async fn again(ledger: &dyn Ledger, scope: UniqueScope, millis: i64) -> Enqueued {
    let answers = ledger.enqueue(vec![job().unique("key", scope)], at(millis)).await.expect("enqueue");
    assert_eq!(answers.len(), 1);
    answers[0]
}

pub async fn a_key_until_started(ledger: &dyn Ledger) {
    let scope = UniqueScope::UntilStarted;
    let first = put(ledger, job().unique("key", scope), at(0)).await;
    assert_eq!(again(ledger, scope, 1).await, Enqueued::Existing(first));
    assert_eq!(claim_one(ledger, at(2)).await.id, first);
    let second = again(ledger, scope, 3).await;
    assert!(matches!(second, Enqueued::New(id) if id > first), "the first one has started: {second:?}");
    assert_eq!(again(ledger, scope, 4).await, Enqueued::Existing(second.id()));
}

pub async fn a_key_until_completed(ledger: &dyn Ledger) {
    let scope = UniqueScope::UntilCompleted;
    let outcomes =
        [Outcome::Completed { note: None }, failure("no"), Outcome::Cancelled { reason: "enough".to_owned() }];
    for outcome in outcomes {
        let first = put(ledger, job().unique("key", scope), at(0)).await;
        let claimed = claim_one(ledger, at(1)).await;
        assert_eq!(again(ledger, scope, 2).await, Enqueued::Existing(first), "it is active");
        let retry = Outcome::Retry { at: at(10), reason: "busy".to_owned() };
        end(ledger, claimed.lease, retry, at(3)).await;
        assert_eq!(again(ledger, scope, 4).await, Enqueued::Existing(first), "it is delayed");
        ledger.release(at(10)).await.expect("release");
        let claimed = claim_one(ledger, at(11)).await;
        end(ledger, claimed.lease, outcome.clone(), at(12)).await;
        let second = again(ledger, scope, 13).await;
        assert!(matches!(second, Enqueued::New(_)), "the first one is {}: {second:?}", outcome.as_str());
        complete(ledger, claim_one(ledger, at(14)).await.lease, at(15)).await;
    }
}

pub async fn a_key_for_a_span(ledger: &dyn Ledger) {
    let scope = UniqueScope::For(Duration::from_millis(100));
    let first = put(ledger, job().unique("key", scope), at(0)).await;
    complete(ledger, claim_one(ledger, at(1)).await.lease, at(2)).await;
    assert_eq!(again(ledger, scope, 99).await, Enqueued::Existing(first), "whatever became of it");
    let second = again(ledger, scope, 101).await;
    assert!(matches!(second, Enqueued::New(_)), "the span is over: {second:?}");
    assert_eq!(again(ledger, scope, 200).await, Enqueued::Existing(second.id()), "a span of its own");
}

pub async fn a_key_within_one_call(ledger: &dyn Ledger) {
    let twin = || job().unique("twin", UniqueScope::UntilCompleted);
    let answers = ledger.enqueue(vec![twin(), job(), twin()], at(0)).await.expect("enqueue");
    let [Enqueued::New(first), Enqueued::New(_), Enqueued::Existing(second)] = answers[..] else {
        panic!("the third has the first one's key: {answers:?}");
    };
    assert_eq!(first, second);
}
