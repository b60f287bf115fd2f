//! The attempt: one run of `deploy`, as a file beside the ledger tells it. The file says that a run began and, once it has ended, nothing;
//! and it is locked as long as the program runs. So every daemon and every adapter, of this process or of the next one, can tell whether a
//! `deploy` runs, and whether the last one was cut off in the middle.
//!
//! The lock is an advisory one (`flock(2)`) on the open file that the program has as its standard input, at its end, so that there is nothing
//! to read. It belongs to all who have that open file: it outlives a daemon that is killed, and ends with the program and its children. What
//! a program leaves running holds it no longer than this daemon lives to say that the program has ended.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use rollbackd_core::service::ServiceName;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// One run of `deploy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// The plan's name.
    pub plan: String,
    /// The version that is left.
    pub from: String,
    /// The version that shall run.
    pub to: String,
    /// When it began, by the wall clock.
    pub begun: Timestamp,
    /// Which process began it.
    daemon: String,
}

impl Attempt {
    /// One that this process begins now.
    pub(super) fn begin(plan: &str, from: &str, to: &str) -> Self {
        Self { plan: plan.to_owned(), from: from.to_owned(), to: to.to_owned(), begun: Timestamp::now(), daemon: DAEMON.clone() }
    }

    /// How long ago that was. A clock that was set back makes it no older than a moment.
    pub(super) fn age(&self) -> Duration {
        Duration::try_from(Timestamp::now().duration_since(self.begun)).unwrap_or_default()
    }

    /// Whether this very process began it.
    pub(super) fn is_ours(&self) -> bool {
        self.daemon == *DAEMON
    }
}

/// Unique over all processes of a host, those in containers among them, which all have the number 1.
static DAEMON: LazyLock<String> = LazyLock::new(|| format!("{}@{}", std::process::id(), Timestamp::now().as_nanosecond()));

/// Whether a `deploy` runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// None runs, and the last one came to an end.
    Settled,
    /// One runs, or what it left behind by a daemon that was killed.
    Running(Option<Attempt>),
    /// None runs, and the last one did not come to an end: it, or its daemon, was killed.
    CutOff(Attempt),
}

/// The file of one service.
#[derive(Clone, Debug)]
pub(super) struct Attempts(PathBuf);

/// The file is read no further; what is written there is far shorter.
const LIMIT: u64 = 16 * 1024;
/// A look holds the lock for some microseconds.
const LOOK: Duration = Duration::from_millis(20);
/// So often the turn is asked for, so that no look is taken for a `deploy`.
const QUESTIONS: u32 = 5;

impl Attempts {
    /// The file in a directory, which is not touched yet.
    pub(super) fn of(service: &ServiceName, directory: &Path) -> Self {
        Self(directory.join(format!("{service}.deploy")))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether a `deploy` runs.
    ///
    /// # Errors
    /// When the file can't be read, though it is there and ours.
    pub(super) fn standing(&self) -> io::Result<Standing> {
        let mut file = match File::open(&self.0) {
            Ok(file) => file,
            // No `deploy` has run here; or who looks is not the daemon, but an operator who checks a configuration.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                return Ok(Standing::Settled);
            }
            Err(error) => return Err(error),
        };
        let free = lock(file.try_lock_shared())?;
        let attempt = read(&mut file)?;
        Ok(match attempt {
            attempt if !free => Standing::Running(attempt),
            Some(attempt) => Standing::CutOff(attempt),
            None => Standing::Settled,
        })
    }

    /// Forgets the last run, unless one runs.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(super) fn forget(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.0)?;
        if lock(file.try_lock())? { file.set_len(0) } else { Ok(()) }
    }

    /// The right to run `deploy`; none while one runs.
    ///
    /// # Errors
    /// When the file can't be made or read.
    pub(super) async fn turn(&self) -> io::Result<Option<Turn>> {
        let writer = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.0)?;
        let mut lock_file = File::open(&self.0)?;
        for _ in 0..QUESTIONS {
            if lock(lock_file.try_lock())? {
                let last = read(&mut lock_file)?;
                return Ok(Some(Turn { lock_file, writer, last }));
            }
            sleep(LOOK).await;
        }
        Ok(None)
    }
}

/// The right to run `deploy`, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    lock_file: File,
    writer: File,
    /// The last run, if it was cut off.
    pub last: Option<Attempt>,
}

impl Turn {
    /// Makes durable that a run begins. Returns the standard input that it shall have.
    pub(super) fn begin(&mut self, attempt: &Attempt) -> io::Result<Stdio> {
        // In one piece over whatever is there, so that no look finds nothing in between.
        let length = usize::try_from(self.writer.metadata()?.len().min(LIMIT)).unwrap_or_default();
        let text = format!("{:length$}", serde_json::to_string(attempt)?);
        self.writer.seek(SeekFrom::Start(0))?;
        self.writer.write_all(text.as_bytes())?;
        self.writer.sync_all()?;
        self.lock_file.seek(SeekFrom::End(0))?;
        Ok(self.lock_file.try_clone()?.into())
    }

    /// The run came to an end, or is given up.
    pub(super) fn end(&mut self) {
        if let Err(error) = self.writer.set_len(0) {
            tracing::warn!(%error, "cannot note that `deploy` has ended; it may be run once more after a restart");
        }
    }
}

/// Closing the file would not do: what `deploy` left running has it open, too.
impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.lock_file.unlock();
    }
}

/// Whether the lock was given.
fn lock(asked: Result<(), TryLockError>) -> io::Result<bool> {
    match asked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What the file says. What can't be understood was never wholly written, so nothing had begun.
fn read(file: &mut File) -> io::Result<Option<Attempt>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes).ok())
}

#[cfg(test)]
impl Attempt {
    /// One that a daemon began that is no more.
    pub(super) fn of_another_daemon(plan: &str, from: &str, to: &str, begun: Timestamp) -> Self {
        Self { daemon: "1@0".to_owned(), begun, ..Self::begin(plan, from, to) }
    }
}
