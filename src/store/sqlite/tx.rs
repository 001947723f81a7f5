//! What an operation of the writer sees: the open transaction, and a place for what is to happen once it is committed.

use std::collections::HashMap;
use std::sync::Arc;

use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, Name, State};
use longshore_actors::ledger::LedgerError;
use rusqlite::{CachedStatement, Connection, ErrorCode, Params};

use crate::store::sqlite::names::Names;
use crate::store::sqlite::rows::TableSql;
use crate::store::tally::Tally;

/// Why an operation did not do it.
#[derive(Debug)]
pub enum OpError {
    /// Its decision, for the caller alone.
    Ledger(LedgerError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for OpError {
    fn from(error: rusqlite::Error) -> Self {
        OpError::Sqlite(error)
    }
}

impl From<LedgerError> for OpError {
    fn from(error: LedgerError) -> Self {
        OpError::Ledger(error)
    }
}

impl From<OpError> for LedgerError {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Ledger(error) => error,
            OpError::Sqlite(error) => ledger_error(&error),
        }
    }
}

/// A full disk or an unreadable file is an outage; anything else is a bug or a damaged file.
pub fn ledger_error(error: &rusqlite::Error) -> LedgerError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory,
        ) => LedgerError::Unavailable(text),
        _ => LedgerError::Broken(text),
    }
}

pub type OpResult<T> = Result<T, OpError>;

/// What outlives a transaction: it belongs to the writer's thread.
#[derive(Debug)]
pub struct Memory {
    pub names: Names,
    /// The number of the next job. A group that is rolled back leaves a gap, which harms nobody.
    pub next_id: i64,
    pub tables: HashMap<&'static str, Arc<TableSql>>,
}

/// What is to happen once the transaction is committed.
#[derive(Debug, Default)]
pub struct Effects {
    pub tally: Tally,
    work: Vec<Name>,
    revoked: Vec<Name>,
    /// The earliest instant at which a job delayed here is due.
    pub due: Option<Timestamp>,
    /// The earliest due instant that is left, when a release has looked.
    pub next_due: Option<Option<Timestamp>>,
    pub stale_writes: u64,
}

impl Effects {
    pub fn moved(&mut self, domain: &Name, kind: &Name, from: State, to: State) {
        self.tally.add(domain, kind, from, -1);
        self.tally.add(domain, kind, to, 1);
        if to == State::Waiting {
            self.work(domain);
        }
    }

    /// There may be something to claim in `domain`.
    pub fn work(&mut self, domain: &Name) {
        if !self.work.contains(domain) {
            self.work.push(domain.clone());
        }
    }

    /// A lease of `domain` was taken away.
    pub fn revoke(&mut self, domain: &Name) {
        if !self.revoked.contains(domain) {
            self.revoked.push(domain.clone());
        }
    }

    pub fn delayed(&mut self, until: Timestamp) {
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
    }

    pub fn domains_with_work(&self) -> &[Name] {
        &self.work
    }

    pub fn domains_revoked(&self) -> &[Name] {
        &self.revoked
    }

    pub fn absorb(&mut self, other: &mut Effects) {
        let Effects { tally, work, revoked, due, next_due, stale_writes } = other;
        self.tally.apply(tally);
        work.iter().for_each(|domain| self.work(domain));
        revoked.iter().for_each(|domain| self.revoke(domain));
        if let Some(due) = *due {
            self.delayed(due);
        }
        self.next_due = next_due.or(self.next_due);
        self.stale_writes += *stale_writes;
        other.clear();
    }

    pub fn clear(&mut self) {
        let Effects { tally, work, revoked, due, next_due, stale_writes } = self;
        tally.clear();
        work.clear();
        revoked.clear();
        *due = None;
        *next_due = None;
        *stale_writes = 0;
    }
}

/// The open transaction, for one operation.
pub struct Tx<'a> {
    pub conn: &'a Connection,
    pub memory: &'a mut Memory,
    /// Of this operation; dropped when it fails.
    pub effects: &'a mut Effects,
    /// All that is committed, and the operations of this group so far.
    pub committed: &'a Tally,
    pub group: &'a Effects,
}

impl<'a> Tx<'a> {
    pub fn prepare(&self, sql: &str) -> OpResult<CachedStatement<'a>> {
        Ok(self.conn.prepare_cached(sql)?)
    }

    /// Runs a kept statement; answers the rows it changed.
    pub fn execute(&self, sql: &str, params: impl Params) -> OpResult<usize> {
        Ok(self.prepare(sql)?.execute(params)?)
    }

    /// Jobs in a state, this group's earlier operations included.
    pub fn total(&self, state: State) -> i64 {
        self.committed.total(state) + self.group.tally.total(state) + self.effects.tally.total(state)
    }

    /// Bytes of finished jobs, this group's earlier operations included.
    pub fn finished_bytes(&self) -> i64 {
        self.committed.finished_bytes + self.group.tally.finished_bytes + self.effects.tally.finished_bytes
    }

    pub fn next_id(&mut self) -> JobId {
        let id = self.memory.next_id;
        self.memory.next_id += 1;
        JobId(id)
    }
}
