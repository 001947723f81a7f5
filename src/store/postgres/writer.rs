//! A connection of its own, for one upload worker.
//!
//! One that breaks, or that is cut off in the middle of a commit, is closed; the next commit opens another one.

use std::sync::Arc;

use async_trait::async_trait;
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::ledger::LedgerError;

use crate::store::batch::Batch;
use crate::store::postgres::commit::{Deliver, Page};
use crate::store::postgres::rows::Expected;
use crate::store::postgres::session::Session;
use crate::store::postgres::shared::{Shared, TRANSACTION, Tries, transaction};
use crate::store::{Committed, Writer};

#[derive(Debug)]
pub struct PostgresWriter {
    shared: Arc<Shared>,
    /// Away while a commit is under way: one that is cut off takes the connection with it.
    session: Option<Session>,
    expected: Expected,
}

impl PostgresWriter {
    /// It connects at its first commit.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, session: None, expected: Expected::default() }
    }
}

#[async_trait]
impl Writer for PostgresWriter {
    async fn commit(
        &mut self,
        deliveries: &[Arc<Delivery<Batch>>],
        now: Timestamp,
    ) -> Result<Vec<Committed>, LedgerError> {
        if self.shared.closing.is_cancelled() {
            return Err(LedgerError::Unavailable("the store is closed".into()));
        }
        let pages: Vec<Page<'_>> = deliveries.iter().map(|delivery| Page::of(delivery)).collect();
        let work = Deliver { pages: &pages, expected: &self.expected, now };
        let session = self.session.take().filter(|session| !session.client().is_closed());
        let shared = &self.shared;
        let done = shared.within(TRANSACTION, async {
            let mut session = match session {
                Some(session) => session,
                None => shared.connect_own().await?,
            };
            let mut tries = Tries::default();
            loop {
                let done = transaction(&mut session, &work).await;
                match tries.judge(done) {
                    Ok(None) => {}
                    Ok(Some((answer, effects))) => {
                        shared.publish(&effects);
                        return Ok((Ok(answer), session));
                    }
                    Err(error) => return Ok((Err(LedgerError::from(error)), session)),
                }
            }
        });
        let answer = match done.await {
            Ok((answer, session)) => {
                if !matches!(answer, Err(LedgerError::Unavailable(_))) {
                    self.session = Some(session);
                }
                answer
            }
            Err(error) => Err(error),
        };
        match &answer {
            Ok(_) => shared.group.came_through(deliveries.len()),
            Err(LedgerError::Unavailable(_)) => shared.group.was_late(deliveries.len()),
            Err(_) => {}
        }
        shared.answered(answer).map(Option::unwrap_or_default)
    }
}
