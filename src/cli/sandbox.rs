//! `longshore sandbox`: the stand-in of the providers alone, to point a service at.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::cli::exit::Failure;
use crate::cli::run::Signals;
use crate::cli::{Context, block_on};
use crate::config::parse_duration;
use crate::sandbox::{self, Dials, Settings, SlowBody};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where it listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8501", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// Bundles in its catalogue
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub bundles: u32,
    /// Product families in its feed, with three variants each on average
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub families: u32,
    /// Lines of the feed beyond those families
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub feed_lines: u32,
    /// Leagues of API-Football
    #[arg(long, default_value_t = 1_200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub leagues: u32,
    /// Requests that API-Football answers before the day's limit is reached; 0 is no limit
    #[arg(long, default_value_t = 0)]
    pub football_quota: u32,
    /// The same seed gives the same catalogue
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Wait before each answer
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub latency: Duration,
    /// Up to this much more
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub jitter: Duration,
    /// Fraction of requests answered with 500
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub error_rate: f64,
    /// Requests a second beyond which it answers 429 with Retry-After; 0 is no limit
    #[arg(long, default_value_t = 0)]
    pub rate_limit: u32,
    /// Fraction of answers whose connection is cut in the middle
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub cut_rate: f64,
    /// Fraction of answers that are broken JSON
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub malformed_rate: f64,
    /// Fraction of answers that take ten seconds for their body
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub slow_rate: f64,
    /// Fraction of requests that are never answered
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub hang_rate: f64,
    /// Refuse a perPage above this with 401, as the provider does; 0 is no limit
    #[arg(long, default_value_t = 0)]
    pub page_max: u32,
    /// Fraction of bundles that get another price with each `POST /_sandbox/advance`
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub changed: f64,
    /// Fraction of bundles that vanish with each `POST /_sandbox/advance`
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub vanished: f64,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a duration such as 250ms or 30s".to_owned())
}

fn fraction(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "write a fraction such as 0.05".to_owned())?;
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err("a fraction is from 0 to 1".to_owned()) }
}

/// How long the body of a slow answer takes.
const SLOW_BODY: Duration = Duration::from_secs(10);

impl Args {
    fn dials(&self) -> Dials {
        Dials {
            latency: self.latency,
            jitter: self.jitter,
            error_rate: self.error_rate,
            limit_per_second: (self.rate_limit > 0).then_some(self.rate_limit),
            slow_body: (self.slow_rate > 0.0).then_some(SlowBody { fraction: self.slow_rate, duration: SLOW_BODY }),
            cut_rate: self.cut_rate,
            malformed_rate: self.malformed_rate,
            hang_rate: self.hang_rate,
            page_max: (self.page_max > 0).then_some(self.page_max),
            changed: self.changed,
            vanished: self.vanished,
            football_quota: (self.football_quota > 0).then_some(self.football_quota),
            ..Dials::default()
        }
    }
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    let settings = Settings {
        listen: args.listen,
        seed: args.seed,
        bundles: args.bundles as usize,
        families: args.families,
        feed_lines: args.feed_lines,
        leagues: args.leagues as usize,
        dials: args.dials(),
        ..Settings::default()
    };
    block_on(async {
        let mut signals = Signals::new()?;
        let handle = sandbox::Sandbox::start(settings).map_err(|error| {
            Failure::unavailable(format!(
                "cannot start the sandbox on {}: {error}; choose another --listen",
                args.listen
            ))
        })?;
        let (url, key) = (handle.base_url(), handle.api_key().to_owned());
        let football = handle.football_url();
        let (feed, profile) = (handle.promidata_url(), sandbox::promidata::PROFILE);
        let shown = json!({
            "base_url": url,
            "api_key": key,
            "football_url": football,
            "promidata_url": feed,
            "promidata_profile": profile,
        });
        context.output.show(&shown, || {
            format!(
                "The sandbox serves {} bundles at {url}\n\n  ESIM_GO_API_KEY={key} \\\n  \
                 LONGSHORE__DOMAINS__CATALOG__BASE_URL={url} \\\n  longshore sync catalog\n\n\
                 {} leagues at {football}\n\n  API_FOOTBALL_KEY={key} \\\n  \
                 LONGSHORE__DOMAINS__FOOTBALL__ENABLED=true \\\n  \
                 LONGSHORE__DOMAINS__FOOTBALL__BASE_URL={football} \\\n  longshore sync football\n\n\
                 and a feed of {} product families at {feed}\n\n  PROMIDATA_PROFILE={profile} \\\n  \
                 LONGSHORE__DOMAINS__PRODUCTS__ENABLED=true \\\n  \
                 LONGSHORE__DOMAINS__PRODUCTS__BASE_URL={feed} \\\n  longshore sync products\n\n\
                 Its dials: GET and PUT http://{}/_sandbox/dials\n",
                args.bundles,
                args.leagues,
                args.families + args.feed_lines,
                handle.addr()
            )
        })?;
        signals.stop().await;
        handle.stop();
        Ok(())
    })
}
