//! The bounded mailbox of a pool: callers wait for room in order, workers pull.
//!
//! actix bounds no mailbox that is written through `send` or through a fresh clone of an address, so the bound is
//! ours: a piece of work carries a permit, and there are `actors × mailbox` permits.
//!
//! ```text
//! driver ── ask ──▶ [permit] ──▶ queue ──pull──▶ worker ──▶ answer + the permit, back to the driver
//! ```
//!
//! The driver keeps the permit of one stage until it has that of the next. So a slow upload holds transform's
//! permits, those hold fetch's, and fetching stops: pages in memory do not exceed the capacities' sum. Only a page that
//! waits to be tried again stands outside of it, since it must not block the others: of those there are at most
//! `jobs_max × pages_max`.
//!
//! Invariants: work in hand or in the queue holds exactly one permit. A worker that dies loses what is in its hands,
//! one piece or a group of one job, and the callers are told; the queue is not its own and stays. A caller that gives
//! up is noticed by the worker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::job::{Fault, JobId};
use crate::stage::Stage;
use crate::status::Part;
use crate::watch;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Fault(Fault),
    /// The worker died over this piece of work; the text says of what.
    Crashed(String),
    /// Nothing came of doing it together with others: it is to be asked for again, alone.
    Alone,
}

/// An answer, and the room it still takes up in the pool that gave it.
pub(crate) struct Answer<T> {
    pub(crate) output: T,
    pub(crate) room: Room,
}

/// One place in a mailbox; dropping it frees the place.
pub(crate) struct Room {
    /// Taken by `Drop`.
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.places.part.depth.fetch_sub(1, Ordering::Relaxed);
        if let Some(permit) = self.permit.take()
            && self.places.pay()
        {
            permit.forget();
        }
    }
}

/// The places of one mailbox. Permits, taken or free, are `capacity + debt`.
struct Places {
    permits: Arc<Semaphore>,
    capacity: AtomicUsize,
    /// Places that a shrinking mailbox has to take away as soon as they are freed.
    debt: AtomicUsize,
    part: Arc<Part>,
}

impl Places {
    fn new(capacity: usize, part: Arc<Part>) -> Self {
        let capacity = capacity.min(Semaphore::MAX_PERMITS);
        part.capacity.store(capacity as u64, Ordering::Relaxed);
        let permits = Arc::new(Semaphore::new(capacity));
        Self { permits, capacity: AtomicUsize::new(capacity), debt: AtomicUsize::new(0), part }
    }

    /// Waits for a place, in order; `None` once the mailbox is closed.
    async fn take(self: &Arc<Self>) -> Option<Room> {
        let permit = self.permits.clone().acquire_owned().await.ok()?;
        self.part.depth.fetch_add(1, Ordering::Relaxed);
        Some(Room { permit: Some(permit), places: self.clone() })
    }

    /// More is there at once; less takes effect as places are freed.
    fn resize(&self, capacity: usize) {
        let capacity = capacity.min(Semaphore::MAX_PERMITS);
        let before = self.capacity.swap(capacity, Ordering::Relaxed);
        self.part.capacity.store(capacity as u64, Ordering::Relaxed);
        if let Some(growth) = capacity.checked_sub(before) {
            let mut kept = 0;
            let keep = |debt: usize| {
                kept = debt.min(growth);
                Some(debt - kept)
            };
            // It never fails: the closure always answers.
            let _ = self.debt.fetch_update(Ordering::AcqRel, Ordering::Acquire, keep);
            self.permits.add_permits(growth - kept);
        } else {
            let surplus = before - capacity;
            let forgotten = self.permits.forget_permits(surplus);
            self.debt.fetch_add(surplus - forgotten, Ordering::AcqRel);
        }
    }

    /// Whether a freed place is to vanish.
    fn pay(&self) -> bool {
        self.debt.fetch_update(Ordering::AcqRel, Ordering::Acquire, |debt| debt.checked_sub(1)).is_ok()
    }
}

/// The handle of one pool's mailbox.
pub(crate) struct Mailbox<S: Stage> {
    shared: Arc<Shared<S>>,
}

impl<S: Stage> Clone for Mailbox<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<S: Stage> {
    places: Arc<Places>,
    queue: Mutex<VecDeque<Work<S>>>,
    arrived: Notify,
    closed: CancellationToken,
    /// Workers whose stage is open.
    open: AtomicUsize,
}

impl<S: Stage> Mailbox<S> {
    pub(crate) fn new(capacity: usize, part: Arc<Part>) -> Self {
        Self {
            shared: Arc::new(Shared {
                places: Arc::new(Places::new(capacity, part)),
                queue: Mutex::default(),
                arrived: Notify::new(),
                closed: CancellationToken::new(),
                open: AtomicUsize::new(0),
            }),
        }
    }

    /// Waits for room, in order, gives up `held` (the room in the stage before), and waits for the answer. `alone`: it
    /// is not to be done together with other pieces.
    pub(crate) async fn ask(
        &self,
        job: JobId,
        input: Arc<S::Input>,
        held: Option<Room>,
        alone: bool,
    ) -> Result<Answer<S::Output>, Failure> {
        let cancelled = || Failure::Fault(Fault::Cancelled);
        let room = self.shared.places.take().await.ok_or_else(cancelled)?;
        drop(held);
        let (sender, receiver) = oneshot::channel();
        let asked = Arc::new(Asked::default());
        let _caller = Caller(asked.clone());
        let reply = Reply { sender: Some(sender), room: Some(room), follows: false };
        self.push(Work { job, input, alone, reply, asked, span: tracing::Span::current() });
        receiver.await.map_err(|_| cancelled())?
    }

    fn push(&self, work: Work<S>) {
        let mut queue = self.queue();
        // Looked at under the lock under which `close` empties the queue: nothing is left behind in a closed mailbox.
        if self.shared.closed.is_cancelled() {
            drop(queue);
            drop(work);
            return;
        }
        queue.push_back(work);
        drop(queue);
        self.shared.arrived.notify_one();
    }

    /// The next piece of work, and with it those of the same job that stand behind it and that the stage lets join.
    /// Never empty; `None` once the mailbox is closed.
    pub(crate) async fn pull(&self, stage: &S) -> Option<Vec<Work<S>>> {
        loop {
            if self.shared.closed.is_cancelled() {
                return None;
            }
            let (group, more) = {
                let mut queue = self.queue();
                (next_group(&mut queue, stage), !queue.is_empty())
            };
            if more {
                // Two arrivals while nobody waited leave one notification: pass it on.
                self.shared.arrived.notify_one();
            }
            if !group.is_empty() {
                return Some(group);
            }
            tokio::select! {
                () = self.shared.arrived.notified() => {}
                () = self.shared.closed.cancelled() => return None,
            }
        }
    }

    /// Changes the capacity. More is there at once; less takes effect as places are freed, and nothing is dropped.
    pub(crate) fn resize(&self, capacity: usize) {
        self.shared.places.resize(capacity);
    }

    /// Ends the mailbox: what waits or is in hand is answered with `Cancelled`, and the workers end.
    pub(crate) fn close(&self) {
        self.shared.closed.cancel();
        self.shared.places.permits.close();
        let dropped = std::mem::take(&mut *self.queue());
        drop(dropped);
    }

    pub(crate) async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    /// Says that a worker's stage is open, until the answer is dropped.
    pub(crate) fn stage_is_open(&self) -> OpenStage<S> {
        self.shared.open.fetch_add(1, Ordering::AcqRel);
        OpenStage { mailbox: self.clone() }
    }

    /// A worker could not open its stage. If no other worker has one open, all that waits is answered with this:
    /// an outage must not burn the attempts of jobs that would wait into their timeout.
    pub(crate) fn refuse(&self, fault: &Fault) {
        if self.shared.open.load(Ordering::Acquire) > 0 {
            return;
        }
        let fault = match fault {
            Fault::Unavailable { .. } => fault.clone(),
            Fault::Retry { .. } | Fault::Reject { .. } | Fault::Fail { .. } | Fault::Cancelled => {
                Fault::unavailable(self.part().name(), fault.to_string())
            }
        };
        let refused = std::mem::take(&mut *self.queue());
        for work in refused {
            work.reply.send(Err(fault.clone()));
        }
    }

    /// Of the pool.
    pub(crate) fn part(&self) -> &Part {
        &self.shared.places.part
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Work<S>>> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next_group<S: Stage>(queue: &mut VecDeque<Work<S>>, stage: &S) -> Vec<Work<S>> {
    let Some(first) = queue.front() else { return Vec::new() };
    let mut inputs = vec![first.input.clone()];
    for next in queue.iter().skip(1) {
        if first.alone || next.alone || next.job != first.job || !stage.joins(&inputs, &next.input) {
            break;
        }
        inputs.push(next.input.clone());
    }
    queue.drain(..inputs.len()).collect()
}

/// A worker's stage is open as long as this lives.
pub(crate) struct OpenStage<S: Stage> {
    mailbox: Mailbox<S>,
}

impl<S: Stage> Drop for OpenStage<S> {
    fn drop(&mut self) {
        self.mailbox.shared.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What worker and pool know of the caller.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    gave_up: OnceLock<Instant>,
}

impl Asked {
    /// Since when nobody waits for the answer any more.
    pub(crate) fn given_up_at(&self) -> Option<Instant> {
        self.gave_up.get().copied()
    }
}

/// The caller's side, dropped with it.
struct Caller(Arc<Asked>);

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.0.gave_up.set(Instant::now());
    }
}

/// A piece of work on its way to a worker or in its hands.
pub(crate) struct Work<S: Stage> {
    pub(crate) job: JobId,
    pub(crate) input: Arc<S::Input>,
    alone: bool,
    pub(crate) reply: Reply<S::Output>,
    pub(crate) asked: Arc<Asked>,
    /// The caller's span: what the stage logs belongs to the job.
    pub(crate) span: tracing::Span,
}

/// The way back to the caller, with the room the work takes up.
pub(crate) struct Reply<T> {
    sender: Option<oneshot::Sender<Result<Answer<T>, Failure>>>,
    room: Option<Room>,
    /// Another one of its group tells of a crash, which counts once.
    follows: bool,
}

impl<T> Reply<T> {
    pub(crate) fn send(mut self, result: Result<T, Fault>) {
        let (Some(sender), Some(room)) = (self.sender.take(), self.room.take()) else { return };
        // The caller may have given up; then the answer and the room are dropped here.
        let _ = sender.send(match result {
            Ok(output) => Ok(Answer { output, room }),
            Err(fault) => Err(Failure::Fault(fault)),
        });
    }

    /// It is done together with another one.
    pub(crate) fn follow(&mut self) {
        self.follows = true;
    }

    /// Nothing came of the group.
    pub(crate) fn send_apart(mut self) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.send(Err(Failure::Alone));
        }
    }

    /// Completes when the caller has given up.
    pub(crate) async fn given_up(&mut self) {
        match &mut self.sender {
            Some(sender) => sender.closed().await,
            None => std::future::pending().await,
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        // Only while the worker's task unwinds. Otherwise the closed channel says enough.
        if let Some(sender) = self.sender.take()
            && std::thread::panicking()
        {
            let crashed = if self.follows { Failure::Alone } else { Failure::Crashed(watch::last_panic()) };
            let _ = sender.send(Err(crashed));
        }
    }
}
