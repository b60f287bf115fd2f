//! What adapters of counters have in common: how a series is named, and how much of them is taken.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

/// No answer with counters is read beyond this: 8 MiB, about 50,000 series.
pub(super) const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// One look takes no more series; a selector that matches more is a mistake.
pub(super) const SERIES_LIMIT: usize = 1_000;

/// A series' labels without its name.
pub(super) type Labels = BTreeMap<String, String>;

/// A series in canonical form: `requests_total{code="200",instance="10.0.0.1:80"}`, labels in order of their names.
pub(crate) fn canonical<'a>(name: &str, labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let mut text = name.to_owned();
    text.push('{');
    for (index, (label, value)) in labels.into_iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing into a string can't fail.
        let _ = write!(text, "{comma}{label}={value:?}");
    }
    text.push('}');
    text
}

/// A Unix time in seconds as metrics give it, to the millisecond. `None` for what is no time.
pub(super) fn time(seconds: f64) -> Option<Timestamp> {
    let milliseconds = (seconds * 1000.0).round();
    // Beyond ±10^15 ms there is no date either; below, the conversion is exact.
    #[expect(clippy::cast_possible_truncation, reason = "checked to be small and whole")]
    (milliseconds.abs() < 1e15).then_some(milliseconds as i64).and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
}

/// What is added to a source's times to get the caller's. Clocks that agree to 2 s count as equal: a look takes that long.
pub(super) fn shift(source: Timestamp, now: Timestamp) -> SignedDuration {
    let shift = now.duration_since(source);
    if shift.abs() <= SignedDuration::from_secs(2) { SignedDuration::ZERO } else { SignedDuration::from_secs(shift.as_secs()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_series_have_equal_names_and_different_ones_have_not() {
        let labels =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Labels>();
        assert_eq!(canonical("r", &labels(&[("b", "2"), ("a", "1")])), r#"r{a="1",b="2"}"#);
        assert_eq!(canonical("r", &labels(&[])), "r{}");
        assert_ne!(canonical("r", &labels(&[("a", r#"1",b="2"#)])), canonical("r", &labels(&[("a", "1"), ("b", "2")])));
    }

    #[test]
    fn what_is_no_time_is_none() {
        assert_eq!(time(1.5), Some(Timestamp::from_millisecond(1500).unwrap()));
        for seconds in [f64::NAN, f64::INFINITY, -1e300, 1e14] {
            assert_eq!(time(seconds), None);
        }
    }

    #[test]
    fn clocks_that_nearly_agree_are_left_alone() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(shift(at(100), at(102)), SignedDuration::ZERO);
        assert_eq!(shift(at(103), at(100)), SignedDuration::from_secs(-3));
        assert_eq!(shift(at(0), at(3600)), SignedDuration::from_hours(1));
    }
}
