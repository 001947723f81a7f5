//! How many pages of one job are committed together.
//!
//! All statements of a transaction share its time. When a group finds none, because the database is slow or out of
//! reach, the next ones are half as large, down to single pages; each that comes through in its full size doubles it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Sixteen small pages cost little more than one.
const MAX: usize = 16;

#[derive(Debug)]
pub struct GroupSize(AtomicUsize);

impl Default for GroupSize {
    fn default() -> Self {
        Self(AtomicUsize::new(MAX))
    }
}

impl GroupSize {
    pub fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A group of so many pages was answered, or was not in time.
    pub fn ended(&self, pages: usize, answered: bool) {
        let now = self.now();
        if !answered {
            self.0.store((pages / 2).clamp(1, now), Ordering::Relaxed);
        } else if pages >= now {
            self.0.store((now * 2).min(MAX), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_with_each_group_that_is_late_and_grows_back() {
        let size = GroupSize::default();
        let after = |pages, answered| {
            size.ended(pages, answered);
            size.now()
        };
        assert_eq!([after(16, true), after(3, true)], [16, 16]);
        assert_eq!([after(16, false), after(8, false), after(5, false)], [8, 4, 2]);
        assert_eq!([after(1, true), after(2, false), after(1, false)], [2, 1, 1]);
        assert_eq!([after(1, true), after(2, true), after(1, true), after(4, true), after(8, true)], [2, 4, 4, 8, 16]);
    }
}
