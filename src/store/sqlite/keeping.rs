//! The small tables: fires of schedules, quotas, and the row that readiness is tested with.

use longshore_actors::clock::Timestamp;
use longshore_actors::ledger::{Enqueued, LedgerError};
use rusqlite::{OptionalExtension, params};

use crate::store::bounds::{FIRES_MAX, QUOTA_DAYS};
use crate::store::draft::Draft;
use crate::store::sqlite::enqueue;
use crate::store::sqlite::tx::{OpResult, Tx};

const FIRE: &str = "INSERT INTO fires (schedule, fire_at, job) VALUES (?1, ?2, ?3)";

const FIRED: &str = "SELECT 1 FROM fires WHERE schedule = ?1 AND fire_at = ?2";

const FORGET_FIRES: &str = "
DELETE FROM fires WHERE schedule = ?1
    AND fire_at <= (SELECT fire_at FROM fires WHERE schedule = ?1 ORDER BY fire_at DESC LIMIT 1 OFFSET ?2)";

const LAST_FIRE: &str = "SELECT max(fire_at) FROM fires WHERE schedule = ?1";

const SCHEDULE: &str = "SELECT expression, since FROM schedules WHERE name = ?1";

const REMEMBER: &str = "
INSERT INTO schedules (name, expression, since) VALUES (?1, ?2, ?3)
ON CONFLICT (name) DO UPDATE SET expression = excluded.expression, since = excluded.since";

const USED: &str = "SELECT used FROM quotas WHERE provider = ?1 AND day = ?2";

const TAKE: &str = "
INSERT INTO quotas (provider, day, used) VALUES (?1, ?2, ?3)
ON CONFLICT (provider, day) DO UPDATE SET used = used + excluded.used";

const NOTE: &str = "
INSERT INTO quotas (provider, day, used) VALUES (?1, ?2, ?3)
ON CONFLICT (provider, day) DO UPDATE SET used = max(used, excluded.used)";

const MILLIS_A_DAY: i64 = 24 * 60 * 60 * 1000;

const PROBE: &str = "
INSERT INTO meta (key, value) VALUES ('probe', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value
RETURNING value";

/// The job of one fire and the row that says so. `None`: this fire happened already.
pub fn fire(
    tx: &mut Tx<'_>,
    schedule: &str,
    at: Timestamp,
    draft: &Draft,
    now: Timestamp,
) -> OpResult<Option<Enqueued>> {
    if tx.prepare(FIRED)?.exists(params![schedule, at.0])? {
        return Ok(None);
    }
    let answers = enqueue::enqueue(tx, std::slice::from_ref(draft), now)?;
    let Some(enqueued) = answers.first().copied() else {
        return Err(LedgerError::Broken("a fire enqueued nothing".into()).into());
    };
    tx.execute(FIRE, params![schedule, at.0, enqueued.id().0])?;
    tx.execute(FORGET_FIRES, params![schedule, FIRES_MAX])?;
    Ok(Some(enqueued))
}

/// See [`crate::store::Store::schedule_since`].
pub fn schedule_since(tx: &Tx<'_>, schedule: &str, when: &str, now: Timestamp) -> OpResult<Timestamp> {
    let known: Option<(String, i64)> =
        tx.prepare(SCHEDULE)?.query_row([schedule], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let last: Option<i64> = tx.prepare(LAST_FIRE)?.query_row([schedule], |row| row.get(0))?;
    let since = match known {
        Some((expression, since)) if expression == when => return Ok(Timestamp(since.max(last.unwrap_or(since)))),
        // The fires of the new expression begin now; those of the old one are not its own.
        Some(_) => now.0,
        None => last.unwrap_or(now.0),
    };
    tx.execute(REMEMBER, params![schedule, when, since])?;
    Ok(Timestamp(since))
}

pub fn take_quota(tx: &Tx<'_>, provider: &str, n: u32, limit: u32, now: Timestamp) -> OpResult<bool> {
    let day = now.0.div_euclid(MILLIS_A_DAY);
    let used: Option<i64> = tx.prepare(USED)?.query_row(params![provider, day], |row| row.get(0)).optional()?;
    if used.unwrap_or(0) + i64::from(n) > i64::from(limit) {
        return Ok(false);
    }
    tx.execute(TAKE, params![provider, day, n])?;
    if used.is_none() {
        tx.execute("DELETE FROM quotas WHERE provider = ?1 AND day < ?2", params![provider, day - QUOTA_DAYS])?;
    }
    Ok(true)
}

/// See [`crate::store::Store::note_quota`].
pub fn note_quota(tx: &Tx<'_>, provider: &str, used: u32, now: Timestamp) -> OpResult<()> {
    tx.execute(NOTE, params![provider, now.0.div_euclid(MILLIS_A_DAY), used])?;
    Ok(())
}

pub fn probe(tx: &Tx<'_>, now: Timestamp) -> OpResult<()> {
    let wrote = now.0.to_string();
    let read: String = tx.prepare(PROBE)?.query_row([&wrote], |row| row.get(0))?;
    if read == wrote {
        Ok(())
    } else {
        Err(LedgerError::Broken(format!("the probe wrote {wrote} and read {read}")).into())
    }
}
