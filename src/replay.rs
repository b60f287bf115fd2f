//! What the judge would have made of what already happened: recorded samples and deployments, run through the very rules of the daemon in
//! virtual time. Nothing is carried out, and nobody is told.
//!
//! Samples are read as a stream ([`openmetrics`]), those of interest are picked ([`catalogue`]), put in order of time on disk where memory
//! ends ([`runs`]), and played ([`play`]) to the daemon's rules ([`judge`]); what they come to is told in [`report`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::entry::{Arrival, Entry, Record};
use rollbackd_core::service::{Service, ServiceName, SignalName};
use rollbackd_core::version::{Version, VersionId};
use rollbackd_core::words;
use serde::Serialize;

use crate::config::Config;
use crate::signal::Signal;
use catalogue::{Catalogue, Oddities};
use judge::{Deployed, World};
use openmetrics::{Met, ReadError};
use play::{Happening, Script};
use report::{Decision, Difference, Judgement, Summary};
use setup::{Asked, Setup};

pub mod catalogue;
pub mod fetch;
mod history;
pub mod judge;
pub mod openmetrics;
pub mod page;
pub mod play;
pub mod plot;
pub mod report;
pub mod runs;
pub mod setup;

/// What is to be replayed.
#[derive(Debug, Default)]
pub struct Request {
    /// Deployments that somebody tells of.
    pub deployed: Vec<(ServiceName, Timestamp)>,
    /// The label whose new values are deployments.
    pub version_label: Option<String>,
    /// The records of a daemon: what it saw of the workloads and what people said is played, what it decided is compared.
    pub ledger: Vec<Record>,
    /// Only these services; all that something was deployed at where it is empty.
    pub services: BTreeSet<ServiceName>,
    /// Whether a deployment is watched on that has not proved itself in its window.
    pub watch_on: bool,
    /// Whether the course of each signal is kept, to be drawn.
    pub courses: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was read.
    pub samples: Samples,
    /// The configuration.
    #[serde(flatten)]
    pub run: Run,
    /// Other configurations on the same samples, each with what it makes differently.
    pub against: Vec<Against>,
}

/// One configuration on the samples.
#[derive(Debug, Serialize)]
pub struct Run {
    /// Its file.
    pub configuration: String,
    /// What is not as in the daemon.
    pub notes: Vec<String>,
    /// How many of each.
    pub summary: Summary,
    /// Each deployment.
    pub deployments: Vec<Judgement>,
}

/// Another configuration on the same samples.
#[derive(Debug, Serialize)]
pub struct Against {
    /// What it decides differently.
    pub differences: Vec<Difference>,
    /// All of it.
    #[serde(flatten)]
    pub run: Run,
}

/// What was read.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Samples {
    /// The file, or the server.
    pub source: String,
    /// Lines, of interest or not.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
    /// Samples of interest.
    pub samples: u64,
    /// Series of interest.
    pub series: usize,
    /// The first one's time.
    pub from: Option<Timestamp>,
    /// The last one's time.
    pub to: Option<Timestamp>,
    /// Whether the whole could be read.
    pub whole: bool,
    /// What is wrong with it, or odd about it.
    pub notes: Vec<String>,
    /// Lines that can't be read: the first ones.
    pub damaged: Vec<Damaged>,
    /// How many there were.
    pub damaged_lines: u64,
    /// What was odd.
    pub oddities: Oddities,
}

/// A line that can't be read.
#[derive(Clone, Debug, Serialize)]
pub struct Damaged {
    /// Its number, beginning with 1.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The samples.
    #[error("cannot read {source_name}")]
    Read {
        /// Their file.
        source_name: String,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// A selector.
    #[error("{0}")]
    Selector(String),
    /// A server.
    #[error("cannot read {what}: {why}")]
    Fetch {
        /// Which signal of which service, from where.
        what: String,
        /// Why.
        why: String,
    },
    /// The samples can't be read back from where they were kept.
    #[error("cannot read samples back from the temporary files")]
    Kept(#[source] io::Error),
}

/// What reads each signal of each service.
pub type Adapters = BTreeMap<(ServiceName, SignalName), Arc<dyn Signal>>;

/// Configurations and the samples that they ask for.
#[derive(Debug)]
pub struct Replay {
    request: Request,
    setups: Vec<(String, Setup)>,
    catalogue: Catalogue,
    samples: Samples,
}

impl Replay {
    /// Prepares configurations, each with its name; the first one is what others are compared with. `now` is where the future begins.
    ///
    /// # Errors
    /// When a selector can't be used.
    pub fn new(request: Request, configs: &[(String, Config)], now: Timestamp) -> Result<Self, ReplayError> {
        let mut setups = Vec::new();
        let mut questions = Vec::new();
        for (name, config) in configs {
            let mut setup = Setup::of(config, &request.chosen(config));
            setup.notes.extend(request.unguarded(config));
            questions.extend(setup.questions(questions.len(), request.version_label.as_deref()).map_err(ReplayError::Selector)?);
            setups.push((name.clone(), setup));
        }
        let catalogue = Catalogue::new(questions, request.since(&setups), now);
        Ok(Self { request, setups, catalogue, samples: Samples::default() })
    }

    /// Reads a file of samples.
    ///
    /// # Errors
    /// When it can't be read on, or is something else altogether.
    pub fn read(&mut self, name: &str, source: impl Read) -> Result<(), ReplayError> {
        let met =
            openmetrics::read(source, &mut self.catalogue).map_err(|source| ReplayError::Read { source_name: name.to_owned(), source })?;
        self.samples = self.described(name, met);
        Ok(())
    }

    /// Fetches what a Prometheus server has of the time from `from` to `to`. `adapters` are those of each configuration.
    ///
    /// # Errors
    /// When a piece of it can't be had.
    pub async fn fetch(&mut self, server: &str, from: Timestamp, to: Timestamp, adapters: &[Adapters]) -> Result<(), ReplayError> {
        let source = format!("prometheus {server}");
        let mut met = Met { ended: true, ..Met::default() };
        let mut notes = Vec::new();
        for ((_, setup), adapters) in self.setups.iter().zip(adapters) {
            for asked in &setup.asked {
                let Asked { service, signal, question, .. } = asked;
                let policy = setup.policies.iter().find(|policy| policy.name == *service).and_then(|policy| policy.signals.get(signal));
                let adapter = adapters.get(&(service.clone(), signal.clone()));
                let (Some(policy), Some(adapter)) = (policy, adapter) else { continue };
                if policy.source != source {
                    notes.push(format!("{service}: {signal} is read from {} and not from {source}", policy.source));
                    continue;
                }
                let version_label = self.request.version_label.as_deref();
                let fetched = fetch::fetch(adapter.as_ref(), *question, version_label, from, to, &mut self.catalogue).await;
                met.samples += fetched.map_err(|why| ReplayError::Fetch { what: format!("{signal} of {service} from {source}"), why })?;
            }
        }
        self.samples = self.described(&source, met);
        self.samples.notes.extend(notes);
        Ok(())
    }

    fn described(&self, name: &str, met: Met) -> Samples {
        let catalogue = &self.catalogue;
        let time = |at: i64| Timestamp::from_millisecond(at).ok();
        let (from, to) = catalogue.span.unzip();
        let mut notes = oddities(&catalogue.oddities);
        if met.milliseconds && met.ended {
            notes.push("times are taken for milliseconds by their size, although OpenMetrics has seconds".to_owned());
        }
        if met.samples == 0 {
            notes.push("no sample of any signal was found".to_owned());
        }
        let damaged = met.damaged.into_iter().map(|(line, why)| Damaged { line, why }).collect();
        Samples {
            source: name.to_owned(),
            lines: met.lines,
            bytes: met.bytes,
            samples: met.samples,
            series: catalogue.taken().len(),
            from: from.and_then(time),
            to: to.and_then(time),
            whole: met.damages == 0,
            notes,
            damaged,
            damaged_lines: met.damages,
            oddities: catalogue.oddities,
        }
    }

    /// Plays what was read to every configuration.
    ///
    /// # Errors
    /// When the samples can't be read back from where they were kept.
    pub fn judge(mut self) -> Result<Report, ReplayError> {
        self.catalogue.find_cadences().map_err(ReplayError::Kept)?;
        let mut runs = Vec::new();
        for (name, mut setup) in std::mem::take(&mut self.setups) {
            setup.adapt(&self.catalogue);
            if let Some(label) = &self.request.version_label {
                setup.note_versions(&self.catalogue, label);
            }
            runs.push(self.run(name, setup)?);
        }
        let mut runs = runs.into_iter();
        let run = runs.next().ok_or_else(|| ReplayError::Selector("there is no configuration".to_owned()))?;
        let against = |other: Run| Against { differences: report::differences(&run.deployments, &other.deployments), run: other };
        let against = runs.map(against).collect();
        Ok(Report { samples: self.samples, run, against })
    }

    fn run(&mut self, name: String, setup: Setup) -> Result<Run, ReplayError> {
        let follows = !self.request.ledger.is_empty();
        let script = Script {
            policies: setup.policies.clone(),
            limits: setup.limits.clone(),
            world: if follows { World::Follows } else { World::Stays },
            watch_on: self.request.watch_on || follows,
            signals: setup.asked.iter().map(|asked| (asked.service.clone(), asked.signal.clone(), asked.question)).collect(),
            happenings: self.request.happenings(),
            begins_well: !follows,
            courses: self.request.courses,
            all_known: !follows && self.request.version_label.is_none(),
        };
        let played = play::play(&script, &mut self.catalogue).map_err(ReplayError::Kept)?;
        let mut deployments = report::judgements(&script.policies, played, self.samples.from.zip(self.samples.to));
        history::compare(&mut deployments, &self.request.ledger);
        let mut notes = setup.notes;
        notes.extend(self.outside(&setup.policies));
        notes.extend(self.twice(&deployments));
        if !follows {
            notes.extend(undone(&deployments));
        }
        Ok(Run { configuration: name, notes, summary: Summary::of(&deployments), deployments })
    }
}

impl Replay {
    /// Deployments that somebody told of and that no sample can say anything of: perhaps a slip in their times.
    fn outside(&self, policies: &[Service]) -> Vec<String> {
        let Some((first, last)) = self.samples.from.zip(self.samples.to) else { return Vec::new() };
        let is_outside = |service: &ServiceName, at: Timestamp| {
            let policy = policies.iter().find(|policy| policy.name == *service);
            policy.is_some_and(|policy| at >= last || at.saturating_add(policy.window).unwrap_or(Timestamp::MAX) <= first)
        };
        let told = self.request.deployed.iter().filter(|(service, at)| is_outside(service, *at));
        told.map(|(service, at)| {
            let at = words::time(*at);
            format!("{service}: there are no samples of its deployment at {at}: is that the time that was meant?")
        })
        .collect()
    }

    /// A deployment that a label tells of and somebody, too, counts twice.
    fn twice(&self, deployments: &[Judgement]) -> Vec<String> {
        if self.request.version_label.is_none() {
            return Vec::new();
        }
        let is_told = |judgement: &&Judgement| judgement.named_version().is_none();
        let near = |told: &Judgement| {
            let others = deployments.iter().filter(|other| other.service == told.service);
            let mut named = others.filter_map(|other| Some((other.named_version()?, other.started.duration_since(told.started).abs())));
            named.find(|(_, apart)| *apart <= SAME)
        };
        let note = |told: &Judgement| {
            let (version, apart) = near(told)?;
            let (service, at, apart) = (&told.service, words::time(told.started), words::duration(apart));
            Some(format!(
                "{service}: the deployment told at {at} and that of {version} by its label, {apart} apart, count as two: leave one out"
            ))
        };
        deployments.iter().filter(is_told).filter_map(note).collect()
    }
}

impl Request {
    /// Services that the ledger has deployments of, and the configuration does not guard.
    fn unguarded(&self, config: &Config) -> Vec<String> {
        let deployed = self.ledger.iter().filter_map(|record| match &record.entry {
            Entry::DeploymentSeen { service, arrival: Arrival::Deployed, .. } => Some(service),
            _ => None,
        });
        let is_meant = |service: &&ServiceName| self.services.is_empty() || self.services.contains(*service);
        let unguarded: BTreeSet<&ServiceName> =
            deployed.filter(is_meant).filter(|service| !config.services.contains_key(*service)).collect();
        unguarded
            .into_iter()
            .map(|service| format!("{service}: the ledger has deployments of it, and this configuration does not guard it"))
            .collect()
    }

    /// The services of a configuration that are replayed.
    fn chosen(&self, config: &Config) -> BTreeSet<ServiceName> {
        let recorded = self.ledger.iter().filter_map(|record| record.entry.service());
        let told: BTreeSet<&ServiceName> = self.deployed.iter().map(|(service, _)| service).chain(recorded).collect();
        let is_chosen = |service: &&ServiceName| match (self.services.is_empty(), self.version_label.is_some()) {
            (false, _) => self.services.contains(*service),
            (true, true) => true,
            (true, false) => told.contains(service),
        };
        config.services.keys().filter(is_chosen).cloned().collect()
    }

    /// Earlier samples are of no use, where all deployments are known beforehand.
    fn since(&self, setups: &[(String, Setup)]) -> Option<Timestamp> {
        if self.version_label.is_some() {
            return None;
        }
        let first = self.happenings().iter().map(|(at, ..)| *at).min()?;
        let policies = setups.iter().flat_map(|(_, setup)| &setup.policies);
        let history = policies.map(|policy| policy.decision.history).max().unwrap_or_default();
        first.checked_sub(history.max(WEEK).saturating_add(SignedDuration::from_hours(2))).ok()
    }

    fn happenings(&self) -> Vec<(Timestamp, ServiceName, Happening)> {
        let mut deployed = self.deployed.clone();
        deployed.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        deployed.dedup();
        let told = deployed.into_iter().map(|(service, at)| {
            let version = Version { id: VersionId(format!("{service}@{at}")), name: format!("{UNNAMED}{at}") };
            (at, service, Happening::Deployed(Deployed { version, not_before: at, rolled_out: true, change: None }))
        });
        let mut happenings: Vec<_> = history::happenings(&self.ledger).into_iter().chain(told).collect();
        happenings.sort_by_key(|(at, ..)| *at);
        happenings
    }
}

/// How a version is called of which only the time of its deployment is known.
const UNNAMED: &str = "the version deployed at ";

/// What a label and somebody tell of within so long is likely to be the same deployment.
const SAME: SignedDuration = SignedDuration::from_mins(2);

/// Baselines look at the same half hour a week before, too.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24 + 1);

/// So soon after a deployment that was bad the next one is compared with the time before both.
const SOON: SignedDuration = SignedDuration::from_hours(1);

/// Deployments that may be blamed for another one: it would have been undone by then, and what was recorded goes on all the same.
fn undone(deployments: &[Judgement]) -> Vec<String> {
    let cause = |later: &Judgement| {
        let is_soon = |decided: Timestamp| decided <= later.started && later.started.duration_since(decided) <= SOON;
        deployments.iter().rfind(|earlier| {
            earlier.service == later.service && earlier.decision == Decision::RollBack && earlier.decided.is_some_and(is_soon)
        })
    };
    let note = |later: &Judgement| {
        let cause = cause(later)?;
        let (service, at, cause) = (&later.service, words::time(later.started), words::time(cause.started));
        Some(format!(
            "{service}: what is held against the deployment at {at} may be the doing of the one at {cause}, which would have been undone by \
             then: replay it alone to see"
        ))
    };
    deployments.iter().filter(|judgement| judgement.decided.is_some()).filter_map(note).collect()
}

fn oddities(oddities: &Oddities) -> Vec<String> {
    let counted = [
        (oddities.out_of_order, "came after a later one of their series, and were put in order"),
        (oddities.repeated, "are of a moment that their series had one of already; the first one counts"),
        (oddities.not_counts, "are no counts (NaN, infinite or negative), and say nothing"),
        (oddities.in_the_future, "lie in the future, by the clock of this machine"),
    ];
    let notes = counted.iter().filter(|(number, _)| *number > 0);
    notes.map(|(number, what)| format!("{number} sample{} {what}", if *number == 1 { "" } else { "s" })).collect()
}

#[cfg(test)]
mod tests;
