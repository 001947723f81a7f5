//! The runtime of Longshore: supervision, pools with backpressure, and the life of a job.
//!
//! ```text
//! Supervisor ───────────── the root: starts in order, restarts, parks, stops in reverse
//! ├── services             one loop each (scheduler, upkeep, HTTP)
//! └── Coordinator<D>       one a domain: claims jobs, drives each to its record
//!     ├── Pool<D::Fetch>       workers that pull from one bounded mailbox
//!     ├── Pool<D::Transform>   the same, on threads of their own
//!     └── Pool<D::Upload>
//! ```
//!
//! A domain implements [`domain::Domain`] with three [`stage::Stage`]s; its jobs stand in a [`ledger::Ledger`];
//! [`supervisor::Tree`] runs it. The example `tree` shows all of it in memory on one screen.
//!
//! The crate knows no domain, no HTTP and no SQL. What it promises and tests: a mailbox holds only work whose job
//! stands in the ledger, so losing a mailbox loses nothing; a write with a stale lease is refused; failures are data
//! and only bugs restart actors; everything is bounded; shutdown ends within its deadline.

pub mod backoff;
pub mod breaker;
pub mod checkpoint;
pub mod child;
pub mod clock;
mod coordinator;
mod decide;
pub mod domain;
mod driver;
pub mod events;
pub mod job;
pub mod ledger;
pub mod limits;
mod mailbox;
mod pages;
mod pool;
pub mod restart;
pub mod runtime;
pub mod settings;
pub mod shutdown;
pub mod stage;
pub mod status;
pub mod supervisor;
#[cfg(feature = "testing")]
pub mod testing;
pub mod threads;
pub mod watch;
mod worker;
