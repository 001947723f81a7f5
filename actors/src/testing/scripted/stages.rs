//! The three stages of the scripted domain: count, do what the script says, pass the page on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::checkpoint::{Counts, Part};
use crate::domain::{Delivery, Fetched, Settled, Transformed, Uploaded};
use crate::job::{Fault, JobId};
use crate::ledger::Reject;
use crate::stage::{Stage, StageName};
use crate::testing::scripted::{At, PageRequest, Rows, Shared, Write, lock};

pub struct ScriptedFetch {
    shared: Arc<Shared>,
}

pub struct ScriptedTransform {
    shared: Arc<Shared>,
}

pub struct ScriptedUpload {
    shared: Arc<Shared>,
}

/// Counts a piece of work as running until it is dropped, be it done, given up or unwound.
struct Running<'a> {
    shared: &'a Shared,
    stage: StageName,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shared.counter(self.stage).running.fetch_sub(1, Ordering::SeqCst);
        self.shared.changed();
    }
}

impl Shared {
    async fn open(self: &Arc<Self>, stage: StageName) -> Result<Arc<Self>, Fault> {
        self.counter(stage).opens.fetch_add(1, Ordering::SeqCst);
        self.changed();
        let what = lock(&self.openings[stage as usize]).pop_front();
        if let Some(what) = what {
            what.perform(&self.gates[stage as usize]).await?;
        }
        Ok(Arc::clone(self))
    }

    /// Counts a piece of work and does what the script says; the answer keeps it counted as running.
    async fn run(&self, stage: StageName, job: JobId, page: u32) -> Result<Running<'_>, Fault> {
        let counter = self.counter(stage);
        counter.runs.fetch_add(1, Ordering::SeqCst);
        let now = counter.running.fetch_add(1, Ordering::SeqCst) + 1;
        counter.running_max.fetch_max(now, Ordering::SeqCst);
        let running = Running { shared: self, stage };
        let at = match stage {
            StageName::Fetch => At::Fetch,
            StageName::Transform => At::Transform,
            StageName::Upload => At::Upload,
        };
        if let Some(what) = self.begin(job, at, page) {
            what.perform(&self.gates[stage as usize]).await?;
        }
        Ok(running)
    }
}

impl Stage for ScriptedFetch {
    type Settings = Arc<Shared>;
    type Input = PageRequest;
    type Output = Fetched<PageRequest, PageRequest>;

    async fn open(shared: &Arc<Shared>) -> Result<Self, Fault> {
        Ok(Self { shared: shared.open(StageName::Fetch).await? })
    }

    async fn run(&mut self, input: Arc<PageRequest>) -> Result<Self::Output, Fault> {
        let PageRequest { job, page } = *input;
        let _running = self.shared.run(StageName::Fetch, job, page).await?;
        let script = self.shared.script(job);
        Ok(Fetched {
            answer: PageRequest { job, page },
            more: script.more(page).map(|page| PageRequest { job, page }).collect(),
            total: Some(u64::from(script.total()) * u64::from(script.rows + script.rejects)),
            warning: None,
        })
    }
}

impl Stage for ScriptedTransform {
    type Settings = Arc<Shared>;
    type Input = PageRequest;
    type Output = Transformed<Rows>;

    async fn open(shared: &Arc<Shared>) -> Result<Self, Fault> {
        Ok(Self { shared: shared.open(StageName::Transform).await? })
    }

    async fn run(&mut self, input: Arc<PageRequest>) -> Result<Self::Output, Fault> {
        let PageRequest { job, page } = *input;
        let _running = self.shared.run(StageName::Transform, job, page).await?;
        let script = self.shared.script(job);
        let value = |row: u32| u64::from(page) * u64::from(script.rows) + u64::from(row);
        let reject = |row: u32| Reject {
            key: Some(format!("{page}/{row}")),
            reason: "scripted".to_owned(),
            raw: "null".to_owned(),
        };
        Ok(Transformed {
            batch: (0..script.rows).map(|row| (page, value(row))).collect(),
            rejects: (0..script.rejects).map(reject).collect(),
            children: if page == 0 { script.page_children.clone() } else { Vec::new() },
            received: u64::from(script.rows + script.rejects),
        })
    }
}

impl Stage for ScriptedUpload {
    type Settings = Arc<Shared>;
    type Input = Delivery<Rows>;
    type Output = Uploaded;

    async fn open(shared: &Arc<Shared>) -> Result<Self, Fault> {
        Ok(Self { shared: shared.open(StageName::Upload).await? })
    }

    async fn run(&mut self, input: Arc<Delivery<Rows>>) -> Result<Uploaded, Fault> {
        lock(&self.shared.groups).push((input.receipt.lease.job, vec![number(&input)]));
        let _running = self.shared.run(StageName::Upload, input.receipt.lease.job, number(&input)).await?;
        self.write(&input).await
    }

    fn joins(&self, group: &[Arc<Delivery<Rows>>], _: &Delivery<Rows>) -> bool {
        group.len() < self.shared.group_max.load(Ordering::SeqCst)
    }

    /// All that the script says comes before the first write, so that a panic leaves none behind. One that is rejected
    /// makes that nothing is written.
    async fn run_group(&mut self, inputs: Vec<Arc<Delivery<Rows>>>) -> Option<Vec<Result<Uploaded, Fault>>> {
        let pages = inputs.iter().map(|input| number(input)).collect();
        lock(&self.shared.groups).push((inputs[0].receipt.lease.job, pages));
        let mut running = Vec::new();
        for input in &inputs {
            running.push(self.shared.run(StageName::Upload, input.receipt.lease.job, number(input)).await);
        }
        if running.iter().any(|running| matches!(running, Err(Fault::Reject { .. }))) {
            return None;
        }
        let mut results = Vec::new();
        for (running, input) in running.into_iter().zip(&inputs) {
            results.push(match running {
                Ok(_running) => self.write(input).await,
                Err(fault) => Err(fault),
            });
        }
        Some(results)
    }
}

/// The page by which the script speaks of it.
fn number(delivery: &Delivery<Rows>) -> u32 {
    match delivery.receipt.part {
        Part::Plan => 0,
        Part::Page(page) => page,
        Part::Closing => u32::MAX,
    }
}

impl ScriptedUpload {
    async fn write(&self, delivery: &Delivery<Rows>) -> Result<Uploaded, Fault> {
        let Delivery { batch, receipt, received } = delivery;
        let write = Write { job: receipt.lease.job, part: receipt.part, rows: batch.clone() };
        self.shared.target.write(write).await?;
        self.shared.changed();
        let counts = Counts {
            received: *received,
            inserted: batch.len() as u64,
            rejected: receipt.rejects.len() as u64,
            ..Counts::default()
        };
        Ok(Uploaded { counts, settled: Settled::Separately, note: None })
    }
}
