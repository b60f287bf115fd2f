//! `history`: what was deployed, a row each.

use comfy_table::Cell;
use jiff::Timestamp;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::service::ServiceName;
use rollbackd_core::view::DeploymentView;
use rollbackd_core::words;

use super::client::Client;
use super::text::{self, Screen};
use super::{Exit, Stop, unknown, value};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// One service; all unless said.
    #[arg(value_parser = value::service)]
    service: Option<ServiceName>,
    /// Only this environment.
    #[arg(long, short)]
    environment: Option<String>,
    /// At most so many rows.
    #[arg(long, short, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

/// Asks and shows.
pub async fn run(arguments: Arguments, client: &Client, screen: &Screen) -> Result<Exit, Stop> {
    let Arguments { service, environment, limit } = arguments;
    let command = Command::History { service: service.clone(), environment: environment.clone(), limit: limit.into() };
    match client.ask(&command).await? {
        Answer::History(rows) => {
            if let Some(environment) = environment.filter(|_| rows.is_empty()) {
                unknown::environment(service.as_ref(), &environment, client).await?;
            }
            screen.show(&rows, || shown(&rows, Timestamp::now()))
        }
        other => Err(Stop::Failed(format!("the daemon answered something else: {other:?}"))),
    }
}

fn shown(rows: &[DeploymentView], now: Timestamp) -> String {
    if rows.is_empty() {
        return "no deployment was seen yet".to_owned();
    }
    let rows = rows.iter().map(|row| {
        [
            Cell::new(format_args!("#{}", row.deployment)),
            Cell::new(words::time(row.started)),
            Cell::new(format_args!("{}", text::short(now.duration_since(row.started)))),
            Cell::new(&row.service),
            Cell::new(&row.environment),
            Cell::new(&row.version),
            text::cell(words::status(row.status), text::status_color(row.status)),
            Cell::new(words::mark(row.mark)),
            Cell::new(row.rollback_of.map_or_else(|| row.why.clone(), |of| format!("rollback of #{of}"))),
        ]
    });
    text::table(["DEPLOYMENT", "STARTED", "AGO", "SERVICE", "ENVIRONMENT", "VERSION", "STATUS", "MARK", "WHY"], rows)
}
