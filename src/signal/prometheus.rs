//! Counters from a Prometheus server, as raw samples: a range selector as an instant query gives what was scraped, without the smearing and
//! extrapolating of `rate()`. What the counters mean is not decided here.
//!
//! HTTP API: <https://prometheus.io/docs/prometheus/latest/querying/api/>.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use prometheus_http_query::Client;
use reqwest::header::HeaderMap;
use rollbackd_core::observation::{Missing, Reading, Sample, Scrape, Series};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::Semaphore;
use url::Url;

use super::Signal;
use super::http::{Access, AccessError, Answer, Clients, Connections, Deadline, Fault, plain, shown};
use super::rest::Rest;
use super::selector::{Selector, SelectorError};
use super::series::{BODY_LIMIT, Labels, SERIES_LIMIT, canonical, shift, time};

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
    /// The scrape interval there; two of them without a sample are blindness.
    pub every: Duration,
}

/// A pair of counters on a Prometheus server.
#[derive(Debug)]
pub struct Prometheus {
    settings: Settings,
    /// The server's address as it may be shown.
    address: String,
    seats: Arc<Semaphore>,
    rest: Rest,
    clients: Arc<Clients>,
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
    /// Certificates or secrets.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// History takes more series than one look: those of replicas that are gone.
const HISTORY_SERIES_LIMIT: usize = 10_000;

/// All samples of one history, 24 MiB of memory: a week of 25 series at 15 s.
const HISTORY_SAMPLE_LIMIT: usize = 1_000_000;

/// History is fetched in pieces of one hour, smaller ones where an hour is too large for one answer.
const PIECE: SignedDuration = SignedDuration::from_hours(1);
const SMALLEST_PIECE: SignedDuration = SignedDuration::from_mins(1);

/// The longest history: a week.
const HISTORY_LIMIT: SignedDuration = SignedDuration::from_hours(7 * 24);

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
        for selector in [&settings.total, &settings.failed] {
            Selector::parse(selector).map_err(|source| PrometheusError::Selector { selector: selector.clone(), source })?;
        }
        clients.check(&settings.server.access, Connections::Kept)?;
        let address = shown(&settings.server.url);
        Ok(Self { seats: clients.seats(&address), address, settings, rest: Rest::default(), clients })
    }

    /// Tries the server, the credentials and both selectors. Returns what an operator should know although nothing is broken.
    ///
    /// # Errors
    /// With the reason why there would be no evidence.
    pub async fn examine(&self) -> Result<Vec<String>, Missing> {
        let questions = self.questions()?;
        let at = questions.clock().await?;
        let mut warnings = Vec::new();
        let span = signed(self.settings.every * 6).max(SignedDuration::from_mins(10));
        let total = questions.samples(&self.settings.total, span, at, SERIES_LIMIT).await?;
        let failed = questions.samples(&self.settings.failed, span, at, SERIES_LIMIT).await?;
        if total.is_empty() {
            return Err(Missing::NoSeries(self.settings.total.clone()));
        } else if failed.is_empty() {
            let failed = &self.settings.failed;
            warnings.push(format!("{}: no series match {failed} now: no request has failed yet, or the selector is wrong", self.address));
        }
        let every = self.settings.every;
        let name = &self.settings.total;
        if let Some(interval) = interval(&total).filter(|interval| *interval > signed(every * 3 / 2)) {
            warnings.push(format!("{}: {name} is scraped every {interval:#}, not every {every:?}", self.address));
        } else if let Some(age) = newest(&total).map(|newest| at.duration_since(newest)).filter(|age| *age > signed(every * 2)) {
            warnings.push(format!("{}: the newest sample of {name} is {age:#} old", self.address));
        }
        Ok(warnings)
    }

    fn questions(&self) -> Result<Questions<'_>, Missing> {
        let server = &self.settings.server;
        let client = self.clients.client(&server.access, Connections::Kept)?;
        // The library puts a slash of its own behind the base address.
        let client = Client::from(client, server.url.as_str().trim_end_matches('/'))
            .map_err(|error| Missing::Unreachable(format!("{}: {}", self.address, plain(&error.to_string()))))?;
        let headers = server.access.to_headers()?;
        let deadline = Deadline::after(server.timeout);
        Ok(Questions { client, headers, deadline, address: &self.address, seats: &self.seats, received: AtomicUsize::new(0) })
    }

    async fn look(&self, now: Timestamp) -> Result<Scrape, Missing> {
        let ask = async {
            let questions = match self.questions() {
                Ok(questions) => questions,
                Err(missing) => return (0, Err(missing)),
            };
            let scrape = self.ask(&questions, now).await;
            (questions.received.into_inner(), scrape)
        };
        self.rest.unless(ask).await
    }

    async fn ask(&self, questions: &Questions<'_>, now: Timestamp) -> Result<Scrape, Missing> {
        let settings = &self.settings;
        // All questions are answered as of one moment of the server's, or a scrape between two of them would be in one answer only.
        let at = questions.clock().await?;
        let span = signed(settings.every * 6).max(SignedDuration::from_secs(30));
        let total = questions.samples(&settings.total, span, at, SERIES_LIMIT).await?;
        let newest = newest(&total).ok_or_else(|| Missing::NoSeries(settings.total.clone()))?;
        let age = at.duration_since(newest);
        if age > signed(settings.every * 2) {
            return Err(Missing::Stale { age });
        }
        let (failed, started) = tokio::join!(
            questions.samples(&settings.failed, span, at, SERIES_LIMIT),
            // Who doesn't say when its process began just isn't known to be young.
            async { questions.process_starts(&settings.total, at).await.unwrap_or_default() },
        );
        Ok(scrape(total, failed?, &started, shift(at, now)))
    }

    async fn look_back(&self, from: Timestamp, to: Timestamp) -> Result<Scrape, Missing> {
        if to.duration_since(from) > HISTORY_LIMIT {
            return Err(Missing::TooLarge(format!("a history of {:#}, at most {HISTORY_LIMIT:#}", to.duration_since(from))));
        }
        let questions = self.questions()?;
        let total = questions.history(&self.settings.total, from, to).await?;
        let failed = questions.history(&self.settings.failed, from, to).await?;
        Ok(scrape(total, failed, &BTreeMap::new(), SignedDuration::ZERO))
    }
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

    fn past_id(&self) -> Option<String> {
        let Settings { server, total, failed, .. } = &self.settings;
        // Whom one asks as may decide what one is told. Of a secret there is nothing but where it is kept.
        Some(format!("{}\n{:?}\n{total}\n{failed}", self.address, server.access))
    }

    async fn check(&self, _now: Timestamp) -> Result<String, String> {
        match self.examine().await {
            Ok(warnings) if warnings.is_empty() => Ok("both selectors match".to_owned()),
            Ok(warnings) => Ok(format!("both selectors can be asked; {}", warnings.join("; "))),
            Err(missing) => Err(missing.to_string()),
        }
    }
}

/// What the API answers.
#[derive(Deserialize)]
struct Reply {
    status: String,
    data: Option<Data>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Matrix(Vec<RawSeries>),
    Vector(Vec<RawPoint>),
    Scalar((f64, String)),
    String(IgnoredAny),
}

#[derive(Deserialize)]
struct RawSeries {
    metric: Labels,
    #[serde(default)]
    values: Vec<(f64, String)>,
    /// There for native histograms.
    histograms: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawPoint {
    metric: Labels,
    value: Option<(f64, String)>,
}

/// A series before it is known which target it belongs to.
#[derive(Clone, Debug)]
struct Found {
    labels: Labels,
    samples: Vec<Sample>,
}

/// When processes began, by `job` and `instance`.
type Starts = BTreeMap<(String, String), Timestamp>;

/// Questions to the server that share one deadline.
struct Questions<'a> {
    client: Client,
    headers: HeaderMap,
    deadline: Deadline,
    address: &'a str,
    seats: &'a Semaphore,
    /// How many bytes came in all answers.
    received: AtomicUsize,
}

impl Questions<'_> {
    /// The server's own time.
    async fn clock(&self) -> Result<Timestamp, Missing> {
        let value = match self.ask("time()", None).await? {
            Data::Scalar((_, value)) => Some(value),
            // VictoriaMetrics answers with a vector of one.
            Data::Vector(points) => points.into_iter().next().and_then(|point| point.value).map(|(_, value)| value),
            Data::Matrix(_) | Data::String(_) => None,
        };
        value.and_then(|value| value.parse().ok()).and_then(time).ok_or_else(|| self.malformed("no time where one was asked for"))
    }

    /// The raw samples of a selector in the time `span` before `at`.
    async fn samples(&self, selector: &str, span: SignedDuration, at: Timestamp, limit: usize) -> Result<Vec<Found>, Missing> {
        let query = format!("{}[{}ms]", selector.trim(), span.as_millis());
        let Data::Matrix(series) = self.ask(&query, Some(at)).await? else {
            return Err(self.malformed("another kind of result than the range of samples that was asked for"));
        };
        if series.len() > limit {
            return Err(Missing::TooLarge(format!("{}: {} series match {selector}, at most {limit}", self.address, series.len())));
        }
        series.into_iter().map(|series| self.found(series)).collect()
    }

    fn found(&self, series: RawSeries) -> Result<Found, Missing> {
        if series.values.is_empty() && series.histograms.is_some() {
            return Err(self.malformed("a native histogram where a counter was asked for"));
        }
        let sample = |(at, value): &(f64, String)| Some(Sample { at: time(*at)?, value: value.parse().ok()? });
        let samples = series.values.iter().map(sample).collect::<Option<Vec<_>>>();
        match samples {
            Some(samples) if samples.is_sorted_by_key(|sample| sample.at) => Ok(Found { labels: series.metric, samples }),
            _ => Err(self.malformed("samples that are not numbers in order of time")),
        }
    }

    async fn process_starts(&self, selector: &str, at: Timestamp) -> Result<Starts, Missing> {
        let query = format!("process_start_time_seconds and on (job, instance) ({})", selector.trim());
        let Data::Vector(points) = self.ask(&query, Some(at)).await? else { return Ok(Starts::new()) };
        let mut starts = Starts::new();
        for point in points {
            let Some(start) = point.value.and_then(|(_, value)| value.parse().ok()).and_then(time) else { continue };
            // Where several processes share a target, only the oldest says for sure that all are young.
            starts.entry(job_and_instance(&point.metric)).and_modify(|first| *first = start.min(*first)).or_insert(start);
        }
        Ok(starts)
    }

    async fn history(&self, selector: &str, from: Timestamp, to: Timestamp) -> Result<Vec<Found>, Missing> {
        let mut all: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
        let mut count = 0;
        let mut piece = PIECE;
        let mut begin = from;
        while begin < to {
            let end = begin.saturating_add(piece).map_or(to, |end| end.min(to));
            let found = match self.samples(selector, end.duration_since(begin), end, HISTORY_SERIES_LIMIT).await {
                Err(Missing::TooLarge(_)) if piece > SMALLEST_PIECE => {
                    piece = (piece / 2).max(SMALLEST_PIECE);
                    continue;
                }
                found => found?,
            };
            for series in found {
                let samples = all.entry(series.labels).or_default();
                // The edges of two pieces are the same moment, and servers differ in whether it belongs to both.
                let last = samples.last().map(|sample| sample.at);
                let before = samples.len();
                samples.extend(series.samples.into_iter().filter(|sample| last < Some(sample.at) && sample.at >= from));
                count += samples.len() - before;
            }
            if count > HISTORY_SAMPLE_LIMIT || all.len() > HISTORY_SERIES_LIMIT {
                let limits = format!("at most {HISTORY_SAMPLE_LIMIT} samples of {HISTORY_SERIES_LIMIT} series");
                return Err(Missing::TooLarge(format!("{}: the history of {selector}, {limits}", self.address)));
            }
            begin = end;
        }
        Ok(all.into_iter().map(|(labels, samples)| Found { labels, samples }).collect())
    }

    async fn ask(&self, query: &str, at: Option<Timestamp>) -> Result<Data, Missing> {
        let missing = |fault: Fault| fault.into_missing(self.address);
        let _seat = self.deadline.wait(self.seats.acquire()).await.map_err(missing)?;
        let left = i64::try_from(self.deadline.left().as_millis()).unwrap_or(i64::MAX).max(1);
        let mut request = self.client.query(query).timeout(left);
        if let Some(at) = at {
            let milliseconds = at.as_millisecond();
            request = request.query("time", format!("{}.{:03}", milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000)));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value.clone());
        }
        let mut answer = Answer::to(request.get_raw(), self.deadline).await.map_err(missing)?;
        let status = answer.status();
        let body = answer.body(BODY_LIMIT).await;
        self.received.fetch_add(answer.received(), Ordering::Relaxed);
        let body = body.map_err(|fault| match status {
            200 => missing(fault),
            _ => self.refused(status, None),
        })?;
        self.data(status, &body)
    }

    fn data(&self, status: u16, body: &[u8]) -> Result<Data, Missing> {
        let reply: Reply = serde_json::from_slice(body).map_err(|error| match status {
            200 => self.malformed(&format!("not an answer of the Prometheus API: {error}")),
            _ => self.refused(status, None),
        })?;
        if status != 200 || reply.status != "success" {
            let why = [reply.error_type, reply.error].into_iter().flatten().collect::<Vec<_>>().join(": ");
            return Err(self.refused(status, Some(&why)));
        }
        // Up to version 2 remarks on style stood among the warnings.
        let warnings = reply.warnings.unwrap_or_default().into_iter().filter(|warning| !warning.starts_with("PromQL info:"));
        let warnings = warnings.collect::<Vec<_>>().join("; ");
        if !warnings.is_empty() {
            return Err(Missing::Partial(format!("{}: {}", self.address, plain(&warnings))));
        }
        reply.data.ok_or_else(|| self.malformed("no data"))
    }

    fn malformed(&self, why: &str) -> Missing {
        Missing::Malformed(format!("{}: {}", self.address, plain(why)))
    }

    fn refused(&self, status: u16, why: Option<&str>) -> Missing {
        let why = why.map_or_else(String::new, |why| format!(": {}", plain(why)));
        Missing::Refused(format!("{}: status {status}{why}", self.address))
    }
}

fn job_and_instance(labels: &Labels) -> (String, String) {
    let label = |name| labels.get(name).cloned().unwrap_or_default();
    (label("job"), label("instance"))
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn newest(series: &[Found]) -> Option<Timestamp> {
    series.iter().filter_map(|series| series.samples.last()).map(|sample| sample.at).max()
}

/// The usual time between two samples.
fn interval(series: &[Found]) -> Option<SignedDuration> {
    let longest = series.iter().max_by_key(|series| series.samples.len())?;
    let mut gaps: Vec<_> = longest.samples.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied()
}

fn scrape(total: Vec<Found>, failed: Vec<Found>, starts: &Starts, shift: SignedDuration) -> Scrape {
    let shared = shared_labels(total.iter().chain(&failed));
    let series = |found: Found| {
        let target = target(&found.labels, &shared);
        let process_started = starts.get(&job_and_instance(&found.labels)).and_then(|at| at.checked_add(shift).ok());
        let name = found.labels.get("__name__").map_or("", String::as_str);
        let id = canonical(name, found.labels.iter().filter(|(label, _)| *label != "__name__"));
        let at = |at: Timestamp| at.checked_add(shift).unwrap_or(at);
        let samples = found.samples.into_iter().map(|sample| Sample { at: at(sample.at), ..sample }).collect();
        Series { id, target, process_started, route: None, samples }
    };
    let total: Vec<_> = total.into_iter().map(series).collect();
    let mut failed: Vec<_> = failed.into_iter().map(series).collect();
    cut_to(&total, &mut failed);
    Scrape { total, failed }
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

/// The labels that all series without an instance have in common.
fn shared_labels<'a>(series: impl Iterator<Item = &'a Found>) -> Labels {
    let mut without = series.map(|series| &series.labels).filter(|labels| !labels.contains_key("instance"));
    let mut shared = without.next().cloned().unwrap_or_default();
    for labels in without {
        shared.retain(|label, value| labels.get(label) == Some(value));
    }
    shared.remove("__name__");
    shared
}

/// What a series was scraped from: its job and instance, or, where that is not told, everything that it shares with the others.
fn target(labels: &Labels, shared: &Labels) -> String {
    match (labels.get("job"), labels.get("instance")) {
        (Some(job), Some(instance)) => format!("{job}/{instance}"),
        (None, Some(instance)) => instance.clone(),
        (_, None) => canonical("", shared),
    }
}

#[cfg(test)]
mod tests;
