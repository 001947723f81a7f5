//! The object store: a folder, and a bucket on a real S3 server that checks every signature.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use longshore::config::Secret;
use longshore::store::batch::Object;
use longshore::targets::objects::{BucketSettings, Objects, Place, Put, Settings};
use longshore_actors::breaker::{BreakerPolicy, BreakerState};
use longshore_actors::events::Events;
use longshore_actors::job::Fault;
use longshore_actors::shutdown::{Phase, Phases};

use crate::support::World;
use crate::support::disk::Disk;
use crate::support::http::Upstream;
use crate::support::s3::{ACCESS_KEY, BUCKET, Refusal, SECRET_KEY, Server, Stored};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and so on";
const SVG: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>";

fn object(key: &str, content_type: &str, bytes: &'static [u8]) -> Object {
    Object { key: key.to_owned(), content_type: content_type.to_owned(), bytes: Bytes::from_static(bytes) }
}

fn png() -> Object {
    object("images/4f/4f1c.png", "image/png", PNG)
}

fn bucket(server: &Server) -> BucketSettings {
    BucketSettings {
        shown: format!("s3://{BUCKET}/shop"),
        endpoint: server.endpoint(),
        region: "us-east-1".to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: "shop".to_owned(),
        access_key: Secret::from(ACCESS_KEY),
        secret_key: Secret::from(SECRET_KEY),
    }
}

fn r2(server: &Server) -> BucketSettings {
    BucketSettings { shown: format!("r2://account/{BUCKET}/shop"), region: "auto".to_owned(), ..bucket(server) }
}

/// With a breaker that opens at the second failure, for a moment.
fn settings(place: Place) -> Settings {
    let moment = Duration::from_millis(50);
    let breaker = BreakerPolicy { failures: 2, open_for: moment, open_max: moment, half_open_max: 1 };
    Settings { breaker, ..Settings::new(place) }
}

fn open(place: Place) -> Objects {
    Objects::open(&settings(place)).unwrap()
}

fn folder(root: &Path) -> Objects {
    open(Place::Folder(root.to_owned()))
}

/// The reason why the store cannot be used, told without a key.
#[track_caller]
fn unavailable<T: std::fmt::Debug>(put: Result<T, Fault>) -> (String, Duration) {
    let Err(Fault::Unavailable { what, reason, retry_in: Some(retry_in) }) = put else { panic!("{put:?}") };
    assert_eq!(what, "objects");
    assert!(!reason.contains(ACCESS_KEY) && !reason.contains(SECRET_KEY), "{reason}");
    (reason, retry_in)
}

#[track_caller]
fn failed(put: Result<Put, Fault>) -> String {
    let Err(Fault::Fail { reason }) = put else { panic!("{put:?}") };
    reason
}

fn failures(objects: &Objects) -> u64 {
    objects.status().breaker.counts.failed
}

#[tokio::test]
async fn a_file_is_put_once() {
    let server = Server::start();
    let objects = open(Place::Bucket(bucket(&server)));
    assert_eq!(objects.put(&png()).await, Ok(Put::New));
    assert_eq!(objects.put(&png()).await, Ok(Put::Existing));
    assert_eq!(
        server.lines(),
        [
            "HEAD /images/shop/images/4f/4f1c.png",
            "PUT /images/shop/images/4f/4f1c.png",
            "HEAD /images/shop/images/4f/4f1c.png"
        ]
    );
    assert_eq!(server.asked()[1].header("if-none-match"), "*");
    let stored = server.stored("shop/images/4f/4f1c.png").unwrap();
    assert_eq!(stored, Stored { bytes: PNG.to_vec(), content_type: Some("image/png".to_owned()), disposition: None });
    let status = objects.status();
    assert_eq!((status.new, status.existing, status.faults, status.bytes), (1, 1, 0, PNG.len() as u64));
    assert_eq!(status.place, "s3://images/shop");
}

#[tokio::test]
async fn an_empty_file_and_a_large_one_arrive_whole() {
    let server = Server::start();
    let objects = open(Place::Bucket(BucketSettings { prefix: String::new(), ..bucket(&server) }));
    assert_eq!(objects.put(&object("empty", "text/plain", b"")).await, Ok(Put::New));
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    let large = Object { bytes: bytes.clone().into(), ..object("large", "application/pdf", b"") };
    assert_eq!(objects.put(&large).await, Ok(Put::New));
    assert_eq!(objects.put(&large).await, Ok(Put::Existing));
    assert_eq!(server.stored("empty").unwrap().bytes, b"");
    assert!(server.stored("large").unwrap().bytes == bytes);
}

#[tokio::test]
async fn of_two_writers_at_once_one_finds_it_there() {
    let server = Server::start();
    let objects = open(Place::Bucket(bucket(&server)));
    server.answer_heads_together(2);
    let mut puts: Vec<_> = futures::future::join_all([objects.put(&png()), objects.put(&png())]).await;
    puts.sort_by_key(|put| put == &Ok(Put::Existing));
    assert_eq!(puts, [Ok(Put::New), Ok(Put::Existing)]);
    assert_eq!(server.lines().iter().filter(|line| line.starts_with("PUT")).count(), 2, "the server decided");
    assert_eq!(failures(&objects), 0);
}

#[tokio::test]
async fn a_file_that_could_run_is_never_shown() {
    let server = Server::start();
    let objects = open(Place::Bucket(bucket(&server)));
    for (key, content_type, bytes, disposition) in [
        ("logo.svg", "image/svg+xml", SVG, Some("attachment")),
        ("page.html", "text/html; charset=utf-8", SVG, Some("attachment")),
        ("sheet.pdf", "application/pdf", PNG, Some("attachment")),
        ("photo.jpg", "image/jpeg", PNG, None),
    ] {
        objects.put(&object(key, content_type, bytes)).await.unwrap();
        let stored = server.stored(&format!("shop/{key}")).unwrap();
        assert_eq!(stored.disposition.as_deref(), disposition, "{key}");
        // The server's parser writes parameters without a blank.
        assert_eq!(stored.content_type.unwrap().replace("; ", ";"), content_type.replace("; ", ";"), "{key}");
        assert_eq!(stored.bytes, bytes, "it is kept as it is");
    }
}

#[tokio::test]
async fn a_file_of_another_size_is_written_anew() {
    let server = Server::start();
    server.store("shop/images/4f/4f1c.png", b"half");
    let objects = open(Place::Bucket(bucket(&server)));
    assert_eq!(objects.put(&png()).await, Ok(Put::New));
    assert_eq!(server.stored("shop/images/4f/4f1c.png").unwrap().bytes, PNG);
}

#[tokio::test]
async fn the_rules_of_r2_are_kept() {
    let server = Server::start_r2();
    let objects = open(Place::Bucket(r2(&server)));
    assert_eq!(objects.put(&png()).await, Ok(Put::New));
    assert_eq!(objects.put(&object("logo.svg", "image/svg+xml", SVG)).await, Ok(Put::New));
    assert_eq!(objects.probe().await, Ok(()));
    for asked in server.asked().iter().filter(|asked| asked.line.starts_with("PUT")) {
        let hash = asked.header("x-amz-content-sha256");
        assert!(hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit()), "a plain signed body: {hash}");
        assert!(asked.header("authorization").contains("/auto/s3/aws4_request"), "{asked:?}");
        assert!(!asked.header("content-length").is_empty() && asked.header("transfer-encoding").is_empty());
    }
    // The same requests in another region are refused, so the server does look.
    let elsewhere = open(Place::Bucket(BucketSettings { region: "eu-west-1".to_owned(), ..r2(&server) }));
    let (reason, _) = unavailable(elsewhere.put(&object("x.png", "image/png", PNG)).await);
    assert!(reason.contains("400 InvalidRegionName") && reason.contains("objects.region"), "{reason}");
}

#[tokio::test]
async fn a_server_without_conditions_is_used_without_them() {
    let server = Server::start();
    server.know_no_conditions();
    let objects = open(Place::Bucket(bucket(&server)));
    assert_eq!(objects.put(&png()).await, Ok(Put::New));
    assert_eq!(objects.put(&object("b.png", "image/png", PNG)).await, Ok(Put::New));
    assert_eq!(objects.put(&png()).await, Ok(Put::Existing));
    let lines = server.lines();
    let puts = |key: &str| lines.iter().filter(|line| line.starts_with("PUT") && line.ends_with(key)).count();
    assert_eq!((puts("4f1c.png"), puts("b.png")), (2, 1), "it is told once: {lines:?}");
}

#[tokio::test]
async fn a_refused_key_says_which_setting_is_wrong() {
    let server = Server::start();
    let wrong_secret = BucketSettings { secret_key: Secret::from("guessed"), ..bucket(&server) };
    let (reason, _) = unavailable(open(Place::Bucket(wrong_secret)).put(&png()).await);
    assert!(reason.contains("s3://images/shop: PUT shop/images/4f/4f1c.png: 403 SignatureDoesNotMatch"), "{reason}");
    assert!(reason.contains("objects.secret_key") && !reason.contains("guessed"), "{reason}");

    let stranger = BucketSettings { access_key: Secret::from("AKSTRANGER"), ..bucket(&server) };
    let objects = open(Place::Bucket(stranger));
    let (reason, _) = unavailable(objects.put(&png()).await);
    assert!(reason.contains("objects.access_key") && !reason.contains("AKSTRANGER"), "{reason}");
    assert_eq!(failures(&objects), 1);
    assert_eq!(server.stored("shop/images/4f/4f1c.png"), None);

    let read_only = Refusal { verb: "PUT", status: 403, code: "AccessDenied", retry_after: None, times: 1 };
    server.refuse(read_only);
    let (reason, _) = unavailable(open(Place::Bucket(bucket(&server))).put(&png()).await);
    assert!(reason.contains("403 AccessDenied") && reason.contains("let the key write"), "{reason}");
}

#[tokio::test]
async fn a_key_that_may_not_list_can_still_put() {
    let server = Server::start();
    // So S3 answers a HEAD of what is not there when the key may not list.
    server.refuse(Refusal { verb: "HEAD", status: 403, code: "AccessDenied", retry_after: None, times: 2 });
    let objects = open(Place::Bucket(bucket(&server)));
    assert_eq!(objects.put(&png()).await, Ok(Put::New));
    assert_eq!(objects.put(&png()).await, Ok(Put::Existing));
}

#[tokio::test]
async fn a_missing_bucket_is_told() {
    let server = Server::start();
    let objects = open(Place::Bucket(BucketSettings { bucket: "imagse".to_owned(), ..bucket(&server) }));
    let (reason, _) = unavailable(objects.put(&png()).await);
    assert!(reason.contains("404 NoSuchBucket") && reason.contains("objects.url"), "{reason}");
    assert!(unavailable(objects.probe().await).0.contains("404 NoSuchBucket"));
}

#[tokio::test]
async fn a_busy_store_is_left_alone_for_as_long_as_it_says() {
    let server = Server::start();
    let objects = open(Place::Bucket(bucket(&server)));
    server.refuse(Refusal { verb: "HEAD", status: 503, code: "SlowDown", retry_after: None, times: 1 });
    server.refuse(Refusal { verb: "PUT", status: 503, code: "SlowDown", retry_after: Some("7"), times: 1 });
    server.refuse(Refusal { verb: "PUT", status: 429, code: "TooManyRequests", retry_after: Some("9"), times: 1 });
    // A HEAD has no body, so its 503 may as well be an outage.
    unavailable(objects.put(&png()).await);
    let (reason, retry_in) = unavailable(objects.put(&png()).await);
    assert!(reason.contains("503 SlowDown") && retry_in == Duration::from_secs(7), "{reason} {retry_in:?}");
    assert_eq!(unavailable(objects.put(&png()).await).1, Duration::from_secs(9));
    assert_eq!(objects.put(&png()).await, Ok(Put::New), "and well again");
    assert_eq!((failures(&objects), objects.breaker().state()), (1, BreakerState::Closed));
}

#[tokio::test]
async fn a_full_store_is_an_outage_and_a_file_it_does_not_take_is_not() {
    let server = Server::start();
    let objects = open(Place::Bucket(bucket(&server)));
    server.refuse(Refusal { verb: "PUT", status: 403, code: "QuotaExceeded", retry_after: None, times: 1 });
    let (reason, _) = unavailable(objects.put(&png()).await);
    assert!(reason.contains("QuotaExceeded") && reason.contains("raise the quota"), "{reason}");
    assert_eq!(failures(&objects), 1);

    server.refuse(Refusal { verb: "PUT", status: 400, code: "EntityTooLarge", retry_after: None, times: 1 });
    assert!(failed(objects.put(&png()).await).contains("400 EntityTooLarge"));
    let large = Objects::open(&Settings { put_max: 8, ..settings(Place::Bucket(bucket(&server))) }).unwrap();
    let asked = server.lines().len();
    assert!(failed(large.put(&png()).await).contains("over the cap of 8 (objects.put_max)"));
    assert!(failed(large.put(&object("../x", "image/png", b"")).await).contains("begins with a dot"));
    assert!(failed(large.put(&object("x", "image/png\r\nx-amz-acl: y", b"")).await).contains("no content type"));
    assert_eq!((server.lines().len(), failures(&large)), (asked, 0), "nothing is sent");
}

#[tokio::test]
async fn an_outage_opens_the_breaker_and_ends_with_it() {
    let mut server = Server::start();
    let objects = open(Place::Bucket(bucket(&server)));
    server.stop();
    for _ in 0..2 {
        let (reason, _) = unavailable(objects.put(&png()).await);
        assert!(reason.contains("no usable answer: ") && reason.contains("refused"), "{reason}");
    }
    let breaker = objects.breaker();
    assert_eq!((breaker.name(), breaker.status().counts.opened), ("objects", 1));
    server.resume();
    breaker.ready().await;
    assert_eq!(objects.put(&png()).await, Ok(Put::New));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test]
async fn while_the_breaker_is_open_nothing_is_sent() {
    let server = Server::start();
    let hour = Duration::from_secs(3600);
    let breaker = BreakerPolicy { failures: 1, open_for: hour, open_max: hour, half_open_max: 1 };
    let objects = Objects::open(&Settings { breaker, ..settings(Place::Bucket(bucket(&server))) }).unwrap();
    server.refuse(Refusal { verb: "HEAD", status: 500, code: "InternalError", retry_after: None, times: 9 });
    unavailable(objects.put(&png()).await);
    let (_, retry_in) = unavailable(objects.put(&png()).await);
    assert!(retry_in > Duration::from_secs(3000), "{retry_in:?}");
    assert_eq!(server.lines().len(), 1);
}

/// A listener that nobody accepts from: connected, and never answered.
#[tokio::test]
async fn a_server_that_hangs_costs_a_deadline_and_ends_with_the_service() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let server = Server::start();
    let place = Place::Bucket(BucketSettings { endpoint, ..bucket(&server) });
    let short = Settings { timeout: Duration::from_millis(100), ..settings(place.clone()) };
    let put = Objects::open(&short).unwrap().put(&png()).await;
    let Err(Fault::Retry { reason, after: None }) = put else { panic!("{put:?}") };
    assert!(reason.contains("not done within 100ms (objects.timeout)"), "{reason}");

    let phases = Phases::default();
    let objects = Objects::open_within(&settings(place), phases.clone(), Events::new(1)).unwrap();
    let (png, stop) = (png(), async { phases.enter(Phase::Stop) });
    let (put, ()) = futures::join!(objects.put(&png), stop);
    assert_eq!(put, Err(Fault::Cancelled));
}

#[tokio::test]
async fn an_answer_that_is_not_of_s3_is_an_outage() {
    let upstream = Upstream::with_body("text/html", "<html>");
    let server = Server::start();
    let objects = open(Place::Bucket(BucketSettings { endpoint: upstream.base_url.clone(), ..bucket(&server) }));
    assert!(unavailable(objects.put(&png()).await).0.contains("no usable answer"));
}

#[tokio::test]
async fn a_folder_keeps_a_file_once() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().join("data/objects");
    let objects = folder(&root);
    assert!(!root.exists(), "opening makes nothing");
    assert_eq!(objects.put(&png()).await, Ok(Put::New));
    let file = root.join("images/4f/4f1c.png");
    let written = std::fs::metadata(&file).unwrap().modified().unwrap();
    assert_eq!(objects.put(&png()).await, Ok(Put::Existing));
    assert_eq!(folder(&root).put(&png()).await, Ok(Put::Existing), "also for the next process");
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), written, "a repeat writes nothing");
    assert_eq!(std::fs::read(&file).unwrap(), PNG);
    assert_eq!(files(&root), [file], "nothing else is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(root.join("images/4f/4f1c.png")).unwrap().permissions().mode();
        assert_eq!(mode & 0o400, 0o400);
        assert_ne!(mode & 0o044, 0, "others may serve it: {mode:o}");
    }
}

/// All files below, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn many_writers_of_one_file_never_tear_it() {
    let root = tempfile::tempdir().unwrap();
    let bytes = vec![7_u8; 300_000];
    let object = Object { bytes: bytes.clone().into(), ..png() };
    let (one, other) = (folder(root.path()), folder(root.path()));
    let puts = (0..32).map(|number| if number % 2 == 0 { one.put(&object) } else { other.put(&object) });
    let puts = futures::future::join_all(puts).await;
    assert_eq!(puts.iter().filter(|put| **put == Ok(Put::New)).count(), 1, "{puts:?}");
    assert!(puts.iter().all(Result::is_ok), "{puts:?}");
    assert_eq!(files(root.path()), [root.path().join("images/4f/4f1c.png")]);
    assert!(std::fs::read(root.path().join("images/4f/4f1c.png")).unwrap() == bytes);
}

#[tokio::test]
async fn what_a_killed_writer_left_is_not_taken_for_the_file() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(".incoming")).unwrap();
    std::fs::write(root.path().join(".incoming/put-4f1c"), &PNG[..4]).unwrap();
    // And a copy that broke off, at the place itself.
    std::fs::create_dir_all(root.path().join("images/4f")).unwrap();
    std::fs::write(root.path().join("images/4f/4f1c.png"), &PNG[..4]).unwrap();
    let objects = folder(root.path());
    assert_eq!(objects.put(&png()).await, Ok(Put::New));
    assert_eq!(std::fs::read(root.path().join("images/4f/4f1c.png")).unwrap(), PNG);
    assert_eq!(objects.put(&png()).await, Ok(Put::Existing));
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_an_outage() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "").unwrap();
    let objects = folder(&root.path().join("file/objects"));
    let (reason, _) = unavailable(objects.put(&png()).await);
    assert!(reason.contains("images/4f/4f1c.png: Not a directory") && reason.contains("move one away"), "{reason}");
    unavailable(objects.probe().await);
    assert_eq!(objects.breaker().status().counts.opened, 1);

    let objects = folder(root.path());
    std::fs::create_dir_all(root.path().join("images/4f/4f1c.png")).unwrap();
    let (reason, _) = unavailable(objects.put(&png()).await);
    assert!(reason.contains("move one away"), "{reason}");
}

#[tokio::test]
async fn a_key_that_leads_out_of_the_folder_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let objects = folder(&root.path().join("objects"));
    for key in ["../outside", "/tmp/outside", "a/../../outside", "a\0b", ".incoming/put-x", ""] {
        let reason = failed(objects.put(&object(key, "image/png", PNG)).await);
        assert!(reason.contains("object key"), "{reason}");
    }
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    assert_eq!(failures(&objects), 0);
}

#[tokio::test]
async fn a_full_disk_is_an_outage_and_leaves_nothing_behind() {
    let Some(disk) = Disk::mount("size=256k") else {
        println!("skipped: mounting a small disk needs the rights of root");
        return;
    };
    let objects = folder(disk.path());
    let large = Object { bytes: vec![7; 1 << 20].into(), ..png() };
    let (reason, _) = unavailable(objects.put(&large).await);
    assert!(reason.contains("No space left on device") && reason.contains("make room"), "{reason}");
    assert_eq!(files(disk.path()), Vec::<PathBuf>::new());
    assert_eq!(failures(&objects), 1);
    let root = disk.path().canonicalize().unwrap();
    let open = || {
        let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter_map(|fd| std::fs::read_link(fd.path()).ok()).filter(|file| file.starts_with(&root)).count()
    };
    assert_eq!(open(), 0, "a file without a name takes room as well");
    let seen = std::fs::File::open(&root).unwrap();
    assert_eq!(open(), 1, "and would be seen");
    drop(seen);
    // Not into what the first try gave up: a process that another test is starting may still hold its file open.
    disk.remount("size=4m");
    assert_eq!(objects.put(&large).await, Ok(Put::New), "the operator has made room");
}

#[tokio::test]
async fn a_folder_that_is_read_only_is_an_outage() {
    let Some(disk) = Disk::mount("size=256k,ro") else {
        println!("skipped: mounting a read-only disk needs the rights of root");
        return;
    };
    let (reason, _) = unavailable(folder(disk.path()).put(&png()).await);
    assert!(reason.contains("Read-only file system") && reason.contains("let the service write"), "{reason}");
}

/// The finding of `longshore check` on the object store.
fn checked(world: &World, code: i32) -> (bool, String) {
    let ended = world.run(&["check", "--json"]);
    let all = format!("{ended}");
    assert!(!all.contains(ACCESS_KEY) && !all.contains(SECRET_KEY), "{all}");
    let findings = ended.expect(code).json()["findings"].clone();
    let finding = findings.as_array().unwrap().iter().find(|finding| finding["what"] == "objects").unwrap().clone();
    (finding["ok"].as_bool().unwrap(), finding["text"].as_str().unwrap().to_owned())
}

#[test]
fn check_says_whether_files_can_be_put() {
    let (ok, text) = checked(&World::new(0), 0);
    assert!(ok && text == "folder objects can be written", "{text}");

    let server = Server::start_r2();
    let world = World::new(0)
        .set("objects.url", &format!("r2://account/{BUCKET}/shop"))
        .set("objects.endpoint", &server.endpoint())
        .set("objects.access_key", ACCESS_KEY)
        .set("log.level", "trace");
    let (ok, text) = checked(&world.set("objects.secret_key", SECRET_KEY), 0);
    assert!(ok && text == "r2://account/images/shop can be written", "{text}");
    assert_eq!(server.lines(), ["PUT /images/shop/longshore-probe.txt"]);

    let world = World::new(0)
        .set("objects.url", &format!("s3://{BUCKET}"))
        .set("objects.endpoint", &server.endpoint())
        .set("objects.access_key", ACCESS_KEY);
    let (ok, text) = checked(&world.set("objects.secret_key", "guessed"), 69);
    assert!(!ok && text.contains("403 SignatureDoesNotMatch") && text.contains("objects.secret_key"), "{text}");
}

#[test]
fn the_keys_are_taken_from_where_people_have_them_and_never_shown() {
    let world = World::new(0).set("objects.url", "s3://images");
    let mut command = world.command(&["config", "show", "--explain"]);
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_REGION", "eu-west-1");
    let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(!shown.contains(ACCESS_KEY) && !shown.contains(SECRET_KEY), "{shown}");
    for line in ["objects.access_key = \"***\"", "objects.secret_key = \"***\"", "objects.region = \"eu-west-1\""] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    let missing = world.run(&["check"]);
    let missing = &missing.expect(78).stdout;
    for key in ["objects.access_key: is missing for s3://images: set AWS_ACCESS_KEY_ID", "objects.region: is missing"] {
        assert!(missing.contains(key), "{key} in {missing}");
    }
}
