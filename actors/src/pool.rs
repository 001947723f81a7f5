//! A pool: the equal workers of one stage, and their one mailbox.
//!
//! ```text
//! Pool ── Mailbox (actors × mailbox places)
//!  ├── slot 0 ── Worker (generation 7)      a slot is a place in the tree; its worker may change,
//!  ├── slot 1 ── Worker (generation 3)      and each worker has a generation of its own
//!  └── …
//! ```
//!
//! A worker whose thread computes on long after its caller gave up cannot be cut off: it is left behind with its thread
//! and replaced ([`Pool::hung`]).
//!
//! The pool starts, retires and counts; whether a dead worker is started again is decided by [`crate::restart`], and
//! carried out by the coordinator, which owns the timers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Actor;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::chance;
use crate::mailbox::Mailbox;
use crate::restart::{Decision, RestartPolicy, Restarts};
use crate::settings::PoolSettings;
use crate::stage::{Stage, StageName};
use crate::status::{Board, Part, PartKind, PartState};
use crate::threads::{Thread, Threads};
use crate::watch::{Exit, ExitGuard};
use crate::worker::{Hand, Worker};

/// A worker that computes on for so long after its caller gave up will not end: any stage that waits for something
/// notices at once.
const HUNG_AFTER: Duration = Duration::from_secs(10);

/// How long an ending pool waits for a thread that computes, before it leaves it behind.
const THREAD_END: Duration = Duration::from_secs(5);

/// A worker is gone.
#[derive(Clone, Debug)]
pub(crate) struct WorkerExit {
    pub(crate) stage: StageName,
    pub(crate) slot: usize,
    pub(crate) generation: u64,
    pub(crate) exit: Exit,
}

/// Told of every worker's end; must be safe to call while unwinding.
pub(crate) type Watcher = Arc<dyn Fn(WorkerExit) + Send + Sync>;

pub(crate) struct Pool<S: Stage> {
    stage: StageName,
    /// `catalog/fetch`.
    name: String,
    settings: S::Settings,
    mailbox: Mailbox<S>,
    threads: PoolThreads,
    board: Board,
    part: Arc<Part>,
    watcher: Watcher,
    size: Option<PoolSettings>,
    slots: Vec<Slot>,
    generation: u64,
    /// Threads of workers that were retired and finish what they have in hand.
    leaving: Vec<(u64, Thread)>,
}

/// Where the workers live.
pub(crate) enum PoolThreads {
    /// On the coordinator's own arbiter.
    Shared,
    /// On one arbiter each.
    OneEach(Threads),
}

struct Slot {
    generation: u64,
    /// Its worker has not told its end yet.
    alive: bool,
    hand: Hand,
    retire: CancellationToken,
    thread: Option<Thread>,
    restarts: Restarts,
    part: Arc<Part>,
}

impl<S: Stage> Pool<S> {
    pub(crate) fn start(
        domain: &str,
        stage: StageName,
        settings: S::Settings,
        size: PoolSettings,
        threads: PoolThreads,
        board: &Board,
        watcher: Watcher,
    ) -> Self {
        let name = format!("{domain}/{stage}");
        let part = board.part(&name, PartKind::Pool);
        part.set(PartState::Idle);
        let mailbox = Mailbox::new(size.capacity(), part.clone());
        let board = board.clone();
        let mut pool = Self {
            stage,
            name,
            settings,
            mailbox,
            threads,
            board,
            part,
            watcher,
            size: None,
            slots: Vec::new(),
            generation: 0,
            leaving: Vec::new(),
        };
        pool.resize(size);
        // The last incarnation may have had more workers.
        let mut gone = pool.slots.len();
        while pool.board.remove(&format!("{}/{gone}", pool.name)) {
            gone += 1;
        }
        pool
    }

    pub(crate) fn mailbox(&self) -> Mailbox<S> {
        self.mailbox.clone()
    }

    /// Grows by starting workers; shrinks by letting the last ones finish what they have in hand.
    /// Answers whether that changed anything.
    pub(crate) fn resize(&mut self, size: PoolSettings) -> bool {
        if self.size == Some(size) {
            return false;
        }
        self.size = Some(size);
        let actors = size.actors.max(1);
        self.mailbox.resize(size.capacity());
        while self.slots.len() > actors {
            if let Some(slot) = self.slots.pop() {
                slot.retire.cancel();
                self.board.remove(slot.part.name());
                // The thread of a dead worker, which has told its end already, can go at once.
                let thread = slot.thread.filter(|_| slot.alive);
                self.leaving.extend(thread.map(|thread| (slot.generation, thread)));
            }
        }
        while self.slots.len() < actors {
            let part = self.board.part(&format!("{}/{}", self.name, self.slots.len()), PartKind::Worker);
            self.slots.push(Slot {
                generation: 0,
                alive: false,
                hand: Hand::default(),
                retire: CancellationToken::new(),
                thread: None,
                restarts: Restarts::default(),
                part,
            });
            self.start_worker(self.slots.len() - 1);
        }
        true
    }

    fn start_worker(&mut self, index: usize) {
        self.generation += 1;
        let (stage, generation) = (self.stage, self.generation);
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.generation = generation;
        slot.alive = true;
        slot.hand = Hand::default();
        slot.retire = CancellationToken::new();
        slot.part.set(PartState::Starting);
        let watcher = self.watcher.clone();
        let guard = ExitGuard::new(move |exit| watcher(WorkerExit { stage, slot: index, generation, exit }));
        let (settings, mailbox) = (self.settings.clone(), self.mailbox.clone());
        let (part, hand, retire) = (slot.part.clone(), slot.hand.clone(), slot.retire.clone());
        let worker = move || Worker { settings, mailbox, part, hand, retire, guard };
        match &self.threads {
            PoolThreads::Shared => {
                worker().start();
            }
            PoolThreads::OneEach(threads) => {
                let thread = slot.thread.get_or_insert_with(|| threads.start());
                Worker::start_in_arbiter(thread.handle(), move |_| worker());
            }
        }
    }

    /// Whether this was the slot's present worker, and if so what is to be done. One that was left behind as hung has
    /// died already should it end after all.
    pub(crate) fn died(&mut self, exit: &WorkerExit, policy: &RestartPolicy) -> Option<Decision> {
        self.leaving.retain(|(generation, _thread)| *generation != exit.generation);
        let slot = self.slots.get_mut(exit.slot).filter(|slot| slot.generation == exit.generation && slot.alive)?;
        slot.alive = false;
        slot.part.set(PartState::Restarting);
        slot.part.set_job(None);
        slot.part.say(&exit.exit.reason);
        let decision = slot.restarts.died(policy, Instant::now(), chance());
        if let Decision::Restart { .. } = decision {
            slot.part.restarts.fetch_add(1, Ordering::Relaxed);
            self.part.restarts.fetch_add(1, Ordering::Relaxed);
        }
        Some(decision)
    }

    /// Starts a fresh worker in place of the dead one, unless the slot has gone or been filled meanwhile.
    pub(crate) fn restart(&mut self, slot: usize, generation: u64) {
        if self.slots.get(slot).is_some_and(|slot| slot.generation == generation) {
            self.start_worker(slot);
        }
    }

    /// The workers that compute on though nobody waits any more. Each is left behind with its thread; what is to be
    /// done is decided as if it had died. Workers on a shared arbiter cannot be looked at while one of them computes.
    pub(crate) fn hung(&mut self, now: Instant) -> Vec<WorkerExit> {
        let PoolThreads::OneEach(_) = self.threads else { return Vec::new() };
        let mut hung = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let forsaken = slot.hand.forsaken_at().filter(|_| slot.alive);
            if forsaken.is_some_and(|since| now.duration_since(since) >= HUNG_AFTER) {
                // Should it ever come back, it finds itself retired and its thread stopping.
                slot.retire.cancel();
                slot.thread = None;
                let reason = format!("hung: it computed on for {HUNG_AFTER:?} after its caller gave up");
                let exit = Exit { panicked: false, reason };
                hung.push(WorkerExit { stage: self.stage, slot: index, generation: slot.generation, exit });
            }
        }
        hung
    }

    /// Ends the workers where they stand and waits for their threads.
    pub(crate) fn stop(mut self) -> impl Future<Output = ()> + 'static {
        self.mailbox.close();
        let slots = std::mem::take(&mut self.slots).into_iter().filter_map(|slot| slot.thread);
        let leaving = std::mem::take(&mut self.leaving).into_iter().map(|(_, thread)| thread);
        let threads: Vec<Thread> = slots.chain(leaving).collect();
        let name = self.name.clone();
        async move {
            let ended = futures::future::join_all(threads.into_iter().map(Thread::join));
            if tokio::time::timeout(THREAD_END, ended).await.is_err() {
                tracing::warn!(pool = name, waited = ?THREAD_END, "a worker computes on: leave its thread behind");
            }
        }
    }
}

/// With its coordinator gone the pool is nobody's: rest for one.
impl<S: Stage> Drop for Pool<S> {
    fn drop(&mut self) {
        self.mailbox.close();
        self.part.set(PartState::Stopped);
        // A worker whose thread ends under it says nothing more.
        for slot in &self.slots {
            slot.part.set_job(None);
            slot.part.set(PartState::Stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain::Domain;
    use crate::testing::scripted::{Scripted, ScriptedFetch};

    fn pool(board: &Board, actors: usize) -> Pool<ScriptedFetch> {
        let settings = Scripted::new("alpha", &["alpha.job"]).fetch();
        let size = PoolSettings { actors, mailbox: 1 };
        Pool::start("alpha", StageName::Fetch, settings, size, PoolThreads::Shared, board, Arc::new(|_| ()))
    }

    #[test]
    fn a_worker_that_was_left_behind_and_ends_after_all_has_died_once() {
        actix::System::new().block_on(async {
            let mut pool = pool(&Board::new(Clock::system()), 1);
            let exit = Exit { panicked: false, reason: "hung".to_owned() };
            let exit = WorkerExit { stage: StageName::Fetch, slot: 0, generation: 1, exit };
            let policy = RestartPolicy::default();
            assert!(matches!(pool.died(&exit, &policy), Some(Decision::Restart { count: 1, .. })));
            assert_eq!(pool.died(&exit, &policy), None);
            assert_eq!(pool.part.status().restarts, 1);
        });
    }

    #[test]
    fn the_board_shows_the_workers_there_are() {
        actix::System::new().block_on(async {
            let board = Board::new(Clock::system());
            let states = || board.statuses().into_iter().map(|status| (status.name, status.state)).collect::<Vec<_>>();
            let named = |state| move |name: &str| (name.to_owned(), state);
            drop(pool(&board, 3));
            let stopped = ["alpha/fetch", "alpha/fetch/0", "alpha/fetch/1", "alpha/fetch/2"];
            assert_eq!(states(), stopped.map(named(PartState::Stopped)));
            let _pool = pool(&board, 1);
            let names: Vec<String> = states().into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["alpha/fetch", "alpha/fetch/0"]);
        });
    }
}
