//! `longshore run`: its endpoints, its operators' words, its signals.

use std::time::{Duration, Instant};

use longshore::sandbox::Dials;
use serde_json::{Value, json};

use crate::support::{Program, World, http, until};

/// A fifth of it is left for what must be given back, which a busy disk may take its time for.
const GRACE: &str = "10s";
/// The grace, and what a busy machine may take on top of it. What waited for the upstream would wait for an hour.
const IN_TIME: Duration = Duration::from_secs(10 + 60);

/// Puts a job in over HTTP and answers its id.
pub fn put(address: &str, kind: &str, params: Value) -> i64 {
    let body = json!({ "domain": "catalog", "kind": kind, "params": params });
    let (status, answer) = http::ask(address, "POST", "/api/v1/jobs", &body.to_string()).unwrap();
    assert!(status == 201 || status == 200, "{status} {answer}");
    serde_json::from_str::<Value>(&answer).unwrap()["id"].as_i64().unwrap()
}

/// The job once it is in one of these states.
pub fn job_in(address: &str, id: i64, states: &[&str]) -> Value {
    until(&format!("job {id} to be {states:?}"), || {
        let job = http::get(address, &format!("/api/v1/jobs/{id}"));
        states.iter().any(|state| job["state"] == *state).then_some(job)
    })
}

/// A part of the tree, by name.
fn part(address: &str, name: &str) -> Option<Value> {
    let overview = http::get(address, "/api/v1/domains");
    let parts = overview["parts"].as_array().unwrap();
    parts.iter().find(|part| part["name"] == name).cloned()
}

/// How many workers of a pool there are.
fn workers(address: &str, pool: &str) -> usize {
    let overview = http::get(address, "/api/v1/domains");
    let parts = overview["parts"].as_array().unwrap();
    let prefix = format!("{pool}/");
    parts.iter().filter(|part| part["name"].as_str().unwrap().starts_with(&prefix)).count()
}

/// A sync of which every page takes a while, and that would wait for a page longer than any deadline here.
fn slow_world() -> World {
    World::with(8_000, Dials { latency: Duration::from_millis(150), ..Dials::default() })
        .set("domains.catalog.timeout", "1h")
}

/// From now on no page comes: what is under way stays so, however slow the machine is.
fn hold(world: &World) {
    world.sandbox.set_dials(Dials { latency: Duration::from_secs(3_600), ..Dials::default() });
}

/// A service that works on a job which does not end, and its address.
fn at_work(world: &World) -> (Program, String, i64) {
    let service = world.start(&["run"]);
    let address = service.address();
    let job = put(&address, "catalog.full", json!({ "force": true }));
    let before = world.sandbox.stats().requests;
    until("pages", || (world.sandbox.stats().requests > before + 6).then_some(()));
    hold(world);
    (service, address, job)
}

#[test]
fn it_says_that_it_lives_and_takes_work() {
    let world = World::new(300);
    let service = world.start(&["run"]);
    let address = service.address();
    assert_eq!(http::get(&address, "/livez")["live"], true);
    let ready = http::get(&address, "/readyz?verbose");
    assert_eq!(ready["ready"], true, "{ready}");
    let checks: Vec<&str> =
        ready["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    for name in ["store", "phase", "catalog"] {
        assert!(checks.contains(&name), "{checks:?}");
    }
    let (status, body) = http::ask(&address, "GET", "/api/v1/nothing", "").unwrap();
    assert_eq!(status, 404, "{body}");

    let job = put(&address, "catalog.full", json!({}));
    let job = job_in(&address, job, &["completed", "failed"]);
    assert_eq!(job["state"], "completed", "{job}");
    world.rows().equal(&world.sandbox.expected());
    service.stop().calm(&[]);
}

#[test]
fn the_command_line_asks_the_running_service() {
    let world = World::new(500);
    let service = world.start(&["run"]);
    let address = service.address();
    let synced = world.ask(&address, &["sync", "catalog", "--json"]);
    synced.expect(0);
    assert_eq!(synced.json()["job"]["state"], "completed");

    let listed = world.ask(&address, &["jobs", "list", "--state", "completed", "--json"]);
    assert_eq!(listed.expect(0).json()["jobs"].as_array().unwrap().len(), 6);
    let shown = world.ask(&address, &["jobs", "show", "1"]);
    assert!(shown.expect(0).stdout.contains("catalog.full"), "{shown}");
    world.ask(&address, &["jobs", "show", "99"]).expect(1).one_error(&["99"]);

    // A parked domain takes nothing; so a job waits, can be cancelled and put in again.
    world.ask(&address, &["domains", "park", "catalog"]).expect(0);
    until("catalog to be parked", || (part(&address, "catalog")?["state"] == "parked").then_some(()));
    assert_eq!(http::get(&address, "/readyz")["ready"], true, "one parked domain does not end the service");
    let waiting = put(&address, "catalog.group", json!({ "group": "Standard Fixed", "force": true }));
    assert_eq!(http::get(&address, &format!("/api/v1/jobs/{waiting}"))["state"], "waiting");
    let id = waiting.to_string();
    world.ask(&address, &["jobs", "cancel", &id, "--reason", "not today"]).expect(0);
    let cancelled = http::get(&address, &format!("/api/v1/jobs/{waiting}"));
    assert_eq!(cancelled["state"], "cancelled");
    assert!(cancelled["message"].as_str().unwrap().contains("not today"), "{cancelled}");
    world.ask(&address, &["jobs", "cancel", &id]).expect(1).one_error(&["cancelled already"]);
    world.ask(&address, &["jobs", "retry", &id]).expect(0);
    assert_eq!(http::get(&address, &format!("/api/v1/jobs/{waiting}"))["state"], "waiting");
    world.ask(&address, &["domains", "unpark", "catalog"]).expect(0);
    job_in(&address, waiting, &["completed"]);

    let tree = world.ask(&address, &["domains"]);
    for name in ["scheduler", "upkeep", "http", "catalog", "fetch", "transform", "upload"] {
        assert!(tree.expect(0).stdout.contains(name), "{name} is not in the tree: {tree}");
    }
    world.ask(&address, &["domains", "restart", "catalgo"]).expect(2).one_error(&["did you mean `catalog`?"]);
    world.ask(&address, &["domains", "restart", "catalog"]).expect(0);
    let again = put(&address, "catalog.group", json!({ "group": "Standard Fixed", "force": true }));
    job_in(&address, again, &["completed"]);

    world.ask(&address, &["domains", "resize", "catalog", "fetch", "--actors", "7"]).expect(0);
    until("seven workers", || (workers(&address, "catalog/fetch") == 7).then_some(()));
    world.ask(&address, &["domains", "resize", "catalog", "fetch", "--actors", "1"]).expect(0);
    until("one worker", || (workers(&address, "catalog/fetch") == 1).then_some(()));
    let again = put(&address, "catalog.group", json!({ "group": "Standard Fixed", "force": true }));
    job_in(&address, again, &["completed"]);
    service.stop().calm(&["parked", "job did not complete", "restart", "cancel"]);
}

#[test]
fn a_service_cancels_a_job_that_runs() {
    let world = slow_world();
    let (service, address, job) = at_work(&world);
    world.ask(&address, &["jobs", "cancel", &job.to_string()]).expect(0);
    job_in(&address, job, &["cancelled"]);
    until("nothing to be active", || {
        let active = http::get(&address, "/api/v1/jobs?state=active,waiting");
        active["jobs"].as_array().unwrap().is_empty().then_some(())
    });
    until("the requests to end", || (world.sandbox.stats().in_flight == 0).then_some(()));
    world.sandbox.set_dials(Dials::default());
    let again = put(&address, "catalog.country", json!({ "iso": "GB" }));
    job_in(&address, again, &["completed"]);
    service.stop().calm(&["cancel", "job did not complete"]);
}

#[test]
fn a_changed_file_is_taken_whole_or_not_at_all() {
    let world = slow_world();
    world.configure("[domains.catalog.pools]\nfetch = { actors = 2, mailbox = 2 }\n");
    let service = world.start(&["run"]);
    let address = service.address();
    until("two workers", || (workers(&address, "catalog/fetch") == 2).then_some(()));

    world.configure("rate_per_second = 500.0\n[domains.catalog.pools]\nfetch = { actors = 6, mailbox = 2 }\n");
    service.signal("HUP");
    until("six workers", || (workers(&address, "catalog/fetch") == 6).then_some(()));
    service.line("the new rate", |line| line.contains("rate_per_second") && line.contains("500"));
    service.logged("configuration reloaded");

    world.configure("[domains.catalog.pools]\nfetch = { actors = 3, mailbx = 2 }\n");
    service.signal("HUP");
    let refused = service.line("the refusal", |line| line.contains("the old one stays"));
    assert!(refused.contains("mailbx") && refused.contains("mailbox"), "{refused}");
    assert_eq!(workers(&address, "catalog/fetch"), 6);

    // A file that changes is looked at without a signal, too.
    world.configure("[domains.catalog.pools]\nfetch = { actors = 4, mailbox = 2 }\n");
    until("four workers", || (workers(&address, "catalog/fetch") == 4).then_some(()));
    let job = put(&address, "catalog.country", json!({ "iso": "GB" }));
    job_in(&address, job, &["completed"]);
    // Each bad file may be seen by the signal and by the look.
    service.stop().calm(&["the old one stays"]);
}

#[test]
fn a_new_rate_holds_for_the_job_that_runs() {
    let world = World::new(8_000).set("domains.catalog.per_page", "20");
    world.configure("rate_per_second = 2.0\n");
    let service = world.start(&["run"]);
    let address = service.address();
    let job = put(&address, "catalog.full", json!({}));
    until("the first pages", || (world.sandbox.stats().requests >= 3).then_some(()));
    world.configure("rate_per_second = 1000.0\n");
    service.signal("HUP");
    service.logged("configuration reloaded");
    let (begun, before) = (Instant::now(), world.sandbox.stats().requests);
    job_in(&address, job, &["completed"]);
    // Some four hundred pages, which at two in a second would take more than three minutes.
    let asked = world.sandbox.stats().requests - before;
    assert!(asked > 350, "{asked} pages say nothing about a rate");
    assert!(begun.elapsed().as_secs() < asked / 4, "the rate was not taken: {asked} in {:?}", begun.elapsed());
    service.stop().calm(&[]);
}

/// Invariant 11.
#[test]
fn told_to_stop_under_load_it_gives_back_what_it_cannot_finish() {
    let world = slow_world().set("service.shutdown_grace", GRACE);
    let (service, _, _) = at_work(&world);
    let begun = Instant::now();
    let ended = service.stop();
    ended.calm(&[]);
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
    let rows = world.rows();
    assert_eq!(rows.number("SELECT count(*) FROM jobs WHERE owner IS NOT NULL"), 0, "nobody holds a job: {ended}");
    let open = rows.number("SELECT count(*) FROM jobs WHERE state = 'waiting' AND kind = 'catalog.group'");
    assert!(open > 0, "some were interrupted: {ended}");
    let burnt = rows.number("SELECT count(*) FROM jobs WHERE state = 'waiting' AND attempt > 0");
    assert_eq!(
        burnt,
        0,
        "no attempt is burnt: {:?}",
        rows.texts("SELECT id || ' ' || state || ' ' || attempt FROM jobs")
    );

    // And the next start goes on where it stopped.
    world.sandbox.set_dials(Dials::default());
    let service = world.start(&["run"]);
    let address = service.address();
    job_in(&address, 1, &["completed"]);
    service.stop().calm(&[]);
    world.rows().equal(&world.sandbox.expected());
}

/// Invariant 11, with pages that come and are committed until the last moment: what is in is in, and what is not comes
/// with the next start.
#[test]
fn told_to_stop_while_pages_come_in_it_loses_none() {
    let world = World::new(4_000).set("domains.catalog.per_page", "20").set("service.shutdown_grace", GRACE);
    let service = world.start(&["run"]);
    let address = service.address();
    let job = put(&address, "catalog.full", json!({ "force": true }));
    let before = world.sandbox.stats().requests;
    until("pages", || (world.sandbox.stats().requests > before + 20).then_some(()));
    let begun = Instant::now();
    let ended = service.stop();
    ended.calm(&[]);
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
    assert_eq!(world.rows().number("SELECT count(*) FROM jobs WHERE owner IS NOT NULL"), 0, "{ended}");

    let service = world.start(&["run"]);
    job_in(&service.address(), job, &["completed"]);
    service.stop().calm(&[]);
    let rows = world.rows();
    assert_eq!(rows.number("SELECT max(attempt) FROM jobs"), 1, "no attempt is burnt");
    rows.equal(&world.sandbox.expected());
}

/// Invariant 11.
#[test]
fn told_to_stop_while_the_upstream_hangs_it_ends_within_its_grace() {
    let world = World::new(2_000).set("domains.catalog.timeout", "1h").set("service.shutdown_grace", GRACE);
    let service = world.start(&["run"]);
    let address = service.address();
    // The probe of the health comes first; then only the job's own request can hang.
    service.logged("healthy");
    world.sandbox.set_dials(Dials { hang_rate: 1.0, ..Dials::default() });
    put(&address, "catalog.group", json!({ "group": "Standard Fixed" }));
    until("a hung request", || (world.sandbox.stats().faults.hung > 0).then_some(()));
    let begun = Instant::now();
    let ended = service.stop();
    ended.calm(&[]);
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
    let rows = world.rows();
    assert_eq!(rows.texts("SELECT state || ' ' || attempt FROM jobs"), ["waiting 0"], "{ended}");
}

#[test]
fn told_to_stop_twice_it_ends_at_once() {
    let world = World::new(2_000).set("service.shutdown_grace", "1h");
    let service = world.start(&["run"]);
    let address = service.address();
    // The probe of the health comes first; then only the job's own request can hang.
    service.logged("healthy");
    world.sandbox.set_dials(Dials { hang_rate: 1.0, ..Dials::default() });
    put(&address, "catalog.group", json!({ "group": "Standard Fixed" }));
    until("a hung request", || (world.sandbox.stats().faults.hung > 0).then_some(()));
    service.signal("TERM");
    service.logged("stopping");
    let ready = http::get(&address, "/readyz");
    assert_eq!(ready["ready"], false, "a service that ends takes no more work: {ready}");
    // Signals that come close together count as one.
    until("the second word to count", || {
        service.signal("TERM");
        service.lines().iter().any(|line| line.contains("told twice")).then_some(())
    });
    let ended = service.end();
    ended.expect(75).calm(&["told twice"]);

    world.sandbox.set_dials(Dials::default());
    let service = world.start(&["run"]);
    let address = service.address();
    assert_eq!(job_in(&address, 1, &["completed"])["attempt"], 1, "it was given back, and no attempt burnt");
    service.stop().calm(&[]);
}

#[test]
fn an_interrupted_sync_goes_on_with_the_next_start() {
    let world = slow_world().set("service.shutdown_grace", "500ms");
    let sync = world.start(&["sync", "catalog"]);
    until("pages", || (world.sandbox.stats().requests > 8).then_some(()));
    hold(&world);
    sync.signal("INT");
    sync.end().expect(75).one_error(&["SIGINT", "goes on with the next start"]);
    world.sandbox.set_dials(Dials::default());
    let service = world.start(&["run"]);
    job_in(&service.address(), 1, &["completed"]);
    service.stop().calm(&[]);
    world.rows().equal(&world.sandbox.expected());
}
