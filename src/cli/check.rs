//! `check`: validates a configuration with every error at once, and with `--connect` everything that it points to.

use std::path::{Path, PathBuf};

use clap::builder::styling::AnsiColor;
use comfy_table::{Cell, Color};
use serde::Serialize;

use super::text::{self, Screen};
use super::{Exit, Stop};
use crate::app::{self, Tried};
use crate::config::{self, Config, Diagnostics};

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
    services: Vec<String>,
    destinations: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<&'a [Tried]>,
}

/// Checks and shows.
pub(super) fn run(arguments: &Arguments, config: &Path, screen: &Screen) -> Result<Exit, Stop> {
    let file = arguments.file.as_deref().unwrap_or(config);
    let checked = match config::load(file, &super::environment()) {
        Ok(checked) => checked,
        Err(invalid) => return refuse(file, &invalid, screen),
    };
    if !checked.warnings.is_empty() {
        screen.tell(config::render(&checked.warnings, screen.is_colored()).trim_end());
    }
    let connections = if arguments.connect { Some(connect(&checked)?) } else { None };
    show(file, &checked, connections.as_deref(), screen)
}

/// Tries everything that a valid configuration points to.
fn connect(config: &Config) -> Result<Vec<Tried>, Stop> {
    let failed = |error: &dyn std::fmt::Display| Stop::Failed(format!("cannot try the connections: {error:#}"));
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
    runtime.block_on(app::connect_check(config)).map_err(|error| failed(&format!("{error:#}")))
}

fn refuse(file: &Path, invalid: &Diagnostics, screen: &Screen) -> Result<Exit, Stop> {
    if screen.is_json() {
        let words = format!("{} has errors", file.display());
        let code = Exit::Usage.code();
        screen.show(&serde_json::json!({ "error": words, "exit_code": code, "diagnostics": invalid.to_json() }), String::new)?;
    } else {
        screen.tell(config::render(invalid, screen.is_colored()).trim_end());
    }
    Ok(Exit::Usage)
}

fn show(file: &Path, checked: &Config, connections: Option<&[Tried]>, screen: &Screen) -> Result<Exit, Stop> {
    let services = checked.services.keys().map(ToString::to_string).collect();
    let destinations = checked.destinations.keys().cloned().collect();
    let report = Report { file, valid: true, services, destinations, connections };
    screen.show(&report, || in_words(&report))?;
    Ok(outcome(connections))
}

fn outcome(connections: Option<&[Tried]>) -> Exit {
    let all_work = connections.into_iter().flatten().all(|connection| connection.outcome.is_ok());
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
            let (state, color) = if connection.outcome.is_ok() { ("ok", Color::DarkGreen) } else { ("FAILED", Color::DarkRed) };
            [
                text::cell(state, Some(color)),
                Cell::new(&connection.what),
                Cell::new(connection.outcome.as_ref().unwrap_or_else(|wrong| wrong)),
            ]
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

    fn connection(ok: bool) -> Tried {
        let words = "timed out".to_owned();
        Tried { what: "checkout: errors".to_owned(), outcome: if ok { Ok(words) } else { Err(words) } }
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
        let report = Report {
            file: Path::new("x.toml"),
            valid: true,
            services: names.to_vec(),
            destinations: Vec::new(),
            connections: Some(&connections),
        };
        let shown = in_words(&report);
        assert!(shown.contains("x.toml is valid: 1 service, 0 destinations\n"), "{shown}");
        assert!(shown.contains("FAILED") && shown.contains("checkout: errors") && shown.contains("timed out"), "{shown}");
    }
}
