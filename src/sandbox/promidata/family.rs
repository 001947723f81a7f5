//! The families that the feed lists: each follows from the seed, its number and its version.
//!
//! ```text
//! (seed, number, version) ─▶ Family ─▶ sku, names, variants, prices, images ─▶ document  (what is served)
//!                                                                            └▶ expected  (what must be held)
//! ```
//!
//! Numbers go round the three suppliers. One of them writes a family as one child with the parent's sku (pattern A),
//! the others give each child a sku of its own (pattern B). Whatever is odd about a family is its [`Trap`]; besides,
//! the harmless oddities of the real feed lie on all of them. A new version has other prices, upwards only, and now and
//! then other images.

use super::expected::FeedReason;
use super::words::{COLOURS, Colour, LANGUAGES, LINES, SIZES, THINGS};
use crate::sandbox::countries;
use crate::sandbox::countries::Country;
use crate::sandbox::dice::Dice;

/// How many images of its own a family has.
pub const IMAGES_EACH: u32 = 7;

/// Children of a family beyond the generated ones.
pub const EXTRA_VARIANTS: usize = 2;

pub struct Supplier {
    /// The `ANumber`.
    pub code: &'static str,
    /// One child whose sku is the family's.
    pub single: bool,
    /// Places in [`LANGUAGES`].
    languages: &'static [usize],
    pub region: &'static str,
    /// Tells of its cartons, as numbers and as text.
    pub cartons: bool,
    /// What its `ConfigurationName`s are called.
    pub configurations: &'static [&'static str],
    /// Writes a colour's value into its texts.
    pub hex: bool,
    /// Prices are multiples of this many thousandths.
    unit: i64,
}

pub const SUPPLIERS: [Supplier; 3] = [
    Supplier {
        code: "A23",
        single: false,
        languages: &[1, 3, 2, 5],
        region: "BENELUX",
        cartons: true,
        configurations: &["Color"],
        hex: false,
        unit: 10,
    },
    Supplier {
        code: "A24",
        single: false,
        languages: &[0, 1, 2, 3, 4, 5],
        region: "EURO",
        cartons: false,
        configurations: &["Color", "Size"],
        hex: true,
        unit: 5,
    },
    Supplier {
        code: "A360",
        single: true,
        languages: &[5, 1, 2, 3],
        region: "DEU",
        cartons: false,
        configurations: &["49P_CONFIG_1"],
        hex: false,
        unit: 10,
    },
];

/// What is odd about a family. It is stored all the same; with the last two, without one of its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    NoEnglish,
    NoFrench,
    OneLanguage,
    GalleryNull,
    GalleryEmpty,
    /// `RecommendedSellingPrice` is `[]`.
    NoSellingPrice,
    SecondaryNull,
    EanNull,
    EanAbsent,
    /// The highest tier has the price 0 and wants to be asked for.
    OnRequest,
    /// Prices for a second region.
    TwoRegions,
    /// The text beside a number has a decimal point, not a comma.
    DecimalPoint,
    /// One child more, without a sku.
    ChildWithoutSku,
    /// One child more, with a price below 0.
    ChildNegative,
}

/// Every supplier's families go through this list.
const TRAPS: [Option<Trap>; 16] = [
    None,
    Some(Trap::NoEnglish),
    Some(Trap::GalleryNull),
    Some(Trap::ChildNegative),
    Some(Trap::EanNull),
    Some(Trap::NoFrench),
    Some(Trap::NoSellingPrice),
    Some(Trap::ChildWithoutSku),
    None,
    Some(Trap::GalleryEmpty),
    Some(Trap::SecondaryNull),
    Some(Trap::TwoRegions),
    Some(Trap::OnRequest),
    Some(Trap::EanAbsent),
    Some(Trap::DecimalPoint),
    Some(Trap::OneLanguage),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    pub seed: u64,
    pub number: u32,
    /// 1, and one more with each change.
    pub version: u32,
    /// Beyond the generated ones: no traps, images of the others.
    pub extra: bool,
    /// How many images there are in all.
    pub images: u32,
}

/// One child, the wrong ones too.
pub struct Variant {
    /// None in a wrong child.
    pub sku: Option<String>,
    pub supplier_sku: String,
    pub colour: &'static Colour,
    pub size: &'static str,
    pub ean: Option<String>,
    pub ladders: Vec<Ladder>,
    pub primary: u32,
    /// Numbers of images, in their order.
    pub gallery: Vec<u32>,
    /// Why a sync rejects it.
    pub reject: Option<FeedReason>,
}

/// The prices for one region.
pub struct Ladder {
    pub region: &'static str,
    pub selling: Vec<Tier>,
    pub buying: Vec<Tier>,
}

#[derive(Clone, Copy)]
pub struct Tier {
    pub quantity: u32,
    /// Of a euro.
    pub thousandths: i64,
    pub on_request: bool,
}

impl Family {
    pub fn supplier(&self) -> &'static Supplier {
        // An extra's line has the same length as every other's: the third supplier's code is longer.
        let suppliers = if self.extra { 2 } else { SUPPLIERS.len() };
        &SUPPLIERS[self.number as usize % suppliers]
    }

    pub fn trap(&self) -> Option<Trap> {
        if self.extra {
            return None;
        }
        let turn = u64::from(self.number / SUPPLIERS.len() as u32).wrapping_add(self.seed % TRAPS.len() as u64);
        let trap = TRAPS[turn as usize % TRAPS.len()];
        // A family of one child would be left with none.
        trap.filter(|trap| !(self.supplier().single && matches!(trap, Trap::ChildWithoutSku | Trap::ChildNegative)))
    }

    pub fn is(&self, trap: Trap) -> bool {
        self.trap() == Some(trap)
    }

    pub fn sku(&self) -> String {
        format!("{}-{}", self.supplier().code, self.supplier_sku())
    }

    pub fn supplier_sku(&self) -> String {
        let number = self.number;
        match self.supplier().code {
            _ if self.extra => format!("X{number:07}"),
            "A23" => format!("{}", 700_000 + number),
            "A24" => format!("K{number:04}IC"),
            _ => format!("LSOCK_{number:04}.B"),
        }
    }

    /// Stable over the versions; the salt tells one roll from another.
    pub fn dice(&self, salt: u64) -> Dice {
        Dice::new(self.seed, &[0xfa, u64::from(self.extra), u64::from(self.number), salt])
    }

    fn thing(&self) -> usize {
        self.dice(1).below(THINGS.len())
    }

    /// Places in [`LANGUAGES`], in the supplier's order.
    pub fn languages(&self) -> Vec<usize> {
        let left_out = |&language: &usize| match (self.trap(), LANGUAGES[language]) {
            (Some(Trap::NoEnglish), "en") | (Some(Trap::NoFrench), "fr") => true,
            (Some(Trap::OneLanguage), language) => language != "nl",
            _ => false,
        };
        self.supplier().languages.iter().copied().filter(|language| !left_out(language)).collect()
    }

    pub fn name(&self, language: usize) -> String {
        format!("{} {} {}", LINES[self.dice(2).below(LINES.len())], THINGS[self.thing()].0[language], self.number)
    }

    /// The codes from the root down.
    pub fn category(&self) -> Vec<String> {
        super::categories::path(THINGS[self.thing()].1, self.number as usize)
    }

    /// As code paths; none for null.
    pub fn secondary(&self) -> Option<Vec<String>> {
        if self.is(Trap::SecondaryNull) {
            return None;
        }
        let more = self.dice(3).chance(0.4).then(|| super::categories::path(5, self.number as usize + 7).join("/"));
        Some(more.into_iter().collect())
    }

    /// None for null.
    pub fn country(&self) -> Option<&'static Country> {
        let isos = ["CN", "DE", "PT", "IN", "TR", ""];
        countries::country(isos[self.dice(4).below(isos.len())])
    }

    /// As it is written: one half with two letters, one with three.
    pub fn country_written(&self) -> Option<&'static str> {
        let short = self.dice(5).chance(0.5);
        self.country().map(|country| if short { country.iso } else { country.alpha3 })
    }

    /// Grams.
    pub fn weight(&self) -> u32 {
        20 + self.dice(6).below(900) as u32
    }

    /// Net and gross, in tenths of a kilogram; half of them whole kilograms.
    pub fn carton(&self) -> Option<(u32, u32)> {
        let tenths = 40 + self.dice(7).below(160) as u32;
        let net = if tenths.is_multiple_of(2) { tenths } else { tenths / 10 * 10 };
        self.supplier().cartons.then_some((net, net + 11))
    }

    /// Year, month, day.
    pub fn released(&self) -> (u32, u32, u32) {
        let mut dice = self.dice(8);
        (2_020 + dice.below(6) as u32, 1 + dice.below(12) as u32, 1 + dice.below(28) as u32)
    }

    /// The names that are there are true.
    pub fn filters(&self) -> Vec<&'static str> {
        let mut dice = self.dice(9);
        ["Eco", "CustomSleevePossible", "GiftWrappingPossible"].into_iter().filter(|_| dice.chance(0.5)).collect()
    }

    /// All children in their order, a wrong one last.
    pub fn variants(&self) -> Vec<Variant> {
        let right = match self.supplier() {
            _ if self.extra => EXTRA_VARIANTS,
            Supplier { single: true, .. } => 1,
            Supplier { .. } => 3 + self.dice(10).below(3),
        };
        let mut variants: Vec<Variant> = (0..right).map(|nth| self.variant(nth)).collect();
        match self.trap() {
            Some(Trap::ChildWithoutSku) => {
                let wrong = Variant { sku: None, reject: Some(FeedReason::NoSku), ..self.variant(right) };
                variants.push(wrong);
            }
            Some(Trap::ChildNegative) => {
                let mut wrong = Variant { reject: Some(FeedReason::NegativePrice), ..self.variant(right) };
                for tier in wrong.ladders.iter_mut().flat_map(|ladder| &mut ladder.selling) {
                    tier.thousandths = -tier.thousandths;
                }
                variants.push(wrong);
            }
            _ => {}
        }
        variants
    }

    fn variant(&self, nth: usize) -> Variant {
        let supplier = self.supplier();
        let colour = &COLOURS[(self.dice(11).below(COLOURS.len()) + nth) % COLOURS.len()];
        let size = SIZES[nth % SIZES.len()];
        let own = self.supplier_sku();
        let supplier_sku = match supplier.code {
            // Six children have five colours.
            "A23" => format!("{own}-{}{}", colour.code, if nth < COLOURS.len() { "" } else { "B" }),
            "A24" => format!("{own}_{nth}{size}"),
            _ => own,
        };
        let blank = self.is(Trap::EanNull) || self.is(Trap::EanAbsent);
        let ean = (!blank).then(|| format!("40{:07}{:02}{:02}", self.number, nth, self.seed % 100));
        Variant {
            sku: Some(format!("{}-{supplier_sku}", supplier.code)),
            supplier_sku,
            colour,
            size,
            ean,
            ladders: self.ladders(nth),
            primary: self.image(nth as u32 + self.version / 2),
            gallery: self.gallery(nth as u32),
            reject: None,
        }
    }

    fn gallery(&self, nth: u32) -> Vec<u32> {
        if self.is(Trap::GalleryNull) || self.is(Trap::GalleryEmpty) {
            return Vec::new();
        }
        let places: &[u32] = if self.supplier().single { &[1, 2, 3, 4, 5, 6] } else { &[2, 4] };
        places.iter().map(|place| self.image(nth + place + self.version / 2)).collect()
    }

    /// The number of one of its images. One in twelve is everybody's.
    fn image(&self, place: u32) -> u32 {
        let place = place % IMAGES_EACH;
        if self.dice(20 + u64::from(place)).chance(1.0 / 12.0) {
            return place;
        }
        (self.number % (self.images / IMAGES_EACH)) * IMAGES_EACH + place
    }

    fn ladders(&self, nth: usize) -> Vec<Ladder> {
        let supplier = self.supplier();
        let mut regions = vec![supplier.region];
        if self.is(Trap::TwoRegions) {
            regions.push("CHE");
        }
        let unit = supplier.unit;
        let base = 1_000 + self.dice(12).below(20_000) as i64;
        let count = 3 + self.dice(13).below(3);
        // Some buy at a price that is told elsewhere; never those that do not say what they sell for either.
        let secret = supplier.single && self.dice(14).chance(0.25) && !self.is(Trap::NoSellingPrice);
        let quantities = [1, 100, 250, 500, 1_000];
        let ladder = |(nth_region, region): (usize, &'static str)| {
            // Of the plain price, in hundredths.
            let tiers = |share: i64| {
                let tier = |(at, quantity): (usize, u32)| {
                    let asked = self.is(Trap::OnRequest) && at + 1 == count;
                    let reduced = base * share / 100 * (100 - 5 * at as i64) / 100 / unit * unit;
                    let dearer = (nth + nth_region + self.version as usize) as i64 * unit;
                    Tier { quantity, thousandths: if asked { 0 } else { reduced + dearer }, on_request: asked }
                };
                quantities.into_iter().take(count).enumerate().map(tier).collect::<Vec<_>>()
            };
            let selling = if self.is(Trap::NoSellingPrice) { Vec::new() } else { tiers(100) };
            let buying = if secret { Vec::new() } else { tiers(72) };
            Ladder { region, selling, buying }
        };
        regions.into_iter().enumerate().map(ladder).collect()
    }
}
