//! Going back: one read, one write that the server itself ties to the object's uid and generation, and a second read only to tell why a
//! write was refused.
//!
//! Binding to the generation and not to the resourceVersion, because every change of the status moves the latter: who reads it again and
//! patches again doubles effects whose answer was lost. The generation moves on every change of the specification and on nothing else,
//! and this patch always changes the specification; so a patch that arrives late, or twice, fails its test and changes nothing.
//!
//! With `restore = image` what runs afterwards may be neither the version that was left nor the target, but the present template with
//! the target's images. The record on the object names *what was deployed*, that is, the identity which `watch` will report; it is equal
//! to the target's for `restore = template`.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation, TestOperation};
use rollbackd_core::observation::Binding;
use rollbackd_core::plan::Effect;
use rollbackd_core::service::Restore;
use serde_json::{Value, json};

use super::super::Applied;
use super::object::Object;
use super::request::{Fault, Requests};
use super::template::{Image, Template};
use super::{look, record, revision};

/// Carries out an effect.
pub(super) async fn apply(requests: &Requests<'_>, effect: &Effect) -> Applied {
    let object = match look::object(requests).await {
        Ok(Some(object)) => object,
        Ok(None) => return Applied::Gone,
        // Even a refusal to let us read says nothing about what an earlier attempt did.
        Err(fault) => return Applied::Unknown(fault.to_string()),
    };
    if let Some(end) = settled_before(&object, effect) {
        return end;
    }
    if object.paused {
        return Applied::Rejected(format!("{} is paused, so nothing would roll out; resume it first", requests.settings));
    }
    let target = match target(requests, &object, effect).await {
        Ok(Some(target)) => target,
        Ok(None) => return Applied::TargetGone,
        Err(fault) => return Applied::Unknown(fault.to_string()),
    };
    let Some(change) = Change::new(&object, target, effect.restore) else {
        return Applied::Rejected(format!("{} differs from what runs in nothing that may be restored", effect.to));
    };
    match requests.patch(patch(&object, effect, &change)).await {
        Ok(patched) => match Object::parse(requests.settings.kind, patched) {
            Ok(patched) => Applied::Done(patched.binding()),
            Err(why) => Applied::Unknown(format!("{} was patched, but the answer can't be understood: {why}", requests.settings)),
        },
        Err(fault) => refused(requests, effect, &fault).await,
    }
}

/// What the object alone says: the effect happened already, or must not happen any more.
fn settled_before(object: &Object, effect: &Effect) -> Option<Applied> {
    let Binding::Object { uid, generation } = &effect.binding else {
        return Some(Applied::Moved);
    };
    // First of all: a copy of the object carries a copy of the record.
    if object.uid != *uid {
        return Some(Applied::Moved);
    }
    if object.record.as_ref().is_some_and(|record| record.plan == effect.plan) {
        return Some(Applied::Done(object.binding()));
    }
    (object.generation != *generation).then_some(Applied::Moved)
}

/// The template to go back to: the newest kept revision of that version, or else the ledger's copy. The kept one comes first because it
/// may still have pods: after a restart of the pods the copy is the same version and yet another revision, which would replace pods that
/// serve well. Either is believed only when its identity is the one that was asked for.
async fn target(requests: &Requests<'_>, object: &Object, effect: &Effect) -> Result<Option<Template>, Fault> {
    let copy = effect.artifact.as_ref().and_then(Template::from_artifact).filter(|copy| copy.id() == effect.to.id);
    match look::revisions(requests, object).await {
        Ok(kept) => Ok(revision::of_version(&kept, &effect.to.id).map(|revision| revision.template.clone()).or(copy)),
        Err(fault) => copy.map(Some).ok_or(fault),
    }
}

/// What is going to be changed, never nothing: a patch that leaves the specification as it is would not move the generation.
struct Change {
    /// The template afterwards.
    template: Template,
    /// The images to write; none when the whole template is written.
    images: Vec<Image>,
}

impl Change {
    fn new(object: &Object, target: Template, restore: Restore) -> Option<Self> {
        let change = match restore {
            Restore::Template => Self { template: target, images: Vec::new() },
            Restore::Image => {
                let (template, images) = object.template.with_images_of(&target);
                Self { template, images }
            }
        };
        (change.template.id() != object.template.id()).then_some(change)
    }
}

/// The whole effect in one patch, which the server applies whole or not at all.
fn patch(object: &Object, effect: &Effect, change: &Change) -> Patch {
    let mut operations = vec![test(["metadata", "uid"], json!(object.uid)), test(["metadata", "generation"], json!(object.generation))];
    if change.images.is_empty() {
        operations.push(replace(["spec", "template"], change.template.json().clone()));
    }
    for Image { list, index, reference, .. } in &change.images {
        operations.push(replace(["spec", "template", "spec", list, &index.to_string(), "image"], json!(reference)));
    }
    if object.annotations.is_empty() {
        operations.push(add(["metadata", "annotations"], json!({})));
    }
    for (key, value) in record::annotations(effect, &change.template.id()) {
        operations.push(add(["metadata", "annotations", key], json!(value)));
    }
    Patch(operations)
}

/// What became of a patch that the server didn't take.
async fn refused(requests: &Requests<'_>, effect: &Effect, fault: &Fault) -> Applied {
    match fault.status() {
        // A failed test is 422; so are failed validation and some admission. A 404 may be a proxy's.
        Some(404 | 409 | 422) => told_apart(requests, effect, fault).await,
        // 401 passes when the token is renewed, 408 and 429 pass by themselves.
        Some(status @ 400..=499) if !matches!(status, 401 | 408 | 429) => Applied::Rejected(fault.to_string()),
        _ => Applied::Unknown(fault.to_string()),
    }
}

/// Reads again, to tell a workload that moved from words that will not change. A conflict on an unmoved workload was one about its
/// status, and passes; so does the page of a proxy.
async fn told_apart(requests: &Requests<'_>, effect: &Effect, fault: &Fault) -> Applied {
    match look::object(requests).await {
        Ok(None) => Applied::Gone,
        Ok(Some(object)) => settled_before(&object, effect).unwrap_or_else(|| match fault.status() {
            Some(422) => Applied::Rejected(fault.to_string()),
            _ => Applied::Unknown(fault.to_string()),
        }),
        Err(unread) => Applied::Unknown(format!("{fault}; then {unread}")),
    }
}

fn test<const N: usize>(path: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Test(TestOperation { path: PointerBuf::from_tokens(path), value })
}

fn replace<const N: usize>(path: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Replace(ReplaceOperation { path: PointerBuf::from_tokens(path), value })
}

fn add<const N: usize>(path: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path), value })
}

#[cfg(test)]
mod tests;
