//! The one route on TCP: Alertmanager's webhook, `POST /v1/alerts`. Off until it is configured, and never without a token. It reads what is
//! delivered and hands it to the daemon; what an alert means is said in `rollbackd_core::alert`.
//!
//! 200 means that everything is taken down, or that nothing follows from it: what would not become better by being delivered again is never
//! an error. 401: no token, or another one. 413: too large. 400: no message of Alertmanager's. 5xx: not taken down; Alertmanager delivers
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rollbackd_core::alert::{Alert, Heard};
use sha2::Sha256;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::{END_LIMIT, converse, error};
use crate::daemon::Handle;
use crate::secret::{ExposeSecret as _, Secret};

mod message;

/// Where it listens, and who may speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address.
    pub listen: SocketAddr,
    /// The token that every request has to bear.
    pub token: Secret,
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for alerts at {listen}")]
pub struct ListenError {
    /// Where.
    pub listen: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Connections at once; more wait in the kernel's queue. An Alertmanager has one for each group of alerts.
const CONNECTIONS: usize = 64;
/// The largest message: 1 MiB, a thousand alerts of a thousand bytes.
const BODY_LIMIT: usize = 1024 * 1024;
/// How long the daemon may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// Reasons that are remembered, so that each is logged once.
const REMEMBERED: usize = 1000;
/// So many of what is ignored are listed in an answer.
const LISTED: usize = 20;

/// What listens for alerts.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    desk: Desk,
}

impl Listening {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn open(settings: &Settings) -> Result<Self, ListenError> {
        let failed = |source| ListenError { listen: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let desk = Desk { handle: None, token: settings.token.clone(), told: Arc::default() };
        Ok(Self { listener, desk })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `shutdown`, and at most a second longer.
    pub async fn serve(mut self, handle: Handle, shutdown: CancellationToken) {
        self.desk.handle = Some(handle);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                (stream, place) = self.accept(&places) => {
                    let router = router(self.desk.clone());
                    connections.spawn(async move {
                        converse(stream, router).await;
                        drop(place);
                    });
                }
            }
        }
        let all_over = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(END_LIMIT, all_over).await;
    }

    async fn accept(&self, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
        loop {
            let place = Arc::clone(places).acquire_owned().await.expect("nobody closes the semaphore");
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, place),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for alerts");
                    sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }
}

/// The daemon, who may speak to it, and what was said already.
#[derive(Clone, Debug)]
struct Desk {
    handle: Option<Handle>,
    token: Secret,
    told: Arc<Mutex<BTreeSet<String>>>,
}

const ONLY: &str = "there is only POST /v1/alerts";

fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/alerts", post(alerts))
        .fallback(|| async { error(StatusCode::NOT_FOUND, ONLY) })
        .method_not_allowed_fallback(|| async { error(StatusCode::METHOD_NOT_ALLOWED, ONLY) })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(desk)
}

/// The token comes first: of who has none, nothing is read.
async fn alerts(State(desk): State<Desk>, request: Request) -> Response {
    if let Err(refusal) = desk.admit(request.headers()) {
        return refusal;
    }
    let body = match Bytes::from_request(request, &()).await {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "the message is longer than 1 MiB; set max_alerts in webhook_configs");
        }
        Err(rejection) => return error(rejection.status(), &rejection.body_text()),
    };
    match message::read(&body) {
        Ok(alerts) => desk.hear(alerts).await,
        Err(message::Unreadable::TooMany(words)) => error(StatusCode::PAYLOAD_TOO_LARGE, &words),
        Err(message::Unreadable::Malformed(words)) => error(StatusCode::BAD_REQUEST, &words),
    }
}

impl Desk {
    /// Whether a request bears the token.
    #[expect(clippy::result_large_err, reason = "it is the answer itself, made once for each request")]
    fn admit(&self, headers: &HeaderMap) -> Result<(), Response> {
        let expected = self.token.read().map_err(|why| {
            if self.is_news(&why.to_string()) {
                tracing::error!(error = %why, "alerts are refused until the token can be read");
            }
            error(StatusCode::INTERNAL_SERVER_ERROR, "the daemon can't read its own token, so it takes nothing")
        })?;
        let borne = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        if borne.is_some_and(|borne| is_same(borne, expected.expose_secret().as_bytes())) {
            return Ok(());
        }
        let words = match borne {
            Some(_) => "that is not the token",
            None => "a token is needed: `Authorization: Bearer …` (in Alertmanager: http_config.authorization)",
        };
        if self.is_news(words) {
            tracing::warn!(why = words, "somebody without the token wanted to deliver alerts");
        }
        let mut refusal = error(StatusCode::UNAUTHORIZED, words);
        refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(refusal)
    }

    async fn hear(&self, alerts: Vec<Alert>) -> Response {
        let Some(handle) = &self.handle else { return error(StatusCode::SERVICE_UNAVAILABLE, "the daemon has not begun yet") };
        let names: Vec<String> = alerts.iter().map(|alert| alert.name.clone()).collect();
        match timeout(ANSWER_LIMIT, handle.hear(alerts)).await {
            Ok(Some(Ok(heard))) => axum::Json(self.answer(&names, &heard)).into_response(),
            Ok(Some(Err(why))) => error(StatusCode::SERVICE_UNAVAILABLE, &format!("not taken down: {why}")),
            Ok(None) => error(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending"),
            Err(_) => error(StatusCode::GATEWAY_TIMEOUT, "the daemon is too busy; deliver it again"),
        }
    }

    /// What became of each alert, for whoever tries it with curl; and a line in the log for each reason that is new.
    fn answer(&self, names: &[String], heard: &[Heard]) -> serde_json::Value {
        let mut counts: BTreeMap<&str, usize> = ["declared", "known", "withdrawn", "ignored"].map(|what| (what, 0)).into();
        let mut ignored = Vec::new();
        for (name, heard) in names.iter().zip(heard) {
            let what = match heard {
                Heard::Declared(..) => "declared",
                Heard::Known => "known",
                Heard::Withdrawn(..) => "withdrawn",
                Heard::Ignored(why) => {
                    if why.may_be_a_mistake() && self.is_news(&format!("{name}: {why}")) {
                        tracing::warn!(alert = name, %why, "an alert is ignored");
                    }
                    if ignored.len() < LISTED {
                        ignored.push(serde_json::json!({ "alert": name, "why": why.to_string() }));
                    }
                    "ignored"
                }
            };
            *counts.entry(what).or_default() += 1;
        }
        serde_json::json!({
            "received": heard.len(), "declared": counts["declared"], "known": counts["known"], "withdrawn": counts["withdrawn"],
            "ignored": counts["ignored"], "why_ignored": ignored,
        })
    }

    /// Whether this was not said before. Once it has said a great deal it says nothing new any more.
    fn is_news(&self, words: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < REMEMBERED && told.insert(words.to_owned())
    }
}

/// What follows `Bearer `, whose letters may be small (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether two texts are the same, in a time that says nothing of where they differ: their digests under one key are compared.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    let digest = |text: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(expected).expect("HMAC takes keys of every length (RFC 2104)");
        mac.update(text);
        mac
    };
    digest(expected).verify_slice(&digest(given).finalize().into_bytes()).is_ok()
}

#[cfg(test)]
mod tests;
