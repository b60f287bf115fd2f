//! One time for everything: it is read from the wall once, at the start, and runs on the monotonic clock from there, so that no step of
//! the wall clock can open or close a window.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A clock that never steps and never goes back, not even behind what the ledger already holds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Timestamp,
    began: Instant,
}

impl Clock {
    /// Begins at `wall`, or at `newest` (the newest entry of the ledger) if the wall clock is behind it. Inside a paused runtime it is
    /// virtual.
    #[must_use]
    pub fn begin(wall: Timestamp, newest: Option<Timestamp>) -> Self {
        Self { origin: newest.map_or(wall, |newest| newest.max(wall)), began: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.began.elapsed()).unwrap_or(SignedDuration::MAX);
        self.origin.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }
}
