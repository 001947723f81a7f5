//! Rows in PostgreSQL: written, compared, removed and read back, on a real server.

use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use longshore::domains::catalog;
use longshore::store::batch::{Batch, Cell, Guard, Removal, Row, Rows};
use longshore::store::migrations::POSTGRES;
use longshore::store::postgres::error::{OpError, OpResult};
use longshore::store::postgres::removal::{self, Removed};
use longshore::store::postgres::rows::{self, Expected};
use longshore::store::postgres::session::{Param, Session, Tx};
use longshore::store::postgres::{listing, read, schema};
use longshore::store::table::{Column, ColumnKind, Detail, Table};
use longshore_actors::checkpoint::{Counts, Part};
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::job::{JobId, Lease};
use longshore_actors::ledger::{LedgerError, Receipt, Reject};
use rust_decimal::Decimal;
use tokio::sync::Barrier;
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

use crate::support::postgres::Server;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const LATER: Timestamp = Timestamp(1_700_000_060_000);

/// More than are carried as arrays, and fewer.
const MANY: usize = 300;
const FEW: usize = 3;

/// Beside the catalog's tables, one with every kind of column and a key of two.
const THINGS_SQL: &str = "
CREATE TABLE things (
    shelf text NOT NULL, number bigint NOT NULL, good boolean, price numeric, note jsonb, made timestamptz, label text,
    content_hash bytea NOT NULL, changed_at timestamptz NOT NULL, removed_at timestamptz,
    PRIMARY KEY (shelf, number));
CREATE TABLE thing_parts (
    shelf text NOT NULL, number bigint NOT NULL, part text NOT NULL, size bigint, PRIMARY KEY (shelf, number, part));";

static THINGS: Table = Table {
    name: "things",
    key: 2,
    columns: &[
        Column::new("shelf", ColumnKind::Text),
        Column::new("number", ColumnKind::Int),
        Column::nullable("good", ColumnKind::Bool),
        Column::nullable("price", ColumnKind::Decimal),
        Column::nullable("note", ColumnKind::Json),
        Column::nullable("made", ColumnKind::Time),
        Column::nullable("label", ColumnKind::Text),
    ],
    details: &[Detail {
        name: "thing_parts",
        key: 2,
        columns: &[
            Column::new("shelf", ColumnKind::Text),
            Column::new("number", ColumnKind::Int),
            Column::new("part", ColumnKind::Text),
            Column::nullable("size", ColumnKind::Int),
        ],
    }],
    link: false,
};

/// A database of the test's own, migrated.
struct Database {
    server: Arc<Server>,
    url: String,
}

impl Database {
    fn new() -> Self {
        let server = Server::shared();
        let url = server.database();
        Self::migrated(server, url)
    }

    fn migrated(server: Arc<Server>, url: String) -> Self {
        let database = Self { server, url };
        for migration in POSTGRES {
            database.psql(migration.sql);
        }
        database.psql(THINGS_SQL);
        database
    }

    fn psql(&self, sql: &str) -> String {
        self.server.psql(self.url.rsplit('/').next().unwrap(), sql)
    }

    /// With statements that stay prepared, or as behind a pooler.
    async fn session(&self, prepared: bool) -> Session {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        let task = tokio::spawn(async move { drop(connection.await) });
        Session::own(ClientWrapper::new(client, task), prepared)
    }
}

/// As those of one page.
async fn write_rows(tx: &Tx<'_>, rows: &Rows, at: Timestamp) -> OpResult<Counts> {
    rows::write(tx, rows.table, &[rows], &Expected::default(), at).await
}

/// Writes the rows in a transaction of their own.
async fn put(session: &mut Session, batch: &Rows, at: Timestamp) -> Counts {
    let tx = session.begin().await.unwrap();
    let counts = write_rows(&tx, batch, at).await.unwrap();
    tx.commit().await.unwrap();
    counts
}

async fn all(session: &Session, table: &Table) -> Vec<Row> {
    listing::rows(session, table, &[], 10_000).await.unwrap()
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn counts(inserted: usize, updated: usize, unchanged: usize) -> Counts {
    let (inserted, updated, unchanged) = (inserted as u64, updated as u64, unchanged as u64);
    Counts { inserted, updated, unchanged, ..Counts::default() }
}

/// Things with these numbers, each with two parts; `label` is what tells one version from the next.
fn things(numbers: impl Iterator<Item = usize>, label: &str) -> Rows {
    let mut rows = Rows::new(&THINGS);
    for number in numbers {
        let number = Cell::Int(number as i64);
        let part = |name: &str, size| vec![text("left"), number.clone(), text(name), size];
        let parts = vec![part("bolt", Cell::Int(label.len() as i64)), part(label, Cell::Null)];
        let price = Cell::Decimal(Decimal::new(12_345, 2));
        let cells =
            vec![text("left"), number.clone(), Cell::Bool(true), price, Cell::Null, Cell::Time(NOW), text(label)];
        rows.push(cells, vec![parts]);
    }
    rows
}

fn members(group: &str, names: &[&str]) -> Rows {
    let mut rows = Rows::new(&catalog::BUNDLE_GROUPS);
    for name in names {
        rows.push(vec![text(group), text(name)], vec![]);
    }
    rows
}

fn groups(names: &[&str]) -> Rows {
    let mut rows = Rows::new(&catalog::GROUPS);
    for name in names {
        rows.push(vec![text(name), text("a group"), Cell::Null], vec![]);
    }
    rows
}

#[tokio::test]
async fn the_schema_is_as_the_tables_declare() {
    let database = Database::new();
    let session = database.session(true).await;
    for table in catalog::TABLES.into_iter().chain([&THINGS]) {
        schema::verify(&session, table).await.unwrap();
    }
    const COLUMNS: &[Column] = catalog::BUNDLE_GROUPS.columns;
    static WRONG_TYPE: Table = Table {
        name: "catalog_bundle_groups",
        key: 2,
        columns: &[Column::new("group_name", ColumnKind::Text), Column::new("bundle_name", ColumnKind::Int)],
        details: &[],
        link: false,
    };
    static WRONG_KEY: Table =
        Table { name: "catalog_bundle_groups", key: 1, columns: COLUMNS, details: &[], link: true };
    static MISSING: Table = Table { name: "nothing", key: 1, columns: COLUMNS, details: &[], link: true };
    static NO_HASH: Table =
        Table { name: "thing_parts", key: 3, columns: THINGS.details[0].columns, details: &[], link: false };
    for wrong in [&WRONG_TYPE, &WRONG_KEY, &MISSING, &NO_HASH] {
        assert!(schema::verify(&session, wrong).await.is_err(), "{}", wrong.name);
    }
}

#[tokio::test]
async fn only_what_differs_is_written() {
    for (prepared, size) in [(true, MANY), (true, FEW), (false, MANY), (false, FEW)] {
        let database = Database::new();
        let mut session = database.session(prepared).await;
        let first = things(0..size, "old");
        assert_eq!(rows::compare(&session, &first).await.unwrap(), counts(size, 0, 0));
        assert_eq!(put(&mut session, &first, NOW).await, counts(size, 0, 0));
        assert_eq!(put(&mut session, &first, LATER).await, counts(0, 0, size));

        // One differs, one is new, the others are as they were.
        let mut second = things(1..size, "old");
        for rows in [things(0..1, "newer"), things(size..size + 1, "old")] {
            let row = rows.rows.into_iter().next().unwrap();
            second.push(row.cells, row.details);
        }
        assert_eq!(rows::compare(&session, &second).await.unwrap(), counts(1, 1, size - 1));
        assert_eq!(put(&mut session, &second, LATER).await, counts(1, 1, size - 1));
        let mut wanted = second.rows;
        wanted.sort_by(|a, b| a.cells.cmp(&b.cells));
        let found = all(&session, &THINGS).await;
        assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "cells, details and hashes, the old details gone");
        assert_eq!(read::count_rows(&session, &THINGS).await.unwrap(), size as u64 + 1);
        let tx = session.begin().await.unwrap();
        let changed = "SELECT count(*) FROM things WHERE changed_at = to_timestamp(1700000060)";
        let changed: i64 = tx.query_opt(changed, &[]).await.unwrap().unwrap().get(0);
        assert_eq!(changed, 2);
    }
}

#[tokio::test]
async fn every_row_of_a_large_batch_is_changed_with_its_details() {
    let database = Database::new();
    let mut session = database.session(true).await;
    put(&mut session, &things(0..2_500, "old"), NOW).await;
    let second = things((0..2_500).rev(), "newer");
    assert_eq!(put(&mut session, &second, LATER).await, counts(0, 2_500, 0));
    let wanted: Vec<Row> = second.rows.into_iter().rev().collect();
    assert_eq!(format!("{:?}", all(&session, &THINGS).await), format!("{wanted:?}"));
}

#[tokio::test]
async fn what_is_the_same_costs_no_write_and_reads_no_table_from_end_to_end() {
    let database = Database::new();
    let mut session = database.session(true).await;
    // The planner believes ever after that the tables are tiny.
    database.psql(
        "ALTER TABLE things SET (autovacuum_enabled = false);
                   ALTER TABLE thing_parts SET (autovacuum_enabled = false)",
    );
    put(&mut session, &things(0..5, "old"), NOW).await;
    database.psql("ANALYZE things; ANALYZE thing_parts");
    let batch = things(0..5, "old");
    for _ in 0..10 {
        put(&mut session, &batch, NOW).await;
    }
    put(&mut session, &things(5..20_000, "old"), NOW).await;
    let batch = things(3_000..4_000, "old");
    let tx = session.begin().await.unwrap();
    // Whoever writes or locks a row is given a number.
    let numbered = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL";
    let numbered = async || tx.query_opt(numbered, &[]).await.unwrap().unwrap().get::<_, bool>(0);
    let statistics = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint, sum(seq_tup_read)::bigint
                      FROM pg_stat_xact_user_tables WHERE relname LIKE 'thing%'";
    let statistics = async || {
        let row = tx.query_opt(statistics, &[]).await.unwrap().unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    let before = statistics().await;
    assert_eq!(write_rows(&tx, &batch, LATER).await.unwrap(), counts(0, 0, 1_000));
    assert_eq!(statistics().await, before, "rows written, and rows read without an index");
    assert!(!numbered().await, "nothing is locked or logged");
    assert_eq!(write_rows(&tx, &things(3_000..4_000, "newer"), LATER).await.unwrap(), counts(0, 1_000, 0));
    let (written, read) = before;
    assert_eq!(statistics().await, (written + 5_000, read), "a row, two parts gone, two parts new");
    assert!(numbered().await);
}

#[tokio::test]
async fn of_a_detail_that_comes_twice_the_last_wins() {
    for size in [FEW, MANY] {
        let database = Database::new();
        let mut session = database.session(true).await;
        let mut batch = things(0..size, "old");
        let (cells, mut details) = (batch.rows[0].cells.clone(), batch.rows[0].details.clone());
        let mut twice = details[0][0].clone();
        twice[3] = Cell::Int(99);
        details[0].push(twice);
        batch.push(cells, details);
        assert_eq!(put(&mut session, &batch, NOW).await.inserted, size as u64);
        let first = &all(&session, &THINGS).await[0];
        assert_eq!(first.details[0].len(), 2);
        assert_eq!(first.details[0][0][3], Cell::Int(99));
    }
}

#[tokio::test]
async fn every_kind_of_cell_comes_back() {
    let database = Database::new();
    let mut session = database.session(true).await;
    let decimal = |text: &str| Cell::Decimal(text.parse().unwrap());
    let rows = [
        vec![
            Cell::Bool(false),
            decimal("79228162514264337593543950335"),
            Cell::Json("[1]".into()),
            Cell::Time(NOW),
            text("é\u{1f600}"),
        ],
        vec![Cell::Null, Cell::Null, Cell::Null, Cell::Null, Cell::Null],
        vec![
            Cell::Bool(true),
            decimal("-0.0000000000000000000000000001"),
            Cell::Json("null".into()),
            Cell::Time(Timestamp(-1)),
            text(""),
        ],
        vec![
            Cell::Bool(true),
            decimal("1.50"),
            Cell::Json(r#""a\"b""#.into()),
            Cell::Time(Timestamp(i64::MIN)),
            text("'\\"),
        ],
        vec![Cell::Bool(true), decimal("0"), Cell::Json("{}".into()), Cell::Time(Timestamp(i64::MAX)), text("\n")],
    ];
    let mut batch = Rows::new(&THINGS);
    for (number, cells) in [i64::MIN, -1, 0, 7, i64::MAX].into_iter().zip(rows) {
        batch.push([vec![text(""), Cell::Int(number)], cells].concat(), vec![vec![]]);
    }
    for repeat in 0..2 {
        // Once as arrays, once copied.
        if repeat == 1 {
            for row in things(0..MANY, "more").rows {
                batch.push(row.cells, row.details);
            }
        }
        let written = put(&mut session, &batch, NOW).await;
        assert_eq!(written.inserted, if repeat == 0 { 5 } else { MANY as u64 });
        let found = all(&session, &THINGS).await;
        for (found, given) in found.iter().zip(&batch.rows).take(3) {
            assert_eq!(found.cells, given.cells);
        }
        // Beyond all dates the nearest one stands for it.
        assert!(matches!(found[3].cells[5], Cell::Time(at) if at < Timestamp(-200_000_000_000_000)));
        assert_eq!(found[4].cells[5], Cell::Time(Timestamp(253_402_207_200_999)));
    }
}

/// What PostgreSQL refuses in a text harms neither the row nor its page.
#[tokio::test]
async fn a_text_that_the_database_refuses_is_mended() {
    let database = Database::new();
    let mut session = database.session(true).await;
    let deep = "[".repeat(501) + &"]".repeat(501);
    for notes in [
        vec![r#""\u0000""#, r#"{"\ud800":"\udfff"}"#, "1e400000", "-1E-20000", "[1e999, 1e-999]"],
        vec![&deep[1..1001], &deep],
        vec![&*"9".repeat(4_000), &"9".repeat(200_000)],
    ] {
        for size in [FEW, MANY] {
            let mut batch = things(100..100 + size, "old");
            for (number, note) in notes.iter().enumerate() {
                let note = Cell::Json((*note).to_owned());
                let cells =
                    vec![text("a\0b"), Cell::Int(number as i64), Cell::Null, Cell::Null, note, Cell::Null, text("c\0")];
                let part = vec![text("a\0b"), Cell::Int(number as i64), text("d\0"), Cell::Null];
                batch.push(cells, vec![vec![part]]);
            }
            let tx = session.begin().await.unwrap();
            let written = write_rows(&tx, &batch, NOW).await.unwrap();
            assert_eq!(written, counts(size + notes.len(), 0, 0));
            tx.commit().await.unwrap();
            let found = all(&session, &THINGS).await;
            assert_eq!((&found[0].cells[0], &found[0].cells[6]), (&text("ab"), &text("c")));
            assert_eq!(found[0].details[0][0][2], text("d"));
            assert_eq!(put(&mut session, &batch, NOW).await, counts(0, 0, size + notes.len()));
            let tx = session.begin().await.unwrap();
            tx.run("TRUNCATE things, thing_parts").await.unwrap();
            tx.commit().await.unwrap();
        }
    }
}

/// Each new key is inserted by one of them, and nobody fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_the_same_new_keys_wait_for_each_other() {
    for (size, label) in [(MANY, "same"), (20, "same"), (MANY, ""), (20, "")] {
        let database = Database::new();
        let (barrier, mut writers) = (Arc::new(Barrier::new(4)), Vec::new());
        for writer in 0..4_usize {
            let mut session = database.session(writer % 2 == 0).await;
            let barrier = barrier.clone();
            // Either all write the same, or each its own version.
            let label = if label.is_empty() { format!("of {writer}") } else { label.to_owned() };
            writers.push(tokio::spawn(async move {
                let mut total = Counts::default();
                for round in 0..10 {
                    let start = round * size + writer * size / 8;
                    let mut batch = Rows::new(&THINGS);
                    let numbers = start..start + size;
                    // Each comes with another order.
                    let rows = if writer % 2 == 0 { things(numbers, &label) } else { things(numbers.rev(), &label) };
                    for row in rows.rows {
                        batch.push(row.cells, row.details);
                    }
                    barrier.wait().await;
                    let tx = session.begin().await.unwrap();
                    total.add(&write_rows(&tx, &batch, NOW).await.unwrap());
                    tx.commit().await.unwrap();
                }
                total
            }));
        }
        let mut total = Counts::default();
        for writer in writers {
            total.add(&writer.await.unwrap());
        }
        let keys = (10 * size + 3 * size / 8) as u64;
        assert_eq!(total.inserted, keys, "{size} {label}");
        assert_eq!(total.inserted + total.updated + total.unchanged, 40 * size as u64);
        assert_eq!(total.updated == 0, label == "same");
        let session = database.session(true).await;
        let found = all(&session, &THINGS).await;
        assert_eq!(found.len() as u64, keys);
        for row in found {
            let Cell::Text(label) = &row.cells[6] else { panic!("{row:?}") };
            let parts: Vec<&Cell> = row.details[0].iter().map(|part| &part[2]).collect();
            assert_eq!(parts, [&text("bolt"), &text(label)], "the details are of the version that won");
        }
    }
}

#[tokio::test]
async fn a_commit_that_fails_leaves_nothing() {
    let database = Database::new();
    let mut session = database.session(true).await;
    for size in [FEW, MANY] {
        let mut batch = things(0..size, "old");
        batch.rows[1].details[0][1][2] = Cell::Null;
        let tx = session.begin().await.unwrap();
        let error = write_rows(&tx, &batch, NOW).await.unwrap_err();
        assert!(!error.is_conflict() && !error.is_unique_violation());
        assert!(matches!(LedgerError::from(error), LedgerError::Broken(_)));
        drop(tx);
        assert_eq!(read::count_rows(&session, &THINGS).await.unwrap(), 0);
    }
    assert_eq!(put(&mut session, &things(0..FEW, "old"), NOW).await, counts(FEW, 0, 0));
}

#[tokio::test]
async fn rows_are_listed_byte_by_byte_whatever_the_order_of_the_database() {
    let server = Server::shared();
    let name = "ordered_by_language";
    server
        .psql("postgres", &format!("CREATE DATABASE {name} LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0"));
    let url = server.url(name);
    let database = Database::migrated(server, url);
    let mut session = database.session(true).await;
    let names = ["", "B", "Z", "a", "a b", "b", "e\u{301}", "é", "\u{1f600}"];
    put(&mut session, &groups(&names), NOW).await;
    put(&mut session, &things(0..MANY, "old"), NOW).await;
    let mut listed = Vec::new();
    let mut after = Vec::new();
    loop {
        let page = listing::rows(&session, &catalog::GROUPS, &after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.cells[..1].to_vec();
        listed.extend(page.into_iter().map(|row| row.cells[0].clone()));
    }
    assert_eq!(listed, names.map(text));

    let after = [text("left"), Cell::Int(MANY as i64 - 3)];
    let page = listing::rows(&session, &THINGS, &after, 10).await.unwrap();
    assert_eq!(
        page.iter().map(|row| row.cells[1].clone()).collect::<Vec<_>>(),
        [MANY as i64 - 2, MANY as i64 - 1].map(Cell::Int)
    );
    assert!(page.iter().all(|row| row.details[0].len() == 2));
}

#[tokio::test]
async fn texts_are_known_by_key_in_the_order_of_the_question() {
    let database = Database::new();
    let mut session = database.session(true).await;
    put(&mut session, &groups(&["a", "b", "c"]), NOW).await;
    let tx = session.begin().await.unwrap();
    tx.run("UPDATE catalog_groups SET removed_at = now() WHERE name = 'b'").await.unwrap();
    tx.run(
        "CREATE TABLE numbered (id bigint PRIMARY KEY, note text, content_hash bytea, removed_at timestamptz);
            INSERT INTO numbered VALUES (7, 'seven'), (8, NULL)",
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let keys = ["c", "no", "a", "b", "c", "a\0"].map(text);
    let known = listing::known(&session, &catalog::GROUPS, "description", &keys).await.unwrap();
    let group = || Some("a group".to_owned());
    assert_eq!(known, [group(), None, group(), None, group(), group()]);
    static NUMBERED: Table = Table {
        name: "numbered",
        key: 1,
        columns: &[Column::new("id", ColumnKind::Int), Column::nullable("note", ColumnKind::Text)],
        details: &[],
        link: false,
    };
    let known = listing::known(&session, &NUMBERED, "note", &[8, 7, 9].map(Cell::Int)).await.unwrap();
    assert_eq!(known, [None, Some("seven".to_owned()), None]);
    assert!(listing::known(&session, &NUMBERED, "note", &[]).await.unwrap().is_empty());
}

const GUARD: Guard = Guard { rows: 2, ratio: 0.2, lifted: false };

fn removal(missing: u64, guard: Guard) -> Removal {
    let scope = ("group_name", "g".to_owned());
    let orphans = Some((&catalog::GROUPS, "name"));
    static OWNED: [(&Table, &str); 1] = [(&THINGS, "label")];
    Removal {
        table: &catalog::BUNDLE_GROUPS,
        scope,
        key: "bundle_name",
        missing,
        guard,
        orphans,
        named_by: None,
        owned: &OWNED,
    }
}

/// Closes a snapshot in which the job has seen `seen`, in two pages.
async fn close(session: &mut Session, seen: &[&str], removal: &Removal) -> OpResult<Removed> {
    let tx = session.begin().await.unwrap();
    let job = JobId(1);
    for page in seen.chunks(2) {
        let page: Vec<String> = page.iter().map(|&key| key.to_owned()).collect();
        removal::see(&tx, job, &page).await?;
    }
    removal::see(&tx, job, &[""; 0]).await?;
    removal::see(&tx, JobId(2), &["other"]).await?;
    let removed = removal::remove(&tx, removal, job, 0, LATER).await?;
    removal::forget(&tx, job).await?;
    tx.commit().await?;
    Ok(removed)
}

async fn live(session: &Session, table: &Table) -> Vec<Cell> {
    all(session, table).await.into_iter().map(|row| row.cells[table.key - 1].clone()).collect()
}

#[tokio::test]
async fn what_vanished_is_marked_with_its_orphans_and_what_it_owns() {
    let database = Database::new();
    let mut session = database.session(true).await;
    let names = ["a\0", "b", "c", "d"];
    put(&mut session, &members("g", &names), NOW).await;
    put(&mut session, &members("other", &["c", "e"]), NOW).await;
    put(&mut session, &groups(&["a", "b", "c", "d", "e"]), NOW).await;
    put(&mut session, &things(0..1, "d"), NOW).await;

    let lifted = Guard { lifted: true, ..GUARD };
    let incomplete = close(&mut session, &[], &removal(3, lifted)).await.unwrap();
    assert!(matches!(&incomplete, Removed::Nothing { note } if note.contains("3 records were not received")));

    let error = close(&mut session, &["x"], &removal(0, GUARD)).await.unwrap_err();
    let OpError::Refused(LedgerError::Guard(reason)) = error else { panic!("{error:?}") };
    assert!(reason.starts_with("4 of 4 rows of catalog_bundle_groups in group_name \"g\""), "{reason}");

    database.psql(
        "INSERT INTO rejected_records (domain, kind, reason, raw, job, at) VALUES
                   ('catalog', 'k', 'no name', '{}', 1, 0), ('catalog', 'k', 'no name', '{}', 1, 0)",
    );
    let nameless = close(&mut session, &["a\0", "b"], &removal(0, GUARD)).await.unwrap();
    assert!(matches!(&nameless, Removed::Nothing { note } if note.contains("2 records came without a readable key")));
    database.psql("DELETE FROM rejected_records");
    assert_eq!(read::count_rows(&session, &catalog::BUNDLE_GROUPS).await.unwrap(), 6, "nothing is harmed so far");

    // The ties do not count: the orphan `d` and the thing it owns do. `c` is named by another group still.
    let removed = close(&mut session, &["a\0", "b", "x"], &removal(0, GUARD)).await.unwrap();
    assert_eq!(removed, Removed::Rows(2));
    assert_eq!(live(&session, &catalog::BUNDLE_GROUPS).await, ["a", "b", "c", "e"].map(text));
    assert_eq!(live(&session, &catalog::GROUPS).await, ["a", "b", "c", "e"].map(text));
    assert!(live(&session, &THINGS).await.is_empty());
    assert_eq!(close(&mut session, &["a", "b"], &removal(0, GUARD)).await.unwrap(), Removed::Rows(0));
    assert_eq!(database.psql("SELECT count(*) FROM snapshot_keys WHERE job = 1"), "0");
    assert_ne!(database.psql("SELECT count(*) FROM snapshot_keys WHERE job = 2"), "0");

    // What comes back is no longer removed, whether it is the same or not.
    assert_eq!(put(&mut session, &things(0..1, "d"), LATER).await, counts(0, 1, 0));
    assert_eq!(put(&mut session, &groups(&["d"]), LATER).await, counts(0, 1, 0));
    assert_eq!(live(&session, &THINGS).await.len(), 1);
}

#[tokio::test]
async fn a_preview_counts_and_writes_nothing() {
    let database = Database::new();
    let mut session = database.session(true).await;
    put(&mut session, &groups(&["a", "b"]), NOW).await;
    let rows = vec![groups(&["b", "c", "c"]), members("g", &["x"])];
    let batch = Batch { rows, removals: vec![removal(0, GUARD)], ..Batch::default() };
    let reject = Reject { key: None, reason: "no".to_owned(), raw: "{}".to_owned() };
    let lease = Lease { job: JobId(1), fence: 1 };
    let receipt = Receipt { rejects: vec![reject], ..Receipt::new(lease, Part::Closing) };
    let committed = read::preview(&session, &Delivery { batch, receipt, received: 4 }).await.unwrap();
    let wanted = Counts { received: 4, rejected: 1, repeated: 1, ..counts(1, 0, 1) };
    assert_eq!(committed.counts, wanted);
    assert!(committed.note.unwrap().contains("not previewed"));
    assert_eq!(read::count_rows(&session, &catalog::GROUPS).await.unwrap(), 2);
}

/// A page that is a whole snapshot: things go with the membership that names them, then what else stands on the shelf.
#[tokio::test]
async fn a_preview_of_a_page_tells_what_its_removals_do() {
    static OWNED: [(&Table, &str); 1] = [(&THINGS, "label")];
    let database = Database::new();
    let mut session = database.session(true).await;
    put(&mut session, &members("g", &["a", "b", "c"]), NOW).await;
    put(&mut session, &members("other", &["d"]), NOW).await;
    put(&mut session, &things(0..2, "b"), NOW).await;
    put(&mut session, &things(2..3, "a"), NOW).await;
    put(&mut session, &things(3..5, "loose"), NOW).await;
    let whole = |guard| {
        let scope = ("group_name", "g".to_owned());
        let key = "bundle_name";
        let table = &catalog::BUNDLE_GROUPS;
        let of_members = Removal { table, scope, key, missing: 0, guard, orphans: None, named_by: None, owned: &OWNED };
        let scope = ("shelf", "left".to_owned());
        let of_things = Removal {
            table: &THINGS,
            scope,
            key: "number",
            missing: 0,
            guard,
            orphans: None,
            named_by: None,
            owned: &[],
        };
        let seen = ["a", "new", "2", "3"].map(str::to_owned).to_vec();
        let rows = vec![members("g", &["new"]), things(2..3, "a")];
        Batch { rows, seen, removals: vec![of_members, of_things], ..Batch::default() }
    };
    let lease = Lease { job: JobId(1), fence: 1 };
    let preview = async |guard| {
        let receipt = Receipt::new(lease, Part::Page(0));
        read::preview(&session, &Delivery { batch: whole(guard), receipt, received: 2 }).await
    };
    let error = preview(Guard { rows: 1, ..GUARD }).await.unwrap_err();
    let OpError::Refused(LedgerError::Guard(reason)) = error else { panic!("{error:?}") };
    assert!(reason.starts_with("2 of 4 rows of catalog_bundle_groups in group_name \"g\""), "{reason}");

    // Two things of `b`; of the three that are left then, number 4.
    let told = preview(GUARD).await.unwrap();
    assert_eq!((told.counts.removed, told.counts.unchanged, &told.note), (3, 1, &None));
    assert_eq!(read::count_rows(&session, &THINGS).await.unwrap(), 5, "nothing is written");

    let batch = whole(GUARD);
    let tx = session.begin().await.unwrap();
    let mut removed = 0;
    for rows in &batch.rows {
        write_rows(&tx, rows, LATER).await.unwrap();
    }
    removal::see(&tx, lease.job, &batch.seen).await.unwrap();
    for one in &batch.removals {
        let Removed::Rows(rows) = removal::remove(&tx, one, lease.job, 0, LATER).await.unwrap() else {
            panic!("{one:?}")
        };
        removed += rows;
    }
    tx.commit().await.unwrap();
    assert_eq!(removed, told.counts.removed, "the preview told the truth");
    // As many records of this very page came without a key as are gone: nobody knows.
    let tx = session.begin().await.unwrap();
    let of_members = whole(GUARD).removals.remove(0);
    let nameless = removal::remove(&tx, &of_members, JobId(9), 5, LATER).await.unwrap();
    assert!(matches!(nameless, Removed::Nothing { note } if note.contains("5 records came without")));
}

#[tokio::test]
async fn the_state_of_syncs_and_rejects_are_read() {
    let database = Database::new();
    let session = database.session(true).await;
    database.psql(r#"
        INSERT INTO sync_state VALUES ('p', 'b', 5, NULL, NULL, 7, '{"inserted": 3}'), ('p', 'B', NULL, 6, 'no', 8, '{}');
        INSERT INTO rejected_records (domain, kind, key, reason, raw, job, at) VALUES
            ('one', 'k', 'key', 'why', '{}', 7, 9), ('two', 'k', NULL, 'why', '{}', 7, 9), ('one', 'k', NULL, 'x', '', 7, 9)"#);
    let state = read::sync_state(&session, "p", "b").await.unwrap().unwrap();
    assert_eq!(
        (state.last_success_at, state.last_job, state.counts),
        (Some(Timestamp(5)), Some(JobId(7)), counts(3, 0, 0))
    );
    assert_eq!(read::sync_state(&session, "p", "x").await.unwrap(), None);
    let states = read::sync_states(&session).await.unwrap();
    assert_eq!(states.iter().map(|state| &*state.entity).collect::<Vec<_>>(), ["B", "b"]);
    assert_eq!((states[0].last_error_at, states[0].last_error.as_deref()), (Some(Timestamp(6)), Some("no")));
    let reasons = async |domain, limit| {
        let rejects = read::rejects(&session, domain, limit).await.unwrap();
        rejects.into_iter().map(|reject| (reject.domain, reject.reason)).collect::<Vec<_>>()
    };
    let pair = |domain: &str, reason: &str| (domain.to_owned(), reason.to_owned());
    assert_eq!(reasons(Some("one"), 9).await, [pair("one", "x"), pair("one", "why")]);
    assert_eq!(reasons(None, 2).await, [pair("one", "x"), pair("two", "why")]);
    assert!(reasons(Some("none"), 9).await.is_empty());
}

/// Kept out of a conflict only by the order of keys: with another one this would be it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_lock_each_other_out_are_told_so() {
    let database = Database::new();
    let (mut one, mut two) = (database.session(true).await, database.session(true).await);
    put(&mut one, &groups(&["a", "b"]), NOW).await;
    let (first, second) = (one.begin().await.unwrap(), two.begin().await.unwrap());
    let touch = async |tx: &Tx<'_>, name: &str| {
        tx.run(&format!("UPDATE catalog_groups SET changed_at = now() WHERE name = '{name}'")).await
    };
    touch(&first, "a").await.unwrap();
    touch(&second, "b").await.unwrap();
    let (left, right) = tokio::join!(touch(&first, "b"), async {
        let answer = touch(&second, "a").await;
        drop(second);
        answer
    });
    let errors: Vec<OpError> = [left, right].into_iter().filter_map(Result::err).collect();
    assert!(errors.len() == 1 && errors[0].is_conflict(), "{errors:?}");
}

/// After a batch of new rows the next one is copied without a look; what stands there already is found all the same.
#[tokio::test]
async fn what_is_expected_to_be_new_and_is_not_is_compared_where_it_stands() {
    for prepared in [true, false] {
        let database = Database::new();
        let mut session = database.session(prepared).await;
        put(&mut session, &things(1_000..1_200, "old"), NOW).await;
        let expected = Expected::default();
        // How often rows were looked up by their key; the check of a new row's key is not counted.
        let looks = "SELECT (seq_scan + idx_scan)::bigint FROM pg_stat_xact_user_tables WHERE relname = 'things'";
        let mut write = async |job: i64, batch: Rows| {
            let tx = session.begin().await.unwrap();
            let looks = async || tx.query_opt(looks, &[]).await.unwrap().unwrap().get::<_, i64>(0);
            let before = looks().await;
            let expected = expected.of(JobId(job));
            let counts = rows::write(&tx, batch.table, &[&batch], expected, LATER).await.unwrap();
            let looked = looks().await > before;
            tx.commit().await.unwrap();
            (counts, looked)
        };
        assert_eq!(write(1, things(0..300, "old")).await, (counts(300, 0, 0), true));
        assert_eq!(write(1, things(300..600, "old")).await, (counts(300, 0, 0), false), "expected");
        assert_eq!(write(1, things(500..900, "old")).await, (counts(300, 0, 100), true), "some are there");
        assert_eq!(write(1, things(900..1_100, "new")).await, (counts(100, 100, 0), true), "some differ");
        assert_eq!(write(1, things(2_000..2_300, "old")).await, (counts(300, 0, 0), true));
        assert_eq!(write(2, things(2_000..2_300, "old")).await, (counts(0, 0, 300), true), "another job");
        database.psql("UPDATE things SET removed_at = now() WHERE number >= 2200");
        assert_eq!(write(2, things(3_000..3_300, "old")).await, (counts(300, 0, 0), true));
        let back = write(2, things(2_100..2_300, "old")).await;
        assert_eq!(back, (counts(0, 100, 100), true), "what was removed comes back");
        assert_eq!(write(2, things(4_000..4_010, "old")).await, (counts(10, 0, 0), true));
        assert_eq!(write(2, things(4_010..4_310, "old")).await, (counts(300, 0, 0), true), "few say little");
        let stand = all(&session, &THINGS).await;
        assert_eq!(stand.len(), 1_200 + 300 + 300 + 310);
        assert!(stand.iter().all(|row| row.details[0].len() == 2));
    }
}

/// The driver finds fault with a value by itself, and gives no code: that is a bug of ours, which no waiting mends.
#[tokio::test]
async fn a_value_that_does_not_fit_is_no_outage() {
    let database = Database::new();
    let session = database.session(true).await;
    let told = async |sql: &str, params: &[Param<'_>]| match session.query(sql, params).await {
        Ok(rows) => LedgerError::from(OpError::from(rows[0].try_get::<_, i64>(0).unwrap_err())),
        Err(error) => LedgerError::from(error),
    };
    for (error, part) in [
        (told("SELECT $1", &[(&"a", Type::INT8)]).await, "serializing parameter 0"),
        (told("SELECT 'a'::text", &[]).await, "deserializing column 0"),
        (told("SELECT $1", &[(&"\0", Type::TEXT)]).await, "invalid byte sequence"),
        (told("SELECT 1 -- \0", &[]).await, "encoding message"),
        (told("SELECT $1::int8", &[]).await, "expected 1 parameters but got 0"),
    ] {
        assert!(matches!(&error, LedgerError::Broken(reason) if reason.contains(part)), "{error:?}");
    }
}
