//! `longshore completions bash`: for the shell's start-up file.

use clap::CommandFactory;

use crate::cli::Cli;
use crate::cli::exit::Failure;
use crate::cli::output::Output;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    pub shell: clap_complete::Shell,
}

pub fn execute(args: &Args, output: Output) -> Result<(), Failure> {
    // Into memory first: the generator panics when its writer fails, as a closed pipe does.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "longshore", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}
