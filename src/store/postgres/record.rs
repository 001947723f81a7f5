//! Ends one try of a job, or many at once.

use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, Lease, Outcome, State};
use longshore_actors::ledger::{Entity, LedgerError, Record};
use tokio_postgres::types::Type;

use crate::store::head::{self, End};
use crate::store::postgres::attempts::Attempts;
use crate::store::postgres::claim::count;
use crate::store::postgres::effects::Effects;
use crate::store::postgres::error::{OpError, OpResult};
use crate::store::postgres::head::{Head, Heads};
use crate::store::postgres::session::{Session, Tx};
use crate::store::postgres::work::Work;
use crate::store::text;

/// Most ends by far: of jobs without family, key or checkpoint, any number in one statement that checks and writes,
/// where the general way reads the rows first. Numbers come from the highest down, as everybody locks jobs.
///
/// `|| ''` keeps the plan from the index of active jobs, which looks small and is full of what has just ended: each
/// job is found by its number.
pub(super) const FINISH_PLAIN: &str = "
UPDATE jobs SET state = 'completed', finished_at = ended.at, message = ended.note,
    bytes = octet_length(params) + coalesce(octet_length(ended.note), 0), owner = NULL, lease_until = NULL
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) AS ended(id, fence, at, note)
WHERE jobs.id = ended.id AND jobs.fence = ended.fence AND state || '' = 'active' AND owner IS NOT NULL AND parent IS NULL
    AND children_open = 0 AND children_failed = 0 AND unique_key IS NULL AND checkpoint IS NULL
RETURNING jobs.id";

const SYNC_SUCCESS: &str = "
INSERT INTO sync_state (provider, entity, last_success_at, last_job, counts) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (provider, entity) DO UPDATE SET
    last_success_at = excluded.last_success_at, last_job = excluded.last_job, counts = excluded.counts";

const SYNC_ERROR: &str = "
INSERT INTO sync_state (provider, entity, last_error_at, last_job, last_error) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (provider, entity) DO UPDATE SET
    last_error_at = excluded.last_error_at, last_job = excluded.last_job, last_error = excluded.last_error";

/// Makes the texts of an outcome such as the database takes: they may repeat what an upstream said.
pub fn clean(outcome: &mut Outcome) {
    match outcome {
        Outcome::Completed { note } => note.as_mut().map_or((), text::clean_text),
        Outcome::Retry { reason, .. }
        | Outcome::Snoozed { reason, .. }
        | Outcome::Failed { reason, .. }
        | Outcome::Cancelled { reason } => text::clean_text(reason),
        Outcome::Interrupted => {}
    }
}

/// The end of a plain job.
#[derive(Clone, Debug)]
pub struct PlainEnd {
    pub lease: Lease,
    pub note: Option<String>,
    pub now: Timestamp,
}

/// Answers the jobs that have ended by it; the others are not so plain, or their lease is stale.
pub async fn finish_plain(session: &Session, ends: &mut [PlainEnd]) -> OpResult<Vec<JobId>> {
    ends.sort_unstable_by_key(|end| std::cmp::Reverse(end.lease.job));
    let ids: Vec<i64> = ends.iter().map(|end| end.lease.job.0).collect();
    let fences: Vec<i64> = ends.iter().map(|end| end.lease.fence).collect();
    let at: Vec<i64> = ends.iter().map(|end| end.now.0).collect();
    let notes: Vec<Option<&str>> = ends.iter().map(|end| end.note.as_deref()).collect();
    let rows = session
        .query(
            FINISH_PLAIN,
            &[
                (&ids, Type::INT8_ARRAY),
                (&fences, Type::INT8_ARRAY),
                (&at, Type::INT8_ARRAY),
                (&notes, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    rows.iter().map(|row| Ok(JobId(row.try_get(0)?))).collect()
}

/// Ends of every sort, together. A stale one is answered as such and harms nobody; any other failure is everybody's.
#[derive(Debug)]
pub struct Ends {
    pub records: Vec<(Record, Timestamp)>,
}

impl Work for Ends {
    type Answer = Vec<Result<(), LedgerError>>;

    async fn run(&self, tx: &Tx<'_>, effects: &mut Effects) -> OpResult<Self::Answer> {
        let ids: Vec<i64> = self.records.iter().map(|(record, _)| record.lease.job.0).collect();
        let mut heads = Heads::hold(tx, &ids).await?;
        let mut attempts = Attempts::default();
        let mut syncs = Vec::new();
        let mut answers = Vec::with_capacity(self.records.len());
        for (record, now) in &self.records {
            match end(&mut heads, &mut attempts, &mut syncs, effects, record, *now) {
                Ok(()) => answers.push(Ok(())),
                Err(OpError::Refused(stale @ LedgerError::Stale(_))) => answers.push(Err(stale)),
                Err(error) => return Err(error),
            }
        }
        heads.write(tx, &attempts).await?;
        for sync in &syncs {
            sync.write(tx).await?;
        }
        Ok(answers)
    }
}

fn end(
    heads: &mut Heads,
    attempts: &mut Attempts,
    syncs: &mut Vec<Sync>,
    effects: &mut Effects,
    record: &Record,
    now: Timestamp,
) -> OpResult<()> {
    let head = heads.leased(record.lease)?;
    let (id, attempt) = (head.id, head.attempt);
    if let Some(entity) = &record.entity {
        syncs.extend(Sync::of(head, entity, &record.outcome, now)?);
    }
    match &record.outcome {
        Outcome::Completed { note } => {
            let Some(head) = heads.change(id) else { return Ok(()) };
            head.message = note.clone();
            if head.children.open > 0 {
                // Its own work is done; it stays active for its children, and nobody may write to it any more.
                head.disown();
                head.fence += 1;
                return Ok(());
            }
            let end = head.end_after_children();
            heads.finish(id, end, now)
        }
        Outcome::Failed { cause, reason } => {
            attempts.note(id, attempt, "failed", reason, now);
            heads.finish(id, End::Failed { cause: *cause, reason: reason.clone() }, now)
        }
        Outcome::Cancelled { reason } => {
            attempts.note(id, attempt, "cancelled", reason, now);
            heads.finish(id, End::Cancelled { reason: reason.clone() }, now)
        }
        Outcome::Retry { at, reason } => {
            attempts.note(id, attempt, "retry", reason, now);
            give_back(heads, effects, id, Back { until: Some(*at), burnt: true, reason }, now);
            Ok(())
        }
        Outcome::Snoozed { until, reason } => {
            attempts.note(id, attempt, "snoozed", reason, now);
            give_back(heads, effects, id, Back { until: Some(*until), burnt: false, reason }, now);
            Ok(())
        }
        Outcome::Interrupted => {
            let reason = "the service stopped";
            attempts.note(id, attempt, "interrupted", reason, now);
            give_back(heads, effects, id, Back { until: None, burnt: false, reason }, now);
            Ok(())
        }
    }
}

/// How a job goes back: delayed or at once, with or without its attempt.
struct Back<'a> {
    until: Option<Timestamp>,
    burnt: bool,
    reason: &'a str,
}

fn give_back(heads: &mut Heads, effects: &mut Effects, id: JobId, back: Back<'_>, now: Timestamp) {
    let Some(head) = heads.change(id) else { return };
    if !back.burnt {
        head.attempt = (head.attempt - 1).max(0);
    }
    head.ran_ms += head.started_at.map_or(0, |started| (now.0 - started).max(0));
    head.disown();
    match back.until {
        Some(until) => {
            head.state = State::Delayed;
            head.run_at = until.0;
            head.message = Some(back.reason.to_owned());
            effects.delayed(until);
        }
        // An interruption says nothing about the job; a message it has from an earlier try stays.
        None => {
            head.state = State::Waiting;
            effects.work(&head.domain);
        }
    }
}

/// A row of `sync_state` to be written with the end of a job.
#[derive(Debug)]
struct Sync {
    sql: &'static str,
    entity: Entity,
    at: i64,
    job: i64,
    /// The counts of a success, the reason of an error.
    text: String,
}

impl Sync {
    fn of(head: &Head, entity: &Entity, outcome: &Outcome, now: Timestamp) -> OpResult<Option<Sync>> {
        let (sql, text) = match outcome {
            Outcome::Completed { .. } => (SYNC_SUCCESS, head::json_text(&head.all_counts()?)?),
            Outcome::Retry { reason, .. } | Outcome::Failed { reason, .. } => (SYNC_ERROR, reason.clone()),
            Outcome::Snoozed { .. } | Outcome::Cancelled { .. } | Outcome::Interrupted => return Ok(None),
        };
        Ok(Some(Sync { sql, entity: entity.clone(), at: now.0, job: head.id.0, text }))
    }

    async fn write(&self, tx: &Tx<'_>) -> OpResult<()> {
        let Sync { sql, entity: Entity { provider, entity }, at, job, text } = self;
        tx.execute(
            sql,
            &[(provider, Type::TEXT), (entity, Type::TEXT), (at, Type::INT8), (job, Type::INT8), (text, Type::TEXT)],
        )
        .await?;
        Ok(())
    }
}

/// Counts a worker that the job killed; answers how many there are by now.
#[derive(Debug)]
pub struct Crash {
    pub lease: Lease,
    pub reason: String,
    pub now: Timestamp,
}

impl Work for Crash {
    type Answer = u32;

    async fn run(&self, tx: &Tx<'_>, _: &mut Effects) -> OpResult<u32> {
        let mut heads = Heads::hold(tx, &[self.lease.job.0]).await?;
        let (id, attempt) = heads.leased(self.lease).map(|head| (head.id, head.attempt))?;
        let mut attempts = Attempts::default();
        attempts.note(id, attempt, "crashed", &self.reason, self.now);
        let crashes = heads.change(id).map_or(0, |head| {
            head.crashes += 1;
            head.crashes
        });
        heads.write(tx, &attempts).await?;
        Ok(count(crashes))
    }
}
