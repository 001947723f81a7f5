//! The words of the catalog: what is asked for, what comes back, and how eSIM Go writes it.
//!
//! ```text
//! Request ──client──▶ Body (text + where its records lie) ──▶ Answer ──transform──▶ BundleRecord, GroupRecord
//! ```
//!
//! Sources of the facts are named at each type: *recorded* is an answer of the live API (v2.5, `perPage=1`),
//! *documented* is docs.esim-go.com, *in the wild* is what other people's clients had to tolerate. Where they
//! disagree, all forms are accepted.
//!
//! A page is split into records before anything else is read of it, so that one record that does not fit harms
//! itself alone.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One page of work; what a checkpoint stores as the place to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The account's groups.
    Groups,
    List(ListPage),
    Bundle {
        name: Arc<str>,
    },
}

/// A window of `per_page` records of a listing. Fetched in calls of `per_call`, which is smaller once the upstream
/// refused the size: so page 3 is the same window of records whatever was refused, and a job resumes rightly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPage {
    pub of: Listing,
    /// From 1.
    pub page: u32,
    pub per_page: u32,
    /// Divides `per_page`.
    pub per_call: u32,
    /// Records in the listing when its pages were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// What `/catalogue` is filtered by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listing {
    /// The exact name of a bundle group.
    Group(Arc<str>),
    /// ISO alpha-2; matches bundles that have it as a base country.
    Country(Arc<str>),
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listing::Group(name) => write!(f, "group {name:?}"),
            Listing::Country(iso) => write!(f, "country {iso}"),
        }
    }
}

/// What fetch brings back: one page as it came.
#[derive(Debug)]
pub struct Answer {
    pub request: Request,
    /// One a call.
    pub bodies: Vec<Body>,
    /// Of the organisation, when it could be had.
    pub currency: Option<Arc<str>>,
}

/// The text of an answer and where its records lie in it.
#[derive(Debug)]
pub struct Body {
    text: String,
    records: Vec<Range<usize>>,
    /// The answer is itself the one record.
    pub lone: bool,
}

/// What an answer tells of the whole listing. The bare array tells neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Pages of the size that was asked for.
    pub pages: Option<u64>,
    /// Records in all pages (recorded: `rows` is the number of bundles, not of rows in this page).
    pub rows: Option<u64>,
}

impl Body {
    /// Splits an answer into its records. `list` is the name of the list in it, `bundles` or `groups`. Accepts
    ///
    /// - `{"bundles": [...], "pageCount": 26, "rows": 5148, "pageSize": 200}` (recorded), `null` for an empty list;
    /// - `[...]` (documented);
    /// - the record itself, an object with a `name` and no such list (the detail endpoint).
    pub fn split(text: String, list: &'static str) -> serde_json::Result<(Self, Extent)> {
        let mut reader = serde_json::Deserializer::from_str(&text);
        let envelope = EnvelopeSeed { list }.deserialize(&mut reader)?;
        reader.end()?;
        let (extent, lone) = (envelope.extent, envelope.records.is_none());
        let records = match envelope.records {
            // The records are slices of `text`: their addresses say where.
            Some(records) => records
                .iter()
                .map(|record| {
                    let start = record.get().as_ptr().addr() - text.as_ptr().addr();
                    start..start + record.get().len()
                })
                .collect(),
            None => std::iter::once(0..text.len()).collect(),
        };
        Ok((Self { text, records, lone }, extent))
    }

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

struct Envelope<'a> {
    /// `None`: the answer is itself the record.
    records: Option<Vec<&'a RawValue>>,
    extent: Extent,
}

struct EnvelopeSeed {
    list: &'static str,
}

impl<'de> DeserializeSeed<'de> for EnvelopeSeed {
    type Value = Envelope<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EnvelopeSeed {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {:?}, or a list", self.list)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut records = Vec::new();
        while let Some(record) = seq.next_element()? {
            records.push(record);
        }
        Ok(Envelope { records: Some(records), extent: Extent::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope { records: None, extent: Extent::default() };
        let mut named = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                key if key == self.list => envelope.records = Some(map.next_value::<Option<_>>()?.unwrap_or_default()),
                "pageCount" => envelope.extent.pages = map.next_value()?,
                "rows" => envelope.extent.rows = map.next_value()?,
                key => {
                    named |= key == "name";
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if envelope.records.is_none() && !named {
            return Err(serde::de::Error::missing_field(self.list));
        }
        Ok(envelope)
    }
}

/// A bundle in any of its shapes.
///
/// | field | list (recorded) | detail (in the wild) |
/// | --- | --- | --- |
/// | `countries`, `roamingEnabled` | `[{name, region, iso}]`, null, absent | `[{country: {…}, networks}]` |
/// | `speed` | `["4G"]`, null, absent | `{speeds: ["4G"], potentialSpeeds: []}` |
/// | groups | `groups` | `group` |
///
/// Strings that end as a cell are owned from the start: they are moved and not copied.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a bundle")]
pub struct BundleRecord<'a> {
    pub name: Option<String>,
    pub description: Option<String>,
    pub countries: Option<Vec<Country>>,
    pub roaming_enabled: Option<Vec<Country>>,
    /// Decimal megabytes; -1 for unlimited (in the wild).
    pub data_amount: Option<i64>,
    pub unlimited: Option<bool>,
    pub duration: Option<i64>,
    /// `day` or `month`; absent in the recorded answer.
    pub duration_unit: Option<String>,
    pub speed: Option<Speeds>,
    pub autostart: Option<bool>,
    pub image_url: Option<String>,
    /// A number with a fraction (recorded; the documentation says integer), kept as its own text: a price is never
    /// a float.
    #[serde(borrow)]
    pub price: Option<&'a RawValue>,
    pub groups: Option<Vec<String>>,
    pub group: Option<Vec<String>>,
    pub billing_type: Option<String>,
    #[serde(borrow)]
    pub allowances: Option<&'a RawValue>,
}

/// What can be read of a record that does not fit otherwise.
#[derive(Deserialize)]
pub struct NameOnly {
    pub name: String,
}

/// A country as it stands in a bundle: flat, within `country`, or its bare code (a third party's specification).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Country {
    pub name: Option<String>,
    pub region: Option<String>,
    pub iso: Option<String>,
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountryVisitor)
    }
}

struct CountryVisitor;

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum CountryField {
    Name,
    Region,
    Iso,
    Country,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for CountryVisitor {
    type Value = Country;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a country")
    }

    fn visit_str<E: serde::de::Error>(self, code: &str) -> Result<Country, E> {
        Ok(Country { iso: Some(code.to_owned()), ..Country::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Country, A::Error> {
        let mut country = Country::default();
        while let Some(field) = map.next_key()? {
            match field {
                CountryField::Name => country.name = map.next_value()?,
                CountryField::Region => country.region = map.next_value()?,
                CountryField::Iso => country.iso = map.next_value()?,
                CountryField::Country => country = map.next_value()?,
                CountryField::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(country)
    }
}

/// The network generations of a bundle, from a list or from `{speeds, potentialSpeeds}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Speeds(pub Vec<String>);

impl<'de> Deserialize<'de> for Speeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpeedsVisitor)
    }
}

struct SpeedsVisitor;

impl<'de> Visitor<'de> for SpeedsVisitor {
    type Value = Speeds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of speeds")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Speeds, A::Error> {
        let mut speeds = Vec::new();
        while let Some(speed) = seq.next_element()? {
            speeds.push(speed);
        }
        Ok(Speeds(speeds))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Speeds, A::Error> {
        let mut speeds = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "speeds" {
                speeds = map.next_value::<Option<_>>()?.unwrap_or_default();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Speeds(speeds))
    }
}

/// A bundle group of the account (documented: `/organisation/groups`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a group")]
pub struct GroupRecord {
    pub name: Option<String>,
    #[serde(alias = "description")]
    pub desc: Option<String>,
    pub price_list_url: Option<String>,
}

/// `/organisation`: an account has one organisation as a rule (in the wild: `{"organisations": [{...}]}`).
#[derive(Debug, Deserialize)]
pub struct Organisations {
    pub organisations: Option<Vec<Organisation>>,
}

#[derive(Debug, Deserialize)]
pub struct Organisation {
    /// ISO 4217.
    pub currency: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn split(text: &str) -> (Vec<String>, Extent) {
        let (body, extent) = Body::split(text.to_owned(), "bundles").unwrap();
        (body.records().map(str::to_owned).collect(), extent)
    }

    #[test]
    fn every_shape_of_an_answer_is_split_into_records() {
        let (records, extent) = split(r#" {"bundles":[{"name":"a"}, 7 ],"pageCount":3,"rows":5,"pageSize":2}"#);
        assert_eq!(records, [r#"{"name":"a"}"#, "7"]);
        assert_eq!(extent, Extent { pages: Some(3), rows: Some(5) });

        assert_eq!(split(r#"[{"name":"é"},{"name":"b"}]"#).0, [r#"{"name":"é"}"#, r#"{"name":"b"}"#]);
        assert_eq!(split(r#"{"bundles":null,"pageCount":0,"rows":0}"#).0, Vec::<String>::new());
        assert_eq!(split(r#"{"rows":null,"bundles":[]}"#), (Vec::new(), Extent::default()));
        let detail = r#"{"groups":["x"],"name":"a"}"#;
        assert_eq!(split(detail).0, [detail]);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [r#"{"message":"hm"}"#, "null", "7", r#""bundles""#, r#"{"bundles":{}}"#, r#"{"bundles":[]} x"#] {
            assert!(Body::split(text.to_owned(), "bundles").is_err(), "{text}");
        }
        let cut = Body::split(r#"{"bundles":[{"name":"#.to_owned(), "bundles").unwrap_err();
        assert!(cut.is_eof());
    }

    #[test]
    fn a_request_is_stored_and_read_back() {
        let page = ListPage {
            of: Listing::Group("Standard Fixed".into()),
            page: 2,
            per_page: 200,
            per_call: 50,
            rows: Some(999),
        };
        for request in [Request::Groups, Request::List(page), Request::Bundle { name: "esim_1".into() }] {
            let stored = serde_json::to_value(&request).unwrap();
            assert_eq!(serde_json::from_value::<Request>(stored).unwrap(), request);
        }
    }
}
