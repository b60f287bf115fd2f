use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use url::Url;

use super::super::super::http::Access;
use super::super::super::testing::{Peer, answer, request, write_for_ever};
use super::super::tests::{NOW, at, server, success, vector};
use super::*;

fn query(url: Url) -> Query {
    let server = Server { url, timeout: Duration::from_secs(20), access: Access::default() };
    let settings = Settings { server, query: "increase(mismatch_total[5m])\n  > 0".to_owned(), every: Duration::from_secs(15) };
    Query::new(settings, Arc::new(Clients::default())).unwrap()
}

async fn look(peer: &Peer) -> Result<Vec<Answered>, String> {
    match query(peer.url("/")).read(at(NOW)).await {
        Reading::Answer(answer) => Ok(answer),
        Reading::Missing(missing) => Err(missing.to_string().replace(&peer.at.to_string(), "server")),
        other => panic!("no answer: {other:?}"),
    }
}

async fn look_with(reply: Value) -> Result<Vec<Answered>, String> {
    look(&server(move |_| reply.clone()).await.0).await
}

fn lines(answer: &[Answered]) -> Vec<(&str, f64)> {
    answer.iter().map(|line| (line.id.as_str(), line.value)).collect()
}

#[tokio::test]
async fn the_question_is_put_once_and_as_it_stands_and_every_element_is_a_line() {
    let points = json!([
        {"metric": {"shop": "b"}, "value": [NOW, "3"]},
        {"metric": {"__name__": "mismatch", "shop": "a"}, "value": [NOW, "0.5"]},
        {"metric": {}, "value": [NOW, "0"]},
    ]);
    let (peer, questions) = server(move |_| vector(&points)).await;
    let answer = look(&peer).await.unwrap();
    assert_eq!(lines(&answer), [("mismatch{shop=\"a\"}", 0.5), ("{shop=\"b\"}", 3.0), ("{}", 0.0)]);
    assert_eq!(*questions.lock().unwrap(), [("increase(mismatch_total[5m])\n  > 0".to_owned(), None)]);
}

#[tokio::test]
async fn an_empty_answer_means_that_nothing_is_the_matter() {
    assert_eq!(look_with(vector(&json!([]))).await, Ok(vec![]));
}

#[tokio::test]
async fn what_is_always_there_or_no_instant_is_refused_with_a_remedy() {
    for (kind, result, why) in [
        ("scalar", json!([NOW, "1"]), "a bare number, which is always there; compare series with it: `rate(faults_total[5m]) > 0.1`"),
        ("string", json!([NOW, "x"]), "a bare text, which is always there; compare series: `rate(faults_total[5m]) > 0.1`"),
        ("matrix", json!([]), "a range of samples; use a function over it: `increase(faults_total[5m]) > 0`"),
        (
            "vector",
            json!([{"metric": {}, "histogram": [NOW, {"count": "1"}]}]),
            "a histogram; compare a number of it: `histogram_quantile(0.9, …) > 2`",
        ),
    ] {
        let reply = success(&json!({"resultType": kind, "result": result}));
        let refused = format!("answer not understood: http://server/: the query's answer is {why}");
        assert_eq!(look_with(reply).await, Err(refused));
    }
    let no_number = look_with(vector(&json!([{"metric": {}, "value": [NOW, "many"]}]))).await.unwrap_err();
    assert!(no_number.ends_with("the query's answer has values that are no numbers"), "{no_number}");
}

#[tokio::test]
async fn a_value_that_is_no_number_is_an_answer_all_the_same() {
    let point = |shop: &str, value: &str| json!({"metric": {"shop": shop}, "value": [NOW, value]});
    let answer = look_with(vector(&json!([point("a", "NaN"), point("b", "+Inf"), point("c", "-Inf")]))).await.unwrap();
    let expected = [
        ("{shop=\"a\"} (its value NaN is told as 0)", 0.0),
        ("{shop=\"b\"} (its value inf is told as 0)", 0.0),
        ("{shop=\"c\"} (its value -inf is told as 0)", 0.0),
    ];
    assert_eq!(lines(&answer), expected);
    // What is decided on it has to come back from the ledger.
    let written = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Answered>>(&written).unwrap(), answer);
}

#[tokio::test]
async fn a_hundred_lines_are_kept_and_none_of_them_is_long() {
    let points: Vec<_> = (0..5000).map(|index| json!({"metric": {"shop": format!("{index:04}")}, "value": [NOW, "1"]})).collect();
    let answer = look_with(vector(&json!(points))).await.unwrap();
    assert_eq!((answer.len(), answer[0].id.as_str(), answer[99].id.as_str()), (100, "{shop=\"0000\"}", "{shop=\"0099\"}"));
    let long = json!([{"metric": {"shop": "é\n\u{202e}".repeat(10_000)}, "value": [NOW, "1"]}]);
    let answer = look_with(vector(&long)).await.unwrap();
    assert!(answer[0].id.chars().count() <= 201 && !answer[0].id.contains(['\n', '\u{202e}']), "{}", answer[0].id);
}

#[tokio::test]
async fn an_answer_that_is_not_whole_or_none_is_missing() {
    let mut partial = vector(&json!([]));
    partial["warnings"] = json!(["a store did not answer"]);
    assert_eq!(look_with(partial).await.unwrap_err(), "partial answer: http://server/: a store did not answer");
    let peer = Peer::answering(|_| {
        let body = json!({"status": "error", "errorType": "bad_data", "error": "1:5: parse error: unexpected end of input"});
        answer(400, "", body.to_string())
    })
    .await;
    let refused = "source refused: http://server/: status 400: bad_data: 1:5: parse error: unexpected end of input";
    assert_eq!(look(&peer).await.unwrap_err(), refused);
    let endless = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        write_for_ever(&mut stream, &[b' '; 4096], Duration::ZERO).await;
    })
    .await;
    assert_eq!(look(&endless).await.unwrap_err(), "answer too large: http://server/: the body is larger than 8192 KiB");
}

#[tokio::test]
async fn a_check_tells_whether_there_is_an_answer_now() {
    let checked = async |points: Value| {
        let (peer, _) = server(move |_| vector(&points)).await;
        query(peer.url("/")).check(at(NOW)).await.unwrap()
    };
    assert_eq!(checked(json!([])).await, "the query has no answer now");
    assert_eq!(
        checked(json!([{"metric": {"shop": "a"}, "value": [NOW, "3"]}])).await,
        "the query has an answer now, 1 line, such as {shop=\"a\"} = 3: what is there before a deployment already is not held against it"
    );
    let scalar = success(&json!({"resultType": "scalar", "result": [NOW, "1"]}));
    let (peer, _) = server(move |_| scalar.clone()).await;
    assert!(query(peer.url("/")).check(at(NOW)).await.unwrap_err().contains("compare series with it"));
}

#[tokio::test]
async fn a_question_has_no_history() {
    let past = query(Url::parse("http://127.0.0.1/").unwrap()).history(at(NOW - 60), at(NOW)).await;
    assert_eq!(past, Reading::Missing(Missing::NoHistory));
}
