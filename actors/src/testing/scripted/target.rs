//! What the scripted uploads write to. It can be blocked, like a slow database, or made to fail.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::watch;

use crate::checkpoint::Part;
use crate::job::{Fault, JobId};
use crate::testing::scripted::{Rows, lock};

/// One upload that came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub job: JobId,
    pub part: Part,
    pub rows: Rows,
}

#[derive(Debug)]
pub struct Target {
    writes: Mutex<Vec<Write>>,
    /// What the next writes answer instead.
    faults: Mutex<VecDeque<Fault>>,
    blocked: watch::Sender<bool>,
}

impl Default for Target {
    fn default() -> Self {
        Self { writes: Mutex::default(), faults: Mutex::default(), blocked: watch::Sender::new(false) }
    }
}

impl Target {
    /// Every write waits from now on, until [`Target::unblock`].
    pub fn block(&self) {
        self.blocked.send_replace(true);
    }

    pub fn unblock(&self) {
        self.blocked.send_replace(false);
    }

    /// The next write answers this and writes nothing; several are answered one after the other.
    pub fn fail_next(&self, fault: Fault) {
        lock(&self.faults).push_back(fault);
    }

    /// All uploads so far, in the order in which they came through.
    pub fn writes(&self) -> Vec<Write> {
        lock(&self.writes).clone()
    }

    /// The records of one job, each as often as it was written, sorted.
    pub fn rows(&self, job: JobId) -> Rows {
        let writes = lock(&self.writes);
        let mut rows: Rows =
            writes.iter().filter(|write| write.job == job).flat_map(|write| write.rows.clone()).collect();
        rows.sort_unstable();
        rows
    }

    /// Waits while the target is blocked, then writes, unless it is to fail.
    pub(super) async fn write(&self, write: Write) -> Result<(), Fault> {
        let mut blocked = self.blocked.subscribe();
        blocked.wait_for(|blocked| !blocked).await.expect("the sender lives in this very target");
        match lock(&self.faults).pop_front() {
            Some(fault) => Err(fault),
            None => {
                lock(&self.writes).push(write);
                Ok(())
            }
        }
    }
}
