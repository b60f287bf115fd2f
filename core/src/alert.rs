//! What a firing alert means for what is deployed: which service it is about, and which impact it stands for. The form in which it comes in
//! is the border's business. An alert is heard again and again, late, twice, or never again; whatever the order, it is told of once.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::declaration::{self, Declaration, Declared, Firing};
use crate::entry::{Actor, Entry, Record};
use crate::lifecycle::{Deployment, ServiceState, State};
use crate::service::{Service, ServiceName};
use crate::severity::Impact;

/// The label that says by itself what an alert stands for.
pub const IMPACT_LABEL: &str = "rollbackd_impact";

/// A clock may be so much ahead of ours.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// More open alerts of one impact say nothing new about a deployment. There is room for as many of each impact, so that many of a lesser one
/// never keep a worse one out.
const OF_AN_IMPACT: usize = declaration::KEPT / Impact::ALL.len();

/// One alert, as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// The same for every delivery of the same alert.
    pub fingerprint: String,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// What it says to people.
    pub reason: String,
    /// Whether it fires; over otherwise.
    pub firing: bool,
    /// When it began to fire.
    pub starts: Timestamp,
    /// When it was or will be over, where that is known.
    pub ends: Option<Timestamp>,
}

/// How alerts are understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The label that names the service. Default `service`.
    pub service_label: String,
    /// How long what an alert sees lasts before it fires (its `for`), where no rule says more. Default none.
    pub pending: SignedDuration,
    /// So long after it was heard of last an alert is over. Longer than Alertmanager's `repeat_interval`. Default 5 h.
    pub forgotten_after: SignedDuration,
    /// What stands for which impact; the first that matches counts.
    pub rules: Vec<Rule>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            service_label: "service".to_owned(),
            pending: SignedDuration::ZERO,
            forgotten_after: SignedDuration::from_hours(5),
            rules: Vec::new(),
        }
    }
}

/// One kind of alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The labels that it must have, with these values; at least one.
    pub labels: BTreeMap<String, String>,
    /// What it stands for.
    pub impact: Impact,
    /// The service that it is about, whatever its labels say.
    pub service: Option<ServiceName>,
    /// How long what it sees lasts before it fires.
    pub pending: Option<SignedDuration>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is taken down.
    Declared(ServiceName, Impact),
    /// It was known already.
    Known,
    /// It is over.
    Withdrawn(ServiceName, Impact),
    /// Nothing follows from it.
    Ignored(Ignored),
}

/// Why nothing follows from an alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ignored {
    /// No rule matches, and no label says what it stands for.
    NoRule,
    /// Its label names no impact; what it says.
    NoSuchImpact(String),
    /// It has no label that names a service; which one that would be.
    NoService(String),
    /// Its service is not guarded here; its name.
    UnknownService(String),
    /// Nothing is watched there just now.
    NotWatched,
    /// It is over already, or an old delivery of one that is.
    Over,
    /// It is over, and was never of interest.
    NothingToEnd,
    /// It says that it begins in the future.
    FromTheFuture,
    /// The deployment has as many of this impact as can be kept.
    TooMany,
}

impl fmt::Display for Ignored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => write!(formatter, "no rule matches it, and it has no label {IMPACT_LABEL}"),
            Self::NoSuchImpact(said) => {
                let impacts: Vec<_> = Impact::ALL.iter().map(|impact| impact.key()).collect();
                write!(formatter, "its label {IMPACT_LABEL} says {said:?}, which is no impact; there are: {}", impacts.join(", "))
            }
            Self::NoService(label) => write!(formatter, "it has no label {label} that names its service"),
            Self::UnknownService(named) => write!(formatter, "no service is called {named:?}"),
            Self::NotWatched => formatter.write_str("no deployment of its service is in its window"),
            Self::Over => formatter.write_str("it is over already"),
            Self::NothingToEnd => formatter.write_str("it is over, and did not concern a deployment"),
            Self::FromTheFuture => formatter.write_str("it says that it begins in the future"),
            Self::TooMany => write!(formatter, "its deployment has {OF_AN_IMPACT} of the same impact already"),
        }
    }
}

impl Ignored {
    /// Whether somebody may have meant otherwise: it is a matter of configuration, not of time.
    #[must_use]
    pub const fn may_be_a_mistake(&self) -> bool {
        matches!(self, Self::NoRule | Self::NoSuchImpact(_) | Self::NoService(_) | Self::UnknownService(_) | Self::FromTheFuture)
    }
}

/// What an alert means.
struct Meaning {
    service: ServiceName,
    impact: Impact,
    pending: SignedDuration,
}

impl Rules {
    fn meaning(&self, alert: &Alert) -> Result<Meaning, Ignored> {
        let matches = |rule: &&Rule| rule.labels.iter().all(|(label, value)| alert.labels.get(label) == Some(value));
        let rule = self.rules.iter().find(matches);
        let impact = match (alert.labels.get(IMPACT_LABEL), rule) {
            (Some(said), _) => {
                let named = Impact::ALL.into_iter().find(|impact| impact.key() == said);
                named.ok_or_else(|| Ignored::NoSuchImpact(brief(said)))?
            }
            (None, Some(rule)) => rule.impact,
            (None, None) => return Err(Ignored::NoRule),
        };
        let service = match (rule.and_then(|rule| rule.service.clone()), alert.labels.get(&self.service_label)) {
            (Some(service), _) => service,
            (None, Some(named)) => ServiceName::try_from(named.as_str()).map_err(|_| Ignored::UnknownService(brief(named)))?,
            (None, None) => return Err(Ignored::NoService(self.service_label.clone())),
        };
        Ok(Meaning { service, impact, pending: rule.and_then(|rule| rule.pending).unwrap_or(self.pending) })
    }
}

/// A stranger's words in a message.
fn brief(words: &str) -> String {
    words.chars().take(80).collect()
}

/// What has to be written for some alerts, and what becomes of each.
#[must_use]
pub fn hear(
    state: &State,
    policies: &BTreeMap<ServiceName, Service>,
    rules: &Rules,
    alerts: &[Alert],
    now: Timestamp,
) -> (Vec<Entry>, Vec<Heard>) {
    let mut hearing = Hearing { state, policies, rules, now, excerpts: BTreeMap::new() };
    let mut entries = Vec::new();
    let heard = alerts.iter().map(|alert| match hearing.one(alert) {
        Ok((entry, heard)) => {
            entries.extend(entry);
            heard
        }
        Err(ignored) => Heard::Ignored(ignored),
    });
    let heard = heard.collect();
    (entries, heard)
}

/// Takes in alerts one after the other, each after what the ones before it have changed.
struct Hearing<'a> {
    state: &'a State,
    policies: &'a BTreeMap<ServiceName, Service>,
    rules: &'a Rules,
    now: Timestamp,
    excerpts: BTreeMap<ServiceName, State>,
}

impl Hearing<'_> {
    fn one(&mut self, alert: &Alert) -> Result<(Option<Entry>, Heard), Ignored> {
        let meaning = self.rules.meaning(alert)?;
        let name = meaning.service.clone();
        if !self.policies.contains_key(&name) {
            return Err(Ignored::UnknownService(name.to_string()));
        }
        let excerpt = self.excerpts.entry(name.clone()).or_insert_with(|| self.state.excerpt(&name));
        let nothing_known = ServiceState::default();
        let service = excerpt.service(&name).unwrap_or(&nothing_known);
        let said = self.rules.declaration(&meaning, alert, self.now);
        let (entry, heard) = if alert.firing {
            firing(service, &meaning, said, self.rules.forgotten_after, self.now)?
        } else {
            resolved(service, &meaning, said, alert, self.now)?
        };
        if let Some(entry) = &entry {
            excerpt.apply(&Record { seq: excerpt.seq + 1, at: self.now, entry: entry.clone() });
        }
        Ok((entry, heard))
    }
}

impl Rules {
    /// What an alert says. It lives until its own end, and never longer than it is remembered.
    fn declaration(&self, meaning: &Meaning, alert: &Alert, now: Timestamp) -> Declaration {
        let forgotten = now.saturating_add(self.forgotten_after).unwrap_or(Timestamp::MAX);
        let until = alert.ends.filter(|ends| *ends > alert.starts).map_or(forgotten, |ends| ends.min(forgotten));
        Declaration {
            impact: meaning.impact,
            by: Actor::Alert(alert.name.clone()),
            reason: alert.reason.clone(),
            since: alert.starts.saturating_sub(meaning.pending).unwrap_or(Timestamp::MIN),
            alert: Some(Firing { fingerprint: alert.fingerprint.clone(), fired: alert.starts, until }),
        }
    }
}

/// All deployments whose word of this alert is known, newest first.
fn known<'a>(service: &'a ServiceState, said: &'a Declaration) -> impl Iterator<Item = (&'a Deployment, &'a Declared)> {
    let fingerprint = said.fingerprint();
    let of = move |deployment: &'a Deployment| {
        let fingerprint = fingerprint.clone();
        deployment
            .declared
            .iter()
            .filter(move |declared| declared.is(said.impact, &fingerprint))
            .map(move |declared| (deployment, declared))
    };
    service.deployments.values().rev().flat_map(of)
}

fn firing(
    service: &ServiceState,
    meaning: &Meaning,
    said: Declaration,
    life: SignedDuration,
    now: Timestamp,
) -> Result<(Option<Entry>, Heard), Ignored> {
    let Some((fired, until)) = said.alert.as_ref().map(|firing| (firing.fired, firing.until)) else { return Err(Ignored::NoRule) };
    if until <= now {
        return Err(Ignored::Over);
    }
    let declare = |deployment, declaration| Entry::ImpactDeclared { service: meaning.service.clone(), deployment, declaration };
    if let Some((deployment, open)) = known(service, &said).find(|(_, declared)| declared.is_open()) {
        let lives = open.declaration.alert.as_ref().map_or(now, |firing| firing.until);
        // It would be over before long; every delivery of its own would fill the ledger.
        let renewed = until.duration_since(lives) >= life / 2;
        let anew = Declaration { alert: said.alert.clone(), ..open.declaration.clone() };
        return Ok((renewed.then(|| declare(deployment.id, anew)), Heard::Known));
    }
    let over = known(service, &said).filter_map(|(_, declared)| declared.ended.as_ref()).any(|(ended, _)| fired < *ended);
    if over {
        return Err(Ignored::Over);
    }
    if fired.duration_since(now) > AHEAD {
        return Err(Ignored::FromTheFuture);
    }
    let current = service.current().filter(|current| current.status.in_window()).ok_or(Ignored::NotWatched)?;
    let is_like_it = |declared: &&Declared| declared.is_open() && declared.declaration.impact == meaning.impact;
    if current.declared.iter().filter(is_like_it).count() >= OF_AN_IMPACT {
        return Err(Ignored::TooMany);
    }
    Ok((Some(declare(current.id, said)), Heard::Declared(meaning.service.clone(), meaning.impact)))
}

fn resolved(
    service: &ServiceState,
    meaning: &Meaning,
    said: Declaration,
    alert: &Alert,
    now: Timestamp,
) -> Result<(Option<Entry>, Heard), Ignored> {
    let latest = now.saturating_add(AHEAD).unwrap_or(Timestamp::MAX);
    let ended = alert.ends.filter(|ends| *ends >= alert.starts).unwrap_or(now).min(latest);
    let withdraw = |deployment, declaration| Entry::ImpactWithdrawn {
        service: meaning.service.clone(),
        deployment,
        declaration,
        by: Actor::Alert(alert.name.clone()),
        ended,
    };
    if let Some((deployment, open)) = known(service, &said).find(|(_, declared)| declared.is_open()) {
        let fired = open.declaration.alert.as_ref().map_or(open.declaration.since, |firing| firing.fired);
        if ended < fired {
            return Err(Ignored::Over);
        }
        let heard = Heard::Withdrawn(meaning.service.clone(), meaning.impact);
        return Ok((Some(withdraw(deployment.id, open.declaration.clone())), heard));
    }
    let is_news = |current: &&Deployment| current.status.in_window() && said.since >= current.not_before;
    let is_known = known(service, &said).filter_map(|(_, declared)| declared.ended.as_ref()).any(|(known, _)| *known >= ended);
    match service.current().filter(is_news) {
        // What was said before it may be delivered after it.
        Some(current) if !is_known => Ok((Some(withdraw(current.id, said)), Heard::Known)),
        _ => Err(Ignored::NothingToEnd),
    }
}
