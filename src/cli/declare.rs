//! `declare`: a person's or a tool's word that an impact is there, or that it is not. What follows is the matrix' business; it is shown
//! before anybody is asked.

use rollbackd_core::command::{Answer, Command};
use rollbackd_core::service::ServiceName;
use rollbackd_core::severity::Impact;

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
    /// What is wrong, a row of the matrix: `complete_outage`, `data_corruption`, `security_breach`, `error_ratio`, `performance`,
    /// `feature_broken` or `minor_fault`.
    #[arg(value_parser = value::impact)]
    impact: Impact,
    /// Why; it is recorded and told.
    #[arg(long, short, value_parser = value::reason, required_unless_present = "resolved")]
    reason: Option<String>,
    /// It is over, or was said in error.
    #[arg(long)]
    resolved: bool,
    #[command(flatten)]
    consent: Consent,
}

/// Declares, or withdraws.
pub async fn run(arguments: Arguments, client: &Client, screen: &Screen) -> Result<Exit, Stop> {
    let Arguments { service, impact, reason, resolved, consent } = arguments;
    consent.possible()?;
    let reason = reason.unwrap_or_else(|| "no reason given".to_owned());
    let command = |dry_run| Command::Declare { service: service.clone(), impact, reason: reason.clone(), resolved, dry_run };
    if !consent.yes {
        let answer = client.ask(&command(true)).await?;
        if consent.dry_run {
            return show(answer, screen);
        }
        consent.obtain(screen, &words(&answer)?, &[])?;
    }
    show(client.ask(&command(false)).await?, screen)
}

/// Whoever declares wants to know whether a guard stands in the way; what they said is recorded all the same.
fn show(answer: Answer, screen: &Screen) -> Result<Exit, Stop> {
    let Answer::Declared { guard, .. } = &answer else { return done(answer, screen) };
    let exit = if guard.is_some() { Exit::Refused } else { Exit::Done };
    let shown = words(&answer)?;
    screen.show(&answer, || shown.clone())?;
    Ok(exit)
}

fn words(answer: &Answer) -> Result<String, Stop> {
    match answer {
        Answer::Declared { service, impact, severity, deployment, version, known, dry_run, follows, .. } => {
            let about = format!("{severity} {impact} on {version} of {service} (deployment {deployment})");
            Ok(match (known, dry_run) {
                (true, _) => format!("{about} was declared already: {follows}"),
                (false, true) => format!("would declare {about}: {follows}"),
                (false, false) => format!("declared {about}: {follows}"),
            })
        }
        Answer::Done(words) => Ok(words.clone()),
        other => Err(Stop::Failed(format!("the daemon answered something else: {other:?}"))),
    }
}
