//! `longshore domains`: the supervision tree as it is now, and an operator's word to parts of it.

use clap::Subcommand;
use longshore_actors::clock::Clock;
use longshore_actors::job::State;
use longshore_actors::ledger::Stats;
use longshore_actors::stage::StageName;
use serde_json::json;

use crate::cli::exit::Failure;
use crate::cli::output::Table;
use crate::cli::remote::{Client, Door, Overview};
use crate::cli::{Context, block_on, tree};
use crate::config::{Config, nearest};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Start the domain's coordinator and workers anew
    Restart { name: String },
    /// Take no more work of this domain until it is un-parked
    Park { name: String },
    /// Take work again
    Unpark { name: String },
    /// Change a pool while it runs; what is in flight finishes first
    Resize(Resize),
}

#[derive(Clone, Debug, clap::Args)]
pub struct Resize {
    pub name: String,
    /// fetch, transform or upload
    #[arg(value_parser = stage)]
    pub stage: StageName,
    #[arg(long, required_unless_present = "mailbox", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub actors: Option<u32>,
    /// Places in the mailbox of each actor
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub mailbox: Option<u32>,
}

fn stage(text: &str) -> Result<StageName, String> {
    StageName::ALL
        .into_iter()
        .find(|stage| stage.as_str() == text)
        .ok_or_else(|| "the stages are fetch, transform, upload".to_owned())
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    let Context { config, output, .. } = context;
    block_on(async {
        let Some(command) = args.command else {
            let Overview { parts, stats } = Door::open(&config).await?.overview().await?;
            if parts.is_empty() {
                output.remark(&format!(
                    "no service listens at {}: these are the jobs in the store",
                    config.service.listen
                ));
            }
            return output.show(&json!({ "parts": parts, "stats": stats }), || {
                let picture =
                    if parts.is_empty() { String::new() } else { tree::draw(&parts, Clock::system().now()) + "\n" };
                picture + &queues(&stats)
            });
        };
        let (path, body, done) = request(&command, &config)?;
        let answer = Client::demand(&config).await?.post(&path, &body).await?;
        output.show(&json!({ "ok": true, "answer": answer }), || format!("{done}\n"))
    })
}

/// Where the command goes, what it carries, and what is said when it is done.
fn request(command: &Command, config: &Config) -> Result<(String, serde_json::Value, String), Failure> {
    let path = |name: &str, rest: &str| {
        if config.domains.get(name).is_some() {
            return Ok(format!("/api/v1/domains/{name}/{rest}"));
        }
        let names: Vec<&str> = config.domains.all().into_iter().map(|(name, _)| name).collect();
        let advice = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.join(", ")),
        };
        Err(Failure::usage(format!("unknown domain `{name}`; {advice}")))
    };
    match command {
        Command::Restart { name } => Ok((path(name, "restart")?, json!({}), format!("{name} is restarted"))),
        Command::Park { name } => Ok((path(name, "park")?, json!({}), format!("{name} is parked"))),
        Command::Unpark { name } => Ok((path(name, "unpark")?, json!({}), format!("{name} is un-parked"))),
        Command::Resize(Resize { name, stage, actors, mailbox }) => {
            let Some(domain) = config.domains.get(name) else { return path(name, "").map(|_| Default::default()) };
            let pool = match stage {
                StageName::Fetch => domain.pools.fetch,
                StageName::Transform => domain.pools.transform,
                StageName::Upload => domain.pools.upload,
            };
            // Both go over the wire; what was not said stays as configured.
            let actors = actors.map_or(pool.actors, |actors| actors as usize);
            let mailbox = mailbox.map_or(pool.mailbox, |mailbox| mailbox as usize);
            let body = json!({ "actors": actors, "mailbox": mailbox });
            let done = format!("{name}/{stage} has {actors} actors with {mailbox} places each, until the next start");
            Ok((path(name, &format!("pools/{stage}"))?, body, done))
        }
    }
}

fn queues(stats: &Stats) -> String {
    let mut table = Table::new(&["KIND", ">WAITING", ">DELAYED", ">ACTIVE", ">COMPLETED", ">FAILED", ">CANCELLED"]);
    let row = |name: &str, count: &dyn Fn(State) -> u64| {
        let counts = State::ALL.into_iter().map(|state| count(state).to_string());
        std::iter::once(name.to_owned()).chain(counts).collect()
    };
    for kind in &stats.kinds {
        table.row(row(&kind.kind, &|state| kind.count(state)));
    }
    table.row(row("total", &|state| stats.total(state)));
    let stale = stats.stale_writes;
    let refused = if stale > 0 { format!("{stale} writes were refused for a stale lease\n") } else { String::new() };
    table.render() + &refused
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use longshore_actors::ledger::KindStats;

    use super::*;

    #[test]
    fn a_resize_keeps_what_was_not_said() {
        let config = Config::load(&Default::default()).unwrap();
        let resize = |name: &str| {
            Command::Resize(Resize { name: name.into(), stage: StageName::Fetch, actors: Some(9), mailbox: None })
        };
        let (path, body, _) = request(&resize("catalog"), &config).unwrap();
        assert_eq!(path, "/api/v1/domains/catalog/pools/fetch");
        assert_eq!(body, json!({ "actors": 9, "mailbox": 2 }));
        let failure = request(&resize("catalgo"), &config).unwrap_err();
        assert_eq!(failure, Failure::usage("unknown domain `catalgo`; did you mean `catalog`?"));
    }

    #[test]
    fn queues_are_counted_by_kind_and_in_all() {
        let kind = |name: &str, waiting, failed| KindStats {
            domain: "catalog".into(),
            kind: name.into(),
            waiting,
            delayed: 0,
            active: 0,
            completed: 5,
            failed,
            cancelled: 0,
        };
        let stats = Stats { kinds: vec![kind("catalog.full", 1, 0), kind("catalog.group", 2, 3)], stale_writes: 4 };
        let text = queues(&stats);
        let total = text.lines().nth(3).unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(total, ["total", "3", "0", "0", "10", "3", "0"]);
        assert!(text.ends_with("4 writes were refused for a stale lease\n"));
    }
}
