//! What happens when the cluster says no: quotas, admission, a rollout that a person paused.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::world::World;

/// A rollback of `shop:outage` to `shop:good` is planned, by a daemon that is the service account, and can't begin before the proxy lets it.
async fn a_rollback_about_to_begin(story: &str) -> World {
    let mut world = World::new(story, "deployment").await.with_its_service_account().through_a_proxy().await;
    world.begin_with("shop:good");
    world.configure(&world.probe());
    world.start_daemon();
    world.wait_until_known_good();
    world.deploy("shop:outage");
    world.wait_for("the outage is rolled out", |world| world.history().len() == 2);
    world.proxy().hold();
    world.wait_for("the rollback is planned", |world| world.service()["rollback"]["phase"] == "planned");
    world
}

fn statuses(world: &World) -> Vec<(String, bool)> {
    world.history().into_iter().map(|(status, _, rollback_of)| (status, rollback_of.is_some())).collect()
}

fn row(status: &str, is_rollback: bool) -> (String, bool) {
    (status.to_owned(), is_rollback)
}

/// Allows as many pods as there are, and none more: a rolling update can't begin.
fn allow_no_further_pod(world: &World) {
    world.kubectl(&["create", "quota", "tight", "--hard=pods=2"]);
    let used = ["get", "quota", "tight", "-o", "jsonpath={.status.used.pods}"];
    world.wait_for("the quota counts", |world| world.kubectl(&used) == "2");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_rollback_whose_pods_a_quota_stops_has_failed_once_and_the_quotas_words_are_told() {
    let world = a_rollback_about_to_begin("quota").await;
    let generation = world.generation();
    allow_no_further_pod(&world);
    world.proxy().release();
    world.wait_for_notice("failed");
    sleep(Duration::from_secs(6));

    world.assert_heard_once(&["detected", "rolling_back", "failed"]);
    let failed = world.notice("failed").to_string();
    assert!(failed.contains("exceeded quota: tight"), "{failed}");
    let explained = world.cli_json(&["explain", "web"]);
    assert!(explained["answer"].to_string().contains("exceeded quota: tight"), "{explained}");
    assert_eq!(world.wanted_image(), "shop:good", "the cluster will finish it when the quota allows it");
    assert_eq!(world.generation(), generation + 1);
    assert_eq!(world.patches(), [200]);
    assert_eq!(world.ready_images(), ["shop:outage", "shop:outage"]);
    assert_eq!(statuses(&world), [row("failed", true), row("rolled_back", false), row("deployed", false)]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_rollback_that_admission_refuses_is_tried_once_told_once_and_can_be_asked_for_again() {
    let world = a_rollback_about_to_begin("admission").await;
    let generation = world.generation();
    let admission = Admission::forbids_the_good_image(&world);
    world.proxy().release();
    world.wait_for_notice("failed");
    world.wait_for("its window ended", |world| world.history()[0].0 == "failed");

    world.assert_heard_once(&["detected", "rolling_back", "failed", "failed"]);
    let told = world.texts("failed");
    assert!(told[0].contains("REFUSED") && told[0].contains("shop:good is banned"), "{told:?}");
    assert!(told[1].contains("is still there"), "{told:?}");
    let explained = world.cli_json(&["explain", "web"]);
    assert!(explained["answer"].to_string().contains("shop:good is banned"), "{explained}");
    assert_eq!(world.patches(), [422]);
    assert_eq!(world.generation(), generation, "nothing was changed");
    assert_eq!(world.wanted_image(), "shop:outage");
    assert_eq!(statuses(&world), [row("failed", false), row("deployed", false)]);

    drop(admission);
    world.wait_for("shop:good is allowed again", Admission::allows_the_good_image);
    let asked = world.cli(&["rollback", "web", "--yes", "--reason", "the ban is lifted"]);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    world.wait_for_notice("recovered");
    assert_eq!(world.wanted_image(), "shop:good");
    assert_eq!(world.patches(), [422, 200]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_version_whose_pods_a_quota_stops_is_rolled_back_and_the_quotas_words_are_told() {
    let mut world = World::new("newquota", "deployment").await.with_its_service_account();
    world.window = "40s";
    world.begin_with("shop:good");
    world.configure("");
    world.start_daemon();
    world.mark_good();
    allow_no_further_pod(&world);

    world.deploy("shop:good2");
    world.wait_for_notice("recovered");

    let detected = world.notice("detected").to_string();
    assert!(detected.contains("exceeded quota: tight"), "{detected}");
    let explained = world.cli_json(&["explain", "web"]);
    assert!(explained["answer"].to_string().contains("exceeded quota: tight"), "{explained}");
    assert_eq!(world.wanted_image(), "shop:good");
    assert_eq!(world.ready_images(), ["shop:good", "shop:good"]);
    assert_eq!(world.patches(), [200]);
    world.wait_for_notice("all_clear");
    world.assert_heard_once(&["detected", "rolling_back", "recovered", "all_clear"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn a_paused_deployment_is_refused_by_that_name_and_rolled_back_when_somebody_resumes_it() {
    let mut world = World::new("paused", "deployment").await.with_its_service_account();
    world.window = "2m";
    world.begin_with("shop:good");
    world.configure("");
    world.start_daemon();
    world.mark_good();

    world.deploy("shop:notready");
    world.wait_for("it is being rolled out", |world| world.kubectl(&["get", "pods", "-o", "wide"]).lines().count() == 4);
    world.kubectl(&["rollout", "pause", "deployment/web"]);
    world.wait_for_notice("failed");
    sleep(Duration::from_secs(6));
    let generation = world.generation();
    let service = world.service();
    assert!(!service.to_string().contains("already-rolled-back"), "{service}");
    assert_eq!(world.wanted_image(), "shop:notready");
    let told = world.texts("failed");
    assert!(told.len() == 1 && told[0].contains("is paused") && told[0].contains("tried again when somebody changes"), "{told:?}");

    world.kubectl(&["rollout", "resume", "deployment/web"]);
    world.wait_for_notice("recovered");
    assert_eq!(world.wanted_image(), "shop:good");
    world.wait_for("only the good version is ready", |world| world.ready_images() == ["shop:good", "shop:good"]);
    assert_eq!(world.generation(), generation + 2, "resumed by a person, and gone back once");
    assert_eq!(world.patches().into_iter().filter(|status| *status == 200).count(), 1);
    assert_eq!(statuses(&world)[1], row("rolled_back", false));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the bed: run tests/run"]
async fn where_only_images_go_back_a_bad_environment_is_left_and_it_is_said_why() {
    let mut world = World::new("badenv", "deployment").await.with_its_service_account();
    world.window = "30s";
    world.begin_with("shop:good");
    world.configure("restore = \"image\"\n");
    world.start_daemon();
    world.mark_good();

    world.kubectl(&["set", "env", "deployment/web", "READY=no"]);
    world.wait_for_notice("failed");

    let failed = world.notice("failed").to_string();
    assert!(failed.contains("nothing that may be restored"), "{failed}");
    assert_eq!(world.object()["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"], "no");
    assert!(world.patches().is_empty(), "{:?}", world.patches());
}

/// A policy of the cluster, for one namespace.
struct Admission {
    name: String,
}

impl Admission {
    /// Forbids the image that the rollback goes to.
    fn forbids_the_good_image(world: &World) -> Self {
        let name = world.namespace.clone();
        let admission = Self { name: name.clone() };
        world.apply(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name}, "spec": {
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]},
                "validations": [{"expression": "object.spec.template.spec.containers.all(container, container.image != 'shop:good')",
                    "message": "shop:good is banned since this morning"}]}}));
        world.apply(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}}}}));
        world.wait_for("shop:good is forbidden", |world| !Self::allows_the_good_image(world));
        admission
    }

    fn allows_the_good_image(world: &World) -> bool {
        world.try_kubectl(&["set", "image", "deployment/web", "web=shop:good", "--dry-run=server"]).status.success()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            let _ = Command::new("kubectl").args(["delete", kind, &self.name, "--ignore-not-found"]).output();
        }
    }
}
