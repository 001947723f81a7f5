//! Transform: the records of an answer become rows, or rejects with a reason. Pure computation.
//!
//! ```text
//! league record ─┬─▶ leagues, league_slugs, its provider_sources ─┐
//!                ├─▶ seasons + their season_coverage              ├─▶ Batch
//!                ├─▶ its country, its provider_sources            │
//!                ├─▶ its id, and those of its seasons, in `seen` ─┤
//!                └─▶ Reject { key, reason, raw }; others go on    │
//! a whole list ────▶ its removals, of what was not `seen` ────────┘
//! ```
//!
//! A league is taken with all its seasons or not at all: one bad season rejects it, and what the store holds of it
//! stays as it is.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::civil::Date;
use longshore_actors::domain::Transformed;
use longshore_actors::job::Fault;
use longshore_actors::ledger::Reject;
use longshore_actors::stage::Stage;

use crate::domains::football::PROVIDER;
use crate::domains::football::model::{
    Answer, Body, CountryRecord, Coverage, LeagueRecord, Request, SeasonRecord, Standing, StatusRecord, Subscription,
    country_name, league_id,
};
use crate::domains::football::removal::{COUNTRY, LEAGUE, removals};
use crate::domains::football::tables::{ACCOUNTS, COUNTRIES, LEAGUE_SLUGS, LEAGUES, PROVIDER_SOURCES, SEASONS};
use crate::store::batch::{Batch, Cell, Guard, Rows};

/// Longer names are a mistake; the longest recorded is 46 characters.
const NAME_MAX: usize = 200;
/// Football has been played by rules since 1848.
const YEARS: std::ops::RangeInclusive<i64> = 1800..=2200;

pub struct Transform {
    guard: Guard,
}

impl Stage for Transform {
    /// What may vanish at once without an operator's word.
    type Settings = Guard;
    type Input = Answer;
    type Output = Transformed<Batch>;

    async fn open(guard: &Guard) -> Result<Self, Fault> {
        Ok(Self { guard: *guard })
    }

    async fn run(&mut self, answer: Arc<Answer>) -> Result<Transformed<Batch>, Fault> {
        Ok(transform(&answer, self.guard))
    }
}

fn transform(answer: &Answer, guard: Guard) -> Transformed<Batch> {
    let received = answer.body.len() as u64;
    let mut page = Page::new();
    match answer.request {
        Request::Leagues { .. } => page.leagues(&answer.body, &answer.standing),
        Request::Countries { .. } => page.countries(&answer.body),
        Request::Status => page.accounts(&answer.body),
    }
    let Page { rows, seen, rejects } = page;
    let AllRows { countries, leagues, slugs, seasons, sources, accounts } = rows;
    let rows = [countries, leagues, slugs, seasons, sources, accounts];
    let rows = rows.into_iter().filter(|rows| !rows.is_empty()).collect();
    let removals = if answer.whole { removals(answer.request, guard) } else { Vec::new() };
    Transformed { rejects, ..Transformed::new(Batch { rows, seen, removals, ..Batch::default() }, received) }
}

/// The answer's rows as they come.
struct Page {
    rows: AllRows,
    seen: Vec<String>,
    rejects: Vec<Reject>,
}

struct AllRows {
    countries: Rows,
    leagues: Rows,
    slugs: Rows,
    seasons: Rows,
    sources: Rows,
    accounts: Rows,
}

/// A league that fits.
#[derive(Debug)]
struct League {
    id: i64,
    name: String,
    kind: &'static str,
    logo: Option<String>,
    country: CountryRecord,
    /// `None`: nothing is said of them, and those that stand stay.
    seasons: Option<Vec<Season>>,
}

#[derive(Debug)]
struct Season {
    year: i64,
    start: Date,
    end: Date,
    current: bool,
    coverage: Coverage,
}

impl Page {
    fn new() -> Self {
        let rows = AllRows {
            countries: Rows::new(&COUNTRIES),
            leagues: Rows::new(&LEAGUES),
            slugs: Rows::new(&LEAGUE_SLUGS),
            seasons: Rows::new(&SEASONS),
            sources: Rows::new(&PROVIDER_SOURCES),
            accounts: Rows::new(&ACCOUNTS),
        };
        Self { rows, seen: Vec::new(), rejects: Vec::new() }
    }

    fn leagues(&mut self, body: &Body, standing: &Standing) {
        let mut leagues = Vec::new();
        for raw in body.records() {
            match read_league(raw) {
                Ok(league) => leagues.push(league),
                Err(reason) => {
                    let key = league_id(raw).map(|id| id.to_string());
                    // It was seen nevertheless: what stands under its id is not removed.
                    self.seen.extend(key.clone());
                    self.reject(key, reason, raw);
                }
            }
        }
        // The list comes in any order. Of two new leagues that want one slug the elder gets it; of two records with
        // one id the last wins.
        leagues.sort_by_key(|league| league.id);
        let told = leagues.iter().filter(|league| league.seasons.is_some());
        let taken: HashSet<i64> = told.map(|league| league.id).collect();
        let mut slugs = standing.slugs.clone();
        let mut countries = BTreeMap::new();
        for mut league in leagues {
            let slug = slugs.of(league.id, &league.country.name, &league.name);
            for season in league.seasons.take().unwrap_or_default() {
                self.season(league.id, season);
            }
            self.league(league, slug, &mut countries);
        }
        for country in countries.into_values() {
            self.country(country);
        }
        // Seasons of leagues that are not read here, or without them, stand and fall with their league.
        let others = standing.seasons.iter().filter(|(league, _)| !taken.contains(league));
        self.seen.extend(others.flat_map(|(_, seasons)| seasons.iter().cloned()));
    }

    fn league(&mut self, league: League, slug: String, countries: &mut BTreeMap<String, CountryRecord>) {
        let League { id, name, kind, logo, country, seasons: _ } = league;
        self.seen.push(id.to_string());
        self.source(LEAGUE, id.to_string(), logo.clone());
        self.rows.slugs.push(vec![Cell::Int(id), Cell::Text(slug.clone())], Vec::new());
        let cells = vec![
            Cell::Int(id),
            Cell::Text(slug),
            Cell::Text(name),
            Cell::Text(kind.to_owned()),
            Cell::Text(country.name.clone()),
            text(logo),
        ];
        self.rows.leagues.push(cells, Vec::new());
        countries.entry(country.name.clone()).or_insert(country);
    }

    fn season(&mut self, league: i64, season: Season) {
        let Season { year, start, end, current, coverage } = season;
        let id = format!("{league}/{year}/{start}");
        let key = [Cell::Int(league), Cell::Int(year), Cell::Text(start.to_string())];
        let covered: Vec<Cell> = key.iter().cloned().chain(flags(&coverage).map(Cell::Bool)).collect();
        let rest =
            [Cell::Text(end.to_string()), Cell::Bool(current), Cell::Text(PROVIDER.to_owned()), Cell::Text(id.clone())];
        self.rows.seasons.push(key.into_iter().chain(rest).collect(), vec![vec![covered]]);
        self.seen.push(id);
    }

    fn countries(&mut self, body: &Body) {
        for raw in body.records() {
            match read_country(raw) {
                Ok(country) => {
                    self.seen.push(country.name.clone());
                    self.country(country);
                }
                Err(reason) => {
                    let key = country_name(raw);
                    // It was seen nevertheless, as a league is.
                    self.seen.extend(key.clone());
                    self.reject(key, reason, raw);
                }
            }
        }
    }

    fn country(&mut self, country: CountryRecord) {
        let CountryRecord { name, code, flag } = country;
        // The provider has no other id of a country.
        self.source(COUNTRY, name.clone(), flag.clone());
        self.rows.countries.push(vec![Cell::Text(name), text(code), text(flag)], Vec::new());
    }

    fn accounts(&mut self, body: &Body) {
        for raw in body.records() {
            let StatusRecord { subscription, requests } = match serde_json::from_str(raw) {
                Ok(record) => record,
                // Without the record: it holds the name and address of the account's owner.
                Err(error) => {
                    self.reject(None, format!("does not fit: line {}, column {}", error.line(), error.column()), "{}");
                    continue;
                }
            };
            let Subscription { plan, end, active } =
                subscription.unwrap_or(Subscription { plan: None, end: None, active: None });
            let cells = vec![
                Cell::Text(PROVIDER.to_owned()),
                text(plan),
                active.map_or(Cell::Null, Cell::Bool),
                text(end),
                Cell::Int(i64::from(requests.current)),
                Cell::Int(i64::from(requests.limit_day)),
            ];
            self.rows.accounts.push(cells, Vec::new());
        }
    }

    /// The ids are our keys: what a row came from is the record of the same name.
    fn source(&mut self, entity: &str, id: String, url: Option<String>) {
        let (provider, entity) = (Cell::Text(PROVIDER.to_owned()), Cell::Text(entity.to_owned()));
        self.rows.sources.push(vec![provider, entity, Cell::Text(id.clone()), Cell::Text(id), text(url)], Vec::new());
    }

    fn reject(&mut self, key: Option<String>, reason: String, raw: &str) {
        self.rejects.push(Reject { key, reason, raw: raw.to_owned() });
    }
}

fn text(text: Option<String>) -> Cell {
    text.map_or(Cell::Null, Cell::Text)
}

/// In the order of the columns of `season_coverage`.
fn flags(coverage: &Coverage) -> [bool; 12] {
    let Coverage { fixtures, standings, players, top_scorers, top_assists, top_cards, injuries, predictions, odds } =
        coverage;
    let of = |flag: fn(&super::model::Fixtures) -> Option<bool>| fixtures.as_ref().and_then(flag);
    [
        of(|fixtures| fixtures.events),
        of(|fixtures| fixtures.lineups),
        of(|fixtures| fixtures.statistics_fixtures),
        of(|fixtures| fixtures.statistics_players),
        *standings,
        *players,
        *top_scorers,
        *top_assists,
        *top_cards,
        *injuries,
        *predictions,
        *odds,
    ]
    .map(Option::unwrap_or_default)
}

fn read_league(raw: &str) -> Result<League, String> {
    let record: LeagueRecord = serde_json::from_str(raw).map_err(|error| format!("does not fit: {error}"))?;
    let LeagueRecord { league, country, seasons } = record;
    if league.id <= 0 {
        return Err(format!("the id is {}: it must be above zero", league.id));
    }
    let kind = match league.kind.as_str() {
        "League" => "League",
        "Cup" => "Cup",
        other => return Err(format!("the type is {:?}: neither League nor Cup", shown(other))),
    };
    Ok(League {
        id: league.id,
        name: named("name", &league.name)?,
        kind,
        logo: nonempty(league.logo),
        country: checked_country(country)?,
        seasons: seasons.map(|list| list.into_iter().map(checked_season).collect()).transpose()?,
    })
}

fn checked_season(season: SeasonRecord) -> Result<Season, String> {
    let SeasonRecord { year, start, end, current, coverage } = season;
    if !YEARS.contains(&year) {
        return Err(format!("a season is of the year {year}: it must be from {} to {}", YEARS.start(), YEARS.end()));
    }
    let (start, end) = (date(year, "start", &start)?, date(year, "end", &end)?);
    if start > end {
        return Err(format!("the season {year} ends on {end}, before it starts on {start}"));
    }
    Ok(Season { year, start, end, current, coverage: coverage.unwrap_or_default() })
}

fn date(year: i64, which: &str, text: &str) -> Result<Date, String> {
    let date = if text.len() == "2024-08-16".len() { text.parse().ok() } else { None };
    date.ok_or_else(|| format!("the {which} of the season {year} is no date: {:?}", shown(text)))
}

fn read_country(raw: &str) -> Result<CountryRecord, String> {
    serde_json::from_str(raw).map_err(|error| format!("does not fit: {error}")).and_then(checked_country)
}

fn checked_country(country: CountryRecord) -> Result<CountryRecord, String> {
    let CountryRecord { name, code, flag } = country;
    Ok(CountryRecord { name: named("country's name", &name)?, code: nonempty(code), flag: nonempty(flag) })
}

fn named(which: &str, name: &str) -> Result<String, String> {
    match name.trim() {
        "" => Err(format!("the {which} is empty")),
        name if name.chars().count() > NAME_MAX => Err(format!("the {which} is longer than {NAME_MAX}")),
        name if name.chars().any(char::is_control) => Err(format!("the {which} has control characters")),
        name => Ok(name.to_owned()),
    }
}

fn nonempty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

/// So much of a wrong value as tells what it is.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::{Path, PathBuf};

    use serde::Deserialize;
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;
    use crate::domains::football::model::Envelope;
    use crate::domains::football::plan;
    use crate::store::batch::Row;
    use crate::store::table::{Column, Table};

    /// One golden file: an answer, what stood before it, and what becomes of it.
    #[derive(Deserialize)]
    struct Case {
        /// The kind of job, without its domain.
        request: String,
        /// Slugs that stand, by id of the league.
        #[serde(default)]
        slugs: BTreeMap<i64, String>,
        /// Seasons that stand, by id of the league.
        #[serde(default)]
        seasons: BTreeMap<i64, Vec<String>>,
        body: Box<RawValue>,
        /// Columns left out are not compared.
        expected: Value,
    }

    const LEAGUES_ASKED: Request = Request::Leagues { allow_removal: false };
    const GUARD: Guard = Guard { rows: 50, ratio: 0.2, lifted: false };

    fn transformed(answer: &Answer) -> Transformed<Batch> {
        transform(answer, GUARD)
    }

    fn answer(request: Request, body: &str) -> Answer {
        let body = Envelope::read(body.to_owned()).unwrap().body.unwrap();
        Answer { request, body, whole: true, standing: Standing::default() }
    }

    fn cell(cell: &Cell) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Text(text) => json!(text),
            Cell::Int(int) => json!(int),
            Cell::Bool(bool) => json!(bool),
            Cell::Decimal(_) | Cell::Json(_) | Cell::Time(_) => panic!("football has no such cell"),
        }
    }

    fn object(columns: &[Column], cells: &[Cell]) -> serde_json::Map<String, Value> {
        assert_eq!(columns.len(), cells.len());
        let named = columns.iter().zip(cells).map(|(column, value)| {
            assert!(column.nullable || *value != Cell::Null, "{} is null", column.name);
            (column.name.to_owned(), cell(value))
        });
        named.collect()
    }

    /// A detail of one row stands as the list of the flags that are set.
    fn row(table: &Table, row: &Row) -> Value {
        let mut named = object(table.columns, &row.cells);
        for (detail, rows) in table.details.iter().zip(&row.details) {
            let flags = object(&detail.columns[detail.key..], &rows[0][detail.key..]);
            let set = flags.into_iter().filter(|(_, set)| *set == json!(true)).map(|(name, _)| name);
            named.insert(detail.name.to_owned(), set.collect());
        }
        Value::Object(named)
    }

    fn rows(done: &Transformed<Batch>, table: &'static Table) -> Value {
        let of = done.batch.rows.iter().filter(|rows| rows.table == table).flat_map(|rows| &rows.rows);
        of.map(|found| row(table, found)).collect()
    }

    fn outcome(done: &Transformed<Batch>) -> Value {
        let mut seen = done.batch.seen.clone();
        seen.sort();
        let rejects = done.rejects.iter().map(|reject| json!([reject.key, reject.reason]));
        json!({
            "received": done.received,
            "countries": rows(done, &COUNTRIES),
            "leagues": rows(done, &LEAGUES),
            "seasons": rows(done, &SEASONS),
            "sources": rows(done, &PROVIDER_SOURCES),
            "slugs": rows(done, &LEAGUE_SLUGS),
            "accounts": rows(done, &ACCOUNTS),
            "repeated": done.batch.rows.iter().map(Rows::duplicates).sum::<u64>(),
            "seen": seen,
            "removals": done.batch.removals.len(),
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
    fn golden_answers_become_the_expected_rows() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/football");
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty());
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let case: Case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let request = plan::read(&format!("football.{}", case.request), &Value::Null).unwrap();
            let mut answer = answer(request, case.body.get());
            case.slugs.into_iter().for_each(|(league, slug)| answer.standing.slugs.insert(league, slug));
            answer.standing.seasons.extend(case.seasons);
            let mut actual = outcome(&transformed(&answer));
            narrow(&mut actual, &case.expected);
            let shown = serde_json::to_string_pretty(&actual).unwrap();
            assert_eq!(actual, case.expected, "{}:\n{shown}", file.display());
        }
    }

    #[test]
    fn a_reject_keeps_its_record_to_the_letter_and_an_account_does_not() {
        let bad = r#"{ "league":{"id":3,  "name":"\u00e9"} }"#;
        let done = transformed(&answer(LEAGUES_ASKED, &format!(r#"{{"response":[{bad}]}}"#)));
        assert_eq!(done.rejects[0].raw, bad);
        let account = r#"{"response":{"account":{"email":"someone@example.org"},"requests":7}}"#;
        let done = transformed(&answer(Request::Status, account));
        assert!(!format!("{:?}", done.rejects).contains("example.org"), "{:?}", done.rejects);
    }

    #[test]
    fn the_order_of_the_list_changes_nothing() {
        let league = |id: u32| {
            format!(
                r#"{{"league":{{"id":{id},"name":"Cup","type":"Cup","logo":null}},
                   "country":{{"name":"Wales","code":"GB","flag":null}},"seasons":[]}}"#
            )
        };
        let list = |ids: [u32; 3]| format!(r#"{{"response":[{}]}}"#, ids.map(league).join(","));
        let done = |ids| outcome(&transformed(&answer(LEAGUES_ASKED, &list(ids))));
        assert_eq!(done([3, 1, 2]), done([2, 3, 1]));
        assert_eq!(done([3, 1, 2])["leagues"][0]["slug"], "wales-cup");
        assert_eq!(done([3, 1, 2])["leagues"][2]["slug"], "wales-cup-3");
    }

    #[test]
    fn recorded_answers_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/samples/api-football");
        if !folder.is_dir() {
            println!("skipped: there are no recorded answers at {}", folder.display());
            return;
        }
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();

        let whole = read("leagues_current-true_fantasyleague.json");
        let done = transformed(&answer(LEAGUES_ASKED, &whole));
        assert_eq!((done.received, done.rejects.len()), (1_118, 0));
        let leagues = rows(&done, &LEAGUES);
        let leagues = leagues.as_array().unwrap();
        let slugs: HashSet<&str> = leagues.iter().map(|league| league["slug"].as_str().unwrap()).collect();
        assert_eq!((leagues.len(), slugs.len()), (1_118, 1_118), "every slug is another one");
        assert!(slugs.iter().all(|slug| slug.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')));
        assert_eq!(leagues.iter().filter(|league| league["country"] == "World").count(), 150);
        let countries = rows(&done, &COUNTRIES);
        let nameless = countries.as_array().unwrap().iter().filter(|country| country["code"].is_null());
        assert_eq!(nameless.map(|country| &country["name"]).collect::<Vec<_>>(), [&json!("World")]);

        let items = read("leagues_response_items_multi-season_popular_leagues_footballscoreapp.json");
        let several = transformed(&answer(LEAGUES_ASKED, &format!(r#"{{"response":{items}}}"#)));
        assert_eq!((several.received, several.rejects.len()), (10, 0));
        for (done, seasons) in [(&done, 1_118), (&several, 87)] {
            assert_eq!(rows(done, &SEASONS).as_array().unwrap().len(), seasons);
            assert_eq!(done.batch.rows.iter().map(Rows::duplicates).sum::<u64>(), 0);
        }

        let of_a_year = "leagues_type-league_season-2021_DoBet.json";
        if !folder.join(of_a_year).is_file() {
            println!("skipped: there is no {of_a_year}, which has one league with two seasons of a year");
            return;
        }
        let done = transformed(&answer(LEAGUES_ASKED, &read(of_a_year)));
        assert_eq!((done.received, done.rejects.len()), (576, 0));
        let seasons = rows(&done, &SEASONS);
        let twice = seasons.as_array().unwrap().iter().filter(|season| season["league_id"] == 542);
        assert_eq!(twice.map(|season| &season["year"]).collect::<Vec<_>>(), [2021, 2021]);
    }

    #[test]
    fn a_league_without_a_list_of_seasons_keeps_those_that_stand() {
        let bare = r#"{"league":{"id":1,"name":"Cup","type":"Cup","logo":null},"country":{"name":"Wales","code":"GB","flag":null}}"#;
        let mut answer = answer(LEAGUES_ASKED, &format!(r#"{{"response":[{bare}]}}"#));
        answer.standing.seasons.insert(1, vec!["1/2024/2024-08-01".to_owned()]);
        let done = transformed(&answer);
        assert_eq!(done.rejects.len(), 0);
        assert!(done.batch.seen.contains(&"1/2024/2024-08-01".to_owned()), "{:?}", done.batch.seen);
    }

    #[test]
    fn only_a_whole_list_removes() {
        let list = r#"{"response":[{"name":"Wales","code":"GB","flag":null}]}"#;
        let countries = Request::Countries { allow_removal: false };
        for (request, whole, count) in [
            (LEAGUES_ASKED, true, 2),
            (LEAGUES_ASKED, false, 0),
            (countries, true, 1),
            (countries, false, 0),
            (Request::Status, true, 0),
        ] {
            let done = transformed(&Answer { whole, ..answer(request, list) });
            assert_eq!(done.batch.removals.len(), count, "{request:?} {whole}");
            assert!(done.batch.removals.iter().all(|removal| removal.guard == GUARD), "{request:?}");
        }
    }
}
