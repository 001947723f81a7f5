//! Events are for those who listen; the work does not wait for them.

use longshore_actors::events::{Event, Heard};
use longshore_actors::job::State;
use longshore_actors::stage::StageName;
use longshore_actors::testing::scripted::{At, Do, Script};

use crate::support::{Service, alpha, paused, settings, told};

#[test]
fn a_slow_listener_loses_the_oldest_events_and_never_slows_the_work() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let mut slow = service.listen();
        let ids = service.enqueue_many(&alpha, &Script::pages(5), 300).await;
        service.all_ended().await;
        for id in ids {
            assert_eq!(service.state(id).await, State::Completed);
        }
        let Some(Heard::Missed(missed)) = slow.next().await else { panic!("it cannot have heard them all") };
        let kept = told(&mut slow).await;
        assert!(missed > 3000 && kept.len() == 1024, "{missed} missed, {} kept", kept.len());
        let ended = kept.iter().rev().find(|event| matches!(&***event, Event::JobEnded { .. }));
        assert!(ended.is_some(), "what is kept is the latest");
        service.stop().await;
    });
}

#[test]
fn a_job_tells_its_steps_in_order_and_shows_its_progress_while_it_runs() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let mut events = service.listen();
        let script = Script { rows: 3, rejects: 1, close: true, ..Script::found(4) }.on(At::Upload, 3, None, Do::Wait);
        let id = service.enqueue(&alpha, &script).await;
        alpha.until(|alpha| alpha.begun(id, At::Upload, 3) == 1).await;
        service.until(async || service.job(id).await.checkpoint.prefix == 3).await;
        crate::support::settle().await;
        let running = service.tree.runtime().board.running_job(id).unwrap();
        let progress = &running.progress;
        assert_eq!((&*progress.step, progress.completed, progress.total), ("pages", 3, 4));
        assert_eq!(progress.message, "12 of 16 records, 3 rejected");
        alpha.open_gate(StageName::Upload);
        service.ended(id).await;
        let events = told(&mut events).await;
        let mut words: Vec<String> = Vec::new();
        for event in &events {
            match &**event {
                Event::JobStarted { attempt, .. } => words.push(format!("started {attempt}")),
                Event::JobProgress { progress, .. } => words.push(progress.step.to_string()),
                Event::PageDone { .. } => {}
                Event::JobEnded { outcome, counts, .. } => words.push(format!("{outcome} {}", counts.inserted)),
                other => panic!("{other:?}"),
            }
        }
        words.dedup();
        assert_eq!(words, ["started 1", "plan", "pages", "closing", "record", "completed 12"]);
        for stage in StageName::ALL {
            let done =
                |event: &&std::sync::Arc<Event>| matches!(&***event, Event::PageDone { stage: of, .. } if *of == stage);
            assert_eq!(events.iter().filter(done).count(), 4);
        }
        service.stop().await;
    });
}
