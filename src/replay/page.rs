//! The report as one page that needs nothing else: no script, no file, no network. Everything that comes from elsewhere is escaped by the
//! template; drawings are made of numbers and our own words.

use askama::Template;
use jiff::{SignedDuration, Timestamp};
use rollbackd_core::severity::Impact;
use rollbackd_core::verdict::{Finding, FindingState, Measure};
use rollbackd_core::words;

use super::play::Point;
use super::plot::{self, Level, Mark, Plot};
use super::report::{self, Decision, Difference, Judgement};
use super::{Report, Run};

/// So many deployments of a configuration are drawn; those that were decided come first.
const MOST_DRAWN: usize = 300;

#[derive(Template)]
#[template(path = "replay.html")]
struct Page<'a> {
    report: &'a Report,
    version: &'static str,
    runs: Vec<RunPart<'a>>,
    against: Vec<AgainstPart<'a>>,
}

/// What another configuration makes differently.
struct AgainstPart<'a> {
    configuration: &'a str,
    summary: String,
    differences: Vec<[String; 4]>,
}

/// One configuration.
struct RunPart<'a> {
    run: &'a Run,
    summary: String,
    guards: Option<String>,
    deployments: Vec<Part<'a>>,
    omitted: usize,
}

/// One deployment.
struct Part<'a> {
    judgement: &'a Judgement,
    style: &'static str,
    is_open: bool,
    deployed: String,
    decided: Option<String>,
    recorded: Option<String>,
    drawings: Vec<(String, String, String)>,
    findings: Vec<[String; 4]>,
}

/// The page.
///
/// # Errors
/// When it can't be put together, which memory alone could cause.
pub fn page(report: &Report) -> Result<String, askama::Error> {
    let runs = std::iter::once(&report.run).chain(report.against.iter().map(|against| &against.run));
    let page = Page {
        report,
        version: env!("CARGO_PKG_VERSION"),
        runs: runs.map(run_part).collect(),
        against: report
            .against
            .iter()
            .map(|against| AgainstPart {
                configuration: &against.run.configuration,
                summary: against.run.summary.words(),
                differences: against.differences.iter().map(difference).collect(),
            })
            .collect(),
    };
    page.render()
}

fn difference(difference: &Difference) -> [String; 4] {
    let when = |decision: Option<Decision>, decided: Option<Timestamp>| {
        let words = decision.map_or("not guarded", Decision::words);
        decided.map_or_else(|| words.to_owned(), |at| format!("{words} at {}", words::time(at)))
    };
    [
        difference.service.to_string(),
        words::time(difference.started),
        when(Some(difference.decision), difference.decided),
        when(difference.other_decision, difference.other_decided),
    ]
}

fn run_part(run: &Run) -> RunPart<'_> {
    let mut judgements: Vec<&Judgement> = run.deployments.iter().collect();
    let omitted = judgements.len().saturating_sub(MOST_DRAWN);
    if omitted > 0 {
        judgements.sort_by_key(|judgement| (judgement.decided.is_none(), judgement.started));
        judgements.truncate(MOST_DRAWN);
        judgements.sort_by_key(|judgement| judgement.started);
    }
    let deployments = judgements.into_iter().map(part).collect();
    RunPart { run, summary: run.summary.words(), guards: report::guards(&run.deployments), deployments, omitted }
}

fn part(judgement: &Judgement) -> Part<'_> {
    let after = judgement.decided.map(|at| at.duration_since(judgement.started));
    let decided =
        judgement.decided.zip(after).map(|(at, after)| format!("{}, {} after the deployment", words::time(at), words::duration(after)));
    let drawing = |(signal, points): (&rollbackd_core::service::SignalName, &Vec<Point>)| {
        let measure = measure(judgement, &signal.0);
        let of = if points.iter().any(|point| point.judged < point.requests) { " of the version that is judged" } else { "" };
        (signal.to_string(), drawing(judgement, &signal.0, measure, points), format!("{}{of}", plot::said(measure)))
    };
    Part {
        judgement,
        style: match judgement.decision {
            Decision::RollBack | Decision::Refused => "bad",
            Decision::Ask | Decision::Notify => "asked",
            Decision::Inconclusive => "unknown",
            Decision::LeftAlone => "good",
        },
        is_open: judgement.decision != Decision::LeftAlone,
        deployed: words::time(judgement.started),
        decided,
        recorded: judgement.recorded.as_ref().map(report::Recorded::words),
        drawings: judgement.course.iter().map(drawing).filter(|(_, svg, _)| !svg.is_empty()).collect(),
        findings: judgement
            .findings
            .iter()
            .map(|view| {
                let waits_for = view.waits_for.as_deref().filter(|waits_for| !view.words.contains(waits_for));
                let says = || waits_for.map_or_else(|| view.words.clone(), |waits_for| format!("{}; {waits_for}", view.words));
                let says = report::others_suffer(view).unwrap_or_else(says);
                [words::standing(&view.finding).to_owned(), view.finding.signal.to_string(), view.finding.impact.to_string(), says]
            })
            .collect(),
    }
}

/// What a signal is measured in.
fn measure(judgement: &Judgement, signal: &str) -> Measure {
    let mut findings = judgement.findings.iter().filter(|view| view.finding.signal.0 == signal);
    if findings.any(|view| view.finding.impact == Impact::Performance) { Measure::Seconds } else { Measure::Share }
}

fn drawing(judgement: &Judgement, signal: &str, measure: Measure, points: &[Point]) -> String {
    let mut marks = vec![Mark { at: judgement.started, name: "deployed", words: "deployed" }];
    marks.extend(judgement.onset.map(|at| Mark { at, name: "onset", words: "onset" }));
    marks.extend(judgement.decided.map(|at| Mark { at, name: "decided", words: "decided" }));
    marks.push(Mark { at: judgement.window_ends, name: "window", words: "window ends" });
    let findings: Vec<&Finding> =
        judgement.findings.iter().map(|view| &view.finding).filter(|finding| finding.signal.0 == signal).collect();
    let failing =
        findings.iter().find(|finding| matches!(finding.state, FindingState::Failing(_)) && Some(finding.impact) == judgement.impact);
    let with_numbers = |finding: &&&Finding| finding.numbers.is_some();
    let told = failing.or_else(|| findings.iter().rfind(with_numbers));
    let shares = told.and_then(|finding| finding.numbers.as_ref()).filter(|numbers| numbers.measure == measure);
    let levels = shares.map_or_else(Vec::new, |numbers| {
        vec![
            Level { ratio: numbers.tolerance, name: "tolerance", words: "tolerated" },
            Level { ratio: numbers.severity, name: "severity", words: "bad from" },
        ]
    });
    Plot { points, every: step(points), span: span(judgement), measure, marks, levels }.svg()
}

/// What is drawn of the time: the window, some of the time before it, and a little after it. It is the same however long things go on.
fn span(judgement: &Judgement) -> (Timestamp, Timestamp) {
    let window = judgement.window_ends.duration_since(judgement.started);
    let before = (window / 2).clamp(SignedDuration::from_mins(15), SignedDuration::from_mins(30));
    let after = (window / 10).max(SignedDuration::from_mins(2));
    let last = judgement.decided.map_or(judgement.window_ends, |decided| decided.max(judgement.window_ends));
    let from = judgement.started.checked_sub(before).unwrap_or(Timestamp::MIN);
    (from, last.checked_add(after).unwrap_or(Timestamp::MAX))
}

/// The time from one point to the next, as it usually is.
fn step(points: &[Point]) -> SignedDuration {
    let least = points.windows(2).map(|pair| pair[1].at - pair[0].at).filter(|gap| *gap > 0).min();
    SignedDuration::from_millis(least.unwrap_or(15_000))
}
