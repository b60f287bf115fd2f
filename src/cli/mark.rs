//! `mark-good` and `mark-bad`: a person's word on a version.

use rollbackd_core::command::Command;
use rollbackd_core::entry::Mark;
use rollbackd_core::service::ServiceName;
use rollbackd_core::words;

use super::client::Client;
use super::consent::Consent;
use super::deployed::{done, would};
use super::text::Screen;
use super::{Exit, Stop, unknown, value};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The service.
    #[arg(value_parser = value::service)]
    service: ServiceName,
    /// The version: its name, its image, its identity, or `#12` for what deployment 12 brought.
    version: String,
    /// Why.
    #[arg(long, short, value_parser = value::reason, default_value = "no reason given")]
    reason: String,
    #[command(flatten)]
    consent: Consent,
}

/// Marks.
pub async fn run(arguments: Arguments, mark: Mark, client: &Client, screen: &Screen) -> Result<Exit, Stop> {
    let Arguments { service, version, reason, consent } = arguments;
    consent.possible()?;
    let effect = match mark {
        Mark::Good => "rollbacks may go to it",
        Mark::Bad => "no rollback goes to it",
        Mark::Unknown => "as if it had never been watched",
    };
    if !consent.yes {
        let meant = unknown::deployment_of(&service, &version, client).await?;
        let what = format!("mark {} of {service} (deployment {}) {}: {effect}", meant.version, meant.deployment, words::mark(mark));
        if consent.dry_run {
            return would(&what, screen);
        }
        consent.obtain(screen, &what, &[])?;
    }
    done(client.ask(&Command::Mark { service, version, mark, reason }).await?, screen)
}
