//! What the judge costs: the time of an evaluation, and the memory of a service's evidence while a deployment is watched.

use std::fmt;
use std::time::Instant;

use rollbackd_core::evidence::Evidence;

use crate::chance::Chance;
use crate::families::bursts;
use crate::trial::{self, Day, at};

/// What was measured. Another machine measures something else.
pub struct Cost {
    /// Microseconds of one evaluation of a signal: a look is taken in, and every class is judged.
    microseconds: f64,
    /// KiB of a service's evidence, in the midst of a window.
    kibibytes: Option<f64>,
}

/// The bars of both.
const MOST_MICROSECONDS: f64 = 5.0;
const MOST_KIBIBYTES: f64 = 8.0;

impl Cost {
    /// Whether both are below their bars.
    pub fn holds(&self) -> bool {
        self.microseconds < MOST_MICROSECONDS && self.kibibytes.is_none_or(|kibibytes| kibibytes < MOST_KIBIBYTES)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "An evaluation of a signal takes {:.1} microseconds (promised: less than {MOST_MICROSECONDS})",
            self.microseconds
        )?;
        if let Some(kibibytes) = self.kibibytes {
            write!(formatter, ", a service's evidence {kibibytes:.1} KiB while it is watched (promised: less than {MOST_KIBIBYTES})")?;
        }
        formatter.write_str(".")
    }
}

/// Measures both, within a few seconds.
pub fn measure() -> Cost {
    const SERVICES: usize = 1_000;
    let day = bursty();
    let service = trial::service(&day);
    let looks = trial::looks_of(&day, &mut Chance::new(1, "cost", 0));
    let watched = || {
        let mut evidence = looks.watched(&service);
        looks.readings.iter().for_each(|(second, reading)| evidence.observe(&service, &trial::errors(), reading, at(*second)));
        evidence
    };
    watched();
    let before = resident();
    let kept: Vec<Evidence> = (0..SERVICES).map(|_| watched()).collect();
    let grown = resident().zip(before).map(|(after, before)| after - before);
    #[expect(clippy::cast_precision_loss, reason = "a number of services")]
    let kibibytes = grown.map(|grown| grown / 1024.0 / kept.len() as f64);
    drop(kept);
    Cost { microseconds: microseconds(&service, &looks), kibibytes }
}

/// The service with the longest holds, so that most is kept.
fn bursty() -> Day {
    let mut chance = Chance::new(1, "cost", 1);
    Day { bursts: bursts(&mut chance, 6.0, 30.0, (0.05, 0.5)), ..Day::steady(10.0, 0.005) }
}

/// The fastest of several passes: what is slower was interrupted.
fn microseconds(service: &rollbackd_core::service::Service, looks: &trial::Looks) -> f64 {
    const PASSES: usize = 1_000;
    let pass = || {
        let mut evidence = looks.watched(service);
        let begun = Instant::now();
        for (second, reading) in &looks.readings {
            evidence.observe(service, &trial::errors(), reading, at(*second));
            std::hint::black_box(evidence.verdict(service, at(*second)));
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of looks")]
        let number = looks.readings.len() as f64;
        begun.elapsed().as_secs_f64() * 1e6 / number
    };
    (0..PASSES).map(|_| pass()).fold(f64::INFINITY, f64::min)
}

/// Bytes of memory in use, where the system says so.
fn resident() -> Option<f64> {
    const PAGE: f64 = 4096.0;
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<f64>().ok()? * PAGE)
}
