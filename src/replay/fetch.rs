//! Samples of the past from a server that keeps them, piece by piece, through the adapters that the daemon reads with.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::observation::{Histogram, Missing, Reading, Scrape, Series};

use super::catalogue::{Catalogue, Kind, Labels, Slot};
use super::openmetrics::Taker as _;
use crate::signal::Signal;
use crate::signal::exposition;
use crate::signal::histogram::{Family, Part};

/// What is asked for at once; less where an answer is too large.
const PIECE: SignedDuration = SignedDuration::from_hours(1);
const SMALLEST_PIECE: SignedDuration = SignedDuration::from_mins(1);

/// A piece is asked for so often before it is given up, with growing pauses.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Fetches what a signal's source has of the time from `from` to `to`. Gives how many samples that were.
///
/// # Errors
/// With the reason why a piece can't be had, in words.
pub async fn fetch(
    signal: &dyn Signal,
    question: usize,
    version_label: Option<&str>,
    from: Timestamp,
    to: Timestamp,
    catalogue: &mut Catalogue,
) -> Result<u64, String> {
    let (mut begin, mut piece, mut samples) = (from, PIECE, 0);
    while begin < to {
        let end = begin.saturating_add(piece).map_or(to, |end| end.min(to));
        // The edges of two pieces are the same moment, and servers differ in whether it belongs to both.
        let is_new = |at: Timestamp| at > begin || begin == from;
        match ask(signal, begin, end).await {
            Reading::Missing(Missing::TooLarge(_)) if piece > SMALLEST_PIECE => {
                piece = (piece / 2).max(SMALLEST_PIECE);
                continue;
            }
            Reading::Missing(missing) => return Err(format!("from {begin} to {end}: {missing}")),
            Reading::Scrape(scrape) => samples += take_scrape(&scrape, question, version_label, is_new, catalogue)?,
            Reading::Histograms(histograms) => samples += take_histograms(&histograms, question, is_new, catalogue)?,
            Reading::Probe(_) | Reading::Answer(_) => return Err("it keeps no samples".to_owned()),
        }
        begin = end;
    }
    Ok(samples)
}

async fn ask(signal: &dyn Signal, from: Timestamp, to: Timestamp) -> Reading {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match signal.history(from, to).await {
            Reading::Missing(Missing::Unreachable(_) | Missing::Refused(_)) => tokio::time::sleep(pause).await,
            reading => return reading,
        }
        pause *= 2;
    }
    signal.history(from, to).await
}

fn take_scrape(
    scrape: &Scrape,
    question: usize,
    version_label: Option<&str>,
    is_new: impl Fn(Timestamp) -> bool,
    catalogue: &mut Catalogue,
) -> Result<u64, String> {
    let mut samples = 0;
    let kinds = [(Kind::Total, &scrape.total), (Kind::Failed, &scrape.failed)];
    for (kind, series) in kinds.into_iter().flat_map(|(kind, all)| all.iter().map(move |series| (kind.clone(), series))) {
        let version = version_label.and_then(|label| version(series, label));
        let slot = Slot { question, kind, version, route: series.route.clone() };
        let number = catalogue.take(slot, &series.id, &series.target)?;
        for sample in series.samples.iter().filter(|sample| is_new(sample.at)) {
            catalogue.sample(number, sample.at.as_millisecond(), sample.value)?;
            samples += 1;
        }
    }
    Ok(samples)
}

/// A series is called as a text of samples would call it.
fn version(series: &Series, label: &str) -> Option<String> {
    let (named, _) = exposition::series(&series.id).ok()?;
    named.label(label).map(std::borrow::Cow::into_owned).filter(|version| !version.is_empty())
}

/// A histogram is kept in its parts, in the unit of its name, as a text of samples has them.
fn take_histograms(
    histograms: &[Histogram],
    question: usize,
    is_new: impl Fn(Timestamp) -> bool,
    catalogue: &mut Catalogue,
) -> Result<u64, String> {
    let unit = catalogue.family(question).map_or(1.0, Family::unit);
    let mut samples = 0;
    for histogram in histograms {
        let labels = Labels::from([("histogram".to_owned(), histogram.id.clone())]);
        let mut part = |part, le: Option<String>| {
            let id = format!("{} {part:?} {}", histogram.id, le.as_deref().unwrap_or_default());
            let slot = Slot { question, kind: Kind::Part { part, le, labels: labels.clone() }, version: None, route: None };
            catalogue.take(slot, &id, &histogram.target)
        };
        let (sum, count) = (part(Part::Sum, None)?, part(Part::Count, None)?);
        let buckets = histogram.bounds.iter().map(|bound| part(Part::Bucket, Some((bound / unit).to_string())));
        let buckets = buckets.collect::<Result<Vec<u32>, String>>()?;
        for sample in histogram.samples.iter().filter(|sample| is_new(sample.at)) {
            let at = sample.at.as_millisecond();
            catalogue.sample(sum, at, sample.sum / unit)?;
            catalogue.sample(count, at, sample.count)?;
            for (bucket, below) in buckets.iter().zip(&sample.below) {
                catalogue.sample(*bucket, at, *below)?;
            }
            samples += 2 + buckets.len() as u64;
        }
    }
    Ok(samples)
}
