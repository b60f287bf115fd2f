//! Raw samples of counters, made into what was counted from one sample to the next (DECISION 2.1). It never extrapolates and never
//! smooths: what can't be told apart from a missed restart or a late first look is not counted at all.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use jiff::{SignedDuration, Timestamp};

use crate::few::Few;
use crate::observation::{Sample, Scrape, Series};
use crate::target::Targets;

/// What was counted at one target between two of its scrapes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Increment {
    /// The earlier scrape, or the start of the process where that was later.
    pub from: Timestamp,
    /// The later scrape.
    pub at: Timestamp,
    /// When the process that counted began, if that is known.
    pub process_started: Option<Timestamp>,
    /// Requests; at least 0.
    pub requests: f64,
    /// Failed ones; 0 to `requests`.
    pub failed: f64,
}

/// What is remembered of the counters of one signal. Bounded: [`Counter::MOST_SERIES`] series, and those that vanish are forgotten.
#[derive(Clone, Debug)]
pub struct Counter {
    targets: Targets,
    total: Few<Sample>,
    failed: Few<Sample>,
    /// Failures at a target whose requests of the same time came earlier, or are still to come: since when, and how many.
    apart: BTreeMap<String, (Timestamp, f64)>,
    discarded: u64,
    /// The newest scrape that was passed over, and the series because of which.
    spoiled: Option<(Timestamp, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Total,
    Failed,
}

/// What the series of one kind counted together, and since when.
#[derive(Default)]
struct Counted {
    since: Option<Timestamp>,
    number: f64,
}

impl Counted {
    fn add(&mut self, since: Timestamp, number: f64) {
        if self.since.is_none_or(|earlier| since < earlier) {
            self.since = Some(since);
        }
        self.number += number;
    }
}

/// A series with samples that were not counted yet.
struct Line<'a> {
    kind: Kind,
    series: &'a Series,
    /// Believable ones, each later than the one before.
    fresh: Cow<'a, [Sample]>,
    /// How many of them were counted.
    counted: usize,
    /// The sample before all of them; of a series that was never seen the first one, once it is remembered.
    before: Option<Sample>,
}

/// The lines of one target, of requests first.
struct Scraped<'a, 'l> {
    target: &'a str,
    lines: &'l mut [Line<'a>],
    /// When the target was scraped last, if it is remembered.
    last: Option<Timestamp>,
}

impl Counter {
    /// Further series are not counted: a source is asked for at most 1,000, and ten generations of pods fit.
    pub const MOST_SERIES: usize = 10_000;

    /// Above this an `f64` can't count by ones any more (2^53): not a count of requests.
    pub(crate) const LARGEST: f64 = 9_007_199_254_740_992.0;

    /// Nothing seen yet of a signal that is looked at once `every`.
    #[must_use]
    pub fn new(every: SignedDuration) -> Self {
        Self { targets: Targets::new(every), total: Few::new(), failed: Few::new(), apart: BTreeMap::new(), discarded: 0, spoiled: None }
    }

    /// Takes in a scrape and gives what was counted since the ones before, in order of time. Samples that were seen already cost nothing.
    pub fn take(&mut self, scrape: &Scrape, now: Timestamp) -> Vec<Increment> {
        self.take_of(scrape, now, |_| true)
    }

    /// The same of one route alone.
    pub fn take_route(&mut self, scrape: &Scrape, route: &str, now: Timestamp) -> Vec<Increment> {
        self.take_of(scrape, now, |series| series.route.as_deref() == Some(route))
    }

    /// Strings are looked up once a series and not once a sample: a past of millions is counted here, too.
    fn take_of(&mut self, scrape: &Scrape, now: Timestamp, wanted: impl Fn(&Series) -> bool) -> Vec<Increment> {
        self.forget(now);
        let mut lines = self.lines(scrape, now, wanted);
        let mut targets: Vec<Scraped> = lines.chunk_by_mut(|a, b| a.series.target == b.series.target).filter_map(Scraped::of).collect();
        for target in &mut targets {
            target.last = self.targets.scraped(target.target);
        }
        let mut due: BinaryHeap<_> = (0..).zip(&targets).filter_map(|(number, target)| Some(Reverse((target.next()?, number)))).collect();
        let mut increments = Vec::with_capacity(targets.iter().map(Scraped::longest).sum());
        while let Some(mut first) = due.peek_mut() {
            let Reverse((at, number)) = *first;
            let target: &mut Scraped = &mut targets[number];
            increments.extend(self.count(target, at));
            match target.next() {
                Some(next) => *first = Reverse((next, number)),
                None => {
                    PeekMut::pop(first);
                }
            }
        }
        for target in targets {
            self.remember(&target);
        }
        increments
    }

    /// The time of the newest sample that could be believed.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        self.targets.newest()
    }

    /// The series with a value that is no count, and the time of it, if nothing newer could be believed: what the other series of its target
    /// counted meanwhile would be only a part of the truth.
    #[must_use]
    pub fn spoiled(&self) -> Option<&str> {
        let (at, series) = self.spoiled.as_ref()?;
        (Some(*at) > self.newest()).then_some(series)
    }

    /// How many samples were no counts at all, or one series too many.
    #[must_use]
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// The series with new and believable samples, those of one target together.
    fn lines<'a>(&mut self, scrape: &'a Scrape, now: Timestamp, wanted: impl Fn(&Series) -> bool) -> Vec<Line<'a>> {
        let latest = Targets::latest(now);
        let kinds =
            scrape.total.iter().map(|series| (Kind::Total, series)).chain(scrape.failed.iter().map(|series| (Kind::Failed, series)));
        let (mut lines, mut spoiled) = (Vec::new(), BTreeSet::new());
        for (kind, series) in kinds.filter(|(_, series)| wanted(series)) {
            let before = self.seen(kind).get(&series.id).copied();
            let (fresh, discarded) = fresh(&series.samples, before.map(|sample| sample.at), latest);
            self.discarded = self.discarded.saturating_add(discarded.len() as u64);
            if let Some(newest) = discarded.iter().max().filter(|newest| self.spoiled.as_ref().is_none_or(|(known, _)| known < *newest)) {
                self.spoiled = Some((*newest, series.id.clone()));
            }
            spoiled.extend(discarded.into_iter().map(|at| (series.target.as_str(), at)));
            if !fresh.is_empty() {
                lines.push(Line { kind, series, fresh, counted: 0, before });
            }
        }
        lines.sort_by(|a, b| a.name().cmp(&b.name()));
        lines.dedup_by(|again, line| {
            let is_same = again.name() == line.name();
            if is_same {
                line.fresh = in_order([&line.fresh[..], &again.fresh[..]].concat()).into();
            }
            is_same
        });
        // Of a scrape that gave one value that is no count, none is believed: half of the truth would be a lie. The next one makes up for it.
        if !spoiled.is_empty() {
            let is_whole = |line: &Line<'_>, sample: &Sample| !spoiled.contains(&(line.series.target.as_str(), sample.at));
            for line in &mut lines {
                let whole = line.fresh.iter().filter(|sample| is_whole(line, sample)).copied().collect();
                line.fresh = Cow::Owned(whole);
            }
            lines.retain(|line| !line.fresh.is_empty());
        }
        lines
    }

    /// Counts one scrape of one target. `None` where no counter of requests moved on from a value that is known.
    fn count(&mut self, scraped: &mut Scraped<'_, '_>, at: Timestamp) -> Option<Increment> {
        self.targets.begin(at);
        let (mut requests, mut failed) = (Counted::default(), Counted::default());
        let mut process_started = None;
        for line in scraped.lines.iter_mut() {
            let Some(sample) = line.fresh.get(line.counted).filter(|sample| sample.at == at).copied() else { continue };
            if line.series.process_started > process_started {
                process_started = line.series.process_started;
            }
            let difference = self.difference(line, sample, scraped.last);
            line.counted += 1;
            let Some((since, difference)) = difference else { continue };
            match line.kind {
                Kind::Total => requests.add(since, difference),
                Kind::Failed => failed.add(since, difference),
            }
        }
        if scraped.last.is_none() {
            self.targets.remember(scraped.target, at);
            scraped.last = self.targets.scraped(scraped.target);
        }
        if scraped.last.is_some_and(|last| last < at) {
            scraped.last = Some(at);
        }
        let Some(mut from) = requests.since else {
            self.set_apart(scraped, &failed);
            return None;
        };
        if let Some((since, late)) = self.apart.remove(scraped.target) {
            from = from.min(since);
            failed.number += late;
        }
        Some(Increment { from, at, process_started, requests: requests.number, failed: f64::min(failed.number, requests.number) })
    }

    /// Requests and failures are asked for one after the other, so that a scrape may fall between the questions: then one of them comes a
    /// look late. Failures wait for the next requests of their target; what they happened among is counted there or was counted before.
    fn set_apart(&mut self, scraped: &Scraped<'_, '_>, failed: &Counted) {
        let Counted { since: Some(since), number } = *failed else { return };
        if number <= 0.0 || scraped.last.is_none() {
            return;
        }
        let (earliest, waiting) = self.apart.entry(scraped.target.to_owned()).or_insert((since, 0.0));
        *earliest = since.min(*earliest);
        *waiting += number;
    }

    /// What a series counted, and since when. `None` for a sample that only is a base for the next one.
    fn difference(&mut self, line: &mut Line<'_>, sample: Sample, scraped: Option<Timestamp>) -> Option<(Timestamp, f64)> {
        let started = line.series.process_started.filter(|started| *started <= sample.at);
        let Some(earlier) = line.newest() else {
            if self.total.len() + self.failed.len() >= Self::MOST_SERIES {
                self.discarded = self.discarded.saturating_add(1);
                return None;
            }
            line.before = Some(sample);
            self.seen(line.kind).insert(&line.series.id, sample);
            // A series that was never seen stood at zero then for certain.
            return started
                .filter(|started| self.targets.began_at_zero(scraped, *started, sample.at))
                .map(|started| (started, sample.value));
        };
        Some(match started.filter(|started| *started > earlier.at) {
            Some(restarted) => (restarted, sample.value),
            None if sample.value < earlier.value => (earlier.at, sample.value),
            None => (earlier.at, sample.value - earlier.value),
        })
    }

    fn remember(&mut self, scraped: &Scraped<'_, '_>) {
        if let Some(last) = scraped.last {
            self.targets.remember(scraped.target, last);
        }
        for line in scraped.lines.iter().filter(|line| line.counted > 0) {
            if let Some((seen, newest)) = self.seen(line.kind).get_mut(&line.series.id).zip(line.newest()) {
                *seen = newest;
            }
        }
    }

    fn seen(&mut self, kind: Kind) -> &mut Few<Sample> {
        match kind {
            Kind::Total => &mut self.total,
            Kind::Failed => &mut self.failed,
        }
    }

    fn forget(&mut self, now: Timestamp) {
        let oldest = self.targets.forget(now);
        self.apart.retain(|target, _| self.targets.knows(target));
        self.total.retain(|sample| sample.at >= oldest);
        self.failed.retain(|sample| sample.at >= oldest);
    }
}

impl<'a> Line<'a> {
    fn name(&self) -> (&'a str, Kind, &'a str) {
        (&self.series.target, self.kind, &self.series.id)
    }

    /// The newest sample that is remembered.
    fn newest(&self) -> Option<Sample> {
        let before = self.before?;
        Some(self.fresh[..self.counted].last().copied().unwrap_or(before))
    }
}

impl<'a, 'l> Scraped<'a, 'l> {
    fn of(lines: &'l mut [Line<'a>]) -> Option<Self> {
        let target = &lines.first()?.series.target;
        Some(Self { target, lines, last: None })
    }

    /// How many scrapes there are at least.
    fn longest(&self) -> usize {
        self.lines.iter().map(|line| line.fresh.len()).max().unwrap_or(0)
    }

    /// When the target was scraped next.
    fn next(&self) -> Option<Timestamp> {
        self.lines.iter().filter_map(|line| line.fresh.get(line.counted)).map(|sample| sample.at).min()
    }
}

/// The samples that were not seen yet, until `latest`, and the times of those of them that are no counts.
fn fresh(samples: &[Sample], seen: Option<Timestamp>, latest: Timestamp) -> (Cow<'_, [Sample]>, Vec<Timestamp>) {
    let is_count = |sample: &Sample| sample.value >= 0.0 && sample.value <= Counter::LARGEST;
    if samples.is_sorted_by(|a, b| a.at < b.at) {
        let end = samples.partition_point(|sample| sample.at <= latest);
        let begin = samples[..end].partition_point(|sample| Some(sample.at) <= seen);
        let fresh = &samples[begin..end];
        if fresh.iter().all(is_count) {
            return (fresh.into(), Vec::new());
        }
    }
    let is_new = |sample: &&Sample| sample.at <= latest && Some(sample.at) > seen;
    let (counts, others): (Vec<Sample>, Vec<Sample>) = samples.iter().filter(is_new).partition(|sample| is_count(sample));
    (in_order(counts).into(), others.iter().map(|sample| sample.at).collect())
}

/// Of samples of the same moment the first one counts.
fn in_order(mut samples: Vec<Sample>) -> Vec<Sample> {
    samples.sort_by_key(|sample| sample.at);
    samples.dedup_by_key(|sample| sample.at);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time in range")
    }

    fn series(id: &str, target: &str, started: Option<i64>, samples: &[(i64, f64)]) -> Series {
        Series {
            id: id.to_owned(),
            target: target.to_owned(),
            process_started: started.map(at),
            route: None,
            samples: samples.iter().map(|&(second, value)| Sample { at: at(second), value }).collect(),
        }
    }

    fn scrape(total: &[(i64, f64)], failed: &[(i64, f64)]) -> Scrape {
        Scrape { total: vec![series("all", "pod-1", Some(-9_000), total)], failed: vec![series("5xx", "pod-1", Some(-9_000), failed)] }
    }

    fn counted(counter: &mut Counter, scrape: &Scrape, now: i64) -> Vec<(i64, i64, f64, f64)> {
        let increments = counter.take(scrape, at(now));
        increments.iter().map(|one| (one.from.as_second(), one.at.as_second(), one.requests, one.failed)).collect()
    }

    fn counter() -> Counter {
        Counter::new(SignedDuration::from_secs(15))
    }

    #[test]
    fn the_first_sample_is_only_a_base() {
        let mut counter = counter();
        assert_eq!(counted(&mut counter, &scrape(&[(0, 1000.0)], &[(0, 10.0)]), 0), []);
        assert_eq!(counted(&mut counter, &scrape(&[(15, 1150.0)], &[(15, 13.0)]), 15), [(0, 15, 150.0, 3.0)]);
    }

    #[test]
    fn samples_seen_before_and_samples_out_of_order_count_once() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 0.0), (15, 10.0), (30, 20.0)], &[]), 30);
        assert_eq!(counted(&mut counter, &scrape(&[(15, 10.0), (30, 20.0), (45, 25.0)], &[]), 45), [(30, 45, 5.0, 0.0)]);
        assert_eq!(counted(&mut counter, &scrape(&[(45, 25.0), (30, 20.0), (60, 26.0)], &[]), 60), [(45, 60, 1.0, 0.0)]);
    }

    #[test]
    fn a_counter_that_falls_began_again_at_zero() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 1000.0)], &[(0, 100.0)]), 0);
        assert_eq!(counted(&mut counter, &scrape(&[(15, 40.0)], &[(15, 2.0)]), 15), [(0, 15, 40.0, 2.0)]);
    }

    #[test]
    fn a_process_that_restarted_began_at_zero_even_if_it_counted_further_than_before() {
        let mut counter = counter();
        counter.take(&Scrape { total: vec![series("all", "pod-1", Some(-50), &[(0, 5.0)])], failed: vec![] }, at(0));
        let restarted = Scrape { total: vec![series("all", "pod-1", Some(4), &[(15, 9.0)])], failed: vec![] };
        assert_eq!(counted(&mut counter, &restarted, 15), [(4, 15, 9.0, 0.0)]);
    }

    #[test]
    fn the_first_errors_of_a_new_pod_count() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 1000.0)], &[]), 0);
        let new_pod = Scrape {
            total: vec![series("all-2", "pod-2", Some(3), &[(15, 20.0)])],
            failed: vec![series("5xx-2", "pod-2", Some(3), &[(15, 19.0)])],
        };
        assert_eq!(counted(&mut counter, &new_pod, 15), [(3, 15, 20.0, 19.0)]);
    }

    #[test]
    fn an_old_pod_that_is_seen_for_the_first_time_is_only_a_base() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 1000.0)], &[]), 0);
        let old_pod = Scrape { total: vec![series("all-2", "pod-2", Some(-600), &[(15, 9_000.0)])], failed: vec![] };
        let unknown_pod = Scrape { total: vec![series("all-3", "pod-3", None, &[(15, 9_000.0)])], failed: vec![] };
        assert_eq!(counted(&mut counter, &old_pod, 15), []);
        assert_eq!(counted(&mut counter, &unknown_pod, 15), []);
    }

    #[test]
    fn a_new_series_of_a_process_that_was_scraped_before_is_only_a_base() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 1000.0)], &[]), 0);
        assert_eq!(counted(&mut counter, &scrape(&[(15, 1010.0)], &[(15, 5.0)]), 15), [(0, 15, 10.0, 0.0)]);
        assert_eq!(counted(&mut counter, &scrape(&[(30, 1020.0)], &[(30, 9.0)]), 30), [(15, 30, 10.0, 4.0)]);
    }

    #[test]
    fn what_is_no_count_is_discarded_and_told() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 10.0)], &[]), 0);
        let nonsense = scrape(&[(15, f64::NAN), (16, f64::INFINITY), (17, -1.0), (18, 1e300)], &[(15, f64::NAN)]);
        assert_eq!(counted(&mut counter, &nonsense, 20), []);
        assert_eq!(counter.discarded(), 5);
        assert_eq!(counter.newest(), Some(at(0)));
        assert_eq!(counted(&mut counter, &scrape(&[(30, 12.0)], &[]), 30), [(0, 30, 2.0, 0.0)]);
    }

    #[test]
    fn more_failures_than_requests_are_as_many_as_requests() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 0.0)], &[(0, 0.0)]), 0);
        assert_eq!(counted(&mut counter, &scrape(&[(15, 5.0)], &[(15, 50.0)]), 15), [(0, 15, 5.0, 5.0)]);
    }

    #[test]
    fn failures_that_come_a_look_after_their_requests_count_with_the_next_ones() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 0.0)], &[(0, 0.0)]), 0);
        assert_eq!(counted(&mut counter, &scrape(&[(15, 10.0)], &[(0, 0.0)]), 15), [(0, 15, 10.0, 0.0)]);
        assert_eq!(counted(&mut counter, &scrape(&[(15, 10.0), (30, 20.0)], &[(15, 6.0), (30, 9.0)]), 30), [(0, 30, 10.0, 9.0)]);
        assert_eq!(counted(&mut counter, &scrape(&[(45, 30.0)], &[(45, 9.0)]), 45), [(30, 45, 10.0, 0.0)]);
    }

    #[test]
    fn failures_that_come_a_look_before_their_requests_wait_for_them() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 0.0)], &[(0, 0.0)]), 0);
        assert_eq!(counted(&mut counter, &scrape(&[(0, 0.0)], &[(15, 5.0)]), 15), []);
        assert_eq!(counted(&mut counter, &scrape(&[(15, 10.0)], &[(15, 5.0)]), 30), [(0, 15, 10.0, 5.0)]);
    }

    #[test]
    fn failures_of_a_target_that_went_wait_for_nothing() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 0.0)], &[(0, 0.0)]), 0);
        counted(&mut counter, &scrape(&[], &[(15, 5.0)]), 15);
        counter.take(&Scrape::default(), at(700));
        assert!(counter.apart.is_empty());
    }

    #[test]
    fn a_sample_from_the_future_is_not_believed() {
        let mut counter = counter();
        counted(&mut counter, &scrape(&[(0, 0.0)], &[]), 0);
        assert_eq!(counted(&mut counter, &scrape(&[(120, 5.0)], &[]), 15), []);
        assert_eq!(counted(&mut counter, &scrape(&[(30, 5.0)], &[]), 30), [(0, 30, 5.0, 0.0)]);
    }

    #[test]
    fn memory_is_bounded_and_vanished_series_are_forgotten() {
        let mut counter = counter();
        let many = |second: i64| Scrape {
            total: (0..12_000).map(|pod| series(&format!("all-{pod}"), &format!("pod-{pod}"), None, &[(second, 1.0)])).collect(),
            failed: vec![],
        };
        counter.take(&many(0), at(0));
        assert_eq!(counter.total.len(), Counter::MOST_SERIES);
        assert_eq!(counter.discarded(), 2_000);
        counter.take(&Scrape::default(), at(601));
        assert!(counter.total.len() == 0 && !counter.targets.knows("pod-0"));
    }
}
