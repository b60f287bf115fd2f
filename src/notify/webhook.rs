//! Webhooks.

use std::path::PathBuf;

use url::Url;

use crate::secret::Secret;

/// The body that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The notice as plain JSON.
    Json,
    /// What Slack's incoming webhooks take.
    Slack,
}

/// Where the address comes from; addresses of chats are secrets themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// In the open.
    Plain(Url),
    /// In a file.
    Secret(Secret),
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its address.
    pub url: Address,
    /// The body.
    pub format: Format,
    /// The key of the signature (Standard Webhooks 1.0: `whsec_` and base64), if it is to be signed.
    pub secret: Option<Secret>,
    /// A file of PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}
