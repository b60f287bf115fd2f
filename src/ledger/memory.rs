//! A ledger in memory, for the demonstration and the simulation. It outlives the daemon that writes it as a file does: every clone is
//! another opening of the same records. It can be told to fail.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rollbackd_core::entry::{Entry, Record};

use super::row::encode;
use super::{Ledger, LedgerError};

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space is left; nothing was written, and the next write may succeed.
    Full,
    /// The disk failed, and nothing was written.
    Lost,
    /// The disk failed after everything was written: the writer doesn't know, its successor finds it.
    Written,
}

/// A ledger in memory.
#[derive(Debug, Default)]
pub struct Memory {
    kept: Arc<Mutex<Kept>>,
    distrusted: bool,
}

#[derive(Debug, Default)]
struct Kept {
    records: Vec<Record>,
    faults: VecDeque<Fault>,
}

/// Another opening of the same records, as by the successor of a daemon that died.
impl Clone for Memory {
    fn clone(&self) -> Self {
        Self { kept: Arc::clone(&self.kept), distrusted: false }
    }
}

impl Memory {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one coming write fail, of whichever opening; several faults befall one write each, in the order in which they were given.
    pub fn fail_next(&self, fault: Fault) {
        self.kept().faults.push_back(fault);
    }

    /// All records, as they are now.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.kept().records.clone()
    }

    /// A panic elsewhere can't leave the records half changed: they change in one step, at the end of `append`.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path() -> PathBuf {
    PathBuf::from("in memory")
}

fn cannot_write(why: &'static str) -> LedgerError {
    LedgerError::Io { path: path(), attempt: "cannot write to", source: why.into() }
}

impl Ledger for Memory {
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), LedgerError> {
        self.records().into_iter().for_each(each);
        Ok(())
    }

    fn append(&mut self, at: Timestamp, entries: Vec<Entry>) -> Result<Vec<Record>, LedgerError> {
        if self.distrusted {
            return Err(cannot_write("an earlier write failed; open the ledger anew to see what is in it"));
        }
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let read: Result<Vec<Entry>, _> = entries.iter().map(|entry| encode(entry).map(|(_, read)| read)).collect();
        let read = read.map_err(|source| LedgerError::Unwritable { path: path(), source: Box::new(source) })?;
        let mut kept = self.kept();
        let fault = kept.faults.pop_front();
        if fault == Some(Fault::Full) {
            return Err(LedgerError::Full { path: path() });
        }
        let at = kept.records.last().map_or(at, |last| at.max(last.at));
        let records: Vec<Record> = (kept.records.len() as u64 + 1..).zip(read).map(|(seq, entry)| Record { seq, at, entry }).collect();
        if fault != Some(Fault::Lost) {
            kept.records.extend(records.iter().cloned());
        }
        drop(kept);
        self.distrusted = fault.is_some();
        if self.distrusted { Err(cannot_write("the disk failed")) } else { Ok(records) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::contract::{at, delivered};

    #[test]
    fn a_full_memory_writes_nothing_and_takes_the_next_entry() {
        let mut ledger = Memory::new();
        ledger.fail_next(Fault::Full);
        assert!(matches!(ledger.append(at(1), vec![delivered(1)]), Err(LedgerError::Full { .. })));
        assert_eq!(ledger.append(at(1), vec![delivered(2)]).expect("there is room again")[0].seq, 1);
    }

    #[test]
    fn after_a_fault_of_the_disk_only_a_successor_knows_and_writes() {
        for (fault, survivors) in [(Fault::Lost, 0), (Fault::Written, 2)] {
            let mut ledger = Memory::new();
            ledger.fail_next(fault);
            for _ in 0..2 {
                assert!(matches!(ledger.append(at(1), vec![delivered(1), delivered(2)]), Err(LedgerError::Io { .. })));
            }
            let mut successor = ledger.clone();
            assert_eq!(successor.records().len(), survivors);
            successor.append(at(1), vec![delivered(3)]).expect("a successor writes");
        }
    }
}
