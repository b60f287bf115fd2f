//! The evidence on one service: everything seen that has not been decided yet. It lives in memory only; after a restart it starts from
//! zero, which can delay a decision and never make a wrong one. Time is an argument everywhere.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::baseline::Baseline;
use crate::entry::DeploymentId;
use crate::observation::{Missing, Reading, Scrape, Workload};
use crate::plan::PlanId;
use crate::service::{Service, SignalName};
use crate::verdict::{Finding, Verdict};

/// A stretch of time that is not history, because a bad deployment or an incident made it what it was: from, to.
pub type Excluded = (Timestamp, Timestamp);

/// The evidence on one service.
#[derive(Debug)]
pub struct Evidence {}

/// Whether a deployment has proved itself (DECISION 2.8).
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// Every signal that can prove health has; the weakest evidence, as a natural logarithm.
    Proven {
        /// ln G of the weakest signal.
        log_evidence: f64,
    },
    /// Not enough is known, or something is suspect; the signals that still lack, each with what it lacks in words of data.
    Unproven(Vec<Lack>),
}

/// What a signal lacks for a proof.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// The source gives nothing.
    Missing(SignalName, Missing),
    /// Too few requests or rounds yet.
    Evidence {
        /// The signal.
        signal: SignalName,
        /// How many it had.
        count: f64,
        /// ln G so far.
        log_evidence: f64,
        /// What it has to reach.
        log_threshold: f64,
    },
    /// A check is failing or the odds against it are high.
    Suspect(SignalName),
    /// The rollout is not complete.
    Rollout,
}

/// A source that gives nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Blind {
    /// The signal.
    pub signal: SignalName,
    /// Why.
    pub missing: Missing,
    /// Since when.
    pub since: Timestamp,
}

impl Evidence {
    /// No evidence yet.
    #[must_use]
    pub fn new(_service: &Service) -> Self {
        Self {}
    }

    /// Takes in one look at a signal of the service. Unknown signals and readings of the wrong kind are ignored.
    pub fn observe(&mut self, _service: &Service, _signal: &SignalName, _reading: &Reading, _at: Timestamp) {
        todo!()
    }

    /// Takes in one look at the workload.
    pub fn observe_workload(&mut self, _service: &Service, _workload: &Workload, _at: Timestamp) {
        todo!()
    }

    /// The newest look at the workload, and when it was.
    #[must_use]
    pub fn workload(&self) -> Option<(&Workload, Timestamp)> {
        todo!()
    }

    /// The platform gives nothing any more.
    pub fn lose_workload(&mut self, _missing: Missing, _at: Timestamp) {
        todo!()
    }

    /// A baseline for a deployment that starts at `start`, from what the evidence itself remembers of the signal (at most the
    /// configured history). `None` when the source has a history of its own ([`Self::baseline_of_history`]).
    #[must_use]
    pub fn baseline(&self, _service: &Service, _signal: &SignalName, _start: Timestamp, _excluded: &[Excluded]) -> Option<Baseline> {
        todo!()
    }

    /// A baseline from raw samples that the source kept of the time before `start`.
    #[must_use]
    pub fn baseline_of_history(_service: &Service, _signal: &SignalName, _history: &Scrape, _start: Timestamp, _excluded: &[Excluded]) -> Baseline {
        todo!()
    }

    /// The deployment whose window is being weighed.
    #[must_use]
    pub fn watched(&self) -> Option<DeploymentId> {
        todo!()
    }

    /// Begins to weigh a deployment that started at `start`; what was weighed before is dropped, what is remembered of each signal stays.
    pub fn watch(&mut self, _service: &Service, _deployment: DeploymentId, _start: Timestamp, _now: Timestamp) {
        todo!()
    }

    /// Gives the watched deployment the baselines it lacked; those it has stay.
    pub fn set_baselines(&mut self, _service: &Service, _baselines: &BTreeMap<SignalName, Baseline>) {
        todo!()
    }

    /// Ends the weighing.
    pub fn unwatch(&mut self) {
        todo!()
    }

    /// What every check of the watched deployment says now.
    #[must_use]
    pub fn findings(&self, _service: &Service, _now: Timestamp) -> Vec<Finding> {
        todo!()
    }

    /// What the matrix makes of the findings: the worst failing one.
    #[must_use]
    pub fn verdict(&self, _service: &Service, _now: Timestamp) -> Option<Verdict> {
        todo!()
    }

    /// Whether the watched deployment has proved itself.
    #[must_use]
    pub fn health(&self, _service: &Service, _now: Timestamp) -> Health {
        todo!()
    }

    /// Begins to look for the proof that a rollback helped, from the moment its target was rolled out. `trigger` is the verdict that led
    /// to it (none when an operator asked), and the roles are swapped (DECISION 2.9).
    pub fn verify(&mut self, _service: &Service, _plan: PlanId, _trigger: Option<&Verdict>, _rolled_out: Timestamp) {
        todo!()
    }

    /// The plan whose proof is being looked for.
    #[must_use]
    pub fn verified(&self) -> Option<PlanId> {
        todo!()
    }

    /// What still lacks for the proof that the rollback helped; empty when it is proved.
    #[must_use]
    pub fn recovery(&self, _service: &Service, _now: Timestamp) -> Vec<Lack> {
        todo!()
    }

    /// Ends the looking for a proof.
    pub fn unverify(&mut self) {
        todo!()
    }

    /// The sources that have given nothing for longer than `after`.
    #[must_use]
    pub fn blind(&self, _service: &Service, _now: Timestamp, _after: SignedDuration) -> Vec<Blind> {
        todo!()
    }
}
