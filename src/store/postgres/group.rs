//! How many pages of one job are committed together.
//!
//! All statements of a transaction share its time. When a group finds none, because the database is slow or out of
//! reach, the next ones are half as large, down to single pages. Groups that come through in the full size double it,
//! but not soon: what was too much a moment ago most likely still is, and costs a try of a job. It is one size for all
//! jobs of the process.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Sixteen small pages cost little more than one.
const MAX: usize = 16;

/// After a group that was late.
const NO_GROWTH: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub struct GroupSize(Mutex<Size>);

#[derive(Clone, Copy, Debug)]
struct Size {
    pages: usize,
    late_at: Option<Instant>,
}

impl Default for GroupSize {
    fn default() -> Self {
        Self(Mutex::new(Size { pages: MAX, late_at: None }))
    }
}

impl GroupSize {
    pub fn now(&self) -> usize {
        self.size().pages
    }

    pub fn came_through(&self, pages: usize) {
        let mut size = self.size();
        if pages >= size.pages && size.late_at.is_none_or(|late| late.elapsed() >= NO_GROWTH) {
            size.pages = (size.pages * 2).min(MAX);
        }
    }

    /// A single page says nothing about groups.
    pub fn was_late(&self, pages: usize) {
        let mut size = self.size();
        if pages > 1 {
            *size = Size { pages: (pages / 2).min(size.pages), late_at: Some(Instant::now()) };
        }
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_halves_with_each_group_that_is_late_and_grows_back_in_time() {
        let size = GroupSize::default();
        let through = |pages| {
            size.came_through(pages);
            size.now()
        };
        let late = |pages| {
            size.was_late(pages);
            size.now()
        };
        assert_eq!([through(16), through(3), late(1)], [16, 16, 16]);
        assert_eq!([late(16), late(8), late(7), late(2)], [8, 4, 3, 1]);
        assert_eq!([through(1), through(1)], [1, 1], "not at once");
        tokio::time::advance(NO_GROWTH).await;
        assert_eq!([through(1), through(1), through(2), through(4), through(8)], [2, 2, 4, 8, 16]);
    }
}
