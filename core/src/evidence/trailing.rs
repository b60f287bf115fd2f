//! The newest intervals, as far back as a hold may reach, and the sums of all of them. Only covered time counts: a gap stops the clock.

use std::collections::VecDeque;
use std::ops::AddAssign;

use jiff::{SignedDuration, Timestamp};

use super::interval::Interval;
use crate::statistics::dispersion::Counts;

/// The moment at which evidence may have begun: when, and the sums of everything before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Onset<Tally = Counts> {
    pub(crate) at: Timestamp,
    pub(crate) before: Tally,
}

/// The newest intervals, with the sums of all.
#[derive(Clone, Debug)]
pub(crate) struct Trailing<Tally = Counts> {
    horizon: SignedDuration,
    intervals: VecDeque<Kept<Tally>>,
    held: SignedDuration,
    covered: SignedDuration,
    total: Tally,
}

/// What is kept of an interval. There are many of them for each signal of each service, so it is no more than what is asked for.
#[derive(Clone, Copy, Debug)]
struct Kept<Tally> {
    at: Timestamp,
    covered: SignedDuration,
    counts: Tally,
    beside: Tally,
}

/// The intervals of a hold: what they have in common, and each piece of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held<Tally = Counts> {
    pub(crate) total: Tally,
    /// The newest first: a quarter of the hold each, and of a long one no more than half a minute.
    pub(crate) pieces: Vec<Tally>,
    /// What replicas of the version before counted at the same time.
    pub(crate) beside: Tally,
}

/// A hold has at least four pieces, and a piece of a long one is as long as that of the default hold of two minutes: a burst that is nearly
/// as long as the hold must not pass for a fault that filled it.
const LEAST_PIECES: usize = 4;

/// Room is made for so many intervals at a time.
const GROWTH: usize = 4;
const PIECE: f64 = 30.0;

impl<Tally: Copy + Default + for<'a> AddAssign<&'a Tally>> Trailing<Tally> {
    /// Nothing yet, and nothing kept longer than `horizon`.
    pub(crate) fn new(horizon: SignedDuration) -> Self {
        Self { horizon, intervals: VecDeque::new(), held: SignedDuration::ZERO, covered: SignedDuration::ZERO, total: Tally::default() }
    }

    /// Takes in the next interval.
    pub(crate) fn push(&mut self, interval: Interval<Tally>) {
        self.held = self.held.saturating_add(interval.covered);
        self.covered = self.covered.saturating_add(interval.covered);
        self.total += &interval.counts;
        // Doubling would take up to twice the room of the longest hold.
        if self.intervals.len() == self.intervals.capacity() {
            self.intervals.reserve_exact(GROWTH);
        }
        self.intervals.push_back(Kept { at: interval.at, covered: interval.covered, counts: interval.counts, beside: interval.beside });
        self.forget();
    }

    /// From now on nothing is kept longer than `horizon`.
    pub(crate) fn shorten(&mut self, horizon: SignedDuration) {
        self.horizon = horizon;
        self.forget();
        self.intervals.shrink_to_fit();
    }

    fn forget(&mut self) {
        while let Some(oldest) = self.intervals.front()
            && self.intervals.len() > 1
            && self.held.saturating_sub(oldest.covered) >= self.horizon
        {
            self.held = self.held.saturating_sub(oldest.covered);
            self.intervals.pop_front();
        }
    }

    /// The sums of all intervals that ever were.
    pub(crate) fn total(&self) -> Tally {
        self.total
    }

    /// The time that was covered in all.
    pub(crate) fn covered(&self) -> SignedDuration {
        self.covered
    }

    /// The sums of the intervals that ended after `since`, as far as they are kept.
    pub(crate) fn after(&self, since: Timestamp) -> Tally {
        let mut sum = Tally::default();
        self.intervals.iter().rev().take_while(|interval| interval.at > since).for_each(|interval| sum += &interval.counts);
        sum
    }

    /// The intervals of the covered time `hold` that ends now, to half an interval.
    pub(crate) fn held(&self, hold: SignedDuration, every: SignedDuration) -> Held<Tally> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a hold is a few minutes")]
        let pieces = ((hold.as_secs_f64() / PIECE).floor() as usize).max(LEAST_PIECES);
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        let piece = hold.as_secs_f64() / pieces as f64;
        let mut sums = Held { total: Tally::default(), pieces: vec![Tally::default(); pieces], beside: Tally::default() };
        let mut age = SignedDuration::ZERO;
        for interval in self.intervals.iter().rev() {
            if age.saturating_add(every / 2) > hold {
                break;
            }
            let middle = age.as_secs_f64() + interval.covered.as_secs_f64() / 2.0;
            sums.total += &interval.counts;
            sums.beside += &interval.beside;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index, cut to those there are")]
            let index = (middle / piece) as usize;
            sums.pieces[index.min(pieces - 1)] += &interval.counts;
            age = age.saturating_add(interval.covered);
        }
        sums
    }

    /// The intervals of the covered time `hold` that ends now, to half an interval, newest first: what each covers and counted.
    pub(crate) fn newest(&self, hold: SignedDuration, every: SignedDuration) -> impl Iterator<Item = (SignedDuration, Tally)> {
        let aged = self.intervals.iter().rev().scan(SignedDuration::ZERO, |age, interval| {
            let begin = *age;
            *age = age.saturating_add(interval.covered);
            Some((begin, interval))
        });
        aged.take_while(move |(age, _)| age.saturating_add(every / 2) <= hold).map(|(_, interval)| (interval.covered, interval.counts))
    }

    /// Whether an onset is as old as a hold that ends now, to one look.
    pub(crate) fn has_lasted(&self, onset: Option<Onset<Tally>>, hold: SignedDuration, every: SignedDuration) -> bool {
        let lasted = onset.zip(self.intervals.back()).map(|(onset, newest)| newest.at.duration_since(onset.at));
        lasted.is_some_and(|lasted| lasted.saturating_add(every) >= hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: SignedDuration = SignedDuration::from_secs(15);

    /// Intervals of which every third is late, and each with counts of its own.
    fn uneven() -> Trailing {
        let mut trailing = Trailing::new(SignedDuration::from_mins(10));
        let mut at = Timestamp::UNIX_EPOCH;
        for number in 0..200_u32 {
            let covered = if number % 3 == 0 { EVERY / 2 } else { EVERY };
            at += covered;
            let counts = Counts { count: f64::from(number), failed: f64::from(number % 7) };
            trailing.push(Interval { from: at, at, covered, counts, beside: Counts::default() });
        }
        trailing
    }

    #[test]
    fn keeping_less_changes_nothing_for_the_holds_that_still_fit() {
        let hold = SignedDuration::from_secs(120);
        let (long, mut short) = (uneven(), uneven());
        short.shorten(hold);
        assert!(short.intervals.len() < long.intervals.len() / 3);
        for hold in [hold, hold / 2, EVERY * 2, EVERY] {
            assert_eq!(short.held(hold, EVERY), long.held(hold, EVERY));
        }
        assert_eq!((short.total(), short.covered()), (long.total(), long.covered()));
    }
}
