//! Keeps other programs out that work on the same tables.
//!
//! ```text
//! a session is kept    a connection of its own, a transaction, pg_try_advisory_xact_lock_shared of the key's hash;
//!                      dropped, the connection closes and the lock goes with it, as it does when this process dies
//! it is not kept       a row of `locks` with an end, renewed at a third of its time; dropped, the row goes
//! ```
//!
//! All jobs of all nodes share it: among themselves they are kept apart by unique keys. Another program takes it for
//! itself alone, with `pg_try_advisory_lock(hashtextextended(key, 0))`, or looks at the row.
//!
//! Should the connection break while it is held, the lock is lost and nobody is told: it keeps programs apart that
//! behave; what protects rows is the lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::types::Type;

use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Session;
use crate::store::postgres::shared::Shared;

/// Also keeps the server from ending a transaction that waits for its job.
const BEGIN: &str = "SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; BEGIN";

const TAKE: &str = "SELECT pg_try_advisory_xact_lock_shared(hashtextextended($1, 0))";

/// A lock by one number of 64 bits shows as two of 32.
const HOLDER: &str = "
SELECT coalesce(nullif(activity.application_name, ''), 'a program') || ', process ' || activity.pid
    || coalesce(' at ' || host(activity.client_addr), '')
FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid), hashtextextended($1, 0) AS key
WHERE locks.locktype = 'advisory' AND locks.granted AND locks.objsubid = 1
    AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND locks.classid::bigint = (key >> 32) & 4294967295 AND locks.objid::bigint = key & 4294967295
LIMIT 1";

/// A row holds this long without being renewed.
const ROW_HOLDS: Duration = Duration::from_secs(30);

/// A row that nobody else holds; those of the same name share it.
const TAKE_ROW: &str = "
INSERT INTO locks (name, holder, shares, until) VALUES ($1, $2, 1, now() + $3 * interval '1 millisecond')
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until,
    shares = CASE WHEN locks.until < now() THEN 1 ELSE locks.shares + 1 END
WHERE locks.until < now() OR locks.holder = excluded.holder
RETURNING 1";

const RENEW_ROW: &str = "
UPDATE locks SET until = now() + $3 * interval '1 millisecond' WHERE name = $1 AND holder = $2";

const LEAVE_ROW: &str = "UPDATE locks SET shares = shares - 1 WHERE name = $1 AND holder = $2";

/// A share that a process took with it when it died stays until the row runs out.
const DROP_ROW: &str = "DELETE FROM locks WHERE name = $1 AND holder = $2 AND shares <= 0";

const ROW_HOLDER: &str = "SELECT holder FROM locks WHERE name = $1";

const SOMEBODY: &str = "another program";

/// What came of asking for a lock: it, or who has it.
pub type Taken<T> = Result<T, String>;

/// The advisory lock, on a connection that is its holder's alone.
pub async fn take(session: Session, key: &str) -> OpResult<Taken<Session>> {
    session.client().batch_execute(BEGIN).await?;
    let param = [(&key as _, Type::TEXT)];
    if session.query_opt(TAKE, &param).await?.is_some_and(|row| row.get(0)) {
        return Ok(Ok(session));
    }
    let holder = session.query_opt(HOLDER, &param).await?;
    Ok(Err(holder.map_or_else(|| SOMEBODY.to_owned(), |row| row.get(0))))
}

/// The row, renewed while it is held.
pub async fn take_row(shared: &Arc<Shared>, session: &Session, key: &str) -> OpResult<Taken<HeldRow>> {
    let holder = shared.settings.application_name.clone();
    let holds = ROW_HOLDS.as_secs_f64() * 1e3;
    let params = [(&key as _, Type::TEXT), (&holder as _, Type::TEXT), (&holds as _, Type::FLOAT8)];
    if session.query_opt(TAKE_ROW, &params).await?.is_some() {
        let renewing = tokio::spawn(renew(shared.clone(), key.to_owned(), holder.clone()));
        return Ok(Ok(HeldRow { shared: shared.clone(), key: key.to_owned(), holder, renewing }));
    }
    let found = session.query_opt(ROW_HOLDER, &[(&key as _, Type::TEXT)]).await?;
    Ok(Err(found.map_or_else(|| SOMEBODY.to_owned(), |row| row.get(0))))
}

async fn renew(shared: Arc<Shared>, key: String, holder: String) {
    let holds = ROW_HOLDS.as_secs_f64() * 1e3;
    loop {
        tokio::time::sleep(ROW_HOLDS / 3).await;
        let (key, holder) = (key.clone(), holder.clone());
        let renewed = shared.run(move |session| {
            Box::pin(async move {
                let params = [(&key as _, Type::TEXT), (&holder as _, Type::TEXT), (&holds as _, Type::FLOAT8)];
                session.execute(RENEW_ROW, &params).await
            })
        });
        if let Err(error) = renewed.await {
            tracing::warn!(reason = %error, "renew lock; trying on");
        }
    }
}

/// Gives the row up when it is dropped.
pub struct HeldRow {
    shared: Arc<Shared>,
    key: String,
    holder: String,
    renewing: JoinHandle<()>,
}

impl Drop for HeldRow {
    fn drop(&mut self) {
        self.renewing.abort();
        let (shared, key, holder) = (self.shared.clone(), self.key.clone(), self.holder.clone());
        // Dropped on an actor's thread, which may end before it is done. If it fails the row runs out.
        self.shared.dial.spawn(async move {
            let left = shared.run(move |session| {
                Box::pin(async move {
                    let params = [(&key as _, Type::TEXT), (&holder as _, Type::TEXT)];
                    session.execute(LEAVE_ROW, &params).await?;
                    session.execute(DROP_ROW, &params).await
                })
            });
            if let Err(error) = left.await {
                tracing::debug!(reason = %error, "give up lock; it runs out by itself");
            }
        });
    }
}
