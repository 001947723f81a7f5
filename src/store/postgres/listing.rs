//! Rows of domain tables read back.

use crate::store::batch::{Cell, Row};
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Session;
use crate::store::table::Table;

pub async fn rows(_session: &Session, _table: &Table, _after: &[Cell], _limit: usize) -> OpResult<Vec<Row>> {
    Ok(Vec::new())
}

pub async fn known(_session: &Session, _table: &Table, _column: &str, keys: &[Cell]) -> OpResult<Vec<Option<String>>> {
    Ok(vec![None; keys.len()])
}
