//! What systemd is told of the daemon (`sd_notify(3)`). Without `NOTIFY_SOCKET` in the environment nothing is sent; nothing here ever fails,
//! because a daemon that can't speak to systemd still guards deployments.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon guards from now on: the end of the start, or of a reload.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(&one_line(status))]);
}

/// A reload begins; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        // Without the time systemd 253 would take the reload for failed and end the daemon, so it is better not told of it.
        Err(error) => tracing::warn!(%error, "systemd was not told of the reload, for want of a clock"),
    }
}

/// The daemon is about to end.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
}

/// The daemon's loop still turns. To be said by the loop itself, every [`watchdog_interval`].
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be said: half of what systemd waits (`WatchdogSec=`), as `sd_watchdog_enabled(3)` recommends. `None` when it
/// doesn't wait for it.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told {}", states.first().map(ToString::to_string).unwrap_or_default());
    }
}

/// A line break would begin another assignment.
fn one_line(status: &str) -> String {
    status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    use super::*;

    /// Runs one of the tests below that are ignored otherwise, in a process of its own, because an environment can't be changed safely.
    fn in_a_process(test: &str, environment: &[(&str, &str)]) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("systemd::tests::{test}"), "--ignored", "--nocapture"])
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_PID")
            .env_remove("WATCHDOG_USEC")
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        said
    }

    #[test]
    #[ignore = "runs in a process of its own, see below"]
    fn says_everything() {
        ready("guarding 3 services\nSTOPPING=1");
        alive();
        status("rolling back checkout");
        reloading();
        stopping("bye");
    }

    #[test]
    #[ignore = "runs in a process of its own, see below"]
    fn prints_the_watchdog_interval() {
        println!("interval: {:?}", watchdog_interval());
    }

    #[test]
    fn systemd_hears_each_turn_of_the_daemons_life() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        in_a_process("says_everything", &[("NOTIFY_SOCKET", path.to_str().unwrap())]);

        let mut heard = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(length) = socket.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        let [ready, alive, status, reloading, stopping] = <[String; 5]>::try_from(heard).unwrap();
        assert_eq!(ready, "READY=1\nSTATUS=guarding 3 services STOPPING=1\n");
        assert_eq!(alive, "WATCHDOG=1\n");
        assert_eq!(status, "STATUS=rolling back checkout\n");
        let since_boot = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").map(|rest| rest.trim_end().parse::<u64>());
        assert!(matches!(since_boot, Some(Ok(1..))), "{reloading:?}");
        assert_eq!(stopping, "STOPPING=1\nSTATUS=bye\n");
    }

    #[test]
    fn without_systemd_nothing_is_said_and_nothing_fails() {
        in_a_process("says_everything", &[]);
        in_a_process("says_everything", &[("NOTIFY_SOCKET", "/nowhere/notify")]);
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_systemd_looks() {
        let interval = |environment: &[(&str, &str)]| {
            let said = in_a_process("prints_the_watchdog_interval", environment);
            said.lines().find_map(|line| line.split_once("interval: ").map(|(_, interval)| interval.to_owned())).unwrap()
        };
        assert_eq!(interval(&[("WATCHDOG_USEC", "30000000")]), "Some(15s)");
        assert_eq!(interval(&[]), "None");
        assert_eq!(interval(&[("WATCHDOG_USEC", "0")]), "None");
        assert_eq!(interval(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "1")]), "None");
    }
}
