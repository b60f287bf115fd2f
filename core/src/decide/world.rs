//! A world in virtual time for stories of the lifecycle: services on a made-up platform, and the daemon's loop without its tasks. Every
//! record goes through JSON, and every story ends with a replay of its ledger.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{EffectOutcome, decide, decide_fleet, effect_over};
use crate::alert::{self, Alert, Heard, Rules};
use crate::command::{self, Answer, Command, Desk};
use crate::entry::{Actor, Entry, Record};
use crate::evidence::Evidence;
use crate::guard::Limits;
use crate::lifecycle::{Deployment, ServiceState, State, Status};
use crate::notice::{Notice, NoticeKind};
use crate::observation::{
    Binding, Missing, ProbeOutcome, ProbeRound, Reading, Replicas, Rollout, Sample, Scrape, Series, Trouble, Workload,
};
use crate::plan::{Effect, EffectRecord};
use crate::service::{Decision, Restore, Role, Service, ServiceName, SignalKind, SignalName, SignalPolicy, Verification};
use crate::severity::Matrix;
use crate::task::{self, Task};
use crate::version::{Artifact, ChangeKind, Version, VersionId};
use crate::view::{self, DeploymentView};

/// How a version behaves once it is deployed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Behaviour {
    /// It is rolled out within five seconds and answers.
    Well,
    /// It is rolled out within five seconds and fails every probe.
    Failing,
    /// Its containers end again and again from the start.
    CrashLoop,
    /// Its containers end again and again, and are ready for two seconds out of twenty.
    Flickers,
    /// It needs so many seconds to become ready and to answer.
    Slow(i64),
    /// The platform gives it up at once.
    GivenUp,
}

/// What the platform does with an effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Api {
    /// It carries it out and answers.
    Works,
    /// It does nothing and does not answer.
    Away,
    /// It carries it out, and the answer is lost.
    LosesAnswers,
    /// It refuses.
    Rejects(&'static str),
    /// It begins, and does not bring it to its end.
    Fails(&'static str),
    /// It has not got the target.
    TargetGone,
    /// The workload does not exist.
    Gone,
}

/// Requests that are counted, of the workload or of others. A version that was not told to fail does not.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    pub(crate) role: Role,
    /// How many there are in 15 seconds.
    pub(crate) requests: f64,
    /// The share of them that fails.
    pub(crate) failing: f64,
    counted: (f64, f64),
}

impl Traffic {
    const EVERY: i64 = 15;

    /// Counts on for 15 seconds.
    fn look(&mut self, process_started: Timestamp, at: Timestamp) -> Reading {
        self.counted.0 += self.requests;
        self.counted.1 += self.requests * self.failing;
        let series = |id: &str, value| Series {
            id: id.to_owned(),
            target: "pod:8080".to_owned(),
            process_started: Some(process_started),
            route: None,
            samples: vec![Sample { at, value }],
        };
        Reading::Scrape(Scrape { total: vec![series("all", self.counted.0)], failed: vec![series("5xx", self.counted.1)] })
    }
}

/// One workload.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the world that a story throws by itself")]
pub(crate) struct Place {
    pub(crate) version: String,
    pub(crate) since: Timestamp,
    /// None: a platform without generations.
    pub(crate) generation: Option<i64>,
    pub(crate) record: Option<EffectRecord>,
    pub(crate) change: Option<ChangeKind>,
    /// Whether a look gives the copy that the ledger keeps.
    pub(crate) copies: bool,
    pub(crate) visible: bool,
    pub(crate) probes_visible: bool,
    /// Something that every version depends on is down.
    pub(crate) dependency_down: bool,
    pub(crate) api: Api,
    /// What is deployed when an effect asks for a version: `restore = "image"` leaves another template behind.
    pub(crate) suffix: &'static str,
    pub(crate) behaviour: BTreeMap<String, Behaviour>,
    /// The requests that its signals count.
    pub(crate) traffic: BTreeMap<SignalName, Traffic>,
    /// How many effects changed something.
    pub(crate) effects: u32,
}

impl Place {
    fn deploy(&mut self, version: &str, at: Timestamp) {
        version.clone_into(&mut self.version);
        self.since = at;
        for traffic in self.traffic.values_mut().filter(|traffic| traffic.role == Role::Own) {
            (traffic.failing, traffic.counted) = (0.0, (0.0, 0.0));
        }
        self.generation = self.generation.map(|generation| generation + 1);
    }

    fn binding(&self) -> Binding {
        match self.generation {
            Some(generation) => Binding::Object { uid: "uid".to_owned(), generation },
            None => Binding::Version(self.version.clone()),
        }
    }

    fn ready(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.since).as_secs();
        match self.behaviour.get(&self.version).unwrap_or(&Behaviour::Well) {
            Behaviour::Well | Behaviour::Failing => age >= 5,
            Behaviour::Slow(seconds) => age >= *seconds,
            Behaviour::Flickers => age % 20 >= 18,
            Behaviour::CrashLoop | Behaviour::GivenUp => false,
        }
    }

    fn answers(&self, now: Timestamp) -> bool {
        self.ready(now) && !self.dependency_down && self.behaviour.get(&self.version) != Some(&Behaviour::Failing)
    }

    fn workload(&self, now: Timestamp) -> Workload {
        let ready = self.ready(now);
        let behaviour = self.behaviour.get(&self.version).unwrap_or(&Behaviour::Well);
        let count = if ready { 2 } else { 0 };
        Workload {
            version: version(&self.version),
            artifact: self.copies.then(|| Artifact(format!("copy of {}", self.version))),
            binding: self.binding(),
            rollout: match (ready, behaviour) {
                (true, _) => Rollout::Complete,
                (false, Behaviour::GivenUp) => Rollout::Failed("progress deadline exceeded".to_owned()),
                (false, _) => Rollout::Progressing,
            },
            replicas: Replicas { desired: 2, updated: 2, ready: count, available: count },
            ready_is_checked: self.generation.is_some(),
            troubles: match behaviour {
                Behaviour::CrashLoop | Behaviour::Flickers if !ready => {
                    vec![Trouble::CrashLoop { replicas: 2, restarts: 4, reason: "exit code 1".to_owned() }]
                }
                _ => Vec::new(),
            },
            record: self.record.clone(),
            change: self.change,
            unseen_for: SignedDuration::ZERO,
        }
    }

    fn apply(&mut self, effect: &Effect, now: Timestamp) -> Option<EffectOutcome> {
        match self.api {
            Api::Away => return None,
            Api::Rejects(words) => return Some(EffectOutcome::Rejected(words.to_owned())),
            Api::Fails(words) => return Some(EffectOutcome::Failed(words.to_owned())),
            Api::TargetGone => return Some(EffectOutcome::TargetGone),
            Api::Gone => return Some(EffectOutcome::Gone),
            Api::Works | Api::LosesAnswers => {}
        }
        let done = match self.generation {
            Some(_) => self.record.as_ref().is_some_and(|record| record.plan == effect.plan),
            None => self.version == effect.to.id.0,
        };
        if !done {
            if self.binding() != effect.binding {
                return Some(EffectOutcome::Moved);
            }
            let to = format!("{}{}", effect.to.id, self.suffix);
            self.deploy(&to, now);
            self.effects += 1;
            let record = EffectRecord {
                plan: effect.plan.clone(),
                from: effect.from.id.clone(),
                to: VersionId(to),
                known_bad: effect.known_bad.clone(),
            };
            self.record = self.generation.map(|_| record);
        }
        (self.api == Api::Works).then(|| EffectOutcome::Done(self.binding()))
    }
}

/// A look at a version that runs well.
pub(crate) fn look(id: &str, at: Timestamp) -> Workload {
    let mut world = World::new(&["checkout"]);
    let place = world.checkout();
    id.clone_into(&mut place.version);
    place.workload(at.max(place.since + minutes(1)))
}

pub(crate) fn version(id: &str) -> Version {
    Version { id: VersionId(id.to_owned()), name: format!("shop:{id}") }
}

pub(crate) fn name(name: &str) -> ServiceName {
    ServiceName::try_from(name).expect("a name")
}

pub(crate) fn errors() -> SignalName {
    SignalName("errors".to_owned())
}

pub(crate) fn neighbours() -> SignalName {
    SignalName("control.neighbours".to_owned())
}

pub(crate) fn ready() -> SignalName {
    SignalName("probe.ready".to_owned())
}

pub(crate) fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

pub(crate) fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

/// A service that is probed every five seconds.
pub(crate) fn policy(of: &str) -> Service {
    let probe = SignalPolicy {
        kind: SignalKind::Probe,
        role: Role::Own,
        every: seconds(5),
        has_history: false,
        source: "http://checkout.test/healthz".to_owned(),
    };
    Service {
        name: name(of),
        environment: "production".to_owned(),
        platform: format!("kubernetes shop/{of}"),
        window: minutes(30),
        signals: BTreeMap::from([(ready(), probe)]),
        matrix: Matrix::default(),
        decision: Decision::default(),
        verification: Verification::default(),
        restore: Restore::Template,
        dry_run: false,
        promote_on_probes: true,
        rollbacks_per_day: 3,
    }
}

pub(crate) fn person() -> Actor {
    Actor::Operator("alice".to_owned())
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) records: Vec<String>,
    pub(crate) folds: Vec<String>,
    pub(crate) policies: BTreeMap<ServiceName, Service>,
    pub(crate) limits: Limits,
    pub(crate) evidence: BTreeMap<ServiceName, Evidence>,
    pub(crate) places: BTreeMap<ServiceName, Place>,
    pub(crate) now: Timestamp,
    began: Timestamp,
    /// The daemon is killed right after this record is durable.
    pub(crate) kill_after: Option<u64>,
}

impl World {
    /// The story begins here, after a day's history of every probe.
    pub(crate) const START: i64 = 1_795_000_000;

    pub(crate) fn new(services: &[&str]) -> Self {
        let now = Timestamp::from_second(Self::START).expect("a time in range");
        let policies: BTreeMap<_, _> = services.iter().map(|of| (name(of), policy(of))).collect();
        let place = Place {
            version: "v1".to_owned(),
            since: now - minutes(600),
            generation: Some(1),
            record: None,
            change: None,
            copies: true,
            visible: true,
            probes_visible: true,
            dependency_down: false,
            api: Api::Works,
            suffix: "",
            behaviour: BTreeMap::new(),
            traffic: BTreeMap::new(),
            effects: 0,
        };
        let places = policies.keys().map(|of| (of.clone(), place.clone())).collect();
        let evidence = policies.iter().map(|(of, policy)| (of.clone(), Evidence::new(policy))).collect();
        let mut world = Self {
            state: State::default(),
            records: Vec::new(),
            folds: Vec::new(),
            policies,
            limits: Limits::default(),
            evidence,
            places,
            now,
            began: now - minutes(600),
            kill_after: None,
        };
        world.write(vec![Entry::LedgerBegun { ledger: "k3f9a2b1".to_owned() }]);
        world.write(vec![Entry::DestinationsKnown { names: BTreeSet::from(["oncall".to_owned()]) }]);
        world.remember_two_hours();
        world
    }

    /// `checkout`, whose v1 is known good.
    pub(crate) fn settled() -> Self {
        Self::all_settled(&["checkout"])
    }

    pub(crate) fn all_settled(services: &[&str]) -> Self {
        let mut world = Self::new(services);
        world.pass(minutes(31));
        for service in services {
            assert_eq!(world.service_of(service).current().map(|current| current.status), Some(Status::Deployed));
        }
        world
    }

    fn remember_two_hours(&mut self) {
        for (of, policy) in &self.policies {
            let evidence = self.evidence.get_mut(of).expect("each service has evidence");
            for round in (0..1_440).rev() {
                let at = self.now - seconds(5 * round + 1);
                evidence.observe(policy, &ready(), &Reading::Probe(round_of(true)), at);
            }
        }
    }

    /// Requests are counted from now on, and have been for two hours.
    pub(crate) fn count_requests(&mut self, of: &str, signal: &SignalName, role: Role, requests: f64) {
        let every = seconds(Traffic::EVERY);
        let policy =
            SignalPolicy { kind: SignalKind::Errors, role, every, has_history: false, source: "http://checkout.test/metrics".to_owned() };
        let service = self.policies.get_mut(&name(of)).expect("a service");
        service.signals.insert(signal.clone(), policy);
        self.place(of).traffic.insert(signal.clone(), Traffic { role, requests, failing: 0.0, counted: (0.0, 0.0) });
        let now = self.now;
        for look in (0..480).rev() {
            self.scrape(&name(of), now - every * look);
        }
    }

    fn scrape(&mut self, of: &ServiceName, at: Timestamp) {
        let (policy, place, evidence) =
            (&self.policies[of], self.places.get_mut(of).expect("a place"), self.evidence.get_mut(of).expect("evidence"));
        let (began, since) = (self.began, place.since);
        for (signal, traffic) in &mut place.traffic {
            let process_started = if traffic.role == Role::Own { since } else { began };
            evidence.observe(policy, signal, &traffic.look(process_started, at), at);
        }
    }

    // What happens in the world.

    pub(crate) fn place(&mut self, of: &str) -> &mut Place {
        self.places.get_mut(&name(of)).expect("a place for each service")
    }

    pub(crate) fn checkout(&mut self) -> &mut Place {
        self.place("checkout")
    }

    /// Somebody deploys.
    pub(crate) fn deploy(&mut self, version: &str, behaviour: Behaviour) {
        self.deploy_at("checkout", version, behaviour);
    }

    pub(crate) fn deploy_at(&mut self, of: &str, version: &str, behaviour: Behaviour) {
        let now = self.now;
        let place = self.place(of);
        place.behaviour.insert(version.to_owned(), behaviour);
        place.deploy(version, now);
    }

    /// Lets time pass, a second at a time.
    pub(crate) fn pass(&mut self, time: SignedDuration) {
        for _ in 0..time.as_secs() {
            self.now += seconds(1);
            self.second();
        }
    }

    /// Lets time pass until it is so; gives how long that took.
    pub(crate) fn until(&mut self, most: SignedDuration, is_so: impl Fn(&Self) -> bool) -> SignedDuration {
        for passed in 0..=most.as_secs() {
            if is_so(self) {
                return seconds(passed);
            }
            self.pass(seconds(1));
        }
        panic!("it never came about within {most:#}; the ledger:\n{}", self.records.join("\n"));
    }

    fn second(&mut self) {
        let names: Vec<_> = self.policies.keys().cloned().collect();
        for of in &names {
            self.look(of);
            if self.now.as_second() % 5 == 0 {
                self.probe(of);
            }
            if self.now.as_second() % Traffic::EVERY == 0 {
                self.scrape(of, self.now);
            }
        }
        let entries = decide_fleet(&self.state, self.now);
        self.write(entries);
        for of in &names {
            self.turn(of);
        }
        for of in &names {
            self.carry_out(of);
        }
    }

    /// The daemon looks at the workload.
    pub(crate) fn look(&mut self, of: &ServiceName) {
        let (policy, place, evidence) = (&self.policies[of], &self.places[of], self.evidence.get_mut(of).expect("evidence"));
        if place.visible {
            evidence.observe_workload(policy, &place.workload(self.now), self.now);
        } else {
            evidence.lose_workload(Missing::Unreachable("connection refused".to_owned()), self.now);
        }
    }

    fn probe(&mut self, of: &ServiceName) {
        let (policy, place, evidence) = (&self.policies[of], &self.places[of], self.evidence.get_mut(of).expect("evidence"));
        let reading = if place.probes_visible {
            Reading::Probe(round_of(place.answers(self.now)))
        } else {
            Reading::Missing(Missing::Unreachable("name does not resolve".to_owned()))
        };
        evidence.observe(policy, &ready(), &reading, self.now);
    }

    // The daemon's loop.

    pub(crate) fn turn(&mut self, of: &ServiceName) {
        for _ in 0..32 {
            let evidence = self.evidence.get_mut(of).expect("evidence");
            let entries = decide(&self.state, &self.policies[of], &self.limits, evidence, self.now);
            if entries.is_empty() {
                return;
            }
            self.write(entries);
        }
        panic!("the rules never come to rest; the ledger:\n{}", self.records.join("\n"));
    }

    fn carry_out(&mut self, of: &ServiceName) {
        for task in task::of_service(&self.state, &self.policies[of], false) {
            if let Task::Apply { plan, effect, expires } = task
                && self.now < expires
                && let Some(outcome) = self.places.get_mut(of).expect("a place").apply(&effect, self.now)
            {
                let entries = effect_over(&self.state, of, plan, outcome);
                self.write(entries);
                self.turn(of);
            }
        }
    }

    /// Makes entries durable and folds them.
    pub(crate) fn write(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let record = Record { seq: self.state.seq + 1, at: self.now, entry };
            let text = serde_json::to_string(&record).expect("an entry is JSON");
            let read: Record = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(read, record);
            self.state.apply(&record);
            self.records.push(text);
            self.folds.push(format!("{:?}", self.state));
        }
        if self.kill_after.is_some_and(|seq| self.state.seq >= seq) {
            self.kill_after = None;
            self.crash();
        }
    }

    /// The daemon is killed and starts again: what was seen is lost, what was decided is read.
    pub(crate) fn crash(&mut self) {
        self.state = self.replayed(self.records.len());
        self.evidence = self.policies.iter().map(|(of, policy)| (of.clone(), Evidence::new(policy))).collect();
    }

    fn replayed(&self, records: usize) -> State {
        let mut state = State::default();
        for text in &self.records[..records] {
            state.apply(&serde_json::from_str(text).expect("a record is JSON"));
        }
        state
    }

    pub(crate) fn ask(&mut self, command: Command) -> Answer {
        let desk = Desk {
            state: &self.state,
            policies: &self.policies,
            evidence: &self.evidence,
            limits: &self.limits,
            notices_waiting: 0,
            troubles: &[],
            now: self.now,
        };
        let (entries, answer) = command::handle(desk, command, &person());
        self.write(entries);
        let names: Vec<_> = self.policies.keys().cloned().collect();
        for of in &names {
            self.turn(of);
        }
        answer
    }

    /// Alerts are delivered.
    pub(crate) fn deliver(&mut self, rules: &Rules, alerts: &[Alert]) -> Vec<Heard> {
        let (entries, heard) = alert::hear(&self.state, &self.policies, rules, alerts, self.now);
        self.write(entries);
        let names: Vec<_> = self.policies.keys().cloned().collect();
        for of in &names {
            self.turn(of);
        }
        heard
    }

    pub(crate) fn roll_back(&mut self, to: Option<&str>) -> Answer {
        let to = to.map(ToOwned::to_owned);
        self.ask(Command::Rollback { service: name("checkout"), to, reason: "wrong totals".to_owned(), dry_run: false })
    }

    // What is known.

    pub(crate) fn service_of(&self, of: &str) -> &ServiceState {
        self.state.service(&name(of)).expect("a service that was seen")
    }

    pub(crate) fn service(&self) -> &ServiceState {
        self.service_of("checkout")
    }

    pub(crate) fn current(&self) -> &Deployment {
        self.service().current().expect("a deployment")
    }

    pub(crate) fn history(&self) -> Vec<DeploymentView> {
        view::history(&self.state, &self.policies[&name("checkout")], 100)
    }

    /// `v1 deployed, v2 rolled_back, …`, oldest first; a rollback names the version that it undid.
    pub(crate) fn rows(&self) -> String {
        let history = self.history();
        let row = |row: &DeploymentView| {
            let undone = row.rollback_of.and_then(|of| history.iter().find(|other| other.deployment == of));
            let undone = undone.map_or_else(String::new, |undone| format!(" undoing {}", undone.version.id));
            format!("{} {}{undone}", row.version.id, crate::words::status(row.status))
        };
        history.iter().rev().map(row).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn notices(&self) -> impl Iterator<Item = &Notice> {
        self.state.outbox.values().map(|outgoing| &outgoing.notice)
    }

    pub(crate) fn kinds(&self) -> Vec<NoticeKind> {
        self.notices().map(|notice| notice.kind).collect()
    }

    pub(crate) fn newest(&self, kind: NoticeKind) -> &Notice {
        self.notices().filter(|notice| notice.kind == kind).last().unwrap_or_else(|| panic!("no notice {kind:?}"))
    }

    pub(crate) fn checkout_effects(&self) -> u32 {
        self.places[&name("checkout")].effects
    }

    pub(crate) fn count(&self, is_it: impl Fn(&Entry) -> bool) -> usize {
        let records = self.records.iter().map(|text| serde_json::from_str::<Record>(text).expect("a record is JSON"));
        records.filter(|record| is_it(&record.entry)).count()
    }
}

/// Every story ends with a replay: the fold of each prefix is what was known live, however often the daemon was killed.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut state = State::default();
        let mut ids = BTreeSet::new();
        for (text, live) in self.records.iter().zip(&self.folds) {
            state.apply(&serde_json::from_str(text).expect("a record is JSON"));
            assert_eq!(format!("{state:?}"), *live);
        }
        for notice in self.notices() {
            assert!(ids.insert(notice.id.clone()), "{} is told twice", notice.id);
            assert!(notice.headline.chars().count() <= 150 && !notice.headline.contains('\n'), "{}", notice.headline);
            let incident = self.notices().find(|first| first.incident == notice.incident).map(|first| &first.id);
            assert_eq!(notice.opens_incident, incident == Some(&notice.id), "{notice:#?}");
        }
    }
}

fn round_of(passes: bool) -> ProbeRound {
    let outcome = if passes {
        ProbeOutcome::Passed { latency: SignedDuration::from_millis(3) }
    } else {
        ProbeOutcome::Failed("status 500, expected 200".to_owned())
    };
    ProbeRound { targets: vec![("http://checkout.test/healthz".to_owned(), outcome)] }
}
