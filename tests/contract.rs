//! The embedded ledger keeps every promise of a ledger, and behaves as the model does (invariants 1, 3, 4).

use std::cell::RefCell;
use std::sync::Arc;

use longshore::store::Store;
use longshore::store::sqlite::{Settings, SqliteStore, Synchronous};
use longshore_actors::clock::Timestamp;
use longshore_actors::ledger::Ledger;
use longshore_actors::testing::{contract, model};
use proptest::prelude::*;
use tempfile::TempDir;

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
