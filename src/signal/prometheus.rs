//! Counters from Prometheus, as raw samples.

use std::time::Duration;

use url::Url;

use super::http::Access;

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
