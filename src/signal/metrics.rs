//! Counters read straight from a service's own metrics endpoints, one for each replica, for services without a Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, HeaderMap};
use rollbackd_core::observation::{Missing, Reading, Sample, Scrape, Series};
use url::Url;

use super::Signal;
use super::exposition::{self, Format, Parser};
use super::http::{Access, AccessError, Answer, Clients, Connections, Deadline, shown};
use super::rest::Rest;
use super::selector::{Selector, SelectorError};
use super::series::{BODY_LIMIT, Labels, SERIES_LIMIT, canonical, shift, time};

/// A pair of counters on metrics endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The endpoints, one for each replica.
    pub targets: Vec<Url>,
    /// Selector of the counter of all requests: a metric name with matchers as in PromQL (`=`, `!=`, `=~`, `!~`).
    pub total: String,
    /// The same of failed requests.
    pub failed: String,
    /// The longest time that is waited for an answer. Default 5 s.
    pub timeout: Duration,
    /// Trust and credentials.
    pub access: Access,
}

/// The metrics endpoints of one service. A replica that can't be read has no series in this look; only when none can be read is there
/// nothing.
#[derive(Debug)]
pub struct Metrics {
    settings: Settings,
    total: Selector,
    failed: Selector,
    /// Each target's name, unique among them.
    names: Vec<String>,
    /// Of each target.
    rests: Vec<Rest>,
    clients: Arc<Clients>,
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
        let (total, failed) = (selector(&settings.total)?, selector(&settings.failed)?);
        clients.check(&settings.access, Connections::Kept)?;
        let rests = settings.targets.iter().map(|_| Rest::default()).collect();
        Ok(Self { names: unique(&settings.targets), rests, settings, total, failed, clients })
    }

    async fn look(&self, now: Timestamp) -> Result<Scrape, Missing> {
        let client = &self.clients.client(&self.settings.access, Connections::Kept)?;
        let headers = &self.settings.access.to_headers()?;
        let targets = self.settings.targets.iter().zip(&self.names).zip(&self.rests);
        let asking = targets.map(|((url, name), rest)| rest.unless(self.ask(client, headers, url, name, now)));
        let mut scrape = Scrape::default();
        let mut first_missing = None;
        let mut answered = false;
        for asked in join_all(asking).await {
            match asked {
                Ok(target) => {
                    answered = true;
                    scrape.total.extend(target.total);
                    scrape.failed.extend(target.failed);
                }
                Err(missing) => first_missing = first_missing.or(Some(missing)),
            }
        }
        match first_missing {
            Some(missing) if !answered => Err(missing),
            _ if scrape.total.len().max(scrape.failed.len()) > SERIES_LIMIT => Err(too_many()),
            _ if scrape.total.is_empty() => Err(Missing::NoSeries(self.settings.total.clone())),
            _ => Ok(scrape),
        }
    }

    /// What is there, and how many bytes came.
    async fn ask(
        &self,
        client: &reqwest::Client,
        headers: &HeaderMap,
        url: &Url,
        name: &str,
        now: Timestamp,
    ) -> (usize, Result<Scrape, Missing>) {
        let request = client.get(url.clone()).header(ACCEPT, FORMATS).headers(headers.clone());
        match Answer::to(request.send(), Deadline::after(self.settings.timeout)).await {
            Ok(mut answer) => {
                let scrape = self.take(&mut answer, name, now).await;
                (answer.received(), scrape)
            }
            Err(fault) => (0, Err(fault.into_missing(name))),
        }
    }

    async fn take(&self, answer: &mut Answer, name: &str, now: Timestamp) -> Result<Scrape, Missing> {
        let missing = |fault: super::http::Fault| fault.into_missing(name);
        if answer.status() != 200 {
            return Err(Missing::Refused(format!("{name}: status {}", answer.status())));
        }
        let shift = answer
            .header("date")
            .and_then(|date| rfc2822::parse(date).ok())
            .map_or(SignedDuration::ZERO, |date| shift(date.timestamp(), now));
        let malformed = |error: exposition::ParseError| Missing::Malformed(format!("{name}: {error}"));
        let mut parser = Parser::new(Format::of(answer.header("content-type")));
        let mut found = Found::new(&self.total, &self.failed);
        while let Some(chunk) = answer.chunk(BODY_LIMIT).await.map_err(missing)? {
            parser.feed(chunk.as_ref(), |sample| found.take(sample)).map_err(malformed)?;
        }
        parser.finish(|sample| found.take(sample)).map_err(malformed)?;
        found.into_scrape(name, now, shift)
    }
}

#[async_trait]
impl Signal for Metrics {
    async fn read(&self, now: Timestamp) -> Reading {
        match self.look(now).await {
            Ok(scrape) => Reading::Scrape(scrape),
            Err(missing) => Reading::Missing(missing),
        }
    }

    async fn history(&self, _from: Timestamp, _to: Timestamp) -> Reading {
        Reading::Missing(Missing::NoHistory)
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

/// What was found in one text so far.
struct Found<'a> {
    selectors: [&'a Selector; 2],
    /// Of the two selectors: name, labels, value. One more than is allowed at most.
    counters: [Vec<(String, Labels, f64)>; 2],
    /// When counters began, by the name of the counter's family and its labels. At most as many as counters.
    created: BTreeMap<(String, Labels), f64>,
    process_started: Option<f64>,
}

impl<'a> Found<'a> {
    fn new(total: &'a Selector, failed: &'a Selector) -> Self {
        Self { selectors: [total, failed], counters: [Vec::new(), Vec::new()], created: BTreeMap::new(), process_started: None }
    }

    fn take(&mut self, sample: &exposition::Sample<'_>) {
        if sample.name == "process_start_time_seconds" {
            self.process_started = Some(sample.value);
        }
        for (selector, counters) in self.selectors.iter().zip(&mut self.counters) {
            if counters.len() <= SERIES_LIMIT
                && selector.may_match(&sample.name)
                && selector.matches(&sample.name, |label| sample.label(label))
            {
                counters.push((sample.name.to_string(), labels(sample), sample.value));
            }
        }
        // It can stand before or after its counter.
        if let Some(family) = sample.name.strip_suffix("_created")
            && self.created.len() <= 2 * SERIES_LIMIT
            && self.selectors.iter().any(|selector| selector.may_match(family) || selector.may_match(&format!("{family}_total")))
        {
            self.created.insert((family.to_owned(), labels(sample)), sample.value);
        }
    }

    fn into_scrape(self, target: &str, now: Timestamp, shift: SignedDuration) -> Result<Scrape, Missing> {
        let (created, process_started) = (self.created, self.process_started);
        let began = |name: &str, labels: &Labels| {
            let family = name.strip_suffix("_total").unwrap_or(name);
            let own = created.get(&(family.to_owned(), labels.clone())).copied();
            // The series' own beginning is the better one: it may be younger than the process.
            own.or(process_started).and_then(time).and_then(|at| at.checked_add(shift).ok())
        };
        let [total, failed] = self.counters.map(|counters| series(counters, target, now, &began));
        Ok(Scrape { total: total?, failed: failed? })
    }
}

fn labels(sample: &exposition::Sample<'_>) -> Labels {
    sample.labels().map(|(label, value)| (label.into_owned(), value.into_owned())).collect()
}

fn series(
    counters: Vec<(String, Labels, f64)>,
    target: &str,
    now: Timestamp,
    began: &dyn Fn(&str, &Labels) -> Option<Timestamp>,
) -> Result<Vec<Series>, Missing> {
    if counters.len() > SERIES_LIMIT {
        return Err(too_many());
    }
    let mut seen = BTreeSet::new();
    let mut series = Vec::new();
    for (name, mut labels, value) in counters {
        let process_started = began(&name, &labels);
        // Replicas have the same labels; the target tells them apart, as it does in Prometheus.
        if let Some(own) = labels.insert("instance".to_owned(), target.to_owned()) {
            labels.insert("exported_instance".to_owned(), own);
        }
        let id = canonical(&name, &labels);
        if !seen.insert(id.clone()) {
            return Err(Missing::Malformed(format!("{target}: the series {id} stands in it twice")));
        }
        series.push(Series { id, target: target.to_owned(), process_started, route: None, samples: vec![Sample { at: now, value }] });
    }
    Ok(series)
}

#[cfg(test)]
mod tests;
