//! The rate of each upstream, shared fairly among the nodes.
//!
//! A provider counts calls by credential, whoever makes them. So each of `n` live nodes takes an `n`th of the rate that
//! the configuration names. A node that has just died is counted until its heartbeat lapses: too slow for a moment, and
//! never too fast but for the moment in which a new one comes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use longshore_actors::limits::Rate;

use crate::config::Config;
use crate::service::settings::burst_of;
use crate::upstreams::Upstream;

pub(super) struct Rates {
    upstreams: HashMap<&'static str, Upstream>,
    shares: Mutex<Shares>,
}

struct Shares {
    nodes: usize,
    /// Calls per second of all nodes together, and how many of them at once, by domain.
    configured: HashMap<&'static str, (f64, u32)>,
}

impl Rates {
    pub(super) fn new(upstreams: HashMap<&'static str, Upstream>, config: &Config) -> Self {
        Self { upstreams, shares: Mutex::new(Shares { nodes: 1, configured: configured(config) }) }
    }

    /// So many nodes live by now.
    pub(super) fn share(&self, nodes: usize) {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).nodes = nodes.max(1);
        self.apply();
        for (domain, upstream) in &self.upstreams {
            let rate = upstream.status().limiter.rate.map(Rate::per_second);
            tracing::info!(domain, nodes, per_second = rate, "this node's share of the rate");
        }
    }

    /// The configuration names other rates by now.
    pub(super) fn set(&self, config: &Config) {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).configured = configured(config);
        self.apply();
    }

    fn apply(&self) {
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        for (domain, upstream) in &self.upstreams {
            let Some((rate, burst)) = shares.configured.get(domain) else { continue };
            let share = share_of(*rate, shares.nodes);
            let burst = (*burst as usize / shares.nodes.max(1)).max(1) as u32;
            if let Err(error) = upstream.set_rate(Some(share), burst) {
                tracing::warn!(domain, reason = %error, "set rate");
            }
        }
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
