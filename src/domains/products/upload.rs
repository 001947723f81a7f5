//! Upload: rows go into the store in the transaction of their page's receipt, and files before them into the object
//! store.

/// The store's own stage; the products add nothing to it.
pub use crate::targets::store::StoreUpload as Upload;
