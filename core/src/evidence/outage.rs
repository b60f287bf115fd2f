//! The lens on complete outages that probes see (DECISION 2.3): rounds in which every target fails.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::combination::{Source, Tier, Voice};
use super::lens::{Restarts, SUSPECT};
use super::rounds::Round;
use super::trailing::Onset;
use crate::baseline::ProbeBaseline;
use crate::statistics::dispersion::Counts;
use crate::statistics::expected_delay::Expectation;
use crate::statistics::mixture::{Mixture, ONE_SAMPLE, one_sample};
use crate::verdict::{FindingState, Gate, Inconclusive, Measure, Numbers};

/// The share of rounds in the hold that must be all-failed: one blink in ten does not save a service that is down.
const SEVERITY: f64 = 0.9;

/// Such rounds are tolerated this often, whatever the history says.
const FLOOR: f64 = 0.02;

/// A learned hold is at most this many rounds.
const MOST_ROUNDS: u32 = 60;

/// Rounds in which every target fails.
#[derive(Clone, Debug)]
pub(crate) struct OutageLens {
    every: SignedDuration,
    restarts: Restarts,
    upper: f64,
    observed: f64,
    tolerance: f64,
    cluster: f64,
    hold: usize,
    evidence: Mixture<Onset, 8>,
    newest: VecDeque<bool>,
    total: Counts,
    /// Since when every round has failed.
    failing_since: Option<Timestamp>,
    suspect_at: Option<Timestamp>,
}

impl OutageLens {
    /// A lens that fires after `hold` rounds at the earliest.
    pub(crate) fn new(baseline: &ProbeBaseline, hold: u32, every: SignedDuration, restarts: Restarts) -> Self {
        let next = baseline.outages_lasted.next_at_most(&baseline.span, restarts.evaluated());
        let rounds = next.as_secs_f64() / every.as_secs_f64().max(0.1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is cut to a few rounds below")]
        let learned = (rounds.round() as u32).saturating_add(1);
        Self {
            every,
            restarts,
            upper: baseline.level(),
            observed: if baseline.down_at_start { 1.0 } else { baseline.observed_all_failed() },
            tolerance: baseline.level().max(FLOOR),
            cluster: baseline.cluster,
            hold: usize::try_from(hold.max(learned).clamp(1, MOST_ROUNDS)).unwrap_or(1),
            evidence: Mixture::new(&ONE_SAMPLE),
            newest: VecDeque::new(),
            total: Counts { count: 0.0, failed: 0.0 },
            failing_since: None,
            suspect_at: None,
        }
    }

    /// Weighs one round. A round of which it can't be said whether every target fails is not weighed.
    pub(crate) fn step(&mut self, round: &Round) {
        let Some(all_failed) = round.all_failed else { return };
        let failed = f64::from(u8::from(all_failed));
        let weight = self.restarts.weight(self.total.count <= 0.0, self.every);
        let (tolerance, cluster) = (self.tolerance, self.cluster);
        let onset = Onset { at: round.at, before: self.total };
        self.evidence.step(weight, onset, |tilt| one_sample(tilt, failed, 1.0, tolerance, cluster));
        self.total = Counts { count: self.total.count + 1.0, failed: self.total.failed + failed };
        self.failing_since = all_failed.then(|| self.failing_since.unwrap_or(round.at));
        self.newest.push_back(all_failed);
        if self.newest.len() > self.hold {
            self.newest.pop_front();
        }
        if self.testable() && self.evidence.log_evidence() >= SUSPECT.ln() {
            self.suspect_at = Some(round.at);
        }
    }

    /// ln E of it, as a voice in its class.
    pub(crate) fn voice(&self) -> Voice {
        Voice { tier: Tier::Outage, source: Source::Probe, log_evidence: self.evidence.log_evidence() }
    }

    /// The last time at which the odds against the deployment were high.
    pub(crate) fn suspect_at(&self) -> Option<Timestamp> {
        self.suspect_at
    }

    /// What it says now.
    pub(crate) fn state(&self, log_threshold: f64) -> (FindingState, Option<Numbers>) {
        if !self.testable() {
            let known_bad = self.observed >= SEVERITY * SEVERITY;
            let why = if known_bad { Inconclusive::NotTestable { tolerance: self.tolerance } } else { Inconclusive::NoBaseline };
            return (FindingState::Inconclusive(why), None);
        }
        let numbers = self.numbers(log_threshold);
        (numbers.state_unless(Inconclusive::NotLooked), Some(numbers))
    }

    /// Since when every round has failed, where it can't be told whether that is new: too little is known of the time before.
    pub(crate) fn fails_without_measure(&self) -> Option<Timestamp> {
        let unknown = !self.testable() && self.observed < SEVERITY * SEVERITY;
        self.failing_since.filter(|_| unknown && self.newest.len() >= self.hold)
    }

    fn testable(&self) -> bool {
        self.tolerance < SEVERITY * SEVERITY
    }

    fn numbers(&self, log_threshold: f64) -> Numbers {
        let onset = self.evidence.onset();
        let before = onset.map_or(self.total, |onset| onset.before);
        let log_evidence = self.evidence.log_evidence();
        let now = self.share_of_hold();
        let gates = [
            (Gate::Evidence, log_evidence >= log_threshold),
            (Gate::Persistence, now.is_some_and(|share| share >= SEVERITY)),
            (Gate::Hold, self.newest.len() >= self.hold),
        ];
        let rounds = i32::try_from(self.hold).unwrap_or(i32::MAX);
        Numbers {
            before: self.upper,
            tolerance: self.tolerance,
            severity: SEVERITY,
            now,
            count: self.total.count - before.count,
            failed: self.total.failed - before.failed,
            onset: onset.map(|onset| onset.at),
            log_evidence: if log_evidence.is_finite() { log_evidence } else { 0.0 },
            log_threshold,
            hold: self.every.saturating_mul(rounds),
            waits_for: gates.iter().find(|(_, passed)| !passed).map(|(gate, _)| *gate),
            measure: Measure::Share,
            route: None,
            expected_delay: self.expected_delay(log_threshold),
            ambient: None,
        }
    }

    /// From the first failing round to a decision, if every round fails from then on.
    fn expected_delay(&self, log_threshold: f64) -> Option<SignedDuration> {
        let (every, rounds) = (self.every.as_secs_f64().max(0.1), u32::try_from(self.hold).unwrap_or(u32::MAX));
        let expectation = Expectation {
            grace: 0.0,
            hold: every * f64::from(rounds),
            rate: 1.0 / every,
            severity: 1.0,
            tolerance: self.tolerance,
            cluster: self.cluster,
            log_threshold,
        };
        SignedDuration::try_from_secs_f64(expectation.delay()?).ok()
    }

    fn share_of_hold(&self) -> Option<f64> {
        let rounds = u32::try_from(self.newest.len()).ok().filter(|rounds| *rounds > 0)?;
        let all_failed = self.newest.iter().fold(0.0, |sum, all_failed| sum + f64::from(u8::from(*all_failed)));
        Some(all_failed / f64::from(rounds))
    }
}
