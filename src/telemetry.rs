//! The daemon's own log: one line for each event on standard error, as text for people or as JSON for machines. Not the ledger: nothing is
//! ever read back from here.

use std::io::{self, IsTerminal as _, Write};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Time (RFC 3339, UTC), level, module, words and fields; in colour on a terminal, unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object: `timestamp` (RFC 3339, UTC), `level`, `target`, `message`, and every field beside them.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not in the language of `RUST_LOG`: `info`, `rollbackd=debug,kube=warn`.
    #[error("cannot understand the log filter {filter:?}")]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        #[source]
        source: ParseError,
    },
    /// This process logs already.
    #[error("cannot start the log a second time")]
    Begun(#[source] TryInitError),
}

/// Begins the log of this process. `filter` is in the language of `RUST_LOG`; what it doesn't speak of is logged from `info` on.
///
/// # Errors
/// When the filter can't be understood, or the process logs already.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    let wants_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let in_colour = io::stderr().is_terminal() && !wants_none;
    subscriber(format, filter, io::stderr, in_colour)?.try_init().map_err(TelemetryError::Begun)
}

fn subscriber<W>(format: Format, filter: &str, writer: W, in_colour: bool) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // A directive without a target stands for the rest, and a later one replaces an earlier one.
    let parsed = EnvFilter::builder()
        .parse(format!("{},{filter}", LevelFilter::INFO))
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let layer = tracing_subscriber::fmt::layer().with_writer(Lines { writer, in_colour }).with_ansi(in_colour);
    let layer = match format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    Ok(tracing_subscriber::registry().with(parsed).with(layer))
}

/// Keeps an event in one line, whatever a stranger's text in it holds: nobody can write a line that the daemon did not, or act on the
/// terminal that shows it. Of control characters only colour comes through, where the log itself is in colour.
struct Lines<W> {
    writer: W,
    in_colour: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Lines<W> {
    type Writer = Lines<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Lines { writer: self.writer.make_writer(), in_colour: self.in_colour }
    }
}

impl<W: Write> Write for Lines<W> {
    /// Takes a whole event at once, as tracing-subscriber hands it over.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        let mut line = String::with_capacity(event.len());
        for (at, character) in text.char_indices() {
            match character {
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                '\t' => line.push_str("\\t"),
                // Escaped as JSON would do it, so that a line of JSON stays one.
                other if other.is_control() && !(self.in_colour && begins_with_colour(&text[at..])) => {
                    line.extend(format!("\\u{:04x}", u32::from(other)).chars());
                }
                other => line.push(other),
            }
        }
        line.push_str(end);
        self.writer.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Whether a text begins with ESC `[` numbers `m`: Select Graphic Rendition (ECMA-48, 8.3.117).
fn begins_with_colour(text: &str) -> bool {
    let numbers = text.strip_prefix("\u{1b}[").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
    numbers.is_some_and(|rest| rest.starts_with('m'))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str, in_colour: bool, events: fn()) -> String {
        let page = Page::default();
        let writer = page.clone();
        tracing::subscriber::with_default(subscriber(format, filter, move || writer.clone(), in_colour).unwrap(), events);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_have_their_fields_beside_an_rfc_3339_time() {
        let log = logged(Format::Json, "info", true, || tracing::info!(service = "checkout", plan = 17, "rolled back"));
        let line: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"rolled back".into()));
        assert_eq!((&line["service"], &line["plan"]), (&"checkout".into(), &17.into()));
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }

    #[test]
    fn text_is_in_colour_only_where_it_is_wanted() {
        let event = || tracing::warn!(service = "checkout", "blind");
        let plain = logged(Format::Text, "info", false, event);
        assert!(plain.contains("WARN rollbackd::telemetry::tests: blind service=\"checkout\"\n"), "{plain}");
        assert!(!plain.contains('\u{1b}'));
        assert!(logged(Format::Text, "info", true, event).contains('\u{1b}'));
    }

    #[test]
    fn a_filter_that_speaks_of_others_leaves_the_rest_at_info() {
        let events = || {
            tracing::info!("told");
            tracing::debug!("not told");
        };
        for filter in ["kube=warn", ""] {
            let log = logged(Format::Text, filter, false, events);
            assert!(log.contains("told") && !log.contains("not told"), "{filter:?}: {log}");
        }
        assert!(logged(Format::Text, "rollbackd=debug", false, events).contains("not told"));
        assert!(!logged(Format::Text, "warn", false, events).contains("told"));
    }

    #[test]
    fn a_filter_that_is_none_is_refused_by_name() {
        let error = subscriber(Format::Text, "rollbackd=loudly", io::sink, false).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "cannot understand the log filter \"rollbackd=loudly\"");
    }

    #[test]
    fn a_strangers_text_stays_in_its_line_and_paints_nothing() {
        for (format, in_colour) in [(Format::Text, false), (Format::Text, true), (Format::Json, false)] {
            let log = logged(format, "info", in_colour, || {
                let answer = "v2\r\n2026-11-21T03:12:45Z  INFO all is well\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}2J";
                tracing::info!(%answer, "got {answer}");
            });
            assert_eq!(log.lines().count(), 1, "{log}");
            assert!(log.contains("v2\\r\\n2026"), "{log:?}");
            for act in ["\u{1b}[2J", "\u{1b}]", "\u{7}", "\u{9b}"] {
                assert!(!log.contains(act), "{log:?}");
            }
            assert!(format == Format::Text || serde_json::from_str::<serde_json::Value>(&log).is_ok(), "{log:?}");
        }
    }
}
