//! Faults are data (invariant 5): each from each step becomes the right outcome, and none of them restarts anything.

use std::time::Duration;

use longshore_actors::backoff::Backoff;
use longshore_actors::job::{FailCause, State};
use longshore_actors::ledger::LedgerError;
use longshore_actors::settings::KindPolicy;
use longshore_actors::stage::StageName;
use longshore_actors::testing::memory::Op;
use longshore_actors::testing::scripted::{At, Do, Script};

use crate::support::{KIND, SECOND, Service, With, alpha, paused, policy, settings, tries};

const EVERYWHERE: [At; 4] = [At::Plan, At::Fetch, At::Transform, At::Upload];

/// What a job with this mishap, always or the first time only, comes to.
async fn outcome(then: Do, once: bool, at: At) -> (State, Option<FailCause>, u32, Vec<String>) {
    let alpha = alpha();
    let service = Service::start(&alpha, settings());
    let script = Script::pages(1);
    let script = if once { script.once(at, then) } else { script.always(at, then) };
    let id = service.enqueue(&alpha, &script).await;
    let job = service.ended(id).await;
    if job.state == State::Completed && alpha.begun(id, at, 0) > 1 {
        assert_eq!(alpha.target().rows(id), [(0, 0)], "{at:?}");
    }
    let restarts = service.tree.runtime().board.statuses().iter().map(|status| status.restarts).sum::<u64>();
    assert_eq!((restarts, job.crashes), (0, 0), "a fault restarts nothing");
    service.stop().await;
    (job.state, job.cause, job.attempt, tries(&job).into_iter().map(str::to_owned).collect())
}

#[test]
fn invariant_5_each_fault_has_its_outcome_and_restarts_nothing() {
    paused(async {
        let retry = Do::Retry { after_ms: None };
        let unavailable = Do::Unavailable { retry_in_ms: Some(1500) };
        for at in EVERYWHERE {
            let expect = |state, cause, attempt, tries: &[&str]| {
                (state, cause, attempt, tries.iter().map(|&outcome| outcome.to_owned()).collect::<Vec<_>>())
            };
            let done = State::Completed;
            assert_eq!(outcome(retry.clone(), true, at).await, expect(done, None, 2, &["retry"]), "{at:?}");
            let exhausted = expect(State::Failed, Some(FailCause::Exhausted), 3, &["retry", "retry", "failed"]);
            assert_eq!(outcome(retry.clone(), false, at).await, exhausted, "{at:?}");
            let failed = expect(State::Failed, Some(FailCause::Permanent), 1, &["failed"]);
            assert_eq!(outcome(Do::Fail, false, at).await, failed, "{at:?}");
            // Said without a reason, it is a pause: given back at once, the job would spin.
            let cancelled = expect(done, None, 1, &["snoozed"]);
            assert_eq!(outcome(Do::Cancelled, true, at).await, cancelled, "{at:?}");
            // Neither an attempt nor a restart is burnt.
            let snoozed = expect(done, None, 1, &["snoozed"]);
            assert_eq!(outcome(unavailable.clone(), true, at).await, snoozed, "{at:?}");
        }
        let rejected = (State::Failed, Some(FailCause::Permanent), 1, vec!["failed".to_owned()]);
        assert_eq!(outcome(Do::Reject, false, At::Plan).await, rejected, "a plan that rejects is the bad record");
    });
}

#[test]
fn a_retry_waits_as_long_as_the_upstream_says_and_an_outage_as_long_as_it_says() {
    paused(async {
        let waits = [
            (Do::Retry { after_ms: None }, 10),
            (Do::Retry { after_ms: Some(70_000) }, 70),
            (Do::Unavailable { retry_in_ms: Some(40_000) }, 40),
            (Do::Unavailable { retry_in_ms: None }, 5),
        ];
        for (what, seconds) in waits {
            let alpha = alpha();
            let service = Service::start(&alpha, settings());
            let before = service.now();
            let id = service.enqueue(&alpha, &Script::pages(1).once(At::Fetch, what.clone())).await;
            service.ended(id).await;
            assert_eq!(service.now().since(before), Duration::from_secs(seconds), "{what:?}");
            service.stop().await;
        }
    });
}

#[test]
fn a_passing_fault_is_tried_again_within_the_attempt() {
    paused(async {
        let alpha = alpha();
        let kind = KindPolicy { page_tries: 3, page_backoff: Backoff::fixed(2 * SECOND), ..policy() };
        let service = Service::start(&alpha, settings().with_kind(KIND, kind));
        let retry = || Do::Retry { after_ms: None };
        let script = Script::pages(2).on(At::Upload, 1, Some(1), retry()).on(At::Upload, 1, Some(2), retry());
        let before = service.now();
        let id = service.enqueue(&alpha, &script).await;
        let job = service.ended(id).await;
        assert_eq!((job.state, job.attempt, tries(&job).len()), (State::Completed, 1, 0));
        assert_eq!(service.now().since(before), 4 * SECOND);
        assert_eq!((alpha.begun(id, At::Fetch, 1), alpha.begun(id, At::Upload, 1)), (1, 3));
        service.stop().await;
    });
}

#[test]
fn a_stage_that_hangs_times_out_is_retried_and_then_exhausted() {
    paused(async {
        for (at, stage) in
            [(At::Fetch, StageName::Fetch), (At::Transform, StageName::Transform), (At::Upload, StageName::Upload)]
        {
            let alpha = alpha();
            let kind = KindPolicy { timeout: 60 * SECOND, ..policy() };
            let service = Service::start(&alpha, settings().with_kind(KIND, kind).with_pool(stage, 1, 2));
            let id = service.enqueue(&alpha, &Script::pages(1).always(at, Do::Hang)).await;
            let job = service.ended(id).await;
            assert_eq!((job.state, job.cause, job.attempt), (State::Failed, Some(FailCause::Exhausted), 3));
            assert_eq!(job.message.as_deref(), Some("timed out after 60s"));
            // The one worker is of use again, with a fresh stage after each try that was cut off.
            let next = service.enqueue(&alpha, &Script::pages(1)).await;
            assert_eq!(service.ended(next).await.state, State::Completed);
            assert_eq!((alpha.opens(stage), service.status("alpha").restarts), (4, 0), "{at:?}");
            service.stop().await;
        }
    });
}

/// Each try runs into its timeout long before the job is stuck; all of them together are.
#[test]
fn a_job_that_hangs_in_every_try_is_stuck_over_all_of_them() {
    paused(async {
        let alpha = alpha();
        let kind = KindPolicy { timeout: 1800 * SECOND, stuck_after: 3600 * SECOND, attempts: 100, ..policy() };
        let service = Service::start(&alpha, settings().with_kind(KIND, kind));
        let id = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Hang)).await;
        let job = service.ended(id).await;
        assert_eq!((job.state, job.attempt), (State::Cancelled, 3), "{:?}", job.message);
        assert!(job.message.unwrap().starts_with("stuck: it ran for "));
        service.stop().await;
    });
}

#[test]
fn a_stuck_job_is_cancelled_and_the_stage_it_held_is_opened_anew() {
    paused(async {
        let alpha = alpha();
        let kind = KindPolicy { timeout: 9000 * SECOND, stuck_after: 3600 * SECOND, ..policy() };
        let settings = settings().with_kind(KIND, kind).with_pool(StageName::Upload, 1, 1);
        let service = Service::start(&alpha, settings);
        let before = service.now();
        let id = service.enqueue(&alpha, &Script::pages(1).always(At::Upload, Do::Hang)).await;
        let job = service.ended(id).await;
        assert_eq!(job.state, State::Cancelled);
        assert!(job.message.unwrap().starts_with("stuck: it ran for "));
        let took = service.now().since(before);
        assert!((3600 * SECOND..3620 * SECOND).contains(&took), "{took:?}");
        let next = service.enqueue(&alpha, &Script::pages(1)).await;
        assert_eq!(service.ended(next).await.state, State::Completed);
        assert_eq!((alpha.opens(StageName::Upload), alpha.running(StageName::Upload)), (2, 0));
        service.stop().await;
    });
}

/// The ledger is busy when a stuck job is cancelled, and then an operator restarts the domain: the job does not come
/// back to life.
#[test]
fn the_end_of_a_stuck_job_is_waited_for() {
    paused(async {
        let alpha = alpha();
        let kind = KindPolicy { timeout: 9000 * SECOND, stuck_after: 3600 * SECOND, ..policy() };
        let service = Service::start(&alpha, settings().with_kind(KIND, kind));
        let id = service.enqueue(&alpha, &Script::pages(1).on(At::Upload, 0, Some(1), Do::Hang)).await;
        alpha.until(|alpha| alpha.running(StageName::Upload) == 1).await;
        tokio::time::sleep(3600 * SECOND).await;
        service.memory.fail_next(Op::Record, LedgerError::Unavailable("busy".into()));
        alpha.until(|alpha| alpha.running(StageName::Upload) == 0).await;
        service.tree.restart("alpha").await.unwrap();
        assert_eq!(service.ended(id).await.state, State::Cancelled);
        service.stop().await;
    });
}
