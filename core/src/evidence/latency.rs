//! Durations (DECISION 2.4), read from histograms: what is remembered of them, and what is weighed of them in a window. How they are weighed
//! is the lens's matter.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

pub(crate) mod lens;
pub(crate) mod proof;
#[cfg(test)]
mod stories;

use self::lens::LatencyLens;
use self::proof::LatencyProof;
use super::Lack;
use super::combination::{Source, Tier, Voice};
use super::interval::{Grouping, Interval, Look};
use super::lens::{Restarts, SUSPECT};
use super::trailing::Trailing;
use super::window::Said;
use crate::baseline::{LatencyBaseline, SlowRequests, Span};
use crate::histogram::{Durations, HistogramCounter, has_buckets};
use crate::observation::{Histogram, Missing};
use crate::service::{Service, SignalName, SignalPolicy};
use crate::severity::Impact;
use crate::statistics::wellness::log_wellness;
use crate::timing::Timing;
use crate::verdict::Numbers;

/// The slowdown that is an impact, as a share.
pub(crate) fn above(service: &Service) -> f64 {
    service.matrix.performance.above.unwrap_or(0.5)
}

/// How long the requests of a stretch took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pace {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    pub(crate) slow: f64,
}

impl Pace {
    fn of(timing: &Timing, slow: Option<SlowRequests>) -> Self {
        let slow = slow.map_or(0.0, |slow| timing.certainly_slower_than(slow.bound));
        Self { requests: timing.requests, seconds: timing.seconds, slow }
    }

    /// Whether there were requests, and at least so long in the mean.
    fn is_at_least(&self, mean: f64) -> bool {
        self.requests > 0.0 && self.seconds >= mean * self.requests
    }
}

impl std::ops::AddAssign<&Self> for Pace {
    fn add_assign(&mut self, other: &Self) {
        self.requests += other.requests;
        self.seconds += other.seconds;
        self.slow += other.slow;
    }
}

/// What is remembered of histograms, watched or not: the counts themselves, and the intervals of the configured history where the source
/// keeps none.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    counter: HistogramCounter,
    grouping: Grouping<Timing>,
    newest: VecDeque<Interval<Timing>>,
    /// What the newest baseline calls slow, and the cluster size of its bad intervals.
    known: Option<(Option<SlowRequests>, f64)>,
}

impl Latencies {
    /// Three hours at 15-second steps; with a dozen buckets 200 KiB.
    const MOST: usize = 720;

    /// At short steps there are more, or no history would ever be long enough.
    const LEAST: SignedDuration = lens::LEAST_KNOWN.saturating_mul(2);

    /// However fast the looks follow each other, a look itself may take as long as this.
    const FRESH: SignedDuration = SignedDuration::from_secs(2);

    /// Nothing remembered yet.
    pub(crate) fn new(every: SignedDuration) -> Self {
        Self { counter: HistogramCounter::new(every), grouping: Grouping::new(every, Timestamp::MIN), newest: VecDeque::new(), known: None }
    }

    /// Takes in a look: what was counted since the last one, and the reason if it says nothing about the present. What it says about the
    /// past counts all the same.
    pub(crate) fn take(
        &mut self,
        service: &Service,
        policy: &SignalPolicy,
        histograms: &[Histogram],
        at: Timestamp,
    ) -> (Vec<Durations>, Option<Missing>) {
        if histograms.is_empty() {
            return (Vec::new(), Some(Missing::NoSeries(policy.source.clone())));
        }
        if !histograms.iter().any(has_buckets) {
            return (Vec::new(), Some(Missing::Malformed("no histogram has buckets with bounds that ascend".to_owned())));
        }
        let durations = self.counter.take(histograms, at);
        if !policy.has_history {
            self.remember(service, &durations, at);
        }
        let Some(newest) = self.counter.newest() else {
            return (durations, Some(Missing::Malformed("no sample is a count".to_owned())));
        };
        let age = at.duration_since(newest);
        let stale = age > policy.every.saturating_mul(2).max(Self::FRESH);
        (durations, stale.then_some(Missing::Stale { age }))
    }

    fn remember(&mut self, service: &Service, durations: &[Durations], at: Timestamp) {
        let Self { grouping, newest, .. } = self;
        grouping.take(Look::own(durations), |interval| newest.push_back(interval));
        let before = |time: SignedDuration| at.checked_sub(time).unwrap_or(Timestamp::MIN);
        let (oldest, young) = (before(service.decision.history), before(Self::LEAST));
        let is_needless = |interval: &Interval<Timing>, known: usize| interval.at < oldest || known > Self::MOST && interval.at < young;
        while newest.front().is_some_and(|interval| is_needless(interval, newest.len())) {
            newest.pop_front();
        }
    }

    /// What the daemon saw itself, oldest first.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = &Interval<Timing>> {
        self.newest.iter()
    }

    /// What was learned last.
    pub(crate) fn learn(&mut self, baseline: &LatencyBaseline) {
        self.known = Some((baseline.slow, baseline.bad.cluster));
    }

    /// Begins to look for the proof that what had fired with these numbers is over.
    pub(crate) fn proof(&self, policy: &SignalPolicy, trigger: &Numbers, since: Timestamp) -> LatencyProof {
        LatencyProof::new(policy.every, self.known, trigger, since)
    }
}

/// The intervals of raw samples that the source kept, as far as `counts` says that they are history.
pub(crate) fn intervals_of_history(
    every: SignedDuration,
    histograms: &[Histogram],
    now: Timestamp,
    counts: impl Fn(Timestamp, Timestamp) -> bool,
) -> Vec<Interval<Timing>> {
    let mut durations = HistogramCounter::new(every).take(histograms, now);
    durations.retain(|one| counts(one.from, one.at));
    let mut intervals = Vec::new();
    Grouping::new(every, Timestamp::MIN).take(Look::own(&durations), |interval| intervals.push(interval));
    intervals
}

/// The baseline of what was counted in a history, in order of time.
pub(crate) fn baseline(service: &Service, intervals: &[Interval<Timing>], span: Span) -> LatencyBaseline {
    LatencyBaseline::of(intervals, span, above(service))
}

/// Durations, weighed from the end of the grace time.
#[derive(Clone, Debug)]
pub(crate) struct LatencyWindow {
    since: Timestamp,
    grouping: Grouping<Timing>,
    hold: SignedDuration,
    restarts: Restarts,
    stage: Stage,
}

/// Without a baseline nothing can be called slow.
#[derive(Clone, Debug)]
enum Stage {
    /// The intervals wait for it.
    Waiting(VecDeque<Interval<Timing>>),
    /// They are weighed.
    Weighing(Box<Weighing>),
}

#[derive(Clone, Debug)]
struct Weighing {
    slow: Option<SlowRequests>,
    trailing: Trailing<Pace>,
    lens: LatencyLens,
}

impl LatencyWindow {
    /// So much may wait for a baseline: a window of 30 min at 2-second steps.
    const MOST_WAITING: usize = 900;

    /// A window that begins with the deployment at `start`.
    pub(crate) fn new(service: &Service, every: SignedDuration, start: Timestamp) -> Self {
        let grace = service.decision.grace;
        let since = start.checked_add(grace).unwrap_or(Timestamp::MAX);
        Self {
            since,
            grouping: Grouping::new(every, since),
            hold: service.decision.hold_latency,
            restarts: Restarts::new(service.window.saturating_sub(grace), every),
            stage: Stage::Waiting(VecDeque::new()),
        }
    }

    /// From when on it weighs.
    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    /// Whether anything was counted since.
    pub(crate) fn has_begun(&self) -> bool {
        match &self.stage {
            Stage::Waiting(waiting) => !waiting.is_empty(),
            Stage::Weighing(weighing) => weighing.trailing.covered() > SignedDuration::ZERO,
        }
    }

    /// Takes in what was counted.
    pub(crate) fn take(&mut self, durations: &[Durations]) {
        let Self { grouping, stage, .. } = self;
        grouping.take(Look::own(durations), |interval| match stage {
            Stage::Weighing(weighing) => weighing.push(&interval),
            Stage::Waiting(waiting) => {
                if waiting.len() >= Self::MOST_WAITING {
                    waiting.pop_front();
                }
                waiting.push_back(interval);
            }
        });
    }

    /// Gives it the baseline, and weighs what waited. The first one stays.
    pub(crate) fn set_baseline(&mut self, baseline: &LatencyBaseline) {
        let Stage::Waiting(waiting) = &mut self.stage else { return };
        let lens = LatencyLens::new(baseline, self.hold, self.restarts);
        let mut weighing = Weighing { slow: baseline.slow, trailing: Trailing::new(lens.reach()), lens };
        for interval in std::mem::take(waiting) {
            weighing.push(&interval);
        }
        self.stage = Stage::Weighing(Box::new(weighing));
    }

    /// ln E, as a voice in its class.
    pub(crate) fn voice(&self) -> Option<Voice> {
        let Stage::Weighing(weighing) = &self.stage else { return None };
        Some(Voice { tier: Tier::Degraded, source: Source::Latency, log_evidence: weighing.lens.log_evidence() })
    }

    /// What the lens says, which must reach the threshold of its voice; `None` while it lacks the baseline.
    pub(crate) fn says(&self, log_threshold: &impl Fn(Voice) -> f64) -> Option<Said> {
        let (Stage::Weighing(weighing), Some(voice)) = (&self.stage, self.voice()) else { return None };
        let (state, numbers) = weighing.lens.state(&weighing.trailing, log_threshold(voice));
        Some(Said { impact: Impact::Performance, state, numbers })
    }

    /// The last time at which the odds against the deployment were high.
    pub(crate) fn suspect_at(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Waiting(_) => None,
            Stage::Weighing(weighing) => weighing.lens.suspect_at(),
        }
    }

    /// What lacks for the proof of health (DECISION 2.8), or ln G: the odds against "as many are slow as if it were an impact". `None` where
    /// nothing is known to be slow, so that it has no part in the proof.
    pub(crate) fn wellness(&self, name: &SignalName) -> Option<Result<f64, Lack>> {
        let Stage::Weighing(weighing) = &self.stage else { return None };
        let slow = weighing.slow.filter(SlowRequests::can_be_disproved)?;
        let total = weighing.trailing.total();
        let log_evidence = log_wellness(total.slow, total.requests, slow.severe, slow.cluster);
        let log_threshold = SUSPECT.ln();
        let lack = || Lack::Evidence { signal: name.clone(), count: total.requests, log_evidence, log_threshold };
        Some(if log_evidence >= log_threshold { Ok(log_evidence) } else { Err(lack()) })
    }
}

impl Weighing {
    fn push(&mut self, interval: &Interval<Timing>) {
        let interval = interval.map(|timing| Pace::of(timing, self.slow));
        self.lens.step(&interval, self.trailing.total());
        self.trailing.push(interval);
    }
}
