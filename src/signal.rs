//! Where evidence comes from. One adapter value reads one signal of one service.

use async_trait::async_trait;
use jiff::Timestamp;
use rollbackd_core::observation::{Missing, Reading, Scrape};

pub mod http;
pub mod probe;
pub mod selector;
pub mod prometheus;
pub mod metrics;
pub mod exposition;
mod series;

/// A source of readings.
///
/// Guarantees: every call ends within the signal's own time limit, costs a bounded number of bytes, and turns every fault into
/// `Missing` with its reason. Times in samples are the source's own, shifted to `now` of the caller where the source's clock is known to
/// differ. Caveat: nothing is remembered between calls; differences of counters are the judge's business.
#[async_trait]
pub trait Signal: Send + Sync {
    /// Looks once. `now` is the caller's time.
    async fn read(&self, now: Timestamp) -> Reading;

    /// Raw samples of the past, where the source keeps them.
    ///
    /// # Errors
    /// With the reason why there are none.
    async fn history(&self, from: Timestamp, to: Timestamp) -> Result<Scrape, Missing>;
}

#[cfg(test)]
mod testing;
