//! A way to the API server that can be held: what is sent meanwhile arrives when it is let go, or never if its sender is gone by then.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards bytes to one address. Connections that begin while it is held wait.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    held: Arc<watch::Sender<bool>>,
}

impl Proxy {
    /// Begins to forward.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let held = Arc::new(watch::channel(false).0);
        let gate = held.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut gate = gate.subscribe();
                tokio::spawn(async move {
                    if gate.wait_for(|held| !held).await.is_ok()
                        && let Ok(mut server) = TcpStream::connect(target).await
                    {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { address, held }
    }

    /// From now on new connections wait.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// What waits goes on.
    pub fn release(&self) {
        self.held.send_replace(false);
    }
}
