//! The sandbox as a client sees it, over loopback.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::{Client, Response, StatusCode};
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::*;

fn client() -> Client {
    // A second install is refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().unwrap()
}

fn start(bundles: usize, dials: Dials) -> Handle {
    Sandbox::start(Settings { bundles, dials, ..Settings::default() }).unwrap()
}

async fn get(sandbox: &Handle, path: &str) -> Response {
    request(&client(), sandbox, path).send().await.unwrap()
}

fn request(client: &Client, sandbox: &Handle, path: &str) -> reqwest::RequestBuilder {
    client.get(format!("{}{path}", sandbox.base_url())).header("X-API-Key", sandbox.api_key())
}

/// Every bundle of every page, as it is listed.
async fn listed(sandbox: &Handle, query: &str, per_page: usize) -> Vec<Value> {
    let client = client();
    let mut bundles = Vec::new();
    for page in 1.. {
        let path = format!("/catalogue?page={page}&perPage={per_page}{query}");
        let body: Value = request(&client, sandbox, &path).send().await.unwrap().json().await.unwrap();
        bundles.extend(body["bundles"].as_array().unwrap().iter().cloned());
        if page >= body["pageCount"].as_u64().unwrap() {
            assert_eq!(body["rows"], bundles.len());
            break;
        }
    }
    bundles
}

/// Reads a bundle of either shape, on its own rules: what is on the wire, not what the generator meant.
fn read(bundle: &Value) -> ExpectedBundle {
    let strings = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let places = |list: &Value| -> Vec<String> {
        let places = list.as_array().into_iter().flatten();
        places.map(|place| place.get("country").unwrap_or(place)["iso"].as_str().unwrap().to_owned()).collect()
    };
    let alpha2 = |iso: String| countries::COUNTRIES.iter().find(|c| c.alpha3 == iso).map_or(iso, |c| c.iso.to_owned());
    let price: Option<Decimal> = bundle["price"].as_number().map(|price| price.to_string().parse().unwrap());
    let roaming = places(&bundle["roamingEnabled"]);
    let base: Vec<String> = places(&bundle["countries"]).into_iter().map(alpha2).collect();
    let duration = bundle["duration"].as_u64().map(|duration| duration as u16);
    let known = |iso: &String| countries::country(iso).is_some();
    let reject = match price {
        _ if roaming.is_empty() && !base.iter().all(known) => Some(Reason::InvalidIso),
        None => Some(Reason::MissingPrice),
        Some(price) if price.is_sign_negative() && !price.is_zero() => Some(Reason::NegativePrice),
        Some(_) if duration.is_none() => Some(Reason::MissingDuration),
        Some(_) => None,
    };
    ExpectedBundle {
        reject,
        description: bundle["description"].as_str().unwrap().to_owned(),
        countries: base,
        roaming,
        data_amount: bundle["dataAmount"].as_i64().unwrap(),
        duration,
        duration_unit: bundle["durationUnit"].as_str().map(str::to_owned),
        unlimited: bundle["unlimited"].as_bool().unwrap(),
        autostart: bundle["autostart"].as_bool().unwrap(),
        speeds: strings(bundle["speed"].get("speeds").unwrap_or(&bundle["speed"])),
        price,
        groups: strings(bundle.get("groups").unwrap_or(&bundle["group"])),
        billing_type: bundle["billingType"].as_str().unwrap().to_owned(),
        image_url: bundle.get("imageUrl").is_some(),
        allowances: bundle["allowances"].as_array().map_or(0, Vec::len),
    }
}

fn by_name(bundles: &[Value]) -> BTreeMap<String, ExpectedBundle> {
    let named = bundles.iter().filter(|bundle| bundle.get("name").is_some());
    named.map(|bundle| (bundle["name"].as_str().unwrap().to_owned(), read(bundle))).collect()
}

#[tokio::test]
async fn expected_is_what_the_pages_say() {
    let sandbox = start(2_000, Dials { changed: 0.1, vanished: 0.1, ..Dials::default() });
    for generation in 1..=3 {
        let bundles = listed(&sandbox, "", 200).await;
        let expected = sandbox.expected();
        assert_eq!(expected.generation, generation);
        assert_eq!(by_name(&bundles), expected.bundles);
        let nameless = bundles.iter().filter(|bundle| bundle.get("name").is_none()).count();
        assert_eq!(nameless, expected.nameless);
        assert_eq!(expected.stored_count() + expected.rejected_count(), expected.bundles.len() + nameless);
        assert!(expected.rejected_count() > 5);
        sandbox.advance();
    }
}

#[tokio::test]
async fn the_groups_together_are_the_catalogue() {
    let sandbox = start(1_000, Dials::default());
    let groups: Value = get(&sandbox, "/organisation/groups").await.json().await.unwrap();
    let mut together = BTreeMap::new();
    for group in groups["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap().replace(' ', "%20");
        together.extend(by_name(&listed(&sandbox, &format!("&group={name}"), 50).await));
    }
    assert_eq!(together, sandbox.expected().bundles);
    assert_eq!(listed(&sandbox, "&group=Standard%20Unlimited%20Lite", 50).await, Vec::<Value>::new());
}

#[tokio::test]
async fn detail_says_the_same_in_another_shape() {
    let sandbox = start(500, Dials::default());
    let client = client();
    for (name, expected) in sandbox.expected().bundles.iter().step_by(3) {
        let answer = request(&client, &sandbox, &format!("/catalogue/bundle/{name}")).send().await.unwrap();
        let shown: Value = answer.json().await.unwrap();
        assert!(shown.get("groups").is_none() && shown["countries"][0].get("country").is_some(), "{shown}");
        assert_eq!(&read(&shown), expected, "{name}");
    }
    for wrong in ["/catalogue/bundle/ESIM_1GB_7D_AD_V2", "/catalogue/esim_1GB_7D_AD_V2"] {
        let answer = get(&sandbox, wrong).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert!(answer.json::<Value>().await.unwrap()["message"].is_string());
    }
}

#[tokio::test]
async fn the_key_is_checked_and_faults_do_not_hide_it() {
    let sandbox = start(10, Dials { error_rate: 1.0, ..Dials::default() });
    let url = format!("{}/catalogue", sandbox.base_url());
    for request in [client().get(&url), client().get(&url).header("x-api-key", "wrong")] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "message": "Unauthorised" }));
    }
    let organisation: Value = {
        sandbox.set_dials(Dials::default());
        get(&sandbox, "/organisation").await.json().await.unwrap()
    };
    assert_eq!(organisation["organisations"][0]["currency"], sandbox.expected().currency);
}

#[tokio::test]
async fn bad_queries_are_refused_and_page_numbers_have_defaults() {
    let sandbox = start(200, Dials::default());
    for query in ["page=0", "page=x", "perPage=-1", "orderBy=colour", "direction=up"] {
        assert_eq!(get(&sandbox, &format!("/catalogue?{query}")).await.status(), StatusCode::BAD_REQUEST, "{query}");
    }
    let first: Value = get(&sandbox, "/catalogue").await.json().await.unwrap();
    assert_eq!((first["pageSize"].clone(), first["bundles"].as_array().unwrap().len()), (json!(50), 50));
    assert_eq!(first, get(&sandbox, "/catalogue?page=1&perPage=50").await.json::<Value>().await.unwrap());
}

#[tokio::test]
async fn dial_page_max_and_bare_list() {
    let sandbox = start(200, Dials { page_max: Some(50), bare_list: true, ..Dials::default() });
    assert_eq!(get(&sandbox, "/catalogue?perPage=51").await.status(), StatusCode::UNAUTHORIZED);
    let bare: Value = get(&sandbox, "/catalogue?perPage=50").await.json().await.unwrap();
    assert_eq!(bare.as_array().unwrap().len(), 50);
}

#[tokio::test]
async fn dial_error_rate() {
    let sandbox = start(10, Dials { error_rate: 0.5, ..Dials::default() });
    let client = client();
    for _ in 0..100 {
        let answer = request(&client, &sandbox, "/organisation/groups").send().await.unwrap();
        if answer.status() == StatusCode::INTERNAL_SERVER_ERROR {
            assert_eq!(answer.text().await.unwrap(), r#"{"message":"unexpected error occurred"}"#);
        }
    }
    let stats = sandbox.stats();
    assert!((25..75).contains(&stats.by_status[&500]), "{stats:?}");
    assert_eq!((stats.requests, stats.by_status[&200] + stats.by_status[&500]), (100, 100));
}

#[tokio::test]
async fn dial_limit() {
    let sandbox = start(10, Dials { limit_per_second: Some(3), ..Dials::default() });
    let client = client();
    let (begun, mut admitted) = (Instant::now(), 0);
    for _ in 0..20 {
        let answer = request(&client, &sandbox, "/organisation").send().await.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.headers()["retry-after"], "1");
        } else {
            admitted += 1;
        }
    }
    // The first window began with the first request, and the last one may have just begun.
    let windows = begun.elapsed().as_secs() + 1;
    assert!((3..=3 * windows).contains(&admitted), "{admitted} in {windows} windows");
}

#[tokio::test]
async fn dial_latency() {
    let latency = Duration::from_millis(80);
    let sandbox = start(10, Dials { latency, jitter: latency, ..Dials::default() });
    let client = client();
    let begun = Instant::now();
    let answers = (0..8).map(|_| request(&client, &sandbox, "/organisation").send());
    for answer in futures::future::join_all(answers).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    assert!(begun.elapsed() >= latency);
    assert_eq!(sandbox.stats().in_flight, 0);
}

#[tokio::test]
async fn dial_slow_body_sends_all_of_it_late() {
    let slow = SlowBody { fraction: 1.0, duration: Duration::from_millis(100) };
    let sandbox = start(100, Dials { slow_body: Some(slow), ..Dials::default() });
    let begun = Instant::now();
    let body: Value = get(&sandbox, "/catalogue").await.json().await.unwrap();
    assert_eq!(body["bundles"].as_array().unwrap().len(), 50);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(sandbox.stats().faults.slow, 1);
}

#[tokio::test]
async fn dial_cut_breaks_the_connection_after_the_headers() {
    let sandbox = start(500, Dials { cut_rate: 1.0, ..Dials::default() });
    for path in ["/organisation", "/catalogue?perPage=500"] {
        let mut answer = get(&sandbox, path).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let announced = answer.content_length().unwrap();
        let mut got = 0;
        let error = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => got += chunk.len() as u64,
                Ok(None) => panic!("{path} came to an end"),
                Err(error) => break error,
            }
        };
        assert!(error.is_body() || error.is_decode(), "{error:?}");
        assert!(0 < got && got < announced, "{got} of {announced}");
    }
    sandbox.set_dials(Dials::default());
    assert_eq!(get(&sandbox, "/organisation").await.bytes().await.unwrap().len() as u64, {
        get(&sandbox, "/organisation").await.content_length().unwrap()
    });
    assert_eq!(sandbox.stats().faults.cut, 2);
}

#[tokio::test]
async fn dial_malformed_is_no_json_under_status_200() {
    let sandbox = start(100, Dials { malformed_rate: 1.0, ..Dials::default() });
    let (mut html, mut half) = (0, 0);
    for _ in 0..30 {
        let answer = get(&sandbox, "/catalogue").await;
        assert_eq!(answer.status(), StatusCode::OK);
        let is_html = answer.headers()["content-type"].to_str().unwrap().starts_with("text/html");
        *if is_html { &mut html } else { &mut half } += 1;
        let text = answer.text().await.unwrap();
        assert!(serde_json::from_str::<Value>(&text).is_err());
    }
    assert!(html > 0 && half > 0);
}

#[tokio::test]
async fn dial_hang_ends_with_its_client_or_with_the_sandbox() {
    let sandbox = start(10, Dials { hang_rate: 1.0, ..Dials::default() });
    let client = client();
    let ask = || tokio::spawn(request(&client, &sandbox, "/organisation").send());
    let waiting = [ask(), ask(), ask()];
    while sandbox.stats().faults.hung < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!((sandbox.stats().in_flight, sandbox.stats().in_flight_max), (3, 3));
    // The client is gone: the requests are given up, they do not pile up.
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    while sandbox.stats().in_flight > 0 {
        tokio::task::yield_now().await;
    }

    let waiting = ask();
    while sandbox.stats().faults.hung < 4 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    sandbox.stop();
    assert!(waiting.await.unwrap().is_err());
    assert!(begun.elapsed() < Duration::from_secs(600), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn control_sets_the_dials_and_tells_the_rest() {
    let sandbox = start(300, Dials::default());
    let client = client();
    let url = |path: &str| format!("http://{}/_sandbox/{path}", sandbox.addr());
    let put = |body: &'static str| client.put(url("dials")).body(body).send();

    let set: Dials = put(r#"{"latency": "5ms", "changed": 0.5, "vanished": 0.1}"#).await.unwrap().json().await.unwrap();
    assert_eq!(set.latency, Duration::from_millis(5));
    assert_eq!(sandbox.dials(), set);
    assert_eq!(client.get(url("dials")).send().await.unwrap().json::<Dials>().await.unwrap(), set);
    for wrong in [r#"{"error_rate": 2}"#, r#"{"eror_rate": 0.5}"#, "not json"] {
        let answer = put(wrong).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(answer.json::<Value>().await.unwrap()["message"].is_string(), "{wrong}");
    }
    assert_eq!(sandbox.dials(), set);

    let advanced: Advanced = client.post(url("advance")).send().await.unwrap().json().await.unwrap();
    assert_eq!((advanced.generation, advanced.changed, advanced.vanished), (2, 135, 30));
    assert_eq!((advanced.feed_changed, advanced.feed_vanished), (0, 0));
    let shown: Expected = client.get(url("catalogue")).send().await.unwrap().json().await.unwrap();
    assert_eq!(shown, sandbox.expected());
    assert_eq!(shown.bundles.len() + shown.nameless, 270);
    let stats: Stats = client.get(url("stats")).send().await.unwrap().json().await.unwrap();
    assert_eq!(stats, Stats::default());
}

#[tokio::test]
async fn the_same_seed_serves_the_same_bytes() {
    let dials = Dials { changed: 0.2, vanished: 0.1, ..Dials::default() };
    let (one, two) = (start(400, dials.clone()), start(400, dials));
    for _ in 0..2 {
        let path = "/catalogue?page=2&perPage=100";
        assert_eq!(get(&one, path).await.bytes().await.unwrap(), get(&two, path).await.bytes().await.unwrap());
        assert_eq!(one.advance(), two.advance());
    }
}

#[tokio::test]
async fn a_stopped_sandbox_refuses_and_frees_its_port() {
    // Bound, and never listened at: the system gives the port to no other test meanwhile.
    let kept = tokio::net::TcpSocket::new_v4().unwrap();
    kept.set_reuseaddr(true).unwrap();
    kept.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = kept.local_addr().unwrap();
    let sandbox = Sandbox::start(Settings { listen: addr, bundles: 10, ..Settings::default() }).unwrap();
    assert_eq!(get(&sandbox, "/organisation").await.status(), StatusCode::OK);

    let taken = Sandbox::start(Settings { listen: addr, bundles: 10, ..Settings::default() });
    assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    sandbox.stop();
    assert!(client().get(format!("http://{addr}/v2.5/organisation")).send().await.unwrap_err().is_connect());
    drop(Sandbox::start(Settings { listen: addr, bundles: 10, ..Settings::default() }).unwrap());
}

#[test]
fn bad_settings_are_refused() {
    for settings in [
        Settings { bundles: BUNDLES_MAX + 1, ..Settings::default() },
        Settings { dials: Dials { error_rate: -0.1, ..Dials::default() }, ..Settings::default() },
    ] {
        assert_eq!(Sandbox::start(settings).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
}
