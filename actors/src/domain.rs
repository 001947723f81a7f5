//! What a domain is: three stages, and a plan for each kind of job.
//!
//! A domain computes and returns data; the coordinator drives and records. The whole contract is this file.
//!
//! ```text
//! Job ─plan─▶ requests ─Fetch─▶ Answer ─Transform─▶ Batch ─Upload─▶ counts     per page
//!        └──▶ children                    └──▶ rejects, children                   │
//!                                                             close ─▶ Batch ◀─────┘ once, when all pages are in,
//!                                                                                    if there is anything left to do
//! ```

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::breaker::Breaker;
use crate::checkpoint::{Checkpoint, Counts};
use crate::job::{Fault, Job, NewJob};
use crate::ledger::{Entity, Receipt, Reject};
use crate::stage::Stage;

pub trait Domain: Send + Sync + 'static {
    /// What fetch is asked for: one page. Stored in the checkpoint as the place to resume.
    type Request: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What fetch brings back and transform takes.
    type Answer: Send + Sync + 'static;
    /// What transform makes and upload writes.
    type Batch: Send + Sync + 'static;

    type Fetch: Stage<Input = Self::Request, Output = Fetched<Self::Request, Self::Answer>>;
    type Transform: Stage<Input = Self::Answer, Output = Transformed<Self::Batch>>;
    type Upload: Stage<Input = Delivery<Self::Batch>, Output = Uploaded>;

    /// The one name in configuration, ledger, logs and URLs.
    fn name(&self) -> &'static str;

    /// The job kinds it has a handler for, in full (`catalog.group`).
    fn kinds(&self) -> &'static [&'static str];

    /// What it takes to open each stage.
    fn fetch(&self) -> <Self::Fetch as Stage>::Settings;
    fn transform(&self) -> <Self::Transform as Stage>::Settings;
    fn upload(&self) -> <Self::Upload as Stage>::Settings;

    /// While one of these is open the domain claims nothing; half-open, one job at a time.
    fn breakers(&self) -> Vec<Arc<Breaker>>;

    /// Reads the params of a job and says what is to be done. Broken params are `Fault::Fail`.
    /// Called on every attempt, also of a job that resumes; it may read, and writes nothing.
    fn plan(&self, job: &Job) -> impl Future<Output = Result<Plan<Self::Request>, Fault>>;

    /// What is to be uploaded once, when all pages are committed: for a complete snapshot, the mark on the rows that
    /// vanished. Called only if every page of the job is in, none of them rejected as a whole. It is a commit of its
    /// own: what has to stand or fall with a page belongs into that page's batch.
    fn close(&self, _job: &Job, _checkpoint: &Checkpoint) -> Option<Self::Batch> {
        None
    }
}

/// What one job comes down to.
#[derive(Debug)]
pub struct Plan<R> {
    /// The first pages; further ones are found by fetching ([`Fetched::more`]).
    pub requests: Vec<R>,
    /// Jobs that this one asks for; it ends when they have ended.
    pub children: Vec<NewJob>,
    /// What its end is told of in `sync_state`.
    pub entity: Option<Entity>,
    /// What it leaves as its message when it completes.
    pub note: Option<String>,
}

impl<R> Plan<R> {
    pub fn pages(requests: Vec<R>) -> Self {
        Self { requests, children: Vec::new(), entity: None, note: None }
    }

    pub fn children(children: Vec<NewJob>) -> Self {
        Self { requests: Vec::new(), children, entity: None, note: None }
    }

    /// Nothing to do, and why.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self { requests: Vec::new(), children: Vec::new(), entity: None, note: Some(reason.into()) }
    }

    pub fn of(mut self, provider: impl Into<String>, entity: impl Into<String>) -> Self {
        self.entity = Some(Entity { provider: provider.into(), entity: entity.into() });
        self
    }
}

/// One page as it came from the upstream.
#[derive(Debug)]
pub struct Fetched<R, A> {
    pub answer: A,
    /// The pages after this one, in order, as far as this answer tells: all of them from a page count, one from a
    /// cursor. Every page tells what it knows, since a job may resume at any of them; only what the last known page
    /// tells is new and is appended to the job's pages.
    pub more: Vec<R>,
    /// Records in all pages together, as the upstream says.
    pub total: Option<u64>,
    /// Something an operator should see, such as an empty group: a warning on the job.
    pub warning: Option<String>,
}

impl<R, A> Fetched<R, A> {
    pub fn new(answer: A) -> Self {
        Self { answer, more: Vec::new(), total: None, warning: None }
    }
}

/// One page as it is to be written.
#[derive(Debug)]
pub struct Transformed<B> {
    pub batch: B,
    pub rejects: Vec<Reject>,
    /// Jobs that this page asks for.
    pub children: Vec<NewJob>,
    /// Records in the page, bad ones included.
    pub received: u64,
}

impl<B> Transformed<B> {
    pub fn new(batch: B, received: u64) -> Self {
        Self { batch, rejects: Vec::new(), children: Vec::new(), received }
    }
}

/// A batch on its way to the target, with the ledger's half of its transaction.
#[derive(Debug)]
pub struct Delivery<B> {
    pub batch: B,
    pub receipt: Receipt,
    pub received: u64,
}

/// What an upload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub counts: Counts,
    pub settled: Settled,
    /// Something an operator should read with the job, such as why nothing was removed.
    pub note: Option<String>,
}

/// Who writes the receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is committed already, in the same transaction as the rows.
    WithRows,
    /// The target is not the ledger's store: the coordinator commits it now that the rows are durable.
    Separately,
}
