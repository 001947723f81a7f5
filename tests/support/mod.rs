//! What the tests share: a world, the program as a child, a small HTTP client, rows of the store.

pub mod disk;
pub mod http;
pub mod pgbouncer;
pub mod port;
pub mod postgres;
pub mod program;
pub mod proxy;
pub mod rows;
pub mod s3;
pub mod world;

use std::time::{Duration, Instant};

pub use program::{Ended, Program};
pub use world::World;

/// Longer than anything here takes on a machine that has other things to do: reaching it is a failure, never a result.
pub const DEADLINE: Duration = Duration::from_secs(600);

/// How long a state is left alone between two looks at it.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until `look` sees it, and panics with `what` at the deadline.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        std::thread::sleep(LOOK);
    }
}
