//! What the products domain has beside [`Domain`].

use serde::Deserialize;

use crate::config::catalog::RemovalGuard;
use crate::config::domain::Domain;
use crate::config::secret::{self, Secret};
use crate::config::units;

/// `domains.products`: the keys of every domain, and its own.
#[derive(Clone, Debug)]
pub struct Products {
    pub domain: Domain,
    pub own: ProductsKeys,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductsKeys {
    /// The account's part of all addresses, which is what lets one in.
    #[serde(deserialize_with = "secret::optional")]
    pub profile: Option<Secret>,
    /// Beside the host of `base_url`: `host`, or `host:port`.
    pub hosts: Vec<String>,
    /// Codes such as A23; empty: all that the list names.
    pub suppliers: Vec<String>,
    pub suppliers_skip: Vec<String>,
    /// Bytes of one image.
    #[serde(deserialize_with = "units::size")]
    pub image_max: u64,
    pub removal_guard: RemovalGuard,
}
