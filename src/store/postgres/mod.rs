pub mod error;
pub mod exposure;
pub mod lock;
pub mod nodes;
pub mod scratch;
pub mod session;
use longshore_actors::clock::Timestamp;
use std::{path::PathBuf, sync::Arc, time::Duration};
#[derive(Clone, Debug)]
pub struct PostgresStore;
#[derive(Clone, Debug)]
pub enum Pooler {
    Session,
    Transaction,
}
#[derive(Clone, Debug)]
pub struct Settings {
    pub url: String,
    pub pooler: Pooler,
    pub connections: usize,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    pub poll: Duration,
    pub application_name: String,
    pub process: Arc<str>,
    pub heartbeat_lapse: Duration,
    pub ca_file: Option<PathBuf>,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct OpenError;
pub async fn status(_: &Settings) -> Result<Vec<crate::store::migrations::Status>, OpenError> {
    Err(OpenError)
}
impl PostgresStore {
    pub async fn open(_: Settings, _: Timestamp) -> Result<crate::store::sqlite::SqliteStore, OpenError> {
        Err(OpenError)
    }
}
impl crate::store::sqlite::SqliteStore {
    pub async fn create_database(&self, _: &str) -> Result<(), longshore_actors::ledger::LedgerError> {
        Ok(())
    }
    pub async fn remove_database(&self, _: &str) -> Result<(), longshore_actors::ledger::LedgerError> {
        Ok(())
    }
}
