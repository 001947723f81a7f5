//! Puts jobs in, any number in one statement.

use std::collections::HashMap;

use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, State};
use longshore_actors::ledger::{Enqueued, LedgerError};
use tokio_postgres::types::Type;

use crate::store::draft::{self, Draft};
use crate::store::postgres::effects::Effects;
use crate::store::postgres::error::{OpError, OpResult};
use crate::store::postgres::session::{Param, Session, Tx};
use crate::store::postgres::work::Work;

/// Numbers are taken before the insert, so that each answer finds its job. A key that is held keeps its job out,
/// whoever puts it in at the same moment: the unique index decides.
const INSERT: &str = "
WITH drafts AS MATERIALIZED (
    SELECT nextval('jobs_id_seq') AS id, draft.* FROM unnest($1::text[], $2::text[], $3::text[], $4::int[],
            $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::bigint[])
        WITH ORDINALITY AS draft(domain, kind, params, priority, state, run_at, enqueued_at, parent, on_child_failed,
            unique_key, unique_scope, unique_until, nth)
), put AS (
    INSERT INTO jobs (id, domain, kind, params, priority, state, run_at, enqueued_at, parent, on_child_failed,
        unique_key, unique_scope, unique_until, unique_held) OVERRIDING SYSTEM VALUE
    SELECT id, domain, kind, params, priority, state, run_at, enqueued_at, parent, on_child_failed, unique_key,
        unique_scope, unique_until, unique_key IS NOT NULL
    FROM drafts ORDER BY nth
    ON CONFLICT (unique_key) WHERE unique_held DO NOTHING
    RETURNING id
)
SELECT drafts.id, put.id IS NOT NULL FROM drafts LEFT JOIN put ON put.id = drafts.id ORDER BY drafts.nth";

/// A key that was held for a time that is over.
const FREE_KEYS: &str = "
UPDATE jobs SET unique_held = false FROM unnest($1::text[], $2::bigint[]) AS asked(key, at)
WHERE jobs.unique_key = asked.key AND jobs.unique_held AND jobs.unique_until <= asked.at";

pub(super) const HOLDERS: &str = "SELECT unique_key, id FROM jobs WHERE unique_key = ANY($1) AND unique_held";

const ADD_OPEN: &str = "
UPDATE jobs SET children_open = children_open + more.open
FROM unnest($1::bigint[], $2::bigint[]) AS more(id, open) WHERE jobs.id = more.id";

/// How often jobs are put in whose key was held at one look and free at the next.
const TRIES: usize = 8;

/// One draft, put in at its own instant.
pub type Dated<'a> = (&'a Draft, Option<JobId>, Timestamp);

/// What several callers put in at the same moment. Their parents count them; if one parent is missing, nothing is put
/// in.
#[derive(Debug)]
pub struct Enqueue<'a> {
    pub drafts: Vec<Dated<'a>>,
}

impl Work for Enqueue<'_> {
    type Answer = Vec<Enqueued>;

    async fn run(&self, tx: &Tx<'_>, effects: &mut Effects) -> OpResult<Vec<Enqueued>> {
        let answers = put(tx, &self.drafts, effects).await?;
        let mut open: HashMap<JobId, i64> = HashMap::new();
        for ((_, parent, _), answer) in self.drafts.iter().zip(&answers) {
            if let (Some(parent), Enqueued::New(_)) = (parent, answer) {
                *open.entry(*parent).or_default() += 1;
            }
        }
        add_open(tx, open).await?;
        Ok(answers)
    }
}

/// Whether these need no transaction: no key to be looked up, no parent to be told.
pub fn are_plain(drafts: &[Dated<'_>]) -> bool {
    drafts.iter().all(|(draft, parent, _)| draft.unique.is_none() && parent.is_none())
}

/// Plain ones, in a statement of their own.
pub async fn put_plain(session: &Session, drafts: &[Dated<'_>]) -> OpResult<(Vec<Enqueued>, Effects)> {
    let columns = Columns::of(drafts);
    let rows = session.query(INSERT, &columns.params()).await?;
    let (mut answers, mut effects) = (Vec::with_capacity(rows.len()), Effects::default());
    for (row, (draft, _, now)) in rows.iter().zip(drafts) {
        answers.push(Enqueued::New(JobId(row.try_get(0)?)));
        tell(&mut effects, draft, *now);
    }
    Ok((answers, effects))
}

/// The children that a part of `parent` asks for. One whose key is taken by another job stays out: that job is not
/// this parent's to wait for.
pub async fn children(
    tx: &Tx<'_>,
    drafts: &[&Draft],
    parent: JobId,
    now: Timestamp,
    effects: &mut Effects,
) -> OpResult<()> {
    if drafts.is_empty() {
        return Ok(());
    }
    let drafts: Vec<Dated<'_>> = drafts.iter().map(|draft| (*draft, Some(parent), now)).collect();
    let answers = put(tx, &drafts, effects).await?;
    let open = answers.iter().filter(|answer| matches!(answer, Enqueued::New(_))).count() as i64;
    add_open(tx, HashMap::from([(parent, open)])).await
}

async fn add_open(tx: &Tx<'_>, open: HashMap<JobId, i64>) -> OpResult<()> {
    let mut open: Vec<(JobId, i64)> = open.into_iter().filter(|(_, open)| *open > 0).collect();
    if open.is_empty() {
        return Ok(());
    }
    // From the highest down, as everybody locks jobs.
    open.sort_unstable_by_key(|(parent, _)| std::cmp::Reverse(*parent));
    let (parents, counts): (Vec<i64>, Vec<i64>) = open.iter().map(|(parent, open)| (parent.0, *open)).unzip();
    let params: [Param<'_>; 2] = [(&parents, Type::INT8_ARRAY), (&counts, Type::INT8_ARRAY)];
    if tx.execute(ADD_OPEN, &params).await? < parents.len() as u64 {
        let found = tx.query("SELECT id FROM jobs WHERE id = ANY($1)", &params[..1]).await?;
        let found: Vec<i64> = found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        let missing = parents.into_iter().find(|parent| !found.contains(parent)).unwrap_or_default();
        return Err(LedgerError::Missing(JobId(missing)).into());
    }
    Ok(())
}

/// Answers in the order of the drafts.
async fn put(tx: &Tx<'_>, drafts: &[Dated<'_>], effects: &mut Effects) -> OpResult<Vec<Enqueued>> {
    let mut answers: Vec<Option<Enqueued>> = vec![None; drafts.len()];
    let mut left: Vec<usize> = (0..drafts.len()).collect();
    for _ in 0..TRIES {
        let now: Vec<Dated<'_>> = left.iter().map(|index| drafts[*index]).collect();
        free_keys(tx, &now).await?;
        let columns = Columns::of(&now);
        let rows = tx.query(INSERT, &columns.params()).await?;
        let mut refused = Vec::new();
        for (row, index) in rows.iter().zip(&left) {
            if row.try_get(1)? {
                answers[*index] = Some(Enqueued::New(JobId(row.try_get(0)?)));
                let (draft, _, now) = &drafts[*index];
                tell(effects, draft, *now);
            } else {
                refused.push(*index);
            }
        }
        if !refused.is_empty() {
            let keys: Vec<&str> = refused.iter().filter_map(|index| key(drafts[*index].0)).collect();
            let holders = holders(tx, &keys).await?;
            refused.retain(|index| {
                let holder = key(drafts[*index].0).and_then(|key| holders.get(key));
                answers[*index] = holder.map(|holder| Enqueued::Existing(*holder));
                // Its holder has just ended: the key is free by now.
                holder.is_none()
            });
        }
        left = refused;
        if left.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
    }
    let reason = "a unique key is held and free in turn, again and again";
    Err(OpError::Refused(LedgerError::Unavailable(reason.to_owned())))
}

fn key(draft: &Draft) -> Option<&str> {
    draft.unique.as_ref().map(|unique| unique.key.as_str())
}

async fn free_keys(tx: &Tx<'_>, drafts: &[Dated<'_>]) -> OpResult<()> {
    let asked = drafts.iter().filter_map(|(draft, _, now)| Some((key(draft)?, now.0)));
    let (keys, at): (Vec<&str>, Vec<i64>) = asked.unzip();
    if !keys.is_empty() {
        tx.execute(FREE_KEYS, &[(&keys, Type::TEXT_ARRAY), (&at, Type::INT8_ARRAY)]).await?;
    }
    Ok(())
}

async fn holders(tx: &Tx<'_>, keys: &[&str]) -> OpResult<HashMap<String, JobId>> {
    let rows = tx.query(HOLDERS, &[(&keys, Type::TEXT_ARRAY)]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, JobId(row.try_get(1)?)))).collect()
}

/// The job that holds a key now. One that held it for a time that is over lets go of it here.
pub async fn holder(tx: &Tx<'_>, key: &str, now: Timestamp) -> OpResult<Option<JobId>> {
    tx.execute(FREE_KEYS, &[(&vec![key], Type::TEXT_ARRAY), (&vec![now.0], Type::INT8_ARRAY)]).await?;
    Ok(holders(tx, &[key]).await?.into_values().next())
}

fn tell(effects: &mut Effects, draft: &Draft, now: Timestamp) {
    match draft.start(now) {
        (State::Delayed, run_at) => effects.delayed(run_at),
        _ => effects.work(&draft.domain),
    }
}

/// Drafts by column, as `unnest` takes them.
#[derive(Default)]
struct Columns<'a> {
    domains: Vec<&'a str>,
    kinds: Vec<&'a str>,
    params: Vec<&'a str>,
    priorities: Vec<i32>,
    states: Vec<&'static str>,
    run_at: Vec<i64>,
    enqueued_at: Vec<i64>,
    parents: Vec<Option<i64>>,
    on_child_failed: Vec<&'static str>,
    keys: Vec<Option<&'a str>>,
    scopes: Vec<Option<&'static str>>,
    until: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    fn of(drafts: &[Dated<'a>]) -> Self {
        let mut columns = Columns::default();
        for (draft, parent, now) in drafts {
            let (state, run_at) = draft.start(*now);
            let span = draft.unique.as_ref().map(|unique| draft::key_span(unique.scope, *now));
            columns.domains.push(&draft.domain);
            columns.kinds.push(&draft.kind);
            columns.params.push(&draft.params);
            columns.priorities.push(draft.priority);
            columns.states.push(state.as_str());
            columns.run_at.push(run_at.0);
            columns.enqueued_at.push(now.0);
            columns.parents.push(parent.map(|parent| parent.0));
            columns.on_child_failed.push(draft.on_child_failed());
            columns.keys.push(key(draft));
            columns.scopes.push(span.map(|(scope, _)| scope));
            columns.until.push(span.and_then(|(_, until)| until).map(|until| until.0));
        }
        columns
    }

    fn params(&self) -> [Param<'_>; 12] {
        [
            (&self.domains, Type::TEXT_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.params, Type::TEXT_ARRAY),
            (&self.priorities, Type::INT4_ARRAY),
            (&self.states, Type::TEXT_ARRAY),
            (&self.run_at, Type::INT8_ARRAY),
            (&self.enqueued_at, Type::INT8_ARRAY),
            (&self.parents, Type::INT8_ARRAY),
            (&self.on_child_failed, Type::TEXT_ARRAY),
            (&self.keys, Type::TEXT_ARRAY),
            (&self.scopes, Type::TEXT_ARRAY),
            (&self.until, Type::INT8_ARRAY),
        ]
    }
}
