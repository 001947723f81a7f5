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

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::Instrument;

use crate::backoff::chance;
use crate::breaker::BreakerState;
use crate::decide::{Ended, decide};
use crate::domain::Domain;
use crate::driver::{Driver, TryEnd};
use crate::events::Event;
use crate::job::{Job, JobId, Lease, Name, Outcome};
use crate::ledger::{Claim, LedgerError, Rescue, Wake};
use crate::pool::{Pool, PoolThreads, Watcher, WorkerExit};
use crate::restart::{Decision, Restarts};
use crate::runtime::Runtime;
use crate::settings::DomainSettings;
use crate::shutdown::Phase;
use crate::stage::StageName;
use crate::status::{Part, PartKind, PartState};
use crate::watch::{self as death, ExitGuard};

/// Between tries to reach a ledger that is out of reach.
const LEDGER_WAIT: Duration = Duration::from_secs(1);

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
    restarts: Restarts,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claiming {
    /// The jobs of the last incarnation are not given back yet.
    NotYet,
    No,
    Yes,
    /// Woken while claiming: claim once more.
    Again,
}

struct RunningJob {
    lease: Lease,
    kind: Name,
    since: Instant,
    task: AbortOnDrop,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
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
            restarts: Restarts::default(),
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

    /// Gives back what the last incarnation had in hand; only then may anything be claimed.
    fn rescue(&mut self, ctx: &mut Context<Self>) {
        let ledger = self.runtime.ledger.clone();
        let rescue = Rescue::Domain { domain: self.name.clone(), but: self.owner.clone() };
        let rescued = async move { ledger.rescue(rescue).await };
        ctx.spawn(rescued.into_actor(self).map(|rescued, this, ctx| match rescued {
            Ok(count) => {
                if count > 0 {
                    tracing::info!(domain = &*this.name, jobs = count, "rescued the jobs of the last incarnation");
                }
                this.claiming = Claiming::No;
                this.part.set(PartState::Idle);
                this.claim(ctx);
            }
            Err(error) => {
                this.ledger_is_away(&error);
                ctx.run_later(LEDGER_WAIT, |this, ctx| this.rescue(ctx));
            }
        }));
    }

    /// Claims as much as there is room for; called whenever there may be room or work.
    fn claim(&mut self, ctx: &mut Context<Self>) {
        match self.claiming {
            Claiming::No => {}
            Claiming::NotYet => return,
            Claiming::Yes | Claiming::Again => {
                self.claiming = Claiming::Again;
                return;
            }
        }
        let Some(claim) = self.next_claim(ctx) else { return };
        self.claiming = Claiming::Yes;
        let ledger = self.runtime.ledger.clone();
        let asked = claim.max;
        let claimed = async move { ledger.claim(claim).await };
        ctx.spawn(claimed.into_actor(self).map(move |claimed, this, ctx| {
            let again = this.claiming == Claiming::Again;
            this.claiming = Claiming::No;
            match claimed {
                Ok(jobs) => {
                    let full = jobs.len() == asked;
                    for job in jobs {
                        this.start_job(job, ctx);
                    }
                    if full || again {
                        this.claim(ctx);
                    }
                }
                Err(error) => {
                    this.ledger_is_away(&error);
                    ctx.run_later(LEDGER_WAIT, |this, ctx| this.claim(ctx));
                }
            }
        }));
    }

    /// What may be claimed now; `None` is nothing, and whatever ends that calls [`Self::claim`] again.
    fn next_claim(&self, ctx: &mut Context<Self>) -> Option<Claim> {
        if self.runtime.phases.now() >= Phase::Quiet {
            return None;
        }
        let mut room = self.settings.borrow().jobs_room().saturating_sub(self.running.len());
        for breaker in self.domain.breakers() {
            match breaker.state() {
                BreakerState::Closed => {}
                BreakerState::HalfOpen => room = room.min(1usize.saturating_sub(self.running.len())),
                BreakerState::Open => {
                    self.part.set(PartState::Waiting);
                    self.part.say(format!("{} is unavailable", breaker.name()));
                    let ready = async move { breaker.ready().await };
                    ctx.spawn(ready.into_actor(self).map(|(), this, ctx| this.claim(ctx)));
                    return None;
                }
            }
        }
        let settings = self.settings.borrow();
        let kinds: Vec<(Name, usize)> = self
            .domain
            .kinds()
            .iter()
            .map(|&kind| {
                let limit = settings.kinds.get(kind).and_then(|policy| policy.concurrency).unwrap_or(usize::MAX);
                let running = match limit {
                    usize::MAX => 0,
                    _ => self.running.values().filter(|running| &*running.kind == kind).count(),
                };
                (Name::from(kind), room.min(limit.saturating_sub(running)))
            })
            .filter(|(_, room)| *room > 0)
            .collect();
        if room == 0 || kinds.is_empty() {
            return None;
        }
        let now = self.runtime.clock.now();
        let until = now.plus(settings.lease);
        Some(Claim { domain: self.name.clone(), owner: self.owner.clone(), max: room, kinds, now, until })
    }

    fn start_job(&mut self, job: Job, ctx: &mut Context<Self>) {
        let Some(parts) = &self.parts else { return };
        let settings = self.settings.borrow();
        let policy = settings.kind(&job.kind);
        let (pages_max, patience) = (settings.pages_max, settings.lease);
        drop(settings);

        let (id, lease, kind) = (job.id, job.lease, job.kind.clone());
        let driver = parts.driver.clone();
        let part = self.part.clone();
        let address = ctx.address();
        driver.board.job_started(&job, self.runtime.clock.now());
        driver.events.tell(|| Event::JobStarted {
            job: id,
            domain: job.domain.clone(),
            kind: job.kind.clone(),
            attempt: job.attempt,
        });
        let span = tracing::info_span!(
            "job",
            job_id = %id,
            run_id = %format_args!("{id}-{}", lease.fence),
            domain = &*job.domain,
            kind = &*job.kind,
            attempt = job.attempt,
            actor = &*self.name,
        );
        let since = Instant::now();
        let task = async move {
            let tried = AssertUnwindSafe(driver.run(&job, &policy, pages_max)).catch_unwind().await;
            let TryEnd { outcome, entity, counts } = tried.unwrap_or_else(|_panic| TryEnd {
                outcome: decide(
                    Ended::Panicked { reason: death::last_panic() },
                    job.attempt,
                    &policy,
                    driver.clock.now(),
                    chance(),
                ),
                entity: None,
                counts: Default::default(),
            });
            driver.record(lease, outcome.clone(), entity, patience).await;
            report(&driver, &part, &job, &outcome, &counts, since.elapsed());
            address.do_send(JobEnded { job: id, lease });
        };
        let task = AbortOnDrop(actix::spawn(task.instrument(span)).abort_handle());
        self.running.insert(id, RunningJob { lease, kind, since, task });
        self.count_in_flight();
    }

    /// Renews the leases in hand and lets go of those that are lost; cancels what is stuck.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.renew(ctx);
        let now = Instant::now();
        let settings = self.settings.borrow().clone();
        let stuck: Vec<JobId> = self
            .running
            .iter()
            .filter(|(_, running)| now - running.since > settings.kind(&running.kind).stuck_after)
            .map(|(id, _)| *id)
            .collect();
        for id in stuck {
            let Some(running) = self.let_go(id) else { continue };
            let reason = format!("stuck: it ran for {:?}", now - running.since);
            tracing::warn!(job_id = %id, domain = &*self.name, kind = &*running.kind, reason, "cancel job");
            self.record_for(running.lease, Outcome::Cancelled { reason }, settings.lease, ctx);
        }
        // A wake-up may have been missed while the ledger was away; asking costs one statement.
        self.claim(ctx);
    }

    fn renew(&mut self, ctx: &mut Context<Self>) {
        if self.running.is_empty() {
            return;
        }
        let leases: Vec<Lease> = self.running.values().map(|running| running.lease).collect();
        let until = self.runtime.clock.now().plus(self.settings.borrow().lease);
        let ledger = self.runtime.ledger.clone();
        let renewed = async move { ledger.renew(leases, until).await };
        ctx.spawn(renewed.into_actor(self).map(|renewed, this, ctx| match renewed {
            Ok(lost) => {
                for lease in lost {
                    // It may have ended, or begun anew under another lease, since the question was asked.
                    if this.running.get(&lease.job).is_some_and(|running| running.lease == lease) {
                        tracing::info!(job_id = %lease.job, domain = &*this.name, "lost its lease: let go");
                        this.let_go(lease.job);
                    }
                }
                this.claim(ctx);
            }
            Err(error) => this.ledger_is_away(&error),
        }));
    }

    /// Ends a job's driver where it stands. What its workers have in hand is dropped and their stages opened anew.
    fn let_go(&mut self, id: JobId) -> Option<RunningJob> {
        let running = self.running.remove(&id)?;
        running.task.0.abort();
        self.runtime.board.job_ended(id);
        self.count_in_flight();
        Some(running)
    }

    fn record_for(&self, lease: Lease, outcome: Outcome, patience: Duration, ctx: &mut Context<Self>) {
        let Some(parts) = &self.parts else { return };
        let driver = parts.driver.clone();
        let record = async move { driver.record(lease, outcome, None, patience).await };
        ctx.spawn(record.into_actor(self).map(|(), this, ctx| this.claim(ctx)));
    }

    fn count_in_flight(&self) {
        let count = self.running.len();
        self.in_flight.send_replace(count);
        self.part.depth.store(count as u64, Ordering::Relaxed);
        self.part.set(if count == 0 { PartState::Idle } else { PartState::Busy });
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
            fetch.resize(pools.fetch);
            transform.resize(pools.transform);
            upload.resize(pools.upload);
            for stage in StageName::ALL {
                let size = pools.of(stage);
                let pool = format!("{}/{stage}", self.name);
                self.runtime.events.tell(|| Event::Resized { pool, actors: size.actors, mailbox: size.mailbox });
            }
        }
        self.claim(ctx);
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

/// What is said of a try that ended: log, counters, event, board.
fn report<D: Domain>(
    driver: &Driver<D>,
    part: &Part,
    job: &Job,
    outcome: &Outcome,
    counts: &crate::checkpoint::Counts,
    took: Duration,
) {
    driver.board.job_ended(job.id);
    let duration_ms = took.as_millis() as u64;
    let reason = match outcome {
        Outcome::Completed { note } => note.clone(),
        Outcome::Retry { reason, .. }
        | Outcome::Snoozed { reason, .. }
        | Outcome::Failed { reason, .. }
        | Outcome::Cancelled { reason } => Some(reason.clone()),
        Outcome::Interrupted => None,
    };
    match outcome {
        Outcome::Completed { note } => {
            part.done.fetch_add(1, Ordering::Relaxed);
            tracing::info!(
                target: "longshore::performance",
                operation = &*job.kind,
                duration_ms,
                received = counts.received,
                inserted = counts.inserted,
                updated = counts.updated,
                unchanged = counts.unchanged,
                removed = counts.removed,
                rejected = counts.rejected,
                note = note.as_deref().unwrap_or_default(),
                "completed"
            );
        }
        Outcome::Interrupted => tracing::info!(duration_ms, "given back"),
        Outcome::Snoozed { .. } | Outcome::Retry { .. } | Outcome::Failed { .. } | Outcome::Cancelled { .. } => {
            part.failed.fetch_add(1, Ordering::Relaxed);
            let reason = reason.as_deref().unwrap_or_default();
            part.say(reason);
            tracing::warn!(outcome = outcome.as_str(), duration_ms, reason, "job did not complete");
        }
    }
    driver.events.tell(|| Event::JobEnded {
        job: job.id,
        domain: job.domain.clone(),
        kind: job.kind.clone(),
        attempt: job.attempt,
        outcome: outcome.as_str(),
        reason,
        counts: *counts,
        took,
    });
}

impl<D: Domain> Actor for Coordinator<D> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        death::supervise_this_thread();
        self.part.capacity.store(self.settings.borrow().jobs_room() as u64, Ordering::Relaxed);
        self.start_parts(ctx);
        self.rescue(ctx);

        self.listen(ctx);
        let tick = self.settings.borrow().lease / 3;
        ctx.run_interval(tick.max(Duration::from_millis(10)), Self::tick);
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
}

/// Ends the coordinator: its jobs are given back, its workers and threads ended. Answered when that is done.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl<D: Domain> Handler<Stop> for Coordinator<D> {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> Self::Result {
        self.part.set(PartState::Draining);
        self.claiming = Claiming::NotYet;
        let jobs: Vec<JobId> = self.running.keys().copied().collect();
        let leases: Vec<Lease> = jobs.into_iter().filter_map(|job| self.let_go(job)).map(|job| job.lease).collect();
        let parts = self.parts.take();
        let name = self.name.clone();
        let give_back = async move {
            let Some(Parts { driver, fetch, transform, upload }) = parts else { return };
            if !leases.is_empty() {
                tracing::info!(domain = &*name, jobs = leases.len(), "give interrupted jobs back");
            }
            // The lease is not lengthened any more; should this be cut off, boot recovery does the same.
            let records =
                leases.into_iter().map(|lease| driver.record(lease, Outcome::Interrupted, None, Duration::ZERO));
            futures::future::join_all(records).await;
            futures::join!(fetch.stop(), transform.stop(), upload.stop());
        };
        Box::pin(give_back.into_actor(self).map(|(), this, ctx| {
            this.part.set(PartState::Stopped);
            ctx.stop();
        }))
    }
}
