//! Reasons not to act. A guard never makes a rollback happen; it names why one does not.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::entry::{Actor, DeploymentId};
use crate::plan::PlanId;
use crate::service::ServiceName;
use crate::version::{ChangeKind, Version};

/// A reason not to roll back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No version of this service has passed its window (or been marked good) yet.
    NoKnownGood,
    /// The version asked for was never seen at this service.
    UnknownVersion {
        /// What was asked for.
        asked: String,
    },
    /// The target is what runs already.
    TargetIsRunning {
        /// The target.
        target: Version,
    },
    /// The target was rolled back itself, or marked bad.
    TargetKnownBad {
        /// The target.
        target: Version,
    },
    /// Neither the platform nor the ledger has the target any more.
    TargetGone {
        /// The target.
        target: Version,
    },
    /// Another rollback of this service is under way.
    RollbackInProgress {
        /// Its plan.
        plan: PlanId,
    },
    /// This deployment was rolled back already, or its rollback failed.
    AlreadyRolledBack {
        /// The deployment.
        deployment: DeploymentId,
    },
    /// What runs was brought by a rollback; a rollback is never rolled back by itself.
    IsRollback {
        /// What it rolled back.
        of: DeploymentId,
    },
    /// The deployment carries a change that code can't go back over.
    Migration {
        /// What it carries.
        change: ChangeKind,
    },
    /// A person said so.
    Held {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Enough automatic rollbacks for now.
    RateLimited {
        /// How many there were.
        count: u32,
        /// The limit.
        limit: u32,
        /// `24h of this service` or `1h of all services`, in words.
        of: String,
        /// When the next one is allowed.
        until: Timestamp,
    },
    /// Many services went bad together, so this deployment is probably not the cause.
    FleetBrake {
        /// Which.
        services: BTreeSet<ServiceName>,
    },
    /// The service is in dry run: it would have been rolled back.
    DryRun {
        /// To this.
        target: Version,
    },
    /// The workload can't be seen just now, so nothing can be bound to it.
    OutOfSight,
    /// The plan lost its ground too often: somebody else changes the workload again and again.
    Contested {
        /// How often.
        times: u32,
    },
}

impl Refusal {
    /// The guard's stable name, for people, logs and JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoKnownGood => "no-known-good",
            Self::UnknownVersion { .. } => "unknown-version",
            Self::TargetIsRunning { .. } => "target-is-running",
            Self::TargetKnownBad { .. } => "target-known-bad",
            Self::TargetGone { .. } => "target-gone",
            Self::RollbackInProgress { .. } => "rollback-in-progress",
            Self::AlreadyRolledBack { .. } => "already-rolled-back",
            Self::IsRollback { .. } => "is-a-rollback",
            Self::Migration { .. } => "migration",
            Self::Held { .. } => "hold",
            Self::RateLimited { .. } => "rate-limit",
            Self::FleetBrake { .. } => "fleet-brake",
            Self::DryRun { .. } => "dry-run",
            Self::OutOfSight => "out-of-sight",
            Self::Contested { .. } => "contested",
        }
    }
}
