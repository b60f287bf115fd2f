//! Impacts that somebody says are there: a person, a tool, or an alert. They are not weighed, a word is a word; all that is asked of an alert
//! is that what it saw began with the deployment. How alerts are understood is `alert`; what follows from a word is `decide`, as from
//! everything that is found.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::entry::Actor;
use crate::lifecycle::Deployment;
use crate::service::{Service, SignalName};
use crate::severity::{Choice, Impact, Response, Severity};
use crate::verdict::{Failure, Finding, FindingState, Inconclusive, Verdict};

/// The word that an impact is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declaration {
    /// The row of the matrix that it names.
    pub impact: Impact,
    /// Who says so.
    pub by: Actor,
    /// Why, in their words.
    pub reason: String,
    /// When it began, as far as they know.
    pub since: Timestamp,
    /// The alert that says so; none where a person does.
    #[serde(default)]
    pub alert: Option<Firing>,
}

/// What is known of a firing alert beyond its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    /// Which one it is: the same for every delivery of it.
    pub fingerprint: String,
    /// When it began to fire, by its own word.
    pub fired: Timestamp,
    /// It is over then, unless it is heard of again.
    pub until: Timestamp,
}

/// What tells declarations of one impact apart: one word of persons, and one of each alert.
pub type Fingerprint = Option<String>;

impl Declaration {
    /// Which alert it is; none for a person's word.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.alert.as_ref().map(|firing| firing.fingerprint.clone())
    }

    /// The name that the word has among the signals: `declared`, or `alert.NAME`.
    #[must_use]
    pub fn signal(&self) -> SignalName {
        match (&self.alert, &self.by) {
            (Some(_), Actor::Alert(name)) => alert_signal(name),
            _ => SignalName("declared".to_owned()),
        }
    }
}

/// What an alert is called among the signals.
fn alert_signal(name: &str) -> SignalName {
    SignalName(format!("{ALERT}{name}"))
}

const ALERT: &str = "alert.";

/// The alert behind a signal, if it is one.
#[must_use]
pub fn alert_of(signal: &SignalName) -> Option<&str> {
    signal.0.strip_prefix(ALERT)
}

/// A declaration, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// The newest word.
    pub declaration: Declaration,
    /// When it was first recorded.
    pub at: Timestamp,
    /// When it was over, and by whose word.
    pub ended: Option<(Timestamp, Actor)>,
}

impl Declared {
    /// Whether the word stands.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether this is the word of the same alert (or of persons) on the same impact.
    #[must_use]
    pub fn is(&self, impact: Impact, alert: &Fingerprint) -> bool {
        self.declaration.impact == impact && self.declaration.fingerprint() == *alert
    }
}

/// A question to operators, and what is done when nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// An answer is waited for until then.
    pub until: Timestamp,
    /// What is done after that.
    pub otherwise: Choice,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What is to be done.
    pub choice: Choice,
    /// Who said so: a person, or the daemon when the time was up.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// How bad it was; of nothing better is asked again.
    pub severity: Severity,
}

/// Declarations that are kept of one deployment.
pub const KEPT: usize = 50;

/// The word that is open about this, if there is one.
#[must_use]
pub fn open<'a>(deployment: &'a Deployment, impact: Impact, alert: &Fingerprint) -> Option<&'a Declared> {
    deployment.declared.iter().find(|declared| declared.is_open() && declared.is(impact, alert))
}

/// What is declared of a deployment, as findings. What an alert saw before the deployment was there is not its doing.
#[must_use]
pub fn findings(deployment: &Deployment) -> Vec<Finding> {
    let open = deployment.declared.iter().filter(|declared| declared.is_open()).map(|declared| &declared.declaration);
    open.map(|declaration| {
        let state = if began_before(deployment, declaration) {
            FindingState::Inconclusive(Inconclusive::BeganBefore { since: declaration.since })
        } else {
            FindingState::Failing(Failure::Declared { by: declaration.by.to_string(), reason: declaration.reason.clone() })
        };
        Finding { signal: declaration.signal(), impact: declaration.impact, state, numbers: None }
    })
    .collect()
}

/// Until what a rollback brings is rolled out, what it undoes may still make alerts fire.
fn began_before(deployment: &Deployment, declaration: &Declaration) -> bool {
    let from = if deployment.rollback_of().is_some() { deployment.watched_from } else { deployment.not_before };
    declaration.alert.is_some() && declaration.since < from
}

/// The verdict on a deployment: what was weighed, and what is declared. `weighed` has all findings of the evidence.
#[must_use]
pub fn judge(policy: &Service, deployment: &Deployment, weighed: Option<Verdict>, others: Vec<Finding>, now: Timestamp) -> Option<Verdict> {
    let declared = findings(deployment);
    let order = |impact| (policy.matrix.row(impact).response, policy.matrix.row(impact).severity, impact);
    let failing = declared.iter().filter(|finding| matches!(finding.state, FindingState::Failing(_)));
    let worst = failing.min_by_key(|finding| order(finding.impact)).map(|finding| (finding.impact, finding.signal.clone()));
    match (weighed, worst) {
        (weighed, None) => weighed,
        (Some(mut weighed), Some((impact, _))) if order(weighed.impact) <= order(impact) => {
            weighed.findings.extend(declared);
            Some(weighed)
        }
        (_, Some((impact, signal))) => {
            let row = policy.matrix.row(impact);
            let said = deployment.declared.iter().filter(|said| said.is_open() && said.declaration.impact == impact);
            let onset = said.filter(|said| said.declaration.signal() == signal).map(|said| said.declaration.since).min();
            Some(Verdict {
                impact,
                severity: row.severity,
                response: row.response,
                within: row.within,
                onset: onset.unwrap_or(now).min(now),
                signal,
                findings: others.into_iter().chain(declared).collect(),
            })
        }
    }
}

/// The signals that speak against a proof because somebody says that something is wrong. A blemish is none, nor is what a person has judged.
#[must_use]
pub fn suspects(policy: &Service, deployment: &Deployment) -> Vec<SignalName> {
    let counts = |said: &&Declared| {
        let declaration = &said.declaration;
        let is_blemish = policy.matrix.row(declaration.impact).response == Response::Notify;
        said.is_open() && !is_blemish && !began_before(deployment, declaration) && !is_judged(policy, deployment, said)
    };
    deployment.declared.iter().filter(counts).map(|said| said.declaration.signal()).collect()
}

/// Whether a person knew of it and let the deployment stay: then it is their judgement, and no longer speaks against a proof. That nobody
/// answered in time is no judgement.
#[must_use]
pub fn is_judged(policy: &Service, deployment: &Deployment, said: &Declared) -> bool {
    let row = policy.matrix.row(said.declaration.impact);
    row.response == Response::Ask
        && deployment.answered.as_ref().is_some_and(|answered| {
            let by_a_person = answered.by != Actor::Daemon;
            by_a_person && answered.choice == Choice::Keep && said.at <= answered.at && answered.severity <= row.severity
        })
}

/// The question that a verdict of this severity asks, if the matrix says so and it was not answered before.
#[must_use]
pub fn question(policy: &Service, deployment: &Deployment, verdict: &Verdict, now: Timestamp) -> Option<Question> {
    let answered = deployment.answered.as_ref().is_some_and(|answered| answered.severity <= verdict.severity);
    let row = policy.matrix.row(verdict.impact);
    (verdict.response == Response::Ask && !answered).then(|| Question {
        until: now.saturating_add(row.answer_within.max(SignedDuration::ZERO)).unwrap_or(Timestamp::MAX),
        otherwise: row.answer_default,
    })
}

impl Deployment {
    /// Whether somebody says that something is wrong with it.
    #[must_use]
    pub fn is_declared(&self) -> bool {
        self.declared.iter().any(Declared::is_open)
    }

    /// Takes in a word. One that stands already lives on as long as the new one.
    pub(crate) fn declare(&mut self, declaration: &Declaration, at: Timestamp) {
        let alert = declaration.fingerprint();
        let known = self.declared.iter_mut().find(|known| known.is_open() && known.is(declaration.impact, &alert));
        match known {
            Some(known) => known.declaration.clone_from(declaration),
            None => self.keep(Declared { declaration: declaration.clone(), at, ended: None }),
        }
    }

    /// Ends a word. One that was never heard is remembered as over, so that a late delivery doesn't begin it.
    pub(crate) fn withdraw(&mut self, declaration: &Declaration, by: &Actor, ended: Timestamp, at: Timestamp) {
        let alert = declaration.fingerprint();
        let known = self.declared.iter_mut().find(|known| known.is_open() && known.is(declaration.impact, &alert));
        match known {
            Some(known) => known.ended = Some((ended, by.clone())),
            None => self.keep(Declared { declaration: declaration.clone(), at, ended: Some((ended, by.clone())) }),
        }
        let rested_on_it = self.verdict.as_ref().is_some_and(|(_, verdict)| {
            let signal = declaration.signal();
            verdict.signal == signal && verdict.impact == declaration.impact && !self.says(declaration.impact, &signal)
        });
        if rested_on_it && self.status.may_be_bad() {
            self.found_before.extend(self.verdict.take());
            self.refusal = None;
            self.question = None;
        }
    }

    fn says(&self, impact: Impact, signal: &SignalName) -> bool {
        let mut open = self.declared.iter().filter(|declared| declared.is_open()).map(|declared| &declared.declaration);
        open.any(|open| open.impact == impact && open.signal() == *signal)
    }

    /// Forgets the oldest that is over, or the oldest.
    fn keep(&mut self, declared: Declared) {
        if self.declared.len() >= KEPT {
            let oldest = self.declared.iter().position(|declared| !declared.is_open()).unwrap_or(0);
            self.declared.remove(oldest);
        }
        self.declared.push(declared);
    }
}
