//! A seed's story: which faults there are, who deploys what and when, and how it ends well.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use rollbackd::platform::kubernetes::Kind;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::{Entry, Record, Scope};
use rollbackd_core::guard::Limits;
use rollbackd_core::service::{Decision, Restore, Role, Service, ServiceName, SignalKind, SignalPolicy, Verification};
use rollbackd_core::severity::Matrix;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use super::audit::{Run, Violation, audit};
use super::chance::Chance;
use super::cluster::Behaviour;
use super::host::{Host, Mutation, Plan, errors_signal, probe_signal};
use super::world::{Fault, What, World};

/// A service of the simulation, watched by so many kinds of signals.
pub fn service(name: &str, kinds: &[(SignalKind, bool)], short: bool) -> Service {
    let seconds = SignedDuration::from_secs;
    let signal = |&(kind, has_history): &(SignalKind, bool)| {
        let (name, every) = match kind {
            SignalKind::Probe => (probe_signal(), if short { 2 } else { 5 }),
            _ => (errors_signal(), if short { 5 } else { 15 }),
        };
        (name, SignalPolicy { kind, role: Role::Own, every: seconds(every), has_history, source: "the simulation".to_owned() })
    };
    let decision = Decision {
        grace: seconds(15),
        startup_deadline: seconds(25),
        ready_deadline: seconds(75),
        hold_p0: seconds(15),
        hold_p1: seconds(25),
        hold_p2: seconds(25),
        history: seconds(300),
        ..Decision::default()
    };
    let verification = Verification { timeout: seconds(90), rollout_timeout: seconds(120), watch: seconds(60) };
    Service {
        name: ServiceName::try_from(name).expect("a name"),
        environment: "production".to_owned(),
        platform: format!("deployment shop/{name}"),
        window: if short { seconds(240) } else { SignedDuration::from_mins(30) },
        signals: kinds.iter().map(signal).collect(),
        matrix: Matrix::default(),
        decision: if short { decision } else { Decision::default() },
        verification: if short { verification } else { Verification::default() },
        restore: Restore::Template,
        dry_run: false,
        promote_on_probes: !kinds.iter().any(|(kind, _)| *kind == SignalKind::Errors),
        rollbacks_per_day: 3,
    }
}

/// The tables of a seed.
struct Cast {
    chance: Chance,
    services: Vec<Service>,
    kinds: BTreeMap<ServiceName, Kind>,
    faults: Vec<Fault>,
    versions: u32,
}

/// What a seed is asked for.
#[derive(Clone, Copy, Default)]
pub struct Asked {
    pub mutation: Mutation,
    /// These faults, and no others.
    pub only: Option<&'static [Fault]>,
}

/// What came of it.
pub struct Outcome {
    pub violations: Vec<Violation>,
    pub hash: u64,
    pub faults: Vec<Fault>,
    pub rollbacks: usize,
    pub trace: String,
}

/// Plays a seed, on a runtime of its own.
pub fn play(seed: u64, asked: Asked) -> Outcome {
    runtime().block_on(story(seed, asked))
}

/// Virtual time, and the end of everything that was started on it.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

impl Cast {
    fn new(seed: u64, asked: Asked) -> Self {
        let mut chance = Chance::new(seed ^ 0x5eed);
        let kinds: [&'static [(SignalKind, bool)]; 4] = [
            &[(SignalKind::Probe, false), (SignalKind::Errors, true)],
            &[(SignalKind::Errors, false)],
            &[(SignalKind::Probe, false)],
            &[(SignalKind::Probe, false), (SignalKind::Errors, false)],
        ];
        let names = ["basket", "checkout", "search"];
        let count = usize::try_from(chance.below(3)).expect("small") + 1;
        let mut services: Vec<Service> =
            names.iter().take(count).map(|name| service(name, chance.pick::<&[(SignalKind, bool)]>(&kinds), true)).collect();
        for service in &mut services {
            service.rollbacks_per_day = u32::try_from(chance.below(4)).expect("small") + 2;
            service.dry_run = chance.percent(8);
            service.restore = if chance.percent(30) { Restore::Image } else { Restore::Template };
        }
        let workloads = [Kind::Deployment, Kind::Deployment, Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];
        let kinds = services.iter().map(|service| (service.name.clone(), *chance.pick(&workloads))).collect();
        let faults = match asked.only {
            Some(only) => only.to_vec(),
            None => Fault::ALL.into_iter().filter(|_| chance.percent(30)).collect(),
        };
        Self { chance, services, kinds, faults, versions: 1 }
    }

    fn next_image(&mut self, service: &str) -> String {
        self.versions += 1;
        format!("shop/{service}:v{}", self.versions)
    }

    /// A behaviour that the service's signals can tell.
    fn bad(&mut self, service: &Service) -> Behaviour {
        let probes = service.signals.contains_key(&probe_signal());
        let errors = service.signals.contains_key(&errors_signal());
        let mut choices = vec![Behaviour::NeverReady, Behaviour::CrashLoop, Behaviour::ImagePull];
        if probes {
            choices.push(Behaviour::OUTAGE);
        }
        if errors {
            choices.push(Behaviour::Failing { share: 0.85, after: Duration::ZERO, probes: false });
            choices.push(Behaviour::Failing { share: 1.0, after: Duration::ZERO, probes });
        }
        *self.chance.pick(&choices)
    }

    /// A `StatefulSet` waits for one pod after the other, and all of them have to be ready within the deadline.
    fn good(&mut self, service: &Service) -> Behaviour {
        let most = if self.kinds[&service.name] == Kind::Deployment { 25 } else { 12 };
        Behaviour::Good { ready_after: self.chance.between(Duration::from_secs(1), Duration::from_secs(most)) }
    }
}

async fn story(seed: u64, asked: Asked) -> Outcome {
    let world = World::new(seed);
    let mut cast = Cast::new(seed, asked);
    let plan = plan(&cast, asked.mutation);
    populate(&world, &mut cast);
    let host = Host::start(&world, plan.clone());
    let mut violations = Vec::new();
    // Time for a first known good version, most of the time.
    let head_start = cast.chance.seconds(0, 400);
    sleep(head_start).await;
    chaos(&world, &host, &mut cast).await;
    heal(&world, &host, &mut cast, &mut violations).await;
    trial(&world, &host, &mut cast, &mut violations).await;
    let run = over(&world, &host, &plan, true);
    violations.extend(audit(&run));
    let trace = trace(&run);
    let rollbacks = run.facts.iter().filter(|fact| matches!(fact.what, What::Applied { .. })).count();
    Outcome { violations, hash: hash(&trace), faults: cast.faults, rollbacks, trace }
}

fn plan(cast: &Cast, mutation: Mutation) -> Plan {
    let limits = Limits { rollbacks_per_hour: 6, blind_after: SignedDuration::from_secs(20), ..Limits::default() };
    let services: BTreeMap<ServiceName, Service> = cast.services.iter().map(|service| (service.name.clone(), service.clone())).collect();
    Plan { services, kinds: cast.kinds.clone(), limits, destinations: vec!["mail", "chat"], mutation, dies_at: None }
}

fn populate(world: &World, cast: &mut Cast) {
    let now = world.now();
    for service in cast.services.clone() {
        let name = service.name.as_str();
        let traffic = *cast.chance.pick(&[15.0, 30.0, 60.0]);
        let mut inner = world.lock();
        inner.cluster.scrape_every = Duration::from_secs(5);
        inner.cluster.progress_deadline = *cast.chance.pick(&[Duration::from_secs(45), Duration::from_mins(10)]);
        inner.cluster.create(name, cast.kinds[&service.name], &format!("shop/{name}:v1"), 2, traffic, now);
        // Who meddles deploys good versions and bad ones.
        for _ in 0..12 {
            let image = cast.next_image(name);
            let behaviour = if cast.chance.percent(50) { cast.good(&service) } else { cast.bad(&service) };
            inner.cluster.behaviours.insert(image.clone(), behaviour);
            inner.future.entry(name.to_owned()).or_default().push(image);
        }
    }
}

/// Ten to twenty minutes in which things break and people deploy.
async fn chaos(world: &World, host: &Host, cast: &mut Cast) {
    for fault in cast.faults.clone() {
        episodes(world, fault, cast.chance.split());
    }
    let mut left = cast.chance.seconds(600, 1200);
    while !left.is_zero() {
        let pause = cast.chance.seconds(5, 120).min(left);
        sleep(pause).await;
        left -= pause;
        let service = cast.chance.pick(&cast.services).clone();
        act(world, host, cast, &service).await;
    }
}

/// A fault comes and goes; crashes come at moments.
fn episodes(world: &World, fault: Fault, mut chance: Chance) {
    let world = world.clone();
    tokio::spawn(async move {
        loop {
            sleep(chance.seconds(1, 200)).await;
            if world.lock().trace.iter().rev().any(|fact| matches!(fact.what, What::Healed)) {
                return;
            }
            if fault == Fault::Crash {
                world.kill();
            } else {
                world.breaks(fault);
                sleep(chance.seconds(5, 150)).await;
                world.mends(fault);
            }
        }
    });
}

/// Somebody does something.
async fn act(world: &World, host: &Host, cast: &mut Cast, service: &Service) {
    let name = service.name.as_str();
    match cast.chance.below(12) {
        0..=3 => {
            let (image, behaviour) = (cast.next_image(name), cast.bad(service));
            world.lock().cluster.behaviours.insert(image.clone(), behaviour);
            world.deploy(name, &image);
        }
        4..=6 => {
            let (image, behaviour) = (cast.next_image(name), cast.good(service));
            world.lock().cluster.behaviours.insert(image.clone(), behaviour);
            world.deploy(name, &image);
        }
        7 | 8 if cast.faults.contains(&Fault::Undo) => world.undo(name),
        9 if cast.faults.contains(&Fault::Scaling) => {
            let replicas = usize::try_from(cast.chance.below(4)).expect("small") + 1;
            world.scale(name, replicas);
        }
        10 if cast.faults.contains(&Fault::Recreation) => world.recreate(name),
        11 if cast.faults.contains(&Fault::Operators) => operate(world, host, &mut cast.chance, &service.name).await,
        _ => {}
    }
}

/// An operator at the command line. Asking must not last longer than the daemon lives.
async fn operate(world: &World, host: &Host, chance: &mut Chance, service: &ServiceName) {
    let scope = if chance.percent(50) { Scope::All } else { Scope::Service(service.clone()) };
    match chance.below(3) {
        0 => hold(world, host, scope, true).await,
        1 => hold(world, host, scope, false).await,
        _ => {
            let command = Command::Rollback { service: service.clone(), to: None, reason: "it feels wrong".to_owned(), dry_run: false };
            if let Some(Answer::Planned { .. }) = ask(host, command).await {
                world.record(What::Planned);
            }
        }
    }
}

async fn ask(host: &Host, command: Command) -> Option<Answer> {
    tokio::time::timeout(Duration::from_secs(5), host.ask(command)).await.ok().flatten()
}

async fn hold(world: &World, host: &Host, scope: Scope, held: bool) {
    let command = if held {
        Command::Hold { scope: scope.clone(), reason: "I am looking".to_owned(), lasting: None }
    } else {
        // From here on nobody relies on the pause.
        world.record(What::Held { scope: scope.clone(), held: false });
        Command::Resume { scope: scope.clone() }
    };
    if let Some(Answer::Done(_)) = ask(host, command).await
        && held
    {
        world.record(What::Held { scope, held: true });
    }
}

/// Everything is mended, people resume, and each service gets a good version that has to pass its window.
async fn heal(world: &World, host: &Host, cast: &mut Cast, violations: &mut Vec<Violation>) {
    world.record(What::Healed);
    for fault in Fault::ALL {
        world.mends(fault);
    }
    sleep(Duration::from_mins(1)).await;
    resume(world, host, cast).await;
    // Whoever still wanted to deploy changed their mind.
    world.lock().future.clear();
    deploy_good(world, cast);
    sleep(Duration::from_mins(1)).await;
    // What probes remember of this bad day would make the daemon careful for hours; that is another story than the one of the trial.
    world.kill();
    // What people had to put right themselves is history like any other; only a history that is well proves the next version quickly.
    sleep(Duration::from_mins(8)).await;
    deploy_good(world, cast);
    // The window, the longest rollout, and whatever was still under way before.
    sleep(Duration::from_mins(7)).await;
    resume(world, host, cast).await;
    for service in &cast.services {
        let passed = current_status(host, service) == Some(rollbackd_core::lifecycle::Status::Deployed);
        if !passed {
            let words = format!("a good version of {} did not pass its window", service.name);
            violations.push(Violation { invariant: "L8", words });
        }
    }
}

fn deploy_good(world: &World, cast: &mut Cast) {
    for service in cast.services.clone() {
        let name = service.name.as_str();
        let (image, behaviour) = (cast.next_image(name), cast.good(&service));
        world.lock().cluster.behaviours.insert(image.clone(), behaviour);
        world.deploy_and_clear(name, &image);
    }
}

async fn resume(world: &World, host: &Host, cast: &Cast) {
    hold(world, host, Scope::All, false).await;
    for service in &cast.services {
        hold(world, host, Scope::Service(service.name.clone()), false).await;
    }
}

fn fold(host: &Host) -> rollbackd_core::lifecycle::State {
    let mut state = rollbackd_core::lifecycle::State::default();
    host.records().iter().for_each(|record| state.apply(record));
    state
}

fn current_status(host: &Host, service: &Service) -> Option<rollbackd_core::lifecycle::Status> {
    fold(host).service(&service.name)?.current().map(|current| current.status)
}

/// L1: a bad version on a platform that is well is rolled back in time, and everything comes to its end.
async fn trial(world: &World, host: &Host, cast: &mut Cast, violations: &mut Vec<Violation>) {
    for service in cast.services.clone() {
        let name = service.name.as_str();
        let behaviour = if is_ahead(world, host) { Behaviour::CrashLoop } else { cast.bad(&service) };
        let image = cast.next_image(name);
        let good = world.lock().cluster.running(name);
        world.lock().cluster.behaviours.insert(image.clone(), behaviour);
        world.deploy(name, &image);
        let slowest = service.signals.values().map(|signal| signal.every).max().unwrap_or_default();
        let bound = service.window + slowest * 2;
        sleep(Duration::try_from(bound).expect("positive")).await;
        let running = world.lock().cluster.running(name);
        let refused = host.records().iter().any(|record| match &record.entry {
            Entry::RollbackRefused { service: of, deployment, .. } => {
                *of == service.name && fold(host).service(of).and_then(|known| known.current).is_some_and(|current| current == *deployment)
            }
            _ => false,
        });
        if running != good && !refused {
            let words = format!("{name}: {image} ({behaviour:?}) was neither rolled back to {good} within {bound:#} nor refused");
            violations.push(Violation { invariant: "L1", words });
        }
        // So that the brake has no reason to come on.
        sleep(Duration::from_mins(2)).await;
    }
    // Rollout, proof, watch, and the slowest repetition of a notice.
    sleep(Duration::from_secs(120 + 90 + 60 + 60)).await;
    for _ in 0..30 {
        let state = fold(host);
        let untold = |outgoing: &rollbackd_core::lifecycle::Outgoing| outgoing.settled.len() < state.destinations.len();
        if !state.outbox.values().any(untold) {
            break;
        }
        sleep(Duration::from_mins(1)).await;
    }
}

/// Whether the daemon's clock is elsewhere than everybody else's, because the wall clock once was. The history before a deployment is asked
/// for in the daemon's time, so there is none then, and nothing can be called worse by its counters.
fn is_ahead(world: &World, host: &Host) -> bool {
    let newest = host.records().last().map(|record| record.at);
    newest.is_some_and(|newest| newest.duration_since(world.now()) > SignedDuration::from_secs(5))
}

/// What is known of a run that is over.
pub fn over(world: &World, host: &Host, plan: &Plan, calm: bool) -> Run {
    let inner = world.lock();
    let lasted = inner.trace.last().map_or(SignedDuration::ZERO, |fact| fact.at.duration_since(inner.trace[0].at));
    let running = inner.cluster.workloads.keys().map(|name| (name.clone(), inner.cluster.running(name))).collect();
    Run {
        facts: inner.trace.clone(),
        ledgers: host.ledgers(),
        services: plan.services.clone(),
        limits: plan.limits.clone(),
        destinations: plan.destinations.clone(),
        behaviours: inner.cluster.behaviours.clone(),
        running,
        requests: inner.requests,
        lasted,
        calm,
    }
}

/// The run in lines: facts and records in their order.
pub fn trace(run: &Run) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let write_record = |record: &Record, text: &mut String| {
        let _ = writeln!(text, "          {} {:>4} {:?}", record.at.strftime("%H:%M:%S%.3f"), record.seq, record.entry);
    };
    let mut ledgers = run.ledgers.iter();
    let mut records = ledgers.next().into_iter().flatten().peekable();
    for fact in &run.facts {
        if matches!(fact.what, What::LedgerLost) {
            records.by_ref().for_each(|record| write_record(record, &mut text));
            records = ledgers.next().into_iter().flatten().peekable();
        }
        while let Some(record) = records.next_if(|record| record.seq <= fact.durable) {
            write_record(record, &mut text);
        }
        let words = match &fact.what {
            What::Delivered { destination, notice } => format!("delivered to {destination}: {} {}", notice.id, notice.headline),
            other => format!("{other:?}"),
        };
        let _ = writeln!(text, "{} {words}", fact.at.strftime("%H:%M:%S%.3f"));
    }
    records.for_each(|record| write_record(record, &mut text));
    text
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
