//! What a coordinator claims: by breaker, by kind, by priority.

use std::sync::Arc;

use longshore_actors::breaker::{Breaker, BreakerPolicy, BreakerState};
use longshore_actors::events::Event;
use longshore_actors::job::{JobId, NewJob, State};
use longshore_actors::settings::KindPolicy;
use longshore_actors::stage::StageName;
use longshore_actors::testing::memory::Op;
use longshore_actors::testing::scripted::{At, Do, Script, Scripted};
use tokio::time::Instant;

use crate::support::{KIND, SECOND, Service, With, alpha, paused, policy, settings, settle, told};

fn breaker() -> Arc<Breaker> {
    let policy = BreakerPolicy { failures: 1, open_for: 30 * SECOND, ..BreakerPolicy::default() };
    Arc::new(Breaker::new("upstream", policy))
}

fn trip(breaker: &Arc<Breaker>) {
    breaker.try_pass(Instant::now()).unwrap().failed("refused");
}

/// Open: nothing is claimed and nobody spins. Half-open: one job at a time. Closed: all again (invariant 5).
#[test]
fn invariant_5_an_open_breaker_claims_nothing_and_a_half_open_one_a_job_at_a_time() {
    paused(async {
        let breaker = breaker();
        let alpha = alpha().with_breakers(vec![breaker.clone()]);
        let service = Service::start(&alpha, settings());
        trip(&breaker);
        let ids = service.enqueue_many(&alpha, &Script::pages(1).always(At::Fetch, Do::Wait), 6).await;
        settle().await;
        let before = service.memory.calls(Op::Claim);
        tokio::time::advance(29 * SECOND).await;
        settle().await;
        assert_eq!((breaker.state(), service.memory.calls(Op::Claim)), (BreakerState::Open, before));
        assert_eq!((alpha.runs(StageName::Fetch), service.job(ids[0]).await.attempt), (0, 0));

        // Nobody wakes it but the breaker.
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        settle().await;
        assert_eq!(service.total(State::Active).await, 1);
        alpha.let_through(StageName::Fetch, 1);
        service.ended(ids[0]).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        settle().await;
        assert_eq!(service.total(State::Active).await, 1, "still half-open, still one");

        let now = service.now();
        breaker.try_pass(Instant::now()).unwrap().succeeded();
        service.until(async || service.total(State::Active).await == 4).await;
        assert_eq!(service.now(), now, "closed by somebody else: all again at once");
        alpha.open_gate(StageName::Fetch);
        service.all_ended().await;
        assert_eq!(service.status("alpha").restarts, 0);
        service.stop().await;
    });
}

/// A thousand wake-ups while it is open leave no thousand waiters: one change of state is one claim.
#[test]
fn wake_ups_while_the_breaker_is_open_do_not_pile_up() {
    paused(async {
        let breaker = breaker();
        let alpha = alpha().with_breakers(vec![breaker.clone()]);
        let service = Service::start(&alpha, settings());
        trip(&breaker);
        for _ in 0..100 {
            service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Wait)).await;
            settle().await;
        }
        let before = service.memory.calls(Op::Claim);
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        settle().await;
        let claims = service.memory.calls(Op::Claim) - before;
        assert!(claims <= 2, "{claims} claims for one change of state");
        breaker.try_pass(Instant::now()).unwrap().succeeded();
        alpha.open_gate(StageName::Fetch);
        service.all_ended().await;
        service.stop().await;
    });
}

#[test]
fn a_kinds_concurrency_is_kept_and_changes_live() {
    paused(async {
        let domain = Scripted::new("alpha", &[KIND, "alpha.other"]);
        let narrow = |most| KindPolicy { concurrency: Some(most), ..policy() };
        let settings = settings().with_kind(KIND, narrow(2)).with_pool(StageName::Fetch, 8, 2).with_jobs(10, 1);
        let service = Service::start(&domain, settings);
        let script = Script::pages(1).always(At::Fetch, Do::Wait);
        service.enqueue_many(&domain, &script, 12).await;
        let other = || NewJob::new("alpha", "alpha.other", script.params());
        for _ in 0..3 {
            service.put(other()).await;
        }
        let active = async |kind: &str| {
            let stats = service.stats().await;
            stats.kinds.iter().find(|stats| stats.kind == kind).unwrap().active
        };
        domain.until(|domain| domain.running(StageName::Fetch) == 5).await;
        settle().await;
        assert_eq!((active(KIND).await, active("alpha.other").await), (2, 3));
        service.tree.change("alpha", |settings| settings.kinds.get_mut(KIND).unwrap().concurrency = Some(4)).unwrap();
        domain.until(|domain| domain.running(StageName::Fetch) == 7).await;
        settle().await;
        assert_eq!((active(KIND).await, active("alpha.other").await), (4, 3));
        // Down again: those that run end by themselves, and no new one starts before.
        service.tree.change("alpha", |settings| settings.kinds.get_mut(KIND).unwrap().concurrency = Some(1)).unwrap();
        let mut events = service.listen();
        for _ in 0..12 {
            domain.let_through(StageName::Fetch, 1);
            settle().await;
        }
        let most = told(&mut events).await.iter().fold((4i32, 4i32), |(now, most), event| match &**event {
            Event::JobStarted { kind, .. } if &**kind == KIND => (now + 1, most.max(now + 1)),
            Event::JobEnded { kind, .. } if &**kind == KIND => (now - 1, most),
            _ => (now, most),
        });
        assert_eq!(most.1, 4);
        domain.open_gate(StageName::Fetch);
        service.all_ended().await;
        service.stop().await;
    });
}

#[test]
fn urgent_jobs_come_first_then_older_ones() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings().with_jobs(1, 1));
        let mut events = service.listen();
        let first = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Wait)).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        let mut ids = Vec::new();
        for priority in [5, 0, -5, 0, 5, -5] {
            ids.push(service.put(alpha.job(&Script::pages(1)).priority(priority)).await);
        }
        alpha.open_gate(StageName::Fetch);
        service.all_ended().await;
        let told = told(&mut events).await;
        let started: Vec<JobId> = told
            .iter()
            .filter_map(|event| match &**event {
                Event::JobStarted { job, .. } => Some(*job),
                _ => None,
            })
            .collect();
        assert_eq!(started, [first, ids[2], ids[5], ids[1], ids[3], ids[0], ids[4]]);
        service.stop().await;
    });
}
