//! One process at a time: an exclusive lock on `ledger.lock` beside the ledger, held for life and freed by the kernel at death. It says
//! nothing about the ledger itself.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::LedgerError;

/// The lock, held until it is dropped. The file stays: removing it would let two processes lock two files of one name.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// Closing the file would not do: a program that is just being started by this process has it open, too, until it is executed.
impl Drop for Lock {
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Takes the lock of the ledger at `ledger`, and writes this process's number into it.
    pub(super) fn take(ledger: &Path) -> Result<Self, LedgerError> {
        let path = ledger.with_file_name("ledger.lock");
        let cannot = |source: std::io::Error| LedgerError::Io { path: ledger.to_owned(), attempt: "cannot lock", source: source.into() };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(cannot)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LedgerError::InUse { path: ledger.to_owned(), holder: holder(&mut file) });
            }
            Err(error) => return Err(cannot(error.into())),
        }
        // The number only serves the message above, so a full disk must not keep the daemon from starting.
        let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}

/// Who holds it, by the number in it; no number has more than ten digits.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(32).read_to_string(&mut text);
    let is_number = read.is_ok() && !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text } else { "unknown".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_of_the_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let ledger = directory.path().join("ledger.sqlite3");
        let first = Lock::take(&ledger).expect("free");
        match Lock::take(&ledger) {
            Err(LedgerError::InUse { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
            other => panic!("expected a refusal, got {other:?}"),
        }
        drop(first);
        Lock::take(&ledger).expect("free again");
    }

    #[test]
    fn it_is_free_once_dropped_even_while_a_copy_of_its_file_is_open() {
        let directory = tempfile::tempdir().expect("a directory");
        let ledger = directory.path().join("ledger.sqlite3");
        let first = Lock::take(&ledger).expect("free");
        let _copy = first.file.try_clone().expect("copied");
        drop(first);
        Lock::take(&ledger).expect("free again");
    }

    #[test]
    fn a_lock_without_a_number_has_an_unknown_holder() {
        let directory = tempfile::tempdir().expect("a directory");
        let ledger = directory.path().join("ledger.sqlite3");
        let first = Lock::take(&ledger).expect("free");
        std::fs::write(directory.path().join("ledger.lock"), "not a number").expect("written");
        let error = Lock::take(&ledger).expect_err("held");
        assert!(error.to_string().ends_with("is in use by process unknown"), "{error}");
        drop(first);
    }
}
