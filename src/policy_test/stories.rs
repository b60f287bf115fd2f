//! Policy tests as a user writes them: a file on disk, and what comes of it.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::config::policy_test::{PolicyTests, load};
use crate::config::{Diagnostics, Environment, render};

const CONFIGURATION: &str = r#"
[prometheus.main]
url = "http://prometheus:9090"
bearer_file = "/nowhere/token"

[notify.oncall.email]
smtp = "smtps://mail.example.org"
from = "rollbackd@example.org"
to = ["oncall@example.org"]

[services.checkout]
platform.kubernetes = { namespace = "shop", deployment = "checkout" }

[services.checkout.probes.ready]
http = "http://checkout/healthz"

[services.checkout.errors]
prometheus = "main"
total = 'requests_total{service="checkout"}'
failed = 'requests_total{service="checkout",code=~"5.."}'
by = "route"

[services.checkout.latency]
prometheus = "main"
histogram = 'duration_seconds{service="checkout"}'

[services.checkout.impacts.wrong_totals]
prometheus = "main"
query = 'increase(order_total_mismatch_total[5m]) > 0'
impact = "data_corruption"

[services.checkout.control.neighbours]
prometheus = "main"
total = 'requests_total{service="search"}'
failed = 'requests_total{service="search",code=~"5.."}'
"#;

/// What most files begin with.
const HEAD: &str = "config = \"rollbackd.toml\"\nservice = \"checkout\"\ndeployed = \"1h\"\n";

struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: TempDir::new().unwrap() };
        std::fs::write(desk.path("rollbackd.toml"), CONFIGURATION).unwrap();
        desk
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self, text: &str) -> Result<PolicyTests, Vec<Diagnostics>> {
        let path: &Path = &self.path("tests.toml");
        std::fs::write(path, text).unwrap();
        load(path, &Environment::default())
    }
}

fn wrong(text: &str) -> String {
    let invalid = Desk::new().load(text).expect_err("it is wrong");
    invalid.iter().map(|diagnostics| render(diagnostics, false)).collect()
}

fn tests(text: &str) -> Vec<Test> {
    let told = |invalid: Vec<Diagnostics>| panic!("{}", invalid.iter().map(|wrong| render(wrong, false)).collect::<String>());
    Desk::new().load(text).unwrap_or_else(told).tests
}

/// The file of one test with these series of the codes 200 and 500, and what is expected.
fn counting(good: &str, bad: &str, expect: &str) -> String {
    format!(
        "{HEAD}[[tests]]\nname = \"x\"\nexpect = [{expect}]\n[tests.series]\n'requests_total{{service=\"checkout\",code=\"200\"}}' = \
         \"{good}\"\n'requests_total{{service=\"checkout\",code=\"500\"}}' = \"{bad}\"\n"
    )
}

/// Ten requests a second of which one in 150 fails, and from the deployment on so many of 150.
fn failing(of_150: u32, expect: &str) -> String {
    counting(&format!("0+149x240 35760+{}x120", 150 - of_150), &format!("0+1x240 240+{of_150}x120"), expect)
}

fn outcomes(text: &str) -> Vec<Outcome> {
    tests(text).iter().flat_map(run).collect()
}

/// What is said of the only expectation, a line each; empty when it is met.
fn why(text: &str) -> String {
    let outcomes = outcomes(text);
    assert_eq!(outcomes.len(), 1);
    outcomes[0].why.join("\n")
}

#[track_caller]
fn says(why: &str, phrases: &[&str]) {
    for phrase in phrases {
        assert!(why.contains(phrase), "{phrase:?} is not in\n{why}");
    }
}

#[test]
fn a_release_that_fails_is_rolled_back_and_one_that_does_not_is_left_alone() {
    let bad = failing(90, r#"{ within = "3m 30s", not_before = "2m", verdict = "error_ratio", severity = "P1", response = "roll_back" }"#);
    assert_eq!(why(&bad), "");
    assert_eq!(why(&failing(1, r#"{ verdict = "none" }"#)), "");
}

#[test]
fn what_is_reached_stays_reached_since_the_daemon_has_acted_on_it() {
    let blip = counting(
        "0+149x240 35760+60x24 37200+149x90",
        "0+1x240 240+90x24 2400+1x90",
        r#"{ after = "20m", verdict = "error_ratio", signal = "errors" }"#,
    );
    assert_eq!(why(&blip), "");
}

#[test]
fn a_verdict_that_comes_too_late_is_told_with_its_time_and_what_it_waited_for() {
    let why = why(&failing(90, r#"{ within = "2m", verdict = "error_ratio" }"#));
    says(&why, &["error_ratio came 1m later, at 1h 3m (3m after the deployment): P1 error ratio too high, seen by errors: 60 % failing"]);
    says(&why, &["it is too early: 2m (`decision.hold_p1`) has to be watched after the grace of 1m (`decision.grace`)"]);
}

#[test]
fn a_release_that_is_not_bad_enough_is_told_by_how_much() {
    let why = why(&failing(45, r#"{ within = "10m", verdict = "error_ratio" }"#));
    says(&why, &["error_ratio was not reached at all, until the test ended at 1h 30m"]);
    says(&why, &["reached was feature_broken at 1h 3m (3m after the deployment): P2 single feature broken, seen by errors: 30 % failing"]);
    says(&why, &["it is not bad enough: 30 % failed over the last 2m, and 50 % would be (`matrix.error_ratio.above`)"]);
}

#[test]
fn a_setting_that_a_test_changes_is_the_one_that_is_judged_by() {
    let text = failing(45, r#"{ within = "2m 30s", verdict = "error_ratio" }"#);
    assert!(!why(&text).is_empty());
    let changed = text.replace("[tests.series]", "matrix.error_ratio.above = 0.25\ndecision.hold_p1 = \"1m\"\n[tests.series]");
    assert_eq!(why(&changed), "");
}

#[test]
fn a_rollback_that_a_guard_would_keep_back_is_none() {
    let roll_back = r#"{ within = "10m", verdict = "feature_broken", response = "roll_back" }"#;
    let little_history = failing(12, roll_back).replace("[tests.series]", "matrix.feature_broken.response = \"roll_back\"\n[tests.series]");
    says(&why(&little_history), &["nothing would be rolled back, the guard little-history stands in the way: only 1h of errors is known"]);
    let desk = Desk::new();
    std::fs::write(desk.path("rollbackd.toml"), CONFIGURATION.replace("[services.checkout]", "[services.checkout]\ndry_run = true"))
        .unwrap();
    let dry = desk.load(&failing(90, r#"{ within = "10m", verdict = "error_ratio", response = "roll_back" }"#));
    let outcomes = run(&dry.ok().and_then(|dry| dry.tests.into_iter().next()).expect("it can be read"));
    assert!(outcomes[0].passed(), "a dry run says what would be done: {:?}", outcomes[0].why);
}

#[test]
fn what_is_scraped_once_a_minute_is_judged_at_that_pace_as_the_daemon_does() {
    let text = counting("0+596x60 35760+240x40", "0+4x60 240+360x40", r#"{ within = "6m", verdict = "error_ratio" }"#);
    assert_eq!(why(&text.replace("[tests.series]", "interval = \"1m\"\n[tests.series]")), "");
}

#[test]
fn what_no_time_makes_evidence_of_is_told_as_that() {
    let mild = failing(10, r#"{ within = "10m", verdict = "error_ratio" }"#);
    says(&why(&mild), &["is tolerated after this history, and no time makes evidence of that"]);
}

#[test]
fn a_verdict_that_was_not_expected_is_told_with_its_numbers_and_what_would_keep_it_away() {
    let why = why(&failing(90, r#"{ verdict = "none" }"#));
    says(
        &why,
        &["reached was error_ratio at 1h 3m (3m after the deployment): P1 error ratio too high, seen by errors: 60 % failing since"],
    );
    says(&why, &["if less than 50 % failed (what is tolerated after this history is 12.5 %), `matrix.error_ratio.above`"]);
    says(&why, &["or if that lasted less than 2m, `decision.hold_p1`"]);
}

#[test]
fn the_wrong_severity_response_or_time_of_the_right_verdict_is_a_failure() {
    let expect = r#"{ within = "10m", verdict = "error_ratio", severity = "P0", response = "ask", not_before = "5m" }"#;
    let why = why(&failing(90, expect));
    says(&why, &["it is P1, not P0; `matrix.error_ratio.severity` says so"]);
    says(&why, &["the answer is roll_back, not ask; `matrix.error_ratio.response` says so"]);
    says(&why, &["it was reached at 1h 3m (3m after the deployment), before 1h 5m"]);
}

#[test]
fn without_a_history_no_verdict_is_possible_and_that_is_said() {
    let text = counting("0+60x40", "0+90x40", r#"{ within = "8m", verdict = "error_ratio" }"#).replace("\"1h\"", "\"0s\"");
    let told = why(&text);
    says(&told, &["no verdict is possible for want of a baseline: of the time before the deployment at 0s, no request seen"]);
    says(&told, &["let the series begin earlier, as in `0+150x240` (an hour at 15s) with `deployed = \"1h\"`"]);
    assert_eq!(why(&text.replace("error_ratio", "inconclusive")), "");
    says(
        &why(&text.replace("within = \"8m\", verdict = \"error_ratio", "verdict = \"none")),
        &["nothing could be", "expect `inconclusive`"],
    );
}

#[test]
fn a_history_that_is_bad_already_is_told_from_none() {
    let why = why(&counting("0+60x360", "0+90x360", r#"{ within = "8m", verdict = "error_ratio" }"#));
    says(&why, &["no verdict is possible, since the baseline is bad already: 21600 of 36000 requests failed in 1h"]);
}

#[test]
fn missing_samples_are_inconclusive_and_never_a_verdict() {
    let gone = counting("0+149x240 _x120", "0+1x240 _x120", r#"{ after = "10m", verdict = "inconclusive" }"#);
    assert_eq!(why(&gone), "");
    let told = why(&gone.replace("inconclusive", "none"));
    says(&told, &["errors: nothing can be said: no series match"]);
    let ended = counting("0+149x240", "0+1x240", r#"{ after = "5m", verdict = "none" }"#);
    says(&why(&ended), &["what is made up of it ends at 1h"]);
}

#[test]
fn probes_are_judged_by_rounds() {
    let text =
        |rounds: &str, expect: &str| format!("{HEAD}[[tests]]\nname = \"x\"\nexpect = [{expect}]\n[tests.probes]\nready = \"{rounds}\"\n");
    assert_eq!(why(&text("okx720 failx20", r#"{ within = "40s", verdict = "complete_outage", signal = "probe.ready" }"#)), "");
    assert_eq!(why(&text("okx720 failx4 okx100", r#"{ after = "5m", verdict = "none" }"#)), "");
    let told = why(&text("okx720 failx20", r#"{ within = "20s", verdict = "complete_outage" }"#));
    says(&told, &["it lacks evidence: 5 of 5 rounds failed since it began, odds 1 in 1230, needed 1 in 10000"]);
}

#[test]
fn a_question_of_the_operators_own_is_answered_by_hand() {
    let text = |answers: &str, verdict: &str| {
        format!(
            "{HEAD}[[tests]]\nname = \"x\"\nexpect = [{{ after = \"10m\", verdict = \"{verdict}\" }}]\n[tests.impacts]\nwrong_totals = \"{answers}\"\n"
        )
    };
    assert_eq!(why(&text("_x260 3x20", "data_corruption")), "");
    assert_eq!(why(&text("_x320", "none")), "");
    says(&why(&text("_x260 3x20", "none")), &["reached was data_corruption at 1h 5m (5m after the deployment): P0 data corruption"]);
    says(
        &wrong(&text("_x260 3x20", "none").replace("wrong_totals", "wrong_total")),
        &["checkout has no impact \"wrong_total\"", "did you mean `wrong_totals`?"],
    );
}

#[test]
fn what_a_control_group_suffers_too_is_not_this_deployments_doing() {
    let own = failing(90, r#"{ after = "10m", verdict = "none" }"#);
    says(&why(&own), &["reached was error_ratio"]);
    let others = "'requests_total{service=\"search\",code=\"200\"}' = \"0+149x240 35760+60x120\"\n\
                  'requests_total{service=\"search\",code=\"500\"}' = \"0+1x240 240+90x120\"\n";
    assert_eq!(why(&format!("{own}{others}")), "");
}

#[test]
fn a_histogram_is_read_and_a_part_of_it_that_nothing_reads_is_told() {
    let parts = "'duration_seconds_bucket{service=\"checkout\",le=\"0.1\"}' = \"0+90x300\"\n\
                 'duration_seconds_bucket{service=\"checkout\",le=\"+Inf\"}' = \"0+100x300\"\n\
                 'duration_seconds_count{service=\"checkout\"}' = \"0+100x300\"\n\
                 'duration_seconds_sum{service=\"checkout\"}' = \"0+8x300\"\n";
    let text = format!("{}{parts}", failing(1, r#"{ verdict = "none", signal = "errors" }"#));
    let first = tests(&text).remove(0);
    let latency = SignalName("latency".to_owned());
    let at = SignedDuration::from_mins(30);
    let reading = first.feeds[&latency].read(at, first.every(&latency).unwrap());
    assert!(matches!(&reading, rollbackd_core::observation::Reading::Histograms(histograms) if histograms.len() == 1), "{reading:?}");
    assert_eq!(why(&text), "");
    let told = wrong(&text.replace("duration_seconds_sum", "duration_sum"));
    says(&told, &["no signal of checkout reads this series", "latency reads the histogram duration_seconds{service=\"checkout\"}"]);
}

#[test]
fn a_release_that_answers_half_as_fast_is_rolled_back_in_time() {
    let text = |sum: &str, expect: &str| {
        format!(
            "{HEAD}[[tests]]\nname = \"x\"\nexpect = [{expect}]\n[tests.series]\n\
             'duration_seconds_bucket{{service=\"checkout\",le=\"0.1\"}}' = \"0+140x240 33600+10x100\"\n\
             'duration_seconds_bucket{{service=\"checkout\",le=\"0.25\"}}' = \"0+150x240 36000+140x100\"\n\
             'duration_seconds_bucket{{service=\"checkout\",le=\"+Inf\"}}' = \"0+150x340\"\n\
             'duration_seconds_count{{service=\"checkout\"}}' = \"0+150x340\"\n\
             'duration_seconds_sum{{service=\"checkout\"}}' = \"{sum}\"\n"
        )
    };
    assert_eq!(why(&text("0+10.5x240 2520+30x100", r#"{ within = "15m", verdict = "performance", signal = "latency" }"#)), "");
}

#[test]
fn each_of_several_deployments_is_judged_by_itself() {
    let text = counting(
        "0+149x480 71520+60x120",
        "0+1x480 480+90x120",
        r#"{ deployment = 1, verdict = "none" }, { after = "4m", verdict = "error_ratio" }, { at = "1h 50m", deployment = 1, verdict = "error_ratio" }"#,
    );
    let outcomes = outcomes(&text.replace("deployed = \"1h\"", "deployed = [\"1h\", \"2h\"]"));
    assert_eq!(outcomes.iter().map(Outcome::passed).collect::<Vec<_>>(), [true, true, false]);
    says(&outcomes[2].why.join("\n"), &["error_ratio was not reached at all"]);
}

#[test]
fn beside_the_old_version_only_what_a_process_counted_that_is_known_to_be_new_is_the_new_versions() {
    let text = |start: &str, verdict: &str| {
        format!(
            "{HEAD}[[tests]]\nname = \"x\"\nrollout = \"20m\"\nexpect = [{{ within = \"5m\", verdict = \"{verdict}\" }}]\n[tests.series]\n\
             'requests_total{{service=\"checkout\",code=\"200\",instance=\"old\"}}' = \"0+149x300\"\n\
             'requests_total{{service=\"checkout\",code=\"500\",instance=\"old\"}}' = \"0+1x300\"\n\
             'requests_total{{service=\"checkout\",code=\"200\",instance=\"new\"}}' = \"_x241 10+10x60\"\n\
             'requests_total{{service=\"checkout\",code=\"500\",instance=\"new\"}}' = \"_x241 140+140x60\"\n{start}"
        )
    };
    assert_eq!(why(&text("'process_start_time_seconds{instance=\"new\"}' = \"_x241 3601x60\"\n", "error_ratio")), "");
    says(&why(&text("", "error_ratio")), &["error_ratio was not reached at all"]);
}

#[test]
fn what_is_wrong_with_a_file_is_shown_where_it_stands_and_all_at_once() {
    let drawn = wrong(
        r#"config = "rollbackd.toml"
service = "chekout"
deployed = "1h"

[[tests]]
name = "a"
expects = [{ verdict = "none" }]
[tests.series]
'requests_total{code="200"}' = "0+10y20"

[[tests]]
name = "b"
service = "checkout"
interval = "1m"
expect = [
  { verdict = "eror_ratio" },
  { at = "30m", verdict = "none", severity = "P1" },
  { verdict = "none", signal = "error" },
]
[tests.series]
'requests_total{service="checkout"}' = "0+10x20"
'requests_total{service="billing"}' = "0+10x20"
[tests.probes]
redy = "okx5"
"#,
    );
    says(
        &drawn,
        &[
            "the configuration has no service \"chekout\"",
            "did you mean \"checkout\"?",
            "`expects` is not a key of `tests`",
            "did you mean `expect`?",
            "\"0+10y20\" is not understood",
            "9 | 'requests_total{code=\"200\"}' = \"0+10y20\"",
            "did you mean \"error_ratio\"?",
            "at 30m nothing is deployed yet: that is at 1h",
            "`tests.expect.severity` says nothing where the verdict is `none`",
            "nothing is made up of the signal \"error\"",
            "did you mean \"errors\"?",
            "no signal of checkout reads this series",
            "errors reads requests_total{service=\"checkout\"} and",
            "checkout has no probe \"redy\"",
            "did you mean `ready`?",
        ],
    );
    assert!(drawn.contains("tests.toml:9:33\n") && drawn.contains(&format!("\n  |{}^^^^^^^\n", " ".repeat(33))), "{drawn}");
    assert_eq!(drawn.matches("is not a key of").count(), 1, "{drawn}");
}

#[test]
fn what_lacks_is_named() {
    let drawn = wrong("config = \"rollbackd.toml\"\n[[tests]]\n[[tests]]\nname = \"b\"\n");
    says(&drawn, &["needs `name`", "needs `service`", "needs `deployed`", "needs `expect`", "needs `series`, `probes` or `impacts`"]);
    says(&wrong("config = \"rollbackd.toml\"\n"), &["needs `tests`"]);
}

#[test]
fn the_errors_of_the_configuration_are_shown_too() {
    let desk = Desk::new();
    std::fs::write(desk.path("rollbackd.toml"), CONFIGURATION.replace("[services.checkout.errors]", "[services.checkout.erors]")).unwrap();
    let invalid = desk.load(&failing(1, r#"{ verdict = "none" }"#)).expect_err("the configuration is wrong");
    let drawn: String = invalid.iter().map(|diagnostics| render(diagnostics, false)).collect();
    says(&drawn, &["the configuration can't be taken", "did you mean `errors`?"]);
}

#[test]
fn two_tests_of_one_name_or_two_equal_series_are_a_slip() {
    let twice = failing(1, r#"{ verdict = "none" }"#);
    let second = twice.replace(HEAD, "");
    says(&wrong(&format!("{twice}{second}")), &["two tests are called \"x\""]);
    let again = format!("{twice}'requests_total{{code=\"500\",service=\"checkout\"}}' = \"0x5\"\n");
    says(&wrong(&again), &["this series is there twice"]);
}
