//! What happens to a service outside Kubernetes: a process, deployed by programs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::host::Host;
use crate::parts::wait_for;

/// A service whose version `v1` is known good, on which a person then deploys `v2`, of which 4 in 5 requests fail.
async fn a_bad_version_is_deployed(story: &str, platform: &str, mood: &str) -> Host {
    let mut host = Host::new(story).await;
    host.deploy("v1");
    host.traffic(40);
    host.configure(platform, "");
    host.start_daemon();
    host.wait_until_known_good();

    host.programs.set_mood(mood);
    host.deploy("v2");
    host
}

/// The status of each deployment, and whether it is a rollback; newest first.
fn rows(host: &Host) -> Vec<(String, String, bool)> {
    host.history().into_iter().map(|(status, version, rollback_of)| (status, version, rollback_of.is_some())).collect()
}

fn row(status: &str, version: &str, is_rollback: bool) -> (String, String, bool) {
    (status.to_owned(), version.to_owned(), is_rollback)
}

/// A notice that is under way when the daemon dies arrives again, and that is another story.
fn wait_until_told(host: &Host) {
    wait_for("all notices are recorded as delivered", || host.cli_json(&["status"])["notices_waiting"] == 0);
}

/// It went back to `v1` once, everybody heard of each turn once, and no program runs any more.
fn assert_went_back_once(host: &Host) {
    host.wait_for_notice("all_clear");
    host.assert_heard_once(&["detected", "rolling_back", "recovered", "all_clear"]);
    assert_eq!(host.programs.running(), "v1");
    assert_eq!(host.programs.effects(), ["v1", "v2", "v1"]);
    assert_eq!(rows(host), [row("deployed", "v1", true), row("rolled_back", "v2", false), row("deployed", "v1", false)]);
    host.assert_nothing_is_left_running();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_process_whose_new_release_answers_500_is_rolled_back_and_everybody_hears_of_it_once() {
    let host = a_bad_version_is_deployed("process", "", "").await;

    assert_went_back_once(&host);
    assert_eq!(host.programs.rollbacks_begun(), 1);
    let ledger = fs::metadata(host.state.join("ledger.sqlite3")).unwrap();
    assert_eq!(ledger.permissions().mode() & 0o777, 0o600, "others can read the ledger");
    let (_, plan) = host.programs.attempts().pop().unwrap();
    assert_eq!(host.notice("rolling_back")["incident"], host.notice("detected")["incident"]);
    let explained = host.cli(&["explain", "web"]);
    assert!(explained.status.success());
    assert!(host.cli_json(&["explain", "web"]).to_string().contains(&plan), "the plan that `deploy` was told of is known");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_healthy_release_passes_its_window_and_no_program_deploys_anything() {
    let mut host = Host::new("goodprocess").await;
    host.deploy("v1");
    host.traffic(40);
    host.configure("", "");
    host.start_daemon();
    host.wait_until_known_good();

    host.deploy("v3");
    wait_for("the new version was seen", || host.history().len() == 2);
    host.wait_until_known_good();

    assert_eq!(rows(&host), [row("deployed", "v3", false), row("deployed", "v1", false)]);
    assert_eq!(host.programs.running(), "v3");
    assert_eq!(host.programs.rollbacks_begun(), 0);
    assert!(host.kinds().is_empty(), "nobody is told of a healthy version: {:?}", host.kinds());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_deploy_that_takes_its_time_after_the_link_is_switched_is_not_cut_off() {
    let mut host = Host::new("slowdeploy").await;
    host.deploy("v1");
    host.traffic(40);
    host.configure("", "");
    host.start_daemon();
    host.wait_until_known_good();

    host.programs.set_pause(4);
    host.deploy("v2");

    assert_went_back_once(&host);
    assert_eq!(host.programs.rollbacks_begun(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_deploy_that_fails_is_not_repeated_and_calls_for_a_person() {
    let host = a_bad_version_is_deployed("deployfails", "", "echo 'no space on the release disk' >&2; exit 1").await;

    host.wait_for_notice("failed");
    wait_for("its window ended", || host.history()[0].0 == "failed");
    std::thread::sleep(Duration::from_secs(3));

    // Once when it failed, and once more when the window ended and nobody had done anything.
    host.assert_heard_once(&["detected", "rolling_back", "failed", "failed"]);
    assert!(host.notice("failed").to_string().contains("no space on the release disk"), "{}", host.notice("failed"));
    assert_eq!(host.programs.rollbacks_begun(), 1, "it is not tried again: {:?}", host.programs.attempts());
    assert_eq!(host.programs.effects(), ["v1", "v2"]);
    assert_eq!(host.programs.running(), "v2");
    assert_eq!(rows(&host), [row("failed", "v2", false), row("deployed", "v1", false)]);
    host.assert_nothing_is_left_running();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_deploy_that_hangs_is_killed_with_its_children() {
    let host = a_bad_version_is_deployed("deployhangs", "timeout = \"2s\"", "sleep 1000 & sleep 1000").await;
    let sleeping =
        |host: &Host| host.processes().into_iter().filter(|(_, line)| line == "sleep 1000").map(|(id, _)| id).collect::<Vec<_>>();

    wait_for("both of its children run", || sleeping(&host).len() == 2);
    let (first, begun) = (sleeping(&host), std::time::Instant::now());
    wait_for("they are killed", || first.iter().all(|id| !Path::new(&format!("/proc/{id}")).exists()));
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    // Nobody knows how far it got, so a person is called, and it is not run again.
    wait_for("a person is called", || host.kinds().iter().any(|kind| kind == "failed"));
    std::thread::sleep(Duration::from_secs(3));
    assert!(sleeping(&host).is_empty());
    assert_eq!(host.programs.rollbacks_begun(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_daemon_killed_while_deploy_runs_has_one_effect() {
    let mut host = a_bad_version_is_deployed("killeddeploy", "", "sleep 3").await;

    wait_for("`deploy` runs", || host.programs.rollbacks_begun() == 1);
    wait_until_told(&host);
    host.kill_daemon();
    assert_eq!(host.programs.release(), "v2", "nothing happened yet");
    host.start_daemon();

    assert_went_back_once(&host);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_daemon_terminated_while_deploy_hangs_ends_with_it_and_is_carried_on() {
    let mut host = a_bad_version_is_deployed("endeddeploy", "", "sleep 1000 & sleep 1000").await;

    wait_for("`deploy` runs", || host.processes().iter().filter(|(_, line)| line == "sleep 1000").count() == 2);
    wait_until_told(&host);
    host.terminate_daemon();
    host.assert_nothing_is_left_running();
    assert_eq!(host.programs.release(), "v2", "nothing happened yet");
    host.programs.set_mood("");
    host.start_daemon();

    assert_went_back_once(&host);
}

/// The daemon did not start, and touched nothing.
fn assert_nothing_was_started(host: &Host) {
    assert!(!host.socket().exists(), "there is a socket");
    assert!(host.programs.attempts().is_empty());
    assert!(!host.programs.folder.join("looked").exists(), "`current` ran");
    assert!(host.processes().is_empty(), "{:?}", host.processes());
    assert!(host.kinds().is_empty());
}

/// A host whose `current` leaves a trace.
async fn a_host_that_is_watched(story: &str) -> Host {
    let host = Host::new(story).await;
    fs::write(host.programs.folder.join("current"), "#!/bin/sh\ntouch \"$(dirname \"$0\")/looked\"\necho v1\n").unwrap();
    host.configure("", "");
    host
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_wrong_configuration_starts_nothing_and_says_everything_that_is_wrong() {
    let host = a_host_that_is_watched("wrong").await;
    let wrong = fs::read_to_string(host.configuration()).unwrap().replace("window = \"12s\"", "window = \"12 parsecs\"");
    fs::write(host.configuration(), wrong.replace("every = \"250ms\"", "evrey = \"250ms\"") + "\n[notify.nobody]\n").unwrap();

    let ended = host.start_in_vain();

    assert_eq!(ended.status.code(), Some(2));
    let said = String::from_utf8_lossy(&ended.stderr);
    for wrong in ["12 parsecs", "evrey", "notify.nobody"] {
        assert!(said.contains(wrong), "{wrong} is not named in:\n{said}");
    }
    assert_nothing_was_started(&host);
    assert!(!host.state.exists(), "there is a ledger");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_ledger_that_is_none_starts_nothing_and_stays_as_it_is() {
    let host = a_host_that_is_watched("garbage").await;
    fs::create_dir(&host.state).unwrap();
    let file = host.state.join("ledger.sqlite3");
    let garbage: Vec<u8> = (0..100_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&file, &garbage).unwrap();

    let ended = host.start_in_vain();

    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains(file.to_str().unwrap()) && said.contains("it was left as it is"), "{said}");
    assert!(fs::read(&file).unwrap() == garbage, "the file was changed");
    assert_nothing_was_started(&host);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_state_directory_that_cannot_be_written_starts_nothing_and_is_named() {
    let host = a_host_that_is_watched("readonly").await;
    fs::create_dir(&host.state).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "ro,size=64k", "tmpfs"]).arg(&host.state).status().unwrap();
    assert!(mounted.success(), "the bed runs as root");

    let ended = host.start_in_vain();
    let unmounted = Command::new("umount").arg(&host.state).status().unwrap();

    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains(host.state.to_str().unwrap()) && said.contains("Read-only file system"), "{said}");
    assert_nothing_was_started(&host);
    assert!(unmounted.success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_second_daemon_on_the_same_state_directory_is_refused_and_told_of_the_first() {
    let mut host = Host::new("second").await;
    host.deploy("v1");
    host.configure("", "");
    host.start_daemon();
    wait_for("the first version was seen", || host.history().len() == 1);

    let refused = host.start_in_vain();

    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains(&format!("in use by process {}", host.process_id())), "{said}");
    assert!(host.cli(&["status"]).status.success(), "the first one goes on");
    assert_eq!(host.history().len(), 1);
}
