//! What the demo deploys: a shop that answers on one address, whichever version runs, and people who visit it. A deployment is a file that
//! says what is wanted; whoever tends the shop starts that version.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// How the next version behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// All is well.
    Well,
    /// Two of three requests fail; the health check sees nothing of it.
    FailsUnderLoad,
    /// Nothing works.
    Down,
    /// It is fine itself, but what every version needs dies when it arrives.
    DependencyDies,
}

/// The shop.
#[derive(Debug)]
pub struct Shop {
    /// Where it answers.
    pub address: SocketAddr,
    folder: PathBuf,
    first: String,
    /// How the version that isn't the first one behaves.
    next: Mutex<Behaviour>,
    running: Mutex<String>,
    dependency_is_dead: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Shop {
    /// Opens with one version.
    pub async fn open(folder: &Path, version: &str, behaviour: Behaviour) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        drop(listener);
        let shop = Self {
            address,
            folder: folder.to_owned(),
            first: version.to_owned(),
            next: Mutex::new(behaviour),
            running: Mutex::new(String::new()),
            dependency_is_dead: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        shop.want(version)?;
        shop.now_runs(version)?;
        Ok(shop)
    }

    /// What runs.
    pub fn running(&self) -> String {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Somebody deploys.
    pub fn deploy(&self, version: &str, behaviour: Behaviour) -> anyhow::Result<()> {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
        self.dependency_is_dead.store(behaviour == Behaviour::DependencyDies, Ordering::Relaxed);
        self.want(version)
    }

    fn want(&self, version: &str) -> anyhow::Result<()> {
        let aside = self.folder.join("wanted.new");
        fs::write(&aside, version).and_then(|()| fs::rename(&aside, self.folder.join("wanted"))).context("cannot write what is wanted")
    }

    fn now_runs(&self, version: &str) -> anyhow::Result<()> {
        let aside = self.folder.join("running.new");
        fs::write(&aside, format!("{version}\n"))
            .and_then(|()| fs::rename(&aside, self.folder.join("running")))
            .context("cannot write what runs")?;
        version.clone_into(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Tends the shop: serves the version that runs, and changes it when another one is wanted.
    pub async fn obey(self: Arc<Self>, end: CancellationToken) {
        while !end.is_cancelled() {
            let close = end.child_token();
            let Ok(listener) = TcpListener::bind(self.address).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let router =
                Router::new().route("/", get(buy)).route("/healthz", get(health)).route("/metrics", get(metrics)).with_state(self.clone());
            let serve = axum::serve(listener, router).with_graceful_shutdown(close.clone().cancelled_owned());
            let serving = tokio::spawn(serve.into_future());
            let wanted = self.another_is_wanted(&end).await;
            close.cancel();
            serving.abort();
            let _ = serving.await;
            if let Some(wanted) = wanted {
                // A restart takes its moment.
                sleep(Duration::from_millis(100)).await;
                self.answered.store(0, Ordering::Relaxed);
                self.failed.store(0, Ordering::Relaxed);
                if self.now_runs(&wanted).is_err() {
                    return;
                }
            }
        }
    }

    async fn another_is_wanted(&self, end: &CancellationToken) -> Option<String> {
        loop {
            tokio::select! {
                () = end.cancelled() => return None,
                () = sleep(Duration::from_millis(50)) => {
                    let wanted = fs::read_to_string(self.folder.join("wanted")).ok()?;
                    if wanted.trim() != self.running() {
                        return Some(wanted.trim().to_owned());
                    }
                }
            }
        }
    }

    fn behaviour(&self) -> Behaviour {
        if self.running() == self.first { Behaviour::Well } else { *self.next.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

async fn buy(State(shop): State<Arc<Shop>>) -> StatusCode {
    let number = shop.answered.fetch_add(1, Ordering::Relaxed);
    let fails = match shop.behaviour() {
        Behaviour::Down => true,
        Behaviour::FailsUnderLoad => number % 3 != 0,
        Behaviour::Well | Behaviour::DependencyDies => shop.dependency_is_dead.load(Ordering::Relaxed) && number % 5 != 0,
    };
    if !fails {
        return StatusCode::OK;
    }
    shop.failed.fetch_add(1, Ordering::Relaxed);
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn health(State(shop): State<Arc<Shop>>) -> StatusCode {
    if shop.behaviour() == Behaviour::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

async fn metrics(State(shop): State<Arc<Shop>>) -> String {
    // Failures are counted after the request itself, so that they are never more.
    let failed = shop.failed.load(Ordering::Relaxed);
    let well = shop.answered.load(Ordering::Relaxed).saturating_sub(failed);
    format!(
        "# TYPE http_requests_total counter\nhttp_requests_total{{code=\"200\"}} {well}\nhttp_requests_total{{code=\"500\"}} {failed}\n"
    )
}

/// People who visit, so many in a second, for a minute at most.
pub async fn visit(address: SocketAddr, per_second: u32, end: CancellationToken) {
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build() else { return };
    let url = format!("http://{address}/");
    let mut pace = interval(Duration::from_secs(1) / per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for _ in 0..per_second * 60 {
        tokio::select! {
            () = end.cancelled() => return,
            _ = pace.tick() => {
                let visit = client.get(&url).send();
                tokio::spawn(async move { drop(visit.await) });
            }
        }
    }
}
