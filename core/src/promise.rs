//! Promises in danger: the `within` of a row of the matrix that can't be kept at this traffic, said beforehand; and a suspicion that is as
//! old as the promise and still not certain. Both are for people: they never roll anything back.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::service::{Service, SignalKind, SignalName};
use crate::severity::{Impact, Response};
use crate::verdict::{Finding, FindingState, Gate, Inconclusive, Measure, Numbers};

/// A suspicion about an impact whose row promises "at once" is told after so long, as is one that others share (DECISION 2.5, `hold_max`).
const AT_ONCE: SignedDuration = SignedDuration::from_mins(15);

/// From these odds on something is suspect: 1 in 20, as a natural logarithm (DECISION 2.5).
const SUSPECT: f64 = 2.995_732_273_553_991;

/// A promise that can't be kept, whatever comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unkept {
    /// The signal whose check would be too late.
    pub signal: SignalName,
    /// The route that it is about, where it is one of several.
    pub route: Option<String>,
    /// The row of the matrix.
    pub impact: Impact,
    /// The level that it is about, and what that is measured in.
    pub level: f64,
    /// What `level` is measured in.
    pub measure: Measure,
    /// From an onset at the start of the deployment to the decision; none without any traffic, which takes for ever.
    pub expected_delay: Option<SignedDuration>,
    /// What the matrix promises.
    pub within: SignedDuration,
    /// The probes that see a service without traffic: none means that adding one would help.
    pub probes: Vec<SignalName>,
}

/// The promises that can't be kept at the traffic since the grace time, in the order of the findings. Ask once that is over: a check that has
/// not begun says nothing. Only rows that roll back and promise a time are meant; "at once" is the business of probes and of the platform.
#[must_use]
pub fn unkept(findings: &[Finding], service: &Service) -> Vec<Unkept> {
    let is_probe = |name: &SignalName| service.signals.get(name).is_some_and(|policy| policy.kind == SignalKind::Probe);
    let probes: Vec<SignalName> = service.signals.keys().filter(|name| is_probe(name)).cloned().collect();
    let unkept = findings.iter().filter(|finding| !is_probe(&finding.signal)).filter_map(|finding| {
        let numbers = finding.numbers.as_ref()?;
        let row = service.matrix.row(finding.impact);
        let within = row.within.filter(|within| row.response == Response::RollBack && !within.is_zero())?;
        let expected_delay = match (&finding.state, numbers.expected_delay) {
            (FindingState::Passing, Some(delay)) => Some(service.decision.grace.saturating_add(delay)),
            (FindingState::Inconclusive(Inconclusive::NoTraffic), delay) => delay.map(|delay| service.decision.grace.saturating_add(delay)),
            _ => return None,
        };
        expected_delay.is_none_or(|delay| delay > within).then(|| Unkept {
            signal: finding.signal.clone(),
            route: numbers.route.clone(),
            impact: finding.impact,
            level: numbers.severity,
            measure: numbers.measure,
            expected_delay,
            within,
            probes: probes.clone(),
        })
    });
    unkept.collect()
}

/// A suspicion that is older than the promise of its row and has not become a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overdue {
    /// The check, with its numbers at that moment.
    pub finding: Finding,
    /// When it began, by the best estimate.
    pub onset: Timestamp,
    /// When it should have been decided.
    pub deadline: Timestamp,
    /// The gate that stands between the suspicion and action.
    pub waits_for: Gate,
}

/// The suspicions that a person has to hear of now (DECISION 2.5): odds of at least 1 in 20, more bad than is tolerated at this moment, a row
/// that rolls back and promises a time, and that time is over since the onset. Calm at this moment ends it;
/// whoever asks leaves out a deployment that has a verdict already.
#[must_use]
pub fn overdue(findings: &[Finding], service: &Service, now: Timestamp) -> Vec<Overdue> {
    let overdue = suspicions(findings, service).filter_map(|(finding, numbers)| {
        let within = service.matrix.row(finding.impact).within?;
        let (onset, waits_for) = (numbers.onset?, numbers.waits_for?);
        let deadline = onset.checked_add(if within.is_zero() { AT_ONCE } else { within }).unwrap_or(Timestamp::MAX);
        (now >= deadline).then(|| Overdue { finding: finding.clone(), onset, deadline, waits_for })
    });
    overdue.collect()
}

/// The suspicions about rows that roll back and promise a time, with their numbers.
pub(crate) fn suspicions<'a>(findings: &'a [Finding], service: &Service) -> impl Iterator<Item = (&'a Finding, &'a Numbers)> {
    let weighed = findings.iter().filter_map(|finding| Some((finding, finding.numbers.as_ref()?)));
    weighed.filter(|(finding, numbers)| {
        let row = service.matrix.row(finding.impact);
        let is_promised = row.response == Response::RollBack && row.within.is_some();
        is_promised && finding.state == FindingState::Passing && is_suspect(numbers)
    })
}

/// The findings that would call for a rollback if others didn't suffer too: bad enough over the hold, and not clearly worse than what is
/// granted because of them.
#[must_use]
pub fn held_back<'a>(findings: &'a [Finding], service: &Service) -> Vec<&'a Finding> {
    let is_held_back = |finding: &&Finding| {
        let Some(Numbers { ambient: Some(granted), now: Some(now), severity, waits_for, measure, .. }) = &finding.numbers else {
            return false;
        };
        // What is granted is not weighed, so that a share of requests waits for evidence before it waits for others.
        let is_granted = *measure == Measure::Share && now < granted && now >= severity;
        let calls_for_rollback = service.matrix.row(finding.impact).response == Response::RollBack;
        calls_for_rollback && finding.state == FindingState::Passing && (is_granted || *waits_for == Some(Gate::Attribution))
    };
    findings.iter().filter(is_held_back).collect()
}

fn is_suspect(numbers: &Numbers) -> bool {
    numbers.log_evidence >= SUSPECT && numbers.now.is_some_and(|now| now > numbers.tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::world::{minutes, policy};
    use crate::service::SignalPolicy;

    fn errors() -> SignalName {
        SignalName("errors".to_owned())
    }

    /// A service with counters of requests, and with a probe or without.
    fn service(has_probe: bool) -> Service {
        let mut service = policy("checkout");
        let (probe, probed) = service.signals.pop_first().expect("it is probed");
        service.signals.insert(errors(), SignalPolicy { kind: SignalKind::Errors, ..probed.clone() });
        if has_probe {
            service.signals.insert(probe, probed);
        }
        service
    }

    fn began() -> Timestamp {
        Timestamp::from_second(100_000).expect("a time in range")
    }

    fn finding(impact: Impact, now: Option<f64>, odds: f64, delay: Option<i64>) -> Finding {
        let numbers = Numbers {
            measure: Measure::Share,
            route: None,
            before: 0.01,
            tolerance: 0.125,
            severity: 0.5,
            now,
            count: 40.0,
            failed: 24.0,
            onset: Some(began()),
            log_evidence: f64::ln(odds),
            log_threshold: 1e4_f64.ln(),
            hold: minutes(2),
            waits_for: Some(Gate::Evidence),
            expected_delay: delay.map(minutes),
            ambient: None,
        };
        let state = if now.is_some() { FindingState::Passing } else { FindingState::Inconclusive(Inconclusive::NoTraffic) };
        Finding { signal: errors(), impact, state, numbers: Some(numbers) }
    }

    fn delays(finding: Finding, service: &Service) -> Vec<Option<SignedDuration>> {
        unkept(&[finding], service).into_iter().map(|unkept| unkept.expected_delay).collect()
    }

    #[test]
    fn a_promise_is_in_danger_when_grace_and_delay_are_longer_than_it() {
        let service = service(false);
        let ratio = |delay| finding(Impact::ErrorRatio, Some(0.01), 1.0, Some(delay));
        assert_eq!(delays(ratio(14), &service), [], "a minute of grace and 14 are the 15 that are promised");
        assert_eq!(delays(ratio(15), &service), [Some(minutes(16))]);
    }

    #[test]
    fn without_any_traffic_no_promise_about_traffic_can_be_kept() {
        assert_eq!(delays(finding(Impact::ErrorRatio, None, 1.0, None), &service(false)), [None]);
        let fell_silent = finding(Impact::ErrorRatio, None, 1.0, Some(2));
        assert_eq!(delays(fell_silent, &service(false)), [], "a quiet minute of a service that is used");
    }

    #[test]
    fn only_what_rolls_back_and_has_a_time_is_a_promise() {
        let service = service(false);
        for impact in [Impact::CompleteOutage, Impact::FeatureBroken] {
            assert_eq!(delays(finding(impact, Some(0.01), 1.0, Some(600)), &service), [], "{impact}");
        }
    }

    #[test]
    fn what_would_help_depends_on_whether_there_is_a_probe() {
        let slow = [finding(Impact::ErrorRatio, Some(0.01), 1.0, Some(39))];
        let words = |service: &Service| crate::words::unkept(&unkept(&slow, service)[0]);
        let sentence = "errors: at this traffic an error ratio above 50 % would be found after about 40m, later than the 15m promised; ";
        assert_eq!(words(&service(false)), format!("{sentence}add a probe"));
        assert_eq!(words(&service(true)), format!("{sentence}only probe.ready can tell earlier"));
    }

    #[test]
    fn a_suspicion_is_overdue_when_its_promise_is_over_since_its_onset() {
        let service = service(false);
        let suspect = [finding(Impact::ErrorRatio, Some(0.6), 340.0, None)];
        assert_eq!(overdue(&suspect, &service, began() + minutes(14)), []);
        let told = overdue(&suspect, &service, began() + minutes(15));
        assert_eq!((told[0].onset, told[0].deadline, told[0].waits_for), (began(), began() + minutes(15), Gate::Evidence));
        let words = crate::words::overdue(&told[0], false);
        let begins =
            "error ratio too high, suspected since 03:46:40 UTC: it is still not decided, for want of evidence; before at most 1.0 %, ";
        assert!(words.starts_with(begins) && words.contains("1 in 340 if nothing had changed (needed: 1 in 10000)"), "{words}");
    }

    #[test]
    fn an_outage_that_others_share_is_told_after_a_quarter_of_an_hour() {
        let mut shared = finding(Impact::CompleteOutage, Some(1.0), 1e9, None);
        shared.numbers.as_mut().expect("numbers").waits_for = Some(Gate::Attribution);
        let service = service(true);
        assert_eq!(overdue(&[shared.clone()], &service, began() + minutes(14)), []);
        let told = overdue(&[shared], &service, began() + minutes(15));
        assert!(crate::words::overdue(&told[0], true).contains("others suffer too, so it can't be told whose fault it is"));
    }

    #[test]
    fn chance_calm_and_what_promises_nothing_are_never_overdue() {
        let service = service(false);
        let late = began() + minutes(600);
        for nothing in [
            finding(Impact::ErrorRatio, Some(0.6), 19.0, None),
            finding(Impact::ErrorRatio, Some(0.1), 1e9, None),
            finding(Impact::ErrorRatio, None, 1e9, None),
            finding(Impact::FeatureBroken, Some(0.6), 1e9, None),
        ] {
            assert_eq!(overdue(&[nothing], &service, late), []);
        }
    }
}
