//! The pure part of `rollbackd`: what it knows, how it judges, what it decides. Nothing here waits, reads, logs, draws lots, or asks what
//! time it is; facts and time are arguments, answers are values.
//!
//! The modules stand in reading order: words first, then evidence and judgement, then the lifecycle and what follows from it.

pub mod service;
pub mod version;
pub mod observation;
pub mod severity;
pub mod statistics;
mod target;
pub mod counter;
pub mod timing;
pub mod histogram;
pub mod baseline;
pub mod verdict;
pub mod past;
pub mod evidence;
pub mod guard;
pub mod plan;
pub mod entry;
pub mod lifecycle;
pub mod declaration;
pub mod alert;
pub mod decide;
pub mod command;
pub mod task;
pub mod certainty;
pub mod outlook;
pub mod promise;
pub mod warning;
pub mod words;
pub mod notice;
pub mod view;
