//! What a Prometheus server has of a deployment, and what it answers: the counters of each pod, `rate` and `irate` as they are computed there
//! (extrapolated to the ends of the range; `promql/functions.go`, function `extrapolatedRate`, Prometheus 3).

/// The counters of a service's pods.
#[derive(Default)]
pub struct Metrics {
    pods: Vec<Pod>,
    /// The server doesn't answer from, until.
    pub away: Option<(f64, f64)>,
}

struct Pod {
    name: &'static str,
    new: bool,
    samples: Vec<Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: f64,
    total: f64,
    failed: f64,
}

/// Of which pods.
#[derive(Clone, Copy, PartialEq)]
pub enum Pods {
    /// All of the service.
    All,
    /// Those of the new version, where it has any of its own.
    New,
}

impl Metrics {
    /// Takes in a scrape of a pod.
    pub fn take(&mut self, name: &'static str, new: bool, at: f64, total: f64, failed: f64) {
        let sample = Sample { at, total, failed };
        match self.pods.iter_mut().find(|pod| pod.name == name) {
            Some(pod) => pod.samples.push(sample),
            None => self.pods.push(Pod { name, new, samples: vec![sample] }),
        }
    }

    /// `sum(rate(failed[range])) / sum(rate(total[range]))`. `None` where the server gives no answer; NaN where it does.
    pub fn ratio(&self, pods: Pods, now: f64, range: f64) -> Option<f64> {
        self.quotient(pods, now, range, |samples| {
            let of = |value: fn(&Sample) -> f64| rate(samples, value, now, range);
            Some((of(|sample| sample.total)?, of(|sample| sample.failed)?))
        })
    }

    /// The same with `irate`: from the two newest samples in the range.
    pub fn instant_ratio(&self, pods: Pods, now: f64, range: f64) -> Option<f64> {
        self.quotient(pods, now, range, |samples| {
            let [.., before, last] = samples else { return None };
            let seconds = last.at - before.at;
            Some(((last.total - before.total) / seconds, (last.failed - before.failed) / seconds))
        })
    }

    fn quotient(&self, pods: Pods, now: f64, range: f64, rates: impl Fn(&[Sample]) -> Option<(f64, f64)>) -> Option<f64> {
        if self.away.is_some_and(|(from, until)| (from..until).contains(&now)) {
            return None;
        }
        let any_new = self.pods.iter().any(|pod| pod.new);
        let asked = self.pods.iter().filter(|pod| pods == Pods::All || pod.new || !any_new);
        let sums = asked.filter_map(|pod| rates(pod.range(now, range)));
        let (total, failed) = sums.reduce(|(total, failed), (more, more_failed)| (total + more, failed + more_failed))?;
        Some(failed / total)
    }

    /// What was counted in each interval of the new pods after `since`: when it ended, requests and failures. Samples that are no numbers
    /// are left out.
    pub fn intervals(&self, since: f64) -> Vec<(f64, f64, f64)> {
        let any_new = self.pods.iter().any(|pod| pod.new);
        let mut intervals: Vec<(f64, f64, f64)> = Vec::new();
        for pod in self.pods.iter().filter(|pod| pod.new || !any_new) {
            let numbers: Vec<&Sample> = pod.samples.iter().filter(|sample| sample.total.is_finite()).collect();
            for pair in numbers.windows(2).filter(|pair| pair[0].at >= since) {
                intervals.push((pair[1].at, pair[1].total - pair[0].total, pair[1].failed - pair[0].failed));
            }
        }
        intervals
    }
}

impl Pod {
    /// The samples of a range, which is open on its left.
    fn range(&self, now: f64, range: f64) -> &[Sample] {
        let from = self.samples.partition_point(|sample| sample.at <= now - range);
        let until = self.samples.partition_point(|sample| sample.at <= now);
        &self.samples[from..until]
    }
}

fn rate(samples: &[Sample], value: fn(&Sample) -> f64, now: f64, range: f64) -> Option<f64> {
    let [first, .., last] = samples else { return None };
    #[expect(clippy::cast_precision_loss, reason = "a number of samples")]
    let steps = (samples.len() - 1) as f64;
    let increase = value(last) - value(first);
    let spanned = last.at - first.at;
    let usual = spanned / steps;
    let mut to_start = first.at - (now - range);
    if to_start >= usual * 1.1 {
        to_start = usual / 2.0;
    }
    if increase > 0.0 && value(first) >= 0.0 {
        to_start = to_start.min(spanned * value(first) / increase);
    }
    let mut to_end = now - last.at;
    if to_end >= usual * 1.1 {
        to_end = usual / 2.0;
    }
    Some(increase * (spanned + to_start + to_end) / spanned / range)
}
