//! What a check says (finding), and what the matrix makes of all findings (verdict). Data with its numbers; words are made in `notice`.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::observation::{Missing, Trouble};
use crate::service::SignalName;
use crate::severity::{Impact, Response, Severity};

/// What one check on one signal says now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The signal.
    pub signal: SignalName,
    /// The row of the matrix that it would stand for.
    pub impact: Impact,
    /// What the check says.
    pub state: FindingState,
    /// The numbers behind it, for checks that weigh evidence.
    pub numbers: Option<Numbers>,
}

/// The three things a check can say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// Nothing speaks for this impact.
    Passing,
    /// All gates are passed: this impact is there.
    Failing(Failure),
    /// Nothing can be said, and why. Never a reason to roll back.
    Inconclusive(Inconclusive),
}

/// Why a check fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The evidence weighs enough and passed every gate; see the numbers.
    Evidence,
    /// Containers end again and again, and none is ready.
    CrashLoop(Trouble),
    /// The version can't start at all: its image can't be pulled, or its replicas are not admitted.
    CannotStart(Trouble),
    /// No replica of the version became ready in time.
    NeverReady {
        /// How long it had.
        after: SignedDuration,
    },
    /// No replica of any version is available.
    NoReplica {
        /// For how long.
        since: SignedDuration,
    },
    /// The platform gave up the rollout; its words.
    ProgressDeadline(String),
    /// A question of the operator's own has an answer: what it is about, and its value.
    Answered {
        /// What it is about, of several the first.
        about: String,
        /// Its value.
        value: f64,
        /// For how long without a break.
        since: SignedDuration,
    },
    /// Somebody, or an alert, says so: who, and in which words.
    Declared {
        /// Who, or which alert.
        by: String,
        /// Their words.
        reason: String,
    },
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inconclusive {
    /// The source gives nothing.
    Missing(Missing),
    /// The grace time is not over.
    WarmingUp {
        /// When it ends.
        until: Timestamp,
    },
    /// Nobody asks the service anything.
    NoTraffic,
    /// The time before the deployment is not known (yet), so that nothing can be called worse.
    NoBaseline,
    /// It was so bad already before the deployment that this impact can't be told.
    NotTestable {
        /// The level that must be taken for granted.
        tolerance: f64,
    },
    /// There was no look at it yet.
    NotLooked,
    /// It began before the deployment, so that it is not its doing.
    BeganBefore {
        /// When it began.
        since: Timestamp,
    },
}

/// What the levels of a check are measured in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// A share, 0 to 1.
    #[default]
    Share,
    /// A mean duration in seconds.
    Seconds,
}

/// The numbers of a check that weighs evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// What the levels (`before`, `tolerance`, `severity`, `now`) are measured in.
    #[serde(default)]
    pub measure: Measure,
    /// The route that it is about, where it is one of several.
    #[serde(default)]
    pub route: Option<String>,
    /// The level before the deployment (an upper limit on it).
    pub before: f64,
    /// What is tolerated: the null boundary q.
    pub tolerance: f64,
    /// The level from which on this impact is there.
    pub severity: f64,
    /// The level now, over the trailing hold.
    pub now: Option<f64>,
    /// Requests, or rounds, that went into the evidence since the onset.
    pub count: f64,
    /// How many of them failed.
    pub failed: f64,
    /// The estimated onset.
    pub onset: Option<Timestamp>,
    /// Natural logarithm of the odds against "nothing changed".
    pub log_evidence: f64,
    /// What it has to reach.
    pub log_threshold: f64,
    /// How long it must persist.
    pub hold: SignedDuration,
    /// The first gate that is not passed; `None` when all are.
    pub waits_for: Option<Gate>,
    /// How long from an onset at this level to a decision, at the traffic since the grace time; `None` while there is none.
    #[serde(default)]
    pub expected_delay: Option<SignedDuration>,
    /// The level that others suffer too, where they do: what is not worse than that is not this service's fault.
    #[serde(default)]
    pub ambient: Option<f64>,
}

impl Numbers {
    /// What they say: it fails once it waits for no gate. Without a level of now nothing can be said, for the reason that `lacks` names.
    pub(crate) fn state_unless(&self, lacks: Inconclusive) -> FindingState {
        match (self.now, self.waits_for) {
            (None, _) => FindingState::Inconclusive(lacks),
            (Some(_), None) => FindingState::Failing(Failure::Evidence),
            (Some(_), Some(_)) => FindingState::Passing,
        }
    }
}

/// What stands between evidence and action (DECISION 2.2). Gates only ever remove rollbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The evidence weighs too little.
    Evidence,
    /// It doesn't persist over the hold.
    Persistence,
    /// It is not bad enough since its onset.
    Severity,
    /// The hold since the end of the grace time is not over.
    Hold,
    /// It began before the deployment, or others suffer from it as much.
    Attribution,
    /// There is much more to do than ever before, and that alone may make it slow.
    Load,
}

/// What the matrix makes of the findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The worst impact that is there.
    pub impact: Impact,
    /// Its severity.
    pub severity: Severity,
    /// What is to be done.
    pub response: Response,
    /// What was promised from onset to recovery.
    pub within: Option<SignedDuration>,
    /// When it began, by the best estimate.
    pub onset: Timestamp,
    /// The signal whose check failed.
    pub signal: SignalName,
    /// All findings at that moment, the failing ones among them.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// The finding that led to it.
    #[must_use]
    pub fn decisive(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| {
            finding.signal == self.signal && finding.impact == self.impact && matches!(finding.state, FindingState::Failing(_))
        })
    }
}
