//! What operators are shown: the stable shape behind `status`, `history` and `explain`, as people read it and as `--output json` prints it.
//! Times are RFC 3339, durations are ISO 8601 (`PT2M5S`), ratios are 0 to 1.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::certainty::Certainty;
use crate::decide;
use crate::declaration;
use crate::entry::{Actor, Arrival, DeploymentId, Mark};
use crate::evidence::{Evidence, Health};
use crate::guard::Limits;
use crate::lifecycle::{Deployment, Hold, Rollback, ServiceState, State, Status};
use crate::outlook::Outlook;
use crate::plan::{Cause, Outcome, Phase};
use crate::promise::{self, Unkept};
use crate::service::{Role, Service, ServiceName, SignalKind};
use crate::severity::{Choice, Impact, Response, Severity};
use crate::verdict::{Finding, FindingState, Gate, Numbers, Verdict};
use crate::version::Version;
use crate::words;

/// All services at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// When this was so.
    pub at: Timestamp,
    /// The ledger's name.
    pub ledger: String,
    /// A pause of all services.
    pub hold: Option<HoldView>,
    /// Services that tripped the fleet brake; empty while it is not tripped.
    pub brake: Vec<ServiceName>,
    /// Notices that are still to be delivered.
    pub notices_waiting: usize,
    /// What is wrong with the daemon itself: a ledger that can't be written, a service whose judging broke.
    pub troubles: Vec<String>,
    /// The services.
    pub services: Vec<ServiceView>,
}

/// One service at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub service: ServiceName,
    /// Its environment.
    pub environment: String,
    /// Where it runs.
    pub platform: String,
    /// The newest deployment; none before the first look.
    pub deployment: Option<DeploymentView>,
    /// The last known good version other than the one that runs.
    pub known_good: Option<Version>,
    /// The newest rollback, if it still needs something.
    pub rollback: Option<RollbackView>,
    /// A pause of this service.
    pub hold: Option<HoldView>,
    /// Sources that give nothing: signal and why.
    pub blind: Vec<(String, String)>,
    /// What operators are asked about it.
    #[serde(default)]
    pub question: Option<QuestionView>,
    /// What somebody says is wrong with it.
    #[serde(default)]
    pub declared: Vec<DeclaredView>,
    /// One line that says how things are.
    pub summary: String,
    /// The first thing to read: the summary, and in a window what the checks say, the worst one with its numbers.
    #[serde(default)]
    pub headline: String,
    /// What every check says now; empty outside a window.
    pub findings: Vec<FindingView>,
    /// Promises of the matrix that can't be kept at this traffic.
    #[serde(default)]
    pub warnings: Vec<WarningView>,
}

/// A promise that can't be kept, with its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarningView {
    /// As data.
    #[serde(flatten)]
    pub unkept: Unkept,
    /// In words, with what would help.
    pub words: String,
}

/// What operators are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionView {
    /// About which impact.
    pub impact: Impact,
    /// An answer is waited for until then.
    pub until: Timestamp,
    /// What is done after that.
    pub otherwise: Choice,
    /// In words.
    pub words: String,
}

/// What somebody says is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredView {
    /// What.
    pub impact: Impact,
    /// Who: a person's account, or `alert NAME`.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldView {
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// It ends by itself then.
    pub until: Option<Timestamp>,
}

/// One deployment: a row of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentView {
    /// The service.
    pub service: ServiceName,
    /// Its environment.
    pub environment: String,
    /// Its number.
    pub deployment: u64,
    /// What was deployed.
    pub version: Version,
    /// Where it stands.
    pub status: Status,
    /// `first_sight`, `deployed` or `rollback`.
    pub arrival: String,
    /// The deployment that it undid.
    pub rollback_of: Option<u64>,
    /// When it started.
    pub started: Timestamp,
    /// When its window ends or ended by the clock.
    pub window_ends: Timestamp,
    /// When it left its window.
    pub ended: Option<Timestamp>,
    /// The mark of its version.
    pub mark: Mark,
    /// The worst severity found, if any.
    pub severity: Option<Severity>,
    /// Why it stands where it stands, in a phrase.
    pub why: String,
}

impl DeploymentView {
    /// Whether a person who says this means what was deployed here: the version's name, its image (what stands before ` #`), its identity,
    /// or the number of the deployment (`#12`).
    #[must_use]
    pub fn is_called(&self, asked: &str) -> bool {
        asked.strip_prefix('#').and_then(|number| number.parse().ok()) == Some(self.deployment) || self.version.is_called(asked)
    }
}

/// One rollback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RollbackView {
    /// The plan's number.
    pub plan: u64,
    /// The plan's name on the workload.
    pub name: String,
    /// From.
    pub from: Version,
    /// To.
    pub to: Version,
    /// `planned`, `rolling out`, `verifying`, `recovered, watching on`, `ended`.
    pub phase: String,
    /// Why.
    pub cause: String,
    /// When it was planned.
    pub planned: Timestamp,
    /// How it ended, in a phrase.
    pub outcome: Option<String>,
    /// Whether it recovered; none while that is open.
    pub success: Option<bool>,
    /// Until when the proof is looked for that it helped; none while nothing is looked for.
    #[serde(default)]
    pub proof_until: Option<Timestamp>,
    /// What that proof still lacks, in words.
    #[serde(default)]
    pub lacks: Vec<String>,
}

/// What one check says, with its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingView {
    /// The finding as data.
    #[serde(flatten)]
    pub finding: Finding,
    /// In words.
    pub words: String,
    /// The gate that evidence against the deployment waits for, in words; none where no more fails than is tolerated.
    pub waits_for: Option<String>,
    /// What that is worth and what would change it. None only in an answer of a daemon that is older than this program.
    #[serde(default)]
    pub judged: Option<JudgedView>,
}

/// What a finding is worth, and what would change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedView {
    /// The check's name: `errors: error ratio`, `errors /cart: feature`.
    pub check: String,
    /// `passing`, `suspect` (more fails than is tolerated, and not every gate is passed), `failing`, `inconclusive`.
    pub standing: String,
    /// The severity of its row of the matrix.
    pub severity: Severity,
    /// What the matrix says is done when it fails.
    pub response: Response,
    /// What the matrix promises from onset to recovery; zero is at once.
    pub within: Option<SignedDuration>,
    /// How sure it is; none for checks that are not weighed, or can't say anything.
    pub evidence: Option<EvidenceView>,
    /// What would change it.
    pub outlook: Outlook,
    /// The same in words.
    pub changes: String,
}

/// How sure a check is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceView {
    /// The odds in words: `1 in 10^23`, `none yet`.
    pub odds: String,
    /// The same as the decimal logarithm of the odds: 23.1. At most 0 where nothing speaks against the deployment.
    pub log10_odds: f64,
    /// What the decimal logarithm has to reach.
    pub log10_needed: f64,
    /// The same as a word.
    pub certainty: Certainty,
    /// All numbers in a line.
    pub line: String,
    /// What they are worth, without the levels: the end of the line.
    pub weight: String,
}

/// Why something was done, or was not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// When this was so.
    pub at: Timestamp,
    /// The service as it stands.
    pub service: ServiceView,
    /// The deployment that is explained.
    pub deployment: DeploymentView,
    /// The answer, a sentence each.
    pub answer: Vec<String>,
    /// What happened when.
    pub timeline: Vec<(Timestamp, String)>,
    /// Each signal: its name, its source, how it was before.
    pub signals: Vec<(String, String, String)>,
    /// What the checks said when it was decided, or say now.
    pub findings: Vec<FindingView>,
    /// When they said so, if it was decided; none where they are what the checks say now.
    #[serde(default)]
    pub found_at: Option<Timestamp>,
    /// The newest rollback of this deployment, ended or not.
    #[serde(default)]
    pub rollback: Option<RollbackView>,
}

/// Everything a view is made from.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// What is known.
    pub state: &'a State,
    /// The service's policy.
    pub policy: &'a Service,
    /// Limits over all services.
    pub limits: &'a Limits,
    /// The service's evidence.
    pub evidence: &'a Evidence,
    /// Now.
    pub now: Timestamp,
}

/// All services.
#[must_use]
pub fn status(state: &State, services: Vec<ServiceView>, notices_waiting: usize, troubles: &[String], now: Timestamp) -> StatusView {
    StatusView {
        at: now,
        ledger: state.ledger.clone(),
        hold: state.hold.as_ref().map(hold),
        brake: state.brake.iter().flat_map(|brake| brake.services.iter().cloned()).collect(),
        notices_waiting,
        troubles: troubles.to_vec(),
        services,
    }
}

/// One service.
#[must_use]
pub fn service(sight: Sight<'_>) -> ServiceView {
    let Sight { state, policy, now, .. } = sight;
    let nothing_known = ServiceState::default();
    let known = state.service(&policy.name).unwrap_or(&nothing_known);
    let current = known.current();
    let findings = current.map(|current| live_findings(sight, current)).unwrap_or_default();
    let unkept = promise::unkept(&findings, policy).into_iter();
    ServiceView {
        service: policy.name.clone(),
        environment: policy.environment.clone(),
        platform: policy.platform.clone(),
        deployment: current.map(|current| deployment(known, policy, current)),
        known_good: current.and_then(|current| known.known_good(&current.version.id)).map(|good| good.version.clone()),
        rollback: known.open_rollback().map(|open| rollback(sight, open)),
        hold: known.hold.as_ref().map(hold),
        blind: known.blind.iter().map(|(signal, (missing, _))| (signal.to_string(), missing.to_string())).collect(),
        question: current.and_then(question),
        declared: current.map(declared).unwrap_or_default(),
        summary: summary(sight, known, &findings),
        headline: headline(sight, known, &findings),
        warnings: unkept.map(|unkept| WarningView { words: words::unkept(&unkept), unkept }).collect(),
        findings: findings.into_iter().map(|one| finding(one, policy, now)).collect(),
    }
}

/// What the checks say now, as long as the window is open, and what is declared.
fn live_findings(sight: Sight<'_>, deployment: &Deployment) -> Vec<Finding> {
    let watched = deployment.status.in_window() && sight.evidence.watched() == Some(deployment.id);
    let weighed = if watched { sight.evidence.findings(sight.policy, sight.now) } else { Vec::new() };
    let declared = if deployment.status.may_be_bad() { declaration::findings(deployment) } else { Vec::new() };
    weighed.into_iter().chain(declared).collect()
}

fn question(deployment: &Deployment) -> Option<QuestionView> {
    let (asked, (_, verdict)) = (deployment.question.as_ref()?, deployment.verdict.as_ref()?);
    let words = format!("{} {}: {}", verdict.severity, verdict.impact, words::question(asked));
    Some(QuestionView { impact: verdict.impact, until: asked.until, otherwise: asked.otherwise, words })
}

fn declared(deployment: &Deployment) -> Vec<DeclaredView> {
    let open = deployment.declared.iter().filter(|declared| declared.is_open()).map(|declared| &declared.declaration);
    open.map(|said| DeclaredView { impact: said.impact, by: said.by.to_string(), reason: said.reason.clone(), since: said.since }).collect()
}

/// The history of one service, newest first.
#[must_use]
pub fn history(state: &State, policy: &Service, limit: usize) -> Vec<DeploymentView> {
    let Some(known) = state.service(&policy.name) else { return Vec::new() };
    known.deployments.values().rev().take(limit).map(|row| deployment(known, policy, row)).collect()
}

/// Why something was done about a deployment (the newest unless said), or was not. None when there is no such deployment.
#[must_use]
pub fn explain(sight: Sight<'_>, id: Option<DeploymentId>) -> Option<ExplainView> {
    let Sight { state, policy, now, .. } = sight;
    let known = state.service(&policy.name)?;
    let explained = match id {
        Some(id) => known.deployments.get(&id)?,
        None => interesting(known)?,
    };
    let decided = decided(known, explained);
    let (said, findings) = match decided {
        Some((at, verdict)) => (at, verdict.findings.clone()),
        None => (now, live_findings(sight, explained)),
    };
    let signals = policy.signals.iter().map(|(name, signal)| {
        let before = explained.baselines.get(name).map_or_else(|| "not known".to_owned(), words::baseline);
        (name.to_string(), signal.source.clone(), before)
    });
    let undoing = known.rollback_from(explained.id);
    Some(ExplainView {
        at: now,
        service: service(sight),
        deployment: deployment(known, policy, explained),
        answer: answer(sight, known, explained),
        timeline: timeline(known, explained, policy),
        signals: signals.collect(),
        findings: findings.into_iter().map(|one| finding(one, policy, said)).collect(),
        found_at: decided.map(|(at, _)| at),
        rollback: undoing.map(|undoing| rollback(sight, undoing)),
    })
}

/// The deployment that people ask about: the one that was rolled back, while its rollback is the newest thing that happened; else the
/// newest one.
fn interesting(known: &ServiceState) -> Option<&Deployment> {
    let current = known.current()?;
    Some(current.rollback_of().and_then(|of| known.deployments.get(&of)).unwrap_or(current))
}

/// What was acted on, and when: the verdict that a rollback was planned for, whatever was found later; else the newest.
fn decided<'a>(known: &'a ServiceState, explained: &'a Deployment) -> Option<(Timestamp, &'a Verdict)> {
    let planned = known.rollback_from(explained.id).and_then(|rollback| match &rollback.plan.cause {
        Cause::Verdict(verdict) => Some((rollback.planned, verdict)),
        Cause::Operator { .. } => None,
    });
    planned.or_else(|| explained.verdict.as_ref().map(|(at, verdict)| (*at, verdict)))
}

fn hold(hold: &Hold) -> HoldView {
    HoldView { by: hold.by.to_string(), reason: hold.reason.clone(), since: hold.since, until: hold.until }
}

/// What a check of a service says at that moment, in words.
#[must_use]
pub fn finding(finding: Finding, policy: &Service, at: Timestamp) -> FindingView {
    let numbers = finding.numbers.as_ref().filter(|_| words::is_suspect(&finding));
    let gate = numbers.and_then(|numbers| numbers.waits_for.map(|gate| (gate, numbers)));
    let waits_for = gate.map(|(gate, numbers): (Gate, _)| words::waits_for(gate, numbers));
    let judged = Some(judged(&finding, policy, at));
    FindingView { words: words::finding(&finding), waits_for, judged, finding }
}

fn judged(finding: &Finding, policy: &Service, at: Timestamp) -> JudgedView {
    let row = policy.matrix.row(finding.impact);
    let outlook = Outlook::of(finding, policy, at);
    let is_compared = policy.signals.values().any(|policy| policy.role == Role::Control);
    JudgedView {
        check: words::check(finding),
        standing: words::standing(finding).to_owned(),
        severity: row.severity,
        response: row.response,
        within: row.within,
        evidence: finding.numbers.as_ref().map(|numbers| evidence(numbers, is_compared)),
        changes: words::outlook(&outlook, finding, row) + beyond_window(finding, policy),
        outlook,
    }
}

/// What was as bad for longer than the window, again and again, can't be told from a bad version within it.
fn beyond_window(finding: &Finding, policy: &Service) -> &'static str {
    let numbers = finding.numbers.as_ref().filter(|_| finding.state == FindingState::Passing);
    if numbers.is_some_and(|numbers| policy.decision.grace.saturating_add(numbers.hold) > policy.window) {
        ", which is longer than the window: it was as bad for as long before, more than once"
    } else {
        ""
    }
}

fn evidence(numbers: &Numbers, is_compared: bool) -> EvidenceView {
    EvidenceView {
        odds: words::odds(numbers.log_evidence),
        log10_odds: numbers.log_evidence / std::f64::consts::LN_10,
        log10_needed: numbers.log_threshold / std::f64::consts::LN_10,
        certainty: Certainty::of(numbers),
        line: words::evidence(numbers, is_compared),
        weight: words::weight(numbers, is_compared),
    }
}

fn deployment(known: &ServiceState, policy: &Service, row: &Deployment) -> DeploymentView {
    let window_ends = row.started.saturating_add(policy.window).unwrap_or(Timestamp::MAX);
    DeploymentView {
        service: policy.name.clone(),
        environment: row.environment.clone(),
        deployment: row.id.0,
        version: row.version.clone(),
        status: row.status,
        arrival: match row.arrival {
            Arrival::FirstSight => "first_sight",
            Arrival::Deployed => "deployed",
            Arrival::Rollback { .. } => "rollback",
        }
        .to_owned(),
        rollback_of: row.rollback_of().map(|of| of.0),
        started: row.started,
        window_ends: row.extended.as_ref().map_or(window_ends, |(until, _)| *until),
        ended: row.ended,
        mark: known.mark(&row.version.id),
        severity: row.verdict.as_ref().map(|(_, verdict)| verdict.severity),
        why: why(known, row),
    }
}

/// Why a deployment stands where it stands.
fn why(known: &ServiceState, row: &Deployment) -> String {
    let verdict = row.verdict.as_ref().map(|(_, verdict)| format!("{} {} ({})", verdict.severity, verdict.impact, verdict.signal));
    match (row.status, &row.arrival) {
        (_, Arrival::Rollback { of, .. }) => format!("rollback of deployment {of}"),
        (Status::RolledBack, _) => {
            let rollback = known.rollback_from(row.id);
            let asked = rollback.is_some_and(|rollback| matches!(rollback.plan.cause, Cause::Operator { .. }));
            let approved = row.answered.as_ref().is_some_and(|answered| answered.choice == Choice::RollBack);
            if asked && approved {
                return verdict.map_or_else(|| "approved".to_owned(), |verdict| format!("{verdict}, approved"));
            }
            verdict.filter(|_| !asked).unwrap_or_else(|| "an operator asked for it".to_owned())
        }
        (Status::Deployed, _) if verdict.is_none() => "passed its window".to_owned(),
        (Status::Superseded, _) => "another deployment arrived".to_owned(),
        (Status::Deploying | Status::Watching | Status::Failed | Status::Deployed, _) => match (&row.refusal, verdict) {
            (Some(refusal), Some(verdict)) => format!("{verdict}; not rolled back: {}", refusal.name()),
            (None, Some(verdict)) => verdict,
            (_, None) if row.warned.iter().any(|(_, warning)| warning.is_of_trouble()) => "suspected, and nothing is decided".to_owned(),
            (_, None) if row.extended.is_some() => "watched on: nothing proves it good or bad".to_owned(),
            (_, None) => String::new(),
        },
    }
}

fn rollback(sight: Sight<'_>, rollback: &Rollback) -> RollbackView {
    let Sight { state, policy, limits, evidence, now } = sight;
    let outcome = rollback.outcome.as_ref().map(|(_, outcome)| outcome);
    let verifying = match rollback.phase {
        Phase::Verifying { at } if outcome.is_none() => Some(at),
        _ => None,
    };
    let lacks = verifying.map(|_| decide::unproved(state, policy, limits, evidence, now)).unwrap_or_default();
    RollbackView {
        proof_until: verifying.map(|since| since.saturating_add(policy.verification.timeout).unwrap_or(Timestamp::MAX)),
        lacks: lacks.iter().map(words::lack).collect(),
        plan: rollback.id.0,
        name: state.global(rollback.id.0),
        from: rollback.plan.from.clone(),
        to: rollback.plan.to.clone(),
        phase: words::phase(&rollback.phase).to_owned(),
        cause: words::cause(&rollback.plan.cause),
        planned: rollback.planned,
        outcome: outcome.map(words::outcome),
        success: outcome.map(|outcome| *outcome == Outcome::Recovered),
    }
}

fn summary(sight: Sight<'_>, known: &ServiceState, findings: &[Finding]) -> String {
    let Some(current) = known.current() else {
        return if known.blind.is_empty() { "not seen yet".to_owned() } else { "can't be seen".to_owned() };
    };
    if let Some(open) = known.open_rollback() {
        return format!("rollback to {}: {}", open.plan.to, words::phase(&open.phase));
    }
    match (&current.verdict, &current.refusal) {
        (Some((_, verdict)), Some(refusal)) if current.status != Status::RolledBack => {
            return format!("{} {}, not rolled back: {}", verdict.severity, verdict.impact, refusal.name());
        }
        (Some((_, verdict)), None) if current.status == Status::Deployed && why_it_stays(current).is_some() => {
            let why = why_it_stays(current).unwrap_or_default();
            return format!("{} {}, {why}", verdict.severity, verdict.impact);
        }
        (Some((_, verdict)), None) if current.question.is_some() => {
            return format!("{} {}: your decision is wanted", verdict.severity, verdict.impact);
        }
        (Some((_, verdict)), None) if current.status.in_window() && why_it_stays(current).is_some() => {
            let why = why_it_stays(current).unwrap_or_default();
            return format!("{} {}, {why}; watched on", verdict.severity, verdict.impact);
        }
        (Some((_, verdict)), None) if current.status.in_window() || current.is_declared() && current.status == Status::Deployed => {
            return format!("{} {}", verdict.severity, verdict.impact);
        }
        _ => {}
    }
    match current.status {
        Status::Deploying | Status::Watching => match nearest_suspect(sight.policy, findings) {
            Some(suspect) => format!("SUSPECT, {}", words::nearly(suspect)),
            None => window_summary(sight, current),
        },
        Status::Deployed if known.mark(&current.version.id) == Mark::Good => "well, known good".to_owned(),
        Status::Deployed => "well".to_owned(),
        Status::RolledBack => "rolled back".to_owned(),
        Status::Superseded => "superseded".to_owned(),
        Status::Failed => "failed: a person is needed, explain says why".to_owned(),
    }
}

/// Why it stays although it was asked whether it should: a person said so, or nobody said anything in time.
fn why_it_stays(deployment: &Deployment) -> Option<String> {
    let answered = deployment.answered.as_ref().filter(|answered| answered.choice == Choice::Keep)?;
    match answered.by {
        Actor::Operator(_) => Some(format!("but {} let it stay", answered.by)),
        Actor::Daemon => Some("but nobody answered in time, so it stays".to_owned()),
        Actor::Alert(_) => None,
    }
}

fn window_summary(sight: Sight<'_>, current: &Deployment) -> String {
    let watched = SignedDuration::from_secs(sight.now.duration_since(current.started).as_secs());
    if current.extended.is_some() {
        return format!("watched on after {}: nothing proves it good or bad", words::duration(watched));
    }
    format!("watched for {} of {}", words::duration(watched), words::duration(sight.policy.window))
}

/// The first thing to read.
fn headline(sight: Sight<'_>, known: &ServiceState, findings: &[Finding]) -> String {
    let summary = summary(sight, known, findings);
    let is_judged = known.current().is_none_or(|current| current.verdict.is_some() || !current.status.in_window());
    if is_judged || known.open_rollback().is_some() || findings.is_empty() {
        return summary;
    }
    let inconclusive = |finding: &&Finding| matches!(finding.state, FindingState::Inconclusive(_));
    let unclear = findings.iter().filter(inconclusive).count();
    let said = match nearest_suspect(sight.policy, findings) {
        Some(suspect) => return format!("suspect, {}", words::suspicion(suspect)),
        None if unclear == findings.len() => format!("nothing can be said yet: {}", words::finding(&findings[0])),
        None if unclear > 0 => format!("nothing speaks against it, but {unclear} of {} checks can't say anything", findings.len()),
        None => format!("nothing speaks against it, by all {} checks", findings.len()),
    };
    format!("{said}; {summary}")
}

/// Of the checks that see more than is tolerated the one that is nearest to a verdict: where its level is reached, the most severe one, and
/// else the one with most evidence.
fn nearest_suspect<'a>(policy: &Service, findings: &'a [Finding]) -> Option<&'a Finding> {
    let is_there = |numbers: &Numbers| numbers.now.is_some_and(|now| now >= numbers.severity);
    let suspects = findings.iter().filter(|finding| words::is_suspect(finding));
    let weighed = suspects.filter_map(|finding| finding.numbers.as_ref().map(|numbers| (finding, numbers)));
    let nearest = weighed.min_by(|(one, first), (other, second)| {
        let severity = |finding: &Finding| policy.matrix.row(finding.impact).severity;
        let by_severity = if is_there(first) && is_there(second) { severity(one).cmp(&severity(other)) } else { Ordering::Equal };
        let by_evidence = second.log_evidence.total_cmp(&first.log_evidence);
        is_there(second).cmp(&is_there(first)).then(by_severity).then(by_evidence)
    });
    nearest.map(|(finding, _)| finding)
}

/// The answer to "why did you" and "why didn't you".
fn answer(sight: Sight<'_>, known: &ServiceState, explained: &Deployment) -> Vec<String> {
    let mut answer = Vec::new();
    let version = &explained.version;
    let rollback = known.rollback_from(explained.id);
    match (&explained.verdict, rollback) {
        (_, Some(rollback)) => {
            let was = match (&rollback.applied, rollback.is_open()) {
                (Some(_), _) => "was",
                (None, true) => "is to be",
                (None, false) => "was to be",
            };
            answer.push(format!("{version} {was} rolled back to {}: {}.", rollback.plan.to, words::cause(&rollback.plan.cause)));
            answer.push(match words::ending(rollback) {
                Some(ending) => words::sentence(&ending),
                None => format!("The rollback is under way: {}.", words::phase(&rollback.phase)),
            });
        }
        (Some((_, verdict)), None) => answer.extend(answer_to_verdict(sight.policy, verdict, explained)),
        (None, None) => answer.extend(answer_without_verdict(sight, known, explained)),
    }
    answer
}

fn answer_to_verdict(policy: &Service, verdict: &Verdict, explained: &Deployment) -> Vec<String> {
    let version = &explained.version;
    let found = format!("{version} is bad: {}.", words::verdict(verdict));
    let done = match (verdict.response, &explained.refusal) {
        (Response::RollBack, Some(refusal)) => format!("It was not rolled back: {}.", words::refusal(refusal)),
        (Response::RollBack, None) if explained.rollback_of().is_some() => {
            "It was brought by a rollback, and a rollback is never rolled back by itself.".to_owned()
        }
        (Response::RollBack, None) if explained.status.in_window() => "A rollback is about to be planned.".to_owned(),
        (Response::RollBack, None) => format!("It was not rolled back by itself ({}).", words::status(explained.status)),
        (Response::Ask, refusal) => match (&explained.question, &explained.answered, refusal) {
            (Some(question), ..) => format!("The matrix says ask an operator: {}.", words::question(question)),
            (None, Some(answered), Some(refusal)) => {
                format!("An operator was asked: {}. It was not rolled back: {}.", words::answered(answered), words::refusal(refusal))
            }
            (None, Some(answered), None) => format!("An operator was asked: {}.", words::answered(answered)),
            (None, None, _) => "The matrix says ask an operator, and nobody answered while it mattered.".to_owned(),
        },
        (Response::Notify, _) => "It was not rolled back: the matrix says notify only for this impact.".to_owned(),
    };
    [found, done].into_iter().chain(judged_by_a_person(policy, explained)).collect()
}

/// That what is declared no longer speaks against a deployment.
fn judged_by_a_person(policy: &Service, explained: &Deployment) -> Option<String> {
    let judged = explained.declared.iter().find(|said| said.is_open() && declaration::is_judged(policy, explained, said))?;
    let by = &explained.answered.as_ref()?.by;
    let (impact, said_by) = (judged.declaration.impact, &judged.declaration.by);
    Some(format!("{by} judged it, so the {impact} that {said_by} declared no longer keeps {} from being known good.", explained.version))
}

fn answer_without_verdict(sight: Sight<'_>, known: &ServiceState, explained: &Deployment) -> Vec<String> {
    let Sight { policy, evidence, now, .. } = sight;
    let version = &explained.version;
    if let Some(proof) = explained.proof {
        return vec![format!(
            "{version} was not rolled back: it passed its window of {}, and the odds of such a good record if it were bad are {}.",
            words::duration(policy.window),
            words::odds(proof)
        )];
    }
    if !explained.status.in_window() {
        return vec![format!("{version} was not rolled back: no check failed while it was watched ({}).", words::status(explained.status))];
    }
    let mut answer = vec![format!("{version} is not rolled back: {}.", no_failure(sight, explained))];
    if let Health::Unproven(lacks) = evidence.health(policy, now)
        && !lacks.is_empty()
    {
        let lacking: Vec<_> = lacks.iter().map(words::lack).collect();
        let lacks = match known.mark(&version.id) {
            Mark::Good => "It is marked good, but this deployment has not proved it yet",
            Mark::Bad | Mark::Unknown => "It is not known good yet",
        };
        answer.push(format!("{lacks}: {}.", lacking.join("; ")));
    }
    answer
}

/// What the checks of a deployment in its window say, when none of them has failed.
fn no_failure(sight: Sight<'_>, explained: &Deployment) -> String {
    let findings = live_findings(sight, explained);
    if findings.is_empty() {
        return "nothing was looked at yet".to_owned();
    }
    let count = |is: fn(&Finding) -> bool| findings.iter().filter(|finding| is(finding)).count();
    let suspect = count(words::is_suspect);
    let unclear = count(|finding| matches!(finding.state, FindingState::Inconclusive(_)));
    let checks = findings.len();
    let mut said = vec![format!("no check has failed since {}", words::time(explained.started))];
    if suspect > 0 {
        said.push(format!("{suspect} of {checks} checks see more failing than is tolerated, and wait until it is certain"));
    }
    if findings
        .iter()
        .any(|finding| words::is_suspect(finding) && finding.numbers.as_ref().is_some_and(|numbers| numbers.ambient.is_some()))
    {
        said.push("others suffer at the same time, so it is probably not its doing".to_owned());
    }
    if unclear > 0 {
        said.push(format!("{unclear} of {checks} checks can't say anything just now"));
    }
    said.join("; ")
}

fn timeline(known: &ServiceState, explained: &Deployment, policy: &Service) -> Vec<(Timestamp, String)> {
    let came = match explained.arrival {
        Arrival::FirstSight => "was there when the service was first seen".to_owned(),
        Arrival::Deployed => "was deployed".to_owned(),
        Arrival::Rollback { of, .. } => format!("was brought back by the rollback of deployment {of}"),
    };
    let mut timeline = vec![(explained.started, format!("{} {came}", explained.version))];
    if explained.seen.duration_since(explained.started) >= SignedDuration::from_secs(1) {
        timeline.push((explained.seen, "it was seen".to_owned()));
    }
    for said in &explained.declared {
        let declaration = &said.declaration;
        timeline.push((said.at, format!("{} said: {} ({})", declaration.by, declaration.impact, declaration.reason)));
        timeline.extend(said.ended.as_ref().map(|(at, by)| (*at, format!("over, by the word of {by}: {}", declaration.impact))));
    }
    for (at, verdict) in &explained.found_before {
        timeline.push((*at, format!("found: {}", words::verdict(verdict))));
    }
    if let Some((at, verdict)) = &explained.verdict {
        timeline.push((verdict.onset, began(explained, verdict, policy)));
        timeline.push((*at, format!("found: {} {}", verdict.severity, verdict.impact)));
    }
    for (at, warning) in &explained.warned {
        timeline.push((*at, format!("operators were warned: {}", words::warning(warning))));
    }
    if let Some(answered) = &explained.answered {
        timeline.push((answered.at, format!("answered: {}", words::answered(answered))));
    }
    if let Some(rollback) = known.rollback_from(explained.id) {
        timeline.push((rollback.planned, format!("rollback to {} planned", rollback.plan.to)));
        timeline.extend(rollback.applied.as_ref().map(|(at, _)| (*at, "carried out on the platform".to_owned())));
        if let Phase::Verifying { at } = rollback.phase {
            timeline.push((at, "rolled out; the proof is being looked for".to_owned()));
        }
        let relapsed = rollback.recovered.filter(|recovered| rollback.outcome.as_ref().is_some_and(|(ended, _)| ended != recovered));
        timeline.extend(relapsed.map(|recovered| (recovered, "recovered".to_owned())));
        timeline.extend(rollback.outcome.as_ref().map(|(at, outcome)| (*at, words::outcome(outcome))));
        let brought =
            known.deployments.values().find(|other| matches!(other.arrival, Arrival::Rollback { plan, .. } if plan == rollback.id));
        let after = brought.and_then(|brought| Some((brought, brought.verdict.as_ref()?)));
        timeline.extend(after.map(|(brought, (at, verdict))| (*at, format!("found on {}: {}", brought.version, words::verdict(verdict)))));
    }
    if let Some(ended) = explained.ended {
        timeline.push((ended, format!("left its window: {}", words::status(explained.status).replace('_', " "))));
    }
    timeline.sort_by_key(|(at, _)| *at);
    timeline
}

/// What requests tell is weighed from the end of the grace time on: what was there by then may have begun any time before.
fn began(deployment: &Deployment, verdict: &Verdict, policy: &Service) -> String {
    let weighed = policy.signals.get(&verdict.signal).filter(|signal| matches!(signal.kind, SignalKind::Errors | SignalKind::Latency));
    let first = weighed.map(|signal| policy.decision.grace.saturating_add(signal.every));
    let unweighed = verdict.onset.duration_since(deployment.started);
    match first {
        Some(first) if unweighed <= first => format!("{} was there when the weighing began, after the grace time", verdict.impact),
        _ => format!("{} began, by the best estimate", verdict.impact),
    }
}
