//! Holds declared tables against the schema.
