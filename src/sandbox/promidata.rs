//! `/promidata/…`: the product feed as it is on the wire, misbehaving as the dials say.
//!
//! ```text
//! request ─▶ profile? ─▶ limit? ─▶ fate ─▶ delay ─▶ answer ─▶ same ETag? ─▶ whole, in drips, cut, or garbled
//!            403         429        hang             200 404      304
//!
//! <profile>/Import/Import.txt      the lines: which families there are, each with a hash        feed
//! <profile>/Import/CAT.csv         the category tree                                            categories
//! <profile>/<ANumber>/<Sku>.json   a family                                                     family, document
//! images/<64 hex>.png|jpg          an image by its content                                      images
//! ```
//!
//! There is no key: the profile in the path is the secret. Errors are XML in the words of S3. URLs in the answers use
//! the host that the request came to. Queries are ignored.

mod categories;
mod document;
mod expected;
mod family;
mod feed;
mod images;
mod words;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONTENT_TYPE, ETAG, HOST, HeaderValue, HttpDate, IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER,
};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures::stream;

use self::feed::ExtraLines;
use self::images::Content;
use super::dials::{Dials, Fate};
use super::dice::Dice;
use super::state::{InFlight, State};

pub use self::expected::{
    BadLine, ExpectedBadLine, ExpectedCategory, ExpectedFamily, ExpectedImage, ExpectedPrices, ExpectedPromidata,
    ExpectedReject, ExpectedTier, ExpectedVariant, FeedReason,
};
pub(super) use self::feed::Feed;
pub use self::images::{Content as ImageContent, HUGE as IMAGE_HUGE};

/// The one profile that is known. It opens nothing else.
pub const PROFILE: &str = "5a0db0c4-7e57-4f3d-9c1b-10057040e001";

/// Each family has seven images, and an entry in two tables.
pub const FAMILIES_MAX: u32 = 20_000;

/// A number of seven digits keeps the extra lines equally long.
pub const EXTRAS_MAX: u32 = 1_000_000;

/// A hung request is given up when the client leaves, and at the latest after this.
const HANG_MAX: Duration = Duration::from_secs(3_600);

/// A slow body comes in this many pieces.
const DRIPS: u32 = 20;

/// What is made at a time of a body that is not held.
const PIECE: u64 = 64 * 1_024;

/// The first generation's `Last-Modified`, in seconds since 1970; each further one is an hour later.
const FIRST_MODIFIED: u64 = 1_763_272_800;

const HTML: &str =
    "<html><head><title>Just a moment</title></head><body>Checking that you are no machine.</body></html>";

static NOUGHTS: [u8; PIECE as usize] = [0; PIECE as usize];

pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/promidata/{path:.*}", web::get().to(serve));
}

/// What a request asks for.
enum Asked<'a> {
    Lines,
    Categories,
    /// By `ANumber` and file.
    Family(&'a str, &'a str),
    Image(&'a str),
    /// Under a profile that is not the known one.
    Forbidden,
    Unknown,
}

impl<'a> Asked<'a> {
    fn of(path: &'a str) -> Self {
        if let Some(name) = path.strip_prefix("images/") {
            return Self::Image(name);
        }
        let Some(path) = path.strip_prefix(PROFILE).and_then(|path| path.strip_prefix('/')) else {
            return Self::Forbidden;
        };
        match path.split_once('/') {
            Some(("Import", "Import.txt")) => Self::Lines,
            Some(("Import", "CAT.csv")) => Self::Categories,
            Some((supplier, file)) => Self::Family(supplier, file),
            None => Self::Unknown,
        }
    }
}

/// What is to be sent, before anything goes wrong with it.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    /// Without quotes; errors have none.
    tag: Option<String>,
    body: Body,
}

enum Body {
    Whole(Bytes),
    Lines(Bytes, ExtraLines),
    /// These bytes, and noughts up to this length.
    Padded(Bytes, u64),
}

impl Body {
    fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Lines(head, extra) => head.len() as u64 + extra.len(),
            Self::Padded(_, length) => *length,
        }
    }

    /// Some of it from here on: at most so many bytes, and at least one unless it has ended.
    fn read(&self, from: u64, most: u64) -> Bytes {
        let (held, length) = match self {
            Self::Whole(bytes) | Self::Lines(bytes, _) | Self::Padded(bytes, _) => (bytes, bytes.len() as u64),
        };
        if from < length {
            return held.slice(from as usize..(from + most).min(length) as usize);
        }
        match self {
            Self::Whole(_) => Bytes::new(),
            Self::Lines(_, extra) => extra.read(from - length, most),
            Self::Padded(_, end) => Bytes::from_static(&NOUGHTS).slice(..most.min(end - from).min(PIECE) as usize),
        }
    }

    /// In the middle of the body and, if it is text, of a line.
    fn middle(&self) -> u64 {
        let half = self.len() / 2;
        let ends_a_line = |at: u64| at > 0 && matches!(self.read(at - 1, 1).as_ref(), b"\n" | b"\r");
        if ends_a_line(half) || ends_a_line(half + 1) { half.saturating_sub(9) } else { half }
    }
}

/// One request from its arrival to its answer.
async fn serve(state: web::Data<State>, path: web::Path<String>, request: HttpRequest) -> HttpResponse {
    let state = state.into_inner();
    let (in_flight, mut dice) = state.enter();
    let asked = Asked::of(&path);
    if matches!(asked, Asked::Forbidden) {
        return send(&state, error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"), in_flight);
    }
    let dials = state.dials();
    if let Some(limit) = dials.limit_per_second
        && let Err(seconds) = state.admit(limit)
    {
        let refusal = error(StatusCode::TOO_MANY_REQUESTS, "SlowDown", "Please reduce your request rate.");
        let mut response = send(&state, refusal, in_flight);
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
        return response;
    }
    let fate = dials.fate(&mut dice);
    if fate == Fate::Hang {
        state.count_fault(|faults| faults.hung += 1);
        tokio::time::sleep(HANG_MAX).await;
    }
    let delay = dials.delay(&mut dice);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if fate == Fate::Fail {
        let failure = "We encountered an internal error. Please try again.";
        return send(&state, error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", failure), in_flight);
    }
    let feed = state.feed();
    state.count_feed(|counts| match asked {
        Asked::Lines => counts.lines += 1,
        Asked::Categories => counts.categories += 1,
        Asked::Family(..) => counts.families += 1,
        Asked::Image(_) => counts.images += 1,
        Asked::Forbidden | Asked::Unknown => {}
    });
    let mut answer = answer(&feed, &asked, &origin(&request), &dials);
    let is_lines = matches!(asked, Asked::Lines);
    let fate = if is_lines { line_fate(fate, &dials, &mut dice) } else { fate };
    if fate == Fate::Truncate && is_lines {
        // Somebody published half a file: it is another file.
        answer.tag = answer.tag.map(|tag| tag.chars().rev().collect());
    }
    if let Some(tag) = &answer.tag
        && is_known(&request, tag)
    {
        state.count_status(StatusCode::NOT_MODIFIED.as_u16());
        let mut response = HttpResponse::NotModified().finish();
        stamp(&mut response, Some(tag), &feed);
        return response;
    }
    // Whoever puts a page in between knows nothing of the file.
    let tag = answer.tag.clone().filter(|_| fate != Fate::Html);
    let mut response = misbehave(&state, answer, fate, in_flight);
    stamp(&mut response, tag.as_deref(), &feed);
    response
}

/// The dials of the feed's lines come on top of those for all requests.
fn line_fate(fate: Fate, dials: &Dials, dice: &mut Dice) -> Fate {
    let (cut, short) = (dice.chance(dials.feed_cut), dice.chance(dials.feed_short));
    match fate {
        Fate::Serve if short => Fate::Truncate,
        Fate::Serve if cut => Fate::Cut,
        Fate::Serve | Fate::Hang | Fate::Fail | Fate::Cut | Fate::Truncate | Fate::Html | Fate::Slow(_) => fate,
    }
}

/// The right answer.
fn answer(feed: &Arc<Feed>, asked: &Asked<'_>, origin: &str, dials: &Dials) -> Answer {
    let missing = || error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    match asked {
        Asked::Lines => Answer {
            status: StatusCode::OK,
            kind: "text/plain",
            tag: Some(feed.tag(origin, dials)),
            body: Body::Lines(feed.head(origin, dials), feed.extra_lines(origin, dials)),
        },
        Asked::Categories => found("text/csv", Bytes::from(categories::csv(feed.seed, dials.csv_other_header))),
        Asked::Family(supplier, file) => {
            let family = file.strip_suffix(".json").and_then(|sku| feed.by_sku(sku));
            match family.filter(|family| family.supplier().code == *supplier && !feed.is_missing(family, dials)) {
                Some(family) => found("application/json", document::render(&family, feed, origin)),
                None => missing(),
            }
        }
        Asked::Image(name) => feed.images.number(name).map_or_else(missing, |number| image(feed, number, dials)),
        Asked::Forbidden | Asked::Unknown => missing(),
    }
}

fn image(feed: &Feed, number: u32, dials: &Dials) -> Answer {
    let bytes = Bytes::from(images::bytes(number));
    let kind = images::kind(number);
    match images::content(feed.seed, number, dials) {
        Content::Png | Content::Jpeg => found(kind, bytes),
        Content::Html => found("text/html; charset=utf-8", Bytes::from_static(HTML.as_bytes())),
        Content::Svg => found("image/svg+xml", Bytes::from(images::svg(number))),
        Content::Empty => found(kind, Bytes::new()),
        Content::Huge => Answer { status: StatusCode::OK, kind, tag: None, body: Body::Padded(bytes, images::HUGE) },
    }
}

fn found(kind: &'static str, body: Bytes) -> Answer {
    let tag = blake3::hash(&body).to_hex()[..32].to_owned();
    Answer { status: StatusCode::OK, kind, tag: Some(tag), body: Body::Whole(body) }
}

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>SANDBOX000000001</RequestId><HostId>sandbox</HostId></Error>"
    );
    Answer { status, kind: "application/xml", tag: None, body: Body::Whole(Bytes::from(body)) }
}

/// The scheme and host that the client asked for, so that URLs lead it back here.
pub fn origin(request: &HttpRequest) -> String {
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    match named {
        Some(host) => format!("http://{host}"),
        None => format!("http://{}", request.app_config().local_addr()),
    }
}

fn is_known(request: &HttpRequest, tag: &str) -> bool {
    let known = request.headers().get(IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
    let bare = |known: &str| known.trim().trim_start_matches("W/").trim_matches('"') == tag;
    known.trim() == "*" || known.split(',').any(bare)
}

fn stamp(response: &mut HttpResponse, tag: Option<&str>, feed: &Feed) {
    let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(&format!("\"{tag}\"")).ok()) else { return };
    let modified = Duration::from_secs(FIRST_MODIFIED + (feed.generation - 1) * 3_600);
    let modified = HttpDate::from(SystemTime::UNIX_EPOCH + modified).to_string();
    response.headers_mut().insert(ETAG, tag);
    if let Ok(modified) = HeaderValue::from_str(&modified) {
        response.headers_mut().insert(LAST_MODIFIED, modified);
    }
}

fn send(state: &State, answer: Answer, in_flight: InFlight) -> HttpResponse {
    misbehave(state, answer, Fate::Serve, in_flight)
}

/// Carries out a fate on an answer, and counts both.
fn misbehave(state: &State, answer: Answer, fate: Fate, in_flight: InFlight) -> HttpResponse {
    let length = answer.body.len();
    if let (Fate::Serve | Fate::Hang, Body::Whole(body)) = (fate, &answer.body) {
        state.count_status(answer.status.as_u16());
        return HttpResponse::build(answer.status).insert_header((CONTENT_TYPE, answer.kind)).body(body.clone());
    }
    let mut sending = Sending { body: answer.body, at: 0, end: length, piece: PIECE, pause: None, then: End::Whole };
    match fate {
        Fate::Serve | Fate::Hang | Fate::Fail => {}
        Fate::Truncate => {
            state.count_fault(|faults| faults.malformed += 1);
            sending.end = sending.body.middle();
        }
        Fate::Html => {
            state.count_fault(|faults| faults.malformed += 1);
            state.count_status(200);
            return HttpResponse::Ok().content_type("text/html; charset=utf-8").body(HTML);
        }
        Fate::Cut => {
            state.count_fault(|faults| faults.cut += 1);
            sending.end = sending.body.middle();
            sending.then = End::Flush;
        }
        Fate::Slow(duration) => {
            state.count_fault(|faults| faults.slow += 1);
            sending.piece = length.div_ceil(u64::from(DRIPS)).max(1);
            sending.pause = Some(duration / (DRIPS - 1));
        }
    }
    let announced = if fate == Fate::Truncate { sending.end } else { length };
    state.count_status(answer.status.as_u16());
    HttpResponse::build(answer.status)
        .insert_header((CONTENT_TYPE, answer.kind))
        .body(SizedStream::new(announced, Box::pin(pieces(sending, in_flight))))
}

/// A body on its way.
struct Sending {
    body: Body,
    at: u64,
    /// Not sent beyond.
    end: u64,
    piece: u64,
    /// Between two pieces.
    pause: Option<Duration>,
    then: End,
}

/// What follows the last byte.
enum End {
    Whole,
    /// Lets the server write what it has, then breaks the connection.
    Flush,
    Break,
}

fn pieces(sending: Sending, in_flight: InFlight) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    stream::unfold((sending, in_flight), |(mut sending, in_flight)| async move {
        if sending.at < sending.end {
            if let Some(pause) = sending.pause
                && sending.at > 0
            {
                tokio::time::sleep(pause).await;
            }
            let most = sending.piece.min(sending.end - sending.at);
            let piece = sending.body.read(sending.at, most);
            sending.at += piece.len() as u64;
            return Some((Ok(piece), (sending, in_flight)));
        }
        match sending.then {
            End::Whole => None,
            End::Flush => {
                // The server writes what it has only when the body makes it wait; an error throws away the rest.
                tokio::task::yield_now().await;
                sending.then = End::Break;
                Some((Ok(Bytes::new()), (sending, in_flight)))
            }
            End::Break => Some((Err(std::io::Error::other("cut by the sandbox")), (sending, in_flight))),
        }
    })
}

#[cfg(test)]
mod tests;
