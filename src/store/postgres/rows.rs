//! Domain rows.

use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::Timestamp;

use crate::store::batch::Rows;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::{Session, Tx};

pub async fn write(_tx: &Tx<'_>, rows: &Rows, _at: Timestamp) -> OpResult<Counts> {
    Ok(Counts { repeated: rows.duplicates(), ..Counts::default() })
}

pub async fn compare(_session: &Session, rows: &Rows) -> OpResult<Counts> {
    Ok(Counts { repeated: rows.duplicates(), ..Counts::default() })
}
