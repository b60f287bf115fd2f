//! The simulation: the whole daemon with the real executor and the real Kubernetes client, on virtual time, in a world that breaks.
//!
//! `ROLLBACKD_SIM_SEEDS` says how many seeds are played (a nightly run takes many), `ROLLBACKD_SIM_SEED` plays one and prints its trace.

mod audit;
mod chance;
mod cluster;
mod host;
mod inbox;
mod mutants;
mod script;
mod server;
mod sources;
mod store;
mod stories;
mod world;

use std::num::NonZero;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use script::{Asked, play};

/// So many seeds are played unless said: a quarter of a minute without optimization.
const SEEDS: u64 = 12;

#[test]
fn nothing_that_breaks_makes_the_daemon_wrong() {
    if let Ok(seed) = std::env::var("ROLLBACKD_SIM_SEED") {
        let seed = seed.parse().expect("ROLLBACKD_SIM_SEED is a number");
        let outcome = play(seed, Asked::default());
        println!("{}", outcome.trace);
        println!("faults: {:?}", outcome.faults);
        assert!(outcome.violations.is_empty(), "seed {seed}: {:#?}", outcome.violations);
        return;
    }
    let seeds = std::env::var("ROLLBACKD_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("ROLLBACKD_SIM_SEEDS is a number"));
    let (next, rollbacks, broken) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let player = || {
        while let seed = next.fetch_add(1, Relaxed)
            && seed < seeds
        {
            let outcome = play(seed, Asked::default());
            rollbacks.fetch_add(outcome.rollbacks as u64, Relaxed);
            if !outcome.violations.is_empty() {
                broken.fetch_add(1, Relaxed);
                println!("seed {seed} with {:?}: {:#?}", outcome.faults, outcome.violations);
                println!("to repeat: ROLLBACKD_SIM_SEED={seed} cargo test --test sim nothing_that_breaks -- --nocapture");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZero::get).min(8) {
            scope.spawn(player);
        }
    });
    let (rollbacks, broken) = (rollbacks.into_inner(), broken.into_inner());
    assert_eq!(broken, 0, "of {seeds} seeds broke an invariant");
    assert!(rollbacks >= seeds, "only {rollbacks} rollbacks in {seeds} seeds: the simulation tries too little");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..2 {
        assert_eq!(play(seed, Asked::default()).hash, play(seed, Asked::default()).hash, "seed {seed}");
    }
}
