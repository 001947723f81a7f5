//! `longshore config show`: what is set, and by whom. Secrets are masked.

use clap::Subcommand;
use serde_json::{Map, json};

use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::config::Config;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Print the configuration as it is in force
    Show(Show),
}

#[derive(Clone, Debug, clap::Args)]
pub struct Show {
    /// Print the built-in defaults with their reasons instead
    #[arg(long)]
    pub defaults: bool,
    /// Say where each value comes from
    #[arg(long, conflicts_with = "defaults")]
    pub explain: bool,
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    let Command::Show(show) = args.command;
    let Context { config, output, .. } = context;
    if show.defaults {
        return show_defaults(output);
    }
    if show.explain {
        let explained = || {
            let entry = |shown: crate::config::Shown| {
                (shown.key, json!({ "value": shown.value, "origin": shown.origin.to_string() }))
            };
            config.shown().into_iter().map(entry).collect::<Map<_, _>>()
        };
        return if output.json { output.json(&explained()) } else { output.text(&config.explain()) };
    }
    output.show(&config.to_json(), || config.to_toml())
}

/// Needs no configuration that is right.
pub fn show_defaults(output: Output) -> Result<(), Failure> {
    if !output.json {
        return output.text(Config::defaults_text());
    }
    let config = Config::load(&crate::config::LoadOptions::default())?;
    output.json(&config.to_json())
}
