//! Promises of `wake` and `due`: whoever waits is woken. A wake-up too many is no fault.

use std::time::Duration;

use futures::FutureExt;
use serde_json::json;

use super::{DOMAIN, KIND, adopt, at, claim_of, claim_one, end, failure, job, put, start, start_family};
use crate::job::{NewJob, Outcome};
use crate::ledger::{Change, Claim, Ledger, Rescue, Wake};

/// How long a wake-up may take before it counts as missing; it should take no time at all, but machines are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes the wake-up that may be kept from earlier calls.
fn drain(wake: &Wake) {
    let _kept = wake.work().now_or_never();
}

async fn expect_work(wake: &Wake, after: &str) {
    assert!(tokio::time::timeout(PATIENCE, wake.work()).await.is_ok(), "no wake-up after {after}");
}

pub async fn work_wakes_its_domain(ledger: &dyn Ledger) {
    let wake = ledger.wake(DOMAIN);
    let id = put(ledger, job(), at(0)).await;
    expect_work(&wake, "enqueue").await;

    let claimed = claim_one(ledger, at(1)).await;
    drain(&wake);
    end(ledger, claimed.lease, Outcome::Interrupted, at(2)).await;
    expect_work(&wake, "an interrupted try").await;

    let claimed = claim_one(ledger, at(3)).await;
    end(ledger, claimed.lease, Outcome::Retry { at: at(10), reason: "busy".to_owned() }, at(4)).await;
    drain(&wake);
    assert_eq!(ledger.release(at(10)).await.expect("release").count, 1);
    expect_work(&wake, "release").await;

    claim_one(ledger, at(11)).await;
    drain(&wake);
    let rescue = Rescue::Domain { domain: DOMAIN.into(), but: "process-2/1".into() };
    assert_eq!(ledger.rescue(rescue).await, Ok(1));
    expect_work(&wake, "rescue").await;

    let claimed = claim_one(ledger, at(12)).await;
    end(ledger, claimed.lease, failure("no"), at(13)).await;
    drain(&wake);
    ledger.change(id, Change::Retry, at(14)).await.expect("retry");
    expect_work(&wake, "a retry by hand").await;

    let claimed = claim_one(ledger, at(15)).await;
    let other = ledger.wake("beta");
    drain(&wake);
    drain(&other);
    let children = vec![job(), NewJob::new("beta", "beta.one", json!({}))];
    assert_eq!(adopt(ledger, claimed.lease, children, at(16)).await.len(), 2);
    expect_work(&wake, "a child").await;
    expect_work(&other, "a child in another domain").await;
}

pub async fn an_earlier_due_time_wakes(ledger: &dyn Ledger) {
    let due = ledger.due();
    put(ledger, job().run_at(at(5_000)), at(0)).await;
    expect_work(&due, "the first delayed job").await;
    put(ledger, job().run_at(at(3_000)), at(0)).await;
    expect_work(&due, "an earlier delayed job").await;
    let claimed = start(ledger, job(), at(0)).await;
    end(ledger, claimed.lease, Outcome::Retry { at: at(2_000), reason: "busy".to_owned() }, at(1)).await;
    expect_work(&due, "an earlier retry").await;
    let claimed = start(ledger, job(), at(1)).await;
    end(ledger, claimed.lease, Outcome::Snoozed { until: at(1_000), reason: "closed".to_owned() }, at(1)).await;
    expect_work(&due, "an earlier snooze").await;
    let parent = start(ledger, job(), at(1)).await;
    adopt(ledger, parent.lease, vec![job().run_at(at(500))], at(2)).await;
    expect_work(&due, "an earlier child").await;
}

pub async fn a_taken_lease_wakes_its_holder(ledger: &dyn Ledger) {
    let cancel = || Change::Cancel { reason: "enough".to_owned() };
    let wake = ledger.wake(DOMAIN);
    let claimed = start(ledger, job(), at(0)).await;
    ledger.change(claimed.id, cancel(), at(1)).await.expect("cancel");
    let woken = tokio::time::timeout(PATIENCE, wake.revoked()).await;
    assert!(woken.is_ok(), "the coordinator learns that its job was cancelled");

    let child = NewJob::new("beta", KIND, json!({}));
    let (parent, _) = start_family(ledger, job(), vec![child], at(2)).await;
    let claim = Claim { domain: "beta".into(), ..claim_of(&[(KIND, 1)], 1, at(3)) };
    assert_eq!(ledger.claim(claim).await.expect("claim").len(), 1);
    ledger.change(parent.id, cancel(), at(4)).await.expect("cancel");
    let beta = ledger.wake("beta");
    let woken = tokio::time::timeout(PATIENCE, beta.revoked()).await;
    assert!(woken.is_ok(), "so does the coordinator of a descendant");
}
