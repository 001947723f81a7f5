//! Text that cannot be printed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// What a secret looks like wherever it could be seen.
pub const MASK: &str = "***";

/// A key, token or password. It has no `Display`, its `Debug` is [`MASK`], it cannot be serialised, and its memory is
/// wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself: for the header that carries it, and for nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The empty text is no secret: it is how a file or the environment says that there is none.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(if text.is_empty() { None } else { Some(Secret::new(text)) })
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
    use super::*;

    #[test]
    fn a_secret_shows_nothing() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_password_in_an_address_is_masked() {
        assert_eq!(mask_password("postgres://me:p@ss@db:5432/x?y=z"), "postgres://me:***@db:5432/x?y=z");
        assert_eq!(mask_password("postgres://me@db/x"), "postgres://me@db/x");
        assert_eq!(mask_password("sqlite://data/longshore.db"), "sqlite://data/longshore.db");
    }
}
