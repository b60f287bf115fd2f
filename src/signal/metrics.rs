//! The same counters, read straight from a service's own metrics endpoint.

use std::time::Duration;

use url::Url;

use super::http::Access;

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
