//! `run`: the daemon in the foreground.

use std::time::Duration;

use clap::ValueEnum;

use super::text::Screen;
use super::{Common, Exit, Stop};
use crate::telemetry::{self, Format};
use crate::{app, config};

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

/// How long tasks may take to be cut off: what they have started is killed only when they are dropped. What is cut off is carried on at the
/// next start.
const CUT_OFF: Duration = Duration::from_secs(1);

/// Runs until it is told to end.
pub(super) fn run(arguments: &Arguments, common: &Common, screen: &Screen) -> Result<Exit, Stop> {
    let path = &common.config;
    let level = if common.verbose { "debug" } else { "info" };
    // Migrations are told of by ourselves, and kube prints whole objects, with whatever their environment holds, when it can't read one.
    let default = format!("{level},refinery_core=warn,kube_client=error");
    let filter = arguments.log.as_deref().unwrap_or(&default);
    let format = match arguments.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    telemetry::init(format, filter).map_err(|error| Stop::Usage(format!("{filter:?} is not a log filter: {error}")))?;
    let environment = super::environment();
    let mut config = config::load(path, &environment).map_err(|invalid| {
        Stop::Usage(format!(
            "the configuration is wrong, nothing is started:\n\n{}",
            config::render(&invalid, screen.is_colored()).trim_end()
        ))
    })?;
    if !config.warnings.is_empty() {
        screen.tell(config::render(&config.warnings, screen.is_colored()).trim_end());
    }
    if let Some(socket) = &common.socket {
        config.daemon.socket.clone_from(socket);
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Stop::Failed(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(app::run(path.to_owned(), config, environment));
    runtime.shutdown_timeout(CUT_OFF);
    ended.map(|()| Exit::Done).map_err(|error| Stop::Failed(format!("{error:#}")))
}
