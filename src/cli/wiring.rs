//! The two places where commands without a service around them meet the store, the object store and the upstreams.

use std::sync::Arc;

use longshore_actors::clock::Clock;
use longshore_actors::events::Events;
use longshore_actors::ledger::{Ledger, LedgerError};
use longshore_actors::shutdown::Phases;

use crate::cli::check::Finding;
use crate::cli::exit::Failure;
use crate::config::{Config, StoreUrl};
use crate::service::{open_objects, open_store, process, promidata, upstreams};
use crate::store::{NodeStatus, Store, sqlite};

/// Opens the ledger of the configured store; asked when no service listens. An existing store only: a question makes
/// no file.
pub async fn open_ledger(config: &Config) -> Result<Arc<dyn Ledger>, Failure> {
    if let StoreUrl::Sqlite(path) = &config.store.url
        && !path.exists()
    {
        let path = path.display();
        return Err(Failure::unavailable(format!("there is no store at {path}; start the service, or set store.url")));
    }
    let clock = Clock::system();
    Ok(open_store(config, &clock, process(config, &clock)).await?.ledger())
}

/// Whether the process `pid` is one that works on the configured store.
pub async fn is_owner(config: &Config, pid: u32) -> Result<bool, Failure> {
    match &config.store.url {
        StoreUrl::Sqlite(path) => Ok(sqlite::owner(path) == Some(pid)),
        StoreUrl::Postgres(_) => {
            let clock = Clock::system();
            let store = open_store(config, &clock, process(config, &clock)).await?;
            let nodes = store.nodes().await;
            store.close().await;
            let this_host = |node: &NodeStatus| node.alive && node.process.rsplit('-').nth(1) == Some(&pid.to_string());
            Ok(nodes?.iter().any(this_host))
        }
    }
}

/// Tries the store, the object store and the upstreams of all enabled domains, for `check`.
pub async fn connect(config: &Config) -> Vec<Finding> {
    let mut findings = vec![store(config).await, objects(config).await];
    match upstreams(config, &Phases::default(), &Events::new(1)) {
        Ok(upstreams) => {
            for (upstream, path) in upstreams {
                let what = format!("upstream {}", upstream.name());
                let probe = upstream.probe(path).await;
                let text = match probe.reason {
                    Some(reason) => reason,
                    None => format!("answered in {} ms", probe.took.as_millis()),
                };
                findings.push(Finding { what, ok: probe.ok, text });
            }
        }
        Err(error) => findings.push(Finding { what: "upstreams".to_owned(), ok: false, text: error.to_string() }),
    }
    // That it cannot be made was told with the others.
    if let Ok(Some(promidata)) = promidata(config, &Phases::default(), &Events::new(1)) {
        let probe = promidata.probe().await;
        let text = probe.reason.unwrap_or_else(|| format!("answered in {} ms", probe.took.as_millis()));
        findings.push(Finding { what: format!("upstream {}", promidata.base().name()), ok: probe.ok, text });
    }
    findings
}

async fn objects(config: &Config) -> Finding {
    let what = "objects".to_owned();
    let objects = match open_objects(config, &Phases::default(), &Events::new(1)) {
        Ok(objects) => objects,
        Err(error) => return Finding { what, ok: false, text: error.to_string() },
    };
    match objects.probe().await {
        Ok(()) => Finding { what, ok: true, text: format!("{} can be written", objects.place()) },
        Err(fault) => Finding { what, ok: false, text: fault.to_string() },
    }
}

async fn store(config: &Config) -> Finding {
    let clock = Clock::system();
    let tried = async {
        let store = open_store(config, &clock, process(config, &clock)).await.map_err(|error| error.to_string())?;
        let told = tell(&*store, &clock).await;
        store.close().await;
        told.map_err(|error| error.to_string())
    };
    let what = "store".to_owned();
    match tried.await {
        Ok((ok, text)) => Finding { what, ok, text: format!("{} {text}", config.store.url.place()) },
        Err(text) => Finding { what, ok: false, text },
    }
}

/// Whether all is well with a store that opened, and what is worth saying.
async fn tell(store: &dyn Store, clock: &Clock) -> Result<(bool, String), LedgerError> {
    store.probe(clock.now()).await?;
    let mut text = "can be written".to_owned();
    let nodes: Vec<String> = store.nodes().await?.into_iter().filter(|node| node.alive).map(|node| node.name).collect();
    if !nodes.is_empty() {
        text.push_str(&format!("; nodes: {}", nodes.join(", ")));
    }
    let exposed = store.exposed().await?;
    for line in &exposed {
        text.push('\n');
        text.push_str(line);
    }
    Ok((exposed.is_empty(), text))
}
