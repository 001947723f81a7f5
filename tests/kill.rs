//! Invariant 1: `kill -9` at any instant loses nothing, doubles nothing, and costs nobody an attempt or a wait.

use std::time::{Duration, Instant};

use longshore::sandbox::Dials;
use serde_json::{Value, json};

use crate::support::{World, http, until};

const ROUNDS: u64 = 15;
/// Nobody waits for this: what was active is given back because its owner is gone. Were it waited for, no deadline of
/// this test would hold.
const LEASE: &str = "1h";
/// From the start of the process to its first pages, a debug build on a busy machine: far from a lease all the same.
const AGAIN_WITHIN: Duration = Duration::from_secs(300);

/// A small generator of numbers, so that a failure can be repeated with its seed.
struct Seeded(u64);

impl Seeded {
    /// Below `limit`.
    fn next(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn killed_in_mid_sync_many_times_the_rows_are_exactly_those_served() {
    let latency = Duration::from_millis(10);
    let world = World::with(20_000, Dials { latency, jitter: latency, ..Dials::default() }).set("upkeep.lease", LEASE);
    // Slow enough for all rounds to meet work, also where the hand that kills is late; quick enough for it to end.
    world.configure("rate_per_second = 40.0\nper_page = 50\n");
    let mut seeded = Seeded(2_026);
    let mut acknowledged = None;
    let mut interrupted = 0;

    for round in 0..ROUNDS {
        let (begun, before) = (Instant::now(), world.sandbox.stats().requests);
        let service = world.start(&["run"]);
        if acknowledged.is_none() {
            let body = json!({ "domain": "catalog", "kind": "catalog.full", "params": { "force": true } });
            let answer = http::ask(&service.address(), "POST", "/api/v1/jobs", &body.to_string()).unwrap();
            assert_eq!(answer.0, 201, "{}", answer.1);
            acknowledged = serde_json::from_str::<Value>(&answer.1).unwrap()["id"].as_i64();
        }
        // One request is the probe of the upstream's health. The instant is one of the sandbox's, so that every round
        // gets somewhere on every machine.
        let pages = 2 + seeded.next(8);
        until("pages of this round", || (world.sandbox.stats().requests >= before + pages).then_some(()));
        let took = begun.elapsed();
        assert!(took < AGAIN_WITHIN, "round {round}: work goes on at once, not after {took:?}");
        // Anywhere between two requests, a commit among them.
        let spin = Instant::now() + Duration::from_micros(seeded.next(20_000));
        while Instant::now() < spin {
            std::hint::spin_loop();
        }
        let killed = service.kill();
        killed.calm(&[]);
        assert_eq!(killed.code, None, "it was killed: {killed}");
        interrupted += world.rows().number("SELECT count(*) FROM jobs WHERE state = 'active' AND owner IS NOT NULL");
    }
    assert!(interrupted > ROUNDS as i64 / 2, "only {interrupted} jobs were running when they were killed");

    let service = world.start(&["run"]);
    let address = service.address();
    let id = acknowledged.unwrap();
    until("the end of the job", || {
        let job = http::get(&address, &format!("/api/v1/jobs/{id}"));
        (job["state"] == "completed").then_some(())
    });
    service.stop().calm(&[]);

    let (rows, expected) = (world.rows(), world.sandbox.expected());
    rows.equal(&expected);
    let rejected = expected.rejected_count() as i64;
    assert_eq!(rows.number("SELECT count(*) FROM rejected_records"), rejected, "rejects are neither lost nor doubled");
    assert_eq!(rows.number("SELECT count(*) FROM jobs"), 6, "a parent asks for its children once");
    let unlike =
        rows.texts("SELECT id || ' ' || state FROM jobs WHERE state <> 'completed' OR attempt <> 1 OR crashes > 0");
    assert_eq!(unlike, Vec::<String>::new(), "each job completed, and with its first attempt");
    let rescued = rows.number("SELECT count(*) FROM job_attempts WHERE outcome = 'rescued'");
    assert_eq!(rescued, interrupted, "every job that was running was given back, and says so");
    assert_eq!(rows.number("SELECT count(*) FROM job_attempts WHERE outcome <> 'rescued'"), 0);
    let received: i64 = rows.number("SELECT sum(json_extract(checkpoint, '$.counts.received')) FROM jobs WHERE id > 1");
    let inserted: i64 = rows.number("SELECT sum(json_extract(checkpoint, '$.counts.inserted')) FROM jobs WHERE id > 1");
    assert_eq!(inserted, expected.stored_count() as i64, "no row was counted twice");
    assert!(received >= inserted + rejected, "{received}");
}
