//! rollbackd.
