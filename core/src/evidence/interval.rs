//! Intervals: what was counted at all targets of a signal in about the time from one look to the next.

use std::ops::AddAssign;

use jiff::{SignedDuration, Timestamp};

use crate::counter::Increment;
use crate::histogram::Durations;
use crate::statistics::dispersion::Counts;
use crate::timing::Timing;

/// What was counted in one interval; for probes one round, with the share of failing targets as the failed part of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval<Tally = Counts> {
    /// The begin of the oldest increment in it; after a gap long before [`Self::begin`].
    pub(crate) from: Timestamp,
    /// Its end: the newest sample in it.
    pub(crate) at: Timestamp,
    /// The time that it stands for, at most one `every`. A gap without readings is not covered by anything.
    pub(crate) covered: SignedDuration,
    /// Requests and failed ones, or whatever else was counted.
    pub(crate) counts: Tally,
    /// The same of the replicas that still ran the version before, at the same time.
    pub(crate) beside: Tally,
}

/// What was counted in one look: at what the interval is about, and beside it, at replicas of the version before. Both in order of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a, One> {
    pub(crate) own: &'a [One],
    pub(crate) beside: &'a [One],
}

impl<'a, One: Counted> Look<'a, One> {
    /// All of one kind.
    pub(crate) fn own(own: &'a [One]) -> Self {
        Self { own, beside: &[] }
    }

    /// In order of time; of the same moment, what is its own first.
    fn in_order(self) -> impl Iterator<Item = (bool, &'a One)> {
        let (mut own, mut beside) = (self.own.iter().peekable(), self.beside.iter().peekable());
        std::iter::from_fn(move || match (own.peek(), beside.peek()) {
            (Some(mine), Some(other)) if mine.span().1 > other.span().1 => beside.next().map(|one| (false, one)),
            (Some(_), _) => own.next().map(|one| (true, one)),
            (None, _) => beside.next().map(|one| (false, one)),
        })
    }
}

/// What was counted at one target between two of its scrapes.
pub(crate) trait Counted {
    /// What it is summed up in.
    type Tally;

    /// The begin and the end.
    fn span(&self) -> (Timestamp, Timestamp);

    /// How much.
    fn tally(&self) -> Self::Tally;
}

impl Counted for Increment {
    type Tally = Counts;

    fn span(&self) -> (Timestamp, Timestamp) {
        (self.from, self.at)
    }

    fn tally(&self) -> Counts {
        Counts { count: self.requests, failed: self.failed }
    }
}

impl Counted for Durations {
    type Tally = Timing;

    fn span(&self) -> (Timestamp, Timestamp) {
        (self.from, self.at)
    }

    fn tally(&self) -> Timing {
        self.timing.clone()
    }
}

impl<Tally> Interval<Tally> {
    /// Its begin, as far as it is covered.
    pub(crate) fn begin(&self) -> Timestamp {
        self.at.checked_sub(self.covered).unwrap_or(Timestamp::MIN)
    }

    /// The same interval with something else that was counted in it.
    pub(crate) fn map<Other>(&self, other: impl Fn(&Tally) -> Other) -> Interval<Other> {
        Interval { from: self.from, at: self.at, covered: self.covered, counts: other(&self.counts), beside: other(&self.beside) }
    }
}

impl Interval {
    /// Whether something failed, and at least the share `above`.
    pub(crate) fn is_bad(&self, above: f64) -> bool {
        is_bad(&self.counts, above)
    }
}

/// Whether something failed, and at least the share `above`.
pub(crate) fn is_bad(counts: &Counts, above: f64) -> bool {
    counts.failed > 0.0 && counts.failed >= above * counts.count
}

/// Groups increments into intervals. An interval ends with a look, so that nothing waits; a look that catches up on several intervals at
/// once is cut into them. What comes late, from a target that lags behind, counts in the next one.
#[derive(Clone, Debug)]
pub(crate) struct Grouping<Tally = Counts> {
    every: SignedDuration,
    /// Increments that began earlier are not counted.
    since: Timestamp,
    ended: Option<Timestamp>,
    open: Option<Open<Tally>>,
}

#[derive(Clone, Copy, Debug)]
struct Open<Tally> {
    from: Timestamp,
    at: Timestamp,
    /// Nothing where all of it is beside.
    own: Option<Tally>,
    beside: Tally,
}

impl<Tally: Default + for<'a> AddAssign<&'a Tally>> Grouping<Tally> {
    /// Groups what begins at `since` or later.
    pub(crate) fn new(every: SignedDuration, since: Timestamp) -> Self {
        Self { every, since, ended: None, open: None }
    }

    /// Takes in what was counted in one look, and gives each interval that ended. Time in which only others counted is no interval.
    pub(crate) fn take<One: Counted<Tally = Tally>>(&mut self, look: Look<'_, One>, mut ended: impl FnMut(Interval<Tally>)) {
        let newest = look.own.last().into_iter().chain(look.beside.last()).map(|one| one.span().1).max();
        let Some(newest) = newest else { return };
        let mut look_end = None;
        for (is_own, one) in look.in_order().filter(|(_, one)| one.span().0 >= self.since) {
            let (_, at) = one.span();
            if Some(at) <= self.ended {
                Self::add(&mut self.open, one, is_own);
                continue;
            }
            if look_end.is_none_or(|end| at > end) {
                if let Some(open) = self.open.take_if(|_| look_end.is_some()) {
                    Self::end(&mut self.ended, self.every, open).into_iter().for_each(&mut ended);
                }
                look_end = Some(self.end_of_look(at, newest));
            }
            Self::add(&mut self.open, one, is_own);
        }
        let ends = |open: &mut Open<Tally>| {
            self.ended.is_none_or(|ended| open.at.duration_since(ended).saturating_mul(4) >= self.every.saturating_mul(3))
        };
        if let Some(open) = self.open.take_if(ends) {
            Self::end(&mut self.ended, self.every, open).into_iter().for_each(ended);
        }
    }

    /// The end of the look that a moment belongs to: whole looks before the newest one.
    fn end_of_look(&self, at: Timestamp, newest: Timestamp) -> Timestamp {
        let since = newest.duration_since(at).as_nanos() % self.every.as_nanos().max(1);
        at.checked_add(SignedDuration::from_nanos_i128(since)).unwrap_or(newest)
    }

    fn add(open: &mut Option<Open<Tally>>, one: &impl Counted<Tally = Tally>, is_own: bool) {
        let (from, at) = one.span();
        let open = open.get_or_insert_with(|| Open { from, at, own: None, beside: Tally::default() });
        if from < open.from {
            open.from = from;
        }
        if at > open.at {
            open.at = at;
        }
        *if is_own { open.own.get_or_insert_default() } else { &mut open.beside } += &one.tally();
    }

    fn end(ended: &mut Option<Timestamp>, every: SignedDuration, open: Open<Tally>) -> Option<Interval<Tally>> {
        let since = ended.unwrap_or(open.from);
        *ended = Some(open.at);
        let covered = open.at.duration_since(since).clamp(SignedDuration::ZERO, every);
        Some(Interval { from: open.from, at: open.at, covered, counts: open.own?, beside: open.beside })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time in range")
    }

    fn increment(from: i64, until: i64, requests: f64) -> Increment {
        Increment { from: at(from), at: at(until), process_started: None, requests, failed: 0.0 }
    }

    fn grouped(grouping: &mut Grouping, increments: &[Increment]) -> Vec<(i64, i64, f64)> {
        let mut intervals = Vec::new();
        grouping.take(Look::own(increments), |one| intervals.push((one.at.as_second(), one.covered.as_secs(), one.counts.count)));
        intervals
    }

    fn grouping() -> Grouping {
        Grouping::new(SignedDuration::from_secs(15), at(0))
    }

    #[test]
    fn targets_scraped_at_different_times_share_an_interval() {
        let mut grouping = grouping();
        assert_eq!(grouped(&mut grouping, &[increment(3, 18, 5.0), increment(10, 25, 7.0)]), [(25, 15, 12.0)]);
        assert_eq!(grouped(&mut grouping, &[increment(18, 33, 1.0), increment(25, 40, 1.0)]), [(40, 15, 2.0)]);
    }

    #[test]
    fn what_began_before_is_left_out() {
        assert_eq!(grouped(&mut grouping(), &[increment(-2, 13, 5.0)]), []);
    }

    #[test]
    fn a_look_that_catches_up_is_cut_into_intervals() {
        let increments = [increment(0, 15, 1.0), increment(15, 30, 2.0), increment(30, 45, 3.0)];
        assert_eq!(grouped(&mut grouping(), &increments), [(15, 15, 1.0), (30, 15, 2.0), (45, 15, 3.0)]);
    }

    #[test]
    fn looks_that_come_faster_than_intervals_are_gathered() {
        let mut grouping = grouping();
        grouped(&mut grouping, &[increment(0, 15, 1.0)]);
        assert_eq!(grouped(&mut grouping, &[increment(15, 20, 1.0)]), []);
        assert_eq!(grouped(&mut grouping, &[increment(20, 25, 1.0)]), []);
        assert_eq!(grouped(&mut grouping, &[increment(25, 30, 1.0)]), [(30, 15, 3.0)]);
    }

    #[test]
    fn a_target_that_lags_behind_counts_in_the_next_interval() {
        let mut grouping = grouping();
        grouped(&mut grouping, &[increment(45, 60, 1.0)]);
        assert_eq!(grouped(&mut grouping, &[increment(5, 20, 2.0), increment(60, 75, 1.0)]), [(75, 15, 3.0)]);
        assert_eq!(grouped(&mut grouping, &[increment(20, 35, 2.0)]), []);
    }

    #[test]
    fn what_runs_beside_is_counted_beside_and_makes_no_interval_alone() {
        let mut grouping = grouping();
        let mut intervals = Vec::new();
        let mut take = |own: &[Increment], beside: &[Increment]| {
            grouping.take(Look { own, beside }, |one| intervals.push((one.at.as_second(), one.counts.count, one.beside.count)));
        };
        take(&[], &[increment(0, 15, 9.0)]);
        take(&[increment(18, 30, 2.0)], &[increment(15, 29, 7.0)]);
        take(&[increment(30, 45, 3.0)], &[]);
        assert_eq!(intervals, [(30, 2.0, 7.0), (45, 3.0, 0.0)]);
    }

    #[test]
    fn a_gap_is_counted_and_not_covered() {
        let mut grouping = grouping();
        grouped(&mut grouping, &[increment(0, 15, 1.0)]);
        assert_eq!(grouped(&mut grouping, &[increment(15, 195, 12.0)]), [(195, 15, 12.0)]);
    }
}
