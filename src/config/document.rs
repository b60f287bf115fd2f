//! One configuration file while it is read: its text, what was found wrong so far, and what must not be drawn. Not the tables themselves:
//! see `reader`.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Environment;
use super::diagnostic::{Diagnostic, Diagnostics, Level, Place};

/// One configuration file while it is read.
pub(super) struct Document<'a> {
    file: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
    /// What stands outside the file.
    pub environment: &'a Environment,
    problems: RefCell<Vec<Problem>>,
    concealed: RefCell<Vec<Range<usize>>>,
    /// Errors of the syntax that were not even looked at.
    unread: Cell<usize>,
    misspelt: RefCell<Vec<Misspelt>>,
}

/// A key that is none, and the one that it was meant to be.
struct Misspelt {
    key: Range<usize>,
    meant: &'static str,
}

/// Something wrong, at bytes of the text.
pub(super) struct Problem {
    level: Level,
    span: Range<usize>,
    message: String,
    label: Option<String>,
    help: Option<String>,
    /// It says that something is not there; in a file with broken syntax that may be the syntax's fault.
    absence: bool,
    /// It is about the file, not about a place in it.
    whole: bool,
    /// It stays when the tables are read again with this key corrected.
    stays: bool,
}

impl Problem {
    /// The configuration can't be taken.
    pub fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { level: Level::Error, span, message: message.into(), label: None, help: None, absence: false, whole: false, stays: false }
    }

    /// The configuration is probably not what was meant.
    pub fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(span, message) }
    }

    /// Something is not there that has to be.
    pub fn absence(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { absence: true, ..Self::error(span, message) }
    }

    /// Something is not there that should be.
    pub fn lack(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::absence(span, message) }
    }

    /// Is about the file, not about a place in it.
    pub fn of_the_file(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Says what to do about it.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl<'a> Document<'a> {
    /// A longer line is not drawn: nobody finds anything in it. In bytes.
    const LONGEST_LINE: usize = 1000;

    pub fn new(file: &'a str, text: &'a str, environment: &'a Environment) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Self {
            file,
            text,
            line_starts,
            environment,
            problems: RefCell::default(),
            concealed: RefCell::default(),
            unread: Cell::new(0),
            misspelt: RefCell::default(),
        }
    }

    /// Notes that something is wrong.
    pub fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The same, unless the very same was noted already: a setting of all services is wrong for each of them, but in one place.
    pub fn report_once(&self, problem: Problem) {
        let is_known = self.problems.borrow().iter().any(|known| known.span == problem.span && known.message == problem.message);
        if !is_known {
            self.report(problem);
        }
    }

    /// Notes that a key is none, but was meant to be one that is not there.
    pub fn report_misspelt(&self, problem: Problem, key: Range<usize>, meant: &'static str) {
        self.report(Problem { stays: true, ..problem });
        self.misspelt.borrow_mut().push(Misspelt { key, meant });
    }

    /// Calls the misspelt keys what they were meant to be, so that what stands under them can be read, too. `true` when there were any; then
    /// all that was found in the tables is forgotten but that these keys are none. `kept` is how many problems there were before.
    pub fn correct(&self, root: &mut DeTable<'_>, kept: usize) -> bool {
        let misspelt = self.misspelt.take();
        if misspelt.is_empty() {
            return false;
        }
        rename(root, &misspelt);
        let mut position = 0;
        self.problems.borrow_mut().retain(|problem| {
            position += 1;
            position <= kept || problem.stays
        });
        true
    }

    /// Keeps a stretch of the text from being drawn.
    pub fn conceal(&self, span: Range<usize>) {
        self.concealed.borrow_mut().push(span);
    }

    /// The line of a place, to be named in a message; the first is 1.
    pub fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset)
    }

    /// A path as it is meant: relative ones begin at the directory of the file.
    pub fn resolve(&self, path: &str) -> PathBuf {
        Path::new(self.file).parent().map_or_else(|| PathBuf::from(path), |directory| directory.join(path))
    }

    /// Takes in the parser's errors; `true` when the tables that it recovered are still worth reading.
    pub fn report_syntax(&self, errors: &[toml::de::Error]) -> bool {
        for error in errors.iter().take(Diagnostics::LIMIT) {
            let (message, expected) = match error.message().split_once(", expected ") {
                Some((message, expected)) => (message, Some(format!("expected {expected}"))),
                None => (error.message(), None),
            };
            let mut problem = Problem::error(error.span().unwrap_or(0..0), message);
            problem.label = expected.filter(|_| !message.starts_with("string values") && !message.starts_with("invalid boolean"));
            problem.help = syntax_help(message).map(str::to_owned);
            self.report(problem);
        }
        self.unread.set(errors.len().saturating_sub(Diagnostics::LIMIT));
        let harmless = errors.iter().all(|error| is_harmless(error.message()));
        if !harmless {
            self.conceal_paths();
        }
        harmless
    }

    /// Leaves out what may only be wrong because the syntax is: what stands on the line of a syntax error, and what is missing where a
    /// second table of the same name was dropped. `syntax_errors` is how many problems there were before the tables were read.
    pub fn forget_consequences(&self, syntax_errors: usize) {
        let mut problems = self.problems.borrow_mut();
        let dropped = problems.iter().take(syntax_errors).any(|problem| problem.message == DUPLICATE);
        let lines: Vec<usize> = problems.iter().take(syntax_errors).map(|problem| self.line(problem.span.start)).collect();
        let mut position = 0;
        problems.retain(|problem| {
            position += 1;
            position <= syntax_errors || !(problem.absence && dropped || lines.contains(&self.line(problem.span.start)))
        });
    }

    /// How many problems there are.
    pub fn problems(&self) -> usize {
        self.problems.borrow().len()
    }

    /// Keeps every value from being drawn whose key sounds like a secret, and every password inside an address.
    pub fn conceal_secrets(&self, root: &DeTable<'_>) {
        let mut tables = vec![root];
        while let Some(table) = tables.pop() {
            for (key, value) in table {
                match value.get_ref() {
                    DeValue::Table(inner) => tables.push(inner),
                    _ if sounds_secret(key.get_ref()) => self.conceal(value.span()),
                    _ => {}
                }
            }
        }
        let mut offset = 0;
        for line in self.text.split_inclusive('\n') {
            for span in secrets_in_line(line) {
                self.conceal(offset + span.start..offset + span.end);
            }
            offset += line.len();
        }
    }

    /// From the third slash to the end: the path of an address, as far as it can be told from one that may be wrong.
    pub fn path_of_address(&self, span: Range<usize>) -> Range<usize> {
        let from = self.text[span.clone()].match_indices('/').nth(2).map_or(span.end, |(slash, _)| span.start + slash);
        from..span.end
    }

    /// Keeps the paths of all addresses from being drawn, in a file whose tables can't tell which of them are secret.
    fn conceal_paths(&self) {
        for (scheme, _) in self.text.match_indices("://") {
            let rest = &self.text[scheme + 3..];
            let end = scheme + 3 + rest.find(|end: char| end.is_whitespace() || matches!(end, '"' | '\'')).unwrap_or(rest.len());
            self.conceal(self.path_of_address(scheme..end));
        }
    }

    /// What was found wrong, in order of place.
    pub fn into_diagnostics(self) -> Diagnostics {
        let text = conceal(self.text, self.concealed.into_inner());
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.span.start);
        let omitted = problems.len().saturating_sub(Diagnostics::LIMIT);
        // Errors first choose their places, so that a hundred warnings can't hide one.
        if omitted > 0 {
            problems.sort_by_key(|problem| problem.level != Level::Error);
            problems.truncate(Diagnostics::LIMIT);
            problems.sort_by_key(|problem| problem.span.start);
        }
        let diagnostics = problems.into_iter().map(|problem| place(&text, &self.line_starts, problem)).collect();
        Diagnostics { file: self.file.to_owned(), diagnostics, omitted: omitted + self.unread.get() }
    }
}

fn rename(table: &mut DeTable<'_>, misspelt: &[Misspelt]) {
    let named: Vec<_> =
        table.keys().filter_map(|key| Some((key.clone(), misspelt.iter().find(|wrong| wrong.key == key.span())?))).collect();
    for (key, wrong) in named {
        if !table.contains_key(wrong.meant)
            && let Some(value) = table.remove(&key)
        {
            table.insert(Spanned::new(key.span(), wrong.meant.into()), value);
        }
    }
    for (_, value) in table {
        match value.get_mut() {
            DeValue::Table(inner) => rename(inner, misspelt),
            DeValue::Array(list) => {
                for element in list.iter_mut() {
                    if let DeValue::Table(inner) = element.get_mut() {
                        rename(inner, misspelt);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The parser's word for a key or a table that is defined twice; it keeps one of the two.
const DUPLICATE: &str = "duplicate key";

/// Whether the parser's recovery after this error leaves everything else where it was. Unknown errors count as harmful: reading on would
/// tell of faults that aren't there.
fn is_harmless(message: &str) -> bool {
    ["string values must be quoted", "invalid boolean", DUPLICATE].iter().any(|known| message.starts_with(known))
}

fn syntax_help(message: &str) -> Option<&'static str> {
    [
        ("string values must be quoted", "put the value in double quotes"),
        ("invalid boolean", "write `true` or `false`, without quotes"),
        (DUPLICATE, "the same name is defined further up: remove one of the two, or rename it"),
        ("cannot recurse", "nothing in a configuration needs to be nested so deeply"),
        ("recursion limit", "nothing in a configuration needs to be nested so deeply"),
    ]
    .iter()
    .find(|(known, _)| message.starts_with(known))
    .map(|(_, help)| *help)
}

/// The same text with asterisks in place of what must not be drawn, byte for byte, so that every place stays where it is.
fn conceal(text: &str, spans: Vec<Range<usize>>) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        for byte in bytes.get_mut(span).unwrap_or_default() {
            if !matches!(byte, b'\n' | b'\r' | b'"' | b'\'') {
                *byte = b'*';
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).replace(char::REPLACEMENT_CHARACTER, "*"))
}

fn place(text: &str, line_starts: &[usize], problem: Problem) -> Diagnostic {
    let offset = text.floor_char_boundary(problem.span.start);
    let index = line_starts.partition_point(|&start| start <= offset).saturating_sub(1);
    let start = line_starts[index];
    let line = text[start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
    let from = line.floor_char_boundary(offset - start);
    let to = line.ceil_char_boundary(problem.span.end.saturating_sub(start).max(from));
    let place = Place {
        line: index + 1,
        column: 1 + line[..from].chars().count(),
        source: (line.len() <= Document::LONGEST_LINE).then(|| line.to_owned()),
        marked: from..to,
    };
    let place = (!problem.whole).then_some(place);
    Diagnostic { level: problem.level, message: problem.message, place, label: problem.label, help: problem.help }
}

/// Whether the value of a key is a secret, by the sound of the key.
pub(super) fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let words =
        ["password", "passwd", "passphrase", "secret", "token", "bearer", "authorization", "api_key", "apikey", "credential", "cookie"];
    let points_elsewhere = key.ends_with("_file") || key.ends_with("_credential") || key == "credential";
    !points_elsewhere && (words.iter().any(|word| key.contains(word)) || strsim::damerau_levenshtein(&key, "password") <= 2)
}

/// The secrets of one line, by its letters alone, since the line may be no TOML: `password = …`, `://user:…@`.
fn secrets_in_line(line: &str) -> Vec<Range<usize>> {
    let is_key = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '-';
    let mut spans = Vec::new();
    for (equals, _) in line.match_indices('=') {
        let before = line[..equals].trim_end().trim_end_matches(['"', '\'']);
        let key = &before[before.rfind(|character| !is_key(character)).map_or(0, |at| at + last_width(before, at))..];
        if sounds_secret(key) {
            spans.push(value_in_line(line, equals + 1));
        }
    }
    for (slashes, _) in line.match_indices("//") {
        let authority = slashes + 2;
        let end = authority + line[authority..].find(['/', '"', '\'', ' ', '?']).unwrap_or(line.len() - authority);
        if let Some(at) = line[authority..end].rfind('@') {
            let colon = line[authority..authority + at].find(':').map_or(0, |colon| colon + 1);
            spans.push(authority + colon..authority + at);
        }
    }
    spans
}

fn last_width(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(0, char::len_utf8)
}

/// From after the equals sign to the closing quote, or to the end of the line where there is none.
fn value_in_line(line: &str, from: usize) -> Range<usize> {
    let start = from + (line[from..].len() - line[from..].trim_start().len());
    let quote = line[start..].chars().next().filter(|first| matches!(first, '"' | '\''));
    let end = quote.and_then(|quote| line[start + 1..].find(quote)).map_or(line.len(), |length| start + 1 + length);
    start..end
}
