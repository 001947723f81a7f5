//! Opens the database: connections with their settings, what the server must be and allow, migrations.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_actors::clock::Timestamp;
use tokio_postgres::error::SqlState;

use crate::store::migrations::{self, Mismatch, Status};
use crate::store::postgres::connect::{Dial, Place};
use crate::store::postgres::error::{OpError, describe};
use crate::store::postgres::migrate::{self, MigrateError};
use crate::store::postgres::session::Session;
use crate::store::postgres::tls::AuthorityError;

/// The oldest server that is tested against, as it counts its versions.
const VERSION_MIN: i32 = 130_000;

/// Clocks that differ by more than this make leases and schedules hard to understand.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

const SERVER: &str = "
SELECT current_setting('server_version_num')::integer, current_setting('server_version'), pg_is_in_recovery(),
    current_setting('transaction_read_only') = 'on', (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// A table of the ledger that this role may not use, or of which it would see no row.
const FORBIDDEN: &str = "
SELECT name, row_security_active(name) FROM unnest(ARRAY['meta', 'jobs', 'job_counts', 'job_attempts', 'nodes', 'locks',
    'schedules', 'fires', 'sync_state', 'quotas', 'rejected_records', 'snapshot_keys']) AS needed(name)
WHERE row_security_active(name) OR NOT (has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT')
    AND has_table_privilege(name, 'UPDATE') AND has_table_privilege(name, 'DELETE'))
    OR NOT has_sequence_privilege('jobs_id_seq', 'USAGE')
LIMIT 1";

/// What stands between the program and the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing: statements stay prepared. Poolers refuse what is set with the connection.
    #[default]
    Session,
    /// A pooler, such as one that hands the connection on after each transaction: nothing of a session is used.
    Transaction,
}

#[derive(Clone)]
pub struct Settings {
    pub url: String,
    pub pooler: Pooler,
    /// Connections shared by all who have none of their own; further callers wait, in order, for one.
    pub connections: usize,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    /// How often the ledger is looked at where nobody can be notified.
    pub poll: Duration,
    pub application_name: String,
    /// This start of this program, as `jobs.owner` has it before the slash.
    pub process: Arc<str>,
    /// How old a node's last heartbeat may be before it counts as dead.
    pub heartbeat_lapse: Duration,
    /// Certificates of authorities; goes before `sslrootcert` in the URL.
    pub ca_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            pooler: Pooler::Session,
            connections: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            application_name: "longshore".to_owned(),
            process: "longshore".into(),
            heartbeat_lapse: Duration::from_secs(15),
            ca_file: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds the password.
        let Settings { url: _, pooler, connections, connect_timeout, statement_timeout, .. } = self;
        f.debug_struct("Settings")
            .field("pooler", pooler)
            .field("connections", connections)
            .field("connect_timeout", connect_timeout)
            .field("statement_timeout", statement_timeout)
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

/// Why the store cannot be opened; each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("store.url cannot be used: {why}")]
    Url { why: String },
    #[error("cannot reach PostgreSQL at {place}: {reason}: check that it runs, and host and port in store.url")]
    Unreachable { place: Place, reason: String },
    #[error("PostgreSQL at {place} does not let user {} in: {reason}: check user and password in store.url", place.user)]
    Credentials { place: Place, reason: String },
    #[error("PostgreSQL at {place} has no database {}: create it, or name another one in store.url", place.database)]
    MissingDatabase { place: Place },
    #[error("PostgreSQL at {place} has version {version}: 13 or later is needed")]
    TooOld { place: Place, version: String },
    #[error("PostgreSQL at {place} cannot be written: {reason}: name the primary server in store.url")]
    ReadOnly { place: Place, reason: &'static str },
    #[error("user {} may not use database {} at {place}: {reason}", place.user, place.database)]
    Privileges { place: Place, reason: String },
    #[error("{place} is no PostgreSQL but a pooler: {reason}: set store.pooler to \"transaction\"")]
    Pooler { place: Place, reason: String },
    #[error("no encrypted connection to PostgreSQL at {place}: {reason}: check sslmode and sslrootcert in store.url")]
    Tls { place: Place, reason: String },
    #[error("{0}")]
    Authority(AuthorityError),
    #[error("cannot use database {} at {place}: {mismatch}", place.database)]
    Schema { place: Place, mismatch: Mismatch },
    #[error("cannot use database {} at {place}: {reason}", place.database)]
    Database { place: Place, reason: String },
}

impl OpenError {
    pub fn of(place: &Place, error: &tokio_postgres::Error) -> OpenError {
        let (place, reason) = (place.clone(), describe(error));
        let Some(code) = error.code() else {
            // The driver says so in words alone.
            return if reason.contains("TLS") {
                OpenError::Tls { place, reason }
            } else {
                OpenError::Unreachable { place, reason }
            };
        };
        if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
            OpenError::Credentials { place, reason }
        } else if *code == SqlState::INVALID_CATALOG_NAME {
            OpenError::MissingDatabase { place }
        } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            OpenError::Privileges { place, reason }
        } else if *code == SqlState::INVALID_SCHEMA_NAME {
            let reason = format!("{reason}: it needs a schema in which it may make tables");
            OpenError::Privileges { place, reason }
        } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            OpenError::ReadOnly { place, reason: "it is read-only" }
        } else if *code == SqlState::PROTOCOL_VIOLATION && reason.contains("startup parameter") {
            OpenError::Pooler { place, reason }
        } else if ["08", "53", "57"].iter().any(|class| code.code().starts_with(class)) {
            OpenError::Unreachable { place, reason }
        } else {
            OpenError::Database { place, reason }
        }
    }

    fn of_op(place: &Place, error: OpError) -> OpenError {
        match error {
            OpError::Database(error) => OpenError::of(place, &error),
            OpError::Refused(error) => OpenError::Database { place: place.clone(), reason: error.to_string() },
        }
    }

    fn of_migrate(place: &Place, error: MigrateError) -> OpenError {
        match error {
            MigrateError::Mismatch(mismatch) => OpenError::Schema { place: place.clone(), mismatch },
            MigrateError::Hidden => OpenError::hidden(place, "migrations"),
            MigrateError::Op(error) => OpenError::of_op(place, error),
        }
    }

    fn hidden(place: &Place, table: &str) -> OpenError {
        let reason =
            format!("the rows of {table} are hidden from it: make it the owner of the tables, or give it BYPASSRLS");
        OpenError::Privileges { place: place.clone(), reason }
    }
}

/// Looks at the server, brings the schema up to date, and makes sure that it can be used.
pub async fn open(dial: &Dial, settings: &Settings, now: Timestamp) -> Result<(), OpenError> {
    let begun = Instant::now();
    let mut session = connect(dial, settings).await?;
    check(&session, &dial.place, now, begun).await?;
    let place = &dial.place;
    migrate::migrate(&mut session, migrations::POSTGRES, now)
        .await
        .map_err(|error| OpenError::of_migrate(place, error))?;
    let forbidden = session.query_opt(FORBIDDEN, &[]).await.map_err(|error| OpenError::of_op(place, error))?;
    if let Some(row) = forbidden {
        let (table, hidden): (String, bool) = (row.get(0), row.get(1));
        if hidden {
            return Err(OpenError::hidden(place, &table));
        }
        let reason =
            format!("it needs SELECT, INSERT, UPDATE and DELETE on {table}, and USAGE on the sequence jobs_id_seq");
        return Err(OpenError::Privileges { place: place.clone(), reason });
    }
    Ok(())
}

/// The migrations of the database, without changing it.
pub async fn status(settings: &Settings) -> Result<Vec<Status>, OpenError> {
    let dial = Dial::new(settings)?;
    let session = connect(&dial, settings).await?;
    let applied = migrate::applied(&session).await.map_err(|error| OpenError::of_migrate(&dial.place, error))?;
    match migrations::pending(migrations::POSTGRES, &applied) {
        Ok(_) => Ok(migrations::status(migrations::POSTGRES, &applied)),
        Err(mismatch) => Err(OpenError::Schema { place: dial.place, mismatch }),
    }
}

async fn connect(dial: &Dial, settings: &Settings) -> Result<Session, OpenError> {
    match dial.connect_own().await {
        Some(Ok(client)) => Ok(Session::own(client, settings.pooler == Pooler::Session)),
        Some(Err(error)) => Err(OpenError::of(&dial.place, &error)),
        None => {
            let reason = format!("no answer within {:?}", settings.connect_timeout);
            Err(OpenError::Unreachable { place: dial.place.clone(), reason })
        }
    }
}

/// `now` was true at `begun`; the connection may have taken a while since.
async fn check(session: &Session, place: &Place, now: Timestamp, begun: Instant) -> Result<(), OpenError> {
    let failed = |error| OpenError::of_op(place, error);
    let row = session.query_opt(SERVER, &[]).await.map_err(failed)?;
    let row = row.ok_or_else(|| OpenError::Database { place: place.clone(), reason: "it answers nothing".into() })?;
    judge(place, row.get(0), row.get(1), row.get(2), row.get(3))?;
    let apart = apart(Timestamp(row.get(4)), now, now.plus(begun.elapsed()));
    if apart > CLOCK_SKEW {
        tracing::warn!(
            apart_ms = apart.as_millis() as u64,
            "the clock here and the database's differ: leases and schedules go by the one here"
        );
    }
    Ok(())
}

/// How far a clock is from the one here, at the least: that one was looked at somewhere between these two instants.
fn apart(there: Timestamp, before: Timestamp, after: Timestamp) -> Duration {
    there.since(after).max(before.since(there))
}

fn judge(place: &Place, number: i32, version: String, replica: bool, read_only: bool) -> Result<(), OpenError> {
    let place = place.clone();
    if number < VERSION_MIN {
        return Err(OpenError::TooOld { place, version });
    }
    if replica {
        return Err(OpenError::ReadOnly { place, reason: "it is a replica" });
    }
    if read_only {
        return Err(OpenError::ReadOnly { place, reason: "it is read-only" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_slow_answer_is_no_clock_that_differs() {
        let at = |seconds: i64| Timestamp(seconds * 1_000);
        for (there, seconds) in [(at(90), 10), (at(100), 0), (at(120), 0), (at(130), 0), (at(137), 7)] {
            assert_eq!(apart(there, at(100), at(130)), Duration::from_secs(seconds), "{there:?}");
        }
    }

    #[test]
    fn old_servers_and_replicas_are_refused_in_one_line() {
        let place = Place { server: "db:5432".into(), database: "things".into(), user: "me".into() };
        let said = |number, replica, read_only| {
            judge(&place, number, "12.22".into(), replica, read_only).map_err(|error| error.to_string())
        };
        assert_eq!(said(130_000, false, false), Ok(()));
        for (answer, word) in [
            (said(120_022, false, false), "has version 12.22: 13 or later"),
            (said(150_000, true, true), "it is a replica"),
            (said(150_000, false, true), "it is read-only"),
        ] {
            let line = answer.unwrap_err();
            assert!(line.contains(word) && line.contains("db:5432") && !line.contains('\n'), "{line}");
        }
    }
}
