//! One way to make an HTTP client: bounded time, bounded bytes, no redirects unless asked for, own certificate authorities.

use std::path::PathBuf;

use crate::secret::Secret;

/// How an endpoint is trusted and how the daemon proves itself to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A file of PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A client certificate and its key, both PEM.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// User name and password.
    pub basic: Option<(String, Secret)>,
    /// A bearer token.
    pub bearer: Option<Secret>,
    /// Further headers; values from secrets.
    pub headers: Vec<(String, HeaderValue)>,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// Plain text.
    Plain(String),
    /// A secret.
    Secret(Secret),
}
