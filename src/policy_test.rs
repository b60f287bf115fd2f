//! Policy tests: made-up series in, the verdicts of the very judge that the daemon runs out, compared with what was expected. Virtual time
//! only. The file that they stand in is read by `config::policy_test`, and what is printed is made by the command.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use rollbackd_core::guard::Refusal;
use rollbackd_core::service::{Service, SignalName};
use rollbackd_core::severity::{Impact, Response, Severity};
use rollbackd_core::verdict::Finding;

pub mod notation;
pub mod feed;
pub mod wiring;
mod play;
mod explanation;
#[cfg(test)]
mod stories;

pub use explanation::{key as response_key, moment};
use feed::Feed;
use play::Played;

/// One test: a service, what is made up of it, and what is expected of its judge. All times count from the begin of the series.
#[derive(Clone, Debug)]
pub struct Test {
    /// What it is called.
    pub name: String,
    /// Where it stands in its file; the first line is 1.
    pub line: usize,
    /// The service, with what the test changes of its policy.
    pub service: Service,
    /// When a new version was deployed each time, in order. At least one.
    pub deployed: Vec<SignedDuration>,
    /// How long the version before runs beside each.
    pub rollout: SignedDuration,
    /// What is read of each signal; those that it lacks are never looked at.
    pub feeds: BTreeMap<SignalName, Feed>,
    /// What is expected. At least one.
    pub expectations: Vec<Expectation>,
}

/// What is expected at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// Where it stands in its file; the first line is 1.
    pub line: usize,
    /// When. Before the next deployment, if there is one.
    pub at: SignedDuration,
    /// Of which deployment; the first is 0.
    pub deployment: usize,
    /// What.
    pub verdict: Expected,
    /// How bad, where that matters.
    pub severity: Option<Severity>,
    /// What is done about it, where that matters.
    pub response: Option<Response>,
    /// Which signal sees it, where that matters.
    pub signal: Option<SignalName>,
    /// Not reached earlier than that.
    pub not_before: Option<SignedDuration>,
}

/// What the judge is expected to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This row of the matrix was reached.
    Impact(Impact),
    /// Nothing was reached, and every signal that the test feeds is understood.
    None,
    /// Nothing was reached, and of at least one signal nothing can be said.
    Inconclusive,
}

impl Expected {
    /// As the file names it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Impact(impact) => impact.key(),
            Self::None => "none",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// What the judge says. What was reached for a deployment stays reached: the daemon has acted on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Got {
    /// Of all that was reached what does most, or why there is nothing.
    pub verdict: Expected,
    /// How bad.
    pub severity: Option<Severity>,
    /// What is done about it.
    pub response: Option<Response>,
    /// Which signal saw it.
    pub signal: Option<SignalName>,
    /// When it was reached.
    pub reached: Option<SignedDuration>,
    /// The guard that stands in the way of a rollback, if one does. A dry run is none: it says what would be done.
    pub refusal: Option<Refusal>,
}

/// What came of one expectation.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the judge says.
    pub got: Got,
    /// Why that is not what was expected, a sentence each; empty when it is.
    pub why: Vec<String>,
    /// What every check said at that time.
    pub findings: Vec<Finding>,
}

impl Outcome {
    /// Whether it is as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.why.is_empty()
    }
}

/// Plays a test, and gives the outcome of each expectation.
#[must_use]
pub fn run(test: &Test) -> Vec<Outcome> {
    let played = Played::of(test);
    test.expectations
        .iter()
        .map(|expectation| {
            let got = played.got(test, expectation);
            let why = explanation::differences(test, expectation, &got, &played);
            Outcome { why, findings: played.findings(expectation.at).to_vec(), got }
        })
        .collect()
}
