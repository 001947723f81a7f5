//! API-Football's leagues as the sandbox has them.
//!
//! Names, codes, types and dates have the shapes of the recorded answers; so have the quirks: England, Scotland and
//! Wales share a code, World has none, names repeat, a year comes twice with another start, years are missing, seasons
//! stay current for years, ids come in no order. The first leagues are one trap each, so that also a small list has
//! them all.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::dice::Dice;
use super::expected_football::{ExpectedFootball, ExpectedLeague, ExpectedSeason, LeagueReason, LeagueReject};

/// Name and code.
pub const COUNTRIES: [(&str, Option<&str>); 48] = [
    ("World", None),
    ("England", Some("GB")),
    ("Scotland", Some("GB")),
    ("Wales", Some("GB")),
    ("Northern-Ireland", Some("GB")),
    ("Albania", Some("AL")),
    ("Antigua-And-Barbuda", Some("AG")),
    ("Argentina", Some("AR")),
    ("Australia", Some("AU")),
    ("Austria", Some("AT")),
    ("Belgium", Some("BE")),
    ("Bosnia", Some("BA")),
    ("Brazil", Some("BR")),
    ("Burkina-Faso", Some("BF")),
    ("Chile", Some("CL")),
    ("Chinese-Taipei", Some("TW")),
    ("Colombia", Some("CO")),
    ("Costa-Rica", Some("CR")),
    ("Croatia", Some("HR")),
    ("Curacao", Some("CW")),
    ("Czech-Republic", Some("CZ")),
    ("Denmark", Some("DK")),
    ("Egypt", Some("EG")),
    ("Finland", Some("FI")),
    ("France", Some("FR")),
    ("Germany", Some("DE")),
    ("Greece", Some("GR")),
    ("Hungary", Some("HU")),
    ("Iceland", Some("IS")),
    ("Italy", Some("IT")),
    ("Ivory-Coast", Some("CI")),
    ("Japan", Some("JP")),
    ("Kosovo", Some("XK")),
    ("Mexico", Some("MX")),
    ("Netherlands", Some("NL")),
    ("Norway", Some("NO")),
    ("Poland", Some("PL")),
    ("Portugal", Some("PT")),
    ("Saudi-Arabia", Some("SA")),
    ("Serbia", Some("RS")),
    ("South-Korea", Some("KR")),
    ("Spain", Some("ES")),
    ("Sweden", Some("SE")),
    ("Trinidad-And-Tobago", Some("TT")),
    ("Turkey", Some("TR")),
    ("Turkmenistan", Some("TM")),
    ("USA", Some("US")),
    ("United-Arab-Emirates", Some("AE")),
];

/// Every country has the first ones, so that names repeat from country to country.
const NAMES: [(&str, &str); 16] = [
    ("Premier League", LEAGUE),
    ("Super Cup", CUP),
    ("Cup", CUP),
    ("2. Division", LEAGUE),
    ("League Cup", CUP),
    ("U19 League", LEAGUE),
    ("Süper Lig", LEAGUE),
    ("Série A", LEAGUE),
    ("3. liga - ČFL A", LEAGUE),
    ("Women’s Championship", LEAGUE),
    ("Ýokary Liga", LEAGUE),
    ("Copa São João", CUP),
    ("Bikarkeppni Þór", CUP),
    ("Æresdivisjonen - Øst", LEAGUE),
    ("Премьер-лига", LEAGUE),
    ("Friendlies Łódź", CUP),
];

const LEAGUE: &str = "League";
const CUP: &str = "Cup";

/// In the order of `season_coverage`; the first four lie in `fixtures`.
pub const FLAGS: [&str; 12] = [
    "events",
    "lineups",
    "statistics_fixtures",
    "statistics_players",
    "standings",
    "players",
    "top_scorers",
    "top_assists",
    "top_cards",
    "injuries",
    "predictions",
    "odds",
];

/// The year that the sandbox lives in.
const NOW: i32 = 2026;

/// One generation.
#[derive(Clone, Debug)]
pub struct Leagues {
    pub generation: u64,
    /// In the order in which they are listed.
    pub leagues: Vec<League>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct League {
    pub id: u32,
    pub name: String,
    pub kind: &'static str,
    /// A place in [`COUNTRIES`].
    pub country: usize,
    pub seasons: Vec<Season>,
    trap: Option<Trap>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Season {
    pub year: i32,
    pub start: String,
    pub end: String,
    pub current: bool,
    /// In the order of [`FLAGS`].
    pub covered: [bool; 12],
}

/// What is odd about a league.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trap {
    EndBeforeStart,
    OddType,
    NoName,
    WrongYear,
    NoSuchDay,
    NullId,
    NoCountry,
    /// Its last year twice, with different starts.
    YearTwice,
    /// The very same season twice; the last one counts.
    SeasonTwice,
    /// A season without coverage, one with flags that nobody knows, one that lacks some.
    OddCoverage,
    Gap,
    /// Its last season ended years ago and is current still.
    Stale,
    /// Called like the one before it, in the same country.
    SameName,
}

const TRAPS: [Trap; 13] = [
    Trap::YearTwice,
    Trap::SameName,
    Trap::EndBeforeStart,
    Trap::OddType,
    Trap::Gap,
    Trap::NoName,
    Trap::WrongYear,
    Trap::OddCoverage,
    Trap::NoSuchDay,
    Trap::NullId,
    Trap::Stale,
    Trap::NoCountry,
    Trap::SeasonTwice,
];

impl Leagues {
    pub fn new(seed: u64, count: usize) -> Self {
        let mut ids: Vec<u32> = (1..=count as u32).collect();
        ids.sort_by_cached_key(|id| Dice::new(seed, &[41, u64::from(*id)]).roll());
        let mut leagues: Vec<League> = Vec::with_capacity(count);
        for (at, id) in ids.into_iter().enumerate() {
            let mut league = League::new(seed, at, id);
            if let (Some(Trap::SameName), Some(before)) = (league.trap, leagues.last()) {
                (league.name, league.country) = (before.name.clone(), before.country);
            }
            leagues.push(league);
        }
        Self { generation: 1, leagues }
    }

    /// The next generation, and how many changed and vanished.
    pub fn advance(&self, seed: u64, changed: f64, vanished: f64) -> (Leagues, usize, usize) {
        let generation = self.generation + 1;
        let share = |fraction: f64| (fraction.clamp(0.0, 1.0) * self.leagues.len() as f64).round() as usize;
        let mut order: Vec<&League> = self.leagues.iter().collect();
        order.sort_by_cached_key(|league| Dice::new(seed, &[42, generation, u64::from(league.id)]).roll());
        let (gone, kept) = order.split_at(share(vanished).min(order.len()));
        let renamed: BTreeSet<u32> = kept.iter().take(share(changed)).map(|league| league.id).collect();
        let gone: BTreeSet<u32> = gone.iter().map(|league| league.id).collect();
        let kept = self.leagues.iter().filter(|league| !gone.contains(&league.id)).cloned();
        let leagues = kept.map(|league| if renamed.contains(&league.id) { league.changed() } else { league });
        (Leagues { generation, leagues: leagues.collect() }, renamed.len(), gone.len())
    }

    pub fn expected(&self) -> ExpectedFootball {
        let mut leagues = BTreeMap::new();
        let mut rejects = Vec::new();
        for league in &self.leagues {
            match league.reason() {
                Some(reason) => rejects.push(LeagueReject { id: league.shown_id(), reason }),
                None => drop(leagues.insert(league.id, league.expected())),
            }
        }
        let countries = COUNTRIES.iter().map(|(name, code)| ((*name).to_owned(), code.map(str::to_owned))).collect();
        ExpectedFootball { generation: self.generation, leagues, rejects, countries }
    }
}

impl League {
    fn new(seed: u64, at: usize, id: u32) -> Self {
        let mut dice = Dice::new(seed, &[43, u64::from(id)]);
        let trap = TRAPS.get(at).copied();
        // One in eight belongs to no country, as recorded.
        let country = if dice.chance(0.125) { 0 } else { 1 + dice.below(COUNTRIES.len() - 1) };
        let (name, kind) = NAMES[at % NAMES.len()];
        let name = if trap == Some(Trap::NoName) { "" } else { name };
        let last = if trap == Some(Trap::Stale) { 2017 + dice.below(4) as i32 } else { NOW };
        let count = 1 + dice.below(12) as i32;
        let mut seasons: Vec<Season> =
            (last - count + 1..=last).map(|year| Season::new(year, last, &mut dice)).collect();
        match trap {
            Some(Trap::YearTwice) => {
                let (start, end) = (format!("{}-10-25", last - 1), format!("{last}-07-28"));
                let first = Season { start, end, current: false, ..seasons[seasons.len() - 1].clone() };
                seasons.insert(seasons.len() - 1, first);
            }
            Some(Trap::SeasonTwice) => {
                let mut first = seasons[0].clone();
                first.end = first.start.clone();
                seasons.insert(0, first);
            }
            Some(Trap::Gap) => {
                seasons = [last - 3, last - 1, last].map(|year| Season::new(year, last, &mut dice)).into()
            }
            Some(Trap::OddCoverage) => {
                seasons = [last - 2, last - 1, last].map(|year| Season::new(year, last, &mut dice)).into();
                seasons[0].covered = [false; 12];
                seasons[2].covered[4] = false;
            }
            Some(Trap::EndBeforeStart) => seasons[0].end = format!("{}-01-01", seasons[0].year - 1),
            Some(Trap::WrongYear) => seasons[0].year = 20_210,
            Some(Trap::NoSuchDay) => seasons[0].start = format!("{}-02-30", seasons[0].year),
            Some(Trap::OddType | Trap::NoName | Trap::NullId | Trap::NoCountry | Trap::Stale | Trap::SameName)
            | None => {}
        }
        Self { id, name: name.to_owned(), kind, country, seasons, trap }
    }

    /// Called otherwise, and its last season starts a day later.
    fn changed(mut self) -> Self {
        if !self.name.is_empty() {
            self.name.push_str(" Plus");
        }
        if let (None, Some(last)) = (self.trap, self.seasons.last_mut()) {
            let day: u32 = last.start[8..].parse().unwrap_or(1);
            last.start = format!("{}{:02}", &last.start[..8], day % 28 + 1);
        }
        self
    }

    fn shown_id(&self) -> Option<u32> {
        (self.trap != Some(Trap::NullId)).then_some(self.id)
    }

    fn reason(&self) -> Option<LeagueReason> {
        match self.trap? {
            Trap::EndBeforeStart => Some(LeagueReason::EndBeforeStart),
            Trap::OddType => Some(LeagueReason::Type),
            Trap::NoName => Some(LeagueReason::Name),
            Trap::WrongYear => Some(LeagueReason::Year),
            Trap::NoSuchDay => Some(LeagueReason::Date),
            Trap::NullId => Some(LeagueReason::Id),
            Trap::NoCountry => Some(LeagueReason::Country),
            Trap::YearTwice | Trap::SeasonTwice | Trap::OddCoverage | Trap::Gap | Trap::Stale | Trap::SameName => None,
        }
    }

    fn expected(&self) -> ExpectedLeague {
        // The last of two seasons with one key counts.
        let seasons: BTreeMap<(i32, &str), &Season> =
            self.seasons.iter().map(|season| ((season.year, season.start.as_str()), season)).collect();
        let seasons = seasons.into_values().map(|season| ExpectedSeason {
            year: season.year,
            start: season.start.clone(),
            end: season.end.clone(),
            current: season.current,
            covered: FLAGS
                .iter()
                .zip(season.covered)
                .filter(|(_, set)| *set)
                .map(|(flag, _)| (*flag).to_owned())
                .collect(),
        });
        ExpectedLeague {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            country: COUNTRIES[self.country].0.to_owned(),
            logo: logo(self.id),
            seasons: seasons.collect(),
        }
    }

    /// As it stands in `/leagues`.
    pub fn to_json(&self) -> Value {
        let mut country = country_json(COUNTRIES[self.country]);
        if self.trap == Some(Trap::NoCountry) {
            country["name"] = json!("");
        }
        let kind = if self.trap == Some(Trap::OddType) { "Friendly" } else { self.kind };
        let mut seasons: Vec<Value> = self.seasons.iter().map(Season::to_json).collect();
        if self.trap == Some(Trap::OddCoverage) {
            seasons[0]["coverage"] = Value::Null;
            seasons[1]["coverage"]["weather"] = json!(true);
            seasons[1]["coverage"]["fixtures"]["xg"] = json!(true);
            if let Some(coverage) = seasons[2]["coverage"].as_object_mut() {
                coverage.remove("standings");
            }
        }
        json!({
            "league": {"id": self.shown_id(), "name": self.name, "type": kind, "logo": logo(self.id)},
            "country": country,
            "seasons": seasons,
        })
    }
}

impl Season {
    fn new(year: i32, last: i32, dice: &mut Dice) -> Self {
        let start = format!("{year}-0{}-{:02}", 7 + dice.below(2), 1 + dice.below(28));
        let end = format!("{}-0{}-{:02}", year + 1, 4 + dice.below(3), 1 + dice.below(28));
        let covered = std::array::from_fn(|_| dice.chance(0.6));
        Self { year, start, end, current: year == last, covered }
    }

    fn to_json(&self) -> Value {
        let mut fixtures = serde_json::Map::new();
        let mut coverage = serde_json::Map::new();
        for (at, (flag, set)) in FLAGS.iter().zip(self.covered).enumerate() {
            let to = if at < 4 { &mut fixtures } else { &mut coverage };
            to.insert((*flag).to_owned(), json!(set));
        }
        coverage.insert("fixtures".to_owned(), fixtures.into());
        json!({
            "year": self.year, "start": self.start, "end": self.end, "current": self.current, "coverage": coverage,
        })
    }
}

fn logo(id: u32) -> String {
    format!("https://media.example.org/football/leagues/{id}.png")
}

pub fn country_json((name, code): (&str, Option<&str>)) -> Value {
    let flag = code.map(|code| format!("https://media.example.org/flags/{}.svg", code.to_lowercase()));
    json!({ "name": name, "code": code, "flag": flag })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_list_has_every_quirk_of_the_recorded_one() {
        let Leagues { leagues, .. } = Leagues::new(1, 1_200);
        let expected = Leagues::new(1, 1_200).expected();
        assert_eq!((leagues.len(), expected.leagues.len(), expected.rejects.len()), (1_200, 1_193, 7));
        let world = expected.leagues.values().filter(|league| league.country == "World").count();
        assert!((100..200).contains(&world), "{world}");
        assert!(!leagues.is_sorted_by_key(|league| league.id));
        let super_cups = expected.leagues.values().filter(|league| league.name == "Super Cup").count();
        assert!(super_cups > 40, "{super_cups}");
        let seasons = || expected.leagues.values().map(|league| &league.seasons);
        let twice = seasons().filter(|seasons| seasons.windows(2).any(|pair| pair[0].year == pair[1].year));
        assert_eq!(twice.count(), 1, "a year that comes twice");
        let gaps = seasons().filter(|seasons| seasons.windows(2).any(|pair| pair[0].year + 1 < pair[1].year));
        assert_eq!(gaps.count(), 1);
        let stale = seasons().filter(|seasons| seasons.last().unwrap().year < NOW - 4);
        assert_eq!(stale.filter(|seasons| seasons.last().unwrap().current).count(), 1);
        assert!(seasons().flatten().all(|season| season.start <= season.end));
    }

    #[test]
    fn advancing_keeps_what_neither_changed_nor_vanished() {
        let before = Leagues::new(1, 200);
        let (after, changed, vanished) = before.advance(1, 0.1, 0.05);
        assert_eq!((after.generation, after.leagues.len(), changed, vanished), (2, 190, 20, 10));
        let same = after.leagues.iter().filter(|league| before.leagues.contains(league)).count();
        // The one without a name cannot be called otherwise.
        assert!((170..=171).contains(&same), "{same}");
        assert_eq!(after.leagues, before.advance(1, 0.1, 0.05).0.leagues);
        assert_eq!(before.advance(1, 0.0, 0.0).0.leagues, before.leagues);
    }
}
