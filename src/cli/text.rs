//! The screen: data on stdout, messages on stderr, colour only where it belongs, and nothing that speaks to the terminal behind a person's
//! back. Texts are made with colour and it is taken away where it is not wanted.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Table, presets};
use jiff::{SignedDuration, Timestamp};
use rollbackd_core::lifecycle::Status;
use rollbackd_core::outlook::Outlook;
use rollbackd_core::verdict::{Finding, FindingState, Gate, Numbers};
use rollbackd_core::view::{FindingView, HoldView};
use rollbackd_core::words;
use serde::Serialize;
use serde_json::Value;

use super::{Color, Exit, Output, Stop};

/// Where answers and messages go.
pub struct Screen {
    output: Output,
    color: ColorChoice,
    verbose: bool,
}

impl Screen {
    /// A screen as the arguments want it.
    pub fn new(output: Output, color: Color, verbose: bool) -> Self {
        let color = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Self { output, color, verbose }
    }

    /// Whether a program reads the answer.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Whether more is to be said.
    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether messages are coloured, for what others have made up already.
    pub fn is_colored(&self) -> bool {
        self.messages().current_choice() != ColorChoice::Never
    }

    /// The answer: data as it is, or as text.
    pub fn show<T: Serialize>(&self, data: &T, text: impl FnOnce() -> String) -> Result<Exit, Stop> {
        let shown = match self.output {
            Output::Json => json(data)?,
            Output::Text => text(),
        };
        match self.print(&shown) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Stop::Failed(format!("cannot print the answer: {error}"))),
            // Whoever reads has read enough.
            Ok(()) | Err(_) => Ok(Exit::Done),
        }
    }

    fn print(&self, shown: &str) -> io::Result<()> {
        let mut stdout = AutoStream::new(io::stdout(), self.color).lock();
        stdout.write_all(shown.trim_end().as_bytes())?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }

    /// Where messages go.
    pub fn messages(&self) -> AutoStream<io::Stderr> {
        AutoStream::new(io::stderr(), self.color)
    }

    /// A message.
    pub fn tell(&self, words: &str) {
        let _ = writeln!(self.messages(), "{words}");
    }

    /// A message that must not be missed.
    pub fn warn(&self, words: &str) {
        let _ = writeln!(self.messages(), "{} {words}", paint(AnsiColor::Yellow.on_default().bold(), "warning:"));
    }

    /// Why a command stopped.
    pub fn stop(&self, stop: &Stop) {
        if self.is_json() {
            let _ = json(&stop.json()).map(|json| self.print(&json));
        } else {
            let label = if matches!(stop, Stop::Refused { .. }) { "" } else { "error: " };
            let _ = writeln!(self.messages(), "{}{stop}", paint(AnsiColor::Red.on_default().bold(), label));
        }
    }
}

/// JSON that is safe to look at: what JSON itself leaves as it is and a terminal might obey or hide is escaped, too.
fn json<T: Serialize>(data: &T) -> Result<String, Stop> {
    let json = serde_json::to_string_pretty(data).map_err(|error| Stop::Failed(format!("cannot write JSON: {error}")))?;
    if !json.chars().any(|character| character != '\n' && is_hostile(character)) {
        return Ok(json);
    }
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && is_hostile(character) {
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    Ok(safe)
}

/// Makes every text in an answer one that says nothing to a terminal: versions, reasons and messages come from elsewhere.
pub fn neutralise(value: &mut Value) {
    match value {
        Value::String(text) if text.chars().any(is_hostile) => {
            *text = text.chars().fold(String::with_capacity(text.len()), |mut safe, character| {
                match character {
                    '\n' | '\t' => safe.push(' '),
                    character if is_hostile(character) => safe.extend(character.escape_unicode()),
                    character => safe.push(character),
                }
                safe
            });
        }
        Value::Array(values) => values.iter_mut().for_each(neutralise),
        Value::Object(fields) => fields.values_mut().for_each(neutralise),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Control characters, and invisible ones that reorder or hide what stands around them. All are in the Basic Multilingual Plane.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `text` in a style.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Whether somebody watches the messages as they come.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// A text that is put together line by line.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// A line.
    pub fn line(&mut self, line: impl Display) {
        self.0.push_str(&line.to_string());
        self.0.push('\n');
    }

    /// A line that is a label and what it says.
    pub fn fact(&mut self, label: &str, says: impl Display) {
        self.line(format_args!("  {} {says}", faint(format_args!("{label:<11}"))));
    }

    /// A block of lines.
    pub fn block(&mut self, block: &str) {
        self.0.push_str(block);
    }

    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text.
    pub fn text(self) -> String {
        self.0
    }
}

/// A heading.
pub fn heading(text: impl Display) -> String {
    paint(Style::new().bold(), text)
}

/// Something that is there to be found but not to be looked at first.
pub fn faint(text: impl Display) -> String {
    paint(Style::new().dimmed(), text)
}

/// Columns up to this width are never broken: names, times, states.
const SHORT: u16 = 24;

/// A table without lines; on a terminal it fits the width, elsewhere each row is one line.
pub fn table<const N: usize>(columns: [&str; N], rows: impl IntoIterator<Item = [Cell; N]>) -> String {
    table_within(Some(columns), rows, None)
}

/// The same with or without a header, at most so wide; as wide as the terminal unless said.
fn table_within<const N: usize>(columns: Option<[&str; N]>, rows: impl IntoIterator<Item = [Cell; N]>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).enforce_styling().style_text_only();
    if let Some(columns) = columns {
        table.set_header(columns.map(|name| Cell::new(name).add_attribute(comfy_table::Attribute::Bold)));
    }
    if let Some(width) = width {
        table.set_width(width);
    }
    table.add_rows(rows);
    let widths = table.column_max_content_widths();
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_padding((0, 2));
        if width <= SHORT {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    let mut page = Page::default();
    table.lines().for_each(|line| page.line(line.trim_end()));
    page.text()
}

/// A coloured cell.
pub fn cell(text: impl Display, color: Option<comfy_table::Color>) -> Cell {
    let cell = Cell::new(text);
    match color {
        Some(color) => cell.fg(color),
        None => cell,
    }
}

/// The colour of a status.
pub const fn status_color(status: Status) -> Option<comfy_table::Color> {
    match status {
        Status::Deploying | Status::Watching => Some(comfy_table::Color::DarkCyan),
        Status::Deployed => Some(comfy_table::Color::DarkGreen),
        Status::RolledBack => Some(comfy_table::Color::DarkYellow),
        Status::Superseded => None,
        Status::Failed => Some(comfy_table::Color::DarkRed),
    }
}

/// How long ago, in two units at most: `42s`, `5m 3s`, `3h 5m`, `4d 2h`.
pub fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    };
    if days > 0 {
        two(days, "d", hours % 24, "h")
    } else if hours > 0 {
        two(hours, "h", minutes % 60, "m")
    } else if minutes > 0 {
        two(minutes, "m", seconds % 60, "s")
    } else {
        format!("{seconds}s")
    }
}

/// `2026-11-21 03:04:05 UTC (5m ago)`, or `(in 5m)`.
pub fn when(at: Timestamp, now: Timestamp) -> String {
    let distance = now.duration_since(at);
    let relative = if distance.is_negative() { format!("in {}", short(-distance)) } else { format!("{} ago", short(distance)) };
    format!("{} ({relative})", words::time(at))
}

/// A pause in a line.
pub fn hold(hold: &HoldView, now: Timestamp) -> String {
    let end = hold.until.map_or_else(|| "until somebody resumes".to_owned(), |until| format!("until {}", when(until, now)));
    format!("by {} since {}, {end}: {}", hold.by, when(hold.since, now), hold.reason)
}

/// What the checks say, a row each, and what would change that, a sentence each.
pub fn findings(findings: &[FindingView]) -> String {
    findings_within(findings, None)
}

/// The same, at most so wide; as wide as the terminal unless said.
pub(super) fn findings_within(findings: &[FindingView], width: Option<u16>) -> String {
    let columns = ["CHECK", "SAYS", "BEFORE", "TOLERATED", "NOW", "SINCE", "ODDS", "WAITS FOR"];
    let mut page = Page::default();
    page.block(&table_within(Some(columns), findings.iter().map(row_of_check), width));
    page.line(format_args!("\n{}", heading("What it means, and what would change it")));
    page.block(&table_within(None, rows_of_words(findings), width));
    page.text()
}

/// A check in a row.
fn row_of_check(view: &FindingView) -> [Cell; 8] {
    let finding = &view.finding;
    let dash = || "-".to_owned();
    let numbers = finding.numbers.as_ref();
    let level = |level: fn(&Numbers) -> Option<f64>| {
        numbers.and_then(|numbers| level(numbers).map(|level| words::measured(level, numbers.measure))).unwrap_or_else(dash)
    };
    let against = numbers.filter(|_| matches!(finding.state, FindingState::Failing(_)) || words::is_suspect(finding));
    let since = against
        .filter(|numbers| numbers.log_evidence > 0.0)
        .and_then(|numbers| numbers.onset)
        .map_or_else(dash, |onset| onset.strftime("%H:%M:%S").to_string());
    let is_shared = view.judged.as_ref().is_some_and(|judged| matches!(judged.outlook, Outlook::WorseThanOthers { .. }));
    let waits_for = match &finding.state {
        FindingState::Inconclusive(why) => words::lacks(why),
        FindingState::Passing if is_shared && against.is_some() => words::gate(Gate::Attribution).to_owned(),
        FindingState::Passing | FindingState::Failing(_) => {
            against.and_then(|numbers| numbers.waits_for).map_or_else(dash, |gate| words::gate(gate).to_owned())
        }
    };
    [
        Cell::new(words::check(finding)),
        cell(words::standing(finding), Some(color_of(finding))),
        Cell::new(level(|numbers| Some(numbers.before))),
        Cell::new(level(|numbers| Some(numbers.tolerance))),
        Cell::new(level(|numbers| numbers.now)),
        Cell::new(since),
        Cell::new(numbers.map_or_else(dash, |numbers| words::odds(numbers.log_evidence))),
        Cell::new(waits_for),
    ]
}

/// What the checks mean, in sentences. Checks next to each other that say the same share their sentences.
fn rows_of_words(findings: &[FindingView]) -> Vec<[Cell; 2]> {
    let mut rows = Vec::new();
    for alike in findings.chunk_by(|one, next| sentences(one) == sentences(next)) {
        let said = sentences(&alike[0]);
        for line in 0..alike.len().max(said.len()) {
            let name =
                alike.get(line).map_or_else(|| Cell::new(""), |view| cell(words::check(&view.finding), Some(color_of(&view.finding))));
            rows.push([name, Cell::new(said.get(line).map(String::as_str).unwrap_or_default())]);
        }
    }
    rows
}

/// What a check says and how sure that is, unless it is well; and what would change that.
fn sentences(view: &FindingView) -> Vec<String> {
    let finding = &view.finding;
    let is_well = finding.state == FindingState::Passing && !words::is_suspect(finding);
    let weight = view.judged.as_ref().and_then(|judged| judged.evidence.as_ref()).map(|evidence| evidence.weight.as_str());
    let says = match (&finding.state, weight) {
        (FindingState::Inconclusive(_), _) | (_, None) => view.words.as_str(),
        (FindingState::Passing | FindingState::Failing(_), Some(weight)) => weight,
    };
    let changes = view.judged.as_ref().map(|judged| judged.changes.as_str()).or(view.waits_for.as_deref());
    Some(says).filter(|_| !is_well || changes.is_none()).into_iter().chain(changes).map(words::sentence).collect()
}

fn color_of(finding: &Finding) -> comfy_table::Color {
    match finding.state {
        FindingState::Passing if !words::is_suspect(finding) => comfy_table::Color::DarkGreen,
        FindingState::Passing | FindingState::Inconclusive(_) => comfy_table::Color::DarkYellow,
        FindingState::Failing(_) => comfy_table::Color::DarkRed,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    #[test]
    fn a_name_from_elsewhere_says_nothing_to_the_terminal() {
        let mut answer = value!({ "name": "v2\u{1b}[2J\u{9b}31m\u{202e}\r\nx", "list": ["\u{7}", 1, null], "plain": "shop:v2 größer" });
        neutralise(&mut answer);
        assert_eq!(answer["name"], "v2\\u{1b}[2J\\u{9b}31m\\u{202e}\\u{d} x");
        assert_eq!(answer["list"], value!(["\\u{7}", 1, null]));
        assert_eq!(answer["plain"], "shop:v2 größer");
    }

    #[test]
    fn json_is_safe_to_look_at_and_still_says_the_same() {
        let data = value!({ "name": "v2\u{1b}[2J\u{9b}31m\u{202e}\u{7f}", "plain": "größer" });
        let json = json(&data).unwrap();
        assert!(!json.chars().any(|character| character != '\n' && is_hostile(character)), "{json:?}");
        assert!(json.contains("größer"));
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), data);
    }

    #[test]
    fn lengths_are_said_in_two_units_at_most() {
        for (seconds, expected) in [(-3, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (303, "5m 3s"), (11_100, "3h 5m"), (352_800, "4d 2h")] {
            assert_eq!(short(SignedDuration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_moment_is_said_twice() {
        let now: Timestamp = "2026-11-21T03:10:00Z".parse().unwrap();
        assert_eq!(when("2026-11-21T03:05:00Z".parse().unwrap(), now), "2026-11-21 03:05:00 UTC (5m ago)");
        assert_eq!(when("2026-11-21T04:10:00Z".parse().unwrap(), now), "2026-11-21 04:10:00 UTC (in 1h)");
    }
}
