//! Peers on loopback that behave as badly as a test wants.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use url::Url;

/// For peers that answer a head at once and a body never: a head comes within this on the busiest machine, and the test has to wait for it.
pub(super) const HEAD_IN_TIME: Duration = Duration::from_secs(2);

/// A connection, plain or encrypted.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A listener that treats every connection the same way, and remembers the heads of the requests it got. It ends when it is dropped.
pub(super) struct Peer {
    pub(super) at: SocketAddr,
    pub(super) connections: Arc<Mutex<usize>>,
    pub(super) heads: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    /// Gives each connection to `behaviour`.
    pub(super) async fn behaving<F, G>(behaviour: F) -> Self
    where
        F: Fn(TcpStream) -> G + Send + 'static,
        G: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *counted.lock().unwrap() += 1;
                tokio::spawn(behaviour(stream));
            }
        });
        Self { at, connections, heads: Arc::default(), task: accepting.abort_handle() }
    }

    /// Reads each request and writes what `answer` makes of its head, byte for byte, then closes.
    pub(super) async fn answering(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&heads);
        let mut peer = Self::behaving(move |mut stream| {
            let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
            async move { exchange(&mut stream, &*answer, &seen).await }
        })
        .await;
        peer.heads = heads;
        peer
    }

    /// The same, encrypted.
    pub(super) async fn encrypted(config: ServerConfig, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::behaving(move |stream| {
            let (answer, acceptor) = (Arc::clone(&answer), acceptor.clone());
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    exchange(&mut stream, &*answer, &Mutex::default()).await;
                }
            }
        })
        .await
    }

    pub(super) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.at)).unwrap()
    }
}

async fn exchange(stream: &mut impl Stream, answer: &(impl Fn(&str) -> Vec<u8> + ?Sized), seen: &Mutex<Vec<String>>) {
    let Some(head) = request(stream).await else { return };
    let bytes = closing(answer(&head));
    seen.lock().unwrap().push(head);
    // The other side may have had enough before everything is written.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

/// An answer that says that the connection ends with it. A client that was not told so may put its next question into a connection that is
/// just being closed.
fn closing(answer: Vec<u8>) -> Vec<u8> {
    match answer.windows(2).position(|end| end == b"\r\n") {
        Some(line) if answer.starts_with(b"HTTP/1.1 ") => [&answer[..line], b"\r\nconnection: close", &answer[line..]].concat(),
        _ => answer,
    }
}

/// The head of a request; `None` when the other side is gone.
pub(super) async fn request(stream: &mut impl Stream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Writes the same bytes again and again, until the other side is gone.
pub(super) async fn write_for_ever(stream: &mut impl Stream, bytes: &[u8], pause: Duration) {
    while stream.write_all(bytes).await.is_ok() {
        tokio::time::sleep(pause).await;
    }
}

/// A whole answer.
pub(super) fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A certificate authority of a test's own.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: KeyPair,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(super) fn pair(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Pair { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key }
    }

    /// A server called `name`, which wants to see a certificate of this authority if `mutual`.
    pub(super) fn server(&self, name: &str, mutual: bool) -> ServerConfig {
        use rustls::pki_types::pem::PemObject as _;
        let pair = self.pair(name);
        let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::try_from(pair.key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap()).unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        builder.with_single_cert(chain, key).unwrap()
    }
}

/// Files that are gone after the test.
pub(super) struct Files(tempfile::TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}
