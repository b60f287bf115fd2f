//! The lens on durations (DECISION 2.4): evidence from the share of slow requests and from intervals with a bad mean, and the gates between
//! evidence and action. Buckets give evidence only; how bad it is says the mean, which is exact.

use jiff::{SignedDuration, Timestamp};

use super::Pace;
use crate::baseline::LatencyBaseline;
use crate::evidence::interval::Interval;
use crate::evidence::lens::{BAD_FACTOR, BAD_FLOOR, BAD_USUAL, LongRun, Restarts, SUSPECT, longest_hold};
use crate::evidence::trailing::{Onset, Trailing};
use crate::statistics::expected_delay::Expectation;
use crate::statistics::logaddexp;
use crate::statistics::mixture::{Mixture, ONE_SAMPLE, one_sample};
use crate::verdict::{FindingState, Gate, Inconclusive, Measure, Numbers};

/// A history with less time with traffic than twice the longest hold has no room for what the hold is learned from.
pub(crate) const LEAST_KNOWN: SignedDuration = SignedDuration::from_mins(20);

/// From this share on, slow requests are nothing unusual and say nothing.
const SLOW_USUAL: f64 = 0.9;

/// A stretch of the hold contradicts if it is this long, or a third of a short hold.
const STRETCH: SignedDuration = SignedDuration::from_mins(1);

/// The mean of so many requests means something: where single ones vary as much as they are long, it is known to a quarter.
const MEANINGFUL: f64 = 20.0;

/// From so many times as many requests as ever before, it may be the load that makes a service slow, and not its version.
const OVERLOAD: f64 = 3.0;

/// Where the mean is an impact, nearly every interval is bad.
const ALL_BAD: f64 = 0.95;

/// So many stretches are in the shortest hold; where there are so few requests that it has less than two, nothing persists.
const LEAST_STRETCHES: i32 = 3;

/// Durations against a baseline. All levels are in seconds.
#[derive(Clone, Debug)]
pub(crate) struct LatencyLens {
    restarts: Restarts,
    mean: f64,
    tolerated: f64,
    severe: f64,
    hold: SignedDuration,
    /// How much of the hold is looked at minute by minute.
    look_back: SignedDuration,
    run: LongRun,
    /// How far it looks back for requests to do so: further where they become few.
    reach: SignedDuration,
    slow: Option<Trials>,
    bad: Option<Trials>,
    /// From this mean on an interval is bad.
    bad_from: f64,
    load: Load,
    untestable: Option<Inconclusive>,
    first: bool,
    suspect_at: Option<Timestamp>,
}

/// Trials of one kind: requests, of which some are slow, or intervals, of which some are bad.
#[derive(Clone, Debug)]
struct Trials {
    boundary: f64,
    cluster: f64,
    /// The share of them that is slow, or bad, where the mean is an impact.
    severe: f64,
    evidence: Mixture<Onset<Pace>, 8>,
}

impl Trials {
    fn new(boundary: f64, cluster: f64, severe: f64, usual: f64) -> Option<Self> {
        (boundary < usual).then(|| Self { boundary, cluster, severe, evidence: Mixture::new(&ONE_SAMPLE) })
    }

    fn step(&mut self, weight: f64, onset: Onset<Pace>, failed: f64, count: f64) {
        let (boundary, cluster) = (self.boundary, self.cluster);
        self.evidence.step(weight, onset, |tilt| one_sample(tilt, failed, count, boundary, cluster));
    }

    /// Seconds from an onset to a decision by these alone, at so many a second.
    fn expected_delay(&self, rate: f64, hold: SignedDuration, log_threshold: f64) -> Option<f64> {
        let Self { boundary, cluster, severe, .. } = *self;
        Expectation { grace: 0.0, hold: hold.as_secs_f64(), rate, severity: severe, tolerance: boundary, cluster, log_threshold }.delay()
    }
}

/// Whether there is so much more to do than ever before that this alone may make it slow.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// From so many requests in a second on.
    overload: f64,
    /// How much of the time is looked at together: a third of the hold.
    piece: SignedDuration,
    /// What there was to do in the piece that is not over.
    requests: f64,
    time: SignedDuration,
    /// Since the end of the newest piece in which there was too much to do, if there was one.
    ago: Option<SignedDuration>,
}

impl Load {
    /// After a history with at most so many requests in a second; 0 if that is not known.
    fn new(busiest: f64, look_back: SignedDuration) -> Self {
        let overload = if busiest > 0.0 { OVERLOAD * busiest } else { f64::INFINITY };
        Self { overload, piece: look_back / LEAST_STRETCHES, requests: 0.0, time: SignedDuration::ZERO, ago: None }
    }

    fn step(&mut self, interval: &Interval<Pace>) {
        self.requests += interval.counts.requests;
        self.time = self.time.saturating_add(interval.covered);
        self.ago = self.ago.map(|ago| ago.saturating_add(interval.covered));
        if self.time >= self.piece {
            let is_too_much = std::mem::take(&mut self.requests) >= self.overload * std::mem::take(&mut self.time).as_secs_f64();
            self.ago = if is_too_much { Some(SignedDuration::ZERO) } else { self.ago };
        }
    }

    /// Whether it was so in the hold that ends now; the piece in which it ended may have been calm in the mean.
    fn is_in_hold(&self) -> bool {
        self.ago.is_some_and(|ago| ago <= self.piece.saturating_mul(LEAST_STRETCHES + 1))
    }
}

impl LatencyLens {
    /// A lens on what comes after a history. It must persist for `hold`, or for longer where the history says so.
    pub(crate) fn new(baseline: &LatencyBaseline, hold: SignedDuration, restarts: Restarts) -> Self {
        let every = baseline.span.every;
        let boundary = f64::max(BAD_FACTOR * baseline.bad_upper(), BAD_FLOOR);
        let slow = baseline.slow.and_then(|slow| Trials::new(slow.tolerance, slow.cluster, slow.severe, SLOW_USUAL));
        let bad = Trials::new(boundary, baseline.bad.cluster, ALL_BAD, BAD_USUAL);
        let untestable = untestable(baseline, boundary, slow.is_none() && bad.is_none());
        let look_back = hold.max(learned_hold(baseline, restarts.evaluated())).max(every.saturating_mul(2));
        let run = LongRun::of(&baseline.bad.severe_lasted, every);
        Self {
            restarts,
            mean: baseline.mean,
            tolerated: baseline.tolerated(),
            severe: baseline.severe(),
            hold: look_back.max(run.hold(every)),
            look_back,
            run,
            reach: look_back.max(least_time(baseline).saturating_mul(2).min(longest_hold(every))),
            slow,
            bad,
            bad_from: baseline.bad.bound,
            load: Load::new(baseline.busiest, look_back),
            untestable,
            first: true,
            suspect_at: None,
        }
    }

    /// How far back it looks.
    pub(crate) fn reach(&self) -> SignedDuration {
        self.reach
    }

    /// The last time at which the odds against the deployment were high.
    pub(crate) fn suspect_at(&self) -> Option<Timestamp> {
        self.suspect_at
    }

    /// Weighs one interval; `before` are the sums of all intervals before it.
    pub(crate) fn step(&mut self, interval: &Interval<Pace>, before: Pace) {
        let onset = Onset { at: interval.begin(), before };
        let weight = self.restarts.weight(self.first, interval.covered);
        self.first = false;
        let pace = interval.counts;
        self.load.step(interval);
        if pace.requests > 0.0 {
            self.run.step(pace.is_at_least(self.severe));
        }
        if let Some(slow) = &mut self.slow {
            slow.step(weight, onset, pace.slow, pace.requests);
        }
        if let Some(bad) = &mut self.bad {
            let is = |is: bool| f64::from(u8::from(is));
            bad.step(weight, onset, is(pace.is_at_least(self.bad_from)), is(pace.requests > 0.0));
        }
        if self.untestable.is_none() && self.log_evidence() >= SUSPECT.ln() {
            self.suspect_at = Some(interval.at);
        }
    }

    /// What it says now, given the newest intervals.
    pub(crate) fn state(&self, trailing: &Trailing<Pace>, log_threshold: f64) -> (FindingState, Option<Numbers>) {
        if let Some(why) = &self.untestable {
            return (FindingState::Inconclusive(why.clone()), None);
        }
        let numbers = self.numbers(trailing, log_threshold);
        (numbers.state_unless(Inconclusive::NoTraffic), Some(numbers))
    }

    /// ln E: what there is of both at equal weights.
    pub(crate) fn log_evidence(&self) -> f64 {
        match (&self.slow, &self.bad) {
            (Some(slow), Some(bad)) => logaddexp(slow.evidence.log_evidence(), bad.evidence.log_evidence()) - 2.0_f64.ln(),
            (Some(one), None) | (None, Some(one)) => one.evidence.log_evidence(),
            (None, None) => f64::NEG_INFINITY,
        }
    }

    /// The onset that those trials see that have more evidence.
    fn onset(&self) -> Option<Onset<Pace>> {
        let trials = self.slow.iter().chain(&self.bad);
        let heaviest = trials.max_by(|a, b| a.evidence.log_evidence().total_cmp(&b.evidence.log_evidence()));
        heaviest?.evidence.onset()
    }

    fn numbers(&self, trailing: &Trailing<Pace>, log_threshold: f64) -> Numbers {
        let mut held = Pace::default();
        trailing.newest(self.look_back, self.restarts.every()).for_each(|(_, pace)| held += &pace);
        let (total, onset) = (trailing.total(), self.onset());
        let before = onset.map_or(total, |onset| onset.before);
        let since =
            Pace { requests: total.requests - before.requests, seconds: total.seconds - before.seconds, slow: total.slow - before.slow };
        let log_evidence = self.log_evidence();
        // A slow spell that is over soon can be so much slower than an impact that the mean of the hold is one, too, and where requests vary
        // much no minute before it contradicts. The evidence itself says when it began.
        let is_as_old = self.run.outlasts() && trailing.has_lasted(onset, self.look_back, self.restarts.every());
        let gates = [
            (Gate::Evidence, log_evidence >= log_threshold),
            (Gate::Persistence, held.is_at_least(self.severe) && self.is_uncontradicted(trailing) && is_as_old),
            (Gate::Severity, since.is_at_least(self.severe)),
            (Gate::Hold, trailing.covered().saturating_add(self.restarts.every() / 2) >= self.hold),
            (Gate::Load, !self.load.is_in_hold()),
        ];
        Numbers {
            measure: Measure::Seconds,
            route: None,
            before: self.mean,
            tolerance: self.tolerated,
            severity: self.severe,
            now: (held.requests > 0.0).then(|| held.seconds / held.requests),
            count: since.requests,
            failed: since.slow,
            onset: onset.map(|onset| onset.at),
            log_evidence: if log_evidence.is_finite() { log_evidence } else { 0.0 },
            log_threshold,
            hold: self.hold,
            waits_for: gates.iter().find(|(_, passed)| !passed).map(|(gate, _)| *gate),
            expected_delay: self.expected_delay(total.requests, trailing.covered(), log_threshold),
            ambient: None,
        }
    }

    /// From an onset at the level of an impact to a decision at the latest, at the traffic so far. It is that of the intervals where they are
    /// weighed: how many requests would be slow is only guessed from buckets, and may tell it sooner.
    fn expected_delay(&self, requests: f64, watched: SignedDuration, log_threshold: f64) -> Option<SignedDuration> {
        let (rate, every) = (requests / watched.as_secs_f64().max(1.0), self.restarts.every().as_secs_f64());
        // With so few that no two stretches mean anything, nothing persists.
        if rate * self.reach.as_secs_f64() < 2.0 * MEANINGFUL {
            return None;
        }
        let with_requests = -(-rate * every).exp_m1() / every;
        let delay = match (&self.bad, &self.slow) {
            (Some(bad), slow) => {
                // Each alone needs twice the odds.
                let alone = if slow.is_some() { log_threshold + 2.0_f64.ln() } else { log_threshold };
                bad.expected_delay(with_requests, self.hold, alone)
            }
            (None, Some(slow)) => slow.expected_delay(rate, self.hold, log_threshold),
            (None, None) => None,
        };
        SignedDuration::try_from_secs_f64(delay?).ok()
    }

    /// Whether the mean of no minute of the hold is tolerated, and that of the newest one is bad. What is slower than an impact in one
    /// interval of a minute does not make up for the others, or a short spell would be taken for something that lasts. Where there are few
    /// requests, intervals and minutes are taken together until their mean means something.
    fn is_uncontradicted(&self, trailing: &Trailing<Pace>) -> bool {
        let (long, every) = (STRETCH.min(self.look_back / LEAST_STRETCHES), self.restarts.every());
        let (mut age, mut covered, mut stretches) = (SignedDuration::ZERO, SignedDuration::ZERO, 0_u32);
        let (mut piece, mut stretch) = (Pace::default(), Pace::default());
        for (time, pace) in trailing.newest(self.reach, every) {
            if stretches >= 2 && age.saturating_add(every / 2) > self.look_back {
                break;
            }
            age = age.saturating_add(time);
            covered = covered.saturating_add(time);
            piece += &pace;
            if piece.requests < MEANINGFUL {
                continue;
            }
            piece.seconds = piece.seconds.min(self.severe * piece.requests);
            stretch += &std::mem::take(&mut piece);
            if covered < long {
                continue;
            }
            covered = SignedDuration::ZERO;
            stretches += 1;
            if !std::mem::take(&mut stretch).is_at_least(if stretches == 1 { self.bad_from } else { self.tolerated }) {
                return false;
            }
        }
        stretches >= 2
    }
}

/// How long the service may be slow by itself in the `evaluated` time: half as long again as the mean was ever bad, which noise may make it,
/// and as long as what was as slow as an impact may last the next time. And never so short that there are too few requests to contradict.
fn learned_hold(baseline: &LatencyBaseline, evaluated: SignedDuration) -> SignedDuration {
    let (span, bad) = (&baseline.span, &baseline.bad);
    let longest = span.every.saturating_mul(i32::try_from(bad.lasted.longest).unwrap_or(i32::MAX)).saturating_mul(3) / 2;
    let severe = bad.severe_lasted.next_at_most(span, evaluated);
    let severe = if severe.is_zero() { severe } else { severe.saturating_add(span.every) };
    severe.max(longest).max(least_time(baseline)).min(longest_hold(span.every))
}

/// The time in which there are usually enough requests for the least number of stretches.
fn least_time(baseline: &LatencyBaseline) -> SignedDuration {
    let seconds = f64::from(LEAST_STRETCHES) * MEANINGFUL / baseline.rate;
    SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX)
}

/// Too little history is something else than one that was often slow.
fn untestable(baseline: &LatencyBaseline, boundary: f64, says_nothing: bool) -> Option<Inconclusive> {
    let intervals = i32::try_from(baseline.intervals).unwrap_or(i32::MAX);
    if baseline.mean <= 0.0 || baseline.span.every.saturating_mul(intervals) < LEAST_KNOWN {
        return Some(Inconclusive::NoBaseline);
    }
    let often_bad = BAD_FACTOR * f64::from(baseline.bad.intervals) >= BAD_USUAL * f64::from(baseline.intervals);
    let why = if often_bad { Inconclusive::NotTestable { tolerance: boundary.min(1.0) } } else { Inconclusive::NoBaseline };
    says_nothing.then_some(why)
}
