//! The records of a daemon, as what happened and as what was decided: what it saw of the workloads and what people said is played again,
//! what it made of it is compared.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::entry::{Actor, Arrival, DeploymentId, Entry, Record};
use rollbackd_core::plan::{Cause, PlanId};
use rollbackd_core::service::ServiceName;
use rollbackd_core::version::Version;

use super::judge::Deployed;
use super::play::Happening;
use super::report::{self, Judgement};

/// What happened, by the records, in order of time.
#[must_use]
pub fn happenings(records: &[Record]) -> Vec<(Timestamp, ServiceName, Happening)> {
    let mut targets: BTreeMap<PlanId, Version> = BTreeMap::new();
    let mut seen: BTreeMap<DeploymentId, Deployed> = BTreeMap::new();
    let mut happenings = Vec::new();
    for record in records {
        let Some(service) = record.entry.service().cloned() else { continue };
        if let Entry::RollbackPlanned { plan } = &record.entry {
            targets.insert(PlanId(record.seq), plan.to.clone());
        }
        let happening = match &record.entry {
            Entry::DeploymentSeen { version, arrival, started, not_before, change, .. } => {
                let version = match arrival {
                    // What a rollback leaves behind may have another identity than its target, and is the target all the same.
                    Arrival::Rollback { plan, .. } => targets.get(plan).unwrap_or(version),
                    Arrival::FirstSight | Arrival::Deployed => version,
                };
                let deployed = Deployed { version: version.clone(), not_before: *not_before, rolled_out: false, change: Some(*change) };
                seen.insert(DeploymentId(record.seq), deployed.clone());
                Some((*started, Happening::Deployed(deployed)))
            }
            Entry::RolledOut { deployment, .. } => {
                let deployed = seen.get(deployment).map(|deployed| Deployed { rolled_out: true, ..deployed.clone() });
                deployed.map(|deployed| (record.at, Happening::Deployed(deployed)))
            }
            entry if is_said(entry) => Some((record.at, Happening::Said(Box::new(entry.clone())))),
            _ => None,
        };
        happenings.extend(happening.map(|(at, happening)| (at, service, happening)));
    }
    happenings.sort_by_key(|(at, ..)| *at);
    happenings
}

/// Whether a person or an alert said it.
fn is_said(entry: &Entry) -> bool {
    match entry {
        Entry::Held { by, .. }
        | Entry::Resumed { by, .. }
        | Entry::Marked { by, .. }
        | Entry::DeploymentAnnounced { by, .. }
        | Entry::ImpactWithdrawn { by, .. }
        | Entry::QuestionAnswered { by, .. } => *by != Actor::Daemon,
        Entry::ImpactDeclared { .. } => true,
        Entry::RollbackPlanned { plan } => matches!(plan.cause, Cause::Operator { .. }),
        _ => false,
    }
}

const MILLISECOND: SignedDuration = SignedDuration::from_millis(1);

/// Puts beside each judgement what the records say was decided.
pub fn compare(judgements: &mut [Judgement], records: &[Record]) {
    let recorded = report::recorded(records);
    for judgement in judgements {
        // What is played has whole milliseconds, and a daemon's clock has more.
        let (service, started) = (&judgement.service, judgement.started);
        let from = started.checked_sub(MILLISECOND).unwrap_or(Timestamp::MIN);
        let to = started.checked_add(MILLISECOND).unwrap_or(Timestamp::MAX);
        let mut near = recorded.range((service.clone(), from)..=(service.clone(), to));
        judgement.recorded = near.next().map(|(_, recorded)| recorded.clone());
    }
}
