//! `demo`: a deployment that goes wrong, played on this machine.

use super::text::Screen;
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
pub(super) fn run(arguments: &Arguments, screen: &Screen) -> Result<Exit, Stop> {
    if screen.is_json() {
        return Err(Stop::Usage("the demo is a story for people: it has no `--output json`".to_owned()));
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Stop::Failed(format!("cannot start: {error}")))?;
    let played = runtime.block_on(demo::run(arguments.scenario));
    // What the story left running is not waited for.
    runtime.shutdown_background();
    played.map(|()| Exit::Done).map_err(|error| Stop::Failed(format!("{error:#}")))
}
