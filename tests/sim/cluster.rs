//! A small Kubernetes: workloads of the three kinds with their revisions and pods, controllers that roll out, the traffic that pods serve,
//! and what a Prometheus scrapes from them. Pure state; time is an argument. The API server over it is in `server`.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rollbackd::platform::kubernetes::Kind;
use rollbackd_core::observation::{Sample, Series};
use serde_json::{Value, json};

use super::chance::Chance;

/// How a version behaves: the truth that the daemon has to find out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// Well, ready after this time.
    Good { ready_after: Duration },
    /// Runs and never becomes ready.
    NeverReady,
    /// Ends right after each start.
    CrashLoop,
    /// The image does not exist.
    ImagePull,
    /// Ready, and fails this share of its requests from so long after its pod's start; its health endpoint fails, too, where `probes`.
    Failing { share: f64, after: Duration, probes: bool },
}

impl Behaviour {
    pub const GOOD: Self = Self::Good { ready_after: Duration::from_secs(3) };
    pub const OUTAGE: Self = Self::Failing { share: 1.0, after: Duration::ZERO, probes: true };

    pub const fn is_good(self) -> bool {
        matches!(self, Self::Good { .. })
    }

    const fn ready_after(self) -> Option<Duration> {
        match self {
            Self::Good { ready_after } => Some(ready_after),
            Self::Failing { .. } => Some(Duration::from_secs(3)),
            Self::NeverReady | Self::CrashLoop | Self::ImagePull => None,
        }
    }
}

/// Which collection of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Deployments,
    StatefulSets,
    DaemonSets,
    ReplicaSets,
    ControllerRevisions,
    Pods,
}

impl Resource {
    /// The collection of the workloads of a kind.
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Deployment => Self::Deployments,
            Kind::StatefulSet => Self::StatefulSets,
            Kind::DaemonSet => Self::DaemonSets,
        }
    }

    /// Whether its objects are workloads.
    pub const fn is_of_workloads(self) -> bool {
        self.workload().is_some()
    }

    /// The kind of a workload, if it is one.
    const fn workload(self) -> Option<Kind> {
        match self {
            Self::Deployments => Some(Kind::Deployment),
            Self::StatefulSets => Some(Kind::StatefulSet),
            Self::DaemonSets => Some(Kind::DaemonSet),
            Self::ReplicaSets | Self::ControllerRevisions | Self::Pods => None,
        }
    }

    /// Its objects' API version and kind.
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Deployments => ("apps/v1", "Deployment"),
            Self::StatefulSets => ("apps/v1", "StatefulSet"),
            Self::DaemonSets => ("apps/v1", "DaemonSet"),
            Self::ReplicaSets => ("apps/v1", "ReplicaSet"),
            Self::ControllerRevisions => ("apps/v1", "ControllerRevision"),
            Self::Pods => ("v1", "Pod"),
        }
    }
}

/// A change that watchers are told of.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub resource: Resource,
    /// Of what: the object's name.
    pub name: String,
    /// As a line of a watch.
    pub event: String,
}

/// A version that was kept.
#[derive(Clone, Debug)]
struct Kept {
    hash: String,
    uid: String,
    number: i64,
    template: Value,
}

/// A pod and what it counted.
#[derive(Clone, Debug)]
struct Pod {
    name: String,
    uid: String,
    hash: String,
    image: String,
    created: Timestamp,
    ready: bool,
    restarts: u32,
    total: f64,
    failed: f64,
    series: VecDeque<(Timestamp, f64, f64)>,
}

/// One workload.
#[derive(Clone, Debug)]
pub struct Workload {
    pub name: String,
    pub kind: Kind,
    pub uid: String,
    pub generation: i64,
    /// On a `DaemonSet` the number of nodes.
    pub replicas: usize,
    pub template: Value,
    pub annotations: BTreeMap<String, String>,
    /// Requests in a second.
    pub traffic: f64,
    /// Everything behind the service is broken, whatever its version: requests and probes fail.
    pub dependency_down: bool,
    resource_version: u64,
    observed: i64,
    progressed: Timestamp,
    kept: Vec<Kept>,
    pods: Vec<Pod>,
    gone: VecDeque<Pod>,
    /// The hash of the newest revision, as far as the controller has seen.
    present: String,
    /// The hash of the newest revision that was ever rolled out wholly.
    settled: String,
    /// What watchers know, in a number.
    published: Option<u64>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub workloads: BTreeMap<String, Workload>,
    pub behaviours: BTreeMap<String, Behaviour>,
    /// The deadline of the platform itself.
    pub progress_deadline: Duration,
    /// How often Prometheus scrapes.
    pub scrape_every: Duration,
    /// Changes that are still known to watchers; older ones are compacted away.
    pub changes: VecDeque<Change>,
    pub revision: u64,
    chance: Chance,
    serial: u64,
    scraped: Option<Timestamp>,
    made: BTreeMap<(Resource, String), Made>,
}

/// Objects with their texts, and the resource version of their workload when they were made.
type Made = (u64, Arc<Vec<(Value, String)>>);

/// Prometheus keeps so much.
const RETENTION: SignedDuration = SignedDuration::from_mins(70);

/// Changes that a watch can begin from.
const UNCOMPACTED: usize = 64;

/// A version's template. Its settings differ from version to version, too, so that going back by the image alone makes a third template.
pub fn template(service: &str, image: &str) -> Value {
    let settings = format!("settings of {image}");
    json!({
        "metadata": { "labels": { "app": service } },
        "spec": { "containers": [{ "name": "main", "image": image, "readinessProbe": { "httpGet": { "path": "/readyz", "port": 8080 } }, "env": [{ "name": "SETTINGS", "value": settings }] }] },
    })
}

/// The image of a template: what a version is called in this world.
pub fn image(template: &Value) -> String {
    template.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Cluster {
    pub fn new(chance: Chance) -> Self {
        Self {
            workloads: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            progress_deadline: Duration::from_mins(10),
            scrape_every: Duration::from_secs(15),
            changes: VecDeque::new(),
            revision: 1,
            chance,
            serial: 0,
            scraped: None,
            made: BTreeMap::new(),
        }
    }

    fn unique(&mut self, prefix: &str) -> String {
        self.serial += 1;
        format!("{prefix}{}", self.serial)
    }

    /// A service that has been running for as long as Prometheus remembers.
    pub fn create(&mut self, name: &str, kind: Kind, image: &str, replicas: usize, traffic: f64, now: Timestamp) {
        let uid = self.unique("uid-");
        let workload = Workload {
            name: name.to_owned(),
            kind,
            uid,
            generation: 1,
            replicas,
            template: template(name, image),
            annotations: BTreeMap::new(),
            traffic,
            dependency_down: false,
            resource_version: 0,
            observed: 0,
            progressed: now,
            kept: Vec::new(),
            pods: Vec::new(),
            gone: VecDeque::new(),
            present: String::new(),
            settled: String::new(),
            published: None,
        };
        self.workloads.insert(name.to_owned(), workload);
        for _ in 0..replicas + 2 {
            self.control(name, now);
            if let Some(workload) = self.workloads.get_mut(name) {
                workload.pods.iter_mut().for_each(|pod| pod.ready = true);
            }
        }
        let long_ago = now.saturating_sub(RETENTION).expect("a time in range");
        let share = traffic / f64::from(u32::try_from(replicas).expect("few"));
        let scrape = self.scrape_every;
        if let Some(workload) = self.workloads.get_mut(name) {
            for pod in &mut workload.pods {
                pod.created = long_ago;
                let mut at = long_ago;
                while at < now {
                    pod.count(share * scrape.as_secs_f64(), 0.002);
                    pod.scrape(at);
                    at = at.saturating_add(scrape).expect("a time in range");
                }
            }
        }
        self.publish(name, now);
    }

    /// The truth about an image; what nobody told of is good.
    pub fn behaviour(&self, image: &str) -> Behaviour {
        self.behaviours.get(image).copied().unwrap_or(Behaviour::GOOD)
    }

    /// What a service runs, by its specification.
    pub fn running(&self, service: &str) -> String {
        self.workloads.get(service).map(|workload| image(&workload.template)).unwrap_or_default()
    }

    /// Somebody deploys. False when that changes nothing.
    pub fn deploy(&mut self, service: &str, image: &str, now: Timestamp) -> bool {
        self.set(service, now, |workload| workload.template = template(service, image))
    }

    /// `kubectl rollout undo`: back to the revision before. `None` when there is none.
    pub fn undo(&mut self, service: &str, now: Timestamp) -> Option<String> {
        let workload = self.workloads.get(service)?;
        let running = image(&workload.template);
        let mut kept: Vec<_> = workload.kept.iter().filter(|kept| image(&kept.template) != running).collect();
        kept.sort_by_key(|kept| kept.number);
        let before = image(&kept.last()?.template);
        self.deploy(service, &before, now).then_some(before)
    }

    /// An autoscaler at work: the generation moves, the template does not.
    pub fn scale(&mut self, service: &str, replicas: usize, now: Timestamp) {
        self.set(service, now, |workload| workload.replicas = replicas);
    }

    /// Deleted, and made again under the same name; its pods are left alone meanwhile and adopted (`--cascade=orphan`).
    pub fn recreate(&mut self, service: &str, now: Timestamp) {
        let uid = self.unique("uid-");
        self.set(service, now, |workload| {
            workload.uid = uid;
            workload.generation = 0;
            workload.observed = 0;
            workload.annotations.clear();
        });
    }

    /// Changes a specification; the generation grows if it changed.
    fn set(&mut self, service: &str, now: Timestamp, change: impl FnOnce(&mut Workload)) -> bool {
        let Some(workload) = self.workloads.get_mut(service) else { return false };
        let before = (workload.template.clone(), workload.replicas, workload.uid.clone());
        change(workload);
        if before == (workload.template.clone(), workload.replicas, workload.uid.clone()) {
            return false;
        }
        workload.generation += 1;
        self.publish(service, now);
        true
    }

    /// Takes in a whole object that a client wrote.
    pub fn store(&mut self, service: &str, object: &Value, now: Timestamp) {
        let Some(workload) = self.workloads.get_mut(service) else { return };
        let before = (workload.template.clone(), workload.replicas);
        if let Some(template) = object.pointer("/spec/template") {
            workload.template = template.clone();
        }
        if let Some(replicas) = object.pointer("/spec/replicas").and_then(Value::as_u64) {
            workload.replicas = usize::try_from(replicas).unwrap_or(0);
        }
        let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object).cloned().unwrap_or_default();
        workload.annotations = annotations.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect();
        if before != (workload.template.clone(), workload.replicas) {
            workload.generation += 1;
        }
        self.publish(service, now);
    }

    /// One second passes.
    pub fn second(&mut self, now: Timestamp) {
        let scrape = self.scraped.is_none_or(|at| now.duration_since(at) >= signed(self.scrape_every));
        if scrape {
            self.scraped = Some(now);
        }
        let names: Vec<String> = self.workloads.keys().cloned().collect();
        for name in names {
            self.age(&name, now);
            self.serve(&name, now);
            self.control(&name, now);
            if scrape {
                self.scrape(&name, now);
            }
            self.publish(&name, now);
        }
    }

    /// Pods become ready, or end and start again.
    fn age(&mut self, name: &str, now: Timestamp) {
        let Self { workloads, behaviours, .. } = self;
        let Some(workload) = workloads.get_mut(name) else { return };
        for pod in &mut workload.pods {
            let behaviour = behaviours.get(&pod.image).copied().unwrap_or(Behaviour::GOOD);
            let age = now.duration_since(pod.created);
            let ready = behaviour.ready_after().is_some_and(|after| age >= signed(after));
            if ready && !pod.ready {
                workload.progressed = now;
            }
            pod.ready = ready;
            // The kubelet waits 10 s, 20 s, 40 s, … up to five minutes between starts.
            let restarts = (0..12).filter(|power| age.as_secs() > 10 * ((1_i64 << power) - 1)).count();
            pod.restarts = if behaviour == Behaviour::CrashLoop { u32::try_from(restarts).unwrap_or(0) } else { 0 };
        }
    }

    /// Traffic goes to ready pods in equal shares; where none is ready nobody counts it.
    fn serve(&mut self, name: &str, now: Timestamp) {
        let Self { workloads, behaviours, chance, .. } = self;
        let Some(workload) = workloads.get_mut(name) else { return };
        let ready = workload.pods.iter().filter(|pod| pod.ready).count();
        if ready == 0 || workload.traffic <= 0.0 {
            return;
        }
        let each = workload.traffic / f64::from(u32::try_from(ready).expect("few"));
        for pod in workload.pods.iter_mut().filter(|pod| pod.ready) {
            let behaviour = behaviours.get(&pod.image).copied().unwrap_or(Behaviour::GOOD);
            let failing = match behaviour {
                _ if workload.dependency_down => 1.0,
                Behaviour::Failing { share, after, .. } if now.duration_since(pod.created) >= signed(after) => share,
                _ => 0.002,
            };
            let noise = f64::from(u32::try_from(chance.below(41)).expect("small")) / 100.0 + 0.8;
            pod.count(each * noise, failing);
        }
    }

    /// What a controller does in a second.
    fn control(&mut self, name: &str, now: Timestamp) {
        let Some(workload) = self.workloads.get(name) else { return };
        let kind = workload.kind;
        if workload.observed != workload.generation {
            self.observe(name, now);
        }
        match kind {
            Kind::Deployment => self.control_deployment(name, now),
            Kind::StatefulSet | Kind::DaemonSet => self.control_in_place(name, now),
        }
        if let Some(workload) = self.workloads.get_mut(name)
            && workload.pods.iter().all(|pod| pod.hash == workload.present && pod.ready)
        {
            workload.settled.clone_from(&workload.present);
        }
    }

    /// Pods that have a place of their own, one after the other. A `StatefulSet` begins with the last and waits for every pod, also for a
    /// broken one that a newer specification would replace (kubernetes/kubernetes#67250); a `DaemonSet` begins with those that aren't ready.
    fn control_in_place(&mut self, name: &str, now: Timestamp) {
        let Some(workload) = self.workloads.get(name) else { return };
        let place = |place: usize| format!("{name}-{place}");
        let missing = (0..workload.replicas).find(|number| !workload.pods.iter().any(|pod| pod.name == place(*number)));
        if let Some(missing) = missing {
            let before = |pod: &Pod| (0..missing).any(|number| pod.name == place(number));
            if workload.kind == Kind::StatefulSet && workload.pods.iter().any(|pod| before(pod) && !pod.ready) {
                return;
            }
            let (hash, image) = (workload.present.clone(), image(&workload.template));
            let uid = self.unique("uid-");
            let Some(workload) = self.workloads.get_mut(name) else { return };
            workload.pods.push(Pod::new(place(missing), uid, hash, image, now));
            return workload.pods.sort_by(|left, right| left.name.cmp(&right.name));
        }
        let old = |pod: &Pod| pod.hash != workload.present;
        let waits = workload.pods.iter().any(|pod| !pod.ready);
        let next = if workload.pods.len() > workload.replicas {
            Some(workload.pods.len() - 1)
        } else if waits {
            workload.pods.iter().position(|pod| old(pod) && !pod.ready).filter(|_| workload.kind == Kind::DaemonSet)
        } else {
            workload.pods.iter().rposition(old)
        };
        if let Some(next) = next {
            self.end_pod(name, next);
        }
    }

    fn end_pod(&mut self, name: &str, place: usize) {
        self.made.clear();
        let Some(workload) = self.workloads.get_mut(name) else { return };
        let pod = workload.pods.remove(place);
        workload.gone.push_back(pod);
        if workload.gone.len() > 20 {
            workload.gone.pop_front();
        }
    }

    /// A person deletes the pods of a `StatefulSet` that aren't ready.
    pub fn clear(&mut self, name: &str) {
        let stuck = |workload: &Workload| workload.pods.iter().position(|pod| !pod.ready && workload.kind == Kind::StatefulSet);
        while let Some(place) = self.workloads.get(name).and_then(stuck) {
            self.end_pod(name, place);
        }
    }

    /// Somebody deletes a pod: the service, the pod's image and whether it was ready. `Err` with whether there is such a pod, when there is
    /// none or it is not the one that was meant.
    pub fn delete_pod(&mut self, pod: &str, uid: Option<&str>, resource_version: Option<&str>) -> Result<(String, String, bool), bool> {
        let found = self.workloads.values().find_map(|workload| {
            let place = workload.pods.iter().position(|candidate| candidate.name == pod)?;
            Some((workload, place))
        });
        let (workload, place) = found.ok_or(false)?;
        let pod = &workload.pods[place];
        let same_version = resource_version.is_none_or(|version| workload.resource_version.to_string() == version);
        if uid.is_some_and(|uid| pod.uid != uid) || !same_version {
            return Err(true);
        }
        let deleted = (workload.name.clone(), pod.image.clone(), pod.ready);
        self.end_pod(&deleted.0, place);
        Ok(deleted)
    }

    /// The Deployment controller makes at most one pod more and one pod fewer.
    fn control_deployment(&mut self, name: &str, now: Timestamp) {
        let Some(workload) = self.workloads.get(name) else { return };
        let hash = workload.present.clone();
        let new = workload.pods.iter().filter(|pod| pod.hash == hash).count();
        if new < workload.replicas && workload.pods.len() <= workload.replicas {
            let image = image(&workload.template);
            let (pod, uid) = (self.unique(&format!("{name}-{hash}-")), self.unique("uid-"));
            let Some(workload) = self.workloads.get_mut(name) else { return };
            workload.pods.push(Pod::new(pod, uid, hash.clone(), image, now));
        }
        let Some(workload) = self.workloads.get_mut(name) else { return };
        let ready = workload.pods.iter().filter(|pod| pod.ready).count();
        let old_unready = workload.pods.iter().position(|pod| pod.hash != hash && !pod.ready);
        let old = workload.pods.iter().position(|pod| pod.hash != hash).filter(|_| ready > workload.replicas);
        let surplus = workload.pods.iter().rposition(|pod| pod.hash == hash).filter(|_| new > workload.replicas);
        if let Some(place) = old_unready.or(old).or(surplus) {
            workload.progressed = now;
            self.end_pod(name, place);
        }
    }

    /// The controller sees a new specification: it makes a revision, or an old one the newest.
    fn observe(&mut self, name: &str, now: Timestamp) {
        let (hash, uid) = (self.unique("h"), self.unique("uid-"));
        let Some(workload) = self.workloads.get_mut(name) else { return };
        let template = workload.template.clone();
        let newest = workload.kept.iter().map(|kept| kept.number).max().unwrap_or(0);
        match workload.kept.iter_mut().find(|kept| kept.template == template) {
            Some(kept) if kept.number == newest => {}
            Some(kept) => {
                kept.number = newest + 1;
                workload.progressed = now;
            }
            None => {
                workload.kept.push(Kept { hash, uid, number: newest + 1, template });
                workload.progressed = now;
            }
        }
        workload.kept.sort_by_key(|kept| kept.number);
        if workload.kept.len() > 10 {
            workload.kept.remove(0);
        }
        workload.present = workload.kept.last().map(|kept| kept.hash.clone()).unwrap_or_default();
        workload.observed = workload.generation;
    }

    fn scrape(&mut self, name: &str, now: Timestamp) {
        let Some(workload) = self.workloads.get_mut(name) else { return };
        let oldest = now.saturating_sub(RETENTION).expect("a time in range");
        for pod in workload.pods.iter_mut().filter(|pod| pod.ready) {
            pod.scrape(now);
            while pod.series.front().is_some_and(|(at, ..)| *at < oldest) {
                pod.series.pop_front();
            }
        }
    }

    /// Raw samples of all requests and of failed ones.
    pub fn series(&self, name: &str, from: Timestamp, to: Timestamp) -> (Vec<Series>, Vec<Series>) {
        let Some(workload) = self.workloads.get(name) else { return (Vec::new(), Vec::new()) };
        // Who has a place of its own goes on with the series of the one before, from zero.
        let mut targets: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        for pod in workload.gone.iter().chain(&workload.pods) {
            targets.entry(&pod.name).or_default().push(pod);
        }
        let series = |pods: &Vec<&Pod>, what: &str, of: fn(&(Timestamp, f64, f64)) -> f64| Series {
            id: format!("{what}{{pod=\"{}\"}}", pods[0].name),
            target: pods[0].name.clone(),
            process_started: pods.iter().rev().map(|pod| pod.created).find(|created| *created <= to),
            route: None,
            samples: pods
                .iter()
                .flat_map(|pod| pod.between(from, to))
                .map(|sample| Sample { at: sample.0, value: of(sample).floor() })
                .collect(),
        };
        let total =
            targets.values().map(|pods| series(pods, "requests", |sample| sample.1)).filter(|series| !series.samples.is_empty()).collect();
        let failed = targets
            .values()
            .map(|pods| series(pods, "failures", |sample| sample.2))
            .filter(|series| series.samples.iter().any(|sample| sample.value > 0.0))
            .collect();
        (total, failed)
    }

    /// How the service answers a request now: through a load balancer, from one of the ready pods.
    pub fn answer(&mut self, name: &str, now: Timestamp) -> Result<(), &'static str> {
        let Self { workloads, behaviours, chance, .. } = self;
        let Some(workload) = workloads.get(name) else { return Err("connection refused") };
        let ready: Vec<&Pod> = workload.pods.iter().filter(|pod| pod.ready).collect();
        if ready.is_empty() {
            return Err("connection refused");
        }
        if workload.dependency_down {
            return Err("status 503, expected 200");
        }
        let pod = chance.pick(&ready);
        match behaviours.get(&pod.image).copied().unwrap_or(Behaviour::GOOD) {
            Behaviour::Failing { share, after, probes: true } if now.duration_since(pod.created) >= signed(after) => {
                let permille = chance.below(1000);
                #[expect(clippy::cast_precision_loss, reason = "below 1000")]
                if (permille as f64) < share * 1000.0 { Err("status 500, expected 200") } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Whether the service is well in truth: enough ready pods, all of good versions.
    pub fn is_well(&self, name: &str, now: Timestamp) -> bool {
        let Some(workload) = self.workloads.get(name) else { return false };
        let well = |pod: &&Pod| match self.behaviour(&pod.image) {
            Behaviour::Good { .. } => true,
            Behaviour::Failing { after, .. } => now.duration_since(pod.created) < signed(after),
            Behaviour::NeverReady | Behaviour::CrashLoop | Behaviour::ImagePull => false,
        };
        let ready: Vec<&Pod> = workload.pods.iter().filter(|pod| pod.ready).collect();
        !workload.dependency_down && !ready.is_empty() && ready.iter().all(well)
    }

    /// Tells watchers, if anything that they can see changed.
    fn publish(&mut self, name: &str, now: Timestamp) {
        let Some(workload) = self.workloads.get(name) else { return };
        let seen = Some(workload.sign(self.progress_deadline, now));
        if seen == workload.published {
            return;
        }
        self.revision += 1;
        let (revision, deadline) = (self.revision, self.progress_deadline);
        let Some(workload) = self.workloads.get_mut(name) else { return };
        let kind = if workload.published.is_none() { "ADDED" } else { "MODIFIED" };
        workload.published = seen;
        workload.resource_version = revision;
        let event = json!({ "type": kind, "object": workload.object(deadline, now) });
        let change = Change { revision, resource: Resource::of(workload.kind), name: name.to_owned(), event: format!("{event}\n") };
        self.changes.push_back(change);
        if self.changes.len() > UNCOMPACTED {
            self.changes.pop_front();
        }
    }

    /// The objects of a collection that belong to one workload, each with its text. They are made anew only when something in them changed.
    pub fn texts(&mut self, resource: Resource, workload: &str, now: Timestamp) -> Arc<Vec<(Value, String)>> {
        let Some(version) = self.workloads.get(workload).map(|workload| workload.resource_version) else { return Arc::default() };
        if let Some((_, made)) = self.made.get(&(resource, workload.to_owned())).filter(|(of, _)| *of == version) {
            return Arc::clone(made);
        }
        let with_text = |object: Value| {
            let text = object.to_string();
            (object, text)
        };
        let made: Arc<Vec<_>> = Arc::new(self.objects(resource, Some(workload), now).into_iter().map(with_text).collect());
        self.made.insert((resource, workload.to_owned()), (version, Arc::clone(&made)));
        made
    }

    /// The objects of a collection, of one workload or of all.
    pub fn objects(&self, resource: Resource, workload: Option<&str>, now: Timestamp) -> Vec<Value> {
        let objects = |workload: &Workload| match resource {
            Resource::Deployments | Resource::StatefulSets | Resource::DaemonSets if resource.workload() == Some(workload.kind) => {
                vec![workload.object(self.progress_deadline, now)]
            }
            Resource::ReplicaSets if workload.kind == Kind::Deployment => {
                workload.kept.iter().map(|kept| workload.replica_set(kept)).collect()
            }
            Resource::ControllerRevisions if workload.kind != Kind::Deployment => {
                workload.kept.iter().map(|kept| workload.controller_revision(kept)).collect()
            }
            Resource::Pods => workload.pods.iter().map(|pod| self.pod(workload, pod)).collect(),
            _ => Vec::new(),
        };
        self.workloads.values().filter(|of| workload.is_none_or(|name| of.name == name)).flat_map(objects).collect()
    }

    fn pod(&self, workload: &Workload, pod: &Pod) -> Value {
        let owner = workload.kept.iter().find(|kept| kept.hash == pod.hash);
        let behaviour = self.behaviour(&pod.image);
        let state = match behaviour {
            Behaviour::ImagePull => json!({ "waiting": { "reason": "ImagePullBackOff", "message": "Back-off pulling image: not found" } }),
            Behaviour::CrashLoop => {
                json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off restarting failed container" } })
            }
            _ => json!({ "running": { "startedAt": pod.created.to_string() } }),
        };
        let last = if pod.restarts > 0 { json!({ "terminated": { "exitCode": 1, "reason": "Error" } }) } else { json!({}) };
        let phase = if behaviour == Behaviour::ImagePull { "Pending" } else { "Running" };
        let (label, owner) = match workload.kind {
            Kind::Deployment => (
                json!({ "app": workload.name, "pod-template-hash": pod.hash }),
                owner.map(|kept| ("ReplicaSet", format!("{}-{}", workload.name, kept.hash), kept.uid.clone())),
            ),
            Kind::StatefulSet => (
                json!({ "app": workload.name, "controller-revision-hash": format!("{}-{}", workload.name, pod.hash) }),
                Some(("StatefulSet", workload.name.clone(), workload.uid.clone())),
            ),
            Kind::DaemonSet => (
                json!({ "app": workload.name, "controller-revision-hash": pod.hash }),
                Some(("DaemonSet", workload.name.clone(), workload.uid.clone())),
            ),
        };
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": pod.name, "namespace": "shop", "uid": pod.uid, "resourceVersion": workload.resource_version.to_string(),
                "creationTimestamp": pod.created.to_string(),
                "labels": label,
                "ownerReferences": owner.map(|(kind, name, uid)| vec![json!({
                    "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true
                })]).unwrap_or_default(),
            },
            "spec": { "containers": [{ "name": "main", "image": pod.image }] },
            "status": {
                "phase": phase,
                "conditions": [{ "type": "Ready", "status": if pod.ready { "True" } else { "False" } }],
                "containerStatuses": [{
                    "name": "main", "image": pod.image, "imageID": "", "ready": pod.ready, "restartCount": pod.restarts,
                    "state": state, "lastState": last,
                }],
            },
        })
    }
}

impl Workload {
    /// How many pods are of the newest revision, how many are ready, whether that is all, and whether it takes too long.
    fn progress(&self, deadline: Duration, now: Timestamp) -> (usize, usize, bool, bool) {
        let new = self.pods.iter().filter(|pod| pod.hash == self.present).count();
        let ready = self.pods.iter().filter(|pod| pod.ready).count();
        let complete = new >= self.replicas && self.pods.len() == new && ready >= new;
        (new, ready, complete, !complete && now.duration_since(self.progressed) >= signed(deadline))
    }

    /// Everything that can change, in a number.
    fn sign(&self, deadline: Duration, now: Timestamp) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.uid, self.generation, self.observed, self.replicas, &self.annotations, self.progress(deadline, now)).hash(&mut hasher);
        self.settled.hash(&mut hasher);
        self.pods.iter().for_each(|pod| (&pod.uid, pod.ready, pod.restarts).hash(&mut hasher));
        hasher.finish()
    }

    /// As the API server gives it.
    fn object(&self, deadline: Duration, now: Timestamp) -> Value {
        let (new, ready, complete, late) = self.progress(deadline, now);
        let progressing = if late {
            json!({ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "it has timed out progressing" })
        } else {
            json!({ "type": "Progressing", "status": "True", "reason": if complete { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" }, "message": "" })
        };
        let (api_version, kind) = Resource::of(self.kind).names();
        let revision = |hash: &str| format!("{}-{hash}", self.name);
        let status = match self.kind {
            Kind::Deployment => json!({
                "observedGeneration": self.observed, "replicas": self.pods.len(), "updatedReplicas": new,
                "readyReplicas": ready, "availableReplicas": ready, "conditions": [progressing],
            }),
            Kind::StatefulSet => json!({
                "observedGeneration": self.observed, "replicas": self.pods.len(), "updatedReplicas": new,
                "readyReplicas": ready, "availableReplicas": ready,
                "currentRevision": revision(&self.settled), "updateRevision": revision(&self.present),
            }),
            Kind::DaemonSet => json!({
                "observedGeneration": self.observed, "desiredNumberScheduled": self.replicas, "currentNumberScheduled": self.pods.len(),
                "updatedNumberScheduled": new, "numberReady": ready, "numberAvailable": ready,
            }),
        };
        json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {
                "name": self.name, "namespace": "shop", "uid": self.uid, "generation": self.generation,
                "annotations": self.annotations, "labels": { "app": self.name }, "resourceVersion": self.resource_version.to_string(),
            },
            "spec": {
                "replicas": self.replicas, "selector": { "matchLabels": { "app": self.name } }, "template": self.template,
                "progressDeadlineSeconds": deadline.as_secs(),
            },
            "status": status,
        })
    }

    fn controller_revision(&self, kept: &Kept) -> Value {
        let mut template = kept.template.clone();
        template["$patch"] = json!("replace");
        let (api_version, kind) = Resource::of(self.kind).names();
        json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": format!("{}-{}", self.name, kept.hash), "namespace": "shop", "uid": kept.uid,
                "resourceVersion": self.resource_version.to_string(),
                "labels": { "app": self.name, "controller-revision-hash": kept.hash },
                "ownerReferences": [{ "apiVersion": api_version, "kind": kind, "name": self.name, "uid": self.uid, "controller": true }],
            },
            "data": { "spec": { "template": template } },
            "revision": kept.number,
        })
    }

    fn replica_set(&self, kept: &Kept) -> Value {
        let pods = self.pods.iter().filter(|pod| pod.hash == kept.hash).count();
        let mut template = kept.template.clone();
        template["metadata"]["labels"]["pod-template-hash"] = json!(kept.hash);
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{}-{}", self.name, kept.hash), "namespace": "shop", "uid": kept.uid,
                "resourceVersion": self.resource_version.to_string(),
                "labels": { "app": self.name, "pod-template-hash": kept.hash },
                "annotations": { "deployment.kubernetes.io/revision": kept.number.to_string() },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": self.name, "uid": self.uid, "controller": true }],
            },
            "spec": { "replicas": pods, "selector": { "matchLabels": { "app": self.name, "pod-template-hash": kept.hash } }, "template": template },
            "status": { "replicas": pods },
        })
    }
}

impl Pod {
    const fn new(name: String, uid: String, hash: String, image: String, created: Timestamp) -> Self {
        Self { name, uid, hash, image, created, ready: false, restarts: 0, total: 0.0, failed: 0.0, series: VecDeque::new() }
    }

    fn count(&mut self, requests: f64, failing: f64) {
        self.total += requests;
        self.failed += requests * failing;
    }

    /// The samples after `from`, up to and with `to`.
    fn between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &(Timestamp, f64, f64)> {
        let first = self.series.partition_point(|(at, ..)| *at <= from);
        let end = self.series.partition_point(|(at, ..)| *at <= to);
        self.series.range(first..end.max(first))
    }

    fn scrape(&mut self, at: Timestamp) {
        self.series.push_back((at, self.total, self.failed));
    }
}

pub fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).expect("a duration in range")
}
