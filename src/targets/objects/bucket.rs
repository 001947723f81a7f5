//! Files in a bucket of S3, of Cloudflare R2, or of another server that speaks their protocol.
//!
//! A put is a HEAD, which costs little and settles repeats, and then a PUT that the server refuses when the file has
//! come to be there meanwhile. The body goes whole with its hash in the signature: R2 answers 501 to streaming
//! signatures and to checksums in trailers. Nothing is retried here, since the caller waits better.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, ObjectStore, PutMode, PutOptions, RetryConfig};

use super::answer::{Answer, Heard, Listening, root_cause};
use super::key::{ObjectKey, disposition};
use super::{BucketSettings, OpenError, Put, Trouble};
use crate::store::batch::Object;

const CONNECT: Duration = Duration::from_secs(5);
/// Kept open while nothing is put: as many as upload actors are usual.
const IDLE_CONNECTIONS: usize = 8;
/// What a probe writes, and where.
const PROBE: (&str, &[u8]) = ("longshore-probe.txt", b"Longshore writes this file to see whether it can.\n");

pub(super) struct Bucket {
    store: AmazonS3,
    settings: BucketSettings,
    /// The server has said that it knows no If-None-Match. It goes without then: the same key is the same content.
    unconditional: AtomicBool,
}

impl Bucket {
    pub fn open(settings: &BucketSettings) -> Result<Self, OpenError> {
        let BucketSettings { shown, endpoint, region, bucket, prefix: _, access_key, secret_key } = settings;
        for (name, key) in [("access_key", access_key), ("secret_key", secret_key)] {
            if key.is_empty() {
                return Err(OpenError::NoKey(name, shown.clone()));
            }
        }
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let store = AmazonS3Builder::new()
            .with_http_connector(Listening { client: client(endpoint)? })
            .with_endpoint(endpoint)
            .with_region(region)
            .with_bucket_name(bucket)
            .with_access_key_id(access_key.expose())
            .with_secret_access_key(secret_key.expose())
            .with_retry(retry)
            .build()
            .map_err(|error| OpenError::Client(error.to_string()))?;
        Ok(Self { store, settings: settings.clone(), unconditional: AtomicBool::new(false) })
    }

    pub fn shown(&self) -> &str {
        &self.settings.shown
    }

    pub async fn put(&self, key: &ObjectKey, object: &Object) -> Result<Put, Trouble> {
        let Object { key: _, content_type, bytes } = object;
        let path = self.path(key.as_str())?;
        let write = async |mode| self.write(&path, content_type, bytes, mode).await;
        let trouble = |answer: Answer| self.trouble("PUT", &path, &answer);

        let wanted = bytes.len() as u64;
        let mut unknown = false;
        match self.size(&path).await? {
            Some(there) if there == wanted => return Ok(Put::Existing),
            // The key is made from the content, so this is not ours.
            Some(there) => {
                tracing::warn!(bucket = self.shown(), %key, there, wanted, "object of another size: written anew");
            }
            None if self.unconditional.load(Ordering::Relaxed) => {}
            None => match write(PutMode::Create).await {
                Ok(()) => return Ok(Put::New),
                Err(answer) if answer.status() == Some(412) => return Ok(Put::Existing),
                Err(answer) if answer.status() == Some(501) => unknown = true,
                Err(answer) => return Err(trouble(answer)),
            },
        }
        write(PutMode::Overwrite).await.map_err(trouble)?;
        // It was the condition that it did not know, since it takes the rest.
        if unknown && !self.unconditional.swap(true, Ordering::Relaxed) {
            tracing::warn!(bucket = self.shown(), "the server knows no If-None-Match: files are put without it");
        }
        Ok(Put::New)
    }

    pub async fn probe(&self) -> Result<(), Trouble> {
        let (name, text) = PROBE;
        let path = self.path(name)?;
        let written = self.write(&path, "text/plain", &Bytes::from_static(text), PutMode::Overwrite).await;
        written.map_err(|answer| self.trouble("PUT", &path, &answer))
    }

    /// Of the file that is there. `None` is also said when the server does not say why it refuses, as a HEAD has no
    /// body, and as a key that may not list is told 403 of what is not there: the PUT will tell.
    async fn size(&self, path: &Path) -> Result<Option<u64>, Trouble> {
        let heard = Heard::default();
        let mut options = GetOptions::new().with_head(true);
        options.extensions.insert(heard.clone());
        match self.store.get_opts(path, options).await {
            Ok(found) => Ok(Some(found.meta.size)),
            Err(error) => match heard.answer_or(&error) {
                answer if answer.status().is_some_and(|status| status < 500 && status != 429) => Ok(None),
                answer => Err(self.trouble("HEAD", path, &answer)),
            },
        }
    }

    async fn write(&self, path: &Path, content_type: &str, bytes: &Bytes, mode: PutMode) -> Result<(), Answer> {
        let heard = Heard::default();
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, content_type.to_owned().into());
        if let Some(disposition) = disposition(content_type) {
            attributes.insert(Attribute::ContentDisposition, disposition.into());
        }
        let mut options = PutOptions { mode, attributes, ..PutOptions::default() };
        options.extensions.insert(heard.clone());
        let put = self.store.put_opts(path, bytes.clone().into(), options).await;
        put.map(drop).map_err(|error| heard.answer_or(&error))
    }

    fn path(&self, key: &str) -> Result<Path, Trouble> {
        let prefix = &self.settings.prefix;
        let slash = if prefix.is_empty() { "" } else { "/" };
        Path::parse(format!("{prefix}{slash}{key}")).map_err(|error| Trouble::Object(error.to_string()))
    }

    fn trouble(&self, verb: &str, path: &Path, answer: &Answer) -> Trouble {
        let BucketSettings { access_key, secret_key, .. } = &self.settings;
        answer.trouble(&format!("{verb} {path}"), |text| secret_key.mask(&access_key.mask(text)))
    }
}

/// Like the clients of the upstreams: one pool of connections, and no waiting for one that does not come about.
fn client(endpoint: &str) -> Result<reqwest::Client, OpenError> {
    let bad = |problem: String| OpenError::Client(format!("endpoint {endpoint}: {problem}"));
    let url = reqwest::Url::parse(endpoint).map_err(|error| bad(error.to_string()))?;
    // reqwest is built without a provider of its own and panics when there is none. An error means that there is one
    // already, which will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .tcp_nodelay(true)
        // A signature holds for one host.
        .redirect(reqwest::redirect::Policy::none())
        // A length that a HEAD tells is the file's.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate();
    if url.scheme() == "http" {
        // No roots are needed, and reading the system's fails where it has none.
        client = client.tls_certs_only([]);
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let address: Option<std::net::IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        // A proxy of the environment cannot reach what listens on this machine only.
        client = client.no_proxy();
    }
    client.build().map_err(|error| bad(root_cause(&error)))
}
