//! `status`: a table of all services and then what stands in the way; or one service with every check.

use std::fmt::Display;

use clap::builder::styling::AnsiColor;
use comfy_table::{Cell, Color};
use jiff::Timestamp;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::Mark;
use rollbackd_core::lifecycle::Status;
use rollbackd_core::service::ServiceName;
use rollbackd_core::severity::Severity;
use rollbackd_core::view::{DeclaredView, DeploymentView, RollbackView, ServiceView, StatusView};
use rollbackd_core::words;

use super::client::Client;
use super::text::{self, Page, Screen};
use super::{Exit, Stop, value};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// One service, with every check; all at a glance unless said.
    #[arg(value_parser = value::service)]
    service: Option<ServiceName>,
}

/// Asks and shows.
pub async fn run(arguments: Arguments, client: &Client, screen: &Screen) -> Result<Exit, Stop> {
    let alone = arguments.service.is_some() || screen.is_verbose();
    let view = ask(arguments.service, client).await?;
    screen.show(&view, || if alone { in_detail(&view) } else { at_a_glance(&view) })
}

/// How things are.
pub async fn ask(service: Option<ServiceName>, client: &Client) -> Result<StatusView, Stop> {
    match client.ask(&Command::Status { service }).await? {
        Answer::Status(view) => Ok(view),
        other => Err(Stop::Failed(format!("the daemon answered something else: {other:?}"))),
    }
}

fn at_a_glance(view: &StatusView) -> String {
    let mut page = Page::default();
    if view.services.is_empty() {
        page.line("no service is configured");
    } else {
        let rows = view.services.iter().map(|service| row(service, view.at));
        page.block(&text::table(["SERVICE", "ENVIRONMENT", "VERSION", "STATUS", "WINDOW", "KNOWN GOOD", "SUMMARY"], rows));
    }
    let mut sections = Page::default();
    fleet(view, &mut sections);
    view.services.iter().for_each(|service| service_sections(service, view.at, &mut sections));
    if !sections.is_empty() {
        page.line("");
        page.block(&sections.text());
    }
    if let Some(first) = view.services.iter().find(|service| is_in_need(service)) {
        page.line(format_args!("\nTo see why: rollbackd explain {}", first.service));
    }
    page.text()
}

fn row(service: &ServiceView, now: Timestamp) -> [Cell; 7] {
    let deployment = service.deployment.as_ref();
    let dash = || "-".to_owned();
    let color = if is_in_need(service) { Some(Color::DarkRed) } else { None };
    [
        Cell::new(&service.service),
        Cell::new(&service.environment),
        Cell::new(deployment.map_or_else(dash, |deployment| deployment.version.to_string())),
        deployment.map_or_else(
            || Cell::new("-"),
            |deployment| text::cell(words::status(deployment.status), text::status_color(deployment.status)),
        ),
        Cell::new(deployment.and_then(|deployment| progress(deployment, now)).unwrap_or_else(dash)),
        Cell::new(known_good(service).unwrap_or_else(dash)),
        text::cell(&service.summary, color),
    ]
}

/// The last known good version, or that it is what runs.
fn known_good(service: &ServiceView) -> Option<String> {
    let runs = || service.deployment.as_ref().filter(|deployment| deployment.mark == Mark::Good).map(|_| "it runs".to_owned());
    service.known_good.as_ref().map(ToString::to_string).or_else(runs)
}

/// Whether a person should look.
fn is_in_need(service: &ServiceView) -> bool {
    let bad = service.deployment.as_ref().is_some_and(|deployment| {
        let severe = deployment.severity.is_some_and(|severity| severity <= Severity::P2) && deployment.status.in_window();
        severe || matches!(deployment.status, Status::Failed)
    });
    bad || service.rollback.is_some() || service.question.is_some()
}

/// `5m of 30m`, while the window is open.
fn progress(deployment: &DeploymentView, now: Timestamp) -> Option<String> {
    if !deployment.status.in_window() {
        return None;
    }
    let passed = now.duration_since(deployment.started);
    let whole = deployment.window_ends.duration_since(deployment.started);
    Some(format!("{} of {}", text::short(passed), text::short(whole)))
}

/// What concerns all services.
fn fleet(view: &StatusView, page: &mut Page) {
    for trouble in &view.troubles {
        section(page, AnsiColor::Red, "TROUBLE", trouble);
    }
    if !view.brake.is_empty() {
        let names: Vec<_> = view.brake.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        let says = format_args!("on, so nothing is rolled back by itself: {names} went bad together. Release: rollbackd resume --all");
        section(page, AnsiColor::Red, "BRAKE", says);
    }
    if let Some(hold) = &view.hold {
        section(page, AnsiColor::Yellow, "PAUSED", format_args!("all services, {}", text::hold(hold, view.at)));
    }
    if view.notices_waiting > 0 {
        section(page, AnsiColor::Yellow, "NOTICES", format_args!("{} still to be delivered", view.notices_waiting));
    }
}

fn service_sections(service: &ServiceView, now: Timestamp, page: &mut Page) {
    let name = &service.service;
    if let Some(rollback) = &service.rollback {
        section(page, AnsiColor::Yellow, "ROLLBACK", format_args!("{name}: {}", rollback_line(rollback, now)));
    }
    for declared in &service.declared {
        section(page, AnsiColor::Red, "DECLARED", format_args!("{name}: {}", declared_line(declared, now)));
    }
    if let Some(question) = &service.question {
        let how = format_args!("rollbackd approve {name}, or rollbackd reject {name}");
        section(page, AnsiColor::Red, "ASKED", format_args!("{name}: {} ({how})", question.words));
    }
    if let Some(hold) = &service.hold {
        section(page, AnsiColor::Yellow, "PAUSED", format_args!("{name}, {}", text::hold(hold, now)));
    }
    for (signal, why) in &service.blind {
        section(page, AnsiColor::Yellow, "BLIND", format_args!("{name}: {signal}: {why}"));
    }
}

fn section(page: &mut Page, color: AnsiColor, label: &str, says: impl Display) {
    let label = text::paint(color.on_default().bold(), format_args!("{label:<9}"));
    page.line(format_args!("{label} {says}"));
}

/// What somebody said, in a line.
fn declared_line(declared: &DeclaredView, now: Timestamp) -> String {
    format!("{}, by {}, since {}: {}", declared.impact, declared.by, text::when(declared.since, now), declared.reason)
}

/// A rollback in a line.
fn rollback_line(rollback: &RollbackView, now: Timestamp) -> String {
    let planned = text::when(rollback.planned, now);
    format!("{} to {}: {}; decided {planned}: {}", rollback.from, rollback.to, rollback.phase, rollback.cause)
}

pub(super) fn in_detail(view: &StatusView) -> String {
    let mut page = Page::default();
    fleet(view, &mut page);
    for service in &view.services {
        if !page.is_empty() {
            page.line("");
        }
        detail(service, view.at, &mut page);
    }
    page.text()
}

fn detail(service: &ServiceView, now: Timestamp, page: &mut Page) {
    let place = text::faint(format_args!("{}, {}", service.environment, service.platform));
    let is_suspect = service.findings.iter().any(|view| words::is_suspect(&view.finding));
    let color = match (is_in_need(service), is_suspect) {
        (true, _) => AnsiColor::Red,
        (false, true) => AnsiColor::Yellow,
        (false, false) => AnsiColor::Green,
    };
    let headline = if service.headline.is_empty() { &service.summary } else { &service.headline };
    page.line(format_args!("{}: {}", text::heading(&service.service), text::paint(color.on_default().bold(), headline)));
    page.line(format_args!("  {place}"));
    for warning in &service.warnings {
        page.line(format_args!("  {}", text::paint(AnsiColor::Yellow.on_default(), words::sentence(&warning.words))));
    }
    page.line("");
    match &service.deployment {
        Some(deployment) => deployment_facts(deployment, now, page),
        None => page.fact("version", "nothing was seen of it yet"),
    }
    page.fact(
        "known good",
        match (&service.known_good, known_good(service)) {
            (Some(version), _) => version.to_string(),
            (None, Some(_)) => "what runs; no other version is".to_owned(),
            (None, None) => "none yet: there is no way back".to_owned(),
        },
    );
    if let Some(rollback) = &service.rollback {
        page.fact("rollback", rollback_line(rollback, now));
        if let Some(until) = rollback.proof_until.filter(|_| !rollback.lacks.is_empty()) {
            let until = text::when(until, now);
            page.fact("proof", format_args!("that it helped is looked for until {until}; it lacks: {}", rollback.lacks.join("; ")));
        }
    }
    for declared in &service.declared {
        page.fact("declared", declared_line(declared, now));
    }
    if let Some(question) = &service.question {
        page.fact(
            "asked",
            format_args!("{} (rollbackd approve {name}, or rollbackd reject {name})", question.words, name = service.service),
        );
    }
    if let Some(hold) = &service.hold {
        page.fact("paused", text::hold(hold, now));
    }
    for (signal, why) in &service.blind {
        page.fact("blind", format_args!("{signal}: {why}"));
    }
    if !service.findings.is_empty() {
        page.line("");
        page.block(&text::findings(&service.findings));
    }
}

fn deployment_facts(deployment: &DeploymentView, now: Timestamp, page: &mut Page) {
    let mark = words::mark(deployment.mark);
    page.fact("version", format_args!("{} (deployment {}, marked {mark})", deployment.version, deployment.deployment));
    page.fact("status", words::status(deployment.status));
    page.fact("started", text::when(deployment.started, now));
    if let Some(progress) = progress(deployment, now) {
        page.fact("window", format_args!("{progress}, ends {}", text::when(deployment.window_ends, now)));
    }
    if !deployment.why.is_empty() {
        page.fact("why", &deployment.why);
    }
}
