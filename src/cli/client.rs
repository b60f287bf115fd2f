//! The client: one question to the daemon through its local socket, and what it means when there is no answer.

use std::error::Error;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::Scope;
use rollbackd_core::service::ServiceName;
use serde_json::Value;

use super::text::{self, Screen};
use super::{Stop, unknown};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer: a history of a thousand rows is a few hundred KiB.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// The guard that refuses a version that was never seen (`Refusal::UnknownVersion`): a name that does not exist.
const NO_SUCH_VERSION: &str = "unknown-version";

/// Asks the daemon.
pub struct Client {
    socket: PathBuf,
    http: reqwest::Client,
    /// Whether what comes back is shown to a person, so that nothing in it may speak to their terminal.
    for_people: bool,
}

/// Why there is no answer.
enum Fault {
    Io(io::ErrorKind, String),
    TooLate,
    Broken(String),
}

impl Client {
    /// A client of the daemon at `socket`.
    pub fn new(socket: &Path, screen: &Screen) -> Result<Self, Stop> {
        // Neither an argument nor a variable can hold a zero byte, the only other thing that no such path may have.
        if SocketAddr::from_pathname(socket).is_err() {
            let why = "is too long for a unix socket (107 bytes at most); nothing was asked";
            return Err(Stop::Usage(format!("the path {} {why}", socket.display())));
        }
        // No certificates: there is no TLS on a local socket, and a host without any has a daemon all the same.
        let http = reqwest::Client::builder().unix_socket(socket).tls_certs_only([]).timeout(PATIENCE).build();
        let http = http.map_err(|error| Stop::Failed(format!("cannot make a client: {}", chain(&error))))?;
        Ok(Self { socket: socket.to_owned(), http, for_people: !screen.is_json() })
    }

    /// Asks, and returns the answers that say something; the others are reasons to stop.
    pub async fn ask(&self, command: &Command) -> Result<Answer, Stop> {
        let answer = match self.exchange(command).await {
            Ok(answer) => answer,
            Err(fault) => return Err(self.explain(&fault)),
        };
        match self.read(answer)? {
            Answer::Refused { guard, why } => match version(command).filter(|_| guard == NO_SUCH_VERSION) {
                Some((service, version)) => Err(Box::pin(unknown::version(service, version, self)).await),
                None => Err(Stop::Refused { guard, why }),
            },
            Answer::Unknown(words) => match service(command) {
                Some(service) => Err(Box::pin(unknown::service(service, words, self)).await),
                None => Err(Stop::Usage(words)),
            },
            Answer::Failed(words) => Err(Stop::Failed(words)),
            answer => Ok(answer),
        }
    }

    async fn exchange(&self, command: &Command) -> Result<Value, Fault> {
        let mut response = self.http.post("http://rollbackd/v1/command").json(command).send().await.map_err(|error| fault(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| fault(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_LIMIT {
                return Err(Fault::Broken("it is too large".to_owned()));
            }
        }
        serde_json::from_slice(&body).map_err(|error| Fault::Broken(format!("{}: {error}", response.status())))
    }

    fn read(&self, mut answer: Value) -> Result<Answer, Stop> {
        if self.for_people {
            text::neutralise(&mut answer);
        }
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            return Err(Stop::Failed(format!("the daemon says: {error}")));
        }
        serde_json::from_value(answer).map_err(|error| {
            Stop::Failed(format!("the daemon's answer can't be read, it may be of another version than this program: {error}"))
        })
    }

    fn explain(&self, fault: &Fault) -> Stop {
        let socket = self.socket.display();
        Stop::NoDaemon(match fault {
            Fault::Io(io::ErrorKind::PermissionDenied, _) => {
                format!("you may not speak to the daemon at {socket}: {}", permission(&self.socket))
            }
            Fault::Io(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, _) => {
                format!("no daemon answers at {socket}: is it running? (systemctl status rollbackd; or --socket)")
            }
            Fault::TooLate => format!(
                "no daemon answers at {socket} within {} s; what was asked may still be done: see rollbackd status",
                PATIENCE.as_secs()
            ),
            Fault::Io(_, words) => {
                format!("the connection to the daemon at {socket} broke ({words}); what was asked may still be done: see rollbackd status")
            }
            Fault::Broken(words) => format!("what answers at {socket} is no rollbackd: {words}"),
        })
    }
}

/// The service that a command names.
fn service(command: &Command) -> Option<&ServiceName> {
    match command {
        Command::Status { service } | Command::History { service, .. } => service.as_ref(),
        Command::Explain { service, .. }
        | Command::Deployed { service, .. }
        | Command::Rollback { service, .. }
        | Command::Declare { service, .. }
        | Command::Answer { service, .. }
        | Command::Mark { service, .. } => Some(service),
        Command::Hold { scope, .. } | Command::Resume { scope } => match scope {
            Scope::Service(service) => Some(service),
            Scope::All => None,
        },
    }
}

/// The version that a command names, and whose it is.
fn version(command: &Command) -> Option<(&ServiceName, &str)> {
    match command {
        Command::Rollback { service, to, .. } => Some((service, to.as_deref()?)),
        Command::Mark { service, version, .. } => Some((service, version)),
        _ => None,
    }
}

/// What to do about a socket that may not be opened: its group may.
fn permission(socket: &Path) -> String {
    let group = std::fs::symlink_metadata(socket).ok().and_then(|file| group_name(file.gid()));
    match group {
        Some(group) if group != "root" => format!("join its group (usermod -aG {group} YOU, and log in again), or use sudo"),
        _ => "use sudo".to_owned(),
    }
}

/// `group(5)`: name, password, number, members with colons between.
fn group_name(gid: u32) -> Option<String> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

fn fault(error: &reqwest::Error) -> Fault {
    if error.is_timeout() {
        return Fault::TooLate;
    }
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Fault::Io(io.kind(), io.to_string());
        }
        source = cause.source();
    }
    Fault::Io(io::ErrorKind::Other, chain(error))
}

/// An error with everything behind it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::{Color, Output};
    use super::*;

    #[test]
    fn a_version_that_does_not_exist_is_known_by_the_guards_own_name() {
        let refusal = rollbackd_core::guard::Refusal::UnknownVersion { asked: "shop:v9".to_owned() };
        assert_eq!(refusal.name(), NO_SUCH_VERSION);
    }

    #[test]
    fn who_may_not_open_the_socket_is_told_which_group_may() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let client = Client::new(directory.path(), &Screen::new(Output::Text, Color::Never, false)).unwrap();
        let stop = client.explain(&Fault::Io(io::ErrorKind::PermissionDenied, "no".to_owned()));
        assert!(matches!(stop, Stop::NoDaemon(_)));
        let group = group_name(std::fs::metadata(directory.path()).unwrap().gid()).unwrap();
        let expected = if group == "root" { "use sudo".to_owned() } else { format!("usermod -aG {group} ") };
        let said = stop.to_string();
        assert!(said.starts_with("you may not speak to the daemon at ") && said.contains(&expected), "{said}");
    }
}
