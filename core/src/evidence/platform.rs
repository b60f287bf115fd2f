//! What the platform says of the workload, and the hard rules on it: trouble that needs no statistics, because it is there or it is not.

use jiff::{SignedDuration, Timestamp};

use crate::observation::{Missing, Replicas, Rollout, Trouble, Workload};
use crate::service::Decision;
use crate::verdict::Failure;

/// Fewer restarts than this are an unlucky start.
const CRASH_LOOP_RESTARTS: u32 = 3;

/// The newest look at the workload, and how the last one with an available replica went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Platform {
    newest: Option<(Workload, Timestamp)>,
    missing: Option<(Missing, Timestamp)>,
    available_until: Option<Timestamp>,
    complete_since: Option<Timestamp>,
    other_version_until: Option<Timestamp>,
}

impl Platform {
    /// Takes in a look, and gives the time since the look before if nothing was out of sight in between.
    pub(crate) fn see(&mut self, workload: &Workload, at: Timestamp) -> SignedDuration {
        let in_sight = self.missing.take().is_none();
        let before = self.newest.as_ref();
        let elapsed = before.filter(|_| in_sight).map_or(SignedDuration::ZERO, |(_, before)| at.duration_since(*before));
        let was_available = in_sight && before.is_some_and(|(before, _)| before.replicas.available > 0);
        if was_available || workload.replicas.available > 0 {
            self.available_until = Some(at);
        }
        if let Some((_, looked)) = self.newest.as_ref().filter(|(before, _)| before.version.id != workload.version.id) {
            let latest = at.checked_sub(workload.unseen_for).unwrap_or(Timestamp::MIN);
            self.other_version_until = Some(if in_sight { latest.max(*looked) } else { *looked });
        }
        let was_complete = self.complete_since.filter(|_| in_sight && before.is_some_and(|(before, _)| before.version == workload.version));
        self.complete_since = (workload.rollout == Rollout::Complete).then(|| was_complete.unwrap_or(at));
        self.newest = Some((workload.clone(), at));
        elapsed.max(SignedDuration::ZERO)
    }

    /// The workload is out of sight.
    pub(crate) fn lose(&mut self, missing: Missing, at: Timestamp) {
        let since = self.missing.take().map_or(at, |(_, since)| since);
        self.missing = Some((missing, since));
    }

    /// The newest look.
    pub(crate) fn newest(&self) -> Option<(&Workload, Timestamp)> {
        self.newest.as_ref().map(|(workload, at)| (workload, *at))
    }

    /// Until when something else than the newest version was certainly deployed.
    pub(crate) fn other_version_until(&self) -> Option<Timestamp> {
        self.other_version_until
    }

    /// Why the workload is out of sight, and since when.
    pub(crate) fn missing(&self) -> Option<&(Missing, Timestamp)> {
        self.missing.as_ref()
    }

    /// Whether the rollout is complete, as far as can be seen now.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.is_none() && self.newest().is_some_and(|(workload, _)| workload.rollout == Rollout::Complete)
    }

    /// Whether the rollout has been complete for so long, as far as can be seen. A container that ends again and again is ready for a moment
    /// after each start.
    pub(crate) fn is_steady(&self, decision: &Decision, now: Timestamp) -> bool {
        self.is_complete() && self.complete_since.is_some_and(|since| now.duration_since(since) >= steady(decision))
    }

    /// Since when nothing but the newest version runs.
    pub(crate) fn complete_since(&self) -> Option<Timestamp> {
        self.complete_since
    }

    fn was_available_since(&self, since: Timestamp) -> bool {
        self.available_until.is_some_and(|until| until >= since)
    }
}

/// Between two looks a state is taken to go on for so long.
const UNSEEN: SignedDuration = SignedDuration::from_secs(15);

/// What is ready for less than this is not ready: a container that ends again and again flickers.
const FLICKER: SignedDuration = SignedDuration::from_secs(10);

/// How long something must last to be believed.
fn steady(decision: &Decision) -> SignedDuration {
    FLICKER.min(decision.startup_deadline)
}

/// Something that is so, since when, and for how long of that it was in sight.
#[derive(Clone, Copy, Debug)]
struct Lasting {
    since: Timestamp,
    seen: SignedDuration,
    /// Since when it is not so; its clock stands.
    paused: Option<Timestamp>,
}

/// The hard rules on one deployment. Each is a clock that runs while something is so and in sight.
#[derive(Clone, Debug)]
pub(crate) struct HardRules {
    start: Timestamp,
    /// How long the version may take to become ready where nothing serves meanwhile: a recreated Deployment, say.
    patience: SignedDuration,
    flicker: SignedDuration,
    ever_ready: bool,
    was_available: bool,
    crash_loop: Option<Lasting>,
    cannot_start: Option<Lasting>,
    given_up: Option<Lasting>,
    unready: Option<Lasting>,
    no_replica: Option<Lasting>,
}

/// A hard rule that fires: why, and since when.
pub(crate) type Broken = (Failure, Timestamp);

impl HardRules {
    /// The rules on a deployment that started at `start`. The time since then counts as unready, except for a startup deadline: who begins
    /// to look late must have seen it unready for that long.
    pub(crate) fn new(decision: &Decision, platform: &Platform, start: Timestamp, patience: SignedDuration, now: Timestamp) -> Self {
        let most = decision.ready_deadline.saturating_sub(decision.startup_deadline).max(SignedDuration::ZERO);
        let looked = platform.newest().map_or(now, |(_, at)| at);
        let seen = looked.duration_since(start).clamp(SignedDuration::ZERO, most);
        let shortly_before = start.checked_sub(decision.startup_deadline).unwrap_or(Timestamp::MIN);
        let mut rules = Self {
            start,
            patience,
            flicker: steady(decision),
            ever_ready: false,
            was_available: platform.was_available_since(shortly_before),
            crash_loop: None,
            cannot_start: None,
            given_up: None,
            unready: Some(Lasting { since: start, seen, paused: None }),
            no_replica: None,
        };
        if let Some((workload, at)) = platform.newest().filter(|(_, at)| *at >= start && platform.missing.is_none()) {
            rules.see(workload, at, SignedDuration::ZERO);
        }
        rules
    }

    /// Takes in a look; `elapsed` is the time since the one before, as far as it was in sight.
    pub(crate) fn see(&mut self, workload: &Workload, at: Timestamp, elapsed: SignedDuration) {
        let Replicas { desired, ready, available, updated } = workload.replicas;
        let elapsed = elapsed.min(at.duration_since(self.start));
        let wanted = desired > 0;
        self.ever_ready |= ready > 0;
        self.was_available |= available > 0;
        let idle = updated == 0 && available > 0 && workload.troubles.is_empty();
        let is = |this: bool| wanted && this;
        pause(&mut self.crash_loop, is(ready == 0 && crash_loop(workload).is_some()), at, elapsed, self.flicker);
        run(&mut self.cannot_start, is(ready == 0 && cannot_start(workload).is_some()), at, elapsed);
        // A version most of whose replicas run is not what a full cluster or a slow node keeps from being rolled out.
        let mostly_unready = ready.saturating_mul(2) < desired;
        run(&mut self.given_up, is(mostly_unready && matches!(workload.rollout, Rollout::Failed(_))), at, elapsed);
        run(&mut self.unready, is(!self.ever_ready && !idle), at, elapsed);
        run(&mut self.no_replica, is(available == 0), at, elapsed);
    }

    /// Whether no replica of the version was ready yet, and it is not too late for one: whatever answers is another version. Where nothing
    /// serves meanwhile (a Deployment that is recreated, a single replica that must go first) it has its patience; else the ready deadline.
    pub(crate) fn may_still_start(&self, decision: &Decision, platform: &Platform, now: Timestamp) -> bool {
        let Some((workload, _)) = platform.newest().filter(|(_, at)| *at >= self.start) else { return false };
        let time = if workload.replicas.available > 0 { decision.ready_deadline } else { self.patience };
        workload.ready_is_checked && workload.replicas.desired > 0 && !self.ever_ready && now.duration_since(self.start) < time
    }

    /// The first rule that fires now.
    pub(crate) fn broken(&self, decision: &Decision, platform: &Platform, now: Timestamp) -> Option<Broken> {
        let (workload, at) = platform.newest().filter(|(_, at)| *at >= self.start && platform.missing.is_none())?;
        // What was so at the newest look goes on until the next one; but nobody has seen that, so it counts for little.
        let running = now.duration_since(at).clamp(SignedDuration::ZERO, UNSEEN);
        let lasts = |rule: &Option<Lasting>, deadline: SignedDuration| {
            let seen = |lasting: &Lasting| lasting.seen.saturating_add(running);
            rule.filter(|lasting| seen(lasting) >= deadline).map(|lasting| (lasting.since, seen(&lasting)))
        };
        let startup = decision.startup_deadline;
        let crash_loop = || Some((Failure::CrashLoop(crash_loop(workload)?.clone()), lasts(&self.crash_loop, startup)?.0));
        let cannot_start = || Some((Failure::CannotStart(cannot_start(workload)?.clone()), lasts(&self.cannot_start, startup)?.0));
        let given_up = || match &workload.rollout {
            Rollout::Failed(words) => Some((Failure::ProgressDeadline(words.clone()), self.given_up?.since)),
            Rollout::Progressing | Rollout::Complete => None,
        };
        let never_ready = || {
            let (since, after) = lasts(&self.unready, decision.ready_deadline)?;
            Some((Failure::NeverReady { after }, since))
        };
        let no_replica = || {
            let deadline = if self.ever_ready || !workload.ready_is_checked { startup } else { startup.max(self.patience) };
            let (since, lasted) = lasts(&self.no_replica, deadline).filter(|_| self.was_available)?;
            Some((Failure::NoReplica { since: lasted }, since))
        };
        crash_loop().or_else(cannot_start).or_else(given_up).or_else(never_ready).or_else(no_replica)
    }
}

/// As `run`, but the clock only stands still while it is not so for less than `flicker`.
fn pause(rule: &mut Option<Lasting>, is_so: bool, at: Timestamp, elapsed: SignedDuration, flicker: SignedDuration) {
    let Some(lasting) = rule else { return run(rule, is_so, at, elapsed) };
    match (lasting.paused, is_so) {
        (Some(paused), _) if at.duration_since(paused) >= flicker => {
            *rule = None;
            run(rule, is_so, at, elapsed);
        }
        (Some(_), true) => lasting.paused = None,
        (Some(_), false) => {}
        (None, true) => lasting.seen = lasting.seen.saturating_add(elapsed),
        (None, false) => lasting.paused = Some(at),
    }
}

fn run(rule: &mut Option<Lasting>, is_so: bool, at: Timestamp, elapsed: SignedDuration) {
    *rule = match *rule {
        _ if !is_so => None,
        None => Some(Lasting { since: at, seen: SignedDuration::ZERO, paused: None }),
        Some(lasting) => Some(Lasting { seen: lasting.seen.saturating_add(elapsed), ..lasting }),
    };
}

/// A crash loop of at least half of the version's replicas.
fn crash_loop(workload: &Workload) -> Option<&Trouble> {
    workload.troubles.iter().find(|trouble| match trouble {
        Trouble::CrashLoop { replicas, restarts, .. } => {
            *restarts >= CRASH_LOOP_RESTARTS && replicas.saturating_mul(2) >= workload.replicas.updated.max(1)
        }
        Trouble::ImagePull { .. } | Trouble::NotAdmitted { .. } | Trouble::Unschedulable { .. } => false,
    })
}

/// A trouble that keeps every replica of the version from starting. A full cluster is not the version's fault.
fn cannot_start(workload: &Workload) -> Option<&Trouble> {
    workload.troubles.iter().find(|trouble| match trouble {
        Trouble::ImagePull { .. } | Trouble::NotAdmitted { .. } => true,
        Trouble::CrashLoop { .. } | Trouble::Unschedulable { .. } => false,
    })
}
