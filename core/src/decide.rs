//! What follows from what is known and what is seen: the entries that have to be written now. Every rule looks at levels, never at edges,
//! so that it does not matter how often it is asked, nor whether the daemon was away meanwhile. The first rule that has something to say
//! is heard; its entries are made durable and folded, and then all rules are asked again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::baseline::Baseline;
use crate::declaration::{self, alert_of};
use crate::entry::{Actor, Arrival, DeploymentId, Entry, Mark, MarkReason, Record, Scope};
use crate::evidence::{Evidence, Excluded, Health, Lack};
use crate::guard::{self, Limits, Refusal, Wish};
use crate::lifecycle::{Deployment, Rollback, ServiceState, State, Status};
use crate::observation::{Binding, Rollout, Workload};
use crate::past::Past;
use crate::plan::{Cause, Obstacle, Outcome, Phase, Plan, PlanId, Void};
use crate::service::{Decision, Service, ServiceName, SignalName};
use crate::severity::{Choice, Response};
use crate::verdict::{Failure, Finding, FindingState, Verdict};
use crate::warning;
use crate::words;

#[cfg(test)]
mod stories;
#[cfg(test)]
mod warning_stories;
#[cfg(test)]
mod word_stories;
#[cfg(test)]
pub(crate) mod world;

/// An unproved deployment is watched on for so long at a time (DECISION 2.8).
const EXTENSION: SignedDuration = SignedDuration::from_hours(24);

/// An attempt on an object with generations ends within this (`Platform::apply`); a program may take as long as a rollout.
const ATTEMPT: SignedDuration = SignedDuration::from_secs(30);

/// The brake is released by itself after so long without a new alarm.
const CALM: SignedDuration = SignedDuration::from_mins(30);

/// From these odds on something is suspect: 1 in 20, as a natural logarithm (DECISION 2.5).
const SUSPECT: f64 = 2.995_732_273_553_991;

/// What became of the effect of a plan, once that is known.
#[derive(Clone, Debug, PartialEq)]
pub enum EffectOutcome {
    /// It happened; the workload's binding since.
    Done(Binding),
    /// The workload was not what the effect was bound to; nothing was changed.
    Moved,
    /// The workload does not exist.
    Gone,
    /// The platform refused it for good; its words.
    Rejected(String),
    /// It was begun, did not bring the target, and is not to be tried again; what it changed is not known. The platform's words.
    Failed(String),
    /// Nobody has the target any more.
    TargetGone,
}

/// What has to be written about one service now. Ask until it is nothing.
pub fn decide(state: &State, policy: &Service, limits: &Limits, evidence: &mut Evidence, now: Timestamp) -> Vec<Entry> {
    let nothing_known = ServiceState::default();
    let service = state.service(&policy.name).unwrap_or(&nothing_known);
    attend(service, policy, evidence, now);
    Turn { state, service, policy, limits, evidence, now }.first_rule()
}

/// What has to be written about all services together.
#[must_use]
pub fn decide_fleet(state: &State, now: Timestamp) -> Vec<Entry> {
    if state.hold.as_ref().and_then(|hold| hold.until).is_some_and(|until| now >= until) {
        return vec![Entry::Resumed { scope: Scope::All, by: Actor::Daemon }];
    }
    let newest_alarm = state.alarms.back().map(|(at, _)| *at);
    match &state.brake {
        Some(brake) if now.duration_since(newest_alarm.unwrap_or(brake.since).max(brake.since)) >= CALM => {
            vec![Entry::BrakeReleased { by: Actor::Daemon }]
        }
        _ => Vec::new(),
    }
}

/// What would be known of one service at once, and of nothing else, if `entries` were written.
#[must_use]
pub fn foresee(state: &State, policy: &Service, limits: &Limits, evidence: &Evidence, entries: &[Entry], now: Timestamp) -> State {
    let mut state = state.excerpt(&policy.name);
    let write = |state: &mut State, entries: &[Entry]| {
        for entry in entries {
            state.apply(&Record { seq: state.seq + 1, at: now, entry: entry.clone() });
        }
    };
    write(&mut state, entries);
    // A verdict, the brake, a plan or a refusal: more never follows at once.
    for _ in 0..4 {
        let nothing_known = ServiceState::default();
        let service = state.service(&policy.name).unwrap_or(&nothing_known);
        let entries = Turn { state: &state, service, policy, limits, evidence, now }.verdict();
        write(&mut state, &entries);
    }
    state
}

/// What the proof still lacks that the open rollback of a service helped; nothing where none is looked for.
#[must_use]
pub(crate) fn unproved(state: &State, policy: &Service, limits: &Limits, evidence: &Evidence, now: Timestamp) -> Vec<Lack> {
    let verifying = |service: &&ServiceState| {
        let open = service.open_rollback();
        open.is_some_and(|open| matches!(open.phase, Phase::Verifying { .. }) && evidence.verified() == Some(open.id))
    };
    let Some(service) = state.service(&policy.name).filter(verifying) else { return Vec::new() };
    let turn = Turn { state, service, policy, limits, evidence, now };
    service.open_rollback().map(|open| turn.unproved(open)).unwrap_or_default()
}

/// What follows from the outcome of an effect.
#[must_use]
pub fn effect_over(state: &State, name: &ServiceName, plan: PlanId, outcome: EffectOutcome) -> Vec<Entry> {
    let rollback = state.service(name).and_then(|service| service.rollback.as_ref());
    let Some(rollback) = rollback.filter(|rollback| rollback.id == plan && rollback.phase == Phase::Planned) else { return Vec::new() };
    let service = name.clone();
    let ended = |outcome| vec![Entry::RollbackEnded { service: name.clone(), plan, outcome }];
    match outcome {
        EffectOutcome::Done(binding) => vec![
            Entry::RollbackApplied { service: service.clone(), plan, binding },
            mark(&service, rollback, Mark::Bad, MarkReason::RolledBack(plan)),
        ],
        EffectOutcome::Moved => ended(Outcome::Void(Void::Moved)),
        EffectOutcome::Gone => ended(Outcome::Void(Void::Gone)),
        EffectOutcome::Rejected(words) => ended(Outcome::Failed(Obstacle::Rejected(words))),
        EffectOutcome::Failed(words) => ended(Outcome::Failed(Obstacle::NotRolledOut(words))),
        EffectOutcome::TargetGone => ended(Outcome::Failed(Obstacle::TargetGone)),
    }
}

/// What follows from what is known of the time before a deployment.
#[must_use]
pub fn history_read(state: &State, policy: &Service, deployment: DeploymentId, signal: &SignalName, past: &Past) -> Vec<Entry> {
    let service = state.service(&policy.name);
    let Some((service, known)) = service.and_then(|service| Some((service, service.deployments.get(&deployment)?))) else {
        return Vec::new();
    };
    if known.baselines.contains_key(signal) {
        return Vec::new();
    }
    let excluded: Vec<Excluded> = service.incidents.iter().copied().collect();
    let baseline = Evidence::baseline_of_past(policy, signal, past, known.not_before, &excluded);
    vec![Entry::BaselineTaken { service: policy.name.clone(), deployment, baselines: BTreeMap::from([(signal.clone(), baseline)]) }]
}

fn mark(service: &ServiceName, rollback: &Rollback, mark: Mark, reason: MarkReason) -> Entry {
    Entry::Marked { service: service.clone(), version: rollback.plan.from.id.clone(), mark, by: Actor::Daemon, reason }
}

/// Points the evidence at what the state says is to be weighed.
fn attend(service: &ServiceState, policy: &Service, evidence: &mut Evidence, now: Timestamp) {
    match service.current().filter(|current| current.status.in_window()) {
        Some(current) => {
            if evidence.watched() != Some(current.id) || evidence.watched_from() != Some(current.watched_from) {
                evidence.watch(policy, current.id, current.watched_from, patience(service, policy), now);
            }
            evidence.set_baselines(policy, &current.baselines);
        }
        None if evidence.watched().is_some() => evidence.unwatch(),
        None => {}
    }
    match service.open_rollback() {
        Some(Rollback { id, plan, phase: Phase::Verifying { at }, .. }) if evidence.verified() != Some(*id) => {
            evidence.verify(policy, *id, trigger(service, plan), *at);
        }
        Some(Rollback { phase: Phase::Verifying { .. }, .. }) => {}
        _ if evidence.verified().is_some() => evidence.unverify(),
        _ => {}
    }
}

/// What fired before a rollback: the verdict that led to it, also where a person was asked first.
fn trigger<'a>(service: &'a ServiceState, plan: &'a Plan) -> Option<&'a Verdict> {
    match &plan.cause {
        Cause::Verdict(verdict) => Some(verdict),
        Cause::Operator { .. } => {
            let undone = service.deployments.get(&plan.deployment)?;
            let approved = undone.answered.as_ref().is_some_and(|answered| answered.choice == Choice::RollBack);
            undone.verdict.as_ref().map(|(_, verdict)| verdict).filter(|_| approved)
        }
    }
}

/// How long a version may take to become ready where nothing serves meanwhile: three times as long as the slowest that is known, since the
/// next one may have more to do. As long as none is known, as long as any may take.
fn patience(service: &ServiceState, policy: &Service) -> SignedDuration {
    let Decision { startup_deadline, ready_deadline, .. } = policy.decision;
    let usual = service.slowest_start().map_or(ready_deadline, |slowest| slowest.saturating_mul(3));
    usual.min(ready_deadline).max(startup_deadline)
}

/// Whether somebody brought back what the effect had left, before the effect was seen. A platform without generations can't tell that
/// from an effect that still has to show.
fn undone_before_it_was_seen(rollback: &Rollback, current: &Deployment, workload: &Workload) -> bool {
    let applied = rollback.applied.as_ref().map(|(_, binding)| binding);
    let later = match (&workload.binding, applied) {
        (Binding::Object { uid, generation }, Some(Binding::Object { uid: applied_to, generation: applied })) => {
            uid != applied_to || generation > applied
        }
        _ => false,
    };
    let unseen = current.id == rollback.plan.deployment && matches!(rollback.phase, Phase::Applied { .. });
    unseen && later && workload.version.id == current.version.id
}

/// Whether the answer to a question was to go back, and it is still the question.
fn is_to_go_back(deployment: &Deployment) -> bool {
    let asked = deployment.verdict.as_ref().is_some_and(|(_, verdict)| verdict.response == Response::Ask);
    asked && deployment.answered.as_ref().is_some_and(|answered| answered.choice == Choice::RollBack)
}

/// One look at everything that is known of one service.
struct Turn<'a> {
    state: &'a State,
    service: &'a ServiceState,
    policy: &'a Service,
    limits: &'a Limits,
    evidence: &'a Evidence,
    now: Timestamp,
}

impl Turn<'_> {
    fn first_rule(&self) -> Vec<Entry> {
        let rules: [fn(&Self) -> Vec<Entry>; 11] = [
            Self::hold_over,
            Self::declaration_over,
            Self::arrival,
            Self::rolled_out,
            Self::baseline,
            Self::rollback_step,
            Self::verdict,
            Self::warning,
            Self::question_over,
            Self::window_over,
            Self::sight,
        ];
        rules.iter().map(|rule| rule(self)).find(|entries| !entries.is_empty()).unwrap_or_default()
    }

    fn name(&self) -> ServiceName {
        self.policy.name.clone()
    }

    /// A pause with an end is over.
    fn hold_over(&self) -> Vec<Entry> {
        match self.service.hold.as_ref().and_then(|hold| hold.until) {
            Some(until) if self.now >= until => {
                vec![Entry::Resumed { scope: Scope::Service(self.name()), by: Actor::Daemon }]
            }
            _ => Vec::new(),
        }
    }

    /// Nothing was heard of an alert for as long as it lasts by itself.
    fn declaration_over(&self) -> Vec<Entry> {
        let of = |deployment: &Deployment| {
            let open = deployment.declared.iter().filter(|declared| declared.is_open()).map(|declared| &declared.declaration);
            let over = open.filter_map(|open| Some((open, open.alert.as_ref()?.until))).filter(|(_, until)| self.now >= *until);
            over.map(|(declaration, ended)| Entry::ImpactWithdrawn {
                service: self.name(),
                deployment: deployment.id,
                declaration: declaration.clone(),
                by: Actor::Daemon,
                ended,
            })
            .collect::<Vec<_>>()
        };
        self.service.deployments.values().flat_map(of).collect()
    }

    /// What is deployed is not what the ledger says: a deployment arrived, by hand or by our own plan.
    fn arrival(&self) -> Vec<Entry> {
        let Some((workload, _)) = self.evidence.workload() else { return Vec::new() };
        let Some(current) = self.service.current() else { return self.first_sight(workload) };
        if let Some(rollback) = self.service.rollback.as_ref() {
            if let Some(entries) = self.found_effect(rollback, current, workload) {
                return entries;
            }
            if undone_before_it_was_seen(rollback, current, workload) {
                return self.deployed(current, workload);
            }
        }
        if workload.version.id == current.version.id { Vec::new() } else { self.deployed(current, workload) }
    }

    /// The effect of the newest rollback is found in the world: it happened, whatever is known of it.
    fn found_effect(&self, rollback: &Rollback, current: &Deployment, workload: &Workload) -> Option<Vec<Entry>> {
        let brought = matches!(current.arrival, Arrival::Rollback { plan, .. } if plan == rollback.id);
        let seen = || vec![self.seen(workload, Arrival::Rollback { plan: rollback.id, of: rollback.plan.deployment })];
        match &rollback.phase {
            Phase::Planned if self.names(rollback, workload) || self.is_ours(rollback, workload) => {
                // What came after it has a binding of its own.
                let ours = self.is_ours(rollback, workload);
                let binding = if ours { workload.binding.clone() } else { rollback.plan.binding.clone() };
                Some(effect_over(self.state, &self.policy.name, rollback.id, EffectOutcome::Done(binding)))
            }
            Phase::Applied { .. } if !brought && self.is_ours(rollback, workload) => Some(seen()),
            // It was given up before it showed. It is a rollback all the same, so it must not be taken for a person's deployment.
            Phase::Ended if current.id == rollback.plan.deployment && rollback.applied.is_some() && self.is_ours(rollback, workload) => {
                Some(seen())
            }
            _ => None,
        }
    }

    fn first_sight(&self, workload: &Workload) -> Vec<Entry> {
        let mut entries = vec![self.seen(workload, Arrival::FirstSight)];
        let known_bad = workload.record.iter().flat_map(|record| &record.known_bad);
        entries.extend(known_bad.map(|version| Entry::Marked {
            service: self.name(),
            version: version.clone(),
            mark: Mark::Bad,
            by: Actor::Daemon,
            reason: MarkReason::FoundOnObject,
        }));
        entries
    }

    /// Whether the object says that the effect of this rollback happened, whatever came after it.
    fn names(&self, rollback: &Rollback, workload: &Workload) -> bool {
        workload.record.as_ref().is_some_and(|record| record.plan == self.state.global(rollback.id.0))
    }

    /// Whether the workload is what the effect of this rollback leaves behind.
    fn is_ours(&self, rollback: &Rollback, workload: &Workload) -> bool {
        match &workload.binding {
            Binding::Object { .. } => {
                let is_target = workload.record.as_ref().is_some_and(|record| record.to == workload.version.id);
                let untouched = rollback.applied.as_ref().is_some_and(|(_, binding)| *binding == workload.binding);
                untouched || is_target && self.names(rollback, workload)
            }
            Binding::Version(_) => workload.version.id == rollback.plan.to.id,
        }
    }

    /// Somebody deployed.
    fn deployed(&self, current: &Deployment, workload: &Workload) -> Vec<Entry> {
        let mut entries = Vec::new();
        if let Some(rollback) = self.service.open_rollback() {
            let by = workload.version.clone();
            match rollback.phase {
                Phase::Planned => entries.push(self.ended(rollback, Outcome::Void(Void::Superseded { by }))),
                Phase::Applied { .. } | Phase::Verifying { .. } | Phase::Recovered { .. } => {
                    entries.push(self.ended(rollback, Outcome::Interrupted { by }));
                }
                Phase::Ended => {}
            }
        }
        if current.status.in_window() {
            entries.push(Entry::Superseded { service: self.name(), deployment: current.id });
        }
        entries.push(self.seen(workload, Arrival::Deployed));
        entries
    }

    fn seen(&self, workload: &Workload, arrival: Arrival) -> Entry {
        Entry::DeploymentSeen {
            service: self.name(),
            environment: self.policy.environment.clone(),
            version: workload.version.clone(),
            artifact: workload.artifact.clone(),
            arrival,
            started: self.evidence.workload().map_or(self.now, |(_, looked)| looked.min(self.now)),
            not_before: self.evidence.other_version_until().unwrap_or(self.now),
            change: workload.change.unwrap_or_default(),
        }
    }

    fn ended(&self, rollback: &Rollback, outcome: Outcome) -> Entry {
        Entry::RollbackEnded { service: self.name(), plan: rollback.id, outcome }
    }

    /// The workload, if it is what the ledger says is deployed.
    fn present(&self) -> Option<&Workload> {
        let current = self.service.current()?;
        self.evidence.workload().map(|(workload, _)| workload).filter(|workload| workload.version.id == current.version.id)
    }

    fn rolled_out(&self) -> Vec<Entry> {
        match (self.service.current(), self.present()) {
            (Some(current), Some(workload)) if current.status == Status::Deploying && workload.rollout == Rollout::Complete => {
                vec![Entry::RolledOut { service: self.name(), deployment: current.id }]
            }
            _ => Vec::new(),
        }
    }

    /// Takes the baselines that need no history of a source: what the daemon saw itself, or what a rollback's deployment inherits from
    /// the one that it undid, since its own past is the incident.
    fn baseline(&self) -> Vec<Entry> {
        let Some(current) = self.service.current().filter(|current| current.status.in_window()) else { return Vec::new() };
        let undone = current.rollback_of().and_then(|of| self.service.deployments.get(&of));
        let excluded: Vec<Excluded> = self.service.incidents.iter().copied().collect();
        let lacking = self.policy.signals.keys().filter(|signal| !current.baselines.contains_key(*signal));
        let baselines: BTreeMap<SignalName, Baseline> = lacking
            .filter_map(|signal| {
                let inherited = undone.and_then(|undone| undone.baselines.get(signal)).cloned();
                let baseline = inherited.or_else(|| self.evidence.baseline(self.policy, signal, current.not_before, &excluded))?;
                Some((signal.clone(), baseline))
            })
            .collect();
        if baselines.is_empty() {
            return Vec::new();
        }
        vec![Entry::BaselineTaken { service: self.name(), deployment: current.id, baselines }]
    }

    /// Takes an open rollback to its next phase.
    fn rollback_step(&self) -> Vec<Entry> {
        let Some(rollback) = self.service.open_rollback() else { return Vec::new() };
        match rollback.phase {
            Phase::Planned => self.planned_step(rollback),
            Phase::Applied { at } => self.applied_step(rollback, at),
            Phase::Verifying { at } => self.verifying_step(rollback, at),
            Phase::Recovered { at } => self.recovered_step(rollback, at),
            Phase::Ended => Vec::new(),
        }
    }

    /// A plan that could not start in time is void once a look shows that it had no effect: one from after the last attempt, which may have
    /// begun just before the plan expired.
    fn planned_step(&self, rollback: &Rollback) -> Vec<Entry> {
        let attempt = match rollback.plan.binding {
            Binding::Object { .. } => ATTEMPT,
            Binding::Version(_) => self.policy.verification.rollout_timeout,
        };
        let over = rollback.plan.expires.saturating_add(attempt).unwrap_or(Timestamp::MAX);
        let looks = self.evidence.workload().filter(|(_, looked)| *looked > over);
        let untouched = looks.is_some_and(|(workload, _)| workload.version.id == rollback.plan.from.id);
        if untouched { vec![self.ended(rollback, Outcome::Void(Void::Expired))] } else { Vec::new() }
    }

    fn applied_step(&self, rollback: &Rollback, applied: Timestamp) -> Vec<Entry> {
        let brought =
            self.service.current().is_some_and(|current| matches!(current.arrival, Arrival::Rollback { plan, .. } if plan == rollback.id));
        let ours = self.present().filter(|_| brought);
        if ours.is_some_and(|workload| workload.rollout == Rollout::Complete) {
            return vec![Entry::RollbackRolledOut { service: self.name(), plan: rollback.id }];
        }
        let words = match ours.map(|workload| &workload.rollout) {
            Some(Rollout::Failed(words)) => Some(words.clone()),
            _ if self.now.duration_since(applied) >= self.policy.verification.rollout_timeout => Some(match ours {
                Some(workload) => format!("{} of {} replicas ready", workload.replicas.ready, workload.replicas.desired),
                None => "the workload can't be seen".to_owned(),
            }),
            _ => ours.and_then(|_| self.hopeless()),
        };
        words.map_or_else(Vec::new, |words| vec![self.ended(rollback, Outcome::Failed(Obstacle::NotRolledOut(words)))])
    }

    /// Why the target itself can't be rolled out, by the platform's hard rules. What probes and counters see until the rollout is over is
    /// what is being undone; and that nothing is available is no wonder.
    fn hopeless(&self) -> Option<String> {
        let findings = self.evidence.findings(self.policy, self.now);
        findings.iter().find_map(|finding| match &finding.state {
            FindingState::Failing(
                failure @ (Failure::CrashLoop(_) | Failure::CannotStart(_) | Failure::NeverReady { .. } | Failure::ProgressDeadline(_)),
            ) => Some(words::failure(failure, None)),
            _ => None,
        })
    }

    fn verifying_step(&self, rollback: &Rollback, since: Timestamp) -> Vec<Entry> {
        let lacks = self.unproved(rollback);
        if lacks.is_empty() {
            return vec![self.ended(rollback, Outcome::Recovered)];
        }
        let timed_out = self.now.duration_since(since) >= self.policy.verification.timeout;
        if !timed_out && !self.relapsed() {
            return Vec::new();
        }
        if self.relapsed() || lacks.iter().any(Lack::speaks_against) {
            vec![
                self.ended(rollback, Outcome::DidNotHelp { lacks }),
                mark(&self.policy.name, rollback, Mark::Unknown, MarkReason::NotToBlame(rollback.id)),
            ]
        } else {
            vec![self.ended(rollback, Outcome::Unproven { lacks })]
        }
    }

    /// What the proof still lacks that a rollback helped.
    fn unproved(&self, rollback: &Rollback) -> Vec<Lack> {
        let mut lacks = self.evidence.recovery(self.policy, self.now);
        lacks.extend(self.still_firing(rollback));
        lacks
    }

    /// The alerts that a rollback was to silence. A person's word is silenced by that person, who may be asleep: it is not waited for.
    fn still_firing(&self, rollback: &Rollback) -> Vec<Lack> {
        let Some(verdict) = trigger(self.service, &rollback.plan).filter(|verdict| alert_of(&verdict.signal).is_some()) else {
            return Vec::new();
        };
        let undone = self.service.deployments.get(&rollback.plan.deployment);
        let declared = undone.into_iter().chain(self.service.current()).flat_map(|deployment| &deployment.declared);
        let firing = declared.filter(|declared| declared.is_open() && declared.declaration.impact == verdict.impact);
        let alerts = firing.map(|declared| declared.declaration.signal()).filter(|signal| alert_of(signal).is_some());
        alerts.collect::<BTreeSet<_>>().into_iter().map(Lack::Suspect).collect()
    }

    /// It stayed well long enough, or it came back: then going back was not the whole answer.
    fn recovered_step(&self, rollback: &Rollback, since: Timestamp) -> Vec<Entry> {
        if let Some(verdict) = self.relapse() {
            let lacks = vec![Lack::Suspect(verdict.signal.clone())];
            return vec![self.ended(rollback, Outcome::DidNotHelp { lacks })];
        }
        let over = self.now.duration_since(since) >= self.policy.verification.watch;
        if over && self.looks_well() { vec![Entry::AllClear { service: self.name(), plan: rollback.id }] } else { Vec::new() }
    }

    /// Whether everything can be seen and nothing fails: who sees nothing gives no all-clear.
    fn looks_well(&self) -> bool {
        let complete = self.present().is_some_and(|workload| workload.rollout == Rollout::Complete);
        let sees =
            self.policy.signals.keys().chain([&SignalName::platform()]).all(|signal| self.evidence.sees(self.policy, signal, self.now));
        complete && sees && self.service.current().and_then(|current| self.judged(current)).is_none()
    }

    /// The verdict on what a rollback brought.
    fn relapse(&self) -> Option<&Verdict> {
        let current = self.service.current().filter(|current| current.rollback_of().is_some())?;
        current.verdict.as_ref().map(|(_, verdict)| verdict).filter(|verdict| verdict.response == Response::RollBack)
    }

    fn relapsed(&self) -> bool {
        self.relapse().is_some()
    }

    /// What is found: by the judge as long as the window is open, and by whoever says so as long as it runs.
    fn judged(&self, current: &Deployment) -> Option<Verdict> {
        let in_window = current.status.in_window();
        let weighed = in_window.then(|| self.evidence.verdict(self.policy, self.now)).flatten();
        if !current.is_declared() {
            return weighed;
        }
        let others = match &weighed {
            Some(weighed) => weighed.findings.clone(),
            None if in_window => self.evidence.findings(self.policy, self.now),
            None => Vec::new(),
        };
        declaration::judge(self.policy, current, weighed, others, self.now)
    }

    /// Something was found: it is recorded, and answered as the matrix says.
    fn verdict(&self) -> Vec<Entry> {
        let may_be_bad = |current: &&Deployment| current.status.in_window() || current.is_declared() && current.status.may_be_bad();
        let Some(current) = self.service.current().filter(may_be_bad) else { return Vec::new() };
        if matches!(self.service.rollback.as_ref().map(|rollback| &rollback.phase), Some(Phase::Applied { .. })) {
            return Vec::new();
        }
        let Some(verdict) = self.judged(current) else { return Vec::new() };
        if self.something_worse_is_near(&verdict) {
            return Vec::new();
        }
        let known = current.verdict.as_ref().map(|(_, known)| known);
        if known.is_none_or(|known| (verdict.response, verdict.severity) < (known.response, known.severity)) {
            let question = declaration::question(self.policy, current, &verdict, self.now);
            return vec![Entry::VerdictReached { service: self.name(), deployment: current.id, verdict, question }];
        }
        match verdict.response {
            Response::RollBack => self.answer(current, verdict),
            Response::Ask if is_to_go_back(current) => self.answer(current, verdict),
            Response::Ask | Response::Notify => Vec::new(),
        }
    }

    /// What nobody is asked about and nothing is done about, but people have to hear of.
    fn warning(&self) -> Vec<Entry> {
        let due = warning::due(self.service, self.policy, self.evidence, self.now);
        let warned = due.map(|(deployment, warning)| Entry::Warned { service: self.name(), deployment, warning });
        warned.into_iter().collect()
    }

    /// Nobody answered in time: what the matrix says for that case holds. To go back on it takes that it is still so.
    fn question_over(&self) -> Vec<Entry> {
        let Some(current) = self.service.current() else { return Vec::new() };
        let under_way = self.service.open_rollback().is_some_and(|rollback| rollback.plan.deployment == current.id);
        let Some(question) = current.question.filter(|question| self.now >= question.until && !under_way) else { return Vec::new() };
        vec![Entry::QuestionAnswered {
            service: self.name(),
            deployment: current.id,
            choice: question.otherwise,
            by: Actor::Daemon,
            reason: "nobody answered in time".to_owned(),
        }]
    }

    /// Nobody is asked about something that is about to be answered without them: a worse level is reached already, and only waits for
    /// its gates. That can take as long as the worse row promises, and no longer.
    fn something_worse_is_near(&self, verdict: &Verdict) -> bool {
        let patience = |finding: &Finding| self.policy.matrix.row(finding.impact).within.unwrap_or(SignedDuration::ZERO);
        verdict.response != Response::RollBack
            && verdict.findings.iter().any(|finding| {
                self.policy.matrix.row(finding.impact).severity < verdict.severity
                    && self.now.duration_since(verdict.onset) < patience(finding)
                    && finding.state == FindingState::Passing
                    && finding
                        .numbers
                        .as_ref()
                        .is_some_and(|numbers| numbers.now.is_some_and(|now| now >= numbers.severity) && numbers.log_evidence >= SUSPECT)
            })
    }

    fn answer(&self, current: &Deployment, verdict: Verdict) -> Vec<Entry> {
        let rollback = self.service.open_rollback();
        if rollback.is_some_and(|rollback| {
            rollback.plan.deployment == current.id || matches!(rollback.phase, Phase::Applied { .. } | Phase::Verifying { .. })
        }) {
            return Vec::new();
        }
        if !self.evidence.looked_at_workload() {
            return Vec::new();
        }
        let alarmed = self.state.alarmed(self.limits.brake_within, self.now);
        if self.state.brake.is_none() && self.limits.brake(alarmed.len(), self.state.services.len()) {
            return vec![Entry::BrakeTripped { services: alarmed }];
        }
        // Bound to it, a plan on an old look is as safe as one on a new look: an API that can't be watched may still take a write.
        let workload = self.evidence.workload().map(|(workload, _)| workload);
        if self.is_what_was_moved(current, workload) {
            return Vec::new();
        }
        let wish = Wish { deployment: current, to: None, cause: Cause::Verdict(verdict) };
        match guard::plan(self.state, self.policy, self.limits, workload, wish, self.now) {
            Ok(plan) => vec![Entry::RollbackPlanned { plan }],
            Err(refusal) if current.refusal.as_ref().is_some_and(|told| told.name() == refusal.name()) => Vec::new(),
            Err(refusal) => self.refused(current.id, refusal),
        }
    }

    /// Whether this is still the look that a plan was bound to which found the workload changed or gone: the next plan waits for a newer one.
    fn is_what_was_moved(&self, current: &Deployment, workload: Option<&Workload>) -> bool {
        let Some(rollback) = self.service.rollback.as_ref().filter(|rollback| rollback.plan.deployment == current.id) else { return false };
        let Some((ended, Outcome::Void(Void::Moved | Void::Gone))) = &rollback.outcome else { return false };
        let looked = self.evidence.workload().map(|(_, looked)| looked);
        match workload.map(|workload| &workload.binding) {
            Some(binding @ Binding::Object { .. }) => *binding == rollback.plan.binding,
            Some(Binding::Version(_)) => looked <= Some(*ended),
            None => false,
        }
    }

    fn refused(&self, deployment: DeploymentId, refusal: Refusal) -> Vec<Entry> {
        vec![Entry::RollbackRefused { service: self.name(), deployment, refusal }]
    }

    /// A window ended: the version proved itself, or it is bad and still there, or nobody knows.
    fn window_over(&self) -> Vec<Entry> {
        let Some(current) = self.service.current().filter(|current| current.status.in_window()) else { return Vec::new() };
        if self.now.duration_since(current.started) < self.policy.window || self.service.open_rollback().is_some() {
            return Vec::new();
        }
        // Who is asked about a deployment decides whether it stays.
        if current.question.is_some() {
            return Vec::new();
        }
        let standing = current.verdict.as_ref().is_some_and(|(_, verdict)| verdict.response == Response::RollBack);
        if standing || is_to_go_back(current) {
            return vec![Entry::WindowFailed { service: self.name(), deployment: current.id }];
        }
        // Shortly after a start of the daemon, or of a replica, it can't be told yet.
        if self.evidence.is_settling(self.policy, self.now) {
            return Vec::new();
        }
        match self.health(current) {
            Health::Proven { log_evidence } => self.passed(current, log_evidence),
            Health::Unproven(_) if current.extended.as_ref().is_some_and(|(until, _)| self.now < *until) => Vec::new(),
            Health::Unproven(lacks) => {
                let until = self.now.saturating_add(EXTENSION).unwrap_or(Timestamp::MAX);
                vec![Entry::WindowExtended { service: self.name(), deployment: current.id, until, lacks }]
            }
        }
    }

    /// Whether it proved itself, and nobody says otherwise.
    fn health(&self, current: &Deployment) -> Health {
        let suspects: Vec<Lack> = declaration::suspects(self.policy, current).into_iter().map(Lack::Suspect).collect();
        match self.evidence.health(self.policy, self.now) {
            health if suspects.is_empty() => health,
            Health::Proven { .. } => Health::Unproven(suspects),
            Health::Unproven(lacks) => Health::Unproven(lacks.into_iter().chain(suspects).collect()),
        }
    }

    fn passed(&self, current: &Deployment, log_evidence: f64) -> Vec<Entry> {
        let passed = Entry::WindowPassed { service: self.name(), deployment: current.id, log_evidence };
        let reason = MarkReason::PassedWindow(current.id);
        let version = current.version.id.clone();
        vec![passed, Entry::Marked { service: self.name(), version, mark: Mark::Good, by: Actor::Daemon, reason }]
    }

    /// A source went away or came back while something depends on it.
    fn sight(&self) -> Vec<Entry> {
        let depends = self.service.current().is_some_and(|current| current.status.in_window()) || self.service.open_rollback().is_some();
        let blind = if depends { self.evidence.blind(self.policy, self.now, self.limits.blind_after) } else { Vec::new() };
        let back = self.service.blind.keys().filter(|known| !depends || self.evidence.sees(self.policy, known, self.now));
        let gone = blind.iter().filter(|blind| !self.service.blind.contains_key(&blind.signal));
        let back = back.map(|signal| Entry::Sighted { service: self.name(), signal: signal.clone() });
        let gone = gone.map(|blind| Entry::Blinded {
            service: self.name(),
            signal: blind.signal.clone(),
            missing: blind.missing.clone(),
            since: blind.since,
        });
        back.chain(gone).collect()
    }
}
