//! Days on which requests take long or don't: the families of DECISION 4 on latency. A service's mean wanders, and its histogram has the
//! buckets that somebody once chose.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use rollbackd_core::evidence::Evidence;
use rollbackd_core::observation::{Histogram, HistogramSample, Reading};
use rollbackd_core::service::{Service, SignalKind, SignalName, SignalPolicy};

use crate::chance::Chance;
use crate::families::{Bar, Family, jobs};
use crate::trial::{Day, Outcome, WINDOW, at, deploy, verdict};

/// The noise of the mean goes on in steps of this many seconds, however rarely it is looked at.
const STEP: f64 = 15.0;

/// How much of the noise of a step is left in the next one.
const KEPT: f64 = 0.9;

const DAY: f64 = 86_400.0;

/// The buckets that Prometheus' clients have by themselves.
const USUAL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Hardly any.
const COARSE: &[f64] = &[0.1, 0.5, 1.0];

/// How long the requests of a service take.
pub struct Slowness {
    /// The median of a request, in seconds.
    median: f64,
    /// The standard deviation of the logarithm of one request.
    spread: f64,
    /// The standard deviation of the logarithm of the mean, which wanders.
    wander: f64,
    bounds: &'static [f64],
    /// By what factor it is slower, at a time.
    factor: Box<dyn Fn(f64) -> f64>,
}

/// The families.
pub fn families() -> Vec<Family> {
    let alone = |name, day| Family { name, bar: Bar::LeftAlone, day };
    let found = |name, power, median, p95, day| Family { name, bar: Bar::Found { power, median, p95 }, day };
    vec![
        alone("N11 latency, sd 0.1", |chance, _| noisy(chance, 0.1, USUAL)),
        alone("N11 latency, sd 0.25", |chance, _| noisy(chance, 0.25, USUAL)),
        alone("N11 latency, coarse, sd 0.1", |chance, _| noisy(chance, 0.1, COARSE)),
        alone("N11 latency, coarse, sd 0.25", |chance, _| noisy(chance, 0.25, COARSE)),
        alone("N11 latency, cold start", cold_start),
        alone("N11 latency, spells", spells),
        alone("N11 latency, daily batch", |chance, _| batch(chance)),
        alone("N11 latency, drift", drift),
        alone("N9 latency, slow before", |chance, _| slow_before(chance)),
        alone("N13 latency, sd 0.1, every 60 s", |chance, _| at_a_minute(noisy(chance, 0.1, USUAL))),
        alone("N13 latency, sd 0.25, every 60 s", |chance, _| at_a_minute(noisy(chance, 0.25, USUAL))),
        alone("N13 latency, coarse, every 60 s", |chance, number| {
            at_a_minute(noisy(chance, if number.is_multiple_of(2) { 0.1 } else { 0.25 }, COARSE))
        }),
        alone("N13 latency, cold start, every 60 s", |chance, number| at_a_minute(cold_start(chance, number))),
        alone("N13 latency, spells, every 60 s", |chance, number| at_a_minute(spells(chance, number))),
        alone("N16 latency, jobs every few hours", |chance, _| jobs_now_and_then(chance)),
        alone("N16 latency, jobs, every 300 s", |chance, _| Day { every: 300.0, ..jobs_now_and_then(chance) }),
        alone("N17 latency, a crowd arrives", crowd),
        Family { name: "N14 latency, rare long spells", bar: Bar::Told, day: |chance, _| spells_of(chance, 0.5, 120.0) },
        found("R12 latency x2", 0.99, 240.0, Some(360.0), |chance, _| slower(chance, 2.0)),
        found("R12 latency x1.75", 0.99, 240.0, Some(360.0), |chance, _| slower(chance, 1.75)),
        found("R12 latency x3", 0.99, 240.0, Some(360.0), |chance, _| slower(chance, 3.0)),
        found("R12 latency x2, coarse", 0.99, 240.0, Some(360.0), |chance, _| with_bounds(slower(chance, 2.0), COARSE)),
        found("R12 latency x2, every 60 s", 0.99, 360.0, None, |chance, _| at_a_minute(slower(chance, 2.0))),
        // DECISION promises for one kind of service; where buckets and spread are as they come, that can take longer.
        found("R12 latency x2, any service", 0.99, 300.0, Some(600.0), |chance, _| any_slower(chance, 2.0)),
        found("R12 latency x1.75, any service", 0.99, 300.0, Some(600.0), |chance, _| any_slower(chance, 1.75)),
        Family { name: "R12 latency x1.3, any service", bar: Bar::Told, day: |chance, _| any_slower(chance, 1.3) },
        Family { name: "R12 latency x1.3", bar: Bar::MostlyLeftAlone(0.1), day: |chance, _| slower(chance, 1.3) },
        Family { name: "R12 latency x2, sd 0.25", bar: Bar::Told, day: |chance, _| with_wander(slower(chance, 2.0), 0.25) },
    ]
}

fn of(rps: f64, slowness: Slowness) -> Day {
    Day { latency: Some(slowness), ..Day::steady(rps, 0.0) }
}

fn at_a_minute(day: Day) -> Day {
    Day { every: 60.0, ..day }
}

fn changed(mut day: Day, change: impl FnOnce(&mut Slowness)) -> Day {
    if let Some(slowness) = &mut day.latency {
        change(slowness);
    }
    day
}

fn with_bounds(day: Day, bounds: &'static [f64]) -> Day {
    changed(day, |slowness| slowness.bounds = bounds)
}

fn with_wander(day: Day, wander: f64) -> Day {
    changed(day, |slowness| slowness.wander = wander)
}

fn with_factor(day: Day, factor: impl Fn(f64) -> f64 + 'static) -> Day {
    changed(day, |slowness| slowness.factor = Box::new(factor))
}

/// A service like any: 20 to 400 ms, with short tails or long ones.
fn noisy(chance: &mut Chance, wander: f64, bounds: &'static [f64]) -> Day {
    let median = 0.02 * 20.0_f64.powf(chance.uniform(0.0, 1.0));
    let spread = chance.one_of(&[0.3, 0.6, 1.0]);
    let factor: Box<dyn Fn(f64) -> f64> = Box::new(|_| 1.0);
    of(chance.one_of(&[0.1, 1.0, 10.0, 100.0]), Slowness { median, spread, wander, bounds, factor })
}

/// Ten requests a second of a service that is a little noisy, from the deployment on so much slower.
fn any_slower(chance: &mut Chance, factor: f64) -> Day {
    let day = with_factor(noisy(chance, 0.1, USUAL), move |t| if t < 0.0 { 1.0 } else { factor });
    Day { load: Box::new(|_| 10.0), restarts: true, ..day }
}

/// The same of a service with a median of 100 ms and short tails, whose buckets are two and a half times as wide as they begin.
fn slower(chance: &mut Chance, factor: f64) -> Day {
    changed(any_slower(chance, factor), |slowness| (slowness.median, slowness.spread) = (0.1, 0.5))
}

fn cold_start(chance: &mut Chance, number: usize) -> Day {
    let (until, cold) = if number.is_multiple_of(2) { (90.0, 5.0) } else { (180.0, 2.0) };
    let factor = move |t: f64| if (0.0..until).contains(&t) { cold } else { 1.0 };
    Day { restarts: true, ..with_factor(noisy(chance, 0.1, USUAL), factor) }
}

/// Slow spells that come by themselves, before as after: collections of garbage, neighbours that are loud.
fn spells(chance: &mut Chance, number: usize) -> Day {
    let (an_hour, seconds) = [(6.0, 30.0), (0.5, 30.0), (0.5, 60.0)][number % 3];
    spells_of(chance, an_hour, seconds)
}

fn spells_of(chance: &mut Chance, an_hour: f64, seconds: f64) -> Day {
    let (mut spells, mut time) = (Vec::new(), -DAY);
    while time < WINDOW {
        time += chance.exponential(3600.0 / an_hour);
        spells.push((time, time + chance.exponential(seconds), chance.uniform(1.5, 5.0)));
    }
    let factor =
        move |t: f64| spells.iter().filter(|(from, until, _)| (*from..*until).contains(&t)).map(|spell| spell.2).fold(1.0, f64::max);
    with_factor(noisy(chance, 0.1, USUAL), factor)
}

/// Twenty minutes in which everything takes twice as long, as yesterday.
fn batch(chance: &mut Chance) -> Day {
    let begin = chance.uniform(0.0, 600.0);
    let factor = move |t: f64| {
        let runs = |from: f64| (from..from + 1200.0).contains(&t);
        if runs(begin) || runs(begin - DAY) { 2.0 } else { 1.0 }
    };
    with_factor(noisy(chance, 0.1, USUAL), factor)
}

/// Jobs of about twenty minutes, one every few hours, while which everything takes two to five times as long.
fn jobs_now_and_then(chance: &mut Chance) -> Day {
    let (jobs, slower) = (jobs(chance), chance.uniform(2.0, 5.0));
    let factor = move |t: f64| if jobs.iter().any(|(from, until)| (*from..*until).contains(&t)) { slower } else { 1.0 };
    with_factor(noisy(chance, 0.1, USUAL), factor)
}

/// Five to ten times as many requests as ever before, for a quarter of an hour and more, and slow because of that.
fn crowd(chance: &mut Chance, number: usize) -> Day {
    let (times, from) = (chance.uniform(5.0, 10.0), chance.uniform(0.0, 600.0));
    let until = from + chance.uniform(900.0, 1800.0);
    let here = move |t: f64| (from..until).contains(&t);
    let slower = [times.sqrt(), times][number % 2];
    let day = with_factor(noisy(chance, 0.1, USUAL), move |t| if here(t) { slower } else { 1.0 });
    let rps = (day.load)(0.0);
    Day { load: Box::new(move |t| if here(t) { times * rps } else { rps }), restarts: true, ..day }
}

/// A quarter slower within 90 minutes, of which the deployment is in the midst; or slower by day than by night, as there is more to do.
fn drift(chance: &mut Chance, number: usize) -> Day {
    let day = noisy(chance, 0.1, USUAL);
    if number.is_multiple_of(2) {
        return with_factor(day, |t| 1.0 + 0.25 * ((t + 3600.0) / 5400.0).clamp(0.0, 1.0));
    }
    let (rps, phase) = ((day.load)(0.0), chance.uniform(0.0, TAU));
    let wave = move |t: f64| (TAU * t / DAY + phase).sin();
    let day = with_factor(day, move |t| 1.0 + 0.4 * wave(t));
    Day { load: Box::new(move |t| rps * (1.0 + 2.0 / 3.0 * wave(t))), ..day }
}

/// Twice as slow since ten minutes to an hour before the deployment, which has nothing to do with it.
fn slow_before(chance: &mut Chance) -> Day {
    let since = -chance.uniform(600.0, 3600.0);
    Day { restarts: true, ..with_factor(noisy(chance, 0.1, USUAL), move |t| if t < since { 1.0 } else { 2.0 }) }
}

fn latency() -> SignalName {
    SignalName("latency".to_owned())
}

/// The signal of such a day.
pub fn signal(policy: impl Fn(SignalKind) -> SignalPolicy) -> (SignalName, SignalPolicy) {
    (latency(), policy(SignalKind::Latency))
}

/// Plays one deployment.
pub fn run(day: &Day, slowness: &Slowness, service: &Service, evidence: &mut Evidence, chance: &mut Chance) -> Outcome {
    let mut timing = Timing::new(slowness, 0, chance.normal());
    let mut history = timing.histogram();
    let mut second = -day.history * 3600.0;
    while second <= 0.0 {
        timing.go_on(day, slowness, second, chance);
        history.samples.push(timing.sample(second));
        second += day.every;
    }
    let newest = Histogram { samples: history.samples.last().cloned().into_iter().collect(), ..history.clone() };
    evidence.observe(service, &latency(), &Reading::Histograms(vec![newest]), at(0.0));
    deploy(service, evidence);
    let baseline = Evidence::baseline_of_histograms(service, &latency(), &[history], at(0.0), &[]).expect("a signal of durations");
    evidence.set_baselines(service, &BTreeMap::from([(latency(), baseline)]));
    if day.restarts {
        timing = Timing::new(slowness, 1, timing.noise);
    }
    while second <= WINDOW {
        timing.go_on(day, slowness, second, chance);
        let reading = Reading::Histograms(vec![Histogram { samples: vec![timing.sample(second)], ..timing.histogram() }]);
        evidence.observe(service, &latency(), &reading, at(second));
        if let Some(fired) = verdict(service, evidence, second, day.onset) {
            return Outcome { fired: Some(fired) };
        }
        second += day.every;
    }
    Outcome { fired: None }
}

/// The histogram of the service's one pod.
struct Timing {
    generation: u32,
    bounds: &'static [f64],
    below: Vec<f64>,
    count: f64,
    sum: f64,
    /// How far the mean has wandered, in standard deviations.
    noise: f64,
}

impl Timing {
    /// More requests in a step than this are not drawn one by one: their buckets are, and their sum.
    const DRAWN: f64 = 25.0;

    fn new(slowness: &Slowness, generation: u32, noise: f64) -> Self {
        let bounds = slowness.bounds;
        Self { generation, bounds, below: vec![0.0; bounds.len()], count: 0.0, sum: 0.0, noise }
    }

    /// Counts what happened in the interval that ends at `second`.
    fn go_on(&mut self, day: &Day, slowness: &Slowness, second: f64, chance: &mut Chance) {
        let mut begin = second - day.every;
        while begin < second {
            let length = STEP.min(second - begin);
            let middle = begin + length / 2.0;
            self.noise = KEPT * self.noise + (1.0 - KEPT * KEPT).sqrt() * chance.normal();
            let scale = slowness.median * (slowness.wander * self.noise).exp() * (slowness.factor)(middle);
            let requests = chance.poisson((day.load)(middle) * length);
            self.count(requests, scale, slowness.spread, chance);
            begin += length;
        }
    }

    fn count(&mut self, requests: f64, scale: f64, spread: f64, chance: &mut Chance) {
        self.count += requests;
        if requests > Self::DRAWN {
            return self.count_many(requests, scale, spread, chance);
        }
        let mut left = requests;
        while left > 0.0 {
            let seconds = scale * (spread * chance.normal()).exp();
            self.sum += seconds;
            self.below.iter_mut().zip(self.bounds).filter(|(_, bound)| seconds <= **bound).for_each(|(below, _)| *below += 1.0);
            left -= 1.0;
        }
    }

    fn count_many(&mut self, requests: f64, scale: f64, spread: f64, chance: &mut Chance) {
        let variance = (spread * spread).exp_m1() / requests;
        self.sum += requests * scale * (spread * spread / 2.0).exp() * (1.0 + variance.sqrt() * chance.normal()).max(0.1);
        let (mut left, mut above) = (requests, 1.0);
        for (below, bound) in self.below.iter_mut().zip(self.bounds) {
            let still_above = 1.0 - normal((bound / scale).ln() / spread);
            left -= chance.binomial(left, ((above - still_above) / above).clamp(0.0, 1.0));
            above = still_above.max(1e-12);
            *below += requests - left;
        }
    }

    fn histogram(&self) -> Histogram {
        Histogram {
            id: format!("duration-{}", self.generation),
            target: format!("pod-{}", self.generation),
            process_started: Some(if self.generation == 0 { at(-40.0 * DAY) } else { at(1.0) }),
            bounds: self.bounds.to_vec(),
            samples: Vec::new(),
        }
    }

    fn sample(&self, second: f64) -> HistogramSample {
        HistogramSample { at: at(second), count: self.count, sum: self.sum, below: self.below.clone() }
    }
}

/// The standard normal distribution up to `x`, to seven digits (Abramowitz and Stegun 1964, 26.2.17).
fn normal(x: f64) -> f64 {
    const TERMS: [f64; 5] = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let tail = TERMS.iter().fold(0.0, |sum, term| (sum + term) * t) * (-x * x / 2.0).exp() / TAU.sqrt();
    if x > 0.0 { 1.0 - tail } else { tail }
}
