//! What has to be in progress: a pure function of the state. Whoever carries tasks out compares this list with what is running, starts
//! what is missing and ends what is no longer on it; so a restart needs nothing of its own.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::entry::DeploymentId;
use crate::lifecycle::{Outgoing, Rollback, ServiceState, State};
use crate::notice::Notice;
use crate::plan::{Cause, Effect, Phase, PlanId};
use crate::service::{Service, ServiceName, SignalKind, SignalName};
use crate::severity::Severity;
use crate::words;

/// Something that has to be in progress.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Look at the workload, for ever.
    Watch {
        /// The service.
        service: ServiceName,
    },
    /// Look at a signal, for ever.
    Read {
        /// The service.
        service: ServiceName,
        /// The signal.
        signal: SignalName,
        /// How often.
        every: SignedDuration,
    },
    /// Fetch what a source knows of the time before a deployment.
    ReadHistory {
        /// The service.
        service: ServiceName,
        /// The deployment.
        deployment: DeploymentId,
        /// The signal.
        signal: SignalName,
        /// From then.
        from: Timestamp,
        /// Until then, when something else was still deployed.
        to: Timestamp,
        /// The time from one sample to the next.
        every: SignedDuration,
    },
    /// Carry out the effect of a plan, until its outcome is known.
    Apply {
        /// The plan.
        plan: PlanId,
        /// The effect.
        effect: Box<Effect>,
        /// No attempt may begin after that.
        expires: Timestamp,
    },
    /// Deliver a notice, until it arrived or is refused for good.
    Deliver {
        /// The number of the entry that it tells of.
        seq: u64,
        /// What it says.
        notice: Box<Notice>,
        /// Where to.
        destination: String,
    },
}

/// Fastest cadence: more often than ten times a second nothing is learned.
const FASTEST: SignedDuration = SignedDuration::from_millis(100);

/// While something is suspect, signals are read at least this often (DECISION 2.5): what is weighed stays the same, it only comes sooner.
const SUSPECT_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// What has to be in progress for one service, of which something may be suspect ([`crate::evidence::Evidence::is_suspect`]).
#[must_use]
pub fn of_service(state: &State, policy: &Service, suspect: bool) -> Vec<Task> {
    let nothing_known = ServiceState::default();
    let service = state.service(&policy.name).unwrap_or(&nothing_known);
    let mut tasks = vec![Task::Watch { service: policy.name.clone() }];
    tasks.extend(reads(service, policy, suspect));
    tasks.extend(histories(service, policy));
    tasks.extend(apply(state, service, policy));
    tasks
}

/// Signals are read in the window and while a rollback is open; those without a history of their own always, because what the daemon
/// itself remembers is their only baseline. While a rollback waits for its proof, probes are read five times as often.
fn reads(service: &ServiceState, policy: &Service, suspect: bool) -> Vec<Task> {
    let open = service.open_rollback();
    let attentive = open.is_some() || service.current().is_some_and(|current| current.status.in_window());
    let verifying = open.is_some_and(|rollback| matches!(rollback.phase, Phase::Verifying { .. }));
    let wanted = policy.signals.iter().filter(|(_, signal)| attentive || !signal.has_history);
    wanted
        .map(|(name, signal)| {
            let hasty = verifying && signal.kind == SignalKind::Probe;
            let every = if hasty { (signal.every / 5).max(FASTEST) } else { signal.every };
            let every = if suspect { every.min(SUSPECT_EVERY) } else { every };
            Task::Read { service: policy.name.clone(), signal: name.clone(), every }
        })
        .collect()
}

fn histories(service: &ServiceState, policy: &Service) -> Vec<Task> {
    let Some(current) = service.current().filter(|current| current.status.in_window()) else { return Vec::new() };
    let from = current.not_before.saturating_sub(policy.decision.history).unwrap_or(Timestamp::MIN);
    let lacking = policy.signals.iter().filter(|(name, signal)| signal.has_history && !current.baselines.contains_key(*name));
    let inherits = current.rollback_of().is_some();
    lacking
        .filter(|_| !inherits)
        .map(|(name, signal)| Task::ReadHistory {
            service: policy.name.clone(),
            deployment: current.id,
            signal: name.clone(),
            from,
            to: current.not_before,
            every: signal.every,
        })
        .collect()
}

/// The effect of a plan may start while the plan is only recorded, and while nobody paused it meanwhile.
fn apply(state: &State, service: &ServiceState, policy: &Service) -> Option<Task> {
    let rollback = service.open_rollback().filter(|rollback| rollback.phase == Phase::Planned)?;
    let automatic = matches!(rollback.plan.cause, Cause::Verdict(_));
    let held = state.hold.is_some() || service.hold.is_some() || state.brake.is_some();
    if automatic && (held || policy.dry_run) {
        return None;
    }
    let effect = Box::new(effect(state, service, rollback));
    Some(Task::Apply { plan: rollback.id, effect, expires: rollback.plan.expires })
}

fn effect(state: &State, service: &ServiceState, rollback: &Rollback) -> Effect {
    let plan = &rollback.plan;
    let mut known_bad = service.known_bad();
    known_bad.retain(|version| *version != plan.from.id);
    known_bad.push(plan.from.id.clone());
    let reason = match &plan.cause {
        Cause::Verdict(verdict) => {
            let by = words::declared_by(verdict).map_or_else(|| format!("seen by {}", verdict.signal), |by| format!("declared by {by}"));
            format!("{} {} {by}", verdict.severity, verdict.impact)
        }
        Cause::Operator { by, reason } => format!("asked for by {by}: {reason}"),
    };
    Effect {
        plan: state.global(rollback.id.0),
        service: plan.service.clone(),
        environment: plan.environment.clone(),
        from: plan.from.clone(),
        to: plan.to.clone(),
        artifact: service.artifact(&plan.to.id).cloned(),
        binding: plan.binding.clone(),
        restore: plan.restore,
        known_bad,
        reason,
    }
}

/// Which notices go to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Only those of these severities, and those that have none. Empty: all.
    pub severities: BTreeSet<Severity>,
}

/// So long a notice waits for an older one of its incident. After that the older one may be what a destination can't take.
const IN_ORDER_FOR: SignedDuration = SignedDuration::from_mins(2);

/// The notices that are still to be delivered: the oldest ones of each destination first, at most `at_once` for each. Those of one incident
/// go one after the other, as far as that keeps nobody waiting.
#[must_use]
pub fn deliveries(state: &State, routes: &BTreeMap<String, Route>, at_once: usize, now: Timestamp) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (destination, route) in routes {
        let mut waited_for = BTreeSet::new();
        let next = due(state, destination, route).filter(|(_, outgoing)| {
            let Notice { incident, at, .. } = &outgoing.notice;
            let waits = waited_for.contains(incident);
            if now.duration_since(*at) < IN_ORDER_FOR {
                waited_for.insert(incident.clone());
            }
            !waits
        });
        tasks.extend(next.take(at_once).map(|(seq, outgoing)| Task::Deliver {
            seq: *seq,
            notice: Box::new(outgoing.notice.clone()),
            destination: destination.clone(),
        }));
    }
    tasks
}

/// How many notices are still to be delivered, over all destinations.
#[must_use]
pub fn waiting(state: &State, routes: &BTreeMap<String, Route>) -> usize {
    routes.iter().map(|(destination, route)| due(state, destination, route).count()).sum()
}

fn due<'a>(state: &'a State, destination: &'a str, route: &'a Route) -> impl Iterator<Item = (&'a u64, &'a Outgoing)> {
    let known_since = state.destinations.get(destination).copied().unwrap_or(u64::MAX);
    state.outbox.range(known_since..).filter(move |(_, outgoing)| {
        let severity = outgoing.notice.severity;
        let wanted = route.severities.is_empty() || severity.is_none_or(|severity| route.severities.contains(&severity));
        wanted && !outgoing.settled.contains(destination)
    })
}
