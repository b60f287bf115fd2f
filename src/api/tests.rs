//! Stories of the local socket, with a real daemon behind it that guards nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use jiff::Timestamp;
use rollbackd_core::alert::Rules;
use rollbackd_core::entry::{Entry, Record};
use rollbackd_core::guard::Limits;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::*;
use crate::daemon::{Daemon, Setup};
use crate::executor::Adapters;
use crate::ledger::{Ledger, LedgerError};

/// A ledger that only counts.
#[derive(Default)]
struct Counting(u64);

impl Ledger for Counting {
    fn replay(&mut self, _: &mut dyn FnMut(Record)) -> Result<(), LedgerError> {
        Ok(())
    }

    fn append(&mut self, at: Timestamp, entries: Vec<Entry>) -> Result<Vec<Record>, LedgerError> {
        let records = entries.into_iter().map(|entry| {
            self.0 += 1;
            Record { seq: self.0, at, entry }
        });
        Ok(records.collect())
    }
}

/// A daemon with its socket in a directory of its own.
struct World {
    directory: TempDir,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
    handle: Handle,
}

impl World {
    async fn begin() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let setup = Setup {
            policies: BTreeMap::new(),
            limits: Limits::default(),
            routes: BTreeMap::new(),
            alerts: Rules::default(),
            adapters: Adapters::default(),
        };
        let (daemon, handle) = Daemon::open(Box::<Counting>::default(), Timestamp::UNIX_EPOCH, "tester00", setup).unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(daemon.run(shutdown.clone(), || {}));
        let listening = Listening::open(&directory.path().join("socket")).await.unwrap();
        let server = tokio::spawn(listening.serve(handle.clone(), shutdown.clone()));
        Self { directory, shutdown, server, handle }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).await.unwrap()
    }

    /// Sends one request as it is, and returns status and body.
    async fn send(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let mut stream = self.connect().await;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: rollbackd\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(body).await;
        read_answer(&mut stream).await
    }

    async fn command(&self, command: &Value) -> (u16, Value) {
        self.send("POST", "/v1/command", command.to_string().as_bytes()).await
    }
}

async fn read_answer(stream: &mut UnixStream) -> (u16, Value) {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn who_paused_is_the_user_at_the_other_end() {
    let world = World::begin().await;
    let (status, answer) = world.command(&json!({ "hold": { "scope": "all", "reason": "move", "lasting": null } })).await;
    assert_eq!((status, answer), (200, json!({ "done": "automatic rollbacks of all services are paused until somebody resumes" })));
    let (_, answer) = world.command(&json!({ "status": { "service": null } })).await;
    let me = peer::actor(rustix::process::getuid().as_raw()).to_string();
    assert_eq!(answer["status"]["hold"]["by"], me);
    assert_eq!(answer["status"]["hold"]["reason"], "move");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_not_found() {
    let world = World::begin().await;
    let (status, answer) = world.command(&json!({ "status": { "service": "ghost" } })).await;
    assert_eq!(status, 404);
    assert!(answer["unknown"].as_str().unwrap().contains("ghost"), "{answer}");
    let (status, answer) = world.send("GET", "/v2/command", b"").await;
    assert_eq!(status, 404);
    assert!(answer["error"].is_string());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_command_is_refused_with_words() {
    let world = World::begin().await;
    let long = json!({ "hold": { "scope": "all", "reason": "x".repeat(1001), "lasting": null } }).to_string();
    let endless = json!({ "history": { "service": null, "environment": null, "limit": 1_000_000 } }).to_string();
    let bad_name = json!({ "status": { "service": "../etc" } }).to_string();
    for (body, expected) in [
        ("", "can't be read"),
        ("{", "can't be read"),
        ("{\"explode\":{}}", "explode"),
        (bad_name.as_str(), "../etc"),
        (long.as_str(), "reason is longer"),
        (endless.as_str(), "at most 1000 rows"),
    ] {
        let (status, answer) = world.send("POST", "/v1/command", body.as_bytes()).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["error"].as_str().unwrap().contains(expected), "{answer}");
    }
    let (status, answer) = world.send("GET", "/v1/command", b"").await;
    assert_eq!(status, 405, "{answer}");
    let (status, answer) = world.send("POST", "/v1/command", &vec![b' '; BODY_LIMIT + 1]).await;
    assert_eq!(status, 413, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn it_lives_as_long_as_the_loop_turns() {
    let world = World::begin().await;
    assert_eq!(world.send("GET", "/v1/livez", b"").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_has_ended_answers_nothing_as_if_it_were_true() {
    let world = World::begin().await;
    let socket = world.directory.path().join("second");
    let listening = Listening::open(&socket).await.unwrap();
    let handle = world.handle.clone();
    world.shutdown.cancel();
    world.server.await.unwrap();
    let second = tokio::spawn(listening.serve(handle, CancellationToken::new()));
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"GET /v1/livez HTTP/1.1\r\nHost: rollbackd\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut stream).await.0, 503);
    second.abort();
}

#[tokio::test(start_paused = true)]
async fn only_owner_and_group_may_open_the_socket_and_its_file_goes_with_the_daemon() {
    let world = World::begin().await;
    let mode = std::fs::metadata(world.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let idle = world.connect().await;
    let before = tokio::time::Instant::now();
    world.shutdown.cancel();
    world.server.await.unwrap();
    assert!(before.elapsed() <= END_LIMIT + Duration::from_millis(10), "{:?}", before.elapsed());
    assert_eq!(std::fs::read_dir(world.directory.path()).unwrap().count(), 0);
    drop(idle);
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listening = Listening::open(&path).await.unwrap();
    assert!(UnixStream::connect(&path).await.is_ok());
    drop(listening);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_somebody_listens_on_is_left_to_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let first = Listening::open(&path).await.unwrap();
    let error = Listening::open(&path).await.unwrap_err();
    assert!(matches!(error, ApiError::InUse { .. }), "{error}");
    let words = format!("the socket {} is in use by process {}", path.display(), std::process::id());
    assert!(error.to_string().starts_with(&words), "{error}");
    assert!(UnixStream::connect(&path).await.is_ok());
    drop(first);
}

/// Lets virtual time go on until the socket answers; fails after a minute of it.
async fn wait_until_it_answers(world: &World) {
    let before = tokio::time::Instant::now();
    while UnixStream::connect(world.socket()).await.is_err() {
        assert!(before.elapsed() < Duration::from_mins(1), "nobody answers at the socket");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_somebody_removes_is_made_anew_within_seconds() {
    let world = World::begin().await;
    for _ in 0..2 {
        std::fs::remove_file(world.socket()).unwrap();
        let before = tokio::time::Instant::now();
        wait_until_it_answers(&world).await;
        assert!(before.elapsed() <= NAME_LOOK + Duration::from_secs(1), "{:?}", before.elapsed());
        assert_eq!(world.send("GET", "/v1/livez", b"").await.0, 200);
        assert_eq!(std::fs::metadata(world.socket()).unwrap().permissions().mode() & 0o777, 0o660);
    }
    world.shutdown.cancel();
    world.server.await.unwrap();
    assert_eq!(std::fs::read_dir(world.directory.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_somebody_else_has_made_there_meanwhile_is_theirs_until_they_end() {
    let world = World::begin().await;
    std::fs::remove_file(world.socket()).unwrap();
    let theirs = UnixListener::bind(world.socket()).unwrap();
    sleep(NAME_LOOK * 3).await;
    let (_accepted, _client) = tokio::join!(theirs.accept(), world.connect());
    // They end and leave their file behind.
    drop(theirs);
    wait_until_it_answers(&world).await;
    assert_eq!(world.send("GET", "/v1/livez", b"").await.0, 200);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Listening::open(&path).await, Err(ApiError::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_socket_of_somebody_else_is_not_removed_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let first = Listening::open(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = Listening::open(&path).await.unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_cut_and_its_place_is_given_to_another() {
    let world = World::begin().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = world.connect().await;
        stream.write_all(b"POST /v1/comm").await.unwrap();
        silent.push(stream);
    }
    let before = tokio::time::Instant::now();
    assert_eq!(world.send("GET", "/v1/livez", b"").await.0, 200);
    assert!(before.elapsed() >= HEAD_LIMIT, "{:?}", before.elapsed());
    for stream in &mut silent {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_cut() {
    let world = World::begin().await;
    let mut stream = world.connect().await;
    stream.write_all(b"POST /v1/command HTTP/1.1\r\nHost: rollbackd\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
    let mut rest = Vec::new();
    let before = tokio::time::Instant::now();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    assert!(before.elapsed() <= CONNECTION_LIMIT + Duration::from_secs(1), "{:?}", before.elapsed());
}
