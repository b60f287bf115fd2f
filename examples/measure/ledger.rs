//! A ledger with a past: deployments that passed their windows.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rollbackd::ledger::Ledger as _;
use rollbackd::ledger::sqlite::Sqlite;
use rollbackd_core::entry::{Actor, Arrival, DeploymentId, Entry, Mark, MarkReason};
use rollbackd_core::evidence::Evidence;
use rollbackd_core::observation::Scrape;
use rollbackd_core::service::{Service, SignalName};
use rollbackd_core::version::{Artifact, ChangeKind, Version, VersionId};

/// What is written of a deployment that passes its window.
const RECORDS: usize = 5;

/// The copy that is kept of a version: as large as a plain pod template.
pub fn artifact() -> Artifact {
    Artifact(format!("{{\"template\":\"{}\"}}", "x".repeat(2000)))
}

/// A version by its number.
pub fn version(number: usize) -> Version {
    Version { id: VersionId(format!("sha256:{number:064}")), name: format!("registry.example.org/shop/checkout:v{number}") }
}

/// Begins a ledger in which each service deployed in turn, until it holds about so many records and each has at least one deployment.
/// The last version of every service is `version(1)`.
pub fn begin(directory: &Path, services: &[&Service], records: usize, until: Timestamp) -> anyhow::Result<()> {
    let mut ledger = Sqlite::open(directory)?;
    ledger.append(until - SignedDuration::from_hours(24 * 365), vec![Entry::LedgerBegun { ledger: "measured".to_owned() }])?;
    let rounds = (records / (RECORDS * services.len())).max(1);
    let mut seq = 2;
    for round in 0..rounds {
        for service in services {
            let entries = deployment(service, DeploymentId(seq), version(rounds - round), until);
            seq += entries.len() as u64;
            ledger.append(until - SignedDuration::from_hours(1), entries)?;
        }
    }
    Ok(())
}

fn deployment(policy: &Service, deployment: DeploymentId, version: Version, at: Timestamp) -> Vec<Entry> {
    let service = policy.name.clone();
    let evidence = Evidence::new(policy);
    let baseline = |name: &SignalName| {
        evidence.baseline(policy, name, at, &[]).unwrap_or_else(|| Evidence::baseline_of_history(policy, name, &Scrape::default(), at, &[]))
    };
    let baselines: BTreeMap<_, _> = policy.signals.keys().map(|name| (name.clone(), baseline(name))).collect();
    let id = version.id.clone();
    let reason = MarkReason::PassedWindow(deployment);
    vec![
        Entry::DeploymentSeen {
            service: service.clone(),
            environment: policy.environment.clone(),
            version,
            artifact: Some(artifact()),
            arrival: Arrival::Deployed,
            started: at,
            not_before: at,
            change: ChangeKind::Code,
        },
        Entry::RolledOut { service: service.clone(), deployment },
        Entry::BaselineTaken { service: service.clone(), deployment, baselines },
        Entry::WindowPassed { service: service.clone(), deployment, log_evidence: 12.0 },
        Entry::Marked { service, version: id, mark: Mark::Good, by: Actor::Daemon, reason },
    ]
}
