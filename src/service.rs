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
mod opening;
mod rates;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use longshore_actors::breaker::{Breaker, BreakerPolicy};
use longshore_actors::child::{Child, DomainChild, ServiceChild};
use longshore_actors::clock::Clock;
use longshore_actors::domain::Domain;
use longshore_actors::events::Events;
use longshore_actors::ledger::{Ledger, LedgerError};
use longshore_actors::restart::RestartPolicy;
use longshore_actors::runtime::Runtime;
use longshore_actors::shutdown::{Ending, Phase, Phases};
use longshore_actors::supervisor::Tree;
use longshore_actors::threads::Threads;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, DomainInfo};
use crate::config::{self, Config, StoreUrl};
use crate::domains::catalog::{self, Catalog};
use crate::domains::football::{self, Football};
use crate::domains::products::{self, Products, Promidata};
use crate::http::{BindError, HttpServer, HttpSettings};
use crate::schedule::heartbeat::Heartbeat;
use crate::schedule::scheduler::{Scheduler, SchedulesHandle};
use crate::schedule::upkeep::{HealthProbe, Upkeep};
use crate::schedule::when::WhenError;
use crate::service::door::TreeDoor;
use crate::service::opening::{open_copy, open_unchanged, scratch};
use crate::service::rates::Rates;
use crate::service::settings::{
    burst, catalog_settings, domain_settings, football_settings, objects_settings, products_settings, schedules,
    upkeep_settings,
};
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, postgres, sqlite};
use crate::targets::objects::{self, Objects};
use crate::targets::store::StoreTarget;
use crate::upstreams::{Auth, Hosts, Upstream, UpstreamError, UpstreamSettings};

pub use crate::service::opening::{make_database, migrations, open_postgres, open_store, process, remove_database};

/// Which parts beside the domains run.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    pub scheduler: bool,
    pub http: bool,
    /// Uploads report what they would change and write nothing; jobs stand in a ledger of their own.
    pub dry_run: bool,
    /// It runs beside the service for one command: on a shared ledger it is a node of its own, under a name of its own.
    pub passing: bool,
    /// A transform worker of the catalog panics on every so-manieth page, to be watched being restarted.
    pub panic_every: Option<u32>,
}

impl Parts {
    pub const ALL: Parts = Parts { scheduler: true, http: true, dry_run: false, passing: false, panic_every: None };
    /// What one sync needs.
    pub const SYNC: Parts = Parts { scheduler: false, http: false, dry_run: false, passing: true, panic_every: None };
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
    rates: Arc<Rates>,
    /// Cancelled when another process took the place of this node: the service is to end.
    pub replaced: CancellationToken,
    /// Of a dry run: its ledger, and the folder that goes with it.
    scratch: Option<(SqliteStore, tempfile::TempDir)>,
}

/// Why the service cannot start: what, where, what to do.
#[derive(Debug)]
pub enum StartError {
    Store(sqlite::OpenError),
    Postgres(postgres::OpenError),
    Objects(objects::OpenError),
    /// A database of one's own could not be made or removed.
    Database(LedgerError),
    /// The place among the nodes could not be taken.
    Join(LedgerError),
    Scratch(std::io::Error),
    /// A dry run would have to change the schema.
    Pending {
        migrations: usize,
    },
    Upstream(UpstreamError),
    Schedule {
        name: String,
        error: WhenError,
    },
    Bind(BindError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Store(error) => error.fmt(f),
            StartError::Postgres(error) => error.fmt(f),
            StartError::Database(error) => write!(f, "a database beside the configured one: {error}"),
            StartError::Join(error) => write!(f, "join the nodes: {error}"),
            StartError::Objects(error) => error.fmt(f),
            StartError::Scratch(error) => write!(f, "cannot make a folder for the dry run's ledger: {error}"),
            StartError::Pending { migrations } => {
                write!(
                    f,
                    "a dry run changes nothing, and {migrations} migrations are pending: run longshore migrate first"
                )
            }
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

/// The configured object store. Sends nothing and makes nothing, but blocks; call it before the actors start.
///
/// # Errors
/// Settings that make no client.
pub fn open_objects(config: &Config, phases: &Phases, events: &Events) -> Result<Objects, StartError> {
    let settings = objects_settings(&config.objects);
    Objects::open_within(&settings, phases.clone(), events.clone()).map_err(StartError::Objects)
}

impl Service {
    /// Builds and starts everything. Call it within [`with_system`].
    pub async fn start(config: &Config, parts: Parts, threads: Threads) -> Result<Service, StartError> {
        let clock = Clock::system();
        let process = process(config, &clock);
        let scratch = if parts.dry_run { Some(scratch(&clock)?) } else { None };
        let store: Arc<dyn Store> = match (&scratch, &config.store.url) {
            // A dry run makes no file where there is none: nothing is in the store then.
            (Some((scratch, _)), StoreUrl::Sqlite(path)) if !path.exists() => Arc::new(scratch.clone()),
            (Some((_, folder)), StoreUrl::Sqlite(path)) => Arc::new(open_copy(path, folder.path(), &clock)?),
            (Some(_), StoreUrl::Postgres(_)) => open_unchanged(config, &clock, process.clone()).await?,
            (None, _) => open_store(config, &clock, process.clone()).await?,
        };
        let ledger = scratch.as_ref().map_or_else(|| store.ledger(), |(scratch, _)| scratch.ledger());
        let runtime = Runtime { process, ..Runtime::new(ledger.clone(), clock.clone(), threads) };

        let scheduler = Scheduler::new(schedules(config)?, store.clone(), clock.clone());
        let schedules = scheduler.handle();
        let mut domains: Vec<Box<dyn Child>> = Vec::new();
        let mut infos = Vec::new();
        let mut rates = Rates::new(config);
        let mut probes: Vec<Box<dyn HealthProbe>> = Vec::new();
        let target = StoreTarget {
            store: store.clone(),
            breaker: Arc::new(Breaker::new("store", STORE_BREAKER).with_events(runtime.events.clone())),
            clock: clock.clone(),
            objects: Some(open_objects(config, &runtime.phases, &runtime.events)?),
            dry_run: parts.dry_run,
        };
        // One block a domain; a new one is added here.
        let config::Domains { catalog, football, products } = &config.domains;
        if catalog.domain.enabled {
            let upstream = catalog_upstream(&catalog.domain, &runtime.phases, &runtime.events)?;
            rates.add(catalog::NAME, upstream.clone());
            probes.push(Box::new(UpstreamProbe { upstream: upstream.clone(), path: catalog::HEALTH_PATH }));
            let settings = catalog_settings(catalog, parts);
            let domain = Catalog::new(settings, upstream, target.clone());
            infos.push(info(&domain));
            domains.push(Box::new(DomainChild::new(domain, domain_settings("catalog", &catalog.domain, config))));
        }
        if football.domain.enabled {
            let upstream = football_upstream(football, &runtime.phases, &runtime.events)?;
            rates.add(football::NAME, upstream.clone());
            probes.push(Box::new(UpstreamProbe { upstream: upstream.clone(), path: football::HEALTH_PATH }));
            let settings = football_settings(football);
            let domain = Football::new(settings, upstream, target.clone());
            infos.push(info(&domain));
            domains.push(Box::new(DomainChild::new(domain, domain_settings("football", &football.domain, config))));
        }
        if let Some(client) = promidata(config, &runtime.phases, &runtime.events)? {
            rates.add(products::NAME, client.clone());
            probes.push(Box::new(ListProbe { client: client.clone() }));
            let domain = Products::new(products_settings(products), client, target.clone());
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
        let rates = Arc::new(rates);
        let sharing = rates.clone();
        let on_nodes = Box::new(move |nodes| sharing.share(nodes));
        let heartbeat = Heartbeat::new(store.clone(), config.node.heartbeat, on_nodes);
        let replaced = heartbeat.replaced();
        if matches!(config.store.url, StoreUrl::Postgres(_)) && !parts.dry_run {
            children.push(heartbeat_child(heartbeat, &runtime));
        }
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
        // Last of all that can fail: a second start by mistake must not take the place of the one that runs.
        if !parts.dry_run {
            join(config, parts, &runtime.process, &*store).await?;
        }
        let tree = Tree::start(runtime, children);
        tree_slot.set(tree.clone());
        Ok(Service { tree, store, ledger, admin, address, schedules, upkeep, rates, replaced, scratch })
    }

    /// Applies what can change while it runs; the caller has told the difference.
    pub fn reload(&self, config: &Config) -> Result<(), StartError> {
        let schedules = schedules(config)?;
        for (name, domain) in config.domains.all() {
            // A domain that was not enabled at the start waits for the next one.
            let _ = self.tree.change(name, |settings| *settings = domain_settings(name, domain, config));
        }
        self.rates.set(config);
        self.schedules.replace(schedules);
        self.upkeep.set(upkeep_settings(config));
        Ok(())
    }

    /// Quiet, drain, stop, and then closes the store; all within the grace and a little.
    pub async fn shutdown(self, grace: Duration) -> Ending {
        let Service { tree, store, ledger, admin, address: _, schedules: _, upkeep, rates: _, replaced: _, scratch } =
            self;
        let ending = tree.shutdown(grace).await;
        drop((ledger, admin, upkeep, tree));
        if scratch.is_none()
            && let Ok(Err(error)) = tokio::time::timeout(LEAVE, store.leave()).await
        {
            tracing::info!(reason = %error, "leave the nodes: the others find out by the heartbeat");
        }
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

/// A database that restarts is back within seconds, and asking costs little; nobody needs to set it.
const STORE_BREAKER: BreakerPolicy = BreakerPolicy {
    failures: 3,
    open_for: Duration::from_secs(1),
    open_max: Duration::from_secs(15),
    half_open_max: 1,
};

/// How long saying good-bye to the other nodes may take.
const LEAVE: Duration = Duration::from_secs(2);

/// How long closing the store may take after everything else has ended.
const CLOSE: Duration = Duration::from_secs(3);

/// Takes this process's place among the nodes, where there are any.
async fn join(config: &Config, parts: Parts, process: &str, store: &dyn Store) -> Result<(), StartError> {
    // A passing one is named after its start: in containers of one name all have one pid as well.
    let name = if parts.passing { process.to_owned() } else { opening::node_name(config) };
    let given_back = store.join(&name).await.map_err(StartError::Join)?;
    if given_back > 0 {
        tracing::info!(node = name, jobs = given_back, "what the last process of this node had is waiting again");
    }
    Ok(())
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
    let config::Domains { catalog, football, products: _ } = &config.domains;
    let mut upstreams = Vec::new();
    if catalog.domain.enabled {
        upstreams.push((catalog_upstream(&catalog.domain, phases, events)?, catalog::HEALTH_PATH));
    }
    if football.domain.enabled {
        upstreams.push((football_upstream(football, phases, events)?, football::HEALTH_PATH));
    }
    Ok(upstreams)
}

/// Whether everything that is made of the configuration alone can be made. Sends nothing.
///
/// # Errors
/// A schedule that never fires, an upstream whose settings make no client.
pub fn try_settings(config: &Config) -> Result<(), StartError> {
    schedules(config)?;
    open_objects(config, &Phases::default(), &Events::new(1))?;
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

fn catalog_upstream(domain: &config::Domain, phases: &Phases, events: &Events) -> Result<Upstream, StartError> {
    open(upstream_settings(catalog::PROVIDER, catalog::KEY_HEADER, domain), phases, events)
}

fn football_upstream(football: &config::Football, phases: &Phases, events: &Events) -> Result<Upstream, StartError> {
    let settings = upstream_settings(football::PROVIDER, football::KEY_HEADER, &football.domain);
    let settings = UpstreamSettings { burst: football.own.burst, healthy: football::healthy, ..settings };
    open(settings, phases, events)
}

fn open(settings: UpstreamSettings, phases: &Phases, events: &Events) -> Result<Upstream, StartError> {
    Upstream::new(settings, phases.clone(), events.clone()).map_err(StartError::Upstream)
}

fn upstream_settings(provider: &str, key_header: &str, domain: &config::Domain) -> UpstreamSettings {
    let auth = domain.api_key.clone().map(|key| Auth::header(key_header, key));
    UpstreamSettings { auth, ..settings_of(provider, domain) }
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

fn heartbeat_child(heartbeat: Heartbeat, runtime: &Runtime) -> Box<dyn Child> {
    let (heartbeat, phases) = (Arc::new(heartbeat), runtime.phases.clone());
    Box::new(ServiceChild::new("heartbeat", RestartPolicy::default(), move |part| {
        let (heartbeat, phases) = (heartbeat.clone(), phases.clone());
        Box::pin(async move { heartbeat.run(phases, part).await })
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
