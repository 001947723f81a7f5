//! A whole answer, and how to read it.

use std::fmt;

use longshore_actors::job::Fault;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::Deserialize;

use crate::config::Secret;

/// Characters of a body that an error shows.
const SNIPPET_CHARS: usize = 120;

/// Bytes of a body that a snippet is made from. Far more than it shows, so that a secret is whole, and blotted out,
/// before the text is cut.
const SNIPPET_BYTES: usize = 16 * 1024;

/// An answer that came in whole: any status except 429 and 5xx.
pub struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    url: String,
    /// Blotted out of every text made from the body.
    secret: Option<Secret>,
}

impl Reply {
    pub(super) fn new(status: u16, headers: HeaderMap, body: Vec<u8>, url: String, secret: Option<Secret>) -> Self {
        Self { status, headers, body, url, secret }
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }

    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The whole body, the secret blotted out, for who keeps parts of it. `None` if it is not UTF-8.
    pub fn text(&self) -> Option<String> {
        std::str::from_utf8(&self.body).ok().map(|text| self.clean(text))
    }

    /// Where it came from, without secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads the body as JSON; `T` may borrow from it.
    ///
    /// # Errors
    /// `Retry` when it is no JSON (broken off, garbled, a page of HTML): another time it may be. `Fail` when it is
    /// JSON of another shape: it will be the same again. Each says in one line where and what.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Fault> {
        serde_json::from_slice(&self.body).map_err(|error| self.unreadable(&error))
    }

    /// The beginning of the body on one line, without control characters and without the secret.
    pub fn text_snippet(&self) -> String {
        self.snippet(0)
    }

    /// Status and beginning of the body, for an error that this answer causes.
    pub fn summary(&self) -> String {
        let status = StatusCode::from_u16(self.status).map(|status| status.to_string());
        let status = status.unwrap_or_else(|_| self.status.to_string());
        let snippet = self.text_snippet();
        if snippet.is_empty() { status } else { format!("{status}: {snippet}") }
    }

    fn unreadable(&self, error: &serde_json::Error) -> Fault {
        let Self { status, url, .. } = self;
        let kind = self.header(CONTENT_TYPE.as_str()).unwrap_or("no content type");
        let got = format!("GET {url}: {status} {}", self.clean(kind));
        if self.body.is_empty() {
            return Fault::retry(format!("{got}: empty body instead of JSON"));
        }
        match error.classify() {
            serde_json::error::Category::Eof => {
                let bytes = self.body.len();
                Fault::retry(format!("{got}: the JSON breaks off after {bytes} bytes ({error})"))
            }
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                Fault::retry(format!("{got}: not JSON ({error}): {}", self.text_snippet()))
            }
            serde_json::error::Category::Data => {
                let place = offset(&self.body, error.line(), error.column());
                // What stands before the place says which record and field it is.
                let near = self.snippet(place.saturating_sub(SNIPPET_CHARS / 2));
                let error = self.clean(&error.to_string());
                Fault::fail(format!("{got}: JSON of another shape than expected: {error}, near: {near}"))
            }
        }
    }

    fn snippet(&self, from: usize) -> String {
        let from = from.min(self.body.len());
        let from = self.secret.as_ref().map_or(from, |secret| secret.not_within(&self.body, from));
        let end = self.body.len().min(from + SNIPPET_BYTES);
        one_line(&self.clean(&String::from_utf8_lossy(&self.body[from..end])))
    }

    fn clean(&self, text: &str) -> String {
        match &self.secret {
            Some(secret) => secret.mask(text),
            None => text.to_owned(),
        }
    }
}

/// Without the body, which is large, and without header values, which are not ours to show.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, url, body, .. } = self;
        write!(f, "Reply({status} {url}, {} bytes)", body.len())
    }
}

/// One line of at most [`SNIPPET_CHARS`]: control characters and runs of blanks become one blank.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut chars = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
            chars += 1;
        }
        for c in word.chars() {
            if chars >= SNIPPET_CHARS {
                line.push('…');
                return line;
            }
            line.push(c);
            chars += 1;
        }
    }
    line
}

/// Where `line` and `column` (both from 1, in bytes) are in `body`.
fn offset(body: &[u8], line: usize, column: usize) -> usize {
    let before: usize = body.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    before + column
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use reqwest::header::HeaderValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Page {
        bundles: Vec<Bundle>,
    }

    #[derive(Debug, Deserialize)]
    struct Bundle {
        #[allow(dead_code)]
        name: String,
        price: f64,
    }

    fn reply(content_type: &'static str, body: impl Into<Vec<u8>>) -> Reply {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Reply::new(200, headers, body.into(), "http://h/catalogue?page=1".into(), Some(Secret::from("hunter2")))
    }

    fn fault(content_type: &'static str, body: &str) -> Fault {
        reply(content_type, body).json::<Page>().unwrap_err()
    }

    #[test]
    fn good_json_is_read_whatever_its_content_type_says() {
        for content_type in ["application/json", "text/html", "text/plain"] {
            let page: Page = reply(content_type, r#"{"bundles":[{"name":"a","price":1.5}]}"#).json().unwrap();
            assert_eq!(page.bundles[0].price, 1.5);
        }
    }

    #[test]
    fn html_says_so_in_one_line() {
        let body = "<html>\r\n\t<body>\u{7}Down for   maintenance</body>\n</html>";
        assert_eq!(
            fault("text/html; charset=utf-8", body),
            Fault::retry(
                "GET http://h/catalogue?page=1: 200 text/html; charset=utf-8: not JSON (expected value at line 1 column \
                 1): <html> <body> Down for maintenance</body> </html>"
            )
        );
    }

    #[test]
    fn json_that_breaks_off_may_be_whole_another_time() {
        for body in ["{\"bundles\":[{\"name\":\"a\",", "", "{\"bundles\":[}"] {
            assert!(matches!(fault("application/json", body), Fault::Retry { after: None, .. }), "{body}");
        }
        let Fault::Retry { reason, .. } = fault("application/json", "{\"bundles\":[") else { panic!() };
        assert!(reason.contains("breaks off after 12 bytes"), "{reason}");
    }

    #[test]
    fn another_shape_fails_and_says_where() {
        let padding = "x".repeat(5000);
        let body = format!(
            "{{\n\"bundles\":[{{\"name\":\"{padding}\",\"price\":1}},\n{{\"name\":\"b\",\"price\":\"free\"}}]}}"
        );
        let Fault::Fail { reason } = fault("application/json", &body) else { panic!() };
        assert!(reason.contains("invalid type: string \"free\", expected f64 at line 3 column 26"), "{reason}");
        assert!(reason.contains("\"name\":\"b\",\"price\":\"free\""), "{reason}");
        assert!(reason.len() < 500 && !reason.contains('\n'), "{reason}");
    }

    #[test]
    fn a_secret_that_the_answer_repeats_is_not_shown() {
        let echo = format!("{}bad key hunter2 in {}", "z".repeat(100), "hunter2 ".repeat(500));
        assert!(!reply("text/plain", echo.clone()).text_snippet().contains("hunter"));
        assert!(!format!("{:?}", fault("text/plain", &echo)).contains("hunter"));
        let shape = r#"{"bundles":[{"name":"hunter2","price":"hunter2"}]}"#;
        let said = format!("{:?}", fault("application/json", shape));
        assert!(said.contains("***") && !said.contains("hunter"), "{said}");
        // The place of the error cuts the secret in two.
        for fill in 0..80 {
            let shape = format!(r#"{{"bundles":[{{"name":"hunter2{}","price":"x"}}]}}"#, "y".repeat(fill));
            let said = format!("{:?}", fault("application/json", &shape));
            assert!(!said.contains("nter2"), "{said}");
        }
    }

    #[test]
    fn a_snippet_is_short_and_clean() {
        let snippet = reply("", format!("a\0\u{1b}[31m\n{}", "ü".repeat(500))).text_snippet();
        assert_eq!(snippet.chars().count(), SNIPPET_CHARS + 1);
        assert!(snippet.starts_with("a [31m üü") && snippet.ends_with('…'));
        assert_eq!(reply("", vec![0xff, 0xfe, b'a']).text_snippet(), "\u{fffd}\u{fffd}a");
        assert_eq!(reply("", "").summary(), "200 OK");
        assert_eq!(reply("", "gone").summary(), "200 OK: gone");
    }
}
