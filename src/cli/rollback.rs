//! `rollback`: shows the plan, asks, has it done, and waits until the service has recovered. The daemon does the work and goes on with it
//! whatever becomes of this program.

use std::io::Write as _;
use std::time::Duration;

use jiff::SignedDuration;
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::DeploymentId;
use rollbackd_core::service::ServiceName;
use rollbackd_core::version::Version;
use rollbackd_core::view::RollbackView;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::consent::Consent;
use super::text::{self, Page, Screen};
use super::{Exit, Stop, explain, status, value};

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The service.
    #[arg(value_parser = value::service)]
    service: ServiceName,
    /// The version to go to: its name, its image, its identity, or `#12` for what deployment 12 brought. The last known good one unless
    /// said.
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// Why; it is recorded and told.
    #[arg(long, short, value_parser = value::reason, default_value = "no reason given")]
    reason: String,
    /// Don't wait until it has recovered.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait. The daemon goes on after that.
    #[arg(long, value_parser = value::length, value_name = "LENGTH", default_value = "15m")]
    timeout: SignedDuration,
    #[command(flatten)]
    consent: Consent,
}

/// What is going to happen, and as `--output json` prints it, what became of it.
#[derive(Debug, Serialize)]
struct Plan {
    service: ServiceName,
    from: Version,
    to: Version,
    dry_run: bool,
    warnings: Vec<String>,
    /// None in a dry run and when it was not waited for.
    rollback: Option<RollbackView>,
}

/// How often is looked how far it is.
const PACE: Duration = Duration::from_millis(500);

/// Goes back.
pub async fn run(arguments: Arguments, client: &Client, screen: &Screen) -> Result<Exit, Stop> {
    let Arguments { service, to, reason, no_wait, timeout, consent } = arguments;
    consent.possible()?;
    let command = |dry_run| Command::Rollback { service: service.clone(), to: to.clone(), reason: reason.clone(), dry_run };
    let plan = ask(command(true), client).await?;
    if consent.dry_run {
        return screen.show(&plan, || would(&plan));
    }
    let running = status::ask(Some(service.clone()), client).await?.services.into_iter().next().and_then(|service| service.deployment);
    let Some(running) = running.filter(|running| running.version == plan.from) else {
        return Err(Stop::Failed(format!("nothing was done: what runs of {service} changed just now, look again")));
    };
    consent.obtain(
        screen,
        &format!("roll back {} (deployment {}) from {} to {}", service, running.deployment, plan.from, plan.to),
        &plan.warnings,
    )?;
    let plan = ask(command(false), client).await?;
    if no_wait {
        return screen.show(&plan, || format!("{}: rollback from {} to {} is planned", plan.service, plan.from, plan.to));
    }
    let wait = Wait { service: &service, deployment: DeploymentId(running.deployment), began: Instant::now(), client, screen };
    wait.until_over(plan, Duration::try_from(timeout).unwrap_or(Duration::ZERO)).await
}

async fn ask(command: Command, client: &Client) -> Result<Plan, Stop> {
    match client.ask(&command).await? {
        Answer::Planned { service, from, to, dry_run, warnings } => Ok(Plan { service, from, to, dry_run, warnings, rollback: None }),
        other => Err(Stop::Failed(format!("the daemon answered something else: {other:?}"))),
    }
}

fn would(plan: &Plan) -> String {
    let mut page = Page::default();
    page.line(format_args!("would roll back {} from {} to {}", plan.service, plan.from, plan.to));
    plan.warnings.iter().for_each(|warning| page.line(format_args!("warning: {warning}")));
    page.text()
}

/// Waits for a rollback.
struct Wait<'a> {
    service: &'a ServiceName,
    deployment: DeploymentId,
    began: Instant,
    client: &'a Client,
    screen: &'a Screen,
}

impl Wait<'_> {
    async fn until_over(&self, plan: Plan, patience: Duration) -> Result<Exit, Stop> {
        let over = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Err("interrupted"),
            () = sleep(patience) => Err("not over in time"),
            over = self.over(&plan) => Ok(over?),
        };
        self.end_line();
        match over {
            Ok(rollback) => self.show(&Plan { rollback: Some(rollback), ..plan }),
            Err(why) => {
                let service = self.service;
                Err(Stop::Failed(format!("{why}: the daemon goes on with the rollback of {service}; see rollbackd status {service}")))
            }
        }
    }

    /// Looks until it recovered or ended. A daemon that is started anew meanwhile carries on, so its silence is waited out.
    async fn over(&self, plan: &Plan) -> Result<RollbackView, Stop> {
        let mut shown = String::new();
        loop {
            match explain::ask(self.service.clone(), Some(self.deployment), self.client).await {
                Ok(view) => match view.rollback.filter(|rollback| rollback.from == plan.from && rollback.to == plan.to) {
                    Some(rollback) => {
                        self.progress(&rollback.phase, &mut shown);
                        if rollback.success.is_some() {
                            return Ok(rollback);
                        }
                    }
                    None => return Err(Stop::Failed(format!("the rollback is out of sight: see rollbackd status {}", self.service))),
                },
                Err(Stop::NoDaemon(_)) => self.progress("the daemon does not answer just now", &mut shown),
                Err(stop) => return Err(stop),
            }
            sleep(PACE).await;
        }
    }

    /// A line for each phase; where somebody watches, the line of the phase that lasts counts on.
    fn progress(&self, phase: &str, shown: &mut String) {
        let line = format!("{:>8}  {phase}", self.elapsed());
        if text::is_watched() {
            let end = if shown == phase || shown.is_empty() { "\r" } else { "\n" };
            let mut messages = std::io::stderr();
            let _ = write!(messages, "{end}{line}");
            let _ = messages.flush();
        } else if shown != phase {
            self.screen.tell(&line);
        }
        phase.clone_into(shown);
    }

    fn end_line(&self) {
        if text::is_watched() {
            self.screen.tell("");
        }
    }

    fn elapsed(&self) -> String {
        text::short(SignedDuration::try_from(self.began.elapsed()).unwrap_or(SignedDuration::MAX))
    }

    fn show(&self, plan: &Plan) -> Result<Exit, Stop> {
        let rollback = plan.rollback.as_ref();
        let recovered = rollback.is_some_and(|rollback| rollback.success == Some(true));
        let outcome = rollback.and_then(|rollback| rollback.outcome.clone()).unwrap_or_default();
        let summary = || format!("{}: rollback from {} to {}: {outcome} (after {})", plan.service, plan.from, plan.to, self.elapsed());
        if recovered {
            return self.screen.show(plan, summary);
        }
        self.screen.show(plan, || format!("{}\nTo see why: rollbackd explain {}", summary(), plan.service))?;
        Ok(Exit::Failed)
    }
}
