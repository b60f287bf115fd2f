//! Whether a source gives anything: since when it does not, and why.

use jiff::{SignedDuration, Timestamp};

use crate::observation::Missing;

/// What is known of a source's looks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    last: Option<Timestamp>,
    missing: Option<(Missing, Timestamp)>,
}

impl Sight {
    /// A look takes its time, and more looks may wait before it.
    const SLACK: SignedDuration = SignedDuration::from_secs(10);

    /// A look that gave something.
    pub(crate) fn see(&mut self, at: Timestamp) {
        self.last = Some(at);
        self.missing = None;
    }

    /// A look that gave nothing. The newest reason is kept, with the time of the first such look.
    pub(crate) fn lose(&mut self, missing: Missing, at: Timestamp) {
        self.last = Some(at);
        let since = self.missing.take().map_or(at, |(_, since)| since);
        self.missing = Some((missing, since));
    }

    /// Why it gives nothing now, and since when. Without any look in three times `every` it gives nothing either.
    pub(crate) fn missing(&self, every: SignedDuration, now: Timestamp) -> Option<(Missing, Timestamp)> {
        if let Some((missing, since)) = &self.missing {
            return Some((missing.clone(), *since));
        }
        let age = now.duration_since(self.last?);
        Self::late(every, age).then(|| (Missing::Stale { age }, self.last.unwrap_or(now)))
    }

    /// From here on it is looked at again. Who was not asked for a while has not been silent.
    pub(crate) fn resume(&mut self, every: SignedDuration, now: Timestamp) {
        if self.last.is_some_and(|last| Self::late(every, now.duration_since(last))) {
            *self = Self { last: Some(now), missing: None };
        }
    }

    fn late(every: SignedDuration, age: SignedDuration) -> bool {
        age > every.saturating_mul(3).saturating_add(Self::SLACK)
    }

    /// Whether there was any look yet.
    pub(crate) fn looked(&self) -> bool {
        self.last.is_some()
    }
}
