//! The past of one signal: what was counted in each interval, hour by hour of the clock. It is counted as the live path counts it, so that
//! restarts, new series, gaps and doubles are the same; it is small enough to be kept in a file; and it is the same however it was fetched:
//! what ends within an hour belongs to that hour and to no other. What an incident made of it is left out when it is used, not here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::counter::{Counter, Increment};
use crate::evidence::interval::{self, Grouping, Interval};
use crate::histogram::HistogramCounter;
use crate::observation::{Histogram, Reading, Scrape};
use crate::statistics::dispersion::Counts;
use crate::timing::Timing;

mod code;
mod strand;
mod timed;

use self::code::{Reader, Writer};
use self::strand::{Row, Strand};

/// An hour of the clock (UTC), counted from 1970 on. What ends at its begin belongs to the one before, what ends at its end belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hour(i64);

impl Hour {
    /// 60 minutes.
    pub const LENGTH: SignedDuration = SignedDuration::from_hours(1);

    const MILLISECONDS: i64 = 3_600_000;

    /// The hour that what ends at this moment belongs to.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self((at.as_millisecond() - 1).div_euclid(Self::MILLISECONDS))
    }

    /// The hour of this number, if there is such a time.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        let millisecond = number.checked_mul(Self::MILLISECONDS)?;
        Timestamp::from_millisecond(millisecond).ok().map(|_| Self(number))
    }

    /// How many hours after the first of 1970 it is.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }

    /// When it begins.
    #[must_use]
    pub fn begin(self) -> Timestamp {
        Timestamp::from_millisecond(self.begin_millisecond()).unwrap_or(if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX })
    }

    /// When it is over.
    #[must_use]
    pub fn end(self) -> Timestamp {
        self.next().begin()
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    fn begin_millisecond(self) -> i64 {
        self.0.saturating_mul(Self::MILLISECONDS)
    }
}

/// What is kept of an hour can't be read: it was cut, or it is of another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an hour of a signal's past")]
pub struct NotAnHour;

/// The past of one signal, hour by hour.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    every: SignedDuration,
    hours: BTreeMap<Hour, Counted>,
}

/// What was counted in one hour: everything, and of the busiest routes by themselves where the signal tells them apart.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counted {
    all: Strand,
    routes: Vec<(String, Strand)>,
    /// Of a histogram, which has nothing else.
    timed: VecDeque<Interval<Timing>>,
}

/// So many routes of a piece are kept, those with most requests.
const MOST_ROUTES: usize = 8;

/// What an hour is kept as begins with one of these, each in its first form.
const COUNTERS: u8 = 1;
const HISTOGRAMS: u8 = 2;

impl Past {
    /// The longest history that is kept: a week, and the hours that it begins and ends in.
    pub const MOST_HOURS: usize = 7 * 24 + 2;

    /// Nothing is known yet of a signal that is looked at once `every`.
    #[must_use]
    pub fn new(every: SignedDuration) -> Self {
        Self { every, hours: BTreeMap::new() }
    }

    /// So much before a piece has to be fetched with it: what is counted first in it began there.
    #[must_use]
    pub fn overlap(every: SignedDuration) -> SignedDuration {
        every.saturating_mul(4).max(SignedDuration::from_mins(1))
    }

    /// The hours that a baseline wants which goes from `from` to `to`, newest first: those, and the ones with the half hour that began a
    /// day and a week before `to`.
    #[must_use]
    pub fn wanted(from: Timestamp, to: Timestamp) -> Vec<Hour> {
        let mut wanted = Vec::new();
        let mut add = |from: Timestamp, to: Timestamp| {
            let mut hour = Hour::of(to);
            while hour.end() > from && wanted.len() < Self::MOST_HOURS + 4 {
                if !wanted.contains(&hour) {
                    wanted.push(hour);
                }
                hour = Hour(hour.0.saturating_sub(1));
            }
        };
        add(from, to);
        for (from, to) in Self::half_hours(to) {
            add(from, to);
        }
        wanted.sort_unstable_by(|a, b| b.cmp(a));
        wanted
    }

    /// The half hours that began a day and a week before a moment.
    pub(crate) fn half_hours(to: Timestamp) -> [(Timestamp, Timestamp); 2] {
        [24, 7 * 24].map(|hours| {
            let ago = |time: SignedDuration| to.checked_sub(time).unwrap_or(Timestamp::MIN);
            let begin = SignedDuration::from_hours(hours);
            (ago(begin), ago(begin - SignedDuration::from_mins(30)))
        })
    }

    /// Takes in a piece: raw readings from [`Self::overlap`] before `from` until `to`. What was known of its hours is replaced.
    pub fn take(&mut self, reading: &Reading, from: Timestamp, to: Timestamp) {
        match reading {
            Reading::Scrape(scrape) => self.take_scrape(scrape, from, to),
            Reading::Histograms(histograms) => self.take_histograms(histograms, from, to),
            Reading::Probe(_) | Reading::Answer(_) | Reading::Missing(_) => {}
        }
    }

    fn take_scrape(&mut self, scrape: &Scrape, from: Timestamp, to: Timestamp) {
        self.hours.retain(|hour, _| hour.end() <= from || hour.begin() >= to);
        let all = Counter::new(self.every).take(scrape, to);
        self.count(&all, None, from, to);
        for route in busiest_routes(scrape) {
            let of_route = Counter::new(self.every).take_route(scrape, route, to);
            self.count(&of_route, Some(route), from, to);
        }
    }

    fn take_histograms(&mut self, histograms: &[Histogram], from: Timestamp, to: Timestamp) {
        self.hours.retain(|hour, _| hour.end() <= from || hour.begin() >= to);
        let durations = HistogramCounter::new(self.every).take(histograms, to);
        for of_hour in by_hour(&durations, from, to) {
            Grouping::new(self.every, Timestamp::MIN).take(interval::Look::own(of_hour), |interval| {
                self.hours.entry(Hour::of(interval.at)).or_default().timed.push_back(interval);
            });
        }
    }

    fn count(&mut self, increments: &[Increment], route: Option<&str>, from: Timestamp, to: Timestamp) {
        for hour in by_hour(increments, from, to) {
            Grouping::new(self.every, Timestamp::MIN).take(interval::Look::own(hour), |interval| self.push_to(route, interval));
        }
    }

    /// Goes on with an interval that ended after all that are known.
    pub(crate) fn push(&mut self, interval: Interval) {
        self.push_to(None, interval);
    }

    fn push_to(&mut self, route: Option<&str>, interval: Interval) {
        let hour = Hour::of(interval.at);
        self.hours.entry(hour).or_default().strand(route).push(
            hour,
            self.every,
            Row { from: interval.from, at: interval.at, counts: interval.counts },
        );
    }

    /// Forgets what ended before `oldest`, and the oldest hours that are too much for `most_bytes`; the newest hour stays in any case.
    pub(crate) fn shorten(&mut self, oldest: Timestamp, most_bytes: usize) {
        self.hours.retain(|hour, _| hour.end() >= oldest);
        let mut bytes: usize = self.hours.values().map(Counted::bytes).sum();
        while bytes > most_bytes && self.hours.len() > 1 {
            let Some((_, forgotten)) = self.hours.pop_first() else { break };
            bytes -= forgotten.bytes();
        }
    }

    /// Adds the hours of another piece of the same signal; of an hour that both know, the other is believed.
    pub fn join(&mut self, other: Self) {
        self.hours.extend(other.hours);
        while self.hours.len() > Self::MOST_HOURS + 4 {
            self.hours.pop_first();
        }
    }

    /// Forgets hours that are kept elsewhere.
    pub fn forget(&mut self, hours: &[Hour]) {
        self.hours.retain(|hour, _| !hours.contains(hour));
    }

    /// Whether anything is known of an hour.
    #[must_use]
    pub fn knows(&self, hour: Hour) -> bool {
        self.hours.contains_key(&hour)
    }

    /// Whether nothing is known at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hours.is_empty()
    }

    /// What was counted in an hour, as it may be kept: about 1.5 KiB at 15-second steps. `None` where nothing was.
    #[must_use]
    pub fn encode(&self, hour: Hour) -> Option<Vec<u8>> {
        let counted = self.hours.get(&hour)?;
        let mut writer = Writer::default();
        if !counted.timed.is_empty() {
            writer.byte(HISTOGRAMS);
            let intervals: Vec<_> = counted.timed.iter().cloned().collect();
            timed::write(&mut writer, hour, self.every, &intervals);
            return Some(writer.into_bytes());
        }
        writer.byte(COUNTERS);
        counted.all.write(&mut writer);
        writer.number(counted.routes.len() as u64);
        for (route, strand) in &counted.routes {
            writer.text(route);
            strand.write(&mut writer);
        }
        Some(writer.into_bytes())
    }

    /// Takes in an hour as it was kept by a signal with the same cadence.
    ///
    /// # Errors
    /// When that is not what it is; nothing is taken in then.
    pub fn decode(&mut self, hour: Hour, bytes: &[u8]) -> Result<(), NotAnHour> {
        let mut reader = Reader::new(bytes);
        let counted = Counted::read(&mut reader, hour, self.every).filter(|_| reader.is_at_end()).ok_or(NotAnHour)?;
        self.hours.insert(hour, counted);
        Ok(())
    }

    /// What was counted in all from one moment to another, interval by interval, and in the rest of the hours that those fall into.
    pub(crate) fn intervals(&self, from: Timestamp, to: Timestamp) -> Vec<Interval> {
        self.intervals_of(from, to, |counted| Some(&counted.all))
    }

    /// How long requests took, interval by interval.
    pub(crate) fn timed(&self) -> Vec<Interval<Timing>> {
        let mut intervals: Vec<Interval<Timing>> = Vec::new();
        for one in self.hours.values().flat_map(|counted| &counted.timed) {
            let since = intervals.last().map_or(one.from, |before| before.at);
            let covered = one.at.duration_since(since).clamp(SignedDuration::ZERO, self.every);
            intervals.push(Interval { covered, ..one.clone() });
        }
        intervals
    }

    /// The routes of which something is known by themselves.
    pub(crate) fn routes(&self) -> BTreeSet<&str> {
        self.hours.values().flat_map(|counted| &counted.routes).map(|(route, _)| route.as_str()).collect()
    }

    /// The same of what was counted on one of them. In an hour in which others were busier it is a gap.
    pub(crate) fn route(&self, route: &str, from: Timestamp, to: Timestamp) -> Vec<Interval> {
        self.intervals_of(from, to, |counted| counted.routes.iter().find(|(known, _)| known == route).map(|(_, strand)| strand))
    }

    fn intervals_of(&self, from: Timestamp, to: Timestamp, strand: impl Fn(&Counted) -> Option<&Strand>) -> Vec<Interval> {
        let strands = || self.hours.iter().filter_map(|(hour, counted)| Some((*hour, strand(counted)?)));
        let inside = || strands().filter(|(hour, _)| hour.end() >= from && hour.begin() < to);
        let mut before = strands().take_while(|(hour, _)| hour.end() < from).filter_map(|(_, strand)| strand.end()).last();
        let mut intervals = Vec::with_capacity(inside().map(|(_, strand)| strand.len()).sum());
        for (hour, strand) in inside() {
            for row in strand.rows(hour, self.every) {
                // As the live path counts it: what comes after a gap covers one look.
                let since = before.replace(row.at).unwrap_or(row.from);
                let covered = row.at.duration_since(since).clamp(SignedDuration::ZERO, self.every);
                intervals.push(Interval {
                    from: row.from,
                    at: row.at,
                    covered,
                    counts: row.counts,
                    beside: Counts { count: 0.0, failed: 0.0 },
                });
            }
        }
        intervals
    }
}

impl Counted {
    fn strand(&mut self, route: Option<&str>) -> &mut Strand {
        let Some(route) = route else { return &mut self.all };
        let known = self.routes.iter().position(|(known, _)| known == route);
        let index = known.unwrap_or_else(|| {
            self.routes.push((route.to_owned(), Strand::default()));
            self.routes.len() - 1
        });
        &mut self.routes[index].1
    }

    fn bytes(&self) -> usize {
        self.all.bytes() + self.routes.iter().map(|(route, strand)| route.len() + strand.bytes()).sum::<usize>()
    }

    fn read(reader: &mut Reader<'_>, hour: Hour, every: SignedDuration) -> Option<Self> {
        match reader.byte()? {
            COUNTERS => {}
            HISTOGRAMS => return Some(Self { timed: timed::read(reader, hour, every)?, ..Self::default() }),
            _ => return None,
        }
        let all = Strand::read(reader, hour, every)?;
        let routes = reader.number().filter(|routes| *routes <= MOST_ROUTES as u64)?;
        let routes = (0..routes).map(|_| Some((reader.text()?, Strand::read(reader, hour, every)?))).collect::<Option<_>>()?;
        Some(Self { all, routes, timed: VecDeque::new() })
    }
}

/// What ended after `from` and until `to`, hour by hour. It is in order of time.
fn by_hour<One: interval::Counted>(ordered: &[One], from: Timestamp, to: Timestamp) -> impl Iterator<Item = &[One]> {
    let end = |one: &One| one.span().1;
    let until = ordered.partition_point(|one| end(one) <= to);
    let mut rest = &ordered[ordered[..until].partition_point(|one| end(one) <= from)..until];
    std::iter::from_fn(move || {
        let hour = Hour::of(end(rest.first()?));
        let (of_hour, later) = rest.split_at(rest.partition_point(|one| Hour::of(end(one)) <= hour));
        rest = later;
        Some(of_hour)
    })
}

/// The routes that counted most in a piece.
fn busiest_routes(scrape: &Scrape) -> Vec<&str> {
    let mut routes: BTreeMap<&str, f64> = BTreeMap::new();
    for series in &scrape.total {
        let Some(route) = &series.route else { continue };
        let rises = series.samples.windows(2).map(|pair| pair[1].value - pair[0].value);
        *routes.entry(route).or_default() += rises.filter(|rise| *rise > 0.0 && rise.is_finite()).sum::<f64>();
    }
    let mut routes: Vec<_> = routes.into_iter().collect();
    routes.sort_by(|a, b| b.1.total_cmp(&a.1));
    routes.truncate(MOST_ROUTES);
    routes.into_iter().map(|(route, _)| route).collect()
}

#[cfg(test)]
mod tests;
