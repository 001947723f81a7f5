//! The two places where commands without a service around them meet the store and the upstreams.

use std::sync::Arc;

use longshore_actors::ledger::Ledger;

use crate::cli::check::Finding;
use crate::cli::exit::Failure;
use crate::config::Config;

/// Opens the ledger of the configured store; asked when no service listens. An existing store only: a question makes
/// no file.
pub async fn open_ledger(_config: &Config) -> Result<Arc<dyn Ledger>, Failure> {
    Err(Failure::internal("not wired yet"))
}

/// Tries the store and the upstreams of all enabled domains, for `check`.
pub async fn connect(_config: &Config) -> Vec<Finding> {
    vec![Finding { what: "connections".to_owned(), ok: false, text: "not wired yet".to_owned() }]
}
