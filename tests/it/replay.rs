//! `rollbackd replay` as a stranger runs it: a configuration, a file of samples that somebody recorded, and what is printed then.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::TempDir;

const CONFIGURATION: &str = r#"
[prometheus.main]
url = "http://127.0.0.1:9090"

[services.cart]
platform.command = { current = ["true"], deploy = ["true"] }
[services.cart.errors]
prometheus = "main"
total = 'http_requests_total{service="cart"}'
failed = 'http_requests_total{service="cart",code=~"5.."}'

[services.slow]
platform.command = { current = ["true"], deploy = ["true"] }
[services.slow.latency]
prometheus = "main"
histogram = 'http_request_duration_seconds{service="slow"}'
"#;

/// 2026-01-05 08:00:00 UTC; what is bad was deployed two hours later.
const BEGIN: i64 = 1_767_600_000;
const DEPLOYED: i64 = BEGIN + 2 * 3600;
const END: i64 = DEPLOYED + 3600;
const STEP: usize = 15;

/// A folder with a configuration.
struct Folder(TempDir);

/// What a replay printed, and its exit code.
struct Answer {
    code: Option<i32>,
    said: String,
    complaint: String,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("rollbackd.toml"), CONFIGURATION).expect("a file in our folder");
        Self(folder)
    }

    /// Writes a file.
    fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.0.path().join(name), bytes).expect("a file in our folder");
        self
    }

    fn replay(&self, arguments: &[&str], input: &[u8]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollbackd"));
        command.args(["--config", "rollbackd.toml", "replay"]).args(arguments).current_dir(self.0.path());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut running = piped.expect("the binary was built");
        // It may end before it has read everything.
        let _ = running.stdin.take().expect("it is piped").write_all(input);
        let output = running.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer { code: output.status.code(), said: text(&output.stdout), complaint: text(&output.stderr) }
    }

    /// What is said as JSON of the deployment to `cart`.
    fn judged(&self, samples: &str, input: &[u8]) -> Value {
        let answer = self.replay(&["--samples", samples, "--deployed", &format!("cart={DEPLOYED}"), "--output", "json"], input);
        serde_json::from_str(&answer.said).unwrap_or_else(|error| panic!("{error}: {}", answer.complaint))
    }
}

impl Answer {
    #[track_caller]
    fn says(&self, code: i32, words: &[&str]) {
        let all = format!("{}{}", self.said, self.complaint);
        for words in words {
            assert!(all.contains(words), "{words:?} is not said:\n{all}");
        }
        assert_eq!(self.code, Some(code), "{all}");
    }
}

/// Ten requests a second to `cart`, of which 7 in 10 fail from the deployment on; in order of time, as `line` writes each of them.
fn recorded(line: impl Fn(&mut String, &str, i64, i64)) -> String {
    let (mut text, mut well, mut failed) = (String::new(), 0, 0);
    for at in (BEGIN..END).step_by(STEP) {
        let bad = if at > DEPLOYED { 105 } else { i64::from(at % 60 == 0) };
        (well, failed) = (well + 150 - bad, failed + bad);
        for (code, value) in [("200", well), ("500", failed)] {
            line(&mut text, &format!("http_requests_total{{service=\"cart\",code=\"{code}\"}}"), value, at);
        }
    }
    text
}

fn plain(text: &mut String, series: &str, value: i64, at: i64) {
    let _ = writeln!(text, "{series} {value} {at}.000");
}

/// Decision, severity, seconds after the deployment.
fn verdict(report: &Value) -> (String, String, f64) {
    let judged = &report["deployments"][0];
    let text = |name: &str| judged[name].as_str().unwrap_or_default().to_owned();
    (text("decision"), text("severity"), judged["after_seconds"].as_f64().unwrap_or(-1.0))
}

fn rolled_back() -> (String, String, f64) {
    ("roll_back".to_owned(), "P1".to_owned(), 180.0)
}

fn compressed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("memory can be written")
}

#[test]
fn a_bare_file_a_compressed_one_and_a_pipe_come_to_the_same_verdict() {
    let text = recorded(plain) + "# EOF\n";
    // Some compress in pieces, which follow each other.
    let (head, tail) = text.split_at(text.len() / 2);
    let pieces = [compressed(head), compressed(tail)].concat();
    let folder = Folder::new().with("bare.txt", &text).with("whole.gz", compressed(&text)).with("pieces.gz", &pieces);
    for (samples, input) in [("bare.txt", &[][..]), ("whole.gz", &[]), ("pieces.gz", &[]), ("-", text.as_bytes()), ("-", &pieces)] {
        let report = folder.judged(samples, input);
        assert_eq!(verdict(&report), rolled_back(), "{samples}");
        assert_eq!((&report["samples"]["lines"], &report["samples"]["whole"]), (&1441.into(), &true.into()), "{samples}");
    }
}

#[test]
fn a_compressed_file_that_is_torn_is_judged_as_far_as_it_goes_and_the_line_is_named() {
    let packed = compressed(&recorded(plain));
    let folder = Folder::new().with("torn.gz", &packed[..packed.len() * 9 / 10]);
    let answer = folder.replay(&["--samples", "torn.gz", "--deployed", &format!("cart={DEPLOYED}")], &[]);
    answer.says(1, &["1 would have been rolled back", "damaged", "line 1", "the compressed file is cut in the middle of it"]);
    let mut wrong = packed;
    let middle = wrong.len() / 2;
    wrong[middle..middle + 64].fill(0xff);
    let answer = Folder::new().with("wrong.gz", &wrong).replay(&["--samples", "wrong.gz", "--deployed", &format!("cart={DEPLOYED}")], &[]);
    answer.says(1, &["error: cannot read wrong.gz: cannot read on after line "]);
}

#[test]
fn samples_that_are_odd_are_counted_and_change_no_verdict() {
    let text = recorded(|text, series, value, at| {
        let turn = at / 15 % 12;
        match turn {
            // What comes after it in the file comes out of order, so that only the last ones do.
            0 if at > END - 900 => plain(text, series, value, at + 1_000_000_000),
            1 => {
                let _ = writeln!(text, "{series} NaN {}", at + 1);
            }
            2 => plain(text, series, -5, at + 2),
            3 => plain(text, series, value + 9, at),
            _ => {}
        }
        plain(text, series, value, at);
    });
    // The other way round, all come out of order; and those of one moment the other way round, too, of which the first one counts.
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_by_key(|line| line.starts_with("http_requests_total{service=\"cart\",code=\"500\"}"));
    let folder = Folder::new().with("odd.txt", lines.join("\n") + "\n");
    let report = folder.judged("odd.txt", &[]);
    let odd = &report["samples"]["oddities"];
    for (what, least) in [("out_of_order", 100), ("repeated", 100), ("not_counts", 200), ("in_the_future", 5)] {
        assert!(odd[what].as_u64() >= Some(least), "{what}: {odd}");
    }
    let notes = report["samples"]["notes"].to_string();
    for words in ["were put in order", "the first one counts", "NaN, infinite or negative", "lie in the future"] {
        assert!(notes.contains(words), "{words}: {notes}");
    }
    assert_eq!(verdict(&report).0, "roll_back", "{}", report["deployments"][0]["why"]);
}

#[test]
fn buckets_that_change_in_the_middle_are_no_evidence_and_what_is_slow_after_that_is_found() {
    let durations = |factor: f64| {
        let (mut text, mut counts, mut sum) = (String::new(), [0_i64; 5], 0.0);
        for at in (BEGIN..END).step_by(STEP) {
            let is_new = at > DEPLOYED;
            let bounds = if is_new { ["0.1", "0.3", "0.6", "1", "+Inf"] } else { ["0.1", "0.25", "0.5", "1", "+Inf"] };
            for place in 0..100 {
                let duration = 0.08 * (1.0 + f64::from(place) / 100.0) * if is_new { factor } else { 1.0 };
                sum += duration;
                for (count, bound) in counts.iter_mut().zip(bounds) {
                    *count += i64::from(duration <= bound.parse().unwrap_or(f64::INFINITY));
                }
            }
            for (count, bound) in counts.iter().zip(bounds) {
                let _ = writeln!(text, "http_request_duration_seconds_bucket{{service=\"slow\",le=\"{bound}\"}} {count} {at}");
            }
            let _ = writeln!(text, "http_request_duration_seconds_sum{{service=\"slow\"}} {sum} {at}");
            let _ = writeln!(text, "http_request_duration_seconds_count{{service=\"slow\"}} {} {at}", counts[4]);
        }
        text
    };
    let folder = Folder::new().with("same.txt", durations(1.0)).with("slower.txt", durations(3.0));
    let deployed = format!("slow={DEPLOYED}");
    folder.replay(&["--samples", "same.txt", "--deployed", &deployed], &[]).says(0, &["slow deployed 2026-01-05 10:00:00 UTC: left alone"]);
    let slower = folder.replay(&["--samples", "slower.txt", "--deployed", &deployed], &[]);
    slower.says(0, &["slow deployed 2026-01-05 10:00:00 UTC: would have been rolled back", "P1 performance degraded"]);
}

#[test]
fn what_was_asked_wrongly_is_answered_with_what_there_is() {
    let folder = Folder::new().with("bare.txt", recorded(plain));
    let named = folder.0.path().join("rollbackd.toml");
    let others = CONFIGURATION.replace("http_requests_total{service=\"cart\"", "http_requests_total{service=\"basket\"");
    std::fs::write(named.with_file_name("labels.toml"), &others).expect("a file in our folder");
    std::fs::write(named.with_file_name("names.toml"), CONFIGURATION.replace("http_requests", "requests")).expect("a file in our folder");
    let deployed = format!("cart={DEPLOYED}");
    let replay = |more: &[&str]| folder.replay(more, &[]);
    let with = |config: &str| replay(&["--config", config, "--samples", "bare.txt", "--deployed", &deployed]);
    with("labels.toml").says(1, &["called like that has other labels: http_requests_total{service=\"cart\",code=\"200\"}"]);
    with("names.toml").says(1, &["the samples are of http_requests_total"]);
    let bare = ["--samples", "bare.txt"];
    replay(&[&bare[..], &["--version-label", "version"]].concat()).says(0, &["none of its series has the label version"]);
    replay(&[&bare[..], &["--version-label", "service"]].concat()).says(0, &["service is cart all the time: nothing was deployed"]);
    replay(&[&bare[..], &["--deployed", "cart=2024-01-05T10:00:00Z"]].concat()).says(0, &["the samples begin after its window"]);
    replay(&[&bare[..], &["--deployed", "cart=2028-01-05T10:00:00Z"]].concat()).says(0, &["the samples end before it"]);
    replay(&["--deployed", &deployed]).says(2, &["nothing to replay: say --samples FILE, or --prometheus NAME"]);
    let server = ["--prometheus", "http://127.0.0.1:9090", "--from", "1767600000", "--to", "1767610800000", "--deployed", &deployed];
    replay(&server).says(2, &["reads nothing from a Prometheus server called http://127.0.0.1:9090\nthere is:\n  main"]);
    let nowhere = replay(&[&bare[..], &["--deployed", &deployed, "--report", "nowhere/page.html"]].concat());
    nowhere.says(1, &["cannot write nowhere/page.html"]);
    assert_eq!(nowhere.said, "", "it is said before anything is read");
}

#[test]
fn a_page_is_written_over_a_page_and_over_nothing_else() {
    let text = recorded(plain);
    let folder = Folder::new().with("in.txt", &text).with("diary.txt", "dear diary");
    let path = |name: &str| folder.0.path().join(name);
    std::fs::hard_link(path("in.txt"), path("hard.txt")).expect("a link in our folder");
    std::os::unix::fs::symlink("in.txt", path("soft.txt")).expect("a link in our folder");
    let deployed = format!("cart={DEPLOYED}");
    let report = |page: &str| folder.replay(&["--samples", "in.txt", "--deployed", &deployed, "--report", page], &[]);
    for input in ["in.txt", "./in.txt", "hard.txt", "soft.txt", "rollbackd.toml"] {
        report(input).says(2, &["would be written over what is read"]);
    }
    report("diary.txt").says(2, &["diary.txt is there already and is no page"]);
    report("-").says(2, &["--report writes a file, and `-` is none"]);
    assert!(!path("-").exists());
    let read = |name: &str| std::fs::read_to_string(path(name)).expect("it is text");
    assert_eq!((read("in.txt"), read("rollbackd.toml"), read("diary.txt")), (text, CONFIGURATION.to_owned(), "dear diary".to_owned()));
    for _ in 0..2 {
        report("page.html").says(0, &["1 would have been rolled back"]);
    }
    assert!(read("page.html").trim_end().ends_with("</html>"));
}

#[test]
fn a_mark_at_the_begin_of_a_file_takes_no_sample_with_it() {
    let folder = Folder::new().with("marked.txt", format!("\u{feff}{}", recorded(plain)));
    let report = folder.judged("marked.txt", &[]);
    assert_eq!((&report["samples"]["samples"], &report["samples"]["whole"]), (&1440.into(), &true.into()));
    assert_eq!(report["samples"]["from"], "2026-01-05T08:00:00Z");
}

#[test]
fn a_version_is_named_and_one_that_is_told_as_well_is_noted() {
    let text = recorded(|text, series, value, at| {
        let (version, before) = if at >= DEPLOYED { ("v2", 0) } else { ("v1", 0) };
        plain(text, &series.replace("service=", &format!("version=\"{version}\",service=")), value - before, at);
    });
    let folder = Folder::new().with("in.txt", text);
    let labelled = ["--samples", "in.txt", "--version-label", "version"];
    let alone = folder.replay(&labelled, &[]);
    alone.says(0, &["version     v2"]);
    assert!(!alone.said.contains("count as two"), "{}", alone.said);
    let told = folder.replay(&[&labelled[..], &["--deployed", &format!("cart={}", DEPLOYED - 30)]].concat(), &[]);
    told.says(0, &["the deployment told at 2026-01-05 09:59:30 UTC and that of v2 by its label, 30s apart, count as two"]);
}

#[test]
fn a_time_that_is_far_from_all_samples_is_asked_about() {
    let folder = Folder::new().with("in.txt", recorded(plain));
    for (time, said) in [("17676072000000", "2530-"), ("-5", "1969-12-31 23:59:55 UTC")] {
        let answer = folder.replay(&["--samples", "in.txt", "--deployed", &format!("cart={time}")], &[]);
        answer.says(0, &["cart: there are no samples of its deployment at", said, "is that the time that was meant?"]);
    }
}

#[test]
fn what_is_no_ledger_is_called_by_the_name_that_was_given() {
    let folder = Folder::new()
        .with("in.txt", recorded(plain))
        .with("ledger.txt", "no ledger at all, though there is a lot of text in it ".repeat(100));
    let answer = folder.replay(&["--samples", "in.txt", "--ledger", "ledger.txt"], &[]);
    answer.says(1, &["cannot read the ledger ledger.txt: "]);
    assert!(!answer.complaint.contains("sqlite3"), "no copy is named: {}", answer.complaint);
}

#[test]
fn a_histogram_of_which_only_the_last_bucket_is_left_is_called_that() {
    let mut text = String::new();
    for at in (BEGIN..END).step_by(STEP) {
        let count = at - BEGIN;
        let _ = writeln!(text, "http_request_duration_seconds_bucket{{service=\"slow\",le=\"+Inf\"}} {count} {at}");
        let _ = writeln!(text, "http_request_duration_seconds_sum{{service=\"slow\"}} {count} {at}");
        let _ = writeln!(text, "http_request_duration_seconds_count{{service=\"slow\"}} {count} {at}");
    }
    let folder = Folder::new().with("in.txt", text);
    let answer = folder.replay(&["--samples", "in.txt", "--deployed", &format!("slow={DEPLOYED}")], &[]);
    answer.says(0, &["of its buckets only `+Inf` is of use"]);
    assert_eq!(answer.said.matches("of its buckets only").count(), 1, "{}", answer.said);
}

#[test]
fn a_neighbour_that_suffers_as_well_is_said_to() {
    let mut text = recorded(plain);
    text.push_str(&recorded(|text, series, value, at| plain(text, &series.replace("cart", "neighbour"), value, at)));
    let control = CONFIGURATION.replace(
        "[services.slow]",
        "[services.cart.control.neighbour]\nprometheus = \"main\"\ntotal = 'http_requests_total{service=\"neighbour\"}'\nfailed = 'http_requests_total{service=\"neighbour\",code=~\"5..\"}'\n\n[services.slow]",
    );
    let folder = Folder::new().with("in.txt", text).with("control.toml", control);
    let arguments = ["--config", "control.toml", "--samples", "in.txt", "--deployed", &format!("cart={DEPLOYED}"), "--report", "page.html"];
    let answer = folder.replay(&arguments, &[]);
    answer.says(0, &["others suffer too (control.neighbour)"]);
    assert!(!answer.said.contains("waits until the odds"), "{}", answer.said);
    let page = std::fs::read_to_string(folder.0.path().join("page.html")).expect("it was written");
    assert!(page.matches("others suffer too (control.neighbour)").count() >= 2, "in the sentence and among the findings");
}

#[test]
fn every_field_that_the_documentation_names_is_there_and_no_other() {
    let folder = Folder::new().with("bare.txt", recorded(plain));
    let report = folder.judged("bare.txt", &[]);
    let documented = include_str!("../../docs/replay.md");
    let shapes = [("/samples", "samples"), ("/samples/oddities", "oddities"), ("/summary", "summary"), ("/deployments/0", "deployment")];
    for (pointer, heading) in shapes {
        let table = documented.split(&format!("| {heading}: field |")).nth(1).expect("it is documented");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let mut told: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).filter(|field| *field != "recorded").collect();
        let mut there: Vec<&str> =
            report.pointer(pointer).and_then(Value::as_object).expect("it is there").keys().map(String::as_str).collect();
        told.sort_unstable();
        there.sort_unstable();
        assert_eq!(told, there, "{heading}");
    }
}
