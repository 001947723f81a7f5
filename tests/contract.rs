//! Both ledgers keep every promise of a ledger, and behave as the model does (invariants 1, 3, 4).

use std::cell::RefCell;
use std::sync::Arc;

use longshore::store::Store;
use longshore::store::postgres::{self, Pooler, PostgresStore};
use longshore::store::sqlite::{Settings, SqliteStore, Synchronous};
use longshore_actors::clock::Timestamp;
use longshore_actors::ledger::Ledger;
use longshore_actors::testing::{contract, model};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::DEADLINE;
use crate::support::postgres::Server;

/// What is promised does not hang on the disk's answer, and a hundred files are opened here.
const SETTINGS: Settings = Settings { synchronous: Synchronous::Normal, batch_max: 512, queue_max: 4096 };

fn open(folder: &TempDir, name: &str) -> SqliteStore {
    // The instants of the suites come after this one.
    SqliteStore::open(&folder.path().join(name), SETTINGS, Timestamp(1_700_000_000_000)).unwrap()
}

// Not on a paused clock: that runs ahead to a deadline while the store's own threads are still at work.
#[tokio::test]
async fn the_embedded_ledger_keeps_every_promise() {
    let folder = tempfile::tempdir().unwrap();
    let stores = RefCell::new(Vec::new());
    contract::all(async || {
        let name = format!("{}.db", stores.borrow().len());
        let store = open(&folder, &name);
        let ledger: Arc<dyn Ledger> = store.ledger();
        stores.borrow_mut().push(store);
        ledger
    })
    .await;
    assert_eq!(stores.borrow().len(), contract::PROMISES.len());
    for store in stores.take() {
        store.close().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_ledger_is_as_the_model(choices in proptest::collection::vec(any::<[u8; 4]>(), 0..160)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let difference = runtime.block_on(async {
            let store = open(&folder, "model.db");
            let difference = model::check(&*store.ledger(), &model::steps(&choices)).await.err();
            store.close().await;
            difference
        });
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    }
}

/// A server, and a database on it with the schema and nothing else, from which others are copied.
struct Postgres {
    server: Arc<Server>,
    template: String,
}

impl Postgres {
    async fn new() -> Self {
        let server = Server::shared();
        let url = server.database();
        let template = url.rsplit('/').next().unwrap().to_owned();
        open_postgres(url, Pooler::Session).await.close().await;
        Postgres { server, template }
    }

    async fn open(&self, pooler: Pooler) -> PostgresStore {
        open_postgres(self.server.copy_of(&self.template), pooler).await
    }
}

async fn open_postgres(url: String, pooler: Pooler) -> PostgresStore {
    let (connect_timeout, statement_timeout) = (DEADLINE, DEADLINE);
    let settings = postgres::Settings {
        url,
        pooler,
        connections: 4,
        connect_timeout,
        statement_timeout,
        ..postgres::Settings::default()
    };
    PostgresStore::open(settings, Timestamp(1_700_000_000_000)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_ledger_keeps_every_promise() {
    keeps_every_promise(Pooler::Session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_ledger_keeps_every_promise_without_sessions() {
    keeps_every_promise(Pooler::Transaction).await;
}

async fn keeps_every_promise(pooler: Pooler) {
    let postgres = Postgres::new().await;
    let last = RefCell::new(None::<PostgresStore>);
    contract::all(async || {
        let store = postgres.open(pooler).await;
        let ledger: Arc<dyn Ledger> = store.ledger();
        // The one before is done with.
        let before = last.borrow_mut().replace(store);
        if let Some(before) = before {
            before.close().await;
        }
        ledger
    })
    .await;
}

#[test]
fn the_shared_ledger_is_as_the_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let postgres = runtime.block_on(Postgres::new());
    // Each case has a database of its own and a round trip for each call: few, and the embedded ledger has the rest.
    let config =
        ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 64, ..ProptestConfig::default() };
    proptest!(config, |(choices in proptest::collection::vec(any::<[u8; 4]>(), 0..160))| {
        let difference = runtime.block_on(async {
            let store = postgres.open(Pooler::Session).await;
            let difference = model::check(&*store.ledger(), &model::steps(&choices)).await.err();
            store.close().await;
            difference
        });
        prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    });
}
