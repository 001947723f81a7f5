//! When a schedule fires: a pure function from an instant to the next one.
//!
//! A cron expression has five fields (minute, hour, day of month, month, day of week) or six with seconds in front,
//! and is read in a time zone. `L`, `#`, `W`, names of days and months, and `@daily` and its like are understood; day
//! of month and day of week together mean "either", as in Vixie's cron.
//!
//! What happens when the clocks change (the instants below are in the tests; the rules are those of Vixie's cron):
//!
//! | rule                         | clocks go forward, 02:00 → 03:00     | clocks go back, 02:00 → 01:00                |
//! |------------------------------|--------------------------------------|----------------------------------------------|
//! | fixed time in the gap        | once, at 03:00, the end of the gap   | once                                         |
//! | fixed time, repeated hour    | once                                 | once, at the first of the two                |
//! | `*` or `*/n` in a time field | the times that do not exist are left out, the others stay in order | every one of them, in order, both hours |
//! | [`When::Every`]              | knows no time zone: the same distance always | the same                             |
//!
//! What it does not do: remember. What was fired is known to the store alone.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use longshore_actors::clock::Timestamp;

/// Longer than any expression a person writes; a full list of all minutes has 169 characters.
const EXPRESSION_MAX: usize = 200;

/// A shorter interval is a loop, not a schedule.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// A longer one would never be seen to fire.
const EVERY_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The instants of a schedule, to the second. Made by [`When::cron`] and [`When::every`], which check.
#[derive(Clone, Debug)]
pub enum When {
    Cron {
        expr: Box<Cron>,
        zone: TimeZone,
    },
    /// Multiples of this since the Unix epoch, so that a restart does not shift them.
    Every(Duration),
}

/// Why this is no schedule, in words for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhenError {
    #[error("cron expression {expr:?}: {reason}")]
    Expression { expr: String, reason: String },
    #[error("unknown time zone {0:?}: use a name such as \"Europe/Berlin\" or \"UTC\"")]
    Zone(String),
    #[error("an interval is from 1 second to 10 years, not {0:?}")]
    Interval(Duration),
}

impl When {
    /// Reads a cron expression in a zone of the IANA database.
    pub fn cron(expr: &str, zone: &str) -> Result<Self, WhenError> {
        let zone = TimeZone::get(zone).map_err(|_| WhenError::Zone(zone.to_owned()))?;
        let refuse = |reason: String| WhenError::Expression { expr: expr.chars().take(80).collect(), reason };
        bounded(expr).map_err(refuse)?;
        // A year would make schedules that end, and a six-field expression ambiguous.
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let parsed = parser.parse(expr).map_err(|error| refuse(error.to_string()))?;
        let when = When::Cron { expr: Box::new(parsed), zone };
        // Without years the calendar repeats, so what does not occur after one instant never does (31 February).
        match when.next_after(Timestamp(0)) {
            Some(_) => Ok(when),
            None => Err(refuse("no such day ever comes".to_owned())),
        }
    }

    pub fn every(interval: Duration) -> Result<Self, WhenError> {
        if interval < EVERY_MIN || interval > EVERY_MAX {
            return Err(WhenError::Interval(interval));
        }
        Ok(When::Every(interval))
    }

    /// The first instant later than `after`; `None` past the end of the calendar.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            When::Cron { expr, zone } => {
                let found = expr.find_next_occurrence(&zoned(after, zone)?, false).ok()?;
                Some(Timestamp(found.timestamp().as_millisecond()))
            }
            When::Every(interval) => {
                let every = millis(*interval);
                after.0.div_euclid(every).checked_add(1)?.checked_mul(every).map(Timestamp)
            }
        }
    }

    /// The last instant not later than `until`.
    pub fn last_until(&self, until: Timestamp) -> Option<Timestamp> {
        match self {
            When::Cron { expr, zone } => {
                let found = expr.find_previous_occurrence(&zoned(until, zone)?, true).ok()?;
                Some(Timestamp(found.timestamp().as_millisecond()))
            }
            When::Every(interval) => {
                let every = millis(*interval);
                until.0.div_euclid(every).checked_mul(every).map(Timestamp)
            }
        }
    }

    /// The name of the time zone; intervals have none.
    pub fn zone(&self) -> Option<&str> {
        match self {
            When::Cron { zone, .. } => zone.iana_name(),
            When::Every(_) => None,
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Cron { expr, .. } => f.write_str(expr.as_str()),
            When::Every(interval) => write!(f, "every {interval:?}"),
        }
    }
}

/// The same instants: same expression and zone, or same interval.
impl PartialEq for When {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string() && self.zone() == other.zone()
    }
}

/// Whole seconds, as that is what an expression speaks of.
fn zoned(at: Timestamp, zone: &TimeZone) -> Option<jiff::Zoned> {
    jiff::Timestamp::from_second(at.0.div_euclid(1000)).ok().map(|at| at.to_zoned(zone.clone()))
}

/// [`When::every`] holds it within 10 years; one made by hand is at least not a division by zero.
fn millis(interval: Duration) -> i64 {
    i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// Refuses what the parser would take a long time over, or take for something else.
fn bounded(expr: &str) -> Result<(), String> {
    if expr.len() > EXPRESSION_MAX {
        return Err(format!("longer than {EXPRESSION_MAX} characters"));
    }
    if let Some(odd) = expr.chars().find(|c| !(c.is_ascii_alphanumeric() || " \t*/,-#?@".contains(*c))) {
        return Err(format!("{odd:?} has no place in it"));
    }
    if let Some(nickname) = expr.trim().strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        return match known.iter().any(|name| nickname.eq_ignore_ascii_case(name)) {
            true => Ok(()),
            false => Err(format!("unknown nickname: use one of @{}", known.join(", @"))),
        };
    }
    let fields = expr.split_whitespace().count();
    if !(5..=6).contains(&fields) {
        return Err(format!("{fields} fields, where 5 or 6 (seconds in front) are expected"));
    }
    for part in expr.split_whitespace().flat_map(|field| field.split(',')) {
        // The parser drops an empty entry without a word, and a field of nothing else would never match.
        if part.is_empty() {
            return Err("an empty entry in a list".to_owned());
        }
        if let Some(number) = part.split(|c: char| !c.is_ascii_digit()).find(|number| number.len() > 4) {
            return Err(format!("{number} is out of any range"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    /// The fires after `from`, in the zone's own time with its offset.
    fn fires(expr: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let when = When::cron(expr, zone).unwrap();
        let mut now = at(from);
        let mut found = Vec::new();
        for _ in 0..count {
            now = when.next_after(now).unwrap();
            let zoned = jiff::Timestamp::from_millisecond(now.0).unwrap().to_zoned(TimeZone::get(zone).unwrap());
            found.push(zoned.strftime("%m-%d %H:%M%:z").to_string());
        }
        found
    }

    #[test]
    fn new_york_springs_forward() {
        // 2026-03-08, 02:00-05:00 becomes 03:00-04:00.
        assert_eq!(
            fires("30 2 * * *", "America/New_York", "2026-03-07T00:00:00Z", 3),
            ["03-07 02:30-05:00", "03-08 03:00-04:00", "03-09 02:30-04:00"]
        );
        assert_eq!(
            fires("*/15 * * * *", "America/New_York", "2026-03-08T06:29:00Z", 4),
            ["03-08 01:30-05:00", "03-08 01:45-05:00", "03-08 03:00-04:00", "03-08 03:15-04:00"]
        );
    }

    #[test]
    fn new_york_falls_back() {
        // 2026-11-01, 02:00-04:00 becomes 01:00-05:00.
        assert_eq!(
            fires("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2),
            ["11-01 01:30-04:00", "11-02 01:30-05:00"]
        );
        assert_eq!(
            fires("*/15 * * * *", "America/New_York", "2026-11-01T05:29:00Z", 7),
            [
                "11-01 01:30-04:00",
                "11-01 01:45-04:00",
                "11-01 01:00-05:00",
                "11-01 01:15-05:00",
                "11-01 01:30-05:00",
                "11-01 01:45-05:00",
                "11-01 02:00-05:00"
            ]
        );
    }

    #[test]
    fn berlin_both_ways() {
        // 2026-03-29, 02:00+01:00 becomes 03:00+02:00; 2026-10-25, 03:00+02:00 becomes 02:00+01:00.
        assert_eq!(
            fires("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            ["03-29 03:00+02:00", "03-30 02:30+02:00"]
        );
        assert_eq!(
            fires("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["10-25 02:30+02:00", "10-26 02:30+01:00"]
        );
    }

    #[test]
    fn intervals_are_anchored_at_the_epoch() {
        let when = When::every(Duration::from_secs(300)).unwrap();
        assert_eq!(when.next_after(Timestamp(0)), Some(Timestamp(300_000)));
        assert_eq!(when.next_after(Timestamp(299_999)), Some(Timestamp(300_000)));
        assert_eq!(when.next_after(Timestamp(300_000)), Some(Timestamp(600_000)));
        assert_eq!(when.last_until(Timestamp(599_999)), Some(Timestamp(300_000)));
        assert_eq!(when.next_after(Timestamp(i64::MAX)), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_a_reason() {
        let reasons = [
            ("0 0 1--100000000 * *", "out of any range"),
            ("0 0 1-2-3 * *", ""),
            ("0 0 31 2 *", "no such day"),
            ("61 * * * *", ""),
            (", * * * *", "empty entry"),
            ("1,,2 * * * *", "empty entry"),
            ("* * * *", "4 fields"),
            ("0 0 1 1 * * 2030", "7 fields"),
            ("@reboot", "unknown nickname"),
            ("", "0 fields"),
            ("0 0 * * ☃", "no place"),
            ("*/0 * * * *", ""),
        ];
        for (expr, reason) in reasons {
            let error = When::cron(expr, "UTC").unwrap_err().to_string();
            assert!(error.contains(reason), "{expr}: {error}");
        }
        let long = format!("{} * * * *", "1,".repeat(200));
        assert!(When::cron(&long, "UTC").unwrap_err().to_string().contains("longer than 200"));
        assert_eq!(When::cron("@daily", "Mars/Olympus").unwrap_err(), WhenError::Zone("Mars/Olympus".into()));
        assert!(When::every(Duration::from_millis(10)).is_err());
        assert!(When::cron("@monthly", "UTC").is_ok());
        assert!(When::cron("0 3 L * *", "UTC").is_ok());
        assert!(When::cron("*/10 0 3 * * MON#1", "UTC").is_ok());
    }

    #[test]
    fn an_expression_shows_as_it_was_written() {
        let when = When::cron("0 3 1 * *", "Europe/Berlin").unwrap();
        assert_eq!((when.to_string(), when.zone()), ("0 3 1 * *".to_owned(), Some("Europe/Berlin")));
        assert_eq!(When::every(Duration::from_secs(300)).unwrap().to_string(), "every 300s");
    }

    fn expressions() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "30 2 * * *",
            "30 1 * * *",
            "*/15 * * * *",
            "0 * * * *",
            "0 0 1 * *",
            "15,45 1-3 * * *",
            "0 3 L * *",
            "59 2 * * SUN",
            "*/20 30 2 * * *",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// Forward and backward agree on which instants there are, also around the two changes of 2026.
        #[test]
        fn the_way_back_meets_the_way_there(
            expr in expressions(),
            zone in prop::sample::select(vec!["America/New_York", "Europe/Berlin", "UTC", "Australia/Lord_Howe"]),
            near in prop::sample::select(vec![
                "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z", "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z",
                "2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z",
            ]),
            off in -100_000_000i64..100_000_000,
        ) {
            let when = When::cron(expr, zone).unwrap();
            let from = Timestamp(at(near).0 + off);
            let next = when.next_after(from).unwrap();
            prop_assert!(next > from);
            prop_assert_eq!(when.last_until(next), Some(next));
            prop_assert_eq!(when.last_until(Timestamp(next.0 + 1)), Some(next));
            let before = when.last_until(Timestamp(next.0 - 1)).unwrap();
            prop_assert!(before <= from, "{:?} lies between {:?} and {:?}", before, from, next);
            prop_assert_eq!(when.next_after(before), Some(next));
        }

        /// Whatever is typed, the answer comes and is bounded.
        #[test]
        fn no_expression_hurts(expr in "[0-9*/,#LW@A-Z -]{0,40}") {
            if let Ok(when) = When::cron(&expr, "UTC") {
                prop_assert!(when.next_after(Timestamp(1_800_000_000_000)).is_some());
            }
        }
    }
}
