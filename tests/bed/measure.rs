//! How long a recovery takes on a real cluster, and where the time goes. Not a story: it asserts only that each round ended as it should, and
//! prints a table. `tests/measure recovery` runs it and puts the table into `docs/measurements.md`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rollbackd::ledger::Ledger as _;
use rollbackd::ledger::sqlite::Sqlite;
use rollbackd_core::entry::{Entry, Record};
use rollbackd_core::plan::{Cause, Outcome, PlanId};
use serde_json::json;

use crate::world::World;

/// From one probe to the next.
const EVERY: Duration = Duration::from_secs(1);
/// Enough that no more than 2 % of failing rounds must be taken for granted, which is as little as ever is: 1 - alpha^(C/n) with alpha = 1e-4
/// and C = 2, what a history without a failure leaves of the cluster size, is below 0.02 from 912 rounds on.
const CLEAN_ROUNDS: u32 = 960;
/// Outages of each service, one after the other.
const OUTAGES: usize = 7;
/// A service is looked at from outside this often; a user would be hit as often as this.
const LOOK: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for a quarter of an hour: run tests/measure recovery"]
async fn how_long_a_recovery_takes() {
    let mut alone = guarded("alone", 1).await;
    let mut replicated = guarded("replicated", 2).await;
    tokio::time::sleep(EVERY * CLEAN_ROUNDS).await;
    let alone = suffer(&mut alone).await;
    let replicated = suffer(&mut replicated).await;
    print(&alone, &replicated);
}

/// A service with so many replicas that a daemon guards and knows to be good.
async fn guarded(story: &str, replicas: u32) -> World {
    let mut world = World::new(story, "deployment").await;
    world.begin_with_spec("shop:good", &json!({"replicas": replicas}));
    let (address, every) = (world.address(), EVERY.as_millis());
    world.configure(&format!(
        "rollbacks_per_day = 100\n\n[services.web.probes.health]\nhttp = \"http://{address}/healthz\"\nevery = \"{every}ms\"\n\
         timeout = \"1s\"\n\n[fleet]\nrollbacks_per_hour = 100\n"
    ));
    world.start_daemon();
    world.wait_until_known_good();
    world
}

/// Lets the service have its outages, and ends the daemon.
async fn suffer(world: &mut World) -> Vec<Recovery> {
    let looks = Looks::begin(format!("http://{}/healthz", world.address()));
    for outage in 1..=OUTAGES {
        world.deploy("shop:outage");
        world.wait_for("all is clear", |world| world.kinds().iter().filter(|kind| *kind == "all_clear").count() == outage);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let looks = looks.end();
    world.terminate_daemon();

    let (mut recoveries, mut verdict) = (BTreeMap::new(), Timestamp::MIN);
    let mut ledger = Sqlite::open(&world.state).expect("the daemon left a ledger");
    ledger.replay(&mut |record| take(&mut recoveries, &mut verdict, &record)).expect("the ledger is whole");
    assert_eq!(recoveries.len(), OUTAGES);
    let mut before = Timestamp::MIN;
    let mut recoveries: Vec<Recovery> = recoveries.into_values().collect();
    for recovery in &mut recoveries {
        let bad = looks.iter().filter(|(at, well)| !well && *at > before && *at < recovery.recovered).map(|(at, _)| *at);
        recovery.felt = bad.clone().min().zip(bad.max());
        before = recovery.recovered;
    }
    recoveries
}

/// When one recovery came to each of its turns.
#[derive(Clone, Copy, Debug)]
struct Recovery {
    /// The failing probe that the evidence begins with.
    failing: Timestamp,
    /// Rounds from there to the verdict, and how many of them failed.
    rounds: (f64, f64),
    /// The share of failing rounds that is taken for granted.
    tolerance: f64,
    verdict: Timestamp,
    planned: Timestamp,
    applied: Timestamp,
    rolled_out: Timestamp,
    recovered: Timestamp,
    /// The first and the last bad answer that a stranger got.
    felt: Option<(Timestamp, Timestamp)>,
}

fn take(recoveries: &mut BTreeMap<PlanId, Recovery>, verdict: &mut Timestamp, record: &Record) {
    let at = record.at;
    match &record.entry {
        Entry::BaselineTaken { deployment, baselines, .. } => {
            let words = baselines.values().map(rollbackd_core::words::baseline);
            eprintln!("before deployment {deployment}: {}", words.collect::<Vec<_>>().join("; "));
            eprintln!("{baselines:?}");
        }
        Entry::VerdictReached { .. } => *verdict = at,
        Entry::RollbackPlanned { plan } => {
            let Cause::Verdict(found) = &plan.cause else { panic!("nobody asked for it") };
            let finding = found.findings.iter().find(|finding| finding.signal == found.signal && finding.impact == found.impact);
            let numbers = finding.and_then(|finding| finding.numbers.clone()).expect("a verdict on probes has numbers");
            let (failing, rounds, tolerance) = (found.onset, (numbers.count, numbers.failed), numbers.tolerance);
            let planned = Recovery {
                failing,
                rounds,
                tolerance,
                verdict: *verdict,
                planned: at,
                applied: at,
                rolled_out: at,
                recovered: at,
                felt: None,
            };
            eprintln!("deployment {}: {} of {} rounds failed since {failing}", plan.deployment, rounds.1, rounds.0);
            recoveries.insert(PlanId(record.seq), planned);
        }
        Entry::RollbackApplied { plan, .. } => recoveries.get_mut(plan).expect("it was planned").applied = at,
        Entry::RollbackRolledOut { plan, .. } => recoveries.get_mut(plan).expect("it was planned").rolled_out = at,
        Entry::RollbackEnded { plan, outcome, .. } => {
            assert_eq!(*outcome, Outcome::Recovered);
            recoveries.get_mut(plan).expect("it was planned").recovered = at;
        }
        _ => {}
    }
}

/// What a stranger sees of the service: when it was looked at, and whether it answered well.
type Look = (Timestamp, bool);

/// Looks at the service beside the daemon, as somebody who uses it.
struct Looks {
    seen: Arc<Mutex<Vec<Look>>>,
    goes_on: Arc<AtomicBool>,
}

impl Looks {
    fn begin(url: String) -> Self {
        let (seen, goes_on) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(true)));
        let (looks, looking) = (seen.clone(), goes_on.clone());
        tokio::spawn(async move {
            let client = reqwest::Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(1)).build().expect("a client");
            while looking.load(Ordering::Relaxed) {
                let at = Timestamp::now();
                let well = client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
                looks.lock().expect("nobody panics with it").push((at, well));
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { seen, goes_on }
    }

    fn end(self) -> Vec<Look> {
        self.goes_on.store(false, Ordering::Relaxed);
        std::mem::take(&mut self.seen.lock().expect("nobody panics with it"))
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn print(alone: &[Recovery], replicated: &[Recovery]) {
    type Part = (&'static str, usize, fn(&Recovery) -> f64);
    let parts: [Part; 12] = [
        ("evidence: first failing probe to verdict", 3, |one| seconds(one.failing, one.verdict)),
        ("decision: verdict to plan", 3, |one| seconds(one.verdict, one.planned)),
        ("patch: plan to applied", 3, |one| seconds(one.planned, one.applied)),
        ("rollout: applied to rolled out", 3, |one| seconds(one.applied, one.rolled_out)),
        ("verification: rolled out to recovered", 3, |one| seconds(one.rolled_out, one.recovered)),
        ("decision, patch and verification", 3, |one| seconds(one.verdict, one.applied) + seconds(one.rolled_out, one.recovered)),
        ("**in all: first failing probe to recovered**", 3, |one| seconds(one.failing, one.recovered)),
        ("from outside: first to last bad answer", 3, |one| one.felt.map_or(f64::NAN, |(first, last)| seconds(first, last))),
        ("from outside: first bad answer to recovered", 3, |one| one.felt.map_or(f64::NAN, |(first, _)| seconds(first, one.recovered))),
        ("probe rounds from the first failing one to the verdict", 0, |one| one.rounds.0),
        ("failing ones among them", 0, |one| one.rounds.1),
        ("failing rounds that are taken for granted, in percent", 1, |one| one.tolerance * 100.0),
    ];
    println!(
        "\n| part, in seconds | 1 replica: min | median | max | 2 replicas: min | median | max |\n|---|---:|---:|---:|---:|---:|---:|"
    );
    for (name, digits, part) in parts {
        let spread = |recoveries: &[Recovery]| spread(digits, recoveries.iter().map(part).collect());
        println!("| {name} | {} | {} |", spread(alone), spread(replicated));
    }
}

fn spread(digits: usize, mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let (min, median, max) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    format!("{min:.digits$} | {median:.digits$} | {max:.digits$}")
}
