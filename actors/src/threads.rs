//! Which thread an actor lives on.
//!
//! A coordinator, its drivers and its fetch and upload workers share one arbiter: they wait for others most of the
//! time. A transform worker has an arbiter of its own, because it computes, and an actor that computes starves its
//! neighbours. All arbiters stand on one shared multi-thread runtime, whose own threads drive the connections: a
//! connection does not die with an arbiter.

use std::sync::Arc;

use actix::{Arbiter, ArbiterHandle};

/// Where new threads come from.
#[derive(Clone, Debug)]
pub enum Threads {
    /// Everything on the present arbiter: for tests with a paused clock, which only one thread can share.
    Present,
    /// An arbiter for each, on this runtime.
    Own(Arc<tokio::runtime::Runtime>),
}

impl Threads {
    pub(crate) fn start(&self) -> Thread {
        match self {
            Threads::Present => Thread { handle: Arbiter::current(), arbiter: None },
            Threads::Own(runtime) => {
                let runtime = runtime.clone();
                let arbiter = Arbiter::with_tokio_rt(move || runtime);
                Thread { handle: arbiter.handle(), arbiter: Some(arbiter) }
            }
        }
    }
}

/// An arbiter and the right to end it. Dropped, it is told to stop and not waited for.
#[derive(Debug)]
pub(crate) struct Thread {
    handle: ArbiterHandle,
    arbiter: Option<Arbiter>,
}

impl Thread {
    pub(crate) fn handle(&self) -> &ArbiterHandle {
        &self.handle
    }

    /// Ends the thread and waits for it, away from the threads that run actors.
    pub(crate) async fn join(mut self) {
        if let Some(arbiter) = self.arbiter.take() {
            arbiter.stop();
            // A thread of its own to wait on: a task of the runtime would hold up the runtime's end as long as the
            // arbiter's thread hangs.
            let (ended, end) = tokio::sync::oneshot::channel::<()>();
            std::thread::spawn(move || {
                // One that panicked is as ended as one that did not.
                let _ = arbiter.join();
                drop(ended);
            });
            let _ = end.await;
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(arbiter) = &self.arbiter {
            arbiter.stop();
        }
    }
}
