//! How long requests took: how many there were, their sum, and how many fell into each bucket. Histograms with different buckets are kept
//! apart, so that adding loses nothing. Durations are in seconds.

use std::sync::Arc;

/// How long some requests took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timing {
    /// How many there were; at least 0.
    pub requests: f64,
    /// How long they took together, in seconds; at least 0.
    pub seconds: f64,
    buckets: Vec<Buckets>,
}

/// Requests that were counted in the same buckets.
#[derive(Clone, Debug, PartialEq)]
struct Buckets {
    bounds: Arc<[f64]>,
    requests: f64,
    /// How many took at most as long as each bound: never falling, and at most `requests`.
    below: Box<[f64]>,
}

impl Timing {
    /// So many different lists of bounds are told apart; of what comes in further ones only the number and the sum are kept.
    const MOST_LAYOUTS: usize = 8;

    /// Halvings of the range that a quantile is looked for in: finer than any bucket.
    const HALVINGS: usize = 60;

    /// What was counted in one histogram. `below` has a number for each bound, and what doesn't fit together is cut to what does: a client
    /// that counts while it is read may be one off.
    #[must_use]
    pub(crate) fn new(requests: f64, seconds: f64, bounds: Arc<[f64]>, mut below: Box<[f64]>) -> Self {
        let requests = requests.max(0.0);
        let mut least = 0.0;
        for number in &mut below {
            least = number.max(least).min(requests);
            *number = least;
        }
        let seconds = if requests > 0.0 { seconds.max(0.0) } else { 0.0 };
        Self { requests, seconds, buckets: vec![Buckets { bounds, requests, below }] }
    }

    /// What was counted in the same buckets, for each list of bounds: the bounds, how many requests, and how many took at most as long.
    pub(crate) fn layouts(&self) -> impl Iterator<Item = (&Arc<[f64]>, f64, &[f64])> {
        self.buckets.iter().map(|buckets| (&buckets.bounds, buckets.requests, &*buckets.below))
    }

    /// Adds the buckets of requests that are counted already.
    pub(crate) fn add_layout(&mut self, bounds: Arc<[f64]>, requests: f64, below: Box<[f64]>) {
        let Self { buckets, .. } = Self::new(requests, 0.0, bounds, below);
        self.buckets.extend(buckets);
        self.buckets.truncate(Self::MOST_LAYOUTS);
    }

    /// The mean of a request, in seconds. `None` without any, and where the numbers are no counts.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.requests > 0.0).then(|| self.seconds / self.requests).filter(|mean| mean.is_finite())
    }

    /// How many took longer than `seconds` for certain: than the next bound from there on.
    #[must_use]
    pub fn certainly_slower_than(&self, seconds: f64) -> f64 {
        self.buckets.iter().map(|buckets| buckets.certainly_slower_than(seconds)).sum()
    }

    /// How many took longer than `seconds`, as far as buckets tell: evenly spread over the logarithm inside a bucket, and all that is above
    /// the last bound.
    #[must_use]
    pub fn slower_than(&self, seconds: f64) -> f64 {
        self.buckets.iter().map(|buckets| buckets.slower_than(seconds)).sum()
    }

    /// The median, in seconds. `None` without requests, or where it lies above the last bound.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let counted: f64 = self.buckets.iter().map(|buckets| buckets.requests).sum();
        let (mut low, mut high) = (0.0, self.bounds().reduce(f64::max)?);
        if counted <= 0.0 || self.slower_than(high) > counted / 2.0 {
            return None;
        }
        for _ in 0..Self::HALVINGS {
            let middle = f64::midpoint(low, high);
            if self.slower_than(middle) > counted / 2.0 { low = middle } else { high = middle }
        }
        Some(high)
    }

    /// The first bound that is at least so long, in seconds.
    #[must_use]
    pub fn bound_from(&self, seconds: f64) -> Option<f64> {
        self.bounds().filter(|bound| *bound >= seconds).reduce(f64::min)
    }

    fn bounds(&self) -> impl Iterator<Item = f64> {
        self.buckets.iter().flat_map(|buckets| buckets.bounds.iter().copied())
    }
}

impl std::ops::AddAssign<&Self> for Timing {
    fn add_assign(&mut self, other: &Self) {
        self.requests += other.requests;
        self.seconds += other.seconds;
        for buckets in &other.buckets {
            if let Some(own) = self.buckets.iter_mut().find(|own| own.bounds == buckets.bounds) {
                own.add(buckets);
            } else if self.buckets.len() < Self::MOST_LAYOUTS {
                self.buckets.push(buckets.clone());
            }
        }
    }
}

impl Buckets {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.below.iter_mut().zip(&other.below).for_each(|(own, other)| *own += other);
    }

    fn certainly_slower_than(&self, seconds: f64) -> f64 {
        let next = self.bounds.partition_point(|bound| *bound < seconds);
        self.below.get(next).map_or(0.0, |below| self.requests - below)
    }

    fn slower_than(&self, seconds: f64) -> f64 {
        let next = self.bounds.partition_point(|bound| *bound < seconds);
        let lower = next.checked_sub(1).map_or((0.0, 0.0), |last| (self.bounds[last].max(0.0), self.below[last]));
        let Some((upper, below)) = self.bounds.get(next).zip(self.below.get(next)) else { return self.requests - lower.1 };
        let share = match lower.0 {
            low if low > 0.0 => (seconds / low).ln() / (upper / low).ln(),
            _ if *upper > 0.0 => (seconds / upper).max(0.0),
            _ => 1.0,
        };
        self.requests - lower.1 - (below - lower.1) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(requests: f64, bounds: &[f64], below: &[f64]) -> Timing {
        Timing::new(requests, requests, bounds.into(), below.into())
    }

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
    }

    #[test]
    fn inside_a_bucket_requests_are_spread_over_the_logarithm() {
        let timing = timing(100.0, &[0.1, 1.0], &[20.0, 60.0]);
        assert_close(timing.slower_than(0.1), 80.0);
        assert_close(timing.slower_than(10.0_f64.powf(-0.5)), 60.0);
        assert_close(timing.slower_than(0.05), 90.0);
        assert_close(timing.slower_than(5.0), 40.0);
        assert_close(timing.median().expect("a median"), 10.0_f64.powf(-0.25));
    }

    #[test]
    fn only_what_is_above_the_next_bound_is_slower_for_certain() {
        let timing = timing(100.0, &[0.1, 1.0], &[20.0, 60.0]);
        assert_close(timing.certainly_slower_than(0.1), 80.0);
        assert_close(timing.certainly_slower_than(0.2), 40.0);
        assert_close(timing.certainly_slower_than(2.0), 0.0);
    }

    #[test]
    fn a_median_above_the_last_bound_is_not_known() {
        assert_eq!(timing(100.0, &[0.1, 1.0], &[10.0, 49.0]).median(), None);
        assert_eq!(timing(0.0, &[0.1, 1.0], &[0.0, 0.0]).median(), None);
        assert_eq!(timing(10.0, &[], &[]).median(), None);
    }

    #[test]
    fn histograms_with_other_buckets_are_added_without_loss() {
        let mut sum = timing(100.0, &[0.1, 1.0], &[20.0, 60.0]);
        sum += &timing(10.0, &[0.5], &[9.0]);
        sum += &timing(100.0, &[0.1, 1.0], &[20.0, 60.0]);
        assert_close(sum.requests, 210.0);
        assert_close(sum.slower_than(1.0), 81.0);
        assert_eq!((sum.bound_from(0.2), sum.bound_from(0.6), sum.bound_from(1.1)), (Some(0.5), Some(1.0), None));
    }

    #[test]
    fn numbers_that_do_not_fit_together_are_cut_to_what_does() {
        let torn = timing(10.0, &[0.1, 0.5, 1.0], &[5.0, 4.0, 11.0]);
        assert_close(torn.slower_than(0.5), 5.0);
        assert_close(torn.slower_than(1.0), 0.0);
    }
}
