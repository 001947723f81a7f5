//! The football domain: API-Football's leagues, seasons and countries, kept in step.
//!
//! ```text
//! football.leagues   ──▶ /leagues ───┐
//! football.countries ──▶ /countries ─┼─fetch─▶ Answer ─transform─▶ Batch ─upload─▶ leagues, seasons, countries, …
//! football.status    ──▶ /status ────┘   ▲                           └─ its removals: what a whole list leaves out
//!                                        └─ the day's quota, in the store
//! ```
//!
//! Invariants:
//!
//! - One answer is one transaction, its removals included: what the guard refuses leaves nothing of the answer behind.
//!   An answer that tells an error writes nothing, whatever its HTTP status.
//! - Rows are marked removed only by a whole, non-empty list, and within the guard.
//! - A country that a live league names is not removed, but for one moment that [`removal`] tells of.
//! - A league's slug never changes and is never given to another one.
//! - A record that does not fit is put aside alone.
//! - No counted call is made beyond the day's quota, also after a restart.
//!
//! What it does not do: read teams, fixtures or odds; order, retry, or write. It computes; the runtime drives and
//! records.

mod client;
mod fetch;
mod model;
mod plan;
mod quota;
mod removal;
mod slug;
mod tables;
mod transform;
mod upload;

use std::sync::Arc;

use longshore_actors::breaker::Breaker;
use longshore_actors::domain::{Domain, Plan};
use longshore_actors::job::{Fault, Job};

use crate::domains::football::client::ApiFootball;
pub use crate::domains::football::client::{BASE_URL, HEALTH_PATH, KEY_HEADER, healthy};
pub use crate::domains::football::fetch::{Fetch, FetchSettings};
pub use crate::domains::football::model::{Answer, Request};
use crate::domains::football::quota::Quota;
pub use crate::domains::football::tables::{
    ACCOUNTS, COUNTRIES, LEAGUE_SLUGS, LEAGUES, PROVIDER_SOURCES, SEASONS, TABLES,
};
pub use crate::domains::football::transform::Transform;
pub use crate::domains::football::upload::Upload;
use crate::store::batch::{Batch, Guard};
use crate::targets::store::StoreTarget;
use crate::upstreams::Upstream;

pub const NAME: &str = "football";
/// The name that `sync_state`, the quota and the sources have the upstream under.
pub const PROVIDER: &str = "api-football";

pub const LEAGUES_KIND: &str = "football.leagues";
pub const COUNTRIES_KIND: &str = "football.countries";
pub const STATUS_KIND: &str = "football.status";
pub const KINDS: [&str; 3] = [LEAGUES_KIND, COUNTRIES_KIND, STATUS_KIND];
/// What the domain's name alone means.
pub const DEFAULT_KIND: &str = LEAGUES_KIND;

/// What configuration says about football, as plain values.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Requests a day, until `football.status` has told what the account has.
    pub daily_quota: u32,
    pub removal_guard: Guard,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Of the free plan.
            daily_quota: 100,
            removal_guard: Guard { rows: 50, ratio: 0.2, lifted: false },
        }
    }
}

pub struct Football {
    client: ApiFootball,
    removal_guard: Guard,
    breakers: Vec<Arc<Breaker>>,
    target: StoreTarget,
}

impl Football {
    pub fn new(settings: Settings, upstream: Upstream, target: StoreTarget) -> Self {
        let breakers = vec![upstream.breaker(), target.breaker.clone()];
        let Settings { daily_quota, removal_guard } = settings;
        let quota = Quota { store: target.store.clone(), clock: target.clock.clone(), configured: daily_quota };
        Self { client: ApiFootball::new(Arc::new(upstream), quota), removal_guard, breakers, target }
    }
}

impl Domain for Football {
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
        FetchSettings { client: self.client.clone(), store: Arc::clone(&self.target.store) }
    }

    fn transform(&self) -> Guard {
        self.removal_guard
    }

    fn upload(&self) -> StoreTarget {
        self.target.clone()
    }

    fn breakers(&self) -> Vec<Arc<Breaker>> {
        self.breakers.clone()
    }

    async fn plan(&self, job: &Job) -> Result<Plan<Request>, Fault> {
        plan::read(&job.kind, &job.params).map(plan::plan)
    }
}
