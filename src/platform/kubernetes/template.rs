//! A pod template: what a version is on Kubernetes. It is kept as JSON, never as a typed object, so that a field which this program
//! doesn't know is neither overlooked nor lost on the way back. Nothing here talks to a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use rollbackd_core::version::{Artifact, Version, VersionId};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::words::bounded;

/// Written by the Deployment controller into the templates of its `ReplicaSets`.
pub(super) const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Written by `kubectl rollout restart`: the same code and configuration run again, so it is no new version.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// The longest name of a version: `Version::name` allows 512 bytes, the suffix needs ten of them.
const NAME_LIMIT: usize = 500;

/// A pod template, less what the cluster's own controllers wrote into it.
///
/// Invariant: an object with at least one container, each of which has a name; nothing in it is null.
#[derive(Clone, PartialEq)]
pub(super) struct Template(Value);

/// It may hold what an environment holds, so only its identity shows.
impl fmt::Debug for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Template({})", self.id())
    }
}

/// An image in a template: `containers` or `initContainers`, its place in that list, the container's name, and the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// The list.
    pub list: &'static str,
    /// The place in the list, from 0.
    pub index: usize,
    /// The container.
    pub container: String,
    /// The image.
    pub reference: String,
}

impl Template {
    /// Reads `spec.template` of a workload or of a revision that the cluster kept. `None` when it is not a pod template.
    pub fn parse(mut raw: Value) -> Option<Self> {
        drop_nulls(&mut raw);
        let template = raw.as_object_mut()?;
        template.remove("$patch");
        remove_from(template, &["metadata", "labels"], POD_TEMPLATE_HASH);
        let containers = template.get("spec")?.get("containers")?.as_array()?;
        let named = |container: &Value| container.get("name").is_some_and(Value::is_string);
        (!containers.is_empty() && containers.iter().all(named)).then_some(Self(raw))
    }

    /// Reads the ledger's own copy.
    pub fn from_artifact(artifact: &Artifact) -> Option<Self> {
        Self::parse(serde_json::from_str(&artifact.0).ok()?)
    }

    /// The copy for the ledger, unless it is too large.
    pub fn artifact(&self) -> Option<Artifact> {
        let text = self.0.to_string();
        (text.len() <= Artifact::LIMIT).then_some(Artifact(text))
    }

    /// The template as JSON.
    pub const fn json(&self) -> &Value {
        &self.0
    }

    /// The identity: the first 16 hexadecimal digits of the SHA-256 of the template with its keys in order. A restart doesn't change it.
    pub fn id(&self) -> VersionId {
        let mut template = self.0.clone();
        if let Some(template) = template.as_object_mut() {
            remove_from(template, &["metadata", "annotations"], RESTARTED_AT);
        }
        let mut text = String::new();
        canonical(&template, &mut text);
        let digest = Sha256::digest(text.as_bytes());
        VersionId(digest.iter().take(8).fold(String::new(), |mut hexadecimal, byte| {
            // Writing to a string can't fail.
            let _ = write!(hexadecimal, "{byte:02x}");
            hexadecimal
        }))
    }

    /// The version: `shop:v2, envoy:1.30 #a1b2c3`. The six digits are always there, because two versions may differ in their environment
    /// only, and a notice that went from `shop:v2` to `shop:v2` would tell nobody anything.
    pub fn version(&self) -> Version {
        let id = self.id();
        let mark: String = id.0.chars().take(6).collect();
        let name = format!("{} #{mark}", bounded(&self.image_names(), NAME_LIMIT));
        Version { id, name }
    }

    /// Whether some container has a probe that must pass before the pod is ready. Without one a pod is ready as soon as it was started.
    pub fn checks_readiness(&self) -> bool {
        let containers = self.0.pointer("/spec/containers").and_then(Value::as_array);
        let checked =
            |container: &Value| container.get("readinessProbe").or_else(|| container.get("startupProbe")).is_some_and(Value::is_object);
        containers.is_some_and(|containers| containers.iter().any(checked))
    }

    /// Every image, of containers first.
    pub fn images(&self) -> Vec<Image> {
        ["containers", "initContainers"].into_iter().flat_map(|list| self.images_of(list)).collect()
    }

    /// This template with the images of `target`, where both have a container of the same list and name; and which images that changed.
    pub fn with_images_of(&self, target: &Self) -> (Self, Vec<Image>) {
        let wanted: BTreeMap<_, _> = target.images().into_iter().map(|image| ((image.list, image.container), image.reference)).collect();
        let mut template = self.clone();
        let mut changes = Vec::new();
        for present in self.images() {
            let Some(reference) = wanted.get(&(present.list, present.container.clone())) else { continue };
            if *reference == present.reference {
                continue;
            }
            if let Some(place) = template.0.pointer_mut(&format!("/spec/{}/{}/image", present.list, present.index)) {
                *place = Value::String(reference.clone());
                changes.push(Image { reference: reference.clone(), ..present });
            }
        }
        (template, changes)
    }

    fn images_of(&self, list: &'static str) -> Vec<Image> {
        let containers = self.0.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array);
        let image = |(index, container): (usize, &Value)| {
            let text = |key| container.get(key).and_then(Value::as_str).map(str::to_owned);
            Some(Image { list, index, container: text("name")?, reference: text("image")? })
        };
        containers.into_iter().flatten().enumerate().filter_map(image).collect()
    }

    fn image_names(&self) -> String {
        let full: Vec<String> = self.images_of("containers").into_iter().map(|image| image.reference).collect();
        let short: Vec<String> = full.iter().map(|image| shortened(image, without_host(image))).collect();
        let distinct = |names: &[String]| names.iter().collect::<BTreeSet<_>>().len();
        if distinct(&short) == distinct(&full) {
            short.join(", ")
        } else {
            full.iter().map(|image| shortened(image, image)).collect::<Vec<_>>().join(", ")
        }
    }
}

/// The image without the registry's host: the first part, if it has a dot or a port or is `localhost` (the rule of image references).
fn without_host(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => image,
    }
}

/// `name` with at most 12 digits of its digest.
fn shortened(image: &str, name: &str) -> String {
    const DIGEST: &str = "@sha256:";
    match name.split_once(DIGEST) {
        Some((name, digits)) if image.contains(DIGEST) => format!("{name}{DIGEST}{}", digits.chars().take(12).collect::<String>()),
        _ => name.to_owned(),
    }
}

/// Removes what is null (Kubernetes: the same as absent; older servers write `creationTimestamp: null`).
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Removes `key` at `path`, and every object on the path that is empty then or was before.
fn remove_from(object: &mut Map<String, Value>, path: &[&str], key: &str) {
    let Some((first, rest)) = path.split_first() else {
        object.remove(key);
        return;
    };
    if let Some(Value::Object(inner)) = object.get_mut(*first) {
        remove_from(inner, rest, key);
        if inner.is_empty() {
            object.remove(*first);
        }
    }
}

/// JSON with the members of every object in the order of their keys, whichever map the JSON library was built with.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let ordered: BTreeMap<_, _> = members.iter().collect();
            text.push('{');
            for (key, member) in ordered {
                // Writing to a string can't fail.
                let _ = write!(text, "{}:", Value::String(key.clone()));
                canonical(member, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        scalar => {
            // Writing to a string can't fail.
            let _ = write!(text, "{scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(raw: Value) -> Template {
        Template::parse(raw).expect("the test's template is one")
    }

    fn with_images(images: &[&str]) -> Template {
        let containers: Vec<_> =
            images.iter().enumerate().map(|(index, image)| json!({ "name": format!("c{index}"), "image": image })).collect();
        template(json!({ "spec": { "containers": containers } }))
    }

    #[test]
    fn what_controllers_write_into_a_template_is_not_part_of_its_identity() {
        let plain = template(
            json!({ "metadata": { "labels": { "app": "shop" } }, "spec": { "containers": [{ "name": "a", "image": "shop:v1" }] } }),
        );
        let kept = template(json!({
            "$patch": "replace",
            "metadata": { "creationTimestamp": null, "labels": { "app": "shop", "pod-template-hash": "7c9" }, "annotations": null },
            "spec": { "containers": [{ "image": "shop:v1", "name": "a" }] }
        }));

        assert_eq!(kept, plain);
        assert_eq!(kept.id(), plain.id());
        assert_eq!(plain.id().0.len(), 16);
    }

    #[test]
    fn a_restart_is_not_a_new_version() {
        let before = template(json!({ "metadata": { "labels": {} }, "spec": { "containers": [{ "name": "a", "image": "shop:v1" }] } }));
        let restarted = template(json!({
            "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z" }, "labels": {} },
            "spec": { "containers": [{ "name": "a", "image": "shop:v1" }] }
        }));

        assert_eq!(restarted.id(), before.id());
        assert_ne!(restarted, before, "the cluster keeps them as two revisions");
    }

    #[test]
    fn a_change_of_the_environment_alone_is_a_new_version_with_a_name_of_its_own() {
        let before =
            template(json!({ "spec": { "containers": [{ "name": "a", "image": "shop:v1", "env": [{ "name": "A", "value": "1" }] }] } }));
        let after =
            template(json!({ "spec": { "containers": [{ "name": "a", "image": "shop:v1", "env": [{ "name": "A", "value": "2" }] }] } }));

        assert_ne!(before.id(), after.id());
        assert_ne!(before.version().name, after.version().name);
        assert!(after.version().name.starts_with("shop:v1 #"), "{}", after.version().name);
    }

    #[test]
    fn names_are_short_but_never_ambiguous() {
        let digest = "3f2a9c0d11e25b7700112233445566778899aabbccddeeff0011223344556677";
        let cases = [
            (vec!["shop:v2".to_owned()], "shop:v2"),
            (vec!["registry.example.org:5000/team/shop:v2".to_owned()], "team/shop:v2"),
            (vec!["localhost/shop:v2".to_owned(), "team/envoy:1".to_owned()], "shop:v2, team/envoy:1"),
            (vec![format!("r.example.org/shop@sha256:{digest}")], "shop@sha256:3f2a9c0d11e2"),
            (vec!["a.example/shop:v2".to_owned(), "b.example/shop:v2".to_owned()], "a.example/shop:v2, b.example/shop:v2"),
            (vec!["a.example/shop:v2".to_owned(), "a.example/shop:v2".to_owned()], "shop:v2, shop:v2"),
        ];
        for (images, expected) in cases {
            let images: Vec<&str> = images.iter().map(String::as_str).collect();
            assert_eq!(with_images(&images).image_names(), expected);
        }
        let many = vec!["a/very/long/image/name:with-a-tag"; 100];
        assert!(with_images(&many).version().name.len() <= 512);
    }

    #[test]
    fn going_back_to_images_leaves_everything_else_as_it_is() {
        let present = template(json!({ "spec": {
            "containers": [{ "name": "new", "image": "new:1" }, { "name": "shop", "image": "shop:v2", "env": [{ "name": "A", "value": "2" }] }],
            "initContainers": [{ "name": "migrate", "image": "shop:v2" }]
        } }));
        let target = template(json!({ "spec": {
            "containers": [{ "name": "shop", "image": "shop:v1" }, { "name": "old", "image": "old:1" }],
            "initContainers": [{ "name": "migrate", "image": "shop:v1" }]
        } }));

        let (restored, changes) = present.with_images_of(&target);

        assert_eq!(
            restored.json()["spec"]["containers"][1],
            json!({ "name": "shop", "image": "shop:v1", "env": [{ "name": "A", "value": "2" }] })
        );
        assert_eq!(restored.json()["spec"]["containers"][0]["image"], "new:1");
        assert_eq!(restored.json()["spec"]["initContainers"][0]["image"], "shop:v1");
        assert_eq!(
            changes.iter().map(|change| (change.list, change.index)).collect::<Vec<_>>(),
            [("containers", 1), ("initContainers", 0)]
        );
    }

    #[test]
    fn what_is_not_a_template_is_not_taken_for_one() {
        for raw in [
            json!(null),
            json!([]),
            json!({}),
            json!({ "spec": { "containers": [] } }),
            json!({ "spec": { "containers": [{ "image": "a" }] } }),
        ] {
            assert_eq!(Template::parse(raw), None);
        }
        assert_eq!(Template::from_artifact(&Artifact("not json".to_owned())), None);
    }

    #[test]
    fn the_ledgers_copy_gives_the_same_identity_and_a_huge_template_has_none() {
        let shop = with_images(&["shop:v1"]);
        assert_eq!(Template::from_artifact(&shop.artifact().expect("small")), Some(shop));
        assert_eq!(with_images(&["x".repeat(Artifact::LIMIT).as_str()]).artifact(), None);
    }
}
