//! `demo`: a deployment that goes wrong, played on this machine.

use super::{Exit, Stop};
use crate::demo::{self, Scenario};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What happens.
    #[arg(long, value_enum, default_value_t)]
    scenario: Scenario,
}

/// Plays it.
pub(super) fn run(arguments: &Arguments) -> Result<Exit, Stop> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Stop::Failed(format!("cannot start: {error}")))?;
    let played = runtime.block_on(demo::run(arguments.scenario));
    // What the story left running is not waited for.
    runtime.shutdown_background();
    played.map(|()| Exit::Done).map_err(|error| Stop::Failed(format!("{error:#}")))
}
