//! Invariant 10: no secret reaches a log, the ledger, an error, an answer or the output of a command.
//!
//! Every world of every test has the same recognisable key; its files are searched when it ends, and so is all that a
//! program of it said. Here the log says all it can, and everything that a command or an endpoint shows is searched.

use longshore::sandbox::Dials;

use crate::support::world::KEY;
use crate::support::{Ended, World, http};

const TOKEN: &str = "admin-token-recognisable-51";

#[track_caller]
fn clean(what: &str, text: &str) {
    for secret in [KEY, TOKEN] {
        assert!(!text.contains(secret), "{what} tells {secret}");
    }
}

#[track_caller]
fn all_clean(ended: &Ended) -> &Ended {
    clean("a command", &ended.to_string());
    ended
}

#[test]
fn no_command_no_answer_and_no_file_tells_a_secret() {
    let dials = Dials { error_rate: 0.2, cut_rate: 0.1, malformed_rate: 0.1, ..Dials::default() };
    let world = World::with(400, dials).hasty().set("log.level", "trace").set("service.admin_token", TOKEN);
    let service = world.start(&["run"]);
    let address = service.address();
    // Without the token nothing can be changed, and what is read needs none.
    let refused = http::ask(&address, "POST", "/api/v1/jobs", r#"{"domain":"catalog","kind":"catalog.full"}"#).unwrap();
    assert_eq!(refused.0, 401, "{}", refused.1);
    clean("a refusal", &refused.1);
    let synced = world.ask(&address, &["sync", "catalog", "--json"]);
    all_clean(&synced);
    let job = synced.json()["job"]["id"].as_i64().unwrap();
    for path in
        ["/", "/livez", "/readyz?verbose", "/api/v1/jobs", "/api/v1/domains", "/api/v1/schedules", "/api/v1/rejects"]
    {
        clean(path, &http::ask(&address, "GET", path, "").unwrap().1);
    }
    clean("a job", &http::ask(&address, "GET", &format!("/api/v1/jobs/{job}"), "").unwrap().1);
    let wrong = world.ask(&address, &["--set", "service.admin_token=guessed", "domains", "park", "catalog"]);
    all_clean(&wrong).expect(1);
    let ended = service.stop();
    assert!(
        ended.records().iter().any(|record| record["level"] == "TRACE" || record["level"] == "DEBUG"),
        "it logs all"
    );
    all_clean(&ended);

    for args in
        [&["config", "show"][..], &["config", "show", "--json"], &["check"], &["check", "--json"], &["jobs", "list"]]
    {
        all_clean(&world.run(args));
    }
    assert!(world.run(&["config", "show"]).stdout.contains("api_key"), "the key's place is shown, and not the key");
    assert!(!world.files_with("catalog.full").is_empty(), "the search finds what is there");
    for secret in [KEY, TOKEN] {
        assert!(world.files_with(secret).is_empty(), "{:?}", world.files_with(secret));
    }
}

#[test]
fn a_key_that_is_refused_or_malformed_is_not_repeated() {
    let world = World::new(50).set("domains.catalog.api_key", "sk-recognisable-7f3a9c\u{1}");
    all_clean(&world.run(&["sync", "catalog"]));
    let with_password = World::new(50).set("domains.catalog.base_url", &format!("http://user:{KEY}@127.0.0.1:9/v2"));
    all_clean(&with_password.run(&["check"]));
    let refused = with_password.run(&["run"]);
    all_clean(&refused).expect(78).one_error(&["holds a user name or password"]);
}
