//! Chance that can be repeated: the same seed gives the same draws on every machine (`SplitMix64`, Steele, Lea and Flood 2014).

use std::time::Duration;

/// A source of draws.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Another source, so that what is drawn here does not depend on how much is drawn there.
    pub const fn split(&mut self) -> Self {
        Self(self.draw())
    }

    /// 0 to `end` - 1.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// True in `percent` of 100 draws.
    pub const fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let most = u64::try_from(choices.len()).expect("a length fits");
        &choices[usize::try_from(self.below(most)).expect("an index fits")]
    }

    /// To the millisecond; `to` is not reached.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_millis()).expect("no more than years").max(1);
        from + Duration::from_millis(self.below(span))
    }

    pub fn seconds(&mut self, from: u64, to: u64) -> Duration {
        self.between(Duration::from_secs(from), Duration::from_secs(to))
    }
}
