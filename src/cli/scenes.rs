//! What `status` and `explain` show in situations that operators are woken by, made by the judge itself from raw samples. The page
//! `docs/how-it-decides.md` shows one of them, and is compared with it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::baseline::{BadIntervals, Baseline, ErrorsBaseline, Span};
use rollbackd_core::decide::decide;
use rollbackd_core::entry::{Actor, Arrival, DeploymentId, Entry, Mark, MarkReason, Record};
use rollbackd_core::evidence::Evidence;
use rollbackd_core::guard::Limits;
use rollbackd_core::lifecycle::State;
use rollbackd_core::observation::{Binding, ProbeOutcome, ProbeRound, Reading, Replicas, Rollout, Sample, Scrape, Series, Workload};
use rollbackd_core::service::{
    Decision, Restore, Role, Service, ServiceName, SignalKind, SignalName, SignalPolicy, Verification,
};
use rollbackd_core::severity::{Impact, Matrix};
use rollbackd_core::verdict::{Failure, Finding, FindingState, Gate, Measure, Numbers};
use rollbackd_core::version::{ChangeKind, Version, VersionId};
use rollbackd_core::view::{self, Sight};

use super::{explain, status, text};

const WIDTH: usize = 100;

/// What is counted at one target: a route (or all of them), all requests, failed ones.
#[derive(Clone, Copy, Debug)]
struct Counted {
    route: Option<&'static str>,
    total: f64,
    failed: f64,
}

/// A service of which a new version was deployed at 12:03:00.
struct Scene {
    service: Service,
    state: State,
    limits: Limits,
    evidence: Evidence,
    now: Timestamp,
    counted: BTreeMap<SignalName, Vec<Counted>>,
}

fn deployed_at() -> Timestamp {
    "2026-11-21T12:03:00Z".parse().expect("a time")
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn signal(name: &str) -> SignalName {
    SignalName(name.to_owned())
}

fn version(name: &str) -> Version {
    Version { id: VersionId(name.to_owned()), name: format!("shop:{name}") }
}

fn policy(kind: SignalKind, every: i64) -> SignalPolicy {
    let has_history = kind == SignalKind::Errors;
    SignalPolicy { kind, role: Role::Own, every: seconds(every), has_history, source: "prometheus main".to_owned() }
}

fn service(signals: &[(&str, SignalPolicy)]) -> Service {
    Service {
        name: ServiceName::try_from("checkout").expect("a name"),
        environment: "production".to_owned(),
        platform: "kubernetes shop/checkout".to_owned(),
        window: SignedDuration::from_mins(30),
        signals: signals.iter().map(|(name, policy)| (signal(name), policy.clone())).collect(),
        matrix: Matrix::default(),
        decision: Decision::default(),
        verification: Verification::default(),
        restore: Restore::Template,
        dry_run: false,
        promote_on_probes: false,
        rollbacks_per_day: 3,
    }
}

fn errors() -> (&'static str, SignalPolicy) {
    ("errors", policy(SignalKind::Errors, 15))
}

fn ready() -> (&'static str, SignalPolicy) {
    ("probe.ready", policy(SignalKind::Probe, 5))
}

/// A day of history in which at most the share `upper` failed.
fn history(upper: f64, requests: f64, cluster: f64) -> ErrorsBaseline {
    let to = deployed_at();
    ErrorsBaseline {
        span: Span { source: "prometheus main".to_owned(), every: seconds(15), from: to - SignedDuration::from_hours(24), to },
        requests,
        failed: requests * upper * 0.8,
        intervals: 5_760,
        cluster,
        upper,
        knows_a_day: true,
        bad: vec![BadIntervals { above: 0.0, intervals: 6, longest: 0, runs: 0, cluster: 1.0 }],
        routes: BTreeMap::new(),
    }
}

impl Scene {
    fn new(service: Service, baselines: &[(&str, ErrorsBaseline)]) -> Self {
        let evidence = Evidence::new(&service);
        let mut scene = Self { service, state: State::default(), limits: Limits::default(), evidence, now: deployed_at(), counted: BTreeMap::new() };
        scene.remember();
        scene.deploy(baselines);
        scene
    }

    /// Two hours of probes that pass, and a known good version.
    fn remember(&mut self) {
        let begun = deployed_at() - SignedDuration::from_hours(2);
        self.now = begun;
        self.write(vec![Entry::LedgerBegun { ledger: "k3f9a2b1".to_owned() }, self.seen("v1", Arrival::FirstSight)]);
        let deployment = self.state.service(&self.service.name).and_then(|known| known.current).expect("v1 was seen");
        let service = self.service.name.clone();
        let reason = MarkReason::PassedWindow(deployment);
        self.write(vec![
            Entry::RolledOut { service: service.clone(), deployment },
            Entry::WindowPassed { service: service.clone(), deployment, log_evidence: 9.0 },
            Entry::Marked { service, version: version("v1").id, mark: Mark::Good, by: Actor::Daemon, reason },
        ]);
        self.look("v1", Rollout::Complete);
        for round in 0..1_440 {
            self.now = begun + seconds(5 * round);
            self.probe(true);
        }
    }

    fn deploy(&mut self, baselines: &[(&str, ErrorsBaseline)]) {
        self.now = deployed_at();
        self.look("v2", Rollout::Progressing);
        self.write(vec![self.seen("v2", Arrival::Deployed)]);
        let baselines = baselines.iter().map(|(name, baseline)| (signal(name), Baseline::Errors(baseline.clone())));
        let (service, deployment) = (self.service.name.clone(), self.deployment());
        self.write(vec![Entry::BaselineTaken { service, deployment, baselines: baselines.collect() }]);
        self.look("v2", Rollout::Complete);
        self.turn();
    }

    fn deployment(&self) -> DeploymentId {
        self.state.service(&self.service.name).and_then(|known| known.current).expect("something is deployed")
    }

    fn seen(&self, name: &str, arrival: Arrival) -> Entry {
        Entry::DeploymentSeen {
            service: self.service.name.clone(),
            environment: self.service.environment.clone(),
            version: version(name),
            artifact: None,
            arrival,
            started: self.now,
            not_before: self.now,
            change: ChangeKind::Code,
        }
    }

    fn look(&mut self, name: &str, rollout: Rollout) {
        let workload = Workload {
            version: version(name),
            artifact: None,
            binding: Binding::Object { uid: "uid".to_owned(), generation: 2 },
            rollout,
            replicas: Replicas { desired: 2, updated: 2, ready: 2, available: 2 },
            ready_is_checked: true,
            troubles: Vec::new(),
            record: None,
            change: None,
            unseen_for: SignedDuration::ZERO,
        };
        self.evidence.observe_workload(&self.service, &workload, self.now);
    }

    fn probe(&mut self, passes: bool) {
        let outcome = if passes {
            ProbeOutcome::Passed { latency: SignedDuration::from_millis(3) }
        } else {
            ProbeOutcome::Failed("status 500, expected 200".to_owned())
        };
        let round = ProbeRound { targets: vec![("http://checkout.test/healthz".to_owned(), outcome)] };
        self.evidence.observe(&self.service, &signal("probe.ready"), &Reading::Probe(round), self.now);
    }

    /// Counts requests and failed ones at a signal, of each of its routes.
    fn count(&mut self, name: &str, counts: &[(Option<&'static str>, f64, f64)]) {
        let counted = self.counted.entry(signal(name)).or_default();
        for &(route, total, failed) in counts {
            match counted.iter_mut().find(|counted| counted.route == route) {
                Some(counted) => (counted.total, counted.failed) = (counted.total + total, counted.failed + failed),
                None => counted.push(Counted { route, total, failed }),
            }
        }
        let series = |what: &str, route: Option<&str>, value| Series {
            id: format!("{what} {name} {}", route.unwrap_or_default()),
            target: "pod-1".to_owned(),
            process_started: Some(deployed_at()),
            route: route.map(str::to_owned),
            samples: vec![Sample { at: self.now, value }],
        };
        let scrape = Scrape {
            total: counted.iter().map(|one| series("all", one.route, one.total)).collect(),
            failed: counted.iter().map(|one| series("5xx", one.route, one.failed)).collect(),
        };
        self.evidence.observe(&self.service, &signal(name), &Reading::Scrape(scrape), self.now);
    }

    /// Lets the next 15 seconds pass: `own` and `others` of the requests fail.
    fn pass(&mut self, own: (f64, f64), others: (f64, f64)) {
        self.pass_on(&[(None, own.0, own.1)], others);
    }

    fn pass_on(&mut self, counts: &[(Option<&'static str>, f64, f64)], others: (f64, f64)) {
        for _ in 0..3 {
            self.now += seconds(5);
            self.probe(true);
        }
        self.count("errors", counts);
        self.count("control.neighbours", &[(None, others.0, others.1)]);
        self.turn();
    }

    /// Until 12:04:00, when the grace time is over.
    fn after_grace(mut self, own: (f64, f64), others: (f64, f64)) -> Self {
        (0..4).for_each(|_| self.pass(own, others));
        self
    }

    fn turn(&mut self) {
        for _ in 0..8 {
            let entries = decide(&self.state, &self.service, &self.limits, &mut self.evidence, self.now);
            if entries.is_empty() {
                return;
            }
            self.write(entries);
        }
    }

    fn write(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.state.apply(&Record { seq: self.state.seq + 1, at: self.now, entry });
        }
    }

    fn sight(&self) -> Sight<'_> {
        Sight { state: &self.state, policy: &self.service, limits: &self.limits, evidence: &self.evidence, now: self.now }
    }

    /// What `rollbackd status checkout` prints.
    fn status(&self) -> String {
        let services = vec![view::service(self.sight())];
        plain(&status::in_detail(&view::status(&self.state, services, 0, &[], self.now)))
    }

    /// What `rollbackd explain checkout` prints.
    fn explain(&self) -> String {
        plain(&explain::shown(&view::explain(self.sight(), None).expect("something is deployed")))
    }
}

/// Without colours.
fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[track_caller]
fn says(text: &str, sentences: &[&str]) {
    println!("{text}");
    for sentence in sentences {
        assert!(text.contains(sentence), "{sentence:?} is not in:\n{text}");
    }
}

#[test]
fn a_calm_deployment_says_first_that_nothing_speaks_against_it_and_then_what_would() {
    let calm = Scene::new(service(&[errors(), ready()]), &[("errors", history(0.006, 864_000.0, 1.6))]);
    let mut calm = calm.after_grace((150.0, 0.0), (0.0, 0.0));
    (0..16).for_each(|_| calm.pass((150.0, 1.0), (0.0, 0.0)));
    says(&calm.status(), &[]);
}

#[test]
fn at_little_traffic_it_says_how_many_failures_are_missing_and_that_it_will_be_late() {
    let quiet = Scene::new(service(&[errors()]), &[("errors", history(0.004, 1_000.0, 1.0))]);
    let mut quiet = quiet.after_grace((1.0, 0.0), (0.0, 0.0));
    for _ in 0..20 {
        quiet.pass((0.0, 0.0), (0.0, 0.0));
        quiet.pass((1.0, 1.0), (0.0, 0.0));
    }
    says(&quiet.status(), &[]);
}

#[test]
fn a_failing_deployment_says_what_is_done_about_it() {
    let failing = Scene::new(service(&[errors(), ready()]), &[("errors", history(0.006, 864_000.0, 1.6))]);
    let mut failing = failing.after_grace((150.0, 0.0), (0.0, 0.0));
    (0..3).for_each(|_| failing.pass((150.0, 90.0), (0.0, 0.0)));
    says(&failing.status(), &[]);
    (0..6).for_each(|_| failing.pass((150.0, 90.0), (0.0, 0.0)));
    says(&failing.explain(), &[]);
}

#[test]
fn what_was_bad_before_is_said_to_be_no_measure() {
    let bad = Scene::new(service(&[errors(), ready()]), &[("errors", history(0.45, 864_000.0, 1.6))]);
    let mut bad = bad.after_grace((150.0, 80.0), (0.0, 0.0));
    (0..10).for_each(|_| bad.pass((150.0, 80.0), (0.0, 0.0)));
    says(&bad.explain(), &[]);
}

fn neighbours() -> (&'static str, SignalPolicy) {
    ("control.neighbours", SignalPolicy { role: Role::Control, ..policy(SignalKind::Errors, 15) })
}

#[test]
fn what_others_suffer_too_is_said_with_what_is_granted() {
    let calm = history(0.006, 864_000.0, 1.6);
    let shared = Scene::new(service(&[errors(), ready(), neighbours()]), &[("errors", calm.clone()), ("control.neighbours", calm)]);
    let mut shared = shared.after_grace((150.0, 0.0), (150.0, 0.0));
    (0..10).for_each(|_| shared.pass((150.0, 90.0), (150.0, 15.0)));
    says(&shared.explain(), &[]);
}

#[test]
fn a_broken_route_is_named() {
    let mut calm = history(0.006, 864_000.0, 1.6);
    calm.routes = ["/", "/cart"].map(|route| (route.to_owned(), history(0.006, 400_000.0, 1.0))).into();
    let mut routes = Scene::new(service(&[errors(), ready()]), &[("errors", calm)]);
    let look = [(Some("/"), 600.0, 0.0), (Some("/cart"), 6.0, 4.0)];
    (0..8).for_each(|_| routes.pass_on(&look, (0.0, 0.0)));
    says(&routes.status(), &[]);
    (0..10).for_each(|_| routes.pass_on(&look, (0.0, 0.0)));
    says(&routes.explain(), &[]);
}

#[test]
fn without_traffic_only_probes_can_tell_and_that_is_said() {
    let idle = Scene::new(service(&[errors(), ready()]), &[("errors", history(0.004, 1_000.0, 1.0))]);
    let mut idle = idle.after_grace((0.0, 0.0), (0.0, 0.0));
    says(&idle.status(), &[]);
    (0..12).for_each(|_| idle.pass((0.0, 0.0), (0.0, 0.0)));
    says(&idle.status(), &[]);
}
