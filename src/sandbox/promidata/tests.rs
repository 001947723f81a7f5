//! The feed as a client sees it, over loopback.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use reqwest::{Client, Response, StatusCode};
use rust_decimal::Decimal;
use serde_json::Value;

use super::*;
use crate::sandbox::{Handle, Sandbox, Settings, SlowBody, countries};

fn client() -> Client {
    // A second install is refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().unwrap()
}

fn start(families: u32, dials: Dials) -> Handle {
    Sandbox::start(Settings { families, bundles: 5, dials, ..Settings::default() }).unwrap()
}

async fn get(sandbox: &Handle, path: &str) -> Response {
    client().get(format!("{}/{PROFILE}/{path}", sandbox.promidata_url())).send().await.unwrap()
}

/// The lines of families by URL, good ones only.
fn listed(text: &str) -> BTreeMap<&str, &str> {
    text.lines().skip(1).filter_map(|line| line.split_once('|')).collect()
}

async fn lines(sandbox: &Handle) -> String {
    get(sandbox, "Import/Import.txt").await.text().await.unwrap()
}

/// What images are, by asking for each once.
struct Seen(HashMap<String, Content>);

impl Seen {
    async fn look(&mut self, client: &Client, document: &Value) {
        for url in image_urls(document) {
            if self.0.contains_key(&url) {
                continue;
            }
            let answer = client.get(&url).send().await.unwrap();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            let body = answer.bytes().await.unwrap();
            let content = match kind.as_str() {
                _ if body.is_empty() => Content::Empty,
                "image/png" => Content::Png,
                "image/jpeg" => Content::Jpeg,
                "image/svg+xml" => Content::Svg,
                _ => Content::Html,
            };
            self.0.insert(url, content);
        }
    }

    fn image(&self, image: &Value) -> ExpectedImage {
        let url = image["Url"].as_str().unwrap().to_owned();
        ExpectedImage { content: self.0[&url], url }
    }
}

fn image_urls(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(text) if text.contains("/images/") => BTreeSet::from([text.clone()]),
        Value::Array(list) => list.iter().flat_map(image_urls).collect(),
        Value::Object(map) => map.values().flat_map(image_urls).collect(),
        _ => BTreeSet::new(),
    }
}

/// Reads a document on rules of its own: what is on the wire, not what the generator meant.
fn read(document: &Value, hash: &str, seen: &Seen) -> (ExpectedFamily, Vec<ExpectedReject>) {
    let sku = document["Sku"].as_str().unwrap();
    let (mut variants, mut rejects) = (BTreeMap::new(), Vec::new());
    let details = |of: &Value| of["ProductDetails"].as_object().unwrap().clone();
    for child in document["ChildProducts"].as_array().unwrap() {
        let key = child["Sku"].as_str().filter(|sku| !sku.is_empty());
        let mut prices: BTreeMap<String, ExpectedPrices> = child["ProductPriceCountryBased"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(region, prices)| {
                let tiers = |key: &str| prices[key].as_array().unwrap().iter().map(tier).collect();
                let (selling, buying) = (tiers("RecommendedSellingPrice"), tiers("GeneralBuyingPrice"));
                (region.clone(), ExpectedPrices { selling, buying })
            })
            .collect();
        let negative = prices.values().flat_map(|prices| &prices.selling).any(|tier| tier.price < Decimal::ZERO);
        let reason = match key {
            None => Some(FeedReason::NoSku),
            Some(_) => negative.then_some(FeedReason::NegativePrice),
        };
        let supplier_sku = child["SupplierSku"].as_str().unwrap().to_owned();
        if let Some(reason) = reason {
            let key = key.map(str::to_owned);
            let supplier_sku = supplier_sku.clone();
            rejects.push(ExpectedReject { family: sku.to_owned(), key, supplier_sku, reason });
        }
        let Some(key) = key else { continue };
        for prices in prices.values_mut() {
            prices.selling.retain(|tier| tier.price >= Decimal::ZERO);
        }
        let measures = &child["NonLanguageDependedProductDetails"];
        let first = details(child).values().next().unwrap().clone();
        let gallery = first["MediaGalleryImages"].as_array().into_iter().flatten();
        let filters = measures["ProductFiltersByGroup"].as_object().into_iter().flatten();
        let carton = |key: &str| {
            let number = measures.get(key).map(decimal);
            let text = measures["WebShopInformation"][key].as_str().map(|text| text.replace(',', ".").parse().unwrap());
            assert_eq!(number, text, "{sku}");
            number
        };
        let variant = ExpectedVariant {
            supplier_sku,
            ean: child.get("Ean").and_then(Value::as_str).map(str::to_owned),
            colour: measures["SearchColor"].as_str().unwrap().to_owned(),
            configurations: details(child).iter().map(|(language, of)| (language.clone(), fields(of))).collect(),
            weight: measures["Weight"].as_u64().unwrap() as u32,
            carton_net: carton("OuterCartonWeightNetKG"),
            carton_gross: carton("OuterCartonWeightGrossKG"),
            filters: filters.map(|(name, value)| (name.clone(), value == "True")).collect(),
            prices,
            primary: seen.image(&first["Image"]),
            gallery: gallery.map(|image| seen.image(image)).collect(),
        };
        variants.insert(key.to_owned(), variant);
    }
    let measures = &document["NonLanguageDependedProductDetails"];
    let category = measures["Category"].as_str().unwrap();
    let country = document["ChildProducts"][0]["NonLanguageDependedProductDetails"]["CountryOfOrigin"].as_str();
    let alpha2 = |text: &str| {
        let found = countries::COUNTRIES.iter().find(|country| country.iso == text || country.alpha3 == text);
        found.unwrap().iso.to_owned()
    };
    let date: Vec<&str> = document["UnstructuredInformation"]["ReleaseDate"].as_str().unwrap().split('.').collect();
    let secondary = measures["SecondaryCategories"].as_array().into_iter().flatten();
    let names = details(document);
    let names = names.iter().map(|(language, of)| (language.clone(), of["Name"].as_str().unwrap().to_owned()));
    let family = ExpectedFamily {
        supplier: document["ANumber"].as_str().unwrap().to_owned(),
        hash: hash.to_owned(),
        names: names.collect(),
        category: category.to_owned(),
        category_code: category.rsplit('/').next().unwrap().to_owned(),
        secondary: secondary.map(|path| path.as_str().unwrap().to_owned()).collect(),
        country: country.map(alpha2),
        released: format!("{}-{}-{}", date[2], date[1], date[0]),
        variants,
    };
    (family, rejects)
}

fn decimal(number: &Value) -> Decimal {
    number.as_number().unwrap().to_string().parse::<Decimal>().unwrap().normalize()
}

fn tier(tier: &Value) -> ExpectedTier {
    assert_eq!(tier["Valuta"], "EURO");
    ExpectedTier {
        quantity: tier["Quantity"].as_u64().unwrap() as u32,
        price: decimal(&tier["Price"]),
        on_request: tier["OnRequest"].as_bool().unwrap(),
    }
}

fn fields(details: &Value) -> BTreeMap<String, String> {
    let fields = details["ConfigurationFields"].as_array().unwrap().iter();
    let text = |field: &Value, key: &str| field[key].as_str().unwrap().to_owned();
    fields.map(|field| (text(field, "ConfigurationName"), text(field, "ConfigurationValue"))).collect()
}

#[tokio::test]
async fn expected_is_what_the_documents_say() {
    let dials = Dials { feed_changed: 0.3, feed_vanished: 0.1, image_html: 0.05, image_svg: 0.05, ..Dials::default() };
    // Every supplier's families have been through all traps.
    let sandbox = start(3 * 16, Dials { image_empty: 0.05, ..dials });
    let client = client();
    let mut seen = Seen(HashMap::new());
    for generation in 1..=3 {
        let (mut families, mut rejects) = (BTreeMap::new(), Vec::new());
        let text = lines(&sandbox).await;
        for line in text.lines().skip(1) {
            let (url, hash) = line.split_once('|').unwrap();
            let document: Value = client.get(url).send().await.unwrap().json().await.unwrap();
            seen.look(&client, &document).await;
            let (family, mut rejected) = read(&document, hash, &seen);
            families.insert(document["Sku"].as_str().unwrap().to_owned(), family);
            rejects.append(&mut rejected);
        }
        let expected = sandbox.expected_promidata();
        assert_eq!(expected.generation, generation);
        for (sku, family) in &expected.families {
            assert_eq!(families.get(sku), Some(family), "{sku}");
        }
        assert_eq!(families.len(), expected.families.len());
        assert_eq!(rejects, expected.rejects);
        assert!(rejects.iter().any(|reject| reject.reason == FeedReason::NoSku));
        assert!(rejects.iter().any(|reject| reject.reason == FeedReason::NegativePrice));
        sandbox.advance();
    }
}

#[tokio::test]
async fn the_default_feed_has_its_size_and_every_trap() {
    let sandbox = start(Settings::default().families, Dials::default());
    let expected = sandbox.expected_promidata();
    assert_eq!(expected.suppliers.iter().map(String::as_str).collect::<Vec<_>>(), ["A23", "A24", "A360"]);
    assert_eq!(expected.families.len(), 150);
    assert!((420..=480).contains(&expected.variant_count()), "{}", expected.variant_count());
    assert!((840..=940).contains(&expected.images().len()), "{}", expected.images().len());
    assert!(expected.families.values().any(|family| !family.names.contains_key("en")));
    assert!(expected.families.values().any(|family| !family.names.contains_key("fr")));
    let variants = || expected.families.values().flat_map(|family| &family.variants);
    assert!(variants().any(|(_, variant)| variant.ean.is_none()));
    assert!(variants().any(|(_, variant)| variant.gallery.is_empty()));
    assert!(variants().any(|(_, variant)| variant.prices.len() == 2));
    let prices = || variants().flat_map(|(_, variant)| variant.prices.values());
    assert!(prices().any(|prices| prices.selling.is_empty()) && prices().any(|prices| prices.buying.is_empty()));
    assert!(prices().flat_map(|prices| &prices.selling).any(|tier| tier.price.scale() == 3));
    for family in expected.families.iter().filter(|(_, family)| family.supplier == "A360") {
        assert_eq!(family.1.variants.keys().collect::<Vec<_>>(), [family.0]);
    }
    let skus: BTreeSet<&String> = variants().map(|(sku, _)| sku).collect();
    assert_eq!(skus.len(), variants().count());
}

/// But for its address, and the hashes, since the documents name it.
#[tokio::test]
async fn the_same_seed_serves_the_same_bytes() {
    let [one, two] = [start(12, Dials::default()), start(12, Dials::default())];
    let other = Sandbox::start(Settings { families: 12, bundles: 5, seed: 2, ..Settings::default() }).unwrap();
    let local = |sandbox: &Handle, text: String| text.replace(&sandbox.addr().to_string(), "HOST");
    let text = local(&one, lines(&one).await);
    let urls = |text: &str| listed(text).into_keys().map(str::to_owned).collect::<Vec<_>>();
    let elsewhere = local(&two, lines(&two).await);
    assert_eq!(urls(&text), urls(&elsewhere));
    assert_eq!(text.len(), elsewhere.len());
    assert!(listed(&text).iter().all(|(url, hash)| listed(&elsewhere)[url] != *hash), "a document names its address");
    let mut others = 0;
    for url in listed(&text).keys() {
        let path = url.split_once(PROFILE).unwrap().1.trim_start_matches('/');
        let shown = local(&one, get(&one, path).await.text().await.unwrap());
        assert_eq!(shown, local(&two, get(&two, path).await.text().await.unwrap()));
        others += usize::from(shown != local(&other, get(&other, path).await.text().await.unwrap()));
        assert!(!shown.contains("127.0.0.1"));
    }
    assert!(others > 6, "another seed, other families: {others} of 12");
}

#[tokio::test]
async fn lines_have_the_recorded_form() {
    let sandbox = start(60, Dials::default());
    let text = lines(&sandbox).await;
    let mut all = text.lines();
    assert_eq!(all.next(), Some(format!("{}/{PROFILE}/Import/CAT.csv", sandbox.promidata_url()).as_str()));
    assert!(text.ends_with('\n') && !text.contains('\r'));
    let mut suppliers = Vec::new();
    for line in all {
        let (url, hash) = line.split_once('|').unwrap();
        assert!(hash.len() == 40 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')), "{line}");
        let path = url.strip_prefix(&format!("{}/{PROFILE}/", sandbox.promidata_url())).unwrap();
        let (supplier, file) = path.split_once('/').unwrap();
        assert!(file.starts_with(&format!("{supplier}-")) && file.ends_with(".json"), "{line}");
        suppliers.push(supplier.to_owned());
    }
    assert_eq!(suppliers.len(), 60);
    suppliers.dedup();
    assert!(suppliers.len() > 20, "the order is by supplier");
    sandbox.set_dials(Dials { feed_crlf: true, ..Dials::default() });
    assert_eq!(lines(&sandbox).await, text.replace('\n', "\r\n"));
}

#[tokio::test]
async fn what_is_known_is_not_sent_again() {
    let sandbox = start(20, Dials { feed_changed: 0.25, ..Dials::default() });
    let client = client();
    let text = lines(&sandbox).await;
    let document = listed(&text).keys().next().unwrap().to_string();
    let image = sandbox.expected_promidata().images().first().unwrap().url.clone();
    let base = format!("{}/{PROFILE}", sandbox.promidata_url());
    for url in [format!("{base}/Import/Import.txt"), format!("{base}/Import/CAT.csv"), document, image] {
        let first = client.get(&url).send().await.unwrap();
        let tag = first.headers()["etag"].to_str().unwrap().to_owned();
        assert!(tag.starts_with('"') && first.headers().contains_key("last-modified"), "{url}");
        for (known, status) in [(tag.clone(), 304), (format!("\"other\", W/{tag}"), 304), ("\"other\"".to_owned(), 200)]
        {
            let again = client.get(&url).header("If-None-Match", known).send().await.unwrap();
            assert_eq!(again.status(), status, "{url}");
            assert_eq!(again.headers()["etag"], tag);
            assert_eq!(again.bytes().await.unwrap().is_empty(), status == 304);
        }
    }
    let tag = get(&sandbox, "Import/Import.txt").await.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(sandbox.advance().feed_changed, 5);
    let request = client.get(format!("{base}/Import/Import.txt")).header("If-None-Match", tag);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(sandbox.stats().promidata.lines, 7);
}

#[tokio::test]
async fn a_hash_changes_with_its_document_and_not_without() {
    let sandbox = start(48, Dials { feed_changed: 0.5, ..Dials::default() });
    let client = client();
    let mut before: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut changes = 0;
    for _ in 0..4 {
        let text = lines(&sandbox).await;
        for (url, hash) in listed(&text) {
            let shown = client.get(url).send().await.unwrap().text().await.unwrap();
            if let Some((hash_before, shown_before)) = before.insert(url.to_owned(), (hash.to_owned(), shown.clone())) {
                assert_eq!(hash == hash_before, shown == shown_before, "{url}");
                changes += usize::from(hash != hash_before);
            }
        }
        sandbox.advance();
    }
    assert_eq!(changes, 3 * 24);
}

#[tokio::test]
async fn vanished_families_are_gone_from_the_lines_and_when_fetched() {
    let sandbox = start(40, Dials { feed_vanished: 0.25, ..Dials::default() });
    let before = lines(&sandbox).await;
    assert_eq!(sandbox.advance().feed_vanished, 10);
    let after = lines(&sandbox).await;
    let (before, after) = (listed(&before), listed(&after));
    assert_eq!(after.len(), 30);
    let gone = before.keys().find(|url| !after.contains_key(*url)).unwrap();
    assert_eq!(client().get(*gone).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(sandbox.expected_promidata().families.len(), 30);
}

#[tokio::test]
async fn errors_are_in_the_words_of_the_store_behind() {
    let sandbox = start(3, Dials { error_rate: 1.0, ..Dials::default() });
    let url = |path: &str| format!("{}/{path}", sandbox.promidata_url());
    let ask = async |path: &str| {
        let answer = client().get(url(path)).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/xml");
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, body) = ask("11111111-2222-3333-4444-555555555555/Import/Import.txt").await;
    assert!(status == 403 && body.contains("<Code>AccessDenied</Code>"), "{status} {body}");
    let (status, body) = ask(&format!("{PROFILE}/Import/Import.txt")).await;
    assert!(status == 500 && body.contains("<Code>InternalError</Code>"), "{status} {body}");
    sandbox.set_dials(Dials::default());
    for path in ["A23/A23-1.json", "A24/A23-700000.json", "A23/A23-700000", "Import/", "Import", "CAT.csv"] {
        let (status, body) = ask(&format!("{PROFILE}/{path}")).await;
        assert!(status == 404 && body.contains("<Code>NoSuchKey</Code>"), "{path} {status} {body}");
    }
    assert_eq!(ask(&format!("images/{}.png", "0".repeat(64))).await.0, 404);
    sandbox.set_dials(Dials { limit_per_second: Some(0), ..Dials::default() });
    let answer = get(&sandbox, "Import/CAT.csv").await;
    assert_eq!(
        (answer.status(), &answer.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
}

#[tokio::test]
async fn dial_missing_families_are_listed_and_not_found() {
    let sandbox = start(60, Dials { feed_missing: 0.2, ..Dials::default() });
    let expected = sandbox.expected_promidata();
    assert_eq!(expected.families.len() + expected.missing.len(), 60);
    assert!((4..=24).contains(&expected.missing.len()));
    let text = lines(&sandbox).await;
    for url in listed(&text).keys() {
        let sku = url.rsplit('/').next().unwrap().strip_suffix(".json").unwrap();
        // Twice: it does not come back by asking again.
        for _ in 0..2 {
            let found = client().get(*url).send().await.unwrap().status() == StatusCode::OK;
            assert_eq!(found, expected.families.contains_key(sku), "{sku}");
            assert_ne!(found, expected.missing.contains(sku), "{sku}");
        }
    }
}

#[tokio::test]
async fn dial_cut_and_short_lines_are_told_apart_by_the_transport() {
    let sandbox = start(200, Dials { feed_cut: 1.0, ..Dials::default() });
    let answer = get(&sandbox, "Import/Import.txt").await;
    let announced = answer.content_length().unwrap();
    assert!(answer.bytes().await.is_err());
    assert_eq!(get(&sandbox, "Import/CAT.csv").await.status(), StatusCode::OK);

    sandbox.set_dials(Dials { feed_cut: 1.0, feed_short: 1.0, ..Dials::default() });
    let answer = get(&sandbox, "Import/Import.txt").await;
    let tag = answer.headers()["etag"].clone();
    let half = answer.text().await.unwrap();
    assert!((half.len() as u64) < announced && !half.ends_with('\n'));
    assert!(half.lines().last().unwrap().split_once('|').is_none_or(|(_, hash)| hash.len() < 40));
    sandbox.set_dials(Dials::default());
    let whole = get(&sandbox, "Import/Import.txt").await;
    assert_ne!(whole.headers()["etag"], tag);
    assert!(whole.text().await.unwrap().starts_with(&half));
}

#[tokio::test]
async fn dial_bad_lines_stand_beside_the_good_ones() {
    let sandbox = start(90, Dials { feed_bad_lines: 0.4, ..Dials::default() });
    let expected = sandbox.expected_promidata();
    let text = lines(&sandbox).await;
    assert_eq!(text.lines().count(), 1 + 90 + expected.bad_lines.len());
    let mut rest: Vec<&str> = text.lines().skip(1).collect();
    for bad in &expected.bad_lines {
        let at = rest.iter().rposition(|line| *line == bad.line).unwrap();
        rest.remove(at);
        let own = bad.line.starts_with(&sandbox.promidata_url());
        let is_hashed = bad.line.contains('|');
        let seen = match (own, is_hashed) {
            (true, false) => BadLine::NoHash,
            (true, true) => BadLine::Duplicate,
            (false, _) => BadLine::OtherHost,
        };
        assert_eq!(seen, bad.reason, "{}", bad.line);
        assert_eq!(rest.contains(&bad.line.as_str()), bad.reason == BadLine::Duplicate);
    }
    for reason in [BadLine::NoHash, BadLine::Duplicate, BadLine::OtherHost] {
        assert!(expected.bad_lines.iter().any(|bad| bad.reason == reason), "{reason:?}");
    }
    assert_eq!(rest.len(), 90);
    assert_eq!(rest.iter().collect::<BTreeSet<_>>().len(), 90);
    sandbox.set_dials(Dials::default());
    assert_eq!(lines(&sandbox).await.lines().skip(1).collect::<Vec<_>>(), rest);
}

#[tokio::test]
async fn categories_are_read_back_by_their_header() {
    let sandbox = start(3, Dials::default());
    for other in [false, true] {
        sandbox.set_dials(Dials { csv_other_header: other, ..Dials::default() });
        let answer = get(&sandbox, "Import/CAT.csv").await;
        assert_eq!(answer.headers()["content-type"], "text/csv");
        // Of bytes: text() would take away the byte order mark.
        let text = String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap();
        assert_eq!(text.starts_with('\u{feff}'), other);
        let mut rows = text.trim_start_matches('\u{feff}').lines().map(split);
        let header: Vec<String> = rows.next().unwrap().iter().map(|name| name.to_lowercase()).collect();
        assert_eq!((header.len(), header[0].as_str()), (7, "code"));
        let mut found = BTreeMap::new();
        for row in rows {
            let names = header.iter().zip(&row).skip(1).filter(|(_, name)| !name.is_empty());
            let names: BTreeMap<String, String> = names.map(|(at, name)| (at.clone(), name.clone())).collect();
            assert!(found.insert(row[0].clone(), names).is_none());
        }
        let expected = sandbox.expected_promidata().categories;
        assert_eq!(found.len(), expected.len());
        for (code, category) in expected {
            assert_eq!(found[&code], category.names);
            let above = category.names["en"].rsplit_once('/').map(|(above, _)| above);
            let parent =
                found.iter().find(|(_, names)| Some(names["en"].as_str()) == above).map(|(code, _)| code.clone());
            assert_eq!(parent, category.parent, "{code}");
        }
    }
}

fn split(row: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = row.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => fields.last_mut().unwrap().push(letters.next().unwrap()),
            '"' => quoted = !quoted,
            ';' if !quoted => fields.push(String::new()),
            letter => fields.last_mut().unwrap().push(letter),
        }
    }
    fields
}

#[tokio::test]
async fn images_are_what_their_address_says() {
    let sandbox = start(12, Dials::default());
    let client = client();
    let expected = sandbox.expected_promidata();
    let mut shared: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (sku, family) in &expected.families {
        for image in family.variants.values().flat_map(|variant| variant.gallery.iter().chain([&variant.primary])) {
            shared.entry(&image.url).or_default().insert(sku);
        }
    }
    assert!(shared.values().any(|skus| skus.len() > 1), "no two families share an image");
    for image in expected.images() {
        let answer = client.get(&image.url).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let body = answer.bytes().await.unwrap();
        let (hash, extension) = image.url.rsplit('/').next().unwrap().split_once('.').unwrap();
        assert_eq!(blake3::hash(&body).to_hex().as_str(), hash);
        match image.content {
            Content::Png => {
                assert!(kind == "image/png" && extension == "png" && body.starts_with(b"\x89PNG\r\n\x1a\n"));
                assert_eq!(&body[12..24], b"IHDR\0\0\0\x08\0\0\0\x08");
                assert!(body.ends_with(b"IEND\xae\x42\x60\x82"));
            }
            Content::Jpeg => {
                assert!(kind == "image/jpeg" && extension == "jpg");
                assert!(body.starts_with(b"\xff\xd8\xff\xe0\0\x10JFIF\0") && body.ends_with(b"\xff\xd9"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn dial_images_that_are_none() {
    let sandbox = start(3, Dials::default());
    let client = client();
    let of = |dials: Dials| {
        sandbox.set_dials(dials);
        let image = sandbox.expected_promidata().images().first().unwrap().to_owned().clone();
        let request = client.get(&image.url);
        async move { (request.send().await.unwrap(), image.content) }
    };
    let (answer, content) = of(Dials { image_html: 1.0, ..Dials::default() }).await;
    assert_eq!((answer.status(), content), (StatusCode::OK, Content::Html));
    assert!(answer.text().await.unwrap().starts_with("<html>"));
    let (answer, content) = of(Dials { image_svg: 1.0, ..Dials::default() }).await;
    assert_eq!((&answer.headers()["content-type"], content), (&"image/svg+xml".parse().unwrap(), Content::Svg));
    assert!(answer.text().await.unwrap().contains("<script>"));
    let (answer, content) = of(Dials { image_empty: 1.0, ..Dials::default() }).await;
    assert_eq!((answer.bytes().await.unwrap().len(), content), (0, Content::Empty));

    let (mut answer, content) = of(Dials { image_huge: 1.0, ..Dials::default() }).await;
    assert_eq!((answer.content_length(), content), (Some(IMAGE_HUGE), Content::Huge));
    let mut got = 0;
    while got < 1_000_000 {
        got += answer.chunk().await.unwrap().unwrap().len();
    }
    drop(answer);
    // The client is gone: the rest is not sent to nobody.
    while sandbox.stats().in_flight > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn extra_lines_are_families_too() {
    let settings = Settings { families: 10, feed_lines: 3_000, bundles: 5, ..Settings::default() };
    let sandbox = Sandbox::start(settings).unwrap();
    sandbox.set_dials(Dials { feed_changed: 0.1, ..Dials::default() });
    let answer = get(&sandbox, "Import/Import.txt").await;
    let announced = answer.content_length().unwrap();
    let text = answer.text().await.unwrap();
    assert_eq!((text.len() as u64, text.lines().count()), (announced, 3_011));
    let families = listed(&text);
    assert_eq!(families.len(), 3_010);
    for url in families.keys().filter(|url| url.contains("-X")).step_by(500) {
        let document: Value = client().get(*url).send().await.unwrap().json().await.unwrap();
        assert!(url.ends_with(&format!("/{}.json", document["Sku"].as_str().unwrap())));
        assert_eq!(document["ChildProducts"].as_array().unwrap().len(), 2);
        for image in image_urls(&document) {
            assert_eq!(client().get(image).send().await.unwrap().status(), StatusCode::OK);
        }
    }
    let expected = sandbox.expected_promidata();
    assert_eq!((expected.families.len(), expected.extras, expected.extra_variants), (10, 3_000, 6_000));
    sandbox.advance();
    let next = lines(&sandbox).await;
    let changed = listed(&next).iter().filter(|(url, hash)| families[*url] != **hash).count();
    assert!((200..400).contains(&changed), "{changed}");
    assert!(Sandbox::start(Settings { feed_lines: 1_000_001, ..Settings::default() }).is_err());
}

#[tokio::test]
async fn the_dials_for_all_requests_hold_here_too() {
    let sandbox = start(100, Dials { cut_rate: 1.0, ..Dials::default() });
    for path in ["Import/Import.txt", "Import/CAT.csv"] {
        assert!(get(&sandbox, path).await.bytes().await.is_err(), "{path}");
    }
    let slow = SlowBody { fraction: 1.0, duration: Duration::from_millis(40) };
    sandbox.set_dials(Dials { slow_body: Some(slow), ..Dials::default() });
    assert_eq!(lines(&sandbox).await.lines().count(), 101);
    sandbox.set_dials(Dials { hang_rate: 1.0, ..Dials::default() });
    let url = format!("{}/{PROFILE}/Import/Import.txt", sandbox.promidata_url());
    let hung = tokio::spawn(client().get(url).send());
    while sandbox.stats().faults.hung == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!hung.is_finished());
    hung.abort();
    sandbox.set_dials(Dials { malformed_rate: 1.0, ..Dials::default() });
    for _ in 0..20 {
        let answer = get(&sandbox, "Import/Import.txt").await;
        let is_tagged = answer.headers().contains_key("etag");
        let text = answer.text().await.unwrap();
        assert_ne!(text.starts_with("<html>"), is_tagged);
        assert!(text.starts_with("<html>") || !text.ends_with('\n'), "{text}");
    }
    let faults = sandbox.stats().faults;
    assert_eq!((faults.cut, faults.slow, faults.hung, faults.malformed), (2, 1, 1, 20));
}

#[tokio::test]
async fn control_shows_what_is_expected() {
    let sandbox = start(6, Dials::default());
    let url = format!("http://{}/_sandbox/promidata", sandbox.addr());
    let shown: ExpectedPromidata = client().get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(shown, sandbox.expected_promidata());
}

/// Paths of a document with the kinds of values there; languages, regions and free keys are one each.
fn paths(value: &Value, path: String, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    };
    found.entry(path.clone()).or_default().insert(kind);
    let last = path.rsplit('.').next().unwrap_or_default();
    let free = ["UnstructuredInformation", "WebShopInformation", "ProductFiltersByGroup", "DefaultProducts"];
    let keyed = ["ProductDetails", "ImprintLocationTexts", "ImprintTexts", "Texts", "ProductPriceCountryBased"];
    match value {
        Value::Array(list) => list.iter().for_each(|value| paths(value, format!("{path}[]"), found)),
        Value::Object(map) => {
            for (key, value) in map {
                let any = free.contains(&last) || keyed.contains(&last);
                paths(value, format!("{path}.{}", if any { "*" } else { key }), found);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn documents_have_the_recorded_paths_and_no_others() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/samples/promidata/sample-A23-100804.json");
    let Ok(sample) = std::fs::read_to_string(file) else {
        println!("skipped: no recorded sample at {file}");
        return;
    };
    let mut recorded = BTreeMap::new();
    paths(&serde_json::from_str(&sample).unwrap(), String::new(), &mut recorded);
    assert!(recorded.len() > 100);

    let sandbox = start(48, Dials::default());
    let text = lines(&sandbox).await;
    let mut ours = BTreeMap::new();
    for url in listed(&text).keys().filter(|url| url.contains("/A23/")) {
        let document: Value = client().get(*url).send().await.unwrap().json().await.unwrap();
        paths(&document, String::new(), &mut ours);
    }
    for (path, kinds) in &recorded {
        let own = ours.get(path).unwrap_or_else(|| panic!("{path} is nowhere"));
        assert!(kinds.is_subset(own), "{path}: {own:?}, recorded {kinds:?}");
    }
    // Known from the list of fields over four suppliers, and empty in the sample.
    let known = [".NonLanguageDependedProductDetails.SecondaryCategories[]"];
    let new: Vec<&String> = ours.keys().filter(|path| !recorded.contains_key(*path)).collect();
    assert_eq!(new, known);
}
