//! `hold` and `resume`: pause automatic rollbacks, and allow them again.

use jiff::SignedDuration;
use rollbackd_core::command::Command;
use rollbackd_core::entry::Scope;

use super::client::Client;
use super::consent::Consent;
use super::deployed::{done, would};
use super::text::{self, Screen};
use super::value::Which;
use super::{Exit, Stop, status, value};

/// The arguments of `hold`.
#[derive(Debug, clap::Args)]
pub struct HoldArguments {
    #[command(flatten)]
    which: Which,
    /// How long; until somebody resumes unless said.
    #[arg(long = "for", value_parser = value::length, value_name = "LENGTH")]
    lasting: Option<SignedDuration>,
    /// Why; whoever is woken at night reads it.
    #[arg(long, short, value_parser = value::reason)]
    reason: String,
    #[command(flatten)]
    consent: Consent,
}

/// The arguments of `resume`.
#[derive(Debug, clap::Args)]
pub struct ResumeArguments {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    consent: Consent,
}

/// Pauses.
pub async fn hold(arguments: HoldArguments, client: &Client, screen: &Screen) -> Result<Exit, Stop> {
    let HoldArguments { which, lasting, reason, consent } = arguments;
    consent.possible()?;
    let scope = which.scope()?;
    let end = lasting.map_or_else(|| "until somebody resumes".to_owned(), |lasting| format!("for {}", text::short(lasting)));
    let what = format!("pause automatic rollbacks of {} {end}: {reason}", of(&scope));
    let warnings = vec!["a bad deployment stays while they are paused; notices go on".to_owned()];
    carry_out(Command::Hold { scope: scope.clone(), reason, lasting }, &scope, consent, &what, warnings, client, screen).await
}

/// Allows again.
pub async fn resume(arguments: ResumeArguments, client: &Client, screen: &Screen) -> Result<Exit, Stop> {
    let ResumeArguments { which, consent } = arguments;
    consent.possible()?;
    let scope = which.scope()?;
    let brake = if scope == Scope::All { ", and release the brake if it is on" } else { "" };
    let what = format!("allow automatic rollbacks of {} again{brake}", of(&scope));
    carry_out(Command::Resume { scope: scope.clone() }, &scope, consent, &what, Vec::new(), client, screen).await
}

fn of(scope: &Scope) -> String {
    match scope {
        Scope::All => "all services".to_owned(),
        Scope::Service(service) => service.to_string(),
    }
}

/// Looks how it is now, so that a service that does not exist is found before anybody is asked.
async fn carry_out(
    command: Command,
    scope: &Scope,
    consent: Consent,
    what: &str,
    mut warnings: Vec<String>,
    client: &Client,
    screen: &Screen,
) -> Result<Exit, Stop> {
    if !consent.yes {
        let service = match scope {
            Scope::All => None,
            Scope::Service(service) => Some(service.clone()),
        };
        let now = status::ask(service, client).await?;
        let services = now.services.iter().filter_map(|service| Some((service.service.to_string(), service.hold.as_ref()?)));
        let all = now.hold.iter().map(|hold| ("all services".to_owned(), hold));
        warnings.extend(all.chain(services).map(|(of, hold)| format!("paused now: {of}, {}", text::hold(hold, now.at))));
    }
    if consent.dry_run {
        return would(what, screen);
    }
    consent.obtain(screen, what, &warnings)?;
    done(client.ask(&command).await?, screen)
}
