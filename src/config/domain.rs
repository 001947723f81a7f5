//! What every domain has: its upstream, its pools, its limits, its kinds of jobs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use longshore_actors::backoff::{Backoff, Growth};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::config::schedule::{self, Planned, Schedule};
use crate::config::secret::{self, Secret};
use crate::config::units;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    pub enabled: bool,
    pub base_url: String,
    #[serde(deserialize_with = "secret::optional")]
    pub api_key: Option<Secret>,
    pub rate_per_second: f64,
    /// Of one request, body included.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// Bytes of an answer.
    #[serde(deserialize_with = "units::size")]
    pub body_max: u64,
    pub breaker: Breaker,
    /// Jobs driven at the same time.
    pub jobs_max: usize,
    /// Pages of one job in flight.
    pub pages_max: usize,
    /// Workers that one job may kill.
    pub crashes_max: u32,
    /// How long the domain stays parked.
    #[serde(deserialize_with = "units::duration")]
    pub cool_down: Duration,
    pub pools: Pools,
    /// Of each worker.
    pub restart: Restart,
    pub coordinator_restart: Restart,
    /// By short kind: `group` for `catalog.group`.
    pub jobs: BTreeMap<String, JobKind>,
    pub schedules: Vec<Planned>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// In a row.
    pub failures: u32,
    #[serde(deserialize_with = "units::duration")]
    pub open_for: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub open_max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pools {
    pub fetch: Pool,
    pub transform: Pool,
    pub upload: Pool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub actors: usize,
    /// Places in the mailbox of each.
    pub mailbox: usize,
}

/// `max` restarts `within` this time are allowed; one more, and the failure rises to the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    pub max: u32,
    #[serde(deserialize_with = "units::duration")]
    pub within: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub backoff_min: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub backoff_max: Duration,
}

/// How the jobs of one kind are treated.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobKind {
    pub attempts: u32,
    #[serde(deserialize_with = "backoff")]
    pub backoff: Backoff,
    /// Of one attempt.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// Of the whole job.
    #[serde(deserialize_with = "units::duration")]
    pub stuck_after: Duration,
    pub concurrency: usize,
    /// Tries of one page within an attempt.
    pub page_tries: u32,
    /// Keeps other programs out while a job of this kind runs.
    #[serde(deserialize_with = "nonempty")]
    pub lock: Option<String>,
    #[serde(deserialize_with = "schedule::schedule")]
    pub schedule: Option<Schedule>,
}

fn nonempty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(deserializer)?).filter(|text| !text.is_empty()))
}

fn backoff<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Backoff, D::Error> {
    deserializer.deserialize_any(BackoffVisitor)
}

struct BackoffVisitor;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackoffTable {
    growth: Growth,
    #[serde(deserialize_with = "units::duration")]
    base: Duration,
    #[serde(deserialize_with = "units::duration")]
    cap: Duration,
    jitter: f64,
}

impl<'de> Visitor<'de> for BackoffVisitor {
    type Value = Backoff;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a backoff: \"exponential 10s\", \"fixed 30s\" or { growth, base, cap, jitter }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Backoff, E> {
        // Far enough for an outage over night, near enough that nobody waits for days.
        const CAP: Duration = Duration::from_secs(3600);
        let (growth, base) = text.split_once(' ').unwrap_or((text, ""));
        match (growth, units::parse_duration(base)) {
            ("fixed", Some(base)) => Ok(Backoff::fixed(base)),
            ("exponential", Some(base)) => Ok(Backoff::exponential(base, CAP.max(base))),
            (_, Some(_) | None) => {
                Err(E::custom(format!("`{text}` is not a backoff: write \"exponential 10s\" or \"fixed 30s\"")))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Backoff, A::Error> {
        let BackoffTable { growth, base, cap, jitter } = BackoffTable::deserialize(MapAccessDeserializer::new(map))?;
        if base > cap {
            return Err(A::Error::custom("`base` is longer than `cap`"));
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(A::Error::custom("`jitter` is a fraction from 0 to 1"));
        }
        Ok(Backoff { growth, base, cap, jitter })
    }
}
