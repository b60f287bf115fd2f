//! The proof that requests are fast again after a rollback (DECISION 2.9): the roles are swapped, and half of the slowdown that had fired
//! must be undercut, by the share of slow requests or by the mean of intervals.

use jiff::{SignedDuration, Timestamp};

use crate::baseline::SlowRequests;
use crate::evidence::interval::{Grouping, Look};
use crate::histogram::Durations;
use crate::statistics::dispersion::Counts;
use crate::statistics::logaddexp;
use crate::statistics::wellness::log_wellness;
use crate::timing::Timing;
use crate::verdict::Numbers;

/// The cluster size of bad intervals as long as nothing is known: a minute of them.
const BAD_STRETCH: f64 = 60.0;

/// If at least this share of intervals is still slow, it isn't over.
const STILL: f64 = 0.5;

/// What is looked for.
#[derive(Clone, Debug)]
pub(crate) struct LatencyProof {
    grouping: Grouping<Timing>,
    slow: Option<StillSlow>,
    /// From this mean on an interval is still slow, in seconds.
    halfway: f64,
    intervals: Counts,
    cluster: f64,
    requests: f64,
}

/// Slow requests since the target was rolled out.
#[derive(Clone, Copy, Debug)]
struct StillSlow {
    slow: SlowRequests,
    /// The share that must be undercut.
    share: f64,
    counts: Counts,
}

impl LatencyProof {
    /// What had fired with the numbers of `trigger` must be over, on what comes after `since`. `known` is what the baseline called slow, and
    /// the cluster size of its bad intervals.
    pub(crate) fn new(every: SignedDuration, known: Option<(Option<SlowRequests>, f64)>, trigger: &Numbers, since: Timestamp) -> Self {
        let now = trigger.now.unwrap_or(trigger.severity).max(trigger.before);
        let fired = if trigger.count > 0.0 { trigger.failed / trigger.count } else { 0.0 };
        let still_slow = |slow: SlowRequests| {
            let share = f64::midpoint(slow.share, fired);
            (fired >= 2.0 * slow.share && share < 1.0).then_some(StillSlow { slow, share, counts: Counts::default() })
        };
        Self {
            grouping: Grouping::new(every, since),
            slow: known.and_then(|(slow, _)| slow).filter(|_| fired > 0.0).and_then(still_slow),
            halfway: f64::midpoint(trigger.before, now),
            intervals: Counts::default(),
            cluster: known.map_or(BAD_STRETCH / every.as_secs_f64().max(0.1), |(_, cluster)| cluster).max(1.0),
            requests: 0.0,
        }
    }

    /// Takes in what was counted.
    pub(crate) fn take(&mut self, durations: &[Durations]) {
        let Self { grouping, slow, intervals, requests, halfway, .. } = self;
        grouping.take(Look::own(durations), |interval| {
            let timing = interval.counts;
            *requests += timing.requests;
            if let Some(slow) = slow {
                slow.counts += &Counts { count: timing.requests, failed: timing.certainly_slower_than(slow.slow.bound) };
            }
            if let Some(mean) = timing.mean() {
                *intervals += &Counts { count: 1.0, failed: f64::from(u8::from(mean >= *halfway)) };
            }
        });
    }

    /// The requests so far, and ln G: the odds against "still at least half as much slower".
    pub(crate) fn evidence(&self) -> (f64, f64) {
        let intervals = log_wellness(self.intervals.failed, self.intervals.count, STILL, self.cluster);
        let both = self.slow.map_or(intervals, |still| {
            let slow = log_wellness(still.counts.failed, still.counts.count, still.share, still.slow.cluster);
            logaddexp(slow, intervals) - 2.0_f64.ln()
        });
        (self.requests, both)
    }
}
