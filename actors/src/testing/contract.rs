//! The promises of a ledger, as a suite that every implementation runs.
//!
//! ```text
//! all(factory) ──▶ for each promise: a fresh ledger ──▶ calls of the trait alone ──▶ what it must answer
//! ```
//!
//! A promise is a plain `async fn(&dyn Ledger)` that panics when it is not kept; [`all`] runs every one of them, each
//! on a ledger of its own, and names those that failed. Instants are arguments, so nothing here waits for a clock;
//! only a missing wake-up is waited for, and then reported.
//!
//! What it does not do: look at anything the trait does not show (rejects, `sync_state`), and prove durability, which
//! takes the death of a process.

mod change;
mod claim;
mod enqueue;
mod family;
mod listing;
mod prune;
mod record;
mod rescue;
mod wake;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde_json::json;

use crate::checkpoint::{Counts, Part};
use crate::clock::Timestamp;
use crate::job::{Job, JobId, Lease, NewJob, Outcome, State};
use crate::ledger::{Claim, Enqueued, Filter, JobRecord, Ledger, LedgerError, Receipt, Record};

pub use change::*;
pub use claim::*;
pub use enqueue::*;
pub use family::*;
pub use listing::*;
pub use prune::*;
pub use record::*;
pub use rescue::*;
pub use wake::*;

/// A promise: its name, and the function that holds a fresh ledger to it.
pub type Promise = (&'static str, for<'a> fn(&'a dyn Ledger) -> LocalBoxFuture<'a, ()>);

/// Every promise there is.
pub const PROMISES: &[Promise] = &[
    ("ids_grow", |ledger| ids_grow(ledger).boxed_local()),
    ("enqueued_jobs_stand_as_asked", |ledger| enqueued_jobs_stand_as_asked(ledger).boxed_local()),
    ("unknown_kinds_wait", |ledger| unknown_kinds_wait(ledger).boxed_local()),
    ("a_key_until_started", |ledger| a_key_until_started(ledger).boxed_local()),
    ("a_key_until_completed", |ledger| a_key_until_completed(ledger).boxed_local()),
    ("a_key_for_a_span", |ledger| a_key_for_a_span(ledger).boxed_local()),
    ("a_key_within_one_call", |ledger| a_key_within_one_call(ledger).boxed_local()),
    ("claims_go_by_priority_then_age", |ledger| claims_go_by_priority_then_age(ledger).boxed_local()),
    ("claims_keep_to_the_room", |ledger| claims_keep_to_the_room(ledger).boxed_local()),
    ("a_claim_gives_the_lease", |ledger| a_claim_gives_the_lease(ledger).boxed_local()),
    ("a_job_is_claimed_once", |ledger| a_job_is_claimed_once(ledger).boxed_local()),
    ("fences_grow", |ledger| fences_grow(ledger).boxed_local()),
    ("renew_answers_the_lost", |ledger| renew_answers_the_lost(ledger).boxed_local()),
    ("a_commit_moves_the_checkpoint", |ledger| a_commit_moves_the_checkpoint(ledger).boxed_local()),
    ("a_commit_told_twice_counts_once", |ledger| a_commit_told_twice_counts_once(ledger).boxed_local()),
    ("what_tries_ran_adds_up", |ledger| what_tries_ran_adds_up(ledger).boxed_local()),
    ("stale_writes_are_refused_and_counted", |ledger| stale_writes_are_refused_and_counted(ledger).boxed_local()),
    ("every_outcome_has_its_state", |ledger| every_outcome_has_its_state(ledger).boxed_local()),
    ("only_tries_that_count_burn_attempts", |ledger| only_tries_that_count_burn_attempts(ledger).boxed_local()),
    ("crashes_are_counted_apart", |ledger| crashes_are_counted_apart(ledger).boxed_local()),
    ("history_tells_the_tries", |ledger| history_tells_the_tries(ledger).boxed_local()),
    ("a_delayed_job_is_released_when_due", |ledger| a_delayed_job_is_released_when_due(ledger).boxed_local()),
    ("a_parent_ends_with_its_last_child", |ledger| a_parent_ends_with_its_last_child(ledger).boxed_local()),
    ("a_waiting_parent_has_no_lease", |ledger| a_waiting_parent_has_no_lease(ledger).boxed_local()),
    ("a_parent_may_mind_a_failed_child", |ledger| a_parent_may_mind_a_failed_child(ledger).boxed_local()),
    ("a_parent_minds_an_early_failure_too", |ledger| a_parent_minds_an_early_failure_too(ledger).boxed_local()),
    ("ends_cascade_to_grandparents", |ledger| ends_cascade_to_grandparents(ledger).boxed_local()),
    ("a_taken_child_is_skipped", |ledger| a_taken_child_is_skipped(ledger).boxed_local()),
    ("a_retried_child_counts_once", |ledger| a_retried_child_counts_once(ledger).boxed_local()),
    ("rescue_gives_back_what_others_held", |ledger| rescue_gives_back_what_others_held(ledger).boxed_local()),
    ("rescue_gives_back_lapsed_leases", |ledger| rescue_gives_back_lapsed_leases(ledger).boxed_local()),
    ("rescue_leaves_waiting_parents", |ledger| rescue_leaves_waiting_parents(ledger).boxed_local()),
    ("retry_starts_afresh", |ledger| retry_starts_afresh(ledger).boxed_local()),
    ("retry_goes_by_the_state", |ledger| retry_goes_by_the_state(ledger).boxed_local()),
    ("retry_respects_the_key", |ledger| retry_respects_the_key(ledger).boxed_local()),
    ("cancel_goes_by_the_state", |ledger| cancel_goes_by_the_state(ledger).boxed_local()),
    ("cancel_takes_the_descendants", |ledger| cancel_takes_the_descendants(ledger).boxed_local()),
    ("cancel_goes_below_what_has_ended", |ledger| cancel_goes_below_what_has_ended(ledger).boxed_local()),
    ("a_cancelled_child_ends_its_parent", |ledger| a_cancelled_child_ends_its_parent(ledger).boxed_local()),
    ("listings_are_filtered", |ledger| listings_are_filtered(ledger).boxed_local()),
    ("listings_have_pages", |ledger| listings_have_pages(ledger).boxed_local()),
    ("families_are_counted_by_kind", |ledger| families_are_counted_by_kind(ledger).boxed_local()),
    ("stats_count_the_states", |ledger| stats_count_the_states(ledger).boxed_local()),
    ("prune_goes_by_age", |ledger| prune_goes_by_age(ledger).boxed_local()),
    ("prune_goes_by_count", |ledger| prune_goes_by_count(ledger).boxed_local()),
    ("prune_goes_by_bytes", |ledger| prune_goes_by_bytes(ledger).boxed_local()),
    ("prune_goes_in_batches", |ledger| prune_goes_in_batches(ledger).boxed_local()),
    ("prune_keeps_open_families", |ledger| prune_keeps_open_families(ledger).boxed_local()),
    ("work_wakes_its_domain", |ledger| work_wakes_its_domain(ledger).boxed_local()),
    ("an_earlier_due_time_wakes", |ledger| an_earlier_due_time_wakes(ledger).boxed_local()),
    ("a_taken_lease_wakes_its_holder", |ledger| a_taken_lease_wakes_its_holder(ledger).boxed_local()),
];

/// Runs every promise on a ledger of its own from `new`; panics at the end with the names of those not kept.
pub async fn all(new: impl AsyncFn() -> Arc<dyn Ledger>) {
    let mut broken = Vec::new();
    for (name, promise) in PROMISES {
        let ledger = new().await;
        if let Err(panic) = AssertUnwindSafe(promise(&*ledger)).catch_unwind().await {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text");
            broken.push(format!("- {name}: {text}"));
        }
    }
    assert!(broken.is_empty(), "{} promises are not kept:\n{}", broken.len(), broken.join("\n"));
}

/// The domain, the kind and the owner that a promise uses when it does not matter which.
const DOMAIN: &str = "alpha";
const KIND: &str = "alpha.one";
const OWNER: &str = "process-1/1";

/// An instant, in milliseconds from where every promise begins; the year is a plausible one.
fn at(millis: i64) -> Timestamp {
    Timestamp(1_750_000_000_000 + millis)
}

fn job() -> NewJob {
    NewJob::new(DOMAIN, KIND, json!({"page": 1}))
}

/// Puts one job in that must be new.
async fn put(ledger: &dyn Ledger, job: NewJob, now: Timestamp) -> JobId {
    match ledger.enqueue(vec![job], now).await.expect("enqueue").as_slice() {
        [Enqueued::New(id)] => *id,
        other => panic!("one job was put in, and its key is free: {other:?}"),
    }
}

fn claim_of(kinds: &[(&str, usize)], max: usize, now: Timestamp) -> Claim {
    Claim {
        domain: DOMAIN.into(),
        owner: OWNER.into(),
        max,
        kinds: kinds.iter().map(|(kind, room)| ((*kind).into(), *room)).collect(),
        now,
        until: now.plus(Duration::from_secs(60)),
    }
}

/// Claims every waiting job of the usual domain and kind.
async fn claim_all(ledger: &dyn Ledger, now: Timestamp) -> Vec<Job> {
    ledger.claim(claim_of(&[(KIND, 1_000)], 1_000, now)).await.expect("claim")
}

/// Claims the one job that there must be to claim.
async fn claim_one(ledger: &dyn Ledger, now: Timestamp) -> Job {
    let mut jobs = claim_all(ledger, now).await;
    assert_eq!(jobs.len(), 1, "exactly one job is to be claimed, got {jobs:?}");
    jobs.remove(0)
}

/// Puts one job in and claims it.
async fn start(ledger: &dyn Ledger, job: NewJob, now: Timestamp) -> Job {
    let id = put(ledger, job, now).await;
    let claimed = claim_one(ledger, now).await;
    assert_eq!(claimed.id, id);
    claimed
}

/// Starts a job and lets it ask for these children with its plan. The children are waiting.
async fn start_family(ledger: &dyn Ledger, parent: NewJob, children: Vec<NewJob>, now: Timestamp) -> (Job, Vec<JobId>) {
    let parent = start(ledger, parent, now).await;
    let ids = adopt(ledger, parent.lease, children, now).await;
    (parent, ids)
}

/// Commits the plan of an active job with these children; answers their ids, oldest first.
async fn adopt(ledger: &dyn Ledger, lease: Lease, children: Vec<NewJob>, now: Timestamp) -> Vec<JobId> {
    let receipt = Receipt { children, ..Receipt::new(lease, Part::Plan) };
    ledger.commit(receipt, Counts::default(), now).await.expect("commit the plan");
    let filter = Filter { parent: Some(lease.job), limit: 1_000, ..Filter::default() };
    let mut ids: Vec<JobId> = ledger.jobs(filter).await.expect("jobs").iter().map(|job| job.id).collect();
    ids.reverse();
    ids
}

async fn write(
    ledger: &dyn Ledger,
    lease: Lease,
    part: Part,
    counts: Counts,
    now: Timestamp,
) -> Result<(), LedgerError> {
    ledger.commit(Receipt::new(lease, part), counts, now).await
}

async fn end(ledger: &dyn Ledger, lease: Lease, outcome: Outcome, now: Timestamp) {
    ledger.record(Record { lease, outcome, entity: None }, now).await.expect("record");
}

async fn complete(ledger: &dyn Ledger, lease: Lease, now: Timestamp) {
    end(ledger, lease, Outcome::Completed { note: None }, now).await;
}

async fn show(ledger: &dyn Ledger, id: JobId) -> JobRecord {
    let mut jobs = ledger.jobs(Filter { ids: vec![id], ..Filter::default() }).await.expect("jobs");
    assert_eq!(jobs.len(), 1, "job {id} stands in the ledger once");
    jobs.remove(0)
}

async fn state(ledger: &dyn Ledger, id: JobId) -> State {
    show(ledger, id).await.state
}

fn failure(reason: &str) -> Outcome {
    Outcome::Failed { cause: crate::job::FailCause::Permanent, reason: reason.to_owned() }
}

fn inserted(received: u64) -> Counts {
    Counts { received, inserted: received, ..Counts::default() }
}

fn assert_refused(answer: Result<(), LedgerError>, what: &str) -> String {
    match answer {
        Err(LedgerError::Refused(reason)) => reason,
        other => panic!("{what} must be refused, got {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory::MemoryLedger;

    #[tokio::test(start_paused = true)]
    async fn the_ledger_in_memory_keeps_every_promise() {
        all(async || Arc::new(MemoryLedger::new()) as Arc<dyn Ledger>).await;
    }
}
