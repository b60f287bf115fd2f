//! Memory and processor time of a daemon with many services. Everything is the daemon's own (loop, judge, executor, ledger in SQLite) but the
//! world: workloads and signals answer at once with made-up data, at the default pace. First the time of a whole window passes as virtual
//! time, so that everything that is remembered is there, then real time is measured.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use jiff::{SignedDuration, Timestamp};
use rollbackd::daemon::{Daemon, Setup};
use rollbackd::executor::Adapters;
use rollbackd::history::Store;
use rollbackd::ledger::sqlite::Sqlite;
use rollbackd::notify::{Notifier, NotifyError};
use rollbackd::platform::{Applied, Platform, Report};
use rollbackd::signal::Signal;
use rollbackd::signal::http::{Access, Clients};
use rollbackd::signal::probe::{Probe, Settings};
use rollbackd_core::alert::Rules;
use rollbackd_core::guard::Limits;
use rollbackd_core::notice::Notice;
use rollbackd_core::observation::{
    Binding, Missing, ProbeOutcome, ProbeRound, Reading, Replicas, Rollout, Sample, Scrape, Series, Workload,
};
use rollbackd_core::plan::Effect;
use rollbackd_core::service::{Decision, Restore, Role, Service, ServiceName, SignalKind, SignalName, SignalPolicy, Verification};
use rollbackd_core::severity::Matrix;
use rollbackd_core::task::Route;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{ledger, process};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many services.
    #[arg(long)]
    services: usize,
    /// Whether all of them are in their windows, or none.
    #[arg(long, value_enum)]
    windows: Windows,
    /// Whether probes are made up, or ask a server on loopback (then nothing is virtual).
    #[arg(long, value_enum, default_value = "made-up")]
    probes: Probes,
    /// Virtual time before the measurement.
    #[arg(long, default_value_t = 1680)]
    before: u64,
    /// Seconds of real time that are measured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Windows {
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Probes {
    MadeUp,
    Real,
}

/// The default pace of probes and of Prometheus.
const PROBE_EVERY: SignedDuration = SignedDuration::from_secs(5);
const ERRORS_EVERY: SignedDuration = SignedDuration::from_secs(15);
/// Time for everything to begin, where there is no virtual time for it.
const SETTLE: Duration = Duration::from_secs(10);

/// Measures and prints one row.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let policies: Vec<Service> = (0..arguments.services).map(policy).collect::<Result<_, _>>()?;
    let now = Timestamp::now();
    ledger::begin(folder.path(), &policies.iter().collect::<Vec<_>>(), 0, now)?;
    let server = (arguments.probes == Probes::Real).then(Server::start).transpose()?;
    let mut setup = setup(policies, arguments.windows, server.as_ref().map(|server| server.address.as_str()))?;
    setup.adapters.store = Store::in_directory(folder.path());
    let runtime = match arguments.probes {
        Probes::MadeUp => tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?,
        Probes::Real => tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
    };
    runtime.block_on(async {
        let (daemon, _handle) = Daemon::open(Box::new(Sqlite::open(folder.path())?), now, "measured", setup)?;
        let shutdown = CancellationToken::new();
        let daemon = tokio::spawn(daemon.run(shutdown.clone(), || {}));
        let (began, used) = (std::time::Instant::now(), process::processor_time("self")?);
        if arguments.probes == Probes::MadeUp {
            tokio::time::sleep(Duration::from_secs(arguments.before)).await;
            tokio::time::resume();
        } else {
            tokio::time::sleep(SETTLE).await;
        }
        eprintln!("before: {:?} of processor time in {:?}", process::processor_time("self")?.saturating_sub(used), began.elapsed());
        measure(arguments).await?;
        shutdown.cancel();
        Ok(daemon.await??)
    })
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let (began, used) = (std::time::Instant::now(), process::processor_time("self")?);
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let share = process::processor_time("self")?.saturating_sub(used).as_secs_f64() / began.elapsed().as_secs_f64();
    let windows = if arguments.windows == Windows::Open { "all in their windows" } else { "none in its window" };
    let probes = if arguments.probes == Probes::Real { "real, on loopback" } else { "made up" };
    let (now, most) = (process::memory("self", "VmRSS")?, process::memory("self", "VmHWM")?);
    println!("| {} | {windows} | {probes} | {:.2} % | {now:.1} MiB | {most:.1} MiB |", arguments.services, share * 100.0);
    Ok(())
}

/// A service as the configuration makes one of nothing but a platform, a probe and an error ratio.
pub fn policy(number: usize) -> anyhow::Result<Service> {
    let name = ServiceName::try_from(format!("service-{number:04}"))?;
    let probe = SignalPolicy {
        kind: SignalKind::Probe,
        role: Role::Own,
        every: PROBE_EVERY,
        has_history: false,
        source: format!("http://{name}.shop.svc/healthz"),
    };
    let errors = SignalPolicy {
        kind: SignalKind::Errors,
        role: Role::Own,
        every: ERRORS_EVERY,
        has_history: true,
        source: "prometheus main".to_owned(),
    };
    Ok(Service {
        environment: "production".to_owned(),
        platform: format!("kubernetes shop/deployment/{name}"),
        name,
        window: SignedDuration::from_mins(30),
        signals: BTreeMap::from([(SignalName("probe.ready".to_owned()), probe), (SignalName("errors".to_owned()), errors)]),
        matrix: Matrix::default(),
        decision: Decision::default(),
        verification: Verification::default(),
        restore: Restore::default(),
        dry_run: false,
        promote_on_probes: false,
        rollbacks_per_day: 3,
    })
}

fn setup(policies: Vec<Service>, windows: Windows, server: Option<&str>) -> anyhow::Result<Setup> {
    let (clients, seats) = (Arc::new(Clients::default()), Arc::new(Semaphore::new(4)));
    let mut adapters = Adapters::default();
    for policy in &policies {
        let number = if windows == Windows::Open { 2 } else { 1 };
        adapters.platforms.insert(policy.name.clone(), Arc::new(MadeUpPlatform(number)));
        for (signal, settings) in &policy.signals {
            let adapter: Arc<dyn Signal> = match (settings.kind, server) {
                (SignalKind::Probe, Some(server)) => Arc::new(Probe::new(probe(server)?, clients.clone())?),
                (SignalKind::Probe, None) => Arc::new(MadeUpProbe(settings.source.clone())),
                (_, _) => Arc::new(MadeUpErrors(policy.name.to_string(), seats.clone())),
            };
            adapters.signals.insert((policy.name.clone(), signal.clone()), adapter);
        }
    }
    adapters.notifiers.insert("oncall".to_owned(), Arc::new(MadeUpNotifier));
    Ok(Setup {
        policies: policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect(),
        limits: Limits::default(),
        routes: BTreeMap::from([("oncall".to_owned(), Route { severities: BTreeSet::new() })]),
        alerts: Rules::default(),
        adapters,
    })
}

fn probe(server: &str) -> anyhow::Result<Settings> {
    Ok(Settings {
        targets: vec![server.parse()?],
        method: "GET".to_owned(),
        status: vec![(200, 299)],
        body_contains: None,
        json: None,
        latency_limit: None,
        timeout: Duration::from_secs(2),
        fresh_connection: true,
        redirects: 0,
        access: Access::default(),
    })
}

/// A workload that runs one version, looked at as often as an adapter has to at least.
struct MadeUpPlatform(usize);

#[async_trait]
impl Platform for MadeUpPlatform {
    fn watch(&self) -> BoxStream<'static, Report> {
        let number = self.0;
        let later = stream::unfold((), move |()| async move {
            tokio::time::sleep(Duration::from_mins(1)).await;
            Some((report(number), ()))
        });
        stream::once(std::future::ready(report(number))).chain(later).boxed()
    }

    async fn look(&self) -> Report {
        report(self.0)
    }

    async fn apply(&self, _effect: &Effect) -> Applied {
        Applied::Rejected("nothing happens here".to_owned())
    }
}

fn report(number: usize) -> Report {
    Report::Seen(Box::new(Workload {
        version: ledger::version(number),
        artifact: Some(ledger::artifact()),
        binding: Binding::Object { uid: "c0ffee00-0000-4000-8000-000000000000".to_owned(), generation: 7 },
        rollout: Rollout::Complete,
        replicas: Replicas { desired: 3, updated: 3, ready: 3, available: 3 },
        ready_is_checked: true,
        troubles: Vec::new(),
        record: None,
        change: None,
        unseen_for: SignedDuration::ZERO,
    }))
}

/// A probe that passes.
struct MadeUpProbe(String);

#[async_trait]
impl Signal for MadeUpProbe {
    async fn read(&self, _now: Timestamp) -> Reading {
        let outcome = ProbeOutcome::Passed { latency: SignedDuration::from_millis(3) };
        Reading::Probe(ProbeRound { targets: vec![(self.0.clone(), outcome)] })
    }

    async fn history(&self, _from: Timestamp, _to: Timestamp) -> Reading {
        Reading::Missing(Missing::NoHistory)
    }
}

/// The counters of three replicas with 20 requests per second each, of which one in a thousand fails, as a Prometheus gives them.
struct MadeUpErrors(String, Arc<Semaphore>);

#[async_trait]
impl Signal for MadeUpErrors {
    async fn read(&self, now: Timestamp) -> Reading {
        Reading::Scrape(scrape(now - ERRORS_EVERY * 6, now))
    }

    /// As slow as a real server, and no more than four at a time as in the real adapter.
    async fn history(&self, from: Timestamp, to: Timestamp) -> Reading {
        let _seat = self.1.acquire().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        Reading::Scrape(scrape(from, to))
    }

    fn past_id(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

fn scrape(from: Timestamp, to: Timestamp) -> Scrape {
    let series = |replica: usize, code: &str, per_second: f64| {
        let target = format!("10.0.3.{replica}:8080");
        let every = ERRORS_EVERY.as_secs();
        let first = from.as_second().div_euclid(every) + 1;
        let last = to.as_second().div_euclid(every);
        let sample = |step: i64| {
            let at = Timestamp::from_second(step * every).ok()?;
            Some(Sample { at, value: (at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64() * per_second).floor() })
        };
        Series {
            id: format!("{{code=\"{code}\",instance=\"{target}\",job=\"shop\",namespace=\"shop\"}}"),
            target,
            process_started: Timestamp::from_second(1).ok(),
            route: None,
            samples: (first..=last).filter_map(sample).collect(),
        }
    };
    let failed: Vec<Series> = (1..=3).map(|replica| series(replica, "500", 0.02)).collect();
    let passed = (1..=3).map(|replica| series(replica, "200", 19.98));
    Scrape { total: passed.chain(failed.iter().cloned()).collect(), failed }
}

struct MadeUpNotifier;

#[async_trait]
impl Notifier for MadeUpNotifier {
    async fn deliver(&self, _notice: &Notice) -> Result<(), NotifyError> {
        Ok(())
    }

    async fn check(&self) -> Result<(), NotifyError> {
        Ok(())
    }
}

/// What probes ask, in a process of its own so that it is not measured.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?).arg("serve").stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(process.stdout.take().context("it was asked for")?).read_line(&mut address)?;
        Ok(Self { process, address: address.trim().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Prints its address, and answers until it is killed.
pub fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("http://{}/healthz", listener.local_addr()?);
        let router = axum::Router::new().route("/healthz", axum::routing::get(|| async { "ok" }));
        Ok(axum::serve(listener, router).await?)
    })
}
