//! Notices: entries in words. The one place where a sentence is made for an operator.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::declaration::{Declaration, Question};
use crate::entry::{Actor, Arrival, DeploymentId, Entry, Record, Scope};
use crate::evidence::Lack;
use crate::guard::Refusal;
use crate::lifecycle::{Deployment, Rollback, State};
use crate::observation::{Binding, Missing};
use crate::plan::{Cause, Obstacle, Outcome, Plan, PlanId, Void};
use crate::service::{Restore, ServiceName, SignalName};
use crate::severity::{Choice, Response, Severity};
use crate::verdict::{Finding, FindingState, Verdict};
use crate::version::{ChangeKind, Version};
use crate::words;

mod warning;
#[cfg(test)]
mod snapshots;

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
    /// It was decided, by a person or because the time was up.
    Answered,
    /// Nobody says any more that something is wrong.
    Withdrawn,
    /// A source is down.
    Blind,
    /// It is up again.
    Sighted,
    /// A plan lost its ground, because somebody deployed or changed the workload.
    Stopped,
    /// A window ended, and the version is not even rolled out.
    NotRolledOut,
    /// It would be rolled back, but others suffer too.
    HeldBack,
    /// It has been suspect for as long as a decision was promised within, and is not decided.
    Undecided,
    /// At this traffic a decision would come later than promised.
    TooLittleTraffic,
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
impl State {
    fn deployment(&self, service: &ServiceName, id: DeploymentId) -> Option<&Deployment> {
        self.service(service)?.deployments.get(&id)
    }
}

/// The notice that an entry calls for, if it calls for one. `state` has the entry folded in already.
#[must_use]
pub fn of(state: &State, record: &Record) -> Option<Notice> {
    let writer = Writer { state, record };
    match &record.entry {
        Entry::VerdictReached { service, deployment, verdict, question } => {
            writer.detected(service, *deployment, verdict, question.as_ref())
        }
        Entry::QuestionAnswered { service, deployment, choice, by, reason } => writer.answered(service, *deployment, *choice, by, reason),
        Entry::ImpactWithdrawn { service, deployment, declaration, by, .. } => writer.withdrawn(service, *deployment, declaration, by),
        Entry::RollbackRefused { service, deployment, refusal } => writer.blocked(service, *deployment, refusal),
        Entry::Warned { service, deployment, warning } => writer.warned(service, *deployment, warning),
        Entry::WindowPassed { service, deployment, .. } => writer.passed_after_all(service, *deployment),
        Entry::RollbackPlanned { plan } => writer.rolling_back(plan),
        Entry::RollbackEnded { service, plan, outcome } => writer.rollback_ended(service, *plan, outcome),
        Entry::AllClear { service, plan } => writer.all_clear(service, *plan),
        Entry::WindowExtended { service, deployment, lacks, until } if lacks.contains(&Lack::Rollout) => {
            writer.not_rolled_out(service, *deployment, *until)
        }
        Entry::WindowFailed { service, deployment } => writer.window_failed(service, *deployment),
        Entry::DeploymentSeen { service, arrival: Arrival::Deployed, .. } => writer.gone_back_by_hand(service),
        Entry::Blinded { service, signal, missing, since } => Some(writer.blind(service, signal, missing, *since)),
        Entry::Sighted { service, signal } => writer.sighted(service, signal),
        Entry::Held { scope, by, reason, until } => Some(writer.held(scope, by, reason, *until)),
        Entry::Resumed { scope, by } => Some(writer.resumed(scope, by)),
        Entry::BrakeTripped { services } => Some(writer.brake_tripped(services)),
        Entry::BrakeReleased { by } => Some(writer.brake_released(by)),
        Entry::LedgerBegun { .. }
        | Entry::DestinationsKnown { .. }
        | Entry::DeploymentSeen { .. }
        | Entry::DeploymentAnnounced { .. }
        | Entry::RolledOut { .. }
        | Entry::BaselineTaken { .. }
        | Entry::ImpactDeclared { .. }
        | Entry::RollbackApplied { .. }
        | Entry::RollbackRolledOut { .. }
        | Entry::WindowExtended { .. }
        | Entry::Superseded { .. }
        | Entry::Marked { .. }
        | Entry::NoticeDelivered { .. }
        | Entry::NoticeAbandoned { .. } => None,
    }
}

/// Headlines are cut there, so that they fit a mail's subject and a phone's screen.
const HEADLINE_LIMIT: usize = 150;

/// Writes the notice of one record.
struct Writer<'a> {
    state: &'a State,
    record: &'a Record,
}

impl Writer<'_> {
    /// A notice on one deployment of a service.
    fn on(&self, kind: NoticeKind, service: &ServiceName, deployment: &Deployment, headline: &str) -> Notice {
        let undone = deployment.rollback_of();
        let incident = undone.unwrap_or(deployment.id);
        let verdict = self.state.deployment(service, incident).and_then(|deployment| deployment.verdict.as_ref());
        Notice {
            id: self.state.global(self.record.seq),
            incident: self.state.global(incident.0),
            opens_incident: self.state.deployment(service, incident).is_none_or(|deployment| !deployment.told),
            kind,
            severity: verdict.map(|(_, verdict)| verdict.severity),
            service: Some(service.clone()),
            environment: deployment.environment.clone(),
            at: self.record.at,
            headline: cut(&format!("{service}: {headline}")),
            paragraphs: Vec::new(),
            facts: vec![
                ("Service".to_owned(), service.to_string()),
                ("Environment".to_owned(), deployment.environment.clone()),
                (
                    "Deployment".to_owned(),
                    format!("{} ({}), started {}", deployment.id, deployment.version, words::time(deployment.started)),
                ),
            ],
            next: vec![look_further(service)],
        }
    }

    /// A notice on a service as a whole, or on all of them.
    fn about(&self, kind: NoticeKind, service: Option<&ServiceName>, headline: &str) -> Notice {
        let current = service.and_then(|service| self.state.service(service)?.current());
        let incident = current.map_or(self.record.seq, |current| current.id.0);
        Notice {
            id: self.state.global(self.record.seq),
            incident: self.state.global(incident),
            opens_incident: current.is_none_or(|current| !current.told),
            kind,
            severity: None,
            service: service.cloned(),
            environment: current.map(|current| current.environment.clone()).unwrap_or_default(),
            at: self.record.at,
            headline: cut(&service.map_or_else(|| headline.to_owned(), |service| format!("{service}: {headline}"))),
            paragraphs: Vec::new(),
            facts: service.map(|service| ("Service".to_owned(), service.to_string())).into_iter().collect(),
            next: service.map(look_further).into_iter().collect(),
        }
    }

    fn detected(&self, service: &ServiceName, id: DeploymentId, verdict: &Verdict, question: Option<&Question>) -> Option<Notice> {
        let deployment = self.state.deployment(service, id)?;
        let known = self.state.service(service)?;
        // The outcome of the rollback that brought it is written in the same breath, and tells.
        if verdict.response == Response::RollBack && deployment.rollback_of().is_some() && known.open_rollback().is_some() {
            return None;
        }
        let kind = if question.is_some() { NoticeKind::ApprovalWanted } else { NoticeKind::Detected };
        let version = brief(&deployment.version);
        let what = match words::declared_by(verdict) {
            Some(by) => format!("{} on {version}, declared by {by}", verdict.impact),
            None => format!("{} after {version} was deployed", verdict.impact),
        };
        let headline = match (verdict.response, question) {
            (Response::RollBack, _) => what,
            (Response::Ask, Some(_)) => format!("{what}: your decision is wanted"),
            // It was decided before, when it was no better.
            (Response::Ask, None) => return None,
            (Response::Notify, _) => format!("{what}: fix forward"),
        };
        let mut notice = self.on(kind, service, deployment, &headline);
        notice.severity = Some(verdict.severity);
        notice.paragraphs.push(words::sentence(&words::verdict(verdict)));
        notice.paragraphs.push(match verdict.response {
            Response::RollBack => {
                "The matrix says: roll back. Another message says whether that is under way, or what stands in the way.".to_owned()
            }
            Response::Ask => "The matrix says: ask. Nothing is changed until somebody decides, or the time is up.".to_owned(),
            Response::Notify => "The matrix says: notify only. Nothing is changed.".to_owned(),
        });
        notice.facts.push(("Began, at the latest".to_owned(), words::time(verdict.onset)));
        notice.facts.extend(findings(verdict));
        if let Some(question) = question {
            let way_back = known.known_good(&deployment.version.id).map(|good| brief(&good.version));
            self.ask(&mut notice, service, &version, question, way_back.as_deref());
        }
        Some(notice)
    }

    /// Until when, what happens then, and how to answer.
    fn ask(&self, notice: &mut Notice, service: &ServiceName, version: &str, question: &Question, way_back: Option<&str>) {
        let left = words::duration(question.until.duration_since(self.record.at));
        let until = words::time(question.until);
        let otherwise = match (question.otherwise, way_back) {
            (Choice::Keep, _) => format!("{version} stays"),
            (Choice::RollBack, Some(good)) => format!("it goes back to {good}, if it is still so"),
            (Choice::RollBack, None) => format!("{version} stays all the same, as there is no known good version to go back to"),
        };
        notice.paragraphs.push(format!("If nobody answers within {left} (until {until}): {otherwise}."));
        notice.facts.push(("Answer until".to_owned(), until));
        let approve = match way_back {
            Some(good) => (format!("To go back to {good}:"), Some(format!("rollbackd approve {service}"))),
            None => (
                "There is no known good version; to go to one of your choice:".to_owned(),
                Some(format!("rollbackd rollback {service} --to VERSION")),
            ),
        };
        let reject = (format!("To let {version} stay:"), Some(format!("rollbackd reject {service}")));
        notice.next.splice(0..0, [approve, reject]);
    }

    /// The answer, for everybody who was asked. What a person approved is told by the rollback itself.
    fn answered(&self, service: &ServiceName, id: DeploymentId, choice: Choice, by: &Actor, reason: &str) -> Option<Notice> {
        let deployment = self.state.deployment(service, id)?;
        let version = brief(&deployment.version);
        let headline = match (choice, by) {
            (Choice::Keep, Actor::Daemon) => format!("nobody answered in time: {version} stays"),
            (Choice::RollBack, Actor::Daemon) => format!("nobody answered in time: {version} is to go back"),
            (Choice::Keep, _) => format!("{by} decided that {version} stays"),
            (Choice::RollBack, _) => return None,
        };
        let mut notice = self.on(NoticeKind::Answered, service, deployment, &headline);
        if let Some((_, verdict)) = &deployment.verdict {
            notice.paragraphs.push(words::sentence(&words::verdict(verdict)));
        }
        notice.paragraphs.push(match (choice, by) {
            (Choice::Keep, Actor::Daemon) => "That is what the configuration says for this case (answer_default).".to_owned(),
            (Choice::RollBack, Actor::Daemon) => {
                "That is what the configuration says for this case (answer_default). It is done if it is still so; another message says whether it is under way, or what stands in the way.".to_owned()
            }
            _ => format!("Why: {reason}."),
        });
        if choice == Choice::Keep {
            notice.paragraphs.push("Nobody is asked again about this; what is worse is still acted on.".to_owned());
            notice.next.insert(0, to_go_back(service));
        }
        Some(notice)
    }

    /// Whoever was told that something is wrong wants to know that it is not, unless a rollback tells them.
    fn withdrawn(&self, service: &ServiceName, id: DeploymentId, declaration: &Declaration, by: &Actor) -> Option<Notice> {
        let known = self.state.service(service)?;
        let deployment = known.deployments.get(&id).filter(|deployment| deployment.told && deployment.status.may_be_bad())?;
        if known.open_rollback().is_some() || deployment.verdict.is_some() {
            return None;
        }
        let headline = match by {
            Actor::Daemon => format!("nothing was heard any more of {}", declaration.by),
            Actor::Alert(_) => format!("{by} is over: no {} on {} any more", declaration.impact, brief(&deployment.version)),
            Actor::Operator(_) => format!("{by} says that there is no {} on {} any more", declaration.impact, brief(&deployment.version)),
        };
        let mut notice = self.on(NoticeKind::Withdrawn, service, deployment, &headline);
        notice.paragraphs.push(format!("{} had said: {}.", declaration.by, declaration.reason));
        Some(notice)
    }

    fn blocked(&self, service: &ServiceName, id: DeploymentId, refusal: &Refusal) -> Option<Notice> {
        // How that rollback ended is told already.
        if matches!(refusal, Refusal::AlreadyRolledBack { .. } | Refusal::Rejected { .. }) {
            return None;
        }
        let deployment = self.state.deployment(service, id)?;
        let version = brief(&deployment.version);
        let headline = match refusal {
            Refusal::DryRun { target } => format!("dry run: {version} would have been rolled back to {}", brief(target)),
            Refusal::NoKnownGood => format!("{version} is bad and there is NO WAY BACK: a person is needed"),
            Refusal::OutOfSight => format!("{version} is bad but can NOT be rolled back now: the workload can't be seen"),
            _ => format!("{version} is bad but is NOT rolled back: a person is needed ({})", refusal.name()),
        };
        let mut notice = self.on(NoticeKind::Blocked, service, deployment, &headline);
        notice.paragraphs.push(format!("Not rolled back: {}.", words::refusal(refusal)));
        if *refusal == Refusal::OutOfSight {
            notice.paragraphs.push("It is decided again as soon as the workload is seen.".to_owned());
        }
        if let Some((_, verdict)) = &deployment.verdict {
            notice.paragraphs.push(words::sentence(&words::verdict(verdict)));
        }
        notice.facts.push(("Guard".to_owned(), refusal.name().to_owned()));
        let hint = match refusal {
            Refusal::NoKnownGood | Refusal::TargetGone { .. } | Refusal::TargetKnownBad { .. } => {
                Some(("To go to a version of your choice:", format!("rollbackd rollback {service} --to VERSION")))
            }
            Refusal::Held { .. } => Some(("To allow automatic rollbacks again:", format!("rollbackd resume {service}"))),
            Refusal::FleetBrake { .. } => Some(("To release the brake:", "rollbackd resume --all".to_owned())),
            Refusal::OutOfSight => Some(("To try every source and credential:", "rollbackd check --connect".to_owned())),
            Refusal::DryRun { .. }
            | Refusal::Migration { .. }
            | Refusal::RateLimited { .. }
            | Refusal::Contested { .. }
            | Refusal::LittleHistory { .. }
            | Refusal::IsRollback { .. } => Some(("To go back all the same:", format!("rollbackd rollback {service}"))),
            _ => None,
        };
        notice.next.splice(0..0, hint.map(|(words, command)| (words.to_owned(), Some(command))));
        Some(notice)
    }

    fn rolling_back(&self, plan: &Plan) -> Option<Notice> {
        let deployment = self.state.deployment(&plan.service, plan.deployment)?;
        // It was told that the platform refused the first attempt; how a later one ends is news, that there is one is not.
        if deployment.rejection.is_some() && matches!(plan.cause, Cause::Verdict(_)) {
            return None;
        }
        let mut notice = self.on(
            NoticeKind::RollingBack,
            &plan.service,
            deployment,
            &format!("rolling back {} to {}", brief(&plan.from), brief(&plan.to)),
        );
        notice.paragraphs.push(format!("Why: {}.", words::cause(&plan.cause)));
        notice.paragraphs.push(what_goes_back(plan).to_owned());
        if !matches!(deployment.change, ChangeKind::Code | ChangeKind::Configuration) {
            notice.paragraphs.push(format!(
                "Careful: {} carries {}, so the schema may not match {}.",
                brief(&plan.from),
                words::change(deployment.change),
                brief(&plan.to)
            ));
        }
        notice.facts.push(("From".to_owned(), plan.from.to_string()));
        notice.facts.push(("To".to_owned(), format!("{} (deployment {})", plan.to, plan.to_deployment)));
        notice.facts.push(("Plan".to_owned(), self.state.global(self.record.seq)));
        Some(notice)
    }

    fn rollback_ended(&self, service: &ServiceName, id: PlanId, outcome: &Outcome) -> Option<Notice> {
        let rollback = self.state.service(service)?.rollback.as_ref().filter(|rollback| rollback.id == id)?;
        // A person's deployment takes nothing from a recovery that was told.
        if matches!(outcome, Outcome::Interrupted { .. }) && rollback.recovered.is_some() {
            return None;
        }
        let plan = &rollback.plan;
        let deployment = self.state.deployment(service, plan.deployment)?;
        let refused = matches!(outcome, Outcome::Failed(Obstacle::Rejected(_)));
        let by_itself = matches!(plan.cause, Cause::Verdict(_));
        if refused && by_itself && deployment.rejection.as_ref().is_some_and(|rejection| rejection.known) {
            return None;
        }
        let (from, to) = (brief(&plan.from), brief(&plan.to));
        let (kind, headline) = match outcome {
            Outcome::Recovered => {
                let proved = words::word_of_a_person(&plan.cause).map_or_else(
                    || ", recovered".to_owned(),
                    |(verdict, _)| format!(": please look whether the {} is over", verdict.impact),
                );
                (NoticeKind::Recovered, format!("rolled back from {from} to {to}{proved}"))
            }
            Outcome::DidNotHelp { .. } if rollback.recovered.is_some() => {
                (NoticeKind::DidNotHelp, format!("it came back on {to}, though going back from {from} had helped: a person is needed"))
            }
            Outcome::DidNotHelp { .. } => {
                (NoticeKind::DidNotHelp, format!("going back to {to} did NOT help: {from} was probably not the cause, a person is needed"))
            }
            Outcome::Unproven { .. } => (NoticeKind::Failed, format!("went back to {to}, but can't tell whether it helped: please look")),
            Outcome::Failed(Obstacle::Rejected(_)) => {
                (NoticeKind::Failed, format!("the platform REFUSED to roll back {from} to {to}: a person is needed"))
            }
            Outcome::Failed(_) => (NoticeKind::Failed, format!("rollback from {from} to {to} FAILED: a person is needed")),
            Outcome::Void(Void::Moved) => {
                (NoticeKind::Stopped, format!("rollback of {from} not begun: the workload was changed meanwhile"))
            }
            Outcome::Void(Void::Expired) => (NoticeKind::Stopped, format!("rollback of {from} not begun: it could not be started in time")),
            Outcome::Void(Void::Gone) => (NoticeKind::Stopped, format!("rollback of {from} not begun: the workload is gone")),
            Outcome::Void(Void::Superseded { by }) => {
                (NoticeKind::Stopped, format!("rollback of {from} called off: somebody deployed {}", brief(by)))
            }
            Outcome::Interrupted { by } => (NoticeKind::Stopped, format!("rollback to {to} interrupted: somebody deployed {}", brief(by))),
        };
        let mut notice = self.on(kind, service, deployment, &headline);
        notice.paragraphs.extend(words::ending(rollback).map(|ending| words::sentence(&ending)));
        notice.paragraphs.push(format!("Why it was to go back: {}.", words::cause(&plan.cause)));
        notice.facts.extend(self.times(rollback));
        notice.facts.push(("From".to_owned(), plan.from.to_string()));
        notice.facts.push(("To".to_owned(), plan.to.to_string()));
        if matches!(outcome, Outcome::Recovered) {
            notice.paragraphs.push(what_stays(&deployment.version.name));
        }
        if refused && by_itself && plan.may_be_tried_again() {
            notice.paragraphs.push(
                "It is tried again when somebody changes the workload (resumes it, say), and now and then until the window ends."
                    .to_owned(),
            );
        }
        notice.next.splice(0..0, next_after(service, outcome));
        Some(notice)
    }

    /// From the onset to here, with the promise.
    fn times(&self, rollback: &Rollback) -> Vec<(String, String)> {
        let found = self.state.deployment(&rollback.plan.service, rollback.plan.deployment).and_then(|undone| undone.verdict.as_ref());
        let onset = found.map_or(rollback.onset(), |(_, verdict)| verdict.onset.min(rollback.onset()));
        let took = self.record.at.duration_since(onset);
        let mut times =
            vec![("Began, at the latest".to_owned(), words::time(onset)), ("From then to here".to_owned(), words::duration(took))];
        if let Cause::Verdict(Verdict { within: Some(within), .. }) = &rollback.plan.cause
            && matches!(rollback.outcome, Some((_, Outcome::Recovered)))
            && !within.is_zero()
        {
            let word = if took <= *within { "kept" } else { "missed" };
            times.push(("Promise".to_owned(), format!("{word}: within {}", words::duration(*within))));
        }
        times
    }

    fn all_clear(&self, service: &ServiceName, id: PlanId) -> Option<Notice> {
        let rollback = self.state.service(service)?.rollback.as_ref().filter(|rollback| rollback.id == id)?;
        let deployment = self.state.deployment(service, rollback.plan.deployment)?;
        let mut notice = self.on(NoticeKind::AllClear, service, deployment, &format!("all clear on {}", brief(&rollback.plan.to)));
        let since = rollback.outcome.as_ref().map_or(rollback.planned, |(at, _)| *at);
        notice.paragraphs.push(format!(
            "{} has stayed well for {} since it recovered. {} stays marked bad.",
            rollback.plan.to,
            words::duration(self.record.at.duration_since(since)),
            rollback.plan.from
        ));
        Some(notice)
    }

    fn window_failed(&self, service: &ServiceName, id: DeploymentId) -> Option<Notice> {
        let deployment = self.state.deployment(service, id)?;
        let headline = format!("the window of {} ended, and it was bad and is still there: a person is needed", brief(&deployment.version));
        let mut notice = self.on(NoticeKind::Failed, service, deployment, &headline);
        if let Some((_, verdict)) = &deployment.verdict {
            notice.paragraphs.push(words::sentence(&words::verdict(verdict)));
        }
        if let Some(refusal) = &deployment.refusal {
            notice.paragraphs.push(format!("Not rolled back: {}.", words::refusal(refusal)));
        }
        notice.paragraphs.push("It is not watched any more, and it is not known good.".to_owned());
        notice.next.insert(0, to_go_back(service));
        Some(notice)
    }

    /// Nothing failed, but nothing came of the deployment either: somebody wants to know.
    fn not_rolled_out(&self, service: &ServiceName, id: DeploymentId, until: Timestamp) -> Option<Notice> {
        let deployment = self.state.deployment(service, id)?;
        let headline = format!("{} is still not rolled out: please look", brief(&deployment.version));
        let mut notice = self.on(NoticeKind::NotRolledOut, service, deployment, &headline);
        notice.paragraphs.push(
            "Its window ended, and no check failed; but the platform has not finished to roll it out (or was told to wait). It is not known good."
                .to_owned(),
        );
        notice.facts.push(("Watched on until".to_owned(), words::time(until)));
        Some(notice)
    }

    /// A person went back to an older version while the newer one was in its window.
    fn gone_back_by_hand(&self, service: &ServiceName) -> Option<Notice> {
        let known = self.state.service(service)?;
        let current = known.current()?;
        let left = known.gone_back_from(current)?;
        let older = known.deployments.range(..left.id).rev().find(|(_, older)| older.version.id == current.version.id)?.1;
        let headline = format!("somebody went back by hand from {} to {}", brief(&left.version), brief(&current.version));
        let mut notice = self.on(NoticeKind::Operator, service, current, &headline);
        notice.incident = self.state.global(left.id.0);
        notice.opens_incident = !left.told;
        notice.paragraphs.push(format!(
            "{} ran here before as deployment {}. It is watched like any deployment, but nothing is rolled back from here by itself.",
            current.version, older.id
        ));
        Some(notice)
    }

    fn blind(&self, service: &ServiceName, signal: &SignalName, missing: &Missing, since: Timestamp) -> Notice {
        let headline = match missing {
            Missing::NoMeasure => {
                format!("{signal} FAILS, and nothing is done about it: it can't be told whether that is new, please look")
            }
            _ => format!("blind: {signal} gives nothing"),
        };
        let mut notice = self.about(NoticeKind::Blind, Some(service), &headline);
        notice.paragraphs.push(format!("{signal}: {missing}."));
        notice
            .paragraphs
            .push("Missing evidence is never a reason to roll back: what depends on it waits, and goes on when it returns.".to_owned());
        notice.facts.push(("Since".to_owned(), words::time(since)));
        notice.next.push(("To try every source and credential:".to_owned(), Some("rollbackd check --connect".to_owned())));
        notice
    }

    /// Nothing is told when only nothing depends on the source any more.
    fn sighted(&self, service: &ServiceName, signal: &SignalName) -> Option<Notice> {
        let known = self.state.service(service)?;
        if known.open_rollback().is_none() && !known.current().is_some_and(|current| current.status.in_window()) {
            return None;
        }
        let mut notice = self.about(NoticeKind::Sighted, Some(service), &format!("{signal} says something again"));
        notice.paragraphs.push("What waited for it goes on.".to_owned());
        Some(notice)
    }

    fn held(&self, scope: &Scope, by: &Actor, reason: &str, until: Option<Timestamp>) -> Notice {
        let service = service_of(scope);
        let whose = if service.is_some() { "" } else { " of all services" };
        let mut notice = self.about(NoticeKind::Operator, service, &format!("automatic rollbacks{whose} paused by {by}"));
        notice.paragraphs.push(format!("Why: {reason}."));
        notice.paragraphs.push("Verdicts are still reached and told; only nothing is rolled back by itself.".to_owned());
        notice.facts.push(("Until".to_owned(), until.map_or_else(|| "somebody resumes".to_owned(), words::time)));
        let target = service.map_or_else(|| "--all".to_owned(), ToString::to_string);
        notice.next.insert(0, ("To allow them again:".to_owned(), Some(format!("rollbackd resume {target}"))));
        notice
    }

    fn resumed(&self, scope: &Scope, by: &Actor) -> Notice {
        let service = service_of(scope);
        let whose = if service.is_some() { "" } else { " of all services" };
        let headline = match by {
            Actor::Daemon => format!("the pause of automatic rollbacks{whose} is over"),
            Actor::Operator(_) | Actor::Alert(_) => format!("automatic rollbacks{whose} resumed by {by}"),
        };
        self.about(NoticeKind::Operator, service, &headline)
    }

    fn brake_tripped(&self, services: &BTreeSet<ServiceName>) -> Notice {
        let names: Vec<_> = services.iter().map(ToString::to_string).collect();
        let headline = format!("{} services went bad together: no automatic rollback anywhere, a person is needed", services.len());
        let mut notice = self.about(NoticeKind::Blocked, None, &headline);
        notice.severity = Some(Severity::P0);
        notice.paragraphs.push(format!("Many services going bad together is not one bad deployment: {}.", names.join(", ")));
        notice.paragraphs.push("Look for what they share: network, database, identity provider, the monitoring itself.".to_owned());
        notice.next.push(("To see all services:".to_owned(), Some("rollbackd status".to_owned())));
        notice.next.push(("To allow automatic rollbacks again:".to_owned(), Some("rollbackd resume --all".to_owned())));
        notice
    }

    fn brake_released(&self, by: &Actor) -> Notice {
        let released = match by {
            Actor::Daemon => "the fleet brake is released after a calm time".to_owned(),
            Actor::Operator(_) | Actor::Alert(_) => format!("the fleet brake is released by {by}"),
        };
        self.about(NoticeKind::Operator, None, &format!("{released}: automatic rollbacks are allowed again"))
    }
}

/// What to do after a rollback that ended like that.
fn next_after(service: &ServiceName, outcome: &Outcome) -> Vec<(String, Option<String>)> {
    let shared = || ("Look at what all versions share: database, network, other services, the traffic itself.".to_owned(), None);
    match outcome {
        Outcome::DidNotHelp { .. } => vec![shared()],
        Outcome::Unproven { .. } => vec![("Look whether the service is well.".to_owned(), None)],
        Outcome::Failed(_) => vec![to_go_back(service)],
        Outcome::Recovered | Outcome::Interrupted { .. } | Outcome::Void(_) => Vec::new(),
    }
}

fn to_go_back(service: &ServiceName) -> (String, Option<String>) {
    ("To go back by hand (to a version of your choice with --to VERSION):".to_owned(), Some(format!("rollbackd rollback {service}")))
}

fn look_further(service: &ServiceName) -> (String, Option<String>) {
    ("To see all evidence and every decision:".to_owned(), Some(format!("rollbackd explain {service}")))
}

const fn service_of(scope: &Scope) -> Option<&ServiceName> {
    match scope {
        Scope::Service(service) => Some(service),
        Scope::All => None,
    }
}

const fn what_goes_back(plan: &Plan) -> &'static str {
    match (&plan.binding, plan.restore) {
        (Binding::Version(_), _) => "What goes back: what the deploy program redeploys.",
        (Binding::Object { .. }, Restore::Template) => {
            "What goes back: the whole pod template. Secrets, configuration, schema and volumes outside it stay as they are."
        }
        (Binding::Object { .. }, Restore::Image) => {
            "What goes back: the container images only. Environment, secrets, configuration, schema and volumes stay as they are."
        }
    }
}

/// What a person has to put right afterwards.
fn what_stays(from: &str) -> String {
    format!(
        "Where this was deployed from still names {from} (the pipeline, Git, kubectl's last-applied-configuration): put it right there, or the next deployment brings it back."
    )
}

fn findings(verdict: &Verdict) -> impl Iterator<Item = (String, String)> + '_ {
    let decisive = verdict.decisive();
    let failing = verdict.findings.iter().filter(|finding| matches!(finding.state, FindingState::Failing(_)));
    let others = failing.filter(move |finding| decisive != Some(*finding));
    decisive.into_iter().chain(others).map(finding_line)
}

fn finding_line(finding: &Finding) -> (String, String) {
    (format!("{} ({})", finding.signal, finding.impact), words::finding(finding))
}

/// A version's name in a headline: of a long one the end, which has the tag.
fn brief(version: &Version) -> String {
    const LIMIT: usize = 40;
    let length = version.name.chars().count();
    if length <= LIMIT {
        return version.name.clone();
    }
    let end: String = version.name.chars().skip(length - LIMIT + 1).collect();
    format!("…{end}")
}

/// One line, short enough.
fn cut(headline: &str) -> String {
    let mut line: String = headline.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(HEADLINE_LIMIT + 1).collect();
    if line.chars().count() > HEADLINE_LIMIT {
        line = line.chars().take(HEADLINE_LIMIT - 1).collect();
        line.push('…');
    }
    line
}
