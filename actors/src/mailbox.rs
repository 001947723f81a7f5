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
//! permits, those hold fetch's, and fetching stops: pages in memory never exceed the capacities' sum.
//!
//! Invariants: work in hand or in the queue holds exactly one permit. A worker that dies loses the one piece in its
//! hands, whose caller is told; the queue is not its own and stays. A caller that gives up is noticed by the worker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
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
}

/// An answer, and the room it still takes up in the pool that gave it.
pub(crate) struct Answer<T> {
    pub(crate) output: T,
    pub(crate) room: Room,
}

/// One place in a mailbox; dropping it frees the place.
pub(crate) struct Room {
    _permit: OwnedSemaphorePermit,
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
    permits: Arc<Semaphore>,
    capacity: AtomicUsize,
    queue: Mutex<VecDeque<Work<S>>>,
    arrived: Notify,
    closed: CancellationToken,
    part: Arc<Part>,
}

impl<S: Stage> Mailbox<S> {
    pub(crate) fn new(capacity: usize, part: Arc<Part>) -> Self {
        part.capacity.store(capacity as u64, Ordering::Relaxed);
        Self {
            shared: Arc::new(Shared {
                permits: Arc::new(Semaphore::new(capacity)),
                capacity: AtomicUsize::new(capacity),
                queue: Mutex::default(),
                arrived: Notify::new(),
                closed: CancellationToken::new(),
                part,
            }),
        }
    }

    /// Waits for room, in order, gives up `held` (the room in the stage before), and waits for the answer.
    pub(crate) async fn ask(
        &self,
        job: JobId,
        input: Arc<S::Input>,
        held: Option<Room>,
    ) -> Result<Answer<S::Output>, Failure> {
        let cancelled = || Failure::Fault(Fault::Cancelled);
        let permit = self.shared.permits.clone().acquire_owned().await.map_err(|_| cancelled())?;
        drop(held);
        let (sender, receiver) = oneshot::channel();
        let reply = Reply { sender: Some(sender), room: Some(Room { _permit: permit }) };
        self.push(Work { job, input, reply, span: tracing::Span::current() });
        receiver.await.map_err(|_| cancelled())?
    }

    fn push(&self, work: Work<S>) {
        self.shared.part.depth.fetch_add(1, Ordering::Relaxed);
        self.queue().push_back(work);
        self.shared.arrived.notify_one();
    }

    /// The next piece of work; `None` once the mailbox is closed.
    pub(crate) async fn pull(&self) -> Option<Work<S>> {
        loop {
            if self.shared.closed.is_cancelled() {
                return None;
            }
            let (work, more) = {
                let mut queue = self.queue();
                (queue.pop_front(), !queue.is_empty())
            };
            if more {
                // Two arrivals while nobody waited leave one notification: pass it on.
                self.shared.arrived.notify_one();
            }
            if let Some(work) = work {
                self.shared.part.depth.fetch_sub(1, Ordering::Relaxed);
                return Some(work);
            }
            tokio::select! {
                () = self.shared.arrived.notified() => {}
                () = self.shared.closed.cancelled() => return None,
            }
        }
    }

    /// Changes the capacity. More is there at once; less takes effect as places are freed, and nothing is dropped.
    pub(crate) fn resize(&self, capacity: usize) {
        let before = self.shared.capacity.swap(capacity, Ordering::Relaxed);
        self.shared.part.capacity.store(capacity as u64, Ordering::Relaxed);
        if capacity >= before {
            self.shared.permits.add_permits(capacity - before);
            return;
        }
        let surplus = before - capacity;
        let left = surplus - self.shared.permits.forget_permits(surplus);
        let permits = self.shared.permits.clone();
        if left > 0 {
            // Bounded by the old capacity; ends when that many places were freed or the mailbox closes.
            actix::spawn(async move {
                for _ in 0..left {
                    match permits.acquire().await {
                        Ok(permit) => permit.forget(),
                        Err(_closed) => return,
                    }
                }
            });
        }
    }

    /// Ends the mailbox: what waits or is in hand is answered with `Cancelled`, and the workers end.
    pub(crate) fn close(&self) {
        self.shared.closed.cancel();
        self.shared.permits.close();
        self.shared.part.depth.store(0, Ordering::Relaxed);
        let dropped = std::mem::take(&mut *self.queue());
        drop(dropped);
    }

    pub(crate) async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.shared.permits.available_permits()
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Work<S>>> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of work on its way to a worker or in its hands.
pub(crate) struct Work<S: Stage> {
    pub(crate) job: JobId,
    pub(crate) input: Arc<S::Input>,
    pub(crate) reply: Reply<S::Output>,
    /// The caller's span: what the stage logs belongs to the job.
    pub(crate) span: tracing::Span,
}

/// The way back to the caller, with the room the work takes up.
pub(crate) struct Reply<T> {
    sender: Option<oneshot::Sender<Result<Answer<T>, Failure>>>,
    room: Option<Room>,
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
            let _ = sender.send(Err(Failure::Crashed(watch::last_panic())));
        }
    }
}
