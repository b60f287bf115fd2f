//! One deployment: a day of history, its window, and when the judge calls for a rollback. Time is in seconds from the deployment on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::baseline::Baseline;
use rollbackd_core::entry::DeploymentId;
use rollbackd_core::evidence::{Evidence, Health};
use rollbackd_core::observation::{
    Binding, Missing, ProbeOutcome, ProbeRound, Reading, Replicas, Rollout, Sample, Scrape, Series, Workload,
};
use rollbackd_core::plan::PlanId;
use rollbackd_core::service::{Decision, Restore, Role, Service, ServiceName, SignalKind, SignalName, SignalPolicy, Verification};
use rollbackd_core::severity::{Matrix, Response, Severity};
use rollbackd_core::version::{Version, VersionId};

use crate::chance::Chance;
use crate::latency::{self, Slowness};
use crate::metrics::Metrics;

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

/// What is asked of the judge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Question {
    /// When does it roll back?
    Rollback,
    /// When is the deployment proved to be good?
    Promotion,
    /// It rolls back, and then this share fails. When is the recovery proved?
    Recovery(f64),
}

/// How a service does, before and after a deployment.
pub struct Day {
    /// Seconds from one look to the next.
    pub every: f64,
    /// Hours of history.
    pub history: f64,
    /// Requests a second, at a time.
    pub load: Box<dyn Fn(f64) -> f64>,
    /// The share of them that fails by itself, at a time.
    pub ratio: Box<dyn Fn(f64) -> f64>,
    /// The share that fails from the onset on, if the deployment broke something.
    pub breaks: Option<f64>,
    /// The variance of the failing share from interval to interval, relative to its square.
    pub variance: f64,
    /// So many failures have one cause in the mean.
    pub cluster: f64,
    /// What comes on top.
    pub bursts: Vec<Burst>,
    /// The share of looks that find nothing.
    pub lost: f64,
    /// By what share of its time to the next a look may come earlier or later.
    pub jitter: f64,
    /// The source gives nothing from, until.
    pub away: Option<(f64, f64)>,
    /// The pods restart at the deployment, and counters with them.
    pub restarts: bool,
    /// Old pods serve on beside the new ones: their share of the traffic, and until when.
    pub beside: Option<(f64, f64)>,
    /// Another service on the same hosts: what comes on top of its usual errors.
    pub control: Option<Vec<Burst>>,
    /// Some samples are no numbers.
    pub nonsense: f64,
    /// When what the deployment broke begins to show.
    pub onset: f64,
    /// What probes see, if there are any: whether a round fails, at a time.
    pub probe: Option<Box<dyn Fn(f64) -> bool>>,
    /// What is asked.
    pub question: Question,
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
            breaks: None,
            variance: 0.0,
            cluster: 1.0,
            bursts: Vec::new(),
            lost: 0.0,
            jitter: 0.0,
            away: None,
            restarts: false,
            beside: None,
            control: None,
            nonsense: 0.0,
            onset: 0.0,
            probe: None,
            latency: None,
            question: Question::Rollback,
        }
    }

    /// The share that fails, without bursts. What a deployment breaks shows on the new pods only.
    fn failing(&self, second: f64, new: bool) -> f64 {
        let broken = self.breaks.filter(|_| new && second >= self.onset);
        broken.unwrap_or_else(|| (self.ratio)(second))
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// What was asked for came true: the severity of the verdict, and how many seconds after the onset.
    pub fired: Option<(Severity, f64)>,
}

/// What others want to know of a deployment.
#[derive(Default)]
pub struct Heard {
    /// What a Prometheus server would have of it.
    pub metrics: Metrics,
    /// Whether to say why.
    pub explain: bool,
    /// The numbers at the end.
    pub why: String,
}

const START: i64 = 1_800_000_000;
/// The window.
pub const WINDOW: f64 = 30.0 * 60.0;

/// How long a rollback takes, and how long its proof is waited for.
const ROLLBACK: f64 = 30.0;
const PROOF: f64 = 600.0;

/// So many seconds from the deployment on.
pub fn at(second: f64) -> Timestamp {
    let offset = SignedDuration::try_from_secs_f64(second).expect("a time of a day");
    Timestamp::from_second(START).expect("a time in range") + offset
}

/// The signal of errors.
pub fn errors() -> SignalName {
    SignalName("errors".to_owned())
}

fn health() -> SignalName {
    SignalName("probe.health".to_owned())
}

fn neighbours() -> SignalName {
    SignalName("control.neighbours".to_owned())
}

/// The service of a day. All that could be done automatically is.
pub fn service(day: &Day) -> Service {
    let every = SignedDuration::try_from_secs_f64(day.every).expect("a cadence");
    let policy = |kind, role, has_history| SignalPolicy { kind, role, every, has_history, source: "the benchmark".to_owned() };
    let mut signals = BTreeMap::new();
    match (&day.probe, &day.latency) {
        (Some(_), _) => signals.insert(health(), policy(SignalKind::Probe, Role::Own, false)),
        (None, Some(_)) => {
            let (name, policy) = latency::signal(|kind| policy(kind, Role::Own, true));
            signals.insert(name, policy)
        }
        (None, None) => signals.insert(errors(), policy(SignalKind::Errors, Role::Own, true)),
    };
    if day.control.is_some() {
        signals.insert(neighbours(), policy(SignalKind::Errors, Role::Control, true));
    }
    let mut matrix = Matrix::default();
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
        promote_on_probes: day.probe.is_some(),
        rollbacks_per_day: 3,
    }
}

/// Plays one deployment.
pub fn run(day: &Day, chance: &mut Chance, heard: &mut Heard) -> Outcome {
    let service = service(day);
    let mut evidence = Evidence::new(&service);
    let outcome = if let Some(slowness) = &day.latency {
        latency::run(day, slowness, &service, &mut evidence, chance)
    } else if day.probe.is_some() {
        probes(day, &service, &mut evidence)
    } else {
        World::new(day, &service, chance).play(&mut evidence, heard)
    };
    if heard.explain {
        heard.why = numbers(&service, &evidence, outcome);
    }
    outcome
}

/// What calls for a rollback now, and how long after the onset that is.
pub fn verdict(service: &Service, evidence: &Evidence, now: f64, onset: f64) -> Option<(Severity, f64)> {
    let verdict = evidence.verdict(service, at(now))?;
    (verdict.response == Response::RollBack).then_some((verdict.severity, now - onset))
}

/// Why it came to that, or didn't.
fn numbers(service: &Service, evidence: &Evidence, outcome: Outcome) -> String {
    let now = outcome.fired.map_or(WINDOW, |(_, delay)| delay);
    let mut text = String::new();
    for finding in evidence.findings(service, at(now)) {
        let Some(numbers) = finding.numbers else { continue };
        let onset = numbers.onset.map(|onset| onset.duration_since(at(0.0)).as_secs());
        let _ = writeln!(
            text,
            "      {:?}: tolerance {:.4}, now {:.4}, {} of {} since {onset:?} s, evidence {:.1}, hold {} s, waits for {:?}",
            finding.impact,
            numbers.tolerance,
            numbers.now.unwrap_or(f64::NAN),
            numbers.failed,
            numbers.count,
            numbers.log_evidence,
            numbers.hold.as_secs(),
            numbers.waits_for
        );
    }
    text
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

/// The new version is up at once, and answers the platform's own check: what comes then is the judge's.
pub fn deploy(service: &Service, evidence: &mut Evidence) {
    deploy_until(service, evidence, Rollout::Complete);
}

fn deploy_until(service: &Service, evidence: &mut Evidence, rollout: Rollout) {
    evidence.observe_workload(service, &workload("v1", Rollout::Complete), at(-1.0));
    evidence.observe_workload(service, &workload("v2", rollout), at(0.0));
    evidence.watch(service, DeploymentId(1), at(0.0), SignedDuration::from_mins(10), at(0.0));
}

fn workload(version: &str, rollout: Rollout) -> Workload {
    let updated = if rollout == Rollout::Complete { 2 } else { 1 };
    Workload {
        version: Version { id: VersionId(version.to_owned()), name: format!("shop:{version}") },
        artifact: None,
        binding: Binding::Version(version.to_owned()),
        rollout,
        replicas: Replicas { desired: 2, updated, ready: updated, available: 2 },
        ready_is_checked: true,
        troubles: Vec::new(),
        record: None,
        change: None,
        unseen_for: SignedDuration::ZERO,
    }
}

/// The pods of a service, and of its neighbours, and who looks at them.
struct World<'a> {
    day: &'a Day,
    service: &'a Service,
    chance: &'a mut Chance,
    pods: Vec<Pod>,
    neighbour: Pod,
    looked: f64,
}

/// What one pod counts.
struct Pod {
    name: &'static str,
    began: f64,
    new: bool,
    total: f64,
    failed: f64,
}

impl Pod {
    fn new(name: &'static str, began: f64, new: bool) -> Self {
        Self { name, began, new, total: 0.0, failed: 0.0 }
    }

    fn count(&mut self, requests: f64, failed: f64) {
        self.total += requests;
        self.failed += failed.min(requests);
    }

    fn series(&self, kind: &str, second: f64, value: f64) -> Series {
        Series {
            id: format!("{kind}-{}", self.name),
            target: self.name.to_owned(),
            process_started: Some(at(self.began)),
            route: None,
            samples: vec![Sample { at: at(second), value }],
        }
    }
}

fn overlap(bursts: &[Burst], from: f64, until: f64) -> f64 {
    let share = |burst: &Burst| (burst.until.min(until) - burst.from.max(from)).max(0.0) / (until - from);
    bursts.iter().map(|burst| burst.ratio * share(burst)).sum()
}

impl<'a> World<'a> {
    const LONG_AGO: f64 = -40.0 * 86_400.0;

    fn new(day: &'a Day, service: &'a Service, chance: &'a mut Chance) -> Self {
        let pods = vec![Pod::new("old", Self::LONG_AGO, false)];
        let neighbour = Pod::new("neighbour", Self::LONG_AGO, false);
        Self { day, service, chance, pods, neighbour, looked: -day.history * 3600.0 - day.every }
    }

    fn play(&mut self, evidence: &mut Evidence, heard: &mut Heard) -> Outcome {
        let steps = (self.day.history * 3600.0 / self.day.every).floor();
        let mut second = -steps * self.day.every;
        let (mut own, mut control) = (Scrape::default(), Scrape::default());
        while second <= 0.0 {
            let look = self.go_on(second);
            if !self.chance.happens(self.day.lost) {
                append(&mut own, self.scrape(look, &mut heard.metrics));
                append(&mut control, self.scrape_neighbour(look));
            }
            second += self.day.every;
        }
        self.deploy(evidence, &own, &control);
        heard.metrics.away = self.day.away;
        let mut fired = None;
        while second <= WINDOW {
            let look = self.go_on(second);
            if fired.is_none() {
                fired = self.look(evidence, look, &mut heard.metrics);
                if let (Some(_), Question::Recovery(afterwards)) = (fired, self.day.question) {
                    return Outcome { fired: self.recover(evidence, look, afterwards) };
                }
            } else {
                self.scrape(look, &mut heard.metrics);
            }
            second += self.day.every;
        }
        Outcome { fired }
    }

    /// Whatever is counted up to a look at about `second`; gives when that really was.
    fn go_on(&mut self, second: f64) -> f64 {
        let Self { day, chance, .. } = self;
        let look = if day.jitter > 0.0 { second + day.every * chance.uniform(-day.jitter, day.jitter) } else { second };
        let (from, middle) = (self.looked, f64::midpoint(self.looked, look));
        let requests = (day.load)(middle) * (look - from);
        let old_share = day.beside.filter(|(_, until)| middle >= 0.0 && middle < *until).map_or(0.0, |(share, _)| share);
        let on_top = overlap(&day.bursts, from, look);
        let alone = self.pods.len() == 1;
        for pod in &mut self.pods {
            let share = if alone {
                1.0
            } else if pod.new {
                1.0 - old_share
            } else {
                old_share
            };
            let requests = chance.poisson(requests * share);
            let usual = (day.failing(middle, pod.new || !day.restarts) * chance.gamma(day.variance)).min(1.0);
            let failed = chance.failures(requests, (usual + on_top).min(1.0), day.cluster);
            pod.count(requests, failed);
        }
        if let Some(bursts) = &day.control {
            let requests = chance.poisson(10.0 * (look - from));
            self.neighbour.count(requests, chance.binomial(requests, (0.002 + overlap(bursts, from, look)).min(1.0)));
        }
        self.looked = look;
        look
    }

    fn deploy(&mut self, evidence: &mut Evidence, own: &Scrape, control: &Scrape) {
        let Self { day, service, .. } = self;
        let mut baselines: BTreeMap<SignalName, Baseline> = BTreeMap::new();
        for (name, history) in [(errors(), own), (neighbours(), control)] {
            if service.signals.contains_key(&name) {
                // The daemon looked shortly before, too.
                evidence.observe(service, &name, &Reading::Scrape(newest(history)), at(0.0));
                baselines.insert(name.clone(), Evidence::baseline_of_history(service, &name, history, at(0.0), &[]));
            }
        }
        deploy_until(service, evidence, if day.beside.is_some() { Rollout::Progressing } else { Rollout::Complete });
        evidence.set_baselines(service, &baselines);
        if day.beside.is_some() {
            self.pods.push(Pod::new("new", 1.0, true));
        } else if day.restarts {
            self.pods = vec![Pod::new("new", 1.0, true)];
        }
    }

    /// One look of the daemon; gives what it was asked for.
    fn look(&mut self, evidence: &mut Evidence, look: f64, metrics: &mut Metrics) -> Option<(Severity, f64)> {
        let day = self.day;
        let alone = day.beside.is_none_or(|(_, until)| look >= until);
        evidence.observe_workload(self.service, &workload("v2", if alone { Rollout::Complete } else { Rollout::Progressing }), at(look));
        if alone {
            self.pods.retain(|pod| pod.new || !day.restarts);
        }
        if self.chance.happens(day.lost) {
            return None;
        }
        let (scrape, control) = (self.scrape(look, metrics), self.scrape_neighbour(look));
        let away = day.away.is_some_and(|(from, until)| (from..until).contains(&look));
        let missing = || Reading::Missing(Missing::Unreachable("connection refused".to_owned()));
        evidence.observe(self.service, &errors(), &if away { missing() } else { Reading::Scrape(scrape) }, at(look));
        if day.control.is_some() {
            evidence.observe(self.service, &neighbours(), &if away { missing() } else { Reading::Scrape(control) }, at(look));
        }
        if day.question == Question::Promotion {
            let proven = matches!(evidence.health(self.service, at(look)), Health::Proven { .. });
            return proven.then_some((Severity::P3, look));
        }
        verdict(self.service, evidence, look, day.onset)
    }

    /// The old version is back, and this share fails. Gives when the recovery is proved, from the end of the rollback on.
    fn recover(&mut self, evidence: &mut Evidence, fired: f64, afterwards: f64) -> Option<(Severity, f64)> {
        let verdict = evidence.verdict(self.service, at(fired))?;
        let rolled_out = fired + ROLLBACK;
        evidence.observe_workload(self.service, &workload("v1", Rollout::Complete), at(rolled_out));
        evidence.verify(self.service, PlanId(1), Some(&verdict), at(rolled_out));
        evidence.unwatch();
        self.pods = vec![Pod::new("again", rolled_out, true)];
        let mut second = fired + self.day.every;
        while second <= rolled_out + PROOF {
            let requests = self.chance.poisson((self.day.load)(second) * (second - rolled_out).clamp(0.0, self.day.every));
            let failed = self.chance.binomial(requests, afterwards);
            self.pods[0].count(requests, failed);
            if second >= rolled_out {
                evidence.observe_workload(self.service, &workload("v1", Rollout::Complete), at(second));
                let scrape = self.scrape(second, &mut Metrics::default());
                evidence.observe(self.service, &errors(), &Reading::Scrape(scrape), at(second));
                if evidence.recovery(self.service, at(second)).is_empty() {
                    return Some((verdict.severity, second - rolled_out));
                }
            }
            second += self.day.every;
        }
        None
    }

    fn scrape(&mut self, second: f64, metrics: &mut Metrics) -> Scrape {
        let nonsense = self.chance.happens(self.day.nonsense);
        let value = |value: f64| if nonsense { f64::NAN } else { value };
        let mut scrape = Scrape::default();
        for pod in &self.pods {
            metrics.take(pod.name, pod.new, second, value(pod.total), value(pod.failed));
            scrape.total.push(pod.series("all", second, value(pod.total)));
            scrape.failed.push(pod.series("5xx", second, value(pod.failed)));
        }
        scrape
    }

    fn scrape_neighbour(&self, second: f64) -> Scrape {
        if self.day.control.is_none() {
            return Scrape::default();
        }
        let pod = &self.neighbour;
        Scrape { total: vec![pod.series("all", second, pod.total)], failed: vec![pod.series("5xx", second, pod.failed)] }
    }
}

/// All that the daemon sees of a deployment.
pub struct Looks {
    baseline: Baseline,
    newest: Scrape,
    /// The looks of the window, each with its second.
    pub readings: Vec<(f64, Reading)>,
}

impl Looks {
    /// The evidence at the start of the window.
    pub fn watched(&self, service: &Service) -> Evidence {
        let mut evidence = Evidence::new(service);
        evidence.observe(service, &errors(), &Reading::Scrape(self.newest.clone()), at(0.0));
        deploy(service, &mut evidence);
        evidence.set_baselines(service, &BTreeMap::from([(errors(), self.baseline.clone())]));
        evidence
    }
}

/// What is to be seen of a day with counters.
pub fn looks_of(day: &Day, chance: &mut Chance) -> Looks {
    let service = service(day);
    let mut world = World::new(day, &service, chance);
    let mut history = Scrape::default();
    let mut second = -day.history * 3600.0;
    let mut readings = Vec::new();
    while second <= WINDOW {
        let look = world.go_on(second);
        let scrape = world.scrape(look, &mut Metrics::default());
        if second <= 0.0 {
            append(&mut history, scrape);
        } else {
            readings.push((look, Reading::Scrape(scrape)));
        }
        second += day.every;
    }
    let baseline = Evidence::baseline_of_history(&service, &errors(), &history, at(0.0), &[]);
    Looks { baseline, newest: newest(&history), readings }
}

/// Adds samples to the series that are known.
fn append(history: &mut Scrape, scrape: Scrape) {
    for (known, new) in [(&mut history.total, scrape.total), (&mut history.failed, scrape.failed)] {
        for series in new {
            match known.iter_mut().find(|one| one.id == series.id) {
                Some(one) => one.samples.extend(series.samples),
                None => known.push(series),
            }
        }
    }
}

fn newest(history: &Scrape) -> Scrape {
    let last = |series: &Series| Series {
        id: series.id.clone(),
        target: series.target.clone(),
        process_started: series.process_started,
        route: None,
        samples: series.samples.last().copied().into_iter().collect(),
    };
    Scrape { total: history.total.iter().map(last).collect(), failed: history.failed.iter().map(last).collect() }
}

/// The window of a day as it is counted at one pod, without a judge and without the time before: seconds, requests and failures of each
/// interval after the grace time.
pub fn window_only(day: &Day, chance: &mut Chance) -> Vec<(f64, f64, f64)> {
    const GRACE: f64 = 60.0;
    let mut intervals = Vec::new();
    let mut until = GRACE + day.every;
    while until <= WINDOW {
        let middle = until - day.every / 2.0;
        let requests = chance.poisson((day.load)(middle) * day.every);
        let usual = (day.failing(middle, true) * chance.gamma(day.variance)).min(1.0);
        let failed = chance.failures(requests, (usual + overlap(&day.bursts, until - day.every, until)).min(1.0), day.cluster);
        intervals.push((until, requests, failed));
        until += day.every;
    }
    intervals
}
