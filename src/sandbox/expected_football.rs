//! What a store must hold after a correct sync of API-Football as it is now.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectedFootball {
    /// 1 at the start, one more with each advance.
    pub generation: u64,
    /// By id, without those that a sync rejects.
    pub leagues: BTreeMap<u32, ExpectedLeague>,
    /// One for each bad record, in the order of the list.
    pub rejects: Vec<LeagueReject>,
    /// Name and code of all that `/countries` lists.
    pub countries: BTreeMap<String, Option<String>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectedLeague {
    pub name: String,
    pub kind: String,
    pub country: String,
    pub logo: String,
    /// In the order of year and start.
    pub seasons: Vec<ExpectedSeason>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectedSeason {
    pub year: i32,
    pub start: String,
    pub end: String,
    pub current: bool,
    /// The flags that are set.
    pub covered: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeagueReject {
    /// `None`: the record has no readable one.
    pub id: Option<u32>,
    pub reason: LeagueReason,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeagueReason {
    EndBeforeStart,
    Type,
    Name,
    Year,
    Date,
    Id,
    Country,
}

impl ExpectedFootball {
    pub fn season_count(&self) -> usize {
        self.leagues.values().map(|league| league.seasons.len()).sum()
    }
}
