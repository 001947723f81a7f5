//! `longshore demo`: everything at once, with nothing else installed.

mod verify;

use std::path::PathBuf;
use std::time::Duration;

use longshore_actors::backoff::Backoff;
use longshore_actors::events::Events;
use longshore_actors::job::NewJob;
use longshore_actors::ledger::JobRecord;
use longshore_actors::threads::Threads;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::progress::{self, Mode};
use crate::cli::remote::Door;
use crate::cli::run::{self, Signals};
use crate::cli::sync::run_one;
use crate::cli::{Context, follow};
use crate::config::{self, Config, ObjectsUrl, Secret, StoreUrl};
use crate::domains::{catalog, football, products};
use crate::sandbox::{Dials, Handle, Sandbox, Settings, promidata};
use crate::service::{Parts, Service, with_system};

/// Below the demo's folder: its files.
const OBJECTS: &str = "objects";

/// Bundles, unless said otherwise; about what an organisation has.
const USUAL: u32 = 5_000;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The sandbox answers with errors and 429s, and a worker panics now and then
    #[arg(long)]
    pub faults: bool,
    /// Exit when everything is synced; 0 only if the store holds what the sandbox served
    #[arg(long)]
    pub once: bool,
    /// Bundles in the sandbox
    #[arg(long, default_value_t = USUAL, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub bundles: u32,
    /// Folder of the demo's data
    #[arg(long, default_value = "data/demo", value_name = "DIR")]
    pub data: PathBuf,
    /// Address that `jobs` and `domains` ask at [default: service.listen]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<std::net::SocketAddr>,
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    let sandbox = start_sandbox(&args)?;
    let config = demo_config(&args, context.config.clone(), &sandbox)?;
    let threads = config.service.threads;
    let ended = with_system(threads, |threads| demo(args, config, context, &sandbox, threads));
    let result = ended.map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
    sandbox.stop();
    result
}

fn start_sandbox(args: &Args) -> Result<Handle, Failure> {
    let dials = if args.faults {
        Dials {
            latency: Duration::from_millis(30),
            jitter: Duration::from_millis(50),
            error_rate: 0.05,
            limit_per_second: Some(150),
            cut_rate: 0.02,
            malformed_rate: 0.02,
            ..Dials::default()
        }
    } else {
        Dials { latency: Duration::from_millis(15), jitter: Duration::from_millis(15), ..Dials::default() }
    };
    let settings = Settings { bundles: args.bundles as usize, dials, ..Settings::default() };
    Sandbox::start(settings).map_err(|error| Failure::unavailable(format!("cannot start the sandbox: {error}")))
}

/// The user's own settings, pointed at the sandbox and at a store of the demo's own.
fn demo_config(args: &Args, mut config: Config, sandbox: &Handle) -> Result<Config, Failure> {
    // Another catalogue is another store: in one file the smaller would look like a larger one that lost most of it.
    let file = if args.bundles == USUAL { "longshore.db".to_owned() } else { format!("longshore-{}.db", args.bundles) };
    let store = args.data.join(file);
    config.store.url = StoreUrl::parse(&format!("sqlite://{}", store.display())).map_err(Failure::usage)?;
    // And a bucket of the user's is no place for pictures of the sandbox.
    let objects = args.data.join(OBJECTS);
    config.objects.url = ObjectsUrl::parse(&format!("file://{}", objects.display())).map_err(Failure::usage)?;
    if let Some(listen) = args.listen {
        config.service.listen = listen;
    }
    let config::Domains { catalog, football, products } = &mut config.domains;
    point(&mut catalog.domain, sandbox.base_url(), sandbox, args.faults);
    point(&mut football.domain, sandbox.football_url(), sandbox, args.faults);
    point(&mut products.domain, sandbox.promidata_url(), sandbox, args.faults);
    products.own.profile = Some(Secret::new(promidata::PROFILE));
    (products.own.suppliers, products.own.suppliers_skip) = Default::default();
    // Nothing is to be saved here, and the same day may see many demos.
    football.own.daily_quota = football.own.daily_quota.max(10_000);
    Ok(config)
}

/// Points a domain at the sandbox.
fn point(domain: &mut config::Domain, url: String, sandbox: &Handle, faults: bool) {
    domain.enabled = true;
    domain.base_url = url;
    domain.api_key = Some(Secret::new(sandbox.api_key()));
    // The sandbox can take it, and nobody wants to wait for a demo.
    domain.rate_per_second = if faults { 200.0 } else { 1_000.0 };
    if faults {
        // Short waits, so that retries can be watched; and room for more deaths than a service should have.
        let backoff = Backoff::exponential(Duration::from_millis(500), Duration::from_secs(5));
        for policy in domain.jobs.values_mut() {
            policy.backoff = backoff;
            policy.attempts = policy.attempts.max(10);
        }
        domain.crashes_max = domain.crashes_max.max(20);
        domain.restart.max = domain.restart.max.max(20);
        domain.breaker.open_for = domain.breaker.open_for.min(Duration::from_secs(2));
    }
}

async fn demo(args: Args, config: Config, context: Context, sandbox: &Handle, threads: Threads) -> Result<(), Failure> {
    let Context { output, telemetry, .. } = context;
    let mut signals = Signals::new()?;
    // About four deaths in the whole demo, however large it is.
    let pages = args.bundles.div_ceil(config.domains.catalog.own.per_page.max(1));
    let panic_every = args.faults.then_some((pages / 4).max(5));
    let service = Service::start(&config, Parts { panic_every, ..Parts::ALL }, threads).await?;
    introduce(output, &args, &config, sandbox, &service);

    let events = &service.tree.runtime().events;
    let progress = actix::spawn(progress::watch(events.listen(), telemetry, Mode::fitting(output.quiet)));
    let door = Door::Direct(service.ledger.clone());
    let synced = tokio::select! {
        synced = sync_all(&door, events) => synced,
        name = signals.stop() => Err(Failure::new(Exit::Interrupted, format!("{name}: the demo was stopped"))),
    };
    progress.abort();
    drop(door);
    let checked = match &synced {
        Ok((record, family)) => {
            follow::show(output, record, family)?;
            verify::all(&service, sandbox, &args.data.join(OBJECTS)).await
        }
        Err(_) => Ok(String::new()),
    };
    match (&synced, &checked) {
        (Ok(_), Ok(same)) => output.remark(same),
        (Ok(_), Err(different)) => output.remark(&different.text),
        (Err(failure), _) => output.remark(&failure.text),
    }
    if args.once || synced.is_err() {
        run::end(service, config.service.shutdown_grace, signals).await;
        let (record, family) = synced?;
        follow::verdict(&record, &family)?;
        return checked.map(drop);
    }
    farewell(output, &args, &config, &service);
    // No reload: the settings are the demo's own.
    signals.stop().await;
    run::end(service, config.service.shutdown_grace, signals).await;
    Ok(())
}

/// The catalog's job with its children, and after them the jobs of the other domains.
async fn sync_all(door: &Door, events: &Events) -> Result<(JobRecord, Vec<JobRecord>), Failure> {
    let full = NewJob::new(catalog::NAME, catalog::FULL, json!({ "force": true }));
    let (record, mut family) = run_one(door, full, events.listen()).await?;
    let others = [
        (football::NAME, football::LEAGUES_KIND),
        (football::NAME, football::COUNTRIES_KIND),
        (products::NAME, products::CATEGORIES_KIND),
        // Every supplier, with its families and their images.
        (products::NAME, products::SUPPLIER),
    ];
    for (domain, kind) in others {
        let (other, others) = run_one(door, NewJob::new(domain, kind, json!({})), events.listen()).await?;
        family.push(other);
        family.extend(others);
    }
    Ok((record, family))
}

fn introduce(output: Output, args: &Args, config: &Config, sandbox: &Handle, service: &Service) {
    output.remark(&format!("sandbox   {} bundles of eSIM Go at {}", args.bundles, sandbox.base_url()));
    let leagues = sandbox.expected_football().leagues.len();
    output.remark(&format!("          {leagues} leagues of API-Football at {}", sandbox.football_url()));
    let families = sandbox.expected_promidata().families.len();
    output.remark(&format!("          {families} product families of Promidata at {}", sandbox.promidata_url()));
    output.remark(&format!("store     {}", config.store.url.place()));
    if let Some(address) = service.address {
        output.remark(&format!("control   http://{address}/"));
    }
    if args.faults {
        output.remark("faults    errors, 429s, cut and garbled answers, and workers that panic: watch the log");
    }
}

fn farewell(output: Output, args: &Args, config: &Config, service: &Service) {
    let (store, objects) = (config.store.url.place(), args.data.join(OBJECTS).join("media").display().to_string());
    let at = service.address.map_or_else(String::new, |address| format!(" --set service.listen={address}"));
    output.remark(&format!(
        "\nThe service stays up; look at it from another terminal:\n  \
         longshore jobs list{at}\n  longshore domains{at}\n  \
         sqlite3 {store} \"select name, price, duration from catalog_bundles \
         order by cast(price as real) desc limit 10\"\n  \
         sqlite3 {store} \"select slug, country from leagues order by slug limit 10\"\n  \
         sqlite3 {store} \"select sku, name from products join product_texts on product_sku = sku \
         where language = 'en' and variant_sku = '' limit 10\"\n  \
         ls {objects}\n\
         Stop it with Ctrl-C."
    ));
}
