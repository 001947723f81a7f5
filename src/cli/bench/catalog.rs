//! `longshore bench catalog`: what a sync costs, from the upstream's answer to the row on disk.
//!
//! ```text
//! child process: longshore sandbox ──HTTP──▶ fetch ─▶ transform ─▶ upload ─▶ store        the service, in this process
//! first       into an empty store: every bundle is written
//! unchanged   again: every bundle is compared, none is written
//! changed     once more, after one bundle in a hundred got another price
//! ```
//!
//! On PostgreSQL it also says, in the same run, what COPY does with the same rows: the figure to be measured by.

use longshore_actors::clock::Clock;
use longshore_actors::job::NewJob;
use longshore_actors::ledger::JobRecord;
use longshore_actors::threads::Threads;
use serde::Serialize;
use serde_json::json;

use crate::cli::bench::sandbox::SandboxProcess;
use crate::cli::bench::{OwnStore, Spread, peak_rss_mib};
use crate::cli::exit::Failure;
use crate::cli::remote::Door;
use crate::cli::sync::run_one;
use crate::cli::{Context, follow};
use crate::config::{Config, Secret, StoreUrl};
use crate::domains::catalog;
use crate::service::{Parts, Service, open_postgres, process, with_system};
use crate::store::Store;

#[derive(Clone, Debug, clap::Args)]
pub struct Bundles {
    /// Bundles in the sandbox
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub bundles: u32,
    /// How often; the median and the spread are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

/// Requests a second: more than any sandbox answers, so that the limit is not what is measured.
const RATE: f64 = 100_000.0;

pub fn execute(args: Bundles, context: Context) -> Result<(), Failure> {
    let Context { mut config, output, .. } = context;
    let sandbox = SandboxProcess::start(args.bundles)?;
    let domain = &mut config.domains.catalog.domain;
    domain.enabled = true;
    domain.base_url = sandbox.base_url.clone();
    domain.api_key = Some(Secret::new(sandbox.api_key.clone()));
    domain.rate_per_second = RATE;

    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        output.remark(&format!("round {} of {}", round + 1, args.rounds));
        let threads = config.service.threads;
        let done = with_system(threads, |threads| one_round(&config, &sandbox, threads));
        rounds.push(done.map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))??);
    }
    // Of the first: later rounds stand on what the yardstick left.
    let peak = rounds.first().map_or(0.0, |round| round.peak_rss_mib);
    output.show(&json!({ "bundles": args.bundles, "rounds": rounds }), || {
        let mut spread = Spread::new();
        let of = |figure: fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
        spread.line("first sync", of(|round| round.first_per_second), "bundles/s");
        spread.line("nothing changed", of(|round| round.unchanged_per_second), "bundles/s");
        spread.line("1 % changed", of(|round| round.changed_per_second), "bundles/s");
        let servers: Vec<&Server> = rounds.iter().filter_map(|round| round.server.as_ref()).collect();
        if !servers.is_empty() {
            let of = |figure: fn(&Server) -> f64| servers.iter().map(|server| figure(server)).collect::<Vec<f64>>();
            spread.line("first sync, all tables", of(|server| server.first_rows_per_second), "rows/s");
            spread.line("COPY of the same rows", of(|server| server.copy_rows_per_second), "rows/s");
            spread.line(
                "ratio of the two",
                of(|server| server.first_rows_per_second / server.copy_rows_per_second),
                "",
            );
            spread.line("logged while nothing changed", of(|server| server.unchanged_log_kib), "KiB");
        }
        spread.line("peak memory", [peak], "MiB");
        format!("{} bundles, {} a page\n{}", args.bundles, config.domains.catalog.own.per_page, spread.render())
    })
}

#[derive(Clone, Debug, Serialize)]
struct Round {
    first_per_second: f64,
    unchanged_per_second: f64,
    changed_per_second: f64,
    /// Before the yardstick, which holds all rows in memory.
    peak_rss_mib: f64,
    /// What only PostgreSQL can be asked.
    server: Option<Server>,
}

#[derive(Clone, Debug, Serialize)]
struct Server {
    /// Bundles, their countries and their memberships.
    first_rows_per_second: f64,
    /// The same rows into the same tables with their keys by COPY FROM STDIN, in this run.
    copy_rows_per_second: f64,
    unchanged_log_kib: f64,
}

/// What a bundle is made of.
const TABLES: [&str; 3] = ["catalog_bundles", "catalog_bundle_countries", "catalog_bundle_groups"];

async fn one_round(config: &Config, sandbox: &SandboxProcess, threads: Threads) -> Result<Round, Failure> {
    let own = OwnStore::make(config).await?;
    let service = Service::start(&own.config, Parts::SYNC, threads).await?;
    let database = match &own.config.store.url {
        StoreUrl::Sqlite(_) => None,
        StoreUrl::Postgres(_) => {
            let clock = Clock::system();
            Some(open_postgres(&own.config, &clock, process(&own.config, &clock)).await?)
        }
    };
    let first_per_second = sync(&service).await?;
    let before = match &database {
        Some(database) => database.logged().await?,
        None => 0,
    };
    let unchanged_per_second = sync(&service).await?;
    let peak_rss_mib = peak_rss_mib();
    let mut server = None;
    if let Some(database) = &database {
        let unchanged_log_kib = (database.logged().await? - before) as f64 / 1024.0;
        let rows = database.count(&TABLES).await? as f64;
        let bundles = database.count(&TABLES[..1]).await? as f64;
        server = Some(Server {
            first_rows_per_second: first_per_second * rows / bundles.max(1.0),
            copy_rows_per_second: database.copy_speed(&TABLES).await?,
            unchanged_log_kib,
        });
    }
    sandbox.advance().await?;
    let changed_per_second = sync(&service).await?;
    if let Some(database) = database {
        database.close().await;
    }
    service.shutdown(config.service.shutdown_grace).await;
    own.remove(config).await?;
    Ok(Round { first_per_second, unchanged_per_second, changed_per_second, peak_rss_mib, server })
}

/// Bundles a second, from the claim of the first job to the end of the last, as the ledger has it.
async fn sync(service: &Service) -> Result<f64, Failure> {
    let door = Door::Direct(service.ledger.clone());
    let job = NewJob::new(catalog::NAME, catalog::FULL, json!({ "force": true }));
    let (record, family) = run_one(&door, job, service.tree.runtime().events.listen()).await?;
    follow::verdict(&record, &family)?;
    let all = || family.iter().chain([&record]);
    let begun = all().filter_map(|job| job.started_at).min();
    let ended = all().filter_map(|job| job.finished_at).max();
    let (Some(begun), Some(ended)) = (begun, ended) else {
        return Err(Failure::internal("a job ended without a start or an end"));
    };
    let received = |job: &JobRecord| job.counts.received as f64;
    Ok(received(&record) / ended.since(begun).as_secs_f64().max(1e-3))
}
