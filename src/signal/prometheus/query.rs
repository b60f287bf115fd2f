//! A question of the operator's own, put to a Prometheus server as an alerting rule puts it: whatever it answers is the matter. The whole of
//! PromQL may stand in it; what the answer means is not decided here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rollbackd_core::observation::{Answered, Missing, Reading};

use super::super::Signal;
use super::super::http::{Clients, plain};
use super::super::series::canonical;
use super::questions::{Data, Questions, RawPoint, Source};
use super::{PrometheusError, Server};

/// A question to a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The server.
    pub server: Server,
    /// An expression of PromQL that gives an instant vector.
    pub query: String,
    /// The time from one look to the next.
    pub every: Duration,
}

/// A question to a Prometheus server.
#[derive(Debug)]
pub struct Query {
    settings: Settings,
    source: Source,
}

/// So many lines of an answer are kept; who reads more than that knows by then.
const MOST_LINES: usize = 100;

impl Query {
    /// A question that is put with one of `clients`.
    ///
    /// # Errors
    /// When a certificate can't be used.
    pub fn new(settings: Settings, clients: Arc<Clients>) -> Result<Self, PrometheusError> {
        let source = Source::new(settings.server.clone(), clients)?;
        Ok(Self { settings, source })
    }

    async fn look(&self) -> Result<Vec<Answered>, Missing> {
        let questions = self.source.questions()?;
        self.source.unless_resting(&questions, Box::pin(self.ask(&questions))).await
    }

    async fn ask(&self, questions: &Questions<'_>) -> Result<Vec<Answered>, Missing> {
        let wrong = |what: &str| Err(questions.malformed(&format!("the query's answer is {what}")));
        let points = match questions.ask(&self.settings.query, None).await? {
            Data::Vector(points) => points,
            Data::Scalar(_) => {
                return wrong("a bare number, which is always there; compare series with it: `rate(faults_total[5m]) > 0.1`");
            }
            Data::String(_) => return wrong("a bare text, which is always there; compare series: `rate(faults_total[5m]) > 0.1`"),
            Data::Matrix(_) => return wrong("a range of samples; use a function over it: `increase(faults_total[5m]) > 0`"),
        };
        if points.iter().any(|point| point.value.is_none() && point.histogram.is_some()) {
            return wrong("a histogram; compare a number of it: `histogram_quantile(0.9, …) > 2`");
        }
        let mut answer = points.into_iter().map(answered).collect::<Option<Vec<_>>>();
        if let Some(answer) = &mut answer {
            // The server has no order of its own.
            answer.sort_by(|one, other| one.id.cmp(&other.id));
            answer.truncate(MOST_LINES);
        }
        answer.ok_or_else(|| questions.malformed("the query's answer has values that are no numbers"))
    }
}

/// One line. What is not finite is there all the same, but can't be told (nor written down) as a number, so that its name says it.
fn answered(point: RawPoint) -> Option<Answered> {
    let (_, text) = point.value?;
    let value: f64 = text.parse().ok()?;
    let name = point.metric.get("__name__").map_or("", String::as_str);
    let id = plain(&canonical(name, point.metric.iter().filter(|(label, _)| *label != "__name__")));
    if value.is_finite() {
        Some(Answered { id, value })
    } else {
        Some(Answered { id: format!("{id} (its value {value} is told as 0)"), value: 0.0 })
    }
}

#[async_trait]
impl Signal for Query {
    async fn read(&self, _now: Timestamp) -> Reading {
        match self.look().await {
            Ok(answer) => Reading::Answer(answer),
            Err(missing) => Reading::Missing(missing),
        }
    }

    /// The daemon asks all the time, deployment or not, and so knows itself what was before.
    async fn history(&self, _from: Timestamp, _to: Timestamp) -> Reading {
        Reading::Missing(Missing::NoHistory)
    }
}

#[cfg(test)]
mod tests;
