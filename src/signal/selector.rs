//! Which series are meant: a metric name with matchers on labels, as in PromQL. No function, no range, no offset.

use std::borrow::Cow;
use std::collections::BTreeMap;

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
    test: Test,
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
        for Matcher { label, test } in &self.matchers {
            let Test::Is(value) = test else { return None };
            if labels.insert(label.clone(), value.clone()).is_some() {
                return None;
            }
        }
        labels.remove(NAME).map(|name| (name, labels))
    }

    /// Whether series of that name can be meant at all. Cheap, and true for most names never.
    #[must_use]
    pub fn may_match(&self, name: &str) -> bool {
        self.matchers.iter().all(|matcher| matcher.label != NAME || matcher.test.holds(name))
    }
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
            matchers.push(Matcher { label: NAME.to_owned(), test: Test::Is(name.to_owned()) });
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
                return Ok(Matcher { label: NAME.to_owned(), test: Test::Is(label) });
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
            "=" => Test::Is(value),
            "!=" => Test::IsNot(value),
            "=~" => Test::Like(self.anchored(&value, at)?),
            _ => Test::Unlike(self.anchored(&value, at)?),
        };
        Ok(Matcher { label, test })
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

    #[test]
    fn no_text_makes_it_panic() {
        proptest::proptest!(|(text in "[a-z{}=!~\"'`\\\\,é( \\[]{0,24}")| {
            let _ = Selector::parse(&text);
        });
    }
}
