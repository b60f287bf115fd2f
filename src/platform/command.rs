//! Programs: any platform that has a command for `current`, `deploy` and `status`.

use std::time::Duration;

/// The programs. Each is an argument vector, never given to a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Prints the version that is deployed, one line.
    pub current: Vec<String>,
    /// Deploys `$ROLLBACKD_TO`.
    pub deploy: Vec<String>,
    /// Exits with 0 when `$ROLLBACKD_VERSION` is rolled out, with 75 while it is not yet, with anything else when it failed. Optional:
    /// without it a version is rolled out as soon as `current` prints it.
    pub status: Option<Vec<String>>,
    /// How often `current` is asked. Default 10 s.
    pub every: Duration,
    /// How long one program may take. Default 5 min for `deploy`; `current` and `status` have 30 s at most.
    pub timeout: Duration,
}
