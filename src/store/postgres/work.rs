//! What runs in a transaction, and may have to run again.
//!
//! A transaction that meets another one in a circle of locks is undone by the database, and its work is done once
//! more: so work is a value that can be run twice, and what it wants to happen outside waits until it is committed.

use crate::store::postgres::effects::Effects;
use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Tx;

pub trait Work: Sync {
    type Answer: Send;

    fn run(&self, tx: &Tx<'_>, effects: &mut Effects) -> impl Future<Output = OpResult<Self::Answer>> + Send;

    /// Whether the transaction is to be rolled back though nothing failed.
    fn is_to_be_undone(&self, _: &Self::Answer) -> bool {
        false
    }
}
