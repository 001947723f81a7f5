//! Longshore keeps a company's tables in step with other people's APIs, feeds and queues.
//!
//! The modules stand in order, lowest first; a lower one never names a higher one (a test checks it).

pub mod config;
pub mod telemetry;

pub mod store;

pub mod upstreams;

pub mod targets;

pub mod domains;

pub mod schedule;

pub mod admin;

pub mod http;

pub mod sandbox;

pub mod service;

pub mod cli;
