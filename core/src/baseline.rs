//! How it was before the deployment: a summary, small enough to be recorded.

use serde::{Deserialize, Serialize};

/// The summary of one signal before a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Of a counter pair.
    Errors {
        /// Requests in the history.
        requests: f64,
        /// Failed ones.
        failed: f64,
    },
    /// Of probe rounds.
    Probe {
        /// Rounds in the history.
        rounds: u32,
        /// Rounds in which all targets failed.
        all_failed: u32,
    },
}

impl std::fmt::Display for Baseline {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Errors { requests, failed } => write!(formatter, "{failed:.0} of {requests:.0} requests failed"),
            Self::Probe { rounds, all_failed } => write!(formatter, "{all_failed} of {rounds} rounds failed"),
        }
    }
}
