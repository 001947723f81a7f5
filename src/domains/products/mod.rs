//! The products domain: Promidata's suppliers, families, variants and images, kept in step.
//!
//! ```text
//! products.supplier * ─▶ products.supplier A23 ─▶ products.family × changed ─▶ products.image × places
//!        list                  list, hashes            document                  file ─▶ object store
//!        └─▶ suppliers         close: what vanished    └─▶ products, variants    └─▶ media, media_links
//! products.categories ─▶ CAT.csv ─▶ product_categories
//! ```
//!
//! Invariants:
//!
//! - A family is marked removed only by a `products.supplier` job that read the whole list, and within the guard; its
//!   variants and image places go with it. A list without a line of the supplier removes nothing.
//! - The hash of the list stands in a family's row, in the transaction that wrote the row: a family that failed is
//!   asked for again by the next sync, and holds up no other.
//! - Nothing is asked of a host that is not on the list of hosts.
//! - The profile, which is the secret of the addresses, is in no row, param, reject, log or error.
//!
//! What it does not do: order, retry, or write. It computes; the runtime drives and records.

mod categories;
mod client;
mod document;
mod family;
mod feed;
mod fetch;
mod images;
mod list;
mod model;
mod picture;
mod plan;
mod prices;
mod tables;
mod transform;
mod upload;
mod values;

use std::sync::Arc;

use longshore_actors::breaker::Breaker;
use longshore_actors::checkpoint::Checkpoint;
use longshore_actors::domain::{Domain, Plan};
use longshore_actors::job::{Fault, Job};

pub use crate::domains::products::client::{BASE_URL, Promidata};
pub use crate::domains::products::fetch::{Fetch, FetchSettings};
pub use crate::domains::products::model::{Answer, Code, Request};
use crate::domains::products::plan::Task;
pub use crate::domains::products::tables::{CATEGORIES, MEDIA, MEDIA_LINKS, PRODUCTS, SUPPLIERS, TABLES, VARIANTS};
pub use crate::domains::products::transform::Transform;
pub use crate::domains::products::upload::Upload;
use crate::store::batch::{Batch, Guard};
use crate::targets::objects::Objects;
use crate::targets::store::StoreTarget;

pub const NAME: &str = "products";
/// The name that `sync_state` has the upstream under.
pub const PROVIDER: &str = "promidata";

pub const SUPPLIER: &str = "products.supplier";
pub const FAMILY: &str = "products.family";
pub const IMAGE: &str = "products.image";
pub const CATEGORIES_KIND: &str = "products.categories";
pub const KINDS: [&str; 4] = [SUPPLIER, FAMILY, IMAGE, CATEGORIES_KIND];

/// What configuration says about the products, as plain values.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Those that a sync of all includes; empty: every one of the list.
    pub suppliers: Vec<Code>,
    /// Those that it leaves out.
    pub suppliers_skip: Vec<Code>,
    pub removal_guard: Guard,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            suppliers: Vec::new(),
            suppliers_skip: Vec::new(),
            removal_guard: Guard { rows: 50, ratio: 0.2, lifted: false },
        }
    }
}

impl Settings {
    /// Whether a sync of all suppliers includes this one.
    pub fn is_active(&self, code: &Code) -> bool {
        let wanted = self.suppliers.is_empty() || self.suppliers.contains(code);
        wanted && !self.suppliers_skip.contains(code)
    }
}

pub struct Products {
    settings: Settings,
    client: Promidata,
    target: StoreTarget,
}

impl Products {
    pub fn new(settings: Settings, client: Promidata, target: StoreTarget) -> Self {
        Self { settings, client, target }
    }
}

impl Domain for Products {
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
        let (store, products) = (Arc::clone(&self.target.store), self.settings.clone());
        FetchSettings { client: self.client.clone(), store, products }
    }

    fn transform(&self) -> Settings {
        self.settings.clone()
    }

    fn upload(&self) -> StoreTarget {
        self.target.clone()
    }

    /// Of the host of the list and the documents. A host of images that is down holds up its images alone.
    fn breakers(&self) -> Vec<Arc<Breaker>> {
        let StoreTarget { breaker, objects, .. } = &self.target;
        let objects = objects.as_ref().map(Objects::breaker);
        [self.client.base().breaker(), breaker.clone()].into_iter().chain(objects).collect()
    }

    async fn plan(&self, job: &Job) -> Result<Plan<Request>, Fault> {
        plan::plan(Task::read(&job.kind, &job.params)?, &*self.target.store).await
    }

    fn close(&self, job: &Job, checkpoint: &Checkpoint) -> Option<Batch> {
        let task = Task::read(&job.kind, &job.params).ok()?;
        plan::close(self.settings.removal_guard, &task, checkpoint)
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod large;
