//! `longshore migrate`: brings the store's schema up to date.

use crate::cli::Context;
use crate::cli::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Say where the schema stands, and change nothing
    #[arg(long)]
    pub status: bool,
}

pub fn execute(_args: Args, _context: Context) -> Result<(), Failure> {
    Err(Failure::internal("not wired yet"))
}
