//! `longshore sync catalog`: one job and all it asks for, to the end.

use longshore_actors::events::Listener;
use longshore_actors::job::{NewJob, UniqueScope};
use longshore_actors::ledger::JobRecord;
use longshore_actors::threads::Threads;
use serde_json::{Map, Value};

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::progress::{self, Mode};
use crate::cli::remote::{Client, Door};
use crate::cli::run::{self, Signals};
use crate::cli::{Context, follow, key_value};
use crate::config::{Config, Domains, nearest};
use crate::service::{Parts, Service, with_system};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A domain, or one of its kinds of jobs: catalog, catalog.group
    #[arg(value_name = "DOMAIN[.KIND]")]
    pub target: String,
    /// A param of the job, such as iso=GB; numbers, true and false are taken as such unless in quotes: group='"2024"'
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = key_value)]
    pub params: Vec<(String, String)>,
    /// Also what is fresh still
    #[arg(long)]
    pub force: bool,
    /// Fetch and transform, report what would change, write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The job that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub domain: String,
    /// In full: `catalog.full`.
    pub kind: String,
    pub params: Value,
}

impl Args {
    /// Checks the names against the configuration; a domain alone means its default kind.
    pub fn target(&self, config: &Config) -> Result<Target, Failure> {
        let alone = || (self.target.as_str(), Domains::default_kind(&self.target));
        let (domain, kind) = self.target.split_once('.').unwrap_or_else(alone);
        let Some(settings) = config.domains.get(domain) else {
            let names: Vec<&str> = config.domains.all().into_iter().map(|(name, _)| name).collect();
            return Err(Failure::usage(format!("unknown domain `{domain}`; {}", advice(domain, &names))));
        };
        if !settings.jobs.contains_key(kind) {
            let kinds: Vec<&str> = settings.jobs.keys().map(String::as_str).collect();
            return Err(Failure::usage(format!("unknown kind of job `{domain}.{kind}`; {}", advice(kind, &kinds))));
        }
        if !settings.enabled {
            return Err(Failure::usage(format!("{domain} is disabled; set domains.{domain}.enabled = true")));
        }
        let mut params = Map::new();
        for (key, value) in &self.params {
            params.insert(key.clone(), param(value));
        }
        if self.force {
            params.insert("force".to_owned(), Value::Bool(true));
        }
        Ok(Target { domain: domain.to_owned(), kind: format!("{domain}.{kind}"), params: Value::Object(params) })
    }
}

/// Only numbers and booleans are more than text: `iso=GB` needs no quotes, and a name of digits does.
fn param(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        Ok(Value::Null | Value::Array(_) | Value::Object(_)) | Err(_) => Value::String(text.to_owned()),
    }
}

fn advice(word: &str, names: &[&str]) -> String {
    match nearest(word, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.join(", ")),
    }
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    let target = args.target(&context.config)?;
    context.config.check_runnable()?;
    let threads = context.config.service.threads;
    with_system(threads, |threads| async move {
        // A dry run reads a copy of the store, whoever owns it.
        let service = if args.dry_run { None } else { Client::connect(&context.config).await? };
        match service {
            Some(client) => {
                client.demand_owner(&context.config)?;
                through_service(Door::Http(client), target, context.output).await
            }
            None => in_this_process(&args, target, context, threads).await,
        }
    })
    .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?
}

/// The running service does it; this process watches.
async fn through_service(door: Door, target: Target, output: Output) -> Result<(), Failure> {
    let Target { domain, kind, params } = target;
    let put = door.enqueue(NewJob::new(domain, kind, params)).await?;
    output.remark(&format!(
        "job {} in the running service; `longshore jobs show {}` tells how far it is",
        put.id, put.id
    ));
    let record = follow::end_of(&door, put.id, None).await?;
    let family = follow::family_of(&door, put.id).await?;
    follow::show(output, &record, &family)?;
    follow::verdict(&record, &family)
}

async fn in_this_process(args: &Args, target: Target, context: Context, threads: Threads) -> Result<(), Failure> {
    let Context { config, output, telemetry, .. } = context;
    let mut signals = Signals::new()?;
    let parts = Parts { dry_run: args.dry_run, ..Parts::SYNC };
    let service = Service::start(&config, parts, threads)?;
    let events = &service.tree.runtime().events;
    let progress = actix::spawn(progress::watch(events.listen(), telemetry, Mode::fitting(output.quiet)));
    let door = Door::Direct(service.ledger.clone());
    let Target { domain, kind, params } = target;
    // The same sync again, after it was cut off, goes on with the job that stands in the ledger.
    let key = format!("sync {kind} {params}");
    let job = NewJob::new(domain, kind, params).unique(key, UniqueScope::UntilCompleted);
    let result = tokio::select! {
        result = run_one(&door, job, events.listen()) => result,
        name = signals.stop() => {
            let reason = format!("{name}: the job is given back and goes on with the next start");
            Err(Failure::new(Exit::Interrupted, reason))
        }
    };
    progress.abort();
    drop(door);
    run::end(service, config.service.shutdown_grace, signals).await;
    let (record, family) = result?;
    if args.dry_run {
        output.remark("dry run: nothing was written; these are the changes that a sync would make");
    }
    follow::show(output, &record, &family)?;
    follow::verdict(&record, &family)
}

/// Enqueues a job and waits for its end.
pub async fn run_one(door: &Door, job: NewJob, events: Listener) -> Result<(JobRecord, Vec<JobRecord>), Failure> {
    let put = door.enqueue(job).await?;
    let record = follow::end_of(door, put.id, Some(events)).await?;
    let family = follow::family_of(door, put.id).await?;
    Ok((record, family))
}
