use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rollbackd_core::baseline::{Baseline, ErrorsBaseline};
use rollbackd_core::evidence::Evidence;
use rollbackd_core::observation::{Sample, Scrape, Series};
use rollbackd_core::service::{Decision, Restore, Role, Service, ServiceName, SignalKind, SignalName, SignalPolicy, Verification};
use rollbackd_core::severity::Matrix;

use super::*;

const EVERY: SignedDuration = SignedDuration::from_secs(15);

fn now() -> Timestamp {
    "2026-11-21T10:20:00Z".parse().unwrap()
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

/// What befalls a server that is asked for a piece.
type Fate = fn(from: Timestamp, to: Timestamp) -> Option<Missing>;

/// A server with one counter that began a while ago: ten requests between two scrapes, of which one fails in the last 30 minutes of each day.
struct Source {
    began: Timestamp,
    takes: Duration,
    fate: Mutex<Fate>,
    asked: Mutex<Vec<(Timestamp, Timestamp)>>,
}

impl Source {
    fn of(age: SignedDuration) -> Self {
        Self { began: now() - age, takes: Duration::from_millis(100), fate: Mutex::new(|_, _| None), asked: Mutex::default() }
    }

    fn but(self, fate: Fate) -> Self {
        *self.fate.lock().unwrap() = fate;
        self
    }

    fn slow(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    /// The pieces that were asked for since the last time: when they end, and how many minutes they have.
    fn asked(&self) -> Vec<(String, i64)> {
        let pieces = std::mem::take(&mut *self.asked.lock().unwrap());
        pieces.iter().map(|(from, to)| (to.strftime("%d %H:%M").to_string(), to.duration_since(*from).as_mins())).collect()
    }
}

#[async_trait]
impl Signal for Source {
    async fn read(&self, _: Timestamp) -> Reading {
        Reading::Missing(Missing::NoHistory)
    }

    async fn history(&self, from: Timestamp, to: Timestamp) -> Reading {
        self.asked.lock().unwrap().push((from, to));
        sleep(self.takes).await;
        if let Some(missing) = self.fate.lock().unwrap()(from, to) {
            return Reading::Missing(missing);
        }
        let steps = (from.max(self.began).as_second().div_euclid(15)..).take_while(|step| step * 15 <= to.as_second());
        #[expect(clippy::cast_precision_loss, reason = "steps of a few years")]
        let samples = |per_step: f64| {
            let samples = steps.clone().map(|step| (step * 15, per_step * step as f64));
            samples.map(|(second, value)| Sample { at: Timestamp::from_second(second).unwrap(), value }).collect::<Vec<_>>()
        };
        let series = |id: &str, samples| Series { id: id.to_owned(), target: "a".to_owned(), process_started: None, route: None, samples };
        if samples(1.0).is_empty() {
            return Reading::Scrape(Scrape::default());
        }
        Reading::Scrape(Scrape { total: vec![series("all", samples(10.0))], failed: vec![series("5xx", samples(0.1))] })
    }

    fn past_id(&self) -> Option<String> {
        Some("a server, a selector".to_owned())
    }
}

fn wanted(history: SignedDuration) -> Wanted {
    Wanted { name: "web errors".to_owned(), from: now() - history, to: now(), every: EVERY }
}

/// What is known in the end, and how long it took.
async fn gathered(source: &Source, store: &Store, history: SignedDuration) -> (ErrorsBaseline, Duration) {
    let began = Instant::now();
    let clock = Clock::begin(now() + minutes(1), None);
    let past = gather(source, store, &wanted(history), clock).await.load(store).await;
    (baseline(&past, history), began.elapsed())
}

fn baseline(past: &Past, history: SignedDuration) -> ErrorsBaseline {
    let errors = SignalName("errors".to_owned());
    let policy = SignalPolicy { kind: SignalKind::Errors, role: Role::Own, every: EVERY, has_history: true, source: "a server".to_owned() };
    let service = Service {
        name: ServiceName::try_from("web").unwrap(),
        environment: "production".to_owned(),
        platform: "a test".to_owned(),
        window: minutes(30),
        signals: std::iter::once((errors.clone(), policy)).collect(),
        matrix: Matrix::default(),
        decision: Decision { history, ..Decision::default() },
        verification: Verification::default(),
        restore: Restore::Template,
        dry_run: false,
        promote_on_probes: false,
        rollbacks_per_day: 3,
    };
    match Evidence::baseline_of_past(&service, &errors, past, now(), &[]) {
        Baseline::Errors(errors) => errors,
        other => panic!("{other:?}"),
    }
}

/// Whether a whole number is the one expected.
fn is(number: f64, expected: f64) -> bool {
    (number - expected).abs() < 0.5
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

#[tokio::test(start_paused = true)]
async fn a_day_comes_in_few_pieces_and_the_second_time_only_what_is_new_is_fetched() {
    let directory = tempfile::tempdir().unwrap();
    for store in [Store::default(), Store::in_directory(directory.path())] {
        let source = Source::of(DAY * 30);
        let (first, _) = gathered(&source, &store, DAY).await;
        let asked = source.asked();
        assert_eq!(
            asked,
            [("21 10:20", 81), ("21 09:00", 241), ("21 05:00", 481), ("20 21:00", 481), ("20 13:00", 181), ("14 11:00", 61)]
                .map(|(end, minutes)| (end.to_owned(), minutes))
        );
        let (again, _) = gathered(&source, &store, DAY).await;
        assert_eq!(source.asked(), [("21 10:20".to_owned(), 21)], "the present hour");
        assert_eq!(again, first);
        assert!(first.knows_a_day);
        assert!(is(first.requests, 24.0 * 240.0 * 10.0), "{}", first.requests);
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_process_had_fetched_before_it_was_killed_is_not_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let (source, store) = (Source::of(DAY * 30), Store::in_directory(directory.path()));
    let clock = Clock::begin(now(), None);
    let cut = tokio::time::timeout(Duration::from_millis(250), gather(&source, &store, &wanted(DAY), clock)).await;
    assert!(cut.is_err(), "it was killed");
    assert_eq!(source.asked().len(), 3);
    let (baseline, _) = gathered(&source, &Store::in_directory(directory.path()), DAY).await;
    assert_eq!(source.asked()[..2], [("21 10:20".to_owned(), 21), ("21 05:00".to_owned(), 241)]);
    assert!(is(baseline.requests, 24.0 * 240.0 * 10.0), "{}", baseline.requests);
}

#[tokio::test(start_paused = true)]
async fn an_hour_that_just_ended_is_fetched_again_because_samples_may_come_late() {
    let store = Store::default();
    let source = Source::of(DAY * 30);
    let early = now() - minutes(15);
    let wanted = Wanted { to: early, ..wanted(minutes(60)) };
    for _ in 0..2 {
        gather(&source, &store, &wanted, Clock::begin(early, None)).await;
    }
    let present: Vec<_> = source.asked().into_iter().filter(|(end, _)| end == "21 10:05").collect();
    assert_eq!(present, [("21 10:05".to_owned(), 66), ("21 10:05".to_owned(), 66)]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_new_is_judged_by_what_there_is_and_that_is_known() {
    let (baseline, took) = gathered(&Source::of(minutes(45)), &Store::default(), DAY).await;
    assert_eq!((baseline.span.from, baseline.knows_a_day), (now() - minutes(45), false));
    assert!(is(baseline.requests, 45.0 * 4.0 * 10.0), "{}", baseline.requests);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let (nothing, took) = gathered(&Source::of(SignedDuration::ZERO), &Store::default(), DAY).await;
    assert_eq!((nothing.intervals, nothing.span.from), (0, now()));
    assert!((nothing.upper - 1.0).abs() < f64::EPSILON && took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_without_a_past_keeps_nobody_waiting() {
    let source = Source::of(DAY).but(|_, _| Some(Missing::NoHistory));
    let (baseline, took) = gathered(&source, &Store::default(), DAY).await;
    assert_eq!((baseline.intervals, took), (0, Duration::ZERO + source.takes));
}

#[tokio::test(start_paused = true)]
async fn hours_that_fail_are_left_out_after_forty_seconds() {
    fn old(_: Timestamp, to: Timestamp) -> Option<Missing> {
        (to < now() - minutes(600)).then(|| Missing::Refused("status 422: the block is broken".to_owned()))
    }
    let (baseline, took) = gathered(&Source::of(DAY * 30).but(old), &Store::default(), DAY).await;
    assert!(took.abs_diff(IN_TIME) <= Duration::from_secs(1), "{took:?}");
    assert!(!baseline.knows_a_day && baseline.requests > 9.0 * 240.0 * 10.0, "{}", baseline.requests);
}

#[tokio::test(start_paused = true)]
async fn an_hour_that_fails_keeps_no_other_away() {
    fn one(from: Timestamp, to: Timestamp) -> Option<Missing> {
        let broken = now() - minutes(400);
        (from < broken && broken < to).then(|| Missing::Refused("status 422: the block is broken".to_owned()))
    }
    let (baseline, took) = gathered(&Source::of(DAY * 30).but(one), &Store::default(), DAY).await;
    assert!(is(baseline.requests, 23.0 * 240.0 * 10.0), "{}", baseline.requests);
    assert!(baseline.knows_a_day && took.abs_diff(IN_TIME) <= Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn pieces_that_are_too_much_for_a_server_become_shorter() {
    fn large(from: Timestamp, to: Timestamp) -> Option<Missing> {
        (to.duration_since(from) > minutes(130)).then(|| Missing::Unreachable("no answer within 10s".to_owned()))
    }
    let source = Source::of(DAY * 30).but(large);
    let (baseline, took) = gathered(&source, &Store::default(), DAY).await;
    assert!(is(baseline.requests, 24.0 * 240.0 * 10.0), "{}", baseline.requests);
    assert!(took < IN_TIME, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_keeps_a_baseline_waiting_for_forty_seconds_and_no_longer() {
    let source = Source::of(DAY * 30).slow(Duration::from_secs(15));
    let (baseline, took) = gathered(&source, &Store::default(), DAY).await;
    assert_eq!(took, IN_TIME);
    assert_eq!(source.asked().len(), 3);
    assert!(baseline.requests > 0.0 && !baseline.knows_a_day);
}

#[tokio::test(start_paused = true)]
async fn who_knows_nothing_at_all_asks_until_there_is_an_answer() {
    let source = Arc::new(Source::of(DAY * 30).but(|_, _| Some(Missing::Unreachable("connection refused".to_owned()))));
    let later = Arc::clone(&source);
    tokio::spawn(async move {
        sleep(Duration::from_mins(10)).await;
        *later.fate.lock().unwrap() = |_, _| None;
    });
    let (baseline, took) = gathered(&source, &Store::default(), DAY).await;
    assert!(took >= Duration::from_mins(10) && took < Duration::from_mins(12), "{took:?}");
    assert!(baseline.requests > 0.0);
    assert!(source.asked().len() < 40, "with pauses");
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_serves_while_the_server_is_away() {
    let store = Store::default();
    gathered(&Source::of(DAY * 30), &store, DAY).await;
    let away = Source::of(DAY * 30).but(|_, _| Some(Missing::Unreachable("connection refused".to_owned())));
    let (baseline, took) = gathered(&away, &store, DAY).await;
    assert!(took <= IN_TIME + Duration::from_secs(1), "{took:?}");
    assert!(baseline.knows_a_day);
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_and_cannot_be_read_is_fetched_again() {
    let store = Store::default();
    let source = Source::of(DAY * 30);
    let (first, _) = gathered(&source, &store, DAY).await;
    let id = PastId::new(&source.past_id().unwrap(), EVERY);
    store.keep(id, vec![(Hour::of(now() - minutes(300)), vec![9, 9, 9])], now()).await;
    source.asked();
    let (again, _) = gathered(&source, &store, DAY).await;
    assert_eq!(source.asked().len(), 2);
    assert_eq!(again, first);
}
