//! Endpoints that are well until they turn against who asks them. Each stands at a path of one server on loopback.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What an endpoint does once it turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Tells that each request fails while `v2` is deployed: nothing hostile, only true.
    Honest,
    /// Takes the request and never says a word.
    Silent,
    /// A letter of a well-formed answer now and then.
    Slow,
    /// Comments without end.
    Endless,
    /// One line without end.
    OneLine,
    /// Every line another series.
    ManySeries,
    /// A redirect to itself.
    Redirects,
    /// A quarter of a GiB of zeros in a few hundred KiB.
    GzipBomb,
    /// Headers without end.
    Headers,
    /// Counters that no service has: not a number, negative, gone back.
    Nonsense,
}

impl Manner {
    /// All of them but the honest one.
    pub const HOSTILE: [Self; 9] = [
        Self::Silent,
        Self::Slow,
        Self::Endless,
        Self::OneLine,
        Self::ManySeries,
        Self::Redirects,
        Self::GzipBomb,
        Self::Headers,
        Self::Nonsense,
    ];

    /// Its path, and the name of its service.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// The server.
#[derive(Debug)]
pub struct Hostile {
    /// Where it listens; who speaks TLS to it gets garbage.
    pub address: SocketAddr,
    turned: Arc<AtomicBool>,
}

/// No answer is longer than this, however long somebody listens.
const LONGEST: usize = 256 * 1024 * 1024;

#[derive(Debug)]
struct World {
    begun: Instant,
    version: PathBuf,
    turned: Arc<AtomicBool>,
    bomb: Vec<u8>,
}

impl Hostile {
    /// Begins to serve, well. The honest one tells of the version that stands in a file.
    pub async fn serve(version: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let turned = Arc::new(AtomicBool::new(false));
        let packed =
            Command::new("sh").args(["-c", &format!("head -c {LONGEST} /dev/zero | gzip -1")]).output().expect("gzip is everywhere");
        let world = Arc::new(World { begun: Instant::now(), version, turned: turned.clone(), bomb: packed.stdout });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let world = world.clone();
                // Whoever hangs up in the middle is right to do so.
                tokio::spawn(async move { world.answer(client).await.is_ok() });
            }
        });
        Self { address, turned }
    }

    /// From now on every endpoint does what it is there for.
    pub fn turn(&self) {
        self.turned.store(true, Ordering::Relaxed);
    }
}

impl World {
    async fn answer(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut part = [0; 1024];
            let length = client.read(&mut part).await?;
            request.extend_from_slice(&part[..length]);
            if request.first() == Some(&0x16) {
                return client.write_all(b"this is not TLS at all, it never was, and it never will be\n").await;
            }
            if length == 0 || request.len() > 64 * 1024 {
                return Ok(());
            }
        }
        let request = String::from_utf8_lossy(&request).into_owned();
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let turned = self.turned.load(Ordering::Relaxed);
        let name = path.trim_matches('/');
        let manner = Manner::HOSTILE.into_iter().chain([Manner::Honest]).find(|manner| manner.name() == name);
        match manner.filter(|_| turned) {
            None => client.write_all(self.counters(false).as_bytes()).await,
            Some(Manner::Honest) => client.write_all(self.counters(self.is_bad()).as_bytes()).await,
            Some(Manner::Silent) => std::future::pending().await,
            Some(Manner::Slow) => slowly(&mut client, &self.counters(true)).await,
            Some(Manner::Endless) => without_end(&mut client, "# ok, and on it goes\n").await,
            Some(Manner::OneLine) => without_end(&mut client, "ok_and_on_it_goes_").await,
            Some(Manner::ManySeries) => many_series(&mut client).await,
            Some(Manner::Redirects) => {
                let answer = format!("HTTP/1.1 302 Found\r\nlocation: {path}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                client.write_all(answer.as_bytes()).await
            }
            Some(Manner::GzipBomb) => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";
                client.write_all(head.as_bytes()).await?;
                client.write_all(&self.bomb).await
            }
            Some(Manner::Headers) => {
                client.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                for _ in 0..LONGEST / 32 {
                    client.write_all(b"x-and-on-it-goes: without an end\r\n").await?;
                }
                Ok(())
            }
            Some(Manner::Nonsense) => {
                let body = "# ok\nhttp_requests_total{code=\"200\"} -5\nhttp_requests_total{code=\"500\"} NaN\nhttp_requests_total{code=\"503\"} +Inf\n";
                client.write_all(page(body).as_bytes()).await
            }
        }
    }

    fn is_bad(&self) -> bool {
        fs::read_to_string(&self.version).is_ok_and(|version| version.trim() == "v2")
    }

    /// What a service says of 50 requests a second; if they fail, of as many that went well before.
    fn counters(&self, failing: bool) -> String {
        let count = self.begun.elapsed().as_secs_f64() * 50.0;
        let failed = if failing { count } else { 0.0 };
        page(&format!("# ok\nhttp_requests_total{{code=\"200\"}} {count:.0}\nhttp_requests_total{{code=\"500\"}} {failed:.0}\n"))
    }
}

fn page(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn slowly(client: &mut TcpStream, text: &str) -> std::io::Result<()> {
    for letter in text.bytes() {
        client.write_all(&[letter]).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

async fn without_end(client: &mut TcpStream, text: &str) -> std::io::Result<()> {
    let block = text.repeat(64 * 1024 / text.len());
    client.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n\r\n").await?;
    for _ in 0..LONGEST / block.len() {
        client.write_all(block.as_bytes()).await?;
    }
    Ok(())
}

async fn many_series(client: &mut TcpStream) -> std::io::Result<()> {
    client.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n\r\n").await?;
    for number in 0..1_000_000 {
        client.write_all(format!("http_requests_total{{code=\"500\",request=\"ok-{number}\"}} {number}\n").as_bytes()).await?;
    }
    Ok(())
}
