//! The tables of football. The migrations repeat them; a test holds the two against each other.
//!
//! ```text
//! countries        leagues ──────────< seasons ──── season_coverage (detail)
//!   name ······· country, id            league_id, year, start_date
//!                  │ │
//!       league_slugs └── provider_sources (also of countries)          provider_accounts
//! ```
//!
//! The dots and lines are values, not foreign keys: each record stands for itself.

use crate::store::table::Column;
use crate::store::table::ColumnKind::{Bool, Int, Text};
use crate::store::table::{Detail, Table};

/// One row a country. `World` is one of them, for what belongs to no country.
pub static COUNTRIES: Table = Table {
    name: "countries",
    key: 1,
    columns: &[
        // As the provider spells it: `Northern-Ireland`.
        Column::new("name", Text),
        Column::nullable("code", Text),
        Column::nullable("flag_url", Text),
    ],
    details: &[],
    link: false,
};

pub static LEAGUES: Table = Table {
    name: "leagues",
    key: 1,
    columns: &[
        Column::new("id", Int),
        // Unique, and the same for ever.
        Column::new("slug", Text),
        Column::new("name", Text),
        // `League` or `Cup`.
        Column::new("type", Text),
        Column::new("country", Text),
        Column::nullable("logo_url", Text),
    ],
    details: &[],
    link: false,
};

/// A year of a league is unique only with its start.
pub static SEASONS: Table = Table {
    name: "seasons",
    key: 3,
    columns: &[
        Column::new("league_id", Int),
        Column::new("year", Int),
        Column::new("start_date", Text),
        Column::new("end_date", Text),
        Column::new("is_current", Bool),
        Column::new("provider", Text),
        // The key in one text, which snapshots are compared by.
        Column::new("provider_id", Text),
    ],
    details: &[Detail {
        name: "season_coverage",
        key: 3,
        columns: &[
            Column::new("league_id", Int),
            Column::new("year", Int),
            Column::new("start_date", Text),
            Column::new("events", Bool),
            Column::new("lineups", Bool),
            Column::new("statistics_fixtures", Bool),
            Column::new("statistics_players", Bool),
            Column::new("standings", Bool),
            Column::new("players", Bool),
            Column::new("top_scorers", Bool),
            Column::new("top_assists", Bool),
            Column::new("top_cards", Bool),
            Column::new("injuries", Bool),
            Column::new("predictions", Bool),
            Column::new("odds", Bool),
        ],
    }],
    link: false,
};

/// Where in [`SEASONS`] the text stands that snapshots are compared by.
pub const SEASON_PROVIDER_ID: usize = 6;

/// Which record of a provider a row came from.
pub static PROVIDER_SOURCES: Table = Table {
    name: "provider_sources",
    key: 3,
    columns: &[
        Column::new("provider", Text),
        Column::new("entity", Text),
        Column::new("provider_id", Text),
        Column::new("key", Text),
        // Its picture: logo or flag.
        Column::nullable("url", Text),
    ],
    details: &[],
    link: true,
};

/// The slugs that were ever given. Rows are never removed.
pub static LEAGUE_SLUGS: Table = Table {
    name: "league_slugs",
    key: 1,
    columns: &[Column::new("league_id", Int), Column::new("slug", Text)],
    details: &[],
    link: true,
};

/// What a provider says of the account.
pub static ACCOUNTS: Table = Table {
    name: "provider_accounts",
    key: 1,
    columns: &[
        Column::new("provider", Text),
        Column::nullable("plan", Text),
        Column::nullable("active", Bool),
        Column::nullable("ends_at", Text),
        Column::new("requests_used", Int),
        Column::new("requests_limit", Int),
    ],
    details: &[],
    link: false,
};

/// Where in [`ACCOUNTS`] the day's limit stands.
pub const ACCOUNT_LIMIT: usize = 5;

/// All of them, for the migrations' test and for reports.
pub static TABLES: [&Table; 6] = [&COUNTRIES, &LEAGUES, &SEASONS, &PROVIDER_SOURCES, &LEAGUE_SLUGS, &ACCOUNTS];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_columns_are_right() {
        assert_eq!(SEASONS.columns[SEASON_PROVIDER_ID].name, "provider_id");
        assert_eq!(ACCOUNTS.columns[ACCOUNT_LIMIT].name, "requests_limit");
    }
}
