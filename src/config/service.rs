//! What the service has beside its domains.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::config::secret::{self, Secret, mask_password};
use crate::config::units;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub url: StoreUrl,
    pub synchronous: Synchronous,
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

/// Where the store is. Its texts never hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    text: String,
    path: PathBuf,
}

impl StoreUrl {
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown = mask_password(text);
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Err(format!("`{shown}`: PostgreSQL is not built in yet; use sqlite://path/file.db"));
        }
        match text.strip_prefix("sqlite://") {
            Some(path) if !path.is_empty() && !path.ends_with('/') => {
                Ok(Self { text: text.to_owned(), path: PathBuf::from(path) })
            }
            Some(_) | None => Err(format!("`{shown}` names no store; use sqlite://path/file.db")),
        }
    }

    /// The file of the embedded store.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_password(&self.text))
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
