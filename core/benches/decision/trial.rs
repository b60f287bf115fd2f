//! One deployment: a day of history, its window, and when the judge calls for a rollback. Time is in seconds from the deployment on.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::entry::DeploymentId;
use rollbackd_core::evidence::Evidence;
use rollbackd_core::observation::{
    Binding, Missing, ProbeOutcome, ProbeRound, Reading, Replicas, Rollout, Sample, Scrape, Series, Workload,
};
use rollbackd_core::service::{Decision, Restore, Role, Service, ServiceName, SignalKind, SignalName, SignalPolicy, Verification};
use rollbackd_core::severity::{Matrix, Response, Severity};
use rollbackd_core::version::{Version, VersionId};

use crate::chance::Chance;
use crate::latency::{self, Slowness};

/// A stretch of time with an error ratio of its own.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// When it begins.
    pub from: f64,
    /// When it is over.
    pub until: f64,
    /// The share of requests that fail on top.
    pub ratio: f64,
}

/// How a service does, before and after a deployment.
pub struct Day {
    /// Seconds from one look to the next.
    pub every: f64,
    /// Hours of history.
    pub history: f64,
    /// Requests a second, at a time.
    pub load: Box<dyn Fn(f64) -> f64>,
    /// The share of them that fails, at a time.
    pub ratio: Box<dyn Fn(f64) -> f64>,
    /// The variance of the failing share from interval to interval, relative to its square.
    pub variance: f64,
    /// What comes on top.
    pub bursts: Vec<Burst>,
    /// The share of looks that find nothing.
    pub lost: f64,
    /// The source gives nothing from, until.
    pub away: Option<(f64, f64)>,
    /// The pods restart at the deployment, and counters with them.
    pub restarts: bool,
    /// Some samples are no numbers.
    pub nonsense: f64,
    /// When what the deployment broke begins to show.
    pub onset: f64,
    /// What probes see, if there are any: whether a round fails, at a time.
    pub probe: Option<Box<dyn Fn(f64) -> bool>>,
    /// How long requests take, if that is what is looked at.
    pub latency: Option<Slowness>,
}

impl Day {
    /// A steady service of which a day is known.
    pub fn steady(rps: f64, ratio: f64) -> Self {
        Self {
            every: 15.0,
            history: 24.0,
            load: Box::new(move |_| rps),
            ratio: Box::new(move |_| ratio),
            variance: 0.0,
            bursts: Vec::new(),
            lost: 0.0,
            away: None,
            restarts: false,
            nonsense: 0.0,
            onset: 0.0,
            probe: None,
            latency: None,
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The verdict that called for a rollback: how bad, and how many seconds after the onset.
    pub fired: Option<(Severity, f64)>,
}

const START: i64 = 1_800_000_000;
/// The window.
pub const WINDOW: f64 = 30.0 * 60.0;

/// So many seconds from the deployment on.
pub fn at(second: f64) -> Timestamp {
    let offset = SignedDuration::try_from_secs_f64(second).expect("a time of a day");
    Timestamp::from_second(START).expect("a time in range") + offset
}

fn errors() -> SignalName {
    SignalName("errors".to_owned())
}

fn health() -> SignalName {
    SignalName("probe.health".to_owned())
}

fn service(day: &Day) -> Service {
    let every = SignedDuration::try_from_secs_f64(day.every).expect("a cadence");
    let policy = |kind, every, has_history| SignalPolicy { kind, role: Role::Own, every, has_history, source: "the benchmark".to_owned() };
    let mut signals = BTreeMap::new();
    match (&day.probe, &day.latency) {
        (Some(_), _) => signals.insert(health(), policy(SignalKind::Probe, every, false)),
        (None, Some(_)) => {
            let (name, policy) = latency::signal(|kind| policy(kind, every, true));
            signals.insert(name, policy)
        }
        (None, None) => signals.insert(errors(), policy(SignalKind::Errors, every, true)),
    };
    let mut matrix = Matrix::default();
    // The bar is on all that could be done automatically.
    matrix.feature_broken.response = Response::RollBack;
    let history = SignedDuration::try_from_secs_f64(day.history * 3600.0).expect("a history");
    Service {
        name: ServiceName::try_from("checkout").expect("a name"),
        environment: "production".to_owned(),
        platform: "the benchmark".to_owned(),
        window: SignedDuration::from_mins(30),
        signals,
        matrix,
        decision: Decision { history, ..Decision::default() },
        verification: Verification::default(),
        restore: Restore::Template,
        dry_run: false,
        promote_on_probes: true,
        rollbacks_per_day: 3,
    }
}

/// Plays one deployment.
pub fn run(day: &Day, chance: &mut Chance) -> Outcome {
    let service = service(day);
    let mut evidence = Evidence::new(&service);
    if let Some(slowness) = &day.latency {
        return latency::run(day, slowness, &service, &mut evidence, chance);
    }
    if day.probe.is_some() { probes(day, &service, &mut evidence) } else { counters(day, &service, &mut evidence, chance) }
}

/// What calls for a rollback now, and how long after the onset that is.
pub fn verdict(service: &Service, evidence: &Evidence, now: f64, onset: f64) -> Option<(Severity, f64)> {
    let verdict = evidence.verdict(service, at(now))?;
    (verdict.response == Response::RollBack).then_some((verdict.severity, now - onset))
}

fn probes(day: &Day, service: &Service, evidence: &mut Evidence) -> Outcome {
    let fails = day.probe.as_ref().expect("asked before");
    let round = |second: f64| {
        let outcome = if fails(second) {
            ProbeOutcome::Failed("status 500".to_owned())
        } else {
            ProbeOutcome::Passed { latency: SignedDuration::from_millis(3) }
        };
        Reading::Probe(ProbeRound { targets: vec![("a".to_owned(), outcome)] })
    };
    let mut second = -day.history * 3600.0;
    while second < 0.0 {
        evidence.observe(service, &health(), &round(second), at(second));
        second += day.every;
    }
    deploy(service, evidence);
    let baseline = evidence.baseline(service, &health(), at(0.0), &[]).expect("probes have no other history");
    evidence.set_baselines(service, &BTreeMap::from([(health(), baseline)]));
    while second <= WINDOW {
        evidence.observe(service, &health(), &round(second), at(second));
        if let Some(fired) = verdict(service, evidence, second, day.onset) {
            return Outcome { fired: Some(fired) };
        }
        second += day.every;
    }
    Outcome { fired: None }
}

fn counters(day: &Day, service: &Service, evidence: &mut Evidence, chance: &mut Chance) -> Outcome {
    let mut counting = Counting::default();
    let mut history = counting.scrape();
    let mut second = -day.history * 3600.0;
    while second <= 0.0 {
        counting.go_on(day, second, chance);
        if !chance.happens(day.lost) {
            counting.sample(second, chance.happens(day.nonsense), &mut history);
        }
        second += day.every;
    }
    // The daemon looked shortly before, too.
    evidence.observe(service, &errors(), &Reading::Scrape(newest(&history)), at(0.0));
    deploy(service, evidence);
    let baseline = Evidence::baseline_of_history(service, &errors(), &history, at(0.0), &[]);
    evidence.set_baselines(service, &BTreeMap::from([(errors(), baseline)]));
    if day.restarts {
        counting = Counting { generation: 1, ..Counting::default() };
    }
    while second <= WINDOW {
        counting.go_on(day, second, chance);
        let away = day.away.is_some_and(|(from, until)| (from..until).contains(&second));
        let reading = if away {
            Reading::Missing(Missing::Unreachable("connection refused".to_owned()))
        } else if chance.happens(day.lost) {
            second += day.every;
            continue;
        } else {
            let mut scrape = counting.scrape();
            counting.sample(second, chance.happens(day.nonsense), &mut scrape);
            Reading::Scrape(scrape)
        };
        evidence.observe(service, &errors(), &reading, at(second));
        if let Some(fired) = verdict(service, evidence, second, day.onset) {
            if std::env::var("EXPLAIN").is_ok() && day.onset == 0.0 {
                for f in evidence.findings(service, at(second)) {
                    if let Some(n) = f.numbers {
                        eprintln!(
                            "FIRED {second} rps {:.2} {:?} q {:.4} now {:?} {}/{} logE {:.1} hold {} wait {:?} onset {:?}",
                            (day.load)(0.0),
                            f.impact,
                            n.tolerance,
                            n.now,
                            n.failed,
                            n.count,
                            n.log_evidence,
                            n.hold.as_secs(),
                            n.waits_for,
                            n.onset.map(|o| o.duration_since(at(0.0)).as_secs())
                        );
                    }
                }
                for b in day.bursts.iter().filter(|b| b.until > 0.0 || b.from < -86400.0 + 3600.0) {
                    eprintln!("   burst {:.0}..{:.0} {:.2}", b.from, b.until, b.ratio);
                }
                let mut l: Vec<f64> = day.bursts.iter().filter(|b| b.until < 0.0).map(|b| b.until - b.from).collect();
                l.sort_by(f64::total_cmp);
                eprintln!("   known lengths {:?}", l.iter().rev().take(5).collect::<Vec<_>>());
            }
            return Outcome { fired: Some(fired) };
        }
        second += day.every;
    }
    if std::env::var("EXPLAIN").is_ok() {
        for f in evidence.findings(service, at(second)) {
            if let Some(n) = f.numbers {
                eprintln!(
                    "QUIET rps {:.2} {:?} q {:.4} now {:?} {}/{} logE {:.1} hold {} wait {:?} onset {:?}",
                    (day.load)(0.0),
                    f.impact,
                    n.tolerance,
                    n.now,
                    n.failed,
                    n.count,
                    n.log_evidence,
                    n.hold.as_secs(),
                    n.waits_for,
                    n.onset.map(|o| o.duration_since(at(0.0)).as_secs())
                );
            }
        }
    }
    Outcome { fired: None }
}

/// The new version is up at once, and answers the platform's own check: what comes then is the judge's.
pub fn deploy(service: &Service, evidence: &mut Evidence) {
    let workload = |version: &str| Workload {
        version: Version { id: VersionId(version.to_owned()), name: format!("shop:{version}") },
        artifact: None,
        binding: Binding::Version(version.to_owned()),
        rollout: Rollout::Complete,
        replicas: Replicas { desired: 1, updated: 1, ready: 1, available: 1 },
        ready_is_checked: true,
        troubles: Vec::new(),
        record: None,
        change: None,
        unseen_for: SignedDuration::ZERO,
    };
    evidence.observe_workload(service, &workload("v1"), at(-1.0));
    evidence.observe_workload(service, &workload("v2"), at(0.0));
    evidence.watch(service, DeploymentId(1), at(0.0), SignedDuration::from_mins(10), at(0.0));
}

fn newest(history: &Scrape) -> Scrape {
    let last = |series: &Series| Series { samples: series.samples.last().copied().into_iter().collect(), ..series.clone() };
    Scrape { total: history.total.iter().map(last).collect(), failed: history.failed.iter().map(last).collect() }
}

/// The counters of the service's one pod.
#[derive(Default)]
struct Counting {
    generation: u32,
    total: f64,
    failed: f64,
}

impl Counting {
    /// Counts what happened in the interval that ends at `second`.
    fn go_on(&mut self, day: &Day, second: f64, chance: &mut Chance) {
        let middle = second - day.every / 2.0;
        let requests = chance.poisson((day.load)(middle) * day.every);
        let usual = ((day.ratio)(middle) * chance.gamma(day.variance)).min(1.0);
        let overlap = |burst: &Burst| (burst.until.min(second) - burst.from.max(second - day.every)).max(0.0) / day.every;
        let on_top: f64 = day.bursts.iter().map(|burst| burst.ratio * overlap(burst)).sum();
        self.total += requests;
        self.failed += chance.binomial(requests, (usual + on_top).min(1.0));
    }

    fn scrape(&self) -> Scrape {
        let began = if self.generation == 0 { at(-40.0 * 86_400.0) } else { at(1.0) };
        let series = |name: &str| Series {
            id: format!("{name}-{}", self.generation),
            target: format!("pod-{}", self.generation),
            process_started: Some(began),
            route: None,
            samples: Vec::new(),
        };
        Scrape { total: vec![series("all")], failed: vec![series("5xx")] }
    }

    fn sample(&self, second: f64, nonsense: bool, scrape: &mut Scrape) {
        let value = |value: f64| if nonsense { f64::NAN } else { value };
        scrape.total[0].samples.push(Sample { at: at(second), value: value(self.total) });
        scrape.failed[0].samples.push(Sample { at: at(second), value: value(self.failed) });
    }
}
