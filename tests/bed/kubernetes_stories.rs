//! What happens to a workload on a real cluster.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::World;

/// How often a rollback has one effect on the cluster: the plan's change and nothing else.
fn rows(world: &World) -> Vec<(String, Option<u64>)> {
    world.history().into_iter().map(|(status, _, rollback_of)| (status, rollback_of)).collect()
}

fn assert_went_back(world: &World, image: &str) {
    assert_eq!(world.wanted_image(), image);
    world.wait_for("only pods of the good version are ready", |world| world.ready_images() == [image, image]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_version_that_answers_500_is_rolled_back_and_everybody_hears_of_it_once() {
    let mut world = World::new("errors", "deployment").await;
    world.begin_with("shop:good");
    world.traffic(40);
    world.start_prometheus();
    world.configure(&format!("{}{}", World::errors_from_prometheus(), world.probe()));
    world.start_daemon();
    world.wait_until_known_good();

    world.deploy("shop:errors");
    world.wait_for_notice("recovered");

    assert_went_back(&world, "shop:good");
    world.wait_for_notice("all_clear");
    world.assert_heard_once(&["detected", "rolling_back", "recovered", "all_clear"]);
    assert_eq!(
        rows(&world),
        [("deployed".to_owned(), Some(rolled_back_number(&world))), ("rolled_back".to_owned(), None), ("deployed".to_owned(), None)]
    );
    let detected = world.hooks.lock().unwrap()[0].clone();
    assert!(["P0", "P1"].contains(&detected["severity"].as_str().unwrap()), "{detected}");
    let explained = world.cli_json(&["explain", "web"]);
    assert!(explained["answer"].to_string().contains("helped"), "{explained}");
    let now = world.cli(&["explain", "web"]);
    assert!(now.status.success());
}

fn rolled_back_number(world: &World) -> u64 {
    let rows = world.cli_json(&["history", "web"]);
    let rolled_back = rows.as_array().unwrap().iter().find(|row| row["status"] == "rolled_back").expect("a row that was rolled back");
    rolled_back["deployment"].as_u64().unwrap()
}

/// An image that never gets anywhere is rolled back by what the cluster says alone.
async fn a_version_that_never_runs(story: &str, image: &str) {
    let mut world = World::new(story, "deployment").await;
    // On a busy machine it takes its time until the cluster calls it a crash loop: nobody shall hear before that it is still not rolled out.
    world.window = "60s";
    world.begin_with("shop:good");
    world.configure("");
    world.start_daemon();
    world.mark_good();

    world.deploy(image);
    world.wait_for_notice("recovered");

    assert_went_back(&world, "shop:good");
    world.wait_for_notice("all_clear");
    world.assert_heard_once(&["detected", "rolling_back", "recovered", "all_clear"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_version_that_never_becomes_ready_is_rolled_back() {
    a_version_that_never_runs("notready", "shop:notready").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_version_that_crash_loops_is_rolled_back() {
    a_version_that_never_runs("crash", "shop:crash").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_version_whose_image_cannot_be_pulled_is_rolled_back() {
    a_version_that_never_runs("pull", "127.0.0.1:1/nowhere:v9").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_healthy_version_is_left_alone_and_becomes_known_good() {
    let mut world = World::new("healthy", "deployment").await;
    world.begin_with("shop:good");
    world.traffic(40);
    world.start_prometheus();
    world.configure(&format!("{}{}", World::errors_from_prometheus(), world.probe()));
    world.start_daemon();
    world.wait_until_known_good();

    world.deploy("shop:good2");
    world.wait_for("the new version was seen", |world| world.history().len() == 2);
    world.wait_until_known_good();

    assert_eq!(world.wanted_image(), "shop:good2");
    assert_eq!(rows(&world), [("deployed".to_owned(), None), ("deployed".to_owned(), None)]);
    assert!(world.kinds().is_empty(), "nobody is told of a healthy version: {:?}", world.kinds());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn without_prometheus_nothing_is_rolled_back_and_the_window_goes_on_when_it_returns() {
    let mut world = World::new("blind", "deployment").await;
    world.begin_with("shop:good");
    world.traffic(40);
    world.start_prometheus();
    world.configure(World::errors_from_prometheus());
    world.start_daemon();
    world.wait_until_known_good();

    world.deploy("shop:good2");
    world.wait_for("the new version was seen", |world| world.history().len() == 2);
    world.stop_prometheus();
    world.wait_for_notice("blind");
    world.start_prometheus();
    world.wait_for_notice("sighted");
    world.wait_until_known_good();

    assert_eq!(world.wanted_image(), "shop:good2");
    assert_eq!(world.kinds(), ["blind", "sighted"]);
}

/// Kills the daemon at a moment and lets another one carry on: one rollback, one set of notices.
fn assert_carried_on(world: &World, generation_before: i64) {
    world.wait_for_notice("all_clear");
    assert_went_back(world, "shop:good");
    assert_eq!(world.generation(), generation_before + 1, "the template changed exactly once");
    assert_eq!(world.kinds(), ["detected", "rolling_back", "recovered", "all_clear"]);
    assert_eq!(rows(world).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_daemon_killed_between_plan_and_effect_has_one_effect() {
    let mut world = World::new("planned", "deployment").await.through_a_proxy().await;
    world.begin_with("shop:good");
    world.configure(&world.probe());
    world.start_daemon();
    world.wait_until_known_good();

    world.deploy("shop:outage");
    world.wait_for("the outage is rolled out", |world| world.history().len() == 2);
    let generation = world.generation();
    world.proxy().hold();
    world.wait_for("the rollback is planned", |world| world.service()["rollback"]["phase"] == "planned");
    world.kill_daemon();
    assert_eq!(world.wanted_image(), "shop:outage", "nothing happened yet");
    world.proxy().release();
    world.start_daemon();

    assert_carried_on(&world, generation);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_daemon_killed_between_effect_and_record_has_one_effect() {
    let mut world = World::new("applied", "deployment").await.through_a_proxy().await;
    let disk = TinyDisk::mount(&world.state);
    world.begin_with("shop:good");
    world.configure(&world.probe());
    world.start_daemon();
    world.wait_until_known_good();

    world.deploy("shop:outage");
    world.wait_for("the outage is rolled out", |world| world.history().len() == 2);
    let generation = world.generation();
    world.proxy().hold();
    world.wait_for("the rollback is planned", |world| world.service()["rollback"]["phase"] == "planned");
    disk.fill();
    world.proxy().release();
    world.wait_for("the effect happened", |world| world.wanted_image() == "shop:good");
    world.wait_for("the daemon says what is wrong", |world| world.cli_json(&["status"])["troubles"].to_string().contains("no space left"));
    assert_eq!(world.service()["rollback"]["phase"], "planned", "what can't be recorded did not happen");
    world.kill_daemon();
    disk.empty();
    world.start_daemon();

    assert_carried_on(&world, generation);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_daemon_killed_while_it_verifies_goes_on_verifying() {
    let mut world = World::new("verifying", "deployment").await;
    world.begin_with("shop:good");
    world.traffic(40);
    world.start_prometheus();
    world.configure(World::errors_from_prometheus());
    world.start_daemon();
    world.wait_until_known_good();

    world.deploy("shop:errors");
    world.wait_for("the new version was seen", |world| world.history().len() == 2);
    let generation = world.generation();
    world.wait_for("the rollback is being verified", |world| world.service()["rollback"]["phase"] == "verifying");
    world.kill_daemon();
    world.start_daemon();

    assert_carried_on(&world, generation);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_full_disk_lets_nothing_happen_and_needs_no_restart() {
    let mut world = World::new("full", "deployment").await;
    let disk = TinyDisk::mount(&world.state);
    world.begin_with("shop:good");
    world.configure(&world.probe());
    world.start_daemon();
    world.wait_until_known_good();

    disk.fill();
    world.deploy("shop:outage");
    world.wait_for("the daemon says what is wrong", |world| world.cli_json(&["status"])["troubles"].to_string().contains("no space left"));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(world.wanted_image(), "shop:outage", "no effect without a recorded intent");
    disk.empty();

    world.wait_for_notice("recovered");
    assert_went_back(&world, "shop:good");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_fix_that_a_person_deploys_while_the_rollback_is_decided_is_not_overwritten() {
    let mut world = World::new("fix", "deployment").await.through_a_proxy().await;
    world.begin_with("shop:good");
    world.configure(&world.probe());
    world.start_daemon();
    world.wait_until_known_good();

    world.deploy("shop:outage");
    world.wait_for("the outage is rolled out", |world| world.history().len() == 2);
    world.proxy().hold();
    world.wait_for("the rollback is planned", |world| world.service()["rollback"]["phase"] == "planned");
    world.deploy("shop:good2");
    world.proxy().release();
    world.wait_for_notice("stopped");
    world.wait_until_known_good();

    assert_eq!(world.wanted_image(), "shop:good2");
    assert_eq!(world.kinds(), ["detected", "rolling_back", "stopped"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn when_the_known_good_version_is_bad_too_it_stops_and_calls_for_a_person() {
    let mut world = World::new("bothbad", "deployment").await;
    world.begin_with("shop:good");
    world.traffic(20);
    world.configure(&world.probe());
    world.start_daemon();
    world.wait_until_known_good();
    // What the good version depends on dies: the image stays, its pods fail from now on, whichever version runs.
    world.deploy("shop:outage");
    world.wait_for("the outage is rolled out", |world| world.history().len() == 2);
    world.kubectl(&["patch", "service", "web", "-p", r#"{"spec":{"selector":{"app":"nothing"}}}"#]);

    world.wait_for("it says that it did not help", |world| world.kinds().iter().any(|kind| kind == "did_not_help" || kind == "failed"));
    std::thread::sleep(Duration::from_secs(3));

    assert_eq!(world.wanted_image(), "shop:good", "it does not go on to another version");
    let rollbacks = world.kinds().iter().filter(|kind| *kind == "rolling_back").count();
    assert_eq!(rollbacks, 1);
    assert_eq!(world.history()[0].0, "failed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn without_a_known_good_version_nothing_is_done_and_it_is_said() {
    let mut world = World::new("noway", "deployment").await;
    world.begin_with("shop:good");
    world.configure("");
    world.start_daemon();
    world.wait_for("the first version was seen", |world| world.history().len() == 1);

    world.deploy("shop:crash");
    world.wait_for_notice("blocked");

    assert_eq!(world.wanted_image(), "shop:crash");
    let refused = world.cli(&["rollback", "web", "--yes"]);
    assert_eq!(refused.status.code(), Some(3), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no-known-good"));
    let blocked = world.hooks.lock().unwrap().iter().find(|hook| hook["kind"] == "blocked").cloned().unwrap();
    assert!(blocked["headline"].as_str().unwrap().contains("NO WAY BACK"), "{blocked}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_target_that_the_cluster_pruned_comes_from_the_ledgers_own_copy() {
    let mut world = World::new("pruned", "deployment").await;
    world.begin_with_spec("shop:good", &json!({"revisionHistoryLimit": 0}));
    world.configure("");
    world.start_daemon();
    world.mark_good();

    world.deploy("shop:good2");
    world.wait_for("the new version was seen", |world| world.history().len() == 2);
    world.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    world.wait_for("the old revision is gone", |world| !world.kubectl(&["get", "replicasets", "-o", "wide"]).contains("shop:good "));
    let went = world.cli(&["rollback", "web", "--yes", "--reason", "a drill"]);

    assert!(went.status.success(), "{}", String::from_utf8_lossy(&went.stderr));
    assert_went_back(&world, "shop:good");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn going_back_by_hand_in_the_window_is_told_and_left_alone() {
    let mut world = World::new("byhand", "deployment").await;
    world.begin_with("shop:good");
    world.configure(&world.probe());
    world.start_daemon();
    world.wait_until_known_good();

    world.deploy("shop:good2");
    world.wait_for("the new version was seen", |world| world.history().len() == 2);
    world.kubectl(&["rollout", "undo", "deployment/web"]);
    world.wait_for_notice("operator");
    world.wait_until_known_good();

    assert_eq!(world.wanted_image(), "shop:good");
    assert_eq!(world.kinds(), ["operator"]);
    let statuses: Vec<_> = rows(&world).into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, ["deployed", "superseded", "deployed"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_stateful_set_stuck_on_a_broken_pod_is_freed() {
    let mut world = World::new("stateful", "statefulset").await;
    world.begin_with("shop:good");
    world.configure("");
    world.start_daemon();
    world.mark_good();

    world.deploy("shop:crash");
    world.wait_for_notice("recovered");

    assert_went_back(&world, "shop:good");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_daemon_set_is_rolled_back() {
    let mut world = World::new("daemonset", "daemonset").await;
    world.begin_with("shop:good");
    world.configure("");
    world.start_daemon();
    world.mark_good();

    world.deploy("shop:crash");
    world.wait_for_notice("recovered");

    assert_eq!(world.wanted_image(), "shop:good");
    world.wait_for("the good version is ready", |world| world.ready_images() == ["shop:good"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn sigterm_in_the_middle_ends_within_ten_seconds_and_is_carried_on() {
    let mut world = World::new("sigterm", "deployment").await.through_a_proxy().await;
    world.begin_with("shop:good");
    world.configure(&world.probe());
    world.start_daemon();
    world.wait_until_known_good();

    world.deploy("shop:outage");
    world.wait_for("the outage is rolled out", |world| world.history().len() == 2);
    let generation = world.generation();
    world.proxy().hold();
    world.wait_for("the rollback is planned", |world| world.service()["rollback"]["phase"] == "planned");
    let asked = Instant::now();
    world.terminate_daemon();
    assert!(asked.elapsed() < Duration::from_secs(10));
    world.proxy().release();
    world.start_daemon();

    assert_carried_on(&world, generation);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn where_only_images_go_back_what_else_a_person_changed_stays() {
    let mut world = World::new("images", "deployment").await;
    world.begin_with("shop:good");
    world.configure(&format!("restore = \"image\"\n{}", world.probe()));
    world.start_daemon();
    world.wait_until_known_good();

    let container = json!({"name": "web", "image": "shop:outage", "env": [{"name": "COLOUR", "value": "green"}],
        "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}}});
    let change = json!({"spec": {"replicas": 3, "template": {
        "metadata": {"annotations": {"team": "checkout"}}, "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]}}}});
    world.kubectl(&["patch", "deployment", "web", "-p", &change.to_string()]);
    let mut wanted = world.object()["spec"].clone();
    world.wait_for_notice("all_clear");

    wanted["template"]["spec"]["containers"][0]["image"] = json!("shop:good");
    assert_eq!(world.object()["spec"], wanted, "only the image went back");
    world.wait_for("only pods of the good image are ready", |world| world.ready_images() == ["shop:good"; 3]);
    world.assert_heard_once(&["detected", "rolling_back", "recovered", "all_clear"]);
    let told = world.notice("rolling_back").to_string();
    assert!(told.contains("the container images only"), "{told}");
    assert_eq!(rows(&world)[1].0, "rolled_back");
}

/// A healthy version arrives that takes 20 s to become ready, while nothing else runs. It has been seen for `seen_before`.
async fn recreated_with_a_slow_start(story: &str, seen_before: Duration, limits: &str, probe: impl Fn(&World) -> String) -> World {
    let mut world = World::new(story, "deployment").await;
    world.window = "40s";
    world.begin_with_spec("shop:good", &json!({"strategy": {"type": "Recreate"}}));
    world.configure(&format!("{}\n[services.web.decision]\n{limits}\n", probe(&world)));
    world.start_daemon();
    world.mark_good();
    std::thread::sleep(seen_before);

    let container = json!({"name": "web", "image": "shop:good2", "readinessProbe": {"initialDelaySeconds": 20}});
    world.kubectl(&["patch", "deployment", "web", "-p", &json!({"spec": {"template": {"spec": {"containers": [container]}}}}).to_string()]);
    world.wait_for("the new version was seen", |world| world.history().len() >= 2);
    world
}

fn assert_is_left_alone(world: &World) {
    world.wait_for("it is rolled out, or gone back from", |world| {
        world.ready_images() == ["shop:good2", "shop:good2"] || world.wanted_image() != "shop:good2"
    });
    assert!(world.kinds().is_empty(), "nobody is told of a healthy version: {:?}", world.hooks.lock().unwrap().first());
    assert_eq!(world.wanted_image(), "shop:good2");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_recreated_version_that_starts_slowly_but_within_the_startup_deadline_becomes_known_good() {
    let limits = "startup_deadline = \"30s\"\nready_deadline = \"40s\"";
    let world = recreated_with_a_slow_start("recreate", Duration::ZERO, limits, |_| String::new()).await;

    assert_is_left_alone(&world);
    world.wait_until_known_good();
    assert!(world.kinds().is_empty(), "nobody is told of a healthy version: {:?}", world.kinds());
    assert_eq!(rows(&world), [("deployed".to_owned(), None), ("superseded".to_owned(), None)]);
}

/// That nothing is available while a Recreate goes on is how the platform was told to do it, not the version's fault.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_recreated_version_that_is_ready_before_the_ready_deadline_is_left_alone() {
    let limits = "startup_deadline = \"5s\"\nready_deadline = \"40s\"";
    let world = recreated_with_a_slow_start("recreateready", Duration::ZERO, limits, |_| String::new()).await;

    assert_is_left_alone(&world);
}

/// The old version answers the first probes of the new one's window; that must not begin the clock on a version that still starts.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn probes_that_the_leaving_version_answered_do_not_count_against_a_recreated_one_that_still_starts() {
    let limits = "grace = \"30s\"\nstartup_deadline = \"30s\"\nready_deadline = \"40s\"";
    let probe = |world: &World| world.probe().replace("250ms", "100ms");
    // From about 460 clean rounds on six failing ones are evidence enough.
    let world = recreated_with_a_slow_start("recreateprobe", Duration::from_secs(50), limits, probe).await;

    assert_is_left_alone(&world);
}

/// A disk of 2 MiB for the ledger, that can be full.
#[derive(Debug)]
struct TinyDisk {
    folder: std::path::PathBuf,
}

impl TinyDisk {
    fn mount(folder: &std::path::Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder).status().unwrap();
        assert!(mounted.success(), "the bed runs as root");
        Self { folder: folder.to_owned() }
    }

    fn fill(&self) {
        let mut filler = std::fs::File::create(self.folder.join("filler")).unwrap();
        let block = [0_u8; 4096];
        while std::io::Write::write_all(&mut filler, &block).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.folder.join("filler")).unwrap();
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}
