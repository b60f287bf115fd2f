//! How often the judge is wrong, and how fast it is right: many simulated deployments of every family of bad days (DECISION 4.1), in which
//! nothing may be rolled back, and of every family of regressions (4.2), which have to be found in time. It runs the judge that the daemon
//! runs, on raw counters; only the world is made up. The same seed gives the same numbers.
//!
//! ```text
//! cargo bench -p rollbackd-core --bench decision                     # all of it
//! cargo bench -p rollbackd-core --bench decision -- --quick          # a smaller number of deployments, as the tests run it
//! cargo bench -p rollbackd-core --bench decision -- --only N5        # the families whose name begins so
//! cargo bench -p rollbackd-core --bench decision -- --deployments 20000 --seed 7
//! ```

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "the core has no clock, arguments and output; the program that measures it does"
)]

mod chance;
mod families;
mod latency;
mod report;
mod trial;

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use families::Family;
use report::Row;
use trial::Outcome;

/// What was asked for.
struct Arguments {
    deployments: usize,
    seed: u64,
    only: String,
    markdown: bool,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let families: Vec<Family> =
        families::all().into_iter().chain(latency::families()).filter(|family| family.name.starts_with(&arguments.only)).collect();
    let mut rows = Vec::new();
    for family in families {
        let row = Row::of(&family, &play(&family, &arguments));
        eprintln!("{row}");
        rows.push(row);
    }
    if arguments.markdown {
        print!("{}", report::markdown(&rows, arguments.deployments, arguments.seed));
    }
    eprintln!("{} families of {} deployments in {:.0} s", rows.len(), arguments.deployments, begun.elapsed().as_secs_f64());
    if rows.iter().all(Row::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { deployments: 6_000, seed: 1, only: String::new(), markdown: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => found.deployments = 60,
            "--deployments" => found.deployments = value()?.parse().map_err(|error| format!("--deployments: {error}"))?,
            "--seed" => found.seed = value()?.parse().map_err(|error| format!("--seed: {error}"))?,
            "--only" => found.only = value()?,
            "--markdown" => found.markdown = true,
            // Cargo says so to every benchmark.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}; known are --quick, --deployments, --seed, --only and --markdown")),
        }
    }
    Ok(found)
}

/// Plays all deployments of a family, on all processors. Each has a seed of its own, so the order does not matter.
fn play(family: &Family, arguments: &Arguments) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut outcomes = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= arguments.deployments {
                return outcomes;
            }
            let mut chance = chance::Chance::new(arguments.seed, family.name, number as u64);
            let day = (family.day)(&mut chance, number);
            outcomes.push((number, trial::run(&day, &mut chance)));
        }
    };
    let mut outcomes = thread::scope(|scope| {
        let workers: Vec<_> = (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a trial never panics")).collect::<Vec<_>>()
    });
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
