//! The rows of the store, held against what the sandbox says a correct sync must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use longshore::sandbox::{Expected, ExpectedFootball, ExpectedLeague, ExpectedSeason};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use rust_decimal::Decimal;

use super::postgres::Server;

pub struct Rows<'a> {
    at: At<'a>,
}

enum At<'a> {
    File(Connection),
    Database(&'a Server, String),
}

/// A bundle as the sandbox describes it and the tables hold it.
#[derive(Debug, PartialEq)]
struct Bundle {
    price: Decimal,
    currency: Option<String>,
    duration: i64,
    unlimited: bool,
    data_amount_mb: Option<i64>,
    countries: BTreeSet<String>,
    roaming: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Rows<'static> {
    pub fn open(path: &Path) -> Self {
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        conn.busy_timeout(super::DEADLINE).unwrap();
        Self { at: At::File(conn) }
    }
}

impl<'a> Rows<'a> {
    /// Of the database that `url` names on this server.
    pub fn on(server: &'a Server, url: &str) -> Self {
        let name = url.rsplit('/').next().unwrap().to_owned();
        Self { at: At::Database(server, name) }
    }

    /// Where values have types.
    fn file(&self) -> &Connection {
        let At::File(conn) = &self.at else { panic!("asked of a file alone") };
        conn
    }

    /// The answer as texts; what is null is empty.
    pub fn ask(&self, sql: &str) -> Vec<Vec<String>> {
        match &self.at {
            At::Database(server, name) => {
                let answer = server.psql(name, sql);
                answer.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
            }
            At::File(conn) => {
                let mut statement = conn.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
                let columns = statement.column_count();
                let rows = statement.query_map([], |row| {
                    (0..columns)
                        .map(|at| {
                            Ok(match row.get_ref(at)? {
                                ValueRef::Null => String::new(),
                                ValueRef::Integer(number) => number.to_string(),
                                ValueRef::Real(number) => number.to_string(),
                                ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into(),
                            })
                        })
                        .collect()
                });
                rows.unwrap().map(Result::unwrap).collect()
            }
        }
    }

    pub fn number(&self, sql: &str) -> i64 {
        self.ask(sql)[0][0].parse().unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub fn texts(&self, sql: &str) -> Vec<String> {
        self.ask(sql).into_iter().map(|mut row| row.swap_remove(0)).collect()
    }

    /// Every row of the domain's tables, so that two moments can be compared.
    pub fn dump(&self) -> Vec<String> {
        ["catalog_groups", "catalog_bundles", "catalog_bundle_countries", "catalog_bundle_groups"]
            .iter()
            .flat_map(|table| self.dump_of(table))
            .collect()
    }

    /// The same of football.
    pub fn dump_football(&self) -> Vec<String> {
        ["countries", "leagues", "seasons", "season_coverage", "provider_sources", "league_slugs"]
            .iter()
            .flat_map(|table| self.dump_of(table))
            .collect()
    }

    pub fn dump_of(&self, table: &str) -> Vec<String> {
        let rows = self.ask(&format!("SELECT * FROM {table} ORDER BY 1, 2, 3"));
        rows.into_iter().map(|row| format!("{table}: {}", row.join(" "))).collect()
    }

    /// Names, prices, spans, countries and memberships are those of the sandbox: none lost, none doubled, none more.
    #[track_caller]
    pub fn equal(&self, expected: &Expected) {
        let wanted: BTreeMap<String, Bundle> = expected
            .stored()
            .map(|(name, bundle)| {
                let all = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
                let bundle = Bundle {
                    price: bundle.price.expect("a stored bundle has a price"),
                    currency: Some(expected.currency.clone()),
                    duration: i64::from(bundle.duration.expect("a stored bundle has a duration")),
                    unlimited: bundle.unlimited,
                    data_amount_mb: (!bundle.unlimited).then_some(bundle.data_amount),
                    countries: all(&bundle.countries),
                    roaming: all(&bundle.roaming),
                    groups: all(&bundle.groups),
                };
                (name.to_owned(), bundle)
            })
            .collect();
        let found = self.bundles();
        let names = |bundles: &BTreeMap<String, Bundle>| bundles.keys().cloned().collect::<BTreeSet<_>>();
        let (have, want) = (names(&found), names(&wanted));
        assert_eq!(want.difference(&have).collect::<Vec<_>>(), Vec::<&String>::new(), "bundles are lost");
        assert_eq!(have.difference(&want).collect::<Vec<_>>(), Vec::<&String>::new(), "bundles are too many");
        for (name, bundle) in &wanted {
            assert_eq!(&found[name], bundle, "{name}");
        }
    }

    /// Leagues with all their seasons and flags are those of the sandbox: none lost, none doubled, none more.
    #[track_caller]
    pub fn equal_football(&self, expected: &ExpectedFootball) {
        let found = self.leagues();
        let ids = |leagues: &BTreeMap<u32, ExpectedLeague>| leagues.keys().copied().collect::<BTreeSet<_>>();
        let (have, want) = (ids(&found), ids(&expected.leagues));
        assert_eq!(want.difference(&have).collect::<Vec<_>>(), Vec::<&u32>::new(), "leagues are lost");
        assert_eq!(have.difference(&want).collect::<Vec<_>>(), Vec::<&u32>::new(), "leagues are too many");
        for (id, league) in &expected.leagues {
            assert_eq!(&found[id], league, "{id}");
        }
    }

    fn leagues(&self) -> BTreeMap<u32, ExpectedLeague> {
        let sql = "SELECT id, name, type, country, logo_url FROM leagues WHERE removed_at IS NULL";
        let mut statement = self.file().prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            let league = ExpectedLeague {
                name: row.get(1)?,
                kind: row.get(2)?,
                country: row.get(3)?,
                logo: row.get(4)?,
                seasons: Vec::new(),
            };
            Ok((row.get(0)?, league))
        });
        let mut leagues: BTreeMap<u32, ExpectedLeague> = rows.unwrap().map(Result::unwrap).collect();
        let sql = "SELECT season_coverage.*, end_date, is_current FROM seasons JOIN season_coverage \
                   USING (league_id, year, start_date) WHERE removed_at IS NULL ORDER BY league_id, year, start_date";
        let mut statement = self.file().prepare(sql).unwrap();
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let flags = 3..names.len() - 2;
        let rows = statement.query_map([], |row| {
            let set = |at: &usize| row.get::<_, bool>(*at).unwrap();
            let season = ExpectedSeason {
                year: row.get("year")?,
                start: row.get("start_date")?,
                end: row.get("end_date")?,
                current: row.get("is_current")?,
                covered: flags.clone().filter(set).map(|at| names[at].clone()).collect(),
            };
            Ok((row.get::<_, u32>("league_id")?, season))
        });
        for (league, season) in rows.unwrap().map(Result::unwrap) {
            leagues.get_mut(&league).unwrap_or_else(|| panic!("{league} has no row")).seasons.push(season);
        }
        leagues
    }

    fn bundles(&self) -> BTreeMap<String, Bundle> {
        let countries = self.pairs("SELECT bundle_name, iso FROM catalog_bundle_countries WHERE role = 'base'");
        let roaming = self.pairs("SELECT bundle_name, iso FROM catalog_bundle_countries WHERE role = 'roaming'");
        let groups = self.pairs("SELECT bundle_name, group_name FROM catalog_bundle_groups WHERE removed_at IS NULL");
        let of = |map: &BTreeMap<String, BTreeSet<String>>, name: &str| map.get(name).cloned().unwrap_or_default();
        let sql = "SELECT name, price, currency, duration, CASE WHEN unlimited THEN 1 ELSE 0 END, data_amount_mb \
                   FROM catalog_bundles WHERE removed_at IS NULL";
        let read = |row: Vec<String>| {
            let number = |text: &str| text.parse::<i64>().ok();
            let [name, price, currency, duration, unlimited, amount] = row.try_into().unwrap();
            let bundle = Bundle {
                price: price.parse().expect("a price is a decimal"),
                currency: Some(currency).filter(|currency| !currency.is_empty()),
                duration: number(&duration).expect("a duration is a number"),
                unlimited: unlimited == "1",
                data_amount_mb: number(&amount),
                countries: of(&countries, &name),
                roaming: of(&roaming, &name),
                groups: of(&groups, &name),
            };
            (name, bundle)
        };
        self.ask(sql).into_iter().map(read).collect()
    }

    fn pairs(&self, sql: &str) -> BTreeMap<String, BTreeSet<String>> {
        let mut pairs = BTreeMap::<String, BTreeSet<String>>::new();
        for row in self.ask(sql) {
            let [name, value] = row.try_into().unwrap();
            assert!(pairs.entry(name.clone()).or_default().insert(value), "{name} has a row twice");
        }
        pairs
    }
}
