//! Placeholder: the embedded store.
