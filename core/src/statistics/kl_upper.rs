//! An upper limit on a ratio that was observed: the Chernoff bound, inverted.

/// Halvings of the interval that is searched: more than the 52 bits of an `f64` between 0 and 1 hold, so that it ends by itself.
const HALVINGS: usize = 200;

/// The largest ratio u with which `failed` of `count` is still compatible: `count * kl(failed / count, u) = ln(1 / level)`.
///
/// If the true ratio is above u, then so few failures (or fewer) have a probability of at most `level` (Chernoff 1952, in the form with the
/// Kullback-Leibler divergence). Both counts may be fractional (tempered by a cluster size). 1 when nothing was observed or everything failed.
#[must_use]
pub fn kl_upper(failed: f64, count: f64, level: f64) -> f64 {
    if count <= 0.0 || failed >= count {
        return 1.0;
    }
    if failed <= 0.0 {
        return -(level.ln() / count).exp_m1();
    }
    let observed = failed / count;
    let target = -level.ln() / count;
    let (mut low, mut high) = (observed, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if divergence(observed, middle) < target { low = middle } else { high = middle }
    }
    high
}

/// The Kullback-Leibler divergence between two coins. `p` is greater than 0 and at most 1, `q` between 0 and 1, exclusively.
pub(super) fn divergence(p: f64, q: f64) -> f64 {
    let fails = p * (p / q).ln();
    if p >= 1.0 { fails } else { fails + (1.0 - p) * ((-p).ln_1p() - (-q).ln_1p()) }
}

#[cfg(test)]
mod tests {
    use super::kl_upper;

    #[test]
    fn nothing_observed_says_nothing() {
        assert!((kl_upper(0.0, 0.0, 1e-4) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn everything_failed_means_that_everything_may_fail() {
        assert!((kl_upper(7.0, 7.0, 1e-4) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn more_requests_make_it_tighter_and_never_lower_than_what_was_observed() {
        let limits: Vec<f64> = [100.0, 1_000.0, 10_000.0, 1e9].iter().map(|&count| kl_upper(count / 100.0, count, 1e-4)).collect();
        assert!(limits.is_sorted_by(|a, b| a > b), "{limits:?}");
        assert!(limits[3] > 0.01);
    }
}
