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
