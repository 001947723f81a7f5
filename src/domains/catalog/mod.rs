//! The catalog domain: eSIM Go's bundles, groups and countries, kept in step.
//!
//! ```text
//! catalog.full ──▶ catalog.group × N ──▶ pages ─fetch─▶ Answer ─transform─▶ Batch ─upload─▶ catalog_* tables
//!      └──▶ /organisation/groups                                                close: bundles that left the group
//! ```
//!
//! Invariants:
//!
//! - A membership is marked removed only by a `catalog.group` job that saw every record of the group; a bundle only
//!   with its last membership. An empty group removes nothing.
//! - Page n of a listing is the same window of records in every attempt, whatever size the upstream accepts.
//! - A record that does not fit is put aside alone.
//!
//! What it does not do: order, retry, or write. It computes; the runtime drives and records.

mod client;
mod fetch;
mod model;
mod plan;
mod tables;
mod transform;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use longshore_actors::breaker::Breaker;
use longshore_actors::checkpoint::Checkpoint;
use longshore_actors::domain::{Domain, Plan};
use longshore_actors::job::{Fault, Job};

use crate::domains::catalog::client::EsimGo;
pub use crate::domains::catalog::client::{BASE_URL, HEALTH_PATH, KEY_HEADER};
pub use crate::domains::catalog::fetch::{Fetch, FetchSettings};
pub use crate::domains::catalog::model::{Answer, ListPage, Listing, Request};
use crate::domains::catalog::plan::Task;
pub use crate::domains::catalog::tables::{BUNDLE_GROUPS, BUNDLES, GROUPS, TABLES};
pub use crate::domains::catalog::transform::Transform;
pub use crate::domains::catalog::upload::Upload;
use crate::store::batch::{Batch, Guard};
use crate::targets::store::{StoreTarget, fault};
use crate::upstreams::Upstream;

pub const NAME: &str = "catalog";
/// The name that `sync_state` has the upstream under.
pub const PROVIDER: &str = "esim-go";

pub const FULL: &str = "catalog.full";
pub const GROUP: &str = "catalog.group";
pub const COUNTRY: &str = "catalog.country";
pub const BUNDLE: &str = "catalog.bundle";
pub const KINDS: [&str; 4] = [FULL, GROUP, COUNTRY, BUNDLE];
/// What the domain's name alone means.
pub const DEFAULT_KIND: &str = FULL;

/// The groups of a standard account. Which spelling an account has differs, so the configuration can name others.
pub const DEFAULT_GROUPS: [&str; 5] = [
    "Standard Fixed",
    "Standard - Unlimited Lite",
    "Standard - Unlimited Essential",
    "Standard - Unlimited Plus",
    "Regional Bundles",
];

/// What configuration says about the catalog, as plain values.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Each is a `catalog.group` of `catalog.full`. Exact names.
    pub groups: Vec<String>,
    /// Records a page. Larger than `per_page_fallback`, it is taken down to a multiple of that.
    pub per_page: u32,
    /// Records a call once the upstream refused `per_page` for its size.
    pub per_page_fallback: u32,
    /// A group synced within this is skipped unless forced.
    pub fresh_for: Duration,
    pub removal_guard: Guard,
    /// A transform worker panics on every so-manieth page: for `demo --faults`.
    pub panic_every: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            groups: DEFAULT_GROUPS.map(str::to_owned).to_vec(),
            per_page: 200,
            // The size that clients in the wild settled on to avoid 401.
            per_page_fallback: 50,
            fresh_for: Duration::from_secs(30 * 24 * 60 * 60),
            removal_guard: Guard { rows: 50, ratio: 0.2, lifted: false },
            panic_every: None,
        }
    }
}

impl Settings {
    /// Small calls must make up a page without a rest.
    fn whole_pages(mut self) -> Self {
        self.per_page = self.per_page.max(1);
        self.per_page_fallback = self.per_page_fallback.clamp(1, self.per_page);
        self.per_page -= self.per_page % self.per_page_fallback;
        self
    }
}

pub struct Catalog {
    settings: Settings,
    client: EsimGo,
    breakers: Vec<Arc<Breaker>>,
    target: StoreTarget,
}

impl Catalog {
    pub fn new(settings: Settings, upstream: Upstream, target: StoreTarget) -> Self {
        let breakers = vec![upstream.breaker(), target.breaker.clone()];
        Self { settings: settings.whole_pages(), client: EsimGo::new(Arc::new(upstream)), breakers, target }
    }
}

impl Domain for Catalog {
    type Request = Request;
    type Answer = Answer;
    type Batch = Batch;

    type Fetch = Fetch;
    type Transform = Transform;
    type Upload = Upload;

    fn name(&self) -> &'static str {
        NAME
    }

    fn kinds(&self) -> &'static [&'static str] {
        &KINDS
    }

    fn fetch(&self) -> FetchSettings {
        FetchSettings { client: self.client.clone(), per_call_small: self.settings.per_page_fallback }
    }

    fn transform(&self) -> Option<u32> {
        self.settings.panic_every
    }

    fn upload(&self) -> StoreTarget {
        self.target.clone()
    }

    fn breakers(&self) -> Vec<Arc<Breaker>> {
        self.breakers.clone()
    }

    async fn plan(&self, job: &Job) -> Result<Plan<Request>, Fault> {
        let task = Task::read(&job.kind, &job.params)?;
        let last = match task {
            Task::Group { force: false, .. } => {
                self.target.store.sync_state(PROVIDER, &task.entity()).await.map_err(fault)?
            }
            Task::Full { .. } | Task::Group { .. } | Task::Country { .. } | Task::Bundle { .. } => None,
        };
        Ok(plan::plan(&self.settings, job, &task, last.as_ref(), self.target.clock.now()))
    }

    fn close(&self, job: &Job, checkpoint: &Checkpoint) -> Option<Batch> {
        let task = Task::read(&job.kind, &job.params).ok()?;
        plan::close(&self.settings, &task, checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_made_up_of_small_calls_without_a_rest() {
        for (per_page, fallback, expected) in
            [(200, 50, (200, 50)), (120, 50, (100, 50)), (20, 50, (20, 20)), (0, 0, (1, 1)), (7, 0, (7, 1))]
        {
            let settings = Settings { per_page, per_page_fallback: fallback, ..Settings::default() }.whole_pages();
            assert_eq!((settings.per_page, settings.per_page_fallback), expected);
        }
    }
}
