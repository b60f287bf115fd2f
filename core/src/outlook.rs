//! What would change what a check says: how far it is from here to the next verdict, as data with its numbers. For people only: it is
//! estimated from what the check said, and nothing is decided by it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::service::{Decision, Role, Service, SignalKind, SignalName};
use crate::statistics::mixture::{FIRST_WEIGHT, ONE_SAMPLE};
use crate::verdict::{Finding, FindingState, Gate, Inconclusive, Measure, Numbers};

/// What would change what a check says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlook {
    /// Nothing lacks: the check fails, and what the matrix says is done.
    Decided,
    /// A level, for a while.
    Level(Ahead),
    /// Others suffer too, and only what is worse than what they suffer counts.
    WorseThanOthers {
        /// The level that is granted; 1 where it is everything, and for durations, where nothing is compared.
        granted: f64,
        /// Who the others are: the signals of the control group.
        others: Vec<SignalName>,
    },
    /// An answer to a question of the operator's own.
    Answer {
        /// For how long without a break.
        lasting: SignedDuration,
    },
    /// Trouble that the platform sees.
    Trouble {
        /// How long a crash loop, or being without any replica, may last.
        startup: SignedDuration,
        /// How long it may take to become ready.
        ready: SignedDuration,
    },
    /// A request: nobody asks the service anything.
    Traffic,
    /// An answer of the source.
    Sight,
    /// The first look.
    FirstLook,
    /// The end of the grace time.
    Begin {
        /// When that is.
        at: Timestamp,
    },
    /// More history than this deployment has: the next one may be judged by it.
    History,
    /// Nothing: too much was bad before.
    Never {
        /// The level that must be taken for granted.
        tolerance: f64,
    },
}

/// The level that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ahead {
    /// At least this level (a share, or seconds; see `numbers.measure`).
    pub level: f64,
    /// How long it must last.
    pub lasting: SignedDuration,
    /// The level now; none without requests.
    pub now: Option<f64>,
    /// Where the level is reached already: how much longer it must last. Zero where only some moments of the time contradict it.
    pub left: Option<SignedDuration>,
    /// Where it is not bad enough since it began: the level since then, as far as that is a share.
    pub since_onset: Option<f64>,
    /// Where the level is reached already: about how many more failures the odds need. None where they need none, or where this can't be told.
    pub failures: Option<f64>,
    /// About how long those take to come, at the traffic since the onset.
    pub failures_take: Option<SignedDuration>,
}

impl Outlook {
    /// What would change what a check of a service says at that moment.
    #[must_use]
    pub fn of(finding: &Finding, service: &Service, at: Timestamp) -> Self {
        match (&finding.state, &finding.numbers) {
            (FindingState::Failing(_), _) => Self::Decided,
            (FindingState::Inconclusive(why), _) => Self::of_inconclusive(why),
            (FindingState::Passing, Some(numbers)) => Self::of_numbers(numbers, service, at),
            (FindingState::Passing, None) => Self::of_rule(&finding.signal, service),
        }
    }

    fn of_inconclusive(why: &Inconclusive) -> Self {
        match why {
            Inconclusive::Missing(_) => Self::Sight,
            Inconclusive::WarmingUp { until } => Self::Begin { at: *until },
            Inconclusive::NoTraffic => Self::Traffic,
            Inconclusive::NoBaseline => Self::History,
            Inconclusive::NotTestable { tolerance } => Self::Never { tolerance: *tolerance },
            Inconclusive::NotLooked => Self::FirstLook,
            Inconclusive::BeganBefore { .. } => Self::Never { tolerance: 1.0 },
        }
    }

    fn of_numbers(numbers: &Numbers, service: &Service, at: Timestamp) -> Self {
        match numbers.ambient {
            Some(granted) if numbers.waits_for == Some(Gate::Attribution) || numbers.now.is_some_and(|now| now < granted) => {
                let others = service.signals.iter().filter(|(_, policy)| policy.role == Role::Control).map(|(name, _)| name.clone());
                let granted = if numbers.measure == Measure::Share { granted } else { 1.0 };
                Self::WorseThanOthers { granted, others: others.collect() }
            }
            _ => Self::Level(Ahead::of(numbers, at)),
        }
    }

    /// Of checks that are not weighed.
    fn of_rule(signal: &SignalName, service: &Service) -> Self {
        let Decision { startup_deadline, ready_deadline, .. } = service.decision;
        match service.signals.get(signal).map(|policy| policy.kind) {
            Some(SignalKind::Query { lasting, .. }) => Self::Answer { lasting },
            _ => Self::Trouble { startup: startup_deadline, ready: ready_deadline },
        }
    }
}

impl Ahead {
    /// What it costs to look at any time and not to know how bad it is, in nats (DECISION 2.0): the weight of the first start and of one of
    /// the tilts.
    fn price() -> f64 {
        let tilts: f64 = ONE_SAMPLE.iter().map(|_| 1.0).sum();
        (tilts / FIRST_WEIGHT).ln()
    }

    fn of(numbers: &Numbers, at: Timestamp) -> Self {
        let level = numbers.severity.max(numbers.tolerance).max(numbers.ambient.unwrap_or(0.0));
        let lasted = numbers.onset.map_or(SignedDuration::ZERO, |onset| at.duration_since(onset).max(SignedDuration::ZERO));
        let is_there = numbers.now.is_some_and(|now| now >= level);
        let since_onset = (numbers.waits_for == Some(Gate::Severity) && numbers.measure == Measure::Share && numbers.count > 0.0)
            .then(|| numbers.failed / numbers.count);
        let failures = Self::failures(numbers).filter(|_| is_there && numbers.waits_for == Some(Gate::Evidence));
        let seconds = failures.map(|failures| failures / numbers.failed * lasted.as_secs_f64());
        Self {
            level,
            lasting: numbers.hold,
            now: numbers.now,
            left: is_there.then(|| numbers.hold.saturating_sub(lasted).max(SignedDuration::ZERO)),
            since_onset,
            failures,
            failures_take: seconds.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok()).filter(|take| !take.is_zero()),
        }
    }

    /// If each further failure weighs as much as those since the onset did.
    fn failures(numbers: &Numbers) -> Option<f64> {
        let lacks = numbers.log_threshold - numbers.log_evidence;
        let weight = (numbers.log_evidence + Self::price()) / numbers.failed;
        (lacks > 0.0 && numbers.failed > 0.0 && weight > 0.0).then(|| (lacks / weight).ceil().max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::world::policy;
    use crate::severity::Impact;
    use crate::words;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(100_000 + second).expect("a time in range")
    }

    /// Numbers since the second 0: of 20 requests a second the share `now` fails.
    fn numbers(now: f64, log_evidence: f64, gate: Gate) -> Numbers {
        let numbers = words::tests::numbers(log_evidence, 1e4_f64.ln());
        Numbers { now: Some(now), count: 600.0, failed: 600.0 * now, onset: Some(at(0)), waits_for: Some(gate), ..numbers }
    }

    fn ahead(numbers: Numbers, second: i64) -> Ahead {
        let finding = Finding {
            signal: SignalName("errors".to_owned()),
            impact: Impact::ErrorRatio,
            state: FindingState::Passing,
            numbers: Some(numbers),
        };
        match Outlook::of(&finding, &policy("checkout"), at(second)) {
            Outlook::Level(ahead) => ahead,
            other => panic!("a level is ahead, and not {other:?}"),
        }
    }

    #[test]
    fn what_has_lasted_need_not_last_again() {
        let left = |second| ahead(numbers(0.6, 20.0, Gate::Hold), second).left;
        assert_eq!(left(30), Some(SignedDuration::from_secs(90)));
        assert_eq!(left(500), Some(SignedDuration::ZERO));
        assert_eq!(ahead(numbers(0.4, 20.0, Gate::Persistence), 30).left, None, "the level is not reached");
    }

    #[test]
    fn the_missing_failures_are_told_as_those_weighed_that_came() {
        // 360 failures brought 6 of 9.2 nats and paid 2.8 for looking at any time: 0.0244 each.
        let ahead = ahead(numbers(0.6, 6.0, Gate::Evidence), 30);
        assert_eq!(ahead.failures, Some(132.0));
        assert_eq!(ahead.failures_take.map(|take| take.as_secs()), Some(11));
    }

    #[test]
    fn the_estimate_is_within_a_factor_of_two_of_what_the_recursion_needs() {
        use crate::statistics::mixture::{Mixture, one_sample};
        for (share, boundary, cluster) in [(1.0, 0.5, 1.0), (0.6, 0.125, 1.0), (0.2, 0.0125, 3.0), (0.6, 0.125, 5.0)] {
            let mut evidence: Mixture<(), 8> = Mixture::new(&ONE_SAMPLE);
            let (mut seen, mut estimate) = (0.0, None);
            while evidence.log_evidence() < 1e4_f64.ln() {
                let weight = if seen > 0.0 { 0.001 } else { FIRST_WEIGHT };
                evidence.step(weight, (), |tilt| one_sample(tilt, share, 1.0, boundary, cluster));
                seen += share;
                if estimate.is_none() && evidence.log_evidence() >= 4.0 {
                    let numbers = Numbers { failed: seen, ..numbers(share, evidence.log_evidence(), Gate::Evidence) };
                    estimate = Ahead::failures(&numbers).map(|more| seen + more);
                }
            }
            let estimate = estimate.expect("4 nats come before 9");
            assert!((seen / 2.0..=2.0 * seen).contains(&estimate), "{share} against {boundary}: {estimate} estimated, {seen} needed");
        }
    }

    #[test]
    fn failures_that_bring_no_evidence_are_not_counted_on() {
        assert_eq!(ahead(numbers(0.6, -4.0, Gate::Evidence), 30).failures, None);
        assert_eq!(ahead(numbers(0.6, 20.0, Gate::Hold), 30).failures, None);
    }

    #[test]
    fn what_began_mildly_has_to_make_up_for_it() {
        let numbers = Numbers { failed: 120.0, ..numbers(0.6, 20.0, Gate::Severity) };
        assert_eq!(ahead(numbers, 30).since_onset, Some(0.2));
    }

    #[test]
    fn who_suffers_with_others_has_to_be_worse_than_what_is_granted() {
        let granted = |numbers: Numbers| {
            let finding = Finding {
                signal: SignalName("errors".to_owned()),
                impact: Impact::ErrorRatio,
                state: FindingState::Passing,
                numbers: Some(numbers),
            };
            Outlook::of(&finding, &policy("checkout"), at(30))
        };
        let suffering = |now, ambient| Numbers { ambient: Some(ambient), ..numbers(now, 20.0, Gate::Persistence) };
        assert_eq!(granted(suffering(0.6, 0.8)), Outlook::WorseThanOthers { granted: 0.8, others: Vec::new() });
        assert!(matches!(granted(suffering(0.9, 0.8)), Outlook::Level(Ahead { level, .. }) if (level - 0.8).abs() < 1e-12));
        let slow = Numbers { measure: Measure::Seconds, ..suffering(0.6, 0.8) };
        assert_eq!(granted(slow), Outlook::WorseThanOthers { granted: 1.0, others: Vec::new() });
    }
}
