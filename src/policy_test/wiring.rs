//! Which signal reads which made-up series: by the selectors of the configuration, as the daemon's sources choose theirs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::SignedDuration;
use rollbackd_core::service::SignalName;

use super::feed::{Feed, Labels, Line, Values};
use crate::config::SignalSettings;
use crate::signal::histogram::Family;
use crate::signal::metrics::Wanted;
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

/// What a signal chooses.
enum Chosen<'a> {
    Counters { total: &'a str, failed: &'a str, by: Option<&'a str> },
    Histogram(&'a str),
}

/// What the signals of a service read, and the series that none of them does, by their place in `series`.
#[must_use]
pub fn wire(
    signals: &BTreeMap<SignalName, SignalSettings>,
    series: &[MadeUp],
    interval: SignedDuration,
) -> (BTreeMap<SignalName, Feed>, Vec<usize>) {
    let mut read = vec![false; series.len()];
    let mut feeds = BTreeMap::new();
    for (signal, settings) in signals {
        let mut lines = |is_meant: &dyn Fn(&MadeUp) -> bool, by: Option<&str>| -> Vec<Line> {
            let meant = series.iter().enumerate().filter(|(_, made_up)| is_meant(made_up));
            let line = |(index, made_up): (usize, &MadeUp)| {
                read[index] = true;
                made_up.line(series, by, interval)
            };
            meant.map(line).collect()
        };
        match chosen(settings) {
            Some(Chosen::Counters { total, failed, by }) => {
                let (Ok(all), Ok(bad)) = (Selector::parse(total), Selector::parse(failed)) else { continue };
                let total = lines(&|made_up| all.matches(&made_up.name, |label| made_up.label(label)), by);
                let failed = lines(&|made_up| bad.matches(&made_up.name, |label| made_up.label(label)), by);
                if !total.is_empty() || !failed.is_empty() {
                    feeds.insert(signal.clone(), Feed::Counters { total, failed, interval });
                }
            }
            Some(Chosen::Histogram(histogram)) => {
                let Ok(family) = Family::parse(histogram) else { continue };
                let parts = lines(&|made_up| family.means(&made_up.name, |label| made_up.label(label)), None);
                if !parts.is_empty() {
                    feeds.insert(signal.clone(), Feed::Histograms { family, parts, interval });
                }
            }
            None => {}
        }
    }
    let tells_nothing = |index: &usize| !read[*index] && series[*index].name != PROCESS_START;
    (feeds, (0..series.len()).filter(tells_nothing).collect())
}

/// What a signal reads, in words; `None` for one that reads no series.
#[must_use]
pub fn described(settings: &SignalSettings) -> Option<String> {
    chosen(settings).map(|chosen| match chosen {
        Chosen::Counters { total, failed, .. } => format!("{total} and {failed}"),
        Chosen::Histogram(histogram) => format!("the histogram {histogram}"),
    })
}

fn chosen(settings: &SignalSettings) -> Option<Chosen<'_>> {
    match settings {
        SignalSettings::Prometheus(settings) => {
            Some(Chosen::Counters { total: &settings.total, failed: &settings.failed, by: settings.by.as_deref() })
        }
        SignalSettings::Metrics(settings) => Some(match &settings.wanted {
            Wanted::Counters { total, failed, by } => Chosen::Counters { total, failed, by: by.as_deref() },
            Wanted::Histogram(histogram) => Chosen::Histogram(histogram),
        }),
        SignalSettings::Histograms(settings) => Some(Chosen::Histogram(&settings.histogram)),
        SignalSettings::Query(_) | SignalSettings::Probe(_) => None,
    }
}

impl MadeUp {
    fn label(&self, label: &str) -> Option<Cow<'_, str>> {
        self.labels.get(label).map(|value| Cow::Borrowed(value.as_str()))
    }

    /// As a source gives it. Series that share their instance were scraped together; those without one all were.
    fn line(&self, all: &[Self], by: Option<&str>, interval: SignedDuration) -> Line {
        let place = |labels: &Labels| [labels.get("job").cloned(), labels.get("instance").cloned()];
        let started = all.iter().find(|other| other.name == PROCESS_START && place(&other.labels) == place(&self.labels));
        let target = match place(&self.labels) {
            [Some(job), Some(instance)] => format!("{job}/{instance}"),
            [None, Some(instance)] => instance,
            [_, None] => String::new(),
        };
        Line {
            name: self.name.clone(),
            labels: self.labels.clone(),
            target,
            route: by.and_then(|by| self.labels.get(by)).filter(|route| !route.is_empty()).cloned(),
            started: started.map(|started| (started.values.clone(), interval)),
            values: self.values.clone(),
        }
    }
}
