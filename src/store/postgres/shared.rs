//! What all handles, writers and tasks of one store share: its connections, and the ways to run something on them.
//!
//! - Whatever is run has a deadline. A connection whose answer was not waited for is closed, not given back.
//! - Work in a transaction that met another one in a circle of locks is done again, a few times.
//! - Who is to be woken is woken after the commit, before the answer.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use futures::future::BoxFuture;
use longshore_actors::clock::Timestamp;
use longshore_actors::ledger::{LedgerError, Wakes};
use tokio_util::sync::CancellationToken;

use crate::store::postgres::connect::Dial;
use crate::store::postgres::effects::Effects;
use crate::store::postgres::error::{OpError, OpResult, describe};
use crate::store::postgres::group::GroupSize;
use crate::store::postgres::open::{Pooler, Settings};
use crate::store::postgres::session::Session;
use crate::store::postgres::tell::Telling;
use crate::store::postgres::work::Work;

/// How often work is done that met other transactions in a circle of locks.
const TRIES: usize = 5;

/// What a transaction may take, in times of one statement: it has several, and each its own timeout.
pub const TRANSACTION: u32 = 2;

#[derive(Debug)]
pub struct Shared {
    pub settings: Settings,
    pub pool: Pool,
    pub dial: Dial,
    pub wakes: Wakes,
    pub telling: Telling,
    pub group: GroupSize,
    /// Cancelled when the store closes, or when its last handle is gone.
    pub closing: CancellationToken,
    stale_writes: AtomicU64,
    /// The earliest instant the keeper of time has been told of.
    known_due: Mutex<Option<Timestamp>>,
}

impl Shared {
    pub fn new(settings: Settings, dial: Dial) -> Result<Shared, String> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(dial.config.clone(), dial.clone(), recycling);
        let pool = Pool::builder(manager)
            .max_size(settings.connections.max(1))
            .create_timeout(Some(settings.connect_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Shared {
            settings,
            pool,
            dial,
            wakes: Wakes::default(),
            telling: Telling::default(),
            group: GroupSize::default(),
            closing: CancellationToken::new(),
            stale_writes: AtomicU64::new(0),
            known_due: Mutex::default(),
        })
    }

    /// Whether statements stay prepared.
    pub fn keeps_state(&self) -> bool {
        self.settings.pooler == Pooler::Session
    }

    pub fn stale_writes(&self) -> u64 {
        self.stale_writes.load(Ordering::Relaxed)
    }

    /// Counts a refused write; every answer of the ledger passes here.
    pub fn answered<T>(&self, answer: Result<T, LedgerError>) -> Result<T, LedgerError> {
        if matches!(answer, Err(LedgerError::Stale(_))) {
            self.stale_writes.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// A connection of the pool, in order.
    pub async fn lend(&self) -> OpResult<Lent> {
        let unavailable = |reason: String| OpError::Refused(LedgerError::Unavailable(reason));
        match self.pool.get().await {
            Ok(object) => {
                let session = Session::pooled(object, self.keeps_state());
                Ok(Lent(Some(session.limited(self.settings.statement_timeout))))
            }
            Err(PoolError::Backend(error)) => Err(unavailable(describe(&error))),
            Err(PoolError::Closed) => Err(unavailable("the store is closed".to_owned())),
            Err(PoolError::Timeout(_)) => Err(unavailable(self.no_answer())),
            Err(error @ (PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_))) => {
                Err(unavailable(error.to_string()))
            }
        }
    }

    /// A connection that belongs to the caller.
    pub async fn connect_own(&self) -> OpResult<Session> {
        let unavailable = |reason: String| OpError::Refused(LedgerError::Unavailable(reason));
        match self.dial.connect_own().await {
            Some(Ok(client)) => Ok(Session::own(client, self.keeps_state()).limited(self.settings.statement_timeout)),
            Some(Err(error)) => Err(unavailable(describe(&error))),
            None => Err(unavailable(self.no_answer())),
        }
    }

    fn no_answer(&self) -> String {
        format!("no answer from {} within {:?}", self.dial.place, self.settings.connect_timeout)
    }

    /// Gives `work` as long as so many statements may take.
    pub async fn within<T>(&self, statements: u32, work: impl Future<Output = OpResult<T>>) -> Result<T, LedgerError> {
        let deadline = self.settings.statement_timeout * statements;
        match tokio::time::timeout(deadline, work).await {
            Ok(done) => done.map_err(LedgerError::from),
            Err(_) => {
                let place = &self.dial.place;
                Err(LedgerError::Unavailable(format!("no answer from {place} within {deadline:?}")))
            }
        }
    }

    /// Runs statements that each stand for themselves.
    pub async fn run<T>(
        &self,
        work: impl for<'s> FnOnce(&'s Session) -> BoxFuture<'s, OpResult<T>>,
    ) -> Result<T, LedgerError> {
        let done = self.within(1, async {
            let mut lent = self.lend().await?;
            let done = work(&lent).await;
            lent.settle();
            done
        });
        done.await
    }

    /// Runs `work` in a transaction, and publishes what it has to tell.
    pub async fn transact<W: Work>(&self, work: &W) -> Result<W::Answer, LedgerError> {
        let done = self.within(TRANSACTION, async {
            let mut tries = Tries::default();
            loop {
                let mut lent = self.lend().await?;
                let done = transaction(&mut lent, work).await;
                lent.settle();
                if let Some((answer, effects)) = tries.judge(done)? {
                    self.publish(&effects);
                    return Ok(answer);
                }
            }
        });
        let done = done.await;
        self.answered(done)
    }

    /// What is due is looked up anew: until that is known, whatever is put off wakes.
    pub fn forget_due(&self) {
        *self.known_due.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Wakes whoever waits in this process, and tells the other nodes.
    pub fn publish(&self, effects: &Effects) {
        let process = &*self.settings.process;
        let others = self.keeps_state().then_some(&self.telling);
        for domain in effects.domains_with_work() {
            self.wakes.work(domain);
            others.inspect(|others| others.work(process, domain));
        }
        for domain in effects.domains_revoked() {
            self.wakes.revoked(domain);
            others.inspect(|others| others.revoked(process, domain));
        }
        let mut known = self.known_due.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next_due) = effects.next_due {
            *known = next_due;
        }
        if let Some(due) = effects.due
            && known.is_none_or(|known| due < known)
        {
            *known = Some(due);
            self.wakes.due().wake();
            others.inspect(|others| others.due(process));
        }
    }
}

/// A connection of the pool. It goes back when what was run on it has come to its end, and is closed otherwise: a
/// caller that left, or a deadline, leaves an answer on its way.
#[derive(Debug)]
pub struct Lent(Option<Session>);

const THERE: &str = "it is taken when it is dropped";

impl Lent {
    /// What was run has come to its end.
    pub fn settle(&mut self) {
        self.0 = None;
    }
}

impl Deref for Lent {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.0.as_ref().expect(THERE)
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Session {
        self.0.as_mut().expect(THERE)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            session.discard();
        }
    }
}

/// What is left of the tries of one piece of work.
#[derive(Debug)]
pub struct Tries(usize);

impl Default for Tries {
    fn default() -> Self {
        Tries(TRIES)
    }
}

impl Tries {
    /// `None`: once more.
    pub fn judge<T>(&mut self, done: OpResult<Option<T>>) -> OpResult<Option<T>> {
        match done {
            Ok(Some(done)) => Ok(Some(done)),
            Ok(None) if self.left() => Ok(None),
            Ok(None) => {
                let reason = "others were in the way again and again";
                Err(OpError::Refused(LedgerError::Unavailable(reason.to_owned())))
            }
            Err(error) if error.is_conflict() && self.left() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn left(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

/// One try. `None`: rolled back, and to be done again.
pub async fn transaction<W: Work>(session: &mut Session, work: &W) -> OpResult<Option<(W::Answer, Effects)>> {
    let tx = session.begin().await?;
    let mut effects = Effects::default();
    match work.run(&tx, &mut effects).await {
        Ok(answer) if !work.is_to_be_undone(&answer) => {
            tx.commit().await?;
            Ok(Some((answer, effects)))
        }
        // Whoever is answered may ask again at once, and must not find its rows still locked.
        Ok(_) => tx.roll_back().await.map(|()| None),
        Err(error) => {
            // What went wrong first is what is told.
            let _ = tx.roll_back().await;
            Err(error)
        }
    }
}

/// How long closing may take until what is under way is cut off.
pub const CLOSE: Duration = Duration::from_secs(2);
