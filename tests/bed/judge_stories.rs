//! What the judge makes of bad days on a real cluster with a real Prometheus: what gets worse is found in durations and on one route; what
//! is not the deployment's doing is left alone.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::json;

use crate::parts::variable;
use crate::world::World;

/// Prometheus knows this much of the time before a story: enough to have learned from.
const KNOWN_SECONDS: i64 = 30 * 60;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_version_that_answers_slowly_is_rolled_back() {
    let mut world = World::new("slow", "deployment").await;
    begin(&world, "web", &[]);
    world.backfill(&durations("web", 20, 0.005));
    world.traffic(20);
    world.start_prometheus();
    world.configure(
        r#"
[services.web.latency]
prometheus = "main"
histogram = 'http_request_duration_seconds{job="pods",app="web"}'
# Four times as often as it is scraped.
every = "250ms"
[services.web.decision]
hold_latency = "3s"
"#,
    );
    world.start_daemon();
    world.mark_good();

    world.deploy("shop:slow");
    world.wait_for_notice("all_clear");
    assert!(world.daemon.said("scraped more rarely than it was to be looked at"), "it keeps to the pace of the scrapes");

    let told = world.notice("rolling_back");
    assert_eq!(told["severity"], "P1", "{told}");
    assert!(told.to_string().contains("latency"), "it is slowness that it is about: {told}");

    assert_eq!(world.wanted_image(), "shop:good");
    world.assert_heard_once(&["detected", "rolling_back", "recovered", "all_clear"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_version_on_which_one_route_is_broken_is_asked_about_and_goes_back_when_a_person_says_so() {
    let mut world = World::new("route", "deployment").await;
    world.window = "30s";
    begin(&world, "web", &[]);
    world.backfill(&format!("{}{}", requests("web", "/", 60, |_| 0.0), requests("web", "/cart", 2, |_| 0.0)));
    world.traffic(60);
    // So little of the whole that all routes together stay below the level of a broken feature.
    let cart = format!("http://{}/cart", world.address());
    world.traffic_on(&cart, 2);
    world.start_prometheus();
    world.configure(&format!("{}by = \"route\"\n", errors_of("services.web.errors", "web")));
    world.start_daemon();
    world.mark_good();

    world.deploy("shop:cart");
    world.wait_for_notice("approval_wanted");

    let asked = world.notice("approval_wanted");
    assert_eq!(asked["severity"], "P2", "{asked}");
    assert!(asked.to_string().contains("/cart"), "it names the route: {asked}");
    assert_eq!(world.wanted_image(), "shop:cart", "nothing happens until somebody decides");
    let approved = world.cli(&["approve", "web", "--yes"]);
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    world.wait_for_notice("all_clear");
    assert_eq!(world.wanted_image(), "shop:good");
    assert_eq!(world.kinds(), ["approval_wanted", "rolling_back", "recovered", "all_clear"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn an_outage_that_others_suffer_too_is_not_taken_for_the_deployments_doing() {
    let mut world = World::new("ambient", "deployment").await;
    let dependency = Dependency::new().await;
    for app in ["web", "payments"] {
        begin(&world, app, &[("DEPENDENCY", &dependency.url)]);
    }
    world.backfill(&["web", "payments"].map(|app| requests(app, "/", 30, |_| 0.0)).concat());
    world.traffic(30);
    let payments = format!("http://{}/", world.address_of("payments"));
    world.traffic_on(&payments, 30);
    world.start_prometheus();
    let control = errors_of("services.web.control.payments", "payments");
    world.configure(&format!("{}{control}", errors_of("services.web.errors", "web")));
    world.start_daemon();
    world.mark_good();

    world.deploy("shop:good2");
    wait_until_alone(&world, "shop:good2");
    dependency.fail();
    // Alone, it would be rolled back after less than 10 s of this.
    std::thread::sleep(Duration::from_secs(12));
    assert!(world.service().to_string().contains("others suffer"), "it says what holds it back: {}", world.service());
    dependency.recover();
    std::thread::sleep(Duration::from_secs(5));

    assert_eq!(world.wanted_image(), "shop:good2");
    // Once as a feature that fails, and once more if it got worse meanwhile.
    let kinds = world.kinds();
    assert!((1..=2).contains(&kinds.len()) && kinds.iter().all(|kind| kind == "held_back"), "{kinds:?}");
    let told = world.notice("held_back");
    assert!(told.to_string().contains("payments"), "{told}");
    assert_eq!(world.history().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_healthy_version_of_a_service_that_always_fails_in_bursts_is_left_alone() {
    let mut world = World::new("bursts", "deployment").await;
    world.window = "25s";
    begin(&world, "web", &[("BURST", "0.6/5s/12s")]);
    world.backfill(&requests("web", "/", 40, |second| if second % 12 < 5 { 0.6 } else { 0.0 }));
    world.traffic(40);
    world.start_prometheus();
    // Each burst alone lasts longer than that.
    world.configure(&format!("{}\n[services.web.decision]\nhold_p1 = \"2s\"\n", errors_of("services.web.errors", "web")));
    world.start_daemon();
    world.mark_good();

    world.deploy("shop:good2");
    wait_until_alone(&world, "shop:good2");
    // Two bursts and a half.
    std::thread::sleep(Duration::from_secs(26));

    assert_eq!(world.wanted_image(), "shop:good2");
    assert!(world.kinds().is_empty(), "nobody is told of a healthy version: {:?}", world.kinds());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_fix_that_helps_a_broken_service_only_in_part_is_not_rolled_back() {
    let mut world = World::new("halffix", "deployment").await;
    begin(&world, "web", &[("FAIL_RATIO", "0.8")]);
    world.backfill(&requests("web", "/", 40, |_| 0.8));
    world.traffic(40);
    world.start_prometheus();
    world.configure(&errors_of("services.web.errors", "web"));
    world.start_daemon();
    world.mark_good();

    deploy_with(&world, "shop:better", &[("FAIL_RATIO", "0.6")]);
    wait_until_alone(&world, "shop:better");
    // Twice the time that a version needs to be rolled back which fails as often where all was well.
    std::thread::sleep(Duration::from_secs(20));

    assert_eq!(world.wanted_image(), "shop:better");
    assert!(world.kinds().is_empty(), "it is not worse than before: {:?}", world.kinds());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_rollback_that_does_not_help_stops_there_and_says_so() {
    let mut world = World::new("nohelp", "deployment").await;
    world.recovery = "8s";
    let dependency = Dependency::new().await;
    begin(&world, "web", &[("DEPENDENCY", &dependency.url)]);
    world.backfill(&requests("web", "/", 40, |_| 0.0));
    world.traffic(40);
    world.start_prometheus();
    world.configure(&errors_of("services.web.errors", "web"));
    world.start_daemon();
    world.mark_good();
    world.deploy("shop:good2");
    wait_until_alone(&world, "shop:good2");
    world.mark_good();

    world.deploy("shop:good3");
    wait_until_alone(&world, "shop:good3");
    dependency.fail();
    world.wait_for_notice("did_not_help");
    std::thread::sleep(Duration::from_secs(3));

    assert_eq!(world.wanted_image(), "shop:good2", "it does not go on to the version before");
    // A slow machine may be told of before, as of a slow rollout or of the first few failures.
    let mut kinds = world.kinds();
    kinds.retain(|kind| kind != "not_rolled_out" && kind != "approval_wanted");
    assert_eq!(kinds, ["detected", "rolling_back", "did_not_help"]);
    assert_eq!(world.history()[0].0, "failed");
    let explained = world.cli_json(&["explain", "web"]).to_string();
    assert!(explained.contains("did not help"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_version_that_damages_data_by_the_operators_own_question_is_rolled_back() {
    let mut world = World::new("question", "deployment").await;
    begin(&world, "web", &[]);
    let cart = format!("http://{}/cart", world.address());
    world.traffic_on(&cart, 10);
    world.start_prometheus();
    world.configure(
        r#"
[services.web.impacts.lost_carts]
prometheus = "main"
query = 'sum(increase(http_requests_total{job="pods",route="/cart",code="500"}[5s])) > 0'
impact = "data_corruption"
every = "1s"
"#,
    );
    world.start_daemon();
    world.mark_good();

    world.deploy("shop:cart");
    world.wait_for_notice("all_clear");

    assert_eq!(world.wanted_image(), "shop:good");
    world.assert_heard_once(&["detected", "rolling_back", "recovered", "all_clear"]);
    let detected = world.notice("detected");
    assert_eq!(detected["severity"], "P0", "{detected}");
    assert!(detected.to_string().contains("lost_carts"), "it names the question: {detected}");
}

/// A workload of this name with two replicas of `shop:good` and its Service, rolled out.
fn begin(world: &World, app: &str, environment: &[(&str, &str)]) {
    let labels = json!({"app": app});
    world.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": app},
        "spec": {"selector": labels, "ports": [{"port": 8080}]}}));
    let container = json!({"name": app, "image": "shop:good", "imagePullPolicy": "IfNotPresent", "env": variables(environment),
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1}});
    let template = json!({"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}});
    world.apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}}));
    world.kubectl(&["rollout", "status", &format!("deployment/{app}"), "--timeout=60s"]);
}

/// A person deploys an image and changes the environment with it.
fn deploy_with(world: &World, image: &str, environment: &[(&str, &str)]) {
    let container = json!({"name": "web", "image": image, "env": variables(environment)});
    let change = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    world.kubectl(&["patch", "deployment", "web", "-p", &change.to_string()]);
}

fn variables(environment: &[(&str, &str)]) -> Vec<serde_json::Value> {
    environment.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// Waits until the daemon has seen the version, and no pod of another one is left to compare it with.
fn wait_until_alone(world: &World, image: &str) {
    world.wait_for("the new version was seen", |world| world.service()["deployment"]["version"]["name"].to_string().contains(image));
    world.wait_for("only its pods are there", |world| {
        let pods = world.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.containers[0].image}"]);
        pods == format!("{image} {image}") && world.ready_images().len() == 2
    });
}

/// A table that reads the counters of one workload.
fn errors_of(table: &str, app: &str) -> String {
    format!(
        r#"
[{table}]
prometheus = "main"
every = "1s"
total = 'http_requests_total{{job="pods",app="{app}"}}'
failed = 'http_requests_total{{job="pods",app="{app}",code=~"5.."}}'
"#
    )
}

/// What Prometheus would hold of a pod that has had so many requests a second until now, of which a share failed in each second of the
/// clock.
fn requests(app: &str, route: &str, per_second: u32, failing: impl Fn(i64) -> f64) -> String {
    let (mut samples, mut ok, mut failed) = (String::new(), 0.0, 0.0);
    for second in past() {
        let share = failing(second);
        ok += (1.0 - share) * f64::from(per_second);
        failed += share * f64::from(per_second);
        for (code, count) in [(200, ok), (500, failed)] {
            let labels = format!("job=\"pods\",app=\"{app}\",pod=\"before\",code=\"{code}\",route=\"{route}\"");
            writeln!(samples, "http_requests_total{{{labels}}} {count:.0} {second}").expect("a text takes it");
        }
    }
    samples
}

/// What Prometheus would hold of a pod that has answered so many requests a second, each after so many seconds.
fn durations(app: &str, per_second: u32, each: f64) -> String {
    const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let labels = format!("job=\"pods\",app=\"{app}\",pod=\"before\"");
    let (name, mut samples, mut count) = ("http_request_duration_seconds", String::new(), 0);
    for second in past() {
        count += per_second;
        for bound in BOUNDS {
            let at_most = if each <= bound { count } else { 0 };
            writeln!(samples, "{name}_bucket{{{labels},le=\"{bound}\"}} {at_most} {second}").expect("a text takes it");
        }
        writeln!(samples, "{name}_bucket{{{labels},le=\"+Inf\"}} {count} {second}").expect("a text takes it");
        writeln!(samples, "{name}_sum{{{labels}}} {} {second}", each * f64::from(count)).expect("a text takes it");
        writeln!(samples, "{name}_count{{{labels}}} {count} {second}").expect("a text takes it");
    }
    samples
}

/// The seconds that Prometheus is told of.
fn past() -> std::ops::Range<i64> {
    let now = Timestamp::now().as_second();
    now - KNOWN_SECONDS..now
}

/// Something that services depend on, and that fails when the story says so.
struct Dependency {
    url: String,
    well: Arc<AtomicBool>,
}

impl Dependency {
    async fn new() -> Self {
        let well = Arc::new(AtomicBool::new(true));
        let listener = tokio::net::TcpListener::bind((variable("BED_HOST_IP"), 0)).await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
        let asked = well.clone();
        let answer = move || async move { if asked.load(Ordering::Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE } };
        let router = axum::Router::new().route("/", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, well }
    }

    fn fail(&self) {
        self.well.store(false, Ordering::Relaxed);
    }

    fn recover(&self) {
        self.well.store(true, Ordering::Relaxed);
    }
}
