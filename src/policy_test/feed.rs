//! What a test makes up, as the judge would have read it: the samples that a look finds, a round of probes, the answer to a question. Not
//! what is made of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::observation::{Answered, Missing, ProbeOutcome, ProbeRound, Reading, Sample, Scrape, Series};

use crate::signal::histogram::Family;

/// Values of one series, one for each interval from the begin on.
pub type Values = Arc<Vec<Option<f64>>>;

/// The labels of a series without its name.
pub type Labels = BTreeMap<String, String>;

/// A made-up series.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// What it would have been scraped from.
    pub target: String,
    /// The route of its requests, where the signal tells them apart.
    pub route: Option<String>,
    /// When the process that counts began, in seconds since the begin, at each of such intervals; from `process_start_time_seconds`.
    pub started: Option<(Values, SignedDuration)>,
    /// Its samples.
    pub values: Values,
}

/// What one signal reads.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Counters of all requests and of failed ones.
    Counters {
        /// Of all.
        total: Vec<Line>,
        /// Of failed ones.
        failed: Vec<Line>,
        /// From one sample to the next.
        interval: SignedDuration,
    },
    /// Histograms of durations.
    Histograms {
        /// Which series are parts of one.
        family: Family,
        /// Those series.
        parts: Vec<Line>,
        /// From one sample to the next.
        interval: SignedDuration,
    },
    /// Rounds of probes, one for each look: how many targets fail, of how many.
    Rounds(Vec<Option<(u32, u32)>>),
    /// Answers to a question of the operator's own: a value where there is one.
    Answers {
        /// What it is called.
        name: String,
        /// One for each interval.
        values: Values,
        /// From one answer to the next.
        interval: SignedDuration,
    },
}

impl Feed {
    /// How long it lasts, from the begin on. `every` is the time from one look to the next.
    #[must_use]
    pub fn lasts(&self, every: SignedDuration) -> SignedDuration {
        let (longest, step) = match self {
            Self::Counters { total, failed, interval } => {
                (total.iter().chain(failed).map(|line| line.values.len()).max().unwrap_or(0), *interval)
            }
            Self::Histograms { parts, interval, .. } => (parts.iter().map(|line| line.values.len()).max().unwrap_or(0), *interval),
            Self::Rounds(rounds) => (rounds.len(), every),
            Self::Answers { values, interval, .. } => (values.len(), *interval),
        };
        step.saturating_mul(i32::try_from(longest.saturating_sub(1)).unwrap_or(i32::MAX))
    }

    /// What a look finds, `since` so long after the begin, of a signal that is looked at `every` so often. It finds what a look at Prometheus
    /// does: the raw samples of the last six looks, and nothing where the newest is older than two.
    #[must_use]
    pub fn read(&self, since: SignedDuration, every: SignedDuration) -> Reading {
        match self {
            Self::Counters { total, failed, interval } => {
                let found = |lines: &[Line]| found(lines, since, every, *interval).map(|(line, samples)| line.series(samples)).collect();
                let total: Vec<Series> = found(total);
                let newest = total.iter().filter_map(|series| series.samples.last()).map(|sample| sample.at).max();
                let scrape = |total| Reading::Scrape(Scrape { failed: found(failed), total });
                unless_missing(newest, since, every).map_or_else(|| scrape(total), Reading::Missing)
            }
            Self::Histograms { family, parts, interval } => {
                let found: Vec<(&Line, Vec<Sample>)> = found(parts, since, every, *interval).collect();
                let newest = found.iter().filter_map(|(_, samples)| samples.last()).map(|sample| sample.at).max();
                if let Some(missing) = unless_missing(newest, since, every) {
                    return Reading::Missing(missing);
                }
                let same = |labels: &Labels, line: &Line| labels.iter().all(|(label, value)| line.labels.get(label) == Some(value));
                let place = |labels: &Labels| {
                    let line = found.iter().map(|(line, _)| *line).find(|line| same(labels, line));
                    (line.map(|line| line.target.clone()).unwrap_or_default(), line.and_then(|line| line.started(since)))
                };
                let series = found.iter().map(|(line, samples)| (line.name.clone(), line.labels.clone(), samples.clone()));
                Reading::Histograms(family.assembled(series, place))
            }
            Self::Rounds(rounds) => match index(since, every).and_then(|index| *rounds.get(index)?) {
                Some((failing, of)) => Reading::Probe(round(failing, of)),
                None => Reading::Missing(Missing::Unreachable("the test has no round here".to_owned())),
            },
            Self::Answers { name, values, interval } => match index(since, *interval).and_then(|index| values.get(index)) {
                Some(Some(value)) => Reading::Answer(vec![Answered { id: name.clone(), value: *value }]),
                Some(None) => Reading::Answer(Vec::new()),
                None => Reading::Missing(Missing::Unreachable("the test has no answer here".to_owned())),
            },
        }
    }
}

/// The raw samples of the last six looks, of all lines that have any.
fn found(
    lines: &[Line],
    since: SignedDuration,
    every: SignedDuration,
    interval: SignedDuration,
) -> impl Iterator<Item = (&Line, Vec<Sample>)> {
    let from = since.saturating_sub(every.saturating_mul(6).max(SignedDuration::from_secs(30)));
    lines.iter().filter_map(move |line| Some((line, line.between(from, since, interval)?)))
}

/// Why there is nothing: no sample at all, or none of the last two looks.
fn unless_missing(newest: Option<Timestamp>, since: SignedDuration, every: SignedDuration) -> Option<Missing> {
    match newest.map(|newest| at(since).duration_since(newest)) {
        None => Some(Missing::NoSeries("the selector".to_owned())),
        Some(age) if age > every.saturating_mul(2) => Some(Missing::Stale { age }),
        Some(_) => None,
    }
}

impl Line {
    /// The samples after one moment and until another; `None` where there are none.
    fn between(&self, after: SignedDuration, until: SignedDuration, interval: SignedDuration) -> Option<Vec<Sample>> {
        let first = index(after, interval).map_or(0, |index| index + 1);
        let last = index(until, interval)?.min(self.values.len().checked_sub(1)?);
        let sample = |index: usize| Some(Sample { at: at(time(index, interval)), value: self.values[index]? });
        let samples: Vec<Sample> = (first..=last).filter_map(sample).collect();
        (!samples.is_empty()).then_some(samples)
    }

    /// When the process that counts began, by the newest that is told until the last of these samples.
    fn started(&self, until: SignedDuration) -> Option<Timestamp> {
        let (values, interval) = self.started.as_ref()?;
        let known = index(until, *interval)?.min(values.len().checked_sub(1)?);
        let seconds = values[..=known].iter().rev().find_map(|value| *value)?;
        SignedDuration::try_from_secs_f64(seconds).ok().map(at)
    }

    fn series(&self, samples: Vec<Sample>) -> Series {
        let until = samples.last().map_or(SignedDuration::ZERO, |sample| since(sample.at));
        Series {
            id: format!("{}{:?}", self.name, self.labels),
            target: self.target.clone(),
            process_started: self.started(until),
            route: self.route.clone(),
            samples,
        }
    }
}

/// The moment that is so long after the begin. A test begins where Prometheus' own do, at 1970-01-01 00:00:00 UTC; so clock times in words
/// count from the begin, and so does `process_start_time_seconds`.
#[must_use]
pub fn at(since: SignedDuration) -> Timestamp {
    Timestamp::UNIX_EPOCH.checked_add(since).unwrap_or(Timestamp::MAX)
}

/// How long after the begin a moment is.
#[must_use]
pub fn since(at: Timestamp) -> SignedDuration {
    at.duration_since(Timestamp::UNIX_EPOCH)
}

/// Which of the steps it is in; `None` before the first.
fn index(since: SignedDuration, step: SignedDuration) -> Option<usize> {
    usize::try_from(since.as_millis().checked_div_euclid(step.as_millis())?).ok()
}

fn time(index: usize, step: SignedDuration) -> SignedDuration {
    step.saturating_mul(i32::try_from(index).unwrap_or(i32::MAX))
}

fn round(failing: u32, of: u32) -> ProbeRound {
    let passed = ProbeOutcome::Passed { latency: SignedDuration::from_millis(1) };
    let outcome = |target| if target < failing { ProbeOutcome::Failed("made up".to_owned()) } else { passed.clone() };
    ProbeRound { targets: (0..of).map(|target| (format!("target {}", target + 1), outcome(target))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy_test::notation::samples;

    const EVERY: SignedDuration = SignedDuration::from_secs(15);

    fn seconds(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    fn line(text: &str) -> Line {
        let values = Arc::new(samples(text).unwrap());
        Line { name: "r".to_owned(), labels: Labels::new(), target: "a".to_owned(), route: None, started: None, values }
    }

    fn counters(total: &str) -> Feed {
        Feed::Counters { total: vec![line(total)], failed: Vec::new(), interval: EVERY }
    }

    fn values(reading: &Reading) -> Vec<(i64, f64)> {
        let Reading::Scrape(scrape) = reading else { panic!("{reading:?}") };
        scrape.total[0].samples.iter().map(|sample| (sample.at.as_second(), sample.value)).collect()
    }

    #[test]
    fn a_look_finds_the_raw_samples_of_the_last_six_looks() {
        let feed = counters("0+10x100");
        assert_eq!(values(&feed.read(seconds(0), EVERY)), [(0, 0.0)]);
        let found = values(&feed.read(seconds(907), EVERY));
        assert_eq!((found.len(), found[0], found[5]), (6, (825, 550.0), (900, 600.0)));
    }

    #[test]
    fn a_series_that_ends_is_missing_after_two_looks() {
        let feed = counters("0+10x3");
        assert_eq!(values(&feed.read(seconds(75), EVERY)).last(), Some(&(45, 30.0)));
        assert_eq!(feed.read(seconds(76), EVERY), Reading::Missing(Missing::Stale { age: seconds(31) }));
        assert!(matches!(feed.read(seconds(1000), EVERY), Reading::Missing(Missing::NoSeries(_))));
    }

    #[test]
    fn a_gap_is_no_sample() {
        assert_eq!(values(&counters("1 _ stale 4").read(seconds(45), EVERY)), [(0, 1.0), (45, 4.0)]);
    }

    #[test]
    fn the_start_of_a_process_is_the_newest_that_is_told() {
        let started = Some((Arc::new(samples("-60x2 30x5").unwrap()), EVERY));
        let feed = Feed::Counters { total: vec![Line { started, ..line("0+1x9") }], failed: Vec::new(), interval: EVERY };
        let start = |since| match feed.read(seconds(since), EVERY) {
            Reading::Scrape(scrape) => scrape.total[0].process_started.map(Timestamp::as_second),
            other => panic!("{other:?}"),
        };
        assert_eq!((start(30), start(45), start(135)), (Some(-60), Some(30), Some(30)));
    }

    #[test]
    fn a_histogram_is_put_together_from_its_parts() {
        let part = |name: &str, le: &[(&str, &str)], text: &str| {
            let labels = le.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
            Line { name: name.to_owned(), labels, ..line(text) }
        };
        let parts = vec![
            part("d_bucket", &[("le", "0.1"), ("route", "/pay")], "0+90x9"),
            part("d_bucket", &[("le", "+Inf"), ("route", "/pay")], "0+100x9"),
            part("d_count", &[("route", "/pay")], "0+100x9"),
            part("d_sum", &[("route", "/pay")], "0+8x9"),
        ];
        let feed = Feed::Histograms { family: Family::parse("d").unwrap(), parts, interval: EVERY };
        let Reading::Histograms(histograms) = feed.read(seconds(30), EVERY) else { panic!("no histograms") };
        assert_eq!((histograms.len(), &histograms[0].bounds, histograms[0].target.as_str()), (1, &vec![0.1], "a"));
        let newest = histograms[0].samples.last().unwrap();
        assert_eq!((newest.at.as_second(), newest.count, newest.sum, &newest.below), (30, 200.0, 16.0, &vec![180.0]));
        assert!(matches!(feed.read(seconds(1000), EVERY), Reading::Missing(_)));
    }

    #[test]
    fn a_round_fails_at_as_many_targets_as_it_says() {
        let feed = Feed::Rounds(crate::policy_test::notation::rounds("ok 1/3 _").unwrap());
        let failing = |since| match feed.read(seconds(since), seconds(5)) {
            Reading::Probe(round) => {
                Some((round.targets.iter().filter(|(_, outcome)| matches!(outcome, ProbeOutcome::Failed(_))).count(), round.targets.len()))
            }
            _ => None,
        };
        assert_eq!((failing(0), failing(5), failing(10), failing(15)), (Some((0, 1)), Some((1, 3)), None, None));
    }
}
