//! How badly the sandbox behaves: the dials, and what they decide for one request.
//!
//! Deciding is apart from doing: [`Dials::fate`] and [`Window::admit`] are pure, the endpoint carries them out.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::dice::Dice;

/// All zero by default: a fast, faultless upstream. Rates are fractions of all requests from 0 to 1, each rolled by
/// itself. In JSON a duration is a number of milliseconds or text with a unit (`"250ms"`, `"1.5s"`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dials {
    /// Before every answer.
    #[serde(with = "span")]
    pub latency: Duration,
    /// Up to this much more, evenly spread.
    #[serde(with = "span")]
    pub jitter: Duration,
    /// 500 with the recorded body.
    pub error_rate: f64,
    /// 429 with `Retry-After` for every request above this many in a second.
    pub limit_per_second: Option<u32>,
    pub slow_body: Option<SlowBody>,
    /// The connection is cut in the middle of the body.
    pub cut_rate: f64,
    /// 200 with half a JSON document, or with an HTML page.
    pub malformed_rate: f64,
    /// Never answered; the connection stays open until the client leaves.
    pub hang_rate: f64,
    /// 401 for a `perPage` above this, as users report.
    pub page_max: Option<u32>,
    /// Pages are bare arrays without counts, as the specification has it and the recorded answer has not.
    pub bare_list: bool,
    /// Of the bundles, for the next advance: get another price.
    pub changed: f64,
    /// Of the bundles, for the next advance: are gone.
    pub vanished: f64,
    /// Of the product families, for the next advance: get another document and hash.
    pub feed_changed: f64,
    /// Of the product families, for the next advance: are gone from `Import.txt`.
    pub feed_vanished: f64,
    /// Of the product families: listed, and 404 when they are fetched.
    pub feed_missing: f64,
    /// Of the requests for `Import.txt`: the connection is cut in the middle.
    pub feed_cut: f64,
    /// Of the requests for `Import.txt`: it ends cleanly in the middle of a line. Wins over `feed_cut`.
    pub feed_short: f64,
    /// Of the product families: have a bad line besides their good one.
    pub feed_bad_lines: f64,
    /// `Import.txt` with CR and LF.
    pub feed_crlf: bool,
    /// `CAT.csv` with a byte order mark, capitals in its header, and the columns in another order.
    pub csv_other_header: bool,
    /// Of the images: an HTML page with status 200.
    pub image_html: f64,
    /// Of the images: no bytes.
    pub image_empty: f64,
    /// Of the images: 500 MB.
    pub image_huge: f64,
    /// Of the images: an SVG with a script in it.
    pub image_svg: f64,
    /// API-Football answers so many counted requests, and then tells that the day's limit is reached.
    pub football_quota: Option<u32>,
    /// API-Football answers so many counted requests in a minute, and tells of too many above.
    pub football_per_minute: Option<u32>,
    /// API-Football answers every counted request with this error: `plan`, `access`, `bug`.
    pub football_error: Option<String>,
    /// API-Football's lists are empty, and nothing is said of it.
    pub football_empty: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowBody {
    /// Of all requests, from 0 to 1.
    pub fraction: f64,
    /// From the first byte to the last.
    #[serde(with = "span")]
    pub duration: Duration,
}

/// What becomes of a request that is neither refused nor over the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    Serve,
    Hang,
    Fail,
    Cut,
    /// Half of the JSON.
    Truncate,
    /// An HTML page with status 200, as a firewall in between sends it.
    Html,
    Slow(Duration),
}

impl Dials {
    /// Says which dial is out of its range.
    pub fn check(&self) -> Result<(), String> {
        let slow = self.slow_body.as_ref().map_or(0.0, |slow| slow.fraction);
        let rates = [
            ("error_rate", self.error_rate),
            ("cut_rate", self.cut_rate),
            ("malformed_rate", self.malformed_rate),
            ("hang_rate", self.hang_rate),
            ("changed", self.changed),
            ("vanished", self.vanished),
            ("slow_body.fraction", slow),
            ("feed_changed", self.feed_changed),
            ("feed_vanished", self.feed_vanished),
            ("feed_missing", self.feed_missing),
            ("feed_cut", self.feed_cut),
            ("feed_short", self.feed_short),
            ("feed_bad_lines", self.feed_bad_lines),
            ("image_html", self.image_html),
            ("image_empty", self.image_empty),
            ("image_huge", self.image_huge),
            ("image_svg", self.image_svg),
        ];
        match rates.into_iter().find(|(_, rate)| !(0.0..=1.0).contains(rate)) {
            Some((name, rate)) => Err(format!("{name} is {rate}, must be from 0 to 1")),
            None => Ok(()),
        }
    }

    /// The worst that is rolled wins.
    pub fn fate(&self, dice: &mut Dice) -> Fate {
        if dice.chance(self.hang_rate) {
            return Fate::Hang;
        }
        if dice.chance(self.error_rate) {
            return Fate::Fail;
        }
        if dice.chance(self.cut_rate) {
            return Fate::Cut;
        }
        if dice.chance(self.malformed_rate) {
            return if dice.chance(0.5) { Fate::Html } else { Fate::Truncate };
        }
        match &self.slow_body {
            Some(slow) if dice.chance(slow.fraction) => Fate::Slow(slow.duration),
            Some(_) | None => Fate::Serve,
        }
    }

    /// How long this request waits before it is answered.
    pub fn delay(&self, dice: &mut Dice) -> Duration {
        self.latency + self.jitter.mul_f64(dice.fraction())
    }
}

/// Counts requests in whole seconds, the first of which begins with the first request.
#[derive(Debug, Default)]
pub struct Window {
    since: Option<Instant>,
    admitted: u32,
}

impl Window {
    /// Admits a request, or says after how many seconds to come back. A refused request does not count.
    pub fn admit(&mut self, now: Instant, limit: u32) -> Result<(), u64> {
        const LENGTH: Duration = Duration::from_secs(1);
        let fresh = self.since.is_none_or(|since| now.saturating_duration_since(since) >= LENGTH);
        if fresh {
            *self = Self { since: Some(now), admitted: 0 };
        }
        if self.admitted >= limit {
            return Err(1);
        }
        self.admitted += 1;
        Ok(())
    }
}

/// Durations in JSON.
mod span {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a duration is milliseconds (250) or text with a unit (\"250ms\")")]
    enum Written {
        Millis(u64),
        Text(String),
    }

    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Millis(millis) => Ok(Duration::from_millis(millis)),
            Written::Text(text) => {
                let span: jiff::SignedDuration =
                    text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no duration such as \"250ms\"")))?;
                Duration::try_from(span).map_err(|_| D::Error::custom(format!("{text:?} is negative")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_are_milliseconds_or_text() {
        let dials: Dials = serde_json::from_str(
            r#"{"latency": 250, "jitter": "1.5s", "slow_body": {"fraction": 0.5, "duration": "40ms"}}"#,
        )
        .unwrap();
        assert_eq!(dials.latency, Duration::from_millis(250));
        assert_eq!(dials.jitter, Duration::from_millis(1_500));
        assert_eq!(dials.slow_body.as_ref().unwrap().duration, Duration::from_millis(40));
        let written = serde_json::to_string(&dials).unwrap();
        assert_eq!(serde_json::from_str::<Dials>(&written).unwrap(), dials);
        for wrong in [r#"{"latency": "soon"}"#, r#"{"latency": "-1s"}"#, r#"{"latencyy": 1}"#] {
            assert!(serde_json::from_str::<Dials>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_out_of_range_are_named() {
        assert_eq!(Dials::default().check(), Ok(()));
        let dials = Dials { cut_rate: 1.5, ..Dials::default() };
        assert_eq!(dials.check(), Err("cut_rate is 1.5, must be from 0 to 1".to_owned()));
        assert!(Dials { error_rate: f64::NAN, ..Dials::default() }.check().is_err());
    }

    #[test]
    fn fates_follow_their_dials() {
        let slow = SlowBody { fraction: 1.0, duration: Duration::from_secs(1) };
        let cases = [
            (Dials::default(), Fate::Serve),
            (Dials { hang_rate: 1.0, error_rate: 1.0, ..Dials::default() }, Fate::Hang),
            (Dials { error_rate: 1.0, cut_rate: 1.0, ..Dials::default() }, Fate::Fail),
            (Dials { cut_rate: 1.0, malformed_rate: 1.0, ..Dials::default() }, Fate::Cut),
            (Dials { slow_body: Some(slow), ..Dials::default() }, Fate::Slow(Duration::from_secs(1))),
        ];
        for (dials, fate) in cases {
            assert_eq!(dials.fate(&mut Dice::new(1, &[])), fate);
        }
        let dials = Dials { malformed_rate: 1.0, ..Dials::default() };
        let fates: Vec<Fate> = (0..50).map(|nth| dials.fate(&mut Dice::new(1, &[nth]))).collect();
        assert!(fates.contains(&Fate::Html) && fates.contains(&Fate::Truncate));
        assert!(fates.iter().all(|fate| matches!(fate, Fate::Html | Fate::Truncate)));
    }

    #[test]
    fn a_window_admits_its_limit_each_second() {
        let start = Instant::now();
        let mut window = Window::default();
        let admitted = |window: &mut Window, at: u64| {
            (0..10).filter(|_| window.admit(start + Duration::from_millis(at), 3).is_ok()).count()
        };
        assert_eq!(admitted(&mut window, 0), 3);
        assert_eq!(admitted(&mut window, 999), 0);
        assert_eq!(admitted(&mut window, 1_000), 3);
        assert_eq!(window.admit(start + Duration::from_millis(1_001), 3), Err(1));
    }
}
