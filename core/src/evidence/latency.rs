//! The lens on durations (DECISION 2.4): the share of slow requests, and the mean of an interval. A histogram is what is read.

use jiff::{SignedDuration, Timestamp};

use super::Excluded;
use crate::baseline::{LatencyBaseline, Span};
use crate::observation::{Histogram, Missing};
use crate::service::{Service, SignalPolicy};

/// What is remembered of histograms, watched or not.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    every: SignedDuration,
    requests: f64,
}

impl Latencies {
    /// Nothing remembered yet.
    pub(crate) fn new(every: SignedDuration) -> Self {
        Self { every, requests: 0.0 }
    }

    /// Takes in a look: what was counted since the last one, and the reason if it says nothing about the present.
    pub(crate) fn take(
        &mut self,
        _service: &Service,
        policy: &SignalPolicy,
        histograms: &[Histogram],
        at: Timestamp,
    ) -> (Vec<Durations>, Option<Missing>) {
        if histograms.is_empty() {
            return (Vec::new(), Some(Missing::NoSeries(policy.source.clone())));
        }
        let newest = histograms.iter().filter_map(|histogram| histogram.samples.last()).map(|sample| sample.at).max();
        let age = newest.map_or(SignedDuration::MAX, |newest| at.duration_since(newest));
        (Vec::new(), (age > self.every.saturating_mul(2)).then_some(Missing::Stale { age }))
    }

    /// The baseline of what the daemon saw itself.
    pub(crate) fn baseline(&self, _excluded: &[Excluded], span: Span) -> LatencyBaseline {
        LatencyBaseline { requests: self.requests, span }
    }
}

/// What was counted at one target between two samples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Durations {
    /// The begin.
    pub(crate) from: Timestamp,
    /// The end.
    pub(crate) at: Timestamp,
    /// When the process that counts began, if that is known.
    pub(crate) process_started: Option<Timestamp>,
}

/// Durations, weighed from the end of the grace time.
#[derive(Clone, Debug)]
pub(crate) struct LatencyWindow {
    since: Timestamp,
}

impl LatencyWindow {
    /// A window that begins with the deployment at `start`.
    pub(crate) fn new(service: &Service, start: Timestamp) -> Self {
        Self { since: start.checked_add(service.decision.grace).unwrap_or(Timestamp::MAX) }
    }

    /// From when on it weighs.
    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }
}
