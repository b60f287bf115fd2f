//! Where secrets come from: a file or a systemd credential, never the configuration itself. A secret never shows in a log or an error.

use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use secrecy::{ExposeSecret, SecretString};

/// Where a secret is kept. Read anew at each use, so that a rotated file needs no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// A file: its whole content, less white space at the end.
    File(PathBuf),
    /// A systemd credential by its name, found in `$CREDENTIALS_DIRECTORY`, which `main` passes in as a path once it has read the environment.
    Credential(PathBuf),
}

/// A secret that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("cannot read the secret in {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is longer than any secret.
    #[error("the secret in {} is longer than 64 KiB or empty", path.display())]
    Absurd {
        /// The file.
        path: PathBuf,
    },
}

impl Secret {
    /// No secret is longer: 64 KiB.
    const LIMIT: u64 = 64 * 1024;

    /// The file it is kept in.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Credential(path) => path,
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the file can't be read, is empty, or is longer than 64 KiB.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let path = self.path();
        let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(Self::LIMIT + 1).read_to_string(&mut text).map_err(unreadable)?;
        let secret = text.trim_end();
        if secret.is_empty() || text.len() as u64 > Self::LIMIT {
            return Err(SecretError::Absurd { path: path.to_owned() });
        }
        Ok(SecretString::from(secret))
    }
}
