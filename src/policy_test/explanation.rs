//! Why a test failed, in sentences: what was expected and what the judge says instead, with its numbers, the gate that it waits for, and
//! what would change its mind. The numbers are put into words by the core.

use jiff::SignedDuration;
use rollbackd_core::service::SignalName;
use rollbackd_core::severity::{Impact, Response};
use rollbackd_core::verdict::{Finding, FindingState, Gate, Inconclusive, Measure, Numbers};
use rollbackd_core::words;

use super::play::{Played, Reached};
use super::{Expectation, Expected, Got, Test};

/// Why what the judge says is not what was expected; nothing when it is.
pub(super) fn differences(test: &Test, expectation: &Expectation, got: &Got, played: &Played) -> Vec<String> {
    let case = Case { test, expectation, got, played };
    match (expectation.verdict, got.verdict) {
        (expected, got) if expected == got => case.details(),
        (Expected::Impact(impact), _) => case.not_reached(impact),
        (Expected::None | Expected::Inconclusive, Expected::Impact(_)) => case.reached_all_the_same(),
        (Expected::None, _) => case.nothing_can_be_said(),
        (Expected::Inconclusive, _) => case.something_can_be_said(),
    }
}

struct Case<'a> {
    test: &'a Test,
    expectation: &'a Expectation,
    got: &'a Got,
    played: &'a Played,
}

impl Case<'_> {
    /// The right verdict, with something wrong about it.
    fn details(&self) -> Vec<String> {
        let (Expectation { severity, response, not_before, .. }, got) = (self.expectation, self.got);
        let Expected::Impact(impact) = got.verdict else { return Vec::new() };
        let row = |key| format!("`matrix.{}.{key}` says so", impact.key());
        let mut why = Vec::new();
        if let Some((expected, got)) = severity.zip(got.severity).filter(|(expected, got)| expected != got) {
            why.push(format!("it is {got}, not {expected}; {}", row("severity")));
        }
        if let Some((expected, got)) = response.zip(got.response).filter(|(expected, got)| expected != got) {
            why.push(format!("the answer is {}, not {}; {}", key(got), key(expected), row("response")));
        }
        if let Some((not_before, reached)) = not_before.zip(got.reached).filter(|(not_before, reached)| reached < not_before) {
            let hold = got.signal.as_ref().map_or("the hold", |signal| hold_key(impact, signal));
            why.push(format!(
                "it was reached at {}, before {}; {hold} would keep it longer",
                self.moment(reached),
                words::duration(not_before)
            ));
        }
        if let Some(refusal) = got.refusal.as_ref().filter(|_| *response == Some(Response::RollBack)) {
            why.push(format!("nothing would be rolled back, the guard {} stands in the way: {}", refusal.name(), words::refusal(refusal)));
        }
        why
    }

    /// A row of the matrix was expected, and was not reached, or another one does more.
    fn not_reached(&self, impact: Impact) -> Vec<String> {
        let mut why = Vec::new();
        let at = self.expectation.at;
        let mut others = self.played.reached_for(self.expectation);
        match others.find(|reached| reached.verdict.impact == impact) {
            Some(reached) if reached.at <= at => {
                why.push(format!("{} was reached at {}, and then something that does more", impact.key(), self.moment(reached.at)));
            }
            Some(reached) => {
                let late = words::duration(reached.at.saturating_sub(at));
                why.push(format!(
                    "{} came {late} later, at {}: {}",
                    impact.key(),
                    self.moment(reached.at),
                    words::verdict(&reached.verdict)
                ));
            }
            None => {
                let end = words::duration(self.played.end);
                why.push(format!("{} was not reached at all, until the test ended at {end}", impact.key()));
            }
        }
        why.extend(self.newest().map(|reached| format!("reached was {}", self.said(reached))));
        let telling: Vec<&Finding> = self.seen().filter(|finding| finding.impact == impact).collect();
        if telling.is_empty() {
            why.push(self.cannot_be_told(impact));
        }
        why.extend(telling.into_iter().flat_map(|finding| self.explained(finding)));
        why
    }

    /// Nothing was expected to be reached.
    fn reached_all_the_same(&self) -> Vec<String> {
        let Some(reached) = self.newest() else { return Vec::new() };
        let mut why = vec![format!("reached was {}", self.said(reached))];
        if let Some(Finding { numbers: Some(numbers), .. }) = reached.verdict.decisive() {
            let impact = reached.verdict.impact;
            let setting = match impact {
                Impact::CompleteOutage => String::new(),
                impact => format!(", `matrix.{}.above`", impact.key()),
            };
            let level = |level| words::measured(level, numbers.measure);
            let less = match numbers.measure {
                Measure::Share => format!("less than {} failed", level(numbers.severity)),
                Measure::Seconds => format!("requests took less than {} in the mean", level(numbers.severity)),
            };
            why.push(format!(
                "it would not be reached if {less} (what is tolerated after this history is {}){setting}, or if that lasted less than {}, {}",
                level(numbers.tolerance),
                words::duration(numbers.hold),
                hold_key(impact, &reached.verdict.signal)
            ));
        }
        why
    }

    /// `none` was expected, and the judge is blind.
    fn nothing_can_be_said(&self) -> Vec<String> {
        let unclear = self.played.unclear(self.test, self.expectation);
        let mut why = vec!["nothing was reached, but nothing could be: `none` is only what a signal says that can be judged".to_owned()];
        for finding in self.seen().filter(|finding| unclear.contains(&finding.signal)) {
            for sentence in self.explained(finding) {
                if !why.contains(&sentence) {
                    why.push(sentence);
                }
            }
        }
        why.push("if that is what is meant, expect `inconclusive`".to_owned());
        why
    }

    /// `inconclusive` was expected, and the judge sees well.
    fn something_can_be_said(&self) -> Vec<String> {
        let clear = self.seen().filter(|finding| !matches!(finding.state, FindingState::Inconclusive(_)));
        let mut why: Vec<String> =
            clear.map(|finding| format!("{}, {}: {}", finding.signal, finding.impact.key(), words::finding(finding))).collect();
        if why.is_empty() {
            why.push("the window was over, and the version had proved itself".to_owned());
        }
        why
    }

    /// What the signals said that the test feeds, and that the expectation is about.
    fn seen(&self) -> impl Iterator<Item = &Finding> {
        let about = |signal: &SignalName| self.expectation.signal.as_ref().is_none_or(|only| only == signal);
        let said = self.played.findings(self.expectation.at).iter();
        said.filter(move |finding| self.test.feeds.contains_key(&finding.signal) && about(&finding.signal))
    }

    /// The verdict in force.
    fn newest(&self) -> Option<&Reached> {
        self.played.reached_for(self.expectation).rfind(|reached| reached.at <= self.expectation.at)
    }

    fn said(&self, reached: &Reached) -> String {
        format!("{} at {}: {}", reached.verdict.impact.key(), self.moment(reached.at), words::verdict(&reached.verdict))
    }

    /// `1h 5m, 5m after the deployment`.
    fn moment(&self, at: SignedDuration) -> String {
        moment(self.test, self.expectation.deployment, at)
    }

    /// No signal that the test feeds stands for this impact, or it said nothing yet.
    fn cannot_be_told(&self, impact: Impact) -> String {
        let fed: Vec<String> = self.test.feeds.keys().map(ToString::to_string).collect();
        format!("nothing that is made up here ({}) says anything on {} at that time", fed.join(", "), impact.key())
    }

    /// What a check says, and what would change its mind.
    fn explained(&self, finding: &Finding) -> Vec<String> {
        let says = match &finding.state {
            FindingState::Inconclusive(why) => words::inconclusive(why),
            // Which gate is closed is said by the advice.
            FindingState::Passing => finding.numbers.as_ref().map_or_else(|| words::finding(finding), words::level),
            FindingState::Failing(_) => words::finding(finding),
        };
        std::iter::once(format!("{}: {says}", finding.signal)).chain(self.advice(finding)).collect()
    }

    /// What would change the judge's mind.
    fn advice(&self, finding: &Finding) -> Option<String> {
        match &finding.state {
            FindingState::Inconclusive(why) => self.remedy(why, finding),
            FindingState::Failing(_) => None,
            FindingState::Passing => finding.numbers.as_ref().map(|numbers| self.lacking(numbers, finding)),
        }
    }

    fn remedy(&self, why: &Inconclusive, finding: &Finding) -> Option<String> {
        let before = self.played.baseline(self.expectation.deployment, &finding.signal).map(words::baseline);
        let before = before.unwrap_or_else(|| "nothing is known".to_owned());
        Some(match why {
            Inconclusive::NoBaseline => format!(
                "no verdict is possible for want of a baseline: of the time before the deployment at {}, {before}; let the series begin \
                 earlier, as in `0+150x240` (an hour at 15s) with `deployed = \"1h\"`",
                words::duration(self.started())
            ),
            Inconclusive::NotTestable { .. } => {
                format!("no verdict is possible, since the baseline is bad already: {before}; nothing can be called worse than that")
            }
            Inconclusive::WarmingUp { until } => {
                format!("nothing is judged before {}; `decision.grace`", self.moment(super::feed::since(*until)))
            }
            Inconclusive::NoTraffic => "counters that do not grow are no traffic: a verdict needs requests".to_owned(),
            Inconclusive::Missing(_) => match self.test.feeds.get(&finding.signal).zip(self.test.every(&finding.signal)) {
                Some((feed, every)) if feed.lasts(every) < self.expectation.at => {
                    format!("what is made up of it ends at {}", words::duration(feed.lasts(every)))
                }
                _ => return None,
            },
            Inconclusive::NotLooked | Inconclusive::BeganBefore { .. } => return None,
        })
    }

    /// Which gate is closed, and what opens it.
    fn lacking(&self, numbers: &Numbers, finding: &Finding) -> String {
        let impact = finding.impact;
        let level = |level| words::measured(level, numbers.measure);
        let enough = numbers.severity.max(numbers.tolerance);
        let what = what(finding, numbers);
        let hold = || format!("{} ({})", words::duration(numbers.hold), hold_key(impact, &finding.signal));
        let too_little = |now: f64, when: String| {
            let is = if numbers.measure == Measure::Share { "failed" } else { "in the mean" };
            format!("it is not bad enough: {} {is} {when}, and {} would be{}", level(now), level(enough), above_key(impact))
        };
        match (numbers.waits_for, numbers.now) {
            (Some(Gate::Evidence), _) => {
                let so_far = format!(
                    "it lacks evidence: {:.0} of {:.0} {what} since it began, odds {}, needed {}",
                    numbers.failed,
                    numbers.count,
                    words::odds(numbers.log_evidence),
                    words::odds(numbers.log_threshold)
                );
                if numbers.now.is_some_and(|now| now <= numbers.tolerance) {
                    return format!(
                        "{so_far}; up to {} is tolerated after this history, and no time makes evidence of that",
                        level(numbers.tolerance)
                    );
                }
                let expected = numbers.expected_delay.map_or_else(String::new, |delay| {
                    format!("; at this traffic a decision takes about {} from the onset", words::duration(delay))
                });
                format!("{so_far}; more of that, or more time, would give it{expected}")
            }
            (Some(Gate::Persistence), Some(now)) if now < enough => {
                too_little(now, format!("over the last {}", words::duration(numbers.hold)))
            }
            (Some(Gate::Persistence), _) => {
                format!(
                    "it does not persist: it must be {} or more over {} as a whole, and no part of that may contradict",
                    level(enough),
                    hold()
                )
            }
            (Some(Gate::Severity), now) => {
                let since = if numbers.count > 0.0 { numbers.failed / numbers.count } else { 0.0 };
                let since = if numbers.measure == Measure::Share { since } else { now.unwrap_or_default() };
                too_little(since, "since it began".to_owned())
            }
            (Some(Gate::Hold), _) => format!(
                "it is too early: {} has to be watched after the grace of {} (`decision.grace`)",
                hold(),
                words::duration(self.test.service.decision.grace),
            ),
            (Some(gate @ Gate::Load), _) => words::waits_for(gate, numbers),
            (Some(Gate::Attribution), _) => "it is put down to others: it began before the deployment, or they suffer as much".to_owned(),
            (None, _) => "every gate is open".to_owned(),
        }
    }

    fn started(&self) -> SignedDuration {
        self.test.deployed.get(self.expectation.deployment).copied().unwrap_or_default()
    }
}

/// `1h 5m, 5m after the deployment`.
#[must_use]
pub fn moment(test: &Test, deployment: usize, at: SignedDuration) -> String {
    let started = test.deployed.get(deployment).copied().unwrap_or_default();
    let which = if test.deployed.len() > 1 { format!("deployment {}", deployment + 1) } else { "the deployment".to_owned() };
    format!("{} ({} after {which})", words::duration(at), words::duration(at.saturating_sub(started)))
}

/// As the file names a response.
#[must_use]
pub const fn key(response: Response) -> &'static str {
    match response {
        Response::RollBack => "roll_back",
        Response::Ask => "ask",
        Response::Notify => "notify",
    }
}

fn above_key(impact: Impact) -> String {
    match impact {
        Impact::CompleteOutage => String::new(),
        impact => format!(" (`matrix.{}.above`)", impact.key()),
    }
}

/// What was counted: `requests failed`.
fn what(finding: &Finding, numbers: &Numbers) -> &'static str {
    match (numbers.measure, is_probe(&finding.signal)) {
        (Measure::Seconds, _) => "requests were slow",
        (Measure::Share, true) => "rounds failed",
        (Measure::Share, false) => "requests failed",
    }
}

fn is_probe(signal: &SignalName) -> bool {
    signal.0.starts_with("probe.")
}

/// Where the hold of an impact is set.
fn hold_key(impact: Impact, signal: &SignalName) -> &'static str {
    match impact {
        Impact::CompleteOutage if is_probe(signal) => "`decision.hold_probe_rounds`",
        Impact::CompleteOutage => "`decision.hold_p0`",
        Impact::ErrorRatio if is_probe(signal) => "half of `decision.hold_p1`",
        Impact::ErrorRatio => "`decision.hold_p1`",
        Impact::FeatureBroken => "`decision.hold_p2`",
        Impact::Performance => "`decision.hold_latency`",
        Impact::DataCorruption | Impact::SecurityBreach | Impact::MinorFault => "`for`",
    }
}
