//! Questions about the past that many signals have for one server at the same time. Those that differ only in the value of one label (the
//! service, say) are put as one, and the answer is told apart here. Nobody waits for others to come: who has to wait for a seat at the
//! server anyway is joined by them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rollbackd_core::observation::Missing;
use tokio::sync::{Semaphore, oneshot};

use super::super::selector::Selector;
use super::found::Found;

/// A question about the past: the samples of a selector between two moments.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The selector as it was written.
    pub(super) text: String,
    pub(super) selector: Arc<Selector>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

type Answer = Result<Vec<Found>, Missing>;

/// What one server is asked by all together.
#[derive(Debug)]
pub(super) struct Joint {
    seats: Semaphore,
    waiting: Mutex<Vec<Waiting>>,
    tickets: AtomicU64,
    /// How many bytes an answer takes for each signal and second, as far as is known.
    density: Mutex<f64>,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    question: Question,
    reply: oneshot::Sender<Answer>,
}

/// Signals whose questions are put as one: the first one's question, but with the values that all of them have for a label.
struct Group {
    label: Option<String>,
    members: Vec<(Option<String>, Waiting)>,
}

/// So many questions about the past are put to a server at a time. It has four seats, and those who look at the present need some.
const SEATS: usize = 2;

/// So many signals are joined at most, so that a question stays shorter than what proxies allow (8 KiB).
const MOST_TOGETHER: usize = 64;
const LONGEST_LIST: usize = 4096;

/// An answer should be no larger: a quarter of what is read at most.
const GOOD_SIZE: f64 = 2.0 * 1024.0 * 1024.0;

/// Ten series at one sample of 30 bytes every 15 s, until more is known.
const FIRST_DENSITY: f64 = 20.0;

impl Default for Joint {
    fn default() -> Self {
        Self { seats: Semaphore::new(SEATS), waiting: Mutex::default(), tickets: AtomicU64::default(), density: Mutex::new(FIRST_DENSITY) }
    }
}

/// Leaves the queue when it is dropped.
struct Place<'a> {
    joint: &'a Joint,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.joint.waiting().retain(|waiting| waiting.ticket != self.ticket);
    }
}

impl Joint {
    /// Gets an answer, with others if there are any. `fetch` puts a question to the server, and says how many bytes the answer had.
    pub(super) async fn ask<F>(&self, question: Question, fetch: impl Fn(String, bool) -> F) -> Answer
    where
        F: Future<Output = Result<(Vec<Found>, usize), Missing>>,
    {
        loop {
            let (reply, mut answer) = oneshot::channel();
            let place = self.queue(&question, reply);
            tokio::select! {
                biased;
                answered = &mut answer => if let Ok(answered) = answered { return answered },
                seat = self.seats.acquire() => {
                    if let Some(group) = self.take(place.ticket) {
                        self.put(group, &fetch).await;
                    }
                    drop(seat);
                    if let Ok(answered) = answer.await {
                        return answered;
                    }
                }
            }
            // Who had put the question for all was ended before the answer came.
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, question: &Question, reply: oneshot::Sender<Answer>) -> Place<'_> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        self.waiting().push(Waiting { ticket, question: question.clone(), reply });
        Place { joint: self, ticket }
    }

    /// Takes a question out of the queue, and with it those that can be put together with it. `None` when somebody else has taken it.
    fn take(&self, ticket: u64) -> Option<Group> {
        let mut waiting = self.waiting();
        let index = waiting.iter().position(|waiting| waiting.ticket == ticket)?;
        let first = waiting.swap_remove(index);
        let Question { selector, from, to, .. } = first.question.clone();
        let density = *self.density.lock().unwrap_or_else(PoisonError::into_inner);
        let each = density * to.duration_since(from).as_secs_f64().max(1.0);
        let fitting = |members: usize| members < MOST_TOGETHER && each * (number(members) + 1.0) <= GOOD_SIZE;
        let candidates = |label: &str, rest: &str| -> Vec<(u64, String)> {
            let alike = waiting.iter().filter(|other| (other.question.from, other.question.to) == (from, to));
            let value = |other: &Waiting| Some((other.ticket, other.question.selector.value_beside(label, rest)?));
            alike.filter_map(value).collect()
        };
        let slots = selector.slots().map(|slot| (candidates(slot.label, &slot.rest), slot));
        let best = slots.max_by_key(|(candidates, _)| candidates.len()).filter(|(candidates, _)| !candidates.is_empty());
        let Some((candidates, slot)) = best else { return Some(Group { label: None, members: vec![(None, first)] }) };
        let mut length = slot.value.len();
        let mut members = vec![(Some(slot.value.to_owned()), first)];
        for (ticket, value) in candidates {
            length += value.len() + 1;
            if !fitting(members.len()) || length > LONGEST_LIST {
                break;
            }
            if let Some(index) = waiting.iter().position(|waiting| waiting.ticket == ticket) {
                members.push((Some(value), waiting.swap_remove(index)));
            }
        }
        Some(Group { label: Some(slot.label.to_owned()), members })
    }

    async fn put<F>(&self, group: Group, fetch: &impl Fn(String, bool) -> F)
    where
        F: Future<Output = Result<(Vec<Found>, usize), Missing>>,
    {
        let mut left = vec![group];
        while let Some(mut group) = left.pop() {
            let alone = group.members.len() == 1;
            match fetch(group.text(), alone).await {
                Err(Missing::TooLarge(_)) if !alone => {
                    let members = group.members.split_off(group.members.len() / 2);
                    left.push(Group { label: group.label.clone(), members });
                    left.push(group);
                }
                Err(missing) => group.members.into_iter().for_each(|(_, waiting)| waiting.settle(Err(missing.clone()))),
                Ok((found, bytes)) => {
                    self.learn(&group, bytes);
                    group.settle(found);
                }
            }
        }
    }

    fn learn(&self, group: &Group, bytes: usize) {
        let seconds = group.members.first().map_or(1.0, |(_, first)| first.question.to.duration_since(first.question.from).as_secs_f64());
        let mut density = self.density.lock().unwrap_or_else(PoisonError::into_inner);
        let now = number(bytes) / number(group.members.len()) / seconds.max(1.0);
        *density = f64::midpoint(*density, now).max(1.0);
    }
}

/// Exact up to 4 GiB.
fn number(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

impl Group {
    fn text(&self) -> String {
        let Some((_, first)) = self.members.first() else { return String::new() };
        match &self.label {
            Some(label) if self.members.len() > 1 => {
                let values = self.members.iter().filter_map(|(value, _)| value.as_deref());
                first.question.selector.with_any(label, values)
            }
            _ => first.question.text.clone(),
        }
    }

    /// Gives each what has its value.
    fn settle(self, found: Vec<Found>) {
        let mut parts: Vec<Vec<Found>> = self.members.iter().map(|_| Vec::new()).collect();
        match &self.label {
            Some(label) if self.members.len() > 1 => {
                for series in found {
                    let has = |value: &Option<String>| series.labels.get(label) == value.as_ref();
                    for (index, _) in self.members.iter().enumerate().filter(|(_, (value, _))| has(value)) {
                        parts[index].push(series.clone());
                    }
                }
            }
            _ => parts[0] = found,
        }
        for ((_, waiting), part) in self.members.into_iter().zip(parts) {
            waiting.settle(Ok(part));
        }
    }
}

impl Waiting {
    fn settle(self, answer: Answer) {
        // Who is gone needs none.
        let _ = self.reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn question(text: &str, from: i64) -> Question {
        Question { text: text.to_owned(), selector: Arc::new(Selector::parse(text).unwrap()), from: at(from), to: at(3600) }
    }

    fn of(service: &str) -> Question {
        question(&format!("r{{service=\"{service}\"}}"), 0)
    }

    /// A server that takes a second, and has one series of each service; a service `many` has more than fits into one answer with others.
    #[derive(Default)]
    struct Server {
        asked: Mutex<Vec<String>>,
        bytes: usize,
    }

    impl Server {
        async fn answer(&self, text: String, alone: bool) -> Result<(Vec<Found>, usize), Missing> {
            self.asked.lock().unwrap().push(text.clone());
            sleep(Duration::from_secs(1)).await;
            let selector = Selector::parse(&text).unwrap();
            if !alone && text.contains("many") {
                return Err(Missing::TooLarge("of many".to_owned()));
            }
            if text.contains("broken") {
                return Err(Missing::Refused("broken".to_owned()));
            }
            let services = (0..300).map(|number| format!("s{number}")).chain(["many".to_owned(), "a.b".to_owned()]);
            let meant = services.filter(|service| selector.matches("r", |label| (label == "service").then(|| service.into())));
            let labels = |service: String| [("__name__".to_owned(), "r".to_owned()), ("service".to_owned(), service)].into();
            Ok((meant.map(|service| Found { labels: labels(service), samples: Vec::new() }).collect(), self.bytes))
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.asked.lock().unwrap())
        }

        async fn ask(&self, joint: &Joint, question: Question) -> Result<Vec<String>, Missing> {
            let found = joint.ask(question, |text, alone| self.answer(text, alone)).await?;
            Ok(found.into_iter().map(|found| found.labels["service"].clone()).collect())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_query_fetches_for_many_services_and_each_gets_its_own() {
        let (joint, server) = (Joint::default(), Server::default());
        let services: Vec<String> = (0..40).map(|number| format!("s{number}")).collect();
        let answers = join_all(services.iter().map(|service| server.ask(&joint, of(service)))).await;
        for (service, answer) in services.iter().zip(answers) {
            assert_eq!(answer, Ok(vec![service.clone()]));
        }
        let asked = server.asked();
        assert_eq!(asked.len(), 3, "who comes first goes alone, and there are two seats: {asked:?}");
        assert_eq!(asked[0], "r{service=\"s0\"}");
        assert!(asked[2].starts_with("{__name__=\"r\",service=~\"s10|s11|"), "{}", asked[2]);
        assert!(joint.waiting().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_differs_in_one_label_and_in_nothing_else_is_joined() {
        let (joint, server) = (Joint::default(), Server::default());
        let questions = [
            of("s0"),
            of("s1"),
            of("s2"),
            question("q{service=\"s3\"}", 0),
            question("r{service=\"s4\"}", 60),
            question("r", 0),
            of("a.b"),
        ];
        let answers = join_all(questions.iter().map(|question| server.ask(&joint, question.clone()))).await;
        assert_eq!(answers[2], Ok(vec!["s2".to_owned()]));
        assert_eq!(answers[6], Ok(vec!["a.b".to_owned()]));
        assert_eq!(server.asked().len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_joint_answer_that_is_too_large_is_fetched_in_halves() {
        let (joint, server) = (Joint::default(), Server::default());
        let services = ["s0", "s1", "s2", "s3", "many", "s4"];
        let answers = join_all(services.iter().map(|service| server.ask(&joint, of(service)))).await;
        for (service, answer) in services.iter().zip(answers) {
            assert_eq!(answer, Ok(vec![(*service).to_owned()]));
        }
        assert!(server.asked().len() <= 7);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_all_fails_for_each() {
        let (joint, server) = (Joint::default(), Server::default());
        let answers = join_all(["s0", "s1", "s2", "broken"].iter().map(|service| server.ask(&joint, of(service)))).await;
        assert_eq!(answers[0], Ok(vec!["s0".to_owned()]));
        assert_eq!(answers[2], Err(Missing::Refused("broken".to_owned())));
        assert_eq!(answers[3], Err(Missing::Refused("broken".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_all_and_is_ended_leaves_nobody_waiting() {
        let (joint, server) = (Arc::new(Joint::default()), Arc::new(Server::default()));
        let ask = |service: &str| {
            let (joint, server, question) = (Arc::clone(&joint), Arc::clone(&server), of(service));
            tokio::spawn(async move { server.ask(&joint, question).await })
        };
        let tasks: Vec<_> = ["s0", "s1", "s2", "s3", "s4"].into_iter().map(ask).collect();
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(server.asked().len(), 3, "one of them asks for three");
        let (mut answers, mut ended) = (0, 0);
        for (number, task) in tasks.into_iter().enumerate() {
            if number == 2 {
                task.abort();
            }
            match task.await {
                Ok(answer) => {
                    assert_eq!(answer, Ok(vec![format!("s{number}")]));
                    answers += 1;
                }
                Err(_) => ended += 1,
            }
        }
        assert_eq!((answers, ended), (4, 1));
        assert_eq!(server.asked().len(), 2, "the others asked again");
    }

    #[tokio::test(start_paused = true)]
    async fn large_answers_make_smaller_groups() {
        let (joint, server) = (Joint::default(), Server { bytes: 1024 * 1024, ..Server::default() });
        join_all((0..4).map(|number| server.ask(&joint, of(&format!("s{number}"))))).await;
        server.asked();
        join_all((0..60).map(|number| server.ask(&joint, of(&format!("s{number}"))))).await;
        let asked = server.asked();
        assert!(asked.len() > 6, "{asked:?}");
    }
}
