//! Laws of the fold, on any sequence of entries, absurd ones among them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::{collection, option, sample};

use super::{ServiceState, State};
use crate::alert::{self, Alert, Rule, Rules};
use crate::baseline::{Baseline, ProbeBaseline};
use crate::decide::{decide, decide_fleet, world};
use crate::declaration::{self, Declaration, Firing, Question};
use crate::entry::{Actor, Arrival, DeploymentId, Entry, Mark, MarkReason, Record, Scope};
use crate::evidence::{Evidence, Lack};
use crate::guard::{Limits, Refusal};
use crate::observation::{Binding, Missing, Trouble};
use crate::plan::{Cause, Obstacle, Outcome, Phase, Plan, PlanId, Void};
use crate::promise::{Overdue, Unkept};
use crate::service::{Restore, ServiceName, SignalName};
use crate::severity::{Choice, Impact, Response, Severity};
use crate::task::{self, Task};
use crate::verdict::{Failure, Finding, FindingState, Gate, Inconclusive, Measure, Numbers, Verdict};
use crate::version::{Artifact, ChangeKind, Version, VersionId};
use crate::warning::Warning;

fn service() -> BoxedStrategy<ServiceName> {
    sample::select(vec!["cart", "checkout", "search"]).prop_map(world::name).boxed()
}

fn deployment() -> BoxedStrategy<DeploymentId> {
    prop_oneof![(0..40_u64), any::<u64>()].prop_map(DeploymentId).boxed()
}

fn plan_id() -> BoxedStrategy<PlanId> {
    prop_oneof![(0..40_u64), any::<u64>()].prop_map(PlanId).boxed()
}

fn words() -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), Just("x\r\nBcc: all@example.org".to_owned()), "\\PC{0,300}"].boxed()
}

fn version() -> BoxedStrategy<Version> {
    (0..8_u8, words()).prop_map(|(id, name)| Version { id: VersionId(format!("v{id}")), name }).boxed()
}

fn time() -> BoxedStrategy<Timestamp> {
    let usual = (0..200_000_i64).prop_map(|second| Timestamp::from_second(1_795_000_000 + second).expect("in range"));
    prop_oneof![8 => usual, 1 => Just(Timestamp::MIN), 1 => Just(Timestamp::MAX)].boxed()
}

fn duration() -> BoxedStrategy<SignedDuration> {
    prop_oneof![
        any::<i32>().prop_map(|millis| SignedDuration::from_millis(i64::from(millis))),
        Just(SignedDuration::MAX),
        Just(SignedDuration::MIN)
    ]
    .boxed()
}

fn number() -> BoxedStrategy<f64> {
    prop_oneof![-1e3..1e3_f64, Just(0.0), Just(f64::MAX), Just(1e-300), Just(9e15)].boxed()
}

fn signal() -> BoxedStrategy<SignalName> {
    prop_oneof![Just(SignalName::platform()), Just(world::ready()), "[a-z.]{1,9}".prop_map(SignalName)].boxed()
}

fn actor() -> BoxedStrategy<Actor> {
    prop_oneof![Just(Actor::Daemon), words().prop_map(Actor::Operator), words().prop_map(Actor::Alert)].boxed()
}

fn scope() -> BoxedStrategy<Scope> {
    prop_oneof![Just(Scope::All), service().prop_map(Scope::Service)].boxed()
}

fn missing() -> BoxedStrategy<Missing> {
    prop_oneof![
        words().prop_map(Missing::Unreachable),
        words().prop_map(Missing::NoSeries),
        duration().prop_map(|age| Missing::Stale { age }),
        Just(Missing::NoHistory),
        Just(Missing::NoMeasure)
    ]
    .boxed()
}

fn binding() -> BoxedStrategy<Binding> {
    prop_oneof![
        words().prop_map(Binding::Version),
        (words(), any::<i64>()).prop_map(|(uid, generation)| Binding::Object { uid, generation })
    ]
    .boxed()
}

fn change() -> BoxedStrategy<ChangeKind> {
    sample::select(vec![
        ChangeKind::Code,
        ChangeKind::Configuration,
        ChangeKind::ReversibleMigration,
        ChangeKind::IrreversibleMigration,
        ChangeKind::FailedMigration,
    ])
    .boxed()
}

fn arrival() -> BoxedStrategy<Arrival> {
    let rollback = (plan_id(), deployment()).prop_map(|(plan, of)| Arrival::Rollback { plan, of });
    prop_oneof![Just(Arrival::FirstSight), Just(Arrival::Deployed), rollback].boxed()
}

fn lacks() -> BoxedStrategy<Vec<Lack>> {
    let evidence = (signal(), number(), number(), number()).prop_map(|(signal, count, log_evidence, log_threshold)| Lack::Evidence {
        signal,
        count,
        log_evidence,
        log_threshold,
    });
    let lack = prop_oneof![
        (signal(), missing()).prop_map(|(signal, missing)| Lack::Missing(signal, missing)),
        evidence,
        signal().prop_map(Lack::Suspect),
        Just(Lack::Rollout)
    ];
    collection::vec(lack, 0..4).boxed()
}

fn failure() -> BoxedStrategy<Failure> {
    prop_oneof![
        Just(Failure::Evidence),
        (any::<u32>(), any::<u32>(), words()).prop_map(|(replicas, restarts, reason)| Failure::CrashLoop(Trouble::CrashLoop {
            replicas,
            restarts,
            reason
        })),
        (words(), words()).prop_map(|(image, message)| Failure::CannotStart(Trouble::ImagePull { image, message })),
        words().prop_map(|message| Failure::CannotStart(Trouble::NotAdmitted { message })),
        duration().prop_map(|after| Failure::NeverReady { after }),
        duration().prop_map(|since| Failure::NoReplica { since }),
        words().prop_map(Failure::ProgressDeadline),
        (words(), words()).prop_map(|(by, reason)| Failure::Declared { by, reason })
    ]
    .boxed()
}

fn numbers() -> BoxedStrategy<Numbers> {
    (collection::vec(number(), 8), option::of(number()), option::of(time()), duration(), option::of(Just(Gate::Hold)))
        .prop_map(|(numbers, now, onset, hold, waits_for)| Numbers {
            before: numbers[0],
            tolerance: numbers[1],
            severity: numbers[2],
            now,
            count: numbers[3],
            failed: numbers[4],
            onset,
            log_evidence: numbers[5],
            log_threshold: numbers[6],
            hold,
            waits_for,
            measure: Measure::Share,
            route: None,
            expected_delay: None,
            ambient: None,
        })
        .boxed()
}

fn finding() -> BoxedStrategy<Finding> {
    let state = prop_oneof![
        Just(FindingState::Passing),
        failure().prop_map(FindingState::Failing),
        missing().prop_map(|missing| FindingState::Inconclusive(Inconclusive::Missing(missing))),
        number().prop_map(|tolerance| FindingState::Inconclusive(Inconclusive::NotTestable { tolerance })),
        time().prop_map(|since| FindingState::Inconclusive(Inconclusive::BeganBefore { since }))
    ];
    (signal(), sample::select(Impact::ALL.to_vec()), state, option::of(numbers()))
        .prop_map(|(signal, impact, state, numbers)| Finding { signal, impact, state, numbers })
        .boxed()
}

fn warning() -> BoxedStrategy<Warning> {
    let severity = || sample::select(vec![Severity::P0, Severity::P1]);
    let overdue =
        (finding(), time(), time()).prop_map(|(finding, onset, deadline)| Overdue { finding, onset, deadline, waits_for: Gate::Hold });
    prop_oneof![
        (severity(), finding(), collection::vec(signal(), 0..3)).prop_map(|(severity, finding, others)| Warning::HeldBack {
            severity,
            finding,
            others
        }),
        (severity(), overdue, any::<bool>()).prop_map(|(severity, overdue, is_compared)| Warning::Overdue {
            severity,
            overdue,
            is_compared
        }),
        (signal(), number(), option::of(duration()), duration()).prop_map(|(signal, level, expected_delay, within)| Warning::Unkept {
            unkept: vec![Unkept {
                signal,
                route: None,
                impact: Impact::ErrorRatio,
                level,
                measure: Measure::Share,
                expected_delay,
                within,
                probes: Vec::new()
            }]
        }),
    ]
    .boxed()
}

fn verdict() -> BoxedStrategy<Verdict> {
    let severity = sample::select(vec![Severity::P0, Severity::P1, Severity::P2, Severity::P3]);
    let response = sample::select(vec![Response::RollBack, Response::RollBack, Response::Ask, Response::Notify]);
    let parts = (sample::select(Impact::ALL.to_vec()), severity, response, option::of(duration()), time(), signal());
    (parts, collection::vec(finding(), 0..4))
        .prop_map(|((impact, severity, response, within, onset, signal), findings)| Verdict {
            impact,
            severity,
            response,
            within,
            onset,
            signal,
            findings,
        })
        .boxed()
}

fn cause() -> BoxedStrategy<Cause> {
    prop_oneof![verdict().prop_map(Cause::Verdict), (actor(), words()).prop_map(|(by, reason)| Cause::Operator { by, reason })].boxed()
}

fn plan() -> BoxedStrategy<Plan> {
    let ids = (service(), deployment(), deployment());
    (ids, version(), version(), binding(), cause(), time())
        .prop_map(|((service, deployment, to_deployment), from, to, binding, cause, expires)| Plan {
            service,
            environment: "production".to_owned(),
            deployment,
            from,
            to,
            to_deployment,
            binding,
            restore: Restore::Image,
            cause,
            expires,
        })
        .boxed()
}

fn outcome() -> BoxedStrategy<Outcome> {
    prop_oneof![
        Just(Outcome::Recovered),
        lacks().prop_map(|lacks| Outcome::DidNotHelp { lacks }),
        lacks().prop_map(|lacks| Outcome::Unproven { lacks }),
        version().prop_map(|by| Outcome::Interrupted { by }),
        words().prop_map(|words| Outcome::Failed(Obstacle::Rejected(words))),
        Just(Outcome::Failed(Obstacle::TargetGone)),
        words().prop_map(|words| Outcome::Failed(Obstacle::NotRolledOut(words))),
        Just(Outcome::Void(Void::Moved)),
        Just(Outcome::Void(Void::Expired)),
        Just(Outcome::Void(Void::Gone)),
        version().prop_map(|by| Outcome::Void(Void::Superseded { by }))
    ]
    .boxed()
}

fn refusal() -> BoxedStrategy<Refusal> {
    prop_oneof![
        Just(Refusal::NoKnownGood),
        words().prop_map(|asked| Refusal::UnknownVersion { asked }),
        version().prop_map(|target| Refusal::TargetIsRunning { target }),
        version().prop_map(|target| Refusal::TargetKnownBad { target }),
        version().prop_map(|target| Refusal::TargetGone { target }),
        plan_id().prop_map(|plan| Refusal::RollbackInProgress { plan }),
        deployment().prop_map(|deployment| Refusal::AlreadyRolledBack { deployment }),
        words().prop_map(|words| Refusal::Rejected { words }),
        deployment().prop_map(|of| Refusal::IsRollback { of }),
        change().prop_map(|change| Refusal::Migration { change }),
        (actor(), words()).prop_map(|(by, reason)| Refusal::Held { by, reason }),
        (any::<u32>(), any::<u32>(), words(), time()).prop_map(|(count, limit, of, until)| Refusal::RateLimited {
            count,
            limit,
            of,
            until
        }),
        services().prop_map(|services| Refusal::FleetBrake { services }),
        version().prop_map(|target| Refusal::DryRun { target }),
        Just(Refusal::OutOfSight),
        any::<u32>().prop_map(|times| Refusal::Contested { times }),
        (signal(), duration()).prop_map(|(signal, known)| Refusal::LittleHistory { signal, known })
    ]
    .boxed()
}

fn services() -> BoxedStrategy<BTreeSet<ServiceName>> {
    collection::btree_set(service(), 0..3).boxed()
}

fn mark() -> BoxedStrategy<Mark> {
    sample::select(vec![Mark::Good, Mark::Bad, Mark::Unknown]).boxed()
}

fn mark_reason() -> BoxedStrategy<MarkReason> {
    prop_oneof![
        deployment().prop_map(MarkReason::PassedWindow),
        plan_id().prop_map(MarkReason::RolledBack),
        plan_id().prop_map(MarkReason::NotToBlame),
        Just(MarkReason::FoundOnObject),
        words().prop_map(MarkReason::Operator)
    ]
    .boxed()
}

fn seen() -> BoxedStrategy<Entry> {
    (service(), version(), option::of(words()), arrival(), time(), time(), change())
        .prop_map(|(service, version, artifact, arrival, started, not_before, change)| Entry::DeploymentSeen {
            service,
            environment: "production".to_owned(),
            version,
            artifact: artifact.map(Artifact),
            arrival,
            started,
            not_before,
            change,
        })
        .boxed()
}

fn of_deployment() -> BoxedStrategy<Entry> {
    let on = || (service(), deployment());
    prop_oneof![
        (service(), option::of(deployment()), option::of(time()), option::of(change()), actor())
            .prop_map(|(service, deployment, started, change, by)| Entry::DeploymentAnnounced { service, deployment, started, change, by }),
        on().prop_map(|(service, deployment)| Entry::RolledOut { service, deployment }),
        (on(), signal()).prop_map(|((service, deployment), signal)| Entry::BaselineTaken {
            service,
            deployment,
            baselines: BTreeMap::from([(signal, no_baseline())]),
        }),
        (on(), verdict(), option::of(question())).prop_map(|((service, deployment), verdict, question)| Entry::VerdictReached {
            service,
            deployment,
            verdict,
            question
        }),
        (on(), refusal()).prop_map(|((service, deployment), refusal)| Entry::RollbackRefused { service, deployment, refusal }),
        (on(), warning()).prop_map(|((service, deployment), warning)| Entry::Warned { service, deployment, warning }),
        (on(), number()).prop_map(|((service, deployment), log_evidence)| Entry::WindowPassed { service, deployment, log_evidence }),
        (on(), time(), lacks()).prop_map(|((service, deployment), until, lacks)| Entry::WindowExtended {
            service,
            deployment,
            until,
            lacks
        }),
        on().prop_map(|(service, deployment)| Entry::WindowFailed { service, deployment }),
        on().prop_map(|(service, deployment)| Entry::Superseded { service, deployment })
    ]
    .boxed()
}

fn choice() -> BoxedStrategy<Choice> {
    sample::select(vec![Choice::Keep, Choice::RollBack]).boxed()
}

fn question() -> BoxedStrategy<Question> {
    (time(), choice()).prop_map(|(until, otherwise)| Question { until, otherwise }).boxed()
}

fn impact() -> BoxedStrategy<Impact> {
    sample::select(Impact::ALL.to_vec()).boxed()
}

fn declaration() -> BoxedStrategy<Declaration> {
    let firing = (sample::select(vec!["a1", "b2", ""]), time(), time());
    let firing = firing.prop_map(|(fingerprint, fired, until)| Firing { fingerprint: fingerprint.to_owned(), fired, until });
    (impact(), actor(), words(), time(), option::of(firing))
        .prop_map(|(impact, by, reason, since, alert)| Declaration { impact, by, reason, since, alert })
        .boxed()
}

fn of_declarations() -> BoxedStrategy<Entry> {
    let on = || (service(), deployment());
    prop_oneof![
        3 => (on(), declaration())
            .prop_map(|((service, deployment), declaration)| Entry::ImpactDeclared { service, deployment, declaration }),
        2 => (on(), declaration(), actor(), time()).prop_map(|((service, deployment), declaration, by, ended)| Entry::ImpactWithdrawn {
            service,
            deployment,
            declaration,
            by,
            ended
        }),
        2 => (on(), choice(), actor(), words()).prop_map(|((service, deployment), choice, by, reason)| Entry::QuestionAnswered {
            service,
            deployment,
            choice,
            by,
            reason
        })
    ]
    .boxed()
}

fn alert() -> BoxedStrategy<Alert> {
    let labels = (service(), option::of(impact()), any::<bool>());
    (words(), sample::select(vec!["a1", "b2", ""]), labels, any::<bool>(), time(), option::of(time()))
        .prop_map(|(name, fingerprint, (service, impact, critical), firing, starts, ends)| {
            let impact = impact.map(|impact| (alert::IMPACT_LABEL.to_owned(), impact.key().to_owned()));
            let critical = critical.then(|| ("severity".to_owned(), "critical".to_owned()));
            let labels = [Some(("service".to_owned(), service.to_string())), impact, critical];
            Alert {
                reason: name.clone(),
                name,
                fingerprint: fingerprint.to_owned(),
                labels: labels.into_iter().flatten().collect(),
                firing,
                starts,
                ends,
            }
        })
        .boxed()
}

/// A baseline of a probe that was never looked at.
fn no_baseline() -> Baseline {
    let policy = world::policy("checkout");
    let now = Timestamp::from_second(world::World::START).expect("in range");
    match Evidence::new(&policy).baseline(&policy, &world::ready(), now, &[]) {
        Some(baseline @ Baseline::Probe(ProbeBaseline { .. })) => baseline,
        other => panic!("a probe has a baseline of probes: {other:?}"),
    }
}

fn of_rollback() -> BoxedStrategy<Entry> {
    let on = || (service(), plan_id());
    prop_oneof![
        plan().prop_map(|plan| Entry::RollbackPlanned { plan }),
        (on(), binding()).prop_map(|((service, plan), binding)| Entry::RollbackApplied { service, plan, binding }),
        on().prop_map(|(service, plan)| Entry::RollbackRolledOut { service, plan }),
        (on(), outcome()).prop_map(|((service, plan), outcome)| Entry::RollbackEnded { service, plan, outcome }),
        on().prop_map(|(service, plan)| Entry::AllClear { service, plan })
    ]
    .boxed()
}

fn of_others() -> BoxedStrategy<Entry> {
    prop_oneof![
        words().prop_map(|ledger| Entry::LedgerBegun { ledger }),
        collection::btree_set(words(), 0..3).prop_map(|names| Entry::DestinationsKnown { names }),
        (service(), version(), mark(), actor(), mark_reason()).prop_map(|(service, version, mark, by, reason)| Entry::Marked {
            service,
            version: version.id,
            mark,
            by,
            reason
        }),
        (scope(), actor(), words(), option::of(time())).prop_map(|(scope, by, reason, until)| Entry::Held { scope, by, reason, until }),
        (scope(), actor()).prop_map(|(scope, by)| Entry::Resumed { scope, by }),
        services().prop_map(|services| Entry::BrakeTripped { services }),
        actor().prop_map(|by| Entry::BrakeReleased { by }),
        (service(), signal(), missing(), time()).prop_map(|(service, signal, missing, since)| Entry::Blinded {
            service,
            signal,
            missing,
            since
        }),
        (service(), signal()).prop_map(|(service, signal)| Entry::Sighted { service, signal }),
        (any::<u64>(), words()).prop_map(|(notice, destination)| Entry::NoticeDelivered { notice, destination }),
        (any::<u64>(), words(), words()).prop_map(|(notice, destination, why)| Entry::NoticeAbandoned { notice, destination, why })
    ]
    .boxed()
}

/// Entries, most of which speak of what other entries made.
fn entry() -> BoxedStrategy<Entry> {
    prop_oneof![3 => seen(), 5 => of_deployment(), 3 => of_declarations(), 5 => of_rollback(), 4 => of_others()].boxed()
}

fn fold(entries: &[(Entry, i64)]) -> (State, Vec<Record>) {
    let (mut state, mut records) = (State::default(), Vec::new());
    let mut at = Timestamp::from_second(world::World::START).expect("in range");
    for (seq, (entry, later)) in (1..).zip(entries) {
        at = at.saturating_add(SignedDuration::from_secs(*later)).expect("seconds are no calendar units");
        let record = Record { seq, at, entry: entry.clone() };
        state.apply(&record);
        records.push(record);
    }
    (state, records)
}

fn later() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 5 => 0..60_i64, 1 => 0..100_000_i64]
}

fn is_paused(state: &State, service: &ServiceState) -> bool {
    state.hold.is_some() || service.hold.is_some() || state.brake.is_some()
}

proptest! {
    #[test]
    fn every_entry_can_be_read_again(entry in entry()) {
        let text = serde_json::to_string(&entry).expect("an entry is JSON");
        prop_assert_eq!(serde_json::from_str::<Entry>(&text).expect("what was written"), entry, "{}", text);
    }

    #[test]
    fn any_ledger_can_be_folded_and_stays_small(entries in collection::vec((entry(), later()), 0..120)) {
        let (state, records) = fold(&entries);
        let (again, _) = fold(&entries);
        prop_assert_eq!(format!("{:?}", state), format!("{:?}", again));
        for service in state.services.values() {
            prop_assert!(service.deployments.len() <= ServiceState::KEPT_DEPLOYMENTS + 1);
            prop_assert!(service.marks.len() <= ServiceState::KEPT_MARKS + 1);
            prop_assert!(service.artifacts.len() <= 5 && service.incidents.len() <= 20);
            prop_assert!(service.deployments.values().all(|deployment| deployment.declared.len() <= declaration::KEPT));
        }
        prop_assert!(state.alarms.len() <= state.services.len());
        let mut ids = BTreeSet::new();
        for (seq, outgoing) in &state.outbox {
            let notice = &outgoing.notice;
            prop_assert!(ids.insert(notice.id.clone()) && *seq <= records.len() as u64);
            prop_assert!(notice.headline.chars().count() <= 150, "{}", notice.headline);
            prop_assert!(!notice.headline.contains(char::is_control), "{:?}", notice.headline);
        }
    }

    #[test]
    fn nothing_is_applied_but_a_planned_rollback_that_nobody_paused(
        entries in collection::vec((entry(), later()), 0..80),
        dry_run: bool,
    ) {
        let (state, _) = fold(&entries);
        for (name, service) in &state.services {
            let mut policy = world::policy(name.as_str());
            policy.dry_run = dry_run;
            for task in task::of_service(&state, &policy, false) {
                let Task::Apply { plan, .. } = task else { continue };
                let rollback = service.rollback.as_ref().expect("an effect has a rollback");
                prop_assert_eq!((rollback.id, &rollback.phase), (plan, &Phase::Planned));
                let by_itself = matches!(rollback.plan.cause, Cause::Verdict(_));
                prop_assert!(!by_itself || !(dry_run || is_paused(&state, service)));
            }
        }
    }

    #[test]
    fn what_alerts_say_twice_in_whatever_order_is_written_once(
        entries in collection::vec((entry(), later()), 0..60),
        alerts in collection::vec(alert(), 0..12),
        places in collection::vec(any::<sample::Index>(), 0..30),
    ) {
        let (mut state, _) = fold(&entries);
        let now = state.at;
        let policies = BTreeMap::from(["cart", "checkout", "search"].map(|name| (world::name(name), world::policy(name))));
        let labels = BTreeMap::from([("severity".to_owned(), "critical".to_owned())]);
        let rule = Rule { labels, impact: Impact::DataCorruption, service: None, pending: None };
        let rules = Rules { rules: vec![rule], ..Rules::default() };
        let mut hear = |alerts: &[Alert]| {
            let (entries, heard) = alert::hear(&state, &policies, &rules, alerts, now);
            assert_eq!(heard.len(), alerts.len());
            for entry in &entries {
                state.apply(&Record { seq: state.seq + 1, at: now, entry: entry.clone() });
            }
            entries.len()
        };
        // One after the other is the same as all at once, and whatever is delivered again in its order changes nothing more.
        prop_assert!(hear(&alerts) <= alerts.len());
        let mut ended_last: Vec<Alert> = alerts.iter().filter(|alert| !alert.firing).cloned().collect();
        ended_last.sort_by_key(|alert| alert.ends.unwrap_or(now));
        hear(&ended_last);
        prop_assert_eq!(hear(&ended_last), 0);
        let firing: Vec<Alert> = alerts.iter().filter(|alert| alert.firing).cloned().collect();
        hear(&firing);
        let again = places.iter().filter(|_| !firing.is_empty()).map(|place| place.get(&firing).clone()).collect::<Vec<_>>();
        prop_assert_eq!(hear(&again), 0);
    }

    #[test]
    fn on_any_ledger_the_rules_come_to_rest(entries in collection::vec((entry(), later()), 0..60), more in 0..200_000_i64) {
        let (mut state, _) = fold(&entries);
        let now = state.at.saturating_add(SignedDuration::from_secs(more)).expect("seconds are no calendar units");
        for name in ["cart", "checkout", "search"] {
            let policy = world::policy(name);
            let mut evidence = Evidence::new(&policy);
            evidence.observe_workload(&policy, &world::look("v1", now), now);
            let mut rounds = 0;
            loop {
                let mut entries = decide(&state, &policy, &Limits::default(), &mut evidence, now);
                entries.extend(decide_fleet(&state, now));
                if entries.is_empty() {
                    break;
                }
                rounds += 1;
                prop_assert!(rounds < 16, "{:?}", entries);
                for entry in entries {
                    state.apply(&Record { seq: state.seq + 1, at: now, entry });
                }
            }
        }
    }
}
