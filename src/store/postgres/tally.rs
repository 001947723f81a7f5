//! How many jobs stand in which state: the sum of the changes that every statement on jobs leaves behind.
//!
//! ```text
//! INSERT, UPDATE, DELETE on jobs ──trigger──▶ a line per (domain, kind, state) ──▶ SUMS
//!                                              └─ fold, now and then: many lines become one
//! ```
//!
//! Lines are only added, so that no two statements wait for each other's count, and nobody ever counts the jobs.

use longshore_actors::job::{Name, State};
use longshore_actors::ledger::LedgerError;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Session;
use crate::store::tally::Tally;

pub(super) const SUMS: &str = "
SELECT domain, kind, state, sum(jobs)::bigint, sum(bytes)::bigint, count(*) FROM job_counts
GROUP BY domain, kind, state";

/// Takes lines away and puts their sums in, in one statement: whoever sums sees either. Lines that another node folds
/// at the moment are left to it.
pub(super) const FOLD: &str = "
WITH taken AS MATERIALIZED (
    SELECT ctid AS place FROM job_counts LIMIT $1 FOR UPDATE SKIP LOCKED
), folded AS (
    DELETE FROM job_counts USING taken WHERE job_counts.ctid = taken.place
    RETURNING domain, kind, state, jobs, bytes
)
INSERT INTO job_counts (domain, kind, state, jobs, bytes)
SELECT domain, kind, state, sum(jobs), sum(bytes) FROM folded GROUP BY domain, kind, state
HAVING sum(jobs) <> 0 OR sum(bytes) <> 0";

/// Lines that are worth folding: to sum up fewer costs less than a millisecond.
const FOLD_AT: i64 = 1000;

/// Lines folded in one statement: some tens of milliseconds.
const FOLD_MAX: i64 = 50_000;

/// The counts, from the rows of [`SUMS`].
pub fn of(rows: &[Row]) -> OpResult<Tally> {
    let mut tally = Tally::default();
    for row in rows {
        let (domain, kind) = (Name::from(row.try_get::<_, &str>(0)?), Name::from(row.try_get::<_, &str>(1)?));
        let word: &str = row.try_get(2)?;
        let state =
            State::parse(word).ok_or_else(|| LedgerError::Broken(format!("counts of the unknown state {word:?}")))?;
        tally.add(&domain, &kind, state, row.try_get(3)?);
        if state.is_final() {
            tally.finished_bytes += row.try_get::<_, i64>(4)?;
        }
    }
    // A kind without jobs is forgotten.
    let mut present = Tally::default();
    present.apply(&tally);
    Ok(present)
}

/// Sums up, and folds the lines if there have come to be many.
pub async fn load(session: &Session) -> OpResult<Tally> {
    let rows = session.query(SUMS, &[]).await?;
    let lines = rows.iter().map(|row| row.try_get::<_, i64>(5)).sum::<Result<i64, _>>()?;
    let tally = of(&rows)?;
    if lines >= FOLD_AT {
        session.execute(FOLD, &[(&FOLD_MAX, Type::INT8)]).await?;
    }
    Ok(tally)
}
