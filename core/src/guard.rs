//! Reasons not to act. A guard never makes a rollback happen; it names why one does not.

use std::collections::{BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::baseline::Baseline;
use crate::entry::{Actor, DeploymentId, Mark};
use crate::lifecycle::{Deployment, Rejection, ServiceState, State};
use crate::observation::{Binding, Workload};
use crate::plan::{Cause, Obstacle, Outcome, Phase, Plan, PlanId};
use crate::service::{Service, ServiceName, SignalName};
use crate::severity::Impact;
use crate::verdict::{Failure, FindingState};
use crate::version::{ChangeKind, Version};

/// A reason not to roll back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No version of this service has passed its window (or been marked good) yet.
    NoKnownGood,
    /// The version asked for was never seen at this service.
    UnknownVersion {
        /// What was asked for.
        asked: String,
    },
    /// The target is what runs already.
    TargetIsRunning {
        /// The target.
        target: Version,
    },
    /// The target was rolled back itself, or marked bad.
    TargetKnownBad {
        /// The target.
        target: Version,
    },
    /// Neither the platform nor the ledger has the target any more.
    TargetGone {
        /// The target.
        target: Version,
    },
    /// Another rollback of this service is under way.
    RollbackInProgress {
        /// Its plan.
        plan: PlanId,
    },
    /// This deployment was rolled back already, or its rollback failed.
    AlreadyRolledBack {
        /// The deployment.
        deployment: DeploymentId,
    },
    /// The platform refused the last attempt, and nothing that it said no to has changed since.
    Rejected {
        /// Its words.
        words: String,
    },
    /// What runs was brought by a rollback; a rollback is never rolled back by itself.
    IsRollback {
        /// What it rolled back.
        of: DeploymentId,
    },
    /// The deployment carries a change that code can't go back over.
    Migration {
        /// What it carries.
        change: ChangeKind,
    },
    /// Less than a day is known of how the service usually is, so that it may always break one of its features at this hour (DECISION 2.2).
    LittleHistory {
        /// What it is known from.
        signal: SignalName,
        /// For how long.
        known: SignedDuration,
    },
    /// A person said so.
    Held {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Enough automatic rollbacks for now.
    RateLimited {
        /// How many there were.
        count: u32,
        /// The limit.
        limit: u32,
        /// `24h of this service` or `1h of all services`, in words.
        of: String,
        /// When the next one is allowed.
        until: Timestamp,
    },
    /// Many services went bad together, so this deployment is probably not the cause.
    FleetBrake {
        /// Which.
        services: BTreeSet<ServiceName>,
    },
    /// The service is in dry run: it would have been rolled back.
    DryRun {
        /// To this.
        target: Version,
    },
    /// The workload can't be seen just now, so nothing can be bound to it.
    OutOfSight,
    /// The plan lost its ground too often: somebody else changes the workload again and again.
    Contested {
        /// How often.
        times: u32,
    },
}

impl Refusal {
    /// The guard's stable name, for people, logs and JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NoKnownGood => "no-known-good",
            Self::UnknownVersion { .. } => "unknown-version",
            Self::TargetIsRunning { .. } => "target-is-running",
            Self::TargetKnownBad { .. } => "target-known-bad",
            Self::TargetGone { .. } => "target-gone",
            Self::RollbackInProgress { .. } => "rollback-in-progress",
            Self::AlreadyRolledBack { .. } => "already-rolled-back",
            Self::Rejected { .. } => "refused-by-platform",
            Self::IsRollback { .. } => "is-a-rollback",
            Self::Migration { .. } => "migration",
            Self::LittleHistory { .. } => "little-history",
            Self::Held { .. } => "hold",
            Self::RateLimited { .. } => "rate-limit",
            Self::FleetBrake { .. } => "fleet-brake",
            Self::DryRun { .. } => "dry-run",
            Self::OutOfSight => "out-of-sight",
            Self::Contested { .. } => "contested",
        }
    }
}

/// Limits over all services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Automatic rollbacks allowed in an hour. Default 10.
    pub rollbacks_per_hour: u32,
    /// So many services going bad within `brake_within` trip the brake. Default 3.
    pub brake_services: u32,
    /// So many of a hundred services that are guarded trip it, too, but never fewer than three: what happens to one service must change
    /// nothing for another. Default 20; 0: only `brake_services` counts.
    pub brake_percent: u32,
    /// Default 5 min.
    pub brake_within: SignedDuration,
    /// How long a source may give nothing before operators are told. Default 2 min.
    pub blind_after: SignedDuration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rollbacks_per_hour: 10,
            brake_services: 3,
            brake_percent: 20,
            brake_within: SignedDuration::from_mins(5),
            blind_after: SignedDuration::from_mins(2),
        }
    }
}

impl Limits {
    /// Fewer are not many, in however small a fleet.
    const MANY: u64 = 3;

    /// Whether so many services that went bad together, of so many that are guarded, trip the brake (DECISION 2.6).
    #[must_use]
    pub fn brake(&self, alarmed: usize, guarded: usize) -> bool {
        let (alarmed, guarded) = (u64::try_from(alarmed).unwrap_or(u64::MAX), u64::try_from(guarded).unwrap_or(u64::MAX));
        let is_share = self.brake_percent > 0 && alarmed.saturating_mul(100) >= guarded.saturating_mul(self.brake_percent.into());
        alarmed >= self.brake_services.into() || (alarmed >= Self::MANY && is_share)
    }
}

/// After so many plans that lost their ground a deployment is left to people: somebody else is at work.
const CONTESTED_AFTER: u32 = 5;

/// A platform that said no is asked again after so long, then after twice as long, and so on.
const FIRST_REPRIEVE: SignedDuration = SignedDuration::from_mins(1);

/// Whoever changes a workload may have cleared what the platform said no to. After so many attempts only time counts.
const HOPEFUL_ATTEMPTS: u32 = 10;

/// How long a plan may wait for its effect to start; later only a fresh decision may act.
const PLAN_LIFE: SignedDuration = SignedDuration::from_mins(10);

/// What a rollback is asked for.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// The deployment to undo: the newest one.
    pub deployment: &'a Deployment,
    /// The version to go to; the last known good unless said.
    pub to: Option<&'a str>,
    /// Why.
    pub cause: Cause,
}

/// Plans a rollback, or says which guard stands in the way.
///
/// An operator may pass what protects against the daemon's own mistakes (hold, rate limit, brake, rolling back a rollback, migrations,
/// dry run), never what protects the service (no such version, a target that is gone, a rollback under way).
///
/// # Errors
/// With the first guard that stands in the way.
pub fn plan(
    state: &State,
    policy: &Service,
    limits: &Limits,
    workload: Option<&Workload>,
    wish: Wish<'_>,
    now: Timestamp,
) -> Result<Plan, Refusal> {
    let deployment = wish.deployment;
    let by_itself = matches!(wish.cause, Cause::Verdict(_));
    let Some(service) = state.service(&policy.name) else { return Err(Refusal::OutOfSight) };
    if by_itself {
        history_allows(service, deployment)?;
        baseline_allows(deployment, &wish.cause)?;
        platform_allows(deployment, workload, now)?;
        operators_allow(state, service, now)?;
        rates_allow(state, service, policy, limits, now)?;
    }
    if let Some(open) = service.open_rollback().filter(|open| !matches!(open.phase, Phase::Recovered { .. })) {
        return Err(Refusal::RollbackInProgress { plan: open.id });
    }
    let target = target(service, deployment, wish.to)?;
    let workload = workload.filter(|workload| workload.version.id == deployment.version.id).ok_or(Refusal::OutOfSight)?;
    let keeps_revisions = matches!(workload.binding, Binding::Object { .. });
    if !keeps_revisions && service.artifact(&target.version.id).is_none() {
        return Err(Refusal::TargetGone { target: target.version.clone() });
    }
    if by_itself && policy.dry_run {
        return Err(Refusal::DryRun { target: target.version.clone() });
    }
    Ok(Plan {
        service: policy.name.clone(),
        environment: policy.environment.clone(),
        deployment: deployment.id,
        from: deployment.version.clone(),
        to: target.version.clone(),
        to_deployment: target.id,
        binding: workload.binding.clone(),
        restore: policy.restore,
        cause: wish.cause,
        expires: now.saturating_add(PLAN_LIFE).unwrap_or(Timestamp::MAX),
    })
}

/// What already happened to this deployment.
fn history_allows(service: &ServiceState, deployment: &Deployment) -> Result<(), Refusal> {
    if let Some(of) = deployment.rollback_of().or_else(|| service.gone_back_from(deployment).map(|left| left.id)) {
        return Err(Refusal::IsRollback { of });
    }
    let ended = service.rollback.as_ref().filter(|rollback| rollback.plan.deployment == deployment.id && !rollback.is_open());
    match ended.and_then(|rollback| Some((&rollback.plan, &rollback.outcome.as_ref()?.1))) {
        None | Some((_, Outcome::Void(_))) => {}
        Some((plan, Outcome::Failed(Obstacle::Rejected(_)))) if plan.may_be_tried_again() => {}
        Some((plan, Outcome::Failed(Obstacle::TargetGone))) => return Err(Refusal::TargetGone { target: plan.to.clone() }),
        Some(_) => return Err(Refusal::AlreadyRolledBack { deployment: deployment.id }),
    }
    if deployment.voids >= CONTESTED_AFTER {
        return Err(Refusal::Contested { times: deployment.voids });
    }
    match deployment.change {
        ChangeKind::Code | ChangeKind::Configuration => Ok(()),
        change @ (ChangeKind::ReversibleMigration | ChangeKind::IrreversibleMigration | ChangeKind::FailedMigration) => {
            Err(Refusal::Migration { change })
        }
    }
}

/// What is known of the time before. An error ratio that only breaks a feature is acted on where a whole day was seen.
fn baseline_allows(deployment: &Deployment, cause: &Cause) -> Result<(), Refusal> {
    let Cause::Verdict(verdict) = cause else { return Ok(()) };
    let weighed = verdict.decisive().is_some_and(|finding| finding.state == FindingState::Failing(Failure::Evidence));
    match deployment.baselines.get(&verdict.signal) {
        Some(Baseline::Errors(errors)) if verdict.impact == Impact::FeatureBroken && weighed && !errors.knows_a_day => {
            let known = errors.span.to.duration_since(errors.span.from);
            Err(Refusal::LittleHistory { signal: verdict.signal.clone(), known })
        }
        _ => Ok(()),
    }
}

/// What the platform said. A refusal changed nothing, so that another attempt is safe: at once when somebody changed the workload (resumed
/// it, say), else after a while, since quotas and rights change without a trace on it.
fn platform_allows(deployment: &Deployment, workload: Option<&Workload>, now: Timestamp) -> Result<(), Refusal> {
    let Some(Rejection { at, times, binding, words, .. }) = &deployment.rejection else { return Ok(()) };
    let changed = *times < HOPEFUL_ATTEMPTS && workload.is_some_and(|workload| workload.binding != *binding);
    let reprieve = FIRST_REPRIEVE.saturating_mul(1_i32.checked_shl(times.saturating_sub(1)).unwrap_or(i32::MAX).max(1));
    if changed || now.duration_since(*at) >= reprieve { Ok(()) } else { Err(Refusal::Rejected { words: words.clone() }) }
}

/// What people said.
fn operators_allow(state: &State, service: &ServiceState, now: Timestamp) -> Result<(), Refusal> {
    let holds = [state.hold.as_ref(), service.hold.as_ref()];
    match holds.into_iter().flatten().find(|hold| hold.until.is_none_or(|until| now < until)) {
        Some(hold) => Err(Refusal::Held { by: hold.by.clone(), reason: hold.reason.clone() }),
        None => Ok(()),
    }
}

/// How much was done lately, and how much goes wrong at once.
fn rates_allow(state: &State, service: &ServiceState, policy: &Service, limits: &Limits, now: Timestamp) -> Result<(), Refusal> {
    if let Some(brake) = &state.brake {
        return Err(Refusal::FleetBrake { services: brake.services.clone() });
    }
    let day = SignedDuration::from_hours(24);
    let hour = SignedDuration::from_hours(1);
    rate_allows(&service.automatic, day, policy.rollbacks_per_day, "in 24 h of this service", now)?;
    rate_allows(&state.automatic, hour, limits.rollbacks_per_hour, "in an hour of all services", now)
}

fn rate_allows(planned: &VecDeque<(Timestamp, PlanId)>, span: SignedDuration, limit: u32, of: &str, now: Timestamp) -> Result<(), Refusal> {
    let recent: Vec<_> = planned.iter().filter(|(at, _)| now.duration_since(*at) < span).collect();
    let count = u32::try_from(recent.len()).unwrap_or(u32::MAX);
    if count < limit {
        return Ok(());
    }
    let in_the_way = recent.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    let freed = recent.get(in_the_way).map_or(now, |(at, _)| *at);
    let until = freed.saturating_add(span).unwrap_or(Timestamp::MAX);
    Err(Refusal::RateLimited { count, limit, of: of.to_owned(), until })
}

/// The deployment to go back to.
fn target<'a>(service: &'a ServiceState, running: &Deployment, asked: Option<&str>) -> Result<&'a Deployment, Refusal> {
    let target = match asked {
        None => service.known_good(&running.version.id).ok_or(Refusal::NoKnownGood)?,
        Some(asked) => named(service, asked).ok_or_else(|| Refusal::UnknownVersion { asked: asked.to_owned() })?,
    };
    let version = || target.version.clone();
    if target.version.id == running.version.id {
        return Err(Refusal::TargetIsRunning { target: version() });
    }
    if service.mark(&target.version.id) == Mark::Bad {
        return Err(Refusal::TargetKnownBad { target: version() });
    }
    Ok(target)
}

/// The newest deployment that a person means: by the version's name, its identity, or the number of a deployment (`#12`).
#[must_use]
pub fn named<'a>(service: &'a ServiceState, asked: &str) -> Option<&'a Deployment> {
    let number = asked.strip_prefix('#').and_then(|number| number.parse().ok()).map(DeploymentId);
    service.deployments.values().rev().find(|deployment| Some(deployment.id) == number || deployment.version.is_called(asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::{ErrorsBaseline, Span};
    use crate::decide::world::{Behaviour, World, minutes, name};
    use crate::severity::{Response, Severity};
    use crate::verdict::{Finding, Verdict};

    fn errors() -> SignalName {
        SignalName("errors".to_owned())
    }

    fn verdict(impact: Impact, at: Timestamp) -> Cause {
        let finding = Finding { signal: errors(), impact, state: FindingState::Failing(Failure::Evidence), numbers: None };
        Cause::Verdict(Verdict {
            impact,
            severity: Severity::P2,
            response: Response::RollBack,
            within: None,
            onset: at,
            signal: errors(),
            findings: vec![finding],
        })
    }

    /// What becomes of a verdict on errors of which so many hours are known.
    fn planned(impact: Impact, hours: i64) -> Result<(), Refusal> {
        let mut world = World::settled();
        world.deploy("v2", Behaviour::Well);
        world.pass(minutes(2));
        let mut deployment = world.current().clone();
        let span = Span {
            source: "prometheus main".to_owned(),
            every: SignedDuration::from_secs(15),
            from: world.now - SignedDuration::from_hours(hours),
            to: world.now,
        };
        let baseline = ErrorsBaseline { knows_a_day: hours >= 24, ..ErrorsBaseline::of(&[], span) };
        deployment.baselines.insert(errors(), Baseline::Errors(baseline));
        let workload = world.evidence[&name("checkout")].workload().map(|(workload, _)| workload);
        let wish = Wish { deployment: &deployment, to: None, cause: verdict(impact, world.now) };
        plan(&world.state, &world.policies[&name("checkout")], &world.limits, workload, wish, world.now).map(drop)
    }

    #[test]
    fn the_brake_is_tripped_by_so_many_services_or_by_a_share_of_them_that_is_many() {
        let limits = Limits { brake_services: 10, ..Limits::default() };
        for (alarmed, guarded, trips) in
            [(0, 0, false), (1, 1, false), (2, 2, false), (3, 3, true), (3, 15, true), (3, 16, false), (9, 46, false), (10, 500, true)]
        {
            assert_eq!(limits.brake(alarmed, guarded), trips, "{alarmed} of {guarded}");
        }
        assert!(!Limits { brake_percent: 0, ..limits }.brake(9, 9));
        assert!(Limits::default().brake(3, 500));
    }

    #[test]
    fn a_broken_feature_is_acted_on_only_where_a_day_was_seen() {
        let refusal = Refusal::LittleHistory { signal: errors(), known: SignedDuration::from_hours(3) };
        assert_eq!(planned(Impact::FeatureBroken, 3), Err(refusal.clone()));
        assert_eq!(planned(Impact::FeatureBroken, 24), Ok(()));
        assert_eq!(planned(Impact::ErrorRatio, 3), Ok(()));
        assert!(crate::words::refusal(&refusal).starts_with("only 3h of errors is known from before"));
    }
}
