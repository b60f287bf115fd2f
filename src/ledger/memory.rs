//! A ledger in memory, for the demo's tests and the simulation.
