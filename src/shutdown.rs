//! What the operating system tells a running daemon: SIGTERM and SIGINT ask it to end, SIGHUP to read its configuration again. Nothing here
//! says how that is done.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the signals become.
#[derive(Debug)]
pub struct Signals {
    /// Cancelled by the first SIGTERM or SIGINT. A second one ends the process at once, with exit code 1.
    pub shutdown: CancellationToken,
    /// One value for each SIGHUP; those that come while one waits are that one.
    pub reload: mpsc::Receiver<()>,
}

/// Listens from now on, until the runtime ends.
///
/// # Errors
/// When the operating system takes no handler.
pub fn listen() -> io::Result<Signals> {
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    let hang_up = signal(SignalKind::hangup())?;
    let shutdown = CancellationToken::new();
    let (reload_sender, reload) = mpsc::channel(1);
    tokio::spawn(end(terminate, interrupt, shutdown.clone()));
    tokio::spawn(pass_on(hang_up, reload_sender));
    Ok(Signals { shutdown, reload })
}

async fn end(mut terminate: Signal, mut interrupt: Signal, shutdown: CancellationToken) {
    let name = either(&mut terminate, &mut interrupt).await;
    tracing::info!(signal = name, "ending; a second signal ends at once");
    shutdown.cancel();
    let name = either(&mut terminate, &mut interrupt).await;
    tracing::warn!(signal = name, "ending at once; what is under way is carried on at the next start");
    std::process::exit(1);
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        biased;
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

async fn pass_on(mut hang_up: Signal, reload: mpsc::Sender<()>) {
    while hang_up.recv().await.is_some() {
        if let Err(mpsc::error::TrySendError::Closed(())) = reload.try_send(()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn hang_up_asks_for_a_reload_and_terminate_for_the_end() {
        let patience = Duration::from_secs(10);
        let mut signals = listen().unwrap();
        kill_process(getpid(), Signal::HUP).unwrap();
        assert_eq!(timeout(patience, signals.reload.recv()).await, Ok(Some(())));
        assert!(!signals.shutdown.is_cancelled());
        kill_process(getpid(), Signal::TERM).unwrap();
        assert!(timeout(patience, signals.shutdown.cancelled()).await.is_ok());
    }
}
