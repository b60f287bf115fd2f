//! E-mail.

use std::path::PathBuf;

use crate::secret::Secret;

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// From the first byte (`smtps://`, port 465).
    Tls,
    /// After STARTTLS, and never without (`smtp://`, port 587).
    StartTls,
    /// Not at all (`smtp+plain://`, port 25): for a relay on the same host.
    None,
}

/// A mail server and the people behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Host name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Encryption.
    pub encryption: Encryption,
    /// A file of PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// User name and password.
    pub login: Option<(String, Secret)>,
    /// Sender, as in a mail: `rollbackd <rollbackd@example.org>`.
    pub from: String,
    /// Recipients. At least one.
    pub to: Vec<String>,
}
