//! What a replay makes of the real things: a Prometheus that keeps the samples, and the ledger of a daemon that ran.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::host::Host;
use crate::parts::{Process, free_port, http_get, wait_for};

/// Runs `rollbackd replay`.
fn replay(config: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollbackd"));
    command.arg("--config").arg(config).args(["--output", "json", "replay"]).args(arguments);
    let output = command.stdin(Stdio::null()).output().expect("the binary was built");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Everything that was decided.
fn told(report: &Value) -> Vec<[String; 6]> {
    let fields = ["service", "decision", "decided", "severity", "why", "promoted"];
    let deployments = report["deployments"].as_array().expect("a list");
    deployments.iter().map(|judged| fields.map(|field| judged[field].to_string())).collect()
}

/// Six hours of a shop whose fifth one brings a bad version: counters of two targets, one of which restarts, and a histogram.
fn recorded(begin: i64) -> String {
    let (mut text, bounds) = (String::new(), ["0.1", "0.25", "0.5", "1", "+Inf"]);
    let (mut counts, mut sum, mut below) = ([[0_i64; 2]; 2], 0.0, [0_i64; 5]);
    for at in (begin..begin + 6 * 3600).step_by(15) {
        let is_bad = at > begin + 5 * 3600;
        for (target, count) in counts.iter_mut().enumerate() {
            if target == 1 && at == begin + 3 * 3600 {
                *count = [0, 0];
            }
            let failed = if is_bad { 60 } else { i64::from(at % 120 == 0) };
            *count = [count[0] + 100 - failed, count[1] + failed];
            for (code, value) in ["200", "503"].iter().zip(*count) {
                let _ =
                    writeln!(text, "http_requests_total{{app=\"web\",job=\"shop\",instance=\"{target}\",code=\"{code}\"}} {value} {at}");
            }
        }
        let duration = if is_bad { 0.7 } else { 0.2 };
        sum += 100.0 * duration;
        let labels = "app=\"web\",job=\"shop\",instance=\"0\"";
        for (count, bound) in below.iter_mut().zip(bounds) {
            *count += if duration <= bound.parse().unwrap_or(f64::INFINITY) { 100 } else { 0 };
            let _ = writeln!(text, "http_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count} {at}");
        }
        let _ = writeln!(text, "http_request_duration_seconds_sum{{{labels}}} {sum} {at}");
        let _ = writeln!(text, "http_request_duration_seconds_count{{{labels}}} {} {at}", below[4]);
    }
    // Prometheus takes a file series by series or by time, but wants the lines of a metric together.
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_by_key(|line| line.split('{').next());
    lines.join("\n") + "\n# EOF\n"
}

#[test]
#[ignore = "needs the bed: run tests/run"]
fn the_same_samples_from_a_file_and_from_a_prometheus_come_to_the_same_decisions() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let begin = (Timestamp::now().as_second() - 8 * 3600) / 60 * 60;
    fs::write(path("samples"), recorded(begin)).unwrap();
    let made = Command::new("promtool").args(["tsdb", "create-blocks-from", "openmetrics"]).arg(path("samples")).arg(path("data")).output();
    let made = made.expect("promtool comes with Prometheus");
    assert!(made.status.success(), "promtool: {}", String::from_utf8_lossy(&made.stderr));
    let port = free_port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bed/prometheus");
    let mut prometheus = Command::new(script);
    prometheus.arg(port.to_string()).arg(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let _prometheus = Process(prometheus.spawn().expect("the bed has a Prometheus"));
    wait_for("Prometheus answers", || http_get(port, "/-/ready").contains("Ready"));

    let service = |name: &str, signal: &str| {
        format!(
            "[services.{name}]\nplatform.command = {{ current = [\"true\"], deploy = [\"true\"] }}\n[services.{name}.{signal}]\nprometheus = \"main\"\n"
        )
    };
    let config = format!(
        "[prometheus.main]\nurl = \"http://127.0.0.1:{port}\"\n{}total = 'http_requests_total{{app=\"web\"}}'\nfailed = \
         'http_requests_total{{app=\"web\",code=~\"5..\"}}'\n{}histogram = 'http_request_duration_seconds{{app=\"web\"}}'\n",
        service("errors", "errors"),
        service("durations", "latency")
    );
    fs::write(path("rollbackd.toml"), config).unwrap();
    let deployed: Vec<String> =
        ["errors", "durations"].iter().flat_map(|name| [4, 5].map(|hour| format!("--deployed={name}={}", begin + hour * 3600))).collect();
    let deployed: Vec<&str> = deployed.iter().map(String::as_str).collect();

    let from_file = replay(&path("rollbackd.toml"), &[&["--samples", &path("samples").display().to_string()], &deployed[..]].concat());
    let (from, to) = (begin.to_string(), (begin + 6 * 3600).to_string());
    let from_server = replay(&path("rollbackd.toml"), &[&["--prometheus", "main", "--from", &from, "--to", &to], &deployed[..]].concat());

    let decisions: Vec<String> = told(&from_file).into_iter().map(|[service, decision, ..]| format!("{service} {decision}")).collect();
    let expected = ["durations left_alone", "errors left_alone", "durations roll_back", "errors roll_back"];
    assert_eq!(decisions, expected.map(|words| words.split(' ').map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")));
    assert_eq!(told(&from_server), told(&from_file));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn the_replay_of_the_ledger_of_a_daemon_that_ran_comes_to_its_decisions() {
    let mut host = Host::new("replay").await;
    host.deploy("v1");
    host.traffic(40);
    // What probes see is not recorded: the daemon is to decide by what is.
    host.configure("", "\n[services.web.decision]\nhold_probe_rounds = 40\n");
    let samples = host.folder.path().join("samples");
    let recorder = Recorder::begin(host.programs.address.port(), &samples);
    host.start_daemon();
    host.wait_until_known_good();
    host.deploy("v2");
    // Going back takes its time, so that whoever looks at other moments comes to the same before it is done.
    let deploy = host.programs.folder.join("deploy");
    let program = fs::read_to_string(&deploy).expect("it is a program of ours");
    fs::write(&deploy, program.replacen('\n', "\nsleep 2\n", 1)).expect("it can be written");
    host.wait_for_notice("all_clear");
    recorder.end();

    let (samples, state) = (samples.display().to_string(), host.state.display().to_string());
    let report = replay(&host.configuration(), &["--samples", &samples, "--ledger", &state]);
    let judged = report["deployments"].as_array().expect("a list").last().cloned().expect("v2 was deployed");
    assert_eq!((&judged["version"], &judged["decision"]), (&"v2".into(), &"roll_back".into()), "{report:#}");
    assert_eq!(judged["recorded"]["decision"], judged["decision"]);
    let time = |value: &Value| value.as_str().and_then(|time| time.parse::<Timestamp>().ok()).expect("a time");
    let apart = time(&judged["decided"]).duration_since(time(&judged["recorded"]["decided"])).abs();
    assert!(apart < Duration::from_secs(10).try_into().expect("short"), "{apart} apart: {judged:#}");
}

/// Scrapes a service every half second, as whoever keeps samples does.
struct Recorder {
    goes_on: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Recorder {
    fn begin(port: u16, samples: &Path) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let (watched, samples) = (goes_on.clone(), samples.to_owned());
        let thread = std::thread::spawn(move || {
            let mut text = String::new();
            while watched.load(Ordering::Relaxed) {
                let scraped = http_get(port, "/metrics");
                let at = Timestamp::now().as_millisecond();
                for line in scraped.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
                    let _ = writeln!(text, "{line} {at}");
                }
                std::thread::sleep(Duration::from_millis(500));
            }
            fs::write(samples, text).expect("a file in our folder");
        });
        Self { goes_on, thread }
    }

    fn end(self) {
        self.goes_on.store(false, Ordering::Relaxed);
        self.thread.join().expect("it does not panic");
    }
}
