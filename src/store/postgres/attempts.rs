//! Tries that did not end well, kept for people.

use longshore_actors::clock::Timestamp;
use longshore_actors::job::JobId;
use tokio_postgres::types::Type;

use crate::store::bounds::ATTEMPTS_MAX;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Tx;

/// Numbered after those that a job has. A job can come twice in one call: with a try that crashed, and its end.
const NOTE: &str = "
INSERT INTO job_attempts (job, n, attempt, at, outcome, reason)
SELECT job, coalesce((SELECT max(job_attempts.n) FROM job_attempts WHERE job_attempts.job = tried.job), 0)
        + row_number() OVER (PARTITION BY job ORDER BY nth),
    attempt, at, outcome, reason
FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::text[], $5::text[]) WITH ORDINALITY
    AS tried(job, attempt, at, outcome, reason, nth)
RETURNING job, n";

const FORGET: &str = "
DELETE FROM job_attempts USING unnest($1::bigint[], $2::int[]) AS last(job, n)
WHERE job_attempts.job = last.job AND job_attempts.n <= last.n";

#[derive(Debug, Default)]
pub struct Attempts {
    jobs: Vec<i64>,
    attempts: Vec<i32>,
    at: Vec<i64>,
    outcomes: Vec<&'static str>,
    reasons: Vec<String>,
}

impl Attempts {
    pub fn note(&mut self, job: JobId, attempt: i32, outcome: &'static str, reason: &str, at: Timestamp) {
        self.jobs.push(job.0);
        self.attempts.push(attempt);
        self.at.push(at.0);
        self.outcomes.push(outcome);
        self.reasons.push(reason.to_owned());
    }

    pub async fn write(&self, tx: &Tx<'_>) -> OpResult<()> {
        if self.jobs.is_empty() {
            return Ok(());
        }
        let Attempts { jobs, attempts, at, outcomes, reasons } = self;
        let noted = tx
            .query(
                NOTE,
                &[
                    (jobs, Type::INT8_ARRAY),
                    (attempts, Type::INT4_ARRAY),
                    (at, Type::INT8_ARRAY),
                    (outcomes, Type::TEXT_ARRAY),
                    (reasons, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        let (mut full, mut last) = (Vec::new(), Vec::new());
        for row in noted {
            let n = i64::from(row.try_get::<_, i32>(1)?) - ATTEMPTS_MAX;
            if n > 0 {
                full.push(row.try_get::<_, i64>(0)?);
                last.push(i32::try_from(n).unwrap_or(i32::MAX));
            }
        }
        if !full.is_empty() {
            tx.execute(FORGET, &[(&full, Type::INT8_ARRAY), (&last, Type::INT4_ARRAY)]).await?;
        }
        Ok(())
    }
}
