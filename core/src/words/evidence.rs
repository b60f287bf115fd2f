//! The evidence of a check in words: how sure it is, what it waits for, what would change what it says.

use jiff::{SignedDuration, Timestamp};

use super::{duration, measured, odds, percent};
use crate::certainty::Certainty;
use crate::outlook::{Ahead, Outlook};
use crate::promise::{Overdue, Unkept};
use crate::service::SignalName;
use crate::severity::{Impact, Response, Row};
use crate::verdict::{Finding, Gate, Inconclusive, Measure, Numbers};
use crate::warning::Warning;

/// How sure it is, in a word or two.
#[must_use]
pub const fn certainty(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::Nothing => "nothing speaks against it",
        Certainty::CouldBeChance => "could be chance",
        Certainty::Suspicious => "suspicious",
        Certainty::VeryLikely => "very likely",
        Certainty::Certain => "certain",
    }
}

/// The name of a check, short and the same for ever: `errors: error ratio`, `errors /cart: feature`.
#[must_use]
pub fn check(finding: &Finding) -> String {
    let of = match finding.impact {
        Impact::CompleteOutage => "outage",
        Impact::DataCorruption => "data corruption",
        Impact::SecurityBreach => "security breach",
        Impact::ErrorRatio => "error ratio",
        Impact::Performance => "slowness",
        Impact::FeatureBroken => "feature",
        Impact::MinorFault => "minor fault",
    };
    let route = finding.numbers.as_ref().and_then(|numbers| numbers.route.as_ref());
    route.map_or_else(|| format!("{}: {of}", finding.signal), |route| format!("{} {route}: {of}", finding.signal))
}

/// What the matrix makes of an impact: `P1, roll back within 15m`.
#[must_use]
pub fn class(row: &Row) -> String {
    let within = match row.within {
        Some(within) if within.is_zero() => " at once".to_owned(),
        Some(within) => format!(" within {}", duration(within)),
        None => String::new(),
    };
    format!("{}, {}{within}", row.severity, super::response(row.response))
}

/// A gate in a word, as `docs/how-it-decides.md` explains it.
#[must_use]
pub const fn gate(gate: Gate) -> &'static str {
    match gate {
        Gate::Evidence => "evidence",
        Gate::Persistence => "persistence",
        Gate::Severity => "severity",
        Gate::Hold => "hold",
        Gate::Attribution => "attribution",
        Gate::Load => "load",
    }
}

/// What a check that can't say anything lacks, in a word or two.
#[must_use]
pub fn lacks(why: &Inconclusive) -> String {
    match why {
        Inconclusive::Missing(_) => "its source".to_owned(),
        Inconclusive::WarmingUp { until } => clock(*until),
        Inconclusive::NoTraffic => "traffic".to_owned(),
        Inconclusive::NoBaseline => "history".to_owned(),
        Inconclusive::NotTestable { .. } | Inconclusive::BeganBefore { .. } => "-".to_owned(),
        Inconclusive::NotLooked => "first look".to_owned(),
    }
}

/// The numbers of a check in a line, in the order in which they are weighed (DECISION 2.10). `is_compared`: whether there are others to
/// compare with.
#[must_use]
pub fn evidence(numbers: &Numbers, is_compared: bool) -> String {
    let level = |level| measured(level, numbers.measure);
    let before = match numbers.measure {
        Measure::Share => format!("before at most {}", level(numbers.before)),
        Measure::Seconds => format!("mean before {}", level(numbers.before)),
    };
    let now = numbers.now.map_or_else(|| "unknown".to_owned(), level);
    let onset = numbers.onset.filter(|_| Certainty::of(numbers) != Certainty::Nothing);
    let since = onset.map_or_else(String::new, |onset| format!(" since {}", clock(onset)));
    let weight = weight(numbers, is_compared);
    format!("{before}, tolerated up to {}, now {now}{since}, {weight}", level(numbers.tolerance))
}

/// What the evidence of a check is worth, without its levels: how sure it is, how long it lasted, how others are.
#[must_use]
pub fn weight(numbers: &Numbers, is_compared: bool) -> String {
    let sure = Certainty::of(numbers);
    let is_above = numbers.now.is_some_and(|now| now > numbers.tolerance);
    let mut said = vec![match sure {
        Certainty::Nothing if numbers.ambient.is_some() && is_above => "no worse than what others suffer".to_owned(),
        Certainty::Nothing if is_above => certainty(Certainty::CouldBeChance).to_owned(),
        Certainty::Nothing => certainty(sure).to_owned(),
        Certainty::Certain => format!("{}, {} if nothing had changed", certainty(sure), odds(numbers.log_evidence)),
        _ => {
            let needed = odds(numbers.log_threshold);
            format!("{}, {} if nothing had changed (needed: {needed})", certainty(sure), odds(numbers.log_evidence))
        }
    }];
    // While the first gate is closed nobody asks for the others.
    let has_lasted = match numbers.waits_for {
        Some(Gate::Evidence) => None,
        Some(Gate::Persistence | Gate::Hold) => Some("not satisfied"),
        None | Some(Gate::Severity | Gate::Attribution | Gate::Load) => Some("satisfied"),
    };
    said.extend(has_lasted.map(|satisfied| format!("hold of {} {satisfied}", duration(numbers.hold))));
    said.push(match numbers.ambient {
        Some(granted) => format!("others suffer too (up to {} is granted)", percent(granted)),
        None if is_compared => "others are well".to_owned(),
        None => "no others to compare with".to_owned(),
    });
    said.extend(numbers.expected_delay.map(|delay| format!("expected delay at this traffic {}", about(delay))));
    said.join(", ")
}

/// A suspicion in a phrase: `waits for persistence: errors: feature at 6.0 % since 12:04:15 UTC, 1 in 340 if nothing had changed
/// (suspicious)`.
#[must_use]
pub fn suspicion(finding: &Finding) -> String {
    let Some(numbers) = &finding.numbers else { return check(finding) };
    let now = numbers.now.map_or_else(String::new, |now| format!(" at {}", measured(now, numbers.measure)));
    let sure = Certainty::of(numbers);
    if numbers.ambient.is_some_and(|granted| numbers.now.is_some_and(|now| now < granted)) {
        return format!("waits for {}: {}{now}, but others suffer too", gate(Gate::Attribution), check(finding));
    }
    let waits_for = numbers.waits_for.map_or_else(String::new, |waits_for| format!("waits for {}: ", gate(waits_for)));
    if sure == Certainty::Nothing {
        return format!("{waits_for}{}{now}, which {}", check(finding), certainty(Certainty::CouldBeChance));
    }
    let since = numbers.onset.map_or_else(String::new, |onset| format!(" since {}", clock(onset)));
    let odds = odds(numbers.log_evidence);
    format!("{waits_for}{}{now}{since}, {odds} if nothing had changed ({})", check(finding), certainty(sure))
}

/// A suspicion in a few words, for a table.
#[must_use]
pub fn nearly(finding: &Finding) -> String {
    let Some(numbers) = &finding.numbers else { return check(finding) };
    let now = numbers.now.map_or_else(String::new, |now| format!(" at {}", measured(now, numbers.measure)));
    let waits_for = numbers.waits_for.map_or_else(String::new, |waits_for| format!(", waits for {}", gate(waits_for)));
    format!("{}{now}{waits_for}", check(finding))
}

/// What would change what a check says, and what the matrix says is done then.
#[must_use]
pub fn outlook(outlook: &Outlook, finding: &Finding, row: &Row) -> String {
    let acts = format!("{} ({})", act(row.response), row.severity);
    match outlook {
        Outlook::Decided => format!("nothing more is needed; the matrix says: {}", class(row)),
        Outlook::Level(ahead) => level_ahead(ahead, finding, &acts),
        Outlook::WorseThanOthers { granted, others } => worse_than_others(*granted, others, finding, &acts),
        Outlook::Answer { lasting } if lasting.is_zero() => format!("{acts} as soon as the query has an answer"),
        Outlook::Answer { lasting } => format!("{acts} if the query has an answer for {}", duration(*lasting)),
        Outlook::Trouble { startup, ready } => format!(
            "{acts} if replicas can't start, crash again and again, or none is available, for {}, or if none is ready within {}",
            duration(*startup),
            duration(*ready)
        ),
        Outlook::Traffic => "only probes and the platform see a service that nobody asks".to_owned(),
        Outlook::Sight => "missing evidence is never a reason to act; it goes on when the source answers".to_owned(),
        Outlook::FirstLook => "it waits for the first look".to_owned(),
        Outlook::Begin { at } => format!("nothing is weighed before {}", clock(*at)),
        Outlook::History => "nothing during this deployment; the next one is compared with what is seen now".to_owned(),
        Outlook::Never { tolerance } if *tolerance >= 1.0 => "nothing would: it was so before the deployment already".to_owned(),
        Outlook::Never { tolerance } => format!("nothing would: too much failed before already (tolerance {})", percent(*tolerance)),
    }
}

fn level_ahead(ahead: &Ahead, finding: &Finding, acts: &str) -> String {
    let Some(numbers) = &finding.numbers else { return String::new() };
    let condition = condition(finding, numbers, ahead.level);
    let hold = duration(ahead.lasting);
    let mut said = vec![match (ahead.since_onset, ahead.left) {
        (Some(share), _) if share >= ahead.level => {
            format!("{acts} if {condition}, once there are enough of them to tell ({:.0} since it began)", numbers.count)
        }
        (Some(share), _) => {
            let since = numbers.onset.map_or_else(|| "it began".to_owned(), clock);
            format!("{acts} if {condition} over all the time since {since}; {} so far", percent(share))
        }
        (None, Some(_)) if numbers.waits_for == Some(Gate::Evidence) => {
            let needed = ahead.failures.map_or_else(
                || format!("until the odds are {}", odds(numbers.log_threshold)),
                |failures| {
                    let take = ahead.failures_take.map_or_else(String::new, |take| format!(", {} at this traffic", about(take)));
                    format!("for about {} more {}{take}", rounded(failures), counted(finding, numbers))
                },
            );
            format!("{acts} if it goes on {needed}; {} is enough", measured(ahead.level, numbers.measure))
        }
        (None, Some(_)) if numbers.waits_for == Some(Gate::Severity) => format!("{acts} if {condition} over all the time since it began"),
        (None, Some(_)) if numbers.waits_for == Some(Gate::Load) => {
            format!(
                "{acts} if {condition} when there is less to do again; three times the load of its busiest time may make any version slow"
            )
        }
        (None, Some(left)) if left.is_zero() => format!("{acts} if {condition} in every part of {hold}"),
        (None, Some(left)) => format!("{acts} if {condition} for {} more", duration(whole_seconds(left))),
        (None, None) => format!("{acts} if {condition} for {hold}"),
    }];
    said.extend(ahead.now.map(|now| level_now(now, numbers.measure)));
    let is_calm = numbers.now.is_none_or(|now| now <= numbers.tolerance);
    said.extend(numbers.expected_delay.filter(|_| is_calm).map(|delay| format!("found about {} after it begins", about(delay))));
    said.join("; ")
}

fn level_now(now: f64, measure: Measure) -> String {
    if measure == Measure::Share && now <= 0.0 { "none now".to_owned() } else { format!("{} now", measured(now, measure)) }
}

fn worse_than_others(granted: f64, others: &[SignalName], finding: &Finding, acts: &str) -> String {
    let names: Vec<_> = others.iter().map(ToString::to_string).collect();
    let others = if names.is_empty() { "others suffer too".to_owned() } else { format!("others suffer too ({})", names.join(" or ")) };
    match &finding.numbers {
        Some(numbers) if granted < 1.0 => {
            let now = numbers.now.map_or_else(String::new, |now| format!("; {}", level_now(now, numbers.measure)));
            let condition = condition(finding, numbers, granted.max(numbers.severity));
            format!("{others}, granted {}: {acts} only if {condition}{now}", percent(granted))
        }
        _ => format!("{others}, so much that nothing is held against this deployment until they are well again"),
    }
}

/// `at least 50 % of the requests to /cart fail`.
fn condition(finding: &Finding, numbers: &Numbers, level: f64) -> String {
    let level = measured(level, numbers.measure);
    let to = numbers.route.as_ref().map_or_else(String::new, |route| format!(" to {route}"));
    match (numbers.measure, is_probe(finding), finding.impact) {
        (Measure::Seconds, ..) => format!("requests{to} take at least {level} in the mean"),
        (Measure::Share, true, Impact::CompleteOutage) => format!("no target answers in at least {level} of the rounds"),
        (Measure::Share, true, _) => format!("at least {level} of the probes fail"),
        (Measure::Share, false, _) => format!("at least {level} of the requests{to} fail"),
    }
}

/// What counts against a deployment.
fn counted(finding: &Finding, numbers: &Numbers) -> &'static str {
    match (numbers.measure, is_probe(finding)) {
        (Measure::Seconds, _) => "slow requests",
        (Measure::Share, true) => "failing rounds",
        (Measure::Share, false) => "failing requests",
    }
}

fn is_probe(finding: &Finding) -> bool {
    finding.signal.0.starts_with("probe.")
}

const fn act(response: Response) -> &'static str {
    match response {
        Response::RollBack => "rolls back",
        Response::Ask => "asks an operator",
        Response::Notify => "tells you",
    }
}

/// Why a promise can't be kept, and what would help.
#[must_use]
pub fn unkept(unkept: &Unkept) -> String {
    let of = match (unkept.measure, unkept.impact) {
        (Measure::Seconds, _) => format!("a mean above {}", measured(unkept.level, unkept.measure)),
        (Measure::Share, impact) => format!("{} {}", article(impact), percent(unkept.level)),
    };
    let on = unkept.route.as_ref().map_or_else(String::new, |route| format!(" on {route}"));
    let probes: Vec<_> = unkept.probes.iter().map(ToString::to_string).collect();
    let advice = if probes.is_empty() { "add a probe".to_owned() } else { format!("only {} can tell earlier", probes.join(", ")) };
    let within = duration(unkept.within);
    match unkept.expected_delay {
        Some(delay) => {
            format!(
                "{}: at this traffic {of}{on} would be found after about {}, later than the {within} promised; {advice}",
                unkept.signal,
                about(delay)
            )
        }
        None => {
            format!("{}: without traffic {of}{on} can't be found, although that is promised within {within}; {advice}", unkept.signal)
        }
    }
}

const fn article(impact: Impact) -> &'static str {
    match impact {
        Impact::ErrorRatio => "an error ratio above",
        _ => "a failing share above",
    }
}

/// A suspicion that is as old as its promise, with its evidence: `1 in 340, hold of 2m not satisfied`.
#[must_use]
pub fn overdue(overdue: &Overdue, is_compared: bool) -> String {
    let numbers = overdue.finding.numbers.as_ref().map_or_else(String::new, |numbers| evidence(numbers, is_compared));
    let waits_for = match overdue.waits_for {
        Gate::Attribution => "others suffer too, so it can't be told whose fault it is".to_owned(),
        Gate::Load => "there is so much more to do than ever before that it can't be told whether the version is at fault".to_owned(),
        other => format!("it is still not decided, for want of {}", gate(other)),
    };
    format!("{}, suspected since {}: {waits_for}; {numbers}", overdue.finding.impact, clock(overdue.onset))
}

/// What would be acted on if others were well. What is granted is not weighed, so that it has neither odds nor an onset.
#[must_use]
pub fn held_back(finding: &Finding) -> String {
    let Some(numbers) = &finding.numbers else { return super::finding(finding) };
    let granted = super::waits_for(Gate::Attribution, numbers);
    if numbers.waits_for == Some(Gate::Attribution) {
        return format!("{}; {granted}", super::level(numbers));
    }
    let now = numbers.now.map_or_else(|| "much".to_owned(), percent);
    let route = numbers.route.as_ref().map_or_else(String::new, |route| format!(" on {route}"));
    format!("{now} failing{route}, before at most {}, tolerated up to {}; {granted}", percent(numbers.before), percent(numbers.tolerance))
}

/// Of what operators are warned, in a phrase.
#[must_use]
pub fn warning(warning: &Warning) -> String {
    match warning {
        Warning::HeldBack { severity, finding, others } => {
            let others: Vec<_> = others.iter().map(ToString::to_string).collect();
            format!("held back: {severity} {}, seen by {}, but others suffer too ({})", finding.impact, finding.signal, others.join(", "))
        }
        Warning::Overdue { severity, overdue, is_compared } => format!("{severity} {}", self::overdue(overdue, *is_compared)),
        Warning::Unkept { unkept } => unkept.iter().map(self::unkept).collect::<Vec<_>>().join("; "),
    }
}

/// `12:04:15 UTC`.
fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S UTC").to_string()
}

/// Two digits: an estimate is not better than that.
fn rounded(number: f64) -> String {
    let step = 10.0_f64.powi(if number >= 1_000.0 { 2 } else { i32::from(number >= 100.0) });
    format!("{:.0}", (number / step).round() * step)
}

fn whole_seconds(duration: SignedDuration) -> SignedDuration {
    SignedDuration::from_secs(duration.as_secs().saturating_add(i64::from(duration.subsec_nanos() > 0)))
}

/// A time that is an estimate, and so without false precision: `25s`, `2m 45s`, `40m`, `5h 10m`.
fn about(duration: SignedDuration) -> String {
    const WEEK: i64 = 7 * 24 * 3_600;
    let seconds = whole_seconds(duration).as_secs();
    let step = match seconds {
        ..60 => 5,
        60..600 => 15,
        600..7_200 => 60,
        7_200..86_400 => 600,
        86_400..WEEK => 3_600,
        _ => return "more than a week".to_owned(),
    };
    super::duration(SignedDuration::from_secs((seconds + step / 2) / step * step))
}
