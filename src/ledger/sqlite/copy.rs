//! The records of a ledger that somebody else may be writing: of a copy of its files. It changes nothing, and waits for nobody.

use std::path::{Path, PathBuf};

use rollbackd_core::entry::Record;

use super::Sqlite;
use crate::ledger::Ledger as _;

/// The ledger of a daemon can't be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the ledger {}", path.display())]
pub struct Unreadable {
    path: PathBuf,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// The records of a ledger: of the file, or of the one in a state directory. A daemon may be using it, and nothing of it may be changed, so
/// it is a copy that is read.
///
/// # Errors
/// When it can't be copied, or is no ledger.
pub fn read_copy_of(path: &Path) -> Result<Vec<Record>, Unreadable> {
    let file = if path.is_dir() { path.join("ledger.sqlite3") } else { path.to_owned() };
    read(&file).map_err(|source| Unreadable { path: file, source })
}

fn read(file: &Path) -> Result<Vec<Record>, Box<dyn std::error::Error + Send + Sync>> {
    let copy = tempfile::tempdir()?;
    let to = copy.path().join("ledger.sqlite3");
    std::fs::copy(file, &to)?;
    let log = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        PathBuf::from(name)
    };
    if log(file).exists() {
        std::fs::copy(log(file), log(&to))?;
    }
    let mut records = Vec::new();
    let mut all = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut ledger = Sqlite::open(copy.path())?;
        ledger.replay(&mut |record| records.push(record))?;
        Ok(())
    };
    all().map_err(|error| of_the_original(error.as_ref(), &to, file))?;
    Ok(records)
}

/// What is wrong is wrong with the file that was named, and not with the copy.
fn of_the_original(error: &(dyn std::error::Error + 'static), copy: &Path, file: &Path) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words.replace(&copy.display().to_string(), &file.display().to_string())
}
