//! `longshore run`: the service, until it is told to stop.
//!
//! ```text
//! SIGTERM, SIGINT   quiet, drain, stop within service.shutdown_grace; a second one ends it now
//! SIGHUP, or a changed file   the configuration is read again: all of it or nothing is taken
//! ```

use std::path::Path;
use std::time::{Duration, SystemTime};

use longshore_actors::shutdown::Ending;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Context;
use crate::cli::exit::{Exit, Failure};
use crate::config::{Config, LoadOptions};
use crate::service::{Parts, Service, with_system};
use crate::telemetry::Telemetry;

/// How often the configuration file is looked at. A watcher of the file system would cost more than it saves.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Two signals this close together are one.
const ECHO: Duration = Duration::from_millis(300);

#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

pub fn execute(_args: Args, context: Context) -> Result<(), Failure> {
    let Context { config, source, telemetry, .. } = context;
    config.check_runnable()?;
    for note in &config.notes {
        tracing::info!(note, "configuration");
    }
    let threads = config.service.threads;
    with_system(threads, |threads| async move {
        let signals = Signals::new()?;
        let service = Service::start(&config, Parts::ALL, threads).await?;
        tracing::info!(
            listen = service.address.map(tracing::field::display),
            store = %config.store.url.place(),
            "started"
        );
        serve(service, config, source, telemetry, signals).await
    })
    .map_err(|error| Failure::internal(format!("cannot start the runtime: {error}")))?
}

/// Until a signal says stop; then the end, which a second signal cuts short. A node whose name was taken ends too, as a
/// failure.
pub async fn serve(
    service: Service,
    mut config: Config,
    source: LoadOptions,
    telemetry: Telemetry,
    mut signals: Signals,
) -> Result<(), Failure> {
    let replaced = service.replaced.clone();
    let Signals { terminate, interrupt, reload: hangup } = &mut signals;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut changed = changed_at(source.file.as_deref());
    loop {
        tokio::select! {
            name = stop(terminate, interrupt) => {
                tracing::info!(signal = name, grace = ?config.service.shutdown_grace, "stopping");
                break;
            }
            () = replaced.cancelled() => break,
            _ = hangup.recv() => {
                // Whoever writes the file and signals means one reload.
                changed = changed_at(source.file.as_deref());
                reload(&service, &mut config, &source, &telemetry);
            }
            _ = looks.tick() => {
                let now = changed_at(source.file.as_deref());
                if now != changed {
                    changed = now;
                    reload(&service, &mut config, &source, &telemetry);
                }
            }
        }
    }
    end(service, config.service.shutdown_grace, signals).await;
    if replaced.is_cancelled() {
        let name = "another process took the name of this node: give each its own node.name";
        return Err(Failure::new(Exit::Config, name));
    }
    Ok(())
}

/// The end of a service; a second signal ends the process where it stands, which loses nothing that was acknowledged.
pub async fn end(service: Service, grace: Duration, mut signals: Signals) {
    tokio::select! {
        Ending { interrupted, hanging } = service.shutdown(grace) => {
            tracing::info!(?interrupted, ?hanging, "stopped");
        }
        name = again(&mut signals) => {
            tracing::warn!(signal = name, "told twice: ending now; the next start gives back what was in flight");
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
    }
}

/// The second signal; the first one's echo, as a supervisor that signals a whole group sends it, is not one.
async fn again(signals: &mut Signals) -> &'static str {
    let begun = tokio::time::Instant::now();
    loop {
        let name = signals.stop().await;
        if begun.elapsed() > ECHO {
            return name;
        }
    }
}

/// All of the new configuration, or none of it.
fn reload(service: &Service, config: &mut Config, source: &LoadOptions, telemetry: &Telemetry) {
    let loaded = Config::load(source).map_err(|errors| errors.to_string()).and_then(|new| {
        new.check_runnable().map_err(|errors| errors.to_string())?;
        Ok(new)
    });
    let new = match loaded {
        Ok(new) => new,
        Err(problems) => {
            for problem in problems.lines() {
                tracing::error!(problem, "configuration not taken: the old one stays");
            }
            return;
        }
    };
    let changes = Config::diff(config, &new);
    if let Err(error) = service.reload(&new) {
        tracing::error!(problem = %error, "configuration not taken: the old one stays");
        return;
    }
    if let Err(problem) = telemetry.set_level(&new.log.level) {
        tracing::warn!(problem, "set log level");
    }
    for change in &changes {
        let show = |value: &Option<toml::Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), |v| v.to_string());
        let (old, new) = (show(&change.old), show(&change.new));
        let key = &change.key;
        if change.live {
            tracing::info!(key, old, new, "configuration changed");
        } else {
            tracing::warn!(key, old, new, "configuration changed: takes effect at the next start");
        }
    }
    tracing::info!(changes = changes.len(), "configuration reloaded");
    *config = new;
}

fn changed_at(file: Option<&Path>) -> Option<SystemTime> {
    // A file that is away for a moment, while an editor replaces it, is no change.
    std::fs::metadata(file?).and_then(|meta| meta.modified()).ok()
}

/// The signals that a service listens to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    pub fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::internal(format!("cannot listen to signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            reload: listen(SignalKind::hangup())?,
        })
    }

    /// The name of the signal that says stop.
    pub async fn stop(&mut self) -> &'static str {
        stop(&mut self.terminate, &mut self.interrupt).await
    }
}

async fn stop(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
