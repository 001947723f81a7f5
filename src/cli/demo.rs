//! `longshore demo`: everything at once, with nothing else installed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use longshore_actors::backoff::Backoff;
use longshore_actors::events::Events;
use longshore_actors::job::NewJob;
use longshore_actors::ledger::JobRecord;
use longshore_actors::threads::Threads;
use rust_decimal::Decimal;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::progress::{self, Mode};
use crate::cli::remote::Door;
use crate::cli::run::{self, Signals};
use crate::cli::sync::run_one;
use crate::cli::{Context, follow};
use crate::config::{self, Config, ObjectsUrl, Secret, StoreUrl};
use crate::domains::{catalog, football};
use crate::sandbox::{Dials, Handle, Sandbox, Settings};
use crate::service::{Parts, Service, with_system};
use crate::store::batch::{Cell, Row};
use crate::store::table::Table;

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
            limit_per_second: Some(30),
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
    let objects = args.data.join("objects");
    config.objects.url = ObjectsUrl::parse(&format!("file://{}", objects.display())).map_err(Failure::usage)?;
    if let Some(listen) = args.listen {
        config.service.listen = listen;
    }
    let config::Domains { catalog, football } = &mut config.domains;
    point(&mut catalog.domain, sandbox.base_url(), sandbox, args.faults);
    point(&mut football.domain, sandbox.football_url(), sandbox, args.faults);
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
    domain.rate_per_second = if faults { 40.0 } else { 1_000.0 };
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
            let catalog = verify(&service, sandbox).await;
            let football = verify_football(&service, sandbox).await;
            catalog.and_then(|catalog| Ok(format!("{catalog}\n{}", football?)))
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
    farewell(output, &config, &service);
    // No reload: the settings are the demo's own.
    signals.stop().await;
    run::end(service, config.service.shutdown_grace, signals).await;
    Ok(())
}

/// The catalog's job with its children, and after them the jobs of the other domains.
async fn sync_all(door: &Door, events: &Events) -> Result<(JobRecord, Vec<JobRecord>), Failure> {
    let full = NewJob::new(catalog::NAME, catalog::FULL, json!({ "force": true }));
    let (record, mut family) = run_one(door, full, events.listen()).await?;
    for kind in [football::LEAGUES_KIND, football::COUNTRIES_KIND] {
        let (other, others) = run_one(door, NewJob::new(football::NAME, kind, json!({})), events.listen()).await?;
        family.push(other);
        family.extend(others);
    }
    Ok((record, family))
}

fn introduce(output: Output, args: &Args, config: &Config, sandbox: &Handle, service: &Service) {
    output.remark(&format!("sandbox   {} bundles of eSIM Go at {}", args.bundles, sandbox.base_url()));
    let leagues = sandbox.expected_football().leagues.len();
    output.remark(&format!("          {leagues} leagues of API-Football at {}", sandbox.football_url()));
    output.remark(&format!("store     {}", config.store.url.place()));
    if let Some(address) = service.address {
        output.remark(&format!("control   http://{address}/"));
    }
    if args.faults {
        output.remark("faults    errors, 429s, cut and garbled answers, and workers that panic: watch the log");
    }
}

fn farewell(output: Output, config: &Config, service: &Service) {
    let store = config.store.url.place();
    let at = service.address.map_or_else(String::new, |address| format!(" --set service.listen={address}"));
    output.remark(&format!(
        "\nThe service stays up; look at it from another terminal:\n  \
         longshore jobs list{at}\n  longshore domains{at}\n  \
         sqlite3 {store} \"select name, price, duration from catalog_bundles \
         order by cast(price as real) desc limit 10\"\n  \
         sqlite3 {store} \"select slug, country from leagues order by slug limit 10\"\n\
         Stop it with Ctrl-C."
    ));
}

/// Whether the store holds what the sandbox served, row by row. `Ok` says how many.
async fn verify(service: &Service, sandbox: &Handle) -> Result<String, Failure> {
    let expected = sandbox.expected();
    let stored = stored_bundles(service).await?;
    let mut differences = Vec::new();
    for (name, bundle) in expected.stored() {
        match stored.get(name) {
            None => differences.push(format!("{name} is missing")),
            Some(found) if Some(found.price) != bundle.price => {
                differences.push(format!("{name} costs {} instead of {:?}", found.price, bundle.price));
            }
            Some(found) if found.countries != bundle.countries.len() + bundle.roaming.len() => {
                differences.push(format!("{name} has {} countries", found.countries));
            }
            Some(_) => {}
        }
    }
    differences.extend(
        stored
            .keys()
            .filter(|name| expected.bundles.get(*name).is_none_or(|bundle| bundle.reject.is_some()))
            .map(|name| format!("{name} should not be there")),
    );
    match differences.first() {
        None => Ok(format!(
            "the store holds exactly the {} bundles that the sandbox serves; {} were rejected, with their reasons",
            stored.len(),
            expected.rejected_count()
        )),
        Some(first) => Err(Failure::failed(format!(
            "the store differs from what the sandbox serves in {} places; first: {first}",
            differences.len()
        ))),
    }
}

/// The same of the leagues: their names, and how many seasons they have together.
async fn verify_football(service: &Service, sandbox: &Handle) -> Result<String, Failure> {
    let expected = sandbox.expected_football();
    let mut stored = BTreeMap::new();
    each_row(service, &football::LEAGUES, |row| {
        if let [Cell::Int(id), _, Cell::Text(name), ..] = row.cells.as_slice() {
            stored.insert(u32::try_from(*id).unwrap_or_default(), name.clone());
        }
    })
    .await?;
    let seasons = service.store.count_rows(&football::SEASONS).await?;
    let wanted = expected.leagues.iter().map(|(id, league)| (*id, league.name.clone())).collect();
    if stored == wanted && seasons == expected.season_count() as u64 {
        return Ok(format!("and the {} leagues with their {seasons} seasons", stored.len()));
    }
    let (leagues, known) = (stored.len(), expected.leagues.len());
    Err(Failure::failed(format!(
        "the store holds {leagues} leagues and {seasons} seasons that are not the {known} served"
    )))
}

/// Takes every live row of a table, a page at a time.
async fn each_row(service: &Service, table: &'static Table, mut take: impl FnMut(Row)) -> Result<(), Failure> {
    const PAGE: usize = 1_000;
    let mut after = Vec::new();
    loop {
        let rows = service.store.rows(table, after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.cells[..table.key].to_vec();
        rows.into_iter().for_each(&mut take);
    }
}

struct Stored {
    price: Decimal,
    countries: usize,
}

async fn stored_bundles(service: &Service) -> Result<BTreeMap<String, Stored>, Failure> {
    let column = |name: &str| catalog::BUNDLES.columns.iter().position(|column| column.name == name);
    let price = column("price").ok_or_else(|| Failure::internal("catalog_bundles has no price"))?;
    let mut stored = BTreeMap::new();
    each_row(service, &catalog::BUNDLES, |row| {
        if let (Some(Cell::Text(name)), Some(&Cell::Decimal(price))) = (row.cells.first(), row.cells.get(price)) {
            let countries = row.details.iter().map(Vec::len).sum();
            stored.insert(name.clone(), Stored { price, countries });
        }
    })
    .await?;
    Ok(stored)
}
