//! PostgreSQL as store and ledger, shared by several nodes.

pub mod cells;
pub mod copy;
pub mod error;
pub mod listing;
pub mod read;
pub mod removal;
pub mod rows;
pub mod schema;
pub mod session;
pub mod statements;
