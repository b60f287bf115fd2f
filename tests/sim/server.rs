//! The API server over the cluster, as a tower service for the real `kube::Client`: get, list, watch (resource versions, bookmarks, 410),
//! JSON patch with `test` operations (422 when one does not hold), and deleting a pod. Faults befall requests here.

use std::io;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::cluster::{Cluster, Resource, image};
use super::world::{Fault, Watcher, What, World};

/// Changes a patch on its way to the server: what a broken daemon would send.
pub type Tamper = fn(&World, &str, &mut Value);

/// A client of the API server. Who writes with it may be tampered with.
pub fn client(world: &World, tamper: Option<Tamper>) -> Client {
    let world = world.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let world = world.clone();
        async move { answer(world, request, tamper).await }
    });
    Client::new(service, "shop")
}

/// A requirement on a label, and whether the value has to differ.
struct Label {
    key: String,
    value: String,
    differs: bool,
}

impl Label {
    fn parse(requirement: &str) -> Option<Self> {
        let (key, value) = requirement.split_once('=')?;
        let differs = key.ends_with('!');
        Some(Self { key: key.trim_end_matches('!').to_owned(), value: value.trim_start_matches('=').to_owned(), differs })
    }
}

/// What a request is about.
struct Asked {
    resource: Resource,
    /// By its path: one object.
    name: Option<String>,
    /// By a field selector: a list of one.
    only: Option<String>,
    labels: Vec<Label>,
    watch: bool,
    after: Option<u64>,
    timeout: u64,
}

async fn answer(world: World, request: Request<kube::client::Body>, tamper: Option<Tamper>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await.map_err(io::Error::other)?;
    let asked = asked(&parts.uri).ok_or_else(|| io::Error::other(format!("the simulation knows no {}", parts.uri)))?;
    world.lock().requests += 1;
    let patch: Option<Value> = if parts.method == Method::PATCH { serde_json::from_slice(&body).ok() } else { None };
    if let Some(patch) = &patch {
        world.record(What::Sent { plan: plan_of(patch) });
    }
    let latency = world.lock().chance.between(Duration::from_millis(1), Duration::from_millis(20));
    sleep(latency).await;
    if world.is_broken(Fault::ApiAway) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    if let Some(refusal) = refusal(&world) {
        return Ok(refusal);
    }
    if world.befalls(Fault::Hanging, 4) {
        sleep(Duration::from_hours(1)).await;
    }
    match parts.method {
        Method::GET if asked.watch => Ok(watch(&world, &asked)),
        Method::GET => Ok(read(&world, &asked)),
        Method::PATCH => write(world, asked, patch.unwrap_or_default(), tamper).await,
        Method::DELETE if asked.resource == Resource::Pods => Ok(delete(&world, &asked, &body)),
        other => Err(io::Error::other(format!("the simulation knows no {other}"))),
    }
}

fn asked(uri: &http::Uri) -> Option<Asked> {
    let rest = uri.path().strip_prefix("/apis/apps/v1/namespaces/shop/").or_else(|| uri.path().strip_prefix("/api/v1/namespaces/shop/"))?;
    let (collection, name) = rest.split_once('/').map_or((rest, None), |(collection, name)| (collection, Some(name.to_owned())));
    let resource = match collection {
        "deployments" => Resource::Deployments,
        "statefulsets" => Resource::StatefulSets,
        "daemonsets" => Resource::DaemonSets,
        "replicasets" => Resource::ReplicaSets,
        "controllerrevisions" => Resource::ControllerRevisions,
        "pods" => Resource::Pods,
        _ => return None,
    };
    let mut asked = Asked { resource, name, only: None, labels: Vec::new(), watch: false, after: None, timeout: 290 };
    for (key, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match key.as_ref() {
            "fieldSelector" => asked.only = value.strip_prefix("metadata.name=").map(str::to_owned),
            "labelSelector" => {
                asked.labels = value.split(',').filter_map(Label::parse).collect();
            }
            "watch" => asked.watch = value == "true" || value == "1",
            "resourceVersion" => asked.after = value.parse().ok(),
            "timeoutSeconds" => asked.timeout = value.parse().unwrap_or(290),
            _ => {}
        }
    }
    Some(asked)
}

fn refusal(world: &World) -> Option<Response<Body>> {
    if world.befalls(Fault::ServerErrors, 8) {
        return Some(failure(500, "InternalError", "etcdserver: request timed out"));
    }
    if world.befalls(Fault::ServerErrors, 4) {
        return Some(failure(503, "ServiceUnavailable", "the server is currently unable to handle the request"));
    }
    world.befalls(Fault::Throttling, 8).then(|| failure(429, "TooManyRequests", "too many requests, please try again later"))
}

fn respond(status: u16, body: &Value) -> Response<Body> {
    respond_with(status, body.to_string())
}

fn respond_with(status: u16, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code })
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    respond(code, &status(code, reason, message))
}

fn not_found() -> Response<Body> {
    failure(404, "NotFound", "not found")
}

fn matches(object: &Value, labels: &[Label]) -> bool {
    let holds = |label: &Label| (object["metadata"]["labels"][&label.key].as_str() == Some(&label.value)) != label.differs;
    labels.iter().all(holds)
}

fn read(world: &World, asked: &Asked) -> Response<Body> {
    let now = world.now();
    let mut inner = world.lock();
    let revision = inner.cluster.revision;
    let app = asked.labels.iter().find(|label| label.key == "app" && !label.differs).map(|label| label.value.as_str());
    let workload = asked.name.as_deref().or(asked.only.as_deref()).filter(|_| asked.resource.is_of_workloads());
    let workloads = app.or(workload).map_or_else(|| inner.cluster.workloads.keys().cloned().collect(), |name| vec![name.to_owned()]);
    let found: Vec<_> = workloads.iter().map(|name| inner.cluster.texts(asked.resource, name, now)).collect();
    drop(inner);
    let mut objects = found.iter().flat_map(|objects| objects.iter());
    if let Some(name) = &asked.name {
        let object = objects.find(|(object, _)| object["metadata"]["name"] == **name);
        return object.map_or_else(not_found, |(_, text)| respond_with(200, text.clone()));
    }
    let named = |object: &Value| asked.only.as_deref().is_none_or(|name| object["metadata"]["name"] == name);
    let wanted = objects.filter(|(object, _)| named(object) && matches(object, &asked.labels));
    let items = wanted.map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(",");
    let (version, kind) = asked.resource.names();
    let metadata = json!({ "resourceVersion": revision.to_string() });
    respond_with(200, format!(r#"{{"kind":"{kind}List","apiVersion":"{version}","metadata":{metadata},"items":[{items}]}}"#))
}

fn watch(world: &World, asked: &Asked) -> Response<Body> {
    let gone = {
        let inner = world.lock();
        let oldest = inner.cluster.changes.front().map_or(0, |change| change.revision);
        asked.after.is_some_and(|after| after > 0 && after + 1 < oldest)
    };
    let (sender, receiver) = mpsc::unbounded_channel::<String>();
    if gone || world.befalls(Fault::WatchGone, 30) {
        let event = json!({ "type": "ERROR", "object": status(410, "Expired", "too old resource version") });
        let _ = sender.send(format!("{event}\n"));
    } else {
        let after = asked.after.unwrap_or_else(|| world.lock().cluster.revision);
        // A silent watch is one that waits for what never comes.
        let after = if world.befalls(Fault::SilentWatch, 70) { u64::MAX } else { after };
        let (timeout, ends) = (Duration::from_secs(asked.timeout), sender.clone());
        world.lock().watchers.push(Watcher { resource: asked.resource, name: asked.only.clone(), after, sender });
        world.tell_watchers();
        let world = world.clone();
        tokio::spawn(async move {
            sleep(timeout).await;
            world.lock().watchers.retain(|watcher| watcher.after == u64::MAX || !watcher.sender.same_channel(&ends));
        });
    }
    let lines = futures::stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((Ok::<_, io::Error>(line), receiver))
    });
    let mut response = Response::new(Body::from_stream(lines.fuse()));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

/// Tells a watcher what is new. False when it is gone.
pub fn tell(watcher: &mut Watcher, cluster: &Cluster) -> bool {
    let told = cluster.changes.partition_point(|change| change.revision <= watcher.after);
    for change in cluster.changes.range(told..) {
        watcher.after = change.revision;
        let wanted = change.resource == watcher.resource && watcher.name.as_deref().is_none_or(|name| change.name == name);
        if wanted && watcher.sender.send(change.event.clone()).is_err() {
            return false;
        }
    }
    !watcher.sender.is_closed()
}

/// Deletes a pod, if it is the one that is meant. Nobody but the daemon does so here.
fn delete(world: &World, asked: &Asked, body: &[u8]) -> Response<Body> {
    let Some(name) = &asked.name else { return not_found() };
    let options: Value = serde_json::from_slice(body).unwrap_or_default();
    let meant = |key: &str| options["preconditions"][key].as_str();
    let deleted = world.lock().cluster.delete_pod(name, meant("uid"), meant("resourceVersion"));
    match deleted {
        Err(false) => not_found(),
        Err(true) => failure(409, "Conflict", "the object is not what was meant"),
        Ok((service, image, ready)) => {
            world.record(What::PodDeleted { service, image, ready });
            respond(200, &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }))
        }
    }
}

/// A write is carried out whether the client still waits for it or not.
async fn write(world: World, asked: Asked, patch: Value, tamper: Option<Tamper>) -> io::Result<Response<Body>> {
    let Some(name) = asked.name else { return Ok(not_found()) };
    let plan = plan_of(&patch);
    if world.befalls(Fault::Conflicts, 20) {
        return Ok(failure(409, "Conflict", "the object has been modified; please apply your changes to the latest version and try again"));
    }
    if world.befalls(Fault::Meddling, 30) {
        world.meddle(&name, Duration::from_millis(30));
    }
    let late = world.befalls(Fault::LateWrites, 40);
    let delay =
        if late { world.lock().chance.seconds(1, 20) } else { world.lock().chance.between(Duration::ZERO, Duration::from_millis(20)) };
    let lost = world.befalls(Fault::LostAnswers, 50);
    let hangs = lost && world.lock().chance.percent(30);
    let written = tokio::spawn(async move {
        sleep(delay).await;
        let mut patch = patch;
        if let Some(tamper) = tamper {
            tamper(&world, &name, &mut patch);
        }
        let stored = apply(&world, &name, &plan, patch);
        if world.befalls(Fault::Meddling, 20) {
            world.meddle(&name, Duration::from_secs(3));
        }
        stored
    });
    let response = written.await.map_err(io::Error::other)?;
    if hangs {
        sleep(Duration::from_hours(1)).await;
    }
    if lost { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(response) }
}

/// The plan that a patch names.
fn plan_of(patch: &Value) -> String {
    let named = patch.as_array().into_iter().flatten().find_map(|operation| {
        let place = operation["path"].as_str()?;
        match place {
            "/metadata/annotations" => operation["value"]["rollbackd.dev/plan"].as_str().map(str::to_owned),
            "/metadata/annotations/rollbackd.dev~1plan" => operation["value"].as_str().map(str::to_owned),
            _ => None,
        }
    });
    named.unwrap_or_default()
}

/// Applies a patch: whole, or not at all.
pub fn apply(world: &World, name: &str, plan: &str, patch: Value) -> Response<Body> {
    let now = world.now();
    let mut inner = world.lock();
    let Some(resource) = inner.cluster.workloads.get(name).map(|workload| Resource::of(workload.kind)) else { return not_found() };
    let Some(before) = inner.cluster.objects(resource, Some(name), now).pop() else { return not_found() };
    let mut after = before.clone();
    let operations: json_patch::Patch = match serde_json::from_value(patch) {
        Ok(operations) => operations,
        Err(error) => return failure(400, "BadRequest", &error.to_string()),
    };
    if let Err(error) = json_patch::patch(&mut after, &operations) {
        return failure(422, "Invalid", &format!("the server rejected our request due to an error in our request: {error}"));
    }
    inner.cluster.store(name, &after, now);
    let stored = inner.cluster.objects(resource, Some(name), now).pop();
    drop(inner);
    let foreign = |pointer: &str| before.pointer(pointer) != after.pointer(pointer);
    if plan.is_empty() || foreign("/spec/replicas") || foreign("/spec/selector") || foreign("/metadata/labels") {
        world.record(What::Foreign(format!("a patch of {name} by plan {plan:?}")));
    }
    world.record(What::Applied {
        service: name.to_owned(),
        plan: plan.to_owned(),
        uid: before["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        generation: before["metadata"]["generation"].as_i64().unwrap_or(0),
        from: image(&before["spec"]["template"]),
        to: image(&after["spec"]["template"]),
    });
    world.tell_watchers();
    respond(200, &stored.unwrap_or(Value::Null))
}
