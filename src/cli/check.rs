//! `longshore check`: is the configuration right, and can what it names be reached?

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Table;
use crate::cli::{Context, block_on, wiring};
use crate::config::{Config, mask_password};
use crate::service::try_settings;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration alone: connect to nothing
    #[arg(long)]
    pub offline: bool,
}

/// What came of reaching one thing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// `store`, `upstream eSIM Go`.
    pub what: String,
    pub ok: bool,
    /// How it is, or what is wrong and what to do.
    pub text: String,
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    let Context { config, source, output, .. } = context;
    let wrong = wrong(&config);
    let file = source.file.as_ref().map_or("the built-in configuration".to_owned(), |file| file.display().to_string());
    let text = wrong.clone().unwrap_or_else(|| format!("{file} is valid"));
    let mut findings = vec![Finding { what: "configuration".to_owned(), ok: wrong.is_none(), text }];
    for note in &config.notes {
        findings.push(Finding { what: "note".to_owned(), ok: true, text: note.clone() });
    }
    for (name, domain) in config.domains.all() {
        let pools = domain.pools;
        let text = if domain.enabled {
            format!(
                "{}, {} requests/s, fetch {}×{} transform {}×{} upload {}×{}",
                mask_password(&domain.base_url),
                domain.rate_per_second,
                pools.fetch.actors,
                pools.fetch.mailbox,
                pools.transform.actors,
                pools.transform.mailbox,
                pools.upload.actors,
                pools.upload.mailbox,
            )
        } else {
            "disabled".to_owned()
        };
        findings.push(Finding { what: format!("domain {name}"), ok: true, text });
    }
    if !args.offline && wrong.is_none() {
        findings.extend(block_on(async { Ok(wiring::connect(&config).await) })?);
    }

    let ok = findings.iter().all(|finding| finding.ok);
    output.show(&json!({ "ok": ok, "findings": findings }), || {
        let mut table = Table::new(&["", "", ""]);
        for Finding { what, ok, text } in &findings {
            for (i, line) in text.lines().enumerate() {
                let what = if i == 0 { what.clone() } else { String::new() };
                table.row(vec![if *ok { "ok" } else { "FAIL" }.to_owned(), what, line.to_owned()]);
            }
        }
        table.render().trim_start_matches('\n').to_owned()
    })?;
    match (wrong, ok) {
        (Some(_), _) => Err(Failure::silent(Exit::Config)),
        (None, false) => Err(Failure::silent(Exit::Unavailable)),
        (None, true) => Ok(()),
    }
}

/// What would keep `run` from starting, as far as the configuration alone tells.
fn wrong(config: &Config) -> Option<String> {
    if let Err(errors) = config.check_runnable() {
        return Some(errors.to_string());
    }
    try_settings(config).err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::LoadOptions;

    #[test]
    fn what_run_would_refuse_is_told_here() {
        let wrong = |flags: &[(&str, &str)]| {
            let key = [("domains.catalog.api_key", "k")];
            let flags = key.iter().chain(flags).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            wrong(&Config::load(&LoadOptions { flags, ..LoadOptions::default() }).unwrap())
        };
        assert_eq!(wrong(&[]), None);
        let schedule = wrong(&[("domains.catalog.jobs.full.schedule", "0 0 31 2 *")]).unwrap();
        assert!(
            schedule.contains("schedule catalog.full") && schedule.contains("no such day ever comes"),
            "{schedule}"
        );
        let key = wrong(&[("domains.catalog.api_key", "a\nb")]).unwrap();
        assert!(key.contains("the key holds characters") && !key.contains("a\nb"), "{key}");
    }
}
