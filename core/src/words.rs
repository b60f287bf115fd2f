//! Reasons and numbers in words: the one place where data becomes a phrase, for notices, `explain` and logs alike. A phrase has no full
//! stop and begins in lower case unless it begins with a name.

use jiff::{SignedDuration, SignedDurationRound, Timestamp, Unit};

use crate::baseline::Baseline;
use crate::declaration::{Answered, Question, alert_of};
use crate::entry::{Actor, Mark, MarkReason};
use crate::evidence::Lack;
use crate::guard::Refusal;
use crate::lifecycle::{Rollback, Status};
use crate::observation::Trouble;
use crate::plan::{Cause, Obstacle, Outcome, Phase, Void};
use crate::service::SignalName;
use crate::severity::{Choice, Response};
use crate::verdict::{Failure, Finding, FindingState, Gate, Inconclusive, Measure, Numbers, Verdict};
use crate::version::ChangeKind;

mod evidence;

pub use self::evidence::{
    certainty, check, class, evidence, gate, held_back, lacks, nearly, outlook, overdue, suspicion, unkept, warning, weight,
};

/// `62 %`, `0.61 %`: two digits that mean something, and a third where it ends with that: `1.25 %`, which is a setting and no measurement.
#[must_use]
pub fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    let digits = if percent >= 10.0 || percent == 0.0 {
        0
    } else if percent >= 1.0 {
        1
    } else {
        2
    };
    let ends = |digits: i32| (percent * 10.0_f64.powi(digits) - (percent * 10.0_f64.powi(digits)).round()).abs() < 1e-6;
    let ends_with_the_third = percent < 100.0 && !ends(digits) && ends(digits + 1);
    let digits = usize::try_from(digits + i32::from(ends_with_the_third)).unwrap_or(0);
    format!("{percent:.digits$} %")
}

/// `412 ms`, `1.3 s`, `0.85 ms`: a mean duration that is given in seconds, two digits that mean something.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    let (value, unit) = if seconds < 1.0 { (seconds * 1_000.0, "ms") } else { (seconds, "s") };
    let digits = if value >= 10.0 || value == 0.0 {
        0
    } else if value >= 1.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

/// A level of a check, in what it is measured in.
#[must_use]
pub fn measured(level: f64, measure: Measure) -> String {
    match measure {
        Measure::Share => percent(level),
        Measure::Seconds => seconds(level),
    }
}

/// `2m 5s`: to the second, or to the millisecond below ten seconds.
#[must_use]
pub fn duration(duration: SignedDuration) -> String {
    // The smallest duration has no opposite, which no arithmetic bears.
    let duration = duration.max(SignedDuration::MIN.saturating_add(SignedDuration::from_secs(1)));
    let unit = if duration.abs() < SignedDuration::from_secs(10) { Unit::Millisecond } else { Unit::Second };
    let rounded = duration.round(SignedDurationRound::new().smallest(unit)).unwrap_or(duration);
    format!("{rounded:#}")
}

/// A phrase as a sentence. One that begins with a name keeps its letters.
#[must_use]
pub fn sentence(phrase: &str) -> String {
    let first_word = phrase.split(' ').next().unwrap_or_default();
    let is_a_word = first_word.chars().all(|letter| letter.is_alphabetic() || letter == '\'' || letter == ',');
    let mut letters = phrase.chars();
    match letters.next() {
        Some(first) if is_a_word => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        _ => format!("{phrase}."),
    }
}

/// `2026-11-21 03:04:05 UTC`.
#[must_use]
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The odds against "nothing changed": `1 in 10^23`, `1 in 340`.
#[must_use]
pub fn odds(log_evidence: f64) -> String {
    let decades = log_evidence / std::f64::consts::LN_10;
    if decades >= 5.0 {
        format!("1 in 10^{decades:.0}")
    } else if log_evidence > 0.0 {
        format!("1 in {:.0}", log_evidence.exp().max(1.0))
    } else {
        "none yet".to_owned()
    }
}

/// ` on /cart`, of a check on one route.
fn on_route(numbers: &Numbers) -> String {
    numbers.route.as_ref().map_or_else(String::new, |route| format!(" on {route}"))
}

/// What a check says, with its numbers.
#[must_use]
pub fn finding(finding: &Finding) -> String {
    match (&finding.state, &finding.numbers) {
        (FindingState::Failing(Failure::Answered { about, value, since }), _) => answered_query(&finding.signal.0, about, *value, *since),
        (FindingState::Failing(reason), numbers) => failure(reason, numbers.as_ref()),
        (FindingState::Inconclusive(why), _) => inconclusive(why),
        (FindingState::Passing, Some(numbers)) if is_above(numbers) => {
            let waits_for = numbers.waits_for.map(|gate| format!("; {}", waits_for(gate, numbers)));
            format!("{}{}", level(numbers), waits_for.unwrap_or_default())
        }
        (FindingState::Passing, Some(Numbers { measure: Measure::Seconds, now, tolerance, .. })) => match now {
            Some(now) => format!("mean {}, tolerated up to {}", seconds(*now), seconds(*tolerance)),
            None => "no requests".to_owned(),
        },
        (FindingState::Passing, Some(numbers @ Numbers { now: Some(now), tolerance, .. })) => {
            format!("{} failing{}, tolerated up to {}", percent(*now), on_route(numbers), percent(*tolerance))
        }
        (FindingState::Passing, Some(_)) => "nothing failing".to_owned(),
        (FindingState::Passing, None) => "well".to_owned(),
    }
}

/// How a check stands, in a word. One that passes is suspect as long as more fails than is tolerated: what speaks against the deployment
/// has not passed every gate yet.
#[must_use]
pub fn standing(finding: &Finding) -> &'static str {
    match &finding.state {
        FindingState::Failing(_) => "failing",
        FindingState::Inconclusive(_) => "inconclusive",
        FindingState::Passing if is_suspect(finding) => "suspect",
        FindingState::Passing => "passing",
    }
}

/// Whether a check passes although more fails than is tolerated.
#[must_use]
pub fn is_suspect(finding: &Finding) -> bool {
    finding.state == FindingState::Passing && finding.numbers.as_ref().is_some_and(is_above)
}

fn is_above(numbers: &Numbers) -> bool {
    numbers.now.is_some_and(|now| now > numbers.tolerance)
}

/// The level now against the level before.
#[must_use]
pub fn level(numbers: &Numbers) -> String {
    let level = |level| measured(level, numbers.measure);
    let now = numbers.now.map_or_else(|| "unknown".to_owned(), level);
    let since = numbers.onset.map_or_else(String::new, |onset| format!(" since {}", onset.strftime("%H:%M:%S UTC")));
    let (now, before) = match numbers.measure {
        Measure::Share => (format!("{now} failing{}", on_route(numbers)), "at most "),
        Measure::Seconds => (format!("mean {now}{}", on_route(numbers)), ""),
    };
    format!(
        "{now}{since}, before {before}{}, tolerated up to {}; odds if nothing had changed: {}",
        level(numbers.before),
        level(numbers.tolerance),
        odds(numbers.log_evidence)
    )
}

/// What stands between the evidence and action.
#[must_use]
pub fn waits_for(gate: Gate, numbers: &Numbers) -> String {
    match gate {
        Gate::Evidence if numbers.log_threshold <= 0.0 => "waits for evidence of its own".to_owned(),
        Gate::Evidence => format!("waits until the odds are {}", odds(numbers.log_threshold)),
        Gate::Persistence => {
            let enough = numbers.severity.max(numbers.tolerance);
            let level = match numbers.now {
                Some(now) if now < enough => format!(" at {} or more", measured(enough, numbers.measure)),
                _ => String::new(),
            };
            format!("waits until it has persisted{level} for {}", duration(numbers.hold))
        }
        Gate::Severity => {
            let is_share = numbers.measure == Measure::Share && numbers.count > 0.0;
            let since = if is_share { format!(" ({})", percent(numbers.failed / numbers.count)) } else { String::new() };
            format!("not bad enough over all the time since it began{since}: {} would be", measured(numbers.severity, numbers.measure))
        }
        Gate::Attribution => match numbers.ambient {
            Some(granted) if granted < 1.0 && numbers.measure == Measure::Share => {
                format!("others suffer too, so up to {} is not held against it", percent(granted))
            }
            Some(_) => "others suffer too, so it is not held against it".to_owned(),
            None => "it began before the deployment".to_owned(),
        },
        Gate::Hold => format!("waits until {} have been watched", duration(numbers.hold)),
        Gate::Load => "there are more than three times as many requests as ever before, which alone may make it slow".to_owned(),
    }
}

/// Why a check fails.
#[must_use]
pub fn failure(failure: &Failure, numbers: Option<&Numbers>) -> String {
    match failure {
        Failure::Evidence => numbers.map_or_else(|| "failing".to_owned(), level),
        Failure::CrashLoop(what) | Failure::CannotStart(what) => trouble(what),
        Failure::NeverReady { after } => format!("no replica became ready within {}", duration(*after)),
        Failure::NoReplica { since } => format!("no replica has been available for {}", duration(*since)),
        Failure::ProgressDeadline(words) => format!("the platform gave up the rollout: {words}"),
        Failure::Answered { about, value, since } => answered_query("the query", about, *value, *since),
        Failure::Declared { by, reason } => format!("declared by {by}: {reason}"),
    }
}

/// `impact.wrong_totals{shop="7"} is 24.6, for 2m`: an answer without labels is that of the query.
fn answered_query(query: &str, about: &str, value: f64, since: SignedDuration) -> String {
    let lasting = if since.is_zero() { String::new() } else { format!(", for {}", duration(since)) };
    let labels = match about.strip_prefix("{}").unwrap_or(about) {
        name if name == query => String::new(),
        labels if labels.is_empty() || labels.starts_with(['{', ' ']) => labels.to_owned(),
        series => format!(" ({series})"),
    };
    format!("{query}{labels} is {}{lasting}", number(value))
}

/// A measurement in three digits that mean something: `24.6`, `0.00123`, `1235`. What is whole is said whole.
#[must_use]
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value.fract() == 0.0 && magnitude < 1e15 {
        return format!("{}", if value == 0.0 { 0.0 } else { value });
    }
    if !(1e-4..1e15).contains(&magnitude) {
        return format!("{value:.2e}");
    }
    let mut digits = 0;
    let mut next = 100.0;
    while magnitude < next && digits < 6 {
        digits += 1;
        next /= 10.0;
    }
    let rounded = format!("{value:.digits$}");
    if rounded.contains('.') { rounded.trim_end_matches('0').trim_end_matches('.').to_owned() } else { rounded }
}

/// What the platform says is wrong.
#[must_use]
pub fn trouble(trouble: &Trouble) -> String {
    match trouble {
        Trouble::CrashLoop { replicas, restarts, reason } => {
            format!("crash loop: {replicas} replicas end again and again (up to {restarts} restarts, {reason}), none is ready")
        }
        Trouble::ImagePull { image, message } => format!("the image {image} can't be pulled: {message}"),
        Trouble::NotAdmitted { message } => format!("the platform doesn't admit the replicas: {message}"),
        Trouble::Unschedulable { message } => format!("replicas find no place to run: {message}"),
    }
}

/// Why nothing can be said.
#[must_use]
pub fn inconclusive(why: &Inconclusive) -> String {
    match why {
        Inconclusive::Missing(missing) => format!("nothing can be said: {missing}"),
        Inconclusive::WarmingUp { until } => format!("warming up until {}", until.strftime("%H:%M:%S UTC")),
        Inconclusive::NoTraffic => "no traffic, so nothing can be said".to_owned(),
        Inconclusive::NoBaseline => "too little is known of the time before the deployment to call anything worse".to_owned(),
        Inconclusive::NotTestable { tolerance } => {
            format!("it was so bad before the deployment (up to {} must be taken for granted) that this can't be told", percent(*tolerance))
        }
        Inconclusive::NotLooked => "not looked yet".to_owned(),
        Inconclusive::BeganBefore { since } => format!("it began before this deployment, at {}, so it is not its doing", time(*since)),
    }
}

/// What lacks for a proof.
#[must_use]
pub fn lack(lack: &Lack) -> String {
    match lack {
        Lack::Missing(signal, missing) => format!("{signal}: {missing}"),
        Lack::Evidence { signal, count, log_evidence, .. } if *log_evidence < 0.0 => {
            let fail = if signal.0 == "latency" { "are slow" } else { "fail" };
            format!("{signal}: too many of {} {fail}", counted(signal, *count))
        }
        Lack::Evidence { signal, count, log_evidence, .. } if *log_evidence <= 0.0 => {
            format!("{signal}: {} {} too few to tell", counted(signal, *count), if is_one(*count) { "is" } else { "are" })
        }
        Lack::Evidence { signal, count, log_evidence, log_threshold } => {
            let counted = counted(signal, *count);
            let prove = if is_one(*count) { "proves" } else { "prove" };
            format!("{signal}: {counted} {prove} too little (odds {}, needed {})", odds(*log_evidence), odds(*log_threshold))
        }
        Lack::Suspect(signal) => match alert_of(signal) {
            Some(alert) => format!("alert {alert} still fires"),
            None if signal.0 == "declared" => "somebody says that something is wrong".to_owned(),
            None => format!("{signal} is not well"),
        },
        Lack::Rollout => "the rollout is not complete, or not yet for long enough".to_owned(),
    }
}

/// What a signal counts.
fn counted(signal: &SignalName, count: f64) -> String {
    let what = if signal.0.starts_with("probe.") { "round" } else { "request" };
    let plural = if is_one(count) { "" } else { "s" };
    format!("{count:.0} {what}{plural}")
}

/// Whether it is said as one.
fn is_one(count: f64) -> bool {
    format!("{count:.0}") == "1"
}

/// What the judge found.
#[must_use]
pub fn verdict(verdict: &Verdict) -> String {
    let decisive = verdict.decisive();
    if let Some(FindingState::Failing(declared @ Failure::Declared { .. })) = decisive.map(|decisive| &decisive.state) {
        return format!("{} {}, {}", verdict.severity, verdict.impact, failure(declared, None));
    }
    let reason = decisive.map_or_else(|| verdict.impact.to_string(), finding);
    format!("{} {}, seen by {}: {reason}", verdict.severity, verdict.impact, verdict.signal)
}

/// Who says that the impact is there, where it was not seen but declared.
#[must_use]
pub fn declared_by(verdict: &Verdict) -> Option<&str> {
    match &verdict.decisive()?.state {
        FindingState::Failing(Failure::Declared { by, .. }) => Some(by),
        FindingState::Passing | FindingState::Failing(_) | FindingState::Inconclusive(_) => None,
    }
}

/// Whom a person has to ask whether it is over, as no signal sees it.
#[must_use]
pub fn word_of_a_person(cause: &Cause) -> Option<(&Verdict, &str)> {
    let Cause::Verdict(verdict) = cause else { return None };
    declared_by(verdict).filter(|_| alert_of(&verdict.signal).is_none()).map(|by| (verdict, by))
}

/// What is waited for, and what comes after.
#[must_use]
pub fn question(question: &Question) -> String {
    let otherwise = match question.otherwise {
        Choice::Keep => "it stays",
        Choice::RollBack => "it is rolled back if it is still so",
    };
    format!("an answer is waited for until {}, then {otherwise}", time(question.until))
}

/// What was answered.
#[must_use]
pub fn answered(answered: &Answered) -> String {
    let choice = choice(answered.choice);
    match answered.by {
        Actor::Daemon => format!("{}, so {choice}", answered.reason),
        Actor::Operator(_) | Actor::Alert(_) => format!("{} says that {choice}: {}", answered.by, answered.reason),
    }
}

/// An answer.
#[must_use]
pub const fn choice(choice: Choice) -> &'static str {
    match choice {
        Choice::Keep => "it stays",
        Choice::RollBack => "it goes back",
    }
}

/// What the matrix answers.
#[must_use]
pub const fn response(response: Response) -> &'static str {
    match response {
        Response::RollBack => "roll back",
        Response::Ask => "ask an operator",
        Response::Notify => "notify only",
    }
}

/// Why not.
#[must_use]
pub fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NoKnownGood => {
            "there is no other version that is known good: none has passed its window here, and none is marked good".to_owned()
        }
        Refusal::UnknownVersion { asked } => format!("{asked:?} was never seen at this service"),
        Refusal::TargetIsRunning { target } => format!("{target} is what runs already"),
        Refusal::TargetKnownBad { target } => format!("{target} is known to be bad"),
        Refusal::TargetGone { target } => format!("neither the platform nor the ledger has {target} any more"),
        Refusal::RollbackInProgress { plan } => format!("rollback {plan} of this service is under way"),
        Refusal::AlreadyRolledBack { deployment } => {
            format!("one rollback of deployment {deployment} was tried already, and there is only one by itself")
        }
        Refusal::Rejected { words } => format!(
            "the platform refused it and nothing was changed: {words}; it is tried again when the workload is changed, and now and then until the window ends"
        ),
        Refusal::IsRollback { of } => {
            format!("what runs was gone back to (from deployment {of}), and a rollback is never rolled back by itself")
        }
        Refusal::Migration { change: kind } => format!("the deployment carries {}, which code can't go back over", change(*kind)),
        Refusal::LittleHistory { signal, known } => format!(
            "only {} of {signal} is known from before, and what is broken may always be at this hour; with a day of it, it would have been rolled back",
            duration(*known)
        ),
        Refusal::Held { by, reason } => format!("{by} paused automatic rollbacks: {reason}"),
        Refusal::RateLimited { count, limit, of, until } => {
            format!("there were {count} automatic rollbacks {of} already (limit {limit}); the next one is allowed at {}", time(*until))
        }
        Refusal::FleetBrake { services } => {
            let names: Vec<_> = services.iter().map(ToString::to_string).collect();
            format!("{} services went bad together ({}), so one deployment is probably not the cause", services.len(), names.join(", "))
        }
        Refusal::DryRun { target } => format!("dry run: it would have gone back to {target}"),
        Refusal::OutOfSight => "the workload can't be seen just now, so nothing can be bound to it".to_owned(),
        Refusal::Contested { times } => format!("{times} plans lost their ground: somebody else changes the workload again and again"),
    }
}

/// What a deployment carries.
#[must_use]
pub const fn change(change: ChangeKind) -> &'static str {
    match change {
        ChangeKind::Code => "code only",
        ChangeKind::Configuration => "configuration",
        ChangeKind::ReversibleMigration => "a reversible migration",
        ChangeKind::IrreversibleMigration => "an irreversible migration",
        ChangeKind::FailedMigration => "a failed migration",
    }
}

/// How a rollback ended so far, as a person would say it.
#[must_use]
pub fn ending(rollback: &Rollback) -> Option<String> {
    let (ended, outcome) = rollback.outcome.as_ref()?;
    let to = &rollback.plan.to;
    let again = match rollback.plan.cause {
        Cause::Verdict(_) => "it is decided again on what is seen then",
        Cause::Operator { .. } => "ask again if it is still wanted",
    };
    Some(match (outcome, rollback.recovered) {
        (Outcome::Recovered, _) if matches!(rollback.plan.cause, Cause::Operator { .. }) => {
            format!("{to} is rolled out, and the service is well")
        }
        (Outcome::Recovered, _) => match word_of_a_person(&rollback.plan.cause) {
            Some((verdict, by)) => format!(
                "{to} is rolled out, and what is watched is well; but {} was declared by {by}, and nothing here sees it: a person has to look whether it is over",
                verdict.impact
            ),
            None => format!("going back to {to} helped: it is rolled out, and what had failed is well again"),
        },
        (Outcome::DidNotHelp { lacks }, Some(recovered)) => format!(
            "going back to {to} seemed to help, but {} later it came back ({})",
            duration(ended.duration_since(recovered)),
            lacking(lacks)
        ),
        (Outcome::DidNotHelp { lacks }, None) => format!("{to} is rolled out, but that did not help ({})", lacking(lacks)),
        (Outcome::Unproven { lacks }, _) => {
            format!("{to} runs again, but too little is seen to say whether that helped ({})", lacking(lacks))
        }
        (Outcome::Interrupted { by }, _) => {
            format!("somebody deployed {by} before going back to {to} was proved to help; that was left alone")
        }
        (Outcome::Failed(Obstacle::Rejected(words)), _) => {
            format!("the platform refused to go back to {to}, and nothing was changed: {words}")
        }
        (Outcome::Failed(Obstacle::TargetGone), _) => {
            format!("neither the platform nor the ledger has {to} any more, and nothing was changed")
        }
        (Outcome::Failed(Obstacle::NotRolledOut(words)), _) => format!("{to} was asked for, but it was not rolled out: {words}"),
        (Outcome::Void(Void::Moved), _) => {
            format!("somebody (a person, an autoscaler, another program) changed the workload meanwhile, so nothing was done; {again}")
        }
        (Outcome::Void(Void::Superseded { by }), _) => format!("somebody deployed {by} meanwhile, so nothing was done; that is left alone"),
        (Outcome::Void(Void::Expired), _) => format!("it could not be started in time, so nothing was done; {again}"),
        (Outcome::Void(Void::Gone), _) => "the workload does not exist any more, so nothing was done".to_owned(),
    })
}

fn lacking(lacks: &[Lack]) -> String {
    lacks.iter().map(lack).collect::<Vec<_>>().join("; ")
}

/// How a rollback ended, in a phrase.
#[must_use]
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Recovered => "recovered".to_owned(),
        Outcome::DidNotHelp { lacks } => format!("did not help ({})", lacking(lacks)),
        Outcome::Unproven { lacks } => format!("carried out, but not proved ({})", lacking(lacks)),
        Outcome::Interrupted { by } => format!("interrupted: somebody deployed {by}"),
        Outcome::Failed(Obstacle::Rejected(words)) => format!("failed: the platform refused it: {words}"),
        Outcome::Failed(Obstacle::TargetGone) => "failed: neither the platform nor the ledger has the target any more".to_owned(),
        Outcome::Failed(Obstacle::NotRolledOut(words)) => format!("failed: the target was not rolled out: {words}"),
        Outcome::Void(Void::Moved) => "void: somebody changed the workload meanwhile; nothing was changed".to_owned(),
        Outcome::Void(Void::Superseded { by }) => format!("void: somebody deployed {by} meanwhile; nothing was changed"),
        Outcome::Void(Void::Expired) => "void: it could not be started in time; nothing was changed".to_owned(),
        Outcome::Void(Void::Gone) => "void: the workload is gone".to_owned(),
    }
}

/// How far a rollback is.
#[must_use]
pub const fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Planned => "planned",
        Phase::Applied { .. } => "rolling out",
        Phase::Verifying { .. } => "verifying",
        Phase::Recovered { .. } => "recovered, watching on",
        Phase::Ended => "ended",
    }
}

/// Why a rollback was planned.
#[must_use]
pub fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Verdict(reached) => verdict(reached),
        Cause::Operator { by, reason } => format!("asked for by {by}: {reason}"),
    }
}

/// Where a deployment stands.
#[must_use]
pub const fn status(status: Status) -> &'static str {
    match status {
        Status::Deploying => "deploying",
        Status::Watching => "watching",
        Status::Deployed => "deployed",
        Status::RolledBack => "rolled_back",
        Status::Superseded => "superseded",
        Status::Failed => "failed",
    }
}

/// A mark.
#[must_use]
pub const fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "good",
        Mark::Bad => "bad",
        Mark::Unknown => "unknown",
    }
}

/// Why a version has its mark.
#[must_use]
pub fn mark_reason(reason: &MarkReason) -> String {
    match reason {
        MarkReason::PassedWindow(deployment) => format!("passed its window as deployment {deployment}"),
        MarkReason::RolledBack(plan) => format!("rolled back by plan {plan}"),
        MarkReason::NotToBlame(plan) => format!("going back from it (plan {plan}) did not help"),
        MarkReason::FoundOnObject => "the workload itself says that it was rolled back earlier".to_owned(),
        MarkReason::Operator(words) => words.clone(),
    }
}

/// How it was before.
#[must_use]
pub fn baseline(baseline: &Baseline) -> String {
    match baseline {
        Baseline::Errors(errors) if errors.intervals == 0 => "no request seen, so nothing can be called worse".to_owned(),
        Baseline::Probe(probe) if probe.rounds == 0 => "not probed".to_owned(),
        Baseline::Errors(errors) => format!(
            "{:.0} of {:.0} requests failed in {}, so at most {}{}",
            // The sum of nothing is -0.
            errors.failed.abs(),
            errors.requests.abs(),
            duration(errors.span.every.saturating_mul(i32::try_from(errors.intervals).unwrap_or(i32::MAX))),
            percent(errors.upper),
            if errors.knows_a_day { "" } else { "; less than a day is known, so a decision takes longer" }
        ),
        Baseline::Latency(latency) if latency.intervals == 0 => "no request seen".to_owned(),
        Baseline::Latency(latency) => format!(
            "{:.0} requests; compared with a mean of {}, theirs or that of a slower stretch of them; slow for at most {} in one piece",
            latency.requests.abs(),
            seconds(latency.mean),
            duration(latency.span.every.saturating_mul(i32::try_from(latency.bad.lasted.longest).unwrap_or(i32::MAX)))
        ),
        Baseline::Query(query) => format!("had an answer at {} of {} looks", query.answered, query.looks),
        Baseline::Probe(probe) => format!(
            "all targets failed in {} of {} round{} in {}",
            probe.all_failed,
            probe.rounds,
            if probe.rounds == 1 { "" } else { "s" },
            duration(probe.span.every.saturating_mul(i32::try_from(probe.rounds).unwrap_or(i32::MAX)))
        ),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::severity::Impact;

    /// Numbers of a check that waits for evidence.
    pub(crate) fn numbers(log_evidence: f64, log_threshold: f64) -> Numbers {
        let errors = errors(0.6, log_evidence, Some(Gate::Evidence)).numbers.expect("numbers");
        Numbers { log_threshold, ..errors }
    }

    fn errors(now: f64, log_evidence: f64, waits_for: Option<Gate>) -> Finding {
        let numbers = Numbers {
            before: 0.01,
            tolerance: 0.05,
            severity: 0.5,
            now: Some(now),
            count: 100.0,
            failed: 100.0 * now,
            onset: None,
            log_evidence,
            log_threshold: 9.2,
            hold: SignedDuration::from_mins(2),
            waits_for,
            measure: Measure::Share,
            route: None,
            expected_delay: None,
            ambient: None,
        };
        let state = if waits_for.is_some() { FindingState::Passing } else { FindingState::Failing(Failure::Evidence) };
        Finding { signal: SignalName("errors".to_owned()), impact: Impact::ErrorRatio, state, numbers: Some(numbers) }
    }

    #[test]
    fn a_check_is_called_passing_only_where_no_more_fails_than_is_tolerated() {
        for (now, log_evidence, waits_for, expected) in [
            (0.0, 0.0, Some(Gate::Evidence), "passing"),
            (0.04, 2.0, Some(Gate::Evidence), "passing"),
            (0.04, 20.0, Some(Gate::Persistence), "passing"),
            (0.06, 0.1, Some(Gate::Evidence), "suspect"),
            (1.0, 2.0, Some(Gate::Evidence), "suspect"),
            (1.0, 50.0, Some(Gate::Persistence), "suspect"),
            (1.0, 50.0, None, "failing"),
        ] {
            assert_eq!(standing(&errors(now, log_evidence, waits_for)), expected, "{now} {log_evidence} {waits_for:?}");
        }
    }

    #[test]
    fn what_a_check_waits_for_is_said_only_where_something_speaks_against_the_deployment() {
        assert_eq!(finding(&errors(0.0, 0.0, Some(Gate::Evidence))), "0 % failing, tolerated up to 5.0 %");
        let suspect = finding(&errors(1.0, 50.0, Some(Gate::Persistence)));
        assert!(suspect.starts_with("100 % failing, ") && suspect.ends_with("; waits until it has persisted for 2m"), "{suspect}");
    }

    #[test]
    fn a_setting_is_said_whole_and_a_measurement_in_two_digits() {
        for (ratio, expected) in [
            (0.0, "0 %"),
            (0.000_04, "0.004 %"),
            (0.006_139_97, "0.61 %"),
            (0.0125, "1.25 %"),
            (0.012_28, "1.2 %"),
            (0.05, "5.0 %"),
            (0.125, "12.5 %"),
            (0.124, "12.4 %"),
            (0.1243, "12 %"),
            (0.5, "50 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(ratio), expected);
        }
    }

    #[test]
    fn an_answer_is_told_with_its_query_and_in_digits_that_mean_something() {
        let told = |about: &str, value, seconds| {
            let since = SignedDuration::from_secs(seconds);
            let state = FindingState::Failing(Failure::Answered { about: about.to_owned(), value, since });
            let signal = SignalName("impact.wrong_totals".to_owned());
            finding(&Finding { signal, impact: Impact::DataCorruption, state, numbers: None })
        };
        assert_eq!(told("{}", 24.602_999_999_999_998, 0), "impact.wrong_totals is 24.6");
        assert_eq!(told("{shop=\"7\"}", 3.0, 120), "impact.wrong_totals{shop=\"7\"} is 3, for 2m");
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1_234_567.0, "1234567"),
            (1_234.567, "1235"),
            (99.96, "100"),
            (0.123_456, "0.123"),
            (0.001_234_5, "0.00123"),
            (-2.345_6, "-2.35"),
            (1.5, "1.5"),
            (1e-9, "1.00e-9"),
            (1e20, "1.00e20"),
        ] {
            assert_eq!(number(value), expected, "{value}");
        }
    }

    #[test]
    fn too_little_before_is_not_called_nothing() {
        let words = inconclusive(&Inconclusive::NoBaseline);
        assert!(words.starts_with("too little is known of the time before"), "{words}");
    }
}
