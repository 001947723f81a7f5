//! The tests that enter by the users' door: the real program, a real store in a file, and the sandbox as upstream.
//!
//! ```text
//! test ─▶ support::World ─┬─ Sandbox, in this process, on a port of its own
//!                         ├─ longshore.toml and longshore.db in a folder of their own
//!                         └─ Program: the real executable as a child; its log is read line by line
//! ```
//!
//! One binary, one file a subject. Nothing sleeps for a guess: a test waits for a line of the log, an answer or a
//! state, each within a deadline. Every world has a recognisable key and is searched for it when it ends.

#![allow(clippy::unwrap_used)]

mod support;

mod bad_input;
mod contract;
mod demo;
mod faults;
mod football;
mod full_disk;
mod kill;
mod layering;
mod nodes;
mod objects;
mod pooler;
mod postgres;
mod postgres_groups;
mod postgres_rows;
mod products;
mod promidata;
mod schedule;
mod secrets;
mod service;
mod sync;
