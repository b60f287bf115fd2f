//! The proof that a rollback helped (DECISION 2.9): what had fired is well again, on readings from after the target was rolled out.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Lack;
use super::interval::{Grouping, Look};
use super::latency::proof::LatencyProof;
use super::rounds::Round;
use crate::counter::{Counter, Increment};
use crate::histogram::Durations;
use crate::observation::{Answered, Scrape};
use crate::plan::PlanId;
use crate::service::{Service, SignalKind, SignalName, SignalPolicy};
use crate::statistics::dispersion::Counts;
use crate::statistics::wellness::log_wellness;
use crate::verdict::Verdict;

/// The odds that a recovery is proved by, as 1 : 100.
const RECOVERED: f64 = 100.0;

/// Rounds that must pass in a row.
pub(crate) const ROUNDS: u32 = 3;

/// What is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) plan: PlanId,
    since: Timestamp,
    /// The signal of counters that had fired.
    trigger: Option<Trigger>,
    /// Whether no signal had fired, so that nothing but the platform says that it is well again.
    pub(crate) by_platform: bool,
    pub(crate) signals: BTreeMap<SignalName, SignalProof>,
}

/// What had fired, on counters.
#[derive(Clone, Debug)]
struct Trigger {
    signal: SignalName,
    /// Half of its ratio, which must be undercut.
    bound: f64,
    /// The route that it was about, where it was one of several.
    route: Option<String>,
}

/// What one signal gave since the target was rolled out.
#[derive(Clone, Debug)]
pub(crate) enum SignalProof {
    /// Counters of requests.
    Errors {
        /// The route that alone is counted, where it was one that had fired.
        route: Option<Box<(String, Counter)>>,
        /// Makes intervals of what was counted.
        grouping: Grouping,
        /// Their sums.
        total: Counts,
        /// The cluster size that they are tempered by.
        cluster: f64,
    },
    /// Rounds of probes.
    Probe {
        /// How many passed in a row, up to the newest.
        passed: u32,
        /// Whether the newest failed.
        failed: bool,
    },
    /// Histograms of durations, if they had fired.
    Latency(Option<Box<LatencyProof>>),
    /// A question of the operator's own.
    Query {
        /// Whether it had an answer at the newest look, if there was one.
        answered: Option<bool>,
        /// Whether it had fired, so that it must be asked again.
        fired: bool,
    },
}

impl Proof {
    /// Begins to look at what comes after `since`; `cluster` gives the cluster size of a signal of counters.
    pub(crate) fn new(
        service: &Service,
        plan: PlanId,
        trigger: Option<&Verdict>,
        since: Timestamp,
        cluster: impl Fn(&SignalName) -> f64,
    ) -> Self {
        let by_platform = trigger.is_none_or(|verdict| !service.signals.contains_key(&verdict.signal));
        let fired = trigger.map(|verdict| &verdict.signal);
        let trigger = trigger.and_then(|verdict| errors_trigger(service, verdict));
        let route = |name: &SignalName| trigger.as_ref().filter(|trigger| trigger.signal == *name)?.route.clone();
        let of = |(name, policy): (&SignalName, &SignalPolicy)| {
            let proof = match policy.kind {
                SignalKind::Errors => SignalProof::Errors {
                    route: route(name).map(|route| Box::new((route, Counter::new(policy.every)))),
                    grouping: Grouping::new(policy.every, since),
                    total: Counts { count: 0.0, failed: 0.0 },
                    cluster: cluster(name),
                },
                SignalKind::Probe => SignalProof::Probe { passed: 0, failed: false },
                SignalKind::Latency => SignalProof::Latency(None),
                SignalKind::Query { .. } => SignalProof::Query { answered: None, fired: fired == Some(name) },
            };
            (name.clone(), proof)
        };
        let signals = service.signals.iter().map(of).collect();
        Self { plan, since, trigger, by_platform, signals }
    }

    /// Takes in what was counted at a signal, in this look.
    pub(crate) fn take_increments(&mut self, signal: &SignalName, increments: &[Increment], scrape: &Scrape, at: Timestamp) {
        if let Some(SignalProof::Errors { route, grouping, total, .. }) = self.signals.get_mut(signal) {
            let of_route = route.as_mut().map(|one| one.1.take_route(scrape, &one.0, at));
            grouping.take(Look::own(of_route.as_deref().unwrap_or(increments)), |interval| {
                total.count += interval.counts.count;
                total.failed += interval.counts.failed;
            });
        }
    }

    /// Durations had fired: they have to be short again.
    pub(crate) fn ask_latency(&mut self, signal: &SignalName, proof: LatencyProof) {
        if let Some(SignalProof::Latency(asked)) = self.signals.get_mut(signal) {
            *asked = Some(Box::new(proof));
        }
    }

    /// Takes in how long requests took at a signal.
    pub(crate) fn take_durations(&mut self, signal: &SignalName, durations: &[Durations]) {
        if let Some(SignalProof::Latency(Some(proof))) = self.signals.get_mut(signal) {
            proof.take(durations);
        }
    }

    /// Takes in a round.
    pub(crate) fn take_round(&mut self, signal: &SignalName, round: &Round) {
        if let Some(SignalProof::Probe { passed, failed }) = self.signals.get_mut(signal)
            && round.at > self.since
        {
            *failed = !round.passed();
            *passed = if *failed { 0 } else { passed.saturating_add(1) };
        }
    }

    /// Takes in the answer to a question.
    pub(crate) fn take_answer(&mut self, signal: &SignalName, answer: &[Answered], at: Timestamp) {
        if let Some(SignalProof::Query { answered, .. }) = self.signals.get_mut(signal)
            && at > self.since
        {
            *answered = Some(!answer.is_empty());
        }
    }

    /// What the signal still lacks. `None`: nothing, or it is not asked for a proof.
    pub(crate) fn lack(&self, signal: &SignalName) -> Option<Lack> {
        match self.signals.get(signal)? {
            SignalProof::Errors { total, cluster, .. } => {
                let trigger = self.trigger.as_ref().filter(|trigger| trigger.signal == *signal)?;
                let log_evidence = log_wellness(total.failed, total.count, trigger.bound, *cluster);
                let log_threshold = RECOVERED.ln();
                let lack = Lack::Evidence { signal: signal.clone(), count: total.count, log_evidence, log_threshold };
                (log_evidence < log_threshold).then_some(lack)
            }
            SignalProof::Latency(proof) => {
                let (count, log_evidence) = proof.as_ref()?.evidence();
                let log_threshold = RECOVERED.ln();
                let lack = Lack::Evidence { signal: signal.clone(), count, log_evidence, log_threshold };
                (log_evidence < log_threshold).then_some(lack)
            }
            SignalProof::Query { answered: None, fired: true } => Some(lack_of_rounds(signal, 0.0)),
            SignalProof::Query { answered: Some(true), .. } | SignalProof::Probe { failed: true, .. } => {
                Some(Lack::Suspect(signal.clone()))
            }
            SignalProof::Query { .. } => None,
            SignalProof::Probe { passed, .. } => (*passed < ROUNDS).then(|| lack_of_rounds(signal, f64::from(*passed))),
        }
    }
}

/// Rounds prove by passing, not by odds: they have all or none of the evidence.
pub(crate) fn lack_of_rounds(signal: &SignalName, rounds: f64) -> Lack {
    Lack::Evidence { signal: signal.clone(), count: rounds, log_evidence: 0.0, log_threshold: super::lens::SUSPECT.ln() }
}

/// Counters prove that what had fired is well; for every other trigger the probes and the platform do.
fn errors_trigger(service: &Service, verdict: &Verdict) -> Option<Trigger> {
    let policy = service.signals.get(&verdict.signal)?;
    let numbers = verdict.decisive()?.numbers.as_ref()?;
    let ratio = numbers.now.unwrap_or(numbers.severity).clamp(0.001, 1.0);
    let trigger = || Trigger { signal: verdict.signal.clone(), bound: ratio / 2.0, route: numbers.route.clone() };
    (policy.kind == SignalKind::Errors).then(trigger)
}
