//! Leases that are taken away, and writes that come too late (invariant 4).

use std::sync::Arc;

use longshore_actors::events::Event;
use longshore_actors::job::State;
use longshore_actors::ledger::{Change, Ledger};
use longshore_actors::stage::StageName;
use longshore_actors::testing::memory::{MemoryLedger, Op};
use longshore_actors::testing::scripted::{At, Do, Script};

use crate::support::{HeldLedger, SECOND, Service, With, alpha, heard, paused, settings, settle, told};

async fn cancel(service: &Service, id: longshore_actors::job::JobId) {
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
        let rescue = longshore_actors::ledger::Rescue::Lapsed { now: service.now() };
        assert_eq!(service.memory.rescue(rescue).await, Ok(0));
        alpha.open_gate(StageName::Fetch);
        assert_eq!(service.ended(id).await.attempt, 1);
        service.stop().await;
    });
}
