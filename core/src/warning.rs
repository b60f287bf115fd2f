//! What operators are warned of although the matrix has no answer to it: a rollback that is held back because others suffer too, a suspicion
//! that is as old as its promise, a promise that can't be kept at this traffic. A warning never changes what is done.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::entry::DeploymentId;
use crate::evidence::Evidence;
use crate::lifecycle::{Deployment, ServiceState};
use crate::promise::{self, Overdue, Unkept};
use crate::service::{Role, Service, SignalName};
use crate::severity::Severity;
use crate::verdict::{Finding, Gate};

/// Something to warn of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// It would be rolled back, but others suffer too (DECISION 2.5, `HOLD_AMBIENT`).
    HeldBack {
        /// How bad it is.
        severity: Severity,
        /// The check, with its numbers at that moment.
        finding: Finding,
        /// The signals of those who suffer.
        others: Vec<SignalName>,
    },
    /// It is suspect for as long as a decision was promised within, and nothing is decided (DECISION 2.5).
    Overdue {
        /// How bad it would be.
        severity: Severity,
        /// The suspicion.
        overdue: Overdue,
        /// Whether there are others to compare with.
        is_compared: bool,
    },
    /// At this traffic a decision would come later than promised (DECISION 2.0).
    Unkept {
        /// Which promises.
        unkept: Vec<Unkept>,
    },
}

/// Warnings that are kept of one deployment: more than one of each kind and severity.
pub const KEPT: usize = 16;

/// Traffic is measured for so long, after the grace time, before anything is said of it.
const MEASURED: SignedDuration = SignedDuration::from_mins(5);

/// A service that has little traffic has little traffic every night: nobody is told the same of its next deployment within a week.
const TOLD_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Others may suffer for so long; then a person has to look again (DECISION 2.5: "at most 15 min, then a human").
const LONG_HELD_BACK: SignedDuration = SignedDuration::from_mins(15);

impl Warning {
    /// How bad that is of which it warns. That something would be found late hurts nobody now.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::HeldBack { severity, .. } | Self::Overdue { severity, .. } => *severity,
            Self::Unkept { .. } => Severity::P3,
        }
    }

    /// Whether it says that something may be wrong with the deployment now.
    #[must_use]
    pub const fn is_of_trouble(&self) -> bool {
        matches!(self, Self::HeldBack { .. } | Self::Overdue { .. })
    }
}

/// What there is to warn of now, of the newest deployment of a service. Nothing while it is rolled back, and nothing that was told already.
#[must_use]
pub fn due(known: &ServiceState, policy: &Service, evidence: &Evidence, now: Timestamp) -> Option<(DeploymentId, Warning)> {
    let current = known.current().filter(|current| current.status.in_window() && current.rollback_of().is_none())?;
    if known.open_rollback().is_some() || evidence.watched() != Some(current.id) {
        return None;
    }
    let weighed = now.duration_since(evidence.weighed_since()?).saturating_sub(policy.decision.grace);
    if !weighed.is_positive() {
        return None;
    }
    // Most of the time there is nothing, and this is asked at every look.
    let may_be_late = weighed >= MEASURED && current.verdict.is_none();
    if !may_be_late && !evidence.is_suspect(now) && evidence.suffering(SignedDuration::ZERO, now).is_empty() {
        return None;
    }
    let sight = Sight { current, policy, evidence, findings: evidence.findings(policy, now), weighed, now };
    let warning = sight.held_back().or_else(|| sight.overdue()).or_else(|| sight.unkept(known))?;
    Some((current.id, warning))
}

/// One look at a deployment.
struct Sight<'a> {
    current: &'a Deployment,
    policy: &'a Service,
    evidence: &'a Evidence,
    findings: Vec<Finding>,
    /// For how long, without the grace time.
    weighed: SignedDuration,
    now: Timestamp,
}

impl Sight<'_> {
    fn severity(&self, finding: &Finding) -> Severity {
        self.policy.matrix.row(finding.impact).severity
    }

    /// Of what a deployment would be rolled back for if others were well, the worst.
    fn worst_held_back(&self) -> Option<&Finding> {
        let held_back = promise::held_back(&self.findings, self.policy);
        let lasting = held_back.into_iter().filter(|finding| finding.numbers.as_ref().is_some_and(|numbers| self.weighed >= numbers.hold));
        lasting.min_by_key(|finding| self.severity(finding))
    }

    fn held_back(&self) -> Option<Warning> {
        let finding = self.worst_held_back()?;
        if self.held_back_since(finding).is_some() || !self.is_news(finding) {
            return None;
        }
        let severity = self.severity(finding);
        let hold = finding.numbers.as_ref().map_or(SignedDuration::ZERO, |numbers| numbers.hold);
        Some(Warning::HeldBack { severity, finding: finding.clone(), others: self.evidence.suffering(hold, self.now) })
    }

    /// When it was told that others hold back a rollback for this, or for something at least as bad.
    fn held_back_since(&self, finding: &Finding) -> Option<Timestamp> {
        self.told(|warning| matches!(warning, Warning::HeldBack { .. }), self.severity(finding))
    }

    fn overdue(&self) -> Option<Warning> {
        // Whoever was told that others hold it back, and waits for them, knows why it is late.
        let late = promise::overdue(&self.findings, self.policy, self.now).into_iter();
        let late = late.filter(|late| late.waits_for != Gate::Attribution || self.held_back_since(&late.finding).is_none());
        let overdue = late.chain(self.long_held_back());
        let overdue = overdue.filter(|overdue| self.is_news(&overdue.finding) && self.is_named(&overdue.finding));
        let overdue = overdue.min_by_key(|overdue| (!is_there(&overdue.finding), self.severity(&overdue.finding)))?;
        let severity = self.severity(&overdue.finding);
        let is_overdue = |warning: &Warning| matches!(warning, Warning::Overdue { .. });
        let is_told = self.told(is_overdue, severity).is_some();
        if is_told || !is_there(&overdue.finding) && self.told(is_overdue, Severity::P3).is_some() {
            return None;
        }
        let is_compared = self.policy.signals.values().any(|signal| signal.role == Role::Control);
        Some(Warning::Overdue { severity, overdue, is_compared })
    }

    /// Of rows whose level is not reached only the one that most speaks for is named: a third of failures is no complete outage.
    fn is_named(&self, finding: &Finding) -> bool {
        let evidence = finding.numbers.as_ref().map_or(f64::NEG_INFINITY, |numbers| numbers.log_evidence);
        let mut others = promise::suspicions(&self.findings, self.policy);
        is_there(finding) || others.all(|(_, numbers)| numbers.log_evidence <= evidence)
    }

    /// What others suffer too is not weighed meanwhile, so that it has no onset but the one that was told.
    fn long_held_back(&self) -> Option<Overdue> {
        let finding = self.worst_held_back()?;
        let onset = self.held_back_since(finding)?;
        let deadline = onset.checked_add(LONG_HELD_BACK).unwrap_or(Timestamp::MAX);
        (self.now >= deadline).then(|| Overdue { finding: finding.clone(), onset, deadline, waits_for: Gate::Attribution })
    }

    fn unkept(&self, known: &ServiceState) -> Option<Warning> {
        if self.weighed < MEASURED || self.current.verdict.is_some() {
            return None;
        }
        let newest = known.deployments.values().flat_map(|deployment| &deployment.warned);
        let newest: Vec<&Unkept> = newest
            .filter(|(at, _)| self.now.duration_since(*at) < TOLD_FOR)
            .filter_map(|(_, warning)| if let Warning::Unkept { unkept } = warning { Some(unkept) } else { None })
            .flatten()
            .collect();
        let is_told = |one: &Unkept| newest.iter().any(|told| (&told.signal, told.impact) == (&one.signal, one.impact));
        let mut unkept = promise::unkept(&self.findings, self.policy);
        // A service that nobody asks anything breaks no promise to anybody, as long as something looks whether it is there.
        unkept.retain(|one| !is_told(one) && (one.expected_delay.is_some() || one.probes.is_empty()));
        (!unkept.is_empty()).then_some(Warning::Unkept { unkept })
    }

    /// When operators were first warned like this, of something at least as bad.
    fn told(&self, is_it: impl Fn(&Warning) -> bool, severity: Severity) -> Option<Timestamp> {
        self.current.warned.iter().find(|(_, warning)| is_it(warning) && warning.severity() <= severity).map(|(at, _)| *at)
    }

    /// Whether a verdict has told of it already. Of what is worse than that it has not, but only where the level of what is worse is reached.
    fn is_news(&self, finding: &Finding) -> bool {
        let verdict = self.current.verdict.as_ref().map(|(_, verdict)| verdict);
        verdict.is_none_or(|verdict| self.severity(finding) < verdict.severity && is_there(finding))
    }
}

/// Whether the level of its row is reached over the hold.
fn is_there(finding: &Finding) -> bool {
    finding.numbers.as_ref().is_some_and(|numbers| numbers.now.is_some_and(|now| now >= numbers.severity))
}
