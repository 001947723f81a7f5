//! The wiring: everything is built here and nowhere else.
//!
//! ```text
//! Config ─▶ store ─▶ upstreams ─▶ domains ─▶ Tree: scheduler, upkeep, http, a coordinator per domain
//!                                              └─▶ Service: enqueue, reload, shutdown
//! ```
//!
//! Invariants: the store opens before anything runs and closes after everything has ended. Configuration is taken
//! apart field by field, so that a forgotten part is a compile error.

mod door;
mod settings;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use longshore_actors::breaker::BreakerPolicy;
use longshore_actors::child::{Child, DomainChild, ServiceChild};
use longshore_actors::clock::Clock;
use longshore_actors::domain::Domain;
use longshore_actors::events::Events;
use longshore_actors::ledger::Ledger;
use longshore_actors::restart::RestartPolicy;
use longshore_actors::runtime::Runtime;
use longshore_actors::shutdown::{Ending, Phase, Phases};
use longshore_actors::supervisor::Tree;
use longshore_actors::threads::Threads;

use crate::admin::{Admin, DomainInfo};
use crate::config::{self, Config};
use crate::domains::catalog::{self, Catalog};
use crate::domains::products::{self, Products, Promidata};
use crate::http::{BindError, HttpServer, HttpSettings};
use crate::schedule::scheduler::{Scheduler, SchedulesHandle};
use crate::schedule::upkeep::{HealthProbe, Upkeep};
use crate::schedule::when::WhenError;
use crate::service::door::TreeDoor;
use crate::service::settings::{
    burst, catalog_settings, domain_settings, products_settings, schedules, upkeep_settings,
};
use crate::store::Store;
use crate::store::sqlite::{self, OpenError, SqliteStore};
use crate::targets::objects::Objects;
use crate::upstreams::{Auth, Hosts, Upstream, UpstreamError, UpstreamSettings};

/// Which parts beside the domains run.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    pub scheduler: bool,
    pub http: bool,
    /// Uploads report what they would change and write nothing; jobs stand in a ledger of their own.
    pub dry_run: bool,
    /// A transform worker of each domain panics on every so-manieth page, to be watched being restarted.
    pub panic_every: Option<u32>,
}

impl Parts {
    pub const ALL: Parts = Parts { scheduler: true, http: true, dry_run: false, panic_every: None };
    /// What one sync needs.
    pub const SYNC: Parts = Parts { scheduler: false, http: false, dry_run: false, panic_every: None };
}

/// A service that runs.
pub struct Service {
    pub tree: Tree,
    pub store: Arc<dyn Store>,
    pub ledger: Arc<dyn Ledger>,
    pub admin: Arc<Admin>,
    /// Where it listens, if it does.
    pub address: Option<std::net::SocketAddr>,
    schedules: SchedulesHandle,
    upkeep: Arc<Upkeep>,
    upstreams: HashMap<&'static str, Upstream>,
    /// The hosts of the products, each an upstream.
    promidata: Option<Promidata>,
    /// Of a dry run: its ledger, and the folder that goes with it.
    scratch: Option<(SqliteStore, tempfile::TempDir)>,
}

/// Why the service cannot start: what, where, what to do.
#[derive(Debug)]
pub enum StartError {
    Store(OpenError),
    Scratch(std::io::Error),
    Upstream(UpstreamError),
    Schedule { name: String, error: WhenError },
    Bind(BindError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Store(error) => error.fmt(f),
            StartError::Scratch(error) => write!(f, "cannot make a folder for the dry run's ledger: {error}"),
            StartError::Upstream(error) => error.fmt(f),
            StartError::Schedule { name, error } => write!(f, "schedule {name}: {error}"),
            StartError::Bind(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// Runs `work` on an actix system whose connections stand on a shared runtime with `threads` threads.
pub fn with_system<T, F>(threads: usize, work: impl FnOnce(Threads) -> F) -> std::io::Result<T>
where
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("longshore-io")
        .enable_all()
        .build()?;
    let runtime = Arc::new(runtime);
    let shared = runtime.clone();
    let system = actix::System::with_tokio_rt(move || shared);
    Ok(system.block_on(work(Threads::Own(runtime))))
}

/// Opens the configured store, which takes its lock. Blocks; call it before the actors start.
pub fn open_store(config: &Config, clock: &Clock) -> Result<SqliteStore, StartError> {
    let config::Store { url, synchronous } = &config.store;
    let synchronous = match synchronous {
        config::Synchronous::Full => sqlite::Synchronous::Full,
        config::Synchronous::Normal => sqlite::Synchronous::Normal,
    };
    open_file(url.path(), synchronous, clock)
}

fn open_file(path: &Path, synchronous: sqlite::Synchronous, clock: &Clock) -> Result<SqliteStore, StartError> {
    let settings = sqlite::Settings { synchronous, ..sqlite::Settings::default() };
    SqliteStore::open(path, settings, clock.now()).map_err(StartError::Store)
}

impl Service {
    /// Builds and starts everything. Call it within [`with_system`].
    pub fn start(config: &Config, parts: Parts, threads: Threads) -> Result<Service, StartError> {
        let clock = Clock::system();
        let scratch = if parts.dry_run { Some(scratch(&clock)?) } else { None };
        let store = match &scratch {
            // A dry run makes no file where there is none: nothing is in the store then.
            Some((scratch, _)) if !config.store.url.path().exists() => scratch.clone(),
            Some((_, folder)) => open_copy(config.store.url.path(), folder.path(), &clock)?,
            None => open_store(config, &clock)?,
        };
        let ledger = scratch.as_ref().map_or_else(|| store.ledger(), |(scratch, _)| scratch.ledger());
        let store: Arc<dyn Store> = Arc::new(store);
        let runtime = Runtime::new(ledger.clone(), clock.clone(), threads);

        let scheduler = Scheduler::new(schedules(config)?, store.clone(), clock.clone());
        let schedules = scheduler.handle();
        let mut domains: Vec<Box<dyn Child>> = Vec::new();
        let mut infos = Vec::new();
        let mut upstreams = HashMap::new();
        let mut probes: Vec<Box<dyn HealthProbe>> = Vec::new();
        // One block a domain; a new one is added here.
        let config::Domains { catalog, products } = &config.domains;
        if catalog.domain.enabled {
            let upstream = catalog_upstream(&catalog.domain, &runtime.phases, &runtime.events)?;
            upstreams.insert(catalog::NAME, upstream.clone());
            probes.push(Box::new(UpstreamProbe { upstream: upstream.clone(), path: catalog::HEALTH_PATH }));
            let settings = catalog_settings(catalog, parts);
            let domain = Catalog::new(settings, upstream, store.clone(), clock.clone());
            infos.push(info(&domain));
            domains.push(Box::new(DomainChild::new(domain, domain_settings("catalog", &catalog.domain, config))));
        }
        let promidata = promidata(config, &runtime.phases, &runtime.events)?;
        if let Some(client) = promidata.clone() {
            probes.push(Box::new(ListProbe { client: client.clone() }));
            let settings = products_settings(products, parts);
            let domain = Products::new(settings, client, store.clone(), objects(config), clock.clone());
            infos.push(info(&domain));
            let settings = domain_settings(products::NAME, &products.domain, config);
            domains.push(Box::new(DomainChild::new(domain, settings)));
        }

        let tree_slot = Arc::new(TreeDoor::default());
        let admin = Arc::new(Admin {
            store: store.clone(),
            board: runtime.board.clone(),
            tree: tree_slot.clone(),
            schedules: schedules.clone(),
            phases: runtime.phases.clone(),
            domains: infos,
        });

        let mut children: Vec<Box<dyn Child>> = Vec::new();
        if parts.scheduler {
            children.push(scheduler_child(scheduler, &runtime));
        }
        let upkeep = Upkeep::new(ledger.clone(), upkeep_settings(config), probes, runtime.board.clone());
        let upkeep = Arc::new(upkeep);
        children.push(upkeep_child(upkeep.clone(), &runtime));
        let mut address = None;
        if parts.http {
            let config::Service { listen, admin_token, shutdown_grace: _, threads: _ } = &config.service;
            let admin_token = admin_token.as_ref().map(|token| token.expose().into());
            let server = HttpServer::bind(HttpSettings { listen: *listen, admin_token }, admin.clone())
                .map_err(StartError::Bind)?;
            address = Some(server.address());
            children.push(http_child(server, &runtime));
        }
        children.extend(domains);
        let tree = Tree::start(runtime, children);
        tree_slot.set(tree.clone());
        Ok(Service { tree, store, ledger, admin, address, schedules, upkeep, upstreams, promidata, scratch })
    }

    /// Applies what can change while it runs; the caller has told the difference.
    pub fn reload(&self, config: &Config) -> Result<(), StartError> {
        let schedules = schedules(config)?;
        for (name, domain) in config.domains.all() {
            // A domain that was not enabled at the start waits for the next one.
            let _ = self.tree.change(name, |settings| *settings = domain_settings(name, domain, config));
            if let Some(upstream) = self.upstreams.get(name)
                && let Err(error) = upstream.set_rate(Some(domain.rate_per_second), burst(domain.rate_per_second))
            {
                tracing::warn!(domain = name, reason = %error, "set rate");
            }
            if name == products::NAME
                && let Some(promidata) = &self.promidata
                && let Err(error) = promidata.set_rate(Some(domain.rate_per_second), burst(domain.rate_per_second))
            {
                tracing::warn!(domain = name, reason = %error, "set rate");
            }
        }
        self.schedules.replace(schedules);
        self.upkeep.set(upkeep_settings(config));
        Ok(())
    }

    /// Quiet, drain, stop, and then closes the store; all within the grace and a little.
    pub async fn shutdown(self, grace: Duration) -> Ending {
        let Service { tree, store, ledger, admin, upkeep, scratch, .. } = self;
        let ending = tree.shutdown(grace).await;
        drop((ledger, admin, upkeep, tree));
        // The store answers what it has accepted; a disk that hangs must not hang the process.
        if tokio::time::timeout(CLOSE, store.close()).await.is_err() {
            tracing::warn!("the store did not close in time; what was acknowledged is durable");
        }
        if let Some((scratch, folder)) = scratch {
            scratch.close().await;
            drop(folder);
        }
        ending
    }
}

/// How long closing the store may take after everything else has ended.
const CLOSE: Duration = Duration::from_secs(3);

/// A dry run reads a copy: opening a store can migrate it, and gives back what was active.
fn open_copy(store: &Path, folder: &Path, clock: &Clock) -> Result<SqliteStore, StartError> {
    let copy = folder.join("store.db");
    sqlite::copy(store, &copy).map_err(StartError::Store)?;
    open_file(&copy, sqlite::Synchronous::Normal, clock)
}

fn scratch(clock: &Clock) -> Result<(SqliteStore, tempfile::TempDir), StartError> {
    let folder = tempfile::Builder::new().prefix("longshore-dry-run").tempdir().map_err(StartError::Scratch)?;
    // It lives as long as the command; nothing in it needs to survive a power cut.
    let store = open_file(&folder.path().join("ledger.db"), sqlite::Synchronous::Normal, clock)?;
    Ok((store, folder))
}

fn info(domain: &impl Domain) -> DomainInfo {
    let kinds = domain.kinds().iter().map(|&kind| kind.to_owned()).collect();
    DomainInfo { name: domain.name().to_owned(), kinds }
}

/// The upstreams of all enabled domains, each with the path that says how it is.
pub fn upstreams(
    config: &Config,
    phases: &Phases,
    events: &Events,
) -> Result<Vec<(Upstream, &'static str)>, StartError> {
    let config::Domains { catalog, products: _ } = &config.domains;
    let mut upstreams = Vec::new();
    if catalog.domain.enabled {
        upstreams.push((catalog_upstream(&catalog.domain, phases, events)?, catalog::HEALTH_PATH));
    }
    Ok(upstreams)
}

/// Whether everything that is made of the configuration alone can be made. Sends nothing.
///
/// # Errors
/// A schedule that never fires, an upstream whose settings make no client.
pub fn try_settings(config: &Config) -> Result<(), StartError> {
    schedules(config)?;
    promidata(config, &Phases::default(), &Events::new(1))?;
    upstreams(config, &Phases::default(), &Events::new(1)).map(drop)
}

/// The hosts of the products, if the domain is enabled. They have a probe of their own: the list is too long to be read
/// for it.
pub fn promidata(config: &Config, phases: &Phases, events: &Events) -> Result<Option<Promidata>, StartError> {
    let config::Products { domain, own } = &config.domains.products;
    // Enabled without a profile is refused before anything starts.
    let (true, Some(profile)) = (domain.enabled, own.profile.clone()) else { return Ok(None) };
    let settings = UpstreamSettings { path_secret: Some(profile.clone()), ..settings_of(products::PROVIDER, domain) };
    let hosts = Hosts::new(settings, &own.hosts, phases.clone(), events.clone()).map_err(StartError::Upstream)?;
    Ok(Some(Promidata::new(hosts, &domain.base_url, profile, domain.body_max, own.image_max)))
}

/// Files go to a folder beside the store.
fn objects(config: &Config) -> Objects {
    let store = config.store.url.path();
    Objects::folder(store.parent().map_or_else(|| "objects".into(), |folder| folder.join("objects")))
}

fn catalog_upstream(domain: &config::Domain, phases: &Phases, events: &Events) -> Result<Upstream, StartError> {
    upstream(catalog::PROVIDER, catalog::KEY_HEADER, domain, phases, events)
}

fn upstream(
    provider: &str,
    key_header: &str,
    domain: &config::Domain,
    phases: &Phases,
    events: &Events,
) -> Result<Upstream, StartError> {
    let auth = domain.api_key.clone().map(|key| Auth::header(key_header, key));
    let settings = UpstreamSettings { auth, ..settings_of(provider, domain) };
    Upstream::new(settings, phases.clone(), events.clone()).map_err(StartError::Upstream)
}

/// What every upstream has from its domain.
fn settings_of(provider: &str, domain: &config::Domain) -> UpstreamSettings {
    let config::Breaker { failures, open_for, open_max } = domain.breaker;
    UpstreamSettings {
        rate_per_second: Some(domain.rate_per_second),
        burst: burst(domain.rate_per_second),
        timeout: domain.timeout,
        body_max: domain.body_max,
        idle_connections: domain.pools.fetch.actors,
        breaker: BreakerPolicy { failures, open_for, open_max, ..BreakerPolicy::default() },
        ..UpstreamSettings::new(provider, &domain.base_url)
    }
}

fn scheduler_child(scheduler: Scheduler, runtime: &Runtime) -> Box<dyn Child> {
    let (scheduler, phases) = (Arc::new(scheduler), runtime.phases.clone());
    Box::new(ServiceChild::new("scheduler", RestartPolicy::default(), move |part| {
        let (scheduler, phases) = (scheduler.clone(), phases.clone());
        Box::pin(async move {
            scheduler.run(phases.clone(), part).await;
            phases.reached(Phase::Stop).await;
        })
    }))
}

fn upkeep_child(upkeep: Arc<Upkeep>, runtime: &Runtime) -> Box<dyn Child> {
    let phases = runtime.phases.clone();
    Box::new(ServiceChild::new("upkeep", RestartPolicy::default(), move |part| {
        let (upkeep, phases) = (upkeep.clone(), phases.clone());
        Box::pin(async move {
            upkeep.run(phases.clone(), part).await;
            phases.reached(Phase::Stop).await;
        })
    }))
}

fn http_child(server: HttpServer, runtime: &Runtime) -> Box<dyn Child> {
    let (server, phases) = (Arc::new(server), runtime.phases.clone());
    Box::new(ServiceChild::new("http", RestartPolicy::default(), move |part| {
        let (server, phases) = (server.clone(), phases.clone());
        Box::pin(async move { server.run(phases, part).await })
    }))
}

/// Asks whether Promidata's list can be had.
struct ListProbe {
    client: Promidata,
}

impl HealthProbe for ListProbe {
    fn name(&self) -> &str {
        self.client.base().name()
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let probe = self.client.probe().await;
            probe.reason.map_or(Ok(format!("answered in {} ms", probe.took.as_millis())), Err)
        })
    }
}

/// Asks an upstream whether it is well.
struct UpstreamProbe {
    upstream: Upstream,
    path: &'static str,
}

impl HealthProbe for UpstreamProbe {
    fn name(&self) -> &str {
        self.upstream.name()
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let probe = self.upstream.probe(self.path).await;
            match probe.reason {
                None if probe.ok => Ok(format!("answered in {} ms", probe.took.as_millis())),
                reason => Err(reason.unwrap_or_else(|| "no reason given".to_owned())),
            }
        })
    }
}
