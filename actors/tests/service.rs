//! A part of the service that is one loop.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use longshore_actors::child::ServiceChild;
use longshore_actors::events::Event;
use longshore_actors::restart::RestartPolicy;
use longshore_actors::shutdown::Ending;
use longshore_actors::status::PartState;
use longshore_actors::testing::memory::MemoryLedger;
use tokio::time::Instant;

use crate::support::{SECOND, Service, heard, paused, settle};

fn policy() -> RestartPolicy {
    RestartPolicy { max: 2, within: 60 * SECOND, backoff_min: SECOND, backoff_max: SECOND }
}

/// A loop that does what `life` says in its first, second, … life.
fn started(life: impl Fn(u32) -> Life + 'static) -> (Service, Rc<Cell<u32>>) {
    let lives = Rc::new(Cell::new(0));
    let count = lives.clone();
    let child = ServiceChild::new("clock", policy(), move |part| {
        count.set(count.get() + 1);
        let life = life(count.get());
        assert_ne!(life, Life::PanicsWhileMade, "cannot be made");
        Box::pin(async move {
            part.set(PartState::Busy);
            match life {
                Life::Panics => panic!("lost count"),
                Life::Ends | Life::PanicsWhileMade => {}
                Life::Goes => std::future::pending().await,
            }
        })
    });
    let memory = Arc::new(MemoryLedger::new());
    (Service::start_children(memory.clone(), memory, vec![Box::new(child)]), lives)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Panics,
    PanicsWhileMade,
    Ends,
    Goes,
}

#[test]
fn a_loop_that_panics_or_ends_too_early_is_started_again() {
    paused(async {
        for (first, reason) in [
            (Life::Panics, "panic: lost count at actors/tests/service.rs:"),
            (Life::PanicsWhileMade, "panic: assertion `left != right` failed: cannot be made; "),
            (Life::Ends, "its loop ended"),
        ] {
            let (service, lives) = started(move |life| if life <= 2 { first } else { Life::Goes });
            let mut events = service.listen();
            for count in 1..=2 {
                let told = heard(&mut events, |event| match event {
                    Event::Restarted { child, reason, restarts, .. } => {
                        Some((child.clone(), reason.clone(), *restarts))
                    }
                    _ => None,
                });
                let (child, told, restarts) = told.await;
                assert_eq!((&*child, restarts), ("clock", count));
                assert!(told.starts_with(reason), "{told}");
            }
            tokio::time::sleep(100 * SECOND).await;
            let status = service.status("clock");
            assert_eq!((lives.get(), status.state, status.restarts), (3, PartState::Busy, 2));
            let began = Instant::now();
            assert_eq!(service.tree.shutdown(10 * SECOND).await, Ending::default());
            assert_eq!(began.elapsed(), SECOND, "a loop that does not end by itself has a second");
        }
    });
}

#[test]
fn a_loop_that_cannot_live_is_parked_and_tried_again_after_a_while() {
    paused(async {
        let (service, lives) = started(|life| if life <= 3 { Life::Panics } else { Life::Goes });
        let mut events = service.listen();
        let parked = heard(&mut events, |event| match event {
            Event::Parked { child, cool_down, .. } => Some((child.clone(), *cool_down)),
            _ => None,
        });
        assert_eq!(parked.await, ("clock".to_owned(), 60 * SECOND));
        assert_eq!(service.status("clock").state, PartState::Parked);
        heard(&mut events, |event| matches!(event, Event::Unparked { .. }).then_some(())).await;
        settle().await;
        assert_eq!((lives.get(), service.status("clock").state), (4, PartState::Busy));
        service.tree.restart("clock").await.unwrap();
        settle().await;
        assert_eq!(lives.get(), 5);
        service.tree.shutdown(10 * SECOND).await;
    });
}
