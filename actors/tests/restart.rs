//! A worker that panics: it is started again, what it did goes to another one, and an input that kills is poison.

use longshore_actors::events::Event;
use longshore_actors::job::{FailCause, State};
use longshore_actors::restart::RestartPolicy;
use longshore_actors::settings::KindPolicy;
use longshore_actors::stage::StageName;
use longshore_actors::testing::scripted::{At, Do, Script};

use crate::support::{KIND, Log, SECOND, Service, With, alpha, heard, paused, policy, settings, told, tries};

const STAGES: [(At, StageName); 3] =
    [(At::Fetch, StageName::Fetch), (At::Transform, StageName::Transform), (At::Upload, StageName::Upload)];

#[test]
fn a_worker_that_panics_is_restarted_and_the_job_goes_on_without_burning_an_attempt() {
    paused(async {
        for (at, stage) in STAGES {
            for actors in [1, 3] {
                let alpha = alpha();
                let service = Service::start(&alpha, settings().with_pool(stage, actors, 2));
                let mut events = service.listen();
                let id = service.enqueue(&alpha, &Script::pages(4).on(at, 2, Some(1), Do::Panic)).await;
                let job = service.ended(id).await;
                assert_eq!((job.state, job.attempt, job.crashes), (State::Completed, 1, 1));
                assert_eq!(tries(&job), ["crashed"]);
                let rows: Vec<_> = (0..4).map(|page| (page, u64::from(page))).collect();
                assert_eq!(alpha.target().rows(id), rows);

                let restarted = heard(&mut events, |event| match event {
                    Event::Restarted { child, restarts, .. } => Some((child.clone(), *restarts)),
                    _ => None,
                });
                let (child, restarts) = restarted.await;
                assert!(child.starts_with(&format!("alpha/{stage}/")) && restarts == 1, "{child}");
                assert_eq!(service.status(&child).restarts, 1);
                assert_eq!(service.status(&format!("alpha/{stage}")).restarts, 1, "its pool counts too");
                alpha.until(|alpha| alpha.opens(stage) == actors + 1).await;
                service.stop().await;
            }
        }
    });
}

#[test]
fn a_restart_is_one_warning_in_the_operators_form() {
    paused(async {
        let log = Log::start();
        let alpha = alpha();
        let service = Service::start(&alpha, settings().with_pool(StageName::Fetch, 1, 2));
        let script = Script::pages(1).on(At::Fetch, 0, Some(1), Do::Panic).on(At::Fetch, 0, Some(2), Do::Panic);
        let id = service.enqueue(&alpha, &script).await;
        assert_eq!(service.ended(id).await.state, State::Completed);
        let restarts: Vec<String> = log.lines().into_iter().filter(|line| line.contains("restart")).collect();
        assert_eq!(restarts.len(), 2, "{restarts:?}");
        for (line, (count, min, max)) in restarts.iter().zip([(1, 160, 200), (2, 320, 400)]) {
            let fields = line.split_once(": restart ").unwrap().1;
            let (before, backoff) = fields.rsplit_once(" backoff=").unwrap();
            assert!(line.trim_start().starts_with("WARN "), "{line}");
            let (reason, numbers) = before.split_once(" restarts=").unwrap();
            let place = "child=alpha/fetch/0 reason=\"panic: scripted panic at actors/src/testing/scripted/script.rs:";
            let line_number = reason.strip_prefix(place).unwrap_or_else(|| panic!("{line}"));
            assert!(line_number.trim_end_matches('"').parse::<u32>().is_ok(), "{line}");
            assert_eq!(numbers, format!("{count}/5 within=60s"));
            let millis: u64 = backoff.strip_suffix("ms").unwrap().parse().unwrap();
            assert!((min..=max).contains(&millis), "{line}");
        }
        service.stop().await;
    });
}

/// The driving function is ours, so a plan that panics is a bug too; it kills no actor and counts as a failed try.
#[test]
fn a_plan_that_panics_is_a_failed_try() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let once = service.enqueue(&alpha, &Script::pages(1).once(At::Plan, Do::Panic)).await;
        let always = service.enqueue(&alpha, &Script::pages(1).always(At::Plan, Do::Panic)).await;
        let job = service.ended(once).await;
        assert_eq!((job.state, job.attempt), (State::Completed, 2));
        let job = service.ended(always).await;
        assert_eq!((job.state, job.cause, job.attempt), (State::Failed, Some(FailCause::Exhausted), 3));
        assert!(job.message.unwrap().starts_with("panic: scripted panic at "));
        assert_eq!((service.status("alpha").restarts, service.status("alpha/fetch").restarts), (0, 0));
        service.stop().await;
    });
}

#[test]
fn an_input_that_kills_its_worker_is_poison_while_other_jobs_go_on() {
    paused(async {
        for (at, stage) in STAGES {
            let alpha = alpha();
            let service = Service::start(&alpha, settings().with_pool(stage, 2, 2));
            let poison = service.enqueue(&alpha, &Script::pages(2).on(at, 1, None, Do::Panic)).await;
            let others = service.enqueue_many(&alpha, &Script::pages(3), 20).await;
            let job = service.ended(poison).await;
            assert_eq!((job.state, job.cause), (State::Failed, Some(FailCause::Poison)), "{at:?}");
            assert_eq!((job.attempt, job.crashes), (1, 3), "crashes are counted apart from attempts");
            assert!(job.message.unwrap().starts_with("killed its worker 3 times, the last time by panic: scripted"));
            for id in others {
                assert_eq!(service.ended(id).await.state, State::Completed);
            }
            assert_eq!(alpha.begun(poison, at, 1), 3);
            assert_eq!(service.status("alpha").restarts, 0, "the coordinator lives on");
            service.stop().await;
        }
    });
}

/// Crashes add up over attempts: a job that is retried in between does not start at none again.
#[test]
fn crashes_add_up_over_attempts() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings().with_kind(KIND, KindPolicy { crashes_max: 2, ..policy() }));
        let script = Script::pages(1)
            .on(At::Fetch, 0, Some(1), Do::Panic)
            .on(At::Fetch, 0, Some(2), Do::Retry { after_ms: None })
            .on(At::Fetch, 0, Some(3), Do::Panic);
        let id = service.enqueue(&alpha, &script).await;
        let job = service.ended(id).await;
        assert_eq!((job.cause, job.attempt, job.crashes), (Some(FailCause::Poison), 2, 2));
        service.stop().await;
    });
}

#[test]
fn a_stage_that_panics_while_it_opens_is_restarted_too() {
    paused(async {
        let alpha = alpha();
        alpha.at_next_open(StageName::Upload, Do::Panic);
        alpha.at_next_open(StageName::Upload, Do::Panic);
        let service = Service::start(&alpha, settings().with_pool(StageName::Upload, 1, 1));
        let id = service.enqueue(&alpha, &Script::pages(2)).await;
        let job = service.ended(id).await;
        assert_eq!((job.state, job.crashes), (State::Completed, 0), "the job did not kill it");
        assert_eq!((alpha.opens(StageName::Upload), service.status("alpha/upload/0").restarts), (3, 2));
        service.stop().await;
    });
}

/// A restart that is on its way when the pool shrinks and grows again finds its place taken and starts nobody.
#[test]
fn a_restart_that_comes_after_shrink_and_grow_starts_no_second_worker() {
    paused(async {
        let alpha = alpha();
        let restart = RestartPolicy { backoff_min: 5 * SECOND, ..settings().restart };
        let settings = longshore_actors::settings::DomainSettings { restart, ..settings() };
        let service = Service::start(&alpha, settings.with_pool(StageName::Fetch, 2, 1));
        let mut events = service.listen();
        let id = service.enqueue(&alpha, &Script::pages(1).on(At::Fetch, 0, Some(1), Do::Panic)).await;
        heard(&mut events, |event| matches!(event, Event::Restarted { .. }).then_some(())).await;
        for actors in [1, 2, 1, 2] {
            let size = longshore_actors::settings::PoolSettings { actors, mailbox: 1 };
            service.tree.resize("alpha", StageName::Fetch, size).unwrap();
            heard(&mut events, |event| matches!(event, Event::Resized { .. }).then_some(())).await;
        }
        assert_eq!(service.ended(id).await.state, State::Completed);
        let before = alpha.opens(StageName::Fetch);
        tokio::time::advance(20 * SECOND).await;
        service.enqueue_many(&alpha, &Script::pages(2).always(At::Fetch, Do::Wait), 4).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) >= 2).await;
        crate::support::settle().await;
        assert!(alpha.opens(StageName::Fetch) <= before + 1, "at most the one restart");
        assert_eq!(alpha.running_max(StageName::Fetch), 2);
        alpha.open_gate(StageName::Fetch);
        service.all_ended().await;
        assert!(told(&mut events).await.len() > 4);
        service.stop().await;
    });
}
