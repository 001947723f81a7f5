//! `longshore sandbox`: the stand-in of the providers alone, to point a service at.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::config::parse_duration;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where it listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8501", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// Bundles in its catalogue
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub bundles: u32,
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
    /// Send bodies at this many bytes a second; 0 is at once
    #[arg(long, default_value_t = 0)]
    pub slow_body: u64,
    /// Fraction of bundles that differ from the first sync's
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub changed: f64,
    /// Fraction of bundles that have vanished since the first sync
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

pub fn execute(_args: Args, _context: Context) -> Result<(), Failure> {
    Err(Failure::internal("not wired yet"))
}
