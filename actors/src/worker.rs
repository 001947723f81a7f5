//! A worker: one actor that hosts one stage and does one piece of work at a time.
//!
//! ```text
//! started ─▶ open ─▶ pull ─▶ run ─▶ answer ─┐      a panic anywhere ends the actor; its guard tells
//!              ▲       ▲────────────────────┘
//!              └── caller gave up, or the stage said Unavailable: open anew
//! ```
//!
//! It decides nothing: retries, restarts and poison are the coordinator's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::backoff::{Backoff, chance};
use crate::job::Fault;
use crate::mailbox::Mailbox;
use crate::stage::Stage;
use crate::status::{Part, PartState};
use crate::watch::{self, ExitGuard};

/// Between tries to open a stage whose dependency is down.
const OPEN_BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(200), Duration::from_secs(15));

pub(crate) struct Worker<S: Stage> {
    pub(crate) settings: S::Settings,
    pub(crate) mailbox: Mailbox<S>,
    pub(crate) part: Arc<Part>,
    /// Told to finish what it has in hand and end.
    pub(crate) retire: CancellationToken,
    /// Last, so that it tells after everything else is dropped.
    pub(crate) guard: ExitGuard,
}

impl<S: Stage> Actor for Worker<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        watch::supervise_this_thread();
        let work = work(self.settings.clone(), self.mailbox.clone(), self.part.clone(), self.retire.clone());
        ctx.spawn(work.into_actor(self).map(|(), worker, ctx| {
            worker.guard.because("retired");
            ctx.stop();
        }));
    }
}

/// The worker's life: ends when it is retired or its mailbox closes.
async fn work<S: Stage>(settings: S::Settings, mailbox: Mailbox<S>, part: Arc<Part>, retire: CancellationToken) {
    while let Some(stage) = open::<S>(&settings, &mailbox, &part, &retire).await {
        if let Next::End = serve(stage, &mailbox, &part, &retire).await {
            break;
        }
    }
    part.set_job(None);
    part.set(PartState::Stopped);
}

enum Next {
    OpenAnew,
    End,
}

/// Opens the stage, however long what it needs is down. `None`: the worker is to end.
async fn open<S: Stage>(
    settings: &S::Settings,
    mailbox: &Mailbox<S>,
    part: &Part,
    retire: &CancellationToken,
) -> Option<S> {
    let mut tries = 0;
    loop {
        let opened = tokio::select! {
            biased;
            () = retire.cancelled() => return None,
            () = mailbox.closed() => return None,
            opened = S::open(settings) => opened,
        };
        let fault = match opened {
            Ok(stage) => return Some(stage),
            Err(fault) => fault,
        };
        tries += 1;
        let wait = OPEN_BACKOFF.after(tries, chance());
        tracing::warn!(actor = part.name(), reason = %fault, wait = ?wait, "open stage");
        part.set(PartState::Waiting);
        part.say(fault.to_string());
        tokio::select! {
            () = retire.cancelled() => return None,
            () = mailbox.closed() => return None,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn serve<S: Stage>(mut stage: S, mailbox: &Mailbox<S>, part: &Part, retire: &CancellationToken) -> Next {
    loop {
        part.set(PartState::Idle);
        let work = tokio::select! {
            biased;
            () = retire.cancelled() => return Next::End,
            work = mailbox.pull() => work,
        };
        let Some(mut work) = work else { return Next::End };
        part.set_job(Some(work.job));
        part.set(PartState::Busy);
        let span = tracing::info_span!(parent: &work.span, "stage", actor = part.name());
        let result = tokio::select! {
            result = stage.run(work.input).instrument(span) => Some(result),
            () = work.reply.given_up() => None,
            () = mailbox.closed() => return Next::End,
        };
        part.set_job(None);
        // A future dropped half-way may leave a connection in any state, and one that is down is no use.
        let Some(result) = result else { return Next::OpenAnew };
        let unavailable = matches!(result, Err(Fault::Unavailable { .. }));
        match &result {
            Ok(_) => part.done.fetch_add(1, Ordering::Relaxed),
            Err(fault) => {
                part.say(fault.to_string());
                part.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
        work.reply.send(result);
        if unavailable {
            return Next::OpenAnew;
        }
    }
}
