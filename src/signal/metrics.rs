//! Counters and histograms read straight from a service's own metrics endpoints, one for each replica, for services without a Prometheus.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, HeaderMap};
use rollbackd_core::observation::{Histogram, Missing, Reading, Scrape};
use url::Url;

use super::exposition::{self, Format, Parser};
use super::histogram::{Family, FamilyError};
use super::http::{Access, AccessError, Answer, Clients, Connections, Deadline, shown};
use super::rest::Rest;
use super::selector::{Selector, SelectorError};
use super::series::{BODY_LIMIT, Labels, SERIES_LIMIT, shift};
use super::{Signal, checked};
use counters::Counters;
use durations::Durations;

mod counters;
mod durations;

/// What is read from metrics endpoints, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The endpoints, one for each replica.
    pub targets: Vec<Url>,
    /// What is read there.
    pub wanted: Wanted,
    /// The longest time that is waited for an answer. Default 5 s.
    pub timeout: Duration,
    /// Trust and credentials.
    pub access: Access,
}

/// What is read from metrics endpoints. Selectors are a metric name with matchers as in PromQL (`=`, `!=`, `=~`, `!~`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A pair of counters.
    Counters {
        /// Selector of the counter of all requests.
        total: String,
        /// The same of failed requests.
        failed: String,
        /// The label whose values are routes.
        by: Option<String>,
    },
    /// Histograms of durations: a selector by the name that their series have in common, without `_bucket`.
    Histogram(String),
}

/// The metrics endpoints of one service. A replica that can't be read has no series in this look; only when none can be read is there
/// nothing.
#[derive(Debug)]
pub struct Metrics {
    settings: Settings,
    wanted: Found,
    /// Each target's name, unique among them.
    names: Vec<String>,
    /// Of each target.
    rests: Vec<Rest>,
    clients: Arc<Clients>,
}

/// What is wanted, ready to look for it.
#[derive(Debug)]
enum Found {
    Counters { named: String, total: Selector, failed: Selector, by: Option<String> },
    Histogram(Family),
}

/// What comes from a text, sample by sample.
trait Collect: Send {
    /// What it becomes.
    type Whole: Send;

    /// Takes in the next sample.
    fn take(&mut self, sample: &exposition::Sample<'_>);

    /// All of it, as read from `target` at `now`; `shift` is added to the target's own times.
    fn whole(self, target: &str, now: Timestamp, shift: SignedDuration) -> Result<Self::Whole, Missing>;
}

/// Settings that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// No or too many endpoints.
    #[error("there are 1 to {MAX_TARGETS} metrics endpoints, not {0}")]
    Targets(usize),
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

/// No service has more: all are asked at once.
const MAX_TARGETS: usize = 64;

/// The older format first: there the names are those that a person sees who looks at the endpoint (`OpenMetrics` appends `_total`).
const FORMATS: &str = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";

impl Metrics {
    /// Endpoints that are asked with one of `clients`.
    ///
    /// # Errors
    /// When a selector or a certificate can't be used, or when there are no or more than 64 targets.
    pub fn new(settings: Settings, clients: Arc<Clients>) -> Result<Self, MetricsError> {
        if !(1..=MAX_TARGETS).contains(&settings.targets.len()) {
            return Err(MetricsError::Targets(settings.targets.len()));
        }
        let selector = |text: &String| Selector::parse(text).map_err(|source| MetricsError::Selector { selector: text.clone(), source });
        let wanted = match &settings.wanted {
            Wanted::Counters { total, failed, by } => {
                Found::Counters { named: total.clone(), total: selector(total)?, failed: selector(failed)?, by: by.clone() }
            }
            Wanted::Histogram(text) => {
                Found::Histogram(Family::parse(text).map_err(|source| MetricsError::Histogram { selector: text.clone(), source })?)
            }
        };
        clients.check(&settings.access, Connections::Kept)?;
        let rests = settings.targets.iter().map(|_| Rest::default()).collect();
        Ok(Self { names: unique(&settings.targets), rests, settings, wanted, clients })
    }

    async fn look(&self, now: Timestamp) -> Result<Reading, Missing> {
        match &self.wanted {
            Found::Counters { named, total, failed, by } => {
                let scrapes = self.ask_all(now, || Counters::new(total, failed, by.as_deref())).await?;
                counters(scrapes, named).map(Reading::Scrape)
            }
            Found::Histogram(family) => {
                let histograms = self.ask_all(now, || Durations::new(family, now)).await?;
                durations(histograms, family).map(Reading::Histograms)
            }
        }
    }

    /// What each target that can be read has.
    async fn ask_all<C: Collect>(&self, now: Timestamp, begin: impl Fn() -> C) -> Result<Vec<C::Whole>, Missing> {
        let client = &self.clients.client(&self.settings.access, Connections::Kept)?;
        let headers = &self.settings.access.to_headers()?;
        let targets = self.settings.targets.iter().zip(&self.names).zip(&self.rests);
        let asking = targets.map(|((url, name), rest)| rest.unless(self.ask(client, headers, url, name, now, begin())));
        let mut found = Vec::new();
        let mut first_missing = None;
        for asked in join_all(asking).await {
            match asked {
                Ok(whole) => found.push(whole),
                Err(missing) => first_missing = first_missing.or(Some(missing)),
            }
        }
        match first_missing {
            Some(missing) if found.is_empty() => Err(missing),
            _ => Ok(found),
        }
    }

    /// What is there, and how many bytes came.
    async fn ask<C: Collect>(
        &self,
        client: &reqwest::Client,
        headers: &HeaderMap,
        url: &Url,
        name: &str,
        now: Timestamp,
        begun: C,
    ) -> (usize, Result<C::Whole, Missing>) {
        let request = client.get(url.clone()).header(ACCEPT, FORMATS).headers(headers.clone());
        match Answer::to(request.send(), Deadline::after(self.settings.timeout)).await {
            Ok(mut answer) => {
                let whole = take(&mut answer, name, now, begun).await;
                (answer.received(), whole)
            }
            Err(fault) => (0, Err(fault.into_missing(name))),
        }
    }
}

async fn take<C: Collect>(answer: &mut Answer, name: &str, now: Timestamp, mut begun: C) -> Result<C::Whole, Missing> {
    let missing = |fault: super::http::Fault| fault.into_missing(name);
    if answer.status() != 200 {
        return Err(Missing::Refused(format!("{name}: status {}", answer.status())));
    }
    let shift =
        answer.header("date").and_then(|date| rfc2822::parse(date).ok()).map_or(SignedDuration::ZERO, |date| shift(date.timestamp(), now));
    let malformed = |error: exposition::ParseError| Missing::Malformed(format!("{name}: {error}"));
    let mut parser = Parser::new(Format::of(answer.header("content-type")));
    while let Some(chunk) = answer.chunk(BODY_LIMIT).await.map_err(missing)? {
        parser.feed(chunk.as_ref(), |sample| begun.take(sample)).map_err(malformed)?;
    }
    parser.finish(|sample| begun.take(sample)).map_err(malformed)?;
    begun.whole(name, now, shift)
}

/// What all targets together have.
fn counters(scrapes: Vec<Scrape>, named: &str) -> Result<Scrape, Missing> {
    let mut all = Scrape::default();
    for scrape in scrapes {
        all.total.extend(scrape.total);
        all.failed.extend(scrape.failed);
    }
    if all.total.len().max(all.failed.len()) > SERIES_LIMIT {
        Err(too_many())
    } else if all.total.is_empty() {
        Err(Missing::NoSeries(named.to_owned()))
    } else {
        Ok(all)
    }
}

/// The same of histograms; a target may have some that are not whole.
fn durations(found: Vec<(Vec<Histogram>, Option<String>)>, family: &Family) -> Result<Vec<Histogram>, Missing> {
    let (histograms, left_out): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let histograms: Vec<_> = histograms.into_iter().flatten().collect();
    match left_out.into_iter().flatten().next() {
        _ if histograms.len() > SERIES_LIMIT => Err(too_many()),
        Some(why) if histograms.is_empty() => Err(Missing::Malformed(why)),
        None if histograms.is_empty() => Err(Missing::NoSeries(format!("{}_bucket", family.name()))),
        _ => Ok(histograms),
    }
}

#[async_trait]
impl Signal for Metrics {
    async fn read(&self, now: Timestamp) -> Reading {
        self.look(now).await.unwrap_or_else(Reading::Missing)
    }

    async fn history(&self, _from: Timestamp, _to: Timestamp) -> Reading {
        Reading::Missing(Missing::NoHistory)
    }

    async fn check(&self, now: Timestamp) -> Result<String, String> {
        let reading = self.read(now).await;
        let lacks_routes = match (&self.settings.wanted, &reading) {
            (Wanted::Counters { by: Some(by), .. }, Reading::Scrape(scrape)) => {
                scrape.total.iter().all(|series| series.route.is_none()).then(|| format!("; none of them has the label `{by}`"))
            }
            _ => None,
        };
        Ok(checked(&reading)? + &lacks_routes.unwrap_or_default())
    }
}

/// Addresses as they may be shown; those that look the same then are numbered.
fn unique(targets: &[Url]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for target in targets {
        let name = shown(target);
        let same = names.iter().filter(|other| other.split(" #").next() == Some(&name)).count();
        names.push(if same == 0 { name } else { format!("{name} #{}", same + 1) });
    }
    names
}

fn too_many() -> Missing {
    Missing::TooLarge(format!("more than {SERIES_LIMIT} series"))
}

fn labels(sample: &exposition::Sample<'_>) -> Labels {
    sample.labels().map(|(label, value)| (label.into_owned(), value.into_owned())).collect()
}

/// Replicas have the same labels; the target tells them apart, as it does in Prometheus.
fn told_apart(labels: &mut Labels, target: &str) {
    if let Some(own) = labels.insert("instance".to_owned(), target.to_owned()) {
        labels.insert("exported_instance".to_owned(), own);
    }
}

#[cfg(test)]
mod tests;
