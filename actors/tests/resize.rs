//! Pools and mailboxes that change while work flows through them.

use longshore_actors::job::State;
use longshore_actors::settings::PoolSettings;
use longshore_actors::stage::StageName;
use longshore_actors::supervisor::TreeError;
use longshore_actors::testing::scripted::{At, Do, Script};

use crate::support::{Service, With, alpha, paused, settings, settle};

#[test]
fn pools_and_mailboxes_resized_under_load_lose_and_double_nothing() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings().with_jobs(16, 4));
        let ids = service.enqueue_many(&alpha, &Script::found(5), 600).await;
        // A cheap sequence that jumps about.
        let mut number = 1u64;
        let mut next = |most: u64| {
            number = number.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (number >> 33) % most + 1
        };
        let mut most = [0; 3];
        let mut changes = 0;
        while service.total(State::Waiting).await > 0 {
            let stage = StageName::ALL[next(3) as usize - 1];
            let size = PoolSettings { actors: next(6) as usize, mailbox: next(4) as usize };
            service.tree.resize("alpha", stage, size).unwrap();
            most[stage as usize] = size.actors.max(most[stage as usize]);
            changes += 1;
            tokio::task::yield_now().await;
        }
        service.all_ended().await;
        assert!(changes > 50, "it was resized {changes} times");
        for id in ids {
            let job = service.job(id).await;
            assert_eq!((job.state, job.attempt, tries_len(&job)), (State::Completed, 1, 0));
            assert_eq!(alpha.target().rows(id), (0..5).map(|page| (page, u64::from(page))).collect::<Vec<_>>());
            assert!((0..5).all(|page| alpha.begun(id, At::Fetch, page) == 1));
        }
        for stage in StageName::ALL {
            let status = service.status(&format!("alpha/{stage}"));
            assert_eq!((status.depth, status.restarts), (0, 0), "{stage}");
            // A retired worker finishes what it has in hand beside the new ones.
            assert!(alpha.running_max(stage) <= 2 * most[stage as usize].max(2), "{stage}");
        }
        service.stop().await;
    });
}

fn tries_len(job: &longshore_actors::ledger::JobRecord) -> usize {
    job.history.len()
}

/// Never more in hand than there are actors, once those that were retired have finished.
#[test]
fn shrinking_lets_what_runs_finish_and_then_keeps_to_the_smaller_size() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings().with_pool(StageName::Fetch, 6, 2).with_jobs(12, 1));
        service.enqueue_many(&alpha, &Script::pages(1).always(At::Fetch, Do::Wait), 40).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 6).await;
        service.tree.resize("alpha", StageName::Fetch, PoolSettings { actors: 2, mailbox: 1 }).unwrap();
        settle().await;
        assert_eq!(alpha.running(StageName::Fetch), 6, "nobody is cut off");
        assert_eq!(service.status("alpha/fetch").capacity, 2);
        alpha.let_through(StageName::Fetch, 4 + 2);
        settle().await;
        assert!(alpha.running(StageName::Fetch) <= 2, "{}", alpha.running(StageName::Fetch));
        assert_eq!(service.status("alpha/fetch").depth, 6, "what stood in the mailbox stays");
        alpha.let_through(StageName::Fetch, 4);
        settle().await;
        assert_eq!(service.status("alpha/fetch").depth, 2, "and nothing new comes in its place");
        let statuses = service.tree.runtime().board.statuses();
        let workers = statuses.iter().filter(|status| status.name.starts_with("alpha/fetch/")).count();
        assert_eq!(workers, 2, "the board forgets those that went");

        service.tree.resize("alpha", StageName::Fetch, PoolSettings { actors: 5, mailbox: 2 }).unwrap();
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 5).await;
        settle().await;
        assert_eq!((alpha.running(StageName::Fetch), service.status("alpha/fetch").capacity), (5, 10));
        alpha.open_gate(StageName::Fetch);
        service.all_ended().await;
        service.stop().await;
    });
}

/// A mailbox that shrinks while callers queue for it takes its places away as they are freed, not after the queue.
#[test]
fn a_shrinking_mailbox_does_not_wait_for_its_queue() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(
            &alpha,
            settings().with_pool(StageName::Upload, 1, 8).with_pool(StageName::Fetch, 8, 4).with_jobs(32, 1),
        );
        service.enqueue_many(&alpha, &Script::pages(1).always(At::Upload, Do::Wait), 64).await;
        alpha.until(|alpha| alpha.running(StageName::Upload) == 1).await;
        settle().await;
        assert_eq!(service.status("alpha/upload").depth, 8);
        service.tree.resize("alpha", StageName::Upload, PoolSettings { actors: 1, mailbox: 2 }).unwrap();
        settle().await;
        alpha.let_through(StageName::Upload, 6);
        settle().await;
        assert_eq!(service.status("alpha/upload").depth, 2);
        // And grows again in the middle of shrinking: the places come to what was asked for last.
        for mailbox in [1, 5, 1, 3] {
            service.tree.resize("alpha", StageName::Upload, PoolSettings { actors: 1, mailbox }).unwrap();
            settle().await;
        }
        alpha.let_through(StageName::Upload, 4);
        settle().await;
        assert_eq!(service.status("alpha/upload").depth, 3);
        alpha.open_gate(StageName::Upload);
        service.all_ended().await;
        assert_eq!(service.status("alpha/upload").depth, 0);
        service.stop().await;
    });
}

#[test]
fn a_pool_of_none_is_refused_and_a_parked_domain_takes_its_size_when_it_starts() {
    paused(async {
        let alpha = alpha();
        let service = Service::start(&alpha, settings());
        let size = |actors, mailbox| PoolSettings { actors, mailbox };
        for (actors, mailbox) in [(0, 1), (1, 0)] {
            let refused = service.tree.resize("alpha", StageName::Fetch, size(actors, mailbox));
            assert!(matches!(refused, Err(TreeError::Refused(_))), "{refused:?}");
        }
        service.tree.park("alpha").await.unwrap();
        service.tree.resize("alpha", StageName::Fetch, size(5, 1)).unwrap();
        service.tree.unpark("alpha").await.unwrap();
        service.enqueue_many(&alpha, &Script::pages(5).always(At::Fetch, Do::Wait), 2).await;
        alpha.until(|alpha| alpha.running(StageName::Fetch) == 5).await;
        alpha.open_gate(StageName::Fetch);
        service.all_ended().await;
        service.stop().await;
    });
}
