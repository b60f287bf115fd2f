//! One sequence of intervals of one hour, in order of time, each as its difference from what is usual: it follows the one before, and
//! ends one look later.

use jiff::{SignedDuration, Timestamp};

use super::Hour;
use super::code::{Reader, Writer};
use crate::statistics::dispersion::Counts;

/// Intervals of one hour.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Strand {
    number: u32,
    /// The end of the last one, in milliseconds after 1970.
    last: i64,
    code: Writer,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) from: Timestamp,
    pub(super) at: Timestamp,
    pub(super) counts: Counts,
}

impl Strand {
    /// Goes on with an interval. One that ends before the last one is not counted: it can't come from a [`Grouping`].
    ///
    /// [`Grouping`]: crate::evidence::interval::Grouping
    pub(super) fn push(&mut self, hour: Hour, every: SignedDuration, row: Row) {
        let before = self.before(hour);
        let at = row.at.as_millisecond();
        if at < before || self.number == u32::MAX {
            return;
        }
        self.code.signed(at - before - milliseconds(every));
        self.code.signed(before - row.from.as_millisecond());
        self.code.counts(row.counts);
        self.number += 1;
        self.last = at;
    }

    fn before(&self, hour: Hour) -> i64 {
        if self.number == 0 { hour.begin_millisecond() } else { self.last }
    }

    /// How many intervals there are.
    pub(super) fn len(&self) -> usize {
        self.number as usize
    }

    /// The end of the last one.
    pub(super) fn end(&self) -> Option<Timestamp> {
        if self.number == 0 { None } else { Timestamp::from_millisecond(self.last).ok() }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.code.len()
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.number(u64::from(self.number));
        writer.bytes(self.code.as_bytes());
    }

    /// `None` where it is not what was written of this hour at this cadence.
    pub(super) fn read(reader: &mut Reader<'_>, hour: Hour, every: SignedDuration) -> Option<Self> {
        let number = u32::try_from(reader.number()?).ok()?;
        let mut strand = Self::default();
        for _ in 0..number {
            let row = next(reader, strand.before(hour), every)?;
            strand.push(hour, every, row);
        }
        (strand.number == number && (number == 0 || strand.last <= hour.next().begin_millisecond())).then_some(strand)
    }

    pub(super) fn rows(&self, hour: Hour, every: SignedDuration) -> impl Iterator<Item = Row> + '_ {
        let mut reader = Reader::new(self.code.as_bytes());
        let mut before = hour.begin_millisecond();
        (0..self.number).map_while(move |_| {
            let row = next(&mut reader, before, every)?;
            before = row.at.as_millisecond();
            Some(row)
        })
    }
}

fn next(reader: &mut Reader<'_>, before: i64, every: SignedDuration) -> Option<Row> {
    let at = before.checked_add(milliseconds(every))?.checked_add(reader.signed()?)?;
    let from = before.checked_sub(reader.signed()?)?;
    let time = |millisecond: i64| Timestamp::from_millisecond(millisecond).ok();
    let counts = reader.counts()?;
    (from <= at && at >= before).then_some(Row { from: time(from)?, at: time(at)?, counts })
}

pub(super) fn milliseconds(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
