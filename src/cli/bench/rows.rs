//! `longshore bench rows`: what a plain row costs on PostgreSQL, from the upstream's answer to the row on disk.
//!
//! ```text
//! child process: longshore sandbox ──HTTP──▶ fetch ─▶ transform ─▶ upload ─▶ PostgreSQL     one table, fifteen columns
//! first       into an empty table: every row is written
//! unchanged   again: every row is compared, none is written
//! changed     once more, after one row in a hundred got another price
//! COPY        of the same rows into the same table with its key, in this run: the figure to be measured by
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_actors::breaker::{Breaker, BreakerPolicy};
use longshore_actors::child::{Child, DomainChild};
use longshore_actors::clock::Clock;
use longshore_actors::job::{NewJob, State};
use longshore_actors::ledger::JobRecord;
use longshore_actors::runtime::Runtime;
use longshore_actors::settings::{DomainSettings, PoolSettings, Pools};
use longshore_actors::supervisor::Tree;
use longshore_actors::threads::Threads;
use serde::Serialize;
use serde_json::json;

use crate::cli::Context;
use crate::cli::bench::sandbox::SandboxProcess;
use crate::cli::bench::{OwnStore, Spread, peak_rss_mib};
use crate::cli::exit::Failure;
use crate::cli::remote::Door;
use crate::cli::sync::run_one;
use crate::config::{Config, StoreUrl};
use crate::domains::plain::{self, Plain};
use crate::service::{open_postgres, process, with_system};
use crate::store::Store;
use crate::targets::store::StoreTarget;
use crate::upstreams::{Upstream, UpstreamSettings};

#[derive(Clone, Debug, clap::Args)]
pub struct Rows {
    /// Rows at the upstream
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rows: u64,
    /// Rows a page
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    pub per_page: u64,
    /// How often; the median and the spread are shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

const TABLE: [&str; 1] = ["plain_items"];

pub fn execute(args: Rows, context: Context) -> Result<(), Failure> {
    let Context { config, output, .. } = context;
    if !matches!(config.store.url, StoreUrl::Postgres(_)) {
        return Err(Failure::usage(
            "this bench measures PostgreSQL: set store.url = \"postgres://…\", or DATABASE_URL",
        ));
    }
    let sandbox = SandboxProcess::start(1)?;
    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        output.remark(&format!("round {} of {}", round + 1, args.rounds));
        let threads = config.service.threads;
        let done = with_system(threads, |threads| one_round(&args, &config, &sandbox, threads));
        rounds.push(done.map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))??);
    }
    let peak = rounds.first().map_or(0.0, |round| round.peak_rss_mib);
    output.show(&json!({ "rows": args.rows, "per_page": args.per_page, "rounds": rounds }), || {
        let mut spread = Spread::new();
        let of = |figure: fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
        spread.line("first sync", of(|round| round.first_per_second), "rows/s");
        spread.line("COPY of the same rows", of(|round| round.copy_per_second), "rows/s");
        spread.line("ratio of the two", of(|round| round.first_per_second / round.copy_per_second), "");
        spread.line("nothing changed", of(|round| round.unchanged_per_second), "rows/s");
        spread.line("logged meanwhile", of(|round| round.unchanged_log_kib), "KiB");
        spread.line("1 % changed", of(|round| round.changed_per_second), "rows/s");
        spread.line("peak memory", [peak], "MiB");
        format!("{} rows of 15 columns, {} a page\n{}", args.rows, args.per_page, spread.render())
    })
}

#[derive(Clone, Debug, Serialize)]
struct Round {
    first_per_second: f64,
    copy_per_second: f64,
    unchanged_per_second: f64,
    unchanged_log_kib: f64,
    changed_per_second: f64,
    /// Before the yardstick, which holds all rows in memory.
    peak_rss_mib: f64,
}

async fn one_round(args: &Rows, config: &Config, sandbox: &SandboxProcess, threads: Threads) -> Result<Round, Failure> {
    let own = OwnStore::make(config).await?;
    let clock = Clock::system();
    let process = process(&own.config, &clock);
    let store = open_postgres(&own.config, &clock, process.clone()).await?;
    store.run_sql(plain::CREATE).await?;
    let runtime = Runtime { process, ..Runtime::new(store.ledger(), clock.clone(), threads) };
    let base = sandbox.url("/plain");
    let upstream = Upstream::new(UpstreamSettings::new("plain", &base), runtime.phases.clone(), runtime.events.clone())
        .map_err(|error| Failure::internal(error.to_string()))?;
    let target = StoreTarget {
        store: Arc::new(store.clone()),
        breaker: Arc::new(Breaker::new("store", BreakerPolicy::default())),
        objects: None,
        clock,
        dry_run: false,
    };
    let domain = Plain { upstream, target, rows: args.rows, per_page: args.per_page };
    let child: Box<dyn Child> = Box::new(DomainChild::new(domain, settings()));
    let tree = Tree::start(runtime, vec![child]);
    let door = Door::Direct(store.ledger());

    let first_per_second = sync(args, &tree, &door).await?;
    let before = store.logged().await?;
    let unchanged_per_second = sync(args, &tree, &door).await?;
    let unchanged_log_kib = (store.logged().await? - before) as f64 / 1024.0;
    sandbox.advance().await?;
    let changed_per_second = sync(args, &tree, &door).await?;
    let peak_rss_mib = peak_rss_mib();
    let copy_per_second = store.copy_speed(&TABLE).await?;

    tree.shutdown(Duration::from_secs(10)).await;
    drop((tree, door));
    store.close().await;
    own.remove(config).await?;
    Ok(Round {
        first_per_second,
        copy_per_second,
        unchanged_per_second,
        unchanged_log_kib,
        changed_per_second,
        peak_rss_mib,
    })
}

/// Rows a second, from the job put in to its end.
async fn sync(args: &Rows, tree: &Tree, door: &Door) -> Result<f64, Failure> {
    let begun = Instant::now();
    let job = NewJob::new(plain::DOMAIN, plain::KIND, json!({}));
    let (JobRecord { state, counts, message, .. }, _) = run_one(door, job, tree.runtime().events.listen()).await?;
    if state != State::Completed || counts.received != args.rows {
        return Err(Failure::internal(format!("the sync ended {state} with {counts:?}: {message:?}")));
    }
    Ok(args.rows as f64 / begun.elapsed().as_secs_f64())
}

/// For an upstream that answers at once: pages wait for the database, and are committed together.
fn settings() -> DomainSettings {
    DomainSettings {
        pools: Pools {
            fetch: PoolSettings { actors: 4, mailbox: 2 },
            transform: PoolSettings { actors: 2, mailbox: 2 },
            upload: PoolSettings { actors: 3, mailbox: 12 },
        },
        jobs_max: 1,
        pages_max: 48,
        ..DomainSettings::default()
    }
}
