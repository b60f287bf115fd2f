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
    let intervals = past.intervals(Timestamp::MIN, Timestamp::MAX);
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
    let covered = past.intervals(Timestamp::MIN, Timestamp::MAX).iter().fold(SignedDuration::ZERO, |sum, one| sum + one.covered);
    assert!((covered - SignedDuration::from_hours(6)).abs() <= EVERY, "{covered:?}");
    assert!(past.intervals(Timestamp::MIN, Timestamp::MAX).is_sorted_by(|a, b| a.at <= b.at));
}

#[test]
fn a_part_that_is_asked_for_is_as_it_is_in_the_whole() {
    let mut scrape = replicas(3, -60, hours(6));
    for series in scrape.total.iter_mut().chain(&mut scrape.failed) {
        series.samples.retain(|sample| sample.at <= at(hours(2)) || sample.at >= at(hours(4) - 5));
    }
    let mut past = Past::new(EVERY);
    fetch(&mut past, &scrape, 0, 6);
    let whole = past.intervals(Timestamp::MIN, Timestamp::MAX);
    for (from, to) in [(0, 6), (1, 2), (3, 6), (4, 5), (5, 6), (2, 4)].map(|(from, to)| (at(hours(from)), at(hours(to)))) {
        let inside = |intervals: &[Interval]| -> Vec<Interval> {
            intervals.iter().filter(|one| one.from >= from && one.at <= to).copied().collect()
        };
        let some = past.intervals(from, to);
        assert_eq!(inside(&some), inside(&whole), "{from} to {to}");
    }
    assert!(past.intervals(at(hours(4)), at(hours(5))).len() < whole.len() / 2, "hours that nobody asks for are not read");
}

#[test]
fn a_gap_stays_a_gap() {
    let mut scrape = replicas(1, -60, hours(2));
    for series in scrape.total.iter_mut().chain(&mut scrape.failed) {
        series.samples.retain(|sample| sample.at <= at(600) || sample.at >= at(1200));
    }
    let mut past = Past::new(EVERY);
    fetch(&mut past, &scrape, 0, 2);
    let intervals = past.intervals(Timestamp::MIN, Timestamp::MAX);
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
    assert_eq!(again.intervals(Timestamp::MIN, Timestamp::MAX), past.intervals(Timestamp::MIN, Timestamp::MAX));
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
    let busiest = again.route("/19", Timestamp::MIN, Timestamp::MAX);
    assert!((busiest.iter().map(|one| one.counts.count).sum::<f64>() - 240.0 * 190.0).abs() < 0.5);
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
    let numbers =
        |from: i64, to: i64| -> Vec<i64> { Past::wanted(at(from), at(to)).iter().map(|hour| hour.number() - BEGIN / 3600).collect() };
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
    assert!(past.intervals(Timestamp::MIN, Timestamp::MAX).first().is_some_and(|first| first.at > at(hours(23))));
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

mod baselines {
    use std::collections::BTreeMap;

    use super::*;
    use crate::baseline::{Baseline, ErrorsBaseline};
    use crate::decide::world::policy;
    use crate::entry::DeploymentId;
    use crate::evidence::{Evidence, Excluded};
    use crate::service::{Role, Service, SignalKind, SignalName, SignalPolicy};
    use crate::severity::Impact;

    fn errors() -> SignalName {
        SignalName("errors".to_owned())
    }

    /// A service that knows so many hours of its past, at most.
    fn service(history: i64) -> Service {
        let mut service = policy("checkout");
        let errors_policy = SignalPolicy {
            kind: SignalKind::Errors,
            role: Role::Own,
            every: EVERY,
            has_history: true,
            source: "prometheus main".to_owned(),
        };
        service.signals = BTreeMap::from([(errors(), errors_policy)]);
        service.decision.history = SignedDuration::from_hours(history);
        service
    }

    /// A hundred requests between two scrapes, and so many failures of them at a time.
    fn counted(from: i64, to: i64, requests: f64, failures: impl Fn(i64) -> f64) -> Past {
        let (mut all, mut failed) = (vec![], vec![]);
        let (mut total, mut bad) = (0.0, 0.0);
        for second in (from..=to).step_by(15) {
            total += requests;
            bad += failures(second);
            all.push(Sample { at: at(second), value: total });
            failed.push(Sample { at: at(second), value: bad });
        }
        let series = |id: &str, samples| Series { id: id.to_owned(), target: "a".to_owned(), process_started: None, route: None, samples };
        let mut past = Past::new(EVERY);
        past.take(&Reading::Scrape(Scrape { total: vec![series("all", all)], failed: vec![series("5xx", failed)] }), at(from), at(to));
        past
    }

    fn baseline(history: i64, past: &Past, excluded: &[Excluded]) -> ErrorsBaseline {
        match Evidence::baseline_of_past(&service(history), &errors(), past, at(0), excluded) {
            Baseline::Errors(baseline) => baseline,
            other => panic!("{other:?}"),
        }
    }

    const DAY: i64 = 24 * 3600;

    #[test]
    fn a_day_in_pieces_gives_the_baseline_that_all_raw_samples_give() {
        let scrape = replicas(4, -DAY - 120, 0);
        let mut past = Past::new(EVERY);
        for hour in (-24..0).rev() {
            fetch(&mut past, &scrape, hour, 1);
        }
        let whole = Evidence::baseline_of_history(&service(24), &errors(), &scrape, at(0), &[]);
        let Baseline::Errors(whole) = whole else { panic!("{whole:?}") };
        let pieced = baseline(24, &past, &[]);
        assert!(pieced.knows_a_day && whole.knows_a_day);
        // The replicas' scrapes that were under way at the begin belong to neither.
        assert!((pieced.requests - whole.requests).abs() <= 40.0, "{} {}", pieced.requests, whole.requests);
        assert!((pieced.upper - whole.upper).abs() < 1e-4 && (pieced.cluster - whole.cluster).abs() < 0.1, "{pieced:?} {whole:?}");
    }

    #[test]
    fn last_weeks_bad_half_hour_is_tolerated_at_its_hour_and_is_no_part_of_the_day() {
        let mut past = counted(-DAY, 0, 100.0, |_| 0.0);
        let calm = baseline(24, &past, &[]);
        let week = -7 * DAY;
        past.join(counted(week - 3600, week + 3600, 100.0, |second| if (week..week + 1800).contains(&second) { 8.0 } else { 0.0 }));
        let batch = baseline(24, &past, &[]);
        assert_eq!((batch.requests, batch.failed, batch.span.from), (calm.requests, 0.0, calm.span.from));
        assert!(calm.upper < 0.001 && batch.upper > 0.08, "{} {}", calm.upper, batch.upper);
        let incident = [(at(week - 60), at(week + 1860))];
        assert!(baseline(24, &past, &incident).upper < 0.001, "what was ours is left out there too");
    }

    #[test]
    fn a_history_that_is_shorter_than_a_day_knows_yesterdays_half_hour_too() {
        let mut past = counted(-2 * 3600, 0, 100.0, |_| 0.0);
        past.join(counted(-DAY, -DAY + 3600, 100.0, |second| if second <= -DAY + 1800 { 8.0 } else { 0.0 }));
        let batch = baseline(2, &past, &[]);
        assert!(batch.upper > 0.08 && !batch.knows_a_day && batch.failed.abs() < 1.0, "{batch:?}");
    }

    #[test]
    fn a_half_hour_in_which_nobody_asked_anything_says_nothing() {
        let quiet_then = |second: i64| if (-DAY..=-DAY + 1800).contains(&second) { 0.0 } else { 100.0 };
        let (mut all, mut value) = (vec![], 0.0);
        for second in (-DAY - 60..=0).step_by(15) {
            value += quiet_then(second);
            all.push(Sample { at: at(second), value });
        }
        let series = Series { id: "all".to_owned(), target: "a".to_owned(), process_started: None, route: None, samples: all };
        let mut past = Past::new(EVERY);
        past.take(&Reading::Scrape(Scrape { total: vec![series], failed: vec![] }), at(-DAY), at(0));
        let known = baseline(24, &past, &[]);
        assert!(known.knows_a_day && known.upper < 0.001, "{}", known.upper);
    }

    #[test]
    fn what_is_excluded_is_excluded_when_it_is_used() {
        let past = counted(-DAY, 0, 100.0, |second| if (-7200..-3600).contains(&second) { 90.0 } else { 0.0 });
        let kept = past.encode(Hour::of(at(-5400))).expect("it is kept all the same");
        assert!(kept.len() > 500);
        assert!(baseline(24, &past, &[]).failed > 1_000.0);
        let calm = baseline(24, &past, &[(at(-7300), at(-3500))]);
        assert!(calm.upper < 0.001 && calm.failed.abs() < 1.0, "{calm:?}");
        assert!(calm.bad.iter().all(|bad| bad.lasted.longest == 0));
    }

    #[test]
    fn routes_have_their_own_level_and_a_route_seldom_seen_is_a_gap() {
        let mut scrape = replicas(7, -3600 - 60, 0);
        for (route, series) in scrape.total.iter_mut().enumerate() {
            series.route = Some(format!("/{route}"));
        }
        for (route, series) in scrape.failed.iter_mut().enumerate() {
            series.route = Some(format!("/{route}"));
            if route > 0 {
                series.samples.clear();
            }
        }
        let mut past = Past::new(EVERY);
        fetch(&mut past, &scrape, -1, 1);
        let known = baseline(1, &past, &[]);
        assert_eq!(known.routes.len(), 5);
        let levels: Vec<_> = known.routes.values().map(|route| route.upper > 0.1).collect();
        assert_eq!(levels, [true, false, false, false, false]);
    }

    /// How many seconds after the grace a version that fails with 60 % of its requests is found out.
    fn found_after(history: i64) -> Option<i64> {
        let service = service(history);
        let past = counted(-history * 3600, 0, 100.0, |_| 0.0);
        let mut evidence = Evidence::new(&service);
        evidence.watch(&service, DeploymentId(1), at(0), SignedDuration::from_mins(10), at(0));
        let known = Evidence::baseline_of_past(&service, &errors(), &past, at(0), &[]);
        evidence.set_baselines(&service, &BTreeMap::from([(errors(), known)]));
        let (mut total, mut failed) = (0.0, 0.0);
        (0..1800).step_by(15).find_map(|second| {
            let series = |id: &str, value| Series {
                id: id.to_owned(),
                target: "a".to_owned(),
                process_started: None,
                route: None,
                samples: vec![Sample { at: at(second), value }],
            };
            let scrape = Scrape { total: vec![series("all", total)], failed: vec![series("5xx", failed)] };
            (total, failed) = (total + 100.0, failed + 60.0);
            evidence.observe(&service, &errors(), &Reading::Scrape(scrape), at(second));
            let verdict = evidence.verdict(&service, at(second))?;
            (verdict.impact == Impact::ErrorRatio).then_some(second - 60)
        })
    }

    #[test]
    fn who_knows_a_day_need_not_wait_as_long() {
        assert_eq!((found_after(24), found_after(23), found_after(1)), (Some(60), Some(60), Some(120)));
    }

    /// Twelve minutes in which everything failed, hours ago; now a tenth fails.
    #[test]
    fn one_incident_in_a_day_does_not_hide_a_broken_feature() {
        let incident = |second: i64| if (-30_000..-29_280).contains(&second) { 80.0 } else { 0.5 };
        let day = baseline(24, &counted(-DAY, 0, 100.0, incident), &[]);
        assert!(day.upper < 0.02 && day.cluster < 20.0, "{} {}", day.upper, day.cluster);
        let half = baseline(12, &counted(-DAY / 2, 0, 100.0, incident), &[]);
        assert!(half.cluster > 100.0, "half a day can't tell it from what is usual: {}", half.cluster);
    }
}

mod histograms {
    use super::*;
    use crate::observation::{Histogram, HistogramSample};

    /// Two hours of a pod that answers ten requests each 15 s, half of them within 100 ms; its process began anew after an hour and a half.
    fn histogram() -> Histogram {
        let begin = Hour::from_number(400_000).expect("an hour").begin();
        let sample = |number: i64| {
            let counted = if number > 360 { number - 360 } else { number };
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let count = counted as f64 * 10.0;
            HistogramSample {
                at: begin + SignedDuration::from_secs(15 * number),
                count,
                sum: count * 0.15,
                below: vec![count / 2.0, count],
            }
        };
        Histogram {
            id: "durations".to_owned(),
            target: "pod".to_owned(),
            process_started: None,
            bounds: vec![0.1, 0.25],
            samples: (1..=480).map(sample).collect(),
        }
    }

    #[test]
    fn what_is_kept_of_a_histogram_is_the_same_when_it_is_read_again() {
        let every = SignedDuration::from_secs(15);
        let begin = Hour::from_number(400_000).expect("an hour").begin();
        let mut past = Past::new(every);
        past.take(&Reading::Histograms(vec![histogram()]), begin, begin + SignedDuration::from_hours(2));
        let mut again = Past::new(every);
        for number in 400_000..400_002 {
            let hour = Hour::from_number(number).expect("an hour");
            let bytes = past.encode(hour).expect("it is known");
            assert!(bytes.len() < 6 * 1024, "{}", bytes.len());
            again.decode(hour, &bytes).expect("it can be read");
            for cut in [1, 2, 9, bytes.len() - 1] {
                assert!(Past::new(every).decode(hour, &bytes[..cut]).is_err(), "{cut}");
            }
        }
        assert_eq!(again.timed(), past.timed());
        let requests: f64 = again.timed().iter().map(|one| one.counts.requests).sum();
        let fast: f64 = requests - again.timed().iter().map(|one| one.counts.certainly_slower_than(0.1)).sum::<f64>();
        assert_eq!((requests, fast), (4_790.0, 2_395.0), "the first sample is only a base");
    }
}
