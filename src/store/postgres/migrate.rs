//! Runs the migrations on a PostgreSQL database, under a lock.
//!
//! Everything that is missing runs in one transaction that first takes an advisory lock: of several programs that start
//! at once one migrates, and the others wait and find it done. A lock of the transaction works behind a pooler too.

use longshore_actors::clock::Timestamp;
use tokio_postgres::types::{ToSql, Type};

use crate::store::migrations::{self, Applied, Migration, Mismatch};
use crate::store::postgres::error::{OpError, OpResult};
use crate::store::postgres::session::{Session, Tx};

/// What another one has just committed must be seen here. Neither the wait for the lock nor the making of an index has
/// to end within the time of an ordinary statement.
const ALONE: &str = "
SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
SELECT pg_advisory_xact_lock(1819242099, 1)";

const CREATE: &str = "
CREATE TABLE IF NOT EXISTS migrations (
    version integer NOT NULL PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at bigint NOT NULL);
ALTER TABLE migrations ENABLE ROW LEVEL SECURITY";

const EXISTS: &str = "
SELECT CASE WHEN to_regclass('migrations') IS NOT NULL THEN row_security_active('migrations') END";

const APPLIED: &str = "SELECT version, name, checksum, applied_at FROM migrations ORDER BY version";

const NOTE: &str = "INSERT INTO migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)";

#[derive(Debug)]
pub enum MigrateError {
    Mismatch(Mismatch),
    /// The rows of the schema's tables are hidden from this role.
    Hidden,
    Op(OpError),
}

impl From<OpError> for MigrateError {
    fn from(error: OpError) -> Self {
        MigrateError::Op(error)
    }
}

impl From<tokio_postgres::Error> for MigrateError {
    fn from(error: tokio_postgres::Error) -> Self {
        MigrateError::Op(error.into())
    }
}

/// Runs what is missing. Answers how many ran. Where nothing is missing nothing is locked or written, so that a role
/// that may not make tables can start.
pub async fn migrate(session: &mut Session, known: &[Migration], now: Timestamp) -> Result<usize, MigrateError> {
    let seen = applied(session).await?;
    if migrations::pending(known, &seen).map_err(MigrateError::Mismatch)?.is_empty() {
        return Ok(0);
    }
    let tx = session.begin().await?;
    let ran = run(&tx, known, now).await?;
    tx.commit().await?;
    Ok(ran)
}

async fn run(tx: &Tx<'_>, known: &[Migration], now: Timestamp) -> Result<usize, MigrateError> {
    tx.inner().batch_execute(ALONE).await?;
    tx.inner().batch_execute(CREATE).await?;
    let applied = read(tx.query(APPLIED, &[]).await?)?;
    let pending = migrations::pending(known, &applied).map_err(MigrateError::Mismatch)?;
    for migration in pending {
        tx.inner().batch_execute(migration.sql).await?;
        let (version, checksum) = (version(migration.version), migration.checksum());
        let params = [
            (&version as &(dyn ToSql + Sync), Type::INT4),
            (&migration.name, Type::TEXT),
            (&checksum, Type::TEXT),
            (&now.0, Type::INT8),
        ];
        tx.execute(NOTE, &params).await?;
        tracing::debug!(version, name = migration.name, "migration applied");
    }
    Ok(pending.len())
}

/// The migrations this database has, oldest first. A fresh database has none.
pub async fn applied(session: &Session) -> Result<Vec<Applied>, MigrateError> {
    let hidden = session.query_opt(EXISTS, &[]).await?;
    match hidden.map(|row| row.try_get::<_, Option<bool>>(0)).transpose()?.flatten() {
        None => Ok(Vec::new()),
        Some(true) => Err(MigrateError::Hidden),
        Some(false) => Ok(read(session.query(APPLIED, &[]).await?)?),
    }
}

fn read(rows: Vec<tokio_postgres::Row>) -> OpResult<Vec<Applied>> {
    let applied = |row: tokio_postgres::Row| {
        Ok(Applied {
            version: u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0),
            name: row.try_get(1)?,
            checksum: row.try_get(2)?,
            at: Timestamp(row.try_get(3)?),
        })
    };
    rows.into_iter().map(applied).collect()
}

fn version(version: u32) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX)
}
