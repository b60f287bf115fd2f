//! The configuration as a user meets it: good files, wrong files and what is said of them, absurd files, and the reference.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rollbackd_core::alert::Rules;
use rollbackd_core::service::{Role, SignalKind, SignalPolicy};
use rollbackd_core::severity::{Impact, Response};

use super::*;
use crate::notify::email::Encryption;
use crate::notify::webhook;
use crate::signal::http::HeaderValue;

const REFERENCE: &str = include_str!("../../config/rollbackd.toml");

const EXAMPLES: [(&str, &str); 3] = [
    ("kubernetes.toml", include_str!("../../config/examples/kubernetes.toml")),
    ("host.toml", include_str!("../../config/examples/host.toml")),
    ("quick.toml", include_str!("../../config/examples/quick.toml")),
];

/// A good configuration that the wrong ones are made of.
const GOOD: &str = r#"[prometheus.main]
url = "http://prometheus:9090"

[notify.oncall.email]
smtp = "smtps://mail.example.org"
from = "rollbackd@example.org"
to = ["oncall@example.org"]

[notify.chat.webhook]
url = "https://hooks.example.org/T0/B0"

[fleet]

[daemon]

[kubernetes]

[decision]

[matrix.error_ratio]

[matrix.minor_fault]

[services.checkout]
platform.kubernetes = { namespace = "shop", deployment = "checkout" }

[services.checkout.probes.ready]
http = "http://checkout/healthz"

[services.checkout.errors]
prometheus = "main"
total = 'requests_total'
failed = 'requests_total{code=~"5.."}'

[services.checkout.latency]
prometheus = "main"
histogram = 'request_duration_seconds'

[services.checkout.impacts.mismatch]
prometheus = "main"
query = 'increase(mismatch_total[5m]) > 0'
impact = "data_corruption"

[services.checkout.control.payments]
prometheus = "main"
total = 'payments_total'
failed = 'payments_failed_total'

[services.billing]

[services.billing.platform.command]
current = ["billing-version"]
deploy = ["billing-deploy"]

[services.billing.probes.ready]
http = "http://billing/healthz"
"#;

fn good() -> Config {
    parse(GOOD, "rollbackd.toml", &Environment::default()).expect("it is good")
}

fn wrong(text: &str) -> Diagnostics {
    parse(text, "rollbackd.toml", &Environment::default()).expect_err("it is wrong")
}

fn drawn(text: &str) -> String {
    render(&wrong(text), false)
}

/// `GOOD` with a line put under a header, in place of a line there with the same key.
fn good_with(header: &str, line: &str) -> String {
    let key = |line: &str| line.split([' ', '.']).next().unwrap_or_default().trim_matches('«').to_owned();
    let mut text = String::new();
    let mut inside = false;
    for old in GOOD.lines() {
        if old.starts_with('[') {
            inside = old == header;
        }
        if !(inside && key(old) == key(line)) {
            text.push_str(old);
            text.push('\n');
        }
        if old == header {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The text without its mark, and the line and the column that the mark stood at.
fn marked(text: &str) -> (String, (usize, usize)) {
    let at = text.find('«').expect("the case marks its place");
    let line = text[..at].matches('\n').count() + 1;
    let column = text[..at].chars().rev().take_while(|&character| character != '\n').count() + 1;
    (text.replacen('«', "", 1), (line, column))
}

#[test]
fn a_good_configuration_is_taken_whole() {
    let config = good();
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    assert_eq!(config.daemon.state_directory, Path::new("/var/lib/rollbackd"));
    assert_eq!(config.daemon.socket, Path::new("/run/rollbackd/rollbackd.sock"));
    let checkout = &config.services[&ServiceName::try_from("checkout").unwrap()];
    assert_eq!(checkout.policy.platform, "kubernetes shop/deployment/checkout");
    assert_eq!(checkout.policy.environment, "production");
    assert_eq!(checkout.policy.window, SignedDuration::from_mins(30));
    assert_eq!(checkout.policy.matrix, Matrix::default());
    assert_eq!(checkout.policy.decision, Decision::default());
    assert!(!checkout.policy.promote_on_probes);
    let names: Vec<&str> = checkout.policy.signals.keys().map(|name| name.0.as_str()).collect();
    assert_eq!(names, ["control.payments", "errors", "impact.mismatch", "latency", "probe.ready"]);
    assert!(checkout.policy.signals.keys().eq(checkout.signals.keys()));
    let errors = &checkout.policy.signals[&SignalName("errors".to_owned())];
    assert_eq!((errors.kind, errors.has_history, errors.source.as_str()), (SignalKind::Errors, true, "prometheus main"));
    let billing = &config.services[&ServiceName::try_from("billing").unwrap()];
    assert_eq!(billing.policy.platform, "command");
    assert!(billing.policy.promote_on_probes, "it has no other signal");
}

#[test]
fn the_same_text_gives_an_equal_configuration_and_one_change_touches_one_service() {
    let changed = parse(&good_with("[services.billing]", "dry_run = true"), "rollbackd.toml", &Environment::default()).unwrap();
    assert_eq!(good(), good());
    let differing: Vec<String> =
        good().services.iter().filter(|(name, service)| changed.services[*name] != **service).map(|(name, _)| name.to_string()).collect();
    assert_eq!(differing, ["billing"]);
}

#[test]
fn the_environment_says_where_state_and_socket_live_unless_the_file_does() {
    let environment =
        Environment { state_directory: Some("/state".into()), runtime_directory: Some("/runtime".into()), ..Environment::default() };
    let daemon = parse(GOOD, "rollbackd.toml", &environment).unwrap().daemon;
    assert_eq!((daemon.state_directory.as_path(), daemon.socket.as_path()), (Path::new("/state"), Path::new("/runtime/rollbackd.sock")));
    let daemon = parse(&good_with("[daemon]", "socket = \"own.sock\""), "/etc/rollbackd/rollbackd.toml", &environment).unwrap().daemon;
    assert_eq!(daemon.socket, Path::new("/etc/rollbackd/own.sock"));
}

#[test]
fn a_service_changes_the_global_policy_for_itself_alone() {
    let text = GOOD.replace("[matrix.error_ratio]", "[matrix.error_ratio]\nabove = 0.4\nwithin = \"20m\"")
        + "[services.billing.matrix.error_ratio]\nresponse = \"ask\"\n[services.billing.decision]\nhold_p1 = \"3m\"\n";
    let config = parse(&text, "rollbackd.toml", &Environment::default()).unwrap();
    let row = |name: &str| config.services[&ServiceName::try_from(name).unwrap()].policy.matrix.error_ratio;
    assert_eq!((row("checkout").above, row("checkout").response), (Some(0.4), Response::RollBack));
    assert_eq!((row("billing").above, row("billing").response), (Some(0.4), Response::Ask));
    assert_eq!(row("billing").within, Some(SignedDuration::from_mins(20)));
    let hold = |name: &str| config.services[&ServiceName::try_from(name).unwrap()].policy.decision.hold_p1;
    assert_eq!((hold("checkout"), hold("billing")), (SignedDuration::from_secs(120), SignedDuration::from_secs(180)));
}

#[test]
fn mail_servers_say_their_encryption_by_their_scheme() {
    for (smtp, host, port, encryption) in [
        ("smtps://mail.example.org", "mail.example.org", 465, Encryption::Tls),
        ("smtp://mail.example.org:2525", "mail.example.org", 2525, Encryption::StartTls),
        ("smtp+plain://localhost", "localhost", 25, Encryption::None),
    ] {
        let text = good_with("[notify.oncall.email]", &format!("smtp = \"{smtp}\""));
        let config = parse(&text, "rollbackd.toml", &Environment::default()).unwrap();
        let NotifierSettings::Email(email) = &config.destinations["oncall"].notifier else { panic!("it is mail") };
        assert_eq!((email.host.as_str(), email.port, email.encryption), (host, port, encryption));
    }
}

#[test]
fn a_probe_takes_statuses_headers_and_an_expectation_in_json() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("key"), "whatever\n").unwrap();
    let text = good_with(
        "[services.checkout.probes.ready]",
        "status = [200, \"300-399\"]\njson = { pointer = \"/n\", equals = 3 }\nheaders = { X-Tenant = \"shop\", X-Api-Key = { file = \"key\" } }",
    );
    let config = parse(&text, &directory.path().join("rollbackd.toml").display().to_string(), &Environment::default()).unwrap();
    let checkout = &config.services[&ServiceName::try_from("checkout").unwrap()];
    let SignalSettings::Probe(probe) = &checkout.signals[&SignalName("probe.ready".to_owned())] else { panic!("it is a probe") };
    assert_eq!(probe.status, [(200, 200), (300, 399)]);
    assert_eq!(probe.json, Some(("/n".to_owned(), serde_json::json!(3))));
    let key = crate::secret::Secret::File(directory.path().join("key"));
    let headers = [("X-Tenant".to_owned(), HeaderValue::Plain("shop".to_owned())), ("X-Api-Key".to_owned(), HeaderValue::Secret(key))];
    assert_eq!(probe.access.headers, headers);
    assert!(!format!("{config:?}").contains("whatever"));
}

#[test]
fn credentials_are_looked_for_in_the_credentials_directory() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("chat"), "https://hooks.example.org/x").unwrap();
    let text = good_with("[notify.chat.webhook]", "url_credential = \"chat\"").replace("url = \"https://hooks.example.org/T0/B0\"\n", "");
    let environment = Environment { credentials_directory: Some(directory.path().to_owned()), ..Environment::default() };
    let config = parse(&text, "rollbackd.toml", &environment).unwrap();
    let NotifierSettings::Webhook(webhook) = &config.destinations["chat"].notifier else { panic!("it is a webhook") };
    assert_eq!(webhook.url, webhook::Address::Secret(crate::secret::Secret::Credential(directory.path().join("chat"))));
    assert!(drawn(&text).contains("$CREDENTIALS_DIRECTORY is not set"));
}

/// The signal of a name of the service `billing`.
fn signal(config: &Config, name: &str) -> (SignalPolicy, SignalSettings) {
    let billing = &config.services[&ServiceName::try_from("billing").unwrap()];
    let name = SignalName(name.to_owned());
    (billing.policy.signals[&name].clone(), billing.signals[&name].clone())
}

/// `GOOD` with tables more.
fn good_and(tables: &str) -> Config {
    parse(&(GOOD.to_owned() + tables), "rollbackd.toml", &Environment::default()).unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn a_histogram_is_read_from_a_server_or_from_endpoints() {
    let with = |source: &str| {
        let latency = "histogram = 'r_seconds_bucket{service=\"shop\"}'\nevery = \"30s\"\n";
        good_and(&format!("[services.billing.latency]\n{source}\n{latency}"))
    };
    let (policy, settings) = signal(&with("prometheus = \"main\""), "latency");
    assert_eq!((policy.kind, policy.role, policy.every), (SignalKind::Latency, Role::Own, SignedDuration::from_secs(30)));
    assert_eq!((policy.has_history, policy.source.as_str()), (true, "prometheus main"));
    let SignalSettings::Histograms(settings) = settings else { panic!("{settings:?}") };
    assert_eq!((settings.histogram.as_str(), settings.every), ("r_seconds_bucket{service=\"shop\"}", Duration::from_secs(30)));

    let (policy, settings) = signal(&with("metrics = [\"http://a/metrics\", \"http://b/metrics\"]\ntimeout = \"1s\""), "latency");
    assert_eq!((policy.kind, policy.has_history, policy.source.as_str()), (SignalKind::Latency, false, "http://a/metrics and 1 more"));
    let SignalSettings::Metrics(settings) = settings else { panic!("{settings:?}") };
    assert_eq!(
        (settings.wanted, settings.targets.len()),
        (signals::metrics::Wanted::Histogram("r_seconds_bucket{service=\"shop\"}".to_owned()), 2)
    );
    assert_eq!(settings.timeout, Duration::from_secs(1));
}

#[test]
fn a_query_of_ones_own_stands_for_an_impact_and_may_go_over_lines() {
    let impacts = r#"[services.billing.impacts.wrong_totals]
prometheus = "main"
query = """
# any mismatch at all: it's (always) bad
increase(order_total_mismatch_total{reason!~"test|\\"}"}[5m]) > 0
"""
impact = "data_corruption"
[services.billing.impacts.leak]
prometheus = "main"
query = 'up{job="vault"} == 0'
impact = "security_breach"
for = "2m"
every = "1m"
"#;
    let config = good_and(impacts);
    let (policy, settings) = signal(&config, "impact.wrong_totals");
    assert_eq!(policy.kind, SignalKind::Query { impact: Impact::DataCorruption, lasting: SignedDuration::ZERO });
    assert_eq!((policy.every, policy.has_history, policy.source.as_str()), (SignedDuration::from_secs(15), false, "prometheus main"));
    let SignalSettings::Query(settings) = settings else { panic!("{settings:?}") };
    assert!(settings.query.starts_with("# any mismatch") && settings.query.ends_with("> 0"), "{}", settings.query);
    let (policy, _) = signal(&config, "impact.leak");
    assert_eq!(policy.kind, SignalKind::Query { impact: Impact::SecurityBreach, lasting: SignedDuration::from_mins(2) });
    assert_eq!(policy.every, SignedDuration::from_mins(1));
}

#[test]
fn a_control_group_is_read_as_errors_are_and_is_no_reason_to_trust_probes_less() {
    let config = good_and("[services.billing.control.payments]\nmetrics = \"http://payments/metrics\"\ntotal = 'r'\nfailed = 'f'\n");
    let (policy, settings) = signal(&config, "control.payments");
    assert_eq!((policy.kind, policy.role, policy.source.as_str()), (SignalKind::Errors, Role::Control, "http://payments/metrics"));
    let wanted = signals::metrics::Wanted::Counters { total: "r".to_owned(), failed: "f".to_owned(), by: None };
    assert!(matches!(settings, SignalSettings::Metrics(settings) if settings.wanted == wanted));
    assert!(config.services[&ServiceName::try_from("billing").unwrap()].policy.promote_on_probes, "it has no errors of its own");
}

#[test]
fn routes_are_told_by_a_label() {
    let errors = "[services.billing.errors]\nprometheus = \"main\"\ntotal = 'r'\nfailed = 'r{code=~\"5..\"}'\nby = \"route\"\n";
    let (policy, settings) = signal(&good_and(errors), "errors");
    let SignalSettings::Prometheus(settings) = settings else { panic!("{settings:?}") };
    assert_eq!((policy.role, settings.by.as_deref()), (Role::Own, Some("route")));
    // A label that both selectors ask for tells nothing of failures.
    let both = errors.replace("'r'", "'r{zone=~\"a|b\"}'").replace("{code", "{zone=~\"a|b\",code").replace("route", "zone");
    assert!(good_and(&both).services.len() == 2);
}

/// One mistake each: under which header, the line (its place marked), and a phrase of what is said.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("[services.checkout]", "«widnow = \"30m\"", "did you mean `window`?"),
    ("[services.checkout]", "«dry-run = true", "did you mean `dry_run`?"),
    ("[services.checkout]", "«colour = \"red\"", "its keys are: control, decision, dry_run, environment, errors, impacts, latency, matrix"),
    ("[services.checkout]", "window = «30m", "put the value in double quotes"),
    ("[services.checkout]", "window = «30", "did you mean \"30s\"?"),
    ("[services.checkout]", "window = «\"30\"", "`services.checkout.window` is not a duration: \"30\""),
    ("[services.checkout]", "window = «\"-5m\"", "is not a duration: \"-5m\""),
    ("[services.checkout]", "window = «\"30 parsecs\"", "is not a duration"),
    ("[services.checkout]", "window = «\"18446744073709551615s 1000ms\"", "is not a duration"),
    ("[services.checkout]", "window = «\"1s\"", "must be between 10s and 7d, not 1s"),
    ("[services.checkout]", "window = «\"10m\"", "shorter than the 30m within which `performance` is to be over"),
    ("[services.checkout]", "window = «true", "must be a duration, not true or false"),
    ("[services.checkout]", "dry_run = «\"yes\"", "must be true or false, not a text"),
    ("[services.checkout]", "dry_run = «Yes", "string values must be quoted"),
    ("[services.checkout]", "environment = «\"\"", "is empty"),
    ("[services.checkout]", "environment = «7", "must be a text, not a number"),
    ("[services.checkout]", "restore = «\"images\"", "did you mean \"image\"?"),
    ("[services.checkout]", "rollbacks_per_day = «0", "must be between 1 and 100, not 0"),
    ("[services.checkout]", "rollbacks_per_day = «2.5", "must be a whole number"),
    ("[services.checkout]", "rollbacks_per_day = «99999999999999999999", "must be between 1 and 100"),
    ("[services.checkout]", "verification = { «time = \"5m\" }", "is not a key of `services.checkout.verification`"),
    ("[services.checkout]", "verification = { watch = «\"30d\" }", "must be between 1s and 1d, not 30d"),
    ("[services.checkout]", "platform = «\"kubernetes\"", "must be a table, not a text"),
    ("[services.checkout]", "platform.«kubernetes = { namespace = \"shop\" }", "needs `deployment`, `statefulset` or `daemonset`"),
    ("[services.checkout]", "platform.«kubernetes = { deployment = \"shop\" }", "needs `namespace`"),
    ("[services.checkout]", "platform.kubernetes = { namespace = «\"Shop\", deployment = \"a\" }", "not a name that Kubernetes allows"),
    (
        "[services.checkout]",
        "platform.kubernetes = { namespace = \"shop\", deployment = \"a\", «daemonset = \"a\" }",
        "both `deployment` and `daemonset`",
    ),
    (
        "[services.checkout]",
        "platform.kubernetes = { namespace = \"a\", deployment = \"b\" }
platform.«command = { current = [\"c\"], deploy = [\"d\"] }",
        "both `kubernetes` and `command`",
    ),
    ("[services.billing.platform.command]", "current = «\"version\"", "must be a list of arguments"),
    ("[services.billing.platform.command]", "deploy = «[]", "is empty"),
    ("[services.billing.platform.command]", "every = «\"100ms\"", "must be between 1s and 1h"),
    ("[services.checkout.probes.ready]", "http = «\"checkout/healthz\"", "does not begin with http:// or https://"),
    ("[services.checkout.probes.ready]", "http = «\"ftp://checkout/healthz\"", "does not begin with http:// or https://"),
    ("[services.checkout.probes.ready]", "http = «\"http:/checkout\"", "does not begin with http:// or https://"),
    ("[services.checkout.probes.ready]", "http = «\"http://\"", "empty host"),
    ("[services.checkout.probes.ready]", "http = «\"http://user:hunter2@checkout/\"", "credentials inside the address"),
    ("[services.checkout.probes.ready]", "http = [\"http://a/\", «\"http://a/\"]", "the same address twice"),
    ("[services.checkout.probes.ready]", "http = [\"http://a/\", «3]", "must be a text, not a number"),
    ("[services.checkout.probes.ready]", "every = «\"50ms\"", "must be between 100ms and 1h, not 50ms"),
    ("[services.checkout.probes.ready]", "method = «\"get\"", "did you mean \"GET\"?"),
    ("[services.checkout.probes.ready]", "status = «\"2xx\"", "is not a range of statuses"),
    ("[services.checkout.probes.ready]", "status = «\"299-200\"", "is not a range of statuses"),
    ("[services.checkout.probes.ready]", "status = [200, «99]", "must be between 100 and 599, not 99"),
    ("[services.checkout.probes.ready]", "latency_limit = «\"2s\"", "is not shorter than the timeout of 2s"),
    ("[services.checkout.probes.ready]", "json = { pointer = «\"status\", equals = 1 }", "does not begin with a slash"),
    ("[services.checkout.probes.ready]", "«json = { pointer = \"/status\" }", "needs `equals`"),
    (
        "[services.checkout.probes.ready]",
        "json = { pointer = \"/status\", equals = «[1] }",
        "must be a text, a number, true or false, not a list",
    ),
    ("[services.checkout.probes.ready]", "method = \"HEAD\"\n«body_contains = \"ok\"", "no body to look into"),
    ("[services.checkout.probes.ready]", "redirects = «11", "must be between 0 and 10"),
    ("[services.checkout.probes.ready]", "ca_file = «\"/no/such/ca.pem\"", "/no/such/ca.pem: no such file or directory"),
    ("[services.checkout.probes.ready]", "ca_file = «\"/\"", "is not a file"),
    ("[services.checkout.probes.ready]", "ca_file = «\"Cargo.toml\"", "holds no certificate"),
    ("[services.checkout.probes.ready]", "«bearer = \"hunter2\"", "`bearer_credential` or `bearer_file`"),
    ("[services.checkout.probes.ready]", "headers = { Authorization = «\"Bearer hunter2\" }", "would put a secret in the open"),
    ("[services.checkout.probes.ready]", "headers = { «\"X Y\" = \"a\" }", "is not the name of a header"),
    ("[services.checkout.errors]", "prometheus = «\"mian\"", "did you mean \"main\"?"),
    ("[services.checkout.errors]", "prometheus = «\"elsewhere\"", "defined are: main"),
    ("[services.checkout.errors]", "prometheus = \"main\"\n«metrics = \"http://checkout/metrics\"", "both `prometheus` and `metrics`"),
    (
        "[services.checkout.errors]",
        "total = «'rate(requests_total)'",
        "no function may stand here, only the counter itself; at character 5",
    ),
    ("[services.checkout.errors]", "total = «'requests_total[5m]'", "a range is chosen by rollbackd itself"),
    ("[services.checkout.errors]", "total = «'requests_total{code=\"2}'", "a quoted text that does not end, beginning at character 21"),
    ("[services.checkout.errors]", "total = «'requests_total{code=\"2\"'", "expected ',' or '}' at character 24"),
    ("[services.checkout.errors]", "total = «'requests_total}'", "expected the end at character 15"),
    (
        "[services.checkout.errors]",
        "failed = «'requests_total{code=~\"5(..\"}'",
        "`services.checkout.errors.failed` is not a plain selector: \"5(..\" is not a regular expression: unclosed group at character 22",
    ),
    ("[services.checkout.errors]", "failed = «'requests_total{code=~\"5..\"} offset 5m'", "expected the end at character 29"),
    ("[services.checkout.errors]", "failed = «'requests_total{code=~\"5..\"} > 0'", "expected the end at character 29"),
    ("[services.checkout.errors]", "failed = «'requests total'", "expected the end at character 10"),
    ("[services.checkout.errors]", "failed = «'1 - requests_total'", "expected a metric name at character 1"),
    ("[services.checkout.errors]", "failed = «'{}'", "it names no metric"),
    ("[services.checkout.errors]", "failed = «'{__name__=\"requests_total\"}'", "is the same as `total`"),
    ("[services.checkout.errors]", "«timeout = \"5s\"", "belongs to its server"),
    ("[services.checkout.errors]", "by = «\"code\"", "is the label that tells failed requests from others"),
    ("[services.checkout.errors]", "by = «\"my route\"", "is not a label: \"my route\""),
    ("[services.checkout.errors]", "by = «\"__name__\"", "is not a label: \"__name__\""),
    ("[services.checkout.errors]", "by = «[\"route\"]", "must be a text, not a list"),
    ("[services.billing]", "«latncy = { prometheus = \"main\", histogram = 'r' }", "did you mean `latency`?"),
    ("[services.checkout.latency]", "«histogramm = 'r_seconds'", "did you mean `histogram`?"),
    ("[services.checkout.latency]", "prometheus = «\"mian\"", "did you mean \"main\"?"),
    ("[services.checkout.latency]", "histogram = «'rate(r_seconds_bucket[5m])'", "no function may stand here"),
    ("[services.checkout.latency]", "histogram = «'r_seconds[5m]'", "a range is chosen by rollbackd itself"),
    ("[services.checkout.latency]", "histogram = «'r_seconds_count{a=\"b\"}'", "did you mean 'r_seconds'"),
    ("[services.checkout.latency]", "histogram = «'r_seconds_bucket{le=\"0.5\"}'", "leave `le` out: all buckets are needed"),
    ("[services.checkout.latency]", "histogram = «'{service=\"shop\"}'", "does not name a histogram: it names no metric"),
    ("[services.checkout.latency]", "histogram = «'r_seconds{service=shop}'", "expected a quoted text at character 19"),
    ("[services.checkout.latency]", "histogram = «7", "must be a text, not a number"),
    ("[services.checkout.latency]", "every = «\"1ms\"", "must be between 100ms and 1h"),
    ("[services.checkout.latency]", "«timeout = \"5s\"", "belongs to its server"),
    ("[services.checkout.latency]", "prometheus = \"main\"\n«metrics = \"http://checkout/metrics\"", "both `prometheus` and `metrics`"),
    ("[services.checkout.latency]", "«above = 0.5", "is not a key of `services.checkout.latency`"),
    ("[services.checkout.impacts.mismatch]", "impact = «\"data_coruption\"", "did you mean \"data_corruption\"?"),
    (
        "[services.checkout.impacts.mismatch]",
        "impact = «\"bad\"",
        "write one of \"complete_outage\", \"data_corruption\", \"security_breach\"",
    ),
    ("[services.checkout.impacts.mismatch]", "for = «\"31m\"", "of 31m is longer than the window of 30m, so that it would never be found"),
    ("[services.checkout.impacts.mismatch]", "for = «5", "did you mean \"5s\"?"),
    ("[services.checkout.impacts.mismatch]", "«form = \"5m\"", "did you mean `for`?"),
    ("[services.checkout.impacts.mismatch]", "query = «''", "is empty"),
    ("[services.checkout.impacts.mismatch]", "query = «'increase(x[5m] > 0'", "is not an expression of PromQL: a ')' is missing"),
    ("[services.checkout.impacts.mismatch]", "query = «'x > 0)'", "')' closes nothing"),
    ("[services.checkout.impacts.mismatch]", "query = «'x{a=\"b} > 0'", "a quote is not closed"),
    ("[services.checkout.impacts.mismatch]", "prometheus = «\"elsewhere\"", "defined are: main"),
    (
        "[services.checkout.impacts.mismatch]",
        "«metrics = \"http://checkout/metrics\"",
        "its keys are: every, for, impact, prometheus, query",
    ),
    ("[services.checkout.impacts.mismatch]", "«severity = \"P0\"", "is not a key of `services.checkout.impacts.mismatch`"),
    ("[services.billing]", "«impact.x = { prometheus = \"main\", query = 'x', impact = \"minor_fault\" }", "did you mean `impacts`?"),
    ("[services.billing]", "impacts.«x = { prometheus = \"main\", impact = \"minor_fault\" }", "needs `query`"),
    ("[services.checkout.control.payments]", "«by = \"route\"", "is not a key of `services.checkout.control.payments`"),
    ("[services.checkout.control.payments]", "failed = «'payments_total'", "is the same as `total`"),
    ("[services.billing]", "«controls.x = { prometheus = \"main\", total = 'x', failed = 'y' }", "did you mean `control`?"),
    ("[services.billing]", "control.«x = { prometheus = \"main\", total = 'x' }", "needs `failed`"),
    ("[prometheus.main]", "url = «\"prometheus:9090\"", "does not begin with http:// or https://"),
    ("[prometheus.main]", "timeout = «\"1h\"", "must be between 10ms and 1m, not 1h"),
    ("[prometheus.main]", "basic = { user = \"a\", «password = \"hunter2\" }", "would put a secret in the open"),
    ("[prometheus.main]", "«basic = { user = \"a\" }", "needs `password_file` or `password_credential`"),
    ("[prometheus.main]", "bearer_file = «\"/no/such/token\"", "can't be read: /no/such/token"),
    ("[prometheus.main]", "bearer_credential = «\"token\"", "$CREDENTIALS_DIRECTORY is not set"),
    ("[prometheus.main]", "bearer_credential = «\"../token\"", "is not the name of a credential"),
    ("[notify.oncall.email]", "smtp = «\"mail.example.org\"", "does not begin with smtps:// or smtp:// or smtp+plain://"),
    ("[notify.oncall.email]", "smtp = «\"smtps://me:hunter2@mail.example.org\"", "credentials inside the address"),
    ("[notify.oncall.email]", "smtp = «\"smtps://mail.example.org/inbox\"", "more than a host and a port"),
    ("[notify.oncall.email]", "from = «\"rollbackd\"", "is not a mail address"),
    ("[notify.oncall.email]", "to = «[]", "is empty"),
    ("[notify.oncall.email]", "to = [\"a@example.org\", «\"a@example.org\"]", "twice"),
    ("[notify.oncall.email]", "«password = \"hunter2\"\nuser = \"a\"", "`password_credential` or `password_file`"),
    ("[notify.oncall.email]", "severities = [\"P0\", «\"p1\"]", "did you mean \"P1\"?"),
    ("[notify.oncall.email]", "severities = [\"P0\", «\"P0\"]", "twice"),
    ("[notify.chat.webhook]", "format = «\"slak\"", "did you mean \"slack\"?"),
    ("[notify.chat.webhook]", "«secret = \"whsec_hunter2\"", "would put a secret in the open"),
    ("[notify.chat.webhook]", "secret_file = «\"/no/such/file\"", "can't be read"),
    ("[fleet]", "brake_services = «1", "must be between 2 and 10000"),
    ("[fleet]", "rollbacks_per_hour = «\"ten\"", "must be a whole number, not a text"),
    ("[daemon]", "blind_after = «\"0s\"", "must be between 1s and 1d, not 0s"),
    ("[daemon]", "socket = «1979-05-27", "must be a text, not a date"),
    ("[kubernetes]", "kubeconfig = «\"/no/such/kubeconfig\"", "can't be read"),
    ("[decision]", "alpha = «0", "must be greater than 0 and less than 0.05"),
    ("[decision]", "alpha = «nan", "must be greater than 0 and less than 0.05, not nan"),
    ("[decision]", "hold_probe_rounds = «61", "must be between 1 and 60"),
    ("[decision]", "«hold_p4 = \"1m\"", "did you mean `hold_p"),
    ("[matrix.error_ratio]", "above = «50", "must be greater than 0 and less than 1, not 50"),
    ("[matrix.error_ratio]", "response = «\"rollback\"", "did you mean \"roll_back\"?"),
    ("[matrix.error_ratio]", "severity = «\"high\"", "write one of \"P0\", \"P1\", \"P2\", \"P3\""),
    ("[decision]", "hold_p1 = «\"20m\"", "must persist for 20m before it is acted on, and is to be over within 15m"),
    ("[services.billing]", "decision.hold_p1 = «\"20m\"", "must persist for 20m before it is acted on"),
    (
        "[services.checkout]",
        "matrix.«performance = { within = \"2m\" }",
        "slowness must persist for 3m before it is acted on, and is to be over within 2m",
    ),
    (
        "[services.checkout]",
        "matrix.«feature_broken = { response = \"roll_back\", within = \"1s\" }",
        "a broken feature must persist for 2m before it is acted on, and is to be over within 1s",
    ),
    ("[services.billing]", "decision.grace = \"45m\"\nwindow = «\"40m\"", "the window of 40m ends before the grace of 45m does"),
    ("[services.billing]", "window = «\"14m\"", "the window of 14m is shorter than the 15m within which `error_ratio` is to be over"),
    (
        "[services.checkout]",
        "decision.hold_p2 = «\"30m\"",
        "`feature_broken` would never be found: after the grace of 1m it must persist for 30m",
    ),
    ("[services.checkout]", "decision.hold_p0 = «\"1h\"", "it must persist for 30m, and the window of 30m is over by then"),
    ("[services.checkout.errors]", "every = «\"20m\"", "look more often, since a hold is never under two looks"),
    ("[services.checkout.probes.ready]", "every = «\"6m\"", "6 rounds, one every 6m, take 36m, and the window of 30m is over by then"),
    ("[services.checkout.probes.ready]", "every = «\"5m\"", "6 rounds, one every 5m, take 30m, and the window of 30m is over by then"),
    ("[services.checkout.probes.ready]", "ca_file = «\"/dev/zero\"", "is not a file"),
    ("[prometheus.main]", "bearer_file = «\"/dev/zero\"", "is not a file"),
    ("[matrix.minor_fault]", "«above = 0.5", "has no level"),
];

#[test]
fn every_mistake_is_told_at_its_place_alone_and_with_words_that_help() {
    for &(header, line, phrase) in MISTAKES {
        let (text, place) = marked(&good_with(header, line));
        let diagnostics = wrong(&text);
        let errors: Vec<_> = diagnostics.diagnostics.iter().filter(|diagnostic| diagnostic.level == Level::Error).collect();
        let [error] = errors.as_slice() else { panic!("{line}: not one error but\n{diagnostics}") };
        let found = error.place.as_ref().map(|place| (place.line, place.column));
        assert_eq!(found, Some(place), "{line}:\n{diagnostics}");
        let said = format!("{} {}", error.message, error.help.as_deref().unwrap_or_default());
        assert!(said.contains(phrase), "{line}: {phrase:?} is not in\n{diagnostics}");
    }
}

#[test]
fn no_message_shows_a_secret() {
    for &(header, line, _) in MISTAKES {
        let (text, _) = marked(&good_with(header, line));
        let diagnostics = wrong(&text);
        for shown in
            [render(&diagnostics, false), render(&diagnostics, true), diagnostics.to_json().to_string(), format!("{diagnostics:?}")]
        {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(!shown.contains("T0/B0"), "{shown}");
        }
    }
    let both = drawn(&good_with("[notify.chat.webhook]", "url_file = \"/no/such/file\""));
    assert!(both.contains("has both `url_file` and `url`") && !both.contains("T0/B0"), "{both}");
    for broken in [
        "password = \"hunter2",
        "password = hunter2",
        "pasword = 'hunter2'",
        "\"password\" = 'hunter2' x",
        "password = \"\"\"\nhunter2\"\"\"",
        "url = \"https//x:hunter2@y/\" =",
    ] {
        let shown = drawn(&good_with("[notify.oncall.email]", broken));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn ten_mistakes_in_one_file_are_all_told_in_order_of_place() {
    let text = r#"[prometheus.main]
«url = "prometheus:9090"

[notify.oncall.email]
smtp = «"mail.example.org"
from = "rollbackd@example.org"
to = «[]

[services.checkout]
window = «30m
«enviroment = "production"
platform.kubernetes = { namespace = «"Shop", deployment = "checkout" }

[services.checkout.probes.ready]
http = "http://checkout/healthz"
every = «"1ms"
status = «"ok"

[services.checkout.errors]
prometheus = «"mian"
total = «'rate(requests_total[5m])'
failed = 'requests_total{code=~"5.."}'
"#
    .replace("«url = ", "url = «");
    let mut expected = Vec::new();
    let mut text = text;
    while text.contains('«') {
        let (rest, place) = marked(&text);
        text = rest;
        expected.push(place);
    }
    let found: Vec<_> = wrong(&text)
        .diagnostics
        .iter()
        .filter_map(|diagnostic| diagnostic.place.as_ref())
        .map(|place| (place.line, place.column))
        .collect();
    assert_eq!(expected.len(), 10);
    assert_eq!(found, expected, "{}", drawn(&text));
}

#[test]
fn what_may_be_wrong_only_because_the_syntax_is_is_not_told() {
    let text = GOOD.replace("[services.checkout]", "[services.checkout");
    let diagnostics = wrong(&text);
    assert_eq!(diagnostics.diagnostics.len(), 1, "{diagnostics}");
    let text = GOOD.to_owned() + "[services.checkout]\nwindow = \"30m\"\n";
    let diagnostics = wrong(&text);
    assert_eq!(diagnostics.diagnostics.len(), 1, "{diagnostics}");
    assert!(diagnostics.diagnostics[0].help.as_deref().unwrap().contains("further up"));
}

/// Files in which one mistake stands in front of others. Each is told, all of them at once.
const NESTED: [&str; 12] = [
    "[services.checkout]\nplatform.«kuberntes = { namespace = «'Shop', deployment = 'a', «labels = 1 }",
    "[services.«'Not a name']\n«widnow = «30\nplatform.«kubernetes = { namespace = 'shop' }",
    "[services.a]\nplatform.command = { current = ['c'], deploy = ['d'] }\n«probse.ready = { http = «'nowhere', «evry = «'1ms' }",
    "[«servces.a]\n«platfrom.«comand = { «curent = «'c', deploy = ['d'] }",
    "[notify.a]\n«emial = { smtp = «'nowhere', «form = «'nobody', to = ['a@example.org', «3, «4] }",
    "[notify.a]\nemail = { smtp = «'nowhere', from = 'a@b.c', to = ['b@b.c'] }\n«webhook = { url = «'nowhere', «colour = 1 }",
    "[services.a]\nplatform.command = { current = ['c'], deploy = ['d'] }\n«errors = { total = «'x(y)', failed = «'f > 0', «colour = 1, «evry = «1 }",
    "[services.a]\nplatform.command = { current = ['c'], deploy = ['d'] }\nerrors = { prometheus = «'p', «metrics = «'m', total = 't', failed = 'f' }",
    "[services.a]\nplatform.kubernetes = { namespace = 'a', deployment = 'b' }\nplatform.«command = { current = «'c', «deply = «'d' }",
    "[services.a]\nplatform.command = { current = ['c'], deploy = ['d'] }\nprobes.«'-'.http = ['http://a/', «'b', «'c']\nprobes.a = { http = 'http://a/', status = [«1, «'x'] }",
    "[services.a]\nplatform.command = { current = ['c'], deploy = [«1, «2] }\n[notify.a.webhook]\nurl_file = «'/no/such'\n«url_credential = «'none'",
    "[notify.a.«email]\nsmtp = «'smtps://x:y@z/inbox'\nfrom = 'a@b.c'\nto = ['a@b.c']\npassword_file = «'/no/such'",
];

#[test]
fn no_mistake_hides_the_others_inside_it() {
    for case in NESTED {
        let (mut text, mut expected) = (case.to_owned(), Vec::new());
        while text.contains('«') {
            let (rest, place) = marked(&text);
            text = rest;
            expected.push(place);
        }
        let diagnostics = wrong(&text);
        let errors = diagnostics.diagnostics.iter().filter(|diagnostic| diagnostic.level == Level::Error);
        let mut found: Vec<_> = errors.filter_map(|error| error.place.as_ref()).map(|place| (place.line, place.column)).collect();
        found.dedup();
        assert_eq!(found, expected, "{diagnostics}");
    }
}

#[test]
fn a_key_that_could_be_either_of_two_is_not_read_as_one_of_them() {
    let diagnostics = wrong(&good_with("[decision]", "hold_p4 = \"20m\""));
    assert_eq!(diagnostics.count(Level::Error), 1, "{diagnostics}");
}

#[test]
fn a_key_that_is_misspelt_is_not_also_told_to_be_missing() {
    let diagnostics = wrong(&GOOD.replace("[services.billing.platform.command]", "[services.billing.platform.comand]"));
    assert_eq!(diagnostics.count(Level::Error), 1, "{diagnostics}");
}

#[test]
fn two_guards_of_one_workload_are_refused() {
    let text = GOOD.to_owned()
        + "[services.again]\nplatform.kubernetes = { namespace = \"shop\", deployment = \"checkout\" }\nprobes.a.http = \"http://a/\"\n";
    let shown = drawn(&text);
    assert!(shown.contains("guards the same workload, kubernetes shop/deployment/checkout"), "{shown}");
}

#[test]
fn the_window_is_held_against_the_matrix_of_the_service_itself() {
    let short = good_with("[services.billing]", "window = \"10m\"");
    let shorter = "[services.billing.matrix]\nerror_ratio.within = \"5m\"\nperformance.within = \"10m\"\n";
    assert!(parse(&(short.clone() + shorter), "rollbackd.toml", &Environment::default()).is_ok());
    let notify = "[services.billing.matrix]\nerror_ratio.response = \"notify\"\nperformance.response = \"ask\"\n";
    assert!(parse(&(short.clone() + notify), "rollbackd.toml", &Environment::default()).is_ok());
    assert!(drawn(&short).contains("shorter than"));
}

/// A service with one signal, and settings.
fn with_signal(signal: &str, settings: &str) -> String {
    format!("{GOOD}[services.shop]\nplatform.command = {{ current = ['c'], deploy = ['d'] }}\n{settings}\n{signal}\n")
}

const LATENCY: &str = "latency = { prometheus = 'main', histogram = 'h_seconds' }";
const PROBE: &str = "probes.ready.http = 'http://shop/healthz'";

#[test]
fn a_window_has_to_outlast_only_what_some_signal_tells() {
    let good = |text: &str| parse(text, "rollbackd.toml", &Environment::default()).is_ok();
    assert!(good(&with_signal(PROBE, "window = '16m'")), "nothing of the service tells slowness, which has half an hour");
    let shown = drawn(&with_signal(PROBE, "window = '14m'"));
    assert!(shown.contains("the window of 14m is shorter than the 15m within which `error_ratio` is to be over"), "{shown}");
    let shown = drawn(&with_signal(LATENCY, "window = '16m'"));
    assert!(shown.contains("the window of 16m is shorter than the 30m within which `performance` is to be over"), "{shown}");
    assert!(good(&with_signal(LATENCY, "window = '30m'")));
}

#[test]
fn the_hold_of_slowness_is_held_against_its_promise_its_window_and_its_looks() {
    let shown = drawn(&with_signal(LATENCY, "decision.hold_latency = '40m'"));
    assert!(shown.contains("slowness must persist for 40m before it is acted on, and is to be over within 30m"), "{shown}");
    assert!(shown.contains("`performance` would never be found: after the grace of 1m it must persist for 40m"), "{shown}");
    let config = parse(&with_signal(LATENCY, "decision.hold_latency = '20s'"), "rollbackd.toml", &Environment::default()).expect("valid");
    let shown = render(&config.warnings, false);
    assert!(shown.contains("a hold of 20s has fewer than two looks in it, one every 15s; it becomes 30s"), "{shown}");
    let slow = parse(&with_signal(LATENCY, "decision.hold_latency = '29m'"), "rollbackd.toml", &Environment::default()).expect("valid");
    let shown = render(&slow.warnings, false);
    assert!(
        shown.contains("`performance` is to be over within 30m, but a release that is bad from its start is decided after 30m 15s"),
        "{shown}"
    );
}

/// The warnings of a file that is taken.
fn warned(text: &str) -> Vec<Diagnostic> {
    parse(text, "rollbackd.toml", &Environment::default()).unwrap_or_else(|wrong| panic!("{wrong}")).warnings.diagnostics
}

const ERRORS: &str = "errors = { prometheus = 'main', total = 'r', failed = 'r{code=~\"5..\"}' }";

/// One contradiction each: the signal of a service, what it sets, and a phrase of the one warning there is.
const CONTRADICTIONS: &[(&str, &str, &str)] = &[
    (
        ERRORS,
        "matrix.feature_broken.response = 'roll_back'\ndecision.history = '2h'",
        "`feature_broken` would never be rolled back: that takes a day of history, and 2h are read",
    ),
    (LATENCY, "verification.timeout = '3m'", "may take 9m to be proved, and is given up after 3m"),
    (ERRORS, "matrix.error_ratio.above = 0.95", "`error_ratio` begins at 0.95, no lower than a complete outage"),
    (ERRORS, "decision.hold_p0 = '3m'", "a complete outage must persist for 3m, longer than the 2m of an error ratio"),
    (ERRORS, "decision.hold_p1 = '40s'", "a complete outage must persist for 1m, longer than the 40s of an error ratio"),
    (
        ERRORS,
        "decision = { hold_p0 = '8m', hold_p1 = '8m' }",
        "a complete outage is to be over at once, and must persist for 8m before it is acted on",
    ),
    (ERRORS, "decision.hold_latency = '5m'", "`services.shop.decision.hold_latency` says nothing: the service has no `latency`"),
    (ERRORS, "decision.hold_probe_rounds = 5", "`services.shop.decision.hold_probe_rounds` says nothing: the service has no `probes`"),
    (ERRORS, "matrix.performance.above = 0.3", "`services.shop.matrix.performance.above` says nothing: the service has no `latency`"),
    (PROBE, "decision.hold_p2 = '5m'", "`services.shop.decision.hold_p2` says nothing: the service has no `errors`"),
    (LATENCY, "decision.hold_p1 = '5m'", "says nothing: the service has no `errors` or `probes`"),
    (ERRORS, "decision.ready_deadline = '40m'", "a rollout may take 40m to become ready, and the window of 30m is over by then"),
    (
        ERRORS,
        "decision = { grace = '6m', hold_p1 = '10m' }",
        "is decided after 16m 15s at the earliest: a grace of 6m, a hold of 10m, half of it once a day is known, a look every 15s",
    ),
    (
        ERRORS,
        "matrix.complete_outage.within = '1m'",
        "`complete_outage` is to be over within 1m, but a release that is bad from its start is decided after 1m 45s at the earliest",
    ),
];

#[test]
fn failed_requests_that_are_no_part_of_all_are_refused() {
    let counters =
        |total: &str, failed: &str| with_signal(&format!("errors = {{ prometheus = 'main', total = '{total}', failed = '{failed}' }}"), "");
    let shown = drawn(&counters(r#"r{code="200"}"#, r#"r{code=~"5.."}"#));
    let message = r#"`services.shop.errors.failed` is no part of `total`: no request has both code="200" and code=~"5..""#;
    assert!(shown.contains(message) && shown.contains(r#"leave code="200" out of it"#), "{shown}");
    let shown = drawn(&counters(r#"r{code=~"2.."}"#, r#"r{code=~"5.."}"#));
    assert!(shown.contains("is no part of `total`"), "{shown}");
    for (total, failed) in [(r#"all{code="200"}"#, r#"failed{code="500"}"#), (r#"r{code!="404"}"#, r#"r{code=~"5.."}"#)] {
        assert!(warned(&counters(total, failed)).is_empty(), "{total} {failed}");
    }
}

#[test]
fn a_control_group_that_is_the_service_itself_is_refused() {
    let control = |control: &str| with_signal(ERRORS, &format!("control.others = {{ {control} }}"));
    let shown = drawn(&control("prometheus = 'main', total = '{__name__=\"r\"}', failed = 'r{code=~\"5..\",}'"));
    assert!(shown.contains("`control.others` is the service itself: whatever it suffers it would share"), "{shown}");
    for other in [
        "prometheus = 'main', total = 'r{service=\"other\"}', failed = 'r{service=\"other\",code=~\"5..\"}'",
        "metrics = 'http://other/metrics', total = 'r', failed = 'r{code=~\"5..\"}'",
    ] {
        assert!(warned(&control(other)).is_empty(), "{other}");
    }
    let own = "errors = { metrics = ['http://a/', 'http://b/'], total = 'r', failed = 'f' }";
    let shown = drawn(&with_signal(own, "control.others = { metrics = ['http://a/', 'http://b/'], total = 'r', failed = 'f' }"));
    assert!(shown.contains("`control.others` is the service itself"), "{shown}");
}

#[test]
fn what_contradicts_within_a_service_is_told_once() {
    for &(signal, settings, phrase) in CONTRADICTIONS {
        let warnings = warned(&with_signal(signal, settings));
        let [warning] = warnings.as_slice() else { panic!("{settings}: not one warning but {warnings:?}") };
        assert!(warning.message.contains(phrase), "{phrase:?} is not in\n{}", warning.message);
    }
}

#[test]
fn what_is_found_only_once_a_day_is_known_is_told() {
    let warnings = warned(&with_signal(ERRORS, "decision.hold_p1 = '50m'\nmatrix.error_ratio.response = 'ask'"));
    let message = "`error_ratio` would not be found while less than a day is known: after the grace of 1m it must persist for 50m then";
    assert!(warnings.iter().any(|warning| warning.message.starts_with(message)), "{warnings:?}");
}

#[test]
fn the_rounds_of_an_outage_end_before_the_window_does() {
    let probes = |every: &str, deadline: &str| {
        let settings = format!("decision = {{ hold_probe_rounds = 60, startup_deadline = '{deadline}', ready_deadline = '10m' }}");
        with_signal(&format!("probes.ready = {{ http = 'http://shop/', every = '{every}' }}"), &settings)
    };
    assert!(drawn(&probes("30s", "1m")).contains("60 rounds, one every 30s, take 30m, and the window of 30m is over by then"));
    assert!(warned(&probes("20s", "1m")).is_empty());
    let late = warned(&probes("25s", "5m"));
    assert!(late[0].message.contains("its rounds count after 5m at the latest (`startup_deadline`), 60 rounds"), "{late:?}");
}

#[test]
fn what_all_services_are_set_to_is_held_against_the_signals_of_each_and_told_once() {
    let two = "[services.a]\nplatform.command = { current = ['c'], deploy = ['d'] }\nerrors = { prometheus = 'main', total = 'r', failed = 'f' }\n\
               [services.b]\nplatform.command = { current = ['c'], deploy = ['d'] }\nerrors = { prometheus = 'main', total = 'r', failed = 'g' }\n";
    let warnings = warned(&(good_with("[decision]", "hold_p1 = \"5s\"\nhold_p0 = \"5s\"") + two));
    let told: Vec<_> = warnings.iter().map(|warning| (warning.message.as_str(), warning.place.as_ref().unwrap().source.clone())).collect();
    let message = "a hold of 5s has fewer than two looks in it, one every 15s; it becomes 30s";
    assert_eq!(told, [(message, Some("hold_p1 = \"5s\"".to_owned())), (message, Some("hold_p0 = \"5s\"".to_owned()))]);

    let slow = wrong(&(GOOD.to_owned() + two + "[matrix.performance]\nwithin = \"1s\"\n"));
    let [error] = slow.diagnostics.as_slice() else { panic!("{slow}") };
    assert!(error.message.contains("slowness must persist for 3m before it is acted on, and is to be over within 1s"), "{slow}");
    assert!(
        warned(
            &(GOOD.replace("[services.checkout.latency]\nprometheus = \"main\"\nhistogram = 'request_duration_seconds'\n", "")
                + two
                + "[matrix.performance]\nwithin = \"1s\"\n")
        )
        .is_empty()
    );
}

#[test]
fn a_histogram_that_is_named_by_its_buckets_is_told_its_name() {
    let warnings = warned(&good_with("[services.checkout.latency]", "histogram = 'r_seconds_bucket{service=\"shop\"}'"));
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(warning.message.ends_with("names the buckets, and is read as the histogram r_seconds"), "{}", warning.message);
    assert_eq!(warning.help.as_deref(), Some("write the name that all its parts begin with: 'r_seconds{service=\"shop\"}'"));
}

#[test]
fn what_can_be_done_but_was_hardly_meant_is_a_warning() {
    let shop = "[services.shop]\nplatform.kubernetes = { namespace = \"shop\", deployment = \"shop\" }\n";
    for (text, phrase) in [
        (shop.to_owned(), "nobody is told of anything"),
        (format!("[notify]\n{shop}"), "nobody is told of anything"),
        (GOOD.to_owned() + shop, "`services.shop` has no signal"),
        (format!("{GOOD}{shop}[services.shop.probes]\n"), "`services.shop` has no signal"),
        (good_with("[notify.chat.webhook]", "format = \"slack\""), "the address of a chat's webhook is a secret"),
        (good_with("[notify.oncall.email]", "smtp = \"smtp+plain://mail.example.org\""), "mail leaves this machine without encryption"),
        (good_with("[services.billing]", "restore = \"image\""), "says nothing where the platform is a command"),
        (good_with("[services.billing.platform.command]", "deploy = [\"/no/such/program\"]"), "there is no program /no/such/program"),
        (GOOD.to_owned() + "[matrix.feature_broken]\nabove = 0.5\n", "it would never be found"),
        (GOOD.to_owned() + "[matrix.complete_outage]\nseverity = \"P2\"\n", "`complete_outage` is P2, less than the P1 of `error_ratio`"),
        (good_with("[matrix.error_ratio]", "response = \"notify\""), "less is done about `error_ratio` than about `feature_broken`"),
        (good_with("[decision]", "alpha = 0.01"), "may roll back one healthy release in 100, for each severity and signal"),
        (good_with("[decision]", "alpha = 1e-12"), "an alpha of 1e-12 asks for odds that no history supports"),
        (good_with("[decision]", "startup_deadline = \"20m\""), "longer than any rollout may take to become ready, 10m"),
        (
            good_with("[services.checkout]", "decision.hold_p0 = \"20s\""),
            "a hold of 20s has fewer than two looks in it, one every 15s; it becomes 30s",
        ),
        (good_with("[services.checkout]", "decision.history = \"10m\""), "a history of 10m is too short to tell how often"),
        (
            good_with("[services.checkout.errors]", "every = \"5m\""),
            "decided after 16m at the earliest: a grace of 1m, a hold of 10m, a look every 5m",
        ),
        (good_with("[services.checkout]", "decision.grace = \"14m\""), "`error_ratio` is to be over within 15m, but a release"),
    ] {
        let config = parse(&text, "rollbackd.toml", &Environment::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
        let shown = render(&config.warnings, false);
        assert!(shown.contains(phrase) && shown.starts_with("warning: "), "{phrase:?} is not in\n{shown}");
    }
}

#[test]
fn absurd_files_are_refused_in_words() {
    let long = "#".repeat(1024 * 1024 + 1);
    let wide = format!("x = \"{}", "é".repeat(100_000));
    for (text, phrase) in [
        ("", "no service is guarded"),
        ("\n\n# nothing\n", "no service is guarded"),
        ("\u{feff}", "no service is guarded"),
        ("\0", "rollbackd.toml:1:1"),
        ("x = \"a\0b\"", "invalid basic string"),
        (long.as_str(), "longer than 1 MiB"),
        (wide.as_str(), "rollbackd.toml:1:"),
        (&format!("x = {}", "[".repeat(100_000)), "nested so deeply"),
        (&format!("x = {}", "{ x = ".repeat(100_000)), "rollbackd.toml:1:"),
        (&format!("{}x = 1", "x.".repeat(300_000)), "nested so deeply"),
        (&format!("[{}x]", "x.".repeat(300_000)), "nested so deeply"),
        (&"=\n".repeat(200_000), "more not shown"),
        (&"[[services]]\n".repeat(50_000), "must be a table, not a list"),
        ("services = 3", "must be a table, not a number"),
        ("[services]\nx = 3", "`services.x` must be a table, not a number"),
        ("[services.\"Ä b\"]", "is not a name"),
    ] {
        let shown = drawn(text);
        assert!(shown.contains(phrase), "{phrase:?} is not in\n{}", shown.chars().take(2000).collect::<String>());
        assert!(shown.len() < 200_000, "{} bytes are shown", shown.len());
    }
}

#[test]
fn a_hundred_warnings_hide_no_error() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for number in 0..150 {
        let _ = writeln!(text, "[services.s{number}]\nplatform.kubernetes = {{ namespace = \"shop\", deployment = \"s{number}\" }}");
    }
    let diagnostics = wrong(&(text + "dry_run = 1\n"));
    assert_eq!((diagnostics.count(Level::Error), diagnostics.diagnostics.len(), diagnostics.omitted), (1, 100, 52));
}

#[test]
fn files_that_are_not_there_or_not_text_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let load_bytes = |bytes: &[u8]| {
        let path = directory.path().join("rollbackd.toml");
        std::fs::write(&path, bytes).unwrap();
        load(&path, &Environment::default())
    };
    assert!(load_bytes(GOOD.as_bytes()).is_ok());
    let latin = load_bytes(b"[fleet]\n# caf\xe9\n").unwrap_err();
    let place = latin.diagnostics[0].place.clone().unwrap();
    assert_eq!((place.line, place.column), (2, 6));
    assert!(latin.to_string().contains("not UTF-8"));
    assert!(load_bytes(&vec![b'#'; 2 * 1024 * 1024]).unwrap_err().to_string().contains("longer than 1 MiB"));
    assert!(
        load(&directory.path().join("none.toml"), &Environment::default())
            .unwrap_err()
            .to_string()
            .contains("cannot read the configuration")
    );
    let help = |path: &Path| load(path, &Environment::default()).unwrap_err().diagnostics[0].help.clone();
    assert_eq!(help(&directory.path().join("none.toml")).as_deref(), Some("create the file, or correct its path"));
    assert_eq!(help(directory.path()).as_deref(), Some("name the file in it"));
    assert!(load(directory.path(), &Environment::default()).is_err());
    // Cut in the middle of a letter, a long text is still one that is too long.
    assert!(load_bytes("é".repeat(1024 * 1024).as_bytes()).unwrap_err().to_string().contains("longer than 1 MiB"));
    assert!(load(Path::new("/dev/zero"), &Environment::default()).unwrap_err().to_string().contains("longer than 1 MiB"));
}

#[test]
fn a_pipe_is_read_to_its_end_and_one_that_nobody_writes_to_holds_nothing_up() {
    use std::io::Write as _;
    let (reader, mut writer) = std::io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let writing = std::thread::spawn(move || {
        for part in GOOD.as_bytes().chunks(100) {
            writer.write_all(part).unwrap();
        }
    });
    assert!(load(Path::new(&path), &Environment::default()).is_ok());
    writing.join().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let nobody = directory.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &nobody, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert!(load(&nobody, &Environment::default()).unwrap_err().to_string().contains("no service is guarded"));
}

#[test]
fn diagnostics_have_a_form_for_programs() {
    let json = wrong(&good_with("[services.checkout]", "widnow = \"30m\"")).to_json();
    let expected = serde_json::json!({
        "file": "rollbackd.toml",
        "diagnostics": [{
            "level": "error",
            "message": "`widnow` is not a key of `services.checkout`",
            "line": 25,
            "column": 1,
            "source": "widnow = \"30m\"",
            "label": null,
            "help": "did you mean `window`?",
        }],
        "omitted": 0,
    });
    assert_eq!(json, expected);
}

#[test]
fn colours_are_only_drawn_when_asked_for() {
    let diagnostics = wrong("x = 1");
    assert!(!render(&diagnostics, false).contains('\u{1b}'));
    assert!(render(&diagnostics, true).contains('\u{1b}'));
}

/// What is drawn for typical mistakes, letter by letter.
const DRAWN: &[(&str, &str, &str)] = &[
    (
        "[services.checkout]",
        "widnow = \"30m\"",
        r#"
error: `widnow` is not a key of `services.checkout`
  --> rollbackd.toml:25:1
   |
25 | widnow = "30m"
   | ^^^^^^
   |
   = help: did you mean `window`?

rollbackd.toml: 1 error
"#,
    ),
    (
        "[services.checkout]",
        "window = 30m",
        r"
error: string values must be quoted
  --> rollbackd.toml:25:10
   |
25 | window = 30m
   |          ^^^
   |
   = help: put the value in double quotes

rollbackd.toml: 1 error
",
    ),
    (
        "[services.checkout]",
        "window = \"10m\"",
        r#"
error: the window of 10m is shorter than the 30m within which `performance` is to be over
  --> rollbackd.toml:25:10
   |
25 | window = "10m"
   |          ^^^^^
   |
   = help: make `window` at least "30m", or shorten `matrix.performance.within`

rollbackd.toml: 1 error
"#,
    ),
    (
        "[services.checkout]",
        "verification = { watch = 900, timeout = \"10 m\" }",
        r#"
error: `services.checkout.verification.watch` must be a duration with its unit, not a bare number
  --> rollbackd.toml:25:26
   |
25 | verification = { watch = 900, timeout = "10 m" }
   |                          ^^^
   |
   = help: did you mean "900s"? write a number and a unit in quotes: "500ms", "30s", "15m", "1h 30m", "7d"

rollbackd.toml: 1 error
"#,
    ),
    (
        "[services.checkout]",
        "platform.kubernetes = { namespace = \"shop\" }",
        r#"
error: `services.checkout.platform.kubernetes` needs `deployment`, `statefulset` or `daemonset`
  --> rollbackd.toml:25:10
   |
25 | platform.kubernetes = { namespace = "shop" }
   |          ^^^^^^^^^^
   |
   = help: add `deployment`, `statefulset` or `daemonset`

rollbackd.toml: 1 error
"#,
    ),
    (
        "[services.checkout.errors]",
        "prometheus = \"mian\"",
        r#"
error: there is no Prometheus server named "mian"
  --> rollbackd.toml:31:14
   |
31 | prometheus = "mian"
   |              ^^^^^^
   |
   = help: did you mean "main"?

rollbackd.toml: 1 error
"#,
    ),
    (
        "[services.checkout.errors]",
        "total = 'rate(requests_total[5m])'",
        r#"
error: `services.checkout.errors.total` is not a plain selector: no function may stand here, only the counter itself; at character 5
  --> rollbackd.toml:31:9
   |
31 | total = 'rate(requests_total[5m])'
   |         ^^^^^^^^^^^^^^^^^^^^^^^^^^
   |
   = help: name the raw counter with its matchers, such as 'http_requests_total{code=~"5.."}'; the daemon does rates and windows

rollbackd.toml: 1 error
"#,
    ),
    (
        "[notify.oncall.email]",
        "user = \"rollbackd\"\npassword = \"hunter2\"",
        r#"
error: `password` would put a secret in the open
 --> rollbackd.toml:6:1
  |
6 | password = "*******"
  | ^^^^^^^^
  |
  = help: keep it in a file or a systemd credential: `password_credential` or `password_file`

rollbackd.toml: 1 error
"#,
    ),
    (
        "[prometheus.main]",
        "url = \"http://admin:hunter2@prometheus:9090\"",
        r#"
error: `prometheus.main.url` has credentials inside the address
 --> rollbackd.toml:2:7
  |
2 | url = "http://admin:*******@prometheus:9090"
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: take them out, and use `basic = { user = "…", password_file = "…" }`

rollbackd.toml: 1 error
"#,
    ),
    (
        "[notify.chat.webhook]",
        "secret_file = \"/no/such/file\"",
        r#"
error: `notify.chat.webhook.secret_file` can't be read: /no/such/file: no such file or directory
  --> rollbackd.toml:10:15
   |
10 | secret_file = "/no/such/file"
   |               ^^^^^^^^^^^^^^^
   |
   = help: create the file, or correct its path

rollbackd.toml: 1 error
"#,
    ),
    (
        "[daemon]",
        "[services.ship",
        r"
error: unclosed table
  --> rollbackd.toml:15:15
   |
15 | [services.ship
   |               ^ expected `]`

rollbackd.toml: 1 error
",
    ),
];

#[test]
fn typical_mistakes_are_drawn_like_this() {
    for (header, line, expected) in DRAWN {
        assert_eq!(drawn(&good_with(header, line)), expected.trim_start_matches('\n'), "{line}");
    }
}

/// A directory with every file and credential that the reference and the examples name.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn of(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let quoted = text.split('"').skip(1);
        for name in quoted.filter(|part| part.starts_with("/etc/rollbackd/") || part.starts_with("/run/secrets/")) {
            let path = directory.path().join(name.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n").unwrap();
        }
        for rest in text.split("_credential = \"").skip(1).chain(text.split("{ credential = \"").skip(1)) {
            std::fs::write(directory.path().join(rest.split('"').next().unwrap()), "secret").unwrap();
        }
        Self { directory }
    }

    fn parse(&self, text: &str) -> Result<Config, Diagnostics> {
        let root = self.directory.path().display();
        let text = text
            .replace("\"/etc/rollbackd/", &format!("\"{root}/etc/rollbackd/"))
            .replace("\"/run/secrets/", &format!("\"{root}/run/secrets/"));
        let environment = Environment { credentials_directory: Some(self.directory.path().to_owned()), ..Environment::default() };
        parse(&text, "rollbackd.toml", &environment)
    }
}

fn is_commented_key(line: &str) -> bool {
    line.starts_with("#[")
        || line.strip_prefix('#').is_some_and(|line| {
            line.split_once(" = ").is_some_and(|(key, _)| {
                key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'.')
            })
        })
}

/// The reference with everything in it switched on, once as it is and once for each `#or:`.
fn references() -> Vec<String> {
    let on: Vec<String> =
        REFERENCE.lines().map(|line| if is_commented_key(line) { line[1..].to_owned() } else { line.to_owned() }).collect();
    let mut all = vec![on.join("\n")];
    for (index, line) in on.iter().enumerate().filter(|(_, line)| line.starts_with("#or: ")) {
        let mut lines = on.clone();
        let replaced = (0..index).rev().find(|&above| !on[above].starts_with('#')).unwrap();
        lines[replaced].clear();
        lines[index] = line["#or: ".len()..].to_owned();
        all.push(lines.join("\n"));
    }
    all
}

#[test]
fn the_reference_is_taken_as_it_is_with_everything_switched_on_and_with_each_alternative() {
    let files = Files::of(REFERENCE);
    let as_it_is = files.parse(REFERENCE).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(as_it_is.warnings.is_empty(), "{}", as_it_is.warnings);
    let references = references();
    assert!(references.len() > 15);
    for text in references {
        let config = files.parse(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
        let unexpected = config.warnings.diagnostics.iter().find(|warning| !warning.message.contains("there is no program"));
        assert!(unexpected.is_none(), "{}", config.warnings);
    }
}

#[test]
fn the_reference_says_the_defaults() {
    let files = Files::of(REFERENCE);
    let (as_it_is, on) = (files.parse(REFERENCE).unwrap(), files.parse(&references()[0]).unwrap());
    assert_eq!((&as_it_is.daemon, &as_it_is.fleet), (&on.daemon, &on.fleet));
    assert_eq!(as_it_is.alerts, Rules { rules: Vec::new(), ..on.alerts.clone() });
    assert_eq!((as_it_is.api.is_some(), on.api.is_some(), on.alerts.rules.len()), (false, true, 1));
    let billing = &on.services[&ServiceName::try_from("billing").unwrap()].policy;
    let checkout = &as_it_is.services[&ServiceName::try_from("checkout").unwrap()];
    assert_eq!(
        (&billing.matrix, &billing.decision, &billing.verification),
        (&Matrix::default(), &Decision::default(), &checkout.policy.verification)
    );
    let switched_on = &on.services[&ServiceName::try_from("checkout").unwrap()];
    let policy = |policy: &Service| {
        let mut policy = Service { matrix: Matrix::default(), decision: Decision::default(), ..policy.clone() };
        // Switching on a table of a name makes a signal more.
        policy.signals.retain(|signal, _| checkout.policy.signals.contains_key(signal));
        policy
    };
    assert_eq!(policy(&checkout.policy), policy(&switched_on.policy));
    let signals: Vec<&str> = switched_on.policy.signals.keys().map(|signal| signal.0.as_str()).collect();
    assert_eq!(signals, ["control.payments", "errors", "impact.wrong_totals", "latency", "probe.ready"]);
    let impact = &switched_on.policy.signals[&SignalName("impact.wrong_totals".to_owned())];
    assert_eq!(impact.kind, SignalKind::Query { impact: Impact::DataCorruption, lasting: SignedDuration::ZERO });
    assert!(
        switched_on.policy.signals.values().all(|signal| signal.kind == SignalKind::Probe || signal.every == SignedDuration::from_secs(15))
    );
}

/// The sections of the reference that describe the same kind of table: both services are one, since each shows a half; what a service
/// changes for itself is described with the global tables; all rows of the matrix with one another; and where counters and histograms are
/// read from with the errors.
fn sections_like(lines: &[&str], header: &str) -> String {
    let like = |line: &str| {
        let line = line.replace("services.billing", "services.checkout").replace("services.checkout.decision", "decision");
        let line = line.replace("checkout.latency", "checkout.errors").replace("checkout.control.payments", "checkout.errors");
        if line.contains("matrix.") { "[matrix.IMPACT]".to_owned() } else { line }
    };
    let mut inside = false;
    let mut text = String::new();
    for line in lines {
        if line.starts_with('[') {
            inside = like(line) == like(header);
        }
        if inside {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// An unknown key in a table makes its known keys be told: each of them has to be in the reference, in the section of that table.
#[test]
fn the_reference_has_every_key() {
    let files = Files::of(REFERENCE);
    let text = &references()[0];
    let lines: Vec<&str> = text.lines().collect();
    let mut header = "";
    let mut keys = BTreeSet::new();
    for (index, line) in lines.iter().enumerate() {
        let with_unknown = if line.starts_with('[') {
            header = line;
            format!("{line}\nzzzzzzzzzzzz = 1")
        } else if !line.starts_with('#') && line.contains("= { ") && !line.starts_with("headers") && !line.starts_with("match") {
            line.replacen("= { ", "= { zzzzzzzzzzzz = 1, ", 1)
        } else {
            continue;
        };
        let mut changed = lines.clone();
        changed[index] = &with_unknown;
        let wrong = files.parse(&changed.join("\n")).unwrap_err();
        let unknown = wrong.diagnostics.iter().find(|diagnostic| diagnostic.message.contains("zzzz")).unwrap();
        let known = unknown.help.as_deref().and_then(|help| help.strip_prefix("its keys are: ")).unwrap_or_else(|| panic!("{wrong}"));
        let section = sections_like(&lines, header);
        for key in known.split(", ") {
            let is_set =
                ["\n", " "].iter().any(|before| [" = ", "."].iter().any(|after| section.contains(&format!("{before}{key}{after}"))));
            let is_a_table = text.contains(&format!("{}.{key}", header.trim_end_matches(']')));
            assert!(is_set || is_a_table, "`{key}` is not in the reference under {header}");
            keys.insert((header, key.to_owned()));
        }
    }
    assert!(keys.len() > 100, "only {} keys were found", keys.len());
}

#[test]
fn every_example_is_taken_without_a_warning() {
    for (name, text) in EXAMPLES {
        let config = Files::of(text).parse(text).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        assert!(config.warnings.is_empty(), "{name}: {}", config.warnings);
        assert_eq!(config.services.len(), 1);
    }
}

/// The blocks of TOML in a document, one after the other and without their indentation.
fn blocks(document: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in document.lines().map(str::trim_start) {
        match (inside, line) {
            (false, "```toml") | (true, "```") => inside = !inside,
            (true, line) => text.extend([line, "\n"]),
            (false, _) => {}
        }
    }
    text
}

#[test]
fn what_the_documents_show_is_taken_without_a_warning() {
    for (name, document) in [("README.md", include_str!("../../README.md")), ("replay.md", include_str!("../../docs/replay.md"))] {
        let text = blocks(document);
        assert!(text.contains("[services."), "{name}");
        let config = Files::of(&text).parse(&text).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        let unexpected: Vec<_> = config.warnings.diagnostics.iter().filter(|warning| !warning.message.contains("nobody is told")).collect();
        assert!(unexpected.is_empty(), "{name}: {unexpected:?}");
    }
}

fn survives(text: &str) {
    match parse(text, "rollbackd.toml", &Environment::default()) {
        Ok(config) => drop(config),
        Err(wrong) => {
            assert!(wrong.count(Level::Error) > 0);
            assert!(!render(&wrong, true).is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&text);
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_mutated_reference_never_panics(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..6, "[\\[\\]{}=\",'.#\\\\\\n0-9a-z«\u{0}\\-]{0,6}"), 1..8),
        cut in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let references = references();
        let mut characters: Vec<char> = which.get(&references).chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.index(characters.len());
            let end = (at + removed).min(characters.len());
            characters.splice(at..end, inserted.chars());
            if characters.is_empty() {
                break;
            }
        }
        if truncate && !characters.is_empty() {
            characters.truncate(cut.index(characters.len()));
        }
        survives(&characters.into_iter().collect::<String>());
    }

    #[test]
    fn no_duration_panics(text in "[0-9]{1,22} ?(ns|us|ms|s|m|h|d|w|months|years|y)( ?[0-9]{1,22}(\\.[0-9]{1,20})? ?(ns|ms|s|h|years))?") {
        survives(&good_with("[services.checkout]", &format!("window = \"{text}\"")));
    }
}
