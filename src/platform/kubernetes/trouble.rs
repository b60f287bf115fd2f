//! What the platform says is wrong with the present version, read from its pods and conditions. Nothing here talks to a cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use rollbackd_core::observation::Trouble;

use super::Kind;
use super::object::Object;
use super::revision::Revision;
use super::words::{bounded, message};

/// Fewer restarts are no loop (`Trouble::CrashLoop`).
const RESTARTS: i32 = 3;

/// What the kubelet says while an image can't be pulled (`pkg/kubelet/images/types.go`).
const IMAGE_REASONS: [&str; 6] =
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"];
/// What it says while a container can't be made at all, above all because a secret or a config map that it names doesn't exist.
const CREATE_REASONS: [&str; 2] = ["CreateContainerConfigError", "CreateContainerError"];

/// The troubles of the present version: `revision` and its `pods`, as far as they are known.
pub(super) fn of(object: &Object, revision: Option<&Revision>, pods: &[Pod]) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    troubles.extend(crash_loop(pods));
    troubles.extend(image_pulls(pods));
    troubles.extend(not_admitted(object, revision).or_else(|| not_created(pods)));
    troubles.extend(unschedulable(pods));
    troubles
}

/// Whether a pod is ready.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether a pod counts: it is neither being deleted nor over (evicted pods stay as failed objects).
pub(super) fn is_live(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().chain(status.init_container_statuses.iter()).flatten())
}

fn waiting(container: &ContainerStatus) -> Option<(&str, &str)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default()))
}

/// One trouble for all pods, with the words of the container that restarted most.
fn crash_loop(pods: &[Pod]) -> Option<Trouble> {
    let worst = |pod| containers(pod).filter(|container| is_looping(container)).max_by_key(|container| container.restart_count);
    let looping: Vec<&ContainerStatus> = pods.iter().filter_map(worst).collect();
    let worst = looping.iter().max_by_key(|container| container.restart_count)?;
    Some(Trouble::CrashLoop {
        replicas: u32::try_from(looping.len()).unwrap_or(u32::MAX),
        restarts: u32::try_from(worst.restart_count).unwrap_or(0),
        reason: ending(worst),
    })
}

/// A container that runs at this moment is given the benefit of the doubt: it may be a slow starter whose dependency came up at last.
fn is_looping(container: &ContainerStatus) -> bool {
    let down = waiting(container).is_some_and(|(reason, _)| reason == "CrashLoopBackOff")
        || container.state.as_ref().is_some_and(|state| state.terminated.is_some());
    container.restart_count >= RESTARTS && !container.ready && down
}

/// How a container ended last: `exit code 1`, `OOMKilled`.
fn ending(container: &ContainerStatus) -> String {
    let terminated = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    let Some(ended) = terminated(&container.state).or_else(|| terminated(&container.last_state)) else {
        return "not known how it ended".to_owned();
    };
    match (ended.reason.as_deref(), ended.signal) {
        (Some("OOMKilled"), _) => "OOMKilled".to_owned(),
        (None | Some("Error" | "Completed" | ""), Some(signal)) if signal != 0 => format!("signal {signal}"),
        (None | Some("Error" | "Completed" | ""), _) => format!("exit code {}", ended.exit_code),
        (Some(reason), _) => bounded(&format!("{reason}, exit code {}", ended.exit_code), 256),
    }
}

/// One trouble for each image.
fn image_pulls(pods: &[Pod]) -> Vec<Trouble> {
    let mut images = BTreeMap::new();
    for pod in pods {
        for container in containers(pod) {
            if let Some((_, words)) = waiting(container).filter(|(reason, _)| IMAGE_REASONS.contains(reason)) {
                images.entry(image_of(pod, container)).or_insert_with(|| message(words));
            }
        }
    }
    images.into_iter().map(|(image, message)| Trouble::ImagePull { image, message }).collect()
}

/// The image as the specification names it; the status may name it otherwise, or not at all.
fn image_of(pod: &Pod, container: &ContainerStatus) -> String {
    let spec = pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let named = spec.into_iter().find(|candidate| candidate.name == container.name).and_then(|found| found.image.as_deref());
    bounded(named.unwrap_or(&container.image), 512)
}

/// The Deployment's own condition may be about an old `ReplicaSet`; it counts while the present one lacks pods.
fn not_admitted(object: &Object, revision: Option<&Revision>) -> Option<Trouble> {
    if let Some(failure) = revision.and_then(|revision| revision.failure.as_deref()) {
        return Some(Trouble::NotAdmitted { message: message(failure) });
    }
    if object.kind != Kind::Deployment || !object.is_observed() {
        return None;
    }
    let no_set = |reason: &str| matches!(reason, "ReplicaSetCreateError" | "FailedCreate");
    let condition = match revision {
        Some(revision) if !revision.lacks_pods => None,
        Some(_) => object.status.conditions.iter().find(|condition| condition.is_replica_failure()),
        None => object.status.condition("Progressing").filter(|progress| progress.status == "False" && no_set(&progress.reason)),
    };
    condition.map(|condition| Trouble::NotAdmitted { message: message(&condition.message) })
}

/// A container that can't be made for want of a secret or a config map is, for whoever reads it, a replica that may not be made.
fn not_created(pods: &[Pod]) -> Option<Trouble> {
    let stuck = |container| waiting(container).filter(|(reason, _)| CREATE_REASONS.contains(reason)).map(|found| (container, found));
    let (container, (reason, words)) = pods.iter().flat_map(containers).find_map(stuck)?;
    Some(Trouble::NotAdmitted { message: message(&format!("container {}: {reason}: {words}", container.name)) })
}

fn unschedulable(pods: &[Pod]) -> Option<Trouble> {
    let conditions = pods.iter().filter_map(|pod| pod.status.as_ref()).flat_map(|status| status.conditions.iter().flatten());
    let unplaced = conditions.into_iter().find(|condition| {
        condition.type_ == "PodScheduled" && condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    Some(Trouble::Unschedulable { message: message(unplaced.message.as_deref().unwrap_or("no node takes the pod")) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{deployment, dynamic};
    use super::*;

    fn pods(containers: &[Value]) -> Vec<Pod> {
        let pod = |container: &Value| {
            let mut container = container.clone();
            container["name"] = json!("shop");
            container["image"] = json!("");
            container["imageID"] = json!("");
            json!({ "metadata": { "name": "shop-1" }, "spec": { "containers": [{ "name": "shop", "image": "shop:v2" }] },
                    "status": { "containerStatuses": [container] } })
        };
        containers.iter().map(|container| serde_json::from_value(pod(container)).expect("a pod")).collect()
    }

    fn crashed(restarts: i32, ready: bool, ended: &Value) -> Value {
        json!({ "restartCount": restarts, "ready": ready, "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": { "terminated": ended } })
    }

    #[test]
    fn a_crash_loop_tells_how_many_how_often_and_how_it_ended() {
        let exit = json!({ "exitCode": 1, "reason": "Error" });
        let memory = json!({ "exitCode": 137, "reason": "OOMKilled" });
        let found =
            crash_loop(&pods(&[crashed(3, false, &exit), crashed(5, false, &memory), crashed(2, false, &exit), crashed(9, true, &exit)]));
        assert_eq!(found, Some(Trouble::CrashLoop { replicas: 2, restarts: 5, reason: "OOMKilled".to_owned() }));

        let found = crash_loop(&pods(&[crashed(3, false, &exit)]));
        assert_eq!(found, Some(Trouble::CrashLoop { replicas: 1, restarts: 3, reason: "exit code 1".to_owned() }));

        let start = json!({ "exitCode": 128, "reason": "StartError" });
        let found = crash_loop(&pods(&[crashed(4, false, &start)]));
        assert_eq!(found, Some(Trouble::CrashLoop { replicas: 1, restarts: 4, reason: "StartError, exit code 128".to_owned() }));
    }

    #[test]
    fn a_container_that_runs_again_is_no_crash_loop() {
        let running = json!({ "restartCount": 7, "ready": false, "state": { "running": {} } });
        assert_eq!(crash_loop(&pods(&[running])), None);
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_named_once_as_the_specification_names_it() {
        let stuck =
            json!({ "restartCount": 0, "ready": false, "state": { "waiting": { "reason": "ImagePullBackOff", "message": "not found" } } });
        let found = image_pulls(&pods(&[stuck.clone(), stuck]));
        assert_eq!(found, [Trouble::ImagePull { image: "shop:v2".to_owned(), message: "not found".to_owned() }]);
    }

    #[test]
    fn a_container_without_its_secret_is_told() {
        let stuck = json!({ "restartCount": 0, "ready": false, "state": { "waiting": { "reason": "CreateContainerConfigError", "message": "secret \"db\" not found" } } });
        let message = "container shop: CreateContainerConfigError: secret \"db\" not found".to_owned();
        assert_eq!(not_created(&pods(&[stuck])), Some(Trouble::NotAdmitted { message }));
    }

    #[test]
    fn a_quota_that_stops_an_old_replica_set_is_not_the_present_versions_trouble() {
        let mut raw = deployment("shop:v2", 2);
        raw["status"]["conditions"] =
            json!([{ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota" }]);
        let object = Object::parse(Kind::Deployment, dynamic(raw)).expect("understood");
        let mut revision = Revision {
            name: "shop-x".to_owned(),
            number: 2,
            template: object.template.clone(),
            pod_label: ("pod-template-hash", "x".to_owned()),
            pod_owner: "set".to_owned(),
            lacks_pods: false,
            failure: None,
        };
        assert_eq!(not_admitted(&object, Some(&revision)), None);
        revision.lacks_pods = true;
        assert_eq!(not_admitted(&object, Some(&revision)), Some(Trouble::NotAdmitted { message: "exceeded quota".to_owned() }));
    }

    #[test]
    fn a_pod_that_no_node_takes_is_told() {
        let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "status": { "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available" }
        ] } }))
        .expect("a pod");
        assert_eq!(unschedulable(&[pod]), Some(Trouble::Unschedulable { message: "0/1 nodes are available".to_owned() }));
    }
}
