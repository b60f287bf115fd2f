use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Samples at these seconds.
fn samples(values: &[(i64, f64)]) -> Vec<Sample> {
    values.iter().map(|&(second, value)| Sample { at: at(second), value }).collect()
}

/// One scrape at second 0 with a bucket for each bound and its count; the sum is 7.
fn scrape(buckets: &[(&str, f64)], count: f64) -> Parts {
    let mut parts = Parts::default();
    for (le, value) in buckets {
        parts.add(Part::Bucket, Some(le), samples(&[(0, *value)]));
    }
    parts.add(Part::Sum, None, samples(&[(0, 7.0)]));
    parts.add(Part::Count, None, samples(&[(0, count)]));
    parts
}

fn family() -> Family {
    Family::parse("http_request_duration_seconds").unwrap()
}

fn whole(parts: Parts) -> Histogram {
    let (mut runs, flaw) = parts.runs();
    assert_eq!((runs.len(), flaw), (1, None));
    family().histogram(&Labels::new(), "a".to_owned(), None, runs.remove(0))
}

fn left_out(parts: Parts) -> String {
    let (runs, flaw) = parts.runs();
    assert_eq!(runs, []);
    flaw.unwrap().to_string()
}

#[test]
fn a_histogram_is_named_by_what_its_parts_have_in_common_or_by_its_buckets() {
    for text in ["r_seconds{service=\"shop\"}", "r_seconds_bucket{service=\"shop\"}", "{__name__=\"r_seconds_bucket\", service='shop'}"] {
        let family = Family::parse(text).unwrap();
        assert_eq!(family.name(), "r_seconds", "{text}");
        assert_eq!(family.of_parts(), "{__name__=~\"r_seconds_bucket|r_seconds_sum|r_seconds_count\",service=\"shop\"}");
        assert_eq!(family.of_counts(), "{__name__=\"r_seconds_count\",service=\"shop\"}");
        assert_eq!(family.of_base(), "{__name__=\"r_seconds\",service=\"shop\"}");
    }
}

#[test]
fn what_names_no_histogram_is_refused_with_the_reason() {
    for (text, why) in [
        ("{__name__=~\"r_.*\"}", "it names no metric"),
        ("_bucket", "it names no metric"),
        ("r_seconds_count", "r_seconds_count is a part of a histogram, not the histogram r_seconds"),
        ("r_seconds_bucket{le=\"0.5\"}", "it asks for a label `le`, so that it means single buckets"),
        ("rate(r_seconds[5m])", "not a plain selector: no function may stand here, only the counter itself; at character 5"),
    ] {
        assert_eq!(Family::parse(text).unwrap_err().to_string(), why, "{text}");
    }
}

#[test]
fn the_parts_of_one_scrape_are_one_sample() {
    let histogram = whole(scrape(&[("0.5", 4.0), ("+Inf", 9.0), ("0.1", 2.0), ("1", 8.0)], 9.0));
    assert_eq!(histogram.bounds, [0.1, 0.5, 1.0]);
    assert_eq!(histogram.samples, [HistogramSample { at: at(0), count: 9.0, sum: 7.0, below: vec![2.0, 4.0, 8.0] }]);
}

#[test]
fn a_scrape_of_which_a_part_is_missing_is_left_out() {
    let parts = |bucket: &[(i64, f64)], sum: &[(i64, f64)], count: &[(i64, f64)]| {
        let mut parts = Parts::default();
        parts.add(Part::Bucket, Some("0.1"), samples(bucket));
        parts.add(Part::Sum, None, samples(sum));
        parts.add(Part::Count, None, samples(count));
        let (runs, flaw) = parts.runs();
        (runs.iter().flat_map(|run| &run.samples).map(|sample| sample.at.as_second()).collect::<Vec<_>>(), flaw)
    };
    let all = [(0, 1.0), (15, 2.0), (30, 3.0)];
    assert_eq!(parts(&all, &all, &all), (vec![0, 15, 30], None));
    assert_eq!(parts(&all[1..], &all, &all), (vec![15, 30], Some(Flaw::Incomplete)));
    assert_eq!(parts(&all, &all[..2], &all), (vec![0, 15], Some(Flaw::Incomplete)));
    assert_eq!(parts(&all, &all, &[all[0], all[2]]), (vec![0, 30], None));
    assert_eq!(parts(&all, &all, &[]), (vec![], Some(Flaw::Incomplete)));
    assert_eq!(parts(&all, &[(1, 1.0)], &all), (vec![], Some(Flaw::Incomplete)));
}

/// Scrapes at second 0, 15, 30, …: the bounds that each has, and its count.
fn scrapes(scrapes: &[(&[&str], f64)]) -> Vec<(Vec<f64>, Vec<i64>)> {
    let mut series: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
    let mut counts = Vec::new();
    for (second, (bounds, count)) in (0..).step_by(15).zip(scrapes) {
        for le in *bounds {
            series.entry(le).or_default().push(Sample { at: at(second), value: *count });
        }
        counts.push((second, *count));
    }
    let mut parts = Parts::default();
    for (le, samples) in series {
        parts.add(Part::Bucket, Some(le), samples);
    }
    parts.add(Part::Sum, None, samples(&counts));
    parts.add(Part::Count, None, samples(&counts));
    let runs = parts.runs().0;
    runs.into_iter().map(|run| (run.bounds, run.samples.iter().map(|sample| sample.at.as_second()).collect())).collect()
}

#[test]
fn where_the_bounds_change_nothing_is_counted_from_the_old_ones_to_the_new_ones() {
    let (old, new): (&[&str], &[&str]) = (&["0.1", "1"], &["0.1", "0.5", "1"]);
    let changed = scrapes(&[(old, 5.0), (old, 6.0), (new, 1.0), (new, 2.0)]);
    assert_eq!(changed, [(vec![0.1, 1.0], vec![0, 15]), (vec![0.1, 0.5, 1.0], vec![30, 45])]);
    let back = scrapes(&[(new, 5.0), (old, 1.0), (new, 0.0)]);
    assert_eq!(back.iter().map(|(_, seconds)| seconds.clone()).collect::<Vec<_>>(), [[0], [15], [30]]);
}

#[test]
fn a_scrape_that_lacks_a_bucket_and_counts_on_is_no_change_of_bounds() {
    let (all, some): (&[&str], &[&str]) = (&["0.1", "0.5", "1"], &["0.1", "1"]);
    assert_eq!(scrapes(&[(all, 5.0), (some, 6.0), (some, 6.0), (all, 7.0)]), [(vec![0.1, 0.5, 1.0], vec![0, 45])]);
    // At the edge of a look it may come first.
    assert_eq!(scrapes(&[(some, 5.0), (all, 6.0), (all, 7.0)])[1], (vec![0.1, 0.5, 1.0], vec![15, 30]));
}

#[test]
fn a_bound_that_is_written_anew_in_the_middle_stays_the_same() {
    let mut parts = scrape(&[("1", 1.0)], 3.0);
    parts.add(Part::Bucket, Some("1.0"), samples(&[(15, 2.0)]));
    (parts.sum, parts.count) = (samples(&[(0, 1.0), (15, 2.0)]), samples(&[(0, 3.0), (15, 4.0)]));
    let histogram = whole(parts);
    assert_eq!((histogram.bounds.as_slice(), histogram.samples.len()), ([1.0].as_slice(), 2));
}

#[test]
fn what_is_no_histogram_of_counts_is_left_out_with_the_reason() {
    let good = [("0.1", 2.0), ("1", 8.0)];
    let no_counts = "what it has are no counts: not a number, negative, or fewer below a higher bound";
    for (buckets, count, why) in [
        ([("0.1", 2.0), ("fast", 8.0)], 9.0, "a bucket whose `le` is no number: \"fast\""),
        ([("0.1", 2.0), ("NaN", 8.0)], 9.0, "a bucket whose `le` is no number: \"NaN\""),
        ([("0.1", 2.0), ("", 8.0)], 9.0, "a bucket whose `le` is no number: \"\""),
        ([("0.1", 2.0), ("1e-1", 8.0)], 9.0, "a part of it is there twice"),
        ([("0.1", 8.0), ("1", 2.0)], 9.0, no_counts),
        ([("0.1", f64::NAN), ("1", 2.0)], 9.0, no_counts),
        ([("0.1", -1.0), ("1", 2.0)], 9.0, no_counts),
        (good, f64::NAN, no_counts),
        (good, f64::INFINITY, no_counts),
        (good, 7.0, no_counts),
        ([("-1", 2.0), ("+Inf", 8.0)], 9.0, "of its buckets only `+Inf` is of use, which tells no duration: others are needed"),
    ] {
        assert_eq!(left_out(scrape(&buckets, count)), why, "{buckets:?} {count}");
    }
    for sum in [f64::NAN, f64::NEG_INFINITY, -0.1] {
        let mut parts = scrape(&good, 9.0);
        parts.sum = samples(&[(0, sum)]);
        assert_eq!(left_out(parts), no_counts, "{sum}");
    }
    let mut twice = scrape(&good, 9.0);
    twice.add(Part::Count, None, samples(&[(0, 9.0)]));
    assert_eq!(left_out(twice), "a part of it is there twice");
}

#[test]
fn of_seventy_buckets_sixty_four_are_kept_and_the_highest_is_among_them() {
    let bounds: Vec<String> = (1..=70).map(|bound| bound.to_string()).collect();
    let buckets: Vec<_> = bounds.iter().map(|le| (le.as_str(), le.parse().unwrap())).collect();
    let histogram = whole(scrape(&buckets, 70.0));
    assert_eq!((histogram.bounds.len(), histogram.bounds.last()), (64, Some(&70.0)));
    assert!(histogram.bounds.is_sorted_by(|one, next| one < next));
    assert_eq!(histogram.samples[0].below, histogram.bounds, "each count stays with its bound");

    let bounds: Vec<String> = (1..=1100).map(|bound| bound.to_string()).collect();
    let buckets: Vec<_> = bounds.iter().map(|le| (le.as_str(), 1.0)).collect();
    assert_eq!(left_out(scrape(&buckets, 1.0)), "it has more than 1024 buckets");
}

#[test]
fn durations_in_another_unit_become_seconds() {
    let family = Family::parse("http_server_duration_milliseconds").unwrap();
    let run = scrape(&[("5", 1.0), ("250", 2.0)], 2.0).runs().0.remove(0);
    let histogram = family.histogram(&Labels::new(), "a".to_owned(), None, run);
    assert_eq!((histogram.bounds.as_slice(), histogram.samples[0].sum), ([0.005, 0.25].as_slice(), 0.007));
}

#[test]
fn what_is_there_is_told_in_a_line() {
    let of = |buckets: &[(&str, f64)]| whole(scrape(buckets, 9.0));
    let (one, other) = (of(&[("0.005", 1.0), ("2.5", 2.0), ("10", 2.0)]), of(&[("0.5", 1.0)]));
    assert_eq!(described(std::slice::from_ref(&one)), "1 histogram with 3 buckets from 5ms to 10s");
    assert_eq!(described(std::slice::from_ref(&other)), "1 histogram with 1 bucket from 500ms to 500ms");
    assert_eq!(described(&[one, other]), "2 histograms with 1 to 3 buckets from 5ms to 10s");
}

proptest! {
    #[test]
    fn whatever_comes_makes_samples_that_can_be_counted_with(
        series in prop::collection::vec(
            (0_usize..6, prop::sample::select(vec!["0.1", "0.5", "1", "1.0", "2", "-3", "+Inf", "x"]),
             prop::collection::btree_map(0_i64..6, prop::sample::select(vec![0.0, 1.0, 1.0, 2.0, 3.0, f64::NAN]), 0..6)),
            0..12,
        ),
    ) {
        let mut parts = Parts::default();
        for (kind, le, values) in series {
            let part = [Part::Bucket, Part::Bucket, Part::Bucket, Part::Bucket, Part::Sum, Part::Count][kind];
            let values: Vec<_> = values.into_iter().collect();
            parts.add(part, Some(le), samples(&values));
        }
        let (runs, _) = parts.runs();
        let times: Vec<_> = runs.iter().flat_map(|run| &run.samples).map(|sample| sample.at).collect();
        prop_assert!(times.is_sorted_by(|one, next| one < next));
        for run in runs {
            let histogram = family().histogram(&Labels::new(), String::new(), None, run);
            prop_assert!(!histogram.bounds.is_empty() && histogram.bounds.is_sorted_by(|one, next| one < next));
            for sample in histogram.samples {
                prop_assert_eq!(sample.below.len(), histogram.bounds.len());
                prop_assert!(sample.below.iter().chain([&sample.count]).is_sorted() && sample.sum >= 0.0);
            }
        }
    }
}
