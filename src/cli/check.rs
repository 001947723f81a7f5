//! `longshore check`: is the configuration right, and can what it names be reached?

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Table;
use crate::cli::{Context, block_on, wiring};

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
    let missing = config.check_runnable().err();
    let file = source.file.as_ref().map_or("the built-in configuration".to_owned(), |file| file.display().to_string());
    let text = match &missing {
        None => format!("{file} is valid"),
        Some(errors) => errors.to_string(),
    };
    let mut findings = vec![Finding { what: "configuration".to_owned(), ok: missing.is_none(), text }];
    for note in &config.notes {
        findings.push(Finding { what: "note".to_owned(), ok: true, text: note.clone() });
    }
    for (name, domain) in config.domains.all() {
        let pools = domain.pools;
        let text = if domain.enabled {
            format!(
                "{}, {} requests/s, fetch {}×{} transform {}×{} upload {}×{}",
                domain.base_url,
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
    if !args.offline && missing.is_none() {
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
    match (missing, ok) {
        (Some(_), _) => Err(Failure::silent(Exit::Config)),
        (None, false) => Err(Failure::silent(Exit::Unavailable)),
        (None, true) => Ok(()),
    }
}
