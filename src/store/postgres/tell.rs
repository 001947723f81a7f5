//! Tells other nodes that there is something to do, once it is committed.
//!
//! ```text
//! publish ──▶ a set of words ──▶ one task: SELECT pg_notify(…) for each word of the set, in one statement
//! ```
//!
//! The database takes one lock for all notifications at a commit, so they go in a statement of their own, and what
//! many callers have to say in the meantime is said once. A word that is lost costs the others a poll.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use longshore_actors::job::Name;
use tokio::sync::Notify;
use tokio_postgres::types::Type;

use crate::store::postgres::shared::Shared;

/// The channel that nodes listen on.
pub const CHANNEL: &str = "longshore";

const TELL: &str = "SELECT pg_notify($1, word) FROM unnest($2::text[]) AS told(word)";

/// What one node tells the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// There may be something to claim in this domain.
    Work(&'a str),
    /// A lease of this domain was taken away.
    Revoked(&'a str),
    /// A delayed job is due earlier than any was before.
    Due,
}

impl<'a> Word<'a> {
    /// Of a payload: the process that says it, and the word.
    pub fn read(said: &'a str) -> Option<(&'a str, Word<'a>)> {
        let (process, rest) = said.split_once(' ')?;
        let word = match rest.split_once(' ') {
            Some(("work", domain)) => Word::Work(domain),
            Some(("revoked", domain)) => Word::Revoked(domain),
            None if rest == "due" => Word::Due,
            Some(_) | None => return None,
        };
        Some((process, word))
    }
}

/// What the others are to be told. Bounded by the number of domains: each word is there once.
#[derive(Debug, Default)]
pub struct Telling {
    words: Mutex<BTreeSet<String>>,
    more: Notify,
}

impl Telling {
    pub fn work(&self, process: &str, domain: &Name) {
        self.say(format!("{process} work {domain}"));
    }

    pub fn revoked(&self, process: &str, domain: &Name) {
        self.say(format!("{process} revoked {domain}"));
    }

    pub fn due(&self, process: &str) {
        self.say(format!("{process} due"));
    }

    fn say(&self, word: String) {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).insert(word);
        self.more.notify_one();
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.words.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}

/// Until the store closes.
pub async fn run(shared: Arc<Shared>) {
    let mut closing = false;
    while !closing {
        tokio::select! {
            () = shared.telling.more.notified() => {}
            // What was said before the end is told all the same.
            () = shared.closing.cancelled() => closing = true,
        }
        let words = shared.telling.take();
        if words.is_empty() {
            continue;
        }
        let told = shared.within(1, async {
            let mut lent = shared.lend().await?;
            let told = lent.query(TELL, &[(&CHANNEL, Type::TEXT), (&words, Type::TEXT_ARRAY)]).await;
            lent.settle();
            told
        });
        if let Err(error) = told.await {
            tracing::debug!(%error, "other nodes were not told; they will find out by themselves");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let telling = Telling::default();
        telling.work("a-1-2", &"catalog".into());
        telling.work("a-1-2", &"catalog".into());
        telling.revoked("a-1-2", &"mail".into());
        telling.due("a-1-2");
        let said = telling.take();
        let heard: Vec<_> = said.iter().filter_map(|said| Word::read(said)).collect();
        let expected = [Word::Due, Word::Revoked("mail"), Word::Work("catalog")].map(|word| ("a-1-2", word));
        assert_eq!(heard, expected, "each once");
        for strange in ["", "a", "a work", "a nonsense x", "a  "] {
            assert_eq!(Word::read(strange), None, "{strange:?}");
        }
    }
}
