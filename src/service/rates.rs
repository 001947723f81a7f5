//! The rate of each upstream, shared fairly among the nodes.
//!
//! A provider counts calls by credential, whoever makes them. So each of `n` live nodes takes an `n`th of the rate that
//! the configuration names. A node that has just died is counted until its heartbeat lapses: too slow for a moment, and
//! never too fast but for the moment in which a new one comes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_actors::limits::BadRate;

use crate::config::Config;
use crate::domains::products::Promidata;
use crate::service::settings::burst_of;
use crate::upstreams::Upstream;

/// What a share is set on: an upstream, or several hosts that count each for itself.
pub(super) trait Limited: Send + Sync + 'static {
    fn set(&self, per_second: f64, burst: u32) -> Result<(), BadRate>;
}

impl Limited for Upstream {
    fn set(&self, per_second: f64, burst: u32) -> Result<(), BadRate> {
        self.set_rate(Some(per_second), burst)
    }
}

impl Limited for Promidata {
    fn set(&self, per_second: f64, burst: u32) -> Result<(), BadRate> {
        self.set_rate(Some(per_second), burst)
    }
}

pub(super) struct Rates {
    upstreams: Vec<(&'static str, Box<dyn Limited>)>,
    shares: Mutex<Shares>,
}

struct Shares {
    nodes: usize,
    /// Calls per second of all nodes together, and how many of them at once, by domain.
    configured: HashMap<&'static str, (f64, u32)>,
}

impl Rates {
    pub(super) fn new(config: &Config) -> Self {
        Self { upstreams: Vec::new(), shares: Mutex::new(Shares { nodes: 1, configured: configured(config) }) }
    }

    pub(super) fn add(&mut self, domain: &'static str, upstream: impl Limited) {
        self.upstreams.push((domain, Box::new(upstream)));
    }

    /// So many nodes live by now.
    pub(super) fn share(&self, nodes: usize) {
        self.shares().nodes = nodes.max(1);
        for (domain, per_second) in self.apply() {
            tracing::info!(domain, nodes, per_second, "this node's share of the rate");
        }
    }

    /// The configuration names other rates by now.
    pub(super) fn set(&self, config: &Config) {
        self.shares().configured = configured(config);
        self.apply();
    }

    /// Answers what each was given.
    fn apply(&self) -> Vec<(&'static str, f64)> {
        let shares = self.shares();
        let mut given = Vec::new();
        for (domain, upstream) in &self.upstreams {
            let Some((rate, burst)) = shares.configured.get(domain) else { continue };
            let share = share_of(*rate, shares.nodes);
            let burst = (*burst as usize / shares.nodes.max(1)).max(1) as u32;
            match upstream.set(share, burst) {
                Ok(()) => given.push((*domain, share)),
                Err(error) => tracing::warn!(domain, reason = %error, "set rate"),
            }
        }
        given
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn configured(config: &Config) -> HashMap<&'static str, (f64, u32)> {
    let all = config.domains.all().into_iter();
    all.map(|(name, domain)| (name, (domain.rate_per_second, burst_of(name, domain, config)))).collect()
}

fn share_of(rate: f64, nodes: usize) -> f64 {
    rate / nodes.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_make_up_the_rate() {
        for nodes in 1..=7 {
            let sum: f64 = (0..nodes).map(|_| share_of(5.0, nodes)).sum();
            assert!((sum - 5.0).abs() < 1e-9, "{nodes} nodes");
        }
        assert_eq!(share_of(5.0, 0), 5.0);
    }
}
