use std::fs;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::super::http::HeaderValue;
use super::super::testing::{Authority, Files, HEAD_IN_TIME, Peer, answer, request, write_for_ever};
use super::*;
use crate::secret::Secret;

fn settings(target: Url) -> Settings {
    Settings {
        targets: vec![target],
        method: "GET".to_owned(),
        status: vec![(200, 299)],
        body_contains: None,
        json: None,
        latency_limit: None,
        timeout: Duration::from_secs(20),
        fresh_connection: true,
        redirects: 0,
        access: Access::default(),
    }
}

/// For peers that use up all the time there is.
fn hurried(settings: Settings) -> Settings {
    Settings { timeout: Duration::from_millis(250), ..settings }
}

fn with_body(target: Url) -> Settings {
    Settings { body_contains: Some("ok".to_owned()), ..settings(target) }
}

async fn round(settings: Settings) -> Vec<(String, ProbeOutcome)> {
    round_with(settings, Clients::default()).await
}

async fn round_with(settings: Settings, clients: Clients) -> Vec<(String, ProbeOutcome)> {
    let probe = Probe::new(settings, Arc::new(clients)).unwrap();
    match probe.read(Timestamp::UNIX_EPOCH).await {
        Reading::Probe(round) => round.targets,
        other => panic!("not a round: {other:?}"),
    }
}

async fn outcome(settings: Settings) -> ProbeOutcome {
    round(settings).await.remove(0).1
}

fn failed(why: &str) -> ProbeOutcome {
    ProbeOutcome::Failed(why.to_owned())
}

fn passed(outcome: &ProbeOutcome) -> bool {
    matches!(outcome, ProbeOutcome::Passed { .. })
}

/// The reason and which kind it is, or what it is instead.
fn missing(outcome: &ProbeOutcome) -> String {
    match outcome {
        ProbeOutcome::Missing(missing) => missing.to_string(),
        other => format!("not missing: {other:?}"),
    }
}

#[tokio::test]
async fn a_service_that_answers_as_expected_passes() {
    let peer = Peer::answering(|_| answer(204, "", "")).await;
    assert!(passed(&outcome(settings(peer.url("/healthz?token=x"))).await));
    let head = peer.heads.lock().unwrap()[0].to_lowercase();
    assert!(head.starts_with("get /healthz?token=x http/1.1\r\n"), "{head}");
    assert!(head.contains("user-agent: rollbackd/"), "{head}");
    assert!(!head.contains("accept-encoding"), "{head}");
}

#[tokio::test]
async fn targets_are_named_without_what_may_be_secret_and_judged_one_by_one() {
    let well = Peer::answering(|_| answer(200, "", "")).await;
    let ill = Peer::answering(|_| answer(500, "", "")).await;
    let mut first = well.url("/a?token=x#there");
    first.set_username("me").unwrap();
    first.set_password(Some("secret")).unwrap();
    let targets = vec![first, ill.url("/b")];
    let round = round(Settings { targets, ..settings(well.url("/")) }).await;
    assert_eq!(round[0].0, format!("http://{}/a", well.at));
    assert!(passed(&round[0].1));
    assert_eq!(round[1], (format!("http://{}/b", ill.at), failed("status 500, expected 200 to 299")));
}

#[tokio::test]
async fn a_dead_service_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let nobody = Url::parse(&format!("http://{at}/")).unwrap();
    assert_eq!(outcome(settings(nobody)).await, failed("connection refused"));

    let hanging_up = Peer::behaving(|mut stream| async move { drop(request(&mut stream).await) }).await;
    assert_eq!(outcome(settings(hanging_up.url("/"))).await, failed("connection closed without an answer"));

    let resetting = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert_eq!(outcome(settings(resetting.url("/"))).await, failed("connection reset"));

    let silent = Peer::behaving(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    assert_eq!(outcome(hurried(settings(silent.url("/")))).await, failed("no answer within 250ms"));
}

#[tokio::test]
async fn statuses_are_judged_by_the_ranges() {
    let peer = Peer::answering(|_| answer(404, "", "")).await;
    assert_eq!(
        outcome(Settings { status: vec![(200, 299), (401, 401)], ..settings(peer.url("/")) }).await,
        failed("status 404, expected 200 to 299 or 401")
    );
    assert!(passed(&outcome(Settings { status: vec![(404, 404)], ..settings(peer.url("/")) }).await));
}

#[tokio::test]
async fn bodies_are_judged_by_text_and_by_value() {
    let peer = Peer::answering(|_| answer(200, "", r#"{"status": "ok", "checks": [{"up": true}], "n/a": 1}"#)).await;
    let text = |text: &str| Settings { body_contains: Some(text.to_owned()), ..settings(peer.url("/")) };
    let json = |pointer: &str, value| Settings { json: Some((pointer.to_owned(), value)), ..settings(peer.url("/")) };
    assert!(passed(&outcome(text("\"ok\"")).await));
    assert_eq!(outcome(text("fine")).await, failed("the body does not contain \"fine\""));
    assert!(passed(&outcome(json("/checks/0/up", json!(true))).await));
    assert!(passed(&outcome(json("/n~1a", json!(1))).await));
    assert_eq!(outcome(json("/status", json!("fine"))).await, failed("the body has \"ok\" at \"/status\", expected \"fine\""));
    assert_eq!(outcome(json("/nothing", json!(1))).await, failed("the body has nothing at \"/nothing\", expected 1"));

    for body in ["<html>", "[1", &"[".repeat(60_000)] {
        let body = body.to_owned();
        let peer = Peer::answering(move |_| answer(200, "", &body)).await;
        let outcome = outcome(Settings { json: Some((String::new(), json!(1))), ..settings(peer.url("/")) }).await;
        assert!(matches!(&outcome, ProbeOutcome::Failed(why) if why.starts_with("the body is not JSON")), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_late_fails_only_where_there_is_a_limit() {
    let peer = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        let _ = stream.write_all(&answer(200, "", "")).await;
    })
    .await;
    assert!(passed(&outcome(settings(peer.url("/"))).await));
    let late = outcome(Settings { latency_limit: Some(Duration::from_millis(20)), ..settings(peer.url("/")) }).await;
    assert!(
        matches!(&late, ProbeOutcome::Failed(why) if why.starts_with("answered after ") && why.ends_with("ms, limit 20ms")),
        "{late:?}"
    );
}

#[tokio::test]
async fn without_an_expectation_on_it_the_body_is_not_read() {
    let endless = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        write_for_ever(&mut stream, &[b'x'; 4096], Duration::ZERO).await;
    })
    .await;
    assert!(passed(&outcome(settings(endless.url("/"))).await));
    assert_eq!(
        missing(&outcome(with_body(endless.url("/"))).await),
        format!("answer too large: http://{}/: the body is larger than 64 KiB", endless.at)
    );
}

#[tokio::test]
async fn a_body_of_ten_mebibytes_costs_no_more_than_its_head() {
    let huge = Peer::answering(|_| answer(200, "", vec![b'x'; 10 * 1024 * 1024])).await;
    assert!(missing(&outcome(with_body(huge.url("/"))).await).ends_with("the body is larger than 64 KiB"));
}

#[tokio::test]
async fn an_answer_that_drips_says_nothing_about_the_service() {
    let dripping = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        write_for_ever(&mut stream, b"x", Duration::from_millis(10)).await;
    })
    .await;
    let settings = Settings { timeout: HEAD_IN_TIME, ..with_body(dripping.url("/")) };
    assert!(missing(&outcome(settings).await).ends_with("the body was not complete within 2s"));
}

#[tokio::test]
async fn headers_without_end_cost_a_bounded_amount() {
    let headers = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        write_for_ever(&mut stream, &b"a: b\r\n".repeat(1000), Duration::ZERO).await;
    })
    .await;
    assert!(missing(&outcome(settings(headers.url("/"))).await).starts_with("answer not understood: "));

    // Dripping ones can't be told from no answer.
    let dripping = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        write_for_ever(&mut stream, b"a: b\r\n", Duration::from_millis(10)).await;
    })
    .await;
    assert_eq!(outcome(hurried(settings(dripping.url("/")))).await, failed("no answer within 250ms"));

    let one_header = Peer::behaving(|mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\na: ").await;
        write_for_ever(&mut stream, &[b'x'; 4096], Duration::ZERO).await;
    })
    .await;
    assert!(missing(&outcome(settings(one_header.url("/"))).await).starts_with("answer not understood: "));
}

#[tokio::test]
async fn what_is_not_http_or_not_whole_says_nothing_about_the_service() {
    for bytes in
        ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"]
    {
        let peer = Peer::answering(move |_| bytes.as_bytes().to_vec()).await;
        let outcome = outcome(settings(peer.url("/"))).await;
        assert!(missing(&outcome).starts_with("answer not understood: "), "{bytes:?}: {outcome:?}");
    }
    let cut = Peer::answering(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nok".to_vec()).await;
    assert!(missing(&outcome(with_body(cut.url("/"))).await).contains("the body is not whole"));
}

#[tokio::test]
async fn a_compressed_body_is_never_opened() {
    let bomb = Peer::answering(|_| answer(200, "content-encoding: gzip\r\n", [0x1f, 0x8b, 8, 0])).await;
    assert!(passed(&outcome(settings(bomb.url("/"))).await));
    assert!(missing(&outcome(with_body(bomb.url("/"))).await).ends_with("the body is compressed, which was not asked for"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_others_unless_it_may_be_followed() {
    let peer = Peer::answering(|head| match head {
        head if head.starts_with("GET /old ") => answer(302, "location: /new\r\n", ""),
        head if head.starts_with("GET /new ") => answer(200, "", ""),
        _ => answer(302, "location: /loop\r\n", ""),
    })
    .await;
    assert_eq!(outcome(settings(peer.url("/old"))).await, failed("status 302, expected 200 to 299"));
    assert!(passed(&outcome(Settings { redirects: 1, ..settings(peer.url("/old")) }).await));
    assert!(passed(&outcome(Settings { status: vec![(302, 302)], ..settings(peer.url("/old")) }).await));
    let before = peer.heads.lock().unwrap().len();
    let endless = outcome(Settings { redirects: 3, ..settings(peer.url("/loop")) }).await;
    assert!(missing(&endless).ends_with("/loop: redirected more than 3 times"), "{endless:?}");
    assert_eq!(peer.heads.lock().unwrap().len() - before, 4);
}

#[tokio::test]
async fn a_redirect_elsewhere_is_never_followed() {
    let elsewhere = Peer::answering(|_| answer(200, "", "")).await;
    let other_port = elsewhere.url("/");
    for location in [other_port.as_str(), "http://localhost/", "//example.org/", "file:///etc/passwd", "http://[::1]/"] {
        let location = format!("location: {location}\r\n");
        let peer = Peer::answering(move |_| answer(307, &location, "")).await;
        let outcome = outcome(Settings { redirects: 3, ..settings(peer.url("/")) }).await;
        assert_eq!(outcome, failed("status 307, expected 200 to 299"));
    }
    assert_eq!(*elsewhere.connections.lock().unwrap(), 0);
}

/// Names that become 127.0.0.1 after a while, or never.
struct Names(Option<Duration>);

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        let delay = self.0;
        Box::pin(async move {
            tokio::time::sleep(delay.unwrap_or_default()).await;
            match delay {
                Some(_) => Ok(Box::new(std::iter::once(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))) as Addrs),
                None => Err("no such host".into()),
            }
        })
    }
}

fn named(peer: &Peer, name: &str) -> Url {
    let mut url = peer.url("/");
    url.set_host(Some(name)).unwrap();
    url
}

#[tokio::test]
async fn a_name_that_is_not_found_or_found_too_late_says_nothing_about_the_service() {
    let peer = Peer::answering(|_| answer(200, "", "")).await;
    let with = |names| Clients::with_resolver(Arc::new(names));
    let target = settings(named(&peer, "shop.test"));
    assert!(passed(&round_with(target.clone(), with(Names(Some(Duration::ZERO)))).await[0].1));

    let unknown = round_with(target.clone(), with(Names(None))).await;
    let address = format!("http://shop.test:{}/", peer.at.port());
    let expected = format!("source unreachable: {address}: its name does not resolve: no such host");
    assert_eq!(missing(&unknown[0].1), expected);

    let slow = round_with(hurried(target.clone()), with(Names(Some(Duration::from_mins(1))))).await;
    assert!(missing(&slow[0].1).contains("looking up its name took "), "{slow:?}");

    let silent = Peer::behaving(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let late = Settings { targets: vec![named(&silent, "shop.test")], ..target };
    let late = round_with(hurried(late), with(Names(Some(Duration::from_millis(150))))).await;
    assert!(missing(&late[0].1).contains("looking up its name took "), "{late:?}");
}

#[tokio::test]
async fn the_lookup_of_a_name_is_no_latency_of_the_service() {
    let peer = Peer::answering(|_| answer(200, "", "")).await;
    let settings = Settings { latency_limit: Some(Duration::from_millis(1500)), ..settings(named(&peer, "shop.test")) };
    let round = round_with(settings, Clients::with_resolver(Arc::new(Names(Some(Duration::from_millis(1600)))))).await;
    assert!(passed(&round[0].1), "{round:?}");
}

fn secured(peer: &Peer, ca_file: Option<std::path::PathBuf>) -> Settings {
    let target = Url::parse(&format!("https://{}/", peer.at)).unwrap();
    Settings { access: Access { ca_file, ..Access::default() }, ..settings(target) }
}

#[tokio::test]
async fn broken_encryption_says_nothing_about_the_service() {
    let (authority, files) = (Authority::new(), Files::new());
    let ca_file = files.write("ca.pem", &authority.pem());

    let self_signed = Peer::encrypted(authority.server("127.0.0.1", false), |_| answer(200, "", "")).await;
    let unknown = outcome(secured(&self_signed, None)).await;
    assert!(missing(&unknown).contains("TLS failed: invalid peer certificate: UnknownIssuer"), "{unknown:?}");
    assert!(passed(&outcome(secured(&self_signed, Some(ca_file.clone()))).await));

    let wrong_name = Peer::encrypted(authority.server("other.test", false), |_| answer(200, "", "")).await;
    let wrong = outcome(secured(&wrong_name, Some(ca_file.clone()))).await;
    assert!(missing(&wrong).contains("TLS failed: invalid peer certificate: certificate not valid for name"), "{wrong:?}");

    let not_encrypted = Peer::behaving(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        // Closing with what it was sent unread would be a reset.
        let _ = request(&mut stream).await;
    })
    .await;
    let plain = outcome(secured(&not_encrypted, Some(ca_file.clone()))).await;
    assert!(missing(&plain).contains("TLS failed: received corrupt message"), "{plain:?}");

    let closing = Peer::behaving(|mut stream| async move {
        let mut hello = [0; 5];
        let _ = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut hello).await;
        let mut rest = vec![0; usize::from(u16::from_be_bytes([hello[3], hello[4]]))];
        let _ = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut rest).await;
    })
    .await;
    let closed = outcome(secured(&closing, Some(ca_file))).await;
    assert!(missing(&closed).contains("TLS failed: connection closed in the handshake"), "{closed:?}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_wanted() {
    let (authority, files) = (Authority::new(), Files::new());
    let ca_file = files.write("ca.pem", &authority.pem());
    let peer = Peer::encrypted(authority.server("127.0.0.1", true), |_| answer(200, "", "")).await;
    let refused = outcome(secured(&peer, Some(ca_file.clone()))).await;
    assert!(missing(&refused).contains("TLS failed: received fatal alert"), "{refused:?}");

    let pair = authority.pair("rollbackd");
    let certificate = files.write("client.pem", &pair.certificate);
    let key = files.write("client.key", &pair.key.serialize_pem());
    let mut accepted = secured(&peer, Some(ca_file));
    accepted.access.client_certificate = Some((certificate, key));
    assert!(passed(&outcome(accepted).await));
}

#[tokio::test]
async fn connections_are_fresh_unless_they_may_be_kept() {
    async fn serve(mut stream: tokio::net::TcpStream) {
        while request(&mut stream).await.is_some() {
            let _ = stream.write_all(&answer(200, "", "ok")).await;
        }
    }
    let clients = Arc::new(Clients::default());
    for (fresh_connection, expected) in [(true, 3), (false, 1)] {
        let peer = Peer::behaving(serve).await;
        let probe = Probe::new(Settings { fresh_connection, ..with_body(peer.url("/")) }, Arc::clone(&clients)).unwrap();
        for _ in 0..3 {
            let Reading::Probe(round) = probe.read(Timestamp::UNIX_EPOCH).await else { panic!("not a round") };
            assert!(passed(&round.targets[0].1), "{round:?}");
        }
        assert_eq!(*peer.connections.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn credentials_are_read_at_each_probe_and_never_shown() {
    let peer = Peer::answering(|_| answer(200, "", "")).await;
    let files = Files::new();
    let token = files.write("token", "first\n");
    let mut with_token = settings(peer.url("/"));
    with_token.access.bearer = Some(Secret::File(token.clone()));
    with_token.access.headers = vec![
        ("host".to_owned(), HeaderValue::Plain("shop.test".to_owned())),
        ("x-key".to_owned(), HeaderValue::Secret(Secret::File(files.write("key", "k1")))),
    ];
    let probe = Probe::new(with_token.clone(), Arc::new(Clients::default())).unwrap();
    probe.read(Timestamp::UNIX_EPOCH).await;
    fs::write(&token, "second").unwrap();
    probe.read(Timestamp::UNIX_EPOCH).await;
    let heads = peer.heads.lock().unwrap().join("").to_lowercase();
    for expected in ["authorization: bearer first\r\n", "authorization: bearer second\r\n", "host: shop.test\r\n", "x-key: k1\r\n"] {
        assert!(heads.contains(expected), "{expected}: {heads}");
    }

    fs::write(&token, "bad\ntoken").unwrap();
    let Reading::Missing(missing) = probe.read(Timestamp::UNIX_EPOCH).await else { panic!("not missing") };
    assert_eq!(
        missing.to_string(),
        "source unreachable: cannot send the header \"authorization\": its name or its value is not allowed in HTTP"
    );
    fs::remove_file(&token).unwrap();
    let Reading::Missing(missing) = probe.read(Timestamp::UNIX_EPOCH).await else { panic!("not missing") };
    assert!(missing.to_string().starts_with("source unreachable: cannot read the secret in "), "{missing}");

    let basic = Access { basic: Some(("me".to_owned(), Secret::File(files.write("password", "pass")))), ..Access::default() };
    round(Settings { access: basic, ..settings(peer.url("/")) }).await;
    assert!(peer.heads.lock().unwrap().last().unwrap().contains("authorization: Basic bWU6cGFzcw==\r\n"));
}

#[tokio::test]
async fn a_hanging_target_does_not_hold_up_the_others() {
    let silent = Peer::behaving(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let targets = vec![silent.url("/"); MAX_TARGETS];
    let began = Instant::now();
    let round = round(hurried(Settings { targets, ..settings(silent.url("/")) })).await;
    assert_eq!(round.len(), MAX_TARGETS);
    // One after the other they take 16 s by their own limits.
    assert!(began.elapsed() < Duration::from_secs(16), "{:?}", began.elapsed());
}

#[test]
fn settings_that_no_probe_can_be_made_of_are_refused() {
    let url = Url::parse("http://127.0.0.1/").unwrap();
    let complaint = |settings| Probe::new(settings, Arc::new(Clients::default())).unwrap_err().to_string();
    assert_eq!(complaint(Settings { method: "GE T".to_owned(), ..settings(url.clone()) }), "\"GE T\" is not an HTTP method");
    assert_eq!(complaint(Settings { targets: Vec::new(), ..settings(url.clone()) }), "a probe has 1 to 64 targets, not 0");
    assert_eq!(complaint(Settings { targets: vec![url.clone(); 65], ..settings(url) }), "a probe has 1 to 64 targets, not 65");
}

#[tokio::test]
async fn a_probe_has_no_history() {
    let probe = Probe::new(settings(Url::parse("http://127.0.0.1/").unwrap()), Arc::new(Clients::default())).unwrap();
    assert_eq!(probe.history(Timestamp::UNIX_EPOCH, Timestamp::MAX).await, Reading::Missing(Missing::NoHistory));
}
