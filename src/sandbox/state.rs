//! What all requests share: the catalogue of now, the dials, the counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::api_football::Allowance;
use super::bundles;
use super::catalogue::Catalogue;
use super::dials::{Dials, Window};
use super::dice::Dice;
use super::expected::Expected;
use super::expected_football::ExpectedFootball;
use super::leagues::Leagues;
use super::promidata::{ExpectedPromidata, Feed};

pub struct State {
    pub api_key: String,
    seed: u64,
    /// Replaced as a whole by an advance; readers keep the one they took.
    catalogue: RwLock<Arc<Catalogue>>,
    /// Likewise.
    feed: RwLock<Arc<Feed>>,
    leagues: RwLock<Arc<Leagues>>,
    /// Counted requests to API-Football, and those of the minute that began then.
    pub football: Mutex<Allowance>,
    dials: RwLock<Dials>,
    window: Mutex<Window>,
    stats: Mutex<Stats>,
    requests: AtomicU64,
}

/// Counts since the start, of requests to the API; those to `/_sandbox` are not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub requests: u64,
    /// Answers by status; a hung request has none.
    pub by_status: BTreeMap<u16, u64>,
    pub in_flight: u64,
    pub in_flight_max: u64,
    pub faults: Faults,
    pub promidata: FeedCounts,
}

/// What was done wrong on purpose under a status that does not show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    pub hung: u64,
    pub cut: u64,
    pub malformed: u64,
    pub slow: u64,
}

/// Requests to the product feed by what they asked for, those that came through limit and faults; also those answered
/// with 304 or 404.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedCounts {
    pub lines: u64,
    pub categories: u64,
    pub families: u64,
    pub images: u64,
}

/// What an advance did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advanced {
    pub generation: u64,
    /// Bundles with another price than before.
    pub changed: usize,
    /// Bundles that are gone.
    pub vanished: usize,
    /// Product families with another document than before; extra ones are not counted.
    pub feed_changed: usize,
    /// Product families that are gone.
    pub feed_vanished: usize,
    /// Leagues that are called otherwise, and whose last season starts on another day, where they are no traps.
    pub leagues_changed: usize,
    pub leagues_vanished: usize,
}

impl State {
    pub fn new(settings: Settings) -> Self {
        let bundles = bundles::generate(settings.seed, settings.bundles);
        Self {
            api_key: settings.api_key,
            seed: settings.seed,
            catalogue: RwLock::new(Arc::new(Catalogue::new(1, bundles))),
            feed: RwLock::new(Arc::new(Feed::new(settings.seed, settings.families, settings.feed_lines))),
            leagues: RwLock::new(Arc::new(Leagues::new(settings.seed, settings.leagues))),
            football: Mutex::default(),
            dials: RwLock::new(settings.dials),
            window: Mutex::default(),
            stats: Mutex::default(),
            requests: AtomicU64::new(0),
        }
    }

    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn leagues(&self) -> Arc<Leagues> {
        self.leagues.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn expected_football(&self) -> ExpectedFootball {
        self.leagues().expected()
    }

    pub fn dials(&self) -> Dials {
        self.dials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_dials(&self, dials: Dials) {
        *self.dials.write().unwrap_or_else(PoisonError::into_inner) = dials;
    }

    pub fn expected(&self) -> Expected {
        Expected::of(&self.catalogue())
    }

    pub fn feed(&self) -> Arc<Feed> {
        self.feed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `origin` is the scheme and host that the client of the feed uses.
    pub fn expected_promidata(&self, origin: &str) -> ExpectedPromidata {
        ExpectedPromidata::of(&self.feed(), origin, &self.dials())
    }

    /// Holds the catalogue while the next one is made, so that two advances at once are two generations.
    pub fn advance(&self) -> Advanced {
        let dials = self.dials();
        let mut catalogue = self.catalogue.write().unwrap_or_else(PoisonError::into_inner);
        let generation = catalogue.generation + 1;
        let step = bundles::advance(self.seed, generation, &catalogue.bundles, dials.changed, dials.vanished);
        *catalogue = Arc::new(Catalogue::new(generation, step.bundles));
        // Under the same hold, so that all are of one generation.
        let mut feed = self.feed.write().unwrap_or_else(PoisonError::into_inner);
        let families = feed.advance(&dials);
        *feed = Arc::new(families.feed);
        let mut leagues = self.leagues.write().unwrap_or_else(PoisonError::into_inner);
        let (next, leagues_changed, leagues_vanished) = leagues.advance(self.seed, dials.changed, dials.vanished);
        *leagues = Arc::new(next);
        Advanced {
            generation,
            changed: step.changed,
            vanished: step.vanished,
            feed_changed: families.changed,
            feed_vanished: families.vanished,
            leagues_changed,
            leagues_vanished,
        }
    }

    pub fn stats(&self) -> Stats {
        self.counts().clone()
    }

    /// Counts a request in; it is in flight while the guard lives. Its dice follow from its number.
    pub fn enter(self: &Arc<Self>) -> (InFlight, Dice) {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut stats = self.counts();
        stats.requests += 1;
        stats.in_flight += 1;
        stats.in_flight_max = stats.in_flight_max.max(stats.in_flight);
        (InFlight(self.clone()), Dice::new(self.seed, &[number]))
    }

    pub fn count_status(&self, status: u16) {
        *self.counts().by_status.entry(status).or_default() += 1;
    }

    pub fn count_fault(&self, count: impl FnOnce(&mut Faults)) {
        count(&mut self.counts().faults);
    }

    pub fn count_feed(&self, count: impl FnOnce(&mut FeedCounts)) {
        count(&mut self.counts().promidata);
    }

    /// See [`Window::admit`].
    pub fn admit(&self, limit: u32) -> Result<(), u64> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now(), limit)
    }

    fn counts(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts its request out when it is dropped, however it ended.
pub struct InFlight(Arc<State>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.counts().in_flight -= 1;
    }
}
