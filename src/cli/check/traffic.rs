//! Whether the traffic that there is suffices: at a few requests an hour no evidence is found in time, however bad a release is.

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::baseline::Baseline;
use rollbackd_core::evidence::Evidence;
use rollbackd_core::evidence::foresight::{Foresight, foresee};
use rollbackd_core::observation::{Reading, Sample, Scrape};
use rollbackd_core::service::{Role, Service, SignalKind, SignalName};
use rollbackd_core::severity::Response;
use rollbackd_core::words;

use crate::signal::Signal;

/// So much of the past is looked at: one piece of a history.
const LOOKED_AT: SignedDuration = SignedDuration::from_hours(1);

/// What the traffic of a signal allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// How much there is.
    pub words: String,
    /// Which classes it is too little for.
    pub warnings: Vec<String>,
}

/// Looks at the last hour of counters whose source keeps a past. `None` for other signals, and where the past can't be had: then that is
/// told at the next deployment.
pub async fn of(service: &Service, name: &SignalName, signal: &dyn Signal, now: Timestamp) -> Option<Traffic> {
    let policy = service.signals.get(name)?;
    if policy.kind != SignalKind::Errors || policy.role != Role::Own || !policy.has_history {
        return None;
    }
    let from = now.checked_sub(LOOKED_AT).ok()?;
    match signal.history(from, now).await {
        Reading::Scrape(history) => judged(service, name, &history, now),
        Reading::Missing(_) | Reading::Probe(_) | Reading::Histograms(_) | Reading::Answer(_) => None,
    }
}

fn judged(service: &Service, name: &SignalName, history: &Scrape, now: Timestamp) -> Option<Traffic> {
    let Baseline::Errors(baseline) = Evidence::baseline_of_history(service, name, history, now, &[]) else { return None };
    let samples = || history.total.iter().flat_map(|series| &series.samples).map(|Sample { at, .. }| *at);
    let seen = samples().max()?.duration_since(samples().min()?);
    let rate = baseline.requests / seen.as_secs_f64().max(policy_step(service, name).as_secs_f64());
    let warnings = foresee(service, &baseline, rate).iter().filter_map(|foresight| warning(service, foresight, rate)).collect();
    Some(Traffic { words: format!("{} in the last {}", per_second(rate), words::duration(seen)), warnings })
}

fn policy_step(service: &Service, name: &SignalName) -> SignedDuration {
    service.signals.get(name).map_or(SignedDuration::from_secs(1), |policy| policy.every).max(SignedDuration::from_secs(1))
}

/// A class that can never be decided in time at this traffic. What is promised at once is as fast as it can be, and no promise to compare
/// with; there it is the window that ends.
fn warning(service: &Service, foresight: &Foresight, rate: f64) -> Option<String> {
    let row = service.matrix.row(foresight.impact);
    let promised = row.within.filter(|within| within.is_positive() && row.response == Response::RollBack);
    let limit = promised.unwrap_or(service.window);
    let (key, traffic) = (foresight.impact.key(), per_second(rate));
    let ends = match promised {
        Some(within) => format!("it is to be over within {}", words::duration(within)),
        None => format!("the window ends after {}", words::duration(limit)),
    };
    let remedy = "add synthetic requests or probes, or lengthen that time";
    match foresight.delay {
        Some(delay) if delay <= limit => None,
        Some(delay) => {
            let delay = words::duration(delay);
            Some(format!("at {traffic} `{key}` is decided about {delay} after a bad release, and {ends}: {remedy}"))
        }
        None => Some(format!("at {traffic}, and after the last hour, `{key}` can never be decided: {remedy}")),
    }
}

/// `10 requests a second`, `3 requests an hour`.
fn per_second(rate: f64) -> String {
    let (number, unit) = if rate >= 1.0 {
        (rate, "a second")
    } else if rate * 60.0 >= 1.0 {
        (rate * 60.0, "a minute")
    } else {
        (rate * 3600.0, "an hour")
    };
    let digits = usize::from(number < 10.0 && (number - number.round()).abs() > 0.05);
    format!("{number:.digits$} requests {unit}")
}

#[cfg(test)]
mod tests {
    use rollbackd_core::observation::Series;

    use super::*;
    use crate::config::{Environment, parse};

    const CONFIGURATION: &str = include_str!("../../../config/examples/kubernetes.toml");

    /// Samples every 15 seconds of a service that has so many requests a second, of which one in a hundred fails.
    fn told(rate: f64) -> Traffic {
        let config = parse(CONFIGURATION, "x.toml", &Environment::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
        let service = &config.services.values().next().expect("there is one").policy;
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).expect("a time in range");
        let series = |id: &str, share: f64| {
            let sample = |step: i32| Sample { at: at(15 * i64::from(step)), value: (f64::from(step) * 15.0 * rate * share).floor() };
            let samples = (0..=240).map(sample).collect();
            Series { id: id.to_owned(), target: "a".to_owned(), process_started: None, route: None, samples }
        };
        let history = Scrape { total: vec![series("all", 1.0)], failed: vec![series("5xx", 0.01)] };
        judged(service, &SignalName("errors".to_owned()), &history, at(3600)).expect("there is traffic")
    }

    #[test]
    fn a_busy_service_has_traffic_enough() {
        assert_eq!(told(10.0), Traffic { words: "10 requests a second in the last 1h".to_owned(), warnings: Vec::new() });
    }

    #[test]
    fn at_two_requests_a_minute_a_promise_of_fifteen_minutes_is_told_to_be_too_short() {
        let told = told(1.0 / 30.0);
        let ratio = told.warnings.iter().find(|warning| warning.contains("`error_ratio`")).unwrap_or_else(|| panic!("{told:?}"));
        assert!(ratio.starts_with("at 2 requests a minute `error_ratio` is decided about"), "{ratio}");
        assert!(ratio.ends_with("and it is to be over within 15m: add synthetic requests or probes, or lengthen that time"), "{ratio}");
    }

    #[test]
    fn without_traffic_no_class_can_be_decided() {
        let told = told(1.0 / 3600.0);
        assert_eq!(told.warnings.iter().filter(|warning| warning.contains("can never be decided")).count(), 3, "{told:?}");
    }

    #[test]
    fn traffic_is_said_in_a_unit_that_fits() {
        for (rate, expected) in [
            (150.0, "150 requests a second"),
            (1.5, "1.5 requests a second"),
            (0.1, "6 requests a minute"),
            (0.001, "3.6 requests an hour"),
        ] {
            assert_eq!(per_second(rate), expected);
        }
    }
}
