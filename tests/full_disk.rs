//! The disk under PostgreSQL is full: an outage, which burns no attempt and is over as soon as there is room.

use crate::support::World;
use crate::support::disk::Disk;
use crate::support::postgres::{Server, hand_over};
use crate::support::rows::Rows;

/// The rows lie on a small disk of their own; the server's log of changes does not, since without that it stops.
#[test]
fn a_sync_waits_for_room_under_the_database_and_goes_on_by_itself() {
    let Some(disk) = Disk::mount("size=16m") else {
        println!("skipped: mounting a small disk needs the rights of root");
        return;
    };
    let server = Server::start(&[]);
    hand_over(disk.path());
    server.psql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display()));
    server.psql("postgres", "CREATE DATABASE small TABLESPACE small");
    let url = server.url("small");
    let world = World::new(20_000).hasty().on(url.clone());

    let sync = world.start(&["--json", "sync", "catalog", "--force"]);
    let full = sync.line("a full disk", |line| line.contains("No space left on device") && line.contains("53100"));
    assert!(!full.contains("\"ERROR\""), "an outage is no failure of the service: {full}");
    let before = server.psql("small", "SELECT count(*) FROM jobs WHERE state = 'failed' OR attempt > 1");
    assert_eq!(before.trim(), "0", "it burns no attempt");

    disk.remount("size=512m");
    let ended = sync.end();
    ended.expect(0);
    assert_eq!(ended.json()["job"]["state"], "completed", "{ended}");
    let rows = Rows::on(&server, &url);
    rows.equal(&world.sandbox.expected());
    assert_eq!(rows.number("SELECT max(attempt) FROM jobs"), 1);
    assert_eq!(rows.number("SELECT count(*) FROM job_attempts WHERE outcome <> 'snoozed'"), 0);
}
