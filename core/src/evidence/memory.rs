//! What is remembered of one signal, watched or not: its counters, and its own history for the next baseline.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::interval::{Counted, Grouping, Interval};
use super::latency::Latencies;
use super::query::Answers;
use super::rounds::{Round, Rounds};
use super::sight::Sight;
use super::{Excluded, routes};
use crate::baseline::{Baseline, ErrorsBaseline, ProbeBaseline, Span};
use crate::counter::{Counter, Increment};
use crate::observation::{Missing, Scrape};
use crate::service::{Service, SignalKind, SignalPolicy};

/// The memory of one signal.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) sight: Sight,
    pub(crate) history: History,
    /// The cluster size of the newest baseline.
    pub(crate) cluster: Option<f64>,
}

/// What was read, in its own shape.
#[derive(Clone, Debug)]
pub(crate) enum History {
    /// Of counters.
    Errors(Box<Intervals>),
    /// Of probes.
    Probe(Rounds),
    /// Of histograms.
    Latency(Latencies),
    /// Of a question.
    Query(Answers),
}

/// Counters, and the intervals of the configured history where the source keeps none.
#[derive(Clone, Debug)]
pub(crate) struct Intervals {
    counter: Counter,
    grouping: Grouping,
    newest: VecDeque<Interval>,
}

impl Memory {
    /// Nothing remembered yet.
    pub(crate) fn new(policy: &SignalPolicy) -> Self {
        let history = match policy.kind {
            SignalKind::Errors => History::Errors(Box::new(Intervals {
                counter: Counter::new(policy.every),
                grouping: Grouping::new(policy.every, Timestamp::MIN),
                newest: VecDeque::new(),
            })),
            SignalKind::Probe => History::Probe(Rounds::default()),
            SignalKind::Latency => History::Latency(Latencies::new(policy.every)),
            SignalKind::Query { .. } => History::Query(Answers::default()),
        };
        Self { sight: Sight::default(), history, cluster: None }
    }

    /// Whether it is of the kind that the signal has now.
    pub(crate) fn fits(&self, policy: &SignalPolicy) -> bool {
        match self.history {
            History::Errors(_) => policy.kind == SignalKind::Errors,
            History::Probe(_) => policy.kind == SignalKind::Probe,
            History::Latency(_) => policy.kind == SignalKind::Latency,
            History::Query(_) => matches!(policy.kind, SignalKind::Query { .. }),
        }
    }

    /// The baseline of what came before `start` and is not excluded.
    pub(crate) fn baseline(&self, service: &Service, policy: &SignalPolicy, start: Timestamp, excluded: &[Excluded]) -> Baseline {
        let span = span(service, policy, start);
        match &self.history {
            History::Errors(intervals) => {
                let kept: Vec<Interval> =
                    intervals.newest.iter().filter(|one| counts(&span, excluded, one.from, one.at)).copied().collect();
                Baseline::Errors(ErrorsBaseline::of(&kept, span))
            }
            History::Probe(rounds) => {
                let kept: Vec<Round> = rounds.iter().filter(|round| counts(&span, excluded, round.at, round.at)).collect();
                Baseline::Probe(ProbeBaseline::of(&kept, span))
            }
            History::Latency(latencies) => Baseline::Latency(latencies.baseline(excluded, span)),
            History::Query(answers) => Baseline::Query(answers.baseline(excluded, span)),
        }
    }
}

impl Intervals {
    /// Half a day at 30-second steps, a quarter of one at 15: 68 KiB.
    const MOST: usize = 1440;

    /// However fast the looks follow each other, a look itself may take as long as this.
    const FRESH: SignedDuration = SignedDuration::from_secs(2);

    /// Takes in a scrape: what was counted, and the reason if it says nothing about the present. What it says about the past counts all the same.
    pub(crate) fn take(
        &mut self,
        service: &Service,
        policy: &SignalPolicy,
        scrape: &Scrape,
        at: Timestamp,
    ) -> (Vec<Increment>, Option<Missing>) {
        if scrape.total.is_empty() {
            return (Vec::new(), Some(Missing::NoSeries(policy.source.clone())));
        }
        let increments = self.counter.take(scrape, at);
        if !policy.has_history {
            self.remember(service, &increments, at);
        }
        let Some(newest) = self.counter.newest() else {
            return (increments, Some(Missing::Malformed("no sample is a count".to_owned())));
        };
        let age = at.duration_since(newest);
        let stale = age > policy.every.saturating_mul(2).max(Self::FRESH);
        (increments, stale.then_some(Missing::Stale { age }))
    }

    fn remember(&mut self, service: &Service, increments: &[Increment], at: Timestamp) {
        let Self { grouping, newest, .. } = self;
        grouping.take(Counted::own(increments), |interval| newest.push_back(interval));
        let oldest = at.checked_sub(service.decision.history).unwrap_or(Timestamp::MIN);
        while newest.len() > Self::MOST || newest.front().is_some_and(|interval| interval.at < oldest) {
            newest.pop_front();
        }
    }
}

/// The baseline of raw samples that the source kept.
pub(crate) fn baseline_of_history(
    service: &Service,
    policy: &SignalPolicy,
    history: &Scrape,
    start: Timestamp,
    excluded: &[Excluded],
) -> Baseline {
    let span = span(service, policy, start);
    let increments = Counter::new(policy.every).take(history, start);
    let before: Vec<Increment> = increments.into_iter().filter(|one| counts(&span, excluded, one.from, one.at)).collect();
    let mut intervals = Vec::new();
    Grouping::new(policy.every, Timestamp::MIN).take(Counted::own(&before), |interval| intervals.push(interval));
    let routes = routes::baselines(policy, history, &span, excluded);
    Baseline::Errors(ErrorsBaseline { routes, ..ErrorsBaseline::of(&intervals, span) })
}

fn span(service: &Service, policy: &SignalPolicy, start: Timestamp) -> Span {
    let from = start.checked_sub(policy.history(&service.decision)).unwrap_or(Timestamp::MIN);
    Span { source: policy.source.clone(), every: policy.every, from, to: start }
}

/// Whether what was between two moments is history: inside the span, and outside everything that is excluded.
pub(crate) fn counts(span: &Span, excluded: &[Excluded], from: Timestamp, to: Timestamp) -> bool {
    from >= span.from && to <= span.to && !excluded.iter().any(|(begin, end)| to >= *begin && from <= *end)
}
