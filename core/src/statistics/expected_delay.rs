//! How long it takes from an onset to a decision at a given traffic (DECISION 2.0): the number that tells an operator beforehand whether a
//! class can keep its promise. An estimate of the typical case, not a bound; the odds themselves are weighed elsewhere.

use super::kl_upper::divergence;
use super::mixture::{FIRST_WEIGHT, ONE_SAMPLE};

/// One class on one signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    /// How long nothing is weighed after the start of a deployment, in seconds.
    pub grace: f64,
    /// How long it must persist, in seconds.
    pub hold: f64,
    /// Requests (or rounds, or whatever is counted) a second.
    pub rate: f64,
    /// The share of them that is supposed to fail from the onset on: at least that from which on the impact is there. 0 to 1.
    pub severity: f64,
    /// The share that is tolerated, the null boundary q. 0 to 1, exclusively.
    pub tolerance: f64,
    /// The cluster size C, at least 1.
    pub cluster: f64,
    /// What the evidence has to reach, as a natural logarithm: ln(1/alpha).
    pub log_threshold: f64,
}

impl Expectation {
    /// How many requests must be seen after the onset before the odds are high enough: C * (threshold + price) / kl(severity, tolerance).
    /// The price of looking at any time and of not knowing the effect is ln 2 for the first start and at most ln 8 for the tilts; at an
    /// alpha of 1e-4 the sum is the 12 nats of DECISION 2.0. Infinite when no more fails than is tolerated.
    #[must_use]
    pub fn requests(&self) -> f64 {
        let tilts: f64 = ONE_SAMPLE.iter().map(|_| 1.0).sum();
        let price = (tilts / FIRST_WEIGHT).ln();
        let gain = if self.severity > self.tolerance { divergence(self.severity, self.tolerance) } else { 0.0 };
        if gain > 0.0 { self.cluster * (self.log_threshold + price) / gain } else { f64::INFINITY }
    }

    /// Seconds from an onset at the start of the deployment to the decision: grace + max(hold, requests / rate). Take a grace of zero for an
    /// onset later on. `None` when it would take for ever: without traffic, or when no more fails than is tolerated.
    #[must_use]
    pub fn delay(&self) -> Option<f64> {
        let seen = self.requests() / self.rate;
        (self.rate > 0.0 && seen.is_finite()).then(|| self.grace + self.hold.max(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1e-4.
    const THRESHOLD: f64 = 9.210_340_371_976_184;

    fn of(severity: f64, tolerance: f64) -> Expectation {
        Expectation { grace: 60.0, hold: 120.0, rate: 1.0, severity, tolerance, cluster: 1.0, log_threshold: THRESHOLD }
    }

    #[test]
    fn the_table_of_needed_requests_holds() {
        for (severity, needed) in [
            (1.0, [Some(18.0), Some(6.0), Some(5.0), Some(4.0), Some(3.0)]),
            (0.6, [None, Some(20.0), Some(11.0), Some(8.0), Some(7.0)]),
            (0.2, [None, None, Some(86.0), Some(41.0), Some(32.0)]),
            (0.1, [None, None, Some(581.0), Some(143.0), Some(97.0)]),
            (0.05, [None, None, None, Some(737.0), Some(369.0)]),
        ] {
            for (tolerance, needed) in [0.5, 0.125, 0.05, 0.02, 0.0125].into_iter().zip(needed) {
                let Some(needed) = needed else { continue };
                let requests = of(severity, tolerance).requests().ceil();
                // The table is in whole nats.
                assert!((requests - needed).abs() <= 1.0, "{severity} against {tolerance}: {requests}, not {needed}");
            }
        }
    }

    #[test]
    fn with_much_traffic_the_hold_is_all_that_is_waited_for() {
        assert!((of(0.5, 0.125).delay().unwrap() - 180.0).abs() < 1e-9);
    }

    #[test]
    fn with_little_traffic_it_takes_as_long_as_the_requests_take_to_come() {
        let quiet = Expectation { rate: 0.01, ..of(0.5, 0.125) };
        let clustered = Expectation { cluster: 3.0, ..quiet };
        assert!((quiet.delay().unwrap() - 60.0 - quiet.requests() * 100.0).abs() < 1e-6);
        assert!((clustered.delay().unwrap() - 60.0 - quiet.requests() * 300.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_tolerated_and_what_nobody_asks_for_is_never_decided() {
        assert_eq!(of(0.5, 0.5).delay(), None);
        assert_eq!(of(0.05, 0.125).delay(), None);
        assert_eq!(Expectation { rate: 0.0, ..of(0.5, 0.125) }.delay(), None);
    }

    #[test]
    fn a_stricter_alpha_costs_a_fifth_more_requests() {
        let strict = Expectation { log_threshold: THRESHOLD + 10.0_f64.ln(), ..of(0.6, 0.125) };
        let more = strict.requests() / of(0.6, 0.125).requests();
        assert!((1.15..1.25).contains(&more), "{more}");
    }
}
