//! `/football/…`: API-Football v3 as it is on the wire, misbehaving as the dials say.
//!
//! ```text
//! request ─▶ fate, delay ─▶ key? ─▶ day? ─▶ minute? ─▶ parameters? ─▶ answer ─▶ whole, in drips, cut, or garbled
//!                            token    requests  rateLimit   names of fields
//! ```
//!
//! Errors are objects within an answer of HTTP 200, and `[]` where there are none; `parameters` is `[]` without
//! parameters and an object of strings with them. `/status` is not counted and tells no limits in its headers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use super::dials::{Dials, Fate};
use super::esim_go::{self, Answer};
use super::leagues::{COUNTRIES, League, Leagues, country_json};
use super::state::State;

/// Limits of an account without any to speak of.
const DAY: u32 = 75_000;
const MINUTE: u32 = 10_000;

const LEAGUE_PARAMS: [&str; 10] =
    ["id", "name", "country", "code", "season", "team", "type", "current", "search", "last"];
const COUNTRY_PARAMS: [&str; 3] = ["name", "code", "search"];

pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/football/{path:.*}", web::get().to(serve));
}

/// What an account has used of its limits.
#[derive(Debug, Default)]
pub struct Allowance {
    /// Since the sandbox started, which is its day.
    pub day: u32,
    minute: u32,
    since: Option<Instant>,
}

/// What is left after a request, or the error that refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Left { day: u32, minute: u32 },
    Day,
    Minute,
}

impl Allowance {
    /// A refused request is not counted.
    fn take(&mut self, now: Instant, day: u32, minute: u32) -> Taken {
        let over = self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(60));
        if over {
            (self.since, self.minute) = (Some(now), 0);
        }
        if self.day >= day {
            return Taken::Day;
        }
        if self.minute >= minute {
            return Taken::Minute;
        }
        self.day += 1;
        self.minute += 1;
        Taken::Left { day: day - self.day, minute: minute - self.minute }
    }
}

/// One request from its arrival to its answer.
async fn serve(state: web::Data<State>, path: web::Path<String>, request: HttpRequest) -> HttpResponse {
    let state = state.into_inner();
    let (in_flight, mut dice) = state.enter();
    let dials = state.dials();
    if let Some(limit) = dials.limit_per_second
        && let Err(seconds) = state.admit(limit)
    {
        return esim_go::refuse(&state, seconds);
    }
    let fate = esim_go::wait(&state, &dials, &mut dice).await;
    if fate == Fate::Fail {
        let failed = esim_go::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        return esim_go::carry_out(&state, failed, fate, in_flight);
    }
    let known = request.headers().get("x-apisports-key").is_some_and(|key| key.as_bytes() == state.api_key.as_bytes());
    let query = web::Query::<BTreeMap<String, String>>::from_query(request.query_string());
    let query = query.map(web::Query::into_inner).unwrap_or_default();
    let (body, limits) = answer(&state, &dials, &path, &query, known);
    let answer = Answer { status: StatusCode::OK, body: Bytes::from(body.to_string()) };
    let mut response = esim_go::carry_out(&state, answer, fate, in_flight);
    for (name, number) in limits {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(number));
    }
    response
}

type Limits = Vec<(&'static str, u32)>;

fn answer(state: &State, dials: &Dials, path: &str, query: &BTreeMap<String, String>, known: bool) -> (Value, Limits) {
    let refused = |key: &str, text: &str| envelope(path, query, json!({ key: text }), json!([]));
    if !known {
        let text = "Error/Missing application key. Go to https://www.api-football.com/documentation-v3 to learn how to \
                    get your API application key.";
        return (refused("token", text), Vec::new());
    }
    let (day, minute) = (dials.football_quota.unwrap_or(DAY), dials.football_per_minute.unwrap_or(MINUTE));
    let mut allowance = state.football.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if path == "status" {
        let status = json!({
            "account": {"firstname": "Sandy", "lastname": "Box", "email": "sandbox@example.org"},
            "subscription": {"plan": "Free", "end": "2027-04-10T23:24:27+00:00", "active": true},
            "requests": {"current": allowance.day.min(day), "limit_day": day},
        });
        return (envelope(path, query, json!([]), status), Vec::new());
    }
    let taken = allowance.take(Instant::now(), day, minute);
    drop(allowance);
    let limits = |day_left, minute_left| {
        vec![
            ("x-ratelimit-requests-limit", day),
            ("x-ratelimit-requests-remaining", day_left),
            ("x-ratelimit-limit", minute),
            ("x-ratelimit-remaining", minute_left),
        ]
    };
    match taken {
        Taken::Day => {
            let text = "You have reached the request limit for the day, Go to https://dashboard.api-football.com to \
                        upgrade your plan.";
            (refused("requests", text), limits(0, minute))
        }
        Taken::Minute => {
            let text = format!("Too many requests. Your rate limit is {minute} requests per minute.");
            (refused("rateLimit", &text), limits(day, 0))
        }
        Taken::Left { day, minute } => (served(&state.leagues(), dials, path, query), limits(day, minute)),
    }
}

/// The answer to a request that is let in.
fn served(leagues: &Leagues, dials: &Dials, path: &str, query: &BTreeMap<String, String>) -> Value {
    let params: &[&str] = match path {
        "leagues" => &LEAGUE_PARAMS,
        "countries" => &COUNTRY_PARAMS,
        _ => {
            let errors = json!({ "endpoint": "This endpoint do not exist." });
            return envelope(path, query, errors, json!([]));
        }
    };
    let strangers = query.keys().filter(|name| !params.contains(&name.as_str()));
    let mut errors: Map<String, Value> =
        strangers.map(|name| (name.clone(), json!(format!("The {} field do not exist.", capital(name))))).collect();
    if let Some(key) = &dials.football_error {
        errors.insert(key.clone(), json!(text_of(key)));
    }
    if !errors.is_empty() {
        return envelope(path, query, errors.into(), json!([]));
    }
    let list: Vec<Value> = match path {
        _ if dials.football_empty => Vec::new(),
        "leagues" => leagues.leagues.iter().filter(|league| fits(league, query)).map(League::to_json).collect(),
        _ => {
            let country = |name: &str, code: Option<&str>| {
                query.get("name").is_none_or(|wanted| wanted == name)
                    && query.get("code").is_none_or(|wanted| code == Some(wanted.as_str()))
                    && query.get("search").is_none_or(|wanted| contains(name, wanted))
            };
            COUNTRIES.iter().filter(|(name, code)| country(name, *code)).map(|known| country_json(*known)).collect()
        }
    };
    envelope(path, query, json!([]), list.into())
}

fn fits(league: &League, query: &BTreeMap<String, String>) -> bool {
    let (country, code) = COUNTRIES[league.country];
    query.iter().all(|(name, value)| match name.as_str() {
        "id" => league.id.to_string() == *value,
        "name" => league.name == *value,
        "country" => country == value,
        "code" => code == Some(value.as_str()),
        "season" => league.seasons.iter().any(|season| season.year.to_string() == *value),
        "type" => league.kind.eq_ignore_ascii_case(value),
        "current" => league.seasons.iter().any(|season| season.current.to_string().eq_ignore_ascii_case(value)),
        "search" => contains(&league.name, value) || contains(country, value),
        // Teams are not served, and what was added last is not known.
        _ => true,
    })
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

fn envelope(path: &str, query: &BTreeMap<String, String>, errors: Value, response: Value) -> Value {
    let parameters = if query.is_empty() { json!([]) } else { json!(query) };
    let results = match &response {
        Value::Array(list) => list.len(),
        _ => 1,
    };
    json!({
        "get": path,
        "parameters": parameters,
        "errors": errors,
        "results": results,
        "paging": {"current": 1, "total": 1},
        "response": response,
    })
}

/// As the provider says it, where that is known.
fn text_of(key: &str) -> &'static str {
    match key {
        "plan" => "Free plans do not have access to this season, try from 2022 to 2024.",
        "access" => "Your account is suspended, check on https://dashboard.api-football.com.",
        _ => "This is on our side, please report us this bug on https://dashboard.api-football.com",
    }
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use reqwest::{Client, Response};

    use super::super::{Handle, Sandbox, Settings};
    use super::*;

    fn start(leagues: usize, dials: Dials) -> Handle {
        Sandbox::start(Settings { bundles: 0, leagues, dials, ..Settings::default() }).unwrap()
    }

    async fn ask(sandbox: &Handle, path: &str, key: &str) -> Response {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().unwrap();
        let url = format!("{}{path}", sandbox.football_url());
        client.get(url).header("x-apisports-key", key).send().await.unwrap()
    }

    async fn json(sandbox: &Handle, path: &str) -> Value {
        ask(sandbox, path, sandbox.api_key()).await.json().await.unwrap()
    }

    #[tokio::test]
    async fn a_list_has_the_recorded_envelope() {
        let sandbox = start(300, Dials::default());
        let list = json(&sandbox, "/leagues").await;
        assert_eq!((&list["get"], &list["parameters"], &list["errors"]), (&json!("leagues"), &json!([]), &json!([])));
        assert_eq!((&list["results"], &list["paging"]), (&json!(300), &json!({"current": 1, "total": 1})));
        assert_eq!(list["response"].as_array().unwrap().len(), 300);
        let current = json(&sandbox, "/leagues?current=true&code=GB").await;
        assert_eq!(current["parameters"], json!({"current": "true", "code": "GB"}));
        let names: Vec<&Value> =
            current["response"].as_array().unwrap().iter().map(|item| &item["country"]["name"]).collect();
        assert!(names.contains(&&json!("Wales")) && names.contains(&&json!("Scotland")), "{names:?}");
        let countries = json(&sandbox, "/countries").await;
        assert_eq!(countries["response"][0], json!({"name": "World", "code": null, "flag": null}));
    }

    #[tokio::test]
    async fn what_is_expected_is_what_is_served() {
        let sandbox = start(400, Dials { changed: 0.1, vanished: 0.1, ..Dials::default() });
        for _ in 0..2 {
            let (list, expected) = (json(&sandbox, "/leagues").await, sandbox.expected_football());
            let items = list["response"].as_array().unwrap();
            assert_eq!(items.len(), expected.leagues.len() + expected.rejects.len());
            for (id, league) in &expected.leagues {
                let item = items.iter().find(|item| item["league"]["id"] == *id).unwrap();
                assert_eq!(item["league"]["name"], league.name);
                assert_eq!(item["country"]["name"], league.country);
                for season in &league.seasons {
                    let of = |shown: &&Value| shown["year"] == season.year && shown["start"] == season.start;
                    // The last one with this key counts.
                    let shown = item["seasons"].as_array().unwrap().iter().rfind(of).unwrap();
                    assert_eq!((&shown["end"], &shown["current"]), (&json!(season.end), &json!(season.current)));
                    for flag in ["standings", "odds"] {
                        let set = shown["coverage"][flag] == json!(true);
                        assert_eq!(set, season.covered.contains(flag), "{id} {flag}");
                    }
                }
            }
            sandbox.advance();
        }
    }

    #[tokio::test]
    async fn errors_come_as_objects_under_200() {
        let sandbox = start(20, Dials { football_quota: Some(2), ..Dials::default() });
        let wrong = ask(&sandbox, "/leagues", "another").await;
        assert_eq!(wrong.status(), 200);
        let wrong: Value = wrong.json().await.unwrap();
        assert!(wrong["errors"]["token"].as_str().unwrap().starts_with("Error/Missing") && wrong["results"] == 0);
        let stranger = json(&sandbox, "/leagues?leaguee=1").await;
        assert_eq!(stranger["errors"], json!({"leaguee": "The Leaguee field do not exist."}));
        let last = ask(&sandbox, "/leagues", sandbox.api_key()).await;
        let header = |name: &str| last.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (header("x-ratelimit-requests-limit"), header("x-ratelimit-requests-remaining")),
            ("2".into(), "0".into())
        );
        let over = json(&sandbox, "/leagues").await;
        assert!(over["errors"]["requests"].is_string() && over["response"] == json!([]));
        let status = ask(&sandbox, "/status", sandbox.api_key()).await;
        assert!(status.headers().get("x-ratelimit-limit").is_none());
        let status: Value = status.json().await.unwrap();
        assert_eq!(status["response"]["requests"], json!({"current": 2, "limit_day": 2}));

        sandbox.set_dials(Dials { football_per_minute: Some(2), ..Dials::default() });
        let over = json(&sandbox, "/leagues").await;
        assert_eq!(over["errors"]["rateLimit"], "Too many requests. Your rate limit is 2 requests per minute.");
        sandbox.set_dials(Dials { football_error: Some("plan".into()), ..Dials::default() });
        assert!(json(&sandbox, "/leagues").await["errors"]["plan"].is_string());
        sandbox.set_dials(Dials { football_empty: true, ..Dials::default() });
        let empty = json(&sandbox, "/leagues").await;
        assert_eq!((&empty["errors"], &empty["results"]), (&json!([]), &json!(0)));
    }

    #[test]
    fn a_minute_begins_anew() {
        let (mut allowance, now) = (Allowance::default(), Instant::now());
        assert_eq!(allowance.take(now, 3, 1), Taken::Left { day: 2, minute: 0 });
        assert_eq!(allowance.take(now + Duration::from_secs(59), 3, 1), Taken::Minute);
        assert_eq!(allowance.take(now + Duration::from_secs(60), 3, 1), Taken::Left { day: 1, minute: 0 });
        assert_eq!(allowance.take(now, 2, 9), Taken::Day);
    }
}
