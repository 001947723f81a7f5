//! Promidata's files, as far as the products read them. GET only.
//!
//! ```text
//! fetch ──▶ Promidata ──▶ Hosts (those on the list, each with its rate, breaker, deadline) ──▶ promi-dl.de, images…
//! ```
//!
//! There is no key. What lets one in is the profile, a part of the addresses; so it is put into an address here, at the
//! last moment, and taken out of every text that comes in, before anybody sees it.
//!
//! What only Promidata means by a status is decided here, and nowhere above.

use std::sync::Arc;

use bytes::Bytes;
use longshore_actors::job::Fault;
use longshore_actors::limits::BadRate;
use reqwest::Url;

use crate::upstreams::{Cap, Hosts, Probe, Secret, Stream, Upstream, Validators};

/// The tree of live profiles; `<profile>/Import/Import.txt` is below it.
pub const BASE_URL: &str = "https://promi-dl.de/Profiles/Live";
/// Stands for the profile in whatever is stored or shown.
pub const PLACEHOLDER: &str = "{profile}";
/// The same within the path of an address.
const PLACEHOLDER_ENCODED: &str = "%7Bprofile%7D";

/// Cheap to clone.
#[derive(Clone)]
pub struct Promidata {
    inner: Arc<Inner>,
}

struct Inner {
    hosts: Hosts,
    base_url: String,
    profile: Secret,
    body: Cap,
    image: Cap,
}

impl Promidata {
    /// `base_url` is the tree below which the profile lies, at the base of `hosts`.
    pub fn new(hosts: Hosts, base_url: &str, profile: Secret, body_max: u64, image_max: u64) -> Self {
        let base_url = base_url.trim_end_matches('/').to_owned();
        let body = Cap { bytes: body_max, key: "body_max" };
        let image = Cap { bytes: image_max, key: "domains.products.image_max" };
        Self { inner: Arc::new(Inner { hosts, base_url, profile, body, image }) }
    }

    /// The upstream that has the list and the documents.
    pub fn base(&self) -> &Upstream {
        self.inner.hosts.base()
    }

    /// # Errors
    /// [`BadRate`], and the old rates stay.
    pub fn set_rate(&self, per_second: Option<f64>, burst: u32) -> Result<(), BadRate> {
        self.inner.hosts.set_rate(per_second, burst)
    }

    pub fn allows(&self, host: &str) -> bool {
        self.inner.hosts.allows(host)
    }

    /// `text` with `{profile}` for the profile.
    pub fn hide(&self, text: &str) -> String {
        match self.inner.profile.is_empty() {
            true => text.to_owned(),
            false => replace_in_any_case(text, self.inner.profile.expose(), PLACEHOLDER),
        }
    }

    /// The list, on its way; `None` when it is still the one of `since`.
    pub async fn list(&self, since: &Validators) -> Result<Option<Stream>, Fault> {
        let stream = self.open(&self.list_address(), since, self.inner.body).await?;
        match stream.status() {
            200..=299 => Ok(Some(stream)),
            304 => {
                stream.enough();
                Ok(None)
            }
            // S3 says 403 for what is not there.
            401 | 403 | 404 => {
                let refusal = stream.refusal().await;
                Err(Fault::fail(format!("{refusal}: check domains.products.profile (PROMIDATA_PROFILE) and base_url")))
            }
            _ => Err(Fault::fail(stream.refusal().await)),
        }
    }

    /// A file as text, its address with `{profile}`, and so the text. `what` is told when it is not there.
    pub async fn text(&self, address: &str, what: &str) -> Result<String, Fault> {
        let stream = self.open(address, &Validators::default(), self.inner.body).await?;
        let shown = stream.url().to_owned();
        let body = found(stream, what).await?.read().await?;
        let text = match String::from_utf8(body) {
            Ok(text) => text,
            // CAT.csv comes from spreadsheets.
            Err(error) if what == CATEGORIES => error.into_bytes().iter().map(|byte| char::from(*byte)).collect(),
            Err(_) => return Err(Fault::retry(format!("GET {shown}: bytes that are not UTF-8"))),
        };
        Ok(self.hide(&text))
    }

    /// An image as it is, below `image_max`.
    pub async fn image(&self, address: &str) -> Result<Bytes, Fault> {
        let stream = self.open(address, &Validators::default(), self.inner.image).await?;
        Ok(found(stream, "the image").await?.read().await?.into())
    }

    /// Whether the list can be had; nothing of it is read.
    pub async fn probe(&self) -> Probe {
        match self.address(&self.list_address()) {
            Ok((upstream, url)) => upstream.probe_at(url).await,
            Err(fault) => Probe { ok: false, took: Default::default(), reason: Some(fault.to_string()) },
        }
    }

    fn list_address(&self) -> String {
        format!("{}/{PLACEHOLDER}/Import/Import.txt", self.inner.base_url)
    }

    async fn open(&self, address: &str, since: &Validators, cap: Cap) -> Result<Stream, Fault> {
        let (upstream, url) = self.address(address)?;
        upstream.open(url, since, cap).await
    }

    /// The profile is put back into the path alone: nobody can have it sent, or told, as a part of a host.
    fn address(&self, address: &str) -> Result<(Upstream, Url), Fault> {
        let (upstream, mut url) = self.inner.hosts.of(address)?;
        let path = url.path().replace(PLACEHOLDER_ENCODED, self.inner.profile.expose());
        url.set_path(&path);
        Ok((upstream, url))
    }
}

/// What [`Promidata::text`] is asked for when it is the file of the categories.
pub const CATEGORIES: &str = "the file of the categories";

/// A GUID is the same in capitals. `word` is ASCII, so places in the lowered text are places in `text`.
fn replace_in_any_case(text: &str, word: &str, with: &str) -> String {
    let (lowered, word) = (text.to_ascii_lowercase(), word.to_ascii_lowercase());
    let (mut out, mut rest) = (String::with_capacity(text.len()), 0);
    for (at, found) in lowered.match_indices(&word) {
        out.push_str(&text[rest..at]);
        out.push_str(with);
        rest = at + found.len();
    }
    out.push_str(&text[rest..]);
    out
}

/// The answer if it is the file; gone is for good, whoever asks again.
async fn found(stream: Stream, what: &str) -> Result<Stream, Fault> {
    match stream.status() {
        200..=299 => Ok(stream),
        403 | 404 | 410 => {
            let refusal = stream.refusal().await;
            Err(Fault::fail(format!("{what} is gone: the list names it and the server does not have it ({refusal})")))
        }
        _ => Err(Fault::fail(stream.refusal().await)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use longshore_actors::events::Events;
    use longshore_actors::shutdown::Phases;

    use super::*;
    use crate::upstreams::UpstreamSettings;

    const PROFILE: &str = "849C892E-Recognisable";

    fn client() -> Promidata {
        let settings = UpstreamSettings::new("promidata", "http://127.0.0.1:9/Live/");
        let hosts = Hosts::new(settings, &[], Phases::default(), Events::new(1)).unwrap();
        Promidata::new(hosts, "http://127.0.0.1:9/Live/", Secret::from(PROFILE), 1 << 20, 1 << 20)
    }

    #[test]
    fn the_profile_stands_in_the_path_and_nowhere_else() {
        let client = client();
        let to = |address: &str| client.address(address).map(|(_, url)| url.to_string());
        let list = to(&client.list_address()).unwrap();
        assert_eq!(list, format!("http://127.0.0.1:9/Live/{PROFILE}/Import/Import.txt"));
        let hidden = client.hide(&format!("http://127.0.0.1:9/Live/{PROFILE}/A23/A23-1%20ü.json?v=1"));
        assert_eq!(hidden, "http://127.0.0.1:9/Live/{profile}/A23/A23-1%20ü.json?v=1");
        let shown = to(&hidden).unwrap();
        assert_eq!(shown, format!("http://127.0.0.1:9/Live/{PROFILE}/A23/A23-1%20%C3%BC.json?v=1"));
        assert_eq!(to("http://127.0.0.1:9/a?{profile}").unwrap(), "http://127.0.0.1:9/a?{profile}");
        for sly in
            ["http://{profile}.example/", "http://{profile}@127.0.0.1:9/", "{profile}", "http://evil.example/{profile}"]
        {
            let told = to(sly).unwrap_err().to_string();
            assert!(!told.to_lowercase().contains("recognisable"), "{told}");
        }
    }

    #[test]
    fn the_profile_is_hidden_in_any_case() {
        let client = client();
        let hidden = client.hide(&format!("http://127.0.0.1:9/Live/{}/A23/A23-1.json", PROFILE.to_lowercase()));
        assert!(!hidden.to_lowercase().contains("recognisable"), "{hidden}");
    }
}
