//! The lens on ratios (DECISION 2.2): evidence that a class of the matrix is there, and the gates between evidence and action.
//! It serves request counters in three classes, and the failing share of probes in one (2.3).

use jiff::{SignedDuration, Timestamp};

use super::combination::{Source, Tier, Voice};
use super::interval::Interval;
use super::trailing::{Held, Onset, Trailing};
use crate::baseline::{ErrorsBaseline, MILD, ProbeBaseline, Runs};
use crate::service::Service;
use crate::severity::Impact;
use crate::statistics::dispersion::Counts;
use crate::statistics::expected_delay::Expectation;
use crate::statistics::logaddexp;
use crate::statistics::mixture::{FIRST_WEIGHT, Mixture, ONE_SAMPLE, Pair, one_sample, two_sample};
use crate::verdict::{FindingState, Gate, Inconclusive, Measure, Numbers};

/// Odds of 1 : 20 against a deployment make it suspect.
pub(crate) const SUSPECT: f64 = 20.0;

/// From one look to the next, if nobody says otherwise.
const USUAL_LOOKS: SignedDuration = SignedDuration::from_secs(15);

/// A learned hold is at most this long, where looks are as usual.
const LONGEST_HOLD: SignedDuration = SignedDuration::from_mins(10);

/// The longest hold that is learned. How much of the first and of the last interval was bad can't be told: where looks take longer, the
/// difference comes on top, or ten minutes could be no more than two looks.
pub(super) fn longest_hold(every: SignedDuration) -> SignedDuration {
    with_looks(LONGEST_HOLD, every)
}

fn with_looks(hold: SignedDuration, every: SignedDuration) -> SignedDuration {
    hold.saturating_add(every.saturating_sub(USUAL_LOOKS).max(SignedDuration::ZERO))
}

/// The limit on the frequency of bad intervals is widened by this factor, and never below the floor.
pub(super) const BAD_FACTOR: f64 = 1.5;
pub(super) const BAD_FLOOR: f64 = 0.05;

/// From this frequency on, bad intervals are nothing unusual and say nothing.
pub(super) const BAD_USUAL: f64 = 0.5;

/// A quarter of the hold in which fewer failures are expected than this can't contradict: without any it would be a chance of exp(-3). Of
/// more pieces than four each has to be so much less likely.
const CONTRADICTION: f64 = 3.0;

/// A route on which more than this share fails is a broken feature, if at least so many requests were made since the onset.
const ROUTE_BROKEN: f64 = 0.5;
const LEAST_REQUESTS: f64 = 20.0;

/// The version before may fail half as often, as long as both run.
const WORSE: f64 = 2.0;

/// A class of the matrix as a lens sees it (the table in DECISION 2.2). Ratios are 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Class {
    /// The row of the matrix.
    pub(crate) impact: Impact,
    /// The ratio from which on the impact is there.
    severity: f64,
    /// Ratios below are tolerated, whatever the history says.
    floor: f64,
    /// By how much a ratio may exceed a large history.
    drift: f64,
    /// Above this tolerance the class can't be told from the history.
    testable_below: f64,
    /// How long it must persist, before anything is learned.
    hold: SignedDuration,
}

impl Class {
    /// The classes of request counters, worst first.
    pub(crate) fn of_errors(service: &Service) -> [Self; 3] {
        let decision = &service.decision;
        let ratio = service.matrix.error_ratio.above.unwrap_or(0.5);
        let feature = service.matrix.feature_broken.above.unwrap_or(0.05);
        let outage = Self {
            impact: Impact::CompleteOutage,
            severity: 0.95,
            floor: 0.5,
            drift: 0.3,
            testable_below: 0.9 * 0.95,
            hold: decision.hold_p0,
        };
        let broken = Self {
            impact: Impact::FeatureBroken,
            floor: feature / 4.0,
            drift: feature,
            testable_below: 0.5,
            hold: decision.hold_p2,
            severity: feature,
        };
        [outage, Self::error_ratio(ratio, decision.hold_p1), broken]
    }

    /// The class of probes that fail now and then: half of them is as bad as half of the requests.
    pub(crate) fn of_availability(service: &Service) -> Self {
        Self::error_ratio(0.5, service.decision.hold_p1)
    }

    fn error_ratio(severity: f64, hold: SignedDuration) -> Self {
        Self { impact: Impact::ErrorRatio, severity, floor: severity / 4.0, drift: 0.3 * severity, testable_below: 0.9 * severity, hold }
    }

    /// Whoever has seen a whole day without a burst need not wait as long to tell one from a fault.
    fn well_known(self) -> Self {
        let hold = if self.impact == Impact::FeatureBroken { self.hold } else { self.hold / 2 };
        Self { hold, ..self }
    }

    /// The hold, which is meant for looks of 15 s, where the next burst lasts at most so long.
    fn learned_hold(&self, next: SignedDuration, every: SignedDuration) -> SignedDuration {
        let learned = next.saturating_add(every).min(longest_hold(every));
        with_looks(self.hold, every).max(learned).max(every.saturating_mul(2))
    }

    /// The null boundary q: a doubled level is tolerated, a large one only by the drift.
    pub(crate) fn tolerance(&self, upper: f64) -> f64 {
        f64::max(upper + upper.min(self.drift), self.floor).min(1.0)
    }

    /// From this ratio on an interval is bad.
    fn bad_above(&self, tolerance: f64) -> f64 {
        f64::max(self.severity / 2.0, tolerance)
    }
}

/// How the time of a window is divided among restarts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Restarts {
    every: SignedDuration,
    spread: SignedDuration,
}

impl Restarts {
    /// Restarts over `evaluated` time in steps of `every`. When a window is extended, each further stretch of that length spends its own alpha.
    pub(crate) fn new(evaluated: SignedDuration, every: SignedDuration) -> Self {
        Self { every, spread: evaluated.saturating_sub(every).max(every) }
    }

    /// The time from one look to the next.
    pub(crate) fn every(&self) -> SignedDuration {
        self.every
    }

    /// The time that is evaluated.
    pub(crate) fn evaluated(&self) -> SignedDuration {
        self.spread.saturating_add(self.every)
    }

    /// The weight of a restart in a step that covers so much time.
    pub(crate) fn weight(&self, first: bool, covered: SignedDuration) -> f64 {
        if first { FIRST_WEIGHT } else { (1.0 - FIRST_WEIGHT) * covered.as_secs_f64() / self.spread.as_secs_f64() }
    }
}

/// One class on one signal.
#[derive(Clone, Debug)]
pub(crate) struct RatioLens {
    class: Class,
    restarts: Restarts,
    upper: f64,
    observed: f64,
    tolerance: f64,
    cluster: f64,
    hold: SignedDuration,
    /// How much of the hold is looked at piece by piece.
    look_back: SignedDuration,
    /// The same for what is nothing like an outage: shorter, if there were outages.
    milder_look_back: SignedDuration,
    run: LongRun,
    requests: Mixture<Onset, 8>,
    /// Where the version before ran beside it: the evidence that the floor is exceeded, too. Without that, twice as bad as hardly anything
    /// would be bad.
    above_floor: Option<Box<Mixture<Onset, 8>>>,
    bad_intervals: Option<BadIntervalsLens>,
    first: bool,
    /// Fewer requests since the onset say nothing.
    least_requests: f64,
    suspect_at: Option<Timestamp>,
}

/// One incident must not blind the guard: hence the longest hold. What was as bad as the impact for longer, and more than once, is no
/// incident, and must be outlasted in the same measure: looks in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct LongRun {
    looks: u32,
    least: u32,
}

impl LongRun {
    /// Nothing to outlast.
    pub(super) const NONE: Self = Self { looks: 0, least: 0 };

    /// What is clearly longer than what came more than once, if that takes longer than the longest hold.
    pub(super) fn of(lasted: &Runs, every: SignedDuration) -> Self {
        let least = Self { looks: 0, least: lasted.outlasting() };
        if least.hold(every) > longest_hold(every) { least } else { Self::NONE }
    }

    /// How long it must be.
    pub(super) fn hold(self, every: SignedDuration) -> SignedDuration {
        every.saturating_mul(i32::try_from(self.least).unwrap_or(i32::MAX))
    }

    /// Takes in the next look with traffic.
    pub(super) fn step(&mut self, is_there: bool) {
        self.looks = if is_there { self.looks.saturating_add(1) } else { 0 };
    }

    pub(super) fn outlasts(self) -> bool {
        self.looks >= self.least
    }
}

/// One trial for each interval with traffic: is it bad? It keeps its power where requests are tempered heavily.
#[derive(Clone, Debug)]
struct BadIntervalsLens {
    above: f64,
    boundary: f64,
    cluster: f64,
    evidence: Mixture<Onset, 8>,
}

impl RatioLens {
    /// A lens on request counters.
    pub(crate) fn of_errors(class: Class, baseline: &ErrorsBaseline, restarts: Restarts) -> Self {
        let calm = baseline.knows_a_day && !baseline.has_bursts();
        let class = if calm { class.well_known() } else { class };
        let tolerance = class.tolerance(baseline.level());
        let above = class.bad_above(tolerance);
        let bad = baseline.bad(above);
        let bad_intervals = bad.and_then(|bad| {
            let boundary = f64::max(BAD_FACTOR * baseline.bad_upper(bad), BAD_FLOOR).max(bad.local_upper);
            let evidence = Mixture::new(&ONE_SAMPLE);
            (boundary < BAD_USUAL).then_some(BadIntervalsLens { above, boundary, cluster: bad.cluster, evidence })
        });
        let next = baseline.next_bad_at_most(above, restarts.evaluated());
        let next_milder = baseline.next_milder_at_most(above, restarts.evaluated());
        let observed = baseline.observed().max(baseline.at_start);
        let lens = Self::new(class, baseline.level(), observed, baseline.cluster, bad_intervals, next, restarts).outlasting(baseline);
        Self { milder_look_back: class.learned_hold(next_milder, restarts.every), ..lens }
    }

    /// A lens on the request counters of one route: a feature that fails for more than half of those who use it.
    pub(crate) fn of_route(service: &Service, baseline: &ErrorsBaseline, restarts: Restarts) -> Self {
        let hold = service.decision.hold_p2;
        let class = Class { impact: Impact::FeatureBroken, ..Class::error_ratio(ROUTE_BROKEN, hold) };
        let next = baseline.next_bad_at_most(class.bad_above(class.tolerance(baseline.level())), restarts.evaluated());
        let observed = baseline.observed().max(baseline.at_start);
        let lens = Self::new(class, baseline.level(), observed, baseline.cluster, None, next, restarts).outlasting(baseline);
        Self { least_requests: LEAST_REQUESTS, ..lens }
    }

    /// A lens on the failing share of probes.
    pub(crate) fn of_availability(class: Class, baseline: &ProbeBaseline, restarts: Restarts) -> Self {
        let next = baseline.failing_lasted.next_at_most(&baseline.span, restarts.evaluated());
        let observed = baseline.observed_failing().max(baseline.failing_at_start);
        Self::new(class, baseline.failing_level(), observed, baseline.failing_cluster, None, next, restarts)
    }

    fn new(
        class: Class,
        upper: f64,
        observed: f64,
        cluster: f64,
        bad_intervals: Option<BadIntervalsLens>,
        next: SignedDuration,
        restarts: Restarts,
    ) -> Self {
        let hold = class.learned_hold(next, restarts.every);
        Self {
            class,
            restarts,
            upper,
            observed,
            tolerance: class.tolerance(upper),
            cluster,
            hold,
            look_back: hold,
            milder_look_back: hold,
            run: LongRun::NONE,
            requests: Mixture::new(&ONE_SAMPLE),
            above_floor: None,
            bad_intervals,
            first: true,
            least_requests: 0.0,
            suspect_at: None,
        }
    }

    fn outlasting(self, baseline: &ErrorsBaseline) -> Self {
        let every = self.restarts.every;
        let as_bad = baseline.bad(self.class.severity.max(self.tolerance));
        let run = as_bad.map_or(LongRun::NONE, |bad| LongRun::of(&bad.lasted, every));
        Self { hold: self.hold.max(run.hold(every)), run, ..self }
    }

    /// The longest that any lens of a service looks back.
    pub(crate) fn horizon(service: &Service, every: SignedDuration) -> SignedDuration {
        let decision = &service.decision;
        let configured = decision.hold_p0.max(decision.hold_p1).max(decision.hold_p2);
        configured.max(longest_hold(every)).max(every.saturating_mul(2))
    }

    /// Weighs one interval; `before` are the sums of all intervals before it. What others suffer too (`ambient`) is tolerated.
    pub(crate) fn step(&mut self, interval: &Interval, before: Counts, ambient: f64) {
        let onset = Onset { at: interval.begin(), before };
        let weight = self.restarts.weight(self.first, interval.covered);
        self.first = false;
        if interval.counts.count > 0.0 {
            self.run.step(interval.is_bad(self.class.severity.max(self.tolerance)));
        }
        if interval.beside.count > 0.0 {
            self.compare(interval, weight, onset);
        } else {
            self.weigh(interval, weight, onset, ambient);
        }
        if self.testable() && self.log_evidence() >= SUSPECT.ln() {
            self.suspect_at = Some(interval.at);
        }
    }

    /// Against the time before the deployment.
    fn weigh(&mut self, interval: &Interval, weight: f64, onset: Onset, ambient: f64) {
        let Counts { count, failed } = interval.counts;
        let (tolerance, cluster) = (self.tolerance.max(ambient), self.cluster);
        for evidence in [Some(&mut self.requests), self.above_floor.as_deref_mut()].into_iter().flatten() {
            evidence.step(weight, onset, |tilt| one_sample(tilt, failed, count, tolerance, cluster));
        }
        if let Some(lens) = &mut self.bad_intervals {
            let trials = f64::from(u8::from(count > 0.0));
            let bad = f64::from(u8::from(interval.is_bad(lens.above.max(ambient))));
            let (boundary, cluster) = (lens.boundary, lens.cluster);
            lens.evidence.step(weight, onset, |tilt| one_sample(tilt, bad, trials, boundary, cluster));
        }
    }

    /// Against the version before, as long as it runs beside this one: whatever befalls both is no difference. To switch from one
    /// comparison to the other keeps the evidence valid, since each factor of it is fair given what was before.
    fn compare(&mut self, interval: &Interval, weight: f64, onset: Onset) {
        let (new, old) = (interval.counts, interval.beside);
        let pair = Pair { new_count: new.count, new_failed: new.failed, old_count: old.count, old_failed: old.failed };
        let (floor, cluster) = (self.class.floor, self.cluster);
        let above_floor = self.above_floor.get_or_insert_with(|| Box::new(self.requests.clone()));
        above_floor.step(weight, onset, |tilt| one_sample(tilt, new.failed, new.count, floor, cluster));
        self.requests.step(weight, onset, |tilt| two_sample(tilt, pair, WORSE, cluster));
    }

    /// How far back it looks.
    pub(crate) fn look_back(&self) -> SignedDuration {
        self.look_back
    }

    /// ln E of it, as a voice in its class.
    pub(crate) fn voice(&self, source: Source) -> Voice {
        let tier = match self.class.impact {
            Impact::CompleteOutage => Tier::Outage,
            Impact::FeatureBroken => Tier::Feature,
            _ => Tier::Degraded,
        };
        Voice { tier, source, log_evidence: self.log_evidence() }
    }

    /// The row of the matrix that it stands for.
    pub(crate) fn impact(&self) -> Impact {
        self.class.impact
    }

    /// The last time at which the odds against the deployment were high.
    pub(crate) fn suspect_at(&self) -> Option<Timestamp> {
        self.suspect_at
    }

    /// What it says now, given the newest intervals.
    pub(crate) fn state(&self, trailing: &Trailing, log_threshold: f64) -> (FindingState, Option<Numbers>) {
        if !self.testable() {
            return (FindingState::Inconclusive(self.untestable()), None);
        }
        let numbers = self.numbers(trailing, log_threshold);
        (numbers.state_unless(Inconclusive::NoTraffic), Some(numbers))
    }

    fn testable(&self) -> bool {
        self.tolerance < self.class.testable_below
    }

    /// Too little history is something else than a bad one.
    fn untestable(&self) -> Inconclusive {
        let known_bad = self.class.tolerance(self.observed) >= self.class.testable_below;
        if known_bad { Inconclusive::NotTestable { tolerance: self.tolerance } } else { Inconclusive::NoBaseline }
    }

    /// ln E: both lenses at equal weights.
    fn log_evidence(&self) -> f64 {
        let requests = self.log_evidence_of_requests();
        let bad_intervals = self.bad_intervals.as_ref().map(|lens| lens.evidence.log_evidence());
        bad_intervals.map_or(requests, |bad_intervals| logaddexp(requests, bad_intervals) - 2.0_f64.ln())
    }

    fn log_evidence_of_requests(&self) -> f64 {
        let above_floor = self.above_floor.as_ref().map_or(f64::INFINITY, |evidence| evidence.log_evidence());
        self.requests.log_evidence().min(above_floor)
    }

    /// The onset that the lens with more evidence sees.
    fn onset(&self) -> Option<Onset> {
        let requests = self.log_evidence_of_requests();
        let heavier = self.bad_intervals.as_ref().filter(|lens| lens.evidence.log_evidence() > requests);
        heavier.map_or_else(|| self.requests.onset(), |lens| lens.evidence.onset())
    }

    fn numbers(&self, trailing: &Trailing, log_threshold: f64) -> Numbers {
        let (newest, hold) = self.held(trailing);
        let onset = self.onset();
        let total = trailing.total();
        let since = onset.map_or(Counts { count: 0.0, failed: 0.0 }, |onset| Counts {
            count: total.count - onset.before.count,
            failed: total.failed - onset.before.failed,
        });
        let log_evidence = self.log_evidence();
        let gates = [
            (Gate::Evidence, log_evidence >= log_threshold),
            (Gate::Persistence, self.run.outlasts() && self.persists(&newest)),
            (Gate::Severity, since.count > self.least_requests && since.failed >= self.class.severity * since.count),
            (Gate::Hold, trailing.covered().saturating_add(self.restarts.every / 2) >= hold),
        ];
        Numbers {
            before: self.upper,
            tolerance: self.tolerance,
            severity: self.class.severity,
            now: (newest.total.count > 0.0).then(|| newest.total.failed / newest.total.count),
            count: since.count,
            failed: since.failed,
            onset: onset.map(|onset| onset.at),
            log_evidence: if log_evidence.is_finite() { log_evidence } else { 0.0 },
            log_threshold,
            hold,
            waits_for: gates.iter().find(|(_, passed)| !passed).map(|(gate, _)| *gate),
            measure: Measure::Share,
            route: None,
            expected_delay: self.expected_delay(total.count, trailing.covered(), log_threshold),
            ambient: None,
        }
    }

    /// The intervals of the hold, and how long it must be. What is nothing like an outage, nor was in all the time that is looked back, need
    /// not outlast the outages of the past.
    fn held(&self, trailing: &Trailing) -> (Held, SignedDuration) {
        let every = self.restarts.every;
        let held = trailing.held(self.look_back, every);
        let is_mild = |counts: &Counts| counts.failed < MILD * counts.count;
        if self.milder_look_back < self.look_back && is_mild(&held.total) {
            let milder = trailing.held(self.milder_look_back, every);
            if is_mild(&milder.total) {
                return (milder, self.milder_look_back.max(self.run.hold(every)));
            }
        }
        (held, self.hold)
    }

    /// From an onset at the level of the class to a decision, at so many requests a second; `None` where it is never decided.
    pub(crate) fn foreseen_delay(&self, rate: f64, log_threshold: f64) -> Option<SignedDuration> {
        self.expected_delay(rate, SignedDuration::from_secs(1), log_threshold).filter(|_| self.testable())
    }

    /// From an onset at the level of the class, at the traffic so far.
    fn expected_delay(&self, requests: f64, watched: SignedDuration, log_threshold: f64) -> Option<SignedDuration> {
        let expectation = Expectation {
            grace: 0.0,
            hold: self.hold.as_secs_f64(),
            rate: requests / watched.as_secs_f64().max(1.0),
            severity: self.class.severity,
            tolerance: self.tolerance,
            cluster: self.cluster,
            log_threshold,
        };
        SignedDuration::try_from_secs_f64(expectation.delay()?).ok()
    }

    /// The pooled ratio of the hold is bad enough, and no piece of it contradicts, nor what came first or last: where a piece has too little
    /// traffic to contradict, a burst that is over, or that just began, would be taken for something that lasts.
    fn persists(&self, Held { total, pieces, beside }: &Held) -> bool {
        let severity = self.class.severity;
        let worse_than_beside = if beside.count > 0.0 { WORSE * beside.failed / beside.count } else { 0.0 };
        let least = severity.max(self.tolerance).max(worse_than_beside);
        if total.count <= 0.0 || total.failed < least * total.count {
            return false;
        }
        // What lasts shows in every piece as it shows in all of them together; a few failures as there always are don't make it last.
        let shows = severity.max(total.failed / total.count);
        #[expect(clippy::cast_precision_loss, reason = "at most a few dozen")]
        let expected = CONTRADICTION + (pieces.len() as f64 / 4.0).ln();
        let least = f64::max(severity / 2.0, shows / 4.0);
        let contradicts = |piece: &Counts| piece.count * shows >= expected && piece.failed < least * piece.count;
        !pieces.iter().any(contradicts)
            && !sums(pieces.iter()).any(|sum| contradicts(&sum))
            && !sums(pieces.iter().rev()).any(|sum| contradicts(&sum))
    }
}

/// The first piece, the first two together, and so on.
fn sums<'a>(pieces: impl Iterator<Item = &'a Counts>) -> impl Iterator<Item = Counts> {
    pieces.scan(Counts { count: 0.0, failed: 0.0 }, |sum, piece| {
        *sum = Counts { count: sum.count + piece.count, failed: sum.failed + piece.failed };
        Some(*sum)
    })
}

#[cfg(test)]
mod tests {
    use crate::verdict::Failure;
    use serde_json::Value;

    use super::*;

    const EVERY: SignedDuration = SignedDuration::from_secs(15);

    fn number(value: &Value) -> f64 {
        value.as_f64().expect("a number")
    }

    /// The lens of the vector V4, with the settings that its history led to.
    fn lens_of_the_trace(trace: &Value) -> RatioLens {
        let class = Class {
            impact: Impact::FeatureBroken,
            severity: 0.05,
            floor: 0.0125,
            drift: 0.05,
            testable_below: 0.5,
            hold: SignedDuration::from_secs(120),
        };
        let bad_intervals = BadIntervalsLens {
            above: class.bad_above(class.tolerance(number(&trace["pU"]))),
            boundary: number(&trace["qz"]),
            cluster: number(&trace["Cz"]),
            evidence: Mixture::new(&ONE_SAMPLE),
        };
        let restarts = Restarts::new(SignedDuration::from_mins(29), EVERY);
        RatioLens::new(
            class,
            number(&trace["pU"]),
            0.005,
            number(&trace["history"]["C"]),
            Some(bad_intervals),
            SignedDuration::ZERO,
            restarts,
        )
    }

    #[test]
    fn v4_full_trace_of_a_broken_feature() {
        let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/decision.json")).expect("the vectors are JSON");
        let trace = &vectors["trace_P2"];
        let mut lens = lens_of_the_trace(trace);
        let mut trailing = Trailing::new(LONGEST_HOLD);
        assert!((lens.tolerance - number(&trace["q"])).abs() < 1e-10);
        let begin = Timestamp::from_second(60).expect("a time in range");
        let rows = trace["rows"].as_array().expect("a list");
        for ((step, counts), row) in (0_i32..).zip(trace["seq"].as_array().expect("a list")).zip(rows) {
            let counts = Counts { count: number(&counts[0]), failed: number(&counts[1]) };
            let at = begin.checked_add(EVERY * (step + 1)).expect("a time in range");
            let interval = Interval { from: begin, at, covered: EVERY, counts, beside: Counts { count: 0.0, failed: 0.0 } };
            lens.step(&interval, trailing.total(), 0.0);
            trailing.push(interval);

            let (state, numbers) = lens.state(&trailing, number(&vectors["log_threshold_alpha_1e-4"]));
            let numbers = numbers.expect("a testable class has numbers");
            let interval_lens = lens.bad_intervals.as_ref().expect("the trace has both lenses");
            let onset = numbers.onset.expect("an onset").duration_since(begin).as_secs() / 15;
            assert!((lens.requests.log_evidence() - number(&row["logE_req"])).abs() < 1e-10, "{row}");
            assert!((interval_lens.evidence.log_evidence() - number(&row["logE_int"])).abs() < 1e-10, "{row}");
            assert!((numbers.log_evidence - number(&row["logE"])).abs() < 1e-10, "{row}");
            assert!((numbers.failed / numbers.count - number(&row["ratio_since_onset"])).abs() < 1e-10, "{row}");
            assert_eq!(Some(onset), row["onset"].as_i64(), "{row}");
            assert_eq!(Some(state == FindingState::Failing(Failure::Evidence)), row["fire"].as_bool(), "{row}");
        }
    }

    #[test]
    fn a_large_history_may_only_drift_and_a_small_one_may_double() {
        let class = Class::error_ratio(0.5, SignedDuration::from_secs(120));
        assert!((class.tolerance(0.1) - 0.2).abs() < 1e-12);
        assert!((class.tolerance(0.3) - 0.45).abs() < 1e-12);
        assert!((class.tolerance(0.001) - 0.125).abs() < 1e-12);
    }
}
