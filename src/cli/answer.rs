//! `approve` and `reject`: the answer to what operators are asked.

use rollbackd_core::command::{Answer, Command};
use rollbackd_core::service::ServiceName;
use rollbackd_core::severity::Choice;

use super::client::Client;
use super::consent::Consent;
use super::deployed::done;
use super::text::Screen;
use super::{Exit, Stop, value};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The service.
    #[arg(value_parser = value::service)]
    service: ServiceName,
    /// Why; it is recorded and told.
    #[arg(long, short, value_parser = value::reason, default_value = "no reason given")]
    reason: String,
    #[command(flatten)]
    consent: Consent,
}

/// Answers.
pub async fn run(arguments: Arguments, choice: Choice, client: &Client, screen: &Screen) -> Result<Exit, Stop> {
    let Arguments { service, reason, consent } = arguments;
    consent.possible()?;
    let command = |dry_run| Command::Answer { service: service.clone(), choice, reason: reason.clone(), dry_run };
    if !consent.yes {
        let answer = client.ask(&command(true)).await?;
        if consent.dry_run {
            return show(answer, screen);
        }
        let (what, warnings) = match &answer {
            Answer::Planned { from, to, warnings, .. } => (format!("roll back {service} from {from} to {to}"), warnings.clone()),
            Answer::Done(words) => (words.clone(), Vec::new()),
            other => return Err(Stop::Failed(format!("the daemon answered something else: {other:?}"))),
        };
        consent.obtain(screen, &what, &warnings)?;
    }
    show(client.ask(&command(false)).await?, screen)
}

fn show(answer: Answer, screen: &Screen) -> Result<Exit, Stop> {
    let Answer::Planned { service, from, to, dry_run, warnings } = &answer else { return done(answer, screen) };
    screen.show(&answer, || {
        let line = if *dry_run {
            format!("would roll back {service} from {from} to {to}")
        } else {
            format!("{service}: rollback from {from} to {to} is planned; to see how it goes: rollbackd status {service}")
        };
        warnings.iter().fold(line, |lines, warning| format!("{lines}\nwarning: {warning}"))
    })
}
