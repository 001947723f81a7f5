//! A job's life when nothing goes wrong, and when it is cut off in the middle.

use longshore_actors::checkpoint::{Counts, Part};
use longshore_actors::job::{FailCause, NewJob, State};
use longshore_actors::ledger::Entity;
use longshore_actors::stage::StageName;
use longshore_actors::testing::scripted::{At, Do, Rows, Script};

use crate::support::{Service, With, alpha, paused, settings, tries};

fn rows(pages: u32, rows: u32) -> Rows {
    (0..pages * rows).map(|value| (value / rows, u64::from(value))).collect()
}

#[test]
fn pages_are_planned_found_or_chained_and_counted_exactly() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        for script in [Script::pages(7), Script::found(7), Script::cursor(7)] {
            let script = Script { rows: 3, rejects: 2, close: true, ..script };
            let id = service.enqueue(&alpha, &script).await;
            let job = service.ended(id).await;
            assert_eq!((job.state, job.attempt), (State::Completed, 1), "{script:?}");
            assert_eq!(alpha.target().rows(id), rows(7, 3), "{script:?}");
            let counts = Counts { received: 35, inserted: 21, rejected: 14, ..Counts::default() };
            assert_eq!((job.counts, job.checkpoint.prefix, job.checkpoint.total), (counts, 7, Some(35)));
            let writes = alpha.target().writes();
            let closings = writes.iter().filter(|write| write.job == id && write.part == Part::Closing).count();
            assert_eq!((closings, writes.last().unwrap().part), (1, Part::Closing), "closed once, last");
        }
        assert_eq!(service.memory.rejects().len(), 3 * 14);
        assert_eq!((service.status("alpha").done, service.status("alpha/fetch").done), (3, 21));
        service.stop().await;
    });
}

#[test]
fn a_parent_ends_with_its_children_of_plan_and_page() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let child = || alpha.job(&Script { rows: 2, ..Script::pages(2) });
        let script = Script { children: vec![child(), child()], page_children: vec![child()], ..Script::pages(1) };
        let parent = service.enqueue(&alpha, &script).await;
        let job = service.ended(parent).await;
        assert_eq!(job.state, State::Completed);
        assert_eq!((job.children.completed, job.children.open), (3, 0));
        assert_eq!(job.counts.inserted, 1 + 3 * 4, "its own and its children's");
        service.stop().await;
    });
}

#[test]
fn a_skipped_plan_says_why_and_touches_no_stage() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let script = Script { note: Some("synced an hour ago".into()), ..Script::default() };
        let id = service.enqueue(&alpha, &script).await;
        let job = service.ended(id).await;
        assert_eq!((job.state, job.message.as_deref()), (State::Completed, Some("synced an hour ago")));
        assert_eq!(StageName::ALL.map(|stage| alpha.runs(stage)), [0, 0, 0]);
        service.stop().await;
    });
}

#[test]
fn broken_params_fail_at_once_and_an_unknown_kind_waits_visibly() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let params = serde_json::json!({"pagse": 3});
        let broken = service.put(NewJob::new("alpha", "alpha.job", params.clone())).await;
        let unknown = service.put(NewJob::new("alpha", "alpha.other", params)).await;
        let known = service.enqueue(&alpha, &Script::pages(1)).await;
        let job = service.ended(broken).await;
        assert_eq!((job.state, job.cause, job.attempt), (State::Failed, Some(FailCause::Permanent), 1));
        assert!(job.message.unwrap().contains("pagse"));
        assert_eq!(service.ended(known).await.state, State::Completed);
        assert_eq!(service.state(unknown).await, State::Waiting);
        service.stop().await;
    });
}

/// Rejected by fetch, transform or upload: one reject, the other pages go on, and nothing is closed, since what stood
/// on that page would pass for vanished (invariants 7 and 8).
#[test]
fn invariant_8_a_page_rejected_as_a_whole_is_put_aside_and_the_job_is_not_closed() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        for at in [At::Fetch, At::Transform, At::Upload] {
            let script = Script { close: true, ..Script::pages(3) }.on(at, 1, None, Do::Reject);
            let id = service.enqueue(&alpha, &script).await;
            let job = service.ended(id).await;
            assert_eq!(job.state, State::Completed, "{at:?}");
            assert_eq!(alpha.target().rows(id), [(0, 0), (2, 2)]);
            assert_eq!((job.counts.rejected, job.checkpoint.prefix, job.checkpoint.closed), (1, 3, false));
            assert_eq!(job.message.as_deref(), Some("not closed: 1 pages were rejected as a whole"));
            let (rejected, reject) = service.memory.rejects().pop().unwrap();
            assert_eq!((rejected, &*reject.reason), (id, "scripted"));
            assert!(reject.raw.contains("\"page\":1"), "{}", reject.raw);
        }
        service.stop().await;
    });
}

#[test]
fn sync_state_is_told_by_the_end() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let entity = Entity { provider: "p".into(), entity: "e".into() };
        let good = Script { entity: Some(entity), ..Script::pages(2) };
        let bad = good.clone().always(At::Upload, Do::Fail);
        let id = service.enqueue(&alpha, &good).await;
        service.ended(id).await;
        let bad = service.enqueue(&alpha, &bad).await;
        service.ended(bad).await;
        let synced = service.memory.sync_state("p", "e").unwrap();
        assert_eq!((synced.counts.inserted, synced.last_error.as_deref()), (2, Some("scripted")));
        service.stop().await;
    });
}

/// Invariants 1 and 3: what was committed is not done again, what was not is, and the counts are exact; the attempt is
/// not burnt.
#[test]
fn invariant_3_an_interrupted_job_resumes_after_what_was_committed() {
    paused(async {
        for script in [Script::pages(6), Script::found(6), Script::cursor(6)] {
            for pages_max in [1, 3] {
                let alpha = alpha();
                let service = Service::start(&alpha, settings().with_jobs(4, pages_max));
                let script = Script { close: true, rows: 2, ..script.clone() };
                let script = (2..6).fold(script, |script, page| script.on(At::Upload, page, Some(1), Do::Wait));
                let id = service.enqueue(&alpha, &script).await;
                alpha.until(|alpha| alpha.begun(id, At::Upload, 2) == 1).await;
                service.until(async || service.job(id).await.checkpoint.prefix == 2).await;

                service.tree.restart("alpha").await.unwrap();
                alpha.open_gate(StageName::Upload);
                let job = service.ended(id).await;
                assert_eq!((job.state, job.attempt, tries(&job)), (State::Completed, 1, vec!["interrupted"]));
                assert_eq!(alpha.target().rows(id), rows(6, 2), "{script:?}");
                assert_eq!((job.counts.inserted, job.counts.received), (12, 12));
                for page in 0..2 {
                    for at in [At::Fetch, At::Transform, At::Upload] {
                        assert_eq!(alpha.begun(id, at, page), 1, "{at:?} of page {page}");
                    }
                }
                service.stop().await;
            }
        }
    });
}

/// Page 3 is committed before page 1: it is not done again either.
#[test]
fn a_page_committed_out_of_order_is_not_done_again() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings().with_jobs(4, 4));
        let script = Script::pages(5).on(At::Upload, 1, Some(1), Do::Hang);
        let id = service.enqueue(&alpha, &script).await;
        service.until(async || service.job(id).await.checkpoint.beyond.len() == 3).await;
        service.tree.restart("alpha").await.unwrap();
        let job = service.ended(id).await;
        assert_eq!((job.state, job.counts.inserted), (State::Completed, 5));
        let begun: Vec<u32> = (0..5).map(|page| alpha.begun(id, At::Fetch, page)).collect();
        assert_eq!(begun, [1, 2, 1, 1, 1]);
        assert_eq!(alpha.target().rows(id), rows(5, 1));
        service.stop().await;
    });
}

/// A chain of pages in which a later one was committed first: what follows it is known from the checkpoint alone, since
/// that page is not fetched again. Otherwise the job would end there and pass for complete.
#[test]
fn invariant_8_a_chain_resumes_past_pages_that_were_committed_out_of_order() {
    paused(async {
        for pages_max in [4, 1] {
            let alpha = alpha();
            let service = Service::start(&alpha, settings().with_pool(StageName::Upload, 4, 1).with_jobs(4, 4));
            let script = Script { close: true, ..Script::cursor(6) }.on(At::Upload, 0, Some(1), Do::Hang).on(
                At::Upload,
                3,
                Some(1),
                Do::Hang,
            );
            let id = service.enqueue(&alpha, &script).await;
            service.until(async || service.job(id).await.checkpoint.beyond.len() >= 2).await;
            service.tree.change("alpha", |settings| settings.pages_max = pages_max).unwrap();
            service.tree.restart("alpha").await.unwrap();
            let job = service.ended(id).await;
            assert_eq!((job.state, job.checkpoint.prefix, job.counts.inserted), (State::Completed, 6, 6));
            assert_eq!(alpha.target().rows(id), rows(6, 1));
            assert!([1, 2].iter().all(|page| alpha.begun(id, At::Fetch, *page) == 1), "not done again");
            service.stop().await;
        }
    });
}
