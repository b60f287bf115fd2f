//! The command line: arguments, exit codes, and which command does what. One file a command; the daemon is asked through its local socket
//! and nothing is judged here.

use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use rollbackd_core::severity::Choice;

mod client;
mod consent;
mod text;
mod value;
mod unknown;

pub mod run;
pub mod check;
mod test;
pub mod demo;
pub mod replay;
mod status;
mod history;
mod explain;
mod deployed;
mod rollback;
mod hold;
mod declare;
mod answer;
mod mark;
#[cfg(test)]
mod scenes;

use crate::config::Environment;
use client::Client;
use text::Screen;

/// How a command ended. The numbers are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The arguments or the configuration are wrong, or name something that does not exist.
    Usage = 2,
    /// A guard stands in the way, or the daemon refused.
    Refused = 3,
    /// No daemon answers.
    NoDaemon = 4,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The arguments are wrong, or name something that does not exist.
    #[error("{0}")]
    Usage(String),
    /// What was named does not exist.
    #[error("{words}{}", listed(known))]
    Unknown {
        /// What was looked for.
        words: String,
        /// What there is instead.
        known: Vec<String>,
    },
    /// A guard stands in the way.
    #[error("refused ({guard}): {why}")]
    Refused {
        /// Its name.
        guard: String,
        /// In words.
        why: String,
    },
    /// No daemon answers.
    #[error("{0}")]
    NoDaemon(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Stop {
    /// The exit code that it leads to.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Unknown { .. } => Exit::Usage,
            Self::Refused { .. } => Exit::Refused,
            Self::NoDaemon(_) => Exit::NoDaemon,
            Self::Failed(_) => Exit::Failed,
        }
    }

    /// As `--output json` prints it.
    fn json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({ "error": self.to_string(), "exit_code": self.exit().code() });
        match self {
            Self::Refused { guard, .. } => json["guard"] = guard.as_str().into(),
            Self::Unknown { words, known } => {
                json["error"] = words.as_str().into();
                json["known"] = known.as_slice().into();
            }
            Self::Usage(_) | Self::NoDaemon(_) | Self::Failed(_) => {}
        }
        json
    }
}

/// What there is, a line each, and a line before that says so.
fn listed(known: &[String]) -> String {
    match known {
        [] => "\n  there is none yet".to_owned(),
        [only] => format!("\nthere is:\n  {only}"),
        known => format!("\nthere are:\n  {}", known.join("\n  ")),
    }
}

/// Where the daemon is found unless said.
const SOCKET: &str = "/run/rollbackd/rollbackd.sock";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed (`rollback` that waits: the service did not recover, or that is not known)
  2  usage or configuration: wrong arguments, an invalid file, a name that does not exist
  3  refused: a guard stands in the way, and is named
  4  no daemon answers

With `--output json` the answer is one JSON document on stdout, and an error is
{\"error\": …, \"exit_code\": …}, with the \"guard\" that refused, or the names that are
\"known\". Times are RFC 3339, ratios are 0 to 1.

At three in the morning:
  rollbackd status                 how things are, and what stands in the way
  rollbackd explain checkout       why it was rolled back, or why it was not
  rollbackd rollback checkout      go back to the last known good version
  rollbackd hold --all --reason …  no automatic rollbacks until `rollbackd resume --all`";

/// Guards every deployment: notices it, watches it, goes back to the last known good version by itself, and proves that this helped.
#[derive(Debug, Parser)]
#[command(name = "rollbackd", version, max_term_width = 110, after_long_help = EXIT_CODES)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct Common {
    /// The configuration, for `run`, `check` and `replay`.
    #[arg(long, global = true, value_name = "PATH", env = "ROLLBACKD_CONFIG", default_value = "/etc/rollbackd/rollbackd.toml")]
    config: PathBuf,
    /// The daemon's local socket.
    #[arg(long, global = true, value_name = "PATH", env = "ROLLBACKD_SOCKET")]
    socket: Option<PathBuf>,
    /// How the answer is printed.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
    /// Colour. `auto`: on a terminal, unless `NO_COLOR` is set.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
    /// Say more: `status` shows every check, `run` logs at debug level.
    #[arg(long, short, global = true)]
    verbose: bool,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// When there is colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground.
    #[command(
        after_help = "Example:\n  rollbackd run --config /etc/rollbackd/rollbackd.toml\n\nSIGTERM ends it, SIGHUP reads the configuration again; a configuration with errors changes nothing."
    )]
    Run(run::Arguments),
    /// Validate a configuration, with every error at once.
    #[command(after_help = check::HELP)]
    Check(check::Arguments),
    /// Test a policy with made-up series: which verdict is reached when, and why.
    #[command(after_help = test::HELP)]
    Test(test::Arguments),
    /// Watch a deployment go wrong and be rolled back, in a simulation on this machine.
    #[command(after_help = "Example:\n  rollbackd demo --scenario errors")]
    Demo(demo::Arguments),
    /// What would have been done about deployments of the past, by this configuration and from recorded samples.
    #[command(after_help = replay::HELP)]
    Replay(replay::Arguments),
    /// How things are: all services, or one with every check.
    #[command(
        after_help = "Examples:\n  rollbackd status\n  rollbackd status checkout\n  rollbackd status --output json | jq '.services[] | select(.hold)'"
    )]
    Status(status::Arguments),
    /// What was deployed, newest first.
    #[command(
        after_help = "Examples:\n  rollbackd history\n  rollbackd history checkout --limit 5\n  rollbackd history --environment production"
    )]
    History(history::Arguments),
    /// Why a deployment was rolled back, or was not.
    #[command(
        after_help = "Examples:\n  rollbackd explain checkout\n  rollbackd explain checkout --deployment 12   # numbers are in `rollbackd history`"
    )]
    Explain(explain::Arguments),
    /// Tell the daemon of a deployment: when it started, or what it carries.
    #[command(
        after_help = "Deployments are noticed without this; it adds what can't be seen. It states a fact and changes nothing that runs, so it never asks.\n\nExamples:\n  rollbackd deployed checkout --change irreversible-migration\n  rollbackd deployed checkout --started 5m\n  rollbackd deployed checkout --started 2026-11-21T03:04:05Z"
    )]
    Deployed(deployed::Arguments),
    /// Go back to the last known good version, or to one of your choice.
    #[command(
        after_help = "Shows the plan and its warnings, asks, and waits until the service has recovered. It passes holds, rate limits and the brake: a person decides.\n\nExamples:\n  rollbackd rollback checkout\n  rollbackd rollback checkout --to shop:v1 --reason 'wrong prices'\n  rollbackd rollback checkout --to '#12' --yes --no-wait   # what deployment 12 brought\n  rollbackd rollback checkout --dry-run"
    )]
    Rollback(rollback::Arguments),
    /// Say that something is wrong with what runs, or that it no longer is.
    #[command(
        after_help = "Your word is taken as it is: the matrix says what follows, at once, also hours after the deployment. Exit code 3: it is recorded, but a guard stands in the way of the rollback.\n\nExamples:\n  rollbackd declare checkout data_corruption --reason 'orders lose their totals'\n  rollbackd declare checkout feature_broken --reason 'vouchers are refused' --dry-run\n  rollbackd declare checkout data_corruption --resolved"
    )]
    Declare(declare::Arguments),
    /// Go back, after you were asked.
    #[command(
        after_help = "What is asked stands in `rollbackd status`, with the time until which it waits for an answer.\n\nExamples:\n  rollbackd approve checkout --reason 'vouchers are refused'\n  rollbackd approve checkout --dry-run"
    )]
    Approve(answer::Arguments),
    /// Let it stay, after you were asked. What is worse is still acted on.
    #[command(after_help = "Example:\n  rollbackd reject checkout --reason 'a fix is on its way'")]
    Reject(answer::Arguments),
    /// Pause automatic rollbacks. Watching and notices go on.
    #[command(
        after_help = "Examples:\n  rollbackd hold checkout --for 2h --reason 'load test'\n  rollbackd hold --all --reason 'data centre move'"
    )]
    Hold(hold::HoldArguments),
    /// Allow automatic rollbacks again. `--all` releases the fleet brake, too.
    #[command(after_help = "Examples:\n  rollbackd resume checkout\n  rollbackd resume --all")]
    Resume(hold::ResumeArguments),
    /// Mark a version as known good: rollbacks may go to it.
    #[command(after_help = "Example:\n  rollbackd mark-good checkout shop:v1 --reason 'ran well for a week before rollbackd came'")]
    MarkGood(mark::Arguments),
    /// Mark a version as known bad: no rollback goes to it.
    #[command(after_help = "Example:\n  rollbackd mark-bad checkout shop:v2 --reason 'loses orders'")]
    MarkBad(mark::Arguments),
}

/// Parses the arguments, does what they say, and returns the exit code. Nothing of this panics when stdout or stderr is closed.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let Arguments { common, command } = match Arguments::try_parse_from(&arguments) {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error, &arguments).code(),
    };
    let screen = Screen::new(common.output, common.color, common.verbose);
    let exit = dispatch(&common, &screen, command).unwrap_or_else(|stop| {
        screen.stop(&stop);
        stop.exit()
    });
    exit.code()
}

/// Shows the help that was asked for, or what is wrong with the arguments; to programs as every error.
fn misused(error: &clap::Error, arguments: &[OsString]) -> Exit {
    if !error.use_stderr() {
        let _ = error.print();
        return Exit::Done;
    }
    // Nothing is parsed, so this is as good as it is known.
    let wants_json = arguments.windows(2).any(|pair| pair == ["--output", "json"]) || arguments.iter().any(|one| one == "--output=json");
    if wants_json {
        let words = error.to_string();
        let stop = Stop::Usage(words.trim_start_matches("error: ").trim_end().to_owned());
        Screen::new(Output::Json, Color::Never, false).stop(&stop);
    } else {
        let _ = error.print();
    }
    Exit::Usage
}

/// What systemd or a person says of the world outside the configuration.
fn environment() -> Environment {
    // Each variable may hold several paths, the first is ours.
    let first = |name| std::env::var_os(name).and_then(|paths| std::env::split_paths(&paths).next());
    Environment {
        state_directory: first("STATE_DIRECTORY"),
        runtime_directory: first("RUNTIME_DIRECTORY"),
        credentials_directory: first("CREDENTIALS_DIRECTORY"),
        without_secrets: false,
    }
}

fn dispatch(common: &Common, screen: &Screen, command: Command) -> Result<Exit, Stop> {
    let client = || Client::new(common.socket.as_deref().unwrap_or(Path::new(SOCKET)), screen);
    match command {
        Command::Run(arguments) => run::run(&arguments, common, screen),
        Command::Check(arguments) => check::run(&arguments, &common.config, screen),
        Command::Test(arguments) => test::run(&arguments, screen),
        Command::Demo(arguments) => demo::run(&arguments, screen),
        Command::Replay(arguments) => replay::run(arguments, common, screen),
        Command::Status(arguments) => wait(status::run(arguments, &client()?, screen)),
        Command::History(arguments) => wait(history::run(arguments, &client()?, screen)),
        Command::Explain(arguments) => wait(explain::run(arguments, &client()?, screen)),
        Command::Deployed(arguments) => wait(deployed::run(arguments, &client()?, screen)),
        Command::Rollback(arguments) => wait(rollback::run(arguments, &client()?, screen)),
        Command::Declare(arguments) => wait(declare::run(arguments, &client()?, screen)),
        Command::Approve(arguments) => wait(answer::run(arguments, Choice::RollBack, &client()?, screen)),
        Command::Reject(arguments) => wait(answer::run(arguments, Choice::Keep, &client()?, screen)),
        Command::Hold(arguments) => wait(hold::hold(arguments, &client()?, screen)),
        Command::Resume(arguments) => wait(hold::resume(arguments, &client()?, screen)),
        Command::MarkGood(arguments) => wait(mark::run(arguments, rollbackd_core::entry::Mark::Good, &client()?, screen)),
        Command::MarkBad(arguments) => wait(mark::run(arguments, rollbackd_core::entry::Mark::Bad, &client()?, screen)),
    }
}

/// Runs a command that asks the daemon: one thread is enough.
fn wait<T>(command: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Stop::Failed(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(command)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_is_for_and_shows_an_example() {
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains(&format!("rollbackd {name}")), "{name}");
        }
    }
}
