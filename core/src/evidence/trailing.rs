//! The newest intervals, as far back as a hold may reach, and the sums of all of them. Only covered time counts: a gap stops the clock.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::interval::Interval;
use crate::statistics::dispersion::Counts;

/// The moment at which evidence may have begun: when, and the sums of everything before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Onset {
    pub(crate) at: Timestamp,
    pub(crate) before: Counts,
}

/// The newest intervals, with the sums of all.
#[derive(Clone, Debug)]
pub(crate) struct Trailing {
    horizon: SignedDuration,
    intervals: VecDeque<Interval>,
    held: SignedDuration,
    covered: SignedDuration,
    total: Counts,
}

/// The intervals of a hold: what they have in common, and each quarter of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) total: Counts,
    pub(crate) quarters: [Counts; 4],
}

const NOTHING: Counts = Counts { count: 0.0, failed: 0.0 };

impl Trailing {
    /// Nothing yet, and nothing kept longer than `horizon`.
    pub(crate) fn new(horizon: SignedDuration) -> Self {
        Self { horizon, intervals: VecDeque::new(), held: SignedDuration::ZERO, covered: SignedDuration::ZERO, total: NOTHING }
    }

    /// Takes in the next interval.
    pub(crate) fn push(&mut self, interval: Interval) {
        self.held = self.held.saturating_add(interval.covered);
        self.covered = self.covered.saturating_add(interval.covered);
        add(&mut self.total, interval.counts);
        self.intervals.push_back(interval);
        while let Some(oldest) = self.intervals.front()
            && self.intervals.len() > 1
            && self.held.saturating_sub(oldest.covered) >= self.horizon
        {
            self.held = self.held.saturating_sub(oldest.covered);
            self.intervals.pop_front();
        }
    }

    /// The sums of all intervals that ever were.
    pub(crate) fn total(&self) -> Counts {
        self.total
    }

    /// The time that was covered in all.
    pub(crate) fn covered(&self) -> SignedDuration {
        self.covered
    }

    /// The intervals that ended after `since`.
    pub(crate) fn after(&self, since: Timestamp) -> impl Iterator<Item = &Interval> {
        self.intervals.iter().rev().take_while(move |interval| interval.at > since)
    }

    /// The intervals of the covered time `hold` that ends now, to half an interval.
    pub(crate) fn held(&self, hold: SignedDuration, every: SignedDuration) -> Held {
        let quarter = hold.as_secs_f64() / 4.0;
        let mut sums = Held { total: NOTHING, quarters: [NOTHING; 4] };
        let mut age = SignedDuration::ZERO;
        for interval in self.intervals.iter().rev() {
            if age.saturating_add(every / 2) > hold {
                break;
            }
            let middle = age.as_secs_f64() + interval.covered.as_secs_f64() / 2.0;
            add(&mut sums.total, interval.counts);
            let index = (1..4).take_while(|index| middle >= quarter * f64::from(*index)).count();
            add(&mut sums.quarters[index], interval.counts);
            age = age.saturating_add(interval.covered);
        }
        sums
    }
}

fn add(sum: &mut Counts, counts: Counts) {
    sum.count += counts.count;
    sum.failed += counts.failed;
}
