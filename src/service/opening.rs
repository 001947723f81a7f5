//! Where the configured store is opened: the embedded file, or PostgreSQL.
//!
//! ```text
//! Config ─▶ open_store ─┬─ sqlite://…    takes the file's lock; one process
//!                       └─ postgres://…  a pool of connections; this process is one node of several
//! ```
//!
//! Opening brings the schema up to date. It does not join the nodes: a command that only asks is none.

use std::path::Path;
use std::sync::Arc;

use longshore_actors::clock::Clock;

use crate::config::{self, Config, StoreUrl};
use crate::service::StartError;
use crate::store::Store;
use crate::store::migrations::Status;
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::{self, SqliteStore};

/// What the database shows as the name of each connection.
const APPLICATION: &str = "longshore";

/// Names this process in leases and among the nodes; different for every start.
pub fn process(config: &Config, clock: &Clock) -> Arc<str> {
    format!("{}-{}-{}", node_name(config), std::process::id(), clock.now().0).into()
}

/// As configured, or the host's.
pub fn node_name(config: &Config) -> String {
    if !config.node.name.is_empty() {
        return config.node.name.clone();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String = host.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if plain.is_empty() { "node".to_owned() } else { plain }
}

/// Opens the configured store, which takes the file's lock or connects.
pub async fn open_store(config: &Config, clock: &Clock, process: Arc<str>) -> Result<Arc<dyn Store>, StartError> {
    match &config.store.url {
        StoreUrl::Sqlite(path) => Ok(Arc::new(open_file(path, synchronous(config), clock)?)),
        StoreUrl::Postgres(_) => Ok(Arc::new(open_postgres(config, clock, process).await?)),
    }
}

/// Opens the configured store for one who may not change its schema.
pub(super) async fn open_unchanged(
    config: &Config,
    clock: &Clock,
    process: Arc<str>,
) -> Result<Arc<dyn Store>, StartError> {
    let pending = migrations(config, clock).await?.iter().filter(|status| status.applied_at.is_none()).count();
    if pending > 0 {
        return Err(StartError::Pending { migrations: pending });
    }
    open_store(config, clock, process).await
}

/// The migrations of the configured store, without changing anything.
pub async fn migrations(config: &Config, clock: &Clock) -> Result<Vec<Status>, StartError> {
    match &config.store.url {
        StoreUrl::Sqlite(path) => sqlite::status(path).map_err(StartError::Store),
        StoreUrl::Postgres(url) => {
            let settings = postgres_settings(config, url, process(config, clock));
            postgres::status(&settings).await.map_err(StartError::Postgres)
        }
    }
}

pub async fn open_postgres(config: &Config, clock: &Clock, process: Arc<str>) -> Result<PostgresStore, StartError> {
    let StoreUrl::Postgres(url) = &config.store.url else { unreachable!("asked for where the URL is PostgreSQL's") };
    let settings = postgres_settings(config, url, process);
    PostgresStore::open(settings, clock.now()).await.map_err(StartError::Postgres)
}

/// A database of one's own on the configured server, empty; the configuration that names it.
pub async fn make_database(config: &Config, name: &str) -> Result<Config, StartError> {
    let StoreUrl::Postgres(url) = &config.store.url else { return Ok(config.clone()) };
    let clock = Clock::system();
    let store = open_postgres(config, &clock, process(config, &clock)).await?;
    // What a process that was killed has left under this name goes first.
    let made = match store.remove_database(name).await {
        Ok(()) => store.create_database(name).await,
        Err(error) => Err(error),
    };
    store.close().await;
    made.map_err(StartError::Database)?;
    let mut own = config.clone();
    own.store.url = StoreUrl::Postgres(url.with_database(name));
    Ok(own)
}

pub async fn remove_database(config: &Config, name: &str) -> Result<(), StartError> {
    let clock = Clock::system();
    let store = open_postgres(config, &clock, process(config, &clock)).await?;
    let removed = store.remove_database(name).await;
    store.close().await;
    removed.map_err(StartError::Database)
}

fn postgres_settings(config: &Config, url: &config::PostgresUrl, process: Arc<str>) -> postgres::Settings {
    let config::Store { url: _, synchronous: _, pooler, connections, connect_timeout, statement_timeout, poll } =
        config.store;
    postgres::Settings {
        url: url.expose().to_owned(),
        pooler: match pooler {
            config::Pooler::Session => postgres::Pooler::Session,
            config::Pooler::Transaction => postgres::Pooler::Transaction,
        },
        connections,
        connect_timeout,
        statement_timeout,
        poll,
        application_name: APPLICATION.to_owned(),
        process,
        heartbeat_lapse: config.node.lapse,
        ca_file: None,
    }
}

fn synchronous(config: &Config) -> sqlite::Synchronous {
    match config.store.synchronous {
        config::Synchronous::Full => sqlite::Synchronous::Full,
        config::Synchronous::Normal => sqlite::Synchronous::Normal,
    }
}

pub(super) fn open_file(
    path: &Path,
    synchronous: sqlite::Synchronous,
    clock: &Clock,
) -> Result<SqliteStore, StartError> {
    let settings = sqlite::Settings { synchronous, ..sqlite::Settings::default() };
    SqliteStore::open(path, settings, clock.now()).map_err(StartError::Store)
}

/// A dry run reads a copy of the file: opening a store can migrate it, and gives back what was active.
pub(super) fn open_copy(store: &Path, folder: &Path, clock: &Clock) -> Result<SqliteStore, StartError> {
    let copy = folder.join("store.db");
    sqlite::copy(store, &copy).map_err(StartError::Store)?;
    open_file(&copy, sqlite::Synchronous::Normal, clock)
}

/// The ledger of a dry run, in a folder of its own.
pub(super) fn scratch(clock: &Clock) -> Result<(SqliteStore, tempfile::TempDir), StartError> {
    let folder = tempfile::Builder::new().prefix("longshore-dry-run").tempdir().map_err(StartError::Scratch)?;
    // It lives as long as the command; nothing in it needs to survive a power cut.
    let store = open_file(&folder.path().join("ledger.db"), sqlite::Synchronous::Normal, clock)?;
    Ok((store, folder))
}
