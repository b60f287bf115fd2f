//! Which signal reads which made-up series: by the selectors of the configuration, as the daemon's sources choose theirs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::SignedDuration;
use rollbackd_core::service::SignalName;

use super::feed::{Feed, Labels, Line, Values};
use crate::config::SignalSettings;
use crate::signal::selector::Selector;

/// Tells when the process of an instance began; by Prometheus' own client libraries.
const PROCESS_START: &str = "process_start_time_seconds";

/// A made-up series.
#[derive(Clone, Debug)]
pub struct MadeUp {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its samples.
    pub values: Values,
}

/// What the signals of a service read, and the series that none of them does, by their place in `series`.
pub fn wire(
    signals: &BTreeMap<SignalName, SignalSettings>,
    series: &[MadeUp],
    interval: SignedDuration,
) -> (BTreeMap<SignalName, Feed>, Vec<usize>) {
    let mut read = vec![false; series.len()];
    let mut feeds = BTreeMap::new();
    for (signal, settings) in signals {
        let Some((total, failed)) = selectors(settings) else { continue };
        let mut lines = |selector: &str| {
            let Ok(selector) = Selector::parse(selector) else { return Vec::new() };
            let chosen = series.iter().enumerate().filter(|(_, made_up)| made_up.is_meant(&selector));
            chosen
                .map(|(index, made_up)| {
                    read[index] = true;
                    made_up.line(series)
                })
                .collect()
        };
        let (total, failed): (Vec<Line>, Vec<Line>) = (lines(total), lines(failed));
        if !total.is_empty() || !failed.is_empty() {
            feeds.insert(signal.clone(), Feed::Counters { total, failed, interval });
        }
    }
    let tells_nothing = |index: &usize| !read[*index] && series[*index].name != PROCESS_START;
    (feeds, (0..series.len()).filter(tells_nothing).collect())
}

/// The selectors by which a signal chooses its series.
pub fn selectors(settings: &SignalSettings) -> Option<(&str, &str)> {
    match settings {
        SignalSettings::Prometheus(settings) => Some((&settings.total, &settings.failed)),
        SignalSettings::Metrics(settings) => Some((&settings.total, &settings.failed)),
        SignalSettings::Probe(_) => None,
    }
}

impl MadeUp {
    fn is_meant(&self, selector: &Selector) -> bool {
        selector.matches(&self.name, |label| self.labels.get(label).map(|value| Cow::Borrowed(value.as_str())))
    }

    /// As a source gives it. Series that share their instance were scraped together; those without one all were.
    fn line(&self, all: &[Self]) -> Line {
        let place = |labels: &Labels| [labels.get("job").cloned(), labels.get("instance").cloned()];
        let started = all.iter().find(|other| other.name == PROCESS_START && place(&other.labels) == place(&self.labels));
        let target = match place(&self.labels) {
            [Some(job), Some(instance)] => format!("{job}/{instance}"),
            [None, Some(instance)] => instance,
            [_, None] => String::new(),
        };
        Line {
            id: format!("{}{:?}", self.name, self.labels),
            target,
            route: None,
            started: started.map(|started| started.values.clone()),
            values: self.values.clone(),
        }
    }
}
