//! Looking, against the scripted server, on virtual time.

use rollbackd_core::observation::{Missing, Trouble, Workload};
use serde_json::{Value, json};

use super::super::testing::{Fault, Server, deployment, effect, template, version};
use super::super::{Kind, Platform as _};
use super::*;

fn seen(report: Report) -> Workload {
    match report {
        Report::Seen(workload) => *workload,
        other => panic!("expected a look, got {other:?}"),
    }
}

async fn next(reports: &mut BoxStream<'static, Report>) -> (Report, Duration) {
    let began = Instant::now();
    let report = reports.next().await.expect("a watch never ends");
    (report, began.elapsed())
}

/// Takes the report that the watch's own start rings for.
async fn settled(server: &Server, kind: Kind) -> BoxStream<'static, Report> {
    let mut reports = server.platform(kind).watch();
    next(&mut reports).await;
    next(&mut reports).await;
    reports
}

fn pod(name: &str, owner: &str, labels: &Value, status: &Value) -> Value {
    let mut all = json!({ "app": "shop" });
    all.as_object_mut().expect("an object").extend(labels.as_object().expect("an object").clone());
    json!({ "metadata": { "name": name, "uid": format!("uid-{name}"), "resourceVersion": "1", "labels": all,
                          "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "X", "name": "x", "uid": owner, "controller": true }] },
            "spec": { "containers": [{ "name": "shop", "image": "shop:v2" }] }, "status": status })
}

fn ready() -> Value {
    json!({ "conditions": [{ "type": "Ready", "status": "True" }] })
}

fn crashing() -> Value {
    json!({ "containerStatuses": [{ "name": "shop", "image": "shop:v2", "imageID": "", "ready": false, "restartCount": 4,
            "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": { "terminated": { "exitCode": 1, "reason": "Error" } } }] })
}

fn replica_set(image: &str, hash: &str, number: i64) -> Value {
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
    json!({ "metadata": { "name": format!("shop-{hash}"), "uid": format!("set-{hash}"), "labels": { "app": "shop", "pod-template-hash": hash },
                          "annotations": { "deployment.kubernetes.io/revision": number.to_string() },
                          "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "uid": "uid-1", "controller": true }] },
            "spec": { "replicas": 1, "template": template }, "status": { "replicas": 1 } })
}

fn controller_revision(image: &str, hash: &str, number: i64) -> Value {
    let mut template = template(image);
    template["$patch"] = json!("replace");
    json!({ "metadata": { "name": format!("shop-{hash}"), "uid": format!("revision-{hash}"), "labels": { "app": "shop", "controller-revision-hash": hash },
                          "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "X", "name": "shop", "uid": "uid-1", "controller": true }] },
            "data": { "spec": { "template": template } }, "revision": number })
}

/// A rollout of `shop:v2` under way: one old pod serves, one new pod crashes.
fn rolling() -> Server {
    let mut raw = deployment("shop:v2", 1);
    raw["status"] = json!({ "observedGeneration": 4, "replicas": 2, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1 });
    let server = Server::with(raw);
    server.state().revisions = vec![replica_set("shop:v1", "old", 1), replica_set("shop:v2", "new", 2)];
    server.state().pods = vec![
        pod("old-1", "set-old", &json!({ "pod-template-hash": "old" }), &ready()),
        pod("new-1", "set-new", &json!({ "pod-template-hash": "new" }), &crashing()),
        pod("alien", "set-alien", &json!({ "pod-template-hash": "new" }), &ready()),
    ];
    server
}

#[tokio::test(start_paused = true)]
async fn it_looks_at_once_at_each_change_and_once_a_minute() {
    let server = Server::with(deployment("shop:v1", 3));
    let mut reports = server.platform(Kind::Deployment).watch();

    let (first, after) = next(&mut reports).await;
    assert_eq!((seen(first).version, after), (version("shop:v1"), Duration::ZERO));
    let (_, after) = next(&mut reports).await;
    assert_eq!(after, Duration::ZERO, "the bell's own start");
    let (_, after) = next(&mut reports).await;
    assert_eq!(after, SETTLED);

    server.change(|object| object["spec"]["template"] = template("shop:v2"));
    let (second, after) = next(&mut reports).await;
    let second = seen(second);
    assert_eq!((second.version, after), (version("shop:v2"), Duration::ZERO));
    assert_eq!(second.rollout, Rollout::Progressing, "the controller has not seen it yet");
}

#[tokio::test(start_paused = true)]
async fn while_a_rollout_goes_on_it_looks_at_the_new_versions_pods_every_other_second() {
    let server = rolling();
    let mut reports = settled(&server, Kind::Deployment).await;

    let (report, after) = next(&mut reports).await;

    assert_eq!(after, UNSETTLED);
    let workload = seen(report);
    assert_eq!(workload.rollout, Rollout::Progressing);
    assert_eq!(workload.replicas, rollbackd_core::observation::Replicas { desired: 1, updated: 1, ready: 0, available: 1 });
    assert_eq!(workload.troubles, [Trouble::CrashLoop { replicas: 1, restarts: 4, reason: "exit code 1".to_owned() }]);
}

#[tokio::test(start_paused = true)]
async fn a_settled_workload_costs_one_read() {
    let server = Server::with(deployment("shop:v1", 3));
    server.platform(Kind::Deployment).look().await;
    assert_eq!(server.state().requests, ["GET deployments/shop"]);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_see_pods_still_sees_the_workload_and_calls_nothing_dead() {
    let server = rolling();
    server.state().forbidden = vec!["pods"];

    let workload = seen(server.platform(Kind::Deployment).look().await);

    assert_eq!((workload.replicas.ready, workload.troubles), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn it_says_when_it_is_blind_and_sees_again_by_itself() {
    let server = Server::with(deployment("shop:v1", 3));
    let mut reports = settled(&server, Kind::Deployment).await;
    server.fail("GET", [Fault::Refused(503, "etcd is away"), Fault::Silence]);

    let (report, after) = next(&mut reports).await;
    assert_eq!(report, Report::Missing(Missing::Refused("cannot read deployment shop/shop: etcd is away".to_owned())));
    assert_eq!(after, SETTLED);

    let (report, after) = next(&mut reports).await;
    assert!(matches!(report, Report::Missing(Missing::Unreachable(why)) if why.ends_with("no answer within 5s")));
    assert!(after <= Duration::from_secs(10), "{after:?}");

    let (report, after) = next(&mut reports).await;
    assert_eq!(seen(report).version, version("shop:v1"));
    assert!(after <= Duration::from_secs(4), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_away_for_long_is_not_hammered() {
    let server = Server::with(deployment("shop:v1", 3));
    server.fail("GET", vec![Fault::Refused(503, "away"); 10_000]);
    server.state().forbidden = vec!["deployments"];
    let mut reports = server.platform(Kind::Deployment).watch();
    let until = Instant::now() + Duration::from_mins(10);
    let mut looks = 0;
    while Instant::now() < until {
        assert!(matches!(next(&mut reports).await.0, Report::Missing(_)));
        looks += 1;
    }
    assert!((20..80).contains(&looks), "{looks} looks in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_is_missing_evidence_until_it_is_mended() {
    let server = Server::with(deployment("shop:v1", 3));
    let mut reports = settled(&server, Kind::Deployment).await;

    server.change(|object| object["spec"]["template"] = json!("absurd"));
    let (report, _) = next(&mut reports).await;
    assert!(matches!(report, Report::Missing(Missing::Malformed(why)) if why.contains("not a pod template")));

    server.change(|object| object["spec"]["template"] = template("shop:v2"));
    assert_eq!(seen(next(&mut reports).await.0).version, version("shop:v2"));
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_goes_and_comes_again_is_followed() {
    let server = Server::with(deployment("shop:v1", 3));
    let mut reports = settled(&server, Kind::Deployment).await;

    server.state().object = None;
    assert_eq!(next(&mut reports).await.0, Report::Gone);

    server.state().object = Some(deployment("shop:v2", 3));
    assert_eq!(seen(next(&mut reports).await.0).version, version("shop:v2"));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_of_the_pods_the_newest_revision_is_the_present_one() {
    let server = rolling();
    let restart =
        |template: &mut Value| template["metadata"]["annotations"] = json!({ "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z" });
    let mut restarted = replica_set("shop:v2", "again", 3);
    restart(&mut restarted["spec"]["template"]);
    {
        let mut state = server.state();
        state.revisions.push(restarted);
        state.pods.push(pod("again-1", "set-again", &json!({ "pod-template-hash": "again" }), &ready()));
        restart(&mut state.object.as_mut().expect("it exists")["spec"]["template"]);
    }

    let workload = seen(server.platform(Kind::Deployment).look().await);

    assert_eq!(workload.version, version("shop:v2"));
    assert_eq!((workload.replicas.ready, workload.troubles), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_that_another_revision_exceeded_is_not_held_against_the_one_that_was_gone_back_to() {
    let server = rolling();
    let exceeded = |name: &str| {
        let words = format!("ReplicaSet \"{name}\" has timed out progressing.");
        json!([{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": words }])
    };
    server.change(|object| object["status"]["conditions"] = exceeded("shop-old"));
    assert_eq!(seen(server.platform(Kind::Deployment).look().await).rollout, Rollout::Progressing);

    server.change(|object| object["status"]["conditions"] = exceeded("shop-new"));
    assert!(matches!(seen(server.platform(Kind::Deployment).look().await).rollout, Rollout::Failed(words) if words.contains("shop-new")));
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_daemon_set_are_told_apart_by_the_hash_of_their_revision() {
    let mut raw = deployment("shop:v2", 1);
    raw["status"] = json!({ "observedGeneration": 4, "desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberReady": 1, "numberAvailable": 1 });
    let server = Server::with(raw);
    server.state().revisions = vec![controller_revision("shop:v1", "old", 1), controller_revision("shop:v2", "new", 2)];
    server.state().pods = vec![
        pod("a", "uid-1", &json!({ "controller-revision-hash": "old" }), &ready()),
        pod("b", "uid-1", &json!({ "controller-revision-hash": "new" }), &crashing()),
    ];

    let workload = seen(server.platform(Kind::DaemonSet).look().await);

    assert_eq!(workload.replicas, rollbackd_core::observation::Replicas { desired: 2, updated: 1, ready: 0, available: 1 });
    assert!(matches!(workload.troubles[..], [Trouble::CrashLoop { replicas: 1, .. }]));
}

/// A `StatefulSet` that our rollback brought back to `shop:v1`; `shop-2` still runs the bad revision and is not ready.
async fn stuck() -> Server {
    let mut raw = deployment("shop:v2", 3);
    raw["kind"] = json!("StatefulSet");
    let server = Server::with(raw);
    server.state().revisions = vec![controller_revision("shop:v1", "old", 1), controller_revision("shop:v2", "bad", 2)];
    assert!(matches!(server.platform(Kind::StatefulSet).apply(&effect()).await, super::super::Applied::Done(_)));
    server.state().pods = vec![
        pod("shop-0", "uid-1", &json!({ "controller-revision-hash": "shop-old" }), &crashing()),
        pod("shop-1", "uid-1", &json!({ "controller-revision-hash": "shop-bad" }), &ready()),
        pod("shop-2", "uid-1", &json!({ "controller-revision-hash": "shop-bad" }), &crashing()),
        pod("shop-9", "uid-9", &json!({ "controller-revision-hash": "shop-bad" }), &crashing()),
        pod("shop-8", "uid-1", &json!({ "controller-revision-hash": "shop-other" }), &crashing()),
    ];
    server
}

fn controller_saw_it(server: &Server) {
    server.change(|object| {
        object["status"] = json!({ "observedGeneration": 5, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
                                   "currentRevision": "shop-old", "updateRevision": "shop-old" });
    });
}

fn names(server: &Server) -> Vec<String> {
    server.state().pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_broken_pod_of_the_version_that_was_left_is_deleted_and_no_other() {
    let server = stuck().await;
    controller_saw_it(&server);
    // A daemon that knows nothing but the object.
    let mut reports = server.platform(Kind::StatefulSet).watch();

    next(&mut reports).await;
    next(&mut reports).await;

    assert_eq!(names(&server), ["shop-0", "shop-1", "shop-9", "shop-8"]);
}

/// A fix was deployed over a version that did not come up, and waited for its pod until it was rolled back, too.
#[tokio::test(start_paused = true)]
async fn a_broken_pod_of_an_earlier_version_is_deleted_where_the_controller_would_replace_it() {
    for (partition, left) in [(0, ["shop-0", "shop-1", "shop-9"].as_slice()), (5, &["shop-0", "shop-1", "shop-2", "shop-9"])] {
        let server = stuck().await;
        server.state().revisions.push(controller_revision("shop:v0", "other", 3));
        server.change(|object| {
            object["spec"]["updateStrategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": partition } });
        });
        controller_saw_it(&server);
        server.change(|object| object["status"]["observedGeneration"] = json!(6));
        let mut reports = server.platform(Kind::StatefulSet).watch();

        next(&mut reports).await;
        next(&mut reports).await;

        assert_eq!(names(&server), left, "partition {partition}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_pod_is_deleted_before_the_controller_knows_the_rollback() {
    let server = stuck().await;
    let mut reports = server.platform(Kind::StatefulSet).watch();
    next(&mut reports).await;
    next(&mut reports).await;
    assert_eq!(server.count("DELETE"), 0);
}

#[tokio::test(start_paused = true)]
async fn no_pod_is_deleted_for_a_deployment_that_came_after_the_rollback() {
    let server = stuck().await;
    server.change(|object| object["spec"]["template"] = template("shop:v3"));
    server.state().revisions.push(controller_revision("shop:v3", "third", 3));
    server.change(|object| {
        object["status"] = json!({ "observedGeneration": 6, "replicas": 3, "readyReplicas": 1, "currentRevision": "shop-old", "updateRevision": "shop-third" });
    });
    let mut reports = server.platform(Kind::StatefulSet).watch();
    next(&mut reports).await;
    next(&mut reports).await;
    assert_eq!(server.count("DELETE"), 0);
}

#[tokio::test(start_paused = true)]
async fn looking_alone_deletes_nothing_and_sets_whose_pods_go_in_parallel_need_no_help() {
    let server = stuck().await;
    controller_saw_it(&server);
    server.platform(Kind::StatefulSet).look().await;
    assert_eq!(server.count("DELETE"), 0);

    server.change(|object| object["spec"]["podManagementPolicy"] = json!("Parallel"));
    server.change(|object| object["status"]["observedGeneration"] = json!(6));
    let mut reports = server.platform(Kind::StatefulSet).watch();
    next(&mut reports).await;
    assert_eq!(server.count("DELETE"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_may_not_be_deleted_is_tried_again() {
    let server = stuck().await;
    controller_saw_it(&server);
    server.fail("DELETE", [Fault::Refused(409, "the pod changed"), Fault::Refused(403, "forbidden")]);
    let mut reports = server.platform(Kind::StatefulSet).watch();
    for _ in 0..4 {
        next(&mut reports).await;
    }
    assert_eq!(names(&server), ["shop-0", "shop-1", "shop-9", "shop-8"]);
    assert_eq!(server.count("DELETE"), 3);
}
