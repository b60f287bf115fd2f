//! The durable record: an append-only sequence of entries. Guarantees: `append` returns only after all its entries are durable, or none
//! is; numbers have no gap; time never goes back; nothing is ever changed. Assumption: one process at a time (the adapter sees to that).
//! Caveats: `append` blocks for one synchronous write (about 4 ms on a disk); after a failed one (`Io`) only opening the ledger anew
//! tells what was written.

use std::path::PathBuf;

use jiff::Timestamp;
use rollbackd_core::entry::{Entry, Record};

pub mod sqlite;
pub mod memory;
mod row;
mod lock;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod crash;

/// The durable record.
pub trait Ledger: Send {
    /// All records, in order, handed one by one to `each` (a ledger may be larger than memory wants to hold twice).
    ///
    /// # Errors
    /// When the ledger can't be read, or holds something that this version doesn't understand.
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), LedgerError>;

    /// Makes entries durable, all or none, and returns them as they will be replayed: with their numbers, and with `at`, or the time of
    /// the record before if that is later.
    ///
    /// # Errors
    /// When they could not be made durable. After `Full` and `Unwritable` nothing was written, and another call may succeed. After any
    /// other failure it is not known whether the entries are in the ledger (all of them or none): this value then refuses every further
    /// call, and opening the ledger anew tells.
    fn append(&mut self, at: Timestamp, entries: Vec<Entry>) -> Result<Vec<Record>, LedgerError>;
}

/// What can go wrong with a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has it.
    #[error("the ledger {} is in use by process {holder}", path.display())]
    InUse {
        /// The ledger.
        path: PathBuf,
        /// The process's number, or `unknown`.
        holder: String,
    },
    /// The disk is full.
    #[error("no space left for the ledger {}", path.display())]
    Full {
        /// The ledger.
        path: PathBuf,
    },
    /// An entry may not be written: it takes more than 1 MiB, or could not be read back (it holds an infinite number). The ledger is well.
    #[error("cannot write this entry to the ledger {}", path.display())]
    Unwritable {
        /// The ledger.
        path: PathBuf,
        /// What is wrong with the entry.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It isn't a ledger, is damaged, or was written by a newer version. It is left as it is.
    #[error("the ledger {} can't be read: {why}; it was left as it is", path.display())]
    Unreadable {
        /// The ledger.
        path: PathBuf,
        /// In words.
        why: String,
    },
    /// Anything else.
    #[error("{attempt} the ledger {}", path.display())]
    Io {
        /// The ledger.
        path: PathBuf,
        /// `cannot open`, `cannot write to`.
        attempt: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
