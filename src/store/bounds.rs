//! Numbers at which both dialects stop, and what happens there.

/// Delayed jobs made waiting in one call: a few milliseconds of the database's time. The rest waits for the next.
pub const RELEASE_MAX: i64 = 1000;

/// Jobs given back in one round of a rescue: bounds what is held in memory, not how many are given back.
pub const RESCUE_ROUND: usize = 1000;

/// The latest tries of a job that are kept: one that snoozes for days must not grow without end.
pub const ATTEMPTS_MAX: i64 = 100;

/// Rejects that are kept at most; the oldest go first. How long they are kept is the failed jobs' retention.
pub const REJECTS_MAX: i64 = 100_000;

/// Fires of one schedule that are kept: the latest is needed, the rest is for people.
pub const FIRES_MAX: i64 = 1000;

/// Days of quotas that are kept, for reports.
pub const QUOTA_DAYS: i64 = 31;

/// A listing's limit when it names none, and the most it may name.
pub const LIMIT: usize = 50;
pub const LIMIT_MAX: usize = 1000;
