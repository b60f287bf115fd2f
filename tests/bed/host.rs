//! A service on a plain host: a process whose version is a release behind a link, deployed by small programs.

use std::fs;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::daemon::{Daemon, STORY};
use crate::parts::{Process, free_port, http_get, wait_for};

/// What a story on a plain host plays in.
#[derive(Debug)]
pub struct Host {
    /// The programs and the releases.
    pub programs: Programs,
    daemon: Daemon,
    others: Vec<Process>,
}

impl Deref for Host {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Host {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for (id, _) in self.processes() {
            let _ = Command::new("kill").args(["-s", "KILL", &id.to_string()]).output();
        }
    }
}

/// Ends what runs and starts what the link shows.
const RESTART: &str = r#"#!/bin/sh
set -eu
cd "$(dirname "$0")"
. ./address
[ ! -e pid ] || kill "$(cat pid)" 2>/dev/null || true
while curl --silent --output /dev/null --max-time 1 "http://$LISTEN/version"; do sleep 0.05; done
set -a
. ./release/environment
setsid --fork sh -c 'echo $$ >pid; exec shop serve' </dev/null >>log 2>&1
"#;

impl Host {
    /// Programs and releases, of which none is deployed.
    pub async fn new(story: &str) -> Self {
        let daemon = Daemon::new(format!("{story}-{}", std::process::id())).await;
        let programs = Programs::install(&daemon.folder.path().join("checkout"), RESTART);
        Self { programs, daemon, others: Vec::new() }
    }

    /// Writes the configuration of the service `web`. `platform` is added to its programs, `further` to the service.
    pub fn configure(&self, platform: &str, further: &str) {
        self.daemon.configure(&self.programs.configuration(&self.programs.folder, platform, further));
    }

    /// A person deploys.
    pub fn deploy(&self, version: &str) {
        let deployed = Command::new(self.programs.folder.join("deploy"))
            .arg(version)
            .env(STORY, self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("the program is there");
        assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
    }

    /// Traffic, for at most five minutes.
    pub fn traffic(&mut self, per_second: u32) {
        self.others.push(self.programs.traffic(per_second));
    }

    /// The processes of this story, other than the daemon: number and command line.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let mark = format!("{STORY}={}", self.folder.path().display());
        let numbers = fs::read_dir("/proc").expect("Linux").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let ours = numbers.filter(|id| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        });
        let named = ours.map(|id| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            (id, String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned())
        });
        named.filter(|(_, line)| !line.contains("rollbackd.toml")).collect()
    }

    /// Only the service itself runs, once.
    pub fn assert_nothing_is_left_running(&self) {
        let mut left = Vec::new();
        // `current` and `status` come and go while a daemon watches.
        let is_look = |line: &str| line.contains("/current") || line.contains("/status");
        wait_for("only the service runs", || {
            left = self.processes().into_iter().map(|(_, line)| line).filter(|line| !is_look(line)).collect();
            left == ["shop serve"]
        });
    }
}

/// `current`, `deploy` and `status` in a folder, beside the releases that they deploy.
#[derive(Debug)]
pub struct Programs {
    /// Where they are, as we see it.
    pub folder: PathBuf,
    /// Where the service listens.
    pub address: SocketAddr,
}

/// Prints the release that the link shows.
const CURRENT: &str = r#"#!/bin/sh
basename "$(readlink "$(dirname "$0")/release")"
"#;

/// Wants a version, rather than adding to it: it bears to be killed, and to run twice, even at once.
const DEPLOY: &str = r#"#!/bin/sh
set -eu
cd "$(dirname "$0")"
to=${ROLLBACKD_TO:-$1}
echo "$to ${ROLLBACKD_PLAN:-by-hand}" >>attempts
[ -z "${ROLLBACKD_PLAN:-}" ] || . ./mood
exec 9>lock
flock 9
[ "$(./current)" != "$to" ] || exit 0
ln -sfn "releases/$to" next
mv -T next release
echo "$to" >>effects
[ -z "${ROLLBACKD_PLAN:-}" ] || sleep "$(cat pause)"
./restart "$to" 9>&-
"#;

/// Rolled out is what answers.
const STATUS: &str = r#"#!/bin/sh
. "$(dirname "$0")/address"
[ "$(curl --silent --max-time 1 "http://$LISTEN/version")" = "$ROLLBACKD_VERSION" ] || exit 75
"#;

impl Programs {
    /// Writes them, and two good releases (`v1`, `v3`) beside a bad one (`v2`) of which 4 in 5 requests fail. `restart` makes the service run
    /// what the link shows.
    pub fn install(folder: &Path, restart: &str) -> Self {
        let programs = Self { folder: folder.to_owned(), address: SocketAddr::from(([127, 0, 0, 1], free_port())) };
        for (version, ratio) in [("v1", "0"), ("v2", "0.8"), ("v3", "0")] {
            fs::create_dir_all(folder.join("releases").join(version)).expect("a folder in ours");
            let environment = format!("STUB_VERSION={version}\nFAIL_RATIO={ratio}\nLISTEN={}\n", programs.address);
            programs.write(&format!("releases/{version}/environment"), &environment, 0o644);
        }
        programs.write("address", &format!("LISTEN={}\n", programs.address), 0o644);
        programs.set_mood("");
        programs.set_pause(0);
        for (name, script) in [("current", CURRENT), ("deploy", DEPLOY), ("status", STATUS), ("restart", restart)] {
            programs.write(name, script, 0o755);
        }
        programs
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("a file in our folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }

    /// What `deploy` does first when the daemon runs it; shell.
    pub fn set_mood(&self, shell: &str) {
        self.write("mood", shell, 0o644);
    }

    /// How many seconds `deploy` waits between the switch of the link and the restart when the daemon runs it.
    pub fn set_pause(&self, seconds: u32) {
        self.write("pause", &seconds.to_string(), 0o644);
    }

    /// The configuration of the service `web`, whose programs the daemon sees in `folder`.
    pub fn configuration(&self, folder: &Path, platform: &str, further: &str) -> String {
        format!(
            r#"
[services.web]
environment = "bed"
window = "12s"
verification = {{ timeout = "30s", rollout_timeout = "30s", watch = "4s" }}

[services.web.platform.command]
current = ["{folder}/current"]
deploy = ["{folder}/deploy"]
status = ["{folder}/status"]
every = "1s"
{platform}

[services.web.errors]
metrics = "http://{address}/metrics"
total = "http_requests_total"
failed = 'http_requests_total{{code=~"5.."}}'
every = "1s"

[services.web.probes.health]
http = "http://{address}/healthz"
every = "250ms"
timeout = "1s"
{further}
"#,
            folder = folder.display(),
            address = self.address,
        )
    }

    /// Traffic on the service, for at most five minutes.
    pub fn traffic(&self, per_second: u32) -> Process {
        let load = Command::new("shop")
            .args(["load", "--url", &format!("http://{}/", self.address), "--rps", &per_second.to_string(), "--seconds", "300"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("shop is in the bed's PATH");
        Process(load)
    }

    /// The release that the link shows.
    pub fn release(&self) -> String {
        let target = fs::read_link(self.folder.join("release")).expect("something is deployed");
        target.file_name().expect("a release").to_string_lossy().into_owned()
    }

    /// The version that answers.
    pub fn running(&self) -> String {
        http_get(self.address.port(), "/version").trim().to_owned()
    }

    /// Each start of `deploy`: the version and the plan, or `by-hand`; oldest first.
    pub fn attempts(&self) -> Vec<(String, String)> {
        let lines = self.lines("attempts").into_iter();
        lines.filter_map(|line| line.split_once(' ').map(|(version, plan)| (version.to_owned(), plan.to_owned()))).collect()
    }

    /// How many of them the daemon began.
    pub fn rollbacks_begun(&self) -> usize {
        self.attempts().iter().filter(|(_, plan)| plan != "by-hand").count()
    }

    /// Each change of what runs, oldest first.
    pub fn effects(&self) -> Vec<String> {
        self.lines("effects")
    }

    fn lines(&self, file: &str) -> Vec<String> {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}
