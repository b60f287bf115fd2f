//! The families of days: those on which nothing is the deployment's fault, and those on which something is.

use std::f64::consts::TAU;

use crate::chance::Chance;
use crate::trial::{Burst, Day, Question};

/// What is promised of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// At most one rollback in a thousand deployments.
    LeftAlone,
    /// At most this share is rolled back.
    MostlyLeftAlone(f64),
    /// At least `power` of them are found; the median and the 95th percentile of the delay, in seconds.
    Found {
        /// The share that is found.
        power: f64,
        /// The median of the delay from the onset.
        median: f64,
        /// Its 95th percentile, where it is promised.
        p95: Option<f64>,
    },
    /// Proofs come true in at most this share.
    SeldomProved(f64),
    /// No promise: nobody could tell it.
    Told,
}

/// A kind of day.
pub struct Family {
    /// Its name: that of DECISION section 4, and what it is.
    pub name: &'static str,
    /// What is promised.
    pub bar: Bar,
    /// One such day, for a deployment by its number.
    pub day: fn(&mut Chance, usize) -> Day,
}

const GRACE: f64 = 60.0;
const DAY: f64 = 86_400.0;

/// A regression that shows from the start: `ratio` instead of `before`.
fn regression(rps: f64, before: f64, ratio: f64) -> Day {
    Day { breaks: Some(ratio), restarts: true, ..Day::steady(rps, before) }
}

fn at_a_minute(day: Day) -> Day {
    Day { every: 60.0, ..day }
}

fn steady(number: usize) -> Day {
    const LOADS: [f64; 5] = [0.01, 0.1, 1.0, 10.0, 100.0];
    const RATIOS: [f64; 6] = [0.001, 0.005, 0.01, 0.02, 0.04, 0.1];
    Day::steady(LOADS[number % 5], RATIOS[number / 5 % 6])
}

fn drift(chance: &mut Chance, number: usize) -> Day {
    let (rps, ratio) = (chance.one_of(&[1.0, 10.0, 100.0]), chance.one_of(&[0.002, 0.01, 0.02]));
    if number.is_multiple_of(2) {
        let doubles = move |t: f64| ratio * (1.0 + ((t + 3600.0) / 5400.0).clamp(0.0, 1.0));
        Day { ratio: Box::new(doubles), ..Day::steady(rps, ratio) }
    } else {
        let phase = chance.uniform(0.0, TAU);
        let diurnal = move |t: f64| rps * (1.0 + 2.0 / 3.0 * (TAU * t / DAY + phase).sin());
        Day { load: Box::new(diurnal), ..Day::steady(rps, ratio) }
    }
}

fn batch(chance: &mut Chance, _number: usize) -> Day {
    let (rps, begin) = (chance.one_of(&[1.0, 10.0, 100.0]), chance.uniform(0.0, 600.0));
    let job = |from: f64| Burst { from, until: from + 1200.0, ratio: 0.08 };
    Day { bursts: vec![job(begin - DAY), job(begin)], ..Day::steady(rps, 0.005) }
}

fn overdispersed(chance: &mut Chance, number: usize) -> Day {
    let variance = if number.is_multiple_of(2) { 0.2 } else { 1.0 };
    Day { variance, ..Day::steady(chance.one_of(&[1.0, 10.0, 100.0]), chance.one_of(&[0.005, 0.01, 0.03])) }
}

/// Bursts that come by themselves, before as after: so many an hour, so long and so bad in the mean.
pub fn bursts(chance: &mut Chance, an_hour: f64, seconds: f64, worst: (f64, f64)) -> Vec<Burst> {
    let (mut bursts, mut time) = (Vec::new(), -DAY);
    loop {
        time += chance.exponential(3600.0 / an_hour);
        if time > 1800.0 {
            return bursts;
        }
        bursts.push(Burst { from: time, until: time + chance.exponential(seconds), ratio: chance.uniform(worst.0, worst.1) });
    }
}

fn bursty(chance: &mut Chance, number: usize) -> Day {
    let bursts = match number % 3 {
        0 => bursts(chance, 6.0, 30.0, (0.05, 0.5)),
        1 => bursts(chance, 0.5, 30.0, (0.1, 0.9)),
        _ => bursts(chance, 0.5, 60.0, (0.1, 0.9)),
    };
    Day { bursts, ..Day::steady(chance.one_of(&[1.0, 10.0, 100.0]), 0.005) }
}

fn cold_start(chance: &mut Chance, number: usize) -> Day {
    let (until, ratio) = if number.is_multiple_of(2) { (90.0, 0.3) } else { (50.0, 1.0) };
    let day = Day::steady(chance.one_of(&[1.0, 10.0, 100.0]), 0.005);
    Day { bursts: vec![Burst { from: 0.0, until, ratio }], restarts: true, ..day }
}

fn bad_before(chance: &mut Chance, number: usize) -> Day {
    let rps = chance.one_of(&[1.0, 10.0, 100.0]);
    let fixed = number % 2 == 1;
    let ratio = move |t: f64| if t < -3600.0 || (fixed && t >= 0.0) { 0.005 } else { 0.6 };
    Day { ratio: Box::new(ratio), restarts: true, ..Day::steady(rps, 0.005) }
}

/// An incident is under way, and somebody deploys against it: that helps, or half, or not at all.
fn deployed_into_an_incident(chance: &mut Chance, number: usize) -> Day {
    let rps = chance.one_of(&[1.0, 10.0, 100.0]);
    let since = -chance.uniform(90.0, 1_800.0);
    let after = [0.005, 0.3, 0.6][number % 3];
    let ratio = move |t: f64| if t < since { 0.005 } else { [0.6, after][usize::from(t >= 0.0)] };
    Day { ratio: Box::new(ratio), restarts: true, ..Day::steady(rps, 0.005) }
}

fn broken_scrapes(chance: &mut Chance, number: usize) -> Day {
    let day = Day { restarts: true, ..Day::steady(chance.one_of(&[1.0, 10.0, 100.0]), 0.01) };
    match number % 3 {
        0 => Day { lost: 0.3, ..day },
        1 => Day { away: Some((300.0, 480.0)), ..day },
        _ => Day { nonsense: 0.2, ..day },
    }
}

fn blinking_prober(chance: &mut Chance, _number: usize) -> Day {
    let blinks = bursts(chance, 0.5, 10.0, (1.0, 1.0));
    let fails = move |t: f64| blinks.iter().any(|blink| (blink.from..blink.until).contains(&t));
    Day { every: 5.0, probe: Some(Box::new(fails)), ..Day::steady(1.0, 0.0) }
}

fn incident(chance: &mut Chance, ratio: f64) -> Day {
    let from = chance.uniform(-23.0, -2.0) * 3600.0;
    Day { bursts: vec![Burst { from, until: from + 600.0, ratio: 0.8 }], ..regression(10.0, 0.005, ratio) }
}

/// Hosts or a network fail for ten minutes, and everything on them suffers, the neighbours less and a little later or earlier.
fn shared_outage(chance: &mut Chance, _number: usize) -> Day {
    let from = chance.uniform(0.0, 900.0);
    let outage = |from: f64, ratio| Burst { from, until: from + 600.0, ratio };
    let (share, lag) = (chance.uniform(0.3, 1.0), chance.one_of(&[0.0, 15.0, 30.0]));
    Day {
        bursts: vec![outage(from, 0.6)],
        control: Some(vec![outage(from + lag, 0.6 * share)]),
        restarts: true,
        ..Day::steady(chance.one_of(&[1.0, 10.0, 100.0]), 0.005)
    }
}

/// The same during a rolling update: the old pods suffer as the new ones do.
fn shared_outage_beside(chance: &mut Chance, number: usize) -> Day {
    let from = chance.uniform(0.0, 900.0);
    let rps = if number.is_multiple_of(2) { 25.0 } else { 0.5 };
    Day {
        bursts: vec![Burst { from, until: from + 600.0, ratio: 0.6 }],
        beside: Some((0.5, 1800.0)),
        restarts: true,
        ..Day::steady(2.0 * rps, 0.005)
    }
}

/// The job that runs every day at this hour, and the deployment in the midst of it.
fn midnight_job(chance: &mut Chance, _number: usize) -> Day {
    let (rps, begin) = (chance.one_of(&[1.0, 10.0, 100.0]), chance.uniform(-1000.0, 0.0));
    let job = |from: f64| Burst { from, until: from + 1200.0, ratio: 0.1 };
    Day { bursts: vec![job(begin - DAY), job(begin)], restarts: true, ..Day::steady(rps, 0.005) }
}

/// Errors that become more from hour to hour, long before the deployment and after: a leak, a disk that fills.
fn slow_leak(chance: &mut Chance, _number: usize) -> Day {
    let (rps, now) = (chance.one_of(&[1.0, 10.0, 100.0]), chance.one_of(&[0.01, 0.02]));
    Day { ratio: Box::new(move |t| now * (t / 14_400.0).exp2()), restarts: true, ..Day::steady(rps, now) }
}

/// A deployment after which there is much more, or much less, to do.
fn other_traffic(chance: &mut Chance, number: usize) -> Day {
    let (rps, ratio) = (chance.one_of(&[1.0, 10.0, 100.0]), chance.one_of(&[0.002, 0.01, 0.03]));
    let factor = [2.0, 10.0, 0.05][number % 3];
    Day { load: Box::new(move |t| if t < 0.0 { rps } else { rps * factor }), restarts: true, ..Day::steady(rps, ratio) }
}

/// Failures that come many at once: one broken client that tries again and again.
fn crowds(chance: &mut Chance, number: usize) -> Day {
    let cluster = if number.is_multiple_of(2) { 5.0 } else { 30.0 };
    Day { cluster, ..Day::steady(chance.one_of(&[1.0, 10.0, 100.0]), chance.one_of(&[0.005, 0.02])) }
}

fn hardly_known(chance: &mut Chance, number: usize) -> Day {
    let history = [0.25, 1.0, 4.0][number % 3];
    let day = if number.is_multiple_of(2) { steady(number / 2) } else { overdispersed(chance, number / 2) };
    Day { history, restarts: true, ..day }
}

fn irregular(chance: &mut Chance, number: usize) -> Day {
    let day = if number.is_multiple_of(2) { steady(number / 2) } else { overdispersed(chance, number / 2) };
    Day { jitter: 0.4, ..day }
}

/// Something with a long memory, that wanders and is one in the mean: a step every minute, of which much is left for half an hour.
fn wandering(chance: &mut Chance, deviation: f64) -> impl Fn(f64) -> f64 + 'static {
    const KEPT: f64 = 0.967;
    let steps = ((DAY + 1800.0) / 60.0).ceil();
    let (mut noise, mut walk, mut step) = (chance.normal(), Vec::new(), 0.0);
    while step <= steps {
        noise = KEPT * noise + (1.0 - KEPT * KEPT).sqrt() * chance.normal();
        walk.push((deviation * noise - deviation * deviation / 2.0).exp());
        step += 1.0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index, cut to those there are")]
    move |t: f64| walk[(((t + DAY) / 60.0).max(0.0) as usize).min(walk.len() - 1)]
}

/// A share that wanders for half an hour at a time, up to many times what it is usually: a cache, a dependency, a crowd of clients.
fn wandering_share(chance: &mut Chance, _number: usize) -> Day {
    let (rps, ratio) = (chance.one_of(&[1.0, 10.0, 100.0]), chance.one_of(&[0.001, 0.005, 0.01]));
    let walk = wandering(chance, 0.7);
    Day { ratio: Box::new(move |t| (ratio * walk(t)).min(1.0)), ..Day::steady(rps, ratio) }
}

/// Jobs of about twenty minutes, one every few hours: when they begin and end.
pub fn jobs(chance: &mut Chance) -> Vec<(f64, f64)> {
    let (mut jobs, mut time) = (Vec::new(), -DAY);
    loop {
        time += chance.uniform(1.0, 4.0) * 3600.0;
        if time > 1800.0 {
            return jobs;
        }
        let until = time + chance.uniform(1080.0, 1320.0);
        jobs.push((time, until));
        time = until;
    }
}

fn jobs_now_and_then(chance: &mut Chance, _number: usize) -> Day {
    let (rps, ratio) = (chance.one_of(&[1.0, 10.0, 100.0]), chance.one_of(&[0.08, 0.2, 0.6]));
    let bursts = jobs(chance).into_iter().map(|(from, until)| Burst { from, until, ratio }).collect();
    Day { bursts, ..Day::steady(rps, 0.005) }
}

/// Outages that come and go by themselves: so many a day, of so many seconds.
fn outages(chance: &mut Chance, number: usize) -> Day {
    let (a_day, seconds) = if number.is_multiple_of(2) { (1.0, 180.0) } else { (2.0, 600.0) };
    Day { bursts: bursts(chance, a_day / 24.0, seconds, (0.1, 0.9)), ..Day::steady(10.0, 0.005) }
}

/// Clients try again for two minutes, all at once.
fn retry_storm(chance: &mut Chance, _number: usize) -> Day {
    let (rps, from) = (chance.one_of(&[1.0, 10.0, 100.0]), chance.uniform(0.0, 1200.0));
    let storm = Burst { from, until: from + 120.0, ratio: 0.3 };
    let load = move |t: f64| if (from..from + 120.0).contains(&t) { 4.0 * rps } else { rps };
    Day { load: Box::new(load), bursts: vec![storm], restarts: true, ..Day::steady(rps, 0.005) }
}

/// It breaks slowly: a fifth of the requests after ten minutes, and nothing else has changed.
fn ramp(_chance: &mut Chance, _number: usize) -> Day {
    let ratio = |t: f64| 0.005 + 0.195 * (t / 600.0).clamp(0.0, 1.0);
    Day { ratio: Box::new(ratio), restarts: true, ..Day::steady(10.0, 0.005) }
}

/// The families, in the order of DECISION section 4.
pub fn all() -> Vec<Family> {
    healthy().into_iter().chain(broken()).chain(proved()).collect()
}

/// Those in which nothing is the deployment's doing.
fn healthy() -> Vec<Family> {
    let alone = |name, day| Family { name, bar: Bar::LeftAlone, day };
    let told = |name, day| Family { name, bar: Bar::Told, day };
    vec![
        alone("N1 steady", |_, number| steady(number)),
        alone("N2 drift and ramp", drift),
        alone("N3 daily batch", batch),
        alone("N4 overdispersion", overdispersed),
        alone("N5 bursts", bursty),
        alone("N6 cold start", cold_start),
        alone("N7 shared outage, control group", shared_outage),
        alone("N8 shared outage, old replicas", shared_outage_beside),
        alone("N9 bad before, and a fix", bad_before),
        alone("N9 an incident, and a fix", deployed_into_an_incident),
        alone("N10 broken scrapes", broken_scrapes),
        alone("N12 prober that blinks", blinking_prober),
        alone("N13 steady, every 60 s", |_, number| at_a_minute(steady(number))),
        alone("N13 steady, every 300 s", |_, number| Day { every: 300.0, ..steady(number) }),
        alone("N13 drift and ramp, every 60 s", |chance, number| at_a_minute(drift(chance, number))),
        alone("N13 daily batch, every 60 s", |chance, number| at_a_minute(batch(chance, number))),
        alone("N13 overdispersion, every 60 s", |chance, number| at_a_minute(overdispersed(chance, number))),
        alone("N13 bursts, every 60 s", |chance, number| at_a_minute(bursty(chance, number))),
        alone("N13 cold start, every 60 s", |chance, number| at_a_minute(cold_start(chance, number))),
        alone("N15 midnight job, deployed into", midnight_job),
        alone("N15 slow leak", slow_leak),
        alone("N15 traffic x2, x10, x1/20", other_traffic),
        alone("N15 failures in crowds", crowds),
        alone("N15 history of 15 min to 4 h", hardly_known),
        alone("N15 scraped at irregular times", irregular),
        alone("N16 share wanders", wandering_share),
        alone("N16 share wanders, every 300 s", |chance, number| Day { every: 300.0, ..wandering_share(chance, number) }),
        alone("N16 jobs every few hours", jobs_now_and_then),
        alone("N16 jobs, every 60 s", |chance, number| at_a_minute(jobs_now_and_then(chance, number))),
        alone("N16 jobs, every 300 s", |chance, number| Day { every: 300.0, ..jobs_now_and_then(chance, number) }),
        told("N14 rare long bursts", |chance, _| Day { bursts: bursts(chance, 0.5, 120.0, (0.1, 0.9)), ..Day::steady(10.0, 0.005) }),
        told("N14 outages that come and go", outages),
        told("N14 private dependency", |chance, _| {
            let from = chance.uniform(0.0, 600.0);
            Day { bursts: vec![Burst { from, until: from + 600.0, ratio: 0.6 }], restarts: true, ..Day::steady(10.0, 0.005) }
        }),
        told("N14 retry storm of two minutes", retry_storm),
    ]
}

/// Those in which something is.
fn broken() -> Vec<Family> {
    let found = |name, power, median: f64, p95: Option<f64>, day| Family { name, bar: Bar::Found { power, median, p95 }, day };
    vec![
        found("R1 outage, probes", 0.999, 35.0, None, |_, _| Day {
            every: 5.0,
            probe: Some(Box::new(|t| t >= 0.0)),
            ..Day::steady(1.0, 0.0)
        }),
        found("R2 60 %, 1 rps", 0.999, GRACE + 75.0, Some(GRACE + 90.0), |_, _| regression(1.0, 0.005, 0.6)),
        found("R2 60 %, 10 rps", 0.999, GRACE + 75.0, Some(GRACE + 90.0), |_, _| regression(10.0, 0.005, 0.6)),
        found("R2 100 %, 10 rps", 0.999, GRACE + 75.0, Some(GRACE + 90.0), |_, _| regression(10.0, 0.005, 1.0)),
        found("R3 60 %, 0.1 rps", 0.95, 240.0, Some(420.0), |_, _| regression(0.1, 0.005, 0.6)),
        found("R4 10 %, 10 rps", 0.99, GRACE + 120.0, Some(GRACE + 150.0), |_, _| regression(10.0, 0.005, 0.1)),
        found("R4 20 %, 10 rps", 0.99, GRACE + 120.0, Some(GRACE + 150.0), |_, _| regression(10.0, 0.005, 0.2)),
        found("R4 7 %, 10 rps", 0.99, GRACE + 120.0, Some(GRACE + 150.0), |_, _| regression(10.0, 0.005, 0.07)),
        found("R5 10 %, 1 rps", 0.99, 270.0, Some(420.0), |_, _| regression(1.0, 0.005, 0.1)),
        found("R6 bursty, 20 %", 0.99, 480.0, None, |chance, _| Day {
            bursts: bursts(chance, 6.0, 30.0, (0.05, 0.5)),
            ..regression(10.0, 0.005, 0.2)
        }),
        found("R6 bursty, 60 %", 0.99, 390.0, None, |chance, _| Day {
            bursts: bursts(chance, 6.0, 30.0, (0.05, 0.5)),
            ..regression(10.0, 0.005, 0.6)
        }),
        found("R7 60 % after 15 min", 0.999, 75.0, Some(90.0), |_, _| Day {
            breaks: Some(0.6),
            onset: 900.0,
            restarts: true,
            ..Day::steady(10.0, 0.005)
        }),
        found("R8 10 % to 25 %", 0.99, GRACE + 120.0, None, |_, _| regression(10.0, 0.1, 0.25)),
        found("R9 60 %, every 60 s", 0.999, 210.0, None, |_, _| at_a_minute(regression(1.0, 0.005, 0.6))),
        found("R10 incident yesterday, 10 %", 0.99, 660.0, None, |chance, _| incident(chance, 0.1)),
        found("R10 incident yesterday, 20 %", 0.99, 660.0, None, |chance, _| incident(chance, 0.2)),
        found("R10 incident yesterday, 60 %", 0.99, 660.0, None, |chance, _| incident(chance, 0.6)),
        Family { name: "R11 below the threshold, 3 %", bar: Bar::MostlyLeftAlone(0.06), day: |_, _| regression(10.0, 0.005, 0.03) },
        found("R13 60 % on new pods beside old", 0.999, GRACE + 150.0, None, |_, _| Day {
            beside: Some((0.5, 1800.0)),
            ..regression(20.0, 0.005, 0.6)
        }),
        found("R13 60 %, neighbours are well", 0.999, GRACE + 75.0, None, |_, _| Day {
            control: Some(Vec::new()),
            ..regression(10.0, 0.005, 0.6)
        }),
        found("R13 60 %, scraped irregularly", 0.999, GRACE + 90.0, None, |_, _| Day { jitter: 0.4, ..regression(10.0, 0.005, 0.6) }),
        Family { name: "R14 slowly up to 20 %", bar: Bar::Told, day: ramp },
    ]
}

/// Promotion and recovery (DECISION 2.8, 2.9): what is promised is about proofs, and the delay is that of the proof.
fn proved() -> Vec<Family> {
    vec![
        Family {
            name: "P1 promotion of 5 %",
            bar: Bar::SeldomProved(0.05),
            day: |_, _| Day { question: Question::Promotion, ..regression(1.0, 0.001, 0.05) },
        },
        Family {
            name: "P1 promotion of 0.1 %, 1 rps",
            bar: Bar::Found { power: 0.99, median: 1800.0, p95: Some(1800.0) },
            day: |_, _| Day { question: Question::Promotion, ..regression(1.0, 0.001, 0.001) },
        },
        Family {
            name: "P2 recovery, 1 rps",
            bar: Bar::Found { power: 0.99, median: 60.0, p95: None },
            day: |_, _| Day { question: Question::Recovery(0.005), ..regression(1.0, 0.005, 0.6) },
        },
        Family {
            name: "P2 half recovery, 35 %",
            bar: Bar::SeldomProved(0.01),
            day: |_, _| Day { question: Question::Recovery(0.35), ..regression(1.0, 0.005, 0.6) },
        },
    ]
}
