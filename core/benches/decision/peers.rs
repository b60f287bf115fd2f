//! The rules of the field as they ship, on the same deployments: what each tool asks of Prometheus, how often, and when it gives up. Written
//! from their documentation; what is not set there is the default. Each watches for the same half hour.

use crate::metrics::{Metrics, Pods};
use crate::trial::WINDOW;

/// A rule that looks at metrics now and then.
pub trait Rule: Sync {
    /// Its name in the table.
    fn name(&self) -> &'static str;
    /// When it rolls back, in seconds from the deployment on.
    fn fires(&self, metrics: &Metrics) -> Option<f64>;
}

/// All of them.
pub fn all() -> Vec<Box<dyn Rule>> {
    vec![
        Box::new(ArgoRollouts { interval: 300.0, name: "Argo Rollouts" }),
        Box::new(ArgoRollouts { interval: 60.0, name: "Argo Rollouts, every minute" }),
        Box::new(Flagger),
        Box::new(Alert { range: 300.0, name: "Alert, 5 % of 5m for 2m" }),
        Box::new(Alert { range: 60.0, name: "Alert, 5 % of 1m for 2m" }),
        Box::new(BurnRate),
        Box::new(Kayenta),
    ]
}

/// The moments at which a tool looks.
fn looks(every: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(every), move |second| Some(second + every)).take_while(|second| *second <= WINDOW)
}

/// Argo Rollouts' background analysis, as its documentation shows it: `irate` over 5m, success at 95 %, `interval: 5m`, `failureLimit: 3`. The
/// analysis fails when there are more failed measurements than that; more than four errors in a row (`consecutiveErrorLimit`) end it too.
/// NaN is no success. <https://argo-rollouts.readthedocs.io/en/stable/features/analysis/>
struct ArgoRollouts {
    interval: f64,
    name: &'static str,
}

impl Rule for ArgoRollouts {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fires(&self, metrics: &Metrics) -> Option<f64> {
        let (mut failed, mut errors) = (0, 0);
        looks(self.interval).find(|&now| {
            match metrics.instant_ratio(Pods::New, now, 300.0) {
                None => errors += 1,
                Some(ratio) => {
                    errors = 0;
                    failed += i32::from(1.0 - ratio < 0.95 || ratio.is_nan());
                }
            }
            failed > 3 || errors > 4
        })
    }
}

/// Flagger's built-in success rate: `rate` over 1m, at least 99 %, `interval: 1m`, `threshold: 5` failed checks in all. No value, which is what
/// it takes NaN for, is a failed check. <https://docs.flagger.app/usage/metrics>, <https://docs.flagger.app/usage/how-it-works>
struct Flagger;

impl Rule for Flagger {
    fn name(&self) -> &'static str {
        "Flagger"
    }

    fn fires(&self, metrics: &Metrics) -> Option<f64> {
        let mut failed = 0;
        looks(60.0).find(|&now| {
            let well = metrics.ratio(Pods::New, now, 60.0).is_some_and(|ratio| 1.0 - ratio >= 0.99);
            failed += i32::from(!well);
            failed >= 5
        })
    }
}

/// An alert of Prometheus that somebody rolls back on: `ratio > 0.05`, `for: 2m`, evaluated every 15 s as in the configuration file that
/// ships. <https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/>
struct Alert {
    range: f64,
    name: &'static str,
}

impl Rule for Alert {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fires(&self, metrics: &Metrics) -> Option<f64> {
        let mut since = None;
        looks(15.0).find(|&now| {
            let active = metrics.ratio(Pods::All, now, self.range).is_some_and(|ratio| ratio > 0.05);
            since = active.then(|| since.unwrap_or(now));
            since.is_some_and(|since| now - since >= 120.0)
        })
    }
}

/// The pages of Google's Site Reliability Workbook, chapter 5, for an objective of 99.9 %: 14.4 times the budget over 1h and 5m, or 6 times over
/// 6h and 30m. <https://sre.google/workbook/alerting-on-slos/>
struct BurnRate;

impl Rule for BurnRate {
    fn name(&self) -> &'static str {
        "Burn rate, SLO 99.9 %"
    }

    fn fires(&self, metrics: &Metrics) -> Option<f64> {
        const BUDGET: f64 = 0.001;
        const HOUR: f64 = 3600.0;
        looks(15.0).find(|&now| {
            let burns = |range: f64, factor: f64| metrics.ratio(Pods::All, now, range).is_some_and(|ratio| ratio > factor * BUDGET);
            (burns(300.0, 14.4) && burns(HOUR, 14.4)) || (burns(1800.0, 6.0) && burns(6.0 * HOUR, 6.0))
        })
    }
}

/// Kayenta's judge (`NetflixACAJudge`) every minute: the error ratio of each minute since the deployment against those of the hour before, outliers
/// beyond three interquartile ranges left out, a Mann-Whitney test at 98 % whose interval must lie above a quarter of the estimated difference. The
/// metric is the only one, so that the score is 0 and the canary fails. <https://github.com/spinnaker/kayenta>, `NetflixACAJudge.scala`
struct Kayenta;

impl Kayenta {
    const TOLERANCE: f64 = 0.25;
    /// The normal quantile of 99 %.
    const Z: f64 = 2.326_347_874_040_841;
    /// With fewer points the interval has no lower end.
    const LEAST: usize = 3;

    fn minutes(metrics: &Metrics, pods: Pods, from: f64, until: f64) -> Vec<f64> {
        let steps = std::iter::successors(Some(from + 60.0), |second| Some(second + 60.0)).take_while(|second| *second <= until);
        let values: Vec<f64> = steps.filter_map(|now| metrics.ratio(pods, now, 60.0)).filter(|ratio| !ratio.is_nan()).collect();
        without_outliers(values)
    }

    /// The lower end of the interval of the difference, and its estimate (Hodges and Lehmann 1963; Hollander and Wolfe 1973).
    fn difference(new: &[f64], old: &[f64]) -> Option<(f64, f64)> {
        let mut differences: Vec<f64> = new.iter().flat_map(|new| old.iter().map(move |old| new - old)).collect();
        differences.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss, reason = "numbers of minutes")]
        let (new, old) = (new.len() as f64, old.len() as f64);
        let rank = (new * old / 2.0 - Self::Z * (new * old * (new + old + 1.0) / 12.0).sqrt()).floor();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index, at least 0")]
        let lower = differences.get(rank.max(0.0) as usize).filter(|_| rank >= 0.0)?;
        Some((*lower, differences[differences.len() / 2]))
    }
}

impl Rule for Kayenta {
    fn name(&self) -> &'static str {
        "Kayenta's judge, every minute"
    }

    fn fires(&self, metrics: &Metrics) -> Option<f64> {
        let old = Self::minutes(metrics, Pods::All, -3600.0, 0.0);
        looks(60.0).find(|&now| {
            let new = Self::minutes(metrics, Pods::New, 0.0, now);
            let known = new.len() >= Self::LEAST && old.len() >= Self::LEAST;
            known && Self::difference(&new, &old).is_some_and(|(lower, estimate)| lower > Self::TOLERANCE * estimate.abs())
        })
    }
}

/// Without what lies more than three interquartile ranges outside the quartiles.
fn without_outliers(values: Vec<f64>) -> Vec<f64> {
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    let (Some(first), Some(third)) = (sorted.get(sorted.len() / 4), sorted.get(sorted.len() * 3 / 4)) else { return values };
    let range = 3.0 * (third - first);
    values.into_iter().filter(|value| (first - range..=third + range).contains(value)).collect()
}
