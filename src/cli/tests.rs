#![allow(clippy::unwrap_used)]

use clap::CommandFactory;
use longshore_actors::job::{JobId, State};
use serde_json::json;

use super::*;

fn parse(line: &str) -> Cli {
    Cli::try_parse_from(line.split_whitespace()).unwrap()
}

fn refused(line: &str) -> clap::Error {
    Cli::try_parse_from(line.split_whitespace()).unwrap_err()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_manual_parses() {
    for line in [
        "longshore run",
        "longshore demo --faults --once --bundles 100 --data /tmp/x --listen 127.0.0.1:0",
        "longshore sync catalog --force --dry-run",
        "longshore sync catalog.country --param iso=GB",
        "longshore check --offline",
        "longshore config show --explain --json",
        "longshore config show --defaults",
        "longshore jobs list --state failed,delayed --domain catalog --kind group --parent 1 --limit 5",
        "longshore jobs show 7",
        "longshore jobs retry 7 8",
        "longshore jobs cancel 7 --reason enough",
        "longshore domains",
        "longshore domains restart catalog",
        "longshore domains resize catalog fetch --actors 8 --mailbox 4",
        "longshore schedules",
        "longshore migrate --status",
        "longshore sandbox --listen 127.0.0.1:0 --bundles 10 --seed 3 --latency 50ms --error-rate 0.1",
        "longshore bench jobs --jobs 1000 --concurrency 256",
        "longshore completions zsh",
        "longshore version",
    ] {
        parse(line);
    }
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    let cli = parse("longshore --json jobs list --config x.toml --set service.threads=3 --set log.level=a=b -q");
    assert!(cli.json && cli.quiet);
    assert_eq!(cli.config.unwrap().to_str(), Some("x.toml"));
    assert_eq!(cli.set[1], ("log.level".to_owned(), "a=b".to_owned()));
}

#[test]
fn wrong_command_lines_end_with_the_code_of_usage() {
    for line in [
        "longshore",
        "longshore rum",
        "longshore sync",
        "longshore sync catalog --param iso",
        "longshore jobs show seven",
        "longshore jobs retry",
        "longshore jobs list --state done",
        "longshore jobs list --limit 0",
        "longshore jobs list --limit 501",
        "longshore domains resize catalog fetch",
        "longshore domains resize catalog download --actors 1",
        "longshore sandbox --error-rate 2",
        "longshore sandbox --latency 5",
        "longshore --set novalue run",
    ] {
        assert_eq!(refused(line).exit_code(), i32::from(Exit::Usage.code()), "{line}");
    }
    assert_eq!(refused("longshore --help").exit_code(), 0);
    assert!(Cli::command().render_help().to_string().contains("Exit codes:"));
}

#[test]
fn states_and_ids_are_typed() {
    let Command::Jobs(jobs::Args { command: jobs::Command::List(list) }) =
        parse("longshore jobs list --state failed,waiting --parent 9").command
    else {
        panic!("not a listing");
    };
    assert_eq!((list.state, list.parent), (vec![State::Failed, State::Waiting], Some(JobId(9))));
}

#[test]
fn a_sync_names_a_known_job() {
    let config = Config::load(&LoadOptions::default()).unwrap();
    let target = |line: &str| {
        let Command::Sync(args) = parse(line).command else { panic!("not a sync") };
        args.target(&config)
    };
    let full = target("longshore sync catalog --force").unwrap();
    assert_eq!((full.kind.as_str(), full.params), ("catalog.full", json!({ "force": true })));
    let country = target("longshore sync catalog.country --param iso=GB --param n=3").unwrap();
    assert_eq!((country.domain.as_str(), country.kind.as_str()), ("catalog", "catalog.country"));
    assert_eq!(country.params, json!({ "iso": "GB", "n": 3 }));
    let named = target("longshore sync catalog.group --param group=\"2024\"").unwrap();
    assert_eq!(named.params, json!({ "group": "2024" }));
    let flags = vec![("domains.football.enabled".to_owned(), "true".to_owned())];
    let enabled = Config::load(&LoadOptions { flags, ..LoadOptions::default() }).unwrap();
    let Command::Sync(args) = parse("longshore sync football").command else { panic!("not a sync") };
    assert_eq!(args.target(&enabled).unwrap().kind, "football.leagues");
    for (line, says) in [
        ("longshore sync football", "football is disabled; set domains.football.enabled = true"),
        ("longshore sync catalgo", "unknown domain `catalgo`; did you mean `catalog`?"),
        ("longshore sync mail", "unknown domain `mail`; there are catalog, football, products"),
        ("longshore sync catalog.grup", "unknown kind of job `catalog.grup`; did you mean `group`?"),
    ] {
        assert_eq!(target(line).unwrap_err(), Failure::usage(says));
    }
}
