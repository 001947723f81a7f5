//! The two places where commands without a service around them meet the store and the upstreams.

use std::sync::Arc;

use longshore_actors::clock::Clock;
use longshore_actors::events::Events;
use longshore_actors::ledger::Ledger;
use longshore_actors::shutdown::Phases;

use crate::cli::check::Finding;
use crate::cli::exit::Failure;
use crate::config::Config;
use crate::service::{open_store, promidata, upstreams};
use crate::store::Store;

/// Opens the ledger of the configured store; asked when no service listens. An existing store only: a question makes
/// no file.
pub async fn open_ledger(config: &Config) -> Result<Arc<dyn Ledger>, Failure> {
    let path = config.store.url.path();
    if !path.exists() {
        let path = path.display();
        return Err(Failure::unavailable(format!("there is no store at {path}; start the service, or set store.url")));
    }
    Ok(open_store(config, &Clock::system())?.ledger())
}

/// Tries the store and the upstreams of all enabled domains, for `check`.
pub async fn connect(config: &Config) -> Vec<Finding> {
    let mut findings = vec![store(config).await];
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

async fn store(config: &Config) -> Finding {
    let clock = Clock::system();
    let path = config.store.url.path().display().to_string();
    let tried = async {
        let store = open_store(config, &clock).map_err(|error| error.to_string())?;
        let probed = store.probe(clock.now()).await.map_err(|error| error.to_string());
        store.close().await;
        probed
    };
    let what = "store".to_owned();
    match tried.await {
        Ok(()) => Finding { what, ok: true, text: format!("{path} can be written") },
        Err(text) => Finding { what, ok: false, text },
    }
}
