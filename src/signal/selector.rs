//! Which series are meant: a metric name with matchers on labels, as in PromQL. No function, no range, no offset.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use regex::Regex;

/// A plain instant vector selector: `http_requests_total{service="shop",code=~"5.."}`.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Of `__name__` too. Never empty, and not all of them match an absent label.
    matchers: Vec<Matcher>,
}

/// A text that is not a plain selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a plain selector: {why} at character {at}")]
pub struct SelectorError {
    /// What is wrong.
    pub why: String,
    /// Where: the number of the character, beginning with 1.
    pub at: usize,
}

#[derive(Clone, Debug)]
struct Matcher {
    label: String,
    operator: &'static str,
    /// As it is meant, without quotes and escapes.
    value: String,
    test: Test,
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.label, self.operator, &self.value) == (&other.label, other.operator, &other.value)
    }
}

#[derive(Clone, Debug)]
enum Test {
    Is(String),
    IsNot(String),
    Like(Regex),
    Unlike(Regex),
}

/// The label that holds a metric's name.
const NAME: &str = "__name__";

/// No regular expression compiles to more: 1 MiB.
const REGEX_LIMIT: usize = 1024 * 1024;

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// When it is not a plain one; the error says what is wrong and where. Expressions and ranges are named as such.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser { text, at: 0 }.selector()
    }

    /// Whether a series is meant. `label` looks a label up; an absent one is as good as an empty one.
    pub fn matches<'a>(&self, name: &str, mut label: impl FnMut(&str) -> Option<Cow<'a, str>>) -> bool {
        self.matchers.iter().all(|matcher| match matcher.label.as_str() {
            NAME => matcher.test.holds(name),
            other => matcher.test.holds(label(other).as_deref().unwrap_or("")),
        })
    }

    /// The one series that it names, if it gives a name and compares labels with `=` only: the name, and the labels.
    #[must_use]
    pub fn series(&self) -> Option<(String, BTreeMap<String, String>)> {
        let mut labels = BTreeMap::new();
        for Matcher { label, test, .. } in &self.matchers {
            let Test::Is(value) = test else { return None };
            if labels.insert(label.clone(), value.clone()).is_some() {
                return None;
            }
        }
        labels.remove(NAME).map(|name| (name, labels))
    }

    /// Whether the matchers on labels hold, whatever the name is.
    pub(super) fn labels_match<'a>(&self, mut label: impl FnMut(&str) -> Option<Cow<'a, str>>) -> bool {
        let mut of_labels = self.matchers.iter().filter(|matcher| matcher.label != NAME);
        of_labels.all(|matcher| matcher.test.holds(label(&matcher.label).as_deref().unwrap_or("")))
    }

    /// Whether series of that name can be meant at all. Cheap, and true for most names never.
    #[must_use]
    pub fn may_match(&self, name: &str) -> bool {
        self.matchers.iter().all(|matcher| matcher.label != NAME || matcher.test.holds(name))
    }

    /// The one metric whose series are meant; `None` where the name is left open.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let mut names = self.matchers.iter().filter(|matcher| matcher.label == NAME);
        let name = names.next().filter(|matcher| matcher.operator == "=" && names.next().is_none())?;
        Some(&name.value)
    }

    /// Whether it asks for something of a label.
    #[must_use]
    pub fn asks_for(&self, label: &str) -> bool {
        self.matchers.iter().any(|matcher| matcher.label == label)
    }

    /// The same selection among the series of other names. The text is PromQL.
    #[must_use]
    pub fn with_names(&self, names: &[String]) -> String {
        let any = names.iter().map(|name| regex::escape(name)).collect::<Vec<_>>().join("|");
        let name = match names {
            [name] => format!("__name__={}", promql_text(name)),
            _ => format!("__name__=~{}", promql_text(&any)),
        };
        let others = self.matchers.iter().filter(|matcher| matcher.label != NAME).map(Matcher::text);
        format!("{{{}}}", std::iter::once(name).chain(others).collect::<Vec<_>>().join(","))
    }

    /// Whether all that this selects is among what `other` selects, and can be picked there without asking the server: every matcher of
    /// `other` stands here too, and the further ones mean the same to the server as to [`Self::matches`].
    #[must_use]
    pub fn picks_from(&self, other: &Self) -> bool {
        let is_common = |matcher: &Matcher| other.matchers.contains(matcher);
        other.matchers.iter().all(|matcher| self.matchers.contains(matcher))
            && self.matchers.iter().all(|matcher| is_common(matcher) || matcher.is_undisputed())
    }
}

impl Selector {
    /// Whether both ask for the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let among = |some: &Self, all: &Self| some.matchers.iter().all(|matcher| all.matchers.contains(matcher));
        among(self, other) && among(other, self)
    }

    /// Two matchers, of this selector and of another one of the same metric, that no series can satisfy both, as PromQL; `None` where that
    /// can't be proved.
    #[must_use]
    pub fn contradiction(&self, other: &Self) -> Option<(String, String)> {
        let name = self.name().filter(|name| other.name() == Some(*name));
        name?;
        let pairs = self.matchers.iter().flat_map(|one| other.matchers.iter().map(move |another| (one, another)));
        let found = pairs.filter(|(one, another)| one.label == another.label).find(|(one, another)| one.excludes(another));
        found.map(|(one, another)| (one.text(), another.text()))
    }
}

/// A label of a selector whose value is given, and once only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot<'a> {
    pub(super) label: &'a str,
    pub(super) value: &'a str,
    /// Everything else that the selector asks for, in one order.
    pub(super) rest: String,
}

impl Selector {
    /// The labels in whose values selectors of several services may differ.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        let is_single = |label: &str| self.matchers.iter().filter(|matcher| matcher.label == label).count() == 1;
        let given = self.matchers.iter().filter(|matcher| matcher.operator == "=" && matcher.label != NAME && !matcher.value.is_empty());
        given.filter(move |matcher| is_single(&matcher.label)).map(|matcher| Slot {
            label: &matcher.label,
            value: &matcher.value,
            rest: self.without(&matcher.label),
        })
    }

    /// The value of a label, if everything else that is asked for is `rest`.
    pub(super) fn value_beside(&self, label: &str, rest: &str) -> Option<String> {
        self.slots().find(|slot| slot.label == label && slot.rest == rest).map(|slot| slot.value.to_owned())
    }

    /// The same selection for any of several values of a label. The text is PromQL.
    pub(super) fn with_any<'a>(&self, label: &str, values: impl Iterator<Item = &'a str>) -> String {
        let mut values: Vec<String> = values.map(regex::escape).collect();
        values.sort_unstable();
        values.dedup();
        let any = Matcher { label: label.to_owned(), operator: "=~", value: values.join("|"), test: Test::Is(String::new()) };
        let all = [self.without(label), any.text()];
        format!("{{{}}}", all.iter().filter(|some| !some.is_empty()).map(String::as_str).collect::<Vec<_>>().join(","))
    }

    /// All matchers but those of a label, as PromQL.
    fn without(&self, label: &str) -> String {
        let mut others: Vec<String> = self.matchers.iter().filter(|matcher| matcher.label != label).map(Matcher::text).collect();
        others.sort_unstable();
        others.join(",")
    }
}

impl Matcher {
    /// As PromQL has it.
    fn text(&self) -> String {
        let is_bare = !self.label.starts_with(|first: char| first.is_ascii_digit())
            && self.label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let label = if is_bare { self.label.clone() } else { promql_text(&self.label) };
        format!("{label}{}{}", self.operator, promql_text(&self.value))
    }

    /// Whether no value satisfies both, as far as that can be proved.
    fn excludes(&self, other: &Self) -> bool {
        match (&self.test, &other.test) {
            (Test::Is(value), test) | (test, Test::Is(value)) => !test.holds(value),
            (Test::Like(_), Test::Unlike(_)) | (Test::Unlike(_), Test::Like(_)) => self.value == other.value,
            (Test::Like(_), Test::Like(_)) => {
                let each = |one: &str| other.value.split('|').all(|another| are_disjoint(one, another));
                is_simple(&self.value) && is_simple(&other.value) && self.value.split('|').all(each)
            }
            _ => false,
        }
    }

    /// Of a metric's name.
    fn is(name: String) -> Self {
        Self { label: NAME.to_owned(), operator: "=", value: name.clone(), test: Test::Is(name) }
    }

    /// Whether its test has one meaning. Regular expressions of Go and of Rust differ in what classes hold (`\d`, `[a&&b]`), in flags, and
    /// in corners of repetition; those that are written with nothing but the common signs don't.
    fn is_undisputed(&self) -> bool {
        if matches!(self.operator, "=" | "!=") {
            return true;
        }
        let common = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:|()[]*+? ".contains(&byte);
        let mut inside = false;
        let mut before = b' ';
        self.value.bytes().all(|byte| {
            let disputed = match (before, byte) {
                // Flags and groups with names, lazy and doubled repetition, `--` between classes, empty classes, classes in classes.
                (b'(' | b'*' | b'+' | b'?', b'*' | b'+' | b'?') | (b'-', b'-') | (b'[', b']') => true,
                (_, b'[') => inside,
                _ => false,
            };
            inside = (inside || byte == b'[') && byte != b']';
            before = byte;
            common(byte) && !disputed
        })
    }
}

/// Whether a regular expression is nothing but alternatives of letters, digits and dots: `200`, `2..|3..`.
fn is_simple(pattern: &str) -> bool {
    pattern.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.|".contains(&byte))
}

/// Whether no text matches both of two such alternatives: their lengths differ, or their signs at some place where neither has a dot.
fn are_disjoint(one: &str, other: &str) -> bool {
    one.len() != other.len() || one.bytes().zip(other.bytes()).any(|(one, other)| one != other && one != b'.' && other != b'.')
}

/// A text as PromQL writes it, in double quotes (Go's rules).
fn promql_text(text: &str) -> String {
    let mut written = String::from('"');
    for sign in text.chars() {
        match sign {
            '"' | '\\' => written.extend(['\\', sign]),
            _ if sign.is_ascii_control() => {
                // Writing into a string can't fail.
                let _ = write!(written, "\\x{:02x}", u32::from(sign));
            }
            _ => written.push(sign),
        }
    }
    written.push('"');
    written
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Is(text) => value == text,
            Self::IsNot(text) => value != text,
            Self::Like(regex) => regex.is_match(value),
            Self::Unlike(regex) => !regex.is_match(value),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// The offset in bytes of what is not read yet.
    at: usize,
}

impl<'a> Parser<'a> {
    fn selector(mut self) -> Result<Selector, SelectorError> {
        let mut matchers = Vec::new();
        self.skip_space();
        if self.next().is_some_and(|sign| sign != '{') {
            let name = self.name("a metric name", |sign| sign == ':')?;
            matchers.push(Matcher::is(name.to_owned()));
        }
        self.skip_space();
        if self.take('{') {
            self.matchers(&mut matchers)?;
        }
        self.end()?;
        if matchers.iter().all(|matcher| matcher.test.holds("")) {
            self.at = 0;
            return Err(self.wrong("it names no metric and has no matcher that tells one from all others"));
        }
        Ok(Selector { matchers })
    }

    fn matchers(&mut self, matchers: &mut Vec<Matcher>) -> Result<(), SelectorError> {
        loop {
            self.skip_space();
            if self.take('}') {
                return Ok(());
            }
            matchers.push(self.matcher()?);
            self.skip_space();
            if !self.take(',') && self.next() != Some('}') {
                return Err(self.wrong("expected ',' or '}'"));
            }
        }
    }

    fn matcher(&mut self) -> Result<Matcher, SelectorError> {
        let label = if matches!(self.next(), Some('"' | '\'' | '`')) {
            let label = self.quoted()?;
            self.skip_space();
            if matches!(self.next(), Some(',' | '}')) {
                // A quoted text that stands alone is the metric's name (Prometheus 3).
                return Ok(Matcher::is(label));
            }
            label
        } else {
            self.name("a label name", |_| false)?.to_owned()
        };
        self.skip_space();
        let operator = self.operator()?;
        self.skip_space();
        let at = self.at;
        let value = self.quoted()?;
        let test = match operator {
            "=" => Test::Is(value.clone()),
            "!=" => Test::IsNot(value.clone()),
            "=~" => Test::Like(self.anchored(&value, at)?),
            _ => Test::Unlike(self.anchored(&value, at)?),
        };
        Ok(Matcher { label, operator, value, test })
    }

    fn operator(&mut self) -> Result<&'static str, SelectorError> {
        for operator in ["=~", "!~", "!=", "="] {
            if self.text[self.at..].starts_with(operator) {
                self.at += operator.len();
                return Ok(operator);
            }
        }
        Err(self.wrong("expected '=', '!=', '=~' or '!~'"))
    }

    /// A regular expression that has to match the whole value, as in PromQL.
    fn anchored(&self, pattern: &str, at: usize) -> Result<Regex, SelectorError> {
        let wrong = |why: &str| Self { text: self.text, at }.wrong(&format!("{pattern:?} is not a regular expression: {why}"));
        // By itself first: `a)(b` must not become valid by the brackets around it.
        regex_syntax_error(pattern).map_or(Ok(()), |why| Err(wrong(&why)))?;
        regex::RegexBuilder::new(&format!("^(?s:{pattern})$")).size_limit(REGEX_LIMIT).build().map_err(|_| wrong("it is too large"))
    }

    fn quoted(&mut self) -> Result<String, SelectorError> {
        let began = self.at;
        let Some(quote @ ('"' | '\'' | '`')) = self.next() else { return Err(self.wrong("expected a quoted text")) };
        self.at += 1;
        let mut value = String::new();
        while let Some(sign) = self.next() {
            self.at += sign.len_utf8();
            match sign {
                _ if sign == quote => return Ok(value),
                '\\' if quote != '`' => value.push(self.escape()?),
                _ => value.push(sign),
            }
        }
        self.at = began;
        Err(self.wrong("a quoted text that does not end, beginning"))
    }

    /// What stands after a backslash, as in Go.
    fn escape(&mut self) -> Result<char, SelectorError> {
        let Some(sign) = self.next() else { return Err(self.wrong("a lone backslash")) };
        let (digits, radix) = match sign {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (3, 8),
            _ => {
                let meant = match sign {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'v' => '\u{b}',
                    '\\' | '"' | '\'' => sign,
                    _ => return Err(self.wrong(&format!("\"\\{sign}\" means nothing; a backslash itself is written \"\\\\\","))),
                };
                self.at += 1;
                return Ok(meant);
            }
        };
        let begin = if radix == 8 { self.at } else { self.at + 1 };
        let code = self.text.get(begin..begin + digits).and_then(|code| u32::from_str_radix(code, radix).ok()).and_then(char::from_u32);
        let Some(code) = code else { return Err(self.wrong("a broken escape")) };
        self.at = begin + digits;
        Ok(code)
    }

    fn name(&mut self, what: &str, also: fn(char) -> bool) -> Result<&'a str, SelectorError> {
        let rest = &self.text[self.at..];
        let length = rest.find(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_' || also(sign))).unwrap_or(rest.len());
        if length == 0 || rest.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(self.wrong(&format!("expected {what}")));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    fn end(&mut self) -> Result<(), SelectorError> {
        self.skip_space();
        match self.next() {
            None => Ok(()),
            Some('[') => Err(self.wrong("a range is chosen by rollbackd itself and does not stand")),
            Some('(') => Err(self.wrong("no function may stand here, only the counter itself;")),
            Some(_) => Err(self.wrong("expected the end")),
        }
    }

    fn next(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, sign: char) -> bool {
        let there = self.next() == Some(sign);
        self.at += if there { sign.len_utf8() } else { 0 };
        there
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn wrong(&self, why: &str) -> SelectorError {
        SelectorError { why: why.to_owned(), at: self.text[..self.at].chars().count() + 1 }
    }
}

fn regex_syntax_error(pattern: &str) -> Option<String> {
    let error = regex::RegexBuilder::new(pattern).size_limit(REGEX_LIMIT).build().err()?;
    // The library draws the place over several lines; the last one says what is wrong.
    Some(error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(selector: &str, series: &[(&str, &str)]) -> bool {
        let look = |label: &str| series.iter().find(|(name, _)| *name == label).map(|(_, value)| Cow::Borrowed(*value));
        Selector::parse(selector).unwrap().matches(look(NAME).as_deref().unwrap_or(""), look)
    }

    fn complaint(selector: &str) -> String {
        Selector::parse(selector).unwrap_err().to_string()
    }

    #[test]
    fn a_name_alone_means_all_series_of_that_name() {
        assert!(meant("requests_total", &[("__name__", "requests_total"), ("code", "200")]));
        assert!(!meant("requests_total", &[("__name__", "requests_total_more")]));
        assert!(meant(" job:requests:rate ", &[("__name__", "job:requests:rate")]));
    }

    #[test]
    fn all_four_operators_mean_what_they_mean_in_promql() {
        let series = [("__name__", "r"), ("code", "503"), ("path", "/a\nb")];
        for (selector, expected) in [
            (r#"r{code="503"}"#, true),
            (r#"r{code="50"}"#, false),
            (r#"r{code!="503"}"#, false),
            (r#"r{code!="200"}"#, true),
            (r#"r{code=~"5.."}"#, true),
            (r#"r{code=~"5."}"#, false),
            (r#"r{code=~"0"}"#, false),
            (r#"r{code=~"4..|5.."}"#, true),
            (r#"r{code!~"5.."}"#, false),
            (r#"r{code!~"4.."}"#, true),
            (r#"r{absent=""}"#, true),
            (r#"r{absent!=""}"#, false),
            (r#"r{absent=~".*"}"#, true),
            (r#"r{path=~"/a.b"}"#, true),
            (r#"r{code=~"5..", path!="",}"#, true),
            (r#"{__name__="r"}"#, true),
            (r#"{__name__=~"r|s", code='503'}"#, true),
            (r#"{"r", "code"=`503`}"#, true),
        ] {
            assert_eq!(meant(selector, &series), expected, "{selector}");
        }
    }

    #[test]
    fn escapes_are_those_of_go() {
        let series = [("__name__", "r"), ("path", "/a\"\\\né")];
        assert!(meant(r#"r{path="/a\"\\\n\u00e9"}"#, &series));
        assert!(meant(r#"r{path="/\x61\"\\\012é"}"#, &series));
        assert!(meant(r#"r{path=~"/a.\\\\[[:cntrl:]]."}"#, &series));
    }

    #[test]
    fn two_selectors_that_no_series_satisfies_are_told_by_what_contradicts() {
        let contradicts = |one: &str, other: &str| {
            let (one, other) = (Selector::parse(one).unwrap(), Selector::parse(other).unwrap());
            assert_eq!(one.contradiction(&other).is_some(), other.contradiction(&one).is_some(), "it goes both ways");
            one.contradiction(&other)
        };
        for (one, other) in [
            (r#"r{code="200"}"#, r#"r{code=~"5.."}"#),
            (r#"r{code="200"}"#, r#"r{code="500"}"#),
            (r#"r{code="200"}"#, r#"r{code!="200"}"#),
            (r#"r{code="200"}"#, r#"r{code!~"2.."}"#),
            (r#"r{code=~"2.."}"#, r#"r{code!~"2.."}"#),
            (r#"r{code=~"2..|3.."}"#, r#"r{code=~"5..|4.."}"#),
            (r#"r{code=""}"#, r#"r{code="5"}"#),
        ] {
            assert!(contradicts(one, other).is_some(), "{one} {other}");
        }
        for (one, other) in [
            ("r", r#"r{code=~"5.."}"#),
            (r#"r{code="200"}"#, r#"failed{code="500"}"#),
            (r#"r{code!="200"}"#, r#"r{code=~"5.."}"#),
            (r#"r{code!="404"}"#, r#"r{code!="200"}"#),
            (r#"r{code=~".+"}"#, r#"r{code=~"5.."}"#),
            (r#"r{code=~"2..|5.."}"#, r#"r{code=~"5.."}"#),
            (r#"r{code=~"[1-4].."}"#, r#"r{code=~"5.."}"#),
            (r#"r{code="500"}"#, r#"r{code=~"5.."}"#),
            (r#"r{zone="a"}"#, r#"r{code=~"5.."}"#),
        ] {
            assert_eq!(contradicts(one, other), None, "{one} {other}");
        }
        assert_eq!(contradicts(r#"r{code="200"}"#, r#"r{code=~"5.."}"#), Some((r#"code="200""#.to_owned(), r#"code=~"5..""#.to_owned())));
        assert!(Selector::parse("r{a='1',b='2'}").unwrap().is_same(&Selector::parse(r#"{b="2",a="1",__name__="r"}"#).unwrap()));
        assert!(!Selector::parse("r{a='1'}").unwrap().is_same(&Selector::parse("r").unwrap()));
    }

    #[test]
    fn a_complaint_says_what_is_wrong_and_where() {
        for (selector, expected) in [
            ("", "not a plain selector: it names no metric and has no matcher that tells one from all others at character 1"),
            ("{}", "not a plain selector: it names no metric and has no matcher that tells one from all others at character 1"),
            (
                r#"{code=~".*"}"#,
                "not a plain selector: it names no metric and has no matcher that tells one from all others at character 1",
            ),
            ("rate(r[5m])", "not a plain selector: no function may stand here, only the counter itself; at character 5"),
            ("r[5m]", "not a plain selector: a range is chosen by rollbackd itself and does not stand at character 2"),
            ("r offset 5m", "not a plain selector: expected the end at character 3"),
            ("r{code=5}", "not a plain selector: expected a quoted text at character 8"),
            (r#"r{code"5"}"#, "not a plain selector: expected '=', '!=', '=~' or '!~' at character 7"),
            (r#"r{code="5"#, "not a plain selector: a quoted text that does not end, beginning at character 8"),
            (r#"r{code="5" path="x"}"#, "not a plain selector: expected ',' or '}' at character 12"),
            (r#"r{é="5"}"#, "not a plain selector: expected a label name at character 3"),
            (r#"é{a="5"}"#, "not a plain selector: expected a metric name at character 1"),
            (r#"r{a="é",b=~"(5"}"#, r#"not a plain selector: "(5" is not a regular expression: unclosed group at character 12"#),
            (r#"r{a=~"5)(4"}"#, r#"not a plain selector: "5)(4" is not a regular expression: unopened group at character 6"#),
            (r#"r{a="5\.."}"#, r#"not a plain selector: "\." means nothing; a backslash itself is written "\\", at character 8"#),
            (r#"r{a="\xé"}"#, "not a plain selector: a broken escape at character 7"),
        ] {
            assert_eq!(complaint(selector), expected, "{selector}");
        }
    }

    #[test]
    fn an_expression_that_would_explode_is_refused() {
        assert!(complaint(r#"r{a=~"(((.{1000}){1000}){1000})"}"#).contains("is not a regular expression"));
    }

    fn selector(text: &str) -> Selector {
        Selector::parse(text).unwrap()
    }

    #[test]
    fn the_name_is_known_where_exactly_one_can_be_meant() {
        for (text, name) in [
            ("r{a=\"b\"}", Some("r")),
            ("{__name__=\"r\"}", Some("r")),
            ("{\"r.s\"}", Some("r.s")),
            ("{__name__=~\"r|s\"}", None),
            ("{a=\"b\"}", None),
            ("r{__name__=\"s\"}", None),
        ] {
            assert_eq!(selector(text).name(), name, "{text}");
        }
        assert!(selector("r{a=\"b\"}").asks_for("a") && !selector("r{a=\"b\"}").asks_for("b"));
    }

    #[test]
    fn other_names_keep_every_other_matcher_letter_by_letter() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let text = r#"r{a="x\"\\y\n",b!='é',c=~`5\d.`,"d.e"!~"z"}"#;
        let written = selector(text).with_names(&names(&["r_sum", "r.count"]));
        assert_eq!(written, r#"{__name__=~"r_sum|r\\.count",a="x\"\\y\x0a",b!="é",c=~"5\\d.","d.e"!~"z"}"#);
        let again = selector(&written);
        assert_eq!(again.matchers[1..], selector(text).matchers[1..]);
        assert!(again.may_match("r_sum") && again.may_match("r.count") && !again.may_match("r-count"));
        assert_eq!(selector("r").with_names(&names(&["s"])), r#"{__name__="s"}"#);
    }

    #[test]
    fn selectors_that_differ_in_the_value_of_one_label_become_one() {
        let text = r#"r{service="a.b",code=~"5..",zone!="x"}"#;
        let shop = selector(text);
        let slots: Vec<_> = shop.slots().map(|slot| (slot.label.to_owned(), slot.value.to_owned(), slot.rest)).collect();
        assert_eq!(slots, [("service".to_owned(), "a.b".to_owned(), r#"__name__="r",code=~"5..",zone!="x""#.to_owned())]);
        let beside = |other: &str| selector(other).value_beside("service", &slots[0].2);
        assert_eq!(beside(r#"{__name__="r",zone!="x",code=~"5..",service="c"}"#), Some("c".to_owned()));
        for other in [
            r#"s{service="c",code=~"5..",zone!="x"}"#,
            r#"r{service="c",code=~"4..",zone!="x"}"#,
            r#"r{service="c",code=~"5.."}"#,
            r#"r{service=~"c",code=~"5..",zone!="x"}"#,
            r#"r{service="c",service!="d",code=~"5..",zone!="x"}"#,
            r#"r{service="",code=~"5..",zone!="x"}"#,
        ] {
            assert_eq!(beside(other), None, "{other}");
        }
        let both = shop.with_any("service", ["d\"|", "a.b", "a.b"].into_iter());
        assert_eq!(both, r#"{__name__="r",code=~"5..",zone!="x",service=~"a\\.b|d\"\\|"}"#);
        assert_eq!(selector(&both).slots().count(), 0);
        for (value, expected) in [("a.b", true), ("aXb", false), ("d\"|", true), ("d", false)] {
            let label = |name: &str| Some(Cow::Borrowed(if name == "service" { value } else { "500" }));
            assert_eq!(selector(&both).matches("r", label), expected, "{value}");
        }
        assert_eq!(selector(r#"{job="a"}"#).with_any("job", ["a", "b"].into_iter()), r#"{job=~"a|b"}"#);
    }

    #[test]
    fn what_is_selected_is_picked_here_only_where_both_sides_certainly_agree() {
        for (failed, total, expected) in [
            (r#"r{code=~"5.."}"#, "r", true),
            (r#"r{service="shop",code=~"5..|429"}"#, r#"r{service="shop"}"#, true),
            (r#"r{code=~"(4|5)[0-9]+"}"#, r#"{__name__="r"}"#, true),
            (r#"r{code!="200"}"#, "r", true),
            (r#"r{code!~"2..|3.."}"#, "r", true),
            (r#"r{a=~"\\d",code="500"}"#, r#"r{a=~"\\d"}"#, true),
            ("failures_total", "requests_total", false),
            (r#"r{code=~"5.."}"#, r#"r{service="shop"}"#, false),
            (r#"r{service="shop"}"#, r#"r{service=~"shop"}"#, false),
            (r#"r{code=~"5\\d\\d"}"#, "r", false),
            (r#"r{outcome=~"(?i)error"}"#, "r", false),
            (r#"r{outcome=~"[a&&b]"}"#, "r", false),
            (r#"r{outcome=~"[a--b]"}"#, "r", false),
            (r#"r{outcome=~"[[:alpha:]]"}"#, "r", false),
            (r#"r{outcome=~"a{2}"}"#, "r", false),
            (r#"r{outcome=~"a.*?"}"#, "r", false),
            (r#"r{outcome=~"fehlgeschlagen|é"}"#, "r", false),
        ] {
            assert_eq!(selector(failed).picks_from(&selector(total)), expected, "{failed} from {total}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        proptest::proptest!(|(text in "[a-z{}=!~\"'`\\\\,é( \\[]{0,24}")| {
            let _ = Selector::parse(&text);
        });
    }
}
