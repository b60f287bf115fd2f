//! The daemon's state: the fold of the ledger's entries and nothing else. Folding is total: what refers to something unknown is ignored,
//! so that no ledger can stop a start. What each status means is said on [`Status`]; who decides is `decide`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::baseline::Baseline;
use crate::declaration::{Answered, Declared, Question};
use crate::entry::{Actor, Arrival, DeploymentId, Entry, Mark, MarkReason, Record, Scope};
use crate::evidence::{Excluded, Lack};
use crate::guard::Refusal;
use crate::notice::{self, Notice};
use crate::observation::{Binding, Missing};
use crate::plan::{Cause, Obstacle, Outcome, Phase, Plan, PlanId, Void};
use crate::service::{ServiceName, SignalName};
use crate::severity::{Response, Severity};
use crate::verdict::Verdict;
use crate::version::{Artifact, ChangeKind, Version, VersionId};
use crate::warning::{self, Warning};

#[cfg(test)]
mod laws;

/// Where a deployment stands (PRODUCT section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is being rolled out; it is watched already.
    Deploying,
    /// It is rolled out and in its window.
    Watching,
    /// It passed its window.
    Deployed,
    /// It was undone by a rollback.
    RolledBack,
    /// Another deployment arrived in its window.
    Superseded,
    /// It is bad and nothing was or could be done about it.
    Failed,
}

impl Status {
    /// Whether its window is open.
    #[must_use]
    pub const fn in_window(self) -> bool {
        matches!(self, Self::Deploying | Self::Watching)
    }

    /// Whether it still runs, as far as this says: then somebody may say that something is wrong with it.
    #[must_use]
    pub const fn may_be_bad(self) -> bool {
        matches!(self, Self::Deploying | Self::Watching | Self::Deployed | Self::Failed)
    }
}

/// One deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its number.
    pub id: DeploymentId,
    /// What was deployed.
    pub version: Version,
    /// How it came.
    pub arrival: Arrival,
    /// Its environment.
    pub environment: String,
    /// When it started.
    pub started: Timestamp,
    /// Until then something else was certainly deployed: the end of the time before. Not later than `started`.
    pub not_before: Timestamp,
    /// When it was first seen.
    pub seen: Timestamp,
    /// Only what comes after this speaks for or against it: its start, or for what a rollback brought the end of its rollout, since until
    /// then what is undone answers too.
    pub watched_from: Timestamp,
    /// Where it stands.
    pub status: Status,
    /// What it carries.
    pub change: ChangeKind,
    /// How it was before.
    pub baselines: BTreeMap<SignalName, Baseline>,
    /// The newest verdict on it.
    pub verdict: Option<(Timestamp, Verdict)>,
    /// The verdicts before that, oldest first: what was less severe, or rested on a word that was withdrawn. At most
    /// [`Deployment::KEPT_VERDICTS`].
    pub found_before: Vec<(Timestamp, Verdict)>,
    /// What somebody said of it, at most [`crate::declaration::KEPT`].
    pub declared: Vec<Declared>,
    /// What operators are asked about it.
    pub question: Option<Question>,
    /// The newest answer.
    pub answered: Option<Answered>,
    /// The newest guard that stood in the way.
    pub refusal: Option<Refusal>,
    /// What operators were warned of, oldest first, at most [`crate::warning::KEPT`].
    pub warned: Vec<(Timestamp, Warning)>,
    /// Until when its window was extended, and what lacked.
    pub extended: Option<(Timestamp, Vec<Lack>)>,
    /// When it was rolled out.
    pub rolled_out: Option<Timestamp>,
    /// When it left its window.
    pub ended: Option<Timestamp>,
    /// How many plans to undo it lost their ground.
    pub voids: u32,
    /// The last attempt to undo it that the platform refused.
    pub rejection: Option<Rejection>,
    /// ln G when it passed its window.
    pub proof: Option<f64>,
    /// Whether a notice was made of its incident.
    pub told: bool,
    /// Whether somebody told of it.
    pub announced: bool,
    /// The rollback of it, once a newer one of the service is under way ([`ServiceState::rollback_from`]).
    pub past_rollback: Option<Box<Rollback>>,
}

impl Deployment {
    /// Each verdict calls for more than the one before or is more severe, so that more only follow where words are withdrawn.
    pub const KEPT_VERDICTS: usize = 8;

    /// The deployment that it undid, if a rollback brought it.
    #[must_use]
    pub const fn rollback_of(&self) -> Option<DeploymentId> {
        match self.arrival {
            Arrival::Rollback { of, .. } => Some(of),
            Arrival::FirstSight | Arrival::Deployed => None,
        }
    }
}

/// The platform refused a rollback; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// When.
    pub at: Timestamp,
    /// How often it did by then.
    pub times: u32,
    /// What the plan was bound to.
    pub binding: Binding,
    /// Its words.
    pub words: String,
    /// Whether they are the ones that it said before, too.
    pub known: bool,
}

/// A rollback and how far it is.
#[derive(Clone, Debug)]
pub struct Rollback {
    /// The plan's number.
    pub id: PlanId,
    /// The plan.
    pub plan: Plan,
    /// When it was planned.
    pub planned: Timestamp,
    /// How far it is.
    pub phase: Phase,
    /// When its effect was known to have happened.
    pub applied: Option<(Timestamp, Binding)>,
    /// How it ended, or that it recovered and is watched on.
    pub outcome: Option<(Timestamp, Outcome)>,
    /// When it had recovered, whatever came after.
    pub recovered: Option<Timestamp>,
}

impl Rollback {
    /// Whether something is still to be done for it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Ended)
    }
}

/// A mark with its story.
#[derive(Clone, Debug)]
pub struct Marked {
    /// The mark.
    pub mark: Mark,
    /// Since when.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
    /// Why.
    pub reason: MarkReason,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// By whom.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// It ends by itself then.
    pub until: Option<Timestamp>,
}

/// What somebody told of a deployment that is still to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// When it was told.
    pub at: Timestamp,
    /// When the deployment started, if they said.
    pub started: Option<Timestamp>,
    /// What it carries, if they said.
    pub change: Option<ChangeKind>,
}

impl Announcement {
    /// A deployment that was told of and does not come within this never came.
    const LIFE: SignedDuration = SignedDuration::from_hours(1);
}

/// Everything that is known of one service.
#[derive(Clone, Debug, Default)]
pub struct ServiceState {
    /// The newest deployments, at most [`ServiceState::KEPT_DEPLOYMENTS`].
    pub deployments: BTreeMap<DeploymentId, Deployment>,
    /// The newest deployment.
    pub current: Option<DeploymentId>,
    /// Marks on versions, at most [`ServiceState::KEPT_MARKS`].
    pub marks: BTreeMap<VersionId, Marked>,
    /// Versions that can be gone back to, in the order of their newest deployment: the current one and the newest good ones.
    pub artifacts: Vec<(VersionId, Artifact)>,
    /// The newest rollback.
    pub rollback: Option<Rollback>,
    /// A pause of this service.
    pub hold: Option<Hold>,
    /// Sources that give nothing, why and since when.
    pub blind: BTreeMap<SignalName, (Missing, Timestamp)>,
    /// What is known of the next deployment.
    pub announced: Option<Announcement>,
    /// Times that are no history of this service: from the onset of what was rolled back to its recovery, or of what was bad until somebody
    /// deployed something else.
    pub incidents: VecDeque<Excluded>,
    /// When automatic rollbacks were planned in the last 24 h and not void.
    pub automatic: VecDeque<(Timestamp, PlanId)>,
}

impl ServiceState {
    /// Deployments that are kept in memory; the ledger keeps all.
    pub const KEPT_DEPLOYMENTS: usize = 50;
    /// Starts that the time of a start is learned from.
    const KNOWN_STARTS: usize = 10;
    /// Marks that are kept in memory.
    pub const KEPT_MARKS: usize = 100;
    /// Copies of versions that are kept in memory: the current one, the one before, and three known good ones.
    const KEPT_ARTIFACTS: usize = 5;

    /// The newest deployment.
    #[must_use]
    pub fn current(&self) -> Option<&Deployment> {
        self.deployments.get(&self.current?)
    }

    /// The mark of a version.
    #[must_use]
    pub fn mark(&self, version: &VersionId) -> Mark {
        self.marks.get(version).map_or(Mark::Unknown, |marked| marked.mark)
    }

    /// The last known good: the newest deployment of a version that is marked good, is not `running`, and was not declared to be bad since.
    #[must_use]
    pub fn known_good(&self, running: &VersionId) -> Option<&Deployment> {
        let is_good = |version: &VersionId| *version != *running && self.mark(version) == Mark::Good && !self.is_declared_bad(version);
        self.deployments.values().rev().find(|deployment| is_good(&deployment.version.id))
    }

    /// Whether somebody's word calls for going back from a version, and stands.
    #[must_use]
    pub fn is_declared_bad(&self, version: &VersionId) -> bool {
        let calls = |deployment: &Deployment| {
            deployment.verdict.as_ref().is_some_and(|(_, verdict)| verdict.response == Response::RollBack) && deployment.is_declared()
        };
        self.deployments.values().any(|deployment| deployment.version.id == *version && calls(deployment))
    }

    /// The longest that one of the newest deployments took to be rolled out. What was there at the first look says nothing of it.
    #[must_use]
    pub fn slowest_start(&self) -> Option<SignedDuration> {
        let started = self.deployments.values().rev().filter(|deployment| deployment.arrival != Arrival::FirstSight);
        let took = started.filter_map(|deployment| Some(deployment.rolled_out?.duration_since(deployment.started)));
        took.take(Self::KNOWN_STARTS).max()
    }

    /// The ledger's copy of a version.
    #[must_use]
    pub fn artifact(&self, version: &VersionId) -> Option<&Artifact> {
        self.artifacts.iter().find(|(id, _)| id == version).map(|(_, artifact)| artifact)
    }

    /// The rollback that still needs something.
    #[must_use]
    pub fn open_rollback(&self) -> Option<&Rollback> {
        self.rollback.as_ref().filter(|rollback| rollback.is_open())
    }

    /// The newest rollback of a deployment.
    #[must_use]
    pub fn rollback_from(&self, deployment: DeploymentId) -> Option<&Rollback> {
        let newest = self.rollback.as_ref().filter(|rollback| rollback.plan.deployment == deployment);
        newest.or_else(|| self.deployments.get(&deployment)?.past_rollback.as_deref())
    }

    /// Versions marked bad, oldest first, at most 20 of the newest.
    #[must_use]
    pub fn known_bad(&self) -> Vec<VersionId> {
        let mut bad: Vec<_> = self.marks.iter().filter(|(_, marked)| marked.mark == Mark::Bad).collect();
        bad.sort_by_key(|(_, marked)| marked.at);
        let skip = bad.len().saturating_sub(20);
        bad.into_iter().skip(skip).map(|(id, _)| id.clone()).collect()
    }

    fn keep_artifact(&mut self, version: &VersionId, artifact: Option<Artifact>) {
        let kept = self.artifacts.iter().position(|(id, _)| id == version).map(|place| self.artifacts.remove(place).1);
        if let Some(artifact) = artifact.or(kept) {
            self.artifacts.push((version.clone(), artifact));
        }
        while self.artifacts.len() > Self::KEPT_ARTIFACTS {
            let older = &self.artifacts[..self.artifacts.len() - 2];
            let first_expendable = older.iter().position(|(id, _)| self.mark(id) != Mark::Good);
            self.artifacts.remove(first_expendable.unwrap_or(0));
        }
    }

    /// Forgets the oldest, but never the last known good: it is the way back.
    fn forget_old(&mut self) {
        if self.deployments.len() <= Self::KEPT_DEPLOYMENTS && self.marks.len() <= Self::KEPT_MARKS {
            return;
        }
        let way_back = self.current().and_then(|current| self.known_good(&current.version.id));
        let way_back = way_back.map(|good| (good.id, good.version.id.clone()));
        while self.deployments.len() > Self::KEPT_DEPLOYMENTS {
            let oldest = self.deployments.keys().copied().find(|id| way_back.as_ref().is_none_or(|(good, _)| id != good));
            let Some(oldest) = oldest else { return };
            self.deployments.remove(&oldest);
        }
        while self.marks.len() > Self::KEPT_MARKS {
            let others = self.marks.iter().filter(|(version, _)| way_back.as_ref().is_none_or(|(_, good)| *version != good));
            let Some(oldest) = others.min_by_key(|(_, marked)| marked.at).map(|(version, _)| version.clone()) else { return };
            self.marks.remove(&oldest);
        }
    }

    /// The deployment that was left when a person went back by hand to what `deployment` brought: from one in its window to a known good
    /// version that had run here before.
    #[must_use]
    pub fn gone_back_from(&self, deployment: &Deployment) -> Option<&Deployment> {
        if deployment.arrival != Arrival::Deployed || self.mark(&deployment.version.id) != Mark::Good {
            return None;
        }
        let (_, left) = self.deployments.range(..deployment.id).next_back()?;
        let ran_before = self.deployments.range(..left.id).any(|(_, older)| older.version.id == deployment.version.id);
        (ran_before && left.status == Status::Superseded).then_some(left)
    }
}

/// Many services went bad together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brake {
    /// Which.
    pub services: BTreeSet<ServiceName>,
    /// Since when.
    pub since: Timestamp,
}

/// A notice on its way.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What it says.
    pub notice: Notice,
    /// The destinations that are settled: it arrived there, or never will.
    pub settled: BTreeSet<String>,
}

/// Everything that is known.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The ledger's name; empty before its first entry.
    pub ledger: String,
    /// The number of the newest record; 0 before the first.
    pub seq: u64,
    /// When the newest record was written.
    pub at: Timestamp,
    /// The services, those that are not configured any more among them.
    pub services: BTreeMap<ServiceName, ServiceState>,
    /// A pause of all services.
    pub hold: Option<Hold>,
    /// The fleet brake.
    pub brake: Option<Brake>,
    /// Since which record each destination of notices is known.
    pub destinations: BTreeMap<String, u64>,
    /// Notices by the number of their entry, those of the last [`State::NOTICE_LIFE`], at most [`State::KEPT_NOTICES`].
    pub outbox: BTreeMap<u64, Outgoing>,
    /// Automatic rollbacks of the last hour, over all services.
    pub automatic: VecDeque<(Timestamp, PlanId)>,
    /// The newest verdict of each service that calls for a rollback, of the last hour.
    pub alarms: VecDeque<(Timestamp, ServiceName)>,
}

impl State {
    /// How long a notice is worth delivering: three days, a long weekend without a mail server.
    pub const NOTICE_LIFE: SignedDuration = SignedDuration::from_hours(72);
    /// Notices that are kept in memory.
    pub const KEPT_NOTICES: usize = 10_000;

    /// One service; nothing is known of an unknown one.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&ServiceState> {
        self.services.get(name)
    }

    /// The name of something in the world: unique over all ledgers.
    #[must_use]
    pub fn global(&self, number: u64) -> String {
        global(&self.ledger, number)
    }

    /// The services that went bad within `within` before `now`.
    #[must_use]
    pub fn alarmed(&self, within: SignedDuration, now: Timestamp) -> BTreeSet<ServiceName> {
        self.alarms.iter().filter(|(at, _)| now.duration_since(*at) <= within).map(|(_, service)| service.clone()).collect()
    }

    /// What is known of one service and of all together, without notices: enough to try on it what would follow from an entry.
    #[must_use]
    pub(crate) fn excerpt(&self, service: &ServiceName) -> Self {
        Self {
            ledger: self.ledger.clone(),
            seq: self.seq,
            at: self.at,
            // Of the others only that there are any.
            services: self
                .services
                .iter()
                .map(|(name, known)| (name.clone(), if name == service { known.clone() } else { ServiceState::default() }))
                .collect(),
            hold: self.hold.clone(),
            brake: self.brake.clone(),
            destinations: BTreeMap::new(),
            outbox: BTreeMap::new(),
            automatic: self.automatic.clone(),
            alarms: self.alarms.clone(),
        }
    }

    /// Takes in one record.
    pub fn apply(&mut self, record: &Record) {
        let at = record.at;
        self.seq = record.seq;
        self.at = at;
        match &record.entry {
            Entry::LedgerBegun { ledger } => self.ledger.clone_from(ledger),
            Entry::DestinationsKnown { names } => self.know_destinations(names, record.seq),
            Entry::Held { scope: Scope::All, by, reason, until } => {
                self.hold = Some(Hold { by: by.clone(), reason: reason.clone(), since: at, until: *until });
            }
            Entry::Resumed { scope: Scope::All, .. } => self.hold = None,
            Entry::BrakeTripped { services } => self.brake = Some(Brake { services: services.clone(), since: at }),
            Entry::BrakeReleased { .. } => {
                self.brake = None;
                self.alarms.clear();
            }
            Entry::NoticeDelivered { notice, destination } | Entry::NoticeAbandoned { notice, destination, .. } => {
                if let Some(outgoing) = self.outbox.get_mut(notice) {
                    outgoing.settled.insert(destination.clone());
                }
            }
            entry => {
                if let Some(service) = entry.service() {
                    self.count(entry, service, record);
                    self.services.entry(service.clone()).or_default().apply(record);
                }
            }
        }
        if let Some(notice) = notice::of(self, record) {
            self.tell(&notice);
            self.outbox.insert(record.seq, Outgoing { notice, settled: BTreeSet::new() });
        }
        self.forget_old(at);
    }

    /// Remembers that a notice was made of an incident, so that only the first one opens it.
    fn tell(&mut self, notice: &Notice) {
        let Some(service) = notice.service.as_ref().and_then(|service| self.services.get_mut(service)) else { return };
        let ledger = &self.ledger;
        let concerned = service.deployments.values_mut().rev().find(|deployment| global(ledger, deployment.id.0) == notice.incident);
        if let Some(deployment) = concerned {
            deployment.told = true;
        }
    }

    fn know_destinations(&mut self, names: &BTreeSet<String>, seq: u64) {
        self.destinations.retain(|name, _| names.contains(name));
        for name in names {
            self.destinations.entry(name.clone()).or_insert(seq);
        }
    }

    /// What is counted over all services.
    fn count(&mut self, entry: &Entry, service: &ServiceName, record: &Record) {
        match entry {
            Entry::VerdictReached { verdict, .. } if verdict.response == Response::RollBack => {
                self.alarms.retain(|(_, alarmed)| alarmed != service);
                self.alarms.push_back((record.at, service.clone()));
            }
            Entry::RollbackPlanned { plan } if matches!(plan.cause, Cause::Verdict(_)) => {
                self.automatic.push_back((record.at, PlanId(record.seq)));
            }
            Entry::RollbackEnded { plan, outcome: Outcome::Void(_) | Outcome::Failed(Obstacle::Rejected(_)), .. } => {
                self.automatic.retain(|(_, counted)| counted != plan);
            }
            _ => {}
        }
    }

    fn forget_old(&mut self, now: Timestamp) {
        let hour = SignedDuration::from_hours(1);
        while self.automatic.front().is_some_and(|(at, _)| now.duration_since(*at) > hour) {
            self.automatic.pop_front();
        }
        while self.alarms.front().is_some_and(|(at, _)| now.duration_since(*at) > hour) {
            self.alarms.pop_front();
        }
        while let Some((&oldest, outgoing)) = self.outbox.first_key_value() {
            if now.duration_since(outgoing.notice.at) <= Self::NOTICE_LIFE && self.outbox.len() <= Self::KEPT_NOTICES {
                break;
            }
            self.outbox.remove(&oldest);
        }
    }
}

fn global(ledger: &str, number: u64) -> String {
    format!("{ledger}-{number}")
}

impl ServiceState {
    fn apply(&mut self, record: &Record) {
        let at = record.at;
        match &record.entry {
            Entry::DeploymentSeen { .. } => self.deployment_seen(record),
            Entry::DeploymentAnnounced { deployment, started, change, .. } => self.announced(*deployment, *started, *change, at),
            Entry::RolledOut { deployment, .. } => self.step(*deployment, |deployment| {
                deployment.rolled_out.get_or_insert(at);
                if deployment.status == Status::Deploying {
                    deployment.status = Status::Watching;
                }
            }),
            Entry::BaselineTaken { deployment, baselines, .. } => self.step(*deployment, |deployment| {
                for (signal, baseline) in baselines {
                    deployment.baselines.entry(signal.clone()).or_insert_with(|| baseline.clone());
                }
            }),
            Entry::VerdictReached { deployment, verdict, question, .. } => self.step(*deployment, |deployment| {
                let before = deployment.verdict.replace((at, verdict.clone()));
                deployment.found_before.extend(before);
                let superfluous = deployment.found_before.len().saturating_sub(Deployment::KEPT_VERDICTS);
                deployment.found_before.drain(..superfluous);
                deployment.question = *question;
                deployment.refusal = None;
            }),
            Entry::ImpactDeclared { deployment, declaration, .. } => {
                self.step(*deployment, |deployment| deployment.declare(declaration, at));
            }
            Entry::ImpactWithdrawn { deployment, declaration, by, ended, .. } => {
                self.step(*deployment, |deployment| deployment.withdraw(declaration, by, *ended, at));
            }
            Entry::QuestionAnswered { deployment, choice, by, reason, .. } => self.step(*deployment, |deployment| {
                let severity = deployment.verdict.as_ref().map_or(Severity::P3, |(_, verdict)| verdict.severity);
                deployment.question = None;
                deployment.answered = Some(Answered { choice: *choice, by: by.clone(), reason: reason.clone(), at, severity });
            }),
            Entry::RollbackRefused { deployment, refusal, .. } => {
                self.step(*deployment, |deployment| deployment.refusal = Some(refusal.clone()));
            }
            Entry::Warned { deployment, warning, .. } => self.step(*deployment, |deployment| {
                if deployment.warned.len() >= warning::KEPT {
                    deployment.warned.remove(0);
                }
                deployment.warned.push((at, warning.clone()));
            }),
            Entry::RollbackPlanned { plan } => self.planned(plan, record),
            Entry::RollbackApplied { plan, binding, .. } => self.applied(*plan, binding, at),
            Entry::RollbackRolledOut { plan, .. } => self.rolled_out(*plan, at),
            Entry::RollbackEnded { plan, outcome, .. } => self.ended(*plan, outcome, at),
            Entry::AllClear { plan, .. } => self.all_clear(*plan, at),
            Entry::WindowPassed { deployment, log_evidence, .. } => self.step(*deployment, |deployment| {
                deployment.status = Status::Deployed;
                deployment.ended = Some(at);
                deployment.proof = Some(*log_evidence);
            }),
            Entry::WindowExtended { deployment, until, lacks, .. } => {
                self.step(*deployment, |deployment| deployment.extended = Some((*until, lacks.clone())));
            }
            Entry::WindowFailed { deployment, .. } => self.end(*deployment, Status::Failed, at),
            Entry::Superseded { deployment, .. } => self.superseded(*deployment, at),
            Entry::Marked { version, mark, by, reason, .. } => {
                self.marks.insert(version.clone(), Marked { mark: *mark, at, by: by.clone(), reason: reason.clone() });
            }
            Entry::Held { by, reason, until, .. } => {
                self.hold = Some(Hold { by: by.clone(), reason: reason.clone(), since: at, until: *until });
            }
            Entry::Resumed { .. } => self.hold = None,
            Entry::Blinded { signal, missing, since, .. } => {
                self.blind.insert(signal.clone(), (missing.clone(), *since));
            }
            Entry::Sighted { signal, .. } => {
                self.blind.remove(signal);
            }
            Entry::LedgerBegun { .. }
            | Entry::DestinationsKnown { .. }
            | Entry::BrakeTripped { .. }
            | Entry::BrakeReleased { .. }
            | Entry::NoticeDelivered { .. }
            | Entry::NoticeAbandoned { .. } => {}
        }
        let day = SignedDuration::from_hours(24);
        while self.automatic.front().is_some_and(|(planned, _)| at.duration_since(*planned) > day) {
            self.automatic.pop_front();
        }
        while self.incidents.front().is_some_and(|(_, until)| at.duration_since(*until) > day) {
            self.incidents.pop_front();
        }
        self.forget_old();
    }

    fn deployment_seen(&mut self, record: &Record) {
        let Entry::DeploymentSeen { environment, version, artifact, arrival, started, not_before, change, .. } = &record.entry else {
            return;
        };
        let id = DeploymentId(record.seq);
        let before = self.current().map_or(Timestamp::MIN, |before| before.seen);
        let announced = match arrival {
            Arrival::Rollback { .. } => None,
            Arrival::FirstSight | Arrival::Deployed => {
                self.announced.take().filter(|announced| record.at.duration_since(announced.at) <= Announcement::LIFE)
            }
        };
        let announced_start = announced.as_ref().and_then(|announced| announced.started);
        let started = announced_start.map_or(*started, |announced| announced.max(before)).min(record.at);
        let deployment = Deployment {
            id,
            version: version.clone(),
            arrival: arrival.clone(),
            environment: environment.clone(),
            started,
            not_before: started.min(*not_before),
            seen: record.at,
            watched_from: started,
            status: Status::Deploying,
            change: announced.as_ref().and_then(|announced| announced.change).unwrap_or(*change),
            baselines: BTreeMap::new(),
            verdict: None,
            found_before: Vec::new(),
            declared: Vec::new(),
            question: None,
            answered: None,
            refusal: None,
            warned: Vec::new(),
            extended: None,
            rolled_out: None,
            ended: None,
            voids: 0,
            rejection: None,
            proof: None,
            told: false,
            announced: announced.is_some(),
            past_rollback: None,
        };
        self.deployments.insert(id, deployment);
        self.current = Some(id);
        self.keep_artifact(&version.id, artifact.clone());
    }

    fn announced(&mut self, deployment: Option<DeploymentId>, started: Option<Timestamp>, change: Option<ChangeKind>, at: Timestamp) {
        match deployment {
            Some(deployment) => self.step(deployment, |deployment| {
                deployment.announced = true;
                if let Some(started) = started {
                    deployment.started = started.min(deployment.seen);
                    deployment.watched_from = deployment.started;
                    if deployment.started < deployment.not_before {
                        // What was taken for the time before was not: it is taken anew.
                        deployment.not_before = deployment.started;
                        deployment.baselines.clear();
                    }
                }
                if let Some(change) = change {
                    deployment.change = change;
                }
            }),
            None => self.announced = Some(Announcement { at, started, change }),
        }
    }

    fn planned(&mut self, plan: &Plan, record: &Record) {
        let id = PlanId(record.seq);
        if matches!(plan.cause, Cause::Verdict(_)) {
            self.automatic.push_back((record.at, id));
        }
        self.step(plan.deployment, |deployment| deployment.refusal = None);
        if let Some(past) = self.rollback.take() {
            self.step(past.plan.deployment, |deployment| deployment.past_rollback = Some(Box::new(past)));
        }
        let (plan, planned) = (plan.clone(), record.at);
        self.rollback = Some(Rollback { id, plan, planned, phase: Phase::Planned, applied: None, outcome: None, recovered: None });
    }

    fn applied(&mut self, id: PlanId, binding: &Binding, at: Timestamp) {
        let Some(rollback) = self.rollback.as_mut().filter(|rollback| rollback.id == id) else { return };
        rollback.phase = Phase::Applied { at };
        rollback.applied = Some((at, binding.clone()));
        let undone = rollback.plan.deployment;
        self.end(undone, Status::RolledBack, at);
    }

    fn rolled_out(&mut self, id: PlanId, at: Timestamp) {
        self.phase(id, Phase::Verifying { at });
        let brought = self.current().filter(|current| matches!(current.arrival, Arrival::Rollback { plan, .. } if plan == id));
        if let Some(brought) = brought.map(|brought| brought.id) {
            self.step(brought, |deployment| deployment.watched_from = at);
        }
    }

    fn phase(&mut self, id: PlanId, phase: Phase) {
        if let Some(rollback) = self.rollback.as_mut().filter(|rollback| rollback.id == id) {
            rollback.phase = phase;
        }
    }

    fn ended(&mut self, id: PlanId, outcome: &Outcome, at: Timestamp) {
        let Some(rollback) = self.rollback.as_mut().filter(|rollback| rollback.id == id) else { return };
        if matches!((&rollback.phase, outcome), (Phase::Recovered { .. }, Outcome::Interrupted { .. })) {
            rollback.phase = Phase::Ended;
            return;
        }
        rollback.outcome = Some((at, outcome.clone()));
        rollback.phase = Phase::Ended;
        if *outcome == Outcome::Recovered {
            rollback.phase = Phase::Recovered { at };
            rollback.recovered = Some(at);
        }
        let undone = rollback.plan.deployment;
        let found = self.deployments.get(&undone).and_then(|undone| undone.verdict.as_ref()).map(|(_, verdict)| verdict.onset);
        let Some(rollback) = self.rollback.as_ref() else { return };
        let by_verdict = matches!(rollback.plan.cause, Cause::Verdict(_)) || found.is_some();
        let onset = found.map_or(rollback.onset(), |found| found.min(rollback.onset()));
        let nothing_changed = matches!(outcome, Outcome::Void(_) | Outcome::Failed(Obstacle::Rejected(_) | Obstacle::TargetGone));
        match outcome {
            Outcome::Void(void) => {
                self.automatic.retain(|(_, counted)| *counted != id);
                if !matches!(void, Void::Expired) {
                    self.step(undone, |deployment| deployment.voids += 1);
                }
            }
            Outcome::Failed(Obstacle::Rejected(words)) => {
                self.automatic.retain(|(_, counted)| *counted != id);
                let binding = rollback.plan.binding.clone();
                self.step(undone, |deployment| {
                    let before = deployment.rejection.take();
                    let times = before.as_ref().map_or(1, |before| before.times.saturating_add(1));
                    let known = before.is_some_and(|before| before.words == *words);
                    deployment.rejection = Some(Rejection { at, times, binding, words: words.clone(), known });
                });
            }
            Outcome::Failed(_) | Outcome::DidNotHelp { .. } | Outcome::Unproven { .. } => {
                if let Some(current) = self.current().filter(|current| current.rollback_of() == Some(undone)).map(|current| current.id) {
                    self.end(current, Status::Failed, at);
                }
            }
            Outcome::Recovered | Outcome::Interrupted { .. } => {}
        }
        if !nothing_changed {
            self.incident(undone, onset, by_verdict, at);
        }
    }

    /// A deployment that the matrix calls bad made this time what it was, until it was gone or undone.
    fn incident(&mut self, deployment: DeploymentId, onset: Timestamp, by_verdict: bool, until: Timestamp) {
        // What never answered is not weighed until it had its time to start, so the onset comes later than the trouble.
        let started = self.deployments.get(&deployment).map(|deployment| deployment.not_before).filter(|_| by_verdict);
        let start_up = started.filter(|started| onset.duration_since(*started) <= SignedDuration::from_mins(10));
        self.incidents.push_back((start_up.map_or(onset, |started| started.min(onset)), until));
        if self.incidents.len() > 20 {
            self.incidents.pop_front();
        }
    }

    fn superseded(&mut self, id: DeploymentId, at: Timestamp) {
        self.end(id, Status::Superseded, at);
        let superseded = self.deployments.get(&id);
        // A version that is known good, and fails all the same, is a bad time for the service: whatever comes next comes into that, and can't be
        // expected to be as it was before.
        let known_bad = superseded.filter(|deployment| self.mark(&deployment.version.id) != Mark::Good);
        let verdict = known_bad.and_then(|deployment| deployment.verdict.as_ref());
        if let Some(onset) = verdict.filter(|(_, verdict)| verdict.response != Response::Notify).map(|(_, verdict)| verdict.onset) {
            self.incident(id, onset, true, at);
        }
    }

    fn all_clear(&mut self, id: PlanId, at: Timestamp) {
        self.phase(id, Phase::Ended);
        let brought = self.current().filter(|current| matches!(current.arrival, Arrival::Rollback { plan, .. } if plan == id));
        // A person may go to a version that is not known good: it has yet to pass a window.
        let target = self.rollback.as_ref().map(|rollback| &rollback.plan.to.id);
        let proved = brought.filter(|_| target.is_some_and(|target| self.mark(target) == Mark::Good));
        if let Some(brought) = proved.map(|brought| brought.id) {
            self.end(brought, Status::Deployed, at);
        }
    }

    fn step(&mut self, id: DeploymentId, change: impl FnOnce(&mut Deployment)) {
        if let Some(deployment) = self.deployments.get_mut(&id) {
            change(deployment);
        }
    }

    fn end(&mut self, id: DeploymentId, status: Status, at: Timestamp) {
        self.step(id, |deployment| {
            deployment.status = status;
            deployment.ended = Some(at);
            deployment.question = None;
        });
    }
}

impl Rollback {
    /// When what was rolled back began, by the best knowledge.
    #[must_use]
    pub const fn onset(&self) -> Timestamp {
        match &self.plan.cause {
            Cause::Verdict(verdict) => verdict.onset,
            Cause::Operator { .. } => self.planned,
        }
    }
}
