//! `longshore bench catalog`: what a sync costs, from the upstream's answer to the row on disk.
//!
//! ```text
//! child process: longshore sandbox ──HTTP──▶ fetch ─▶ transform ─▶ upload ─▶ SQLite       the service, in this process
//! first       into an empty store: every bundle is written
//! unchanged   again: every bundle is compared, none is written
//! ```

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use longshore_actors::job::NewJob;
use longshore_actors::ledger::JobRecord;
use longshore_actors::threads::Threads;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::bench::{Spread, own_store, peak_rss_mib};
use crate::cli::exit::Failure;
use crate::cli::remote::Door;
use crate::cli::sync::run_one;
use crate::cli::{Context, follow};
use crate::config::{Config, Secret};
use crate::domains::catalog;
use crate::service::{Parts, Service, with_system};

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
        let done = with_system(threads, |threads| one_round(&config, threads));
        rounds.push(done.map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))??);
    }
    let peak = peak_rss_mib();
    output.show(&json!({ "bundles": args.bundles, "rounds": rounds, "peak_rss_mib": peak }), || {
        let mut spread = Spread::new();
        spread.line("first sync", rounds.iter().map(|round| round.first_per_second), "bundles/s");
        spread.line("nothing changed", rounds.iter().map(|round| round.unchanged_per_second), "bundles/s");
        spread.line("peak memory", [peak], "MiB");
        format!("{} bundles, {} a page\n{}", args.bundles, config.domains.catalog.own.per_page, spread.render())
    })
}

#[derive(Clone, Debug, Serialize)]
struct Round {
    first_per_second: f64,
    unchanged_per_second: f64,
}

async fn one_round(config: &Config, threads: Threads) -> Result<Round, Failure> {
    let (config, _folder) = own_store(config)?;
    let service = Service::start(&config, Parts::SYNC, threads)?;
    let first_per_second = sync(&service).await?;
    let unchanged_per_second = sync(&service).await?;
    service.shutdown(config.service.shutdown_grace).await;
    Ok(Round { first_per_second, unchanged_per_second })
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

/// `longshore sandbox` as a child, so that its memory and its allocations are not the service's.
struct SandboxProcess {
    child: Child,
    base_url: String,
    api_key: String,
}

impl SandboxProcess {
    fn start(bundles: u32) -> Result<Self, Failure> {
        let failed = |why: String| Failure::unavailable(format!("cannot start the sandbox: {why}"));
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut child = Command::new(program)
            .args(["--json", "sandbox", "--listen", "127.0.0.1:0", "--bundles", &bundles.to_string()])
            .env("LOG_LEVEL", "error")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            // It says where it listens once it does; printed over several lines, up to the closing brace.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                said.push_str(&line);
                if line.starts_with('}') || (line.starts_with('{') && line.ends_with('}')) {
                    break;
                }
            }
        }
        let mut sandbox = Self { child, base_url: String::new(), api_key: String::new() };
        let told: Value = serde_json::from_str(&said).map_err(|error| failed(format!("it said {said:?}: {error}")))?;
        let text =
            |key: &str| told[key].as_str().map(str::to_owned).ok_or_else(|| failed(format!("it named no {key}")));
        (sandbox.base_url, sandbox.api_key) = (text("base_url")?, text("api_key")?);
        Ok(sandbox)
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        // It holds nothing that must be kept.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
