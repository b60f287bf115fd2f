//! HTTP probes: one round over all targets of a service, and whose fault it is when one does not pass.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use reqwest::header::HeaderMap;
use rollbackd_core::observation::{Missing, ProbeOutcome, ProbeRound, Reading};
use tokio::time::Instant;
use url::Url;

use super::Signal;
use super::http::{Access, AccessError, Answer, Clients, Connections, Deadline, Fault, plain, shown};

/// What a probe asks and what it expects.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The addresses, one for each target. At most 64.
    pub targets: Vec<Url>,
    /// Method; `GET` unless said.
    pub method: String,
    /// Statuses that are well: inclusive ranges. Default 200 to 299.
    pub status: Vec<(u16, u16)>,
    /// A text that the body must contain.
    pub body_contains: Option<String>,
    /// A value that the body, read as JSON, must have at a JSON pointer (RFC 6901).
    pub json: Option<(String, serde_json::Value)>,
    /// The longest time that an answer may take and still be well.
    pub latency_limit: Option<Duration>,
    /// The longest time that is waited for an answer. Default 2 s.
    pub timeout: Duration,
    /// One fresh connection for each probe (default), or kept ones.
    pub fresh_connection: bool,
    /// How often a redirect to the same host is followed. Default 0.
    pub redirects: usize,
    /// Trust and credentials.
    pub access: Access,
}

/// A probe of one service.
#[derive(Debug)]
pub struct Probe {
    settings: Settings,
    method: Method,
    clients: Arc<Clients>,
}

/// Settings that no probe can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Not a method.
    #[error("{0:?} is not an HTTP method")]
    Method(String),
    /// A round over no or too many targets.
    #[error("a probe has 1 to {MAX_TARGETS} targets, not {0}")]
    Targets(usize),
    /// Certificates or secrets.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// No probe has more targets: all of them are asked at once.
const MAX_TARGETS: usize = 64;

/// No more of a body is read: 64 KiB.
const BODY_LIMIT: usize = 64 * 1024;

impl Probe {
    /// A probe that asks with one of `clients`.
    ///
    /// # Errors
    /// When the method is not one, when there are no or more than 64 targets, or when certificates can't be used.
    pub fn new(settings: Settings, clients: Arc<Clients>) -> Result<Self, ProbeError> {
        let method = Method::from_bytes(settings.method.as_bytes()).map_err(|_| ProbeError::Method(settings.method.clone()))?;
        if !(1..=MAX_TARGETS).contains(&settings.targets.len()) {
            return Err(ProbeError::Targets(settings.targets.len()));
        }
        let probe = Self { settings, method, clients };
        probe.clients.check(&probe.settings.access, probe.connections())?;
        Ok(probe)
    }

    fn connections(&self) -> Connections {
        if self.settings.fresh_connection { Connections::Fresh } else { Connections::Kept }
    }

    async fn round(&self) -> Result<ProbeRound, AccessError> {
        let client = &self.clients.client(&self.settings.access, self.connections())?;
        let headers = &self.settings.access.to_headers()?;
        let asking = self.settings.targets.iter().map(|target| self.outcome(client, headers, target));
        Ok(ProbeRound { targets: join_all(asking).await })
    }

    async fn outcome(&self, client: &reqwest::Client, headers: &HeaderMap, target: &Url) -> (String, ProbeOutcome) {
        let outcome = match self.ask(client, headers, target).await {
            Ok(latency) => ProbeOutcome::Passed { latency },
            Err(outcome) => outcome,
        };
        (shown(target), outcome)
    }

    async fn ask(&self, client: &reqwest::Client, headers: &HeaderMap, target: &Url) -> Result<SignedDuration, ProbeOutcome> {
        let began = Instant::now();
        let (mut answer, lookup) = self.follow(client, headers, target).await?;
        self.judge_status(answer.status())?;
        if self.settings.body_contains.is_some() || self.settings.json.is_some() {
            let body = answer.body(BODY_LIMIT).await.map_err(|fault| blame(fault, target))?;
            self.judge_body(&body)?;
        }
        self.judge_latency(began.elapsed().saturating_sub(lookup))
    }

    /// The answer, after the redirects that may be followed, and what the lookups of names took.
    async fn follow(&self, client: &reqwest::Client, headers: &HeaderMap, target: &Url) -> Result<(Answer, Duration), ProbeOutcome> {
        let deadline = Deadline::after(self.settings.timeout);
        let mut url = target.clone();
        let mut lookup = Duration::ZERO;
        for _ in 0..=self.settings.redirects {
            let request = client.request(self.method.clone(), url.clone()).headers(headers.clone());
            let answer = Answer::to(request.send(), deadline).await.map_err(|fault| blame(fault, target))?;
            lookup += answer.lookup;
            if self.settings.redirects == 0 {
                return Ok((answer, lookup));
            }
            match redirection(&url, &answer) {
                Some(next) => url = next,
                None => return Ok((answer, lookup)),
            }
        }
        let why = format!("{}: redirected more than {} times", shown(target), self.settings.redirects);
        Err(ProbeOutcome::Missing(Missing::Malformed(why)))
    }

    fn judge_status(&self, status: u16) -> Result<(), ProbeOutcome> {
        if self.settings.status.iter().any(|&(lowest, highest)| (lowest..=highest).contains(&status)) {
            return Ok(());
        }
        let expected: Vec<_> = self.settings.status.iter().map(|&range| words(range)).collect();
        Err(ProbeOutcome::Failed(format!("status {status}, expected {}", expected.join(" or "))))
    }

    fn judge_body(&self, body: &[u8]) -> Result<(), ProbeOutcome> {
        if let Some(text) = &self.settings.body_contains
            && !String::from_utf8_lossy(body).contains(text.as_str())
        {
            return Err(ProbeOutcome::Failed(format!("the body does not contain {text:?}")));
        }
        let Some((pointer, expected)) = &self.settings.json else { return Ok(()) };
        let body: serde_json::Value =
            serde_json::from_slice(body).map_err(|error| ProbeOutcome::Failed(format!("the body is not JSON: {error}")))?;
        match body.pointer(pointer) {
            Some(found) if found == expected => Ok(()),
            Some(found) => {
                let found = plain(&found.to_string());
                Err(ProbeOutcome::Failed(format!("the body has {found} at {pointer:?}, expected {expected}")))
            }
            None => Err(ProbeOutcome::Failed(format!("the body has nothing at {pointer:?}, expected {expected}"))),
        }
    }

    fn judge_latency(&self, latency: Duration) -> Result<SignedDuration, ProbeOutcome> {
        match self.settings.latency_limit {
            Some(limit) if latency > limit => {
                let latency = Duration::from_millis(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
                Err(ProbeOutcome::Failed(format!("answered after {latency:?}, limit {limit:?}")))
            }
            _ => Ok(SignedDuration::try_from(latency).unwrap_or(SignedDuration::MAX)),
        }
    }
}

#[async_trait]
impl Signal for Probe {
    async fn read(&self, _now: Timestamp) -> Reading {
        match self.round().await {
            Ok(round) => Reading::Probe(round),
            Err(error) => Reading::Missing(error.into()),
        }
    }

    async fn history(&self, _from: Timestamp, _to: Timestamp) -> Reading {
        Reading::Missing(Missing::NoHistory)
    }
}

/// Where an answer sends the request on, if it may go there: the same host and port, or the same host's encrypted side. Any other
/// redirect is an answer like others.
fn redirection(from: &Url, answer: &Answer) -> Option<Url> {
    if !matches!(answer.status(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let to = from.join(answer.header("location")?).ok()?;
    let same_port = to.scheme() == from.scheme() && to.port_or_known_default() == from.port_or_known_default();
    let encrypted_side = from.scheme() == "http" && to.scheme() == "https";
    (to.host() == from.host() && (same_port || encrypted_side)).then_some(to)
}

fn words((lowest, highest): (u16, u16)) -> String {
    if lowest == highest { lowest.to_string() } else { format!("{lowest} to {highest}") }
}

/// Whose fault it is. Only what a dead or broken service itself does counts against it.
fn blame(fault: Fault, target: &Url) -> ProbeOutcome {
    match fault {
        Fault::Connection(_) | Fault::Silent(_) => ProbeOutcome::Failed(fault.to_string()),
        fault => ProbeOutcome::Missing(fault.into_missing(&shown(target))),
    }
}

#[cfg(test)]
mod tests;
