//! What a store must hold after a correct sync of the feed as it is now.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::categories;
use super::family::{EXTRA_VARIANTS, Family, Ladder, Tier, Variant};
use super::feed::Feed;
use super::images::{self, Content};
use super::words::LANGUAGES;
use crate::sandbox::dials::Dials;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectedPromidata {
    /// 1 at the start, one more with each advance.
    pub generation: u64,
    /// `ANumber`s.
    pub suppliers: BTreeSet<String>,
    /// By sku, the generated ones that can be fetched.
    pub families: BTreeMap<String, ExpectedFamily>,
    /// Skus of families that are listed and cannot be fetched.
    pub missing: BTreeSet<String>,
    /// Lines of `Import.txt` to be passed over, without their line ends.
    pub bad_lines: Vec<ExpectedBadLine>,
    /// What is to be rejected, in the order of the feed: children without a sku, and prices of children that are kept
    /// without them.
    pub rejects: Vec<ExpectedReject>,
    /// By code.
    pub categories: BTreeMap<String, ExpectedCategory>,
    /// Families beyond the generated ones, which are not shown one by one.
    pub extras: u32,
    /// What those have together.
    pub extra_variants: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectedFamily {
    pub supplier: String,
    /// As its line has it: 40 hex digits.
    pub hash: String,
    /// By language.
    pub names: BTreeMap<String, String>,
    /// The path of codes as it is written, `CARRYING/CARRYING_WOOD`.
    pub category: String,
    /// The last code of that path.
    pub category_code: String,
    /// Paths too; empty when they are null.
    pub secondary: Vec<String>,
    /// Alpha-2, also where alpha-3 was written.
    pub country: Option<String>,
    /// `YYYY-MM-DD`.
    pub released: String,
    /// The children that are stored, by sku.
    pub variants: BTreeMap<String, ExpectedVariant>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectedVariant {
    pub supplier_sku: String,
    pub ean: Option<String>,
    /// `SearchColor`.
    pub colour: String,
    /// By language, then by `ConfigurationName`.
    pub configurations: BTreeMap<String, BTreeMap<String, String>>,
    /// Grams.
    pub weight: u32,
    pub carton_net: Option<Decimal>,
    pub carton_gross: Option<Decimal>,
    pub filters: BTreeMap<String, bool>,
    /// By region.
    pub prices: BTreeMap<String, ExpectedPrices>,
    pub primary: ExpectedImage,
    /// In its order; empty when it is null or `[]`.
    pub gallery: Vec<ExpectedImage>,
}

/// The currency is the euro, which the feed calls `EURO`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedPrices {
    pub selling: Vec<ExpectedTier>,
    pub buying: Vec<ExpectedTier>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedTier {
    pub quantity: u32,
    /// Exact, without trailing zeros.
    pub price: Decimal,
    /// The price is 0 and no price.
    pub on_request: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExpectedImage {
    pub url: String,
    /// What is served there.
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedCategory {
    pub parent: Option<String>,
    /// Full paths by language; without those that are empty.
    pub names: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedReject {
    pub family: String,
    /// The child's sku where it has one.
    pub key: Option<String>,
    pub supplier_sku: String,
    pub reason: FeedReason,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedBadLine {
    pub line: String,
    pub reason: BadLine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedReason {
    /// Null, empty or absent.
    NoSku,
    /// The child is stored without its prices below 0.
    NegativePrice,
}

/// What is wrong with a line that `feed_bad_lines` put in. Every family has a good line besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadLine {
    /// Of a family that has a line with one.
    NoHash,
    /// The same line again; it is no fault, only the same family.
    Duplicate,
    /// Of a sku that is on no other line.
    OtherHost,
}

impl ExpectedPromidata {
    /// `origin` is the scheme and host that the client uses.
    pub fn of(feed: &Feed, origin: &str, dials: &Dials) -> Self {
        let mut families = BTreeMap::new();
        let mut missing = BTreeSet::new();
        let mut rejects = Vec::new();
        for family in feed.families() {
            let sku = family.sku();
            if feed.is_missing(&family, dials) {
                missing.insert(sku);
                continue;
            }
            for variant in family.variants() {
                rejects.extend(variant.reject.map(|reason| ExpectedReject {
                    family: sku.clone(),
                    key: variant.sku,
                    supplier_sku: variant.supplier_sku,
                    reason,
                }));
            }
            families.insert(sku, ExpectedFamily::of(&family, feed, origin, dials));
        }
        let suppliers = feed.families().map(|family| family.supplier().code.to_owned());
        let suppliers = suppliers.chain((0..feed.extras).take(2).map(|nth| feed.extra(nth).supplier().code.to_owned()));
        Self {
            generation: feed.generation,
            suppliers: suppliers.collect(),
            families,
            missing,
            bad_lines: feed.bad_lines(origin, dials),
            rejects,
            categories: categories::expected(),
            extras: feed.extras,
            extra_variants: feed.extras as usize * EXTRA_VARIANTS,
        }
    }

    /// How many variants of the generated families must be in the store.
    pub fn variant_count(&self) -> usize {
        self.families.values().map(|family| family.variants.len()).sum()
    }

    /// Every image that a stored variant shows, each once.
    pub fn images(&self) -> BTreeSet<&ExpectedImage> {
        let variants = self.families.values().flat_map(|family| family.variants.values());
        variants.flat_map(|variant| variant.gallery.iter().chain([&variant.primary])).collect()
    }
}

impl ExpectedFamily {
    fn of(family: &Family, feed: &Feed, origin: &str, dials: &Dials) -> Self {
        let category = family.category();
        let (year, month, day) = family.released();
        let languages = family.languages();
        let named = |&language: &usize| (LANGUAGES[language].to_owned(), family.name(language));
        let variants = family.variants().into_iter();
        let shown = |variant: Variant| {
            let sku = variant.sku.clone()?;
            Some((sku, ExpectedVariant::of(family, variant, feed, origin, dials)))
        };
        Self {
            supplier: family.supplier().code.to_owned(),
            hash: feed.hash(family, origin),
            names: languages.iter().map(named).collect(),
            category_code: category.last().cloned().unwrap_or_default(),
            category: category.join("/"),
            secondary: family.secondary().unwrap_or_default(),
            country: family.country().map(|country| country.iso.to_owned()),
            released: format!("{year}-{month:02}-{day:02}"),
            variants: variants.filter_map(shown).collect(),
        }
    }
}

impl ExpectedVariant {
    fn of(family: &Family, variant: Variant, feed: &Feed, origin: &str, dials: &Dials) -> Self {
        let image = |number: u32| ExpectedImage {
            url: feed.image_url(origin, number),
            content: images::content(feed.seed, number, dials),
        };
        let (net, gross) = family.carton().unzip();
        let kilograms = |tenths: u32| Decimal::new(i64::from(tenths), 1).normalize();
        Self {
            configurations: configurations(family, &variant),
            supplier_sku: variant.supplier_sku,
            ean: variant.ean,
            colour: variant.colour.search.to_owned(),
            weight: family.weight(),
            carton_net: net.map(kilograms),
            carton_gross: gross.map(kilograms),
            filters: family.filters().into_iter().map(|name| (name.to_owned(), true)).collect(),
            prices: variant.ladders.iter().map(|ladder| (ladder.region.to_owned(), prices(ladder))).collect(),
            primary: image(variant.primary),
            gallery: variant.gallery.into_iter().map(image).collect(),
        }
    }
}

fn configurations(family: &Family, variant: &Variant) -> BTreeMap<String, BTreeMap<String, String>> {
    let of = |language: usize| {
        let fields = family.supplier().configurations.iter().map(|&name| {
            let value = if name == "Size" { variant.size } else { variant.colour.name[language] };
            (name.to_owned(), value.to_owned())
        });
        (LANGUAGES[language].to_owned(), fields.collect())
    };
    family.languages().into_iter().map(of).collect()
}

fn prices(ladder: &Ladder) -> ExpectedPrices {
    let tier = |tier: &Tier| ExpectedTier {
        quantity: tier.quantity,
        price: Decimal::new(tier.thousandths, 3).normalize(),
        on_request: tier.on_request,
    };
    let stored = |tiers: &[Tier]| tiers.iter().filter(|tier| tier.thousandths >= 0).map(tier).collect();
    ExpectedPrices { selling: stored(&ladder.selling), buying: stored(&ladder.buying) }
}
