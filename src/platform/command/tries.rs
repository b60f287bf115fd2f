//! What is remembered of the runs of `deploy` for one plan: how often it was tried, when it may be tried again, and why it will not be. It
//! lives as long as the adapter; a new start (or a new configuration) begins to count anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long after a run that may just have had bad luck the next one begins; after the last of them there is none. The whole takes less than
/// a quarter of a minute, for the service is bad meanwhile.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// Shared by all clones of an adapter.
#[derive(Clone, Debug, Default)]
pub(super) struct Tries(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    plan: String,
    ended: usize,
    not_before: Option<Instant>,
    given_up: Option<String>,
}

/// Why a run did not bring the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Luck {
    /// It may have been an accident, so another run may go better.
    Bad,
    /// Another run would end like this one.
    None,
}

impl Tries {
    /// Until then no run of this plan may begin.
    pub(super) fn not_before(&self, plan: &str) -> Option<Instant> {
        self.of(plan).not_before
    }

    /// Why no run of this plan may begin any more.
    pub(super) fn given_up(&self, plan: &str) -> Option<String> {
        self.of(plan).given_up.clone()
    }

    /// A run has ended so.
    pub(super) fn ended(&self, plan: &str, luck: Luck, words: &str) {
        let mut known = self.of(plan);
        let pause = PAUSES.get(known.ended).filter(|_| luck == Luck::Bad);
        known.ended += 1;
        match pause {
            Some(pause) => known.not_before = Some(Instant::now() + *pause),
            None if known.ended > 1 => known.given_up = Some(format!("{words} (the last of {} tries)", known.ended)),
            None => known.given_up = Some(words.to_owned()),
        }
    }

    fn of(&self, plan: &str) -> MutexGuard<'_, Known> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.plan != plan {
            *known = Known { plan: plan.to_owned(), ..Known::default() };
        }
        known
    }
}
