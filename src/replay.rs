//! What the judge would have made of what already happened: recorded samples and deployments, run through the very rules of the daemon in
//! virtual time. Nothing is carried out, and nobody is told.

pub mod catalogue;
pub mod judge;
pub mod openmetrics;
pub mod play;
pub mod runs;
