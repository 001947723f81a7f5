//! The tables of the catalog. The migrations repeat them; a test holds the two against each other.
//!
//! ```text
//! catalog_groups      catalog_bundle_groups      catalog_bundles ──< catalog_bundle_countries (detail)
//!      name      ···  group_name, bundle_name ···     name                bundle_name
//! ```
//!
//! The dots are names, not foreign keys: a membership may be known before its group is.

use crate::store::table::Column;
use crate::store::table::ColumnKind::{Bool, Decimal, Int, Json, Text};
use crate::store::table::{Detail, Table};

/// One row a bundle, by its case-sensitive name.
pub static BUNDLES: Table = Table {
    name: "catalog_bundles",
    key: 1,
    columns: &[
        Column::new("name", Text),
        Column::nullable("description", Text),
        Column::new("unlimited", Bool),
        // Decimal megabytes (1 GB = 1000); null when unlimited.
        Column::nullable("data_amount_mb", Int),
        Column::new("duration", Int),
        Column::new("duration_unit", Text),
        Column::new("speeds", Json),
        Column::nullable("autostart", Bool),
        Column::new("price", Decimal),
        // Of the organisation; the catalogue itself has none.
        Column::nullable("currency", Text),
        Column::nullable("billing_type", Text),
        Column::nullable("image_url", Text),
        Column::new("allowances", Json),
        // The record as it came, in the shape of the endpoint that it came from.
        Column::new("raw", Json),
    ],
    details: &[Detail {
        name: "catalog_bundle_countries",
        key: 1,
        columns: &[
            Column::new("bundle_name", Text),
            // `base` or `roaming`.
            Column::new("role", Text),
            // ISO 3166-1 alpha-2, or eSIM Go's name of a region as the base of a regional bundle ("Europe+").
            Column::new("iso", Text),
            Column::nullable("name", Text),
            Column::nullable("region", Text),
        ],
    }],
    link: false,
};

/// Which bundle is in which group; many to many.
pub static BUNDLE_GROUPS: Table = Table {
    name: "catalog_bundle_groups",
    key: 2,
    columns: &[Column::new("group_name", Text), Column::new("bundle_name", Text)],
    details: &[],
    link: true,
};

/// The groups that the account has.
pub static GROUPS: Table = Table {
    name: "catalog_groups",
    key: 1,
    columns: &[
        Column::new("name", Text),
        Column::nullable("description", Text),
        Column::nullable("price_list_url", Text),
    ],
    details: &[],
    link: false,
};

/// All of them, for the migrations' test and for reports.
pub static TABLES: [&Table; 3] = [&GROUPS, &BUNDLES, &BUNDLE_GROUPS];
