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
            (FindingState::Inconclusive(Inconclusive::NoTraffic), delay) => {
                delay.map(|delay| service.decision.grace.saturating_add(delay))
            }
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
    let overdue = findings.iter().filter_map(|finding| {
        let numbers = finding.numbers.as_ref().filter(|numbers| finding.state == FindingState::Passing && is_suspect(numbers))?;
        let row = service.matrix.row(finding.impact);
        let within = row.within.filter(|_| row.response == Response::RollBack)?;
        let (onset, waits_for) = (numbers.onset?, numbers.waits_for?);
        let deadline = onset.checked_add(if within.is_zero() { AT_ONCE } else { within }).unwrap_or(Timestamp::MAX);
        (now >= deadline).then(|| Overdue { finding: finding.clone(), onset, deadline, waits_for })
    });
    overdue.collect()
}

fn is_suspect(numbers: &Numbers) -> bool {
    numbers.log_evidence >= SUSPECT && numbers.now.is_some_and(|now| now > numbers.tolerance)
}
