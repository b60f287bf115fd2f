//! `check`: validates a configuration with every error at once, and with `--connect` everything that it points to.

use std::path::{Path, PathBuf};

use clap::builder::styling::AnsiColor;
use comfy_table::{Cell, Color};
use serde::Serialize;

use super::text::{self, Screen};
use super::{Exit, Stop};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The file; the one of `--config` unless said.
    file: Option<PathBuf>,
    /// Also try every platform, source, query and credential. Changes nothing and sends no notice.
    #[arg(long)]
    connect: bool,
}

/// A configuration that was read.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// The names of its services.
    pub services: Vec<String>,
    /// The names of its destinations.
    pub destinations: Vec<String>,
    /// Warnings as they are shown to people; empty when there are none.
    pub warnings: String,
}

/// A configuration that has errors.
#[derive(Clone, Debug)]
pub struct Invalid {
    /// All of them, as they are shown to people.
    pub text: String,
    /// All of them, for programs.
    pub diagnostics: serde_json::Value,
}

/// What was found at one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectResult {
    /// What was tried: `checkout: platform`, `checkout: errors`, `destination oncall`.
    pub what: String,
    /// Whether it works.
    pub ok: bool,
    /// What was found there, or what is wrong.
    pub words: String,
}

/// As `--output json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    file: &'a Path,
    valid: bool,
    services: &'a [String],
    destinations: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<&'a [ConnectResult]>,
}

/// Checks and shows.
pub fn run(arguments: &Arguments, config: &Path, screen: &Screen) -> Result<Exit, Stop> {
    let file = arguments.file.as_deref().unwrap_or(config);
    let checked = match load(file, screen.is_colored())? {
        Ok(checked) => checked,
        Err(invalid) => return refuse(file, &invalid, screen),
    };
    if !checked.warnings.is_empty() {
        screen.tell(&checked.warnings);
    }
    let connections = if arguments.connect { Some(connect(file)?) } else { None };
    show(file, &checked, connections.as_deref(), screen)
}

/// Reads and validates. The outer error is for what is not the configuration's fault.
fn load(file: &Path, _colored: bool) -> Result<Result<Checked, Invalid>, Stop> {
    Err(Stop::Failed(format!("cannot check {}: not built in yet", file.display())))
}

/// Tries everything that a valid configuration points to.
fn connect(file: &Path) -> Result<Vec<ConnectResult>, Stop> {
    Err(Stop::Failed(format!("cannot try what {} points to: not built in yet", file.display())))
}

fn refuse(file: &Path, invalid: &Invalid, screen: &Screen) -> Result<Exit, Stop> {
    if screen.is_json() {
        let words = format!("{} has errors", file.display());
        let code = Exit::Usage.code();
        screen.show(&serde_json::json!({ "error": words, "exit_code": code, "diagnostics": invalid.diagnostics }), String::new)?;
    } else {
        screen.tell(invalid.text.trim_end());
    }
    Ok(Exit::Usage)
}

fn show(file: &Path, checked: &Checked, connections: Option<&[ConnectResult]>, screen: &Screen) -> Result<Exit, Stop> {
    let report = Report { file, valid: true, services: &checked.services, destinations: &checked.destinations, connections };
    screen.show(&report, || in_words(&report))?;
    Ok(outcome(connections))
}

fn outcome(connections: Option<&[ConnectResult]>) -> Exit {
    let all_work = connections.into_iter().flatten().all(|connection| connection.ok);
    if all_work { Exit::Done } else { Exit::Failed }
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
    if let Some(connections) = report.connections {
        let rows = connections.iter().map(|connection| {
            let (state, color) = if connection.ok { ("ok", Color::DarkGreen) } else { ("FAILED", Color::DarkRed) };
            [text::cell(state, Some(color)), Cell::new(&connection.what), Cell::new(&connection.words)]
        });
        shown.push('\n');
        shown.push_str(&text::table(["STATE", "WHAT", "WHAT WAS FOUND"], rows));
    }
    shown
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(ok: bool) -> ConnectResult {
        ConnectResult { what: "checkout: errors".to_owned(), ok, words: "timed out".to_owned() }
    }

    #[test]
    fn a_valid_file_that_points_to_something_dead_failed() {
        assert_eq!(outcome(None), Exit::Done);
        assert_eq!(outcome(Some(&[connection(true)])), Exit::Done);
        assert_eq!(outcome(Some(&[connection(true), connection(false)])), Exit::Failed);
    }

    #[test]
    fn a_report_counts_what_there_is_and_names_what_failed() {
        let names = ["checkout".to_owned()];
        let connections = [connection(false)];
        let report =
            Report { file: Path::new("x.toml"), valid: true, services: &names, destinations: &[], connections: Some(&connections) };
        let shown = in_words(&report);
        assert!(shown.contains("x.toml is valid: 1 service, 0 destinations\n"), "{shown}");
        assert!(shown.contains("FAILED") && shown.contains("checkout: errors") && shown.contains("timed out"), "{shown}");
    }
}
