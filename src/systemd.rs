//! What systemd is told (sd_notify(3)): ready, reloading, stopping, and that the decision loop is alive. Without systemd nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// The way to systemd.
#[derive(Clone, Debug, Default)]
pub struct Systemd {
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads from the environment whether systemd wants to hear of us, and whether it wants a sign of life.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled() }
    }

    /// The configuration is in force.
    pub fn ready(&self, status: &str) {
        Self::tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The configuration is being read again.
    pub fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            Self::tell(&[NotifyState::Reloading, now]);
        }
    }

    /// The daemon ends.
    pub fn stopping(&self) {
        Self::tell(&[NotifyState::Stopping]);
    }

    /// The decision loop turns; to be said at least twice in each watchdog interval.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            Self::tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell(state: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(state) {
            tracing::debug!(%error, "systemd can't be told");
        }
    }
}
