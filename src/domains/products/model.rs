//! The words of the products: what is asked for, what comes back, and the names that cannot be wrong.
//!
//! ```text
//! Request ──client──▶ Answer ──transform──▶ Batch
//! ```
//!
//! Addresses are written with `{profile}` in the place of the account's secret path, here and in every row, param and
//! reject; the client alone puts it back.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use longshore_actors::ledger::Reject;
use serde::{Deserialize, Serialize};

use crate::upstreams::Validators;

/// The longest known SKU has 25 characters.
const SKU_MAX: usize = 100;

/// A supplier: `A` and digits. The feed calls it `ANumber`, and it is no key of a product.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code(Arc<str>);

impl Code {
    pub fn parse(text: &str) -> Option<Code> {
        let text = text.trim();
        is_code(text).then(|| Code(text.to_ascii_uppercase().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this text has the form of a supplier's code.
pub fn is_code(text: &str) -> bool {
    let digits = text.strip_prefix(['A', 'a']).unwrap_or_default();
    (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

impl TryFrom<String> for Code {
    type Error = String;

    fn try_from(text: String) -> Result<Code, String> {
        Code::parse(&text).ok_or_else(|| format!("{text:?} is no supplier code: write it like A23"))
    }
}

impl From<Code> for String {
    fn from(code: Code) -> String {
        code.0.to_string()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of a family or a variant, such as `A360-CMSOCK_CS01`. It is a part of addresses and of keys, so it has no
/// sign that means something there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sku(Arc<str>);

impl Sku {
    pub fn parse(text: &str) -> Option<Sku> {
        let fits = |c: char| !c.is_control() && !c.is_whitespace() && !"/?#%|\\\"<>{}".contains(c);
        let whole = !text.is_empty() && text.len() <= SKU_MAX && text.chars().all(fits) && !text.starts_with('.');
        whole.then(|| Sku(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sku {
    type Error = String;

    fn try_from(text: String) -> Result<Sku, String> {
        Sku::parse(text.trim()).ok_or_else(|| format!("{text:?} is no SKU"))
    }
}

impl From<Sku> for String {
    fn from(sku: Sku) -> String {
        sku.0.to_string()
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One page of work; what a checkpoint stores as the place to go on. Every kind of job is one page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The list, for the suppliers it names.
    Suppliers(Orders),
    /// The list, for the families of one supplier.
    Supplier {
        code: Code,
        orders: Orders,
        /// The version that this supplier is in step with.
        since: Validators,
    },
    Categories,
    Family(Family),
    Image {
        image: Image,
        /// The family it belongs to, directly or by a variant.
        product: Sku,
        /// Where the file of this address is already.
        known: Option<String>,
    },
}

/// What an operator said with a sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Orders {
    /// Every family, whatever its hash says: Promidata sometimes changes a product under the same hash.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Lifts the removal guard.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_removal: bool,
}

/// The params of `products.family`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    pub sku: Sku,
    pub url: String,
    /// The list's token of the document's version.
    pub product_hash: String,
    pub supplier_code: Code,
    /// Taken and without effect: a family that is asked for is fetched.
    #[serde(default, skip_serializing)]
    pub force: bool,
}

/// The params of `products.image`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    pub image_url: String,
    #[serde(default)]
    pub file_name: Option<String>,
    pub entity_type: EntityType,
    pub entity: Sku,
    pub field: Field,
    #[serde(default)]
    pub index: u32,
    /// The version of the family's document that asks for it; once that has changed, its own jobs fill the places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_hash: Option<String>,
    /// Taken and without effect.
    #[serde(default, skip_serializing)]
    pub force: bool,
}

impl Image {
    /// The place it takes, as the key of its link.
    pub fn slot(&self) -> String {
        format!("{}/{}/{}/{}", self.entity_type.as_str(), self.entity, self.field.as_str(), self.index)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntityType {
    Product,
    ProductVariant,
}

impl EntityType {
    pub fn as_str(self) -> &'static str {
        match self {
            EntityType::Product => "product",
            EntityType::ProductVariant => "product-variant",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    PrimaryImage,
    GalleryImages,
}

impl Field {
    pub fn as_str(self) -> &'static str {
        match self {
            Field::PrimaryImage => "primary_image",
            Field::GalleryImages => "gallery_images",
        }
    }
}

/// What fetch brings back.
#[derive(Debug)]
pub enum Answer {
    Suppliers {
        suppliers: Vec<Listed>,
        orders: Orders,
    },
    Supplier(Families),
    /// The list is the one that the supplier is in step with.
    Unchanged,
    Categories {
        text: String,
    },
    Family {
        family: Family,
        text: String,
        images: Vec<Placed>,
        /// See [`super::images::Found`].
        unread: u64,
    },
    Image {
        image: Image,
        product: Sku,
        file: File,
    },
}

/// A supplier as the list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub code: Code,
    pub families: u64,
    /// What its row says already of the version it is in step with.
    pub version: Validators,
}

/// The families of one supplier, as far as they matter.
#[derive(Debug)]
pub struct Families {
    pub code: Code,
    /// Lines of this supplier, bad ones and doubles included.
    pub received: u64,
    /// Their keys, each once.
    pub seen: Vec<String>,
    pub changed: Vec<Family>,
    pub rejects: Vec<Reject>,
    /// Set when all of them are in step: a later answer of 304 needs no reading.
    pub version: Option<Validators>,
}

/// An image of a family's document, and whether it stands in its place already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub image: Image,
    pub stands: bool,
}

#[derive(Debug)]
pub enum File {
    /// Downloaded before: only its place is to be written.
    Known {
        object_key: String,
    },
    New(Bytes),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn codes_and_skus_are_right_or_refused() {
        for (text, code) in [
            ("A23", Some("A23")),
            (" a461 ", Some("A461")),
            ("B23", None),
            ("A", None),
            ("A23x", None),
            ("A123456", None),
            ("", None),
        ] {
            assert_eq!(Code::parse(text).as_ref().map(Code::as_str), code, "{text:?}");
        }
        for good in ["A23-100804", "A389-GIL5000", "A360-CMSOCK_CS01", "A1.5-x", "A23-ü"] {
            assert!(Sku::parse(good).is_some(), "{good}");
        }
        for bad in ["", "..", ".x", "a/b", "a b", "a?b", "a%2fb", "a\nb", "{profile}", &"x".repeat(101)] {
            assert!(Sku::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_request_is_stored_and_read_back() {
        let code = Code::parse("A23").unwrap();
        let sku = Sku::parse("A23-1").unwrap();
        let image: Image = serde_json::from_value(json!({
            "image_url": "https://h/a.jpg", "file_name": "a.jpg", "entity_type": "product-variant", "entity": "A23-1-2",
            "field": "gallery_images", "index": 3
        }))
        .unwrap();
        assert_eq!(image.slot(), "product-variant/A23-1-2/gallery_images/3");
        let since = Validators { etag: Some("\"x\"".into()), last_modified: None };
        let url = "https://h/{profile}/A23/A23-1.json".to_owned();
        let family =
            Family { sku: sku.clone(), url, product_hash: "0".repeat(40), supplier_code: code.clone(), force: false };
        for request in [
            Request::Suppliers(Orders { force: true, allow_removal: false }),
            Request::Supplier { code, orders: Orders::default(), since },
            Request::Categories,
            Request::Family(family),
            Request::Image { image, product: sku, known: None },
        ] {
            let stored = serde_json::to_value(&request).unwrap();
            assert_eq!(serde_json::from_value::<Request>(stored).unwrap(), request);
        }
    }
}
