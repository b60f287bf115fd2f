//! The file of `rollbackd test`: policy tests in TOML, read with the same care as the configuration that they are about.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rollbackd_core::service::{Service, ServiceName, SignalName};
use rollbackd_core::severity::Impact;

use super::document::Problem;
use super::policy::{HOUR, RESPONSES, SECOND, SEVERITIES, edit_decision, edit_matrix, words};
use super::reader::{Table, Value, nearest, quoted};
use super::{Config, Diagnostics, Environment, GuardedService, load as load_configuration, tables, text};
use crate::policy_test::feed::Feed;
use crate::policy_test::notation::{NotationError, rounds, samples};
use crate::policy_test::wiring::{MadeUp, described, wire};
use crate::policy_test::{Expectation, Expected, Test};
use crate::signal::selector::Selector;

/// A whole, valid file of policy tests.
#[derive(Debug)]
pub struct PolicyTests {
    /// The tests, in order of place. At least one.
    pub tests: Vec<Test>,
    /// What is probably not what was meant.
    pub warnings: Diagnostics,
}

/// The most of anything in one file.
const MOST: usize = 1000;

/// The longest text of one series.
const LONGEST_VALUES: usize = 64 * 1024;

/// Nothing made up lasts longer.
const LONGEST: Duration = Duration::from_hours(31 * 24);

/// Reads a file of tests, and the configuration that it names.
///
/// # Errors
/// With everything that is wrong with the file; and with the configuration, where that can't be taken.
pub fn load(path: &Path, environment: &Environment) -> Result<PolicyTests, Vec<Diagnostics>> {
    let environment = &Environment { without_secrets: true, ..environment.clone() };
    let text = text(path, "tests", environment).map_err(|diagnostics| vec![diagnostics])?;
    let configurations = Configurations { environment, loaded: RefCell::default() };
    let read = tables(&text, &path.display().to_string(), environment, |root| whole(root, &configurations));
    let invalid = configurations.loaded.into_inner().into_values().filter_map(Result::err);
    match read {
        Ok((tests, warnings)) => Ok(PolicyTests { tests, warnings }),
        Err(diagnostics) => Err(std::iter::once(diagnostics).chain(invalid).collect()),
    }
}

/// The configurations that the file names; each is read once.
struct Configurations<'a> {
    environment: &'a Environment,
    loaded: RefCell<BTreeMap<PathBuf, Result<Config, Diagnostics>>>,
}

impl Configurations<'_> {
    fn services(&self, value: &Value<'_>) -> Option<BTreeMap<ServiceName, GuardedService>> {
        let path = value.document.resolve(value.text(4096, "\"rollbackd.toml\"")?);
        let mut loaded = self.loaded.borrow_mut();
        let config = loaded.entry(path).or_insert_with_key(|path| load_configuration(path, self.environment));
        match config {
            Ok(config) => Some(config.services.clone()),
            Err(invalid) => {
                let problem = Problem::error(value.span.clone(), format!("the configuration can't be taken: {}", invalid.summary()));
                value.report(problem);
                None
            }
        }
    }
}

/// A setting that stands somewhere, well or not.
#[derive(Clone)]
enum Set<T> {
    Well(T),
    Badly,
}

impl<T> Set<T> {
    fn of(value: Option<T>) -> Self {
        value.map_or(Self::Badly, Self::Well)
    }

    fn well(self) -> Option<T> {
        match self {
            Self::Well(value) => Some(value),
            Self::Badly => None,
        }
    }
}

/// What a test falls back on: what stands at the top of the file.
struct Defaults {
    services: Option<BTreeMap<ServiceName, GuardedService>>,
    service: Option<Set<GuardedService>>,
    interval: Option<Set<SignedDuration>>,
    deployed: Option<Set<Vec<SignedDuration>>>,
}

fn whole(root: Table<'_>, configurations: &Configurations<'_>) -> Vec<Test> {
    let config = root.required("config", "config = \"rollbackd.toml\"");
    let services = config.as_ref().and_then(|value| configurations.services(value));
    let defaults = Defaults {
        service: root.optional("service").map(|value| Set::of(known_service(&value, services.as_ref()))),
        services,
        interval: root.optional("interval").map(|value| Set::of(interval(&value))),
        deployed: root.optional("deployed").map(|value| Set::of(deployments(&value))),
    };
    let tables = root.required("tests", "[[tests]]").and_then(|value| value.tables(MOST)).unwrap_or_default();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut tests = Vec::new();
    for table in tables {
        let value = table.required("name", "name = \"a release that fails is rolled back within four minutes\"");
        let name = value.as_ref().and_then(|value| value.text(200, "\"…\"")).unwrap_or_default().to_owned();
        if let Some(value) = value.filter(|_| !names.insert(name.clone())) {
            value.refuse(format!("two tests are called {}", quoted(&name)), "rename one: a name is how a failure is found");
        }
        tests.extend(test(name, table, &defaults));
    }
    root.finish();
    tests
}

fn test(name: String, table: Table<'_>, defaults: &Defaults) -> Option<Test> {
    let line = table.document.line(table.span.start);
    let own_service = table.optional("service").map(|value| Set::of(known_service(&value, defaults.services.as_ref())));
    let own_deployed = table.optional("deployed").map(|value| Set::of(deployments(&value)));
    if own_service.is_none() && defaults.service.is_none() {
        table.lack(&["service"], "for example `service = \"checkout\"`, here or at the top of the file".to_owned());
    }
    if own_deployed.is_none() && defaults.deployed.is_none() {
        table
            .lack(&["deployed"], "for example `deployed = \"1h\"`: a release is compared with what the series count until then".to_owned());
    }
    let mut guarded = own_service.or_else(|| defaults.service.clone()).and_then(Set::well);
    let deployed = own_deployed.or_else(|| defaults.deployed.clone()).and_then(Set::well).unwrap_or_else(|| vec![SignedDuration::ZERO]);
    let interval_value = table.optional("interval");
    let interval = interval_value
        .as_ref()
        .map(|value| Set::of(interval(value)))
        .or_else(|| defaults.interval.clone())
        .and_then(Set::well)
        .unwrap_or(SignedDuration::from_secs(15));
    if let Some(guarded) = &mut guarded {
        keep_pace(&mut guarded.policy, interval);
    }
    let rollout = table.optional("rollout").and_then(|value| value.signed_duration(Duration::ZERO..=HOUR)).unwrap_or_default();
    let policy = guarded.as_ref().map(|guarded| {
        let mut service = guarded.policy.clone();
        edit_matrix(&mut service.matrix, table.table("matrix"));
        edit_decision(&mut service.decision, table.table("decision"));
        service
    });
    if policy.is_none() {
        // What stands there is about a service that is not known.
        let _ = (table.optional("matrix"), table.optional("decision"));
    }
    let made_up = table.table("series").map_or_else(Vec::new, |table| series(&table));
    let mut feeds = guarded.as_ref().map(|guarded| counted(&table, guarded, made_up, interval, interval_value.as_ref()));
    let probed = table.table("probes").map_or_else(BTreeMap::new, |table| probed(&table, policy.as_ref()));
    let answered = table.table("impacts").map_or_else(BTreeMap::new, |table| answered(&table, policy.as_ref(), interval));
    if let Some(feeds) = &mut feeds {
        feeds.extend(probed.into_iter().chain(answered));
    }
    let fed = Fed { service: policy.as_ref(), deployed: &deployed, feeds: feeds.as_ref() };
    let expectations = table.required("expect", "expect = [{ after = \"5m\", verdict = \"error_ratio\" }]");
    let expectations = expectations.and_then(|value| value.tables(MOST)).unwrap_or_default();
    let expectations: Vec<Option<Expectation>> = expectations.into_iter().map(|table| expectation(table, &fed)).collect();
    if ["series", "probes", "impacts"].iter().all(|key| table.optional(key).is_none()) {
        table.lack(
            &["series", "probes", "impacts"],
            "for example `series = { 'http_requests_total{code=\"200\"}' = \"0+150x280\" }`".to_owned(),
        );
    }
    table.finish();
    let expectations = expectations.into_iter().collect::<Option<Vec<Expectation>>>()?;
    Some(Test { name, line, service: policy?, deployed, rollout, feeds: feeds?, expectations })
}

fn interval(value: &Value<'_>) -> Option<SignedDuration> {
    value.signed_duration(SECOND..=HOUR)
}

fn known_service(value: &Value<'_>, services: Option<&BTreeMap<ServiceName, GuardedService>>) -> Option<GuardedService> {
    service(value, services?)
}

fn service(value: &Value<'_>, services: &BTreeMap<ServiceName, GuardedService>) -> Option<GuardedService> {
    let name = value.text(63, "\"checkout\"")?;
    let found = services.iter().find(|(known, _)| known.as_str() == name).map(|(_, service)| service);
    if found.is_none() {
        let known: Vec<&str> = services.keys().map(ServiceName::as_str).collect();
        let help = nearest(name, &known)
            .map_or_else(|| format!("the configuration has: {}", known.join(", ")), |nearest| format!("did you mean \"{nearest}\"?"));
        value.refuse(format!("the configuration has no service {}", quoted(name)), help);
    }
    found.cloned()
}

fn deployments(value: &Value<'_>) -> Option<Vec<SignedDuration>> {
    let values = value.one_or_list(100)?;
    let times: Option<Vec<_>> = values.iter().map(|value| value.signed_duration(Duration::ZERO..=LONGEST)).collect();
    let times = times?;
    if let Some(index) = times.windows(2).position(|pair| pair[0] >= pair[1]) {
        values[index + 1].refuse("deployments come one after the other", "write them in order of time");
        return None;
    }
    Some(times)
}

/// `[tests.series]`: a line each.
fn series(table: &Table<'_>) -> Vec<(Range<usize>, MadeUp)> {
    let mut all: Vec<(Range<usize>, MadeUp)> = Vec::new();
    let values = table.values();
    if let Some((_, first_too_many)) = values.get(MOST) {
        table.report(Problem::error(first_too_many.key_span(), format!("there are {} series, at most {MOST} are allowed", values.len())));
    }
    for (text, value) in values.into_iter().take(MOST) {
        let (named, values) = (named(text, &value), notation(&value, samples));
        let Some(((name, labels), values)) = named.zip(values) else { continue };
        if all.iter().any(|(_, other)| other.name == name && other.labels == labels) {
            value.report(Problem::error(value.key_span(), "this series is there twice").help("give it another label, or remove it"));
            continue;
        }
        all.push((value.key_span(), MadeUp { name, labels, values: Arc::new(values) }));
    }
    all
}

fn named(text: &str, value: &Value<'_>) -> Option<(String, BTreeMap<String, String>)> {
    let wrong = match Selector::parse(text).map(|selector| selector.series()) {
        Ok(Some(series)) => return Some(series),
        Ok(None) => "a series has a name, and each label one value".to_owned(),
        Err(error) => error.to_string().replace("not a plain selector", "not a series"),
    };
    let problem = Problem::error(value.key_span(), format!("{}: {wrong}", quoted(text)));
    value
        .report(problem.help("write its name and labels in quotes: 'http_requests_total{service=\"checkout\",code=\"500\"}' = \"0+5x20\""));
    None
}

/// A text in the notation of series or rounds; what is wrong in it is shown where it stands.
fn notation<T>(value: &Value<'_>, read: impl Fn(&str) -> Result<T, NotationError>) -> Option<T> {
    let text = value.text(LONGEST_VALUES, "\"0+150x240\"")?;
    read(text).map_err(|NotationError { place, why, help }| value.report(Problem::error(value.place_in(text, place), why).help(help))).ok()
}

/// As the daemon does: what a server scrapes more rarely than it was to be looked at is judged at the pace of its scrapes.
fn keep_pace(service: &mut Service, interval: SignedDuration) {
    for signal in service.signals.values_mut().filter(|signal| signal.has_history && interval > signal.every.saturating_mul(3) / 2) {
        signal.every = interval;
    }
}

/// What the selectors of the service choose. A series that none of them does would be there for nothing.
fn counted(
    table: &Table<'_>,
    guarded: &GuardedService,
    made_up: Vec<(Range<usize>, MadeUp)>,
    interval: SignedDuration,
    interval_value: Option<&Value<'_>>,
) -> BTreeMap<SignalName, Feed> {
    let (places, series): (Vec<_>, Vec<_>) = made_up.into_iter().unzip();
    let (feeds, unread) = wire(&guarded.signals, &series, interval);
    let name = &guarded.policy.name;
    for index in unread {
        let chosen: Vec<String> =
            guarded.signals.iter().filter_map(|(signal, settings)| Some(format!("{signal} reads {}", described(settings)?))).collect();
        let help = if chosen.is_empty() { "it reads no series at all".to_owned() } else { chosen.join("; ") };
        table.report(Problem::error(places[index].clone(), format!("no signal of {name} reads this series")).help(help));
    }
    let every = feeds.keys().filter_map(|signal| guarded.policy.signals.get(signal)).map(|policy| policy.every).min();
    if let Some(every) = every.filter(|every| interval > every.saturating_mul(2)) {
        let place = interval_value.map_or_else(|| table.span.clone(), |value| value.span.clone());
        let message = format!(
            "a sample every {} is too old for {name}, which looks every {} and takes what is older than two looks as missing",
            words(interval),
            words(every)
        );
        table.report(Problem::error(place, message).help(format!("write `interval = \"{}\"`", words(every))));
    }
    feeds
}

/// `[tests.probes]`: a line each. Without the service it can't be told which there are.
fn probed(table: &Table<'_>, service: Option<&Service>) -> BTreeMap<SignalName, Feed> {
    named_feeds(table, service, "probe", |value, _| notation(value, rounds).map(Feed::Rounds))
}

/// `[tests.impacts]`: the answers to a question of the operator's own, since nothing here understands `PromQL`.
fn answered(table: &Table<'_>, service: Option<&Service>, interval: SignedDuration) -> BTreeMap<SignalName, Feed> {
    named_feeds(table, service, "impact", |value, name| {
        let values = Arc::new(notation(value, samples)?);
        Some(Feed::Answers { name: name.to_owned(), values, interval })
    })
}

/// What is made up for signals by their names, `KIND.NAME`.
fn named_feeds(
    table: &Table<'_>,
    service: Option<&Service>,
    kind: &str,
    read: impl Fn(&Value<'_>, &str) -> Option<Feed>,
) -> BTreeMap<SignalName, Feed> {
    let known = service.map(|service| {
        let names = service.signals.keys().filter_map(|name| name.0.strip_prefix(kind)?.strip_prefix('.'));
        names.collect::<Vec<&str>>()
    });
    let feed = |(name, value): (&str, Value<'_>)| {
        let feed = read(&value, name);
        let (service, known) = (service?, known.as_ref()?);
        if known.contains(&name) {
            return Some((SignalName(format!("{kind}.{name}")), feed?));
        }
        let help = match (nearest(name, known), known.as_slice()) {
            (Some(nearest), _) => format!("did you mean `{nearest}`?"),
            (None, []) => format!("it has no {kind} at all"),
            (None, known) => format!("there are: {}", known.join(", ")),
        };
        value.report(Problem::error(value.key_span(), format!("{} has no {kind} {}", service.name, quoted(name))).help(help));
        None
    };
    table.values().into_iter().filter_map(feed).collect()
}

/// What expectations are checked against; what could not be read is not there.
struct Fed<'a> {
    service: Option<&'a Service>,
    deployed: &'a [SignedDuration],
    feeds: Option<&'a BTreeMap<SignalName, Feed>>,
}

fn expectation(table: Table<'_>, fed: &Fed<'_>) -> Option<Expectation> {
    let line = table.document.line(table.span.start);
    let mut verdicts: Vec<(&'static str, Expected)> = Impact::ALL.iter().map(|impact| (impact.key(), Expected::Impact(*impact))).collect();
    verdicts.extend([("none", Expected::None), ("inconclusive", Expected::Inconclusive)]);
    let verdict = table.required("verdict", "verdict = \"error_ratio\"").and_then(|value| value.choice(&verdicts));
    let deployments = u32::try_from(fed.deployed.len()).unwrap_or(u32::MAX);
    let deployment = table.optional("deployment").and_then(|value| value.integer(1..=deployments)).unwrap_or(deployments) as usize - 1;
    let started = fed.deployed.get(deployment).copied().unwrap_or_default();
    let next = fed.deployed.get(deployment + 1).copied();
    let at = at(&table, fed, started, next);
    let severity_value = table.optional("severity");
    let severity = severity_value.as_ref().and_then(|value| value.choice(&SEVERITIES));
    let response_value = table.optional("response");
    let response = response_value.as_ref().and_then(|value| value.choice(&RESPONSES));
    let not_before_value = table.optional("not_before");
    let not_before = not_before_value.as_ref().and_then(|value| value.signed_duration(Duration::ZERO..=LONGEST));
    let signal = table.optional("signal").map(|value| signal(&value, fed));
    if let Some(verdict @ (Expected::None | Expected::Inconclusive)) = verdict {
        for value in [severity_value, response_value, not_before_value].into_iter().flatten() {
            let message = format!("`{}` says nothing where the verdict is `{}`", value.path, verdict.key());
            table.report(Problem::error(value.key_span(), message).help("remove it"));
        }
    }
    table.finish();
    let signal = match signal {
        Some(signal) => Some(signal?),
        None => None,
    };
    let not_before = not_before.map(|not_before| started.saturating_add(not_before));
    Some(Expectation { line, at: at?, deployment, verdict: verdict?, severity, response, signal, not_before })
}

/// When: at a time since the begin, or after a time since the deployment; else at the end of all that is made up, of the window, or just
/// before the next deployment.
fn at(table: &Table<'_>, fed: &Fed<'_>, started: SignedDuration, next: Option<SignedDuration>) -> Option<SignedDuration> {
    let values: Vec<(&str, Value<'_>)> =
        ["at", "after", "within"].into_iter().filter_map(|key| Some((key, table.optional(key)?))).collect();
    let just_before = |next: SignedDuration| next.saturating_sub(SignedDuration::from_secs(1)).max(started);
    let Some((key, value)) = values.first() else {
        let (service, feeds) = (fed.service?, fed.feeds?);
        let every = |signal: &SignalName| service.signals.get(signal).map_or(SignedDuration::ZERO, |policy| policy.every);
        let lasts = feeds.iter().map(|(signal, feed)| feed.lasts(every(signal))).max().unwrap_or_default();
        let end = lasts.min(started.saturating_add(service.window)).max(started);
        return Some(next.map_or(end, |next| end.min(just_before(next))));
    };
    if let Some((other, value)) = values.get(1) {
        let message = format!("`{}` has both `{key}` and `{other}`", table.path);
        let help = "`at` counts from the begin of the series, `after` and `within` from the deployment: keep one";
        table.report(Problem::error(value.key_span(), message).help(help));
    }
    let time = value.signed_duration(Duration::ZERO..=LONGEST)?;
    let time = if *key == "at" { time } else { started.saturating_add(time) };
    if time < started {
        value.refuse(format!("at {} nothing is deployed yet: that is at {}", words(time), words(started)), "a verdict is on a deployment");
        return None;
    }
    if let Some(next) = next.filter(|next| time >= *next) {
        value.refuse(
            format!("at {} the next version is deployed already, at {}", words(time), words(next)),
            "name the deployment that is meant: `deployment = 2`",
        );
        return None;
    }
    Some(time)
}

fn signal(value: &Value<'_>, fed: &Fed<'_>) -> Option<SignalName> {
    let name = value.text(80, "\"errors\"")?;
    let feeds = fed.feeds?;
    let signal = SignalName(name.to_owned());
    if !feeds.contains_key(&signal) {
        let known: Vec<&str> = feeds.keys().map(|signal| signal.0.as_str()).collect();
        let help = nearest(name, &known)
            .map_or_else(|| format!("made up are: {}", known.join(", ")), |nearest| format!("did you mean \"{nearest}\"?"));
        value.refuse(format!("nothing is made up of the signal {}", quoted(name)), help);
        return None;
    }
    Some(signal)
}
