//! Stories of the route for alerts: real sockets, real bytes, and a real daemon whose service runs on a made-up platform.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use jiff::{SignedDuration, Timestamp};
use rollbackd_core::alert::{Rule, Rules};
use rollbackd_core::command::{Answer, Command};
use rollbackd_core::entry::{Actor, Entry, Record};
use rollbackd_core::guard::Limits;
use rollbackd_core::observation::{Binding, Replicas, Rollout, Workload};
use rollbackd_core::plan::Effect;
use rollbackd_core::service::{Decision, Restore, Service, ServiceName, Verification};
use rollbackd_core::severity::{Impact, Matrix};
use rollbackd_core::version::{Version, VersionId};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::*;
use crate::daemon::{Daemon, Setup};
use crate::executor::Adapters;
use crate::ledger::{Ledger, LedgerError};
use crate::platform::{Applied, Platform, Report};

const TOKEN: &str = "correct-horse-battery-staple";

/// A platform on which v2 has just been deployed, and stays.
#[derive(Debug)]
struct Settled;

#[async_trait]
impl Platform for Settled {
    fn watch(&self) -> BoxStream<'static, Report> {
        stream::iter([workload()]).chain(stream::pending()).boxed()
    }

    async fn look(&self) -> Report {
        workload()
    }

    async fn apply(&self, _: &Effect) -> Applied {
        Applied::Moved
    }
}

fn workload() -> Report {
    Report::Seen(Box::new(Workload {
        version: Version { id: VersionId("v2".to_owned()), name: "shop:v2".to_owned() },
        artifact: None,
        binding: Binding::Object { uid: "uid".to_owned(), generation: 1 },
        rollout: Rollout::Complete,
        replicas: Replicas { desired: 1, updated: 1, ready: 1, available: 1 },
        ready_is_checked: true,
        troubles: Vec::new(),
        record: None,
        change: None,
        unseen_for: SignedDuration::ZERO,
    }))
}

/// A ledger in memory that may be full.
#[derive(Default)]
struct Notebook {
    written: u64,
    full: Arc<Mutex<bool>>,
}

impl Ledger for Notebook {
    fn replay(&mut self, _: &mut dyn FnMut(Record)) -> Result<(), LedgerError> {
        Ok(())
    }

    fn append(&mut self, at: Timestamp, entries: Vec<Entry>) -> Result<Vec<Record>, LedgerError> {
        if *self.full.lock().unwrap() && entries.iter().any(|entry| matches!(entry, Entry::ImpactDeclared { .. })) {
            return Err(LedgerError::Full { path: "ledger".into() });
        }
        let records = entries.into_iter().map(|entry| {
            self.written += 1;
            Record { seq: self.written, at, entry }
        });
        Ok(records.collect())
    }
}

fn checkout() -> ServiceName {
    ServiceName::try_from("checkout").unwrap()
}

fn policy() -> Service {
    Service {
        name: checkout(),
        environment: "production".to_owned(),
        platform: "made up".to_owned(),
        window: SignedDuration::from_mins(30),
        signals: BTreeMap::new(),
        matrix: Matrix::default(),
        decision: Decision::default(),
        verification: Verification::default(),
        restore: Restore::Template,
        dry_run: false,
        promote_on_probes: true,
        rollbacks_per_day: 3,
    }
}

fn rules() -> Rules {
    let labels = [("severity", "critical"), ("kind", "corruption")].map(|(label, value)| (label.to_owned(), value.to_owned()));
    Rules { rules: vec![Rule { labels: labels.into(), impact: Impact::DataCorruption, service: None, pending: None }], ..Rules::default() }
}

/// A daemon that guards `checkout`, and listens.
struct World {
    directory: TempDir,
    address: SocketAddr,
    handle: Handle,
    full: Arc<Mutex<bool>>,
    _end: tokio_util::sync::DropGuard,
}

impl World {
    async fn begin() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let mut adapters = Adapters::default();
        adapters.platforms.insert(checkout(), Arc::new(Settled));
        let setup = Setup {
            policies: BTreeMap::from([(checkout(), policy())]),
            limits: Limits::default(),
            routes: BTreeMap::new(),
            alerts: rules(),
            adapters,
        };
        let notebook = Notebook::default();
        let full = notebook.full.clone();
        let (daemon, handle) = Daemon::open(Box::new(notebook), Timestamp::now(), "tester00", setup).unwrap();
        let end = CancellationToken::new();
        tokio::spawn(daemon.run(end.clone(), || {}));
        let settings = Settings { listen: "127.0.0.1:0".parse().unwrap(), token: Secret::File(token) };
        let listening = Listening::open(&settings).await.unwrap();
        let address = listening.address().unwrap();
        tokio::spawn(listening.serve(handle.clone(), end.clone()));
        let world = Self { directory, address, handle, full, _end: end.drop_guard() };
        // The first look comes at once, but not before the first question.
        while !matches!(world.ask(Command::Explain { service: checkout(), deployment: None }).await, Answer::Explanation(_)) {
            tokio::task::yield_now().await;
        }
        world
    }

    fn token_file(&self) -> std::path::PathBuf {
        self.directory.path().join("token")
    }

    async fn ask(&self, command: Command) -> Answer {
        self.handle.ask(command, Actor::Operator("alice".to_owned())).await.unwrap()
    }

    /// Sends bytes as they are, and gives status and body.
    async fn exchange(&self, request: &[u8]) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    async fn post(&self, authorization: Option<&str>, body: &[u8]) -> (u16, Value) {
        let authorization = authorization.map_or_else(String::new, |value| format!("Authorization: {value}\r\n"));
        let head = format!(
            "POST /v1/alerts HTTP/1.1\r\nHost: rollbackd\r\nUser-Agent: Alertmanager/0.27.0\r\nContent-Type: application/json\r\n{authorization}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.exchange(&[head.as_bytes(), body].concat()).await
    }

    async fn deliver(&self, message: &Value) -> (u16, Value) {
        self.post(Some(&format!("Bearer {TOKEN}")), message.to_string().as_bytes()).await
    }

    /// What is said to be wrong with what runs.
    async fn declared(&self) -> Vec<(Impact, String)> {
        let Answer::Status(status) = self.ask(Command::Status { service: Some(checkout()) }).await else { panic!("no status") };
        status.services[0].declared.iter().map(|declared| (declared.impact, declared.by.clone())).collect()
    }
}

/// A message as Alertmanager sends it.
fn message(alerts: &[Value]) -> Value {
    json!({
        "version": "4",
        "groupKey": "{}/{service=\"checkout\"}:{alertname=\"WrongTotals\"}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "rollbackd",
        "groupLabels": { "alertname": "WrongTotals" },
        "commonLabels": { "alertname": "WrongTotals", "service": "checkout" },
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.org:9093",
        "alerts": alerts,
    })
}

fn alert(status: &str, labels: &[(&str, &str)]) -> Value {
    let usual = [("alertname", "WrongTotals"), ("service", "checkout"), ("severity", "critical"), ("kind", "corruption")];
    let labels: BTreeMap<&str, &str> = usual.into_iter().chain(labels.iter().copied()).collect();
    let ends = if status == "resolved" { Timestamp::now().to_string() } else { "0001-01-01T00:00:00Z".to_owned() };
    json!({
        "status": status,
        "labels": labels,
        "annotations": { "summary": "the totals of 12 orders don't add up" },
        "startsAt": (Timestamp::now() + SignedDuration::from_millis(1)).to_string(),
        "endsAt": ends,
        "generatorURL": "http://prometheus.example.org:9090/graph?g0.expr=…",
        "fingerprint": "a1b2c3d4e5f60718",
    })
}

#[tokio::test]
async fn a_firing_alert_is_taken_down_once_and_over_when_it_is_resolved() {
    let world = World::begin().await;
    let firing = message(&[alert("firing", &[])]);
    let (status, answer) = world.deliver(&firing).await;
    assert_eq!((status, &answer["declared"], &answer["ignored"]), (200, &json!(1), &json!(0)), "{answer}");
    assert_eq!(world.declared().await, [(Impact::DataCorruption, "alert WrongTotals".to_owned())]);
    let (status, answer) = world.deliver(&firing).await;
    assert_eq!((status, &answer["declared"], &answer["known"]), (200, &json!(0), &json!(1)), "{answer}");
    let (status, answer) = world.deliver(&message(&[alert("resolved", &[])])).await;
    assert_eq!((status, &answer["withdrawn"]), (200, &json!(1)), "{answer}");
    assert_eq!(world.declared().await, []);
    let (_, answer) = world.deliver(&firing).await;
    assert_eq!(answer["why_ignored"], json!([{ "alert": "WrongTotals", "why": "it is over already" }]), "{answer}");
}

#[tokio::test]
async fn a_firing_alert_gives_a_verdict_and_the_guard_that_stands_in_the_way_is_named() {
    let world = World::begin().await;
    world.deliver(&message(&[alert("firing", &[])])).await;
    let Answer::Explanation(view) = world.ask(Command::Explain { service: checkout(), deployment: None }).await else { panic!() };
    let said = view.answer.join(" ");
    assert!(said.contains("P0 data corruption, declared by alert WrongTotals: the totals of 12 orders don't add up"), "{said}");
    assert!(said.contains("there is no other version that is known good"), "{said}");
}

#[tokio::test]
async fn what_concerns_nobody_is_answered_well_so_that_it_does_not_come_again() {
    let world = World::begin().await;
    let alerts =
        [alert("firing", &[("kind", "latency")]), alert("firing", &[("service", "ghost")]), alert("resolved", &[("service", "ghost")])];
    let (status, answer) = world.deliver(&message(&alerts)).await;
    assert_eq!((status, &answer["received"], &answer["ignored"]), (200, &json!(3), &json!(3)), "{answer}");
    let why: Vec<&str> = answer["why_ignored"].as_array().unwrap().iter().filter_map(|ignored| ignored["why"].as_str()).collect();
    let ghost = "no service is called \"ghost\"";
    assert_eq!(why, ["no rule matches it, and it has no label rollbackd_impact", ghost, ghost]);
    assert_eq!(world.declared().await, []);
    let (status, _) = world.deliver(&message(&[])).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_label_maps_by_itself() {
    let world = World::begin().await;
    world.deliver(&message(&[alert("firing", &[("rollbackd_impact", "minor_fault")])])).await;
    assert_eq!(world.declared().await, [(Impact::MinorFault, "alert WrongTotals".to_owned())]);
}

#[tokio::test]
async fn without_the_token_nothing_is_taken() {
    let world = World::begin().await;
    let body = message(&[alert("firing", &[])]).to_string();
    let longer = format!("Bearer {TOKEN}x");
    let cut = format!("Bearer {}", &TOKEN[..TOKEN.len() - 1]);
    for (authorization, expected) in [
        (None, "a token is needed"),
        (Some("Bearer"), "a token is needed"),
        (Some("Basic YWxpY2U6c2VjcmV0"), "a token is needed"),
        (Some("Bearer "), "a token is needed"),
        (Some("Bearer wrong"), "that is not the token"),
        (Some(longer.as_str()), "that is not the token"),
        (Some(cut.as_str()), "that is not the token"),
    ] {
        let (status, answer) = world.post(authorization, body.as_bytes()).await;
        assert_eq!(status, 401, "{authorization:?}");
        assert!(answer["error"].as_str().unwrap().starts_with(expected), "{authorization:?}: {answer}");
        assert!(!answer.to_string().contains(TOKEN), "the token is told");
    }
    assert_eq!(world.declared().await, []);
    let (status, _) = world.post(Some(&format!("bearer  {TOKEN}")), body.as_bytes()).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn of_who_has_no_token_no_body_is_read() {
    let world = World::begin().await;
    let head = b"POST /v1/alerts HTTP/1.1\r\nHost: rollbackd\r\nContent-Length: 900000\r\n\r\n{";
    let began = Instant::now();
    let (status, _) = world.exchange(head).await;
    assert_eq!(status, 401);
    assert!(began.elapsed() < Duration::from_secs(5), "it waited for the body");
}

#[tokio::test]
async fn a_new_token_counts_at_once_and_without_any_nobody_comes_in() {
    let world = World::begin().await;
    let body = message(&[]).to_string();
    std::fs::write(world.token_file(), "another").unwrap();
    assert_eq!(world.post(Some(&format!("Bearer {TOKEN}")), body.as_bytes()).await.0, 401);
    assert_eq!(world.post(Some("Bearer another"), body.as_bytes()).await.0, 200);
    for content in ["", "\n"] {
        std::fs::write(world.token_file(), content).unwrap();
        for authorization in [None, Some("Bearer "), Some("Bearer another")] {
            assert_eq!(world.post(authorization, body.as_bytes()).await.0, 500, "{content:?} {authorization:?}");
        }
    }
}

#[tokio::test]
async fn what_is_too_large_or_no_message_is_refused_with_words() {
    let world = World::begin().await;
    let bearer = format!("Bearer {TOKEN}");
    let largest = format!("{}{}", message(&[alert("firing", &[])]), " ".repeat(BODY_LIMIT));
    let (status, answer) = world.post(Some(&bearer), &largest.as_bytes()[..=BODY_LIMIT]).await;
    assert_eq!(status, 413, "{answer}");
    assert_eq!(world.post(Some(&bearer), &largest.as_bytes()[..BODY_LIMIT]).await.0, 200);
    let many: Vec<Value> = (0..1001).map(|_| json!({ "status": "firing", "labels": {}, "startsAt": "2026-11-21T02:10:00Z" })).collect();
    let (status, answer) = world.deliver(&message(&many)).await;
    assert_eq!(status, 413, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("max_alerts: 1000"), "{answer}");
    for body in ["", "{", "[]", "{\"version\":\"4\"}", "{\"version\":\"3\",\"alerts\":[]}", "status=firing", "\u{0}"] {
        let (status, answer) = world.post(Some(&bearer), body.as_bytes()).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["error"].as_str().unwrap().starts_with("this is no message of Alertmanager's webhook: "), "{answer}");
    }
}

#[tokio::test]
async fn there_is_no_other_route_on_tcp() {
    let world = World::begin().await;
    for (line, expected) in [
        ("GET /v1/alerts", 405),
        ("PUT /v1/alerts", 405),
        ("POST /v1/command", 404),
        ("GET /v1/livez", 404),
        ("GET /", 404),
        ("POST /v1/alerts/", 404),
        ("POST /v1/alerts/../command", 404),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: rollbackd\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 2\r\n\r\n{{}}");
        let (status, answer) = world.exchange(request.as_bytes()).await;
        assert_eq!((status, &answer["error"]), (expected, &json!("there is only POST /v1/alerts")), "{line}");
    }
}

#[tokio::test]
async fn what_could_not_be_recorded_is_delivered_again() {
    let world = World::begin().await;
    *world.full.lock().unwrap() = true;
    let firing = message(&[alert("firing", &[])]);
    let (status, answer) = world.deliver(&firing).await;
    assert_eq!(status, 503, "{answer}");
    *world.full.lock().unwrap() = false;
    assert_eq!(world.deliver(&firing).await.1["declared"], 1);
}

#[tokio::test]
async fn of_a_thousand_alerts_of_one_impact_as_many_are_taken_as_say_something() {
    let world = World::begin().await;
    let many: Vec<Value> = (0..1000)
        .map(|number| {
            let mut alert = alert("firing", &[]);
            alert["fingerprint"] = json!(format!("{number:016x}"));
            alert
        })
        .collect();
    let (status, answer) = world.deliver(&message(&many)).await;
    assert_eq!((status, &answer["declared"], &answer["ignored"]), (200, &json!(7), &json!(993)), "{}", answer["why_ignored"][0]);
    assert_eq!(answer["why_ignored"].as_array().unwrap().len(), LISTED);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_cut_off_and_leaves_their_place_to_others() {
    let world = World::begin().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(b"POST /v1/al").await.unwrap();
        silent.push(stream);
    }
    let (status, _) = timeout(Duration::from_mins(1), world.deliver(&message(&[]))).await.expect("a place becomes free");
    assert_eq!(status, 200);
}

#[test]
fn a_secret_is_the_same_only_where_every_byte_is() {
    for (given, expected, same) in [("a", "a", true), ("", "a", false), ("a", "ab", false), ("ab", "a", false), ("b", "a", false)] {
        assert_eq!(is_same(given.as_bytes(), expected.as_bytes()), same, "{given:?} {expected:?}");
    }
}

#[tokio::test]
async fn a_port_that_somebody_else_has_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let error = Listening::open(&Settings { listen, token: Secret::File(Path::new("token").to_owned()) }).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen for alerts at {listen}"));
}
