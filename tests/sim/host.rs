//! The machine that the daemon runs on: starts it, lets it die, starts it again, on whatever the wall clock says then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::SignedDuration;
use rollbackd::daemon::{Daemon, Handle, Setup};
use rollbackd::executor::Adapters;
use rollbackd::ledger::Ledger;
use rollbackd::ledger::memory::Memory;
use rollbackd::notify::Notifier;
use rollbackd::platform::Platform;
use rollbackd::platform::kubernetes::{Kind, Kubernetes, Settings};
use rollbackd::signal::Signal;
use rollbackd_core::alert::Rules;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::Record;
use rollbackd_core::guard::Limits;
use rollbackd_core::service::{Service, ServiceName, SignalKind, SignalName};
use rollbackd_core::task::Route;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::inbox::Inbox;
use super::server::{Tamper, client};
use super::sources::{Counters, Probe};
use super::store::{Death, Store};
use super::world::{Fault, What, World, operator};

type LedgerWrapper = fn(&World, Store) -> Box<dyn Ledger>;
type PlatformWrapper = fn(&World, Kubernetes) -> Arc<dyn Platform>;
type SignalWrapper = fn(&World, SignalKind, Arc<dyn Signal>) -> Arc<dyn Signal>;
type NotifierWrapper = fn(&World, Inbox) -> Arc<dyn Notifier>;

/// What is deliberately wrong with a daemon, so that the net can be shown to hold. Nothing of it is in the shipped code.
#[derive(Clone, Copy, Default)]
pub struct Mutation {
    pub ledger: Option<LedgerWrapper>,
    pub platform: Option<PlatformWrapper>,
    pub patch: Option<Tamper>,
    pub signal: Option<SignalWrapper>,
    pub notifier: Option<NotifierWrapper>,
    pub limits: Option<fn(&mut Limits)>,
    pub policy: Option<fn(&mut Service)>,
}

/// How the daemon is configured.
#[derive(Clone)]
pub struct Plan {
    pub services: BTreeMap<ServiceName, Service>,
    /// What isn't named here is a Deployment.
    pub kinds: BTreeMap<ServiceName, Kind>,
    pub limits: Limits,
    pub destinations: Vec<&'static str>,
    pub mutation: Mutation,
    /// It dies once, at the write of this record.
    pub dies_at: Option<(u64, Death)>,
}

/// The machine.
#[derive(Clone)]
pub struct Host {
    pub world: World,
    /// One after the other; all but the last were lost.
    ledgers: Arc<Mutex<Vec<Memory>>>,
    handle: Arc<Mutex<Option<Handle>>>,
    /// What its ledgers' names begin with.
    prefix: &'static str,
}

/// The name of the ledger with this place, from 0.
pub fn ledger_name(place: usize) -> String {
    named("sim", place)
}

fn named(prefix: &str, place: usize) -> String {
    format!("{prefix}{:05}", place + 1)
}

impl Host {
    /// Starts the daemon, and again whenever it ended.
    pub fn start(world: &World, plan: Plan) -> Self {
        Self::start_as("sim", world, plan)
    }

    /// Another one beside it, whose ledgers have other names.
    pub fn start_as(prefix: &'static str, world: &World, plan: Plan) -> Self {
        let host = Self { world: world.clone(), ledgers: Arc::new(Mutex::new(vec![Memory::new()])), handle: Arc::default(), prefix };
        tokio::spawn(host.clone().lives(plan));
        host
    }

    /// What is in the present ledger.
    pub fn records(&self) -> Vec<Record> {
        self.ledger().1.records()
    }

    /// What was written to each ledger.
    pub fn ledgers(&self) -> Vec<Vec<Record>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Memory::records).collect()
    }

    /// The present ledger and its name.
    fn ledger(&self) -> (String, Memory) {
        let ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        let place = ledgers.len() - 1;
        (named(self.prefix, place), ledgers[place].clone())
    }

    /// The state directory is gone.
    pub fn lose_ledger(&self) {
        self.world.set_durable(0);
        self.world.record(What::LedgerLost);
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner).push(Memory::new());
    }

    /// Goes on with another configuration. False when no daemon runs.
    pub async fn reload(&self, plan: &Plan) -> bool {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(handle) = handle else { return false };
        handle.reload(setup(&self.world, plan)).await
    }

    async fn lives(self, mut plan: Plan) {
        loop {
            self.live(&mut plan).await;
            *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.world.record(What::Died);
            let pause = self.world.lock().chance.between(Duration::from_millis(200), Duration::from_secs(20));
            sleep(pause).await;
        }
    }

    async fn live(&self, plan: &mut Plan) {
        let offset = self.offset();
        let wall = self.world.now().saturating_add(SignedDuration::from_secs(offset)).expect("a time in range");
        // Who dies while the daemon is dead doesn't die again.
        let _ = self.world.killed().now_or_never();
        if self.world.befalls(Fault::LedgerLost, 50) {
            self.lose_ledger();
        }
        let (name, memory) = self.ledger();
        let store = Store::open(self.world.clone(), memory, plan.dies_at.take());
        let ledger: Box<dyn Ledger> = match plan.mutation.ledger {
            Some(wrap) => wrap(&self.world, store),
            None => Box::new(store),
        };
        let Ok((daemon, handle)) = Daemon::open(ledger, wall, &name, setup(&self.world, plan)) else {
            // A death at a write of the very beginning.
            return;
        };
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        self.world.record(What::Began { offset });
        tokio::select! {
            biased;
            _ = daemon.run(CancellationToken::new(), || {}) => {}
            () = self.world.killed() => {}
        }
    }

    fn offset(&self) -> i64 {
        let offsets = [-86_400, -3_600, -90, -1, 0, 1, 90, 3_600, 86_400, 315_360_000];
        let mut inner = self.world.lock();
        inner.wall_offset + if inner.broken.contains(&Fault::WallClock) { *inner.chance.pick(&offsets) } else { 0 }
    }

    /// Asks the daemon, if it runs.
    pub async fn ask(&self, command: Command) -> Option<Answer> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        handle.ask(command, operator()).await
    }
}

fn setup(world: &World, plan: &Plan) -> Setup {
    let mutation = &plan.mutation;
    let (mut policies, mut limits) = (plan.services.clone(), plan.limits.clone());
    if let Some(change) = mutation.limits {
        change(&mut limits);
    }
    if let Some(change) = mutation.policy {
        policies.values_mut().for_each(change);
    }
    let (reads, writes) = (client(world, None), client(world, mutation.patch));
    let mut adapters = Adapters::default();
    for (name, service) in &policies {
        let kind = plan.kinds.get(name).copied().unwrap_or(Kind::Deployment);
        let settings = Settings { namespace: "shop".to_owned(), kind, name: name.to_string() };
        let kubernetes = Kubernetes::new(reads.clone(), writes.clone(), settings);
        let platform =
            mutation.platform.map_or_else(|| -> Arc<dyn Platform> { Arc::new(kubernetes.clone()) }, |wrap| wrap(world, kubernetes.clone()));
        adapters.platforms.insert(name.clone(), platform);
        for (signal, policy) in &service.signals {
            let source = source(world, name, policy.kind, policy.has_history);
            let source = mutation.signal.map_or(source.clone(), |wrap| wrap(world, policy.kind, source));
            adapters.signals.insert((name.clone(), signal.clone()), source);
        }
    }
    for destination in &plan.destinations {
        let inbox = Inbox { world: world.clone(), destination: (*destination).to_owned() };
        let notifier: Arc<dyn Notifier> = match mutation.notifier {
            Some(wrap) => wrap(world, inbox),
            None => Arc::new(inbox),
        };
        adapters.notifiers.insert((*destination).to_owned(), notifier);
    }
    let route = |destination: &&str| ((*destination).to_owned(), Route { severities: std::collections::BTreeSet::new() });
    Setup { policies, limits, routes: plan.destinations.iter().map(route).collect(), alerts: Rules::default(), adapters }
}

fn source(world: &World, service: &ServiceName, kind: SignalKind, history: bool) -> Arc<dyn Signal> {
    let (world, service) = (world.clone(), service.to_string());
    match kind {
        SignalKind::Probe => Arc::new(Probe { world, service }),
        _ => Arc::new(Counters { world, service, history }),
    }
}

/// The signals' names.
pub fn probe_signal() -> SignalName {
    SignalName("probe.ready".to_owned())
}

pub fn errors_signal() -> SignalName {
    SignalName("errors".to_owned())
}
