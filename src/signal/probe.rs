//! HTTP probes.

use std::time::Duration;

use url::Url;

use super::http::Access;

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
