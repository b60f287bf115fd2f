//! The ledger's vocabulary: what was decided and done, one entry for each fact. State is nothing but their fold (`lifecycle`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::baseline::Baseline;
use crate::declaration::{Declaration, Question};
use crate::evidence::Lack;
use crate::guard::Refusal;
use crate::observation::{Binding, Missing};
use crate::plan::{Outcome, Plan, PlanId};
use crate::service::{ServiceName, SignalName};
use crate::severity::Choice;
use crate::verdict::Verdict;
use crate::version::{Artifact, ChangeKind, Version, VersionId};
use crate::warning::Warning;

/// A deployment's number: the ledger number of the entry that first saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeploymentId(pub u64);

impl fmt::Display for DeploymentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// An entry with its place in the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 1, 2, 3, … without a gap.
    pub seq: u64,
    /// When it was written; never earlier than the one before.
    pub at: Timestamp,
    /// What it says.
    pub entry: Entry,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The daemon by itself.
    Daemon,
    /// A person, by the name of their account on the host.
    Operator(String),
    /// An alert, by its name.
    Alert(String),
}

impl Entry {
    /// The service that it concerns; none for what concerns all of them.
    #[must_use]
    pub const fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::DeploymentSeen { service, .. }
            | Self::DeploymentAnnounced { service, .. }
            | Self::RolledOut { service, .. }
            | Self::BaselineTaken { service, .. }
            | Self::VerdictReached { service, .. }
            | Self::ImpactDeclared { service, .. }
            | Self::ImpactWithdrawn { service, .. }
            | Self::QuestionAnswered { service, .. }
            | Self::RollbackRefused { service, .. }
            | Self::Warned { service, .. }
            | Self::RollbackPlanned { plan: Plan { service, .. } }
            | Self::RollbackApplied { service, .. }
            | Self::RollbackRolledOut { service, .. }
            | Self::RollbackEnded { service, .. }
            | Self::AllClear { service, .. }
            | Self::WindowPassed { service, .. }
            | Self::WindowExtended { service, .. }
            | Self::WindowFailed { service, .. }
            | Self::Superseded { service, .. }
            | Self::Marked { service, .. }
            | Self::Held { scope: Scope::Service(service), .. }
            | Self::Resumed { scope: Scope::Service(service), .. }
            | Self::Blinded { service, .. }
            | Self::Sighted { service, .. } => Some(service),
            Self::LedgerBegun { .. }
            | Self::DestinationsKnown { .. }
            | Self::Held { scope: Scope::All, .. }
            | Self::Resumed { scope: Scope::All, .. }
            | Self::BrakeTripped { .. }
            | Self::BrakeReleased { .. }
            | Self::NoticeDelivered { .. }
            | Self::NoticeAbandoned { .. } => None,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon => formatter.write_str("rollbackd"),
            Self::Operator(name) => formatter.write_str(name),
            Self::Alert(name) => write!(formatter, "alert {name}"),
        }
    }
}

/// How a deployment came to be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// It was there when the daemon first looked at the service.
    FirstSight,
    /// It arrived.
    Deployed,
    /// The daemon's own rollback brought it.
    Rollback {
        /// The plan.
        plan: PlanId,
        /// The deployment that was rolled back.
        of: DeploymentId,
    },
}

/// A mark on a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It passed a whole window, or a person says so.
    Good,
    /// It was rolled back, or a person says so.
    Bad,
    /// Neither: a mark was taken back.
    Unknown,
}

/// Why a version has its mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkReason {
    /// It passed its window.
    PassedWindow(DeploymentId),
    /// It was rolled back.
    RolledBack(PlanId),
    /// Going back from it did not help, so it was probably not the cause.
    NotToBlame(PlanId),
    /// The object itself says that it was rolled back earlier (by a ledger that is gone).
    FoundOnObject,
    /// A person's words.
    Operator(String),
}

/// What a hold pauses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One service.
    Service(ServiceName),
    /// All of them.
    All,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The first entry of every ledger: its name, unique among all ledgers.
    LedgerBegun {
        /// 8 characters.
        ledger: String,
    },
    /// The destinations of notices from here on; a destination gets no notice from before it was known.
    DestinationsKnown {
        /// Their names.
        names: BTreeSet<String>,
    },
    /// A version was seen at a service for the first time since another one was: a deployment. Its window counts from `started`.
    DeploymentSeen {
        /// The service.
        service: ServiceName,
        /// Its environment.
        environment: String,
        /// What is deployed.
        version: Version,
        /// The copy to go back to.
        artifact: Option<Artifact>,
        /// How it came.
        arrival: Arrival,
        /// When it started, by the best knowledge; not later than the entry.
        started: Timestamp,
        /// Until then something else was certainly deployed, so that what came until then is of the time before. Not later than `started`.
        not_before: Timestamp,
        /// What kind of change it carries.
        change: ChangeKind,
    },
    /// Somebody told of a deployment.
    DeploymentAnnounced {
        /// The service.
        service: ServiceName,
        /// The deployment that is meant; `None`: the next one to be seen.
        deployment: Option<DeploymentId>,
        /// When it started, if they said.
        started: Option<Timestamp>,
        /// What it carries, if they said.
        change: Option<ChangeKind>,
        /// Who told.
        by: Actor,
    },
    /// The version is rolled out (or the command platform says that it runs).
    RolledOut {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
    },
    /// How it was before the deployment.
    BaselineTaken {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
        /// One for each signal that has one by now.
        baselines: BTreeMap<SignalName, Baseline>,
    },
    /// The judge found something. Each of a deployment calls for more than the one before, or is more severe.
    VerdictReached {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
        /// What it found.
        verdict: Verdict,
        /// Operators are asked what is to be done about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        question: Option<Question>,
    },
    /// Somebody says that an impact is there, or an alert does, or says so again.
    ImpactDeclared {
        /// The service.
        service: ServiceName,
        /// The deployment that it is about.
        deployment: DeploymentId,
        /// What they say.
        declaration: Declaration,
    },
    /// It is over, or was said in error.
    ImpactWithdrawn {
        /// The service.
        service: ServiceName,
        /// The deployment that it was about.
        deployment: DeploymentId,
        /// What was said.
        declaration: Declaration,
        /// By whose word: a person, the alert itself, or the daemon when nothing was heard of the alert any more.
        by: Actor,
        /// When it was over.
        ended: Timestamp,
    },
    /// A question to operators has its answer.
    QuestionAnswered {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
        /// What is to be done.
        choice: Choice,
        /// Who said so: a person, or the daemon when the time was up.
        by: Actor,
        /// Why, in their words.
        reason: String,
    },
    /// A guard stands in the way of the rollback that a verdict calls for. Written once for each reason.
    RollbackRefused {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
        /// Which guard, with its numbers.
        refusal: Refusal,
    },
    /// Operators are warned of what the matrix does not answer. Once for each kind of a deployment, and again only of what is worse.
    Warned {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
        /// Of what, with its numbers.
        warning: Warning,
    },
    /// A rollback is going to happen. Durable before its effect may start.
    RollbackPlanned {
        /// All of it.
        plan: Plan,
    },
    /// The effect of a plan is known to have happened.
    RollbackApplied {
        /// The service.
        service: ServiceName,
        /// The plan.
        plan: PlanId,
        /// What the effect left behind: the workload's new binding.
        binding: Binding,
    },
    /// The target of a plan is rolled out: what runs is what was asked for.
    RollbackRolledOut {
        /// The service.
        service: ServiceName,
        /// The plan.
        plan: PlanId,
    },
    /// A rollback ended.
    RollbackEnded {
        /// The service.
        service: ServiceName,
        /// The plan.
        plan: PlanId,
        /// How.
        outcome: Outcome,
    },
    /// The service stayed well after a rollback.
    AllClear {
        /// The service.
        service: ServiceName,
        /// The plan.
        plan: PlanId,
    },
    /// A deployment passed its whole window and proved itself.
    WindowPassed {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
        /// ln G of the weakest signal.
        log_evidence: f64,
    },
    /// A window ended without evidence either way: the version stays, is not promoted, and is watched on.
    WindowExtended {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
        /// Until when.
        until: Timestamp,
        /// What lacked.
        lacks: Vec<Lack>,
    },
    /// A window ended while a verdict stood and nothing could be done about it.
    WindowFailed {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
    },
    /// A deployment left its window because another one arrived.
    Superseded {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
    },
    /// A version got a mark.
    Marked {
        /// The service.
        service: ServiceName,
        /// The version.
        version: VersionId,
        /// The mark.
        mark: Mark,
        /// Who set it.
        by: Actor,
        /// Why.
        reason: MarkReason,
    },
    /// A person paused automatic rollbacks.
    Held {
        /// Of what.
        scope: Scope,
        /// Who.
        by: Actor,
        /// Why, in their words.
        reason: String,
        /// It ends by itself then.
        until: Option<Timestamp>,
    },
    /// The pause is over.
    Resumed {
        /// Of what.
        scope: Scope,
        /// Who.
        by: Actor,
    },
    /// Many services went bad together: no automatic rollback anywhere until it is released.
    BrakeTripped {
        /// Which.
        services: BTreeSet<ServiceName>,
    },
    /// Automatic rollbacks are allowed again.
    BrakeReleased {
        /// Who: the daemon after calm, or a person.
        by: Actor,
    },
    /// A source of a service that is in its window gives nothing.
    Blinded {
        /// The service.
        service: ServiceName,
        /// The signal.
        signal: SignalName,
        /// Why.
        missing: Missing,
        /// Since when.
        since: Timestamp,
    },
    /// It gives again.
    Sighted {
        /// The service.
        service: ServiceName,
        /// The signal.
        signal: SignalName,
    },
    /// A notice arrived at a destination.
    NoticeDelivered {
        /// The ledger number of the entry that the notice tells of.
        notice: u64,
        /// The destination's name.
        destination: String,
    },
    /// A notice can't be delivered: the destination refused it for good, or too much time passed.
    NoticeAbandoned {
        /// The ledger number of the entry that the notice tells of.
        notice: u64,
        /// The destination's name.
        destination: String,
        /// Why.
        why: String,
    },
}
