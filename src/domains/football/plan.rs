//! What a job of football comes down to: its params, read once, and the plan made from them.
//!
//! | kind | params | plan |
//! | --- | --- | --- |
//! | `football.leagues` | `allow_removal`, `force` | one call: all leagues with all their seasons |
//! | `football.countries` | `allow_removal`, `force` | one call: all countries |
//! | `football.status` | `force` | one call: the account, and what is used of its quota |
//!
//! Each syncs whenever it is asked, so `force` is taken and without effect.

use longshore_actors::domain::Plan;
use longshore_actors::job::Fault;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::domains::football::model::Request;
use crate::domains::football::{COUNTRIES_KIND, LEAGUES_KIND, PROVIDER, STATUS_KIND};

/// Reads params; what is unknown or of another type is an error that says so in one line.
pub fn read(kind: &str, params: &Value) -> Result<Request, Fault> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
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
    let list = |params| serde_json::from_value(params).map(|List { allow_removal, _force }| allow_removal);
    match kind {
        LEAGUES_KIND => list(params).map(|allow_removal| Request::Leagues { allow_removal }).map_err(wrong),
        COUNTRIES_KIND => list(params).map(|allow_removal| Request::Countries { allow_removal }).map_err(wrong),
        STATUS_KIND => serde_json::from_value(params).map(|Plain { .. }| Request::Status).map_err(wrong),
        _ => Err(Fault::fail(format!("football has no job kind {kind:?}"))),
    }
}

pub fn plan(request: Request) -> Plan<Request> {
    Plan::pages(vec![request]).of(PROVIDER, request.entity())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn params_are_read_or_refused_in_one_line() {
        for (kind, params, request) in [
            (LEAGUES_KIND, json!(null), Request::Leagues { allow_removal: false }),
            (LEAGUES_KIND, json!({"force": true}), Request::Leagues { allow_removal: false }),
            (LEAGUES_KIND, json!({"allow_removal": true}), Request::Leagues { allow_removal: true }),
            (COUNTRIES_KIND, json!({}), Request::Countries { allow_removal: false }),
            (COUNTRIES_KIND, json!({"allow_removal": true}), Request::Countries { allow_removal: true }),
            (STATUS_KIND, json!({"force": true}), Request::Status),
        ] {
            assert_eq!(read(kind, &params), Ok(request), "{kind} {params}");
            let planned = plan(request);
            assert_eq!((planned.entity.unwrap().entity.as_str(), planned.requests), (request.entity(), vec![request]));
        }
        for (kind, params, told) in [
            (LEAGUES_KIND, json!({"season": 2024}), "unknown field `season`"),
            (LEAGUES_KIND, json!({"allow_removal": "yes"}), "expected a boolean"),
            (COUNTRIES_KIND, json!({"name": "Wales"}), "unknown field `name`"),
            (STATUS_KIND, json!({"allow_removal": true}), "unknown field `allow_removal`"),
            (STATUS_KIND, json!([]), "expected an object, got []"),
            ("football.teams", json!({}), "no job kind"),
        ] {
            let Err(Fault::Fail { reason }) = read(kind, &params) else { panic!("{kind} {params}") };
            assert!(reason.contains(told) && !reason.contains('\n'), "{reason}");
        }
    }
}
