//! Upload: countries, leagues and seasons go into the store, in the transaction of their answer's receipt.

/// The store's own stage; football adds nothing to it.
pub use crate::targets::store::StoreUpload as Upload;
