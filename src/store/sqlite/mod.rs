//! The embedded store: one SQLite file in WAL mode, owned by one process.
//!
//! ```text
//!              ┌─ op ─▶ queue (bounded) ─▶ writer thread ─▶ group commit ─▶ file
//! SqliteStore ─┤                               └─ after it: answers, wake-ups, tally
//!              ├─ question ─▶ readers (two connections, blocking threads) ──▶ file
//!              └─ stats ─▶ tally in memory
//! ```
//!
//! - One process owns the file (`lock`); so at open every active job's owner is gone, and its jobs wait again.
//! - All writes go through one thread (`writer`); an operation is answered after the fsync.
//! - Clones share one store; when the last one is dropped, what was accepted is finished and the file is closed.
//!
//! What it does not do: serve two processes. That is PostgreSQL's part.

mod change;
mod claim;
mod commit;
mod enqueue;
mod head;
mod keeping;
mod listing;
mod lock;
mod names;
mod open;
mod prune;
mod read;
mod readers;
mod record;
mod removal;
mod rows;
pub mod schema;
mod tally;
mod tx;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::job::{Job, JobId, Lease, NewJob};
use longshore_actors::ledger::{
    Change, Claim, Enqueued, Filter, JobRecord, KindStats, Ledger, LedgerError, Pruned, Receipt, Record, Released,
    Rescue, Retention, Stats, Wake, Wakes,
};
use rusqlite::Connection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use crate::store::sqlite::lock::owner;
pub use crate::store::sqlite::open::{OpenError, Settings, Synchronous, copy, status};

use crate::store::batch::{Batch, Cell, Row};
use crate::store::draft::{self, Draft};
use crate::store::sqlite::names::Names;
use crate::store::sqlite::readers::Readers;
use crate::store::sqlite::tx::{Memory, OpResult, Tx};
use crate::store::sqlite::writer::{Message, Writer};
use crate::store::table::Table;
use crate::store::tally::Tally;
use crate::store::{self, Committed, RejectedRecord, Store, SyncState};

/// What the writer shows to the outside.
#[derive(Debug, Default)]
pub struct Outside {
    wakes: Wakes,
    tally: Mutex<Tally>,
    stale_writes: AtomicU64,
}

/// A handle on the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` only while the last handle is dropped.
    queue: Option<mpsc::Sender<Message>>,
    readers: Readers,
    outside: Arc<Outside>,
    /// Cancelled when the writer has let go of the file.
    ended: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // Its panic, if there was one, has been told by the panic hook.
            let _ = thread.join();
        }
    }
}

impl SqliteStore {
    /// Opens or creates the database at `path`: takes its lock, brings the schema up to date, gives back what was
    /// active when the last process ended. Blocks for as long as that takes; call it before the actors start.
    pub fn open(path: &Path, settings: Settings, now: Timestamp) -> Result<SqliteStore, OpenError> {
        let opened = open::open(path, &settings, now)?;
        let mut names = Names::default();
        let failed = |error| OpenError::of(path, error);
        let tally = tally::load(&opened.writer, &mut names).map_err(failed)?;
        let next_id = last_id(&opened.writer).map_err(failed)? + 1;
        let outside = Arc::new(Outside { tally: Mutex::new(tally.clone()), ..Outside::default() });
        let ended = CancellationToken::new();
        let (sender, receiver) = mpsc::channel(settings.queue_max.max(1));
        let mut writer = Writer {
            conn: opened.writer,
            lock: opened.lock,
            queue: receiver,
            batch_max: settings.batch_max.max(1),
            memory: Memory { names, next_id, tables: HashMap::new() },
            tally,
            outside: outside.clone(),
            known_due: None,
            ended: ended.clone().drop_guard(),
        };
        let rescued = writer.once(move |tx| claim::rescue_all(tx, now)).map_err(|error| OpenError::Unwritable {
            path: path.to_owned(),
            source: std::io::Error::other(error.to_string()),
        })?;
        if rescued > 0 {
            tracing::info!(jobs = rescued, "jobs that were active when the last process ended are waiting again");
        }
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Unwritable { path: path.to_owned(), source })?;
        let readers = Readers::new(path);
        let shared = Shared { queue: Some(sender), readers, outside, ended, thread: Some(thread) };
        Ok(SqliteStore { shared: Arc::new(shared) })
    }

    /// Runs `work` in the writer's next group; answered after its commit.
    async fn write<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        F: Fn(&mut Tx<'_>) -> OpResult<T> + Send + 'static,
        T: Send + 'static,
    {
        let closed = || LedgerError::Unavailable("the store is closed".into());
        let queue = self.shared.queue.as_ref().ok_or_else(closed)?;
        let (message, answer) = writer::op(work);
        queue.send(message).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    async fn read<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        F: FnOnce(&Connection) -> OpResult<T> + Send + 'static,
        T: Send + 'static,
    {
        self.shared.readers.read(work).await
    }
}

/// The highest number ever given to a job.
fn last_id(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row(
        "SELECT max(coalesce((SELECT max(id) FROM jobs), 0),
                    coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'last_job'), 0))",
        [],
        |row| row.get(0),
    )
}

#[async_trait]
impl Ledger for SqliteStore {
    async fn enqueue(&self, jobs: Vec<NewJob>, now: Timestamp) -> Result<Vec<Enqueued>, LedgerError> {
        let drafts: Vec<Draft> = jobs.into_iter().map(Draft::from).collect();
        self.write(move |tx| enqueue::enqueue(tx, &drafts, now)).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Job>, LedgerError> {
        self.write(move |tx| claim::claim(tx, &claim)).await
    }

    async fn renew(&self, leases: Vec<Lease>, until: Timestamp) -> Result<Vec<Lease>, LedgerError> {
        self.write(move |tx| claim::renew(tx, &leases, until)).await
    }

    async fn commit(&self, receipt: Receipt, counts: Counts, now: Timestamp) -> Result<(), LedgerError> {
        let drafts = draft::drafts(&receipt.children);
        self.write(move |tx| commit::receipt(tx, &receipt, &drafts, counts, now)).await
    }

    async fn record(&self, record: Record, now: Timestamp) -> Result<(), LedgerError> {
        self.write(move |tx| record::record(tx, &record, now)).await
    }

    async fn record_crash(&self, lease: Lease, reason: String, now: Timestamp) -> Result<u32, LedgerError> {
        self.write(move |tx| record::record_crash(tx, lease, &reason, now)).await
    }

    async fn release(&self, now: Timestamp) -> Result<Released, LedgerError> {
        self.write(move |tx| claim::release(tx, now)).await
    }

    async fn rescue(&self, rescue: Rescue) -> Result<u64, LedgerError> {
        self.write(move |tx| claim::rescue(tx, &rescue)).await
    }

    async fn change(&self, job: JobId, change: Change, now: Timestamp) -> Result<(), LedgerError> {
        self.write(move |tx| change::change(tx, job, &change, now)).await
    }

    async fn jobs(&self, filter: Filter) -> Result<Vec<JobRecord>, LedgerError> {
        self.read(move |conn| read::jobs(conn, &filter)).await
    }

    async fn family(&self, job: JobId) -> Result<Vec<KindStats>, LedgerError> {
        self.read(move |conn| read::family(conn, job)).await
    }

    async fn stats(&self) -> Result<Stats, LedgerError> {
        let Outside { tally, stale_writes, .. } = &*self.shared.outside;
        let stale_writes = stale_writes.load(Ordering::Relaxed);
        Ok(tally.lock().unwrap_or_else(PoisonError::into_inner).stats(stale_writes))
    }

    async fn prune(&self, retention: Retention, now: Timestamp) -> Result<Pruned, LedgerError> {
        self.write(move |tx| prune::prune(tx, &retention, now)).await
    }

    fn wake(&self, domain: &str) -> Wake {
        self.shared.outside.wakes.of(domain)
    }

    fn due(&self) -> Wake {
        self.shared.outside.wakes.due().clone()
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn ledger(&self) -> Arc<dyn Ledger> {
        Arc::new(self.clone())
    }

    /// All writers share the one thread that writes.
    async fn writer(&self) -> Result<Box<dyn store::Writer>, LedgerError> {
        Ok(Box::new(self.clone()))
    }

    async fn preview(&self, delivery: Arc<Delivery<Batch>>) -> Result<Committed, LedgerError> {
        self.read(move |conn| read::preview(conn, &delivery)).await
    }

    async fn sync_state(&self, provider: &str, entity: &str) -> Result<Option<SyncState>, LedgerError> {
        let (provider, entity) = (provider.to_owned(), entity.to_owned());
        self.read(move |conn| read::sync_state(conn, &provider, &entity)).await
    }

    async fn sync_states(&self) -> Result<Vec<SyncState>, LedgerError> {
        self.read(read::sync_states).await
    }

    async fn rejects(&self, domain: Option<&str>, limit: usize) -> Result<Vec<RejectedRecord>, LedgerError> {
        let domain = domain.map(str::to_owned);
        self.read(move |conn| read::rejects(conn, domain.as_deref(), limit)).await
    }

    async fn last_fire(&self, schedule: &str) -> Result<Option<Timestamp>, LedgerError> {
        let schedule = schedule.to_owned();
        self.read(move |conn| read::last_fire(conn, &schedule)).await
    }

    async fn fire(
        &self,
        schedule: &str,
        at: Timestamp,
        job: NewJob,
        now: Timestamp,
    ) -> Result<Option<Enqueued>, LedgerError> {
        let (schedule, draft) = (schedule.to_owned(), Draft::from(job));
        self.write(move |tx| keeping::fire(tx, &schedule, at, &draft, now)).await
    }

    async fn schedule_since(&self, schedule: &str, when: &str, now: Timestamp) -> Result<Timestamp, LedgerError> {
        let (schedule, when) = (schedule.to_owned(), when.to_owned());
        self.write(move |tx| keeping::schedule_since(tx, &schedule, &when, now)).await
    }

    async fn rows(&self, table: &'static Table, after: Vec<Cell>, limit: usize) -> Result<Vec<Row>, LedgerError> {
        self.read(move |conn| listing::rows(conn, table, &after, limit)).await
    }

    async fn take_quota(&self, provider: &str, n: u32, limit: u32, now: Timestamp) -> Result<bool, LedgerError> {
        let provider = provider.to_owned();
        self.write(move |tx| keeping::take_quota(tx, &provider, n, limit, now)).await
    }

    async fn note_quota(&self, provider: &str, used: u32, now: Timestamp) -> Result<(), LedgerError> {
        let provider = provider.to_owned();
        self.write(move |tx| keeping::note_quota(tx, &provider, used, now)).await
    }

    async fn known(
        &self,
        table: &'static Table,
        column: &'static str,
        keys: Vec<Cell>,
    ) -> Result<Vec<Option<String>>, LedgerError> {
        self.read(move |conn| listing::known(conn, table, column, &keys)).await
    }

    async fn probe(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.write(move |tx| keeping::probe(tx, now)).await
    }

    async fn count_rows(&self, table: &'static Table) -> Result<u64, LedgerError> {
        self.read(move |conn| read::count_rows(conn, table)).await
    }

    async fn close(&self) {
        self.shared.readers.close().await;
        if let Some(queue) = &self.shared.queue {
            // An error means that it is closed already.
            let _ = queue.send(Message::Close).await;
        }
        self.shared.ended.cancelled().await;
    }
}

#[async_trait]
impl store::Writer for SqliteStore {
    async fn commit(
        &mut self,
        deliveries: &[Arc<Delivery<Batch>>],
        now: Timestamp,
    ) -> Result<Vec<Committed>, LedgerError> {
        let deliveries = deliveries.to_vec();
        let drafts: Vec<_> = deliveries.iter().map(|delivery| draft::drafts(&delivery.receipt.children)).collect();
        self.write(move |tx| {
            let commit = |(delivery, drafts): (&Arc<Delivery<Batch>>, &Vec<Draft>)| {
                let Delivery { batch, receipt, received } = &**delivery;
                commit::delivery(tx, batch, receipt, *received, drafts, now)
            };
            deliveries.iter().zip(&drafts).map(commit).collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests;
