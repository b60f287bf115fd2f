//! What can be said before anything is deployed: how long each class of a counter pair would take at the traffic that there is.

use jiff::SignedDuration;

use super::lens::{Class, RatioLens, Restarts};
use crate::baseline::ErrorsBaseline;
use crate::service::Service;
use crate::severity::Impact;

/// What to expect of one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Foresight {
    /// The row of the matrix.
    pub impact: Impact,
    /// From the start of a deployment that is as bad as the row says from then on, to the decision. `None`: it is never decided, for want of
    /// traffic or because the history is too bad or too short.
    pub delay: Option<SignedDuration>,
}

/// What to expect of each class of request counters, worst first: after this history, at so many requests a second (0 or more). A decision
/// that comes after the window still counts; who asks compares it with what was promised.
#[must_use]
pub fn foresee(service: &Service, baseline: &ErrorsBaseline, rate: f64) -> Vec<Foresight> {
    let restarts = Restarts::new(service.window, baseline.span.every);
    let log_threshold = -service.decision.alpha.ln();
    Class::of_errors(service)
        .into_iter()
        .map(|class| {
            let lens = RatioLens::of_errors(class, baseline, restarts);
            let delay = lens.foreseen_delay(rate, log_threshold).map(|delay| delay.saturating_add(service.decision.grace));
            Foresight { impact: lens.impact(), delay }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::baseline::{Baseline, Span};
    use crate::decide::world::policy;
    use crate::evidence::Evidence;
    use crate::observation::{Sample, Scrape, Series};
    use crate::service::{Role, SignalKind, SignalName, SignalPolicy};

    /// An hour at so many requests per 15 seconds of which one in a hundred fails.
    fn foreseen(requests: f64) -> Vec<Foresight> {
        let errors = SignalName("errors".to_owned());
        let every = SignedDuration::from_secs(15);
        let signal = SignalPolicy { kind: SignalKind::Errors, role: Role::Own, every, has_history: true, source: "main".to_owned() };
        let service = Service { signals: BTreeMap::from([(errors.clone(), signal)]), ..policy("checkout") };
        let series = |share: f64| Series {
            id: share.to_string(),
            target: "a".to_owned(),
            process_started: None,
            route: None,
            samples: (0..=240)
                .map(|step| Sample {
                    at: Timestamp::from_second(15 * i64::from(step)).expect("a time in range"),
                    value: (f64::from(step) * requests * share).floor(),
                })
                .collect(),
        };
        let history = Scrape { total: vec![series(1.0)], failed: vec![series(0.01)] };
        let now = Timestamp::from_second(3600).expect("a time in range");
        match Evidence::baseline_of_history(&service, &errors, &history, now, &[]) {
            Baseline::Errors(baseline) => {
                assert_eq!(baseline.span, Span { from: Timestamp::UNIX_EPOCH, to: now, ..baseline.span.clone() });
                foresee(&service, &baseline, requests / 15.0)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_busy_service_waits_for_the_grace_and_the_hold() {
        let expected = [(Impact::CompleteOutage, 60), (Impact::ErrorRatio, 120), (Impact::FeatureBroken, 120)]
            .map(|(impact, hold)| Foresight { impact, delay: Some(SignedDuration::from_secs(60 + hold)) });
        assert_eq!(foreseen(1_500.0), expected);
    }

    #[test]
    fn a_quiet_service_takes_longer_or_is_never_decided() {
        let quiet = foreseen(0.75);
        let ratio = quiet[1].delay.expect("an hour of 180 requests is enough to know something");
        assert!(ratio > SignedDuration::from_mins(5) && ratio < SignedDuration::from_hours(2), "{ratio:?}");
        assert!(foreseen(0.01).iter().all(|foresight| foresight.delay.is_none()));
    }
}
