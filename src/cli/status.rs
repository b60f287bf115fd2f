//! `status`: a table of all services and then what stands in the way; or one service with every check.

use clap::builder::styling::AnsiColor;
use comfy_table::{Cell, Color};
use jiff::Timestamp;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::lifecycle::Status;
use rollbackd_core::service::ServiceName;
use rollbackd_core::severity::Severity;
use rollbackd_core::view::{DeploymentView, RollbackView, ServiceView, StatusView};
use rollbackd_core::words;

use super::client::Client;
use super::text::{self, Screen};
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
    if view.services.is_empty() {
        return format!("no service is configured\n{}", fleet(view));
    }
    let rows = view.services.iter().map(|service| row(service, view.at));
    let mut shown = text::table(["SERVICE", "ENVIRONMENT", "VERSION", "STATUS", "WINDOW", "KNOWN GOOD", "SUMMARY"], rows);
    let sections = [fleet(view), services_sections(view)].concat();
    if !sections.is_empty() {
        shown.push('\n');
        shown.push_str(&sections);
    }
    if let Some(first) = view.services.iter().find(|service| is_in_need(service)) {
        shown.push_str(&format!("\nTo see why: rollbackd explain {}\n", first.service));
    }
    shown
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
        Cell::new(service.known_good.as_ref().map_or_else(dash, ToString::to_string)),
        text::cell(&service.summary, color),
    ]
}

/// Whether a person should look.
fn is_in_need(service: &ServiceView) -> bool {
    let bad = service.deployment.as_ref().is_some_and(|deployment| {
        let severe = deployment.severity.is_some_and(|severity| severity <= Severity::P2) && deployment.status.in_window();
        severe || matches!(deployment.status, Status::Failed)
    });
    bad || service.rollback.is_some()
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
fn fleet(view: &StatusView) -> String {
    let mut shown = String::new();
    for trouble in &view.troubles {
        section(&mut shown, AnsiColor::Red, "TROUBLE", trouble);
    }
    if !view.brake.is_empty() {
        let names: Vec<_> = view.brake.iter().map(ToString::to_string).collect();
        let says =
            format!("on, so nothing is rolled back by itself: {} went bad together. Release: rollbackd resume --all", names.join(", "));
        section(&mut shown, AnsiColor::Red, "BRAKE", &says);
    }
    if let Some(hold) = &view.hold {
        section(&mut shown, AnsiColor::Yellow, "PAUSED", &format!("all services, {}", text::hold(hold, view.at)));
    }
    if view.notices_waiting > 0 {
        section(&mut shown, AnsiColor::Yellow, "NOTICES", &format!("{} still to be delivered", view.notices_waiting));
    }
    shown
}

fn services_sections(view: &StatusView) -> String {
    let mut shown = String::new();
    for service in &view.services {
        let name = &service.service;
        if let Some(rollback) = &service.rollback {
            section(&mut shown, AnsiColor::Yellow, "ROLLBACK", &format!("{name}: {}", rollback_line(rollback, view.at)));
        }
        if let Some(hold) = &service.hold {
            section(&mut shown, AnsiColor::Yellow, "PAUSED", &format!("{name}, {}", text::hold(hold, view.at)));
        }
        for (signal, why) in &service.blind {
            section(&mut shown, AnsiColor::Yellow, "BLIND", &format!("{name}: {signal}: {why}"));
        }
    }
    shown
}

fn section(shown: &mut String, color: AnsiColor, label: &str, says: &str) {
    let label = text::paint(color.on_default().bold(), format_args!("{label:<9}"));
    shown.push_str(&format!("{label} {says}\n"));
}

/// A rollback in a line.
pub fn rollback_line(rollback: &RollbackView, now: Timestamp) -> String {
    let stands = rollback.outcome.as_ref().filter(|_| rollback.phase == "ended").unwrap_or(&rollback.phase);
    let planned = text::when(rollback.planned, now);
    format!("{} to {}: {stands}; planned {planned}: {}", rollback.from, rollback.to, rollback.cause)
}

fn in_detail(view: &StatusView) -> String {
    let mut shown: Vec<_> = view.services.iter().map(|service| detail(service, view.at)).collect();
    shown.extend(Some(fleet(view)).filter(|fleet| !fleet.is_empty()));
    shown.join("\n")
}

fn detail(service: &ServiceView, now: Timestamp) -> String {
    let mut shown =
        format!("{}  {}\n", text::heading(&service.service), text::faint(format_args!("{}, {}", service.environment, service.platform)));
    let color = if is_in_need(service) { AnsiColor::Red.on_default().bold() } else { AnsiColor::Green.on_default() };
    shown.push_str(&format!("  {}\n\n", text::paint(color, &service.summary)));
    match &service.deployment {
        Some(deployment) => {
            let mark = words::mark(deployment.mark);
            shown.push_str(&text::fact(
                "version",
                format_args!("{} (deployment {}, marked {mark})", deployment.version, deployment.deployment),
            ));
            shown.push_str(&text::fact("status", words::status(deployment.status)));
            shown.push_str(&text::fact("started", text::when(deployment.started, now)));
            if let Some(progress) = progress(deployment, now) {
                shown.push_str(&text::fact("window", format_args!("{progress}, ends {}", text::when(deployment.window_ends, now))));
            }
            if !deployment.why.is_empty() {
                shown.push_str(&text::fact("why", &deployment.why));
            }
        }
        None => shown.push_str(&text::fact("version", "nothing was seen of it yet")),
    }
    let known_good = service.known_good.as_ref().map_or_else(|| "none: there is no way back".to_owned(), ToString::to_string);
    shown.push_str(&text::fact("known good", known_good));
    if let Some(rollback) = &service.rollback {
        shown.push_str(&text::fact("rollback", rollback_line(rollback, now)));
    }
    if let Some(hold) = &service.hold {
        shown.push_str(&text::fact("paused", text::hold(hold, now)));
    }
    for (signal, why) in &service.blind {
        shown.push_str(&text::fact("blind", format_args!("{signal}: {why}")));
    }
    if !service.findings.is_empty() {
        shown.push('\n');
        shown.push_str(&text::findings(&service.findings));
    }
    shown
}
