use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rollbackd_core::observation::Sample;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Barrier;

use super::super::http::plain;
use super::super::series::BODY_LIMIT;
use super::super::testing::{HEAD_IN_TIME, Peer, answer, request, write_for_ever};
use super::*;
use crate::secret::Secret;

pub(super) const NOW: i64 = 1_700_000_000;

const FAILED: &str = r#"requests_total{code=~"5\\d\\d"}"#;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(super) fn settings(url: Url) -> Settings {
    Settings {
        server: Server { url, timeout: Duration::from_secs(20), access: Access::default() },
        total: "requests_total".to_owned(),
        // `\\d` may mean something else to the server, so that the failed ones are asked for.
        failed: FAILED.to_owned(),
        by: None,
        every: Duration::from_secs(15),
    }
}

/// A question: the query and the time as of which it is to be answered.
pub(super) type Question = (String, Option<String>);

/// A server that answers `time()` with [`NOW`] and everything else with what `data` makes of it; and the questions it was asked.
pub(super) async fn server(data: impl Fn(&str) -> Value + Send + Sync + 'static) -> (Peer, Arc<Mutex<Vec<Question>>>) {
    let questions: Arc<Mutex<Vec<Question>>> = Arc::default();
    let asked = Arc::clone(&questions);
    let peer = Peer::answering(move |head| {
        let target = head.split(' ').nth(1).unwrap();
        let url = Url::parse("http://server/").unwrap().join(target).unwrap();
        let parameter = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let query = parameter("query").unwrap();
        asked.lock().unwrap().push((query.clone(), parameter("time")));
        let reply = match query.as_str() {
            "time()" => success(&json!({"resultType": "scalar", "result": [NOW, NOW.to_string()]})),
            query => data(query),
        };
        answer(200, "content-type: application/json\r\n", reply.to_string())
    })
    .await;
    (peer, questions)
}

pub(super) fn success(data: &Value) -> Value {
    json!({"status": "success", "data": data})
}

pub(super) fn matrix(series: &Value) -> Value {
    success(&json!({"resultType": "matrix", "result": series}))
}

pub(super) fn vector(points: &Value) -> Value {
    success(&json!({"resultType": "vector", "result": points}))
}

/// For servers that use up all the time there is.
fn hurried(url: Url, timeout: Duration) -> Prometheus {
    let mut settings = settings(url);
    settings.server.timeout = timeout;
    Prometheus::new(settings, Arc::new(Clients::default())).unwrap()
}

fn prometheus(url: Url) -> Prometheus {
    Prometheus::new(settings(url), Arc::new(Clients::default())).unwrap()
}

async fn look(peer: &Peer) -> Result<Scrape, String> {
    look_at(peer, at(NOW)).await
}

async fn look_at(peer: &Peer, now: Timestamp) -> Result<Scrape, String> {
    told(peer, prometheus(peer.url("/")).read(now).await)
}

fn told(peer: &Peer, reading: Reading) -> Result<Scrape, String> {
    match reading {
        Reading::Scrape(scrape) => Ok(scrape),
        Reading::Missing(missing) => Err(missing.to_string().replace(&peer.at.to_string(), "server")),
        other => panic!("not a scrape: {other:?}"),
    }
}

/// What a server makes of a look whose every question but the time is answered so.
async fn look_with(reply: Value) -> Result<Scrape, String> {
    let (peer, _) = server(move |_| reply.clone()).await;
    look(&peer).await
}

/// What a look makes of a server that answers everything with these bytes.
async fn look_with_bytes(bytes: Vec<u8>) -> String {
    let peer = Peer::answering(move |_| bytes.clone()).await;
    look(&peer).await.unwrap_err()
}

fn one_series(values: &Value) -> Value {
    matrix(&json!([{"metric": {"__name__": "requests_total", "job": "shop", "instance": "a:80"}, "values": values}]))
}

#[tokio::test]
async fn raw_samples_come_with_their_series_target_and_process() {
    let (peer, questions) = server(|query| match query {
        "requests_total[600000ms]" => matrix(&json!([
            {"metric": {"job": "shop", "instance": "a:80", "code": "200", "__name__": "requests_total"}, "values": [[NOW - 20, "1"], [1_699_999_995.25, "2e1"]]},
            {"metric": {"__name__": "requests_total", "code": "500", "instance": "b:80", "job": "shop"}, "values": [[NOW - 6, "7"]]},
        ])),
        r#"requests_total{code=~"5\\d\\d"}[90000ms]"# => matrix(&json!([
            {"metric": {"__name__": "requests_total", "code": "500", "instance": "b:80", "job": "shop"}, "values": [[NOW - 6, "7"], [NOW - 1, "8"]]},
        ])),
        "process_start_time_seconds and on (job, instance) (requests_total)" => vector(&json!([
            {"metric": {"__name__": "process_start_time_seconds", "job": "shop", "instance": "b:80"}, "value": [NOW, "1699999000.5"]},
        ])),
        other => panic!("{other}"),
    })
    .await;
    let scrape = look(&peer).await.unwrap();
    let sample = |millisecond, value| Sample { at: Timestamp::from_millisecond(millisecond).unwrap(), value };
    let first = Series {
        id: "requests_total{code=\"200\",instance=\"a:80\",job=\"shop\"}".to_owned(),
        target: "shop/a:80".to_owned(),
        process_started: None,
        route: None,
        samples: vec![sample((NOW - 20) * 1000, 1.0), sample(1_699_999_995_250, 20.0)],
    };
    let second = Series {
        id: "requests_total{code=\"500\",instance=\"b:80\",job=\"shop\"}".to_owned(),
        target: "shop/b:80".to_owned(),
        process_started: Some(Timestamp::from_millisecond(1_699_999_000_500).unwrap()),
        route: None,
        samples: vec![sample((NOW - 6) * 1000, 7.0)],
    };
    // The failures one second ago belong to a scrape that the answer about all requests didn't have yet.
    assert_eq!(scrape, Scrape { total: vec![first, second.clone()], failed: vec![second] });

    let questions = questions.lock().unwrap();
    assert_eq!(questions[0], ("time()".to_owned(), None));
    assert_eq!(questions.len(), 4);
    assert!(questions[1..].iter().all(|(_, time)| time.as_deref() == Some("1700000000.000")), "{questions:?}");
}

#[tokio::test]
async fn a_path_before_the_api_is_kept() {
    let (peer, _) = server(|_| one_series(&json!([[NOW, "1"]]))).await;
    for path in ["/prometheus", "/prometheus/"] {
        let reading = prometheus(peer.url(path)).read(at(NOW)).await;
        assert!(matches!(reading, Reading::Scrape(_)), "{reading:?}");
    }
    let heads = peer.heads.lock().unwrap();
    assert!(heads.iter().all(|head| head.starts_with("GET /prometheus/api/v1/query?")), "{heads:?}");
}

#[tokio::test]
async fn no_failure_yet_is_fine_and_no_request_is_no_series() {
    let (peer, _) = server(|query| if query.contains("code") { matrix(&json!([])) } else { one_series(&json!([[NOW, "1"]])) }).await;
    let scrape = look(&peer).await.unwrap();
    assert_eq!((scrape.total.len(), scrape.failed.len()), (1, 0));
    assert_eq!(look_with(matrix(&json!([]))).await.unwrap_err(), "no series match requests_total");
}

#[tokio::test]
async fn what_is_not_a_number_is_passed_on() {
    let scrape = look_with(one_series(&json!([[NOW - 2, "NaN"], [NOW - 1, "+Inf"], [NOW, "-Inf"]]))).await.unwrap();
    let values: Vec<_> = scrape.total[0].samples.iter().map(|sample| sample.value).collect();
    assert!(values[0].is_nan());
    assert_eq!(values[1..], [f64::INFINITY, f64::NEG_INFINITY]);
}

#[tokio::test]
async fn samples_older_than_two_scrapes_are_stale() {
    assert!(look_with(one_series(&json!([[NOW - 30, "1"]]))).await.is_ok());
    assert_eq!(look_with(one_series(&json!([[NOW - 31, "1"]]))).await.unwrap_err(), "newest sample is 31s old");
}

#[tokio::test]
async fn a_server_whose_clock_is_wrong_is_told_by_its_own_time() {
    let (peer, questions) = server(|query| {
        if query.starts_with("process") {
            vector(&json!([{"metric": {"job": "shop", "instance": "a:80"}, "value": [NOW, (NOW - 100).to_string()]}]))
        } else {
            one_series(&json!([[NOW - 5, "1"]]))
        }
    })
    .await;
    let hour = SignedDuration::from_hours(1);
    let scrape = look_at(&peer, at(NOW) + hour).await.unwrap();
    assert_eq!(scrape.total[0].samples[0].at, at(NOW - 5) + hour);
    assert_eq!(scrape.total[0].process_started, Some(at(NOW - 100) + hour));
    assert_eq!(questions.lock().unwrap()[1].1.as_deref(), Some("1700000000.000"));
    // A second more or less is the way there and back.
    let scrape = look_at(&peer, at(NOW + 1)).await.unwrap();
    assert_eq!(scrape.total[0].samples[0].at, at(NOW - 5));
}

#[tokio::test]
async fn a_partial_answer_is_no_answer_but_a_remark_is_none() {
    let mut reply = one_series(&json!([[NOW, "1"]]));
    reply["infos"] = json!(["PromQL info: metric might not be a counter"]);
    reply["warnings"] = json!(["PromQL info: the same, in version 2"]);
    assert!(look_with(reply.clone()).await.is_ok());
    reply["warnings"] = json!(["store\n\u{1b}[31m 10.0.0.7 did not answer"]);
    assert_eq!(look_with(reply).await.unwrap_err(), "partial answer: http://server/: store  [31m 10.0.0.7 did not answer");
}

#[tokio::test]
async fn a_thousand_series_are_taken_and_one_more_is_too_many() {
    let many = |count: usize| {
        let series: Vec<_> = (0..count).map(|index| json!({"metric": {"shop": index.to_string()}, "values": [[NOW, "1"]]})).collect();
        matrix(&json!(series))
    };
    assert_eq!(look_with(many(1000)).await.unwrap().total.len(), 1000);
    assert_eq!(
        look_with(many(1001)).await.unwrap_err(),
        "answer too large: http://server/: 1001 series match requests_total, at most 1000"
    );
}

#[tokio::test]
async fn series_without_an_instance_share_what_all_of_them_share() {
    let scrape = look_with(matrix(&json!([
        {"metric": {"__name__": "r", "service": "shop", "code": "200"}, "values": [[NOW, "1"]]},
        {"metric": {"__name__": "r", "service": "shop", "code": "500"}, "values": [[NOW, "1"]]},
        {"metric": {"__name__": "r", "service": "other", "instance": "a:80"}, "values": [[NOW, "1"]]},
    ])))
    .await
    .unwrap();
    let targets: Vec<_> = scrape.total.iter().map(|series| series.target.as_str()).collect();
    assert_eq!(targets, ["{service=\"shop\"}", "{service=\"shop\"}", "a:80"]);
}

#[tokio::test]
async fn an_answer_of_the_wrong_kind_is_not_understood() {
    for (reply, why) in [
        (vector(&json!([])), "another kind of result than the range of samples that was asked for"),
        (one_series(&json!([[1e300, "1"]])), "samples that are not numbers in order of time"),
        (one_series(&json!([[NOW, "one"]])), "samples that are not numbers in order of time"),
        (one_series(&json!([[NOW, "1"], [NOW - 1, "1"]])), "samples that are not numbers in order of time"),
        (matrix(&json!([{"metric": {}, "histograms": [[NOW, {"count": "1"}]]}])), "a native histogram where a counter was asked for"),
        (json!({"status": "success"}), "no data"),
    ] {
        assert_eq!(look_with(reply).await.unwrap_err(), format!("answer not understood: http://server/: {why}"));
    }
    for reply in [json!([]), json!({"status": "success", "data": {"resultType": "cube", "result": []}}), matrix(&json!([{"metric": 1}]))] {
        let error = look_with(reply).await.unwrap_err();
        assert!(error.starts_with("answer not understood: http://server/: not an answer of the Prometheus API: "), "{error}");
    }
}

#[tokio::test]
async fn an_error_is_a_refusal_in_the_servers_words() {
    let bad = json!({"status": "error", "errorType": "bad_data", "error": "parse error"}).to_string();
    assert_eq!(look_with_bytes(answer(400, "", &bad)).await, "source refused: http://server/: status 400: bad_data: parse error");
    assert_eq!(look_with_bytes(answer(200, "", &bad)).await, "source refused: http://server/: status 200: bad_data: parse error");
    for status in [401, 403, 429, 500, 502, 503, 302] {
        let headers = "location: /login\r\nretry-after: 3600\r\n";
        assert_eq!(look_with_bytes(answer(status, headers, "<html>")).await, format!("source refused: http://server/: status {status}"));
    }
}

#[tokio::test]
async fn what_is_not_json_not_whole_or_absurd_is_not_understood() {
    let html = look_with_bytes(answer(200, "content-type: text/html\r\n", "<html>")).await;
    assert!(html.starts_with("answer not understood: http://server/: not an answer of the Prometheus API: "), "{html}");
    let deep = look_with_bytes(answer(200, "", "[".repeat(100_000))).await;
    assert!(deep.starts_with("answer not understood: "), "{deep}");
    let deep = look_with_bytes(answer(200, "", format!("{{\"status\":\"success\",\"data\":{{\"result\":{}", "[".repeat(100_000)))).await;
    assert!(deep.contains("recursion limit exceeded"), "{deep}");
    let cut = look_with_bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()).await;
    assert!(cut.starts_with("answer not understood: http://server/: the body is not whole"), "{cut}");
    let bomb = look_with_bytes(answer(200, "content-encoding: gzip\r\n", [0x1f, 0x8b])).await;
    assert!(bomb.ends_with("the body is compressed, which was not asked for"), "{bomb}");
    let huge = look_with_bytes(answer(200, "", vec![b' '; BODY_LIMIT + 1])).await;
    assert_eq!(huge, "answer too large: http://server/: the body is larger than 8192 KiB");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unreachable_and_costs_one_time_limit() {
    let silent = Peer::behaving(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let reading = hurried(silent.url("/"), Duration::from_millis(300)).read(at(NOW)).await;
    assert_eq!(told(&silent, reading).unwrap_err(), "source unreachable: http://server/: no answer within 300ms");

    let dripping = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        write_for_ever(&mut stream, b" ", Duration::from_millis(10)).await;
    })
    .await;
    let reading = hurried(dripping.url("/"), HEAD_IN_TIME).read(at(NOW)).await;
    assert!(told(&dripping, reading).unwrap_err().ends_with("the body was not complete within 2s"));

    let gone = Peer::answering(|_| Vec::new()).await;
    assert_eq!(look(&gone).await.unwrap_err(), "source unreachable: http://server/: connection closed without an answer");
}

#[tokio::test]
async fn no_more_than_four_questions_are_put_to_a_server_at_a_time() {
    // A question is answered only once four of them are there.
    let (four, under_way, most) = (Arc::new(Barrier::new(4)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (there, seen) = (Arc::clone(&under_way), Arc::clone(&most));
    let peer = Peer::behaving(move |mut stream| {
        let (four, there, seen) = (Arc::clone(&four), Arc::clone(&there), Arc::clone(&seen));
        async move {
            request(&mut stream).await;
            seen.fetch_max(there.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            four.wait().await;
            there.fetch_sub(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let clients = Arc::new(Clients::default());
    let signals: Vec<_> = (0..12).map(|_| Prometheus::new(settings(peer.url("/")), Arc::clone(&clients)).unwrap()).collect();
    let readings = futures::future::join_all(signals.iter().map(|signal| signal.read(at(NOW)))).await;
    assert!(readings.iter().all(|reading| matches!(reading, Reading::Missing(Missing::Refused(_)))), "{readings:?}");
    assert_eq!(most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_server_whose_answers_are_too_large_is_left_alone_for_a_while() {
    let peer = Peer::behaving(|mut stream| async move {
        let asked = request(&mut stream).await.unwrap_or_default();
        if asked.contains("query=time") {
            let time = success(&json!({"resultType": "scalar", "result": [NOW, NOW.to_string()]}));
            let _ = stream.write_all(&answer(200, "connection: close\r\n", time.to_string())).await;
        } else {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            write_for_ever(&mut stream, &[b' '; 4096], Duration::ZERO).await;
        }
    })
    .await;
    let prometheus = prometheus(peer.url("/"));
    for _ in 0..2 {
        let reading = told(&peer, prometheus.read(at(NOW)).await);
        assert_eq!(reading.unwrap_err(), "answer too large: http://server/: the body is larger than 8192 KiB");
    }
    // The time, all requests of ten minutes and of one and a half; not a second time.
    assert_eq!(*peer.connections.lock().unwrap(), 3);
}

#[tokio::test]
async fn credentials_go_along_and_the_start_of_processes_is_no_condition() {
    let (peer, _) = server(|query| {
        if query.starts_with("process") {
            json!({"status": "error", "errorType": "execution", "error": "not here"})
        } else {
            one_series(&json!([[NOW, "1"]]))
        }
    })
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "t0ken").unwrap();
    let mut settings = settings(peer.url("/"));
    settings.server.access.bearer = Some(Secret::File(file.path().to_owned()));
    let reading = Prometheus::new(settings, Arc::new(Clients::default())).unwrap().read(at(NOW)).await;
    let Reading::Scrape(scrape) = reading else { panic!("{reading:?}") };
    assert_eq!(scrape.total[0].process_started, None);
    assert!(peer.heads.lock().unwrap().iter().all(|head| head.contains("authorization: Bearer t0ken\r\n")));
}

/// The samples that a server with one sample every 15 s has in the range that a query asks for, edges included.
fn samples_in(query: &str, time: &str) -> Vec<Value> {
    let (_, range) = query.rsplit_once('[').unwrap();
    let span: i64 = range.trim_end_matches("ms]").parse::<i64>().unwrap() / 1000;
    let end = time.split('.').next().unwrap().parse::<i64>().unwrap();
    (end - span..=end).filter(|second| second % 15 == 0).map(|second| json!([second, second.to_string()])).collect()
}

/// A server with history that takes no more than `longest` seconds at once.
async fn historian(longest: i64) -> Peer {
    Peer::answering(move |head| {
        let url = Url::parse("http://server/").unwrap().join(head.split(' ').nth(1).unwrap()).unwrap();
        let parameter = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let samples = samples_in(&parameter("query"), &parameter("time"));
        if i64::try_from(samples.len()).unwrap() > longest / 15 + 1 {
            return answer(200, "", vec![b' '; BODY_LIMIT + 1]);
        }
        answer(200, "", one_series(&json!(samples)).to_string())
    })
    .await
}

#[tokio::test]
async fn history_comes_in_pieces_that_join_without_a_gap_or_a_double() {
    for longest in [3600, 900] {
        let peer = historian(longest).await;
        let (from, to) = (at(NOW - 7300), at(NOW));
        let scrape = prometheus(peer.url("/")).look_back(from, to).await.unwrap();
        let times: Vec<_> = scrape.total[0].samples.iter().map(|sample| sample.at.as_second()).collect();
        let expected: Vec<_> = (NOW - 7300..=NOW).filter(|second| second % 15 == 0).collect();
        assert_eq!(times, expected);
        assert_eq!(scrape.failed[0].samples.len(), expected.len());
    }
}

#[tokio::test]
async fn history_is_bounded_and_all_or_nothing() {
    let peer = historian(0).await;
    let huge = prometheus(peer.url("/")).look_back(at(NOW - 3600), at(NOW)).await.unwrap_err();
    assert!(matches!(huge, Missing::TooLarge(_)), "{huge}");
    let long = prometheus(peer.url("/")).look_back(at(NOW - 8 * 24 * 3600), at(NOW)).await.unwrap_err();
    assert_eq!(long.to_string(), "answer too large: a history of 192h, at most 168h");

    let (peer, _) = server(|_| matrix(&json!([]))).await;
    let none = prometheus(peer.url("/")).look_back(at(NOW - 60), at(NOW)).await;
    assert_eq!(none, Ok(Scrape::default()));

    let failing = Mutex::new(0);
    let peer = Peer::answering(move |_| {
        *failing.lock().unwrap() += 1;
        if *failing.lock().unwrap() == 2 { answer(503, "", "") } else { answer(200, "", one_series(&json!([])).to_string()) }
    })
    .await;
    let part = prometheus(peer.url("/")).look_back(at(NOW - 7200), at(NOW)).await.unwrap_err();
    assert!(matches!(part, Missing::Refused(_)), "{part}");
}

#[tokio::test]
async fn a_check_tells_what_is_odd_although_nothing_is_broken() {
    async fn check(peer: &Peer) -> Vec<String> {
        let examined = prometheus(peer.url("/")).examine().await.unwrap();
        examined.oddities.iter().map(|warning| warning.replace(&peer.at.to_string(), "server")).collect()
    }
    let (peer, _) = server(|_| one_series(&json!([[NOW - 30, "1"], [NOW - 15, "1"], [NOW, "1"]]))).await;
    assert_eq!(check(&peer).await, [""; 0]);
    let (peer, _) = server(|_| one_series(&json!([[NOW - 75, "1"], [NOW - 60, "1"]]))).await;
    assert_eq!(check(&peer).await, ["http://server/: the newest sample of requests_total is 1m old"]);
    let (peer, _) = server(|_| matrix(&json!([]))).await;
    let nothing = prometheus(peer.url("/")).examine().await.unwrap_err();
    assert_eq!(nothing, Missing::NoSeries("requests_total".to_owned()));
    let (peer, _) = server(|query| {
        if query.contains("code") {
            matrix(&json!([]))
        } else {
            one_series(&json!([[NOW - 180, "1"], [NOW - 120, "1"], [NOW - 60, "1"], [NOW, "1"]]))
        }
    })
    .await;
    assert_eq!(
        check(&peer).await,
        [
            "http://server/: no series match requests_total{code=~\"5\\\\d\\\\d\"} now: no request has failed yet, or the selector is wrong",
            "http://server/: requests_total is scraped every 1m, so it is looked at as rarely, and not every 15s: everything that is told by it takes that much longer",
        ]
    );
    let peer = Peer::answering(|_| answer(401, "", "")).await;
    assert!(matches!(prometheus(peer.url("/")).examine().await, Err(Missing::Refused(_))));
}

/// Samples once in `step` seconds, the newest of them as old as `age`, as far back as they are asked for.
fn scraped(query: &str, step: i64, age: i64) -> Value {
    let span: i64 = query.rsplit_once('[').and_then(|(_, span)| span.strip_suffix("ms]")).map_or(0, |span| span.parse::<i64>().unwrap());
    let times = (0..).map(|index| NOW - age - step * index).take_while(|time| NOW - time < span / 1000);
    one_series(&times.map(|time| json!([time, "1"])).collect::<Vec<_>>().into_iter().rev().collect())
}

#[tokio::test]
async fn what_is_scraped_once_a_minute_is_seen_between_its_scrapes_too_and_looked_at_as_rarely() {
    let (peer, questions) = server(|query| if query.contains("process") { vector(&json!([])) } else { scraped(query, 60, 50) }).await;
    let prometheus = prometheus(peer.url("/"));
    assert_eq!(prometheus.pace(), None, "it was not looked at yet");
    let first = told(&peer, prometheus.read(at(NOW)).await).unwrap();
    assert_eq!(prometheus.pace(), Some(SignedDuration::from_mins(1)));
    assert_eq!(first.total[0].samples.len(), 6, "six minutes are enough for a look");
    let second = told(&peer, prometheus.read(at(NOW)).await).unwrap();
    assert_eq!(second.total, first.total);
    let asked = questions.lock().unwrap();
    let spans: Vec<_> = asked.iter().filter_map(|(query, _)| query.strip_prefix("requests_total[")).collect();
    assert_eq!(spans, ["600000ms]", "360000ms]"]);
}

#[tokio::test]
async fn a_scrape_that_failed_makes_no_other_pace() {
    let (peer, _) = server(|query| if query.contains("process") { vector(&json!([])) } else { scraped(query, 15, 5) }).await;
    let usual = prometheus(peer.url("/"));
    told(&peer, usual.read(at(NOW)).await).unwrap();
    assert_eq!(usual.pace(), Some(SignedDuration::from_secs(15)), "as often as it is looked at");
    let (peer, _) = server(|query| match query {
        query if query.contains("process") => vector(&json!([])),
        _ => one_series(&json!([[NOW - 50, "1"], [NOW - 20, "1"], [NOW - 5, "1"]])),
    })
    .await;
    let young = prometheus(peer.url("/"));
    told(&peer, young.read(at(NOW)).await).unwrap();
    assert_eq!(young.pace(), None, "two gaps say nothing");
}

#[tokio::test]
async fn what_has_too_many_series_in_ten_minutes_is_asked_for_fewer() {
    let (peer, _) = server(|query| match query {
        query if query.contains("process") => vector(&json!([])),
        query if query.contains("600000ms") => {
            let series = |number| json!({"metric": {"__name__": "requests_total", "pod": number}, "values": [[NOW, "1"]]});
            matrix(&(0..=SERIES_LIMIT).map(|number| series(number.to_string())).collect())
        }
        query => scraped(query, 15, 5),
    })
    .await;
    let scrape = look(&peer).await.unwrap();
    assert_eq!((scrape.total.len(), scrape.total[0].samples.len()), (1, 6));
}

#[test]
fn only_plain_selectors_are_valid() {
    assert_eq!(validate_selector("http_requests_total{service=\"shop\",code=~\"5..\"}"), Ok(()));
    for wrong in ["rate(r[5m])", "r[5m]", "sum(r)", "r offset 1m", "r > 0", "r or s", ""] {
        let error = validate_selector(wrong).unwrap_err();
        assert!(error.starts_with("not a plain selector: "), "{error}");
        let mut settings = settings(Url::parse("http://127.0.0.1/").unwrap());
        wrong.clone_into(&mut settings.total);
        assert!(Prometheus::new(settings, Arc::new(Clients::default())).is_err());
    }
}

#[test]
fn a_long_text_of_a_stranger_is_cut() {
    let mut text = String::new();
    let _ = write!(text, "\u{202e}{}", "é".repeat(300));
    assert_eq!(plain(&text), format!(" {}…", "é".repeat(199)));
}

/// Three series, of which one failed, with the routes in a label.
fn routed(_: &str) -> Value {
    let series = |code: &str, route: &str| {
        let metric = json!({"__name__": "requests_total", "job": "shop", "instance": "a:80", "code": code, "route": route});
        json!({"metric": metric, "values": [[NOW - 15, "1"], [NOW, "2"]]})
    };
    matrix(&json!([series("200", "/cart"), series("503", "/cart"), series("200", "")]))
}

async fn look_by(peer: &Peer, failed: &str) -> Scrape {
    let settings = Settings { failed: failed.to_owned(), by: Some("route".to_owned()), ..settings(peer.url("/")) };
    let reading = Prometheus::new(settings, Arc::new(Clients::default())).unwrap().read(at(NOW)).await;
    told(peer, reading).unwrap()
}

#[tokio::test]
async fn what_failed_is_picked_from_all_requests_without_another_question() {
    let (peer, questions) = server(routed).await;
    let scrape = look_by(&peer, "requests_total{code=~\"5..\"}").await;
    let failed: Vec<_> = scrape.failed.iter().map(|series| series.id.as_str()).collect();
    assert_eq!(failed, [r#"requests_total{code="503",instance="a:80",job="shop",route="/cart"}"#]);
    assert_eq!((scrape.total.len(), &scrape.failed[0]), (3, &scrape.total[1]));
    let queries: Vec<_> = questions.lock().unwrap().iter().map(|(query, _)| query.clone()).collect();
    assert_eq!(queries, ["time()", "requests_total[600000ms]", "process_start_time_seconds and on (job, instance) (requests_total)"]);
}

#[tokio::test]
async fn what_only_the_server_can_tell_is_asked_for() {
    let (peer, questions) = server(routed).await;
    look_by(&peer, FAILED).await;
    assert!(questions.lock().unwrap().iter().any(|(query, _)| query.starts_with(FAILED)));
    // Whether `5..` means a value with a line break in it, servers of different age don't agree.
    let with_line = |_: &str| matrix(&json!([{"metric": {"code": "5\n3"}, "values": [[NOW, "1"]]}]));
    let (peer, questions) = server(with_line).await;
    look_by(&peer, "requests_total{code=~\"5..\"}").await;
    assert!(questions.lock().unwrap().iter().any(|(query, _)| query.starts_with("requests_total{code=~\"5..\"}[")));
}

#[tokio::test]
async fn history_asks_once_for_what_can_be_picked() {
    let (peer, questions) = server(routed).await;
    let settings = Settings { failed: "requests_total{code=~\"5..\"}".to_owned(), ..settings(peer.url("/")) };
    let scrape = Prometheus::new(settings, Arc::new(Clients::default())).unwrap().look_back(at(NOW - 60), at(NOW)).await.unwrap();
    assert_eq!((scrape.total.len(), scrape.failed.len()), (3, 1));
    assert_eq!(questions.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn series_have_the_route_that_their_label_tells() {
    let (peer, _) = server(routed).await;
    let scrape = look_by(&peer, "requests_total{code=~\"5..\"}").await;
    let routes: Vec<_> = scrape.total.iter().map(|series| series.route.as_deref()).collect();
    assert_eq!(routes, [Some("/cart"), Some("/cart"), None]);
    assert_eq!(scrape.failed[0].route.as_deref(), Some("/cart"));
}

#[tokio::test]
async fn a_check_tells_how_many_routes_there_are_and_what_to_call_them_where_there_are_none() {
    let (peer, _) = server(routed).await;
    let checked = async |by: &str| {
        let settings = Settings { by: Some(by.to_owned()), ..settings(peer.url("/")) };
        let said = Prometheus::new(settings, Arc::new(Clients::default())).unwrap().check(at(NOW)).await.unwrap();
        said.replace(&peer.at.to_string(), "server")
    };
    assert_eq!(checked("route").await, "both selectors match, 1 route");
    assert_eq!(
        checked("path").await,
        "both selectors match, 0 routes; http://server/: no series of requests_total has the label `path`; \
         they have: code, instance, job, route"
    );
}
