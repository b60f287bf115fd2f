//! The test martingale that carries all evidence (DECISION 2.0): a mixture over how bad it became (tilts) and since when (restarts).
//!
//! Each tilt is a log odds ratio. While errors happen with a probability of at most the null boundary, each tilt's running product is a
//! supermartingale, and so is their mean and its mean over start times as long as the restart weights sum to at most 1. By Ville's inequality
//! (1939) the odds then ever reach 1 / alpha with a probability of at most alpha, however often they are looked at (Howard et al. 2021;
//! Ramdas et al. 2023). Dividing by a cluster size keeps this true for failures that come in dependent clusters of at most that size.

use super::{logaddexp, logmeanexp};

/// Log odds ratios of one sample against a boundary.
pub const ONE_SAMPLE: [f64; 8] = [0.7, 1.1, 1.6, 2.2, 3.0, 4.0, 5.5, 7.5];

/// Log odds ratios of two samples against each other.
pub const TWO_SAMPLE: [f64; 9] = [0.35, 0.7, 1.1, 1.6, 2.2, 3.0, 4.0, 5.5, 7.5];

/// The weight of the first start; the other half is spread over the window.
pub const FIRST_WEIGHT: f64 = 0.5;

/// The evidence so far. `Mark` is what the caller wants to remember of the moment at which the present evidence began.
#[derive(Clone, Debug)]
pub struct Mixture<Mark, const TILTS: usize> {
    /// Of many mixtures there is one list.
    tilts: &'static [f64; TILTS],
    evidence: [f64; TILTS],
    /// Where each tilt was restarted last; nothing before the first step.
    onset: Option<[Mark; TILTS]>,
    /// Of all tilts together. It is asked for more often than it changes.
    log_evidence: f64,
}

impl<Mark: Copy, const TILTS: usize> Mixture<Mark, TILTS> {
    /// No evidence yet, over these tilts.
    #[must_use]
    pub fn new(tilts: &'static [f64; TILTS]) -> Self {
        Self { tilts, evidence: [f64::NEG_INFINITY; TILTS], onset: None, log_evidence: f64::NEG_INFINITY }
    }

    /// One step: restarts with `weight` (0 to 1; all of them sum to at most 1) at `mark`, then adds what `increment` makes of each tilt.
    pub fn step(&mut self, weight: f64, mark: Mark, increment: impl Fn(f64) -> f64) {
        let log_weight = weight.ln();
        let onsets = self.onset.get_or_insert([mark; TILTS]);
        for ((tilt, evidence), onset) in self.tilts.iter().zip(&mut self.evidence).zip(onsets) {
            if log_weight > *evidence {
                *onset = mark;
            }
            *evidence = logaddexp(*evidence, log_weight) + increment(*tilt);
        }
        self.log_evidence = logmeanexp(&self.evidence);
    }

    /// The natural logarithm of the odds against "nothing changed"; minus infinity before the first step.
    #[must_use]
    pub fn log_evidence(&self) -> f64 {
        self.log_evidence
    }

    /// The mark of the most likely onset: where the tilt with most evidence was restarted last.
    #[must_use]
    pub fn onset(&self) -> Option<Mark> {
        let heaviest = self.evidence.iter().zip(self.onset.as_ref()?).max_by(|(a, _), (b, _)| a.total_cmp(b));
        heaviest.map(|(_, onset)| *onset)
    }
}

/// What `failed` of `count` adds to a tilt's evidence against "at most `boundary` fail", tempered by a cluster size of at least 1.
#[must_use]
pub fn one_sample(tilt: f64, failed: f64, count: f64, boundary: f64, cluster: f64) -> f64 {
    (tilt * failed - count * (boundary * tilt.exp_m1()).ln_1p()) / cluster
}

/// Requests and failures of the new version and of the old one in the same interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Requests to the new version.
    pub new_count: f64,
    /// Failed ones of them.
    pub new_failed: f64,
    /// Requests to the old version.
    pub old_count: f64,
    /// Failed ones of them.
    pub old_failed: f64,
}

/// What a pair adds to a tilt's evidence against "the new version fails at most `rho` times as often", whatever both do over time.
#[must_use]
pub fn two_sample(tilt: f64, pair: Pair, rho: f64, cluster: f64) -> f64 {
    let failed = pair.new_failed + pair.old_failed;
    if failed <= 0.0 {
        return 0.0;
    }
    let share = rho * pair.new_count / (rho * pair.new_count + pair.old_count);
    one_sample(tilt, pair.new_failed, failed, share, cluster)
}
