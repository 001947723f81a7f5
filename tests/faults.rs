//! An upstream that misbehaves, one dial after the other: what is stored is right all the same, or the reason is said.

use std::time::{Duration, Instant};

use longshore::sandbox::{Dials, Settings, SlowBody, Stats};
use serde_json::{Value, json};

use crate::service::{job_in, put};
use crate::support::{World, http, until};

/// A dial, and how the sandbox shows that it was turned.
type Case = (&'static str, Dials, fn(&Stats) -> u64);

#[test]
fn what_fails_now_and_then_is_tried_again_and_comes_out_right() {
    let slow = SlowBody { fraction: 0.4, duration: Duration::from_millis(100) };
    let cases: [Case; 5] = [
        ("errors", Dials { error_rate: 0.2, ..Dials::default() }, |stats| {
            stats.by_status.get(&500).copied().unwrap_or(0)
        }),
        ("cut", Dials { cut_rate: 0.2, ..Dials::default() }, |stats| stats.faults.cut),
        ("malformed", Dials { malformed_rate: 0.2, ..Dials::default() }, |stats| stats.faults.malformed),
        ("slow", Dials { slow_body: Some(slow), ..Dials::default() }, |stats| stats.faults.slow),
        ("hang", Dials { hang_rate: 0.1, ..Dials::default() }, |stats| stats.faults.hung),
    ];
    for (name, dials, happened) in cases {
        // No run of bad luck may open the breaker: an outage has a test of its own.
        let world = World::with(3_000, dials)
            .hasty()
            // What hangs costs so much; what a busy machine holds up must not.
            .set("domains.catalog.timeout", if name == "hang" { "3s" } else { "60s" })
            .set("domains.catalog.breaker.failures", "1000")
            .set("domains.catalog.per_page", "50");
        let synced = world.run(&["sync", "catalog", "--json"]);
        assert_eq!(synced.code, Some(0), "{name}: {synced}");
        assert!(happened(&world.sandbox.stats()) > 0, "{name} did not happen: {:?}", world.sandbox.stats());
        world.rows().equal(&world.sandbox.expected());
        synced.calm(&["job did not complete", "page", "unhealthy"]);
    }
}

#[test]
fn a_list_without_counts_and_a_refused_page_size_are_coped_with() {
    let bare = World::with(1_200, Dials { bare_list: true, ..Dials::default() });
    bare.run(&["sync", "catalog"]).expect(0).calm(&[]);
    bare.rows().equal(&bare.sandbox.expected());

    let small = World::with(1_200, Dials { page_max: Some(100), ..Dials::default() });
    small.run(&["sync", "catalog"]).expect(0).calm(&[]);
    small.rows().equal(&small.sandbox.expected());
    let refused = small.sandbox.stats().by_status.get(&401).copied().unwrap_or(0);
    assert!(refused > 0, "{:?}", small.sandbox.stats());
}

#[test]
fn a_429_pauses_all_who_share_the_credential() {
    let limit = 12;
    let world = World::with(3_000, Dials { limit_per_second: Some(limit), ..Dials::default() })
        .hasty()
        .set("domains.catalog.per_page", "50");
    let begun = Instant::now();
    let synced = world.run(&["sync", "catalog"]);
    let seconds = begun.elapsed().as_secs() + 1;
    synced.expect(0);
    world.rows().equal(&world.sandbox.expected());
    let stats = world.sandbox.stats();
    let refused = stats.by_status.get(&429).copied().unwrap_or(0);
    assert!(refused > 0, "the limit was never reached: {stats:?}");
    // What was on its way when the first was refused, and a probe of the health: nobody asks again before the pause
    // is over.
    let in_flight = 4 + 1;
    assert!(refused <= in_flight * seconds, "{refused} refusals in {seconds} s: {stats:?}");
    assert!(stats.requests <= (u64::from(limit) + in_flight) * seconds, "{stats:?} in {seconds} s");
}

#[test]
fn its_own_rate_is_never_exceeded() {
    let world = World::new(3_000);
    world.configure("rate_per_second = 10.0\nper_page = 50\n");
    let begun = Instant::now();
    let sync = world.start(&["sync", "catalog"]);
    let ended = sync.end();
    let seconds = begun.elapsed().as_secs_f64();
    ended.expect(0).calm(&[]);
    let most = 10.0 * (seconds + 1.0) + 1.0;
    let requests = world.sandbox.stats().requests as f64;
    assert!(requests <= most, "{requests} requests in {seconds} s");
    assert!(requests > 20.0, "{requests} say nothing about a rate of 10");
}

#[test]
fn a_wrong_key_fails_at_once_and_names_the_setting() {
    let world = World::new(300).set("domains.catalog.api_key", "quite-another-key");
    let synced = world.run(&["sync", "catalog.group", "--param", "group=Standard Fixed"]);
    synced.expect(1).one_error(&["domains.catalog.api_key"]);
    assert!(!synced.to_string().contains("quite-another-key"), "{synced}");
    assert_eq!(world.rows().texts("SELECT state || ' ' || attempt || ' ' || cause FROM jobs"), ["failed 1 permanent"]);
    let checked = world.run(&["check"]);
    checked.expect(69);
    assert!(checked.stdout.contains("FAIL"), "{checked}");
}

/// Invariant 5.
#[test]
fn an_outage_burns_no_attempt_and_restarts_nothing_and_work_goes_on_by_itself() {
    let mut world = World::new(1_500).hasty();
    let service = world.start(&["run"]);
    let at = service.address();
    service.logged("healthy");

    world.stop_sandbox();
    let id = put(&at, "catalog.group", json!({ "group": "Standard Fixed" }));
    let job = job_in(&at, id, &["delayed"]);
    let reason = job["message"].as_str().unwrap();
    assert!(reason.contains("unavailable") && reason.contains("no connection"), "{job}");
    service.line("the breaker", |line| line.contains("breaker opened"));
    // Many probes fail meanwhile.
    until("several tries", || {
        let job = http::get(&at, &format!("/api/v1/jobs/{id}"));
        (job["history"].as_array().unwrap().len() >= 4).then_some(())
    });
    let told = http::get(&at, &format!("/api/v1/jobs/{id}"));
    assert!(told["message"].as_str().unwrap().contains("unavailable"), "the reason stays in sight: {told}");
    assert_eq!(http::get(&at, "/readyz")["ready"], true, "an upstream that is down does not end the service");

    world.start_sandbox(Settings { bundles: 1_500, ..Settings::default() });
    let job = job_in(&at, id, &["completed", "failed"]);
    assert_eq!((&job["state"], &job["attempt"], &job["crashes"]), (&json!("completed"), &json!(1), &json!(0)), "{job}");
    let history = job["history"].as_array().unwrap();
    assert!(history.iter().all(|attempt| attempt["outcome"] == "snoozed"), "{job}");
    let overview = http::get(&at, "/api/v1/domains");
    let restarted: Vec<&Value> =
        overview["parts"].as_array().unwrap().iter().filter(|part| part["restarts"] != 0).collect();
    assert!(restarted.is_empty(), "{restarted:#?}");
    service.stop().calm(&["breaker opened", "unhealthy", "job did not complete"]);
}

#[test]
fn an_upstream_that_only_fails_ends_in_a_failed_job_with_its_reason() {
    let world = World::with(300, Dials { error_rate: 1.0, ..Dials::default() })
        .hasty()
        .set("domains.catalog.breaker.failures", "1000");
    let synced = world.run(&["sync", "catalog.group", "--param", "group=Standard Fixed"]);
    synced.expect(1).one_error(&["500", "longshore jobs show"]);
    assert_eq!(world.rows().texts("SELECT state || ' ' || attempt || ' ' || cause FROM jobs"), ["failed 5 exhausted"]);
    let shown = world.run(&["jobs", "show", "1"]);
    assert!(shown.expect(0).stdout.contains("500"), "{shown}");
}
