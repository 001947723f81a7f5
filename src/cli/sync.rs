//! `longshore sync catalog`: one job and all it asks for, to the end.

use serde_json::{Map, Value};

use crate::cli::exit::Failure;
use crate::cli::{Context, key_value};
use crate::config::{Config, nearest};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A domain, or one of its kinds of jobs: catalog, catalog.group
    #[arg(value_name = "DOMAIN[.KIND]")]
    pub target: String,
    /// A param of the job, such as iso=GB; numbers and true or false are taken as such
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
    /// Checks the names against the configuration; a domain alone means its kind `full`.
    pub fn target(&self, config: &Config) -> Result<Target, Failure> {
        let (domain, kind) = self.target.split_once('.').unwrap_or((&self.target, "full"));
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

/// Only numbers and booleans are more than text: `iso=GB` needs no quotes.
fn param(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        Ok(Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_)) | Err(_) => {
            Value::String(text.to_owned())
        }
    }
}

fn advice(word: &str, names: &[&str]) -> String {
    match nearest(word, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.join(", ")),
    }
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    let _target = args.target(&context.config)?;
    context.config.check_runnable()?;
    Err(Failure::internal("not wired yet"))
}
