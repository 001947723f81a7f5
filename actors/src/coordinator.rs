//! A coordinator: the owner of one domain's work.
//!
//! ```text
//!            wake ──▶ claim ──▶ a driver per job ──▶ record          tick: renew leases, look for stuck jobs
//! Coordinator<D>
//! ├── Pool<D::Fetch>       on this arbiter
//! ├── Pool<D::Transform>   an arbiter each
//! └── Pool<D::Upload>      on this arbiter
//! ```
//!
//! Invariants: it claims only what its fetch pool can take, and nothing while a breaker of its domain is open. A
//! worker that dies is started again after a backoff; when that intensity is used up the coordinator itself ends and
//! leaves the rest to the supervisor. When it ends its drivers and workers end with it, and its jobs are rescued by
//! the next incarnation before that claims anything.

mod claims;
mod jobs;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, SpawnHandle,
    WrapFuture,
};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::backoff::chance;
use crate::coordinator::claims::Claiming;
use crate::coordinator::jobs::RunningJob;
use crate::domain::Domain;
use crate::driver::Driver;
use crate::events::Event;
use crate::job::{JobId, Lease, Name, Outcome};
use crate::ledger::{LedgerError, Wake};
use crate::pool::{Pool, PoolThreads, Watcher, WorkerExit};
use crate::restart::{Decision, Restarts};
use crate::runtime::Runtime;
use crate::settings::DomainSettings;
use crate::stage::StageName;
use crate::status::{Part, PartKind, PartState};
use crate::watch::ExitGuard;

/// Between tries to reach a ledger that is out of reach.
const LEDGER_WAIT: Duration = Duration::from_secs(1);

/// How long an ending coordinator waits for jobs that are over and being recorded.
const RECORD_END: Duration = Duration::from_secs(2);

pub(crate) struct Coordinator<D: Domain> {
    domain: Arc<D>,
    name: Name,
    /// Process and incarnation, as the ledger knows it.
    owner: Arc<str>,
    runtime: Runtime,
    settings: watch::Receiver<DomainSettings>,
    part: Arc<Part>,
    /// Jobs in flight, for whoever waits for the drain.
    in_flight: watch::Sender<usize>,
    wake: Wake,
    running: HashMap<JobId, RunningJob>,
    claiming: Claiming,
    /// Who waits for the claim that was under way when the end came.
    last_claim: Option<oneshot::Sender<Vec<Lease>>>,
    restarts: Restarts,
    /// The next tick, and the lease it was reckoned by.
    tick: Option<(Duration, SpawnHandle)>,
    /// `Some` from start to stop.
    parts: Option<Parts<D>>,
    guard: ExitGuard,
}

/// What is started and stopped with the coordinator.
struct Parts<D: Domain> {
    driver: Rc<Driver<D>>,
    fetch: Pool<D::Fetch>,
    transform: Pool<D::Transform>,
    upload: Pool<D::Upload>,
}

/// What a coordinator is made from; every incarnation from the same.
pub(crate) struct Seed<D: Domain> {
    pub(crate) domain: Arc<D>,
    pub(crate) owner: Arc<str>,
    pub(crate) runtime: Runtime,
    pub(crate) settings: watch::Receiver<DomainSettings>,
    pub(crate) in_flight: watch::Sender<usize>,
    pub(crate) guard: ExitGuard,
}

impl<D: Domain> Coordinator<D> {
    pub(crate) fn new(seed: Seed<D>) -> Self {
        let Seed { domain, owner, runtime, settings, in_flight, guard } = seed;
        let name: Name = domain.name().into();
        let part = runtime.board.part(&name, PartKind::Coordinator);
        let wake = runtime.ledger.wake(&name);
        in_flight.send_replace(0);
        Self {
            domain,
            name,
            owner,
            runtime,
            settings,
            part,
            in_flight,
            wake,
            running: HashMap::new(),
            claiming: Claiming::NotYet,
            last_claim: None,
            restarts: Restarts::default(),
            tick: None,
            parts: None,
            guard,
        }
    }

    fn start_parts(&mut self, ctx: &mut Context<Self>) {
        let address = ctx.address();
        // Runs in a `Drop`, perhaps while unwinding: one message, once a worker's life.
        let watcher: Watcher = Arc::new(move |exit| address.do_send(exit));
        let pools = self.settings.borrow().pools;
        let board = &self.runtime.board;
        let (name, domain) = (&*self.name, &self.domain);
        let shared = || PoolThreads::Shared;
        let own = PoolThreads::OneEach(self.runtime.threads.clone());
        let fetch = Pool::start(name, StageName::Fetch, domain.fetch(), pools.fetch, shared(), board, watcher.clone());
        let transform =
            Pool::start(name, StageName::Transform, domain.transform(), pools.transform, own, board, watcher.clone());
        let upload = Pool::start(name, StageName::Upload, domain.upload(), pools.upload, shared(), board, watcher);
        let driver = Rc::new(Driver {
            domain: domain.clone(),
            fetch: fetch.mailbox(),
            transform: transform.mailbox(),
            upload: upload.mailbox(),
            ledger: self.runtime.ledger.clone(),
            clock: self.runtime.clock.clone(),
            board: board.clone(),
            events: self.runtime.events.clone(),
            phases: self.runtime.phases.clone(),
        });
        self.parts = Some(Parts { driver, fetch, transform, upload });
    }

    fn ledger_is_away(&self, error: &LedgerError) {
        tracing::warn!(domain = &*self.name, reason = %error, "reach the ledger");
        self.part.set(PartState::Waiting);
        self.part.say(error.to_string());
    }

    /// Takes changed settings: pools now, everything else at its next use.
    fn settings_changed(&mut self, ctx: &mut Context<Self>) {
        let settings = self.settings.borrow_and_update().clone();
        let capacity = settings.jobs_room() as u64;
        self.part.capacity.store(capacity, Ordering::Relaxed);
        if let Some(Parts { driver: _, fetch, transform, upload }) = &mut self.parts {
            let pools = settings.pools;
            let changed = [
                (StageName::Fetch, fetch.resize(pools.fetch)),
                (StageName::Transform, transform.resize(pools.transform)),
                (StageName::Upload, upload.resize(pools.upload)),
            ];
            for (stage, _) in changed.into_iter().filter(|(_, changed)| *changed) {
                let size = pools.of(stage);
                let pool = format!("{}/{stage}", self.name);
                self.runtime.events.tell(|| Event::Resized { pool, actors: size.actors, mailbox: size.mailbox });
            }
        }
        if self.tick.is_some_and(|(lease, _)| lease != settings.lease) {
            // By the old lease's pace the next renewal may come after a shorter one has lapsed.
            self.tick_later(ctx);
        }
        self.claim(ctx);
    }

    /// Starts a dead worker again, later, or ends with it.
    fn worker_down(&mut self, exit: WorkerExit, ctx: &mut Context<Self>) {
        let Some((child, decision)) = self.worker_died(&exit) else { return };
        let policy = self.settings.borrow().restart;
        let reason = &exit.exit.reason;
        match decision {
            Decision::Restart { after, count } => {
                self.runtime.tell_restart(&child, reason, count, &policy, after);
                ctx.run_later(after, move |this, _| {
                    let Some(Parts { driver: _, fetch, transform, upload }) = &mut this.parts else { return };
                    match exit.stage {
                        StageName::Fetch => fetch.restart(exit.slot, exit.generation),
                        StageName::Transform => transform.restart(exit.slot, exit.generation),
                        StageName::Upload => upload.restart(exit.slot, exit.generation),
                    }
                });
            }
            Decision::GiveUp { count } => {
                self.guard.because(format!("{child} used up its {count} restarts, the last time by {reason}"));
                ctx.stop();
            }
        }
    }

    /// Whether the dead worker is started again, counted for itself and for the coordinator as a whole.
    fn worker_died(&mut self, exit: &WorkerExit) -> Option<(String, Decision)> {
        let policy = self.settings.borrow().restart;
        let Parts { driver: _, fetch, transform, upload } = self.parts.as_mut()?;
        let own = match exit.stage {
            StageName::Fetch => fetch.died(exit, &policy),
            StageName::Transform => transform.died(exit, &policy),
            StageName::Upload => upload.died(exit, &policy),
        }?;
        let child = format!("{}/{}/{}", self.name, exit.stage, exit.slot);
        let all = self.restarts.died(&policy.of_parent(), Instant::now(), chance());
        Some(match (own, all) {
            (Decision::Restart { .. }, Decision::Restart { .. }) | (Decision::GiveUp { .. }, _) => (child, own),
            (Decision::Restart { .. }, Decision::GiveUp { .. }) => (format!("{}/*", self.name), all),
        })
    }
}

impl<D: Domain> Actor for Coordinator<D> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.part.capacity.store(self.settings.borrow().jobs_room() as u64, Ordering::Relaxed);
        self.start_parts(ctx);
        self.rescue(ctx);

        self.listen(ctx);
        self.tick_later(ctx);
    }
}

/// Nobody works on its jobs any more, and that is told. Perhaps while unwinding: it only moves values and sends.
impl<D: Domain> Drop for Coordinator<D> {
    fn drop(&mut self) {
        for (id, running) in &self.running {
            self.runtime.board.job_ended(running.lease);
            if !running.is_recording() {
                self.tell_let_go(*id, running, jobs::REVOKED, Some("its coordinator is gone".to_owned()));
            }
        }
    }
}

/// Something outside changed; carries no data.
#[derive(Message)]
#[rtype(result = "()")]
enum Heard {
    Work,
    Revoked,
    Settings,
}

impl<D: Domain> Coordinator<D> {
    fn listen(&self, ctx: &mut Context<Self>) {
        let (address, wake) = (ctx.address(), self.wake.clone());
        let work = async move {
            loop {
                wake.work().await;
                if address.send(Heard::Work).await.is_err() {
                    return;
                }
            }
        };
        let (address, wake) = (ctx.address(), self.wake.clone());
        let revoked = async move {
            loop {
                wake.revoked().await;
                if address.send(Heard::Revoked).await.is_err() {
                    return;
                }
            }
        };
        let (address, mut settings) = (ctx.address(), self.settings.clone());
        let changed = async move {
            while settings.changed().await.is_ok() {
                if address.send(Heard::Settings).await.is_err() {
                    return;
                }
            }
        };
        for breaker in self.domain.breakers() {
            let address = ctx.address();
            let changes = async move {
                let mut state = breaker.state();
                loop {
                    state = breaker.left(state).await;
                    if address.send(Heard::Work).await.is_err() {
                        return;
                    }
                }
            };
            ctx.spawn(changes.into_actor(self));
        }
        ctx.spawn(work.into_actor(self));
        ctx.spawn(revoked.into_actor(self));
        ctx.spawn(changed.into_actor(self));
    }
}

impl<D: Domain> Handler<Heard> for Coordinator<D> {
    type Result = ();

    fn handle(&mut self, heard: Heard, ctx: &mut Context<Self>) {
        match heard {
            Heard::Work => self.claim(ctx),
            Heard::Revoked => self.renew(ctx),
            Heard::Settings => self.settings_changed(ctx),
        }
    }
}

/// A driver has recorded its job.
#[derive(Message)]
#[rtype(result = "()")]
struct JobEnded {
    job: JobId,
    lease: Lease,
}

impl<D: Domain> Handler<JobEnded> for Coordinator<D> {
    type Result = ();

    fn handle(&mut self, ended: JobEnded, ctx: &mut Context<Self>) {
        // A job given back may run again, under another lease, before its last end is heard.
        if self.running.get(&ended.job).is_some_and(|running| running.lease == ended.lease) {
            self.running.remove(&ended.job);
        }
        self.count_in_flight();
        self.claim(ctx);
    }
}

impl Message for WorkerExit {
    type Result = ();
}

impl<D: Domain> Handler<WorkerExit> for Coordinator<D> {
    type Result = ();

    fn handle(&mut self, exit: WorkerExit, ctx: &mut Context<Self>) {
        self.worker_down(exit, ctx);
    }
}

/// Ends the coordinator: its jobs are given back, its workers and threads ended. Answered when that is done.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl<D: Domain> Handler<Stop> for Coordinator<D> {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> Self::Result {
        let last_claim = self.stop_claiming();
        let jobs = self.running.iter().filter(|(_, running)| !running.is_recording()).map(|(id, _)| *id);
        let leases: Vec<Lease> = jobs
            .collect::<Vec<JobId>>()
            .into_iter()
            .filter_map(|job| self.let_go(job, Outcome::Interrupted.as_str(), None))
            .map(|job| job.lease)
            .collect();
        self.part.set(PartState::Draining);
        let parts = self.parts.take();
        let name = self.name.clone();
        let mut recorded = self.in_flight.subscribe();
        let end = async move {
            let Some(Parts { driver, fetch, transform, upload }) = parts else { return };
            // The lease is not lengthened any more; should this be cut off, boot recovery does the same.
            let give_back = async |leases: Vec<Lease>| {
                if !leases.is_empty() {
                    tracing::info!(domain = &*name, jobs = leases.len(), "give interrupted jobs back");
                }
                let record = |lease| driver.record(lease, Outcome::Interrupted, None, Duration::ZERO);
                // What could not be written is logged, and rescued later.
                let _ = futures::future::join_all(leases.into_iter().map(record)).await;
            };
            let give_back_last = async {
                if let Some(last_claim) = last_claim {
                    give_back(last_claim.await.unwrap_or_default()).await;
                }
            };
            let recorded = tokio::time::timeout(RECORD_END, recorded.wait_for(|in_flight| *in_flight == 0));
            let (_, _, _) = futures::join!(give_back(leases), give_back_last, async { recorded.await.is_ok() });
            futures::join!(fetch.stop(), transform.stop(), upload.stop());
        };
        Box::pin(end.into_actor(self).map(|(), this, ctx| {
            this.part.set(PartState::Stopped);
            ctx.stop();
        }))
    }
}
