//! The net: what must hold of every run, whatever was broken. It walks through what really happened and what the ledger says, side by
//! side, in the order in which both came about. The names are those of the reliability study: S safety, L liveness, N notices.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::entry::{Arrival, DeploymentId, Entry, Mark, Record, Scope};
use rollbackd_core::guard::Limits;
use rollbackd_core::lifecycle::{ServiceState, State};
use rollbackd_core::notice::Notice;
use rollbackd_core::observation::Binding;
use rollbackd_core::plan::{Cause, Outcome, Phase, Plan, PlanId};
use rollbackd_core::service::{Service, ServiceName};
use rollbackd_core::severity::Response;
use rollbackd_core::version::VersionId;

use super::cluster::{Behaviour, image};
use super::host::ledger_name;
use super::world::{Fact, What, plan_name};

/// Everything that is known of a run once it is over.
pub struct Run {
    pub facts: Vec<Fact>,
    /// What was written, to one ledger after the other; all but the last were lost.
    pub ledgers: Vec<Vec<Record>>,
    pub services: BTreeMap<ServiceName, Service>,
    pub limits: Limits,
    pub destinations: Vec<&'static str>,
    pub behaviours: BTreeMap<String, Behaviour>,
    /// What each service runs at the end.
    pub running: BTreeMap<String, String>,
    pub requests: u64,
    pub lasted: SignedDuration,
    /// The end was calm and long enough that everything must have come to its end.
    pub calm: bool,
}

/// An invariant that did not hold, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub words: String,
}

/// A plan's life in the world and in the ledger.
struct Life {
    /// Which ledger planned it.
    ledger: usize,
    plan: Plan,
    at: Timestamp,
    applied: u32,
    recorded: bool,
    outcomes: Vec<Outcome>,
    all_clear: bool,
}

impl Life {
    const fn is_automatic(&self) -> bool {
        matches!(self.plan.cause, Cause::Verdict(_))
    }

    fn is_void(&self) -> bool {
        self.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Void(_)))
    }
}

struct Audit<'a> {
    run: &'a Run,
    /// Which ledger is written now.
    ledger: usize,
    state: State,
    images: BTreeMap<VersionId, String>,
    lives: BTreeMap<String, Life>,
    /// By their ids, with their place in the present ledger.
    notices: BTreeMap<String, (u64, Notice)>,
    delivered: BTreeSet<(String, String)>,
    well: BTreeMap<String, bool>,
    running: BTreeMap<String, String>,
    held: BTreeSet<Scope>,
    violations: Vec<Violation>,
}

/// Everything that did not hold.
pub fn audit(run: &Run) -> Vec<Violation> {
    let mut audit = Audit {
        run,
        ledger: 0,
        state: State::default(),
        images: BTreeMap::new(),
        lives: BTreeMap::new(),
        notices: BTreeMap::new(),
        delivered: BTreeSet::new(),
        well: BTreeMap::new(),
        running: BTreeMap::new(),
        held: BTreeSet::new(),
        violations: Vec::new(),
    };
    let mut ledgers = run.ledgers.iter();
    let mut records = ledgers.next().into_iter().flatten().peekable();
    for fact in &run.facts {
        if matches!(fact.what, What::LedgerLost) {
            records.by_ref().for_each(|record| audit.record(record));
            records = ledgers.next().into_iter().flatten().peekable();
            audit.begin_ledger();
        }
        while let Some(record) = records.next_if(|record| record.seq <= fact.durable) {
            audit.record(record);
        }
        audit.fact(fact);
    }
    records.for_each(|record| audit.record(record));
    audit.end();
    audit.violations
}

impl Audit<'_> {
    fn must(&mut self, holds: bool, invariant: &'static str, words: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(Violation { invariant, words: words() });
        }
    }

    /// Everything is forgotten, pauses and budgets too; what a plan of the ledger before did to the world still counts.
    fn begin_ledger(&mut self) {
        self.ledger += 1;
        self.state = State::default();
        self.held.clear();
    }

    fn records(&self) -> &[Record] {
        self.run.ledgers.get(self.ledger).map_or(&[], Vec::as_slice)
    }

    fn plan_name(&self, plan: PlanId) -> String {
        plan_name(&ledger_name(self.ledger), plan)
    }

    fn image(&self, version: &VersionId) -> String {
        self.images.get(version).cloned().unwrap_or_else(|| format!("unknown {version}"))
    }

    fn behaviour(&self, image: &str) -> Behaviour {
        self.run.behaviours.get(image).copied().unwrap_or(Behaviour::GOOD)
    }

    fn service(&self, name: &ServiceName) -> ServiceState {
        self.state.service(name).cloned().unwrap_or_default()
    }

    fn record(&mut self, record: &Record) {
        let seq = record.seq;
        let (next, newest) = (self.state.seq + 1, self.state.at);
        self.must(seq == next, "S16", || format!("record {seq} follows {}", next - 1));
        self.must(record.at >= newest, "S16", || format!("record {seq} is earlier than the one before"));
        match &record.entry {
            Entry::DeploymentSeen { version, artifact: Some(artifact), .. } => {
                let image = serde_json::from_str(&artifact.0).map(|template| image(&template)).unwrap_or_default();
                self.images.insert(version.id.clone(), image);
            }
            Entry::RollbackPlanned { plan } => self.planned(plan, record),
            Entry::RollbackApplied { service, plan, .. } => self.applied(service, *plan, record),
            Entry::RollbackEnded { service, plan, outcome } => self.ended(service, *plan, outcome, record),
            Entry::AllClear { plan, .. } => {
                let name = self.plan_name(*plan);
                let Some(life) = self.lives.get_mut(&name) else { return };
                life.all_clear = true;
                let recovered = life.outcomes.last() == Some(&Outcome::Recovered);
                self.must(recovered, "S15", || format!("all clear of plan {plan}, which had not recovered"));
            }
            Entry::WindowPassed { service, deployment, .. } => self.promoted(service, *deployment, record),
            _ => {}
        }
        self.state.apply(record);
        if let Some(outgoing) = self.state.outbox.get(&seq) {
            self.notices.insert(outgoing.notice.id.clone(), (seq, outgoing.notice.clone()));
        }
        self.bounded(record);
    }

    fn planned(&mut self, plan: &Plan, record: &Record) {
        let seq = record.seq;
        let service = self.service(&plan.service);
        let Some(policy) = self.run.services.get(&plan.service) else { return };
        let open = service.open_rollback().filter(|open| !matches!(open.phase, Phase::Recovered { .. })).map(|open| open.id);
        self.must(open.is_none(), "S1", || format!("plan {seq} while plan {open:?} is open"));
        let mark = service.mark(&plan.to.id);
        self.must(mark != Mark::Bad, "S5", || format!("plan {seq} goes to {}, which is marked bad", plan.to));
        if let Cause::Verdict(verdict) = &plan.cause {
            self.must(mark == Mark::Good, "S5", || format!("plan {seq} goes to {}, which is not known good", plan.to));
            self.must(verdict.decisive().is_some(), "S24", || format!("plan {seq} has no finding that led to it"));
            let of_rollback = service.deployments.get(&plan.deployment).is_some_and(|of| of.rollback_of().is_some());
            self.must(!of_rollback, "S9", || format!("plan {seq} rolls back a rollback"));
            let from = self.image(&plan.from.id);
            // A version that somebody replaced unseen is blamed for its successor, until the effect finds that it is gone.
            let good = self.behaviour(&from).is_good() && self.running.get(plan.service.as_str()).is_none_or(|running| *running == from);
            self.must(!good, "healthy", || format!("plan {seq} rolls back {from}, which is well: {verdict:?}"));
            self.within_budget(plan, policy, record);
        }
        let (ledger, plan) = (self.ledger, plan.clone());
        let life = Life { ledger, plan, at: record.at, applied: 0, recorded: false, outcomes: Vec::new(), all_clear: false };
        self.lives.insert(self.plan_name(PlanId(seq)), life);
    }

    /// Those that the present ledger planned.
    fn present_lives(&self) -> impl Iterator<Item = (&String, &Life)> {
        self.lives.iter().filter(|(_, life)| life.ledger == self.ledger)
    }

    fn within_budget(&mut self, plan: &Plan, policy: &Service, record: &Record) {
        let seq = record.seq;
        let earlier: Vec<&Life> =
            self.present_lives().map(|(_, life)| life).filter(|life| life.is_automatic() && !life.is_void()).collect();
        let of_service = earlier.iter().filter(|life| life.plan.service == plan.service);
        let (mut of_deployment, mut today) = (0, 0);
        for life in of_service {
            of_deployment += u32::from(life.plan.deployment == plan.deployment);
            today += u32::from(record.at.duration_since(life.at) < SignedDuration::from_hours(24));
        }
        let recent = earlier.iter().filter(|life| record.at.duration_since(life.at) < SignedDuration::from_hours(1)).count();
        let (brake, limit) = (self.state.brake.is_some(), self.run.limits.rollbacks_per_hour);
        let alarmed = self.state.alarmed(self.run.limits.brake_within, record.at).len();
        self.must(of_deployment == 0, "S10", || format!("plan {seq} is not the first for deployment {}", plan.deployment));
        self.must(today < policy.rollbacks_per_day, "S10", || format!("plan {seq} is one too many for {} in a day", plan.service));
        self.must(u32::try_from(recent).unwrap_or(u32::MAX) < limit, "S11", || format!("plan {seq} is one too many in an hour"));
        self.must(!brake, "S12", || format!("plan {seq} while the brake is on"));
        let together = self.run.limits.brake(alarmed, self.state.services.len());
        self.must(!together, "S12", || format!("plan {seq} while {alarmed} services go bad together"));
        self.must(!policy.dry_run, "S7", || format!("plan {seq} in dry run"));
        let held = self.state.hold.is_some() || self.service(&plan.service).hold.is_some();
        self.must(!held, "S7", || format!("plan {seq} while it is paused"));
    }

    fn applied(&mut self, service: &ServiceName, plan: PlanId, record: &Record) {
        let seq = record.seq;
        let name = self.plan_name(plan);
        let Some(life) = self.lives.get_mut(&name) else { return };
        life.recorded = true;
        let (happened, from) = (life.applied > 0, life.plan.from.id.clone());
        self.must(happened, "S3", || format!("record {seq} says that plan {plan} was carried out, and it was not"));
        let next = self.records().get(usize::try_from(seq).expect("a length fits")).map(|next| &next.entry);
        let marks = |entry: &Entry| match entry {
            Entry::Marked { service: of, version, mark: Mark::Bad, .. } => of == service && *version == from,
            _ => false,
        };
        let marked = next.is_some_and(marks);
        self.must(marked, "S5", || format!("plan {plan} was carried out, and what it left is not marked bad"));
    }

    fn ended(&mut self, service: &ServiceName, plan: PlanId, outcome: &Outcome, record: &Record) {
        let name = self.plan_name(plan);
        let Some(life) = self.lives.get_mut(&name) else { return };
        let again = match (life.outcomes.as_slice(), outcome) {
            ([], _) => false,
            ([Outcome::Recovered], Outcome::Interrupted { .. } | Outcome::DidNotHelp { .. }) => life.all_clear,
            _ => true,
        };
        life.outcomes.push(outcome.clone());
        let applied = life.applied;
        self.must(!again, "S15", || format!("record {}: plan {plan} ends once more: {outcome:?}", record.seq));
        if matches!(outcome, Outcome::Void(_)) {
            self.must(applied == 0, "S15", || format!("plan {plan} is called void, and it had its effect: {outcome:?}"));
        }
        if *outcome == Outcome::Recovered {
            let well = self.well.get(service.as_str()).copied().unwrap_or(false);
            self.must(well, "N5", || format!("record {}: plan {plan} is called recovered, and {service} is not well", record.seq));
        }
    }

    fn promoted(&mut self, service: &ServiceName, deployment: DeploymentId, record: &Record) {
        let state = self.service(service);
        let Some(known) = state.deployments.get(&deployment) else { return };
        let image = self.image(&known.version.id);
        let bad = match self.behaviour(&image) {
            Behaviour::Good { .. } => false,
            Behaviour::Failing { after, .. } => after.is_zero(),
            Behaviour::NeverReady | Behaviour::CrashLoop | Behaviour::ImagePull => true,
        };
        self.must(!bad, "promotion", || format!("record {}: {image} passed its window, and it is bad", record.seq));
    }

    fn bounded(&mut self, record: &Record) {
        let outbox = self.state.outbox.len();
        self.must(outbox <= State::KEPT_NOTICES, "S22", || format!("{outbox} notices are kept"));
        let Some(service) = record.entry.service() else { return };
        let state = self.service(service);
        let few = state.deployments.len() <= ServiceState::KEPT_DEPLOYMENTS && state.marks.len() <= ServiceState::KEPT_MARKS;
        self.must(few, "S22", || format!("record {}: too much is kept of {service}", record.seq));
        let others: Vec<DeploymentId> = state
            .deployments
            .values()
            .filter(|deployment| deployment.status.in_window() && Some(deployment.id) != state.current)
            .map(|deployment| deployment.id)
            .collect();
        // The entry that ends the window of the one before comes first, but what a rollback brought takes its place a moment later.
        self.must(others.is_empty(), "L8", || format!("record {}: {service} has older windows open: {others:?}", record.seq));
    }

    fn fact(&mut self, fact: &Fact) {
        match &fact.what {
            What::Sent { plan } => self.sent(plan),
            What::Applied { service, plan, uid, generation, from, to } => {
                self.took_effect(service, plan, &Binding::Object { uid: uid.clone(), generation: *generation }, from, to);
            }
            What::PodDeleted { service, image, ready } => {
                let running = self.running.get(service).is_some_and(|running| running == image);
                self.must(!ready && !running, "foreign", || format!("a pod of {service} with {image} was deleted, ready: {ready}"));
            }
            What::Foreign(words) => self.must(false, "foreign", || words.clone()),
            What::Held { scope, held: true } => {
                self.held.insert(scope.clone());
            }
            What::Held { scope, held: false } => {
                self.held.remove(scope);
            }
            What::Delivered { destination, notice } => self.delivered(destination, notice),
            What::Well { service, well } => {
                self.well.insert(service.clone(), *well);
            }
            What::Deployed { service, image } => {
                self.running.insert(service.clone(), image.clone());
            }
            What::Planned | What::Began { .. } | What::Died | What::LedgerLost | What::Healed => {}
        }
    }

    fn sent(&mut self, name: &str) {
        let Some(life) = self.lives.get(name) else {
            return self.must(false, "S3", || format!("a write of plan {name} was sent, and the ledger has no such plan"));
        };
        let (plan, automatic) = (life.plan.clone(), life.is_automatic());
        let service = self.service(&plan.service);
        let bad = service.mark(&plan.to.id) == Mark::Bad;
        self.must(!bad, "S5", || format!("plan {name} was sent although its target is marked bad by now"));
        if !automatic {
            return;
        }
        let acknowledged = self.held.contains(&Scope::All) || self.held.contains(&Scope::Service(plan.service.clone()));
        let held = acknowledged || self.state.hold.is_some() || service.hold.is_some() || self.state.brake.is_some();
        self.must(!held, "S7", || format!("plan {name} was sent while it is paused"));
    }

    fn took_effect(&mut self, service: &str, name: &str, before: &Binding, from: &str, to: &str) {
        self.running.insert(service.to_owned(), to.to_owned());
        let healthy = self.behaviour(from).is_good();
        let Some(life) = self.lives.get_mut(name) else { return };
        life.applied += 1;
        let healthy = healthy && life.is_automatic();
        let (applied, void, plan) = (life.applied, life.is_void(), life.plan.clone());
        self.must(applied == 1, "S2", || format!("plan {name} took effect {applied} times"));
        self.must(!void, "S15", || format!("plan {name} took effect after it was called void"));
        self.must(plan.service.as_str() == service, "S4", || format!("plan {name} changed {service}"));
        self.must(plan.binding == *before, "S4", || format!("plan {name} was bound to {:?} and changed {before:?}", plan.binding));
        let (wanted_from, wanted_to) = (self.image(&plan.from.id), self.image(&plan.to.id));
        self.must(wanted_from == from, "S6", || format!("plan {name} undid {from} instead of {wanted_from}"));
        self.must(!healthy, "healthy", || format!("plan {name} rolled back {from}, which is well"));
        self.must(wanted_to == to, "S5", || format!("plan {name} went to {to} instead of {wanted_to}"));
    }

    fn delivered(&mut self, destination: &str, notice: &Notice) {
        let same = self.notices.get(&notice.id).is_some_and(|(_, called_for)| called_for == notice);
        self.must(same, "N2", || {
            format!("{destination} got notice {}, which the ledger does not call for: {}", notice.id, notice.headline)
        });
        self.delivered.insert((destination.to_owned(), notice.id.clone()));
    }

    fn end(&mut self) {
        let hours = u64::try_from(self.run.lasted.as_secs()).unwrap_or(0) / 3600 + 1;
        let (records, requests) = (self.run.ledgers.iter().map(Vec::len).sum::<usize>() as u64, self.run.requests);
        let services = self.run.services.len() as u64;
        self.must(records <= 400 * hours * services, "S22", || format!("{records} records in {hours} h"));
        self.must(requests <= 6_000 * hours * services, "S22", || format!("{requests} requests to the API server in {hours} h"));
        if self.run.calm {
            self.everything_ended();
            self.everybody_was_told();
            self.every_verdict_was_answered();
        }
    }

    fn everything_ended(&mut self) {
        let open: Vec<String> = self.present_lives().filter(|(_, life)| life.outcomes.is_empty()).map(|(name, _)| name.clone()).collect();
        self.must(open.is_empty(), "L2", || format!("plans without an end: {open:?}"));
        let lost: Vec<String> =
            self.present_lives().filter(|(_, life)| life.applied > 0 && !life.recorded).map(|(name, _)| name.clone()).collect();
        self.must(lost.is_empty(), "S15", || format!("plans that had their effect, of which the ledger knows nothing: {lost:?}"));
        for (name, running) in &self.run.running {
            let Ok(service) = ServiceName::try_from(name.as_str()) else { continue };
            let state = self.service(&service);
            let known = state.current().map(|current| self.image(&current.version.id)).unwrap_or_default();
            self.must(known == *running, "L6", || format!("{name} runs {running}, and the ledger says {known}"));
        }
    }

    fn everybody_was_told(&mut self) {
        let present = format!("{}-", ledger_name(self.ledger));
        for destination in &self.run.destinations {
            let known_since = self.state.destinations.get(*destination).copied().unwrap_or(u64::MAX);
            let untold: Vec<String> = self
                .notices
                .values()
                .filter(|(seq, notice)| *seq >= known_since && notice.id.starts_with(&present))
                // A wall clock that was set forward makes them too old to be told.
                .filter(|(_, notice)| self.state.at.duration_since(notice.at) <= State::NOTICE_LIFE)
                .filter(|(_, notice)| !self.delivered.contains(&((*destination).to_owned(), notice.id.clone())))
                .map(|(_, notice)| format!("{} {}", notice.id, notice.headline))
                .collect();
            self.must(untold.is_empty(), "N1", || format!("{destination} was never told: {untold:?}"));
        }
    }

    /// L7: what is bad is rolled back, or somebody is told why not.
    fn every_verdict_was_answered(&mut self) {
        let records = self.records();
        let mut silent = Vec::new();
        for record in records {
            let Entry::VerdictReached { service, deployment, verdict, .. } = &record.entry else { continue };
            if verdict.response != Response::RollBack {
                continue;
            }
            let answers = |entry: &Entry| match entry {
                Entry::RollbackPlanned { plan } => plan.service == *service && plan.deployment == *deployment,
                Entry::RollbackRefused { service: of, deployment: on, .. }
                | Entry::Superseded { service: of, deployment: on }
                | Entry::WindowFailed { service: of, deployment: on } => of == service && on == deployment,
                // What a rollback brought is answered by the rollback's own end.
                Entry::RollbackEnded { service: of, outcome, .. } => of == service && *outcome != Outcome::Recovered,
                Entry::DeploymentSeen { service: of, arrival: Arrival::Deployed, .. } => of == service,
                _ => false,
            };
            let from = usize::try_from(record.seq).expect("a length fits").saturating_sub(3);
            if !records[from..].iter().any(|later| answers(&later.entry)) {
                silent.push(format!("record {} on deployment {deployment} of {service}", record.seq));
            }
        }
        self.must(silent.is_empty(), "L7", || format!("verdicts that nobody answered: {silent:?}"));
    }
}
