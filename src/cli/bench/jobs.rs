//! `longshore bench jobs`: what a job costs that does nothing.
//!
//! ```text
//! bulk      N jobs put in, five thousand a call                                     → jobs a second
//! drain     the same N claimed, driven through all three pools, and recorded     → jobs a second
//! latency   one job at a time put into the idle service                          → enqueue → start, p50 and p99
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use longshore_actors::child::{Child, DomainChild};
use longshore_actors::clock::Clock;
use longshore_actors::job::{Job, NewJob};
use longshore_actors::ledger::Ledger;
use longshore_actors::runtime::Runtime;
use longshore_actors::settings::{DomainSettings, KindPolicy, PoolSettings, Pools};
use longshore_actors::status::Board;
use longshore_actors::supervisor::Tree;
use longshore_actors::threads::Threads;
use serde::Serialize;
use serde_json::json;
use tokio::sync::Notify;

use crate::cli::Context;
use crate::cli::bench::{OwnStore, Spread, peak_rss_mib};
use crate::cli::exit::Failure;
use crate::config::{Config, StoreUrl};
use crate::domains::noop::{self, Noop};
use crate::service::{open_store, process, with_system};

#[derive(Clone, Debug, clap::Args)]
pub struct Jobs {
    /// How many
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub jobs: u64,
    /// How many at the same time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: u32,
    /// Nodes that share the work, on PostgreSQL: in this process, each with connections of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub nodes: u32,
    /// How often; the median and the spread are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

/// Jobs a call of the bulk enqueue.
const BULK: usize = 5_000;
/// Jobs whose latency is measured, one by one.
const SINGLE: usize = 1_000;

pub fn execute(jobs: Jobs, context: Context) -> Result<(), Failure> {
    let Context { config, output, .. } = context;
    if jobs.nodes > 1 && matches!(config.store.url, StoreUrl::Sqlite(_)) {
        return Err(Failure::usage("an SQLite file has one owner: set store.url to a PostgreSQL for several nodes"));
    }
    let mut rounds = Vec::new();
    for round in 0..jobs.rounds {
        output.remark(&format!("round {} of {}", round + 1, jobs.rounds));
        let threads = config.service.threads;
        let done = with_system(threads, |threads| one_round(&jobs, &config, threads));
        rounds.push(done.map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))??);
    }
    let peak = peak_rss_mib();
    let kind = match &config.store.url {
        StoreUrl::Sqlite(_) => {
            format!("SQLite with synchronous={}", format!("{:?}", config.store.synchronous).to_lowercase())
        }
        StoreUrl::Postgres(_) => "PostgreSQL".to_owned(),
    };
    let value = json!({ "jobs": jobs.jobs, "concurrency": jobs.concurrency, "nodes": jobs.nodes, "store": kind,
        "rounds": rounds, "peak_rss_mib": peak });
    output.show(&value, || {
        let mut spread = Spread::new();
        spread.line("enqueue in bulk", rounds.iter().map(|round| round.enqueued_per_second), "jobs/s");
        spread.line("claim, run, record", rounds.iter().map(|round| round.drained_per_second), "jobs/s");
        spread.line("enqueue to start, p50", rounds.iter().map(|round| round.start_p50_ms), "ms");
        spread.line("enqueue to start, p99", rounds.iter().map(|round| round.start_p99_ms), "ms");
        spread.line("peak memory", [peak], "MiB");
        format!("{} jobs, {} at a time, {kind}\n{}", jobs.jobs, jobs.concurrency, spread.render())
    })
}

/// What one round measured.
#[derive(Clone, Debug, Serialize)]
struct Round {
    enqueued_per_second: f64,
    drained_per_second: f64,
    start_p50_ms: f64,
    start_p99_ms: f64,
}

async fn one_round(jobs: &Jobs, config: &Config, threads: Threads) -> Result<Round, Failure> {
    let own = OwnStore::make(config).await?;
    let clock = Clock::system();
    let process = process(&own.config, &clock);
    let store = open_store(&own.config, &clock, format!("{process}-0").into()).await?;
    let ledger = store.ledger();
    let count = jobs.jobs as usize;

    let begun = Instant::now();
    enqueue(&ledger, count, &clock).await?;
    let enqueued_per_second = count as f64 / begun.elapsed().as_secs_f64();

    let starts = Arc::new(Starts::default());
    let mut nodes = Vec::new();
    for node in 0..jobs.nodes.max(1) {
        let told = starts.clone();
        let domain = Noop { started: Arc::new(move |job| told.started(job)) };
        // Each with connections and coordinator of its own, as another process would have them.
        let process: Arc<str> = format!("{process}-{node}").into();
        let store = match node {
            0 => store.clone(),
            _ => open_store(&own.config, &clock, process.clone()).await?,
        };
        store.join(&process).await?;
        let runtime = Runtime { process, ..Runtime::new(store.ledger(), clock.clone(), threads.clone()) };
        let child: Box<dyn Child> = Box::new(DomainChild::new(domain, settings(jobs.concurrency as usize)));
        nodes.push((store, runtime, child));
    }
    let begun = Instant::now();
    let mut trees = Vec::new();
    for (store, runtime, child) in nodes {
        let board = runtime.board.clone();
        trees.push((store, board, Tree::start(runtime, vec![child])));
    }
    let done =
        |board: &Board| board.statuses().iter().find(|part| part.name == noop::DOMAIN).map_or(0, |part| part.done);
    while trees.iter().map(|(_, board, _)| done(board)).sum::<u64>() < count as u64 {
        // A poll, not a wait for something: the figure is exact to its length.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let drained_per_second = count as f64 / begun.elapsed().as_secs_f64();

    let mut latencies = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        latencies.push(starts.latency_of_one(&ledger, &clock).await?);
    }
    latencies.sort();
    let at = |fraction: f64| latencies[((latencies.len() - 1) as f64 * fraction) as usize].as_secs_f64() * 1e3;
    let round = Round { enqueued_per_second, drained_per_second, start_p50_ms: at(0.5), start_p99_ms: at(0.99) };
    for (of_node, _, tree) in trees {
        tree.shutdown(Duration::from_secs(10)).await;
        drop(tree);
        of_node.close().await;
    }
    drop(ledger);
    store.close().await;
    drop(store);
    own.remove(config).await?;
    Ok(round)
}

async fn enqueue(ledger: &Arc<dyn Ledger>, count: usize, clock: &Clock) -> Result<(), Failure> {
    let mut left = count;
    while left > 0 {
        let now = left.min(BULK);
        let jobs = (0..now).map(|_| NewJob::new(noop::DOMAIN, noop::KIND, json!({}))).collect();
        ledger.enqueue(jobs, clock.now()).await?;
        left -= now;
    }
    Ok(())
}

fn settings(concurrency: usize) -> DomainSettings {
    // Actors enough to keep both cores busy; the rest of the concurrency stands in their mailboxes.
    let pool = |actors: usize| PoolSettings { actors, mailbox: concurrency.div_ceil(actors) };
    DomainSettings {
        pools: Pools { fetch: pool(4), transform: pool(1), upload: pool(4) },
        jobs_max: concurrency,
        pages_max: 1,
        kinds: [(noop::KIND.into(), KindPolicy { concurrency: None, ..KindPolicy::default() })].into(),
        ..DomainSettings::default()
    }
}

/// The instant at which the last job that was enqueued by itself started.
#[derive(Default)]
struct Starts {
    last: Mutex<Option<Instant>>,
    told: Notify,
}

impl Starts {
    /// The jobs of the bulk are many and not waited for.
    fn started(&self, job: &Job) {
        if job.params["alone"] == true {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.told.notify_one();
        }
    }

    async fn latency_of_one(&self, ledger: &Arc<dyn Ledger>, clock: &Clock) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let job = NewJob::new(noop::DOMAIN, noop::KIND, json!({ "alone": true }));
        ledger.enqueue(vec![job], clock.now()).await?;
        self.told.notified().await;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let last = last.ok_or_else(|| Failure::internal("a job started and its instant was not kept"))?;
        Ok(last.saturating_duration_since(begun))
    }
}
