use std::collections::BTreeSet;

use rollbackd_core::observation::HistogramSample;
use serde_json::{Value, json};
use url::Url;

use super::super::super::http::Access;
use super::super::super::testing::Peer;
use super::super::tests::{NOW, at, matrix, server, vector};
use super::*;

fn histograms(url: Url) -> Histograms {
    let server = Server { url, timeout: Duration::from_secs(20), access: Access::default() };
    let settings = Settings { server, histogram: "r_seconds_bucket{service=\"shop\"}".to_owned(), every: Duration::from_secs(15) };
    Histograms::new(settings, Arc::new(Clients::default())).unwrap()
}

fn told<T>(peer: &Peer, missing: Result<T, Missing>) -> Result<T, String> {
    missing.map_err(|missing| missing.to_string().replace(&peer.at.to_string(), "server"))
}

async fn look(peer: &Peer) -> Result<Vec<Histogram>, String> {
    match histograms(peer.url("/")).read(at(NOW)).await {
        Reading::Histograms(histograms) => Ok(histograms),
        Reading::Missing(missing) => told(peer, Err(missing)),
        other => panic!("not histograms: {other:?}"),
    }
}

/// What a server makes of a look whose question about the parts is answered so, and every other with nothing.
async fn look_with(parts: Value) -> Result<Vec<Histogram>, String> {
    look(&answering(parts).await).await
}

async fn answering(parts: Value) -> Peer {
    server(move |query| if query.ends_with("ms]") { matrix(&parts) } else { vector(&json!([])) }).await.0
}

/// One series of one instance, with a value at each of these seconds before now.
fn series(name: &str, instance: &str, le: Option<&str>, values: &[(i64, &str)]) -> Value {
    let mut metric = json!({"__name__": name, "job": "shop", "instance": instance, "service": "shop"});
    if let Some(le) = le {
        metric["le"] = json!(le);
    }
    let values: Vec<_> = values.iter().map(|(ago, value)| json!([NOW - ago, value])).collect();
    json!({"metric": metric, "values": values})
}

/// The series of one instance whose scrapes 20 and 5 seconds ago have one more bucket than the oldest one, which was another process.
fn of_instance(instance: &str) -> Vec<Value> {
    vec![
        series("r_seconds_count", instance, None, &[(35, "90"), (20, "10"), (5, "14")]),
        series("r_seconds_sum", instance, None, &[(35, "9"), (20, "1.5"), (5, "2.25")]),
        series("r_seconds_bucket", instance, Some("+Inf"), &[(35, "90"), (20, "10"), (5, "14")]),
        series("r_seconds_bucket", instance, Some("1.0"), &[(35, "80"), (20, "9"), (5, "13")]),
        series("r_seconds_bucket", instance, Some("0.25"), &[(20, "7"), (5, "8")]),
    ]
}

#[tokio::test]
async fn histograms_come_with_their_target_and_process_and_the_bounds_they_have_now() {
    let (peer, questions) = server(|query| {
        if query.starts_with("process") {
            let metric = json!({"job": "shop", "instance": "b:80"});
            vector(&json!([{"metric": metric, "value": [NOW, (NOW - 30).to_string()]}]))
        } else {
            matrix(&json!([of_instance("a:80"), of_instance("b:80")].concat()))
        }
    })
    .await;
    let found = look(&peer).await.unwrap();
    let sample = |ago, count, sum, below: [f64; 2]| HistogramSample { at: at(NOW - ago), count, sum, below: below.to_vec() };
    let samples = [sample(20, 10.0, 1.5, [7.0, 9.0]), sample(5, 14.0, 2.25, [8.0, 13.0])];
    for histogram in &found {
        assert_eq!((histogram.bounds.as_slice(), histogram.samples.as_slice()), ([0.25, 1.0].as_slice(), samples.as_slice()));
    }
    let whose: Vec<_> = found.iter().map(|histogram| (histogram.target.as_str(), histogram.process_started)).collect();
    assert_eq!(whose, [("shop/a:80", None), ("shop/b:80", Some(at(NOW - 30)))]);
    assert_eq!(found[0].id, "r_seconds{instance=\"a:80\",job=\"shop\",service=\"shop\"}");

    let queries: Vec<_> = questions.lock().unwrap().iter().map(|(query, _)| query.clone()).collect();
    let expected = [
        "time()",
        "{__name__=~\"r_seconds_bucket|r_seconds_sum|r_seconds_count\",service=\"shop\"}[600000ms]",
        "process_start_time_seconds and on (job, instance) ({__name__=\"r_seconds_count\",service=\"shop\"})",
    ];
    assert_eq!(queries, expected);
}

#[tokio::test]
async fn a_server_whose_clock_is_wrong_is_told_by_its_own_time() {
    let peer = answering(json!(of_instance("a:80"))).await;
    let hour = SignedDuration::from_hours(1);
    let Reading::Histograms(found) = histograms(peer.url("/")).read(at(NOW) + hour).await else { panic!("no histograms") };
    assert_eq!(found[0].samples.last().unwrap().at, at(NOW - 5) + hour);
}

#[tokio::test]
async fn nothing_old_and_nothing_else_is_a_histogram() {
    assert_eq!(look_with(json!([])).await.unwrap_err(), "no series match r_seconds_bucket");
    let old = look_with(json!([series("r_seconds_count", "a", None, &[(31, "1")])])).await;
    assert_eq!(old.unwrap_err(), "newest sample is 31s old");
    let gone = look_with(json!([series("r_seconds_count", "a", None, &[])])).await;
    assert_eq!(gone.unwrap_err(), "no series match r_seconds_bucket");
    for (base, why) in [
        (
            json!([{"metric": {"__name__": "r_seconds"}, "histogram": [NOW, {"count": "1", "sum": "1", "buckets": [[0, "0", "1", "1"]]}]}]),
            "r_seconds is a native histogram, and classic buckets are needed: scrape them too (`always_scrape_classic_histograms`)",
        ),
        (
            json!([{"metric": {"__name__": "r_seconds", "quantile": "0.9"}, "value": [NOW, "0.2"]}]),
            "r_seconds is a metric without buckets: a histogram is needed",
        ),
    ] {
        let (peer, _) = server(move |query| if query.ends_with("ms]") { matrix(&json!([])) } else { vector(&base) }).await;
        assert_eq!(look(&peer).await.unwrap_err(), format!("answer not understood: http://server/: {why}"));
        assert!(told(&peer, histograms(peer.url("/")).examine().await).unwrap_err().ends_with(why));
    }
}

#[tokio::test]
async fn one_instance_that_makes_no_sense_is_left_out_and_only_all_of_them_are_nothing() {
    let mut parts = of_instance("a:80");
    parts.extend(of_instance("b:80"));
    parts.push(series("r_seconds_bucket", "b:80", Some("slow"), &[(20, "1"), (5, "1")]));
    let found = look_with(json!(parts)).await.unwrap();
    assert_eq!(found.iter().map(|histogram| histogram.target.as_str()).collect::<Vec<_>>(), ["shop/a:80"]);
    let why = "r_seconds{instance=\"b:80\",job=\"shop\",service=\"shop\"}: a bucket whose `le` is no number: \"slow\"";
    let nothing = look_with(json!(parts[5..])).await.unwrap_err();
    assert_eq!(nothing, format!("answer not understood: http://server/: {why}"));
    let peer = answering(json!(parts)).await;
    let examined = histograms(peer.url("/")).examine().await.unwrap();
    assert_eq!(examined.found, "1 histogram with 2 buckets from 250ms to 1s");
    assert_eq!(
        examined.oddities.last().unwrap().replace(&peer.at.to_string(), "server"),
        format!("http://server/: some are left out: {why}")
    );
}

#[tokio::test]
async fn hostile_histograms_cost_no_more_than_the_histogram() {
    let with = |name: &str, le: Option<&str>, value: &str| {
        let mut parts = of_instance("a:80");
        parts.retain(|part| part["metric"]["__name__"] != name || part["metric"]["le"] != le.map_or(Value::Null, |le| json!(le)));
        parts.push(series(name, "a:80", le, &[(20, value), (5, value)]));
        json!(parts)
    };
    for parts in [
        with("r_seconds_sum", None, "NaN"),
        with("r_seconds_count", None, "-1"),
        with("r_seconds_bucket", Some("1.0"), "+Inf"),
        with("r_seconds_bucket", Some("0.25"), "14"),
    ] {
        let why = look_with(parts).await.unwrap_err();
        assert!(why.contains("what it has are no counts"), "{why}");
    }
    let twice = with("r_seconds_bucket", Some("1"), "9");
    assert!(look_with(twice).await.unwrap_err().ends_with("a part of it is there twice"));
}

#[tokio::test]
async fn a_thousand_histograms_are_taken_and_one_more_is_too_many() {
    let many = |count: usize| {
        let parts = (0..count).flat_map(|index| {
            let part = |name: &str, le: Option<&str>| series(name, &index.to_string(), le, &[(0, "1")]);
            [part("r_seconds_bucket", Some("1")), part("r_seconds_sum", None), part("r_seconds_count", None)]
        });
        json!(parts.collect::<Vec<_>>())
    };
    let found = look_with(many(1000)).await.unwrap();
    assert_eq!(found.iter().map(|histogram| &histogram.id).collect::<BTreeSet<_>>().len(), 1000);
    assert_eq!(
        look_with(many(1001)).await.unwrap_err(),
        "answer too large: http://server/: 1001 histograms match r_seconds_bucket{service=\"shop\"}, at most 1000"
    );
}

#[tokio::test]
async fn the_past_has_a_histogram_for_each_time_with_the_same_bounds() {
    let parts = json!([
        series("r_seconds_count", "a", None, &[(60, "5"), (45, "1"), (30, "2"), (15, "1")]),
        series("r_seconds_sum", "a", None, &[(60, "5"), (45, "1"), (30, "2"), (15, "1")]),
        series("r_seconds_bucket", "a", Some("1.0"), &[(60, "5"), (45, "1"), (30, "2"), (15, "1")]),
        series("r_seconds_bucket", "a", Some("0.5"), &[(45, "1"), (30, "1")]),
    ]);
    let peer = answering(parts).await;
    let past = histograms(peer.url("/")).look_back(at(NOW - 60), at(NOW)).await.unwrap();
    let runs: Vec<_> = past.iter().map(|histogram| (histogram.bounds.as_slice(), histogram.samples.len())).collect();
    assert_eq!(runs, [([1.0].as_slice(), 1), ([0.5, 1.0].as_slice(), 2), ([1.0].as_slice(), 1)]);
    let none = histograms(answering(json!([])).await.url("/")).look_back(at(NOW - 60), at(NOW)).await;
    assert_eq!(none, Ok(Vec::new()));
}

#[tokio::test]
async fn a_check_tells_what_it_found_and_what_is_odd() {
    let peer = answering(json!([of_instance("a:80"), of_instance("b:80")].concat())).await;
    let said = histograms(peer.url("/")).check(at(NOW)).await.unwrap();
    assert_eq!(said.replace(&peer.at.to_string(), "server"), "2 histograms with 2 buckets from 250ms to 1s");
    let slow = |name: &str, le: Option<&str>| series(name, "a", le, &[(180, "1"), (120, "1"), (60, "1"), (0, "1")]);
    let parts = [slow("r_seconds_count", None), slow("r_seconds_sum", None), slow("r_seconds_bucket", Some("1"))];
    let peer = answering(json!(parts)).await;
    let said = histograms(peer.url("/")).check(at(NOW)).await.unwrap();
    assert_eq!(
        said.replace(&peer.at.to_string(), "server"),
        "1 histogram with 1 bucket from 1s to 1s; http://server/: r_seconds_bucket{service=\"shop\"} is scraped every 1m, so it is looked at as rarely, and not every 15s: everything that is told by it takes that much longer"
    );
}
