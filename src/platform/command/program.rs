//! One run of a program: from an argument vector to its end, in a process group of its own, within its time limit, with its last words.
//! What the end means is said elsewhere.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::future::{FusedFuture as _, FutureExt as _};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long output is waited for once a program has ended. What it left running in the background may hold the pipe open for ever.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Of each of a program's two outputs the last so many bytes are kept.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// So much of a flood is read as fast as it comes: a talkative program is not slowed down by its reader …
const READ_FREELY: usize = 1024 * 1024;
/// … and from there on a piece of at most 64 KiB in this time, 6 MiB a second, so that it takes little of the processor.
const SLOWED: Duration = Duration::from_millis(10);
/// So many characters of a program's words go into a message.
const WORDS_LIMIT: usize = 400;

/// What a program is run with.
#[derive(Debug)]
pub(super) struct Terms<'a> {
    /// Its environment beyond the daemon's.
    pub facts: Vec<(&'a str, &'a str)>,
    /// How long it may take.
    pub limit: Duration,
    /// What it reads.
    pub input: Stdio,
    /// What becomes of it when it prints more than is kept.
    pub flood: Flood,
}

/// What becomes of a program that prints more than is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// It is killed: it was asked for a word.
    Kills,
    /// It is read on, slowly, and the end is kept.
    IsSlowed,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub status: ExitStatus,
    pub output: Tail,
    pub complaint: Tail,
}

/// Why a program did not come to an end of its own.
#[derive(Debug)]
pub(super) enum NotRun {
    /// It could not be started.
    NotStarted(io::Error),
    /// It took too long and was killed.
    TooLong {
        /// The limit.
        limit: Duration,
        /// Its last words.
        words: String,
    },
    /// It printed too much and was killed.
    TooMuch,
    /// It was started, and then lost.
    Lost(io::Error),
}

impl NotRun {
    /// Whether starting it again would fail again.
    pub(super) fn is_lasting(&self) -> bool {
        let lasting = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidInput];
        matches!(self, Self::NotStarted(error) if lasting.contains(&error.kind()))
    }
}

/// Variables that systemd means for the daemon alone. A program that spoke on `NOTIFY_SOCKET` would speak as the daemon.
const NOT_INHERITED: [&str; 6] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Runs a program to its end. When this is dropped before, the program is killed with its whole group.
pub(super) async fn run(program: &[String], terms: Terms<'_>) -> Result<Ended, NotRun> {
    let Terms { facts, limit, input, flood } = terms;
    let nothing = || NotRun::NotStarted(io::Error::new(io::ErrorKind::InvalidInput, "no program is configured"));
    let (name, arguments) = program.split_first().ok_or_else(nothing)?;
    let mut command = tokio::process::Command::new(OsStr::new(name));
    command.args(arguments).envs(facts).process_group(0).kill_on_drop(true);
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    let deadline = Instant::now() + limit;
    let mut child = command.spawn().map_err(NotRun::NotStarted)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Declared after the child, so dropped before it: until the child is waited for, the group's number can't belong to another.
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (mut output, mut complaint) = (Tail::default(), Tail::default());
    let waited = {
        let mut reading = pin!(async { tokio::try_join!(output.fill(stdout, flood), complaint.fill(stderr, flood)) }.fuse());
        let waiting = async {
            loop {
                tokio::select! {
                    biased;
                    status = child.wait() => break status.map_err(NotRun::Lost),
                    read = &mut reading, if !reading.is_terminated() => if read.is_err() { break Err(NotRun::TooMuch) },
                }
            }
        };
        let waited = timeout_at(deadline, waiting).await;
        if matches!(waited, Ok(Ok(_))) {
            group.release();
            if !reading.is_terminated() && matches!(timeout(LAST_WORDS, reading).await, Ok(Err(_))) {
                return Err(NotRun::TooMuch);
            }
        }
        waited
    };
    match waited {
        Ok(status) => Ok(Ended { status: status?, output, complaint }),
        Err(_elapsed) => Err(NotRun::TooLong { limit, words: last_words(&complaint, &output) }),
    }
}

/// A process group that is killed when it is dropped, unless its leader ended by itself.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have just ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The end of what a program printed.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub bytes: VecDeque<u8>,
    /// How many bytes there were in all.
    pub total: usize,
}

/// More was printed than may be.
struct Flooded;

impl Tail {
    /// Reads to the end. A pipe that breaks has ended.
    async fn fill(&mut self, pipe: Option<impl AsyncRead + Unpin>, flood: Flood) -> Result<(), Flooded> {
        let Some(mut pipe) = pipe else { return Ok(()) };
        let mut buffer = Vec::with_capacity(OUTPUT_LIMIT);
        while let Ok(count @ 1..) = pipe.read_buf(&mut buffer).await {
            self.total = self.total.saturating_add(count);
            self.bytes.extend(buffer.drain(..));
            let excess = self.bytes.len().saturating_sub(OUTPUT_LIMIT);
            self.bytes.drain(..excess);
            match flood {
                Flood::Kills if self.total > OUTPUT_LIMIT => return Err(Flooded),
                Flood::IsSlowed if self.total > READ_FREELY => sleep(SLOWED).await,
                Flood::Kills | Flood::IsSlowed => {}
            }
        }
        Ok(())
    }

    /// The last words, in one line.
    fn words(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
        let excess = line.chars().count().saturating_sub(WORDS_LIMIT);
        if excess == 0 { line } else { line.chars().skip(excess).fold("…".to_owned(), |words, c| words + c.encode_utf8(&mut [0; 4])) }
    }
}

/// What a program complained of, or else what it printed.
fn last_words(complaint: &Tail, output: &Tail) -> String {
    let words = complaint.words();
    if words.is_empty() { output.words() } else { words }
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ended with {}", self.status)?;
        let words = last_words(&self.complaint, &self.output);
        if words.is_empty() { Ok(()) } else { write!(formatter, ": {words}") }
    }
}

impl fmt::Display for NotRun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(error) => write!(formatter, "could not be started: {error}"),
            Self::TooLong { limit, words } => {
                write!(formatter, "did not end within {} s and was killed", limit.as_secs_f64())?;
                if words.is_empty() { formatter.write_str("; it printed nothing") } else { write!(formatter, "; its last words: {words}") }
            }
            Self::TooMuch => write!(formatter, "printed more than {} KiB and was killed", OUTPUT_LIMIT / 1024),
            Self::Lost(error) => write!(formatter, "was started and lost: {error}"),
        }
    }
}
