//! `test`: policy tests, with the output that people know from `promtool test rules`.

use std::path::{Path, PathBuf};

use clap::builder::styling::AnsiColor;
use regex::Regex;
use rollbackd_core::guard::Refusal;
use rollbackd_core::severity::{Response, Severity};
use rollbackd_core::verdict::Finding;
use rollbackd_core::words;
use serde::Serialize;

use super::text::{self, Page, Screen};
use super::{Exit, Stop};
use crate::config::policy_test::{self as file, PolicyTests};
use crate::config::{self, Diagnostics};
use crate::policy_test::{self, Expectation, Outcome, Test};

/// What stands behind `--help`.
pub(super) const HELP: &str = "\
Examples:
  rollbackd test checkout_test.toml
  rollbackd test --run 'rolled back' tests/*.toml
  rollbackd test --output json checkout_test.toml

A file names a configuration, makes up series in the notation of Prometheus' unit tests, and says which verdict is expected when. It is
played through the very judge that the daemon runs, in no time. The secrets that the configuration points to need not be there.

Exit code 1: a test failed. 2: a file, or the configuration that it names, has errors.

With `--output json`, one object:
  files         a list of {file, outcome, diagnostics, tests}; the outcome is \"success\", \"failed\" or \"unreadable\"
  … tests       a list of {name, line, passed, expectations}; those that `--run` leaves out are not there
  … expectations   a list of {line, at_seconds, deployment, passed, expected, got, why, findings}";

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Files of policy tests.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only the tests whose name this regular expression matches somewhere; may be given several times.
    #[arg(long, value_name = "REGEX")]
    run: Vec<Regex>,
}

/// As `--output json` prints it.
#[derive(Serialize)]
struct Report {
    files: Vec<FileReport>,
}

#[derive(Serialize)]
struct FileReport {
    file: PathBuf,
    outcome: &'static str,
    diagnostics: Vec<serde_json::Value>,
    tests: Vec<TestReport>,
}

#[derive(Serialize)]
struct TestReport {
    name: String,
    line: usize,
    passed: bool,
    expectations: Vec<ExpectationReport>,
}

#[derive(Serialize)]
struct ExpectationReport {
    line: usize,
    at_seconds: f64,
    #[serde(skip)]
    moment: String,
    deployment: usize,
    passed: bool,
    expected: Said,
    got: Said,
    why: Vec<String>,
    findings: Vec<FindingReport>,
}

/// What was expected, or came.
#[derive(Serialize)]
struct Said {
    verdict: &'static str,
    severity: Option<Severity>,
    response: Option<Response>,
    signal: Option<String>,
    reached_seconds: Option<f64>,
    /// The guard that stands in the way.
    guard: Option<&'static str>,
}

#[derive(Serialize)]
struct FindingReport {
    signal: String,
    impact: &'static str,
    state: &'static str,
    words: String,
}

/// Plays and shows.
pub(super) fn run(arguments: &Arguments, screen: &Screen) -> Result<Exit, Stop> {
    let (mut files, mut names) = (Vec::new(), Vec::new());
    for path in &arguments.files {
        let read = file::load(path, &super::environment());
        match &read {
            Ok(PolicyTests { tests, warnings }) => {
                names.extend(tests.iter().map(|test| test.name.clone()));
                tell(warnings, screen);
            }
            Err(invalid) => invalid.iter().for_each(|diagnostics| tell(diagnostics, screen)),
        }
        files.push(tested(path, read, &arguments.run));
    }
    let exit = exit(&files);
    if exit == Exit::Done && files.iter().all(|file| file.tests.is_empty()) {
        return Err(Stop::Unknown { words: "no test has a name that `--run` matches".to_owned(), known: names });
    }
    let report = Report { files };
    screen.show(&report, || in_words(&report, screen.is_verbose()))?;
    Ok(exit)
}

fn tell(diagnostics: &Diagnostics, screen: &Screen) {
    if !diagnostics.is_empty() && !screen.is_json() {
        screen.tell(config::render(diagnostics, screen.is_colored()).trim_end());
    }
}

fn tested(path: &Path, read: Result<PolicyTests, Vec<Diagnostics>>, only: &[Regex]) -> FileReport {
    let file = path.to_owned();
    match read {
        Err(invalid) => {
            let diagnostics = invalid.iter().map(Diagnostics::to_json).collect();
            FileReport { file, outcome: "unreadable", diagnostics, tests: Vec::new() }
        }
        Ok(PolicyTests { tests, warnings }) => {
            let wanted = |test: &&Test| only.is_empty() || only.iter().any(|only| only.is_match(&test.name));
            let tests: Vec<TestReport> = tests.iter().filter(wanted).map(played).collect();
            let outcome = if tests.iter().all(|test| test.passed) { "success" } else { "failed" };
            let diagnostics = if warnings.is_empty() { Vec::new() } else { vec![warnings.to_json()] };
            FileReport { file, outcome, diagnostics, tests }
        }
    }
}

fn played(test: &Test) -> TestReport {
    let outcomes = policy_test::run(test);
    let expectations: Vec<_> =
        test.expectations.iter().zip(outcomes).map(|(expectation, outcome)| of(test, expectation, outcome)).collect();
    let passed = expectations.iter().all(|expectation| expectation.passed);
    TestReport { name: test.name.clone(), line: test.line, passed, expectations }
}

fn of(test: &Test, expectation: &Expectation, outcome: Outcome) -> ExpectationReport {
    let Expectation { line, at, deployment, verdict, severity, response, ref signal, .. } = *expectation;
    let got = &outcome.got;
    ExpectationReport {
        line,
        at_seconds: at.as_secs_f64(),
        moment: policy_test::moment(test, deployment, at),
        deployment: deployment + 1,
        passed: outcome.passed(),
        expected: Said {
            verdict: verdict.key(),
            severity,
            response,
            signal: signal.as_ref().map(ToString::to_string),
            reached_seconds: None,
            guard: None,
        },
        got: Said {
            verdict: got.verdict.key(),
            severity: got.severity,
            response: got.response,
            signal: got.signal.as_ref().map(ToString::to_string),
            reached_seconds: got.reached.map(|reached| reached.as_secs_f64()),
            guard: got.refusal.as_ref().map(Refusal::name),
        },
        why: outcome.why,
        findings: outcome.findings.iter().map(FindingReport::of).collect(),
    }
}

impl FindingReport {
    fn of(finding: &Finding) -> Self {
        Self {
            signal: finding.signal.to_string(),
            impact: finding.impact.key(),
            state: words::standing(finding),
            words: words::finding(finding),
        }
    }
}

/// A file that can't be read is worse than a test that fails: nobody knows what it would have said.
fn exit(files: &[FileReport]) -> Exit {
    if files.iter().any(|file| file.outcome == "unreadable") {
        Exit::Usage
    } else if files.iter().any(|file| file.outcome == "failed") {
        Exit::Failed
    } else {
        Exit::Done
    }
}

fn in_words(report: &Report, verbose: bool) -> String {
    let mut page = Page::default();
    for file in &report.files {
        page.line(format_args!("Unit Testing:  {}", file.file.display()));
        match file.outcome {
            "success" => page.line(format_args!("  {}", text::paint(AnsiColor::Green.on_default().bold(), "SUCCESS"))),
            "failed" => page.line(format_args!("  {}", text::paint(AnsiColor::Red.on_default().bold(), "FAILED:"))),
            _ => page.line(format_args!("  {}", text::paint(AnsiColor::Red.on_default().bold(), "FAILED: it has errors"))),
        }
        for test in file.tests.iter().filter(|test| verbose || !test.passed) {
            show(&mut page, test, file.file.as_path());
        }
        page.line("");
    }
    page.text()
}

fn show(page: &mut Page, test: &TestReport, file: &Path) {
    let mark = if test.passed { "ok" } else { "FAILED" };
    page.line(format_args!("    name: {}, {}:{}, {mark}", test.name, file.display(), test.line));
    for expectation in test.expectations.iter().filter(|expectation| !expectation.passed) {
        page.line(format_args!("      time: {}, line {}", expectation.moment, expectation.line));
        page.line(format_args!("        exp: {}", said(&expectation.expected)));
        page.line(format_args!("        got: {}", said(&expectation.got)));
        let (mut label, width) = ("why:", "why:".len());
        for why in &expectation.why {
            page.line(format_args!("        {label:width$} {why}"));
            label = "";
        }
    }
}

/// `error_ratio, P1, roll_back, by errors`; of what a guard keeps back, which.
fn said(said: &Said) -> String {
    let mut words = said.verdict.to_owned();
    let parts = [
        said.severity.map(|severity| severity.to_string()),
        said.response.map(|response| policy_test::response_key(response).to_owned()),
        said.signal.as_ref().map(|signal| format!("by {signal}")),
        said.guard.map(|guard| format!("kept back by {guard}")),
    ];
    for part in parts.into_iter().flatten() {
        words.push_str(", ");
        words.push_str(&part);
    }
    words
}
