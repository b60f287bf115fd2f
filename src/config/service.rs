//! `[services.NAME]`: what is guarded, where it runs, and everything its guarding depends on.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use rollbackd_core::service::{Decision, Restore, Service, ServiceName, SignalName, SignalPolicy, Verification};
use rollbackd_core::severity::Matrix;

use super::contradiction::{self, Judged};
use super::document::Problem;
use super::policy::{HOUR, MINUTE, SECOND, edit_decision, edit_matrix, verification};
use super::reader::{Table, Value, quoted};
use super::signal::{Servers, Signal, controls, errors, impacts, latency, probes};
use super::{GuardedService, PlatformSettings, SignalSettings};
use crate::platform::{command, kubernetes};

/// So many services are guarded by one daemon at most.
const MOST_SERVICES: usize = 10_000;

/// What the global tables say, which a service may change for itself.
pub(super) struct Common {
    pub matrix: Matrix,
    pub decision: Decision,
    pub servers: Servers,
}

/// `[services.NAME]`.
pub(super) fn services(root: &Table<'_>, common: &Common) -> BTreeMap<ServiceName, GuardedService> {
    let tables = root.named_tables("services", MOST_SERVICES);
    if tables.is_empty() {
        let problem = Problem::absence(0..0, "no service is guarded").help("add `[services.NAME]` with the platform that it runs on");
        root.report(problem.of_the_file());
    }
    let mut workloads: BTreeMap<String, String> = BTreeMap::new();
    let mut services = BTreeMap::new();
    for (name, table) in tables {
        let path = table.path.clone();
        let Some((service, platform)) = service(&name, table, root, common) else { continue };
        if let Some(other) = workloads.insert(service.policy.platform.clone(), path)
            && matches!(service.platform, PlatformSettings::Kubernetes(_))
        {
            let message = format!("`{other}` guards the same workload, {}", service.policy.platform);
            platform.refuse(message, "guard it once: two guards of one workload would undo each other");
        }
        services.insert(name, service);
    }
    services
}

fn service<'a>(name: &ServiceName, table: Table<'a>, root: &Table<'a>, common: &Common) -> Option<(GuardedService, Value<'a>)> {
    let environment = table.optional("environment").and_then(|value| value.text(63, "\"production\"")).unwrap_or("production");
    let window_value = table.optional("window");
    let window =
        window_value.as_ref().map_or(Some(SignedDuration::from_mins(30)), |value| value.signed_duration(10 * SECOND..=7 * 24 * HOUR));
    let restore_value = table.optional("restore");
    let restore = restore_value.as_ref().and_then(|value| value.choice(&[("template", Restore::Template), ("image", Restore::Image)]));
    let flag = |key| table.optional(key).and_then(|value| value.boolean());
    let (dry_run, promote_on_probes) = (flag("dry_run"), flag("promote_on_probes"));
    let rollbacks_per_day = table.optional("rollbacks_per_day").and_then(|value| value.integer(1..=100)).unwrap_or(3);
    let (mut matrix, mut decision) = (common.matrix.clone(), common.decision.clone());
    edit_matrix(&mut matrix, table.table("matrix"));
    edit_decision(&mut decision, table.table("decision"));
    let verification: Verification = verification(table.table("verification"));
    let platform_value = table.required("platform", "platform.kubernetes = { namespace = \"shop\", deployment = \"checkout\" }");
    let platform = platform_value.as_ref().and_then(platform);
    let (policies, signals) = signals(&table, &common.servers, window);

    if let Some(window) = window {
        let window_value = window_value.as_ref();
        let judged = Judged {
            window,
            window_value,
            matrix: &matrix,
            decision: &decision,
            verification: &verification,
            signals: &policies,
            common: root,
        };
        contradiction::of_service(&table, &judged);
    } else {
        contradiction::of_settings(&table, &matrix, &decision);
    }
    if let (Some(value), Some(PlatformSettings::Command(_))) = (&restore_value, &platform) {
        let problem = Problem::warning(value.key_span(), "`restore` says nothing where the platform is a command");
        table.report(problem.help("remove it: `deploy` decides what goes back"));
    }
    let has_errors = table.optional("errors").is_some();
    table.finish();

    let platform = platform?;
    let policy = Service {
        name: name.clone(),
        environment: environment.to_owned(),
        platform: platform_name(&platform),
        window: window?,
        signals: policies,
        matrix,
        decision,
        verification,
        restore: restore.unwrap_or_default(),
        dry_run: dry_run.unwrap_or(false),
        promote_on_probes: promote_on_probes.unwrap_or(!has_errors),
        rollbacks_per_day,
    };
    Some((GuardedService { policy, platform, signals }, platform_value?))
}

type Signals = (BTreeMap<SignalName, SignalPolicy>, BTreeMap<SignalName, SignalSettings>);

fn signals(table: &Table<'_>, servers: &Servers, window: Option<SignedDuration>) -> Signals {
    let mut all: Vec<Signal> = probes(table);
    let (errors_value, latency_value) = (table.optional("errors"), table.optional("latency"));
    let has_some = |key: &'static str| table.optional(key).is_some_and(|value| !value.is_empty_table());
    if errors_value.is_none() && latency_value.is_none() && !has_some("probes") && !has_some("impacts") {
        let problem = Problem::lack(table.span.clone(), format!("`{}` has no signal: only what its platform says is seen", table.path));
        table.report(problem.help("add `probes.NAME` with `http`, or `errors` with `total` and `failed`"));
    }
    let errors = errors_value.and_then(|value| value.table()).and_then(|table| errors(table, servers));
    all.extend(latency_value.and_then(|value| value.table()).and_then(|table| latency(table, servers)));
    all.extend(impacts(table, servers, window));
    all.extend(controls(table, servers, errors.as_ref().map(|(_, _, settings)| settings)));
    all.extend(errors);
    let mut signals = Signals::default();
    for (name, policy, settings) in all {
        signals.0.insert(name.clone(), policy);
        signals.1.insert(name, settings);
    }
    signals
}

/// `platform.kubernetes = { … }` or `platform.command = { … }`.
fn platform(value: &Value<'_>) -> Option<PlatformSettings> {
    let table = value.table()?;
    let kinds = table.exactly_one(&["kubernetes", "command"]);
    table.finish();
    let mut platforms: Vec<_> = kinds.iter().map(|(kind, value)| platform_of(kind, value)).collect();
    platforms.pop()?
}

fn platform_of(kind: &str, value: &Value<'_>) -> Option<PlatformSettings> {
    let table = value.table()?;
    match kind {
        "kubernetes" => kubernetes(table).map(PlatformSettings::Kubernetes),
        _ => command(table).map(PlatformSettings::Command),
    }
}

fn platform_name(platform: &PlatformSettings) -> String {
    match platform {
        PlatformSettings::Kubernetes(kubernetes::Settings { namespace, kind, name }) => {
            let kind = match kind {
                kubernetes::Kind::Deployment => "deployment",
                kubernetes::Kind::StatefulSet => "statefulset",
                kubernetes::Kind::DaemonSet => "daemonset",
            };
            format!("kubernetes {namespace}/{kind}/{name}")
        }
        PlatformSettings::Command(_) => "command".to_owned(),
    }
}

fn kubernetes(table: Table<'_>) -> Option<kubernetes::Settings> {
    let namespace = table.required("namespace", "namespace = \"shop\"").and_then(|value| kubernetes_name(&value, 63));
    let workloads = table.exactly_one(&["deployment", "statefulset", "daemonset"]);
    table.finish();
    let mut workloads: Vec<_> = workloads.iter().map(|(kind, value)| (*kind, kubernetes_name(value, 253))).collect();
    let (kind, name) = workloads.pop()?;
    let kind = match kind {
        "deployment" => kubernetes::Kind::Deployment,
        "statefulset" => kubernetes::Kind::StatefulSet,
        _ => kubernetes::Kind::DaemonSet,
    };
    Some(kubernetes::Settings { namespace: namespace?, kind, name: name? })
}

/// A DNS label or, where it may be longer, a DNS subdomain (RFC 1123), as Kubernetes has them.
fn kubernetes_name(value: &Value<'_>, most: usize) -> Option<String> {
    let text = value.text(most, "\"shop\"")?;
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|&byte| alphanumeric(byte))
            && bytes.last().is_some_and(|&byte| alphanumeric(byte))
            && bytes.iter().all(|&byte| alphanumeric(byte) || byte == b'-')
    };
    let good = if most > 63 { text.split('.').all(is_label) } else { is_label(text) };
    if !good {
        value.refuse(
            format!("`{}` is not a name that Kubernetes allows: {}", value.path, quoted(text)),
            "use a-z, 0-9 and `-`, beginning and ending with a letter or a digit",
        );
    }
    good.then(|| text.to_owned())
}

fn command(table: Table<'_>) -> Option<command::Settings> {
    let current = table.required("current", "current = [\"/usr/local/bin/current-version\"]").and_then(|value| program(&value));
    let deploy = table.required("deploy", "deploy = [\"/usr/local/bin/deploy\"]").and_then(|value| program(&value));
    let status = table.optional("status").map(|value| program(&value));
    let every = table.optional("every").and_then(|value| value.duration(SECOND..=HOUR)).unwrap_or(Duration::from_secs(10));
    let timeout = table.optional("timeout").and_then(|value| value.duration(SECOND..=HOUR)).unwrap_or(5 * MINUTE);
    table.finish();
    let status = match status {
        None => None,
        Some(program) => Some(program?),
    };
    Some(command::Settings { current: current?, deploy: deploy?, status, every, timeout })
}

/// An argument vector. A program that isn't there yet is only worth a warning: the first deployment may bring it.
fn program(value: &Value<'_>) -> Option<Vec<String>> {
    const FORM: &str = "[\"/usr/local/bin/deploy\", \"--now\"]";
    if value.is_text() {
        value.refuse(format!("`{}` must be a list of arguments: no shell takes it apart", value.path), format!("for example {FORM}"));
        return None;
    }
    let values = value.list(64, FORM)?;
    let arguments: Vec<Option<String>> = values.iter().map(|value| value.text(4096, FORM).map(str::to_owned)).collect();
    let arguments = arguments.into_iter().collect::<Option<Vec<String>>>()?;
    let program = std::path::Path::new(arguments.first()?);
    if program.is_absolute() && !program.is_file() {
        let problem = Problem::warning(values.first()?.span.clone(), format!("there is no program {}", program.display()));
        value.report(problem.help("put it there, or correct its path"));
    }
    Some(arguments)
}
