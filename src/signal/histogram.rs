//! Histograms of durations, put together from the series that they are exposed as: `_bucket` with its bound in `le`, `_sum` and `_count`.
//! What can't be put together for sure is left out. How the series are fetched is not decided here, nor what they say about a service.
//!
//! The format: <https://prometheus.io/docs/concepts/metric_types/#histogram>.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use rollbackd_core::observation::{Histogram, HistogramSample, Sample};

use super::http::plain;
use super::selector::{Selector, SelectorError};
use super::series::{Labels, canonical};
use super::some;

/// So many buckets are handed on. A histogram with more (Micrometer makes up to 276) loses every so many of its bounds, which is no loss of
/// counts: each bucket counts everything below its bound.
pub(super) const MOST_BUCKETS: usize = 64;

/// So many are taken in. No library makes more by itself.
const BUCKET_LIMIT: usize = 1024;

/// Which histograms are meant: the name that their series have in common, and matchers.
#[derive(Clone, Debug)]
pub struct Family {
    selector: Selector,
    /// Without `_bucket`, `_sum` or `_count`.
    name: String,
}

/// A text that names no histogram.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FamilyError {
    /// It is no selector.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// It leaves the name open.
    #[error("it names no metric")]
    NoName,
    /// It names something else that a histogram consists of than its buckets.
    #[error("{name} is a part of a histogram, not the histogram {base}")]
    Part {
        /// The name in it.
        name: String,
        /// The same without its suffix.
        base: String,
    },
    /// It selects single buckets.
    #[error("it asks for a label `le`, so that it means single buckets")]
    Le,
}

/// What a series of a histogram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `_bucket`.
    Bucket,
    /// `_sum`.
    Sum,
    /// `_count`.
    Count,
}

const SUFFIXES: [(&str, Part); 3] = [("_bucket", Part::Bucket), ("_sum", Part::Sum), ("_count", Part::Count)];

/// Units other than seconds, by the end of the name.
const UNITS: [(&str, f64); 6] =
    [("_milliseconds", 1e-3), ("_millis", 1e-3), ("_ms", 1e-3), ("_microseconds", 1e-6), ("_us", 1e-6), ("_nanoseconds", 1e-9)];

impl Family {
    /// Reads a selector: `http_request_duration_seconds{service="shop"}`; one of its buckets means the same.
    ///
    /// # Errors
    /// When it is no plain selector, or does not name one histogram.
    pub fn parse(text: &str) -> Result<Self, FamilyError> {
        let selector = Selector::parse(text)?;
        let name = selector.name().ok_or(FamilyError::NoName)?;
        let base = match SUFFIXES.iter().find_map(|(suffix, part)| Some((name.strip_suffix(suffix)?, *part))) {
            Some((base, Part::Bucket)) => base.to_owned(),
            Some((base, _)) => return Err(FamilyError::Part { name: name.to_owned(), base: base.to_owned() }),
            None => name.to_owned(),
        };
        if base.is_empty() {
            return Err(FamilyError::NoName);
        } else if selector.asks_for("le") {
            return Err(FamilyError::Le);
        }
        Ok(Self { selector, name: base })
    }

    /// The name that its series have in common.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a series is a part of one of its histograms. `label` looks a label up.
    pub fn means<'a>(&self, name: &str, label: impl FnMut(&str) -> Option<Cow<'a, str>>) -> bool {
        self.part(name).is_some() && self.has_labels(label)
    }

    /// The histograms of these series, each with its name, its labels and its samples in order of time. Of one whose bounds changed, what
    /// came last; what can't be put together is left out. `place` says what a histogram of these labels was scraped from, and when its
    /// process began.
    pub fn assembled(
        &self,
        series: impl IntoIterator<Item = (String, BTreeMap<String, String>, Vec<Sample>)>,
        place: impl Fn(&BTreeMap<String, String>) -> (String, Option<Timestamp>),
    ) -> Vec<Histogram> {
        let mut assembly = Assembly::new(self);
        series.into_iter().for_each(|(name, labels, samples)| assembly.add(&name, labels, samples));
        let put = |(labels, parts): (Labels, Parts)| {
            let (target, process_started) = place(&labels);
            let run = parts.runs().0.pop()?;
            Some(self.histogram(&labels, target, process_started, run))
        };
        assembly.into_parts().into_iter().filter_map(put).collect()
    }

    /// A selector in PromQL of all its series.
    pub(super) fn of_parts(&self) -> String {
        self.selector.with_names(&SUFFIXES.map(|(suffix, _)| format!("{}{suffix}", self.name)))
    }

    /// The same of its counts alone.
    pub(super) fn of_counts(&self) -> String {
        self.selector.with_names(&[format!("{}_count", self.name)])
    }

    /// The same of what has the bare name: a native histogram, or a summary.
    pub(super) fn of_base(&self) -> String {
        self.selector.with_names(std::slice::from_ref(&self.name))
    }

    /// What the series of this name is, if it belongs to the family by its name.
    pub(crate) fn part(&self, name: &str) -> Option<Part> {
        let suffix = name.strip_prefix(self.name.as_str())?;
        SUFFIXES.iter().find(|(known, _)| *known == suffix).map(|(_, part)| *part)
    }

    /// Whether the matchers on labels hold; the name is not looked at.
    pub(crate) fn has_labels<'a>(&self, label: impl FnMut(&str) -> Option<Cow<'a, str>>) -> bool {
        self.selector.labels_match(label)
    }

    /// Why one of its histograms, or a part of it, is left out.
    pub(super) fn explained(&self, labels: &Labels, flaw: &Flaw) -> String {
        format!("{}: {flaw}", plain(&canonical(&self.name, labels)))
    }

    /// What a unit of its durations is in seconds.
    #[must_use]
    pub fn unit(&self) -> f64 {
        UNITS.iter().find(|(suffix, _)| self.name.ends_with(suffix)).map_or(1.0, |(_, seconds)| *seconds)
    }

    /// One histogram with the samples of one run.
    pub(crate) fn histogram(&self, labels: &Labels, target: String, process_started: Option<Timestamp>, run: Run) -> Histogram {
        let unit = self.unit();
        let Run { bounds, mut samples } = run.thinned();
        let bounds: Vec<f64> = bounds.into_iter().map(|bound| bound * unit).collect();
        for sample in &mut samples {
            sample.sum *= unit;
        }
        Histogram { id: canonical(&self.name, labels), target, process_started, bounds, samples }
    }
}

/// Histograms that are being put together.
#[derive(Debug)]
pub(super) struct Assembly<'a> {
    family: &'a Family,
    /// By their labels without `le`.
    parts: BTreeMap<Labels, Parts>,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(family: &'a Family) -> Self {
        Self { family, parts: BTreeMap::new() }
    }

    /// Takes in a series of the family, in order of time. Others are of no use.
    pub(super) fn add(&mut self, name: &str, mut labels: Labels, samples: Vec<Sample>) {
        let Some(part) = self.family.part(name) else { return };
        let le = if part == Part::Bucket { labels.remove("le") } else { None };
        self.parts.entry(labels).or_default().add(part, le.as_deref(), samples);
    }

    /// How many histograms there are.
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    pub(super) fn into_parts(self) -> BTreeMap<Labels, Parts> {
        self.parts
    }
}

/// The series of one histogram, each in order of time.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// By bound, in any order; what is not finite and what is negative is of no use and not kept.
    buckets: Vec<(f64, Vec<Sample>)>,
    sum: Vec<Sample>,
    count: Vec<Sample>,
    /// Whether there is a bucket for everything, which tells nothing by itself.
    has_infinite: bool,
    flaw: Option<Flaw>,
}

/// Why a histogram, or some of its samples, are left out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Flaw {
    Bound(String),
    Twice,
    TooMany,
    NoBuckets,
    Unbounded,
    Incomplete,
    NotCounts,
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(le) => write!(formatter, "a bucket whose `le` is no number: {le:?}"),
            Self::Twice => formatter.write_str("a part of it is there twice"),
            Self::TooMany => write!(formatter, "it has more than {BUCKET_LIMIT} buckets"),
            Self::NoBuckets => formatter.write_str("it has no buckets, as a summary has none: a histogram with buckets is needed"),
            Self::Unbounded => formatter.write_str("of its buckets only `+Inf` is of use, which tells no duration: others are needed"),
            Self::Incomplete => {
                formatter.write_str("a part of it is missing: `_bucket`, `_sum` and `_count` are needed, of the same scrape")
            }
            Self::NotCounts => formatter.write_str("what it has are no counts: not a number, negative, or fewer below a higher bound"),
        }
    }
}

/// Samples with the same bounds, nothing else in between.
#[derive(Debug, PartialEq)]
pub(crate) struct Run {
    bounds: Vec<f64>,
    pub(crate) samples: Vec<HistogramSample>,
}

impl Parts {
    /// Takes in one more series.
    pub(crate) fn add(&mut self, part: Part, le: Option<&str>, samples: Vec<Sample>) {
        let place = match part {
            Part::Sum => &mut self.sum,
            Part::Count => &mut self.count,
            Part::Bucket => {
                let le = le.unwrap_or_default();
                match le.parse::<f64>() {
                    Ok(bound) if bound.is_nan() => self.flaw = Some(Flaw::Bound(plain(le))),
                    Ok(bound) if bound.is_finite() && bound >= 0.0 => self.add_bucket(bound, samples),
                    Ok(bound) => self.has_infinite |= bound > 0.0,
                    Err(_) => self.flaw = Some(Flaw::Bound(plain(le))),
                }
                return;
            }
        };
        if place.is_empty() { *place = samples } else { self.flaw = Some(Flaw::Twice) }
    }

    fn add_bucket(&mut self, bound: f64, samples: Vec<Sample>) {
        // `1` and `1.0` are one bound, which Prometheus 3 writes anew.
        let Some((_, same)) = self.buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) else {
            if self.buckets.len() < BUCKET_LIMIT {
                self.buckets.push((bound, samples));
            } else {
                self.flaw = Some(Flaw::TooMany);
            }
            return;
        };
        same.extend(samples);
        same.sort_by_key(|sample| sample.at);
        if same.windows(2).any(|pair| pair[0].at == pair[1].at) {
            self.flaw = Some(Flaw::Twice);
        }
    }

    /// What can be put together, in order of time; and why something was left out, if anything was. Where the bounds change, another run
    /// begins: nothing can be counted from one to the next. A sample that only lacks some of the bounds while it goes on counting is no
    /// change but a part of a scrape, and left out.
    pub(crate) fn runs(mut self) -> (Vec<Run>, Option<Flaw>) {
        if self.flaw.is_none() && self.buckets.is_empty() {
            self.flaw = Some(if self.has_infinite { Flaw::Unbounded } else { Flaw::NoBuckets });
        }
        if self.flaw.is_some() {
            return (Vec::new(), self.flaw);
        }
        self.buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (mut sums, mut flaw) = (Cursor::new(&self.sum), None);
        let mut buckets: Vec<_> = self.buckets.iter().map(|(bound, samples)| (*bound, Cursor::new(samples))).collect();
        let mut runs: Vec<Run> = Vec::new();
        for count in &self.count {
            let found = buckets.iter_mut().filter_map(|(bound, samples)| Some((*bound, samples.at(count.at)?)));
            let (bounds, below): (Vec<f64>, Vec<f64>) = found.unzip();
            let sum = sums.at(count.at);
            let Some(sum) = sum.filter(|_| !bounds.is_empty()) else {
                flaw = Some(if sum.is_some() && self.has_infinite { Flaw::Unbounded } else { Flaw::Incomplete });
                continue;
            };
            let sample = HistogramSample { at: count.at, count: count.value, sum, below };
            if !are_counts(&sample) {
                flaw = Some(Flaw::NotCounts);
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.samples.last().is_some_and(|last| last.at >= sample.at) => flaw = Some(Flaw::Twice),
                Some(run) if run.bounds == bounds => run.samples.push(sample),
                Some(run) if run.has_all(&bounds) && run.samples.last().is_some_and(|last| last.count <= sample.count) => {
                    flaw = Some(Flaw::Incomplete);
                }
                _ => runs.push(Run { bounds, samples: vec![sample] }),
            }
        }
        if self.count.is_empty() {
            flaw = Some(Flaw::Incomplete);
        }
        (runs, flaw)
    }
}

/// Goes along a series, as far as it is asked.
struct Cursor<'a> {
    rest: &'a [Sample],
}

impl<'a> Cursor<'a> {
    fn new(samples: &'a [Sample]) -> Self {
        Self { rest: samples }
    }

    /// The value of exactly that time.
    fn at(&mut self, at: Timestamp) -> Option<f64> {
        while let Some((first, rest)) = self.rest.split_first() {
            if first.at >= at {
                return (first.at == at).then_some(first.value);
            }
            self.rest = rest;
        }
        None
    }
}

fn are_counts(sample: &HistogramSample) -> bool {
    let is_count = |value: f64| value.is_finite() && value >= 0.0;
    let all = sample.below.iter().chain([&sample.count]);
    is_count(sample.sum) && all.clone().all(|value| is_count(*value)) && all.is_sorted()
}

impl Run {
    fn has_all(&self, bounds: &[f64]) -> bool {
        bounds.iter().all(|bound| self.bounds.contains(bound))
    }

    /// With [`MOST_BUCKETS`] bounds at most, evenly chosen, the highest among them.
    fn thinned(mut self) -> Self {
        let number = self.bounds.len();
        if number > MOST_BUCKETS {
            let chosen = |all: &[f64]| (1..=MOST_BUCKETS).filter_map(|index| all.get(index * number / MOST_BUCKETS - 1).copied()).collect();
            self.bounds = chosen(&self.bounds);
            for sample in &mut self.samples {
                sample.below = chosen(&sample.below);
            }
        }
        self
    }
}

/// What is there, for a person: `3 histograms with 12 buckets from 5ms to 10s`.
pub(super) fn described(histograms: &[Histogram]) -> String {
    let bounds = || histograms.iter().flat_map(|histogram| &histogram.bounds).copied();
    let (lowest, highest) = (bounds().fold(f64::INFINITY, f64::min), bounds().fold(0.0, f64::max));
    let fewest = histograms.iter().map(|histogram| histogram.bounds.len()).min().unwrap_or(0);
    let most = histograms.iter().map(|histogram| histogram.bounds.len()).max().unwrap_or(0);
    let buckets = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
    let bucket = if most == 1 { "bucket" } else { "buckets" };
    let (lowest, highest) = (seconds(lowest), seconds(highest));
    format!("{} with {buckets} {bucket} from {lowest} to {highest}", some(histograms.len(), "histogram"))
}

fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| format!("{seconds}s"), |duration| format!("{duration:?}"))
}

#[cfg(test)]
mod tests;
