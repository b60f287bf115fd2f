//! Death at any moment: another process writes and is killed; what it was told is durable must be there, whole and in order.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rollbackd_core::entry::Entry;

use super::Ledger as _;
use super::contract::{at, delivered, replayed};
use super::sqlite::Sqlite;

/// Where the writer finds the ledger.
const DIRECTORY: &str = "ROLLBACKD_TEST_LEDGER";

/// Each call of `append` carries three entries that all say the number of the first.
const BATCH: u64 = 3;

/// The other process: this test binary, told to run only this. It writes until it is killed, and says each number that it may rely on.
#[test]
#[ignore = "the other process of the test below"]
fn writer() {
    let directory = std::env::var_os(DIRECTORY).expect("the test below says where");
    let mut ledger = Sqlite::open(Path::new(&directory)).expect("opens");
    let mut seq = replayed(&mut ledger).last().map_or(0, |record| record.seq);
    loop {
        let entries = (0..BATCH).map(|_| delivered(seq + 1)).collect();
        seq = ledger.append(at(0), entries).expect("appends").last().expect("three records").seq;
        println!("durable {seq}");
    }
}

/// From when on the writer's life is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// From its start: it dies while it begins, opens, or writes.
    Start,
    /// From its first acknowledged write: it dies while it writes.
    FirstWrite,
}

/// Lets the writer live for so long, and returns the last number that it relied on.
fn killed_after(life: Duration, from: From, directory: &Path) -> Option<u64> {
    let mut writer = Command::new(std::env::current_exe().expect("a running test"))
        .args(["ledger::crash::writer", "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(writer.stdout.take().expect("was piped")).lines().map_while(Result::ok);
    let mut acknowledged = lines.filter_map(|line| line.strip_prefix("durable ")?.parse().ok());
    let first = if from == From::FirstWrite { acknowledged.next() } else { None };
    std::thread::sleep(life);
    writer.kill().expect("is killed");
    let last = acknowledged.last().or(first);
    writer.wait().expect("ends");
    last
}

#[test]
fn nothing_acknowledged_is_lost_when_the_writer_is_killed_a_hundred_times() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut relied_on, mut lives) = (0, 0);
    for round in 0..100_u64 {
        // In an order that looks like none: 0 to 72 ms is from before the file exists to well into writing, 0 to 16 ms is a few writes.
        let (life, from) = if round % 2 == 0 { (round * 37 % 73, From::Start) } else { (round * 7 % 17, From::FirstWrite) };
        let acknowledged = killed_after(Duration::from_millis(life), from, directory.path());
        lives += u64::from(acknowledged.is_some());
        relied_on = acknowledged.unwrap_or(relied_on);
        let records = replayed(&mut Sqlite::open(directory.path()).expect("opens after a kill"));
        assert!(records.len() as u64 >= relied_on, "{relied_on} were acknowledged, {} are there", records.len());
        for (index, record) in (0_u64..).zip(&records) {
            let Entry::NoticeDelivered { notice, .. } = record.entry else { panic!("nobody wrote {record:?}") };
            assert_eq!((record.seq, notice), (index + 1, index / BATCH * BATCH + 1));
        }
        assert_eq!(records.len() as u64 % BATCH, 0, "part of a batch is there");
    }
    assert!(lives >= 50, "only {lives} writers of 100 wrote anything");
}
