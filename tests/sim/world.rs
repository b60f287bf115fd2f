//! The world that the daemon lives in: a cluster with its traffic, what is broken in between just now, and the trace of everything that
//! really happened. It runs on the virtual clock of a paused runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rollbackd_core::entry::{Actor, Scope};
use rollbackd_core::notice::Notice;
use rollbackd_core::plan::PlanId;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::chance::Chance;
use super::cluster::{Cluster, Resource};

/// Something that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Patches are applied, their answers never arrive.
    LostAnswers,
    /// Patches take up to 20 s to be applied, whether somebody still waits or not.
    LateWrites,
    /// 409 without effect.
    Conflicts,
    /// 500 and 503 without effect.
    ServerErrors,
    /// 429 without effect.
    Throttling,
    /// No answer at all, no effect.
    Hanging,
    /// Watches give nothing any more and don't end.
    SilentWatch,
    /// Watches end at once with 410.
    WatchGone,
    /// The API can't be reached.
    ApiAway,
    /// Prometheus can't be reached.
    PrometheusAway,
    /// Prometheus scrapes nothing any more.
    PrometheusStale,
    /// Prometheus says itself that its answer is not whole.
    PrometheusPartial,
    /// Some targets are not in the answer.
    PrometheusGaps,
    /// Some counters of failures are missing from the answer while those of all requests are there.
    PrometheusTorn,
    /// Samples are NaN, infinite, or absurd.
    PrometheusNan,
    /// Probes find no name, or broken TLS.
    ProbeMissing,
    /// The daemon dies at any moment.
    Crash,
    /// The daemon dies just before or just after a write to its ledger.
    CrashAtLedger,
    /// The disk is full.
    LedgerFull,
    /// A write to the disk fails, written or not.
    LedgerFails,
    /// The wall clock is elsewhere after a restart.
    WallClock,
    /// The state directory is gone after a restart, and with it the ledger.
    LedgerLost,
    /// Destinations can't be reached.
    NotifierAway,
    /// Destinations take a notice and the answer is lost.
    NotifierLost,
    /// A person deploys in the very middle of what the daemon does.
    Meddling,
    /// `kubectl rollout undo`.
    Undo,
    /// The autoscaler scales.
    Scaling,
    /// Operators pause and resume, and roll back by hand.
    Operators,
    /// The workload is deleted and made again.
    Recreation,
}

impl Fault {
    pub const ALL: [Self; 29] = [
        Self::LostAnswers,
        Self::LateWrites,
        Self::Conflicts,
        Self::ServerErrors,
        Self::Throttling,
        Self::Hanging,
        Self::SilentWatch,
        Self::WatchGone,
        Self::ApiAway,
        Self::PrometheusAway,
        Self::PrometheusStale,
        Self::PrometheusPartial,
        Self::PrometheusGaps,
        Self::PrometheusTorn,
        Self::PrometheusNan,
        Self::ProbeMissing,
        Self::Crash,
        Self::CrashAtLedger,
        Self::LedgerFull,
        Self::LedgerFails,
        Self::WallClock,
        Self::LedgerLost,
        Self::NotifierAway,
        Self::NotifierLost,
        Self::Meddling,
        Self::Undo,
        Self::Scaling,
        Self::Operators,
        Self::Recreation,
    ];
}

/// Something that really happened, when, and how many records of the ledger were durable then.
#[derive(Clone, Debug)]
pub struct Fact {
    pub at: Timestamp,
    pub durable: u64,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// A person or a tool deployed.
    Deployed { service: String, image: String },
    /// A write with this plan's name arrived at the API server.
    Sent { plan: String },
    /// It took effect: on what, and from which image to which.
    Applied { service: String, plan: String, uid: String, generation: i64, from: String, to: String },
    /// The daemon deleted a pod.
    PodDeleted { service: String, image: String, ready: bool },
    /// A write that names no plan, or changes what is none of the daemon's business.
    Foreign(String),
    /// An operator's pause or its end was acknowledged.
    Held { scope: Scope, held: bool },
    /// An operator was told that a rollback is planned.
    Planned,
    /// A notice arrived.
    Delivered { destination: String, notice: Box<Notice> },
    /// A service went from well to not well, or back.
    Well { service: String, well: bool },
    /// The daemon began to run, by a wall clock that is off by so many seconds.
    #[expect(dead_code, reason = "it is printed")]
    Began { offset: i64 },
    /// The daemon died.
    Died,
    /// Its ledger is gone; what is durable from here on is in another one.
    LedgerLost,
    /// Nothing is broken from here on.
    Healed,
}

/// A watch that is open.
pub struct Watcher {
    pub resource: Resource,
    pub name: Option<String>,
    pub after: u64,
    pub sender: mpsc::UnboundedSender<String>,
}

/// The world's state.
pub struct Inner {
    pub cluster: Cluster,
    pub chance: Chance,
    /// Broken just now.
    pub broken: BTreeSet<Fault>,
    /// What the daemon's operators may meddle with: images of the future, by service.
    pub future: BTreeMap<String, Vec<String>>,
    pub trace: Vec<Fact>,
    pub watchers: Vec<Watcher>,
    pub requests: u64,
    /// By so many seconds the wall clock is off whenever the daemon starts.
    pub wall_offset: i64,
    durable: u64,
    well: BTreeMap<String, bool>,
    /// Since when Prometheus scrapes nothing.
    pub stale_since: Option<Timestamp>,
}

/// The world, shared by everybody in it.
#[derive(Clone)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
    began: Instant,
    died: Arc<Notify>,
    wrote: Arc<Notify>,
}

/// When every world begins: 2026-01-01.
pub const ORIGIN: i64 = 1_767_225_600;

impl World {
    /// An empty world whose time runs from here.
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let inner = Inner {
            cluster: Cluster::new(chance.split()),
            chance,
            broken: BTreeSet::new(),
            future: BTreeMap::new(),
            trace: Vec::new(),
            watchers: Vec::new(),
            requests: 0,
            wall_offset: 0,
            durable: 0,
            well: BTreeMap::new(),
            stale_since: None,
        };
        let world = Self { inner: Arc::new(Mutex::new(inner)), began: Instant::now(), died: Arc::default(), wrote: Arc::default() };
        tokio::spawn(world.clone().turn());
        world
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The true time.
    pub fn now(&self) -> Timestamp {
        let elapsed = jiff::SignedDuration::try_from(self.began.elapsed()).expect("a simulation is short");
        Timestamp::from_second(ORIGIN).and_then(|origin| origin.checked_add(elapsed)).expect("a time in range")
    }

    pub fn record(&self, what: What) {
        let at = self.now();
        let mut inner = self.lock();
        let durable = inner.durable;
        inner.trace.push(Fact { at, durable, what });
    }

    pub fn is_broken(&self, fault: Fault) -> bool {
        self.lock().broken.contains(&fault)
    }

    /// A fault that befalls so many of 100, while it is one of those that happen.
    pub fn befalls(&self, fault: Fault, percent: u64) -> bool {
        let mut inner = self.lock();
        inner.broken.contains(&fault) && inner.chance.percent(percent)
    }

    pub fn breaks(&self, fault: Fault) {
        let now = self.now();
        let mut inner = self.lock();
        inner.broken.insert(fault);
        if fault == Fault::PrometheusStale {
            inner.stale_since.get_or_insert(now);
        }
    }

    pub fn mends(&self, fault: Fault) {
        let mut inner = self.lock();
        inner.broken.remove(&fault);
        if fault == Fault::PrometheusStale {
            inner.stale_since = None;
        }
        if fault == Fault::SilentWatch {
            inner.watchers.retain(|watcher| watcher.after != u64::MAX);
        }
    }

    /// So many records are durable from here on.
    pub fn set_durable(&self, durable: u64) {
        self.lock().durable = durable;
        self.wrote.notify_waiters();
    }

    /// Waits for the next write to the ledger.
    pub async fn written(&self) {
        self.wrote.notified().await;
    }

    pub fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// The daemon dies at the next moment at which it lets anybody else do something.
    pub fn kill(&self) {
        self.died.notify_one();
    }

    pub async fn killed(&self) {
        self.died.notified().await;
    }

    pub fn deploy(&self, service: &str, image: &str) {
        let now = self.now();
        let changed = self.lock().cluster.deploy(service, image, now);
        if changed {
            self.record(What::Deployed { service: service.to_owned(), image: image.to_owned() });
        }
        self.tell_watchers();
    }

    /// As people do who mean to put it right: pods that would hold up a `StatefulSet` are deleted by hand.
    pub fn deploy_and_clear(&self, service: &str, image: &str) {
        self.deploy(service, image);
        self.lock().cluster.clear(service);
    }

    pub fn undo(&self, service: &str) {
        let now = self.now();
        let undone = self.lock().cluster.undo(service, now);
        if let Some(image) = undone {
            self.record(What::Deployed { service: service.to_owned(), image });
        }
        self.tell_watchers();
    }

    pub fn scale(&self, service: &str, replicas: usize) {
        let now = self.now();
        self.lock().cluster.scale(service, replicas, now);
        self.tell_watchers();
    }

    pub fn recreate(&self, service: &str) {
        let now = self.now();
        self.lock().cluster.recreate(service, now);
        self.tell_watchers();
    }

    /// A person deploys soon, while the daemon is busy; the next image of the service's future, if it has any.
    pub fn meddle(&self, service: &str, within: Duration) {
        let (image, delay) = {
            let mut inner = self.lock();
            let Some(image) = inner.future.get_mut(service).and_then(Vec::pop) else { return };
            (image, inner.chance.between(Duration::ZERO, within))
        };
        let (world, service) = (self.clone(), service.to_owned());
        tokio::spawn(async move {
            sleep(delay).await;
            world.deploy(&service, &image);
        });
    }

    /// Tells watchers what they have not been told yet.
    pub fn tell_watchers(&self) {
        let mut inner = self.lock();
        let Inner { watchers, cluster, .. } = &mut *inner;
        watchers.retain_mut(|watcher| super::server::tell(watcher, cluster));
    }

    /// Seconds pass.
    async fn turn(self) {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            let now = self.now();
            let changed: Vec<(String, bool)> = {
                let mut inner = self.lock();
                inner.cluster.second(now);
                let states: Vec<_> = inner.cluster.workloads.keys().map(|name| (name.clone(), inner.cluster.is_well(name, now))).collect();
                states.into_iter().filter(|(name, well)| inner.well.insert(name.clone(), *well) != Some(*well)).collect()
            };
            for (service, well) in changed {
                self.record(What::Well { service, well });
            }
            self.tell_watchers();
        }
    }
}

/// An operator of the simulation.
pub fn operator() -> Actor {
    Actor::Operator("anna".to_owned())
}

/// A plan's name in the world.
pub fn plan_name(ledger: &str, plan: PlanId) -> String {
    format!("{ledger}-{plan}")
}
