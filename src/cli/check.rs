//! `check`: validates a configuration with every error at once, and with `--connect` everything that it points to.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::builder::styling::AnsiColor;
use comfy_table::{Cell, Color};
use serde::Serialize;

use super::text::{self, Screen};
use super::{Exit, Stop};
use crate::app;
use crate::config::{self, Config, Diagnostic, Diagnostics};

mod connections;
mod traffic;
mod unseen;

use connections::Tried;
use unseen::Unseen;

/// What stands behind `--help`.
pub(super) const HELP: &str = "\
Examples:
  rollbackd check rollbackd.toml
  rollbackd check --connect      # also tries every platform, source, query and credential, for 2 minutes at most

Exit code 2: the file has errors. 1: it is valid, but something can't be reached.

With `--output json`, one object:
  file          as it was named
  valid         whether it can be run with
  diagnostics   what is wrong, errors and warnings, in order of place: a list of {level, message, line, column, source, label, help};
                without a line and a column where the file as a whole is meant
  omitted       how many more there are
  services      their names; none of a file with errors
  destinations  likewise
  unseen        rows of the matrix that no signal of some services tells: a list of {services, impacts}
  connections   null without --connect; else a list of {what, ok, found, warnings}
  error, exit_code   only of a file with errors, as every command prints them";

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file; the one of `--config` unless said.
    file: Option<PathBuf>,
    /// Also try every platform, source, query and credential. Changes nothing and sends no notice.
    #[arg(long)]
    connect: bool,
}

/// As `--output json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    file: &'a Path,
    valid: bool,
    diagnostics: &'a [Diagnostic],
    omitted: usize,
    services: Vec<String>,
    destinations: Vec<String>,
    unseen: Vec<Unseen>,
    connections: Option<Vec<Tried>>,
    #[serde(flatten)]
    refusal: Option<Refusal>,
}

#[derive(Serialize)]
struct Refusal {
    error: String,
    exit_code: u8,
}

/// Checks and shows.
pub(super) fn run(arguments: &Arguments, config: &Path, screen: &Screen) -> Result<Exit, Stop> {
    let file = arguments.file.as_deref().unwrap_or(config);
    let checked = match config::load(file, &super::environment()) {
        Ok(checked) => checked,
        Err(invalid) => return refuse(file, &invalid, screen),
    };
    tell(&checked.warnings, screen);
    let connections = if arguments.connect { Some(connect(&checked, screen)?) } else { None };
    let report = Report {
        file,
        valid: true,
        diagnostics: &checked.warnings.diagnostics,
        omitted: checked.warnings.omitted,
        services: checked.services.keys().map(ToString::to_string).collect(),
        destinations: checked.destinations.keys().cloned().collect(),
        unseen: unseen::all(&checked),
        connections,
        refusal: None,
    };
    screen.show(&report, || in_words(&report))?;
    Ok(outcome(report.connections.as_deref()))
}

fn refuse(file: &Path, invalid: &Diagnostics, screen: &Screen) -> Result<Exit, Stop> {
    let exit = Exit::Usage;
    if !screen.is_json() {
        tell(invalid, screen);
        return Ok(exit);
    }
    let report = Report {
        file,
        valid: false,
        diagnostics: &invalid.diagnostics,
        omitted: invalid.omitted,
        services: Vec::new(),
        destinations: Vec::new(),
        unseen: Vec::new(),
        connections: None,
        refusal: Some(Refusal { error: format!("{} has errors", file.display()), exit_code: exit.code() }),
    };
    screen.show(&report, String::new)?;
    Ok(exit)
}

/// For people: programs have it in the answer.
fn tell(diagnostics: &Diagnostics, screen: &Screen) {
    if !diagnostics.is_empty() && !screen.is_json() {
        screen.tell(config::render(diagnostics, screen.is_colored()).trim_end());
    }
}

/// Tries everything that a valid configuration points to.
fn connect(config: &Config, screen: &Screen) -> Result<Vec<Tried>, Stop> {
    let failed = |error: &dyn std::fmt::Display| Stop::Failed(format!("cannot try the connections: {error}"));
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
    let tried = runtime.block_on(async {
        let (setup, no_cluster) = app::setup_to_try(config).await.map_err(|error| failed(&format!("{error:#}")))?;
        Ok(connections::tried(config, &setup, no_cluster.as_deref(), |over, of| progress(over, of, screen)).await)
    });
    // What hangs is not waited for.
    runtime.shutdown_background();
    tried
}

/// A line that counts, where somebody watches; it goes away at the end.
fn progress(over: usize, of: usize, screen: &Screen) {
    if text::is_watched() && !screen.is_json() {
        let line = if over < of { format!("\r{over} of {of} tried") } else { format!("\r{:40}\r", "") };
        let mut messages = std::io::stderr();
        let _ = messages.write_all(line.as_bytes());
        let _ = messages.flush();
    }
}

fn outcome(connections: Option<&[Tried]>) -> Exit {
    if connections.into_iter().flatten().all(|tried| tried.ok) { Exit::Done } else { Exit::Failed }
}

fn in_words(report: &Report<'_>) -> String {
    let (services, destinations) = (report.services.len(), report.destinations.len());
    let mut shown = format!(
        "{} {} is valid: {}, {}\n",
        text::paint(AnsiColor::Green.on_default().bold(), "ok"),
        report.file.display(),
        counted(services, "service"),
        counted(destinations, "destination")
    );
    for unseen in &report.unseen {
        shown.extend([text::faint("note: ").as_str(), unseen.in_words().as_str(), "\n"]);
    }
    if let Some(connections) = &report.connections {
        let rows = connections.iter().map(|tried| {
            let (state, color) = if tried.ok { ("ok", Color::DarkGreen) } else { ("FAILED", Color::DarkRed) };
            [text::cell(state, Some(color)), Cell::new(&tried.what), Cell::new(&tried.found)]
        });
        shown.push('\n');
        shown.push_str(&text::table(["STATE", "WHAT", "WHAT WAS FOUND"], rows));
        for Tried { what, warnings, .. } in connections {
            for warning in warnings {
                let label = text::paint(AnsiColor::Yellow.on_default().bold(), "warning:");
                shown.extend([label.as_str(), " ", what, ": ", warning, "\n"]);
            }
        }
    }
    shown
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(ok: bool) -> Tried {
        Tried { what: "checkout: errors".to_owned(), ok, found: "timed out".to_owned(), warnings: Vec::new() }
    }

    #[test]
    fn a_valid_file_that_points_to_something_dead_failed() {
        assert_eq!(outcome(None), Exit::Done);
        assert_eq!(outcome(Some(&[tried(true)])), Exit::Done);
        assert_eq!(outcome(Some(&[tried(true), tried(false)])), Exit::Failed);
    }

    #[test]
    fn a_report_counts_what_there_is_and_names_what_failed() {
        let report = Report {
            file: Path::new("x.toml"),
            valid: true,
            diagnostics: &[],
            omitted: 0,
            services: vec!["checkout".to_owned()],
            destinations: Vec::new(),
            unseen: Vec::new(),
            connections: Some(vec![tried(false)]),
            refusal: None,
        };
        let shown = in_words(&report);
        assert!(shown.contains("x.toml is valid: 1 service, 0 destinations\n"), "{shown}");
        assert!(shown.contains("FAILED") && shown.contains("checkout: errors") && shown.contains("timed out"), "{shown}");
    }
}
