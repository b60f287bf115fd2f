//! How much failures cluster: the index of dispersion over several block lengths (DECISION 2.2).

/// Requests, or trials, and failures among them in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// How many there were.
    pub count: f64,
    /// How many of them failed; at most `count`.
    pub failed: f64,
}

impl std::ops::AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.count += other.count;
        self.failed += other.failed;
    }
}

/// Block lengths, in intervals.
pub const SCALES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// What is supposed of failures of requests before anything is known.
pub const PRIOR: f64 = 2.0;

/// How many blocks the prior weighs.
const PRIOR_BLOCKS: f64 = 8.0;

/// phi estimates the mean cluster as a failure sees it; the theorem behind tempering needs the largest one, hence a factor on the excess.
const CLUSTER_FACTOR: f64 = 3.0;

/// Up to this many failures the history can't tell clusters from chance.
const FEW_FAILURES: f64 = 20.0;

/// The index of dispersion phi: the largest over all scales, shrunk to `prior`, at least 1. A history without failures leaves the prior.
#[must_use]
pub fn dispersion(history: &[Counts], prior: f64, scales: &[usize]) -> f64 {
    if history.iter().all(|counts| counts.failed <= 0.0) {
        return prior.max(1.0);
    }
    let ratio = ratio(history);
    scales.iter().map(|&scale| at_scale(history, ratio, prior, scale)).fold(1.0, f64::max)
}

/// The cluster size that evidence from requests is tempered by, at least 1. `per_half_minute`: the usual number of requests in 30 s;
/// failures further apart have separate causes, which keeps services with little traffic fast.
#[must_use]
pub fn cluster(history: &[Counts], per_half_minute: f64) -> f64 {
    let cluster = 1.0 + CLUSTER_FACTOR * (dispersion(history, PRIOR, &SCALES) - 1.0);
    let failed: f64 = history.iter().map(|counts| counts.failed).sum();
    if failed > FEW_FAILURES { cluster } else { cluster.min(per_half_minute.max(1.0)) }
}

/// Half a failure in one request more than there were (Krichevsky and Trofimov 1981), so that a clean history has a variance too.
fn ratio(history: &[Counts]) -> f64 {
    let (count, failed) = history.iter().fold((0.0, 0.0), |(count, failed), one| (count + one.count, failed + one.failed));
    (failed + 0.5) / (count + 1.0)
}

/// A rest that does not fill a block is left out.
fn at_scale(history: &[Counts], ratio: f64, prior: f64, scale: usize) -> f64 {
    let (mut blocks, mut squares, mut variance) = (0.0, 0.0, 0.0);
    for block in history.chunks_exact(scale) {
        let count: f64 = block.iter().map(|counts| counts.count).sum();
        let failed: f64 = block.iter().map(|counts| counts.failed).sum();
        blocks += 1.0;
        squares += (failed - count * ratio).powi(2);
        variance += count * ratio * (1.0 - ratio);
    }
    let weight = f64::min(blocks, variance);
    let observed = if variance > 0.0 { squares / variance } else { 0.0 };
    (weight * observed + prior * PRIOR_BLOCKS) / (weight + PRIOR_BLOCKS)
}

#[cfg(test)]
mod tests {
    use super::{Counts, cluster};

    #[test]
    fn a_service_without_failures_is_tempered_by_the_prior_or_by_half_a_minute_of_requests() {
        let quiet = [Counts { count: 1.5, failed: 0.0 }; 240];
        let busy = [Counts { count: 150.0, failed: 0.0 }; 240];
        assert!((cluster(&quiet, 3.0) - 3.0).abs() < 1e-12);
        assert!((cluster(&busy, 300.0) - 4.0).abs() < 1e-12);
    }

    #[test]
    fn one_burst_among_calm_hours_makes_large_clusters() {
        let mut history = [Counts { count: 150.0, failed: 1.0 }; 240];
        history[100..108].fill(Counts { count: 150.0, failed: 100.0 });
        assert!(cluster(&history, 300.0) > 100.0);
    }
}
