//! What the bare store can do, without coordinators and pools: `cargo bench --bench ledger`.
//!
//! `synchronous=FULL`; each figure is items a second, one item being a whole job or one bundle with its country and
//! its group.
//!
//! The figures of PostgreSQL are of a server that is started for them, with its own settings but for the memory, on
//! the same machine: `cargo bench --bench ledger postgres`.

#[path = "../tests/support/port.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod port;
#[path = "../tests/support/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::Bencher;
use divan::counter::ItemsCount;
use longshore::domains::catalog::{BUNDLE_GROUPS, BUNDLES};
use longshore::store::Writer;
use longshore::store::batch::{Batch, Cell, Rows};
use longshore::store::postgres::{self, PostgresStore};
use longshore::store::sqlite::{Settings, SqliteStore};
use longshore_actors::checkpoint::Part;
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::job::{Lease, NewJob, Outcome};
use longshore_actors::ledger::{Claim, Ledger, Receipt, Record};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::server::Server;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const CLIENTS: usize = 256;
const LIVES: usize = 256 * 200;
const BUNDLES_IN_ALL: usize = 50_000;
const BUNDLES_A_PAGE: usize = 1_000;

fn main() {
    divan::main();
}

struct Fixture {
    _folder: TempDir,
    runtime: Runtime,
    store: SqliteStore,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = Runtime::new().expect("a runtime");
        let path: &Path = &folder.path().join("bench.db");
        let store = SqliteStore::open(path, Settings::default(), NOW).expect("a store");
        Fixture { _folder: folder, runtime, store }
    }

    fn lease(&self) -> Lease {
        self.runtime.block_on(async {
            self.store.enqueue(vec![job()], NOW).await.expect("enqueue");
            self.store.claim(claim(1)).await.expect("claim")[0].lease
        })
    }
}

fn job() -> NewJob {
    NewJob::new("bench", "bench.noop", json!({"n": 1}))
}

fn claim(max: usize) -> Claim {
    Claim {
        domain: "bench".into(),
        owner: "bench/1".into(),
        max,
        kinds: vec![("bench.noop".into(), max)],
        now: NOW,
        until: NOW.plus(Duration::from_secs(60)),
    }
}

/// 256 clients, each of which enqueues, claims and records one job at a time.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn whole_lives(bencher: Bencher) {
    let fixture = Fixture::new();
    bencher.counter(ItemsCount::new(LIVES)).bench_local(|| {
        fixture.runtime.block_on(async {
            let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(client(fixture.store.clone()))).collect();
            for client in clients {
                client.await.expect("a client");
            }
        });
    });
}

async fn client(store: SqliteStore) {
    for _ in 0..LIVES / CLIENTS {
        store.enqueue(vec![job()], NOW).await.expect("enqueue");
        for job in store.claim(claim(1)).await.expect("claim") {
            let outcome = Outcome::Completed { note: None };
            store.record(Record { lease: job.lease, outcome, entity: None }, NOW).await.expect("record");
        }
    }
}

/// Jobs put in with one call of many.
#[divan::bench(args = [1_000, 10_000], sample_count = 5, sample_size = 1)]
fn bulk_enqueue(bencher: Bencher, batch: usize) {
    let fixture = Fixture::new();
    let calls = 100_000 / batch;
    bencher.counter(ItemsCount::new(calls * batch)).bench_local(|| {
        fixture.runtime.block_on(async {
            for _ in 0..calls {
                fixture.store.enqueue(vec![job(); batch], NOW).await.expect("enqueue");
            }
        });
    });
}

/// Bundles that are new, then the same ones again.
#[divan::bench(args = [true, false], sample_count = 5, sample_size = 1)]
fn bundles(bencher: Bencher, unchanged: bool) {
    bencher
        .counter(ItemsCount::new(BUNDLES_IN_ALL))
        .with_inputs(|| {
            let fixture = Fixture::new();
            if unchanged {
                let first = pages(fixture.lease());
                upload(&fixture, first);
            }
            let pages = pages(fixture.lease());
            (fixture, pages)
        })
        .bench_local_values(|(fixture, pages)| {
            upload(&fixture, pages);
            // Not dropped here: closing the store is not part of the figure.
            fixture
        });
}

fn upload(fixture: &Fixture, pages: Vec<Arc<Delivery<Batch>>>) {
    fixture.runtime.block_on(async {
        for page in pages {
            Writer::commit(&mut fixture.store.clone(), &[page], NOW).await.expect("commit");
        }
    });
}

fn pages(lease: Lease) -> Vec<Arc<Delivery<Batch>>> {
    let page = |page: usize| {
        let (mut bundles, mut members) = (Rows::new(&BUNDLES), Rows::new(&BUNDLE_GROUPS));
        for number in page * BUNDLES_A_PAGE..(page + 1) * BUNDLES_A_PAGE {
            let name = format!("esim_{number:06}_7D_FR_V2");
            members.push(vec![text("Standard Fixed"), text(&name)], vec![]);
            let country = vec![text(&name), text("base"), text("FR"), text("France"), text("Europe")];
            bundles.push(bundle(&name, number), vec![vec![country]]);
        }
        let receipt = Receipt::new(lease, Part::Page(page as u32));
        let batch = Batch { rows: vec![bundles, members], ..Batch::default() };
        Arc::new(Delivery { batch, receipt, received: BUNDLES_A_PAGE as u64 })
    };
    (0..BUNDLES_IN_ALL / BUNDLES_A_PAGE).map(page).collect()
}

fn bundle(name: &str, number: usize) -> Vec<Cell> {
    let raw = format!(
        r#"{{"name":"{name}","description":"eSIM, 1GB, 7 Days, France, V2","groups":["Standard Fixed"],"countries":[{{"name":"France","region":"Europe","iso":"FR"}}],"dataAmount":1000,"duration":7,"speed":["4G","5G"],"autostart":true,"unlimited":false,"roamingEnabled":[],"imageUrl":"https://example.org/images/fr.png","price":{number},"billingType":"FixedCost"}}"#
    );
    vec![
        text(name),
        text("eSIM, 1GB, 7 Days, France, V2"),
        Cell::Bool(false),
        Cell::Int(1000),
        Cell::Int(7),
        text("day"),
        Cell::Json(r#"["4G","5G"]"#.into()),
        Cell::Bool(true),
        Cell::Decimal(rust_decimal::Decimal::new(number as i64, 2)),
        Cell::Null,
        text("FixedCost"),
        text("https://example.org/images/fr.png"),
        Cell::Json("[]".into()),
        Cell::Json(raw),
    ]
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

/// What the server of the benches waits with.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server that makes everything durable, and an open store on it.
struct Shared {
    runtime: Runtime,
    store: PostgresStore,
    _server: Server,
}

impl Shared {
    fn new() -> Self {
        let server = Server::start(&["fsync=on", "synchronous_commit=on", "shared_buffers=512MB", "max_wal_size=4GB"]);
        let runtime = Runtime::new().expect("a runtime");
        let settings = postgres::Settings { url: server.database(), ..postgres::Settings::default() };
        let store = runtime.block_on(PostgresStore::open(settings, NOW)).expect("a store");
        Shared { runtime, store, _server: server }
    }

    fn fill(&self, jobs: usize) {
        self.runtime.block_on(async {
            for _ in 0..jobs / 10_000 {
                self.store.enqueue(vec![job(); 10_000], NOW).await.expect("enqueue");
            }
        });
    }
}

/// Jobs of one drain.
const DRAINED: usize = 100_000;

/// As a coordinator does it: one claim at a time for as much as there is room, each job recorded by itself.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn postgres_claim_and_record(bencher: Bencher) {
    let shared = Shared::new();
    bencher.counter(ItemsCount::new(DRAINED)).with_inputs(|| shared.fill(DRAINED)).bench_local_values(|()| {
        shared.runtime.block_on(drain(&shared.store, DRAINED));
    });
}

/// The same behind a million jobs that wait.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn postgres_claim_and_record_of_a_million(bencher: Bencher) {
    let shared = Shared::new();
    shared.fill(1_000_000);
    bencher.counter(ItemsCount::new(DRAINED)).bench_local(|| {
        shared.runtime.block_on(drain(&shared.store, DRAINED));
    });
}

async fn drain(store: &PostgresStore, jobs: usize) {
    let mut running: JoinSet<()> = JoinSet::new();
    let mut done = 0;
    while done < jobs {
        let room = CLIENTS.min(jobs - done).saturating_sub(running.len());
        if room > 0 {
            for job in store.claim(claim(room)).await.expect("claim") {
                let store = store.clone();
                running.spawn(async move {
                    let outcome = Outcome::Completed { note: None };
                    store.record(Record { lease: job.lease, outcome, entity: None }, NOW).await.expect("record");
                });
            }
        }
        running.join_next().await;
        done += 1;
        while running.try_join_next().is_some() {
            done += 1;
        }
    }
}

/// 256 clients, each of which puts in one job at a time.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn postgres_single_enqueues(bencher: Bencher) {
    let shared = Shared::new();
    bencher.counter(ItemsCount::new(LIVES)).bench_local(|| {
        shared.runtime.block_on(async {
            let clients = (0..CLIENTS).map(|_| {
                let store = shared.store.clone();
                tokio::spawn(async move {
                    for _ in 0..LIVES / CLIENTS {
                        store.enqueue(vec![job()], NOW).await.expect("enqueue");
                    }
                })
            });
            for client in clients.collect::<Vec<_>>() {
                client.await.expect("a client");
            }
        });
    });
}

#[divan::bench(args = [1_000, 10_000], sample_count = 5, sample_size = 1)]
fn postgres_bulk_enqueue(bencher: Bencher, batch: usize) {
    let shared = Shared::new();
    let calls = 100_000 / batch;
    bencher.counter(ItemsCount::new(calls * batch)).bench_local(|| {
        shared.runtime.block_on(async {
            for _ in 0..calls {
                shared.store.enqueue(vec![job(); batch], NOW).await.expect("enqueue");
            }
        });
    });
}
