//! Transform: the records of one page become rows, or rejects with a reason. Pure computation.
//!
//! ```text
//! record ─┬─▶ catalog_bundles + its countries ─┐
//!         ├─▶ catalog_bundle_groups            ├─▶ Batch
//!         ├─▶ its name among `seen` (of groups)┘
//!         └─▶ Reject { key, reason, raw }, and the others go on
//! ```
//!
//! What a record must have to become a row: a name, a price that is not negative, a duration above zero, and ISO codes
//! that exist. A regional bundle's base is eSIM Go's own region and no country (`"iso": "Europe+"`): it is kept as it
//! stands if the bundle lists the countries it covers, or if the code is also its name.

use std::borrow::Cow;
use std::sync::Arc;

use longshore_actors::domain::Transformed;
use longshore_actors::job::Fault;
use longshore_actors::ledger::Reject;
use longshore_actors::stage::Stage;
use rust_decimal::Decimal;
use serde_json::value::RawValue;

use crate::domains::catalog::model::{
    Answer, Body, BundleRecord, Country, GroupRecord, Listing, NameOnly, Request, Speeds,
};
use crate::domains::catalog::tables::{BUNDLE_GROUPS, BUNDLES, GROUPS};
use crate::domains::iso;
use crate::store::batch::{Batch, Cell, Rows};

/// When a bundle does not say (the recorded answer has no `durationUnit`).
const DURATION_UNIT: &str = "day";

pub struct Transform {
    pages: u32,
    panic_every: Option<u32>,
}

impl Stage for Transform {
    /// Panics on every so-manieth page, for `demo --faults`.
    type Settings = Option<u32>;
    type Input = Answer;
    type Output = Transformed<Batch>;

    async fn open(panic_every: &Option<u32>) -> Result<Self, Fault> {
        Ok(Self { pages: 0, panic_every: *panic_every })
    }

    async fn run(&mut self, answer: Arc<Answer>) -> Result<Transformed<Batch>, Fault> {
        self.pages += 1;
        if let Some(every) = self.panic_every {
            assert!(!self.pages.is_multiple_of(every), "a fault of the demo, on page {} of this worker", self.pages);
        }
        Ok(transform(&answer))
    }
}

fn transform(answer: &Answer) -> Transformed<Batch> {
    let received = answer.bodies.iter().map(Body::len).sum::<usize>() as u64;
    let mut page = Page::new(answer);
    for raw in answer.bodies.iter().flat_map(Body::records) {
        match answer.request {
            Request::Groups => page.group(raw),
            Request::List(_) | Request::Bundle { .. } => page.bundle(raw),
        }
    }
    let rows = [page.groups, page.bundles, page.memberships];
    let rows = rows.into_iter().filter(|rows| !rows.rows.is_empty()).collect();
    let batch = Batch { rows, seen: page.seen, ..Batch::default() };
    Transformed { rejects: page.rejects, ..Transformed::new(batch, received) }
}

/// The page as it fills.
struct Page<'a> {
    /// The group that was asked for. Its answer says all of its members and is no authority on other groups.
    group: Option<&'a Arc<str>>,
    currency: Option<&'a str>,
    groups: Rows,
    bundles: Rows,
    memberships: Rows,
    seen: Vec<String>,
    rejects: Vec<Reject>,
}

impl<'a> Page<'a> {
    fn new(answer: &'a Answer) -> Self {
        let group = match &answer.request {
            Request::List(page) => match &page.of {
                Listing::Group(name) => Some(name),
                Listing::Country(_) => None,
            },
            Request::Groups | Request::Bundle { .. } => None,
        };
        Self {
            group,
            currency: answer.currency.as_deref(),
            groups: Rows::new(&GROUPS),
            bundles: Rows::new(&BUNDLES),
            memberships: Rows::new(&BUNDLE_GROUPS),
            seen: Vec::new(),
            rejects: Vec::new(),
        }
    }

    fn bundle(&mut self, raw: &str) {
        let mut record: BundleRecord = match serde_json::from_str(raw) {
            Ok(record) => record,
            Err(error) => {
                let key = serde_json::from_str::<NameOnly>(raw).ok().map(|record| record.name);
                return self.reject(key, format!("does not fit: {error}"), raw);
            }
        };
        let own_groups = [record.groups.take(), record.group.take()];
        let Some(name) = record.name.take().filter(|name| !name.trim().is_empty()) else {
            return self.reject(None, "no name".to_owned(), raw);
        };
        let (cells, countries) = match row(record, &name, self.currency, raw) {
            Ok(row) => row,
            Err(reason) => return self.reject(Some(name), reason, raw),
        };
        self.bundles.push(cells, vec![countries]);
        match self.group {
            Some(group) => {
                self.memberships.push(vec![Cell::Text(group.to_string()), Cell::Text(name.clone())], Vec::new());
                self.seen.push(name);
            }
            None => {
                for group in own_groups.into_iter().flatten().flatten().filter(|group| !group.is_empty()) {
                    self.memberships.push(vec![Cell::Text(group), Cell::Text(name.clone())], Vec::new());
                }
            }
        }
    }

    fn group(&mut self, raw: &str) {
        let record: GroupRecord = match serde_json::from_str(raw) {
            Ok(record) => record,
            Err(error) => return self.reject(None, format!("does not fit: {error}"), raw),
        };
        match record.name.filter(|name| !name.trim().is_empty()) {
            Some(name) => {
                self.groups.push(vec![Cell::Text(name), text(record.desc), text(record.price_list_url)], Vec::new());
            }
            None => self.reject(None, "no name".to_owned(), raw),
        }
    }

    /// Puts a record aside. It was seen nevertheless: what stands in the table under its key is not removed.
    fn reject(&mut self, key: Option<String>, reason: String, raw: &str) {
        if let (Some(key), Some(_)) = (&key, self.group) {
            self.seen.push(key.clone());
        }
        self.rejects.push(Reject { key, reason, raw: raw.to_owned() });
    }
}

type Cells = Vec<Cell>;

/// The row of a bundle and the rows of its countries, or why there is none.
fn row(record: BundleRecord, name: &str, currency: Option<&str>, raw: &str) -> Result<(Cells, Vec<Cells>), String> {
    let price = price(record.price)?;
    let duration = match record.duration {
        Some(duration) if duration > 0 => duration,
        Some(duration) => return Err(format!("the duration is {duration}: it must be above zero")),
        None => return Err("no duration".to_owned()),
    };
    let unlimited = record.unlimited.unwrap_or(false) || record.data_amount == Some(-1);
    let data_amount = match record.data_amount {
        Some(_) if unlimited => Cell::Null,
        Some(amount) if amount < 0 => return Err(format!("the data amount is {amount}")),
        Some(amount) => Cell::Int(amount),
        None => Cell::Null,
    };
    let allowances = match record.allowances.map(RawValue::get) {
        None => "[]",
        Some(list) if list.starts_with('[') => list,
        Some(_) => return Err("the allowances are no list".to_owned()),
    };
    let countries = countries(record.countries, record.roaming_enabled, name)?;
    let unit = record.duration_unit.filter(|unit| !unit.is_empty());
    let cells = vec![
        Cell::Text(name.to_owned()),
        text(record.description),
        Cell::Bool(unlimited),
        data_amount,
        Cell::Int(duration),
        Cell::Text(unit.unwrap_or_else(|| DURATION_UNIT.to_owned())),
        Cell::Json(speeds(record.speed)),
        record.autostart.map_or(Cell::Null, Cell::Bool),
        Cell::Decimal(price),
        text(currency.map(str::to_owned)),
        text(record.billing_type),
        text(record.image_url),
        Cell::Json(allowances.to_owned()),
        Cell::Json(raw.to_owned()),
    ];
    Ok((cells, countries))
}

fn text(text: Option<String>) -> Cell {
    text.map_or(Cell::Null, Cell::Text)
}

/// Exact, from the digits in the text; a number in quotes is taken too. 2.10 and 2.1 are the same price.
fn price(price: Option<&RawValue>) -> Result<Decimal, String> {
    let Some(digits) = price.map(|price| price.get().trim_matches('"').trim()) else {
        return Err("no price".to_owned());
    };
    match exact(digits) {
        Ok(price) if price.is_sign_negative() && !price.is_zero() => Err(format!("the price is negative: {price}")),
        Ok(price) => Ok(price.normalize()),
        Err(_) => Err(format!("the price is no decimal number: {}", digits.chars().take(40).collect::<String>())),
    }
}

fn exact(digits: &str) -> rust_decimal::Result<Decimal> {
    match digits.split_once(['e', 'E']) {
        // `from_scientific` rounds a base of too many digits; read exactly first, it is an error.
        Some((base, _)) => Decimal::from_str_exact(base).and_then(|_| Decimal::from_scientific(digits)),
        None => Decimal::from_str_exact(digits),
    }
}

/// A JSON list of the speeds, as they were told.
fn speeds(speeds: Option<Speeds>) -> String {
    match speeds {
        Some(Speeds(speeds)) if !speeds.is_empty() => {
            serde_json::to_string(&speeds).expect("a list of strings has no key that is not a string")
        }
        Some(_) | None => "[]".to_owned(),
    }
}

/// Rows of `catalog_bundle_countries`, sorted and without doubles, so that the order they came in changes no hash.
fn countries(base: Option<Vec<Country>>, roaming: Option<Vec<Country>>, bundle: &str) -> Result<Vec<Cells>, String> {
    let (base, roaming) = (base.unwrap_or_default(), roaming.unwrap_or_default());
    let regional = !roaming.is_empty();
    let mut found = Vec::with_capacity(base.len() + roaming.len());
    for country in base {
        let iso = code(&country, regional)?;
        found.push(("base", iso, country));
    }
    for country in roaming {
        let iso = code(&country, false)?;
        found.push(("roaming", iso, country));
    }
    found.sort_by(|(role, iso, _), (other_role, other_iso, _)| (role, iso).cmp(&(other_role, other_iso)));
    found.dedup_by(|(role, iso, _), (other_role, other_iso, _)| role == other_role && iso == other_iso);
    let row = |(role, iso, country): (&str, Cow<str>, Country)| {
        vec![
            Cell::Text(bundle.to_owned()),
            Cell::Text(role.to_owned()),
            Cell::Text(iso.into_owned()),
            text(country.name),
            text(country.region),
        ]
    };
    Ok(found.into_iter().map(row).collect())
}

/// The country's alpha-2 code, or the region that a regional bundle has in its place.
fn code(country: &Country, regional: bool) -> Result<Cow<'static, str>, String> {
    let Some(code) = country.iso.as_deref().map(str::trim).filter(|code| !code.is_empty()) else {
        let name = country.name.as_deref().unwrap_or("a country");
        return Err(format!("no ISO code for {name}"));
    };
    if let Some(iso) = iso::alpha2(code) {
        return Ok(Cow::Borrowed(iso));
    }
    if regional || country.name.as_deref().map(str::trim) == Some(code) {
        return Ok(Cow::Owned(code.to_owned()));
    }
    Err(format!("{code:?} is no ISO country code"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::{Path, PathBuf};

    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::domains::catalog::model::ListPage;
    use crate::store::table::Table;

    /// One golden file: an answer, and what becomes of it.
    #[derive(Deserialize)]
    struct Case {
        /// A group's page, unless it says otherwise.
        request: Option<Request>,
        currency: Option<String>,
        body: Box<RawValue>,
        /// Columns left out are not compared; `raw` must be the record's own text.
        expected: Value,
    }

    fn answer(request: Option<Request>, currency: Option<&str>, body: &str) -> Answer {
        let of = Listing::Group("Standard Fixed".into());
        let request =
            request.unwrap_or(Request::List(ListPage { of, page: 1, per_page: 200, per_call: 200, rows: None }));
        let list = match request {
            Request::Groups => "groups",
            Request::List(_) | Request::Bundle { .. } => "bundles",
        };
        let (body, _) = Body::split(body.to_owned(), list).unwrap();
        Answer { request, bodies: vec![body], currency: currency.map(Arc::from) }
    }

    fn cell(cell: &Cell) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Text(text) => json!(text),
            Cell::Int(int) => json!(int),
            Cell::Bool(bool) => json!(bool),
            Cell::Decimal(decimal) => json!(decimal.to_string()),
            Cell::Json(text) => serde_json::from_str(text).unwrap(),
            Cell::Time(time) => json!(time.0),
        }
    }

    /// Checks kinds and nulls against the table on the way.
    fn rows(batch: &Batch, table: &'static Table) -> Value {
        let rows = batch.rows.iter().filter(|rows| rows.table == table).flat_map(|rows| &rows.rows);
        let object = |columns: &[crate::store::table::Column], cells: &[Cell]| {
            assert_eq!(columns.len(), cells.len(), "{}", table.name);
            let named = columns.iter().zip(cells).map(|(column, value)| {
                assert!(column.nullable || *value != Cell::Null, "{}.{} is null", table.name, column.name);
                (column.name.to_owned(), cell(value))
            });
            named.collect::<serde_json::Map<_, _>>()
        };
        let row = |row: &crate::store::batch::Row| {
            let mut named = object(table.columns, &row.cells);
            assert_eq!(table.details.len(), row.details.len());
            for (detail, rows) in table.details.iter().zip(&row.details) {
                let rows = rows.iter().map(|cells| {
                    assert_eq!(cells[0], row.cells[0], "a detail belongs to its owner");
                    let mut named = object(detail.columns, cells);
                    named.remove(detail.columns[0].name);
                    Value::Object(named)
                });
                named.insert(detail.name.to_owned(), rows.collect());
            }
            Value::Object(named)
        };
        rows.map(row).collect()
    }

    fn outcome(done: &Transformed<Batch>) -> Value {
        let rejects = done.rejects.iter().map(|reject| json!([reject.key, reject.reason]));
        json!({
            "received": done.received,
            "bundles": rows(&done.batch, &BUNDLES),
            "memberships": rows(&done.batch, &BUNDLE_GROUPS),
            "groups": rows(&done.batch, &GROUPS),
            "seen": done.batch.seen,
            "rejects": rejects.collect::<Value>(),
        })
    }

    /// Drops from `actual` the keys that `expected` does not speak of.
    fn narrow(actual: &mut Value, expected: &Value) {
        match (actual, expected) {
            (Value::Object(actual), Value::Object(expected)) => {
                actual.retain(|key, _| expected.contains_key(key));
                actual.iter_mut().for_each(|(key, value)| narrow(value, &expected[key]));
            }
            (Value::Array(actual), Value::Array(expected)) => {
                actual.iter_mut().zip(expected).for_each(|(actual, expected)| narrow(actual, expected));
            }
            (_, _) => {}
        }
    }

    #[test]
    fn a_price_is_exact_or_refused() {
        let read = |text: &str| price(Some(&RawValue::from_string(text.to_owned()).unwrap()));
        for (text, exact) in
            [("1e-3", "0.001"), ("1E2", "100"), ("79228162514264337593543950335e0", "79228162514264337593543950335")]
        {
            assert_eq!(read(text).map(|price| price.to_string()).as_deref(), Ok(exact));
        }
        for text in ["1.23456789012345678901234567890123", "1.23456789012345678901234567890123e1", "1e40", "1e-40"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn golden_answers_become_the_expected_rows() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/catalog");
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty());
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let case: Case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let answer = answer(case.request, case.currency.as_deref(), case.body.get());
            let mut actual = outcome(&transform(&answer));
            narrow(&mut actual, &case.expected);
            assert_eq!(
                actual,
                case.expected,
                "{}:\n{}",
                file.display(),
                serde_json::to_string_pretty(&actual).unwrap()
            );
        }
    }

    #[test]
    fn the_raw_record_is_kept_to_the_letter() {
        let record = r#"{ "name":"a",  "price":1.0e0,"duration":1, "é":"\u00e9" }"#;
        let done = transform(&answer(None, None, &format!("[{record}]")));
        assert_eq!(done.batch.rows[0].rows[0].cells.last(), Some(&Cell::Json(record.to_owned())));
        let bad = r#"{ "name":"a",  "price":-1 }"#;
        assert_eq!(transform(&answer(None, None, &format!("[{bad}]"))).rejects[0].raw, bad);
    }

    #[test]
    fn of_two_records_with_one_name_the_last_wins() {
        let record = |name: &str, duration: u32| format!(r#"{{"name":"{name}","price":1,"duration":{duration}}}"#);
        let body = format!("[{},{},{}]", record("twice", 1), record("Twice", 2), record("twice", 3));
        let done = transform(&answer(None, None, &body));
        let mut bundles: Vec<_> =
            done.batch.rows[0].rows.iter().map(|row| (cell(&row.cells[0]), &row.cells[4])).collect();
        bundles.sort_by_key(|(name, _)| name.to_string());
        assert_eq!(bundles, [(json!("Twice"), &Cell::Int(2)), (json!("twice"), &Cell::Int(3))]);
        assert_eq!((done.received, done.batch.rows[1].rows.len()), (3, 2));
    }

    #[test]
    fn the_order_of_countries_and_the_zeros_of_a_price_change_no_hash() {
        let hash = |body: &str| {
            let done = transform(&answer(None, None, body));
            let row = &done.batch.rows[0].rows[0];
            (row.cells[..13].to_vec(), row.details.clone())
        };
        let one = r#"[{"name":"a","price":2.10,"duration":1,"countries":[{"iso":"TR"},{"iso":"ad"}]}]"#;
        let two = r#"[{"name":"a","price":2.1,"duration":1,"countries":[{"iso":"AND"},{"iso":"TR"},{"iso":"TR"}]}]"#;
        assert_eq!(hash(one), hash(two));
    }

    #[test]
    fn recorded_answers_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/samples/esim-go");
        if !folder.is_dir() {
            println!("skipped: there are no recorded answers at {}", folder.display());
            return;
        }
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();

        let done = transform(&answer(None, Some("USD"), &read("catalogue_v2.5_perPage1_recorded.json")));
        assert_eq!((done.received, done.rejects.len(), done.batch.seen.len()), (1, 0, 1));
        let bundle = &rows(&done.batch, &BUNDLES)[0];
        assert_eq!((&bundle["price"], &bundle["duration_unit"]), (&json!("6.9"), &json!("day")));
        assert_eq!(bundle["speeds"], json!(["2G", "3G", "4G", "5G"]));

        let done = transform(&answer(None, None, &read("bundles_TR_slice_live-values_transcribed.json")));
        assert_eq!((done.received, done.rejects.len()), (5, 0));
        let unlimited = rows(&done.batch, &BUNDLES);
        let unlimited = unlimited.as_array().unwrap().iter().filter(|bundle| bundle["unlimited"] == json!(true));
        assert!(unlimited.clone().all(|bundle| bundle["data_amount_mb"].is_null()) && unlimited.count() == 2);

        let groups = read("organisation_groups_docs-example.json");
        let done = transform(&answer(Some(Request::Groups), None, &groups));
        assert_eq!(rows(&done.batch, &GROUPS).as_array().unwrap().len(), 2);
        assert!(Body::split(read("error_500_recorded.json"), "bundles").is_err());
    }

    /// `cargo test --release --lib -- --ignored --nocapture transform_speed`
    #[test]
    #[ignore = "a measurement"]
    fn transform_speed() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/catalog/list_as_recorded.json");
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
        let recorded = golden["body"]["bundles"][0].to_string();
        let record = |n: usize| recorded.replace("esim_5GB", &format!("esim_{n}GB"));
        let page = |page: usize| {
            let records: Vec<String> = (0..200).map(|n| record(page * 200 + n)).collect();
            format!(r#"{{"bundles":[{}],"pageCount":500,"rows":100000}}"#, records.join(","))
        };
        let pages: Vec<String> = (0..500).map(page).collect();
        let start = std::time::Instant::now();
        let answers: Vec<Answer> = pages.iter().map(|page| answer(None, Some("USD"), page)).collect();
        let split = start.elapsed();
        let start = std::time::Instant::now();
        let rows: usize = answers.iter().map(|answer| transform(answer).batch.rows[0].rows.len()).sum();
        let took = start.elapsed();
        assert_eq!(rows, 100_000);
        println!("split {:?} a bundle, transform {:?} a bundle", split / 100_000, took / 100_000);
    }
}
