//! `explain`: the answer first, then what happened when, and the numbers behind it.

use comfy_table::Cell;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::DeploymentId;
use rollbackd_core::service::ServiceName;
use rollbackd_core::view::ExplainView;
use rollbackd_core::words;

use super::client::Client;
use super::text::{self, Page, Screen};
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

pub(super) fn shown(view: &ExplainView) -> String {
    let deployment = &view.deployment;
    let status = words::status(deployment.status);
    let place = format!("{}, {}, deployment {}, {status}", deployment.service, deployment.environment, deployment.deployment);
    let mut page = Page::default();
    let mut answer = view.answer.iter();
    if let Some(first) = answer.next() {
        page.line(text::heading(first));
    }
    for sentence in answer {
        page.line(format_args!("  {sentence}"));
    }
    page.line(format_args!("  {}", text::faint(place)));
    let now = text::faint(format_args!("now it is {}", words::time(view.at)));
    page.line(format_args!("\n{}  {now}", text::heading("What happened")));
    page.block(&timeline(view));
    if !view.signals.is_empty() {
        page.line(format_args!("\n{}", text::heading("What is watched")));
        let rows = view.signals.iter().map(|(name, source, before)| [name, source, before].map(Cell::new));
        page.block(&text::table(["SIGNAL", "SOURCE", "BEFORE THE DEPLOYMENT"], rows));
    }
    if !view.findings.is_empty() {
        let found = deployment.severity.is_some();
        let title = if found { "What the checks said when it was decided" } else { "What the checks say now" };
        let at = view.found_at.map_or_else(String::new, |at| format!("  {}", text::faint(words::time(at))));
        page.line(format_args!("\n{}{at}", text::heading(title)));
        page.block(&text::findings(&view.findings));
    }
    if deployment.status.in_window() && !view.service.warnings.is_empty() {
        page.line(format_args!("\n{}", text::heading("What would be found late")));
        view.service.warnings.iter().for_each(|warning| page.line(format_args!("  {}", words::sentence(&warning.words))));
    }
    if deployment.status.in_window() && view.service.rollback.is_none() && view.service.known_good.is_some() {
        page.line(format_args!("\nTo go back by hand: rollbackd rollback {}", deployment.service));
    } else {
        page.line(format_args!("\nTo see how it is now: rollbackd status {}", deployment.service));
    }
    page.text()
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
