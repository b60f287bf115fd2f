//! Where evidence comes from. One adapter value reads one signal of one service.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rollbackd_core::observation::{Answered, ProbeOutcome, ProbeRound, Reading, Scrape};

pub mod http;
pub mod probe;
pub mod selector;
pub mod prometheus;
pub mod metrics;
pub mod exposition;
pub mod histogram;
mod rest;
mod series;
pub(crate) use series::canonical;

/// A source of readings.
///
/// Guarantees: every call ends within the signal's own time limit, costs a bounded number of bytes, and turns every fault into
/// `Missing` with its reason. Times in samples are the source's own, shifted to `now` of the caller where the source's clock is known to
/// differ. Caveat: nothing of the samples is remembered between calls, differences of counters are the judge's business; only a source
/// whose answers are too large is asked less often than it is read, and is missing meanwhile.
#[async_trait]
pub trait Signal: Send + Sync {
    /// Looks once. `now` is the caller's time.
    async fn read(&self, now: Timestamp) -> Reading;

    /// One piece of the past in the source's own time, where the source keeps it: the raw samples from `from` to `to`, of all series that
    /// there were, or the reason why there are none. A piece in which nothing was counted is empty and not missing; one that is too
    /// large is asked for in shorter ones.
    async fn history(&self, from: Timestamp, to: Timestamp) -> Reading;

    /// How often there is anything new to read; known after a look.
    fn pace(&self) -> Option<SignedDuration> {
        None
    }

    /// What its past is known by, so that it need not be fetched twice: equal for signals that ask the same source for the same series, and
    /// free of secrets. `None` where the source keeps none.
    fn past_id(&self) -> Option<String> {
        None
    }

    /// Tries the source for `check --connect`, and says in words what is there.
    ///
    /// # Errors
    /// With what is wrong, in words.
    async fn check(&self, now: Timestamp) -> Result<String, String> {
        checked(&self.read(now).await)
    }
}

/// A reading in the words of a check.
fn checked(reading: &Reading) -> Result<String, String> {
    match reading {
        Reading::Probe(round) => check_round(round),
        Reading::Scrape(scrape) => Ok(check_scrape(scrape)),
        Reading::Histograms(histograms) => Ok(histogram::described(histograms)),
        Reading::Answer(answer) => Ok(check_answer(answer)),
        Reading::Missing(missing) => Err(missing.to_string()),
    }
}

fn check_round(round: &ProbeRound) -> Result<String, String> {
    let words = |(target, outcome): &(String, ProbeOutcome)| match outcome {
        ProbeOutcome::Passed { .. } => None,
        ProbeOutcome::Failed(why) => Some(format!("{target}: {why}")),
        ProbeOutcome::Missing(missing) => Some(format!("{target}: {missing}")),
    };
    let wrong: Vec<_> = round.targets.iter().filter_map(words).collect();
    if wrong.is_empty() { Ok(format!("{} targets pass", round.targets.len())) } else { Err(wrong.join("; ")) }
}

fn check_scrape(scrape: &Scrape) -> String {
    let routes: BTreeSet<&str> = scrape.total.iter().filter_map(|series| series.route.as_deref()).collect();
    let counted = format!("{} series of all requests, {} of failed ones", scrape.total.len(), scrape.failed.len());
    if routes.is_empty() { counted } else { format!("{counted}, {}", some(routes.len(), "route")) }
}

fn check_answer(answer: &[Answered]) -> String {
    match answer {
        [] => "the query has no answer now".to_owned(),
        [first, ..] => format!(
            "the query has an answer now, {}, such as {} = {}: what is there before a deployment already is not held against it",
            some(answer.len(), "line"),
            first.id,
            first.value
        ),
    }
}

/// `1 route`, `8 routes`.
fn some(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod testing;
