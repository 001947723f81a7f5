//! One step of the work, as a pool's worker hosts it.
//!
//! A stage's state (a connection, a prepared statement, a buffer) is opened by its worker when that starts and
//! dropped with it, so a restart is a fresh connection. A stage never calls another stage, and never the ledger.

use std::sync::Arc;

use crate::job::Fault;

pub trait Stage: Sized + 'static {
    /// What it takes to open one: clients, addresses, handles. Cloned for each worker.
    type Settings: Clone + Send + Unpin + 'static;
    /// Shared, because the driving function keeps it until the answer is there: should the worker die, another one
    /// gets the same input.
    type Input: Send + Sync + 'static;
    type Output: Send + 'static;

    /// Connects, authenticates, prepares. A fault is tried again with backoff; it is not a crash.
    fn open(settings: &Self::Settings) -> impl Future<Output = Result<Self, Fault>>;

    /// Does one piece of work. When the caller gives up, the future is dropped where it stands and the stage is
    /// opened anew.
    fn run(&mut self, input: Arc<Self::Input>) -> impl Future<Output = Result<Self::Output, Fault>>;

    /// Whether this piece, which waits behind those of a group and is of their job, is to be done together with them.
    /// Asked under the lock of the mailbox: a look at the pieces, which must not panic.
    fn joins(&self, _group: &[Arc<Self::Input>], _next: &Self::Input) -> bool {
        false
    }

    /// Does two or more pieces of work as one, for a stage that does several for little more than the price of one,
    /// such as one that commits them. Answers one result each, in their order, or `None` if nothing was done: each is
    /// then asked for again by itself.
    fn run_group(
        &mut self,
        _inputs: Vec<Arc<Self::Input>>,
    ) -> impl Future<Output = Option<Vec<Result<Self::Output, Fault>>>> {
        std::future::ready(None)
    }
}

/// Which of the three pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    Fetch,
    Transform,
    Upload,
}

impl StageName {
    pub const ALL: [StageName; 3] = [StageName::Fetch, StageName::Transform, StageName::Upload];

    pub fn as_str(self) -> &'static str {
        match self {
            StageName::Fetch => "fetch",
            StageName::Transform => "transform",
            StageName::Upload => "upload",
        }
    }
}

impl std::fmt::Display for StageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
