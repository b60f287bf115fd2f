//! Numbers as few bytes: seven bits of a whole number in each byte, small ones first (the variable-length integers of Protocol Buffers).

use crate::statistics::dispersion::Counts;

/// Writes numbers one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Writer(Vec<u8>);

/// Reads them again. Everything is `None` that was not written by a [`Writer`].
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

/// Up to this a count is written as a whole number: 2^53.
const LARGEST: f64 = 9_007_199_254_740_992.0;

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push((number & 0x7f) as u8);
    }

    /// Small ones on both sides of zero are short.
    pub(super) fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    /// A count: a whole one is short, any other keeps all its bits.
    pub(super) fn count(&mut self, count: f64) {
        if (0.0..=LARGEST).contains(&count) && count.fract() == 0.0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number between 0 and 2^53")]
            self.number((count as u64) << 1);
        } else {
            self.number(1);
            self.bytes(&count.to_le_bytes());
        }
    }

    pub(super) fn counts(&mut self, counts: Counts) {
        self.count(counts.count);
        self.count(counts.failed);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.number()?;
        String::from_utf8(self.bytes(length)?.to_vec()).ok()
    }

    /// A count: finite and not below zero.
    pub(super) fn count(&mut self) -> Option<f64> {
        let number = self.number()?;
        if number & 1 == 0 {
            let whole = number >> 1;
            #[expect(clippy::cast_precision_loss, reason = "at most 2^53 was written")]
            return (whole <= 1 << 53).then_some(whole as f64);
        }
        let bytes = self.bytes(8).filter(|_| number == 1)?;
        let count = f64::from_le_bytes(bytes.try_into().ok()?);
        (count.is_finite() && count >= 0.0).then_some(count)
    }

    pub(super) fn counts(&mut self) -> Option<Counts> {
        let (count, failed) = (self.count()?, self.count()?);
        (failed <= count).then_some(Counts { count, failed })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_again(signed in any::<i64>(), number in any::<u64>(), count in 0.0..1e18_f64, whole in 0..1_u64 << 53, text in ".*") {
            #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
            let whole = whole as f64;
            let mut writer = Writer::default();
            writer.signed(signed);
            writer.number(number);
            writer.count(count);
            writer.count(whole);
            writer.text(&text);
            let mut reader = Reader::new(writer.as_bytes());
            prop_assert_eq!((reader.signed(), reader.number()), (Some(signed), Some(number)));
            prop_assert_eq!((reader.count(), reader.count(), reader.text()), (Some(count), Some(whole), Some(text)));
            prop_assert!(reader.is_at_end());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            while reader.counts().is_some() || reader.signed().is_some() || reader.text().is_some() {}
        }
    }

    #[test]
    fn a_usual_interval_takes_few_bytes() {
        let mut writer = Writer::default();
        writer.counts(Counts { count: 150.0, failed: 1.0 });
        assert_eq!(writer.len(), 3);
    }
}
