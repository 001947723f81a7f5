//! The performance line: what an operation took, once it has ended.

use std::time::Duration;

use longshore_actors::checkpoint::Counts;
use longshore_actors::job::JobId;

/// Fields that are not known are left out of the line.
#[derive(Clone, Debug)]
pub struct Performance<'a> {
    /// Such as `catalog.full`.
    pub operation: &'a str,
    pub took: Duration,
    pub job: Option<JobId>,
    pub groups: Option<u64>,
    pub pages: Option<u64>,
    pub counts: Option<Counts>,
}

impl<'a> Performance<'a> {
    pub fn new(operation: &'a str, took: Duration) -> Self {
        Self { operation, took, job: None, groups: None, pages: None, counts: None }
    }

    pub fn job(mut self, job: JobId) -> Self {
        self.job = Some(job);
        self
    }

    pub fn counts(mut self, counts: &Counts) -> Self {
        self.counts = Some(*counts);
        self
    }

    /// Writes it, at INFO to the target `longshore::performance`.
    pub fn log(&self) {
        let Performance { operation, took, job, groups, pages, counts } = self;
        let seconds = took.as_secs_f64();
        tracing::info!(
            target: "longshore::performance",
            operation,
            duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            job_id = job.map(|job| job.0),
            groups,
            pages,
            rows = counts.map(|counts| counts.received),
            rows_per_second = counts.filter(|_| seconds > 0.0).map(|counts| (counts.received as f64 / seconds) as u64),
            inserted = counts.map(|counts| counts.inserted),
            updated = counts.map(|counts| counts.updated),
            unchanged = counts.map(|counts| counts.unchanged),
            removed = counts.map(|counts| counts.removed),
            rejected = counts.map(|counts| counts.rejected),
            "finished"
        );
    }
}
