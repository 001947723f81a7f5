//! Where files go: a folder, a bucket of S3 or one of Cloudflare R2, chosen by the form of the URL.
//!
//! | URL | place | endpoint, unless one is set | region |
//! | --- | --- | --- | --- |
//! | `file://data/objects`, `file:///abs/path` | a folder | | |
//! | `s3://bucket/prefix` | S3 | `https://s3.<region>.amazonaws.com` | as set |
//! | `r2://account/bucket/prefix` | R2 | `https://<account>.r2.cloudflarestorage.com` | always `auto` |
//! | `r2://account.eu/bucket` | R2 in a jurisdiction | `https://<account>.eu.r2.cloudflarestorage.com` | always `auto` |

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::config::domain::Breaker;
use crate::config::secret::{self, MASK, Secret, mask_password};
use crate::config::units;

/// What S3-compatible servers beside Amazon's take for granted.
const REGION_OF_OTHERS: &str = "us-east-1";
/// R2 knows no other.
const REGION_OF_R2: &str = "auto";
/// S3's bound is 1024 bytes for prefix and key together.
const PREFIX_MAX: usize = 200;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    pub url: ObjectsUrl,
    /// Of an S3-compatible server, or of a gateway before R2.
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Option<Url>,
    /// Of S3; R2 has one of its own.
    #[serde(deserialize_with = "region")]
    pub region: Option<String>,
    #[serde(deserialize_with = "secret::optional")]
    pub access_key: Option<Secret>,
    #[serde(deserialize_with = "secret::optional")]
    pub secret_key: Option<Secret>,
    /// Endpoints beyond loopback without TLS.
    pub allow_http: bool,
    /// Of one put, all its requests together.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// Bytes of one file.
    #[serde(deserialize_with = "units::size")]
    pub put_max: u64,
    pub breaker: Breaker,
}

impl Objects {
    /// Where a bucket is reached and the region that its requests are signed for; `None` for a folder, and for S3
    /// whose region is missing.
    pub fn address(&self) -> Option<(String, String)> {
        let set = self.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
        match &self.url.place {
            ObjectsPlace::Folder(_) => None,
            ObjectsPlace::S3 { .. } => match (set, self.region.clone()) {
                (Some(endpoint), region) => Some((endpoint, region.unwrap_or_else(|| REGION_OF_OTHERS.to_owned()))),
                (None, Some(region)) => Some((format!("https://s3.{region}.amazonaws.com"), region)),
                (None, None) => None,
            },
            ObjectsPlace::R2 { account, .. } => {
                let endpoint = set.unwrap_or_else(|| format!("https://{account}.r2.cloudflarestorage.com"));
                Some((endpoint, REGION_OF_R2.to_owned()))
            }
        }
    }
}

/// An address of the object store, with its text as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectsUrl {
    text: String,
    pub place: ObjectsPlace,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectsPlace {
    Folder(PathBuf),
    S3 {
        bucket: String,
        prefix: String,
    },
    R2 {
        /// The jurisdiction included: `account.eu`.
        account: String,
        bucket: String,
        prefix: String,
    },
}

impl ObjectsUrl {
    pub fn parse(text: &str) -> Result<Self, String> {
        // Keys of S3 hold slashes, so nothing tells where one written into the address would end.
        let shown = if text.contains('@') { format!("an address with {MASK}@") } else { format!("`{text}`") };
        let forms = "use file://folder, s3://bucket/prefix or r2://account/bucket/prefix";
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("{shown} names no object store; {forms}"))?;
        let placed = match scheme {
            "file" => folder(rest),
            "s3" => bucket(rest).map(|(bucket, prefix)| ObjectsPlace::S3 { bucket, prefix }),
            "r2" => r2(rest),
            _ => return Err(format!("{shown} names no object store; {forms}")),
        };
        let place = placed.map_err(|problem| format!("{shown}: {problem}"))?;
        Ok(Self { text: text.to_owned(), place })
    }
}

fn folder(path: &str) -> Result<ObjectsPlace, String> {
    if path.trim_matches('/').is_empty() || path.contains('\0') {
        return Err("names no folder; write it like file://data/objects or file:///srv/objects".to_owned());
    }
    Ok(ObjectsPlace::Folder(Path::new(path).to_owned()))
}

fn r2(rest: &str) -> Result<ObjectsPlace, String> {
    let (account, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let (id, jurisdiction) = account.split_once('.').map_or((account, None), |(id, place)| (id, Some(place)));
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Err("the account is missing or malformed; it is the id in R2's endpoint".to_owned());
    }
    if jurisdiction.is_some_and(|place| !matches!(place, "eu" | "fedramp")) {
        return Err("unknown jurisdiction; there are eu and fedramp".to_owned());
    }
    let (bucket, prefix) = bucket(rest)?;
    Ok(ObjectsPlace::R2 { account: account.to_owned(), bucket, prefix })
}

fn bucket(rest: &str) -> Result<(String, String), String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let named = (3..=63).contains(&bucket.len()) && bucket.chars().all(plain);
    if !named || !bucket.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("the bucket is missing or malformed; a name has 3 to 63 of a-z 0-9 - . _".to_owned());
    }
    let fits = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
    if !prefix.is_empty() && (prefix.len() > PREFIX_MAX || !prefix.split('/').all(fits)) {
        return Err(format!("the prefix is malformed; it has at most {PREFIX_MAX} of a-z A-Z 0-9 - . _ /"));
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

impl fmt::Display for ObjectsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ObjectsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectsUrl({self})")
    }
}

impl<'de> Deserialize<'de> for ObjectsUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ObjectsUrl::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The empty text is none.
fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let (shown, advice) = (mask_password(&text), "write it like \"https://minio.example.org:9000\"");
    let bad = |problem: &str| D::Error::custom(format!("`{shown}` {problem}: {advice}"));
    let url = Url::parse(&text).map_err(|error| bad(&format!("is not an address ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad("is not an address of http or https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("holds a user name or password; set access_key and secret_key instead"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("is more than scheme, host and port; bucket and prefix stand in objects.url"));
    }
    Ok(Some(url))
}

fn region<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    // It becomes part of a host's name and of a header.
    if !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Err(D::Error::custom(format!("`{text}` is not a region; write it like \"eu-central-1\"")));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Whether only this machine can answer there.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let address: Option<std::net::IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn place(text: &str) -> Result<ObjectsPlace, String> {
        ObjectsUrl::parse(text).map(|url| url.place)
    }

    #[test]
    fn the_form_of_the_url_chooses_the_place() {
        let s3 = |bucket: &str, prefix: &str| ObjectsPlace::S3 { bucket: bucket.into(), prefix: prefix.into() };
        let r2 = |account: &str, bucket: &str, prefix: &str| ObjectsPlace::R2 {
            account: account.into(),
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        for (text, expected) in [
            ("file://data/objects", ObjectsPlace::Folder("data/objects".into())),
            ("file:///srv/objects", ObjectsPlace::Folder("/srv/objects".into())),
            ("s3://images", s3("images", "")),
            ("s3://images/", s3("images", "")),
            ("s3://my.images/shop/2026/", s3("my.images", "shop/2026")),
            ("r2://0123abc/images", r2("0123abc", "images", "")),
            ("r2://0123abc.eu/images/shop", r2("0123abc.eu", "images", "shop")),
        ] {
            assert_eq!(place(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_names_no_place_is_told() {
        for (text, says) in [
            ("data/objects", "`data/objects` names no object store; use file://folder, s3://"),
            ("gs://bucket/x", "names no object store"),
            ("file://", "names no folder"),
            ("file:///", "names no folder"),
            ("s3://", "the bucket is missing"),
            ("s3://ab", "`s3://ab`: the bucket is missing or malformed"),
            ("s3://.images", "the bucket"),
            ("s3://images?x=1", "the bucket"),
            ("s3://images/../other", "the prefix is malformed"),
            ("s3://images//x", "the prefix"),
            ("s3://images/a b", "the prefix"),
            ("r2://account", "the bucket is missing"),
            ("r2://Acc_ount/images", "the account is missing or malformed"),
            ("r2:///images/x", "the account"),
            ("r2://account.mars/images", "unknown jurisdiction"),
        ] {
            let error = place(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        for keys in ["s3://AK:hunter/2@images", "r2://AK:hunter2@account/images", "s4://hunter2@x", "hunter2@images"] {
            let error = place(keys).unwrap_err();
            assert!(error.starts_with("an address with ***@") && !error.contains("hunter"), "{error}");
        }
    }
}
