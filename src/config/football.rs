//! What the football domain has beside [`Domain`].

use serde::Deserialize;

use crate::config::catalog::RemovalGuard;
use crate::config::domain::Domain;

/// `domains.football`: the keys of every domain, and its own.
#[derive(Clone, Debug)]
pub struct Football {
    pub domain: Domain,
    pub own: FootballKeys,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FootballKeys {
    /// Requests that may go out at once after a quiet time.
    pub burst: u32,
    /// Requests a day (UTC), until the provider has told the account's own number.
    pub daily_quota: u32,
    pub removal_guard: RemovalGuard,
}
