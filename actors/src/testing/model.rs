//! A property test of the ledger's state machine: random steps on a ledger and on a model, compared after each step.
//!
//! ```text
//! [u8; 4] choices ──▶ Step ──┬─▶ Ledger ──▶ jobs(), stats(), answers ─┐
//!                            └─▶ Model  ──▶ what they must be ────────┴─▶ Err(steps so far, difference)
//! ```
//!
//! Choices are plain bytes so that any generator feeds it and a shrunk counterexample is a short list of steps. Leases
//! are kept for ever and jobs are picked from all there ever were, so late writers and settled jobs come by themselves.
//! At the end everything is driven home: no job may be left that cannot end.
//!
//! What it does not do: concurrency, durability, wake-ups. Instants are even and spans odd, so that no step falls on
//! a limit whose side the trait leaves open.

mod expected;
mod run;

use std::fmt::Write as _;

use crate::job::JobId;
use crate::ledger::Ledger;
use crate::testing::model::run::Run;

/// One call, in terms of what there is: jobs and leases are picked by number, modulo how many there are by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Enqueue { job: Shape },
    Claim { domain: usize, owner: usize, max: usize, room: [usize; 2] },
    Commit { lease: usize, part: u8, children: Vec<Shape>, inserted: u64 },
    Record { lease: usize, end: End },
    RecordCrash { lease: usize },
    Renew { lease: usize },
    Release,
    Rescue { domain: usize, but: usize },
    RescueLapsed,
    Retry { job: usize },
    Cancel { job: usize },
    Prune,
    Advance { millis: i64 },
}

/// A new job, as far as the model cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub domain: usize,
    pub kind: usize,
    pub priority: i32,
    /// One of three keys, each with its own scope.
    pub key: Option<usize>,
    /// Milliseconds until it is due.
    pub delay: Option<i64>,
    pub minds_children: bool,
}

/// How a try ends; delays in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Completed,
    Retry(i64),
    Snoozed(i64),
    Failed,
    Cancelled,
    Interrupted,
}

impl From<[u8; 4]> for Step {
    /// Common steps have more of the numbers than rare ones.
    fn from([what, a, b, c]: [u8; 4]) -> Self {
        let pick = usize::from(a);
        match what % 32 {
            0..=4 => Step::Enqueue { job: Shape::from_choices(a, b, c) },
            5..=10 => Step::Claim {
                domain: pick % 2,
                owner: pick / 2 % 2,
                max: usize::from(b % 5),
                room: [usize::from(c % 4), usize::from(c / 4 % 4)],
            },
            11..=14 => Step::Commit {
                lease: pick,
                part: b % 6,
                children: (0..b / 6 % 3)
                    .map(|child| Shape::from_choices(c, b.wrapping_add(child * 7), c / 2))
                    .collect(),
                inserted: u64::from(c % 8),
            },
            15..=21 => Step::Record { lease: pick, end: End::from_choices(b, c) },
            22 => Step::RecordCrash { lease: pick },
            23 => Step::Renew { lease: pick },
            24 | 25 => Step::Release,
            26 => Step::Rescue { domain: pick % 2, but: pick / 2 % 2 },
            27 => Step::RescueLapsed,
            28 => Step::Retry { job: pick },
            29 => Step::Cancel { job: pick },
            30 => Step::Prune,
            _ => Step::Advance { millis: 2 * i64::from(b) },
        }
    }
}

impl Shape {
    fn from_choices(a: u8, b: u8, c: u8) -> Self {
        Self {
            // Mostly one domain, so that claims find something.
            domain: usize::from(a % 4 == 3),
            kind: usize::from(a / 4 % 2),
            priority: i32::from(b % 3) - 1,
            key: (a / 8).is_multiple_of(3).then_some(usize::from(b / 3 % 3)),
            delay: c.is_multiple_of(5).then_some(2 * i64::from(c)),
            minds_children: c % 2 == 1,
        }
    }
}

impl End {
    fn from_choices(b: u8, c: u8) -> Self {
        match b % 8 {
            0..=2 => End::Completed,
            3 => End::Retry(2 * i64::from(c)),
            4 => End::Snoozed(2 * i64::from(c)),
            5 => End::Failed,
            6 => End::Cancelled,
            _ => End::Interrupted,
        }
    }
}

/// The steps that these choices stand for.
pub fn steps(choices: &[[u8; 4]]) -> Vec<Step> {
    choices.iter().map(|choice| Step::from(*choice)).collect()
}

/// Runs the steps on a fresh `ledger` and on the model. The error tells the steps up to the first difference.
pub async fn check(ledger: &dyn Ledger, steps: &[Step]) -> Result<(), String> {
    let mut run = Run::new(ledger);
    for (index, step) in steps.iter().enumerate() {
        if let Err(difference) = run.step(step).await {
            return Err(tell(&steps[..=index], &difference));
        }
    }
    run.drive_home().await.map_err(|difference| tell(steps, &format!("driving all jobs to their end: {difference}")))
}

fn tell(steps: &[Step], difference: &str) -> String {
    let mut text = format!("{difference}\nafter these steps:\n");
    for (index, step) in steps.iter().enumerate() {
        let _ = writeln!(text, "{index:4}  {step:?}");
    }
    text
}

/// The job that number `pick` stands for; a missing one while there is none.
fn pick_job(ids: &[JobId], pick: usize) -> JobId {
    if ids.is_empty() { JobId(1_000_000) } else { ids[pick % ids.len()] }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::testing::memory::MemoryLedger;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

        #[test]
        fn the_ledger_in_memory_is_as_the_model(choices in proptest::collection::vec(any::<[u8; 4]>(), 0..160)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let difference = runtime.block_on(check(&MemoryLedger::new(), &steps(&choices))).err();
            prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
        }
    }
}
