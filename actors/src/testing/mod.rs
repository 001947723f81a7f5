//! What the tests of both packages share: a ledger in memory, what every ledger must keep, and a scripted domain.
//!
//! ```text
//! contract ─┐                        ┌─ MemoryLedger
//!           ├─▶ any `dyn Ledger` ◀───┤
//! model ────┘                        └─ the store's own ledgers
//!
//! scripted ──▶ a `Domain` whose jobs say themselves what goes wrong, where and when
//! ```
//!
//! Nothing here is compiled without the feature `testing`, and nothing here sleeps.

pub mod contract;
pub mod memory;
pub mod model;
pub mod scripted;
