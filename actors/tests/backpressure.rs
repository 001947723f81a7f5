//! Invariant 12: what is in memory is bounded by the settings, not by the size of the work.

use longshore_actors::job::State;
use longshore_actors::stage::StageName;
use longshore_actors::testing::scripted::{At, Script};

use crate::support::{Service, With, alpha, paused, settings, settle};

/// Many jobs of many pages against a target that is blocked: fetching stops within the sum of the capacities.
#[test]
fn invariant_12_a_blocked_upload_stops_the_fetching_and_nothing_is_lost_after() {
    paused(async {
        for (fetch, transform, upload) in [((2, 2), (1, 2), (2, 1)), ((4, 4), (1, 8), (2, 4)), ((1, 1), (1, 1), (1, 1))]
        {
            let alpha = alpha();
            let settings = settings()
                .with_pool(StageName::Fetch, fetch.0, fetch.1)
                .with_pool(StageName::Transform, transform.0, transform.1)
                .with_pool(StageName::Upload, upload.0, upload.1)
                .with_jobs(1000, 50);
            let bound = fetch.0 * fetch.1 + transform.0 * transform.1 + upload.0 * upload.1;
            let service = Service::start(&alpha, settings);
            alpha.target().block();
            let ids = service.enqueue_many(&alpha, &Script::found(40), 60).await;
            alpha.until(|alpha| alpha.running(StageName::Upload) == upload.0).await;
            settle().await;
            settle().await;
            let fetched = alpha.runs(StageName::Fetch);
            assert!(fetched <= bound, "{fetched} pages were fetched with room for {bound}");
            assert!(fetched >= upload.0 * upload.1, "{fetched} pages fill at least the last mailbox");
            for stage in StageName::ALL {
                let status = service.status(&format!("alpha/{stage}"));
                assert!(status.depth <= status.capacity, "{stage}: {} of {}", status.depth, status.capacity);
            }
            let upload_pool = service.status("alpha/upload");
            assert_eq!(upload_pool.depth, upload_pool.capacity, "the last mailbox is full");
            let active = service.total(State::Active).await;
            assert!(active <= (fetch.0 * fetch.1) as u64, "it claims only what its fetch pool can take: {active}");

            alpha.target().unblock();
            service.all_ended().await;
            for id in ids {
                let job = service.job(id).await;
                assert_eq!((job.state, job.attempt, job.counts.inserted), (State::Completed, 1, 40));
                assert_eq!(alpha.target().rows(id).len(), 40);
                assert!((0..40).all(|page| alpha.begun(id, At::Upload, page) == 1));
            }
            for stage in StageName::ALL {
                assert_eq!(service.status(&format!("alpha/{stage}")).depth, 0, "all room is free again");
            }
            service.stop().await;
        }
    });
}
