//! Targets that were scraped, and when last: what tells a process that just began from one that is only seen late (DECISION 2.1). It
//! counts nothing itself.

use jiff::{SignedDuration, Timestamp};

use crate::few::Few;

/// The targets of one signal. Bounded: [`Targets::MOST`] of them, and those that vanish are forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    forget_after: SignedDuration,
    began: Option<Timestamp>,
    newest: Option<Timestamp>,
    scraped: Few<Timestamp>,
}

impl Targets {
    /// Further targets are not known: ten generations of a thousand pods fit.
    const MOST: usize = 10_000;

    /// Samples that are further ahead of the caller's time are not believed.
    const FUTURE: SignedDuration = SignedDuration::from_mins(1);

    /// Nothing scraped yet by a signal that is looked at once `every`.
    pub(crate) fn new(every: SignedDuration) -> Self {
        let forget_after = every.saturating_mul(4).max(SignedDuration::from_mins(10));
        Self { forget_after, began: None, newest: None, scraped: Few::new() }
    }

    /// The time of the newest scrape.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// The latest time of a sample that is believed.
    pub(crate) fn latest(now: Timestamp) -> Timestamp {
        now.checked_add(Self::FUTURE).unwrap_or(Timestamp::MAX)
    }

    /// There was a scrape.
    pub(crate) fn begin(&mut self, at: Timestamp) {
        self.began.get_or_insert(at);
        if self.newest < Some(at) {
            self.newest = Some(at);
        }
    }

    /// Whether the target was scraped lately.
    pub(crate) fn knows(&self, target: &str) -> bool {
        self.scraped.get(target).is_some()
    }

    /// When a target was scraped last, if that is remembered.
    pub(crate) fn scraped(&self, target: &str) -> Option<Timestamp> {
        self.scraped.get(target).copied()
    }

    /// The target was scraped.
    pub(crate) fn remember(&mut self, target: &str, at: Timestamp) {
        if let Some(scraped) = self.scraped.get_mut(target) {
            *scraped = at.max(*scraped);
        } else if self.scraped.len() < Self::MOST {
            self.scraped.insert(target, at);
        }
    }

    /// Whether a series that was never seen stood at zero for certain when its process `started`: that began after the last scrape of the
    /// target, `scraped`, or, at a target that was never scraped, while we were looking (and so recently that the target can't have been
    /// seen and forgotten).
    pub(crate) fn began_at_zero(&self, scraped: Option<Timestamp>, started: Timestamp, at: Timestamp) -> bool {
        match scraped {
            Some(scraped) => started > scraped,
            None => Some(started) > self.began && self.began.is_some() && at.duration_since(started) < self.forget_after,
        }
    }

    /// Forgets what vanished, and gives the time before which nothing is remembered.
    pub(crate) fn forget(&mut self, now: Timestamp) -> Timestamp {
        let oldest = now.checked_sub(self.forget_after).unwrap_or(Timestamp::MIN);
        self.scraped.retain(|scraped| *scraped >= oldest);
        oldest
    }
}
