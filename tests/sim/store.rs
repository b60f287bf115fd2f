//! The daemon's ledger in the simulation: the shipped one in memory, with a disk that can be full or broken, and a daemon that can die just
//! before or just after each write.

use std::time::Duration;

use jiff::Timestamp;
use rollbackd::ledger::memory::{self, Memory};
use rollbackd::ledger::{Ledger, LedgerError};
use rollbackd_core::entry::{Entry, Record};

use super::world::{Fault, World};

/// One opening of the ledger, by one life of the daemon.
pub struct Store {
    world: World,
    memory: Memory,
    dead: bool,
    /// The record at whose write the daemon dies; for a test that enumerates them.
    dies_at: Option<(u64, Death)>,
}

/// On which side of a write the daemon dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    Before,
    After,
}

impl Store {
    pub const fn open(world: World, memory: Memory, dies_at: Option<(u64, Death)>) -> Self {
        Self { world, memory, dead: false, dies_at }
    }

    /// Whether the daemon dies at this write.
    fn death(&self, entries: usize) -> Option<Death> {
        if let Some((at, death)) = self.dies_at {
            let durable = self.world.durable();
            let entries = u64::try_from(entries).expect("a length fits");
            return (durable < at && at <= durable + entries).then_some(death);
        }
        if !self.world.befalls(Fault::CrashAtLedger, 3) {
            return None;
        }
        Some(if self.world.lock().chance.percent(50) { Death::Before } else { Death::After })
    }

    fn die(&mut self) {
        self.dead = true;
        self.world.kill();
    }

    /// People come in at the worst moment.
    fn meddle(&self, entries: &[Entry]) {
        for entry in entries {
            let worst = matches!(
                entry,
                Entry::VerdictReached { .. }
                    | Entry::RollbackPlanned { .. }
                    | Entry::RollbackApplied { .. }
                    | Entry::RollbackRolledOut { .. }
                    | Entry::RollbackEnded { .. }
            );
            if let Some(service) = entry.service().filter(|_| worst && self.world.befalls(Fault::Meddling, 30)) {
                let soon = self.world.lock().chance.percent(50);
                self.world.meddle(service.as_str(), Duration::from_millis(if soon { 20 } else { 300 }));
            }
        }
    }
}

impl Ledger for Store {
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), LedgerError> {
        self.memory.replay(each)
    }

    fn append(&mut self, at: Timestamp, entries: Vec<Entry>) -> Result<Vec<Record>, LedgerError> {
        let death = if self.dead { Some(Death::Before) } else { self.death(entries.len()) };
        if death == Some(Death::Before) {
            self.die();
            self.memory.fail_next(memory::Fault::Lost);
        } else if self.world.befalls(Fault::LedgerFull, 80) {
            self.memory.fail_next(memory::Fault::Full);
        } else if self.world.befalls(Fault::LedgerFails, 2) {
            let written = self.world.lock().chance.percent(50);
            self.memory.fail_next(if written { memory::Fault::Written } else { memory::Fault::Lost });
        }
        self.meddle(&entries);
        let result = self.memory.append(at, entries);
        match &result {
            Ok(records) => records.last().into_iter().for_each(|last| self.world.set_durable(last.seq)),
            Err(LedgerError::Full { .. }) => {}
            Err(_) => self.world.set_durable(u64::try_from(self.memory.records().len()).expect("a length fits")),
        }
        if death == Some(Death::After) {
            self.die();
        }
        result
    }
}
