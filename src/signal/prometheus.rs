//! Counters from a Prometheus server, as raw samples: a range selector as an instant query gives what was scraped, without the smearing and
//! extrapolating of `rate()`. What the counters mean is not decided here. Histograms and questions of the operator's own are read from the
//! same servers: see below.
//!
//! HTTP API: <https://prometheus.io/docs/prometheus/latest/querying/api/>.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rollbackd_core::observation::{Missing, Reading, Scrape, Series};
use url::Url;

use super::histogram::FamilyError;
use super::http::{Access, AccessError, Clients};
use super::selector::{Selector, SelectorError};
use super::series::{SERIES_LIMIT, canonical, shift};
use super::{Signal, some};
use found::{Found, Starts, job_and_instance, newest, shared_labels, target};
use questions::{Questions, Source, signed};

mod found;
pub mod histograms;
mod joint;
pub mod query;
mod questions;

/// One Prometheus server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its base address.
    pub url: Url,
    /// The longest time that is waited for an answer. Default 10 s.
    pub timeout: Duration,
    /// Trust and credentials.
    pub access: Access,
}

/// A pair of counters on a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The server.
    pub server: Server,
    /// Instant vector selector of the counter of all requests: a metric name with matchers, no function, no range.
    pub total: String,
    /// The same of failed requests.
    pub failed: String,
    /// The label whose values are routes.
    pub by: Option<String>,
    /// The scrape interval there, unless the looks show a longer one; two of them without a sample are blindness.
    pub every: Duration,
}

/// A pair of counters on a Prometheus server.
#[derive(Debug)]
pub struct Prometheus {
    settings: Settings,
    source: Source,
    total: Arc<Selector>,
    failed: Arc<Selector>,
    /// Whether what failed can be picked from among all requests without another question.
    picks: bool,
}

/// Settings that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// A selector.
    #[error("cannot use {selector:?}")]
    Selector {
        /// The selector.
        selector: String,
        /// What is wrong with it.
        #[source]
        source: SelectorError,
    },
    /// A selector of a histogram.
    #[error("cannot use {selector:?}")]
    Histogram {
        /// The selector.
        selector: String,
        /// What is wrong with it.
        #[source]
        source: FamilyError,
    },
    /// Certificates or secrets.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// What a check of a source found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// What is there.
    pub found: String,
    /// What an operator should know although nothing is broken.
    pub oddities: Vec<String>,
}

impl Examined {
    fn into_words(self) -> String {
        std::iter::once(self.found).chain(self.oddities).collect::<Vec<_>>().join("; ")
    }
}

/// Whether a text is a plain instant vector selector, so that a range can be put behind it. Says what is wrong and where.
///
/// # Errors
/// When it is not one.
pub fn validate_selector(text: &str) -> Result<(), String> {
    Selector::parse(text).map(|_| ()).map_err(|error| error.to_string())
}

impl Prometheus {
    /// Counters that are asked for with one of `clients`.
    ///
    /// # Errors
    /// When a selector or a certificate can't be used.
    pub fn new(settings: Settings, clients: Arc<Clients>) -> Result<Self, PrometheusError> {
        let selector = |text: &String| Selector::parse(text).map_err(|source| PrometheusError::Selector { selector: text.clone(), source });
        let (total, failed) = (selector(&settings.total)?, selector(&settings.failed)?);
        let source = Source::new(settings.server.clone(), clients)?;
        Ok(Self { picks: failed.picks_from(&total), total: Arc::new(total), failed: Arc::new(failed), source, settings })
    }

    /// Tries the server, the credentials and both selectors.
    ///
    /// # Errors
    /// With the reason why there would be no evidence.
    pub async fn examine(&self) -> Result<Examined, Missing> {
        let questions = self.source.questions()?;
        let at = questions.clock().await?;
        let span = signed(self.settings.every * 6).max(SignedDuration::from_mins(10));
        let total = questions.samples(&self.settings.total, span, at, SERIES_LIMIT).await?;
        let failed = questions.samples(&self.settings.failed, span, at, SERIES_LIMIT).await?;
        if total.is_empty() {
            return Err(Missing::NoSeries(self.settings.total.clone()));
        }
        let mut oddities = Vec::new();
        if failed.is_empty() {
            let (address, failed) = (&self.source.address, &self.settings.failed);
            oddities.push(format!("{address}: no series match {failed} now: no request has failed yet, or the selector is wrong"));
        }
        oddities.extend(self.source.oddity(&self.settings.total, &total, self.settings.every, at));
        let mut found = if oddities.is_empty() { "both selectors match".to_owned() } else { "both selectors can be asked".to_owned() };
        if let Some(by) = &self.settings.by {
            let routes = routes(by, &total);
            found = format!("{found}, {}", some(routes.len(), "route"));
            oddities.extend(self.lack_of_routes(by, &total, &failed));
        }
        Ok(Examined { found, oddities })
    }

    fn lack_of_routes(&self, by: &str, total: &[Found], failed: &[Found]) -> Option<String> {
        let lacks = |series: &[Found]| !series.is_empty() && routes(by, series).is_empty();
        let (selector, series) = match (lacks(total), lacks(failed)) {
            (true, _) => (&self.settings.total, total),
            (false, true) => (&self.settings.failed, failed),
            (false, false) => return None,
        };
        let labels: BTreeSet<&str> = series.iter().flat_map(|found| found.labels.keys()).map(String::as_str).collect();
        let labels: Vec<&str> = labels.into_iter().filter(|label| *label != "__name__").collect();
        Some(format!("{}: no series of {selector} has the label `{by}`; they have: {}", self.source.address, labels.join(", ")))
    }

    async fn look(&self, now: Timestamp) -> Result<Scrape, Missing> {
        let questions = self.source.questions()?;
        self.source.unless_resting(&questions, Box::pin(self.ask(&questions, now))).await
    }

    async fn ask(&self, questions: &Questions<'_>, now: Timestamp) -> Result<Scrape, Missing> {
        let settings = &self.settings;
        // All questions are answered as of one moment of the server's, or a scrape between two of them would be in one answer only.
        let at = questions.clock().await?;
        let total = self.source.newest(questions, &settings.total, settings.every, at, SERIES_LIMIT).await?;
        let newest = newest(&total).ok_or_else(|| Missing::NoSeries(settings.total.clone()))?;
        let age = at.duration_since(newest);
        if age > self.source.fresh(settings.every) {
            return Err(Missing::Stale { age });
        }
        let picked = self.pick(&total);
        let failed = async {
            match picked {
                Some(failed) => Ok(failed),
                None => questions.samples(&settings.failed, self.source.look(settings.every), at, SERIES_LIMIT).await,
            }
        };
        // Who doesn't say when its process began just isn't known to be young.
        let started = async { questions.process_starts(&settings.total, at).await.unwrap_or_default() };
        let (failed, started) = tokio::join!(failed, started);
        Ok(self.scrape(total, failed?, &started, shift(at, now)))
    }

    async fn look_back(&self, from: Timestamp, to: Timestamp) -> Result<Scrape, Missing> {
        let total = self.source.past(&self.settings.total, &self.total, from, to).await?;
        let failed = match self.pick(&total) {
            Some(failed) => failed,
            None => self.source.past(&self.settings.failed, &self.failed, from, to).await?,
        };
        Ok(self.scrape(total, failed, &BTreeMap::new(), SignedDuration::ZERO))
    }

    /// What failed, from among all requests; `None` where only the server can tell.
    fn pick(&self, total: &[Found]) -> Option<Vec<Found>> {
        // Whether the dot of a regular expression is also the end of a line depends on the version of the server.
        let has_lines = |found: &Found| found.labels.values().any(|value| value.contains('\n'));
        if !self.picks || total.iter().any(has_lines) {
            return None;
        }
        let has_failed = |found: &&Found| {
            let label = |name: &str| found.labels.get(name).map(|value| value.as_str().into());
            self.failed.matches(found.name(), label)
        };
        Some(total.iter().filter(has_failed).cloned().collect())
    }

    fn scrape(&self, total: Vec<Found>, failed: Vec<Found>, starts: &Starts, shift: SignedDuration) -> Scrape {
        let shared = shared_labels(total.iter().chain(&failed));
        let series = |found: Found| {
            let target = target(&found.labels, &shared);
            let process_started = starts.get(&job_and_instance(&found.labels)).and_then(|at| at.checked_add(shift).ok());
            let id = canonical(found.name(), found.labels.iter().filter(|(label, _)| *label != "__name__"));
            let route = self.settings.by.as_ref().and_then(|by| found.labels.get(by)).filter(|route| !route.is_empty()).cloned();
            Series { id, target, process_started, route, samples: found.shifted(shift) }
        };
        let total: Vec<_> = total.into_iter().map(series).collect();
        let mut failed: Vec<_> = failed.into_iter().map(series).collect();
        cut_to(&total, &mut failed);
        Scrape { total, failed }
    }
}

/// The values of the label that tells routes apart.
fn routes<'a>(by: &str, series: &'a [Found]) -> BTreeSet<&'a str> {
    series.iter().filter_map(|found| found.labels.get(by)).map(String::as_str).filter(|route| !route.is_empty()).collect()
}

#[async_trait]
impl Signal for Prometheus {
    async fn read(&self, now: Timestamp) -> Reading {
        match self.look(now).await {
            Ok(scrape) => Reading::Scrape(scrape),
            Err(missing) => Reading::Missing(missing),
        }
    }

    /// In the server's own time: without a `now` there is nothing to tell its clock by.
    async fn history(&self, from: Timestamp, to: Timestamp) -> Reading {
        self.look_back(from, to).await.map_or_else(Reading::Missing, Reading::Scrape)
    }

    fn pace(&self) -> Option<SignedDuration> {
        self.source.pace()
    }

    fn past_id(&self) -> Option<String> {
        let Settings { total, failed, by, .. } = &self.settings;
        Some(format!("{}\n{total}\n{failed}\n{by:?}", self.source.id()))
    }

    async fn check(&self, _now: Timestamp) -> Result<String, String> {
        self.examine().await.map(Examined::into_words).map_err(|missing| missing.to_string())
    }
}

/// Failed requests are asked for after all requests; a scrape that was stored in between would show failures of requests that nobody made.
fn cut_to(total: &[Series], failed: &mut [Series]) {
    let mut newest: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for series in total {
        if let Some(sample) = series.samples.last() {
            let newest = newest.entry(&series.target).or_insert(sample.at);
            *newest = sample.at.max(*newest);
        }
    }
    for series in failed {
        if let Some(newest) = newest.get(series.target.as_str()) {
            series.samples.retain(|sample| sample.at <= *newest);
        }
    }
}

#[cfg(test)]
mod tests;
