//! The demo's voice: each thing in one line as it happens, coloured on a terminal and plain elsewhere.

use std::fmt::Display;
use std::path::Path;
use std::time::Instant;

use anstream::println;
use clap::builder::styling::{AnsiColor, Style};
use rollbackd_core::command::Answer;
use rollbackd_core::entry::{Arrival, Entry, Mark, Record};
use rollbackd_core::plan::Outcome;
use rollbackd_core::verdict::FindingState;
use rollbackd_core::view::StatusView;
use rollbackd_core::words;
use serde_json::Value;

use super::{Ending, Scenario};

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const BLUE: Style = AnsiColor::Blue.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

/// Lines are broken there, as on a narrow terminal.
const WIDTH: usize = 100;

/// The voice.
#[derive(Debug)]
pub struct Teller {
    began: Instant,
    last_look: String,
}

impl Teller {
    pub fn new() -> Self {
        Self { began: Instant::now(), last_look: String::new() }
    }

    fn line(&self, style: Style, who: &str, what: impl Display) {
        let time = format!("{:5.1} s", self.began.elapsed().as_secs_f64());
        let mut first = true;
        for part in wrap(&what.to_string(), WIDTH - 22) {
            let (time, who) = if first { (time.as_str(), who) } else { ("", "") };
            println!("{DIM}{time:>8}{DIM:#}  {style}{who:<10}{style:#}  {part}");
            first = false;
        }
    }

    pub fn begin(scenario: Scenario, folder: &Path) {
        let what = match scenario {
            Scenario::Outage => "a new version that answers nothing but errors",
            Scenario::Errors => "a new version that fails under load while its health check stays green",
            Scenario::Healthy => "a new version that is fine, and must be left alone",
            Scenario::Quiet => "a new version that nobody uses: there is no evidence, so nothing may happen",
            Scenario::NotToBlame => "a new version that arrives just when the database dies: going back will not help",
        };
        println!("{BOLD}rollbackd demo{BOLD:#}: {what}.");
        println!("{DIM}A shop on loopback, people who visit it, and a real daemon with a ledger of its own in{DIM:#}");
        println!("{DIM}{}{DIM:#}", folder.display());
        println!("{DIM}Windows and holds are seconds here; by default they are minutes.{DIM:#}\n");
    }

    pub fn deploys(&self, scenario: Scenario, version: &str) {
        self.line(YELLOW, "you", format!("deploy {version}"));
        if scenario == Scenario::NotToBlame {
            self.line(YELLOW, "fate", "and at this very moment the database dies");
        }
    }

    pub fn record(&mut self, record: &Record) {
        match &record.entry {
            Entry::DeploymentSeen { version, arrival: Arrival::FirstSight, .. } => {
                self.line(BLUE, "sees", format!("{version} runs; nothing is known of it yet, so it is watched like a deployment"));
            }
            Entry::DeploymentSeen { version, arrival: Arrival::Deployed, .. } => {
                self.line(BLUE, "sees", format!("{version} was deployed: its window is open"));
            }
            Entry::DeploymentSeen { version, arrival: Arrival::Rollback { of, .. }, .. } => {
                self.line(BLUE, "sees", format!("{version} is back, as the rollback of deployment {of}"));
            }
            Entry::BaselineTaken { baselines, .. } => {
                for (signal, baseline) in baselines {
                    self.line(BLUE, "remembers", format!("{signal} before: {}", words::baseline(baseline)));
                }
            }
            Entry::WindowPassed { log_evidence, .. } => {
                let odds = words::odds(*log_evidence);
                self.line(GREEN, "decides", format!("it passed its window (odds of this record if it were bad: {odds})"));
            }
            Entry::WindowExtended { lacks, .. } => {
                let lacks: Vec<_> = lacks.iter().map(words::lack).collect();
                self.line(YELLOW, "decides", format!("neither good nor bad, left alone and watched on ({})", lacks.join("; ")));
            }
            Entry::Marked { mark, reason, .. } => {
                let style = if *mark == Mark::Bad { RED } else { GREEN };
                self.line(style, "records", format!("the version is marked {}: {}", words::mark(*mark), words::mark_reason(reason)));
            }
            Entry::VerdictReached { verdict, .. } => self.line(RED, "finds", words::verdict(verdict)),
            Entry::RollbackRefused { refusal, .. } => self.line(YELLOW, "refuses", words::refusal(refusal)),
            Entry::RollbackPlanned { plan } => {
                self.line(RED, "decides", format!("roll back from {} to {}; recorded before anything is touched", plan.from, plan.to));
            }
            Entry::RollbackApplied { .. } => self.line(BLUE, "does", "the deploy program ran, the platform says that it happened"),
            Entry::RollbackRolledOut { .. } => self.line(BLUE, "does", "rolled out; now the proof: what had fired must be well again"),
            Entry::RollbackEnded { outcome, .. } => {
                let style = if *outcome == Outcome::Recovered { GREEN } else { RED };
                self.line(style, "proves", words::outcome(outcome));
            }
            Entry::AllClear { .. } => self.line(GREEN, "decides", "all clear: it stayed well"),
            _ => {}
        }
    }

    /// What it sees now, when that has changed.
    pub fn look(&mut self, status: &StatusView) {
        let Some(service) = status.services.first() else { return };
        let telling = service.findings.iter().filter(|finding| {
            let suspicious = finding.finding.numbers.as_ref().is_some_and(|numbers| numbers.log_evidence > 3.0);
            suspicious && matches!(finding.finding.state, FindingState::Passing)
        });
        let Some(finding) = telling.max_by(|one, other| weight(one).total_cmp(&weight(other))) else { return };
        let look = format!("{} ({}): {}", finding.finding.signal, finding.finding.impact, finding.words);
        if look != self.last_look {
            self.line(DIM, "weighs", &look);
            self.last_look = look;
        }
    }

    pub fn notice(&self, notice: &Value) {
        let text = |key: &str| notice[key].as_str().unwrap_or_default().to_owned();
        let severity = notice["severity"].as_str().map(|severity| format!("[{severity}] ")).unwrap_or_default();
        self.line(YELLOW, "tells you", format!("{severity}{}", text("headline")));
    }

    pub fn end(scenario: Scenario, ending: Ending, running: &str, answer: Option<&Answer>) {
        let (style, words) = match ending {
            Ending::AllClear => (GREEN, "The bad version is gone, the service is well, and nobody had to get up."),
            Ending::Promoted => (GREEN, "The healthy version was left alone, and is the one to go back to from now on."),
            Ending::Extended => (GREEN, "No evidence, so nothing was done. It is watched on until somebody uses it."),
            Ending::DidNotHelp => (YELLOW, "Going back did not help, so it stopped there, said so, and called for a person."),
            Ending::Other => (RED, "That is not how this story should have ended."),
        };
        println!("\n{style}{words}{style:#} {running} runs.\n");
        if let Some(Answer::Explanation(explanation)) = answer {
            println!("{BOLD}rollbackd explain shop{BOLD:#} would tell you now:");
            for sentence in &explanation.answer {
                for part in wrap(sentence, WIDTH - 4) {
                    println!("  {part}");
                }
            }
        }
        println!("\n{BOLD}Where to look next{BOLD:#}");
        println!("  config/rollbackd.toml    every key, its default, a sentence");
        println!("  rollbackd check --connect     tries your own configuration, endpoints and credentials");
        let others = ["outage", "errors", "healthy", "quiet", "not-to-blame"];
        let this = match scenario {
            Scenario::Outage => 0,
            Scenario::Errors => 1,
            Scenario::Healthy => 2,
            Scenario::Quiet => 3,
            Scenario::NotToBlame => 4,
        };
        let others: Vec<_> = others.iter().enumerate().filter(|(number, _)| *number != this).map(|(_, name)| *name).collect();
        println!("  rollbackd demo --scenario {}", others.join("|"));
    }
}

fn weight(finding: &rollbackd_core::view::FindingView) -> f64 {
    finding.finding.numbers.as_ref().map_or(0.0, |numbers| numbers.log_evidence)
}

/// Breaks a text into lines of at most `width` characters, between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}
