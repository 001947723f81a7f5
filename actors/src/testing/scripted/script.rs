//! What the params of a scripted job say.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::job::{Fault, NewJob};
use crate::ledger::Entity;

/// One job's pages, children and mishaps. The default is a job of no pages that succeeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Pages that the plan asks for.
    pub pages: u32,
    /// Pages beyond these that are found by fetching, all at once, as from a page count.
    pub found: u32,
    /// Pages of a cursor chain, each found by the one before; used instead of `pages` and `found`.
    pub cursor: u32,
    /// Records on each page.
    pub rows: u32,
    /// Bad records on each page, beside the good ones.
    pub rejects: u32,
    /// Jobs that the plan asks for.
    pub children: Vec<NewJob>,
    /// Jobs that page 0 asks for.
    pub page_children: Vec<NewJob>,
    /// Something to upload once all pages are in.
    pub close: bool,
    pub entity: Option<Entity>,
    pub note: Option<String>,
    pub acts: Vec<Act>,
}

/// A mishap: where, when, and what. The first that fits is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Act {
    pub at: At,
    /// On this page alone. The upload of what `close` made goes by page `u32::MAX`.
    pub page: Option<u32>,
    /// At this time alone, 1 being the first; each try and each resend to another worker is a time.
    pub time: Option<u32>,
    pub then: Do,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    Plan,
    Fetch,
    Transform,
    Upload,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Do {
    /// `Fault::Retry`, not before this many milliseconds.
    Retry {
        after_ms: Option<u64>,
    },
    Reject,
    Fail,
    Cancelled,
    Unavailable {
        retry_in_ms: Option<u64>,
    },
    Panic,
    /// Never answers; ends when it is dropped.
    Hang,
    /// Waits at the stage's gate until the test lets it through, then succeeds.
    Wait,
}

impl Script {
    pub fn pages(pages: u32) -> Self {
        Self { pages, rows: 1, ..Self::default() }
    }

    /// `pages` in all; the plan knows of the first only.
    pub fn found(pages: u32) -> Self {
        Self { pages: 1, found: pages.saturating_sub(1), rows: 1, ..Self::default() }
    }

    pub fn cursor(pages: u32) -> Self {
        Self { cursor: pages, rows: 1, ..Self::default() }
    }

    pub fn children(children: Vec<NewJob>) -> Self {
        Self { children, ..Self::default() }
    }

    /// Adds a mishap on every page, every time.
    pub fn always(self, at: At, then: Do) -> Self {
        self.act_at(Act { at, page: None, time: None, then })
    }

    /// Adds a mishap the first time only, on every page.
    pub fn once(self, at: At, then: Do) -> Self {
        self.act_at(Act { at, page: None, time: Some(1), then })
    }

    /// Adds a mishap on one page, at one time or always.
    pub fn on(self, at: At, page: u32, time: Option<u32>, then: Do) -> Self {
        self.act_at(Act { at, page: Some(page), time, then })
    }

    fn act_at(mut self, act: Act) -> Self {
        self.acts.push(act);
        self
    }

    pub fn params(&self) -> Value {
        serde_json::to_value(self).expect("a script is made of plain fields with string keys")
    }

    pub(super) fn parse(params: &Value) -> Result<Self, String> {
        Script::deserialize(params).map_err(|error| format!("broken params: {error}"))
    }

    /// All pages there are.
    pub fn total(&self) -> u32 {
        if self.cursor > 0 { self.cursor } else { self.pages + self.found }
    }

    /// Pages that the plan knows of.
    pub(super) fn planned(&self) -> u32 {
        if self.cursor > 0 { 1 } else { self.pages }
    }

    /// Pages that this page finds.
    pub(super) fn more(&self, page: u32) -> std::ops::Range<u32> {
        match page {
            _ if self.cursor > 0 => page + 1..self.cursor.min(page + 2),
            // Each from the last planned one on tells of all that follow it, as a page count does.
            _ if page + 1 >= self.pages => page + 1..self.total(),
            _ => 0..0,
        }
    }

    pub(super) fn act(&self, at: At, page: u32, time: u32) -> Option<Do> {
        let fits = |act: &&Act| {
            act.at == at && act.page.is_none_or(|only| only == page) && act.time.is_none_or(|only| only == time)
        };
        self.acts.iter().find(fits).map(|act| act.then.clone())
    }
}

impl Do {
    pub(super) async fn perform(self, gate: &Semaphore) -> Result<(), Fault> {
        let reason = || "scripted".to_owned();
        match self {
            Do::Retry { after_ms } => {
                Err(Fault::Retry { reason: reason(), after: after_ms.map(Duration::from_millis) })
            }
            Do::Reject => Err(Fault::reject(reason())),
            Do::Fail => Err(Fault::fail(reason())),
            Do::Cancelled => Err(Fault::Cancelled),
            Do::Unavailable { retry_in_ms } => {
                let retry_in = retry_in_ms.map(Duration::from_millis);
                Err(Fault::Unavailable { what: "scripted upstream".to_owned(), reason: reason(), retry_in })
            }
            Do::Panic => panic!("scripted panic"),
            Do::Hang => std::future::pending().await,
            Do::Wait => {
                gate.acquire().await.expect("a gate is never taken away").forget();
                Ok(())
            }
        }
    }
}
