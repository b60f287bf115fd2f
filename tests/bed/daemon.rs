//! A daemon as a plain process with a folder of its own, the command line that speaks to it, and those who hear of it.

use std::fs;
use std::io::Write as _;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::audience::Audience;
use crate::parts::{Process, variable, wait_for};

/// A daemon, which may be running. Its service is called `web`.
#[derive(Debug)]
pub struct Daemon {
    /// Configuration, socket, log.
    pub folder: TempDir,
    /// Where the ledger lives.
    pub state: PathBuf,
    audience: Audience,
    process: Option<Process>,
    begun: Instant,
}

impl Deref for Daemon {
    type Target = Audience;

    fn deref(&self) -> &Audience {
        &self.audience
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // It may not run, or not answer.
            let status = self.cli(&["status", "web"]);
            eprintln!("--- status:\n{}", String::from_utf8_lossy(&status.stdout));
            eprintln!("--- the daemon's log ends so:\n{}", self.log_tail());
        }
        self.process.take();
        self.note_how_long_it_took();
    }
}

impl Daemon {
    /// Not started yet. Its mails go to `mailbox` at example.org.
    pub async fn new(mailbox: String) -> Self {
        let folder = tempfile::Builder::new().prefix("rollbackd-").tempdir().expect("a temporary folder");
        let state = folder.path().join("state");
        Self { folder, state, audience: Audience::new(mailbox).await, process: None, begun: Instant::now() }
    }

    /// Writes the configuration: what all stories have in common, and `further`.
    pub fn configure(&self, further: &str) {
        let mail = format!("smtp = \"smtp+plain://{}\"", variable("BED_SMTP_PLAIN"));
        let text = configuration(
            &format!("state_directory = \"{}\"\nsocket = \"{}\"", self.state.display(), self.socket().display()),
            &mail,
            &self.audience,
            further,
        );
        fs::write(self.configuration(), text).expect("a file in our folder");
    }

    /// The file of the configuration.
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("rollbackd.toml")
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("rollbackd.sock")
    }

    /// Whether its log has this anywhere.
    pub fn said(&self, words: &str) -> bool {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default().contains(words)
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// A line for `tests/run`, which shows the slowest stories.
    fn note_how_long_it_took(&self) {
        let story = std::thread::current().name().unwrap_or("a story").to_owned();
        let times = fs::OpenOptions::new().create(true).append(true).open(Path::new(&variable("ROLLBACKD_BED")).join("log/stories"));
        if let Ok(mut times) = times {
            let _ = times.write_all(format!("{:6.1} s  {story}\n", self.begun.elapsed().as_secs_f64()).as_bytes());
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollbackd"));
        command.arg("--config").arg(self.configuration()).args(["run", "--log-format", "json"]);
        command.env(STORY, self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).expect("a file in our folder");
        let daemon = self.command().stdout(Stdio::null()).stderr(log).spawn().expect("the daemon was built");
        self.process = Some(Process(daemon));
        wait_for("the daemon answers", || self.cli(&["status"]).status.success());
    }

    /// Starts a daemon that is to end by itself at once.
    pub fn start_in_vain(&self) -> Output {
        let mut refused = Command::new("timeout");
        refused.args(["--signal=KILL", "20"]).arg(self.command().get_program()).args(self.command().get_args());
        refused.env(STORY, self.folder.path()).stdin(Stdio::null()).output().expect("the daemon was built")
    }

    /// The number of its process.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").0.id()
    }

    /// `kill -9`.
    pub fn kill_daemon(&mut self) {
        self.process.take().expect("it runs");
    }

    /// SIGTERM; it must end well within 10 s.
    pub fn terminate_daemon(&mut self) {
        let mut daemon = self.process.take().expect("it runs");
        let asked = Instant::now();
        let id = i32::try_from(daemon.0.id()).expect("a process number");
        rustix::process::kill_process(rustix::process::Pid::from_raw(id).expect("not zero"), rustix::process::Signal::TERM)
            .expect("it is ours");
        let status = daemon.0.wait().expect("it is our child");
        assert!(status.success(), "ended with {status}");
        assert!(asked.elapsed() < Duration::from_secs(10), "took {:?} to end", asked.elapsed());
    }

    /// Runs `rollbackd` as an operator would.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_rollbackd"))
            .arg("--socket")
            .arg(self.socket())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the binary was built")
    }

    /// The same, as JSON.
    pub fn cli_json(&self, arguments: &[&str]) -> Value {
        let output = self.cli(&[&["--output", "json"], arguments].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The service as `status` shows it.
    pub fn service(&self) -> Value {
        self.cli_json(&["status", "web"])["services"][0].clone()
    }

    /// The history: status, version and what it is a rollback of, newest first.
    pub fn history(&self) -> Vec<(String, String, Option<u64>)> {
        rows(&self.cli_json(&["history", "web"]))
    }

    /// A person says that the running version is good, which is quicker than its window.
    pub fn mark_good(&self) {
        wait_for("the running version was seen", || self.service()["deployment"]["version"]["id"].is_string());
        let version = self.service()["deployment"]["version"]["id"].as_str().unwrap_or_default().to_owned();
        let marked = self.cli(&["mark-good", "web", &version, "--yes"]);
        assert!(marked.status.success(), "{}", String::from_utf8_lossy(&marked.stderr));
    }

    /// Waits until the running version has passed its window.
    pub fn wait_until_known_good(&self) {
        wait_for("the running version is known good", || self.service()["deployment"]["status"] == "deployed");
    }
}

/// Every process that a daemon starts, and every one that those start, has the daemon's folder in this variable.
pub const STORY: &str = "ROLLBACKD_BED_STORY";

/// What `history --output json` says: status, version and what it is a rollback of, newest first.
pub fn rows(history: &Value) -> Vec<(String, String, Option<u64>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = history.as_array().unwrap_or_else(|| panic!("not a list: {history}"));
    rows.iter().map(|row| (text(&row["status"]), text(&row["version"]["name"]), row["rollback_of"].as_u64())).collect()
}

/// The configuration that all stories have in common: every duration takes seconds. `daemon` and `mail` are lines of those tables, `further`
/// follows.
pub fn configuration(daemon: &str, mail: &str, audience: &Audience, further: &str) -> String {
    let Audience { mailbox, webhook, .. } = audience;
    format!(
        r#"
[daemon]
blind_after = "3s"
{daemon}

[notify.oncall.email]
from = "rollbackd@example.org"
to = ["{mailbox}@example.org"]
{mail}

[notify.chat.webhook]
url = "{webhook}"

[matrix.error_ratio]
within = "10s"
[matrix.performance]
within = "10s"

[decision]
grace = "1s"
startup_deadline = "4s"
ready_deadline = "8s"
hold_p0 = "3s"
hold_p1 = "3s"
# Longer than that of P1: on a loaded machine a few good answers of the leaving version must not ask a person first.
hold_p2 = "5s"
{further}
"#
    )
}
