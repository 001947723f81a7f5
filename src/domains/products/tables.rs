//! The tables of the products. The migrations repeat them; a test holds the two against each other.
//!
//! ```text
//! suppliers ··· products ──< product_texts, product_prices   (details: of the family and of its variants)
//!                   ├···· product_variants
//!                   └···· media_links ···· media ──▶ a file in the object store
//! product_categories: the tree that the paths in `category` lead through
//! ```
//!
//! The dots are names, not foreign keys: a family is written before its images are.

use crate::store::table::Column;
use crate::store::table::ColumnKind::{Bool, Decimal, Int, Json, Text};
use crate::store::table::{Detail, Table};

/// One row a supplier of the list.
pub static SUPPLIERS: Table = Table {
    name: "suppliers",
    key: 1,
    columns: &[
        Column::new("code", Text),
        // Whether a sync of all suppliers includes it.
        Column::new("active", Bool),
        // Families of it in the list, when that was read last.
        Column::new("families", Int),
        // The version of the list that this supplier is in step with, family by family; null while it is not.
        Column::nullable("list_etag", Text),
        Column::nullable("list_modified", Text),
    ],
    details: &[],
    link: false,
};

/// One row a family, by its `Sku`. What it says in languages and its prices stand in the details.
pub static PRODUCTS: Table = Table {
    name: "products",
    key: 1,
    columns: &[
        Column::new("sku", Text),
        Column::new("supplier_code", Text),
        // The version token of the list that this row was made from.
        Column::new("feed_hash", Text),
        Column::new("variants", Int),
        // `{"EURO": "A23-1-2"}`.
        Column::new("default_variants", Json),
        Column::nullable("supplier_sku", Text),
        Column::nullable("ean", Text),
        Column::nullable("brand", Text),
        // A path of codes, such as `BAGS/SHOPPING_BAGS`.
        Column::nullable("category", Text),
        Column::new("secondary_categories", Json),
        Column::nullable("search_color", Text),
        Column::nullable("hex_color", Text),
        // ISO 3166-1 alpha-2; beside it what the feed says, for where that is no country.
        Column::nullable("country_of_origin", Text),
        Column::nullable("country_of_origin_raw", Text),
        Column::nullable("customs_tariff_number", Text),
        // A zero in the feed stands for "not known" and is null here, as with all measures.
        Column::nullable("weight_g", Decimal),
        Column::nullable("length_mm", Decimal),
        Column::nullable("width_mm", Decimal),
        Column::nullable("height_mm", Decimal),
        Column::nullable("depth_mm", Decimal),
        Column::nullable("diameter_mm", Decimal),
        Column::nullable("usb_item", Bool),
        // `{"Eco": true}`.
        Column::new("filters", Json),
        Column::nullable("carton_quantity", Int),
        Column::nullable("carton_net_kg", Decimal),
        Column::nullable("carton_gross_kg", Decimal),
        Column::nullable("carton_length_cm", Decimal),
        Column::nullable("carton_width_cm", Decimal),
        Column::nullable("carton_height_cm", Decimal),
        // ISO 8601.
        Column::nullable("release_date", Text),
        Column::nullable("delivery_days", Int),
        Column::nullable("video_url", Text),
        // The document as it came.
        Column::new("raw", Json),
    ],
    details: &[TEXTS, PRICES],
    link: false,
};

const TEXTS: Detail = Detail {
    name: "product_texts",
    key: 1,
    columns: &[
        Column::new("product_sku", Text),
        // Empty for the family itself.
        Column::new("variant_sku", Text),
        // `en`, `de`; any may be missing.
        Column::new("language", Text),
        Column::nullable("name", Text),
        Column::nullable("short_description", Text),
        Column::nullable("description", Text),
        Column::nullable("meta_name", Text),
        Column::nullable("meta_description", Text),
        Column::nullable("meta_keywords", Text),
        Column::nullable("active", Bool),
        // `[{"name": "Color", "label": "Farbe", "value": "schwarz"}]`.
        Column::new("configuration", Json),
        // `{"Material": {"label": "Matériel", "value": "PET"}}`.
        Column::new("information", Json),
        Column::new("unstructured", Json),
    ],
};

const PRICES: Detail = Detail {
    name: "product_prices",
    key: 1,
    columns: &[
        Column::new("product_sku", Text),
        Column::new("variant_sku", Text),
        // `selling` (recommended) or `buying`.
        Column::new("kind", Text),
        // As the feed names it: `BENELUX`, `EURO`, `DEU`.
        Column::new("region", Text),
        // From this quantity on.
        Column::new("quantity", Int),
        // Null where it is on request.
        Column::nullable("price", Decimal),
        // ISO 4217.
        Column::new("currency", Text),
        Column::new("on_request", Bool),
        Column::nullable("minimum_quantity", Int),
        Column::nullable("quantity_increment", Int),
        Column::nullable("vat_percentage", Decimal),
    ],
};

/// One row a variant, by its own `Sku`, which in a family of one is the family's too.
pub static VARIANTS: Table = Table {
    name: "product_variants",
    key: 1,
    columns: &[
        Column::new("sku", Text),
        Column::new("product_sku", Text),
        Column::nullable("supplier_sku", Text),
        Column::nullable("ean", Text),
        Column::nullable("brand", Text),
        Column::nullable("category", Text),
        Column::new("secondary_categories", Json),
        Column::nullable("search_color", Text),
        Column::nullable("hex_color", Text),
        Column::nullable("country_of_origin", Text),
        Column::nullable("country_of_origin_raw", Text),
        Column::nullable("customs_tariff_number", Text),
        Column::nullable("weight_g", Decimal),
        Column::nullable("length_mm", Decimal),
        Column::nullable("width_mm", Decimal),
        Column::nullable("height_mm", Decimal),
        Column::nullable("depth_mm", Decimal),
        Column::nullable("diameter_mm", Decimal),
        Column::nullable("usb_item", Bool),
        Column::new("filters", Json),
        Column::nullable("carton_quantity", Int),
        Column::nullable("carton_net_kg", Decimal),
        Column::nullable("carton_gross_kg", Decimal),
        Column::nullable("carton_length_cm", Decimal),
        Column::nullable("carton_width_cm", Decimal),
        Column::nullable("carton_height_cm", Decimal),
        Column::nullable("release_date", Text),
        Column::nullable("delivery_days", Int),
        Column::nullable("video_url", Text),
    ],
    details: &[],
    link: false,
};

/// The tree of categories, from CAT.csv.
pub static CATEGORIES: Table = Table {
    name: "product_categories",
    key: 1,
    columns: &[
        Column::new("code", Text),
        // Bounds the snapshot.
        Column::new("provider", Text),
        Column::nullable("parent_code", Text),
        // Codes from the root down, such as `BAGS/BACKPACKS`.
        Column::new("path", Text),
        Column::new("level", Int),
        Column::new("sort_order", Int),
        // `{"en": "Bags & Luggage/Backpacks"}`, as they came.
        Column::new("names", Json),
    ],
    details: &[],
    link: false,
};

/// One row an address that was downloaded; several may lead to one file.
pub static MEDIA: Table = Table {
    name: "media",
    key: 1,
    columns: &[
        // Without the profile, as all addresses.
        Column::new("url", Text),
        Column::new("object_key", Text),
        Column::new("file_hash", Text),
        Column::new("content_type", Text),
        Column::new("bytes", Int),
        Column::nullable("width", Int),
        Column::nullable("height", Int),
        // An image that can hold a script: to be offered for download, never shown inline.
        Column::new("attachment", Bool),
    ],
    details: &[],
    link: false,
};

/// Which image stands where: one row a place.
pub static MEDIA_LINKS: Table = Table {
    name: "media_links",
    key: 1,
    columns: &[
        // `product-variant/A23-1-2/gallery_images/0`.
        Column::new("slot", Text),
        Column::new("product_sku", Text),
        // `product` or `product-variant`.
        Column::new("entity_type", Text),
        Column::new("entity", Text),
        // `primary_image` or `gallery_images`.
        Column::new("field", Text),
        Column::new("position", Int),
        Column::new("url", Text),
        Column::new("object_key", Text),
        Column::nullable("file_name", Text),
    ],
    details: &[],
    link: true,
};

/// All of them, for the migrations' test and for reports.
pub static TABLES: [&Table; 6] = [&SUPPLIERS, &PRODUCTS, &VARIANTS, &CATEGORIES, &MEDIA, &MEDIA_LINKS];
