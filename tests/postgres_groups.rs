//! Pages of one job that are committed together: one transaction, and each page counts once.

use std::slice::from_ref;
use std::sync::Arc;

use longshore::domains::catalog::GROUPS;
use longshore::store::batch::{Batch, Cell, Rows};
use longshore::store::postgres::{PostgresStore, Settings};
use longshore::store::{Committed, Store};
use longshore::targets::store::{StoreTarget, StoreUpload};
use longshore_actors::breaker::{Breaker, BreakerPolicy};
use longshore_actors::checkpoint::{Counts, Part};
use longshore_actors::clock::{Clock, Timestamp};
use longshore_actors::domain::Delivery;
use longshore_actors::job::{Fault, Job, NewJob};
use longshore_actors::ledger::{Claim, Filter, JobRecord, Ledger, LedgerError, Receipt, Reject};
use longshore_actors::stage::Stage;
use serde_json::json;

use crate::support::postgres::Server;
use crate::support::proxy::{Proxy, Wire};

const NOW: Timestamp = Timestamp(1_750_000_000_000);

async fn open(url: &str) -> PostgresStore {
    let settings = Settings { url: url.to_owned(), connections: 4, process: "here-1".into(), ..Settings::default() };
    PostgresStore::open(settings, NOW).await.unwrap()
}

fn job() -> NewJob {
    NewJob::new("catalog", "catalog.group", json!({"group": "a"}))
}

async fn start(store: &PostgresStore) -> Job {
    store.enqueue(vec![job()], NOW).await.unwrap();
    let claim = Claim {
        domain: "catalog".into(),
        owner: "here-1/1".into(),
        max: 1,
        kinds: vec![("catalog.group".into(), 1)],
        now: NOW,
        until: NOW.plus(std::time::Duration::from_secs(3600)),
    };
    store.claim(claim).await.unwrap().remove(0)
}

async fn show(store: &PostgresStore, job: &Job) -> JobRecord {
    store.jobs(Filter { ids: vec![job.id], ..Filter::default() }).await.unwrap().remove(0)
}

/// A page of groups, each with a description.
fn page(job: &Job, number: u32, groups: &[(&str, &str)]) -> Arc<Delivery<Batch>> {
    let mut rows = Rows::new(&GROUPS);
    for (name, description) in groups {
        rows.push(vec![Cell::Text((*name).into()), Cell::Text((*description).into()), Cell::Null], vec![]);
    }
    let seen = groups.iter().map(|(name, _)| (*name).to_owned()).collect();
    let batch = Batch { rows: vec![rows], seen, ..Batch::default() };
    let receipt = Receipt::new(job.lease, Part::Page(number));
    Arc::new(Delivery { batch, receipt, received: groups.len() as u64 })
}

fn counts(committed: &[Committed]) -> Vec<Counts> {
    committed.iter().map(|committed| committed.counts).collect()
}

fn received(received: u64) -> Counts {
    Counts { received, ..Counts::default() }
}

#[tokio::test]
async fn pages_that_come_together_are_one_transaction_and_of_one_key_the_last_page_wins() {
    let server = Server::shared();
    let url = server.database();
    let database = url.rsplit('/').next().unwrap();
    let store = open(&url).await;
    let job = start(&store).await;
    let with = |delivery: Arc<Delivery<Batch>>, children, rejects| {
        let Delivery { batch, receipt, received } = Arc::into_inner(delivery).unwrap();
        let total = Some(9);
        Arc::new(Delivery { batch, receipt: Receipt { children, rejects, total, ..receipt }, received })
    };
    let reject = Reject { key: Some("bad".into()), reason: "no name".into(), raw: "{}".into() };
    let pages = [
        with(page(&job, 0, &[("a", "old"), ("b", "b")]), vec![self::job()], vec![]),
        with(page(&job, 1, &[("c", "c"), ("a", "new")]), vec![self::job(), self::job()], vec![reject]),
        page(&job, 3, &[("d", "d")]),
    ];
    let committed = store.writer().await.unwrap().commit(&pages, NOW).await.unwrap();
    let first = Counts { inserted: 4, repeated: 1, ..received(2) };
    assert_eq!(counts(&committed), [first, Counts { rejected: 1, ..received(2) }, received(1)]);

    let transactions = server.psql(database, "SELECT count(DISTINCT xmin::text), count(*) FROM catalog_groups");
    assert_eq!(transactions.trim(), "1|4");
    let a = server.psql(database, "SELECT description FROM catalog_groups WHERE name = 'a'");
    assert_eq!(a.trim(), "new");
    let seen = server.psql(database, "SELECT string_agg(key, '' ORDER BY key) FROM snapshot_keys, unnest(keys) AS key");
    assert_eq!(seen.trim(), "aabcd");
    let row = show(&store, &job).await;
    assert_eq!(row.counts, Counts { received: 5, inserted: 4, repeated: 1, rejected: 1, ..Counts::default() });
    assert_eq!((row.checkpoint.prefix, row.checkpoint.beyond.keys().copied().collect::<Vec<_>>()), (2, vec![3]));
    assert_eq!((row.checkpoint.total, row.children.open), (Some(9), 3));
    assert_eq!(store.rejects(None, 9).await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_page_that_is_held_already_is_left_out_and_counts_nothing() {
    let server = Server::shared();
    let store = open(&server.database()).await;
    let job = start(&store).await;
    let (first, second) = (page(&job, 0, &[("a", "a")]), page(&job, 1, &[("b", "b")]));
    let mut writer = store.writer().await.unwrap();
    writer.commit(from_ref(&first), NOW).await.unwrap();
    let both = [first, second];
    let committed = writer.commit(&both, NOW).await.unwrap();
    assert_eq!(counts(&committed), [Counts::default(), Counts { inserted: 1, ..received(1) }]);
    assert_eq!(counts(&writer.commit(&both, NOW).await.unwrap()), [Counts::default(); 2]);
    assert_eq!(writer.commit(&[], NOW).await, Ok(vec![]));
    assert_eq!(show(&store, &job).await.counts, Counts { inserted: 2, ..received(2) });
    store.close().await;
}

/// Groups that have a page in common meet at the job's lock: whoever comes second finds it held, and starts anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_whose_groups_overlap_count_each_page_once() {
    let server = Server::shared();
    let store = open(&server.database()).await;
    let job = start(&store).await;
    let all: Vec<_> = (0..40).map(|number| page(&job, number, &[(&format!("group {number}"), "")])).collect();
    let write = async |pages: Vec<Arc<Delivery<Batch>>>| {
        let mut writer = store.writer().await.unwrap();
        for group in pages.chunks(5) {
            writer.commit(group, NOW).await.unwrap();
        }
    };
    let turned = all.iter().skip(2).chain(&all[..2]).cloned().collect();
    tokio::join!(write(all.clone()), write(turned));
    let row = show(&store, &job).await;
    assert_eq!((row.counts, row.checkpoint.prefix), (Counts { inserted: 40, ..received(40) }, 40));
    assert_eq!(store.count_rows(&GROUPS).await, Ok(40));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_commit_is_lost_counts_once() {
    let server = Server::shared();
    let url = server.database();
    let proxy = Proxy::new(server.port()).await;
    let store = open(&proxy.through(&url)).await;
    let job = start(&store).await;
    let pages = [page(&job, 0, &[("a", "a")]), page(&job, 1, &[("b", "b")])];
    let mut writer = store.writer().await.unwrap();
    proxy.set(Wire::LosesTheCommit);
    let lost = writer.commit(&pages, NOW).await;
    assert!(matches!(lost, Err(LedgerError::Unavailable(_))), "{lost:?}");
    assert_eq!(counts(&writer.commit(&pages, NOW).await.unwrap()), [Counts::default(); 2]);
    assert_eq!(show(&store, &job).await.counts, Counts { inserted: 2, ..received(2) });
    store.close().await;
}

async fn upload(store: &PostgresStore) -> StoreUpload {
    let target = StoreTarget {
        store: Arc::new(store.clone()),
        breaker: Arc::new(Breaker::new("store", BreakerPolicy::default())),
        objects: None,
        clock: Clock::system(),
        dry_run: false,
    };
    StoreUpload::open(&target).await.unwrap()
}

#[tokio::test]
async fn a_page_that_the_database_refuses_fails_alone() {
    let server = Server::shared();
    let store = open(&server.database()).await;
    let job = start(&store).await;
    // Beyond what an index takes, and of no pattern that could be compressed.
    let long: String =
        (0..600).map(|number: u32| blake3::hash(&number.to_le_bytes()).to_hex()[..16].to_owned()).collect();
    let pages = vec![page(&job, 0, &[("a", "a")]), page(&job, 1, &[(&long, "")]), page(&job, 2, &[("c", "c")])];
    let mut upload = upload(&store).await;
    assert!(upload.group_max() > 1);
    let results = upload.run_group(pages).await;
    let uploaded = results.iter().map(|result| result.as_ref().map(|uploaded| uploaded.counts));
    let [first, second, third] = uploaded.collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((first, third), (Ok(Counts { inserted: 1, ..received(1) }), Ok(Counts { inserted: 1, ..received(1) })));
    assert!(matches!(second, Err(Fault::Fail { reason }) if reason.contains("index")), "{second:?}");
    let row = show(&store, &job).await;
    assert_eq!((row.checkpoint.prefix, row.counts), (1, Counts { inserted: 2, ..received(2) }));
    store.close().await;
}

/// Whoever lost the lease is told so for every page, and nothing of them is kept.
#[tokio::test]
async fn a_group_under_a_stale_lease_is_refused_as_a_whole() {
    let server = Server::shared();
    let store = open(&server.database()).await;
    let job = start(&store).await;
    let pages = vec![page(&job, 0, &[("a", "a")]), page(&job, 1, &[("b", "b")])];
    assert_eq!(store.rescue_process("here-1").await, Ok(1));
    let results = upload(&store).await.run_group(pages).await;
    assert!(results.iter().all(|result| *result == Err(Fault::Cancelled)), "{results:?}");
    assert_eq!(store.count_rows(&GROUPS).await, Ok(0));
    assert_eq!(store.stats().await.unwrap().stale_writes, 1);
    store.close().await;
}
