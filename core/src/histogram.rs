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
            let zero = started.filter(|started| self.targets.began_at_zero(&series.target, *started, sample.at));
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
