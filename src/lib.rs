//! `rollbackd` guards deployments: it notices a new version, watches it, judges it, goes back to the last known good version by itself,
//! proves that this helped, and tells the operators.
//!
//! Everything here touches the world; what is known, judged and decided is in [`rollbackd_core`]. Who may import whom: the roles
//! ([`ledger`], [`platform`], [`signal`], [`notify`]) import the core and never each other; [`history`], [`executor`] and [`daemon`] import
//! the core and the roles' traits, never an adapter; [`app`] puts everything together. A test keeps it true.

pub mod clock;
pub mod ledger;
pub mod platform;
pub mod signal;
pub mod history;
pub mod notify;
pub mod secret;
pub mod executor;
pub mod daemon;
pub mod config;
pub mod api;
pub mod alerts;
pub mod shutdown;
pub mod telemetry;
pub mod systemd;
pub mod app;
pub mod demo;
pub mod replay;
pub mod policy_test;
pub mod cli;
