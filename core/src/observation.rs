//! What the edge saw: one look at a workload, a round of probes, raw samples of counters, or the reason why there is nothing.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::plan::EffectRecord;
use crate::version::{Artifact, ChangeKind, Version};
use crate::words;

/// What an effect is bound to: it may only change exactly this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// A Kubernetes object at one generation.
    Object {
        /// `metadata.uid`.
        uid: String,
        /// `metadata.generation`: grows on every change of the spec and on no change of the status.
        generation: i64,
    },
    /// A platform without generations: the version that was read just before.
    Version(String),
}

/// How far the rollout of the present version is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rollout {
    /// Not finished.
    Progressing,
    /// Every replica runs the version and is available, none of another version is left, and the platform has seen the newest specification.
    Complete,
    /// The platform itself gave up; its words.
    Failed(String),
}

/// Counts of replicas. All of the present version unless said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicas {
    /// How many are wanted.
    pub desired: u32,
    /// How many run the present version.
    pub updated: u32,
    /// How many of those are ready.
    pub ready: u32,
    /// How many are available, of any version.
    pub available: u32,
}

/// Something that the platform says is wrong with the present version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Containers that end again and again.
    CrashLoop {
        /// How many replicas of the present version restarted at least three times and are not ready.
        replicas: u32,
        /// The most restarts of any one of them.
        restarts: u32,
        /// How the last one ended: `exit code 1`, `OOMKilled`.
        reason: String,
    },
    /// An image that can't be pulled.
    ImagePull {
        /// The image.
        image: String,
        /// The platform's words.
        message: String,
    },
    /// Replicas that the platform may not make: quota, admission.
    NotAdmitted {
        /// The platform's words.
        message: String,
    },
    /// Replicas that can't be placed on a node.
    Unschedulable {
        /// The platform's words.
        message: String,
    },
}

/// One look at a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// What is deployed, by the specification (not by what happens to run).
    pub version: Version,
    /// The copy that the ledger keeps, unless it is larger than [`Artifact::LIMIT`].
    pub artifact: Option<Artifact>,
    /// What an effect decided on this look is bound to.
    pub binding: Binding,
    /// How far the rollout is.
    pub rollout: Rollout,
    /// Counts of replicas.
    pub replicas: Replicas,
    /// Whether a replica counts as ready only once it answered a check of the platform's own, and not already when it was started.
    pub ready_is_checked: bool,
    /// What is wrong, by the platform's word.
    pub troubles: Vec<Trouble>,
    /// What a rollback left on the object, if one did.
    pub record: Option<EffectRecord>,
    /// What kind of change the workload says it carries, if it says so.
    pub change: Option<ChangeKind>,
    /// How long what is new in this look may have been there already: zero where the platform told of it at once, else at most the time from
    /// one look to the next.
    pub unseen_for: SignedDuration,
}

/// How one target answered a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// As expected, after this time.
    Passed {
        /// From the first byte sent to the answer judged.
        latency: SignedDuration,
    },
    /// The service is at fault; why, in words: `status 500, expected 200`, `connection refused`, `no answer within 2s`.
    Failed(String),
    /// Nothing can be said about the service: broken TLS, an endless answer, a name that doesn't resolve.
    Missing(Missing),
}

/// One round of a probe over all its targets. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRound {
    /// Each target's name (its address without userinfo and query) and how it answered.
    pub targets: Vec<(String, ProbeOutcome)>,
}

/// One sample of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When its source took it.
    pub at: Timestamp,
    /// What it counted; may be anything, the judge discards what is not a number.
    pub value: f64,
}

/// One series of a counter: the newest samples, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Its labels in canonical form; equal for equal series.
    pub id: String,
    /// The target (instance) it was scraped from; a `failed` series and its `total` share it.
    pub target: String,
    /// When the process that counts began, if that is known.
    pub process_started: Option<Timestamp>,
    /// The route (feature, endpoint) of its requests, where the signal tells them apart.
    #[serde(default)]
    pub route: Option<String>,
    /// Samples in order of time.
    pub samples: Vec<Sample>,
}

/// One histogram of durations at one moment: numbers that are finite and not negative, as its source gives no others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistogramSample {
    /// When its source took it.
    pub at: Timestamp,
    /// How many durations were counted.
    pub count: f64,
    /// Their sum, in seconds.
    pub sum: f64,
    /// How many of them were at most as long as each of the bounds; as many as there are bounds, none smaller than the one before.
    pub below: Vec<f64>,
}

/// One series of a histogram: the newest samples, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Its labels without `le` in canonical form; equal for equal series. Where its bounds change, the same series goes on with others, and
    /// nothing can be counted from the old ones to the new.
    pub id: String,
    /// The target (instance) it was scraped from.
    pub target: String,
    /// When the process that counts began, if that is known.
    pub process_started: Option<Timestamp>,
    /// The finite upper bounds of its buckets, in seconds, ascending, none negative; 1 to 64.
    pub bounds: Vec<f64>,
    /// Samples in order of time.
    pub samples: Vec<HistogramSample>,
}

/// Raw samples of the two counters of an error ratio, from the same scrapes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scrape {
    /// Series of all requests.
    pub total: Vec<Series>,
    /// Series of failed requests; empty where none has failed yet.
    pub failed: Vec<Series>,
}

/// Why there is no evidence. Never a reason to roll back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The source didn't answer: what was tried and how it failed.
    Unreachable(String),
    /// The source answered with an error.
    Refused(String),
    /// The answer can't be understood or isn't whole.
    Malformed(String),
    /// The source says itself that its answer isn't whole (Prometheus warnings).
    Partial(String),
    /// The answer is larger than it may be; the limit in bytes or series, in words.
    TooLarge(String),
    /// The query matches nothing.
    NoSeries(String),
    /// The newest sample is older than two looks.
    Stale {
        /// How old.
        age: SignedDuration,
    },
    /// The source keeps no history.
    NoHistory,
    /// It fails, and too little is known of the time before to say whether that is new.
    NoMeasure,
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(how) => write!(formatter, "source unreachable: {how}"),
            Self::Refused(how) => write!(formatter, "source refused: {how}"),
            Self::Malformed(how) => write!(formatter, "answer not understood: {how}"),
            Self::Partial(how) => write!(formatter, "partial answer: {how}"),
            Self::TooLarge(how) => write!(formatter, "answer too large: {how}"),
            Self::NoSeries(query) => write!(formatter, "no series match {query}"),
            Self::Stale { age } => write!(formatter, "newest sample is {} old", words::duration(*age)),
            Self::NoHistory => formatter.write_str("the source keeps no history"),
            Self::NoMeasure => {
                formatter.write_str("it fails all the time, and too little was seen before the deployment to say whether that is new")
            }
        }
    }
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// What it is about: its labels in canonical form, cut where they are long.
    pub id: String,
    /// Its value; finite.
    pub value: f64,
}

/// One look at a signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// A round of probes.
    Probe(ProbeRound),
    /// Raw samples of counters.
    Scrape(Scrape),
    /// Raw samples of histograms.
    Histograms(Vec<Histogram>),
    /// The answer to a question of the operator's own; empty where nothing is the matter.
    Answer(Vec<Answered>),
    /// Nothing, and why.
    Missing(Missing),
}
