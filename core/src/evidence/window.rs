//! What is weighed of a deployment in its window: for each signal the lenses on it, and what they say. Readings that arrive before the
//! baseline wait for it; a missing reading changes nothing.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::combination::{Source, Voice};
use super::control::ControlWindow;
use super::interval::{Grouping, Interval, Look};
use super::latency::LatencyWindow;
use super::lens::{Class, RatioLens, Restarts};
use super::outage::OutageLens;
use super::platform::HardRules;
use super::query::QueryWindow;
use super::rounds::Round;
use super::routes::RouteWindow;
use super::trailing::Trailing;
use crate::baseline::{Baseline, ErrorsBaseline, ProbeBaseline};
use crate::counter::Increment;
use crate::entry::DeploymentId;
use crate::observation::Scrape;
use crate::service::{Decision, Role, Service, SignalKind, SignalName, SignalPolicy};
use crate::severity::Impact;
use crate::statistics::dispersion::Counts;
use crate::statistics::wellness::log_wellness;
use crate::verdict::{FindingState, Inconclusive, Numbers};

/// So much may wait for a baseline: more than a window of 30 min at 2-second steps.
const MOST_WAITING: usize = 1024;

/// What a check says.
pub(crate) struct Said {
    /// The row of the matrix.
    pub(crate) impact: Impact,
    /// What it says.
    pub(crate) state: FindingState,
    /// Its numbers.
    pub(crate) numbers: Option<Numbers>,
}

impl Said {
    fn of_route(self, route: &str) -> Self {
        let numbers = self.numbers.map(|numbers| Numbers { route: Some(route.to_owned()), ..numbers });
        Self { numbers, ..self }
    }
}

/// A deployment in its window.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) deployment: DeploymentId,
    pub(crate) start: Timestamp,
    /// When the weighing began: later than `start` where the daemon came later.
    pub(crate) opened: Timestamp,
    pub(crate) hard_rules: HardRules,
    pub(crate) signals: BTreeMap<SignalName, SignalWindow>,
    /// Since when nothing but this version has run.
    pub(crate) alone_since: Option<Timestamp>,
}

/// One signal of it.
#[derive(Clone, Debug)]
pub(crate) enum SignalWindow {
    /// Counters of requests.
    Errors(Box<ErrorsWindow>),
    /// Rounds of probes.
    Probe(Box<ProbeWindow>),
    /// Histograms of durations.
    Latency(Box<LatencyWindow>),
    /// A question of the operator's own.
    Query(Box<QueryWindow>),
    /// How others are.
    Control(Box<ControlWindow>),
}

impl Window {
    /// A window that opens now on all signals of the service. `was_well`: whether a probe passed until the start, or a question had
    /// no answer then.
    pub(crate) fn new(
        service: &Service,
        deployment: DeploymentId,
        start: Timestamp,
        hard_rules: HardRules,
        was_well: impl Fn(&SignalName) -> bool,
    ) -> Self {
        let window =
            |(name, policy): (&SignalName, &SignalPolicy)| (name.clone(), SignalWindow::new(service, policy, start, was_well(name)));
        let signals = service.signals.iter().map(window).collect();
        Self { deployment, start, opened: start, hard_rules, signals, alone_since: None }
    }
}

impl SignalWindow {
    /// Nothing weighed yet of a signal. `was_well`: whether a probe passed until the start, or a question had no answer then.
    pub(crate) fn new(service: &Service, policy: &SignalPolicy, start: Timestamp, was_well: bool) -> Self {
        match policy.kind {
            SignalKind::Errors if policy.role == Role::Control => Self::Control(Box::new(ControlWindow::new(service, policy.every, start))),
            SignalKind::Errors => Self::Errors(Box::new(ErrorsWindow::new(service, policy.every, start))),
            SignalKind::Probe => Self::Probe(Box::new(ProbeWindow::new(service, policy.every, start, was_well))),
            SignalKind::Latency => Self::Latency(Box::new(LatencyWindow::new(service, policy.every, start))),
            SignalKind::Query { impact, lasting } => Self::Query(Box::new(QueryWindow::new(impact, lasting, start, !was_well))),
        }
    }

    /// Gives it the baseline, unless it has one or the baseline is of another kind.
    pub(crate) fn set_baseline(&mut self, service: &Service, baseline: &Baseline) {
        match (self, baseline) {
            (Self::Errors(window), Baseline::Errors(baseline)) => window.set_baseline(service, baseline),
            (Self::Probe(window), Baseline::Probe(baseline)) => window.set_baseline(service, baseline),
            (Self::Latency(window), Baseline::Latency(baseline)) => window.set_baseline(baseline),
            (Self::Query(window), Baseline::Query(baseline)) => window.set_baseline(baseline),
            (Self::Control(window), Baseline::Errors(baseline)) => window.set_baseline(baseline),
            (Self::Errors(_) | Self::Probe(_) | Self::Latency(_) | Self::Query(_) | Self::Control(_), _) => {}
        }
    }

    /// The rows of the matrix that its lenses stand for.
    pub(crate) fn impacts(&self) -> Vec<Impact> {
        match self {
            Self::Errors(_) => vec![Impact::CompleteOutage, Impact::ErrorRatio, Impact::FeatureBroken],
            Self::Probe(_) => vec![Impact::CompleteOutage, Impact::ErrorRatio],
            Self::Latency(_) => vec![Impact::Performance],
            Self::Query(window) => vec![window.impact()],
            Self::Control(_) => Vec::new(),
        }
    }

    /// Why it has not begun to weigh.
    pub(crate) fn warming_up(&self, now: Timestamp) -> Option<Inconclusive> {
        let (begun, until) = match self {
            Self::Errors(window) => (!window.ratios.is_empty(), window.since),
            Self::Probe(window) => (window.begun, window.latest_begin),
            Self::Latency(window) => (window.has_begun(), window.since()),
            Self::Query(_) | Self::Control(_) => return None,
        };
        (!begun).then(|| if now < until { Inconclusive::WarmingUp { until } } else { Inconclusive::NotLooked })
    }

    /// The odds of its lenses, as voices in their classes.
    pub(crate) fn voices(&self) -> Vec<Voice> {
        match self {
            Self::Errors(window) => {
                let routes = window.routes.values().flat_map(|route| route.ratios.voices(Source::Route));
                window.ratios.voices(Source::Errors).chain(routes).collect()
            }
            Self::Probe(window) => window.outage.iter().map(OutageLens::voice).chain(window.ratios.voices(Source::Probe)).collect(),
            Self::Latency(window) => window.voice().into_iter().collect(),
            Self::Query(_) | Self::Control(_) => Vec::new(),
        }
    }

    /// What its lenses say, each of which must reach the threshold of its voice; `None` while they lack the baseline.
    pub(crate) fn says(&self, log_threshold: &impl Fn(Voice) -> f64) -> Option<Vec<Said>> {
        match self {
            Self::Errors(window) => {
                let mut said = window.ratios.says(Source::Errors, log_threshold)?;
                let routes = window.routes.iter().filter_map(|(name, route)| {
                    let said = route.ratios.says(Source::Route, log_threshold)?;
                    Some(said.into_iter().map(|said| said.of_route(name)))
                });
                said.extend(routes.flatten());
                Some(said)
            }
            Self::Probe(window) => {
                let outage = window.outage.as_ref()?;
                let (state, numbers) = outage.state(log_threshold(outage.voice()));
                let mut said = vec![Said { impact: Impact::CompleteOutage, state, numbers }];
                said.extend(window.ratios.says(Source::Probe, log_threshold)?);
                Some(said)
            }
            Self::Latency(window) => Some(vec![window.says(log_threshold)?]),
            Self::Query(window) => Some(vec![Said { impact: window.impact(), state: window.state(), numbers: None }]),
            Self::Control(_) => Some(Vec::new()),
        }
    }

    /// Since when it has failed without a break, where nobody can say whether that is new.
    pub(crate) fn fails_without_measure(&self) -> Option<Timestamp> {
        match self {
            Self::Errors(_) | Self::Latency(_) | Self::Query(_) | Self::Control(_) => None,
            Self::Probe(window) => window.outage.as_ref()?.fails_without_measure(),
        }
    }

    /// Whether the odds against the deployment were high at any time after `since`.
    pub(crate) fn suspect_after(&self, since: Timestamp) -> bool {
        let suspect = |ratios: &Ratios| ratios.lenses.iter().flatten().filter_map(RatioLens::suspect_at).any(|at| at > since);
        match self {
            Self::Errors(window) => suspect(&window.ratios) || window.routes.values().any(|route| suspect(&route.ratios)),
            Self::Probe(window) => {
                suspect(&window.ratios) || window.outage.as_ref().and_then(OutageLens::suspect_at).is_some_and(|at| at > since)
            }
            Self::Latency(window) => window.suspect_at().is_some_and(|at| at > since),
            Self::Query(_) | Self::Control(_) => false,
        }
    }
}

/// Ratios of one signal: the intervals, and the lenses on them once the baseline is known.
#[derive(Clone, Debug)]
pub(crate) struct Ratios {
    trailing: Trailing,
    /// Each with what others suffered at that time.
    waiting: VecDeque<(Interval, f64)>,
    lenses: Option<Vec<RatioLens>>,
}

impl Ratios {
    pub(crate) fn new(horizon: SignedDuration) -> Self {
        Self { trailing: Trailing::new(horizon), waiting: VecDeque::new(), lenses: None }
    }

    fn is_empty(&self) -> bool {
        self.trailing.total().count <= 0.0 && self.trailing.covered() <= SignedDuration::ZERO
    }

    /// Takes in the next interval; `ambient` is the level that whoever suffers with others may have.
    pub(crate) fn push(&mut self, interval: Interval, ambient: f64) {
        match &mut self.lenses {
            Some(lenses) => lenses.iter_mut().for_each(|lens| lens.step(&interval, self.trailing.total(), ambient)),
            None => wait(&mut self.waiting, (interval, ambient)),
        }
        self.trailing.push(interval);
    }

    /// Weighs what waited, with the sums that were before each. From now on as much is kept as the longest hold needs, and `least`.
    pub(crate) fn set_lenses(&mut self, mut lenses: Vec<RatioLens>, least: SignedDuration) {
        let waited = self.waiting.iter().fold(Counts { count: 0.0, failed: 0.0 }, |sum, (interval, _)| plus(sum, interval.counts));
        let total = self.trailing.total();
        let mut before = Counts { count: total.count - waited.count, failed: total.failed - waited.failed };
        for (interval, ambient) in std::mem::take(&mut self.waiting) {
            for lens in &mut lenses {
                lens.step(&interval, before, ambient);
            }
            before = plus(before, interval.counts);
        }
        self.trailing.shorten(lenses.iter().map(RatioLens::look_back).fold(least, SignedDuration::max));
        self.lenses = Some(lenses);
    }

    fn voices(&self, source: Source) -> impl Iterator<Item = Voice> {
        self.lenses.iter().flatten().map(move |lens| lens.voice(source))
    }

    fn says(&self, source: Source, log_threshold: &impl Fn(Voice) -> f64) -> Option<Vec<Said>> {
        let says = |lens: &RatioLens| {
            let (state, numbers) = lens.state(&self.trailing, log_threshold(lens.voice(source)));
            Said { impact: lens.impact(), state, numbers }
        };
        self.lenses.as_ref().map(|lenses| lenses.iter().map(says).collect())
    }
}

/// Counters of requests, weighed from the end of the grace time.
#[derive(Clone, Debug)]
pub(crate) struct ErrorsWindow {
    since: Timestamp,
    grouping: Grouping,
    restarts: Restarts,
    ratios: Ratios,
    every: SignedDuration,
    routes: BTreeMap<String, RouteWindow>,
    bound: f64,
    cluster: f64,
}

impl ErrorsWindow {
    /// What is proved at least: that fewer than this share fails.
    const LEAST_BOUND: f64 = 0.05;

    /// A service of which less than this is proved has proved nothing.
    const LARGEST_BOUND: f64 = 0.5;

    /// A limit so far above what was observed comes from too little history to be a bound.
    const LITTLE_HISTORY: f64 = 0.2;

    /// The cluster size as long as nothing is known: the prior dispersion of 2, with the factor 3 on its excess.
    pub(crate) const UNKNOWN_CLUSTER: f64 = 4.0;

    fn new(service: &Service, every: SignedDuration, start: Timestamp) -> Self {
        let grace = service.decision.grace;
        let since = start.checked_add(grace).unwrap_or(Timestamp::MAX);
        Self {
            since,
            grouping: Grouping::new(every, since),
            restarts: Restarts::new(service.window.saturating_sub(grace), every),
            ratios: Ratios::new(RatioLens::horizon(service, every)),
            every,
            routes: BTreeMap::new(),
            bound: Self::LEAST_BOUND,
            cluster: Self::UNKNOWN_CLUSTER,
        }
    }

    /// Takes in what was counted in one look. `split` says what of it is the version's own, and what ran beside it; `ambient` is the level
    /// that whoever suffers with others may have.
    pub(crate) fn take(
        &mut self,
        increments: &[Increment],
        scrape: &Scrape,
        at: Timestamp,
        ambient: f64,
        split: impl Fn(&[Increment]) -> (Vec<Increment>, Vec<Increment>),
    ) {
        let (own, beside) = split(increments);
        let Self { grouping, ratios, routes, .. } = self;
        grouping.take(Look { own: &own, beside: &beside }, |interval| ratios.push(interval, ambient));
        for (name, route) in routes {
            route.take(name, scrape, at, ambient, &split);
        }
    }

    fn set_baseline(&mut self, service: &Service, baseline: &ErrorsBaseline) {
        if self.ratios.lenses.is_some() {
            return;
        }
        let lens = |class| RatioLens::of_errors(class, baseline, self.restarts);
        self.ratios.set_lenses(Class::of_errors(service).map(lens).to_vec(), SignedDuration::ZERO);
        let horizon = RatioLens::horizon(service, self.every);
        let route = |(name, baseline): (&String, &ErrorsBaseline)| {
            let mut ratios = Ratios::new(horizon);
            ratios.set_lenses(vec![RatioLens::of_route(service, baseline, self.restarts)], SignedDuration::ZERO);
            (name.clone(), RouteWindow::new(self.every, self.since, ratios))
        };
        self.routes = baseline.routes.iter().map(route).collect();
        self.cluster = baseline.cluster;
        if baseline.upper - baseline.observed() < Self::LITTLE_HISTORY {
            self.bound = (2.0 * baseline.upper).clamp(Self::LEAST_BOUND, Self::LARGEST_BOUND);
        }
    }

    /// The requests since the grace time, and ln G: the odds against "still as bad as the bound" (DECISION 2.8).
    pub(crate) fn wellness(&self) -> (f64, f64) {
        let total = self.ratios.trailing.total();
        (total.count, log_wellness(total.failed, total.count, self.bound, self.cluster))
    }
}

/// How far a version has come that was just deployed, by the platform's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Startup {
    /// Nothing serves while it starts, and it may still start: a failing probe says what is known already.
    Waited,
    /// It starts while something else serves, or nobody knows: a passing probe may be an answer of the version that leaves.
    Unknown,
    /// Nothing but this version runs: the first answer is its own.
    Running,
    /// Nothing but this version runs, and it has answered the platform's own check.
    Ready,
}

/// Rounds of probes, weighed from when the version is up by the platform's word or by its first answer, at the latest from the startup
/// deadline, unless nothing can be expected to answer yet.
#[derive(Clone, Debug)]
pub(crate) struct ProbeWindow {
    start: Timestamp,
    latest_begin: Timestamp,
    /// The same while something else runs beside it. What failed before may be that.
    begin_among_others: Timestamp,
    begun: bool,
    /// Just before the first round that passed: what is ready may not be routed to for a moment, and that is no flaw.
    answered: Option<Timestamp>,
    every: SignedDuration,
    restarts: Restarts,
    ratios: Ratios,
    waiting: VecDeque<Round>,
    outage: Option<OutageLens>,
    usual_failing: f64,
}

impl ProbeWindow {
    /// A probe that usually fails more often than this proves no health by failing as usual.
    const LARGEST_FLAKE: f64 = 0.1;

    /// The stretch of rounds that proves health.
    const PROOF: SignedDuration = SignedDuration::from_mins(5);

    fn new(service: &Service, every: SignedDuration, start: Timestamp, was_well: bool) -> Self {
        let after = |time: SignedDuration| start.checked_add(time).unwrap_or(Timestamp::MAX);
        let Decision { startup_deadline, ready_deadline, .. } = service.decision;
        Self {
            start,
            latest_begin: after(startup_deadline),
            begin_among_others: after(if was_well { startup_deadline } else { startup_deadline.max(ready_deadline) }),
            begun: false,
            answered: None,
            every,
            restarts: Restarts::new(service.window, every),
            ratios: Ratios::new(RatioLens::horizon(service, every)),
            waiting: VecDeque::new(),
            outage: None,
            usual_failing: 0.0,
        }
    }

    /// Takes in a round.
    pub(crate) fn take(&mut self, round: Round, startup: Startup) {
        self.begun |= match startup {
            Startup::Waited => false,
            Startup::Unknown => round.at >= self.begin_among_others,
            Startup::Running => round.at >= self.latest_begin || (round.at >= self.start && round.passed()),
            Startup::Ready => round.at >= self.start,
        };
        if !self.begun {
            return;
        }
        if self.answered.is_none() && round.passed() {
            self.answered = round.at.checked_sub(SignedDuration::from_nanos(1)).ok();
        }
        match &mut self.outage {
            Some(outage) => outage.step(&round),
            None => wait(&mut self.waiting, round),
        }
        self.ratios.push(round.as_interval(self.every), 0.0);
    }

    fn set_baseline(&mut self, service: &Service, baseline: &ProbeBaseline) {
        if self.outage.is_some() {
            return;
        }
        let mut outage = OutageLens::new(baseline, service.decision.hold_probe_rounds, self.every, self.restarts);
        for round in std::mem::take(&mut self.waiting) {
            outage.step(&round);
        }
        self.outage = Some(outage);
        let lens = RatioLens::of_availability(Class::of_availability(service), baseline, self.restarts);
        self.ratios.set_lenses(vec![lens], Self::PROOF);
        self.usual_failing = baseline.observed_failing().min(Self::LARGEST_FLAKE);
    }

    /// How many rounds the last five minutes had since the first answer, how much of them failed, and how much of that is usual.
    pub(crate) fn newest(&self, now: Timestamp) -> (f64, f64, f64) {
        let since = now.checked_sub(Self::PROOF).unwrap_or(Timestamp::MIN).max(self.answered.unwrap_or(Timestamp::MIN));
        let sum = self.ratios.trailing.after(since);
        (sum.count, sum.failed, (self.usual_failing * sum.count).ceil())
    }

    /// ln G of all rounds of the window, as they are told where nothing else proves health.
    pub(crate) fn wellness(&self) -> f64 {
        let total = self.ratios.trailing.total();
        log_wellness(total.failed, total.count, ErrorsWindow::LEAST_BOUND, 1.0)
    }
}

fn plus(a: Counts, b: Counts) -> Counts {
    Counts { count: a.count + b.count, failed: a.failed + b.failed }
}

fn wait<T>(waiting: &mut VecDeque<T>, value: T) {
    if waiting.len() >= MOST_WAITING {
        waiting.pop_front();
    }
    waiting.push_back(value);
}
