//! The severity matrix: which impact has which severity and response. It is data, total over the impacts; the default is PRODUCT section 2.

use std::fmt;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// The service, its data or its users are at stake now.
    P0,
    /// Badly degraded.
    P1,
    /// Partly broken.
    P2,
    /// A blemish.
    P3,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// What is done about it; what does most comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Go back to the last known good version, automatically.
    RollBack,
    /// Ask an operator.
    Ask,
    /// Tell, and do nothing: fix forward.
    Notify,
}

/// The answer to a question that the matrix says to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// What was deployed stays.
    #[default]
    Keep,
    /// Go back to the last known good version.
    RollBack,
}

/// What a failing check stands for: a row of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// Nothing works.
    CompleteOutage,
    /// Data is being damaged.
    DataCorruption,
    /// Somebody gets at what they must not.
    SecurityBreach,
    /// More than half of the requests fail.
    ErrorRatio,
    /// More than half slower.
    Performance,
    /// One feature is broken.
    FeatureBroken,
    /// A small fault.
    MinorFault,
}

impl Impact {
    /// All of them, worst first.
    pub const ALL: [Self; 7] = [
        Self::CompleteOutage,
        Self::DataCorruption,
        Self::SecurityBreach,
        Self::ErrorRatio,
        Self::Performance,
        Self::FeatureBroken,
        Self::MinorFault,
    ];

    /// Its key in the configuration: `error_ratio`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::CompleteOutage => "complete_outage",
            Self::DataCorruption => "data_corruption",
            Self::SecurityBreach => "security_breach",
            Self::ErrorRatio => "error_ratio",
            Self::Performance => "performance",
            Self::FeatureBroken => "feature_broken",
            Self::MinorFault => "minor_fault",
        }
    }
}

impl fmt::Display for Impact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CompleteOutage => "complete outage",
            Self::DataCorruption => "data corruption",
            Self::SecurityBreach => "security breach",
            Self::ErrorRatio => "error ratio too high",
            Self::Performance => "performance degraded",
            Self::FeatureBroken => "single feature broken",
            Self::MinorFault => "minor fault",
        })
    }
}

/// One row of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// How bad it is.
    pub severity: Severity,
    /// What is done about it.
    pub response: Response,
    /// The level above which it is so, for the rows that have one: a share of requests, or a share of slowness. 0 to 1.
    pub above: Option<f64>,
    /// From onset to recovery; zero means at once. `None`: nothing is promised.
    pub within: Option<SignedDuration>,
    /// Where operators are asked: how long their answer is waited for. Default 30 min.
    #[serde(default = "Row::default_answer_within")]
    pub answer_within: SignedDuration,
    /// Where operators are asked: what is done when none of them answers in time. Default: it stays.
    #[serde(default)]
    pub answer_default: Choice,
}

impl Row {
    const fn default_answer_within() -> SignedDuration {
        SignedDuration::from_mins(30)
    }
}

/// The whole matrix, a row for each impact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Nothing works.
    pub complete_outage: Row,
    /// Data is being damaged.
    pub data_corruption: Row,
    /// Somebody gets at what they must not.
    pub security_breach: Row,
    /// More than `above` of the requests fail. Default 0.5.
    pub error_ratio: Row,
    /// More than `above` slower. Default 0.5.
    pub performance: Row,
    /// One feature is broken: more than `above` of the requests fail. Default 0.05.
    pub feature_broken: Row,
    /// A small fault.
    pub minor_fault: Row,
}

impl Default for Matrix {
    fn default() -> Self {
        let row = |severity, response, above, within| Row {
            severity,
            response,
            above,
            within,
            answer_within: Row::default_answer_within(),
            answer_default: Choice::Keep,
        };
        let at_once = row(Severity::P0, Response::RollBack, None, Some(SignedDuration::ZERO));
        let within = |minutes, above| row(Severity::P1, Response::RollBack, Some(above), Some(SignedDuration::from_mins(minutes)));
        Self {
            complete_outage: at_once,
            data_corruption: at_once,
            security_breach: at_once,
            error_ratio: within(15, 0.5),
            performance: within(30, 0.5),
            feature_broken: row(Severity::P2, Response::Ask, Some(0.05), None),
            minor_fault: row(Severity::P3, Response::Notify, None, None),
        }
    }
}

impl Matrix {
    /// The row of an impact.
    #[must_use]
    pub const fn row(&self, impact: Impact) -> &Row {
        match impact {
            Impact::CompleteOutage => &self.complete_outage,
            Impact::DataCorruption => &self.data_corruption,
            Impact::SecurityBreach => &self.security_breach,
            Impact::ErrorRatio => &self.error_ratio,
            Impact::Performance => &self.performance,
            Impact::FeatureBroken => &self.feature_broken,
            Impact::MinorFault => &self.minor_fault,
        }
    }

    /// The row of an impact, to edit.
    pub const fn row_mut(&mut self, impact: Impact) -> &mut Row {
        match impact {
            Impact::CompleteOutage => &mut self.complete_outage,
            Impact::DataCorruption => &mut self.data_corruption,
            Impact::SecurityBreach => &mut self.security_breach,
            Impact::ErrorRatio => &mut self.error_ratio,
            Impact::Performance => &mut self.performance,
            Impact::FeatureBroken => &mut self.feature_broken,
            Impact::MinorFault => &mut self.minor_fault,
        }
    }
}
