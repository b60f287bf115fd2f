//! Measures the daemon, and prints rows of tables: `tests/measure` runs it and puts them into `docs/measurements.md`. Each measure of memory
//! or processor time needs a process of its own, so one run gives one row.

use clap::Parser;

mod fleet;
mod ledger;
mod process;
mod start;

#[derive(Debug, Parser)]
enum Measure {
    /// Memory and processor time with many services.
    Fleet(fleet::Arguments),
    /// How long the binary takes until it guards.
    Start(start::Arguments),
    /// Answers every request on a loopback port with 200, for the probes of `fleet --probes real`.
    Serve,
}

fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Measure::parse() {
        Measure::Fleet(arguments) => fleet::run(&arguments),
        Measure::Start(arguments) => start::run(&arguments),
        Measure::Serve => fleet::serve(),
    }
}
