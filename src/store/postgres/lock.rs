//! Keeps other programs out that work on the same tables.
//!
//! ```text
//! a session is kept    a connection of its own, a transaction, pg_try_advisory_xact_lock(hashtextextended(key, 0))
//!                      dropped: the connection closes, and the lock goes with it, as it does when this process dies
//! it is not kept       a row of `locks` with an end, renewed at a third of its time; dropped: the row goes
//! ```
//!
//! Whoever else wants to agree takes the same advisory lock, or looks at the row. Should the connection break while it
//! is held, the lock is lost and nobody is told: it keeps programs apart that behave, the lease is what protects rows.

use std::time::Duration;

use tokio_postgres::types::Type;

use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Session;

/// Also keeps the server from ending a transaction that waits for its job.
const BEGIN: &str = "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; BEGIN";

const TAKE: &str = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))";

/// A lock by one number of 64 bits shows as two of 32.
const HOLDER: &str = "
SELECT coalesce(nullif(activity.application_name, ''), 'a program') || ', process ' || activity.pid
    || coalesce(' at ' || host(activity.client_addr), '')
FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid), hashtextextended($1, 0) AS key
WHERE locks.locktype = 'advisory' AND locks.granted AND locks.objsubid = 1
    AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND locks.classid::bigint = (key >> 32) & 4294967295 AND locks.objid::bigint = key & 4294967295
LIMIT 1";

/// A lock row holds this long without being renewed.
pub const ROW_HOLDS: Duration = Duration::from_secs(30);

/// One row that nobody else holds, or that is ours.
const TAKE_ROW: &str = "
INSERT INTO locks (name, holder, until) VALUES ($1, $2, now() + $3 * interval '1 millisecond')
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE locks.until < now() OR locks.holder = excluded.holder
RETURNING 1";

const ROW_HOLDER: &str = "SELECT holder FROM locks WHERE name = $1";

const DROP_ROW: &str = "DELETE FROM locks WHERE name = $1 AND holder = $2";

/// Takes the advisory lock on a connection that is its holder's alone; `Err` names who has it.
pub async fn take(session: &Session, key: &str) -> OpResult<Result<(), String>> {
    session.client().batch_execute(BEGIN).await?;
    let param = [(&key as _, Type::TEXT)];
    let taken = session.query_opt(TAKE, &param).await?.is_some_and(|row| row.get(0));
    if taken {
        return Ok(Ok(()));
    }
    let holder = session.query_opt(HOLDER, &param).await?;
    Ok(Err(holder.map_or_else(|| "another program".to_owned(), |row| row.get(0))))
}

/// Takes the row, or makes it hold longer; `Err` names who has it.
pub async fn take_row(session: &Session, key: &str, holder: &str) -> OpResult<Result<(), String>> {
    let holds = ROW_HOLDS.as_secs_f64() * 1e3;
    let params = [(&key as _, Type::TEXT), (&holder as _, Type::TEXT), (&holds as _, Type::FLOAT8)];
    if session.query_opt(TAKE_ROW, &params).await?.is_some() {
        return Ok(Ok(()));
    }
    let found = session.query_opt(ROW_HOLDER, &[(&key as _, Type::TEXT)]).await?;
    Ok(Err(found.map_or_else(|| "another program".to_owned(), |row| row.get(0))))
}

pub async fn drop_row(session: &Session, key: &str, holder: &str) -> OpResult<()> {
    session.execute(DROP_ROW, &[(&key as _, Type::TEXT), (&holder as _, Type::TEXT)]).await?;
    Ok(())
}
