//! What an exchange means: for the caller, for the breaker, for the bucket. Facts in, decision out.
//!
//! | what came | caller | breaker | bucket |
//! | --- | --- | --- | --- |
//! | no connection | `Unavailable` | bad | |
//! | deadline passed, answer cut off | `Retry` | bad | |
//! | 5xx | `Retry`, after `Retry-After` | bad | paused by `Retry-After` |
//! | 429 | `Retry`, after the pause | good: it answers | paused by `Retry-After`, or the default |
//! | body over the cap, redirect elsewhere | `Fail` | good | |
//! | anything else | the reply | good | |

use std::time::Duration;

use jiff::Timestamp;
use longshore_actors::job::Fault;
use reqwest::header::{DATE, RETRY_AFTER};

use super::exchange::{Broken, Cap};
use super::reply::Reply;

/// The longest pause that a server can order: a day, which covers a daily quota. A typing error of theirs must not
/// stop us for a year.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How soon a call that got no connection is worth another try while the breaker still lets it. It burns no attempt,
/// so without this a job would go round in a hot loop.
const CONNECT_RETRY: Duration = Duration::from_secs(1);

/// What to do about one exchange.
#[derive(Debug)]
pub(super) struct Verdict {
    pub result: Result<Reply, Fault>,
    /// Why the breaker should count a failure; `None` is a success.
    pub bad: Option<String>,
    /// No call with this credential for so long.
    pub pause: Option<Duration>,
}

/// The fixed facts about the upstream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub name: &'a str,
    /// The address that was asked, without secrets.
    pub url: &'a str,
    pub timeout: Duration,
    pub pause_default: Duration,
}

pub(super) fn judge(result: Result<Reply, Broken>, now: Timestamp, facts: Facts<'_>) -> Verdict {
    let Facts { name, url, timeout, pause_default } = facts;
    let at = |what: String| format!("GET {url}: {what}");
    let failed = |fault, bad| Verdict { result: Err(fault), bad, pause: None };
    match result {
        Ok(reply) => match reply.status() {
            429 => limited(reply, Some(pause_default), now),
            500.. => limited(reply, None, now),
            _ => Verdict { result: Ok(reply), bad: None, pause: None },
        },
        Err(Broken::Connect(cause)) => {
            let reason = at(format!("no connection: {cause}"));
            let what = name.to_owned();
            let fault = Fault::Unavailable { what, reason: reason.clone(), retry_in: Some(CONNECT_RETRY) };
            failed(fault, Some(reason))
        }
        Err(Broken::Timeout) => {
            let reason = at(format!("no whole answer within {timeout:?}"));
            failed(Fault::retry(reason.clone()), Some(reason))
        }
        Err(Broken::Cut(cause)) => {
            let reason = at(format!("the answer was cut off: {cause}"));
            failed(Fault::retry(reason.clone()), Some(reason))
        }
        Err(Broken::Redirect(cause)) => failed(Fault::fail(at(cause)), None),
        Err(Broken::TooLarge { said, cap: Cap { bytes: cap, key } }) => {
            let size = said.map_or_else(|| format!("more than {cap}"), |said| said.to_string());
            failed(Fault::fail(at(format!("a body of {size} bytes, over the cap of {cap} ({key})"))), None)
        }
    }
}

/// A 429 or a 5xx; `pause` is what holds when the server does not say for how long.
fn limited(reply: Reply, pause: Option<Duration>, now: Timestamp) -> Verdict {
    let server_now = reply.header(DATE.as_str()).and_then(http_date).unwrap_or(now);
    let after = reply.header(RETRY_AFTER.as_str()).and_then(|value| retry_after(value, server_now)).or(pause);
    let reason = format!("GET {}: {}", reply.url(), reply.summary());
    let bad = (reply.status() >= 500).then(|| reason.clone());
    Verdict { result: Err(Fault::Retry { reason, after }), bad, pause: after }
}

/// Seconds or a date (RFC 9110, 10.2.3); fractions of a second occur in the wild. `now` is the server's clock when it
/// told us, so that a difference between the clocks does no harm. `None` is a value that says nothing.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse::<f64>() {
        Ok(seconds) if seconds.is_sign_negative() || seconds.is_nan() => return None,
        Ok(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or(PAUSE_MAX),
        Err(_) => Duration::try_from(http_date(value)?.duration_since(now)).unwrap_or(Duration::ZERO),
    };
    Some(wait.min(PAUSE_MAX))
}

fn http_date(value: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(value).ok().map(|date| date.timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    const FACTS: Facts<'_> = Facts {
        name: "catalog",
        url: "http://h/p",
        timeout: Duration::from_secs(30),
        pause_default: Duration::from_secs(5),
    };

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Verdict {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect::<HeaderMap>();
        judge(Ok(Reply::new(status, headers, b"why".to_vec(), "http://h/p".into(), None)), now(), FACTS)
    }

    #[test]
    fn every_status_has_its_verdict() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (status, headers, passed_on, bad, pause) in [
            (200, &[][..], true, false, None),
            (304, &[], true, false, None),
            (400, &[], true, false, None),
            (403, &[("retry-after", "7")], true, false, None),
            (404, &[], true, false, None),
            (429, &[], false, false, seconds(5)),
            (429, &[("retry-after", "7")], false, false, seconds(7)),
            (429, &[("retry-after", "soon")], false, false, seconds(5)),
            (500, &[], false, true, None),
            (503, &[], false, true, None),
            (503, &[("retry-after", "120")], false, true, seconds(120)),
            (599, &[], false, true, None),
        ] {
            let verdict = answer(status, headers);
            assert_eq!(verdict.result.is_ok(), passed_on, "{status}");
            assert_eq!(verdict.bad.is_some(), bad, "{status}");
            assert_eq!(verdict.pause, pause, "{status}");
            if let Err(fault) = verdict.result {
                let Fault::Retry { reason, after } = fault else { panic!("{status}: {fault:?}") };
                assert_eq!(after, pause);
                assert!(reason.starts_with(&format!("GET http://h/p: {status} ")) && reason.ends_with(": why"));
            }
        }
    }

    #[test]
    fn every_break_has_its_verdict() {
        let judged = |broken| judge(Err(broken), now(), FACTS);
        let verdict = judged(Broken::Connect("Connection refused".into()));
        let Err(Fault::Unavailable { what, retry_in: Some(_), .. }) = verdict.result else { panic!() };
        assert_eq!((what.as_str(), verdict.bad.is_some()), ("catalog", true));
        for broken in [Broken::Timeout, Broken::Cut("end of file".into())] {
            let verdict = judged(broken);
            assert!(matches!(verdict.result, Err(Fault::Retry { after: None, .. })) && verdict.bad.is_some());
        }
        let cap = Cap { bytes: 100, key: "body_max" };
        for (broken, says) in [
            (Broken::Redirect("redirected to http://x".into()), "GET http://h/p: redirected to http://x"),
            (Broken::TooLarge { said: Some(200), cap }, "a body of 200 bytes, over the cap of 100 (body_max)"),
            (Broken::TooLarge { said: None, cap }, "a body of more than 100 bytes"),
        ] {
            let verdict = judged(broken);
            let Err(Fault::Fail { reason }) = verdict.result else { panic!() };
            assert!(reason.contains(says) && verdict.bad.is_none(), "{reason}");
        }
    }

    #[test]
    fn retry_after_is_read_in_each_form() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (value, expected) in [
            ("0", seconds(0)),
            (" 120 ", seconds(120)),
            ("1.5", Some(Duration::from_millis(1500))),
            ("Sun, 22 Nov 2026 10:00:30 GMT", seconds(30)),
            ("Sun, 22 Nov 2026 09:00:00 GMT", seconds(0)),
            ("Sun, 22 Nov 2099 10:00:00 GMT", Some(PAUSE_MAX)),
            ("99999999999999999999999", Some(PAUSE_MAX)),
            ("inf", Some(PAUSE_MAX)),
            ("-1", None),
            ("NaN", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now()), expected, "{value:?}");
        }
        // Their clock is an hour behind ours.
        let date = [("date", "Sun, 22 Nov 2026 09:00:00 GMT"), ("retry-after", "Sun, 22 Nov 2026 09:00:10 GMT")];
        assert_eq!(answer(503, &date).pause, seconds(10));
    }
}
