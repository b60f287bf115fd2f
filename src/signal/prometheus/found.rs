//! Series as a server has them, before it is known which target they belong to; and how that is told.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::observation::Sample;

use super::super::series::{Labels, canonical};

/// A series before it is known which target it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) labels: Labels,
    pub(super) samples: Vec<Sample>,
}

impl Found {
    /// The name of its metric.
    pub(super) fn name(&self) -> &str {
        self.labels.get("__name__").map_or("", String::as_str)
    }

    /// Its samples, in another clock's time.
    pub(super) fn shifted(self, shift: SignedDuration) -> Vec<Sample> {
        let at = |at: Timestamp| at.checked_add(shift).unwrap_or(at);
        self.samples.into_iter().map(|sample| Sample { at: at(sample.at), ..sample }).collect()
    }
}

/// When processes began, by `job` and `instance`.
pub(super) type Starts = BTreeMap<(String, String), Timestamp>;

pub(super) fn job_and_instance(labels: &Labels) -> (String, String) {
    let label = |name| labels.get(name).cloned().unwrap_or_default();
    (label("job"), label("instance"))
}

pub(super) fn newest(series: &[Found]) -> Option<Timestamp> {
    series.iter().filter_map(|series| series.samples.last()).map(|sample| sample.at).max()
}

/// The usual time between two samples, in whole seconds if it is long. Nothing where fewer than four were there: a scrape may have failed.
pub(super) fn interval(series: &[Found]) -> Option<SignedDuration> {
    let longest = series.iter().max_by_key(|series| series.samples.len()).filter(|longest| longest.samples.len() > 3)?;
    let mut gaps: Vec<_> = longest.samples.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).collect();
    gaps.sort_unstable();
    let usual = gaps.get((gaps.len() - 1) / 2)?;
    let unit = if usual.as_secs() > 1 { 1000 } else { 1 };
    Some(SignedDuration::from_millis(i64::try_from((usual.as_millis() + unit / 2) / unit * unit).ok()?))
}

/// The labels that all series without an instance have in common.
pub(super) fn shared_labels<'a>(series: impl Iterator<Item = &'a Found>) -> Labels {
    let mut without = series.map(|series| &series.labels).filter(|labels| !labels.contains_key("instance"));
    let mut shared = without.next().cloned().unwrap_or_default();
    for labels in without {
        shared.retain(|label, value| labels.get(label) == Some(value));
    }
    shared.remove("__name__");
    shared
}

/// What a series was scraped from: its job and instance, or, where that is not told, everything that it shares with the others.
pub(super) fn target(labels: &Labels, shared: &Labels) -> String {
    match (labels.get("job"), labels.get("instance")) {
        (Some(job), Some(instance)) => format!("{job}/{instance}"),
        (None, Some(instance)) => instance.clone(),
        (_, None) => canonical("", shared),
    }
}
