//! Whether the service takes work, judged by what it needs for that: a store that can be written.

use std::time::Duration;

use longshore_actors::shutdown::Phase;
use longshore_actors::status::{PartKind, PartState, Status};
use serde::{Deserialize, Serialize};

use crate::admin::Admin;

/// A store that has not answered a probe by then does not take work.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// Whether the service takes work, and what that was judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    /// If this fails, the service is not ready; the others are told and do not count: one parked domain or one
    /// upstream that is down is no reason to take the other domains out of service.
    pub vital: bool,
    pub detail: String,
}

impl Admin {
    /// Whether the service takes work. It is judged by a write to the store: one that can only read is not ready.
    pub async fn ready(&self) -> Readiness {
        let probe = tokio::time::timeout(PROBE_DEADLINE, self.store.probe(self.clock().now())).await;
        let store = match probe {
            Ok(Ok(())) => Ok("written and read back".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {PROBE_DEADLINE:?}")),
        };
        let phase = match self.phases.now() {
            Phase::Running => Ok("running".to_owned()),
            Phase::Quiet | Phase::Drain | Phase::Stop => Err("shutting down".to_owned()),
        };
        let mut checks = vec![check("store", true, store), check("phase", true, phase)];
        for status in self.board.statuses() {
            match status.kind {
                PartKind::Coordinator | PartKind::Dependency => checks.push(check(&status.name, false, judge(&status))),
                PartKind::Supervisor | PartKind::Pool | PartKind::Worker | PartKind::Service => {}
            }
        }
        Readiness { ready: checks.iter().all(|check| check.ok || !check.vital), checks }
    }
}

fn check(name: &str, vital: bool, result: Result<String, String>) -> Check {
    let ok = result.is_ok();
    let (Ok(detail) | Err(detail)) = result;
    Check { name: name.to_owned(), ok, vital, detail }
}

/// Whether a part works, and what it says of itself.
pub(super) fn judge(status: &Status) -> Result<String, String> {
    let word = match status.state {
        PartState::Starting => "starting",
        PartState::Idle => "idle",
        PartState::Busy => "busy",
        PartState::Waiting => "waiting",
        PartState::Restarting => "restarting",
        PartState::Draining => "draining",
        PartState::Parked => "parked",
        PartState::Stopped => "stopped",
    };
    let text = match &status.last {
        Some(last) => format!("{word}: {last}"),
        None => word.to_owned(),
    };
    match status.state {
        PartState::Starting | PartState::Idle | PartState::Busy => Ok(text),
        PartState::Waiting | PartState::Restarting | PartState::Draining | PartState::Parked | PartState::Stopped => {
            Err(text)
        }
    }
}
