//! `explain`: the answer first, then what happened when, and the numbers behind it.

use comfy_table::Cell;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::DeploymentId;
use rollbackd_core::service::ServiceName;
use rollbackd_core::view::ExplainView;
use rollbackd_core::words;

use super::client::Client;
use super::text::{self, Screen};
use super::{Exit, Stop, value};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The service.
    #[arg(value_parser = value::service)]
    service: ServiceName,
    /// The number of a deployment. Unless said: the one that was rolled back last, while nothing newer happened, else the newest.
    #[arg(long, short, value_parser = value::deployment, value_name = "N")]
    deployment: Option<DeploymentId>,
}

/// Asks and shows.
pub async fn run(arguments: Arguments, client: &Client, screen: &Screen) -> Result<Exit, Stop> {
    let view = ask(arguments.service, arguments.deployment, client).await?;
    screen.show(&view, || shown(&view))
}

/// Why.
pub async fn ask(service: ServiceName, deployment: Option<DeploymentId>, client: &Client) -> Result<ExplainView, Stop> {
    match client.ask(&Command::Explain { service, deployment }).await? {
        Answer::Explanation(view) => Ok(*view),
        other => Err(Stop::Failed(format!("the daemon answered something else: {other:?}"))),
    }
}

fn shown(view: &ExplainView) -> String {
    let deployment = &view.deployment;
    let mut shown = format!(
        "{}  {}\n",
        text::heading(format_args!("{} {}", deployment.service, deployment.version)),
        text::faint(format_args!("{}, deployment {}, {}", deployment.environment, deployment.deployment, words::status(deployment.status)))
    );
    for sentence in &view.answer {
        shown.push_str(&format!("  {sentence}\n"));
    }
    shown.push_str(&format!("\n{}  {}\n", text::heading("What happened"), text::faint(format_args!("now it is {}", words::time(view.at)))));
    shown.push_str(&timeline(view));
    if !view.signals.is_empty() {
        shown.push_str(&format!("\n{}\n", text::heading("What is watched")));
        let rows = view.signals.iter().map(|(name, source, before)| [name, source, before].map(Cell::new));
        shown.push_str(&text::table(["SIGNAL", "SOURCE", "BEFORE THE DEPLOYMENT"], rows));
    }
    if !view.findings.is_empty() {
        let title = if deployment.severity.is_some() { "What the checks said when it was found" } else { "What the checks say now" };
        shown.push_str(&format!("\n{}\n", text::heading(title)));
        shown.push_str(&text::findings(&view.findings));
    }
    let next = if deployment.status.in_window() { "Go back by hand" } else { "How it is now" };
    let command = if deployment.status.in_window() { "rollback" } else { "status" };
    shown.push_str(&format!("\n{next}: rollbackd {command} {}\n", deployment.service));
    shown
}

/// Each event with its time, how long ago that is, and how long after the first one.
fn timeline(view: &ExplainView) -> String {
    let first = view.timeline.first().map_or(view.deployment.started, |(at, _)| *at);
    let rows = view.timeline.iter().map(|(at, what)| {
        let after = format!("+{}", text::short(at.duration_since(first)));
        [Cell::new(text::when(*at, view.at)), Cell::new(after), Cell::new(what)]
    });
    text::table(["WHEN", "AFTER", "WHAT"], rows)
}
