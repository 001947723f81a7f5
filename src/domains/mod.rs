//! The domains: siblings that do not know each other. Adding one is a folder and a line here.

pub mod catalog;
pub mod noop;
