//! How often the judge is wrong, and how fast it is right: many simulated deployments of every family of bad days (DECISION 4.1), in which
//! nothing may be rolled back, and of every family of regressions (4.2), which have to be found in time; and what the rules of the field make of
//! the same deployments (4.3). It runs the judge that the daemon runs, on raw counters; only the world is made up. The same seed gives the same
//! numbers, on however many threads.
//!
//! ```text
//! cargo bench -p rollbackd-core --bench decision                     # all of it
//! cargo bench -p rollbackd-core --bench decision -- --write          # and writes docs/decision-benchmark.md, with its plot
//! cargo bench -p rollbackd-core --bench decision -- --quick          # a smaller number of deployments, as the tests run it
//! cargo bench -p rollbackd-core --bench decision -- --only N5,R2     # the families whose names begin so
//! cargo bench -p rollbackd-core --bench decision -- --only N5 --explain
//! cargo bench -p rollbackd-core --bench decision -- --deployments 20000 --seed 7 --threads 1
//! cargo bench -p rollbackd-core --bench decision -- --cost           # what an evaluation costs, and nothing else
//! ```

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "the core has no clock, arguments and output; the program that measures it does"
)]

mod chance;
mod comparison;
mod cost;
mod families;
mod latency;
mod metrics;
mod peers;
mod plot;
mod report;
mod sweep;
mod trial;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use chance::Chance;
use comparison::Comparison;
use families::{Bar, Family};
use peers::Rule;
use report::Row;
use sweep::Firings;
use trial::{Heard, Outcome};

/// What was asked for.
pub struct Arguments {
    deployments: usize,
    seed: u64,
    only: String,
    threads: usize,
    what: What,
    explain: bool,
    write: bool,
}

/// What is measured.
#[derive(PartialEq)]
enum What {
    /// Everything, with the rules of the field.
    All,
    /// The families alone.
    Families,
    /// What an evaluation costs, and nothing else.
    Cost,
}

impl Arguments {
    fn compare(&self) -> bool {
        self.what == What::All
    }
}

/// The rules of the field see so many deployments of a family: they are wrong more often than once in a thousand.
const OF_PEERS: usize = 1_000;

/// What became of one deployment, by each judge.
pub struct Played {
    outcome: Outcome,
    onset: f64,
    why: String,
    /// When the rules of the field fire.
    peers: Vec<Option<f64>>,
    firings: Option<Firings>,
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
    let cost = cost::measure();
    eprintln!("{cost}");
    if arguments.what == What::Cost {
        return if cost.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let peers = if arguments.compare() { peers::all() } else { Vec::new() };
    let is_meant = |family: &Family| arguments.only.split(',').any(|begin| family.name.starts_with(begin));
    let families: Vec<Family> = families::all().into_iter().chain(latency::families()).filter(is_meant).collect();
    if families.is_empty() {
        eprintln!("no family's name begins with {}", arguments.only);
        return ExitCode::from(2);
    }
    let mut comparison = Comparison::new(&peers);
    let mut rows = Vec::new();
    for family in &families {
        let played = play(family, &arguments, &peers);
        let row = Row::of(family, &played);
        eprintln!("{row}");
        if arguments.explain {
            explain(family, &played);
        }
        if arguments.compare() {
            comparison.take(family, &played, &arguments);
        }
        rows.push(row);
    }
    eprintln!("{} families of {} deployments in {:.0} s", rows.len(), arguments.deployments, begun.elapsed().as_secs_f64());
    if arguments.compare() {
        eprint!("{}", comparison.text(&rows));
    }
    if arguments.write
        && let Err(error) = write(&arguments, &rows, &comparison, &cost)
    {
        eprintln!("writing the document: {error}");
        return ExitCode::FAILURE;
    }
    if rows.iter().all(Row::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Result<Arguments, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut found = Arguments { deployments: 6_000, seed: 1, only: String::new(), threads, what: What::All, explain: false, write: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => (found.what, found.deployments) = (What::Families, 150),
            "--deployments" => found.deployments = value()?.parse().map_err(|error| format!("--deployments: {error}"))?,
            "--seed" => found.seed = value()?.parse().map_err(|error| format!("--seed: {error}"))?,
            "--threads" => found.threads = value()?.parse().map_err(|error| format!("--threads: {error}"))?,
            "--only" => found.only = value()?,
            "--explain" => found.explain = true,
            "--write" => found.write = true,
            "--cost" => found.what = What::Cost,
            // Cargo says so to every benchmark.
            "--bench" => {}
            other => {
                return Err(format!(
                    "unknown argument {other}; known are --quick, --deployments, --seed, --threads, --only, --explain, --write and --cost"
                ));
            }
        }
    }
    Ok(found)
}

/// Plays all deployments of a family.
fn play(family: &Family, arguments: &Arguments, peers: &[Box<dyn Rule>]) -> Vec<Played> {
    in_parallel(arguments, |number| {
        let mut chance = Chance::new(arguments.seed, family.name, number as u64);
        let day = (family.day)(&mut chance, number);
        let mut heard = Heard { explain: arguments.explain, ..Heard::default() };
        let outcome = trial::run(&day, &mut chance, &mut heard);
        let compared = arguments.compare() && comparison::compares(family);
        let rules = if compared && number < OF_PEERS { peers } else { &[] };
        Played {
            outcome,
            onset: day.onset,
            peers: rules.iter().map(|rule| rule.fires(&heard.metrics)).collect(),
            firings: compared.then(|| Firings::of(&heard.metrics.intervals(60.0))),
            why: heard.why,
        }
    })
}

/// Does something for each deployment, on all threads. Each has a seed of its own, so that the order does not matter.
///
/// # Panics
/// When a trial panics.
pub fn in_parallel<T: Send>(arguments: &Arguments, one: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= arguments.deployments {
                return done;
            }
            done.push((number, one(number)));
        }
    };
    let mut done = thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.threads.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a trial never panics")).collect::<Vec<_>>()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, one)| one).collect()
}

/// The numbers of what went wrong.
fn explain(family: &Family, played: &[Played]) {
    let should_fire = matches!(family.bar, Bar::Found { .. });
    for (number, one) in played.iter().enumerate().filter(|(_, one)| one.outcome.fired.is_some() != should_fire) {
        eprintln!("   deployment {number}, {:?}", one.outcome.fired);
        eprint!("{}", one.why);
    }
}

fn write(arguments: &Arguments, rows: &[Row], comparison: &Comparison, cost: &cost::Cost) -> std::io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    std::fs::write(docs.join("decision-benchmark.svg"), plot::svg(&comparison.points(rows)))?;
    std::fs::write(docs.join("decision-benchmark.md"), report::document(arguments, rows, comparison, cost))
}
