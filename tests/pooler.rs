//! PostgreSQL behind a real PgBouncer in transaction mode, and beside other programs: what a shared database asks for.

use longshore::sandbox::Dials;
use serde_json::{Value, json};

use crate::service::{job_in, put};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Server;
use crate::support::rows::Rows;
use crate::support::{World, http, until};

fn name_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

#[test]
fn a_sync_goes_through_a_transaction_pooler() {
    let server = Server::shared();
    let direct = server.database();
    let bouncer = PgBouncer::before(&server);
    let dials = Dials { changed: 0.05, vanished: 0.02, ..Dials::default() };
    let world = World::with(2_000, dials).on(bouncer.url(name_of(&direct))).set("store.pooler", "transaction");
    let rows = Rows::on(&server, &direct);
    world.run(&["migrate"]).expect(0);
    world.run(&["sync", "catalog", "--json"]).expect(0).calm(&[]);
    rows.equal(&world.sandbox.expected());
    let before = rows.dump();
    world.run(&["sync", "catalog", "--force"]).expect(0).calm(&[]);
    assert_eq!(rows.dump(), before, "what is unchanged is not written");
    world.sandbox.advance();
    world.run(&["sync", "catalog", "--force"]).expect(0).calm(&[]);
    rows.equal(&world.sandbox.expected());
    world.run(&["check"]).expect(0);
}

/// Nobody can be notified through the pooler: the ledger is looked at now and then.
#[test]
fn behind_a_pooler_work_of_another_node_is_found_by_polling() {
    let server = Server::shared();
    let direct = server.database();
    let bouncer = PgBouncer::before(&server);
    let world = World::new(300)
        .on(bouncer.url(name_of(&direct)))
        .set("store.pooler", "transaction")
        .set("store.poll", "200ms")
        // The coordinator's own look comes too late to be what finds it.
        .set("upkeep.lease", "1h");
    let first = world.start(&["--set", "node.name=a", "run"]);
    let address = first.address();
    http::ask(&address, "POST", "/api/v1/domains/catalog/park", "{}").unwrap();
    let second = world.start(&["--set", "node.name=b", "run"]);
    let other = second.address();
    let job = put(&address, "catalog.full", json!({ "force": true }));
    let done = job_in(&other, job, &["completed", "failed"]);
    assert_eq!(done["state"], "completed", "{done}");
    first.stop().calm(&["park"]);
    second.stop().calm(&[]);
}

/// Where sessions are kept, the other nodes are told at once.
#[test]
fn work_put_in_by_one_node_wakes_another() {
    let server = Server::shared();
    let url = server.database();
    let world = World::new(300).on(url).set("upkeep.lease", "1h").set("upkeep.every", "1h");
    let first = world.start(&["--set", "node.name=a", "run"]);
    let address = first.address();
    http::ask(&address, "POST", "/api/v1/domains/catalog/park", "{}").unwrap();
    let second = world.start(&["--set", "node.name=b", "run"]);
    let other = second.address();
    let job = put(&address, "catalog.full", json!({ "force": true }));
    assert_eq!(job_in(&other, job, &["completed", "failed"])["state"], "completed");
    first.stop().calm(&["park"]);
    second.stop().calm(&[]);
}

#[test]
fn another_program_on_the_same_tables_is_not_disturbed() {
    let server = Server::shared();
    let url = server.database();
    let world = World::new(300).on(url.clone()).set("domains.catalog.jobs.group.lock", "catalog");
    world.run(&["migrate"]).expect(0);
    let other = server.holder(name_of(&url), "SELECT pg_advisory_lock(hashtextextended('catalog', 0))");
    let skipped = world.run(&["sync", "catalog", "--force", "--json"]);
    skipped.expect(0).calm(&[]);
    let children = skipped.json()["children"].as_array().unwrap().clone();
    assert_eq!(children.len(), 5);
    for child in &children {
        assert_eq!(child["state"], "completed");
        let message = child["message"].as_str().unwrap();
        assert!(message.starts_with("skipped: locked by psql, process "), "{message}");
    }
    assert_eq!(Rows::on(&server, &url).number("SELECT count(*) FROM catalog_bundles"), 0);
    drop(other);
    until("the lock to be free", || {
        let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
                    (SELECT oid FROM pg_database WHERE datname = current_database())";
        (server.psql(name_of(&url), held) == "0").then_some(())
    });
    world.run(&["sync", "catalog", "--force"]).expect(0).calm(&[]);
    Rows::on(&server, &url).equal(&world.sandbox.expected());
}

#[test]
fn where_sessions_are_not_kept_a_row_keeps_others_out() {
    let server = Server::shared();
    let direct = server.database();
    let bouncer = PgBouncer::before(&server);
    let world = World::new(300)
        .on(bouncer.url(name_of(&direct)))
        .set("store.pooler", "transaction")
        .set("domains.catalog.jobs.full.lock", "catalog");
    world.run(&["migrate"]).expect(0);
    let put = |until: &str| {
        let row = format!(
            "INSERT INTO locks (name, holder, until) VALUES ('catalog', 'the nightly script', {until})
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until"
        );
        server.psql(name_of(&direct), &row);
    };
    put("now() + interval '1 hour'");
    let skipped = world.run(&["sync", "catalog", "--force", "--json"]);
    skipped.expect(0);
    assert_eq!(skipped.json()["job"]["message"], "skipped: locked by the nightly script");
    put("now() - interval '1 second'");
    let synced = world.run(&["sync", "catalog", "--force", "--json"]);
    synced.expect(0).calm(&[]);
    assert_ne!(synced.json()["job"]["counts"]["received"], Value::from(0), "a lock that ran out holds nobody");
    assert_eq!(server.psql(name_of(&direct), "SELECT count(*) FROM locks"), "0", "it is given up with the job");
}

#[test]
fn check_says_which_table_others_can_read() {
    let server = Server::start(&[]);
    let url = server.database();
    let world = World::new(100).on(url.clone());
    let database = name_of(&url);
    world.run(&["check"]).expect(0);
    server.psql(database, "ALTER TABLE catalog_bundles DISABLE ROW LEVEL SECURITY");
    server.psql(database, "CREATE ROLE anon");
    server.psql(database, "CREATE POLICY readers ON jobs FOR SELECT TO anon USING (true)");
    server.psql(database, "CREATE VIEW cheap AS SELECT name FROM catalog_bundles; GRANT SELECT ON cheap TO anon");
    let checked = world.run(&["check", "--json"]);
    checked.expect(69);
    let findings = checked.json()["findings"].as_array().unwrap().clone();
    let store = findings.iter().find(|finding| finding["what"] == "store").unwrap();
    assert_eq!(store["ok"], false);
    for told in [
        "catalog_bundles has no row level security: ALTER TABLE",
        "the policy \"readers\" lets anon into jobs",
        "the view cheap answers anon as its owner: REVOKE",
    ] {
        assert!(store["text"].as_str().unwrap().contains(told), "{told} is not in {store}");
    }
}

#[test]
fn a_pooler_that_is_not_in_the_settings_is_told_as_one() {
    let server = Server::shared();
    let direct = server.database();
    let bouncer = PgBouncer::before(&server);
    let world = World::new(50).on(bouncer.url(name_of(&direct)));
    let refused = world.run(&["migrate"]);
    refused.expect(69);
    assert!(refused.to_string().contains("store.pooler"), "{refused}");
}
