//! What people ask of the store.

use longshore_actors::checkpoint::Counts;

use crate::store::batch::Batch;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::rows;
use crate::store::postgres::session::Session;
use crate::store::table::Table;
use crate::store::{Committed, RejectedRecord, SyncState};

pub async fn sync_state(_session: &Session, _provider: &str, _entity: &str) -> OpResult<Option<SyncState>> {
    Ok(None)
}

pub async fn sync_states(_session: &Session) -> OpResult<Vec<SyncState>> {
    Ok(Vec::new())
}

pub async fn rejects(_session: &Session, _domain: Option<&str>, _limit: usize) -> OpResult<Vec<RejectedRecord>> {
    Ok(Vec::new())
}

pub async fn count_rows(_session: &Session, _table: &Table) -> OpResult<u64> {
    Ok(0)
}

pub async fn preview(session: &Session, batch: &Batch, received: u64, rejected: u64) -> OpResult<Committed> {
    let mut counts = Counts { received, rejected, ..Counts::default() };
    for rows in &batch.rows {
        counts.add(&rows::compare(session, rows).await?);
    }
    Ok(Committed { counts, note: None })
}
