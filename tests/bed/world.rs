//! What a story plays in: a namespace with a workload, a Prometheus that scrapes its pods, traffic, a daemon, and the people who hear of it.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::parts::{self, Process, free_port, http_get, variable};
use crate::proxy::Proxy;

/// What a story plays in.
#[derive(Debug)]
pub struct World {
    /// A namespace of its own.
    pub namespace: String,
    /// The kind of the workload called `web`: `deployment`, `statefulset`, `daemonset`.
    pub kind: &'static str,
    /// The window of the service; 15 s unless the story says otherwise.
    pub window: &'static str,
    /// How long recovery may take; 30 s unless the story says otherwise.
    pub recovery: &'static str,
    /// The way to the API server, if the daemon goes through one.
    pub proxy: Option<Proxy>,
    prometheus_port: u16,
    prometheus: Option<Process>,
    others: Vec<Process>,
    pub daemon: Daemon,
    discovering: Option<Arc<AtomicBool>>,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(discovering) = &self.discovering {
            discovering.store(false, Ordering::Relaxed);
        }
        let _ = Command::new("kubectl").args(["delete", "namespace", &self.namespace, "--wait=false"]).output();
    }
}

impl Deref for World {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

impl World {
    /// A namespace and nothing in it yet.
    pub async fn new(story: &str, kind: &'static str) -> Self {
        let namespace = format!("{story}-{}", std::process::id());
        let daemon = Daemon::new(namespace.clone()).await;
        let world = Self {
            namespace,
            kind,
            window: "15s",
            recovery: "30s",
            proxy: None,
            prometheus_port: free_port(),
            prometheus: None,
            others: Vec::new(),
            daemon,
            discovering: None,
        };
        Self::kubectl_anywhere(&["create", "namespace", &world.namespace]);
        world
    }

    /// Goes to the API server through a way that can be held.
    pub async fn through_a_proxy(mut self) -> Self {
        // In kubectl's own form, whichever form the file has.
        let kubeconfig = Self::kubectl_anywhere(&["--kubeconfig", &self.kubeconfig(), "config", "view", "--raw"]);
        let server = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server: https://")).expect("it names the server");
        let host = server.rsplit_once(':').expect("with a port").0.to_owned();
        let proxy = Proxy::to(server.parse().expect("an address")).await;
        let through = kubeconfig
            .replace(&format!("server: https://{server}"), &format!("server: https://{}\n    tls-server-name: \"{host}\"", proxy.address));
        fs::write(self.own_kubeconfig(), through).expect("a file in our folder");
        self.proxy = Some(proxy);
        self
    }

    /// The daemon's own kubeconfig, if the story wrote one; else an administrator's.
    fn kubeconfig(&self) -> String {
        let own = self.own_kubeconfig();
        if own.exists() { own.display().to_string() } else { variable("KUBECONFIG") }
    }

    /// Where the story writes the daemon's own kubeconfig.
    pub fn own_kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The way to the API server.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the story went through a proxy")
    }

    /// Runs kubectl in the namespace and gives what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments);
        Self::kubectl_anywhere(&all)
    }

    /// Runs kubectl in the namespace, which may fail.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        Command::new("kubectl").args(["-n", &self.namespace]).args(arguments).output().expect("kubectl is in the bed's PATH")
    }

    /// Runs kubectl and gives what it prints.
    pub fn kubectl_anywhere(arguments: &[&str]) -> String {
        let output = Command::new("kubectl").args(arguments).output().expect("kubectl is in the bed's PATH");
        assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("kubectl prints text")
    }

    /// Applies an object, in the namespace unless it belongs to none.
    pub fn apply(&self, object: &Value) {
        let path = self.folder.path().join("object.json");
        fs::write(&path, object.to_string()).expect("a file in our folder");
        self.kubectl(&["apply", "-f", path.to_str().expect("a temporary path is text")]);
    }

    /// The workload `web` with two replicas and its Service, rolled out.
    pub fn begin_with(&self, image: &str) {
        self.begin_with_spec(image, &json!({}));
    }

    /// The same with further fields of the workload's `spec`.
    pub fn begin_with_spec(&self, image: &str, further: &Value) {
        let labels = json!({"app": "web"});
        self.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 8080}]}}));
        let mut spec = json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "web", "image": image, "imagePullPolicy": "IfNotPresent",
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1}}]}}});
        let kind = match self.kind {
            "statefulset" => "StatefulSet",
            "daemonset" => "DaemonSet",
            _ => "Deployment",
        };
        if kind != "DaemonSet" {
            spec["replicas"] = json!(2);
        }
        if kind == "StatefulSet" {
            spec["serviceName"] = json!("web");
        }
        for (key, value) in further.as_object().expect("an object") {
            spec[key] = value.clone();
        }
        self.apply(&json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}));
        self.kubectl(&["rollout", "status", &self.workload(), "--timeout=60s"]);
    }

    /// `deployment/web`.
    pub fn workload(&self) -> String {
        format!("{}/web", self.kind)
    }

    /// A person deploys.
    pub fn deploy(&self, image: &str) {
        self.kubectl(&["set", "image", &self.workload(), &format!("web={image}")]);
    }

    /// The image that the cluster holds as wanted.
    pub fn wanted_image(&self) -> String {
        self.kubectl(&["get", &self.workload(), "-o", "jsonpath={.spec.template.spec.containers[0].image}"])
    }

    /// The workload as the cluster holds it.
    pub fn object(&self) -> Value {
        serde_json::from_str(&self.kubectl(&["get", &self.workload(), "-o", "json"])).expect("JSON")
    }

    /// The images of the pods that are ready, as the cluster says.
    pub fn ready_images(&self) -> Vec<String> {
        self.ready_images_of("app=web")
    }

    fn ready_images_of(&self, selector: &str) -> Vec<String> {
        let pods: Value = serde_json::from_str(&self.kubectl(&["get", "pods", "-l", selector, "-o", "json"])).expect("JSON");
        let ready = pods["items"].as_array().expect("a list").iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        ready
            .filter(|pod| pod["status"]["containerStatuses"][0]["ready"] == true)
            .filter_map(|pod| pod["spec"]["containers"][0]["image"].as_str().map(str::to_owned))
            .collect()
    }

    /// How often the pod template changed: the cluster's own count of revisions.
    pub fn generation(&self) -> i64 {
        self.kubectl(&["get", &self.workload(), "-o", "jsonpath={.metadata.generation}"]).parse().expect("a number")
    }

    /// The Service's address.
    pub fn address(&self) -> String {
        self.address_of("web")
    }

    /// The address of a Service of this name.
    pub fn address_of(&self, service: &str) -> String {
        format!("{}:8080", self.kubectl(&["get", "service", service, "-o", "jsonpath={.spec.clusterIP}"]))
    }

    /// Traffic on the Service, for at most five minutes.
    pub fn traffic(&mut self, per_second: u32) {
        self.traffic_on(&format!("http://{}/", self.address()), per_second);
    }

    /// Traffic on an address, for at most five minutes.
    pub fn traffic_on(&mut self, url: &str, per_second: u32) {
        let load = Command::new("shop")
            .args(["load", "--url", url, "--rps", &per_second.to_string(), "--seconds", "300"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("shop is in the bed's PATH");
        self.others.push(Process(load));
    }

    /// What Prometheus holds of the time before: OpenMetrics text with timestamps. Before it starts.
    pub fn backfill(&self, samples: &str) {
        let folder = self.folder.path().join("prometheus");
        fs::create_dir_all(&folder).expect("a folder in our folder");
        let file = folder.join("before");
        fs::write(&file, format!("{samples}# EOF\n")).expect("a file in our folder");
        let made =
            Command::new("promtool").args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&file).arg(folder.join("data")).output();
        let made = made.expect("promtool comes with Prometheus");
        assert!(made.status.success(), "promtool: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// A Prometheus that scrapes the namespace's pods each second.
    pub fn start_prometheus(&mut self) {
        let folder = self.folder.path().join("prometheus");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bed/prometheus");
        let prometheus = Command::new(script)
            .arg(self.prometheus_port.to_string())
            .arg(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the bed has a Prometheus");
        self.prometheus = Some(Process(prometheus));
        if self.discovering.is_none() {
            let discovering = Arc::new(AtomicBool::new(true));
            self.discovering = Some(discovering.clone());
            let (namespace, file) = (self.namespace.clone(), folder.join("targets/pods.json"));
            std::thread::spawn(move || discover(&namespace, &file, &discovering));
        }
        let (port, pods) = (self.prometheus_port, self.ready_images_of("app").len());
        self.wait_for("Prometheus scrapes every pod", |_| http_get(port, "/api/v1/query?query=sum(up)").contains(&format!("\"{pods}\"")));
    }

    /// Prometheus is gone.
    pub fn stop_prometheus(&mut self) {
        self.prometheus.take().expect("it runs");
    }

    /// Writes the configuration of the service `web`; `further` is appended.
    pub fn configure(&self, further: &str) {
        let text = format!(
            r#"
[kubernetes]
kubeconfig = "{kubeconfig}"

[prometheus.main]
url = "http://127.0.0.1:{prometheus}"

[services.web]
environment = "bed"
window = "{window}"
platform.kubernetes = {{ namespace = "{namespace}", {kind} = "web" }}
verification = {{ timeout = "{recovery}", rollout_timeout = "30s", watch = "4s" }}
{further}
"#,
            kubeconfig = self.kubeconfig(),
            prometheus = self.prometheus_port,
            window = self.window,
            recovery = self.recovery,
            namespace = self.namespace,
            kind = self.kind,
        );
        self.daemon.configure(&text);
    }

    /// The usual signals: the error ratio from Prometheus.
    pub fn errors_from_prometheus() -> &'static str {
        r#"
[services.web.errors]
prometheus = "main"
every = "1s"
total = 'http_requests_total{job="pods"}'
failed = 'http_requests_total{job="pods",code=~"5.."}'
"#
    }

    /// A probe of the Service.
    pub fn probe(&self) -> String {
        format!("\n[services.web.probes.health]\nhttp = \"http://{}/healthz\"\nevery = \"250ms\"\ntimeout = \"1s\"\n", self.address())
    }

    /// Waits until it is so, or ends the story.
    pub fn wait_for(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        parts::wait_for(what, || is_so(self));
    }
}

/// A stand-in for Prometheus' own discovery, which Debian's is built without: writes which pods there are, twice a second.
fn discover(namespace: &str, file: &Path, discovering: &AtomicBool) {
    while discovering.load(Ordering::Relaxed) {
        let listed = Command::new("kubectl")
            .args([
                "-n",
                namespace,
                "get",
                "pods",
                "-l",
                "app",
                "-o",
                "jsonpath={range .items[*]}{.metadata.labels.app} {.metadata.name} {.status.podIP}{\"\\n\"}{end}",
            ])
            .output();
        let Ok(listed) = listed else { return };
        if !listed.status.success() {
            return;
        }
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let targets: Vec<_> = text.lines().filter_map(target).collect();
        let aside = file.with_extension("new");
        if fs::write(&aside, Value::from(targets).to_string()).is_ok() {
            let _ = fs::rename(&aside, file);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What Prometheus is told of a pod that has an address.
fn target(line: &str) -> Option<Value> {
    let mut words = line.split(' ');
    let (app, pod, address) = (words.next()?, words.next()?, words.next()?);
    (!address.is_empty()).then(|| json!({"targets": [format!("{address}:8080")], "labels": {"app": app, "pod": pod}}))
}
