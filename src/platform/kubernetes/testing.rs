//! An API server in a few lines, for this adapter's own tests: one workload, its revisions and pods, JSON patches with generations, a
//! watch, and faults on demand. It runs no controllers; a test says what they would have done.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::api::DynamicObject;
use rollbackd_core::observation::Binding;
use rollbackd_core::plan::Effect;
use rollbackd_core::service::{Restore, ServiceName};
use rollbackd_core::version::Version;
use serde_json::{Value, json};

use super::template::Template;
use super::{Kind, Kubernetes, Settings};

/// Reads JSON as an object.
pub(super) fn dynamic(raw: Value) -> DynamicObject {
    serde_json::from_value(raw).expect("the test's object is one")
}

/// A Deployment `shop/shop` whose rollout is complete, at generation 4.
pub(super) fn deployment(image: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "shop", "namespace": "shop", "uid": "uid-1", "generation": 4, "resourceVersion": "10" },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "shop" } }, "template": template(image) },
        "status": { "observedGeneration": 4, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas }
    })
}

/// The pod template of [`deployment`].
pub(super) fn template(image: &str) -> Value {
    json!({ "metadata": { "labels": { "app": "shop" } }, "spec": { "containers": [{ "name": "shop", "image": image }] } })
}

/// The version that runs an image.
pub(super) fn version(image: &str) -> Version {
    Template::parse(template(image)).expect("a template").version()
}

/// From `shop:v2` on [`deployment`] back to `shop:v1`, with the ledger's copy.
pub(super) fn effect() -> Effect {
    Effect {
        plan: "k3f9a2b1-17".to_owned(),
        service: ServiceName::try_from("checkout").expect("a name"),
        environment: "production".to_owned(),
        from: version("shop:v2"),
        to: version("shop:v1"),
        artifact: Template::parse(template("shop:v1")).expect("a template").artifact(),
        binding: Binding::Object { uid: "uid-1".to_owned(), generation: 4 },
        restore: Restore::Template,
        known_bad: vec![version("shop:v2").id],
        reason: "P1: error ratio 0.4".to_owned(),
    }
}

/// What a request meets.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It is refused with this status and message, and has no effect.
    Refused(u16, &'static str),
    /// It has its effect, and its answer never comes.
    AnswerLost,
    /// It has no effect, and no answer comes.
    Silence,
}

/// The server; clones share its state.
#[derive(Clone)]
pub(super) struct Server(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    pub object: Option<Value>,
    pub revisions: Vec<Value>,
    pub pods: Vec<Value>,
    /// For the next requests of a method, `GET` of the workload only.
    pub faults: BTreeMap<&'static str, VecDeque<Fault>>,
    /// For all lists of a kind.
    pub forbidden: Vec<&'static str>,
    /// Methods and paths, in order.
    pub requests: Vec<String>,
    watches: Vec<UnboundedSender<Result<Bytes, Infallible>>>,
}

impl Server {
    pub fn with(object: Value) -> Self {
        Self(Arc::new(Mutex::new(State { object: Some(object), ..State::default() })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn platform(&self, kind: Kind) -> Kubernetes {
        let settings = Settings { namespace: "shop".to_owned(), kind, name: "shop".to_owned() };
        Kubernetes::new(self.client(), self.client(), settings)
    }

    /// Plans faults for the next requests of a method.
    pub fn fail(&self, method: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.entry(method).or_default().extend(faults);
    }

    /// Changes the workload as somebody else would, and rings the bell. A change of the specification moves the generation.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        self.state().change(change);
    }

    /// How many requests of a method there were.
    pub fn count(&self, method: &str) -> usize {
        self.state().requests.iter().filter(|request| request.starts_with(method)).count()
    }

    fn client(&self) -> Client {
        let server = self.clone();
        Client::new(tower::service_fn(move |request| answer(server.clone(), request)), "default")
    }
}

impl State {
    fn change(&mut self, change: impl FnOnce(&mut Value)) {
        let Some(object) = &mut self.object else { return };
        let spec = object["spec"].clone();
        change(object);
        let next = |value: &Value| value.as_i64().expect("a number") + 1;
        if object["spec"] != spec {
            object["metadata"]["generation"] = json!(next(&object["metadata"]["generation"]));
        }
        let version: i64 = object["metadata"]["resourceVersion"].as_str().expect("a text").parse().expect("a number");
        object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        let line = Bytes::from(format!("{}\n", json!({ "type": "MODIFIED", "object": object })));
        self.watches.retain(|watch| watch.unbounded_send(Ok(line.clone())).is_ok());
    }

    fn list(&self, plural: &str, selector: &str) -> Response<Body> {
        let items: Vec<&Value> = match plural {
            "pods" => self.pods.iter().filter(|pod| matches(pod, selector)).collect(),
            "replicasets" | "controllerrevisions" => self.revisions.iter().collect(),
            _ => self.object.iter().collect(),
        };
        response(200, &json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "10" }, "items": items }))
    }

    fn patch(&mut self, body: &[u8]) -> Response<Body> {
        let patch: json_patch::Patch = serde_json::from_slice(body).expect("a JSON patch");
        let Some(mut patched) = self.object.clone() else { return status(404, "not found") };
        if let Err(error) = json_patch::patch(&mut patched, &patch) {
            return status(422, &error.to_string());
        }
        self.change(|object| *object = patched);
        response(200, self.object.as_ref().expect("it was there"))
    }

    fn delete_pod(&mut self, name: &str, body: &[u8]) -> Response<Body> {
        let options: Value = serde_json::from_slice(body).expect("delete options");
        let Some(index) = self.pods.iter().position(|pod| pod["metadata"]["name"] == name) else { return status(404, "not found") };
        let metadata = &self.pods[index]["metadata"];
        let wanted = &options["preconditions"];
        if wanted["uid"] != metadata["uid"] || wanted["resourceVersion"] != metadata["resourceVersion"] {
            return status(409, "the precondition failed");
        }
        response(200, &self.pods.remove(index))
    }
}

async fn answer(server: Server, request: Request<kube::client::Body>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let path = parts.uri.path().to_owned();
    let (_, place) = path.split_once("/namespaces/shop/").expect("a namespaced path");
    let (plural, name) = place.split_once('/').unwrap_or((place, ""));
    let fault = {
        let mut state = server.state();
        let watch = if query.contains_key("watch") { " watch" } else { "" };
        state.requests.push(format!("{} {place}{watch}", parts.method));
        let named = name == "shop" || parts.method != Method::GET;
        state.faults.get_mut(parts.method.as_str()).filter(|_| named).and_then(VecDeque::pop_front)
    };
    let answer = match fault {
        Some(Fault::Refused(code, message)) => return Ok(status(code, message)),
        Some(Fault::Silence) => return std::future::pending().await,
        Some(Fault::AnswerLost) | None => reply(&mut server.state(), &parts.method, plural, name, &query, &body),
    };
    if matches!(fault, Some(Fault::AnswerLost)) { std::future::pending().await } else { Ok(answer) }
}

fn reply(state: &mut State, method: &Method, plural: &str, name: &str, query: &BTreeMap<String, String>, body: &[u8]) -> Response<Body> {
    if state.forbidden.contains(&plural) {
        return status(403, "forbidden");
    }
    match (method.as_str(), name) {
        ("GET", "") if query.contains_key("watch") => {
            let (sender, events) = unbounded();
            state.watches.push(sender);
            Response::new(Body::from_stream(events))
        }
        ("GET", "") => state.list(plural, query.get("labelSelector").map_or("", String::as_str)),
        ("GET", _) => state.object.as_ref().map_or_else(|| status(404, "not found"), |object| response(200, object)),
        ("PATCH", _) => state.patch(body),
        ("DELETE", name) => state.delete_pod(name, body),
        _ => status(405, "not allowed"),
    }
}

/// Selectors of the forms `key=value` and `key!=value`.
fn matches(pod: &Value, selector: &str) -> bool {
    let label = |key: &str| pod["metadata"]["labels"][key].as_str().unwrap_or_default();
    selector.split(',').all(|term| match term.split_once("!=") {
        Some((key, value)) => label(key) != value,
        None => term.split_once('=').is_some_and(|(key, value)| label(key) == value),
    })
}

fn status(code: u16, message: &str) -> Response<Body> {
    let reason = if code == 404 { "NotFound" } else { "Scripted" };
    response(
        code,
        &json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code }),
    )
}

fn response(code: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).expect("a status");
    response
}
