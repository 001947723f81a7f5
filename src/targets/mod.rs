//! What the service writes to. The upload stages stand on these.

pub mod store;
