//! The log: structured lines on stderr, as text for people (coloured on a terminal only) or as JSON for programs.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people and the journal.
    #[default]
    Text,
    /// One JSON object a line, its fields at the top level, times in RFC 3339.
    Json,
}

/// Begins to log for the whole process. A second call changes nothing.
///
/// # Errors
/// When `filter` is not a filter: a level, or levels by module, as in `info,rollbackd::executor=debug`.
pub fn init(format: Format, filter: &str) -> Result<(), ParseError> {
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(filter)?).with_writer(std::io::stderr);
    // A second logger is a fault of the caller that costs nothing: the first one stays.
    let _ = match format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    Ok(())
}
