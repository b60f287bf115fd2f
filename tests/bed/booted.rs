//! A real systemd in a container that looks like this host, with the daemon installed as its unit says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::audience::Audience;
use crate::daemon::configuration;
use crate::host::Programs;
use crate::parts::{Process, variable, wait_for};

/// What a story under systemd plays in.
#[derive(Debug)]
pub struct Booted {
    /// Who is told.
    pub audience: Audience,
    /// The programs and the releases, as we see them.
    pub programs: Programs,
    name: String,
    folder: TempDir,
    leader: String,
    others: Vec<Process>,
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the journal ends so:\n{}", self.journal("60"));
        }
        let _ = systemd(&["down", &self.name, self.folder.path().join("boot").to_str().unwrap_or_default()]);
    }
}

/// Where the programs are, inside.
const CHECKOUT: &str = "/srv/checkout";

/// The daemon has no right to restart a unit; it asks, and waits for the answer.
const RESTART: &str = r#"#!/bin/sh
set -eu
cd "$(dirname "$0")"
. ./address
echo "$1" >wanted
until [ "$(curl --silent --max-time 1 "http://$LISTEN/version")" = "$1" ]; do sleep 0.05; done
"#;

/// The service, and what restarts it when it is asked for: (name, text).
const UNITS: [(&str, &str); 3] = [
    ("checkout.service", "[Service]\nEnvironmentFile=/srv/checkout/release/environment\nExecStart=/run/bed/shop serve\n"),
    ("checkout-restart.service", "[Service]\nType=oneshot\nExecStart=systemctl restart checkout.service\n"),
    ("checkout-restart.path", "[Path]\nPathChanged=/srv/checkout/wanted\nUnit=checkout-restart.service\n"),
];

fn systemd(arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bed/systemd");
    Command::new(script).args(arguments).output().expect("the script is there")
}

impl Booted {
    /// A booted system with the binary, the unit, a configuration and a secret; nothing is started.
    pub async fn new(story: &str) -> Self {
        let audience = Audience::new(format!("{story}-{}", std::process::id())).await;
        let folder = tempfile::Builder::new().prefix("rollbackd-").tempdir().expect("a temporary folder");
        let name = format!("rollbackd-{}", audience.mailbox);
        let booted = systemd(&["up", &name, folder.path().join("boot").to_str().expect("text")]);
        assert!(booted.status.success(), "{}", String::from_utf8_lossy(&booted.stderr));
        let leader = String::from_utf8_lossy(&booted.stdout).trim().to_owned();
        let programs = Programs::install(&PathBuf::from(format!("/proc/{leader}/root{CHECKOUT}")), RESTART);
        let booted = Self { audience, programs, name, folder, leader, others: Vec::new() };
        booted.install();
        booted
    }

    fn install(&self) {
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/rollbackd.service");
        let shop = Path::new(&variable("BED_BIN")).join("shop");
        self.copy(Path::new(env!("CARGO_BIN_EXE_rollbackd")), "/usr/bin/rollbackd", 0o755);
        self.copy(&shop, "/run/bed/shop", 0o755);
        self.copy(&unit, "/etc/systemd/system/rollbackd.service", 0o644);
        self.copy(Path::new(&variable("BED_CA")), "/etc/rollbackd/ca.pem", 0o644);
        self.write("/etc/rollbackd/credentials/smtp-password", &variable("BED_SMTP_PASSWORD"), 0o600);
        self.drop_in("secret", "[Service]\nLoadCredential=smtp-password:/etc/rollbackd/credentials/smtp-password\n");
        for (name, text) in UNITS {
            self.write(&format!("/run/systemd/system/{name}"), text, 0o644);
        }
        self.configure("");
        self.systemctl(&["daemon-reload"]);
    }

    /// What is at an absolute path inside, as we see it.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.leader))
    }

    /// Writes a file inside.
    pub fn write(&self, inside: &str, text: &str, mode: u32) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("not the root")).expect("it can be written inside");
        fs::write(&path, text).expect("it can be written inside");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }

    fn copy(&self, from: &Path, inside: &str, mode: u32) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("not the root")).expect("it can be written inside");
        fs::copy(from, &path).expect("it can be written inside");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }

    /// Adds a drop-in to the daemon's unit; `daemon-reload` makes it known.
    pub fn drop_in(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/rollbackd.service.d/{name}.conf"), text, 0o644);
    }

    /// Writes the configuration of the service `web`; `further` is added to the service.
    pub fn configure(&self, further: &str) {
        let mail = format!(
            "smtp = \"smtp://{}\"\nca_file = \"/etc/rollbackd/ca.pem\"\nuser = \"{}\"\npassword_credential = \"smtp-password\"",
            variable("BED_SMTP_STARTTLS"),
            variable("BED_SMTP_USER"),
        );
        let service = self.programs.configuration(Path::new(CHECKOUT), "", further);
        self.write("/etc/rollbackd/rollbackd.toml", &configuration("", &mail, &self.audience, &service), 0o644);
    }

    /// Runs a program inside.
    pub fn run(&self, program: &[&str]) -> Output {
        systemd(&[&["enter", &self.leader], program].concat())
    }

    /// Runs a program inside that must succeed, and gives what it prints.
    pub fn succeed(&self, program: &[&str]) -> String {
        let output = self.run(program);
        assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// `systemctl`.
    pub fn systemctl(&self, arguments: &[&str]) -> String {
        self.succeed(&[&["systemctl"], arguments].concat())
    }

    /// A property of the daemon's unit.
    pub fn property(&self, name: &str) -> String {
        self.systemctl(&["show", "--value", "--property", name, "rollbackd"]).trim().to_owned()
    }

    /// The last lines of the daemon's journal.
    pub fn journal(&self, lines: &str) -> String {
        let journal = self.run(&["journalctl", "--unit=rollbackd", "--no-pager", "--output=cat", "--lines", lines]);
        String::from_utf8_lossy(&journal.stdout).into_owned()
    }

    /// The service runs, deployed by a person, and the way to restart it is open.
    pub fn begin_with(&self, version: &str) {
        std::os::unix::fs::symlink(format!("releases/{version}"), self.programs.folder.join("release")).expect("nothing is there yet");
        self.systemctl(&["start", "checkout.service", "checkout-restart.path"]);
        wait_for("the service answers", || self.programs.running() == version);
    }

    /// A person deploys, as the owner of the releases.
    pub fn deploy_as(&self, user: &str, version: &str) {
        self.succeed(&["runuser", "--user", user, "--", &format!("{CHECKOUT}/deploy"), version]);
    }

    /// Traffic, for at most five minutes.
    pub fn traffic(&mut self, per_second: u32) {
        self.others.push(self.programs.traffic(per_second));
    }

    /// `rollbackd` as an operator inside runs it, with JSON as its answer.
    pub fn cli_json(&self, arguments: &[&str]) -> Value {
        let answer = self.succeed(&[&["/usr/bin/rollbackd", "--output", "json"], arguments].concat());
        serde_json::from_str(&answer).expect("JSON")
    }

    /// The service as `status` shows it.
    pub fn service(&self) -> Value {
        self.cli_json(&["status", "web"])["services"][0].clone()
    }

    /// Waits until the running version has passed its window.
    pub fn wait_until_known_good(&self) {
        wait_for("the running version is known good", || self.service()["deployment"]["status"] == "deployed");
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: &str) {
        self.succeed(&["kill", "-s", signal, &self.property("MainPID")]);
    }

    /// Ends once the daemon has another process than before.
    pub fn wait_for_another_process(&self, before: &str) {
        wait_for("the daemon was started again", || {
            self.property("ActiveState") == "active" && ![before, "0"].contains(&self.property("MainPID").as_str())
        });
    }
}
