//! When jobs start by themselves.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::units;

#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub when: When,
    pub missed: Missed,
    /// Up to this much later, the same for one fire whoever computes it.
    pub jitter: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Five fields (or `@daily` and its like), read in `zone`, an IANA name.
    Cron {
        text: String,
        zone: String,
    },
    Every(Duration),
}

/// What happens to fires that were due while the service was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    Skip,
    /// One fire for all of them.
    #[default]
    Once,
    /// Each, but no more than [`Missed::ALL_MAX`].
    All,
}

impl Missed {
    /// So that a service that was down for a month does not start with thousands of jobs.
    pub const ALL_MAX: u32 = 100;
}

/// A schedule beside those of the kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub name: String,
    /// Short, as in `jobs.<kind>`.
    pub kind: String,
    pub params: Value,
    pub schedule: Schedule,
}

impl When {
    fn new(cron: Option<String>, zone: Option<String>, every: Option<Duration>) -> Result<When, &'static str> {
        match (cron, every) {
            (Some(text), None) => Ok(When::Cron { text, zone: zone.unwrap_or_else(|| "UTC".to_owned()) }),
            (None, Some(_)) if zone.is_some() => Err("`zone` goes with `cron`; `every` needs none"),
            (None, Some(every)) => Ok(When::Every(every)),
            (Some(_), Some(_)) => Err("give `cron` or `every`, not both"),
            (None, None) => Err("says not when: give `cron = \"0 3 * * *\"` or `every = \"6h\"`"),
        }
    }

    /// Why this can never fire.
    pub fn check(&self) -> Result<(), String> {
        match self {
            When::Every(every) if *every < Duration::from_secs(1) => Err("`every` is at least \"1s\"".to_owned()),
            When::Every(_) => Ok(()),
            When::Cron { text, zone } => {
                text.parse::<croner::Cron>().map_err(|error| {
                    format!("`{text}` is not a cron text ({error}): five fields, such as \"0 3 * * *\"")
                })?;
                jiff::tz::TimeZone::get(zone)
                    .map(|_| ())
                    .map_err(|_| format!("`{zone}` is not a time zone: an IANA name, such as \"Europe/Berlin\""))
            }
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Cron { text, zone } => write!(f, "{text} {zone}"),
            When::Every(every) => write!(f, "every {}", units::show_duration(*every)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    cron: Option<String>,
    zone: Option<String>,
    #[serde(default, deserialize_with = "some_duration")]
    every: Option<Duration>,
    #[serde(default)]
    missed: Missed,
    #[serde(default, deserialize_with = "units::duration")]
    jitter: Duration,
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    units::duration(deserializer).map(Some)
}

/// `{ cron = … }`, `{ every = … }`, `"0 3 * * *"`, `"every 6h"` or `"off"`.
pub(super) fn schedule<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Schedule>, D::Error> {
    deserializer.deserialize_any(ScheduleVisitor)
}

struct ScheduleVisitor;

impl<'de> Visitor<'de> for ScheduleVisitor {
    type Value = Option<Schedule>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schedule: { cron = \"0 3 * * *\" }, { every = \"6h\" } or \"off\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<Schedule>, E> {
        let when = match text.strip_prefix("every ") {
            _ if text == "off" => return Ok(None),
            Some(every) => When::Every(
                units::parse_duration(every)
                    .ok_or_else(|| E::custom(format!("`{every}` is not a duration, such as in \"every 6h\"")))?,
            ),
            None => When::Cron { text: text.to_owned(), zone: "UTC".to_owned() },
        };
        when.check().map_err(E::custom)?;
        Ok(Some(Schedule { when, missed: Missed::default(), jitter: Duration::ZERO }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<Schedule>, A::Error> {
        let Table { cron, zone, every, missed, jitter } = Table::deserialize(MapAccessDeserializer::new(map))?;
        let when = When::new(cron, zone, every).map_err(A::Error::custom)?;
        when.check().map_err(A::Error::custom)?;
        Ok(Some(Schedule { when, missed, jitter }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    kind: String,
    #[serde(default = "no_params")]
    params: Value,
    cron: Option<String>,
    zone: Option<String>,
    #[serde(default, deserialize_with = "some_duration")]
    every: Option<Duration>,
    #[serde(default)]
    missed: Missed,
    #[serde(default, deserialize_with = "units::duration")]
    jitter: Duration,
}

fn no_params() -> Value {
    Value::Object(serde_json::Map::new())
}

impl<'de> Deserialize<'de> for Planned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Entry { name, kind, params, cron, zone, every, missed, jitter } = Entry::deserialize(deserializer)?;
        let when = When::new(cron, zone, every).map_err(D::Error::custom)?;
        when.check().map_err(D::Error::custom)?;
        if !params.is_object() {
            return Err(D::Error::custom("`params` is a table, such as { iso = \"GB\" }"));
        }
        Ok(Self { name, kind, params, schedule: Schedule { when, missed, jitter } })
    }
}
