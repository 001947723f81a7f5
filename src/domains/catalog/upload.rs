//! Upload: bundles, countries and memberships go into the store, in the transaction of their page's receipt.

/// The store's own stage; the catalog adds nothing to it.
pub use crate::targets::store::StoreUpload as Upload;
