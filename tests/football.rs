//! API-Football's leagues: kept in step, within the day's quota, and never taken for gone when the provider fails.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use longshore::sandbox::Dials;
use longshore::store::migrations::POSTGRES;
use serde_json::{Value, json};

use crate::service::job_in;
use crate::support::http::{self, Upstream};
use crate::support::postgres::Server;
use crate::support::rows::Rows;
use crate::support::world::KEY;
use crate::support::{Ended, World};

const DAY: u64 = 24 * 60 * 60;

/// One of the counts of the job that was asked for.
fn count(ended: &Ended, name: &str) -> u64 {
    let counts = &ended.json()["job"]["counts"];
    counts[name].as_u64().unwrap_or_else(|| panic!("no count {name}: {ended}"))
}

/// Puts a job in over HTTP and answers its id.
fn put(address: &str, kind: &str) -> i64 {
    let body = json!({ "domain": "football", "kind": kind, "params": {} });
    let (status, answer) = http::ask(address, "POST", "/api/v1/jobs", &body.to_string()).unwrap();
    assert!(status == 201 || status == 200, "{status} {answer}");
    serde_json::from_str::<Value>(&answer).unwrap()["id"].as_i64().unwrap()
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Near midnight the day is told apart by minutes, and what these tests look at changes meanwhile. With a clock of
/// their own the unit tests have that.
fn near_midnight() -> bool {
    let second = seconds_now() % DAY;
    let near = !(6 * 60..DAY - 10 * 60).contains(&second);
    if near {
        println!("skipped: the day is about to change, or has just changed");
    }
    near
}

#[test]
fn all_leagues_are_synced_and_a_second_sync_changes_nothing() {
    let world = World::football(1_200, Dials::default());
    let first = world.run(&["sync", "football", "--json"]);
    first.expect(0).calm(&[]);
    let expected = world.sandbox.expected_football();
    world.rows().equal_football(&expected);
    assert_eq!((count(&first, "received"), count(&first, "rejected")), (1_200, expected.rejects.len() as u64));
    let rows = world.rows();
    let number = |sql: &str| rows.number(sql);
    assert_eq!(number("SELECT count(DISTINCT slug) FROM leagues"), expected.leagues.len() as i64);
    assert_eq!(number("SELECT count(*) FROM leagues WHERE slug GLOB '*[^a-z0-9-]*'"), 0);
    assert_eq!(number("SELECT count(*) FROM seasons"), expected.season_count() as i64);
    assert_eq!(number("SELECT count(*) FROM season_coverage"), expected.season_count() as i64);
    assert_eq!(number("SELECT count(*) FROM countries WHERE code IS NULL AND name <> 'World'"), 0);
    assert_eq!(number("SELECT count(*) FROM provider_sources WHERE entity = 'league'"), expected.leagues.len() as i64);
    let stored = number(
        "SELECT (SELECT count(*) FROM leagues) + (SELECT count(*) FROM seasons)
                         + (SELECT count(*) FROM countries)",
    );
    assert_eq!(count(&first, "inserted"), stored as u64);
    for (reject, stored) in
        expected.rejects.iter().zip(rows.texts("SELECT coalesce(key, '') FROM rejected_records ORDER BY id"))
    {
        assert_eq!(reject.id.map_or(String::new(), |id| id.to_string()), stored, "{reject:?}");
    }
    let fresh = "SELECT status || ' ' || (last_synced_at LIKE '20__-__-__T__:__:__.___Z') || ' ' ||
                 json_extract(counts, '$.received') FROM provider_sync_state WHERE provider = 'api-football'";
    assert_eq!(rows.texts(fresh), ["ok 1 1200"]);

    let before = rows.dump_football();
    let second = world.run(&["sync", "football.leagues", "--json"]);
    second.expect(0).calm(&[]);
    assert_eq!((count(&second, "inserted"), count(&second, "updated"), count(&second, "removed")), (0, 0, 0));
    assert_eq!(world.rows().dump_football(), before, "what is unchanged is not written");

    let countries = world.run(&["sync", "football.countries", "--json"]);
    countries.expect(0).calm(&[]);
    assert_eq!(count(&countries, "updated"), 0, "both lists tell the same of a country");
    assert_eq!(world.rows().number("SELECT count(*) FROM countries"), expected.countries.len() as i64);
}

#[test]
fn a_renamed_league_keeps_its_slug_and_what_vanished_is_marked() {
    let world = World::football(600, Dials { changed: 0.2, vanished: 0.05, ..Dials::default() });
    world.run(&["sync", "football"]).expect(0).calm(&[]);
    let slugs = world.rows().texts("SELECT id || ' ' || slug FROM leagues ORDER BY id");
    for _ in 0..2 {
        let advanced = world.sandbox.advance();
        assert!(advanced.leagues_changed > 0 && advanced.leagues_vanished > 0);
        let synced = world.run(&["sync", "football", "--json"]);
        synced.expect(0).calm(&[]);
        // A season that starts on another day is another season, and the old one is gone.
        world.rows().equal_football(&world.sandbox.expected_football());
        assert!(count(&synced, "updated") > 0 && count(&synced, "removed") > 0, "{synced}");
    }
    let rows = world.rows();
    assert!(rows.number("SELECT count(*) FROM leagues WHERE name LIKE '% Plus'") > 100);
    assert_eq!(rows.texts("SELECT id || ' ' || slug FROM leagues ORDER BY id"), slugs, "also of those that vanished");
    let orphans = "SELECT count(*) FROM seasons JOIN leagues ON leagues.id = league_id
                   WHERE leagues.removed_at IS NOT NULL AND seasons.removed_at IS NULL";
    assert_eq!(rows.number(orphans), 0, "seasons go with their league");
    let sources = "SELECT count(*) FROM provider_sources WHERE entity = 'league' AND removed_at IS NULL";
    assert_eq!(rows.number(sources), rows.number("SELECT count(*) FROM leagues WHERE removed_at IS NULL"));
}

/// Invariant 8.
#[test]
fn a_removal_beyond_the_guard_needs_an_operators_word() {
    let world = World::football(400, Dials { vanished: 0.5, ..Dials::default() });
    world.run(&["sync", "football"]).expect(0);
    let before = world.rows().dump_football();
    world.sandbox.advance();
    world.run(&["sync", "football"]).expect(1).one_error(&["more than the guard allows", "allow_removal"]);
    assert_eq!(world.rows().dump_football(), before, "nothing is harmed");
    assert_eq!(world.rows().texts("SELECT status FROM provider_sync_state"), ["error"]);
    world.run(&["sync", "football", "--param", "allow_removal=true"]).expect(0).calm(&[]);
    world.rows().equal_football(&world.sandbox.expected_football());
}

/// The classic mistake: an answer without rows is taken for a list of none.
#[test]
fn neither_an_empty_list_nor_an_error_removes_anything() {
    let world = World::football(300, Dials::default());
    world.run(&["sync", "football"]).expect(0);
    let before = world.rows().dump_football();
    world.sandbox.set_dials(Dials { football_empty: true, ..Dials::default() });
    let empty = world.run(&["sync", "football", "--json"]);
    empty.expect(0).calm(&["job warned"]);
    assert!(empty.json()["job"]["message"].as_str().unwrap().contains("empty list of leagues"), "{empty}");
    assert_eq!(world.rows().dump_football(), before);

    for (error, says) in [("plan", "plan: Free plans do not"), ("access", "suspended"), ("bug", "bug: This is on our")]
    {
        world.sandbox.set_dials(Dials { football_error: Some(error.to_owned()), ..Dials::default() });
        world.run(&["sync", "football"]).expect(1).one_error(&[says]);
        assert_eq!(world.rows().dump_football(), before, "{error}");
    }
    let ends = "SELECT DISTINCT attempt || ' ' || cause FROM jobs WHERE state = 'failed'";
    assert_eq!(world.rows().texts(ends), ["1 permanent"], "what no retry mends is not tried again");
}

#[test]
fn a_used_up_quota_waits_for_midnight_and_is_known_after_a_restart() {
    if near_midnight() {
        return;
    }
    let world = World::football(50, Dials { football_quota: Some(0), ..Dials::default() });
    let service = world.start(&["run"]);
    let address = service.address();
    let first = put(&address, "football.leagues");
    let job = job_in(&address, first, &["delayed"]);
    let message = job["message"].as_str().unwrap();
    assert!(message.contains("reached the request limit for the day") && message.contains("00:00 UTC"), "{job}");
    let midnight = (seconds_now() / DAY + 1) * DAY * 1_000;
    let run_at = job["run_at"].as_u64().unwrap();
    assert!(run_at.abs_diff(midnight) < 5_000, "{run_at} is not {midnight}");
    assert_eq!(job["history"][0]["outcome"], "snoozed", "{job}");
    service.stop().calm(&["job did not complete"]);
    assert_eq!(world.rows().texts("SELECT state || ' ' || attempt FROM jobs"), ["delayed 0"], "no attempt is burnt");

    // The provider would answer again; our own count says that it must not be asked.
    world.sandbox.set_dials(Dials::default());
    let service = world.start(&["run"]);
    let address = service.address();
    let job = job_in(&address, put(&address, "football.countries"), &["delayed", "completed"]);
    assert!(job["message"].as_str().unwrap().contains("the day's 100 requests are used up"), "{job}");
    // What costs nothing is asked for all the same.
    let status = job_in(&address, put(&address, "football.status"), &["completed", "failed", "delayed"]);
    assert_eq!(status["state"], "completed", "{status}");
    service.stop().calm(&["job did not complete"]);
    assert_eq!(world.rows().number("SELECT count(*) FROM leagues"), 0);
}

#[test]
fn the_limit_that_the_account_tells_counts() {
    if near_midnight() {
        return;
    }
    let world = World::football(50, Dials { football_quota: Some(2), ..Dials::default() });
    world.run(&["sync", "football.status"]).expect(0).calm(&[]);
    let account = "SELECT plan || ' ' || requests_used || ' ' || requests_limit FROM provider_accounts";
    assert_eq!(world.rows().texts(account), ["Free 0 2"]);
    world.run(&["sync", "football.leagues"]).expect(0);
    world.sandbox.set_dials(Dials::default());
    world.run(&["sync", "football.countries"]).expect(0);
    let service = world.start(&["run"]);
    let address = service.address();
    let job = job_in(&address, put(&address, "football.leagues"), &["delayed", "completed"]);
    assert!(job["message"].as_str().unwrap().contains("the day's 2 requests are used up"), "{job}");
    service.stop().calm(&["job did not complete"]);
}

#[test]
fn too_many_in_a_minute_wait_for_the_next_one() {
    let world = World::football(50, Dials { football_per_minute: Some(0), ..Dials::default() });
    let service = world.start(&["run"]);
    let address = service.address();
    let job = job_in(&address, put(&address, "football.leagues"), &["delayed"]);
    assert!(job["message"].as_str().unwrap().contains("Too many requests"), "{job}");
    let wait = job["run_at"].as_u64().unwrap().saturating_sub(seconds_now() * 1_000);
    assert!((30_000..=61_000).contains(&wait), "{wait} ms");
    assert_eq!(job["history"][0]["outcome"], "snoozed", "{job}");
    // The whole bucket waits: nobody else of this credential asks meanwhile.
    let paused = http::get(&address, "/readyz?verbose");
    assert_eq!(paused["ready"], true, "{paused}");
    service.stop().calm(&["job did not complete"]);
    assert_eq!(world.rows().texts("SELECT state || ' ' || attempt FROM jobs"), ["delayed 0"]);
}

#[test]
fn a_wrong_key_fails_at_once_and_names_the_setting() {
    let world = World::football(50, Dials::default()).set("domains.football.api_key", "quite-another-key");
    let synced = world.run(&["sync", "football"]);
    synced.expect(1).one_error(&["Error/Missing application key", "domains.football.api_key", "API_FOOTBALL_KEY"]);
    assert!(!synced.to_string().contains("quite-another-key"), "{synced}");
    assert_eq!(world.rows().texts("SELECT state || ' ' || attempt || ' ' || cause FROM jobs"), ["failed 1 permanent"]);
    // It is answered with 200, and is no health all the same.
    let checked = world.run(&["check"]);
    checked.expect(69);
    assert!(checked.stdout.contains("FAIL") && checked.stdout.contains("refused the key"), "{checked}");
    World::football(50, Dials::default()).run(&["check"]).expect(0);

    let keyless = World::new(0).set("domains.football.enabled", "true");
    keyless.run(&["run"]).expect(78).one_error(&["domains.football.api_key", "API_FOOTBALL_KEY"]);
    World::new(0).run(&["sync", "football"]).expect(2).one_error(&["domains.football.enabled = true"]);
}

#[test]
fn a_stalled_answer_hits_the_deadline() {
    let world = World::football(50, Dials { hang_rate: 1.0, ..Dials::default() })
        .set("domains.football.timeout", "300ms")
        .set("domains.football.jobs.leagues.attempts", "2");
    world.run(&["sync", "football"]).expect(1).one_error(&["no whole answer within 300ms"]);
    assert_eq!(world.rows().texts("SELECT attempt || ' ' || cause FROM jobs"), ["2 exhausted"]);
    assert_eq!(world.rows().number("SELECT count(*) FROM leagues"), 0);
}

#[test]
fn what_fails_now_and_then_is_tried_again_and_comes_out_right() {
    let dials = Dials { error_rate: 0.2, cut_rate: 0.2, malformed_rate: 0.2, ..Dials::default() };
    let world = World::football(200, dials).set("domains.football.jobs.leagues.attempts", "20");
    for _ in 0..3 {
        let synced = world.run(&["sync", "football"]);
        synced.expect(0).calm(&["job did not complete", "page", "unhealthy"]);
        world.rows().equal_football(&world.sandbox.expected_football());
        world.sandbox.advance();
    }
}

#[test]
fn a_dry_run_tells_the_changes_and_writes_nothing() {
    let world = World::football(200, Dials { changed: 0.1, vanished: 0.05, ..Dials::default() });
    let tried = world.run(&["sync", "football", "--dry-run", "--json"]);
    tried.expect(0).calm(&[]);
    assert!(!world.path("longshore.db").exists(), "a dry run makes no file");
    let done = world.run(&["sync", "football", "--json"]);
    for name in ["received", "inserted", "rejected"] {
        assert_eq!(count(&done, name), count(&tried, name), "the dry run told the truth of {name}");
    }
    assert!(world.sandbox.advance().leagues_vanished > 0);
    let before = world.rows().dump_football();
    let tried = world.run(&["sync", "football", "--dry-run", "--json"]);
    tried.expect(0).calm(&[]);
    assert_eq!(world.rows().dump_football(), before);
    let done = world.run(&["sync", "football", "--json"]);
    for name in ["received", "inserted", "updated", "unchanged", "removed", "rejected"] {
        assert_eq!(count(&done, name), count(&tried, name), "the dry run told the truth of {name}");
    }
    assert!(count(&done, "removed") > 0);
}

/// A list of leagues with these ids and names, all cups of England.
fn list(leagues: &[(u32, &str)]) -> String {
    whole(leagues.iter().map(|(id, name)| cup(*id, name, "England")).collect())
}

fn cup(id: u32, name: &str, country: &str) -> Value {
    json!({
        "league": {"id": id, "name": name, "type": "Cup", "logo": null},
        "country": {"name": country, "code": "GB", "flag": null},
        "seasons": [{"year": 2026, "start": "2026-08-01", "end": "2027-05-01", "current": true}],
    })
}

fn countries(names: &[&str]) -> String {
    whole(names.iter().map(|name| json!({"name": name, "code": "GB", "flag": null})).collect())
}

/// An answer that says of itself that it is all there is.
fn whole(records: Vec<Value>) -> String {
    let (results, paging) = (records.len(), json!({"current": 1, "total": 1}));
    json!({"errors": [], "results": results, "paging": paging, "response": records}).to_string()
}

/// An upstream that answers everything with what stands in the cell, and the cell.
fn answering(body: String) -> (Upstream, Arc<Mutex<String>>) {
    let cell = Arc::new(Mutex::new(body));
    let shown = cell.clone();
    let upstream = Upstream::start(move |stream| {
        let body = shown.lock().unwrap().clone();
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    });
    (upstream, cell)
}

/// All that an answer may leave behind, but for the quota and the end of its job.
fn left_behind(rows: &Rows<'_>) -> Vec<String> {
    let seen = rows.texts("SELECT 'keys that job ' || job || ' has seen' FROM snapshot_keys ORDER BY job");
    rows.dump_football().into_iter().chain(rows.dump_of("rejected_records")).chain(seen).collect()
}

/// All or nothing: what the guard refuses leaves no row, no reject and no key of its answer. `rows` opens the store.
fn a_refused_answer_leaves_nothing<'a>(world: World, told: &Mutex<String>, rows: impl Fn(&World) -> Rows<'a>) {
    let sync = |more: &[&str]| world.run(&[&["sync", "football", "--json"], more].concat());
    let names: Vec<String> = (1..=120).map(|id| format!("Cup {id}")).collect();
    let leagues: Vec<(u32, &str)> = (1..).zip(names.iter().map(String::as_str)).collect();
    *told.lock().unwrap() = list(&leagues);
    sync(&[]).expect(0).calm(&[]);
    let before = left_behind(&rows(&world));

    // Forty are called otherwise, eighty are gone, one is new, in a new country, and one nobody can read.
    let renamed: Vec<String> = (1..=40).map(|id| format!("Shield {id}")).collect();
    let mut records: Vec<Value> = (1..).zip(&renamed).map(|(id, name)| cup(id, name, "England")).collect();
    records.extend([cup(500, "Vase", "Wales"), json!({"league": {"id": null}})]);
    *told.lock().unwrap() = whole(records);
    for dry_run in [&["--dry-run"][..], &[]] {
        let refused = sync(dry_run);
        refused.expect(1).one_error(&["80 of 121 rows", "more than the guard allows", "allow_removal=true"]);
        assert_eq!(left_behind(&rows(&world)), before, "nothing of the answer is left behind");
    }
    let job = "SELECT state, cause, attempt, checkpoint IS NULL AS fresh FROM jobs ORDER BY id DESC LIMIT 1";
    let [state, cause, attempt, fresh] = rows(&world).ask(job).remove(0).try_into().unwrap();
    assert_eq!((&*state, &*cause, &*attempt), ("failed", "permanent", "1"));
    assert!(fresh == "1" || fresh == "t", "the job has done no page");

    let tried = sync(&["--dry-run", "--param", "allow_removal=true"]);
    tried.expect(0).calm(&[]);
    assert_eq!(left_behind(&rows(&world)), before, "a dry run writes nothing");
    let allowed = sync(&["--param", "allow_removal=true"]);
    allowed.expect(0).calm(&[]);
    // A league and its season; a country, a league and its season; forty names.
    assert_eq!((count(&allowed, "removed"), count(&allowed, "inserted"), count(&allowed, "updated")), (160, 3, 40));
    for name in ["received", "inserted", "updated", "unchanged", "removed", "rejected"] {
        assert_eq!(count(&allowed, name), count(&tried, name), "the dry run told the truth of {name}");
    }
    let rows = rows(&world);
    let live = "SELECT id || ' ' || name FROM leagues WHERE removed_at IS NULL ORDER BY id";
    let wanted = (1..).zip(&renamed).map(|(id, name)| format!("{id} {name}")).chain(["500 Vase".to_owned()]);
    assert_eq!(rows.texts(live), wanted.collect::<Vec<_>>());
    assert_eq!(rows.number("SELECT count(*) FROM seasons WHERE removed_at IS NULL"), 41);
    assert_eq!(rows.number("SELECT count(*) FROM rejected_records"), 1);
    assert_eq!(rows.number("SELECT count(*) FROM snapshot_keys"), 0);
}

#[test]
fn a_refused_removal_leaves_nothing_of_its_answer() {
    let (upstream, told) = answering(String::new());
    let world = World::football(0, Dials::default()).set("domains.football.base_url", &upstream.base_url);
    a_refused_answer_leaves_nothing(world, &told, |world| world.rows());
}

#[test]
fn a_refused_removal_leaves_nothing_of_its_answer_in_postgresql() {
    let server = Server::shared();
    let url = server.database();
    let (upstream, told) = answering(String::new());
    let world = World::football(0, Dials::default()).set("domains.football.base_url", &upstream.base_url);
    a_refused_answer_leaves_nothing(world.on(url.clone()), &told, |_| Rows::on(&server, &url));
}

/// A country is gone when its own list leaves it out and no live league names it. `rows` opens the store.
fn countries_go_unless_named<'a>(world: World, told: &Mutex<String>, rows: impl Fn(&World) -> Rows<'a>) {
    let world =
        world.set("domains.football.removal_guard.rows", "1").set("domains.football.removal_guard.ratio", "0.0");
    let tell = |body: String, args: &[&str]| {
        *told.lock().unwrap() = body;
        world.run(&[&["sync"], args, &["--json"]].concat())
    };
    let leagues = |body| tell(body, &["football.leagues"]);
    let listed = |body| tell(body, &["football.countries"]);
    let live = || rows(&world).texts("SELECT name FROM countries WHERE removed_at IS NULL ORDER BY name");
    leagues(list(&[(1, "Cup")])).expect(0);
    listed(countries(&["Wales", "Spain", "World"])).expect(0);
    assert_eq!(live(), ["England", "Spain", "Wales", "World"], "a league names England, which the list leaves out");

    // Neither what comes back without a reason, nor with one, nor in parts, nor with a bad record removes anything.
    let bad = whole(vec![json!({"name": "Spain", "code": 7}), json!({"name": "Wales", "code": null, "flag": null})]);
    let part = countries(&["World"]).replace("\"results\":1", "\"results\":4");
    let error = json!({"errors": {"plan": "no"}, "results": 0, "response": []}).to_string();
    for (body, code) in [(whole(Vec::new()), 0), (part, 0), (error, 1)] {
        let ended = listed(body);
        ended.expect(code);
        assert_eq!(live(), ["England", "Spain", "Wales", "World"], "{ended}");
    }
    let ended = listed(bad);
    ended.expect(0).calm(&[]);
    assert_eq!((count(&ended, "removed"), count(&ended, "rejected")), (1, 1), "World alone");
    assert_eq!(live(), ["England", "Spain", "Wales"]);
    let again = leagues(list(&[(1, "Cup")]));
    assert_eq!((count(&again, "updated"), count(&again, "removed")), (0, 0), "the two lists do not undo each other");

    // The last league of England goes, and its country with the next list of countries.
    leagues(whole(vec![cup(2, "Copa", "Spain")])).expect(0);
    assert_eq!(live(), ["England", "Spain", "Wales"]);
    let ended = listed(countries(&["Wales", "France"]));
    ended.expect(0);
    assert_eq!((count(&ended, "removed"), count(&ended, "inserted")), (1, 1));
    assert_eq!(live(), ["France", "Spain", "Wales"]);

    // Two at once are more than this guard allows: neither they go nor the new one comes.
    let before = left_behind(&rows(&world));
    listed(countries(&["Andorra"])).expect(1).one_error(&["2 of 4 rows", "more than the guard allows"]);
    assert_eq!(left_behind(&rows(&world)), before, "nothing of the answer is left behind");
    let allowed = tell(countries(&["Andorra"]), &["football.countries", "--param", "allow_removal=true"]);
    allowed.expect(0).calm(&[]);
    assert_eq!(live(), ["Andorra", "Spain"]);
    let sources = "SELECT provider_id FROM provider_sources WHERE entity = 'country' AND removed_at IS NULL ORDER BY 1";
    assert_eq!(rows(&world).texts(sources), live());
    // What a league names anew is live again.
    leagues(list(&[(1, "Cup")])).expect(0);
    assert_eq!(live(), ["Andorra", "England", "Spain"]);
}

/// A league that names a country while its list is under way keeps it all the same.
#[test]
fn a_country_that_is_named_while_its_list_is_on_its_way_stays() {
    let server = Server::shared();
    let url = server.database();
    let database = url.rsplit('/').next().unwrap().to_owned();
    let (upstream, told) = answering(list(&[(1, "Cup")]));
    let world = World::football(0, Dials::default()).on(url.clone());
    let sync = |kind: &str, upstream: &Upstream| {
        world.run(&["--set", &format!("domains.football.base_url={}", upstream.base_url), "sync", kind]).expect(0);
    };
    sync("football.leagues", &upstream);
    *told.lock().unwrap() = countries(&["England", "Wales"]);
    sync("football.countries", &upstream);
    server.psql(&database, "UPDATE leagues SET country = 'Wales'");
    let (names, at) = (server.clone(), database.clone());
    let slow = Upstream::start(move |stream| {
        names.psql(&at, "UPDATE leagues SET country = 'England'");
        let body = countries(&["Wales"]);
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    });
    sync("football.countries", &slow);
    let live = || Rows::on(&server, &url).texts("SELECT name FROM countries WHERE removed_at IS NULL ORDER BY name");
    assert_eq!(live(), ["England", "Wales"]);
    server.psql(&database, "UPDATE leagues SET country = 'Wales'");
    *told.lock().unwrap() = countries(&["Wales"]);
    sync("football.countries", &upstream);
    assert_eq!(live(), ["Wales"], "named by nobody");
}

#[test]
fn a_country_goes_when_its_list_and_all_leagues_have_dropped_it() {
    let (upstream, told) = answering(String::new());
    let world = World::football(0, Dials::default()).set("domains.football.base_url", &upstream.base_url);
    countries_go_unless_named(world, &told, |world| world.rows());
}

#[test]
fn a_country_goes_when_its_list_and_all_leagues_have_dropped_it_in_postgresql() {
    let server = Server::shared();
    let url = server.database();
    let (upstream, told) = answering(String::new());
    let world = World::football(0, Dials::default()).set("domains.football.base_url", &upstream.base_url);
    countries_go_unless_named(world.on(url.clone()), &told, |_| Rows::on(&server, &url));
}

#[test]
fn a_slug_stays_its_leagues_own_while_the_league_is_gone() {
    let (upstream, told) = answering(list(&[(1, "Cup"), (2, "Shield")]));
    let world = World::football(0, Dials::default()).set("domains.football.base_url", &upstream.base_url);
    let sync = || world.run(&["sync", "football"]).expect(0).calm(&[]).code;
    let slugs = || world.rows().texts("SELECT id || ' ' || slug FROM leagues WHERE removed_at IS NULL ORDER BY id");
    sync();
    assert_eq!(slugs(), ["1 england-cup", "2 england-shield"]);
    *told.lock().unwrap() = list(&[(2, "Trophy"), (3, "Cup")]);
    sync();
    assert_eq!(slugs(), ["2 england-shield", "3 england-cup-3"]);
    *told.lock().unwrap() = list(&[(1, "Vase"), (2, "Cup"), (3, "Cup"), (4, "Shield")]);
    sync();
    assert_eq!(slugs(), ["1 england-cup", "2 england-shield", "3 england-cup-3", "4 england-shield-4"]);
    let live = "SELECT count(*) FROM seasons WHERE removed_at IS NULL";
    assert_eq!(world.rows().number(live), 4, "what returns is live again");
}

/// Invariant 10. The world itself looks through all that was said and stored.
#[test]
fn a_key_that_the_provider_repeats_is_not_told() {
    let (upstream, told) =
        answering(json!({"errors": {"token": format!("bad key {KEY}")}, "response": []}).to_string());
    let world = World::football(0, Dials::default()).set("domains.football.base_url", &upstream.base_url);
    world.run(&["sync", "football"]).expect(1).one_error(&["bad key ***"]);
    *told.lock().unwrap() = list(&[(1, KEY), (0, KEY)]);
    world.run(&["sync", "football"]).expect(0);
    assert_eq!(world.rows().texts("SELECT name FROM leagues"), ["***"]);
    assert!(world.rows().texts("SELECT raw FROM rejected_records")[0].contains("***"));
    *told.lock().unwrap() = format!("<html>{KEY}</html>");
    world.run(&["sync", "football"]).expect(1).one_error(&["not JSON", "***"]);
}

#[test]
fn the_recorded_list_comes_through_whole() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/samples/api-football/leagues_current-true_fantasyleague.json");
    let Ok(recorded) = std::fs::read_to_string(&sample) else {
        println!("skipped: there is no recorded answer at {}", sample.display());
        return;
    };
    let (upstream, _) = answering(recorded);
    let world = World::football(0, Dials::default()).set("domains.football.base_url", &upstream.base_url);
    let synced = world.run(&["sync", "football", "--json"]);
    synced.expect(0).calm(&[]);
    assert_eq!((count(&synced, "received"), count(&synced, "rejected")), (1_118, 0));
    let rows = world.rows();
    assert_eq!(rows.number("SELECT count(*) FROM leagues"), 1_118);
    assert_eq!(rows.number("SELECT count(*) FROM seasons WHERE is_current"), 1_118);
    assert_eq!(rows.texts("SELECT name FROM countries WHERE code = 'GB' ORDER BY name").len(), 4);
    assert_eq!(rows.texts("SELECT slug FROM leagues WHERE id = 807"), ["world-afc-challenge-cup"]);
}

/// As a hosted PostgreSQL has it: two roles that may read whatever is made.
const READERS: &str = "
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'anon') THEN CREATE ROLE anon; CREATE ROLE authenticated; END IF;
END $$;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated";

#[test]
fn in_postgresql_the_view_shows_to_nobody_what_the_tables_hide() {
    let server = Server::start(&[]);
    let newer = "server_version_num')::integer >= 150000";
    // An older server cannot be had here, so the newer one is told that it is not new enough.
    for (is_new, least) in [(true, newer), (false, "server_version_num')::integer >= 990000")] {
        let url = server.database();
        let database = url.rsplit('/').next().unwrap();
        server.psql(database, READERS);
        for migration in POSTGRES {
            let sql = migration.sql.replace(newer, least);
            assert!(migration.name != "football" || sql.contains(least));
            server.psql(database, &sql);
        }
        let rows = "INSERT INTO sync_state (provider, entity, last_success_at, last_error_at, last_error, counts) VALUES
                    ('p', 'a', 1700000000123, NULL, NULL, '{\"received\": 7}'), ('p', 'b', 1700000000123, 1700000000124, 'x', '{}'),
                    ('p', 'c', NULL, NULL, NULL, '{}'), ('p', 'd', 1700000000125, 1700000000124, 'x', '{}')";
        server.psql(database, rows);
        let states = server.psql(database, "SELECT entity || status FROM provider_sync_state ORDER BY entity");
        assert_eq!(states, "aok\nberror\ncnever\ndok");
        let first = "SELECT extract(epoch FROM last_synced_at), counts->>'received' FROM provider_sync_state WHERE entity = 'a'";
        assert_eq!(server.psql(database, first), "1700000000.123000|7");
        for reader in ["anon", "authenticated"] {
            let seen =
                server.try_psql(database, &format!("SET ROLE {reader}; SELECT count(*) FROM provider_sync_state"));
            match seen {
                Ok(count) => assert!(is_new && count == "0", "{reader} sees {count}"),
                Err(said) => assert!(!is_new && said.contains("permission denied"), "{said}"),
            }
        }
    }
}

#[test]
fn the_leagues_are_kept_in_step_in_postgresql() {
    let server = Server::shared();
    let url = server.database();
    let dials = Dials { changed: 0.05, vanished: 0.05, ..Dials::default() };
    let world = World::football(400, dials).on(url.clone());
    let rows = Rows::on(&server, &url);
    let held = |world: &World| {
        let expected = world.sandbox.expected_football();
        let names = rows.ask("SELECT id, name, country FROM leagues WHERE removed_at IS NULL");
        let wanted = expected
            .leagues
            .iter()
            .map(|(id, league)| vec![id.to_string(), league.name.clone(), league.country.clone()]);
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), wanted.collect());
        let seasons = rows.number("SELECT count(*) FROM seasons WHERE removed_at IS NULL");
        assert_eq!(seasons as usize, expected.season_count());
    };
    world.run(&["sync", "football"]).expect(0).calm(&[]);
    held(&world);
    let second = world.run(&["sync", "football", "--json"]);
    second.expect(0).calm(&[]);
    assert_eq!((count(&second, "inserted"), count(&second, "updated"), count(&second, "removed")), (0, 0, 0));
    let slugs = rows.texts("SELECT slug FROM leagues ORDER BY id");
    let advanced = world.sandbox.advance();
    assert!(advanced.leagues_changed > 0 && advanced.leagues_vanished > 0);
    world.run(&["sync", "football"]).expect(0).calm(&[]);
    held(&world);
    assert_eq!(rows.texts("SELECT slug FROM leagues ORDER BY id"), slugs, "slugs stay");
    let gone = rows.number("SELECT count(*) FROM leagues WHERE removed_at IS NOT NULL");
    // One that was rejected never stood in the table.
    assert!(gone > 0 && gone as usize <= advanced.leagues_vanished, "{gone} of {advanced:?}");
    let state = rows.ask("SELECT status FROM provider_sync_state WHERE entity = 'leagues'");
    assert_eq!(state, [["ok"]]);
}
