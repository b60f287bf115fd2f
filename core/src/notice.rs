//! Notices: entries in words. The one place where a sentence is made for an operator.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::service::ServiceName;
use crate::severity::Severity;

/// At which turn a notice is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// Something is wrong with a deployment.
    Detected,
    /// A rollback begins.
    RollingBack,
    /// It helped.
    Recovered,
    /// It did not help.
    DidNotHelp,
    /// It could not be carried out.
    Failed,
    /// The service stayed well.
    AllClear,
    /// A guard stands in the way.
    Blocked,
    /// A person has to decide.
    ApprovalWanted,
    /// A source is down.
    Blind,
    /// It is up again.
    Sighted,
    /// A plan lost its ground, because somebody deployed or changed the workload.
    Stopped,
    /// An operator did something that the others should know: hold, resume.
    Operator,
}

/// One message to operators. Its content never changes, whenever and however often it is made anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Stable and unique: the same at every attempt and after a restart. `k3f9a2b1-17`.
    pub id: String,
    /// The incident it belongs to, stable and unique: notices of one deployment share it. The first one's id starts the thread.
    pub incident: String,
    /// Whether it is the first of its incident.
    pub opens_incident: bool,
    /// The turn.
    pub kind: NoticeKind,
    /// How bad, where that is known.
    pub severity: Option<Severity>,
    /// The service; none for what concerns all of them.
    pub service: Option<ServiceName>,
    /// Its environment.
    pub environment: String,
    /// When it happened.
    pub at: Timestamp,
    /// One line, the first thing that is read at three in the morning: `checkout: rolled back to shop:v1, recovered`. At most 150 characters.
    pub headline: String,
    /// What happened and why, a sentence or two each.
    pub paragraphs: Vec<String>,
    /// The facts: label and value.
    pub facts: Vec<(String, String)>,
    /// What to do or where to look next: a sentence, and a command to copy where there is one.
    pub next: Vec<(String, Option<String>)>,
}
use crate::entry::Record;
use crate::lifecycle::State;
/// Makes the notice.
pub fn of(_state: &State, _record: &Record) -> Option<Notice> { None }
