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
use rollbackd_core::service::{Decision, Restore, Role, Service, ServiceName, SignalKind, SignalName, SignalPolicy, Verification};
use rollbackd_core::severity::{Impact, Matrix};
use rollbackd_core::verdict::{Failure, Finding, FindingState, Gate, Measure, Numbers};
use rollbackd_core::version::{ChangeKind, Version, VersionId};
use rollbackd_core::view::{self, FindingView, ServiceView, Sight};
use rollbackd_core::words;

use super::{explain, status, text};

const WIDTH: u16 = 100;

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
        failed: requests * upper * 0.98,
        intervals: 5_760,
        cluster,
        upper,
        at_start: 0.0,
        knows_a_day: true,
        bad: vec![BadIntervals {
            above: 0.0,
            intervals: 6,
            lasted: rollbackd_core::baseline::Runs::default(),
            milder_lasted: None,
            local_upper: 0.0,
            cluster: 1.0,
        }],
        routes: BTreeMap::new(),
    }
}

impl Scene {
    fn new(service: Service, baselines: &[(&str, ErrorsBaseline)]) -> Self {
        let evidence = Evidence::new(&service);
        let mut scene =
            Self { service, state: State::default(), limits: Limits::default(), evidence, now: deployed_at(), counted: BTreeMap::new() };
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

/// Shown with `--nocapture`, for real eyes.
#[track_caller]
fn says(text: &str, sentences: &[&str]) {
    println!("{text}");
    for sentence in sentences {
        assert!(text.contains(sentence), "{sentence:?} is not in:\n{text}");
    }
    let table = text.lines().skip_while(|line| !line.starts_with("CHECK  ")).take_while(|line| !line.is_empty());
    for line in table {
        assert!(line.chars().count() <= usize::from(WIDTH), "wider than a screen: {line}");
    }
}

#[test]
fn a_calm_deployment_says_first_that_nothing_speaks_against_it_and_then_what_would() {
    let calm = Scene::new(service(&[errors(), ready()]), &[("errors", history(0.006, 864_000.0, 1.6))]);
    let mut calm = calm.after_grace((150.0, 0.0), (0.0, 0.0));
    (0..16).for_each(|_| calm.pass((150.0, 1.0), (0.0, 0.0)));
    says(
        &calm.status(),
        &[
            "checkout: nothing speaks against it, by all 6 checks; watched for 5m of 30m\n",
            "errors: error ratio       passing  0.60 %  12.5 %     0.67 %  -      none yet  -\n",
            "Rolls back (P1) if at least 50 % of the requests fail for 1m; 0.67 % now; found about 1m after it begins.",
            "Asks an operator (P2) if at least 5.0 % of the requests fail for 2m; 0.67 % now",
            "Rolls back (P0) if no target answers in at least 90 % of the rounds for 30s; none now",
            "Rolls back (P0) if replicas can't start, crash again and again, or none is available, for 1m",
        ],
    );
}

#[test]
fn at_little_traffic_it_says_how_many_failures_are_missing_and_that_it_will_be_late() {
    let quiet = Scene::new(service(&[errors()]), &[("errors", history(0.004, 1_000.0, 1.0))]);
    let mut quiet = quiet.after_grace((1.0, 0.0), (0.0, 0.0));
    for failed in [0.0, 0.0, 0.0, 1.0, 1.0] {
        quiet.pass((0.0, 0.0), (0.0, 0.0));
        quiet.pass((1.0, failed), (0.0, 0.0));
    }
    says(
        &quiet.status(),
        &[
            "checkout: suspect, waits for evidence: errors: outage at 100 % since 12:04:00 UTC, 1 in 3 if nothing had changed (could be chance)\n",
            "errors: at this traffic an error ratio above 50 % would be found after about 16m, later than the 15m promised; add a probe.",
            "Rolls back (P1) if it goes on for about 5 more failing requests, 6m 15s at this traffic; 50 % is enough; 100 % now.",
            "Suspicious, 1 in 26 if nothing had changed (needed: 1 in 10000), no others to compare with",
        ],
    );
}

#[test]
fn a_failing_deployment_says_what_is_done_about_it() {
    let failing = Scene::new(service(&[errors(), ready()]), &[("errors", history(0.006, 864_000.0, 1.6))]);
    let mut failing = failing.after_grace((150.0, 0.0), (0.0, 0.0));
    (0..3).for_each(|_| failing.pass((150.0, 90.0), (0.0, 0.0)));
    says(
        &failing.status(),
        &[
            "suspect, waits for hold: errors: error ratio at 60 % since 12:04:00 UTC, 1 in 10^75 if nothing had changed (certain)\n",
            "Rolls back (P0) if at least 95 % of the requests fail for 30s; 60 % now.",
            "Certain, 1 in 10^75 if nothing had changed, hold of 1m not satisfied, no others to compare with, expected delay",
            "Rolls back (P1) if at least 50 % of the requests fail for 15s more; 60 % now.",
        ],
    );
    (0..6).for_each(|_| failing.pass((150.0, 90.0), (0.0, 0.0)));
    let explained = failing.explain();
    says(
        &explained,
        &[
            "errors: error ratio       failing  0.60 %  12.5 %     60 %  12:04:00  1 in 10^100  -\n",
            "Nothing more is needed; the matrix says: P1, roll back within 15m.",
        ],
    );
    assert!(explained.starts_with("shop:v2 is to be rolled back to shop:v1: P1 error ratio too high, seen by errors: 60 % failing since"));
}

#[test]
fn what_was_bad_before_is_said_to_be_no_measure() {
    let bad = Scene::new(service(&[errors(), ready()]), &[("errors", history(0.45, 864_000.0, 1.6))]);
    let mut bad = bad.after_grace((150.0, 80.0), (0.0, 0.0));
    (0..10).for_each(|_| bad.pass((150.0, 80.0), (0.0, 0.0)));
    says(
        &bad.explain(),
        &[
            "errors: error ratio       inconclusive  -       -          -     -      -         -\n",
            "Nothing would: too much failed before already (tolerance 60 %).",
            "errors: outage            passing       45 %    75 %       53 %",
        ],
    );
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
    says(
        &shared.explain(),
        &[
            "others suffer at the same time, so it is probably not its doing.",
            "errors: error ratio       suspect  0.60 %  12.5 %     60 %  -      none yet  attribution\n",
            "No worse than what others suffer, others suffer too (up to 80 % is granted)",
            "Others suffer too (control.neighbours), granted 80 %: rolls back (P1) only if at least 80 % of the requests fail; 60 % now.",
        ],
    );
}

#[test]
fn a_broken_route_is_named() {
    let mut calm = history(0.006, 864_000.0, 1.6);
    calm.routes = ["/", "/cart"].map(|route| (route.to_owned(), history(0.006, 400_000.0, 1.0))).into();
    let mut routes = Scene::new(service(&[errors(), ready()]), &[("errors", calm)]);
    let look = [(Some("/"), 600.0, 0.0), (Some("/cart"), 6.0, 4.0)];
    (0..8).for_each(|_| routes.pass_on(&look, (0.0, 0.0)));
    says(
        &routes.status(),
        &[
            "suspect, waits for hold: errors /cart: feature at 67 % since 12:04:00 UTC",
            "Asks an operator (P2) if at least 50 % of the requests to /cart fail for 1m more; 67 % now.",
        ],
    );
    (0..10).for_each(|_| routes.pass_on(&look, (0.0, 0.0)));
    says(&routes.explain(), &["seen by errors: 67 % failing on /cart since 12:04:00 UTC", "errors /cart: feature     failing"]);
}

#[test]
fn without_traffic_only_probes_can_tell_and_that_is_said() {
    let idle = Scene::new(service(&[errors(), ready()]), &[("errors", history(0.004, 1_000.0, 1.0))]);
    let mut idle = idle.after_grace((0.0, 0.0), (0.0, 0.0));
    says(&idle.status(), &["errors: error ratio       It waits for the first look.\n"]);
    (0..12).for_each(|_| idle.pass((0.0, 0.0), (0.0, 0.0)));
    says(
        &idle.status(),
        &[
            "checkout: nothing speaks against it, but 3 of 6 checks can't say anything; watched for 4m of 30m\n",
            "errors: without traffic an error ratio above 50 % can't be found, although that is promised within 15m; \
             only probe.ready can tell earlier.",
            "errors: outage            inconclusive  0.40 %  50 %       -    -      none yet  traffic\n",
            "errors: outage            No traffic, so nothing can be said.\n",
            "errors: error ratio       Only probes and the platform see a service that nobody asks.\n",
        ],
    );
}

#[test]
fn json_says_the_same_under_names_that_stay() {
    let quiet = Scene::new(service(&[errors()]), &[("errors", history(0.004, 1_000.0, 1.0))]);
    let mut quiet = quiet.after_grace((1.0, 0.0), (0.0, 0.0));
    for _ in 0..2 {
        quiet.pass((0.0, 0.0), (0.0, 0.0));
        quiet.pass((1.0, 1.0), (0.0, 0.0));
    }
    let shown = view::service(quiet.sight());
    let json = serde_json::to_value(&shown).expect("a view is JSON");
    assert_eq!(serde_json::from_value::<ServiceView>(json.clone()).expect("JSON is a view"), shown);
    let judged = &json["findings"][1]["judged"];
    assert_eq!(
        (&json["findings"][1]["signal"], &judged["check"], &judged["standing"]),
        (&"errors".into(), &"errors: error ratio".into(), &"suspect".into())
    );
    assert_eq!((&judged["severity"], &judged["response"], &judged["within"]), (&"P1".into(), &"roll_back".into(), &"PT15M".into()));
    assert_eq!(judged["evidence"]["certainty"], "suspicious");
    assert!(judged["evidence"]["log10_odds"].as_f64() < judged["evidence"]["log10_needed"].as_f64(), "{judged:#}");
    assert_eq!((&judged["outlook"]["level"]["level"], &judged["outlook"]["level"]["lasting"]), (&0.5.into(), &"PT1M".into()));
    let warning = &json["warnings"][0];
    assert_eq!((&warning["signal"], &warning["impact"], &warning["within"]), (&"errors".into(), &"error_ratio".into(), &"PT15M".into()));
}

/// A check on the mean duration of requests, from numbers that are made up.
fn slowness(now: f64, log_evidence: f64, waits_for: Option<Gate>) -> Finding {
    let numbers = Numbers {
        measure: Measure::Seconds,
        route: None,
        before: 0.18,
        tolerance: 0.225,
        severity: 0.27,
        now: Some(now),
        count: 4_000.0,
        failed: 3_100.0,
        onset: "2026-11-21T12:04:15Z".parse().ok(),
        log_evidence,
        log_threshold: 9.21,
        hold: SignedDuration::from_mins(3),
        waits_for,
        expected_delay: Some(SignedDuration::from_mins(4)),
        ambient: None,
    };
    let state = if waits_for.is_some() { FindingState::Passing } else { FindingState::Failing(Failure::Evidence) };
    Finding { signal: signal("latency"), impact: Impact::Performance, state, numbers: Some(numbers) }
}

#[test]
fn durations_questions_and_declarations_are_said_in_their_own_terms() {
    let lasting = SignedDuration::from_mins(1);
    let query = policy(SignalKind::Query { impact: Impact::DataCorruption, lasting }, 15);
    let service = service(&[("impact.totals", query)]);
    let plainly = |name: &str, impact, state| Finding { signal: signal(name), impact, state, numbers: None };
    let answered = Failure::Answered { about: "{shop=\"7\"}".to_owned(), value: 3.0, since: lasting };
    let declared = Failure::Declared { by: "alice".to_owned(), reason: "wrong prices".to_owned() };
    let findings = [
        slowness(0.19, 0.0, Some(Gate::Evidence)),
        slowness(0.412, 14.0, Some(Gate::Hold)),
        slowness(0.412, 53.0, None),
        plainly("impact.totals", Impact::DataCorruption, FindingState::Passing),
        plainly("impact.totals", Impact::DataCorruption, FindingState::Failing(answered)),
        plainly("declared", Impact::MinorFault, FindingState::Failing(declared)),
    ];
    let at = "2026-11-21T12:05:45Z".parse().expect("a time");
    let views: Vec<FindingView> = findings.into_iter().map(|finding| view::finding(finding, &service, at)).collect();
    says(
        &plain(&text::findings(&views)),
        &[
            "latency: slowness               suspect  180 ms  225 ms     412 ms  12:04:15  1 in 10^6   hold\n",
            "Rolls back (P1) if requests take at least 270 ms in the mean for 3m; 190 ms now; found about 4m after it begins.",
            "Rolls back (P1) if requests take at least 270 ms in the mean for 1m 30s more; 412 ms now.",
            "Rolls back (P0) if the query has an answer for 1m.",
            "{shop=\"7\"} is 3, for 1m.",
            "Declared by alice: wrong prices.",
            "Nothing more is needed; the matrix says: P3, notify only.",
        ],
    );
    assert_eq!(
        views[2].words,
        "mean 412 ms since 12:04:15 UTC, before 180 ms, tolerated up to 225 ms; odds if nothing had changed: 1 in 10^23"
    );
}

/// The trace V4 of `tests/vectors/decision.json`: requests and failed ones in each interval of 15 s after the grace time.
const TRACE: [(f64, f64); 10] = [
    (150.0, 1.0),
    (151.0, 12.0),
    (149.0, 14.0),
    (152.0, 11.0),
    (148.0, 13.0),
    (150.0, 15.0),
    (150.0, 12.0),
    (149.0, 13.0),
    (151.0, 14.0),
    (150.0, 12.0),
];

/// The service of the trace: a day of 0.5 % errors, an hour of 0.53 %, of which the limit of the hour is the higher one.
fn traced() -> Scene {
    let history = ErrorsBaseline { failed: 4_320.0, ..history(0.006_139_970_555_830_064, 864_000.0, 1.6) };
    Scene::new(service(&[errors()]), &[("errors", history)]).after_grace((150.0, 1.0), (0.0, 0.0))
}

/// Each look of the trace in a line.
fn trace() -> String {
    let mut scene = traced();
    let mut lines = vec!["look      requests  failed  odds if nothing had changed  waits for".to_owned()];
    for (requests, failed) in &TRACE[..8] {
        scene.pass((*requests, *failed), (0.0, 0.0));
        let findings = scene.evidence.findings(&scene.service, scene.now);
        let feature = findings.iter().find(|finding| finding.impact == Impact::FeatureBroken).expect("the class is judged");
        let numbers = feature.numbers.as_ref().expect("it is weighed");
        let gate = numbers.waits_for.map_or("nothing: it fires", words::gate);
        let time = scene.now.strftime("%H:%M:%S").to_string();
        lines.push(format!("{time}  {requests:<8}  {failed:<6}  {:<27}  {gate}", words::odds(numbers.log_evidence)));
    }
    lines.join("\n")
}

/// A screen of a hundred columns.
fn on_a_screen(page: &str, findings: &[FindingView]) -> String {
    let (before, _) = page.split_once("CHECK  ").expect("the checks are shown");
    plain(&format!("{before}{}", text::findings_within(findings, Some(WIDTH)))).trim_end().to_owned()
}

#[test]
fn the_worked_example_of_the_page_is_what_the_judge_says() {
    let page: &str = include_str!("../../docs/how-it-decides.md");
    let mut scene = traced();
    TRACE[..3].iter().for_each(|counts| scene.pass(*counts, (0.0, 0.0)));
    let early = view::service(scene.sight());
    let early = format!("$ rollbackd status checkout\n{}", on_a_screen(&scene.status(), &early.findings));
    TRACE[3..8].iter().for_each(|counts| scene.pass(*counts, (0.0, 0.0)));
    let late = view::explain(scene.sight(), None).expect("it is deployed").findings;
    let line = late.iter().find(|view| view.finding.impact == Impact::FeatureBroken).and_then(|view| view.judged.clone()?.evidence);
    let line = words::sentence(&line.expect("it is weighed").line);
    let missing: Vec<String> = [trace(), early, line].into_iter().filter(|block| !page.contains(block)).collect();
    let missing = missing.join("\n<<<\n");
    assert!(missing.is_empty(), "the page shows something else now; if that is meant, this is the new text:\n{missing}\n<<<");
}
