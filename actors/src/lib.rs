//! The runtime of Longshore.

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
mod mailbox;
mod pool;
pub mod restart;
pub mod runtime;
pub mod settings;
pub mod limits;
pub mod shutdown;
pub mod stage;
pub mod status;
pub mod supervisor;
pub mod threads;
pub mod watch;
mod worker;
