//! The guarded object, of whichever kind, read once into what the rest of the adapter works with. Nothing here talks to a cluster.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::DynamicObject;
use kube::core::Selector;
use rollbackd_core::observation::Binding;
use rollbackd_core::plan::EffectRecord;
use rollbackd_core::version::ChangeKind;
use serde::Deserialize;
use serde_json::Value;

use super::template::Template;
use super::{Kind, record};

/// A Deployment, `StatefulSet` or `DaemonSet`.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub kind: Kind,
    pub uid: String,
    pub generation: i64,
    /// All of them, ours among them.
    pub annotations: BTreeMap<String, String>,
    pub record: Option<EffectRecord>,
    pub change: Option<ChangeKind>,
    /// Label selector of its pods and revisions, as text for a query. Never empty.
    pub selector: String,
    pub template: Template,
    /// Deployment: the rollout is paused.
    pub paused: bool,
    /// `StatefulSet`: broken pods hold up all others (`podManagementPolicy: OrderedReady` with rolling updates).
    pub ordered: bool,
    /// `StatefulSet` and `DaemonSet`: pods change only when a person deletes them.
    pub on_delete: bool,
    /// `StatefulSet`: pods with a lower ordinal stay as they are.
    pub partition: i64,
    /// How many replicas are asked for; on a `DaemonSet` the nodes decide, and this is 1.
    pub replicas: i64,
    pub status: Status,
}

/// `status`, the counts under one name for all kinds.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    pub observed_generation: i64,
    /// How many the controller aims at, where it says so (`DaemonSet`).
    pub desired: Option<i64>,
    /// Pods of any version.
    pub total: i64,
    pub updated: i64,
    /// Of any version.
    pub ready: i64,
    /// Of any version.
    pub available: i64,
    /// `StatefulSet`.
    pub current_revision: Option<String>,
    /// `StatefulSet`.
    pub update_revision: Option<String>,
    pub conditions: Vec<Condition>,
}

/// A condition of a workload or a revision.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Condition {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    replicas: Option<i64>,
    selector: LabelSelector,
    template: Value,
    #[serde(default)]
    paused: bool,
    pod_management_policy: Option<String>,
    update_strategy: Option<RawStrategy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStrategy {
    #[serde(rename = "type")]
    kind: Option<String>,
    rolling_update: Option<RawRollingUpdate>,
}

#[derive(Deserialize)]
struct RawRollingUpdate {
    partition: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    observed_generation: i64,
    replicas: i64,
    updated_replicas: i64,
    ready_replicas: i64,
    available_replicas: i64,
    current_revision: Option<String>,
    update_revision: Option<String>,
    conditions: Option<Vec<Condition>>,
    desired_number_scheduled: i64,
    current_number_scheduled: i64,
    updated_number_scheduled: i64,
    number_ready: i64,
    number_available: i64,
}

impl Object {
    /// Reads an object. The error says in words what is wrong with it.
    pub fn parse(kind: Kind, object: DynamicObject) -> Result<Self, String> {
        let (metadata, mut data) = (object.metadata, object.data);
        let uid = metadata.uid.ok_or("it has no metadata.uid")?;
        let generation = metadata.generation.ok_or("it has no metadata.generation")?;
        let annotations = metadata.annotations.unwrap_or_default();
        let spec: RawSpec = member(&mut data, "spec")?.ok_or("it has no spec")?;
        let status: RawStatus = member(&mut data, "status")?.unwrap_or_default();
        let strategy = spec.update_strategy;
        let on_delete = strategy.as_ref().is_some_and(|strategy| strategy.kind.as_deref() == Some("OnDelete"));
        let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
        Ok(Self {
            kind,
            uid,
            generation,
            record: record::read(&annotations),
            change: record::change(&annotations),
            annotations,
            selector: selector(spec.selector)?,
            template: Template::parse(spec.template).ok_or("its spec.template is not a pod template")?,
            paused: spec.paused,
            ordered: kind == Kind::StatefulSet && !on_delete && !parallel,
            on_delete,
            partition: strategy.and_then(|strategy| strategy.rolling_update).and_then(|update| update.partition).unwrap_or(0),
            replicas: spec.replicas.unwrap_or(1),
            status: Status::new(kind, status),
        })
    }

    /// What an effect decided on now is bound to.
    pub fn binding(&self) -> Binding {
        Binding::Object { uid: self.uid.clone(), generation: self.generation }
    }

    /// Whether the status speaks of the present specification.
    pub const fn is_observed(&self) -> bool {
        self.status.observed_generation >= self.generation
    }

    /// How many replicas are wanted.
    pub fn desired(&self) -> i64 {
        self.status.desired.unwrap_or(self.replicas)
    }
}

impl Status {
    fn new(kind: Kind, raw: RawStatus) -> Self {
        let nodes = kind == Kind::DaemonSet;
        let pick = |of_nodes, of_replicas| if nodes { of_nodes } else { of_replicas };
        Self {
            observed_generation: raw.observed_generation,
            desired: nodes.then_some(raw.desired_number_scheduled),
            total: pick(raw.current_number_scheduled, raw.replicas),
            updated: pick(raw.updated_number_scheduled, raw.updated_replicas),
            ready: pick(raw.number_ready, raw.ready_replicas),
            available: pick(raw.number_available, raw.available_replicas),
            current_revision: raw.current_revision,
            update_revision: raw.update_revision,
            conditions: raw.conditions.unwrap_or_default(),
        }
    }

    /// The condition of a kind, if there is one.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// Takes a member out of an object's data and reads it. `None` when there is none.
fn member<T: serde::de::DeserializeOwned>(data: &mut Value, name: &str) -> Result<Option<T>, String> {
    match data.get_mut(name).map(Value::take) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value).map(Some).map_err(|error| format!("its {name} can't be understood: {error}")),
    }
}

fn selector(selector: LabelSelector) -> Result<String, String> {
    let selector = Selector::try_from(selector).map_err(|error| format!("its spec.selector can't be understood: {error}"))?;
    let text = selector.to_string();
    // An empty selector would take every pod of the namespace for ours.
    if text.is_empty() { Err("its spec.selector is empty".to_owned()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{deployment, dynamic};
    use super::*;

    #[test]
    fn an_object_that_cannot_be_understood_says_what_is_wrong_with_it() {
        let cases = [
            (json!({ "metadata": {} }), "metadata.uid"),
            (json!({ "metadata": { "uid": "u", "generation": 1 } }), "it has no spec"),
            (json!({ "metadata": { "uid": "u", "generation": 1 }, "spec": 7 }), "its spec can't be understood"),
            (json!({ "metadata": { "uid": "u", "generation": 1 }, "spec": { "selector": {}, "template": {} } }), "selector is empty"),
            (
                json!({ "metadata": { "uid": "u", "generation": 1 }, "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": {} } }),
                "not a pod template",
            ),
            (
                json!({ "metadata": { "uid": "u", "generation": 1 }, "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": {}, "replicas": "x" } }),
                "its spec can't be understood",
            ),
        ];
        for (object, expected) in cases {
            let error = Object::parse(Kind::Deployment, dynamic(object)).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_absurd_record_does_not_hide_the_object() {
        let mut raw = deployment("shop:v1", 1);
        raw["metadata"]["annotations"] = json!({ record::RECORD: "{{{{" });

        let object = Object::parse(Kind::Deployment, dynamic(raw)).expect("understood");

        assert_eq!(object.record, None);
        assert_eq!(object.selector, "app=shop");
    }
}
