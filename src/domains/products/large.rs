//! A list of 200,000 lines, one in a hundred changed, from the connection to the children in the ledger.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_actors::breaker::{Breaker, BreakerPolicy};
use longshore_actors::checkpoint::Part;
use longshore_actors::clock::{Clock, Timestamp};
use longshore_actors::domain::Delivery;
use longshore_actors::events::Events;
use longshore_actors::job::{Job, NewJob};
use longshore_actors::ledger::{Claim, Filter, Receipt};
use longshore_actors::shutdown::Phases;
use longshore_actors::stage::Stage;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::config::Secret;
use crate::domains::products::model::{Code, Orders, Request};
use crate::domains::products::{Fetch, FetchSettings, NAME, PRODUCTS, Promidata, SUPPLIER, Settings, Transform};
use crate::store::Store;
use crate::store::sqlite::{self, SqliteStore};
use crate::targets::store::{StoreTarget, StoreUpload};
use crate::upstreams::{Hosts, UpstreamSettings, Validators};

const LINES: u32 = 200_000;
const PROFILE: &str = "849c892e-recognisable-profile";
const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// What came of it.
struct Outcome {
    took: Duration,
    changed: usize,
    seen: usize,
    children: usize,
    /// Resident memory before and at its highest, in KiB.
    memory: Option<(u64, u64)>,
}

/// Every `suppliers`-th line is of A23. The store knows all families, one in a hundred with another hash.
async fn sync(suppliers: u32) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let open = || SqliteStore::open(&path, sqlite::Settings::default(), NOW).unwrap();
    open().close().await;
    let conn = rusqlite::Connection::open(&path).unwrap();
    let known = "INSERT INTO products (sku, supplier_code, feed_hash, variants, default_variants, secondary_categories,
                     filters, raw, content_hash, changed_at)
                 WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?1)
                 SELECT format('A%d-%d', 23 + n % ?2, n), format('A%d', 23 + n % ?2), format('%040X', n), 0, '{}', '[]',
                     '{}', '{}', zeroblob(16), '' FROM numbers";
    conn.execute(known, [LINES, suppliers]).unwrap();
    drop(conn);
    let store: Arc<dyn Store> = Arc::new(open());

    let base = serve(suppliers).await;
    let settings = UpstreamSettings::new("promidata", base.clone());
    let hosts = Hosts::new(settings, &[], Phases::default(), Events::new(1)).unwrap();
    let client = Promidata::new(hosts, &format!("{base}/Live"), Secret::from(PROFILE), 64 << 20, 1 << 20);
    let products = Settings::default();
    let settings = FetchSettings { client, store: store.clone(), products: products.clone() };
    let mut fetch = Fetch::open(&settings).await.unwrap();
    let mut transform = Transform::open(&products).await.unwrap();
    let clock = Clock::following_tokio(NOW);
    let target = StoreTarget {
        store: store.clone(),
        breaker: Arc::new(Breaker::new("store", BreakerPolicy::default())),
        objects: None,
        clock,
        dry_run: false,
    };
    let mut upload = StoreUpload::open(&target).await.unwrap();
    let job = claimed(&store).await;

    let before = memory();
    let started = Instant::now();
    let code = Code::parse("A23").unwrap();
    let request = Request::Supplier { code, orders: Orders::default(), since: Validators::default() };
    let fetched = fetch.run(Arc::new(request)).await.unwrap();
    assert_eq!((fetched.total, fetched.warning), (Some(u64::from(LINES / suppliers)), None));
    let done = transform.run(Arc::new(fetched.answer)).await.unwrap();
    let (changed, seen) = (done.children.len(), done.batch.seen.len());
    let receipt = Receipt { children: done.children, ..Receipt::new(job.lease, Part::Page(0)) };
    let delivery = Delivery { batch: done.batch, receipt, received: done.received };
    upload.run(Arc::new(delivery)).await.unwrap();
    let took = started.elapsed();
    let memory = before.zip(memory()).map(|((before, _), (_, highest))| (before, highest));

    let ledger = store.ledger();
    let stats = ledger.stats().await.unwrap();
    let children = stats.kinds.iter().find(|kind| kind.kind == "products.family").map_or(0, |kind| kind.waiting);
    let one = ledger.jobs(Filter { kind: Some("products.family".into()), limit: 1, ..Filter::default() });
    let url = one.await.unwrap()[0].params["url"].to_string();
    assert!(url.contains("/Live/{profile}/A23/A23-") && !url.contains(PROFILE), "{url}");
    assert_eq!(store.count_rows(&PRODUCTS).await.unwrap(), u64::from(LINES), "nothing is removed by a page");
    store.close().await;
    Outcome { took, changed, seen, children: children as usize, memory }
}

async fn claimed(store: &Arc<dyn Store>) -> Job {
    let ledger = store.ledger();
    ledger.enqueue(vec![NewJob::new(NAME, SUPPLIER, json!({ "supplier": "A23" }))], NOW).await.unwrap();
    let until = NOW.plus(Duration::from_secs(3_600));
    let kinds = vec![(SUPPLIER.into(), 1)];
    let claim = Claim { domain: NAME.into(), owner: "test".into(), max: 1, kinds, now: NOW, until };
    ledger.claim(claim).await.unwrap().remove(0)
}

/// Answers everybody with the list, piece by piece, without ever holding it.
async fn serve(suppliers: u32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let _ = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        for part in 0..LINES / 500 {
            let lines = (part * 500..(part + 1) * 500).map(|n| {
                let (code, hash) =
                    (23 + n % suppliers, if (n / suppliers).is_multiple_of(100) { n + LINES } else { n });
                format!("http://{address}/Live/{PROFILE}/A{code}/A{code}-{n}.json|{hash:040X}\r\n")
            });
            let text: String = lines.collect();
            stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    });
    format!("http://{address}")
}

/// Resident memory now and at its highest, in KiB, where the system tells.
fn memory() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((of("VmRSS:")?, of("VmHWM:")?))
}

#[tokio::test]
async fn a_large_list_gives_a_child_for_each_change_and_keeps_only_its_own_keys() {
    let Outcome { changed, seen, children, .. } = sync(50).await;
    assert_eq!((seen, changed, children), (4_000, 40, 40));
}

/// `cargo test --release --lib -- --ignored --nocapture large_list_speed`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn large_list_speed() {
    for suppliers in [50, 1] {
        let Outcome { took, changed, seen, children, memory } = sync(suppliers).await;
        assert_eq!((seen, children), ((LINES / suppliers) as usize, changed));
        println!("{LINES} lines, {seen} of the supplier, {changed} changed: {took:?} to the children, KiB {memory:?}");
    }
}
