//! How it was before the deployment: a summary, small enough to be recorded. It says how bad the service was, how much its failures
//! cluster, and how long it was bad in one piece; from that the lenses take their tolerance, their tempering and their holds.

mod latency;

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::latency::{LatencyBaseline, SlowIntervals, SlowRequests};
use crate::evidence::interval::Interval;
use crate::evidence::rounds::Round;
use crate::statistics::dispersion::{Counts, PRIOR, SCALES, cluster, dispersion};
use crate::statistics::kl_upper::kl_upper;

/// The probability that a limit on the history is wrong.
const ALPHA: f64 = 1e-4;

/// The same for the short stretches that only guard against "it is always like this at this hour" (DECISION 2.2).
const ALPHA_LOCAL: f64 = 0.1;

/// A history that covers at least so much has seen every hour of the day.
const DAY: SignedDuration = SignedDuration::from_hours(22);

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const HALF_HOUR: SignedDuration = SignedDuration::from_mins(30);

/// One incident of this length, somewhere in a day, must not blind the guard for the rest of it (DECISION 2.2a).
const INCIDENT: SignedDuration = SignedDuration::from_mins(15);

/// The ratios above which bad intervals are counted. A lens takes the largest that is not above its own level, which can only make it
/// more careful. The first one stands for "something failed".
const LEVELS: [f64; 12] = [0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 0.9];

/// Clusters of bad intervals are lengths of time: this long, until the history says otherwise.
const BAD_STRETCH: SignedDuration = SignedDuration::from_secs(60);

/// The summary of one signal before a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Of a counter pair.
    Errors(ErrorsBaseline),
    /// Of probe rounds.
    Probe(ProbeBaseline),
    /// Of a histogram of durations.
    Latency(LatencyBaseline),
    /// Of a question of the operator's own.
    Query(QueryBaseline),
}

/// Whether a question had an answer before a deployment already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryBaseline {
    /// When and from where.
    pub span: Span,
    /// How often it was asked.
    pub looks: u32,
    /// How often it had an answer.
    pub answered: u32,
}

/// The stretch of time that a baseline was taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Where the readings came from, for messages.
    pub source: String,
    /// The time from one look to the next.
    pub every: SignedDuration,
    /// The begin of what is known of it; not earlier than asked for.
    pub from: Timestamp,
    /// The end of it: the start of the deployment.
    pub to: Timestamp,
}

/// How many requests failed before a deployment, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorsBaseline {
    /// When and from where.
    pub span: Span,
    /// Requests in the history.
    pub requests: f64,
    /// Failed ones.
    pub failed: f64,
    /// Intervals with requests.
    pub intervals: u32,
    /// How many failures come together: the cluster size C, at least 1 (DECISION 2.2).
    pub cluster: f64,
    /// The upper limit on the ratio of failed requests, 0 to 1; 1 when nothing is known. The worst of the limits on the whole history, on
    /// the hour before the deployment, and on the half hour that began one and seven days before it.
    pub upper: f64,
    /// Whether the history covers a day.
    #[serde(default)]
    pub knows_a_day: bool,
    /// How often the service was bad by itself, for several levels of badness.
    pub bad: Vec<BadIntervals>,
    /// The same of its busiest routes, where the signal tells them apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, ErrorsBaseline>,
}

/// How often at least a certain share of an interval's requests failed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BadIntervals {
    /// The share, 0 to 1.
    pub above: f64,
    /// In how many intervals.
    pub intervals: u32,
    /// The most of them in a row.
    pub longest: u32,
    /// How often some came in a row.
    #[serde(default)]
    pub runs: u32,
    /// How many of them come together: the cluster size, at least 1.
    pub cluster: f64,
}

/// How many rounds of probes failed before a deployment, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeBaseline {
    /// When and from where.
    pub span: Span,
    /// Rounds in the history.
    pub rounds: u32,
    /// Rounds in which all targets failed.
    pub all_failed: u32,
    /// The most of them in a row.
    pub longest_all_failed: u32,
    /// How often some came in a row.
    #[serde(default)]
    pub runs_all_failed: u32,
    /// How many of them come together: the cluster size, at least 1.
    pub cluster: f64,
    /// The upper limit on their share, 0 to 1; 1 when nothing is known.
    pub upper: f64,
    /// The sum over all rounds of the share of failing targets.
    pub failing: f64,
    /// The most rounds in a row in which at least a quarter of the targets failed.
    pub longest_failing: u32,
    /// How often some came in a row.
    #[serde(default)]
    pub runs_failing: u32,
    /// The cluster size of failing shares, at least 1.
    pub failing_cluster: f64,
    /// The upper limit on the mean failing share, 0 to 1; 1 when nothing is known.
    pub failing_upper: f64,
}

impl ErrorsBaseline {
    pub(crate) fn of(intervals: &[Interval], span: Span) -> Self {
        let known = covered(intervals);
        let knows_a_day = known >= DAY;
        let calm = if knows_a_day { without_worst(intervals, INCIDENT) } else { intervals.to_vec() };
        let busy = |intervals: &[Interval]| -> Vec<Interval> {
            intervals.iter().filter(|interval| interval.counts.count > 0.0).copied().collect()
        };
        let (all_busy, calm_busy) = (busy(intervals), busy(&calm));
        let prior = BAD_STRETCH.as_secs_f64() / span.every.as_secs_f64().max(0.1);
        let (requests, failed) = sums(intervals);
        let mut upper = Level::of(&calm).upper(ALPHA);
        // Where nobody asked anything, nothing is known of how it is at this hour.
        for stretch in local_stretches(intervals, &span).filter(|stretch| sums(stretch).0 > 0.0) {
            upper = upper.max(Level::of(stretch).upper(ALPHA_LOCAL));
        }
        Self {
            requests,
            failed,
            intervals: count(calm_busy.len()),
            cluster: Level::of(&calm).cluster,
            upper,
            knows_a_day,
            routes: BTreeMap::new(),
            bad: LEVELS.iter().map(|&above| BadIntervals::of(&calm_busy, &all_busy, above, prior)).collect(),
            span,
        }
    }

    /// The same, where a stretch of another day is known too. It raises the limit if it was worse, and says nothing else.
    pub(crate) fn and_local(mut self, stretch: &[Interval]) -> Self {
        if sums(stretch).0 > 0.0 {
            self.upper = self.upper.max(Level::of(stretch).upper(ALPHA_LOCAL));
        }
        self
    }

    /// How often the service was at least as bad as `above`.
    pub(crate) fn bad(&self, above: f64) -> Option<&BadIntervals> {
        self.bad.iter().filter(|bad| bad.above <= above).max_by(|a, b| a.above.total_cmp(&b.above))
    }

    /// The upper limit on the share of intervals that are as bad as that.
    pub(crate) fn bad_upper(&self, bad: &BadIntervals) -> f64 {
        kl_upper(f64::from(bad.intervals) / bad.cluster, f64::from(self.intervals) / bad.cluster, ALPHA)
    }

    /// The ratio of failed requests that was observed.
    pub(crate) fn observed(&self) -> f64 {
        if self.requests > 0.0 { self.failed / self.requests } else { 0.0 }
    }
}

impl BadIntervals {
    fn of(calm: &[Interval], all: &[Interval], above: f64, prior: f64) -> Self {
        let (longest, runs) = runs(all.iter().map(|interval| interval.is_bad(above)));
        let bad: Vec<Counts> = calm.iter().map(|interval| trial(interval.is_bad(above))).collect();
        Self {
            above,
            intervals: count(bad.iter().filter(|trial| trial.failed > 0.0).count()),
            longest,
            runs,
            cluster: dispersion(&bad, prior, &SCALES),
        }
    }
}

/// How bad a stretch of intervals was.
struct Level {
    requests: f64,
    failed: f64,
    cluster: f64,
}

impl Level {
    fn of(intervals: &[Interval]) -> Self {
        let counts: Vec<Counts> = intervals.iter().map(|interval| interval.counts).collect();
        let (requests, failed) = sums(intervals);
        let seconds = covered(intervals).as_secs_f64();
        Self { requests, failed, cluster: cluster(&counts, 30.0 * requests / seconds.max(1.0)) }
    }

    fn upper(&self, alpha: f64) -> f64 {
        kl_upper(self.failed / self.cluster, self.requests / self.cluster, alpha)
    }
}

fn sums(intervals: &[Interval]) -> (f64, f64) {
    intervals.iter().fold((0.0, 0.0), |(requests, failed), one| (requests + one.counts.count, failed + one.counts.failed))
}

fn covered<Tally>(intervals: &[Interval<Tally>]) -> SignedDuration {
    intervals.iter().fold(SignedDuration::ZERO, |sum, interval| sum.saturating_add(interval.covered))
}

/// The hour before the deployment, and the half hour that began one and seven days before it, as far as they are known and not all that is.
fn local_stretches<'a, Tally>(intervals: &'a [Interval<Tally>], span: &Span) -> impl Iterator<Item = &'a [Interval<Tally>]> {
    let ago = |time: SignedDuration| span.to.checked_sub(time).unwrap_or(Timestamp::MIN);
    let days = [SignedDuration::from_hours(24), SignedDuration::from_hours(7 * 24)].map(|time| (ago(time), ago(time - HALF_HOUR)));
    let stretches = [(ago(HOUR), span.to), days[0], days[1]].map(|(from, to)| between(intervals, from, to));
    stretches.into_iter().filter(|stretch| !stretch.is_empty() && stretch.len() < intervals.len())
}

/// The intervals that end after `from` and not after `to`; they are in order of time.
fn between<Tally>(intervals: &[Interval<Tally>], from: Timestamp, to: Timestamp) -> &[Interval<Tally>] {
    let begin = intervals.partition_point(|interval| interval.at <= from);
    let end = intervals.partition_point(|interval| interval.at <= to);
    &intervals[begin.min(end)..end]
}

/// All but the worst stretch of the given length.
fn without_worst(intervals: &[Interval], length: SignedDuration) -> Vec<Interval> {
    let worst = worst(intervals, length);
    intervals.iter().enumerate().filter(|(index, _)| !worst.contains(index)).map(|(_, interval)| *interval).collect()
}

/// The stretch of the given length with the largest sum of squared excess over what the calmest 95 % predict.
fn worst(intervals: &[Interval], length: SignedDuration) -> Range<usize> {
    let usual = usual_ratio(intervals);
    let excess = |interval: &Interval| (interval.counts.failed - usual * interval.counts.count).max(0.0).powi(2);
    let (mut first, mut sum) = (0, 0.0);
    let mut worst = (0.0, 0..0);
    for (last, interval) in intervals.iter().enumerate() {
        sum += excess(interval);
        while interval.at.duration_since(intervals[first].begin()) > length && first < last {
            sum -= excess(&intervals[first]);
            first += 1;
        }
        if sum > worst.0 {
            worst = (sum, first..last + 1);
        }
    }
    worst.1
}

/// The ratio of failed requests in the calmest 95 % of the intervals with traffic.
fn usual_ratio(intervals: &[Interval]) -> f64 {
    let mut busy: Vec<Counts> = intervals.iter().map(|interval| interval.counts).filter(|counts| counts.count > 0.0).collect();
    busy.sort_by(|a, b| (a.failed * b.count).total_cmp(&(b.failed * a.count)));
    busy.truncate(busy.len().saturating_mul(95).div_ceil(100));
    let (count, failed) = busy.iter().fold((0.0, 0.0), |(count, failed), one| (count + one.count, failed + one.failed));
    if count > 0.0 { failed / count } else { 0.0 }
}

impl ProbeBaseline {
    pub(crate) fn of(rounds: &[Round], span: Span) -> Self {
        let outages: Vec<Counts> = rounds.iter().filter_map(|round| round.all_failed).map(trial).collect();
        let shares: Vec<Counts> = rounds.iter().map(|round| Counts { count: 1.0, failed: round.failing }).collect();
        let all_failed = outages.iter().filter(|trial| trial.failed > 0.0).count();
        let failing: f64 = shares.iter().map(|share| share.failed).sum();
        let (cluster, failing_cluster) = (dispersion(&outages, PRIOR, &SCALES), dispersion(&shares, PRIOR, &SCALES));
        let (looked, all_failed) = (count(outages.len()), count(all_failed));
        let (longest_all_failed, runs_all_failed) = runs(rounds.iter().map(|round| round.all_failed != Some(false)));
        let (longest_failing, runs_failing) = runs(rounds.iter().map(|round| round.failing >= 0.25));
        Self {
            rounds: count(rounds.len()),
            all_failed,
            longest_all_failed,
            runs_all_failed,
            cluster,
            upper: kl_upper(f64::from(all_failed) / cluster, f64::from(looked) / cluster, ALPHA),
            failing,
            longest_failing,
            runs_failing,
            failing_cluster,
            failing_upper: kl_upper(failing / failing_cluster, f64::from(count(rounds.len())) / failing_cluster, ALPHA),
            span,
        }
    }

    /// The share of failing targets that was observed.
    pub(crate) fn observed_failing(&self) -> f64 {
        self.failing / f64::from(self.rounds.max(1))
    }

    /// The share of rounds without any passing target that was observed.
    pub(crate) fn observed_all_failed(&self) -> f64 {
        f64::from(self.all_failed) / f64::from(self.rounds.max(1))
    }
}

fn trial(failed: bool) -> Counts {
    Counts { count: 1.0, failed: f64::from(u8::from(failed)) }
}

/// The length of the longest run, and how many there are.
fn runs(bad: impl Iterator<Item = bool>) -> (u32, u32) {
    let (mut longest, mut run, mut runs) = (0_u32, 0_u32, 0_u32);
    for bad in bad {
        run = if bad { run.saturating_add(1) } else { 0 };
        runs = runs.saturating_add(u32::from(run == 1));
        longest = longest.max(run);
    }
    (longest, runs)
}

/// Of how many runs the longest has to be known until twice its length is long.
const MANY_RUNS: u32 = 40;

/// How much longer than the longest known run the next one may be. If lengths are exponential, the longest of n is exceeded twofold with
/// probability 2/((n+1)(n+2)) and threefold with 6/((n+1)(n+2)(n+3)): of a dozen runs that is 1 % and 0.2 %.
pub(crate) const fn hold_factor(runs: u32) -> u32 {
    if runs >= MANY_RUNS { 2 } else { 3 }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
