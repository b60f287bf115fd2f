//! Everything that a configuration points to, tried once: platforms, sources, destinations. Many at a time, in an order that stays, and
//! within a time that all of them share. Changes nothing and sends nothing.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::traffic;
use crate::alerts;
use crate::config::Config;
use crate::daemon::Setup;
use crate::executor::Adapters;
use crate::platform::{Platform, Report};

/// So many are tried at once.
const AT_ONCE: usize = 16;

/// All of them are over by then. One takes 30 s at most, a program that hangs.
const LIMIT: Duration = Duration::from_mins(2);

/// What came of trying one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// What was tried: `services.checkout: kubernetes shop/deployment/checkout`.
    pub what: String,
    /// Whether it can be used.
    pub ok: bool,
    /// What is there, or what is wrong.
    pub found: String,
    /// What it can't be used for, as it is now.
    pub warnings: Vec<String>,
}

/// What is there, and what it can't be used for; or what is wrong.
type Outcome = Result<(String, Vec<String>), String>;

/// One thing that is still to be tried.
struct Attempt<'a> {
    what: String,
    outcome: BoxFuture<'a, Outcome>,
}

/// Tries everything, and tells `progress` how many are over, of how many. A service without a platform failed, because there is `no_cluster`.
pub async fn tried(config: &Config, setup: &Setup, no_cluster: Option<&str>, progress: impl FnMut(usize, usize)) -> Vec<Tried> {
    let listening = config.api.iter().map(|settings| Attempt {
        what: format!("api: alerts on {}", settings.listen),
        outcome: Box::pin(listens(settings, &config.daemon.socket)),
    });
    all(attempts(setup, no_cluster.unwrap_or("there is none")).into_iter().chain(listening).collect(), progress).await
}

/// Whether alerts can be listened for. A daemon that runs has the address already.
async fn listens(settings: &alerts::Settings, socket: &Path) -> Outcome {
    settings.token.read().map_err(|error| format!("no delivery is let in: {error}"))?;
    let taken = match alerts::Listening::open(settings).await {
        Ok(_) => return Ok(without_warnings("is free".to_owned())),
        Err(error) => error.source,
    };
    match taken.kind() {
        ErrorKind::AddrInUse if UnixStream::connect(socket).await.is_ok() => {
            Ok(without_warnings("is in use, and a daemon runs here: by that, if it has the same `[api]`".to_owned()))
        }
        ErrorKind::AddrInUse => Err("is in use by another program, and no daemon runs here".to_owned()),
        ErrorKind::AddrNotAvailable => Err("is no address of this machine".to_owned()),
        ErrorKind::PermissionDenied => Err("may not be listened on by this user: take a port from 1024 on".to_owned()),
        _ => Err(format!("cannot be listened on: {taken}")),
    }
}

/// Platforms first, then signals, then destinations; each by name.
fn attempts<'a>(setup: &'a Setup, no_cluster: &'a str) -> Vec<Attempt<'a>> {
    let Adapters { platforms, signals, notifiers, .. } = &setup.adapters;
    let platforms = setup.policies.iter().map(|(name, policy)| {
        let outcome = async move {
            match platforms.get(name) {
                Some(platform) => look(platform.as_ref()).await.map(without_warnings),
                None => Err(no_cluster.to_owned()),
            }
        };
        Attempt { what: format!("services.{name}: {}", policy.platform), outcome: Box::pin(outcome) }
    });
    let signals = signals.iter().map(|((service, name), signal)| {
        let policy = setup.policies.get(service);
        let source = policy.and_then(|policy| policy.signals.get(name)).map_or("", |policy| &policy.source);
        let outcome = async move {
            let now = Timestamp::now();
            let found = signal.check(now).await?;
            let traffic = match policy {
                Some(policy) => traffic::of(policy, name, signal.as_ref(), now).await,
                None => None,
            };
            Ok(traffic.map_or_else(|| (found.clone(), Vec::new()), |traffic| (format!("{found}; {}", traffic.words), traffic.warnings)))
        };
        Attempt { what: format!("services.{service}: {name} ({source})"), outcome: Box::pin(outcome) }
    });
    let notifiers = notifiers.iter().map(|(name, notifier)| {
        let outcome =
            async { notifier.check().await.map(|()| without_warnings("can be reached".to_owned())).map_err(|error| error.to_string()) };
        Attempt { what: format!("notify.{name}"), outcome: Box::pin(outcome) }
    });
    platforms.chain(signals).chain(notifiers).collect()
}

fn without_warnings(found: String) -> (String, Vec<String>) {
    (found, Vec::new())
}

async fn look(platform: &dyn Platform) -> Result<String, String> {
    match platform.look().await {
        Report::Seen(workload) => {
            Ok(format!("runs {}, {} of {} replicas ready", workload.version, workload.replicas.ready, workload.replicas.desired))
        }
        Report::Gone => Err("does not exist".to_owned()),
        Report::Missing(missing) => Err(missing.to_string()),
    }
}

async fn all(attempts: Vec<Attempt<'_>>, mut progress: impl FnMut(usize, usize)) -> Vec<Tried> {
    let (number, end) = (attempts.len(), Instant::now() + LIMIT);
    let attempts = attempts.into_iter().enumerate().map(|(index, attempt)| async move { (index, attempt.over(end).await) });
    let mut over = stream::iter(attempts).buffer_unordered(AT_ONCE);
    let mut tried = Vec::with_capacity(number);
    progress(0, number);
    while let Some(one) = over.next().await {
        tried.push(one);
        progress(tried.len(), number);
    }
    tried.sort_by_key(|(index, _)| *index);
    tried.into_iter().map(|(_, tried)| tried).collect()
}

impl Attempt<'_> {
    async fn over(self, end: Instant) -> Tried {
        let in_time = Instant::now() < end;
        let too_late = || format!("not {} within the {LIMIT:?} that all have", if in_time { "over" } else { "tried" });
        let outcome = timeout_at(end, self.outcome).await.unwrap_or_else(|_| Err(too_late()));
        let ok = outcome.is_ok();
        let (found, warnings) = outcome.unwrap_or_else(without_warnings);
        Tried { what: self.what, ok, found, warnings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    /// As many attempts as there are lengths of time; each takes its own.
    fn lasting<'a>(times: impl IntoIterator<Item = Duration>) -> Vec<Attempt<'a>> {
        let attempt = |(index, time)| Attempt {
            what: format!("number {index}"),
            outcome: Box::pin(async move {
                tokio::time::sleep(time).await;
                Ok(without_warnings(format!("after {time:?}")))
            }),
        };
        times.into_iter().enumerate().map(attempt).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_are_slow_take_as_long_as_one_and_stay_in_order() {
        let began = Instant::now();
        let tried = all(lasting((1..=16).rev().map(Duration::from_secs)), |_, _| {}).await;
        assert_eq!(began.elapsed(), Duration::from_secs(16));
        let expected: Vec<_> = (0..16).map(|index| (format!("number {index}"), format!("after {}s", 16 - index))).collect();
        assert_eq!(tried.into_iter().map(|tried| (tried.what, tried.found)).collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn an_address_for_alerts_is_free_or_taken_or_taken_by_the_daemon_itself() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("rollbackd.sock");
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let secret_file = directory.path().join("token");
        let settings =
            |listen: &str| alerts::Settings { listen: listen.parse().expect("an address"), token: Secret::File(secret_file.clone()) };
        let without_token = listens(&settings("127.0.0.1:0"), &socket).await;
        assert!(without_token.is_err_and(|wrong| wrong.starts_with("no delivery is let in: cannot read the secret")));
        std::fs::write(&secret_file, "correct-horse-battery-staple").expect("a file");
        let at_taken = settings(&taken.local_addr().expect("an address").to_string());
        assert_eq!(listens(&settings("127.0.0.1:0"), &socket).await, Ok(without_warnings("is free".to_owned())));
        assert_eq!(listens(&settings("192.0.2.1:9470"), &socket).await, Err("is no address of this machine".to_owned()));
        let refused = listens(&at_taken, &socket).await;
        assert_eq!(refused, Err("is in use by another program, and no daemon runs here".to_owned()));
        let _daemon = tokio::net::UnixListener::bind(&socket).expect("a socket");
        assert!(listens(&at_taken, &socket).await.is_ok_and(|(found, _)| found.contains("a daemon runs here")));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_sixteen_are_tried_at_once() {
        let began = Instant::now();
        all(lasting([Duration::from_secs(10); 17]), |_, _| {}).await;
        assert_eq!(began.elapsed(), Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_over_in_time_and_says_whether_it_was_begun() {
        let began = Instant::now();
        let mut seen = Vec::new();
        let tried = all(lasting([Duration::from_hours(1); 17]), |over, of| seen.push((over, of))).await;
        assert_eq!(began.elapsed(), LIMIT);
        assert!(tried.iter().all(|tried| !tried.ok));
        assert_eq!(tried[0].found, "not over within the 120s that all have");
        assert_eq!(tried[16].found, "not tried within the 120s that all have");
        assert_eq!((seen.first(), seen.last()), (Some(&(0, 17)), Some(&(17, 17))));
    }
}
