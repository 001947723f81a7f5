//! The numbered changes of the schema, and the rules they follow; each dialect runs them in its own way.
//!
//! A migration is a file `migrations/<dialect>/NNNN_name.sql`, compiled into the program. Once released it is never
//! edited: its checksum stands in the database, and a difference is refused, since nobody could say which of the two
//! the schema follows. A database that has seen a migration this program does not know is refused too.

use std::fmt;

use longshore_actors::clock::Timestamp;

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Counted from 1, without gaps.
    pub version: u32,
    pub name: &'static str,
    pub sql: &'static str,
}

impl Migration {
    /// BLAKE3 of the text, in hex.
    pub fn checksum(&self) -> String {
        blake3::hash(self.sql.as_bytes()).to_hex().to_string()
    }
}

/// The embedded store's.
pub const SQLITE: &[Migration] = &[
    Migration { version: 1, name: "ledger", sql: include_str!("../../migrations/sqlite/0001_ledger.sql") },
    Migration { version: 2, name: "catalog", sql: include_str!("../../migrations/sqlite/0002_catalog.sql") },
    Migration { version: 3, name: "football", sql: include_str!("../../migrations/sqlite/0003_football.sql") },
    Migration { version: 4, name: "products", sql: include_str!("../../migrations/sqlite/0004_products.sql") },
];

/// PostgreSQL's, twin by twin.
pub const POSTGRES: &[Migration] = &[
    Migration { version: 1, name: "ledger", sql: include_str!("../../migrations/postgres/0001_ledger.sql") },
    Migration { version: 2, name: "catalog", sql: include_str!("../../migrations/postgres/0002_catalog.sql") },
    Migration { version: 3, name: "football", sql: include_str!("../../migrations/postgres/0003_football.sql") },
    Migration { version: 4, name: "products", sql: include_str!("../../migrations/postgres/0004_products.sql") },
];

/// A migration that the database says it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub version: u32,
    pub name: String,
    pub checksum: String,
    pub at: Timestamp,
}

/// One line of `longshore migrate --status`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    pub version: u32,
    pub name: String,
    /// `None`: not yet.
    pub applied_at: Option<Timestamp>,
}

/// Why the migrations cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The schema is from a later program.
    Newer { found: u32, known: u32 },
    /// A released migration was changed after it had been run here.
    Edited { version: u32, name: String },
    /// The database has a later migration but not this one.
    Missing { version: u32, name: String },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Newer { found, known } => write!(
                f,
                "its schema has version {found}, newer than this program, which knows {known}: run a newer longshore"
            ),
            Mismatch::Edited { version, name } => write!(
                f,
                "migration {version:04}_{name} was changed after it had been applied: restore the released file"
            ),
            Mismatch::Missing { version, name } => {
                write!(f, "migration {version:04}_{name} was skipped though later ones are applied: restore a backup")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// The migrations of `known` that are still to be run, given what is applied (in the order of versions).
pub fn pending<'a>(known: &'a [Migration], applied: &[Applied]) -> Result<&'a [Migration], Mismatch> {
    let newest = known.last().map_or(0, |migration| migration.version);
    if let Some(last) = applied.last()
        && last.version > newest
    {
        return Err(Mismatch::Newer { found: last.version, known: newest });
    }
    for (index, done) in applied.iter().enumerate() {
        let Some(migration) = known.get(index) else { break };
        let (version, name) = (migration.version, migration.name.to_owned());
        if done.version != version {
            return Err(Mismatch::Missing { version, name });
        }
        if done.checksum != migration.checksum() {
            return Err(Mismatch::Edited { version, name });
        }
    }
    Ok(&known[applied.len().min(known.len())..])
}

/// Every known migration, and when it was applied.
pub fn status(known: &[Migration], applied: &[Applied]) -> Vec<Status> {
    let applied_at = |version| applied.iter().find(|done| done.version == version).map(|done| done.at);
    known
        .iter()
        .map(|migration| Status {
            version: migration.version,
            name: migration.name.to_owned(),
            applied_at: applied_at(migration.version),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const KNOWN: &[Migration] = &[
        Migration { version: 1, name: "one", sql: "CREATE TABLE one (a)" },
        Migration { version: 2, name: "two", sql: "CREATE TABLE two (a)" },
    ];

    fn applied(migration: &Migration) -> Applied {
        let Migration { version, name, .. } = *migration;
        Applied { version, name: name.to_owned(), checksum: migration.checksum(), at: Timestamp(7) }
    }

    #[test]
    fn only_what_is_missing_is_pending() {
        assert_eq!(pending(KNOWN, &[]).unwrap().len(), 2);
        assert_eq!(pending(KNOWN, &[applied(&KNOWN[0])]).unwrap()[0].version, 2);
        assert!(pending(KNOWN, &[applied(&KNOWN[0]), applied(&KNOWN[1])]).unwrap().is_empty());
        let status = status(KNOWN, &[applied(&KNOWN[0])]);
        assert_eq!(status[0].applied_at, Some(Timestamp(7)));
        assert_eq!(status[1].applied_at, None);
    }

    #[test]
    fn edited_newer_and_skipped_are_refused() {
        let edited = Applied { checksum: "other".into(), ..applied(&KNOWN[0]) };
        assert!(matches!(pending(KNOWN, &[edited]), Err(Mismatch::Edited { version: 1, .. })));
        let newer = Applied { version: 3, ..applied(&KNOWN[1]) };
        let both = [applied(&KNOWN[0]), applied(&KNOWN[1]), newer];
        assert_eq!(pending(KNOWN, &both).unwrap_err(), Mismatch::Newer { found: 3, known: 2 });
        assert!(matches!(pending(KNOWN, &[applied(&KNOWN[1])]), Err(Mismatch::Missing { version: 1, .. })));
    }

    #[test]
    fn the_lists_count_from_one_without_gaps_and_are_twins() {
        for (index, migration) in SQLITE.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
        }
        let names = |list: &[Migration]| list.iter().map(|one| (one.version, one.name)).collect::<Vec<_>>();
        assert_eq!(names(SQLITE), names(POSTGRES));
    }
}
