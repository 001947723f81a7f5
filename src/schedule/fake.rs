//! A store in memory for the tests of the schedules, the operators' door and the HTTP server: just enough of one.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use longshore_actors::checkpoint::{Checkpoint, Counts};
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::job::{Job, JobId, Lease, NewJob, State};
use longshore_actors::ledger::{
    Change, Children, Claim, Enqueued, Filter, JobRecord, KindStats, Ledger, LedgerError, Pruned, Receipt, Record,
    Released, Rescue, Retention, Stats, Wake, Wakes,
};

use crate::store::batch::{Batch, Cell, Row};
use crate::store::table::Table;
use crate::store::{Committed, RejectedRecord, Store, SyncState, Writer};

/// Shared by its clones.
#[derive(Clone, Default)]
pub struct FakeStore {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    rows: Mutex<Rows>,
    wakes: Wakes,
}

#[derive(Default)]
pub struct Rows {
    pub jobs: Vec<JobRecord>,
    pub fires: BTreeSet<(String, Timestamp)>,
    pub rejects: Vec<RejectedRecord>,
    /// By schedule: its expression, and from when it counts.
    pub since: BTreeMap<String, (String, Timestamp)>,
    /// When set, every call answers this.
    pub down: Option<String>,
    pub released: u64,
    pub rescued: Vec<String>,
    /// What `prune` has yet to delete.
    pub prunable: u64,
    pub prunes: u64,
}

impl FakeStore {
    pub fn rows(&self) -> MutexGuard<'_, Rows> {
        self.inner.rows.lock().unwrap()
    }

    pub fn set_down(&self, reason: Option<&str>) {
        self.rows().down = reason.map(str::to_owned);
    }

    pub fn set_state(&self, job: JobId, state: State) {
        self.rows().jobs.iter_mut().find(|record| record.id == job).unwrap().state = state;
    }

    pub fn fired(&self, schedule: &str) -> Vec<Timestamp> {
        self.rows().fires.iter().filter(|(name, _)| name == schedule).map(|(_, at)| *at).collect()
    }

    pub fn wake_due(&self) {
        self.inner.wakes.due().wake();
    }

    fn up(&self) -> Result<MutexGuard<'_, Rows>, LedgerError> {
        let rows = self.rows();
        match &rows.down {
            Some(reason) => Err(LedgerError::Unavailable(reason.clone())),
            None => Ok(rows),
        }
    }
}

fn put(rows: &mut Rows, job: NewJob, now: Timestamp) -> Enqueued {
    let key = job.unique.map(|unique| unique.key);
    let holder = rows.jobs.iter().find(|held| key.is_some() && held.unique_key == key && !held.state.is_final());
    if let Some(holder) = holder {
        return Enqueued::Existing(holder.id);
    }
    let id = JobId(rows.jobs.len() as i64 + 1);
    rows.jobs.push(JobRecord {
        id,
        domain: job.domain.to_string(),
        kind: job.kind.to_string(),
        params: job.params,
        state: if job.run_at.is_some_and(|at| at > now) { State::Delayed } else { State::Waiting },
        priority: job.priority,
        unique_key: key,
        parent: job.parent,
        attempt: 0,
        crashes: 0,
        run_at: job.run_at.unwrap_or(now),
        enqueued_at: now,
        started_at: None,
        finished_at: None,
        fence: 0,
        owner: None,
        checkpoint: Checkpoint::default(),
        counts: Counts::default(),
        children: Children::default(),
        message: None,
        cause: None,
        history: Vec::new(),
    });
    Enqueued::New(id)
}

#[async_trait]
impl Ledger for FakeStore {
    async fn enqueue(&self, jobs: Vec<NewJob>, now: Timestamp) -> Result<Vec<Enqueued>, LedgerError> {
        let mut rows = self.up()?;
        Ok(jobs.into_iter().map(|job| put(&mut rows, job, now)).collect())
    }

    async fn claim(&self, _claim: Claim) -> Result<Vec<Job>, LedgerError> {
        Ok(Vec::new())
    }

    async fn renew(&self, _leases: Vec<Lease>, _until: Timestamp) -> Result<Vec<Lease>, LedgerError> {
        Ok(Vec::new())
    }

    async fn commit(&self, _receipt: Receipt, _counts: Counts, _now: Timestamp) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn record(&self, _record: Record, _now: Timestamp) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn record_crash(&self, _lease: Lease, _reason: String, _now: Timestamp) -> Result<u32, LedgerError> {
        Ok(0)
    }

    async fn release(&self, now: Timestamp) -> Result<Released, LedgerError> {
        let mut rows = self.up()?;
        let mut released = Released::default();
        for job in rows.jobs.iter_mut().filter(|job| job.state == State::Delayed) {
            if job.run_at <= now {
                job.state = State::Waiting;
                released.count += 1;
            } else {
                released.next_due = Some(released.next_due.map_or(job.run_at, |next| next.min(job.run_at)));
            }
        }
        rows.released += released.count;
        Ok(released)
    }

    async fn rescue(&self, rescue: Rescue) -> Result<u64, LedgerError> {
        self.up()?.rescued.push(format!("{rescue:?}"));
        Ok(0)
    }

    async fn change(&self, job: JobId, change: Change, _now: Timestamp) -> Result<(), LedgerError> {
        let mut rows = self.up()?;
        let record = rows.jobs.iter_mut().find(|record| record.id == job).ok_or(LedgerError::Missing(job))?;
        match change {
            Change::Retry if record.state.is_final() || record.state == State::Delayed => {
                record.state = State::Waiting;
                Ok(())
            }
            Change::Cancel { reason } if !record.state.is_final() => {
                record.state = State::Cancelled;
                record.message = Some(reason);
                Ok(())
            }
            Change::Retry | Change::Cancel { .. } => {
                Err(LedgerError::Refused(format!("job {job} is {}", record.state)))
            }
        }
    }

    async fn jobs(&self, filter: Filter) -> Result<Vec<JobRecord>, LedgerError> {
        let rows = self.up()?;
        let wanted = |job: &&JobRecord| {
            (filter.ids.is_empty() || filter.ids.contains(&job.id))
                && filter.domain.as_ref().is_none_or(|domain| *domain == job.domain)
                && filter.kind.as_ref().is_none_or(|kind| *kind == job.kind)
                && (filter.states.is_empty() || filter.states.contains(&job.state))
                && filter.parent.is_none_or(|parent| job.parent == Some(parent))
                && filter.before.is_none_or(|before| job.id < before)
        };
        let limit = if filter.limit == 0 { 50 } else { filter.limit };
        Ok(rows.jobs.iter().rev().filter(wanted).take(limit).cloned().collect())
    }

    async fn family(&self, job: JobId) -> Result<Vec<KindStats>, LedgerError> {
        let rows = self.up()?;
        let mut kinds: BTreeMap<String, KindStats> = BTreeMap::new();
        for child in rows.jobs.iter().filter(|child| child.parent == Some(job)) {
            let stats = kinds.entry(child.kind.clone()).or_default();
            stats.domain.clone_from(&child.domain);
            stats.kind.clone_from(&child.kind);
            stats.add(child.state, 1);
        }
        Ok(kinds.into_values().collect())
    }

    async fn stats(&self) -> Result<Stats, LedgerError> {
        let rows = self.up()?;
        let mut kinds: BTreeMap<(String, String), KindStats> = BTreeMap::new();
        for job in &rows.jobs {
            let key = (job.domain.clone(), job.kind.clone());
            let stats = kinds.entry(key).or_insert_with(|| KindStats {
                domain: job.domain.clone(),
                kind: job.kind.clone(),
                waiting: 0,
                delayed: 0,
                active: 0,
                completed: 0,
                failed: 0,
                cancelled: 0,
            });
            match job.state {
                State::Waiting => stats.waiting += 1,
                State::Delayed => stats.delayed += 1,
                State::Active => stats.active += 1,
                State::Completed => stats.completed += 1,
                State::Failed => stats.failed += 1,
                State::Cancelled => stats.cancelled += 1,
            }
        }
        Ok(Stats { kinds: kinds.into_values().collect(), stale_writes: 0 })
    }

    async fn prune(&self, retention: Retention, _now: Timestamp) -> Result<Pruned, LedgerError> {
        let mut rows = self.up()?;
        let jobs = rows.prunable.min(retention.batch as u64);
        rows.prunable -= jobs;
        rows.prunes += 1;
        Ok(Pruned { jobs, more: rows.prunable > 0 })
    }

    fn wake(&self, domain: &str) -> Wake {
        self.inner.wakes.of(domain)
    }

    fn due(&self) -> Wake {
        self.inner.wakes.due().clone()
    }
}

#[async_trait]
impl Store for FakeStore {
    fn ledger(&self) -> Arc<dyn Ledger> {
        Arc::new(self.clone())
    }

    async fn writer(&self) -> Result<Box<dyn Writer>, LedgerError> {
        Err(LedgerError::Unavailable("nothing is written here".to_owned()))
    }

    async fn preview(&self, _delivery: Arc<Delivery<Batch>>) -> Result<Committed, LedgerError> {
        Ok(Committed::default())
    }

    async fn sync_state(&self, _provider: &str, _entity: &str) -> Result<Option<SyncState>, LedgerError> {
        Ok(None)
    }

    async fn sync_states(&self) -> Result<Vec<SyncState>, LedgerError> {
        Ok(Vec::new())
    }

    async fn rejects(&self, domain: Option<&str>, limit: usize) -> Result<Vec<RejectedRecord>, LedgerError> {
        let rows = self.up()?;
        let wanted = rows.rejects.iter().filter(|reject| domain.is_none_or(|domain| domain == reject.domain));
        Ok(wanted.take(limit).cloned().collect())
    }

    async fn schedule_since(&self, schedule: &str, when: &str, now: Timestamp) -> Result<Timestamp, LedgerError> {
        let last = self.last_fire(schedule).await?;
        let mut rows = self.up()?;
        let known = rows.since.get(schedule).cloned();
        let since = match known {
            Some((expression, since)) if expression == when => return Ok(last.unwrap_or(since).max(since)),
            Some(_) => now,
            None => last.unwrap_or(now),
        };
        rows.since.insert(schedule.to_owned(), (when.to_owned(), since));
        Ok(since)
    }

    async fn rows(&self, _: &'static Table, _: Vec<Cell>, _: usize) -> Result<Vec<Row>, LedgerError> {
        Ok(Vec::new())
    }

    async fn last_fire(&self, schedule: &str) -> Result<Option<Timestamp>, LedgerError> {
        let rows = self.up()?;
        Ok(rows.fires.iter().filter(|(name, _)| name == schedule).map(|(_, at)| *at).max())
    }

    async fn fire(
        &self,
        schedule: &str,
        at: Timestamp,
        job: NewJob,
        now: Timestamp,
    ) -> Result<Option<Enqueued>, LedgerError> {
        let mut rows = self.up()?;
        if !rows.fires.insert((schedule.to_owned(), at)) {
            return Ok(None);
        }
        Ok(Some(put(&mut rows, job, now)))
    }

    async fn take_quota(&self, _provider: &str, _n: u32, _limit: u32, _now: Timestamp) -> Result<bool, LedgerError> {
        Ok(true)
    }

    async fn note_quota(&self, _provider: &str, _used: u32, _now: Timestamp) -> Result<(), LedgerError> {
        Ok(())
    }

    async fn known(
        &self,
        _: &'static Table,
        _: &'static str,
        keys: Vec<Cell>,
    ) -> Result<Vec<Option<String>>, LedgerError> {
        Ok(vec![None; keys.len()])
    }

    async fn probe(&self, _now: Timestamp) -> Result<(), LedgerError> {
        self.up().map(drop)
    }

    async fn count_rows(&self, _table: &'static Table) -> Result<u64, LedgerError> {
        Ok(0)
    }

    async fn close(&self) {}
}
