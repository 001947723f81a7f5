//! A family's document as Promidata writes it: one family with all of its variants.
//!
//! ```text
//! Record (family) ─┬─ ProductDetails.<language> ─▶ Language, its Image and MediaGalleryImages
//!                  ├─ ProductPriceCountryBased.<region> ─▶ Region ─▶ Tier
//!                  ├─ NonLanguageDependedProductDetails ─▶ Details
//!                  └─ ChildProducts ─▶ Record (variant), the same without children
//! ```
//!
//! Every field may be absent or null, and the type of a plain value drifts; so each is kept as its own text and read by
//! [`super::values`]. Only the shape of objects is held here. Sources of the facts: a recorded document of A23 and the
//! field maps of four suppliers.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domains::products::values::Raw;

/// A family or a variant.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "a product")]
pub struct Record<'a> {
    #[serde(borrow)]
    pub sku: Raw<'a>,
    /// The supplier, not the product.
    #[serde(borrow, rename = "ANumber")]
    pub a_number: Raw<'a>,
    #[serde(borrow)]
    pub supplier_sku: Raw<'a>,
    #[serde(borrow)]
    pub ean: Raw<'a>,
    #[serde(borrow)]
    pub video_url: Raw<'a>,
    /// By language.
    #[serde(borrow)]
    pub product_details: Raw<'a>,
    /// By region.
    #[serde(borrow)]
    pub product_price_country_based: Raw<'a>,
    #[serde(borrow)]
    pub non_language_depended_product_details: Option<Details<'a>>,
    #[serde(borrow)]
    pub unstructured_information: Raw<'a>,
    #[serde(borrow)]
    pub child_products: Option<Vec<&'a RawValue>>,
    /// SKU of the variant to show, by region.
    #[serde(borrow)]
    pub default_products: Raw<'a>,
}

/// What does not depend on the language.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "an object of details")]
pub struct Details<'a> {
    /// `Undefined` for a family.
    #[serde(borrow)]
    pub search_color: Raw<'a>,
    #[serde(borrow)]
    pub hex_color: Raw<'a>,
    #[serde(borrow)]
    pub category: Raw<'a>,
    #[serde(borrow)]
    pub secondary_categories: Raw<'a>,
    /// Alpha-2 and alpha-3 mixed.
    #[serde(borrow)]
    pub country_of_origin: Raw<'a>,
    /// `{"Eco": "True"}`.
    #[serde(borrow)]
    pub product_filters_by_group: Raw<'a>,
    #[serde(borrow)]
    pub weight: Raw<'a>,
    #[serde(borrow)]
    pub dimensions_length: Raw<'a>,
    #[serde(borrow)]
    pub dimensions_width: Raw<'a>,
    #[serde(borrow)]
    pub dimensions_height: Raw<'a>,
    #[serde(borrow)]
    pub dimensions_depth: Raw<'a>,
    #[serde(borrow)]
    pub dimensions_diameter: Raw<'a>,
    #[serde(borrow)]
    pub brand: Raw<'a>,
    #[serde(borrow, rename = "USBItem")]
    pub usb_item: Raw<'a>,
    #[serde(borrow)]
    pub customs_tariff_number: Raw<'a>,
    #[serde(borrow)]
    pub outer_carton_quantity_per_carton: Raw<'a>,
    #[serde(borrow, rename = "OuterCartonWeightNetKG")]
    pub outer_carton_weight_net_kg: Raw<'a>,
    #[serde(borrow, rename = "OuterCartonWeightGrossKG")]
    pub outer_carton_weight_gross_kg: Raw<'a>,
    #[serde(borrow, rename = "OuterCartonLengthCM")]
    pub outer_carton_length_cm: Raw<'a>,
    #[serde(borrow, rename = "OuterCartonWidthCM")]
    pub outer_carton_width_cm: Raw<'a>,
    #[serde(borrow, rename = "OuterCartonHeightCM")]
    pub outer_carton_height_cm: Raw<'a>,
    /// The same as texts in the manner of the country: some suppliers fill only these.
    #[serde(borrow)]
    pub web_shop_information: Raw<'a>,
}

/// What a record says in one language.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "an object of texts")]
pub struct Language<'a> {
    #[serde(borrow)]
    pub name: Raw<'a>,
    #[serde(borrow)]
    pub description: Raw<'a>,
    #[serde(borrow)]
    pub short_description: Raw<'a>,
    #[serde(borrow)]
    pub meta_name: Raw<'a>,
    #[serde(borrow)]
    pub meta_description: Raw<'a>,
    #[serde(borrow)]
    pub meta_keywords: Raw<'a>,
    #[serde(borrow)]
    pub image: Raw<'a>,
    #[serde(borrow)]
    pub media_gallery_images: Raw<'a>,
    #[serde(borrow)]
    pub is_active: Raw<'a>,
    #[serde(borrow)]
    pub configuration_fields: Raw<'a>,
    #[serde(borrow)]
    pub unstructured_information: Raw<'a>,
    #[serde(borrow)]
    pub web_shop_information: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "an image")]
pub struct Picture<'a> {
    #[serde(borrow)]
    pub url: Raw<'a>,
    #[serde(borrow)]
    pub file_name: Raw<'a>,
}

/// What distinguishes a variant: `Color`, `Size`, or a supplier's own (`49P_CONFIG_1`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "a configuration field")]
pub struct Configuration<'a> {
    #[serde(borrow)]
    pub configuration_name: Raw<'a>,
    #[serde(borrow)]
    pub configuration_name_translated: Raw<'a>,
    #[serde(borrow)]
    pub configuration_value: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "a piece of information")]
pub struct Information<'a> {
    #[serde(borrow)]
    pub information_label: Raw<'a>,
    #[serde(borrow)]
    pub information_value: Raw<'a>,
}

/// The prices of a region. A family has its lowest tier, a variant the whole ladder.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "the prices of a region")]
pub struct Region<'a> {
    #[serde(borrow)]
    pub recommended_selling_price: Raw<'a>,
    #[serde(borrow)]
    pub general_buying_price: Raw<'a>,
    #[serde(borrow)]
    pub minimum_order_quantity: Raw<'a>,
    #[serde(borrow)]
    pub quantity_increments: Raw<'a>,
    #[serde(borrow)]
    pub vat_percentage: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "a price")]
pub struct Tier<'a> {
    #[serde(borrow)]
    pub price: Raw<'a>,
    #[serde(borrow)]
    pub quantity: Raw<'a>,
    #[serde(borrow)]
    pub on_request: Raw<'a>,
    /// `EURO`, which is no ISO code.
    #[serde(borrow)]
    pub valuta: Raw<'a>,
}

/// Reads one of these from its text, or says why not.
pub fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(raw.get()).map_err(|error| format!("does not fit: {error}"))
}
