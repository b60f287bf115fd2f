//! The time before a deployment: hours that are kept already, and hours that are fetched, in pieces that are bounded and newest first. A
//! baseline must come in time, so what can't be had by then is left out. What it means is the judge's business.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::observation::{Missing, Reading};
use rollbackd_core::past::{Hour, Past};
use tokio::time::{Instant, sleep, timeout_at};

use crate::clock::Clock;
use crate::signal::Signal;

mod store;

pub use store::{Kept, PastId, Store};

/// A deployment is first judged after the grace of 60 s: so long the past may take, if any of it is known by then.
const IN_TIME: Duration = Duration::from_secs(40);

/// The first piece has so many hours at most; each further one twice as many, as long as the answers are small.
const FIRST_HOURS: usize = 2;
const MOST_HOURS: usize = 8;

/// An answer is small up to so many samples: 1 MiB of memory, and about as much on the wire.
const SMALL: usize = 40_000;

/// Samples of an hour may come to a server so late. Until then the hour is not kept, because it would never be asked for again.
const SETTLED: SignedDuration = SignedDuration::from_mins(10);

/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What is wanted of a signal's past.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What it is about, for messages.
    pub name: String,
    /// From then.
    pub from: Timestamp,
    /// Until then.
    pub to: Timestamp,
    /// The time from one sample to the next.
    pub every: SignedDuration,
}

/// A past of which as much is there as could be had in time, apart from what is kept.
#[derive(Debug)]
pub struct Gathered {
    every: SignedDuration,
    id: Option<PastId>,
    wanted: Vec<Hour>,
    /// What is not kept: the present hour above all.
    fresh: Past,
}

/// Fetches what lacks. Ends as soon as all of it is there, and after 40 s if anything is; who knows nothing at all asks again and
/// again. Nothing large is in memory at any time: what was fetched is kept piece by piece.
pub async fn gather(signal: &dyn Signal, store: &Store, wanted: &Wanted, clock: Clock) -> Gathered {
    let hours = Past::wanted(wanted.from, wanted.to);
    let id = signal.past_id().map(|id| PastId::new(&id, wanted.every));
    let mut search = Search { signal, store, wanted, clock, id, lacking: hours.clone(), fresh: Past::new(wanted.every), knows: false };
    search.find_kept().await;
    search.fetch().await;
    Gathered { every: wanted.every, id, wanted: hours, fresh: search.fresh }
}

impl Gathered {
    /// All of it, from where it is kept.
    pub async fn load(self, store: &Store) -> Past {
        let mut past = Past::new(self.every);
        if let Some(id) = self.id {
            for (hour, counted) in store.find(id, &self.wanted).await {
                if let Err(error) = past.decode(hour, &counted) {
                    tracing::warn!(hour = hour.number(), %error, "a part of what was kept of the past can't be read");
                }
            }
        }
        past.join(self.fresh);
        past
    }
}

struct Search<'a> {
    signal: &'a dyn Signal,
    store: &'a Store,
    wanted: &'a Wanted,
    clock: Clock,
    id: Option<PastId>,
    /// In the order in which they are asked for.
    lacking: Vec<Hour>,
    fresh: Past,
    /// Whether anything was found, be it that there is nothing.
    knows: bool,
}

/// Hours that follow each other, to be fetched at once.
struct Piece {
    hours: BTreeSet<Hour>,
    from: Timestamp,
    to: Timestamp,
}

impl Search<'_> {
    async fn find_kept(&mut self) {
        let Some(id) = self.id else { return };
        let whole: Vec<Hour> = self.lacking.iter().copied().filter(|hour| self.is_whole(*hour)).collect();
        let mut probe = Past::new(self.wanted.every);
        for (hour, counted) in self.store.find(id, &whole).await {
            // What can't be read is fetched again, and replaced.
            if probe.decode(hour, &counted).is_ok() {
                self.lacking.retain(|lacking| *lacking != hour);
                self.knows = true;
            }
        }
    }

    async fn fetch(&mut self) {
        let in_time = Instant::now() + IN_TIME;
        let mut most = FIRST_HOURS;
        let mut pause = Duration::from_secs(1);
        while let Some(piece) = self.next(most) {
            let ask = self.signal.history(back(piece.from, Past::overlap(self.wanted.every)), piece.to);
            let reading = if self.knows { timeout_at(in_time, ask).await.ok() } else { Some(ask.await) };
            match reading {
                None | Some(Reading::Missing(Missing::NoHistory)) => break,
                Some(Reading::Missing(missing)) => {
                    let name = &self.wanted.name;
                    tracing::warn!(signal = %name, from = %piece.from, to = %piece.to, %missing, "a part of the past can't be read, will try again");
                    self.put_off(&piece);
                    most = (piece.hours.len() / 2).max(1);
                    let paused = sleep(pause);
                    if self.knows {
                        let _ = timeout_at(in_time, paused).await;
                    } else {
                        paused.await;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Some(reading) => {
                    most = if samples(&reading) <= SMALL { (most * 2).min(MOST_HOURS) } else { piece.hours.len() };
                    pause = Duration::from_secs(1);
                    self.knows = true;
                    self.take(&piece, &reading).await;
                }
            }
            if self.knows && Instant::now() >= in_time {
                break;
            }
        }
        if !self.lacking.is_empty() {
            let (lacking, wanted) = (self.lacking.len(), Past::wanted(self.wanted.from, self.wanted.to).len());
            tracing::info!(signal = %self.wanted.name, lacking, wanted, "not all hours of the past could be had in time, it is judged by the others");
        }
    }

    /// The next hours that follow each other.
    fn next(&self, most: usize) -> Option<Piece> {
        let newest = *self.lacking.first()?;
        let mut hours = BTreeSet::from([newest]);
        for hour in self.lacking.iter().skip(1).take(most.saturating_sub(1)) {
            if hours.first().is_none_or(|oldest| hour.next() != *oldest) {
                break;
            }
            hours.insert(*hour);
        }
        let from = hours.first().map_or(newest, |oldest| *oldest).begin();
        Some(Piece { hours, from, to: newest.end().min(self.wanted.to) })
    }

    /// What fails is asked for again after everything else, lest it keep that away.
    fn put_off(&mut self, piece: &Piece) {
        self.lacking.retain(|hour| !piece.hours.contains(hour));
        self.lacking.extend(piece.hours.iter().rev());
    }

    async fn take(&mut self, piece: &Piece, reading: &Reading) {
        self.lacking.retain(|hour| !piece.hours.contains(hour));
        let mut past = Past::new(self.wanted.every);
        past.take(reading, piece.from, piece.to);
        let whole = piece.hours.iter().filter(|hour| self.is_whole(**hour));
        // An hour of nothing is asked for again the next time: who has it may only have been away.
        let kept: Vec<Kept> = whole.filter_map(|hour| Some((*hour, past.encode(*hour)?))).collect();
        let numbers: Vec<Hour> = kept.iter().map(|(hour, _)| *hour).collect();
        let is_kept = match self.id {
            Some(id) if !kept.is_empty() => self.store.keep(id, kept, self.clock.now()).await,
            _ => false,
        };
        if is_kept {
            past.forget(&numbers);
        }
        self.fresh.join(past);
    }

    /// Whether nothing will be added to an hour any more.
    fn is_whole(&self, hour: Hour) -> bool {
        hour.end() <= self.wanted.to && hour.end() <= back(self.clock.now(), SETTLED)
    }
}

fn back(at: Timestamp, time: SignedDuration) -> Timestamp {
    at.checked_sub(time).unwrap_or(Timestamp::MIN)
}

fn samples(reading: &Reading) -> usize {
    match reading {
        Reading::Scrape(scrape) => scrape.total.iter().chain(&scrape.failed).map(|series| series.samples.len()).sum(),
        Reading::Histograms(histograms) => histograms.iter().map(|one| one.samples.len() * (one.bounds.len() + 2)).sum(),
        Reading::Probe(_) | Reading::Answer(_) | Reading::Missing(_) => 0,
    }
}

#[cfg(test)]
mod tests;
