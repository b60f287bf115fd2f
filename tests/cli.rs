//! The command line as people and scripts meet it: the real binary against a daemon that gives canned answers on a real socket.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use rollbackd::api::Listening;
use rollbackd::daemon::{Daemon, Setup};
use rollbackd::executor::Adapters;
use rollbackd::ledger::{Ledger, LedgerError};
use rollbackd_core::alert::Rules;
use rollbackd_core::command::{Answer, Command as Asked};
use rollbackd_core::entry::{Entry, Mark, Record, Scope};
use rollbackd_core::guard::Limits;
use rollbackd_core::lifecycle::Status;
use rollbackd_core::service::{ServiceName, SignalName};
use rollbackd_core::severity::{Choice, Impact, Response, Severity};
use rollbackd_core::verdict::{Failure, Finding, FindingState, Inconclusive, Numbers};
use rollbackd_core::version::{ChangeKind, Version, VersionId};
use rollbackd_core::view::{
    DeclaredView, DeploymentView, ExplainView, FindingView, HoldView, QuestionView, RollbackView, ServiceView, StatusView,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const HOSTILE: &str = "v2\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}";

/// A daemon that answers as it is told, and remembers what it was asked.
struct Fake {
    directory: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let socket = directory.path().join("socket");
        let (remember, answer) = (Arc::clone(&asked), Arc::new(answer));
        let (ready, is_ready) = std::sync::mpsc::channel();
        // It ends with the test's process.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::UnixListener::bind(socket).unwrap();
                ready.send(()).unwrap();
                let command = move |Json(command): Json<Asked>| {
                    let said = answer(&command);
                    remember.lock().unwrap().push(command);
                    let status = if matches!(said, Answer::Unknown(_)) { StatusCode::NOT_FOUND } else { StatusCode::OK };
                    async move { (status, Json(said)) }
                };
                axum::serve(listener, Router::new().route("/v1/command", post(command))).await.unwrap();
            });
        });
        is_ready.recv_timeout(Duration::from_secs(10)).unwrap();
        Self { directory, asked }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = rollbackd(arguments);
        command.env("ROLLBACKD_SOCKET", self.socket());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::new(self.command(arguments).output().unwrap())
    }
}

fn rollbackd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollbackd"));
    command.args(arguments).stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "ROLLBACKD_SOCKET", "ROLLBACKD_CONFIG", "ROLLBACKD_LOG"] {
        command.env_remove(variable);
    }
    command
}

/// What a run of the binary left behind.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        let ran = Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("backtrace"), "{}", ran.stderr);
        ran
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {:?} {:?}", self.stdout, self.stderr))
    }

    #[track_caller]
    fn says(&self, code: i32, stdout: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        for expected in stdout {
            assert!(self.stdout.contains(expected), "{expected:?} is not in:\n{}", self.stdout);
        }
    }

    #[track_caller]
    fn stops(&self, code: i32, stderr: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "");
        for expected in stderr {
            assert!(self.stderr.contains(expected), "{expected:?} is not in:\n{}", self.stderr);
        }
    }
}

/// What a command has to say besides its answer.
#[track_caller]
fn complains(ran: &Ran, code: i32, stderr: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}{}", ran.stdout, ran.stderr);
    for expected in stderr {
        assert!(ran.stderr.contains(expected), "{expected:?} is not in:\n{}", ran.stderr);
    }
}

fn at(text: &str) -> Timestamp {
    format!("2026-11-21T{text}Z").parse().unwrap()
}

fn name(text: &str) -> ServiceName {
    ServiceName::try_from(text).unwrap()
}

fn version(name: &str) -> Version {
    Version { id: VersionId(format!("sha256:{name}")), name: name.to_owned() }
}

fn deployment(number: u64, version_name: &str, status: Status) -> DeploymentView {
    DeploymentView {
        service: name("checkout"),
        environment: "production".to_owned(),
        deployment: number,
        version: version(version_name),
        status,
        arrival: "deployed".to_owned(),
        rollback_of: None,
        started: at("03:00:00"),
        window_ends: at("03:30:00"),
        ended: None,
        mark: Mark::Unknown,
        severity: None,
        why: String::new(),
    }
}

fn finding(state: FindingState, numbers: Option<Numbers>, words: &str, waits_for: Option<&str>) -> FindingView {
    let finding = Finding { signal: SignalName("errors".to_owned()), impact: Impact::ErrorRatio, state, numbers };
    // What a daemon says that is older than the program that asks it.
    FindingView { finding, words: words.to_owned(), waits_for: waits_for.map(ToOwned::to_owned), judged: None }
}

fn numbers() -> Numbers {
    Numbers {
        before: 0.01,
        tolerance: 0.03,
        severity: 0.5,
        now: Some(0.62),
        count: 900.0,
        failed: 558.0,
        onset: Some(at("03:01:00")),
        log_evidence: 53.0,
        log_threshold: 9.2,
        hold: jiff::SignedDuration::from_secs(120),
        waits_for: None,
        measure: rollbackd_core::verdict::Measure::Share,
        route: None,
        expected_delay: None,
        ambient: None,
    }
}

fn service() -> ServiceView {
    ServiceView {
        service: name("checkout"),
        environment: "production".to_owned(),
        platform: "kubernetes shop/checkout".to_owned(),
        deployment: Some(deployment(12, "shop:v2", Status::Watching)),
        known_good: Some(version("shop:v1")),
        rollback: None,
        hold: None,
        blind: Vec::new(),
        question: None,
        declared: Vec::new(),
        summary: "watched for 5m of 30m".to_owned(),
        headline: String::new(),
        warnings: Vec::new(),
        findings: vec![
            finding(FindingState::Failing(Failure::Evidence), Some(numbers()), "62 % failing", None),
            finding(FindingState::Inconclusive(Inconclusive::NoTraffic), None, "no traffic, so nothing can be said", None),
            finding(FindingState::Passing, None, "well", Some("waits until it has persisted for 2m")),
        ],
    }
}

fn status(services: Vec<ServiceView>) -> StatusView {
    StatusView {
        at: at("03:05:00"),
        ledger: "k3f9a2b1".to_owned(),
        hold: None,
        brake: Vec::new(),
        notices_waiting: 0,
        troubles: Vec::new(),
        services,
    }
}

fn hold(reason: &str) -> HoldView {
    HoldView { by: "alice".to_owned(), reason: reason.to_owned(), since: at("03:00:00"), until: Some(at("05:05:00")) }
}

fn rollback(phase: &str, outcome: Option<&str>) -> RollbackView {
    RollbackView {
        plan: 20,
        name: "k3f9a2b1-20".to_owned(),
        from: version("shop:v2"),
        to: version("shop:v1"),
        phase: phase.to_owned(),
        cause: "asked for by alice: wrong prices".to_owned(),
        planned: at("03:04:00"),
        outcome: outcome.map(ToOwned::to_owned),
        success: outcome.map(|outcome| outcome == "recovered"),
        proof_until: None,
        lacks: Vec::new(),
    }
}

fn explanation(rollback: Option<RollbackView>) -> Answer {
    let mut rolled_back = deployment(12, "shop:v2", Status::RolledBack);
    rolled_back.severity = Some(Severity::P1);
    Answer::Explanation(Box::new(ExplainView {
        at: at("03:05:00"),
        service: service(),
        deployment: rolled_back,
        answer: vec!["shop:v2 was to be rolled back to shop:v1: P1 error ratio too high.".to_owned(), "The rollback recovered.".to_owned()],
        timeline: vec![(at("03:00:00"), "shop:v2 was deployed".to_owned()), (at("03:02:05"), "found: P1 error ratio too high".to_owned())],
        signals: vec![("errors".to_owned(), "prometheus main".to_owned(), "3 of 9000 requests failed".to_owned())],
        findings: service().findings,
        found_at: Some(at("03:02:05")),
        rollback,
    }))
}

fn planned(dry_run: bool) -> Answer {
    Answer::Planned {
        service: name("checkout"),
        from: version("shop:v2"),
        to: version("shop:v1"),
        dry_run,
        warnings: vec!["shop:v1 is not known to be good".to_owned()],
    }
}

/// A daemon whose rollback goes through `phases`, one a look.
fn rolling_back(phases: Vec<Option<RollbackView>>) -> Fake {
    let phases = Mutex::new(phases.into_iter());
    Fake::new(move |command| match command {
        Asked::Status { .. } => Answer::Status(status(vec![service()])),
        Asked::Rollback { dry_run, .. } => planned(*dry_run),
        Asked::Explain { .. } => explanation(phases.lock().unwrap().next().flatten()),
        other => panic!("{other:?}"),
    })
}

// Looking.

#[test]
fn status_shows_every_service_in_a_row_and_then_what_stands_in_the_way() {
    let fake = Fake::new(|_| {
        let mut unseen = service();
        (unseen.service, unseen.deployment, unseen.known_good) = (name("search"), None, None);
        unseen.summary = "can't be seen".to_owned();
        unseen.blind = vec![("platform".to_owned(), "timed out".to_owned())];
        let mut busy = service();
        busy.rollback = Some(rollback("verifying", None));
        busy.hold = Some(hold("load test"));
        let mut view = status(vec![busy, unseen]);
        view.hold = Some(hold("data centre move"));
        view.brake = vec![name("checkout"), name("search")];
        view.notices_waiting = 3;
        view.troubles = vec!["the ledger can't be written".to_owned()];
        Answer::Status(view)
    });
    let ran = fake.run(&["status"]);
    ran.says(
        0,
        &[
            "SERVICE   ENVIRONMENT  VERSION  STATUS    WINDOW",
            "checkout  production   shop:v2  watching  5m of 30m  shop:v1     watched for 5m of 30m\n",
            "search    production   -        -         -          -           can't be seen\n",
            "TROUBLE   the ledger can't be written",
            "BRAKE     on, so nothing is rolled back by itself: checkout, search went bad together. Release: rollbackd resume --all",
            "PAUSED    all services, by alice since 2026-11-21 03:00:00 UTC (5m ago), until 2026-11-21 05:05:00 UTC (in 2h): data centre move",
            "PAUSED    checkout, by alice",
            "NOTICES   3 still to be delivered",
            "ROLLBACK  checkout: shop:v2 to shop:v1: verifying; decided 2026-11-21 03:04:00 UTC (1m ago): asked for by alice",
            "BLIND     search: platform: timed out",
            "To see why: rollbackd explain checkout",
        ],
    );
    assert_eq!(ran.stderr, "");
    assert_eq!(fake.asked(), [Asked::Status { service: None }]);
}

#[test]
fn status_of_one_service_says_what_every_check_says() {
    let fake = Fake::new(|_| Answer::Status(status(vec![service()])));
    let ran = fake.run(&["status", "checkout"]);
    ran.says(
        0,
        &[
            "checkout: watched for 5m of 30m\n  production, kubernetes shop/checkout\n",
            "version     shop:v2 (deployment 12, marked unknown)",
            "started     2026-11-21 03:00:00 UTC (5m ago)",
            "window      5m of 30m, ends 2026-11-21 03:30:00 UTC (in 25m)",
            "known good  shop:v1",
            "errors: error ratio  failing       1.0 %   3.0 %      62 %  03:01:00  1 in 10^23  -\n",
            "errors: error ratio  inconclusive  -       -          -     -         -           traffic\n",
            "errors: error ratio  passing       -       -          -     -         -           -\n",
            "errors: error ratio  62 % failing.\n",
            "errors: error ratio  No traffic, so nothing can be said.\n",
            "errors: error ratio  Waits until it has persisted for 2m.\n",
        ],
    );
    assert_eq!(fake.asked(), [Asked::Status { service: Some(name("checkout")) }]);
}

#[test]
fn a_service_that_runs_its_only_good_version_is_not_said_to_have_none() {
    let fake = Fake::new(|_| {
        let mut well = service();
        (well.known_good, well.summary) = (None, "well, known good".to_owned());
        let mut runs = deployment(12, "shop:v2", Status::Deployed);
        runs.mark = Mark::Good;
        well.deployment = Some(runs);
        let mut new = well.clone();
        new.service = name("search");
        new.deployment = Some(deployment(3, "search:v1", Status::Watching));
        Answer::Status(status(vec![well, new]))
    });
    let ran = fake.run(&["status"]);
    ran.says(0, &["shop:v2    deployed  -          it runs", "search:v1  watching  5m of 30m  -  "]);
    fake.run(&["status", "-v"]).says(0, &["known good  what runs; no other version is\n", "known good  none yet: there is no way back\n"]);
}

#[test]
fn a_check_that_sees_more_failing_than_is_tolerated_is_not_said_to_pass() {
    let fake = Fake::new(|_| {
        let mut suspect = service();
        let numbers = Numbers { waits_for: Some(rollbackd_core::verdict::Gate::Persistence), ..numbers() };
        suspect.findings = vec![finding(FindingState::Passing, Some(numbers), "62 % failing; waits", Some("waits"))];
        Answer::Status(status(vec![suspect]))
    });
    fake.run(&["status", "checkout"])
        .says(0, &["errors: error ratio  suspect  1.0 %   3.0 %      62 %  03:01:00  1 in 10^23  persistence\n", "62 % failing; waits.\n"]);
}

#[test]
fn status_as_json_is_the_view_as_it_is() {
    let view = status(vec![service()]);
    let fake = Fake::new(|_| Answer::Status(status(vec![service()])));
    let ran = fake.run(&["status", "--output", "json"]);
    ran.says(0, &[]);
    assert_eq!(serde_json::from_str::<StatusView>(&ran.stdout).unwrap(), view);
}

#[test]
fn nothing_configured_is_said() {
    let fake = Fake::new(|_| Answer::Status(status(Vec::new())));
    fake.run(&["status"]).says(0, &["no service is configured"]);
}

#[test]
fn history_shows_what_undid_what() {
    let fake = Fake::new(|_| {
        let mut back = deployment(21, "shop:v1", Status::Watching);
        (back.rollback_of, back.mark, back.why) = (Some(12), Mark::Good, "rollback of deployment 12".to_owned());
        let mut bad = deployment(12, "shop:v2", Status::RolledBack);
        (bad.mark, bad.why) = (Mark::Bad, "P1 error ratio too high (errors)".to_owned());
        Answer::History(vec![back, bad])
    });
    let ran = fake.run(&["history", "checkout", "--environment", "production", "--limit", "5"]);
    ran.says(
        0,
        &["#21", "shop:v1  watching     good  rollback of #12\n", "#12", "shop:v2  rolled_back  bad   P1 error ratio too high (errors)\n"],
    );
    let expected = Asked::History { service: Some(name("checkout")), environment: Some("production".to_owned()), limit: 5 };
    assert_eq!(fake.asked(), [expected]);
    let json = fake.run(&["--output", "json", "history"]).json();
    assert_eq!(json[0]["rollback_of"], 12);
    assert_eq!(fake.asked()[1], Asked::History { service: None, environment: None, limit: 20 });
}

#[test]
fn an_empty_history_is_said() {
    let fake = Fake::new(|_| Answer::History(Vec::new()));
    fake.run(&["history"]).says(0, &["no deployment was seen yet"]);
    assert_eq!(fake.run(&["history", "--output", "json"]).json(), json!([]));
}

#[test]
fn explain_answers_first_and_then_shows_times_and_numbers() {
    let fake = Fake::new(|_| explanation(None));
    let ran = fake.run(&["explain", "checkout", "--deployment", "#12"]);
    ran.says(
        0,
        &[
            "shop:v2 was to be rolled back to shop:v1: P1 error ratio too high.\n  The rollback recovered.\n",
            "  checkout, production, deployment 12, rolled_back\n",
            "2026-11-21 03:00:00 UTC (5m ago)      +0s     shop:v2 was deployed\n",
            "2026-11-21 03:02:05 UTC (2m 55s ago)  +2m 5s  found: P1 error ratio too high\n",
            "errors  prometheus main  3 of 9000 requests failed\n",
            "errors: error ratio  failing       1.0 %   3.0 %      62 %  03:01:00  1 in 10^23  -\n",
        ],
    );
    let json = fake.run(&["explain", "checkout", "--output", "json"]).json();
    assert_eq!(json["answer"][1], "The rollback recovered.");
    assert_eq!(json["findings"][0]["numbers"]["now"], 0.62);
    assert!(matches!(&fake.asked()[..], [Asked::Explain { deployment: Some(_), .. }, Asked::Explain { deployment: None, .. }]));
}

// Changing.

#[test]
fn deployed_tells_when_it_started_and_what_it_carries() {
    let fake = Fake::new(|_| Answer::Done("noted for deployment 12 (shop:v2)".to_owned()));
    let arguments = ["deployed", "checkout", "--started", "2026-01-02T03:04:05Z", "--change", "irreversible-migration"];
    fake.run(&arguments).says(0, &["noted for deployment 12 (shop:v2)\n"]);
    let expected = Asked::Deployed {
        service: name("checkout"),
        started: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        change: Some(ChangeKind::IrreversibleMigration),
    };
    assert_eq!(fake.asked(), [expected]);
    let json = fake.run(&["deployed", "checkout", "--started", "5m", "--output", "json"]).json();
    assert_eq!(json, json!({ "done": "noted for deployment 12 (shop:v2)" }));
}

#[test]
fn nothing_is_changed_without_a_terminal_unless_somebody_said_yes() {
    let fake = Fake::new(|_| panic!("nothing is asked"));
    for arguments in [
        &["rollback", "checkout"][..],
        &["hold", "checkout", "--reason", "x"],
        &["resume", "--all"],
        &["mark-good", "checkout", "shop:v1"],
        &["mark-bad", "checkout", "shop:v1"],
    ] {
        fake.run(arguments).stops(2, &["error: there is no terminal to ask on: say --yes", "--dry-run"]);
    }
    assert_eq!(fake.asked(), []);
}

#[test]
fn a_dry_run_only_looks() {
    let fake = Fake::new(|command| match command {
        Asked::Status { .. } => Answer::Status(status(vec![service()])),
        Asked::History { .. } => Answer::History(vec![deployment(12, "shop:v2 #7f3a", Status::Watching)]),
        Asked::Rollback { dry_run: true, .. } => planned(true),
        other => panic!("{other:?}"),
    });
    let ran = fake.run(&["rollback", "checkout", "--dry-run"]);
    ran.says(0, &["would roll back checkout from shop:v2 to shop:v1\nwarning: shop:v1 is not known to be good\n"]);
    let json = fake.run(&["rollback", "checkout", "--dry-run", "--output", "json"]).json();
    assert_eq!((&json["dry_run"], &json["to"]["name"], &json["rollback"]), (&json!(true), &json!("shop:v1"), &Value::Null));
    fake.run(&["hold", "checkout", "--for", "2h", "--reason", "load test", "--dry-run"])
        .says(0, &["would pause automatic rollbacks of checkout for 2h: load test"]);
    fake.run(&["resume", "--all", "-n"]).says(0, &["would allow automatic rollbacks of all services again, and release the brake"]);
    for version in ["shop:v2", "shop:v2 #7f3a", "sha256:shop:v2 #7f3a", "#12"] {
        fake.run(&["mark-bad", "checkout", version, "-n"]).says(0, &["would mark shop:v2 #7f3a of checkout (deployment 12) bad"]);
    }
    fake.run(&["mark-bad", "checkout", "shop:v3", "-n"]).stops(2, &["was never seen in a version \"shop:v3\"", "  #12 shop:v2 #7f3a ("]);
}

#[test]
fn hold_resume_and_marks_do_what_they_say() {
    let fake = Fake::new(|_| Answer::Done("it is done".to_owned()));
    fake.run(&["hold", "checkout", "--for", "90m", "--reason", " load test ", "--yes"]).says(0, &["it is done\n"]);
    fake.run(&["hold", "--all", "--reason", "move", "-y"]).says(0, &[]);
    fake.run(&["resume", "checkout", "-y"]).says(0, &[]);
    fake.run(&["resume", "--all", "-y"]).says(0, &[]);
    fake.run(&["mark-good", "checkout", "shop:v1", "-y"]).says(0, &[]);
    fake.run(&["mark-bad", "checkout", "#12", "--reason", "loses orders", "-y", "--output", "json"]).says(0, &["it is done"]);
    let checkout = || Scope::Service(name("checkout"));
    let mark = |version: &str, mark, reason: &str| Asked::Mark {
        service: name("checkout"),
        version: version.to_owned(),
        mark,
        reason: reason.to_owned(),
    };
    let ninety_minutes = Some(jiff::SignedDuration::from_mins(90));
    assert_eq!(
        fake.asked(),
        [
            Asked::Hold { scope: checkout(), reason: "load test".to_owned(), lasting: ninety_minutes },
            Asked::Hold { scope: Scope::All, reason: "move".to_owned(), lasting: None },
            Asked::Resume { scope: checkout() },
            Asked::Resume { scope: Scope::All },
            mark("shop:v1", Mark::Good, "no reason given"),
            mark("#12", Mark::Bad, "loses orders"),
        ]
    );
}

#[test]
fn a_rollback_is_waited_for_until_it_recovered() {
    let phases = ["planned", "rolling out"].map(|phase| Some(rollback(phase, None)));
    let recovered = Some(rollback("recovered, watching on", Some("recovered")));
    let fake = rolling_back(phases.into_iter().chain([recovered]).collect());
    let ran = fake.run(&["rollback", "checkout", "--to", "shop:v1", "--reason", "wrong prices", "--yes"]);
    ran.says(0, &["checkout: rollback from shop:v2 to shop:v1: recovered (after "]);
    let lines: Vec<_> = ran.stderr.lines().map(|line| line.trim_start().split_once("  ").unwrap().1).collect();
    assert_eq!(lines, ["planned", "rolling out", "recovered, watching on"]);
    let rollbacks: Vec<_> = fake.asked().into_iter().filter(|command| matches!(command, Asked::Rollback { .. })).collect();
    let expected =
        |dry_run| Asked::Rollback { service: name("checkout"), to: Some("shop:v1".to_owned()), reason: "wrong prices".to_owned(), dry_run };
    assert_eq!(rollbacks, [expected(true), expected(false)]);
}

#[test]
fn a_rollback_that_did_not_help_failed() {
    let ended = || Some(rollback("ended", Some("did not help (errors: not well)")));
    let ran = rolling_back(vec![ended()]).run(&["rollback", "checkout", "--yes"]);
    ran.says(1, &["did not help (errors: not well)", "rollbackd explain checkout"]);
    let ran = rolling_back(vec![ended()]).run(&["rollback", "checkout", "--yes", "--output", "json"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.json()["rollback"]["success"], false);
}

#[test]
fn a_rollback_that_takes_too_long_goes_on_without_us() {
    let fake = rolling_back((0..100).map(|_| Some(rollback("rolling out", None))).collect());
    let ran = fake.run(&["rollback", "checkout", "--yes", "--timeout", "100ms"]);
    ran.stops(1, &["rolling out", "not over in time: the daemon goes on with the rollback of checkout; see rollbackd status checkout"]);
}

#[test]
fn an_interrupt_while_waiting_says_that_the_daemon_goes_on() {
    let fake = rolling_back((0..100).map(|_| Some(rollback("rolling out", None))).collect());
    let mut child = fake.command(&["rollback", "checkout", "--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    // Its first line says that it waits, so that the interrupt can't come too early.
    let mut seen = Vec::new();
    while !seen.ends_with(b"rolling out") {
        let mut byte = [0];
        assert_eq!(stderr.read(&mut byte).unwrap(), 1, "{:?}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("interrupted: the daemon goes on with the rollback of checkout"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_rollback_that_is_not_waited_for_is_only_planned() {
    let fake = rolling_back(Vec::new());
    fake.run(&["rollback", "checkout", "--yes", "--no-wait"]).says(0, &["checkout: rollback from shop:v2 to shop:v1 is planned\n"]);
    assert!(!fake.asked().iter().any(|command| matches!(command, Asked::Explain { .. })));
}

#[test]
fn what_changed_between_the_look_and_the_deed_stops_the_deed() {
    let fake = Fake::new(|command| match command {
        Asked::Status { .. } => {
            let mut newer = service();
            newer.deployment = Some(deployment(13, "shop:v3", Status::Deploying));
            Answer::Status(status(vec![newer]))
        }
        Asked::Rollback { dry_run: true, .. } => planned(true),
        other => panic!("{other:?}"),
    });
    fake.run(&["rollback", "checkout", "--yes"]).stops(1, &["nothing was done: what runs of checkout changed just now"]);
}

/// Runs the binary on a terminal where `typed` is typed, and returns its exit code and what was seen.
fn on_a_terminal(mut command: Command, typed: &str) -> (Option<i32>, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let (stdin, stdout) = (terminal.try_clone().unwrap(), terminal.try_clone().unwrap());
    let mut child = command.stdin(stdin).stdout(stdout).stderr(terminal).spawn().unwrap();
    // Its copies of the terminal go with the command, so that the end of the child is the end of what is seen.
    drop(command);
    let mut master = std::fs::File::from(master);
    master.write_all(typed.as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    // A terminal that everybody left gives an error, not an end.
    while let Ok(read @ 1..) = master.read(&mut chunk) {
        seen.extend_from_slice(&chunk[..read]);
    }
    (child.wait().unwrap().code(), String::from_utf8(seen).unwrap())
}

#[test]
fn on_a_terminal_the_plan_is_shown_and_only_a_yes_lets_it_happen() {
    let recovered = || rolling_back(vec![Some(rollback("recovered, watching on", Some("recovered")))]);
    let fake = recovered();
    let (code, seen) = on_a_terminal(fake.command(&["rollback", "checkout", "--color", "never"]), "n\n");
    assert_eq!(code, Some(1), "{seen}");
    assert!(seen.contains("roll back checkout (deployment 12) from shop:v2 to shop:v1"), "{seen}");
    assert!(seen.contains("warning: shop:v1 is not known to be good"), "{seen}");
    assert!(seen.contains("Do this? [y/N]") && seen.contains("nothing was done"), "{seen}");
    assert!(!fake.asked().iter().any(|command| matches!(command, Asked::Rollback { dry_run: false, .. })));

    let fake = recovered();
    let (code, seen) = on_a_terminal(fake.command(&["rollback", "checkout", "--color", "never"]), "y\n");
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("checkout: rollback from shop:v2 to shop:v1: recovered"), "{seen}");
    assert!(fake.asked().iter().any(|command| matches!(command, Asked::Rollback { dry_run: false, .. })));
}

#[test]
fn whoever_pauses_sees_what_is_paused_already() {
    let fake = Fake::new(|command| match command {
        Asked::Status { .. } => {
            let mut held = service();
            held.hold = Some(hold("load test"));
            Answer::Status(status(vec![held]))
        }
        _ => Answer::Done("it is done".to_owned()),
    });
    let (code, seen) = on_a_terminal(fake.command(&["hold", "checkout", "--reason", "move"]), "yes\n");
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("pause automatic rollbacks of checkout until somebody resumes: move"), "{seen}");
    assert!(seen.contains("paused now: checkout, by alice"), "{seen}");
    assert!(seen.contains("\u{1b}["), "colour on a terminal: {seen:?}");
    assert!(seen.contains("it is done"), "{seen}");
}

// The real daemon.

/// A ledger that only counts.
#[derive(Default)]
struct Counting(u64);

impl Ledger for Counting {
    fn replay(&mut self, _: &mut dyn FnMut(Record)) -> Result<(), LedgerError> {
        Ok(())
    }

    fn append(&mut self, at: Timestamp, entries: Vec<Entry>) -> Result<Vec<Record>, LedgerError> {
        let records = entries.into_iter().map(|entry| {
            self.0 += 1;
            Record { seq: self.0, at, entry }
        });
        Ok(records.collect())
    }
}

#[test]
fn the_real_daemon_pauses_and_says_who_did_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let shutdown = CancellationToken::new();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (at, until) = (socket.clone(), shutdown.clone());
    let daemon = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let setup = Setup {
                policies: BTreeMap::new(),
                limits: Limits::default(),
                routes: BTreeMap::new(),
                alerts: Rules::default(),
                adapters: Adapters::default(),
            };
            let (daemon, handle) = Daemon::open(Box::<Counting>::default(), Timestamp::now(), "tester00", setup).unwrap();
            let listening = Listening::open(&at).await.unwrap();
            ready.send(()).unwrap();
            let (ended, ()) = tokio::join!(daemon.run(until.clone(), || {}), listening.serve(handle, until));
            ended.expect("the ledger is well");
        });
    });
    is_ready.recv_timeout(Duration::from_secs(10)).unwrap();
    let run = |arguments: &[&str]| Ran::new(rollbackd(arguments).env("ROLLBACKD_SOCKET", &socket).output().unwrap());
    run(&["hold", "--all", "--reason", "move", "--yes"])
        .says(0, &["automatic rollbacks of all services are paused until somebody resumes"]);
    run(&["status"]).says(0, &["no service is configured", "PAUSED    all services, by ", "until somebody resumes: move"]);
    run(&["resume", "--all", "--yes"]).says(0, &["automatic rollbacks of all services are allowed again"]);
    assert_eq!(run(&["status", "--output", "json"]).json()["hold"], Value::Null);
    run(&["rollback", "ghost", "--yes"]).stops(2, &["no service is called ghost"]);
    run(&["hold", "--all", "--reason", &"x".repeat(1001), "--yes"]).stops(2, &["at most 1000 bytes"]);
    shutdown.cancel();
    daemon.join().unwrap();
    run(&["status"]).stops(4, &["no daemon answers"]);
}

/// What a daemon says on stderr, line by line, each within ten seconds.
struct Said(std::sync::mpsc::Receiver<String>);

impl Said {
    fn by(child: &mut std::process::Child) -> Self {
        let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(stderr).map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self(lines)
    }

    /// The lines up to one that holds a text.
    fn until(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.contains(text)) {
            lines.push(self.0.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| panic!("{text:?} is not in {lines:#?}")));
        }
        lines
    }
}

#[test]
fn a_reload_that_is_refused_says_each_mistake_in_a_line_and_in_fields() {
    const GOOD: &str = "[services.a]\nplatform.command = { current = ['echo', 'v1'], deploy = ['true'] }\n";
    for format in ["text", "json"] {
        let (directory, path) = file(GOOD);
        let socket = directory.path().join("socket").display().to_string();
        let arguments = ["run", "--config", &path, "--socket", &socket, "--log-format", format];
        let mut command = rollbackd(&arguments);
        let mut daemon = command.env("STATE_DIRECTORY", directory.path()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Said::by(&mut daemon);
        said.until("ready");
        std::fs::write(&path, format!("{GOOD}widnow = '1h'\nwindow = 3\n")).unwrap();
        let process = rustix::process::Pid::from_child(&daemon);
        rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
        let lines = said.until("was not reloaded");
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        assert_eq!(daemon.wait().unwrap().code(), Some(0));
        assert!(!lines.iter().any(|line| line.contains("\\n")), "{lines:#?}");
        assert!(lines.last().unwrap().contains("2 errors"), "{lines:#?}");
        let widnow = lines.iter().find(|line| line.contains("widnow")).unwrap_or_else(|| panic!("{lines:#?}"));
        if format == "json" {
            let json: Value = serde_json::from_str(widnow).unwrap();
            assert_eq!(json["message"], "`widnow` is not a key of `services.a`");
            assert_eq!((&json["level"], &json["line"], &json["column"]), (&json!("ERROR"), &json!(3), &json!(1)));
            assert_eq!((&json["file"], &json["help"]), (&json!(path), &json!("did you mean `window`?")));
        } else {
            assert!(
                widnow.contains("`widnow` is not a key of `services.a` file=") && widnow.contains(" line=3 column=1 help="),
                "{widnow}"
            );
        }
    }
}

// Exit codes and hard circumstances.

#[test]
fn a_guard_is_named_and_has_its_own_exit_code() {
    let refused = |_: &Asked| Answer::Refused { guard: "no-known-good".to_owned(), why: "there is no known good version".to_owned() };
    let fake = Fake::new(refused);
    fake.run(&["rollback", "checkout", "--dry-run"]).stops(3, &["refused (no-known-good): there is no known good version"]);
    let ran = fake.run(&["rollback", "checkout", "--yes", "--output", "json"]);
    assert_eq!(ran.code, Some(3));
    let expected = "refused (no-known-good): there is no known good version";
    assert_eq!(ran.json(), json!({ "error": expected, "exit_code": 3, "guard": "no-known-good" }));
}

#[test]
fn a_name_that_does_not_exist_is_a_matter_of_usage() {
    let fake = Fake::new(|_| Answer::Unknown("no service is called ghost; there are: checkout".to_owned()));
    fake.run(&["status", "ghost"]).stops(2, &["error: no service is called ghost; there are: checkout"]);
    let ran = fake.run(&["explain", "ghost", "--output", "json"]);
    assert_eq!((ran.code, &ran.json()["exit_code"]), (Some(2), &json!(2)));
}

#[test]
fn a_service_that_does_not_exist_is_told_with_those_that_do() {
    let fake = Fake::new(|command| match command {
        Asked::Status { service: None } => Answer::Status(status(vec![service()])),
        _ => Answer::Unknown("no service is called chekout; there are: checkout".to_owned()),
    });
    let commands: [&[&str]; 8] = [
        &["status", "chekout"],
        &["history", "chekout"],
        &["explain", "chekout"],
        &["deployed", "chekout"],
        &["rollback", "chekout", "--yes"],
        &["hold", "chekout", "--reason", "x", "--yes"],
        &["resume", "chekout", "--yes"],
        &["mark-good", "chekout", "shop:v1", "--dry-run"],
    ];
    for arguments in commands {
        fake.run(arguments).stops(2, &["error: no service is called chekout: did you mean checkout?\nthere is:\n  checkout\n"]);
    }
    let json = fake.run(&["status", "chekout", "--output", "json"]).json();
    assert_eq!(json, json!({ "error": "no service is called chekout: did you mean checkout?", "exit_code": 2, "known": ["checkout"] }));
}

#[test]
fn an_environment_that_does_not_exist_is_no_empty_history() {
    let fake = Fake::new(|command| match command {
        Asked::Status { .. } => Answer::Status(status(vec![service()])),
        Asked::History { environment: None, .. } => {
            let mut past = deployment(3, "shop:v0", Status::Superseded);
            past.environment = "staging".to_owned();
            Answer::History(vec![past])
        }
        Asked::History { .. } => Answer::History(Vec::new()),
        other => panic!("{other:?}"),
    });
    fake.run(&["history", "-e", "prodution"])
        .stops(2, &["error: no environment is called prodution: did you mean production?\nthere are:\n  production\n  staging\n"]);
    fake.run(&["history", "checkout", "-e", "moon"])
        .stops(2, &["error: no environment of checkout is called moon\nthere are:\n  production\n"]);
    fake.run(&["history", "-e", "production"]).says(0, &["no deployment was seen yet"]);
}

#[test]
fn a_version_that_was_never_seen_is_told_with_the_newest_ones_that_were() {
    let fake = Fake::new(|command| match command {
        Asked::Status { .. } => Answer::Status(status(vec![service()])),
        Asked::History { .. } => {
            let again = deployment(30, "shop:v29", Status::RolledBack);
            Answer::History(
                std::iter::once(again).chain((1..30).rev().map(|n| deployment(n, &format!("shop:v{n}"), Status::Deployed))).collect(),
            )
        }
        _ => Answer::Refused { guard: "unknown-version".to_owned(), why: "it was never seen at this service".to_owned() },
    });
    for arguments in [
        &["rollback", "checkout", "--to", "shop:v99", "--dry-run"][..],
        &["mark-good", "checkout", "shop:v99", "--yes"],
        &["mark-bad", "checkout", "shop:v99", "--dry-run"],
    ] {
        let ran = fake.run(arguments);
        ran.stops(
            2,
            &["error: checkout was never seen in a version \"shop:v99\"", "  #30 shop:v29 (rolled_back, marked unknown)\n  #28 shop:v28"],
        );
        assert!(ran.stderr.ends_with("  and 19 more\n") && ran.stderr.lines().count() == 13, "{}", ran.stderr);
    }
    let json = fake.run(&["rollback", "checkout", "--to", "shop:v99", "--yes", "--output", "json"]).json();
    assert_eq!((&json["exit_code"], &json["known"][0]), (&json!(2), &json!("#30 shop:v29 (rolled_back, marked unknown)")));
}

#[test]
fn what_could_not_be_recorded_failed() {
    let fake = Fake::new(|_| Answer::Failed("the ledger can't be written".to_owned()));
    fake.run(&["resume", "--all", "--yes"]).stops(1, &["error: the ledger can't be written"]);
}

#[test]
fn no_daemon_has_its_own_exit_code_and_says_where_it_was_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("nowhere");
    let dead = directory.path().join("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    for socket in [&nowhere, &dead] {
        let socket = socket.display().to_string();
        let ran = Ran::new(rollbackd(&["status", "--socket", &socket]).output().unwrap());
        ran.stops(4, &[&format!("error: no daemon answers at {socket}: is it running? (systemctl status rollbackd; or --socket)")]);
        let ran = Ran::new(rollbackd(&["status", "--output", "json", "--socket", &socket]).output().unwrap());
        assert_eq!((ran.code, &ran.json()["exit_code"]), (Some(4), &json!(4)));
    }
}

#[test]
fn something_else_at_the_socket_is_no_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 16];
        stream.read_exact(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let ran = Ran::new(rollbackd(&["status"]).env("ROLLBACKD_SOCKET", &socket).output().unwrap());
    ran.stops(4, &["is no rollbackd"]);
    other.join().unwrap();
}

#[test]
fn wrong_arguments_are_a_matter_of_usage() {
    for arguments in [
        &[][..],
        &["explode"],
        &["status", "--colour", "never"],
        &["status", "../etc"],
        &["history", "--limit", "0"],
        &["hold", "--reason", "x"],
        &["hold", "checkout", "--all", "--reason", "x"],
        &["hold", "checkout"],
        &["hold", "checkout", "--reason", " "],
        &["hold", "checkout", "--reason", "x", "--for", "0s"],
        &["deployed", "checkout", "--started", "2999-01-01T00:00:00Z"],
        &["deployed", "checkout", "--change", "magic"],
        &["rollback", "checkout", "--yes", "--dry-run"],
        &["explain", "checkout", "--deployment", "v2"],
    ] {
        let ran = Ran::new(rollbackd(arguments).output().unwrap());
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn wrong_arguments_are_told_to_programs_as_every_error() {
    for (arguments, expected) in [
        (&["explode", "--output", "json"][..], "unrecognized subcommand 'explode'"),
        (&["--output=json", "history", "--limit", "0"], "invalid value '0' for '--limit <LIMIT>'"),
        (&["--output", "json"], "requires a subcommand"),
        (&["demo", "--output", "json"], "the demo is a story for people"),
    ] {
        let ran = Ran::new(rollbackd(arguments).output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(2), ""), "{arguments:?}");
        let json = ran.json();
        assert_eq!(json["exit_code"], 2);
        let error = json["error"].as_str().unwrap();
        assert!(error.contains(expected) && !error.starts_with("error"), "{error}");
    }
}

#[test]
fn a_socket_whose_path_is_too_long_is_a_matter_of_usage_and_nothing_was_asked() {
    let socket = format!("/tmp/{}", "x".repeat(103));
    let ran = Ran::new(rollbackd(&["status", "--socket", &socket]).output().unwrap());
    ran.stops(2, &[&format!("error: the path {socket} is too long for a unix socket"), "nothing was asked"]);
    let longest = &socket[..107];
    Ran::new(rollbackd(&["status", "--socket", longest]).output().unwrap()).stops(4, &[&format!("no daemon answers at {longest}")]);
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing_behind() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
        let directory = tempfile::tempdir().unwrap();
        let left = || std::fs::read_dir(directory.path()).unwrap().count();
        let mut child = rollbackd(&["demo"]).env("TMPDIR", directory.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Once it tells, its stage is set.
        assert_eq!(child.stdout.as_mut().unwrap().read(&mut [0]).unwrap(), 1);
        assert_eq!(left(), 1);
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        let ran = Ran::new(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), "error: interrupted\n"));
        assert_eq!(left(), 0, "{signal:?}");
    }
}

#[test]
fn an_empty_file_in_place_of_the_ledger_does_not_go_unnoticed() {
    let (directory, path) = file("[services.a]\nplatform.command = { current = ['echo', 'v1'], deploy = ['true'] }\n");
    std::fs::write(directory.path().join("ledger.sqlite3"), "").unwrap();
    let socket = directory.path().join("socket").display().to_string();
    let begin = || {
        let mut command = rollbackd(&["run", "--config", &path, "--socket", &socket]);
        let mut daemon = command.env("STATE_DIRECTORY", directory.path()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Said::by(&mut daemon).until("ready").concat();
        rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM).unwrap();
        assert_eq!(daemon.wait().unwrap().code(), Some(0));
        lines
    };
    let first = begin();
    assert!(first.contains("WARN") && first.contains("an empty file was found where the ledger was expected"), "{first}");
    let second = begin();
    assert!(!second.contains("an empty file"), "{second}");
}

/// A file with this text, and its path.
fn file(text: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rollbackd.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path.display().to_string())
}

#[test]
fn check_as_json_is_one_flat_object_whether_the_file_is_good_or_not() {
    let fields = |json: &Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let (_directory, wrong) = file("[services.a]\nplatform.command = { current = ['a'], deploy = ['b'] }\nwidnow = '1h'\n");
    let ran = Ran::new(rollbackd(&["check", &wrong, "--output", "json"]).output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(2), ""));
    let json = ran.json();
    let mut expected =
        vec!["connections", "destinations", "diagnostics", "error", "exit_code", "file", "omitted", "services", "unseen", "valid"];
    assert_eq!(fields(&json), expected);
    assert_eq!((&json["valid"], &json["exit_code"], &json["omitted"]), (&json!(false), &json!(2), &json!(0)));
    let error = json["diagnostics"].as_array().unwrap().iter().find(|diagnostic| diagnostic["level"] == "error").unwrap();
    assert_eq!((&error["line"], &error["column"], &error["help"]), (&json!(3), &json!(1), &json!("did you mean `window`?")));

    let (_directory, good) = file("[services.a]\nplatform.command = { current = ['a'], deploy = ['b'] }\n");
    let ran = Ran::new(rollbackd(&["check", &good, "--output", "json"]).output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let json = ran.json();
    expected.retain(|field| !["error", "exit_code"].contains(field));
    assert_eq!(fields(&json), expected);
    assert_eq!((&json["valid"], &json["services"], &json["connections"]), (&json!(true), &json!(["a"]), &Value::Null));
    assert_eq!(json["diagnostics"][0]["level"], "warning");
}

#[test]
fn a_host_without_certificate_authorities_still_sees_what_is_not_encrypted() {
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in plain.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let (_directory, path) = file(&format!(
        "[services.a]\nplatform.command = {{ current = ['echo', 'v1'], deploy = ['true'] }}\n\
         probes.plain.http = 'http://{address}/'\nprobes.secure.http = 'https://{address}/'\n"
    ));
    let mut command = rollbackd(&["check", &path, "--connect", "--output", "json"]);
    let ran = Ran::new(command.env("SSL_CERT_FILE", "/no/such/file").env("SSL_CERT_DIR", "/no/such/directory").output().unwrap());
    let json = ran.json();
    let of = |name: &str| {
        let tried = json["connections"].as_array().unwrap().iter();
        tried.into_iter().find(|tried| tried["what"].as_str().unwrap().contains(name)).unwrap()["ok"].clone()
    };
    assert_eq!((of("probe.plain"), of("probe.secure"), ran.code), (json!(true), json!(false), Some(1)), "{json}");
}

#[test]
fn without_a_cluster_everything_else_is_tried() {
    let (_directory, path) = file(
        "[services.here]\nplatform.command = { current = ['echo', 'v1'], deploy = ['true'] }\n\
         [services.there]\nplatform.kubernetes = { namespace = 'shop', deployment = 'there' }\nprobes.ready.http = 'http://127.0.0.1:9/'\n",
    );
    let mut command = rollbackd(&["check", &path, "--connect", "--output", "json"]);
    command.env("KUBECONFIG", "/no/such/kubeconfig").env_remove("KUBERNETES_SERVICE_HOST");
    let ran = Ran::new(command.output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{}", ran.stdout);
    let json = ran.json();
    let tried: Vec<_> = json["connections"].as_array().unwrap().iter().map(|tried| (&tried["what"], tried["ok"] == true)).collect();
    assert_eq!((&json["valid"], tried.len(), tried[0].1, tried[1].1), (&json!(true), 3, true, false), "{json}");
    assert_eq!(tried[1].0, "services.there: kubernetes shop/deployment/there");
    assert!(tried[2].0.as_str().unwrap().starts_with("services.there: probe.ready "), "{json}");
    let found = json["connections"][1]["found"].as_str().unwrap();
    assert!(found.contains("/no/such/kubeconfig"), "{found}");
    assert_eq!(found.matches("No such file or directory").count(), 1, "{found}");
}

#[test]
fn ten_services_that_never_answer_are_tried_together() {
    // It takes connections and never says anything.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let service = |number| {
        format!(
            "[services.s{number}]\n\
             platform.command = {{ current = ['true'], deploy = ['true'] }}\n\
             probes.ready = {{ http = 'http://{address}/{number}', timeout = '1s' }}\n"
        )
    };
    let text = (0..10).map(service).collect::<Vec<_>>().concat();
    let (_directory, path) = file(&text);
    let began = std::time::Instant::now();
    let ran = Ran::new(rollbackd(&["check", &path, "--connect", "--output", "json"]).output().unwrap());
    let took = began.elapsed();
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let json = ran.json();
    let probes: Vec<_> =
        json["connections"].as_array().unwrap().iter().filter(|tried| tried["what"].as_str().unwrap().contains("probe")).collect();
    assert_eq!(probes.len(), 10);
    for (number, probe) in probes.iter().enumerate() {
        assert!(probe["what"].as_str().unwrap().starts_with(&format!("services.s{number}: probe.ready ")), "{probe}");
        assert_eq!(probe["ok"], false);
        assert!(probe["found"].as_str().unwrap().contains("no answer within 1s"), "{probe}");
    }
    // One after another they take ten seconds by their own limits.
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn help_teaches_the_exit_codes_and_gives_examples() {
    Ran::new(rollbackd(&["--help"]).output().unwrap()).says(0, &["Exit codes:", "3  refused", "At three in the morning:", "rollback"]);
    Ran::new(rollbackd(&["rollback", "--help"]).output().unwrap()).says(0, &["Examples:", "--dry-run", "--no-wait"]);
    Ran::new(rollbackd(&["help", "rollback"]).output().unwrap()).says(0, &["Examples:", "--dry-run", "--no-wait"]);
    Ran::new(rollbackd(&["--version"]).output().unwrap()).says(0, &["rollbackd "]);
}

#[test]
fn a_hostile_version_name_says_nothing_to_the_terminal() {
    let hostile = || {
        let mut view = service();
        view.deployment = Some(deployment(12, HOSTILE, Status::Watching));
        view.summary = format!("rollback to {HOSTILE}");
        view
    };
    let fake = Fake::new(move |_| Answer::Status(status(vec![hostile()])));
    for arguments in [&["status"][..], &["status", "checkout"], &["status", "--output", "json"], &["status", "--color", "never"]] {
        let ran = fake.run(arguments);
        ran.says(0, &["v2\\u"]);
        let bad = ran.stdout.chars().find(|character| (character.is_control() && *character != '\n') || *character == '\u{202e}');
        assert_eq!(bad, None, "{arguments:?}: {:?}", ran.stdout);
    }
    let json = fake.run(&["status", "--output", "json"]).json();
    assert_eq!(json["services"][0]["deployment"]["version"]["name"], HOSTILE);
    let error = Fake::new(|_| Answer::Unknown(format!("there is no {HOSTILE}"))).run(&["status", "checkout"]);
    error.stops(2, &["there is no v2\\u{1b}[2J"]);
}

#[test]
fn colour_comes_only_where_it_is_wanted() {
    let fake = Fake::new(|_| Answer::Status(status(vec![service()])));
    assert!(!fake.run(&["status"]).stdout.contains('\u{1b}'));
    let colourful = fake.run(&["status", "--color", "always"]);
    assert!(colourful.stdout.contains("\u{1b}["), "{:?}", colourful.stdout);
    let no_color = fake.command(&["status"]).env("NO_COLOR", "1").output().unwrap();
    assert!(!Ran::new(no_color).stdout.contains('\u{1b}'));
    assert!(!fake.run(&["status", "--color", "always", "--output", "json"]).stdout.contains('\u{1b}'));
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let fake = Fake::new(|_| Answer::Status(status(vec![service(); 2000])));
    for arguments in [&["status"][..], &["status", "--output", "json"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran = Ran::new(fake.command(arguments).stdout(writer).output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

// What somebody says, and what they are asked.

fn declared(guard: Option<&str>, known: bool, dry_run: bool) -> Answer {
    let follows = match guard {
        Some(guard) => format!("the matrix says roll back, but {guard} stands in the way: alice paused automatic rollbacks: move"),
        None => "rolling back checkout from shop:v2 to shop:v1".to_owned(),
    };
    Answer::Declared {
        service: name("checkout"),
        impact: Impact::DataCorruption,
        severity: Severity::P0,
        response: Response::RollBack,
        deployment: 12,
        version: version("shop:v2"),
        known,
        dry_run,
        to: guard.is_none().then(|| version("shop:v1")),
        guard: guard.map(str::to_owned),
        follows,
    }
}

#[test]
fn declare_says_what_follows_and_a_guard_in_the_way_has_its_exit_code() {
    let fake = |guard: Option<&'static str>, known| {
        Fake::new(move |command| match command {
            Asked::Declare { dry_run, .. } => declared(guard, known, *dry_run),
            other => panic!("{other:?}"),
        })
    };
    let arguments = ["declare", "checkout", "data-corruption", "--reason", "totals", "--yes"];
    let daemon = fake(None, false);
    daemon
        .run(&arguments)
        .says(0, &["declared P0 data corruption on shop:v2 of checkout (deployment 12): rolling back checkout from shop:v2 to shop:v1"]);
    let expected = Asked::Declare {
        service: name("checkout"),
        impact: Impact::DataCorruption,
        reason: "totals".to_owned(),
        resolved: false,
        dry_run: false,
    };
    assert_eq!(daemon.asked(), [expected]);
    fake(None, true).run(&arguments).says(0, &["P0 data corruption on shop:v2 of checkout (deployment 12) was declared already"]);
    fake(Some("hold"), false).run(&arguments).says(3, &["but hold stands in the way: alice paused automatic rollbacks: move"]);
    let dry = fake(None, false);
    dry.run(&["declare", "checkout", "data_corruption", "--reason", "totals", "--dry-run"]).says(0, &["would declare P0 data corruption"]);
    assert!(matches!(dry.asked().as_slice(), [Asked::Declare { dry_run: true, .. }]));
}

#[test]
fn declare_without_a_reason_an_impact_or_a_terminal_declares_nothing() {
    let fake = Fake::new(|command| panic!("{command:?}"));
    for (arguments, expected) in [
        (&["declare", "checkout", "data_corruption", "--yes"] as &[&str], "--reason"),
        (&["declare", "checkout", "data_coruption", "--reason", "a", "--yes"], "did you mean data_corruption?"),
        (&["declare", "checkout", "--reason", "a", "--yes"], "<IMPACT>"),
        (&["declare", "checkout", "data_corruption", "--reason", " ", "--yes"], "must say something"),
        (&["declare", "checkout", "data_corruption", "--reason", "a"], "there is no terminal to ask on"),
        (&["approve", "checkout"], "there is no terminal to ask on"),
        (&["reject"], "<SERVICE>"),
    ] {
        fake.run(arguments).stops(2, &[expected]);
    }
    assert_eq!(fake.asked(), []);
}

#[test]
fn approve_plans_reject_keeps_and_where_nobody_is_asked_both_are_refused() {
    let fake = Fake::new(|command| match command {
        Asked::Answer { choice: Choice::RollBack, dry_run, .. } => planned(*dry_run),
        Asked::Answer { choice: Choice::Keep, .. } => Answer::Done("shop:v2 of checkout stays".to_owned()),
        other => panic!("{other:?}"),
    });
    fake.run(&["approve", "checkout", "--yes"])
        .says(0, &["checkout: rollback from shop:v2 to shop:v1 is planned", "rollbackd status checkout"]);
    fake.run(&["approve", "checkout", "--dry-run"])
        .says(0, &["would roll back checkout from shop:v2 to shop:v1", "warning: shop:v1 is not"]);
    fake.run(&["reject", "checkout", "--reason", "a fix comes", "--yes"]).says(0, &["shop:v2 of checkout stays"]);
    let refused = || Answer::Refused { guard: "no-question".to_owned(), why: "nobody is asked about shop:v2 of checkout".to_owned() };
    Fake::new(move |_| refused()).run(&["reject", "checkout", "--yes"]).stops(3, &["refused (no-question): nobody is asked"]);
}

#[test]
fn status_shows_who_said_what_and_what_is_asked() {
    let fake = Fake::new(|_| {
        let mut asked = service();
        asked.declared = vec![DeclaredView {
            impact: Impact::FeatureBroken,
            by: format!("alert {HOSTILE}"),
            reason: "vouchers are refused".to_owned(),
            since: at("03:02:00"),
        }];
        let words = "P2 single feature broken: an answer is waited for until 2026-11-21 03:32:00 UTC, then it stays".to_owned();
        asked.question = Some(QuestionView { impact: Impact::FeatureBroken, until: at("03:32:00"), otherwise: Choice::Keep, words });
        Answer::Status(status(vec![asked]))
    });
    let ran = fake.run(&["status"]);
    ran.says(
        0,
        &[
            "DECLARED  checkout: single feature broken, by alert v2",
            "since 2026-11-21 03:02:00 UTC (3m ago): vouchers are refused",
            "ASKED     checkout: P2 single feature broken: an answer is waited for until 2026-11-21 03:32:00 UTC, then it stays (rollbackd approve checkout, or rollbackd reject checkout)",
        ],
    );
    assert!(!ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
    fake.run(&["status", "checkout"]).says(0, &["declared    single feature broken, by alert", "asked       P2 single feature broken"]);
}

// Policy tests.

const POLICY_TEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/kubernetes_test.toml");

/// The example with something put in place of something else, beside the configuration that it names.
fn policy_test_with(what: &str, instead: &str) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(POLICY_TEST.replace("_test", ""), directory.path().join("kubernetes.toml")).unwrap();
    let text = std::fs::read_to_string(POLICY_TEST).unwrap();
    assert!(text.contains(what), "{what}");
    let file = directory.path().join("changed_test.toml");
    std::fs::write(&file, text.replace(what, instead)).unwrap();
    (directory, file.to_str().unwrap().to_owned())
}

fn run_alone(arguments: &[&str]) -> Ran {
    Ran::new(rollbackd(arguments).output().unwrap())
}

#[test]
fn the_example_of_policy_tests_passes() {
    run_alone(&["test", POLICY_TEST]).says(0, &["Unit Testing:  ", "kubernetes_test.toml\n  SUCCESS\n"]);
}

#[test]
fn a_policy_test_that_fails_says_what_came_instead_and_the_others_are_still_run() {
    let (_directory, file) = policy_test_with("within = \"4m\", not_before", "within = \"150s\", not_before");
    let ran = run_alone(&["test", &file, POLICY_TEST]);
    ran.says(
        1,
        &[
            "changed_test.toml\n  FAILED:\n    name: a release of which most requests fail",
            "      time: 1h 2m 30s (2m 30s after the deployment), line ",
            "        exp: error_ratio, P1, roll_back\n",
            "        why: error_ratio came 30s later, at 1h 3m (3m after the deployment)",
            "kubernetes_test.toml\n  SUCCESS\n",
        ],
    );
    let json = run_alone(&["test", &file, "--output", "json", "--run", "most requests"]).json();
    let test = &json["files"][0]["tests"][0];
    assert_eq!((&json["files"][0]["outcome"], json["files"][0]["tests"].as_array().unwrap().len()), (&json!("failed"), 1));
    assert_eq!((&test["passed"], &test["expectations"][0]["expected"]["verdict"]), (&json!(false), &json!("error_ratio")));
    assert_eq!(test["expectations"][0]["at_seconds"], json!(3750.0));
    assert!(test["expectations"][0]["findings"].as_array().unwrap().iter().any(|finding| finding["signal"] == "errors"));
}

#[test]
fn policy_tests_are_picked_by_name() {
    let (_directory, file) = policy_test_with("within = \"4m\", not_before", "within = \"150s\", not_before");
    run_alone(&["test", &file, "--run", "feature", "--run", "^while", "-v"]).says(0, &["name: a feature", "name: while Prometheus"]);
    complains(
        &run_alone(&["test", &file, "--run", "nothing is called that"]),
        2,
        &["no test has a name that `--run` matches", "a feature that"],
    );
    complains(&run_alone(&["test", &file, "--run", "("]), 2, &["--run", "regex parse error"]);
}

#[test]
fn a_file_of_policy_tests_with_errors_is_shown_with_its_lines() {
    let (_directory, file) = policy_test_with("verdict = \"inconclusive\"", "verdict = \"inconclusiv\"");
    complains(&run_alone(&["test", &file, POLICY_TEST]), 2, &["did you mean \"inconclusive\"?", "changed_test.toml: 1 error"]);
    let json = run_alone(&["test", &file, "--output", "json"]).json();
    assert_eq!(json["files"][0]["outcome"], "unreadable");
    assert_eq!(json["files"][0]["diagnostics"][0]["diagnostics"][0]["line"].as_u64().map(|line| line > 40), Some(true));
    complains(&run_alone(&["test", "/nowhere/x_test.toml"]), 2, &["cannot read the tests /nowhere/x_test.toml"]);
}

/// Two hours of samples at ten requests a second; after an hour and a half, six of ten fail.
fn recorded() -> String {
    let (mut well, mut failed, mut text) = (0, 0, String::new());
    for step in 0..480_i64 {
        failed += if step > 360 { 90 } else { i64::from(step % 4 == 0) };
        well += if step > 360 { 60 } else { 150 };
        let at = 1_795_000_000 + 15 * step;
        for (code, value) in [(200, well), (500, failed)] {
            let _ = writeln!(text, "requests_total{{instance=\"a\",code=\"{code}\"}} {value} {at}");
        }
    }
    text + "# EOF\n"
}

#[test]
fn a_replay_says_what_would_have_been_done_and_by_its_exit_code_whether_all_could_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let config = r#"
        [prometheus.main]
        url = "http://127.0.0.1:9090"
        [services.checkout]
        platform.command = { current = ["true"], deploy = ["true"] }
        errors = { prometheus = "main", total = "requests_total", failed = 'requests_total{code=~"5.."}' }
    "#;
    std::fs::write(path("c.toml"), config).unwrap();
    std::fs::write(path("whole.txt"), recorded()).unwrap();
    // Three digits of the last sample are missing, and the end.
    std::fs::write(path("cut.txt"), &recorded()[..recorded().len() - 10]).unwrap();
    let (config, page) = (path("c.toml"), path("replay.html"));
    let replay = |samples: &str, deployed: &str, more: &[&str]| {
        let samples = path(samples);
        let arguments = ["replay", "--config", &config, "--samples", &samples, "--deployed", deployed];
        run_alone(&[&arguments, more].concat())
    };
    let bad = "checkout=1795005400";
    replay("whole.txt", bad, &["--report", &page]).says(
        0,
        &["1 deployment: 1 would have been rolled back\n", "960 of 2 series", "3m after the deployment", "P1 error ratio too high"],
    );
    assert!(std::fs::read_to_string(&page).unwrap().contains("<svg"));
    let json = replay("whole.txt", "checkout=2026-11-18T12:06:40Z", &["--output", "json"]).json();
    assert_eq!((&json["summary"]["left_alone"], &json["deployments"][0]["decision"]), (&1.into(), &"left_alone".into()));
    let cut = replay("cut.txt", bad, &[]);
    cut.says(1, &["1 would have been rolled back", "line 960: the file is cut in the middle of it"]);
    replay("whole.txt", "search=1795005400", &[]).stops(2, &["guards no service called search\nthere is:\n  checkout"]);
    replay("whole.txt", "checkout=yesterday", &[]).stops(2, &["neither a time with its zone"]);
    replay("nothing.txt", bad, &[]).stops(1, &["cannot read", "nothing.txt"]);
    run_alone(&["replay", "--config", &config, "--samples", &path("whole.txt")]).stops(2, &["nothing was deployed"]);
}
