//! Slugs: the name of a league in a URL, unique and the same for ever.
//!
//! A slug is made of country and name when a league is first seen. Where that is taken, the league's id goes behind it.
//! From then on it stays, whatever the league is called later; `league_slugs` remembers it even after the league has
//! vanished, so that nobody else gets it.

use std::collections::{HashMap, HashSet};

/// The slugs that were ever given.
#[derive(Clone, Debug, Default)]
pub struct Slugs {
    by_league: HashMap<i64, String>,
    taken: HashSet<String>,
}

impl Slugs {
    pub fn insert(&mut self, league: i64, slug: String) {
        self.taken.insert(slug.clone());
        self.by_league.insert(league, slug);
    }

    /// The league's slug; made now if it has none.
    pub fn of(&mut self, league: i64, country: &str, name: &str) -> String {
        if let Some(slug) = self.by_league.get(&league) {
            return slug.clone();
        }
        let mut slug = slug(country, name).unwrap_or_else(|| format!("league-{league}"));
        while self.taken.contains(&slug) {
            slug = format!("{slug}-{league}");
        }
        self.insert(league, slug.clone());
        slug
    }
}

/// `None` if nothing is left of the name.
fn slug(country: &str, name: &str) -> Option<String> {
    let (country, name) = (words(country), words(name));
    match (country.as_str(), name.as_str()) {
        (_, "") => None,
        ("", _) => Some(name),
        _ => Some(format!("{country}-{name}")),
    }
}

/// Letters and digits of ASCII, in lower case; everything between them is one hyphen.
fn words(text: &str) -> String {
    // What has no likeness in ASCII is left away, and not called "unknown".
    let ascii = deunicode::deunicode_with_tofu(text, "").to_ascii_lowercase();
    // An apostrophe parts no words: "women's" is "womens".
    let ascii = ascii.replace('\'', "");
    let words = ascii.split(|sign: char| !sign.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_script_become_slugs() {
        for (country, name, expected) in [
            ("England", "Premier League", Some("england-premier-league")),
            ("Northern-Ireland", "Women’s  Cup - Play-offs", Some("northern-ireland-womens-cup-play-offs")),
            ("Turkey", "Süper Lig", Some("turkey-super-lig")),
            ("Czech-Republic", "3. liga – ČFL A", Some("czech-republic-3-liga-cfl-a")),
            ("Turkmenistan", "Ýokary Liga", Some("turkmenistan-yokary-liga")),
            ("Poland", "Łódź & Wrocław", Some("poland-lodz-wroclaw")),
            ("Germany", "Straße", Some("germany-strasse")),
            ("Ukraine", "Прем'єр-ліга", Some("ukraine-premier-liga")),
            ("World", "—", None),
            ("", "Cup", Some("cup")),
        ] {
            assert_eq!(slug(country, name).as_deref(), expected, "{name}");
        }
        assert!(slug("Japan", "Jリーグ").is_some_and(|slug| slug.starts_with("japan-j")));
    }

    #[test]
    fn a_slug_is_unique_and_stays() {
        let mut slugs = Slugs::default();
        slugs.insert(5, "england-cup".to_owned());
        // League 5 was renamed; its slug stays, and nobody else gets it.
        assert_eq!(slugs.of(5, "England", "Trophy"), "england-cup");
        assert_eq!(slugs.of(9, "England", "Cup"), "england-cup-9");
        assert_eq!(slugs.of(9, "England", "Shield"), "england-cup-9");
        assert_eq!(slugs.of(7, "England", "Trophy"), "england-trophy");
        // Who is called like another one with its id gets out of its way.
        slugs.insert(1, "england-cup-11".to_owned());
        assert_eq!(slugs.of(11, "England", "Cup"), "england-cup-11-11");
        assert_eq!(slugs.of(12, "World", "⸻"), "league-12");
    }
}
