//! The text that metrics endpoints speak: Prometheus text format 0.0.4 and `OpenMetrics` 1.0, read line by line as it comes in, so that
//! nothing but the line at hand is kept. Which series matter is not decided here.
//!
//! Grammars: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>; quoted names as in Prometheus 3.

use std::borrow::Cow;

/// Which of the two formats a text is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0: ends with `# EOF`, and samples may carry exemplars.
    OpenMetrics,
}

impl Format {
    /// The format that a `Content-Type` names; anything but `OpenMetrics` is the older one.
    #[must_use]
    pub fn of(content_type: Option<&str>) -> Self {
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// One sample: a line of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The metric's name.
    pub name: Cow<'a, str>,
    /// Its value; may be anything, NaN too. A time that stands with it is not taken: it is the look that counts.
    pub value: f64,
    /// What stands between the braces; checked, so that iterating over it can't fail.
    labels: &'a str,
}

/// A line that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ParseError {
    /// Its number, beginning with 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Reads a text piece by piece.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    /// Lines that were read.
    lines: usize,
    /// The beginning of a line whose end has not come yet. At most [`LINE_LIMIT`] bytes.
    begun: Vec<u8>,
    /// `# EOF` was there.
    ended: bool,
}

/// No line is longer: 64 KiB.
const LINE_LIMIT: usize = 64 * 1024;

/// No series has more labels.
const LABEL_LIMIT: usize = 128;

impl<'a> Sample<'a> {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<Cow<'a, str>> {
        self.labels().find(|(label, _)| label == name).map(|(_, value)| value)
    }

    /// All labels with their values, as they stand.
    pub fn labels(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        let mut pairs = Pairs { rest: self.labels };
        std::iter::from_fn(move || pairs.next().ok().flatten()).filter_map(|pair| Some((unescaped(pair.label), unescaped(pair.value?))))
    }
}

impl Parser {
    /// A parser at the beginning of a text.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, lines: 0, begun: Vec::new(), ended: false }
    }

    /// Reads the next piece, however it was cut, and hands every sample that is whole to `each`.
    ///
    /// # Errors
    /// At the first line that can't be read, or is longer than 64 KiB.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&Sample<'_>)) -> Result<(), ParseError> {
        let mut lines = piece.split_inclusive(|&byte| byte == b'\n');
        let Some(first) = lines.next() else { return Ok(()) };
        self.begin(first)?;
        if !self.begun.ends_with(b"\n") {
            return Ok(());
        }
        let mut begun = std::mem::take(&mut self.begun);
        self.line(&begun, &mut each)?;
        begun.clear();
        self.begun = begun;
        for line in lines {
            if line.ends_with(b"\n") { self.line(line, &mut each)? } else { self.begin(line)? }
        }
        Ok(())
    }

    /// Reads what is left at the end of the text.
    ///
    /// # Errors
    /// When the last line can't be read, or when an `OpenMetrics` text does not say that it is whole.
    pub fn finish(mut self, mut each: impl FnMut(&Sample<'_>)) -> Result<(), ParseError> {
        let last = std::mem::take(&mut self.begun);
        if !last.is_empty() {
            self.line(&last, &mut each)?;
        }
        if self.format == Format::OpenMetrics && !self.ended {
            return Err(ParseError { line: self.lines + 1, why: "it is not whole: no '# EOF' at its end" });
        }
        Ok(())
    }

    fn begin(&mut self, part: &[u8]) -> Result<(), ParseError> {
        if self.begun.len() + part.len() > LINE_LIMIT {
            return Err(ParseError { line: self.lines + 1, why: "longer than 64 KiB" });
        }
        self.begun.extend_from_slice(part);
        Ok(())
    }

    fn line(&mut self, line: &[u8], each: &mut impl FnMut(&Sample<'_>)) -> Result<(), ParseError> {
        self.lines += 1;
        self.read(line, each).map_err(|why| ParseError { line: self.lines, why })
    }

    fn read(&mut self, line: &[u8], each: &mut impl FnMut(&Sample<'_>)) -> Result<(), &'static str> {
        if self.ended {
            return Err("something follows '# EOF'");
        }
        if line.len() > LINE_LIMIT {
            return Err("longer than 64 KiB");
        }
        let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?.trim_ascii();
        if line.starts_with('#') {
            self.ended = self.format == Format::OpenMetrics && line == "# EOF";
        } else if !line.is_empty() {
            each(&sample(line, self.format)?);
        }
        Ok(())
    }
}

fn sample(line: &str, format: Format) -> Result<Sample<'_>, &'static str> {
    let (series, rest) = series(line)?;
    Ok(Sample { value: value(rest, format)?, ..series })
}

/// The series that a line begins with, without a value yet, and what follows it.
///
/// # Errors
/// With what is wrong with it, in words.
pub fn series(line: &str) -> Result<(Sample<'_>, &str), &'static str> {
    let length = line.bytes().position(|byte| !is_name(byte) && byte != b':').unwrap_or(line.len());
    let (bare, rest) = line.split_at(length);
    if bare.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("expected a metric name");
    }
    let (quoted, labels, rest) = match rest.trim_ascii_start().strip_prefix('{') {
        Some(rest) => braces(rest)?,
        None if rest.is_empty() || rest.starts_with([' ', '\t']) => (None, "}", rest),
        None => return Err("expected a metric name"),
    };
    let name = match (bare, quoted) {
        ("", Some(quoted)) => unescaped(quoted),
        // `promtool tsdb dump` writes the name as a label.
        ("", None) => name_label(labels).ok_or("expected a metric name")?,
        (bare, None) => Cow::Borrowed(bare),
        (_, Some(_)) => return Err("two metric names"),
    };
    Ok((Sample { name, value: f64::NAN, labels }, rest))
}

fn name_label(labels: &str) -> Option<Cow<'_, str>> {
    Sample { name: Cow::Borrowed(""), value: f64::NAN, labels }.label("__name__")
}

/// Checks what stands between braces: the metric's name if it stands there, the labels up to their closing brace, and what follows.
fn braces(text: &str) -> Result<(Option<&str>, &str, &str), &'static str> {
    let mut pairs = Pairs { rest: text };
    let mut name = None;
    let mut count = 0;
    while let Some(pair) = pairs.next()? {
        count += 1;
        match pair.value {
            Some(_) if count > LABEL_LIMIT => return Err("more than 128 labels"),
            Some(_) => {}
            None if count == 1 => name = Some(pair.label),
            None => return Err("expected '=' after a label name"),
        }
    }
    let (labels, rest) = text.split_at(text.len() - pairs.rest.len() + 1);
    Ok((name, labels, rest))
}

/// The value, and a check of what follows it.
fn value(rest: &str, format: Format) -> Result<f64, &'static str> {
    let rest = match format {
        // An exemplar says nothing about the counter.
        Format::OpenMetrics => rest.split_once(" # ").map_or(rest, |(sample, _)| sample),
        Format::Prometheus => rest,
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().ok_or("no value")?.parse().map_err(|_| "the value is not a number")?;
    if words.next().is_some_and(|time| time.parse::<f64>().is_err()) {
        return Err("the time is not a number");
    }
    if words.next().is_some() { Err("something follows the time") } else { Ok(value) }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A label and its value, escaped as they stand; a metric's name between the braces has no value.
struct Pair<'a> {
    label: &'a str,
    value: Option<&'a str>,
}

/// Goes over what stands between braces and stops before the closing one.
struct Pairs<'a> {
    rest: &'a str,
}

impl<'a> Pairs<'a> {
    fn next(&mut self) -> Result<Option<Pair<'a>>, &'static str> {
        self.skip_space();
        if self.rest.starts_with('}') {
            return Ok(None);
        }
        let label = if self.rest.starts_with('"') { self.quoted()? } else { self.bare()? };
        self.skip_space();
        let value = if let Some(rest) = self.rest.strip_prefix('=') {
            self.rest = rest;
            self.skip_space();
            Some(self.quoted()?)
        } else {
            None
        };
        self.skip_space();
        match self.rest.strip_prefix(',') {
            Some(rest) => self.rest = rest,
            None if self.rest.starts_with('}') => {}
            None => return Err("expected ',' or '}' in the labels"),
        }
        Ok(Some(Pair { label, value }))
    }

    fn bare(&mut self) -> Result<&'a str, &'static str> {
        let length = self.rest.bytes().position(|byte| !is_name(byte)).unwrap_or(self.rest.len());
        let (label, rest) = self.rest.split_at(length);
        if label.is_empty() || label.starts_with(|first: char| first.is_ascii_digit()) {
            return Err("expected a label name or '}'");
        }
        self.rest = rest;
        Ok(label)
    }

    fn quoted(&mut self) -> Result<&'a str, &'static str> {
        let text = self.rest.strip_prefix('"').ok_or("expected a quoted text")?;
        let mut escaped = false;
        for (index, byte) in text.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    self.rest = &text[index + 1..];
                    return Ok(&text[..index]);
                }
                _ => {}
            }
        }
        Err("a quoted text does not end")
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

/// A text with `\\`, `\"` and `\n` as what they mean; any other backslash is one.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut meant = String::with_capacity(text.len());
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        match (sign, signs.as_str().chars().next()) {
            ('\\', Some(next @ ('\\' | '"' | 'n'))) => {
                meant.push(if next == 'n' { '\n' } else { next });
                signs.next();
            }
            (sign, _) => meant.push(sign),
        }
    }
    Cow::Owned(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in a text, each sample as `name|label=value|…|value`.
    fn read(text: &str, format: Format) -> Result<Vec<String>, ParseError> {
        pieces(&[text.as_bytes()], format)
    }

    fn pieces(pieces: &[&[u8]], format: Format) -> Result<Vec<String>, ParseError> {
        let mut found = Vec::new();
        let mut each = |sample: &Sample<'_>| {
            let mut words = vec![sample.name.to_string()];
            words.extend(sample.labels().map(|(label, value)| format!("{label}={value}")));
            words.push(sample.value.to_string());
            found.push(words.join("|"));
        };
        let mut parser = Parser::new(format);
        for piece in pieces {
            parser.feed(piece, &mut each)?;
        }
        parser.finish(&mut each)?;
        Ok(found)
    }

    const TEXT: &str = r#"# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400",}    3 1395066363000
# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\"}, {"} 1.458255915e9

  metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
http_request_duration_seconds_bucket { le = "0.05" } 24054
nothing NaN
{"shop.requests", "käse"="ä"} 7
bare_braces{} 1e3"#;

    #[test]
    fn the_older_format_is_read_with_all_its_freedoms() {
        assert_eq!(
            read(TEXT, Format::Prometheus).unwrap(),
            [
                "http_requests_total|method=post|code=200|1027",
                "http_requests_total|method=post|code=400|3",
                "msdos_file_access_time_seconds|path=C:\\DIR\\FILE.TXT|error=Cannot find file:\n\"FILE.TXT\"}, {|1458255915",
                "metric_without_timestamp_and_labels|12.47",
                "something_weird|problem=division by zero|inf",
                "http_request_duration_seconds_bucket|le=0.05|24054",
                "nothing|NaN",
                "shop.requests|käse=ä|7",
                "bare_braces|1000",
            ]
        );
    }

    #[test]
    fn it_does_not_matter_how_a_text_is_cut_into_pieces() {
        let whole = read(TEXT, Format::Prometheus).unwrap();
        for size in [1, 2, 3, 7, 64, 100, 4096] {
            let cut: Vec<&[u8]> = TEXT.as_bytes().chunks(size).collect();
            assert_eq!(pieces(&cut, Format::Prometheus).unwrap(), whole, "{size}");
        }
    }

    #[test]
    fn open_metrics_may_carry_exemplars_and_has_to_say_that_it_is_whole() {
        let text =
            "# TYPE foo counter\nfoo_total{a=\"b # c\"} 17.0 1520879607.789 # {trace_id=\"x} # y\"} 0.5 1520879607.7\nfoo_created 1.5\n";
        let whole = format!("{text}# EOF\n");
        assert_eq!(read(&whole, Format::OpenMetrics).unwrap(), ["foo_total|a=b # c|17", "foo_created|1.5"]);
        let cut = read(text, Format::OpenMetrics).unwrap_err();
        assert_eq!(cut.to_string(), "line 4: it is not whole: no '# EOF' at its end");
        let more = read(&format!("{whole}foo_total 1\n"), Format::OpenMetrics).unwrap_err();
        assert_eq!(more.to_string(), "line 5: something follows '# EOF'");
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for (line, why) in [
            ("<!DOCTYPE html>", "expected a metric name"),
            ("5xx_total 1", "expected a metric name"),
            ("rate-total 1", "expected a metric name"),
            ("r.total 1", "expected a metric name"),
            ("{a=\"b\"} 1", "expected a metric name"),
            ("r{\"s\"} 1", "two metric names"),
            ("r", "no value"),
            ("r{a=\"b\"}", "no value"),
            ("r one", "the value is not a number"),
            ("r 1 now", "the time is not a number"),
            ("r 1 2 3", "something follows the time"),
            ("r 1 # {a=\"b\"} 1", "the time is not a number"),
            ("r{a=b} 1", "expected a quoted text"),
            ("r{a=\"b} 1", "a quoted text does not end"),
            ("r{a=\"b\\\"} 1", "a quoted text does not end"),
            ("r{a=\"b\" c=\"d\"} 1", "expected ',' or '}' in the labels"),
            ("r{a=\"b\"", "expected ',' or '}' in the labels"),
            ("r{a=\"b\",a} 1", "expected '=' after a label name"),
            ("r{,} 1", "expected a label name or '}'"),
            ("r{", "expected a label name or '}'"),
        ] {
            let error = read(&format!("ok 1\n{line}\nok 2\n"), Format::Prometheus).unwrap_err();
            assert_eq!(error, ParseError { line: 2, why }, "{line}");
        }
        let error = pieces(&[b"ok 1\n\xff 2\n"], Format::Prometheus).unwrap_err();
        assert_eq!(error.to_string(), "line 2: not UTF-8");
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut parser = Parser::new(Format::Prometheus);
        let endless = vec![b'a'; 1024];
        let error = (0..100).find_map(|_| parser.feed(&endless, |_| {}).err());
        assert_eq!(error, Some(ParseError { line: 1, why: "longer than 64 KiB" }));
        assert!(parser.begun.len() <= LINE_LIMIT);
    }

    #[test]
    fn more_labels_than_a_series_has_are_refused() {
        let labels = |count: usize| (0..count).map(|index| format!("l{index}=\"\"")).collect::<Vec<_>>().join(",");
        assert!(read(&format!("r{{{}}} 1", labels(128)), Format::Prometheus).is_ok());
        let error = read(&format!("r{{{}}} 1", labels(129)), Format::Prometheus).unwrap_err();
        assert_eq!(error.why, "more than 128 labels");
    }

    #[test]
    fn the_content_type_names_the_format() {
        assert_eq!(Format::of(Some("application/openmetrics-text; version=1.0.0; charset=utf-8")), Format::OpenMetrics);
        assert_eq!(Format::of(Some("text/plain; version=0.0.4")), Format::Prometheus);
        assert_eq!(Format::of(None), Format::Prometheus);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c{}=\"\\\\,é#\n 1-]{0,40}") {
            for format in [Format::Prometheus, Format::OpenMetrics] {
                let _ = read(&text, format);
            }
        }

        #[test]
        fn a_label_value_comes_back_as_it_was(value in ".{0,20}") {
            let escaped = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            proptest::prop_assume!(!value.contains('\r'));
            let text = format!("r{{a=\"{escaped}\"}} 1\n");
            proptest::prop_assert_eq!(read(&text, Format::Prometheus).unwrap(), [format!("r|a={value}|1")]);
        }
    }
}
