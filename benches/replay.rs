//! How fast samples are read and judged: `cargo bench --bench replay [-- MILLIONS]`. The text is made up as it is read, so that no disk is
//! measured but that of the temporary files; memory is what the system says was taken at most.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::time::Instant;

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

/// Samples of ten pods in order of time, as text.
struct Text {
    samples: u64,
    next: u64,
    made: Vec<u8>,
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::io::Write as _;
        while self.made.len() < buffer.len() && self.next < self.samples {
            let (step, series) = (self.next / SERIES, self.next % SERIES);
            let (pod, code) = (series / 2, if series % 2 == 0 { "200" } else { "503" });
            let value = if series % 2 == 0 { 150 * step } else { step / 2 };
            writeln!(
                self.made,
                "http_requests_total{{service=\"checkout\",instance=\"10.0.0.{pod}:8080\",job=\"shop\",code=\"{code}\"}} {value} {}",
                BEGIN + STEP * step
            )?;
            self.next += 1;
        }
        let length = self.made.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.made[..length]);
        self.made.drain(..length);
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
    let began = Instant::now();
    let text = Text { samples, next: 0, made: Vec::new() };
    let met = openmetrics::read(text, &mut catalogue).expect("it is text");
    rate("read and sorted, with making them up", met.samples, began);
    for (what, all_known) in [("played, one deployment and a day of history", true), ("played, all of it history", false)] {
        let began = Instant::now();
        let played = play(&script(samples, all_known), &mut catalogue).expect("can be read back");
        rate(what, met.samples, began);
        assert!(played.judge.records().len() > 3, "the deployment was judged");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("  {}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("memory unknown"));
}

fn rate(what: &str, samples: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    let rate = samples as f64 / seconds / 1e6;
    println!("{samples} samples {what}: {seconds:.2} s, {rate:.2} million a second");
}

fn script(samples: u64, all_known: bool) -> Script {
    let name = ServiceName::try_from("checkout").expect("a name");
    let signal = SignalName("errors".to_owned());
    let every = SignedDuration::from_secs(15);
    let policy = SignalPolicy { kind: SignalKind::Errors, role: Role::Own, every, has_history: true, source: "the bench".to_owned() };
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
    let middle = i64::try_from(BEGIN + samples / SERIES * STEP / 2).expect("a time");
    let at = Timestamp::from_second(middle).expect("a time in range");
    let version = Version { id: VersionId("v2".to_owned()), name: "v2".to_owned() };
    let deployed = Deployed { version, not_before: at, rolled_out: true, change: None };
    Script {
        policies: vec![service],
        limits: Limits::default(),
        world: World::Stays,
        watch_on: false,
        signals: vec![(name.clone(), signal, 0)],
        happenings: vec![(at, name, Happening::Deployed(deployed))],
        begins_well: true,
        courses: false,
        all_known,
    }
}
