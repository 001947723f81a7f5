//! Whether the store holds what the sandbox served: the exit code of `demo --once`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rust_decimal::Decimal;

use crate::cli::exit::Failure;
use crate::domains::{catalog, football, products};
use crate::sandbox::Handle;
use crate::service::Service;
use crate::store::batch::{Cell, Row};
use crate::store::table::Table;

/// All domains, one after the other. `Ok` says what was found; `objects` is the folder of the files.
pub async fn all(service: &Service, sandbox: &Handle, objects: &Path) -> Result<String, Failure> {
    let lines = [
        of_catalog(service, sandbox).await?,
        of_football(service, sandbox).await?,
        of_products(service, sandbox, objects).await?,
    ];
    Ok(lines.join("\n"))
}

/// Every family, variant and image, and that each image's file lies in the folder.
async fn of_products(service: &Service, sandbox: &Handle, objects: &Path) -> Result<String, Failure> {
    let expected = sandbox.expected_promidata();
    let skus = keys(service, &products::PRODUCTS).await?;
    let variants = keys(service, &products::VARIANTS).await?;
    let wanted: BTreeSet<String> = expected.families.keys().cloned().collect();
    let wanted_variants: BTreeSet<String> =
        expected.families.values().flat_map(|family| family.variants.keys().cloned()).collect();
    let mut files = BTreeMap::new();
    each_row(service, &products::MEDIA, |row| {
        if let [Cell::Text(url), Cell::Text(key), ..] = row.cells.as_slice() {
            files.insert(url.clone(), key.clone());
        }
    })
    .await?;
    let images: BTreeSet<&str> = expected.images().into_iter().map(|image| image.url.as_str()).collect();
    let lost = images.iter().filter(|url| files.get(**url).is_none_or(|key| !objects.join(key).is_file())).count();
    if skus == wanted && variants == wanted_variants && lost == 0 {
        return Ok(format!(
            "and the {} product families with their {} variants and {} images",
            skus.len(),
            variants.len(),
            images.len()
        ));
    }
    let (found, known) = (skus.len(), wanted.len());
    let (have, want) = (variants.len(), wanted_variants.len());
    Err(Failure::failed(format!(
        "the store holds {found} of {known} product families and {have} of {want} variants; {lost} images are missing"
    )))
}

/// The keys of a table whose key is one text.
async fn keys(service: &Service, table: &'static Table) -> Result<BTreeSet<String>, Failure> {
    let mut keys = BTreeSet::new();
    each_row(service, table, |row| {
        if let Some(Cell::Text(key)) = row.cells.into_iter().next() {
            keys.insert(key);
        }
    })
    .await?;
    Ok(keys)
}

/// Whether the store holds what the sandbox served, row by row. `Ok` says how many.
async fn of_catalog(service: &Service, sandbox: &Handle) -> Result<String, Failure> {
    let expected = sandbox.expected();
    let stored = stored_bundles(service).await?;
    let mut differences = Vec::new();
    for (name, bundle) in expected.stored() {
        match stored.get(name) {
            None => differences.push(format!("{name} is missing")),
            Some(found) if Some(found.price) != bundle.price => {
                differences.push(format!("{name} costs {} instead of {:?}", found.price, bundle.price));
            }
            Some(found) if found.countries != bundle.countries.len() + bundle.roaming.len() => {
                differences.push(format!("{name} has {} countries", found.countries));
            }
            Some(_) => {}
        }
    }
    differences.extend(
        stored
            .keys()
            .filter(|name| expected.bundles.get(*name).is_none_or(|bundle| bundle.reject.is_some()))
            .map(|name| format!("{name} should not be there")),
    );
    match differences.first() {
        None => Ok(format!(
            "the store holds exactly the {} bundles that the sandbox serves; {} were rejected, with their reasons",
            stored.len(),
            expected.rejected_count()
        )),
        Some(first) => Err(Failure::failed(format!(
            "the store differs from what the sandbox serves in {} places; first: {first}",
            differences.len()
        ))),
    }
}

/// The same of the leagues: their names, and how many seasons they have together.
async fn of_football(service: &Service, sandbox: &Handle) -> Result<String, Failure> {
    let expected = sandbox.expected_football();
    let mut stored = BTreeMap::new();
    each_row(service, &football::LEAGUES, |row| {
        if let [Cell::Int(id), _, Cell::Text(name), ..] = row.cells.as_slice() {
            stored.insert(u32::try_from(*id).unwrap_or_default(), name.clone());
        }
    })
    .await?;
    let seasons = service.store.count_rows(&football::SEASONS).await?;
    let wanted = expected.leagues.iter().map(|(id, league)| (*id, league.name.clone())).collect();
    if stored == wanted && seasons == expected.season_count() as u64 {
        return Ok(format!("and the {} leagues with their {seasons} seasons", stored.len()));
    }
    let (leagues, known) = (stored.len(), expected.leagues.len());
    Err(Failure::failed(format!(
        "the store holds {leagues} leagues and {seasons} seasons that are not the {known} served"
    )))
}

/// Takes every live row of a table, a page at a time.
async fn each_row(service: &Service, table: &'static Table, mut take: impl FnMut(Row)) -> Result<(), Failure> {
    const PAGE: usize = 1_000;
    let mut after = Vec::new();
    loop {
        let rows = service.store.rows(table, after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.cells[..table.key].to_vec();
        rows.into_iter().for_each(&mut take);
    }
}

struct Stored {
    price: Decimal,
    countries: usize,
}

async fn stored_bundles(service: &Service) -> Result<BTreeMap<String, Stored>, Failure> {
    let column = |name: &str| catalog::BUNDLES.columns.iter().position(|column| column.name == name);
    let price = column("price").ok_or_else(|| Failure::internal("catalog_bundles has no price"))?;
    let mut stored = BTreeMap::new();
    each_row(service, &catalog::BUNDLES, |row| {
        if let (Some(Cell::Text(name)), Some(&Cell::Decimal(price))) = (row.cells.first(), row.cells.get(price)) {
            let countries = row.details.iter().map(Vec::len).sum();
            stored.insert(name.clone(), Stored { price, countries });
        }
    })
    .await?;
    Ok(stored)
}
