//! Tests of the whole, from the outside.

mod replay;
mod tidy;
