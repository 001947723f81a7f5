//! The jobs a coordinator has in hand: started, renewed, let go.
//!
//! Invariant: a try whose end is being written is not let go: what it finds, a lease that is lost included, it finds
//! itself. So every try is told of once, by its own end or by whoever let it go.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures::FutureExt;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::Instrument;

use crate::backoff::chance;
use crate::checkpoint::Counts;
use crate::coordinator::claims::Claiming;
use crate::coordinator::{Coordinator, JobEnded, WorkerExit};
use crate::decide::{Ended, decide};
use crate::domain::Domain;
use crate::driver::{Driver, TryEnd};
use crate::events::Event;
use crate::job::{Job, JobId, Lease, Name, Outcome};
use crate::ledger::LedgerError;
use crate::status::{Part, PartState};
use crate::watch as death;

/// Leases are renewed at a third of their time, but no busier than this.
const TICK_MIN: Duration = Duration::from_millis(10);

/// The word for a try whose end is not its own: its lease was taken away, or its end could not be written.
pub(super) const REVOKED: &str = "revoked";

pub(super) struct RunningJob {
    pub(super) lease: Lease,
    pub(super) kind: Name,
    attempt: u32,
    since: Instant,
    /// What its earlier tries took.
    ran_before: Duration,
    task: Task,
}

/// A driver on its way; dropped, it is ended where it stands, unless its try is over and being recorded.
struct Task {
    handle: AbortHandle,
    recording: Rc<Cell<bool>>,
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.recording.get() {
            self.handle.abort();
        }
    }
}

impl RunningJob {
    pub(super) fn is_recording(&self) -> bool {
        self.task.recording.get()
    }

    /// Over all its tries.
    fn ran(&self, now: Instant) -> Duration {
        self.ran_before + (now - self.since)
    }
}

impl<D: Domain> Coordinator<D> {
    pub(super) fn start_job(&mut self, job: Job, ctx: &mut Context<Self>) {
        // Given back and claimed again before a renewal could say so.
        if self.running.get(&job.id).is_some_and(|running| !running.is_recording()) {
            self.let_go(job.id, REVOKED, Some("its lease was taken away".to_owned()));
        }
        let Some(parts) = &self.parts else { return };
        let settings = self.settings.borrow();
        let policy = settings.kind(&job.kind);
        let (pages_max, patience) = (settings.pages_max, settings.lease);
        drop(settings);

        let (id, lease, kind, attempt) = (job.id, job.lease, job.kind.clone(), job.attempt);
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
        let (since, ran_before) = (Instant::now(), job.ran);
        let recording = Rc::new(Cell::new(false));
        let ended = recording.clone();
        let task = async move {
            let run = death::supervised(driver.run(&job, &policy, pages_max));
            let tried = AssertUnwindSafe(run).catch_unwind().await;
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
            ended.set(true);
            let recorded = driver.record(lease, outcome.clone(), entity, patience).await;
            driver.board.job_ended(lease);
            match recorded {
                Ok(()) => report(&driver, &part, &job, &outcome, &counts, since.elapsed()),
                Err(error) => driver.events.tell(|| Event::JobEnded {
                    job: id,
                    domain: job.domain.clone(),
                    kind: job.kind.clone(),
                    attempt: job.attempt,
                    outcome: REVOKED,
                    reason: Some(error.to_string()),
                    counts: Counts::default(),
                    took: since.elapsed(),
                }),
            }
            address.do_send(JobEnded { job: id, lease });
        };
        let handle = actix::spawn(task.instrument(span)).abort_handle();
        let task = Task { handle, recording };
        self.running.insert(id, RunningJob { lease, kind, attempt, since, ran_before, task });
        self.count_in_flight();
    }

    pub(super) fn tick_later(&mut self, ctx: &mut Context<Self>) {
        let lease = self.settings.borrow().lease;
        let next = ctx.run_later((lease / 3).max(TICK_MIN), |this, ctx| {
            this.tick = None;
            this.tick(ctx);
            this.tick_later(ctx);
        });
        if let Some((_, last)) = self.tick.replace((lease, next)) {
            ctx.cancel_future(last);
        }
    }

    /// Renews the leases in hand and lets go of those that are lost; cancels what is stuck.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.renew(ctx);
        self.cancel_stuck(ctx);
        let now = Instant::now();
        let hung: Vec<WorkerExit> = match &mut self.parts {
            Some(parts) => [parts.fetch.hung(now), parts.transform.hung(now), parts.upload.hung(now)].concat(),
            None => Vec::new(),
        };
        for exit in hung {
            self.worker_down(exit, ctx);
        }
        // A wake-up may have been missed while the ledger was away; asking costs one statement.
        self.claim(ctx);
    }

    fn cancel_stuck(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let settings = self.settings.borrow().clone();
        let is_stuck = |running: &RunningJob| {
            !running.is_recording() && running.ran(now) > settings.kind(&running.kind).stuck_after
        };
        let stuck = self.running.iter().filter(|(_, running)| is_stuck(running)).map(|(id, _)| *id);
        for id in stuck.collect::<Vec<JobId>>() {
            let Some(running) = self.running.get(&id) else { continue };
            let reason = format!("stuck: it ran for {:?}", running.ran(now));
            tracing::warn!(job_id = %id, domain = &*self.name, kind = &*running.kind, reason, "cancel job");
            let outcome = Outcome::Cancelled { reason: reason.clone() };
            let Some(running) = self.let_go(id, outcome.as_str(), Some(reason)) else { continue };
            self.record_for(id, running, outcome, settings.lease, ctx);
        }
    }

    /// Also learns which leases were taken away.
    pub(super) fn renew(&mut self, ctx: &mut Context<Self>) {
        if self.running.is_empty() {
            return;
        }
        let leases: Vec<Lease> = self.running.values().map(|running| running.lease).collect();
        let lease = self.settings.borrow().lease;
        let until = self.runtime.clock.now().plus(lease);
        let ledger = self.runtime.ledger.clone();
        let renewed = async move {
            // An answer that comes after the leases have lapsed is worth nothing, and must not pile up with the next.
            let answer = tokio::time::timeout(lease, ledger.renew(leases, until)).await;
            answer.unwrap_or_else(|_| Err(LedgerError::Unavailable(format!("no answer within {lease:?}"))))
        };
        ctx.spawn(renewed.into_actor(self).map(|renewed, this, ctx| match renewed {
            Ok(lost) => {
                for lease in lost {
                    // It may have ended, or begun anew under another lease, since the question was asked.
                    let lost = |running: &RunningJob| running.lease == lease && !running.is_recording();
                    if this.running.get(&lease.job).is_some_and(lost) {
                        tracing::info!(job_id = %lease.job, domain = &*this.name, "lost its lease: let go");
                        this.let_go(lease.job, REVOKED, Some("its lease was taken away".to_owned()));
                    }
                }
                this.claim(ctx);
            }
            Err(error) => this.ledger_is_away(&error),
        }));
    }

    /// Ends a job's driver where it stands. What its workers have in hand is dropped and their stages opened anew.
    pub(super) fn let_go(&mut self, id: JobId, outcome: &'static str, reason: Option<String>) -> Option<RunningJob> {
        let running = self.running.remove(&id)?;
        running.task.handle.abort();
        self.runtime.board.job_ended(running.lease);
        self.tell_let_go(id, &running, outcome, reason);
        self.count_in_flight();
        Some(running)
    }

    pub(super) fn tell_let_go(&self, id: JobId, running: &RunningJob, outcome: &'static str, reason: Option<String>) {
        self.runtime.events.tell(|| Event::JobEnded {
            job: id,
            domain: self.name.clone(),
            kind: running.kind.clone(),
            attempt: running.attempt,
            outcome,
            reason,
            counts: Counts::default(),
            took: running.since.elapsed(),
        });
    }

    /// Writes the end of a try that was let go. Until it is written the job stays in hand, so that an end of the
    /// coordinator waits for it too.
    fn record_for(
        &mut self,
        id: JobId,
        running: RunningJob,
        outcome: Outcome,
        patience: Duration,
        ctx: &mut Context<Self>,
    ) {
        let Some(parts) = &self.parts else { return };
        let (driver, address, lease) = (parts.driver.clone(), ctx.address(), running.lease);
        let record = async move {
            // What could not be written is logged, and rescued later.
            let _ = driver.record(lease, outcome, None, patience).await;
            address.do_send(JobEnded { job: id, lease });
        };
        let task = Task { handle: actix::spawn(record).abort_handle(), recording: Rc::new(Cell::new(true)) };
        self.running.insert(id, RunningJob { task, ..running });
        self.count_in_flight();
    }

    pub(super) fn count_in_flight(&self) {
        let count = self.running.len();
        self.in_flight.send_replace(count);
        self.part.depth.store(count as u64, Ordering::Relaxed);
        match self.claiming {
            // Without its ledger it waits, and at its end it drains, whatever ends meanwhile.
            Claiming::NotYet | Claiming::Later | Claiming::Over => {}
            Claiming::No | Claiming::Yes | Claiming::Again => {
                self.part.set(if count == 0 { PartState::Idle } else { PartState::Busy });
            }
        }
    }
}

/// What is said of a try whose end stands in the ledger: log, counters, event.
fn report<D: Domain>(driver: &Driver<D>, part: &Part, job: &Job, outcome: &Outcome, counts: &Counts, took: Duration) {
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
                repeated = counts.repeated,
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
