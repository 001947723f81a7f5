//! `longshore bench`: what this machine does.
//!
//! Each bench works on a store of its own beside the configured one (a file, or a database on the same server), with
//! the same settings, and takes it away afterwards. Medians are shown with their spread: a machine that does other
//! things as well shows it there.

mod catalog;
mod jobs;
mod rows;
mod sandbox;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::Table;
use crate::config::{Config, StoreUrl};
use crate::service::{make_database, remove_database};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Enqueue, claim, run and record jobs that do nothing, on a store like the configured one
    Jobs(jobs::Jobs),
    /// Sync a large catalogue from a sandbox in a process of its own: first, and with nothing changed
    Catalog(catalog::Bundles),
    /// Sync plain rows of fifteen columns into PostgreSQL, beside COPY of the same rows
    Rows(rows::Rows),
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    match args.command {
        Command::Jobs(args) => jobs::execute(args, context),
        Command::Catalog(args) => catalog::execute(args, context),
        Command::Rows(args) => rows::execute(args, context),
    }
}

/// A table of medians with the least and the most of all rounds.
struct Spread {
    table: Table,
}

impl Spread {
    fn new() -> Self {
        Self { table: Table::new(&["", "median", "least", "most", ""]) }
    }

    fn line(&mut self, name: &str, values: impl IntoIterator<Item = f64>, unit: &str) {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let show = |value: Option<&f64>| value.map_or_else(String::new, |value| figure(*value));
        let median = show(values.get(values.len() / 2));
        self.table.row(vec![name.to_owned(), median, show(values.first()), show(values.last()), unit.to_owned()]);
    }

    fn render(&self) -> String {
        self.table.render()
    }
}

fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// A store like the configured one and apart from it, which [`OwnStore::remove`] takes away.
struct OwnStore {
    config: Config,
    /// The file's; gone when it is dropped.
    _folder: Option<tempfile::TempDir>,
}

impl OwnStore {
    /// A file beside the configured one, so that it lies on the same disk; or a database on the same server.
    async fn make(config: &Config) -> Result<OwnStore, Failure> {
        match &config.store.url {
            StoreUrl::Sqlite(path) => own_file(config, path),
            StoreUrl::Postgres(_) => {
                let config = make_database(config, &database_name()).await?;
                Ok(OwnStore { config, _folder: None })
            }
        }
    }

    async fn remove(self, configured: &Config) -> Result<(), Failure> {
        if let StoreUrl::Postgres(_) = &self.config.store.url {
            remove_database(configured, &database_name()).await?;
        }
        Ok(())
    }
}

fn database_name() -> String {
    format!("longshore_bench_{}", std::process::id())
}

fn own_file(config: &Config, path: &Path) -> Result<OwnStore, Failure> {
    let beside =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(PathBuf::from("."), PathBuf::from);
    let failed = |error: std::io::Error| {
        Failure::unavailable(format!("cannot make a folder in {}: {error}; set store.url", beside.display()))
    };
    std::fs::create_dir_all(&beside).map_err(failed)?;
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&beside).map_err(failed)?;
    let mut config = config.clone();
    config.store.url = StoreUrl::Sqlite(folder.path().join("bench.db"));
    Ok(OwnStore { config, _folder: Some(folder) })
}

/// The most memory this process has had, in MiB; 0 where the system does not tell.
fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
