//! The control group (DECISION 2.6): others that suffer from what this service didn't cause. As long as they do, what is not clearly worse
//! here than there is not this deployment's doing.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::interval::{Grouping, Interval, Look};
use super::lens::{Class, Restarts};
use crate::baseline::ErrorsBaseline;
use crate::counter::Increment;
use crate::service::Service;
use crate::statistics::dispersion::Counts;
use crate::statistics::kl_upper::kl_upper;
use crate::statistics::mixture::{Mixture, ONE_SAMPLE, one_sample};

/// Odds of 1 : 20 that others suffer are enough to hold back.
const SUFFERING: f64 = 20.0;

/// So much worse than others this service may be and still only suffer with them.
const MULTIPLIER: f64 = 5.0;

/// The probability that the limit on their present level is wrong.
const ALPHA: f64 = 1e-2;

/// Their present level is that of the newest intervals that cover so much.
const PRESENT: SignedDuration = SignedDuration::from_secs(30);

/// What others suffered counts for so long at least.
pub(crate) const STICKY: SignedDuration = SignedDuration::from_mins(2);

/// No hold is longer, so nobody asks further back.
const KEPT: SignedDuration = SignedDuration::from_mins(11);

/// Intervals may wait for the baseline: half an hour of them at 2-second steps.
const MOST_WAITING: usize = 1024;

/// One signal of others, while a deployment is watched.
#[derive(Clone, Debug)]
pub(crate) struct ControlWindow {
    class: Class,
    grouping: Grouping,
    restarts: Restarts,
    waiting: VecDeque<Interval>,
    usual: Option<Usual>,
    evidence: Mixture<(), 8>,
    first: bool,
    present: VecDeque<(SignedDuration, Counts)>,
    /// What must be granted to whoever suffers with them, and when.
    granted: VecDeque<(Timestamp, f64)>,
}

/// How they are when nothing is the matter.
#[derive(Clone, Copy, Debug)]
struct Usual {
    tolerance: f64,
    cluster: f64,
}

impl ControlWindow {
    /// From the start of the deployment on; others need no grace.
    pub(crate) fn new(service: &Service, every: SignedDuration, start: Timestamp) -> Self {
        let [_, _, class] = Class::of_errors(service);
        Self {
            class,
            grouping: Grouping::new(every, start),
            restarts: Restarts::new(service.window, every),
            waiting: VecDeque::new(),
            usual: None,
            evidence: Mixture::new(&ONE_SAMPLE),
            first: true,
            present: VecDeque::new(),
            granted: VecDeque::new(),
        }
    }

    /// Takes in what was counted.
    pub(crate) fn take(&mut self, increments: &[Increment]) {
        let mut ended = Vec::new();
        self.grouping.take(Look::own(increments), |interval| ended.push(interval));
        for interval in ended {
            let Some(usual) = self.usual else {
                if self.waiting.len() >= MOST_WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(interval);
                continue;
            };
            self.step(&interval, usual);
        }
    }

    pub(crate) fn set_baseline(&mut self, baseline: &ErrorsBaseline) {
        if self.usual.is_some() || baseline.upper >= 1.0 {
            return;
        }
        let usual = Usual { tolerance: self.class.tolerance(baseline.upper), cluster: baseline.cluster };
        self.usual = Some(usual);
        for interval in std::mem::take(&mut self.waiting) {
            self.step(&interval, usual);
        }
    }

    fn step(&mut self, interval: &Interval, Usual { tolerance, cluster }: Usual) {
        let Counts { count, failed } = interval.counts;
        let weight = self.restarts.weight(self.first, interval.covered);
        self.first = false;
        self.evidence.step(weight, (), |tilt| one_sample(tilt, failed, count, tolerance, cluster));
        self.present.push_back((interval.covered, interval.counts));
        while self.present.len() > 1
            && self.present.iter().skip(1).fold(SignedDuration::ZERO, |sum, (covered, _)| sum.saturating_add(*covered)) >= PRESENT
        {
            self.present.pop_front();
        }
        let (count, failed) = self.present.iter().fold((0.0, 0.0), |(count, failed), (_, one)| (count + one.count, failed + one.failed));
        let suffers = self.evidence.log_evidence() >= SUFFERING.ln() && count > 0.0 && failed >= tolerance * count;
        let oldest = interval.at.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
        while self.granted.front().is_some_and(|(at, _)| *at < oldest) {
            self.granted.pop_front();
        }
        if suffers {
            self.granted.push_back((interval.at, f64::min(1.0, MULTIPLIER * kl_upper(failed, count, ALPHA))));
        }
    }

    /// The level that whoever suffers with them may have had at any time since `since`; 0 where they are well.
    pub(crate) fn granted(&self, since: Timestamp) -> f64 {
        self.granted.iter().rev().take_while(|(at, _)| *at >= since).map(|(_, granted)| *granted).fold(0.0, f64::max)
    }
}
