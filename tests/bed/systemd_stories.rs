//! What happens to the daemon under a real systemd, with the unit as it is shipped.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::booted::Booted;
use crate::daemon::rows;
use crate::parts::wait_for;

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(file)
}

/// The drop-in for daemons whose services are deployed by programs, installed as its first lines say.
fn install_command_platform(booted: &Booted) {
    let drop_in = fs::read_to_string(shipped("command-platform.conf")).unwrap();
    booted.drop_in("command-platform", &drop_in);
    booted.succeed(&["useradd", "--system", "--home-dir", "/var/lib/rollbackd", "rollbackd"]);
    booted.succeed(&["chown", "-R", "rollbackd:rollbackd", "/srv/checkout"]);
    booted.systemctl(&["daemon-reload"]);
}

/// Every version that was ever seen, oldest first, with its status.
fn history(booted: &Booted) -> Vec<(String, String, bool)> {
    let rows = rows(&booted.cli_json(&["history", "web"])).into_iter().rev();
    rows.map(|(status, version, rollback_of)| (status, version, rollback_of.is_some())).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn the_unit_becomes_active_answers_inside_and_keeps_its_state_to_itself() {
    let booted = Booted::new("unit").await;
    booted.begin_with("v1");

    booted.systemctl(&["start", "rollbackd"]);

    assert_eq!(booted.property("ActiveState"), "active");
    assert_eq!(booted.property("StatusText"), "guarding 1 services");
    wait_for("the first version was seen", || history(&booted).len() == 1);
    assert!(booted.succeed(&["/usr/bin/rollbackd", "status"]).contains("v1"));
    let state = booted.path("/var/lib/private/rollbackd");
    let ledger = fs::metadata(state.join("ledger.sqlite3")).unwrap();
    assert_eq!(ledger.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert_ne!(ledger.uid(), 0, "the daemon is not root");

    booted.systemctl(&["stop", "rollbackd"]);
    assert!(state.join("ledger.sqlite3").exists());
    assert_eq!(booted.property("Result"), "success");
    booted.systemctl(&["start", "rollbackd"]);
    assert_eq!(history(&booted).len(), 1, "the state was kept");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_reload_takes_a_good_configuration_and_refuses_a_wrong_one() {
    let booted = Booted::new("reload").await;
    booted.begin_with("v1");
    booted.systemctl(&["start", "rollbackd"]);
    wait_for("the first version was seen", || history(&booted).len() == 1);
    let process = booted.property("MainPID");

    booted.write("/etc/rollbackd/rollbackd.toml", "[services.web]\nwindow = \"12 parsecs\"\n", 0o644);
    booted.systemctl(&["reload", "rollbackd"]);
    wait_for("systemd was told", || booted.property("StatusText").contains("the configuration was not reloaded"));
    assert!(booted.journal("200").contains("12 parsecs"), "the journal doesn't say what is wrong");
    assert_eq!(booted.property("ActiveState"), "active");
    assert_eq!(booted.service()["deployment"]["version"]["name"], "v1", "the running configuration stays");

    booted.configure("\n[services.other]\nplatform.command = { current = [\"echo\", \"v7\"], deploy = [\"false\"], every = \"1s\" }\n");
    booted.systemctl(&["reload", "rollbackd"]);
    wait_for("systemd was told", || booted.property("StatusText") == "guarding 2 services");
    wait_for("the new service is guarded", || booted.cli_json(&["status"]).to_string().contains("v7"));
    assert_eq!(booted.property("MainPID"), process, "it was a reload, not a restart");
    assert_eq!(history(&booted).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_daemon_that_hangs_is_killed_and_started_again_and_carries_on() {
    let booted = Booted::new("watchdog").await;
    booted.drop_in("watchdog", "[Service]\nWatchdogSec=4s\n");
    booted.systemctl(&["daemon-reload"]);
    booted.begin_with("v1");
    booted.systemctl(&["start", "rollbackd"]);
    wait_for("the first version was seen", || history(&booted).len() == 1);
    booted.succeed(&["/usr/bin/rollbackd", "hold", "web", "--reason", "a drill", "--yes"]);
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(booted.property("NRestarts"), "0", "a daemon that is well is left alone");
    let before = booted.property("MainPID");

    booted.signal("STOP");
    booted.wait_for_another_process(&before);

    assert_eq!(booted.property("NRestarts"), "1");
    let journal = booted.succeed(&["journalctl", "--no-pager", "--output=cat", "--grep=atchdog timeout"]);
    assert!(journal.contains("rollbackd.service"), "{journal}");
    wait_for("it answers", || booted.run(&["/usr/bin/rollbackd", "status"]).status.success());
    assert_eq!(history(&booted).len(), 1);
    assert_eq!(booted.service()["hold"]["reason"], "a drill", "{}", booted.service());
}

/// A daemon with the right to deploy, a version `v1` that is known good, a bad `v2` on it, and a rollback whose `deploy` hangs.
async fn a_rollback_is_under_way(story: &str) -> Booted {
    let mut booted = Booted::new(story).await;
    install_command_platform(&booted);
    booted.begin_with("v1");
    booted.traffic(40);
    booted.systemctl(&["start", "rollbackd"]);
    booted.wait_until_known_good();

    booted.programs.set_mood("sleep 1000 & sleep 1000");
    booted.deploy_as("rollbackd", "v2");
    wait_for("`deploy` runs", || booted.programs.rollbacks_begun() == 1);
    wait_for("all notices are recorded as delivered", || booted.cli_json(&["status"])["notices_waiting"] == 0);
    assert_eq!(sleeping(&booted), 2);
    booted
}

fn sleeping(booted: &Booted) -> usize {
    let processes = booted.succeed(&["ps", "-e", "-o", "args="]);
    processes.lines().filter(|line| *line == "sleep 1000").count()
}

fn assert_carried_on(booted: &Booted) {
    booted.audience.wait_for_notice("all_clear");
    booted.audience.assert_heard_once(&["detected", "rolling_back", "recovered", "all_clear"]);
    assert_eq!(booted.programs.running(), "v1");
    assert_eq!(booted.programs.effects(), ["v2", "v1"]);
    let expected = [("deployed", "v1", false), ("rolled_back", "v2", false), ("deployed", "v1", true)];
    assert_eq!(history(booted), expected.map(|(status, version, is_rollback)| (status.to_owned(), version.to_owned(), is_rollback)));
    assert_eq!(sleeping(booted), 0);
    let users: Vec<_> = booted.audience.mails().into_iter().map(|mail| mail["user"].clone()).collect();
    assert!(users.iter().all(|user| *user == crate::parts::variable("BED_SMTP_USER")), "the secret was not used: {users:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_stop_in_the_middle_of_a_rollback_ends_soon_and_the_next_start_carries_on() {
    let booted = a_rollback_is_under_way("stop").await;

    let asked = Instant::now();
    booted.systemctl(&["stop", "rollbackd"]);
    assert!(asked.elapsed() < Duration::from_secs(5), "took {:?} to end", asked.elapsed());
    assert_eq!(booted.property("Result"), "success");
    assert_eq!(sleeping(&booted), 0, "`deploy` goes on without the daemon");
    assert_eq!(booted.programs.release(), "v2");
    booted.programs.set_mood("");
    booted.systemctl(&["start", "rollbackd"]);

    assert_carried_on(&booted);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_daemon_killed_in_the_middle_of_a_rollback_takes_deploy_with_it_and_comes_back() {
    let booted = a_rollback_is_under_way("kill").await;
    let before = booted.property("MainPID");

    booted.programs.set_mood("");
    booted.signal("KILL");
    booted.wait_for_another_process(&before);

    assert_carried_on(&booted);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_second_daemon_beside_the_unit_is_refused_and_told_of_the_first() {
    let booted = Booted::new("beside").await;
    booted.begin_with("v1");
    booted.systemctl(&["start", "rollbackd"]);

    let state = "STATE_DIRECTORY=/var/lib/private/rollbackd";
    let credentials = "CREDENTIALS_DIRECTORY=/etc/rollbackd/credentials";
    let second = booted.run(&["env", state, credentials, "timeout", "20", "/usr/bin/rollbackd", "run"]);

    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("is in use by process {}", booted.property("MainPID"))), "{said}");
    assert!(booted.run(&["/usr/bin/rollbackd", "status"]).status.success(), "the first one goes on");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn the_unit_is_verified_without_a_word_and_exposes_nearly_nothing() {
    let booted = Booted::new("analyze").await;
    booted.systemctl(&["start", "rollbackd"]);

    let verified = booted.run(&["systemd-analyze", "verify", "--man=no", "/etc/systemd/system/rollbackd.service"]);
    assert!(verified.status.success());
    assert_eq!(String::from_utf8_lossy(&verified.stderr), "");
    let security = booted.succeed(&["systemd-analyze", "security", "--no-pager", "rollbackd.service"]);
    let overall = security.lines().find(|line| line.contains("Overall exposure level")).expect("it has a level");
    let level: f64 = overall.split_once(": ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).expect("a number");
    assert!(level <= 1.5, "{overall}");
}
