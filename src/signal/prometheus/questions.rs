//! Questions to a Prometheus server: within one deadline, of one moment, in bounded pieces. What is asked for is not decided here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus_http_query::Client;
use reqwest::header::HeaderMap;
use rollbackd_core::observation::{Missing, Sample};
use rollbackd_core::words;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::Semaphore;

use super::super::http::{AccessError, Answer, Clients, Connections, Deadline, Fault, plain, shown};
use super::super::rest::Rest;
use super::super::selector::Selector;
use super::super::series::{BODY_LIMIT, Labels, time};
use super::Server;
use super::found::{Found, Starts, interval, job_and_instance, newest};
use super::joint::{Joint, Question};

/// History takes more series than one look: those of replicas that are gone.
const HISTORY_SERIES_LIMIT: usize = 10_000;

/// All samples of one history, 24 MiB of memory: a week of 25 series at 15 s.
const HISTORY_SAMPLE_LIMIT: usize = 1_000_000;

/// History that is too large for one answer is fetched in shorter pieces.
const SMALLEST_PIECE: SignedDuration = SignedDuration::from_mins(1);

/// The longest history: a week.
const HISTORY_LIMIT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A server as one signal gets at it.
#[derive(Debug)]
pub(super) struct Source {
    server: Server,
    /// Its address as it may be shown.
    pub(super) address: String,
    seats: Arc<Semaphore>,
    rest: Rest,
    joint: Arc<Joint>,
    clients: Arc<Clients>,
    /// How often it is scraped, in milliseconds, once a look has shown that; 0 before.
    scraped: AtomicI64,
}

/// From so long a piece it is told how often something is scraped: ten scrapes of Prometheus' own default, four at the rarest that it takes
/// for alive.
const TELLING: SignedDuration = SignedDuration::from_mins(10);

impl Source {
    /// A server that is asked with one of `clients`.
    pub(super) fn new(server: Server, clients: Arc<Clients>) -> Result<Self, AccessError> {
        clients.check(&server.access, Connections::Kept)?;
        let address = shown(&server.url);
        let joint = clients.shared(&id(&address, &server));
        Ok(Self { seats: clients.seats(&address), address, server, rest: Rest::default(), joint, clients, scraped: AtomicI64::new(0) })
    }

    /// What it is known by where what it said is kept.
    pub(super) fn id(&self) -> String {
        id(&self.address, &self.server)
    }

    /// A piece of the past. Who asks for the same of another service meanwhile is answered with it.
    pub(super) async fn past(&self, text: &str, selector: &Arc<Selector>, from: Timestamp, to: Timestamp) -> Result<Vec<Found>, Missing> {
        let fetch = |text: String, alone: bool| async move {
            let questions = self.questions()?;
            let found = if alone {
                questions.history(&text, from, to).await?
            } else {
                questions.samples(&text, to.duration_since(from), to, HISTORY_SERIES_LIMIT).await?
            };
            Ok((found, questions.received.into_inner()))
        };
        let question = Question { text: text.to_owned(), selector: Arc::clone(selector), from, to };
        self.joint.ask(question, fetch).await
    }

    /// Questions that have to be answered from now on within the server's time limit.
    pub(super) fn questions(&self) -> Result<Questions<'_>, Missing> {
        let client = self.clients.client(&self.server.access, Connections::Kept)?;
        // The library puts a slash of its own behind the base address.
        let client = Client::from(client, self.server.url.as_str().trim_end_matches('/'))
            .map_err(|error| Missing::Unreachable(format!("{}: {}", self.address, plain(&error.to_string()))))?;
        let headers = self.server.access.to_headers()?;
        let deadline = Deadline::after(self.server.timeout);
        Ok(Questions { client, headers, deadline, address: &self.address, seats: &self.seats, received: AtomicUsize::new(0) })
    }

    /// How often it is scraped; known after a look.
    pub(super) fn pace(&self) -> Option<SignedDuration> {
        let scraped = self.scraped.load(Ordering::Relaxed);
        (scraped > 0).then(|| SignedDuration::from_millis(scraped))
    }

    /// The time from one sample to the next: what was said, unless it is scraped clearly more rarely.
    fn step(&self, every: Duration) -> SignedDuration {
        self.pace().filter(|scraped| *scraped > signed(every * 3 / 2)).unwrap_or(signed(every))
    }

    /// The newest samples of what is looked at once `every`, or as rarely as it is scraped. The first look takes in more than is of use, which
    /// shows how often that is.
    pub(super) async fn newest(
        &self,
        questions: &Questions<'_>,
        selector: &str,
        every: Duration,
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<Found>, Missing> {
        let usual = self.look(every);
        if self.scraped.load(Ordering::Relaxed) == 0 && usual < TELLING {
            match questions.samples(selector, TELLING, at, limit).await {
                // What is too much of ten minutes may do in one. It is taken to be scraped as often as was said.
                Err(Missing::TooLarge(_)) => self.scraped_every(signed(every)),
                Err(missing) => return Err(missing),
                Ok(mut found) => {
                    if let Some(interval) = interval(&found) {
                        self.scraped_every(interval);
                    }
                    let oldest = at.saturating_sub(self.look(every)).unwrap_or(Timestamp::MIN);
                    for series in &mut found {
                        series.samples.retain(|sample| sample.at > oldest);
                    }
                    found.retain(|series| !series.samples.is_empty());
                    return Ok(found);
                }
            }
        }
        questions.samples(selector, usual, at, limit).await
    }

    fn scraped_every(&self, interval: SignedDuration) {
        self.scraped.store(interval.as_millis().try_into().unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// So far back a look reaches.
    pub(super) fn look(&self, every: Duration) -> SignedDuration {
        self.step(every).saturating_mul(6).max(SignedDuration::from_secs(30))
    }

    /// How old the newest sample may be.
    pub(super) fn fresh(&self, every: Duration) -> SignedDuration {
        self.step(every).saturating_mul(2)
    }

    /// What is odd about how often and how lately series were scraped, which are asked for as `name`.
    pub(super) fn oddity(&self, name: &str, series: &[Found], every: Duration, at: Timestamp) -> Option<String> {
        let address = &self.address;
        if let Some(interval) = interval(series).filter(|interval| *interval > signed(every * 3 / 2)) {
            let interval = words::duration(interval);
            return Some(format!(
                "{address}: {name} is scraped every {interval}, so it is looked at as rarely, and not every {every:?}: everything that is \
                 told by it takes that much longer"
            ));
        }
        let age = newest(series).map(|newest| at.duration_since(newest)).filter(|age| *age > signed(every * 2))?;
        Some(format!("{address}: the newest sample of {name} is {} old", words::duration(age)))
    }

    /// What `asking` gives with these questions, unless the server rests from them.
    pub(super) async fn unless_resting<T>(
        &self,
        questions: &Questions<'_>,
        asking: impl Future<Output = Result<T, Missing>>,
    ) -> Result<T, Missing> {
        let ask = async {
            let asked = asking.await;
            (questions.received.load(Ordering::Relaxed), asked)
        };
        self.rest.unless(ask).await
    }
}

/// Whom one asks as may decide what one is told. Of a secret there is nothing but where it is kept.
fn id(address: &str, server: &Server) -> String {
    format!("{address}\n{:?}", server.access)
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
pub(super) enum Data {
    Matrix(Vec<RawSeries>),
    Vector(Vec<RawPoint>),
    Scalar((f64, String)),
    String(IgnoredAny),
}

#[derive(Deserialize)]
pub(super) struct RawSeries {
    metric: Labels,
    #[serde(default)]
    values: Vec<(f64, String)>,
    /// There for native histograms.
    histograms: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct RawPoint {
    pub(super) metric: Labels,
    pub(super) value: Option<(f64, String)>,
    /// There for native histograms.
    pub(super) histogram: Option<IgnoredAny>,
}

/// Questions to the server that share one deadline.
pub(super) struct Questions<'a> {
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
    pub(super) async fn clock(&self) -> Result<Timestamp, Missing> {
        let value = match self.ask("time()", None).await? {
            Data::Scalar((_, value)) => Some(value),
            // VictoriaMetrics answers with a vector of one.
            Data::Vector(points) => points.into_iter().next().and_then(|point| point.value).map(|(_, value)| value),
            Data::Matrix(_) | Data::String(_) => None,
        };
        value.and_then(|value| value.parse().ok()).and_then(time).ok_or_else(|| self.malformed("no time where one was asked for"))
    }

    /// The raw samples of a selector in the time `span` before `at`.
    pub(super) async fn samples(&self, selector: &str, span: SignedDuration, at: Timestamp, limit: usize) -> Result<Vec<Found>, Missing> {
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

    pub(super) async fn process_starts(&self, selector: &str, at: Timestamp) -> Result<Starts, Missing> {
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

    pub(super) async fn history(&self, selector: &str, from: Timestamp, to: Timestamp) -> Result<Vec<Found>, Missing> {
        if to.duration_since(from) > HISTORY_LIMIT {
            return Err(Missing::TooLarge(format!("a history of {:#}, at most {HISTORY_LIMIT:#}", to.duration_since(from))));
        }
        let mut all: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
        let mut count = 0;
        let mut piece = to.duration_since(from);
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

    pub(super) async fn ask(&self, query: &str, at: Option<Timestamp>) -> Result<Data, Missing> {
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

    pub(super) fn malformed(&self, why: &str) -> Missing {
        Missing::Malformed(format!("{}: {}", self.address, plain(why)))
    }

    fn refused(&self, status: u16, why: Option<&str>) -> Missing {
        let why = why.map_or_else(String::new, |why| format!(": {}", plain(why)));
        Missing::Refused(format!("{}: status {status}{why}", self.address))
    }
}

/// The ranges of durations here are far below the limit of either type.
pub(super) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
