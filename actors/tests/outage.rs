//! What the service needs is down for a while (invariant 5): nothing is lost, nothing is restarted, it goes on by itself.

use std::sync::Arc;

use longshore_actors::job::State;
use longshore_actors::ledger::{LedgerError, Rescue};
use longshore_actors::stage::StageName;
use longshore_actors::status::PartState;
use longshore_actors::testing::memory::{MemoryLedger, Op};
use longshore_actors::testing::scripted::{At, Do, Script};

use crate::support::{HeldLedger, SECOND, Service, alpha, paused, settings, settle, tries};

fn restarts(service: &Service) -> u64 {
    service.tree.runtime().board.statuses().iter().map(|status| status.restarts).sum()
}

#[test]
fn invariant_5_a_ledger_that_is_away_loses_nothing_and_restarts_nothing() {
    paused(async {
        for seconds in [2, 20, 600] {
            let alpha = alpha();
            let service = Service::start(&alpha, settings());
            let script = Script::pages(4).on(At::Upload, 2, Some(1), Do::Wait);
            let ids = service.enqueue_many(&alpha, &script, 30).await;
            alpha.until(|alpha| alpha.running(StageName::Upload) == 2).await;
            let claims = service.memory.calls(Op::Claim);
            service.memory.cut("no route");
            alpha.open_gate(StageName::Upload);
            tokio::time::sleep(seconds * SECOND).await;
            if seconds > 10 {
                assert_eq!(service.status("alpha").state, PartState::Waiting, "a renewal has told it");
            }
            let asked = service.memory.calls(Op::Claim) - claims;
            assert!(asked <= u64::from(seconds) + 10, "it asks about once a second: {asked} in {seconds} s");
            service.memory.mend();
            // Upkeep of the real service also rescues what lapsed.
            tokio::time::sleep(40 * SECOND).await;
            let lapsed = Rescue::Lapsed { now: service.now() };
            service.ledger().rescue(lapsed).await.unwrap();
            service.all_ended().await;
            for id in ids {
                let job = service.job(id).await;
                assert_eq!((job.state, job.attempt), (State::Completed, 1), "{seconds} s: {:?}", tries(&job));
                assert_eq!(job.counts.inserted, 4);
            }
            assert_eq!((restarts(&service), service.total(State::Failed).await), (0, 0));
            service.stop().await;
        }
    });
}

#[test]
fn a_tree_that_starts_without_its_ledger_waits_for_it() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        service.memory.cut("not there yet");
        tokio::time::sleep(30 * SECOND).await;
        assert_eq!((service.status("alpha").state, restarts(&service)), (PartState::Waiting, 0));
        service.memory.mend();
        let id = service.enqueue(&alpha, &Script::pages(1)).await;
        assert_eq!(service.ended(id).await.state, State::Completed);
        service.stop().await;
    });
}

/// A single call that fails: the commit's page is done again, the record is written again, a crash is counted later.
#[test]
fn a_single_failed_write_is_made_good() {
    paused(async {
        for op in [Op::Claim, Op::Commit, Op::Record, Op::Renew, Op::Rescue] {
            let alpha = alpha();
            let service = Service::start(&alpha, settings());
            service.memory.fail_next(op, LedgerError::Unavailable("busy".into()));
            let id = service.enqueue(&alpha, &Script { close: true, ..Script::pages(3) }).await;
            let job = service.ended(id).await;
            assert_eq!((job.state, job.attempt, job.counts.inserted), (State::Completed, 1, 3), "{op:?}");
            assert_eq!(restarts(&service), 0);
            service.stop().await;
        }
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        service.memory.fail_next(Op::RecordCrash, LedgerError::Unavailable("busy".into()));
        let id = service.enqueue(&alpha, &Script::pages(1).once(At::Fetch, Do::Panic)).await;
        let job = service.ended(id).await;
        assert_eq!((job.state, job.attempt, tries(&job)), (State::Completed, 1, vec!["snoozed"]));
        service.stop().await;
    });
}

#[test]
fn a_broken_ledger_fails_the_job_and_not_the_service() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        service.memory.fail_next(Op::Commit, LedgerError::Guard("3 of 4 rows would be removed".into()));
        let id = service.enqueue(&alpha, &Script::pages(2)).await;
        let job = service.ended(id).await;
        assert_eq!((job.state, job.message.as_deref()), (State::Failed, Some("3 of 4 rows would be removed")));
        let next = service.enqueue(&alpha, &Script::pages(2)).await;
        assert_eq!(service.ended(next).await.state, State::Completed);
        service.stop().await;
    });
}

/// The target is down, so no upload worker can open its connection: jobs are snoozed instead of waiting into their
/// timeout and burning their attempts there.
#[test]
fn invariant_5_a_stage_that_cannot_open_burns_no_attempt() {
    paused(async {
        for (what, said) in [
            (Do::Unavailable { retry_in_ms: Some(7_000) }, "scripted upstream is unavailable: scripted"),
            (Do::Fail, "alpha/upload is unavailable: scripted"),
            (Do::Hang, "alpha/upload is unavailable: it did not open within 30s"),
        ] {
            let alpha = alpha();
            for _ in 0..60 {
                alpha.at_next_open(StageName::Upload, what.clone());
            }
            let service = Service::start(&alpha, settings());
            let ids = service.enqueue_many(&alpha, &Script::pages(2), 6).await;
            service.until(async || tries(&service.job(ids[0]).await).contains(&"snoozed")).await;
            assert_eq!(service.status("alpha/upload/0").state, PartState::Waiting);
            assert_eq!(service.job(ids[0]).await.history[0].reason, said);
            service.all_ended().await;
            for id in ids {
                let job = service.job(id).await;
                assert_eq!((job.state, job.attempt), (State::Completed, 1), "{what:?}");
                assert_eq!(alpha.target().rows(id), [(0, 0), (1, 1)]);
            }
            assert_eq!(restarts(&service), 0);
            service.stop().await;
        }
    });
}

/// One worker of two cannot open: the other one does the work and nobody is snoozed.
#[test]
fn a_worker_that_cannot_open_leaves_the_work_to_the_others() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        settle().await;
        for _ in 0..5 {
            alpha.at_next_open(StageName::Upload, Do::Unavailable { retry_in_ms: None });
        }
        let script = Script::pages(1).once(At::Upload, Do::Unavailable { retry_in_ms: None });
        let opens_again = service.enqueue(&alpha, &script).await;
        service.until(async || service.state(opens_again).await == State::Delayed).await;
        let ids = service.enqueue_many(&alpha, &Script::pages(2), 20).await;
        for id in ids {
            let job = service.ended(id).await;
            assert_eq!((job.state, tries(&job).len()), (State::Completed, 0));
        }
        service.all_ended().await;
        service.stop().await;
    });
}

/// A bug in the ledger, wherever it shows: nobody is stranded, the room is free again, and the service goes on.
#[test]
fn a_ledger_that_panics_strands_no_job() {
    paused(async {
        for op in [Op::Claim, Op::Commit, Op::Record, Op::Renew, Op::Rescue] {
            let alpha = alpha();
            let memory = Arc::new(MemoryLedger::new());
            let held = HeldLedger::new(memory.clone());
            held.panic_next(op);
            let service = Service::start_on(memory, held, vec![(alpha.clone(), settings())]);
            let id = service.enqueue(&alpha, &Script::pages(1).on(At::Fetch, 0, Some(1), Do::Wait)).await;
            alpha.until(|alpha| alpha.begun(id, At::Fetch, 0) == 1).await;
            tokio::time::sleep(11 * SECOND).await;
            alpha.open_gate(StageName::Fetch);
            tokio::time::sleep(60 * SECOND).await;
            let lapsed = Rescue::Lapsed { now: service.now() };
            service.ledger().rescue(lapsed).await.unwrap();
            assert_eq!(service.ended(id).await.state, State::Completed, "{op:?}");
            settle().await;
            assert_eq!(service.status("alpha").depth, 0, "{op:?}");
            service.stop().await;
        }
    });
}
