//! Evidence *for* health (DECISION 2.8, 2.9): the odds against "still as bad as the bound". One test martingale without restarts, so that a
//! whole window counts and its sums are all that must be kept.

use super::logmeanexp;

/// The fractions of the bound that are supposed as the true ratio.
const FRACTIONS: [f64; 3] = [1.0 / 16.0, 1.0 / 4.0, 1.0 / 2.0];

/// ln G: the natural logarithm of the odds against "at least `bound` fail", after `failed` of `count`, tempered by a cluster size of at least 1.
/// `bound` lies between 0 and 1, exclusively.
#[must_use]
pub fn log_wellness(failed: f64, count: f64, bound: f64, cluster: f64) -> f64 {
    logmeanexp(&FRACTIONS.map(|fraction| {
        let supposed = bound * fraction;
        (failed * fraction.ln() + (count - failed) * ((-supposed).ln_1p() - (-bound).ln_1p())) / cluster
    }))
}
