//! The bundles that the sandbox sells, made from a seed.
//!
//! ```text
//! (seed, count) ──▶ places × plans × versions ──▶ [Bundle; count] ──▶ traps laid on a few
//! ```
//!
//! A bundle is a record of a few bytes; everything shown of it (name, description, JSON) follows from the record.
//! The first bundle is the one of the recorded answer, `esim_1GB_7D_AD_V2`. Any count has every group in it; 5,000 is
//! about the real size, with some 190 countries. Names are unique.

use super::countries::{COUNTRIES, Country, REGIONS, Region};
use super::dice::Dice;

/// The groups, spelled as the sandbox's organisation has them: the filter is exact.
pub const GROUPS: [&str; 5] =
    [FIXED, "Standard - Unlimited Lite", "Standard - Unlimited Essential", "Standard - Unlimited Plus", REGIONAL];
const FIXED: &str = "Standard Fixed";
const REGIONAL: &str = "Regional Bundles";

/// Gigabytes and days of the fixed plans, in the order in which they are taken when few bundles are wanted.
const FIXED_PLANS: [(u16, u16); 10] =
    [(1, 7), (100, 90), (3, 30), (10, 30), (2, 15), (5, 30), (20, 30), (50, 30), (50, 90), (100, 30)];

/// Days of the unlimited plans, in the same sense.
const UNLIMITED_DAYS: [u16; 7] = [7, 30, 1, 15, 3, 5, 10];

/// What a country's whole set of plans comes to in one version; 5,000 bundles so take nearly all countries.
const PLANS_PER_COUNTRY: usize = FIXED_PLANS.len() + 3 * UNLIMITED_DAYS.len();

/// Below this many bundles there are no traps: they would be the most of it.
const TRAPS_FROM: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub place: Place,
    pub plan: Plan,
    /// 2 in `esim_1GB_7D_AD_V2`. Higher ones fill the catalogue beyond its real size.
    pub version: u16,
    /// Hundredths of the organisation's currency. What is served also depends on the trap.
    pub cents: i64,
    pub trap: Option<Trap>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Country(&'static Country),
    Region(&'static Region),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Fixed { gigabytes: u16, days: u16 },
    Unlimited { tier: Tier, days: u16 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Lite,
    Essential,
    Plus,
}

/// What is odd about a bundle. Up to and with `Duplicate` a correct sync stores it; the rest it rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trap {
    NullSpeed,
    NoSpeed,
    NoDurationUnit,
    /// `durationUnit` is `month`.
    Months,
    NullAllowances,
    NoAllowances,
    NullRoaming,
    NoImage,
    /// The price is 0, which is a price.
    Free,
    Alpha3Iso,
    /// `group` in place of `groups`.
    SingularGroup,
    /// In the list with the shapes of the detail endpoint.
    DetailShape,
    TwoGroups,
    /// Listed a second time at the end of the catalogue, as when it moves while it is being read.
    Duplicate,
    InvalidIso,
    NegativePrice,
    NullPrice,
    NoPrice,
    NoDuration,
    NoName,
}

impl Trap {
    pub const ALL: [Trap; 20] = [
        Trap::NullSpeed,
        Trap::NoSpeed,
        Trap::NoDurationUnit,
        Trap::Months,
        Trap::NullAllowances,
        Trap::NoAllowances,
        Trap::NullRoaming,
        Trap::NoImage,
        Trap::Free,
        Trap::Alpha3Iso,
        Trap::SingularGroup,
        Trap::DetailShape,
        Trap::TwoGroups,
        Trap::Duplicate,
        Trap::InvalidIso,
        Trap::NegativePrice,
        Trap::NullPrice,
        Trap::NoPrice,
        Trap::NoDuration,
        Trap::NoName,
    ];
}

impl Bundle {
    /// `esim_1GB_7D_AD_V2`, `esim_UL_7D_TR_V2`. Case matters to the API.
    pub fn name(&self) -> String {
        let place = match self.place {
            Place::Country(country) => country.iso,
            Place::Region(region) => region.code,
        };
        let Self { version, .. } = self;
        match self.plan {
            Plan::Fixed { gigabytes, days } => format!("esim_{gigabytes}GB_{days}D_{place}_V{version}"),
            Plan::Unlimited { tier, days } => format!("esim_{}_{days}D_{place}_V{version}", tier.code()),
        }
    }

    /// `eSIM, 1GB, 7 Days, Andorra, V2`.
    pub fn description(&self) -> String {
        let days = self.days();
        let unit = if days == 1 { "Day" } else { "Days" };
        let data = match self.plan {
            Plan::Fixed { gigabytes, .. } => format!("{gigabytes}GB"),
            Plan::Unlimited { tier, .. } => format!("Unlimited {}", tier.name()),
        };
        format!("eSIM, {data}, {days} {unit}, {}, V{}", self.place_name(), self.version)
    }

    pub fn place_name(&self) -> &'static str {
        match self.place {
            Place::Country(country) => country.name,
            Place::Region(region) => region.name,
        }
    }

    /// The region of its base country, as the `region` filter takes it.
    pub fn region(&self) -> &'static str {
        match self.place {
            Place::Country(country) => country.region,
            Place::Region(region) => region.region,
        }
    }

    /// What stands in `iso` of its base country. A region's is its name, as on the wire.
    pub fn iso(&self) -> &'static str {
        match self.place {
            Place::Country(_) if self.is(Trap::InvalidIso) => ["ZZ9", "", "N/A"][usize::from(self.days()) % 3],
            Place::Country(country) if self.is(Trap::Alpha3Iso) => country.alpha3,
            Place::Country(country) => country.iso,
            Place::Region(region) => region.name,
        }
    }

    pub fn days(&self) -> u16 {
        match self.plan {
            Plan::Fixed { days, .. } | Plan::Unlimited { days, .. } => days,
        }
    }

    /// `duration` as served, in its unit.
    pub fn duration(&self) -> Option<u16> {
        let duration = if self.is(Trap::Months) { self.days().div_ceil(30) } else { self.days() };
        (!self.is(Trap::NoDuration)).then_some(duration)
    }

    pub fn duration_unit(&self) -> Option<&'static str> {
        let unit = if self.is(Trap::Months) { "month" } else { "day" };
        (!self.is(Trap::NoDurationUnit)).then_some(unit)
    }

    /// Decimal megabytes; -1 for unlimited.
    pub fn data_amount(&self) -> i64 {
        match self.plan {
            Plan::Fixed { gigabytes, .. } => i64::from(gigabytes) * 1_000,
            Plan::Unlimited { .. } => -1,
        }
    }

    pub fn unlimited(&self) -> bool {
        matches!(self.plan, Plan::Unlimited { .. })
    }

    /// The price as served, in hundredths; none when it is null or absent.
    pub fn price(&self) -> Option<i64> {
        if self.is(Trap::NullPrice) || self.is(Trap::NoPrice) {
            return None;
        }
        if self.is(Trap::Free) {
            return Some(0);
        }
        Some(if self.is(Trap::NegativePrice) { -self.cents } else { self.cents })
    }

    /// What the networks there can do; empty when it is null or absent.
    pub fn speeds(&self) -> &'static [&'static str] {
        if self.is(Trap::NullSpeed) || self.is(Trap::NoSpeed) {
            return &[];
        }
        match self.place {
            Place::Country(Country { region: "Africa" | "Oceania", .. }) => &["2G", "3G", "4G"],
            Place::Country(Country { region: "LATAM", .. }) => &["3G", "4G", "5G"],
            Place::Country(_) | Place::Region(_) => &["2G", "3G", "4G", "5G"],
        }
    }

    pub fn groups(&self) -> Vec<&'static str> {
        // Traps lie on single countries only, so no bundle is in the regional group twice.
        let own = match (self.place, self.plan) {
            (Place::Region(_), _) => REGIONAL,
            (Place::Country(_), Plan::Fixed { .. }) => FIXED,
            (Place::Country(_), Plan::Unlimited { tier, .. }) => GROUPS[1 + tier as usize],
        };
        if self.is(Trap::TwoGroups) { vec![own, REGIONAL] } else { vec![own] }
    }

    /// Whether it stands in a group, without building the list.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups().contains(&group)
    }

    pub fn is(&self, trap: Trap) -> bool {
        self.trap == Some(trap)
    }

    pub fn listed_twice(&self) -> bool {
        self.is(Trap::Duplicate)
    }

    pub fn has_name(&self) -> bool {
        !self.is(Trap::NoName)
    }
}

impl Tier {
    const ALL: [Tier; 3] = [Tier::Lite, Tier::Essential, Tier::Plus];

    fn code(self) -> &'static str {
        match self {
            Tier::Lite => "UL",
            Tier::Essential => "ULE",
            Tier::Plus => "ULP",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Tier::Lite => "Lite",
            Tier::Essential => "Essential",
            Tier::Plus => "Plus",
        }
    }
}

/// Makes `count` bundles; the same seed and count make the same ones.
pub fn generate(seed: u64, count: usize) -> Vec<Bundle> {
    let countries = (count / PLANS_PER_COUNTRY).max(5) * 6 / 5;
    let countries = countries.min(COUNTRIES.len());
    let chosen: Vec<&'static Country> = (0..countries).map(|at| &COUNTRIES[at * COUNTRIES.len() / countries]).collect();
    let mut bundles = Vec::with_capacity(count);
    let mut version = 2;
    while bundles.len() < count {
        add_version(seed, version, &chosen, &mut bundles);
        version += 1;
    }
    bundles.truncate(count);
    if count >= TRAPS_FROM {
        lay_traps(seed, &mut bundles);
    }
    bundles
}

/// Every plan for every place, once; the plans of all groups alternate, so that a cut anywhere leaves some of each.
fn add_version(seed: u64, version: u16, countries: &[&'static Country], bundles: &mut Vec<Bundle>) {
    let mut add = |place: Place, plan: Plan| {
        let cents = price(seed, place, plan, version);
        bundles.push(Bundle { place, plan, version, cents, trap: None });
    };
    for (at, (gigabytes, days)) in FIXED_PLANS.into_iter().enumerate() {
        let fixed = Plan::Fixed { gigabytes, days };
        countries.iter().for_each(|country| add(Place::Country(country), fixed));
        if let Some(&days) = UNLIMITED_DAYS.get(at) {
            for tier in Tier::ALL {
                countries.iter().for_each(|country| add(Place::Country(country), Plan::Unlimited { tier, days }));
            }
        }
        REGIONS.iter().for_each(|region| add(Place::Region(region), fixed));
    }
}

/// A plausible price in hundredths: what a gigabyte costs there, times what the plan is worth in gigabytes. The
/// factors follow the recorded prices of Turkey and Andorra.
fn price(seed: u64, place: Place, plan: Plan, version: u16) -> i64 {
    let (at, region) = match place {
        Place::Country(country) => (country.iso, country.region),
        Place::Region(region) => (region.code, region.region),
    };
    let per_gigabyte = match region {
        "Europe" => 160,
        "Asia" => 180,
        "North America" => 260,
        "Middle East" => 240,
        "Oceania" => 280,
        "LATAM" => 390,
        "Africa" => 560,
        _ => 620,
    };
    let letters = at.bytes().fold(0, |sum, byte| sum * 256 + u64::from(byte));
    let here = per_gigabyte * (60 + Dice::new(seed, &[letters]).below(90) as i64) / 100;
    let hundredths = match plan {
        Plan::Fixed { gigabytes, days } => {
            let volume = match gigabytes {
                1 => 100,
                2 => 160,
                3 => 206,
                5 => 320,
                10 => 560,
                20 => 1_000,
                50 => 2_300,
                _ => 4_400,
            };
            volume + i64::from(days / 10)
        }
        Plan::Unlimited { tier, days } => {
            let time = match days {
                1 => 130,
                3 => 330,
                5 => 500,
                7 => 650,
                10 => 880,
                15 => 1_230,
                _ => 2_200,
            };
            match tier {
                Tier::Lite => time,
                Tier::Essential => time * 6 / 5,
                Tier::Plus => time * 8 / 5,
            }
        }
    };
    (here * hundredths / 100).max(1) + i64::from(version - 2)
}

/// Lays each trap on one bundle in a thousand, and on at least one. All on single countries; the places are a matter
/// of chance, but never the first bundle, which stays as recorded.
fn lay_traps(seed: u64, bundles: &mut [Bundle]) {
    let each = (bundles.len() / 1_000).clamp(1, 20);
    for (number, trap) in Trap::ALL.into_iter().enumerate() {
        let mut dice = Dice::new(seed, &[number as u64, 0x7a]);
        for _ in 0..each {
            let from = dice.below(bundles.len());
            let free = |bundle: &Bundle| bundle.trap.is_none() && matches!(bundle.place, Place::Country(_));
            let place = (0..bundles.len()).map(|step| (from + step) % bundles.len());
            if let Some(at) = place.filter(|&at| at > 0).find(|&at| free(&bundles[at])) {
                bundles[at].trap = Some(trap);
            }
        }
    }
}

/// The next state of the catalogue and how many bundles differ from the one before.
#[derive(Debug)]
pub struct Step {
    pub bundles: Vec<Bundle>,
    pub changed: usize,
    pub vanished: usize,
}

/// Takes away a fraction of the bundles, then gives a fraction of the rest another price. Exact fractions, rounded;
/// which ones is a matter of seed and generation. Only prices that are served as they are change, so that every change
/// can be seen; when there are fewer of those than asked for, all of them do.
pub fn advance(seed: u64, generation: u64, bundles: &[Bundle], changed: f64, vanished: f64) -> Step {
    let share = |fraction: f64, of: usize| ((fraction.clamp(0.0, 1.0) * of as f64).round() as usize).min(of);
    let order = |salt: u64, at: usize| Dice::new(seed, &[generation, salt, at as u64]).roll();

    let mut places: Vec<usize> = (0..bundles.len()).collect();
    places.sort_unstable_by_key(|&at| order(1, at));
    let vanished = share(vanished, bundles.len());
    let mut kept = places.split_off(vanished);
    kept.sort_unstable();
    let mut bundles: Vec<Bundle> = kept.into_iter().map(|at| bundles[at]).collect();

    let mut priced: Vec<usize> = (0..bundles.len())
        .filter(|&at| bundles[at].price() == Some(bundles[at].cents) && bundles[at].has_name())
        .collect();
    priced.sort_unstable_by_key(|&at| order(2, at));
    priced.truncate(share(changed, bundles.len()));
    for &at in &priced {
        // Upwards only: a price that comes back to an earlier one would look unchanged to whoever missed a step.
        bundles[at].cents += 1 + bundles[at].cents * (order(3, at) % 12) as i64 / 100;
    }
    Step { changed: priced.len(), vanished, bundles }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_first_bundle_is_the_recorded_one() {
        let first = generate(1, 5_000)[0];
        assert_eq!(first.name(), "esim_1GB_7D_AD_V2");
        assert_eq!(first.description(), "eSIM, 1GB, 7 Days, Andorra, V2");
        assert_eq!(first.trap, None);
    }

    #[test]
    fn names_are_unique_and_every_group_is_there_at_any_size() {
        for count in [1, 100, 300, 5_000, 30_000] {
            let bundles = generate(9, count);
            assert_eq!(bundles.len(), count);
            assert_eq!(bundles.iter().map(Bundle::name).collect::<HashSet<_>>().len(), count);
            let groups: HashSet<_> = bundles.iter().flat_map(Bundle::groups).collect();
            assert!(count == 1 || groups.len() == GROUPS.len(), "{count}: {groups:?}");
        }
        let isos: HashSet<_> = generate(9, 5_000).iter().map(|bundle| bundle.place_name()).collect();
        assert!(isos.len() > 190, "{}", isos.len());
    }

    #[test]
    fn every_trap_is_laid_a_few_times() {
        for (count, each) in [(10, 0), (60, 1), (5_000, 5), (100_000, 20)] {
            let bundles = generate(3, count);
            for trap in Trap::ALL {
                assert_eq!(
                    bundles.iter().filter(|bundle| bundle.trap == Some(trap)).count(),
                    each,
                    "{trap:?} of {count}"
                );
            }
        }
    }

    #[test]
    fn prices_are_plausible() {
        let bundles = generate(1, 5_000);
        assert!(bundles.iter().all(|bundle| (50..100_000).contains(&bundle.cents)));
        let price = |name: &str| bundles.iter().find(|bundle| bundle.name() == name).unwrap().cents;
        assert!(price("esim_1GB_7D_TR_V2") < price("esim_10GB_30D_TR_V2"));
        assert!(price("esim_UL_7D_TR_V2") < price("esim_ULP_7D_TR_V2"));
    }

    #[test]
    fn a_step_changes_and_removes_the_exact_fraction() {
        let before = generate(1, 1_000);
        let step = advance(1, 2, &before, 0.1, 0.05);
        assert_eq!((step.vanished, step.bundles.len(), step.changed), (50, 950, 95));
        let old = |bundle: &Bundle| before.iter().find(|old| old.name() == bundle.name()).unwrap().cents;
        assert_eq!(step.bundles.iter().filter(|bundle| old(bundle) != bundle.cents).count(), 95);
        let again = advance(1, 2, &before, 0.1, 0.05);
        assert_eq!(step.bundles, again.bundles);
        assert_ne!(advance(1, 3, &before, 0.1, 0.05).bundles, again.bundles);
        assert_eq!(advance(1, 2, &before, 0.0, 0.0).bundles, before);
    }
}
