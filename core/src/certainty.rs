//! How sure the evidence is, as a word: what "1 in 340 if nothing had changed" means to somebody who was asleep a minute ago.

use serde::{Deserialize, Serialize};

use crate::verdict::Numbers;

/// How sure it is that something changed for the worse. The odds are an upper limit on the probability that chance alone ever brings as much
/// evidence in a whole window (Ville's inequality), so the words don't wear out by looking often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Nothing speaks against the deployment.
    Nothing,
    /// Something does, and less than 1 in 20: it happens in calm times, too.
    CouldBeChance,
    /// At least 1 in 20: suspect (DECISION 2.5).
    Suspicious,
    /// At least 1 in 1,000.
    VeryLikely,
    /// As sure as the check needs to be before anything is done, by default 1 in 10,000.
    Certain,
}

impl Certainty {
    /// From these odds on, as natural logarithms, it is suspicious (1 in 20) and very likely (1 in 1,000).
    const SUSPICIOUS: f64 = 2.995_732_273_553_991;
    const VERY_LIKELY: f64 = 6.907_755_278_982_137;

    /// How sure these numbers are.
    #[must_use]
    pub fn of(numbers: &Numbers) -> Self {
        match numbers.log_evidence {
            log_evidence if log_evidence <= 0.0 => Self::Nothing,
            // Where other checks of its class have brought the odds already, a check need not be sure by itself.
            log_evidence if log_evidence >= numbers.log_threshold && numbers.log_threshold >= Self::SUSPICIOUS => Self::Certain,
            log_evidence if log_evidence >= Self::VERY_LIKELY => Self::VeryLikely,
            log_evidence if log_evidence >= Self::SUSPICIOUS => Self::Suspicious,
            _ => Self::CouldBeChance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words;

    #[test]
    fn a_word_is_worth_its_odds_and_the_surest_is_what_the_check_needs() {
        for (odds, needed, word) in [
            (0.5, 1e4, "nothing speaks against it"),
            (1.0, 1e4, "nothing speaks against it"),
            (19.0, 1e4, "could be chance"),
            (21.0, 1e4, "suspicious"),
            (1_001.0, 1e4, "very likely"),
            (1.1e4, 1e4, "certain"),
            (1.1e4, 2e4, "very likely"),
            (400.0, 300.0, "certain"),
            (46.0, 1.0, "suspicious"),
        ] {
            let numbers = words::tests::numbers(f64::ln(odds), f64::ln(needed));
            assert_eq!(words::certainty(Certainty::of(&numbers)), word, "1 in {odds}, needed 1 in {needed}");
        }
    }
}
