//! The local socket: HTTP/1.1 on a Unix socket, for the command line and for tools on the same host. Who may ask is who may open the file
//! (mode 0660); who asked is the user at the other end, by the kernel's word. It changes nothing itself: it hands commands to the daemon.
//!
//! `POST /v1/command`: a [`Command`] as JSON, answered with an [`Answer`] as JSON (200, or 409 refused, 404 unknown, 500 not recorded).
//! `GET /v1/livez`: 200 while the daemon's loop turns. Anything else that goes wrong is `{"error": "…"}`.

use std::error::Error as _;
use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::Actor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::daemon::Handle;

mod peer;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Somebody answers there already.
    #[error("the socket {} is in use by process {holder}, probably another daemon", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The process's number, or `unknown`.
        holder: String,
    },
    /// There is something else, which is left alone.
    #[error("{} is not a socket, so it is left alone and nothing can listen there", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot {attempt} the socket {}", path.display())]
    Io {
        /// `look at`, `create`, …
        attempt: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Connections at once; more wait in the kernel's queue. Far more than people at keyboards.
const CONNECTIONS: usize = 64;
/// The largest request: a command is a few hundred bytes.
const BODY_LIMIT: usize = 64 * 1024;
/// The longest text in a command, in bytes. It stays in the ledger for ever and goes out in notices.
const TEXT_LIMIT: usize = 1000;
/// The most rows of a history.
const ROWS_LIMIT: usize = 1000;
/// How long the head of a request may take.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long the daemon may take to answer. A write to the ledger takes milliseconds; the command line waits for 10 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// How long a whole connection may take; each carries one request.
const CONNECTION_LIMIT: Duration = Duration::from_secs(20);
/// How long open connections may hold up the end.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(1);
/// How often it is looked whether the socket still has its name: one `lstat`.
const NAME_LOOK: Duration = Duration::from_secs(2);

/// A socket that is listened on. Its file goes when it is dropped.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's file, to be removed as long as it is ours: device and inode.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn is_in_place(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// Listens at `socket` and answers until `shutdown`.
///
/// # Errors
/// When nothing can listen there.
pub async fn serve(socket: &Path, handle: Handle, shutdown: CancellationToken) -> Result<(), ApiError> {
    Listening::open(socket).await?.serve(handle, shutdown).await;
    Ok(())
}

impl Listening {
    /// Begins to listen. A socket file that nobody listens on any more is replaced; one that somebody else makes meanwhile is theirs.
    ///
    /// # Errors
    /// When somebody answers there, when the file is no socket, or when it can't be made.
    pub async fn open(path: &Path) -> Result<Self, ApiError> {
        let deserted = look_for_somebody(path).await?;
        let failed = |source| ApiError::Io { attempt: "create", path: path.to_owned(), source };
        // It gets its mode before it gets its name, so that nobody else ever finds it open.
        let unnamed = path.with_extension("new");
        let _ = std::fs::remove_file(&unnamed);
        let listener = UnixListener::bind(&unnamed).map_err(failed)?;
        let named = std::fs::set_permissions(&unnamed, Permissions::from_mode(0o660))
            .and_then(|()| std::fs::symlink_metadata(&unnamed))
            .and_then(|metadata| {
                drop(deserted);
                // Unlike a new name, a second one never takes the place of anything.
                std::fs::hard_link(&unnamed, path).map(|()| metadata)
            });
        let _ = std::fs::remove_file(&unnamed);
        let file = SocketFile { path: path.to_owned(), identity: identity(&named.map_err(failed)?) };
        Ok(Self { listener, file })
    }

    /// Answers until `shutdown`, and at most a second longer. A socket whose file is removed meanwhile is made anew.
    pub async fn serve(mut self, handle: Handle, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut name_look = interval(NAME_LOOK);
        name_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                _ = name_look.tick() => self.renew(&mut told).await,
                (stream, place) = self.accept(&places) => {
                    connections.spawn(connection(stream, place, handle.clone()));
                }
            }
        }
        let all_over = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(END_LIMIT, all_over).await;
    }

    /// Makes the socket anew where its file is gone. `told` is what was said last of why that can't be done, so that it is said once.
    async fn renew(&mut self, told: &mut Option<String>) {
        if self.file.is_in_place() {
            return;
        }
        let path = self.file.path.clone();
        match Self::open(&path).await {
            Ok(anew) => {
                tracing::warn!(path = %path.display(), "the file of the local socket was removed; it was made anew");
                *self = anew;
                *told = None;
            }
            Err(error) => {
                let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
                if told.as_ref() != Some(&why) {
                    tracing::error!(%why, "the local socket is not ours any more, so no command reaches this daemon; looking again");
                    *told = Some(why);
                }
            }
        }
    }

    async fn accept(&self, places: &Arc<Semaphore>) -> (UnixStream, OwnedSemaphorePermit) {
        loop {
            let place = Arc::clone(places).acquire_owned().await.expect("nobody closes the semaphore");
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, place),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the local socket");
                    sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }
}

/// Makes sure that nobody answers at a path. Returns the file that they left, if there is one; it goes when it is dropped.
async fn look_for_somebody(path: &Path) -> Result<Option<SocketFile>, ApiError> {
    let failed = |source| ApiError::Io { attempt: "look at", path: path.to_owned(), source };
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ApiError::NotASocket { path: path.to_owned() }),
        Ok(found) => found,
    };
    let in_use = |holder| Err(ApiError::InUse { path: path.to_owned(), holder });
    match timeout(Duration::from_secs(1), UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Ok(Some(SocketFile { path: path.to_owned(), identity: identity(&found) }))
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(Err(error)) => Err(failed(error)),
        Ok(Ok(stream)) => in_use(peer::process(&stream)),
        // Somebody listens who is too busy to accept.
        Err(_) => in_use("unknown".to_owned()),
    }
}

async fn connection(stream: UnixStream, place: OwnedSemaphorePermit, handle: Handle) {
    let actor = match stream.peer_cred() {
        Ok(credentials) => peer::actor(credentials.uid()),
        Err(error) => {
            tracing::warn!(%error, "cannot tell who is at the other end of the local socket, so they get no answer");
            return;
        }
    };
    converse(stream, router(Desk { handle, actor })).await;
    drop(place);
}

/// Speaks HTTP/1.1 over one connection: one request, with a limit on everything but its body.
pub(crate) async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(BODY_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION_LIMIT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection broke"),
        Err(_) => tracing::debug!("a connection took too long"),
    }
}

/// The daemon, and who speaks to it.
#[derive(Clone)]
struct Desk {
    handle: Handle,
    actor: Actor,
}

fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/command", post(command))
        .route("/v1/livez", get(livez))
        .fallback(|| async { error(StatusCode::NOT_FOUND, "there is only POST /v1/command and GET /v1/livez") })
        .method_not_allowed_fallback(|| async { error(StatusCode::METHOD_NOT_ALLOWED, "there is only POST /v1/command and GET /v1/livez") })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(desk)
}

async fn command(State(desk): State<Desk>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return error(rejection.status(), &rejection.body_text()),
    };
    let command: Command = match serde_json::from_slice(&body) {
        Ok(command) => command,
        Err(why) => return error(StatusCode::BAD_REQUEST, &format!("the command can't be read: {why}")),
    };
    if let Some(objection) = objection(&command) {
        return error(StatusCode::BAD_REQUEST, &objection);
    }
    tracing::debug!(by = %desk.actor, ?command, "asked");
    match timeout(ANSWER_LIMIT, desk.handle.ask(command, desk.actor)).await {
        Ok(Some(answer)) => (status(&answer), Json(answer)).into_response(),
        Ok(None) => error(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending"),
        Err(_) => error(StatusCode::GATEWAY_TIMEOUT, "the daemon is too busy to answer; what was asked may still be done"),
    }
}

/// The question that costs least; that it is answered proves that the loop turns.
async fn livez(State(desk): State<Desk>) -> Response {
    let question = Command::History { service: None, environment: None, limit: 0 };
    match timeout(ANSWER_LIMIT, desk.handle.ask(question, desk.actor)).await {
        Ok(Some(_)) => Json(serde_json::json!({ "live": true })).into_response(),
        Ok(None) | Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "the daemon's loop does not turn"),
    }
}

const fn status(answer: &Answer) -> StatusCode {
    match answer {
        Answer::Status(_)
        | Answer::History(_)
        | Answer::Explanation(_)
        | Answer::Planned { .. }
        | Answer::Declared { .. }
        | Answer::Done(_) => StatusCode::OK,
        Answer::Refused { .. } => StatusCode::CONFLICT,
        Answer::Unknown(_) => StatusCode::NOT_FOUND,
        Answer::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub(crate) fn error(status: StatusCode, words: &str) -> Response {
    (status, Json(serde_json::json!({ "error": words }))).into_response()
}

/// What is too large in a command, if anything is.
fn objection(command: &Command) -> Option<String> {
    let texts: Vec<(&str, &str)> = match command {
        Command::Status { .. } | Command::Explain { .. } | Command::Deployed { .. } | Command::Resume { .. } => Vec::new(),
        Command::History { limit, .. } if *limit > ROWS_LIMIT => return Some(format!("a history has at most {ROWS_LIMIT} rows")),
        Command::History { environment, .. } => environment.iter().map(|text| ("environment", text.as_str())).collect(),
        Command::Rollback { to, reason, .. } => {
            [("reason", reason.as_str())].into_iter().chain(to.iter().map(|text| ("version", text.as_str()))).collect()
        }
        Command::Hold { reason, .. } | Command::Declare { reason, .. } | Command::Answer { reason, .. } => vec![("reason", reason)],
        Command::Mark { version, reason, .. } => vec![("version", version), ("reason", reason)],
    };
    let (name, _) = texts.into_iter().find(|(_, text)| text.len() > TEXT_LIMIT)?;
    Some(format!("the {name} is longer than {TEXT_LIMIT} bytes"))
}

#[cfg(test)]
mod tests;
