//! How many jobs stand in which state, kept in memory so that nobody ever counts the table.
//!
//! Loaded once at open from the indexes; afterwards each committed group adds its changes.

use rusqlite::Connection;

use crate::store::sqlite::names::{self, Names};
use crate::store::tally::Tally;

/// One question for each index, so that none reads the table itself. The last two indexes are not in the order of
/// domain and kind: their rows are counted as they come, since to group them SQLite would sort them in memory.
pub(super) const LOAD: &str = "
SELECT domain, kind, 'waiting', count(*), 0 FROM jobs INDEXED BY jobs_ready WHERE state = 'waiting'
GROUP BY domain, kind
UNION ALL
SELECT domain, kind, 'active', count(*), 0 FROM jobs INDEXED BY jobs_active WHERE state = 'active'
GROUP BY domain, kind
UNION ALL
SELECT domain, kind, 'delayed', 1, 0 FROM jobs INDEXED BY jobs_due WHERE state = 'delayed'
UNION ALL
SELECT domain, kind, state, 1, bytes FROM jobs INDEXED BY jobs_finished WHERE finished_at IS NOT NULL";

pub fn load(conn: &Connection, names: &mut Names) -> rusqlite::Result<Tally> {
    let mut tally = Tally::default();
    let mut statement = conn.prepare(LOAD)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (domain, kind) = (names.text(row, 0)?, names.text(row, 1)?);
        let state = names::state(row, 2)?;
        tally.add(&domain, &kind, state, row.get(3)?);
        tally.finished_bytes += row.get::<_, i64>(4)?;
    }
    Ok(tally)
}
