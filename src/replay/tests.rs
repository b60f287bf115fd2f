//! Stories of replays: recorded samples in, judgements out; and a daemon whose ledger is replayed.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use rollbackd_core::guard::Limits;
use rollbackd_core::observation::{Binding, Reading, Replicas, Rollout, Sample, Scrape, Series, Workload};
use rollbackd_core::plan::Effect;
use rollbackd_core::version::Artifact;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::report::{Decision, Ending, Recorded};
use super::*;
use crate::clock::Clock;
use crate::config::{self, Environment};
use crate::daemon::{self, Daemon};
use crate::executor::Adapters as Everything;
use crate::ledger::sqlite::Sqlite;
use crate::platform::{Applied, Platform, Report as Look};

/// 2026-11-18 10:26:40 UTC.
const START: i64 = 1_794_997_600;

const CONFIGURATION: &str = r#"
[prometheus.main]
url = "http://127.0.0.1:9090"

[services.checkout]
platform.command = { current = ["true"], deploy = ["true"] }
[services.checkout.errors]
prometheus = "main"
total = 'requests_total{service="checkout"}'
failed = 'requests_total{service="checkout",code=~"5.."}'

[services.cart]
platform.command = { current = ["true"], deploy = ["true"] }
[services.cart.errors]
prometheus = "main"
total = 'requests_total{service="cart"}'
failed = 'requests_total{service="cart",code=~"5.."}'
"#;

fn configured(more: &str) -> Config {
    config::parse(&format!("{CONFIGURATION}\n{more}"), "rollbackd.toml", &Environment::default()).expect("it is valid")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).expect("a time in range")
}

fn checkout() -> ServiceName {
    ServiceName::try_from("checkout").expect("a name")
}

fn deployed(seconds: &[i64]) -> Request {
    Request { deployed: seconds.iter().map(|second| (checkout(), at(*second))).collect(), ..Request::default() }
}

/// Samples of `checkout`: ten requests a second from START on, of which a share fails that depends on the time; as one list a series.
struct Tape {
    step: i64,
    seconds: i64,
    labels: &'static str,
    ratio: fn(i64) -> f64,
}

const HOUR: i64 = 3600;

/// Three hours, and what was deployed after two of them fails badly.
const BAD: Tape =
    Tape { step: 15, seconds: 3 * HOUR, labels: r#"job="shop",instance="a""#, ratio: |second| if second > 2 * HOUR { 0.6 } else { 0.005 } };

impl Tape {
    fn series(&self) -> [Vec<String>; 2] {
        let (mut well, mut failed) = (0_i64, 0_i64);
        let mut lines = [Vec::new(), Vec::new()];
        for second in (0..self.seconds).step_by(usize::try_from(self.step).expect("it is positive")) {
            let requests = 10 * self.step;
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "few")]
            let bad = (requests as f64 * (self.ratio)(second) + if second % 60 == 0 { 0.5 } else { 0.0 }) as i64;
            failed += bad;
            well += requests - bad;
            let labels = self.labels;
            let line = |code: &str, value: i64| {
                format!("requests_total{{service=\"checkout\",{labels},code=\"{code}\"}} {value} {}", START + second)
            };
            lines[0].push(line("200", well));
            lines[1].push(line("503", failed));
        }
        lines
    }

    fn by_series(&self) -> String {
        let [well, failed] = self.series();
        format!("# TYPE requests counter\n{}\n{}\n# EOF\n", well.join("\n"), failed.join("\n"))
    }

    fn by_time(&self) -> String {
        let [well, failed] = self.series();
        let lines: Vec<String> = well.into_iter().zip(failed).flat_map(|(well, failed)| [well, failed]).collect();
        format!("{}\n# EOF\n", lines.join("\n"))
    }
}

fn replayed(request: Request, text: &str) -> Report {
    replayed_with(request, text, &[configured("")])
}

fn replayed_with(request: Request, text: &str, configs: &[Config]) -> Report {
    let named: Vec<_> = configs.iter().enumerate().map(|(number, config)| (format!("{number}.toml"), config.clone())).collect();
    let mut replay = Replay::new(request, &named, at(24 * HOUR)).expect("the selectors are valid");
    replay.read("samples.txt", text.as_bytes()).expect("it is text");
    replay.judge().expect("it can be read back")
}

/// In a line each: what, and how many seconds after the deployment.
fn told(report: &Report) -> Vec<String> {
    let line = |judgement: &Judgement| match judgement.after_seconds {
        Some(after) => format!("{:?} {after}", judgement.decision),
        None => format!("{:?} {:?}", judgement.decision, judgement.ending),
    };
    report.run.deployments.iter().map(line).collect()
}

#[test]
fn a_bad_deployment_would_have_been_rolled_back_and_the_healthy_one_before_is_left_alone() {
    let report = replayed(deployed(&[HOUR, 2 * HOUR]), &BAD.by_series());
    assert_eq!(told(&report), ["LeftAlone Passed", "RollBack 180"]);
    let [_, bad] = &report.run.deployments[..] else { panic!("there are two") };
    assert_eq!(
        (bad.severity, bad.impact),
        (Some(rollbackd_core::severity::Severity::P1), Some(rollbackd_core::severity::Impact::ErrorRatio))
    );
    assert!(bad.onset.is_some_and(|onset| (at(2 * HOUR)..=at(2 * HOUR + 75)).contains(&onset)), "{:?}", bad.onset);
    assert!(bad.why.contains("60 % failing"), "{}", bad.why);
    assert_eq!(report.run.summary.words(), "2 deployments: 1 would have been rolled back, 1 left alone");
    assert_eq!((report.samples.samples, report.samples.series, report.samples.whole), (1440, 2, true));
}

#[test]
fn in_which_order_the_samples_stand_does_not_matter_nor_that_some_stand_there_twice() {
    let request = || deployed(&[HOUR, 2 * HOUR]);
    let expected = serde_json::to_value(&replayed(request(), &BAD.by_series()).run).expect("it is data");
    let by_time = replayed(request(), &BAD.by_time());
    assert_eq!(serde_json::to_value(&by_time.run).expect("it is data"), expected);
    let mut lines: Vec<String> = BAD.by_time().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    lines.reverse();
    let doubled: Vec<String> = lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
    let mixed = replayed(request(), &format!("{}\n# EOF\n", doubled.join("\n")));
    assert_eq!(serde_json::to_value(&mixed.run).expect("it is data"), expected);
    assert!(mixed.samples.oddities.out_of_order > 1000 && mixed.samples.notes.iter().any(|note| note.contains("put in order")));
}

#[test]
fn lines_that_were_shuffled_are_judged_as_those_in_order_are() {
    let request = || deployed(&[HOUR, 2 * HOUR]);
    let data = |text: &str| serde_json::to_value(&replayed(request(), text).run).expect("it is data");
    let expected = data(&BAD.by_time());
    let lines: Vec<String> = BAD.by_time().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let shuffled = |place: &dyn Fn(usize) -> usize| {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        order.sort_by_key(|number| place(*number));
        let lines: Vec<&str> = order.into_iter().map(|number| lines[number].as_str()).collect();
        format!("{}\n# EOF\n", lines.join("\n"))
    };
    assert_eq!(data(&shuffled(&|number| number * 7919 % 1_000_003)), expected, "all over the file");
    // Eighty lines are ten minutes.
    assert_eq!(data(&shuffled(&|number| number + number * 7919 % 160)), expected, "up to ten minutes away");
}

#[test]
fn what_is_not_looked_at_because_nothing_was_deployed_changes_nothing() {
    let tape =
        Tape { seconds: 30 * 24 * HOUR, step: 300, ratio: |second| if second % (7 * 24 * HOUR) < HOUR { 0.3 } else { 0.005 }, ..BAD };
    let text = tape.by_series();
    let starts = [8, 9, 21, 22, 29].map(|day| day * 24 * HOUR + 1800);
    let seldom = replayed(deployed(&starts), &text);
    // Nothing has that label, but something could.
    let always = replayed(Request { version_label: Some("release".to_owned()), services: [checkout()].into(), ..deployed(&starts) }, &text);
    let data = |report: &Report| serde_json::to_value(&report.run.deployments).expect("it is data");
    assert_eq!(data(&seldom), data(&always));
    assert!(always.run.notes.iter().any(|note| note.contains("none of its series has the label release")), "{:?}", always.run.notes);
    assert_eq!(seldom.run.summary.deployments, 5);
}

#[test]
fn labels_may_stand_in_any_order() {
    let turned = |line: &str| line.replace(r#"service="checkout",job="shop","#, r#"job="shop",service="checkout","#);
    let text: Vec<String> =
        BAD.by_time().lines().enumerate().map(|(number, line)| if number % 4 < 2 { turned(line) } else { line.to_owned() }).collect();
    let report = replayed(deployed(&[HOUR, 2 * HOUR]), &format!("{}\n", text.join("\n")));
    assert_eq!(told(&report), ["LeftAlone Passed", "RollBack 180"]);
    assert_eq!(report.samples.series, 2);
}

#[test]
fn milliseconds_and_other_services_change_nothing() {
    let text =
        BAD.by_series().lines().map(|line| if line.starts_with('#') { line.to_owned() } else { format!("{line}000") }).collect::<Vec<_>>();
    let text = format!(
        "{}\nother_total{{service=\"checkout\"}} 5 1\nrequests_total{{service=\"search\",code=\"500\"}} 5 1794997600000\n",
        text.join("\n")
    );
    assert_eq!(told(&replayed(deployed(&[2 * HOUR]), &text)), ["RollBack 180"]);
}

#[test]
fn a_file_that_is_cut_in_a_line_is_judged_as_far_as_it_goes_and_the_line_is_named() {
    let text = BAD.by_time();
    let cut = &text[..text.len() * 9 / 10 - 3];
    let report = replayed(deployed(&[2 * HOUR]), cut);
    assert_eq!(told(&report), ["RollBack 180"]);
    let number = cut.lines().count() as u64;
    assert!(!report.samples.whole);
    assert_eq!(report.samples.damaged.iter().map(|damaged| damaged.line).collect::<Vec<_>>(), [number]);
}

#[test]
fn a_scrape_interval_of_five_minutes_is_looked_at_as_such_and_said() {
    let tape = Tape { step: 300, ratio: |second| if second > 12 * HOUR { 0.6 } else { 0.005 }, seconds: 13 * HOUR, ..BAD };
    let report = replayed(deployed(&[12 * HOUR]), &tape.by_series());
    assert_eq!(report.run.deployments[0].decision, Decision::RollBack, "{}", report.run.deployments[0].why);
    assert!(report.run.notes.iter().any(|note| note.contains("errors was scraped every 5m and not every 15s")), "{:?}", report.run.notes);
}

#[test]
fn nothing_is_said_of_what_was_not_recorded() {
    let well = Tape { ratio: |_| 0.005, ..BAD };
    let report = replayed(deployed(&[-HOUR, 3 * HOUR + 60]), &well.by_series());
    assert_eq!(told(&report), ["Inconclusive Unproved", "Inconclusive SamplesEnd"]);
    assert!(report.run.deployments[1].why.contains("the samples end before it"), "{}", report.run.deployments[1].why);
    let nothing = replayed(deployed(&[HOUR]), "other 1 1794997600\n# EOF\n");
    assert_eq!(told(&nothing), ["Inconclusive SamplesEnd"]);
    assert!(nothing.run.notes[0].contains("no series of errors was found"), "{:?}", nothing.run.notes);
}

#[test]
fn samples_that_are_no_counts_decide_nothing() {
    let text = BAD.by_series();
    let (mut broken, mut number) = (String::new(), 0);
    for line in text.lines() {
        number += 1;
        let is_broken = number % 7 == 0 && !line.starts_with('#');
        let mut words: Vec<&str> = line.split(' ').collect();
        if is_broken && words.len() == 3 {
            words[1] = ["NaN", "-1", "+Inf"][number % 3];
        }
        let _ = writeln!(broken, "{}", words.join(" "));
    }
    let report = replayed(deployed(&[HOUR, 2 * HOUR]), &broken);
    assert_eq!(
        report.run.deployments.iter().map(|judgement| judgement.decision).collect::<Vec<_>>(),
        [Decision::LeftAlone, Decision::RollBack]
    );
    assert!(report.samples.oddities.not_counts > 100);
}

#[test]
fn more_series_than_the_daemon_takes_are_no_evidence() {
    let mut text = String::new();
    for second in (0..2 * HOUR).step_by(60) {
        for series in 0..1_100 {
            let _ = writeln!(
                text,
                "requests_total{{service=\"checkout\",instance=\"a\",user=\"{series}\",code=\"500\"}} {second} {}",
                START + second
            );
        }
    }
    let report = replayed(deployed(&[HOUR]), &text);
    assert_eq!(report.run.deployments[0].decision, Decision::Inconclusive);
    assert!(report.run.deployments[0].why.contains("more than 1000 series"), "{}", report.run.deployments[0].why);
}

#[test]
fn labels_that_explode_are_refused_with_the_line_before_memory_is_full() {
    let mut replay =
        Replay::new(deployed(&[HOUR]), &[("0.toml".to_owned(), configured(""))], at(24 * HOUR)).expect("the selectors are valid");
    replay.catalogue.most_series = 3;
    let line = |user: i64| format!("requests_total{{service=\"checkout\",user=\"{user}\",code=\"200\"}} 1 {}\n", START + user);
    let text: String = (0..9).map(line).collect();
    let refused = replay.read("samples.txt", text.as_bytes()).expect_err("they are too many");
    let why = std::error::Error::source(&refused).map(ToString::to_string);
    assert_eq!(why.as_deref(), Some("line 4: more than 3 series match the selectors: are the labels what they should be?"));
}

#[test]
fn what_a_young_process_counted_before_its_first_scrape_counts_where_it_says_when_it_began() {
    // After the deployment no pod lives for longer than one scrape.
    let well = Tape { seconds: 2 * HOUR + 15, ..BAD }.by_series();
    for began in [None, Some("process_start_time_seconds"), Some("requests_created")] {
        let mut text = well.replace("# EOF\n", "");
        for second in (2 * HOUR + 15..3 * HOUR).step_by(15) {
            let at = START + second;
            let pod = format!("job=\"shop\",instance=\"pod-{second}\"");
            for (code, value) in [("200", 40), ("500", 110)] {
                let _ = writeln!(text, "requests_total{{service=\"checkout\",{pod},code=\"{code}\"}} {value} {at}");
                if began == Some("requests_created") {
                    let _ = writeln!(text, "requests_created{{service=\"checkout\",{pod},code=\"{code}\"}} {} {at}", at - 10);
                }
            }
            if began == Some("process_start_time_seconds") {
                let _ = writeln!(text, "process_start_time_seconds{{{pod}}} {} {at}", at - 10);
            }
        }
        let decision = replayed(deployed(&[2 * HOUR]), &text).run.deployments[0].decision;
        assert_eq!(decision == Decision::RollBack, began.is_some(), "{began:?}: {decision:?}");
    }
}

#[test]
fn what_was_written_down_at_one_process_needs_no_name_for_it_to_say_when_it_began() {
    let well = Tape { seconds: 2 * HOUR + 15, ..BAD }.by_series();
    for (names, is_one) in [("", true), (",job=\"shop\"", false)] {
        let mut text = well.replace("# EOF\n", "");
        for second in (2 * HOUR + 15..3 * HOUR).step_by(15) {
            let at = START + second;
            for (code, value) in [("200", 40), ("500", 110)] {
                let _ = writeln!(text, "requests_total{{service=\"checkout\"{names},code=\"{code}\"}} {value} {at}");
            }
            let _ = writeln!(text, "process_start_time_seconds{{{}}} {} {at}", names.trim_start_matches(','), at - 10);
        }
        let decision = replayed(deployed(&[2 * HOUR]), &text).run.deployments[0].decision;
        assert_eq!(decision == Decision::RollBack, is_one, "a whole job is many processes: {names:?}: {decision:?}");
    }
}

/// The lines of one version's pod from one moment to another.
fn pod(text: &mut String, version: &str, from: i64, to: i64, ratio: f64) {
    let (mut well, mut failed) = (0.0, 0.0);
    for second in (from..to).step_by(15) {
        for (code, value) in [("200", well), ("500", failed)] {
            let _ = writeln!(
                text,
                "requests_total{{service=\"checkout\",job=\"shop\",instance=\"{version}\",version=\"{version}\",code=\"{code}\"}} {value} {}",
                START + second
            );
        }
        well += 150.0 * (1.0 - ratio);
        failed += 150.0 * ratio;
    }
}

#[test]
fn what_is_deployed_while_a_bad_deployment_is_not_undone_is_noted_and_alone_it_is_not_blamed() {
    let text = BAD.by_series();
    let both = replayed(deployed(&[2 * HOUR, 2 * HOUR + 1200]), &text);
    assert_eq!(told(&both), ["RollBack 180", "RollBack 180"]);
    assert!(
        both.run.notes.iter().any(|note| note.contains("may be the doing of the one at 2026-11-18 12:26:40 UTC")),
        "{:?}",
        both.run.notes
    );
    let alone = replayed(deployed(&[2 * HOUR + 1200]), &text);
    assert_eq!((alone.run.deployments[0].decision, alone.run.notes.len()), (Decision::Inconclusive, 0), "{:?}", alone.run.notes);
}

#[test]
fn a_ledger_of_services_that_are_not_guarded_says_so() {
    let search = ServiceName::try_from("search").expect("a name");
    let entry = Entry::DeploymentSeen {
        service: search,
        environment: "production".to_owned(),
        version: Version { id: VersionId("v1".to_owned()), name: "v1".to_owned() },
        artifact: None,
        arrival: Arrival::Deployed,
        started: at(HOUR),
        not_before: at(HOUR),
        change: rollbackd_core::version::ChangeKind::Code,
    };
    let ledger = vec![Record { seq: 1, at: at(HOUR), entry }];
    let report = replayed(Request { ledger, ..Request::default() }, &BAD.by_series());
    assert_eq!(report.run.deployments.len(), 0);
    assert!(report.run.notes.iter().any(|note| note.starts_with("search: the ledger has deployments of it")), "{:?}", report.run.notes);
}

#[test]
fn of_a_canary_the_share_is_drawn_by_which_it_is_judged() {
    let mut own = String::new();
    pod(&mut own, "v1", 0, 3 * HOUR, 0.004);
    pod(&mut own, "v2", 2 * HOUR, 3 * HOUR, 0.7);
    let shared = own.replace("instance=\"v2\"", "instance=\"v1\"");
    for (text, share, all) in [(own, 0.7, false), (shared, 0.352, true)] {
        let request = Request { version_label: Some("version".to_owned()), courses: true, ..Request::default() };
        let report = replayed(request, &text);
        let [canary] = &report.run.deployments[..] else { panic!("there is one") };
        let last = canary.course.values().flatten().find(|point| point.at > (START + 2 * HOUR + 600) * 1000).expect("it is counted");
        assert!((last.failed / last.judged - share).abs() < 0.01, "{last:?}");
        assert!((last.requests - 300.0).abs() < 0.01, "the traffic is that of all: {last:?}");
        assert_eq!(last.requests > last.judged + 1.0, !all, "{last:?}");
        let numbers = canary.findings.iter().filter_map(|view| view.finding.numbers.as_ref()?.now);
        assert!(numbers.into_iter().any(|now| (now - share).abs() < 0.01), "{:#?}", canary.findings);
    }
}

#[test]
fn a_new_value_of_the_version_label_is_a_deployment_and_an_old_one_that_comes_back_is_one_too() {
    let mut text = String::new();
    pod(&mut text, "v1", 0, 2 * HOUR + 60, 0.004);
    pod(&mut text, "v2", 2 * HOUR, 3 * HOUR, 0.7);
    pod(&mut text, "v1", 3 * HOUR, 4 * HOUR, 0.004);
    pod(&mut text, "v3", 4 * HOUR - 60, 5 * HOUR, 0.004);
    let request = Request { version_label: Some("version".to_owned()), ..Request::default() };
    let report = replayed(request, &text);
    let versions: Vec<_> =
        report.run.deployments.iter().map(|judgement| (judgement.version.as_str(), judgement.started, judgement.decision)).collect();
    assert_eq!(
        versions,
        [
            ("v2", at(2 * HOUR), Decision::RollBack),
            ("v1", at(3 * HOUR), Decision::LeftAlone),
            ("v3", at(4 * HOUR - 60), Decision::LeftAlone)
        ]
    );
}

#[test]
fn a_process_counts_for_the_version_of_its_label_however_long_before_its_first_scrape_it_began() {
    let mut text = String::new();
    pod(&mut text, "v1", 0, 3 * HOUR, 0.004);
    pod(&mut text, "v2", 2 * HOUR, 3 * HOUR, 0.7);
    let began: String = [("v1", -600, 0), ("v2", 2 * HOUR - 20, 2 * HOUR)]
        .iter()
        .flat_map(|(version, began, from)| {
            let line = move |second| {
                format!("process_start_time_seconds{{job=\"shop\",instance=\"{version}\"}} {} {}\n", START + began, START + second)
            };
            (*from..3 * HOUR).step_by(15).map(line)
        })
        .collect();
    let after = |text: &str| {
        let report = replayed(Request { version_label: Some("version".to_owned()), ..Request::default() }, text);
        let [canary] = &report.run.deployments[..] else { panic!("there is one") };
        assert_eq!(canary.decision, Decision::RollBack);
        canary.after_seconds.expect("it was decided")
    };
    let (without, with) = (after(&text), after(&format!("{text}{began}")));
    assert!(with <= without + 30.0, "{with} s where it is told when the process began, {without} s where it is not");
}

#[test]
fn another_configuration_is_compared_on_the_same_samples() {
    let patient = configured("[decision]\nhold_p1 = \"8m\"\nhold_p2 = \"9m\"");
    let report = replayed_with(deployed(&[HOUR, 2 * HOUR]), &BAD.by_series(), &[configured(""), patient]);
    let [against] = &report.against[..] else { panic!("there is one") };
    let [difference] = &against.differences[..] else { panic!("one deployment is decided differently: {:?}", against.differences) };
    assert_eq!((difference.decision, difference.decided), (Decision::RollBack, Some(at(2 * HOUR + 180))));
    assert_eq!((difference.other_decision, difference.other_decided), (Some(Decision::RollBack), Some(at(2 * HOUR + 540))));
}

#[test]
fn the_page_shows_everything_and_what_comes_from_elsewhere_is_escaped() {
    let mut request = deployed(&[HOUR, 2 * HOUR]);
    request.courses = true;
    let mut report = replayed(request, &BAD.by_series());
    report.samples.source = "<script>alert(1)</script>&\"".to_owned();
    report.run.deployments[1].why = "it </p><b onclick=x>".to_owned();
    let page = page::page(&report).expect("it can be made");
    assert!(!page.contains("<script") && !page.contains("<b onclick"), "{page}");
    assert!(page.contains("would have been rolled back") && page.matches("<svg").count() == 2);
    assert!(!page.contains("http://") && !page.contains("https://"), "it needs nothing from elsewhere");
}

/// Histograms of `checkout` at ten requests a second, with a median of 50 ms until `slow_from` and of `factor` times that from then on; the
/// bucket of 100 ms is gone for some scrapes.
fn durations(step: i64, seconds: i64, slow_from: i64, factor: f64) -> String {
    let bounds = [0.025, 0.05, 0.1, 0.2, 0.4, 0.8];
    let mut counts = [0.0; 7];
    let (mut sum, mut text) = (0.0, String::new());
    let mut uneven = 0.5_f64;
    for second in (0..seconds).step_by(usize::try_from(step).expect("it is positive")) {
        // Some noise that repeats.
        uneven = (uneven * 3.9 * (1.0 - uneven)).clamp(0.01, 0.99);
        let median = 0.05 * (0.97 + 0.06 * uneven) * if second > slow_from { factor } else { 1.0 };
        #[expect(clippy::cast_precision_loss, reason = "few")]
        let requests = 10.0 * step as f64;
        // Log-logistic, which has a closed form.
        let below = |bound: f64| 1.0 / (1.0 + (bound / median).powf(-4.0));
        for (count, bound) in counts.iter_mut().zip(bounds) {
            *count += (requests * below(bound)).round();
        }
        counts[6] += requests;
        sum += requests * median * 1.11;
        let at = START + second;
        let labels = "service=\"checkout\",job=\"shop\",instance=\"a\"";
        for (count, bound) in counts.iter().zip(bounds) {
            if second % 3000 != 0 || !(0.06..0.15).contains(&bound) {
                let _ = writeln!(text, "duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count} {at}");
            }
        }
        let _ = writeln!(text, "duration_seconds_bucket{{{labels},le=\"+Inf\"}} {} {at}", counts[6]);
        let _ = writeln!(text, "duration_seconds_sum{{{labels}}} {sum} {at}\nduration_seconds_count{{{labels}}} {} {at}", counts[6]);
    }
    text
}

#[test]
fn a_release_that_is_twice_as_slow_would_have_been_rolled_back_and_the_one_before_is_left_alone() {
    let slow = configured("[services.checkout.latency]\nprometheus = \"main\"\nhistogram = 'duration_seconds{service=\"checkout\"}'");
    for step in [15, 60] {
        let text = durations(step, 27 * HOUR, 26 * HOUR, 2.0);
        let mut request = deployed(&[25 * HOUR, 26 * HOUR]);
        request.courses = true;
        let report = replayed_with(request, &text, std::slice::from_ref(&slow));
        let decisions: Vec<_> = report.run.deployments.iter().map(|judgement| (judgement.decision, judgement.impact)).collect();
        let performance = Some(rollbackd_core::severity::Impact::Performance);
        assert_eq!(decisions, [(Decision::LeftAlone, None), (Decision::RollBack, performance)], "{step}: {:#?}", report.run.deployments);
        assert!(report.run.deployments[1].after_seconds <= Some(600.0), "{:?}", report.run.deployments[1].after_seconds);
        let page = page::page(&report).expect("it can be made");
        assert_eq!(page.matches("<svg").count(), 2);
    }
}

// A daemon, and the replay of its ledger.

/// A shop whose versions are deployed one after the other, and that is scraped every 15 s: the world of a daemon.
#[derive(Debug)]
struct Shop {
    clock: Clock,
    now: Mutex<Running>,
}

#[derive(Debug)]
struct Running {
    version: String,
    since: Timestamp,
    total: f64,
    failed: f64,
    /// Version, time, all requests, failed ones.
    scraped: Vec<(String, Timestamp, Timestamp, f64, f64)>,
}

/// How much of a version fails.
fn flaw(version: &str) -> f64 {
    match version {
        "v3" => 0.65,
        "v5" => 0.09,
        _ => 0.004,
    }
}

impl Shop {
    fn open(clock: Clock) -> Arc<Self> {
        let now = clock.now();
        let mut running =
            Running { version: "v1".to_owned(), since: now - SignedDuration::from_hours(5), total: 0.0, failed: 0.0, scraped: Vec::new() };
        for look in (1..960).rev() {
            running.scrape(now - SignedDuration::from_secs(15 * look));
        }
        Arc::new(Self { clock, now: Mutex::new(running) })
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.now.lock().expect("nobody panics with it")
    }

    fn deploy(&self, version: &str) {
        let now = self.clock.now();
        let mut running = self.running();
        version.clone_into(&mut running.version);
        (running.since, running.total, running.failed) = (now, 0.0, 0.0);
    }

    fn scrape_of(&self, from: Timestamp, to: Timestamp) -> Scrape {
        let running = self.running();
        let mut series: BTreeMap<(String, bool), Series> = BTreeMap::new();
        for (version, started, at, total, failed) in running.scraped.iter().filter(|(_, _, at, ..)| (from..=to).contains(at)) {
            for (is_failed, value) in [(false, *total), (true, *failed)] {
                let place = series.entry((format!("{version}@{started}"), is_failed)).or_insert_with(|| Series {
                    id: format!("{version}@{started} {is_failed}"),
                    target: format!("shop/{version}@{started}"),
                    process_started: Some(*started),
                    route: None,
                    samples: Vec::new(),
                });
                place.samples.push(Sample { at: *at, value });
            }
        }
        let of =
            |wanted: bool| series.iter().filter(|((_, is_failed), _)| *is_failed == wanted).map(|(_, series)| series.clone()).collect();
        Scrape { total: of(false), failed: of(true) }
    }

    fn exported(&self) -> String {
        let mut text = String::new();
        for (version, started, at, total, failed) in &self.running().scraped {
            let labels = format!("service=\"checkout\",job=\"shop\",instance=\"{version}@{started}\"");
            let at = format!("{}.{:03}", at.as_second(), at.subsec_millisecond());
            let _ = writeln!(text, "requests_total{{{labels},code=\"200\"}} {} {at}", total - failed);
            let _ = writeln!(text, "requests_total{{{labels},code=\"500\"}} {failed} {at}");
            let _ =
                writeln!(text, "process_start_time_seconds{{job=\"shop\",instance=\"{version}@{started}\"}} {} {at}", started.as_second());
        }
        text + "# EOF\n"
    }

    fn look(&self) -> Workload {
        let running = self.running();
        let complete = self.clock.now().duration_since(running.since) >= SignedDuration::from_secs(10);
        Workload {
            version: Version { id: VersionId(running.version.clone()), name: running.version.clone() },
            artifact: Some(Artifact(running.version.clone())),
            binding: Binding::Version(running.version.clone()),
            rollout: if complete { Rollout::Complete } else { Rollout::Progressing },
            replicas: Replicas { desired: 1, updated: 1, ready: 1, available: 1 },
            ready_is_checked: true,
            troubles: Vec::new(),
            record: None,
            change: None,
            unseen_for: SignedDuration::ZERO,
        }
    }
}

impl Running {
    fn scrape(&mut self, at: Timestamp) {
        self.total += 150.0;
        self.failed += (150.0 * flaw(&self.version)).round();
        self.scraped.push((self.version.clone(), self.since, at, self.total, self.failed));
    }
}

/// What the daemon has of the shop.
#[derive(Clone)]
struct Eyes(Arc<Shop>);

#[async_trait]
impl Signal for Eyes {
    async fn read(&self, now: Timestamp) -> Reading {
        Reading::Scrape(self.0.scrape_of(now - SignedDuration::from_secs(90), now))
    }

    async fn history(&self, from: Timestamp, to: Timestamp) -> Reading {
        let mut scrape = self.0.scrape_of(from, to);
        for series in scrape.total.iter_mut().chain(&mut scrape.failed) {
            series.process_started = None;
        }
        Reading::Scrape(scrape)
    }
}

#[async_trait]
impl Platform for Eyes {
    fn watch(&self) -> BoxStream<'static, Look> {
        let looks = stream::unfold((self.clone(), true), |(eyes, first)| async move {
            if !first {
                sleep(Duration::from_secs(2)).await;
            }
            Some((Look::Seen(Box::new(eyes.0.look())), (eyes, false)))
        });
        looks.boxed()
    }

    async fn look(&self) -> Look {
        Look::Seen(Box::new(self.0.look()))
    }

    async fn apply(&self, effect: &Effect) -> Applied {
        self.0.deploy(&effect.to.id.0);
        Applied::Done(Binding::Version(effect.to.id.0.clone()))
    }
}

/// Guards the shop for seven hours, in which v2 to v5 are deployed, with a ledger in that folder. Gives the samples.
async fn guarded(config: &Config, state: &Path) -> String {
    // A real clock knows more than milliseconds.
    let wall = at(0) + SignedDuration::from_micros(617);
    let shop = Shop::open(Clock::begin(wall, None));
    let policy = config.services[&checkout()].policy.clone();
    let eyes = Eyes(shop.clone());
    let adapters = Everything {
        platforms: BTreeMap::from([(checkout(), Arc::new(eyes.clone()) as Arc<dyn Platform>)]),
        signals: policy.signals.keys().map(|signal| ((checkout(), signal.clone()), Arc::new(eyes.clone()) as Arc<dyn Signal>)).collect(),
        ..Everything::default()
    };
    let setup = daemon::Setup {
        policies: BTreeMap::from([(checkout(), policy)]),
        limits: Limits::default(),
        routes: BTreeMap::new(),
        alerts: rollbackd_core::alert::Rules::default(),
        adapters,
    };
    let ledger = Sqlite::open(state).expect("an empty folder can have a ledger");
    let (daemon, _handle) = Daemon::open(Box::new(ledger), wall, "replayed", setup).expect("an empty ledger can be opened");
    let end = CancellationToken::new();
    let running = tokio::spawn(daemon.run(end.clone(), || {}));
    for quarter in 0..7 * 240 {
        shop.running().scrape(shop.clock.now());
        match quarter {
            240 => shop.deploy("v2"),
            480 => shop.deploy("v3"),
            960 => shop.deploy("v4"),
            1200 => shop.deploy("v5"),
            _ => {}
        }
        sleep(Duration::from_secs(15)).await;
    }
    end.cancel();
    running.await.expect("it does not panic").expect("the ledger can be written");
    shop.exported()
}

#[test]
fn the_replay_of_the_ledger_file_that_a_daemon_wrote_comes_to_its_decisions() {
    let config = configured("");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let state = tempfile::tempdir().expect("a folder");
    let samples = runtime.block_on(guarded(&config, state.path()).boxed());
    let ledger = crate::ledger::sqlite::read_copy_of(state.path()).expect("the daemon's ledger can be read");
    let report = replayed_with(Request { ledger, ..Request::default() }, &samples, &[config]);
    let judged: Vec<_> = report.run.deployments.iter().map(|judgement| (judgement.version.as_str(), judgement.decision)).collect();
    assert_eq!(
        judged,
        [("v2", Decision::LeftAlone), ("v3", Decision::RollBack), ("v4", Decision::LeftAlone), ("v5", Decision::Ask)],
        "{:#?}",
        report.run.deployments
    );
    for judgement in &report.run.deployments {
        let Some(Recorded { decision, decided }) = &judgement.recorded else { panic!("{} is in the ledger", judgement.version) };
        assert_eq!(judgement.decision, *decision, "{}", judgement.version);
        let apart = judgement.decided.zip(*decided).map_or(SignedDuration::ZERO, |(ours, theirs)| ours.duration_since(theirs).abs());
        assert!(apart <= SignedDuration::from_secs(16), "{}: {:?} and {decided:?}", judgement.version, judgement.decided);
        assert_eq!(judgement.decided.is_some(), decided.is_some());
    }
    assert_eq!(report.run.deployments[0].ending, Ending::Passed);
    let words = |place: usize| report.run.deployments[place].recorded.as_ref().map(Recorded::words).unwrap_or_default();
    assert!(words(1).starts_with("a rollback was decided at ") && words(3).starts_with("an operator was asked at "), "{}", words(1));
    assert_eq!(words(0), "it was left alone");
}

#[test]
fn how_many_rollbacks_each_guard_stood_in_the_way_of_is_said() {
    let mut judgements = replayed(deployed(&[HOUR, 2 * HOUR]), &BAD.by_series()).run.deployments;
    assert_eq!(report::guards(&judgements), None);
    judgements.push(judgements[0].clone());
    for (judgement, guard) in judgements.iter_mut().zip(["fleet-brake", "little-history", "fleet-brake"]) {
        judgement.guard = Some(guard.to_owned());
    }
    assert_eq!(report::guards(&judgements).as_deref(), Some("2 by fleet-brake, 1 by little-history"));
}
