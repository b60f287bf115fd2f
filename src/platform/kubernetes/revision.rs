//! The revisions that the cluster keeps of a workload: `ReplicaSets` of a Deployment, `ControllerRevisions` of the others. Nothing here talks to a
//! cluster.

use kube::api::{ApiResource, DynamicObject};
use kube::core::Resource;
use rollbackd_core::version::VersionId;
use serde_json::Value;

use super::Kind;
use super::object::{Condition, Object};
use super::template::{POD_TEMPLATE_HASH, Template};

/// The label that the controllers of `StatefulSets` and `DaemonSets` put on pods: the revision.
pub(super) const CONTROLLER_REVISION_HASH: &str = "controller-revision-hash";

/// A kept revision.
#[derive(Clone, Debug)]
pub(super) struct Revision {
    pub name: String,
    /// It grows; the newest has the highest.
    pub number: i64,
    pub template: Template,
    /// The label that its pods carry: key and value.
    pub pod_label: (&'static str, String),
    /// The uid of what owns its pods: the `ReplicaSet`, or the workload itself.
    pub pod_owner: String,
    /// `ReplicaSet`: fewer pods exist than are wanted.
    pub lacks_pods: bool,
    /// `ReplicaSet`: why it can't make pods, if it says so.
    pub failure: Option<String>,
}

/// What kind of object a revision of a workload is.
pub(super) fn resource(kind: Kind) -> ApiResource {
    use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
    match kind {
        Kind::Deployment => ApiResource::erase::<ReplicaSet>(&()),
        Kind::StatefulSet | Kind::DaemonSet => ApiResource::erase::<ControllerRevision>(&()),
    }
}

/// Reads those of `kept` that belong to `object` and can be understood.
pub(super) fn of(object: &Object, kept: Vec<DynamicObject>) -> Vec<Revision> {
    let owned = |revision: &DynamicObject| is_owned_by(revision, &object.uid);
    kept.into_iter().filter(owned).filter_map(|revision| parse(object, revision)).collect()
}

/// The revision of the present specification. A restart makes a revision of its own, so the template must be wholly the same; where none
/// is (the server was upgraded since), the newest with the same identity is it.
pub(super) fn present<'a>(object: &Object, revisions: &'a [Revision]) -> Option<&'a Revision> {
    let same = revisions.iter().filter(|revision| revision.template == object.template).max_by_key(|revision| revision.number);
    same.or_else(|| of_version(revisions, &object.template.id()))
}

/// The newest revision of a version.
pub(super) fn of_version<'a>(revisions: &'a [Revision], version: &VersionId) -> Option<&'a Revision> {
    revisions.iter().filter(|revision| revision.template.id() == *version).max_by_key(|revision| revision.number)
}

/// Whether `uid` is the controller of an object.
pub(super) fn is_owned_by<K: Resource>(object: &K, uid: &str) -> bool {
    object.meta().owner_references.iter().flatten().any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

fn parse(object: &Object, revision: DynamicObject) -> Option<Revision> {
    match object.kind {
        Kind::Deployment => replica_set(revision),
        Kind::StatefulSet | Kind::DaemonSet => controller_revision(object, revision),
    }
}

fn replica_set(mut set: DynamicObject) -> Option<Revision> {
    let annotations = set.metadata.annotations.unwrap_or_default();
    let hash = set.metadata.labels.unwrap_or_default().remove(POD_TEMPLATE_HASH)?;
    let count = |pointer| set.data.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let lacks_pods = count("/spec/replicas") > count("/status/replicas");
    let conditions = set.data.pointer("/status/conditions").cloned().and_then(|raw| serde_json::from_value::<Vec<Condition>>(raw).ok());
    let failure = conditions.unwrap_or_default().into_iter().find(Condition::is_replica_failure);
    Some(Revision {
        name: set.metadata.name?,
        number: annotations.get("deployment.kubernetes.io/revision").and_then(|number| number.parse().ok()).unwrap_or(0),
        template: Template::parse(set.data.pointer_mut("/spec/template")?.take())?,
        pod_label: (POD_TEMPLATE_HASH, hash),
        pod_owner: set.metadata.uid?,
        lacks_pods,
        failure: failure.map(|failure| failure.message),
    })
}

/// `StatefulSets` put the revision's name on their pods, `DaemonSets` the hash that is a label of the revision.
fn controller_revision(object: &Object, mut revision: DynamicObject) -> Option<Revision> {
    let name = revision.metadata.name?;
    let label = match object.kind {
        Kind::StatefulSet => name.clone(),
        Kind::Deployment | Kind::DaemonSet => revision.metadata.labels.unwrap_or_default().remove(CONTROLLER_REVISION_HASH)?,
    };
    Some(Revision {
        name,
        number: revision.data.get("revision").and_then(Value::as_i64).unwrap_or(0),
        template: Template::parse(revision.data.pointer_mut("/data/spec/template")?.take())?,
        pod_label: (CONTROLLER_REVISION_HASH, label),
        pod_owner: object.uid.clone(),
        lacks_pods: false,
        failure: None,
    })
}

impl Condition {
    /// Whether it says that pods can't be made.
    pub fn is_replica_failure(&self) -> bool {
        self.kind == "ReplicaFailure" && self.status == "True"
    }
}
