//! `[prometheus.NAME]`, and a service's `probes`, `errors`, `latency`, `impacts` and `control`: where evidence is read, and how the daemon gets
//! at it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use reqwest::header::{HeaderName, HeaderValue as HttpHeaderValue};
use rollbackd_core::service::{Role, ServiceName, SignalKind, SignalName, SignalPolicy};
use rollbackd_core::severity::Impact;
use url::Url;

use super::SignalSettings;
use super::document::{Problem, sounds_secret};
use super::policy::{HOUR, MINUTE, words};
use super::reader::{Table, Value, nearest, quoted, written};
use super::value::{asks_for_secret, http_url, http_urls, pem_file, query_fault, secret, selector};
use crate::secret::Secret;
use crate::signal::histogram::{Family, FamilyError};
use crate::signal::http::{Access, HeaderValue};
use crate::signal::selector::Selector;
use crate::signal::{metrics, probe, prometheus};

/// The shortest time from one look to the next.
const SHORTEST: Duration = Duration::from_millis(100);

/// The servers by name; `None` for one that is wrong, so that who asks for it is not blamed.
pub(super) type Servers = BTreeMap<String, Option<prometheus::Server>>;

/// A signal: what the core needs of it, and how it is read.
pub(super) type Signal = (SignalName, SignalPolicy, SignalSettings);

/// `[prometheus.NAME]`.
pub(super) fn servers(root: &Table<'_>) -> Servers {
    root.named_tables("prometheus", 64).into_iter().map(|(name, table)| (name.to_string(), server(table))).collect()
}

fn server(table: Table<'_>) -> Option<prometheus::Server> {
    let url = table.required("url", "url = \"http://prometheus:9090\"").and_then(|value| http_url(&value));
    let timeout = timeout(&table, Duration::from_secs(10));
    let access = access(&table);
    table.finish();
    Some(prometheus::Server { url: url?, timeout, access })
}

fn timeout(table: &Table<'_>, default: Duration) -> Duration {
    table.optional("timeout").and_then(|value| value.duration(Duration::from_millis(10)..=MINUTE)).unwrap_or(default)
}

fn every(table: &Table<'_>, default: Duration) -> Duration {
    table.optional("every").and_then(|value| value.duration(SHORTEST..=HOUR)).unwrap_or(default)
}

/// The keys of trust and credentials, the same wherever something is asked over HTTP.
fn access(table: &Table<'_>) -> Access {
    let basic_value = table.optional("basic");
    if basic_value.is_some() && asks_for_secret(table, "bearer_file", "bearer_credential") {
        let message = format!("`{}` has both `basic` and a bearer token", table.path);
        table.report(Problem::error(table.span.clone(), message).help("keep one of the two"));
    }
    Access {
        ca_file: table.optional("ca_file").and_then(|value| pem_file(&value, "CERTIFICATE")),
        client_certificate: client_certificate(table),
        basic: basic_value.and_then(|value| value.table()).and_then(login),
        bearer: secret(table, "bearer_file", "bearer_credential"),
        headers: table.table("headers").map_or_else(Vec::new, |table| headers(&table)),
    }
}

fn client_certificate(table: &Table<'_>) -> Option<(PathBuf, PathBuf)> {
    let certificate = table.optional("client_certificate_file");
    let key = table.optional("client_key_file");
    let half = match (&certificate, &key) {
        (Some(value), None) => Some((value, "client_certificate_file", "client_key_file")),
        (None, Some(value)) => Some((value, "client_key_file", "client_certificate_file")),
        _ => None,
    };
    if let Some((value, here, lacking)) = half {
        table.report(
            Problem::absence(value.key_span(), format!("`{}` has `{here}` and no `{lacking}`", table.path))
                .help("a certificate needs its key"),
        );
    }
    let certificate = certificate.and_then(|value| pem_file(&value, "CERTIFICATE"));
    let key = key.and_then(|value| pem_file(&value, "PRIVATE KEY"));
    certificate.zip(key)
}

/// `{ user = …, password_file = … | password_credential = … }`.
fn login(table: Table<'_>) -> Option<(String, Secret)> {
    let user = table.required("user", "user = \"rollbackd\"").and_then(|value| value.text(256, "\"rollbackd\""));
    if user.is_some_and(|user| user.contains(':')) {
        table.report(Problem::error(table.span.clone(), "a user name can't hold a colon: HTTP ends the name there"));
    }
    let password = required_secret(&table, "password_file", "password_credential");
    table.finish();
    Some((user?.to_owned(), password?))
}

/// A secret that has to be there.
pub(super) fn required_secret(table: &Table<'_>, file: &'static str, credential: &'static str) -> Option<Secret> {
    if !asks_for_secret(table, file, credential) {
        table.lack(&[file, credential], "keep it in a file, or in a systemd credential".to_owned());
    }
    secret(table, file, credential)
}

fn headers(table: &Table<'_>) -> Vec<(String, HeaderValue)> {
    let values = table.values();
    if values.len() > 32 {
        table.report(Problem::error(table.span.clone(), format!("`{}` has {} entries, at most 32 are allowed", table.path, values.len())));
    }
    values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), header(name, &value)?))).collect()
}

fn header(name: &str, value: &Value<'_>) -> Option<HeaderValue> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        value.report(Problem::error(value.key_span(), format!("{} is not the name of a header", quoted(name))));
    }
    if value.is_table() {
        let table = value.table()?;
        let secret = required_secret(&table, "file", "credential");
        table.finish();
        return secret.map(HeaderValue::Secret);
    }
    let text = value.text(4096, "\"tenant\"")?;
    if sounds_secret(name) {
        let message = format!("the value of the header {} would put a secret in the open", quoted(name));
        value.refuse(
            message,
            format!("keep it in a file or a systemd credential: `{name} = {{ file = \"…\" }}` or `{name} = {{ credential = \"…\" }}`"),
        );
        return None;
    }
    if HttpHeaderValue::from_str(text).is_err() {
        value.report(Problem::error(value.span.clone(), format!("`{}` can't be the value of a header", value.path)));
        return None;
    }
    Some(HeaderValue::Plain(text.to_owned()))
}

/// `[services.NAME.probes.NAME]`.
pub(super) fn probes(service: &Table<'_>) -> Vec<Signal> {
    service.named_tables("probes", 32).into_iter().filter_map(|(name, table)| probe(&name, table)).collect()
}

fn probe(name: &ServiceName, table: Table<'_>) -> Option<Signal> {
    let targets = table.required("http", "http = \"http://127.0.0.1:8080/healthz\"").and_then(|value| http_urls(&value, 64));
    let every = every(&table, Duration::from_secs(5));
    let method = table
        .optional("method")
        .and_then(|value| value.choice(&[("GET", "GET"), ("HEAD", "HEAD"), ("OPTIONS", "OPTIONS"), ("POST", "POST")]));
    let status = table.optional("status").map_or_else(|| Some(vec![(200, 299)]), |value| statuses(&value));
    let body_contains = table.optional("body_contains");
    let json = table.optional("json");
    let timeout = timeout(&table, Duration::from_secs(2));
    let latency_limit = table.optional("latency_limit").and_then(|value| latency_limit(&value, timeout));
    let fresh_connection = table.optional("fresh_connection").and_then(|value| value.boolean()).unwrap_or(true);
    let redirects = table.optional("redirects").and_then(|value| value.integer(0..=10)).unwrap_or(0);
    let access = access(&table);
    if let (Some("HEAD"), Some(value)) = (method, body_contains.as_ref().or(json.as_ref())) {
        table.report(
            Problem::error(value.key_span(), "an answer to HEAD has no body to look into").help("remove it, or use `method = \"GET\"`"),
        );
    }
    let body_contains = body_contains.and_then(|value| value.text(4096, "\"ok\"")).map(str::to_owned);
    let json = json.and_then(|value| value.table()).and_then(json_expectation);
    table.finish();
    let targets = targets?;
    let policy =
        SignalPolicy { kind: SignalKind::Probe, role: Role::Own, every: signed(every), has_history: false, source: addresses(&targets) };
    let settings = probe::Settings {
        targets,
        method: method.unwrap_or("GET").to_owned(),
        status: status?,
        body_contains,
        json,
        latency_limit,
        timeout,
        fresh_connection,
        redirects: redirects as usize,
        access,
    };
    Some((SignalName(format!("probe.{name}")), policy, SignalSettings::Probe(settings)))
}

fn latency_limit(value: &Value<'_>, timeout: Duration) -> Option<Duration> {
    let limit = value.duration(Duration::from_millis(1)..=MINUTE)?;
    if limit >= timeout {
        let message = format!("`{}` is not shorter than the timeout of {}, so that it says nothing", value.path, written(timeout));
        value.refuse(message, "shorten it, or lengthen `timeout`");
    }
    Some(limit)
}

/// `200`, `"200-299"`, or a list of both.
fn statuses(value: &Value<'_>) -> Option<Vec<(u16, u16)>> {
    let ranges: Vec<_> = value.one_or_list(16)?.iter().map(status_range).collect();
    ranges.into_iter().collect()
}

fn status_range(value: &Value<'_>) -> Option<(u16, u16)> {
    if !value.is_text() {
        let status = u16::try_from(value.integer(100..=599)?).ok()?;
        return Some((status, status));
    }
    let text = value.text(16, "\"200-299\"")?;
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    let range = status(low).zip(status(high)).filter(|(low, high)| low <= high);
    if range.is_none() {
        value.refuse(
            format!("`{}` is not a range of statuses: {}", value.path, quoted(text)),
            "write 200, \"200-299\" or [200, 204, \"300-399\"]",
        );
    }
    range
}

/// `{ pointer = "/status", equals = "ok" }`.
fn json_expectation(table: Table<'_>) -> Option<(String, serde_json::Value)> {
    let pointer = table.required("pointer", "pointer = \"/status\"").and_then(|value| {
        let text = value.text(1024, "\"/status\"")?;
        if !text.starts_with('/') {
            value.refuse(
                format!("`{}` does not begin with a slash", value.path),
                "write a JSON pointer (RFC 6901): \"/status\", \"/checks/0/state\"",
            );
        }
        Some(text.to_owned())
    });
    let equals = table.required("equals", "equals = \"ok\"").and_then(|value| value.scalar());
    table.finish();
    pointer.zip(equals)
}

/// `[services.NAME.errors]`.
pub(super) fn errors(table: Table<'_>, servers: &Servers) -> Option<Signal> {
    let by = table.optional("by");
    let (signal, _) = counters(SignalName("errors".to_owned()), Role::Own, by.as_ref(), table, servers)?;
    Some(signal)
}

/// `[services.NAME.control.NAME]`. `own` are the counters of the service itself.
pub(super) fn controls(service: &Table<'_>, servers: &Servers, own: Option<&SignalSettings>) -> Vec<Signal> {
    let control = |(name, table): (ServiceName, Table<'_>)| {
        let (signal, total) = counters(SignalName(format!("control.{name}")), Role::Control, None, table, servers)?;
        if own.is_some_and(|own| are_same_counters(own, &signal.2)) {
            let message =
                format!("`control.{name}` is the service itself: whatever it suffers it would share, and never be rolled back for");
            total.refuse(message, "name the counters of others that suffer when something else breaks, or remove it");
        }
        Some(signal)
    };
    service.named_tables("control", 16).into_iter().filter_map(control).collect()
}

/// Whether two signals read the same counters at the same place.
fn are_same_counters(one: &SignalSettings, other: &SignalSettings) -> bool {
    let are_same = |one: &str, other: &str| match (Selector::parse(one), Selector::parse(other)) {
        (Ok(one), Ok(other)) => one.is_same(&other),
        _ => false,
    };
    match (one, other) {
        (SignalSettings::Prometheus(one), SignalSettings::Prometheus(other)) => {
            one.server == other.server && are_same(&one.total, &other.total) && are_same(&one.failed, &other.failed)
        }
        (SignalSettings::Metrics(one), SignalSettings::Metrics(other)) => match (&one.wanted, &other.wanted) {
            (
                metrics::Wanted::Counters { total, failed, .. },
                metrics::Wanted::Counters { total: other_total, failed: other_failed, .. },
            ) => one.targets == other.targets && are_same(total, other_total) && are_same(failed, other_failed),
            _ => false,
        },
        _ => false,
    }
}

/// A pair of counters, and where all requests are named. `by` is the label of routes, where there may be one.
fn counters<'a>(name: SignalName, role: Role, by: Option<&Value<'a>>, table: Table<'a>, servers: &Servers) -> Option<(Signal, Value<'a>)> {
    let total_value = table.required("total", "total = 'http_requests_total'");
    let total = total_value.as_ref().and_then(selector);
    let failed_value = table.required("failed", "failed = 'http_requests_total{code=~\"5..\"}'");
    let failed = failed_value.as_ref().and_then(selector);
    if let (Some(value), Some((_, total)), Some((_, failed))) = (&failed_value, &total, &failed) {
        failed_of_total(value, total, failed);
    }
    let by = by.map(|value| route_label(value, total.as_ref().map(|(_, total)| total), failed.as_ref().map(|(_, failed)| failed)));
    let counters = total.map(|(text, _)| text).zip(failed.map(|(text, _)| text));
    let every = every(&table, Duration::from_secs(15));
    let source = Source::read(table, servers);
    let by = match by {
        None => None,
        Some(label) => Some(label?),
    };
    let ((total, failed), source) = (counters?, source?);
    let policy = source.policy(SignalKind::Errors, role, every);
    let settings = match source {
        Source::Server { server, .. } => SignalSettings::Prometheus(prometheus::Settings { server, total, failed, by, every }),
        Source::Endpoints { targets, timeout, access } => {
            let wanted = metrics::Wanted::Counters { total, failed, by };
            SignalSettings::Metrics(metrics::Settings { targets, wanted, timeout, access })
        }
    };
    Some(((name, policy, settings), total_value?))
}

/// The failed requests are a part of all, and not all of them.
fn failed_of_total(value: &Value<'_>, total: &Selector, failed: &Selector) {
    if failed.is_same(total) {
        value.refuse(format!("`{}` is the same as `total`", value.path), "select only the failed requests, for example with code=~\"5..\"");
    } else if let Some((of_total, of_failed)) = total.contradiction(failed) {
        let message = format!("`{}` is no part of `total`: no request has both {of_total} and {of_failed}", value.path);
        value.refuse(message, format!("`total` counts all requests, the failed ones too: leave {of_total} out of it"));
    }
}

/// The label whose values are routes. One that tells failed requests from others can't be it: each of its values would be all failures.
fn route_label(value: &Value<'_>, total: Option<&Selector>, failed: Option<&Selector>) -> Option<String> {
    let label = value.text(128, "\"route\"")?;
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if label.starts_with(|first: char| first.is_ascii_digit()) || !label.bytes().all(is_good) || label.starts_with("__") {
        value.refuse(format!("`{}` is not a label: {}", value.path, quoted(label)), "write the name of one label, such as \"route\"");
        return None;
    }
    let asks = |selector: Option<&Selector>| selector.is_some_and(|selector| selector.asks_for(label));
    if asks(failed) && !asks(total) {
        let message = format!(
            "`{}` is the label that tells failed requests from others, so that each of its values is all failures or none",
            value.path
        );
        value.refuse(message, "name the label of the route, the feature or the endpoint");
        return None;
    }
    Some(label.to_owned())
}

/// `[services.NAME.latency]`.
pub(super) fn latency(table: Table<'_>, servers: &Servers) -> Option<Signal> {
    let histogram =
        table.required("histogram", "histogram = 'http_request_duration_seconds{service=\"shop\"}'").and_then(|value| histogram(&value));
    let every = every(&table, Duration::from_secs(15));
    let source = Source::read(table, servers);
    let (histogram, source) = (histogram?, source?);
    let policy = source.policy(SignalKind::Latency, Role::Own, every);
    let settings = match source {
        Source::Server { server, .. } => SignalSettings::Histograms(prometheus::histograms::Settings { server, histogram, every }),
        Source::Endpoints { targets, timeout, access } => {
            SignalSettings::Metrics(metrics::Settings { targets, wanted: metrics::Wanted::Histogram(histogram), timeout, access })
        }
    };
    Some((SignalName("latency".to_owned()), policy, settings))
}

/// A selector of a histogram by the name that its series have in common.
fn histogram(value: &Value<'_>) -> Option<String> {
    const FORM: &str = "name the histogram with its matchers, such as 'http_request_duration_seconds{service=\"shop\"}'; the daemon does \
                        quantiles and windows";
    let text = value.text(4096, "'http_request_duration_seconds{service=\"shop\"}'")?;
    let (why, help) = match Family::parse(text) {
        Ok(family) => {
            named_by_its_buckets(value, text, family.name());
            return Some(text.to_owned());
        }
        Err(FamilyError::Selector(error)) => {
            value.refuse(format!("`{}` is {error}", value.path), FORM);
            return None;
        }
        Err(error @ FamilyError::NoName) => (error.to_string(), FORM.to_owned()),
        Err(FamilyError::Part { name, base }) => {
            (format!("{name} is a part of one"), format!("did you mean '{base}', the name that all its parts begin with?"))
        }
        Err(error @ FamilyError::Le) => (error.to_string(), "leave `le` out: all buckets are needed".to_owned()),
    };
    value.refuse(format!("`{}` does not name a histogram: {why}", value.path), help);
    None
}

/// The buckets stand for their histogram, since they name no other; but its name is another.
fn named_by_its_buckets(value: &Value<'_>, text: &str, name: &str) {
    let buckets = format!("{name}_bucket");
    if text.contains(&buckets) {
        let message = format!("`{}` names the buckets, and is read as the histogram {name}", value.path);
        let help = format!("write the name that all its parts begin with: '{}'", text.replacen(&buckets, name, 1));
        value.report(Problem::warning(value.span.clone(), message).help(help));
    }
}

/// `[services.NAME.impacts.NAME]`. What has to last longer than the window would never be found.
pub(super) fn impacts(service: &Table<'_>, servers: &Servers, window: Option<SignedDuration>) -> Vec<Signal> {
    service.named_tables("impacts", 32).into_iter().filter_map(|(name, table)| impact(&name, table, servers, window)).collect()
}

fn impact(name: &ServiceName, table: Table<'_>, servers: &Servers, window: Option<SignedDuration>) -> Option<Signal> {
    let source = table.required("prometheus", "prometheus = \"main\"");
    let query = table.required("query", "query = 'increase(order_total_mismatch_total[5m]) > 0'").and_then(|value| query(&value));
    let impact = table.required("impact", "impact = \"data_corruption\"").and_then(|value| value.choice(&IMPACTS));
    let lasting = table.optional("for").map_or(Some(SignedDuration::ZERO), |value| lasting(&value, window));
    let every = every(&table, Duration::from_secs(15));
    table.finish();
    let (server_name, server) = source.and_then(|value| named_server(&value, servers))?;
    let (query, impact, lasting) = (query?, impact?, lasting?);
    let policy = SignalPolicy {
        kind: SignalKind::Query { impact, lasting },
        role: Role::Own,
        every: signed(every),
        has_history: false,
        source: format!("prometheus {server_name}"),
    };
    let settings = SignalSettings::Query(prometheus::query::Settings { server, query, every });
    Some((SignalName(format!("impact.{name}")), policy, settings))
}

fn lasting(value: &Value<'_>, window: Option<SignedDuration>) -> Option<SignedDuration> {
    let lasting = value.signed_duration(Duration::ZERO..=7 * 24 * HOUR)?;
    if let Some(window) = window.filter(|window| lasting > *window) {
        let (lasting, window) = (words(lasting), words(window));
        let message = format!("`{}` of {lasting} is longer than the window of {window}, so that it would never be found", value.path);
        value.refuse(message, "shorten it, or lengthen `window`");
    }
    Some(lasting)
}

const IMPACTS: [(&str, Impact); 7] = {
    let mut words = [("", Impact::CompleteOutage); 7];
    let mut index = 0;
    while index < words.len() {
        words[index] = (Impact::ALL[index].key(), Impact::ALL[index]);
        index += 1;
    }
    words
};

/// An expression of PromQL, as far as it can be told without its parser; it may go over several lines.
fn query(value: &Value<'_>) -> Option<String> {
    let text = value.lines(16 * 1024, "'increase(order_total_mismatch_total[5m]) > 0'")?.trim();
    let Some(wrong) = query_fault(text) else { return Some(text.to_owned()) };
    value.refuse(format!("`{}` is not an expression of PromQL: {wrong}", value.path), "try it in Prometheus' own expression browser");
    None
}

/// Where counters or histograms are read.
enum Source {
    Server { name: String, server: prometheus::Server },
    Endpoints { targets: Vec<Url>, timeout: Duration, access: Access },
}

impl Source {
    /// Reads the keys that say where, and with them the table to its end.
    fn read(table: Table<'_>, servers: &Servers) -> Option<Self> {
        let sources = table.exactly_one(&["prometheus", "metrics"]);
        let is_prometheus = matches!(sources.as_slice(), [("prometheus", _)]);
        if let (true, Some(value)) = (is_prometheus, table.optional("timeout")) {
            let problem = Problem::error(value.key_span(), "the timeout of a query belongs to its server");
            table.report(problem.help("set `timeout` in its [prometheus.NAME]"));
        }
        // Without a source, or with both, the keys of either may be meant.
        let endpoints = (!is_prometheus).then(|| (timeout(&table, Duration::from_secs(5)), access(&table)));
        table.finish();
        let mut read: Vec<_> = sources
            .iter()
            .map(|(source, value)| match (*source, &endpoints) {
                ("metrics", Some((timeout, access))) => {
                    Some(Self::Endpoints { targets: http_urls(value, 64)?, timeout: *timeout, access: access.clone() })
                }
                _ => named_server(value, servers).map(|(name, server)| Self::Server { name, server }),
            })
            .collect();
        read.pop()?
    }

    fn policy(&self, kind: SignalKind, role: Role, every: Duration) -> SignalPolicy {
        let (has_history, source) = match self {
            Self::Server { name, .. } => (true, format!("prometheus {name}")),
            Self::Endpoints { targets, .. } => (false, addresses(targets)),
        };
        SignalPolicy { kind, role, every: signed(every), has_history, source }
    }
}

/// The server that a value names, with its name. One that is not there is reported; one whose own table is wrong was reported already.
fn named_server(value: &Value<'_>, servers: &Servers) -> Option<(String, prometheus::Server)> {
    let name = value.text(63, "\"main\"")?;
    let server = servers.get(name);
    if server.is_none() {
        unknown_server(value, name, servers);
    }
    Some((name.to_owned(), server?.clone()?))
}

fn unknown_server(value: &Value<'_>, name: &str, servers: &Servers) {
    let known: Vec<&str> = servers.keys().map(String::as_str).collect();
    let help = match (nearest(name, &known), known.as_slice()) {
        (Some(nearest), _) => format!("did you mean \"{nearest}\"?"),
        (None, []) => "add `[prometheus.NAME]` with its `url`".to_owned(),
        (None, known) => format!("add `[prometheus.{name}]` with its `url`; defined are: {}", known.join(", ")),
    };
    value.report(Problem::absence(value.span.clone(), format!("there is no Prometheus server named {}", quoted(name))).help(help));
}

/// Addresses for messages: the first, without its query, which may hold a token.
fn addresses(targets: &[Url]) -> String {
    let first = targets.first().map(|url| {
        let mut url = url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.to_string()
    });
    match (first, targets.len()) {
        (Some(first), 0 | 1) => first,
        (Some(first), number) => format!("{first} and {} more", number - 1),
        (None, _) => String::new(),
    }
}

/// The ranges of durations here are far below the limit of either type.
fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
