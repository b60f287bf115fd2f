//! How long the binary takes from the moment it is executed until it tells systemd that it guards (`READY=1`).

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};

use crate::{fleet, ledger, process};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The binary.
    binary: PathBuf,
    /// Records in its ledger; 0: there is none yet.
    #[arg(long)]
    records: usize,
    /// How often it is started.
    #[arg(long, default_value_t = 21)]
    starts: usize,
}

/// How long it runs before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures and prints one row.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (state, notify) = (folder.path().join("state"), folder.path().join("notify"));
    fs::write(folder.path().join("version"), "v1\n")?;
    fs::write(folder.path().join("rollbackd.toml"), configuration(folder.path()))?;
    if arguments.records > 0 {
        ledger::begin(&state, &[&fleet::policy(0)?], arguments.records, Timestamp::now())?;
    }
    let socket = UnixDatagram::bind(&notify)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut took, mut used, mut held) = (Vec::new(), Vec::new(), 0.0);
    for start in 0..arguments.starts {
        if arguments.records == 0 && state.exists() {
            fs::remove_dir_all(&state)?;
        }
        let began = Instant::now();
        let mut daemon = Command::new(&arguments.binary)
            .arg("--config")
            .arg(folder.path().join("rollbackd.toml"))
            .arg("run")
            .env("NOTIFY_SOCKET", &notify)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the binary")?;
        while !next(&socket)?.contains("READY=1") {}
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        used.push(process::time_of_threads(daemon.id())?.as_secs_f64() * 1000.0);
        if start + 1 == arguments.starts {
            std::thread::sleep(SETTLE);
            held = process::memory(&daemon.id().to_string(), "VmRSS")?;
        }
        let id = Pid::from_raw(i32::try_from(daemon.id())?).context("not a process")?;
        kill_process(id, Signal::TERM)?;
        daemon.wait()?;
        while !next(&socket)?.contains("STOPPING=1") {}
    }
    took.sort_by(f64::total_cmp);
    used.sort_by(f64::total_cmp);
    let (min, median, max) = (took[0], took[took.len() / 2], took[took.len() - 1]);
    let used = used[used.len() / 2];
    println!("| {} | {min:.1} ms | {median:.1} ms | {max:.1} ms | {used:.1} ms | {held:.1} MiB |", arguments.records);
    Ok(())
}

fn next(socket: &UnixDatagram) -> anyhow::Result<String> {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).context("the binary told nothing")?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"
[daemon]
state_directory = "{folder}/state"
socket = "{folder}/rollbackd.sock"

[notify.oncall.webhook]
url = "http://127.0.0.1:9/"

[services.service-0000]
platform.command = {{ current = ["cat", "{folder}/version"], deploy = ["true"] }}

[services.service-0000.probes.ready]
http = "http://127.0.0.1:9/healthz"
"#
    )
}
