//! What is remembered of one signal, watched or not: its counters, and its own history for the next baseline.

use jiff::{SignedDuration, Timestamp};

use super::interval::{Grouping, Interval, Look};
use super::latency::{self, Latencies};
use super::query::Answers;
use super::rounds::{Round, Rounds};
use super::sight::Sight;
use super::{Excluded, routes};
use crate::baseline::{Baseline, ErrorsBaseline, ProbeBaseline, Span};
use crate::counter::{Counter, Increment};
use crate::observation::{Histogram, Missing, Scrape};
use crate::past::Past;
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
    Latency(Box<Latencies>),
    /// Of a question.
    Query(Answers),
}

/// Counters, and the intervals of the configured history where the source keeps none.
#[derive(Clone, Debug)]
pub(crate) struct Intervals {
    counter: Counter,
    grouping: Grouping,
    past: Past,
}

impl Memory {
    /// Nothing remembered yet.
    pub(crate) fn new(policy: &SignalPolicy) -> Self {
        let history = match policy.kind {
            SignalKind::Errors => History::Errors(Box::new(Intervals {
                counter: Counter::new(policy.every),
                grouping: Grouping::new(policy.every, Timestamp::MIN),
                past: Past::new(policy.every),
            })),
            SignalKind::Probe => History::Probe(Rounds::default()),
            SignalKind::Latency => History::Latency(Box::new(Latencies::new(policy.every))),
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
            History::Errors(intervals) => baseline_of_intervals(&intervals.past, &span, excluded),
            History::Probe(rounds) => {
                let kept: Vec<Round> = rounds.iter().filter(|round| counts(&span, excluded, round.at, round.at)).collect();
                Baseline::Probe(ProbeBaseline::of(&kept, span))
            }
            History::Latency(latencies) => {
                let kept: Vec<_> = latencies.intervals().filter(|one| counts(&span, excluded, one.from, one.at)).cloned().collect();
                Baseline::Latency(latency::baseline(service, &kept, span))
            }
            History::Query(answers) => Baseline::Query(answers.baseline(excluded, span)),
        }
    }
}

impl Intervals {
    /// A day at 15-second steps takes about 35 KiB, a shorter time at shorter ones. A thousand services stay below 48 MiB.
    const MOST_BYTES: usize = 48 * 1024;

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
        if let Some(series) = self.counter.spoiled() {
            return (increments, Some(Missing::Malformed(format!("the newest value of {series} is no count"))));
        }
        let Some(newest) = self.counter.newest() else {
            return (increments, Some(Missing::Malformed("no sample is a count".to_owned())));
        };
        let age = at.duration_since(newest);
        let stale = age > policy.every.saturating_mul(2).max(Self::FRESH);
        (increments, stale.then_some(Missing::Stale { age }))
    }

    fn remember(&mut self, service: &Service, increments: &[Increment], at: Timestamp) {
        let Self { grouping, past, .. } = self;
        grouping.take(Look::own(increments), |interval| past.push(interval));
        past.shorten(at.checked_sub(service.decision.history).unwrap_or(Timestamp::MIN), Self::MOST_BYTES);
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
    Grouping::new(policy.every, Timestamp::MIN).take(Look::own(&before), |interval| intervals.push(interval));
    let routes = routes::baselines(policy, history, &span, excluded);
    let span = Span { from: intervals.first().map_or(span.to, Interval::begin).max(span.from), ..span };
    Baseline::Errors(ErrorsBaseline { routes, ..ErrorsBaseline::of(&intervals, span) })
}

/// The baseline of what is known of the past, be it fetched or remembered.
pub(crate) fn baseline_of_past(service: &Service, policy: &SignalPolicy, past: &Past, start: Timestamp, excluded: &[Excluded]) -> Baseline {
    let span = span(service, policy, start);
    match policy.kind {
        SignalKind::Errors => baseline_of_intervals(past, &span, excluded),
        SignalKind::Latency => {
            let kept: Vec<_> = past.timed().into_iter().filter(|one| counts(&span, excluded, one.from, one.at)).collect();
            let known_from = kept.first().map_or(span.to, Interval::begin).max(span.from);
            Baseline::Latency(latency::baseline(service, &kept, Span { from: known_from, ..span }))
        }
        SignalKind::Probe | SignalKind::Query { .. } => Memory::new(policy).baseline(service, policy, start, excluded),
    }
}

fn baseline_of_intervals(past: &Past, span: &Span, excluded: &[Excluded]) -> Baseline {
    let of_route = |route| baseline_of_some(|from, to| past.route(route, from, to), span, excluded);
    let mut routes: Vec<_> = past.routes().into_iter().map(|route| (route, of_route(route))).collect();
    routes.sort_by(|(_, a), (_, b)| b.requests.total_cmp(&a.requests));
    routes.truncate(routes::BUSIEST);
    let routes = routes.into_iter().map(|(route, baseline)| (route.to_owned(), baseline)).collect();
    Baseline::Errors(ErrorsBaseline { routes, ..baseline_of_some(|from, to| past.intervals(from, to), span, excluded) })
}

/// `known` are the intervals from one moment to another, and perhaps some around them.
fn baseline_of_some(known: impl Fn(Timestamp, Timestamp) -> Vec<Interval>, span: &Span, excluded: &[Excluded]) -> ErrorsBaseline {
    let inside = |span: &Span| {
        let mut inside = known(span.from, span.to);
        inside.retain(|one| counts(span, excluded, one.from, one.at));
        inside
    };
    let kept = inside(span);
    // A half hour that the history doesn't reach back to says how it is at this time of the day or week, and nothing else.
    let before = Past::half_hours(span.to).into_iter().filter(|(_, to)| *to < span.from);
    let others: Vec<_> = before.map(|(from, to)| inside(&Span { from, to, ..span.clone() })).collect();
    let known_from = kept.first().map_or(span.to, Interval::begin).max(span.from);
    let baseline = ErrorsBaseline::of(&kept, Span { from: known_from, ..span.clone() });
    others.iter().fold(baseline, |baseline, half_hour| baseline.and_local(half_hour))
}

/// The baseline of raw samples of histograms that the source kept.
pub(crate) fn baseline_of_histograms(
    service: &Service,
    policy: &SignalPolicy,
    history: &[Histogram],
    start: Timestamp,
    excluded: &[Excluded],
) -> Baseline {
    let span = span(service, policy, start);
    let intervals = latency::intervals_of_history(policy.every, history, start, |from, at| counts(&span, excluded, from, at));
    Baseline::Latency(latency::baseline(service, &intervals, span))
}

fn span(service: &Service, policy: &SignalPolicy, start: Timestamp) -> Span {
    let from = start.checked_sub(policy.history(&service.decision)).unwrap_or(Timestamp::MIN);
    Span { source: policy.source.clone(), every: policy.every, from, to: start }
}

/// Whether what was between two moments is history: inside the span, and outside everything that is excluded.
pub(crate) fn counts(span: &Span, excluded: &[Excluded], from: Timestamp, to: Timestamp) -> bool {
    from >= span.from && to <= span.to && !excluded.iter().any(|(begin, end)| to >= *begin && from <= *end)
}
