//! One generation of the feed: which families it lists, in which version, and the text of `Import.txt`.
//!
//! ```text
//! Import.txt = URL of CAT.csv │ a line for each generated family, shuffled, bad ones between │ extra lines
//!              └──────────────────── put together for each request ──────────────────────────┘ made as they are sent
//! ```
//!
//! A million extra lines are never held: all of them have the same length, so any piece of that text can be made from
//! where it begins. A generation never changes; the next one is another value.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use actix_web::web::Bytes;

use super::PROFILE;
use super::expected::{BadLine, ExpectedBadLine};
use super::family::{Family, IMAGES_EACH};
use super::images::Images;
use crate::sandbox::dials::Dials;
use crate::sandbox::dice::Dice;

/// Extra families and very small feeds need some images too.
const IMAGES_MIN: u32 = 70;

/// Nobody is there.
const OTHER_HOST: &str = "http://feed.invalid";

pub struct Feed {
    pub generation: u64,
    pub seed: u64,
    /// Number and version, in the order of the lines.
    listed: Vec<(u32, u32)>,
    /// Places in `listed`.
    by_sku: HashMap<String, usize>,
    /// Families beyond the generated ones.
    pub extras: u32,
    /// `feed_changed` at each advance: an extra family knows its version from them.
    steps: Vec<f64>,
    pub images: Arc<Images>,
}

/// The next generation, and how many families differ from the one before; extra ones are not counted.
pub struct Step {
    pub feed: Feed,
    pub changed: usize,
    pub vanished: usize,
}

impl Feed {
    pub fn new(seed: u64, families: u32, extras: u32) -> Self {
        let mut listed: Vec<(u32, u32)> = (0..families).map(|number| (number, 1)).collect();
        listed.sort_by_cached_key(|&(number, _)| Dice::new(seed, &[0x0d, u64::from(number)]).roll());
        let images = Arc::new(Images::new((families * IMAGES_EACH).max(IMAGES_MIN)));
        let feed = Self { generation: 1, seed, listed, by_sku: HashMap::new(), extras, steps: Vec::new(), images };
        feed.indexed()
    }

    fn indexed(mut self) -> Self {
        self.by_sku = self.families().map(|family| family.sku()).zip(0..).collect();
        self
    }

    /// Takes away `feed_vanished` of the families, then changes `feed_changed` of the rest: exact fractions, rounded.
    /// Extra families never vanish, and change by chance.
    pub fn advance(&self, dials: &Dials) -> Step {
        let generation = self.generation + 1;
        let share = |fraction: f64, of: usize| ((fraction.clamp(0.0, 1.0) * of as f64).round() as usize).min(of);
        let order = |salt: u64, number: u32| Dice::new(self.seed, &[generation, salt, u64::from(number)]).roll();
        let chosen = |salt: u64, count: usize, of: &[(u32, u32)]| {
            let mut numbers: Vec<u32> = of.iter().map(|&(number, _)| number).collect();
            numbers.sort_by_cached_key(|&number| order(salt, number));
            numbers.truncate(count);
            numbers.sort_unstable();
            numbers
        };
        let gone = chosen(1, share(dials.feed_vanished, self.listed.len()), &self.listed);
        let mut listed = self.listed.clone();
        listed.retain(|(number, _)| gone.binary_search(number).is_err());
        let changed = chosen(2, share(dials.feed_changed, listed.len()), &listed);
        for (number, version) in &mut listed {
            *version += u32::from(changed.binary_search(number).is_ok());
        }
        let mut steps = self.steps.clone();
        steps.push(dials.feed_changed);
        let (seed, extras, images) = (self.seed, self.extras, self.images.clone());
        let feed = Self { generation, seed, listed, by_sku: HashMap::new(), extras, steps, images };
        Step { feed: feed.indexed(), changed: changed.len(), vanished: gone.len() }
    }

    /// The generated ones, in the order of their lines.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        self.listed.iter().map(|&(number, version)| self.family(number, version, false))
    }

    /// One of the extra ones, by its number from 0.
    pub fn extra(&self, number: u32) -> Family {
        let changed = |(step, rate): &(usize, &f64)| {
            Dice::new(self.seed, &[*step as u64 + 2, 3, u64::from(number)]).chance(**rate)
        };
        let version = 1 + self.steps.iter().enumerate().filter(changed).count() as u32;
        self.family(number, version, true)
    }

    fn family(&self, number: u32, version: u32, extra: bool) -> Family {
        Family { seed: self.seed, number, version, extra, images: self.images.count() }
    }

    /// Finds a listed family.
    pub fn by_sku(&self, sku: &str) -> Option<Family> {
        if let Some(&at) = self.by_sku.get(sku) {
            let (number, version) = self.listed[at];
            return Some(self.family(number, version, false));
        }
        let number = sku.split_once("-X")?.1.parse().ok().filter(|&number: &u32| number < self.extras)?;
        Some(self.extra(number)).filter(|family| family.sku() == sku)
    }

    /// Whether it is listed and cannot be fetched; the same for every request.
    pub fn is_missing(&self, family: &Family, dials: &Dials) -> bool {
        family.dice(0x404).chance(dials.feed_missing)
    }

    /// 40 hex digits in upper case; another with each version, and at another address, which the document names in its
    /// images.
    pub fn hash(&self, family: &Family, origin: &str) -> String {
        let [a, b, c, d, ..] = *blake3::hash(origin.as_bytes()).as_bytes();
        let address = u64::from(u32::from_le_bytes([a, b, c, d])) << 32;
        let mut dice = family.dice((0x4a54 + u64::from(family.version)) ^ address);
        format!("{:016X}{:016X}{:08X}", dice.roll(), dice.roll(), dice.roll() >> 32)
    }

    pub fn image_url(&self, origin: &str, number: u32) -> String {
        format!("{origin}/promidata/images/{}", self.images.name(number))
    }

    fn line(&self, origin: &str, family: &Family) -> String {
        format!("{}|{}", document_url(origin, family), self.hash(family, origin))
    }

    /// The bad lines in the order in which they stand.
    pub fn bad_lines(&self, origin: &str, dials: &Dials) -> Vec<ExpectedBadLine> {
        let bad = self.lines(origin, dials).into_iter();
        bad.filter_map(|(line, reason)| Some(ExpectedBadLine { line, reason: reason? })).collect()
    }

    /// The lines of the generated families, and what is wrong with them. A line without a hash comes before the good
    /// one of its family, a duplicate at the end.
    fn lines(&self, origin: &str, dials: &Dials) -> Vec<(String, Option<BadLine>)> {
        let mut lines = Vec::with_capacity(self.listed.len());
        let mut again = Vec::new();
        for family in self.families() {
            let good = self.line(origin, &family);
            let mut dice = family.dice(0xbad);
            if dice.chance(dials.feed_bad_lines) {
                match dice.below(3) {
                    0 => lines.push((document_url(origin, &family), Some(BadLine::NoHash))),
                    1 => again.push((good.clone(), Some(BadLine::Duplicate))),
                    _ => {
                        let elsewhere = good.replacen(origin, OTHER_HOST, 1).replace(".json", "-ELSEWHERE.json");
                        lines.push((elsewhere, Some(BadLine::OtherHost)));
                    }
                }
            }
            lines.push((good, None));
        }
        lines.append(&mut again);
        lines
    }

    /// All of `Import.txt` but the extra lines.
    pub fn head(&self, origin: &str, dials: &Dials) -> Bytes {
        let end = line_end(dials);
        let mut head = format!("{origin}/promidata/{PROFILE}/Import/CAT.csv{end}");
        for (line, _) in self.lines(origin, dials) {
            head.push_str(&line);
            head.push_str(end);
        }
        Bytes::from(head)
    }

    pub fn extra_lines(self: &Arc<Self>, origin: &str, dials: &Dials) -> ExtraLines {
        let end = line_end(dials);
        // As long as any other.
        let length = self.line(origin, &self.extra(0)).len() + end.len();
        ExtraLines { feed: self.clone(), origin: origin.to_owned(), end, length: length as u64 }
    }

    /// Two answers to whom this is the same are the same.
    pub fn tag(&self, origin: &str, dials: &Dials) -> String {
        let told = format!("{} {} {origin} {} {}", self.seed, self.generation, dials.feed_crlf, dials.feed_bad_lines);
        let steps = format!("{} {:?} {:?}", self.extras, self.steps, self.listed);
        blake3::hash(format!("{told} {steps}").as_bytes()).to_hex()[..32].to_owned()
    }
}

fn line_end(dials: &Dials) -> &'static str {
    if dials.feed_crlf { "\r\n" } else { "\n" }
}

fn document_url(origin: &str, family: &Family) -> String {
    format!("{origin}/promidata/{PROFILE}/{}/{}.json", family.supplier().code, family.sku())
}

/// The text of the extra lines, made where it is read.
pub struct ExtraLines {
    feed: Arc<Feed>,
    origin: String,
    end: &'static str,
    /// Of each line, with its end.
    length: u64,
}

impl ExtraLines {
    pub fn len(&self) -> u64 {
        u64::from(self.feed.extras) * self.length
    }

    /// Some of the text from here on: at least one byte, unless it has ended.
    pub fn read(&self, from: u64, most: u64) -> Bytes {
        let to = (from + most).min(self.len());
        let (first, last) = (from / self.length, to.div_ceil(self.length));
        let mut text = Vec::with_capacity(((last.max(first) - first) * self.length) as usize);
        for number in first..last {
            let family = self.feed.extra(number as u32);
            write!(text, "{}{}", self.feed.line(&self.origin, &family), self.end)
                .expect("writing to a vector does not fail");
        }
        let skipped = first * self.length;
        Bytes::from(text).slice((from - skipped) as usize..(to - skipped) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_of_the_extra_lines_is_what_the_whole_has_there() {
        let feed = Arc::new(Feed::new(1, 3, 500));
        let lines = feed.extra_lines("http://localhost:1", &Dials { feed_crlf: true, ..Dials::default() });
        let whole = lines.read(0, u64::MAX / 2);
        assert_eq!(whole.len() as u64, lines.len());
        assert_eq!(whole.iter().filter(|&&byte| byte == b'\n').count(), 500);
        for (from, most) in [(0, 1), (1, 300), (777, 4_096), (lines.len() - 1, 10)] {
            let piece = lines.read(from, most);
            assert_eq!(piece, whole.slice(from as usize..from as usize + piece.len()));
            assert!(!piece.is_empty());
        }
    }

    #[test]
    fn an_advance_takes_exact_fractions() {
        let feed = Feed::new(1, 150, 2_000);
        let dials = Dials { feed_changed: 0.1, feed_vanished: 0.2, ..Dials::default() };
        let Step { feed: next, changed, vanished } = feed.advance(&dials);
        assert_eq!((changed, vanished, next.families().count()), (12, 30, 120));
        assert_eq!(next.families().filter(|family| family.version == 2).count(), 12);
        let extras = (0..2_000).filter(|&number| next.extra(number).version == 2).count();
        assert!((140..260).contains(&extras), "{extras}");
        assert_ne!(feed.tag("", &dials), next.tag("", &dials));
    }

    #[test]
    fn every_listed_sku_is_found() {
        let feed = Feed::new(4, 60, 60);
        for family in feed.families().chain((0..60).map(|number| feed.extra(number))) {
            assert_eq!(feed.by_sku(&family.sku()), Some(family));
        }
        for wrong in ["A23-X0000060", "A23-X0000001", "A24-X1", "A23-699999", "", "A24-K0001ic"] {
            assert_eq!(feed.by_sku(wrong), None, "{wrong}");
        }
    }
}
