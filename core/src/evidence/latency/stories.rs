//! Stories of services whose requests take longer, or don't, told in virtual time through the public face of the evidence.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::{any, prop_assert, proptest};

use crate::baseline::{Baseline, LatencyBaseline};
use crate::entry::DeploymentId;
use crate::evidence::{Evidence, Health, Lack};
use crate::observation::{Binding, Histogram, HistogramSample, Missing, Reading, Replicas, Rollout, Workload};
use crate::outlook::Outlook;
use crate::plan::PlanId;
use crate::service::{Decision, Restore, Role, Service, ServiceName, SignalKind, SignalName, SignalPolicy, Verification};
use crate::severity::{Impact, Matrix, Severity};
use crate::verdict::{Finding, FindingState, Gate, Inconclusive, Measure, Verdict};
use crate::version::{Version, VersionId};
use crate::{view, words};

/// The deployment starts here; the history lies before.
const START: i64 = 100_000;
const USUAL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time in range")
}

fn latency() -> SignalName {
    SignalName("latency".to_owned())
}

fn service(every: i64) -> Service {
    let policy = SignalPolicy {
        kind: SignalKind::Latency,
        role: Role::Own,
        every: SignedDuration::from_secs(every),
        has_history: false,
        source: "http://checkout.test/metrics".to_owned(),
    };
    Service {
        name: ServiceName::try_from("checkout").expect("a name"),
        environment: "production".to_owned(),
        platform: "kubernetes shop/checkout".to_owned(),
        window: SignedDuration::from_mins(30),
        signals: BTreeMap::from([(latency(), policy)]),
        matrix: Matrix::default(),
        decision: Decision::default(),
        verification: Verification::default(),
        restore: Restore::Template,
        dry_run: false,
        promote_on_probes: false,
        rollbacks_per_day: 3,
    }
}

fn complete() -> Workload {
    Workload {
        version: Version { id: VersionId("2".to_owned()), name: "shop:v2".to_owned() },
        artifact: None,
        binding: Binding::Version("2".to_owned()),
        rollout: Rollout::Complete,
        replicas: Replicas { desired: 2, updated: 2, ready: 2, available: 2 },
        ready_is_checked: false,
        troubles: Vec::new(),
        record: None,
        change: None,
        unseen_for: SignedDuration::ZERO,
    }
}

/// A world with one pod that times its requests.
struct World {
    service: Service,
    evidence: Evidence,
    every: i64,
    now: i64,
    started: Option<i64>,
    bounds: Vec<f64>,
    newest: HistogramSample,
    durations: u32,
}

impl World {
    fn new(every: i64, bounds: &[f64]) -> Self {
        let service = service(every);
        let mut evidence = Evidence::new(&service);
        evidence.observe_workload(&service, &complete(), at(START - 7_300));
        let newest = HistogramSample { at: at(0), count: 0.0, sum: 0.0, below: vec![0.0; bounds.len()] };
        Self { service, evidence, every, now: START - 3_600, started: None, bounds: bounds.to_vec(), newest, durations: 0 }
    }

    /// A world that has seen an hour of ten requests a second with a median of 100 ms, and a deployment since.
    fn deployed(every: i64, bounds: &[f64]) -> Self {
        let mut world = Self::new(every, bounds);
        world.minutes(60, 0.1);
        world.deploy();
        world
    }

    fn deploy(&mut self) {
        let start = at(self.now);
        self.evidence.watch(&self.service, DeploymentId(7), start, SignedDuration::from_mins(10), start);
        let baseline = self.baseline();
        self.evidence.set_baselines(&self.service, &BTreeMap::from([(latency(), baseline)]));
    }

    fn baseline(&self) -> Baseline {
        self.evidence.baseline(&self.service, &latency(), at(self.now), &[]).expect("the source keeps no history")
    }

    fn known(&self) -> LatencyBaseline {
        match self.baseline() {
            Baseline::Latency(baseline) => baseline,
            other => panic!("durations have no other baseline: {other:?}"),
        }
    }

    /// Times one request of so many seconds.
    fn time(&mut self, requests: f64, seconds: f64) {
        self.newest.count += requests;
        self.newest.sum += requests * seconds;
        let below = self.newest.below.iter_mut().zip(&self.bounds);
        below.filter(|(_, bound)| seconds <= **bound).for_each(|(below, _)| *below += requests);
    }

    /// Times so many requests, spread from half of the median to twice as much, and a few that take eight times as long.
    fn requests(&mut self, requests: f64, median: f64) {
        for factor in [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 2.0] {
            // A service is never the same twice.
            self.durations = self.durations.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = 0.95 + 0.1 * f64::from(self.durations) / f64::from(u32::MAX);
            self.time(requests / 10.0, median * factor * noise);
        }
    }

    fn look(&mut self) {
        self.newest.at = at(self.now);
        let samples = vec![self.newest.clone()];
        self.read(&[self.histogram(samples)]);
    }

    fn histogram(&self, samples: Vec<HistogramSample>) -> Histogram {
        Histogram {
            id: "duration".to_owned(),
            target: "pod-1".to_owned(),
            process_started: self.started.map(at),
            bounds: self.bounds.clone(),
            samples,
        }
    }

    fn read(&mut self, histograms: &[Histogram]) {
        self.evidence.observe(&self.service, &latency(), &Reading::Histograms(histograms.to_vec()), at(self.now));
    }

    fn interval(&mut self, rps: f64, median: f64) {
        self.now += self.every;
        let seconds = SignedDuration::from_secs(self.every).as_secs_f64();
        self.requests(rps * seconds, median);
        self.look();
    }

    /// Lets time pass with ten requests a second of this median, in seconds.
    fn minutes(&mut self, minutes: i64, median: f64) {
        (0..minutes * 60 / self.every).for_each(|_| self.interval(10.0, median));
    }

    fn restart(&mut self) {
        self.started = Some(self.now + 1);
        self.newest = HistogramSample { at: at(self.now), count: 0.0, sum: 0.0, below: vec![0.0; self.bounds.len()] };
    }

    fn verdict(&self) -> Option<Verdict> {
        self.evidence.verdict(&self.service, at(self.now))
    }

    fn finding(&self) -> Finding {
        let findings = self.evidence.findings(&self.service, at(self.now));
        findings.into_iter().find(|finding| finding.impact == Impact::Performance).expect("each check has a finding")
    }

    fn inconclusive(&self) -> Option<Inconclusive> {
        match self.finding().state {
            FindingState::Inconclusive(why) => Some(why),
            FindingState::Passing | FindingState::Failing(_) => None,
        }
    }

    /// Steps for the rest of the window until a verdict is reached, and gives it with the seconds since the deployment.
    fn until_verdict(&mut self, mut step: impl FnMut(&mut Self)) -> Option<(i64, Verdict)> {
        while self.now < START + 1_800 {
            step(self);
            if let Some(verdict) = self.verdict() {
                return Some((self.now - START, verdict));
            }
        }
        None
    }
}

fn delay(every: i64, bounds: &[f64], median: f64) -> Option<i64> {
    World::deployed(every, bounds).until_verdict(|world| world.interval(10.0, median)).map(|(delay, _)| delay)
}

#[test]
fn twice_as_slow_is_found_after_the_grace_time_and_three_minutes() {
    let mut world = World::deployed(15, USUAL);
    let (delay, verdict) = world.until_verdict(|world| world.interval(10.0, 0.2)).expect("a verdict");
    assert_eq!((delay, verdict.impact, verdict.severity), (240, Impact::Performance, Severity::P1));
    assert!((START..=START + 90).contains(&verdict.onset.as_second()), "{}", verdict.onset);
    let numbers = verdict.decisive().and_then(|finding| finding.numbers.clone()).expect("numbers");
    assert_eq!((numbers.measure, numbers.waits_for, numbers.hold), (Measure::Seconds, None, SignedDuration::from_mins(3)));
    assert!((numbers.severity / numbers.before - 1.5).abs() < 1e-9 && (numbers.tolerance / numbers.before - 1.25).abs() < 1e-9);
    assert!(numbers.now.is_some_and(|now| (now / numbers.before - 2.0).abs() < 0.1), "{numbers:?}");
    let words = words::verdict(&verdict);
    assert!(words.contains("mean 20") && words.contains(" ms since ") && words.contains(", before 10"), "{words}");
}

#[test]
fn how_long_it_takes_at_the_latest_is_foretold() {
    for (bounds, rps) in [(USUAL, 10.0), (USUAL, 1.0), (&[0.1, 0.5, 1.0][..], 10.0)] {
        let mut world = World::new(15, bounds);
        (0..240).for_each(|_| world.interval(rps, 0.1));
        world.deploy();
        // Nothing is weighed in the grace time, nor is the interval in which it ends.
        (0..8).for_each(|_| world.interval(rps, 0.1));
        let foretold = world.finding().numbers.and_then(|numbers| numbers.expected_delay).expect("there is traffic").as_secs();
        let since = world.now - START;
        let (found, _) = world.until_verdict(|world| world.interval(rps, 0.16)).expect("a verdict");
        let took = found - since;
        assert!((took - 30..=4 * took).contains(&foretold), "{rps} a second: {foretold} s foretold, {took} s taken");
    }
    let mut quiet = World::deployed(15, USUAL);
    (0..8).for_each(|_| quiet.interval(0.0, 0.1));
    assert_eq!(quiet.finding().numbers.and_then(|numbers| numbers.expected_delay), None, "without traffic never");
}

#[test]
fn whoever_has_four_times_as_much_to_do_as_ever_before_may_be_slow() {
    let mut world = World::deployed(15, USUAL);
    assert_eq!(world.until_verdict(|world| world.interval(40.0, 0.2)), None);
    let finding = world.finding();
    let numbers = finding.numbers.clone().expect("numbers");
    assert_eq!((finding.state.clone(), numbers.waits_for), (FindingState::Passing, Some(Gate::Load)));
    let outlook = Outlook::of(&finding, &world.service, at(world.now));
    let ahead = words::outlook(&outlook, &finding, world.service.matrix.row(Impact::Performance));
    assert!(ahead.contains("when there is less to do again"), "{ahead}");
}

#[test]
fn whoever_stays_slow_when_there_is_less_to_do_again_is_found_and_so_is_who_had_as_much_to_do_before() {
    let mut world = World::deployed(15, USUAL);
    (0..40).for_each(|_| world.interval(40.0, 0.2));
    assert_eq!(world.verdict(), None);
    let (delay, _) = world.until_verdict(|world| world.interval(15.0, 0.2)).expect("a verdict");
    assert!(delay <= 600 + 300, "{delay}");
    let mut world = World::new(15, USUAL);
    world.minutes(30, 0.1);
    (0..20).for_each(|_| world.interval(20.0, 0.1));
    world.minutes(25, 0.1);
    world.deploy();
    assert_eq!(world.until_verdict(|world| world.interval(40.0, 0.2)).map(|(delay, _)| delay), Some(240));
}

#[test]
fn a_slowdown_is_found_at_every_cadence_and_with_hardly_any_buckets() {
    assert_eq!(delay(15, USUAL, 0.3), Some(240));
    for every in [30, 60] {
        let delay = delay(every, USUAL, 0.2).expect("a verdict");
        assert!((240..=360).contains(&delay), "{every}: {delay}");
    }
    // No bucket tells these from before, and an hour is little to know of how often a service is slow by itself.
    let coarse = delay(15, &[0.1, 0.5, 1.0], 0.2).expect("a verdict");
    assert!((240..=540).contains(&coarse), "{coarse}");
}

#[test]
fn a_hold_of_seconds_is_a_hold_too() {
    let mut world = World::new(1, USUAL);
    world.service.decision.hold_latency = SignedDuration::from_secs(3);
    world.minutes(60, 0.1);
    world.deploy();
    let (delay, _) = world.until_verdict(|world| world.interval(20.0, 0.4)).expect("four times as slow is found");
    assert!(delay <= 70, "{delay} s, of which a minute is grace");
}

#[test]
fn a_slowdown_that_keeps_most_of_few_requests_away_is_found() {
    let mut world = World::new(15, USUAL);
    (0..240).for_each(|_| world.interval(0.3, 0.1));
    world.deploy();
    let (delay, _) = world.until_verdict(|world| world.interval(0.12, 0.4)).expect("four times as slow is found");
    assert!(delay <= 600, "{delay} s");
}

#[test]
fn a_third_slower_is_left_alone() {
    assert_eq!(delay(15, USUAL, 0.13), None);
    assert_eq!(delay(15, USUAL, 0.1), None);
}

#[test]
fn a_cold_start_is_left_alone() {
    let mut world = World::deployed(15, USUAL);
    world.minutes(2, 0.5);
    assert_eq!(world.until_verdict(|world| world.interval(10.0, 0.1)), None);
}

#[test]
fn one_slow_minute_is_left_alone_and_counts_as_suspect() {
    let mut world = World::deployed(15, USUAL);
    world.minutes(10, 0.1);
    world.minutes(1, 1.0);
    assert_eq!(world.verdict(), None);
    assert!(
        matches!(world.evidence.health(&world.service, at(world.now)), Health::Unproven(lacks) if lacks.contains(&Lack::Suspect(latency())))
    );
    assert_eq!(world.until_verdict(|world| world.interval(10.0, 0.1)), None);
}

#[test]
fn short_spells_that_are_very_slow_are_not_taken_for_something_that_lasts() {
    let mut world = World::deployed(15, USUAL);
    let mut number = 0;
    let verdict = world.until_verdict(|world| {
        number += 1;
        world.interval(10.0, if number % 4 == 0 { 0.8 } else { 0.1 });
    });
    assert_eq!(verdict, None);
}

#[test]
fn a_service_that_is_slow_for_minutes_by_itself_gets_a_longer_hold() {
    let mut world = World::new(15, USUAL);
    world.minutes(30, 0.1);
    world.minutes(2, 0.3);
    world.minutes(28, 0.1);
    world.deploy();
    let (delay, verdict) = world.until_verdict(|world| world.interval(10.0, 0.3)).expect("a verdict");
    assert!((400..=660).contains(&delay), "{delay}");
    assert!(verdict.decisive().and_then(|finding| Some(finding.numbers.as_ref()?.hold)) > Some(SignedDuration::from_mins(5)));
}

#[test]
fn what_was_as_slow_for_as_long_more_than_once_must_be_outlasted() {
    let spells = |times: u32| {
        let mut world = World::new(60, USUAL);
        world.service.decision.history = SignedDuration::from_hours(12);
        world.now = START - 720 * 60;
        for _ in 0..times {
            world.minutes(84, 0.1);
            world.minutes(12, 0.3);
        }
        world.minutes(720 - i64::from(times) * 96, 0.1);
        world.deploy();
        world.until_verdict(|world| world.interval(10.0, 0.3)).map(|(delay, _)| delay)
    };
    let (once, twice) = (spells(1).expect("one incident blinds nobody"), spells(2).expect("it lasts longer"));
    assert!(once <= 60 + 12 * 60 && twice > 60 + 24 * 60, "{once} and {twice}");
}

#[test]
fn what_has_to_be_outlasted_beyond_the_window_is_said_to_be() {
    let changes = |minutes: i64| {
        let mut world = World::new(60, USUAL);
        world.service.decision.history = SignedDuration::from_hours(12);
        world.now = START - 720 * 60;
        for _ in 0..2 {
            world.minutes(100, 0.1);
            world.minutes(minutes, 0.3);
        }
        world.minutes(720 - 2 * (100 + minutes), 0.1);
        world.deploy();
        (0..5).for_each(|_| world.interval(10.0, 0.3));
        view::finding(world.finding(), &world.service, at(world.now)).judged.expect("it is judged").changes
    };
    let (within, beyond) = (changes(12), changes(16));
    assert!(!within.contains("longer than the window"), "{within}");
    assert!(beyond.contains(", which is longer than the window"), "{beyond}");
}

#[test]
fn what_was_slow_just_before_the_deployment_is_not_its_fault() {
    let mut world = World::new(60, USUAL);
    world.service.decision.history = SignedDuration::from_hours(12);
    world.now = START - 720 * 60;
    world.minutes(710, 0.1);
    world.minutes(10, 0.2);
    world.deploy();
    assert_eq!(world.until_verdict(|world| world.interval(10.0, 0.2)), None);
    assert!(world.known().mean > 0.19, "{:?}", world.known());
}

#[test]
fn counters_that_begin_again_are_counted_from_zero() {
    let mut world = World::deployed(15, USUAL);
    world.restart();
    world.interval(10.0, 0.1);
    assert_eq!(world.until_verdict(|world| world.interval(10.0, 0.1)), None);
    let mut world = World::deployed(15, USUAL);
    world.restart();
    let (delay, _) = world.until_verdict(|world| world.interval(10.0, 0.2)).expect("a verdict");
    assert!((240..=300).contains(&delay), "{delay}");
}

#[test]
fn buckets_that_change_with_the_version_miscount_nothing() {
    for (median, found) in [(0.1, false), (0.2, true)] {
        let mut world = World::deployed(15, USUAL);
        world.bounds = vec![0.05, 0.1, 0.2, 0.4, 0.8];
        world.newest = HistogramSample { at: at(world.now), count: 9e6, sum: 9e6, below: vec![0.0, 0.0, 0.0, 0.0, 1e6] };
        let verdict = world.until_verdict(|world| world.interval(10.0, median));
        assert_eq!(verdict.is_some(), found, "{verdict:?}");
    }
}

#[test]
fn a_median_below_the_first_bound_or_above_the_last_leaves_the_mean_to_tell() {
    for median in [0.0005, 60.0] {
        let mut world = World::new(15, USUAL);
        world.minutes(60, median);
        world.deploy();
        let (delay, _) = world.until_verdict(|world| world.interval(10.0, 2.0 * median)).expect("a verdict");
        assert!((240..=540).contains(&delay), "{median}: {delay}");
        let mut world = World::new(15, USUAL);
        world.minutes(60, median);
        world.deploy();
        assert_eq!(world.until_verdict(|world| world.interval(10.0, median)), None);
    }
    let mut world = World::new(15, USUAL);
    world.minutes(60, 60.0);
    assert_eq!(world.known().slow, None);
}

#[test]
fn a_histogram_without_buckets_says_nothing() {
    let mut world = World::deployed(15, USUAL);
    world.bounds = Vec::new();
    world.newest.below = Vec::new();
    world.minutes(25, 1.0);
    assert!(matches!(world.inconclusive(), Some(Inconclusive::Missing(Missing::Malformed(_)))), "{:?}", world.finding());
    assert_eq!(world.verdict(), None);
}

#[test]
fn without_traffic_nothing_can_be_said() {
    let mut world = World::deployed(15, USUAL);
    world.minutes(2, 0.1);
    (0..60).for_each(|_| world.interval(0.0, 0.1));
    assert_eq!(world.inconclusive(), Some(Inconclusive::NoTraffic));
    assert_eq!(world.verdict(), None);
}

#[test]
fn a_short_history_is_no_measure() {
    let mut world = World::new(15, USUAL);
    world.now = START - 900;
    world.minutes(15, 0.1);
    world.deploy();
    assert_eq!(world.until_verdict(|world| world.interval(10.0, 0.5)), None);
    assert_eq!(world.inconclusive(), Some(Inconclusive::NoBaseline));
}

#[test]
fn a_source_that_falls_silent_gives_no_verdict() {
    let mut world = World::deployed(15, USUAL);
    world.minutes(3, 0.3);
    for _ in 0..40 {
        world.now += 15;
        world.evidence.observe(
            &world.service,
            &latency(),
            &Reading::Missing(Missing::Unreachable("connection refused".to_owned())),
            at(world.now),
        );
        assert_eq!(world.verdict(), None);
    }
    assert!(matches!(world.inconclusive(), Some(Inconclusive::Missing(Missing::Unreachable(_)))));
}

#[test]
fn failed_requests_that_are_fast_hide_a_slowdown_and_never_make_one() {
    let mut world = World::deployed(15, USUAL);
    let verdict = world.until_verdict(|world| {
        world.now += 15;
        world.time(75.0, 0.001);
        world.requests(75.0, 0.2);
        world.look();
    });
    assert_eq!(verdict, None);
    assert!(world.finding().numbers.is_some_and(|numbers| numbers.now.is_some_and(|now| now < 1.1 * numbers.before)));
}

#[test]
fn what_the_version_before_counted_is_not_held_against_its_successor() {
    let mut world = World::deployed(15, USUAL);
    let mut other = complete();
    other.version.id = VersionId("3".to_owned());
    other.rollout = Rollout::Progressing;
    world.evidence.observe_workload(&world.service, &other, at(world.now));
    let start = at(world.now);
    world.evidence.watch(&world.service, DeploymentId(8), start, SignedDuration::from_mins(10), start);
    let baseline = world.baseline();
    world.evidence.set_baselines(&world.service, &BTreeMap::from([(latency(), baseline)]));
    assert_eq!(world.until_verdict(|world| world.interval(10.0, 0.4)), None);
}

#[test]
fn a_version_as_fast_as_before_proves_itself() {
    let mut world = World::deployed(15, USUAL);
    world.minutes(30, 0.1);
    assert!(matches!(world.evidence.health(&world.service, at(world.now)), Health::Proven { log_evidence } if log_evidence > 3.0));
}

#[test]
fn a_rollback_helped_when_requests_are_fast_again_and_not_when_they_are_half_as_slow() {
    for (median, helped) in [(0.1, true), (0.18, false)] {
        let mut world = World::deployed(15, USUAL);
        let (_, verdict) = world.until_verdict(|world| world.interval(10.0, 0.2)).expect("a verdict");
        world.evidence.verify(&world.service, PlanId(9), Some(&verdict), at(world.now));
        assert!(matches!(world.evidence.recovery(&world.service, at(world.now))[..], [Lack::Evidence { .. }]));
        world.minutes(if helped { 2 } else { 10 }, median);
        let lacks = world.evidence.recovery(&world.service, at(world.now));
        assert_eq!(lacks.is_empty(), helped, "{lacks:?}");
    }
}

#[test]
fn evidence_on_durations_takes_two_and_a_half_kibibytes_at_most_under_the_usual_hold() {
    let mut world = World::deployed(15, USUAL);
    world.minutes(20, 0.1);
    let window = super::LatencyWindow::new(&world.service, SignedDuration::from_secs(15), at(START));
    let inside = size_of::<super::Weighing>() + 14 * (size_of::<super::Pace>() + size_of::<Timestamp>() + size_of::<SignedDuration>());
    let all = size_of_val(&window) + inside;
    assert!(all <= 5 * 1024 / 2, "{all}");
}

proptest! {
    #[test]
    fn no_samples_whatever_break_the_judge(
        samples in proptest::collection::vec((any::<i64>(), any::<f64>(), any::<f64>(), any::<f64>(), any::<f64>()), 1..60)
    ) {
        let mut world = World::deployed(15, USUAL);
        for (second, count, sum, below, bound) in samples {
            world.now += 15;
            let time = Timestamp::from_second(second % 200_000_000_000).unwrap_or(Timestamp::MIN);
            let histogram = |at| Histogram {
                id: "duration".to_owned(),
                target: "pod-1".to_owned(),
                process_started: Some(time),
                bounds: vec![bound, 0.5],
                samples: vec![HistogramSample { at, count, sum, below: vec![below, count] }],
            };
            world.read(&[histogram(time), histogram(at(world.now))]);
            world.read(&[]);
            prop_assert!(world.verdict().is_none());
            let history = [histogram(time), histogram(at(world.now))];
            let baseline = Evidence::baseline_of_histograms(&world.service, &latency(), &history, time, &[(time, time)]);
            prop_assert!(matches!(baseline, Some(Baseline::Latency(known)) if known.mean.is_finite()));
            for finding in world.evidence.findings(&world.service, at(world.now)) {
                prop_assert!(finding.numbers.is_none_or(|numbers| numbers.log_evidence.is_finite() && numbers.count.is_finite()));
            }
        }
    }
}
