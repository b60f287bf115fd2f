//! Chance that repeats: one stream of random numbers for each deployment.

use rand::{RngExt, SeedableRng};
use rand_distr::{Binomial, Distribution, Exp, Gamma, Poisson, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// A stream of random numbers.
pub struct Chance(Pcg64Mcg);

impl Chance {
    /// The stream of one deployment of a family.
    pub fn new(seed: u64, family: &str, number: u64) -> Self {
        // FNV-1a, so that no two families share their streams.
        let name = family.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(Pcg64Mcg::seed_from_u64(seed ^ name ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Evenly from `low` to `high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// True with this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.0.random::<f64>() < probability
    }

    /// One of them.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.random_range(0..choices.len())]
    }

    /// A number of events of which so many are expected.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean <= 0.0 { 0.0 } else { Poisson::new(mean).map_or(0.0, |poisson| poisson.sample(&mut self.0)) }
    }

    /// How many of `count` happen, each with this probability.
    pub fn binomial(&mut self, count: f64, probability: f64) -> f64 {
        if count <= 0.0 || probability <= 0.0 {
            return 0.0;
        }
        if probability >= 1.0 {
            return count;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests in one interval")]
        let trials = count as u64;
        #[expect(clippy::cast_precision_loss, reason = "a count of requests in one interval")]
        Binomial::new(trials, probability).map_or(0.0, |binomial| binomial.sample(&mut self.0) as f64)
    }

    /// How many of `count` fail, if so many of the failures have one cause in the mean.
    pub fn failures(&mut self, count: f64, probability: f64, cluster: f64) -> f64 {
        if cluster <= 1.0 {
            return self.binomial(count, probability);
        }
        let causes = self.poisson(count * probability / cluster);
        let more = self.poisson(causes * (cluster - 1.0));
        (causes + more).min(count)
    }

    /// From the standard normal distribution.
    pub fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// A factor with mean 1 and this variance.
    pub fn gamma(&mut self, variance: f64) -> f64 {
        if variance <= 0.0 { 1.0 } else { Gamma::new(1.0 / variance, variance).map_or(1.0, |gamma| gamma.sample(&mut self.0)) }
    }

    /// A waiting time with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        Exp::new(1.0 / mean).map_or(mean, |exponential| exponential.sample(&mut self.0))
    }
}
