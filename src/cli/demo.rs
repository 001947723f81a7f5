//! `longshore demo`: everything at once, with nothing else installed.

use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The sandbox answers with errors and 429s, and a worker panics now and then
    #[arg(long)]
    pub faults: bool,
    /// Exit when everything is synced; 0 only if the store holds what the sandbox served
    #[arg(long)]
    pub once: bool,
    /// Bundles in the sandbox
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub bundles: u32,
    /// Folder of the demo's data
    #[arg(long, default_value = "data/demo", value_name = "DIR")]
    pub data: PathBuf,
    /// Address of the dashboard [default: service.listen]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<std::net::SocketAddr>,
}

pub fn execute(_args: Args, _context: Context) -> Result<(), Failure> {
    Err(Failure::internal("not wired yet"))
}
