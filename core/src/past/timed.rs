//! The intervals of one hour of a histogram. Which bounds its buckets have is written once for the hour.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Hour;
use super::code::{Reader, Writer};
use super::strand::milliseconds;
use crate::evidence::interval::Interval;
use crate::timing::Timing;

/// More bounds than a source ever gives, and more lists of them than are told apart.
const MOST_BOUNDS: u64 = 64;
const MOST_LAYOUTS: u64 = 64;

/// Writes the intervals of an hour, in order of time.
pub(super) fn write(writer: &mut Writer, hour: Hour, every: SignedDuration, intervals: &[Interval<Timing>]) {
    let mut layouts: Vec<&Arc<[f64]>> = Vec::new();
    for (bounds, ..) in intervals.iter().flat_map(|interval| interval.counts.layouts()) {
        if !layouts.contains(&bounds) {
            layouts.push(bounds);
        }
    }
    layouts.truncate(usize::try_from(MOST_LAYOUTS).unwrap_or(usize::MAX));
    writer.number(layouts.len() as u64);
    for bounds in &layouts {
        writer.number(bounds.len() as u64);
        bounds.iter().for_each(|bound| writer.count(*bound));
    }
    writer.number(intervals.len() as u64);
    let mut before = hour.begin_millisecond();
    for Interval { from, at, counts, .. } in intervals {
        let ends = at.as_millisecond();
        writer.signed(ends - before - milliseconds(every));
        writer.signed(before - from.as_millisecond());
        before = ends;
        writer.count(counts.requests);
        writer.count(counts.seconds);
        let known: Vec<_> = counts.layouts().filter_map(|one| Some((layouts.iter().position(|bounds| *bounds == one.0)?, one))).collect();
        writer.number(known.len() as u64);
        for (number, (_, requests, below)) in known {
            writer.number(number as u64);
            writer.count(requests);
            let mut lower = 0.0;
            for count in below {
                writer.count(count - lower);
                lower = *count;
            }
        }
    }
}

/// `None` where it is not what was written of this hour at this cadence.
pub(super) fn read(reader: &mut Reader<'_>, hour: Hour, every: SignedDuration) -> Option<VecDeque<Interval<Timing>>> {
    let layouts = reader.number().filter(|layouts| *layouts <= MOST_LAYOUTS)?;
    let layouts = (0..layouts).map(|_| read_bounds(reader)).collect::<Option<Vec<_>>>()?;
    let number = reader.number()?;
    let mut before = hour.begin_millisecond();
    let mut intervals = VecDeque::new();
    for _ in 0..number {
        let at = before.checked_add(milliseconds(every))?.checked_add(reader.signed()?)?;
        let from = before.checked_sub(reader.signed()?)?;
        if at < before || from > at || at > hour.next().begin_millisecond() {
            return None;
        }
        before = at;
        let counts = read_timing(reader, &layouts)?;
        let time = |millisecond: i64| Timestamp::from_millisecond(millisecond).ok();
        intervals.push_back(Interval {
            from: time(from)?,
            at: time(at)?,
            covered: SignedDuration::ZERO,
            counts,
            beside: Timing::default(),
        });
    }
    Some(intervals)
}

fn read_bounds(reader: &mut Reader<'_>) -> Option<Arc<[f64]>> {
    let number = reader.number().filter(|number| *number <= MOST_BOUNDS)?;
    let bounds = (0..number).map(|_| reader.count()).collect::<Option<Vec<_>>>()?;
    bounds.is_sorted().then(|| bounds.into())
}

fn read_timing(reader: &mut Reader<'_>, layouts: &[Arc<[f64]>]) -> Option<Timing> {
    let (requests, seconds) = (reader.count()?, reader.count()?);
    let mut timing = Timing::default();
    (timing.requests, timing.seconds) = (requests, seconds);
    for _ in 0..reader.number().filter(|known| *known <= MOST_LAYOUTS)? {
        let bounds = layouts.get(usize::try_from(reader.number()?).ok()?)?;
        let requests = reader.count()?;
        let mut lower = 0.0;
        let below = bounds.iter().map(|_| {
            lower += reader.count()?;
            Some(lower)
        });
        let below = below.collect::<Option<Box<[f64]>>>()?;
        timing.add_layout(Arc::clone(bounds), requests, below);
    }
    Some(timing)
}
