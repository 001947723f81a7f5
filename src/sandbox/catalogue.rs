//! One generation of the catalogue, ready to be served.
//!
//! ```text
//! bundles ──render once──▶ one buffer of JSON ◀── places ── Selection (filter + order, remembered) ◀── page
//! ```
//!
//! A page is put together from the rendered bundles, which is a copy of some hundred kilobytes. Whole pages are not
//! kept: that would double the memory to save a few microseconds. A generation never changes; the next one is another
//! value, so a reader of pages may see the catalogue move between two of them, as with the real one.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::web::Bytes;

use super::bundles::{Bundle, Place, Trap};
use super::shapes;

/// Remembered selections; at the bound all are forgotten and made anew. A sync asks for five.
const SELECTIONS_MAX: usize = 64;

pub struct Catalogue {
    pub generation: u64,
    pub bundles: Vec<Bundle>,
    /// All bundles in list shape, one behind the other.
    rendered: Vec<u8>,
    /// Where each bundle ends in `rendered`.
    ends: Vec<usize>,
    by_name: HashMap<String, u32>,
    selections: Mutex<HashMap<Query, Arc<[u32]>>>,
}

/// Which bundles, in which order. All filters must hold; the empty query takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Query {
    /// Exact, as eSIM Go compares it.
    pub group: Option<String>,
    /// Alpha-2 codes; a bundle needs one of them as its base country.
    pub countries: Vec<String>,
    pub region: Option<String>,
    /// Case does not matter; `*` stands for anything, also around it.
    pub description: Option<String>,
    pub order: Order,
    pub descending: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// As the catalogue has them.
    #[default]
    Catalogue,
    Name,
    DataAmount,
    Duration,
    Price,
    /// Regional bundles last.
    Roaming,
}

impl Catalogue {
    pub fn new(generation: u64, bundles: Vec<Bundle>) -> Self {
        let mut rendered = Vec::with_capacity(bundles.len() * 520);
        let mut ends = Vec::with_capacity(bundles.len());
        let mut by_name = HashMap::with_capacity(bundles.len());
        for (at, bundle) in bundles.iter().enumerate() {
            shapes::write_listed(bundle, &mut rendered);
            ends.push(rendered.len());
            if bundle.has_name() {
                by_name.insert(bundle.name(), at as u32);
            }
        }
        rendered.shrink_to_fit();
        Self { generation, bundles, rendered, ends, by_name, selections: Mutex::default() }
    }

    /// A page, 1-based. Beyond the last one it is empty, as is every page of an unknown group.
    /// `bare` leaves the envelope away: the documented, unrecorded form.
    pub fn page(&self, query: &Query, page: usize, per_page: usize, bare: bool) -> Bytes {
        let selected = self.select(query);
        let from = page.saturating_sub(1).saturating_mul(per_page).min(selected.len());
        let shown = &selected[from..(from + per_page).min(selected.len())];
        let size = shown.iter().map(|&at| self.listed(at).len() + 1).sum::<usize>();
        let mut body = Vec::with_capacity(size + 96);
        body.extend_from_slice(if bare { b"[" } else { b"{\"bundles\":[" });
        for (nth, &at) in shown.iter().enumerate() {
            if nth > 0 {
                body.push(b',');
            }
            body.extend_from_slice(self.listed(at));
        }
        body.push(b']');
        if !bare {
            let (rows, pages) = (selected.len(), selected.len().div_ceil(per_page));
            write!(body, ",\"pageCount\":{pages},\"rows\":{rows},\"pageSize\":{per_page}}}")
                .expect("writing to a vector does not fail");
        }
        Bytes::from(body)
    }

    /// A bundle by its exact name, in detail shape.
    pub fn detail(&self, name: &str) -> Option<Bytes> {
        let &at = self.by_name.get(name)?;
        let mut body = Vec::new();
        shapes::write_detail(&self.bundles[at as usize], &mut body);
        Some(Bytes::from(body))
    }

    fn listed(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let from = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.rendered[from..self.ends[at]]
    }

    fn select(&self, query: &Query) -> Arc<[u32]> {
        let mut selections = self.selections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = selections.get(query) {
            return known.clone();
        }
        let mut places: Vec<u32> =
            (0..self.bundles.len() as u32).filter(|&at| query.takes(&self.bundles[at as usize])).collect();
        // Those listed twice come again at the end: on another page than the first time, but for tiny groups.
        let twice: Vec<u32> = places.iter().copied().filter(|&at| self.bundles[at as usize].listed_twice()).collect();
        places.extend(twice);
        self.sort(query.order, &mut places);
        if query.descending {
            places.reverse();
        }
        let places: Arc<[u32]> = places.into();
        if selections.len() >= SELECTIONS_MAX {
            selections.clear();
        }
        selections.insert(query.clone(), places.clone());
        places
    }

    fn sort(&self, order: Order, places: &mut [u32]) {
        let bundle = |at: &u32| &self.bundles[*at as usize];
        match order {
            Order::Catalogue => {}
            Order::Name => places.sort_by_cached_key(|at| bundle(at).name()),
            Order::DataAmount => places.sort_by_key(|at| bundle(at).data_amount()),
            Order::Duration => places.sort_by_key(|at| bundle(at).duration()),
            Order::Price => places.sort_by_key(|at| bundle(at).price()),
            Order::Roaming => places.sort_by_key(|at| matches!(bundle(at).place, Place::Region(_))),
        }
    }
}

impl Query {
    fn takes(&self, bundle: &Bundle) -> bool {
        self.group.as_deref().is_none_or(|group| bundle.in_group(group))
            && self.region.as_deref().is_none_or(|region| bundle.region() == region)
            && (self.countries.is_empty() || self.countries.iter().any(|iso| stands_for(bundle, iso)))
            && self.description.as_deref().is_none_or(|pattern| matches(pattern, &bundle.description()))
    }
}

/// The filter knows a country by its alpha-2 code even where the bundle shows the longer one.
fn stands_for(bundle: &Bundle, iso: &str) -> bool {
    match bundle.place {
        Place::Country(country) if bundle.is(Trap::Alpha3Iso) => country.iso.eq_ignore_ascii_case(iso),
        Place::Country(_) | Place::Region(_) => bundle.iso().eq_ignore_ascii_case(iso),
    }
}

/// The parts between the stars, one after the other.
fn matches(pattern: &str, text: &str) -> bool {
    let text = text.to_lowercase();
    let mut rest = text.as_str();
    for part in pattern.to_lowercase().split('*').filter(|part| !part.is_empty()) {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;
    use crate::sandbox::bundles::{GROUPS, generate};

    fn pages(catalogue: &Catalogue, query: &Query, per_page: usize) -> Vec<Value> {
        let read = |page| -> Value { serde_json::from_slice(&catalogue.page(query, page, per_page, false)).unwrap() };
        let count = read(1)["pageCount"].as_u64().unwrap() as usize;
        (1..=count).map(read).collect()
    }

    fn names(pages: &[Value]) -> Vec<String> {
        let bundles = pages.iter().flat_map(|page| page["bundles"].as_array().unwrap());
        bundles.map(|bundle| bundle["name"].as_str().unwrap_or("").to_owned()).collect()
    }

    #[test]
    fn pages_add_up_and_end() {
        let catalogue = Catalogue::new(1, generate(1, 300));
        let twice = catalogue.bundles.iter().filter(|bundle| bundle.listed_twice()).count();
        for per_page in [1, 7, 50, 301, 6_000] {
            let pages = pages(&catalogue, &Query::default(), per_page);
            assert_eq!(names(&pages).len(), 300 + twice);
            assert_eq!(pages[0]["rows"], 300 + twice);
            assert_eq!(pages[0]["pageSize"], per_page);
            assert_eq!(pages.len(), (300 + twice).div_ceil(per_page));
        }
        let beyond: Value = serde_json::from_slice(&catalogue.page(&Query::default(), 99, 50, false)).unwrap();
        assert_eq!(beyond["bundles"], Value::Array(vec![]));
        let bare: Value = serde_json::from_slice(&catalogue.page(&Query::default(), 1, 50, true)).unwrap();
        assert_eq!(bare.as_array().unwrap().len(), 50);
    }

    #[test]
    fn the_group_filter_is_exact() {
        let catalogue = Catalogue::new(1, generate(1, 500));
        let group = |name: &str| pages(&catalogue, &Query { group: Some(name.to_owned()), ..Query::default() }, 50);
        for name in GROUPS {
            let pages = group(name);
            assert!(!pages.is_empty(), "{name}");
            for bundle in pages.iter().flat_map(|page| page["bundles"].as_array().unwrap()) {
                let groups = bundle.get("groups").or(bundle.get("group")).unwrap();
                assert!(groups.as_array().unwrap().iter().any(|shown| shown == name), "{bundle}");
            }
        }
        assert!(group("Standard Unlimited Lite").is_empty());
        assert!(group("standard fixed").is_empty());
    }

    #[test]
    fn other_filters_and_orders() {
        let catalogue = Catalogue::new(1, generate(1, 5_000));
        let of = |query: Query| names(&pages(&catalogue, &query, 200));
        let countries = vec!["AD".to_owned(), "tr".to_owned()];
        let found = of(Query { countries, ..Query::default() });
        assert!(found.iter().all(|name| name.is_empty() || name.contains("_AD_") || name.contains("_TR_")));
        assert!(found.len() > 20, "{found:?}");

        let found = of(Query { description: Some("1gb*andorra".to_owned()), ..Query::default() });
        assert_eq!(found, ["esim_1GB_7D_AD_V2"]);
        let found = of(Query { region: Some("Oceania".to_owned()), ..Query::default() });
        assert!(found.iter().any(|name| name.contains("_AU_")) && !found.iter().any(|name| name.contains("_AT_")));

        let mut sorted = of(Query { order: Order::Name, ..Query::default() });
        assert!(sorted.iter().filter(|name| !name.is_empty()).is_sorted());
        sorted.reverse();
        let query = Query { order: Order::Name, descending: true, ..Query::default() };
        assert_eq!(of(query).first(), sorted.first());
    }

    #[test]
    fn a_duplicate_stands_on_two_pages() {
        let catalogue = Catalogue::new(1, generate(1, 5_000));
        let name = catalogue.bundles.iter().find(|bundle| bundle.listed_twice()).unwrap().name();
        let pages = pages(&catalogue, &Query::default(), 200);
        let on = pages.iter().filter(|page| names(std::slice::from_ref(page)).contains(&name)).count();
        assert_eq!(on, 2);
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (one, two) = (Catalogue::new(1, generate(5, 400)), Catalogue::new(1, generate(5, 400)));
        assert_eq!(one.rendered, two.rendered);
        assert_ne!(one.rendered, Catalogue::new(1, generate(6, 400)).rendered);
    }

    #[test]
    fn remembered_selections_are_bounded() {
        let catalogue = Catalogue::new(1, generate(1, 50));
        for nth in 0..200 {
            catalogue.page(&Query { group: Some(format!("nobody {nth}")), ..Query::default() }, 1, 50, false);
        }
        assert!(catalogue.selections.lock().unwrap().len() <= SELECTIONS_MAX);
    }
}
