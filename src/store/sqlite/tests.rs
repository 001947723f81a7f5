#![allow(clippy::unwrap_used)]

use std::time::Duration;

use longshore_actors::checkpoint::{Checkpoint, Part};
use longshore_actors::job::{FailCause, OnChildFailed, Outcome, State, UniqueScope};
use longshore_actors::ledger::{Entity, Reject};
use proptest::prelude::*;
use rusqlite::params;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::store::batch::{Cell, Guard, Removal, Rows};
use crate::store::migrations;
use crate::store::table::{Column, ColumnKind, Detail};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

const COUNTRIES: Detail = Detail {
    name: "catalog_bundle_countries",
    key: 1,
    columns: &[
        Column::new("bundle_name", ColumnKind::Text),
        Column::new("role", ColumnKind::Text),
        Column::new("iso", ColumnKind::Text),
        Column::nullable("name", ColumnKind::Text),
        Column::nullable("region", ColumnKind::Text),
    ],
};

static BUNDLES: Table = Table {
    name: "catalog_bundles",
    key: 1,
    columns: &[
        Column::new("name", ColumnKind::Text),
        Column::nullable("description", ColumnKind::Text),
        Column::new("unlimited", ColumnKind::Bool),
        Column::nullable("data_amount_mb", ColumnKind::Int),
        Column::new("duration", ColumnKind::Int),
        Column::new("duration_unit", ColumnKind::Text),
        Column::new("speeds", ColumnKind::Json),
        Column::nullable("autostart", ColumnKind::Bool),
        Column::new("price", ColumnKind::Decimal),
        Column::nullable("currency", ColumnKind::Text),
        Column::nullable("billing_type", ColumnKind::Text),
        Column::nullable("image_url", ColumnKind::Text),
        Column::new("allowances", ColumnKind::Json),
        Column::new("raw", ColumnKind::Json),
    ],
    details: &[COUNTRIES],
    link: false,
};

static MEMBERS: Table = Table {
    name: "catalog_bundle_groups",
    key: 2,
    columns: &[Column::new("group_name", ColumnKind::Text), Column::new("bundle_name", ColumnKind::Text)],
    details: &[],
    link: true,
};

static GROUPS: Table = Table {
    name: "catalog_groups",
    key: 1,
    columns: &[
        Column::new("name", ColumnKind::Text),
        Column::nullable("description", ColumnKind::Text),
        Column::nullable("price_list_url", ColumnKind::Text),
    ],
    details: &[],
    link: false,
};

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn push_bundle(rows: &mut Rows, name: &str, price: i64, countries: &[&str]) {
    let countries =
        countries.iter().map(|iso| vec![text(name), text("base"), text(iso), Cell::Null, Cell::Null]).collect();
    rows.push(
        vec![
            text(name),
            text("a bundle of data for a trip"),
            Cell::Bool(false),
            Cell::Int(1000),
            Cell::Int(7),
            text("day"),
            Cell::Json(r#"["4G","5G"]"#.into()),
            Cell::Bool(true),
            Cell::Decimal(rust_decimal::Decimal::new(price, 2)),
            Cell::Null,
            text("FixedCost"),
            text("https://example.org/image.png"),
            Cell::Json("[]".into()),
            Cell::Json(format!(r#"{{"name":"{name}","groups":["Standard Fixed"],"dataAmount":1000,"duration":7}}"#)),
        ],
        vec![countries],
    );
}

fn page(group: &str, names: &[&str], price: i64) -> Batch {
    let (mut bundles, mut members) = (Rows::new(&BUNDLES), Rows::new(&MEMBERS));
    for name in names {
        push_bundle(&mut bundles, name, price, &["FR", "DE"]);
        members.push(vec![text(group), text(name)], vec![]);
    }
    let seen = names.iter().map(|name| (*name).to_owned()).collect();
    Batch { rows: vec![bundles, members], seen, ..Batch::default() }
}

fn closing(group: &str, missing: u64, guard: Guard) -> Batch {
    let scope = ("group_name", group.to_owned());
    let orphans = Some((&BUNDLES, "name"));
    let removal =
        Removal { table: &MEMBERS, scope, key: "bundle_name", missing, guard, orphans, named_by: None, owned: &[] };
    Batch { removals: vec![removal], ..Batch::default() }
}

const OPEN_GUARD: Guard = Guard { rows: 50, ratio: 0.2, lifted: false };

struct Harness {
    folder: TempDir,
    store: SqliteStore,
}

impl Harness {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("test.db"), Settings::default(), NOW).unwrap();
        Harness { folder, store }
    }

    /// Drops the store and opens the same file again.
    fn reopen(self) -> Self {
        let Harness { folder, store } = self;
        drop(store);
        let store = SqliteStore::open(&folder.path().join("test.db"), Settings::default(), NOW).unwrap();
        Harness { folder, store }
    }

    async fn enqueue(&self, job: NewJob) -> JobId {
        self.store.enqueue(vec![job], NOW).await.unwrap()[0].id()
    }

    async fn claim(&self, max: usize) -> Vec<Job> {
        let claim = Claim {
            domain: "catalog".into(),
            owner: "me".into(),
            max,
            kinds: vec![("catalog.group".into(), max), ("catalog.full".into(), max)],
            now: NOW,
            until: NOW.plus(HOUR),
        };
        self.store.claim(claim).await.unwrap()
    }

    async fn start(&self) -> Lease {
        self.enqueue(job()).await;
        self.claim(1).await[0].lease
    }

    async fn commit(&self, lease: Lease, part: Part, batch: Batch) -> Result<Committed, LedgerError> {
        let received = batch.rows.first().map_or(0, Rows::len) as u64;
        let delivery = Delivery { batch, receipt: Receipt::new(lease, part), received };
        self.deliver(Arc::new(delivery)).await
    }

    async fn deliver(&self, delivery: Arc<Delivery<Batch>>) -> Result<Committed, LedgerError> {
        let mut committed = crate::store::Writer::commit(&mut self.store.clone(), &[delivery], NOW).await?;
        assert_eq!(committed.len(), 1);
        Ok(committed.remove(0))
    }

    async fn record(&self, lease: Lease, outcome: Outcome) {
        self.store.record(Record { lease, outcome, entity: None }, NOW).await.unwrap();
    }

    async fn job(&self, id: JobId) -> JobRecord {
        self.store.jobs(Filter { ids: vec![id], ..Filter::default() }).await.unwrap().remove(0)
    }

    async fn count(&self, sql: &'static str) -> i64 {
        self.store.read(move |conn| Ok(conn.query_row(sql, [], |row| row.get(0))?)).await.unwrap()
    }
}

fn job() -> NewJob {
    NewJob::new("catalog", "catalog.group", json!({"group": "a"}))
}

fn done() -> Outcome {
    Outcome::Completed { note: None }
}

fn failed() -> Outcome {
    Outcome::Failed { cause: FailCause::Permanent, reason: "no".into() }
}

#[test]
fn the_schema_is_as_the_tables_declare() {
    let mut conn = Connection::open_in_memory().unwrap();
    schema::migrate(&mut conn, migrations::SQLITE, NOW).unwrap();
    for table in [&BUNDLES, &MEMBERS, &GROUPS] {
        schema::verify(&conn, table).unwrap();
    }
    static WRONG_TYPE: Table = Table {
        name: "catalog_bundle_groups",
        key: 2,
        columns: &[Column::new("group_name", ColumnKind::Text), Column::new("bundle_name", ColumnKind::Int)],
        details: &[],
        link: false,
    };
    static WRONG_KEY: Table =
        Table { name: "catalog_bundle_groups", key: 1, columns: MEMBERS.columns, details: &[], link: true };
    static MISSING: Table = Table { name: "nothing", key: 1, columns: MEMBERS.columns, details: &[], link: true };
    for wrong in [&WRONG_TYPE, &WRONG_KEY, &MISSING] {
        assert!(schema::verify(&conn, wrong).is_err(), "{}", wrong.name);
    }
}

#[tokio::test]
async fn a_second_open_is_refused_and_names_the_first() {
    let harness = Harness::new();
    let path = harness.folder.path().join("test.db");
    let error = SqliteStore::open(&path, Settings::default(), NOW).unwrap_err();
    assert!(matches!(&error, OpenError::Locked { pid: Some(pid), .. } if *pid == std::process::id()), "{error}");
    assert!(error.to_string().contains("test.db"), "{error}");
    assert!(!error.to_string().contains('\n'));
    harness.store.close().await;
    SqliteStore::open(&path, Settings::default(), NOW).unwrap();
}

#[cfg(unix)]
#[test]
fn a_link_to_the_file_meets_the_same_lock() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("file.db"), folder.path().join("link.db"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for (first, second) in [(&link, &file), (&file, &link)] {
        let _open = SqliteStore::open(first, Settings::default(), NOW).unwrap();
        let error = SqliteStore::open(second, Settings::default(), NOW).unwrap_err();
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    }
}

#[test]
fn bad_files_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.db");
    std::fs::write(&text, "this is a letter and not a database, however long it may be, and it is long").unwrap();
    let error = SqliteStore::open(&text, Settings::default(), NOW).unwrap_err();
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
    let below = text.join("below").join("x.db");
    let error = SqliteStore::open(&below, Settings::default(), NOW).unwrap_err();
    assert!(matches!(error, OpenError::Unwritable { .. }), "{error}");
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn edited_and_newer_schemas_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (change, word) in [
        ("UPDATE migrations SET checksum = 'x' WHERE version = 2", "0002_catalog was changed"),
        ("INSERT INTO migrations VALUES (9999, 'later', 'x', 0)", "newer than this program"),
    ] {
        let path = folder.path().join(format!("{}.db", word.len()));
        drop(SqliteStore::open(&path, Settings::default(), NOW).unwrap());
        assert!(status(&path).unwrap().iter().all(|migration| migration.applied_at == Some(NOW)));
        Connection::open(&path).unwrap().execute(change, []).unwrap();
        let error = SqliteStore::open(&path, Settings::default(), NOW).unwrap_err();
        assert!(matches!(error, OpenError::Schema { .. }));
        assert!(error.to_string().contains(word), "{error}");
        assert!(status(&path).is_err());
    }
}

#[tokio::test]
async fn rows_checkpoint_children_and_rejects_commit_together() {
    let harness = Harness::new();
    let lease = harness.start().await;
    let mut receipt = Receipt::new(lease, Part::Page(0));
    receipt.following = Some(json!({"page": 2}));
    receipt.total = Some(3);
    receipt.children = vec![job()];
    receipt.rejects = vec![Reject { key: Some("bad".into()), reason: "no price".into(), raw: "{}".into() }];
    let delivery = Arc::new(Delivery { batch: page("a", &["x", "y"], 100), receipt, received: 3 });
    let preview = harness.store.preview(delivery.clone()).await.unwrap();
    let committed = harness.deliver(delivery.clone()).await.unwrap();
    let expected = Counts { received: 3, inserted: 2, rejected: 1, ..Counts::default() };
    assert_eq!(committed.counts, expected);
    assert_eq!(preview.counts, expected);
    let again = harness.deliver(delivery).await.unwrap();
    assert_eq!(again, Committed::default(), "told twice, it counts once");

    let record = harness.job(lease.job).await;
    assert_eq!((record.checkpoint.prefix, record.checkpoint.total), (1, Some(3)));
    assert_eq!(record.checkpoint.resume, Some(json!({"page": 2})));
    assert_eq!((record.counts, record.children.open), (expected, 1));
    assert_eq!(harness.store.rejects(Some("catalog"), 9).await.unwrap().len(), 1);
    assert_eq!(harness.store.rejects(Some("other"), 9).await.unwrap().len(), 0);
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 2);
}

#[tokio::test]
async fn a_commit_that_fails_half_way_leaves_nothing() {
    let harness = Harness::new();
    let lease = harness.start().await;
    // The second detail breaks a constraint, after rows have been written.
    let mut bundles = Rows::new(&BUNDLES);
    push_bundle(&mut bundles, "good", 1, &["FR"]);
    push_bundle(&mut bundles, "bad", 1, &[]);
    bundles.rows[1].details[0].push(vec![text("bad"), text("no such role"), text("FR"), Cell::Null, Cell::Null]);
    let batch = Batch { rows: vec![bundles], ..Batch::default() };
    let error = harness.commit(lease, Part::Page(0), batch).await.unwrap_err();
    assert!(matches!(error, LedgerError::Broken(_)), "{error}");
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 0);
    assert_eq!(harness.job(lease.job).await.checkpoint, Default::default());
    harness.commit(lease, Part::Page(0), page("a", &["good"], 1)).await.unwrap();
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 1);
}

/// Pages that are told at once stand or fall together.
#[tokio::test]
async fn pages_that_come_together_are_one_transaction() {
    let harness = Harness::new();
    let lease = harness.start().await;
    let delivery = |number, bundle: &str, group: &str| {
        let receipt = Receipt::new(lease, Part::Page(number));
        Arc::new(Delivery { batch: page(group, &[bundle], 1), receipt, received: 1 })
    };
    let mut broken = Rows::new(&BUNDLES);
    push_bundle(&mut broken, "bad", 1, &[]);
    broken.rows[0].details[0].push(vec![text("bad"), text("no such role"), text("FR"), Cell::Null, Cell::Null]);
    let broken = Batch { rows: vec![broken], ..Batch::default() };
    let broken = Arc::new(Delivery { batch: broken, receipt: Receipt::new(lease, Part::Page(1)), received: 1 });
    let commit = async |deliveries: &[Arc<Delivery<Batch>>]| {
        crate::store::Writer::commit(&mut harness.store.clone(), deliveries, NOW).await
    };
    let error = commit(&[delivery(0, "x", "a"), broken]).await.unwrap_err();
    assert!(matches!(error, LedgerError::Broken(_)), "{error}");
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 0);
    let committed = commit(&[delivery(0, "x", "a"), delivery(1, "y", "a")]).await.unwrap();
    assert_eq!(committed.iter().map(|committed| committed.counts.inserted).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(harness.job(lease.job).await.checkpoint.prefix, 2);
}

/// A stale lease writes nothing, and is counted.
#[tokio::test]
async fn a_stale_write_is_refused_and_counted() {
    let harness = Harness::new();
    let lease = harness.start().await;
    let rescue = Rescue::Domain { domain: "catalog".into(), but: "the next".into() };
    assert_eq!(harness.store.rescue(rescue).await.unwrap(), 1);
    let error = harness.commit(lease, Part::Page(0), page("a", &["x"], 1)).await.unwrap_err();
    assert_eq!(error, LedgerError::Stale(lease));
    let next = harness.claim(1).await.remove(0);
    assert_eq!((next.id, next.attempt), (lease.job, 1));
    assert!(harness.commit(lease, Part::Page(0), page("a", &["x"], 1)).await.is_err());
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 0);
    assert_eq!(harness.store.stats().await.unwrap().stale_writes, 2);
    assert_eq!(harness.job(lease.job).await.history[0].outcome, "rescued");
}

/// Group commit: one of a group fails or panics after it has written; the others stand, and it leaves no trace.
#[tokio::test]
async fn a_failure_in_a_group_harms_nobody_else() {
    let harness = Harness::new();
    // Holds the writer until the whole group waits.
    let (held, hold) = std::sync::mpsc::channel::<()>();
    let hold = Mutex::new(hold);
    let started = Arc::new(tokio::sync::Notify::new());
    let first = tokio::spawn({
        let (store, started) = (harness.store.clone(), started.clone());
        let work = move |_: &mut Tx<'_>| {
            started.notify_one();
            Ok(hold.lock().unwrap().recv().ok())
        };
        async move { store.write(work).await }
    });
    started.notified().await;
    let insert = |tx: &mut Tx<'_>, key: &str| tx.execute("INSERT INTO meta (key, value) VALUES (?1, '')", [key]);
    let mut group = Vec::new();
    for number in 0..20 {
        let store = harness.store.clone();
        group.push(tokio::spawn(async move {
            store
                .write(move |tx| {
                    insert(tx, &format!("key {number}"))?;
                    match number {
                        5 => Err(LedgerError::Refused("changed its mind".into()).into()),
                        9 => panic!("a bug"),
                        13 => insert(tx, "key 1").map(drop),
                        _ => Ok(()),
                    }
                })
                .await
        }));
    }
    while harness.store.shared.queue.as_ref().unwrap().capacity() > Settings::default().queue_max - 20 {
        tokio::task::yield_now().await;
    }
    held.send(()).unwrap();
    first.await.unwrap().unwrap();
    for (number, member) in group.into_iter().enumerate() {
        let answer = member.await.unwrap();
        match number {
            5 => assert_eq!(answer, Err(LedgerError::Refused("changed its mind".into()))),
            9 => assert!(matches!(&answer, Err(LedgerError::Broken(why)) if why.contains("a bug")), "{answer:?}"),
            13 => assert!(matches!(&answer, Err(LedgerError::Broken(_))), "{answer:?}"),
            _ => assert_eq!(answer, Ok(()), "{number}"),
        }
    }
    assert_eq!(harness.count("SELECT count(*) FROM meta WHERE key LIKE 'key %'").await, 17);
    // The writer lives on.
    harness.store.probe(NOW).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_an_outage_and_ends_with_it() {
    let harness = Harness::new();
    let pages = |pages: i64| {
        harness.store.write(move |tx| {
            // Answers the limit in force, which is never below the present size.
            Ok(tx.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))?)
        })
    };
    pages(1).await.unwrap();
    let large = || NewJob::new("catalog", "catalog.group", json!("x".repeat(100_000)));
    let error = harness.store.enqueue(vec![large()], NOW).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unavailable(_)), "{error}");
    assert_eq!(harness.store.stats().await.unwrap().total(State::Waiting), 0);
    pages(1_000_000).await.unwrap();
    harness.enqueue(large()).await;
    assert_eq!(harness.claim(9).await.len(), 1);
}

#[tokio::test]
async fn only_what_differs_is_written_and_details_are_replaced() {
    let harness = Harness::new();
    let lease = harness.start().await;
    harness.commit(lease, Part::Page(0), page("a", &["x", "y"], 100)).await.unwrap();
    let same = harness.commit(lease, Part::Page(1), page("a", &["x", "y"], 100)).await.unwrap();
    assert_eq!((same.counts.unchanged, same.counts.inserted, same.counts.updated), (2, 0, 0));

    let mut bundles = Rows::new(&BUNDLES);
    push_bundle(&mut bundles, "x", 100, &["JP"]);
    let batch = Batch { rows: vec![bundles], ..Batch::default() };
    let changed = harness.commit(lease, Part::Page(2), batch).await.unwrap();
    assert_eq!((changed.counts.updated, changed.counts.inserted), (1, 0));
    assert_eq!(harness.count("SELECT count(*) FROM catalog_bundle_countries WHERE bundle_name = 'x'").await, 1);
    assert_eq!(harness.count("SELECT count(*) FROM catalog_bundle_countries WHERE bundle_name = 'y'").await, 2);
    assert_eq!(harness.count("SELECT count(*) FROM catalog_bundles WHERE price = '1.00'").await, 2);
}

#[tokio::test]
async fn what_vanished_from_a_complete_snapshot_is_marked_and_comes_back() {
    let harness = Harness::new();
    let first = harness.start().await;
    harness.commit(first, Part::Page(0), page("a", &["x", "y", "z"], 1)).await.unwrap();
    harness.commit(first, Part::Page(1), page("b", &["y"], 1)).await.unwrap();
    harness.record(first, done()).await;

    let second = harness.start().await;
    harness.commit(second, Part::Page(0), page("a", &["x"], 1)).await.unwrap();
    let closed = harness.commit(second, Part::Closing, closing("a", 0, OPEN_GUARD)).await.unwrap();
    // Two memberships, which are not counted, and the one bundle that no group holds any more: y is still in b.
    assert_eq!(closed.counts.removed, 1);
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 2);
    assert_eq!(harness.count("SELECT removed_at IS NOT NULL FROM catalog_bundles WHERE name = 'z'").await, 1);
    assert_eq!(harness.count("SELECT count(*) FROM snapshot_keys").await, 0);

    let third = harness.claim(1).await.first().map(|job| job.lease);
    assert!(third.is_none());
    let third = harness.start().await;
    let back = harness.commit(third, Part::Page(0), page("a", &["x", "z"], 1)).await.unwrap();
    assert_eq!((back.counts.updated, back.counts.unchanged), (1, 1));
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 3);
}

#[tokio::test]
async fn records_without_a_readable_key_may_be_those_that_seem_gone() {
    let harness = Harness::new();
    let lease = harness.start().await;
    harness.commit(lease, Part::Page(0), page("a", &["x", "y", "z"], 1)).await.unwrap();
    harness.record(lease, done()).await;

    let lease = harness.start().await;
    let reject = || Reject { key: None, reason: "no name".into(), raw: "{}".into() };
    let receipt = Receipt { rejects: vec![reject(), reject()], ..Receipt::new(lease, Part::Page(0)) };
    let delivery = Arc::new(Delivery { batch: page("a", &["x"], 1), receipt, received: 3 });
    harness.deliver(delivery).await.unwrap();
    let closed = harness.commit(lease, Part::Closing, closing("a", 0, OPEN_GUARD)).await.unwrap();
    assert!(closed.note.unwrap().contains("2 records came without a readable key"));
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 3);
}

#[tokio::test]
async fn an_incomplete_snapshot_removes_nothing_and_says_so() {
    let harness = Harness::new();
    let lease = harness.start().await;
    harness.commit(lease, Part::Page(0), page("a", &["x", "y"], 1)).await.unwrap();
    harness.record(lease, done()).await;
    let lease = harness.start().await;
    harness.commit(lease, Part::Page(0), page("a", &["x"], 1)).await.unwrap();
    let closed = harness.commit(lease, Part::Closing, closing("a", 1, OPEN_GUARD)).await.unwrap();
    assert!(closed.note.unwrap().contains("1 records were not received"));
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 2);
    assert!(harness.job(lease.job).await.checkpoint.closed);
}

#[tokio::test]
async fn the_guard_stops_a_large_removal_and_nothing_is_harmed() {
    let harness = Harness::new();
    let names: Vec<String> = (0..200).map(|number| format!("bundle {number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lease = harness.start().await;
    harness.commit(lease, Part::Page(0), page("a", &names, 1)).await.unwrap();
    harness.record(lease, done()).await;

    let lease = harness.start().await;
    harness.commit(lease, Part::Page(0), page("a", &names[..100], 1)).await.unwrap();
    let error = harness.commit(lease, Part::Closing, closing("a", 0, OPEN_GUARD)).await.unwrap_err();
    assert!(matches!(&error, LedgerError::Guard(why) if why.contains("100 of 200")), "{error}");
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 200);
    assert!(!harness.job(lease.job).await.checkpoint.closed);

    // The job fails and is told to go on, over a restart: what its snapshot had shown is still there.
    harness.record(lease, failed()).await;
    let harness = harness.reopen();
    harness.store.change(lease.job, Change::Retry, NOW).await.unwrap();
    let lease = harness.claim(1).await.remove(0).lease;
    let lifted = Guard { lifted: true, ..OPEN_GUARD };
    let closed = harness.commit(lease, Part::Closing, closing("a", 0, lifted)).await.unwrap();
    assert_eq!(closed.counts.removed, 100);
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 100);
}

/// A page that is a whole snapshot: bundles that vanish go with their membership, then what else is left of them.
fn whole(names: &[&str], guard: Guard) -> Batch {
    static OWNED: [(&Table, &str); 1] = [(&BUNDLES, "name")];
    let scope = ("group_name", "a".to_owned());
    let key = "bundle_name";
    let members =
        Removal { table: &MEMBERS, scope, key, missing: 0, guard, orphans: None, named_by: None, owned: &OWNED };
    let scope = ("description", "a bundle of data for a trip".to_owned());
    let bundles =
        Removal { table: &BUNDLES, scope, key: "name", missing: 0, guard, orphans: None, named_by: None, owned: &[] };
    Batch { removals: vec![members, bundles], ..page("a", names, 1) }
}

#[tokio::test]
async fn a_page_stands_or_falls_with_its_own_removals() {
    let harness = Harness::new();
    let first = harness.start().await;
    harness.commit(first, Part::Page(0), page("a", &["v", "w", "x", "y", "z"], 1)).await.unwrap();
    harness.commit(first, Part::Page(1), page("b", &["loose"], 1)).await.unwrap();
    harness.record(first, done()).await;
    let rows = "SELECT (SELECT count(*) FROM catalog_bundles) + (SELECT count(*) FROM snapshot_keys)
                       + (SELECT count(*) FROM rejected_records)";
    let before = harness.count(rows).await;

    let lease = harness.start().await;
    let guard = Guard { rows: 2, ratio: 0.2, lifted: false };
    let tell = async |names: &[&str], guard, nameless| {
        let reject = || Reject { key: None, reason: "no name".into(), raw: "{}".into() };
        let rejects = (0..nameless).map(|_| reject()).collect();
        let receipt = Receipt { rejects, ..Receipt::new(lease, Part::Page(0)) };
        let delivery = Arc::new(Delivery { batch: whole(names, guard), receipt, received: 3 });
        let preview = harness.store.preview(delivery.clone()).await;
        let committed = harness.deliver(delivery).await;
        assert_eq!(preview, committed, "the preview tells the truth");
        committed
    };
    let refused = tell(&["new", "v", "w"], guard, 1).await.unwrap_err();
    assert!(matches!(&refused, LedgerError::Guard(why) if why.starts_with("3 of 6 rows of catalog_bundle_groups")));
    assert_eq!(harness.count(rows).await, before, "nothing of the page is left behind");
    assert_eq!(harness.job(lease.job).await.checkpoint, Checkpoint::default());

    // Three bundles of the group with their membership, and the one that no page shows.
    let lifted = Guard { lifted: true, ..guard };
    let committed = tell(&["new", "v", "w"], lifted, 1).await.unwrap();
    assert_eq!((committed.counts.inserted, committed.counts.removed, committed.note), (1, 4, None));
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 3);
    assert_eq!(harness.job(lease.job).await.checkpoint.prefix, 1);
}

#[tokio::test]
async fn a_page_whose_own_rejects_may_be_what_is_gone_removes_nothing() {
    let harness = Harness::new();
    let lease = harness.start().await;
    harness.commit(lease, Part::Page(0), page("a", &["x", "y"], 1)).await.unwrap();
    harness.record(lease, done()).await;
    let lease = harness.start().await;
    let reject = Reject { key: None, reason: "no name".into(), raw: "{}".into() };
    let receipt = Receipt { rejects: vec![reject], ..Receipt::new(lease, Part::Page(0)) };
    let delivery = Arc::new(Delivery { batch: whole(&["x"], OPEN_GUARD), receipt, received: 2 });
    let preview = harness.store.preview(delivery.clone()).await.unwrap();
    let committed = harness.deliver(delivery).await.unwrap();
    assert_eq!(preview, committed);
    assert!(committed.note.unwrap().contains("1 records came without a readable key"));
    assert_eq!(harness.store.count_rows(&BUNDLES).await.unwrap(), 2);
}

#[tokio::test]
async fn close_and_reopen_keep_everything_and_give_active_jobs_back() {
    let harness = Harness::new();
    let parent = harness.enqueue(NewJob::new("catalog", "catalog.full", json!({}))).await;
    let lease = harness.claim(1).await.remove(0).lease;
    let mut receipt = Receipt::new(lease, Part::Plan);
    receipt.children = vec![job(), job(), job()];
    Ledger::commit(&harness.store, receipt, Counts::default(), NOW).await.unwrap();
    harness.record(lease, done()).await;
    let mut children = harness.claim(2).await;
    harness.record(children.remove(0).lease, Outcome::Retry { at: NOW.plus(HOUR), reason: "later".into() }).await;
    let stats = harness.store.stats().await.unwrap();
    assert_eq!([State::Active, State::Delayed, State::Waiting].map(|state| stats.total(state)), [2, 1, 1]);

    let harness = harness.reopen();
    let stats = harness.store.stats().await.unwrap();
    // The parent has no owner: it waits for its children and is not given back.
    assert_eq!([State::Active, State::Delayed, State::Waiting].map(|state| stats.total(state)), [1, 1, 2]);
    assert_eq!(harness.job(parent).await.children.open, 3);
    let again = harness.claim(9).await;
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|job| job.attempt == 1 && job.parent == Some(parent)));
    for job in again {
        harness.record(job.lease, done()).await;
    }
    assert_eq!(harness.store.release(NOW.plus(HOUR)).await.unwrap().count, 1);
    let last = harness.claim(9).await.remove(0);
    assert_eq!(last.attempt, 2);
    harness.record(last.lease, failed()).await;
    let record = harness.job(parent).await;
    assert_eq!((record.state, record.children.completed, record.children.failed), (State::Completed, 2, 1));
    harness.store.close().await;
    assert!(matches!(harness.store.probe(NOW).await, Err(LedgerError::Unavailable(_))));
    assert!(matches!(harness.store.jobs(Filter::default()).await, Err(LedgerError::Unavailable(_))));
    harness.store.close().await;
}

#[tokio::test]
async fn numbers_are_not_handed_out_twice_after_a_prune() {
    let harness = Harness::new();
    let lease = harness.start().await;
    harness.record(lease, done()).await;
    let all = Retention {
        completed_for: Duration::ZERO,
        completed_max: 0,
        failed_for: Duration::ZERO,
        failed_max: 0,
        bytes_max: 0,
        batch: 10,
    };
    assert_eq!(harness.store.prune(all, NOW).await.unwrap(), Pruned { jobs: 1, more: false });
    let harness = harness.reopen();
    assert!(harness.enqueue(job()).await > lease.job);
}

#[tokio::test]
async fn bytes_bound_what_is_kept() {
    let harness = Harness::new();
    for _ in 0..10 {
        harness.enqueue(NewJob::new("catalog", "catalog.group", json!("x".repeat(998)))).await;
    }
    for job in harness.claim(10).await {
        harness.record(job.lease, done()).await;
    }
    let retention = Retention {
        completed_for: HOUR,
        completed_max: 100,
        failed_for: HOUR,
        failed_max: 100,
        bytes_max: 5500,
        batch: 3,
    };
    assert_eq!(harness.store.prune(retention, NOW).await.unwrap(), Pruned { jobs: 3, more: true });
    assert_eq!(harness.store.prune(retention, NOW).await.unwrap(), Pruned { jobs: 2, more: false });
    assert_eq!(harness.store.stats().await.unwrap().total(State::Completed), 5);
    let harness = harness.reopen();
    assert_eq!(harness.store.prune(retention, NOW).await.unwrap().jobs, 0);
}

#[tokio::test]
async fn a_fire_happens_once_and_a_quota_is_per_day() {
    let harness = Harness::new();
    let store = &harness.store;
    let fired = store.fire("nightly", NOW, job(), NOW).await.unwrap();
    assert!(matches!(fired, Some(Enqueued::New(_))));
    assert_eq!(store.fire("nightly", NOW, job(), NOW).await.unwrap(), None);
    assert_eq!(store.last_fire("nightly").await.unwrap(), Some(NOW));
    assert_eq!(store.last_fire("weekly").await.unwrap(), None);
    assert_eq!(store.stats().await.unwrap().total(State::Waiting), 1);

    assert!(store.take_quota("esim", 6, 10, NOW).await.unwrap());
    assert!(!store.take_quota("esim", 5, 10, NOW).await.unwrap());
    assert!(store.take_quota("esim", 4, 10, NOW).await.unwrap());
    assert!(store.take_quota("esim", 5, 10, NOW.plus(24 * HOUR)).await.unwrap());
}

#[tokio::test]
async fn sync_state_tells_the_last_success_and_the_last_error() {
    let harness = Harness::new();
    let entity = Some(Entity { provider: "esim".into(), entity: "bundles".into() });
    let lease = harness.start().await;
    harness.commit(lease, Part::Page(0), page("a", &["x"], 1)).await.unwrap();
    harness.store.record(Record { lease, outcome: done(), entity: entity.clone() }, NOW).await.unwrap();
    let lease = harness.start().await;
    harness.store.record(Record { lease, outcome: failed(), entity }, NOW.plus(HOUR)).await.unwrap();
    let state = harness.store.sync_state("esim", "bundles").await.unwrap().unwrap();
    assert_eq!((state.last_success_at, state.last_error_at), (Some(NOW), Some(NOW.plus(HOUR))));
    assert_eq!((state.counts.inserted, state.last_error.as_deref()), (1, Some("no")));
    assert_eq!(harness.store.sync_states().await.unwrap(), [state]);
    assert_eq!(harness.store.sync_state("esim", "other").await.unwrap(), None);
}

#[tokio::test]
async fn cancelling_a_parent_cancels_its_descendants() {
    let harness = Harness::new();
    let parent = harness.start().await;
    let mut receipt = Receipt::new(parent, Part::Plan);
    receipt.children = vec![job(), job()];
    Ledger::commit(&harness.store, receipt, Counts::default(), NOW).await.unwrap();
    harness.record(parent, done()).await;
    let child = harness.claim(1).await.remove(0);
    harness.store.change(parent.job, Change::Cancel { reason: "enough".into() }, NOW).await.unwrap();
    let record = harness.job(parent.job).await;
    assert_eq!((record.state, record.children.cancelled), (State::Cancelled, 2));
    assert_eq!(harness.store.stats().await.unwrap().total(State::Cancelled), 3);
    harness.store.wake("catalog").revoked().await;
    assert_eq!(harness.store.renew(vec![child.lease], NOW).await.unwrap(), [child.lease]);
    let again = harness.store.change(parent.job, Change::Cancel { reason: "enough".into() }, NOW).await;
    assert!(matches!(again, Err(LedgerError::Refused(_))));
}

#[tokio::test]
async fn a_retry_is_refused_while_another_job_holds_its_key() {
    let harness = Harness::new();
    let keyed = || job().unique("group a", UniqueScope::UntilCompleted);
    harness.enqueue(keyed()).await;
    let lease = harness.claim(1).await.remove(0).lease;
    harness.record(lease, failed()).await;
    let second = harness.enqueue(keyed()).await;
    assert_ne!(second, lease.job);
    let refused = harness.store.change(lease.job, Change::Retry, NOW).await.unwrap_err();
    assert!(matches!(&refused, LedgerError::Refused(why) if why.contains(&format!("job {second} "))), "{refused}");
    harness.record(harness.claim(1).await.remove(0).lease, done()).await;
    harness.store.change(lease.job, Change::Retry, NOW).await.unwrap();
    assert_eq!(harness.enqueue(keyed()).await, lease.job, "it holds its key again");
}

#[tokio::test]
async fn damaged_params_do_not_stop_the_others() {
    let harness = Harness::new();
    let (broken, good) = (harness.enqueue(job()).await, harness.enqueue(job()).await);
    let spoil = move |tx: &mut Tx<'_>| tx.execute("UPDATE jobs SET params = '{oops' WHERE id = ?1", params![broken.0]);
    harness.store.write(spoil).await.unwrap();
    let claimed = harness.claim(9).await;
    assert_eq!(claimed.iter().map(|job| job.id).collect::<Vec<_>>(), [broken, good]);
    assert_eq!(claimed[0].params, json!("{oops"));
}

/// Each question of the hot path is answered by its index alone.
#[tokio::test]
async fn no_question_of_the_hot_path_scans_the_jobs() {
    let harness = Harness::new();
    let plan = |sql: String| {
        harness.store.read(move |conn| {
            let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            // Its parameters stay unbound: the plan does not depend on them.
            let mut rows = statement.raw_query();
            let mut lines = Vec::new();
            while let Some(row) = rows.next()? {
                lines.push(row.get::<_, String>(3)?);
            }
            drop(rows);
            Ok(lines)
        })
    };
    let questions = [claim::READY.into(), claim::RELEASE.into(), claim::NEXT_DUE.into(), claim::RENEW.into()]
        .into_iter()
        .chain([prune::OLDEST.into(), enqueue::HOLDER.into(), change::CHILDREN.into(), tally::LOAD.into()])
        .chain([claim::GIVE_BACK.replace("CONDITION", "domain = ?1 AND owner <> ?2")]);
    for sql in questions {
        for line in plan(sql.clone()).await.unwrap() {
            let scans = line.contains("SCAN jobs") && !line.contains("USING");
            assert!(!scans, "{line}\n{sql}");
            // To count a million jobs at open, their rows are not read, nor sorted.
            let reads = line.contains(" jobs") && !line.contains("COVERING") || line.contains("TEMP B-TREE");
            assert!(sql != tally::LOAD || !reads, "{line}\n{sql}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enqueue { delayed: bool, unique: Option<u8>, child: bool },
    Claim(usize),
    Record(u8),
    Release,
    Cancel(u8),
    Retry(u8),
    Rescue,
    Prune,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), proptest::option::of(0u8..3), any::<bool>())
            .prop_map(|(delayed, unique, child)| Step::Enqueue { delayed, unique, child }),
        3 => (1usize..4).prop_map(Step::Claim),
        4 => any::<u8>().prop_map(Step::Record),
        1 => Just(Step::Release),
        1 => any::<u8>().prop_map(Step::Cancel),
        1 => any::<u8>().prop_map(Step::Retry),
        1 => Just(Step::Rescue),
        1 => Just(Step::Prune),
        1 => Just(Step::Reopen),
    ]
}

/// Runs the steps and answers the differences between what is kept in memory and what the table says.
async fn drift(steps: Vec<Step>) -> Vec<String> {
    let mut harness = Harness::new();
    let mut leases: Vec<Lease> = Vec::new();
    for step in steps {
        match step {
            Step::Enqueue { delayed, unique, child } => {
                let mut new = job();
                new.run_at = delayed.then(|| NOW.plus(HOUR));
                if let Some(key) = unique {
                    let scopes =
                        [UniqueScope::UntilStarted, UniqueScope::UntilCompleted, UniqueScope::For(Duration::ZERO)];
                    new = new.unique(format!("key {key}"), scopes[usize::from(key)]);
                }
                new.on_child_failed = if delayed { OnChildFailed::Fail } else { OnChildFailed::Ignore };
                new.parent = if child { leases.last().map(|lease| lease.job) } else { None };
                // The parent may have been pruned.
                let _ = harness.store.enqueue(vec![new], NOW).await;
            }
            Step::Claim(max) => leases.extend(harness.claim(max).await.into_iter().map(|job| job.lease)),
            Step::Record(which) => {
                if !leases.is_empty() {
                    let lease = leases.remove(usize::from(which) % leases.len());
                    let until = NOW.plus(HOUR);
                    let outcome = match which % 5 {
                        0 | 1 => done(),
                        2 => failed(),
                        3 => Outcome::Retry { at: until, reason: "r".into() },
                        _ => Outcome::Interrupted,
                    };
                    let _ = harness.store.record(Record { lease, outcome, entity: None }, NOW).await;
                }
            }
            Step::Release => drop(harness.store.release(NOW.plus(HOUR)).await.unwrap()),
            Step::Cancel(id) => {
                let change = Change::Cancel { reason: "c".into() };
                let _ = harness.store.change(JobId(i64::from(id % 16)), change, NOW).await;
            }
            Step::Retry(id) => {
                let _ = harness.store.change(JobId(i64::from(id % 16)), Change::Retry, NOW).await;
            }
            Step::Rescue => {
                harness.store.rescue(Rescue::Lapsed { now: NOW.plus(2 * HOUR) }).await.unwrap();
            }
            Step::Prune => {
                let retention = Retention {
                    completed_for: HOUR,
                    completed_max: 1,
                    failed_for: HOUR,
                    failed_max: 2,
                    bytes_max: 40,
                    batch: 2,
                };
                harness.store.prune(retention, NOW).await.unwrap();
            }
            Step::Reopen => harness = harness.reopen(),
        }
    }
    let counted = harness.store.read(|conn| Ok(tally::load(conn, &mut Names::default())?)).await.unwrap();
    let kept = harness.store.shared.outside.tally.lock().unwrap().clone();
    let mut drift = Vec::new();
    if counted != kept {
        drift.push(format!("counted {counted:?}, kept {kept:?}"));
    }
    let parents = "SELECT count(*) FROM jobs AS parent WHERE children_open <> (SELECT count(*) FROM jobs AS child
        WHERE child.parent = parent.id AND child.state IN ('waiting', 'delayed', 'active'))";
    let wrong = harness.count(parents).await;
    if wrong > 0 {
        drift.push(format!("{wrong} parents count their open children wrong"));
    }
    let hanging = "SELECT count(*) FROM jobs WHERE state = 'active' AND owner IS NULL AND children_open = 0";
    let wrong = harness.count(hanging).await;
    if wrong > 0 {
        drift.push(format!("{wrong} parents wait for nobody"));
    }
    drift
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happens, the tally equals a count of the table, and parents know their open children.
    #[test]
    fn the_tally_equals_the_table(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        prop_assert_eq!(runtime.block_on(drift(steps)), Vec::<String>::new());
    }
}
