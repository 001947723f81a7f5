//! What the catalog domain has beside [`Domain`].

use std::time::Duration;

use serde::Deserialize;

use crate::config::domain::Domain;
use crate::config::units;

/// `domains.catalog`: the keys of every domain, and its own.
#[derive(Clone, Debug)]
pub struct Catalog {
    pub domain: Domain,
    pub own: CatalogKeys,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogKeys {
    /// Exact names of bundle groups.
    pub groups: Vec<String>,
    pub per_page: u32,
    #[serde(deserialize_with = "units::duration")]
    pub fresh_for: Duration,
    pub removal_guard: RemovalGuard,
}

/// So much may vanish at once: `max(rows, ratio × rows of the group)`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovalGuard {
    pub ratio: f64,
    pub rows: u64,
}
