//! The ledger in a SQLite file, `ledger.sqlite3` in the state directory. What is in the file is checked before anything is written to
//! it; what a row looks like is in `row`, who may open it in `lock`.
//!
//! One connection writes and checkpoints, and it holds SQLite's own lock for life (`locking_mode=EXCLUSIVE`): an older `sqlite3` on the
//! host can't checkpoint meanwhile, which before 3.51.3 could lose committed writes.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rollbackd_core::entry::{Entry, Record};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, FileControl, OpenFlags, TransactionBehavior, params};

use super::lock::Lock;
use super::row::{Digest, NO_DIGEST, Row, decode, digest, encode};
use super::{Ledger, LedgerError};

pub use self::copy::{Unreadable, read_copy_of};

mod copy;
mod migrations {
    refinery::embed_migrations!("src/ledger/migrations");
}

/// `RBKD`, at byte 68 of the file (SQLite file format, section 1.3).
const APPLICATION_ID: [u8; 4] = *b"RBKD";

/// The first version in which two connections can't lose committed writes (the WAL-reset race): 3.51.3.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long another process (a person with `sqlite3`) may keep the file busy before opening it is given up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A ledger in a file.
///
/// Guarantees: those of [`Ledger`], also through the death of the process and the loss of power (as far as the disk keeps its word).
/// Once a write fails otherwise than for lack of space, it can't be known what is on the disk: this value then refuses every further
/// `append`, and opening the ledger anew tells.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    end: End,
    distrusted: bool,
    /// The last field, so that it is given back only after the connection is closed.
    _lock: Lock,
}

/// The last record, as far as the next one needs it.
#[derive(Clone, Copy, Debug)]
struct End {
    seq: u64,
    at: Timestamp,
    digest: Digest,
}

impl End {
    const NOTHING: Self = Self { seq: 0, at: Timestamp::MIN, digest: NO_DIGEST };

    fn then(&self, at: Timestamp, row: &Row) -> Self {
        let (seq, at) = (self.seq + 1, at.max(self.at));
        Self { seq, at, digest: digest(&self.digest, seq, at, row) }
    }
}

impl Sqlite {
    /// Opens the ledger in a directory, and begins one (and makes the directory, mode 0700, in one that is there) where there is none or an empty file. Reads and
    /// checks every record, which takes time in proportion to their number.
    ///
    /// # Errors
    /// `InUse` while another process has it; `Unreadable` when there is any doubt about what is in the file, which is then left byte
    /// for byte as it was; `Io` and `Full` when the disk doesn't allow it.
    pub fn open(directory: &Path) -> Result<Self, LedgerError> {
        let path = directory.join("ledger.sqlite3");
        let failed = |source: std::io::Error| LedgerError::Io { path: path.clone(), attempt: "cannot open", source: source.into() };
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(failed(std::io::Error::other(format!("SQLite {} can lose committed writes", rusqlite::version()))));
        }
        make_directory(directory).map_err(failed)?;
        let lock = Lock::take(&path)?;
        if is_absent(&path)? {
            if path.exists() {
                let path = path.display();
                tracing::warn!(%path, "an empty file was found where the ledger was expected; a new ledger is begun, which knows nothing of the past");
            }
            begin(&path)?;
        }
        check_header(&path)?;
        let mut connection = connect(&path).map_err(|error| when_reading(&path, error))?;
        let schema = check_schema(&connection, &path)?;
        let end = walk(&connection, &path, &mut |_| ())?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(|error| when_reading(&path, error))?;
        if schema < newest_schema() {
            migrate(&mut connection, &path)?;
        }
        Ok(Self { connection, path, end, distrusted: false, _lock: lock })
    }

    /// Refuses to write to a file that is no longer the one at the path: it would be lost with this process.
    fn check_in_place(&self) -> Result<(), LedgerError> {
        let mut moved = 0;
        let asked = self.connection.file_control(None::<&str>, FileControl::HasMoved(&mut moved));
        asked.map_err(|error| when_writing(&self.path, error))?;
        if moved == 0 { Ok(()) } else { Err(self.cannot_write("the file was moved or deleted while it was in use")) }
    }

    fn cannot_write(&self, why: &'static str) -> LedgerError {
        LedgerError::Io { path: self.path.clone(), attempt: "cannot write to", source: why.into() }
    }

    fn write(&mut self, at: Timestamp, rows: &[Row]) -> Result<Vec<End>, rusqlite::Error> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut ends = Vec::with_capacity(rows.len());
        let mut end = self.end;
        for row in rows {
            end = end.then(at, row);
            transaction.execute(
                "INSERT INTO record (seq, at, service, kind, body, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![end.seq.cast_signed(), end.at.to_string(), row.service, row.kind, row.body, end.digest],
            )?;
            ends.push(end);
        }
        transaction.commit()?;
        self.end = end;
        Ok(ends)
    }
}

impl Ledger for Sqlite {
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), LedgerError> {
        walk(&self.connection, &self.path, each).map(drop)
    }

    fn append(&mut self, at: Timestamp, entries: Vec<Entry>) -> Result<Vec<Record>, LedgerError> {
        if self.distrusted {
            return Err(self.cannot_write("an earlier write failed; open the ledger anew to see what is in it"));
        }
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let unwritable = |source| LedgerError::Unwritable { path: self.path.clone(), source: Box::new(source) };
        let encoded: Result<(Vec<Row>, Vec<Entry>), _> = entries.iter().map(encode).collect();
        let (rows, entries) = encoded.map_err(unwritable)?;
        let written = self.check_in_place().and_then(|()| self.write(at, &rows).map_err(|error| when_writing(&self.path, error)));
        // A full disk is noticed before anything could be committed; any other failure may come from the commit itself.
        self.distrusted = !matches!(written, Ok(_) | Err(LedgerError::Full { .. }));
        Ok(written?.into_iter().zip(entries).map(|(end, entry)| Record { seq: end.seq, at: end.at, entry }).collect())
    }
}

/// Makes the directory, readable by its owner only, and makes its name durable. The one that it lies in has to be there: a path that is
/// wrong in its middle must not become a ledger that nobody finds.
///
/// # Errors
/// When it can't be made.
pub fn make_directory(directory: &Path) -> Result<(), std::io::Error> {
    if directory.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().mode(0o700).create(directory);
    made.map_err(|error| match directory.parent().filter(|_| error.kind() == std::io::ErrorKind::NotFound) {
        Some(parent) => std::io::Error::new(error.kind(), format!("the directory {} does not exist", parent.display())),
        None => error,
    })?;
    sync_name(directory)
}

/// Makes durable that a file has its name.
fn sync_name(path: &Path) -> Result<(), std::io::Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Whether there has never been a ledger here: no file or an empty one, and nothing that would belong to one.
fn is_absent(path: &Path) -> Result<bool, LedgerError> {
    if size(path)? > 0 {
        return Ok(false);
    }
    if size(&beside(path, "-wal"))? > 0 || size(&beside(path, "-journal"))? > 0 {
        return Err(unreadable(path, "it is missing or empty, but the log of its newest writes is there"));
    }
    Ok(true)
}

/// In bytes; 0 for a file that isn't there.
fn size(path: &Path) -> Result<u64, LedgerError> {
    match path.metadata() {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(LedgerError::Io { path: path.to_owned(), attempt: "cannot open", source: error.into() }),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Begins a ledger. It is made under another name and gets its own only when it is whole, so that no crash leaves half of one.
fn begin(path: &Path) -> Result<(), LedgerError> {
    let failed = |source: std::io::Error| LedgerError::Io { path: path.to_owned(), attempt: "cannot begin", source: source.into() };
    let draft = beside(path, ".new");
    for leftover in [draft.clone(), beside(&draft, "-wal"), beside(&draft, "-journal"), beside(&draft, "-shm")] {
        match std::fs::remove_file(leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    let writing = |error| when_writing(path, error);
    let mut connection = draw_up(&draft).map_err(writing)?;
    migrate(&mut connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(writing)?;
    connection.close().map_err(|(_, error)| writing(error))?;
    file.sync_all().and_then(|()| std::fs::rename(&draft, path)).and_then(|()| sync_name(path)).map_err(failed)
}

fn draw_up(draft: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(draft, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.pragma_update(None, "application_id", i32::from_be_bytes(APPLICATION_ID))?;
    Ok(connection)
}

/// The parts of the header that SQLite itself would act on or not care about, looked at before SQLite may touch the file.
fn check_header(path: &Path) -> Result<(), LedgerError> {
    let mut header = Vec::with_capacity(100);
    let read = File::open(path).and_then(|file| file.take(100).read_to_end(&mut header));
    read.map_err(|error| LedgerError::Io { path: path.to_owned(), attempt: "cannot read", source: error.into() })?;
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return Err(unreadable(path, "it is not a SQLite database"));
    }
    if header[68..72] != APPLICATION_ID {
        return Err(unreadable(path, "it is the database of another application"));
    }
    if header[18..20] != [2, 2] {
        return Err(unreadable(path, "its header is damaged (it is not in WAL mode)"));
    }
    if size(&beside(path, "-journal"))? > 0 {
        return Err(unreadable(path, "there is a rollback journal beside it, which a ledger never has"));
    }
    Ok(())
}

/// Opens the file without writing to it, and so that closing it doesn't either.
fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Checks the file's structure, and that its migrations are a beginning of ours. Returns the number of the last one.
fn check_schema(connection: &Connection, path: &Path) -> Result<i32, LedgerError> {
    let reading = |error| when_reading(path, error);
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(reading)?;
    if verdict != "ok" {
        return Err(unreadable(path, &format!("it is damaged: {verdict}")));
    }
    let known = migrations::migrations::runner().get_migrations().clone();
    let mut statement =
        connection.prepare("SELECT version, name, checksum, applied_on FROM refinery_schema_history ORDER BY version").map_err(reading)?;
    let mut rows = statement.query([]).map_err(reading)?;
    let mut schema = 0;
    while let Some(row) = rows.next().map_err(reading)? {
        let (version, name): (i32, String) = (row.get(0).map_err(reading)?, row.get(1).map_err(reading)?);
        let (checksum, applied_on): (String, String) = (row.get(2).map_err(reading)?, row.get(3).map_err(reading)?);
        if version > newest_schema() {
            let why = format!("a newer version wrote it (schema {version}, this one knows {})", newest_schema());
            return Err(unreadable(path, &why));
        }
        let ours = known.iter().find(|migration| migration.version() == version);
        let is_ours = ours.is_some_and(|ours| ours.name() == name && ours.checksum().to_string() == checksum);
        // The library that migrates panics on a time that it can't parse.
        if version != schema + 1 || !is_ours || applied_on.parse::<Timestamp>().is_err() {
            return Err(unreadable(path, &format!("its schema is not what this version knows as schema {version}")));
        }
        schema = version;
    }
    if schema == 0 { Err(unreadable(path, "it says nothing of its schema")) } else { Ok(schema) }
}

/// The last migration's number; they are 1, 2, 3, … without a gap.
fn newest_schema() -> i32 {
    migrations::migrations::runner().get_migrations().iter().map(refinery::Migration::version).max().unwrap_or(0)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), LedgerError> {
    let migrated = migrations::migrations::runner().set_grouped(true).run(connection);
    migrated.map(drop).map_err(|error| LedgerError::Io { path: path.to_owned(), attempt: "cannot migrate", source: error.into() })
}

/// Hands over all records in order, each checked: no gap, time never goes back, the digest is right, the body is understood.
fn walk(connection: &Connection, path: &Path, each: &mut dyn FnMut(Record)) -> Result<End, LedgerError> {
    let reading = |error| when_reading(path, error);
    let mut statement = connection.prepare("SELECT seq, at, service, kind, body, digest FROM record ORDER BY seq").map_err(reading)?;
    let mut rows = statement.query([]).map_err(reading)?;
    let mut end = End::NOTHING;
    while let Some(row) = rows.next().map_err(reading)? {
        let found: i64 = row.get(0).map_err(reading)?;
        let (record, next) = read(&end, row).map_err(reading)?.map_err(|why| unreadable(path, &format!("record {found} {why}")))?;
        end = next;
        each(record);
    }
    Ok(end)
}

/// Reads one row; the inner error says what is wrong with it, without quoting it.
fn read(end: &End, row: &rusqlite::Row<'_>) -> Result<Result<(Record, End), String>, rusqlite::Error> {
    let seq: i64 = row.get(0)?;
    let at: String = row.get(1)?;
    let chained: Digest = row.get(5)?;
    let row = Row { service: row.get(2)?, kind: row.get(3)?, body: row.get(4)? };
    let due = end.seq + 1;
    if u64::try_from(seq) != Ok(due) {
        return Ok(Err(format!("stands where record {due} should be")));
    }
    let Ok(at) = at.parse::<Timestamp>() else {
        return Ok(Err("has no time".to_owned()));
    };
    let next = end.then(at, &row);
    if next.at != at {
        return Ok(Err("is earlier than the one before".to_owned()));
    }
    if next.digest != chained {
        return Ok(Err("is not what was written: its digest is wrong".to_owned()));
    }
    let Some(entry) = decode(&row.body) else {
        return Ok(Err(format!("is not understood: `{}`, probably by a newer version", row.kind)));
    };
    Ok(Ok((Record { seq: next.seq, at, entry }, next)))
}

fn unreadable(path: &Path, why: &str) -> LedgerError {
    LedgerError::Unreadable { path: path.to_owned(), why: why.to_owned() }
}

/// What an error of SQLite means while nothing has been written: unless the system failed, it is the content.
fn when_reading(path: &Path, error: rusqlite::Error) -> LedgerError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::InUse { path, holder: "unknown".to_owned() },
        Some(
            ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::OutOfMemory,
        ) => LedgerError::Io { path, attempt: "cannot read", source: error.into() },
        Some(ErrorCode::DiskFull) => LedgerError::Full { path },
        _ => LedgerError::Unreadable { path, why: error.to_string() },
    }
}

fn when_writing(path: &Path, error: rusqlite::Error) -> LedgerError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => LedgerError::Full { path },
        _ => LedgerError::Io { path, attempt: "cannot write to", source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;
    use crate::ledger::contract::{at, delivered, replayed};

    type Files = BTreeMap<String, Vec<u8>>;

    fn directory() -> TempDir {
        tempfile::tempdir().expect("a directory")
    }

    /// Everything of the ledger that lies in a directory; an empty log is as good as none.
    fn files(directory: &Path) -> Files {
        let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry"));
        let named =
            entries.map(|entry| (entry.file_name().into_string().expect("a plain name"), std::fs::read(entry.path()).expect("read")));
        named.filter(|(name, content)| name != "ledger.lock" && !(name == "ledger.sqlite3-wal" && content.is_empty())).collect()
    }

    fn with(files: &Files) -> TempDir {
        let directory = directory();
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).expect("written");
        }
        directory
    }

    /// A ledger of a few records, closed, and what it holds.
    fn closed() -> (Files, Vec<Record>) {
        let directory = directory();
        let mut ledger = Sqlite::open(directory.path()).expect("opens");
        for number in 0..4 {
            ledger.append(at(number), vec![delivered(7), delivered(8)]).expect("appends");
        }
        let records = replayed(&mut ledger);
        drop(ledger);
        (files(directory.path()), records)
    }

    /// The same, as a killed process leaves it: the newest records are in the log only.
    fn killed() -> (Files, Vec<Record>) {
        let (files_before, _) = closed();
        let directory = with(&files_before);
        let mut ledger = Sqlite::open(directory.path()).expect("opens");
        for number in 4..8 {
            ledger.append(at(number), vec![delivered(9), delivered(10)]).expect("appends");
        }
        (files(directory.path()), replayed(&mut ledger))
    }

    /// The file of a closed ledger, after a person did something to it.
    fn altered(sql: &str) -> Files {
        let directory = with(&closed().0);
        let connection = Connection::open(directory.path().join("ledger.sqlite3")).expect("opens");
        connection.execute_batch(sql).expect("is done");
        connection.close().expect("closes");
        files(directory.path())
    }

    fn one(content: &[u8]) -> Files {
        Files::from([("ledger.sqlite3".to_owned(), content.to_vec())])
    }

    /// Asserts that the ledger is refused for this reason and left as it was.
    fn assert_refused(before: &Files, reason: &str) {
        let directory = with(before);
        match Sqlite::open(directory.path()) {
            Err(LedgerError::Unreadable { why, .. }) => assert!(why.contains(reason), "refused because {why}, not because {reason}"),
            other => panic!("expected a refusal because {reason}, got {other:?}"),
        }
        assert_eq!(&files(directory.path()), before, "refused because {reason}, but changed");
    }

    #[test]
    fn a_file_that_is_no_ledger_is_refused_and_left_as_it_was() {
        let whole = &closed().0["ledger.sqlite3"];
        assert_refused(&one(b"#!/bin/sh\necho this is a script\n"), "not a SQLite database");
        assert_refused(&one(&[0; 8192]), "not a SQLite database");
        assert_refused(&one(&whole[..99]), "not a SQLite database");
        assert_refused(&one(&whole[..100]), "");
        for pages in 1..whole.len() / 4096 {
            assert_refused(&one(&whole[..pages * 4096]), "");
            assert_refused(&one(&whole[..pages * 4096 + 17]), "");
        }
        assert_refused(&altered("PRAGMA application_id = 1"), "another application");
        assert_refused(&altered("PRAGMA journal_mode = DELETE"), "not in WAL mode");
    }

    #[test]
    fn a_ledger_of_a_newer_version_is_refused_and_left_as_it_was() {
        let newer = "INSERT INTO refinery_schema_history SELECT 2, 'later', applied_on, checksum FROM refinery_schema_history";
        assert_refused(&altered(newer), "a newer version wrote it (schema 2, this one knows 1)");
        assert_refused(&altered("UPDATE refinery_schema_history SET checksum = '1'"), "not what this version knows as schema 1");
        assert_refused(&altered("UPDATE refinery_schema_history SET applied_on = 'once'"), "not what this version knows as schema 1");
        assert_refused(&altered("DELETE FROM refinery_schema_history"), "says nothing of its schema");
        assert_refused(&altered("DROP TABLE refinery_schema_history"), "no such table");
    }

    /// A row that is chained rightly, with a body that this version may not understand.
    fn with_last_body(kind: &str, body: &str) -> Files {
        let directory = with(&closed().0);
        let row = Row { service: None, kind: kind.to_owned(), body: body.to_owned() };
        Sqlite::open(directory.path()).expect("opens").write(at(9), &[row]).expect("writes");
        files(directory.path())
    }

    #[test]
    fn an_entry_that_is_not_understood_is_named_and_never_quoted() {
        assert_refused(&with_last_body("moon_seen", r#"{"moon_seen":{"phase":"full"}}"#), "record 9 is not understood: `moon_seen`");
        let secret = with_last_body("held", r#"{"held":"hunter2"}"#);
        assert_refused(&secret, "record 9 is not understood: `held`");
        let error = Sqlite::open(with(&secret).path()).expect_err("refused");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn records_that_were_changed_are_told() {
        assert_refused(&altered("DELETE FROM record WHERE seq = 3"), "record 4 stands where record 3 should be");
        assert_refused(&altered("DELETE FROM record WHERE seq = 1"), "record 2 stands where record 1 should be");
        assert_refused(&altered("UPDATE record SET body = replace(body, '7', '6') WHERE seq = 5"), "record 5 is not what was written");
        assert_refused(&altered("UPDATE record SET service = 'other' WHERE seq = 5"), "record 5 is not what was written");
        assert_refused(&altered("UPDATE record SET at = '1960-01-01T00:00:00Z' WHERE seq = 5"), "record 5 is earlier");
        assert_refused(&altered("UPDATE record SET at = 'noon' WHERE seq = 5"), "record 5 has no time");
    }

    /// Opens a damaged ledger, and asserts that it is either refused and left alone, or holds a beginning of `records`, of at least so many.
    fn assert_refused_or_true(damaged: &Files, records: &[Record], at_least: usize, damage: &str) -> bool {
        let directory = with(damaged);
        match Sqlite::open(directory.path()) {
            Ok(mut ledger) => {
                let found = replayed(&mut ledger);
                assert!(records.starts_with(&found), "{damage}: records that nobody wrote");
                assert!(found.len() >= at_least, "{damage}: {} records are left of {}", found.len(), records.len());
                false
            }
            Err(LedgerError::Unreadable { .. }) => {
                assert_eq!(&files(directory.path()), damaged, "{damage}: refused, but changed");
                true
            }
            Err(other) => panic!("{damage}: {other:?}"),
        }
    }

    #[test]
    fn a_flipped_bit_is_found_or_harms_no_record() {
        let (whole, records) = closed();
        let size = whole["ledger.sqlite3"].len();
        let mut found = 0;
        for byte in (0..size).step_by(47).chain(0..100) {
            let mut damaged = whole.clone();
            damaged.get_mut("ledger.sqlite3").expect("is there")[byte] ^= 1 << (byte % 8);
            found += u32::from(assert_refused_or_true(&damaged, &records, records.len(), &format!("byte {byte}")));
        }
        assert!(found > 40, "only {found} flips were found");
    }

    #[test]
    fn a_log_that_was_cut_off_or_damaged_leaves_a_true_beginning() {
        let (whole, records) = killed();
        let log = &whole["ledger.sqlite3-wal"];
        assert_eq!(records.len(), 16);
        for cut in (0..=log.len()).step_by(1013) {
            let mut torn = whole.clone();
            torn.get_mut("ledger.sqlite3-wal").expect("is there").truncate(cut);
            torn.retain(|_, content| !content.is_empty());
            assert!(!assert_refused_or_true(&torn, &records, 8, &format!("cut off at {cut}")), "a torn log is what a crash leaves");
            let mut flipped = whole.clone();
            if let Some(byte) = flipped.get_mut("ledger.sqlite3-wal").and_then(|log| log.get_mut(cut)) {
                *byte ^= 0x10;
            }
            assert_refused_or_true(&flipped, &records, 8, &format!("log byte {cut}"));
        }
        assert!(!assert_refused_or_true(&whole, &records, 16, "nothing"), "an undamaged ledger was refused");
    }

    #[test]
    fn an_empty_file_has_never_been_a_ledger() {
        let directory = with(&one(b""));
        let mut ledger = Sqlite::open(directory.path()).expect("begins");
        assert_eq!(replayed(&mut ledger), []);
    }

    #[test]
    fn a_log_without_its_ledger_is_not_thrown_away() {
        let (mut orphaned, _) = killed();
        orphaned.insert("ledger.sqlite3".to_owned(), Vec::new());
        assert_refused(&orphaned, "the log of its newest writes is there");
        orphaned.remove("ledger.sqlite3");
        assert_refused(&orphaned, "the log of its newest writes is there");
    }

    #[test]
    fn half_a_beginning_is_begun_anew() {
        let directory = with(&Files::from([
            ("ledger.sqlite3.new".to_owned(), b"half".to_vec()),
            ("ledger.sqlite3.new-journal".to_owned(), b"half".to_vec()),
        ]));
        Sqlite::open(directory.path()).expect("begins");
        assert!(!directory.path().join("ledger.sqlite3.new").exists());
    }

    #[test]
    fn only_its_owner_can_read_it() {
        let outer = directory();
        let state = outer.path().join("state");
        let mut ledger = Sqlite::open(&state).expect("begins");
        ledger.append(at(0), vec![delivered(1)]).expect("appends");
        let mode = |path: &Path| path.metadata().expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode(&state), 0o700);
        for name in ["ledger.sqlite3", "ledger.sqlite3-wal", "ledger.lock"] {
            assert_eq!(mode(&state.join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn a_second_daemon_is_told_who_has_it() {
        let directory = directory();
        let ledger = Sqlite::open(directory.path()).expect("begins");
        match Sqlite::open(directory.path()) {
            Err(LedgerError::InUse { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
            other => panic!("expected a refusal, got {other:?}"),
        }
        drop(ledger);
        Sqlite::open(directory.path()).expect("is free again");
    }

    #[test]
    fn another_program_on_the_host_can_not_touch_an_open_ledger() {
        let directory = directory();
        let _ledger = Sqlite::open(directory.path()).expect("begins");
        let other = Connection::open(directory.path().join("ledger.sqlite3")).expect("opens");
        other.busy_timeout(Duration::ZERO).expect("set");
        let error = other.query_row("SELECT count(*) FROM record", [], |row| row.get::<_, i64>(0)).expect_err("locked");
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    }

    #[test]
    fn every_commit_is_synchronous_and_the_schema_is_not_trusted() {
        let directory = directory();
        let ledger = Sqlite::open(directory.path()).expect("begins");
        let setting = |name| ledger.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).expect("asked");
        let settings = ["synchronous", "trusted_schema", "cell_size_check", "foreign_keys"].map(setting);
        assert_eq!(settings, [2, 0, 1, 1]);
        let mode: String = ledger.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("asked");
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_full_disk_changes_nothing_and_is_written_again_once_there_is_room() {
        let directory = directory();
        let mut ledger = Sqlite::open(directory.path()).expect("begins");
        ledger.append(at(0), vec![delivered(1)]).expect("appends");
        ledger.connection.pragma_update_and_check(None, "max_page_count", 8, |_| Ok(())).expect("set");
        let large = || Entry::LedgerBegun { ledger: "x".repeat(40_000) };
        assert!(matches!(ledger.append(at(1), vec![delivered(2), large()]), Err(LedgerError::Full { .. })));
        assert_eq!(replayed(&mut ledger).len(), 1);
        ledger.append(at(1), vec![delivered(2)]).expect("a small one has room");
        ledger.connection.pragma_update_and_check(None, "max_page_count", 1000, |_| Ok(())).expect("set");
        ledger.append(at(1), vec![large()]).expect("there is room again");
        drop(ledger);
        assert_eq!(replayed(&mut Sqlite::open(directory.path()).expect("opens")).len(), 3);
    }

    #[test]
    fn a_ledger_that_was_taken_away_is_not_written_to() {
        let directory = directory();
        let mut ledger = Sqlite::open(directory.path()).expect("begins");
        ledger.append(at(0), vec![delivered(1)]).expect("appends");
        std::fs::rename(directory.path().join("ledger.sqlite3"), directory.path().join("elsewhere")).expect("renamed");
        for _ in 0..2 {
            let refused = ledger.append(at(1), vec![delivered(2)]);
            assert!(matches!(refused, Err(LedgerError::Io { attempt: "cannot write to", .. })), "{refused:?}");
        }
    }

    /// Run by hand, in a mount namespace of its own: `unshare --mount sh -c 'mount -t tmpfs -o size=2m none DIR && …'`.
    #[test]
    #[ignore = "wants ROLLBACKD_TEST_SMALL_DISK, a directory on a disk of about 2 MiB"]
    fn a_disk_that_is_really_full_changes_nothing() {
        let small = PathBuf::from(std::env::var_os("ROLLBACKD_TEST_SMALL_DISK").expect("says where"));
        let state = small.join("state");
        std::fs::write(small.join("ballast"), vec![0; 256 * 1024]).expect("there is room");
        let mut ledger = Sqlite::open(&state).expect("begins");
        let entry = || Entry::LedgerBegun { ledger: "x".repeat(10_000) };
        let mut appended = 0;
        let full = loop {
            match ledger.append(at(0), vec![entry(), entry()]) {
                Ok(records) => appended += records.len(),
                Err(error) => break error,
            }
            assert!(appended < 1000, "the disk is not small");
        };
        assert!(matches!(full, LedgerError::Full { .. }), "{full:?}");
        assert_eq!(replayed(&mut ledger).len(), appended);
        drop(ledger);
        let mut ledger = Sqlite::open(&state).expect("opens on a full disk");
        assert_eq!(replayed(&mut ledger).len(), appended);
        std::fs::remove_file(small.join("ballast")).expect("removed");
        ledger.append(at(0), vec![entry(), entry()]).expect("there is room again");
        drop(ledger);
        assert_eq!(replayed(&mut Sqlite::open(&state).expect("opens")).len(), appended + 2);
    }

    /// Not a promise but a measurement: `cargo test ledger::sqlite::tests::how_long -- --ignored --nocapture`.
    #[test]
    #[ignore = "measures, takes a minute"]
    fn how_long_a_commit_and_an_opening_take() {
        let directory = directory();
        let mut ledger = Sqlite::open(directory.path()).expect("begins");
        let mut commits: Vec<Duration> = (0..2000)
            .map(|number| {
                let began = std::time::Instant::now();
                ledger.append(at(0), vec![delivered(number)]).expect("appends");
                began.elapsed()
            })
            .collect();
        commits.sort_unstable();
        for _ in 0..98 {
            let entries = (0..1000).map(|number| Entry::LedgerBegun { ledger: format!("{number:0500}") }).collect();
            ledger.append(at(0), entries).expect("appends");
        }
        drop(ledger);
        let began = std::time::Instant::now();
        let mut ledger = Sqlite::open(directory.path()).expect("opens");
        let opened = began.elapsed();
        let began = std::time::Instant::now();
        let records = replayed(&mut ledger).len();
        let replayed = began.elapsed();
        println!("commit p50 {:?} p99 {:?}; {records} records: open {opened:?}, replay {replayed:?}", commits[1000], commits[1980]);
        assert_eq!(records, 100_000);
    }
}
