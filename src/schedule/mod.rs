//! Work that comes with time: schedules that put jobs into the ledger, and the upkeep of the ledger itself.
//!
//! ```text
//! when ──▶ missed ──▶ scheduler ──fire──▶ store (one row a fire, and its job, in one transaction)
//!                     upkeep ──release, rescue, prune──▶ ledger;  ──probe──▶ upstreams
//!                     heartbeat ──▶ store: this node lives
//! ```
//!
//! [`when`] and [`missed`] decide and are pure; [`scheduler`], [`upkeep`] and [`heartbeat`] are the running parts.

#[cfg(test)]
pub(crate) mod fake;
pub mod heartbeat;
pub mod missed;
pub mod scheduler;
pub mod upkeep;
pub mod when;
