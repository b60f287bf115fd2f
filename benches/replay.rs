//! How fast samples are read and judged, and with how much memory: `cargo bench --bench replay [-- MILLIONS]`.
//!
//! Rates are samples a second of processor time, so that they mean a core whatever else the machine does. The text is made up as it is read,
//! and the time for that is not counted. It is of ten pods with two series each, scraped every 15 seconds. [`CASES`] are played.
//! Memory is what the system says was taken at most until then.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rollbackd::replay::catalogue::{Catalogue, Question};
use rollbackd::replay::judge::{Deployed, World};
use rollbackd::replay::openmetrics;
use rollbackd::replay::play::{Happening, Script, play};
use rollbackd_core::guard::Limits;
use rollbackd_core::service::{Decision, Restore, Role, Service, ServiceName, SignalKind, SignalName, SignalPolicy, Verification};
use rollbackd_core::severity::Matrix;
use rollbackd_core::version::{Version, VersionId};

const BEGIN: u64 = 1_780_000_000;
const SERIES: u64 = 20;
const STEP: u64 = 15;
const HOUR: u64 = 3600;

/// What is played: how often something is deployed, and whether all of that is known beforehand.
struct Case {
    name: &'static str,
    every: u64,
    all_known: bool,
}

const CASES: [Case; 4] = [
    // Most samples are of no use to any deployment.
    Case { name: "one deployment in five weeks", every: 5 * 7 * 24 * HOUR, all_known: true },
    // Nearly all samples are history that is counted.
    Case { name: "one deployment every 41 hours", every: 41 * HOUR, all_known: true },
    // As where a version label may bring a deployment at any time: all samples may become history.
    Case { name: "one deployment every 41 hours, not known beforehand", every: 41 * HOUR, all_known: false },
    // Half of the samples are judged, look by look.
    Case { name: "one deployment an hour", every: HOUR, all_known: true },
];

/// Samples of ten pods in order of time, as text.
struct Text {
    samples: u64,
    next: u64,
    made: Vec<u8>,
    /// How long it took to make them up.
    making: Duration,
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::io::Write as _;
        let began = processor_time();
        while self.made.len() < buffer.len() && self.next < self.samples {
            let (step, series) = (self.next / SERIES, self.next % SERIES);
            let (pod, code) = (series / 2, if series % 2 == 0 { "200" } else { "503" });
            let value = if series % 2 == 0 { 150 * step } else { step / 2 };
            writeln!(
                self.made,
                "http_requests_total{{service=\"checkout\",instance=\"10.0.0.{pod}:8080\",job=\"shop\",code=\"{code}\"}} {value} {}.000",
                BEGIN + STEP * step
            )?;
            self.next += 1;
        }
        let length = self.made.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.made[..length]);
        self.made.drain(..length);
        self.making += processor_time().saturating_sub(began);
        Ok(length)
    }
}

fn main() {
    // `cargo test --all-targets` runs this, too, and measures nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let millions = std::env::args().find_map(|argument| argument.parse::<u64>().ok());
    for millions in millions.map_or_else(|| vec![1, 10], |millions| vec![millions]) {
        measure(millions * 1_000_000);
    }
}

fn measure(samples: u64) {
    let question = Question::counters(
        r#"http_requests_total{service="checkout"}"#,
        r#"http_requests_total{service="checkout",code=~"5.."}"#,
        None,
        None,
    );
    let mut catalogue = Catalogue::new(vec![question.expect("selectors")], None, Timestamp::MAX);
    let mut text = Text { samples, next: 0, made: Vec::new(), making: Duration::ZERO };
    let began = processor_time();
    let met = openmetrics::read(&mut text, &mut catalogue).expect("it is text");
    let reading = (processor_time().saturating_sub(began)).saturating_sub(text.making);
    assert_eq!((met.samples, met.damages), (samples, 0));
    rate(samples, "read from text", reading);
    for case in &CASES {
        let script = script(samples, case);
        let began = processor_time();
        let played = play(&script, &mut catalogue).expect("can be read back");
        let judging = processor_time().saturating_sub(began);
        let deployments = script.happenings.len();
        assert!(played.judge.records().len() > 2 * deployments, "each deployment was judged");
        rate(samples, &format!("judged from memory, {} ({deployments})", case.name), judging);
        rate(samples, "  from text to verdicts", reading + judging);
    }
    println!("  most memory until now: {}", most_memory());
}

/// What this thread, the only one, had of a processor.
fn processor_time() -> Duration {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = status.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("Linux tells it"))
}

fn most_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    most.map_or_else(|| "unknown".to_owned(), |most| most.trim().to_owned())
}

fn rate(samples: u64, what: &str, time: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    let rate = samples as f64 / time.as_secs_f64() / 1e6;
    println!("{samples} samples {what}: {:.2} s, {rate:.1} million a second and core", time.as_secs_f64());
}

/// A service to which something is deployed as the case says, for the first time in the middle of that time or of all there is.
fn script(samples: u64, case: &Case) -> Script {
    let name = ServiceName::try_from("checkout").expect("a name");
    let signal = SignalName("errors".to_owned());
    let cadence = SignedDuration::from_secs(15);
    let policy =
        SignalPolicy { kind: SignalKind::Errors, role: Role::Own, every: cadence, has_history: true, source: "the bench".to_owned() };
    let service = Service {
        name: name.clone(),
        environment: "production".to_owned(),
        platform: "the bench".to_owned(),
        window: SignedDuration::from_mins(30),
        signals: BTreeMap::from([(signal.clone(), policy)]),
        matrix: Matrix::default(),
        decision: Decision::default(),
        verification: Verification::default(),
        restore: Restore::Template,
        dry_run: false,
        promote_on_probes: false,
        rollbacks_per_day: 3,
    };
    let deployed = |second: u64| {
        let at = Timestamp::from_second(i64::try_from(second).expect("a time")).expect("a time in range");
        let version = Version { id: VersionId(at.to_string()), name: at.to_string() };
        (at, name.clone(), Happening::Deployed(Deployed { version, not_before: at, rolled_out: true, change: None }))
    };
    let end = BEGIN + samples / SERIES * STEP;
    let first = BEGIN + case.every.min(end - BEGIN) / 2;
    let times = (first..end).step_by(usize::try_from(case.every).expect("few seconds"));
    Script {
        policies: vec![service],
        limits: Limits::default(),
        world: World::Stays,
        watch_on: false,
        signals: vec![(name.clone(), signal, 0)],
        happenings: times.map(deployed).collect(),
        begins_well: true,
        courses: false,
        all_known: case.all_known,
    }
}
