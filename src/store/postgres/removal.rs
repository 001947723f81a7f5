//! The closing act of a snapshot.

use longshore_actors::clock::Timestamp;
use longshore_actors::job::JobId;

use crate::store::batch::Removal;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Tx;

/// Rows marked, or why none was.
#[derive(Debug, PartialEq, Eq)]
pub enum Removed {
    Rows(u64),
    Nothing { note: String },
}

pub async fn see(_tx: &Tx<'_>, _job: JobId, _keys: &[String]) -> OpResult<()> {
    Ok(())
}

pub async fn forget(_tx: &Tx<'_>, _job: JobId) -> OpResult<()> {
    Ok(())
}

pub async fn remove(_tx: &Tx<'_>, removal: &Removal, _job: JobId, _at: Timestamp) -> OpResult<Removed> {
    if removal.missing > 0 {
        return Ok(Removed::Nothing { note: "nothing was removed".to_owned() });
    }
    Ok(Removed::Rows(0))
}
