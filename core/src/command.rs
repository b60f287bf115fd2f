//! What operators ask for, and the answer. A command changes something only through entries, like everything else.

#![expect(
    clippy::result_large_err,
    reason = "an answer is made once for each command, and is the same thing whether it is good news or not"
)]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::decide;
use crate::declaration::{self, Declaration};
use crate::entry::{Actor, Arrival, DeploymentId, Entry, Mark, MarkReason, Scope};
use crate::evidence::Evidence;
use crate::guard::{self, Limits, Refusal, Wish};
use crate::lifecycle::{Deployment, State};
use crate::plan::{Cause, Phase, Plan};
use crate::service::{Service, ServiceName};
use crate::severity::{Choice, Impact, Response, Severity};
use crate::version::{ChangeKind, Version};
use crate::view::{self, DeploymentView, ExplainView, Sight, StatusView};
use crate::words;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// How things are.
    Status {
        /// One service; all unless said.
        service: Option<ServiceName>,
    },
    /// What was deployed, newest first.
    History {
        /// One service; all unless said.
        service: Option<ServiceName>,
        /// Only this environment.
        environment: Option<String>,
        /// At most so many rows.
        limit: usize,
    },
    /// Why something was done or not done.
    Explain {
        /// The service.
        service: ServiceName,
        /// The deployment; the newest interesting one unless said.
        deployment: Option<DeploymentId>,
    },
    /// A deployment happened or is about to be seen.
    Deployed {
        /// The service.
        service: ServiceName,
        /// When it started, if not now.
        started: Option<Timestamp>,
        /// What it carries.
        change: Option<ChangeKind>,
    },
    /// Go back.
    Rollback {
        /// The service.
        service: ServiceName,
        /// To this version, by name, identity or `#deployment`; the last known good one unless said.
        to: Option<String>,
        /// Why.
        reason: String,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Pause automatic rollbacks.
    Hold {
        /// Of what.
        scope: Scope,
        /// Why.
        reason: String,
        /// For so long.
        lasting: Option<SignedDuration>,
    },
    /// End the pause; of all services: release the brake, too.
    Resume {
        /// Of what.
        scope: Scope,
    },
    /// Say that an impact is there, or that it is not.
    Declare {
        /// The service.
        service: ServiceName,
        /// The row of the matrix.
        impact: Impact,
        /// Why.
        reason: String,
        /// It is over, or was said in error.
        resolved: bool,
        /// Only say what would follow.
        dry_run: bool,
    },
    /// Answer the question whether to go back.
    Answer {
        /// The service.
        service: ServiceName,
        /// The answer.
        choice: Choice,
        /// Why.
        reason: String,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Mark a version.
    Mark {
        /// The service.
        service: ServiceName,
        /// The version, by name, identity or `#deployment`.
        version: String,
        /// Good or bad.
        mark: Mark,
        /// Why.
        reason: String,
    },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How things are.
    Status(StatusView),
    /// What was deployed.
    History(Vec<DeploymentView>),
    /// Why.
    Explanation(Box<ExplainView>),
    /// A rollback is planned, or (in a dry run) would be.
    Planned {
        /// The service.
        service: ServiceName,
        /// From.
        from: Version,
        /// To.
        to: Version,
        /// Nothing was changed.
        dry_run: bool,
        /// What to know about it.
        warnings: Vec<String>,
    },
    /// An impact is declared, or (in a dry run) would be.
    Declared {
        /// The service.
        service: ServiceName,
        /// The impact.
        impact: Impact,
        /// Its severity.
        severity: Severity,
        /// What the matrix says about it.
        response: Response,
        /// The number of the deployment that it is about.
        deployment: u64,
        /// What runs.
        version: Version,
        /// It was declared before, so nothing was recorded.
        known: bool,
        /// Nothing was changed.
        dry_run: bool,
        /// Where the service goes back to for it.
        to: Option<Version>,
        /// The guard that stands in the way of that.
        guard: Option<String>,
        /// What happens now, in words.
        follows: String,
    },
    /// It is done; in words.
    Done(String),
    /// A guard stands in the way.
    Refused {
        /// The guard's name.
        guard: String,
        /// In words.
        why: String,
    },
    /// There is no such service, version or deployment; in words.
    Unknown(String),
    /// It could not be recorded, so it was not done; in words.
    Failed(String),
}

/// The whole daemon as a command sees it.
#[derive(Clone, Copy, Debug)]
pub struct Desk<'a> {
    /// What is known.
    pub state: &'a State,
    /// The services that are configured.
    pub policies: &'a BTreeMap<ServiceName, Service>,
    /// Their evidence; the same keys.
    pub evidence: &'a BTreeMap<ServiceName, Evidence>,
    /// Limits over all services.
    pub limits: &'a Limits,
    /// Notices that are still to be delivered.
    pub notices_waiting: usize,
    /// What is wrong with the daemon itself.
    pub troubles: &'a [String],
    /// Now.
    pub now: Timestamp,
}

/// Answers a command, and says what has to be written for it. The answer holds only once that is durable.
#[must_use]
pub fn handle(desk: Desk<'_>, command: Command, by: &Actor) -> (Vec<Entry>, Answer) {
    let result = match command {
        Command::Status { service } => desk.status(service.as_ref()).map(|answer| (Vec::new(), answer)),
        Command::History { service, environment, limit } => {
            desk.history(service.as_ref(), environment.as_deref(), limit).map(|answer| (Vec::new(), answer))
        }
        Command::Explain { service, deployment } => desk.explain(&service, deployment).map(|answer| (Vec::new(), answer)),
        Command::Deployed { service, started, change } => desk.deployed(&service, started, change, by),
        Command::Rollback { service, to, reason, dry_run } => desk.roll_back(&service, to.as_deref(), reason, dry_run, by),
        Command::Hold { scope, reason, lasting } => desk.hold(scope, reason, lasting, by),
        Command::Resume { scope } => desk.resume(scope, by),
        Command::Declare { service, impact, reason, resolved: false, dry_run } => desk.declare(&service, impact, reason, dry_run, by),
        Command::Declare { service, impact, resolved: true, dry_run, .. } => desk.withdraw(&service, impact, dry_run, by),
        Command::Answer { service, choice, reason, dry_run } => desk.decide(&service, choice, &reason, dry_run, by),
        Command::Mark { service, version, mark, reason } => desk.mark(&service, &version, mark, reason, by),
    };
    result.unwrap_or_else(|answer| (Vec::new(), answer))
}

/// What is written, and what is answered; or only an answer, because it can't be done.
type Handled = Result<(Vec<Entry>, Answer), Answer>;

impl<'a> Desk<'a> {
    fn policy(&self, name: &ServiceName) -> Result<&'a Service, Answer> {
        self.policies.get(name).ok_or_else(|| {
            let known: Vec<_> = self.policies.keys().map(ToString::to_string).collect();
            Answer::Unknown(format!("no service is called {name}; there are: {}", known.join(", ")))
        })
    }

    fn sight(&self, policy: &'a Service) -> Option<Sight<'a>> {
        let evidence = self.evidence.get(&policy.name)?;
        Some(Sight { state: self.state, policy, limits: self.limits, evidence, now: self.now })
    }

    fn status(&self, service: Option<&ServiceName>) -> Result<Answer, Answer> {
        let policies: Vec<&Service> = match service {
            Some(name) => vec![self.policy(name)?],
            None => self.policies.values().collect(),
        };
        let services = policies.into_iter().filter_map(|policy| self.sight(policy)).map(view::service).collect();
        Ok(Answer::Status(view::status(self.state, services, self.notices_waiting, self.troubles, self.now)))
    }

    fn history(&self, service: Option<&ServiceName>, environment: Option<&str>, limit: usize) -> Result<Answer, Answer> {
        let policies: Vec<&Service> = match service {
            Some(name) => vec![self.policy(name)?],
            None => self.policies.values().collect(),
        };
        let rows = policies.into_iter().flat_map(|policy| view::history(self.state, policy, limit));
        let mut rows: Vec<_> = rows.filter(|row| environment.is_none_or(|environment| row.environment == environment)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.deployment));
        rows.truncate(limit);
        Ok(Answer::History(rows))
    }

    fn explain(&self, service: &ServiceName, deployment: Option<DeploymentId>) -> Result<Answer, Answer> {
        let policy = self.policy(service)?;
        let view = self.sight(policy).and_then(|sight| view::explain(sight, deployment));
        view.map(|view| Answer::Explanation(Box::new(view))).ok_or_else(|| match deployment {
            Some(deployment) => Answer::Unknown(format!("{service} has no deployment {deployment} in its recent history")),
            None => Answer::Unknown(format!("nothing was seen of {service} yet")),
        })
    }

    /// A notice of the newest deployment, if that is in its window and was seen a moment ago, or after the time that the notice says; of the
    /// next one otherwise.
    fn deployed(&self, service: &ServiceName, started: Option<Timestamp>, change: Option<ChangeKind>, by: &Actor) -> Handled {
        let policy = self.policy(service)?;
        let current = self.state.service(service).and_then(|known| known.current());
        let seen = current.filter(|current| {
            let seen = match started {
                Some(started) => current.seen >= started,
                None => !current.announced && self.now.duration_since(current.seen) <= policy.decision.grace.max(JUST_SEEN),
            };
            seen && current.status.in_window() && current.arrival == Arrival::Deployed
        });
        let words = match (seen, current) {
            (Some(current), _) => format!("noted for deployment {} ({})", current.id, current.version),
            (None, Some(current)) => format!(
                "noted for the next deployment of {service}, if it comes within an hour; the present one is {} ({}), seen at {}",
                current.id,
                current.version,
                words::time(current.seen)
            ),
            (None, None) => format!("noted for the next deployment of {service}, if it comes within an hour"),
        };
        let deployment = seen.map(|current| current.id);
        let entry = Entry::DeploymentAnnounced { service: service.clone(), deployment, started, change, by: by.clone() };
        Ok((vec![entry], Answer::Done(words)))
    }

    fn roll_back(&self, service: &ServiceName, to: Option<&str>, reason: String, dry_run: bool, by: &Actor) -> Handled {
        let policy = self.policy(service)?;
        let known = self.state.service(service).and_then(|known| Some((known, known.current()?)));
        let Some((known, current)) = known else { return Err(Answer::Unknown(format!("nothing was seen of {service} yet"))) };
        let workload = self.evidence.get(service).and_then(Evidence::workload).map(|(workload, _)| workload);
        let wish = Wish { deployment: current, to, cause: Cause::Operator { by: by.clone(), reason } };
        let plan = guard::plan(self.state, policy, self.limits, workload, wish, self.now).map_err(|refusal| refused(&refusal))?;
        let answer = Answer::Planned {
            service: service.clone(),
            from: plan.from.clone(),
            to: plan.to.clone(),
            dry_run,
            warnings: warnings(known, current.change, &plan),
        };
        Ok((if dry_run { Vec::new() } else { vec![Entry::RollbackPlanned { plan }] }, answer))
    }

    fn hold(&self, scope: Scope, reason: String, lasting: Option<SignedDuration>, by: &Actor) -> Handled {
        let of = self.scope(&scope)?;
        let until = lasting.and_then(|lasting| self.now.saturating_add(lasting).ok());
        let end = until.map_or_else(|| "until somebody resumes".to_owned(), |until| format!("until {}", words::time(until)));
        let entry = Entry::Held { scope, by: by.clone(), reason, until };
        Ok((vec![entry], Answer::Done(format!("automatic rollbacks of {of} are paused {end}"))))
    }

    fn resume(&self, scope: Scope, by: &Actor) -> Handled {
        let of = self.scope(&scope)?;
        let held = match &scope {
            Scope::All => self.state.hold.is_some(),
            Scope::Service(service) => self.state.service(service).is_some_and(|known| known.hold.is_some()),
        };
        let scope_is_all = scope == Scope::All;
        let braked = scope_is_all && self.state.brake.is_some();
        let mut entries = Vec::new();
        if held {
            entries.push(Entry::Resumed { scope, by: by.clone() });
        }
        if braked {
            entries.push(Entry::BrakeReleased { by: by.clone() });
        }
        let words = if entries.is_empty() { "were not paused" } else { "are allowed again" };
        let others = match scope_is_all {
            true => self.held_services(),
            false if self.state.hold.is_some() || self.state.brake.is_some() => {
                "; those of all services are still paused (--all)".to_owned()
            }
            false => String::new(),
        };
        Ok((entries, Answer::Done(format!("automatic rollbacks of {of} {words}{others}"))))
    }

    /// Who resumes all services ends no pause of a single one.
    fn held_services(&self) -> String {
        let held = self.policies.keys().filter(|name| self.state.service(name).is_some_and(|known| known.hold.is_some()));
        let names: Vec<_> = held.map(ToString::to_string).collect();
        if names.is_empty() { String::new() } else { format!("; still paused on their own: {}", names.join(", ")) }
    }

    fn scope(&self, scope: &Scope) -> Result<String, Answer> {
        match scope {
            Scope::All => Ok("all services".to_owned()),
            Scope::Service(service) => self.policy(service).map(|policy| policy.name.to_string()),
        }
    }

    /// Takes down a person's word on what runs, whether its window is over or not.
    fn declare(&self, service: &ServiceName, impact: Impact, reason: String, dry_run: bool, by: &Actor) -> Handled {
        let policy = self.policy(service)?;
        let current = self.current(service)?;
        let known = declaration::open(current, impact, &None);
        let declaration = Declaration { impact, by: by.clone(), reason, since: self.now, alert: None };
        let entry = Entry::ImpactDeclared { service: service.clone(), deployment: current.id, declaration };
        let entries = if known.is_some() { Vec::new() } else { vec![entry] };
        let consequence = self.consequence(policy, current, impact, &entries);
        let row = policy.matrix.row(impact);
        let answer = Answer::Declared {
            service: service.clone(),
            impact,
            severity: row.severity,
            response: row.response,
            deployment: current.id.0,
            version: current.version.clone(),
            known: known.is_some(),
            dry_run,
            to: consequence.to,
            guard: consequence.guard,
            follows: consequence.words,
        };
        Ok((if dry_run { Vec::new() } else { entries }, answer))
    }

    /// What follows from a declaration: the rules are asked as they will be once it is written.
    fn consequence(&self, policy: &Service, current: &Deployment, impact: Impact, entries: &[Entry]) -> Consequence {
        let Some(evidence) = self.evidence.get(&policy.name) else { return Consequence::words("nothing is known of it yet") };
        let then = decide::foresee(self.state, policy, self.limits, evidence, entries, self.now);
        let known = then.service(&policy.name);
        let under_way = |state: &State| {
            let open = state.service(&policy.name)?.open_rollback()?;
            (open.plan.deployment == current.id).then(|| (open.id, open.plan.to.clone()))
        };
        if let Some((plan, to)) = under_way(&then) {
            let already = under_way(self.state).is_some_and(|(before, _)| before == plan);
            let words = if already {
                format!("it is being rolled back to {to} already")
            } else {
                format!("rolling back {} from {} to {to}", policy.name, current.version)
            };
            return Consequence { words, to: Some(to), guard: None };
        }
        let Some(then) = known.and_then(|known| known.deployments.get(&current.id)) else {
            return Consequence::words("nothing is known of it any more");
        };
        match (policy.matrix.row(impact).response, &then.refusal) {
            (Response::RollBack, Some(refusal)) => Consequence {
                words: format!("the matrix says roll back, but {} stands in the way: {}", refusal.name(), words::refusal(refusal)),
                to: None,
                guard: Some(refusal.name().to_owned()),
            },
            (Response::RollBack, None) => Consequence::words("the matrix says roll back; that follows as soon as the workload is seen"),
            (Response::Ask, _) => Consequence::words(&match (&then.question, &then.answered) {
                (Some(question), _) => {
                    let (asked, name) = (words::question(question), &policy.name);
                    format!("the matrix says ask: {asked} (rollbackd approve {name}, rollbackd reject {name})")
                }
                (None, Some(answered)) => format!("the matrix says ask, and that is answered already: {}", words::answered(answered)),
                (None, None) => "the matrix says ask, but something worse is known already".to_owned(),
            }),
            (Response::Notify, _) => Consequence::words("the matrix says notify only: operators are told, and nothing is changed"),
        }
    }

    /// Takes back every word on an impact, also those of alerts: a person looked.
    fn withdraw(&self, service: &ServiceName, impact: Impact, dry_run: bool, by: &Actor) -> Handled {
        self.policy(service)?;
        self.current(service)?;
        let known = self.state.service(service);
        let deployments = || known.into_iter().flat_map(|known| known.deployments.values());
        let open = deployments().flat_map(|deployment| {
            let open = deployment.declared.iter().filter(|declared| declared.is_open() && declared.declaration.impact == impact);
            open.map(move |declared| (deployment, declared.declaration.clone()))
        });
        let open: Vec<_> = open.collect();
        let Some((deployment, _)) = open.last() else {
            return Ok((Vec::new(), Answer::Done(format!("nobody says that there is {impact} at {service}, so nothing was withdrawn"))));
        };
        let rollback = known.and_then(|known| known.rollback_from(deployment.id));
        let stays = match rollback {
            Some(rollback) if rollback.phase == Phase::Planned => format!("; the rollback to {} goes on", rollback.plan.to),
            Some(rollback) if rollback.applied.is_some() => format!("; {} was rolled back and stays marked bad", deployment.version),
            _ => String::new(),
        };
        let would = if dry_run { "would be" } else { "is" };
        let words = format!("{impact} of {} at {service} {would} withdrawn{stays}", deployment.version);
        let entries = open.into_iter().map(|(deployment, declaration)| Entry::ImpactWithdrawn {
            service: service.clone(),
            deployment: deployment.id,
            declaration,
            by: by.clone(),
            ended: self.now,
        });
        Ok((if dry_run { Vec::new() } else { entries.collect() }, Answer::Done(words)))
    }

    /// Answers what operators were asked. Who approves asks for the rollback; nothing is answered where that can't be planned.
    fn decide(&self, service: &ServiceName, choice: Choice, reason: &str, dry_run: bool, by: &Actor) -> Handled {
        self.policy(service)?;
        let current = self.current(service)?;
        let Some(verdict) = current.question.and(current.verdict.as_ref()).map(|(_, verdict)| verdict) else {
            return Err(no_question(service, current));
        };
        let answer =
            Entry::QuestionAnswered { service: service.clone(), deployment: current.id, choice, by: by.clone(), reason: reason.to_owned() };
        match choice {
            Choice::Keep => {
                let words = format!(
                    "{} of {service} {} in spite of {} {}; nobody is asked again about that, and what is worse is still acted on",
                    current.version,
                    if dry_run { "would stay" } else { "stays" },
                    verdict.severity,
                    verdict.impact
                );
                Ok((if dry_run { Vec::new() } else { vec![answer] }, Answer::Done(words)))
            }
            Choice::RollBack => {
                let reason = format!("approved after {} {}: {reason}", verdict.severity, verdict.impact);
                let (plan, planned) = self.roll_back(service, None, reason, dry_run, by)?;
                Ok((if dry_run { Vec::new() } else { [vec![answer], plan].concat() }, planned))
            }
        }
    }

    fn current(&self, service: &ServiceName) -> Result<&'a Deployment, Answer> {
        let current = self.state.service(service).and_then(|known| known.current());
        current.ok_or_else(|| Answer::Unknown(format!("nothing was seen of {service} yet")))
    }

    fn mark(&self, service: &ServiceName, asked: &str, mark: Mark, reason: String, by: &Actor) -> Handled {
        self.policy(service)?;
        let named = self.state.service(service).and_then(|known| guard::named(known, asked));
        let Some(deployment) = named else { return Err(refused(&Refusal::UnknownVersion { asked: asked.to_owned() })) };
        let version = &deployment.version;
        let entry = Entry::Marked {
            service: service.clone(),
            version: version.id.clone(),
            mark,
            by: by.clone(),
            reason: MarkReason::Operator(reason),
        };
        Ok((vec![entry], Answer::Done(format!("{version} of {service} is marked {}", words::mark(mark)))))
    }
}

fn refused(refusal: &Refusal) -> Answer {
    Answer::Refused { guard: refusal.name().to_owned(), why: words::refusal(refusal) }
}

fn no_question(service: &ServiceName, current: &Deployment) -> Answer {
    let because = match &current.answered {
        Some(answered) => format!("it was answered already: {}", words::answered(answered)),
        None => format!("nobody is asked about {} of {service}", current.version),
    };
    let why = format!("{because}; to go back all the same: rollbackd rollback {service}");
    Answer::Refused { guard: "no-question".to_owned(), why }
}

/// What follows from a declaration.
struct Consequence {
    words: String,
    to: Option<Version>,
    guard: Option<String>,
}

impl Consequence {
    fn words(words: &str) -> Self {
        Self { words: words.to_owned(), to: None, guard: None }
    }
}

/// A pipeline tells of its deployment when it is through with it: who tells within this means the one that was seen, unless that one was
/// told of already.
const JUST_SEEN: SignedDuration = SignedDuration::from_mins(5);

/// What an operator should know before they go back; it informs, it does not block.
fn warnings(known: &crate::lifecycle::ServiceState, change: ChangeKind, plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    if !matches!(change, ChangeKind::Code | ChangeKind::Configuration) {
        warnings.push(format!("the deployment carries {}: the schema may not match {}", words::change(change), plan.to));
    }
    if known.mark(&plan.to.id) != Mark::Good {
        warnings.push(format!("{} is not known to be good", plan.to));
    }
    warnings
}
