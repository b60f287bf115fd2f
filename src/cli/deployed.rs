//! `deployed`: tells the daemon of a deployment. It states a fact and changes nothing that runs, so it never asks.

use jiff::Timestamp;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::service::ServiceName;

use super::client::Client;
use super::text::Screen;
use super::{Exit, Stop, value};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The service.
    #[arg(value_parser = value::service)]
    service: ServiceName,
    /// When it started: `5m` (ago), or a time with its zone. When it is seen unless said.
    #[arg(long, value_parser = value::moment, value_name = "TIME")]
    started: Option<Timestamp>,
    /// What it carries; code unless said.
    #[arg(long, value_enum)]
    change: Option<value::Change>,
}

/// Tells.
pub async fn run(arguments: Arguments, client: &Client, screen: &Screen) -> Result<Exit, Stop> {
    let Arguments { service, started, change } = arguments;
    let answer = client.ask(&Command::Deployed { service, started, change: change.map(Into::into) }).await?;
    done(answer, screen)
}

/// Shows that something is done.
pub fn done(answer: Answer, screen: &Screen) -> Result<Exit, Stop> {
    match answer {
        Answer::Done(words) => screen.show(&serde_json::json!({ "done": words }), || words.clone()),
        other => Err(Stop::Failed(format!("the daemon answered something else: {other:?}"))),
    }
}

/// Shows what would be done.
pub fn would(words: &str, screen: &Screen) -> Result<Exit, Stop> {
    screen.show(&serde_json::json!({ "dry_run": true, "would": words }), || format!("would {words}"))
}
