//! The arithmetic of evidence, all of it in natural logarithms ("nats"). Plain numbers in and out: no signals, no time, no allocation.

pub mod kl_upper;
pub mod mixture;
pub mod dispersion;
pub mod wellness;
pub mod expected_delay;

/// ln(exp(a) + exp(b)) without overflow; minus infinity stands for nothing.
#[must_use]
pub fn logaddexp(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if large == f64::NEG_INFINITY { large } else { large + (small - large).exp().ln_1p() }
}

/// The logarithm of the mean of exp(value) over all values; minus infinity stands for nothing.
#[must_use]
pub fn logmeanexp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    let sum: f64 = values.iter().map(|value| (value - largest).exp()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a handful of values")]
    let count = values.len() as f64;
    largest + sum.ln() - count.ln()
}

#[cfg(test)]
mod tests {
    use super::{logaddexp, logmeanexp};

    #[test]
    fn nothing_added_to_something_leaves_it() {
        assert_eq!(logaddexp(f64::NEG_INFINITY, -3.5).to_bits(), (-3.5_f64).to_bits());
        assert_eq!(logaddexp(f64::NEG_INFINITY, f64::NEG_INFINITY).to_bits(), f64::NEG_INFINITY.to_bits());
        assert_eq!(logmeanexp(&[f64::NEG_INFINITY; 8]).to_bits(), f64::NEG_INFINITY.to_bits());
    }

    #[test]
    fn large_logarithms_do_not_overflow() {
        assert!((logaddexp(5_000.0, 5_000.0) - 5_000.0 - 2.0_f64.ln()).abs() < 1e-9);
        assert!((logmeanexp(&[5_000.0, 5_000.0]) - 5_000.0).abs() < 1e-9);
    }
}
