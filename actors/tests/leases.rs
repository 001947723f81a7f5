//! Leases that are taken away, and writes that come too late (invariant 4).

use std::sync::Arc;

use longshore_actors::events::Event;
use longshore_actors::job::{JobId, State};
use longshore_actors::ledger::{Change, Ledger, LedgerError, Rescue};
use longshore_actors::stage::StageName;
use longshore_actors::testing::memory::{MemoryLedger, Op};
use longshore_actors::testing::scripted::{At, Do, Script};

use crate::support::{HeldLedger, Log, SECOND, Service, With, alpha, heard, paused, settings, settle, told};

async fn cancel(service: &Service, id: JobId) {
    let cancel = Change::Cancel { reason: "by an operator".into() };
    service.memory.change(id, cancel, service.now()).await.unwrap();
}

#[test]
fn a_job_cancelled_while_it_runs_is_let_go_at_once_and_its_worker_is_of_use_again() {
    paused(async {
        for (at, stage) in
            [(At::Fetch, StageName::Fetch), (At::Transform, StageName::Transform), (At::Upload, StageName::Upload)]
        {
            let alpha = alpha();
            let service = Service::start(&alpha, settings().with_pool(stage, 1, 1));
            let mut events = service.listen();
            let id = service.enqueue(&alpha, &Script::pages(1).always(at, Do::Hang)).await;
            alpha.until(|alpha| alpha.running(stage) == 1).await;
            let before = service.now();
            cancel(&service, id).await;
            alpha.until(|alpha| alpha.running(stage) == 0).await;
            let told = heard(&mut events, |event| match event {
                Event::JobEnded { job, outcome, .. } if *job == id => Some(*outcome),
                _ => None,
            });
            assert_eq!(told.await, "revoked");
            assert_eq!(service.now(), before, "no tick was waited for");
            let next = service.enqueue(&alpha, &Script::pages(1)).await;
            assert_eq!(service.ended(next).await.state, State::Completed);
            assert_eq!((service.state(id).await, alpha.opens(stage)), (State::Cancelled, 2));
            assert!(alpha.target().rows(id).is_empty());
            service.stop().await;
        }
    });
}

#[test]
fn invariant_4_a_write_that_comes_after_the_cancel_is_refused_and_counted() {
    paused(async {
        let alpha = alpha();
        let memory = Arc::new(MemoryLedger::new());
        let held = HeldLedger::new(memory.clone());
        let service = Service::start_on(memory, held.clone(), vec![(alpha.clone(), settings())]);
        // The coordinator learns nothing for now: its renewal is held back.
        held.hold(Op::Renew);
        let id = service.enqueue(&alpha, &Script::pages(2).always(At::Upload, Do::Wait)).await;
        alpha.until(|alpha| alpha.running(StageName::Upload) == 2).await;
        cancel(&service, id).await;
        alpha.open_gate(StageName::Upload);
        service.until(async || service.stats().await.stale_writes > 0).await;
        held.let_go(Op::Renew);
        service.until(async || service.tree.runtime().board.running().is_empty()).await;
        let job = service.job(id).await;
        assert_eq!((job.state, job.checkpoint.prefix, job.counts.inserted), (State::Cancelled, 0, 0));
        assert_eq!(service.status("alpha").restarts, 0);
        service.stop().await;
    });
}

/// The renewal says "lost" of a job that ended just now: its end is told all the same, and once.
#[test]
fn a_renewal_that_crosses_the_end_of_a_job_does_not_swallow_its_end() {
    paused(async {
        let alpha = alpha();
        let memory = Arc::new(MemoryLedger::new());
        let held = HeldLedger::new(memory.clone());
        let service = Service::start_on(memory, held.clone(), vec![(alpha.clone(), settings())]);
        let mut events = service.listen();
        held.hold(Op::Record);
        let id = service.enqueue(&alpha, &Script::pages(1)).await;
        held.is_held(Op::Record).await;
        assert_eq!(service.state(id).await, State::Completed, "the ledger has it, the coordinator does not know");
        let renewals = service.memory.calls(Op::Renew);
        tokio::time::advance(11 * SECOND).await;
        settle().await;
        assert!(service.memory.calls(Op::Renew) > renewals);
        held.let_go(Op::Record);
        settle().await;
        let ends = told(&mut events).await;
        let ends: Vec<_> = ends
            .iter()
            .filter_map(|event| match &**event {
                Event::JobEnded { outcome, counts, .. } => Some((*outcome, counts.inserted)),
                _ => None,
            })
            .collect();
        assert_eq!((ends, service.status("alpha").done), (vec![("completed", 1)], 1));
        service.stop().await;
    });
}

/// The same crossing, with an operator's restart: the end that is being written is waited for, not overwritten.
#[test]
fn a_restart_while_an_end_is_being_written_leaves_that_end() {
    paused(async {
        let alpha = alpha();
        let memory = Arc::new(MemoryLedger::new());
        let held = HeldLedger::new(memory.clone());
        let service = Service::start_on(memory, held.clone(), vec![(alpha.clone(), settings())]);
        let mut events = service.listen();
        held.hold(Op::Record);
        service.enqueue(&alpha, &Script::pages(1)).await;
        held.is_held(Op::Record).await;
        let answer = async {
            settle().await;
            held.let_go(Op::Record);
        };
        tokio::join!(async { service.tree.restart("alpha").await.unwrap() }, answer);
        let ended = |event: &Event| match event {
            Event::JobEnded { outcome, .. } => Some(*outcome),
            _ => None,
        };
        assert_eq!(heard(&mut events, ended).await, "completed");
        assert_eq!((service.stats().await.stale_writes, service.status("alpha").done), (0, 1));
        service.stop().await;
    });
}

/// Leases are renewed while jobs run, however long, and at the pace the settings say now.
#[test]
fn leases_are_renewed_at_a_third_of_their_time() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let id = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Wait)).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        let pace = async |seconds: u64| {
            let before = service.memory.calls(Op::Renew);
            for _ in 0..seconds * 2 {
                tokio::time::advance(SECOND / 2).await;
                settle().await;
            }
            service.memory.calls(Op::Renew) - before
        };
        assert_eq!(pace(60).await, 6, "a lease of 30 s");
        service.tree.change("alpha", |settings| settings.lease = 6 * SECOND).unwrap();
        pace(20).await;
        assert_eq!(pace(60).await, 30, "a lease of 6 s");
        let rescue = Rescue::Lapsed { now: service.now() };
        assert_eq!(service.memory.rescue(rescue).await, Ok(0));
        alpha.open_gate(StageName::Fetch);
        assert_eq!(service.ended(id).await.attempt, 1);
        service.stop().await;
    });
}

async fn ends(events: &mut longshore_actors::events::Listener) -> Vec<&'static str> {
    let told = told(events).await;
    let outcome = |event: &Event| match event {
        Event::JobEnded { outcome, .. } => Some(*outcome),
        _ => None,
    };
    told.iter().filter_map(|event| outcome(event)).collect()
}

/// The record waits for its ledger while the job is rescued and claimed again: its end is refused, so it is no
/// "completed", and the try that has the job now stays on the board.
#[test]
fn an_end_that_is_refused_is_told_as_revoked_and_leaves_the_next_try_alone() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let mut events = service.listen();
        service.memory.fail_next(Op::Record, LedgerError::Unavailable("busy".into()));
        let id = service.enqueue(&alpha, &Script::pages(1).on(At::Plan, 0, Some(2), Do::Wait)).await;
        settle().await;
        assert_eq!(service.memory.calls(Op::Record), 1);
        let rescued = service.memory.rescue(Rescue::Lapsed { now: service.now().plus(60 * SECOND) }).await;
        assert_eq!(rescued, Ok(1));
        alpha.until(|alpha| alpha.begun(id, At::Plan, 0) == 2).await;
        tokio::time::advance(SECOND).await;
        settle().await;
        assert_eq!(service.memory.calls(Op::Record), 2);
        assert!(service.tree.runtime().board.running_job(id).is_some(), "the second try runs");
        alpha.open_gate(StageName::Fetch);
        service.ended(id).await;
        settle().await;
        assert_eq!(ends(&mut events).await, ["revoked", "completed"]);
        assert_eq!((service.state(id).await, service.status("alpha").done), (State::Completed, 1));
        assert_eq!(service.stats().await.stale_writes, 1);
        service.stop().await;
    });
}

/// Rescued and claimed again before a renewal says that the lease is lost: the first try is let go, and told of.
#[test]
fn a_job_claimed_again_under_a_running_try_ends_that_try() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let mut events = service.listen();
        let id = service.enqueue(&alpha, &Script::pages(1).on(At::Fetch, 0, Some(1), Do::Hang)).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        service.memory.rescue(Rescue::Lapsed { now: service.now().plus(60 * SECOND) }).await.unwrap();
        assert_eq!(service.ended(id).await.state, State::Completed);
        settle().await;
        assert_eq!(ends(&mut events).await, ["revoked", "completed"]);
        service.stop().await;
    });
}

/// A try that finds its lease gone gives nothing back, and that is no warning.
#[test]
fn a_cancelled_job_that_finds_out_by_itself_warns_nobody() {
    paused(async {
        let log = Log::start();
        let alpha = alpha();
        let memory = Arc::new(MemoryLedger::new());
        let held = HeldLedger::new(memory.clone());
        let service = Service::start_on(memory, held.clone(), vec![(alpha.clone(), settings())]);
        let mut events = service.listen();
        held.hold(Op::Renew);
        let id = service.enqueue(&alpha, &Script::pages(1).always(At::Upload, Do::Wait)).await;
        alpha.until(|alpha| alpha.running(StageName::Upload) == 1).await;
        cancel(&service, id).await;
        alpha.open_gate(StageName::Upload);
        service.until(async || service.tree.runtime().board.running().is_empty()).await;
        held.let_go(Op::Renew);
        settle().await;
        assert_eq!((service.state(id).await, ends(&mut events).await), (State::Cancelled, vec!["revoked"]));
        assert_eq!(log.lines(), Vec::<String>::new());
        service.stop().await;
    });
}

/// What a cancelled job had in the queue is neither begun nor does it cost the worker its open stage.
#[test]
fn work_whose_job_was_cancelled_while_it_queued_is_not_begun() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings().with_pool(StageName::Fetch, 1, 4));
        let first = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Wait)).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        let queued = service.enqueue_many(&alpha, &Script::pages(1), 3).await;
        settle().await;
        assert_eq!(service.status("alpha/fetch").depth, 4);
        for id in queued {
            cancel(&service, id).await;
        }
        settle().await;
        alpha.open_gate(StageName::Fetch);
        assert_eq!(service.ended(first).await.state, State::Completed);
        settle().await;
        assert_eq!((alpha.runs(StageName::Fetch), alpha.opens(StageName::Fetch)), (1, 1));
        assert_eq!(service.status("alpha/fetch").depth, 0);
        service.stop().await;
    });
}

/// By the pace of the lease before, the first renewal would come when the new one has long lapsed.
#[test]
fn a_lease_made_shorter_is_renewed_in_time_from_the_first_job_on() {
    paused(async {
        let alpha = alpha();
        let long = longshore_actors::settings::DomainSettings { lease: 3600 * SECOND, ..settings() };
        let service = Service::start(&alpha, long);
        settle().await;
        service.tree.change("alpha", |settings| settings.lease = 6 * SECOND).unwrap();
        let id = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Wait)).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        for _ in 0..40 {
            tokio::time::advance(SECOND / 2).await;
            settle().await;
            assert_eq!(service.memory.rescue(Rescue::Lapsed { now: service.now() }).await, Ok(0));
        }
        assert!((9..=11).contains(&service.memory.calls(Op::Renew)), "{}", service.memory.calls(Op::Renew));
        alpha.open_gate(StageName::Fetch);
        assert_eq!(service.ended(id).await.attempt, 1);
        service.stop().await;
    });
}

/// A ledger that does not answer is asked again, and what it owes does not pile up.
#[test]
fn renewals_that_are_not_answered_are_given_up() {
    paused(async {
        let alpha = alpha();
        let memory = Arc::new(MemoryLedger::new());
        let held = HeldLedger::new(memory.clone());
        let service = Service::start_on(memory, held.clone(), vec![(alpha.clone(), settings())]);
        held.hold(Op::Renew);
        let id = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Wait)).await;
        tokio::time::sleep(995 * SECOND).await;
        assert_eq!((service.memory.calls(Op::Renew), held.count_held(Op::Renew)), (99, 3));
        held.let_go(Op::Renew);
        alpha.open_gate(StageName::Fetch);
        assert_eq!(service.ended(id).await.attempt, 1);
        service.stop().await;
    });
}
