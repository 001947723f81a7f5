//! What PostgreSQL's half of the store can do with rows, beside what `COPY` can: `cargo bench --bench rows`.
//!
//! ```text
//! a round: COPY into the empty table ─▶ empty ─▶ load ─▶ more ─▶ the same ─▶ 1 % changed ─▶ all changed
//! ```
//!
//! It starts a server of its own, with `fsync` and `synchronous_commit` on. A row has 12 columns and the store's three,
//! as those of a catalogue; each batch is a transaction. Every figure is the median of the rounds in thousands of rows
//! a second, with the lowest and the highest.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use deadpool_postgres::ClientWrapper;
use futures::{SinkExt, pin_mut};
use longshore::domains::catalog;
use longshore::store::batch::{Cell, Rows};
use longshore::store::migrations::POSTGRES;
use longshore::store::postgres::error::OpResult;
use longshore::store::postgres::rows::{self, Expected};
use longshore::store::postgres::session::{Session, Tx};
use longshore::store::postgres::{cells, copy, statements};
use longshore::store::table::{Column, ColumnKind, Table};
use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;
use rust_decimal::Decimal;
use tokio_postgres::NoTls;

#[path = "../tests/support/port.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod port;
#[path = "../tests/support/postgres.rs"]
#[allow(clippy::unwrap_used)]
mod postgres;

use postgres::Server;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const ROWS: usize = 60_000;
const BATCHES: [usize; 3] = [200, 2_000, 20_000];
const ROUNDS: usize = 5;

const ITEMS_SQL: &str = "
CREATE TABLE items (
    name text NOT NULL PRIMARY KEY, title text NOT NULL, description text, active boolean NOT NULL, stock bigint NOT NULL,
    weight bigint, price numeric NOT NULL, currency text NOT NULL, category text, image text, tags jsonb NOT NULL,
    seen_at timestamptz NOT NULL, content_hash bytea NOT NULL, changed_at timestamptz NOT NULL, removed_at timestamptz)";

static ITEMS: Table = Table {
    name: "items",
    key: 1,
    columns: &[
        Column::new("name", ColumnKind::Text),
        Column::new("title", ColumnKind::Text),
        Column::nullable("description", ColumnKind::Text),
        Column::new("active", ColumnKind::Bool),
        Column::new("stock", ColumnKind::Int),
        Column::nullable("weight", ColumnKind::Int),
        Column::new("price", ColumnKind::Decimal),
        Column::new("currency", ColumnKind::Text),
        Column::nullable("category", ColumnKind::Text),
        Column::nullable("image", ColumnKind::Text),
        Column::new("tags", ColumnKind::Json),
        Column::new("seen_at", ColumnKind::Time),
    ],
    details: &[],
    link: false,
};

/// Which rows a pass writes, and what they hold.
#[derive(Clone, Copy)]
enum Pass {
    /// Every second key, so that what comes next lies between.
    First,
    Between,
    /// One in so many differs from the first pass.
    Changed(usize),
}

fn main() {
    let server = Server::start(&["fsync=on", "shared_buffers=1GB", "max_wal_size=8GB", "autovacuum=off"]);
    let url = server.database();
    let database = url.rsplit('/').next().expect("a URL ends with its database");
    POSTGRES.iter().for_each(|migration| drop(server.psql(database, migration.sql)));
    server.psql(database, ITEMS_SQL);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut session = runtime.block_on(connect(&url));
    for batch in BATCHES {
        items(&runtime, &mut session, batch);
    }
    bundles(&runtime, &mut session);
}

async fn connect(url: &str) -> Session {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    let task = tokio::spawn(async move { drop(connection.await) });
    Session::own(ClientWrapper::new(client, task), true)
}

fn items(runtime: &tokio::runtime::Runtime, session: &mut Session, batch: usize) {
    let names = ["COPY of all", "empty table", "all new, between", "nothing changed", "1 % changed", "all changed"];
    let passes = [Pass::First, Pass::First, Pass::Between, Pass::First, Pass::Changed(100), Pass::Changed(1)];
    let mut took = [const { Vec::new() }; 6];
    for _ in 0..ROUNDS {
        for (index, pass) in passes.into_iter().enumerate() {
            let pages: Vec<Rows> =
                (0..ROWS / batch).map(|page| item_page(page * batch..(page + 1) * batch, pass)).collect();
            runtime.block_on(async {
                if index < 2 {
                    run(session, "TRUNCATE items").await;
                }
                run(session, "CHECKPOINT").await;
                let start = Instant::now();
                match index {
                    0 => copy_all(session, &pages).await,
                    _ => expect(index, write(session, &pages).await),
                }
                took[index].push(start.elapsed());
            });
        }
    }
    println!("\nbatches of {batch}");
    let copied = median(&took[0]);
    for (name, took) in names.iter().zip(&took) {
        println!("{}", line(name, took, copied));
    }
}

/// A figure of what was not done would be worthless.
fn expect(pass: usize, counts: Counts) {
    let (rows, hundredth) = (ROWS as u64, ROWS as u64 / 100);
    let wanted = match pass {
        1 | 2 => (rows, 0, 0),
        3 => (0, 0, rows),
        4 => (0, hundredth, rows - hundredth),
        // The hundredth is as it should be already.
        _ => (0, rows - hundredth, hundredth),
    };
    assert_eq!((counts.inserted, counts.updated, counts.unchanged), wanted);
}

/// As those of one page.
async fn write_rows(tx: &Tx<'_>, rows: &Rows, at: Timestamp) -> OpResult<Counts> {
    rows::write(tx, rows.table, &[rows], &Expected::default(), at).await
}

async fn write(session: &mut Session, pages: &[Rows]) -> Counts {
    let mut counts = Counts::default();
    for page in pages {
        let tx = session.begin().await.expect("a transaction");
        counts.add(&write_rows(&tx, page, NOW).await.expect("rows"));
        tx.commit().await.expect("a commit");
    }
    counts
}

/// The yardstick: all rows by one statement, which knows that they are new.
async fn copy_all(session: &mut Session, pages: &[Rows]) {
    let client = session.client();
    let sink = client.copy_in(&statements::copy(&ITEMS)).await.expect("a COPY");
    pin_mut!(sink);
    let rows = pages.iter().flat_map(|page| &page.rows);
    for piece in copy::pieces(rows, ITEMS.columns.len() + 2, |row, out: &mut BytesMut| {
        row.cells.iter().for_each(|cell| cells::put(cell, out));
        cells::put_bytes(&row.hash, out);
        cells::put_time(NOW, out);
    }) {
        sink.feed(piece).await.expect("room");
    }
    assert_eq!(sink.finish().await.expect("the end of a COPY"), ROWS as u64);
}

async fn run(session: &Session, sql: &str) {
    session.client().batch_execute(sql).await.expect("a statement");
}

/// Bundles with their country and their group: three tables.
fn bundles(runtime: &tokio::runtime::Runtime, session: &mut Session) {
    let mut text = String::from("\nbundles with a country and a group, batches of 2000");
    let pages: Vec<[Rows; 2]> = (0..ROWS / 2_000).map(bundle_page).collect();
    let mut took = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        runtime.block_on(async {
            run(session, "TRUNCATE catalog_bundles, catalog_bundle_countries, catalog_bundle_groups").await;
            for took in &mut took {
                run(session, "CHECKPOINT").await;
                let start = Instant::now();
                for page in &pages {
                    let tx = session.begin().await.expect("a transaction");
                    for rows in page {
                        write_rows(&tx, rows, NOW).await.expect("rows");
                    }
                    tx.commit().await.expect("a commit");
                }
                took.push(start.elapsed());
            }
        });
    }
    let first = median(&took[0]);
    for (name, took) in ["empty tables", "nothing changed"].iter().zip(&took) {
        let _ = write!(text, "\n{}", line(name, took, first));
    }
    println!("{text}");
}

fn median(took: &[Duration]) -> f64 {
    let mut took = took.to_vec();
    took.sort();
    thousands(took[took.len() / 2])
}

fn thousands(took: Duration) -> f64 {
    ROWS as f64 / took.as_secs_f64() / 1000.0
}

fn line(name: &str, took: &[Duration], of: f64) -> String {
    let (median, rates) = (median(took), took.iter().map(|took| thousands(*took)));
    let (low, high) = rates.fold((f64::MAX, 0.0_f64), |(low, high), rate| (low.min(rate), high.max(rate)));
    format!("  {name:<18} {median:>5.0}  ({low:.0}..{high:.0})  {:.2}", median / of)
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn item_page(numbers: std::ops::Range<usize>, pass: Pass) -> Rows {
    let mut rows = Rows::new(&ITEMS);
    for number in numbers {
        let (key, changed) = match pass {
            Pass::First => (2 * number, false),
            Pass::Between => (2 * number + 1, false),
            Pass::Changed(every) => (2 * number, number.is_multiple_of(every)),
        };
        let cells = vec![
            Cell::Text(format!("item_{key:08}_7D_FR_V2")),
            Cell::Text(format!("A thing of the number {key}")),
            text("eSIM, 1GB, 7 Days, France, V2"),
            Cell::Bool(true),
            Cell::Int(if changed { -1 } else { number as i64 }),
            Cell::Int(1000),
            Cell::Decimal(Decimal::new(number as i64, 2)),
            text("USD"),
            Cell::Null,
            text("https://example.org/images/fr.png"),
            Cell::Json(r#"["4G","5G"]"#.into()),
            Cell::Time(NOW),
        ];
        rows.push(cells, vec![]);
    }
    rows
}

fn bundle_page(page: usize) -> [Rows; 2] {
    let (mut bundles, mut members) = (Rows::new(&catalog::BUNDLES), Rows::new(&catalog::BUNDLE_GROUPS));
    for number in page * 2_000..(page + 1) * 2_000 {
        let name = format!("esim_{number:06}_7D_FR_V2");
        let raw = format!(
            r#"{{"name":"{name}","groups":["Standard Fixed"],"countries":[{{"name":"France","iso":"FR"}}],"price":{number}}}"#
        );
        let cells = vec![
            text(&name),
            text("eSIM, 1GB, 7 Days, France, V2"),
            Cell::Bool(false),
            Cell::Int(1000),
            Cell::Int(7),
            text("day"),
            Cell::Json(r#"["4G","5G"]"#.into()),
            Cell::Bool(true),
            Cell::Decimal(Decimal::new(number as i64, 2)),
            Cell::Null,
            text("FixedCost"),
            text("https://example.org/images/fr.png"),
            Cell::Json("[]".into()),
            Cell::Json(raw),
        ];
        let country = vec![text(&name), text("base"), text("FR"), text("France"), text("Europe")];
        bundles.push(cells, vec![vec![country]]);
        members.push(vec![text("Standard Fixed"), text(&name)], vec![]);
    }
    [bundles, members]
}

/// Looks until `look` sees it.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
