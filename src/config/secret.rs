//! A secret that cannot be printed.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// What a secret looks like wherever it could be seen.
pub const MASK: &str = "***";

/// A key, a token, a password. Wiped from memory with its last clone.
#[derive(Clone)]
pub struct Secret(Arc<SecretString>);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Arc::new(SecretString::from(secret.into())))
    }

    pub fn is_empty(&self) -> bool {
        self.0.expose_secret().is_empty()
    }

    /// The secret itself. For the one place that hands it to the other side, and no other.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// `text` with the secret blotted out, for texts that others wrote: some services answer with the key they got.
    pub fn mask(&self, text: &str) -> String {
        if self.is_empty() { text.to_owned() } else { text.replace(self.expose(), MASK) }
    }

    /// `place`, or the start of the secret that a cut there would leave in two parts, neither of which is known for it.
    pub fn not_within(&self, text: &[u8], place: usize) -> usize {
        let secret = self.expose().as_bytes();
        let mut before = place.saturating_sub(secret.len().saturating_sub(1))..place;
        before.find(|start| text[*start..].starts_with(secret)).unwrap_or(place)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self::new(secret)
    }
}

/// Written as the mask, so that a configuration can be shown.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Takes strings only. Serde's own complaint about a wrong type quotes the value, which may be the secret without its
/// quotes; hence a word for each type that a configuration can hold.
struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret as a string in quotes")
    }

    fn visit_str<E: de::Error>(self, secret: &str) -> Result<Secret, E> {
        Ok(Secret::new(secret))
    }

    fn visit_string<E: de::Error>(self, secret: String) -> Result<Secret, E> {
        Ok(Secret::new(secret))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(no_string())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(no_string())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(no_string())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(no_string())
    }
}

fn no_string<E: de::Error>() -> E {
    E::custom("a secret is written as a string in quotes")
}

/// The empty text is no secret: it is how a file or the environment says that there is none.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let secret = Secret::deserialize(deserializer)?;
    Ok(Some(secret).filter(|secret| !secret.is_empty()))
}

/// `postgres://me:secret@host/db` → `postgres://me:***@host/db`; other texts stay as they are.
pub fn mask_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split('/').next().unwrap_or(rest);
    let Some((user, host)) = authority.rsplit_once('@') else { return text.to_owned() };
    let name = user.split_once(':').map_or(user, |(name, _)| name);
    let tail = &rest[authority.len()..];
    let password = if user.contains(':') { format!(":{MASK}") } else { String::new() };
    format!("{scheme}://{name}{password}@{host}{tail}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn no_form_shows_it() {
        let secret = Secret::from("sk_12345");
        let written = serde_json::to_string(&secret).unwrap();
        assert_eq!(
            format!("{secret} {secret:?} {secret:#?} {:?} {written}", Some(&secret)),
            "*** *** *** Some(***) \"***\""
        );
        assert_eq!(secret.expose(), "sk_12345");
        assert_eq!(secret.mask("no such key: sk_12345!"), "no such key: ***!");
        assert_eq!(Secret::from("").mask("text"), "text");
    }

    #[test]
    fn a_cut_does_not_go_through_it() {
        let text = b"key=sk_12345;";
        let places: Vec<_> = (0..text.len()).map(|place| Secret::from("sk_12345").not_within(text, place)).collect();
        assert_eq!(places, [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4, 12]);
        assert_eq!(Secret::from("").not_within(text, 5), 5);
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_quoted_in_the_error() {
        assert_eq!(serde_json::from_str::<Secret>("\"key\"").unwrap().expose(), "key");
        for wrong in ["98765", "-98765", "98765.5", "true", "null", "[98765]", "{\"98765\": 1}"] {
            let error = serde_json::from_str::<Secret>(wrong).unwrap_err().to_string();
            assert!(error.contains("string in quotes") && !error.contains("98765"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_masked() {
        assert_eq!(mask_password("postgres://me:p@ss@db:5432/x?y=z"), "postgres://me:***@db:5432/x?y=z");
        assert_eq!(mask_password("postgres://me@db/x"), "postgres://me@db/x");
        assert_eq!(mask_password("sqlite://data/longshore.db"), "sqlite://data/longshore.db");
    }
}
