//! The runtime through its public door: a tree with scripted domains on a ledger in memory.
//!
//! One file a subject. Time is paused and moves by itself when nothing else can happen; what is waited for is an event
//! or a count. A number after "invariant" is that of the list of invariants the whole service keeps.

#![allow(clippy::unwrap_used)]

mod support;

mod backpressure;
mod breaker;
mod escalation;
mod events;
mod faults;
mod groups;
mod hung;
mod leases;
mod life;
mod outage;
mod resize;
mod restart;
mod service;
mod shutdown;
mod soak;
