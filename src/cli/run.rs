//! `run`: the daemon in the foreground.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::{Exit, Stop};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The form of the log, on stderr.
    #[arg(long, value_enum, default_value_t, env = "ROLLBACKD_LOG_FORMAT")]
    log_format: LogFormat,
    /// What is logged: a level, or levels by module, as in `info,rollbackd::executor=debug`. Default `info`; `debug` with `-v`.
    #[arg(long, value_name = "FILTER", env = "ROLLBACKD_LOG")]
    log: Option<String>,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people and the journal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What the daemon is run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// The configuration.
    pub config_path: PathBuf,
    /// The form of the log.
    pub log_format: LogFormat,
    /// What is logged, as `tracing_subscriber::EnvFilter` reads it.
    pub log_filter: String,
}

/// Runs until it is told to end.
pub fn run(arguments: &Arguments, config_path: &Path, verbose: bool) -> Result<Exit, Stop> {
    let default = if verbose { "debug" } else { "info" };
    let options = RunOptions {
        config_path: config_path.to_owned(),
        log_format: arguments.log_format,
        log_filter: arguments.log.clone().unwrap_or_else(|| default.to_owned()),
    };
    daemon(&options).map(|()| Exit::Done)
}

/// The daemon itself: a configuration with errors is `Stop::Usage`, everything else that ends it is `Stop::Failed`.
fn daemon(options: &RunOptions) -> Result<(), Stop> {
    Err(Stop::Failed(format!("cannot run with {}: not built in yet", options.config_path.display())))
}
