//! The notices of warnings: nothing is done, and here is why, since when, how sure it is, and what a person can do.

use super::{Notice, NoticeKind, Writer, brief, finding_line};
use crate::entry::DeploymentId;
use crate::lifecycle::{Deployment, ServiceState};
use crate::promise::{Overdue, Unkept};
use crate::service::{ServiceName, SignalName};
use crate::severity::{Impact, Severity};
use crate::verdict::{Finding, Gate};
use crate::warning::Warning;
use crate::words;

impl Writer<'_> {
    pub(super) fn warned(&self, service: &ServiceName, id: DeploymentId, warning: &Warning) -> Option<Notice> {
        let known = self.state.service(service)?;
        let deployment = known.deployments.get(&id)?;
        let mut notice = match warning {
            Warning::HeldBack { severity, finding, others } => self.held_back(service, deployment, *severity, finding, others),
            Warning::Overdue { severity, overdue, is_compared } => self.overdue(service, deployment, *severity, overdue, *is_compared),
            Warning::Unkept { unkept } => self.unkept(service, deployment, unkept),
        };
        notice.severity = Some(warning.severity());
        if warning.is_of_trouble() {
            notice.next.splice(0..0, what_to_do(service, known, deployment));
        }
        Some(notice)
    }

    fn held_back(
        &self,
        service: &ServiceName,
        deployment: &Deployment,
        severity: Severity,
        finding: &Finding,
        others: &[SignalName],
    ) -> Notice {
        let others = names(others);
        let headline = format!("{} on {}, but {others} fails as well: held back", finding.impact, brief(&deployment.version));
        let mut notice = self.on(NoticeKind::HeldBack, service, deployment, &headline);
        notice.paragraphs.push(words::sentence(&format!(
            "{severity} {}, seen by {}: {}",
            finding.impact,
            finding.signal,
            words::held_back(finding)
        )));
        notice.paragraphs.push(format!(
            "Nothing is rolled back while {others} fails too: this deployment is probably not the cause. If {} stays bad when that is well again, or becomes clearly worse than that, it is rolled back by itself.",
            brief(&deployment.version)
        ));
        notice.facts.push(("Others".to_owned(), others));
        notice.next.insert(0, ("Look at what they share: database, network, identity provider.".to_owned(), None));
        notice
    }

    fn overdue(&self, service: &ServiceName, deployment: &Deployment, severity: Severity, overdue: &Overdue, is_compared: bool) -> Notice {
        let Overdue { finding, onset, deadline, waits_for } = overdue;
        let version = brief(&deployment.version);
        let lasted = words::duration(self.record.at.duration_since(*onset));
        let headline = match waits_for {
            Gate::Attribution => format!("{} on {version} for {lasted}, still held back: please look", finding.impact),
            _ => format!("is it {} on {version}? Suspected for {lasted}, still not decided: please look", noun(finding.impact)),
        };
        let mut notice = self.on(NoticeKind::Undecided, service, deployment, &headline);
        notice.paragraphs.push(words::sentence(&format!("{severity} {}", words::overdue(overdue, is_compared))));
        let why_not = finding.numbers.as_ref().map(|numbers| words::waits_for(*waits_for, numbers));
        notice.paragraphs.push(format!(
            "Why it is not decided: {}. It was to be decided by {}, and nothing is done by itself before every gate is open; it goes on being weighed. Until then you know more than rollbackd does: look, and decide.",
            why_not.unwrap_or_else(|| words::gate(*waits_for).to_owned()),
            words::time(*deadline)
        ));
        notice.facts.push(("Began, by the best estimate".to_owned(), words::time(*onset)));
        if *waits_for != Gate::Attribution {
            notice.facts.push(finding_line(finding));
        }
        notice
    }

    fn unkept(&self, service: &ServiceName, deployment: &Deployment, unkept: &[Unkept]) -> Notice {
        let headline = match unkept {
            [one] if one.expected_delay.is_none() => "nobody asks it anything, so that errors would not be found".to_owned(),
            [one] => format!("at this traffic {} would be found later than promised", noun(one.impact)),
            _ => "at this traffic trouble would be found later than promised".to_owned(),
        };
        let mut notice = self.on(NoticeKind::TooLittleTraffic, service, deployment, &headline);
        notice.paragraphs.extend(unkept.iter().map(|one| words::sentence(&words::unkept(one))));
        notice.paragraphs.push(format!(
            "Nothing speaks against {}; this is said beforehand. It is said once a week for a service, however often that is deployed.",
            brief(&deployment.version)
        ));
        notice.next.insert(0, ("To see how long each check would take:".to_owned(), Some(format!("rollbackd status {service}"))));
        notice
    }

    /// Whoever was warned wants to know that it came to nothing.
    pub(super) fn passed_after_all(&self, service: &ServiceName, id: DeploymentId) -> Option<Notice> {
        let deployment = self.state.deployment(service, id)?;
        let mut warned = deployment.warned.iter().filter(|(_, warning)| warning.is_of_trouble());
        let (since, _) = warned.next()?;
        let headline = format!("all clear: {} passed its window after all", brief(&deployment.version));
        let mut notice = self.on(NoticeKind::AllClear, service, deployment, &headline);
        notice.paragraphs.push(format!(
            "What you were warned of at {} is over, and nothing was rolled back. {} is known good now.",
            words::time(*since),
            deployment.version
        ));
        Some(notice)
    }
}

/// A person who is sure acts; one who isn't looks.
fn what_to_do(service: &ServiceName, known: &ServiceState, deployment: &Deployment) -> Vec<(String, Option<String>)> {
    let way_back = match known.known_good(&deployment.version.id) {
        Some(good) if deployment.question.is_some() => {
            (format!("To go back to {}:", brief(&good.version)), format!("rollbackd approve {service}"))
        }
        Some(good) => (format!("To go back to {}:", brief(&good.version)), format!("rollbackd rollback {service}")),
        None => (
            "There is no known good version; to go to one of your choice:".to_owned(),
            format!("rollbackd rollback {service} --to VERSION"),
        ),
    };
    let declare = (
        "If you know what is wrong, say so, and the matrix acts (for instance, damaged data):".to_owned(),
        format!("rollbackd declare {service} {} --reason '…'", Impact::DataCorruption.key()),
    );
    [way_back, declare].map(|(words, command)| (words, Some(command))).into()
}

fn names(signals: &[SignalName]) -> String {
    match signals {
        [] => "the control group".to_owned(),
        signals => signals.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
    }
}

/// An impact as the object of a question.
const fn noun(impact: Impact) -> &'static str {
    match impact {
        Impact::CompleteOutage => "a complete outage",
        Impact::DataCorruption => "data corruption",
        Impact::SecurityBreach => "a security breach",
        Impact::ErrorRatio => "a high error ratio",
        Impact::Performance => "slowness",
        Impact::FeatureBroken => "a broken feature",
        Impact::MinorFault => "a minor fault",
    }
}
