//! What is wrong with a configuration, each with its place, and how it is drawn. Not what is checked: that stands with each table.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Origin, Renderer, Snippet};
use serde::Serialize;

/// How bad a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The configuration is refused.
    Error,
    /// The configuration is taken, but is probably not what was meant.
    Warning,
}

/// One thing that is wrong. Never holds a secret: what looks like one is drawn as asterisks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub level: Level,
    /// What is wrong, in one line.
    pub message: String,
    /// Where; none when the file as a whole is meant.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// A few words that stand beside the marked text.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The line; the first is 1.
    pub line: usize,
    /// The column in characters; the first is 1.
    pub column: usize,
    /// The line itself; none when it is too long to be drawn.
    pub source: Option<String>,
    /// Which bytes of `source` are meant.
    #[serde(skip)]
    pub marked: Range<usize>,
}

/// Everything that is wrong with one file, in order of place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// The file, as it was named.
    pub file: String,
    /// What is wrong. At most [`Self::LIMIT`].
    pub diagnostics: Vec<Diagnostic>,
    /// How many more there are.
    pub omitted: usize,
}

impl Diagnostics {
    /// So many are kept of one file; nobody reads more.
    pub const LIMIT: usize = 100;

    /// One error about the file as a whole.
    pub(super) fn of_file(file: &str, message: String, help: Option<&str>) -> Self {
        let diagnostic = Diagnostic { level: Level::Error, message, place: None, label: None, help: help.map(str::to_owned) };
        Self { file: file.to_owned(), diagnostics: vec![diagnostic], omitted: 0 }
    }

    /// How many of them are of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.level == level).count()
    }

    /// Nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// How many there are, in a line: `rollbackd.toml: 2 errors, 1 warning`.
    #[must_use]
    pub fn summary(&self) -> String {
        summary(self)
    }

    /// Logs each as an event of its own, with its place and its remedy as fields.
    pub fn log(&self) {
        for Diagnostic { level, message, place, help, .. } in &self.diagnostics {
            let (line, column) = (place.as_ref().map(|place| place.line), place.as_ref().map(|place| place.column));
            let (file, help) = (self.file.as_str(), help.as_deref());
            match level {
                Level::Error => tracing::error!(file, line, column, help, "{message}"),
                Level::Warning => tracing::warn!(file, line, column, help, "{message}"),
            }
        }
    }

    /// As JSON: `{"file", "diagnostics": [{"level", "message", "line", "column", "source", "label", "help"}], "omitted"}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&render(self, false))
    }
}

impl std::error::Error for Diagnostics {}

/// Draws diagnostics as text: each with its line of the file, and a summary as the last line. Empty when there are none.
#[must_use]
pub fn render(diagnostics: &Diagnostics, colour: bool) -> String {
    if diagnostics.is_empty() {
        return String::new();
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in &diagnostics.diagnostics {
        text.push_str(&renderer.render(&[group(&diagnostics.file, diagnostic)]));
        text.push_str("\n\n");
    }
    text.push_str(&summary(diagnostics));
    text.push('\n');
    text
}

fn group<'a>(file: &'a str, diagnostic: &'a Diagnostic) -> Group<'a> {
    let level = match diagnostic.level {
        Level::Error => annotate_snippets::Level::ERROR,
        Level::Warning => annotate_snippets::Level::WARNING,
    };
    let group = level.primary_title(diagnostic.message.as_str()).elements(diagnostic.place.is_none().then(|| Origin::path(file)));
    let group = match &diagnostic.place {
        None => group,
        Some(Place { line, source: Some(source), marked, .. }) => {
            let annotation = AnnotationKind::Primary.span(marked.clone()).label(diagnostic.label.as_deref());
            group.element(Snippet::source(source.as_str()).line_start(*line).path(file).annotation(annotation))
        }
        Some(Place { line, column, .. }) => group.element(Origin::path(file).line(*line).char_column(*column)),
    };
    group.elements(diagnostic.help.as_deref().map(|help| annotate_snippets::Level::HELP.message(help)))
}

fn summary(diagnostics: &Diagnostics) -> String {
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let mut parts = Vec::new();
    for (level, noun) in [(Level::Error, "error"), (Level::Warning, "warning")] {
        let number = diagnostics.count(level);
        if number > 0 {
            parts.push(count(number, noun));
        }
    }
    if diagnostics.omitted > 0 {
        parts.push(format!("{} more not shown", diagnostics.omitted));
    }
    format!("{}: {}", diagnostics.file, parts.join(", "))
}
