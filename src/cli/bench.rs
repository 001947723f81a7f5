//! `longshore bench`: what this machine does.

use clap::Subcommand;

use crate::cli::Context;
use crate::cli::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Enqueue, claim, run and record jobs that do nothing, on the configured store
    Jobs(Jobs),
}

#[derive(Clone, Debug, clap::Args)]
pub struct Jobs {
    /// How many
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub jobs: u64,
    /// How many at the same time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: u32,
}

pub fn execute(args: Args, _context: Context) -> Result<(), Failure> {
    let Args { command: Command::Jobs(_jobs) } = args;
    Err(Failure::internal("not wired yet"))
}
