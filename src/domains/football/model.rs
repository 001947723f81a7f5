//! The words of football: what is asked for, what comes back, and how API-Football writes it.
//!
//! ```text
//! Request ──client──▶ Body (text + where its records lie) ──▶ Answer ──transform──▶ LeagueRecord, CountryRecord, …
//! ```
//!
//! The envelope is the same for all: `{get, parameters, errors, results, paging, response}`. `errors` is `[]` when all
//! is well and an object otherwise, under HTTP 200; `parameters` is `[]` when there were none and an object otherwise
//! (recorded). `response` is a list, and an object for `/status`.
//!
//! An answer is split into records before anything else is read of it, so that one record that does not fit harms
//! itself alone.

use std::collections::HashMap;
use std::ops::Range;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domains::football::slug::Slugs;

/// What a job comes down to: its one page, and what a checkpoint stores of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Leagues {
        /// An operator's word that this many may vanish: lifts the removal guard.
        allow_removal: bool,
    },
    Countries {
        /// The same.
        allow_removal: bool,
    },
    Status,
}

impl Request {
    pub fn path(self) -> &'static str {
        match self {
            Request::Leagues { .. } => "/leagues",
            Request::Countries { .. } => "/countries",
            Request::Status => "/status",
        }
    }

    /// What its answer is a list of.
    pub fn plural(self) -> &'static str {
        match self {
            Request::Leagues { .. } => "leagues",
            Request::Countries { .. } => "countries",
            Request::Status => "accounts",
        }
    }

    /// What it keeps in step, as `sync_state` names it.
    pub fn entity(self) -> &'static str {
        match self {
            Request::Leagues { .. } => "leagues",
            Request::Countries { .. } => "countries",
            Request::Status => "status",
        }
    }

    /// Whether it counts against the day's quota. `/status` does not (documented).
    pub fn is_counted(self) -> bool {
        match self {
            Request::Leagues { .. } | Request::Countries { .. } => true,
            Request::Status => false,
        }
    }
}

/// What fetch brings back.
#[derive(Debug)]
pub struct Answer {
    pub request: Request,
    pub body: Body,
    /// It is the whole list, and not an empty one: what it leaves out is gone.
    pub whole: bool,
    pub standing: Standing,
}

/// What the store holds before an answer is written.
#[derive(Debug, Default)]
pub struct Standing {
    pub slugs: Slugs,
    /// `provider_id`s of the live seasons of each league.
    pub seasons: HashMap<i64, Vec<String>>,
}

/// The text of an answer and where its records lie in it.
#[derive(Debug)]
pub struct Body {
    text: String,
    records: Vec<Range<usize>>,
}

/// What an answer tells of the whole list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub results: Option<u64>,
    pub pages: Option<u64>,
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Envelope {
    pub errors: Errors,
    /// `None`: there is no `response`.
    pub body: Option<Body>,
    pub extent: Extent,
}

impl Envelope {
    /// Takes an answer apart and splits it into its records.
    pub fn read(text: String) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(default)]
            errors: Errors,
            results: Option<u64>,
            #[serde(default)]
            paging: Value,
            #[serde(borrow)]
            response: Option<&'a RawValue>,
        }
        let Raw { errors, results, paging, response } = serde_json::from_str(&text)?;
        let extent = Extent { results, pages: paging["total"].as_u64() };
        let records = response.map(|response| {
            // Records are slices of `text`: their addresses say where.
            let place = |record: &str| {
                let start = record.as_ptr().addr() - text.as_ptr().addr();
                start..start + record.len()
            };
            match response.get() {
                list if list.starts_with('[') => serde_json::from_str::<Vec<&RawValue>>(list)
                    .map(|records| records.into_iter().map(|record| place(record.get())).collect()),
                record => Ok(std::iter::once(place(record)).collect()),
            }
        });
        let records: Option<Vec<_>> = records.transpose()?;
        let body = records.map(|records| Body { text, records });
        Ok(Envelope { errors, body, extent })
    }
}

/// Keys and texts of what the provider complains of; none in a good answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for Errors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Errors(match Value::deserialize(deserializer)? {
            Value::Null | Value::Bool(false) => Vec::new(),
            Value::Object(errors) => errors.into_iter().map(|(key, value)| (key, text(value))).collect(),
            Value::Array(errors) => errors.into_iter().map(|value| ("errors".to_owned(), text(value))).collect(),
            Value::String(error) if error.is_empty() => Vec::new(),
            other @ (Value::Bool(true) | Value::Number(_) | Value::String(_)) => {
                vec![("errors".to_owned(), text(other))]
            }
        }))
    }
}

impl Body {
    pub fn records(&self) -> impl Iterator<Item = &str> {
        self.records.iter().map(|range| &self.text[range.clone()])
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// A league with its country and all its seasons (recorded).
#[derive(Debug, Deserialize)]
#[serde(expecting = "a league")]
pub struct LeagueRecord {
    pub league: League,
    pub country: CountryRecord,
    pub seasons: Option<Vec<SeasonRecord>>,
}

#[derive(Debug, Deserialize)]
pub struct League {
    pub id: i64,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub logo: Option<String>,
}

/// In a league and in `/countries` alike. `code` and `flag` are null for `World` (recorded).
#[derive(Debug, Deserialize)]
#[serde(expecting = "a country")]
pub struct CountryRecord {
    pub name: String,
    pub code: Option<String>,
    pub flag: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "a season")]
pub struct SeasonRecord {
    pub year: i64,
    pub start: String,
    pub end: String,
    #[serde(default)]
    pub current: bool,
    pub coverage: Option<Coverage>,
}

/// Flags that are not there are not set; those that are new are not read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Coverage {
    pub fixtures: Option<Fixtures>,
    pub standings: Option<bool>,
    pub players: Option<bool>,
    pub top_scorers: Option<bool>,
    pub top_assists: Option<bool>,
    pub top_cards: Option<bool>,
    pub injuries: Option<bool>,
    pub predictions: Option<bool>,
    pub odds: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Fixtures {
    pub events: Option<bool>,
    pub lineups: Option<bool>,
    pub statistics_fixtures: Option<bool>,
    pub statistics_players: Option<bool>,
}

/// `/status`, without the name and address of the account's owner, which nobody here needs (documented).
#[derive(Debug, Deserialize)]
#[serde(expecting = "an account")]
pub struct StatusRecord {
    pub subscription: Option<Subscription>,
    pub requests: Requests,
}

#[derive(Debug, Deserialize)]
pub struct Subscription {
    pub plan: Option<String>,
    pub end: Option<String>,
    pub active: Option<bool>,
}

/// Of the day.
#[derive(Debug, Deserialize)]
pub struct Requests {
    pub current: u32,
    pub limit_day: u32,
}

/// The id of a league's record that does not fit otherwise: a number, or one in quotes.
pub fn league_id(raw: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Outer {
        league: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        id: Value,
    }
    let id = serde_json::from_str::<Outer>(raw).ok()?.league.id;
    id.as_i64().or_else(|| id.as_str()?.trim().parse().ok()).filter(|id| *id > 0)
}

/// The name of a country's record that does not fit otherwise.
pub fn country_name(raw: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let Named { name } = serde_json::from_str(raw).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn split(text: &str) -> Envelope {
        Envelope::read(text.to_owned()).unwrap()
    }

    fn records(text: &str) -> Vec<String> {
        split(text).body.unwrap().records().map(str::to_owned).collect()
    }

    #[test]
    fn every_shape_of_an_answer_is_split_into_records() {
        let bare = r#"{"get":"leagues","parameters":[],"errors":[],"results":2,"paging":{"current":1,"total":1},
            "response":[{"league":{"id":1}}, 7 ]}"#;
        assert_eq!(records(bare), [r#"{"league":{"id":1}}"#, "7"]);
        assert_eq!(split(bare).extent, Extent { results: Some(2), pages: Some(1) });
        assert_eq!(split(bare).errors, Errors::default());

        let asked = r#"{"parameters":{"current":"True"},"errors":{},"response":[]}"#;
        assert_eq!((records(asked).len(), split(asked).errors), (0, Errors::default()));
        assert_eq!(split(asked).extent, Extent::default());
        let odd = r#"{"errors":[],"results":0,"paging":[],"response":[]}"#;
        assert_eq!(split(odd).extent, Extent { results: Some(0), pages: None });
        assert_eq!(records(r#"{"errors":[],"response": {"requests":{}} }"#), [r#"{"requests":{}}"#]);
        assert!(split(r#"{"message":"hm"}"#).body.is_none());
        for text in ["null", "7", "[]", r#"{"errors":[],"response":[1"#, r#"{"response":[]} x"#, r#"{"results":-1}"#] {
            assert!(Envelope::read(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_are_read_in_each_form() {
        let errors = |text: &str| split(&format!(r#"{{"errors":{text},"response":[]}}"#)).errors.0;
        for none in ["[]", "{}", "null", "false", r#""""#] {
            assert_eq!(errors(none), [], "{none}");
        }
        let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        assert_eq!(errors(r#"{"token":"no key"}"#), [pair("token", "no key")]);
        assert_eq!(errors(r#"["no key"]"#), [pair("errors", "no key")]);
        assert_eq!(errors(r#""no key""#), [pair("errors", "no key")]);
        assert_eq!(errors(r#"{"b":["x"],"a":"y"}"#), [pair("a", "y"), pair("b", r#"["x"]"#)]);
    }

    #[test]
    fn the_id_of_a_bad_record_is_read_if_it_is_one() {
        assert_eq!(league_id(r#"{"league":{"id":39,"name":7}}"#), Some(39));
        assert_eq!(league_id(r#"{"league":{"id":" 39 "},"country":null}"#), Some(39));
        for none in [r#"{"league":{"id":0}}"#, r#"{"league":{"id":null}}"#, r#"{"league":{}}"#, "7", r#"{"id":3}"#] {
            assert_eq!(league_id(none), None, "{none}");
        }
    }

    #[test]
    fn the_name_of_a_bad_country_is_read_if_it_has_one() {
        assert_eq!(country_name(r#"{"name":" Wales ","code":7}"#), Some("Wales".to_owned()));
        for none in [r#"{"name":" "}"#, r#"{"name":7}"#, r#"{"code":"GB"}"#, "7"] {
            assert_eq!(country_name(none), None, "{none}");
        }
    }

    #[test]
    fn a_request_is_stored_and_read_back() {
        let of_lists = [false, true]
            .map(|allow_removal| [Request::Leagues { allow_removal }, Request::Countries { allow_removal }]);
        for request in of_lists.into_iter().flatten().chain([Request::Status]) {
            let stored = serde_json::to_value(request).unwrap();
            assert_eq!(serde_json::from_value::<Request>(stored).unwrap(), request);
        }
    }
}
