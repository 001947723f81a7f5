//! Several nodes on one PostgreSQL: nothing is lost and nothing doubled, whoever is killed (invariants 1, 4 and 9).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore::sandbox::Dials;
use serde_json::{Value, json};

use crate::schedule::SHARED;
use crate::support::postgres::Server;
use crate::support::{Program, World, http, until};

const NAMES: [&str; 3] = ["a", "b", "c"];
const ROUNDS: usize = 6;
/// Jobs for one bundle that each round puts in.
const SINGLE: usize = 120;
/// A third of it is for a heartbeat's way to the database, on a busy machine too.
const LAPSE: &str = "6s";
/// Nobody waits for this where a node is killed: it is known dead by its heartbeat, or by its successor.
const LEASE: &str = "1h";

struct Nodes {
    world: World,
    running: BTreeMap<&'static str, Program>,
}

impl Nodes {
    fn new(world: World) -> Self {
        Self { world, running: BTreeMap::new() }
    }

    fn start(&mut self, name: &'static str) -> String {
        let named = format!("node.name={name}");
        let program = self.world.start(&["--set", &named, "run"]);
        let address = program.address();
        self.running.insert(name, program);
        address
    }

    fn kill(&mut self, name: &str) {
        self.running.remove(name).unwrap().kill();
    }

    fn stop(mut self) {
        // All are told before any is waited for.
        for program in self.running.values() {
            program.signal("TERM");
        }
        for (_, program) in std::mem::take(&mut self.running) {
            program.end().expect(0);
        }
    }
}

fn put(address: &str, kind: &str, params: Value) {
    let body = json!({ "domain": "catalog", "kind": kind, "params": params });
    let (status, answer) = http::ask(address, "POST", "/api/v1/jobs", &body.to_string()).unwrap();
    assert!(status == 201 || status == 200, "{status} {answer}");
}

fn world(server: &Server, bundles: usize) -> World {
    let latency = Duration::from_millis(40);
    let dials = Dials { latency, jitter: latency, ..Dials::default() };
    World::with(bundles, dials)
        .on(server.database())
        .hasty()
        .set("upkeep.lease", LEASE)
        .set("node.heartbeat", "200ms")
        .set("node.lapse", LAPSE)
}

fn database(world_url: &str) -> &str {
    world_url.rsplit('/').next().unwrap()
}

#[test]
fn three_nodes_are_killed_and_restarted_under_load_and_every_effect_happens_once() {
    let server = Server::start(&["fsync=on"]);
    let world = world(&server, 6_000);
    let name = "test_0";
    let count = |sql: &str| server.psql(name, sql).parse::<i64>().unwrap();
    let mut nodes = Nodes::new(world);
    let mut addresses: BTreeMap<&str, String> = NAMES.iter().map(|name| (*name, nodes.start(name))).collect();
    let stored: Vec<String> = nodes.world.sandbox.expected().stored().map(|(name, _)| name.to_owned()).collect();

    // One sync of everything, and in each round many single jobs beside it, put in by all.
    put(&addresses["a"], "catalog.full", json!({ "force": true }));
    let mut requests = nodes.world.sandbox.stats().requests;
    for round in 0..ROUNDS {
        for (i, bundle) in stored.iter().skip(round * SINGLE).take(SINGLE).enumerate() {
            put(&addresses[NAMES[i % 3]], "catalog.bundle", json!({ "name": bundle }));
        }
        let victim = NAMES[round % 3];
        until("work of this round", || (nodes.world.sandbox.stats().requests > requests + 25).then_some(()));
        let process = server.psql(name, &format!("SELECT process FROM nodes WHERE name = '{victim}'"));
        nodes.kill(victim);
        requests = nodes.world.sandbox.stats().requests;
        if round % 2 == 1 {
            // Its heartbeat lapses, and the others take over. Otherwise it is back at once, and takes its own.
            let left = format!("SELECT count(*) FROM jobs WHERE split_part(owner, '/', 1) = '{process}'");
            until("the others to take over", || (count(&left) == 0).then_some(()));
        }
        addresses.insert(victim, nodes.start(victim));
    }
    until("the end of all jobs", || {
        (count("SELECT count(*) FROM jobs WHERE state IN ('waiting', 'active', 'delayed')") == 0).then_some(())
    });

    let unlike = "SELECT id || ' ' || kind || ' ' || state || ' ' || attempt || ' ' || coalesce(message, '')
                  FROM jobs WHERE state <> 'completed' OR attempt <> 1 OR crashes > 0";
    assert_eq!(server.psql(name, unlike), "", "each job completed, and with its first attempt");
    let single = (ROUNDS * SINGLE) as i64;
    assert_eq!(count("SELECT count(*) FROM jobs WHERE kind = 'catalog.bundle'"), single, "no job is lost or doubled");
    assert_eq!(count("SELECT count(*) FROM jobs WHERE kind = 'catalog.group'"), 5, "a parent asks for children once");
    assert_eq!(count("SELECT count(*) FROM catalog_bundles WHERE removed_at IS NULL"), stored.len() as i64);
    let inserted = "SELECT sum((checkpoint::json -> 'counts' ->> 'inserted')::bigint) FROM jobs
                    WHERE kind <> 'catalog.full' AND checkpoint IS NOT NULL";
    assert_eq!(count(inserted), stored.len() as i64, "no row was counted twice");
    assert!(
        count("SELECT count(*) FROM job_attempts WHERE outcome = 'rescued'") > 0,
        "something ran when it was killed"
    );
    assert_eq!(count("SELECT count(*) FROM job_attempts WHERE outcome <> 'rescued'"), 0);
    until("three that live", || {
        let alive = "SELECT count(*) FROM nodes WHERE heartbeat_at > now() - interval '6 seconds'";
        (count(alive) == 3).then_some(())
    });
    assert_eq!(count("SELECT count(*) FROM nodes"), 3, "each name has one place");
    nodes.stop();
    assert_eq!(count("SELECT count(*) FROM nodes"), 0, "who leaves in order leaves no trace");
}

#[test]
fn the_rate_of_an_upstream_is_shared_and_a_fire_happens_once() {
    let server = Server::start(&[]);
    // Every schedule fires on every node at the same instant, and the row of the fire decides.
    let world = world(&server, 200).set("domains.catalog.rate_per_second", "8").set(
        "domains.catalog.schedules",
        r#"[{ name = "often", kind = "country", params = { iso = "GB" }, every = "2s" }]"#,
    );
    let mut nodes = Nodes::new(world);
    let alone = nodes.start("a");
    let tells = |line: &str, count: u64| {
        let record: Option<Value> = serde_json::from_str(line).ok();
        record.is_some_and(|it| it["msg"] == "nodes that share the ledger" && it["nodes"] == count)
    };
    let nodes_told = |program: &Program, count: u64| {
        program.line(&format!("{count} nodes"), |line| tells(line, count));
    };
    let times_alone = |program: &Program| program.lines().iter().filter(|line| tells(line, 1)).count();
    nodes_told(&nodes.running["a"], 1);
    nodes.start("b");
    nodes_told(&nodes.running["a"], 2);
    nodes_told(&nodes.running["b"], 2);
    let share = |program: &Program, per_second: f64| {
        program.line(&format!("{per_second} calls a second"), |line| {
            let record: Option<Value> = serde_json::from_str(line).ok();
            record.is_some_and(|it| it["domain"] == "catalog" && it["per_second"] == per_second)
        });
    };
    share(&nodes.running["a"], 8.0);
    for name in ["a", "b"] {
        share(&nodes.running[name], 4.0);
    }
    let database = database("x/test_0").to_owned();
    let fires = || server.psql(&database, "SELECT count(*) FROM fires").parse::<i64>().unwrap();
    until("three fires", || (fires() >= 3).then_some(()));
    let before = times_alone(&nodes.running["a"]);
    nodes.kill("b");
    until("the other to be alone again", || (times_alone(&nodes.running["a"]) > before).then_some(()));
    assert_eq!(server.psql(&database, "SELECT count(*) - count(DISTINCT fire_at) FROM fires"), "0", "one row a fire");
    assert_eq!(server.psql(&database, SHARED), "0", "and one job");
    let others = "SELECT (SELECT count(*) FROM jobs WHERE kind = 'catalog.country')
                      - (SELECT count(DISTINCT job) FROM fires)";
    assert_eq!(server.psql(&database, others), "0", "and there are no others");
    assert!(http::get(&alone, "/livez")["live"] == true);
    nodes.stop();
}

#[test]
fn a_second_process_of_the_same_name_takes_the_place_and_the_first_ends() {
    let server = Server::start(&[]);
    let mut nodes = Nodes::new(world(&server, 200));
    nodes.start("a");
    let first = nodes.running.remove("a").unwrap();
    nodes.start("a");
    let ended = first.end();
    assert_eq!(ended.code, Some(78), "{ended}");
    ended.one_error(&["another process took the name of this node"]);
    nodes.stop();
}

#[test]
fn a_second_start_that_fails_leaves_the_first_in_its_place() {
    let server = Server::shared();
    let url = server.database();
    let name = database(&url).to_owned();
    let world = World::new(50).on(url).set("node.heartbeat", "200ms").set("node.lapse", LAPSE);
    let first = world.start(&["run"]);
    let address = first.address();
    let second = world.run(&["--set", &format!("service.listen={address}"), "run"]);
    second.expect(69);
    assert!(second.to_string().contains("in use"), "{second}");
    // Longer than the first would need to hear that it was replaced.
    let beats = "SELECT process || ' ' || heartbeat_at FROM nodes";
    let mut seen = BTreeSet::new();
    until("three heartbeats more", || {
        seen.insert(server.psql(&name, beats));
        (seen.len() > 3).then_some(())
    });
    assert_eq!(server.psql(&name, "SELECT count(*) FROM nodes"), "1");
    first.stop();
}

#[test]
fn a_dry_run_changes_no_schema() {
    let server = Server::shared();
    let url = server.database();
    let name = database(&url).to_owned();
    let world = World::new(50).on(url);
    let refused = world.run(&["sync", "catalog", "--dry-run"]);
    refused.expect(69);
    assert!(refused.to_string().contains("run longshore migrate first"), "{refused}");
    assert_eq!(server.psql(&name, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    world.run(&["migrate"]).expect(0);
    world.run(&["sync", "catalog", "--dry-run"]).expect(0);
}
