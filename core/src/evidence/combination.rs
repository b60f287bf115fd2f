//! How the signals that speak of one class add up (DECISION 2.5): the odds of a class are the weighted mean of the odds of its signals, so
//! that two that are nearly sure are sure together. A weighted mean of odds is as valid as each of them, however they depend on each other.

use std::collections::BTreeMap;

/// A class of DECISION 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// Nothing works (P0).
    Outage,
    /// Badly degraded: errors, durations, availability (P1).
    Degraded,
    /// One feature is broken: as a share of the whole, or on one route (P2).
    Feature,
}

/// Where a signal's odds come from; all of one kind share its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Counters of requests.
    Errors,
    /// Durations.
    Latency,
    /// Probes.
    Probe,
    /// Counters of one route.
    Route,
}

impl Source {
    /// Its weight among those of its class.
    fn weight(self, tier: Tier) -> f64 {
        match (tier, self) {
            (Tier::Degraded, Self::Latency) => 0.3,
            (Tier::Degraded, Self::Probe) => 0.2,
            _ => 0.5,
        }
    }
}

/// One voice in a class: ln E of a lens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Voice {
    pub(crate) tier: Tier,
    pub(crate) source: Source,
    pub(crate) log_evidence: f64,
}

/// All voices of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choir {
    voices: BTreeMap<Tier, BTreeMap<Source, Vec<f64>>>,
}

impl Choir {
    pub(crate) fn of(voices: impl IntoIterator<Item = Voice>) -> Self {
        let mut choir = Self::default();
        for Voice { tier, source, log_evidence } in voices {
            choir.voices.entry(tier).or_default().entry(source).or_default().push(log_evidence);
        }
        choir
    }

    /// What ln E of this voice has to reach, given the others of its class, for the class to reach 1 / alpha. Each kind of source brings an
    /// alpha of its own, so that a voice alone never needs much more than 1 / alpha; with the help of others it needs less, at least nothing.
    pub(crate) fn log_threshold(&self, Voice { tier, source, log_evidence }: Voice, alpha: f64) -> f64 {
        let Some(class) = self.voices.get(&tier) else { return -alpha.ln() };
        let kinds = f64::from(u32::try_from(class.len()).unwrap_or(u32::MAX));
        let weights: f64 = class.keys().map(|source| source.weight(tier)).sum();
        let factor = |source: Source, voices: &[f64]| {
            source.weight(tier) / weights * kinds / f64::from(u32::try_from(voices.len()).unwrap_or(u32::MAX))
        };
        let Some(same) = class.get(&source) else { return -alpha.ln() };
        let mut own_is_left_out = false;
        let mut others = 0.0;
        for (kind, voices) in class {
            for log in voices {
                if *kind == source && log.total_cmp(&log_evidence).is_eq() && !own_is_left_out {
                    own_is_left_out = true;
                } else {
                    others += factor(*kind, voices) * log.exp();
                }
            }
        }
        let lacks = (1.0 / alpha - others) / factor(source, same);
        lacks.max(1.0).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALPHA: f64 = 1e-4;

    fn voice(tier: Tier, source: Source, odds: f64) -> Voice {
        Voice { tier, source, log_evidence: odds.ln() }
    }

    fn reaches(voices: &[Voice], one: Voice) -> bool {
        one.log_evidence >= Choir::of(voices.iter().copied()).log_threshold(one, ALPHA)
    }

    #[test]
    fn a_voice_alone_needs_one_in_ten_thousand() {
        let alone = voice(Tier::Outage, Source::Probe, 9_000.0);
        let threshold = Choir::of([alone]).log_threshold(alone, ALPHA);
        assert!((threshold - 1e4_f64.ln()).abs() < 1e-12, "{threshold}");
    }

    #[test]
    fn two_that_are_nearly_sure_are_sure_together() {
        let errors = voice(Tier::Degraded, Source::Errors, 6_000.0);
        let probes = voice(Tier::Degraded, Source::Probe, 6_000.0);
        assert!(!reaches(&[errors], errors));
        assert!(reaches(&[errors, probes], errors) && reaches(&[errors, probes], probes));
    }

    #[test]
    fn a_second_source_that_says_nothing_costs_little() {
        let (probes, silent) = (voice(Tier::Outage, Source::Probe, 10_001.0), voice(Tier::Outage, Source::Errors, 1e-3));
        assert!(reaches(&[probes, silent], probes));
    }

    #[test]
    fn classes_do_not_help_each_other_and_many_probes_share_their_alpha() {
        let feature = voice(Tier::Feature, Source::Errors, 9_000.0);
        let outage = voice(Tier::Outage, Source::Errors, 1e9);
        assert!(!reaches(&[feature, outage], feature));
        let (one, other) = (voice(Tier::Outage, Source::Probe, 15_000.0), voice(Tier::Outage, Source::Probe, 0.0));
        assert!(reaches(&[one], one) && !reaches(&[one, other], one));
    }

    #[test]
    fn odds_beyond_all_numbers_stay_numbers() {
        let (huge, small) =
            (Voice { log_evidence: 2_000.0, ..voice(Tier::Degraded, Source::Errors, 1.0) }, voice(Tier::Degraded, Source::Probe, 1.0));
        assert!(reaches(&[huge, small], huge) && reaches(&[huge, small], small));
        let none = Voice { log_evidence: f64::NEG_INFINITY, ..small };
        assert!(!reaches(&[none], none));
    }
}
