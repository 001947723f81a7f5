//! The command line: one file a command.
//!
//! ```text
//! main ─ parse ─ load configuration ─ start the log ─▶ run | demo | sync | …    (own the service)
//!                                                  └─▶ jobs, domains ─ remote ─▶ the running service, else the store
//! ```
//!
//! - Results go to stdout, remarks and errors to stderr; `--json` makes a result JSON.
//! - An error is one line: what, where, what to do. The exit codes are in [`exit`].

pub mod bench;
pub mod check;
pub mod completions;
pub mod config;
pub mod demo;
pub mod domains;
pub mod exit;
pub mod follow;
pub mod jobs;
pub mod migrate;
pub mod output;
pub mod progress;
pub mod remote;
pub mod run;
pub mod sandbox;
pub mod schedules;
pub mod sync;
pub mod tree;
pub mod version;
pub mod wiring;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::config::{Config, LoadOptions};
use crate::telemetry::{self, Telemetry};

/// The file that is read when none is named.
const USUAL_FILE: &str = "longshore.toml";

/// Keeps your tables in step with other people's APIs, feeds and queues.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, after_help = exit::HELP, disable_help_subcommand = true)]
pub struct Cli {
    /// Configuration file [default: longshore.toml, if there is one]
    #[arg(long, global = true, env = "LONGSHORE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress and no remarks
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Set a key of the configuration, such as service.listen=127.0.0.1:9000
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service until it is told to stop
    Run(run::Args),
    /// Try everything with nothing else installed: a sandbox, and a service that syncs from it
    Demo(demo::Args),
    /// Sync one domain, or one kind of job of it, and wait for the end
    Sync(sync::Args),
    /// Check the configuration, and that what it names can be reached
    Check(check::Args),
    /// Show the configuration
    Config(config::Args),
    /// List, show, retry or cancel jobs
    Jobs(jobs::Args),
    /// Show the supervision tree; restart, park or resize parts of it
    Domains(domains::Args),
    /// Show when jobs start by themselves
    Schedules(schedules::Args),
    /// Bring the store's schema up to date
    Migrate(migrate::Args),
    /// Run the stand-in of the providers alone
    Sandbox(sandbox::Args),
    /// Measure this machine
    Bench(bench::Args),
    /// Print the completions of a shell
    Completions(completions::Args),
    /// Print the version
    Version,
}

/// What every command is given.
#[derive(Debug)]
pub struct Context {
    pub config: Config,
    /// What it was loaded from; a reload loads it again.
    pub source: LoadOptions,
    pub output: Output,
    pub telemetry: Telemetry,
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come here, too, with code 0; a closed pipe is nobody's concern.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    match dispatch(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(Failure { exit, text }) => {
            for line in text.lines() {
                use std::io::Write;
                // With stderr closed there is nobody to tell.
                let _ = writeln!(std::io::stderr(), "longshore: {line}");
            }
            exit.into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let output = Output { json: cli.json, quiet: cli.quiet };
    // These work without a configuration, so that a broken one cannot take them away.
    match &cli.command {
        Command::Completions(args) => return completions::execute(args, output),
        Command::Version => return version::execute(output),
        Command::Config(config::Args { command: config::Command::Show(show) }) if show.defaults => {
            return config::show_defaults(output);
        }
        Command::Run(_)
        | Command::Demo(_)
        | Command::Sync(_)
        | Command::Check(_)
        | Command::Config(_)
        | Command::Jobs(_)
        | Command::Domains(_)
        | Command::Schedules(_)
        | Command::Migrate(_)
        | Command::Sandbox(_)
        | Command::Bench(_) => {}
    }
    let source = LoadOptions { file: file(cli.config), env: environment(), flags: cli.set };
    let config = Config::load(&source)?;
    let telemetry = start_log(&config, &cli.command)?;
    let context = Context { config, source, output, telemetry };
    match cli.command {
        Command::Run(args) => run::execute(args, context),
        Command::Demo(args) => demo::execute(args, context),
        Command::Sync(args) => sync::execute(args, context),
        Command::Check(args) => check::execute(args, context),
        Command::Config(args) => config::execute(args, context),
        Command::Jobs(args) => jobs::execute(args, context),
        Command::Domains(args) => domains::execute(args, context),
        Command::Schedules(args) => schedules::execute(args, context),
        Command::Migrate(args) => migrate::execute(args, context),
        Command::Sandbox(args) => sandbox::execute(args, context),
        Command::Bench(args) => bench::execute(args, context),
        Command::Completions(args) => completions::execute(&args, output),
        Command::Version => version::execute(output),
    }
}

fn file(named: Option<PathBuf>) -> Option<PathBuf> {
    // An empty LONGSHORE_CONFIG is how a shell says that it names none.
    let named = named.filter(|file| !file.as_os_str().is_empty());
    named.or_else(|| Some(PathBuf::from(USUAL_FILE)).filter(|file| file.exists()))
}

/// Variables that are not valid text are left out: no key of ours can be among them.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A command that only asks does not chat: unless a level was said, it logs warnings alone.
fn start_log(config: &Config, command: &Command) -> Result<Telemetry, Failure> {
    let mut log = config.log.clone();
    let asks = match command {
        Command::Run(_) | Command::Demo(_) | Command::Sync(_) | Command::Sandbox(_) => false,
        Command::Check(_)
        | Command::Config(_)
        | Command::Jobs(_)
        | Command::Domains(_)
        | Command::Schedules(_)
        | Command::Migrate(_)
        | Command::Bench(_)
        | Command::Completions(_)
        | Command::Version => true,
    };
    if asks && config.is_default("log.level") {
        log.level = "warn".to_owned();
    }
    telemetry::init(&log).map_err(Failure::internal)
}

/// Runs `work` on a runtime of its own; for commands that have no service around them.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(work)
}

/// `key=value`, of which the value may hold more of `=`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests;
