//! Group commit: what many callers end or put in at the same moment shares a statement and an fsync.
//!
//! ```text
//! callers ──record───▶ bounded queue ──▶ [ take all that wait ] ─▶ plain ends: one statement ──▶ answer each
//!                                                                └▶ the others: one transaction ──▶ answer each
//! callers ──enqueue──▶ bounded queue ──▶ [ take all that wait ] ─▶ one statement ──────────────▶ answer each
//! ```
//!
//! - A call is answered after the commit of the statement or transaction that holds it, never before.
//! - A stale end is answered as stale and harms nobody. If anything else goes wrong, each call of the group
//!   gets a transaction of its own.
//! - A group that the database does not answer is answered `Unavailable`, whole: it may have been committed.
//! - The tasks end when the store closes or its last handle is gone; what was accepted is finished first.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use longshore_actors::clock::Timestamp;
use longshore_actors::job::{JobId, Outcome};
use longshore_actors::ledger::{Enqueued, LedgerError, Record};
use tokio::sync::{mpsc, oneshot};

use crate::store::draft::Draft;
use crate::store::postgres::enqueue::{self, Dated, Enqueue};
use crate::store::postgres::record::{self, Ends, PlainEnd};
use crate::store::postgres::shared::{Shared, Tries};

/// Calls in one group at most.
const GROUP_MAX: usize = 512;
/// Calls that wait at most; further callers wait, in order, for a place.
const QUEUE_MAX: usize = 4096;
/// A call with more jobs than this does not hold up those that put in one: it gets a statement of its own.
const JOBS_MAX: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

pub struct End {
    record: Record,
    now: Timestamp,
    reply: Reply<()>,
}

pub struct Put {
    drafts: Vec<Draft>,
    now: Timestamp,
    reply: Reply<Vec<Enqueued>>,
}

/// Where callers stand in line.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
    ends: mpsc::Sender<End>,
    puts: mpsc::Sender<Put>,
}

/// The other ends of the lines.
pub struct Lines {
    ends: mpsc::Receiver<End>,
    puts: mpsc::Receiver<Put>,
}

impl Recorder {
    pub fn new(shared: Arc<Shared>) -> (Recorder, Lines) {
        let (ends, ends_line) = mpsc::channel(QUEUE_MAX);
        let (puts, puts_line) = mpsc::channel(QUEUE_MAX);
        (Recorder { shared, ends, puts }, Lines { ends: ends_line, puts: puts_line })
    }

    pub async fn record(&self, mut record: Record, now: Timestamp) -> Result<(), LedgerError> {
        record::clean(&mut record.outcome);
        let (reply, answer) = oneshot::channel();
        self.ends.send(End { record, now, reply }).await.map_err(|_| closed())?;
        let answer = answer.await.unwrap_or_else(|_| Err(self.unanswered()));
        self.shared.answered(answer)
    }

    pub async fn enqueue(&self, drafts: Vec<Draft>, now: Timestamp) -> Result<Vec<Enqueued>, LedgerError> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        if drafts.len() > JOBS_MAX || drafts.iter().any(|draft| draft.parent.is_some()) {
            return put(&self.shared, &dated(&drafts, now)).await;
        }
        let (reply, answer) = oneshot::channel();
        self.puts.send(Put { drafts, now, reply }).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(self.unanswered()))
    }

    /// The task was cut off by the end of the store, or its group panicked.
    fn unanswered(&self) -> LedgerError {
        if self.shared.closing.is_cancelled() {
            closed()
        } else {
            LedgerError::Broken("a call was not answered".into())
        }
    }
}

fn closed() -> LedgerError {
    LedgerError::Unavailable("the store is closed".into())
}

impl Lines {
    /// The tasks that serve the lines.
    pub fn serve(self, shared: &Arc<Shared>) -> [tokio::task::JoinHandle<()>; 2] {
        let Lines { ends, puts } = self;
        let (recorder, enqueuer) = (shared.clone(), shared.clone());
        [
            tokio::spawn(serve(recorder.clone(), ends, async move |group| settle_ends(&recorder, group).await)),
            tokio::spawn(serve(enqueuer.clone(), puts, async move |group| settle_puts(&enqueuer, group).await)),
        ]
    }
}

/// Takes what waits and settles it, until the line is closed and empty.
async fn serve<T>(shared: Arc<Shared>, mut line: mpsc::Receiver<T>, settle: impl AsyncFn(Vec<T>)) {
    let mut closing = false;
    loop {
        let mut group = Vec::new();
        tokio::select! {
            taken = line.recv_many(&mut group, GROUP_MAX) => if taken == 0 {
                return;
            },
            () = shared.closing.cancelled(), if !closing => {
                closing = true;
                line.close();
                continue;
            }
        }
        // A bug in one group must not end the task: its callers are left without an answer, and the next are served.
        if AssertUnwindSafe(settle(group)).catch_unwind().await.is_err() {
            tracing::error!("a group of ledger calls panicked");
        }
    }
}

async fn settle_ends(shared: &Shared, group: Vec<End>) {
    let (mut plain, mut others, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for end in group {
        let Record { lease, outcome, entity } = &end.record;
        let is_plain = matches!(outcome, Outcome::Completed { .. }) && entity.is_none();
        // Of two ends of one job only one can hold: the second goes the general way, behind the first.
        if is_plain && seen.insert(lease.job) { plain.push(end) } else { others.push(end) }
    }
    if !plain.is_empty() {
        match finish_plain(shared, &plain).await {
            Ok(ended) => {
                for end in plain {
                    if ended.contains(&end.record.lease.job) {
                        // A caller that has left does not undo what is committed.
                        let _ = end.reply.send(Ok(()));
                    } else {
                        others.push(end);
                    }
                }
            }
            Err(error) => {
                for end in plain {
                    let _ = end.reply.send(Err(error.clone()));
                }
            }
        }
    }
    if !others.is_empty() {
        settle_others(shared, others).await;
    }
}

async fn finish_plain(shared: &Shared, plain: &[End]) -> Result<HashSet<JobId>, LedgerError> {
    let end = |end: &End| {
        let note = match &end.record.outcome {
            Outcome::Completed { note } => note.clone(),
            _ => None,
        };
        PlainEnd { lease: end.record.lease, note, now: end.now }
    };
    let mut ends: Vec<PlainEnd> = plain.iter().map(end).collect();
    let done = shared.within(1, async {
        let mut tries = Tries::default();
        loop {
            let mut lent = shared.lend().await?;
            let done = record::finish_plain(&lent, &mut ends).await;
            lent.settle();
            if let Some(ended) = tries.judge(done.map(Some))? {
                return Ok(ended);
            }
        }
    });
    Ok(done.await?.into_iter().collect())
}

async fn settle_others(shared: &Shared, others: Vec<End>) {
    let records = |ends: &[End]| Ends { records: ends.iter().map(|end| (end.record.clone(), end.now)).collect() };
    match shared.transact(&records(&others)).await {
        Ok(answers) => {
            for (end, answer) in others.into_iter().zip(answers) {
                let _ = end.reply.send(answer);
            }
        }
        // Nobody's fault and everybody's: to ask again for each would take as long for each.
        Err(error @ LedgerError::Unavailable(_)) => {
            for end in others {
                let _ = end.reply.send(Err(error.clone()));
            }
        }
        Err(_) => {
            for end in others {
                let answer = shared.transact(&records(std::slice::from_ref(&end))).await;
                let answer = answer.and_then(|answers| answers.into_iter().next().unwrap_or(Ok(())));
                let _ = end.reply.send(answer);
            }
        }
    }
}

async fn settle_puts(shared: &Shared, group: Vec<Put>) {
    let drafts: Vec<Dated<'_>> = group.iter().flat_map(|put| dated(&put.drafts, put.now)).collect();
    let answers = put(shared, &drafts).await;
    drop(drafts);
    match answers {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for put in group {
                let own = answers.by_ref().take(put.drafts.len()).collect();
                let _ = put.reply.send(Ok(own));
            }
        }
        // Nobody's fault and everybody's; and it may have been committed.
        Err(error @ LedgerError::Unavailable(_)) => {
            for put in group {
                let _ = put.reply.send(Err(error.clone()));
            }
        }
        Err(_) => {
            for own in group {
                let answer = put(shared, &dated(&own.drafts, own.now)).await;
                let _ = own.reply.send(answer);
            }
        }
    }
}

fn dated(drafts: &[Draft], now: Timestamp) -> Vec<Dated<'_>> {
    drafts.iter().map(|draft| (draft, draft.parent, now)).collect()
}

async fn put(shared: &Shared, drafts: &[Dated<'_>]) -> Result<Vec<Enqueued>, LedgerError> {
    if !enqueue::are_plain(drafts) {
        return shared.transact(&Enqueue { drafts: drafts.to_vec() }).await;
    }
    let done = shared.within(1, async {
        let mut lent = shared.lend().await?;
        let done = enqueue::put_plain(&lent, drafts).await;
        lent.settle();
        done
    });
    let (answers, effects) = done.await?;
    shared.publish(&effects);
    Ok(answers)
}
