//! What the service writes to. The upload stages stand on these.

pub mod objects;
pub mod store;
