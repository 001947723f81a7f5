//! A worker: one actor that hosts one stage and does one piece of work at a time, or one group of a job's.
//!
//! ```text
//! started ─▶ open ─▶ pull ─▶ run ─▶ answer ─┐      a panic anywhere ends the actor; its guard tells
//!              ▲       ▲────────────────────┘
//!              └── caller gave up, or the stage said Unavailable: open anew
//! ```
//!
//! A worker whose caller gave up opens its stage anew, at the next point where the stage waits. One that computes and
//! never waits cannot be cut off: its pool sees that by its [`Hand`] and leaves it behind with its thread.
//!
//! It decides nothing: retries, restarts and poison are the coordinator's.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::backoff::{Backoff, chance};
use crate::job::Fault;
use crate::mailbox::{Asked, Mailbox, Work};
use crate::stage::Stage;
use crate::status::{Part, PartState};
use crate::watch::{self, ExitGuard};

/// Between tries to open a stage whose dependency is down.
const OPEN_BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(200), Duration::from_secs(15));

/// An opening that takes longer hangs; it is dropped and tried again.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a worker has in hand, to be read from outside even while it computes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hand {
    asked: Arc<Mutex<Vec<Arc<Asked>>>>,
}

impl Hand {
    fn take(&self, asked: impl Iterator<Item = Arc<Asked>>) {
        self.asked().extend(asked);
    }

    fn lay_down(&self) {
        self.asked().clear();
    }

    /// Since when it works on something that nobody waits for any more.
    pub(crate) fn forsaken_at(&self) -> Option<Instant> {
        let asked = self.asked();
        let given_up: Option<Vec<Instant>> = asked.iter().map(|asked| asked.given_up_at()).collect();
        given_up?.into_iter().max()
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Arc<Asked>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Worker<S: Stage> {
    pub(crate) settings: S::Settings,
    pub(crate) mailbox: Mailbox<S>,
    pub(crate) part: Arc<Part>,
    pub(crate) hand: Hand,
    /// Told to finish what it has in hand and end.
    pub(crate) retire: CancellationToken,
    /// Last, so that it tells after everything else is dropped.
    pub(crate) guard: ExitGuard,
}

impl<S: Stage> Actor for Worker<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let life = Life {
            settings: self.settings.clone(),
            mailbox: self.mailbox.clone(),
            part: self.part.clone(),
            hand: self.hand.clone(),
            retire: self.retire.clone(),
        };
        let work = watch::supervised(async move { life.live().await });
        ctx.spawn(work.into_actor(self).map(|(), worker, ctx| {
            worker.guard.because("retired");
            ctx.stop();
        }));
    }
}

enum Next {
    OpenAnew,
    End,
}

/// What the worker's one task holds.
struct Life<S: Stage> {
    settings: S::Settings,
    mailbox: Mailbox<S>,
    part: Arc<Part>,
    hand: Hand,
    retire: CancellationToken,
}

impl<S: Stage> Life<S> {
    /// Ends when the worker is retired or its mailbox closes.
    async fn live(&self) {
        while let Some(stage) = self.open().await {
            if let Next::End = self.serve(stage).await {
                break;
            }
        }
        // A retired worker's place may be another's by now.
        if !self.retire.is_cancelled() {
            self.part.set_job(None);
            self.part.set(PartState::Stopped);
        }
    }

    /// Opens the stage, however long what it needs is down. `None`: the worker is to end.
    async fn open(&self) -> Option<S> {
        let mut tries = 0;
        loop {
            let opened = tokio::select! {
                biased;
                () = self.retire.cancelled() => return None,
                () = self.mailbox.closed() => return None,
                opened = tokio::time::timeout(OPEN_TIMEOUT, S::open(&self.settings)) => opened,
            };
            let fault = match opened {
                Ok(Ok(stage)) => return Some(stage),
                Ok(Err(fault)) => fault,
                Err(_elapsed) => {
                    let reason = format!("it did not open within {OPEN_TIMEOUT:?}");
                    Fault::unavailable(self.mailbox.part().name(), reason)
                }
            };
            tries += 1;
            let wait = OPEN_BACKOFF.after(tries, chance());
            tracing::warn!(actor = self.part.name(), reason = %fault, wait = ?wait, "open stage");
            self.part.set(PartState::Waiting);
            self.part.say(fault.to_string());
            self.mailbox.refuse(&fault);
            tokio::select! {
                () = self.retire.cancelled() => return None,
                () = self.mailbox.closed() => return None,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn serve(&self, mut stage: S) -> Next {
        let Self { settings: _, mailbox, part, hand, retire } = self;
        let _open = mailbox.stage_is_open();
        loop {
            part.set(PartState::Idle);
            let group = tokio::select! {
                biased;
                () = retire.cancelled() => return Next::End,
                group = mailbox.pull(&stage) => group,
            };
            let Some(mut group) = group else { return Next::End };
            // Their caller gave up while they queued: beginning would be for nobody, and cost the stage its connection.
            group.retain(|work| work.asked.given_up_at().is_none());
            let Some(first) = group.first() else { continue };
            part.set_job(Some(first.job));
            part.set(PartState::Busy);
            hand.take(group.iter().map(|work| work.asked.clone()));
            let span = tracing::info_span!(parent: &first.span, "stage", actor = part.name());
            group.iter_mut().skip(1).for_each(|work| work.reply.follow());
            let inputs = group.iter().map(|work| work.input.clone()).collect();
            let done = tokio::select! {
                done = run(&mut stage, inputs).instrument(span) => Some(done),
                () = all_given_up(&mut group) => None,
                () = mailbox.closed() => return Next::End,
            };
            hand.lay_down();
            part.set_job(None);
            // A future dropped half-way may leave a connection in any state, and one that is down is no use.
            let Some(done) = done else { return Next::OpenAnew };
            if self.answer(group, done) {
                return Next::OpenAnew;
            }
        }
    }

    /// Sends each its result; says whether something that the stage needs is down.
    fn answer(&self, group: Vec<Work<S>>, done: Option<Results<S>>) -> bool {
        let Some(results) = done else {
            group.into_iter().for_each(|work| work.reply.send_apart());
            return false;
        };
        let mut results = results.into_iter();
        let mut unavailable = false;
        for work in group {
            let result = results.next().unwrap_or_else(|| Err(Fault::fail("the stage has no result for this piece")));
            unavailable |= matches!(result, Err(Fault::Unavailable { .. }));
            self.count(&result);
            work.reply.send(result);
        }
        unavailable
    }

    /// For itself and for the pool.
    fn count(&self, result: &Result<S::Output, Fault>) {
        for part in [&*self.part, self.mailbox.part()] {
            match result {
                Ok(_) => part.done.fetch_add(1, Ordering::Relaxed),
                Err(fault) => {
                    part.say(fault.to_string());
                    part.failed.fetch_add(1, Ordering::Relaxed)
                }
            };
        }
    }
}

/// What a stage makes of a piece or a group of them.
type Results<S> = Vec<Result<<S as Stage>::Output, Fault>>;

async fn run<S: Stage>(stage: &mut S, mut inputs: Vec<Arc<S::Input>>) -> Option<Results<S>> {
    match inputs.len() {
        1 => Some(vec![stage.run(inputs.remove(0)).await]),
        _ => stage.run_group(inputs).await,
    }
}

/// Completes when nobody waits for any of it any more.
async fn all_given_up<S: Stage>(group: &mut [Work<S>]) {
    for work in group {
        work.reply.given_up().await;
    }
}
