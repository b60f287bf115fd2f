//! Histograms of durations in the text of a metrics endpoint. How they are put together stands in `signal::histogram`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::observation::{Histogram, Missing, Sample};

use super::super::exposition;
use super::super::histogram::{Assembly, Family};
use super::super::series::{Labels, SERIES_LIMIT, time};
use super::{Collect, labels, told_apart, too_many};

/// What was found in one text so far.
pub(super) struct Durations<'a> {
    family: &'a Family,
    now: Timestamp,
    /// At most one histogram more than is allowed.
    parts: Assembly<'a>,
    /// When histograms began, by their labels. At most as many as histograms.
    created: BTreeMap<Labels, f64>,
    process_started: Option<f64>,
}

impl<'a> Durations<'a> {
    pub(super) fn new(family: &'a Family, now: Timestamp) -> Self {
        Self { family, now, parts: Assembly::new(family), created: BTreeMap::new(), process_started: None }
    }
}

impl Collect for Durations<'_> {
    /// Those that could be put together, and why others could not.
    type Whole = (Vec<Histogram>, Option<String>);

    fn take(&mut self, sample: &exposition::Sample<'_>) {
        if sample.name == "process_start_time_seconds" {
            self.process_started = Some(sample.value);
        }
        let is_created = sample.name.strip_suffix("_created").is_some_and(|family| family == self.family.name());
        let is_part = self.family.part(&sample.name).is_some();
        if !(is_created || is_part) || !self.family.has_labels(|label| sample.label(label)) {
            return;
        }
        if is_part && self.parts.len() <= SERIES_LIMIT {
            self.parts.add(&sample.name, labels(sample), vec![Sample { at: self.now, value: sample.value }]);
        } else if is_created && self.created.len() <= SERIES_LIMIT {
            self.created.insert(labels(sample), sample.value);
        }
    }

    fn whole(self, target: &str, _now: Timestamp, shift: SignedDuration) -> Result<Self::Whole, Missing> {
        if self.parts.len() > SERIES_LIMIT {
            return Err(too_many());
        }
        let (mut histograms, mut left_out) = (Vec::new(), None);
        for (mut labels, parts) in self.parts.into_parts() {
            // The histogram's own beginning is the better one: it may be younger than the process.
            let began = self.created.get(&labels).copied().or(self.process_started).and_then(time);
            let process_started = began.and_then(|at| at.checked_add(shift).ok());
            told_apart(&mut labels, target);
            let (runs, flaw) = parts.runs();
            left_out = left_out.or_else(|| flaw.map(|flaw| self.family.explained(&labels, &flaw)));
            histograms.extend(runs.into_iter().map(|run| self.family.histogram(&labels, target.to_owned(), process_started, run)));
        }
        Ok((histograms, left_out))
    }
}
