//! `/v2.5/…`: eSIM Go's API as it is on the wire, misbehaving as the dials say.
//!
//! ```text
//! request ─▶ key? ─▶ limit? ─▶ fate ─▶ delay ─▶ answer ─▶ whole, in drips, cut, or garbled
//!            403     429        hang: here for good   200 400 401 404, or 500
//! ```
//!
//! Every error is `{"message": …}`. Unknown query parameters are ignored, as a wrong group is: it finds nothing.

use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures::stream;
use serde::Deserialize;
use serde_json::json;

use super::CURRENCY;
use super::bundles::GROUPS;
use super::catalogue::{Catalogue, Order, Query};
use super::dials::{Dials, Fate};
use super::dice::Dice;
use super::state::{InFlight, State};

/// As the documentation's example has it; the default itself is not documented.
const PER_PAGE: usize = 50;

/// Users fetch 6,000 at once; above this the page is refused as with the dial `page_max`.
const PER_PAGE_MAX: usize = 10_000;

/// A hung request is given up when the client leaves, and at the latest after this.
const HANG_MAX: Duration = Duration::from_secs(3_600);

/// A slow body comes in this many pieces.
const DRIPS: u32 = 20;

const HTML: &str =
    "<html><head><title>Request Rejected</title></head><body>The requested URL was rejected.</body></html>";

pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/v2.5/{path:.*}", web::get().to(serve));
}

/// What is to be sent, before anything goes wrong with it.
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// One request from its arrival to its answer.
async fn serve(state: web::Data<State>, path: web::Path<String>, request: HttpRequest) -> HttpResponse {
    let state = state.into_inner();
    let (in_flight, mut dice) = state.enter();
    if request.headers().get("x-api-key").is_none_or(|key| key.as_bytes() != state.api_key.as_bytes()) {
        return send(&state, message(StatusCode::FORBIDDEN, "Unauthorised"));
    }
    let dials = state.dials();
    if let Some(limit) = dials.limit_per_second
        && let Err(seconds) = state.admit(limit)
    {
        return refuse(&state, seconds);
    }
    let fate = wait(&state, &dials, &mut dice).await;
    let answer = match fate {
        Fate::Fail => message(StatusCode::INTERNAL_SERVER_ERROR, "unexpected error occurred"),
        Fate::Serve | Fate::Hang | Fate::Cut | Fate::Truncate | Fate::Html | Fate::Slow(_) => {
            answer(&state.catalogue(), &path, request.query_string(), &dials)
        }
    };
    carry_out(&state, answer, fate, in_flight)
}

/// Rolls what becomes of a request, and waits as long as that takes.
pub(super) async fn wait(state: &State, dials: &Dials, dice: &mut Dice) -> Fate {
    let fate = dials.fate(dice);
    if fate == Fate::Hang {
        state.count_fault(|faults| faults.hung += 1);
        tokio::time::sleep(HANG_MAX).await;
    }
    let delay = dials.delay(dice);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    fate
}

/// Sends an answer as its fate has it.
pub(super) fn carry_out(state: &State, answer: Answer, fate: Fate, in_flight: InFlight) -> HttpResponse {
    match fate {
        Fate::Serve | Fate::Hang | Fate::Fail => send(state, answer),
        Fate::Truncate => {
            state.count_fault(|faults| faults.malformed += 1);
            let body = answer.body.slice(..answer.body.len() / 2);
            send(state, Answer { body, ..answer })
        }
        Fate::Html => {
            state.count_fault(|faults| faults.malformed += 1);
            state.count_status(200);
            HttpResponse::Ok().content_type("text/html; charset=utf-8").body(HTML)
        }
        Fate::Cut => {
            state.count_fault(|faults| faults.cut += 1);
            cut(state, answer, in_flight)
        }
        Fate::Slow(duration) => {
            state.count_fault(|faults| faults.slow += 1);
            drip(state, answer, duration, in_flight)
        }
    }
}

/// The right answer, by path.
fn answer(catalogue: &Catalogue, path: &str, query: &str, dials: &Dials) -> Answer {
    let groups = || GROUPS.map(|name| json!({ "name": name }));
    match path {
        "catalogue" => page(catalogue, query, dials),
        "organisation/groups" => found(Bytes::from(json!({ "groups": groups() }).to_string())),
        "organisation" => {
            let organisation = json!({
                "name": "Sandbox Travel Ltd",
                "groups": GROUPS,
                "currency": CURRENCY,
                "balance": 1234.56,
            });
            found(Bytes::from(json!({ "organisations": [organisation] }).to_string()))
        }
        _ => match path.strip_prefix("catalogue/bundle/").and_then(|name| catalogue.detail(name)) {
            Some(body) => found(body),
            None => message(StatusCode::NOT_FOUND, "not found"),
        },
    }
}

/// The query of `/catalogue` as it is written; numbers are text in the specification.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Asked {
    page: Option<String>,
    per_page: Option<String>,
    direction: Option<String>,
    order_by: Option<String>,
    description: Option<String>,
    group: Option<String>,
    countries: Option<String>,
    region: Option<String>,
}

fn page(catalogue: &Catalogue, query: &str, dials: &Dials) -> Answer {
    let asked = match web::Query::<Asked>::from_query(query) {
        Ok(asked) => asked.into_inner(),
        Err(_) => return message(StatusCode::BAD_REQUEST, "invalid query"),
    };
    let number = |text: &Option<String>, default: usize| match text.as_deref() {
        None | Some("") => Some(default),
        Some(text) => text.parse::<usize>().ok().filter(|&number| number > 0),
    };
    let Some(page) = number(&asked.page, 1) else {
        return message(StatusCode::BAD_REQUEST, "invalid page");
    };
    let Some(per_page) = number(&asked.per_page, PER_PAGE) else {
        return message(StatusCode::BAD_REQUEST, "invalid perPage");
    };
    let page_max = dials.page_max.map_or(PER_PAGE_MAX, |max| (max as usize).min(PER_PAGE_MAX));
    if per_page > page_max {
        return message(StatusCode::UNAUTHORIZED, "Unauthorised");
    }
    let order = match asked.order_by.as_deref() {
        None | Some("") => Order::Catalogue,
        Some("bundleName" | "name") => Order::Name,
        Some("dataAmount") => Order::DataAmount,
        Some("duration") => Order::Duration,
        Some("price") => Order::Price,
        Some("roamingEnabled") => Order::Roaming,
        // The same for all bundles.
        Some("autostart") => Order::Catalogue,
        Some(_) => return message(StatusCode::BAD_REQUEST, "invalid orderBy"),
    };
    let descending = match asked.direction.as_deref() {
        None | Some("" | "asc") => false,
        Some("desc") => true,
        Some(_) => return message(StatusCode::BAD_REQUEST, "invalid direction"),
    };
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let listed = asked.countries.unwrap_or_default();
    let query = Query {
        group: text(asked.group),
        countries: listed.split(',').map(str::trim).filter(|iso| !iso.is_empty()).map(str::to_owned).collect(),
        region: text(asked.region),
        description: text(asked.description),
        order,
        descending,
    };
    found(catalogue.page(&query, page, per_page, dials.bare_list))
}

fn found(body: Bytes) -> Answer {
    Answer { status: StatusCode::OK, body }
}

pub(super) fn message(status: StatusCode, text: &str) -> Answer {
    Answer { status, body: Bytes::from(json!({ "message": text }).to_string()) }
}

fn send(state: &State, answer: Answer) -> HttpResponse {
    state.count_status(answer.status.as_u16());
    HttpResponse::build(answer.status).insert_header((CONTENT_TYPE, "application/json")).body(answer.body)
}

pub(super) fn refuse(state: &State, seconds: u64) -> HttpResponse {
    let mut response = send(state, message(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests"));
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

/// Announces the whole body, sends half of it, and breaks the connection.
fn cut(state: &State, answer: Answer, in_flight: InFlight) -> HttpResponse {
    enum Step {
        Half,
        Flush,
        Break,
    }
    let length = answer.body.len() as u64;
    let half = answer.body.slice(..answer.body.len() / 2);
    let pieces = stream::unfold((Step::Half, in_flight), move |(step, in_flight)| {
        let half = half.clone();
        async move {
            match step {
                Step::Half => Some((Ok(half), (Step::Flush, in_flight))),
                Step::Flush => {
                    // The server writes what it has only when the body makes it wait; an error throws away the rest.
                    tokio::task::yield_now().await;
                    Some((Ok(Bytes::new()), (Step::Break, in_flight)))
                }
                Step::Break => Some((Err(std::io::Error::other("cut by the sandbox")), (Step::Break, in_flight))),
            }
        }
    });
    state.count_status(answer.status.as_u16());
    HttpResponse::build(answer.status)
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(SizedStream::new(length, Box::pin(pieces)))
}

/// Sends the body in pieces spread evenly over a time.
fn drip(state: &State, answer: Answer, duration: Duration, in_flight: InFlight) -> HttpResponse {
    let length = answer.body.len();
    let piece = length.div_ceil(DRIPS as usize).max(1);
    let pieces = stream::unfold((0, answer.body, in_flight), move |(from, body, in_flight)| async move {
        if from >= length {
            return None;
        }
        if from > 0 {
            tokio::time::sleep(duration / (DRIPS - 1)).await;
        }
        let to = (from + piece).min(length);
        Some((Ok::<_, std::io::Error>(body.slice(from..to)), (to, body, in_flight)))
    });
    state.count_status(answer.status.as_u16());
    HttpResponse::build(answer.status)
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(SizedStream::new(length as u64, Box::pin(pieces)))
}
