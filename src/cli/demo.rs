//! `demo`: a deployment that goes wrong, in a simulation on this machine.

use clap::ValueEnum;

use super::{Exit, Stop};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What happens.
    #[arg(long, value_enum, default_value_t)]
    scenario: Scenario,
}

/// What happens in the demo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// The new version does not come up at all.
    #[default]
    Outage,
    /// The new version fails most requests.
    Errors,
    /// The new version is well and becomes known good.
    Healthy,
    /// Nobody asks the new version anything: nothing is proved, so nothing is done.
    Quiet,
    /// A dependency breaks; going back does not help, and the daemon says so.
    NotToBlame,
}

/// Plays it.
pub fn run(arguments: &Arguments) -> Result<Exit, Stop> {
    play(arguments.scenario).map(|()| Exit::Done)
}

/// The demo itself.
fn play(scenario: Scenario) -> Result<(), Stop> {
    Err(Stop::Failed(format!("cannot play the scenario {scenario:?}: not built in yet")))
}
