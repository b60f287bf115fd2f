//! What the daemon sees of the world's traffic: a probe of the service, and counters from a Prometheus or straight from the pods.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rollbackd::signal::Signal;
use rollbackd_core::observation::{Missing, ProbeOutcome, ProbeRound, Reading, Scrape, Series};

use super::world::{Fault, World};

/// A probe through the service's load balancer.
pub struct Probe {
    pub world: World,
    pub service: String,
}

#[async_trait]
impl Signal for Probe {
    async fn read(&self, _now: Timestamp) -> Reading {
        let outcome = if self.world.is_broken(Fault::ProbeMissing) {
            ProbeOutcome::Missing(Missing::Unreachable("name does not resolve".to_owned()))
        } else {
            let now = self.world.now();
            match self.world.lock().cluster.answer(&self.service, now) {
                Ok(()) => ProbeOutcome::Passed { latency: SignedDuration::from_millis(7) },
                Err(why) => ProbeOutcome::Failed(why.to_owned()),
            }
        };
        Reading::Probe(ProbeRound { targets: vec![(format!("http://{}/healthz", self.service), outcome)] })
    }

    async fn history(&self, _from: Timestamp, _to: Timestamp) -> Reading {
        Reading::Missing(Missing::NoHistory)
    }
}

/// Counters from a Prometheus that scrapes all pods; with `history`, or only the newest samples.
pub struct Counters {
    pub world: World,
    pub service: String,
    pub history: bool,
}

impl Counters {
    fn scrape(&self, from: Timestamp, to: Timestamp) -> Result<Scrape, Missing> {
        let broken = |fault| self.world.is_broken(fault);
        if broken(Fault::PrometheusAway) {
            return Err(Missing::Unreachable("connection refused".to_owned()));
        }
        if broken(Fault::PrometheusPartial) {
            return Err(Missing::Partial("a store did not answer".to_owned()));
        }
        let inner = self.world.lock();
        let to = inner.stale_since.map_or(to, |stale| stale.min(to));
        let (mut total, mut failed) = inner.cluster.series(&self.service, from, to);
        drop(inner);
        if broken(Fault::PrometheusGaps) {
            // Whole targets: both counters come from the same scrapes of the same process.
            let mut inner = self.world.lock();
            total.retain(|_| inner.chance.percent(60));
            failed.retain(|failed| total.iter().any(|total| total.target == failed.target));
        }
        if broken(Fault::PrometheusTorn) {
            let mut inner = self.world.lock();
            failed.retain(|_| inner.chance.percent(60));
        }
        if broken(Fault::PrometheusNan) {
            let values = [f64::NAN, f64::INFINITY, -1.0, 1e300, f64::NEG_INFINITY];
            for sample in total.iter_mut().chain(&mut failed).flat_map(|series| &mut series.samples) {
                let mut inner = self.world.lock();
                if inner.chance.percent(50) {
                    sample.value = *inner.chance.pick(&values);
                }
            }
        }
        Ok(Scrape { total, failed })
    }

    /// As the adapters do it: times are the source's own, shifted where the clocks are known to differ.
    fn shifted(&self, scrape: Scrape, now: Timestamp) -> Scrape {
        let shift = now.duration_since(self.world.now());
        let shift = if shift.abs() <= SignedDuration::from_secs(2) { SignedDuration::ZERO } else { shift };
        let series = |mut series: Series| {
            series.process_started = series.process_started.and_then(|at| at.checked_add(shift).ok());
            for sample in &mut series.samples {
                sample.at = sample.at.saturating_add(shift).expect("a time in range");
            }
            series
        };
        Scrape { total: scrape.total.into_iter().map(series).collect(), failed: scrape.failed.into_iter().map(series).collect() }
    }
}

#[async_trait]
impl Signal for Counters {
    async fn read(&self, now: Timestamp) -> Reading {
        let to = self.world.now();
        let from = to.saturating_sub(SignedDuration::from_secs(90)).expect("a time in range");
        match self.scrape(from, to) {
            Ok(scrape) if scrape.total.is_empty() => Reading::Missing(Missing::NoSeries("requests".to_owned())),
            Ok(scrape) => Reading::Scrape(self.shifted(scrape, now)),
            Err(missing) => Reading::Missing(missing),
        }
    }

    async fn history(&self, from: Timestamp, to: Timestamp) -> Reading {
        let scrape = if self.history { self.scrape(from, to) } else { Err(Missing::NoHistory) };
        scrape.map_or_else(Reading::Missing, Reading::Scrape)
    }
}
