//! How long requests took before a deployment (DECISION 2.4): the mean, the bound from which on one is slow, how often the service was
//! slow by itself, and for how long in one piece. Durations are in seconds.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ALPHA, ALPHA_LOCAL, BAD_STRETCH, DAY, HOUR, INCIDENT, Span, between, count, covered, local_stretches, trial, worst};
use crate::evidence::interval::Interval;
use crate::statistics::dispersion::{Counts, PRIOR, SCALES, dispersion};
use crate::statistics::kl_upper::kl_upper;
use crate::timing::Timing;

/// What is called slow, as shares of the slowdown that the matrix calls an impact: with the usual half, a quarter slower is tolerated of a
/// request, and 35 % make the mean of an interval bad.
const TOLERATED: f64 = 0.5;
const BAD: f64 = 0.7;

/// The shortest stretch whose mean is a level, and not a slow spell: the longest hold.
const BLOCK: SignedDuration = SignedDuration::from_mins(10);

/// The longest block of intervals in which slow requests are looked for together.
const LONGEST_BLOCK: SignedDuration = SignedDuration::from_mins(8);

/// With so few slow requests the history can't tell clusters from chance; those further apart than this then have separate causes.
const FEW_SLOW: f64 = 20.0;
const SEPARATE: f64 = 30.0;

/// Where so few requests would be slow, thousands are too few to tell.
const LEAST_SEVERE: f64 = 0.01;

/// How long requests took before a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyBaseline {
    /// When and from where.
    pub span: Span,
    /// Requests in the history.
    pub requests: f64,
    /// Intervals with requests, without the worst quarter of an hour where a day is known.
    pub intervals: u32,
    /// The mean of a request, in seconds, of the whole history; or that of the hour or the ten minutes before the deployment, or of the
    /// slowest ten minutes of the half hours that began one and seven days before it, where they are slower than by chance. 0 when nothing
    /// is known.
    pub mean: f64,
    /// The share by which the mean may grow until that is an impact: 0.5 for "more than half slower".
    pub above: f64,
    /// What counts as a slow request, where the histogram has a bound there.
    pub slow: Option<SlowRequests>,
    /// How often the mean of an interval was bad.
    pub bad: SlowIntervals,
    /// Whether the history covers a day.
    pub knows_a_day: bool,
}

/// Slow requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowRequests {
    /// A request that takes longer is slow, in seconds: the first bound from which on the median would be an impact.
    pub bound: f64,
    /// The share of slow requests, 0 to 1.
    pub share: f64,
    /// The upper limit on the share of slow requests if every request took as much longer as is tolerated, 0 to 1.
    pub tolerance: f64,
    /// The share of slow requests, as far as buckets tell, if every request took as much longer as is an impact, 0 to 1.
    pub severe: f64,
    /// How many slow requests come together: the cluster size, at least 1.
    pub cluster: f64,
}

/// Intervals with a bad mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowIntervals {
    /// From this mean on an interval is bad, in seconds.
    pub bound: f64,
    /// How many were.
    pub intervals: u32,
    /// The most of them in a row.
    pub longest: u32,
    /// How often some came in a row.
    pub runs: u32,
    /// How many of them come together: the cluster size, at least 1.
    pub cluster: f64,
}

impl LatencyBaseline {
    /// The baseline of a history, in order of time. `above` is the slowdown that is an impact, as a share.
    pub(crate) fn of(intervals: &[Interval<Timing>], span: Span, above: f64) -> Self {
        let knows_a_day = covered(intervals) >= DAY;
        let left_out = if knows_a_day { worst(&as_seconds(intervals), INCIDENT) } else { 0..0 };
        let calm: Vec<&Interval<Timing>> =
            intervals.iter().enumerate().filter(|(index, _)| !left_out.contains(index)).map(|(_, interval)| interval).collect();
        let usual = sum(calm.iter().copied());
        let mean = f64::max(usual.mean().unwrap_or(0.0), local_mean(intervals, &span) / chance(&calm));
        let bad = mean * (1.0 + BAD * above);
        Self {
            requests: sum(intervals).requests,
            intervals: count(calm.iter().filter(|interval| interval.counts.requests > 0.0).count()),
            mean,
            above,
            slow: SlowRequests::of(intervals, &calm, &usual, &span, above),
            bad: SlowIntervals::of(intervals, &calm, bad, span.every),
            knows_a_day,
            span,
        }
    }

    /// The mean that is tolerated, in seconds.
    pub(crate) fn tolerated(&self) -> f64 {
        self.mean * (1.0 + TOLERATED * self.above)
    }

    /// The mean that is an impact, in seconds.
    pub(crate) fn severe(&self) -> f64 {
        self.mean * (1.0 + self.above)
    }

    /// The upper limit on the share of bad intervals.
    pub(crate) fn bad_upper(&self) -> f64 {
        let cluster = self.bad.cluster;
        kl_upper(f64::from(self.bad.intervals) / cluster, f64::from(self.intervals) / cluster, ALPHA)
    }
}

impl SlowRequests {
    fn of(all: &[Interval<Timing>], calm: &[&Interval<Timing>], usual: &Timing, span: &Span, above: f64) -> Option<Self> {
        let bound = usual.bound_from(usual.median()? * (1.0 + above))?;
        let near = bound / (1.0 + TOLERATED * above);
        let level = Level::of(calm.iter().copied(), near, span.every);
        let local = local_stretches(all, span).map(|stretch| Level::of(stretch, near, span.every).upper(ALPHA_LOCAL));
        let tolerance = local.fold(level.upper(ALPHA), f64::max);
        let share = |slow: f64| slow / usual.requests;
        Some(Self {
            bound,
            share: share(usual.certainly_slower_than(bound)),
            tolerance,
            severe: share(usual.slower_than(bound / (1.0 + above))),
            cluster: level.cluster,
        })
    }

    /// Whether requests could prove that they are as before, and not as slow as is an impact: the shares have to be told apart.
    pub(crate) fn can_be_disproved(&self) -> bool {
        (LEAST_SEVERE..1.0).contains(&self.severe) && self.severe >= 2.0 * self.share
    }
}

impl SlowIntervals {
    fn of(all: &[Interval<Timing>], calm: &[&Interval<Timing>], bound: f64, every: SignedDuration) -> Self {
        let is_bad = |interval: &Interval<Timing>| interval.counts.mean().map(|mean| mean >= bound);
        let (longest, runs) = runs(all.iter().filter_map(is_bad));
        let bad: Vec<Counts> = calm.iter().filter_map(|interval| is_bad(interval)).map(trial).collect();
        let prior = BAD_STRETCH.as_secs_f64() / every.as_secs_f64().max(0.1);
        Self {
            bound,
            intervals: count(bad.iter().filter(|trial| trial.failed > 0.0).count()),
            longest,
            runs,
            cluster: dispersion(&bad, prior, blocks(every)),
        }
    }
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

impl SlowIntervals {
    /// How long a stretch of slow intervals may last that comes by itself, in intervals. If lengths are exponential, the longest of n is
    /// exceeded twofold with probability 2/((n+1)(n+2)) and threefold with 6/((n+1)(n+2)(n+3)): of a dozen that is 1 % and 0.2 %.
    pub(crate) fn next_at_most(&self) -> u32 {
        self.longest.saturating_mul(if self.runs >= MANY_RUNS { 2 } else { 3 })
    }
}

/// How many of the requests of a stretch were slow, and how much they cluster.
struct Level {
    total: Counts,
    cluster: f64,
}

impl Level {
    fn of<'a>(intervals: impl IntoIterator<Item = &'a Interval<Timing>>, slower_than: f64, every: SignedDuration) -> Self {
        let (mut counts, mut total, mut seconds) = (Vec::new(), Counts::default(), 0.0);
        for interval in intervals {
            let one = Counts { count: interval.counts.requests, failed: interval.counts.slower_than(slower_than) };
            total += &one;
            seconds += interval.covered.as_secs_f64();
            counts.push(one);
        }
        // What clusters of slow requests are like is seen more often than what clusters of failures are: no factor on their excess.
        let cluster = dispersion(&counts, PRIOR, blocks(every));
        let separate = f64::max(1.0, SEPARATE * total.count / f64::max(seconds, 1.0));
        Self { total, cluster: if total.failed > FEW_SLOW { cluster } else { cluster.min(separate) } }
    }

    fn upper(&self, alpha: f64) -> f64 {
        kl_upper(self.total.failed / self.cluster, self.total.count / self.cluster, alpha)
    }
}

/// The block lengths, in intervals, that are not too long.
fn blocks(every: SignedDuration) -> &'static [usize] {
    let fits = |block: usize| every.saturating_mul(i32::try_from(block).unwrap_or(i32::MAX)) <= LONGEST_BLOCK;
    let blocks = SCALES.iter().take_while(|&&block| fits(block)).count();
    &SCALES[..blocks.max(1)]
}

/// The largest mean of what the time of the window may be like: the hour and the ten minutes before the deployment, and the slowest ten
/// minutes of the half hours that began one and seven days before it. What comes again each day may be shorter than half an hour.
fn local_mean(intervals: &[Interval<Timing>], span: &Span) -> f64 {
    let just_now = between(intervals, span.to.checked_sub(BLOCK).unwrap_or(Timestamp::MIN), span.to);
    let means = local_stretches(intervals, span).chain([just_now]).filter_map(|stretch| {
        let slowest = if is_before(stretch, span) { slowest_block(stretch) } else { None };
        slowest.or_else(|| sum(stretch).mean())
    });
    means.fold(0.0, f64::max)
}

/// Whether a stretch ended long before the deployment.
fn is_before(stretch: &[Interval<Timing>], span: &Span) -> bool {
    stretch.last().is_some_and(|last| span.to.duration_since(last.at) > HOUR)
}

/// The largest mean of the blocks that begin with any interval of the stretch.
fn slowest_block(stretch: &[Interval<Timing>]) -> Option<f64> {
    let from = |first: usize| {
        let end = stretch[first].begin().checked_add(BLOCK).unwrap_or(Timestamp::MAX);
        let block = &stretch[first..stretch.partition_point(|interval| interval.at <= end).max(first)];
        (covered(block).saturating_mul(2) >= BLOCK).then(|| sum(block).mean()).flatten()
    };
    (0..stretch.len()).filter_map(from).reduce(f64::max)
}

/// By what factor the mean of ten minutes is at most larger than that of the ten before, nine times in ten: as much is chance. Whole hours
/// may differ by more, and for a reason.
fn chance(intervals: &[&Interval<Timing>]) -> f64 {
    let blocks = intervals.chunk_by(|a, b| block_of(a.at) == block_of(b.at));
    let means: Vec<f64> = blocks.filter_map(|block| sum(block.iter().copied()).mean()).filter(|mean| *mean > 0.0).collect();
    let mut factors: Vec<f64> = means.windows(2).map(|pair| pair[1] / pair[0]).collect();
    factors.sort_by(f64::total_cmp);
    factors.get(factors.len().saturating_mul(9) / 10).copied().unwrap_or(1.0).max(1.0)
}

/// The number of the block that a moment falls into.
fn block_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(BLOCK.as_secs())
}

/// The seconds of requests in the place of failures.
fn as_seconds(intervals: &[Interval<Timing>]) -> Vec<Interval> {
    intervals.iter().map(|one| one.map(|timing| Counts { count: timing.requests, failed: timing.seconds })).collect()
}

fn sum<'a>(intervals: impl IntoIterator<Item = &'a Interval<Timing>>) -> Timing {
    let mut sum = Timing::default();
    intervals.into_iter().for_each(|interval| sum += &interval.counts);
    sum
}
