//! `longshore run`: the service, until it is told to stop.

use crate::cli::Context;
use crate::cli::exit::Failure;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

pub fn execute(_args: Args, context: Context) -> Result<(), Failure> {
    context.config.check_runnable()?;
    Err(Failure::internal("not wired yet"))
}
