//! The object store: files that rows speak of, in a folder, in S3 or in Cloudflare R2.
//!
//! ```text
//! Object ─▶ put ─▶ key, type, size checked ─▶ breaker ─┬─▶ Folder  is it there? no: temporary file, fsync, rename
//!                                                      └─▶ Bucket  HEAD: is it there? no: PUT If-None-Match: *
//! ```
//!
//! Keys are made from the content, so a file is put once: a repeat finds it and uploads nothing, of two writers at
//! once one wins and the other finds it there, and a put that was cut off is put again.
//!
//! | what came | fault | breaker |
//! | --- | --- | --- |
//! | a key, a type or a size that no store takes | `Fail` | |
//! | no connection, 5xx, disk or quota full, folder that cannot be written | `Unavailable` | bad |
//! | key refused, no such bucket, wrong region: what an operator mends | `Unavailable` | bad |
//! | 429, 503 SlowDown | `Unavailable`, after `Retry-After` | good: it answers |
//! | deadline passed, body broken on the way | `Retry`: a file can be too large for the line | bad |
//!
//! Invariants: what a put says is there is durable and whole. No more than one put a caller is in flight, each within
//! its deadline; a stop cuts it short. No text holds a key or an answer's body. A file that a browser could run is
//! stored to be downloaded, never shown ([`disposition`]).
//!
//! It does not read, list or delete, and makes no bucket. A folder keeps no types: who serves one goes by the names.

mod answer;
mod bucket;
mod folder;
mod key;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longshore_actors::breaker::{Breaker, BreakerPolicy, BreakerStatus, Pass};
use longshore_actors::events::Events;
use longshore_actors::job::Fault;
use longshore_actors::shutdown::{Phase, Phases};
use serde::Serialize;
use tokio::time::Instant;

use crate::config::Secret;
use crate::store::batch::Object;
use crate::targets::objects::bucket::Bucket;
use crate::targets::objects::folder::Folder;
use crate::targets::objects::key::ObjectKey;

pub use crate::targets::objects::key::disposition;

/// In faults, in the breaker and in the log.
const NAME: &str = "objects";

/// How soon a store that is out of reach is worth another try while the breaker still lets it.
const RETRY: Duration = Duration::from_secs(1);

/// Every number of the object store. Start from [`Settings::new`].
#[derive(Clone, Debug)]
pub struct Settings {
    pub place: Place,
    /// Of one put, all its requests together.
    pub timeout: Duration,
    /// Bytes of one file; a larger one is refused.
    pub put_max: u64,
    pub breaker: BreakerPolicy,
}

#[derive(Clone, Debug)]
pub enum Place {
    Folder(PathBuf),
    Bucket(BucketSettings),
}

/// A bucket of anything that speaks S3's protocol.
#[derive(Clone, Debug)]
pub struct BucketSettings {
    /// As texts show it: `r2://account/bucket`.
    pub shown: String,
    /// `https://host`; the bucket stands in the path.
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    /// Before every key, without slashes at its ends; may be empty.
    pub prefix: String,
    pub access_key: Secret,
    pub secret_key: Secret,
}

impl Settings {
    pub fn new(place: Place) -> Self {
        let (timeout, breaker) = (Duration::from_secs(60), BreakerPolicy::default());
        Self { place, timeout, put_max: 64 << 20, breaker }
    }
}

/// Settings that make no object store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("objects.{0} is empty: {1} needs one")]
    NoKey(&'static str, String),
    #[error("objects: {0}")]
    Client(String),
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    New,
    /// It was there already; nothing was uploaded.
    Existing,
}

/// The object store; cheap to clone.
#[derive(Clone)]
pub struct Objects {
    inner: Arc<Inner>,
}

struct Inner {
    store: Backend,
    timeout: Duration,
    put_max: u64,
    breaker: Arc<Breaker>,
    phases: Phases,
    counts: Counts,
}

enum Backend {
    Folder(Folder),
    Bucket(Bucket),
}

#[derive(Default)]
struct Counts {
    new: AtomicU64,
    existing: AtomicU64,
    faults: AtomicU64,
    bytes: AtomicU64,
}

/// The object store as its status shows it. Counted since the start.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectsStatus {
    pub place: String,
    pub breaker: BreakerStatus,
    pub new: u64,
    pub existing: u64,
    pub faults: u64,
    /// Of new files.
    pub bytes: u64,
}

/// Why a backend did not do it.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// This file cannot be put, however often.
    Object(String),
    /// The store cannot be used at the moment, for any file.
    Store(String),
    /// The store is well and wants to be left alone for a while.
    Busy { reason: String, after: Option<Duration> },
    /// The way there: the deadline passed, or what arrived was not what was sent. A file may be too large for it.
    Line(String),
}

impl Objects {
    /// Sends nothing and makes no folder; removes what a killed process left half written. Blocks: call it before the
    /// actors start.
    ///
    /// # Errors
    /// [`OpenError`] when the settings make no client.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        Self::open_within(settings, Phases::default(), Events::new(1))
    }

    /// Like [`Objects::open`], for a service: puts end when it stops, and changes of the breaker are told as events.
    ///
    /// # Errors
    /// As [`Objects::open`].
    pub fn open_within(settings: &Settings, phases: Phases, events: Events) -> Result<Self, OpenError> {
        let Settings { place, timeout, put_max, breaker } = settings;
        let store = match place {
            Place::Folder(root) => Backend::Folder(Folder::open(root)),
            Place::Bucket(bucket) => Backend::Bucket(Bucket::open(bucket)?),
        };
        let breaker = Arc::new(Breaker::new(NAME, *breaker).with_events(events));
        let (timeout, put_max, counts) = (*timeout, *put_max, Counts::default());
        Ok(Self { inner: Arc::new(Inner { store, timeout, put_max, breaker, phases, counts }) })
    }

    pub fn breaker(&self) -> Arc<Breaker> {
        self.inner.breaker.clone()
    }

    /// Where the files go, as operators wrote it.
    pub fn place(&self) -> &str {
        match &self.inner.store {
            Backend::Folder(folder) => folder.shown(),
            Backend::Bucket(bucket) => bucket.shown(),
        }
    }

    /// Sees to it that the file is there, whole and durable; safe to repeat.
    ///
    /// # Errors
    /// See the table above.
    pub async fn put(&self, object: &Object) -> Result<Put, Fault> {
        let Inner { store, put_max, counts, .. } = &*self.inner;
        let put = match Self::admissible(object, *put_max) {
            Err(reason) => Err(Fault::fail(reason)),
            Ok(key) => match store {
                Backend::Folder(folder) => self.call(folder.put(&key, object)).await,
                Backend::Bucket(bucket) => self.call(bucket.put(&key, object)).await,
            },
        };
        let (key, bytes) = (object.key.as_str(), object.bytes.len() as u64);
        match &put {
            Ok(Put::New) => {
                counts.new.fetch_add(1, Ordering::Relaxed);
                counts.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Ok(Put::Existing) => drop(counts.existing.fetch_add(1, Ordering::Relaxed)),
            Err(_) => drop(counts.faults.fetch_add(1, Ordering::Relaxed)),
        }
        tracing::debug!(key, bytes, ?put, "put object");
        put
    }

    /// Writes a file to see whether that works: in a folder one that is removed again, in a bucket always the same
    /// small one. It goes the way of every put, so it also is the probe that closes a half-open breaker.
    ///
    /// # Errors
    /// As [`Objects::put`].
    pub async fn probe(&self) -> Result<(), Fault> {
        match &self.inner.store {
            Backend::Folder(folder) => self.call(folder.probe()).await,
            Backend::Bucket(bucket) => self.call(bucket.probe()).await,
        }
    }

    pub fn status(&self) -> ObjectsStatus {
        let Inner { breaker, counts: Counts { new, existing, faults, bytes }, .. } = &*self.inner;
        ObjectsStatus {
            place: self.place().to_owned(),
            breaker: breaker.status(),
            new: new.load(Ordering::Relaxed),
            existing: existing.load(Ordering::Relaxed),
            faults: faults.load(Ordering::Relaxed),
            bytes: bytes.load(Ordering::Relaxed),
        }
    }

    fn admissible(object: &Object, put_max: u64) -> Result<ObjectKey, String> {
        let Object { key, content_type, bytes } = object;
        let key = ObjectKey::parse(key)?;
        key::check_content_type(content_type).map_err(|problem| format!("object {key}: {problem}"))?;
        let size = bytes.len() as u64;
        if size > put_max {
            return Err(format!("object {key} has {size} bytes, over the cap of {put_max} (objects.put_max)"));
        }
        Ok(key)
    }

    /// One call: through the breaker, within the deadline, no longer than until the stop.
    async fn call<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Fault> {
        let Inner { timeout, breaker, phases, .. } = &*self.inner;
        let deadline = Instant::now() + *timeout;
        let admitted = async {
            match tokio::time::timeout_at(deadline, breaker.pass()).await {
                Ok(pass) => pass.map_err(|refusal| unavailable(refusal.reason, refusal.retry_in)),
                Err(_) => Err(unavailable(format!("no turn within {timeout:?}"), RETRY)),
            }
        };
        let worked = async {
            let pass = admitted.await?;
            let late = || Trouble::Line(format!("not done within {timeout:?} (objects.timeout)"));
            let result = tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| Err(late()));
            self.settle(pass, result)
        };
        tokio::select! {
            biased;
            // Also a store that hangs lets the service end.
            () = phases.reached(Phase::Stop) => Err(Fault::Cancelled),
            result = worked => result,
        }
    }

    /// Tells the breaker, and makes of a trouble what a job does about it.
    fn settle<T>(&self, pass: Pass, result: Result<T, Trouble>) -> Result<T, Fault> {
        let trouble = match result {
            Ok(done) => {
                pass.succeeded();
                return Ok(done);
            }
            Err(trouble) => trouble,
        };
        let at = |reason: String| format!("{}: {reason}", self.place());
        Err(match trouble {
            Trouble::Object(reason) => {
                pass.succeeded();
                Fault::fail(at(reason))
            }
            Trouble::Busy { reason, after } => {
                pass.succeeded();
                unavailable(at(reason), after.unwrap_or(RETRY))
            }
            Trouble::Store(reason) => {
                let reason = at(reason);
                pass.failed(&reason);
                unavailable(reason, RETRY)
            }
            Trouble::Line(reason) => {
                let reason = at(reason);
                pass.failed(&reason);
                Fault::retry(reason)
            }
        })
    }
}

fn unavailable(reason: String, retry_in: Duration) -> Fault {
    Fault::Unavailable { what: NAME.to_owned(), reason, retry_in: Some(retry_in) }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Objects({})", self.place())
    }
}
