use std::fmt::Write as _;

use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::io::AsyncWriteExt as _;

use super::super::testing::{HEAD_IN_TIME, Peer, answer, request, write_for_ever};
use super::*;

const TEXT: &str = r#"# TYPE http_requests_total counter
http_requests_total{code="200",path="/"} 100
http_requests_total{code="500",path="/"} 3
http_requests_total{code="200",path="/other"} 7
other_total 1
process_start_time_seconds 1.7e9
"#;

fn settings(targets: Vec<Url>) -> Settings {
    Settings {
        targets,
        total: "http_requests_total{path=\"/\"}".to_owned(),
        failed: "http_requests_total{path=\"/\",code=~\"5..\"}".to_owned(),
        timeout: Duration::from_secs(20),
        access: Access::default(),
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
    let wrong = Settings { failed: "rate(r[5m])".to_owned(), ..settings(vec![url]) };
    let error = Metrics::new(wrong, Arc::new(Clients::default())).unwrap_err();
    assert_eq!(error.to_string(), "cannot use \"rate(r[5m])\"");
}
