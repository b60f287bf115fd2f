//! What is guarded: a service, its signals, and the policy it is judged by. Validated; the raw text lives in `rollbackd::config`.

use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::severity::{Impact, Matrix};

/// The name of a service: 1 to 63 characters of `a-z`, `0-9`, `-`, `_` and `.`, beginning with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// A text that can't be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: 1 to 63 characters of a-z, 0-9, '-', '_' and '.', beginning with a letter or a digit")]
pub struct NotAName(pub String);

impl ServiceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServiceName {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        let begins_well = text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
        if begins_well && text.len() <= 63 && text.bytes().all(good) { Ok(Self(text)) } else { Err(NotAName(text)) }
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = NotAName;

    fn try_from(text: &str) -> Result<Self, NotAName> {
        Self::try_from(text.to_owned())
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The name of a signal within its service: `errors`, `probe.ready`, `platform`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignalName(pub String);

impl SignalName {
    /// The platform's own word on the workload: replicas, restarts, rollout.
    #[must_use]
    pub fn platform() -> Self {
        Self("platform".to_owned())
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What kind of series a signal is, and so which lens weighs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalKind {
    /// Rounds of HTTP probes (DECISION 2.3).
    Probe,
    /// Counters of all and of failed requests (DECISION 2.2).
    Errors,
    /// A histogram of durations (DECISION 2.4).
    Latency,
    /// A question of the operator's own: while it has an answer, the impact is there.
    Query {
        /// The row of the matrix that it stands for.
        impact: Impact,
        /// How long it must have an answer without a break.
        lasting: SignedDuration,
    },
}

/// What a signal is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// How the service itself is.
    #[default]
    Own,
    /// How others are that suffer from what the service didn't cause: its neighbours, what it depends on. Never a reason to roll back, only
    /// one not to (DECISION 2.6).
    Control,
}

/// A signal as the judge needs to know it; how it is read is the adapter's business.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignalPolicy {
    /// Which lens weighs it.
    pub kind: SignalKind,
    /// What it is asked for; of the service itself unless it says otherwise.
    #[serde(default)]
    pub role: Role,
    /// The time from one look to the next; at least 100 ms.
    pub every: SignedDuration,
    /// Whether the source can be asked for the time before the daemon looked (Prometheus can, a probe can't).
    pub has_history: bool,
    /// Where the readings come from, for messages: `prometheus main`, `http://checkout.shop.svc/healthz`.
    pub source: String,
}

impl SignalPolicy {
    /// As many rounds of probes are remembered: a day of the default cadence. A healthy service is one run of equal rounds, so it costs
    /// nothing, and only a long calm history lets an outage be told after six rounds (DECISION 2.3).
    const REMEMBERED_ROUNDS: i32 = 17_280;

    /// The rows of the matrix that this signal tells by itself.
    #[must_use]
    pub fn tells(&self) -> Vec<Impact> {
        match (self.role, self.kind) {
            (Role::Control, _) => Vec::new(),
            (Role::Own, SignalKind::Probe) => vec![Impact::CompleteOutage, Impact::ErrorRatio],
            (Role::Own, SignalKind::Errors) => vec![Impact::CompleteOutage, Impact::ErrorRatio, Impact::FeatureBroken],
            (Role::Own, SignalKind::Latency) => vec![Impact::Performance],
            (Role::Own, SignalKind::Query { impact, .. }) => vec![impact],
        }
    }

    /// The history that this signal's baseline is taken from.
    #[must_use]
    pub fn history(&self, decision: &Decision) -> SignedDuration {
        match self.kind {
            SignalKind::Errors | SignalKind::Latency | SignalKind::Query { .. } => decision.history,
            SignalKind::Probe => self.every.saturating_mul(Self::REMEMBERED_ROUNDS),
        }
    }
}

/// How far back a rollback goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restore {
    /// The whole pod template.
    #[default]
    Template,
    /// The container images only; everything else of the template stays as it is.
    Image,
}

/// The settings of the judge. Durations are positive. Defaults are those of DECISION section 6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The time after the start of a deployment in which counters say nothing yet. Default 60 s.
    pub grace: SignedDuration,
    /// How long obvious trouble (crash loop, image that can't be pulled, no replica left of a version that was ready) may last, and from
    /// when on probes count that never passed unless the platform says more. Default 60 s.
    pub startup_deadline: SignedDuration,
    /// How long a rollout may take to become ready when nothing else is wrong. Default 10 min.
    pub ready_deadline: SignedDuration,
    /// How long a complete outage in traffic must persist. Default 60 s.
    pub hold_p0: SignedDuration,
    /// How long an error ratio of P1 must persist. Default 120 s.
    pub hold_p1: SignedDuration,
    /// How long a P2 error ratio must persist. Default 120 s.
    pub hold_p2: SignedDuration,
    /// How long a slowdown must persist. Default 3 min.
    pub hold_latency: SignedDuration,
    /// How many rounds an outage must last that probes see. Default 6, at most 60.
    pub hold_probe_rounds: u32,
    /// The history that a baseline of counters is taken from. Default 24 h, at most 7 d.
    pub history: SignedDuration,
    /// The probability per class and signal of a false alarm. Default 1e-4.
    pub alpha: f64,
}

impl Default for Decision {
    fn default() -> Self {
        Self {
            grace: SignedDuration::from_secs(60),
            startup_deadline: SignedDuration::from_secs(60),
            ready_deadline: SignedDuration::from_mins(10),
            hold_p0: SignedDuration::from_secs(60),
            hold_p1: SignedDuration::from_secs(120),
            hold_p2: SignedDuration::from_secs(120),
            hold_latency: SignedDuration::from_mins(3),
            hold_probe_rounds: 6,
            history: SignedDuration::from_hours(24),
            alpha: 1e-4,
        }
    }
}

/// How a rollback is proved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// How long recovery may take once the target is rolled out. Default 10 min.
    pub timeout: SignedDuration,
    /// How long the rollback itself may take to be rolled out. Default 10 min.
    pub rollout_timeout: SignedDuration,
    /// How long the service is watched after it recovered, before the all-clear. Default 15 min.
    pub watch: SignedDuration,
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            timeout: SignedDuration::from_mins(10),
            rollout_timeout: SignedDuration::from_mins(10),
            watch: SignedDuration::from_mins(15),
        }
    }
}

/// One service and everything its guarding depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, unique in the configuration.
    pub name: ServiceName,
    /// The environment it runs in: `production`.
    pub environment: String,
    /// Where it runs, for messages: `kubernetes shop/checkout`.
    pub platform: String,
    /// The time after a deployment in which it is watched. Default 30 min; outlasts the longest `within` of the matrix that rolls back.
    pub window: SignedDuration,
    /// Its signals.
    pub signals: BTreeMap<SignalName, SignalPolicy>,
    /// Which impact has which severity and response.
    pub matrix: Matrix,
    /// The judge's settings.
    pub decision: Decision,
    /// How a rollback is proved.
    pub verification: Verification,
    /// How far back a rollback goes.
    pub restore: Restore,
    /// Decide and tell, but change nothing.
    pub dry_run: bool,
    /// Whether passing probes alone prove health. True where a service has no other signal.
    pub promote_on_probes: bool,
    /// Automatic rollbacks allowed in 24 h. Default 3.
    pub rollbacks_per_day: u32,
}
