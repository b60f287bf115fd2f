//! How long requests took before a deployment (DECISION 2.4): the mean, the bound from which on one is slow, how often the service was
//! slow by itself, and for how long in one piece. Durations are in seconds.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ALPHA, ALPHA_LOCAL, BAD_STRETCH, DAY, HOUR, INCIDENT, Runs, Span, between, count, covered, local_stretches, trial, worst};
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

/// How much there is to do is told by stretches of this length.
const BUSY: SignedDuration = SignedDuration::from_mins(5);

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
    /// Requests in a second.
    pub rate: f64,
    /// Requests in a second of the busiest five minutes; 0 when that is not known.
    #[serde(default)]
    pub busiest: f64,
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
    /// How long the mean was bad each time.
    pub lasted: Runs,
    /// How long it was as slow as an impact is each time, which noise hardly ever makes it.
    pub severe_lasted: Runs,
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
        let mean = level(usual.mean().unwrap_or(0.0), local_means(intervals, &span, chance(&calm)), 1.0 + TOLERATED * above);
        let bad = mean * (1.0 + BAD * above);
        Self {
            requests: sum(intervals).requests,
            intervals: count(calm.iter().filter(|interval| interval.counts.requests > 0.0).count()),
            mean,
            above,
            slow: SlowRequests::of(intervals, &calm, &usual, &span, above),
            bad: SlowIntervals::of(intervals, &calm, bad, mean * (1.0 + above), span.every),
            rate: usual.requests / calm.iter().map(|interval| interval.covered.as_secs_f64()).sum::<f64>().max(1.0),
            busiest: busiest(intervals),
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
    fn of(all: &[Interval<Timing>], calm: &[&Interval<Timing>], bound: f64, severe: f64, every: SignedDuration) -> Self {
        let is_bad = |interval: &Interval<Timing>| interval.counts.mean().map(|mean| mean >= bound);
        let bad: Vec<Counts> = calm.iter().filter_map(|interval| is_bad(interval)).map(trial).collect();
        let prior = BAD_STRETCH.as_secs_f64() / every.as_secs_f64().max(0.1);
        Self {
            bound,
            intervals: count(bad.iter().filter(|trial| trial.failed > 0.0).count()),
            lasted: Runs::of(all.iter().filter_map(is_bad)),
            severe_lasted: Runs::of(all.iter().filter_map(|interval| Some(interval.counts.mean()? >= severe))),
            cluster: dispersion(&bad, prior, blocks(every)),
        }
    }
}

/// The requests in a second of the busiest stretch of five minutes, or of all that is known: less two standard deviations of a Poisson
/// count, since of few requests chance alone makes the most.
fn busiest(intervals: &[Interval<Timing>]) -> f64 {
    let rate = |requests: f64, time: SignedDuration| (requests - 2.0 * requests.sqrt()).max(0.0) / time.as_secs_f64().max(1.0);
    let (mut first, mut requests, mut time, mut most) = (0, 0.0, SignedDuration::ZERO, 0.0_f64);
    for interval in intervals {
        requests += interval.counts.requests;
        time = time.saturating_add(interval.covered);
        while time.saturating_sub(intervals[first].covered) >= BUSY {
            requests -= intervals[first].counts.requests;
            time = time.saturating_sub(intervals[first].covered);
            first += 1;
        }
        if time >= BUSY {
            most = most.max(rate(requests, time));
        }
    }
    if most > 0.0 { most } else { rate(requests, time) }
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

/// The level before: the mean of the whole history, or a local one. One that is beyond what is tolerated counts as it is; of one that is
/// not, what may be chance is left out, and at most half of what is tolerated.
fn level(mean: f64, local: impl Iterator<Item = Local>, tolerated: f64) -> f64 {
    let levels =
        local.map(|local| if local.mean > mean * tolerated { local.mean } else { local.mean / local.chance.min(tolerated.sqrt()) });
    levels.fold(mean, f64::max)
}

/// The mean of a stretch that the time of the window may be like.
struct Local {
    mean: f64,
    /// By what factor it may be larger than its level by chance.
    chance: f64,
}

/// The means of what the time of the window may be like: the hour and the ten minutes before the deployment, and the slowest ten minutes of
/// the half hours that began one and seven days before it. What comes again each day may be shorter than half an hour. `chance` is that of
/// ten minutes against ten others; an hour is six times as long, and compared with all that is known.
fn local_means(intervals: &[Interval<Timing>], span: &Span, chance: f64) -> impl Iterator<Item = Local> {
    let just_now = between(intervals, span.to.checked_sub(BLOCK).unwrap_or(Timestamp::MIN), span.to);
    local_stretches(intervals, span).chain([just_now]).filter_map(move |stretch| {
        let slowest = if is_before(stretch, span) { slowest_block(stretch) } else { None };
        let mean = slowest.or_else(|| sum(stretch).mean())?;
        let blocks = if slowest.is_none() && covered(stretch) > HOUR / 2 { 6.0 } else { 0.5 };
        Some(Local { mean, chance: chance.powf(f64::sqrt(0.5 / blocks)) })
    })
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
