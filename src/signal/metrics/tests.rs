use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::io::AsyncWriteExt as _;

use super::super::testing::{HEAD_IN_TIME, Peer, answer, request, write_for_ever};
use super::*;
use rollbackd_core::observation::{Sample, Series};

const TEXT: &str = r#"# TYPE http_requests_total counter
http_requests_total{code="200",path="/"} 100
http_requests_total{code="500",path="/"} 3
http_requests_total{code="200",path="/other"} 7
other_total 1
process_start_time_seconds 1.7e9
"#;

fn settings(targets: Vec<Url>) -> Settings {
    Settings { targets, wanted: counters(None), timeout: Duration::from_secs(20), access: Access::default() }
}

fn counters(by: Option<&str>) -> Wanted {
    Wanted::Counters {
        total: "http_requests_total{path=\"/\"}".to_owned(),
        failed: "http_requests_total{path=\"/\",code=~\"5..\"}".to_owned(),
        by: by.map(str::to_owned),
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_060).unwrap()
}

async fn look(settings: Settings) -> Result<Scrape, String> {
    let metrics = Metrics::new(settings, Arc::new(Clients::default())).unwrap();
    match metrics.read(now()).await {
        Reading::Scrape(scrape) => Ok(scrape),
        Reading::Missing(missing) => Err(missing.to_string()),
        other => panic!("not a scrape: {other:?}"),
    }
}

async fn look_at(peer: &Peer) -> Result<Scrape, String> {
    look(settings(vec![peer.url("/metrics")])).await
}

async fn serving(text: impl Into<String>) -> Peer {
    let text = text.into();
    Peer::answering(move |_| answer(200, "content-type: text/plain; version=0.0.4\r\n", &text)).await
}

#[tokio::test]
async fn counters_are_read_with_their_target_and_the_start_of_its_process() {
    let peer = serving(TEXT).await;
    let address = format!("http://{}/metrics", peer.at);
    let scrape = look_at(&peer).await.unwrap();
    let series = |code: &str, value| Series {
        id: format!("http_requests_total{{code=\"{code}\",instance=\"{address}\",path=\"/\"}}"),
        target: address.clone(),
        process_started: Some(Timestamp::from_second(1_700_000_000).unwrap()),
        route: None,
        samples: vec![Sample { at: now(), value }],
    };
    assert_eq!(scrape, Scrape { total: vec![series("200", 100.0), series("500", 3.0)], failed: vec![series("500", 3.0)] });
    assert!(peer.heads.lock().unwrap()[0].contains("accept: text/plain;version=0.0.4,"));
}

#[tokio::test]
async fn replicas_have_the_same_labels_and_different_series() {
    let (first, second) = (serving(TEXT).await, serving(TEXT).await);
    let same = Url::parse(&format!("{}?replica=b", first.url("/metrics"))).unwrap();
    let scrape = look(settings(vec![first.url("/metrics"), second.url("/metrics"), same])).await.unwrap();
    let ids: BTreeSet<_> = scrape.total.iter().map(|series| &series.id).collect();
    let targets: BTreeSet<_> = scrape.total.iter().map(|series| series.target.as_str()).collect();
    assert_eq!((scrape.total.len(), ids.len(), targets.len()), (6, 6, 3));
    assert!(targets.contains(format!("http://{}/metrics #2", first.at).as_str()), "{targets:?}");
}

#[tokio::test]
async fn a_replica_that_cannot_be_read_is_absent_and_only_all_of_them_are_nothing() {
    let (well, ill) = (serving(TEXT).await, Peer::answering(|_| answer(503, "", "")).await);
    let scrape = look(settings(vec![ill.url("/metrics"), well.url("/metrics")])).await.unwrap();
    assert_eq!(scrape.total.len(), 2);
    assert!(scrape.total.iter().all(|series| series.target.contains(&well.at.to_string())));
    let nothing = look(settings(vec![ill.url("/metrics"), ill.url("/")])).await.unwrap_err();
    assert_eq!(nothing, format!("source refused: http://{}/metrics: status 503", ill.at));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = Url::parse(&format!("http://{}/metrics", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    assert_eq!(look(settings(vec![gone.clone()])).await.unwrap_err(), format!("source unreachable: {gone}: connection refused"));
}

#[tokio::test]
async fn a_counter_that_is_not_there_is_no_series_and_no_failure_yet_is_fine() {
    let peer = serving("http_requests_total{code=\"200\",path=\"/\"} 1\n").await;
    let scrape = look_at(&peer).await.unwrap();
    assert_eq!((scrape.total.len(), scrape.failed.len()), (1, 0));
    assert_eq!(scrape.total[0].process_started, None);
    let peer = serving("other_total 1\n").await;
    assert_eq!(look_at(&peer).await.unwrap_err(), "no series match http_requests_total{path=\"/\"}");
    let peer = serving("").await;
    assert_eq!(look_at(&peer).await.unwrap_err(), "no series match http_requests_total{path=\"/\"}");
}

#[tokio::test]
async fn what_is_not_a_number_is_passed_on() {
    let peer = serving("http_requests_total{path=\"/\"} NaN\n").await;
    assert!(look_at(&peer).await.unwrap().total[0].samples[0].value.is_nan());
}

#[tokio::test]
async fn open_metrics_tells_when_each_series_began() {
    let text = "# TYPE http_requests counter\nhttp_requests_created{path=\"/\",code=\"500\"} 1700000030.5\nhttp_requests_total{path=\"/\",code=\"500\"} 3\n\
                http_requests_total{path=\"/\",code=\"200\"} 4\nprocess_start_time_seconds 1.7e9\n# EOF\n";
    let peer = Peer::answering(move |_| answer(200, "content-type: application/openmetrics-text; version=1.0.0\r\n", text)).await;
    let scrape = look_at(&peer).await.unwrap();
    let started: Vec<_> = scrape.total.iter().map(|series| series.process_started.unwrap().as_millisecond()).collect();
    assert_eq!(started, [1_700_000_030_500, 1_700_000_000_000]);

    let cut = Peer::answering(move |_| answer(200, "content-type: application/openmetrics-text\r\n", &text[..text.len() - 6])).await;
    assert!(look_at(&cut).await.unwrap_err().ends_with("it is not whole: no '# EOF' at its end"));
}

#[tokio::test]
async fn a_target_whose_clock_is_wrong_still_tells_when_its_process_began() {
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&(now() + SignedDuration::from_hours(1))).unwrap();
    let peer = Peer::answering(move |_| answer(200, &format!("date: {date}\r\n"), TEXT)).await;
    let started = look_at(&peer).await.unwrap().total[0].process_started;
    assert_eq!(started, Some(Timestamp::from_second(1_700_000_000 - 3600).unwrap()));
}

#[tokio::test]
async fn a_text_that_is_not_understood_is_nothing() {
    let peer = serving("<!DOCTYPE html>\n<p>Log in</p>\n").await;
    assert_eq!(
        look_at(&peer).await.unwrap_err(),
        format!("answer not understood: http://{}/metrics: line 1: expected a metric name", peer.at)
    );
    let peer = serving("http_requests_total{path=\"/\"} 1\nhttp_requests_total{path=\"/\"} 2\n").await;
    assert!(look_at(&peer).await.unwrap_err().ends_with("stands in it twice"));
    let redirecting = Peer::answering(|_| answer(302, "location: /login\r\n", "")).await;
    assert!(look_at(&redirecting).await.unwrap_err().ends_with("/metrics: status 302"));
    let bomb = Peer::answering(|_| answer(200, "content-encoding: gzip\r\n", [0x1f, 0x8b])).await;
    assert!(look_at(&bomb).await.unwrap_err().ends_with("the body is compressed, which was not asked for"));
    let cut = Peer::answering(|_| format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{TEXT}").into_bytes()).await;
    assert!(look_at(&cut).await.unwrap_err().contains("the body is not whole"));
}

#[tokio::test]
async fn more_series_or_bytes_than_are_taken_are_too_large() {
    let many = |count: usize| {
        (0..count).fold(String::new(), |mut text, index| {
            let _ = writeln!(text, "http_requests_total{{path=\"/\",shop=\"{index}\"}} 1");
            text
        })
    };
    let peer = serving(many(1000)).await;
    assert_eq!(look_at(&peer).await.unwrap().total.len(), 1000);
    let peer = serving(many(1001)).await;
    assert_eq!(look_at(&peer).await.unwrap_err(), "answer too large: more than 1000 series");
    let (first, second) = (serving(many(501)).await, serving(many(500)).await);
    let both = look(settings(vec![first.url("/"), second.url("/")])).await;
    assert_eq!(both.unwrap_err(), "answer too large: more than 1000 series");

    let endless = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        write_for_ever(&mut stream, "other_total 1\n".repeat(10_000).as_bytes(), Duration::ZERO).await;
    })
    .await;
    assert!(look_at(&endless).await.unwrap_err().ends_with("the body is larger than 8192 KiB"));
}

#[tokio::test]
async fn an_endless_replica_is_left_alone_for_a_while_and_the_others_are_not() {
    let endless = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        write_for_ever(&mut stream, "other_total 1\n".repeat(10_000).as_bytes(), Duration::ZERO).await;
    })
    .await;
    let well = serving(TEXT).await;
    let metrics = Metrics::new(settings(vec![endless.url("/"), well.url("/")]), Arc::new(Clients::default())).unwrap();
    for _ in 0..2 {
        let reading = metrics.read(now()).await;
        assert!(matches!(reading, Reading::Scrape(_)), "{reading:?}");
    }
    assert_eq!((*endless.connections.lock().unwrap(), *well.connections.lock().unwrap()), (1, 2));
}

#[tokio::test]
async fn an_endpoint_that_hangs_or_drips_costs_its_time_and_no_more() {
    let silent = Peer::behaving(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let dripping = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        write_for_ever(&mut stream, b"r 1\n", Duration::from_millis(10)).await;
    })
    .await;
    let hurried = |peer: &Peer, timeout| Settings { timeout, ..settings(vec![peer.url("/")]) };
    assert!(look(hurried(&silent, Duration::from_millis(250))).await.unwrap_err().ends_with("no answer within 250ms"));
    assert!(look(hurried(&dripping, HEAD_IN_TIME)).await.unwrap_err().ends_with("the body was not complete within 2s"));
}

#[tokio::test]
async fn endpoints_keep_no_history() {
    let metrics = Metrics::new(settings(vec![Url::parse("http://127.0.0.1/").unwrap()]), Arc::new(Clients::default())).unwrap();
    assert_eq!(metrics.history(Timestamp::UNIX_EPOCH, now()).await, Reading::Missing(Missing::NoHistory));
}

#[test]
fn a_selector_that_is_none_is_refused() {
    let url = Url::parse("http://127.0.0.1/").unwrap();
    let wanted = Wanted::Counters { total: "r".to_owned(), failed: "rate(r[5m])".to_owned(), by: None };
    let wrong = Settings { wanted, ..settings(vec![url]) };
    let error = Metrics::new(wrong, Arc::new(Clients::default())).unwrap_err();
    assert_eq!(error.to_string(), "cannot use \"rate(r[5m])\"");
}

#[tokio::test]
async fn series_have_the_route_that_their_label_tells() {
    let peer = serving(TEXT.replace("path=\"/\"", "path=\"/\",route=\"cart\"")).await;
    let settings = Settings { wanted: counters(Some("route")), ..settings(vec![peer.url("/metrics")]) };
    let scrape = look(settings.clone()).await.unwrap();
    let routes = |series: &[Series]| series.iter().map(|series| series.route.clone()).collect::<Vec<_>>();
    assert_eq!((routes(&scrape.total), routes(&scrape.failed)), (vec![Some("cart".to_owned()); 2], vec![Some("cart".to_owned())]));
    let checked = async |settings: Settings| Metrics::new(settings, Arc::new(Clients::default())).unwrap().check(now()).await.unwrap();
    assert_eq!(checked(settings.clone()).await, "2 series of all requests, 1 of failed ones, 1 route");
    let unrouted = Settings { wanted: counters(Some("feature")), ..settings };
    assert_eq!(checked(unrouted).await, "2 series of all requests, 1 of failed ones; none of them has the label `feature`");
}

/// From the documentation of the format, with another histogram of the same name.
const DURATIONS: &str = r#"# HELP http_request_duration_seconds A histogram of the request duration.
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="0.1"} 33444
http_request_duration_seconds_bucket{le="0.2"} 100392
http_request_duration_seconds_bucket{le="0.5"} 129389
http_request_duration_seconds_bucket{le="1"} 133988
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
http_request_duration_seconds_count 144320
http_request_duration_seconds_bucket{le="0.05",path="/other"} 1
http_request_duration_seconds_bucket{le="+Inf",path="/other"} 1
http_request_duration_seconds_sum{path="/other"} 0.01
http_request_duration_seconds_count{path="/other"} 1
http_request_duration_seconds 1
process_start_time_seconds 1.7e9
"#;

fn durations(targets: Vec<Url>, selector: &str) -> Metrics {
    let settings = Settings { wanted: Wanted::Histogram(selector.to_owned()), ..settings(targets) };
    Metrics::new(settings, Arc::new(Clients::default())).unwrap()
}

async fn measured(targets: Vec<Url>, selector: &str) -> Result<Vec<Histogram>, String> {
    match durations(targets, selector).read(now()).await {
        Reading::Histograms(histograms) => Ok(histograms),
        Reading::Missing(missing) => Err(missing.to_string()),
        other => panic!("no histograms: {other:?}"),
    }
}

#[tokio::test]
async fn histograms_are_put_together_from_the_lines_of_a_text() {
    let peer = serving(DURATIONS).await;
    let found = measured(vec![peer.url("/metrics")], "http_request_duration_seconds{path=\"\"}").await.unwrap();
    let [histogram] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(histogram.target, format!("http://{}/metrics", peer.at));
    assert_eq!(histogram.process_started, Some(Timestamp::from_second(1_700_000_000).unwrap()));
    assert_eq!(histogram.bounds, [0.05, 0.1, 0.2, 0.5, 1.0]);
    let below = vec![24054.0, 33444.0, 100_392.0, 129_389.0, 133_988.0];
    let sample = rollbackd_core::observation::HistogramSample { at: now(), count: 144_320.0, sum: 53423.0, below };
    assert_eq!(histogram.samples, [sample]);
    let said = durations(vec![peer.url("/metrics")], "http_request_duration_seconds").check(now()).await.unwrap();
    assert_eq!(said, "2 histograms with 1 to 5 buckets from 50ms to 1s");
}

#[tokio::test]
async fn open_metrics_tells_when_a_histogram_began() {
    let text = format!("{DURATIONS}http_request_duration_seconds_created 1700000030\n# EOF\n");
    let peer = Peer::answering(move |_| answer(200, "content-type: application/openmetrics-text; version=1.0.0\r\n", &text)).await;
    let found = measured(vec![peer.url("/")], "http_request_duration_seconds").await.unwrap();
    let began: Vec<_> = found.iter().map(|histogram| histogram.process_started.unwrap().as_second()).collect();
    assert_eq!(began, [1_700_000_030, 1_700_000_000]);
}

#[tokio::test]
async fn replicas_have_histograms_of_their_own_and_one_that_makes_no_sense_is_left_out() {
    let (well, again) = (serving(DURATIONS).await, serving(DURATIONS).await);
    let ill = serving(DURATIONS.replace("le=\"0.1\"", "le=\"low\"")).await;
    let found = measured(vec![well.url("/"), ill.url("/"), again.url("/")], "http_request_duration_seconds{path=\"\"}").await.unwrap();
    let targets: Vec<_> = found.iter().map(|histogram| histogram.target.clone()).collect();
    assert_eq!(targets, [format!("http://{}/", well.at), format!("http://{}/", again.at)]);
    let only = measured(vec![ill.url("/")], "http_request_duration_seconds{path=\"\"}").await.unwrap_err();
    assert!(only.starts_with("answer not understood: http_request_duration_seconds{instance="), "{only}");
    assert!(only.ends_with("a bucket whose `le` is no number: \"low\""), "{only}");
}

#[tokio::test]
async fn a_text_without_such_a_histogram_or_with_too_many_is_nothing() {
    let peer = serving(TEXT).await;
    let none = measured(vec![peer.url("/")], "http_request_duration_seconds").await.unwrap_err();
    assert_eq!(none, "no series match http_request_duration_seconds_bucket");
    let summary = serving("d_seconds{quantile=\"0.9\"} 1\nd_seconds_sum 1\nd_seconds_count 1\n").await;
    let no_buckets = measured(vec![summary.url("/")], "d_seconds").await.unwrap_err();
    assert!(no_buckets.ends_with("it has no buckets, as a summary has none: a histogram with buckets is needed"), "{no_buckets}");
    let twice = serving(format!("{DURATIONS}http_request_duration_seconds_sum 53423\n")).await;
    let twice = measured(vec![twice.url("/")], "http_request_duration_seconds{path=\"\"}").await.unwrap_err();
    assert!(twice.ends_with("a part of it is there twice"), "{twice}");
    let exploding = (0..1001).fold(String::new(), |mut text, shop| {
        let _ = writeln!(text, "d_seconds_count{{shop=\"{shop}\"}} 1");
        text
    });
    let exploding = serving(exploding).await;
    assert_eq!(measured(vec![exploding.url("/")], "d_seconds").await.unwrap_err(), "answer too large: more than 1000 series");
}

#[tokio::test]
async fn a_selector_of_a_part_of_a_histogram_is_refused() {
    let wanted = Wanted::Histogram("d_seconds_sum".to_owned());
    let wrong = Settings { wanted, ..settings(vec![Url::parse("http://127.0.0.1/").unwrap()]) };
    let error = Metrics::new(wrong, Arc::new(Clients::default())).unwrap_err();
    assert_eq!(error.to_string(), "cannot use \"d_seconds_sum\"");
}
