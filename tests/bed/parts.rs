//! Small parts that every story needs: processes that end with it, waiting, and what the bed says of itself.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Nothing in a story takes longer than this, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(180);

/// A process that ends with its owner.
#[derive(Debug)]
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A variable that the bed sets.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: the bed is not up, run tests/run"))
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it is bound").port()
}

/// A tiny GET on loopback, for what the harness itself wants to know.
pub fn http_get(port: u16, path: &str) -> String {
    let output = Command::new("curl").args(["-s", "-g", "-m", "2", &format!("http://127.0.0.1:{port}{path}")]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Waits until it is so, or ends the story.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
