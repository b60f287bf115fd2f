//! The evidence on one service: everything seen that has not been decided yet. It lives in memory only; after a restart it starts from
//! zero, which can delay a decision and never make a wrong one. Time is an argument everywhere.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

pub(crate) mod interval;
pub(crate) mod rounds;
mod trailing;
mod lens;
mod outage;
mod platform;
mod sight;
mod memory;
mod window;
mod proof;
mod latency;
mod query;
pub mod foresight;
mod control;
mod routes;
mod combination;
#[cfg(test)]
mod stories;

use self::combination::{Choir, Voice};
use self::lens::SUSPECT;
use self::memory::{History, Memory};
use self::platform::{HardRules, Platform};
use self::proof::{Proof, ROUNDS, lack_of_rounds};
use self::rounds::Round;
use self::window::{ErrorsWindow, ProbeWindow, Said, SignalWindow, Startup, Window};
use crate::baseline::Baseline;
use crate::counter::Increment;
use crate::entry::DeploymentId;
use crate::histogram::Durations;
use crate::observation::{Answered, Histogram, Missing, Reading, Scrape, Workload};
use crate::past::Past;
use crate::plan::PlanId;
use crate::service::{Role, Service, SignalKind, SignalName, SignalPolicy};
use crate::severity::Impact;
use crate::verdict::{Finding, FindingState, Gate, Inconclusive, Measure, Numbers, Verdict};

/// A stretch of time that is not history, because a bad deployment or an incident made it what it was: from, to.
pub type Excluded = (Timestamp, Timestamp);

/// The evidence on one service.
#[derive(Debug)]
pub struct Evidence {
    /// Boxed, for a node of the map has room for eleven.
    memories: BTreeMap<SignalName, Box<Memory>>,
    platform: Platform,
    window: Option<Window>,
    proof: Option<Proof>,
}

/// Whether a deployment has proved itself (DECISION 2.8).
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// Every signal that can prove health has; the weakest evidence, as a natural logarithm.
    Proven {
        /// ln G of the weakest signal.
        log_evidence: f64,
    },
    /// Not enough is known, or something is suspect; the signals that still lack, each with what it lacks in words of data.
    Unproven(Vec<Lack>),
}

/// What a signal lacks for a proof.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// The source gives nothing.
    Missing(SignalName, Missing),
    /// Too few requests or rounds yet.
    Evidence {
        /// The signal.
        signal: SignalName,
        /// How many it had.
        count: f64,
        /// ln G so far.
        log_evidence: f64,
        /// What it has to reach.
        log_threshold: f64,
    },
    /// A check is failing or the odds against it are high.
    Suspect(SignalName),
    /// The rollout is not complete.
    Rollout,
}

impl Lack {
    /// Whether this is evidence against, and not a mere want of evidence for.
    #[must_use]
    pub fn speaks_against(&self) -> bool {
        match self {
            Self::Suspect(_) | Self::Rollout => true,
            Self::Evidence { log_evidence, .. } => *log_evidence < 0.0,
            Self::Missing(..) => false,
        }
    }
}

/// A source that gives nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Blind {
    /// The signal.
    pub signal: SignalName,
    /// Why.
    pub missing: Missing,
    /// Since when.
    pub since: Timestamp,
}

/// Who counted what: the watched version, or what it replaces. What is replaced may be bad, and the version that replaces it the cure.
#[derive(Clone, Copy, Debug)]
enum Sides {
    /// Nothing is known that could be replaced.
    Own,
    /// As far as can be told.
    Told {
        /// A process that began earlier is not of the watched version.
        begin: Timestamp,
        /// Since when nothing else counts.
        alone: Option<Timestamp>,
    },
}

impl Sides {
    /// Whether the watched version counted it, by when the process began that did, and since when it was counted.
    fn are_own(self, process_started: Option<Timestamp>, from: Timestamp) -> bool {
        match self {
            Self::Own => true,
            Self::Told { begin, alone } => {
                process_started.is_some_and(|started| started >= begin) || alone.is_some_and(|alone| from >= alone)
            }
        }
    }

    /// What the watched version counted, and what was counted beside it by the version before; what could be either is left out.
    fn split(self, increments: &[Increment]) -> (Vec<Increment>, Vec<Increment>) {
        let (own, rest): (Vec<Increment>, Vec<Increment>) = increments.iter().partition(|one| self.are_own(one.process_started, one.from));
        (own, rest.into_iter().filter(|increment| increment.process_started.is_some()).collect())
    }
}

/// What is replaced takes so long to end (the usual grace of Kubernetes), and may be counted as long.
const LEAVING: SignedDuration = SignedDuration::from_secs(30);

/// Two looks of the slowest usual kind.
const JUST_NOW: SignedDuration = SignedDuration::from_mins(2);

/// Suspicion blocks a promotion for so long.
const SUSPICION: SignedDuration = SignedDuration::from_mins(10);

/// What is bad for so long is usual by now.
const USUAL_BY_NOW: SignedDuration = SignedDuration::from_hours(1);

/// What goes on shows so long after the next version came at the latest.
const START_UP: SignedDuration = SignedDuration::from_mins(10);

impl Evidence {
    /// No evidence yet.
    #[must_use]
    pub fn new(service: &Service) -> Self {
        let memories = service.signals.iter().map(|(name, policy)| (name.clone(), Box::new(Memory::new(policy)))).collect();
        Self { memories, platform: Platform::default(), window: None, proof: None }
    }

    /// Takes in one look at a signal of the service. Unknown signals and readings of the wrong kind are ignored.
    pub fn observe(&mut self, service: &Service, signal: &SignalName, reading: &Reading, at: Timestamp) {
        let Some(policy) = service.signals.get(signal) else { return };
        let memory = self.memories.entry(signal.clone()).or_insert_with(|| Box::new(Memory::new(policy)));
        if !memory.fits(policy) {
            **memory = Memory::new(policy);
        }
        match reading {
            Reading::Missing(missing) => memory.sight.lose(missing.clone(), at),
            Reading::Scrape(scrape) if policy.kind == SignalKind::Errors => self.observe_scrape(service, signal, policy, scrape, at),
            Reading::Probe(round) if policy.kind == SignalKind::Probe => match Round::of(round, at) {
                Ok(round) => self.observe_round(service, signal, policy, round),
                Err(missing) => memory.sight.lose(missing, at),
            },
            Reading::Histograms(histograms) if policy.kind == SignalKind::Latency => {
                self.observe_histograms(service, signal, policy, histograms, at);
            }
            Reading::Answer(answer) if matches!(policy.kind, SignalKind::Query { .. }) => self.observe_answer(signal, answer, at),
            Reading::Scrape(_) | Reading::Probe(_) | Reading::Histograms(_) | Reading::Answer(_) => {}
        }
    }

    fn observe_scrape(&mut self, service: &Service, signal: &SignalName, policy: &SignalPolicy, scrape: &Scrape, at: Timestamp) {
        let Some(Memory { sight, history: History::Errors(intervals), .. }) = self.memories.get_mut(signal).map(AsMut::as_mut) else {
            return;
        };
        let (increments, missing) = intervals.take(service, policy, scrape, at);
        match missing {
            Some(missing) => sight.lose(missing, at),
            None => sight.see(at),
        }
        let sides = self.sides(service);
        let ambient = self.ambient(at.checked_sub(control::STICKY).unwrap_or(Timestamp::MIN));
        match self.signal_window(signal) {
            Some(SignalWindow::Errors(window)) => window.take(&increments, scrape, at, ambient, |increments| sides.split(increments)),
            Some(SignalWindow::Control(window)) => window.take(&increments),
            _ => {}
        }
        if let Some(proof) = &mut self.proof {
            proof.take_increments(signal, &increments, scrape, at);
        }
    }

    fn observe_round(&mut self, service: &Service, signal: &SignalName, policy: &SignalPolicy, round: Round) {
        let Some(Memory { sight, history: History::Probe(rounds), .. }) = self.memories.get_mut(signal).map(AsMut::as_mut) else { return };
        sight.see(round.at);
        rounds.push(round, policy.every, policy.history(&service.decision));
        let startup = self.startup(service, round.at);
        if let Some(SignalWindow::Probe(window)) = self.signal_window(signal) {
            window.take(round, startup);
        }
        if let Some(proof) = &mut self.proof {
            proof.take_round(signal, &round);
        }
    }

    fn observe_histograms(
        &mut self,
        service: &Service,
        signal: &SignalName,
        policy: &SignalPolicy,
        histograms: &[Histogram],
        at: Timestamp,
    ) {
        let Some(Memory { sight, history: History::Latency(latencies), .. }) = self.memories.get_mut(signal).map(AsMut::as_mut) else {
            return;
        };
        let (durations, missing) = latencies.take(service, policy, histograms, at);
        match missing {
            Some(missing) => sight.lose(missing, at),
            None => sight.see(at),
        }
        let sides = self.sides(service);
        let own: Vec<Durations> = durations.iter().filter(|one| sides.are_own(one.process_started, one.from)).cloned().collect();
        if let Some(SignalWindow::Latency(window)) = self.signal_window(signal) {
            window.take(&own);
        }
        if let Some(proof) = &mut self.proof {
            proof.take_durations(signal, &durations);
        }
    }

    fn observe_answer(&mut self, signal: &SignalName, answer: &[Answered], at: Timestamp) {
        let Some(Memory { sight, history: History::Query(answers), .. }) = self.memories.get_mut(signal).map(AsMut::as_mut) else { return };
        sight.see(at);
        answers.take(answer, at);
        if let Some(SignalWindow::Query(window)) = self.signal_window(signal) {
            window.take(answer, at);
        }
        if let Some(proof) = &mut self.proof {
            proof.take_answer(signal, answer, at);
        }
    }

    /// What tells the watched version's own counts from those of what it replaces.
    fn sides(&self, service: &Service) -> Sides {
        let Some(window) = self.window.as_ref().filter(|_| self.platform.newest().is_some()) else { return Sides::Own };
        let begin = self.platform.other_version_until().map_or(window.start, |until| until.min(window.start));
        let leaving = LEAVING.min(service.decision.grace);
        let alone = window.alone_since.and_then(|since| since.checked_add(leaving).ok());
        Sides::Told { begin, alone }
    }

    /// The level that whoever suffers with the control group may have had at any time since `since`; 0 where nobody suffers.
    fn ambient(&self, since: Timestamp) -> f64 {
        let signals = self.window.iter().flat_map(|window| window.signals.values());
        let granted =
            signals.filter_map(|signal| if let SignalWindow::Control(control) = signal { Some(control.granted(since)) } else { None });
        granted.fold(0.0, f64::max)
    }

    /// The signals of others that suffered just now, or at any time of so long a hold before.
    #[must_use]
    pub fn suffering(&self, hold: SignedDuration, now: Timestamp) -> Vec<SignalName> {
        let since = now.checked_sub(hold.max(control::STICKY)).unwrap_or(Timestamp::MIN);
        let signals = self.window.iter().flat_map(|window| &window.signals);
        let suffers = |signal: &SignalWindow| matches!(signal, SignalWindow::Control(control) if control.granted(since) > 0.0);
        signals.filter(|(_, signal)| suffers(signal)).map(|(name, _)| name.clone()).collect()
    }

    /// Since when the watched deployment has been weighed without a break: since it is watched, or since the daemon came back.
    #[must_use]
    pub fn weighed_since(&self) -> Option<Timestamp> {
        self.window.as_ref().map(|window| window.opened)
    }

    fn startup(&self, service: &Service, now: Timestamp) -> Startup {
        let may_still_start = |window: &Window| window.hard_rules.may_still_start(&service.decision, &self.platform, now);
        let waited = self.window.as_ref().is_some_and(may_still_start);
        match self.platform.newest() {
            _ if waited => Startup::Waited,
            Some((workload, _)) if self.platform.is_complete() && workload.ready_is_checked => Startup::Ready,
            Some(_) if self.platform.is_complete() => Startup::Running,
            Some(_) => Startup::Unknown,
            None => Startup::Running,
        }
    }

    fn signal_window(&mut self, signal: &SignalName) -> Option<&mut SignalWindow> {
        self.window.as_mut()?.signals.get_mut(signal)
    }

    /// Takes in one look at the workload.
    pub fn observe_workload(&mut self, _service: &Service, workload: &Workload, at: Timestamp) {
        let elapsed = self.platform.see(workload, at);
        if let Some(window) = &mut self.window {
            window.hard_rules.see(workload, at, elapsed);
            window.alone_since = window.alone_since.or(self.platform.complete_since());
        }
    }

    /// The newest look at the workload, and when it was.
    #[must_use]
    pub fn workload(&self) -> Option<(&Workload, Timestamp)> {
        self.platform.newest()
    }

    /// Whether a signal, or the platform, was looked at and gives something now. A signal that the service has no more hides nothing.
    #[must_use]
    pub fn sees(&self, service: &Service, signal: &SignalName, now: Timestamp) -> bool {
        if *signal == SignalName::platform() {
            return self.platform.newest().is_some() && self.platform.missing().is_none();
        }
        let Some(policy) = service.signals.get(signal) else { return true };
        self.memories.get(signal).is_some_and(|memory| memory.sight.looked() && memory.sight.missing(policy.every, now).is_none())
            && self.fails_without_measure(signal).is_none()
    }

    fn fails_without_measure(&self, signal: &SignalName) -> Option<Timestamp> {
        self.window.as_ref()?.signals.get(signal)?.fails_without_measure()
    }

    /// Until when something else than the newest version was certainly deployed.
    #[must_use]
    pub fn other_version_until(&self) -> Option<Timestamp> {
        self.platform.other_version_until()
    }

    /// Whether the platform was looked at, whatever came of it: shortly after a start nobody has, and that is not the same as being blind.
    #[must_use]
    pub fn looked_at_workload(&self) -> bool {
        self.platform.newest().is_some() || self.platform.missing().is_some()
    }

    /// Whether it shows within seconds how the workload is: nobody has looked yet, or its rollout was completed just now.
    #[must_use]
    pub fn is_settling(&self, service: &Service, now: Timestamp) -> bool {
        let just_complete = self.platform.is_complete() && !self.platform.is_steady(&service.decision, now);
        just_complete || !self.looked_at_workload()
    }

    /// The platform gives nothing any more.
    pub fn lose_workload(&mut self, missing: Missing, at: Timestamp) {
        self.platform.lose(missing, at);
    }

    /// A baseline for a deployment that starts at `start`, from what the evidence itself remembers of the signal (at most the
    /// configured history). `None` when the source has a history of its own ([`Self::baseline_of_history`]).
    #[must_use]
    pub fn baseline(&self, service: &Service, signal: &SignalName, start: Timestamp, excluded: &[Excluded]) -> Option<Baseline> {
        let excluded = no_history(excluded, start);
        let policy = service.signals.get(signal).filter(|policy| !policy.has_history)?;
        let memory = self.memories.get(signal).filter(|memory| memory.fits(policy));
        Some(match memory {
            Some(memory) => memory.baseline(service, policy, start, &excluded),
            None => Memory::new(policy).baseline(service, policy, start, &excluded),
        })
    }

    /// A baseline from raw samples that the source kept of the time before `start`. A signal that the service doesn't have knows nothing.
    #[must_use]
    pub fn baseline_of_history(
        service: &Service,
        signal: &SignalName,
        history: &Scrape,
        start: Timestamp,
        excluded: &[Excluded],
    ) -> Baseline {
        let policy = policy_of(service, signal);
        memory::baseline_of_history(service, &policy, history, start, &no_history(excluded, start))
    }

    /// A baseline from what is known of the signal's past before `start`: of the configured history, and of the half hours that began a day
    /// and a week before. A signal that the service doesn't have knows nothing.
    #[must_use]
    pub fn baseline_of_past(service: &Service, signal: &SignalName, past: &Past, start: Timestamp, excluded: &[Excluded]) -> Baseline {
        memory::baseline_of_past(service, &policy_of(service, signal), past, start, &no_history(excluded, start))
    }

    /// A baseline from raw samples of histograms that the source kept of the time before `start`. A signal that the service doesn't have
    /// knows nothing.
    #[must_use]
    pub fn baseline_of_histograms(
        service: &Service,
        signal: &SignalName,
        history: &[Histogram],
        start: Timestamp,
        excluded: &[Excluded],
    ) -> Option<Baseline> {
        let policy = service.signals.get(signal).filter(|policy| policy.kind == SignalKind::Latency)?;
        Some(memory::baseline_of_histograms(service, policy, history, start, &no_history(excluded, start)))
    }

    /// The deployment whose window is being weighed.
    #[must_use]
    pub fn watched(&self) -> Option<DeploymentId> {
        self.window.as_ref().map(|window| window.deployment)
    }

    /// From when on it is weighed.
    #[must_use]
    pub fn watched_from(&self) -> Option<Timestamp> {
        self.window.as_ref().map(|window| window.start)
    }

    /// Begins to weigh a deployment that started at `start`; what was weighed before is dropped, what is remembered of each signal stays.
    /// Where nothing serves while it starts, it may take `patience` to become ready.
    pub fn watch(&mut self, service: &Service, deployment: DeploymentId, start: Timestamp, patience: SignedDuration, now: Timestamp) {
        for (signal, policy) in &service.signals {
            if let Some(memory) = self.memories.get_mut(signal) {
                memory.sight.resume(policy.every, now);
            }
        }
        let hard_rules = HardRules::new(&service.decision, &self.platform, start, patience, now);
        let was_well = |signal: &SignalName| match self.memories.get(signal).map(|memory| &memory.history) {
            Some(History::Probe(rounds)) => rounds.were_well_before(start),
            Some(History::Query(answers)) => !answers.had_one_at(start),
            Some(History::Errors(_) | History::Latency(_)) | None => false,
        };
        let mut window = Window::new(service, deployment, start, hard_rules, was_well);
        window.opened = now.max(start);
        window.alone_since = self.platform.complete_since();
        self.window = Some(window);
    }

    /// Gives the watched deployment the baselines it lacked; those it has stay.
    pub fn set_baselines(&mut self, service: &Service, baselines: &BTreeMap<SignalName, Baseline>) {
        for (signal, baseline) in baselines {
            if let Some(memory) = self.memories.get_mut(signal) {
                match (&mut memory.history, baseline) {
                    (_, Baseline::Errors(errors)) => memory.cluster = Some(errors.cluster),
                    (History::Latency(latencies), Baseline::Latency(baseline)) => latencies.learn(baseline),
                    (_, Baseline::Probe(_) | Baseline::Latency(_) | Baseline::Query(_)) => {}
                }
            }
            if let Some(window) = self.signal_window(signal) {
                window.set_baseline(service, baseline);
            }
        }
    }

    /// A signal is read at another pace than before: what was remembered and weighed of it is dropped, and its proof begins again.
    pub fn begin_anew(&mut self, service: &Service, signal: &SignalName) {
        let Some(policy) = service.signals.get(signal) else { return };
        self.memories.insert(signal.clone(), Box::new(Memory::new(policy)));
        if let Some(window) = &mut self.window {
            window.signals.insert(signal.clone(), SignalWindow::new(service, policy, window.start, false));
        }
        self.proof = None;
    }

    /// Ends the weighing.
    pub fn unwatch(&mut self) {
        self.window = None;
    }

    /// What every check of the watched deployment says now.
    #[must_use]
    pub fn findings(&self, service: &Service, now: Timestamp) -> Vec<Finding> {
        let Some(window) = &self.window else { return Vec::new() };
        let signals = service.signals.iter().filter_map(|(name, policy)| Some((name, policy, window.signals.get(name)?)));
        let choir = Choir::of(window.signals.values().flat_map(SignalWindow::voices));
        let log_threshold = |voice: Voice| choir.log_threshold(voice, service.decision.alpha);
        let mut findings: Vec<Finding> =
            signals.flat_map(|(name, policy, signal)| self.findings_of_signal(name, policy, signal, &log_threshold, now)).collect();
        findings.push(self.finding_of_platform(service, window, now));
        findings
    }

    fn findings_of_signal(
        &self,
        name: &SignalName,
        policy: &SignalPolicy,
        window: &SignalWindow,
        log_threshold: &impl Fn(Voice) -> f64,
        now: Timestamp,
    ) -> Vec<Finding> {
        let finding = |impact, state, numbers| Finding { signal: name.clone(), impact, state, numbers };
        let why = self.silence(name, policy, window, now);
        match (why, window.says(log_threshold)) {
            (None, Some(said)) => {
                let said = said.into_iter().map(|said| self.attributed(said, now));
                said.map(|said| finding(said.impact, said.state, said.numbers)).collect()
            }
            (why, _) => {
                let why = FindingState::Inconclusive(why.unwrap_or(Inconclusive::NoBaseline));
                window.impacts().iter().map(|&impact| finding(impact, why.clone(), None)).collect()
            }
        }
    }

    /// What others suffer as much is not this deployment's doing.
    fn attributed(&self, said: Said, now: Timestamp) -> Said {
        let Some(numbers) = said.numbers else { return said };
        let since = now.checked_sub(numbers.hold.max(control::STICKY)).unwrap_or(Timestamp::MIN);
        let ambient = self.ambient(since);
        if ambient <= 0.0 {
            return Said { numbers: Some(numbers), ..said };
        }
        let clearly_worse = numbers.measure == Measure::Share && ambient < 1.0 && numbers.now.is_some_and(|now| now >= ambient);
        let blocked = !clearly_worse && matches!(said.state, FindingState::Failing(_));
        let waits_for = if blocked { Some(Gate::Attribution) } else { numbers.waits_for };
        let state = if blocked { FindingState::Passing } else { said.state };
        Said { state, numbers: Some(Numbers { ambient: Some(ambient), waits_for, ..numbers }), ..said }
    }

    /// Why nothing can be said of a signal now, whatever was weighed.
    fn silence(&self, name: &SignalName, policy: &SignalPolicy, window: &SignalWindow, now: Timestamp) -> Option<Inconclusive> {
        let Some(memory) = self.memories.get(name).filter(|memory| memory.sight.looked()) else { return Some(Inconclusive::NotLooked) };
        let missing = memory.sight.missing(policy.every, now).map(|(missing, _)| Inconclusive::Missing(missing));
        missing.or_else(|| window.warming_up(now))
    }

    fn finding_of_platform(&self, service: &Service, window: &Window, now: Timestamp) -> Finding {
        let state = match (self.platform.missing(), self.platform.newest()) {
            (Some((missing, _)), _) => FindingState::Inconclusive(Inconclusive::Missing(missing.clone())),
            (None, None) => FindingState::Inconclusive(Inconclusive::NotLooked),
            (None, Some(_)) => match window.hard_rules.broken(&service.decision, &self.platform, now) {
                Some((failure, _)) => FindingState::Failing(failure),
                None => FindingState::Passing,
            },
        };
        Finding { signal: SignalName::platform(), impact: Impact::CompleteOutage, state, numbers: None }
    }

    /// What the matrix makes of the findings: of the failing ones for which it does most, the worst.
    #[must_use]
    pub fn verdict(&self, service: &Service, now: Timestamp) -> Option<Verdict> {
        let findings = self.findings(service, now);
        let failing = findings.iter().filter(|finding| matches!(finding.state, FindingState::Failing(_)));
        let worst = failing.min_by_key(|finding| {
            let row = service.matrix.row(finding.impact);
            (row.response, row.severity, finding.impact)
        })?;
        let (impact, signal) = (worst.impact, worst.signal.clone());
        let row = *service.matrix.row(impact);
        let numbers = worst.numbers.as_ref().and_then(|numbers| numbers.onset);
        let onset = numbers.or_else(|| self.answered_since(&worst.signal)).or_else(|| self.broken_since(service, now)).unwrap_or(now);
        Some(Verdict { impact, severity: row.severity, response: row.response, within: row.within, onset, signal, findings })
    }

    fn answered_since(&self, signal: &SignalName) -> Option<Timestamp> {
        match self.window.as_ref()?.signals.get(signal)? {
            SignalWindow::Query(window) => window.onset(),
            SignalWindow::Errors(_) | SignalWindow::Probe(_) | SignalWindow::Latency(_) | SignalWindow::Control(_) => None,
        }
    }

    fn broken_since(&self, service: &Service, now: Timestamp) -> Option<Timestamp> {
        let broken = self.window.as_ref()?.hard_rules.broken(&service.decision, &self.platform, now);
        broken.map(|(_, since)| since)
    }

    /// Whether the watched deployment has proved itself.
    #[must_use]
    pub fn health(&self, service: &Service, now: Timestamp) -> Health {
        let Some(window) = &self.window else { return Health::Unproven(Vec::new()) };
        let has_probes = service.signals.values().any(|policy| policy.kind == SignalKind::Probe);
        let probes_suffice = service.promote_on_probes && has_probes;
        let (mut lacks, mut proofs, mut rounds) = (self.suspects(service, window, now), Vec::new(), Vec::new());
        for (name, signal) in &window.signals {
            match signal {
                SignalWindow::Errors(_) | SignalWindow::Latency(_) if probes_suffice => {}
                SignalWindow::Errors(errors) => match self.proof_of_errors(service, name, errors, now) {
                    Ok(log_evidence) => proofs.push(log_evidence),
                    Err(lack) => lacks.push(lack),
                },
                SignalWindow::Query(_) | SignalWindow::Control(_) => {}
                SignalWindow::Latency(latency) => match latency.wellness(name) {
                    None => {}
                    Some(Ok(log_evidence)) => proofs.push(log_evidence),
                    Some(Err(lack)) => lacks.push(self.missing_of(service, name, now).unwrap_or(lack)),
                },
                SignalWindow::Probe(probe) => match self.proof_of_probe(service, name, probe, now) {
                    Ok(log_evidence) => rounds.push(log_evidence),
                    Err(lack) => lacks.push(lack),
                },
            }
        }
        lacks.extend(self.lack_of_rollout(service, true, now));
        if !lacks.is_empty() {
            return Health::Unproven(lacks);
        }
        let weakest = |proofs: &[f64]| proofs.iter().copied().reduce(f64::min);
        Health::Proven { log_evidence: weakest(&proofs).or_else(|| weakest(&rounds)).unwrap_or(0.0) }
    }

    /// Whether the odds against the watched deployment were high just now.
    #[must_use]
    pub fn is_suspect(&self, now: Timestamp) -> bool {
        let since = now.checked_sub(JUST_NOW).unwrap_or(Timestamp::MIN);
        self.window.as_ref().is_some_and(|window| window.signals.values().any(|signal| signal.suspect_after(since)))
    }

    /// The signals with a failing check, or with high odds against the deployment in the last ten minutes.
    fn suspects(&self, service: &Service, window: &Window, now: Timestamp) -> Vec<Lack> {
        let since = now.checked_sub(SUSPICION.min(service.window)).unwrap_or(Timestamp::MIN);
        let suspect = window.signals.iter().filter(|(_, signal)| signal.suspect_after(since)).map(|(name, _)| name.clone());
        let failing = self.findings(service, now).into_iter().filter(|finding| matches!(finding.state, FindingState::Failing(_)));
        let names: BTreeSet<SignalName> = suspect.chain(failing.map(|finding| finding.signal)).collect();
        names.into_iter().map(Lack::Suspect).collect()
    }

    fn proof_of_errors(&self, service: &Service, name: &SignalName, errors: &ErrorsWindow, now: Timestamp) -> Result<f64, Lack> {
        let (count, log_evidence) = errors.wellness();
        let log_threshold = SUSPECT.ln();
        if log_evidence >= log_threshold {
            return Ok(log_evidence);
        }
        let lack = Lack::Evidence { signal: name.clone(), count, log_evidence, log_threshold };
        Err(self.missing_of(service, name, now).unwrap_or(lack))
    }

    fn proof_of_probe(&self, service: &Service, name: &SignalName, probe: &ProbeWindow, now: Timestamp) -> Result<f64, Lack> {
        let (rounds, failed, usual) = probe.newest(now);
        if rounds < f64::from(ROUNDS) {
            return Err(self.missing_of(service, name, now).unwrap_or_else(|| lack_of_rounds(name, rounds)));
        }
        // What fails this often is suspect, however it is weighed.
        if failed > usual { Err(Lack::Suspect(name.clone())) } else { Ok(probe.wellness()) }
    }

    fn missing_of(&self, service: &Service, name: &SignalName, now: Timestamp) -> Option<Lack> {
        let every = service.signals.get(name)?.every;
        let (missing, _) = self.memories.get(name)?.sight.missing(every, now)?;
        Some(Lack::Missing(name.clone(), missing))
    }

    /// Where the platform itself is the proof, its first word is not believed.
    fn lack_of_rollout(&self, service: &Service, is_the_proof: bool, now: Timestamp) -> Option<Lack> {
        let complete = if is_the_proof { self.platform.is_steady(&service.decision, now) } else { self.platform.is_complete() };
        match self.platform.missing() {
            Some((missing, _)) => Some(Lack::Missing(SignalName::platform(), missing.clone())),
            None => (!complete).then_some(Lack::Rollout),
        }
    }

    /// Begins to look for the proof that a rollback helped, from the moment its target was rolled out. `trigger` is the verdict that led
    /// to it (none when an operator asked), and the roles are swapped (DECISION 2.9).
    pub fn verify(&mut self, service: &Service, plan: PlanId, trigger: Option<&Verdict>, rolled_out: Timestamp) {
        let cluster =
            |name: &SignalName| self.memories.get(name).and_then(|memory| memory.cluster).unwrap_or(ErrorsWindow::UNKNOWN_CLUSTER);
        let mut proof = Proof::new(service, plan, trigger, rolled_out, cluster);
        if let Some(trigger) = trigger
            && let Some(numbers) = trigger.decisive().and_then(|finding| finding.numbers.as_ref())
            && let Some(policy) = service.signals.get(&trigger.signal)
            && let Some(Memory { history: History::Latency(latencies), .. }) = self.memories.get(&trigger.signal).map(AsRef::as_ref)
        {
            proof.ask_latency(&trigger.signal, latencies.proof(policy, numbers, rolled_out));
        }
        self.proof = Some(proof);
    }

    /// The plan whose proof is being looked for.
    #[must_use]
    pub fn verified(&self) -> Option<PlanId> {
        self.proof.as_ref().map(|proof| proof.plan)
    }

    /// What still lacks for the proof that the rollback helped; empty when it is proved, and when none is looked for.
    #[must_use]
    pub fn recovery(&self, service: &Service, now: Timestamp) -> Vec<Lack> {
        let Some(proof) = &self.proof else { return Vec::new() };
        let lacks = proof.signals.keys().filter_map(|name| {
            let lack = proof.lack(name)?;
            Some(self.missing_of(service, name, now).unwrap_or(lack))
        });
        lacks.chain(self.lack_of_rollout(service, proof.by_platform, now)).collect()
    }

    /// Ends the looking for a proof.
    pub fn unverify(&mut self) {
        self.proof = None;
    }

    /// The sources that have given nothing for longer than `after`.
    #[must_use]
    pub fn blind(&self, service: &Service, now: Timestamp, after: SignedDuration) -> Vec<Blind> {
        let signals = service.signals.iter().filter_map(|(name, policy)| {
            let silent = self.memories.get(name)?.sight.missing(policy.every, now);
            let unmeasured = || Some((Missing::NoMeasure, self.fails_without_measure(name)?));
            let (missing, since) = silent.or_else(unmeasured)?;
            Some(Blind { signal: name.clone(), missing, since })
        });
        let platform = self.platform.missing().map(|(missing, since)| Blind {
            signal: SignalName::platform(),
            missing: missing.clone(),
            since: *since,
        });
        signals.chain(platform).filter(|blind| now.duration_since(blind.since) > after).collect()
    }
}

/// What is no history of a deployment that starts at `start`. Stretches that go on until then are not over: whatever made the service bad,
/// one version after another found it so and left it so. After an hour of that it is how the service is, and no version is to blame for what
/// it was put upon. Those that follow each other, each until the next version came, are one.
fn no_history(excluded: &[Excluded], start: Timestamp) -> Vec<Excluded> {
    let mut begin = start;
    let mut going_on = |(from, until): Excluded| {
        let reaches = if begin == start { until >= start } else { until.checked_add(START_UP).is_ok_and(|until| until >= begin) };
        begin = if reaches { begin.min(from) } else { begin };
        reaches
    };
    let mut newest_first = excluded.to_vec();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    let (mut of_now, mut over): (Vec<Excluded>, Vec<Excluded>) = newest_first.into_iter().partition(|one| going_on(*one));
    let at_most = begin.checked_add(USUAL_BY_NOW).unwrap_or(Timestamp::MAX);
    for (_, until) in &mut of_now {
        *until = (*until).min(at_most);
    }
    over.extend(of_now.into_iter().filter(|(from, until)| from < until));
    over
}

/// The policy of a signal; one that the service doesn't have is as any other.
fn policy_of(service: &Service, signal: &SignalName) -> SignalPolicy {
    let unknown = || SignalPolicy {
        kind: SignalKind::Errors,
        role: Role::Own,
        every: SignedDuration::from_secs(15),
        has_history: true,
        source: signal.to_string(),
    };
    service.signals.get(signal).cloned().unwrap_or_else(unknown)
}
