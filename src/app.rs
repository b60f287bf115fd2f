//! The composition root: the only place that names every concrete adapter. It turns a configuration into adapters, runs the daemon with its
//! socket and signals.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use rollbackd_core::guard::Limits;
use rollbackd_core::service::ServiceName;
use rollbackd_core::task::Route;
use tokio::sync::mpsc;

use crate::api::Listening;
use crate::config::{self, Config, Environment, GuardedService, NotifierSettings, PlatformSettings, SignalSettings};
use crate::daemon::{Daemon, Handle, Setup};
use crate::executor::Adapters;
use crate::history::Store;
use crate::ledger::sqlite::{self, Sqlite};
use crate::ledger::{Ledger, LedgerError};
use crate::notify::Notifier;
use crate::notify::email::Email;
use crate::notify::webhook::Webhook;
use crate::platform::command::Command;
use crate::platform::kubernetes::Kubernetes;
use crate::platform::{Platform, kubernetes};
use crate::shutdown::Signals;
use crate::signal::Signal;
use crate::signal::http::Clients;
use crate::signal::metrics::Metrics;
use crate::signal::probe::Probe;
use crate::signal::prometheus::Prometheus;
use crate::signal::prometheus::histograms::Histograms;
use crate::signal::prometheus::query::Query;
use crate::{alerts, shutdown, systemd};

/// How long everything may take to end after SIGTERM. Nothing half done depends on it: what is cut off is carried on at the next start.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Runs the daemon until it is told to end.
///
/// # Errors
/// When the configuration is wrong, the ledger can't be opened, an adapter can't be made or the socket is taken.
pub async fn run(path: PathBuf, config: Config, environment: Environment) -> anyhow::Result<()> {
    let Signals { shutdown, reload } = shutdown::listen().context("cannot listen for signals")?;
    let setup = setup(&config).await?;
    // Before the ledger, so that who is refused for it leaves nothing behind.
    let socket = socket(&config.daemon).await?;
    let alerts = match &config.api {
        Some(settings) => Some(alerts::Listening::open(settings).await?),
        None => None,
    };
    let ledger = ledger(&config)?;
    let services = setup.policies.len();
    let (daemon, handle) = Daemon::open(ledger, Timestamp::now(), &name(), setup)?;

    let socket = tokio::spawn(socket.serve(handle.clone(), shutdown.clone()));
    let alerts = alerts.map(|listening| {
        if let Ok(address) = listening.address() {
            tracing::info!(%address, "listening for alerts: POST /v1/alerts");
        }
        tokio::spawn(listening.serve(handle.clone(), shutdown.clone()))
    });
    let reloads = tokio::spawn(reload_on_request(path, environment, config, handle, reload));

    tracing::info!(services, version = env!("CARGO_PKG_VERSION"), "ready");
    systemd::ready(&format!("guarding {services} services"));
    let ended = daemon.run(shutdown.clone(), systemd::alive).await;
    systemd::stopping("what is under way is carried on at the next start");
    tracing::info!("ending; what is under way is carried on at the next start");
    shutdown.cancel();
    reloads.abort();
    let _ = tokio::time::timeout(LAST_WORDS, socket).await;
    if let Some(alerts) = alerts {
        let _ = tokio::time::timeout(LAST_WORDS, alerts).await;
    }
    Ok(ended?)
}

/// The local socket of a configuration.
async fn socket(settings: &config::Daemon) -> anyhow::Result<Listening> {
    // It may lie in the state directory, which is not there before the first start.
    if settings.socket.parent() == Some(settings.state_directory.as_path()) {
        let cannot = || format!("cannot make the state directory {}", settings.state_directory.display());
        sqlite::make_directory(&settings.state_directory).with_context(cannot)?;
    }
    Ok(Listening::open(&settings.socket).await?)
}

/// The ledger of a configuration.
///
/// # Errors
/// When it is in use or can't be read.
pub fn ledger(config: &Config) -> Result<Box<dyn Ledger>, LedgerError> {
    Ok(Box::new(Sqlite::open(&config.daemon.state_directory)?))
}

/// A name for a new ledger: 8 characters, unique enough among all ledgers that ever meet the same workload.
fn name() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 8];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    debug_assert!(length.is_ok(), "the kernel gives 8 random bytes at once");
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}

/// Goes on with the configuration as it is in the file now, at each SIGHUP. A wrong one changes nothing.
async fn reload_on_request(
    path: PathBuf,
    environment: Environment,
    started_with: Config,
    handle: Handle,
    mut requests: mpsc::Receiver<()>,
) {
    while requests.recv().await.is_some() {
        systemd::reloading();
        match reloaded(&path, &environment).await {
            Ok((setup, config)) => {
                let services = setup.policies.len();
                if !handle.reload(setup).await {
                    return;
                }
                tracing::info!(services, "the configuration was reloaded");
                let later = until_restart(&started_with, &config);
                if later.is_empty() {
                    systemd::ready(&format!("guarding {services} services"));
                } else {
                    let later = later.join(", ");
                    tracing::warn!(changed = later, "some of what was changed takes effect only at the next start: restart the daemon");
                    systemd::ready(&format!("guarding {services} services; only a restart brings the new {later}"));
                }
            }
            Err(why) => {
                tracing::error!("the configuration was not reloaded, the one that runs stays: {why}");
                systemd::ready("the configuration was not reloaded: it is wrong");
            }
        }
    }
}

/// What a reload leaves as it was at the start: what is listened on, and where the state is kept.
fn until_restart(started_with: &Config, config: &Config) -> Vec<&'static str> {
    let (was, is) = (&started_with.daemon, &config.daemon);
    let changes = [
        ("[api]", started_with.api != config.api),
        ("daemon.socket", was.socket != is.socket),
        ("daemon.state_directory", was.state_directory != is.state_directory),
    ];
    changes.into_iter().filter(|(_, changed)| *changed).map(|(what, _)| what).collect()
}

async fn reloaded(path: &Path, environment: &Environment) -> Result<(Setup, Config), String> {
    let config = config::load(path, environment).map_err(|diagnostics| {
        diagnostics.log();
        diagnostics.summary()
    })?;
    let setup = setup(&config).await.map_err(|error| format!("{error:#}"))?;
    Ok((setup, config))
}

/// Makes every adapter that the configuration asks for.
///
/// # Errors
/// When one can't be made; nothing is connected yet.
pub async fn setup(config: &Config) -> anyhow::Result<Setup> {
    let cluster = cluster(config).await.map_err(anyhow::Error::msg)?;
    adapted(config, cluster.as_ref())
}

/// The same for who only tries the adapters: where no cluster can be found, its services are without a platform, and the second value says
/// why.
///
/// # Errors
/// When any other adapter can't be made.
pub async fn setup_to_try(config: &Config) -> anyhow::Result<(Setup, Option<String>)> {
    let (cluster, why_none) = match cluster(config).await {
        Ok(cluster) => (cluster, None),
        Err(why) => (None, Some(why)),
    };
    Ok((adapted(config, cluster.as_ref())?, why_none))
}

/// The clients of a cluster, if any service needs one; to read and to write.
async fn cluster(config: &Config) -> Result<Option<(kube::Client, kube::Client)>, String> {
    let on_kubernetes = |service: &GuardedService| matches!(service.platform, PlatformSettings::Kubernetes(_));
    if !config.services.values().any(on_kubernetes) {
        return Ok(None);
    }
    let clients = kubernetes::clients(&config.kubernetes).await;
    clients.map(Some).map_err(|error| format!("cannot make a client of the Kubernetes API: {}", chain(&error)))
}

/// An error with everything behind it. What `kube` says ends with its cause already.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !words.ends_with(&said) {
            words.push_str(": ");
            words.push_str(&said);
        }
        source = cause.source();
    }
    words
}

fn adapted(config: &Config, cluster: Option<&(kube::Client, kube::Client)>) -> anyhow::Result<Setup> {
    let clients = Arc::new(Clients::default());
    let mut adapters = Adapters { store: Store::in_directory(&config.daemon.state_directory), ..Adapters::default() };
    for (name, service) in &config.services {
        if let Some(platform) = platform(name, service, cluster, &config.daemon.state_directory) {
            adapters.platforms.insert(name.clone(), platform);
        }
        for (signal, settings) in &service.signals {
            let adapter = signal_of(settings, &clients).with_context(|| format!("services.{name}: cannot read {signal}"))?;
            adapters.signals.insert((name.clone(), signal.clone()), adapter);
        }
    }
    for (name, destination) in &config.destinations {
        let notifier = notifier(&destination.notifier).with_context(|| format!("notify.{name}: cannot be used"))?;
        adapters.notifiers.insert(name.clone(), notifier);
    }
    let route = |destination: &config::Destination| Route { severities: destination.severities.clone() };
    Ok(Setup {
        policies: config.services.iter().map(|(name, service)| (name.clone(), service.policy.clone())).collect(),
        limits: Limits {
            rollbacks_per_hour: config.fleet.rollbacks_per_hour,
            brake_services: config.fleet.brake_services,
            brake_percent: config.fleet.brake_percent,
            brake_within: config.fleet.brake_within,
            blind_after: config.daemon.blind_after,
        },
        alerts: config.alerts.clone(),
        routes: config.destinations.iter().map(|(name, destination)| (name.clone(), route(destination))).collect(),
        adapters,
    })
}

fn platform(
    name: &ServiceName,
    service: &GuardedService,
    cluster: Option<&(kube::Client, kube::Client)>,
    state_directory: &Path,
) -> Option<Arc<dyn Platform>> {
    Some(match &service.platform {
        PlatformSettings::Kubernetes(settings) => {
            let (read, write) = cluster?;
            Arc::new(Kubernetes::new(read.clone(), write.clone(), settings.clone()))
        }
        PlatformSettings::Command(settings) => {
            Arc::new(Command::new(settings.clone(), name.clone(), service.policy.environment.clone(), state_directory))
        }
    })
}

fn signal_of(settings: &SignalSettings, clients: &Arc<Clients>) -> anyhow::Result<Arc<dyn Signal>> {
    Ok(match settings {
        SignalSettings::Probe(settings) => Arc::new(Probe::new(settings.clone(), clients.clone())?),
        SignalSettings::Prometheus(settings) => Arc::new(Prometheus::new(settings.clone(), clients.clone())?),
        SignalSettings::Histograms(settings) => Arc::new(Histograms::new(settings.clone(), clients.clone())?),
        SignalSettings::Query(settings) => Arc::new(Query::new(settings.clone(), clients.clone())?),
        SignalSettings::Metrics(settings) => Arc::new(Metrics::new(settings.clone(), clients.clone())?),
    })
}

fn notifier(settings: &NotifierSettings) -> anyhow::Result<Arc<dyn Notifier>> {
    Ok(match settings {
        NotifierSettings::Email(settings) => Arc::new(Email::new(settings.clone())?),
        NotifierSettings::Webhook(settings) => Arc::new(Webhook::new(settings.clone())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::history::{self, Wanted};

    /// What is said when a daemon is started in a directory, with its ledger and its socket there.
    async fn refusal(directory: &Path, state: &str) -> String {
        let file = directory.join("rollbackd.toml");
        let text = format!(
            "[daemon]\nstate_directory = \"{state}\"\nsocket = \"socket\"\n\
             [services.web]\nplatform.command = {{ current = [\"/bin/true\"], deploy = [\"/bin/true\"] }}\n\
             [services.web.probes.ready]\nhttp = \"http://127.0.0.1:9/\"\n"
        );
        std::fs::write(&file, text).unwrap();
        let environment = Environment::default();
        let config = config::load(&file, &environment).unwrap_or_else(|wrong| panic!("{}", config::render(&wrong, false)));
        let ended = tokio::time::timeout(Duration::from_secs(30), run(file, config, environment)).await;
        format!("{:#}", ended.expect("it ends at once").expect_err("it is refused"))
    }

    #[tokio::test]
    async fn a_daemon_whose_socket_is_taken_leaves_no_ledger_behind() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let taken = Listening::open(&socket).await.unwrap();
        let said = refusal(directory.path(), "state").await;
        assert!(said.contains(&format!("{} is in use by process {}", socket.display(), std::process::id())), "{said}");
        assert!(!directory.path().join("state").exists(), "there is a ledger");
        drop(taken);
    }

    #[tokio::test]
    async fn a_state_directory_in_a_place_that_does_not_exist_is_refused_and_the_place_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let said = refusal(directory.path(), "no/such/state").await;
        let missing = directory.path().join("no/such");
        assert!(said.contains(&format!("the directory {} does not exist", missing.display())), "{said}");
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["rollbackd.toml"]);
    }

    #[tokio::test]
    async fn a_socket_may_lie_in_a_state_directory_that_is_still_to_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let state_directory = directory.path().join("state");
        let settings =
            config::Daemon { socket: state_directory.join("socket"), state_directory, blind_after: jiff::SignedDuration::from_mins(2) };
        let listening = socket(&settings).await.unwrap();
        assert!(settings.socket.exists());
        drop(listening);
    }

    /// What a server says that it was asked and answered: queries, and bytes of their answers.
    async fn asked(server: &str) -> (f64, f64) {
        let text = reqwest::get(format!("{server}/metrics")).await.unwrap().text().await.unwrap();
        let number = |name: &str| -> f64 {
            let lines = text.lines().filter(|line| line.starts_with(name) && line.contains("\"/api/v1/query\""));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        (number("prometheus_http_response_size_bytes_count"), number("prometheus_http_response_size_bytes_sum"))
    }

    /// Wants a Prometheus with series `http_requests_total{service="svc-0",code="200",…}` of the last day in `ROLLBACKD_TEST_PROMETHEUS`, and in
    /// `ROLLBACKD_TEST_SERVICES` how many such services there are.
    #[tokio::test]
    #[ignore = "measures, wants a server with a day of samples"]
    async fn how_long_a_day_of_history_takes() {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let (server, services) = (variable("ROLLBACKD_TEST_PROMETHEUS"), variable("ROLLBACKD_TEST_SERVICES").parse::<usize>().unwrap());
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("rollbackd.toml");
        let mut text = format!("[daemon]\nstate_directory = {:?}\n[prometheus.main]\nurl = {server:?}\n", directory.path());
        for service in 0..services {
            let service = format!(
                "[services.svc-{service}]\nplatform.command = {{ current = [\"/bin/true\"], deploy = [\"/bin/true\"] }}\n\
                 [services.svc-{service}.errors]\nprometheus = \"main\"\n\
                 total = 'http_requests_total{{service=\"svc-{service}\"}}'\n\
                 failed = 'http_requests_total{{service=\"svc-{service}\",code=~\"5..\"}}'\n"
            );
            text.push_str(&service);
        }
        std::fs::write(&file, text).unwrap();
        let config = config::load(&file, &Environment::default()).unwrap_or_else(|wrong| panic!("{}", config::render(&wrong, false)));
        for round in ["first", "second"] {
            let adapters = setup(&config).await.unwrap().adapters;
            let (before, began) = (asked(&server).await, std::time::Instant::now());
            let now = Timestamp::now();
            let gather = adapters.signals.iter().map(|((service, _), signal)| {
                let (from, every) = (now - jiff::SignedDuration::from_hours(24), jiff::SignedDuration::from_secs(15));
                let (wanted, store) = (Wanted { name: service.to_string(), from, to: now, every }, adapters.store.clone());
                async move { history::gather(signal.as_ref(), &store, &wanted, Clock::begin(now, None)).await.load(&store).await }
            });
            let pasts = futures::future::join_all(gather).await;
            let took = began.elapsed();
            let (queries, bytes) = asked(&server).await;
            let began = std::time::Instant::now();
            for ((name, _), past) in adapters.signals.keys().zip(&pasts) {
                let policy = &config.services[name].policy;
                let errors = rollbackd_core::service::SignalName("errors".to_owned());
                let baseline = rollbackd_core::evidence::Evidence::baseline_of_past(policy, &errors, past, now, &[]);
                println!("{name}: {}", rollbackd_core::words::baseline(&baseline));
            }
            let judged = began.elapsed();
            let kept = std::fs::metadata(directory.path().join("history.db")).map_or(0, |file| file.len());
            println!(
                "{round}: {} queries, {:.0} KiB, {took:?}, baselines {judged:?}, file {} KiB",
                queries - before.0,
                (bytes - before.1) / 1024.0,
                kept / 1024
            );
        }
    }
}
