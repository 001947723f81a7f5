//! `longshore schedules`: when jobs start by themselves, as configured.

use jiff::Zoned;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::Table;
use crate::config::{Config, Schedule, When};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    kind: String,
    params: Value,
    when: String,
    missed: crate::config::Missed,
    /// Without jitter. An interval counts from its last fire, which only the running service knows.
    next: Option<String>,
}

pub fn execute(_args: Args, context: Context) -> Result<(), Failure> {
    let entries = entries(&context.config, &Zoned::now());
    context.output.show(&json!({ "schedules": entries }), || {
        if entries.is_empty() {
            return "no schedules: set domains.<name>.jobs.<kind>.schedule\n".to_owned();
        }
        let mut table = Table::new(&["NAME", "KIND", "WHEN", "NEXT", "PARAMS"]);
        for Entry { name, kind, params, when, missed: _, next } in &entries {
            let params =
                if params.as_object().is_some_and(|map| map.is_empty()) { String::new() } else { params.to_string() };
            let next = next.clone().unwrap_or_else(|| "-".to_owned());
            table.row(vec![name.clone(), kind.clone(), when.clone(), next, params]);
        }
        table.render()
    })
}

fn entries(config: &Config, now: &Zoned) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (name, domain) in config.domains.all().into_iter().filter(|(_, domain)| domain.enabled) {
        let of_kinds = domain
            .jobs
            .iter()
            .filter_map(|(kind, job)| Some((format!("{name}.{kind}"), kind, json!({}), job.schedule.as_ref()?)));
        let planned = domain.schedules.iter();
        let planned = planned.map(|it| (format!("{name}.{}", it.name), &it.kind, it.params.clone(), &it.schedule));
        for (title, kind, params, schedule) in of_kinds.chain(planned) {
            let Schedule { when, missed, jitter: _ } = schedule;
            entries.push(Entry {
                name: title,
                kind: format!("{name}.{kind}"),
                params,
                when: when.to_string(),
                missed: *missed,
                next: next(when, now),
            });
        }
    }
    entries
}

fn next(when: &When, now: &Zoned) -> Option<String> {
    match when {
        When::Every(_) => None,
        When::Cron { text, zone } => {
            let cron: croner::Cron = text.parse().ok()?;
            let here = now.with_time_zone(TimeZone::get(zone).ok()?);
            let fire = cron.find_next_occurrence(&here, false).ok()?;
            Some(fire.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_next_fire_of_a_cron_text_is_in_its_zone() {
        let now: Zoned = "2026-11-22T08:00:00+00:00[UTC]".parse().unwrap();
        let cron = |text: &str, zone: &str| next(&When::Cron { text: text.into(), zone: zone.into() }, &now).unwrap();
        assert_eq!(cron("0 3 1 * *", "UTC"), "2026-12-01T03:00:00+00:00");
        assert_eq!(cron("@daily", "Europe/Berlin"), "2026-11-23T00:00:00+01:00");
        let config = Config::load(&Default::default()).unwrap();
        let entries = entries(&config, &now);
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].name.as_str(), entries[0].kind.as_str()), ("catalog.full", "catalog.full"));
    }
}
