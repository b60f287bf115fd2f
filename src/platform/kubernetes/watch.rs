//! Looking again and again. The cluster's watch is only a bell: it says *when* to look, and every report comes from a look of its own, by
//! a quorum read. So a watch that is stale, closed in silence or forbidden can delay a report and never falsify one.

use std::pin::pin;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _};
use jiff::SignedDuration;
use kube::Api;
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use rollbackd_core::observation::Rollout;
use tokio::time::Instant;

use super::super::Report;
use super::{Kubernetes, look, unstick};

/// A settled workload is looked at this often even if no bell rings.
const SETTLED: Duration = Duration::from_mins(1);
/// An unsettled one is looked at this often, because what is wrong with pods needn't show on the workload.
const UNSETTLED: Duration = Duration::from_secs(2);
/// The first and the longest pause after a failure, of looks as of bells. Doubled in between, without chance: a simulation must repeat.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The server ends each watch after so many seconds; then, at the latest, a connection that died in silence is noticed.
const WATCH_SECONDS: u32 = 60;
/// As many bells that rang during a look are taken for one.
const BELLS: usize = 100;

/// Reports for ever.
pub(super) fn watch(platform: Kubernetes) -> BoxStream<'static, Report> {
    let bells = bells(&platform).boxed();
    let watch = Watch { platform, bells, looked: Instant::now(), next: Instant::now(), pauses: Pauses::new() };
    futures::stream::unfold(watch, |mut watch| async {
        let report = watch.report().await;
        Some((report, watch))
    })
    .boxed()
}

/// Why to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bell {
    /// The watch failed, or began anew: something may have changed, nobody knows when.
    Unclear,
    /// The cluster tells of a change as it happens.
    Changed,
}

struct Watch {
    platform: Kubernetes,
    bells: BoxStream<'static, Bell>,
    /// When the last look was.
    looked: Instant,
    /// When to look if no bell rings.
    next: Instant,
    /// Pauses between looks that fail.
    pauses: Pauses,
}

impl Watch {
    async fn report(&mut self) -> Report {
        let due = tokio::time::sleep_until(self.next);
        let mut bell = tokio::select! {
            biased;
            () = pin!(due) => None,
            bell = self.bells.next() => bell,
        };
        for _ in 0..BELLS {
            let Some(next) = self.bells.next().now_or_never() else { break };
            bell = bell.max(next);
        }
        let mut report = look(&self.platform).await;
        let looked = std::mem::replace(&mut self.looked, Instant::now());
        if let Report::Seen(workload) = &mut report
            && bell != Some(Bell::Changed)
        {
            workload.unseen_for = SignedDuration::try_from(looked.elapsed()).unwrap_or(SignedDuration::MAX);
        }
        self.next = Instant::now() + self.pause_after(&report);
        report
    }

    fn pause_after(&mut self, report: &Report) -> Duration {
        if let Report::Missing(_) = report {
            return self.pauses.next().unwrap_or(PAUSES.1);
        }
        self.pauses.reset();
        match report {
            Report::Seen(workload) if is_unsettled(workload) => UNSETTLED,
            Report::Seen(_) | Report::Gone | Report::Missing(_) => SETTLED,
        }
    }
}

async fn look(platform: &Kubernetes) -> Report {
    let looked = look::look(&platform.reads()).await;
    if let Ok(Some(sight)) = &looked {
        unstick::unstick(&platform.writes(), sight).await;
    }
    Kubernetes::report(looked)
}

fn is_unsettled(workload: &rollbackd_core::observation::Workload) -> bool {
    workload.rollout != Rollout::Complete || workload.replicas.ready < workload.replicas.desired
}

/// One item for each moment at which a look is worth its while: changes, and errors of the watch itself (at the pace of its pauses).
fn bells(platform: &Kubernetes) -> impl Stream<Item = Bell> + Send + use<> {
    let settings = &platform.settings;
    let resource = settings.kind.resource();
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::namespaced_with(platform.read_client.clone(), &settings.namespace, &resource);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", settings.name)).timeout(WATCH_SECONDS);
    // `Init` is taken out before the pauses: it comes at every attempt, and would pass for a success that ends them.
    watcher(api, config)
        .filter(|event| std::future::ready(!matches!(event, Ok(watcher::Event::Init | watcher::Event::InitDone))))
        .backoff(Pauses::new())
        .map(|event| if matches!(event, Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_))) { Bell::Changed } else { Bell::Unclear })
}

/// Doubling pauses, in a narrow range.
struct Pauses(Duration);

impl Pauses {
    const fn new() -> Self {
        Self(PAUSES.0)
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSES.1);
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests;
