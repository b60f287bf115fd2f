//! A pair of counters in the text of a metrics endpoint.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::observation::{Missing, Sample, Scrape, Series};

use super::super::exposition;
use super::super::selector::Selector;
use super::super::series::{Labels, SERIES_LIMIT, canonical, time};
use super::{Collect, labels, told_apart, too_many};

/// What was found in one text so far.
pub(super) struct Counters<'a> {
    selectors: [&'a Selector; 2],
    /// Of the two selectors: name, labels, value. One more than is allowed at most.
    found: [Vec<(String, Labels, f64)>; 2],
    /// When counters began, by the name of the counter's family and its labels. At most as many as counters.
    created: BTreeMap<(String, Labels), f64>,
    process_started: Option<f64>,
    by: Option<&'a str>,
}

impl<'a> Counters<'a> {
    pub(super) fn new(total: &'a Selector, failed: &'a Selector, by: Option<&'a str>) -> Self {
        Self { selectors: [total, failed], found: [Vec::new(), Vec::new()], created: BTreeMap::new(), process_started: None, by }
    }
}

impl Collect for Counters<'_> {
    type Whole = Scrape;

    fn take(&mut self, sample: &exposition::Sample<'_>) {
        if sample.name == "process_start_time_seconds" {
            self.process_started = Some(sample.value);
        }
        for (selector, counters) in self.selectors.iter().zip(&mut self.found) {
            if counters.len() <= SERIES_LIMIT
                && selector.may_match(&sample.name)
                && selector.matches(&sample.name, |label| sample.label(label))
            {
                counters.push((sample.name.to_string(), labels(sample), sample.value));
            }
        }
        // It can stand before or after its counter.
        if let Some(family) = sample.name.strip_suffix("_created")
            && self.created.len() <= 2 * SERIES_LIMIT
            && self.selectors.iter().any(|selector| selector.may_match(family) || selector.may_match(&format!("{family}_total")))
        {
            self.created.insert((family.to_owned(), labels(sample)), sample.value);
        }
    }

    fn whole(self, target: &str, now: Timestamp, shift: SignedDuration) -> Result<Scrape, Missing> {
        let (created, process_started, by) = (self.created, self.process_started, self.by);
        let began = |name: &str, labels: &Labels| {
            let family = name.strip_suffix("_total").unwrap_or(name);
            let own = created.get(&(family.to_owned(), labels.clone())).copied();
            // The series' own beginning is the better one: it may be younger than the process.
            own.or(process_started).and_then(time).and_then(|at| at.checked_add(shift).ok())
        };
        let [total, failed] = self.found.map(|counters| series(counters, by, target, now, &began));
        Ok(Scrape { total: total?, failed: failed? })
    }
}

fn series(
    counters: Vec<(String, Labels, f64)>,
    by: Option<&str>,
    target: &str,
    now: Timestamp,
    began: &dyn Fn(&str, &Labels) -> Option<Timestamp>,
) -> Result<Vec<Series>, Missing> {
    if counters.len() > SERIES_LIMIT {
        return Err(too_many());
    }
    let mut seen = BTreeSet::new();
    let mut series = Vec::new();
    for (name, mut labels, value) in counters {
        let process_started = began(&name, &labels);
        let route = by.and_then(|by| labels.get(by)).filter(|route| !route.is_empty()).cloned();
        told_apart(&mut labels, target);
        let id = canonical(&name, &labels);
        if !seen.insert(id.clone()) {
            return Err(Missing::Malformed(format!("{target}: the series {id} stands in it twice")));
        }
        series.push(Series { id, target: target.to_owned(), process_started, route, samples: vec![Sample { at: now, value }] });
    }
    Ok(series)
}
