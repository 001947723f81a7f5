//! PostgreSQL as store and ledger, shared by several nodes.

pub mod error;
pub mod session;
