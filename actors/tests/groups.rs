//! Pieces of work of one job that wait for the same worker are given to it together, if the stage wants that.

use longshore_actors::job::{FailCause, JobId, State};
use longshore_actors::ledger::{Change, Ledger};
use longshore_actors::stage::StageName;
use longshore_actors::testing::scripted::{At, Do, Script, Scripted};

use crate::support::{Service, With, alpha, paused, settings, settle, tries};

/// One upload worker with room for many pages.
fn start(alpha: &Scripted) -> Service {
    let settings = settings()
        .with_pool(StageName::Fetch, 8, 2)
        .with_pool(StageName::Transform, 1, 16)
        .with_pool(StageName::Upload, 1, 16)
        .with_jobs(2, 16);
    Service::start(alpha, settings)
}

/// Lets the first page of `script` go ahead as far as the gate of upload; once all others wait behind it, opens that.
async fn behind_the_first(alpha: &Scripted, service: &Service, script: Script, others: Option<Script>) -> JobId {
    let behind = 1..script.total();
    let script = behind.fold(script, |script, page| script.on(At::Fetch, page, Some(1), Do::Wait));
    let id = service.enqueue(alpha, &script.on(At::Upload, 0, Some(1), Do::Wait)).await;
    alpha.until(|alpha| alpha.running(StageName::Upload) == 1).await;
    alpha.open_gate(StageName::Fetch);
    settle().await;
    if let Some(others) = others {
        service.enqueue(alpha, &others).await;
    }
    settle().await;
    alpha.open_gate(StageName::Upload);
    id
}

fn all_rows(pages: u32) -> Vec<(u32, u64)> {
    (0..pages).map(|page| (page, u64::from(page))).collect()
}

#[test]
fn what_waits_is_taken_together_up_to_the_stages_bound() {
    paused(async {
        for (max, sizes) in [(1, vec![1; 8]), (4, vec![1, 4, 3]), (100, vec![1, 7])] {
            let alpha = alpha().with_groups(max);
            let service = start(&alpha);
            let id = behind_the_first(&alpha, &service, Script::pages(8), None).await;
            let job = service.ended(id).await;
            assert_eq!((job.state, job.counts.inserted), (State::Completed, 8));
            assert_eq!(alpha.target().rows(id), all_rows(8));
            let seen: Vec<usize> = alpha.groups().iter().map(|(_, pages)| pages.len()).collect();
            assert_eq!(seen, sizes, "at most {max}");
            let upload = service.status("alpha/upload");
            assert_eq!((upload.done, upload.depth), (8, 0), "each piece counts, and frees its place");
            service.stop().await;
        }
    });
}

#[test]
fn what_belongs_to_another_job_is_not_taken_along() {
    paused(async {
        let alpha = alpha().with_groups(100);
        let service = start(&alpha);
        let id = behind_the_first(&alpha, &service, Script::pages(4), Some(Script::pages(3))).await;
        service.all_ended().await;
        let other = JobId(id.0 + 1);
        assert_eq!(alpha.groups(), [(id, vec![0]), (id, vec![1, 2, 3]), (other, vec![0, 1, 2])]);
        service.stop().await;
    });
}

#[test]
fn a_piece_that_fails_fails_alone() {
    paused(async {
        let alpha = alpha().with_groups(100);
        let service = start(&alpha);
        let script = Script::pages(5).on(At::Upload, 3, None, Do::Reject);
        let id = behind_the_first(&alpha, &service, script, None).await;
        let job = service.ended(id).await;
        assert_eq!((job.state, job.counts.inserted, job.counts.rejected), (State::Completed, 4, 1));
        let expected: Vec<_> = all_rows(5).into_iter().filter(|(page, _)| *page != 3).collect();
        assert_eq!(alpha.target().rows(id), expected);
        let sizes: Vec<usize> = alpha.groups().iter().map(|(_, pages)| pages.len()).collect();
        assert_eq!(sizes, [1, 4, 1, 1, 1, 1], "then each by itself");
        assert_eq!(service.status("alpha/upload").depth, 0);
        service.stop().await;
    });
}

#[test]
fn a_group_that_kills_its_worker_is_one_crash() {
    paused(async {
        let alpha = alpha().with_groups(100);
        let service = start(&alpha);
        let script = Script::pages(6).on(At::Upload, 3, Some(1), Do::Panic);
        let id = behind_the_first(&alpha, &service, script, None).await;
        let job = service.ended(id).await;
        assert_eq!((job.state, job.attempt, job.crashes), (State::Completed, 1, 1));
        assert_eq!(tries(&job), ["crashed"]);
        assert_eq!(alpha.target().rows(id), all_rows(6));
        assert_eq!(service.status("alpha/upload").restarts, 1);
        let sizes: Vec<usize> = alpha.groups().iter().map(|(_, pages)| pages.len()).collect();
        assert_eq!(sizes, [1, 5, 1, 1, 1, 1, 1], "then each by itself");
        service.stop().await;
    });
}

#[test]
fn a_group_that_kills_every_worker_is_poison() {
    paused(async {
        let alpha = alpha().with_groups(100);
        let service = start(&alpha);
        let script = Script::pages(6).on(At::Upload, 3, None, Do::Panic);
        let id = behind_the_first(&alpha, &service, script, None).await;
        let job = service.ended(id).await;
        assert_eq!((job.state, job.cause, job.crashes), (State::Failed, Some(FailCause::Poison), 3));
        assert_eq!(alpha.begun(id, At::Upload, 3), 3);
        let others: Vec<_> = all_rows(6).into_iter().filter(|(page, _)| *page != 3).collect();
        assert_eq!(alpha.target().rows(id), others, "which are no poison");
        service.stop().await;
    });
}

#[test]
fn a_group_that_nobody_waits_for_any_more_is_dropped() {
    paused(async {
        let alpha = alpha().with_groups(100);
        let service = start(&alpha);
        let script = Script::pages(4).on(At::Upload, 2, None, Do::Hang);
        let id = behind_the_first(&alpha, &service, script, None).await;
        alpha.until(|alpha| alpha.begun(id, At::Upload, 2) == 1).await;
        let cancel = Change::Cancel { reason: "by an operator".into() };
        service.memory.change(id, cancel, service.now()).await.unwrap();
        let next = service.enqueue(&alpha, &Script::pages(2)).await;
        assert_eq!(service.ended(next).await.state, State::Completed, "the worker is free again");
        assert_eq!(alpha.opens(StageName::Upload), 2, "with a stage that was opened anew");
        assert_eq!(alpha.target().rows(id), [(0, 0)]);
        service.stop().await;
    });
}
