//! What was fetched of the past, kept in a file of its own: `history.db` in the state directory, one row for each signal and whole hour. It
//! is no ledger: who loses it loses the time to fetch it again. So nothing here ever fails: what can't be read is not known, what can't be
//! written is not kept, and a file that is broken or of another program is set aside and begun anew.

use std::collections::BTreeMap;
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rollbackd_core::past::Hour;
use rusqlite::{Connection, ErrorCode, params};
use sha2::{Digest as _, Sha256};

/// What a signal's past is known by: a hash of what its source calls it, and of its cadence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PastId([u8; 16]);

impl PastId {
    /// Equal for signals that ask for the same.
    #[must_use]
    pub fn new(of_source: &str, every: jiff::SignedDuration) -> Self {
        let digest = Sha256::new().chain_update(every.as_nanos().to_be_bytes()).chain_update(of_source).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

/// An hour as `Past::encode` gives it.
pub type Kept = (Hour, Vec<u8>);

/// Where hours are kept. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Place);

type Hours = BTreeMap<(Hour, PastId), Vec<u8>>;

#[derive(Clone, Debug)]
enum Place {
    Memory(Arc<Mutex<Hours>>),
    File(Arc<HistoryFile>),
}

/// Hours that are kept in memory: a day of forty signals.
const MOST_IN_MEMORY: usize = 1000;

/// In memory only.
impl Default for Store {
    fn default() -> Self {
        Self(Place::Memory(Arc::default()))
    }
}

impl Store {
    /// In a directory, which need not be there before something is kept.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self(Place::File(Arc::new(HistoryFile { path: directory.join("history.db"), open: Mutex::default() })))
    }

    /// Those of the hours of a signal that are kept, oldest first.
    pub async fn find(&self, id: PastId, hours: &[Hour]) -> Vec<Kept> {
        let Some((first, last)) = hours.iter().min().zip(hours.iter().max()) else { return Vec::new() };
        let (first, last) = (*first, *last);
        let mut found = match &self.0 {
            Place::Memory(memory) => {
                let memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                let of_signal = memory.iter().filter(|((_, signal), _)| *signal == id);
                of_signal.map(|((hour, _), counted)| (*hour, counted.clone())).collect()
            }
            Place::File(file) => on_its_own_thread(file, move |file| file.find(id, first, last)).await,
        };
        found.retain(|(hour, _)| hours.contains(hour));
        found
    }

    /// Keeps hours of a signal. `now` says which ones are so old that nobody asks for them any more. False when they were not kept.
    pub async fn keep(&self, id: PastId, hours: Vec<Kept>, now: Timestamp) -> bool {
        match &self.0 {
            Place::Memory(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.extend(hours.into_iter().map(|(hour, counted)| ((hour, id), counted)));
                while memory.len() > MOST_IN_MEMORY {
                    memory.pop_first();
                }
                true
            }
            Place::File(file) => on_its_own_thread(file, move |file| file.keep(id, &hours, now)).await,
        }
    }
}

/// A disk may be slow, and who waits for it must not keep others waiting.
async fn on_its_own_thread<T: Default + Send + 'static>(
    file: &Arc<HistoryFile>,
    ask: impl FnOnce(&HistoryFile) -> T + Send + 'static,
) -> T {
    let file = Arc::clone(file);
    tokio::task::spawn_blocking(move || ask(&file)).await.unwrap_or_default()
}

/// `RBKH`: not the ledger, nor any other file.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"RBKH");

/// What stands in the file; another form is another number, and what was kept in the old one is begun anew.
const FORM: i32 = 1;

const SCHEMA: &str = "
    CREATE TABLE hour (
        hour INTEGER NOT NULL,
        signal BLOB NOT NULL,
        counted BLOB NOT NULL,
        UNIQUE (signal, hour)
    ) STRICT;
    CREATE INDEX by_age ON hour (hour);
";

/// A week is asked for at most.
const OLDEST_IN_HOURS: i64 = 8 * 24;

/// The file is never larger than 256 MiB: a day of more than five thousand signals.
const MOST_PAGES: u32 = 256 * 1024 / 4;

/// Of a file that is full so many of the oldest hours go at once.
const MAKE_ROOM: u32 = 4096;

/// How long a person with `sqlite3` may keep the file busy.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The file, opened when it is first asked for.
#[derive(Debug)]
struct HistoryFile {
    path: PathBuf,
    open: Mutex<Option<Connection>>,
}

impl HistoryFile {
    fn find(&self, id: PastId, first: Hour, last: Hour) -> Vec<Kept> {
        let found = self.with("cannot read", |connection| {
            let mut statement =
                connection.prepare_cached("SELECT hour, counted FROM hour WHERE signal = ?1 AND hour BETWEEN ?2 AND ?3 ORDER BY hour")?;
            let rows = statement.query_map(params![id.0, first.number(), last.number()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<(i64, Vec<u8>)>, _>>()
        });
        let hour = |(hour, counted)| Some((Hour::from_number(hour)?, counted));
        found.unwrap_or_default().into_iter().filter_map(hour).collect()
    }

    fn keep(&self, id: PastId, hours: &[Kept], now: Timestamp) -> bool {
        let write = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM hour WHERE hour < ?1", [Hour::of(now).number() - OLDEST_IN_HOURS])?;
            let mut statement = transaction.prepare_cached("INSERT OR REPLACE INTO hour (hour, signal, counted) VALUES (?1, ?2, ?3)")?;
            for (hour, counted) in hours {
                statement.execute(params![hour.number(), id.0, counted])?;
            }
            drop(statement);
            transaction.commit()
        };
        let written = self.with("cannot write to", |connection| match write(connection) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                connection.execute("DELETE FROM hour WHERE rowid IN (SELECT rowid FROM hour ORDER BY hour LIMIT ?1)", [MAKE_ROOM])?;
                write(connection)
            }
            written => written,
        });
        written.is_some()
    }

    /// Does something with the file. A file that turns out to be broken is set aside, and the next one who asks begins anew.
    fn with<T>(&self, attempt: &str, ask: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error>) -> Option<T> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path.display();
        if open.is_none() {
            match self.connect() {
                Ok(connection) => *open = Some(connection),
                Err(error) => {
                    tracing::warn!(%path, %error, "cannot open what was kept of the past, it is fetched again");
                    return None;
                }
            }
        }
        match ask(open.as_mut()?) {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::warn!(%path, %error, "{attempt} what is kept of the past, it is fetched again");
                *open = None;
                if is_broken(&error) {
                    self.set_aside();
                }
                None
            }
        }
    }

    fn connect(&self) -> Result<Connection, rusqlite::Error> {
        match self.open() {
            Err(error) if is_broken(&error) => {
                self.set_aside();
                self.open()
            }
            opened => opened,
        }
    }

    fn open(&self) -> Result<Connection, rusqlite::Error> {
        self.make_private();
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        if tables > 0 && (number("application_id")?, number("user_version")?) != (APPLICATION_ID, FORM) {
            return Err(foreign());
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", 4 * 1024 * 1024)?;
        connection.pragma_update(None, "max_page_count", MOST_PAGES)?;
        // Half a megabyte: it is read once for each deployment.
        connection.pragma_update(None, "cache_size", -512)?;
        if tables == 0 {
            connection.execute_batch(&format!(
                "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORM}; {SCHEMA} COMMIT;"
            ))?;
        }
        Ok(connection)
    }

    /// What a service does is nobody else's business, as in the ledger. Where that can't be had the past is kept all the same.
    fn make_private(&self) {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path);
        let narrowed = file.and_then(|file| file.set_permissions(Permissions::from_mode(0o600)));
        if let Err(error) = narrowed {
            tracing::debug!(path = %self.path.display(), %error, "cannot narrow who may read what is kept of the past");
        }
    }

    /// The newest broken one stays for whoever wants to look at it.
    fn set_aside(&self) {
        let aside = beside(&self.path, ".broken");
        tracing::warn!(path = %self.path.display(), aside = %aside.display(), "what was kept of the past is broken or of another program, it is set aside and begun anew");
        for suffix in ["", "-wal", "-shm"] {
            match std::fs::rename(beside(&self.path, suffix), beside(&aside, suffix)) {
                Err(error) if suffix.is_empty() => tracing::warn!(path = %self.path.display(), %error, "cannot set it aside"),
                _ => {}
            }
        }
    }
}

fn foreign() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB), Some("it is of another program".to_owned()))
}

fn is_broken(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn hour(number: i64) -> Hour {
        Hour::from_number(500_000 + number).unwrap()
    }

    fn id(name: &str) -> PastId {
        PastId::new(name, SignedDuration::from_secs(15))
    }

    fn now() -> Timestamp {
        hour(100).begin() + SignedDuration::from_mins(1)
    }

    async fn numbers(store: &Store, of: &str) -> Vec<i64> {
        let all: Vec<Hour> = (-300..200).map(hour).collect();
        store.find(id(of), &all).await.iter().map(|(hour, _)| hour.number() - 500_000).collect()
    }

    #[tokio::test]
    async fn what_is_kept_is_found_again_by_another_process_and_by_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let (first, memory) = (Store::in_directory(directory.path()), Store::default());
        for store in [&first, &memory] {
            assert!(store.keep(id("a"), vec![(hour(98), vec![1]), (hour(99), vec![2])], now()).await);
            assert!(store.keep(id("b"), vec![(hour(97), vec![3])], now()).await);
            assert!(store.keep(id("a"), vec![(hour(99), vec![4])], now()).await);
        }
        for store in [&first, &memory, &Store::in_directory(directory.path())] {
            assert_eq!(store.find(id("a"), &[hour(99), hour(1)]).await, [(hour(99), vec![4])]);
            assert_eq!(numbers(store, "a").await, [98, 99]);
            assert_eq!(numbers(store, "c").await, [0; 0]);
        }
    }

    #[tokio::test]
    async fn nothing_is_there_before_something_was_kept_or_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::in_directory(directory.path());
        assert!(!directory.path().join("history.db").exists());
        assert!(store.keep(id("a"), vec![(hour(99), vec![1])], now()).await);
        assert!(directory.path().join("history.db").exists());
    }

    #[tokio::test]
    async fn what_nobody_asks_for_any_more_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::in_directory(directory.path());
        store.keep(id("a"), vec![(hour(-92), vec![1]), (hour(-91), vec![1]), (hour(99), vec![1])], now()).await;
        store.keep(id("b"), vec![(hour(99), vec![1])], now() + SignedDuration::from_hours(1)).await;
        assert_eq!(numbers(&store, "a").await, [-91, 99]);
    }

    #[tokio::test]
    async fn a_broken_or_foreign_file_is_set_aside_and_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.db");
        let other = |path: &Path| {
            let other = Connection::open(path).unwrap();
            other.execute_batch("CREATE TABLE hour (mine TEXT); INSERT INTO hour VALUES ('precious');").unwrap();
        };
        let rubbish = |path: &Path| std::fs::write(path, "not a database at all, but long enough to be taken for one".repeat(99)).unwrap();
        for make in [&other as &dyn Fn(&Path), &rubbish] {
            let _ = std::fs::remove_file(&path);
            make(&path);
            let before = std::fs::read(&path).unwrap();
            let store = Store::in_directory(directory.path());
            assert!(store.keep(id("a"), vec![(hour(99), vec![1])], now()).await);
            assert_eq!(numbers(&store, "a").await, [99]);
            assert_eq!(std::fs::read(beside(&path, ".broken")).unwrap(), before);
        }
    }

    #[tokio::test]
    async fn a_file_that_breaks_in_use_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::in_directory(directory.path());
        let hours = |count: i64| (0..count).map(|number| (hour(number), vec![7; 4000])).collect::<Vec<_>>();
        assert!(store.keep(id("a"), hours(100), now()).await);
        // The file is checkpointed, closed, and a part of it is overwritten.
        let path = directory.path().join("history.db");
        let Place::File(file) = &store.0 else { panic!("it is in a file") };
        drop(file.open.lock().unwrap().take());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096..].fill(0x55);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(numbers(&store, "a").await, [0; 0]);
        assert!(store.keep(id("a"), hours(1), now()).await, "the next one begins anew");
        assert_eq!(numbers(&store, "a").await, [0]);
    }

    #[tokio::test]
    async fn a_full_file_forgets_its_oldest_hours() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::in_directory(directory.path());
        let hours = |from: i64| (from..from + 30).map(|number| (hour(number), vec![7; 3000])).collect::<Vec<_>>();
        assert!(store.keep(id("a"), hours(0), now()).await);
        let Place::File(file) = &store.0 else { panic!("it is in a file") };
        file.open.lock().unwrap().as_ref().unwrap().pragma_update(None, "max_page_count", 40).unwrap();
        assert!(store.keep(id("b"), hours(50), now()).await);
        assert_eq!(numbers(&store, "a").await, [0; 0]);
        assert_eq!(numbers(&store, "b").await.len(), 30);
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_keeps_nothing_and_breaks_nothing() {
        let store = Store::in_directory(Path::new("/nonexistent/state"));
        assert!(!store.keep(id("a"), vec![(hour(99), vec![1])], now()).await);
        assert_eq!(numbers(&store, "a").await, [0; 0]);
    }
}
