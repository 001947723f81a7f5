//! PostgreSQL as store and ledger, shared by several nodes.
//!
//! ```text
//!                ┌─ record, enqueue ─▶ recorder: groups ─▶┐
//! PostgresStore ─┼─ claim, renew, release ─▶ a statement ─┼─▶ pool ──▶ PostgreSQL ──▶ after the commit: answers, wakes
//!                ├─ commit, change, prune ─▶ transaction ─┘                └─ NOTIFY ─▶ other nodes
//!                └─ writer ─▶ a connection of its own ─────▶ PostgreSQL
//! ```
//!
//! - A claim takes rows that nobody has locked; every write names its fence. So nodes share a ledger without knowing
//!   each other.
//! - Rows of `jobs` are locked from the highest number down (`head`); what does not go that way does not wait.
//! - Every call has a deadline, and a database that does not answer is `Unavailable`.
//! - Behind a pooler that hands connections on, nothing of a session is used.
//!
//! What it does not do: read a clock for the ledger. Only the heartbeats of nodes go by the database's time.

mod attempts;
pub mod cells;
mod change;
mod claim;
mod commit;
mod connect;
pub mod copy;
mod effects;
mod enqueue;
pub mod error;
mod exposure;
mod group;
mod head;
mod jobs;
mod keeping;
mod listen;
pub mod listing;
mod lock;
mod migrate;
mod nodes;
mod open;
mod prune;
mod pulse;
pub mod read;
mod record;
mod recorder;
pub mod removal;
pub mod rows;
pub mod schema;
mod scratch;
pub mod session;
mod shared;
pub mod statements;
mod tally;
mod tell;
mod tls;
mod work;
mod writer;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::job::{Job, JobId, Lease, NewJob};
use longshore_actors::ledger::{
    Change, Claim, Enqueued, Filter, JobRecord, KindStats, Ledger, LedgerError, LockGuard, Locked, Pruned, Receipt,
    Record, Released, Rescue, Retention, Stats, Wake,
};
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

pub use crate::store::postgres::open::{OpenError, Pooler, Settings, status};

use crate::store::batch::{Batch, Cell, Row};
use crate::store::draft::{self, Draft};
use crate::store::postgres::change::Word;
use crate::store::postgres::claim::Lost;
use crate::store::postgres::commit::Settle;
use crate::store::postgres::connect::Dial;
use crate::store::postgres::keeping::{Fire, ScheduleSince};
use crate::store::postgres::prune::Prune;
use crate::store::postgres::pulse::Pulse;
use crate::store::postgres::record::Crash;
use crate::store::postgres::recorder::Recorder;
use crate::store::postgres::shared::{CLOSE, Shared};
use crate::store::postgres::writer::PostgresWriter;
use crate::store::table::Table;
use crate::store::text;
use crate::store::{self, Beat, Committed, NodeStatus, RejectedRecord, Store, SyncState};

/// A handle on the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    parts: Arc<Parts>,
}

/// What runs beside the handles, and ends with the last of them.
#[derive(Debug)]
struct Parts {
    recorder: Recorder,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Its name among the nodes, once it has joined them.
    node: OnceLock<String>,
    pulse: Pulse,
    _closing: DropGuard,
}

impl PostgresStore {
    /// Connects, makes sure that the server can be used, and brings the schema up to date. The runtime it is called
    /// on drives the connections from then on.
    pub async fn open(settings: Settings, now: Timestamp) -> Result<PostgresStore, OpenError> {
        let dial = Dial::new(&settings)?;
        open::open(&dial, &settings, now).await?;
        let place = dial.place.clone();
        let shared = Shared::new(settings, dial).map_err(|reason| OpenError::Database { place, reason })?;
        let shared = Arc::new(shared);
        let (recorder, lines) = Recorder::new(shared.clone());
        let mut tasks = Vec::from(lines.serve(&shared));
        if shared.keeps_state() {
            tasks.push(tokio::spawn(tell::run(shared.clone())));
        }
        let closing = shared.closing.clone().drop_guard();
        let parts = Parts {
            recorder,
            tasks: Mutex::new(tasks),
            node: OnceLock::new(),
            pulse: Pulse::default(),
            _closing: closing,
        };
        Ok(PostgresStore { shared, parts: Arc::new(parts) })
    }

    /// Gives back everything that a process has: for one that starts again under the name of another.
    pub async fn rescue_process(&self, process: &str) -> Result<u64, LedgerError> {
        self.give_back(Lost::Process { process: process.to_owned() }).await
    }

    /// A database beside the configured one; see [`scratch`].
    pub async fn create_database(&self, name: &str) -> Result<(), LedgerError> {
        let name = name.to_owned();
        self.shared.run(move |session| Box::pin(async move { scratch::create(session, &name).await })).await
    }

    pub async fn remove_database(&self, name: &str) -> Result<(), LedgerError> {
        let name = name.to_owned();
        self.shared.run(move |session| Box::pin(async move { scratch::remove(session, &name).await })).await
    }

    /// Runs statements of the program's own.
    pub async fn run_sql(&self, sql: &'static str) -> Result<(), LedgerError> {
        self.shared.run(move |session| Box::pin(async move { Ok(session.client().batch_execute(sql).await?) })).await
    }

    /// Rows a second that COPY brings into tables like these; see [`scratch`].
    pub async fn copy_speed(&self, tables: &'static [&'static str]) -> Result<f64, LedgerError> {
        self.shared.run(move |session| Box::pin(scratch::copy_speed(session, tables))).await
    }

    /// Bytes written to the server's log so far.
    pub async fn logged(&self) -> Result<i64, LedgerError> {
        self.shared.run(|session| Box::pin(scratch::logged(session))).await
    }

    /// Rows of these tables together, removed ones included.
    pub async fn count(&self, tables: &'static [&'static str]) -> Result<u64, LedgerError> {
        self.shared.run(move |session| Box::pin(scratch::count(session, tables))).await
    }

    async fn give_back(&self, lost: Lost) -> Result<u64, LedgerError> {
        let mut all = 0;
        loop {
            let (count, more) = self.shared.transact(&lost).await?;
            all += count;
            if !more {
                return Ok(all);
            }
        }
    }
}

#[async_trait]
impl Ledger for PostgresStore {
    async fn enqueue(&self, jobs: Vec<NewJob>, now: Timestamp) -> Result<Vec<Enqueued>, LedgerError> {
        self.parts.recorder.enqueue(jobs.into_iter().map(Draft::from).collect(), now).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Job>, LedgerError> {
        self.shared.run(move |session| Box::pin(async move { claim::claim(session, &claim).await })).await
    }

    async fn renew(&self, leases: Vec<Lease>, until: Timestamp) -> Result<Vec<Lease>, LedgerError> {
        self.shared.run(move |session| Box::pin(async move { claim::renew(session, &leases, until).await })).await
    }

    async fn commit(&self, receipt: Receipt, counts: Counts, now: Timestamp) -> Result<(), LedgerError> {
        let drafts = draft::drafts(&receipt.children);
        self.shared.transact(&Settle { receipt: &receipt, drafts: &drafts, counts, now }).await
    }

    async fn record(&self, record: Record, now: Timestamp) -> Result<(), LedgerError> {
        self.parts.recorder.record(record, now).await
    }

    async fn record_crash(&self, lease: Lease, mut reason: String, now: Timestamp) -> Result<u32, LedgerError> {
        text::clean_text(&mut reason);
        self.shared.transact(&Crash { lease, reason, now }).await
    }

    async fn release(&self, now: Timestamp) -> Result<Released, LedgerError> {
        self.shared.forget_due();
        let released = self.shared.run(move |session| Box::pin(claim::release(session, now))).await;
        let (released, effects) = released?;
        self.shared.publish(&effects);
        Ok(released)
    }

    async fn rescue(&self, rescue: Rescue) -> Result<u64, LedgerError> {
        let lapse = self.shared.settings.heartbeat_lapse;
        match rescue {
            Rescue::Domain { domain, but } => {
                let but = but.to_string();
                let own = self.give_back(Lost::Incarnation { domain: domain.clone(), but: but.clone() }).await?;
                Ok(own + self.give_back(Lost::DeadProcess { domain, but, lapse }).await?)
            }
            Rescue::Lapsed { .. } if self.parts.pulse.is_patient() => Ok(0),
            Rescue::Lapsed { now } => self.give_back(Lost::Lapsed { now, lapse }).await,
        }
    }

    async fn change(&self, job: JobId, mut change: Change, now: Timestamp) -> Result<(), LedgerError> {
        if let Change::Cancel { reason } = &mut change {
            text::clean_text(reason);
        }
        self.shared.transact(&Word { job, change, now }).await
    }

    async fn jobs(&self, filter: Filter) -> Result<Vec<JobRecord>, LedgerError> {
        self.shared.run(move |session| Box::pin(async move { jobs::jobs(session, &filter).await })).await
    }

    async fn family(&self, job: JobId) -> Result<Vec<KindStats>, LedgerError> {
        self.shared.run(move |session| Box::pin(jobs::family(session, job))).await
    }

    async fn stats(&self) -> Result<Stats, LedgerError> {
        let tally = self.shared.run(|session| Box::pin(tally::load(session))).await?;
        Ok(tally.stats(self.shared.stale_writes()))
    }

    async fn prune(&self, retention: Retention, now: Timestamp) -> Result<Pruned, LedgerError> {
        self.shared.transact(&Prune { retention, now }).await
    }

    async fn lock(&self, key: &str) -> Result<Locked, LedgerError> {
        let shared = &self.shared;
        let taken = shared.within(2, async {
            if shared.keeps_state() {
                let taken = lock::take(shared.connect_own().await?, key).await?;
                return Ok(taken.map(LockGuard::new));
            }
            let mut lent = shared.lend().await?;
            let taken = lock::take_row(shared, &lent, key).await;
            lent.settle();
            Ok(taken?.map(LockGuard::new))
        });
        Ok(match taken.await? {
            Ok(guard) => Locked::Held(guard),
            Err(by) => Locked::Taken { by },
        })
    }

    fn wake(&self, domain: &str) -> Wake {
        self.shared.wakes.of(domain)
    }

    fn due(&self) -> Wake {
        self.shared.wakes.due().clone()
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn ledger(&self) -> Arc<dyn Ledger> {
        Arc::new(self.clone())
    }

    async fn writer(&self) -> Result<Box<dyn store::Writer>, LedgerError> {
        Ok(Box::new(PostgresWriter::new(self.shared.clone())))
    }

    fn group_max(&self) -> usize {
        self.shared.group.now()
    }

    async fn preview(&self, delivery: Arc<Delivery<Batch>>) -> Result<Committed, LedgerError> {
        let preview = self.shared.run(move |session| Box::pin(async move { read::preview(session, &delivery).await }));
        preview.await
    }

    async fn sync_state(&self, provider: &str, entity: &str) -> Result<Option<SyncState>, LedgerError> {
        let (provider, entity) = (provider.to_owned(), entity.to_owned());
        let state = self
            .shared
            .run(move |session| Box::pin(async move { read::sync_state(session, &provider, &entity).await }));
        state.await
    }

    async fn sync_states(&self) -> Result<Vec<SyncState>, LedgerError> {
        self.shared.run(|session| Box::pin(read::sync_states(session))).await
    }

    async fn rejects(&self, domain: Option<&str>, limit: usize) -> Result<Vec<RejectedRecord>, LedgerError> {
        let domain = domain.map(str::to_owned);
        let rejects = self
            .shared
            .run(move |session| Box::pin(async move { read::rejects(session, domain.as_deref(), limit).await }));
        rejects.await
    }

    async fn last_fire(&self, schedule: &str) -> Result<Option<Timestamp>, LedgerError> {
        let schedule = schedule.to_owned();
        self.shared.run(move |session| Box::pin(async move { keeping::last_fire(session, &schedule).await })).await
    }

    async fn fire(
        &self,
        schedule: &str,
        at: Timestamp,
        job: NewJob,
        now: Timestamp,
    ) -> Result<Option<Enqueued>, LedgerError> {
        self.shared.transact(&Fire { schedule: schedule.to_owned(), at, draft: Draft::from(job), now }).await
    }

    async fn schedule_since(&self, schedule: &str, when: &str, now: Timestamp) -> Result<Timestamp, LedgerError> {
        let (schedule, when) = (schedule.to_owned(), when.to_owned());
        self.shared.transact(&ScheduleSince { schedule, when, now }).await
    }

    async fn rows(&self, table: &'static Table, after: Vec<Cell>, limit: usize) -> Result<Vec<Row>, LedgerError> {
        let rows =
            self.shared.run(move |session| Box::pin(async move { listing::rows(session, table, &after, limit).await }));
        rows.await
    }

    async fn take_quota(&self, provider: &str, n: u32, limit: u32, now: Timestamp) -> Result<bool, LedgerError> {
        let provider = provider.to_owned();
        let taken = self
            .shared
            .run(move |session| Box::pin(async move { keeping::take_quota(session, &provider, n, limit, now).await }));
        taken.await
    }

    async fn note_quota(&self, provider: &str, used: u32, now: Timestamp) -> Result<(), LedgerError> {
        let provider = provider.to_owned();
        let noted = self
            .shared
            .run(move |session| Box::pin(async move { keeping::note_quota(session, &provider, used, now).await }));
        noted.await
    }

    async fn known(
        &self,
        table: &'static Table,
        column: &'static str,
        keys: Vec<Cell>,
    ) -> Result<Vec<Option<String>>, LedgerError> {
        let known = self
            .shared
            .run(move |session| Box::pin(async move { listing::known(session, table, column, &keys).await }));
        known.await
    }

    async fn probe(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.shared.run(move |session| Box::pin(keeping::probe(session, now))).await
    }

    async fn count_rows(&self, table: &'static Table) -> Result<u64, LedgerError> {
        self.shared.run(move |session| Box::pin(read::count_rows(session, table))).await
    }

    async fn join(&self, name: &str) -> Result<u64, LedgerError> {
        let (node, process) = (name.to_owned(), self.shared.settings.process.clone());
        let joined =
            self.shared.run(move |session| Box::pin(async move { nodes::join(session, &node, &process).await }));
        let before = joined.await?;
        let first = self.parts.node.set(name.to_owned()).is_ok();
        if first {
            let mut tasks = self.parts.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.push(tokio::spawn(listen::run(self.shared.clone())));
        }
        match before {
            Some(before) => self.rescue_process(&before).await,
            None => Ok(0),
        }
    }

    async fn heartbeat(&self) -> Result<Beat, LedgerError> {
        let Some(name) = self.parts.node.get().cloned() else { return Ok(Beat::Alive { nodes: 1 }) };
        self.parts.pulse.beat(&self.shared, &name).await
    }

    async fn leave(&self) -> Result<(), LedgerError> {
        let Some(name) = self.parts.node.get().cloned() else { return Ok(()) };
        let process = self.shared.settings.process.clone();
        self.rescue_process(&process).await?;
        self.shared.run(move |session| Box::pin(async move { nodes::leave(session, &name, &process).await })).await
    }

    async fn nodes(&self) -> Result<Vec<NodeStatus>, LedgerError> {
        let (process, lapse) = (self.shared.settings.process.clone(), self.shared.settings.heartbeat_lapse);
        self.shared.run(move |session| Box::pin(async move { nodes::list(session, &process, lapse).await })).await
    }

    async fn exposed(&self) -> Result<Vec<String>, LedgerError> {
        self.shared.run(|session| Box::pin(exposure::exposed(session))).await
    }

    /// Within [`CLOSE`], whatever the database does.
    async fn close(&self) {
        self.shared.closing.cancel();
        let tasks = std::mem::take(&mut *self.parts.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let mut cut = tasks.iter().map(JoinHandle::abort_handle).collect::<Vec<_>>();
        if tokio::time::timeout(CLOSE, futures::future::join_all(tasks)).await.is_ok() {
            cut.clear();
        }
        for task in cut {
            task.abort();
        }
        self.shared.pool.close();
    }
}
