//! The domains: siblings that do not know each other. Adding one is a folder and a line here.

pub mod catalog;
mod iso;
pub mod noop;
pub mod products;
