//! The small tables: fires of schedules, quotas, and the row that readiness is tested with.

use longshore_actors::clock::Timestamp;
use longshore_actors::ledger::{Enqueued, LedgerError};
use tokio_postgres::types::{ToSql, Type};

use crate::store::bounds::{FIRES_MAX, QUOTA_DAYS};
use crate::store::draft::Draft;
use crate::store::postgres::effects::Effects;
use crate::store::postgres::enqueue::Enqueue;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::{Session, Tx};
use crate::store::postgres::work::Work;

/// Before its job: a node that fires the same at the same moment waits here, and finds that it has happened.
const FIRE: &str = "INSERT INTO fires (schedule, fire_at, job) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING";

const FIRED: &str = "UPDATE fires SET job = $3 WHERE schedule = $1 AND fire_at = $2";

const FORGET_FIRES: &str = "
DELETE FROM fires WHERE schedule = $1
    AND fire_at <= (SELECT fire_at FROM fires WHERE schedule = $1 ORDER BY fire_at DESC LIMIT 1 OFFSET $2)";

const LAST_FIRE: &str = "SELECT max(fire_at) FROM fires WHERE schedule = $1";

/// Under its lock, so that two nodes that meet a new expression agree on when it began.
const SCHEDULE: &str = "SELECT expression, since FROM schedules WHERE name = $1 FOR UPDATE";

const MEET: &str = "
INSERT INTO schedules (name, expression, since) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";

const REMEMBER: &str = "UPDATE schedules SET expression = $2, since = $3 WHERE name = $1";

/// Nothing comes back if less is left.
const TAKE: &str = "
INSERT INTO quotas (provider, day, used) SELECT $1, $2, $3 WHERE $3 <= $4
ON CONFLICT (provider, day) DO UPDATE SET used = quotas.used + excluded.used
    WHERE quotas.used + excluded.used <= $4
RETURNING used";

const NOTE: &str = "
INSERT INTO quotas (provider, day, used) VALUES ($1, $2, $3)
ON CONFLICT (provider, day) DO UPDATE SET used = greatest(quotas.used, excluded.used)";

const FORGET_QUOTAS: &str = "DELETE FROM quotas WHERE provider = $1 AND day < $2";

const MILLIS_A_DAY: i64 = 24 * 60 * 60 * 1000;

const PROBE: &str = "
INSERT INTO meta (key, value) VALUES ('probe', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value
RETURNING value";

/// The job of one fire and the row that says so. `None`: this fire happened already.
#[derive(Debug)]
pub struct Fire {
    pub schedule: String,
    pub at: Timestamp,
    pub draft: Draft,
    pub now: Timestamp,
}

impl Work for Fire {
    type Answer = Option<Enqueued>;

    async fn run(&self, tx: &Tx<'_>, effects: &mut Effects) -> OpResult<Option<Enqueued>> {
        let Fire { schedule, at, draft, now } = self;
        if tx.execute(FIRE, &[(schedule, Type::TEXT), (&at.0, Type::INT8)]).await? == 0 {
            return Ok(None);
        }
        let answers = Enqueue { drafts: vec![(draft, draft.parent, *now)] }.run(tx, effects).await?;
        let Some(enqueued) = answers.first().copied() else {
            return Err(LedgerError::Broken("a fire enqueued nothing".into()).into());
        };
        tx.execute(FIRED, &[(schedule, Type::TEXT), (&at.0, Type::INT8), (&enqueued.id().0, Type::INT8)]).await?;
        tx.execute(FORGET_FIRES, &[(schedule, Type::TEXT), (&FIRES_MAX, Type::INT8)]).await?;
        Ok(Some(enqueued))
    }
}

pub async fn last_fire(session: &Session, schedule: &str) -> OpResult<Option<Timestamp>> {
    let row = session.query_opt(LAST_FIRE, &[(&schedule, Type::TEXT)]).await?;
    Ok(row.map(|row| row.try_get::<_, Option<i64>>(0)).transpose()?.flatten().map(Timestamp))
}

/// See [`crate::store::Store::schedule_since`].
#[derive(Debug)]
pub struct ScheduleSince {
    pub schedule: String,
    pub when: String,
    pub now: Timestamp,
}

impl Work for ScheduleSince {
    type Answer = Timestamp;

    async fn run(&self, tx: &Tx<'_>, _: &mut Effects) -> OpResult<Timestamp> {
        let ScheduleSince { schedule, when, now } = self;
        let name = (schedule as &(dyn ToSql + Sync), Type::TEXT);
        let last = tx.query_opt(LAST_FIRE, std::slice::from_ref(&name)).await?;
        let last = last.map(|row| row.try_get::<_, Option<i64>>(0)).transpose()?.flatten();
        let first = last.unwrap_or(now.0);
        let met = tx.execute(MEET, &[name.clone(), (when, Type::TEXT), (&first, Type::INT8)]).await?;
        if met > 0 {
            return Ok(Timestamp(first));
        }
        let known = tx.query_opt(SCHEDULE, std::slice::from_ref(&name)).await?;
        if let Some(row) = known
            && row.try_get::<_, &str>(0)? == when.as_str()
        {
            let since: i64 = row.try_get(1)?;
            return Ok(Timestamp(since.max(last.unwrap_or(since))));
        }
        // The fires of the new expression begin now; those of the old one are not its own.
        tx.execute(REMEMBER, &[name, (when, Type::TEXT), (&now.0, Type::INT8)]).await?;
        Ok(*now)
    }
}

pub async fn take_quota(session: &Session, provider: &str, n: u32, limit: u32, now: Timestamp) -> OpResult<bool> {
    let (day, n) = (now.0.div_euclid(MILLIS_A_DAY), i64::from(n));
    let taken = session
        .query_opt(
            TAKE,
            &[(&provider, Type::TEXT), (&day, Type::INT8), (&n, Type::INT8), (&i64::from(limit), Type::INT8)],
        )
        .await?;
    let used = taken.map(|row| row.try_get::<_, i64>(0)).transpose()?;
    if used == Some(n) {
        // The first of its day.
        session.execute(FORGET_QUOTAS, &[(&provider, Type::TEXT), (&(day - QUOTA_DAYS), Type::INT8)]).await?;
    }
    Ok(used.is_some())
}

/// See [`crate::store::Store::note_quota`].
pub async fn note_quota(session: &Session, provider: &str, used: u32, now: Timestamp) -> OpResult<()> {
    let day = now.0.div_euclid(MILLIS_A_DAY);
    session.execute(NOTE, &[(&provider, Type::TEXT), (&day, Type::INT8), (&i64::from(used), Type::INT8)]).await?;
    Ok(())
}

pub async fn probe(session: &Session, now: Timestamp) -> OpResult<()> {
    let wrote = now.0.to_string();
    let row = session.query_opt(PROBE, &[(&wrote, Type::TEXT)]).await?;
    let read: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
    if read.as_deref() == Some(&*wrote) {
        Ok(())
    } else {
        Err(LedgerError::Broken(format!("the probe wrote {wrote} and read {read:?}")).into())
    }
}
