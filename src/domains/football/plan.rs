//! What a job of football comes down to: its params, read once, and the plan made from them.
//!
//! | kind | params | plan |
//! | --- | --- | --- |
//! | `football.leagues` | `allow_removal`, `force` | one call: all leagues with all their seasons |
//! | `football.countries` | `force` | one call: all countries |
//! | `football.status` | `force` | one call: the account, and what is used of its quota |
//!
//! Each syncs whenever it is asked, so `force` is taken and without effect.

use longshore_actors::checkpoint::Checkpoint;
use longshore_actors::domain::Plan;
use longshore_actors::job::Fault;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::domains::football::model::Request;
use crate::domains::football::tables::{LEAGUES, PROVIDER_SOURCES, SEASONS};
use crate::domains::football::{COUNTRIES_KIND, LEAGUES_KIND, PROVIDER, STATUS_KIND, Settings, transform};
use crate::store::batch::{Batch, Guard, Removal};
use crate::store::table::Table;

/// A job's kind and params, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Leagues {
        /// An operator's word that this many may vanish: lifts the removal guard.
        allow_removal: bool,
    },
    Countries,
    Status,
}

impl Task {
    /// Reads params; what is unknown or of another type is an error that says so in one line.
    pub fn read(kind: &str, params: &Value) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Leagues {
            #[serde(default)]
            allow_removal: bool,
            #[serde(default, rename = "force")]
            _force: bool,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Plain {
            #[serde(default, rename = "force")]
            _force: bool,
        }
        let params = match params {
            Value::Null => Value::Object(Map::new()),
            params if params.is_object() => params.clone(),
            params => return Err(Fault::fail(format!("params of {kind}: expected an object, got {params}"))),
        };
        let wrong = |error: serde_json::Error| Fault::fail(format!("params of {kind}: {error}"));
        match kind {
            LEAGUES_KIND => {
                let Leagues { allow_removal, _force } = serde_json::from_value(params).map_err(wrong)?;
                Ok(Task::Leagues { allow_removal })
            }
            COUNTRIES_KIND => serde_json::from_value(params).map(|Plain { .. }| Task::Countries).map_err(wrong),
            STATUS_KIND => serde_json::from_value(params).map(|Plain { .. }| Task::Status).map_err(wrong),
            _ => Err(Fault::fail(format!("football has no job kind {kind:?}"))),
        }
    }

    /// What it keeps in step, as `sync_state` names it.
    pub fn entity(self) -> &'static str {
        match self {
            Task::Leagues { .. } => "leagues",
            Task::Countries => "countries",
            Task::Status => "status",
        }
    }
}

pub fn plan(task: Task) -> Plan<Request> {
    let request = match task {
        Task::Leagues { .. } => Request::Leagues,
        Task::Countries => Request::Countries,
        Task::Status => Request::Status,
    };
    Plan::pages(vec![request]).of(PROVIDER, task.entity())
}

/// What goes with a league, and where its id stands.
static OF_A_LEAGUE: [(&Table, &str); 2] = [(&LEAGUES, "id"), (&SEASONS, "league_id")];

/// The closing act of a complete list of leagues: those that are gone, with their seasons, and seasons that are gone
/// from leagues that are not. Countries are never removed: a league may name one that their own list leaves out.
pub fn close(settings: &Settings, task: Task, checkpoint: &Checkpoint) -> Option<Batch> {
    let Task::Leagues { allow_removal } = task else { return None };
    // There are always leagues: an empty list is a failure of the provider's. An incomplete one has no total.
    checkpoint.total.filter(|total| *total > 0)?;
    let guard = settings.removal_guard;
    let guard = Guard { lifted: guard.lifted || allow_removal, ..guard };
    let leagues = Removal {
        table: &PROVIDER_SOURCES,
        scope: ("entity", transform::LEAGUE.to_owned()),
        key: "provider_id",
        missing: 0,
        guard,
        orphans: None,
        owned: &OF_A_LEAGUE,
    };
    let seasons = Removal {
        table: &SEASONS,
        scope: ("provider", PROVIDER.to_owned()),
        key: "provider_id",
        missing: 0,
        guard,
        orphans: None,
        owned: &[],
    };
    Some(Batch { removals: vec![leagues, seasons], ..Batch::default() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn params_are_read_or_refused_in_one_line() {
        for (kind, params, task) in [
            (LEAGUES_KIND, json!(null), Task::Leagues { allow_removal: false }),
            (LEAGUES_KIND, json!({"force": true}), Task::Leagues { allow_removal: false }),
            (LEAGUES_KIND, json!({"allow_removal": true}), Task::Leagues { allow_removal: true }),
            (COUNTRIES_KIND, json!({}), Task::Countries),
            (STATUS_KIND, json!({"force": true}), Task::Status),
        ] {
            assert_eq!(Task::read(kind, &params), Ok(task), "{kind} {params}");
            assert_eq!(plan(task).entity.unwrap().entity, task.entity());
        }
        for (kind, params, told) in [
            (LEAGUES_KIND, json!({"season": 2024}), "unknown field `season`"),
            (LEAGUES_KIND, json!({"allow_removal": "yes"}), "expected a boolean"),
            (COUNTRIES_KIND, json!({"allow_removal": true}), "unknown field `allow_removal`"),
            (STATUS_KIND, json!([]), "expected an object, got []"),
            ("football.teams", json!({}), "no job kind"),
        ] {
            let Err(Fault::Fail { reason }) = Task::read(kind, &params) else { panic!("{kind} {params}") };
            assert!(reason.contains(told) && !reason.contains('\n'), "{reason}");
        }
    }

    #[test]
    fn only_a_whole_list_of_leagues_is_closed_and_only_a_word_lifts_the_guard() {
        let settings = Settings::default();
        let total = |total| Checkpoint { total, ..Checkpoint::default() };
        let leagues = Task::Leagues { allow_removal: false };
        assert!(close(&settings, leagues, &total(None)).is_none(), "incomplete");
        assert!(close(&settings, leagues, &total(Some(0))).is_none(), "empty");
        assert!(close(&settings, Task::Countries, &total(Some(5))).is_none());
        assert!(close(&settings, Task::Status, &total(Some(1))).is_none());
        let batch = close(&settings, leagues, &total(Some(5))).unwrap();
        assert!(batch.removals.iter().all(|removal| removal.guard == settings.removal_guard));
        let allowed = close(&settings, Task::Leagues { allow_removal: true }, &total(Some(5))).unwrap();
        assert!(allowed.removals.iter().all(|removal| removal.guard.lifted));
    }
}
