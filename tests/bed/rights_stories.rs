//! What the daemon may do in a cluster: it has exactly the rights that `deploy/kubernetes` gives it, uses all of them and asks for no other.

use std::thread::sleep;
use std::time::Duration;

use crate::account::deploy;
use crate::world::World;

/// A daemon that is the service account, and whose version `shop:good` is known good.
async fn guarded(story: &str, kind: &'static str) -> World {
    let mut world = World::new(story, kind).await.with_its_service_account();
    world.window = "40s";
    world.begin_with("shop:good");
    world.configure("");
    world.start_daemon();
    world.mark_good();
    world
}

fn assert_asked_for(world: &World, expected: &[&str]) {
    let asked: Vec<_> = world.asked_for().into_iter().collect();
    assert_eq!(asked, expected);
    let refused: Vec<_> = world.requests().into_iter().filter(|request| [401, 403].contains(&request.status)).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn the_rights_that_are_given_suffice_for_a_deployment_and_no_other_is_asked_for() {
    let world = guarded("rights", "deployment").await;

    world.deploy("shop:notready");
    world.wait_for_notice("all_clear");

    assert_eq!(world.wanted_image(), "shop:good");
    world.assert_heard_once(&["detected", "rolling_back", "recovered", "all_clear"]);
    assert_eq!(world.patches(), [200]);
    assert_asked_for(
        &world,
        &["get deployments", "list deployments", "list pods", "list replicasets", "patch deployments", "watch deployments"],
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn the_rights_that_are_given_suffice_to_free_a_stuck_stateful_set() {
    let world = guarded("rightsset", "statefulset").await;

    world.deploy("shop:notready");
    world.wait_for_notice("all_clear");

    world.wait_for("only the good version is ready", |world| world.ready_images() == ["shop:good", "shop:good"]);
    world.assert_heard_once(&["detected", "rolling_back", "recovered", "all_clear"]);
    assert_eq!(world.patches(), [200]);
    assert_asked_for(
        &world,
        &[
            "delete pods",
            "get statefulsets",
            "list controllerrevisions",
            "list pods",
            "list statefulsets",
            "patch statefulsets",
            "watch statefulsets",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn who_may_only_look_is_refused_once_and_says_which_right_is_missing() {
    let world = guarded("lookonly", "deployment").await;
    world.kubectl(&["delete", "rolebinding", "rollbackd-roll-back"]);
    let may = ["auth", "can-i", "patch", "deployments", "--as", "system:serviceaccount:rollbackd:rollbackd"];
    world.wait_for("the right is gone", |world| !world.try_kubectl(&may).status.success());

    world.deploy("shop:notready");
    world.wait_for_notice("failed");
    sleep(Duration::from_secs(10));

    let failed = world.notice("failed").to_string();
    assert!(failed.contains("cannot patch resource") && failed.contains("deployments"), "{failed}");
    let explained = world.cli_json(&["explain", "web"]);
    assert!(explained["answer"].to_string().contains("cannot patch resource"), "{explained}");
    assert_eq!(world.patches(), [403], "it hammers at a closed door");
    assert_eq!(world.wanted_image(), "shop:notready");
    world.assert_heard_once(&["detected", "rolling_back", "failed"]);

    world.kubectl(&["apply", "-f", &deploy("rbac.yaml").display().to_string()]);
    world.wait_for("the right is back", |world| world.try_kubectl(&may).status.success());
    let asked = world.cli(&["rollback", "web", "--yes", "--reason", "the right was given"]);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    world.wait_for_notice("recovered");
    assert_eq!(world.patches(), [403, 200]);
    assert_eq!(world.wanted_image(), "shop:good");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn the_manifests_that_operators_are_given_are_ones_that_a_cluster_takes() {
    let world = World::new("manifests", "deployment").await.with_its_service_account();
    for manifest in ["rollbackd.yaml", "rbac.yaml"] {
        let file = deploy(manifest).display().to_string();
        let taken =
            World::kubectl_anywhere(&["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", &file]);
        assert!(taken.contains("serverside-applied"), "{taken}");
    }
    drop(world);
}
