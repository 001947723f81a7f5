//! Opens the database file: lock, connections with their settings, migrations, and what stood active at the last end.

use std::io;
use std::path::{Path, PathBuf};

use longshore_actors::clock::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::store::migrations::{self, Mismatch, Status};
use crate::store::sqlite::lock::Lock;
use crate::store::sqlite::schema::{self, MigrateError};

/// KiB of pages the writer keeps. The hot ends of the ledger's indexes need far less; this is what bounds memory.
const WRITER_CACHE_KIB: i64 = 8 * 1024;
/// KiB of pages each reader keeps.
const READER_CACHE_KIB: i64 = 1024;
/// Pages in the write-ahead log at which it is folded into the file: 16 MiB, so that a sync of many pages pays for
/// one fold where SQLite's own 4 MiB would make it pay for four.
const FOLD_AT_PAGES: i64 = 4000;
/// The log is cut to this after a fold, in case one long transaction made it large.
const LOG_BYTES_MAX: i64 = 64 * 1024 * 1024;
/// Statements kept prepared: the store has about sixty, and each table a few.
const STATEMENTS: usize = 256;

/// How far an acknowledgement goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// It is on the disk: survives a power cut.
    #[default]
    Full,
    /// It is with the operating system: survives the death of the process, not a power cut.
    Normal,
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub synchronous: Synchronous,
    /// Operations in one transaction at most.
    pub batch_max: usize,
    /// Operations that wait for the writer at most; further callers wait, in order, for a place.
    pub queue_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { synchronous: Synchronous::Full, batch_max: 512, queue_max: 4096 }
    }
}

/// Why the store cannot be opened; each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another longshore{}: stop it, or choose another store.url", path.display(),
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked { path: PathBuf, pid: Option<u32> },
    #[error("cannot write {}: {source}: choose a store.url in a folder that can be written", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("{} is not a database: choose another store.url, or move the file away", path.display())]
    NotADatabase { path: PathBuf },
    #[error("cannot use {}: {mismatch}", path.display())]
    Schema { path: PathBuf, mismatch: Mismatch },
    #[error("cannot open {}: {source}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

impl OpenError {
    pub fn of(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => OpenError::NotADatabase { path },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::DiskFull) => {
                OpenError::Unwritable { path, source: io::Error::other(error.to_string()) }
            }
            _ => OpenError::Sqlite { path, source: error },
        }
    }
}

/// What an open database consists of. The lock is the last to go.
#[derive(Debug)]
pub struct Opened {
    pub writer: Connection,
    pub lock: Lock,
}

/// Takes the lock, opens or creates the file, and brings its schema up to date.
pub fn open(path: &Path, settings: &Settings, now: Timestamp) -> Result<Opened, OpenError> {
    if let Some(folder) = path.parent()
        && !folder.as_os_str().is_empty()
    {
        std::fs::create_dir_all(folder).map_err(|source| OpenError::Unwritable { path: folder.to_owned(), source })?;
    }
    let lock = Lock::take(path)?;
    let mut writer = writer(path, settings).map_err(|error| OpenError::of(path, error))?;
    schema::migrate(&mut writer, migrations::SQLITE, now).map_err(|error| match error {
        MigrateError::Mismatch(mismatch) => OpenError::Schema { path: path.to_owned(), mismatch },
        MigrateError::Sqlite(error) => OpenError::of(path, error),
    })?;
    Ok(Opened { writer, lock })
}

/// The migrations of the file at `path`, without changing or locking it.
pub fn status(path: &Path) -> Result<Vec<Status>, OpenError> {
    if !path.exists() {
        return Ok(migrations::status(migrations::SQLITE, &[]));
    }
    let applied = reader(path).and_then(|conn| schema::applied(&conn)).map_err(|error| OpenError::of(path, error))?;
    match migrations::pending(migrations::SQLITE, &applied) {
        Ok(_) => Ok(migrations::status(migrations::SQLITE, &applied)),
        Err(mismatch) => Err(OpenError::Schema { path: path.to_owned(), mismatch }),
    }
}

/// Writes what is in the file at `from` now to a new one at `to`. It takes no lock and may run beside the owner.
pub fn copy(from: &Path, to: &Path) -> Result<(), OpenError> {
    let copied = reader(from).and_then(|conn| conn.execute("VACUUM INTO ?1", [to.to_string_lossy()]));
    copied.map(drop).map_err(|error| OpenError::of(from, error))
}

fn writer(path: &Path, settings: &Settings) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    // Readers never hold a lock that matters in WAL mode; only a person's own shell can, and briefly.
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(
        None,
        "synchronous",
        match settings.synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        },
    )?;
    conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    conn.pragma_update(None, "wal_autocheckpoint", FOLD_AT_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // Without it SQLite plans by the values that are bound, and prepares some statements anew for each.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(conn)
}

/// A connection that cannot write.
pub fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(conn)
}
