//! The life of one job, from claim to record, top to bottom.
//!
//! ```text
//! plan ─▶ ┌ page: fetch ─▶ transform ─▶ upload (rows + checkpoint in one commit) ┐ ─▶ close ─▶ record
//!         └ pages run concurrently, up to `pages_max`; a page may find more ─────┘
//! ```
//!
//! Invariants: every write names the job's lease. A part that the checkpoint holds is not done again. An input whose
//! worker died goes to another worker, and counts as a crash of this job. On drain no new page starts; what is in
//! flight is finished and committed, and the job is given back with its checkpoint.
//!
//! What it does not do: claim, count concurrency, or renew leases; that is [`crate::coordinator`].

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;

use crate::backoff::chance;
use crate::checkpoint::{Checkpoint, Counts, Part};
use crate::clock::Clock;
use crate::decide::{Ended, decide};
use crate::domain::{Delivery, Domain, Fetched, Plan, Settled, Transformed, Uploaded};
use crate::events::{Event, Events};
use crate::job::{Fault, Job, Lease, NewJob, Outcome};
use crate::ledger::{Entity, Ledger, LedgerError, LockGuard, Locked, Receipt, Record, Reject};
use crate::mailbox::{Failure, Mailbox, Room};
use crate::pages::Pages;
use crate::settings::KindPolicy;
use crate::shutdown::{Phase, Phases};
use crate::stage::{Stage, StageName};
use crate::status::{Board, Progress};
use crate::watch;

/// What all jobs of a coordinator share.
pub(crate) struct Driver<D: Domain> {
    pub(crate) domain: Arc<D>,
    pub(crate) fetch: Mailbox<D::Fetch>,
    pub(crate) transform: Mailbox<D::Transform>,
    pub(crate) upload: Mailbox<D::Upload>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) clock: Clock,
    pub(crate) board: Board,
    pub(crate) events: Events,
    pub(crate) phases: Phases,
}

/// How a try ended, for the ledger.
pub(crate) struct TryEnd {
    pub(crate) outcome: Outcome,
    pub(crate) entity: Option<Entity>,
    pub(crate) counts: Counts,
}

/// One try of one job.
struct Try<'a, D: Domain> {
    driver: &'a Driver<D>,
    job: &'a Job,
    policy: &'a KindPolicy,
    pages_max: usize,
    /// As committed so far; a copy of what the ledger holds.
    checkpoint: RefCell<Checkpoint>,
    pages: RefCell<Pages<D::Request>>,
    /// A page told of further pages.
    found: Notify,
    notes: RefCell<Vec<String>>,
}

impl<D: Domain> Driver<D> {
    /// Runs one try to its end. It does not record it: the coordinator does, or whoever rescues the job.
    pub(crate) async fn run(&self, job: &Job, policy: &KindPolicy, pages_max: usize) -> TryEnd {
        let attempt = Try {
            driver: self,
            job,
            policy,
            pages_max: pages_max.max(1),
            checkpoint: RefCell::new(job.checkpoint.clone()),
            pages: RefCell::default(),
            found: Notify::new(),
            notes: RefCell::default(),
        };
        let mut entity = None;
        let ended = match tokio::time::timeout(policy.timeout, attempt.steps(&mut entity)).await {
            Ok(ended) => ended,
            Err(_elapsed) => Err(Ended::TimedOut),
        };
        let outcome = match ended {
            Ok(note) => Outcome::Completed { note },
            Err(ended) => decide(ended, job.attempt, policy, self.clock.now(), chance()),
        };
        let counts = attempt.checkpoint.into_inner().counts;
        TryEnd { outcome, entity, counts }
    }

    /// Writes the end of a try; while the ledger is out of reach, again and again, as long as the lease may hold.
    /// An error is logged here: the try has no end in the ledger then, and the job is, or will be, somebody else's.
    pub(crate) async fn record(
        &self,
        lease: Lease,
        outcome: Outcome,
        entity: Option<Entity>,
        patience: Duration,
    ) -> Result<(), LedgerError> {
        let give_up = tokio::time::Instant::now() + patience;
        let mut wait = Duration::from_millis(100);
        loop {
            let record = Record { lease, outcome: outcome.clone(), entity: entity.clone() };
            // A ledger that panics is a broken one: the coordinator must hear of the end, or it would keep the job.
            let written = AssertUnwindSafe(self.ledger.record(record, self.clock.now())).catch_unwind().await;
            match written.unwrap_or_else(|_panic| Err(LedgerError::Broken(watch::last_panic()))) {
                Ok(()) => return Ok(()),
                Err(LedgerError::Unavailable(reason)) if tokio::time::Instant::now() + wait < give_up => {
                    tracing::warn!(job_id = %lease.job, reason, wait = ?wait, "record outcome");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
                // A try that found its lease gone just ends, and there is nothing left to give back.
                Err(stale @ LedgerError::Stale(_)) if outcome == Outcome::Interrupted => {
                    tracing::debug!(job_id = %lease.job, reason = %stale, "nothing to give back");
                    return Err(stale);
                }
                // Stale: somebody else has the job, as is right. Anything else: the lease lapses and it is rescued.
                Err(error) => {
                    tracing::warn!(job_id = %lease.job, outcome = outcome.as_str(), reason = %error, "record outcome");
                    return Err(error);
                }
            }
        }
    }
}

impl<D: Domain> Try<'_, D> {
    /// The job, step by step. What happens after upload is the next line.
    async fn steps(&self, entity: &mut Option<Entity>) -> Result<Option<String>, Ended> {
        if self.draining() {
            // Claimed in the moment in which the service was told to end.
            return Err(Ended::Fault(Fault::Cancelled));
        }
        let _lock = match self.lock().await? {
            Locked::Held(guard) => guard,
            Locked::Taken { by } => return Ok(Some(format!("skipped: locked by {by}"))),
        };
        self.progress("plan");
        let plan = self.driver.domain.plan(self.job).await.map_err(|fault| self.ended_by(fault))?;
        let Plan { requests, children, entity: planned, note } = plan;
        *entity = planned;
        self.notes.borrow_mut().extend(note);

        self.ask_for(children).await?;
        self.pages(requests).await?;
        self.close().await?;

        self.progress("record");
        let notes = self.notes.borrow();
        Ok((!notes.is_empty()).then(|| notes.join("; ")))
    }

    /// What keeps other programs out, if the kind asks for it.
    async fn lock(&self) -> Result<Locked, Ended> {
        match &self.policy.lock {
            Some(key) => self.driver.ledger.lock(key).await.map_err(|error| Ended::Fault(fault_of(error))),
            None => Ok(Locked::Held(LockGuard::default())),
        }
    }

    /// The plan's own children, once.
    async fn ask_for(&self, children: Vec<NewJob>) -> Result<(), Ended> {
        if children.is_empty() || self.checkpoint.borrow().holds(Part::Plan) {
            return Ok(());
        }
        let receipt = Receipt { children, ..Receipt::new(self.job.lease, Part::Plan) };
        self.commit(receipt, Counts::default()).await
    }

    /// All pages, the first ones and those that are found, at most `pages_max` at a time.
    async fn pages(&self, first: Vec<D::Request>) -> Result<(), Ended> {
        *self.pages.borrow_mut() = Pages::plan(first, &self.checkpoint.borrow())?;
        let mut running = FuturesUnordered::new();
        let mut ended: Option<Ended> = None;
        loop {
            while ended.is_none() && running.len() < self.pages_max && !self.draining() {
                let Some((index, request)) = self.pages.borrow_mut().next()? else { break };
                running.push(self.page(index, request));
            }
            self.progress("pages");
            tokio::select! {
                done = running.next() => match done {
                    Some(Ok(())) => {}
                    // The others finish and are committed; the first end is the one that counts.
                    Some(Err(end)) => ended = ended.or(Some(end)),
                    None => break,
                },
                () = self.found.notified() => {}
            }
        }
        match ended {
            Some(ended) => Err(ended),
            None if self.pages.borrow().is_done() => Ok(()),
            None => Err(Ended::Fault(Fault::Cancelled)),
        }
    }

    /// One page: fetch, transform, upload. The room held in one pool is given up once there is room in the next.
    async fn page(&self, index: u32, request: Arc<D::Request>) -> Result<(), Ended> {
        let driver = self.driver;
        let (fetched, room) = match self.ask(&driver.fetch, request, None).await {
            Ok(answer) => answer,
            Err(ended) => return self.rejected(index, ended).await,
        };
        self.page_done(StageName::Fetch, index);
        let Fetched { answer, more, total, warning } = fetched;
        self.warn(warning);
        if self.pages.borrow_mut().found(index, more) {
            self.found.notify_one();
        }

        let (transformed, room) = match self.ask(&driver.transform, Arc::new(answer), Some(room)).await {
            Ok(answer) => answer,
            Err(ended) => return self.rejected(index, ended).await,
        };
        self.page_done(StageName::Transform, index);
        let Transformed { batch, rejects, children, received } = transformed;

        let following = self.pages.borrow().following(index)?;
        let receipt = Receipt { lease: self.job.lease, part: Part::Page(index), following, total, children, rejects };
        if let Err(ended) = self.upload(Delivery { batch, receipt, received }, Some(room)).await {
            return self.rejected(index, ended).await;
        }
        self.page_done(StageName::Upload, index);
        Ok(())
    }

    /// What comes once, when all pages are in.
    async fn close(&self) -> Result<(), Ended> {
        let checkpoint = self.checkpoint.borrow().clone();
        if checkpoint.holds(Part::Closing) {
            return Ok(());
        }
        if checkpoint.gaps > 0 {
            // What stood on the missing pages would pass for vanished.
            self.notes.borrow_mut().push(format!("not closed: {} pages were rejected as a whole", checkpoint.gaps));
            return Ok(());
        }
        let Some(batch) = self.driver.domain.close(self.job, &checkpoint) else { return Ok(()) };
        self.progress("closing");
        let receipt = Receipt::new(self.job.lease, Part::Closing);
        self.upload(Delivery { batch, receipt, received: 0 }, None).await
    }

    /// Uploads and sees to it that the receipt is committed, with the rows or after them.
    async fn upload(&self, delivery: Delivery<D::Batch>, room: Option<Room>) -> Result<(), Ended> {
        let delivery = Arc::new(delivery);
        let (uploaded, _room) = self.ask(&self.driver.upload, delivery.clone(), room).await?;
        let Uploaded { mut counts, settled, note } = uploaded;
        self.notes.borrow_mut().extend(note);
        let receipt = &delivery.receipt;
        match settled {
            Settled::WithRows => {
                let Receipt { part, following, total, .. } = receipt.clone();
                self.checkpoint.borrow_mut().merge(part, following, total, &counts);
                Ok(())
            }
            Settled::Separately => {
                counts.received = delivery.received;
                counts.rejected = receipt.rejects.len() as u64;
                if self.is_the_whole_job(receipt, &counts) {
                    return Ok(());
                }
                self.commit(receipt.clone(), counts).await
            }
        }
    }

    /// The one page of a job that left nothing behind needs no commit of its own: the record says it all.
    fn is_the_whole_job(&self, receipt: &Receipt, counts: &Counts) -> bool {
        receipt.part == Part::Page(0)
            && receipt.following.is_none()
            && receipt.children.is_empty()
            && receipt.rejects.is_empty()
            && counts.is_zero()
            && self.pages.borrow().is_single()
    }

    async fn commit(&self, receipt: Receipt, counts: Counts) -> Result<(), Ended> {
        let Receipt { part, following, total, .. } = receipt.clone();
        match self.driver.ledger.commit(receipt, counts, self.driver.clock.now()).await {
            Ok(()) => {
                self.checkpoint.borrow_mut().merge(part, following, total, &counts);
                Ok(())
            }
            Err(error) => Err(Ended::Fault(fault_of(error))),
        }
    }

    /// A page that a stage rejected as a whole: it is committed as a reject, and the job goes on.
    async fn rejected(&self, index: u32, ended: Ended) -> Result<(), Ended> {
        let Ended::Fault(Fault::Reject { reason }) = ended else { return Err(ended) };
        let raw = self.pages.borrow().request_text(index);
        let receipt = Receipt {
            following: self.pages.borrow().following(index)?,
            rejects: vec![Reject { key: None, reason, raw }],
            ..Receipt::new(self.job.lease, Part::Page(index))
        };
        self.commit(receipt, Counts { rejected: 1, ..Counts::default() }).await
    }

    /// Asks a pool, in place of the caller: tries a passing fault again, and a dead worker's input on another one.
    async fn ask<S: Stage>(
        &self,
        mailbox: &Mailbox<S>,
        input: Arc<S::Input>,
        mut room: Option<Room>,
    ) -> Result<(S::Output, Room), Ended> {
        let mut tries = 0;
        // After a crash each piece goes by itself, so that only the one that kills is poison; so if a group is refused.
        let mut alone = false;
        loop {
            let failure = match mailbox.ask(self.job.id, input.clone(), room.take(), alone).await {
                Ok(answer) => return Ok((answer.output, answer.room)),
                Err(failure) => failure,
            };
            match failure {
                Failure::Crashed(reason) => {
                    self.crashed(reason).await?;
                    alone = true;
                }
                Failure::Alone => alone = true,
                Failure::Fault(Fault::Retry { reason, after }) => {
                    tries += 1;
                    if tries >= self.policy.page_tries {
                        return Err(Ended::Fault(Fault::Retry { reason, after }));
                    }
                    let wait = self.policy.page_backoff.after(tries, chance()).max(after.unwrap_or_default());
                    tracing::info!(reason, wait = ?wait, tries, "try page again");
                    self.wait(wait).await?;
                }
                Failure::Fault(fault) => return Err(self.ended_by(fault)),
            }
        }
    }

    /// What a stage says of being cancelled is believed when something ends. Otherwise the job would be given back and
    /// claimed again without a pause.
    fn ended_by(&self, fault: Fault) -> Ended {
        match fault {
            Fault::Cancelled if !self.draining() => {
                Ended::Fault(Fault::unavailable("the upstream", "cancelled, though nothing ends here"))
            }
            Fault::Cancelled
            | Fault::Retry { .. }
            | Fault::Reject { .. }
            | Fault::Fail { .. }
            | Fault::Unavailable { .. } => Ended::Fault(fault),
        }
    }

    /// Counts a worker that this job killed; the third one makes it poison.
    async fn crashed(&self, reason: String) -> Result<(), Ended> {
        let driver = self.driver;
        let counted = driver.ledger.record_crash(self.job.lease, reason.clone(), driver.clock.now()).await;
        let crashes = counted.map_err(|error| Ended::Fault(fault_of(error)))?;
        if crashes >= self.policy.crashes_max {
            return Err(Ended::Poison { crashes, reason });
        }
        Ok(())
    }

    /// A wait that drain cuts short.
    async fn wait(&self, wait: Duration) -> Result<(), Ended> {
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.driver.phases.reached(Phase::Drain) => Err(Ended::Fault(Fault::Cancelled)),
        }
    }

    fn draining(&self) -> bool {
        self.driver.phases.now() >= Phase::Drain
    }

    fn warn(&self, warning: Option<String>) {
        let Some(warning) = warning else { return };
        tracing::warn!(warning, "job warned");
        let (job, domain) = (self.job.id, self.job.domain.clone());
        self.driver.events.tell(|| Event::JobWarned { job, domain, warning: warning.clone() });
        self.notes.borrow_mut().push(warning);
    }

    fn page_done(&self, stage: StageName, page: u32) {
        let Job { id: job, domain, .. } = self.job;
        self.driver.events.tell(|| Event::PageDone { job: *job, domain: domain.clone(), stage, page });
    }

    fn progress(&self, step: &'static str) {
        let checkpoint = self.checkpoint.borrow();
        let completed = u64::from(checkpoint.prefix) + checkpoint.beyond.len() as u64;
        let total = self.pages.borrow().known().max(completed);
        let message = || {
            let Counts { received, rejected, .. } = checkpoint.counts;
            match checkpoint.total {
                Some(all) => format!("{received} of {all} records, {rejected} rejected"),
                None => format!("{received} records, {rejected} rejected"),
            }
        };
        self.driver.board.progress(self.job.id, |progress| {
            progress.step = step.into();
            (progress.completed, progress.total) = (completed, total);
            if !checkpoint.counts.is_zero() {
                progress.message = message();
            }
        });
        let Job { id: job, domain, kind, .. } = self.job;
        self.driver.events.tell(|| Event::JobProgress {
            job: *job,
            domain: domain.clone(),
            kind: kind.clone(),
            progress: Progress { step: step.into(), completed, total, message: message() },
        });
    }
}

/// What a failed write means for the job.
fn fault_of(error: LedgerError) -> Fault {
    match error {
        // Whoever took the lease away has the job now; this try just ends.
        LedgerError::Stale(_) => Fault::Cancelled,
        LedgerError::Unavailable(reason) => Fault::unavailable("ledger", reason),
        LedgerError::Missing(_) | LedgerError::Refused(_) | LedgerError::Guard(_) | LedgerError::Broken(_) => {
            Fault::fail(error.to_string())
        }
    }
}
