//! The configuration: TOML text, read into raw tables, validated whole into [`Config`], every error with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use rollbackd_core::service::{Decision, Service, ServiceName, SignalName};
use rollbackd_core::severity::{Matrix, Severity};
use toml::de::DeTable;

use rollbackd_core::alert::Rules;

use crate::{alerts as listening, notify, platform, signal as signals};

mod diagnostic;
mod document;
mod reader;
mod value;
mod daemon;
mod alerts;
mod policy;
mod contradiction;
mod signal;
mod destination;
mod service;
pub mod policy_test;
#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Diagnostics, Level, Place, render};

use document::{Document, Problem};
use reader::Table;

/// What stands outside the file. `main` reads the variables and hands them in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `$STATE_DIRECTORY`, its first path if it has several.
    pub state_directory: Option<PathBuf>,
    /// `$RUNTIME_DIRECTORY`, its first path if it has several.
    pub runtime_directory: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials_directory: Option<PathBuf>,
    /// Whether secrets and certificates may be absent: whoever only tests a policy, in CI say, has none of them.
    pub without_secrets: bool,
}

/// A whole, valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What concerns the daemon itself.
    pub daemon: Daemon,
    /// Where alerts are listened for, if they are.
    pub api: Option<listening::Settings>,
    /// What alerts stand for.
    pub alerts: Rules,
    /// Limits over all services.
    pub fleet: Fleet,
    /// How the cluster is reached; only looked at when a service runs on Kubernetes.
    pub kubernetes: platform::kubernetes::Cluster,
    /// The services.
    pub services: BTreeMap<ServiceName, GuardedService>,
    /// The destinations of notices.
    pub destinations: BTreeMap<String, Destination>,
    /// What is probably not what was meant, though it can be done.
    pub warnings: Diagnostics,
}

/// What concerns the daemon itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Where the ledger lives. Default `$STATE_DIRECTORY`, else `/var/lib/rollbackd`.
    pub state_directory: PathBuf,
    /// The local socket. Default `$RUNTIME_DIRECTORY/rollbackd.sock`, else `/run/rollbackd/rollbackd.sock`.
    pub socket: PathBuf,
    /// How long a source may give nothing before operators are told. Default 2 min.
    pub blind_after: SignedDuration,
}

/// Limits over all services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Automatic rollbacks allowed in an hour. Default 10.
    pub rollbacks_per_hour: u32,
    /// So many services going bad within `brake_within` trip the brake. Default 3.
    pub brake_services: u32,
    /// So many of a hundred services do, too. Default 20; 0: they don't.
    pub brake_percent: u32,
    /// Default 5 min.
    pub brake_within: SignedDuration,
}

/// A service with its adapters' settings.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardedService {
    /// What the core needs to know.
    pub policy: Service,
    /// Where it runs.
    pub platform: PlatformSettings,
    /// How each signal is read; the same keys as `policy.signals`.
    pub signals: BTreeMap<SignalName, SignalSettings>,
}

/// Where a service runs.
#[derive(Clone, Debug, PartialEq)]
pub enum PlatformSettings {
    /// On Kubernetes.
    Kubernetes(platform::kubernetes::Settings),
    /// Wherever programs say.
    Command(platform::command::Settings),
}

/// How a signal is read.
#[derive(Clone, Debug, PartialEq)]
pub enum SignalSettings {
    /// By probing.
    Probe(signals::probe::Settings),
    /// Counters from a Prometheus server.
    Prometheus(signals::prometheus::Settings),
    /// Histograms from a Prometheus server.
    Histograms(signals::prometheus::histograms::Settings),
    /// A question of the operator's own to a Prometheus server.
    Query(signals::prometheus::query::Settings),
    /// Counters or histograms from the service's own metrics endpoint.
    Metrics(signals::metrics::Settings),
}

/// A destination of notices.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Where to.
    pub notifier: NotifierSettings,
    /// Only notices of these severities (and those that have none). Empty: all.
    pub severities: BTreeSet<Severity>,
}

/// Where to.
#[derive(Clone, Debug, PartialEq)]
pub enum NotifierSettings {
    /// By e-mail.
    Email(notify::email::Settings),
    /// By webhook.
    Webhook(notify::webhook::Settings),
}

/// A longer file is not a configuration. In bytes.
const LONGEST_FILE: u64 = 1024 * 1024;

/// What is no file, but gives a configuration all the same, has to be done with it by then.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The tables are read so often at most: again after misspelt keys were corrected, which may bring others to light inside. No table lies
/// deeper.
const READINGS: usize = 6;

/// Reads a configuration file and everything that it points to. Relative paths in it begin at its directory.
///
/// # Errors
/// With everything that is wrong, errors and warnings, in order of place.
pub fn load(path: &Path, environment: &Environment) -> Result<Config, Diagnostics> {
    let text = text(path, "configuration", environment)?;
    parse(&text, &path.display().to_string(), environment)
}

/// The same for a text; `file` is what it is called in messages, and where relative paths begin. It reads the files that the text points
/// to, and nothing else.
///
/// # Errors
/// With everything that is wrong, errors and warnings, in order of place.
pub fn parse(text: &str, file: &str, environment: &Environment) -> Result<Config, Diagnostics> {
    let (config, warnings) = tables(text, file, environment, |root| whole(root, environment))?;
    Ok(Config { warnings, ..config })
}

/// The text of a file; `what` it is, for messages.
fn text(path: &Path, what: &str, environment: &Environment) -> Result<String, Diagnostics> {
    let file = path.display().to_string();
    let bytes = read(path).map_err(|error| {
        let message = format!("cannot read the {what} {file}: {error}");
        let help = match error.kind() {
            ErrorKind::NotFound => Some("create the file, or correct its path"),
            ErrorKind::PermissionDenied => Some("let the user that rollbackd runs as read it"),
            ErrorKind::IsADirectory => Some("name the file in it"),
            _ => None,
        };
        Diagnostics::of_file(&file, message, help)
    })?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(too_long(&file));
    }
    String::from_utf8(bytes).map_err(|error| not_utf8(&file, error.as_bytes(), error.utf8_error().valid_up_to(), environment))
}

/// What `whole` makes of the tables of a text, and the warnings.
fn tables<T>(text: &str, file: &str, environment: &Environment, whole: impl Fn(Table<'_>) -> T) -> Result<(T, Diagnostics), Diagnostics> {
    if text.len() as u64 > LONGEST_FILE {
        return Err(too_long(file));
    }
    let (mut root, syntax_errors) = DeTable::parse_recoverable(text);
    let document = Document::new(file, text, environment);
    document.conceal_secrets(root.get_ref());
    if !document.report_syntax(&syntax_errors) {
        return Err(document.into_diagnostics());
    }
    let syntax_errors = document.problems();
    let mut read = whole(Table::root(&document, root.get_ref()));
    for _ in 1..READINGS {
        if !document.correct(root.get_mut(), syntax_errors) {
            break;
        }
        read = whole(Table::root(&document, root.get_ref()));
    }
    if syntax_errors > 0 {
        document.forget_consequences(syntax_errors);
    }
    let diagnostics = document.into_diagnostics();
    if diagnostics.count(Level::Error) > 0 { Err(diagnostics) } else { Ok((read, diagnostics)) }
}

/// The whole file. What it gives is only of use when nothing was reported as an error.
fn whole(root: Table<'_>, environment: &Environment) -> Config {
    let daemon = daemon::daemon(root.table("daemon"), environment);
    let api_table = root.table("api");
    let listens = api_table.is_some();
    let api = alerts::api(api_table);
    let alerts = alerts::alerts(&root, listens);
    let fleet = daemon::fleet(root.table("fleet"));
    let kubernetes = daemon::kubernetes(root.table("kubernetes"));
    let mut common = service::Common { matrix: Matrix::default(), decision: Decision::default(), servers: signal::servers(&root) };
    policy::edit_matrix(&mut common.matrix, root.table("matrix"));
    policy::edit_decision(&mut common.decision, root.table("decision"));
    contradiction::of_settings(&root, &common.matrix, &common.decision);
    let destinations = destination::destinations(&root);
    if root.optional("notify").is_none_or(|value| value.is_empty_table()) {
        let problem = Problem::lack(0..0, "nobody is told of anything: there is no `notify`");
        root.report(problem.help("add `[notify.NAME.email]` or `[notify.NAME.webhook]`").of_the_file());
    }
    let services = service::services(&root, &common);
    root.finish();
    Config { daemon, api, alerts, fleet, kubernetes, services, destinations, warnings: Diagnostics::default() }
}

fn too_long(file: &str) -> Diagnostics {
    let message = format!("{file} is longer than 1 MiB");
    Diagnostics::of_file(file, message, Some("a configuration is never that long: is it the right file?"))
}

/// A byte more than a configuration may have at most. A pipe, such as standard input, is waited for, but not for ever.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let without_waiting = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = std::fs::File::options().read(true).custom_flags(without_waiting).open(path)?.take(LONGEST_FILE + 1);
    let began = Instant::now();
    let mut bytes = Vec::new();
    loop {
        match file.read_to_end(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Err(_) if began.elapsed() > LONGEST_WAIT => {
                return Err(std::io::Error::other(format!("it is no file, and did not end within {LONGEST_WAIT:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn not_utf8(file: &str, bytes: &[u8], valid: usize, environment: &Environment) -> Diagnostics {
    let text = String::from_utf8_lossy(bytes);
    let document = Document::new(file, &text, environment);
    document.conceal_secrets(&DeTable::new());
    let problem = Problem::error(valid..valid + 1, "this is not UTF-8 text");
    document.report(problem.help("save the file as UTF-8; TOML knows no other encoding"));
    document.into_diagnostics()
}
