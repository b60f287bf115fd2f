//! The pure part of `rollbackd`: what it knows, how it judges, what it decides. Nothing here waits, reads, logs, or asks what time it is.

pub mod service;
pub mod version;
pub mod observation;
pub mod counter;
pub mod statistics;
pub mod baseline;
pub mod evidence;
pub mod severity;
pub mod verdict;
pub mod guard;
pub mod plan;
pub mod entry;
pub mod notice;
