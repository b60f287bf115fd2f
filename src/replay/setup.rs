//! What can be replayed of a configuration: which services, which of their signals can be had from samples, and at which cadence. What
//! can't be had is said, never passed over.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use rollbackd_core::guard::Limits;
use rollbackd_core::service::{Service, ServiceName, SignalName};
use rollbackd_core::words;

use super::catalogue::{Catalogue, Question};
use crate::config::{Config, SignalSettings};
use crate::signal::histogram::Family;
use crate::signal::metrics::Wanted;

/// A configuration as it is replayed.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The services, with the signals that can be had.
    pub policies: Vec<Service>,
    /// Limits over all of them.
    pub limits: Limits,
    /// The signals.
    pub asked: Vec<Asked>,
    /// What is not as in the daemon.
    pub notes: Vec<String>,
}

/// A signal that is asked of the samples.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whose.
    pub service: ServiceName,
    /// Its name.
    pub signal: SignalName,
    /// What is asked for.
    pub wanted: Wanted,
    /// The number of its question in the catalogue.
    pub question: usize,
}

impl Setup {
    /// What can be replayed of these services.
    #[must_use]
    pub fn of(config: &Config, services: &BTreeSet<ServiceName>) -> Self {
        let limits = Limits {
            rollbacks_per_hour: config.fleet.rollbacks_per_hour,
            brake_services: config.fleet.brake_services,
            brake_percent: config.fleet.brake_percent,
            brake_within: config.fleet.brake_within,
            blind_after: config.daemon.blind_after,
        };
        let mut setup = Self { policies: Vec::new(), limits, asked: Vec::new(), notes: Vec::new() };
        for (name, guarded) in config.services.iter().filter(|(name, _)| services.contains(*name)) {
            let mut policy = guarded.policy.clone();
            for (signal, settings) in &guarded.signals {
                match wanted(settings) {
                    Ok(wanted) => {
                        setup.asked.push(Asked { service: name.clone(), signal: signal.clone(), wanted, question: usize::MAX });
                    }
                    Err(why) => {
                        setup.notes.push(format!("{name}: {signal} is not judged: {why}"));
                        policy.signals.remove(signal);
                    }
                }
            }
            if policy.signals.is_empty() {
                setup.notes.push(format!("{name} has no signal that recorded samples could give, so nothing can be said of it"));
            }
            if policy.dry_run {
                setup.notes.push(format!("{name} is in dry run: here it is told what would be done without that"));
                policy.dry_run = false;
            }
            setup.policies.push(policy);
        }
        setup
    }

    /// The questions to a catalogue, numbered from `first` on.
    ///
    /// # Errors
    /// When a selector can't be used, in words; a valid configuration has none of those.
    pub fn questions(&mut self, first: usize, version_label: Option<&str>) -> Result<Vec<Question>, String> {
        let ask = |(number, asked): (usize, &mut Asked)| {
            asked.question = number;
            let wrong = |error: &dyn std::fmt::Display| format!("{}: cannot use the selectors of {}: {error}", asked.service, asked.signal);
            match &asked.wanted {
                Wanted::Counters { total, failed, by } => {
                    Question::counters(total, failed, by.as_deref(), version_label).map_err(|error| wrong(&error))
                }
                Wanted::Histogram(selector) => {
                    let family = Family::parse(selector).map_err(|error| wrong(&error))?;
                    Ok(Question::histogram(family, version_label))
                }
            }
        };
        (first..).zip(&mut self.asked).map(ask).collect()
    }

    /// Says where no deployment can be told by a label.
    pub fn note_versions(&mut self, catalogue: &Catalogue, label: &str) {
        for policy in &self.policies {
            let asked = self.asked.iter().filter(|asked| asked.service == policy.name);
            let versions: BTreeSet<&str> = asked.flat_map(|asked| catalogue.versions(asked.question)).collect();
            let name = &policy.name;
            let mut versions = versions.into_iter();
            match (versions.next(), versions.next()) {
                (None, _) => self.notes.push(format!("{name}: none of its series has the label {label}, so no deployment can be told")),
                (Some(only), None) => self.notes.push(format!("{name}: {label} is {only} all the time: nothing was deployed")),
                (Some(_), Some(_)) => {}
            }
        }
    }

    /// Looks as often as the samples were scraped, where that is less often than the configuration says: more often there is nothing to see,
    /// and it would be taken for silence.
    pub fn adapt(&mut self, catalogue: &Catalogue) {
        for asked in &self.asked {
            let (total, failed) = catalogue.found(asked.question);
            let (service, signal) = (&asked.service, &asked.signal);
            if total == 0 {
                let selector = match &asked.wanted {
                    Wanted::Counters { total, .. } => total,
                    Wanted::Histogram(selector) => selector,
                };
                let there = instead(catalogue, asked.question);
                self.notes.push(format!("{service}: no series of {signal} was found: nothing matches {selector}{there}"));
                continue;
            }
            if let Wanted::Counters { failed: selector, .. } = &asked.wanted
                && failed == 0
            {
                self.notes.push(format!(
                    "{service}: nothing matches {selector}: no request has failed in these samples, or the selector is wrong"
                ));
            }
            let policy = self.policies.iter_mut().find(|policy| policy.name == asked.service);
            let Some(policy) = policy.and_then(|policy| policy.signals.get_mut(&asked.signal)) else { continue };
            if let Some(cadence) = catalogue.cadence(asked.question).filter(|cadence| is_longer(*cadence, policy.every)) {
                self.notes.push(format!(
                    "{service}: {signal} was scraped every {} and not every {}, and is looked at as often",
                    words::duration(cadence),
                    words::duration(policy.every)
                ));
                policy.every = cadence;
            }
        }
    }
}

/// What there is instead of what was asked for.
fn instead(catalogue: &Catalogue, question: usize) -> String {
    if let Some(other) = catalogue.other_labels(question) {
        return format!("; what is called like that has other labels: {other}");
    }
    let names: Vec<&str> = catalogue.names().into_iter().collect();
    match (names.is_empty(), names.len().saturating_sub(MOST_NAMED)) {
        (true, _) => String::new(),
        (false, 0) => format!("; the samples are of {}", names.join(", ")),
        (false, more) => format!("; the samples are of {} and {more} more", names[..MOST_NAMED].join(", ")),
    }
}

/// So many names are told.
const MOST_NAMED: usize = 8;

/// By more than scrapes are uneven anyway.
fn is_longer(cadence: SignedDuration, every: SignedDuration) -> bool {
    cadence > every.saturating_add(every / 10)
}

/// What a signal asks for, or why it can't be had.
fn wanted(settings: &SignalSettings) -> Result<Wanted, &'static str> {
    match settings {
        SignalSettings::Prometheus(settings) => {
            Ok(Wanted::Counters { total: settings.total.clone(), failed: settings.failed.clone(), by: settings.by.clone() })
        }
        SignalSettings::Histograms(settings) => Ok(Wanted::Histogram(settings.histogram.clone())),
        SignalSettings::Metrics(settings) => Ok(settings.wanted.clone()),
        SignalSettings::Probe(_) => Err("what a probe would have seen is not in recorded samples"),
        SignalSettings::Query(_) => Err("only a Prometheus server can answer its query"),
    }
}
