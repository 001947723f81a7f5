//! Worker, coordinator, parked domain: how a failure rises, and what an operator can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longshore_actors::breaker::Breaker;
use longshore_actors::checkpoint::Checkpoint;
use longshore_actors::child::DomainChild;
use longshore_actors::domain::{Domain, Plan};
use longshore_actors::events::Event;
use longshore_actors::job::{Fault, Job, State};
use longshore_actors::restart::RestartPolicy;
use longshore_actors::settings::{DomainSettings, KindPolicy};
use longshore_actors::stage::{Stage, StageName};
use longshore_actors::status::PartState;
use longshore_actors::supervisor::TreeError;
use longshore_actors::testing::memory::MemoryLedger;
use longshore_actors::testing::scripted::{At, Do, PageRequest, Rows, Script, Scripted};

use crate::support::{KIND, SECOND, Service, With, alpha, beta, heard, paused, policy, settings, settle, told, tries};

/// Two restarts of a worker, then the coordinator; two of those, then parked for ten minutes. No job is poison.
fn brittle() -> DomainSettings {
    let restart = RestartPolicy { max: 2, within: 600 * SECOND, backoff_min: SECOND / 5, backoff_max: SECOND };
    let kind = KindPolicy { crashes_max: u32::MAX, ..policy() };
    DomainSettings { restart, coordinator_restart: restart, cool_down: 600 * SECOND, ..settings() }
        .with_kind(KIND, kind)
        .with_pool(StageName::Fetch, 1, 4)
}

fn restarted(event: &Event) -> Option<(String, u32, String)> {
    match event {
        Event::Restarted { child, restarts, reason, .. } => Some((child.clone(), *restarts, reason.clone())),
        _ => None,
    }
}

#[test]
fn a_used_up_budget_rises_to_coordinator_and_park_while_the_other_domain_runs_on() {
    paused(async {
        let (alpha, beta) = (alpha(), beta());
        let service = Service::start_all(vec![(alpha.clone(), brittle()), (beta.clone(), settings())]);
        let mut events = service.listen();
        // Panics nine times: three workers' lives in each of three coordinators' lives, then goes well.
        let script = (1..=9).fold(Script::pages(1), |script, time| script.on(At::Fetch, 0, Some(time), Do::Panic));
        let id = service.enqueue(&alpha, &script).await;
        let parked = heard(&mut events, |event| match event {
            Event::Parked { child, reason, cool_down } => Some((child.clone(), reason.clone(), *cool_down)),
            _ => None,
        });
        let (child, reason, cool_down) = parked.await;
        assert_eq!((&*child, cool_down), ("alpha", 600 * SECOND));
        assert!(reason.starts_with("alpha/fetch/0 used up its 2 restarts, the last time by panic: "), "{reason}");
        let parked_at = service.now();
        let status = service.status("alpha");
        assert_eq!((status.state, status.restarts), (PartState::Parked, 2));
        assert_eq!(status.next_wake, Some(parked_at.plus(600 * SECOND)));
        assert!(service.tree.runtime().board.running().is_empty(), "nobody works on its job");
        settle().await;
        assert_eq!(service.state(id).await, State::Waiting, "and it says so, long before its lease lapses");

        // Nothing of it reached the other one.
        let others = service.enqueue_many(&beta, &Script::pages(2), 10).await;
        for other in others {
            assert_eq!(service.ended(other).await.state, State::Completed);
        }
        assert_eq!(service.status("beta").restarts, 0);
        assert_eq!(service.now(), parked_at, "all of that took no time");

        // The cool-down over, it is tried again, its past forgiven; its job was rescued each time and burnt nothing.
        heard(&mut events, |event| matches!(event, Event::Unparked { .. }).then_some(())).await;
        assert_eq!(service.now().since(parked_at), 600 * SECOND);
        let job = service.ended(id).await;
        assert_eq!((job.state, job.attempt), (State::Completed, 1));
        assert_eq!(tries(&job).iter().filter(|outcome| **outcome == "rescued").count(), 3);
        service.stop().await;
    });
}

#[test]
fn the_events_of_an_escalation_come_in_order() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, brittle());
        let mut events = service.listen();
        let script = (1..=3).fold(Script::pages(1), |script, time| script.on(At::Fetch, 0, Some(time), Do::Panic));
        let id = service.enqueue(&alpha, &script).await;
        assert_eq!(service.ended(id).await.state, State::Completed);
        let restarts: Vec<_> = told(&mut events).await.iter().filter_map(|event| restarted(event)).collect();
        let names: Vec<(&str, u32)> = restarts.iter().map(|(child, count, _)| (&**child, *count)).collect();
        assert_eq!(names, [("alpha/fetch/0", 1), ("alpha/fetch/0", 2), ("alpha", 1)]);
        assert!(restarts[2].2.starts_with("alpha/fetch/0 used up its 2 restarts"), "{restarts:?}");
        service.stop().await;
    });
}

/// Eight workers that die once each stay below their own budgets of two, but together pass the coordinator's of six.
#[test]
fn restarts_are_counted_for_the_child_and_for_its_parent() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, brittle().with_pool(StageName::Fetch, 8, 1).with_jobs(8, 1));
        let mut events = service.listen();
        for _ in 0..8 {
            alpha.at_next_open(StageName::Fetch, Do::Panic);
        }
        let reason = heard(&mut events, |event| restarted(event).filter(|(child, ..)| child == "alpha")).await.2;
        assert!(reason.starts_with("alpha/* used up its 6 restarts, the last time by panic: "), "{reason}");
        let id = service.enqueue(&alpha, &Script::pages(1)).await;
        assert_eq!(service.ended(id).await.state, State::Completed);
        service.stop().await;
    });
}

#[test]
fn an_operator_parks_unparks_and_restarts() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let id = service.enqueue(&alpha, &Script::pages(1).on(At::Fetch, 0, Some(1), Do::Hang)).await;
        alpha.until(|alpha| alpha.begun(id, At::Fetch, 0) == 1).await;

        service.tree.park("alpha").await.unwrap();
        let job = service.job(id).await;
        assert_eq!((job.state, job.attempt, tries(&job)), (State::Waiting, 0, vec!["interrupted"]));
        let status = service.status("alpha");
        assert_eq!((status.state, status.next_wake), (PartState::Parked, None));
        tokio::time::advance(Duration::from_secs(7200)).await;
        assert_eq!(service.state(id).await, State::Waiting, "no cool-down ends an operator's word");
        service.tree.park("alpha").await.unwrap();

        service.tree.unpark("alpha").await.unwrap();
        assert_eq!(service.ended(id).await.state, State::Completed);
        service.tree.restart("alpha").await.unwrap();
        let next = service.enqueue(&alpha, &Script::pages(1)).await;
        assert_eq!(service.ended(next).await.state, State::Completed);
        assert_eq!(alpha.running_max(StageName::Fetch), 1);

        let unknown = service.tree.park("gamma").await.unwrap_err();
        assert_eq!(unknown.to_string(), "there is no \"gamma\" in the tree; there are: alpha, upkeep");
        service.stop().await;
        assert_eq!(service.tree.restart("alpha").await, Err(TreeError::Stopped));
    });
}

/// Words that come while an earlier one is carried out wait for it: never two coordinators of one domain.
#[test]
fn operators_words_at_the_same_time_end_in_one_running_domain() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings().with_pool(StageName::Fetch, 1, 4));
        let id = service.enqueue(&alpha, &Script::pages(1).on(At::Fetch, 0, Some(1), Do::Hang)).await;
        alpha.until(|alpha| alpha.begun(id, At::Fetch, 0) == 1).await;
        let tree = &service.tree;
        let (a, b, c, d) =
            tokio::join!(tree.park("alpha"), tree.restart("alpha"), tree.unpark("alpha"), tree.restart("alpha"));
        assert_eq!([a, b, c, d], [Ok(()), Ok(()), Ok(()), Ok(())]);
        assert_eq!(service.ended(id).await.state, State::Completed);
        assert_ne!(service.status("alpha").state, PartState::Parked);
        assert_eq!((alpha.running_max(StageName::Fetch), alpha.begun(id, At::Fetch, 0)), (1, 2));
        service.stop().await;
    });
}

/// Of two words that wait for the same end the later one counts.
#[test]
fn a_park_that_comes_while_a_restart_is_carried_out_parks() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let id = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Hang)).await;
        alpha.until(|alpha| alpha.begun(id, At::Fetch, 0) == 1).await;
        let tree = &service.tree;
        let (a, b) = tokio::join!(tree.restart("alpha"), tree.park("alpha"));
        assert_eq!((a, b), (Ok(()), Ok(())));
        settle().await;
        assert_eq!((service.status("alpha").state, alpha.begun(id, At::Fetch, 0)), (PartState::Parked, 1));
        let (a, b) = tokio::join!(tree.unpark("alpha"), tree.park("alpha"));
        assert_eq!((a, b), (Ok(()), Ok(())));
        settle().await;
        assert_eq!((service.status("alpha").state, service.state(id).await), (PartState::Parked, State::Waiting));
        service.stop().await;
    });
}

/// Scripted, but its coordinator panics the so-manieth time it looks at the breakers.
struct Fragile {
    scripted: Scripted,
    asked: AtomicU32,
    panics_at: u32,
}

impl Domain for Fragile {
    type Request = PageRequest;
    type Answer = PageRequest;
    type Batch = Rows;
    type Fetch = <Scripted as Domain>::Fetch;
    type Transform = <Scripted as Domain>::Transform;
    type Upload = <Scripted as Domain>::Upload;

    fn name(&self) -> &'static str {
        self.scripted.name()
    }

    fn kinds(&self) -> &'static [&'static str] {
        self.scripted.kinds()
    }

    fn fetch(&self) -> <Self::Fetch as Stage>::Settings {
        self.scripted.fetch()
    }

    fn transform(&self) -> <Self::Transform as Stage>::Settings {
        self.scripted.transform()
    }

    fn upload(&self) -> <Self::Upload as Stage>::Settings {
        self.scripted.upload()
    }

    fn breakers(&self) -> Vec<Arc<Breaker>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        assert_ne!(asked, self.panics_at, "the breakers are gone");
        Vec::new()
    }

    async fn plan(&self, job: &Job) -> Result<Plan<PageRequest>, Fault> {
        self.scripted.plan(job).await
    }

    fn close(&self, job: &Job, checkpoint: &Checkpoint) -> Option<Rows> {
        self.scripted.close(job, checkpoint)
    }
}

#[test]
fn a_coordinator_that_panics_is_restarted_its_jobs_rescued_and_nothing_is_done_twice_at_once() {
    paused(async {
        for panics_at in 1..12 {
            let alpha = alpha();
            let fragile = Fragile { scripted: alpha.clone(), asked: AtomicU32::new(0), panics_at };
            let memory = Arc::new(MemoryLedger::new());
            let settings = settings().with_pool(StageName::Fetch, 2, 2);
            let child = Box::new(DomainChild::new(fragile, settings));
            let service = Service::start_children(memory.clone(), memory, vec![child]);
            let mut events = service.listen();
            let mut all = service.listen();
            let ids = service.enqueue_many(&alpha, &Script::pages(3), 8).await;
            let (child, count, reason) = heard(&mut events, restarted).await;
            assert_eq!((&*child, count), ("alpha", 1), "panic at look {panics_at}");
            assert!(reason.contains("the breakers are gone; left: "), "one line: {reason}");
            assert!(reason.contains(" at actors/tests/escalation.rs:"), "{reason}");
            for id in ids {
                let job = service.ended(id).await;
                assert_eq!((job.state, job.attempt), (State::Completed, 1));
                assert_eq!(job.counts.inserted, 3, "counted once");
            }
            assert!(alpha.running_max(StageName::Fetch) <= 2 && alpha.running_max(StageName::Upload) <= 2);
            assert_eq!(StageName::ALL.map(|stage| alpha.running(stage)), [0, 0, 0]);
            settle().await;
            let told = told(&mut all).await;
            let tries = told.iter().fold((0, 0), |(begun, ended), event| match &**event {
                Event::JobStarted { .. } => (begun + 1, ended),
                Event::JobEnded { .. } => (begun, ended + 1),
                _ => (begun, ended),
            });
            assert!(tries.0 >= 8 && tries.0 == tries.1, "each try that began is told to have ended: {tries:?}");
            service.stop().await;
        }
    });
}
