//! The configuration: one TOML file over built-in defaults, the environment over the file, flags over all.
//!
//! ```text
//! default.toml ─┐
//! file ──parse──interpolate──┼─▶ tree (every value knows its origin) ─▶ typed settings ─▶ validate ─▶ Config
//! environment ──┤                 └──▶ show, explain, diff (secrets masked)
//! flags ────────┘
//! ```
//!
//! - `config/default.toml` is the one source of the defaults.
//! - All problems are told at once, each with its place and what to do; there is no half-valid [`Config`].
//! - The environment is an argument; nothing here reads a global.
//! - It says what is set, not whether it works: that is `longshore check`.

mod catalog;
mod domain;
mod football;
mod interpolate;
mod objects;
mod problem;
mod products;
mod reader;
mod schedule;
mod secret;
mod service;
mod show;
mod sources;
mod tree;
mod units;
mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use crate::config::catalog::{Catalog, CatalogKeys, RemovalGuard};
pub use crate::config::domain::{Breaker, Domain, JobKind, Pool, Pools, Restart};
pub use crate::config::football::{Football, FootballKeys};
pub use crate::config::objects::{Objects, ObjectsPlace, ObjectsUrl};
pub use crate::config::problem::{ConfigErrors, Problem, nearest};
pub use crate::config::products::{Products, ProductsKeys};
pub use crate::config::schedule::{Missed, Planned, Schedule, When};
pub use crate::config::secret::{MASK, Secret, mask_password};
pub use crate::config::service::{
    Log, LogFormat, Pooler, PostgresUrl, Retention, Service, Store, StoreUrl, Synchronous, ThisNode, Upkeep,
};
pub use crate::config::show::{Change, Shown};
pub use crate::config::tree::Origin;
pub use crate::config::units::{parse_duration, parse_size, show_duration};

use crate::config::reader::{View, fields_of, read};
use crate::config::tree::{Node, Value};

/// Every key with its default and its reason.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// What a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    pub file: Option<PathBuf>,
    pub env: BTreeMap<String, String>,
    /// Dotted key and value, the last one wins.
    pub flags: Vec<(String, String)>,
}

/// Everything that can be set, checked as a whole.
#[derive(Clone, Debug)]
pub struct Config {
    pub store: Store,
    pub objects: Objects,
    pub service: Service,
    pub node: ThisNode,
    pub log: Log,
    pub retention: Retention,
    pub upkeep: Upkeep,
    pub domains: Domains,
    /// Things worth saying that are no problem.
    pub notes: Vec<String>,
    values: show::Values,
}

/// One field a domain, so that a forgotten one is a compile error in the wiring.
#[derive(Clone, Debug)]
pub struct Domains {
    pub catalog: Catalog,
    pub football: Football,
    pub products: Products,
}

impl Domains {
    /// What all have, by name.
    pub fn all(&self) -> Vec<(&'static str, &Domain)> {
        let Domains { catalog, football, products } = self;
        vec![("catalog", &catalog.domain), ("football", &football.domain), ("products", &products.domain)]
    }

    pub fn get(&self, name: &str) -> Option<&Domain> {
        self.all().into_iter().find(|(known, _)| *known == name).map(|(_, domain)| domain)
    }
}

impl Config {
    /// Reads, merges, types and checks.
    pub fn load(options: &LoadOptions) -> Result<Config, ConfigErrors> {
        let mut problems = Vec::new();
        let defaults = defaults().map_err(|problem| ConfigErrors(vec![problem]))?;
        let mut tree = defaults.clone();
        let mut notes = Vec::new();
        sources::lay_file(&mut tree, options, &mut problems);
        sources::lay_environment(&mut tree, &options.env, &mut notes);
        sources::lay_flags(&mut tree, &options.flags, &mut problems);

        match Self::typed(tree, &defaults, notes, &mut problems) {
            Some(config) if problems.is_empty() => {
                validate::check(&config, &mut problems);
                if problems.is_empty() { Ok(config) } else { Err(ConfigErrors(problems)) }
            }
            Some(config) => {
                // What was readable is checked as well, so that all is told in one go.
                validate::check(&config, &mut problems);
                Err(ConfigErrors(problems))
            }
            None => Err(ConfigErrors(problems)),
        }
    }

    fn typed(mut tree: Node, defaults: &Node, notes: Vec<String>, problems: &mut Vec<Problem>) -> Option<Config> {
        remove_strangers(&mut tree, defaults, "", problems);
        remove_strangers(&mut tree, defaults, "domains", problems);
        let store = read(&mut tree, defaults, "store", View::All, problems);
        let objects = read(&mut tree, defaults, "objects", View::All, problems);
        let service = read(&mut tree, defaults, "service", View::All, problems);
        let node = read(&mut tree, defaults, "node", View::All, problems);
        let log = read(&mut tree, defaults, "log", View::All, problems);
        let retention = read(&mut tree, defaults, "retention", View::All, problems);
        let upkeep = read(&mut tree, defaults, "upkeep", View::All, problems);
        let catalog = read_catalog(&mut tree, defaults, problems);
        let football = read_football(&mut tree, defaults, problems);
        let products = read_products(&mut tree, defaults, problems);
        Some(Config {
            store: store?,
            objects: objects?,
            service: service?,
            node: node?,
            log: log?,
            retention: retention?,
            upkeep: upkeep?,
            domains: Domains { catalog: catalog?, football: football?, products: products? },
            notes,
            values: show::Values(tree),
        })
    }

    /// What must be set before the service can run, beyond what is needed to read its data.
    pub fn check_runnable(&self) -> Result<(), ConfigErrors> {
        let problems = validate::missing_to_run(self);
        if problems.is_empty() { Ok(()) } else { Err(ConfigErrors(problems)) }
    }
}

fn read_catalog(tree: &mut Node, defaults: &Node, problems: &mut Vec<Problem>) -> Option<Catalog> {
    const PATH: &str = "domains.catalog";
    let own = fields_of::<CatalogKeys>();
    remove_strangers(tree, defaults, "domains.catalog.jobs", problems);
    // `View::Without` reports the unknown keys of the table, with the own keys among its suggestions.
    let domain = read(tree, defaults, PATH, View::Without(own), problems);
    let own = read(tree, defaults, PATH, View::Only(own), problems);
    Some(Catalog { domain: domain?, own: own? })
}

fn read_football(tree: &mut Node, defaults: &Node, problems: &mut Vec<Problem>) -> Option<Football> {
    const PATH: &str = "domains.football";
    let own = fields_of::<FootballKeys>();
    remove_strangers(tree, defaults, "domains.football.jobs", problems);
    let domain = read(tree, defaults, PATH, View::Without(own), problems);
    let own = read(tree, defaults, PATH, View::Only(own), problems);
    Some(Football { domain: domain?, own: own? })
}

fn read_products(tree: &mut Node, defaults: &Node, problems: &mut Vec<Problem>) -> Option<Products> {
    const PATH: &str = "domains.products";
    let own = fields_of::<ProductsKeys>();
    remove_strangers(tree, defaults, "domains.products.jobs", problems);
    let domain = read(tree, defaults, PATH, View::Without(own), problems);
    let own = read(tree, defaults, PATH, View::Only(own), problems);
    Some(Products { domain: domain?, own: own? })
}

fn defaults() -> Result<Node, Problem> {
    tree::parse(DEFAULTS, &|_, _| Origin::Default)
}

/// Takes out what the defaults do not know, in tables where they know everything: sections, domains, kinds of jobs.
fn remove_strangers(tree: &mut Node, defaults: &Node, path: &str, problems: &mut Vec<Problem>) {
    let at = |root: &Node| if path.is_empty() { Some(root.clone()) } else { root.get(path).cloned() };
    let (Some(known), Some(here)) = (at(defaults), at(tree)) else { return };
    let steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
    let (Value::Table(known_table), Value::Table(table)) = (&known.value, &here.value) else {
        problems.push(Problem {
            place: here.origin.to_string(),
            key: path.to_owned(),
            text: "expected a table".to_owned(),
        });
        tree.put(&steps, known);
        return;
    };
    for (name, node) in table.iter().filter(|(name, _)| !known_table.contains_key(*name)) {
        let what = match path {
            "" => "section",
            "domains" => "domain",
            _ => "kind of job",
        };
        let names = || known_table.keys().map(String::as_str);
        let text = match nearest(name, names()) {
            Some(near) => format!("unknown {what}; did you mean `{near}`?"),
            None => format!("unknown {what}; there are {}", names().collect::<Vec<_>>().join(", ")),
        };
        let full: Vec<&str> = steps.iter().copied().chain([name.as_str()]).collect();
        problems.push(Problem { place: node.key.to_string(), key: full.join("."), text });
        tree.remove(&full);
    }
}

#[cfg(test)]
mod tests;
