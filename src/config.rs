//! The configuration: TOML text, read into raw tables, validated whole into [`Config`], every error with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::SignedDuration;
use rollbackd_core::service::{Service, ServiceName, SignalName};
use rollbackd_core::severity::Severity;

use crate::{notify, platform, signal};

/// A whole, valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What concerns the daemon itself.
    pub daemon: Daemon,
    /// Limits over all services.
    pub fleet: Fleet,
    /// How the cluster is reached; only looked at when a service runs on Kubernetes.
    pub kubernetes: Kubernetes,
    /// The services.
    pub services: BTreeMap<ServiceName, GuardedService>,
    /// The destinations of notices.
    pub destinations: BTreeMap<String, Destination>,
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
    /// Default 5 min.
    pub brake_within: SignedDuration,
}

/// How the cluster is reached. Without a file: the service account inside a pod, else `$KUBECONFIG`, else `~/.kube/config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// A kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// A context in it; the current one unless said.
    pub context: Option<String>,
}

/// A service with its adapters' settings.
#[derive(Clone, Debug)]
pub struct GuardedService {
    /// What the core needs to know.
    pub policy: Service,
    /// Where it runs.
    pub platform: PlatformSettings,
    /// How each signal is read; the same keys as `policy.signals`.
    pub signals: BTreeMap<SignalName, SignalSettings>,
}

/// Where a service runs.
#[derive(Clone, Debug)]
pub enum PlatformSettings {
    /// On Kubernetes.
    Kubernetes(platform::kubernetes::Settings),
    /// Wherever programs say.
    Command(platform::command::Settings),
}

/// How a signal is read.
#[derive(Clone, Debug)]
pub enum SignalSettings {
    /// By probing.
    Probe(signal::probe::Settings),
    /// From a Prometheus server.
    Prometheus(signal::prometheus::Settings),
    /// From the service's own metrics endpoint.
    Metrics(signal::metrics::Settings),
}

/// A destination of notices.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Where to.
    pub notifier: NotifierSettings,
    /// Only notices of these severities (and those that have none). Empty: all.
    pub severities: BTreeSet<Severity>,
}

/// Where to.
#[derive(Clone, Debug)]
pub enum NotifierSettings {
    /// By e-mail.
    Email(notify::email::Settings),
    /// By webhook.
    Webhook(notify::webhook::Settings),
}
