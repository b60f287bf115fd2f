//! The daemon's judge in virtual time: its rules, its state and its evidence, without its tasks. Who drives it hands in what was seen, in
//! order of time; what comes out are the entries that the daemon would have written. It reads no clock and no source.
//!
//! Nothing is carried out here. What was recorded goes on as it was recorded: once a rollback is planned, the deployment is judged no more,
//! and the time from the onset until the service is well again, by the daemon's own proof of that, is no history.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::decide::{decide, decide_fleet, history_read};
use rollbackd_core::entry::{Actor, Arrival, DeploymentId, Entry, Mark, MarkReason, Record};
use rollbackd_core::evidence::Evidence;
use rollbackd_core::guard::Limits;
use rollbackd_core::lifecycle::{ServiceState, State};
use rollbackd_core::observation::{Binding, Histogram, HistogramSample, Reading, Replicas, Rollout, Sample, Scrape, Series, Workload};
use rollbackd_core::past::{Hour, Past};
use rollbackd_core::plan::{Cause, Outcome, PlanId, Void};
use rollbackd_core::service::{Service, ServiceName, SignalKind, SignalName};
use rollbackd_core::verdict::{Finding, Verdict};
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
    /// A deployment that is in its window and not judged any more.
    left: Option<Left>,
}

/// Why a deployment is not judged any more.
#[derive(Debug)]
enum Left {
    /// Its rollback was planned. Until the service is well again it is an incident.
    Undone {
        deployment: DeploymentId,
        plan: PlanId,
        verdict: Box<Verdict>,
        /// Since when it is looked for the proof that the service is well.
        since: Timestamp,
    },
    /// It had not proved itself when its window ended.
    Unproved,
}

impl Judge {
    /// A judge that has seen nothing yet.
    #[must_use]
    pub fn new(policies: impl IntoIterator<Item = Service>, limits: Limits, world: World) -> Self {
        let judged = |policy: Service| {
            let with_history = policy
                .signals
                .iter()
                .filter(|(_, signal)| signal.has_history && matches!(signal.kind, SignalKind::Errors | SignalKind::Latency));
            let past = with_history.map(|(name, signal)| (name.clone(), Kept::new(signal.kind, signal.every))).collect();
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
        let Some(current) = self.state.service(name).and_then(ServiceState::current) else { return };
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
            let reading = past.between(back(at, look(every)), at, Starts::Known);
            judged.evidence.observe(&judged.policy, signal, &reading, at);
        }
    }

    /// Takes in a look at a signal, and decides. A signal with a history of its own may be looked at in long steps while nothing is watched.
    pub fn observe(&mut self, name: &ServiceName, signal: &SignalName, reading: Reading, at: Timestamp) {
        let Some(judged) = self.services.get_mut(name) else { return };
        let watched = judged.is_attentive();
        if watched || !judged.past.contains_key(signal) {
            judged.evidence.observe(&judged.policy, signal, &reading, at);
        }
        if let Some(past) = judged.past.get_mut(signal) {
            past.take(reading);
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
            if judged.left.is_some() && !self.state.service(name).is_some_and(|service| is_superseded(service, &judged.evidence)) {
                if let Some(deployment) = judged.recovered(at) {
                    judged.left = None;
                    self.write(vec![Entry::Superseded { service: name.clone(), deployment }], at);
                }
                return;
            }
            judged.left = None;
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
                    let number = PlanId(record.seq);
                    if let (Some(judged), Cause::Verdict(verdict)) = (self.services.get_mut(&plan.service), plan.cause) {
                        judged.leave(plan.deployment, number, verdict, at);
                    }
                    let outcome = Outcome::Void(Void::Expired);
                    self.write(vec![Entry::RollbackEnded { service: plan.service, plan: number, outcome }], at);
                }
                Entry::WindowExtended { service, .. } if !self.watch_on => {
                    if let Some(judged) = self.services.get_mut(&service) {
                        judged.left = Some(Left::Unproved);
                    }
                }
                _ => {}
            }
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

    /// Whether each look at the service counts now: a deployment is judged, or it is not well again after one that was bad.
    #[must_use]
    pub fn is_attentive(&self, name: &ServiceName) -> bool {
        self.services.get(name).is_some_and(Judged::is_attentive)
    }
}

impl Judged {
    fn is_attentive(&self) -> bool {
        match self.left {
            None => self.evidence.watched().is_some(),
            Some(Left::Undone { .. }) => true,
            Some(Left::Unproved) => false,
        }
    }

    /// The plan is not carried out, and the deployment is not judged any more.
    fn leave(&mut self, deployment: DeploymentId, plan: PlanId, verdict: Verdict, at: Timestamp) {
        self.evidence.verify(&self.policy, plan, Some(&verdict), at);
        self.left = Some(Left::Undone { deployment, plan, verdict: Box::new(verdict), since: at });
    }

    /// The deployment whose rollback was planned, once the service is well again whatever came about that. What speaks against it from long
    /// before must not outweigh that, so the proof begins anew now and then.
    fn recovered(&mut self, at: Timestamp) -> Option<DeploymentId> {
        let Some(Left::Undone { deployment, plan, verdict, since }) = &mut self.left else { return None };
        if at.duration_since(*since) >= self.policy.verification.timeout {
            *since = at;
            self.evidence.unverify();
            self.evidence.verify(&self.policy, *plan, Some(verdict), at);
            return None;
        }
        let is_new = at.duration_since(*since) < ABATED;
        (!is_new && self.evidence.recovery(&self.policy, at).is_empty()).then_some(*deployment)
    }
}

/// For so long it must have been well.
const ABATED: SignedDuration = SignedDuration::from_mins(2);

/// Whether something else is deployed than the ledger says.
fn is_superseded(service: &ServiceState, evidence: &Evidence) -> bool {
    let deployed = evidence.workload().map(|(workload, _)| &workload.version.id);
    deployed.zip(service.current()).is_some_and(|(deployed, current)| *deployed != current.version.id)
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
    fresh: Fresh,
    /// The first hour that is not counted yet.
    next: Option<Hour>,
    /// The first hour that was not forgotten yet.
    oldest: Option<Hour>,
}

/// Raw samples, each series once, in order of their names.
#[derive(Debug)]
enum Fresh {
    Counters { total: Vec<Series>, failed: Vec<Series> },
    Histograms(Vec<Histogram>),
}

/// A baseline wants the same half hour a week before.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24 + 1);

impl Kept {
    fn new(kind: SignalKind, every: SignedDuration) -> Self {
        let fresh = match kind {
            SignalKind::Latency => Fresh::Histograms(Vec::new()),
            SignalKind::Errors | SignalKind::Probe | SignalKind::Query { .. } => Fresh::Counters { total: Vec::new(), failed: Vec::new() },
        };
        Self { every, past: Past::new(every), fresh, next: None, oldest: None }
    }

    fn take(&mut self, reading: Reading) {
        let Some((first, last)) = span(&reading) else { return };
        let next = *self.next.get_or_insert(Hour::of(first));
        match (&mut self.fresh, reading) {
            (Fresh::Counters { total, failed }, Reading::Scrape(scrape)) => {
                take_all(total, scrape.total);
                take_all(failed, scrape.failed);
            }
            (Fresh::Histograms(histograms), Reading::Histograms(taken)) => take_all(histograms, taken),
            _ => return,
        }
        let present = Hour::of(last);
        if present > next {
            self.count(next.begin(), present.begin());
            self.next = Some(present);
            self.oldest.get_or_insert(next);
            let oldest = back(present.begin(), Past::overlap(self.every).max(look(self.every)));
            match &mut self.fresh {
                Fresh::Counters { total, failed } => [total, failed].into_iter().for_each(|series| drop_before(series, oldest)),
                Fresh::Histograms(histograms) => drop_before(histograms, oldest),
            }
        }
    }

    /// As a daemon does that fetches it afterwards: nobody says then when a process began.
    fn count(&mut self, from: Timestamp, to: Timestamp) {
        let reading = self.between(back(from, Past::overlap(self.every)), to, Starts::Unknown);
        self.past.take(&reading, from, to);
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
    fn between(&self, from: Timestamp, to: Timestamp, starts: Starts) -> Reading {
        match &self.fresh {
            Fresh::Counters { total, failed } => {
                Reading::Scrape(Scrape { total: cut(total, from, to, starts), failed: cut(failed, from, to, starts) })
            }
            Fresh::Histograms(histograms) => Reading::Histograms(cut(histograms, from, to, starts)),
        }
    }
}

/// A series of samples of whatever kind.
trait Timed: Sized {
    type Sample: Clone;

    /// Equal for the same series; a histogram with other buckets is another one.
    fn order(&self, other: &Self) -> Ordering;
    fn at(sample: &Self::Sample) -> Timestamp;
    fn samples(&self) -> &Vec<Self::Sample>;
    fn samples_mut(&mut self) -> &mut Vec<Self::Sample>;
    fn process_started(&mut self) -> &mut Option<Timestamp>;
    /// The same series with other samples.
    fn with(&self, samples: Vec<Self::Sample>) -> Self;
}

impl Timed for Series {
    type Sample = Sample;

    fn order(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }

    fn at(sample: &Sample) -> Timestamp {
        sample.at
    }

    fn samples(&self) -> &Vec<Sample> {
        &self.samples
    }

    fn samples_mut(&mut self) -> &mut Vec<Sample> {
        &mut self.samples
    }

    fn process_started(&mut self) -> &mut Option<Timestamp> {
        &mut self.process_started
    }

    fn with(&self, samples: Vec<Sample>) -> Self {
        let Self { id, target, process_started, route, .. } = self;
        Self { id: id.clone(), target: target.clone(), process_started: *process_started, route: route.clone(), samples }
    }
}

impl Timed for Histogram {
    type Sample = HistogramSample;

    fn order(&self, other: &Self) -> Ordering {
        let bounds = || {
            let mut pairs = self.bounds.iter().zip(&other.bounds).map(|(ours, theirs)| ours.total_cmp(theirs));
            pairs.find(|order| order.is_ne()).unwrap_or_else(|| self.bounds.len().cmp(&other.bounds.len()))
        };
        self.id.cmp(&other.id).then_with(bounds)
    }

    fn at(sample: &HistogramSample) -> Timestamp {
        sample.at
    }

    fn samples(&self) -> &Vec<HistogramSample> {
        &self.samples
    }

    fn samples_mut(&mut self) -> &mut Vec<HistogramSample> {
        &mut self.samples
    }

    fn process_started(&mut self) -> &mut Option<Timestamp> {
        &mut self.process_started
    }

    fn with(&self, samples: Vec<HistogramSample>) -> Self {
        let Self { id, target, process_started, bounds, .. } = self;
        Self { id: id.clone(), target: target.clone(), process_started: *process_started, bounds: bounds.clone(), samples }
    }
}

/// The times of the first and the last sample.
fn span(reading: &Reading) -> Option<(Timestamp, Timestamp)> {
    fn of<T: Timed>(series: &[T]) -> Option<(Timestamp, Timestamp)> {
        let ends = |series: &T| series.samples().first().zip(series.samples().last()).map(|(first, last)| (T::at(first), T::at(last)));
        series.iter().filter_map(ends).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
    match reading {
        Reading::Scrape(scrape) => {
            [of(&scrape.total), of(&scrape.failed)].into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        }
        Reading::Histograms(histograms) => of(histograms),
        Reading::Probe(_) | Reading::Answer(_) | Reading::Missing(_) => None,
    }
}

/// Adds to series in order of their names.
fn take_all<T: Timed>(kept: &mut Vec<T>, taken: Vec<T>) {
    for mut series in taken {
        let place = match kept.binary_search_by(|known| known.order(&series)) {
            Ok(place) => place,
            Err(place) => {
                kept.insert(place, series);
                continue;
            }
        };
        let known = &mut kept[place];
        *known.process_started() = *series.process_started();
        // Samples may be handed in twice, as a source gives them twice.
        let newest = known.samples().last().map(T::at);
        let fresh = series.samples_mut();
        fresh.drain(..fresh.partition_point(|sample| Some(T::at(sample)) <= newest));
        known.samples_mut().append(fresh);
    }
}

fn drop_before<T: Timed>(kept: &mut Vec<T>, oldest: Timestamp) {
    for series in kept.iter_mut() {
        let old = series.samples().partition_point(|sample| T::at(sample) < oldest);
        series.samples_mut().drain(..old);
    }
    kept.retain(|series| !series.samples().is_empty());
}

fn cut<T: Timed>(kept: &[T], from: Timestamp, to: Timestamp, starts: Starts) -> Vec<T> {
    let cut = |series: &T| {
        let first = series.samples().partition_point(|sample| T::at(sample) < from);
        let last = series.samples().partition_point(|sample| T::at(sample) <= to);
        let mut piece = (first < last).then(|| series.with(series.samples()[first..last].to_vec()))?;
        if starts == Starts::Unknown {
            *piece.process_started() = None;
        }
        Some(piece)
    };
    kept.iter().filter_map(cut).collect()
}

/// One look gives the samples of so long, as the adapters do.
fn look(every: SignedDuration) -> SignedDuration {
    every.saturating_mul(6).max(SignedDuration::from_secs(30))
}

fn back(at: Timestamp, time: SignedDuration) -> Timestamp {
    at.checked_sub(time).unwrap_or(Timestamp::MIN)
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
