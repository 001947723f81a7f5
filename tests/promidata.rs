//! Products from the sandbox's feed, row by row as it says they must be, on both stores.

use std::collections::{BTreeMap, BTreeSet};

use longshore::sandbox::Dials;
use longshore::sandbox::promidata::{ExpectedPromidata, ExpectedVariant, PROFILE};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Server;
use crate::support::rows::Rows;
use crate::support::s3::{self, Refusal};
use crate::support::{Ended, World};

fn dials() -> Dials {
    Dials {
        changed: 0.1,
        vanished: 0.05,
        feed_changed: 0.2,
        feed_vanished: 0.1,
        feed_bad_lines: 0.1,
        ..Dials::default()
    }
}

fn world(families: u32, dials: Dials) -> World {
    World::products(families, dials).set("domains.products.removal_guard", "{ ratio = 0.5, rows = 50 }")
}

fn sync(world: &World, args: &[&str]) -> Ended {
    world.run(&[&["sync", "products", "--json"], args].concat())
}

fn count(ended: &Ended, name: &str) -> u64 {
    ended.json()["job"]["counts"][name].as_u64().unwrap_or_else(|| panic!("no count {name}: {ended}"))
}

/// How many jobs of a kind a sync asked for.
fn jobs(ended: &Ended, kind: &str) -> usize {
    let children = ended.json()["children"].as_array().unwrap().clone();
    children.iter().filter(|child| child["kind"] == kind).count()
}

type Step = (String, String, &'static str, i64);

/// What a variant costs: by region, kind and quantity; nothing where it is on request.
fn ladder(sku: &str, variant: &ExpectedVariant) -> Vec<(Step, Option<Decimal>)> {
    let mut steps = Vec::new();
    for (region, prices) in &variant.prices {
        for (kind, tiers) in [("selling", &prices.selling), ("buying", &prices.buying)] {
            for tier in tiers {
                let price = (!tier.on_request).then_some(tier.price);
                steps.push(((sku.to_owned(), region.clone(), kind, i64::from(tier.quantity)), price));
            }
        }
    }
    steps
}

/// Nothing is lost, nothing doubled, nothing more, and every file lies where its row says.
#[track_caller]
fn equal(rows: &Rows<'_>, world: &World, expected: &ExpectedPromidata) {
    let live = "removed_at IS NULL";
    let sql = format!("SELECT sku, supplier_code, feed_hash, category, release_date FROM products WHERE {live}");
    let found: BTreeSet<Vec<String>> = rows.ask(&sql).into_iter().collect();
    let wanted = expected.families.iter().map(|(sku, family)| {
        [sku, &family.supplier, &family.hash, &family.category, &family.released].map(Clone::clone).to_vec()
    });
    assert_eq!(found, wanted.collect());

    let sql = format!(
        "SELECT product_sku, language, name FROM product_texts JOIN products ON sku = product_sku
         WHERE variant_sku = '' AND {live}"
    );
    let found: BTreeSet<Vec<String>> = rows.ask(&sql).into_iter().collect();
    let names = expected.families.iter().flat_map(|(sku, family)| {
        family.names.iter().map(|(language, name)| vec![sku.clone(), language.clone(), name.clone()])
    });
    assert_eq!(found, names.collect());

    let variants: BTreeMap<&String, (&String, &ExpectedVariant)> = expected
        .families
        .iter()
        .flat_map(|(family, of)| of.variants.iter().map(move |(sku, variant)| (sku, (family, variant))))
        .collect();
    let sql = format!("SELECT sku, product_sku FROM product_variants WHERE {live}");
    let found: BTreeSet<Vec<String>> = rows.ask(&sql).into_iter().collect();
    assert_eq!(found, variants.iter().map(|(sku, (family, _))| vec![(*sku).clone(), (*family).clone()]).collect());

    let sql = format!(
        "SELECT variant_sku, region, kind, quantity, price, CASE WHEN on_request THEN 1 ELSE 0 END, currency
         FROM product_prices JOIN products ON sku = product_sku WHERE variant_sku <> '' AND {live}"
    );
    let mut found: BTreeMap<Step, Option<Decimal>> = BTreeMap::new();
    for row in rows.ask(&sql) {
        let [sku, region, kind, quantity, price, on_request, currency] = row.try_into().unwrap();
        assert_eq!(currency, "EUR");
        assert_eq!(price.is_empty(), on_request == "1", "{sku}");
        let kind = if kind == "selling" { "selling" } else { "buying" };
        let price = (!price.is_empty()).then(|| price.parse::<Decimal>().unwrap().normalize());
        let step = (sku, region, kind, quantity.parse().unwrap());
        assert!(found.insert(step.clone(), price).is_none(), "{step:?} has two prices");
    }
    let wanted: BTreeMap<Step, Option<Decimal>> =
        variants.iter().flat_map(|(sku, (_, variant))| ladder(sku, variant)).collect();
    assert_eq!(found, wanted);

    let sql = format!(
        "SELECT entity, field, url, object_key FROM media_links WHERE entity_type = 'product-variant' AND {live}"
    );
    let mut found = BTreeSet::new();
    for row in rows.ask(&sql) {
        let [entity, field, url, key] = row.try_into().unwrap();
        assert!(world.path("objects").join(&key).is_file(), "{url} is not at {key}");
        found.insert((entity, field, url));
    }
    let mut wanted = BTreeSet::new();
    for (sku, (_, variant)) in &variants {
        let shown = [("primary_image", &variant.primary)].into_iter();
        for (field, image) in shown.chain(variant.gallery.iter().map(|image| ("gallery_images", image))) {
            wanted.insert(((*sku).clone(), field.to_owned(), image.url.clone()));
        }
    }
    assert_eq!(found, wanted);
}

/// First everything, then nothing, then what changed and what vanished.
fn kept_in_step(world: &World, rows: &Rows<'_>) {
    let expected = world.sandbox.expected_promidata();
    let first = sync(world, &[]);
    first.expect(0).calm(&["bad lines", "lines of"]);
    equal(rows, world, &expected);
    assert_eq!(jobs(&first, "products.family"), expected.families.len());
    assert!(rows.number("SELECT count(*) FROM rejected_records") as usize >= expected.rejects.len());

    let before = rows.dump_of("products");
    let requests = world.sandbox.stats().promidata;
    let second = sync(world, &[]);
    second.expect(0);
    assert_eq!((jobs(&second, "products.family"), count(&second, "inserted")), (0, 0));
    // The rows of suppliers take note of the list that all their products are of, unless it has lines that hide some.
    assert!(count(&second, "updated") as usize <= expected.suppliers.len());
    let third = sync(world, &[]);
    assert_eq!((count(&third, "updated"), count(&third, "inserted")), (0, 0));
    let after = world.sandbox.stats().promidata;
    assert_eq!((after.families, after.images), (requests.families, requests.images), "nothing is fetched again");
    assert_eq!(rows.dump_of("products"), before);

    let advanced = world.sandbox.advance();
    let third = sync(world, &[]);
    third.expect(0);
    assert_eq!(jobs(&third, "products.family"), advanced.feed_changed);
    equal(rows, world, &world.sandbox.expected_promidata());
    let removed = rows.number("SELECT count(*) FROM products WHERE removed_at IS NOT NULL");
    assert_eq!(removed as usize, advanced.feed_vanished, "marked, not deleted");
}

#[test]
fn the_products_are_kept_in_step_in_a_file() {
    let world = world(40, dials());
    world.run(&["migrate"]).expect(0);
    kept_in_step(&world, &world.rows());
}

#[test]
fn the_products_are_kept_in_step_in_postgresql() {
    let server = Server::shared();
    let url = server.database();
    let world = world(40, dials()).on(url.clone());
    world.run(&["migrate"]).expect(0);
    kept_in_step(&world, &Rows::on(&server, &url));
}

#[test]
fn the_products_are_kept_in_step_behind_a_pooler() {
    let server = Server::shared();
    let url = server.database();
    let bouncer = PgBouncer::before(&server);
    let name = url.rsplit('/').next().unwrap();
    let world = world(20, dials()).on(bouncer.url(name)).set("store.pooler", "transaction");
    world.run(&["migrate"]).expect(0);
    kept_in_step(&world, &Rows::on(&server, &url));
}

#[test]
fn pictures_go_into_a_bucket_each_once_and_wait_for_one_that_refuses() {
    let bucket = s3::Server::start_r2();
    bucket.refuse(Refusal { verb: "PUT", status: 503, code: "SlowDown", retry_after: Some("1"), times: 2 });
    let world = world(6, Dials::default())
        .set("objects.url", &format!("r2://account/{}/shop", s3::BUCKET))
        .set("objects.endpoint", &bucket.endpoint())
        .set("objects.access_key", s3::ACCESS_KEY)
        .set("objects.secret_key", s3::SECRET_KEY);
    sync(&world, &[]).expect(0);
    let keys = world.rows().texts("SELECT object_key FROM media");
    assert!(!keys.is_empty());
    for key in &keys {
        assert!(bucket.stored(&format!("shop/{key}")).is_some(), "{key}");
    }
    assert_eq!(world.rows().number("SELECT max(attempt) FROM jobs"), 1, "a bucket that is busy burns no attempt");
    let puts = || bucket.lines().iter().filter(|line| line.starts_with("PUT ")).count();
    // The two that were refused come again; two places of one picture may both have put it.
    let put = puts();
    assert!(put >= keys.len() + 2, "{put} of {}", keys.len());
    sync(&world, &["--param", "manual=true"]).expect(0);
    assert_eq!(puts(), put, "what stands is not put again");
}

#[test]
fn categories_are_a_tree() {
    let world = world(1, Dials { csv_other_header: true, ..Dials::default() });
    world.run(&["sync", "products.categories"]).expect(0).calm(&[]);
    let expected = world.sandbox.expected_promidata().categories;
    let found: BTreeMap<String, String> = world
        .rows()
        .ask("SELECT code, parent_code FROM product_categories WHERE removed_at IS NULL")
        .into_iter()
        .map(|row| <[String; 2]>::try_from(row).unwrap().into())
        .collect();
    let wanted = expected.iter().map(|(code, of)| (code.clone(), of.parent.clone().unwrap_or_default()));
    assert_eq!(found, wanted.collect());
}

/// A family that cannot be fetched holds up no other, and images that are none hold up no product; both can be tried
/// again, all of them or by filter, once the provider has mended them.
#[test]
fn what_failed_is_told_and_can_be_tried_again() {
    let dials = Dials { feed_missing: 0.2, image_html: 0.2, ..Dials::default() };
    let world = world(30, dials);
    let expected = world.sandbox.expected_promidata();
    assert!(!expected.missing.is_empty());
    let first = sync(&world, &[]);
    first.expect(1);
    let failed: Vec<Value> =
        first.json()["children"].as_array().unwrap().iter().filter(|job| job["state"] == "failed").cloned().collect();
    let of = |kind: &str| failed.iter().filter(|job| job["kind"] == kind).count();
    assert_eq!(of("products.family"), expected.missing.len());
    assert!(of("products.image") > 0);
    assert_eq!(world.rows().number("SELECT count(*) FROM products") as usize, expected.families.len());
    let supplier = first.json()["job"]["id"].as_i64().unwrap();
    let shown = world.run(&["jobs", "show", &supplier.to_string()]);
    let line = format!("failed {}", failed.len());
    assert!(shown.stdout.contains("families 30/30, images ") && shown.stdout.contains(&line), "{shown}");

    world.sandbox.set_dials(Dials::default());
    let told = world.run(&["jobs", "retry", "--kind", "image", "--json"]);
    told.expect(0);
    assert_eq!(told.json()["retried"], of("products.image") as u64);
    let told = world.run(&["jobs", "retry", "--failed", "--json"]);
    assert_eq!(told.expect(0).json()["retried"], expected.missing.len() as u64);
    // Whoever works next takes them up.
    sync(&world, &["--param", "supplier=A23"]).expect(0);
    let service = world.start(&["run"]);
    let address = service.address();
    crate::support::until("all to have ended", || {
        let open = "SELECT count(*) FROM jobs WHERE state IN ('waiting', 'active', 'delayed')";
        (world.rows().number(open) == 0).then_some(address.clone())
    });
    service.stop();
    assert_eq!(world.rows().number("SELECT count(*) FROM jobs WHERE state = 'failed'"), 0);
    equal(&world.rows(), &world, &world.sandbox.expected_promidata());
}

#[test]
fn a_list_that_is_cut_off_removes_nothing() {
    for dials in [Dials { feed_cut: 1.0, ..Dials::default() }, Dials { feed_short: 1.0, ..Dials::default() }] {
        // An open breaker would wait for the provider to mend the list, which it never does here.
        let world = world(30, Dials::default()).set("domains.products.breaker.failures", "1000");
        sync(&world, &[]).expect(0);
        world.sandbox.set_dials(dials.clone());
        // Whether it fails or says that it was incomplete, nothing is harmed.
        sync(&world, &["--param", "supplier=A23"]);
        let removed = world.rows().number("SELECT count(*) FROM products WHERE removed_at IS NOT NULL");
        assert_eq!(removed, 0, "{dials:?}");
    }
}

#[test]
fn the_profile_is_in_no_file() {
    let world = world(6, Dials::default());
    sync(&world, &[]).expect(0);
    assert_eq!(world.files_with(PROFILE), Vec::<std::path::PathBuf>::new());
}
