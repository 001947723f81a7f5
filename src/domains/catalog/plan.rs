//! What a job of the catalog comes down to: its params, read once, and the plan made from them.
//!
//! | kind | params | plan |
//! | --- | --- | --- |
//! | `catalog.full` | `force` | the account's groups, and one `catalog.group` for each configured group |
//! | `catalog.group` | `group`, `force`, `allow_removal` | all pages of the group, unless it is fresh |
//! | `catalog.country` | `iso` | all pages of the country |
//! | `catalog.bundle` | `name` | one bundle |

use std::sync::Arc;
use std::time::Duration;

use longshore_actors::checkpoint::Checkpoint;
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Plan;
use longshore_actors::job::{Fault, Job, NewJob, UniqueScope};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::domains::catalog::model::{ListPage, Listing, Request};
use crate::domains::catalog::tables::{BUNDLE_GROUPS, BUNDLES};
use crate::domains::catalog::{BUNDLE, COUNTRY, FULL, GROUP, NAME, PROVIDER, Settings};
use crate::domains::iso;
use crate::store::SyncState;
use crate::store::batch::{Batch, Guard, Removal};

/// Longer names are a mistake; the longest known is 27 characters.
const NAME_MAX: usize = 200;

/// A job's kind and params, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    Full {
        force: bool,
    },
    Group {
        group: Arc<str>,
        /// Also when it is fresh.
        force: bool,
        /// An operator's word that this many may vanish: lifts the removal guard.
        allow_removal: bool,
    },
    Country {
        /// Alpha-2.
        iso: &'static str,
    },
    Bundle {
        name: Arc<str>,
    },
}

impl Task {
    /// Reads params; what is unknown, missing or out of range is an error that says so in one line.
    pub fn read(kind: &str, params: &Value) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Full {
            #[serde(default)]
            force: bool,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Group {
            group: String,
            #[serde(default)]
            force: bool,
            #[serde(default)]
            allow_removal: bool,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Country {
            iso: String,
            /// Taken and without effect: these two kinds sync whenever they are asked.
            #[serde(default, rename = "force")]
            _force: bool,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Bundle {
            name: String,
            #[serde(default, rename = "force")]
            _force: bool,
        }
        match kind {
            FULL => read(kind, params).map(|Full { force }| Task::Full { force }),
            GROUP => {
                let Group { group, force, allow_removal } = read(kind, params)?;
                Ok(Task::Group { group: name(kind, "group", &group)?, force, allow_removal })
            }
            COUNTRY => {
                let Country { iso: code, _force } = read(kind, params)?;
                let iso = iso::alpha2(&code)
                    .ok_or_else(|| Fault::fail(format!("params of {kind}: iso {code:?} is no ISO country code")))?;
                Ok(Task::Country { iso })
            }
            BUNDLE => {
                let Bundle { name: bundle, _force } = read(kind, params)?;
                Ok(Task::Bundle { name: name(kind, "name", &bundle)? })
            }
            _ => Err(Fault::fail(format!("the catalog has no job kind {kind:?}"))),
        }
    }

    /// What it keeps in step, as `sync_state` names it.
    pub fn entity(&self) -> String {
        match self {
            Task::Full { .. } => "full".to_owned(),
            Task::Group { group, .. } => format!("group:{group}"),
            Task::Country { iso } => format!("country:{iso}"),
            Task::Bundle { name } => format!("bundle:{name}"),
        }
    }
}

fn read<T: DeserializeOwned>(kind: &str, params: &Value) -> Result<T, Fault> {
    let params = match params {
        Value::Null => Value::Object(Map::new()),
        params @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            params.clone()
        }
    };
    if !params.is_object() {
        return Err(Fault::fail(format!("params of {kind}: expected an object, got {params}")));
    }
    serde_json::from_value(params).map_err(|error| Fault::fail(format!("params of {kind}: {error}")))
}

fn name(kind: &str, key: &str, name: &str) -> Result<Arc<str>, Fault> {
    let name = name.trim();
    let wrong = match name {
        "" => "is empty",
        // They would mean another path.
        "." | ".." => "is no name",
        _ if name.contains('/') => "has a slash",
        _ if name.len() > NAME_MAX => "is too long",
        _ if name.chars().any(char::is_control) => "has control characters",
        _ => return Ok(name.into()),
    };
    Err(Fault::fail(format!("params of {kind}: {key} {wrong}")))
}

/// The plan of a task. `last` is how fresh its entity is.
pub fn plan(settings: &Settings, job: &Job, task: &Task, last: Option<&SyncState>, now: Timestamp) -> Plan<Request> {
    let plan = match task {
        Task::Full { force } => {
            let children = settings.groups.iter().map(|group| group_job(group, *force)).collect();
            Plan { requests: vec![Request::Groups], ..Plan::children(children) }
        }
        Task::Group { group, force, .. } => {
            if let Some(age) = fresh(settings, job, *force, last, now) {
                return Plan::skip(format!("fresh: synced {} ago; --force syncs it anyway", in_words(age)));
            }
            Plan::pages(vec![first_page(settings, Listing::Group(group.clone()), &job.checkpoint)])
        }
        Task::Country { iso } => {
            Plan::pages(vec![first_page(settings, Listing::Country((*iso).into()), &job.checkpoint)])
        }
        Task::Bundle { name } => Plan::pages(vec![Request::Bundle { name: name.clone() }]),
    };
    plan.of(PROVIDER, task.entity())
}

fn group_job(group: &str, force: bool) -> NewJob {
    let mut params = json!({ "group": group });
    if force {
        params["force"] = Value::Bool(true);
    }
    NewJob::new(NAME, GROUP, params).unique(format!("{GROUP}:{group}"), UniqueScope::UntilCompleted)
}

/// How old the last success is, if that is young enough. A job that has begun goes on in any case.
fn fresh(settings: &Settings, job: &Job, force: bool, last: Option<&SyncState>, now: Timestamp) -> Option<Duration> {
    let begun = job.checkpoint.prefix > 0 || !job.checkpoint.beyond.is_empty();
    let last = last?;
    // An empty group, or one whose records were all rejected, is in step with nothing: it is asked for again.
    let brought = last.counts.received > last.counts.rejected;
    // A success that lies ahead was noted by a clock that went wrong, and says nothing of its age.
    let age = now.since(last.last_success_at.filter(|at| *at <= now)?);
    (!force && !begun && brought && age < settings.fresh_for).then_some(age)
}

/// Page 1. If pages after it are committed already, with the sizes those had: page 7 must stay what it was, though
/// the configuration has changed meanwhile.
fn first_page(settings: &Settings, of: Listing, checkpoint: &Checkpoint) -> Request {
    let stored = checkpoint.beyond.values().flatten().find_map(|request| match Request::deserialize(request) {
        Ok(Request::List(page)) => Some((page.per_page, page.per_call)),
        Ok(Request::Groups | Request::Bundle { .. }) | Err(_) => None,
    });
    let (per_page, per_call) = stored.unwrap_or((settings.per_page, settings.per_page));
    Request::List(ListPage { of, page: 1, per_page, per_call, rows: None })
}

/// The closing act of a complete snapshot: members that left the group, and bundles that left their last group.
pub fn close(settings: &Settings, task: &Task, checkpoint: &Checkpoint) -> Option<Batch> {
    let Task::Group { group, allow_removal, .. } = task else {
        return None;
    };
    // An empty group is a misspelt one more often than a cleared one.
    let total = checkpoint.total.filter(|total| *total > 0)?;
    let guard = settings.removal_guard;
    let removal = Removal {
        table: &BUNDLE_GROUPS,
        scope: ("group_name", group.to_string()),
        key: "bundle_name",
        // By records received, not by keys: a record that is listed twice, or whose name cannot be read, would keep
        // the group from ever being complete.
        missing: total.saturating_sub(checkpoint.counts.received),
        guard: Guard { lifted: guard.lifted || *allow_removal, ..guard },
        orphans: Some((&BUNDLES, "name")),
        named_by: None,
        owned: &[],
    };
    Some(Batch { removals: vec![removal], ..Batch::default() })
}

/// A duration in its two largest units, for people.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use longshore_actors::checkpoint::{Counts, Part};
    use longshore_actors::job::{JobId, Lease};

    use super::*;

    fn job(kind: &str, params: Value) -> Job {
        Job {
            id: JobId(1),
            domain: NAME.into(),
            kind: kind.into(),
            params,
            parent: None,
            attempt: 1,
            crashes: 0,
            lease: Lease { job: JobId(1), fence: 1 },
            checkpoint: Checkpoint::default(),
            enqueued_at: Timestamp(0),
            ran: Duration::ZERO,
        }
    }

    fn made(job: &Job, last: Option<&SyncState>, now: Timestamp) -> Plan<Request> {
        let task = Task::read(&job.kind, &job.params).unwrap();
        plan(&Settings::default(), job, &task, last, now)
    }

    fn synced(at: Timestamp) -> SyncState {
        SyncState {
            provider: PROVIDER.to_owned(),
            entity: "group:G".to_owned(),
            last_success_at: Some(at),
            last_error_at: None,
            last_error: None,
            last_job: None,
            counts: Counts { received: 3, rejected: 1, ..Counts::default() },
        }
    }

    fn page(of: Listing, page: u32, per_page: u32, per_call: u32) -> Request {
        Request::List(ListPage { of, page, per_page, per_call, rows: None })
    }

    #[test]
    fn params_are_read_or_refused_in_one_line() {
        let group = |group: &str, force, allow_removal| Task::Group { group: group.into(), force, allow_removal };
        for (kind, params, task) in [
            (FULL, json!(null), Task::Full { force: false }),
            (FULL, json!({"force": true}), Task::Full { force: true }),
            (GROUP, json!({"group": " Standard Fixed "}), group("Standard Fixed", false, false)),
            (GROUP, json!({"group": "G", "force": true, "allow_removal": true}), group("G", true, true)),
            (COUNTRY, json!({"iso": "tur"}), Task::Country { iso: "TR" }),
            (BUNDLE, json!({"name": "esim_1"}), Task::Bundle { name: "esim_1".into() }),
        ] {
            assert_eq!(Task::read(kind, &params), Ok(task), "{kind} {params}");
        }
        for (kind, params, told) in [
            (FULL, json!({"forse": true}), "unknown field `forse`"),
            (FULL, json!({"force": "yes"}), "expected a boolean"),
            (FULL, json!([]), "expected an object, got []"),
            (GROUP, json!({}), "missing field `group`"),
            (GROUP, json!({"group": "  "}), "group is empty"),
            (GROUP, json!({"group": "a\nb"}), "control characters"),
            (GROUP, json!({"group": 7}), "invalid type"),
            (COUNTRY, json!({"iso": "Europe+"}), "no ISO country code"),
            (COUNTRY, json!({"iso": "TR", "fresh": true}), "unknown field `fresh`"),
            (BUNDLE, json!({"name": ".."}), "name is no name"),
            (BUNDLE, json!({"name": "../organisation"}), "has a slash"),
            (BUNDLE, json!({"name": "x".repeat(201)}), "too long"),
            ("catalog.other", json!({}), "no job kind"),
        ] {
            let Err(Fault::Fail { reason }) = Task::read(kind, &params) else { panic!("{kind} {params}") };
            assert!(reason.contains(told) && !reason.contains('\n'), "{reason}");
        }
    }

    #[test]
    fn full_is_the_groups_and_one_child_for_each_configured_group() {
        let plan = made(&job(FULL, json!({"force": true})), None, Timestamp(0));
        assert_eq!(plan.requests, [Request::Groups]);
        assert_eq!(plan.entity.unwrap().entity, "full");
        assert_eq!(plan.children.len(), 5);
        let child = &plan.children[1];
        assert_eq!(child.params, json!({"group": "Standard - Unlimited Lite", "force": true}));
        let unique = child.unique.as_ref().unwrap();
        assert_eq!(unique.key, "catalog.group:Standard - Unlimited Lite");
        assert_eq!(unique.scope, UniqueScope::UntilCompleted);
        let calm = made(&job(FULL, json!({})), None, Timestamp(0));
        assert!(calm.children.iter().all(|child| child.params.get("force").is_none()));
        // What a parent asks for, a child can read.
        assert!(calm.children.iter().all(|child| Task::read(&child.kind, &child.params).is_ok()));
    }

    #[test]
    fn a_fresh_group_is_skipped_unless_forced_or_begun() {
        let day = Duration::from_secs(86_400);
        let start = Timestamp(1_000);
        let state = synced(start);
        let at = |age: Duration| start.plus(age);
        let calm = job(GROUP, json!({"group": "G"}));

        let skipped = made(&calm, Some(&state), at(3 * day + day / 2));
        assert_eq!(skipped.note.as_deref(), Some("fresh: synced 3 d 12 h ago; --force syncs it anyway"));
        assert!(skipped.requests.is_empty() && skipped.entity.is_none(), "a skip must not count as a sync");

        let first = [page(Listing::Group("G".into()), 1, 200, 200)];
        assert_eq!(made(&calm, Some(&state), at(30 * day)).requests, first);
        assert_eq!(made(&calm, None, start).requests, first);
        let never = SyncState { last_success_at: None, ..state.clone() };
        assert_eq!(made(&calm, Some(&never), start).requests, first);
        assert_eq!(made(&calm, Some(&state), Timestamp(start.0 - 1)).requests, first, "the clock went back");
        for counts in [Counts::default(), Counts { received: 3, rejected: 3, ..Counts::default() }] {
            let nothing = SyncState { counts, ..state.clone() };
            assert_eq!(made(&calm, Some(&nothing), start).requests, first, "{counts:?}");
        }
        let forced = job(GROUP, json!({"group": "G", "force": true}));
        assert_eq!(made(&forced, Some(&state), start).requests, first);
        let mut begun = calm.clone();
        begun.checkpoint.merge(Part::Page(0), None, Some(3), &Counts::default());
        assert_eq!(made(&begun, Some(&state), start).requests, first);
        assert_eq!(made(&begun, Some(&state), start).entity.unwrap().entity, "group:G");
    }

    #[test]
    fn page_one_keeps_the_size_of_the_pages_committed_after_it() {
        let mut job = job(COUNTRY, json!({"iso": "TR"}));
        let of = || Listing::Country("TR".into());
        let third = serde_json::to_value(page(of(), 3, 100, 50)).unwrap();
        job.checkpoint.merge(Part::Page(1), Some(third), None, &Counts::default());
        assert_eq!(made(&job, None, Timestamp(0)).requests, [page(of(), 1, 100, 50)]);
    }

    #[test]
    fn only_a_group_with_records_is_closed_and_only_a_word_lifts_the_guard() {
        let settings = Settings::default();
        let total = |total| Checkpoint { total, ..Checkpoint::default() };
        let task = |kind, params| Task::read(kind, &params).unwrap();
        let group = task(GROUP, json!({"group": "G"}));
        assert!(close(&settings, &group, &total(None)).is_none());
        assert!(close(&settings, &group, &total(Some(0))).is_none());
        assert!(close(&settings, &task(FULL, json!({})), &total(Some(5))).is_none());
        assert!(close(&settings, &task(COUNTRY, json!({"iso": "TR"})), &total(Some(5))).is_none());

        let removal = close(&settings, &group, &total(Some(5))).unwrap().removals.remove(0);
        assert_eq!((removal.table, removal.key, removal.missing), (&BUNDLE_GROUPS, "bundle_name", 5));
        assert_eq!(removal.scope, ("group_name", "G".to_owned()));
        assert_eq!(removal.guard, settings.removal_guard);
        assert_eq!(removal.orphans, Some((&BUNDLES, "name")));

        let allowed = task(GROUP, json!({"group": "G", "allow_removal": true}));
        assert!(close(&settings, &allowed, &total(Some(5))).unwrap().removals[0].guard.lifted);
    }

    #[test]
    fn durations_are_told_in_their_two_largest_units() {
        let told = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!([told(7), told(61), told(3_700), told(90_000)], ["7 s", "1 min", "1 h 1 min", "1 d 1 h"]);
    }
}
