//! The daemon's judge in virtual time: its rules, its state and its evidence, without its tasks. Who drives it hands in what was seen, in
//! order of time; what comes out are the entries that the daemon would have written. It reads no clock and no source.
//!
//! Nothing is carried out here. What was recorded goes on as it was recorded: once a rollback is planned, the deployment is left until its
//! window ends, and the time from the onset until then is no history, as if it had been undone.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::decide::{decide, decide_fleet, history_read};
use rollbackd_core::entry::{Actor, Arrival, DeploymentId, Entry, Mark, MarkReason, Record};
use rollbackd_core::evidence::Evidence;
use rollbackd_core::guard::Limits;
use rollbackd_core::lifecycle::{self, State};
use rollbackd_core::observation::{Binding, Reading, Replicas, Rollout, Sample, Scrape, Series, Workload};
use rollbackd_core::past::{Hour, Past};
use rollbackd_core::plan::{Outcome, PlanId, Void};
use rollbackd_core::service::{Service, ServiceName, SignalKind, SignalName};
use rollbackd_core::verdict::Finding;
use rollbackd_core::version::{Artifact, ChangeKind, Version};

/// So many rounds of rules may follow one event, as in the daemon.
const ROUNDS: usize = 32;

/// What becomes of a rollback that is planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum World {
    /// Nothing: what was recorded knows nothing of it.
    #[default]
    Stays,
    /// What is told of the workload shows it, as the records of a daemon do that rolled back.
    Follows,
}

/// A version that is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Which.
    pub version: Version,
    /// Until then something else was certainly deployed, so that what came until then is of the time before.
    pub not_before: Timestamp,
    /// Whether nothing else runs any more.
    pub rolled_out: bool,
    /// What it carries, if that is known.
    pub change: Option<ChangeKind>,
}

/// The judge of some services.
#[derive(Debug)]
pub struct Judge {
    world: World,
    watch_on: bool,
    limits: Limits,
    state: State,
    services: BTreeMap<ServiceName, Judged>,
    records: Vec<Record>,
    last_words: BTreeMap<(ServiceName, DeploymentId), LastWords>,
}

/// What the checks said of a deployment last, and when: when its window ended, when another one came, or when nothing came any more.
pub type LastWords = (Timestamp, Vec<Finding>);

/// One service under judgement.
#[derive(Debug)]
struct Judged {
    policy: Service,
    evidence: Evidence,
    /// What the sources keep that have a history.
    past: BTreeMap<SignalName, Kept>,
    /// A deployment that is not judged any more, and until when.
    left: Option<(DeploymentId, Timestamp)>,
}

impl Judge {
    /// A judge that has seen nothing yet.
    #[must_use]
    pub fn new(policies: impl IntoIterator<Item = Service>, limits: Limits, world: World) -> Self {
        let judged = |policy: Service| {
            let with_history = policy.signals.iter().filter(|(_, signal)| signal.has_history && signal.kind == SignalKind::Errors);
            let past = with_history.map(|(name, signal)| (name.clone(), Kept::new(signal.every))).collect();
            (policy.name.clone(), Judged { evidence: Evidence::new(&policy), past, left: None, policy })
        };
        let services = policies.into_iter().map(judged).collect();
        let mut judge =
            Self { world, watch_on: true, limits, state: State::default(), services, records: Vec::new(), last_words: BTreeMap::new() };
        judge.write(vec![Entry::LedgerBegun { ledger: "replay".to_owned() }], Timestamp::MIN);
        judge
    }

    /// Whether a deployment is watched on, as the daemon does, that has not proved itself when its window ends. It is unless said.
    pub fn watch_on(&mut self, watch_on: bool) {
        self.watch_on = watch_on;
    }

    /// Says which version runs when it begins: one that is known good, so that a rollback has somewhere to go.
    pub fn begin(&mut self, name: &ServiceName, version: &Version, at: Timestamp) {
        let Some(judged) = self.services.get_mut(name) else { return };
        let deployed = Deployed { version: version.clone(), not_before: at, rolled_out: true, change: None };
        let workload = workload(&deployed, at);
        judged.evidence.observe_workload(&judged.policy, &workload, at);
        let seen = Entry::DeploymentSeen {
            service: name.clone(),
            environment: judged.policy.environment.clone(),
            version: version.clone(),
            artifact: workload.artifact,
            arrival: Arrival::FirstSight,
            started: at,
            not_before: at,
            change: ChangeKind::default(),
        };
        self.write(vec![seen], at);
        let Some(deployment) = self.state.service(name).and_then(|service| service.current) else { return };
        let (service, reason) = (name.clone(), MarkReason::PassedWindow(deployment));
        let marked = Entry::Marked { service: name.clone(), version: version.id.clone(), mark: Mark::Good, by: Actor::Daemon, reason };
        self.write(vec![Entry::WindowPassed { service, deployment, log_evidence: 0.0 }, marked], at);
    }

    /// Takes in a look at what is deployed. Another version than before is a deployment that starts now.
    pub fn deploy(&mut self, name: &ServiceName, deployed: &Deployed, at: Timestamp) {
        let Some(judged) = self.services.get_mut(name) else { return };
        let before = self.state.service(name).and_then(|service| service.current);
        judged.evidence.observe_workload(&judged.policy, &workload(deployed, at), at);
        self.turn(name, at);
        let current = self.state.service(name).and_then(|service| service.current);
        if current == before {
            return;
        }
        if let Some(judged) = self.services.get_mut(name) {
            judged.left = None;
        }
        self.read_histories(name, at);
        self.look_back(name, at);
        self.turn(name, at);
    }

    /// What the daemon fetches once it watches: how it was before.
    fn read_histories(&mut self, name: &ServiceName, at: Timestamp) {
        let Some(judged) = self.services.get_mut(name) else { return };
        let Some(current) = self.state.service(name).and_then(lifecycle::ServiceState::current) else { return };
        if current.rollback_of().is_some() {
            return;
        }
        let deployment = current.id;
        let read = |(signal, kept): (&SignalName, &mut Kept)| history_read(&self.state, &judged.policy, deployment, signal, kept.until(at));
        let entries: Vec<Entry> = judged.past.iter_mut().flat_map(read).collect();
        self.write(entries, at);
    }

    /// The first look of a window gives what was scraped shortly before, so that the next one has something to count from.
    fn look_back(&mut self, name: &ServiceName, at: Timestamp) {
        let Some(judged) = self.services.get_mut(name) else { return };
        for (signal, past) in &judged.past {
            let every = judged.policy.signals.get(signal).map_or(SignedDuration::ZERO, |policy| policy.every);
            let scrape = past.between(back(at, look(every)), at, Starts::Known);
            judged.evidence.observe(&judged.policy, signal, &Reading::Scrape(scrape), at);
        }
    }

    /// Takes in a look at a signal, and decides. A signal with a history of its own may be looked at in long steps while nothing is watched.
    pub fn observe(&mut self, name: &ServiceName, signal: &SignalName, reading: Reading, at: Timestamp) {
        let Some(judged) = self.services.get_mut(name) else { return };
        let watched = judged.left.is_none() && judged.evidence.watched().is_some();
        if watched || !judged.past.contains_key(signal) {
            judged.evidence.observe(&judged.policy, signal, &reading, at);
        }
        if let (Some(past), Reading::Scrape(scrape)) = (judged.past.get_mut(signal), reading) {
            past.take(scrape);
            past.forget(back(at, judged.policy.decision.history.max(WEEK)));
        }
        if watched {
            self.turn(name, at);
        }
    }

    /// Asks the rules about one service, again and again until none has anything to say.
    pub fn turn(&mut self, name: &ServiceName, at: Timestamp) {
        let fleet = decide_fleet(&self.state, at);
        self.write(fleet, at);
        for _ in 0..ROUNDS {
            let Some(judged) = self.services.get_mut(name) else { return };
            if let Some((deployment, until)) = judged.left {
                let superseded = judged.evidence.workload().is_some_and(|(workload, _)| {
                    let current = self.state.service(name).and_then(lifecycle::ServiceState::current);
                    current.is_some_and(|current| current.version.id != workload.version.id)
                });
                if !superseded && at < until {
                    return;
                }
                judged.left = None;
                if !superseded {
                    self.write(vec![Entry::Superseded { service: name.clone(), deployment }], at);
                    continue;
                }
            }
            let entries = decide(&self.state, &judged.policy, &self.limits, &mut judged.evidence, at);
            if entries.is_empty() {
                return;
            }
            if entries.iter().any(ends_window) {
                self.keep_last_words(name, at);
            }
            self.write(entries, at);
        }
    }

    /// Keeps what the checks say of the deployment that is judged, if any is and nothing was kept of it.
    pub fn keep_last_words(&mut self, name: &ServiceName, at: Timestamp) {
        let Some(judged) = self.services.get(name).filter(|judged| judged.left.is_none()) else { return };
        let Some(deployment) = judged.evidence.watched() else { return };
        let findings = || judged.evidence.findings(&judged.policy, at);
        self.last_words.entry((name.clone(), deployment)).or_insert_with(|| (at, findings()));
    }

    /// What the checks said of each deployment last.
    #[must_use]
    pub fn last_words(&self, name: &ServiceName, deployment: DeploymentId) -> Option<&LastWords> {
        self.last_words.get(&(name.clone(), deployment))
    }

    /// Writes entries that come from elsewhere: a person's words, say.
    pub fn write(&mut self, entries: Vec<Entry>, at: Timestamp) {
        for entry in entries {
            let at = at.max(self.state.at);
            let record = Record { seq: self.state.seq + 1, at, entry };
            self.state.apply(&record);
            self.records.push(record.clone());
            match record.entry {
                Entry::RollbackPlanned { plan } if self.world == World::Stays => {
                    self.leave(&plan.service, plan.deployment, at);
                    let (service, plan) = (plan.service, PlanId(record.seq));
                    self.write(vec![Entry::RollbackEnded { service, plan, outcome: Outcome::Void(Void::Expired) }], at);
                }
                Entry::WindowExtended { service, deployment, .. } if !self.watch_on => {
                    if let Some(judged) = self.services.get_mut(&service) {
                        judged.left = Some((deployment, Timestamp::MAX));
                    }
                }
                _ => {}
            }
        }
    }

    /// The plan is not carried out, and the deployment is not judged any more until its window ends.
    fn leave(&mut self, service: &ServiceName, deployment: DeploymentId, at: Timestamp) {
        let started = self.state.service(service).and_then(|known| known.deployments.get(&deployment)).map(|known| known.started);
        if let (Some(judged), Some(started)) = (self.services.get_mut(service), started) {
            let until = started.checked_add(judged.policy.window).unwrap_or(Timestamp::MAX).max(at);
            judged.left = Some((deployment, until));
        }
    }

    /// Everything that was written so far.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What follows from it.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What every check says now of the deployment that is watched; nothing where none is.
    #[must_use]
    pub fn findings(&self, name: &ServiceName, at: Timestamp) -> Vec<Finding> {
        self.services.get(name).map(|judged| judged.evidence.findings(&judged.policy, at)).unwrap_or_default()
    }

    /// Whether a deployment of the service is judged now.
    #[must_use]
    pub fn watches(&self, name: &ServiceName) -> bool {
        self.services.get(name).is_some_and(|judged| judged.left.is_none() && judged.evidence.watched().is_some())
    }
}

fn ends_window(entry: &Entry) -> bool {
    matches!(
        entry,
        Entry::WindowPassed { .. }
            | Entry::WindowExtended { .. }
            | Entry::WindowFailed { .. }
            | Entry::Superseded { .. }
            | Entry::RollbackPlanned { .. }
    )
}

/// As a look shows it: with a way back to it, and without any trouble.
fn workload(deployed: &Deployed, at: Timestamp) -> Workload {
    let id = deployed.version.id.0.clone();
    Workload {
        version: deployed.version.clone(),
        artifact: Some(Artifact(id.clone())),
        binding: Binding::Version(id),
        rollout: if deployed.rolled_out { Rollout::Complete } else { Rollout::Progressing },
        replicas: Replicas { desired: 1, updated: 1, ready: 1, available: 1 },
        ready_is_checked: true,
        troubles: Vec::new(),
        record: None,
        change: deployed.change,
        unseen_for: at.duration_since(deployed.not_before).max(SignedDuration::ZERO),
    }
}

/// Whether a source says when its processes began. Of the past it doesn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Starts {
    Known,
    Unknown,
}

/// What a source keeps of its counters: what was counted, hour by hour, and the raw samples of the hour that is not over.
#[derive(Debug)]
struct Kept {
    every: SignedDuration,
    past: Past,
    fresh: Scrape,
    /// The first hour that is not counted yet.
    next: Option<Hour>,
    /// The first hour that was not forgotten yet.
    oldest: Option<Hour>,
}

/// A baseline wants the same half hour a week before.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24 + 1);

impl Kept {
    fn new(every: SignedDuration) -> Self {
        Self { every, past: Past::new(every), fresh: Scrape::default(), next: None, oldest: None }
    }

    fn take(&mut self, scrape: Scrape) {
        let times = |series: &Series| series.samples.first().zip(series.samples.last()).map(|(first, last)| (first.at, last.at));
        let spans = || scrape.total.iter().chain(&scrape.failed).filter_map(times);
        let Some((first, last)) = spans().map(|(first, _)| first).min().zip(spans().map(|(_, last)| last).max()) else { return };
        let next = *self.next.get_or_insert(Hour::of(first));
        take_series(&mut self.fresh.total, scrape.total);
        take_series(&mut self.fresh.failed, scrape.failed);
        let present = Hour::of(last);
        if present > next {
            self.count(next.begin(), present.begin());
            self.next = Some(present);
            self.oldest.get_or_insert(next);
            let oldest = back(present.begin(), Past::overlap(self.every).max(look(self.every)));
            for series in [&mut self.fresh.total, &mut self.fresh.failed] {
                series.iter_mut().for_each(|series| {
                    series.samples.drain(..series.samples.partition_point(|sample| sample.at < oldest));
                });
                series.retain(|series| !series.samples.is_empty());
            }
        }
    }

    /// As a daemon does that fetches it afterwards: nobody says then when a process began.
    fn count(&mut self, from: Timestamp, to: Timestamp) {
        let scrape = self.between(back(from, Past::overlap(self.every)), to, Starts::Unknown);
        self.past.take(&Reading::Scrape(scrape), from, to);
    }

    fn forget(&mut self, oldest: Timestamp) {
        while let Some(hour) = self.oldest.filter(|hour| hour.end() < oldest) {
            self.past.forget(&[hour]);
            self.oldest = Some(hour.next());
        }
    }

    /// All that was counted until now.
    fn until(&mut self, now: Timestamp) -> &Past {
        if let Some(next) = self.next.filter(|next| next.begin() < now) {
            self.count(next.begin(), now);
        }
        &self.past
    }

    /// The raw samples from one moment to another, both included.
    fn between(&self, from: Timestamp, to: Timestamp, starts: Starts) -> Scrape {
        let cut = |series: &Series| {
            let first = series.samples.partition_point(|sample| sample.at < from);
            let last = series.samples.partition_point(|sample| sample.at <= to);
            let process_started = series.process_started.filter(|_| starts == Starts::Known);
            (first < last).then(|| Series { samples: series.samples[first..last].to_vec(), process_started, ..named(series) })
        };
        let cut = |series: &[Series]| series.iter().filter_map(cut).collect();
        Scrape { total: cut(&self.fresh.total), failed: cut(&self.fresh.failed) }
    }
}

/// One look gives the samples of so long, as the adapters do.
fn look(every: SignedDuration) -> SignedDuration {
    every.saturating_mul(6).max(SignedDuration::from_secs(30))
}

fn back(at: Timestamp, time: SignedDuration) -> Timestamp {
    at.checked_sub(time).unwrap_or(Timestamp::MIN)
}

/// Adds to series in order of their names.
fn take_series(kept: &mut Vec<Series>, taken: Vec<Series>) {
    for series in taken {
        let place = match kept.binary_search_by(|known| known.id.cmp(&series.id)) {
            Ok(place) => place,
            Err(place) => {
                kept.insert(place, named(&series));
                place
            }
        };
        let known = &mut kept[place];
        known.process_started = series.process_started;
        // Samples may be handed in twice, as a source gives them twice.
        let newest = known.samples.last().map(|sample: &Sample| sample.at);
        known.samples.extend(series.samples.into_iter().filter(|sample| Some(sample.at) > newest));
    }
}

fn named(series: &Series) -> Series {
    let Series { id, target, process_started, route, .. } = series;
    Series { id: id.clone(), target: target.clone(), process_started: *process_started, route: route.clone(), samples: Vec::new() }
}

#[cfg(test)]
mod tests {
    use rollbackd_core::service::{Decision, Restore, Role, SignalPolicy, Verification};
    use rollbackd_core::severity::{Impact, Matrix, Severity};
    use rollbackd_core::version::VersionId;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time in range")
    }

    fn errors() -> SignalName {
        SignalName("errors".to_owned())
    }

    fn checkout() -> Service {
        let every = SignedDuration::from_secs(15);
        let policy = SignalPolicy { kind: SignalKind::Errors, role: Role::Own, every, has_history: true, source: "a file".to_owned() };
        Service {
            name: ServiceName::try_from("checkout").expect("a name"),
            environment: "production".to_owned(),
            platform: "a file".to_owned(),
            window: SignedDuration::from_mins(30),
            signals: BTreeMap::from([(errors(), policy)]),
            matrix: Matrix::default(),
            decision: Decision::default(),
            verification: Verification::default(),
            restore: Restore::Template,
            dry_run: false,
            promote_on_probes: false,
            rollbacks_per_day: 3,
        }
    }

    fn version(name: &str) -> Version {
        Version { id: VersionId(name.to_owned()), name: name.to_owned() }
    }

    /// Ten requests a second, of which the share `ratio(second)` fails, with a deployment of v2 at 7200 and one of v3 at 14400.
    fn play(world: World, ratio: impl Fn(i64) -> f64) -> Judge {
        let policy = checkout();
        let name = policy.name.clone();
        let mut judge = Judge::new([policy], Limits::default(), world);
        judge.begin(&name, &version("v1"), at(0));
        let mut failed = 0.0;
        for second in (0..18_000).step_by(15) {
            failed += (150.0 * ratio(second)).floor();
            let total = f64::from(u32::try_from(second).expect("it is positive")) * 10.0;
            let series = |id: &str, value| Series {
                id: id.to_owned(),
                target: "a".to_owned(),
                process_started: None,
                route: None,
                samples: vec![Sample { at: at(second), value }],
            };
            let scrape = Scrape { total: vec![series("all", total)], failed: vec![series("5xx", failed)] };
            judge.observe(&name, &errors(), Reading::Scrape(scrape), at(second));
            for (start, id) in [(7200, "v2"), (14_400, "v3")] {
                if second == start {
                    let deployed = Deployed { version: version(id), not_before: at(second), rolled_out: true, change: None };
                    judge.deploy(&name, &deployed, at(second));
                }
            }
        }
        judge
    }

    fn told(judge: &Judge) -> Vec<String> {
        let word = |record: &Record| match &record.entry {
            Entry::VerdictReached { verdict, .. } => Some(format!("{} {}", verdict.severity, verdict.impact.key())),
            Entry::RollbackPlanned { plan } => Some(format!("{} to {}", plan.from, plan.to)),
            Entry::WindowPassed { .. } => Some("passed".to_owned()),
            Entry::Superseded { .. } => Some("superseded".to_owned()),
            Entry::RollbackRefused { refusal, .. } => Some(refusal.name().to_owned()),
            _ => None,
        };
        judge.records().iter().filter_map(word).collect()
    }

    #[test]
    fn a_healthy_version_passes_its_window_and_the_next_one_is_compared_with_it() {
        assert_eq!(told(&play(World::Stays, |_| 0.01)), ["passed", "passed", "passed"]);
    }

    #[test]
    fn a_rollback_is_planned_once_and_what_went_bad_is_no_history_of_the_next_deployment() {
        let judge = play(World::Stays, |second| if second >= 7200 { 0.6 } else { 0.01 });
        assert_eq!(told(&judge)[..4], ["passed", "P1 error_ratio", "v2 to v1", "superseded"]);
        let service = judge.state().service(&checkout().name).expect("it is known");
        let v3 = service.deployments.values().last().expect("there is one");
        assert_eq!(service.incidents.len(), 1);
        assert_eq!(v3.version, version("v3"));
        let planned = judge.records().iter().find(|record| matches!(record.entry, Entry::RollbackPlanned { .. })).expect("it is there");
        assert!(planned.at <= at(7200 + 60 + 120 + 30), "{}", planned.at);
        let verdict = judge.records().iter().find_map(|record| match &record.entry {
            Entry::VerdictReached { verdict, .. } => Some(verdict.clone()),
            _ => None,
        });
        assert_eq!(verdict.map(|verdict| (verdict.impact, verdict.severity)), Some((Impact::ErrorRatio, Severity::P1)));
    }
}
