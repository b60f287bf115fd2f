//! The notation of made-up series: that of Prometheus' own unit tests, and rounds of probes in the same spirit. Text in, values out; what
//! they belong to stands with the file.
//!
//! Prometheus: <https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/#series>.

use std::ops::Range;

/// No series of one test is longer: a month at 15 s.
pub const LONGEST: usize = 200_000;

/// A text that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotationError {
    /// Which bytes of the text are meant.
    pub place: Range<usize>,
    /// What is wrong.
    pub why: String,
    /// What to write instead.
    pub help: &'static str,
}

const SAMPLES: &str = "values are separated by spaces: `5`, `0+10x20` (0 and then 20 more, each 10 larger), `100-1x5`, `7x3` (7 and three \
                       times more), `_` (no sample), `_x5`, `stale`";

const ROUNDS: &str =
    "rounds are separated by spaces: `ok`, `fail`, `1/3` (one of three targets fails), `_` (no round); `okx720` is 720 of them";

/// The samples of a series, one for each interval; `None` where there is none. `a+bxn` is a and then n more, each b larger, `a-bxn` each b
/// smaller, `axn` as many that are equal; `_` and `stale` are no sample, `_xn` is n times none.
///
/// # Errors
/// With the first thing that is not understood, and where it stands.
pub fn samples(text: &str) -> Result<Vec<Option<f64>>, NotationError> {
    let mut values = Vec::new();
    for (place, word) in words(text) {
        let wrong = |why: String| NotationError { place: place.clone(), why, help: SAMPLES };
        match word.split_once('x').filter(|(what, _)| *what == "_") {
            Some((_, times)) => extend(&mut values, times, &wrong, |_| None)?,
            None if word == "_" || word == "stale" => one(&mut values, None, &wrong)?,
            None => {
                let Numbers { first, step, times } = Numbers::of(word, &wrong)?;
                one(&mut values, Some(first), &wrong)?;
                if let Some(times) = times {
                    extend(&mut values, times, &wrong, |number| Some(first + step * number))?;
                }
            }
        }
    }
    some(values, text, SAMPLES)
}

/// Rounds of probes, one for each look; `None` where there is none. Each is the number of targets that fail, of how many.
///
/// # Errors
/// With the first thing that is not understood, and where it stands.
pub fn rounds(text: &str) -> Result<Vec<Option<(u32, u32)>>, NotationError> {
    let mut values = Vec::new();
    for (place, word) in words(text) {
        let wrong = |why: String| NotationError { place: place.clone(), why, help: ROUNDS };
        let (what, times) = word.split_once('x').map_or((word, None), |(what, times)| (what, Some(times)));
        let round = match what {
            "ok" => Some((0, 1)),
            "fail" => Some((1, 1)),
            "_" => None,
            _ => {
                let share = what.split_once('/').and_then(|(failing, of)| Some((failing.parse().ok()?, of.parse().ok()?)));
                Some(share.filter(|(failing, of)| failing <= of && (1..=64).contains(of)).ok_or_else(|| wrong(misunderstood(word)))?)
            }
        };
        match times {
            Some(times) => extend(&mut values, times, &wrong, |_| round)?,
            None => one(&mut values, round, &wrong)?,
        }
    }
    some(values, text, ROUNDS)
}

/// `a`, `axn`, `a+bxn` or `a-bxn`, taken apart.
struct Numbers<'a> {
    first: f64,
    step: f64,
    times: Option<&'a str>,
}

impl<'a> Numbers<'a> {
    fn of(word: &'a str, wrong: &impl Fn(String) -> NotationError) -> Result<Self, NotationError> {
        if word.starts_with("{{") {
            return Err(wrong("native histograms can't be made up; write the series of `_bucket`, `_sum` and `_count`".to_owned()));
        }
        let misread = || wrong(misunderstood(word));
        let (first, rest) = number(word).ok_or_else(misread)?;
        let step = rest.strip_prefix(['+', '-']).map(|step| number(step).filter(|_| !step.starts_with(['+', '-'])).ok_or_else(misread));
        let sign = if rest.starts_with('-') { -1.0 } else { 1.0 };
        let (step, rest) = step.transpose()?.map_or((None, rest), |(step, rest)| (Some(sign * step), rest));
        let times = rest.strip_prefix('x');
        // A step without a number of times is a slip, as is anything else that follows.
        if times.is_none() && (step.is_some() || !rest.is_empty()) {
            return Err(misread());
        }
        Ok(Self { first, step: step.unwrap_or(0.0), times })
    }
}

/// The number that a text begins with, and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let bytes = text.as_bytes();
    let sign = usize::from(text.starts_with(['+', '-']));
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let named = ["Inf", "inf", "NaN", "nan"].iter().find(|name| text[sign..].starts_with(**name));
    let end = if let Some(name) = named {
        sign + name.len()
    } else {
        let mut end = sign + digits(sign);
        if bytes.get(end) == Some(&b'.') {
            end += 1 + digits(end + 1);
        }
        let exponent = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if matches!(bytes.get(end), Some(b'e' | b'E')) && digits((end + 1 + exponent).min(bytes.len())) > 0 {
            end += 1 + exponent + digits(end + 1 + exponent);
        }
        end
    };
    text[..end].parse().ok().map(|number| (number, &text[end..]))
}

fn words(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    text.split_ascii_whitespace().map(move |word| {
        // Both are slices of the same text.
        let from = word.as_ptr() as usize - text.as_ptr() as usize;
        (from..from + word.len(), word)
    })
}

fn misunderstood(word: &str) -> String {
    format!("{:?} is not understood", word.chars().take(40).collect::<String>())
}

fn one<T>(values: &mut Vec<T>, value: T, wrong: &impl Fn(String) -> NotationError) -> Result<(), NotationError> {
    if values.len() >= LONGEST {
        return Err(too_long(wrong));
    }
    values.push(value);
    Ok(())
}

/// As many values as a text says; each is told its number, beginning with 1.
fn extend<T>(
    values: &mut Vec<T>,
    times: &str,
    wrong: &impl Fn(String) -> NotationError,
    value: impl Fn(f64) -> T,
) -> Result<(), NotationError> {
    if times.is_empty() || !times.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong(format!("a whole number has to follow the `x`, not {:?}", times.chars().take(40).collect::<String>())));
    }
    let times = times.parse::<u32>().ok().filter(|times| values.len() + *times as usize <= LONGEST).ok_or_else(|| too_long(wrong))?;
    values.extend((1..=times).map(|number| value(f64::from(number))));
    Ok(())
}

fn too_long(wrong: &impl Fn(String) -> NotationError) -> NotationError {
    wrong(format!("with this there are more than {LONGEST} values in one series"))
}

fn some<T>(values: Vec<T>, text: &str, help: &'static str) -> Result<Vec<T>, NotationError> {
    if values.is_empty() { Err(NotationError { place: 0..text.len(), why: "there is nothing in it".to_owned(), help }) } else { Ok(values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let values = samples(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let word = |value: &Option<f64>| value.map_or("_".to_owned(), |value| value.to_string());
        values.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn series_are_written_as_prometheus_writes_them() {
        for (text, expected) in [
            // The examples of its manual.
            ("-2+4x3", "-2 2 6 10"),
            (" 1-2x4", "1 -1 -3 -5 -7"),
            (" 1x4", "1 1 1 1 1"),
            (" 1 _x3 stale", "1 _ _ _ _"),
            ("10+10x2 30+20x5", "10 20 30 30 50 70 90 110 130"),
            ("1+0x6 0 0", "1 1 1 1 1 1 1 0 0"),
            // And what its lexer takes besides.
            ("0 15 30", "0 15 30"),
            ("0x2", "0 0 0"),
            ("1.5+.5x2", "1.5 2 2.5"),
            ("1e3+1e-1x1", "1000 1000.1"),
            ("5x0", "5"),
            ("NaN -Inf Inf", "NaN -inf inf"),
            ("_x0 1", "1"),
        ] {
            assert_eq!(written(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_shown_where_it_stands() {
        for (text, place, why) in [
            ("1 2,3", 2..5, "\"2,3\" is not understood"),
            ("0+10", 0..4, "\"0+10\" is not understood"),
            ("0+10x", 0..5, "a whole number has to follow the `x`, not \"\""),
            ("0+10x-5", 0..7, "a whole number has to follow the `x`, not \"-5\""),
            ("0+10y5", 0..6, "\"0+10y5\" is not understood"),
            ("1--2x5", 0..6, "\"1--2x5\" is not understood"),
            ("1 x5", 2..4, "\"x5\" is not understood"),
            ("ok", 0..2, "\"ok\" is not understood"),
            ("1 {{schema:1}}", 2..14, "native histograms can't be made up; write the series of `_bucket`, `_sum` and `_count`"),
            ("  ", 0..2, "there is nothing in it"),
            ("1 0+1x4000000000", 2..16, "with this there are more than 200000 values in one series"),
            ("0x199998 _x2", 9..12, "with this there are more than 200000 values in one series"),
        ] {
            let error = samples(text).expect_err(text);
            assert_eq!((error.place, error.why.as_str()), (place, why), "{text}");
        }
    }

    #[test]
    fn rounds_pass_or_fail_and_so_many_are_as_many() {
        let all = rounds("okx2 fail _x2 1/3x2").unwrap();
        assert_eq!(all, [Some((0, 1)), Some((0, 1)), Some((1, 1)), None, None, Some((1, 3)), Some((1, 3))]);
        for text in ["okay", "2/1", "0/0", "1/65", "okx", "1", "ok x5", "/"] {
            assert!(rounds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        proptest::proptest!(|(text in "[-+_x0-9.eEInfNastlok/{é ]{0,24}")| {
            let _ = (samples(&text), rounds(&text));
        });
    }
}
