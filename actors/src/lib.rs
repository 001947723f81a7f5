//! The runtime of Longshore.

pub mod backoff;
pub mod breaker;
pub mod checkpoint;
pub mod clock;
pub mod domain;
pub mod events;
pub mod job;
pub mod ledger;
pub mod shutdown;
pub mod stage;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;
