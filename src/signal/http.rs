//! One way to ask over HTTP: bounded time, bounded bytes, no redirect followed, no proxy from the environment, nothing decompressed, own
//! certificate authorities, credentials read at each use. What an answer means is not decided here.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue as RawHeaderValue};
use reqwest::{Certificate, Identity, Response, redirect};
use rollbackd_core::observation::Missing;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::secret::{ExposeSecret as _, Secret, SecretError};

/// How an endpoint is trusted and how the daemon proves itself to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A file of PEM certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A client certificate and its key, both PEM.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// User name and password.
    pub basic: Option<(String, Secret)>,
    /// A bearer token.
    pub bearer: Option<Secret>,
    /// Further headers; values from secrets.
    pub headers: Vec<(String, HeaderValue)>,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// Plain text.
    Plain(String),
    /// A secret.
    Secret(Secret),
}

/// Why the daemon can't even ask.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file of certificates or a key can't be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of certificate authorities holds none, or one that is broken.
    #[error("cannot use {} as certificate authorities: {why}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The client certificate and its key can't be used together.
    #[error("cannot use the client certificate {} with the key {}: {why}", certificate.display(), key.display())]
    ClientCertificate {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of its key.
        key: PathBuf,
        /// What is wrong with them.
        why: String,
    },
    /// No client could be made at all.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
    /// A secret can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A header's name or value can't stand in a request; the value is not shown.
    #[error("cannot send the header {0:?}: its name or its value is not allowed in HTTP")]
    Header(String),
}

impl From<AccessError> for Missing {
    fn from(error: AccessError) -> Self {
        Self::Unreachable(chain(&error))
    }
}

/// Whether a connection may serve more than one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Each request makes its own, so that a kept one can't hide that nobody listens any more.
    Fresh,
    /// Kept for the next request.
    Kept,
}

/// The HTTP clients of the process: one for each way of trusting, shared by every signal that has the same (a client holds the whole list
/// of certificate authorities). Certificates and keys are read again when their files change.
pub struct Clients {
    resolver: Arc<Resolver>,
    made: Mutex<Vec<Made>>,
    seats: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    shared: Mutex<BTreeMap<String, Arc<dyn Any + Send + Sync>>>,
}

/// So many questions are put to one server at a time; what waits, waits within its own deadline. Each answer may be 8 MiB.
const SEATS: usize = 4;

struct Made {
    setup: Setup,
    stamps: Vec<Stamp>,
    client: reqwest::Client,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setup {
    ca_file: Option<PathBuf>,
    client_certificate: Option<(PathBuf, PathBuf)>,
    connections: Connections,
}

/// What tells one content of a file from the next.
type Stamp = (SystemTime, u64);

impl Default for Clients {
    fn default() -> Self {
        Self::with_resolver(Arc::new(SystemNames))
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Clients").finish_non_exhaustive()
    }
}

impl Clients {
    pub(crate) fn with_resolver(names: Arc<dyn Resolve>) -> Self {
        Self { resolver: Arc::new(Resolver { names }), made: Mutex::default(), seats: Mutex::default(), shared: Mutex::default() }
    }

    /// The client for this access; made when it is first asked for, and anew when a file it depends on has changed.
    ///
    /// # Errors
    /// When a file can't be read or used; the error names it.
    pub fn client(&self, access: &Access, connections: Connections) -> Result<reqwest::Client, AccessError> {
        let setup = Setup { ca_file: access.ca_file.clone(), client_certificate: access.client_certificate.clone(), connections };
        let stamps = setup.stamps()?;
        // A panic inside cannot leave the list half changed: it is changed by one push.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = made.iter().find(|made| made.setup == setup && made.stamps == stamps) {
            return Ok(found.client.clone());
        }
        let client = setup.build(&self.resolver)?;
        made.retain(|made| made.setup != setup);
        made.push(Made { setup, stamps, client: client.clone() });
        Ok(client)
    }

    /// Finds what is wrong with the files of an access, before it is used. One without files has nothing to find: its client is made when it
    /// is first asked for, because the system's hundreds of certificate authorities take longer to read than everything else at a start.
    ///
    /// # Errors
    /// When a file can't be read or used; the error names it.
    pub fn check(&self, access: &Access, connections: Connections) -> Result<(), AccessError> {
        let has_files = access.ca_file.is_some() || access.client_certificate.is_some();
        if has_files { self.client(access, connections).map(drop) } else { Ok(()) }
    }

    /// The seats at a server that many signals ask.
    pub(crate) fn seats(&self, server: &str) -> Arc<Semaphore> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(seats.entry(server.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(SEATS))))
    }

    /// Something else that all signals share which know it by the same name, made when it is first asked for. What is of one type for one
    /// signal is of that type for all.
    pub(crate) fn shared<T: Any + Default + Send + Sync>(&self, name: &str) -> Arc<T> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = shared.entry(name.to_owned()).or_insert_with(|| Arc::new(T::default()));
        Arc::clone(shared).downcast().unwrap_or_default()
    }
}

impl Setup {
    fn stamps(&self) -> Result<Vec<Stamp>, AccessError> {
        let pair = self.client_certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.ca_file.iter().chain(pair).map(|path| stamp(path)).collect()
    }

    /// A host without certificate authorities still asks what is not encrypted; to what is, it then trusts nobody.
    fn build(&self, resolver: &Arc<Resolver>) -> Result<reqwest::Client, AccessError> {
        let error = match self.builder(Arc::clone(resolver))?.build() {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        if self.ca_file.is_none()
            && let Ok(client) = self.builder(Arc::clone(resolver))?.tls_certs_only([]).build()
        {
            tracing::warn!(why = %root_cause(&error), "nobody is trusted over TLS who is not named by a ca_file");
            return Ok(client);
        }
        Err(match &self.client_certificate {
            Some((certificate, key)) => unusable(certificate, key, &error),
            None => AccessError::Client(root_cause(&error)),
        })
    }

    fn builder(&self, resolver: Arc<Resolver>) -> Result<reqwest::ClientBuilder, AccessError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("rollbackd/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .http1_only()
            .referer(false)
            .dns_resolver(resolver);
        if self.connections == Connections::Fresh {
            builder = builder.pool_max_idle_per_host(0);
        }
        if let Some(path) = &self.ca_file {
            builder = builder.tls_certs_only(authorities(path)?);
        }
        if let Some((certificate, key)) = &self.client_certificate {
            builder = builder.identity(identity(certificate, key)?);
        }
        Ok(builder)
    }
}

fn stamp(path: &Path) -> Result<Stamp, AccessError> {
    let stamp = || {
        let metadata = std::fs::metadata(path)?;
        Ok((metadata.modified()?, metadata.len()))
    };
    stamp().map_err(|source| AccessError::Unreadable { path: path.to_owned(), source })
}

/// No file of certificates is longer: 4 MiB, twenty times the list that systems carry.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

fn contents(path: &Path) -> Result<Vec<u8>, AccessError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_LIMIT { Err(io::Error::other("it is longer than 4 MiB")) } else { Ok(bytes) }
    };
    read().map_err(|source| AccessError::Unreadable { path: path.to_owned(), source })
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, AccessError> {
    let unusable = |why: String| AccessError::Authorities { path: path.to_owned(), why };
    let bytes = contents(path)?;
    let mut store = rustls::RootCertStore::empty();
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        certificates.push(Certificate::from_der(&certificate).map_err(|error| unusable(root_cause(&error)))?);
        store.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if certificates.is_empty() { Err(unusable("there is no PEM certificate in it".to_owned())) } else { Ok(certificates) }
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, AccessError> {
    let mut pem = contents(certificate)?;
    pem.push(b'\n');
    pem.extend(contents(key)?);
    Identity::from_pem(&pem).map_err(|error| unusable(certificate, key, &error))
}

fn unusable(certificate: &Path, key: &Path, error: &reqwest::Error) -> AccessError {
    AccessError::ClientCertificate { certificate: certificate.to_owned(), key: key.to_owned(), why: root_cause(error) }
}

impl Access {
    /// The headers that carry the credentials, with the secrets as they are on disk now.
    ///
    /// # Errors
    /// When a secret can't be read, or a header can't be sent; the error never shows a value.
    pub fn to_headers(&self) -> Result<HeaderMap, AccessError> {
        let mut headers = HeaderMap::new();
        if let Some((user, password)) = &self.basic {
            let pair = BASE64_STANDARD.encode(format!("{user}:{}", password.read()?.expose_secret()));
            headers.insert(AUTHORIZATION, sensitive("authorization", &format!("Basic {pair}"))?);
        }
        if let Some(token) = &self.bearer {
            headers.insert(AUTHORIZATION, sensitive("authorization", &format!("Bearer {}", token.read()?.expose_secret()))?);
        }
        for (name, value) in &self.headers {
            let value = match value {
                HeaderValue::Plain(text) => sensitive(name, text)?,
                HeaderValue::Secret(secret) => sensitive(name, secret.read()?.expose_secret())?,
            };
            headers.insert(HeaderName::try_from(name).map_err(|_| AccessError::Header(name.clone()))?, value);
        }
        Ok(headers)
    }
}

fn sensitive(name: &str, value: &str) -> Result<RawHeaderValue, AccessError> {
    let mut value = RawHeaderValue::try_from(value).map_err(|_| AccessError::Header(name.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// How an exchange failed. In words that name neither the address (the caller knows it) nor a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The name did not become an address, or only so late that too little time was left to ask.
    #[error("{0}")]
    Unresolved(String),
    /// Nobody listens, or the connection was dropped before an answer.
    #[error("{0}")]
    Connection(String),
    /// The head of an answer did not arrive in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// The head arrived, the body was not complete in time.
    #[error("the body was not complete within {0:?}")]
    Slow(Duration),
    /// No secure connection came about.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The answer is not HTTP, is cut off, or is compressed.
    #[error("{0}")]
    Malformed(String),
    /// The body is larger than this number of bytes.
    #[error("the body is larger than {} KiB", .0 / 1024)]
    TooLarge(usize),
    /// The daemon's own host stood in the way: no file descriptor, no route, no permission.
    #[error("{0}")]
    Local(String),
}

impl Fault {
    /// As the reason why a source at `address` gives nothing.
    #[must_use]
    pub fn into_missing(self, address: &str) -> Missing {
        let text = format!("{address}: {self}");
        match self {
            Self::Unresolved(_) | Self::Connection(_) | Self::Silent(_) | Self::Tls(_) | Self::Local(_) => Missing::Unreachable(text),
            Self::Slow(_) | Self::Malformed(_) => Missing::Malformed(text),
            Self::TooLarge(_) => Missing::TooLarge(text),
        }
    }
}

/// Until when an exchange may last.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// `limit` from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Waits for something, not longer than this.
    ///
    /// # Errors
    /// When it did not come in time.
    pub async fn wait<T>(&self, what: impl Future<Output = T>) -> Result<T, Fault> {
        timeout_at(self.at, what).await.map_err(|_| Fault::Silent(self.limit))
    }
}

/// An answer whose head is here and whose body is still to come.
#[derive(Debug)]
pub struct Answer {
    response: Response,
    deadline: Deadline,
    received: usize,
    /// What it took to turn the name into an address.
    pub lookup: Duration,
}

impl Answer {
    /// Waits until `deadline` for the head of the answer to a request that is being sent.
    ///
    /// # Errors
    /// With what went wrong, told apart by whose fault it can be.
    pub async fn to<E: Error + 'static>(sending: impl Future<Output = Result<Response, E>>, deadline: Deadline) -> Result<Self, Fault> {
        let lookup = Arc::new(Lookup::default());
        let answered = timeout_at(deadline.at, LOOKUP.scope(Arc::clone(&lookup), sending)).await;
        match answered {
            Ok(Ok(response)) => Ok(Self { response, deadline, received: 0, lookup: lookup.took() }),
            Ok(Err(error)) => Err(fault(&error)),
            // A name that takes most of the time leaves too little to blame the service for.
            Err(_) if lookup.took() > deadline.limit / 2 => {
                Err(Fault::Unresolved(format!("looking up its name took {:?} of {:?}", lookup.took(), deadline.limit)))
            }
            Err(_) => Err(Fault::Silent(deadline.limit)),
        }
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// How many bytes of the body have come.
    #[must_use]
    pub fn received(&self) -> usize {
        self.received
    }

    /// A header, if it is there and plain text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// When it does not come in time, is compressed, is not whole, or when more than `limit` bytes have come in all.
    pub async fn chunk(&mut self, limit: usize) -> Result<Option<impl AsRef<[u8]> + use<>>, Fault> {
        if let Some(encoding) = self.response.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(Fault::Malformed("the body is compressed, which was not asked for".to_owned()));
        }
        if self.response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(Fault::TooLarge(limit));
        }
        let chunk = match timeout_at(self.deadline.at, self.response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => return Err(Fault::Malformed(format!("the body is not whole: {}", root_cause(&error)))),
            Err(_) => return Err(Fault::Slow(self.deadline.limit)),
        };
        self.received += chunk.as_ref().map_or(0, hyper::body::Bytes::len);
        if self.received > limit { Err(Fault::TooLarge(limit)) } else { Ok(chunk) }
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`Self::chunk`].
    pub async fn body(&mut self, limit: usize) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(limit).await? {
            body.extend_from_slice(chunk.as_ref());
        }
        Ok(body)
    }
}

/// An address as it may be shown: without userinfo, query and fragment.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for addresses that can't have userinfo.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// Words of a stranger as they may be shown: one line of at most 200 characters, with nothing that steers a terminal or turns the text around.
#[must_use]
pub fn plain(text: &str) -> String {
    let steers =
        |sign: char| sign.is_control() || matches!(sign, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown: String = text.trim().chars().take(200).map(|sign| if steers(sign) { ' ' } else { sign }).collect();
    if text.trim().chars().nth(200).is_some() {
        shown.push('…');
    }
    shown
}

/// Which part of a request's time went into the lookup of its name, told by the resolver to the request that waits for it.
#[derive(Debug, Default)]
struct Lookup(Mutex<Option<(Instant, Option<Instant>)>>);

impl Lookup {
    fn began(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), None));
    }

    fn ended(&self) {
        if let Some((_, ended)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            *ended = Some(Instant::now());
        }
    }

    fn took(&self) -> Duration {
        let times = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.map_or(Duration::ZERO, |(began, ended)| ended.unwrap_or_else(Instant::now) - began)
    }
}

tokio::task_local! {
    static LOOKUP: Arc<Lookup>;
}

struct Resolver {
    names: Arc<dyn Resolve>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolving = self.names.resolve(name);
        // A connection that is made in the background for the next request has nobody who waits for it.
        let Ok(lookup) = LOOKUP.try_with(Arc::clone) else { return resolving };
        lookup.began();
        Box::pin(async move {
            let addresses = resolving.await;
            lookup.ended();
            addresses
        })
    }
}

/// The system's own resolver, so that `/etc/hosts` and `nsswitch.conf` count.
struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(addresses.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

fn fault(error: &(dyn Error + 'static)) -> Fault {
    let causes = causes(error);
    let of_request = |is: fn(&reqwest::Error) -> bool| causes.iter().any(|cause| cause.downcast_ref().is_some_and(is));
    if of_request(reqwest::Error::is_dns) {
        return Fault::Unresolved(format!("its name does not resolve: {}", root_cause(error)));
    }
    let in_handshake = of_request(reqwest::Error::is_connect);
    causes.iter().rev().find_map(|cause| told(*cause, in_handshake)).unwrap_or_else(|| Fault::Local(root_cause(error)))
}

fn told(cause: &(dyn Error + 'static), in_handshake: bool) -> Option<Fault> {
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(Fault::Tls(plain(&error.to_string())));
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return match () {
            () if error.is_parse() => Some(Fault::Malformed(format!("the answer is not understood: {error}"))),
            () if error.is_incomplete_message() => Some(Fault::Connection("connection closed without an answer".to_owned())),
            () => None,
        };
    }
    let error = cause.downcast_ref::<io::Error>()?;
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(Fault::Connection("connection refused".to_owned())),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            Some(Fault::Connection("connection reset".to_owned()))
        }
        ErrorKind::HostUnreachable => Some(Fault::Connection("host unreachable".to_owned())),
        ErrorKind::TimedOut => Some(Fault::Connection("connection timed out".to_owned())),
        ErrorKind::UnexpectedEof if in_handshake => Some(Fault::Tls("connection closed in the handshake".to_owned())),
        ErrorKind::UnexpectedEof => Some(Fault::Connection("connection closed without an answer".to_owned())),
        _ => None,
    }
}

/// An error and everything below it. An I/O error hides the error that it wraps from `source`, so it is opened by hand.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut causes = vec![error];
    let mut last = error;
    // A chain of errors is finite, but it is written by strangers.
    for _ in 0..32 {
        let inner = last.downcast_ref::<io::Error>().and_then(|error| error.get_ref()).map(|inner| inner as &'a (dyn Error + 'static));
        let Some(next) = inner.or_else(|| last.source()) else { break };
        causes.push(next);
        last = next;
    }
    causes
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let cause = causes(error).last().map_or_else(|| error.to_string(), ToString::to_string);
    plain(&cause)
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut last = error;
    while let Some(next) = last.source() {
        text = format!("{text}: {next}");
        last = next;
    }
    plain(&text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, Files};
    use super::*;

    fn complaint(access: &Access) -> String {
        let error = Clients::default().client(access, Connections::Fresh).unwrap_err();
        chain(&error)
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let (authority, files) = (Authority::new(), Files::new());
        let absent = files.write("absent.pem", "");
        std::fs::remove_file(&absent).unwrap();
        let trusting = |path: &Path| Access { ca_file: Some(path.to_owned()), ..Access::default() };
        let showing = |certificate: &Path, key: &Path| Access {
            client_certificate: Some((certificate.to_owned(), key.to_owned())),
            ..Access::default()
        };
        assert_eq!(complaint(&trusting(&absent)), format!("cannot read {}: No such file or directory (os error 2)", absent.display()));
        let empty = files.write("empty.pem", "nothing");
        assert_eq!(
            complaint(&trusting(&empty)),
            format!("cannot use {} as certificate authorities: there is no PEM certificate in it", empty.display())
        );
        let broken = files.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        assert!(complaint(&trusting(&broken)).starts_with(&format!("cannot use {} as certificate authorities: ", broken.display())));

        let (mine, other) = (authority.pair("mine"), authority.pair("other"));
        let certificate = files.write("client.pem", &mine.certificate);
        let wrong_key = files.write("wrong.key", &other.key.serialize_pem());
        let expected = format!("cannot use the client certificate {} with the key {}: ", certificate.display(), wrong_key.display());
        assert!(complaint(&showing(&certificate, &wrong_key)).starts_with(&expected));
        assert!(complaint(&showing(&certificate, &empty)).starts_with("cannot use the client certificate "));
        assert!(complaint(&showing(&absent, &wrong_key)).starts_with("cannot read "));
    }

    #[test]
    fn a_start_reads_no_authorities_that_nobody_named() {
        let (clients, files) = (Clients::default(), Files::new());
        clients.check(&Access::default(), Connections::Fresh).unwrap();
        assert!(clients.made.lock().unwrap().is_empty());
        let named = Access { ca_file: Some(files.write("ca.pem", &Authority::new().pem())), ..Access::default() };
        clients.check(&named, Connections::Fresh).unwrap();
        assert_eq!(clients.made.lock().unwrap().len(), 1);
        let broken = Access { ca_file: Some(files.write("broken.pem", "nothing")), ..Access::default() };
        assert!(clients.check(&broken, Connections::Fresh).is_err());
    }

    #[test]
    fn equal_access_shares_a_client_until_its_files_change() {
        let (clients, files) = (Clients::default(), Files::new());
        let path = files.write("ca.pem", &Authority::new().pem());
        let access = Access { ca_file: Some(path.clone()), ..Access::default() };
        let made = || clients.made.lock().unwrap().iter().map(|made| (made.setup.connections, made.stamps.clone())).collect::<Vec<_>>();
        for _ in 0..3 {
            clients.client(&access, Connections::Kept).unwrap();
            clients.client(&Access { bearer: Some(Secret::File(path.clone())), ..access.clone() }, Connections::Kept).unwrap();
        }
        let before = made();
        assert_eq!(before.len(), 1);
        clients.client(&access, Connections::Fresh).unwrap();
        assert_eq!(made().len(), 2);
        std::fs::write(&path, Authority::new().pem() + "\n").unwrap();
        clients.client(&access, Connections::Kept).unwrap();
        let after = made();
        assert_eq!(after.len(), 2);
        assert!(!after.contains(&before[0]), "{after:?}");
    }

    #[test]
    fn an_address_is_shown_without_what_may_be_secret() {
        let url = Url::parse("https://me:secret@shop.test:8443/healthz?token=x#y").unwrap();
        assert_eq!(shown(&url), "https://shop.test:8443/healthz");
    }
}
