use proptest::prelude::*;

use super::*;
use crate::observation::{Sample, Series};

const EVERY: SignedDuration = SignedDuration::from_secs(15);

/// The story begins at a full hour.
const BEGIN: i64 = 1_795_003_200;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(BEGIN + second).expect("a time in range")
}

fn hours(number: i64) -> i64 {
    number * 3600
}

/// Replicas that are scraped every 15 s, each at a moment of its own, and count ten requests and one failure between two scrapes.
fn replicas(number: i64, from: i64, to: i64) -> Scrape {
    let series = |replica: i64, name: &str, step: f64| {
        let target = format!("pod-{replica}");
        let first = from.div_euclid(15) * 15 + replica;
        let seconds = (first..=to).step_by(15).filter(|second| *second >= from);
        #[expect(clippy::cast_precision_loss, reason = "seconds of a few days")]
        let sample = |second: i64| Sample { at: at(second), value: 1e6 + step * (second.div_euclid(15) as f64) };
        Series { id: format!("{name}-{replica}"), target, process_started: None, route: None, samples: seconds.map(sample).collect() }
    };
    let all = |name: &'static str, step: f64| (0..number).map(|replica| series(replica, name, step)).collect();
    Scrape { total: all("all", 10.0), failed: all("5xx", 1.0) }
}

/// What a source gives when it is asked for a time.
fn cut(scrape: &Scrape, from: Timestamp, to: Timestamp) -> Reading {
    let cut = |series: &Series| {
        let samples = series.samples.iter().filter(|sample| sample.at >= from && sample.at <= to).copied().collect();
        Series { samples, ..series.clone() }
    };
    let some = |series: &[Series]| series.iter().map(cut).filter(|series| !series.samples.is_empty()).collect();
    Reading::Scrape(Scrape { total: some(&scrape.total), failed: some(&scrape.failed) })
}

/// Fetches a piece of so many hours, with its overlap.
fn fetch(past: &mut Past, scrape: &Scrape, first: i64, number: i64) {
    let (from, to) = (at(hours(first)), at(hours(first + number)));
    past.take(&cut(scrape, from - Past::overlap(EVERY), to), from, to);
}

fn sums(past: &Past) -> (f64, f64) {
    let intervals = past.intervals();
    (intervals.iter().map(|one| one.counts.count).sum(), intervals.iter().map(|one| one.counts.failed).sum())
}

#[test]
fn what_is_counted_across_the_edge_of_a_piece_is_neither_lost_nor_doubled() {
    let scrape = replicas(3, -60, hours(4));
    let mut past = Past::new(EVERY);
    for first in 0..4 {
        fetch(&mut past, &scrape, first, 1);
    }
    // Three replicas, 240 scrapes an hour, ten requests from each to the next.
    assert_eq!(sums(&past), (3.0 * 240.0 * 4.0 * 10.0, 3.0 * 240.0 * 4.0));
}

#[test]
fn it_is_the_same_past_in_whatever_pieces_and_order_it_was_fetched() {
    let scrape = replicas(7, -60, hours(6));
    let fetched = |pieces: &[(i64, i64)]| {
        let mut past = Past::new(EVERY);
        for (first, number) in pieces {
            fetch(&mut past, &scrape, *first, *number);
        }
        past
    };
    let whole = fetched(&[(0, 6)]);
    assert_eq!(fetched(&[(5, 1), (3, 2), (0, 3)]), whole);
    assert_eq!(fetched(&[(0, 3), (2, 4), (4, 1)]), whole, "an hour that is fetched again is not counted again");
}

#[test]
fn intervals_follow_each_other_without_a_gap_and_cover_each_moment_once() {
    let scrape = replicas(7, -60, hours(6));
    let mut past = Past::new(EVERY);
    for first in [4, 2, 5, 0, 3, 1] {
        fetch(&mut past, &scrape, first, 1);
    }
    let covered = past.intervals().iter().fold(SignedDuration::ZERO, |sum, one| sum + one.covered);
    assert!((covered - SignedDuration::from_hours(6)).abs() <= EVERY, "{covered:?}");
    assert!(past.intervals().is_sorted_by(|a, b| a.at <= b.at));
}

#[test]
fn a_gap_stays_a_gap() {
    let mut scrape = replicas(1, -60, hours(2));
    for series in scrape.total.iter_mut().chain(&mut scrape.failed) {
        series.samples.retain(|sample| sample.at <= at(600) || sample.at >= at(1200));
    }
    let mut past = Past::new(EVERY);
    fetch(&mut past, &scrape, 0, 2);
    let intervals = past.intervals();
    let gap = intervals.iter().find(|one| one.at == at(1200)).expect("what came after the gap");
    assert_eq!((gap.from, gap.covered, gap.counts.count), (at(600), EVERY, 400.0));
    assert_eq!(intervals.iter().filter(|one| one.at > at(600) && one.at < at(1200)).count(), 0);
}

#[test]
fn what_is_kept_of_an_hour_is_small_and_is_the_same_hour_again() {
    let scrape = replicas(10, -60, hours(24));
    let mut past = Past::new(EVERY);
    fetch(&mut past, &scrape, 0, 24);
    let mut again = Past::new(EVERY);
    let mut bytes = 0;
    let mut hour = Hour::of(at(1));
    while hour.end() <= at(hours(24)) {
        let kept = past.encode(hour).expect("it is known");
        bytes += kept.len();
        again.decode(hour, &kept).expect("it was just kept");
        hour = hour.next();
    }
    assert_eq!(again.intervals(), past.intervals());
    assert!(bytes < 40 * 1024, "{bytes}");
    assert_eq!(past.encode(hour), None);
}

#[test]
fn routes_are_counted_by_themselves_too_and_only_the_busiest() {
    let mut scrape = replicas(20, -60, hours(1));
    for (route, series) in scrape.total.iter_mut().enumerate() {
        series.route = Some(format!("/{route}"));
        let faster = f64::from(u32::try_from(route).expect("a small number"));
        series.samples.iter_mut().for_each(|sample| sample.value *= faster);
    }
    let mut past = Past::new(EVERY);
    fetch(&mut past, &scrape, 0, 1);
    let hour = Hour::of(at(hours(1)));
    let mut again = Past::new(EVERY);
    again.decode(hour, &past.encode(hour).expect("it is known")).expect("it was just kept");
    assert_eq!(again, past);
    let routes: Vec<_> = again.hours[&hour].routes.iter().map(|(route, _)| route.as_str()).collect();
    assert_eq!(routes, ["/19", "/18", "/17", "/16", "/15", "/14", "/13", "/12"]);
    let busiest = again.route("/19");
    assert_eq!(busiest.iter().map(|one| one.counts.count).sum::<f64>(), 240.0 * 190.0);
}

#[test]
fn an_hour_that_was_cut_or_is_of_something_else_is_refused_and_changes_nothing() {
    let mut past = Past::new(EVERY);
    fetch(&mut past, &replicas(2, -60, hours(1)), 0, 1);
    let hour = Hour::of(at(hours(1)));
    let kept = past.encode(hour).expect("it is known");
    let before = past.clone();
    for length in 0..kept.len() {
        assert_eq!(past.decode(hour, &kept[..length]), Err(NotAnHour), "{length}");
    }
    assert_eq!(past.decode(hour, &[&kept[..], &[0]].concat()), Err(NotAnHour));
    assert_eq!(past.decode(hour, b"SQLite format 3"), Err(NotAnHour));
    assert_eq!(past, before);
}

#[test]
fn a_history_wants_its_hours_and_the_same_half_hour_of_yesterday_and_last_week() {
    let numbers = |from: i64, to: i64| -> Vec<i64> {
        Past::wanted(at(from), at(to)).iter().map(|hour| hour.number() - BEGIN / 3600).collect()
    };
    // An hour until twenty past ten.
    assert_eq!(numbers(hours(9) + 1200, hours(10) + 1200), [10, 9, -14, -158]);
    let day = numbers(hours(10) + 1200 - hours(24), hours(10) + 1200);
    assert_eq!((day.len(), day[0], day[24], day[25]), (26, 10, -14, -158));
    // At the full hour nothing is wanted that begins then.
    assert_eq!(numbers(hours(9), hours(10)), [9, -14, -158]);
    assert_eq!(Past::wanted(Timestamp::MIN, at(0)).len(), Past::MOST_HOURS + 4);
}

#[test]
fn what_is_remembered_is_bounded_in_time_and_bytes() {
    let mut past = Past::new(EVERY);
    fetch(&mut past, &replicas(1, -60, hours(48)), 0, 48);
    past.shorten(at(hours(24)), usize::MAX);
    assert!(past.intervals().first().is_some_and(|first| first.at > at(hours(23))));
    past.shorten(at(0), 10 * 1024);
    let bytes: usize = past.hours.values().map(Counted::bytes).sum();
    assert!(bytes <= 10 * 1024 && past.hours.len() > 3, "{bytes}");
    past.shorten(at(0), 0);
    assert_eq!(past.hours.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Counters that are lost now and then, fall back, repeat a sample, and say nonsense.
    #[test]
    fn pieces_count_what_one_look_at_everything_counts(
        steps in proptest::collection::vec((0_u8..20, 0_u32..50), 2 * 240 + 8),
        other in proptest::collection::vec((0_u8..20, 0_u32..50), 2 * 240 + 8),
    ) {
        let series = |name: &str, steps: &[(u8, u32)]| {
            let (mut value, mut samples, mut lost) = (1e6, Vec::new(), 0);
            for (second, (what, step)) in (-120..).step_by(15).zip(steps) {
                value += f64::from(*step);
                match what {
                    // No gap is longer than the overlap.
                    0 if lost < 2 => { lost += 1; continue; }
                    1 => value = f64::from(*step),
                    2 => samples.push(Sample { at: at(second - 15), value: 7.0 }),
                    3 => samples.push(Sample { at: at(second), value: f64::NAN }),
                    _ => {}
                }
                lost = 0;
                samples.push(Sample { at: at(second), value });
            }
            samples.sort_by_key(|sample| sample.at);
            Series { id: name.to_owned(), target: name.to_owned(), process_started: None, route: None, samples }
        };
        let scrape = Scrape { total: vec![series("a", &steps), series("b", &other)], failed: vec![] };
        let mut counter = Counter::new(EVERY);
        let expected: f64 = counter.take(&scrape, at(hours(2))).iter().filter(|one| one.at > at(0)).map(|one| one.requests).sum();
        let mut past = Past::new(EVERY);
        fetch(&mut past, &scrape, 1, 1);
        fetch(&mut past, &scrape, 0, 1);
        prop_assert!((sums(&past).0 - expected).abs() < 1e-6, "{} {}", sums(&past).0, expected);
    }
}
