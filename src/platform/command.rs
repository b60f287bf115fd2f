//! Programs: any platform that has a command for `current`, `deploy` and `status`.
//!
//! A program is started from an argument vector, never through a shell. It gets the facts in its environment:
//!
//! | variable | programs | content |
//! |---|---|---|
//! | `ROLLBACKD_SERVICE`, `ROLLBACKD_ENVIRONMENT` | all | whose version |
//! | `ROLLBACKD_VERSION` | `status` | the version that is asked about |
//! | `ROLLBACKD_PLAN` | `deploy` | the rollback's name; the same at every attempt |
//! | `ROLLBACKD_FROM`, `ROLLBACKD_TO` | `deploy` | what is left and what shall run |
//! | `ROLLBACKD_REASON` | `deploy` | one line for people |
//!
//! It runs in a process group of its own, with nothing to read. At its time limit, or when its result is no longer wanted, the whole group is
//! killed (SIGKILL). That holds for a `deploy` under way when the daemon is stopped, too: the next start finds that it was cut off (`attempt`)
//! and runs it again, whatever `current` prints by then, so `deploy` must bear to be killed and run again, as it must bear a power cut. What
//! a program that ended by itself left running stays alone.
//!
//! Guarantees: `apply` reads `current` first and starts `deploy` only while it prints exactly the version that the effect is bound to; when
//! it prints the target, the effect is done, whoever brought it, unless a `deploy` to it was cut off. No two `deploy`s of a service run at
//! once, not even when the daemon was killed alone and the first one lives on: the second waits for it, and a person is called when it takes
//! longer than it may. While a `deploy` runs, its target is not reported: a link is switched long before the service is restarted. A `deploy`
//! that says no (it exits with 1 to 127), that outruns its time limit, or that ends well without `current` showing it within that limit is
//! not run again, and a person is called; one that was ended by a signal, or exits with 75 (`EX_TEMPFAIL`), is tried three times.
//!
//! Caveats: between reading and deploying somebody else can deploy, for a program has no compare-and-swap; and a `deploy` can run twice for
//! the same plan, so it should want the version rather than add to it (`ROLLBACKD_PLAN` tells a repetition). `current` should tell what runs
//! rather than what is meant to run: only then is a deployment that somebody else left half done not taken for a whole one.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::SignedDuration;
use rollbackd_core::observation::{Binding, Missing, Replicas, Rollout, Workload};
use rollbackd_core::plan::Effect;
use rollbackd_core::service::ServiceName;
use rollbackd_core::version::{Artifact, Version, VersionId};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Applied, Platform, Report};

mod attempt;
mod program;
mod tries;

use attempt::{Attempt, Attempts, Standing, Turn};
use program::{Ended, Flood, NotRun, Tail, Terms};
use tries::{Luck, Tries};

/// The programs. Each is an argument vector, never given to a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Prints the version that is deployed, one line.
    pub current: Vec<String>,
    /// Deploys `$ROLLBACKD_TO`. Exits with 0 when that is done or ordered, with 75 when it may be tried again, with anything else when it can't
    /// be done.
    pub deploy: Vec<String>,
    /// Exits with 0 when `$ROLLBACKD_VERSION` is rolled out, with 75 while it is not yet, with 1 to 125 when it failed. From 126 on, when it is
    /// ended by a signal, or when it takes too long, it has said nothing: that is how shells report a program that they could not run.
    /// Optional: without it a version is rolled out as soon as `current` prints it.
    pub status: Option<Vec<String>>,
    /// How often `current` is asked. Default 10 s.
    pub every: Duration,
    /// How long one program may take. Default 5 min for `deploy`; `current` and `status` have 30 s at most.
    pub timeout: Duration,
}

/// `current` and `status` have no longer.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// Programs are not asked more often, whatever is configured.
const BUSIEST: Duration = Duration::from_millis(20);
/// A report at least so often, even when nothing changes.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// How often at least `current` is asked whether it shows what `deploy` has brought.
const SETTLE: Duration = Duration::from_secs(2);
/// What was cut off is taken up again within this, if at all: no plan may start later.
const PLAN_LIFE: Duration = Duration::from_mins(10);
/// The longest name of a version, in bytes ([`VersionId`]).
const VERSION_LIMIT: usize = 256;
/// `EX_TEMPFAIL` of `sysexits.h`: not yet.
const NOT_YET: i32 = 75;
/// From here on an exit status is a shell's own: 126 not executable, 127 not found, …
const SHELL: i32 = 126;
/// … and from here on 128 and the number of the signal that ended the program.
const SHELL_SIGNAL: i32 = 128;

/// A service that is deployed by programs.
#[derive(Clone, Debug)]
pub struct Command {
    settings: Settings,
    service: ServiceName,
    environment: String,
    attempts: Attempts,
    tries: Tries,
}

impl Command {
    /// The programs of one service. Nothing is run, and nothing touched in the state directory, before the first use.
    #[must_use]
    pub fn new(settings: Settings, service: ServiceName, environment: String, state_directory: &Path) -> Self {
        let attempts = Attempts::of(&service, state_directory);
        Self { settings, service, environment, attempts, tries: Tries::default() }
    }

    /// The facts that all programs get, and those.
    fn facts<'a>(&'a self, further: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let common = [("ROLLBACKD_SERVICE", self.service.as_str()), ("ROLLBACKD_ENVIRONMENT", self.environment.as_str())];
        common.iter().chain(further).copied().collect()
    }

    /// Runs a program that is asked for a word. `role` says which.
    async fn ask(&self, role: &str, program: &[String], facts: &[(&str, &str)]) -> Result<Ended, Missing> {
        let limit = LOOK_LIMIT.min(self.settings.timeout);
        let terms = Terms { facts: self.facts(facts), limit, input: Stdio::null(), flood: Flood::Kills };
        program::run(program, terms).await.map_err(|why| {
            let words = format!("`{role}` {why}");
            if matches!(why, NotRun::TooMuch) { Missing::TooLarge(words) } else { Missing::Unreachable(words) }
        })
    }

    /// Asks `current`.
    async fn current(&self) -> Result<String, Missing> {
        let ended = self.ask("current", &self.settings.current, &[]).await?;
        if !ended.status.success() {
            return Err(Missing::Refused(format!("`current` {ended}")));
        }
        version(&ended.output)
    }

    /// Asks `status` how far a version is.
    async fn status(&self, version: &str) -> Result<Rollout, Missing> {
        let Some(program) = &self.settings.status else { return Ok(Rollout::Complete) };
        let ended = self.ask("status", program, &[("ROLLBACKD_VERSION", version)]).await?;
        match ended.status.code() {
            Some(0) => Ok(Rollout::Complete),
            Some(NOT_YET) => Ok(Rollout::Progressing),
            Some(code) if code < SHELL => Ok(Rollout::Failed(format!("`status` {ended}"))),
            Some(_) | None => Err(Missing::Refused(format!("`status` {ended}"))),
        }
    }

    async fn report(&self) -> Report {
        let look = async {
            let version = self.deployed(self.current().await?)?;
            let rollout = self.status(&version).await?;
            // The programs take their time, too.
            let unseen_for = SignedDuration::try_from(self.settings.every * 2).unwrap_or(SignedDuration::MAX);
            Ok(workload(version, rollout, unseen_for))
        };
        look.await.map_or_else(Report::Missing, |workload| Report::Seen(Box::new(workload)))
    }

    /// What is deployed when `current` prints this. Until a `deploy` has ended, what it replaces counts as deployed, for a link is switched
    /// long before the service is restarted: who took its effect for done would kill it half way, and what was cut off would stay so.
    fn deployed(&self, printed: String) -> Result<String, Missing> {
        let attempt = match self.standing()? {
            Standing::Running(Some(attempt)) if attempt.is_ours() || self.is_recent(&attempt) => attempt,
            Standing::CutOff(attempt) if self.is_to_be_taken_up(&attempt, &printed) => attempt,
            Standing::CutOff(attempt) => {
                let forgotten = self.attempts.forget();
                tracing::debug!(service = %self.service, plan = %attempt.plan, ?forgotten, "a `deploy` that was cut off is not taken up again");
                return Ok(printed);
            }
            Standing::Settled | Standing::Running(_) => return Ok(printed),
        };
        Ok(if attempt.to == printed { attempt.from } else { printed })
    }

    fn standing(&self) -> Result<Standing, Missing> {
        let cannot = |error| Missing::Unreachable(format!("cannot read {}: {error}", self.attempts.path().display()));
        self.attempts.standing().map_err(cannot)
    }

    /// Whether a `deploy` that was cut off is still to be brought to its end. This process itself ends one only when its plan has lost its
    /// ground; any other is taken up as long as its plan lives, unless somebody has deployed something else since.
    fn is_to_be_taken_up(&self, attempt: &Attempt, printed: &str) -> bool {
        !attempt.is_ours() && self.is_recent(attempt) && [&attempt.from, &attempt.to].into_iter().any(|version| version == printed)
    }

    fn is_recent(&self, attempt: &Attempt) -> bool {
        attempt.age() <= self.settings.timeout.max(PLAN_LIFE)
    }

    /// Another `deploy` runs, so ours may not begin.
    fn busy(&self) -> Applied {
        let file = self.attempts.path().display();
        match self.standing() {
            Ok(Standing::Running(Some(attempt))) => {
                let words = format!(
                    "a `deploy` that began at {} for plan {} still runs, or what it started holds {file} open; none is started beside it",
                    attempt.begun, attempt.plan
                );
                // The daemon that began it would have killed it by now, so that daemon was killed itself.
                let is_left = !attempt.is_ours() && attempt.age() > self.settings.timeout;
                if is_left { Applied::Failed(words) } else { Applied::Unknown(words) }
            }
            _ => Applied::Unknown(format!("another `deploy` held {file} a moment ago")),
        }
    }

    /// `deploy` did not run or not to its end, which may have been an accident.
    fn unlucky(&self, effect: &Effect, words: String) -> Applied {
        self.tries.ended(&effect.plan, Luck::Bad, &words);
        self.tries.given_up(&effect.plan).map_or(Applied::Unknown(words), Applied::Failed)
    }

    /// Runs `deploy`, then reads what became of it. `from` is what `current` printed just before.
    async fn deploy(&self, effect: &Effect, bound_to: &str, from: &str, mut turn: Turn) -> Applied {
        let input = match turn.begin(&Attempt::begin(&effect.plan, bound_to, &effect.to.id.0)) {
            Ok(input) => input,
            Err(error) => return self.unlucky(effect, format!("cannot write {}: {error}", self.attempts.path().display())),
        };
        let reason: String = effect.reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let facts = [
            ("ROLLBACKD_PLAN", effect.plan.as_str()),
            ("ROLLBACKD_FROM", &effect.from.id.0),
            ("ROLLBACKD_TO", &effect.to.id.0),
            ("ROLLBACKD_REASON", &reason),
        ];
        let program = self.settings.deploy.first().map_or("", String::as_str);
        let deadline = Instant::now() + self.settings.timeout;
        let terms = Terms { facts: self.facts(&facts), limit: self.settings.timeout, input, flood: Flood::IsSlowed };
        let ended = program::run(&self.settings.deploy, terms).await;
        turn.end();
        let (luck, words, patience) = match &ended {
            Err(why) if why.is_lasting() => return Applied::Rejected(format!("`deploy` ({program}) {why}")),
            Err(why @ NotRun::TooLong { .. }) => (Luck::None, format!("{why}"), None),
            Err(why) => (Luck::Bad, format!("{why}"), None),
            Ok(ended) if ended.status.success() => {
                let limit = self.settings.timeout.as_secs_f64();
                (Luck::None, format!("ended well, but `current` does not show it {limit} s after it was begun"), Some(deadline))
            }
            // A signal (or a shell's word for one) is no answer of the platform; it may be the machine that shuts down.
            Ok(ended) if ended.status.code().is_none_or(|code| code == NOT_YET || code >= SHELL_SIGNAL) => {
                (Luck::Bad, format!("{ended}"), None)
            }
            Ok(ended) => (Luck::None, format!("{ended}"), None),
        };
        let words = format!("`deploy` ({program}) {words}");
        self.tries.ended(&effect.plan, luck, &words);
        self.judge(effect, from, &words, self.after(&effect.to.id.0, from, patience).await)
    }

    /// Reads `current` after `deploy`, until it prints something else than before or, where it shall have that `patience`, the deadline is
    /// over. One that prints nothing that can be understood is asked a little longer than that.
    async fn after(&self, to: &str, from: &str, patience: Option<Instant>) -> Result<String, Missing> {
        let pause = SETTLE.min(self.settings.every);
        let last_question = Instant::now() + LOOK_LIMIT;
        loop {
            let printed = self.current().await;
            let until = match &printed {
                Ok(now) if now == to || now != from => return printed,
                Ok(_) => patience,
                Err(_) => Some(patience.map_or(last_question, |patience| patience.max(last_question))),
            };
            if until.is_none_or(|until| Instant::now() + pause > until) {
                return printed;
            }
            sleep(pause).await;
        }
    }

    /// What became of an effect by what `current` prints, which counts more than what `deploy` says.
    fn judge(&self, effect: &Effect, from: &str, words: &str, printed: Result<String, Missing>) -> Applied {
        match printed {
            Ok(now) if now == effect.to.id.0 => Applied::Done(Binding::Version(now)),
            Ok(now) if now != from => Applied::Unknown(format!("{words}; `current` prints {now}")),
            Ok(_) => self.tries.given_up(&effect.plan).map_or_else(|| Applied::Unknown(words.to_owned()), Applied::Failed),
            Err(missing) => Applied::Unknown(format!("{words}; {missing}")),
        }
    }
}

#[async_trait]
impl Platform for Command {
    fn watch(&self) -> BoxStream<'static, Report> {
        struct Last {
            report: Report,
            at: Instant,
        }
        let every = self.settings.every.clamp(BUSIEST, HEARTBEAT);
        let command = self.clone();
        stream::unfold(None::<Last>, move |last| {
            let command = command.clone();
            async move {
                if last.is_some() {
                    sleep(every).await;
                }
                loop {
                    let report = command.report().await;
                    let now = Instant::now();
                    let is_due = last.as_ref().is_none_or(|last| last.report != report || now + every > last.at + HEARTBEAT);
                    if is_due {
                        return Some((report.clone(), Some(Last { report, at: now })));
                    }
                    sleep(every).await;
                }
            }
        })
        .boxed()
    }

    async fn look(&self) -> Report {
        self.report().await
    }

    async fn apply(&self, effect: &Effect) -> Applied {
        let Binding::Version(bound_to) = &effect.binding else { return Applied::Moved };
        if let Some(not_before) = self.tries.not_before(&effect.plan) {
            sleep_until(not_before).await;
        }
        let mut turn = match self.attempts.turn().await {
            Ok(Some(turn)) => turn,
            Ok(None) => return self.busy(),
            Err(error) => return self.unlucky(effect, format!("cannot open {}: {error}", self.attempts.path().display())),
        };
        let to = &effect.to.id.0;
        let was_cut_off = turn.last.as_ref().is_some_and(|last| last.to == *to);
        match self.current().await {
            Err(missing) => Applied::Unknown(missing.to_string()),
            // It may have been cut off between the link and the restart.
            Ok(now) if now == *to && was_cut_off => self.deploy(effect, bound_to, &now, turn).await,
            Ok(now) if now == *to => Applied::Done(Binding::Version(now)),
            Ok(now) if now != *bound_to => {
                turn.end();
                Applied::Moved
            }
            Ok(now) => match self.tries.given_up(&effect.plan) {
                Some(why) => Applied::Failed(why),
                None => self.deploy(effect, bound_to, &now, turn).await,
            },
        }
    }
}

/// What is known of a workload by its version and its rollout.
///
/// Programs count no replicas, so the service as a whole stands for one. While it is rolled out, that one is not ready; but nobody has said
/// that the service is gone (the version before may well serve still), so it counts as available always: only a platform that really sees no
/// replica may say so, because that alone is reason to roll back.
fn workload(version: String, rollout: Rollout, unseen_for: SignedDuration) -> Workload {
    let ready = u32::from(rollout == Rollout::Complete);
    Workload {
        version: Version { id: VersionId(version.clone()), name: version.clone() },
        artifact: Some(Artifact(version.clone())),
        binding: Binding::Version(version),
        rollout,
        replicas: Replicas { desired: 1, updated: 1, ready, available: 1 },
        ready_is_checked: false,
        troubles: Vec::new(),
        record: None,
        change: None,
        unseen_for,
    }
}

/// The one line that `current` printed.
fn version(output: &Tail) -> Result<String, Missing> {
    if output.total > VERSION_LIMIT + 2 {
        return Err(Missing::TooLarge(format!("`current` printed {} bytes, a version has at most {VERSION_LIMIT}", output.total)));
    }
    let bytes: Vec<u8> = output.bytes.iter().copied().collect();
    let text = String::from_utf8(bytes).map_err(|_not_text| Missing::Malformed("`current` printed what is not UTF-8".to_owned()))?;
    let line = text.trim();
    let malformed = |what: &str| Err(Missing::Malformed(format!("`current` printed {what}, not a version in one line")));
    match line {
        "" => malformed("nothing"),
        line if line.contains('\n') => malformed("several lines"),
        line if line.chars().any(char::is_control) => malformed("control characters"),
        line if line.len() > VERSION_LIMIT => malformed("too much"),
        line => Ok(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::PathBuf;

    use jiff::Timestamp;
    use rollbackd_core::service::Restore;
    use tokio::sync::oneshot;

    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    fn settings(current: &str, deploy: &str) -> Settings {
        Settings {
            current: shell(current),
            deploy: shell(deploy),
            status: None,
            every: Duration::from_millis(20),
            timeout: Duration::from_secs(30),
        }
    }

    fn command(settings: Settings) -> Command {
        in_state_directory(settings, Path::new("/nowhere"))
    }

    fn in_state_directory(settings: Settings, directory: &Path) -> Command {
        Command::new(settings, ServiceName::try_from("checkout").unwrap(), "production".to_owned(), directory)
    }

    /// A directory in which `version` holds what is deployed.
    struct Host(tempfile::TempDir);

    impl Host {
        fn with(version: &str) -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            host.deploy(version);
            host
        }

        fn deploy(&self, version: &str) {
            std::fs::write(self.path("version"), version).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn read(&self, name: &str) -> Option<String> {
            std::fs::read_to_string(self.path(name)).ok()
        }

        /// `deploy` is a script that runs in the directory, and leaves a line in `deploys` first.
        fn platform(&self, deploy: &str) -> Command {
            let directory = self.0.path().display();
            let settings = settings(&format!("cd {directory}; cat version"), &format!("cd {directory}; echo once >> deploys; {deploy}"));
            in_state_directory(settings, self.0.path())
        }

        /// A `deploy` from v2 to v1 began, under a daemon that was killed.
        fn begin_under_another_daemon(&self, begun: Timestamp) {
            let attempt = Attempt::of_another_daemon("k3f9a2b1-13", "v2", "v1", begun);
            std::fs::write(self.path("checkout.deploy"), serde_json::to_string(&attempt).unwrap()).unwrap();
        }

        /// ... and still runs, until its standard input is closed.
        fn leave_a_deploy(&self, script: &str) -> std::process::Child {
            let lock = std::fs::File::open(self.path("checkout.deploy")).unwrap();
            lock.try_lock().unwrap();
            let script = format!("cd {}; {script}", self.0.path().display());
            std::process::Command::new("/bin/sh").args(["-c", &script]).stdin(lock).spawn().unwrap()
        }

        fn deploys(&self) -> usize {
            self.read("deploys").map_or(0, |text| text.lines().count())
        }
    }

    /// Back from v2 to v1.
    fn effect() -> Effect {
        let version = |name: &str| Version { id: VersionId(name.to_owned()), name: name.to_owned() };
        Effect {
            plan: "k3f9a2b1-13".to_owned(),
            service: ServiceName::try_from("checkout").unwrap(),
            environment: "production".to_owned(),
            from: version("v2"),
            to: version("v1"),
            artifact: Some(Artifact("v1".to_owned())),
            binding: Binding::Version("v2".to_owned()),
            restore: Restore::Template,
            known_bad: Vec::new(),
            reason: "62 % of requests\nfail".to_owned(),
        }
    }

    async fn rollout_by(status: &str) -> Report {
        command(Settings { status: Some(shell(status)), ..settings("echo v1", "true") }).look().await
    }

    fn seen(report: Report) -> Workload {
        match report {
            Report::Seen(workload) => *workload,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_line_that_current_prints_is_the_version() {
        let workload = seen(command(settings("echo ' shop:v1 '", "true")).look().await);
        assert_eq!(workload.version, Version { id: VersionId("shop:v1".to_owned()), name: "shop:v1".to_owned() });
        assert_eq!(workload.artifact, Some(Artifact("shop:v1".to_owned())));
        assert_eq!(workload.binding, Binding::Version("shop:v1".to_owned()));
        assert_eq!(workload.rollout, Rollout::Complete);
        assert_eq!(workload.replicas, Replicas { desired: 1, updated: 1, ready: 1, available: 1 });
    }

    #[tokio::test]
    async fn what_is_no_version_is_missing_evidence() {
        for (current, words) in [
            ("true", "printed nothing"),
            ("printf 'v1\\nv2\\n'", "several lines"),
            ("printf 'v1\\033[31m'", "control characters"),
            ("printf '\\377'", "not UTF-8"),
            ("head -c 257 /dev/zero | tr '\\0' x", "too much"),
            ("head -c 1000 /dev/zero | tr '\\0' x", "printed 1000 bytes"),
            ("echo v1; echo no access >&2; exit 3", "exit status: 3: no access"),
            ("echo v1; kill -TERM $$", "signal: 15"),
        ] {
            let report = command(settings(current, "true")).look().await;
            assert!(matches!(&report, Report::Missing(missing) if missing.to_string().contains(words)), "{current}: {report:?}");
        }
        let mut settings = settings("", "true");
        for (program, words) in [(vec!["/nowhere/current".to_owned()], "could not be started"), (vec![], "no program is configured")] {
            settings.current = program;
            let report = command(settings.clone()).look().await;
            assert!(matches!(&report, Report::Missing(missing) if missing.to_string().contains(words)), "{report:?}");
        }
    }

    #[tokio::test]
    async fn a_current_or_status_that_prints_without_end_is_killed_and_that_is_said() {
        let host = Host::with("v1");
        let (_has_begun, gone) = line_to_the_family(&host.path("line"));
        let endless = format!("exec 3>{}; echo begun >&3; yes", host.path("line").display());
        let report = command(settings(&endless, "true")).look().await;
        let Report::Missing(missing @ Missing::TooLarge(_)) = report else { panic!("{report:?}") };
        assert!(missing.to_string().ends_with("`current` printed more than 64 KiB and was killed"), "{missing}");
        gone.await.unwrap();
        let report = rollout_by("yes >&2").await;
        let Report::Missing(missing @ Missing::TooLarge(_)) = report else { panic!("{report:?}") };
        assert!(missing.to_string().ends_with("`status` printed more than 64 KiB and was killed"), "{missing}");
    }

    #[tokio::test]
    async fn status_says_how_far_the_rollout_is() {
        assert_eq!(seen(rollout_by("exit 0").await).rollout, Rollout::Complete);
        assert_eq!(seen(rollout_by("exit 75").await).rollout, Rollout::Progressing);
        assert_eq!(seen(rollout_by("test $ROLLBACKD_VERSION = v1 || exit 75").await).rollout, Rollout::Complete);
        let failed = seen(rollout_by("echo 'unit entered failed state' >&2; exit 1").await).rollout;
        assert_eq!(failed, Rollout::Failed("`status` ended with exit status: 1: unit entered failed state".to_owned()));
    }

    #[tokio::test]
    async fn a_status_that_could_not_be_run_is_not_a_failed_rollout() {
        for status in ["no-such-program-anywhere", "exit 126", "kill -KILL $$", "exit 137"] {
            let report = rollout_by(status).await;
            assert!(matches!(report, Report::Missing(Missing::Refused(_))), "{status}: {report:?}");
        }
        let absent = Settings { status: Some(vec!["/nowhere/status".to_owned()]), ..settings("echo v1", "true") };
        assert!(matches!(command(absent).look().await, Report::Missing(Missing::Unreachable(_))));
    }

    #[tokio::test]
    async fn a_slow_rollout_is_never_an_outage() {
        for status in ["exit 75", "exit 1"] {
            let replicas = seen(rollout_by(status).await).replicas;
            assert_eq!(replicas, Replicas { desired: 1, updated: 1, ready: 0, available: 1 });
        }
    }

    #[tokio::test]
    async fn what_deploy_brings_is_not_reported_before_it_has_ended() {
        let host = Host::with("v2");
        let platform = host.platform("echo v1 > version; sleep 0.3; echo yes > restarted");
        let mut reports = platform.watch();
        assert_eq!(seen(reports.next().await.unwrap()).version.name, "v2");
        let watching = async {
            assert_eq!(seen(reports.next().await.unwrap()).version.name, "v1");
            assert!(host.read("restarted").is_some(), "it was reported while `deploy` still ran");
        };
        let effect = effect();
        let (applied, ()) = tokio::join!(platform.apply(&effect), watching);
        assert_eq!(applied, Applied::Done(Binding::Version("v1".to_owned())));
    }

    #[tokio::test]
    async fn a_watch_reports_at_once_and_then_only_what_changed() {
        let host = Host::with("v1");
        let mut reports = host.platform("true").watch();
        assert_eq!(seen(reports.next().await.unwrap()).version.name, "v1");
        host.deploy("v2");
        assert_eq!(seen(reports.next().await.unwrap()).version.name, "v2");
        std::fs::remove_file(host.path("version")).unwrap();
        assert!(matches!(reports.next().await.unwrap(), Report::Missing(_)));
        host.deploy("v2");
        assert_eq!(seen(reports.next().await.unwrap()).version.name, "v2");
    }

    #[tokio::test]
    async fn an_effect_is_deployed_once_and_found_again() {
        let host = Host::with("v2");
        let platform = host.platform("printf %s \"$ROLLBACKD_TO\" > version");
        let done = Applied::Done(Binding::Version("v1".to_owned()));
        assert_eq!(platform.apply(&effect()).await, done);
        assert_eq!(platform.apply(&effect()).await, done);
        assert_eq!((host.deploys(), host.read("version").as_deref()), (1, Some("v1")));
    }

    #[tokio::test]
    async fn a_deployment_of_somebody_else_is_left_alone() {
        let host = Host::with("v3");
        assert_eq!(host.platform("echo v1 > version").apply(&effect()).await, Applied::Moved);
        let foreign = Effect { binding: Binding::Object { uid: "u".to_owned(), generation: 1 }, ..effect() };
        assert_eq!(host.platform("echo v1 > version").apply(&foreign).await, Applied::Moved);
        assert_eq!((host.deploys(), host.read("version").as_deref()), (0, Some("v3")));
    }

    #[tokio::test]
    async fn nothing_is_deployed_blindly() {
        let host = Host::with("");
        assert!(matches!(host.platform("echo v1 > version").apply(&effect()).await, Applied::Unknown(_)));
        assert_eq!(host.deploys(), 0);
    }

    #[tokio::test]
    async fn what_deploy_says_counts_less_than_what_current_shows() {
        for (deploy, expected) in [
            ("echo quota exceeded >&2; exit 1", Applied::Failed("`deploy` (/bin/sh) ended with exit status: 1: quota exceeded".to_owned())),
            ("echo v1 > version; exit 1", Applied::Done(Binding::Version("v1".to_owned()))),
            ("echo v3 > version; exit 1", Applied::Unknown("`deploy` (/bin/sh) ended with exit status: 1; `current` prints v3".to_owned())),
            ("kill -TERM $$", Applied::Unknown("`deploy` (/bin/sh) ended with signal: 15 (SIGTERM)".to_owned())),
            ("exit 143", Applied::Unknown("`deploy` (/bin/sh) ended with exit status: 143".to_owned())),
        ] {
            let host = Host::with("v2");
            assert_eq!(host.platform(deploy).apply(&effect()).await, expected, "{deploy}");
            assert_eq!(host.deploys(), 1);
        }
    }

    /// As the executor does: again and again, until it is known.
    async fn apply(platform: &Command, effect: &Effect) -> Applied {
        for _ in 0..100 {
            match platform.apply(effect).await {
                Applied::Unknown(_) => {}
                known => return known,
            }
        }
        panic!("it is never known");
    }

    #[tokio::test]
    async fn a_deploy_that_hangs_is_not_repeated_and_calls_for_a_person_with_its_last_words() {
        let host = Host::with("v2");
        let mut platform = host.platform("echo 'waiting for the lock of the release'; sleep 60");
        platform.settings.timeout = Duration::from_secs(1);
        let words = "`deploy` (/bin/sh) did not end within 1 s and was killed; its last words: waiting for the lock of the release";
        assert_eq!(apply(&platform, &effect()).await, Applied::Failed(words.to_owned()));
        assert_eq!(platform.apply(&effect()).await, Applied::Failed(words.to_owned()), "it is asked again");
        assert_eq!(host.deploys(), 1);
        let next = Effect { plan: "k3f9a2b1-20".to_owned(), ..effect() };
        assert!(matches!(apply(&platform, &next).await, Applied::Failed(_)));
        assert_eq!(host.deploys(), 2, "another plan is another decision");
    }

    #[tokio::test]
    async fn a_deploy_that_hangs_once_it_has_deployed_has_deployed() {
        let host = Host::with("v2");
        let mut platform = host.platform("echo v1 > version; sleep 60");
        platform.settings.timeout = Duration::from_secs(1);
        assert_eq!(apply(&platform, &effect()).await, Applied::Done(Binding::Version("v1".to_owned())));
        assert_eq!(host.deploys(), 1);
    }

    #[tokio::test]
    async fn a_deploy_that_shows_no_effect_in_time_is_not_repeated_and_calls_for_a_person() {
        let host = Host::with("v2");
        let mut platform = host.platform("true");
        platform.settings.timeout = Duration::from_secs(1);
        let applied = apply(&platform, &effect()).await;
        let words = "`deploy` (/bin/sh) ended well, but `current` does not show it 1 s after it was begun";
        assert_eq!(applied, Applied::Failed(words.to_owned()));
        assert_eq!(host.deploys(), 1);
    }

    #[tokio::test]
    async fn a_deploy_that_asks_to_be_tried_again_or_is_killed_is_tried_three_times() {
        for (deploy, words) in [
            ("echo no runner is free; exit 75", "exit status: 75: no runner is free (the last of 3 tries)"),
            ("kill -TERM $$", "signal: 15 (SIGTERM) (the last of 3 tries)"),
        ] {
            let host = Host::with("v2");
            let platform = host.platform(deploy);
            // The pauses between them are its own affair.
            for _ in 1..3 {
                assert!(matches!(platform.apply(&effect()).await, Applied::Unknown(_)), "{deploy}");
                tokio::time::pause();
                sleep_until(platform.tries.not_before("k3f9a2b1-13").unwrap()).await;
                tokio::time::resume();
            }
            let applied = platform.apply(&effect()).await;
            assert!(matches!(&applied, Applied::Failed(why) if why.ends_with(words)), "{applied:?}");
            assert_eq!(host.deploys(), 3);
        }
        let host = Host::with("v2");
        let platform = host.platform("test $(wc -l < deploys) = 1 && exit 75; echo v1 > version");
        assert!(matches!(platform.apply(&effect()).await, Applied::Unknown(_)));
        tokio::time::pause();
        sleep_until(platform.tries.not_before("k3f9a2b1-13").unwrap()).await;
        tokio::time::resume();
        assert_eq!(platform.apply(&effect()).await, Applied::Done(Binding::Version("v1".to_owned())));
    }

    #[tokio::test]
    async fn a_deploy_that_can_not_be_started_is_rejected_and_nothing_has_changed() {
        let host = Host::with("v2");
        let mut platform = host.platform("");
        platform.settings.deploy = vec!["/nowhere/deploy".to_owned()];
        assert!(matches!(platform.apply(&effect()).await, Applied::Rejected(words) if words.contains("could not be started")));
    }

    #[tokio::test]
    async fn a_deploy_that_takes_effect_late_is_waited_for_and_not_repeated() {
        let host = Host::with("v2");
        let mut platform = host.platform("touch ordered");
        let directory = host.0.path().display();
        // It shows the new version at the third look after it was ordered.
        platform.settings.current = shell(&format!(
            "cd {directory}; test -e ordered && echo look >> looks; test \"$(grep -c look looks 2>/dev/null)\" = 3 && echo v1 || echo v2"
        ));
        assert_eq!(platform.apply(&effect()).await, Applied::Done(Binding::Version("v1".to_owned())));
        assert_eq!(host.deploys(), 1);
    }

    #[tokio::test]
    async fn the_facts_are_in_the_environment_and_nothing_reads_them_as_a_script() {
        let host = Host::with("$(touch broken-in)");
        // Whoever runs the tests may have other variables that begin so.
        let facts = "env | grep -E '^ROLLBACKD_(SERVICE|ENVIRONMENT|VERSION|PLAN|FROM|TO|REASON)=' | sort > facts";
        let platform = host.platform(&format!("{facts}; printf %s \"$ROLLBACKD_TO\" > version"));
        let hostile = "v1; touch broken-in".to_owned();
        let effect = Effect {
            from: Version { id: VersionId("$(touch broken-in)".to_owned()), name: String::new() },
            to: Version { id: VersionId(hostile), name: String::new() },
            binding: Binding::Version("$(touch broken-in)".to_owned()),
            ..effect()
        };
        assert!(matches!(platform.apply(&effect).await, Applied::Done(_)));
        assert_eq!(
            host.read("facts").unwrap(),
            "ROLLBACKD_ENVIRONMENT=production\nROLLBACKD_FROM=$(touch broken-in)\nROLLBACKD_PLAN=k3f9a2b1-13\n\
             ROLLBACKD_REASON=62 % of requests fail\nROLLBACKD_SERVICE=checkout\nROLLBACKD_TO=v1; touch broken-in\n"
        );
        assert!(!host.path("broken-in").exists());
    }

    /// A named pipe that a program and all its children hold open. The first says when they have begun, the second when all are gone.
    /// (A thread, because the runtime's own blocking threads would stop a virtual clock.)
    fn line_to_the_family(path: &Path) -> (oneshot::Receiver<()>, oneshot::Receiver<()>) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        let path = path.to_owned();
        let ((begun, has_begun), (gone, are_gone)) = (oneshot::channel(), oneshot::channel());
        std::thread::spawn(move || {
            let mut pipe = std::fs::File::open(path).unwrap();
            pipe.read_exact(&mut [0; 6]).unwrap();
            begun.send(()).ok();
            pipe.read_to_end(&mut Vec::new()).unwrap();
            gone.send(()).ok();
        });
        (has_begun, are_gone)
    }

    const FAMILY: &str = "exec 3>line; (trap '' TERM; sleep 60; true) & echo begun >&3; sleep 60; true";

    #[tokio::test]
    async fn a_deploy_that_takes_too_long_is_killed_with_all_its_children() {
        let host = Host::with("v2");
        let (has_begun, gone) = line_to_the_family(&host.path("line"));
        let platform = host.platform(FAMILY);
        let applying = tokio::spawn(async move { platform.apply(&effect()).await });
        has_begun.await.unwrap();
        tokio::time::pause();
        let applied = applying.await.unwrap();
        assert!(
            matches!(&applied, Applied::Unknown(words) if words.starts_with("`deploy` (/bin/sh) did not end within 30 s and was killed")),
            "{applied:?}"
        );
        gone.await.unwrap();
    }

    #[tokio::test]
    async fn an_apply_that_is_dropped_kills_its_deploy_with_all_its_children() {
        let host = Host::with("v2");
        let (has_begun, gone) = line_to_the_family(&host.path("line"));
        let platform = host.platform(FAMILY);
        let effect = effect();
        tokio::select! {
            applied = platform.apply(&effect) => panic!("{applied:?}"),
            begun = has_begun => begun.unwrap(),
        }
        gone.await.unwrap();
    }

    #[tokio::test]
    async fn a_deploy_that_lives_on_after_its_daemon_was_killed_is_waited_for() {
        let host = Host::with("v2");
        let (has_begun, _gone) = line_to_the_family(&host.path("line"));
        assert!(std::process::Command::new("mkfifo").arg(host.path("go")).status().unwrap().success());
        host.begin_under_another_daemon(Timestamp::now());
        let mut left = host.leave_a_deploy("echo v1 > version; exec 3>line; echo begun >&3; read -r word < go; echo first >> ran");
        has_begun.await.unwrap();
        let platform = host.platform("echo second >> ran");

        assert_eq!(seen(platform.look().await).version.name, "v2", "it was reported while `deploy` still ran");
        let applied = platform.apply(&effect()).await;
        let Applied::Unknown(words) = applied else { panic!("{applied:?}") };
        assert!(words.contains("for plan k3f9a2b1-13 still runs") && words.contains("checkout.deploy"), "{words}");
        assert_eq!(host.deploys(), 0);

        std::fs::write(host.path("go"), "go\n").unwrap();
        assert!(left.wait().unwrap().success());
        // Nobody heard how it ended, so it is run once more.
        assert_eq!(apply(&platform, &effect()).await, Applied::Done(Binding::Version("v1".to_owned())));
        assert_eq!(host.read("ran").as_deref(), Some("first\nsecond\n"));
        assert_eq!(seen(platform.look().await).version.name, "v1");
    }

    #[tokio::test]
    async fn a_deploy_that_lives_on_longer_than_it_may_calls_for_a_person() {
        let host = Host::with("v2");
        host.begin_under_another_daemon(Timestamp::now() - SignedDuration::from_hours(1));
        let mut left = host.leave_a_deploy("exec sleep 60");
        let platform = host.platform("echo v1 > version");
        let applied = platform.apply(&effect()).await;
        assert!(matches!(&applied, Applied::Failed(words) if words.contains("none is started beside it")), "{applied:?}");
        assert_eq!(host.deploys(), 0);
        // What a person deploys meanwhile is seen.
        host.deploy("v1");
        assert_eq!(seen(platform.look().await).version.name, "v1");
        left.kill().unwrap();
        left.wait().unwrap();
    }

    #[tokio::test]
    async fn a_deploy_that_was_cut_off_after_the_link_was_switched_is_run_again() {
        let host = Host::with("v1");
        host.begin_under_another_daemon(Timestamp::now());
        let platform = host.platform("echo yes > restarted");
        assert_eq!(seen(platform.look().await).version.name, "v2", "half a deployment counts as none");
        assert_eq!(platform.apply(&effect()).await, Applied::Done(Binding::Version("v1".to_owned())));
        assert_eq!((host.deploys(), host.read("restarted").as_deref()), (1, Some("yes\n")));
        assert_eq!(seen(platform.look().await).version.name, "v1");
        assert_eq!(platform.apply(&effect()).await, Applied::Done(Binding::Version("v1".to_owned())));
        assert_eq!(host.deploys(), 1);
    }

    #[tokio::test]
    async fn a_deploy_that_was_cut_off_hides_nothing_that_came_after_it() {
        let host = Host::with("v3");
        host.begin_under_another_daemon(Timestamp::now());
        let platform = host.platform("true");
        assert_eq!(seen(platform.look().await).version.name, "v3");
        host.deploy("v1");
        assert_eq!(seen(platform.look().await).version.name, "v1", "somebody has deployed it since");
        host.begin_under_another_daemon(Timestamp::now() - SignedDuration::from_hours(1));
        assert_eq!(seen(platform.look().await).version.name, "v1", "nobody takes it up any more");
    }

    #[tokio::test]
    async fn a_deploy_that_was_called_off_hides_nothing_that_came_after_it() {
        let host = Host::with("v2");
        let (has_begun, gone) = line_to_the_family(&host.path("line"));
        let platform = host.platform(FAMILY);
        let effect = effect();
        tokio::select! {
            applied = platform.apply(&effect) => panic!("{applied:?}"),
            begun = has_begun => begun.unwrap(),
        }
        gone.await.unwrap();
        host.deploy("v1");
        assert_eq!(seen(platform.look().await).version.name, "v1");
    }

    #[tokio::test]
    async fn what_deploy_brings_is_not_reported_by_an_adapter_of_a_new_configuration_either() {
        let host = Host::with("v2");
        let (has_begun, _gone) = line_to_the_family(&host.path("line"));
        assert!(std::process::Command::new("mkfifo").arg(host.path("go")).status().unwrap().success());
        let platform = host.platform("echo v1 > version; exec 3>line; echo begun >&3; read -r word < go");
        let new = host.platform("true");
        let effect = effect();
        let looking = async {
            has_begun.await.unwrap();
            assert_eq!(seen(new.look().await).version.name, "v2");
            assert!(matches!(new.apply(&effect).await, Applied::Unknown(_)), "a second one was started");
            std::fs::write(host.path("go"), "go\n").unwrap();
        };
        let (applied, ()) = tokio::join!(platform.apply(&effect), looking);
        assert_eq!(applied, Applied::Done(Binding::Version("v1".to_owned())));
        assert_eq!((host.deploys(), seen(new.look().await).version.name.as_str()), (1, "v1"));
    }

    #[tokio::test]
    async fn deploy_has_nothing_to_read_and_what_it_leaves_running_keeps_no_later_one_from_its_turn() {
        let host = Host::with("v2");
        let (has_begun, gone) = line_to_the_family(&host.path("line"));
        let leave = "if test ! -e left; then touch left; (exec 3>line; echo begun >&3; read -r word < go) <&0 & fi";
        assert!(std::process::Command::new("mkfifo").arg(host.path("go")).status().unwrap().success());
        let platform = host.platform(&format!("cat > input; {leave}; echo v1 > version"));
        assert_eq!(platform.apply(&effect()).await, Applied::Done(Binding::Version("v1".to_owned())));
        has_begun.await.unwrap();
        assert_eq!(host.read("input").as_deref(), Some(""));
        host.deploy("v2");
        let next = Effect { plan: "k3f9a2b1-20".to_owned(), ..effect() };
        assert_eq!(platform.apply(&next).await, Applied::Done(Binding::Version("v1".to_owned())));
        assert_eq!(host.deploys(), 2);
        std::fs::write(host.path("go"), "go\n").unwrap();
        gone.await.unwrap();
    }

    #[tokio::test]
    async fn without_a_place_to_note_it_nothing_is_deployed_and_a_person_is_called() {
        let host = Host::with("v2");
        let mut platform = host.platform("echo v1 > version");
        platform.attempts = Attempts::of(&platform.service, Path::new("/nowhere"));
        for last in [false, false, true] {
            match platform.apply(&effect()).await {
                Applied::Unknown(_) => assert!(!last),
                Applied::Failed(words) => {
                    assert!(last && words.starts_with("cannot open /nowhere/checkout.deploy: No such file"), "{words}");
                }
                other => panic!("{other:?}"),
            }
            tokio::time::pause();
            sleep_until(platform.tries.not_before("k3f9a2b1-13").unwrap()).await;
            tokio::time::resume();
        }
        assert_eq!(host.deploys(), 0);
    }

    #[tokio::test]
    async fn what_deploy_leaves_running_is_left_alone_and_not_waited_for() {
        let host = Host::with("v2");
        let (_has_begun, mut gone) = line_to_the_family(&host.path("line"));
        let platform = host.platform("exec 3>line; echo begun >&3; (read -r word < go; echo v1-serves > served) & echo v1 > version");
        assert!(std::process::Command::new("mkfifo").arg(host.path("go")).status().unwrap().success());
        assert_eq!(platform.apply(&effect()).await, Applied::Done(Binding::Version("v1".to_owned())));
        assert!(gone.try_recv().is_err());
        std::fs::write(host.path("go"), "go\n").unwrap();
        gone.await.unwrap();
        assert_eq!(host.read("served").as_deref(), Some("v1-serves\n"));
    }

    #[tokio::test]
    async fn a_talkative_deploy_is_listened_to_slowly_but_to_its_end() {
        let host = Host::with("v2");
        let before = Instant::now();
        let applied = host.platform("head -c 8000000 /dev/zero | tr '\\0' x; echo v1 > version").apply(&effect()).await;
        assert_eq!(applied, Applied::Done(Binding::Version("v1".to_owned())));
        // 7 MB in pieces of at most 64 KiB, with a pause of 10 ms after each.
        assert!(before.elapsed() >= Duration::from_secs(1), "{:?}", before.elapsed());
    }

    #[tokio::test]
    async fn of_a_flood_of_complaints_the_last_words_are_kept() {
        let host = Host::with("v2");
        let applied = host.platform("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo ' the end' >&2; exit 1").apply(&effect()).await;
        assert!(matches!(&applied, Applied::Failed(words) if words.ends_with("x the end") && words.len() < 500), "{applied:?}");
    }
}
