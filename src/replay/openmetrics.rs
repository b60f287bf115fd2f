//! Reads files of samples: `OpenMetrics` text, or the Prometheus text format, with a time on every line. It is made for files of many
//! gigabytes: nothing but a block and the line at hand is kept, lines of no interest are skipped without being understood, and a series
//! that comes again is known by its text. Which series are of interest is not decided here.
//!
//! Grammars: those of [`crate::signal::exposition`]. `OpenMetrics` has times in seconds and ends with `# EOF`, the older format has
//! milliseconds; since people mix them up, the size of a time decides.

use std::io::{self, Read};

use memchr::memchr;

use crate::signal::exposition;

/// What is done with the samples of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// They are taken, under this number.
    Taken(u32),
    /// None.
    Skipped,
}

/// Who takes samples.
pub trait Taker {
    /// Whether series of that name can be of interest at all; asked for every line that is not known.
    fn may_take(&mut self, name: &[u8]) -> bool;

    /// A series that is not known: how it is called is given as it stands and as what it means.
    ///
    /// # Errors
    /// When there are too many, in words; then nothing more is read.
    fn series(&mut self, text: &[u8], series: &exposition::Sample<'_>) -> Result<Interest, String>;

    /// The interest in a series by its text, if it was met before.
    fn known(&self, text: &[u8]) -> Option<Interest>;

    /// The text of a series that is taken.
    fn text(&self, number: u32) -> &[u8];

    /// A sample of a series that is taken: its time in milliseconds.
    ///
    /// # Errors
    /// When it can't be kept, in words.
    fn sample(&mut self, number: u32, at: i64, value: f64) -> Result<(), String>;
}

/// What was met in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// Lines, whether they were of interest or not.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
    /// Samples that were taken.
    pub samples: u64,
    /// Whether a time was in milliseconds.
    pub milliseconds: bool,
    /// Whether `# EOF` was there.
    pub ended: bool,
    /// Lines that can't be read: the first ones, each with its number and what is wrong.
    pub damaged: Vec<(u64, String)>,
    /// How many there were in all.
    pub damages: u64,
}

/// Why reading stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file can't be read on.
    #[error("cannot read on after line {line}")]
    Io {
        /// The last whole line.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("line {line}: {why}; after {damages} lines like that nothing more is read: is it OpenMetrics text?")]
    NotText {
        /// The last such line.
        line: u64,
        /// What is wrong with it.
        why: String,
        /// How many there were.
        damages: u64,
    },
    /// Who takes the samples can't take more.
    #[error("line {line}: {why}")]
    Refused {
        /// The line at which that was.
        line: u64,
        /// In words.
        why: String,
    },
}

/// What is read at once.
const BLOCK: usize = 256 * 1024;

/// No line is longer, so that a file without ends of lines is not kept.
const LONGEST_LINE: usize = 1024 * 1024;

/// Some editors begin a file with it; it says nothing.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// So many lines that can't be read are named.
const NAMED: usize = 5;

/// A file with more lines that can't be read is something else.
const MOST_DAMAGED: u64 = 10_000;

/// Times from this size on are in milliseconds: as seconds they lie beyond the year 5000, as milliseconds after 1973.
const MILLISECONDS_FROM: f64 = 1e11;

/// Reads a whole file.
///
/// # Errors
/// When it can't be read on, is something else altogether, or when the taker refuses. A line that can't be read is no error: it is named in
/// what was met.
pub fn read(source: impl Read, taker: &mut impl Taker) -> Result<Met, ReadError> {
    let mut reader = Reader { taker, met: Met::default(), newest: None, following: Vec::new() };
    let mut source = source;
    let mut block = vec![0; BLOCK];
    let mut held = 0;
    let mut overlong = false;
    loop {
        if held == block.len() {
            block.resize(block.len() * 2, 0);
        }
        let read = match source.read(&mut block[held..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A compressed file says so where it is cut. What came before that counts, as in one that is not compressed.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                reader.met.lines += 1;
                reader.damaged("the compressed file is cut in the middle of it")?;
                return Ok(reader.met);
            }
            Err(source) => return Err(ReadError::Io { line: reader.met.lines, source }),
        };
        if read == 0 {
            break;
        }
        reader.met.bytes += read as u64;
        let whole = held + read;
        // No end of a line is in what was held.
        let (mut begin, mut searched) = (0, held);
        while let Some(length) = memchr(b'\n', &block[searched..whole]) {
            let end = searched + length;
            reader.met.lines += 1;
            if overlong {
                overlong = false;
                reader.damaged("longer than 1 MiB")?;
            } else {
                reader.line(&block[begin..end])?;
            }
            (begin, searched) = (end + 1, end + 1);
        }
        if overlong {
            held = 0;
            continue;
        }
        block.copy_within(begin..whole, 0);
        held = whole - begin;
        if held > LONGEST_LINE {
            (overlong, held) = (true, 0);
        }
    }
    reader.end(&block[..held], overlong)?;
    Ok(reader.met)
}

struct Reader<'a, T> {
    taker: &'a mut T,
    met: Met,
    /// The series of the newest sample that was taken.
    newest: Option<u32>,
    /// Which series came after each the last time: files repeat themselves.
    following: Vec<u32>,
}

impl<T: Taker> Reader<'_, T> {
    fn line(&mut self, line: &[u8]) -> Result<(), ReadError> {
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.met.lines == 1 {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        match line.first() {
            None => return Ok(()),
            Some(b'#') => {
                self.met.ended |= line == b"# EOF";
                return Ok(());
            }
            Some(_) => {}
        }
        if let Some((number, rest)) = self.foreseen(line) {
            return self.sample(number, rest);
        }
        let line = line.trim_ascii_start();
        let length = line.iter().position(|byte| matches!(byte, b'{' | b' ' | b'\t')).unwrap_or(line.len());
        if length == line.len() {
            return if line.is_empty() { Ok(()) } else { self.damaged("no value") };
        }
        if length > 0 && !self.taker.may_take(&line[..length]) {
            return Ok(());
        }
        match self.found(line) {
            Ok((Interest::Taken(number), rest)) => self.sample(number, rest),
            Ok((Interest::Skipped, _)) => Ok(()),
            Err(Wrong::Line(why)) => self.damaged(why),
            Err(Wrong::Taker(why)) => Err(ReadError::Refused { line: self.met.lines, why }),
        }
    }

    /// The same series as in the line before, or the one that followed it the last time.
    fn foreseen<'l>(&self, line: &'l [u8]) -> Option<(u32, &'l [u8])> {
        let newest = self.newest?;
        let is = |number: u32| {
            let rest = line.strip_prefix(self.taker.text(number))?;
            // A space may stand before the braces, too.
            let value = rest.strip_prefix(b" ").filter(|value| !matches!(value.first(), Some(b'{' | b' ')))?;
            Some((number, value))
        };
        self.following.get(newest as usize).and_then(|&number| is(number)).or_else(|| is(newest))
    }

    fn found<'l>(&mut self, line: &'l [u8]) -> Result<(Interest, &'l [u8]), Wrong> {
        let text = series_text(line).ok_or(Wrong::Line("the braces do not end"))?;
        let rest = &line[text.len()..];
        if let Some(known) = self.taker.known(text) {
            return Ok((known, rest));
        }
        let line = std::str::from_utf8(line).map_err(|_| Wrong::Line("not UTF-8"))?;
        let (series, rest) = exposition::series(line).map_err(Wrong::Line)?;
        let text = &line.as_bytes()[..line.len() - rest.len()];
        let interest = self.taker.series(text, &series).map_err(Wrong::Taker)?;
        Ok((interest, rest.as_bytes()))
    }

    fn sample(&mut self, number: u32, rest: &[u8]) -> Result<(), ReadError> {
        let (value, at) = match value_and_time(rest) {
            Ok(sample) => sample,
            Err(why) => return self.damaged(why),
        };
        let at = match at {
            Time::Milliseconds(at) => {
                self.met.milliseconds = true;
                at
            }
            Time::Seconds(at) => at,
        };
        self.follow(number);
        self.met.samples += 1;
        self.taker.sample(number, at, value).map_err(|why| ReadError::Refused { line: self.met.lines, why })
    }

    fn follow(&mut self, number: u32) {
        if let Some(newest) = self.newest {
            let most = newest.max(number) as usize + 1;
            if self.following.len() < most {
                let known = u32::try_from(self.following.len()).unwrap_or(u32::MAX);
                self.following.extend(known..u32::try_from(most).unwrap_or(u32::MAX));
            }
            self.following[newest as usize] = number;
        }
        self.newest = Some(number);
    }

    #[cold]
    fn damaged(&mut self, why: &str) -> Result<(), ReadError> {
        self.met.damages += 1;
        if self.met.damaged.len() < NAMED {
            self.met.damaged.push((self.met.lines, why.to_owned()));
        }
        if self.met.damages > MOST_DAMAGED {
            return Err(ReadError::NotText { line: self.met.lines, why: why.to_owned(), damages: self.met.damages });
        }
        Ok(())
    }

    /// What stands after the last end of a line was cut, unless it says that the text is whole: a number may lack its last digits.
    fn end(&mut self, rest: &[u8], overlong: bool) -> Result<(), ReadError> {
        if rest.trim_ascii().is_empty() && !overlong {
            return Ok(());
        }
        self.met.lines += 1;
        if rest.trim_ascii_end() == b"# EOF" {
            self.met.ended = true;
            return Ok(());
        }
        self.damaged("the file is cut in the middle of it")
    }
}

/// What keeps a series from being told.
enum Wrong {
    Line(&'static str),
    Taker(String),
}

/// What names the series: the name and everything to the closing brace, if there are braces.
fn series_text(line: &[u8]) -> Option<&[u8]> {
    let length = line.iter().position(|byte| matches!(byte, b'{' | b' ' | b'\t')).unwrap_or(line.len());
    let blanks = line[length..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    if line.get(length + blanks) != Some(&b'{') {
        return Some(&line[..length]);
    }
    let (mut quoted, mut at) = (false, length + blanks + 1);
    while at < line.len() {
        match line[at] {
            b'"' => quoted = !quoted,
            b'\\' if quoted => at += 1,
            b'}' if !quoted => return Some(&line[..=at]),
            _ => {}
        }
        at += 1;
    }
    None
}

/// A time as it was written, in milliseconds.
enum Time {
    Seconds(i64),
    Milliseconds(i64),
}

impl Time {
    /// Whether it lies before the year 9999.
    fn is_a_date(&self) -> bool {
        let (Self::Seconds(at) | Self::Milliseconds(at)) = self;
        at.abs() < 250_000_000_000_000
    }
}

/// What stands behind the series: a value, a time, and perhaps an exemplar, which says nothing about the counter.
fn value_and_time(rest: &[u8]) -> Result<(f64, Time), &'static str> {
    let (value, rest) = word(rest);
    let value = number(value).ok_or(if value.is_empty() { "no value" } else { "the value is not a number" })?;
    let (at, rest) = word(rest);
    if at.is_empty() || at == b"#" {
        return Err("a sample without a time");
    }
    let at = time(at).ok_or("the time is not a number")?;
    if !at.is_a_date() {
        return Err("the time is no date");
    }
    match word(rest).0 {
        b"" | b"#" => Ok((value, at)),
        _ => Err("something follows the time"),
    }
}

fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let blanks = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let text = &text[blanks..];
    let length = text.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    text.split_at(length)
}

/// A number as both formats have it. Most are whole and short.
fn number(text: &[u8]) -> Option<f64> {
    if let Some(whole) = whole(text) {
        // Fifteen digits are exact.
        #[expect(clippy::cast_precision_loss, reason = "at most fifteen digits")]
        return Some(whole as f64);
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// One to fifteen digits.
fn whole(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 15 {
        return None;
    }
    text.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn time(text: &[u8]) -> Option<Time> {
    if let Some(whole) = whole(text) {
        // As in MILLISECONDS_FROM.
        return Some(if whole >= 100_000_000_000 { Time::Milliseconds(whole) } else { Time::Seconds(whole * 1000) });
    }
    if let Some(dot) = memchr(b'.', text)
        && let (Some(seconds), Some(fraction)) = (whole(&text[..dot]), text.get(dot + 1..dot + 4).and_then(whole))
        && text.len() == dot + 4
    {
        return Some(if seconds >= 100_000_000_000 { Time::Milliseconds(seconds) } else { Time::Seconds(seconds * 1000 + fraction) });
    }
    let time: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // Far from any date; and beyond it an integer can't hold it.
    if !time.is_finite() || time.abs() >= 1e15 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is below 10^15, or 10^11 before it is made a thousand times as large")]
    Some(if time.abs() >= MILLISECONDS_FROM {
        Time::Milliseconds(time.round() as i64)
    } else {
        Time::Seconds((time * 1000.0).round() as i64)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Takes everything that begins with `r`.
    #[derive(Default)]
    struct Everything {
        texts: Vec<Vec<u8>>,
        numbers: HashMap<Vec<u8>, u32>,
        names: Vec<String>,
        samples: Vec<String>,
    }

    impl Taker for Everything {
        fn may_take(&mut self, name: &[u8]) -> bool {
            name.starts_with(b"r")
        }

        fn series(&mut self, text: &[u8], series: &exposition::Sample<'_>) -> Result<Interest, String> {
            let labels = series.labels().map(|(label, value)| format!("{label}={value}"));
            let number = u32::try_from(self.texts.len()).expect("few");
            self.names.push(std::iter::once(series.name.to_string()).chain(labels).collect::<Vec<_>>().join("|"));
            self.texts.push(text.to_vec());
            self.numbers.insert(text.to_vec(), number);
            Ok(Interest::Taken(number))
        }

        fn known(&self, text: &[u8]) -> Option<Interest> {
            self.numbers.get(text).map(|number| Interest::Taken(*number))
        }

        fn text(&self, number: u32) -> &[u8] {
            &self.texts[number as usize]
        }

        fn sample(&mut self, number: u32, at: i64, value: f64) -> Result<(), String> {
            self.samples.push(format!("{} {value} @{at}", self.names[number as usize]));
            Ok(())
        }
    }

    fn all(text: &[u8]) -> (Vec<String>, Met) {
        let mut taker = Everything::default();
        let met = read(text, &mut taker).expect("it is text");
        (taker.samples, met)
    }

    #[test]
    fn samples_are_read_with_their_times_and_exemplars_comments_and_other_series_are_skipped() {
        let text = b"# HELP r requests\n# TYPE r counter\nr_total{code=\"200\"} 17 1520879607.789 # {trace_id=\"x} # y\"} 0.5 1520879607.7\nother{a=\"}\"} 1 1\n\nr_total{code=\"5\\\"}00\",} 1.5e1 1520879608\r\nr_total{code=\"200\"} NaN 1.520879609e+09\n{__name__=\"r_x\", a=\"b\"} +Inf 1520879610000\nr {a=\"b\"} 2 1520879611\nr 3 1520879612.5\n# EOF\n";
        let (samples, met) = all(text);
        assert_eq!(
            samples,
            [
                "r_total|code=200 17 @1520879607789",
                "r_total|code=5\"}00 15 @1520879608000",
                "r_total|code=200 NaN @1520879609000",
                "r_x|__name__=r_x|a=b inf @1520879610000",
                "r|a=b 2 @1520879611000",
                "r 3 @1520879612500",
            ]
        );
        assert!(met.ended && met.milliseconds);
        assert_eq!((met.lines, met.samples, met.damages), (11, 6, 0));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_the_others_count() {
        let text = b"r 1 10\nr one 20\nr 2\nr 2 now\nr{a=\"b 3 40\nnonsense\nr 5 50 60\nr{\xff=\"1\"} 5 50\nr 6 60\n";
        let (samples, met) = all(text);
        assert_eq!(samples, ["r 1 @10000", "r 6 @60000"]);
        assert_eq!(met.damages, 7);
        let named: Vec<_> = met.damaged.iter().map(|(line, why)| format!("{line}: {why}")).collect();
        assert_eq!(
            named,
            [
                "2: the value is not a number",
                "3: a sample without a time",
                "4: the time is not a number",
                "5: the braces do not end",
                "6: no value"
            ]
        );
    }

    #[test]
    fn a_line_that_is_cut_does_not_count_even_if_it_looks_whole() {
        let (samples, met) = all(b"r 1 1520879607\nr 12 1520879");
        assert_eq!(samples, ["r 1 @1520879607000"]);
        assert_eq!(met.damaged, [(2, "the file is cut in the middle of it".to_owned())]);
        let (samples, met) = all(b"r 1 1520879607\n# EOF");
        assert_eq!((samples.len(), met.damages, met.ended), (1, 0, true));
    }

    #[test]
    fn a_line_without_end_is_neither_kept_nor_believed() {
        let mut text = b"r 1 10\nr{a=\"".to_vec();
        text.extend(std::iter::repeat_n(b'x', 3 * LONGEST_LINE));
        text.extend(b"\"} 2 20\nr 3 30\n");
        let (samples, met) = all(&text);
        assert_eq!(samples, ["r 1 @10000", "r 3 @30000"]);
        assert_eq!(met.damaged, [(2, "longer than 1 MiB".to_owned())]);
    }

    #[test]
    fn what_is_no_text_of_samples_is_refused_after_a_while() {
        let text = "<html>\n".repeat(20_000);
        let error = read(text.as_bytes(), &mut Everything::default()).expect_err("it is refused");
        assert!(error.to_string().starts_with("line 10001: no value; after 10001 lines"), "{error}");
    }

    #[test]
    fn a_compressed_file_that_is_cut_counts_as_far_as_it_goes() {
        let cut = |text: &'static [u8]| text.chain(Ended(io::ErrorKind::UnexpectedEof));
        let mut taker = Everything::default();
        let met = read(cut(b"r 1 1520879607\nr 12 15208"), &mut taker).expect("some of it is there");
        assert_eq!(taker.samples, ["r 1 @1520879607000"]);
        assert_eq!(met.damaged, [(2, "the compressed file is cut in the middle of it".to_owned())]);
        let error = read(b"r 1 1\nr 2".chain(Ended(io::ErrorKind::InvalidData)), &mut taker).expect_err("it is refused");
        assert_eq!(error.to_string(), "cannot read on after line 1");
    }

    struct Ended(io::ErrorKind);

    impl Read for Ended {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
    }

    /// Gives a few bytes at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    #[test]
    fn it_does_not_matter_how_a_file_comes_in() {
        let lines = |number: usize| format!("r_total{{a=\"{}\"}} {number} {}\nz 1 1\n", number % 3, 1_520_879_607 + number);
        let text: String = (0..200).map(lines).collect();
        let (whole, met) = all(text.as_bytes());
        assert_eq!((whole.len(), met.damages), (200, 0));
        for size in [1, 7, 100, 4096] {
            let mut taker = Everything::default();
            let slowly = read(Slowly(text.as_bytes(), size), &mut taker).expect("it is text");
            assert_eq!((taker.samples, slowly), (whole.clone(), met.clone()), "{size}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in "[r-t{}=\"\\\\,é#\n 0-9.E+-]{0,60}") {
            let _ = read(text.as_bytes(), &mut Everything::default());
        }
    }
}
