//! The log: one line an event, text or JSON, with the fields of every span around it.
//!
//! ```text
//! tracing events ─▶ filter (log.level) ─▶ Lines: span fields + event fields ─▶ Screen ─▶ stderr
//!                                                                               └ lifts progress bars for the line
//! ```
//!
//! - A span named `job` with `job_id run_id domain kind attempt actor` puts these on every line within it.
//! - Times are UTC, RFC 3339. No ANSI, ever: a log is for files and searches.
//! - What it does not do: decide what is worth a line, or send lines elsewhere.

mod lines;
mod screen;

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;

use tracing::Subscriber;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

pub use crate::telemetry::lines::Format;
pub use crate::telemetry::screen::Screen;

use crate::config::{Log, LogFormat};
use crate::telemetry::lines::Lines;

/// The running log: where progress bars are drawn, and the level that can be changed.
#[derive(Clone)]
pub struct Telemetry {
    pub screen: Screen,
    set_filter: Arc<SetFilter>,
}

type SetFilter = dyn Fn(&str) -> Result<(), String> + Send + Sync;

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("screen", &self.screen).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Changes `log.level` while the service runs.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        (self.set_filter)(level)
    }
}

/// Libraries that speak of themselves, of clients that leave early, and (`h2`) of whole paths, in which a secret may
/// stand; a level that names one of them wins.
const QUIET: &str = "actix_server=warn,actix_http::h1::dispatcher=off,hyper_util=warn,h2=warn,deadpool=error";

/// Starts the log of this process, to stderr. A second call is an error.
pub fn init(log: &Log) -> Result<Telemetry, String> {
    let screen = Screen::stderr();
    let format = match log.format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
        LogFormat::Auto if std::io::stderr().is_terminal() => Format::Text,
        LogFormat::Auto => Format::Json,
    };
    let (subscriber, telemetry) = build(&log.level, format, screen)?;
    subscriber.try_init().map_err(|error| format!("cannot start the log: {error}"))?;
    Ok(telemetry)
}

/// A log to `screen` that is not the process's own: tests use it with `tracing::subscriber::with_default`.
pub fn build(
    level: &str,
    format: Format,
    screen: Screen,
) -> Result<(impl Subscriber + Send + Sync + 'static, Telemetry), String> {
    let filter = |level: &str| {
        let directives = format!("{QUIET},{level}");
        EnvFilter::try_new(directives).map_err(|error| format!("log.level `{level}`: {error}"))
    };
    let (filtering, handle) = reload::Layer::new(filter(level)?);
    let set_filter = move |level: &str| {
        let filter = filter(level)?;
        handle.reload(filter).map_err(|error| format!("cannot change the log level: {error}"))
    };
    let lines = Lines::new(format, screen.clone());
    let subscriber = Registry::default().with(lines.with_filter(filtering));
    Ok((subscriber, Telemetry { screen, set_filter: Arc::new(set_filter) }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tracing::subscriber::with_default;

    use super::*;

    /// The lines that `work` logs.
    fn logged(level: &str, format: Format, work: impl FnOnce(&Telemetry)) -> Vec<String> {
        let (screen, written) = Screen::memory();
        let (subscriber, telemetry) = build(level, format, screen).unwrap();
        with_default(subscriber, || work(&telemetry));
        let bytes = written.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn work(_: &Telemetry) {
        let job = tracing::info_span!("job", job_id = 7, domain = "catalog", actor = tracing::field::Empty);
        let _in_job = job.enter();
        tracing::info!(page = 3, "fetched \"page\"\nand more");
        let stage = tracing::info_span!("stage", stage = "fetch");
        job.record("actor", "catalog/fetch/1");
        stage.in_scope(|| tracing::warn!(target: "longshore::x", ok = true, "slow"));
        tracing::debug!("not at this level");
    }

    #[test]
    fn json_lines_are_flat_and_carry_the_fields_of_their_spans() {
        let lines = logged("info", Format::Json, work);
        assert_eq!(lines.len(), 2);
        let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(first["level"], "INFO");
        assert_eq!(first["msg"], "fetched \"page\"\nand more");
        assert_eq!((&first["job_id"], &first["domain"], &first["page"]), (&7.into(), &"catalog".into(), &3.into()));
        assert!(first.get("actor").is_none());
        let ts: jiff::Timestamp = first["ts"].as_str().unwrap().parse().unwrap();
        assert!(jiff::Timestamp::now().duration_since(ts).as_secs().abs() < 60);
        let second: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!((&second["actor"], &second["stage"]), (&"catalog/fetch/1".into(), &"fetch".into()));
        assert_eq!((&second["target"], &second["ok"]), (&"longshore::x".into(), &true.into()));
    }

    #[test]
    fn text_lines_carry_the_same_on_one_line_without_colour() {
        let lines = logged("info", Format::Text, work);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].ends_with(
            " INFO longshore::telemetry::tests: fetched \"page\"\\nand more page=3 job_id=7 domain=catalog"
        ));
        assert!(
            lines[1].ends_with(
                " WARN longshore::x: slow ok=true job_id=7 domain=catalog actor=catalog/fetch/1 stage=fetch"
            )
        );
        assert!(lines[0].split(' ').next().unwrap().ends_with('Z'));
        assert!(lines.iter().all(|line| !line.contains('\u{1b}')));
    }

    #[test]
    fn the_level_follows_targets_and_can_be_changed() {
        let lines = logged("warn,quiet=off", Format::Text, |telemetry| {
            tracing::info!("one");
            tracing::error!(target: "quiet", "two");
            telemetry.set_level("info").unwrap();
            tracing::info!("three");
            assert!(telemetry.set_level("a=b=c").is_err());
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("three"));
    }
}
