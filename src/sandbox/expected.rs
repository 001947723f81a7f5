//! What a store must hold after a correct sync of the catalogue as it is now.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::bundles::{Bundle, Place, Trap};
use super::catalogue::Catalogue;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// 1 at the start, one more with each advance.
    pub generation: u64,
    /// Of the organisation; bundles carry none.
    pub currency: String,
    /// By name, each once however often it is listed; with those that a sync rejects.
    pub bundles: BTreeMap<String, ExpectedBundle>,
    /// Bundles without a name: each is one more reject.
    pub nameless: usize,
}

/// A bundle as it must be read, whichever of the shapes showed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectedBundle {
    /// Why a sync rejects it; none when it is stored.
    pub reject: Option<Reason>,
    pub description: String,
    /// `iso` of the base countries: alpha-2, also where alpha-3 was served; the region's name for a regional bundle.
    pub countries: Vec<String>,
    /// Alpha-2 codes of `roamingEnabled`, in its order; empty when it is null or absent.
    pub roaming: Vec<String>,
    /// Decimal megabytes; -1 for unlimited.
    pub data_amount: i64,
    pub duration: Option<u16>,
    /// `day` or `month`; none when it is absent.
    pub duration_unit: Option<String>,
    pub unlimited: bool,
    pub autostart: bool,
    /// Empty when `speed` is null or absent.
    pub speeds: Vec<String>,
    /// Exact, without trailing zeros.
    pub price: Option<Decimal>,
    pub groups: Vec<String>,
    pub billing_type: String,
    pub image_url: bool,
    /// How many; 0 when they are null or absent.
    pub allowances: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    InvalidIso,
    NegativePrice,
    /// Null or absent.
    MissingPrice,
    MissingDuration,
}

impl Expected {
    pub fn of(catalogue: &Catalogue) -> Self {
        let mut bundles = BTreeMap::new();
        let mut nameless = 0;
        for bundle in &catalogue.bundles {
            if bundle.has_name() {
                bundles.insert(bundle.name(), ExpectedBundle::of(bundle));
            } else {
                nameless += 1;
            }
        }
        Self { generation: catalogue.generation, currency: super::CURRENCY.to_owned(), bundles, nameless }
    }

    /// What must be in the store, by name.
    pub fn stored(&self) -> impl Iterator<Item = (&str, &ExpectedBundle)> {
        self.bundles.iter().filter(|(_, bundle)| bundle.reject.is_none()).map(|(name, bundle)| (name.as_str(), bundle))
    }

    /// How many must be in the store.
    pub fn stored_count(&self) -> usize {
        self.stored().count()
    }

    /// How many different records a sync of all groups rejects.
    pub fn rejected_count(&self) -> usize {
        self.bundles.values().filter(|bundle| bundle.reject.is_some()).count() + self.nameless
    }
}

impl ExpectedBundle {
    fn of(bundle: &Bundle) -> Self {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let (base, roaming) = match bundle.place {
            Place::Country(country) if bundle.is(Trap::Alpha3Iso) => (country.iso, Vec::new()),
            Place::Country(_) => (bundle.iso(), Vec::new()),
            Place::Region(region) => (bundle.iso(), region.countries().map(|country| country.iso).collect()),
        };
        let bare = bundle.is(Trap::NullAllowances) || bundle.is(Trap::NoAllowances);
        Self {
            reject: reason(bundle),
            description: bundle.description(),
            countries: vec![base.to_owned()],
            roaming: owned(&roaming),
            data_amount: bundle.data_amount(),
            duration: bundle.duration(),
            duration_unit: bundle.duration_unit().map(str::to_owned),
            unlimited: bundle.unlimited(),
            autostart: true,
            speeds: owned(bundle.speeds()),
            price: bundle.price().map(|cents| Decimal::new(cents, 2).normalize()),
            groups: owned(&bundle.groups()),
            billing_type: "FixedCost".to_owned(),
            image_url: !bundle.is(Trap::NoImage),
            allowances: usize::from(!bare),
        }
    }
}

/// The rule: invalid ISO, negative or missing price and missing duration are rejects; all else is stored, also a price
/// of 0. A missing name is a reject too, counted in `nameless`.
fn reason(bundle: &Bundle) -> Option<Reason> {
    match bundle.trap? {
        Trap::InvalidIso => Some(Reason::InvalidIso),
        Trap::NegativePrice => Some(Reason::NegativePrice),
        Trap::NullPrice | Trap::NoPrice => Some(Reason::MissingPrice),
        Trap::NoDuration => Some(Reason::MissingDuration),
        Trap::NullSpeed
        | Trap::NoSpeed
        | Trap::NoDurationUnit
        | Trap::Months
        | Trap::NullAllowances
        | Trap::NoAllowances
        | Trap::NullRoaming
        | Trap::NoImage
        | Trap::Free
        | Trap::Alpha3Iso
        | Trap::SingularGroup
        | Trap::DetailShape
        | Trap::TwoGroups
        | Trap::Duplicate
        | Trap::NoName => None,
    }
}
