//! How it was before the deployment: a summary, small enough to be recorded. It says how bad the service was, how much its failures
//! cluster, and how long it was bad in one piece; from that the lenses take their tolerance, their tempering and their holds.

mod latency;

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::latency::{LatencyBaseline, SlowIntervals, SlowRequests};
use crate::evidence::interval::{Interval, is_bad};
use crate::evidence::rounds::Round;
use crate::statistics::dispersion::{Counts, PRIOR, SCALES, cluster, dispersion};
use crate::statistics::kl_upper::kl_upper;

/// The probability that a limit on the history is wrong.
const ALPHA: f64 = 1e-4;

/// The same for the short stretches that only guard against "it is always like this at this hour" (DECISION 2.2).
const ALPHA_LOCAL: f64 = 0.1;

/// A history that reaches over at least so much has seen every hour of the day.
const DAY: SignedDuration = SignedDuration::from_hours(22);

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const HALF_HOUR: SignedDuration = SignedDuration::from_mins(30);

/// One incident of this length, somewhere in a day, must not blind the guard for the rest of it (DECISION 2.2a).
const INCIDENT: SignedDuration = SignedDuration::from_mins(15);

/// An outage is one incident up to this length. What is out for longer in a day is how the service is.
const LONGEST_OUTAGE: SignedDuration = SignedDuration::from_hours(2);

/// The ratios above which bad intervals are counted. A lens takes the largest that is not above its own level, which can only make it
/// more careful. The first one stands for "something failed".
const LEVELS: [f64; 12] = [0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 0.9];

/// From this ratio on it is an outage, and below a quarter of that it is nothing like one: how long the outages of the history lasted is no
/// measure for it.
const OUTAGE: f64 = 0.5;
pub(crate) const MILD: f64 = OUTAGE / 4.0;

/// From this ratio on what comes now and then is a burst.
const BURST: f64 = 0.025;

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
    /// The ratio of an incident that was under way when the deployment began, 0 if none was. It is not the fault of what is deployed against
    /// it.
    #[serde(default)]
    pub at_start: f64,
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
    /// How long they lasted.
    #[serde(default)]
    pub lasted: Runs,
    /// The same of those stretches that were no outages, if some were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milder_lasted: Option<Runs>,
    /// The upper limit on their share in the worst of the hour before the deployment and the half hour that began one and seven days before
    /// it; 0 when they say nothing.
    #[serde(default)]
    pub local_upper: f64,
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
    /// How long they lasted; rounds of which nothing can be said are counted among them.
    #[serde(default)]
    pub outages_lasted: Runs,
    /// How many of them come together: the cluster size, at least 1.
    pub cluster: f64,
    /// The upper limit on their share, 0 to 1; 1 when nothing is known.
    pub upper: f64,
    /// Whether all targets failed in each of the last rounds before the deployment.
    #[serde(default)]
    pub down_at_start: bool,
    /// The sum over all rounds of the share of failing targets.
    pub failing: f64,
    /// How long it lasted when at least a quarter of the targets failed.
    #[serde(default)]
    pub failing_lasted: Runs,
    /// The cluster size of failing shares, at least 1.
    pub failing_cluster: f64,
    /// The upper limit on the mean failing share, 0 to 1; 1 when nothing is known.
    pub failing_upper: f64,
    /// The failing share that lasted when the deployment began: the least of the last rounds before it.
    #[serde(default)]
    pub failing_at_start: f64,
}

impl ErrorsBaseline {
    pub(crate) fn of(intervals: &[Interval], span: Span) -> Self {
        let knows_a_day = knows_a_day(intervals);
        let worst = if knows_a_day { incident(intervals, &span) } else { 0..0 };
        let calm = || intervals[..worst.start].iter().chain(&intervals[worst.end..]);
        let busy = |intervals: &mut dyn Iterator<Item = &Interval>| -> Vec<Counts> {
            intervals.map(|interval| interval.counts).filter(|counts| counts.count > 0.0).collect()
        };
        let (all_busy, calm_busy) = (busy(&mut intervals.iter()), busy(&mut calm()));
        let prior = BAD_STRETCH.as_secs_f64() / span.every.as_secs_f64().max(0.1);
        let (requests, failed) = sums(intervals);
        let level = Level::of(calm());
        let usual = level.upper(ALPHA);
        let local: Vec<&[Interval]> = local_stretches(intervals, &span).collect();
        // A stretch that is not worse than the whole says nothing of its own: few requests, or none, would make a large limit.
        let local_upper = local.iter().map(|stretch| Level::of(*stretch)).filter(|level| level.lower(ALPHA_LOCAL) > usual);
        let upper = local_upper.map(|level| level.upper(ALPHA_LOCAL)).fold(usual, f64::max);
        Self {
            requests,
            failed,
            intervals: count(calm_busy.len()),
            cluster: level.cluster,
            upper,
            at_start: at_start(intervals, &span, usual),
            knows_a_day,
            routes: BTreeMap::new(),
            bad: BadIntervals::of_levels(&calm_busy, &all_busy, &local, prior),
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

    /// How long the next stretch of the `evaluated` time may last in which it is at least as bad as `above`: the longest limit of that level and
    /// of all above, for what is worse may last longer.
    pub(crate) fn next_bad_at_most(&self, above: f64, evaluated: SignedDuration) -> SignedDuration {
        self.next_at_most(above, evaluated, |bad| bad.lasted)
    }

    /// The same if the next one is no outage.
    pub(crate) fn next_milder_at_most(&self, above: f64, evaluated: SignedDuration) -> SignedDuration {
        self.next_at_most(above, evaluated, |bad| bad.milder_lasted.unwrap_or(bad.lasted))
    }

    fn next_at_most(&self, above: f64, evaluated: SignedDuration, lasted: impl Fn(&BadIntervals) -> Runs) -> SignedDuration {
        let own = self.bad(above).map_or(0.0, |bad| bad.above);
        let limits = self.bad.iter().filter(|bad| bad.above >= own).map(|bad| lasted(bad).next_at_most(&self.span, evaluated));
        limits.fold(SignedDuration::ZERO, SignedDuration::max)
    }

    /// Whether it was bad for a while now and then, by whatever level.
    pub(crate) fn has_bursts(&self) -> bool {
        self.bad.iter().any(|bad| bad.above >= BURST && bad.lasted.lasts(ALPHA))
    }

    /// The level that the deployment is compared with: how it was, or how it just became.
    pub(crate) fn level(&self) -> f64 {
        self.upper.max(self.at_start)
    }

    /// The ratio of failed requests that was observed.
    pub(crate) fn observed(&self) -> f64 {
        if self.requests > 0.0 { self.failed / self.requests } else { 0.0 }
    }
}

impl BadIntervals {
    /// Of each level. Where a level has as many bad intervals as the one before, they are the same ones.
    fn of_levels(calm: &[Counts], all: &[Counts], local: &[&[Interval]], prior: f64) -> Vec<Self> {
        let mut known: Vec<(usize, Self)> = Vec::with_capacity(LEVELS.len());
        for above in LEVELS {
            let number = all.iter().filter(|counts| is_bad(counts, above)).count();
            let bad = match known.last() {
                Some((same, bad)) if *same == number => Self { above, ..*bad },
                _ => Self::of(calm, all, local, above, prior),
            };
            known.push((number, bad));
        }
        known.into_iter().map(|(_, bad)| bad).collect()
    }

    fn of(calm: &[Counts], all: &[Counts], local: &[&[Interval]], above: f64, prior: f64) -> Self {
        let bad: Vec<Counts> = calm.iter().map(|counts| trial(is_bad(counts, above))).collect();
        let cluster = dispersion(&bad, prior, &SCALES);
        let intervals = bad.iter().fold(0.0, |sum, trial| sum + trial.failed);
        let upper = kl_upper(intervals / cluster, f64::from(count(bad.len())) / cluster, ALPHA);
        let of_stretch = |stretch: &&[Interval]| {
            let busy = stretch.iter().filter(|interval| interval.counts.count > 0.0);
            let (looked, bad) = busy.fold((0.0, 0.0), |(looked, bad), one| (looked + 1.0, bad + f64::from(u8::from(one.is_bad(above)))));
            let says_otherwise = kl_lower(bad / cluster, looked / cluster, ALPHA_LOCAL) > upper;
            if says_otherwise { kl_upper(bad / cluster, looked / cluster, ALPHA_LOCAL) } else { 0.0 }
        };
        let lasted = Runs::of(all.iter().map(|counts| is_bad(counts, above)));
        let has_outages = all.iter().any(|counts| is_bad(counts, OUTAGE));
        let milder = has_outages.then(|| Runs::of(milder(all, above).into_iter()));
        Self {
            above,
            intervals: count(bad.iter().filter(|trial| trial.failed > 0.0).count()),
            lasted,
            milder_lasted: milder.filter(|milder| *milder != lasted),
            local_upper: local.iter().map(of_stretch).fold(0.0, f64::max),
            cluster,
        }
    }
}

/// Which intervals are at least as bad as `above`, but for the stretches of them that were mostly outages.
fn milder(intervals: &[Counts], above: f64) -> Vec<bool> {
    let stretches = intervals.chunk_by(|one, next| is_bad(one, above) == is_bad(next, above));
    let is_milder = |stretch: &[Counts]| {
        let outages = stretch.iter().filter(|counts| is_bad(counts, OUTAGE)).count();
        stretch.first().is_some_and(|first| is_bad(first, above)) && 2 * outages < stretch.len()
    };
    stretches.flat_map(|stretch| std::iter::repeat_n(is_milder(stretch), stretch.len())).collect()
}

/// How bad a stretch of intervals was.
struct Level {
    requests: f64,
    failed: f64,
    cluster: f64,
}

impl Level {
    fn of<'a>(intervals: impl IntoIterator<Item = &'a Interval>) -> Self {
        let mut covered = SignedDuration::ZERO;
        let count = |interval: &Interval| {
            covered = covered.saturating_add(interval.covered);
            interval.counts
        };
        let counts: Vec<Counts> = intervals.into_iter().map(count).collect();
        let (requests, failed) = counts.iter().fold((0.0, 0.0), |(requests, failed), one| (requests + one.count, failed + one.failed));
        let seconds = covered.as_secs_f64();
        Self { requests, failed, cluster: cluster(&counts, 30.0 * requests / seconds.max(1.0)) }
    }

    fn upper(&self, alpha: f64) -> f64 {
        kl_upper(self.failed / self.cluster, self.requests / self.cluster, alpha)
    }

    fn lower(&self, alpha: f64) -> f64 {
        kl_lower(self.failed / self.cluster, self.requests / self.cluster, alpha)
    }
}

/// The lower limit: that on the ratio of those that did not fail, from the other side.
fn kl_lower(failed: f64, count: f64, level: f64) -> f64 {
    1.0 - kl_upper(count - failed, count, level)
}

fn sums(intervals: &[Interval]) -> (f64, f64) {
    intervals.iter().fold((0.0, 0.0), |(requests, failed), one| (requests + one.counts.count, failed + one.counts.failed))
}

fn covered<Tally>(intervals: &[Interval<Tally>]) -> SignedDuration {
    intervals.iter().fold(SignedDuration::ZERO, |sum, interval| sum.saturating_add(interval.covered))
}

/// Whether they reach over a day, and cover at least half of it: looks that come now early and now late leave small gaps.
fn knows_a_day(intervals: &[Interval]) -> bool {
    let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else { return false };
    last.at.duration_since(first.begin()) >= DAY && covered(intervals) >= DAY / 2
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

/// The ratio of an incident that is under way at the end: that of the last minute or of all of it, if no quarter of that minute contradicts,
/// if chance doesn't make it of the `usual` level, and if it has been like that for longer than the service usually is by itself.
fn at_start(intervals: &[Interval], span: &Span, usual: f64) -> f64 {
    let minute = SignedDuration::from_mins(1).max(span.every.saturating_mul(2));
    let since = |at: Timestamp| at.checked_sub(minute).unwrap_or(Timestamp::MIN);
    let newest = between(intervals, since(span.to), span.to);
    let ratio = share(newest);
    let may_be_half = |stretch: &[Interval]| {
        let (requests, failed) = sums(stretch);
        kl_upper(failed, requests, ALPHA_LOCAL) >= ratio / 2.0
    };
    let mut quarters = newest.chunks(newest.len().div_ceil(4).max(1));
    let level = Level::of(newest);
    if level.lower(ALPHA_LOCAL) <= usual || covered(newest).saturating_mul(2) < minute || !quarters.all(may_be_half) {
        return 0.0;
    }
    let mut incident = newest.len();
    while let Some(oldest) = intervals[..intervals.len() - incident].last() {
        let earlier = between(intervals, since(oldest.at), oldest.at);
        if earlier.is_empty() || !may_be_half(earlier) {
            break;
        }
        incident += earlier.len();
    }
    let (before, incident) = intervals.split_at(intervals.len() - incident);
    let calm = if knows_a_day(before) { without_worst(before, INCIDENT) } else { before.to_vec() };
    let busy = calm.iter().filter(|interval| interval.counts.count > 0.0);
    let longest = Runs::of(busy.map(|interval| interval.is_bad(ratio / 2.0))).longest;
    let known = span.every.saturating_mul(i32::try_from(longest).unwrap_or(i32::MAX));
    if covered(incident) > known { share(incident).max(ratio) } else { 0.0 }
}

/// The share of failed requests; none if there were none.
fn share(intervals: &[Interval]) -> f64 {
    let (requests, failed) = sums(intervals);
    if requests > 0.0 { failed / requests } else { 0.0 }
}

/// All but the worst stretch of the given length.
fn without_worst(intervals: &[Interval], length: SignedDuration) -> Vec<Interval> {
    let worst = worst(intervals, length);
    intervals.iter().enumerate().filter(|(index, _)| !worst.contains(index)).map(|(_, interval)| *interval).collect()
}

/// The one incident that is left out: the worst stretch, and all of the outage that it is a part of.
fn incident(intervals: &[Interval], span: &Span) -> Range<usize> {
    let worst = worst(intervals, INCIDENT);
    if share(&intervals[worst.clone()]) < OUTAGE {
        return worst;
    }
    let minute = SignedDuration::from_mins(1).max(span.every.saturating_mul(2));
    let is_out = |interval: &&Interval| interval.is_bad(MILD);
    let (mut first, mut end) = (worst.start, worst.end);
    let reaches = |first: usize, end: usize| intervals[end - 1].at.duration_since(intervals[first].begin()) <= LONGEST_OUTAGE;
    // What is well for a minute ends it.
    while let Some(before) = intervals[..first].iter().rposition(|interval| is_out(&interval))
        && intervals[first].begin().duration_since(intervals[before].at) <= minute
        && reaches(before, end)
    {
        first = before;
    }
    while let Some(after) = intervals[end..].iter().position(|interval| is_out(&interval))
        && intervals[end + after].begin().duration_since(intervals[end - 1].at) <= minute
        && reaches(first, end + after + 1)
    {
        end += after + 1;
    }
    first..end
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
        let at_start = last_rounds(rounds, &span);
        Self {
            rounds: count(rounds.len()),
            all_failed,
            outages_lasted: Runs::of(rounds.iter().map(|round| round.all_failed != Some(false))),
            cluster,
            upper: kl_upper(f64::from(all_failed) / cluster, f64::from(looked) / cluster, ALPHA),
            down_at_start: !at_start.is_empty() && at_start.iter().all(|round| round.all_failed == Some(true)),
            failing_at_start: at_start.iter().map(|round| round.failing).min_by(f64::total_cmp).unwrap_or(0.0),
            failing,
            failing_lasted: Runs::of(rounds.iter().map(|round| round.failing >= 0.25)),
            failing_cluster,
            failing_upper: kl_upper(failing / failing_cluster, f64::from(count(rounds.len())) / failing_cluster, ALPHA),
            span,
        }
    }

    /// The level that the rounds without any passing target are compared with, 0 to 1.
    pub(crate) fn level(&self) -> f64 {
        if self.down_at_start { 1.0 } else { self.upper }
    }

    /// The level that the share of failing targets is compared with, 0 to 1.
    pub(crate) fn failing_level(&self) -> f64 {
        self.failing_upper.max(self.failing_at_start)
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

/// The last rounds before the deployment, as many as an outage takes to be found; nothing if they were not made.
fn last_rounds<'a>(rounds: &'a [Round], span: &Span) -> &'a [Round] {
    const ROUNDS: usize = 6;
    let last = &rounds[rounds.len().saturating_sub(ROUNDS)..];
    let oldest = span.to.checked_sub(span.every.saturating_mul(8)).unwrap_or(Timestamp::MIN);
    let are_new = last.len() == ROUNDS && last.iter().all(|round| round.at >= oldest);
    if are_new { last } else { &[] }
}

fn trial(failed: bool) -> Counts {
    Counts { count: 1.0, failed: f64::from(u8::from(failed)) }
}

/// How long something lasted each time that it came, in looks in a row at which it was there. Single looks may be chance, and say nothing
/// of what lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// The most looks in a row.
    pub longest: u32,
    /// The most looks in a row but for those: what comes more than once is no incident.
    #[serde(default)]
    pub second: u32,
    /// How often it was there for at least two looks in a row.
    pub number: u32,
    /// Looks in those together; at least twice as many.
    pub looks: u32,
    /// Looks at which it was there, in runs or alone.
    pub there: u32,
    /// All looks.
    pub all: u32,
}

impl Runs {
    /// Before anything is known of a service, its bursts are taken to be like this many of [`Self::PRIOR_LENGTH`].
    const PRIOR: f64 = 4.0;
    const PRIOR_LENGTH: SignedDuration = SignedDuration::from_secs(15);

    /// How much longer than the longest known one the next may be at least (DECISION 2.2, gate 4).
    const FACTOR: u32 = 2;

    fn of(there: impl Iterator<Item = bool>) -> Self {
        let (mut runs, mut run) = (Self::default(), 0_u32);
        let mut longest_before = 0;
        for there in there {
            run = if there { run.saturating_add(1) } else { 0 };
            if run == 0 {
                longest_before = runs.longest;
            }
            runs.all = runs.all.saturating_add(1);
            runs.there = runs.there.saturating_add(u32::from(there));
            runs.second = runs.second.max(run.min(longest_before));
            runs.longest = runs.longest.max(run);
            runs.number = runs.number.saturating_add(u32::from(run == 2));
            runs.looks = runs.looks.saturating_add(if run == 2 { 2 } else { u32::from(run > 2) });
        }
        runs
    }

    /// Whether it follows itself more often than chance would have it, save with the probability `alpha`.
    fn lasts(&self, alpha: f64) -> bool {
        let [steps, there, all] = [self.looks - self.number, self.there, self.all].map(f64::from);
        kl_lower(steps, there, alpha) > there / all.max(1.0)
    }

    /// How long one of those to come in the `evaluated` time may last, save with a probability of [`ALPHA`], if they go on as in the
    /// history; in whole looks, and zero if there were none.
    ///
    /// If lengths are exponential and n of them were T together, the next one exceeds L with probability (1 + L / T)^-n, whatever their
    /// mean (Lawless and Fredette 2005: an exact prediction limit; a little knowledge of bursts in general is added to n and T). What is
    /// left after the second look is exponential too, which spares us what nobody saw: when it began, and the single looks. Lengths may
    /// have a heavier tail, so that it is never less than twice the longest known.
    pub(crate) fn next_at_most(&self, span: &Span, evaluated: SignedDuration) -> SignedDuration {
        let least = self.longest.saturating_mul(Self::FACTOR);
        let looks =
            if self.lasts(ALPHA_LOCAL) { self.looks_of_next(span.every.as_secs_f64(), evaluated.as_secs_f64()).max(least) } else { least };
        span.every.saturating_mul(i32::try_from(looks).unwrap_or(i32::MAX))
    }

    /// How many looks in a row it must be there until that is clearly longer than what came more than once; one if nothing did.
    pub(crate) fn outlasting(&self) -> u32 {
        self.second.saturating_mul(Self::FACTOR).saturating_add(1)
    }

    fn looks_of_next(&self, every: f64, evaluated: f64) -> u32 {
        let [number, looks, all] = [self.number, self.looks, self.all].map(f64::from);
        let expected = (number + 1.0) * evaluated / f64::max(all * every, evaluated);
        let after_the_second = (looks - 1.5 * number) * every + Self::PRIOR * Self::PRIOR_LENGTH.as_secs_f64().min(every);
        let limit = after_the_second * ((expected / ALPHA).max(1.0).powf(1.0 / (number + Self::PRIOR)) - 1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and every hold has a bound")]
        let looks = (limit / every.max(0.1)).round() as u32;
        looks.saturating_add(1)
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_longest_run_is_not_a_part_of_the_longest() {
        let second = |looks: &str| Runs::of(looks.bytes().map(|look| look == b'x')).second;
        assert_eq!([second("xxxx"), second("xx.xxxx"), second("xxxx.xx."), second("xxx.x.xxx"), second("x.xxx.xx.xxxx")], [0, 2, 2, 3, 3]);
    }
}
