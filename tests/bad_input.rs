//! Wrong input: one line that says what, where and what to do, the documented exit code, and nothing lost.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::service::{job_in, put};
use crate::support::http::Upstream;
use crate::support::{World, http};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNAVAILABLE: i32 = 69;
const CONFIG: i32 = 78;

#[test]
fn a_configuration_that_is_wrong() {
    let cases: [(&str, &[&str]); 5] = [
        ("per_pgae = 50\n", &["longshore.toml:", "domains.catalog.per_pgae", "did you mean `per_page`?"]),
        ("per_page = \"many\"\n", &["longshore.toml:", "per_page", "expected a whole number", "found text"]),
        ("timeout = 30\n", &["longshore.toml:", "timeout", "expected a duration with its unit"]),
        ("jobs_max = 0\n", &["jobs_max", "from 1 to"]),
        ("per_page = \n", &["longshore.toml:"]),
    ];
    let world = World::new(10);
    for (line, texts) in cases {
        world.configure(line);
        for command in [&["run"][..], &["check"], &["sync", "catalog"], &["jobs", "list"]] {
            world.run(command).expect(CONFIG).one_error(texts);
        }
    }
    assert!(!world.path("longshore.db").exists(), "nothing was begun");

    world.configure("");
    world.run(&["run", "--set", "service.lisen=127.0.0.1:0"]).expect(CONFIG).one_error(&["did you mean `listen`?"]);
    world.run(&["run", "--config", "nowhere.toml"]).expect(CONFIG).one_error(&["nowhere.toml"]);
}

#[test]
fn a_secret_that_is_missing() {
    let world = World::new(10);
    let mut command = world.command(&["run"]);
    command.env_remove("UPSTREAM_KEY");
    crate::support::Program::start(command).end().expect(CONFIG).one_error(&["UPSTREAM_KEY", "longshore.toml:"]);
    let none = World::new(10).set("domains.catalog.api_key", "");
    none.run(&["sync", "catalog"]).expect(CONFIG).one_error(&["domains.catalog.api_key", "ESIM_GO_API_KEY"]);
    // Reading the store needs no key.
    none.run(&["jobs", "list"]).expect(UNAVAILABLE).one_error(&["there is no store", "start the service"]);
}

#[test]
fn a_port_that_is_taken_or_open_to_others() {
    let world = World::new(10);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("service.listen={}", taken.local_addr().unwrap());
    let errors = ["is in use", "service.listen"];
    world.run(&["run", "--set", &listen]).expect(UNAVAILABLE).one_error(&errors);
    world.run(&["run", "--set", "service.listen=0.0.0.0:0"]).expect(CONFIG).one_error(&["service.admin_token"]);
}

#[test]
fn a_store_that_cannot_be_used() {
    let world = World::new(10);
    std::fs::write(world.path("letter.db"), "Dear Sir or Madam, this is not a database at all.\n".repeat(50)).unwrap();
    std::fs::write(world.path("file"), "").unwrap();
    let other = |url: &str| format!("store.url=sqlite://{url}");
    let letter = world.run(&["run", "--set", &other("letter.db")]);
    letter.expect(UNAVAILABLE).one_error(&["letter.db is not a database", "store.url"]);
    let below = world.run(&["run", "--set", &other("file/longshore.db")]);
    below.expect(UNAVAILABLE).one_error(&["cannot write", "store.url"]);

    // A superuser may write everywhere, so that only others meet this one.
    let closed = world.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).unwrap();
    let writable = std::fs::write(closed.join("probe"), "").is_ok();
    if !writable {
        let shut = world.run(&["run", "--set", &other("closed/longshore.db")]);
        shut.expect(UNAVAILABLE).one_error(&["cannot write", "store.url"]);
    }
    world.run(&["run", "--set", "store.url=mongodb://x"]).expect(CONFIG).one_error(&["store.url"]);
}

#[test]
fn a_store_that_another_process_owns() {
    let world = World::new(300);
    let service = world.start(&["run"]);
    let address = service.address();
    let second = world.run(&["run"]);
    second.expect(UNAVAILABLE).one_error(&["longshore.db is in use by another longshore (process ", "stop it"]);
    world.run(&["sync", "catalog"]).expect(UNAVAILABLE).one_error(&["is in use by another longshore"]);
    let job = put(&address, "catalog.full", json!({}));
    assert_eq!(job_in(&address, job, &["completed", "failed"])["state"], "completed", "the first goes on");
    let dry = world.ask(&address, &["sync", "catalog", "--dry-run"]);
    dry.expect(0);
    service.stop().calm(&[]);
}

#[test]
fn a_schema_that_is_newer_than_the_program() {
    let world = World::new(10);
    world.run(&["migrate"]).expect(0);
    let conn = rusqlite::Connection::open(world.path("longshore.db")).unwrap();
    conn.execute("INSERT INTO migrations (version, name, checksum, applied_at) VALUES (9999, 'later', 'x', 0)", [])
        .unwrap();
    drop(conn);
    for command in [&["run"][..], &["sync", "catalog"], &["migrate"], &["migrate", "--status"]] {
        world.run(command).expect(UNAVAILABLE).one_error(&["newer than this program", "run a newer longshore"]);
    }
}

#[test]
fn a_command_line_that_is_wrong() {
    let world = World::new(10);
    let errors: [(&[&str], &[&str]); 4] = [
        (&["sync", "catalgo"], &["unknown domain `catalgo`", "did you mean `catalog`?"]),
        (&["sync", "catalog.grup"], &["unknown kind of job `catalog.grup`", "did you mean `group`?"]),
        (&["sync", "nothing"], &["unknown domain `nothing`", "there are catalog"]),
        (&["domains", "park", "catalgo"], &["did you mean `catalog`?"]),
    ];
    for (args, texts) in errors {
        world.run(args).expect(USAGE).one_error(texts);
    }
    for args in [&["snyc"][..], &["jobs", "show", "one"], &["jobs", "list", "--state", "lost"], &[]] {
        let ended = world.run(args);
        assert!(!ended.expect(USAGE).lines.is_empty(), "{args:?} says how it is used");
    }
    let elsewhere = world.run(&["domains", "park", "catalog"]);
    elsewhere.expect(UNAVAILABLE).one_error(&["no service listens", "longshore run"]);
}

#[test]
fn params_that_no_kind_takes() {
    let world = World::new(50);
    let cases: [(&str, &str, &str); 5] = [
        ("catalog.group", "grup=Standard Fixed", "unknown field `grup`"),
        ("catalog.group", "group=7", "invalid type"),
        ("catalog.country", "iso=Atlantis", "no ISO country code"),
        ("catalog.bundle", "force=true", "missing field `name`"),
        ("catalog.bundle", "name=../../organisation", "name"),
    ];
    for (kind, param, text) in cases {
        let ended = world.run(&["sync", kind, "--param", param]);
        ended.expect(FAILED).one_error(&[text, "longshore jobs show"]);
    }
    let rows = world.rows();
    assert_eq!(rows.number("SELECT count(*) FROM jobs WHERE state = 'failed' AND cause = 'permanent'"), 5);
    assert_eq!(
        rows.number("SELECT count(*) FROM jobs WHERE attempt <> 1"),
        0,
        "what cannot get better is not tried twice"
    );
}

/// Invariant 7: what nobody can do waits, in sight.
#[test]
fn requests_to_the_service_that_make_no_sense() {
    let world = World::new(50);
    let service = world.start(&["run"]);
    let address = service.address();
    let post = |path: &str, body: &str| {
        let (status, answer) = http::ask(&address, "POST", path, body).unwrap();
        let problem: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{status} {answer}"));
        (status, problem["detail"].as_str().unwrap_or_default().to_owned())
    };
    let (status, detail) = post("/api/v1/jobs", r#"{"domain": "catalgo", "kind": "catalog.full"}"#);
    assert!((400..500).contains(&status) && detail.contains("catalog"), "{status} {detail}");
    let (status, detail) = post("/api/v1/jobs", r#"{"domain": "catalog", "kind": 7}"#);
    assert!(status == 400 && detail.contains("expected a string"), "{status} {detail}");
    let (status, detail) = post("/api/v1/jobs", r#"{"domain": "catalog""#);
    assert!(status == 400 && detail.contains("EOF"), "{status} {detail}");
    let (status, _) = post("/api/v1/jobs/99/retry", "");
    assert_eq!(status, 404);
    let (status, _) = http::ask(&address, "GET", "/api/v1/jobs?stat=failed", "").unwrap();
    assert_eq!(status, 400, "a misspelt filter is no filter");
    let huge = json!({ "domain": "catalog", "kind": "catalog.full", "params": { "x": "y".repeat(300_000) } });
    let answer = http::ask(&address, "POST", "/api/v1/jobs", &huge.to_string());
    assert!(answer.is_none_or(|(status, _)| status == 413), "a body beyond the cap is refused");
    service.stop().calm(&[]);
}

/// Invariant 7: a kind that this program does not know waits and says why; it is never dropped.
#[test]
fn a_job_of_an_unknown_kind_waits_in_sight() {
    let world = World::new(50);
    world.run(&["migrate"]).expect(0);
    let conn = rusqlite::Connection::open(world.path("longshore.db")).unwrap();
    // As a later program may have left it.
    conn.execute(
        "INSERT INTO jobs (id, domain, kind, params, priority, state, run_at, enqueued_at)
         VALUES (7, 'catalog', 'catalog.hologram', '{}', 0, 'waiting', 0, 0)",
        [],
    )
    .unwrap();
    drop(conn);
    let service = world.start(&["run"]);
    let address = service.address();
    let known = put(&address, "catalog.full", json!({}));
    assert!(known > 7);
    job_in(&address, known, &["completed"]);
    let job = http::get(&address, "/api/v1/jobs/7");
    assert_eq!(job["state"], "waiting", "{job}");
    let shown = world.ask(&address, &["jobs", "show", "7"]);
    assert!(shown.expect(0).stdout.contains("unknown kind"), "the reason is shown: {shown}");
    service.stop();
    assert_eq!(world.rows().texts("SELECT state FROM jobs WHERE id = 7"), ["waiting"]);
}

#[test]
fn answers_that_no_honest_upstream_gives() {
    let cases: [(Upstream, &[&str]); 4] = [
        (
            Upstream::with_body("text/html", "<html><body>Request Rejected</body></html>"),
            &["not JSON", "Request Rejected"],
        ),
        (Upstream::with_body("application/json", r#"{"bundles": [{"name": "#), &["breaks off"]),
        (Upstream::with_body("application/json", r#"{"bundles": 7}"#), &["no list of bundles"]),
        (half_a_body(), &["cut off"]),
    ];
    for (upstream, texts) in cases {
        let world = World::new(0)
            .hasty()
            .set("domains.catalog.base_url", &upstream.base_url)
            .set("domains.catalog.breaker.failures", "1000");
        let ended = world.run(&["sync", "catalog.group", "--param", "group=Standard Fixed"]);
        ended.expect(FAILED).one_error(texts);
        assert_eq!(world.rows().texts("SELECT state FROM jobs"), ["failed"]);
        assert_eq!(world.rows().number("SELECT count(*) FROM catalog_bundles"), 0);
    }
}

/// Announces more than it sends.
fn half_a_body() -> Upstream {
    Upstream::start(|stream| {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{{\"bundles\": ["
        )
    })
}

/// Invariants 6 and 12.
#[test]
fn a_body_of_200_mb_is_refused_at_the_cap() {
    let said = Upstream::start(|stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 209715200\r\n\r\n")?;
        (0..200).try_for_each(|_| stream.write_all(&[b' '; 1 << 20]))
    });
    // The length is not said, so that only counting helps.
    let unsaid = Upstream::start(|stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")?;
        (0..200).try_for_each(|_| stream.write_all(&[b' '; 1 << 20]))
    });
    for upstream in [said, unsaid] {
        let world = World::new(0)
            .hasty()
            .set("domains.catalog.base_url", &upstream.base_url)
            .set("domains.catalog.body_max", "4MiB");
        let ended = world.run(&["sync", "catalog.group", "--param", "group=Standard Fixed"]);
        ended.expect(FAILED).one_error(&["body_max", "over the cap of 4194304"]);
    }
}
