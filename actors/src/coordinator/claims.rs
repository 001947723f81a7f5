//! How a coordinator takes work: rescue first, then claim, one claim at a time.
//!
//! ```text
//! NotYet ──rescued──▶ No ──claim──▶ Yes ──woken──▶ Again
//!                     ▲             │  └─ ledger is away ─▶ Later ──timer──▶ No
//!                     └─────────────┘                                         any ──stop──▶ Over
//! ```
//!
//! Invariant: a job that the ledger gave is started or given back, also if the claim was under way when the end came.

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::oneshot;

use crate::breaker::BreakerState;
use crate::coordinator::{Coordinator, LEDGER_WAIT};
use crate::domain::Domain;
use crate::job::{Job, Lease, Name};
use crate::ledger::{Claim, LedgerError, Rescue};
use crate::shutdown::Phase;
use crate::status::PartState;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claiming {
    /// The jobs of the last incarnation are not given back yet.
    NotYet,
    No,
    Yes,
    /// Woken while claiming: claim once more.
    Again,
    /// The ledger is away; a timer claims again.
    Later,
    /// The coordinator ends.
    Over,
}

impl<D: Domain> Coordinator<D> {
    /// Gives back what the last incarnation had in hand; only then may anything be claimed.
    pub(super) fn rescue(&mut self, ctx: &mut Context<Self>) {
        let ledger = self.runtime.ledger.clone();
        let rescue = Rescue::Domain { domain: self.name.clone(), but: self.owner.clone() };
        let rescued = async move { ledger.rescue(rescue).await };
        ctx.spawn(rescued.into_actor(self).map(|rescued, this, ctx| match rescued {
            _ if this.claiming == Claiming::Over => {}
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
                ctx.run_later(LEDGER_WAIT, |this, ctx| {
                    if this.claiming != Claiming::Over {
                        this.rescue(ctx);
                    }
                });
            }
        }));
    }

    /// Claims as much as there is room for; called whenever there may be room or work.
    pub(super) fn claim(&mut self, ctx: &mut Context<Self>) {
        match self.claiming {
            Claiming::No => {}
            Claiming::NotYet | Claiming::Later | Claiming::Over => return,
            Claiming::Yes | Claiming::Again => {
                self.claiming = Claiming::Again;
                return;
            }
        }
        let Some(claim) = self.next_claim() else { return };
        self.claiming = Claiming::Yes;
        let ledger = self.runtime.ledger.clone();
        let asked = claim.max;
        let claimed = async move { ledger.claim(claim).await };
        ctx.spawn(claimed.into_actor(self).map(move |claimed, this, ctx| this.claimed(claimed, asked, ctx)));
    }

    fn claimed(&mut self, claimed: Result<Vec<Job>, LedgerError>, asked: usize, ctx: &mut Context<Self>) {
        let again = self.claiming == Claiming::Again;
        if self.claiming == Claiming::Over {
            if let Some(end) = self.last_claim.take() {
                let leases = claimed.unwrap_or_default().into_iter().map(|job| job.lease).collect();
                // An error means that the end was cut off; the jobs are rescued then.
                let _ = end.send(leases);
            }
            return;
        }
        self.claiming = Claiming::No;
        match claimed {
            Ok(jobs) => {
                let full = jobs.len() == asked;
                for job in jobs {
                    self.start_job(job, ctx);
                }
                self.count_in_flight();
                if full || again {
                    self.claim(ctx);
                }
            }
            Err(error) => {
                self.ledger_is_away(&error);
                self.claiming = Claiming::Later;
                ctx.run_later(LEDGER_WAIT, |this, ctx| {
                    if this.claiming == Claiming::Later {
                        this.claiming = Claiming::No;
                        this.claim(ctx);
                    }
                });
            }
        }
    }

    /// Claims no more. Answers what a claim brings that is still under way.
    pub(super) fn stop_claiming(&mut self) -> Option<oneshot::Receiver<Vec<Lease>>> {
        let before = std::mem::replace(&mut self.claiming, Claiming::Over);
        match before {
            Claiming::Yes | Claiming::Again => {
                let (end, last) = oneshot::channel();
                self.last_claim = Some(end);
                Some(last)
            }
            Claiming::NotYet | Claiming::No | Claiming::Later | Claiming::Over => None,
        }
    }

    /// What may be claimed now; `None` is nothing, and whatever ends that calls [`Coordinator::claim`]
    /// again: a job that ended, changed settings, a breaker's change of state.
    fn next_claim(&self) -> Option<Claim> {
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
}
