//! A question of the operator's own (a custom query): while it has an answer, the impact that it stands for is there. It is not weighed;
//! whoever wrote it has said how bad is bad. What had an answer shortly before the deployment already is not the deployment's doing.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::Excluded;
use crate::baseline::{QueryBaseline, Span};
use crate::observation::Answered;
use crate::severity::Impact;
use crate::verdict::{Failure, FindingState, Inconclusive};

/// An answer so shortly before the deployment is not new.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// So many looks are remembered; ten minutes at one a second.
const MOST: usize = 600;

/// What was answered lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    newest: VecDeque<(Timestamp, bool)>,
}

impl Answers {
    /// Takes in a look.
    pub(crate) fn take(&mut self, answer: &[Answered], at: Timestamp) {
        self.newest.push_back((at, !answer.is_empty()));
        let oldest = at.checked_sub(RECENT).unwrap_or(Timestamp::MIN);
        while self.newest.len() > MOST || self.newest.front().is_some_and(|(at, _)| *at < oldest) {
            self.newest.pop_front();
        }
    }

    /// Whether it had an answer when it was last asked before that time.
    pub(crate) fn had_one_at(&self, time: Timestamp) -> bool {
        self.newest.iter().rev().find(|(at, _)| *at <= time).is_some_and(|(_, answered)| *answered)
    }

    /// What was answered shortly before the end of the span.
    pub(crate) fn baseline(&self, excluded: &[Excluded], span: Span) -> QueryBaseline {
        let from = span.to.checked_sub(RECENT).unwrap_or(Timestamp::MIN);
        let is_excluded = |at: Timestamp| excluded.iter().any(|(begin, end)| (*begin..=*end).contains(&at));
        let looks = || self.newest.iter().filter(|(at, _)| (from..=span.to).contains(at) && !is_excluded(*at));
        let count = |looks: usize| u32::try_from(looks).unwrap_or(u32::MAX);
        QueryBaseline { looks: count(looks().count()), answered: count(looks().filter(|(_, answered)| *answered).count()), span }
    }
}

/// A question during a window.
#[derive(Clone, Debug)]
pub(crate) struct QueryWindow {
    impact: Impact,
    lasting: SignedDuration,
    start: Timestamp,
    baseline: Option<bool>,
    /// Since when it has had an answer without a break, and what it was first.
    answered: Option<(Timestamp, Answered)>,
    newest: Option<Timestamp>,
}

impl QueryWindow {
    /// A window that begins with the deployment at `start`. An answer that it had just then is not new as long as it lasts, whichever version
    /// gave rise to it: a question looks back, and so outlives the rollback that helped.
    pub(crate) fn new(impact: Impact, lasting: SignedDuration, start: Timestamp, had_one: bool) -> Self {
        Self { impact, lasting, start, baseline: had_one.then_some(true), answered: None, newest: None }
    }

    /// The row of the matrix that it stands for.
    pub(crate) fn impact(&self) -> Impact {
        self.impact
    }

    /// Takes in a look.
    pub(crate) fn take(&mut self, answer: &[Answered], at: Timestamp) {
        if at < self.start {
            return;
        }
        self.newest = Some(at);
        self.answered = answer.first().map(|first| self.answered.take().unwrap_or_else(|| (at, first.clone())));
        if answer.is_empty() {
            // It was without an answer since the start: from now on one is new.
            self.baseline = Some(false);
        }
    }

    /// What was answered before the deployment.
    pub(crate) fn set_baseline(&mut self, baseline: &QueryBaseline) {
        self.baseline = self.baseline.or(Some(baseline.answered > 0));
    }

    /// Since when it has had an answer, as far as that is new.
    pub(crate) fn onset(&self) -> Option<Timestamp> {
        self.answered.as_ref().map(|(since, _)| *since).filter(|_| self.baseline == Some(false))
    }

    /// What it says now.
    pub(crate) fn state(&self) -> FindingState {
        match (&self.answered, self.baseline) {
            _ if self.newest.is_none() => FindingState::Inconclusive(Inconclusive::NotLooked),
            (None, _) => FindingState::Passing,
            (Some(_), None) => FindingState::Inconclusive(Inconclusive::NoBaseline),
            (Some(_), Some(true)) => FindingState::Inconclusive(Inconclusive::NotTestable { tolerance: 1.0 }),
            (Some((since, first)), Some(false)) => {
                let lasted = self.newest.unwrap_or(*since).duration_since(*since);
                if lasted < self.lasting {
                    return FindingState::Passing;
                }
                FindingState::Failing(Failure::Answered { about: first.id.clone(), value: first.value, since: lasted })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time in range")
    }

    fn some() -> Vec<Answered> {
        vec![Answered { id: "{}".to_owned(), value: 1.0 }]
    }

    fn fails(window: &QueryWindow) -> bool {
        matches!(window.state(), FindingState::Failing(_))
    }

    /// The version that had given rise to it was bad, so that its window is no history.
    fn baseline() -> QueryBaseline {
        let span = Span { source: "prometheus main".to_owned(), every: SignedDuration::from_secs(15), from: at(0), to: at(100) };
        QueryBaseline { looks: 4, answered: 0, span }
    }

    #[test]
    fn an_answer_that_outlives_the_rollback_is_not_held_against_the_good_version_but_the_next_one_is() {
        let mut answers = Answers::default();
        answers.take(&some(), at(95));
        let mut window = QueryWindow::new(Impact::DataCorruption, SignedDuration::ZERO, at(100), answers.had_one_at(at(100)));
        window.set_baseline(&baseline());
        window.take(&some(), at(110));
        assert!(!fails(&window), "it had begun before");
        window.take(&[], at(125));
        window.take(&some(), at(140));
        assert!(fails(&window), "this one is new");
    }

    #[test]
    fn an_answer_that_came_after_the_start_says_nothing_of_the_time_before() {
        let mut answers = Answers::default();
        answers.take(&[], at(95));
        answers.take(&some(), at(101));
        let mut window = QueryWindow::new(Impact::DataCorruption, SignedDuration::ZERO, at(100), answers.had_one_at(at(100)));
        window.set_baseline(&baseline());
        window.take(&some(), at(110));
        assert!(fails(&window));
    }
}
