//! A test played in virtual time: what is made up is handed to the judge look by look, as the daemon's sources would, and what it reached
//! is kept.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use rollbackd_core::baseline::Baseline;
use rollbackd_core::entry::{Arrival, DeploymentId, Entry, Record};
use rollbackd_core::guard::{Limits, Refusal};
use rollbackd_core::service::SignalName;
use rollbackd_core::verdict::{Finding, FindingState, Verdict};
use rollbackd_core::version::{Version, VersionId};

use super::feed::{Feed, at, since};
use super::{Expectation, Expected, Got, Test};
use crate::replay::judge::{Deployed, Judge, World};

/// What came of it.
pub(super) struct Played {
    /// Every verdict, in order of time. Each of a deployment does more than the one before.
    reached: Vec<Reached>,
    /// What every check said at each time that something is expected of.
    findings: BTreeMap<SignedDuration, Vec<Finding>>,
    /// What became of each wish for a rollback: of which deployment, when, and which guard stood in the way, if one did.
    wishes: Vec<(usize, SignedDuration, Option<Refusal>)>,
    /// How it was before each deployment.
    baselines: Vec<BTreeMap<SignalName, Baseline>>,
    /// When it ended.
    pub end: SignedDuration,
}

/// A verdict, and when it was reached.
pub(super) struct Reached {
    /// For which deployment; the first is 0.
    pub deployment: usize,
    /// When.
    pub at: SignedDuration,
    /// What.
    pub verdict: Verdict,
}

impl Played {
    /// Plays a test to its end: all its series until the last window is over, and all that is expected.
    pub(super) fn of(test: &Test) -> Self {
        let mut judge = Judge::new([test.service.clone()], Limits::default(), World::Stays);
        let mut findings = BTreeMap::new();
        let asked: BTreeSet<SignedDuration> = test.expectations.iter().map(|expectation| expectation.at).collect();
        let end = end(test, &asked);
        judge.begin(&test.service.name, &version(0), at(SignedDuration::ZERO));
        for now in moments(test, &asked, end) {
            // A counter that is read just then counted what came before; a round of probes, or an answer, sees what is there now.
            look(test, &mut judge, now, |feed| matches!(feed, Feed::Counters { .. } | Feed::Histograms { .. }));
            deploy(test, &mut judge, now);
            look(test, &mut judge, now, |feed| matches!(feed, Feed::Rounds(_) | Feed::Answers { .. }));
            if asked.contains(&now) {
                judge.turn(&test.service.name, at(now));
                findings.insert(now, judge.findings(&test.service.name, at(now)));
            }
        }
        let numbers = numbers(&judge);
        Self {
            reached: reached(&judge, &numbers),
            wishes: wishes(&judge, &numbers),
            baselines: baselines(test, &judge, &numbers),
            findings,
            end,
        }
    }

    /// What the judge had reached then.
    pub(super) fn got(&self, test: &Test, expectation: &Expectation) -> Got {
        let mut got = Got { verdict: Expected::None, severity: None, response: None, signal: None, reached: None, refusal: None };
        if let Some(Reached { at, verdict, .. }) = self.reached_for(expectation).rfind(|reached| reached.at <= expectation.at) {
            got.verdict = Expected::Impact(verdict.impact);
            got.severity = Some(verdict.severity);
            got.response = Some(verdict.response);
            got.signal = Some(verdict.signal.clone());
            got.reached = Some(*at);
            let mut wishes =
                self.wishes.iter().filter(|(deployment, at, _)| *deployment == expectation.deployment && *at <= expectation.at);
            got.refusal = wishes.next_back().and_then(|(.., refusal)| refusal.clone());
        } else if !self.unclear(test, expectation).is_empty() {
            got.verdict = Expected::Inconclusive;
        }
        got
    }

    /// Everything that was reached for its deployment, seen by its signal, at any time.
    pub(super) fn reached_for<'a>(&'a self, expectation: &'a Expectation) -> impl DoubleEndedIterator<Item = &'a Reached> {
        let of_signal = |reached: &&Reached| expectation.signal.as_ref().is_none_or(|signal| *signal == reached.verdict.signal);
        self.reached.iter().filter(|reached| reached.deployment == expectation.deployment).filter(of_signal)
    }

    /// The signals that the test feeds, and of which nothing can be said then.
    pub(super) fn unclear<'a>(&'a self, test: &'a Test, expectation: &'a Expectation) -> BTreeSet<&'a SignalName> {
        let said = self.findings(expectation.at);
        let clear = |signal: &SignalName| {
            let mut of_signal = said.iter().filter(|finding| finding.signal == *signal).peekable();
            of_signal.peek().is_none() || of_signal.any(|finding| !matches!(finding.state, FindingState::Inconclusive(_)))
        };
        test.feeds.keys().filter(|signal| expectation.signal.as_ref().is_none_or(|only| only == *signal) && !clear(signal)).collect()
    }

    /// What every check said then.
    pub(super) fn findings(&self, at: SignedDuration) -> &[Finding] {
        self.findings.get(&at).map_or(&[], Vec::as_slice)
    }

    /// How a signal was before a deployment, as far as the judge knows.
    pub(super) fn baseline(&self, deployment: usize, signal: &SignalName) -> Option<&Baseline> {
        self.baselines.get(deployment)?.get(signal)
    }
}

/// The end of the last window or of the last series, whichever comes first, and nothing that is expected comes later.
fn end(test: &Test, asked: &BTreeSet<SignedDuration>) -> SignedDuration {
    let last = test.deployed.last().copied().unwrap_or_default();
    let window = last.saturating_add(test.service.window);
    asked.last().copied().unwrap_or_default().max(test.lasts().min(window))
}

/// Every moment at which something is looked at, is deployed, or is expected.
fn moments(test: &Test, asked: &BTreeSet<SignedDuration>, end: SignedDuration) -> BTreeSet<SignedDuration> {
    let mut moments: BTreeSet<SignedDuration> = asked.iter().copied().collect();
    for deployed in &test.deployed {
        moments.extend([*deployed, deployed.saturating_add(test.rollout)]);
    }
    for every in test.feeds.keys().filter_map(|signal| test.every(signal)) {
        let mut now = SignedDuration::ZERO;
        while now <= end {
            moments.insert(now);
            now = now.saturating_add(every);
        }
    }
    moments
}

fn look(test: &Test, judge: &mut Judge, now: SignedDuration, which: impl Fn(&Feed) -> bool) {
    for (signal, feed) in test.feeds.iter().filter(|(_, feed)| which(feed)) {
        let Some(every) = test.every(signal) else { continue };
        if now.as_nanos().checked_rem(every.as_nanos()) == Some(0) {
            judge.observe(&test.service.name, signal, feed.read(now, every), at(now));
        }
    }
}

fn deploy(test: &Test, judge: &mut Judge, now: SignedDuration) {
    for (index, started) in test.deployed.iter().enumerate() {
        let rolled_out = started.saturating_add(test.rollout);
        let is_over = test.deployed.get(index + 1).is_some_and(|next| now >= *next);
        if now == *started || (now == rolled_out && !is_over) {
            let deployed = Deployed { version: version(index + 1), not_before: at(*started), rolled_out: now >= rolled_out, change: None };
            judge.deploy(&test.service.name, &deployed, at(now));
        }
    }
}

/// Version 0 ran before anything was deployed.
fn version(number: usize) -> Version {
    let name = format!("version {number}");
    Version { id: VersionId(name.clone()), name }
}

/// Which deployment of the test each one of the judge is.
fn numbers(judge: &Judge) -> Vec<DeploymentId> {
    let deployed = |entry: &Entry| matches!(entry, Entry::DeploymentSeen { arrival: Arrival::Deployed, .. });
    judge.records().iter().filter(|record| deployed(&record.entry)).map(|record| DeploymentId(record.seq)).collect()
}

fn reached(judge: &Judge, numbers: &[DeploymentId]) -> Vec<Reached> {
    let reached = |record: &Record| match &record.entry {
        Entry::VerdictReached { deployment, verdict, .. } => {
            let deployment = numbers.iter().position(|number| number == deployment)?;
            Some(Reached { deployment, at: since(record.at), verdict: verdict.clone() })
        }
        _ => None,
    };
    judge.records().iter().filter_map(reached).collect()
}

fn wishes(judge: &Judge, numbers: &[DeploymentId]) -> Vec<(usize, SignedDuration, Option<Refusal>)> {
    let wish = |record: &Record| {
        let (deployment, refusal) = match &record.entry {
            Entry::RollbackPlanned { plan } => (plan.deployment, None),
            Entry::RollbackRefused { deployment, refusal, .. } => (*deployment, Some(refusal.clone())),
            _ => return None,
        };
        let refusal = refusal.filter(|refusal| !matches!(refusal, Refusal::DryRun { .. }));
        Some((numbers.iter().position(|number| *number == deployment)?, since(record.at), refusal))
    };
    judge.records().iter().filter_map(wish).collect()
}

fn baselines(test: &Test, judge: &Judge, numbers: &[DeploymentId]) -> Vec<BTreeMap<SignalName, Baseline>> {
    let service = judge.state().service(&test.service.name);
    let of = |number: &DeploymentId| service.and_then(|service| service.deployments.get(number)).map(|known| known.baselines.clone());
    numbers.iter().map(|number| of(number).unwrap_or_default()).collect()
}

impl Test {
    /// How long what it makes up lasts, from the begin on.
    #[must_use]
    pub fn lasts(&self) -> SignedDuration {
        self.feeds.iter().filter_map(|(signal, feed)| Some(feed.lasts(self.every(signal)?))).max().unwrap_or_default()
    }

    /// The time from one look at a signal to the next.
    #[must_use]
    pub fn every(&self, signal: &SignalName) -> Option<SignedDuration> {
        self.service.signals.get(signal).map(|policy| policy.every).filter(SignedDuration::is_positive)
    }
}
