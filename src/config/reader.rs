//! Typed reading of tables that keeps every place and stops at nothing: each getter reports what is wrong and gives `None`. It knows
//! TOML, durations and ranges; what a key means stands with each table.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use jiff::SignedDuration;
use rollbackd_core::service::ServiceName;
use toml::de::{DeArray, DeTable, DeValue};

use super::document::{Document, Problem};

/// A table while it is read. `finish` it: what was not asked for until then is an unknown key.
pub(super) struct Table<'a> {
    pub document: &'a Document<'a>,
    /// Its place: the last part of its name.
    pub span: Range<usize>,
    /// Its name from the root; empty for the root.
    pub path: String,
    entries: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
    /// What lacks: the keys of which one would do, and what is said unless an unknown key was meant to be one of them.
    lacking: RefCell<Vec<(Vec<&'static str>, Problem)>>,
    is_read: Cell<bool>,
}

/// A table that is dropped half read would hide whatever else is wrong with it.
impl Drop for Table<'_> {
    fn drop(&mut self) {
        debug_assert!(self.is_read.get() || std::thread::panicking(), "`{}` was not read to its end", self.path);
    }
}

/// A value while it is read.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub document: &'a Document<'a>,
    /// Its place.
    pub span: Range<usize>,
    /// Its name from the root.
    pub path: String,
    key_span: Range<usize>,
    content: &'a DeValue<'a>,
}

impl<'a> Table<'a> {
    pub fn root(document: &'a Document<'a>, entries: &'a DeTable<'a>) -> Self {
        Self::new(document, 0..0, String::new(), entries)
    }

    fn new(document: &'a Document<'a>, span: Range<usize>, path: String, entries: &'a DeTable<'a>) -> Self {
        Self { document, span, path, entries, known: RefCell::default(), lacking: RefCell::default(), is_read: Cell::new(false) }
    }

    /// The value of a key, if it is there.
    pub fn optional(&self, key: &'static str) -> Option<Value<'a>> {
        self.known.borrow_mut().push(key);
        self.entries.get_key_value(key).map(|(key, value)| self.value(key.get_ref(), key.span(), value))
    }

    /// The value of a key that has to be there. `example` is the whole line.
    pub fn required(&self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.optional(key);
        if value.is_none() {
            self.lack(&[key], format!("for example `{example}`"));
        }
        value
    }

    /// Says that one of some keys has to be there.
    pub fn lack(&self, keys: &[&'static str], help: String) {
        let problem = Problem::absence(self.span.clone(), format!("`{}` needs {}", self.path, alternatives(keys))).help(help);
        self.lacking.borrow_mut().push((keys.to_vec(), problem));
    }

    /// The table of a key, if it is there.
    pub fn table(&self, key: &'static str) -> Option<Table<'a>> {
        self.optional(key)?.table()
    }

    /// Every entry, in order of place, for a table whose keys are names.
    pub fn values(&self) -> Vec<(&'a str, Value<'a>)> {
        self.is_read.set(true);
        let mut values: Vec<_> =
            self.entries.iter().map(|(key, value)| (&**key.get_ref(), self.value(key.get_ref(), key.span(), value))).collect();
        values.sort_by_key(|(_, value)| value.key_span.start);
        values
    }

    /// The named tables under a key (`[probes.NAME]`), in order of place.
    pub fn named_tables(&self, key: &'static str, most: usize) -> Vec<(ServiceName, Table<'a>)> {
        let Some(parent) = self.table(key) else { return Vec::new() };
        let values = parent.values();
        if let Some((_, first_too_many)) = values.get(most) {
            let message = format!("`{}` has {} entries, at most {most} are allowed", parent.path, values.len());
            self.report(Problem::error(first_too_many.key_span.clone(), message));
        }
        values.into_iter().take(most).filter_map(|(name, value)| Some((value.name(name), value.table()?))).collect()
    }

    /// The values of those keys among `keys` that are there; it is an error if they are not exactly one.
    pub fn exactly_one(&self, keys: &[&'static str]) -> Vec<(&'static str, Value<'a>)> {
        let mut found: Vec<_> = keys.iter().filter_map(|&key| Some((key, self.optional(key)?))).collect();
        found.sort_by_key(|(_, value)| value.key_span.start);
        let choice = alternatives(keys);
        match found.as_slice() {
            [] => self.lack(keys, format!("add {choice}")),
            [_] => {}
            [(first, _), .., (last, value)] => {
                let message = format!("`{}` has both `{first}` and `{last}`", self.path);
                self.report(Problem::error(value.key_span.clone(), message).help(format!("keep one of {choice}")));
            }
        }
        found
    }

    /// Notes that something is wrong.
    pub fn report(&self, problem: Problem) {
        self.document.report(problem);
    }

    /// Reports every key that was not asked for, and what lacks.
    pub fn finish(self) {
        self.is_read.set(true);
        let mut known = self.known.take();
        known.sort_unstable();
        known.dedup();
        let mut lacking = self.lacking.take();
        let mut corrected = Vec::new();
        for (key, _) in self.entries.iter().filter(|(key, _)| !known.contains(&&**key.get_ref())) {
            let (problem, meant) = self.unknown(key.get_ref(), key.span(), &known);
            match meant.as_slice() {
                [meant] if !self.entries.contains_key(*meant) && !corrected.contains(meant) => {
                    corrected.push(*meant);
                    self.document.report_misspelt(problem, key.span(), meant);
                }
                _ => self.report(problem),
            }
            lacking.retain(|(keys, _)| !keys.iter().any(|key| meant.contains(key)));
        }
        for (_, problem) in lacking {
            self.report(problem);
        }
    }

    /// What is said of an unknown key, and which keys it may have been meant to be.
    fn unknown(&self, key: &str, span: Range<usize>, known: &[&'static str]) -> (Problem, Vec<&'static str>) {
        let is_pointer = |name: &&str| name.strip_prefix(key).is_some_and(|rest| rest == "_file" || rest == "_credential");
        let pointers: Vec<&'static str> = known.iter().copied().filter(is_pointer).collect();
        if !pointers.is_empty() {
            let help = format!("keep it in a file or a systemd credential: {}", alternatives(&pointers));
            return (Problem::error(span, format!("`{key}` would put a secret in the open")).help(help), pointers);
        }
        let table = if self.path.is_empty() { "the configuration".to_owned() } else { format!("`{}`", self.path) };
        let problem = Problem::error(span, format!("`{key}` is not a key of {table}"));
        match all_nearest(key, known).as_slice() {
            meant @ [nearest, ..] => (problem.help(format!("did you mean `{nearest}`?")), meant.to_vec()),
            [] => (problem.help(format!("its keys are: {}", known.join(", "))), Vec::new()),
        }
    }

    fn value(&self, key: &str, key_span: Range<usize>, value: &'a toml::Spanned<DeValue<'a>>) -> Value<'a> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Value { document: self.document, span: value.span(), path, key_span, content: value.get_ref() }
    }
}

impl<'a> Value<'a> {
    /// Reports that something is wrong with the value.
    pub fn report(&self, problem: Problem) {
        self.document.report(problem);
    }

    /// Reports an error at the value, with a remedy.
    pub fn refuse(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report(Problem::error(self.span.clone(), message).help(help));
    }

    /// Reports that the value is of the wrong type.
    fn mistyped<T>(&self, wanted: &str, example: &str) -> Option<T> {
        let found = match self.content {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let problem = Problem::error(self.span.clone(), format!("`{}` must be {wanted}, not {found}", self.path));
        self.report(if example.is_empty() { problem } else { problem.help(format!("for example `{} = {example}`", self.last_key())) });
        None
    }

    fn last_key(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// The place of the key that the value belongs to.
    pub fn key_span(&self) -> Range<usize> {
        self.key_span.clone()
    }

    /// A text that is not empty, at most `most` bytes long and of one line.
    pub fn text(&self, most: usize, example: &str) -> Option<&'a str> {
        let text = self.lines(most, example)?;
        let is_one_line = !text.chars().any(char::is_control);
        if !is_one_line {
            self.report(Problem::error(self.span.clone(), format!("`{}` holds a control character or a line break", self.path)));
        }
        is_one_line.then_some(text)
    }

    /// The same, of any number of lines.
    pub fn lines(&self, most: usize, example: &str) -> Option<&'a str> {
        let DeValue::String(text) = self.content else { return self.mistyped("a text", example) };
        let wrong = if text.trim().is_empty() {
            "is empty".to_owned()
        } else if text.len() > most {
            format!("is longer than {most} bytes")
        } else if text.chars().any(|sign| sign.is_control() && !matches!(sign, '\n' | '\r' | '\t')) {
            "holds a control character or a line break".to_owned()
        } else {
            return Some(text);
        };
        self.report(Problem::error(self.span.clone(), format!("`{}` {wrong}", self.path)));
        None
    }

    /// Whether the value is a text.
    pub fn is_text(&self) -> bool {
        self.content.is_str()
    }

    /// Whether the value is a table.
    pub fn is_table(&self) -> bool {
        self.content.is_table()
    }

    /// Whether the value is a table with nothing in it.
    pub fn is_empty_table(&self) -> bool {
        matches!(self.content, DeValue::Table(entries) if entries.is_empty())
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        match self.content {
            DeValue::Boolean(value) => Some(*value),
            _ => self.mistyped("true or false", "true"),
        }
    }

    /// A whole number within a range.
    pub fn integer(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let DeValue::Integer(integer) = self.content else {
            return self.mistyped("a whole number", &range.start().to_string());
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.out_of_range(integer, range.start(), range.end());
        }
        number
    }

    /// A number between two others, which it can't itself be.
    pub fn number_between(&self, low: f64, high: f64) -> Option<f64> {
        let (number, written) = match self.content {
            DeValue::Float(float) => (float.as_str().parse().ok(), float.to_string()),
            DeValue::Integer(integer) => (integer.as_str().parse().ok(), integer.to_string()),
            _ => return self.mistyped("a number", &format!("{}", f64::midpoint(low, high))),
        };
        let number = number.filter(|&number: &f64| low < number && number < high);
        if number.is_none() {
            let message = format!("`{}` must be greater than {low} and less than {high}, not {written}", self.path);
            self.report(Problem::error(self.span.clone(), message));
        }
        number
    }

    /// A duration within a range, as people write it: `30s`, `1h 30m`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        const FORM: &str = "write a number and a unit in quotes: \"500ms\", \"30s\", \"15m\", \"1h 30m\", \"7d\"";
        let text = match self.content {
            DeValue::String(text) => text,
            DeValue::Integer(integer) => {
                let problem =
                    Problem::error(self.span.clone(), format!("`{}` must be a duration with its unit, not a bare number", self.path));
                self.report(problem.help(format!("did you mean \"{integer}s\"? {FORM}")));
                return None;
            }
            _ => return self.mistyped("a duration", "\"30s\""),
        };
        let Some(duration) = parse_duration(text) else {
            self.refuse(format!("`{}` is not a duration: {}", self.path, quoted(text)), FORM);
            return None;
        };
        if range.contains(&duration) {
            return Some(duration);
        }
        self.out_of_range(text, written(*range.start()), written(*range.end()));
        None
    }

    /// The same for the core's durations.
    pub fn signed_duration(&self, range: RangeInclusive<Duration>) -> Option<SignedDuration> {
        self.duration(range).and_then(|duration| SignedDuration::try_from(duration).ok())
    }

    fn out_of_range(&self, found: impl Display, low: impl Display, high: impl Display) {
        let message = format!("`{}` must be between {low} and {high}, not {found}", self.path);
        self.report(Problem::error(self.span.clone(), message));
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let words: Vec<&'static str> = choices.iter().map(|(word, _)| *word).collect();
        let DeValue::String(text) = self.content else {
            return self.mistyped("a text", &format!("\"{}\"", words.first().unwrap_or(&"")));
        };
        let found = choices.iter().find(|(word, _)| word == text).map(|(_, value)| *value);
        if found.is_none() {
            let listed = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
            let help = nearest(text, &words).map_or_else(|| format!("write one of {listed}"), |word| format!("did you mean \"{word}\"?"));
            self.refuse(format!("`{}` can't be {}", self.path, quoted(text)), help);
        }
        found
    }

    /// A value inside a table, without reading the table.
    pub fn get(&self, key: &'static str) -> Option<Value<'a>> {
        let DeValue::Table(entries) = self.content else { return None };
        let (key, value) = entries.get_key_value(key)?;
        Some(Value {
            span: value.span(),
            path: format!("{}.{key}", self.path, key = key.get_ref()),
            key_span: key.span(),
            content: value.get_ref(),
            ..self.clone()
        })
    }

    /// A table.
    pub fn table(&self) -> Option<Table<'a>> {
        let DeValue::Table(entries) = self.content else { return self.mistyped("a table", "") };
        let (document, span, path) = (self.document, self.key_span.clone(), self.path.clone());
        Some(Table::new(document, span, path, entries))
    }

    /// A list of at least one and at most `most` values.
    pub fn list(&self, most: usize, example: &str) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(array) = self.content else { return self.mistyped("a list", example) };
        self.elements(array, most)
    }

    /// A list of at least one and at most `most` tables, each at its own place.
    pub fn tables(&self, most: usize) -> Option<Vec<Table<'a>>> {
        let table = |value: Value<'a>| match value.content {
            DeValue::Table(entries) => Some(Table::new(value.document, value.span, value.path, entries)),
            _ => value.mistyped("a table", ""),
        };
        self.list(most, "").map(|values| values.into_iter().filter_map(table).collect())
    }

    /// The place of a stretch of a text that [`Self::text`] gave; all of it where the text is written with escapes.
    pub fn place_in(&self, text: &str, stretch: Range<usize>) -> Range<usize> {
        let plain = self.span.len() == text.len() + 2;
        if plain { self.span.start + 1 + stretch.start..self.span.start + 1 + stretch.end } else { self.span.clone() }
    }

    /// One value, or a list of at least one and at most `most`.
    pub fn one_or_list(&self, most: usize) -> Option<Vec<Value<'a>>> {
        match self.content {
            DeValue::Array(array) => self.elements(array, most),
            _ => Some(vec![self.clone()]),
        }
    }

    fn elements(&self, array: &'a DeArray<'a>, most: usize) -> Option<Vec<Value<'a>>> {
        if array.is_empty() || array.len() > most {
            let wrong =
                if array.is_empty() { "is empty".to_owned() } else { format!("has {} entries, at most {most} are allowed", array.len()) };
            self.report(Problem::error(self.span.clone(), format!("`{}` {wrong}", self.path)));
        }
        if array.is_empty() {
            return None;
        }
        let element = |value: &'a toml::Spanned<DeValue<'a>>| Value { span: value.span(), content: value.get_ref(), ..self.clone() };
        Some(array.iter().take(most).map(element).collect())
    }

    /// A plain value as JSON: a text, a number, true or false.
    pub fn scalar(&self) -> Option<serde_json::Value> {
        let number = |text: &str| text.parse::<serde_json::Number>().ok().map(serde_json::Value::Number);
        match self.content {
            DeValue::String(text) => Some(serde_json::Value::String(text.to_string())),
            DeValue::Boolean(value) => Some(serde_json::Value::Bool(*value)),
            DeValue::Integer(integer) if integer.radix() == 10 => number(integer.as_str()),
            DeValue::Float(float) => number(float.as_str()),
            _ => None,
        }
        .or_else(|| self.mistyped("a text, a number, true or false", "\"ok\""))
    }

    /// A name that the user gave as a key. What is not one is reported, and gets another, so that what it names is read all the same.
    fn name(&self, name: &str) -> ServiceName {
        ServiceName::try_from(name).unwrap_or_else(|_| {
            let problem = Problem::error(self.key_span.clone(), format!("{} is not a name", quoted(name)));
            self.report(problem.help("use 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or a digit"));
            ServiceName::try_from("unnamed").expect("it has only letters")
        })
    }
}

/// Reads a duration as people write it. `humantime` adds up unchecked near the end of its range and panics there, so that absurd texts
/// never reach it: with at most 9 digits a number and 64 bytes the sum stays below a tenth of `u64::MAX` seconds.
fn parse_duration(text: &str) -> Option<Duration> {
    let longest_number = text.split(|character: char| !character.is_ascii_digit() && !character.is_whitespace()).map(digits).max();
    if text.len() > 64 || longest_number > Some(9) {
        return None;
    }
    humantime::parse_duration(text).ok()
}

/// A duration as it may be written in the file: `humantime` itself says `7days`.
pub(super) fn written(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace("days", "d").replace("day", "d")
}

fn digits(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_digit).count()
}

/// A short text of the user's in quotes; a long one is cut.
pub(super) fn quoted(text: &str) -> String {
    if text.chars().count() <= 40 { format!("{text:?}") } else { format!("{:?}…", text.chars().take(40).collect::<String>()) }
}

/// `a`, `b` or `c`.
pub(super) fn alternatives(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The word that was probably meant: at most a third of its letters are wrong.
pub(super) fn nearest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    all_nearest(word, words).first().copied()
}

/// The same, with those that are just as near.
fn all_nearest<'w>(word: &str, words: &[&'w str]) -> Vec<&'w str> {
    let word = word.to_lowercase().replace('-', "_");
    if word.len() > 64 {
        return Vec::new();
    }
    let distance = |known: &str| strsim::damerau_levenshtein(&word, &known.to_lowercase());
    let mut near: Vec<(usize, &str)> = words.iter().map(|known| (distance(known), *known)).collect();
    near.retain(|(distance, known)| *distance <= (known.len() / 3).max(1));
    near.sort_unstable();
    let least = near.first().map(|(distance, _)| *distance);
    near.into_iter().take_while(|(distance, _)| Some(*distance) == least).map(|(_, known)| known).collect()
}
