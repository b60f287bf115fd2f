//! Carries out tasks: compares what has to be in progress with what is, starts what is missing, and ends (by dropping) what is not wanted
//! any more. Every task turns into calls of one role and comes back as events. It decides nothing.
//!
//! An effect is not dropped in the middle, because what it changes may be half done then: neither by a new configuration nor by a pause.
//! Only who deploys something else (its plan has lost its ground), or ends the daemon, cuts it off.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use rollbackd_core::decide::EffectOutcome;
use rollbackd_core::entry::DeploymentId;
use rollbackd_core::notice::Notice;
use rollbackd_core::observation::Reading;
use rollbackd_core::past::Past;
use rollbackd_core::plan::{Effect, PlanId};
use rollbackd_core::service::{ServiceName, SignalName};
use rollbackd_core::task::Task;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::clock::Clock;
use crate::history::{self, Store, Wanted};
use crate::notify::{Notifier, NotifyError};
use crate::platform::{Applied, Platform, Report};
use crate::signal::Signal;

/// Everything that touches the world, by what it is for.
#[derive(Clone, Default)]
pub struct Adapters {
    /// One for each service.
    pub platforms: BTreeMap<ServiceName, Arc<dyn Platform>>,
    /// One for each signal of each service.
    pub signals: BTreeMap<(ServiceName, SignalName), Arc<dyn Signal>>,
    /// One for each destination.
    pub notifiers: BTreeMap<String, Arc<dyn Notifier>>,
    /// Where the past of signals is kept; in memory unless it is said where.
    pub store: Store,
}

impl fmt::Debug for Adapters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Adapters")
            .field("platforms", &self.platforms.keys())
            .field("signals", &self.signals.keys())
            .field("notifiers", &self.notifiers.keys())
            .field("store", &self.store)
            .finish()
    }
}

/// What comes back from tasks.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A look at a workload.
    Workload(ServiceName, Report),
    /// A look at a signal.
    Reading(ServiceName, SignalName, Reading),
    /// How often a signal has something new.
    Pace(ServiceName, SignalName, SignedDuration),
    /// What is known of the time before a deployment. It may be large, so that only a few of them are in memory: the next one
    /// has its turn when this one is dropped.
    History(ServiceName, DeploymentId, SignalName, Box<Past>, Turn),
    /// What became of an effect.
    Effect(ServiceName, PlanId, EffectOutcome),
    /// A notice arrived.
    Delivered(u64, String),
    /// A notice never will; why.
    Abandoned(u64, String, String),
}

/// Given back when the last copy is dropped.
pub type Turn = Arc<OwnedSemaphorePermit>;

/// Which list of tasks is meant: each service has one, and the notices have one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// The tasks of a service.
    Service(ServiceName),
    /// The notices.
    Notices,
}

/// So many looks at signals are under way at once; the others wait their turn. A thousand services that are slow together must not take all
/// file descriptors from the ledger and the cluster.
const LOOKS_AT_ONCE: usize = 256;

/// So many pasts are in memory at once: a week at 15-second steps is a quarter of a MiB.
const PASTS_AT_ONCE: usize = 8;

/// Carries out tasks.
#[derive(Debug)]
pub struct Executor {
    adapters: Adapters,
    looks: Arc<Semaphore>,
    pasts: Arc<Semaphore>,
    clock: Clock,
    seen: mpsc::Sender<Seen>,
    running: BTreeMap<List, Vec<Running>>,
}

struct Running {
    task: Task,
    handle: JoinHandle<()>,
    /// Of an effect: what its next attempt is made on.
    next: Option<Next>,
}

/// None: no attempt may begin.
type Next = watch::Sender<Option<Arc<dyn Platform>>>;

impl fmt::Debug for Running {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Running").field(&self.task).finish()
    }
}

impl Running {
    /// The effect of a plan is one task, even when what it would leave on the object is worded anew.
    fn is(&self, task: &Task) -> bool {
        match (&self.task, task) {
            (Task::Apply { plan: ours, .. }, Task::Apply { plan, .. }) => ours == plan,
            (ours, task) => ours == task,
        }
    }

    fn is_effect_of(&self, plan: Option<PlanId>) -> bool {
        matches!(&self.task, Task::Apply { plan: ours, .. } if Some(*ours) == plan)
    }

    fn allow(&self, platform: Option<&Arc<dyn Platform>>) {
        if let Some(next) = &self.next {
            next.send_replace(platform.cloned());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Executor {
    /// Nothing is in progress yet. What is seen goes to `seen`.
    #[must_use]
    pub fn new(adapters: Adapters, clock: Clock, seen: mpsc::Sender<Seen>) -> Self {
        let (looks, pasts) = (Arc::new(Semaphore::new(LOOKS_AT_ONCE)), Arc::new(Semaphore::new(PASTS_AT_ONCE)));
        Self { adapters, looks, pasts, clock, seen, running: BTreeMap::new() }
    }

    /// Sees to it that exactly `wanted` is in progress on a list. The effect of the plan that is `pending` is not cut off: where it is not
    /// wanted just now, the attempt under way comes to its end, and no other begins before it is wanted again.
    pub fn set(&mut self, list: List, wanted: Vec<Task>, pending: Option<PlanId>) {
        let mut kept = self.running.remove(&list).unwrap_or_default();
        kept.retain(|running| running.is_effect_of(pending) || wanted.iter().any(|task| running.is(task)));
        for running in &kept {
            let is_wanted = wanted.iter().any(|task| running.is(task));
            running.allow(self.platform_of(&running.task).filter(|_| is_wanted));
        }
        for task in wanted {
            if !kept.iter().any(|running| running.is(&task))
                && let Some(running) = self.start(task)
            {
                kept.push(running);
            }
        }
        if !kept.is_empty() {
            self.running.insert(list, kept);
        }
    }

    /// Ends everything but effects, and goes on with other adapters. An attempt under way comes to its end on the old one; the next is made
    /// on the new one, if there is any.
    pub fn replace(&mut self, adapters: Adapters) {
        self.adapters = adapters;
        for running in self.running.values_mut() {
            running.retain(|running| running.next.is_some());
        }
        for running in self.running.values().flatten() {
            running.allow(self.platform_of(&running.task));
        }
    }

    /// The platform of an effect.
    fn platform_of(&self, task: &Task) -> Option<&Arc<dyn Platform>> {
        match task {
            Task::Apply { effect, .. } => self.adapters.platforms.get(&effect.service),
            Task::Watch { .. } | Task::Read { .. } | Task::ReadHistory { .. } | Task::Deliver { .. } => None,
        }
    }

    fn start(&self, task: Task) -> Option<Running> {
        let seen = self.seen.clone();
        let clock = self.clock;
        let mut next = None;
        let handle = match task.clone() {
            Task::Watch { service } => tokio::spawn(watch(self.adapters.platforms.get(&service)?.clone(), service, seen)),
            Task::Read { service, signal, every } => {
                let adapter = self.adapters.signals.get(&(service.clone(), signal.clone()))?.clone();
                let looks = self.looks.clone();
                tokio::spawn(read(Looker { signal: adapter, looks, clock }, service, signal, every, seen))
            }
            Task::ReadHistory { service, deployment, signal, from, to, every } => {
                let adapter = self.adapters.signals.get(&(service.clone(), signal.clone()))?.clone();
                let (store, pasts) = (self.adapters.store.clone(), self.pasts.clone());
                tokio::spawn(async move {
                    let wanted = Wanted { name: format!("{service} {signal}"), from, to, every };
                    let gathered = history::gather(adapter.as_ref(), &store, &wanted, clock).await;
                    // Nobody closes it.
                    let Ok(turn) = pasts.acquire_owned().await else { return };
                    let past = Box::new(gathered.load(&store).await);
                    let _ = seen.send(Seen::History(service, deployment, signal, past, Arc::new(turn))).await;
                })
            }
            Task::Apply { plan, effect, expires } => {
                let (allow, allowed) = watch::channel(Some(self.adapters.platforms.get(&effect.service)?.clone()));
                next = Some(allow);
                tokio::spawn(async move {
                    if let Some(outcome) = apply(allowed, &effect, expires, clock).await {
                        let _ = seen.send(Seen::Effect(effect.service.clone(), plan, outcome)).await;
                    }
                })
            }
            Task::Deliver { seq, notice, destination } => {
                let notifier = self.adapters.notifiers.get(&destination)?.clone();
                tokio::spawn(async move {
                    let end = match deliver(notifier.as_ref(), &notice, &destination).await {
                        Ok(()) => Seen::Delivered(seq, destination),
                        Err(why) => Seen::Abandoned(seq, destination, why),
                    };
                    let _ = seen.send(end).await;
                })
            }
        };
        Some(Running { task, handle, next })
    }
}

async fn watch(platform: Arc<dyn Platform>, service: ServiceName, seen: mpsc::Sender<Seen>) {
    loop {
        let mut reports = platform.watch();
        while let Some(report) = reports.next().await {
            if seen.send(Seen::Workload(service.clone(), report)).await.is_err() {
                return;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Looks at once, and then at a steady pace that begins at a different moment for each signal, so that many services don't all look at the
/// same one.
async fn read(looker: Looker, service: ServiceName, name: SignalName, every: SignedDuration, seen: mpsc::Sender<Seen>) {
    let every = Duration::try_from(every).unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(50));
    let first = Instant::now() + spread(&service, &name, every);
    let mut pace = interval_at(first, every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        let reading = looker.look().await;
        let paced = looker.signal.pace();
        if paced != told {
            told = paced;
            if let Some(paced) = paced
                && seen.send(Seen::Pace(service.clone(), name.clone(), paced)).await.is_err()
            {
                return;
            }
        }
        if seen.send(Seen::Reading(service.clone(), name.clone(), reading)).await.is_err() {
            return;
        }
        pace.tick().await;
    }
}

/// Looks at one signal when it is its turn.
struct Looker {
    signal: Arc<dyn Signal>,
    looks: Arc<Semaphore>,
    clock: Clock,
}

impl Looker {
    async fn look(&self) -> Reading {
        // Nobody closes it; a look without a turn would be no harm either.
        let _turn = self.looks.acquire().await;
        self.signal.read(self.clock.now()).await
    }
}

/// A moment in the second half of the first interval, by the FNV-1a hash of the names.
fn spread(service: &ServiceName, signal: &SignalName, every: Duration) -> Duration {
    let bytes = service.as_str().bytes().chain(signal.0.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let share = u32::try_from(hash % 1000).unwrap_or(0);
    every / 2 + every / 2 * share / 1000
}

/// Tries until the outcome is known or the plan has expired: each attempt reads before it writes, so that a lost answer is found and never
/// repeated blindly. After the plan's end only the watch may still find its effect.
async fn apply(
    mut allowed: watch::Receiver<Option<Arc<dyn Platform>>>,
    effect: &Effect,
    expires: Timestamp,
    clock: Clock,
) -> Option<EffectOutcome> {
    let mut pause = Duration::from_millis(250);
    loop {
        let left = Duration::try_from(expires.duration_since(clock.now())).ok().filter(|left| !left.is_zero())?;
        let platform = timeout(left, allowed.wait_for(Option::is_some)).await.ok()?.ok()?.clone()?;
        match platform.apply(effect).await {
            Applied::Done(binding) => return Some(EffectOutcome::Done(binding)),
            Applied::Moved => return Some(EffectOutcome::Moved),
            Applied::Gone => return Some(EffectOutcome::Gone),
            Applied::Rejected(words) => return Some(EffectOutcome::Rejected(words)),
            Applied::Failed(words) => return Some(EffectOutcome::Failed(words)),
            Applied::TargetGone => return Some(EffectOutcome::TargetGone),
            Applied::Unknown(words) => {
                tracing::warn!(service = %effect.service, plan = %effect.plan, why = %words, "not known whether the rollback happened, looking again");
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

/// The pauses between attempts, and then half an hour again and again; the notice itself ends after three days (`State::NOTICE_LIFE`).
const PAUSES: [Duration; 6] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(5),
    Duration::from_mins(15),
];

async fn deliver(notifier: &dyn Notifier, notice: &Notice, destination: &str) -> Result<(), String> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let asked_for = match notifier.deliver(notice).await {
            Ok(()) => return Ok(()),
            Err(NotifyError::Never { why }) => {
                tracing::error!(notice = %notice.id, destination, %why, "notice refused for good");
                return Err(why);
            }
            Err(NotifyError::Later { why, after }) => {
                tracing::warn!(notice = %notice.id, destination, %why, "notice not delivered, will try again");
                after
            }
        };
        let pause = pauses.next().unwrap_or(Duration::from_mins(30));
        sleep(asked_for.map_or(pause, |asked_for| asked_for.max(pause))).await;
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures::stream::{self, BoxStream};
    use rollbackd_core::observation::{Binding, Missing};
    use rollbackd_core::service::Restore;
    use rollbackd_core::version::{Version, VersionId};

    use super::*;

    /// A platform on which each attempt takes ten seconds and then fails, until one may succeed.
    #[derive(Debug)]
    struct Slow {
        name: &'static str,
        told: mpsc::UnboundedSender<String>,
        outcome: Applied,
    }

    const ATTEMPT: Duration = Duration::from_secs(10);

    #[async_trait]
    impl Platform for Slow {
        fn watch(&self) -> BoxStream<'static, Report> {
            stream::pending().boxed()
        }

        async fn look(&self) -> Report {
            Report::Missing(Missing::NoHistory)
        }

        async fn apply(&self, _: &Effect) -> Applied {
            let _ = self.told.send(format!("{} begins", self.name));
            sleep(ATTEMPT).await;
            let _ = self.told.send(format!("{} ends", self.name));
            self.outcome.clone()
        }
    }

    struct World {
        executor: Executor,
        seen: mpsc::Receiver<Seen>,
        telling: mpsc::UnboundedSender<String>,
        told: mpsc::UnboundedReceiver<String>,
    }

    fn service() -> ServiceName {
        ServiceName::try_from("checkout").unwrap()
    }

    fn list() -> List {
        List::Service(service())
    }

    fn begin() -> Timestamp {
        "2026-11-21T03:00:00Z".parse().unwrap()
    }

    const PLAN: PlanId = PlanId(13);

    fn task(reason: &str) -> Task {
        let version = |name: &str| Version { id: VersionId(name.to_owned()), name: name.to_owned() };
        let effect = Effect {
            plan: "k3f9a2b1-13".to_owned(),
            service: service(),
            environment: "production".to_owned(),
            from: version("v2"),
            to: version("v1"),
            artifact: None,
            binding: Binding::Version("v2".to_owned()),
            restore: Restore::Template,
            known_bad: Vec::new(),
            reason: reason.to_owned(),
        };
        Task::Apply { plan: PLAN, effect: Box::new(effect), expires: begin() + SignedDuration::from_mins(10) }
    }

    impl World {
        /// An attempt on the platform `old` has just begun; its answer will be lost.
        async fn with_an_attempt_under_way() -> Self {
            let (sender, seen) = mpsc::channel(16);
            let (telling, told) = mpsc::unbounded_channel();
            let executor = Executor::new(Adapters::default(), Clock::begin(begin(), None), sender);
            let mut world = Self { executor, seen, telling, told };
            world.reload(Some(("old", Applied::Unknown("the answer was lost".to_owned()))));
            world.executor.set(list(), vec![task("first")], Some(PLAN));
            assert_eq!(world.told.recv().await.unwrap(), "old begins");
            sleep(Duration::from_secs(1)).await;
            world
        }

        fn reload(&mut self, platform: Option<(&'static str, Applied)>) {
            let platform = platform.map(|(name, outcome)| -> (ServiceName, Arc<dyn Platform>) {
                (service(), Arc::new(Slow { name, told: self.telling.clone(), outcome }))
            });
            self.executor.replace(Adapters { platforms: platform.into_iter().collect(), ..Adapters::default() });
        }

        /// What happens within the next time.
        async fn within(&mut self, time: Duration) -> Vec<String> {
            sleep(time).await;
            std::iter::from_fn(|| self.told.try_recv().ok()).collect()
        }

        fn outcome(&mut self) -> Option<EffectOutcome> {
            match self.seen.try_recv().ok()? {
                Seen::Effect(_, PLAN, outcome) => Some(outcome),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_configuration_does_not_cut_an_effect_off_and_its_next_attempt_is_made_by_it() {
        let mut world = World::with_an_attempt_under_way().await;
        world.reload(Some(("new", Applied::Rejected("no".to_owned()))));
        world.executor.set(list(), vec![task("first")], Some(PLAN));
        assert_eq!(world.within(Duration::from_mins(1)).await, ["old ends", "new begins", "new ends"]);
        assert_eq!(world.outcome(), Some(EffectOutcome::Rejected("no".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn an_effect_whose_service_is_not_configured_any_more_comes_to_its_end_and_is_not_begun_again() {
        let mut world = World::with_an_attempt_under_way().await;
        world.reload(None);
        assert_eq!(world.within(Duration::from_mins(20)).await, ["old ends"]);
        assert_eq!(world.outcome(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_effect_that_is_paused_comes_to_its_end_and_goes_on_once_it_is_resumed() {
        let mut world = World::with_an_attempt_under_way().await;
        world.executor.set(list(), Vec::new(), Some(PLAN));
        assert_eq!(world.within(Duration::from_mins(1)).await, ["old ends"]);
        world.executor.set(list(), vec![task("first")], Some(PLAN));
        assert_eq!(world.within(Duration::from_secs(1)).await, ["old begins"]);
        world.executor.set(list(), Vec::new(), Some(PLAN));
        assert_eq!(world.within(Duration::from_mins(20)).await, ["old ends"]);
        world.executor.set(list(), vec![task("first")], Some(PLAN));
        assert!(world.within(Duration::from_mins(20)).await.is_empty(), "the plan has expired");
    }

    #[tokio::test(start_paused = true)]
    async fn an_effect_that_is_worded_anew_is_still_the_same() {
        let mut world = World::with_an_attempt_under_way().await;
        world.executor.set(list(), vec![task("second")], Some(PLAN));
        assert_eq!(world.within(Duration::from_millis(9_100)).await, ["old ends"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_effect_whose_plan_has_lost_its_ground_is_cut_off() {
        let mut world = World::with_an_attempt_under_way().await;
        world.executor.set(list(), Vec::new(), None);
        assert!(world.within(Duration::from_mins(20)).await.is_empty());
    }
}
