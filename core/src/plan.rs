//! A rollback, from the plan to its outcome. The plan is in the ledger before its effect may start; the effect carries the plan's name,
//! so that who finds it in the world knows whose it is.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::entry::{Actor, DeploymentId};
use crate::evidence::Lack;
use crate::observation::Binding;
use crate::service::{Restore, ServiceName};
use crate::verdict::Verdict;
use crate::version::{Artifact, Version, VersionId};

/// A plan's number: the ledger number of the entry that planned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub u64);

impl fmt::Display for PlanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Why a rollback was planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The judge reached this verdict.
    Verdict(Verdict),
    /// A person asked for it.
    Operator {
        /// Who.
        by: Actor,
        /// Why, in their words.
        reason: String,
    },
}

/// One rollback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The service.
    pub service: ServiceName,
    /// Its environment.
    pub environment: String,
    /// The deployment that is undone.
    pub deployment: DeploymentId,
    /// What runs.
    pub from: Version,
    /// What shall run: a version that was known good when this was decided.
    pub to: Version,
    /// The deployment that brought `to`, whose artifact is redeployed.
    pub to_deployment: DeploymentId,
    /// What the effect is bound to.
    pub binding: Binding,
    /// How far back it goes.
    pub restore: Restore,
    /// Why.
    pub cause: Cause,
    /// After this moment the effect may not start any more; a fresh decision is needed.
    pub expires: Timestamp,
}

/// How far a rollback is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Recorded; the effect may or may not have happened.
    Planned,
    /// The effect is known to have happened; the platform rolls it out.
    Applied {
        /// Since when.
        at: Timestamp,
    },
    /// Rolled out; the proof that it helped is being looked for.
    Verifying {
        /// Since when.
        at: Timestamp,
    },
    /// Recovered; watched on until the all-clear.
    Recovered {
        /// Since when.
        at: Timestamp,
    },
    /// Ended; see the outcome.
    Ended,
}

/// How a rollback ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The target runs, and what had fired is well again.
    Recovered,
    /// The target runs, and what had fired did not become well in time: the deployment was probably not the cause.
    DidNotHelp {
        /// What lacked for the proof.
        lacks: Vec<Lack>,
    },
    /// The target runs, but too little could be seen in time to say whether it helped.
    Unproven {
        /// What lacked for the proof.
        lacks: Vec<Lack>,
    },
    /// Somebody deployed another version before it was proved.
    Interrupted {
        /// What was deployed.
        by: Version,
    },
    /// It could not be carried out.
    Failed(Obstacle),
    /// It lost its ground before it had any effect: nothing was changed.
    Void(Void),
}

/// Why a rollback failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// The platform refused the effect: admission, quota, validation, rights; its words.
    Rejected(String),
    /// Neither the platform nor the ledger has the target any more; nothing was changed.
    TargetGone,
    /// The effect was begun, but the target was not rolled out, or not in time; the platform's words on why.
    NotRolledOut(String),
}

/// Why a plan lost its ground.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Void {
    /// Somebody changed the workload meanwhile.
    Moved,
    /// Somebody deployed another version meanwhile.
    Superseded {
        /// What was deployed.
        by: Version,
    },
    /// It could not be started in time.
    Expired,
    /// The workload is gone.
    Gone,
}

/// What a platform is asked to do. Doing it twice is doing it once.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The plan's name in the world: unique over all ledgers.
    pub plan: String,
    /// The service.
    pub service: ServiceName,
    /// Its environment.
    pub environment: String,
    /// What is left.
    pub from: Version,
    /// What shall run.
    pub to: Version,
    /// The ledger's own copy of it, where it has one.
    pub artifact: Option<Artifact>,
    /// What it is bound to.
    pub binding: Binding,
    /// How far back it goes.
    pub restore: Restore,
    /// Versions known to be bad after this, newest last, at most 20.
    pub known_bad: Vec<VersionId>,
    /// One line that says why, for people who look at the object.
    pub reason: String,
}

/// What a rollback left on the object it changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectRecord {
    /// The plan's name.
    pub plan: String,
    /// What was left.
    pub from: VersionId,
    /// What was deployed: the identity of the template as it is after the effect.
    pub to: VersionId,
    /// Versions known to be bad.
    pub known_bad: Vec<VersionId>,
}
