//! What every ledger keeps, asked of each adapter in the same words.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use rollbackd_core::entry::{Actor, Arrival, DeploymentId, Entry, Record, Scope};
use rollbackd_core::service::ServiceName;
use rollbackd_core::version::{Artifact, ChangeKind, Version, VersionId};

use super::memory::Memory;
use super::row::LIMIT;
use super::sqlite::Sqlite;
use super::{Ledger, LedgerError};

/// Opens the ledger of one test, again and again: the same records each time. What was opened before must be dropped.
struct Subject {
    open: Box<dyn Fn() -> Box<dyn Ledger>>,
}

impl Subject {
    fn memory() -> Self {
        let memory = Memory::new();
        Self { open: Box::new(move || Box::new(memory.clone())) }
    }

    fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { open: Box::new(move || Box::new(Sqlite::open(directory.path()).expect("opens"))) }
    }

    fn open(&self) -> Box<dyn Ledger> {
        (self.open)()
    }
}

macro_rules! contract {
    ($($sentence:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $sentence() { super::$sentence(super::Subject::memory); })+
        }
        mod sqlite {
            $(#[test] fn $sentence() { super::$sentence(super::Subject::sqlite); })+
        }
    };
}

contract![
    a_new_ledger_is_empty,
    numbers_begin_at_one_and_have_no_gap,
    what_was_appended_is_replayed_by_a_successor,
    nothing_is_appended_when_there_is_nothing_to_append,
    time_never_goes_back,
    an_entry_that_cannot_be_written_takes_its_companions_with_it_and_spoils_nothing,
    any_sequence_of_appends_and_openings_is_a_list,
];

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

pub(super) fn delivered(notice: u64) -> Entry {
    Entry::NoticeDelivered { notice, destination: "mail".to_owned() }
}

pub(super) fn replayed(ledger: &mut dyn Ledger) -> Vec<Record> {
    let mut records = Vec::new();
    ledger.replay(&mut |record| records.push(record)).expect("replays");
    records
}

fn a_new_ledger_is_empty(subject: fn() -> Subject) {
    let subject = subject();
    assert_eq!(replayed(&mut *subject.open()), []);
}

fn numbers_begin_at_one_and_have_no_gap(subject: fn() -> Subject) {
    let subject = subject();
    let mut ledger = subject.open();
    let first = ledger.append(at(1), vec![delivered(1), delivered(2)]).expect("appends");
    drop(ledger);
    let second = subject.open().append(at(2), vec![delivered(3)]).expect("appends");
    let numbers: Vec<u64> = first.iter().chain(&second).map(|record| record.seq).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

fn what_was_appended_is_replayed_by_a_successor(subject: fn() -> Subject) {
    let subject = subject();
    let mut ledger = subject.open();
    let mut appended = ledger.append(at(1), vec![delivered(1)]).expect("appends");
    appended.extend(ledger.append(at(2), vec![delivered(2), delivered(3)]).expect("appends"));
    assert_eq!(replayed(&mut *ledger), appended);
    drop(ledger);
    assert_eq!(replayed(&mut *subject.open()), appended);
}

fn nothing_is_appended_when_there_is_nothing_to_append(subject: fn() -> Subject) {
    let subject = subject();
    let mut ledger = subject.open();
    assert_eq!(ledger.append(at(1), Vec::new()).expect("appends"), []);
    assert_eq!(replayed(&mut *ledger), []);
}

fn time_never_goes_back(subject: fn() -> Subject) {
    let subject = subject();
    subject.open().append(at(1000), vec![delivered(1)]).expect("appends");
    let mut successor = subject.open();
    successor.append(at(10), vec![delivered(2)]).expect("appends");
    successor.append(at(1001), vec![delivered(3)]).expect("appends");
    let times: Vec<Timestamp> = replayed(&mut *successor).iter().map(|record| record.at).collect();
    assert_eq!(times, [at(1000), at(1000), at(1001)]);
}

fn an_entry_that_cannot_be_written_takes_its_companions_with_it_and_spoils_nothing(subject: fn() -> Subject) {
    let checkout = ServiceName::try_from("checkout").expect("a good name");
    let too_large = Entry::LedgerBegun { ledger: "x".repeat(LIMIT) };
    let infinite = Entry::WindowPassed { service: checkout, deployment: DeploymentId(1), log_evidence: f64::INFINITY };
    let subject = subject();
    let mut ledger = subject.open();
    for unwritable in [too_large, infinite] {
        let refused = ledger.append(at(1), vec![delivered(1), unwritable]);
        assert!(matches!(refused, Err(LedgerError::Unwritable { .. })), "{refused:?}");
    }
    assert_eq!(replayed(&mut *ledger), []);
    assert_eq!(ledger.append(at(1), vec![delivered(1)]).expect("appends")[0].seq, 1);
}

/// What happens to a ledger in its life.
#[derive(Clone, Debug)]
enum Step {
    Append(i64, Vec<Entry>),
    OpenAnew,
}

fn entry() -> impl Strategy<Value = Entry> {
    let name = || "[a-z0-9][a-z0-9._-]{0,20}".prop_map(|name| ServiceName::try_from(name).expect("a good name"));
    prop_oneof![
        any::<String>().prop_map(|ledger| Entry::LedgerBegun { ledger }),
        (any::<u64>(), any::<String>()).prop_map(|(notice, destination)| Entry::NoticeDelivered { notice, destination }),
        prop::collection::btree_set(name(), 0..4).prop_map(|services| Entry::BrakeTripped { services }),
        (name(), any::<String>(), any::<bool>()).prop_map(|(service, reason, all)| Entry::Held {
            scope: if all { Scope::All } else { Scope::Service(service) },
            by: Actor::Operator(reason.clone()),
            reason,
            until: Some(Timestamp::MAX),
        }),
        (name(), any::<String>(), prop::option::of(any::<String>())).prop_map(|(service, text, artifact)| Entry::DeploymentSeen {
            service,
            version: Version { id: VersionId(text.clone()), name: text },
            environment: "production".to_owned(),
            artifact: artifact.map(Artifact),
            arrival: Arrival::Rollback { plan: rollbackd_core::plan::PlanId(u64::MAX), of: DeploymentId(0) },
            started: Timestamp::MIN,
            not_before: Timestamp::MIN,
            change: ChangeKind::Code,
        }),
        (name(), any::<u64>(), -1e9..1e9_f64).prop_map(|(service, deployment, log_evidence)| Entry::WindowPassed {
            service,
            deployment: DeploymentId(deployment),
            log_evidence,
        }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0_i64..1000, prop::collection::vec(entry(), 0..5)).prop_map(|(second, entries)| Step::Append(second, entries));
    prop::collection::vec(prop_oneof![4 => append, 1 => Just(Step::OpenAnew)], 1..12)
}

/// The model: a list to which entries are added, each at its time or at that of the one before.
fn any_sequence_of_appends_and_openings_is_a_list(subject: fn() -> Subject) {
    proptest!(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() }, |(steps in steps())| {
        let subject = subject();
        let mut ledger = Some(subject.open());
        let mut model: Vec<Record> = Vec::new();
        for step in steps {
            match step {
                Step::Append(second, entries) => {
                    let appended = ledger.as_mut().expect("open").append(at(second), entries.clone()).expect("appends");
                    let kinds = |entries: &[Entry]| entries.iter().map(std::mem::discriminant).collect::<Vec<_>>();
                    let read: Vec<Entry> = appended.iter().map(|record| record.entry.clone()).collect();
                    prop_assert_eq!(kinds(&read), kinds(&entries));
                    for (entry, written) in read.iter().zip(&entries) {
                        prop_assert!(is_as_written(entry, written), "{:?} was read as {:?}", written, entry);
                    }
                    model.extend(appended);
                }
                Step::OpenAnew => {
                    drop(ledger.take());
                    ledger = Some(subject.open());
                }
            }
            prop_assert_eq!(&replayed(&mut **ledger.as_mut().expect("open")), &model);
        }
        let numbers: BTreeSet<u64> = model.iter().map(|record| record.seq).collect();
        prop_assert_eq!(numbers, (1..=model.len() as u64).collect::<BTreeSet<u64>>());
        let never_back = model.windows(2).all(|pair| pair[1].at.duration_since(pair[0].at) >= SignedDuration::ZERO);
        prop_assert!(never_back);
    });
}

/// Equal, but for the last digits of a number: the JSON library reads numbers fast rather than exactly (its feature `float_roundtrip`).
fn is_as_written(read: &Entry, written: &Entry) -> bool {
    match (read, written) {
        (Entry::WindowPassed { log_evidence: read, .. }, Entry::WindowPassed { log_evidence: written, .. }) => {
            (read - written).abs() <= written.abs() * 1e-13
        }
        _ => read == written,
    }
}
