//! Going back, against the scripted server.

use rollbackd_core::plan::EffectRecord;
use rollbackd_core::version::Artifact;
use serde_json::json;

use super::super::testing::{Fault, Server, deployment, effect, template, version};
use super::super::{Kind, Platform as _};
use super::*;

fn binding(generation: i64) -> Binding {
    Binding::Object { uid: "uid-1".to_owned(), generation }
}

async fn applied(server: &Server, effect: &Effect) -> Applied {
    server.platform(Kind::Deployment).apply(effect).await
}

fn object(server: &Server) -> Value {
    server.state().object.clone().expect("it exists")
}

fn recorded(server: &Server) -> Option<EffectRecord> {
    let object = object(server);
    serde_json::from_str(object["metadata"]["annotations"][record::RECORD].as_str()?).ok()
}

fn kept(image: &str, restarted: &str, number: i64) -> Value {
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = json!(format!("hash{number}"));
    if !restarted.is_empty() {
        template["metadata"]["annotations"] = json!({ "kubectl.kubernetes.io/restartedAt": restarted });
    }
    json!({ "metadata": { "name": format!("shop-{number}"), "uid": format!("set-{number}"),
                          "labels": { "app": "shop", "pod-template-hash": format!("hash{number}") },
                          "annotations": { "deployment.kubernetes.io/revision": number.to_string() },
                          "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "uid": "uid-1", "controller": true }] },
            "spec": { "replicas": 0, "template": template } })
}

#[tokio::test(start_paused = true)]
async fn going_back_writes_the_template_and_the_record_at_once_and_never_the_replicas() {
    let server = Server::with(deployment("shop:v2", 3));

    assert_eq!(applied(&server, &effect()).await, Applied::Done(binding(5)));

    let object = object(&server);
    assert_eq!(object["spec"]["template"], template("shop:v1"));
    assert_eq!(object["spec"]["replicas"], 3);
    assert_eq!(object["metadata"]["annotations"]["rollbackd.dev/plan"], "k3f9a2b1-17");
    let record = recorded(&server).expect("a record");
    assert_eq!((record.plan, record.from, record.to), (effect().plan, version("shop:v2").id, version("shop:v1").id));
    assert_eq!(server.count("PATCH"), 1);
}

#[tokio::test(start_paused = true)]
async fn other_annotations_stay() {
    let mut raw = deployment("shop:v2", 3);
    raw["metadata"]["annotations"] = json!({ "team": "shop", "kubernetes.io/change-cause": "deploy v2" });
    let server = Server::with(raw);

    assert_eq!(applied(&server, &effect()).await, Applied::Done(binding(5)));

    let annotations = object(&server)["metadata"]["annotations"].clone();
    assert_eq!(annotations["team"], "shop");
    assert!(annotations["kubernetes.io/change-cause"].as_str().is_some_and(|cause| cause.starts_with("rollbackd: back to shop:v1")));
}

#[tokio::test(start_paused = true)]
async fn asked_twice_it_happens_once() {
    let server = Server::with(deployment("shop:v2", 3));

    assert_eq!(applied(&server, &effect()).await, Applied::Done(binding(5)));
    assert_eq!(applied(&server, &effect()).await, Applied::Done(binding(5)));

    assert_eq!(server.count("PATCH"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_unknown_and_the_next_attempt_finds_that_it_happened() {
    let server = Server::with(deployment("shop:v2", 3));
    server.fail("PATCH", [Fault::AnswerLost]);

    assert!(matches!(applied(&server, &effect()).await, Applied::Unknown(why) if why.contains("no answer within 10s")));
    assert_eq!(applied(&server, &effect()).await, Applied::Done(binding(5)));

    assert_eq!(server.count("PATCH"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_unknown_and_the_next_attempt_sends_it() {
    let server = Server::with(deployment("shop:v2", 3));
    server.fail("PATCH", [Fault::Silence]);

    assert!(matches!(applied(&server, &effect()).await, Applied::Unknown(_)));
    assert_eq!(applied(&server, &effect()).await, Applied::Done(binding(5)));

    assert_eq!(server.count("PATCH"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_person_deployed_meanwhile_stays() {
    let server = Server::with(deployment("shop:v2", 3));
    server.change(|object| object["spec"]["template"] = template("shop:v3"));

    assert_eq!(applied(&server, &effect()).await, Applied::Moved);

    assert_eq!(object(&server)["spec"]["template"], template("shop:v3"));
    assert_eq!(server.count("PATCH"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_server_itself_refuses_a_patch_that_comes_too_late() {
    let server = Server::with(deployment("shop:v2", 3));
    let settings = server.platform(Kind::Deployment).settings;
    let before = Object::parse(Kind::Deployment, super::super::testing::dynamic(object(&server))).expect("understood");
    server.change(|object| object["spec"]["replicas"] = json!(5));
    let change = Change::new(&before, Template::parse(template("shop:v1")).expect("a template"), Restore::Template).expect("a change");
    let platform = server.platform(Kind::Deployment);

    let fault = platform.writes().patch(patch(&before, &effect(), &change)).await.expect_err("the generation moved");

    assert_eq!(fault.status(), Some(422));
    let requests = Requests { client: &platform.write_client, settings: &settings };
    assert_eq!(refused(&requests, &effect(), &fault).await, Applied::Moved);
    assert_eq!(object(&server)["spec"]["template"], template("shop:v2"));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_was_made_anew_is_another_one_even_with_our_record_on_it() {
    let server = Server::with(deployment("shop:v2", 3));
    applied(&server, &effect()).await;
    server.change(|object| object["metadata"]["uid"] = json!("uid-2"));

    assert_eq!(applied(&server, &effect()).await, Applied::Moved);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_in_the_servers_words_and_faults_that_pass_are_unknown() {
    let rejected = [(400, "bad"), (403, "exceeded quota: pods"), (422, "admission webhook denied the request")];
    for (code, words) in rejected {
        let server = Server::with(deployment("shop:v2", 3));
        server.fail("PATCH", [Fault::Refused(code, words)]);
        let end = applied(&server, &effect()).await;
        assert_eq!(end, Applied::Rejected(format!("cannot patch deployment shop/shop: {words}")), "{code}");
    }
    for code in [401, 409, 429, 500, 503, 504] {
        let server = Server::with(deployment("shop:v2", 3));
        server.fail("PATCH", [Fault::Refused(code, "later")]);
        assert!(matches!(applied(&server, &effect()).await, Applied::Unknown(_)), "{code}");
        assert_eq!(applied(&server, &effect()).await, Applied::Done(binding(5)), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_says_nothing_about_an_earlier_attempt() {
    for fault in [Fault::Refused(403, "forbidden"), Fault::Refused(500, "broken"), Fault::Silence] {
        let server = Server::with(deployment("shop:v2", 3));
        server.fail("GET", [fault.clone()]);
        assert!(matches!(applied(&server, &effect()).await, Applied::Unknown(_)), "{fault:?}");
        assert_eq!(server.count("PATCH"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_is_gone_or_going_is_gone() {
    let server = Server::with(deployment("shop:v2", 3));
    server.change(|object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(applied(&server, &effect()).await, Applied::Gone);
    server.state().object = None;
    assert_eq!(applied(&server, &effect()).await, Applied::Gone);
}

#[tokio::test(start_paused = true)]
async fn the_newest_kept_revision_of_the_version_is_taken_before_the_ledgers_copy() {
    let server = Server::with(deployment("shop:v2", 3));
    server.state().revisions = vec![kept("shop:v1", "", 1), kept("shop:v1", "2026-01-01T00:00:00Z", 2), kept("shop:v2", "", 3)];
    assert_eq!(applied(&server, &effect()).await, Applied::Done(binding(5)));

    let restored = object(&server)["spec"]["template"].clone();
    assert_eq!(restored["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"], "2026-01-01T00:00:00Z");
    assert_eq!(restored["metadata"]["labels"], json!({ "app": "shop" }), "the controller's own label is not copied");
}

#[tokio::test(start_paused = true)]
async fn when_the_kept_revisions_cannot_be_listed_the_ledgers_copy_has_to_do() {
    let server = Server::with(deployment("shop:v2", 3));
    server.state().forbidden = vec!["replicasets"];

    let without_copy = applied(&server, &Effect { artifact: None, ..effect() }).await;
    assert!(matches!(without_copy, Applied::Unknown(why) if why.starts_with("cannot list the revisions of deployment shop/shop")));
    assert_eq!(applied(&server, &effect()).await, Applied::Done(binding(5)));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_not_the_version_asked_for_is_not_deployed() {
    let server = Server::with(deployment("shop:v2", 3));
    server.state().revisions = vec![kept("shop:v0", "", 1), kept("shop:v2", "", 3)];
    for artifact in [None, Some(Artifact(template("shop:v0").to_string())), Some(Artifact("{".to_owned()))] {
        assert_eq!(applied(&server, &Effect { artifact, ..effect() }).await, Applied::TargetGone);
    }
    assert_eq!(server.count("PATCH"), 0);
}

#[tokio::test(start_paused = true)]
async fn going_back_to_the_images_keeps_the_rest_and_records_what_runs_then() {
    let mut raw = deployment("shop:v2", 3);
    raw["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{ "name": "A", "value": "2" }]);
    let server = Server::with(raw);
    let effect = Effect { restore: Restore::Image, ..effect() };

    assert_eq!(applied(&server, &effect).await, Applied::Done(binding(5)));

    let template = object(&server)["spec"]["template"].clone();
    assert_eq!(template["spec"]["containers"][0], json!({ "name": "shop", "image": "shop:v1", "env": [{ "name": "A", "value": "2" }] }));
    let runs = Template::parse(template).expect("a template").id();
    assert_ne!(runs, effect.to.id);
    assert_eq!(recorded(&server).map(|record| record.to), Some(runs));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_images_did_not_make_is_not_undone_by_images() {
    let mut raw = deployment("shop:v1", 3);
    raw["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{ "name": "A", "value": "2" }]);
    let server = Server::with(raw);

    let end = applied(&server, &Effect { restore: Restore::Image, ..effect() }).await;

    assert!(matches!(end, Applied::Rejected(why) if why.contains("differs from what runs in nothing")));
    assert_eq!(server.count("PATCH"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_paused_deployment_is_left_alone_as_kubectl_does() {
    let mut raw = deployment("shop:v2", 3);
    raw["spec"]["paused"] = json!(true);
    let server = Server::with(raw);

    assert!(matches!(applied(&server, &effect()).await, Applied::Rejected(why) if why.contains("is paused")));
    assert_eq!(server.count("PATCH"), 0);
}

#[tokio::test(start_paused = true)]
async fn it_ends_within_thirty_seconds_whatever_is_silent() {
    let server = Server::with(deployment("shop:v2", 3));
    server.fail("PATCH", [Fault::Refused(409, "conflict")]);
    server.fail("GET", []);
    let began = tokio::time::Instant::now();
    let platform = server.platform(Kind::Deployment);
    let second_read_is_silent = async {
        while server.count("PATCH") == 0 {
            tokio::task::yield_now().await;
        }
        server.fail("GET", [Fault::Silence]);
    };
    let effect = effect();
    let (end, ()) = tokio::join!(platform.apply(&effect), second_read_is_silent);

    assert!(matches!(end, Applied::Unknown(_)), "{end:?}");
    assert!(began.elapsed() <= std::time::Duration::from_secs(30));
}
