//! Promidata's products, from a feed on loopback to rows and files: `longshore sync products`, as people run it.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::support::{Ended, World, until};

/// The secret of every address: no row, file, log or output may hold it.
const PROFILE: &str = "849c892e-recognisable-profile";
const LIST: &str = "Import/Import.txt";

/// One of a file's answers.
#[derive(Clone)]
struct Served {
    status: &'static str,
    body: Vec<u8>,
    /// Of a body that is longer than what is sent.
    announced: Option<usize>,
    etag: Option<String>,
}

#[derive(Default)]
struct Shelf {
    /// By path below the profile, or the whole path of an image.
    files: HashMap<String, Served>,
    asked: Vec<String>,
}

/// A feed on loopback: what lies on its shelf, and what was asked of it.
struct Feed {
    address: String,
    shelf: Arc<Mutex<Shelf>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (shelf, stop) = (Arc::new(Mutex::new(Shelf::default())), Arc::new(AtomicBool::new(false)));
        let (files, stopped) = (shelf.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let files = files.clone();
                std::thread::spawn(move || {
                    // A client that goes away is its own affair.
                    let _ = serve(stream.unwrap(), &files);
                });
            }
        });
        Self { address, shelf, stop, thread: Some(thread) }
    }

    /// The address of a file below the profile.
    fn url(&self, path: &str) -> String {
        format!("http://{}/Profiles/Live/{PROFILE}/{path}", self.address)
    }

    fn image_url(&self, name: &str) -> String {
        if name.starts_with("http") {
            return name.to_owned();
        }
        format!("http://{}/Images/LiveR2/{name}", self.address)
    }

    fn put(&self, path: &str, body: impl Into<Vec<u8>>) {
        let served = Served { status: "200 OK", body: body.into(), announced: None, etag: None };
        self.shelf.lock().unwrap().files.insert(self.key(path), served);
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Served)) {
        change(self.shelf.lock().unwrap().files.get_mut(&self.key(path)).unwrap());
    }

    fn take(&self, path: &str) {
        self.shelf.lock().unwrap().files.remove(&self.key(path)).unwrap();
    }

    fn key(&self, path: &str) -> String {
        match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/Profiles/Live/{PROFILE}/{path}"),
        }
    }

    /// Paths that were asked for since the last time, each once.
    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut self.shelf.lock().unwrap().asked);
        // The health probe of each start asks for the list too.
        asked.sort();
        asked.dedup();
        asked.into_iter().map(|path| path.replace(&format!("/Profiles/Live/{PROFILE}/"), "")).collect()
    }

    /// Puts a list of these families, with the hash of each document.
    fn list(&self, families: &[&str]) {
        let mut text = format!("{}\r\n", self.url("Import/CAT.csv"));
        for family in families {
            let path = path_of(family);
            let served = self.shelf.lock().unwrap().files.get(&self.key(&path)).cloned();
            let hash =
                blake3::hash(&served.map(|served| served.body).unwrap_or_default()).to_hex()[..40].to_uppercase();
            text += &format!("{}|{hash}\r\n", self.url(&path));
        }
        self.put(LIST, text);
    }

    /// Puts a family with one variant for each suffix, each with the images that are named.
    fn family(&self, sku: &str, variants: &[&str], images: &[&str]) {
        let code = sku.split('-').next().unwrap();
        let language = |name: String| {
            let mut images = images.iter().map(|image| json!({ "Url": self.image_url(image), "FileName": image }));
            json!({ "Name": name, "IsActive": true, "Image": images.next(), "MediaGalleryImages": images.collect::<Value>() })
        };
        let price = json!({ "Price": 8.75, "Quantity": 1, "OnRequest": false, "Valuta": "EURO" });
        let prices = json!({ "BENELUX": { "RecommendedSellingPrice": [price], "GeneralBuyingPrice": [] } });
        let child = |suffix: &&str| {
            let sku = if suffix.is_empty() { sku.to_owned() } else { format!("{sku}-{suffix}") };
            json!({
                "Sku": sku, "ANumber": code, "ProductPriceCountryBased": prices,
                "ProductDetails": { "de": language(format!("Variante {sku}")), "nl": language(format!("Variant {sku}")) },
            })
        };
        let document = json!({
            "Sku": sku, "ANumber": code, "ProductPriceCountryBased": prices, "Echo": self.url("x"),
            "ProductDetails": { "de": language(format!("Artikel {sku}")) },
            "ChildProducts": variants.iter().map(child).collect::<Value>(),
        });
        self.put(&path_of(sku), document.to_string());
    }

    fn image(&self, name: &str, body: impl Into<Vec<u8>>) {
        self.put(&format!("/Images/LiveR2/{name}"), body);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn path_of(sku: &str) -> String {
    format!("{}/{sku}.json", sku.split('-').next().unwrap())
}

fn serve(mut stream: TcpStream, shelf: &Mutex<Shelf>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let line = lines.next().unwrap_or(Ok(String::new()))?;
    let mut known = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(etag) = line.to_ascii_lowercase().strip_prefix("if-none-match: ") {
            known = Some(etag.to_owned());
        }
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let served = {
        let mut shelf = shelf.lock().unwrap();
        shelf.asked.push(path.clone());
        shelf.files.get(&path).cloned()
    };
    let Some(Served { status, body, announced, etag }) = served else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    if etag.is_some() && etag == known {
        return write!(stream, "HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n");
    }
    let etag = etag.map(|etag| format!("etag: {etag}\r\n")).unwrap_or_default();
    let length = announced.unwrap_or(body.len());
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{etag}connection: close\r\n\r\n")?;
    stream.write_all(&body)
}

/// A picture of these many pixels, which no two names share.
fn png(name: &str) -> Vec<u8> {
    let head = *b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x20\x08\x02\0\0\0";
    [&head[..], name.as_bytes()].concat()
}

/// A world whose products come from this feed, without long waits.
fn world(feed: &Feed) -> World {
    let mut world = World::new(0)
        .set("domains.products.enabled", "true")
        .set("domains.products.base_url", &format!("http://{}/Profiles/Live", feed.address))
        .set("domains.products.profile", PROFILE)
        .set("domains.products.rate_per_second", "1000")
        .set("domains.products.breaker.open_for", "100ms")
        .set("domains.products.breaker.open_max", "400ms")
        .set("upkeep.every", "200ms");
    for kind in ["supplier", "family", "image", "categories"] {
        world = world.set(&format!("domains.products.jobs.{kind}.backoff"), "fixed 50ms");
    }
    world
}

/// A sync of A23, which tells the profile nowhere.
fn sync(world: &World, more: &[&str]) -> Ended {
    let ended = world.run(&[&["sync", "products", "--json", "--param", "supplier=A23"], more].concat());
    clean(world, &ended);
    ended
}

#[track_caller]
fn clean(world: &World, ended: &Ended) {
    assert!(!ended.to_string().contains(PROFILE), "the profile is told: {ended}");
    assert_eq!(world.files_with(PROFILE), Vec::<PathBuf>::new(), "no file holds the profile");
}

fn message(ended: &Ended) -> String {
    ended.json()["job"]["message"].as_str().unwrap_or_default().to_owned()
}

fn live(world: &World, table: &str) -> i64 {
    world.rows().number(&format!("SELECT count(*) FROM {table} WHERE removed_at IS NULL"))
}

fn skus(world: &World) -> Vec<String> {
    world.rows().texts("SELECT sku FROM products WHERE removed_at IS NULL ORDER BY sku")
}

fn failed(world: &World, kind: &str) -> Vec<String> {
    world
        .rows()
        .texts(&format!("SELECT message FROM jobs WHERE state = 'failed' AND kind = 'products.{kind}' ORDER BY id"))
}

#[test]
fn a_sync_stores_families_variants_and_images_and_the_next_one_only_what_changed() {
    let feed = Feed::start();
    for name in ["a", "b", "c"] {
        feed.image(name, png(name));
    }
    // The same picture under another address is one file.
    feed.image("d", png("a"));
    feed.family("A23-1", &["10", "20"], &["a", "b"]);
    feed.family("A23-2_x.y", &[""], &["c", "d"]);
    feed.family("A24-9", &["1"], &[]);
    feed.list(&["A23-1", "A24-9", "A23-2_x.y"]);
    let world = world(&feed);

    let first = sync(&world, &[]);
    first.expect(0).calm(&[]);
    assert_eq!(skus(&world), ["A23-1", "A23-2_x.y"], "and nothing of another supplier");
    assert_eq!(
        world.rows().texts("SELECT sku || ' ' || product_sku FROM product_variants ORDER BY sku"),
        ["A23-1-10 A23-1", "A23-1-20 A23-1", "A23-2_x.y A23-2_x.y"]
    );
    // German for the families, German and Dutch for the variants; a language that is missing is no row.
    assert_eq!(world.rows().number("SELECT count(*) FROM product_texts"), 2 + 3 * 2);
    assert_eq!(world.rows().texts("SELECT DISTINCT price || ' ' || currency FROM product_prices"), ["8.75 EUR"]);
    assert_eq!(live(&world, "media_links"), 5 * 2, "a primary image and a gallery of one in each of five places");
    assert_eq!((live(&world, "media"), world.rows().number("SELECT count(DISTINCT object_key) FROM media")), (4, 3));
    assert_eq!(
        world.rows().texts("SELECT DISTINCT width || 'x' || height || ' ' || content_type FROM media"),
        ["16x32 image/png"]
    );
    for key in world.rows().texts("SELECT object_key FROM media") {
        assert!(world.path("objects").join(&key).is_file(), "{key}");
    }
    assert!(world.rows().texts("SELECT raw FROM products").iter().all(|raw| raw.contains("/{profile}/x")));
    feed.asked();

    // Nothing changed, so nothing but the list is read; then its version is kept, and it is not even sent again.
    feed.change(LIST, |list| list.etag = Some("\"one\"".into()));
    let rows = world.rows().texts("SELECT sku || changed_at FROM products");
    sync(&world, &[]).expect(0).calm(&[]);
    assert_eq!(feed.asked(), [LIST]);
    let unchanged = sync(&world, &[]);
    unchanged.expect(0).calm(&[]);
    assert_eq!(
        (feed.asked().as_slice(), &unchanged.json()["job"]["counts"]["received"]),
        (&[LIST.to_owned()][..], &json!(0))
    );
    assert_eq!(world.rows().texts("SELECT sku || changed_at FROM products"), rows);
    // An operator's word asks for all of them: Promidata sometimes changes a product under the same hash.
    let manual = sync(&world, &["--param", "manual=true"]);
    manual.expect(0).calm(&[]);
    assert_eq!(feed.asked(), ["A23/A23-1.json", "A23/A23-2_x.y.json", LIST]);
    assert_eq!(world.rows().texts("SELECT sku || changed_at FROM products"), rows, "what is the same is not written");

    // A variant and a place fewer, a picture more.
    feed.family("A23-1", &["10"], &["c"]);
    feed.list(&["A23-2_x.y", "A23-1"]);
    sync(&world, &[]).expect(0).calm(&[]);
    assert_eq!(feed.asked(), ["A23/A23-1.json", LIST], "the picture is known by its address");
    assert_eq!((live(&world, "product_variants"), live(&world, "media_links")), (2, 2 + 4));
    let urls = "SELECT url FROM media_links WHERE removed_at IS NULL AND entity LIKE 'A23-1%' ORDER BY slot";
    assert!(world.rows().texts(urls).iter().all(|url| url.ends_with("/c")));
}

#[test]
fn what_vanished_goes_with_its_variants_but_never_for_a_list_that_is_not_whole() {
    let feed = Feed::start();
    feed.image("a", png("a"));
    for sku in ["A23-1", "A23-2", "A23-3"] {
        feed.family(sku, &["1"], &["a"]);
    }
    feed.list(&["A23-1", "A23-2", "A23-3"]);
    let world = world(&feed);
    sync(&world, &[]).expect(0);

    let line = format!("{}|{}", feed.url("A23/A23-1.json"), "0".repeat(40));
    for (what, list, says) in [
        ("cut in its last line", format!("{line}\n{}", &line[..line.len() - 9]), "breaks off in its last line"),
        ("cut in the line of another", format!("{line}\nhttps://elsewhere/A99/A99-1.js"), "breaks off"),
        ("with a line that nobody can read", format!("{line}\nwhat is this\n"), "could not be read"),
        ("with a line without its hash", format!("{line}\n{}\n", feed.url("A23/A23-9.json")), "malformed"),
    ] {
        feed.put(LIST, list);
        let ended = sync(&world, &[]);
        ended.expect(0).calm(&[says]);
        let told = message(&ended);
        assert!(
            told.contains(says) && told.contains("nothing was removed: the snapshot is incomplete"),
            "{what}: {told}"
        );
        assert_eq!(skus(&world).len(), 3, "{what}");
    }
    feed.put(LIST, format!("{line}\n").replace("A23/A23", "A24/A24"));
    let ended = sync(&world, &[]);
    ended.expect(0).calm(&["the list has no family of A23"]);
    assert_eq!(skus(&world).len(), 3, "a list without the supplier");
    // Cut off on the way: the length says so.
    feed.change(LIST, |list| list.announced = Some(10_000));
    sync(&world, &[]).expect(1);
    assert!(failed(&world, "supplier")[0].contains("the answer was cut off"), "{:?}", failed(&world, "supplier"));
    feed.put(LIST, "<html>Down for maintenance</html>");
    sync(&world, &[]).expect(1);
    assert_eq!(skus(&world).len(), 3);

    feed.list(&["A23-1", "A23-3"]);
    let ended = sync(&world, &[]);
    ended.expect(0).calm(&[]);
    assert_eq!(skus(&world), ["A23-1", "A23-3"]);
    assert_eq!((live(&world, "product_variants"), live(&world, "media_links")), (2, 4));
    assert_eq!(ended.json()["job"]["counts"]["removed"], 2, "the family and its variant");
    // And it comes back.
    feed.list(&["A23-1", "A23-2", "A23-3"]);
    sync(&world, &[]).expect(0);
    assert_eq!((skus(&world).len(), live(&world, "product_variants"), live(&world, "media_links")), (3, 3, 6));
}

/// Invariant 8.
#[test]
fn a_removal_beyond_the_guard_needs_an_operators_word_and_holds_up_no_change() {
    let feed = Feed::start();
    for sku in ["A23-1", "A23-2", "A23-3", "A23-4"] {
        feed.family(sku, &["1"], &[]);
    }
    feed.list(&["A23-1", "A23-2", "A23-3", "A23-4"]);
    let world = world(&feed).set("domains.products.removal_guard", "{ ratio = 0.2, rows = 0 }");
    sync(&world, &[]).expect(0);
    feed.family("A23-1", &["1", "2"], &[]);
    feed.list(&["A23-1", "A23-2"]);
    feed.change(LIST, |list| list.etag = Some("\"short\"".into()));
    for _ in 0..3 {
        // After the first time nothing changes any more, and still the list is read: its removal is not done.
        let refused = sync(&world, &[]);
        refused.expect(1);
        assert!(
            message(&refused).contains("2 of 4 rows of products") && message(&refused).contains("allow_removal"),
            "{refused}"
        );
        assert_eq!(skus(&world).len(), 4);
    }
    // The change was asked for before the removal was refused, and is done by whichever program came to it.
    assert_eq!(live(&world, "product_variants"), 5);
    sync(&world, &["--param", "allow_removal=true"]).expect(0).calm(&[]);
    assert_eq!((skus(&world), live(&world, "product_variants")), (vec!["A23-1".to_owned(), "A23-2".into()], 3));
}

#[test]
fn a_failing_family_holds_up_no_other_and_a_failing_image_not_its_product() {
    let feed = Feed::start();
    let script = "<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>";
    feed.image("good", png("good"));
    feed.image("html", "<!DOCTYPE html><html><body>Not found</body></html>");
    feed.image("empty", "");
    feed.image("drawing", script);
    feed.image("huge", png("huge"));
    feed.change("/Images/LiveR2/huge", |image| image.announced = Some(500_000_000));
    feed.family("A23-1", &["1"], &["good", "html", "empty", "drawing", "huge", "missing", "https://10.0.0.1/x.png"]);
    feed.family("A23-2", &["1"], &[]);
    feed.family("A23-3", &["1"], &["good"]);
    feed.family("A23-4", &["1"], &[]);
    feed.put("A23/A23-5.json", "{\"Sku\":\"A23-5\",\"ANumber\":");
    feed.put("A23/A23-6.json", json!({ "Sku": "A23-6", "ANumber": "A66", "ChildProducts": [] }).to_string());
    feed.list(&["A23-1", "A23-2", "A23-3", "A23-4", "A23-5", "A23-6"]);
    feed.take("A23/A23-2.json");
    feed.change("A23/A23-4.json", |document| document.status = "503 Service Unavailable");
    let stray = format!("http://169.254.169.254/{PROFILE}/A23/A23-7.json|{}\r\n", "7".repeat(40));
    feed.change(LIST, |list| list.body.extend_from_slice(stray.as_bytes()));
    let world = world(&feed).set("domains.products.breaker.failures", "1000");

    let ended = sync(&world, &[]);
    assert_eq!(ended.json()["job"]["state"], "completed", "the supplier itself is done: {ended}");
    assert_eq!(skus(&world), ["A23-1", "A23-3"]);
    let told = failed(&world, "family");
    for says in ["the document of A23-2 is gone", "503 Service Unavailable", "the document of A23-5 is no whole JSON"] {
        assert!(told.iter().any(|told| told.contains(says)), "{says} in {told:?}");
    }
    assert_eq!(told.len(), 3);
    let rejects = world.rows().texts("SELECT key || ': ' || reason || ' ' || raw FROM rejected_records ORDER BY key");
    assert_eq!(rejects.len(), 2, "{rejects:?}");
    assert!(rejects[0].starts_with("A23-6: the supplier (ANumber) is \"A66\""), "{rejects:?}");
    assert!(rejects[1].starts_with("A23-7: the host 169.254.169.254 is not on the list"), "{rejects:?}");

    let told = failed(&world, "image");
    for says in [
        "a page of HTML",
        "(0 bytes)",
        "a body of 500000000 bytes, over the cap",
        "the image is gone",
        "10.0.0.1 is not on",
    ] {
        assert_eq!(
            told.iter().filter(|told| told.contains(says)).count(),
            2,
            "{says}, of family and variant, in {told:?}"
        );
    }
    assert_eq!(told.len(), 10);
    assert_eq!(live(&world, "media_links"), 2 * 2 + 2);
    let svg = "SELECT content_type || ' ' || attachment FROM media WHERE url LIKE '%drawing'";
    assert_eq!(world.rows().texts(svg), ["image/svg+xml 1"], "kept, and never to be shown inline");
    let key = world.rows().texts("SELECT object_key FROM media WHERE url LIKE '%drawing'").remove(0);
    assert_eq!(std::fs::read_to_string(world.path("objects").join(&key)).unwrap(), script);

    // The next sync asks again for what is not there, and for nothing else.
    feed.asked();
    feed.family("A23-2", &["1"], &[]);
    feed.change("A23/A23-4.json", |document| document.status = "200 OK");
    sync(&world, &[]);
    assert_eq!(skus(&world), ["A23-1", "A23-2", "A23-3", "A23-4"]);
    let asked = feed.asked();
    assert!(
        !asked.contains(&"A23/A23-1.json".to_owned()) && !asked.contains(&"A23/A23-3.json".to_owned()),
        "{asked:?}"
    );
}

#[test]
fn all_suppliers_of_the_list_are_synced_but_those_that_are_left_out() {
    let feed = Feed::start();
    for sku in ["A23-1", "A24-1", "A24-2", "A461-1"] {
        feed.family(sku, &["1"], &[]);
    }
    feed.list(&["A23-1", "A24-1", "A24-2", "A461-1"]);
    let world = world(&feed).set("domains.products.suppliers_skip", "A461");
    for args in [&["sync", "products", "--json"][..], &["sync", "products.supplier", "--json", "--param", "supplier=*"]]
    {
        let ended = world.run(args);
        ended.expect(0).calm(&[]);
        clean(&world, &ended);
        assert_eq!(skus(&world), ["A23-1", "A24-1", "A24-2"]);
        let suppliers =
            world.rows().texts("SELECT code || ' ' || active || ' ' || families FROM suppliers ORDER BY code");
        assert_eq!(suppliers, ["A23 1 1", "A24 1 2", "A461 0 1"]);
    }
    let synced: BTreeMap<String, i64> = world
        .rows()
        .texts("SELECT entity FROM sync_state WHERE provider = 'promidata' AND last_success_at IS NOT NULL")
        .into_iter()
        .map(|entity| (entity, 1))
        .collect();
    assert_eq!(synced.into_keys().collect::<Vec<_>>(), ["supplier:A23", "supplier:A24", "suppliers"]);
    // One whose families are all gone is told, and nothing of it is removed.
    feed.list(&["A23-1", "A461-1"]);
    let ended = world.run(&["sync", "products", "--json"]);
    ended.expect(0).calm(&["the list names no family of A24"]);
    assert_eq!(skus(&world).len(), 3);
    for params in ["supplier=23", "supplier=../A23", "suplier=A23"] {
        world.run(&["sync", "products", "--param", params]).expect(1);
    }
}

#[test]
fn categories_become_a_tree() {
    let feed = Feed::start();
    feed.list(&[]);
    let header = "code;da;de;en;fr;it;nl\r\n";
    let rows = "BAGS;Tasker;Taschen;Bags;Sacs;Borse;Tassen\r\n\"BACKPACKS\";;Taschen/Rucksäcke;;;;\r\n;;;x;;;\r\n";
    feed.put("Import/CAT.csv", format!("{header}{rows}"));
    let world = world(&feed);
    let synced = world.run(&["sync", "products.categories", "--json"]);
    synced.expect(0).calm(&[]);
    clean(&world, &synced);
    let tree = "SELECT code || ' ' || coalesce(parent_code, '-') || ' ' || path FROM product_categories
                WHERE removed_at IS NULL ORDER BY path";
    assert_eq!(world.rows().texts(tree), ["BAGS - BAGS", "BACKPACKS BAGS BAGS/BACKPACKS"]);
    assert_eq!(world.rows().texts("SELECT reason FROM rejected_records"), ["no code"]);
    let mut asked = feed.asked();
    // By the health probe, if it came to that.
    asked.retain(|path| path != LIST);
    assert_eq!(asked, ["Import/CAT.csv"]);
    feed.put("Import/CAT.csv", format!("{header}BAGS;Tasker;Taschen;Bags;Sacs;Borse;Tassen\r\n"));
    world.run(&["sync", "products.categories"]).expect(0).calm(&[]);
    assert_eq!(world.rows().texts(tree), ["BAGS - BAGS"]);
    feed.take("Import/CAT.csv");
    let gone = world.run(&["sync", "products.categories", "--json"]);
    gone.expect(1);
    assert!(message(&gone).contains("the file of the categories is gone"), "{gone}");
    assert_eq!(world.rows().texts(tree), ["BAGS - BAGS"]);
}

#[test]
fn a_dry_run_tells_the_changes_and_writes_nothing() {
    let feed = Feed::start();
    feed.image("a", png("a"));
    feed.family("A23-1", &["1", "2"], &["a"]);
    feed.list(&["A23-1"]);
    let world = world(&feed);
    let tried = sync(&world, &["--dry-run"]);
    tried.expect(0).calm(&[]);
    assert_eq!(tried.json()["job"]["counts"]["inserted"], 1 + 1 + 2, "a supplier, a family, its variants: {tried}");
    assert!(!world.path("longshore.db").exists() && !world.path("objects").exists());

    sync(&world, &[]).expect(0);
    feed.family("A23-1", &["2", "3"], &["a"]);
    feed.list(&["A23-1"]);
    let tried = sync(&world, &["--dry-run"]);
    tried.expect(0).calm(&[]);
    assert_eq!(live(&world, "product_variants"), 2, "nothing is written");
    let done = sync(&world, &[]);
    let counts = |ended: &Ended| {
        let counts = &ended.json()["job"]["counts"];
        ["inserted", "updated", "unchanged", "removed"].map(|name| counts[name].as_u64().unwrap())
    };
    assert_eq!(counts(&tried), counts(&done), "the dry run told the truth");
    assert_eq!(counts(&done)[3], 1, "a variant is gone: {done}");
}

/// Invariant 1.
#[test]
fn a_sync_that_is_killed_goes_on_where_it_was() {
    let feed = Feed::start();
    let skus: Vec<String> = (1..=40).map(|n| format!("A23-{n}")).collect();
    for sku in &skus {
        feed.image(sku, png(sku));
        feed.family(sku, &["1"], &[sku]);
    }
    feed.list(&skus.iter().map(String::as_str).collect::<Vec<_>>());
    let world = world(&feed);
    let program = world.start(&["sync", "products", "--param", "supplier=A23"]);
    until("a dozen requests", || (feed.shelf.lock().unwrap().asked.len() > 12).then_some(()));
    program.kill();
    sync(&world, &[]).expect(0);
    assert_eq!((live(&world, "products"), live(&world, "product_variants")), (40, 40));
    assert_eq!((live(&world, "media_links"), live(&world, "media")), (80, 40));
    for key in world.rows().texts("SELECT object_key FROM media") {
        assert!(std::fs::read(world.path("objects").join(&key)).unwrap().starts_with(b"\x89PNG"), "{key}");
    }
}

/// Invariant 10.
#[test]
fn the_profile_is_told_nowhere_not_even_when_all_is_logged() {
    let feed = Feed::start();
    feed.image("a", png("a"));
    feed.family("A23-1", &["1"], &["a", &format!("{PROFILE}/gone")]);
    feed.family("A23-2", &["1"], &[]);
    feed.list(&["A23-1", "A23-2", "A23-3"]);
    feed.change("A23/A23-2.json", |document| {
        document.status = "500 Internal Server Error";
        document.body = format!("no access to {PROFILE}").into_bytes();
    });
    let world = world(&feed).set("log.level", "trace");
    let ended = sync(&world, &[]);
    assert!(ended.records().iter().any(|record| record["level"] == "DEBUG"), "it logs all");
    assert!(feed.asked().iter().any(|path| path == "A23/A23-1.json"), "it was sent, so it could have leaked");
    assert!(!world.files_with("{profile}").is_empty(), "the search finds what stands in its place");
    for args in [&["check", "--json"][..], &["config", "show"], &["jobs", "list", "--json"]] {
        clean(&world, &world.run(args));
    }
    let shown = world.run(&["check", "--json"]);
    assert!(shown.stdout.contains("upstream promidata"), "{shown}");
    feed.take(LIST);
    let refused = sync(&world, &[]);
    refused.expect(1);
    assert!(message(&refused).contains("check domains.products.profile"), "{refused}");
}

fn doc(feed: &Feed, sku: &str, children: Value) {
    feed.put(
        &path_of(sku),
        json!({ "Sku": sku, "ANumber": "A23", "ProductDetails": {}, "ChildProducts": children }).to_string(),
    );
}

fn child_doc(feed: &Feed, sku: &str, image: &str) -> Value {
    json!({ "Sku": sku, "ANumber": "A23", "ProductDetails": { "en": { "Name": "x", "Image": { "Url": feed.image_url(image) } } } })
}

#[test]
fn a_variant_without_a_sku_removes_nobody() {
    let feed = Feed::start();
    feed.image("a", png("a"));
    doc(&feed, "A23-1", json!([child_doc(&feed, "A23-1-10", "a"), child_doc(&feed, "A23-1-20", "a")]));
    feed.list(&["A23-1"]);
    let world = world(&feed);
    sync(&world, &[]).expect(0);
    let mut odd = child_doc(&feed, "A23-1-20", "a");
    odd["Sku"] = json!({ "Value": "A23-1-20" });
    doc(&feed, "A23-1", json!([child_doc(&feed, "A23-1-10", "a"), odd]));
    feed.list(&["A23-1"]);
    sync(&world, &[]);
    assert_eq!((live(&world, "product_variants"), live(&world, "media_links")), (2, 2));
}

#[test]
fn a_variant_that_does_not_fit_keeps_its_row_and_its_pictures() {
    let feed = Feed::start();
    feed.image("a", png("a"));
    doc(&feed, "A23-1", json!([child_doc(&feed, "A23-1-10", "a"), child_doc(&feed, "A23-1-20", "a")]));
    feed.list(&["A23-1"]);
    let world = world(&feed);
    sync(&world, &[]).expect(0);
    let mut odd = child_doc(&feed, "A23-1-20", "a");
    odd["NonLanguageDependedProductDetails"] = json!("nothing");
    doc(&feed, "A23-1", json!([child_doc(&feed, "A23-1-10", "a"), odd]));
    feed.list(&["A23-1"]);
    sync(&world, &[]);
    assert_eq!((live(&world, "product_variants"), live(&world, "media_links")), (2, 2));
}

#[test]
fn a_language_nobody_can_read_keeps_the_pictures() {
    let feed = Feed::start();
    feed.image("a", png("a"));
    doc(&feed, "A23-1", json!([child_doc(&feed, "A23-1-10", "a")]));
    feed.list(&["A23-1"]);
    let world = world(&feed);
    sync(&world, &[]).expect(0);
    let mut odd = child_doc(&feed, "A23-1-10", "a");
    odd["ProductDetails"]["en"]["Image"] = json!("not an object");
    doc(&feed, "A23-1", json!([odd]));
    feed.list(&["A23-1"]);
    sync(&world, &[]);
    let told = world.rows().texts("SELECT reason FROM rejected_records").concat();
    assert!(told.contains("nobody can read them"), "{told}");
    assert_eq!((live(&world, "product_variants"), live(&world, "media_links")), (1, 1));
}

#[test]
fn a_variant_that_moves_keeps_its_pictures() {
    let feed = Feed::start();
    feed.image("a", png("a"));
    // The family that takes it in is worked on first: it stands first in the order of SKUs.
    doc(&feed, "A23-1", json!([]));
    doc(&feed, "A23-2", json!([child_doc(&feed, "A23-V", "a")]));
    feed.list(&["A23-1", "A23-2"]);
    let world = world(&feed).set("domains.products.jobs.family.concurrency", "1");
    sync(&world, &[]).expect(0);
    assert_eq!(live(&world, "media_links"), 1);
    doc(&feed, "A23-1", json!([child_doc(&feed, "A23-V", "a")]));
    doc(&feed, "A23-2", json!([]));
    feed.list(&["A23-1", "A23-2"]);
    sync(&world, &[]).expect(0);
    sync(&world, &[]).expect(0);
    assert_eq!(world.rows().texts("SELECT product_sku FROM product_variants WHERE removed_at IS NULL"), ["A23-1"]);
    assert_eq!(live(&world, "media_links"), 1);
}

#[test]
fn a_late_retry_does_not_overwrite_a_newer_picture() {
    let feed = Feed::start();
    feed.image("new", png("new"));
    doc(&feed, "A23-1", json!([child_doc(&feed, "A23-1-10", "old")]));
    feed.list(&["A23-1"]);
    let world = world(&feed);
    sync(&world, &[]);
    assert_eq!(failed(&world, "image").len(), 1);
    doc(&feed, "A23-1", json!([child_doc(&feed, "A23-1-10", "new")]));
    feed.list(&["A23-1"]);
    sync(&world, &[]).expect(0);
    let shown = || world.rows().texts("SELECT url FROM media_links WHERE removed_at IS NULL").remove(0);
    assert!(shown().ends_with("/new"));
    feed.image("old", png("old"));
    world.run(&["jobs", "retry", "--failed"]).expect(0);
    let service = world.start(&["run"]);
    until("all ended", || {
        (world.rows().number("SELECT count(*) FROM jobs WHERE state IN ('waiting','active','delayed','failed')") == 0)
            .then_some(())
    });
    service.stop();
    assert!(shown().ends_with("/new"), "{}", shown());
}

#[test]
fn a_picture_that_failed_comes_with_a_retry() {
    let feed = Feed::start();
    doc(&feed, "A23-1", json!([child_doc(&feed, "A23-1-10", "late")]));
    feed.list(&["A23-1"]);
    let world = world(&feed);
    sync(&world, &[]);
    feed.image("late", png("late"));
    sync(&world, &[]).expect(0);
    assert_eq!(live(&world, "media_links"), 0, "its family has not changed");
    world.run(&["jobs", "retry", "--failed", "--kind", "products.image"]).expect(0);
    let service = world.start(&["run"]);
    until("the picture stands", || (live(&world, "media_links") == 1).then_some(()));
    service.stop();
}

#[test]
fn a_long_address_does_not_hold_up_its_family_in_postgresql() {
    let server = crate::support::postgres::Server::shared();
    let url = server.database();
    let feed = Feed::start();
    // A picture within its address, as base64: what no compression makes small.
    let mut text = String::from("data:image/png;base64,");
    for n in 0..100u32 {
        text += &blake3::hash(&n.to_le_bytes()).to_hex();
    }
    doc(
        &feed,
        "A23-1",
        json!([{ "Sku": "A23-1-10", "ANumber": "A23", "ProductDetails": { "en": { "Name": "x", "Image": { "Url": text } } } }]),
    );
    feed.list(&["A23-1"]);
    let world = world(&feed).on(url.clone());
    let ended = world.run(&["sync", "products", "--json", "--param", "supplier=A23"]);
    let rows = crate::support::rows::Rows::on(&server, &url);
    assert_eq!(rows.number("SELECT count(*) FROM products"), 1, "{ended}");
}

#[test]
fn pictures_out_of_reach_do_not_hold_up_the_next_sync() {
    use crate::support::http;
    let feed = Feed::start();
    feed.family("A23-1", &["1"], &["http://127.0.0.1:1/x.png"]);
    feed.list(&["A23-1"]);
    let world = world(&feed).set("domains.products.hosts", "127.0.0.1:1");
    let service = world.start(&["run"]);
    let address = service.address();
    let put = || {
        let body = json!({ "domain": "products", "kind": "products.supplier", "params": {} });
        http::ask(&address, "POST", "/api/v1/jobs", &body.to_string()).unwrap();
    };
    put();
    until("the first", || (live(&world, "product_variants") == 1).then_some(()));
    feed.family("A23-1", &["1", "2"], &["http://127.0.0.1:1/x.png"]);
    feed.list(&["A23-1"]);
    put();
    until("the next sync's family", || (live(&world, "product_variants") == 2).then_some(()));
    service.stop();
}
