//! The day's quota with API-Football: counted in the store, so that a restart does not forget it.
//!
//! ```text
//! before each counted call   take ──▶ one less, or Unavailable until 00:00 UTC
//! after it                   what the answer says is left, what /status says was used ──▶ the count only goes up
//! ```
//!
//! The limit is what `/status` last told (it stands in `provider_accounts`), and until then the configured one.

use std::sync::Arc;
use std::time::Duration;

use longshore_actors::clock::{Clock, Timestamp};
use longshore_actors::job::Fault;

use crate::domains::football::PROVIDER;
use crate::domains::football::tables::{ACCOUNT_LIMIT, ACCOUNTS};
use crate::store::Store;
use crate::store::batch::Cell;
use crate::targets::store::fault;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How far two clocks may differ. A day that is reported as used up while it is younger than this is yesterday still,
/// by the provider's clock.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5 * 60);

/// Accounts are one a provider; more than these rows are not looked through.
const ACCOUNTS_MAX: usize = 100;

#[derive(Clone)]
pub struct Quota {
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    /// Requests a day until `/status` has told the account's own number.
    pub configured: u32,
}

impl Quota {
    /// Takes one call from the day's count.
    pub async fn take(&self) -> Result<(), Fault> {
        let (limit, now) = (self.limit().await?, self.clock.now());
        match self.store.take_quota(PROVIDER, 1, limit, now).await.map_err(fault)? {
            true => Ok(()),
            false => Err(unavailable(format!("the day's {limit} requests are used up"), until_midnight(now))),
        }
    }

    /// The provider says how many calls are left today.
    pub async fn note_left(&self, left: u32) -> Result<(), Fault> {
        let used = self.limit().await?.saturating_sub(left);
        self.note_used(used).await
    }

    pub async fn note_used(&self, used: u32) -> Result<(), Fault> {
        if DAY - until_midnight(self.clock.now()) < CLOCKS_DIFFER {
            // By the provider's clock it may be yesterday's count still.
            return Ok(());
        }
        self.store.note_quota(PROVIDER, used, self.clock.now()).await.map_err(fault)
    }

    /// The provider says that the day's calls are used up, whatever our count is. `text` are its words.
    pub async fn used_up(&self, text: &str) -> Fault {
        let now = self.clock.now();
        if DAY - until_midnight(now) < CLOCKS_DIFFER {
            return unavailable(text.to_owned(), CLOCKS_DIFFER);
        }
        let noted = match self.limit().await {
            Ok(limit) => self.note_used(limit).await,
            Err(fault) => Err(fault),
        };
        noted.err().unwrap_or_else(|| unavailable(text.to_owned(), until_midnight(now)))
    }

    async fn limit(&self) -> Result<u32, Fault> {
        let accounts = self.store.rows(&ACCOUNTS, Vec::new(), ACCOUNTS_MAX).await.map_err(fault)?;
        let ours = accounts.iter().find(|row| row.cells.first() == Some(&Cell::Text(PROVIDER.to_owned())));
        let told = ours.and_then(|row| match row.cells.get(ACCOUNT_LIMIT) {
            Some(Cell::Int(limit)) => u32::try_from(*limit).ok(),
            _ => None,
        });
        // An account that tells no limit has one all the same.
        Ok(told.filter(|limit| *limit > 0).unwrap_or(self.configured))
    }
}

fn unavailable(reason: String, retry_in: Duration) -> Fault {
    let reason = format!("{reason}; the quota begins anew at 00:00 UTC");
    Fault::Unavailable { what: super::client::WHO.to_owned(), reason, retry_in: Some(retry_in) }
}

/// From `now` to the next 00:00 UTC.
fn until_midnight(now: Timestamp) -> Duration {
    let day = DAY.as_millis() as i64;
    Duration::from_millis((day - now.0.rem_euclid(day)).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midnight_is_never_past_and_at_most_a_day_away() {
        let (day, hour) = (DAY.as_millis() as i64, 60 * 60 * 1000);
        for (now, hours) in [(0, 24), (hour, 23), (5 * day + 23 * hour, 1), (-hour, 1)] {
            assert_eq!(until_midnight(Timestamp(now)), Duration::from_secs(hours * 3600), "{now}");
        }
        assert_eq!(until_midnight(Timestamp(day - 1)), Duration::from_millis(1));
    }
}
