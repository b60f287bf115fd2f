//! How far a rollout is, judged as `kubectl rollout status` does (`polymorphichelpers/rollout_status.go`), with two additions: a
//! `StatefulSet` has to be available and wholly updated, and one that is updated by deleting pods (`OnDelete`, on which kubectl doesn't speak) is
//! judged by its counts.

use rollbackd_core::observation::Rollout;

use super::Kind;
use super::object::Object;
use super::revision::Revision;
use super::words::message;

/// How far the rollout of the present specification is.
pub(super) fn judge(object: &Object) -> Rollout {
    if !object.is_observed() {
        return Rollout::Progressing;
    }
    match object.kind {
        Kind::Deployment => deployment(object),
        Kind::StatefulSet => complete_if(stateful_set(object)),
        Kind::DaemonSet => complete_if(object.status.updated >= object.desired() && object.status.available >= object.desired()),
    }
}

/// Takes back a failure that is another revision's. When a Deployment goes back to a `ReplicaSet` that it kept, an exceeded progress deadline
/// stays on it until the first progress, and its words (`ReplicaSet "shop-7c47f4dfdf" has timed out progressing.`) name the one that was
/// left. Seen on Kubernetes 1.36; kubectl reports it, and to judge the version that a person just went back to by it would be wrong.
pub(super) fn of_present(rollout: Rollout, present: Option<&Revision>, revisions: &[Revision]) -> Rollout {
    let names = |words: &str, revision: &Revision| words.contains(&format!("\"{}\"", revision.name));
    match rollout {
        Rollout::Failed(words)
            if !present.is_some_and(|present| names(&words, present)) && revisions.iter().any(|revision| names(&words, revision)) =>
        {
            Rollout::Progressing
        }
        other => other,
    }
}

fn deployment(object: &Object) -> Rollout {
    let status = &object.status;
    if let Some(progress) = status.condition("Progressing").filter(|condition| condition.reason == "ProgressDeadlineExceeded") {
        return Rollout::Failed(message(&progress.message));
    }
    complete_if(status.updated >= object.replicas && status.total <= status.updated && status.available >= status.updated)
}

/// With a partition a rollout is complete when the pods above it are updated: further the platform will not go by itself.
fn stateful_set(object: &Object) -> bool {
    let status = &object.status;
    let serving = status.ready >= object.replicas && status.available >= object.replicas;
    let updated = status.updated >= object.replicas.saturating_sub(object.partition);
    let settled = object.on_delete || object.partition > 0 || status.current_revision == status.update_revision;
    serving && updated && settled
}

const fn complete_if(complete: bool) -> Rollout {
    if complete { Rollout::Complete } else { Rollout::Progressing }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{deployment, dynamic};
    use super::*;

    fn judged(kind: Kind, status: &Value, spec: &Value) -> Rollout {
        let mut raw = deployment("shop:v1", 3);
        raw["metadata"]["generation"] = json!(7);
        raw["status"] = status.clone();
        for (key, value) in spec.as_object().expect("an object") {
            raw["spec"][key] = value.clone();
        }
        judge(&Object::parse(kind, dynamic(raw)).expect("understood"))
    }

    #[test]
    fn a_deployment_is_judged_as_kubectl_does() {
        let status = |replicas: i64, updated: i64, available: i64| json!({ "observedGeneration": 7, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": available, "availableReplicas": available });
        let cases = [
            (status(3, 3, 3), Rollout::Complete),
            (status(3, 2, 3), Rollout::Progressing),
            (status(4, 3, 4), Rollout::Progressing),
            (status(3, 3, 2), Rollout::Progressing),
            (json!({ "observedGeneration": 6, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3 }), Rollout::Progressing),
            (json!({}), Rollout::Progressing),
            (json!(null), Rollout::Progressing),
        ];
        for (status, expected) in cases {
            assert_eq!(judged(Kind::Deployment, &status, &json!({})), expected, "{status}");
        }
        assert_eq!(judged(Kind::Deployment, &status(0, 0, 0), &json!({ "replicas": 0 })), Rollout::Complete);
    }

    #[test]
    fn a_deployment_past_its_progress_deadline_has_failed_but_not_by_an_old_status() {
        let mut status = json!({ "observedGeneration": 7, "conditions": [
            { "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "has timed out" }
        ] });
        assert_eq!(judged(Kind::Deployment, &status, &json!({})), Rollout::Failed("has timed out".to_owned()));
        status["observedGeneration"] = json!(6);
        assert_eq!(judged(Kind::Deployment, &status, &json!({})), Rollout::Progressing);
    }

    #[test]
    fn a_stateful_set_is_complete_when_all_that_may_change_has_changed() {
        let status = |updated: i64, ready: i64, current: &str| {
            json!({ "observedGeneration": 7, "replicas": 3, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready,
                    "currentRevision": current, "updateRevision": "shop-new" })
        };
        let partition = json!({ "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 2 } } });
        let on_delete = json!({ "updateStrategy": { "type": "OnDelete" } });
        let cases = [
            (status(3, 3, "shop-new"), json!({}), Rollout::Complete),
            (status(3, 3, "shop-old"), json!({}), Rollout::Progressing),
            (status(3, 2, "shop-new"), json!({}), Rollout::Progressing),
            (status(2, 3, "shop-new"), json!({}), Rollout::Progressing),
            (status(1, 3, "shop-old"), partition.clone(), Rollout::Complete),
            (status(0, 3, "shop-old"), partition, Rollout::Progressing),
            (status(3, 3, "shop-old"), on_delete.clone(), Rollout::Complete),
            (status(1, 3, "shop-old"), on_delete, Rollout::Progressing),
        ];
        for (status, spec, expected) in cases {
            assert_eq!(judged(Kind::StatefulSet, &status, &spec), expected, "{status} {spec}");
        }
    }

    #[test]
    fn a_daemon_set_is_complete_when_every_node_has_an_available_pod_of_the_version() {
        let status = |updated: i64, available: i64| json!({ "observedGeneration": 7, "desiredNumberScheduled": 4, "updatedNumberScheduled": updated, "numberAvailable": available });
        assert_eq!(judged(Kind::DaemonSet, &status(4, 4), &json!({})), Rollout::Complete);
        assert_eq!(judged(Kind::DaemonSet, &status(3, 4), &json!({})), Rollout::Progressing);
        assert_eq!(judged(Kind::DaemonSet, &status(4, 3), &json!({})), Rollout::Progressing);
    }
}
