//! The one thread that writes, and its group commit.
//!
//! ```text
//! callers ──op──▶ bounded queue ──▶ [ take all that wait ] ─▶ BEGIN ─▶ op, op, op ─▶ COMMIT (fsync) ─▶ answer each
//!                                                               │ one failed after it had written
//!                                                               └▶ ROLLBACK, and once more with a savepoint for each
//! ```
//!
//! - An operation is answered after the fsync of the transaction that holds it, never before.
//! - An operation that fails changes nothing and leaves its neighbours in the group unharmed. Most decide before they
//!   write, so a savepoint for each would be paid for nothing: a group in which one fails half-way, or panics, is
//!   rolled back and run again with savepoints. An operation must therefore be a function that can be called twice.
//! - A commit that fails (disk full) answers the whole group with `Unavailable`; nothing of it was written.
//! - The thread ends when it is told to close, or when its last handle is gone; what was accepted is finished first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use longshore_actors::clock::Timestamp;
use longshore_actors::ledger::LedgerError;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

use crate::store::sqlite::Outside;
use crate::store::sqlite::lock::Lock;
use crate::store::sqlite::tx::{Effects, Memory, OpError, OpResult, Tx, ledger_error};
use crate::store::tally::Tally;

/// What callers send.
pub enum Message {
    Op(Box<dyn Op>),
    /// Accepts no more, finishes what was accepted, and ends.
    Close,
}

/// One operation and the caller that waits for it.
pub trait Op: Send {
    /// Runs in the open transaction and keeps its answer for later.
    fn run(&mut self, tx: &mut Tx<'_>) -> OpResult<()>;

    /// Answers the caller with what `run` kept, or with the error.
    fn answer(self: Box<Self>, verdict: Result<(), LedgerError>);
}

struct Call<F, T> {
    work: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, LedgerError>>,
}

impl<F, T> Op for Call<F, T>
where
    F: Fn(&mut Tx<'_>) -> OpResult<T> + Send,
    T: Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> OpResult<()> {
        self.done = None;
        self.done = Some((self.work)(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, verdict: Result<(), LedgerError>) {
        let answer = match (verdict, self.done) {
            (Ok(()), Some(done)) => Ok(done),
            (Ok(()), None) => Err(LedgerError::Broken("an operation was not run".into())),
            (Err(error), _) => Err(error),
        };
        // A caller that has left does not undo what is committed.
        let _ = self.reply.send(answer);
    }
}

/// Wraps a function of the transaction for the queue.
pub fn op<T, F>(work: F) -> (Message, oneshot::Receiver<Result<T, LedgerError>>)
where
    F: Fn(&mut Tx<'_>) -> OpResult<T> + Send + 'static,
    T: Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Message::Op(Box::new(Call { work, done: None, reply })), answer)
}

/// Whether each operation gets a savepoint.
#[derive(Clone, Copy, PartialEq)]
enum Care {
    Bare,
    Savepoints,
}

/// An attempt at a group that cannot go on.
enum Spoiled {
    /// One operation failed half-way: the same group again, with savepoints.
    Again,
    /// The store cannot be written now.
    All(LedgerError),
}

/// An operation of the group under way, with its verdict so far.
struct Member {
    op: Box<dyn Op>,
    verdict: Result<(), LedgerError>,
}

pub struct Writer {
    pub conn: Connection,
    pub lock: Lock,
    pub queue: mpsc::Receiver<Message>,
    pub batch_max: usize,
    pub memory: Memory,
    /// What is committed. The copy outside is for readers, who must not wait for a long operation.
    pub tally: Tally,
    pub outside: Arc<Outside>,
    /// The earliest instant the keeper of time has been told of.
    pub known_due: Option<Timestamp>,
    /// Tells those who wait for the end, whatever way it comes.
    pub ended: DropGuard,
}

impl Writer {
    /// Until the queue is closed and empty.
    pub fn run(mut self) {
        let mut group: Vec<Member> = Vec::new();
        while let Some(message) = self.queue.blocking_recv() {
            self.take(message, &mut group);
            while group.len() < self.batch_max
                && let Ok(message) = self.queue.try_recv()
            {
                self.take(message, &mut group);
            }
            if !group.is_empty() {
                self.settle(&mut group);
            }
        }
        self.end();
    }

    /// Runs one operation before the queue is served.
    pub fn once<T, F>(&mut self, work: F) -> Result<T, LedgerError>
    where
        F: Fn(&mut Tx<'_>) -> OpResult<T> + Send + 'static,
        T: Send + 'static,
    {
        let (message, mut answer) = op(work);
        let mut group = Vec::new();
        self.take(message, &mut group);
        self.settle(&mut group);
        answer.try_recv().unwrap_or_else(|_| Err(LedgerError::Broken("an operation was not answered".into())))
    }

    fn take(&mut self, message: Message, group: &mut Vec<Member>) {
        match message {
            Message::Op(op) => group.push(Member { op, verdict: Ok(()) }),
            Message::Close => self.queue.close(),
        }
    }

    /// Folds the log into the file, then lets go of the file, then of the lock, then says so.
    fn end(self) {
        let Writer { conn, lock, ended, .. } = self;
        if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the write-ahead log could not be folded into the database; the next start will");
        }
        drop(conn);
        drop(lock);
        drop(ended);
    }

    /// Runs the group and answers everybody in it.
    fn settle(&mut self, group: &mut Vec<Member>) {
        let mut effects = Effects::default();
        let outcome = match self.attempt(group, Care::Bare, &mut effects) {
            Err(Spoiled::Again) => {
                effects.clear();
                self.attempt(group, Care::Savepoints, &mut effects)
            }
            outcome => outcome,
        };
        let lost = match outcome {
            Ok(()) => {
                self.publish(&effects);
                None
            }
            Err(Spoiled::All(error)) => Some(error),
            Err(Spoiled::Again) => Some(LedgerError::Unavailable("the transaction was lost".into())),
        };
        for member in group.drain(..) {
            match &lost {
                None => member.op.answer(member.verdict),
                Some(error) => member.op.answer(Err(error.clone())),
            }
        }
        if lost.is_none() {
            self.wake(&effects);
        }
    }

    fn attempt(&mut self, group: &mut [Member], care: Care, effects: &mut Effects) -> Result<(), Spoiled> {
        let all = |error: rusqlite::Error| Spoiled::All(unavailable(&error));
        self.statement("BEGIN IMMEDIATE").map_err(all)?;
        let mut own = Effects::default();
        for member in group {
            own.clear();
            if care == Care::Savepoints {
                self.guarded("SAVEPOINT op")?;
            }
            let written = self.conn.total_changes();
            let result = self.step(member, &mut own, effects);
            let failed = result.is_err();
            member.verdict = result.map_err(LedgerError::from);
            if self.conn.is_autocommit() {
                // The error ended the whole transaction. With savepoints it did so twice: give up.
                return Err(match care {
                    Care::Bare => Spoiled::Again,
                    Care::Savepoints => Spoiled::All(LedgerError::Unavailable(describe(&member.verdict))),
                });
            }
            if !failed {
                effects.absorb(&mut own);
            } else {
                if matches!(member.verdict, Err(LedgerError::Stale(_))) {
                    effects.stale_writes += 1;
                }
                if care == Care::Bare && self.conn.total_changes() != written {
                    self.roll_back();
                    return Err(Spoiled::Again);
                }
                if care == Care::Savepoints {
                    self.guarded("ROLLBACK TO op")?;
                }
            }
            if care == Care::Savepoints {
                self.guarded("RELEASE op")?;
            }
        }
        self.statement("COMMIT").map_err(|error| {
            self.roll_back();
            all(error)
        })
    }

    /// Runs one operation; a panic in it is its own failure and nobody else's.
    fn step(&mut self, member: &mut Member, own: &mut Effects, effects: &Effects) -> OpResult<()> {
        let committed = &self.tally;
        let mut tx = Tx { conn: &self.conn, memory: &mut self.memory, effects: own, committed, group: effects };
        // What a panic leaves half-done is the transaction, which is rolled back, and `own`, which is dropped.
        match catch_unwind(AssertUnwindSafe(|| member.op.run(&mut tx))) {
            Ok(result) => result,
            Err(panic) => {
                let reason = panic_text(panic.as_ref());
                tracing::error!(reason, "an operation on the ledger panicked");
                Err(OpError::Ledger(LedgerError::Broken(format!("an operation panicked: {reason}"))))
            }
        }
    }

    /// After the commit and before any answer: whoever is answered finds the statistics up to date.
    fn publish(&mut self, effects: &Effects) {
        self.tally.apply(&effects.tally);
        self.outside.tally.lock().unwrap_or_else(PoisonError::into_inner).apply(&effects.tally);
        self.outside.stale_writes.fetch_add(effects.stale_writes, Ordering::Relaxed);
    }

    fn wake(&mut self, effects: &Effects) {
        for domain in effects.domains_with_work() {
            self.outside.wakes.work(domain);
        }
        for domain in effects.domains_revoked() {
            self.outside.wakes.revoked(domain);
        }
        if let Some(next_due) = effects.next_due {
            self.known_due = next_due;
        }
        if let Some(due) = effects.due
            && self.known_due.is_none_or(|known| due < known)
        {
            self.known_due = Some(due);
            self.outside.wakes.due().wake();
        }
    }

    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// A savepoint statement; when it fails the group cannot go on.
    fn guarded(&self, sql: &str) -> Result<(), Spoiled> {
        self.statement(sql).map_err(|error| {
            self.roll_back();
            Spoiled::All(unavailable(&error))
        })
    }

    fn roll_back(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.statement("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }
}

/// Whatever hinders BEGIN or COMMIT is an outage: no operation is to blame.
fn unavailable(error: &rusqlite::Error) -> LedgerError {
    match ledger_error(error) {
        LedgerError::Broken(reason) => LedgerError::Unavailable(reason),
        error => error,
    }
}

fn describe(verdict: &Result<(), LedgerError>) -> String {
    match verdict {
        Ok(()) => "the transaction was lost".to_owned(),
        Err(LedgerError::Unavailable(reason) | LedgerError::Broken(reason)) => reason.clone(),
        Err(error) => error.to_string(),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "no message",
    }
}
