//! Everything that happens while the service runs, as one closed enum on one bounded broadcast.
//!
//! Progress bars and whoever waits for a job are views of it. A listener that is too slow loses the oldest
//! events and is told how many; the work is never slowed by it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;

use crate::checkpoint::Counts;
use crate::job::{JobId, Name};
use crate::stage::StageName;
use crate::status::Progress;

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    JobStarted {
        job: JobId,
        domain: Name,
        kind: Name,
        attempt: u32,
    },
    JobProgress {
        job: JobId,
        domain: Name,
        kind: Name,
        progress: Progress,
    },
    /// A stage finished one page.
    PageDone {
        job: JobId,
        domain: Name,
        stage: StageName,
        page: u32,
    },
    /// One try ended; `outcome` is the word of `Outcome::as_str` as the ledger has it, or `revoked` when its lease was
    /// taken away, its end could not be written, or its coordinator is gone: the job is rescued then.
    JobEnded {
        job: JobId,
        domain: Name,
        kind: Name,
        attempt: u32,
        outcome: &'static str,
        reason: Option<String>,
        counts: Counts,
        took: Duration,
    },
    /// A job told something an operator should see.
    JobWarned {
        job: JobId,
        domain: Name,
        warning: String,
    },
    /// A child died and is started again after `backoff`.
    Restarted {
        child: String,
        reason: String,
        restarts: u32,
        max: u32,
        within: Duration,
        backoff: Duration,
    },
    /// A domain used up its restarts and is left alone until the cool-down ends or an operator un-parks it.
    Parked {
        child: String,
        reason: String,
        cool_down: Duration,
    },
    Unparked {
        child: String,
    },
    BreakerChanged {
        name: String,
        state: crate::breaker::BreakerState,
    },
    Resized {
        pool: String,
        actors: usize,
        mailbox: usize,
    },
    Phase {
        phase: crate::shutdown::Phase,
    },
}

/// The sending side; cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
}

impl Events {
    /// `room` events are kept for the slowest listener.
    pub fn new(room: usize) -> Self {
        Self { sender: broadcast::Sender::new(room.max(1)) }
    }

    /// Tells all listeners; with none it costs a comparison, so `event` is made only when somebody listens.
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        if self.sender.receiver_count() > 0 {
            // An error means that the last listener left just now.
            let _ = self.sender.send(Arc::new(event()));
        }
    }

    pub fn listen(&self) -> Listener {
        Listener { receiver: self.sender.subscribe() }
    }
}

/// The receiving side of one listener.
#[derive(Debug)]
pub struct Listener {
    receiver: broadcast::Receiver<Arc<Event>>,
}

/// What a listener hears.
#[derive(Clone, Debug)]
pub enum Heard {
    Event(Arc<Event>),
    /// It was too slow and this many are lost to it.
    Missed(u64),
}

impl Listener {
    /// The next event; `None` once every sender is gone.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.receiver.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Heard::Missed(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_listener_is_told_how_many_it_lost() {
        let events = Events::new(2);
        let mut listener = events.listen();
        for _ in 0..5 {
            events.tell(|| Event::Unparked { child: "catalog".into() });
        }
        assert!(matches!(listener.next().await, Some(Heard::Missed(3))));
        assert!(matches!(listener.next().await, Some(Heard::Event(_))));
        assert!(matches!(listener.next().await, Some(Heard::Event(_))));
    }
}
