//! What vanished: the rows that a whole list no longer shows.
//!
//! ```text
//! /leagues   ──▶ provider_sources (league)  ──owns──▶ leagues, seasons
//!            └─▶ seasons of leagues that are read
//! /countries ──▶ provider_sources (country) ──owns──▶ countries
//! ```
//!
//! The removals are part of the answer's own batch, and so of its one transaction: rows, checkpoint and removals stand
//! or fall together.
//!
//! Rows of `countries` come from both lists. A country goes with an answer of `/countries` that does not list it, and
//! only if no live league names it: otherwise each sync of leagues would bring back what each sync of countries has
//! removed, and live leagues would meanwhile name a country that is gone. An answer of `/leagues` removes none, since
//! a country need not have a league.
//!
//! What it does not do: keep out a leagues job that names a country for the first time and commits in the very moment
//! in which the country is marked; the next sync of leagues brings it back.

use crate::domains::football::PROVIDER;
use crate::domains::football::model::Request;
use crate::domains::football::tables::{COUNTRIES, LEAGUES, PROVIDER_SOURCES, SEASONS};
use crate::store::batch::{Guard, Removal};
use crate::store::table::Table;

/// Entities of `provider_sources`.
pub const LEAGUE: &str = "league";
pub const COUNTRY: &str = "country";

/// What goes with a league, and where its id stands.
static OF_A_LEAGUE: [(&Table, &str); 2] = [(&LEAGUES, "id"), (&SEASONS, "league_id")];

static OF_A_COUNTRY: [(&Table, &str); 1] = [(&COUNTRIES, "name")];

/// The removals that a whole list ends with.
pub fn removals(request: Request, guard: Guard) -> Vec<Removal> {
    match request {
        Request::Leagues { allow_removal } => {
            let guard = Guard { lifted: guard.lifted || allow_removal, ..guard };
            let seasons = Removal {
                table: &SEASONS,
                scope: ("provider", PROVIDER.to_owned()),
                key: "provider_id",
                missing: 0,
                guard,
                orphans: None,
                named_by: None,
                owned: &[],
            };
            vec![of_sources(LEAGUE, guard, &OF_A_LEAGUE), seasons]
        }
        Request::Countries { allow_removal } => {
            let guard = Guard { lifted: guard.lifted || allow_removal, ..guard };
            vec![Removal { named_by: Some((&LEAGUES, "country")), ..of_sources(COUNTRY, guard, &OF_A_COUNTRY) }]
        }
        Request::Status => Vec::new(),
    }
}

fn of_sources(entity: &str, guard: Guard, owned: &'static [(&'static Table, &'static str)]) -> Removal {
    Removal {
        table: &PROVIDER_SOURCES,
        scope: ("entity", entity.to_owned()),
        key: "provider_id",
        missing: 0,
        guard,
        orphans: None,
        named_by: None,
        owned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_lifts_the_guard() {
        let guard = Guard { rows: 50, ratio: 0.2, lifted: false };
        for allow_removal in [false, true] {
            let wanted = Guard { lifted: allow_removal, ..guard };
            for (request, count) in [(Request::Leagues { allow_removal }, 2), (Request::Countries { allow_removal }, 1)]
            {
                let removals = removals(request, guard);
                assert_eq!(removals.len(), count, "{request:?}");
                assert!(removals.iter().all(|removal| removal.guard == wanted), "{request:?}");
            }
        }
        assert!(removals(Request::Status, guard).is_empty());
    }
}
