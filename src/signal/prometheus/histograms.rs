//! Histograms of durations from a Prometheus server, as raw samples. How they are put together stands in `signal::histogram`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rollbackd_core::observation::{Histogram, Missing, Reading};

use super::super::Signal;
use super::super::histogram::{Assembly, Family, Run, described};
use super::super::http::Clients;
use super::super::selector::Selector;
use super::super::series::{SERIES_LIMIT, shift};
use super::found::{Found, Starts, job_and_instance, newest, shared_labels, target};
use super::questions::{Data, Questions, Source, signed};
use super::{Examined, PrometheusError, Server};

/// Histograms on a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The server.
    pub server: Server,
    /// A selector of the histogram by the name that its series have in common, without `_bucket`.
    pub histogram: String,
    /// The scrape interval there, unless the looks show a longer one; two of them without a sample are blindness.
    pub every: Duration,
}

/// Histograms on a Prometheus server.
#[derive(Debug)]
pub struct Histograms {
    settings: Settings,
    family: Family,
    /// What selects all series of it.
    parts: Arc<Selector>,
    source: Source,
}

/// One look takes no more series of all histograms together. The largest answer holds about as many.
const PART_LIMIT: usize = 50_000;

/// Which runs of one histogram are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runs {
    Newest,
    All,
}

impl Histograms {
    /// Histograms that are asked for with one of `clients`.
    ///
    /// # Errors
    /// When the selector or a certificate can't be used.
    pub fn new(settings: Settings, clients: Arc<Clients>) -> Result<Self, PrometheusError> {
        let family = Family::parse(&settings.histogram)
            .map_err(|source| PrometheusError::Histogram { selector: settings.histogram.clone(), source })?;
        let source = Source::new(settings.server.clone(), clients)?;
        let parts = Selector::parse(&family.of_parts())
            .map_err(|source| PrometheusError::Selector { selector: settings.histogram.clone(), source })?;
        Ok(Self { settings, family, parts: Arc::new(parts), source })
    }

    /// Tries the server, the credentials and the selector.
    ///
    /// # Errors
    /// With the reason why there would be no evidence.
    pub async fn examine(&self) -> Result<Examined, Missing> {
        let questions = self.source.questions()?;
        let at = questions.clock().await?;
        let span = signed(self.settings.every * 6).max(SignedDuration::from_mins(10));
        let found = questions.samples(&self.family.of_parts(), span, at, PART_LIMIT).await?;
        if found.is_empty() {
            return Err(self.none(&questions, at).await);
        }
        let mut oddities: Vec<String> = self.source.oddity(&self.settings.histogram, &found, self.settings.every, at).into_iter().collect();
        let (histograms, left_out) = self.put_together(found, &Starts::new(), SignedDuration::ZERO, Runs::Newest)?;
        oddities.extend(left_out.map(|why| format!("{}: some are left out: {why}", self.source.address)));
        Ok(Examined { found: described(&histograms), oddities })
    }

    async fn look(&self, now: Timestamp) -> Result<Vec<Histogram>, Missing> {
        let questions = self.source.questions()?;
        self.source.unless_resting(&questions, Box::pin(self.ask(&questions, now))).await
    }

    async fn ask(&self, questions: &Questions<'_>, now: Timestamp) -> Result<Vec<Histogram>, Missing> {
        let at = questions.clock().await?;
        // One question for all parts: they are of the same moment, or a scrape could be torn apart.
        let found = self.source.newest(questions, &self.family.of_parts(), self.settings.every, at, PART_LIMIT).await?;
        let Some(newest) = newest(&found) else { return Err(self.none(questions, at).await) };
        let age = at.duration_since(newest);
        let fresh = self.source.fresh(self.settings.every);
        if age > fresh {
            return Err(Missing::Stale { age });
        }
        // Who doesn't say when its process began just isn't known to be young.
        let starts = questions.process_starts(&self.family.of_counts(), at).await.unwrap_or_default();
        let shift = shift(at, now);
        let (histograms, left_out) = self.put_together(found, &starts, shift, Runs::Newest)?;
        let whole = histograms.iter().filter_map(|histogram| histogram.samples.last()).map(|sample| sample.at).max();
        let oldest = at.saturating_add(shift).and_then(|now| now.saturating_sub(fresh)).ok();
        match left_out {
            // What is whole is too old, because what came since is not.
            Some(why) if whole < oldest => Err(Missing::Malformed(format!("{}: {why}", self.source.address))),
            _ => Ok(histograms),
        }
    }

    /// Raw samples of the past, in the server's own time. A histogram whose bounds changed is there once
    /// for each time with the same ones.
    ///
    /// # Errors
    /// With the reason why there are none.
    pub async fn look_back(&self, from: Timestamp, to: Timestamp) -> Result<Vec<Histogram>, Missing> {
        let found = self.source.past(&self.family.of_parts(), &self.parts, from, to).await?;
        Ok(self.put_together(found, &Starts::new(), SignedDuration::ZERO, Runs::All)?.0)
    }

    /// Why nothing matches: it may be there in another form.
    async fn none(&self, questions: &Questions<'_>, at: Timestamp) -> Missing {
        let no_series = Missing::NoSeries(format!("{}_bucket", self.family.name()));
        let Ok(Data::Vector(points)) = questions.ask(&self.family.of_base(), Some(at)).await else { return no_series };
        let name = self.family.name();
        if points.iter().any(|point| point.histogram.is_some()) {
            return questions.malformed(&format!(
                "{name} is a native histogram, and classic buckets are needed: scrape them too (`always_scrape_classic_histograms`)"
            ));
        } else if !points.is_empty() {
            return questions.malformed(&format!("{name} is a metric without buckets: a histogram is needed"));
        }
        no_series
    }

    /// What can be put together, and why something could not, if there is something else.
    fn put_together(
        &self,
        found: Vec<Found>,
        starts: &Starts,
        shift: SignedDuration,
        taken: Runs,
    ) -> Result<(Vec<Histogram>, Option<String>), Missing> {
        let shared = shared_labels(found.iter());
        let mut assembly = Assembly::new(&self.family);
        for mut series in found {
            let name = series.labels.remove("__name__").unwrap_or_default();
            let labels = std::mem::take(&mut series.labels);
            assembly.add(&name, labels, series.shifted(shift));
        }
        if assembly.len() > SERIES_LIMIT {
            let (address, number, histogram) = (&self.source.address, assembly.len(), &self.settings.histogram);
            return Err(Missing::TooLarge(format!("{address}: {number} histograms match {histogram}, at most {SERIES_LIMIT}")));
        }
        let (mut histograms, mut left_out) = (Vec::new(), None);
        for (labels, parts) in assembly.into_parts() {
            let (mut runs, flaw) = parts.runs();
            if taken == Runs::Newest {
                runs.drain(..runs.len().saturating_sub(1));
            }
            left_out = left_out.or_else(|| flaw.map(|flaw| self.family.explained(&labels, &flaw)));
            let started = starts.get(&job_and_instance(&labels)).and_then(|at| at.checked_add(shift).ok());
            let put = |run: Run| self.family.histogram(&labels, target(&labels, &shared), started, run);
            histograms.extend(runs.into_iter().map(put));
        }
        match left_out {
            Some(why) if histograms.is_empty() => Err(Missing::Malformed(format!("{}: {why}", self.source.address))),
            left_out => Ok((histograms, left_out)),
        }
    }
}

#[async_trait]
impl Signal for Histograms {
    async fn read(&self, now: Timestamp) -> Reading {
        match self.look(now).await {
            Ok(histograms) => Reading::Histograms(histograms),
            Err(missing) => Reading::Missing(missing),
        }
    }

    async fn history(&self, from: Timestamp, to: Timestamp) -> Reading {
        self.look_back(from, to).await.map_or_else(Reading::Missing, Reading::Histograms)
    }

    fn pace(&self) -> Option<SignedDuration> {
        self.source.pace()
    }

    fn past_id(&self) -> Option<String> {
        Some(format!("{}\nhistogram {}", self.source.id(), self.settings.histogram))
    }

    async fn check(&self, _now: Timestamp) -> Result<String, String> {
        self.examine().await.map(Examined::into_words).map_err(|missing| missing.to_string())
    }
}

#[cfg(test)]
mod tests;
