//! Documents and what becomes of them: golden files of our own, and recorded ones where they are at hand.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use longshore_actors::domain::Transformed;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::domains::products::model::{Code, Family, Placed, Sku};
use crate::domains::products::tables::{PRODUCTS, VARIANTS};
use crate::domains::products::{family, images};
use crate::store::batch::{Batch, Cell, Row};
use crate::store::table::{Column, Table};

/// One golden file.
#[derive(Deserialize)]
struct Case {
    family: Asked,
    document: Box<RawValue>,
    /// Columns left out are not compared; `raw` must be the document's own text.
    expected: Value,
}

#[derive(Deserialize)]
struct Asked {
    sku: Sku,
    supplier_code: Code,
}

fn cell(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => json!(text),
        Cell::Int(int) => json!(int),
        Cell::Bool(bool) => json!(bool),
        Cell::Decimal(decimal) => json!(decimal.to_string()),
        Cell::Json(text) => serde_json::from_str(text).unwrap(),
        Cell::Time(time) => json!(time.0),
    }
}

/// Checks kinds and nulls against the table on the way.
fn named(table: &str, columns: &[Column], cells: &[Cell]) -> Map<String, Value> {
    assert_eq!(columns.len(), cells.len(), "{table}");
    let named = columns.iter().zip(cells).map(|(column, value)| {
        assert!(column.nullable || *value != Cell::Null, "{table}.{} is null", column.name);
        (column.name.to_owned(), cell(value))
    });
    named.collect()
}

fn rows(batch: &Batch, table: &'static Table) -> Value {
    let row = |row: &Row| {
        let mut object = named(table.name, table.columns, &row.cells);
        for (detail, rows) in table.details.iter().zip(&row.details) {
            let rows = rows.iter().map(|cells| {
                assert_eq!(cells[0], row.cells[0], "a detail belongs to its owner");
                Value::Object(named(detail.name, detail.columns, cells))
            });
            object.insert(detail.name.to_owned(), rows.collect());
        }
        Value::Object(object)
    };
    batch.rows.iter().filter(|rows| rows.table == table).flat_map(|rows| &rows.rows).map(row).collect()
}

fn outcome(done: &Transformed<Batch>) -> Value {
    let rejects = done.rejects.iter().map(|reject| json!([reject.key, reject.reason]));
    let removals = done.batch.removals.iter();
    json!({
        "received": done.received,
        "rejects": rejects.collect::<Value>(),
        "seen": done.batch.seen,
        "products": rows(&done.batch, &PRODUCTS),
        "variants": rows(&done.batch, &VARIANTS),
        "removals": removals.map(|one| json!([one.table.name, one.scope.1, one.missing])).collect::<Value>(),
    })
}

/// Drops from `actual` the keys that `expected` does not speak of.
fn narrow(actual: &mut Value, expected: &Value) {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            actual.retain(|key, _| expected.contains_key(key));
            actual.iter_mut().for_each(|(key, value)| narrow(value, &expected[key]));
        }
        (Value::Array(actual), Value::Array(expected)) => {
            actual.iter_mut().zip(expected).for_each(|(actual, expected)| narrow(actual, expected));
        }
        (_, _) => {}
    }
}

fn transformed(sku: Sku, supplier_code: Code, document: &str) -> (Transformed<Batch>, Vec<Placed>) {
    let places = images::of(document, &sku).unwrap().images;
    let places: Vec<Placed> = places.into_iter().map(|image| Placed { image, stands: false }).collect();
    let product_hash = "0".repeat(40);
    let family = Family { sku, url: String::new(), product_hash, supplier_code, force: false };
    (family::transform(&family, document, &places, 0), places)
}

#[test]
fn golden_documents_become_the_expected_rows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/products");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let case: Case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (done, _) = transformed(case.family.sku, case.family.supplier_code, case.document.get());
        assert!(done.rejects.len() as u64 <= done.received, "more rejects than records would be a gap");
        let mut actual = outcome(&done);
        narrow(&mut actual, &case.expected);
        let shown = serde_json::to_string_pretty(&actual).unwrap();
        assert_eq!(actual, case.expected, "{}:\n{shown}", file.display());
    }
}

#[test]
fn the_document_is_kept_to_the_letter() {
    let document = r#"{ "Sku":"A1-1",  "ANumber":"A1", "ChildProducts":[], "x":1.50 }"#;
    let (done, _) = transformed(Sku::parse("A1-1").unwrap(), Code::parse("A1").unwrap(), document);
    assert_eq!(done.batch.rows[0].rows[0].cells.last(), Some(&Cell::Json(document.to_owned())));
}

#[test]
fn the_recorded_document_comes_through_whole() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/samples/promidata/sample-A23-100804.json");
    let Ok(document) = std::fs::read_to_string(&file) else {
        println!("skipped: there is no recorded document at {}", file.display());
        return;
    };
    let (done, places) = transformed(Sku::parse("A23-100804").unwrap(), Code::parse("A23").unwrap(), &document);
    assert_eq!(done.rejects, [], "nothing of it is put aside or left out");
    assert_eq!(done.received, 3);
    let family = &rows(&done.batch, &PRODUCTS)[0];
    assert_eq!((&family["supplier_code"], &family["brand"]), (&json!("A23"), &json!("XD Collection")));
    assert_eq!((&family["category"], &family["release_date"]), (&json!("BAGS/SHOPPING_BAGS"), &json!("2025-05-01")));
    assert_eq!((&family["search_color"], &family["weight_g"]), (&Value::Null, &Value::Null));
    assert_eq!(family["default_variants"], json!({ "BENELUX": "A23-100804-001" }));
    let texts = family["product_texts"].as_array().unwrap();
    for sku in ["", "A23-100804-001", "A23-100804-410"] {
        let of = texts.iter().filter(|text| text["variant_sku"] == sku);
        let languages: Value = of.map(|text| text["language"].clone()).collect();
        assert_eq!(languages, json!(["de", "en", "fr", "nl"]), "{sku:?}");
    }
    assert!(texts.iter().all(|text| text["name"].as_str().unwrap().contains("AWARE™") && text["active"] == true));
    let prices = family["product_prices"].as_array().unwrap();
    assert_eq!(prices.len(), 2 + 2 * 12, "one step of each kind for the family, six for each variant");
    assert!(prices.iter().all(|price| price["currency"] == "EUR" && price["region"] == "BENELUX"));
    assert!(prices.iter().any(|price| price["price"] == "8.27" && price["variant_sku"] == "A23-100804-001"));
    let variants = rows(&done.batch, &VARIANTS);
    for variant in variants.as_array().unwrap() {
        assert_eq!((&variant["country_of_origin"], &variant["weight_g"]), (&json!("CN"), &json!("175")));
        assert_eq!((&variant["carton_net_kg"], &variant["carton_quantity"]), (&json!("15.8"), &json!(90)));
        assert_eq!(
            variant["filters"],
            json!({ "CustomSleevePossible": true, "Eco": true, "GiftWrappingPossible": true })
        );
    }
    assert_eq!(variants.as_array().unwrap().len(), 2);
    let slots: Vec<String> = places.iter().map(|placed| placed.image.slot()).collect();
    assert_eq!(slots.iter().filter(|slot| slot.contains("primary_image")).count(), 3);
    assert_eq!(slots.iter().filter(|slot| slot.contains("gallery_images")).count(), 4 + 5, "{slots:?}");
    assert_eq!(done.batch.seen.len(), 2 + slots.len());
}
