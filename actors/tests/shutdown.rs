//! The end of the service (invariant 11): in order, within its grace, whatever hangs, and nothing is stranded.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_actors::child::{Child, DomainChild, ServiceChild};
use longshore_actors::events::Event;
use longshore_actors::job::State;
use longshore_actors::restart::RestartPolicy;
use longshore_actors::shutdown::{Ending, Phase};
use longshore_actors::stage::StageName;
use longshore_actors::status::PartState;
use longshore_actors::supervisor::Tree;
use longshore_actors::testing::memory::{MemoryLedger, Op};
use longshore_actors::testing::scripted::{At, Do, Script};
use tokio::time::Instant;

use crate::support::{HeldLedger, SECOND, Service, With, alpha, beta, paused, settings, settle, told, tries};

const GRACE: Duration = Duration::from_secs(25);

async fn shutdown(tree: &Tree, grace: Duration) -> (Ending, Duration) {
    let began = Instant::now();
    let ending = tree.shutdown(grace).await;
    assert!(began.elapsed() <= grace, "{:?} of {grace:?}", began.elapsed());
    (ending, began.elapsed())
}

#[test]
fn children_end_in_reverse_order_and_the_phases_are_told() {
    paused(async {
        let ends = Arc::new(Mutex::new(Vec::new()));
        let memory = Arc::new(MemoryLedger::new());
        let watched = |name: &'static str| {
            let ends = ends.clone();
            ServiceChild::new(name, RestartPolicy::default(), move |_| {
                let told = Told(name, ends.clone());
                Box::pin(async move {
                    let _told = told;
                    std::future::pending::<()>().await;
                })
            })
        };
        let (first, last) = (watched("first"), watched("last"));
        let children: Vec<Box<dyn Child>> =
            vec![Box::new(first), Box::new(DomainChild::new(alpha(), settings())), Box::new(last)];
        let service = Service::start_children(memory.clone(), memory, children);
        let mut events = service.listen();
        settle().await;
        service.tree.shutdown(GRACE).await;
        assert_eq!(*ends.lock().unwrap(), ["last", "first"]);
        let events = told(&mut events).await;
        let phases = events.iter().filter_map(|event| match &**event {
            Event::Phase { phase } => Some(*phase),
            _ => None,
        });
        assert_eq!(phases.collect::<Vec<_>>(), [Phase::Quiet, Phase::Drain, Phase::Stop]);
        assert_eq!(service.status("alpha").state, PartState::Stopped);
    });
}

struct Told(&'static str, Arc<Mutex<Vec<&'static str>>>);

impl Drop for Told {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

#[test]
fn invariant_11_shutdown_under_load_finishes_pages_and_gives_jobs_back_unburnt() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let script = Script::pages(9).always(At::Upload, Do::Wait);
        let ids = service.enqueue_many(&alpha, &script, 40).await;
        alpha.let_through(StageName::Upload, 30);
        alpha.until(|alpha| alpha.target().writes().len() == 30).await;
        let end = shutdown(&service.tree, GRACE);
        let drain = async {
            service.tree.runtime().phases.reached(Phase::Drain).await;
            settle().await;
            let fetched = alpha.runs(StageName::Fetch);
            alpha.open_gate(StageName::Upload);
            fetched
        };
        let ((ending, took), fetched) = tokio::join!(end, drain);
        assert_eq!((ending, took), (Ending::default(), Duration::ZERO), "what was in flight was finished");
        let (mut committed, mut written) = (0, 0);
        for id in ids {
            let job = service.job(id).await;
            written += alpha.target().rows(id).len() as u64;
            committed += job.counts.inserted;
            match job.state {
                State::Completed => assert_eq!((job.attempt, job.counts.inserted), (1, 9)),
                _ => {
                    assert_eq!((job.state, job.attempt), (State::Waiting, 0), "given back, no attempt burnt");
                    assert!(tries(&job).iter().all(|outcome| *outcome == "interrupted"));
                }
            }
        }
        assert_eq!((committed, alpha.runs(StageName::Upload) as u64), (written, written), "all of it is recorded");
        assert!(alpha.runs(StageName::Fetch) <= fetched + 12, "no new pages: what was queued went through");
    });
}

#[test]
fn invariant_11_shutdown_ends_in_time_with_a_hanging_upstream() {
    paused(async {
        for (at, grace) in [
            (At::Fetch, GRACE),
            (At::Transform, GRACE),
            (At::Upload, SECOND),
            (At::Plan, SECOND),
            (At::Fetch, SECOND / 5),
        ] {
            let (alpha, beta) = (alpha(), beta());
            let service = Service::start_all(vec![(alpha.clone(), settings()), (beta.clone(), settings())]);
            let ids = service.enqueue_many(&alpha, &Script::pages(3).always(at, Do::Hang), 10).await;
            alpha.until(|alpha| alpha.begun(ids[0], at, 0) == 1).await;
            let (ending, _) = shutdown(&service.tree, grace).await;
            assert_eq!(ending, Ending { interrupted: vec!["alpha".into()], hanging: vec![] }, "{at:?} {grace:?}");
            for id in ids {
                let job = service.job(id).await;
                assert_eq!((job.state, job.attempt), (State::Waiting, 0));
            }
            assert!(service.tree.runtime().board.running().is_empty());
        }
    });
}

/// Nobody is waited for; the jobs stand where they stood and the next start rescues them.
#[test]
fn an_end_without_grace_waits_for_nothing() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let id = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Hang)).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        let (ending, took) = shutdown(&service.tree, Duration::ZERO).await;
        assert_eq!((ending.interrupted, took), (vec!["alpha".to_owned()], Duration::ZERO));
        assert_eq!(service.state(id).await, State::Active);
    });
}

#[test]
fn invariant_11_shutdown_ends_in_time_with_a_dead_ledger() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let script = Script::pages(3).on(At::Upload, 1, None, Do::Wait);
        let ids = service.enqueue_many(&alpha, &script, 10).await;
        alpha.until(|alpha| alpha.running(StageName::Upload) == 2).await;
        service.memory.cut("the disk is gone");
        alpha.open_gate(StageName::Upload);
        let (ending, took) = shutdown(&service.tree, GRACE).await;
        assert_eq!(ending.hanging, Vec::<String>::new());
        assert!(took < GRACE, "{took:?}");
        // Nothing could be written, so the jobs stand where they stood; the next start rescues them.
        service.memory.mend();
        let mut active = 0;
        for id in ids {
            active += u64::from(service.state(id).await == State::Active);
        }
        assert!(active > 0);

        let again =
            Service::start_on(service.memory.clone(), service.memory.clone(), vec![(alpha.clone(), settings())]);
        again.all_ended().await;
        assert_eq!((again.total(State::Completed).await, again.total(State::Failed).await), (10, 0));
        again.stop().await;
    });
}

/// A ledger that never answers: whoever waits for it is left behind at the deadline.
#[test]
fn invariant_11_shutdown_ends_in_time_with_a_ledger_that_hangs() {
    paused(async {
        let (alpha, beta) = (alpha(), beta());
        let memory = Arc::new(MemoryLedger::new());
        let held = HeldLedger::new(memory.clone());
        let domains = vec![(alpha.clone(), settings()), (beta.clone(), settings())];
        let service = Service::start_on(memory, held.clone(), domains);
        let id = service.enqueue(&beta, &Script::pages(1).always(At::Upload, Do::Hang)).await;
        beta.until(|beta| beta.begun(id, At::Upload, 0) == 1).await;
        held.hold(Op::Record);
        let (ending, _) = shutdown(&service.tree, GRACE).await;
        let names = |name: &str| vec![name.to_owned()];
        assert_eq!(
            ending,
            Ending { interrupted: names("beta"), hanging: names("beta") },
            "alpha has ended all the same"
        );
        assert_eq!(service.status("alpha").state, PartState::Stopped);
    });
}

#[test]
fn ending_before_anything_ran_or_twice_is_harmless() {
    paused(async {
        let service = Service::start(&alpha(), settings());
        assert_eq!(shutdown(&service.tree, GRACE).await, (Ending::default(), Duration::ZERO));
        assert_eq!(shutdown(&service.tree, GRACE).await, (Ending::default(), Duration::ZERO));
        let id = service.enqueue(&alpha(), &Script::pages(1)).await;
        settle().await;
        assert_eq!(service.state(id).await, State::Waiting, "nothing starts again");
    });
}

/// A second call waits for the first one's end; with a shorter grace it shortens it.
#[test]
fn a_second_end_shortens_the_first() {
    paused(async {
        for (second, expected) in
            [(100 * SECOND, GRACE - Duration::from_secs(3)), (SECOND, 10 * SECOND + SECOND * 4 / 5)]
        {
            let alpha = alpha();
            let service = Service::start(&alpha, settings());
            let id = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Hang)).await;
            alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
            let began = Instant::now();
            let later = async {
                tokio::time::sleep(10 * SECOND).await;
                service.tree.shutdown(second).await
            };
            let (first, second) = tokio::join!(service.tree.shutdown(GRACE), later);
            assert_eq!((&first.interrupted, &first), (&vec!["alpha".to_owned()], &second));
            assert_eq!(began.elapsed().as_millis(), expected.as_millis());
            assert_eq!(service.state(id).await, State::Waiting);
        }
    });
}

/// The ledger gave jobs in the very moment in which the end came: they go back, whichever way it ends.
#[test]
fn invariant_11_jobs_of_a_claim_that_was_under_way_are_given_back() {
    paused(async {
        for park in [true, false] {
            let alpha = alpha();
            let memory = Arc::new(MemoryLedger::new());
            let held = HeldLedger::new(memory.clone());
            let service = Service::start_on(memory, held.clone(), vec![(alpha.clone(), settings())]);
            settle().await;
            held.hold(Op::Claim);
            let ids = service.enqueue_many(&alpha, &Script::pages(1), 3).await;
            held.is_held(Op::Claim).await;
            assert_eq!(service.total(State::Active).await, 3, "the ledger has given them");
            let end = async {
                match park {
                    true => service.tree.park("alpha").await.unwrap(),
                    false => assert_eq!(service.tree.shutdown(GRACE).await, Ending::default()),
                }
            };
            let answer = async {
                settle().await;
                held.let_go(Op::Claim);
            };
            tokio::join!(end, answer);
            for id in ids {
                let job = service.job(id).await;
                assert_eq!((job.state, job.attempt, tries(&job)), (State::Waiting, 0, vec!["interrupted"]));
            }
            assert_eq!(alpha.runs(StageName::Fetch), 0);
        }
    });
}

/// Parked while it still rescues: it must not begin to claim afterwards.
#[test]
fn a_rescue_that_was_under_way_when_the_end_came_claims_nothing_after() {
    paused(async {
        let alpha = alpha();
        let memory = Arc::new(MemoryLedger::new());
        let held = HeldLedger::new(memory.clone());
        held.hold(Op::Rescue);
        let service = Service::start_on(memory, held.clone(), vec![(alpha.clone(), settings())]);
        let id = service.enqueue(&alpha, &Script::pages(1)).await;
        held.is_held(Op::Rescue).await;
        service.tree.park("alpha").await.unwrap();
        held.let_go(Op::Rescue);
        tokio::time::advance(100 * SECOND).await;
        settle().await;
        assert_eq!((service.state(id).await, service.status("alpha").state), (State::Waiting, PartState::Parked));
        service.tree.unpark("alpha").await.unwrap();
        assert_eq!(service.ended(id).await.state, State::Completed);
        service.stop().await;
    });
}

/// The service ends while an operator's park is being carried out: it waits for that too.
#[test]
fn an_end_during_a_park_waits_for_the_park() {
    paused(async {
        let alpha = alpha();
        let memory = Arc::new(MemoryLedger::new());
        let held = HeldLedger::new(memory.clone());
        let service = Service::start_on(memory, held.clone(), vec![(alpha.clone(), settings())]);
        let id = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Hang)).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        held.hold(Op::Record);
        let end = async {
            held.is_held(Op::Record).await;
            let ends = service.tree.shutdown(GRACE);
            let answer = async {
                settle().await;
                held.let_go(Op::Record);
            };
            tokio::join!(ends, answer).0
        };
        let (_, ending) = tokio::join!(service.tree.park("alpha"), end);
        assert_eq!(ending, Ending::default());
        assert_eq!(service.state(id).await, State::Waiting);
    });
}

#[test]
fn a_wait_between_tries_of_a_page_is_cut_short_by_drain() {
    paused(async {
        let alpha = alpha();
        let policy = longshore_actors::settings::KindPolicy { page_tries: 2, ..crate::support::policy() };
        let service = Service::start(&alpha, settings().with_kind(crate::support::KIND, policy));
        let script = Script::pages(1).always(At::Fetch, Do::Retry { after_ms: Some(3_600_000) });
        let id = service.enqueue(&alpha, &script).await;
        alpha.until(|alpha| alpha.begun(id, At::Fetch, 0) == 1).await;
        settle().await;
        assert_eq!(shutdown(&service.tree, GRACE).await, (Ending::default(), Duration::ZERO));
        let job = service.job(id).await;
        assert_eq!((job.state, job.attempt), (State::Waiting, 0));
    });
}

#[test]
fn a_grace_without_end_is_a_grace() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let id = service.enqueue(&alpha, &Script::pages(1).always(At::Fetch, Do::Wait)).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 1).await;
        let end = service.tree.shutdown(Duration::MAX);
        let (ending, ()) = tokio::join!(end, async { alpha.open_gate(StageName::Fetch) });
        assert_eq!((ending, service.status("alpha").state), (Ending::default(), PartState::Stopped));
        assert_eq!(service.state(id).await, State::Completed);
    });
}
