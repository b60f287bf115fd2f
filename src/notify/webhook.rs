//! Webhooks: one POST for each attempt, signed as Standard Webhooks 1.0 says
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>). Redirects are not followed and proxies of
//! the environment not used: a notice goes where it was configured to go, or nowhere.
//!
//! Addresses of chats are secrets, so an error never shows more of an address than scheme, host and port, and of a secret one's answer no
//! more than a plain word.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, redirect, retry};
use rollbackd_core::notice::Notice;
use serde_json::Value;
use sha2::Sha256;
use url::Url;

use super::format::{self, Neutral};
use super::{Notifier, NotifyError, later, words};
use crate::secret::{ExposeSecret as _, Secret};

/// The longest that connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The longest that an attempt may take, within the 15 to 30 s that Standard Webhooks recommends.
const LIMIT: Duration = Duration::from_secs(20);
/// So much of an answer is read, in bytes; only a few words of it are of use.
const ANSWER_LIMIT: usize = 4 * 1024;
/// The longest wait that a destination may ask for: a notice that comes a day late helps nobody.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// What the specification puts before a key.
const KEY_PREFIX: &str = "whsec_";

/// The body that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The notice as plain JSON.
    Json,
    /// What Slack's incoming webhooks take.
    Slack,
}

/// Where the address comes from; addresses of chats are secrets themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// In the open.
    Plain(Url),
    /// In a file.
    Secret(Secret),
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its address.
    pub url: Address,
    /// The body.
    pub format: Format,
    /// The key of the signature (Standard Webhooks 1.0: `whsec_` and base64), if it is to be signed.
    pub secret: Option<Secret>,
    /// A file of PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Sends notices to one address.
#[derive(Debug)]
pub struct Webhook {
    settings: Settings,
}

impl Webhook {
    /// Nothing is looked at before the first use.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn address(&self) -> Result<Url, NotifyError> {
        match &self.settings.url {
            Address::Plain(url) => Ok(url.clone()),
            Address::Secret(secret) => {
                let text = secret.read().map_err(|error| later(words(&error)))?;
                let url = Url::parse(text.expose_secret()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
                url.ok_or_else(|| later(format!("the content of {} is not an address of http or https", secret.path().display())))
            }
        }
    }

    /// A client of its own for each attempt: notices are rare, and a changed file of authorities needs no restart.
    fn client(&self) -> Result<Client, NotifyError> {
        let mut client = Client::builder()
            .user_agent(concat!("rollbackd/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .timeout(LIMIT)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_proxy();
        if let Some(path) = &self.settings.ca_file {
            let unusable = |why: &(dyn std::error::Error + 'static)| {
                later(format!("cannot use the certificates in {}: {}", path.display(), words(why)))
            };
            let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
            client = client.tls_certs_only(Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?);
        }
        client.build().map_err(|error| later(format!("cannot prepare to send a webhook: {}", words(&error))))
    }

    fn body(&self, notice: &Neutral) -> Value {
        match self.settings.format {
            Format::Json => format::json(notice),
            Format::Slack => format::slack(notice),
        }
    }

    /// The signature of an attempt that is made at `now`, where one is wanted.
    fn signature(&self, id: &str, now: Timestamp, body: &str) -> Result<Option<String>, NotifyError> {
        let Some(secret) = &self.settings.secret else { return Ok(None) };
        let key = secret.read().map_err(|error| later(words(&error)))?;
        let signature = sign(key.expose_secret(), id, now.as_second(), body);
        let signature = signature.ok_or_else(|| later(format!("the signing key in {} is not base64", secret.path().display())))?;
        Ok(Some(signature))
    }

    /// What may be shown of the destination's words.
    fn presentable(&self, answer: &str, url: &Url) -> String {
        match self.settings.url {
            Address::Plain(_) => format::line(answer, 200),
            // A page that isn't found often repeats its address. Slack's own errors are words like `channel_is_archived`.
            Address::Secret(_) => {
                let answer = answer.trim();
                let is_word = (1..=40).contains(&answer.len()) && answer.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                if is_word && !url.as_str().contains(answer) { answer.to_owned() } else { String::new() }
            }
        }
    }

    async fn judge(&self, mut response: Response, url: &Url) -> Result<(), NotifyError> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let after = retry_after(response.headers(), Timestamp::now());
        let said = self.presentable(&beginning(&mut response).await, url);
        let place = place(url);
        let why = if status == StatusCode::GONE {
            format!("webhook {place} has been disabled by its owner (410)")
        } else if status.is_redirection() {
            format!("webhook {place} sends elsewhere ({status}), and that is not followed")
        } else if said.is_empty() {
            format!("webhook {place} answered {status}")
        } else {
            format!("webhook {place} answered {status}: {said}")
        };
        if is_final(status) { Err(NotifyError::Never { why }) } else { Err(NotifyError::Later { why, after }) }
    }
}

#[async_trait]
impl Notifier for Webhook {
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        let url = self.address()?;
        let notice = Neutral::of(notice);
        let body = self.body(&notice).to_string();
        // The receiver compares with its own clock, so this is the wall's time and new at each attempt.
        let now = Timestamp::now();
        let mut request = self
            .client()?
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &notice.id)
            .header("webhook-timestamp", now.as_second().to_string());
        if let Some(signature) = self.signature(&notice.id, now, &body)? {
            request = request.header("webhook-signature", signature);
        }
        let response = request.body(body).send().await.map_err(|error| unsent(&url, error))?;
        self.judge(response, &url).await
    }

    /// Asks for the head of the host's front page and takes any answer: name, connection and certificate are tried, and the address itself
    /// isn't touched, because some receivers take everything that arrives there for a message.
    async fn check(&self) -> Result<(), NotifyError> {
        let url = self.address()?;
        self.signature("check", Timestamp::now(), "")?;
        let mut front = url.clone();
        front.set_path("/");
        front.set_query(None);
        front.set_fragment(None);
        self.client()?.head(front).send().await.map(drop).map_err(|error| unsent(&url, error))
    }
}

/// `v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`. `None` when the key isn't base64, with or without `whsec_` before it.
fn sign(key: &str, id: &str, timestamp: i64, body: &str) -> Option<String> {
    let key = STANDARD.decode(key.strip_prefix(KEY_PREFIX).unwrap_or(key)).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of every length (RFC 2104)");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// Whether asking again is of no use. A client error is, but for those that speak of this moment only: 408 too slow, 409 busy with another,
/// 425 too early, 429 too many. What a redirect or the server itself has, a person may put right.
fn is_final(status: StatusCode) -> bool {
    status.is_client_error()
        && !matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
}

/// What the destination asks for (RFC 9110, 10.2.3): seconds, or a date. Never more than an hour.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_not_a_number) => {
            let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The beginning of an answer. An answer that breaks off is no further trouble: its status is known.
async fn beginning(response: &mut Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_LIMIT
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER_LIMIT - bytes.len())]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unsent(url: &Url, error: reqwest::Error) -> NotifyError {
    let place = place(url);
    let why = if error.is_timeout() {
        format!("webhook {place} did not answer within {} s", if error.is_connect() { CONNECT_LIMIT } else { LIMIT }.as_secs())
    } else {
        format!("cannot reach webhook {place}: {}", words(&error.without_url()))
    };
    later(why)
}

/// What may be shown of every address: scheme, host and port.
fn place(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request;
    use axum::response::IntoResponse as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::email::tests::certificate;
    use super::super::format::tests::notice;
    use super::*;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// What a receiver was sent.
    #[derive(Clone, Debug)]
    struct Heard {
        method: String,
        path: String,
        headers: HeaderMap,
        body: String,
    }

    type AllHeard = Arc<Mutex<Vec<Heard>>>;

    /// A receiver that answers every request the same way.
    async fn receiver(status: u16, headers: &'static [(&'static str, &'static str)], answer: &'static str) -> (AllHeard, Url) {
        let heard = AllHeard::default();
        let keeper = Arc::clone(&heard);
        let answer = move |request: Request<Body>| async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
            keeper.lock().unwrap().push(Heard {
                method: parts.method.to_string(),
                path: parts.uri.to_string(),
                headers: parts.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            });
            let mut response = (StatusCode::from_u16(status).unwrap(), answer).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            response
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/hooks/T0000/s3cr3t?token=abc", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        (heard, url)
    }

    fn webhook(url: Url) -> Webhook {
        Webhook::new(Settings { url: Address::Plain(url), format: Format::Json, secret: None, ca_file: None })
    }

    fn secret(text: &str) -> (tempfile::NamedTempFile, Secret) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let secret = Secret::File(file.path().to_owned());
        (file, secret)
    }

    fn only(heard: &AllHeard) -> Heard {
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard[0].clone()
    }

    #[tokio::test]
    async fn a_receiver_with_the_key_can_tell_that_a_notice_is_genuine() {
        for key in [KEY, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            let (heard, url) = receiver(204, &[], "").await;
            let (_file, key) = secret(key);
            let webhook = Webhook::new(Settings { secret: Some(key), ..webhook(url).settings });
            webhook.deliver(&notice()).await.unwrap();

            let heard = only(&heard);
            assert_eq!((heard.method.as_str(), heard.path.as_str()), ("POST", "/hooks/T0000/s3cr3t?token=abc"));
            assert_eq!(heard.headers["content-type"], "application/json");
            assert_eq!(heard.headers["webhook-id"], "k3f9a2b1-17");
            let other = standardwebhooks::Webhook::new(KEY).unwrap();
            other.verify(heard.body.as_bytes(), &heard.headers).unwrap();
            assert!(other.verify(format!("{} ", heard.body).as_bytes(), &heard.headers).is_err());
            assert_eq!(serde_json::from_str::<Value>(&heard.body).unwrap(), format::json(&Neutral::of(&notice())));
        }
    }

    #[test]
    fn signatures_are_those_of_the_reference_library() {
        for (id, timestamp, body) in [("k3f9a2b1-17", 1_795_230_765, "{}"), ("x", 0, ""), ("é", i64::MAX, "ü\n.\0")] {
            let theirs = standardwebhooks::Webhook::new(KEY).unwrap().sign(id, timestamp, body.as_bytes()).unwrap();
            assert_eq!(sign(KEY, id, timestamp, body).unwrap(), theirs);
        }
        assert_eq!(sign("not base64!", "x", 0, ""), None);
    }

    #[tokio::test]
    async fn a_webhook_without_a_key_is_not_signed_and_slack_gets_its_own_body() {
        let (heard, url) = receiver(200, &[], "ok").await;
        let webhook = Webhook::new(Settings { format: Format::Slack, ..webhook(url).settings });
        webhook.deliver(&notice()).await.unwrap();
        let heard = only(&heard);
        assert!(!heard.headers.contains_key("webhook-signature"));
        assert_eq!(serde_json::from_str::<Value>(&heard.body).unwrap(), format::slack(&Neutral::of(&notice())));
    }

    #[tokio::test]
    async fn the_status_says_whether_asking_again_is_of_use() {
        for (status, lasting) in [
            (400, true),
            (401, true),
            (403, true),
            (404, true),
            (410, true),
            (413, true),
            (408, false),
            (409, false),
            (425, false),
            (429, false),
            (302, false),
            (500, false),
            (501, false),
            (503, false),
        ] {
            let (_, url) = receiver(status, &[], "no such <thing>\u{1b}[31m").await;
            let error = webhook(url.clone()).deliver(&notice()).await.unwrap_err();
            assert_eq!(matches!(error, NotifyError::Never { .. }), lasting, "{status}: {error:?}");
            let why = error.to_string();
            assert!(why.contains(&status.to_string()) && why.contains(&place(&url)), "{why}");
            assert!(!why.contains('\u{1b}') && !why.contains("s3cr3t") && !why.contains("abc"), "{why}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (heard, url) = receiver(307, &[("location", "/elsewhere")], "").await;
        let error = webhook(url).deliver(&notice()).await.unwrap_err();
        assert!(matches!(error, NotifyError::Later { .. }));
        assert_eq!(only(&heard).path, "/hooks/T0000/s3cr3t?token=abc");
    }

    #[tokio::test]
    async fn a_destination_may_ask_for_an_hour_at_most() {
        for (asked, waits) in [("30", 30), ("86400", 3_600), ("Thu, 31 Dec 2099 23:59:59 GMT", 3_600), ("Sun, 06 Nov 1994 08:49:37 GMT", 0)]
        {
            let headers: &'static [(&str, &str)] = Box::leak(Box::new([("retry-after", asked)]));
            let (_, url) = receiver(429, headers, "").await;
            let error = webhook(url).deliver(&notice()).await.unwrap_err();
            assert!(
                matches!(error, NotifyError::Later { after: Some(after), .. } if after == Duration::from_secs(waits)),
                "{asked}: {error:?}"
            );
        }
        let (_, url) = receiver(503, &[("retry-after", "soon")], "").await;
        let error = webhook(url).deliver(&notice()).await.unwrap_err();
        assert!(matches!(error, NotifyError::Later { after: None, .. }), "{error:?}");
    }

    #[test]
    fn a_date_to_try_again_is_counted_from_now() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "Sat, 21 Nov 2026 03:13:45 GMT".parse().unwrap())]);
        assert_eq!(retry_after(&headers, "2026-11-21T03:12:45Z".parse().unwrap()), Some(Duration::from_mins(1)));
    }

    #[tokio::test]
    async fn a_secret_address_is_read_at_each_use_and_never_shown() {
        let (heard, url) = receiver(404, &[], "Cannot POST /hooks/T0000/s3cr3t").await;
        let (file, address) = secret(url.as_str());
        let webhook = Webhook::new(Settings { url: Address::Secret(address), ..webhook(url.clone()).settings });
        let error = webhook.deliver(&notice()).await.unwrap_err().to_string();
        assert!(error.contains(&place(&url)) && !error.contains("s3cr3t") && !error.contains("T0000"), "{error}");
        assert_eq!(heard.lock().unwrap().len(), 1);

        let (_, moved) = receiver(404, &[], "channel_is_archived").await;
        std::fs::write(file.path(), moved.as_str()).unwrap();
        let error = webhook.deliver(&notice()).await.unwrap_err().to_string();
        assert!(error.contains("channel_is_archived"), "{error}");

        for nonsense in ["s3cr3t", "ftp://s3cr3t/", "https://"] {
            std::fs::write(file.path(), nonsense).unwrap();
            let error = webhook.deliver(&notice()).await.unwrap_err();
            assert!(matches!(&error, NotifyError::Later { why, .. } if !why.contains("s3cr3t")), "{error:?}");
        }
    }

    #[tokio::test]
    async fn who_is_not_there_is_tried_again_and_the_address_is_not_shown() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://user:s3cr3t@{}/s3cr3t", closed.local_addr().unwrap())).unwrap();
        drop(closed);
        for result in [webhook(url.clone()).deliver(&notice()).await, webhook(url).check().await] {
            let error = result.unwrap_err();
            assert!(matches!(&error, NotifyError::Later { why, .. } if why.contains("refused") && !why.contains("s3cr3t")), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_receiver_that_falls_silent_is_left_after_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let delivery = tokio::spawn(async move { webhook(url).deliver(&notice()).await });
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 1024]).await.unwrap() > 0);
        tokio::time::pause();
        let error = delivery.await.unwrap().unwrap_err();
        assert!(matches!(&error, NotifyError::Later { why, .. } if why.contains("within 20 s")), "{error:?}");
    }

    #[tokio::test]
    async fn of_an_endless_answer_only_the_beginning_is_read() {
        let endless = || async {
            let chunks = futures::stream::repeat_with(|| Ok::<_, std::convert::Infallible>("x".repeat(1024)));
            (StatusCode::BAD_REQUEST, Body::from_stream(chunks))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(endless)).await });
        let error = webhook(url).deliver(&notice()).await.unwrap_err();
        assert!(matches!(&error, NotifyError::Never { why } if why.len() < 400), "{error:?}");
    }

    #[tokio::test]
    async fn a_private_authority_is_trusted_and_a_wrong_name_is_not() {
        for (name, trusted) in [("127.0.0.1", true), ("hooks.example.org", false)] {
            let (acceptor, authority) = certificate(name);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
            tokio::spawn(async move {
                let (socket, _) = listener.accept().await.unwrap();
                let mut stream = acceptor.accept(socket).await.unwrap();
                assert!(stream.read(&mut [0; 16 * 1024]).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                stream.flush().await.unwrap();
            });
            let webhook = Webhook::new(Settings { ca_file: Some(authority.path().to_owned()), ..webhook(url).settings });
            let result = webhook.deliver(&notice()).await;
            assert_eq!(result.is_ok(), trusted, "{name}: {result:?}");
        }
    }

    #[tokio::test]
    async fn a_check_hands_nothing_over_and_takes_any_answer() {
        let (heard, url) = receiver(404, &[], "").await;
        webhook(url).check().await.unwrap();
        let heard = only(&heard);
        assert_eq!((heard.method.as_str(), heard.path.as_str(), heard.body.as_str()), ("HEAD", "/", ""));
    }

    #[tokio::test]
    async fn a_check_finds_a_key_that_is_none() {
        let (_, url) = receiver(200, &[], "").await;
        let (_file, key) = secret("n0t base64!");
        let webhook = Webhook::new(Settings { secret: Some(key), ..webhook(url).settings });
        let error = webhook.check().await.unwrap_err().to_string();
        assert!(error.contains("is not base64") && !error.contains("n0t"), "{error}");
    }
}
