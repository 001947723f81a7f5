//! The supervisor: root of the tree.
//!
//! ```text
//! Supervisor ── starts its children in order, stops them in reverse
//! ├── services        one loop each
//! └── coordinators    one a domain
//! ```
//!
//! A child that dies is started again after a growing backoff. One that dies too often is *parked*: left alone for
//! its cool-down, loudly, while the others run on; an operator may un-park it before. What it had in hand is given back
//! at once.
//!
//! It does no work itself and holds no job: it decides ([`crate::restart`]), starts, stops, and says so.

mod tree;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, SpawnHandle, WrapFuture,
};
use futures::FutureExt;
use futures::future::{LocalBoxFuture, Shared};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::chance;
use crate::child::{Child, RunningChild};
use crate::events::Event;
use crate::restart::{Decision, Restarts};
use crate::runtime::Runtime;
use crate::shutdown::{self, Deadline, Ending};
use crate::status::{Part, PartState};
use crate::watch::{Exit, ExitGuard};

pub use tree::{Tree, TreeError};

/// How long an operator's word waits for a child to end before that is left behind.
const CHILD_END: Duration = Duration::from_secs(30);

pub(crate) struct Supervisor {
    runtime: Runtime,
    children: Vec<Slot>,
    part: Arc<Part>,
    /// The end, once it has begun.
    ending: Option<(watch::Sender<Deadline>, Shared<LocalBoxFuture<'static, Ending>>)>,
}

struct Slot {
    child: Box<dyn Child>,
    running: Option<Box<dyn RunningChild>>,
    /// Grows with every start and every word to stop, so that what an earlier one says late is told apart.
    generation: u64,
    restarts: Restarts,
    part: Arc<Part>,
    /// The start that is to come, after a backoff or a cool-down.
    timer: Option<SpawnHandle>,
    /// The end that an operator asked for; the next start, and the service's end, wait for it.
    stopped: Option<Shared<LocalBoxFuture<'static, ()>>>,
}

/// A child that ends already, for the service's end to wait for.
struct Leaving(Shared<LocalBoxFuture<'static, ()>>);

impl RunningChild for Leaving {
    fn drained(&self) -> LocalBoxFuture<'static, ()> {
        self.0.clone().boxed_local()
    }

    fn stop(self: Box<Self>) -> LocalBoxFuture<'static, ()> {
        self.0.boxed_local()
    }
}

impl Supervisor {
    fn start_child(&mut self, index: usize, ctx: &mut Context<Self>) {
        let Some(slot) = self.children.get_mut(index) else { return };
        if self.ending.is_some() || slot.running.is_some() {
            return;
        }
        slot.timer = None;
        slot.generation += 1;
        let generation = slot.generation;
        let address = ctx.address();
        let guard = ExitGuard::new(move |exit| address.do_send(ChildExit { index, generation, exit }));
        slot.part.set(PartState::Starting);
        slot.running = Some(slot.child.start(&self.runtime, guard));
    }

    fn park(&mut self, index: usize, reason: String, cool_down: Option<Duration>, ctx: &mut Context<Self>) {
        let Some(slot) = self.children.get_mut(index) else { return };
        let child = slot.child.name().to_owned();
        slot.part.set(PartState::Parked);
        slot.part.say(&reason);
        slot.part.set_next_wake(None);
        let given_back = slot.child.give_back(&self.runtime);
        match cool_down {
            Some(wait) => {
                tracing::error!(child, reason, cool_down = ?wait, "parked: its restarts are used up");
                let at = self.runtime.clock.now().plus(wait);
                slot.part.set_next_wake(Some(at));
                slot.timer = Some(ctx.run_later(wait, move |this, ctx| this.unpark(index, ctx)));
            }
            None => tracing::warn!(child, reason, "parked"),
        }
        let cool_down = cool_down.unwrap_or_default();
        self.runtime.events.tell(|| Event::Parked { child, reason, cool_down });
        ctx.spawn(given_back.into_actor(self));
    }

    fn unpark(&mut self, index: usize, ctx: &mut Context<Self>) {
        let Some(slot) = self.children.get_mut(index) else { return };
        if let Some(timer) = slot.timer.take() {
            ctx.cancel_future(timer);
        }
        slot.restarts.forgive();
        slot.part.set_next_wake(None);
        if slot.part.status().state == PartState::Parked {
            let child = slot.child.name().to_owned();
            tracing::info!(child, "un-parked");
            self.runtime.events.tell(|| Event::Unparked { child });
        }
        self.start_child(index, ctx);
    }

    /// Takes a running child out, so that its end is nobody's surprise.
    fn take(&mut self, index: usize, ctx: &mut Context<Self>) -> Option<Box<dyn RunningChild>> {
        let slot = self.children.get_mut(index)?;
        slot.generation += 1;
        if let Some(timer) = slot.timer.take() {
            ctx.cancel_future(timer);
        }
        slot.running.take()
    }

    /// Ends a child for an operator. Completes when it has ended, whoever asked first.
    fn stop_child(&mut self, index: usize, ctx: &mut Context<Self>) -> Shared<LocalBoxFuture<'static, ()>> {
        let running = self.take(index, ctx);
        let Some(slot) = self.children.get_mut(index) else { return std::future::ready(()).boxed_local().shared() };
        if let Some(running) = running {
            let name = slot.child.name().to_owned();
            let stop = async move {
                if tokio::time::timeout(CHILD_END, running.stop()).await.is_err() {
                    tracing::error!(child = %name, waited = ?CHILD_END, "did not end: left behind");
                }
            };
            slot.stopped = Some(stop.boxed_local().shared());
        }
        slot.stopped.clone().unwrap_or_else(|| std::future::ready(()).boxed_local().shared())
    }

    fn generation(&self, index: usize) -> Option<u64> {
        self.children.get(index).map(|slot| slot.generation)
    }

    fn find(&self, name: &str) -> Result<usize, TreeError> {
        let found = self.children.iter().position(|slot| slot.child.name() == name);
        found.ok_or_else(|| TreeError::Unknown { name: name.to_owned(), known: self.names() })
    }

    fn names(&self) -> Vec<String> {
        self.children.iter().map(|slot| slot.child.name().to_owned()).collect()
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.part.set(PartState::Busy);
        for index in 0..self.children.len() {
            self.start_child(index, ctx);
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct ChildExit {
    index: usize,
    generation: u64,
    exit: Exit,
}

impl Handler<ChildExit> for Supervisor {
    type Result = ();

    fn handle(&mut self, exited: ChildExit, ctx: &mut Context<Self>) {
        let ChildExit { index, generation, exit } = exited;
        let Some(slot) = self.children.get_mut(index) else { return };
        if self.ending.is_some() || slot.generation != generation {
            return;
        }
        slot.running = None;
        let policy = slot.child.restart_policy();
        match slot.restarts.died(&policy, Instant::now(), chance()) {
            Decision::Restart { after, count } => {
                slot.part.restarts.fetch_add(1, Ordering::Relaxed);
                slot.part.set(PartState::Restarting);
                slot.part.say(&exit.reason);
                let name = slot.child.name().to_owned();
                slot.timer = Some(ctx.run_later(after, move |this, ctx| this.start_child(index, ctx)));
                self.runtime.tell_restart(&name, &exit.reason, count, &policy, after);
            }
            Decision::GiveUp { .. } => {
                let cool_down = slot.child.cool_down();
                self.park(index, exit.reason, Some(cool_down), ctx);
            }
        }
    }
}

/// All that an operator can ask of the tree.
#[derive(Message)]
#[rtype(result = "Result<(), TreeError>")]
enum Command {
    /// Stops the child, giving its jobs back, and starts it with its past forgiven.
    Restart(String),
    /// Stops the child until it is un-parked.
    Park(String),
    Unpark(String),
}

impl Handler<Command> for Supervisor {
    type Result = ResponseActFuture<Self, Result<(), TreeError>>;

    fn handle(&mut self, command: Command, ctx: &mut Context<Self>) -> Self::Result {
        let (Command::Restart(name) | Command::Park(name) | Command::Unpark(name)) = &command;
        let found = if self.ending.is_some() { Err(TreeError::Stopped) } else { self.find(name) };
        let index = match found {
            Ok(index) => index,
            Err(error) => return Box::pin(std::future::ready(Err(error)).into_actor(self)),
        };
        let stopped = match &command {
            Command::Restart(_) | Command::Park(_) => self.stop_child(index, ctx),
            Command::Unpark(_) => {
                let stopped = self.children.get(index).and_then(|slot| slot.stopped.clone());
                stopped.unwrap_or_else(|| std::future::ready(()).boxed_local().shared())
            }
        };
        let word = self.generation(index);
        Box::pin(stopped.into_actor(self).map(move |(), this, ctx| {
            if this.ending.is_some() {
                return Err(TreeError::Stopped);
            }
            if this.generation(index) != word {
                // A later word has been given meanwhile, and that is the one that counts.
                return Ok(());
            }
            match command {
                Command::Restart(_) | Command::Unpark(_) => this.unpark(index, ctx),
                Command::Park(_) => this.park(index, "by an operator".to_owned(), None, ctx),
            }
            Ok(())
        }))
    }
}

/// Ends the tree; answered when everything has ended or the grace is over.
#[derive(Message)]
#[rtype(result = "Ending")]
struct Shutdown {
    grace: Duration,
}

impl Handler<Shutdown> for Supervisor {
    type Result = ResponseActFuture<Self, Ending>;

    fn handle(&mut self, shutdown: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        let deadline = Deadline::after(shutdown.grace);
        let end = match &self.ending {
            Some((sender, end)) => {
                sender.send_modify(|first| *first = first.no_later_than(deadline));
                end.clone()
            }
            None => self.end(deadline, ctx),
        };
        Box::pin(end.into_actor(self).map(|ending, this, _| {
            this.part.set(PartState::Stopped);
            ending
        }))
    }
}

impl Supervisor {
    fn end(&mut self, deadline: Deadline, ctx: &mut Context<Self>) -> Shared<LocalBoxFuture<'static, Ending>> {
        self.part.set(PartState::Draining);
        let mut children: Vec<(String, Box<dyn RunningChild>)> = Vec::new();
        for index in 0..self.children.len() {
            let running = self.take(index, ctx);
            let Some(slot) = self.children.get(index) else { continue };
            let leaving = || slot.stopped.clone().map(|stopped| Box::new(Leaving(stopped)) as Box<dyn RunningChild>);
            children.extend(running.or_else(leaving).map(|child| (slot.child.name().to_owned(), child)));
        }
        let (sender, receiver) = watch::channel(deadline);
        let Runtime { phases, events, .. } = self.runtime.clone();
        let end = shutdown::sequence(children, phases, events, receiver).boxed_local().shared();
        self.ending = Some((sender, end.clone()));
        end
    }
}
