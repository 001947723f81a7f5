//! Placeholder: the breaker of one dependency.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

#[derive(Debug)]
pub struct Breaker {}
impl Breaker {
    pub fn state(&self) -> BreakerState {
        BreakerState::Closed
    }
    pub fn name(&self) -> &str {
        ""
    }
    pub async fn ready(&self) {}
}
