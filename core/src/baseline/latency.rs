//! How long requests took before a deployment (DECISION 2.4): the mean, the bound from which on one is slow, how often the service was
//! slow by itself, and for how long in one piece. Durations are in seconds.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::{ALPHA, ALPHA_LOCAL, BAD_STRETCH, DAY, INCIDENT, Span, count, covered, local_stretches, runs, trial, worst};
use crate::evidence::interval::Interval;
use crate::statistics::dispersion::{Counts, PRIOR, SCALES, dispersion};
use crate::statistics::kl_upper::kl_upper;
use crate::timing::Timing;

/// What is called slow, as shares of the slowdown that the matrix calls an impact: with the usual half, a quarter slower is tolerated of a
/// request, and 35 % make the mean of an interval bad.
const TOLERATED: f64 = 0.5;
const BAD: f64 = 0.7;

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
    /// The mean of a request, in seconds; the largest of the means of the whole history, of the hour before the deployment, and of the half
    /// hour that began one and seven days before it. 0 when nothing is known.
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
        let means = local_stretches(intervals, &span).filter_map(|stretch| sum(stretch).mean());
        let mean = means.chain(usual.mean()).fold(0.0, f64::max);
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

/// The seconds of requests in the place of failures.
fn as_seconds(intervals: &[Interval<Timing>]) -> Vec<Interval> {
    intervals.iter().map(|one| one.map(|timing| Counts { count: timing.requests, failed: timing.seconds })).collect()
}

fn sum<'a>(intervals: impl IntoIterator<Item = &'a Interval<Timing>>) -> Timing {
    let mut sum = Timing::default();
    intervals.into_iter().for_each(|interval| sum += &interval.counts);
    sum
}
