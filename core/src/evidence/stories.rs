//! Stories of deployments, told in virtual time through the public face of the evidence.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{Strategy, any, prop_assert, proptest};

use super::{Evidence, Health, Lack};
use crate::baseline::{Baseline, ErrorsBaseline};
use crate::entry::DeploymentId;
use crate::observation::{
    Binding, Missing, ProbeOutcome, ProbeRound, Reading, Replicas, Rollout, Sample, Scrape, Series, Trouble, Workload,
};
use crate::plan::PlanId;
use crate::service::{Decision, Restore, Role, Service, ServiceName, SignalKind, SignalName, SignalPolicy, Verification};
use crate::severity::{Impact, Matrix, Severity};
use crate::verdict::{Failure, Finding, FindingState, Gate, Inconclusive, Verdict};
use crate::version::{Version, VersionId};

/// The deployment starts here; the history lies before.
const START: i64 = 100_000;
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time in range")
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn errors() -> SignalName {
    SignalName("errors".to_owned())
}

fn ready() -> SignalName {
    SignalName("probe.ready".to_owned())
}

fn policy(kind: SignalKind, every: i64) -> SignalPolicy {
    SignalPolicy { kind, role: Role::Own, every: seconds(every), has_history: false, source: "http://checkout.test/metrics".to_owned() }
}

fn service(signals: &[(SignalName, SignalPolicy)]) -> Service {
    Service {
        name: ServiceName::try_from("checkout").expect("a name"),
        environment: "production".to_owned(),
        platform: "kubernetes shop/checkout".to_owned(),
        window: SignedDuration::from_mins(30),
        signals: signals.iter().cloned().collect(),
        matrix: Matrix::default(),
        decision: Decision::default(),
        verification: Verification::default(),
        restore: Restore::Template,
        dry_run: false,
        promote_on_probes: false,
        rollbacks_per_day: 3,
    }
}

fn service_with_errors() -> Service {
    service(&[(errors(), policy(SignalKind::Errors, 15))])
}

fn service_with_probe() -> Service {
    let mut service = service(&[(ready(), policy(SignalKind::Probe, 5))]);
    service.decision.history = SignedDuration::from_hours(2);
    service
}

fn service_with_both() -> Service {
    service(&[(errors(), policy(SignalKind::Errors, 15)), (ready(), policy(SignalKind::Probe, 5))])
}

fn workload(rollout: Rollout, ready: u32, available: u32, troubles: Vec<Trouble>) -> Workload {
    Workload {
        version: Version { id: VersionId("2".to_owned()), name: "shop:v2".to_owned() },
        artifact: None,
        binding: Binding::Version("2".to_owned()),
        rollout,
        replicas: Replicas { desired: 2, updated: 2, ready, available },
        ready_is_checked: false,
        troubles,
        record: None,
        change: None,
        unseen_for: SignedDuration::ZERO,
    }
}

fn complete() -> Workload {
    workload(Rollout::Complete, 2, 2, Vec::new())
}

/// A world with one pod that counts and one probe, and the evidence on it.
struct World {
    service: Service,
    evidence: Evidence,
    now: i64,
    total: f64,
    failed: f64,
}

impl World {
    fn new(service: Service) -> Self {
        let mut evidence = Evidence::new(&service);
        evidence.observe_workload(&service, &complete(), at(START - 7_300));
        Self { service, evidence, now: START - 7_300, total: 1e6, failed: 1e3 }
    }

    /// Lets so many intervals of 15 s pass with these requests and failures in each.
    fn count(&mut self, intervals: u32, requests: f64, failed: f64) {
        for _ in 0..intervals {
            self.now += 15;
            self.count_now(requests, failed);
        }
    }

    fn count_now(&mut self, requests: f64, failed: f64) {
        self.total += requests;
        self.failed += failed;
        let (total, failed) = (self.total, self.failed);
        self.scrape(total, failed);
    }

    fn scrape(&mut self, total: f64, failed: f64) {
        let series = |id: &str, value| Series {
            id: id.to_owned(),
            target: "pod-1".to_owned(),
            process_started: None,
            route: None,
            samples: vec![Sample { at: at(self.now), value }],
        };
        let scrape = Scrape { total: vec![series("all", total)], failed: vec![series("5xx", failed)] };
        self.read(&errors(), &Reading::Scrape(scrape));
    }

    /// Lets so many rounds of 5 s pass in each of which these targets pass.
    fn probe(&mut self, rounds: u32, targets: &[bool]) {
        for _ in 0..rounds {
            self.now += 5;
            self.probe_now(targets);
        }
    }

    fn probe_now(&mut self, targets: &[bool]) {
        let outcome = |passes: &bool| match passes {
            true => ProbeOutcome::Passed { latency: SignedDuration::from_millis(3) },
            false => ProbeOutcome::Failed("status 500, expected 200".to_owned()),
        };
        let targets = targets.iter().map(|passes| ("pod".to_owned(), outcome(passes))).collect();
        self.read(&ready(), &Reading::Probe(ProbeRound { targets }));
    }

    fn miss(&mut self, signal: &SignalName, times: u32, every: i64) {
        for _ in 0..times {
            self.now += every;
            self.read(signal, &Reading::Missing(Missing::Unreachable("connection refused".to_owned())));
        }
    }

    fn read(&mut self, signal: &SignalName, reading: &Reading) {
        self.evidence.observe(&self.service, signal, reading, at(self.now));
    }

    fn look(&mut self, workload: &Workload) {
        self.evidence.observe_workload(&self.service, workload, at(self.now));
    }

    /// An hour in which this share of ten requests per second failed, in calm alternation.
    fn history_of_errors(&mut self, failed: f64) {
        self.now = START - 3_600;
        self.count_now(0.0, 0.0);
        self.count(240, 150.0, failed);
    }

    fn history_of_probes(&mut self, targets: &[bool]) {
        self.now = START - 7_200;
        self.probe(1_440, targets);
    }

    fn deploy(&mut self) {
        self.deploy_with(&[]);
    }

    fn deploy_with(&mut self, excluded: &[super::Excluded]) {
        let start = at(self.now);
        self.evidence.watch(&self.service, DeploymentId(7), start, PATIENCE, start);
        let baselines = self.baselines(start, excluded);
        self.evidence.set_baselines(&self.service, &baselines);
    }

    fn baselines(&self, start: Timestamp, excluded: &[super::Excluded]) -> BTreeMap<SignalName, Baseline> {
        let of = |name: &SignalName| Some((name.clone(), self.evidence.baseline(&self.service, name, start, excluded)?));
        self.service.signals.keys().filter_map(of).collect()
    }

    fn verdict(&self) -> Option<Verdict> {
        self.evidence.verdict(&self.service, at(self.now))
    }

    fn finding(&self, signal: &SignalName, impact: Impact) -> Finding {
        let findings = self.evidence.findings(&self.service, at(self.now));
        findings.into_iter().find(|finding| finding.signal == *signal && finding.impact == impact).expect("each check has a finding")
    }

    fn state(&self, signal: &SignalName, impact: Impact) -> FindingState {
        self.finding(signal, impact).state
    }

    fn gate(&self, signal: &SignalName, impact: Impact) -> Option<Gate> {
        self.finding(signal, impact).numbers.expect("the check has numbers").waits_for
    }

    fn health(&self) -> Health {
        self.evidence.health(&self.service, at(self.now))
    }

    fn recovery(&self) -> Vec<Lack> {
        self.evidence.recovery(&self.service, at(self.now))
    }

    /// Steps until a verdict is reached, and gives it with the seconds since the deployment.
    fn until_verdict(&mut self, most: u32, mut step: impl FnMut(&mut Self)) -> Option<(i64, Verdict)> {
        (0..most).find_map(|_| {
            step(self);
            self.verdict().map(|verdict| (self.now - START, verdict))
        })
    }
}

fn inconclusive(state: &FindingState) -> Option<&Inconclusive> {
    match state {
        FindingState::Inconclusive(why) => Some(why),
        FindingState::Passing | FindingState::Failing(_) => None,
    }
}

mod comparison;

mod probes {
    use super::*;

    fn rounds_to_an_outage(history: i64, passing: u32) -> i64 {
        let mut world = World::new(service_with_probe());
        world.service.decision.history = SignedDuration::from_hours(history);
        world.history_of_probes(&[true, true]);
        world.deploy();
        if passing == 0 {
            world.probe(11, &[false, false]);
        }
        world.probe(passing, &[true, true]);
        let since = world.now;
        let (_, verdict) = world.until_verdict(60, |world| world.probe(1, &[false, false])).expect("an outage");
        assert_eq!((verdict.impact, verdict.severity, verdict.signal.clone()), (Impact::CompleteOutage, Severity::P0, ready()));
        assert!((since..=since + 5).contains(&verdict.onset.as_second()), "{}", verdict.onset);
        (world.now - since) / 5
    }

    #[test]
    fn an_outage_after_a_clean_history_is_found_after_six_rounds() {
        assert_eq!(rounds_to_an_outage(2, 0), 6);
    }

    #[test]
    fn an_outage_that_begins_later_needs_up_to_three_rounds_more() {
        assert_eq!((rounds_to_an_outage(2, 1), rounds_to_an_outage(2, 12), rounds_to_an_outage(2, 200)), (7, 9, 9));
    }

    #[test]
    fn a_shorter_history_of_counters_leaves_that_of_probes_alone() {
        assert_eq!(rounds_to_an_outage(1, 0), rounds_to_an_outage(2, 0));
    }

    #[test]
    fn a_prober_that_blinks_by_itself_gets_a_longer_hold() {
        let mut world = World::new(service_with_probe());
        world.now = START - 7_200;
        world.probe(700, &[true]);
        world.probe(4, &[false]);
        world.probe(736, &[true]);
        world.deploy();
        let (after, verdict) = world.until_verdict(60, |world| world.probe(1, &[false])).expect("an outage");
        assert_eq!(verdict.decisive().and_then(|finding| Some(finding.numbers.as_ref()?.hold)), Some(seconds(155)));
        assert!((60 + 30 * 5..60 + 38 * 5).contains(&after), "{after}");
    }

    #[test]
    fn a_target_that_flaps_is_an_error_ratio_and_no_outage() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.deploy();
        world.probe(1, &[true]);
        let (after, verdict) = world
            .until_verdict(100, |world| {
                world.probe(2, &[false]);
                world.probe(1, &[true]);
            })
            .expect("flapping");
        assert_eq!(verdict.impact, Impact::ErrorRatio);
        assert!((120..=160).contains(&after), "{after}");
    }

    #[test]
    fn one_failing_target_of_three_is_left_alone() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true, true, true]);
        world.deploy();
        assert_eq!(world.until_verdict(300, |world| world.probe(1, &[true, false, true])), None);
    }

    #[test]
    fn a_slow_start_does_not_count_until_the_startup_deadline() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.deploy();
        world.probe(11, &[false]);
        assert_eq!(
            world.state(&ready(), Impact::CompleteOutage),
            FindingState::Inconclusive(Inconclusive::WarmingUp { until: at(START + 60) })
        );
        world.probe(300, &[true]);
        assert_eq!(world.state(&ready(), Impact::CompleteOutage), FindingState::Passing);
        assert!(matches!(world.health(), Health::Proven { .. }));
    }

    #[test]
    fn a_version_that_never_answers_is_an_outage_after_the_startup_deadline() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.deploy();
        let (after, verdict) = world.until_verdict(100, |world| world.probe(1, &[false])).expect("an outage");
        assert_eq!((after, verdict.impact), (60 + 5 * 5, Impact::CompleteOutage));
    }

    /// A look at a version that is being rolled out, on a platform that checks readiness itself.
    fn starting(available: u32) -> Workload {
        Workload { ready_is_checked: true, ..workload(Rollout::Progressing, 0, available, Vec::new()) }
    }

    #[test]
    fn an_answer_of_the_version_that_leaves_begins_nothing() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.deploy();
        world.look(&starting(0));
        world.probe(1, &[true]);
        assert_eq!(world.until_verdict(60, |world| world.probe(1, &[false])), None, "it starts, and nothing else runs");
        world.look(&Workload { ready_is_checked: true, ..complete() });
        world.probe(100, &[true]);
        assert_eq!(world.state(&ready(), Impact::CompleteOutage), FindingState::Passing);
    }

    #[test]
    fn what_the_platform_calls_ready_has_to_answer_at_once() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.deploy();
        world.look(&starting(1));
        world.probe(1, &[true]);
        world.look(&Workload { ready_is_checked: true, ..complete() });
        let (after, _) = world.until_verdict(100, |world| world.probe(1, &[false])).expect("an outage");
        assert_eq!(after, 7 * 5);
    }

    #[test]
    fn a_moment_in_which_what_is_ready_is_not_routed_to_is_no_flaw() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.deploy();
        world.look(&Workload { ready_is_checked: true, ..complete() });
        world.probe(1, &[false]);
        world.probe(12, &[true]);
        assert!(matches!(world.health(), Health::Proven { .. }), "{:?}", world.health());
        world.probe(1, &[false]);
        world.probe(12, &[true]);
        assert!(matches!(world.health(), Health::Unproven(_)), "{:?}", world.health());
    }

    #[test]
    fn where_nothing_serves_meanwhile_a_start_may_take_as_long_as_it_usually_does_and_no_longer() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.deploy();
        world.look(&starting(0));
        let (after, _) = world.until_verdict(200, |world| world.probe(1, &[false])).expect("an outage");
        assert!((600..640).contains(&after), "{after}");
    }

    #[test]
    fn without_any_history_nothing_can_be_called_worse() {
        let mut world = World::new(service_with_probe());
        world.now = START;
        world.deploy();
        world.probe(1, &[true]);
        world.probe(300, &[false]);
        assert_eq!(world.state(&ready(), Impact::CompleteOutage), FindingState::Inconclusive(Inconclusive::NoBaseline));
        assert_eq!(world.verdict(), None);
    }

    #[test]
    fn a_probe_that_failed_before_cannot_tell() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[false]);
        world.deploy();
        world.probe(300, &[false]);
        let state = world.state(&ready(), Impact::CompleteOutage);
        assert!(matches!(inconclusive(&state), Some(Inconclusive::NotTestable { .. })), "{state:?}");
        assert_eq!(world.verdict(), None);
    }

    #[test]
    fn a_service_that_is_down_when_a_fix_arrives_is_not_blamed_on_the_fix() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.probe(24, &[false]);
        world.deploy();
        assert_eq!(world.until_verdict(360, |world| world.probe(1, &[false])), None);
        let state = world.state(&ready(), Impact::CompleteOutage);
        assert!(matches!(inconclusive(&state), Some(Inconclusive::NotTestable { .. })), "{state:?}");
    }

    #[test]
    fn a_blink_before_the_deployment_excuses_no_outage_after_it() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.probe(3, &[false]);
        world.deploy();
        assert!(world.until_verdict(360, |world| world.probe(1, &[false])).is_some());
    }

    #[test]
    fn an_incident_that_is_excluded_is_no_history() {
        let mut world = World::new(service_with_probe());
        world.now = START - 7_200;
        world.probe(1_000, &[true]);
        world.probe(100, &[false]);
        world.probe(340, &[true]);
        let incident = (at(START - 2_200), at(START - 1_700));
        let with = world.baselines(at(START), &[]);
        let without = world.baselines(at(START), &[incident]);
        let all_failed = |baselines: &BTreeMap<SignalName, Baseline>| match &baselines[&ready()] {
            Baseline::Probe(baseline) => (baseline.rounds, baseline.all_failed, baseline.outages_lasted.longest),
            _ => panic!("a probe has a baseline of probes"),
        };
        assert_eq!((all_failed(&with), all_failed(&without)), ((1_440, 100, 100), (1_339, 0, 0)));
    }

    #[test]
    fn rounds_that_came_before_the_baseline_are_not_lost() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        let baselines = world.baselines(at(world.now), &[]);
        world.evidence.watch(&world.service, DeploymentId(7), at(START), PATIENCE, at(START));
        world.probe(12, &[true]);
        world.probe(9, &[false]);
        assert_eq!(world.state(&ready(), Impact::CompleteOutage), FindingState::Inconclusive(Inconclusive::NoBaseline));
        world.evidence.set_baselines(&world.service, &baselines);
        assert_eq!(world.verdict().map(|verdict| verdict.onset), Some(at(START + 65)));
    }

    #[test]
    fn names_that_do_not_resolve_are_no_outage() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.deploy();
        world.probe(12, &[true]);
        let missing = ProbeOutcome::Missing(Missing::Unreachable("name does not resolve".to_owned()));
        let failed = ProbeOutcome::Failed("connection refused".to_owned());
        for _ in 0..60 {
            world.now += 5;
            let targets = vec![("a".to_owned(), missing.clone()), ("b".to_owned(), missing.clone())];
            world.read(&ready(), &Reading::Probe(ProbeRound { targets }));
            assert_eq!(world.verdict(), None);
        }
        assert!(matches!(inconclusive(&world.state(&ready(), Impact::CompleteOutage)), Some(Inconclusive::Missing(_))));
        for _ in 0..60 {
            world.now += 5;
            let targets = vec![("a".to_owned(), missing.clone()), ("b".to_owned(), failed.clone())];
            world.read(&ready(), &Reading::Probe(ProbeRound { targets }));
        }
        assert_eq!(world.state(&ready(), Impact::CompleteOutage), FindingState::Passing);
    }

    #[test]
    fn two_probes_share_their_alpha() {
        let mut world = World::new(service_with_probe());
        world.service.signals.insert(SignalName("probe.cart".to_owned()), policy(SignalKind::Probe, 5));
        world.history_of_probes(&[true]);
        world.deploy();
        world.probe(12, &[true]);
        let numbers = world.finding(&ready(), Impact::CompleteOutage).numbers.expect("numbers");
        assert!((numbers.log_threshold - 20_000_f64.ln()).abs() < 1e-12);
    }
}

mod counters {
    use super::*;

    fn deployed(failed_before: f64) -> World {
        let mut world = World::new(service_with_errors());
        world.history_of_errors(failed_before);
        world.deploy();
        world
    }

    #[test]
    fn sixty_percent_errors_are_found_one_hold_after_the_grace_time() {
        let mut world = deployed(1.0);
        let (after, verdict) = world.until_verdict(40, |world| world.count(1, 150.0, 90.0)).expect("errors");
        assert_eq!((after, verdict.impact, verdict.severity), (60 + 120, Impact::ErrorRatio, Severity::P1));
        assert_eq!((verdict.onset, verdict.within), (at(START + 60), Some(SignedDuration::from_mins(15))));
        let numbers = verdict.decisive().and_then(|finding| finding.numbers.clone()).expect("numbers");
        assert_eq!(numbers.now, Some(0.6));
    }

    #[test]
    fn what_turns_out_to_be_scraped_once_a_minute_is_judged_minute_by_minute() {
        let mut world = deployed(1.0);
        world.service.signals.get_mut(&errors()).expect("it has counters").every = SignedDuration::from_mins(1);
        world.evidence.begin_anew(&world.service, &errors());
        let samples = |each: u32| {
            (0..=60).map(move |minute| Sample { at: at(START - 60 * (60 - i64::from(minute))), value: f64::from(minute * each) })
        };
        let series = |id: &str, each| {
            let (id, target) = (id.to_owned(), "pod-1".to_owned());
            Series { id, target, process_started: None, route: None, samples: samples(each).collect() }
        };
        let history = Scrape { total: vec![series("all", 600)], failed: vec![series("5xx", 4)] };
        let baseline = Evidence::baseline_of_history(&world.service, &errors(), &history, at(START), &[]);
        world.evidence.set_baselines(&world.service, &BTreeMap::from([(errors(), baseline)]));
        let (after, verdict) = world
            .until_verdict(10, |world| {
                world.now += 60;
                world.count_now(600.0, 360.0);
            })
            .expect("errors");
        assert_eq!(verdict.impact, Impact::ErrorRatio);
        assert!(after <= 5 * 60, "{after}");
    }

    #[test]
    fn nothing_but_errors_is_a_complete_outage_after_its_own_hold() {
        let mut world = deployed(1.0);
        let (after, verdict) = world.until_verdict(40, |world| world.count(1, 150.0, 150.0)).expect("errors");
        assert_eq!((after, verdict.impact), (60 + 60, Impact::CompleteOutage));
    }

    #[test]
    fn a_tenth_of_errors_is_a_broken_feature() {
        let mut world = deployed(1.0);
        let (after, verdict) = world.until_verdict(40, |world| world.count(1, 150.0, 15.0)).expect("errors");
        assert_eq!((after, verdict.impact, verdict.severity), (60 + 120, Impact::FeatureBroken, Severity::P2));
    }

    #[test]
    fn errors_that_begin_late_in_the_window_are_found_as_well() {
        let mut world = deployed(1.0);
        world.count(60, 150.0, 1.0);
        let (after, verdict) = world.until_verdict(40, |world| world.count(1, 150.0, 90.0)).expect("errors");
        assert_eq!((after, verdict.impact), (900 + 7 * 15, Impact::ErrorRatio));
        assert_eq!(verdict.onset, at(START + 900));
    }

    #[test]
    fn a_service_with_little_traffic_is_judged_too() {
        let mut world = World::new(service_with_errors());
        world.now = START - 3_600;
        world.count_now(0.0, 0.0);
        world.count(240, 1.5, 0.0);
        world.deploy();
        while world.verdict().is_none_or(|verdict| verdict.impact != Impact::ErrorRatio) {
            world.count(1, 2.0, 1.0 + f64::from(u8::from(world.now % 45 == 0)));
            assert!(world.now - START <= 600, "{:?}", world.finding(&errors(), Impact::ErrorRatio));
        }
    }

    #[test]
    fn a_healthy_release_is_left_alone_and_proves_itself() {
        let mut world = deployed(1.0);
        assert_eq!(world.until_verdict(116, |world| world.count(1, 150.0, 1.0)), None);
        for impact in [Impact::CompleteOutage, Impact::ErrorRatio, Impact::FeatureBroken] {
            assert_eq!(world.state(&errors(), impact), FindingState::Passing);
        }
        let Health::Proven { log_evidence } = world.health() else { panic!("a healthy release proves itself: {:?}", world.health()) };
        assert!(log_evidence >= 20.0_f64.ln());
    }

    #[test]
    fn without_traffic_there_is_neither_a_verdict_nor_a_proof() {
        let mut world = deployed(1.0);
        assert_eq!(world.until_verdict(116, |world| world.count(1, 0.0, 0.0)), None);
        assert_eq!(world.state(&errors(), Impact::ErrorRatio), FindingState::Inconclusive(Inconclusive::NoTraffic));
        assert!(matches!(world.health(), Health::Unproven(lacks) if matches!(lacks[..], [Lack::Evidence { count: 0.0, .. }])));
    }

    #[test]
    fn in_the_grace_time_only_hard_rules_speak() {
        let mut world = deployed(1.0);
        world.count(3, 150.0, 150.0);
        assert_eq!(
            world.state(&errors(), Impact::ErrorRatio),
            FindingState::Inconclusive(Inconclusive::WarmingUp { until: at(START + 60) })
        );
        world.count(1, 150.0, 150.0);
        assert_eq!(world.until_verdict(100, |world| world.count(1, 150.0, 1.0)), None);
    }

    #[test]
    fn errors_before_the_deployment_do_not_count() {
        let mut world = World::new(service_with_errors());
        world.service.decision.grace = seconds(1);
        world.history_of_errors(1.0);
        let baselines = world.baselines(at(START), &[]);
        world.count(8, 150.0, 150.0);
        let start = at(world.now - 5);
        world.evidence.watch(&world.service, DeploymentId(7), start, PATIENCE, start);
        world.evidence.set_baselines(&world.service, &baselines);
        world.count(1, 150.0, 150.0);
        world.count(1, 150.0, 150.0);
        assert_eq!(world.verdict(), None);
        assert_eq!(world.until_verdict(60, |world| world.count(1, 150.0, 1.0)), None);
    }

    #[test]
    fn a_service_that_was_bad_before_cannot_be_blamed_on_the_deployment() {
        let mut world = deployed(90.0);
        assert_eq!(world.until_verdict(116, |world| world.count(1, 150.0, 90.0)), None);
        let state = world.state(&errors(), Impact::ErrorRatio);
        assert!(matches!(inconclusive(&state), Some(Inconclusive::NotTestable { tolerance }) if *tolerance > 0.6), "{state:?}");
    }

    /// A service that was well for an hour, failed for so many intervals at 60 %, and was deployed then.
    fn deployed_while_broken(intervals: u32) -> World {
        let mut world = World::new(service_with_errors());
        world.history_of_errors(1.0);
        world.count(intervals, 150.0, 90.0);
        world.deploy();
        world
    }

    #[test]
    fn a_fix_that_helps_little_or_half_is_not_blamed_for_minutes_of_errors_before_it() {
        for failed in [90.0, 45.0, 15.0] {
            let mut world = deployed_while_broken(12);
            assert_eq!(world.until_verdict(116, |world| world.count(1, 150.0, failed)), None, "{failed} of 150 still fail");
        }
    }

    #[test]
    fn what_was_broken_a_little_may_not_be_broken_much_more() {
        let mut world = World::new(service_with_errors());
        world.history_of_errors(1.0);
        world.count(12, 150.0, 15.0);
        world.deploy();
        let (_, verdict) = world.until_verdict(40, |world| world.count(1, 150.0, 120.0)).expect("eight times as many");
        assert_eq!(verdict.impact, Impact::ErrorRatio);
    }

    #[test]
    fn a_minute_that_chance_made_a_little_worse_is_no_incident_under_way() {
        let mut world = World::new(service_with_errors());
        world.now = START - 3 * 3_600;
        world.count_now(0.0, 0.0);
        for _ in 0..179 {
            world.count(1, 150.0, 0.0);
            world.count(2, 150.0, 1.0);
            world.count(1, 150.0, 2.0);
        }
        world.count(4, 150.0, 2.0);
        let Some(Baseline::Errors(errors)) = world.baselines(at(START), &[]).remove(&errors()) else { panic!("a baseline") };
        assert!(errors.at_start.abs() < 1e-9, "{errors:?}");
    }

    #[test]
    fn a_burst_before_the_deployment_excuses_no_errors_after_it() {
        let mut world = deployed_while_broken(2);
        let (_, verdict) = world.until_verdict(60, |world| world.count(1, 150.0, 90.0)).expect("a fault that lasts");
        assert_eq!(verdict.impact, Impact::ErrorRatio);
    }

    #[test]
    fn a_bad_service_that_gets_much_worse_is_still_found() {
        let mut world = deployed(15.0);
        let (after, verdict) = world.until_verdict(40, |world| world.count(1, 150.0, 45.0)).expect("errors");
        assert_eq!((after, verdict.impact), (60 + 120, Impact::FeatureBroken));
    }

    #[test]
    fn a_counter_that_resets_on_every_pod_is_no_error() {
        let mut world = deployed(1.0);
        world.count(10, 150.0, 1.0);
        (world.total, world.failed) = (20.0, 0.0);
        assert_eq!(world.until_verdict(100, |world| world.count(1, 150.0, 1.0)), None);
        assert_eq!(world.state(&errors(), Impact::FeatureBroken), FindingState::Passing);
    }

    #[test]
    fn the_errors_of_a_pod_that_starts_after_the_grace_time_count_from_its_first_request() {
        let mut world = deployed(1.0);
        world.count(5, 150.0, 1.0);
        world.now += 15;
        let series = |id: &str, value| Series {
            id: id.to_owned(),
            target: "pod-2".to_owned(),
            process_started: Some(at(world.now - 10)),
            route: None,
            samples: vec![Sample { at: at(world.now), value }],
        };
        let scrape = Scrape { total: vec![series("all-2", 100.0)], failed: vec![series("5xx-2", 80.0)] };
        world.read(&errors(), &Reading::Scrape(scrape));
        let numbers = world.finding(&errors(), Impact::ErrorRatio).numbers.expect("numbers");
        assert_eq!(numbers.now, Some(81.0 / 250.0));
    }

    #[test]
    fn values_that_are_no_numbers_say_nothing() {
        let mut world = deployed(1.0);
        world.count(5, 150.0, 1.0);
        for value in [f64::NAN, f64::INFINITY, -5.0].into_iter().cycle().take(60) {
            world.now += 15;
            world.scrape(value, value);
            assert_eq!(world.verdict(), None);
        }
        let state = world.state(&errors(), Impact::ErrorRatio);
        let reason = Missing::Malformed("the newest value of all is no count".to_owned());
        assert_eq!(inconclusive(&state), Some(&Inconclusive::Missing(reason)));
    }

    #[test]
    fn a_value_that_is_no_number_spoils_its_whole_scrape() {
        for (good, bad) in [(f64::NAN, 0.5), (-5.0, 0.5), (0.5, f64::NAN), (0.5, f64::INFINITY)] {
            let mut world = World::new(service_with_errors());
            let scrape = |world: &World, good: f64, bad: f64| {
                let value = |value: f64| Sample { at: at(world.now), value };
                let series = |id: &str, value| Series {
                    id: id.to_owned(),
                    target: "pod-1".to_owned(),
                    process_started: None,
                    route: None,
                    samples: vec![value],
                };
                let all = vec![series("200", value(good)), series("500", value(bad))];
                Reading::Scrape(Scrape { total: all, failed: vec![series("500", value(bad))] })
            };
            let (mut well, mut failed) = (0.0, 0.0);
            world.now = START - 3_600;
            for look in 0..360 {
                world.now += 15;
                (well, failed) = (well + 149.0, failed + 1.0);
                if look == 240 {
                    world.deploy();
                }
                let is_spoiled = (250..300).contains(&look);
                let value = |known: f64, spoiled: f64| if is_spoiled && !(0.0..1.0).contains(&spoiled) { spoiled } else { known };
                let reading = scrape(&world, value(well, good), value(failed, bad));
                world.read(&errors(), &reading);
                assert_eq!(world.verdict(), None, "{good} {bad}");
                if is_spoiled {
                    let state = world.state(&errors(), Impact::ErrorRatio);
                    assert!(matches!(inconclusive(&state), Some(Inconclusive::Missing(_))), "{state:?}");
                }
            }
            let numbers = world.finding(&errors(), Impact::FeatureBroken).numbers.expect("it is weighed");
            assert!(numbers.now.is_some_and(|now| now < 0.01), "what was counted meanwhile is made up for: {numbers:?}");
        }
    }

    #[test]
    fn samples_that_stand_still_are_stale_after_two_looks() {
        let mut world = deployed(1.0);
        world.count(8, 150.0, 150.0);
        let (total, failed) = (world.total, world.failed);
        let series = |id: &str, value| Series {
            id: id.to_owned(),
            target: "pod-1".to_owned(),
            process_started: None,
            route: None,
            samples: vec![Sample { at: at(START + 105), value }],
        };
        let old = Scrape { total: vec![series("all", total)], failed: vec![series("5xx", failed)] };
        world.now = START + 105 + 31;
        world.read(&errors(), &Reading::Scrape(old));
        let stale = Missing::Stale { age: seconds(16) };
        assert_ne!(world.state(&errors(), Impact::ErrorRatio), FindingState::Inconclusive(Inconclusive::Missing(stale)));
        world.now += 15;
        world.read(&errors(), &Reading::Scrape(Scrape { total: vec![series("all", total)], failed: vec![] }));
        assert!(matches!(inconclusive(&world.state(&errors(), Impact::ErrorRatio)), Some(Inconclusive::Missing(Missing::Stale { .. }))));
        assert_eq!(world.verdict(), None);
    }

    #[test]
    fn a_query_that_matches_nothing_says_nothing() {
        let mut world = deployed(1.0);
        for _ in 0..60 {
            world.now += 15;
            world.read(&errors(), &Reading::Scrape(Scrape::default()));
            assert_eq!(world.verdict(), None);
        }
        assert!(matches!(inconclusive(&world.state(&errors(), Impact::ErrorRatio)), Some(Inconclusive::Missing(Missing::NoSeries(_)))));
        assert!(
            matches!(world.health(), Health::Unproven(lacks) if matches!(&lacks[..], [Lack::Missing(name, Missing::NoSeries(_))] if *name == errors()))
        );
    }

    #[test]
    fn a_source_that_is_away_in_the_middle_stops_the_clock_and_nothing_else() {
        let mut world = deployed(1.0);
        world.count(8, 150.0, 90.0);
        assert_eq!(world.gate(&errors(), Impact::ErrorRatio), Some(Gate::Hold));
        world.miss(&errors(), 30, 15);
        assert!(matches!(inconclusive(&world.state(&errors(), Impact::ErrorRatio)), Some(Inconclusive::Missing(_))));
        assert_eq!(world.evidence.blind(&world.service, at(world.now), seconds(120)).len(), 1);
        world.count(1, 150.0, 90.0);
        assert_eq!(world.gate(&errors(), Impact::ErrorRatio), Some(Gate::Hold));
        assert!(world.evidence.blind(&world.service, at(world.now), seconds(120)).is_empty());
        world.count(2, 150.0, 90.0);
        assert_eq!(world.verdict(), None);
        world.count(1, 150.0, 90.0);
        assert_eq!(world.verdict().map(|verdict| verdict.impact), Some(Impact::ErrorRatio));
    }

    #[test]
    fn a_source_that_falls_silent_can_not_speak_for_a_rollback() {
        let mut world = deployed(1.0);
        world.until_verdict(40, |world| world.count(1, 150.0, 90.0)).expect("errors");
        world.now += 56;
        assert_eq!(world.verdict(), None);
        assert!(matches!(inconclusive(&world.state(&errors(), Impact::ErrorRatio)), Some(Inconclusive::Missing(Missing::Stale { .. }))));
    }

    #[test]
    fn a_burst_that_passes_is_no_reason() {
        let mut world = deployed(1.0);
        world.count(20, 150.0, 1.0);
        world.count(4, 150.0, 90.0);
        assert_eq!(world.gate(&errors(), Impact::ErrorRatio), Some(Gate::Persistence));
        assert_eq!(world.until_verdict(60, |world| world.count(1, 150.0, 1.0)).map(|(_, verdict)| verdict.impact), None);
    }

    #[test]
    fn suspicion_blocks_the_proof_for_ten_minutes() {
        let mut world = deployed(1.0);
        world.count(20, 150.0, 1.0);
        world.count(4, 150.0, 90.0);
        world.count(20, 150.0, 1.0);
        assert!(matches!(world.health(), Health::Unproven(lacks) if lacks.contains(&Lack::Suspect(errors()))));
    }

    #[test]
    fn a_service_that_is_bad_for_minutes_by_itself_gets_a_longer_hold() {
        let mut world = World::new(service_with_errors());
        world.now = START - 3_600;
        world.count_now(0.0, 0.0);
        world.count(100, 150.0, 1.0);
        world.count(8, 150.0, 100.0);
        world.count(132, 150.0, 1.0);
        world.deploy();
        let (after, _) = world.until_verdict(116, |world| world.count(1, 150.0, 140.0)).expect("errors");
        assert!(after >= 60 + (2 * 8 + 1) * 15, "{after}");
    }

    /// A day with one outage of ten minutes in it; then a deployment.
    fn deployed_the_day_after_an_outage() -> World {
        deployed_the_day_after_an_outage_of(40)
    }

    fn deployed_the_day_after_an_outage_of(intervals: u32) -> World {
        let mut world = World::new(service_with_errors());
        world.now = START - 23 * 3_600;
        world.count_now(0.0, 0.0);
        world.count(1_500, 150.0, 1.0);
        world.count(intervals, 150.0, 120.0);
        world.count(23 * 240 - 1_500 - intervals, 150.0, 1.0);
        world.deploy();
        world
    }

    #[test]
    fn a_long_outage_yesterday_makes_nobody_blind_today() {
        for minutes in [30, 60, 110] {
            for (failed, latest) in [(150.0, 60 + 630), (90.0, 60 + 630), (30.0, 60 + 630)] {
                let mut world = deployed_the_day_after_an_outage_of(4 * minutes);
                let found = world.until_verdict(116, |world| world.count(1, 150.0, failed)).map(|(after, _)| after);
                assert!(found.is_some_and(|after| after <= latest), "{minutes} min, then {failed} of 150: {found:?}");
            }
        }
    }

    #[test]
    fn an_outage_yesterday_is_no_measure_for_how_long_a_tenth_of_errors_lasts() {
        let mut world = deployed_the_day_after_an_outage();
        let (after, verdict) = world.until_verdict(116, |world| world.count(1, 150.0, 15.0)).expect("errors");
        assert_eq!((after, verdict.impact), (60 + 120, Impact::FeatureBroken));
        let numbers = verdict.decisive().and_then(|finding| finding.numbers.clone()).expect("numbers");
        assert_eq!(numbers.hold, seconds(120));
    }

    #[test]
    fn what_is_like_the_outage_yesterday_has_to_outlast_it_and_so_has_what_is_left_of_it() {
        let mut world = deployed_the_day_after_an_outage();
        let (after, _) = world.until_verdict(116, |world| world.count(1, 150.0, 45.0)).expect("errors");
        assert_eq!(after, 60 + 600);
        let mut world = deployed_the_day_after_an_outage();
        world.count(6, 150.0, 120.0);
        assert_eq!(world.until_verdict(20, |world| world.count(1, 150.0, 15.0)), None);
    }

    #[test]
    fn what_one_version_after_another_found_and_left_so_is_how_the_service_is() {
        let begin = |others_since: &[i64]| {
            let mut ends: Vec<i64> = others_since.iter().skip(1).copied().collect();
            ends.push(START);
            let excluded: Vec<_> = others_since.iter().zip(ends).map(|(from, until)| (at(*from), at(until))).collect();
            let mut world = World::new(service_with_errors());
            world.now = START - 3 * 3_600;
            world.count_now(0.0, 0.0);
            world.count(720 - 480, 150.0, 1.0);
            world.count(480, 150.0, 60.0);
            let Some(Baseline::Errors(errors)) = world.baselines(at(START), &excluded).remove(&errors()) else { panic!("a baseline") };
            errors.upper
        };
        let (two_hours, half_an_hour) = (START - 7_200, START - 1_800);
        assert!(begin(&[two_hours]) > 0.35, "an hour of it is no history, the next one is");
        assert!(begin(&[two_hours, START - 5_000, half_an_hour]) > 0.35, "whoever found it so");
        assert!(begin(&[two_hours, START - 3_000]) > 0.35);
        let mut world = World::new(service_with_errors());
        world.now = START - 3_600;
        world.count_now(0.0, 0.0);
        world.count(120, 150.0, 1.0);
        world.count(120, 150.0, 60.0);
        let baseline = world.baselines(at(START), &[(at(half_an_hour), at(START))]).remove(&errors());
        let Some(Baseline::Errors(errors)) = baseline else { panic!("a baseline") };
        assert!(errors.upper < 0.05, "what the version before broke just now is its own doing: {}", errors.upper);
    }

    #[test]
    fn a_history_of_raw_samples_and_one_of_own_looks_are_the_same_history() {
        let mut world = World::new(service_with_errors());
        world.history_of_errors(3.0);
        let own = world.baselines(at(START), &[]).remove(&errors()).expect("a baseline");
        let samples = |per_interval: f64| {
            (0..=240_i32).map(move |step| Sample { at: at(START - 3_600 + i64::from(step) * 15), value: f64::from(step) * per_interval })
        };
        let series = |id: &str, per_interval| Series {
            id: id.to_owned(),
            target: "pod-1".to_owned(),
            process_started: None,
            route: None,
            samples: samples(per_interval).collect(),
        };
        let history = Scrape { total: vec![series("all", 150.0)], failed: vec![series("5xx", 3.0)] };
        assert_eq!(Evidence::baseline_of_history(&world.service, &errors(), &history, at(START), &[]), own);
        let Baseline::Errors(ErrorsBaseline { requests, failed, upper, .. }) = own else { panic!("counters have a baseline of counters") };
        assert_eq!((requests, failed), (36_000.0, 720.0));
        assert!((0.02..0.04).contains(&upper), "{upper}");
    }

    #[test]
    fn what_is_recorded_of_a_baseline_and_a_verdict_can_be_read_again() {
        let mut world = deployed(1.0);
        let baselines = world.baselines(at(START), &[]);
        let text = serde_json::to_string(&baselines).expect("a baseline is JSON");
        assert!(text.len() < 2_048, "{}", text.len());
        assert_eq!(serde_json::from_str::<BTreeMap<SignalName, Baseline>>(&text).expect("a baseline"), baselines);
        let (_, verdict) = world.until_verdict(40, |world| world.count(1, 150.0, 90.0)).expect("errors");
        let text = serde_json::to_string(&verdict).expect("a verdict is JSON");
        assert_eq!(serde_json::from_str::<Verdict>(&text).expect("a verdict"), verdict);
    }
}

mod platform {
    use super::*;

    fn deployed() -> World {
        let mut world = World::new(service(&[]));
        world.now = START - 60;
        world.look(&complete());
        world.now = START;
        world.deploy();
        world
    }

    fn crash_loop(replicas: u32, restarts: u32) -> Vec<Trouble> {
        vec![Trouble::CrashLoop { replicas, restarts, reason: "exit code 1".to_owned() }]
    }

    fn until_verdict(world: &mut World, minutes: u32, workload: &Workload) -> Option<(i64, Verdict)> {
        world.until_verdict(minutes * 12, |world| {
            world.now += 5;
            world.look(workload);
        })
    }

    fn failure(verdict: &Verdict) -> Failure {
        match verdict.decisive().map(|finding| finding.state.clone()) {
            Some(FindingState::Failing(failure)) => failure,
            other => panic!("a verdict has a failing finding: {other:?}"),
        }
    }

    #[test]
    fn a_crash_loop_is_an_outage_after_the_startup_deadline() {
        let mut world = deployed();
        let (after, verdict) =
            until_verdict(&mut world, 30, &workload(Rollout::Progressing, 0, 2, crash_loop(1, 3))).expect("a crash loop");
        assert_eq!((after, verdict.onset, verdict.impact), (65, at(START + 5), Impact::CompleteOutage));
        assert!(matches!(failure(&verdict), Failure::CrashLoop(_)));
    }

    #[test]
    fn a_few_restarts_are_no_crash_loop() {
        let mut world = deployed();
        let mut few = workload(Rollout::Progressing, 0, 2, crash_loop(2, 2));
        assert_eq!(until_verdict(&mut world, 5, &few), None);
        few.replicas.updated = 10;
        few.troubles = crash_loop(4, 9);
        assert_eq!(until_verdict(&mut world, 4, &few), None);
    }

    #[test]
    fn an_image_that_can_not_be_pulled_is_found_while_the_old_replicas_serve() {
        let mut world = deployed();
        let trouble = vec![Trouble::ImagePull { image: "shop:v2".to_owned(), message: "not found".to_owned() }];
        let (after, verdict) = until_verdict(&mut world, 30, &workload(Rollout::Progressing, 0, 2, trouble)).expect("no image");
        assert_eq!(after, 65);
        assert!(matches!(failure(&verdict), Failure::CannotStart(_)));
    }

    #[test]
    fn trouble_that_goes_away_begins_anew() {
        let mut world = deployed();
        let trouble = workload(Rollout::Progressing, 0, 2, crash_loop(2, 3));
        for _ in 0..5 {
            assert_eq!(
                world.until_verdict(10, |world| {
                    world.now += 5;
                    world.look(&trouble);
                }),
                None
            );
            world.look(&workload(Rollout::Progressing, 1, 2, Vec::new()));
            world.now += 10;
            world.look(&workload(Rollout::Progressing, 1, 2, Vec::new()));
        }
    }

    #[test]
    fn a_version_that_replaces_all_others_at_once_may_take_its_time_to_start() {
        let mut world = deployed();
        let starting = Workload { ready_is_checked: true, ..workload(Rollout::Progressing, 0, 0, Vec::new()) };
        assert_eq!(until_verdict(&mut world, 9, &starting), None);
        world.look(&Workload { ready_is_checked: true, ..complete() });
        let (after, verdict) = until_verdict(&mut world, 30, &starting).expect("it was ready, and now nothing is");
        assert!(matches!(failure(&verdict), Failure::NoReplica { .. }));
        assert!((60..=70).contains(&(after - 9 * 60)), "{after}");
    }

    #[test]
    fn a_full_cluster_is_not_the_fault_of_the_version_until_it_never_gets_ready() {
        let mut world = deployed();
        let full = vec![Trouble::Unschedulable { message: "0/3 nodes available".to_owned() }];
        let (after, verdict) = until_verdict(&mut world, 30, &workload(Rollout::Progressing, 0, 2, full)).expect("never ready");
        assert_eq!((after, verdict.onset), (600, at(START)));
        assert!(matches!(failure(&verdict), Failure::NeverReady { after } if after == SignedDuration::from_mins(10)));
    }

    #[test]
    fn a_rollout_that_has_not_begun_is_not_unready() {
        let mut world = deployed();
        let mut paused = workload(Rollout::Progressing, 0, 2, Vec::new());
        paused.replicas.updated = 0;
        assert_eq!(until_verdict(&mut world, 30, &paused), None);
    }

    #[test]
    fn a_rollout_that_the_platform_gave_up_is_over() {
        let mut world = deployed();
        let given_up = workload(Rollout::Failed("progress deadline exceeded".to_owned()), 0, 2, Vec::new());
        let (after, verdict) = until_verdict(&mut world, 30, &given_up).expect("given up");
        assert_eq!((after, failure(&verdict)), (5, Failure::ProgressDeadline("progress deadline exceeded".to_owned())));
    }

    #[test]
    fn a_service_that_loses_its_last_replica_is_down() {
        let mut world = deployed();
        until_verdict(&mut world, 2, &complete());
        let (after, verdict) = until_verdict(&mut world, 30, &workload(Rollout::Progressing, 0, 0, Vec::new())).expect("no replica");
        assert_eq!((after, verdict.onset), (125 + 60, at(START + 125)));
        assert!(matches!(failure(&verdict), Failure::NoReplica { .. }));
    }

    #[test]
    fn a_service_that_was_down_before_is_only_judged_by_the_ready_deadline() {
        let mut world = World::new(service(&[]));
        world.now = START - 900;
        world.look(&workload(Rollout::Progressing, 0, 0, Vec::new()));
        world.now = START;
        world.deploy();
        let (after, verdict) = until_verdict(&mut world, 30, &workload(Rollout::Progressing, 0, 0, Vec::new())).expect("never ready");
        assert_eq!(after, 600);
        assert!(matches!(failure(&verdict), Failure::NeverReady { .. }));
    }

    #[test]
    fn a_workload_that_is_scaled_to_zero_is_no_outage() {
        let mut world = deployed();
        until_verdict(&mut world, 2, &complete());
        let mut nothing = workload(Rollout::Complete, 0, 0, crash_loop(2, 9));
        nothing.replicas = Replicas::default();
        assert_eq!(until_verdict(&mut world, 30, &nothing), None);
    }

    #[test]
    fn time_out_of_sight_does_not_count() {
        let mut world = deployed();
        let trouble = workload(Rollout::Progressing, 0, 2, crash_loop(2, 3));
        assert_eq!(until_verdict(&mut world, 1, &trouble).map(|(after, _)| after), None);
        world.evidence.lose_workload(Missing::Unreachable("connection refused".to_owned()), at(world.now));
        world.now += 600;
        assert_eq!(world.verdict(), None);
        assert!(matches!(inconclusive(&world.state(&SignalName::platform(), Impact::CompleteOutage)), Some(Inconclusive::Missing(_))));
        assert_eq!(world.evidence.blind(&world.service, at(world.now), seconds(120)).len(), 1);
        world.look(&trouble);
        assert_eq!(world.verdict(), None);
        world.now += 5;
        assert_eq!(world.verdict().map(|verdict| verdict.onset), Some(at(START + 5)));
    }

    #[test]
    fn who_begins_to_look_late_sees_for_itself() {
        let mut world = World::new(service(&[]));
        world.evidence = Evidence::new(&world.service);
        world.now = START + 1_200;
        world.evidence.watch(&world.service, DeploymentId(7), at(START), PATIENCE, at(world.now));
        world.look(&workload(Rollout::Progressing, 0, 2, Vec::new()));
        assert_eq!(world.verdict(), None);
        let (after, verdict) = until_verdict(&mut world, 30, &workload(Rollout::Progressing, 0, 2, Vec::new())).expect("never ready");
        assert_eq!(after, 1_260);
        assert!(matches!(failure(&verdict), Failure::NeverReady { .. }));
    }

    #[test]
    fn with_nothing_but_a_platform_a_complete_rollout_is_the_proof() {
        let mut world = deployed();
        world.look(&workload(Rollout::Progressing, 1, 2, Vec::new()));
        assert_eq!(world.health(), Health::Unproven(vec![Lack::Rollout]));
        world.look(&complete());
        assert_eq!(world.health(), Health::Unproven(vec![Lack::Rollout]));
        world.now += 10;
        assert_eq!(world.health(), Health::Proven { log_evidence: 0.0 });
    }

    #[test]
    fn a_crash_loop_that_flickers_ready_keeps_its_clock() {
        let mut world = deployed();
        let trouble = workload(Rollout::Progressing, 0, 0, crash_loop(2, 3));
        let found = world.until_verdict(120, |world| {
            world.now += 1;
            let flickers = world.now % 20 < 2;
            world.look(&if flickers { complete() } else { trouble.clone() });
        });
        let (after, verdict) = found.expect("a crash loop");
        assert!((60..=75).contains(&after), "{after}");
        assert!(matches!(failure(&verdict), Failure::CrashLoop(_)));
        assert_eq!(verdict.onset, at(START + 2));
    }

    #[test]
    fn a_crash_loop_that_ended_ten_seconds_ago_begins_anew() {
        let mut world = deployed();
        let trouble = workload(Rollout::Progressing, 0, 0, crash_loop(2, 3));
        for _ in 0..50 {
            world.now += 1;
            world.look(&trouble);
        }
        for _ in 0..11 {
            world.now += 1;
            world.look(&complete());
        }
        let begins = world.now + 1;
        let (_, verdict) = until_verdict(&mut world, 30, &trouble).expect("a crash loop");
        assert_eq!((world.now - begins, verdict.onset.as_second() - begins), (64, 4));
    }
}

mod recovery {
    use super::*;

    fn after_errors() -> (World, Verdict) {
        let mut world = World::new(service_with_both());
        world.history_of_probes(&[true]);
        world.history_of_errors(1.0);
        world.deploy();
        let (_, verdict) = world.until_verdict(40, |world| world.count(1, 150.0, 90.0)).expect("errors");
        world.evidence.verify(&world.service, PlanId(9), Some(&verdict), at(world.now));
        (world, verdict)
    }

    #[test]
    fn errors_that_went_away_prove_the_rollback_within_a_minute() {
        let (mut world, _) = after_errors();
        assert_eq!(world.evidence.verified(), Some(PlanId(9)));
        assert_eq!(world.recovery().len(), 2);
        world.count(1, 150.0, 1.0);
        world.probe(3, &[true]);
        assert_eq!(world.recovery(), []);
    }

    #[test]
    fn half_of_the_errors_are_no_recovery() {
        let (mut world, _) = after_errors();
        world.probe(3, &[true]);
        world.count(40, 150.0, 52.0);
        assert!(matches!(world.recovery()[..], [Lack::Evidence { count: 6000.0, .. }, ..]), "{:?}", world.recovery());
    }

    #[test]
    fn a_source_that_is_away_lacks_and_does_not_fail() {
        let (mut world, _) = after_errors();
        world.probe(3, &[true]);
        world.miss(&errors(), 2, 15);
        world.probe_now(&[true]);
        assert!(matches!(&world.recovery()[..], [Lack::Missing(name, _)] if *name == errors()), "{:?}", world.recovery());
    }

    #[test]
    fn an_outage_is_over_after_three_rounds_of_its_probe() {
        let mut world = World::new(service_with_probe());
        world.history_of_probes(&[true]);
        world.deploy();
        world.probe(12, &[true]);
        let (_, verdict) = world.until_verdict(20, |world| world.probe(1, &[false])).expect("an outage");
        world.evidence.verify(&world.service, PlanId(9), Some(&verdict), at(world.now));
        world.probe(2, &[true]);
        assert!(matches!(world.recovery()[..], [Lack::Evidence { count: 2.0, .. }]));
        world.probe(1, &[false]);
        assert_eq!(world.recovery(), [Lack::Suspect(ready())]);
        world.probe(3, &[true]);
        assert_eq!(world.recovery(), []);
    }

    #[test]
    fn a_question_that_fired_has_to_be_asked_again_and_its_answer_may_outlive_the_rollback() {
        let lost = SignalName("impact.lost_carts".to_owned());
        let kind = SignalKind::Query { impact: Impact::DataCorruption, lasting: SignedDuration::ZERO };
        let mut world = World::new(service(&[(lost.clone(), policy(kind, 15))]));
        let ask = |world: &mut World, answered: bool| {
            world.now += 15;
            let one = crate::observation::Answered { id: "{}".to_owned(), value: 3.0 };
            world.read(&lost, &Reading::Answer(if answered { vec![one] } else { Vec::new() }));
        };
        ask(&mut world, false);
        world.deploy();
        ask(&mut world, true);
        let verdict = world.verdict().expect("an answer is enough");
        let rolled_out = at(world.now);
        world.evidence.watch(&world.service, DeploymentId(8), rolled_out, PATIENCE, rolled_out);
        let baselines = world.baselines(rolled_out, &[(at(START), rolled_out)]);
        world.evidence.set_baselines(&world.service, &baselines);
        world.evidence.verify(&world.service, PlanId(9), Some(&verdict), rolled_out);
        assert!(matches!(world.recovery()[..], [Lack::Evidence { .. }]), "nobody has asked since: {:?}", world.recovery());
        ask(&mut world, true);
        assert_eq!((world.recovery(), world.verdict()), (vec![Lack::Suspect(lost.clone())], None), "it looks back");
        ask(&mut world, false);
        assert_eq!((world.recovery(), world.verdict()), (Vec::new(), None));
        ask(&mut world, true);
        assert!(world.verdict().is_some(), "this one is new");
    }

    #[test]
    fn an_operators_rollback_is_proved_by_the_platform_and_the_probes() {
        let mut world = World::new(service_with_both());
        world.history_of_probes(&[true]);
        world.evidence.verify(&world.service, PlanId(9), None, at(world.now));
        world.look(&workload(Rollout::Progressing, 1, 1, Vec::new()));
        world.probe(3, &[true]);
        assert_eq!(world.recovery(), [Lack::Rollout]);
        world.look(&complete());
        assert_eq!(world.recovery(), [Lack::Rollout]);
        world.now += 10;
        assert_eq!(world.recovery(), []);
    }

    #[test]
    fn the_target_is_watched_while_the_rollback_is_verified() {
        let (mut world, verdict) = after_errors();
        let start = at(world.now);
        let baselines = world.baselines(at(START), &[]);
        world.evidence.watch(&world.service, DeploymentId(8), start, PATIENCE, start);
        world.evidence.set_baselines(&world.service, &baselines);
        world.evidence.verify(&world.service, PlanId(9), Some(&verdict), start);
        assert_eq!(
            world.until_verdict(12, |world| world.count(1, 150.0, 90.0)).map(|(_, verdict)| verdict.impact),
            Some(Impact::ErrorRatio)
        );
        assert!(matches!(world.recovery()[..], [Lack::Evidence { .. }, ..]));
        world.evidence.unverify();
        assert_eq!((world.evidence.verified(), world.evidence.watched()), (None, Some(DeploymentId(8))));
        world.evidence.unwatch();
        assert_eq!((world.evidence.watched(), world.verdict()), (None, None));
    }
}

mod laws {
    use super::*;

    fn missing() -> impl Strategy<Value = Reading> {
        let nonsense = proptest::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300]);
        let scrape = (nonsense, any::<i64>(), any::<bool>()).prop_map(|(value, second, known)| {
            let at = Timestamp::from_second(second % 200_000_000_000).unwrap_or(Timestamp::MIN);
            let series = Series {
                id: "all".to_owned(),
                target: "pod-1".to_owned(),
                process_started: known.then_some(at),
                route: None,
                samples: vec![Sample { at, value }],
            };
            Reading::Scrape(Scrape { total: vec![series.clone()], failed: vec![series] })
        });
        proptest::strategy::Union::new([
            proptest::strategy::Just(Reading::Missing(Missing::Refused("status 503".to_owned()))).boxed(),
            proptest::strategy::Just(Reading::Missing(Missing::Partial("a store is down".to_owned()))).boxed(),
            proptest::strategy::Just(Reading::Scrape(Scrape::default())).boxed(),
            proptest::strategy::Just(Reading::Probe(ProbeRound { targets: Vec::new() })).boxed(),
            scrape.boxed(),
        ])
    }

    proptest! {
        #[test]
        fn missing_readings_never_give_a_verdict(readings in proptest::collection::vec((missing(), any::<bool>()), 1..300), bad in 0_u32..7) {
            let mut world = World::new(service_with_both());
            world.history_of_probes(&[true]);
            world.history_of_errors(1.0);
            world.deploy();
            world.count(4 + bad, 150.0, 150.0 * f64::from(u8::from(bad < 4)));
            for (reading, of_errors) in readings {
                world.now += 5;
                let signal = if of_errors { errors() } else { ready() };
                world.read(&signal, &reading);
                let verdict = world.verdict();
                prop_assert!(verdict.is_none(), "{verdict:?}");
                prop_assert!(matches!(world.health(), Health::Unproven(_)));
            }
        }

        #[test]
        fn no_samples_whatever_break_the_judge(samples in proptest::collection::vec((any::<i64>(), any::<f64>(), any::<f64>(), any::<i32>()), 1..100)) {
            let mut world = World::new(service_with_errors());
            world.history_of_errors(1.0);
            world.deploy();
            for (second, total, failed, started) in samples {
                let time = at(second % 200_000_000_000);
                let series = |id: &str, value| Series {
                    id: id.to_owned(),
                    target: "pod-1".to_owned(),
                    process_started: Some(at(i64::from(started))),
                    route: None,
                    samples: vec![Sample { at: time, value }, Sample { at: at(world.now), value: value.abs() }],
                };
                let scrape = Scrape { total: vec![series("all", total)], failed: vec![series("5xx", failed)] };
                world.read(&errors(), &Reading::Scrape(scrape.clone()));
                let Baseline::Errors(baseline) = Evidence::baseline_of_history(&world.service, &errors(), &scrape, time, &[(time, time)]) else {
                    panic!("counters have a baseline of counters")
                };
                prop_assert!((0.0..=1.0).contains(&baseline.upper) && baseline.cluster.is_finite());
                for finding in world.evidence.findings(&world.service, time) {
                    let finite = finding.numbers.is_none_or(|numbers| numbers.log_evidence.is_finite() && numbers.count.is_finite());
                    prop_assert!(finite);
                }
                world.now += 15;
            }
        }
    }

    /// A generator of even numbers between 0 and 1 (splitmix64, Steele et al. 2014): the same on every machine.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits")) / f64::from(u32::MAX)
        }

        /// How many of rare events happen where `mean` are expected (Knuth).
        fn poisson(&mut self, mean: f64) -> f64 {
            let (mut product, mut events) = (self.next(), 0.0);
            while product > (-mean).exp() {
                product *= self.next();
                events += 1.0;
            }
            events
        }
    }

    /// What every deployment is told apart from: the share of requests that fails in the next interval.
    type Share = fn(&mut Chance, &mut u32) -> f64;

    fn steady(_: &mut Chance, _: &mut u32) -> f64 {
        0.01
    }

    /// Six bursts an hour, of about half a minute, in which a third fails.
    fn bursty(chance: &mut Chance, left: &mut u32) -> f64 {
        if *left == 0 && chance.next() < 6.0 / 240.0 {
            *left = 1 + u32::from(chance.next() < 0.5) + u32::from(chance.next() < 0.5);
        }
        let burst = *left > 0;
        *left = left.saturating_sub(1);
        if burst { 0.33 } else { 0.005 }
    }

    /// Windows in which nothing happens that didn't happen before, at ten requests per second; 50 of them for each hour of history, because
    /// the history takes more time than the window.
    fn false_alarms(windows: u64, seed: u64, share: Share) -> Vec<Impact> {
        let (mut chance, mut left) = (Chance(seed), 0);
        let mut alarms = Vec::new();
        let mut count = |world: &mut World| {
            let mean = 150.0 * share(&mut chance, &mut left);
            let failed = chance.poisson(mean);
            world.count(1, 150.0, failed.min(150.0));
        };
        for _ in 0..windows / 50 {
            let mut world = World::new(service_with_errors());
            world.now = START - 3_600;
            world.count_now(0.0, 0.0);
            (0..240).for_each(|_| count(&mut world));
            let baselines = world.baselines(at(START), &[]);
            for _ in 0..50 {
                let start = at(world.now);
                world.evidence.watch(&world.service, DeploymentId(7), start, PATIENCE, start);
                world.evidence.set_baselines(&world.service, &baselines);
                let alarm = world.until_verdict(120, &mut count);
                alarms.extend(alarm.map(|(_, verdict)| verdict.impact));
            }
        }
        alarms
    }

    #[test]
    fn two_thousand_quiet_windows_give_no_alarm() {
        assert_eq!(false_alarms(2_000, 1, steady), []);
    }

    #[test]
    fn five_hundred_windows_of_a_service_with_bursts_give_no_alarm() {
        assert_eq!(false_alarms(500, 3, bursty), []);
    }
}
