//! What a replay came to: one judgement for each deployment, as data, in a stable shape. Times are RFC 3339, ratios are 0 to 1.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::certainty::Certainty;
use rollbackd_core::entry::{Arrival, DeploymentId, Entry, Record};
use rollbackd_core::evidence::Lack;
use rollbackd_core::guard::Refusal;
use rollbackd_core::outlook::Outlook;
use rollbackd_core::plan::Cause;
use rollbackd_core::service::{Service, ServiceName, SignalName};
use rollbackd_core::severity::{Impact, Response, Severity};
use rollbackd_core::verdict::{Finding, FindingState, Gate, Numbers, Verdict};
use rollbackd_core::view::{self, FindingView};
use rollbackd_core::words;
use serde::Serialize;

use super::judge::LastWords;
use super::play::{Played, Point};

/// What would have been done about a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Gone back.
    RollBack,
    /// Gone back, if no guard had stood in the way.
    Refused,
    /// An operator would have been asked.
    Ask,
    /// Somebody would have been told.
    Notify,
    /// Nothing.
    LeftAlone,
    /// Nothing, since nothing could be said, or what was bad enough was not decided yet.
    Inconclusive,
}

impl Decision {
    /// In words, of what was done indeed.
    #[must_use]
    pub const fn recorded_words(self) -> &'static str {
        match self {
            Self::RollBack => "a rollback was decided",
            Self::Refused => "it was not rolled back: a guard stood in the way",
            Self::Ask => "an operator was asked",
            Self::Notify => "operators were told",
            Self::LeftAlone => "it was left alone",
            Self::Inconclusive => "nothing could be said",
        }
    }

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::RollBack => "would have been rolled back",
            Self::Refused => "would not have been rolled back: a guard stands in the way",
            Self::Ask => "an operator would have been asked",
            Self::Notify => "operators would have been told",
            Self::LeftAlone => "left alone",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// How the watch on a deployment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It was decided.
    Decided,
    /// It proved itself in its window.
    Passed,
    /// Its window ended, and it had not proved itself; the daemon would have watched on.
    Unproved,
    /// Another deployment came first.
    Superseded,
    /// The samples end first.
    SamplesEnd,
}

/// One deployment and what would have been done about it.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// The service.
    pub service: ServiceName,
    /// What was deployed, as far as that is known.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// When its window ends by the clock.
    pub window_ends: Timestamp,
    /// What would have been done.
    pub decision: Decision,
    /// When that was decided; none where nothing was done.
    pub decided: Option<Timestamp>,
    /// How long after the start that was, in seconds.
    pub after_seconds: Option<f64>,
    /// When what was wrong began, by the best estimate.
    pub onset: Option<Timestamp>,
    /// How bad it was.
    pub severity: Option<Severity>,
    /// What was wrong.
    pub impact: Option<Impact>,
    /// What the matrix answers.
    pub response: Option<Response>,
    /// The signal that showed it.
    pub signal: Option<SignalName>,
    /// The guard that stood in the way.
    pub guard: Option<String>,
    /// When it had proved itself, and was known good from then on: a version to go back to.
    pub promoted: Option<Timestamp>,
    /// Why, in words.
    pub why: String,
    /// How the watch ended.
    pub ending: Ending,
    /// Until when it was watched.
    pub watched_until: Timestamp,
    /// Every verdict on it, the first one first.
    pub verdicts: Vec<Reached>,
    /// How each signal was before, in words.
    pub before: BTreeMap<SignalName, String>,
    /// What the checks said when it was decided, or last.
    pub findings: Vec<FindingView>,
    /// What the ledger says was done, where the deployment comes from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
    /// The course of each signal; only there where it was asked for.
    #[serde(skip)]
    pub course: BTreeMap<SignalName, Vec<Point>>,
}

impl Judgement {
    /// The version, where it is known by more than the time of its deployment.
    #[must_use]
    pub fn named_version(&self) -> Option<&str> {
        Some(self.version.as_str()).filter(|version| !version.is_empty() && !version.starts_with(super::UNNAMED))
    }
}

/// A verdict and when it was reached.
#[derive(Clone, Debug, Serialize)]
pub struct Reached {
    /// When.
    pub at: Timestamp,
    /// How bad.
    pub severity: Severity,
    /// What.
    pub impact: Impact,
    /// What the matrix answers.
    pub response: Response,
    /// In words.
    pub words: String,
}

/// What a ledger says of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recorded {
    /// What was done.
    pub decision: Decision,
    /// When that was decided.
    pub decided: Option<Timestamp>,
}

impl Recorded {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        let at = self.decided.map_or_else(String::new, |at| format!(" at {}", words::time(at)));
        format!("{}{at}", self.decision.recorded_words())
    }
}

/// How many of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Deployments in all.
    pub deployments: usize,
    /// How many would have been rolled back.
    pub rolled_back: usize,
    /// How many a guard would have kept from being rolled back.
    pub refused: usize,
    /// How many an operator would have been asked about.
    pub asked: usize,
    /// How many would have been told of.
    pub notified: usize,
    /// How many would have been left alone.
    pub left_alone: usize,
    /// How many nothing could be said of.
    pub inconclusive: usize,
    /// How many of all these proved themselves in their windows.
    pub promoted: usize,
}

impl Summary {
    /// Counts.
    #[must_use]
    pub fn of(judgements: &[Judgement]) -> Self {
        let count = |decision| judgements.iter().filter(|judgement| judgement.decision == decision).count();
        Self {
            deployments: judgements.len(),
            rolled_back: count(Decision::RollBack),
            refused: count(Decision::Refused),
            asked: count(Decision::Ask),
            notified: count(Decision::Notify),
            left_alone: count(Decision::LeftAlone),
            inconclusive: count(Decision::Inconclusive),
            promoted: judgements.iter().filter(|judgement| judgement.promoted.is_some()).count(),
        }
    }

    /// In a line: `12 deployments: 1 would have been rolled back, 11 left alone`.
    #[must_use]
    pub fn words(&self) -> String {
        let counted = [
            (self.rolled_back, "would have been rolled back"),
            (self.refused, "kept from a rollback by a guard"),
            (self.asked, "put to an operator"),
            (self.notified, "told of"),
            (self.left_alone, "left alone"),
            (self.inconclusive, "inconclusive"),
        ];
        let parts: Vec<String> =
            counted.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
        let plural = if self.deployments == 1 { "" } else { "s" };
        let colon = if parts.is_empty() { "" } else { ": " };
        format!("{} deployment{plural}{colon}{}", self.deployments, parts.join(", "))
    }
}

/// How many rollbacks each guard stood in the way of, in words: `2 by fleet-brake, 1 by little-history`. None where none did.
#[must_use]
pub fn guards(judgements: &[Judgement]) -> Option<String> {
    let mut guards: BTreeMap<&str, usize> = BTreeMap::new();
    for guard in judgements.iter().filter_map(|judgement| judgement.guard.as_deref()) {
        *guards.entry(guard).or_default() += 1;
    }
    let counted: Vec<String> = guards.iter().map(|(guard, number)| format!("{number} by {guard}")).collect();
    (!counted.is_empty()).then(|| counted.join(", "))
}

/// The judgements on all deployments that were played, in order of time.
#[must_use]
pub fn judgements(policies: &[Service], mut played: Played, samples: Option<(Timestamp, Timestamp)>) -> Vec<Judgement> {
    let courses = std::mem::take(&mut played.courses);
    let of_deployment = by_deployment(played.judge.records());
    let mut judgements: Vec<Judgement> = of_deployment
        .iter()
        .filter_map(|((service, deployment), records)| {
            let policy = policies.iter().find(|policy| policy.name == *service)?;
            let last_words = played.judge.last_words(service, *deployment);
            let mut judgement = judgement(policy, records, last_words, samples)?;
            judgement.course = courses.get(&(service.clone(), *deployment)).cloned().unwrap_or_default();
            Some(judgement)
        })
        .collect();
    judgements.sort_by(|a, b| (a.started, &a.service).cmp(&(b.started, &b.service)));
    judgements
}

/// The records that concern each deployment that somebody brought, with the one that first saw it.
fn by_deployment(records: &[Record]) -> BTreeMap<(ServiceName, DeploymentId), Vec<&Record>> {
    let mut all: BTreeMap<(ServiceName, DeploymentId), Vec<&Record>> = BTreeMap::new();
    for record in records {
        let (service, deployment) = match &record.entry {
            Entry::DeploymentSeen { service, arrival: Arrival::Deployed, .. } => (service, DeploymentId(record.seq)),
            Entry::BaselineTaken { service, deployment, .. }
            | Entry::VerdictReached { service, deployment, .. }
            | Entry::RollbackRefused { service, deployment, .. }
            | Entry::WindowPassed { service, deployment, .. }
            | Entry::WindowExtended { service, deployment, .. }
            | Entry::WindowFailed { service, deployment }
            | Entry::Superseded { service, deployment } => (service, *deployment),
            Entry::RollbackPlanned { plan } => (&plan.service, plan.deployment),
            _ => continue,
        };
        let key = (service.clone(), deployment);
        match (&record.entry, all.get_mut(&key)) {
            (Entry::DeploymentSeen { .. }, _) => {
                all.insert(key, vec![record]);
            }
            (_, Some(records)) => records.push(record),
            (_, None) => {}
        }
    }
    all
}

/// What the records of one deployment come to.
struct Course<'a> {
    planned: Option<(Timestamp, Option<&'a Verdict>)>,
    refused: Option<(Timestamp, &'a Refusal)>,
    verdicts: Vec<(Timestamp, &'a Verdict)>,
    passed: Option<Timestamp>,
    extended: Option<(Timestamp, &'a [Lack])>,
    superseded: Option<Timestamp>,
    before: BTreeMap<SignalName, String>,
}

impl<'a> Course<'a> {
    fn of(records: &[&'a Record]) -> Self {
        let mut course = Self {
            planned: None,
            refused: None,
            verdicts: Vec::new(),
            passed: None,
            extended: None,
            superseded: None,
            before: BTreeMap::new(),
        };
        for record in records {
            match &record.entry {
                Entry::RollbackPlanned { plan } => {
                    let verdict = match &plan.cause {
                        Cause::Verdict(verdict) => Some(verdict),
                        Cause::Operator { .. } => None,
                    };
                    course.planned.get_or_insert((record.at, verdict));
                }
                Entry::RollbackRefused { refusal, .. } => course.refused = Some((record.at, refusal)),
                Entry::VerdictReached { verdict, .. } => course.verdicts.push((record.at, verdict)),
                Entry::WindowPassed { .. } => course.passed = Some(record.at),
                Entry::WindowExtended { lacks, .. } => {
                    course.extended.get_or_insert((record.at, lacks));
                }
                Entry::Superseded { .. } => course.superseded = Some(record.at),
                Entry::BaselineTaken { baselines, .. } => {
                    course.before.extend(baselines.iter().map(|(signal, baseline)| (signal.clone(), words::baseline(baseline))));
                }
                _ => {}
            }
        }
        course
    }

    /// The verdict that counts: the one that called for most.
    fn verdict(&self) -> Option<(Timestamp, &'a Verdict)> {
        let planned = self.planned.and_then(|(at, verdict)| Some((at, verdict?)));
        planned.or_else(|| self.verdicts.last().copied())
    }

    fn decision(&self) -> Option<(Decision, Timestamp)> {
        if let Some((at, _)) = self.planned {
            return Some((Decision::RollBack, at));
        }
        let (at, verdict) = self.verdicts.last()?;
        Some(match (verdict.response, &self.refused) {
            (Response::RollBack, Some((refused, _))) => (Decision::Refused, *refused),
            (Response::RollBack, None) => (Decision::RollBack, *at),
            (Response::Ask, _) => (Decision::Ask, *at),
            (Response::Notify, _) => (Decision::Notify, *at),
        })
    }
}

/// What the records of a ledger say was decided about each deployment, by its service and its start.
#[must_use]
pub fn recorded(records: &[Record]) -> BTreeMap<(ServiceName, Timestamp), Recorded> {
    let of_deployment = by_deployment(records);
    let recorded = |records: &Vec<&Record>| {
        let Entry::DeploymentSeen { service, started, .. } = &records.first()?.entry else { return None };
        let decided = Course::of(records).decision();
        let (decision, decided) = decided.map_or((Decision::LeftAlone, None), |(decision, at)| (decision, Some(at)));
        Some(((service.clone(), *started), Recorded { decision, decided }))
    };
    of_deployment.values().filter_map(recorded).collect()
}

/// `samples` are the times of the first and the last one.
fn judgement(
    policy: &Service,
    records: &[&Record],
    last_words: Option<&LastWords>,
    samples: Option<(Timestamp, Timestamp)>,
) -> Option<Judgement> {
    let Entry::DeploymentSeen { service, version, started, .. } = &records.first()?.entry else { return None };
    let course = Course::of(records);
    let window_ends = started.saturating_add(policy.window).unwrap_or(Timestamp::MAX);
    let verdict = course.verdict();
    let last = last_words.map(|(_, findings)| findings.as_slice()).unwrap_or_default();
    let findings: Vec<Finding> = verdict
        .map_or(last, |(_, verdict)| &verdict.findings)
        .iter()
        .filter(|finding| finding.signal != SignalName::platform())
        .cloned()
        .collect();
    let decided = course.decision();
    let decision = decided.map_or_else(|| without_verdict(&findings), |(decision, _)| decision);
    let said = verdict.map_or_else(|| last_words.map_or(*started, |(at, _)| *at), |(at, _)| at);
    let views: Vec<FindingView> = findings.iter().cloned().map(|one| view::finding(one, policy, said)).collect();
    let (ending, watched_until) = ending(&course, last_words.map(|(at, _)| *at), window_ends, samples.map(|(_, last)| last));
    let why = match samples {
        Some((first, _)) if window_ends <= first => format!("the samples begin after its window, at {}", words::time(first)),
        Some((_, last)) if *started >= last => format!("the samples end before it, at {}", words::time(last)),
        None => "there are no samples".to_owned(),
        _ => why(&course, decision, &views, ending, watched_until.duration_since(*started)),
    };
    Some(Judgement {
        service: service.clone(),
        version: version.name.clone(),
        started: *started,
        window_ends,
        decision,
        decided: decided.map(|(_, at)| at),
        after_seconds: decided.map(|(_, at)| at.duration_since(*started).as_secs_f64()),
        onset: verdict.map(|(_, verdict)| verdict.onset),
        severity: verdict.map(|(_, verdict)| verdict.severity),
        impact: verdict.map(|(_, verdict)| verdict.impact),
        response: verdict.map(|(_, verdict)| verdict.response),
        signal: verdict.map(|(_, verdict)| verdict.signal.clone()),
        guard: course.refused.as_ref().filter(|_| decision == Decision::Refused).map(|(_, refusal)| refusal.name().to_owned()),
        promoted: course.passed,
        why,
        ending,
        watched_until,
        verdicts: course.verdicts.iter().map(|(at, verdict)| reached(*at, verdict)).collect(),
        before: course.before,
        findings: views,
        recorded: None,
        course: BTreeMap::new(),
    })
}

fn reached(at: Timestamp, verdict: &Verdict) -> Reached {
    let Verdict { severity, impact, response, .. } = *verdict;
    Reached { at, severity, impact, response, words: words::verdict(verdict) }
}

/// Nothing was found: because everything that could be seen was well, or because nothing could be seen or decided.
fn without_verdict(findings: &[Finding]) -> Decision {
    let says_something = findings.iter().any(|finding| !matches!(finding.state, FindingState::Inconclusive(_)));
    if says_something && !findings.iter().any(is_undecided) { Decision::LeftAlone } else { Decision::Inconclusive }
}

/// Whether it is as bad as an impact, and was not decided.
fn is_undecided(finding: &Finding) -> bool {
    let suspicious = |numbers: &Numbers| !matches!(Certainty::of(numbers), Certainty::Nothing | Certainty::CouldBeChance);
    let is_bad = |numbers: &Numbers| numbers.now.is_some_and(|now| now >= numbers.severity.max(numbers.tolerance));
    let is_held = |numbers: &Numbers| matches!(numbers.waits_for, Some(Gate::Attribution | Gate::Load)) || numbers.ambient.is_some();
    let undecided = |numbers: &Numbers| is_bad(numbers) && suspicious(numbers) && !is_held(numbers);
    finding.state == FindingState::Passing && finding.numbers.as_ref().is_some_and(undecided)
}

fn ending(
    course: &Course<'_>,
    last_words: Option<Timestamp>,
    window_ends: Timestamp,
    samples_end: Option<Timestamp>,
) -> (Ending, Timestamp) {
    if let Some((Decision::RollBack | Decision::Refused | Decision::Ask, at)) = course.decision() {
        return (Ending::Decided, at);
    }
    match (course.passed, &course.extended, course.superseded) {
        (Some(at), ..) => (Ending::Passed, at),
        (None, _, Some(at)) if at < window_ends => (Ending::Superseded, at),
        (None, Some((at, _)), _) => (Ending::Unproved, *at),
        (None, None, Some(at)) => (Ending::Superseded, at),
        (None, None, None) => (Ending::SamplesEnd, samples_end.or(last_words).unwrap_or(window_ends).min(window_ends)),
    }
}

fn why(course: &Course<'_>, decision: Decision, findings: &[FindingView], ending: Ending, watched: SignedDuration) -> String {
    let mut words = match (decision, course.verdict()) {
        (Decision::Refused, Some((_, verdict))) => {
            let refusal = course.refused.as_ref().map(|(_, refusal)| words::refusal(refusal)).unwrap_or_default();
            format!("{}; {refusal}", words::verdict(verdict))
        }
        (_, Some((_, verdict))) => words::verdict(verdict),
        (_, None) => without_verdict_words(findings),
    };
    let watched = watched.max(SignedDuration::ZERO);
    // Writing into a string can't fail.
    let _ = match ending {
        Ending::Decided | Ending::Passed => Ok(()),
        Ending::Unproved => {
            let lacks = course.extended.iter().flat_map(|(_, lacks)| lacks.iter()).filter(|lack| !is_said(lack, &words));
            let lacks: Vec<String> = lacks.map(words::lack).collect();
            let lacks = if lacks.is_empty() { String::new() } else { format!(" ({})", lacks.join("; ")) };
            write!(words, "; not proved when its window ended{lacks}: the daemon would have watched on")
        }
        Ending::Superseded => write!(words, "; another deployment came after {}", words::duration(watched)),
        Ending::SamplesEnd if watched.is_zero() => write!(words, "; there are no samples of the time after it"),
        Ending::SamplesEnd => write!(words, "; the samples end after {}", words::duration(watched)),
    };
    words
}

/// What the checks said, the most telling first: suspects, what can't be told, and one that is well.
fn without_verdict_words(views: &[FindingView]) -> String {
    let findings = || views.iter().map(|view| &view.finding);
    let named = |finding: &Finding| format!("{}: {}", finding.signal, words::finding(finding));
    // Several checks of one signal say different things of the same failures.
    let checked = |view: &FindingView| {
        let said = others_suffer(view).unwrap_or_else(|| words::finding(&view.finding));
        format!("{}: {said}", words::check(&view.finding))
    };
    let suspects = views.iter().filter(|view| words::is_suspect(&view.finding)).map(checked);
    let unclear = findings().filter(|finding| matches!(finding.state, FindingState::Inconclusive(_)));
    let well = strictest(findings().filter(|finding| finding.state == FindingState::Passing && !words::is_suspect(finding)));
    let mut said: Vec<String> = Vec::new();
    for one in suspects.chain(well.chain(unclear).map(named)) {
        if !said.contains(&one) {
            said.push(one);
        }
    }
    if said.is_empty() { "nothing was looked at".to_owned() } else { said.join("; ") }
}

/// Whether a sentence says already what lacks.
fn is_said(lack: &Lack, words: &str) -> bool {
    matches!(lack, Lack::Missing(_, missing) if words.contains(&missing.to_string()))
}

/// What is said of a check by which others suffer as well; none where they don't.
#[must_use]
pub fn others_suffer(view: &FindingView) -> Option<String> {
    let judged = view.judged.as_ref().filter(|judged| matches!(judged.outlook, Outlook::WorseThanOthers { .. }))?;
    let level = view.finding.numbers.as_ref().map(words::level)?;
    Some(format!("{level}; {}", judged.changes))
}

/// Of each signal the check that tolerates least: what passes that passes all.
fn strictest<'a>(findings: impl Iterator<Item = &'a Finding>) -> impl Iterator<Item = &'a Finding> {
    let mut strictest: Vec<&Finding> = Vec::new();
    for finding in findings {
        let tolerance = |finding: &Finding| finding.numbers.as_ref().map_or(f64::INFINITY, |numbers| numbers.tolerance);
        match strictest.iter_mut().find(|known| known.signal == finding.signal) {
            Some(known) if tolerance(finding) < tolerance(known) => *known = finding,
            Some(_) => {}
            None => strictest.push(finding),
        }
    }
    strictest.into_iter()
}

/// What differs between two runs over the same deployments.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The service.
    pub service: ServiceName,
    /// The deployment's start.
    pub started: Timestamp,
    /// What the first configuration makes of it.
    pub decision: Decision,
    /// When.
    pub decided: Option<Timestamp>,
    /// What the other one makes of it; none where it doesn't guard the service.
    pub other_decision: Option<Decision>,
    /// When.
    pub other_decided: Option<Timestamp>,
}

/// Where two runs come to another decision, or to the same one at another time.
#[must_use]
pub fn differences(ours: &[Judgement], others: &[Judgement]) -> Vec<Difference> {
    let of = |judgement: &Judgement| (judgement.service.clone(), judgement.started);
    let others: BTreeMap<_, &Judgement> = others.iter().map(|other| (of(other), other)).collect();
    let difference = |judgement: &Judgement| {
        let other = others.get(&of(judgement));
        let differs = other.is_none_or(|other| (other.decision, other.decided) != (judgement.decision, judgement.decided));
        differs.then(|| Difference {
            service: judgement.service.clone(),
            started: judgement.started,
            decision: judgement.decision,
            decided: judgement.decided,
            other_decision: other.map(|other| other.decision),
            other_decided: other.and_then(|other| other.decided),
        })
    };
    ours.iter().filter_map(difference).collect()
}
