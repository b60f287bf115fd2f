//! The demo: a small service in two versions, a daemon with a temporary ledger, and the story of what happens between them, told as it
//! happens. Nothing of the daemon is pretended: configuration, platform (programs), probes, metrics, ledger and webhook are the real ones;
//! only the service and its users are made up. `service` is what is deployed, `teller` is the voice.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::{Actor, Entry, Record};
use rollbackd_core::plan::Outcome;
use rollbackd_core::service::ServiceName;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::{self, Environment};
use crate::daemon::{Daemon, Handle};
use crate::ledger::{Ledger, LedgerError};
use crate::{api, app, shutdown};
use service::{Behaviour, Shop};
use teller::Teller;

mod service;
mod teller;

/// What happens in the demo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// The new version answers nothing but errors, health checks included: rolled back.
    Outage,
    /// The new version fails under load while its health check stays green: rolled back.
    #[default]
    Errors,
    /// The new version is fine: left alone and promoted.
    Healthy,
    /// Nobody uses the service: nothing may happen.
    Quiet,
    /// What the service depends on dies: going back does not help, and it stops there.
    NotToBlame,
}

/// The whole story takes about half of this.
const PATIENCE: Duration = Duration::from_secs(55);
/// Requests in a second.
const TRAFFIC: u32 = 120;
const GOOD: &str = "shop v1.0";
const NEW: &str = "shop v1.1";

/// Plays a scenario and tells it on standard output.
///
/// # Errors
/// When the story did not end as it should have.
pub async fn run(scenario: Scenario) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("rollbackd-demo-").tempdir().context("cannot make a temporary folder")?;
    let mut signals = shutdown::listen().context("cannot listen for signals")?;
    let story = async {
        let stage = Stage::set(scenario, folder.path()).await?;
        Teller::begin(scenario, folder.path());
        stage.play(scenario, &mut Teller::new()).await
    };
    // However it ends, the folder goes.
    tokio::select! {
        biased;
        () = signals.shutdown.cancelled() => Err(anyhow::anyhow!("interrupted")),
        // The terminal was closed.
        _ = signals.reload.recv() => Err(anyhow::anyhow!("interrupted")),
        ended = story => ended,
    }
}

/// Everything that the story plays with.
struct Stage {
    shop: Arc<Shop>,
    handle: Handle,
    records: mpsc::UnboundedReceiver<Record>,
    notices: mpsc::Receiver<Value>,
    service: ServiceName,
    _end: DropGuard,
}

impl Stage {
    async fn set(scenario: Scenario, folder: &Path) -> anyhow::Result<Self> {
        let end = CancellationToken::new();
        let shop = Arc::new(Shop::open(folder, GOOD, Behaviour::Well).await?);
        tokio::spawn(shop.clone().obey(end.clone()));
        if scenario != Scenario::Quiet {
            tokio::spawn(service::visit(shop.address, TRAFFIC, end.clone()));
        }
        let (webhook, notices) = receive_notices(end.clone()).await?;
        let path = folder.join("rollbackd.toml");
        fs::write(&path, configuration(folder, shop.address, webhook)).context("cannot write the demo's configuration")?;
        let config = config::load(&path, &Environment::default())
            .map_err(|diagnostics| anyhow::anyhow!("{}", config::render(&diagnostics, false)))?;
        let (sender, records) = mpsc::unbounded_channel();
        let ledger = Overheard { ledger: app::ledger(&config)?, sender };
        let (daemon, handle) = Daemon::open(Box::new(ledger), Timestamp::now(), "demo", app::setup(&config).await?)?;
        tokio::spawn(api::Listening::open(&config.daemon.socket).await?.serve(handle.clone(), end.clone()));
        tokio::spawn(daemon.run(end.clone(), || {}));
        let service = ServiceName::try_from("shop")?;
        Ok(Self { shop, handle, records, notices, service, _end: end.drop_guard() })
    }

    async fn play(mut self, scenario: Scenario, teller: &mut Teller) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let told = timeout_at(deadline, self.until_the_end(scenario, teller)).await;
        let Ok(ending) = told else { bail!("the story did not end within {} s", PATIENCE.as_secs()) };
        let ending = ending?;
        let answer = self.ask(Command::Explain { service: self.service.clone(), deployment: None }).await;
        Teller::end(scenario, ending, &self.shop.running(), answer.as_ref());
        let (expected, version) = expected(scenario);
        if ending != expected {
            bail!("the story should have ended with {expected:?}, but ended with {ending:?}");
        }
        if self.shop.running() != version {
            bail!("{version} should run now, but {} does", self.shop.running());
        }
        Ok(())
    }

    async fn until_the_end(&mut self, scenario: Scenario, teller: &mut Teller) -> anyhow::Result<Ending> {
        let mut look = tokio::time::interval(Duration::from_secs(1));
        let mut deployed = false;
        let deploy = sleep(PATIENCE);
        tokio::pin!(deploy);
        loop {
            tokio::select! {
                () = &mut deploy, if !deployed => {
                    deployed = true;
                    teller.deploys(scenario, NEW);
                    self.shop.deploy(NEW, behaviour(scenario))?;
                }
                Some(record) = self.records.recv() => {
                    teller.record(&record);
                    if matches!(record.entry, Entry::DeploymentSeen { .. }) && scenario == Scenario::Quiet && !deployed {
                        // Without visitors nothing proves the first version; a person vouches for it.
                        self.vouch().await;
                    }
                    if proved(&record, scenario) && !deployed {
                        deploy.as_mut().reset(Instant::now() + Duration::from_secs(1));
                    } else if let Some(ending) = ending(&record, scenario, deployed) {
                        self.last_notices(teller).await;
                        return Ok(ending);
                    }
                }
                Some(notice) = self.notices.recv() => teller.notice(&notice),
                _ = look.tick() => {
                    if let Some(Answer::Status(status)) = self.ask(Command::Status { service: Some(self.service.clone()) }).await {
                        teller.look(&status);
                    }
                }
            }
        }
    }

    async fn vouch(&self) {
        let command = Command::Mark {
            service: self.service.clone(),
            version: GOOD.to_owned(),
            mark: rollbackd_core::entry::Mark::Good,
            reason: "it has run here for a year".to_owned(),
        };
        self.ask(command).await;
    }

    /// The notice of the last turn is on its way.
    async fn last_notices(&mut self, teller: &mut Teller) {
        while let Ok(Some(notice)) = tokio::time::timeout(Duration::from_millis(500), self.notices.recv()).await {
            teller.notice(&notice);
        }
    }

    async fn ask(&self, command: Command) -> Option<Answer> {
        self.handle.ask(command, Actor::Operator("demo".to_owned())).await
    }
}

/// How a story ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Rolled back, recovered, and well since.
    AllClear,
    /// Left alone and known good.
    Promoted,
    /// Neither good nor bad, left alone.
    Extended,
    /// Rolled back, but that was not it.
    DidNotHelp,
    /// Anything else that ends a story.
    Other,
}

/// How a scenario must end, and what must run then.
const fn expected(scenario: Scenario) -> (Ending, &'static str) {
    match scenario {
        Scenario::Outage | Scenario::Errors => (Ending::AllClear, GOOD),
        Scenario::Healthy => (Ending::Promoted, NEW),
        Scenario::Quiet => (Ending::Extended, NEW),
        Scenario::NotToBlame => (Ending::DidNotHelp, GOOD),
    }
}

const fn behaviour(scenario: Scenario) -> Behaviour {
    match scenario {
        Scenario::Outage => Behaviour::Down,
        Scenario::Errors | Scenario::Quiet => Behaviour::FailsUnderLoad,
        Scenario::Healthy => Behaviour::Well,
        Scenario::NotToBlame => Behaviour::DependencyDies,
    }
}

/// Whether the first version may be followed by the next one: it passed its window, or somebody vouched for it.
fn proved(record: &Record, scenario: Scenario) -> bool {
    match &record.entry {
        Entry::WindowPassed { .. } => true,
        Entry::WindowExtended { .. } => scenario == Scenario::Quiet,
        _ => false,
    }
}

fn ending(record: &Record, scenario: Scenario, deployed: bool) -> Option<Ending> {
    if !deployed {
        return None;
    }
    match &record.entry {
        Entry::AllClear { .. } => Some(Ending::AllClear),
        Entry::WindowPassed { .. } => Some(Ending::Promoted),
        Entry::WindowExtended { .. } => Some(Ending::Extended),
        Entry::RollbackEnded { outcome: Outcome::DidNotHelp { .. }, .. } => Some(Ending::DidNotHelp),
        Entry::RollbackEnded { outcome: Outcome::Recovered, .. } if scenario != Scenario::NotToBlame => None,
        Entry::RollbackEnded { .. } | Entry::RollbackRefused { .. } | Entry::WindowFailed { .. } => Some(Ending::Other),
        _ => None,
    }
}

/// A ledger whose records are overheard.
struct Overheard {
    ledger: Box<dyn Ledger>,
    sender: mpsc::UnboundedSender<Record>,
}

impl Ledger for Overheard {
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), LedgerError> {
        self.ledger.replay(each)
    }

    fn append(&mut self, at: Timestamp, entries: Vec<Entry>) -> Result<Vec<Record>, LedgerError> {
        let records = self.ledger.append(at, entries)?;
        for record in &records {
            // Nobody listens any more once the story is over.
            let _ = self.sender.send(record.clone());
        }
        Ok(records)
    }
}

async fn receive_notices(end: CancellationToken) -> anyhow::Result<(SocketAddr, mpsc::Receiver<Value>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on loopback")?;
    let address = listener.local_addr()?;
    let (sender, notices) = mpsc::channel(64);
    let take = move |axum::Json(notice): axum::Json<Value>| async move {
        let _ = sender.send(notice).await;
    };
    let router = axum::Router::new().route("/", axum::routing::post(take));
    let serve = axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned());
    tokio::spawn(serve.into_future());
    Ok((address, notices))
}

/// The whole configuration: what a person would write, only with durations of seconds.
fn configuration(folder: &Path, shop: SocketAddr, webhook: SocketAddr) -> String {
    let folder = folder.display();
    let mut text = String::new();
    let _ = write!(
        text,
        r#"# Seconds instead of minutes, so that the story is short. Everything else is as it would be for you.
[daemon]
state_directory = "{folder}/state"
socket = "{folder}/rollbackd.sock"

[notify.chat.webhook]
url = "http://{webhook}/"

[matrix.error_ratio]
within = "8s"
[matrix.performance]
within = "8s"

[decision]
grace = "1s"
hold_p0 = "2s"
hold_p1 = "2s"
hold_p2 = "2s"

[services.shop]
environment = "demo"
window = "10s"
verification = {{ timeout = "8s", rollout_timeout = "10s", watch = "3s" }}

[services.shop.platform.command]
current = ["cat", "{folder}/running"]
deploy = ["sh", "-c", "printf %s \"$ROLLBACKD_TO\" > '{folder}/wanted.new' && mv '{folder}/wanted.new' '{folder}/wanted'"]
status = ["sh", "-c", "test \"$(cat '{folder}/running')\" = \"$ROLLBACKD_VERSION\" || exit 75"]
every = "1s"

[services.shop.probes.health]
http = "http://{shop}/healthz"
every = "200ms"

[services.shop.errors]
metrics = "http://{shop}/metrics"
every = "500ms"
total = "http_requests_total"
failed = 'http_requests_total{{code=~"5.."}}'
"#
    );
    text
}
