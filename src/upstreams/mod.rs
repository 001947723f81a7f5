//! Other people's services, as this one reads them: one HTTP client for all providers.
//!
//! ```text
//!                      Upstream::get
//!  drains? ──▶ breaker open? ──▶ bucket ──▶ breaker's pass ──▶ send, read the body ──▶ judge ──▶ Reply | Fault
//!  Cancelled   Unavailable       in order    probes one at      one deadline, one       │
//!                                            a time             size cap                ├─▶ breaker: good | bad
//!                                                                                       └─▶ bucket: pause
//! ```
//!
//! One [`Upstream`] is one credential at one host, cheap to clone and shared by all actors of a domain. Every limit has
//! a number in its [`UpstreamSettings`]. A file that is too long to be held is read piece by piece ([`Stream`]), within
//! the same limits; a provider whose addresses name several hosts has an upstream for each ([`Hosts`]).
//!
//! Invariants: no secret is in a log, an error, a URL for logs or a `Debug` form; the key never goes to another origin,
//! whatever a redirect says; an outage ends in `Unavailable`, which burns no attempt; no wait goes past a drain.
//!
//! It does not know what a 404 means to a provider: that is for the typed client of the domain, which gets every answer
//! that is not a 429 or a 5xx as a [`Reply`].

mod client;
mod exchange;
mod hosts;
#[cfg(test)]
mod loopback;
mod reply;
mod settings;
mod stream;
mod verdict;

pub use crate::config::Secret;
pub use client::{Probe, Upstream, UpstreamStatus};
pub use exchange::Cap;
pub use hosts::Hosts;
pub use reply::Reply;
pub use settings::{Auth, UpstreamError, UpstreamSettings};
pub use stream::{Stream, Validators};
