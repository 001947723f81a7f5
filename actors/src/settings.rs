//! The numbers of a domain: every bound, and what an operator may change while it runs.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::job::Name;
use crate::restart::RestartPolicy;
use crate::stage::StageName;

/// One pool. `actors × mailbox` pieces of work may stand in it or be in hand; callers beyond that wait in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSettings {
    pub actors: usize,
    pub mailbox: usize,
}

impl PoolSettings {
    pub fn capacity(&self) -> usize {
        self.actors.max(1).saturating_mul(self.mailbox.max(1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {
    pub fetch: PoolSettings,
    pub transform: PoolSettings,
    pub upload: PoolSettings,
}

impl Pools {
    pub fn of(&self, stage: StageName) -> PoolSettings {
        match stage {
            StageName::Fetch => self.fetch,
            StageName::Transform => self.transform,
            StageName::Upload => self.upload,
        }
    }

    pub fn set(&mut self, stage: StageName, settings: PoolSettings) {
        match stage {
            StageName::Fetch => self.fetch = settings,
            StageName::Transform => self.transform = settings,
            StageName::Upload => self.upload = settings,
        }
    }
}

/// What holds for the jobs of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindPolicy {
    /// Tries in all; a job whose last one fails goes to the failed set.
    pub attempts: u32,
    pub backoff: Backoff,
    /// Of one attempt.
    pub timeout: Duration,
    /// A job that runs longer, over all its tries and without the waits between them, is cancelled, and the stages it
    /// held are opened anew.
    pub stuck_after: Duration,
    /// Jobs of this kind at a time; `None` leaves it to the pools.
    pub concurrency: Option<usize>,
    /// Workers one job may kill before it is poison.
    pub crashes_max: u32,
    /// Tries of one stage of one page within an attempt.
    pub page_tries: u32,
    /// The wait between those.
    pub page_backoff: Backoff,
    /// While a job of this kind runs, this lock keeps other programs out that work on the same tables; when one of
    /// them has it, the job has nothing to do.
    pub lock: Option<String>,
}

impl Default for KindPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::exponential(Duration::from_secs(10), Duration::from_secs(600)),
            timeout: Duration::from_secs(30 * 60),
            stuck_after: Duration::from_secs(60 * 60),
            concurrency: None,
            crashes_max: 3,
            page_tries: 3,
            page_backoff: Backoff::exponential(Duration::from_millis(250), Duration::from_secs(10)),
            lock: None,
        }
    }
}

/// Everything an operator sets for one domain; a running one takes a changed value at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainSettings {
    pub pools: Pools,
    /// Jobs in flight; no more than the fetch pool's capacity in any case.
    pub jobs_max: usize,
    /// Pages of one job in flight.
    pub pages_max: usize,
    /// How long a lease holds without renewal; renewed at a third of it.
    pub lease: Duration,
    /// Of one worker.
    pub restart: RestartPolicy,
    /// Of the coordinator.
    pub coordinator_restart: RestartPolicy,
    /// How long a parked domain is left alone before it is tried again.
    pub cool_down: Duration,
    /// By kind; one that is missing has the defaults.
    pub kinds: HashMap<Name, KindPolicy>,
}

impl Default for DomainSettings {
    fn default() -> Self {
        Self {
            pools: Pools {
                fetch: PoolSettings { actors: 4, mailbox: 4 },
                transform: PoolSettings { actors: 1, mailbox: 8 },
                upload: PoolSettings { actors: 2, mailbox: 4 },
            },
            jobs_max: 16,
            pages_max: 8,
            lease: Duration::from_secs(30),
            restart: RestartPolicy::default(),
            coordinator_restart: RestartPolicy::default(),
            cool_down: Duration::from_secs(5 * 60),
            kinds: HashMap::new(),
        }
    }
}

impl DomainSettings {
    pub fn kind(&self, kind: &str) -> KindPolicy {
        self.kinds.get(kind).cloned().unwrap_or_default()
    }

    /// Jobs that may be in flight: what the fetch pool can take, and no more than the operator's bound.
    pub fn jobs_room(&self) -> usize {
        self.jobs_max.clamp(1, self.pools.fetch.capacity())
    }
}
