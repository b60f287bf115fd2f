//! Test support.
use kube::api::DynamicObject;
use serde_json::{Value, json};
pub(super) fn dynamic(raw: Value) -> DynamicObject { serde_json::from_value(raw).expect("an object") }
