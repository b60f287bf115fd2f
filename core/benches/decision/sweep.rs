//! All rules of the form "at least this share of an interval fails, so many intervals in a row": the best of them for all families at once, and
//! the best for each service alone, chosen by somebody who knows what it does when nothing is the matter. An interval without traffic neither
//! counts nor breaks a row. Every rule begins after the same grace time as the judge.

use crate::trial::WINDOW;

/// From which share on an interval is bad.
const SHARES: [f64; 12] = [0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6];

/// Over how many intervals the share is taken.
const POOLED: [usize; 3] = [1, 4, 20];

/// The most intervals in a row.
const MOST: usize = 80;

/// How many rules there are.
pub const RULES: usize = SHARES.len() * POOLED.len() * MOST;

/// An interval that never comes.
const NEVER: u16 = u16::MAX;

/// What all rules make of one deployment: when each fires, in seconds.
pub struct Firings(Vec<u16>);

impl Firings {
    /// What each rule makes of these intervals: when each ended, requests and failures.
    pub fn of(intervals: &[(f64, f64, f64)]) -> Self {
        let busy: Vec<_> = intervals.iter().filter(|(_, count, _)| *count > 0.0).collect();
        let mut firings = vec![NEVER; RULES];
        for (pool, &pooled) in POOLED.iter().enumerate() {
            let mut rows = [0_usize; SHARES.len()];
            for last in 0..busy.len() {
                let window = &busy[(last + 1).saturating_sub(pooled)..=last];
                let (count, failed) = window.iter().fold((0.0, 0.0), |(count, failed), one| (count + one.1, failed + one.2));
                for (share, row) in rows.iter_mut().enumerate() {
                    let bad = window.len() == pooled && failed > 0.0 && failed >= SHARES[share] * count;
                    *row = if bad { *row + 1 } else { 0 };
                    let place = (pool * SHARES.len() + share) * MOST + row.saturating_sub(1);
                    if *row > 0 && *row <= MOST && firings[place] == NEVER {
                        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of the window")]
                        let second = busy[last].0 as u16;
                        firings[place] = second;
                    }
                }
            }
        }
        Self(firings)
    }
}

/// What all rules make of a family.
pub struct Sums {
    deployments: usize,
    /// How many fire.
    fired: Vec<usize>,
    /// The median second at which they do; the end of the window if most don't.
    median: Vec<f64>,
}

impl Sums {
    /// Sums up.
    pub fn of(firings: &[&Firings]) -> Self {
        let rules = 0..RULES;
        let of_rule = |rule: usize| {
            let mut seconds: Vec<u16> = firings.iter().map(|one| one.0[rule]).collect();
            seconds.sort_unstable();
            let median = seconds.get(seconds.len().div_ceil(2).saturating_sub(1)).filter(|second| **second != NEVER);
            (seconds.iter().filter(|second| **second != NEVER).count(), median.map_or(WINDOW, |second| f64::from(*second)))
        };
        let (fired, median) = rules.map(of_rule).unzip();
        Self { deployments: firings.len(), fired, median }
    }

    /// The share of the deployments in which a rule fires.
    pub fn share(&self, rule: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a number of deployments")]
        let share = self.fired[rule] as f64 / self.deployments.max(1) as f64;
        share
    }

    /// Its median delay after `onset`.
    pub fn delay(&self, rule: usize, onset: f64) -> f64 {
        self.median[rule] - onset
    }
}

/// Whether a rule looks at single intervals, and takes no mean over several.
pub fn is_plain(rule: usize) -> bool {
    rule / MOST / SHARES.len() == 0
}

/// A rule in words.
pub fn words(rule: usize) -> String {
    let (row, share, pool) = (rule % MOST + 1, SHARES[rule / MOST % SHARES.len()], POOLED[rule / MOST / SHARES.len()]);
    let over = if pool == 1 { String::new() } else { format!(" of {pool} intervals") };
    format!("{} %{over}, {row} in a row", share * 100.0)
}
