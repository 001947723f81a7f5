//! The pages of one try: planned or found, numbered, given out one after the other.
//!
//! ```text
//! committed by earlier tries │ first … given out … │ started … known, not begun │ found by fetching …
//! ```
//!
//! Each page is given out once, and one that the checkpoint holds not at all. It neither fetches nor commits; that is
//! [`crate::driver`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::decide::Ended;
use crate::job::Fault;

/// The pages of one try, as far as they are known.
pub(crate) struct Pages<R> {
    /// The number of `requests[0]`; what is before it was committed by an earlier try.
    first: u32,
    requests: VecDeque<Arc<R>>,
    started: usize,
    /// Pages past `first` that earlier tries committed, each with the request that follows it.
    beyond: BTreeMap<u32, Option<Value>>,
}

impl<R> Default for Pages<R> {
    fn default() -> Self {
        Self { first: 0, requests: VecDeque::new(), started: 0, beyond: BTreeMap::new() }
    }
}

impl<R: Serialize + DeserializeOwned> Pages<R> {
    /// From the plan, or, if earlier tries came further than the plan's own requests, from where the checkpoint says.
    pub(crate) fn plan(planned: Vec<R>, checkpoint: &Checkpoint) -> Result<Self, Ended> {
        let first = checkpoint.prefix;
        let mut requests: VecDeque<Arc<R>> = planned.into_iter().skip(first as usize).map(Arc::new).collect();
        if let (true, Some(resume)) = (first > 0 && requests.is_empty(), &checkpoint.resume) {
            let request = read(resume.clone())?;
            requests.push_back(Arc::new(request));
        }
        Ok(Self { first, requests, started: 0, beyond: checkpoint.beyond.clone() })
    }

    /// The next page that no earlier try has committed.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Arc<R>)>, Ended> {
        while let Some(request) = self.requests.get(self.started).cloned() {
            let index = self.number(self.started);
            self.started += 1;
            let Some(following) = self.beyond.remove(&index) else { return Ok(Some((index, request))) };
            // It is not fetched again, so that only the checkpoint knows what it found.
            let following = following.map(read).transpose()?;
            self.found(index, following.into_iter().collect());
        }
        Ok(None)
    }

    /// Takes in what page `index` found, if it is the last one known: only then is it new.
    pub(crate) fn found(&mut self, index: u32, more: Vec<R>) -> bool {
        let is_last = self.number(self.requests.len()) == index + 1;
        if is_last && !more.is_empty() {
            self.requests.extend(more.into_iter().map(Arc::new));
            return true;
        }
        false
    }

    pub(crate) fn following(&self, index: u32) -> Result<Option<Value>, Ended> {
        let next = self.requests.get((index + 1 - self.first) as usize);
        next.map(|request| serde_json::to_value(&**request))
            .transpose()
            .map_err(|error| Ended::Fault(Fault::fail(format!("write the next page's request: {error}"))))
    }

    pub(crate) fn request_text(&self, index: u32) -> String {
        let request = self.requests.get((index - self.first) as usize);
        request.and_then(|request| serde_json::to_string(&**request).ok()).unwrap_or_default()
    }
}

impl<R> Pages<R> {
    fn number(&self, position: usize) -> u32 {
        self.first + u32::try_from(position).unwrap_or(u32::MAX)
    }

    pub(crate) fn known(&self) -> u64 {
        u64::from(self.first) + self.requests.len() as u64
    }

    pub(crate) fn is_single(&self) -> bool {
        self.requests.len() == 1
    }

    pub(crate) fn is_done(&self) -> bool {
        self.started == self.requests.len()
    }
}

fn read<R: DeserializeOwned>(request: Value) -> Result<R, Ended> {
    serde_json::from_value(request)
        .map_err(|error| Ended::Fault(Fault::fail(format!("read the checkpoint's request: {error}"))))
}
