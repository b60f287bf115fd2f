//! What the daemon is asked to look at turns against it: nothing is rolled back for that, memory stays bounded, and it still answers.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::Daemon;
use crate::hostile::{Hostile, Manner};
use crate::parts::wait_for;

/// A service whose version is what stands in a file, and whose `deploy` notes that it ran.
fn service(daemon: &Daemon, name: &str, signal: &str) -> String {
    fs::write(version_of(daemon, name), "v1\n").expect("a file in our folder");
    let folder = daemon.folder.path().display();
    let deploy = format!("echo {name} >>{folder}/effects; echo $ROLLBACKD_TO >{folder}/version-{name}");
    format!(
        r#"
[services.{name}]
environment = "bed"
window = "12s"
verification = {{ timeout = "30s", rollout_timeout = "30s", watch = "4s" }}
platform.command = {{ current = ["cat", "{folder}/version-{name}"], deploy = ["sh", "-c", "{deploy}"], every = "1s" }}
{signal}
"#
    )
}

fn version_of(daemon: &Daemon, name: &str) -> std::path::PathBuf {
    daemon.folder.path().join(format!("version-{name}"))
}

fn errors(name: &str, url: &str) -> String {
    format!(
        "[services.{name}.errors]\nmetrics = \"{url}\"\ntotal = \"http_requests_total\"\nfailed = 'http_requests_total{{code=~\"5..\"}}'\nevery = \"1s\"\ntimeout = \"2s\"\n"
    )
}

fn probe(name: &str, url: &str) -> String {
    format!("[services.{name}.probes.ask]\nhttp = \"{url}\"\nbody_contains = \"ok\"\nredirects = 5\nevery = \"250ms\"\ntimeout = \"5s\"\n")
}

fn services(daemon: &Daemon) -> Vec<Value> {
    daemon.cli_json(&["status"])["services"].as_array().expect("a list").clone()
}

/// The most memory that a process ever had, in KiB.
fn most_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// How long the longest of many questions took, asked for so long.
fn slowest_answer(daemon: &Daemon, during: Duration) -> Duration {
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < during {
        let asked = Instant::now();
        assert!(daemon.cli(&["status"]).status.success());
        slowest = slowest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    slowest
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn endpoints_that_turn_hostile_prove_nothing_take_no_memory_and_silence_nobody() {
    let mut daemon = Daemon::new(format!("hostile-{}", std::process::id())).await;
    let hostile = Hostile::serve(version_of(&daemon, "honest")).await;
    let address = hostile.address;
    // A probe that gets no answer, or headers that never end, found a service that does not work. All else says nothing about it.
    let probed = [Manner::Endless, Manner::OneLine, Manner::Redirects, Manner::GzipBomb];
    let mut names: Vec<String> = Manner::HOSTILE.iter().map(|manner| manner.name()).collect();
    let mut configuration: String =
        names.iter().map(|name| service(&daemon, name, &errors(name, &format!("http://{address}/{name}")))).collect();
    for manner in probed {
        let name = format!("probed-{}", manner.name());
        configuration += &service(&daemon, &name, &probe(&name, &format!("http://{address}/{}", manner.name())));
        names.push(name);
    }
    configuration += &service(&daemon, "tls", &errors("tls", &format!("https://{address}/honest")));
    configuration += &service(&daemon, "honest", &errors("honest", &format!("http://{address}/honest")));
    daemon.configure(&configuration);
    daemon.start_daemon();
    wait_for("every version but one is known good", || {
        services(&daemon).iter().filter(|service| service["service"] != "tls").all(|service| service["deployment"]["status"] == "deployed")
    });
    let before = most_memory(daemon.process_id());

    hostile.turn();
    for name in names.iter().map(String::as_str).chain(["tls", "honest"]) {
        fs::write(version_of(&daemon, name), "v2\n").expect("a file in our folder");
    }
    let slowest = slowest_answer(&daemon, Duration::from_secs(20));
    let after = most_memory(daemon.process_id());
    eprintln!("the slowest answer took {slowest:?}; memory went from {before} to {after} KiB");

    for service in services(&daemon).into_iter().filter(|service| service["service"] != "honest") {
        assert_eq!(service["deployment"]["version"]["name"], "v2", "{service}");
        assert_eq!(service["deployment"]["severity"], Value::Null, "{service}");
        let findings = service["findings"].as_array().expect("a list");
        let of_signal: Vec<_> = findings.iter().filter(|finding| finding["signal"] != "platform").collect();
        let inconclusive = of_signal.iter().all(|finding| finding["state"]["inconclusive"]["missing"].is_object());
        assert!(!of_signal.is_empty() && inconclusive, "{service}");
    }
    assert!(slowest < Duration::from_secs(3), "an answer took {slowest:?}");
    assert!(after < before + 48 * 1024, "memory went from {before} to {after} KiB");

    // All of them could have been rolled back: the one that only told the truth was.
    daemon.wait_for_notice("recovered");
    assert_eq!(fs::read_to_string(daemon.folder.path().join("effects")).expect("it ran"), "honest\n");
    let kinds = daemon.kinds();
    let spoke: Vec<_> = kinds.iter().map(String::as_str).filter(|kind| !["blind", "sighted"].contains(kind)).collect();
    assert!(["detected", "rolling_back", "recovered"].iter().eq(spoke.iter().take(3)), "{spoke:?}");
    assert!(spoke.len() <= 4, "{spoke:?}");
}
