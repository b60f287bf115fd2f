//! Rounds of probes: what a round says, and what is remembered of all of them, as runs of equal rounds (a healthy service is one run).

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::interval::Interval;
use crate::observation::{Missing, ProbeOutcome, ProbeRound};
use crate::statistics::dispersion::Counts;

/// What one round says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Round {
    /// When it was made.
    pub(crate) at: Timestamp,
    /// The share of failing targets among those that something can be said of.
    pub(crate) failing: f64,
    /// Whether all targets fail. `None` if nothing can be said of some, and all others fail.
    pub(crate) all_failed: Option<bool>,
}

impl Round {
    /// Reads a round.
    ///
    /// # Errors
    /// With the first reason, if nothing can be said of any target.
    pub(crate) fn of(round: &ProbeRound, at: Timestamp) -> Result<Self, Missing> {
        let (mut conclusive, mut failed, mut missing) = (0.0, 0.0, None);
        for (_, outcome) in &round.targets {
            match outcome {
                ProbeOutcome::Passed { .. } => conclusive += 1.0,
                ProbeOutcome::Failed(_) => {
                    conclusive += 1.0;
                    failed += 1.0;
                }
                ProbeOutcome::Missing(why) => missing = missing.or(Some(why)),
            }
        }
        if conclusive <= 0.0 {
            return Err(missing.cloned().unwrap_or_else(|| Missing::Malformed("a round without targets".to_owned())));
        }
        let all_failed = if failed < conclusive { Some(false) } else { missing.is_none().then_some(true) };
        Ok(Self { at, failing: failed / conclusive, all_failed })
    }

    /// Whether every target that something can be said of is well.
    pub(crate) fn passed(&self) -> bool {
        self.failing <= 0.0
    }

    /// The round as an interval with one trial, of which the failing share failed.
    pub(crate) fn as_interval(&self, every: SignedDuration) -> Interval {
        Interval {
            from: self.at,
            at: self.at,
            covered: every,
            counts: Counts { count: 1.0, failed: self.failing },
            beside: Counts { count: 0.0, failed: 0.0 },
        }
    }
}

/// The rounds of the configured history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    runs: VecDeque<Run>,
}

/// Rounds that said the same, in even steps from the first to the last.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: Round,
    last: Timestamp,
    rounds: u32,
}

impl Rounds {
    /// A service whose probes change their answer more often than this within its history keeps a shorter one: 1,024 runs are 64 KiB.
    const MOST_RUNS: usize = 1024;

    /// Takes in a round, and forgets what is older than `history`.
    pub(crate) fn push(&mut self, round: Round, every: SignedDuration, history: SignedDuration) {
        match self.runs.back_mut() {
            Some(run) if run.continues_with(&round, every) => {
                run.last = round.at;
                run.rounds = run.rounds.saturating_add(1);
            }
            _ => self.runs.push_back(Run { first: round, last: round.at, rounds: 1 }),
        }
        let oldest = round.at.checked_sub(history).unwrap_or(Timestamp::MIN);
        while self.runs.len() > Self::MOST_RUNS || self.runs.front().is_some_and(|run| run.last < oldest) {
            self.runs.pop_front();
        }
    }

    /// Whether every target answered in the rounds just before `start`.
    pub(crate) fn were_well_before(&self, start: Timestamp) -> bool {
        let newest = self.runs.iter().rev().find(|run| run.first.at <= start);
        newest.is_some_and(|run| run.first.passed() && run.rounds >= 3)
    }

    /// All rounds, oldest first, each at its time (within a run: in even steps).
    pub(crate) fn iter(&self) -> impl Iterator<Item = Round> {
        self.runs.iter().flat_map(|run| (0..run.rounds).map(|index| Round { at: run.time_of(index), ..run.first }))
    }
}

impl Run {
    /// A gap ends a run, so that its steps stay even.
    fn continues_with(&self, round: &Round, every: SignedDuration) -> bool {
        let same = self.first.failing.to_bits() == round.failing.to_bits() && self.first.all_failed == round.all_failed;
        same && round.at.duration_since(self.last) <= every.saturating_mul(2)
    }

    fn time_of(&self, index: u32) -> Timestamp {
        let length = self.last.duration_since(self.first.at).as_secs_f64();
        let share = f64::from(index) / f64::from(self.rounds.saturating_sub(1).max(1));
        let after = SignedDuration::try_from_secs_f64(length * share).unwrap_or(SignedDuration::ZERO);
        self.first.at.checked_add(after).unwrap_or(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: SignedDuration = SignedDuration::from_secs(5);
    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time in range")
    }

    fn passed() -> ProbeOutcome {
        ProbeOutcome::Passed { latency: SignedDuration::from_millis(3) }
    }

    fn failed() -> ProbeOutcome {
        ProbeOutcome::Failed("status 500, expected 200".to_owned())
    }

    fn missing() -> ProbeOutcome {
        ProbeOutcome::Missing(Missing::Unreachable("name does not resolve".to_owned()))
    }

    fn round(outcomes: Vec<ProbeOutcome>) -> Result<(f64, Option<bool>), Missing> {
        let targets = outcomes.into_iter().map(|outcome| ("pod".to_owned(), outcome)).collect();
        Round::of(&ProbeRound { targets }, at(0)).map(|round| (round.failing, round.all_failed))
    }

    #[test]
    fn a_round_speaks_only_of_targets_that_something_can_be_said_of() {
        assert_eq!(round(vec![passed(), failed()]), Ok((0.5, Some(false))));
        assert_eq!(round(vec![failed(), failed()]), Ok((1.0, Some(true))));
        assert_eq!(round(vec![failed(), missing()]), Ok((1.0, None)));
        assert_eq!(round(vec![passed(), missing()]), Ok((0.0, Some(false))));
        assert!(matches!(round(vec![missing(), missing()]), Err(Missing::Unreachable(_))));
        assert!(round(vec![]).is_err());
    }

    #[test]
    fn a_calm_hour_is_one_run_and_gives_back_each_round_at_its_time() {
        let mut rounds = Rounds::default();
        for step in 0..720 {
            rounds.push(Round { at: at(step * 5), failing: 0.0, all_failed: Some(false) }, EVERY, HOUR);
        }
        assert_eq!(rounds.runs.len(), 1);
        let times: Vec<i64> = rounds.iter().map(|round| round.at.as_second()).collect();
        assert_eq!(times, (0..720).map(|step| step * 5).collect::<Vec<_>>());
    }

    #[test]
    fn a_flapping_service_keeps_a_bounded_number_of_runs() {
        let mut rounds = Rounds::default();
        for step in 0..5_000 {
            let failing = f64::from(u8::from(step % 2 == 0));
            rounds.push(Round { at: at(step), failing, all_failed: Some(step % 2 == 0) }, EVERY, HOUR.saturating_mul(24));
        }
        assert_eq!(rounds.runs.len(), Rounds::MOST_RUNS);
    }
}
