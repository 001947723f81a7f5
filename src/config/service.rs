//! What the service has beside its domains.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::config::secret::{self, Secret, mask_password};
use crate::config::units;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub url: StoreUrl,
    /// Of the embedded store; PostgreSQL has its own `synchronous_commit`.
    pub synchronous: Synchronous,
    pub pooler: Pooler,
    /// Of the pool, on PostgreSQL; each upload actor has one more of its own.
    pub connections: usize,
    #[serde(deserialize_with = "units::duration")]
    pub connect_timeout: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub statement_timeout: Duration,
    /// How often the ledger is looked at where nobody can be notified.
    #[serde(deserialize_with = "units::duration")]
    pub poll: Duration,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    /// The disk.
    Full,
    /// The operating system.
    Normal,
}

/// What stands between this program and PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooler {
    /// Nothing, or what keeps a session for as long as the connection lives.
    Session,
    /// What hands the connection on after each transaction (PgBouncer, Supavisor on port 6543): nothing that belongs to
    /// a session is used.
    Transaction,
}

/// Where the store is. Its texts never hold a password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// The file of the embedded store.
    Sqlite(PathBuf),
    Postgres(PostgresUrl),
}

/// An address of PostgreSQL, with the password that may be in it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// Another database on the same server.
    pub fn with_database(&self, name: &str) -> PostgresUrl {
        match reqwest::Url::parse(&self.0) {
            Ok(mut url) => {
                url.set_path(name);
                PostgresUrl(url.into())
            }
            // Several hosts, which only PostgreSQL's own reader understands: the path stands before the parameters.
            Err(_) => {
                let (address, params) = self.0.split_once('?').unwrap_or((&self.0, ""));
                let server = address.rsplit_once('/').map_or(address, |(server, _)| server);
                PostgresUrl(format!("{server}/{name}?{params}"))
            }
        }
    }

    /// For the one place that connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl StoreUrl {
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown = mask_password(text);
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(StoreUrl::Postgres(PostgresUrl(text.to_owned())));
        }
        match text.strip_prefix("sqlite://") {
            Some(path) if !path.is_empty() && !path.ends_with('/') => Ok(StoreUrl::Sqlite(PathBuf::from(path))),
            Some(_) | None => Err(format!(
                "`{shown}` names no store; use sqlite://path/file.db or postgres://user:password@host/database"
            )),
        }
    }

    /// The file, or the address without its password: for people.
    pub fn place(&self) -> String {
        match self {
            StoreUrl::Sqlite(path) => path.display().to_string(),
            StoreUrl::Postgres(_) => self.to_string(),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            StoreUrl::Postgres(url) => f.write_str(&mask_password(&url.0)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StoreUrl::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    #[serde(deserialize_with = "units::duration")]
    pub shutdown_grace: Duration,
    /// Threads that drive connections.
    pub threads: usize,
    #[serde(deserialize_with = "secret::optional")]
    pub admin_token: Option<Secret>,
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.replace("localhost", "127.0.0.1").parse().map_err(|_| {
        D::Error::custom(format!(
            "`{text}` is not an address to listen on: write host and port, such as \"127.0.0.1:8500\""
        ))
    })
}

/// This process among those that share a ledger on PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThisNode {
    /// Empty: the name of the host.
    #[serde(deserialize_with = "node_name")]
    pub name: String,
    #[serde(deserialize_with = "units::duration")]
    pub heartbeat: Duration,
    /// A node that was silent for this long is dead.
    #[serde(deserialize_with = "units::duration")]
    pub lapse: Duration,
}

fn node_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.len() > 100 || !text.chars().all(fits) {
        return Err(D::Error::custom(format!(
            "`{text}` is not a name of a node: letters, digits, `-`, `_` and `.`, at most 100"
        )));
    }
    Ok(text)
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    #[serde(deserialize_with = "level")]
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    let text = String::deserialize(deserializer)?;
    // The filter takes a lone unknown word for the name of a target, and then logs nothing else.
    let lone = text.chars().all(|c| c.is_ascii_alphabetic()) && !LEVELS.contains(&text.to_lowercase().as_str());
    if lone || tracing_subscriber::EnvFilter::try_new(&text).is_err() {
        return Err(D::Error::custom(format!(
            "`{text}` is not a log level: one of {}, or with targets: \"info,longshore::store=debug\"",
            LEVELS.join(", ")
        )));
    }
    Ok(text)
}

/// How long finished jobs stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    #[serde(deserialize_with = "units::duration")]
    pub completed_for: Duration,
    pub completed_max: u64,
    #[serde(deserialize_with = "units::duration")]
    pub failed_for: Duration,
    pub failed_max: u64,
    #[serde(deserialize_with = "units::size")]
    pub bytes_max: u64,
    /// Rows deleted in one transaction.
    pub batch: usize,
}

impl Retention {
    /// As the ledger takes it.
    pub fn for_ledger(&self) -> longshore_actors::ledger::Retention {
        let Retention { completed_for, completed_max, failed_for, failed_max, bytes_max, batch } = *self;
        longshore_actors::ledger::Retention { completed_for, completed_max, failed_for, failed_max, bytes_max, batch }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upkeep {
    #[serde(deserialize_with = "units::duration")]
    pub every: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub lease: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub prune_every: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub probe_every: Duration,
    #[serde(deserialize_with = "units::duration")]
    pub stats_every: Duration,
}
