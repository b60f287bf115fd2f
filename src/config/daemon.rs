//! `[daemon]`, `[fleet]` and `[kubernetes]`: what concerns no single service.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;

use super::policy::{HOUR, SECOND};
use super::reader::Table;
use super::value::{path, readable_file};
use super::{Daemon, Environment, Fleet};
use crate::platform::kubernetes::Cluster;

/// `[daemon]`.
pub(super) fn daemon(table: Option<Table<'_>>, environment: &Environment) -> Daemon {
    let directory = |given: &Option<PathBuf>, otherwise: &str| given.as_deref().unwrap_or(Path::new(otherwise)).to_owned();
    let mut daemon = Daemon {
        state_directory: directory(&environment.state_directory, "/var/lib/rollbackd"),
        socket: directory(&environment.runtime_directory, "/run/rollbackd").join("rollbackd.sock"),
        blind_after: SignedDuration::from_mins(2),
    };
    let Some(table) = table else { return daemon };
    if let Some(path) = table.optional("state_directory").and_then(|value| path(&value)) {
        daemon.state_directory = path;
    }
    if let Some(path) = table.optional("socket").and_then(|value| path(&value)) {
        daemon.socket = path;
    }
    if let Some(duration) = table.optional("blind_after").and_then(|value| value.signed_duration(SECOND..=24 * HOUR)) {
        daemon.blind_after = duration;
    }
    table.finish();
    daemon
}

/// `[fleet]`.
pub(super) fn fleet(table: Option<Table<'_>>) -> Fleet {
    let mut fleet = Fleet { rollbacks_per_hour: 10, brake_services: 3, brake_percent: 20, brake_within: SignedDuration::from_mins(5) };
    let Some(table) = table else { return fleet };
    if let Some(number) = table.optional("rollbacks_per_hour").and_then(|value| value.integer(1..=1000)) {
        fleet.rollbacks_per_hour = number;
    }
    // One service that goes bad is what the daemon is for; the brake begins with the second.
    if let Some(number) = table.optional("brake_services").and_then(|value| value.integer(2..=10_000)) {
        fleet.brake_services = number;
    }
    if let Some(number) = table.optional("brake_percent").and_then(|value| value.integer(0..=100)) {
        fleet.brake_percent = number;
    }
    if let Some(duration) = table.optional("brake_within").and_then(|value| value.signed_duration(10 * SECOND..=24 * HOUR)) {
        fleet.brake_within = duration;
    }
    table.finish();
    fleet
}

/// `[kubernetes]`.
pub(super) fn kubernetes(table: Option<Table<'_>>) -> Cluster {
    let Some(table) = table else { return Cluster::default() };
    let kubernetes = Cluster {
        kubeconfig: table.optional("kubeconfig").and_then(|value| readable_file(&value)),
        context: table.optional("context").and_then(|value| value.text(253, "\"production\"")).map(str::to_owned),
    };
    table.finish();
    kubernetes
}
