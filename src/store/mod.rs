//! The store: one SQL database that holds the ledger and the domains' tables, behind one door.
//!
//! Its two halves are written in one transaction, which is the point of it:
//!
//! ```text
//! upload worker ──Delivery<Batch>──▶ Store::commit ── rows + checkpoint + children + rejects ──▶ one COMMIT, fenced
//! coordinator ────claim, record───▶ Store::ledger
//! ```
//!
//! A domain declares each table once ([`table::Table`]); the dialects make their SQL from that, and what differs
//! between them stands in their own folders.

pub mod batch;
mod bounds;
mod draft;
mod head;
pub mod migrations;
pub mod postgres;
pub mod removal;
pub mod sqlite;
pub mod table;
mod tally;
pub mod text;

use std::sync::Arc;

use async_trait::async_trait;
use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::job::{JobId, NewJob};
use longshore_actors::ledger::{Enqueued, Ledger, LedgerError};
use serde::{Deserialize, Serialize};

use crate::store::batch::{Batch, Cell, Row};

/// What a store does beside being a ledger. Errors are the ledger's: the same callers branch on the same cases.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    fn ledger(&self) -> Arc<dyn Ledger>;

    /// A way to write rows, for one upload worker to own: on PostgreSQL a connection with its prepared statements.
    async fn writer(&self) -> Result<Box<dyn Writer>, LedgerError>;

    /// How many deliveries of one lease, at most, are worth being told to [`Writer::commit`] at once. May change.
    fn group_max(&self) -> usize {
        1
    }

    /// What [`Writer::commit`] would do to the rows, by reading alone.
    async fn preview(&self, delivery: Arc<Delivery<Batch>>) -> Result<Committed, LedgerError>;

    /// How fresh an entity is; `None` if it was never synced.
    async fn sync_state(&self, provider: &str, entity: &str) -> Result<Option<SyncState>, LedgerError>;

    async fn sync_states(&self) -> Result<Vec<SyncState>, LedgerError>;

    /// Records that were put aside, newest first.
    async fn rejects(&self, domain: Option<&str>, limit: usize) -> Result<Vec<RejectedRecord>, LedgerError>;

    /// The instant of a schedule's last fire.
    async fn last_fire(&self, schedule: &str) -> Result<Option<Timestamp>, LedgerError>;

    /// Puts in the job of one fire together with the row that says so. `None`: this fire happened already.
    async fn fire(
        &self,
        schedule: &str,
        at: Timestamp,
        job: NewJob,
        now: Timestamp,
    ) -> Result<Option<Enqueued>, LedgerError>;

    /// Takes `n` from the quota of a provider for the day that `now` lies in (UTC); `false` if less is left.
    async fn take_quota(&self, provider: &str, n: u32, limit: u32, now: Timestamp) -> Result<bool, LedgerError>;

    /// Tells what the provider itself says was used of the quota on the day that `now` lies in. The count never goes
    /// down within a day.
    async fn note_quota(&self, provider: &str, used: u32, now: Timestamp) -> Result<(), LedgerError>;

    /// The text in `column` of the live rows with these keys, in the order of `keys`; `None` where there is no such
    /// row or no text. For tables with one key column, of text or whole numbers.
    async fn known(
        &self,
        table: &'static table::Table,
        column: &'static str,
        keys: Vec<Cell>,
    ) -> Result<Vec<Option<String>>, LedgerError>;

    /// Writes and reads back one row: what readiness means.
    async fn probe(&self, now: Timestamp) -> Result<(), LedgerError>;

    /// From when the fires of a schedule count: its last fire; for one that is new, or whose expression has changed
    /// since, the instant at which it was first asked for, which is remembered.
    async fn schedule_since(&self, schedule: &str, when: &str, now: Timestamp) -> Result<Timestamp, LedgerError>;

    /// Live rows in the order of their key, after the key `after` (empty: from the start), with their details.
    async fn rows(&self, table: &'static table::Table, after: Vec<Cell>, limit: usize)
    -> Result<Vec<Row>, LedgerError>;

    /// Live rows of a table (`removed_at` is null), for reports and tests.
    async fn count_rows(&self, table: &'static table::Table) -> Result<u64, LedgerError>;

    /// Takes the place of the node `name` among the processes that share the ledger, and gives back what the process
    /// that had it last left active. Answers how many jobs that were. A store that one process owns has no others.
    async fn join(&self, _name: &str) -> Result<u64, LedgerError> {
        Ok(0)
    }

    /// Says that this node lives, and answers how many do.
    async fn heartbeat(&self) -> Result<Beat, LedgerError> {
        Ok(Beat::Alive { nodes: 1 })
    }

    /// Gives up this node's place: what it left active is anybody's at once.
    async fn leave(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    /// All nodes that were seen lately, by name. None where one process owns the store.
    async fn nodes(&self) -> Result<Vec<NodeStatus>, LedgerError> {
        Ok(Vec::new())
    }

    /// What of this store others than its owner can read, a line each with what to do about it. A file on disk has its
    /// permissions.
    async fn exposed(&self) -> Result<Vec<String>, LedgerError> {
        Ok(Vec::new())
    }

    /// Finishes what was accepted and closes the file or the connections. Later calls are `Unavailable`.
    async fn close(&self);
}

/// Writes rows with their receipts. Its owner drops it when it fails with [`LedgerError::Unavailable`] and opens
/// another one.
#[async_trait]
pub trait Writer: Send {
    /// Writes batches of one lease, each of another part, and their receipts in one transaction, all or none. Answers
    /// for each what became of its rows; of rows that were written together, the first of them tells. What is told
    /// twice (the part is held by the checkpoint already) is not written, and answers zero counts.
    async fn commit(
        &mut self,
        deliveries: &[Arc<Delivery<Batch>>],
        now: Timestamp,
    ) -> Result<Vec<Committed>, LedgerError>;
}

/// What a heartbeat found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// So many nodes live, this one included.
    Alive { nodes: usize },
    /// Another process took this node's name; what this one had is given back.
    Replaced,
}

/// One process that shares the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    /// As it stands in leases.
    pub process: String,
    pub version: String,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    /// Its heartbeat has not lapsed.
    pub alive: bool,
    /// It is the one that answers.
    pub this: bool,
}

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    pub counts: Counts,
    /// Why nothing was removed though a removal was asked for.
    pub note: Option<String>,
}

/// One row of `sync_state`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncState {
    pub provider: String,
    pub entity: String,
    pub last_success_at: Option<Timestamp>,
    pub last_error_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub last_job: Option<JobId>,
    /// Of the last success.
    pub counts: Counts,
}

/// One row of `rejected_records`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RejectedRecord {
    pub id: i64,
    pub domain: String,
    pub kind: String,
    pub key: Option<String>,
    pub reason: String,
    pub raw: String,
    pub job: JobId,
    pub at: Timestamp,
}
