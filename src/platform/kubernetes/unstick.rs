//! Going back does not free a `StatefulSet` whose pods are replaced in order: its controller waits for the broken pod of an earlier revision
//! to become ready before it replaces it (kubernetes/kubernetes#67250). That pod has to be deleted. It need not be of the revision that was
//! left: a fix that was deployed over it, and rolled back in its turn, waited for it as well and never got a pod of its own.
//!
//! This stands in the watch and not in `apply`, because there it needs no memory: whatever was lost in a crash, the object's record says
//! that the present specification is our rollback, and the next look says which pods still stand in its way. `apply` would see them
//! once, maybe before the controller knows the new revision, and a pod that breaks a moment later would stay for ever.

use k8s_openapi::api::core::v1::Pod;

use super::look::Sight;
use super::request::Requests;
use super::revision::{self, CONTROLLER_REVISION_HASH, Revision};
use super::trouble;
use rollbackd_core::observation::Rollout;

/// Deletes the pods that stand in the way of our own rollback. Deleting is bound to each pod's uid and resourceVersion, so a pod that
/// became ready or was replaced meanwhile stays. What fails is tried again at the next look.
pub(super) async fn unstick(requests: &Requests<'_>, sight: &Sight) {
    let Some(present) = stuck_revision(sight) else { return };
    let others = format!("{},{CONTROLLER_REVISION_HASH}!={}", sight.object.selector, present.pod_label.1);
    let pods = match requests.pods(&others).await {
        Ok(pods) => pods,
        Err(fault) => return tracing::warn!(%fault, "pods that stand in the way of the rollback can't be seen"),
    };
    for pod in pods.iter().filter(|pod| stands_in_the_way(pod, sight)) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        match requests.delete_pod(pod).await {
            Ok(()) => tracing::info!(pod = name, workload = %requests.settings, "deleted a broken pod that held up the rollback"),
            Err(fault) => tracing::warn!(%fault, "a pod stands in the way of the rollback"),
        }
    }
}

/// The present revision, if the present specification *is* our rollback and its controller knows it.
fn stuck_revision(sight: &Sight) -> Option<&Revision> {
    let object = &sight.object;
    let record = object.record.as_ref()?;
    let ours = record.to == sight.workload.version.id;
    if !ours || !object.ordered || !object.is_observed() || sight.workload.rollout == Rollout::Complete {
        return None;
    }
    let present = revision::present(object, &sight.revisions)?;
    // The controller's own word on which revision is the present one has to agree before anything is deleted.
    (object.status.update_revision.as_ref() == Some(&present.pod_label.1)).then_some(present)
}

/// A pod of another version that is not ready, and that the controller would replace if it did not wait for it: below the partition pods stay
/// as they are.
fn stands_in_the_way(pod: &Pod, sight: &Sight) -> bool {
    let object = &sight.object;
    let revision = pod.metadata.labels.iter().find_map(|labels| labels.get(CONTROLLER_REVISION_HASH));
    let kept = revision.and_then(|name| sight.revisions.iter().find(|revision| revision.pod_label.1 == *name));
    let other = kept.is_some_and(|kept| kept.template.id() != sight.workload.version.id);
    let replaced = object.partition == 0 || ordinal(pod).is_some_and(|ordinal| ordinal >= object.partition);
    let live = pod.metadata.deletion_timestamp.is_none() && !trouble::is_ready(pod);
    other && replaced && live && revision::is_owned_by(pod, &object.uid)
}

/// The number at the end of its name.
fn ordinal(pod: &Pod) -> Option<i64> {
    pod.metadata.name.as_deref()?.rsplit_once('-')?.1.parse().ok()
}
