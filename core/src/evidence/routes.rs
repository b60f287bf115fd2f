//! The busiest routes of a service, each weighed by itself (DECISION 2.2, class P2): one route on which more than half fails is a broken
//! feature, however little it is of the whole.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::Excluded;
use super::interval::{Grouping, Interval, Look};
use super::memory::counts;
use super::window::Ratios;
use crate::baseline::{ErrorsBaseline, Span};
use crate::counter::{Counter, Increment};
use crate::observation::Scrape;
use crate::service::SignalPolicy;

/// So many routes are watched, those with most requests.
pub(crate) const BUSIEST: usize = 5;

/// One route in a window.
#[derive(Clone, Debug)]
pub(crate) struct RouteWindow {
    counter: Counter,
    grouping: Grouping,
    pub(crate) ratios: Ratios,
}

impl RouteWindow {
    /// Weighed from `since`, as soon as a look has been taken.
    pub(crate) fn new(every: SignedDuration, since: Timestamp, ratios: Ratios) -> Self {
        Self { counter: Counter::new(every), grouping: Grouping::new(every, since), ratios }
    }

    /// Takes in a look; `split` says what of it is the version's own, and what ran beside it.
    pub(crate) fn take(
        &mut self,
        route: &str,
        scrape: &Scrape,
        at: Timestamp,
        ambient: f64,
        split: impl Fn(&[Increment]) -> (Vec<Increment>, Vec<Increment>),
    ) {
        let (own, beside) = split(&self.counter.take_route(scrape, route, at));
        let Self { grouping, ratios, .. } = self;
        grouping.take(Look { own: &own, beside: &beside }, |interval| ratios.push(interval, ambient));
    }
}

/// How the busiest routes were before.
pub(crate) fn baselines(policy: &SignalPolicy, history: &Scrape, span: &Span, excluded: &[Excluded]) -> BTreeMap<String, ErrorsBaseline> {
    let mut names: Vec<&str> = history.total.iter().filter_map(|series| series.route.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let mut routes: Vec<(f64, &str, Vec<Interval>)> = Vec::new();
    for name in names {
        let increments = Counter::new(policy.every).take_route(history, name, span.to);
        let before: Vec<Increment> = increments.into_iter().filter(|one| counts(span, excluded, one.from, one.at)).collect();
        let mut intervals = Vec::new();
        Grouping::new(policy.every, Timestamp::MIN).take(Look::own(&before), |interval| intervals.push(interval));
        routes.push((before.iter().map(|one| one.requests).sum(), name, intervals));
        routes.sort_by(|a, b| b.0.total_cmp(&a.0));
        routes.truncate(BUSIEST);
    }
    routes.into_iter().map(|(_, name, intervals)| (name.to_owned(), ErrorsBaseline::of(&intervals, span.clone()))).collect()
}
