//! Raw samples of histograms, made into how long requests took from one sample to the next (DECISION 2.1, 2.4). As for counters, it never
//! extrapolates: what can't be told apart from a missed restart or a late first look is not counted at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::counter::{Counter, Increment};
use crate::observation::{Histogram, HistogramSample};
use crate::target::Targets;
use crate::timing::Timing;

/// What was counted at one target between two of its scrapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Durations {
    /// The earlier scrape, or the start of the process where that was later.
    pub from: Timestamp,
    /// The later scrape.
    pub at: Timestamp,
    /// When the process that counted began, if that is known.
    pub process_started: Option<Timestamp>,
    /// How long the requests took.
    pub timing: Timing,
}

/// What is remembered of the histograms of one signal. Bounded: [`HistogramCounter::MOST_SERIES`] series, and those that vanish are
/// forgotten.
#[derive(Clone, Debug)]
pub struct HistogramCounter {
    targets: Targets,
    seen: BTreeMap<String, Kept>,
    discarded: u64,
}

/// The newest sample of a series.
#[derive(Clone, Debug)]
struct Kept {
    at: Timestamp,
    count: f64,
    sum: f64,
    bounds: Arc<[f64]>,
    below: Box<[f64]>,
}

/// A sample, with where it belongs.
struct Placed<'a> {
    series: &'a Histogram,
    sample: &'a HistogramSample,
}

impl Durations {
    /// The same as requests of which none is known to have failed.
    #[must_use]
    pub fn as_increment(&self) -> Increment {
        let Self { from, at, process_started, timing } = self;
        Increment { from: *from, at: *at, process_started: *process_started, requests: timing.requests, failed: 0.0 }
    }
}

impl HistogramCounter {
    /// Further series are not counted: ten generations of a hundred pods fit.
    pub const MOST_SERIES: usize = 1_000;

    /// Nothing seen yet of a signal that is looked at once `every`.
    #[must_use]
    pub fn new(every: SignedDuration) -> Self {
        Self { targets: Targets::new(every), seen: BTreeMap::new(), discarded: 0 }
    }

    /// Takes in a look and gives what was counted since the ones before, in order of time. Samples that were seen already cost nothing.
    pub fn take(&mut self, histograms: &[Histogram], now: Timestamp) -> Vec<Durations> {
        let oldest = self.targets.forget(now);
        self.seen.retain(|_, kept| kept.at >= oldest);
        let placed = self.place(histograms, now);
        let groups = placed.chunk_by(|a, b| (a.sample.at, &a.series.target) == (b.sample.at, &b.series.target));
        groups.filter_map(|group| self.count(group)).collect()
    }

    /// The time of the newest sample that could be believed.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        self.targets.newest()
    }

    /// How many samples were no counts at all, or one series too many.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// The new and believable samples in order of time, those of one scrape of one target together.
    fn place<'a>(&mut self, histograms: &'a [Histogram], now: Timestamp) -> Vec<Placed<'a>> {
        let latest = Targets::latest(now);
        let mut placed = Vec::new();
        for series in histograms {
            let has_buckets = has_buckets(series);
            let seen = self.seen.get(&series.id).map(|kept| kept.at);
            for sample in series.samples.iter().filter(|sample| sample.at <= latest && Some(sample.at) > seen) {
                if has_buckets && is_count(series, sample) {
                    placed.push(Placed { series, sample });
                } else {
                    self.discarded = self.discarded.saturating_add(1);
                }
            }
        }
        placed.sort_by(|a, b| (a.sample.at, &a.series.target).cmp(&(b.sample.at, &b.series.target)));
        placed
    }

    /// Counts one scrape of one target. `None` where no histogram moved on from numbers that are known.
    fn count(&mut self, scrape: &[Placed<'_>]) -> Option<Durations> {
        let first = scrape.first()?;
        let at = first.sample.at;
        self.targets.begin(at);
        let mut counted: Option<(Timestamp, Timing)> = None;
        for placed in scrape {
            let Some((since, timing)) = self.difference(placed) else { continue };
            counted = Some(match counted {
                Some((from, mut sum)) => {
                    sum += &timing;
                    (from.min(since), sum)
                }
                None => (since, timing),
            });
        }
        self.targets.remember(&first.series.target, at);
        let process_started = scrape.iter().filter_map(|placed| placed.series.process_started).max();
        counted.map(|(from, timing)| Durations { from, at, process_started, timing })
    }

    /// What a series counted, and since when. `None` for a sample that only is a base for the next one: the first of a series, and the
    /// first with other bounds, unless its process is known to have begun at zero since; and one that contradicts itself.
    fn difference(&mut self, placed: &Placed<'_>) -> Option<(Timestamp, Timing)> {
        let Placed { series, sample } = placed;
        let started = series.process_started.filter(|started| *started <= sample.at);
        let Some(before) = self.seen.get_mut(&series.id) else {
            let zero = started.filter(|started| self.targets.began_at_zero(self.targets.scraped(&series.target), *started, sample.at));
            if self.seen.len() >= Self::MOST_SERIES {
                self.discarded = self.discarded.saturating_add(1);
                return None;
            }
            let bounds = self.share_bounds(&series.bounds);
            self.seen.insert(series.id.clone(), Kept::of(sample, Arc::clone(&bounds)));
            return zero.map(|started| (started, all_of(sample, bounds)));
        };
        if sample.at <= before.at {
            return None;
        }
        let restarted = started.filter(|started| *started > before.at);
        if *before.bounds != *series.bounds {
            let bounds: Arc<[f64]> = series.bounds.as_slice().into();
            *before = Kept::of(sample, Arc::clone(&bounds));
            return restarted.map(|restarted| (restarted, all_of(sample, bounds)));
        }
        let bounds = Arc::clone(&before.bounds);
        let earlier = std::mem::replace(before, Kept::of(sample, Arc::clone(&bounds)));
        Some(match restarted {
            Some(restarted) => (restarted, all_of(sample, bounds)),
            None if earlier.is_above(sample) => (earlier.at, all_of(sample, bounds)),
            None if sample.sum < earlier.sum => return None,
            None => {
                let below = sample.below.iter().zip(&earlier.below).map(|(now, before)| now - before).collect();
                (earlier.at, Timing::new(sample.count - earlier.count, sample.sum - earlier.sum, bounds, below))
            }
        })
    }

    /// Series of one signal have the same bounds, as a rule: they are kept once.
    fn share_bounds(&self, bounds: &[f64]) -> Arc<[f64]> {
        let same = self.seen.values().find(|kept| *kept.bounds == *bounds);
        same.map_or_else(|| bounds.into(), |kept| Arc::clone(&kept.bounds))
    }
}

impl Kept {
    fn of(sample: &HistogramSample, bounds: Arc<[f64]>) -> Self {
        Self { at: sample.at, count: sample.count, sum: sample.sum, bounds, below: sample.below.as_slice().into() }
    }

    /// Whether any count fell since, so that it began again at zero. A sum alone may fall because it is rounded.
    fn is_above(&self, sample: &HistogramSample) -> bool {
        sample.count < self.count || sample.below.iter().zip(&self.below).any(|(now, before)| now < before)
    }
}

fn all_of(sample: &HistogramSample, bounds: Arc<[f64]>) -> Timing {
    Timing::new(sample.count, sample.sum, bounds, sample.below.as_slice().into())
}

/// A histogram that tells nothing but the number and the sum of durations is none.
pub(crate) fn has_buckets(series: &Histogram) -> bool {
    let ascending = series.bounds.is_sorted_by(|low, high| low < high);
    !series.bounds.is_empty() && ascending && series.bounds.iter().all(|bound| bound.is_finite())
}

fn is_count(series: &Histogram, sample: &HistogramSample) -> bool {
    let good = |number: &f64| (0.0..=Counter::LARGEST).contains(number);
    sample.below.len() == series.bounds.len() && good(&sample.count) && good(&sample.sum) && sample.below.iter().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time in range")
    }

    /// A pod's histogram with the bounds 0.1 and 1: its samples are when, how many, their sum, and how many are below each bound.
    fn pod(started: Option<i64>, samples: &[(i64, f64, f64, [f64; 2])]) -> Histogram {
        let sample = |&(second, count, sum, below): &(i64, f64, f64, [f64; 2])| HistogramSample {
            at: at(second),
            count,
            sum,
            below: below.to_vec(),
        };
        Histogram {
            id: "duration".to_owned(),
            target: "pod-1".to_owned(),
            process_started: started.map(at),
            bounds: vec![0.1, 1.0],
            samples: samples.iter().map(sample).collect(),
        }
    }

    fn counter() -> HistogramCounter {
        HistogramCounter::new(SignedDuration::from_secs(15))
    }

    /// From, until, how many, their sum, and how many took longer than 0.1 s.
    fn counted(counter: &mut HistogramCounter, histogram: Histogram, now: i64) -> Vec<(i64, i64, f64, f64, f64)> {
        let durations = counter.take(&[histogram], at(now));
        let of = |one: &Durations| {
            let timing = &one.timing;
            (one.from.as_second(), one.at.as_second(), timing.requests, timing.seconds, timing.certainly_slower_than(0.1))
        };
        durations.iter().map(of).collect()
    }

    #[test]
    fn the_first_sample_is_only_a_base_and_what_was_seen_counts_once() {
        let mut counter = counter();
        assert_eq!(counted(&mut counter, pod(None, &[(0, 100.0, 10.0, [80.0, 99.0])]), 0), []);
        let two = [(0, 100.0, 10.0, [80.0, 99.0]), (15, 110.0, 13.0, [87.0, 109.0])];
        assert_eq!(counted(&mut counter, pod(None, &two), 15), [(0, 15, 10.0, 3.0, 3.0)]);
        assert_eq!(counted(&mut counter, pod(None, &two), 16), []);
    }

    #[test]
    fn a_histogram_of_which_any_count_fell_began_again_at_zero() {
        for after in [(15, 8.0, 0.5, [7.0, 8.0]), (15, 120.0, 20.0, [60.0, 120.0])] {
            let mut counter = counter();
            counted(&mut counter, pod(None, &[(0, 100.0, 10.0, [80.0, 99.0])]), 0);
            assert_eq!(counted(&mut counter, pod(None, &[after]), 15), [(0, 15, after.1, after.2, after.1 - after.3[0])]);
        }
    }

    #[test]
    fn a_sum_that_falls_alone_contradicts_itself_and_is_only_a_base() {
        let mut counter = counter();
        counted(&mut counter, pod(None, &[(0, 100.0, 10.0, [80.0, 99.0])]), 0);
        assert_eq!(counted(&mut counter, pod(None, &[(15, 100.0, 9.9, [80.0, 99.0])]), 15), []);
        assert_eq!(counted(&mut counter, pod(None, &[(30, 101.0, 10.9, [80.0, 100.0])]), 30), [(15, 30, 1.0, 1.0, 1.0)]);
    }

    #[test]
    fn a_new_process_counts_from_zero_and_one_that_is_only_seen_late_does_not() {
        let mut counter = counter();
        counted(&mut counter, pod(Some(-900), &[(0, 100.0, 10.0, [80.0, 99.0])]), 0);
        let other =
            |started, id: &str| Histogram { id: id.to_owned(), target: id.to_owned(), ..pod(started, &[(15, 9.0, 2.0, [4.0, 9.0])]) };
        assert_eq!(counted(&mut counter, other(Some(4), "new"), 15), [(4, 15, 9.0, 2.0, 5.0)]);
        assert_eq!(counted(&mut counter, other(Some(-800), "old"), 15), []);
        assert_eq!(counted(&mut counter, other(None, "unknown"), 15), []);
        assert_eq!(counted(&mut counter, pod(Some(5), &[(15, 200.0, 30.0, [90.0, 200.0])]), 15), [(5, 15, 200.0, 30.0, 110.0)]);
    }

    #[test]
    fn other_bounds_are_another_histogram() {
        let mut counter = counter();
        counted(&mut counter, pod(Some(-900), &[(0, 100.0, 10.0, [80.0, 99.0])]), 0);
        let changed =
            |started, second, count| Histogram { bounds: vec![0.1, 2.0], ..pod(started, &[(second, count, 30.0, [90.0, 150.0])]) };
        assert_eq!(counted(&mut counter, changed(Some(-900), 15, 150.0), 15), []);
        assert_eq!(counted(&mut counter, changed(Some(-900), 30, 160.0), 30), [(15, 30, 10.0, 0.0, 10.0)]);
        assert_eq!(counted(&mut counter, pod(Some(31), &[(45, 7.0, 1.0, [5.0, 7.0])]), 45), [(31, 45, 7.0, 1.0, 2.0)]);
    }

    #[test]
    fn what_is_no_count_is_discarded_and_told() {
        let mut counter = counter();
        counted(&mut counter, pod(None, &[(0, 100.0, 10.0, [80.0, 99.0])]), 0);
        let nonsense = [
            (15, f64::NAN, 11.0, [80.0, 99.0]),
            (16, 101.0, f64::INFINITY, [80.0, 99.0]),
            (17, 101.0, 11.0, [-1.0, 99.0]),
            (18, 1e300, 11.0, [80.0, 99.0]),
        ];
        assert_eq!(counted(&mut counter, pod(None, &nonsense), 20), []);
        let unfit = Histogram { bounds: vec![1.0, 0.1], ..pod(None, &[(19, 101.0, 11.0, [80.0, 99.0])]) };
        assert_eq!(counted(&mut counter, unfit, 20), []);
        assert_eq!((counter.discarded(), counter.newest()), (5, Some(at(0))));
        assert_eq!(counted(&mut counter, pod(None, &[(120, 101.0, 11.0, [80.0, 99.0])]), 20), [], "it is in the future");
        assert_eq!(counted(&mut counter, pod(None, &[(30, 101.0, 11.0, [80.0, 100.0])]), 30), [(0, 30, 1.0, 1.0, 1.0)]);
    }

    #[test]
    fn memory_is_bounded_and_vanished_series_are_forgotten() {
        let mut counter = counter();
        let named = |number: i32| Histogram { id: format!("duration-{number}"), ..pod(None, &[(0, 1.0, 1.0, [1.0, 1.0])]) };
        counter.take(&(0..1_200).map(named).collect::<Vec<_>>(), at(0));
        assert_eq!((counter.seen.len(), counter.discarded()), (HistogramCounter::MOST_SERIES, 200));
        counter.take(&[], at(601));
        assert!(counter.seen.is_empty());
    }
}
