//! How operators hear of it. One adapter value is one destination.

use std::time::Duration;

use async_trait::async_trait;
use rollbackd_core::notice::Notice;

pub mod email;
pub mod webhook;
pub mod format;

/// Why a notice did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// Try again later, not before `after` where the destination said so.
    #[error("{why}")]
    Later {
        /// What went wrong, without secrets.
        why: String,
        /// What the destination asked for.
        after: Option<Duration>,
    },
    /// The destination will never take this notice.
    #[error("{why}")]
    Never {
        /// What it said, without secrets.
        why: String,
    },
}

/// A destination of notices.
///
/// Guarantees: a call ends within 30 s; `Ok` means that the destination took the notice; every attempt carries the notice's own id
/// (`Message-ID`, `webhook-id`), so that a receiver can tell a repeated one. Caveat: an answer can be lost, so a notice can arrive twice,
/// with the same id.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Hands the notice over.
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError>;

    /// Tries everything but the handing over: name, connection, encryption, credentials.
    async fn check(&self) -> Result<(), NotifyError>;
}

/// An error with its causes, in one bounded, harmless line. A cause that the words before already hold isn't said again.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        cause = error.source();
    }
    format::line(&said, 300)
}

/// A failure that may pass: the network's, or that of a file or a login that a person will put right.
fn later(why: impl Into<String>) -> NotifyError {
    NotifyError::Later { why: why.into(), after: None }
}
