//! What a story plays in: a namespace with a workload, a Prometheus that scrapes its pods, traffic, a daemon, and the people who hear of it.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::proxy::Proxy;

/// Nothing in a story takes longer than this, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(90);

/// A process that ends with its owner.
#[derive(Debug)]
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a story plays in.
#[derive(Debug)]
pub struct World {
    /// A namespace of its own.
    pub namespace: String,
    /// The daemon's folder: configuration, socket, log.
    pub folder: TempDir,
    /// Where the ledger lives.
    pub state: PathBuf,
    /// The kind of the workload called `web`: `deployment`, `statefulset`, `daemonset`.
    pub kind: &'static str,
    /// Everything that the webhook's receiver got, oldest first.
    pub hooks: Arc<Mutex<Vec<Value>>>,
    /// The way to the API server, if the daemon goes through one.
    pub proxy: Option<Proxy>,
    webhook: String,
    prometheus_port: u16,
    prometheus: Option<Process>,
    daemon: Option<Process>,
    others: Vec<Process>,
    discovering: Option<Arc<AtomicBool>>,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(discovering) = &self.discovering {
            discovering.store(false, Ordering::Relaxed);
        }
        self.daemon.take();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ends so:\n{}", self.log_tail());
        }
        let _ = Command::new("kubectl").args(["delete", "namespace", &self.namespace, "--wait=false"]).output();
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: the bed is not up, run tests/run"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it is bound").port()
}

impl World {
    /// A namespace and nothing in it yet.
    pub async fn new(story: &str, kind: &'static str) -> Self {
        let folder = tempfile::Builder::new().prefix("rollbackd-").tempdir().expect("a temporary folder");
        let namespace = format!("{story}-{}", std::process::id());
        let hooks = Arc::new(Mutex::new(Vec::new()));
        let webhook = receive(hooks.clone()).await;
        let state = folder.path().join("state");
        let world = Self {
            namespace,
            folder,
            state,
            kind,
            hooks,
            proxy: None,
            webhook,
            prometheus_port: free_port(),
            prometheus: None,
            daemon: None,
            others: Vec::new(),
            discovering: None,
        };
        world.kubectl_anywhere(&["create", "namespace", &world.namespace]);
        world
    }

    /// Goes to the API server through a way that can be held.
    pub async fn through_a_proxy(mut self) -> Self {
        let kubeconfig = fs::read_to_string(variable("KUBECONFIG")).expect("the bed wrote it");
        let server = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server: https://")).expect("it names the server");
        let host = server.rsplit_once(':').expect("with a port").0.to_owned();
        let proxy = Proxy::to(server.parse().expect("an address")).await;
        let through = kubeconfig
            .replace(&format!("server: https://{server}"), &format!("server: https://{}\n    tls-server-name: \"{host}\"", proxy.address));
        fs::write(self.folder.path().join("kubeconfig"), through).expect("a file in our folder");
        self.proxy = Some(proxy);
        self
    }

    /// The way to the API server.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the story went through a proxy")
    }

    /// Runs kubectl in the namespace and gives what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments);
        self.kubectl_anywhere(&all)
    }

    fn kubectl_anywhere(&self, arguments: &[&str]) -> String {
        let output = Command::new("kubectl").args(arguments).output().expect("kubectl is in the bed's PATH");
        assert!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("kubectl prints text")
    }

    fn apply(&self, object: &Value) {
        let path = self.folder.path().join("object.json");
        fs::write(&path, object.to_string()).expect("a file in our folder");
        self.kubectl(&["apply", "-f", path.to_str().expect("a temporary path is text")]);
    }

    /// The workload `web` with two replicas and its Service, rolled out.
    pub fn begin_with(&self, image: &str) {
        self.begin_with_spec(image, json!({}));
    }

    /// The same with further fields of the workload's `spec`.
    pub fn begin_with_spec(&self, image: &str, further: Value) {
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

    /// The images of the pods that are ready, as the cluster says.
    pub fn ready_images(&self) -> Vec<String> {
        let pods: Value = serde_json::from_str(&self.kubectl(&["get", "pods", "-l", "app=web", "-o", "json"])).expect("JSON");
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
        format!("{}:8080", self.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]))
    }

    /// Traffic on the Service, for at most five minutes.
    pub fn traffic(&mut self, per_second: u32) {
        let url = format!("http://{}/", self.address());
        let load = Command::new("shop")
            .args(["load", "--url", &url, "--rps", &per_second.to_string(), "--seconds", "300"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("shop is in the bed's PATH");
        self.others.push(Process(load));
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
        let (port, pods) = (self.prometheus_port, self.ready_images().len());
        self.wait_for("Prometheus scrapes every pod", |_| http_get(port, "/api/v1/query?query=sum(up)").contains(&format!("\"{pods}\"")));
    }

    /// Prometheus is gone.
    pub fn stop_prometheus(&mut self) {
        self.prometheus.take().expect("it runs");
    }

    /// Writes the configuration of the service `web`; `further` is appended.
    pub fn configure(&self, further: &str) {
        let kubeconfig = match &self.proxy {
            Some(_) => self.folder.path().join("kubeconfig").display().to_string(),
            None => variable("KUBECONFIG"),
        };
        let text = format!(
            r#"
[daemon]
state_directory = "{state}"
socket = "{socket}"
blind_after = "3s"

[kubernetes]
kubeconfig = "{kubeconfig}"

[prometheus.main]
url = "http://127.0.0.1:{prometheus}"

[notify.oncall.email]
smtp = "smtp+plain://{smtp}"
from = "rollbackd@example.org"
to = ["{namespace}@example.org"]

[notify.chat.webhook]
url = "{webhook}"

[matrix.error_ratio]
within = "10s"
[matrix.performance]
within = "10s"

[decision]
grace = "1s"
startup_deadline = "4s"
ready_deadline = "8s"
hold_p0 = "3s"
hold_p1 = "3s"
hold_p2 = "3s"

[services.web]
environment = "bed"
window = "15s"
platform.kubernetes = {{ namespace = "{namespace}", {kind} = "web" }}
verification = {{ timeout = "30s", rollout_timeout = "30s", watch = "4s" }}
{further}
"#,
            state = self.state.display(),
            socket = self.socket().display(),
            prometheus = self.prometheus_port,
            smtp = variable("BED_SMTP_PLAIN"),
            namespace = self.namespace,
            webhook = self.webhook,
            kind = self.kind,
        );
        fs::write(self.folder.path().join("rollbackd.toml"), text).expect("a file in our folder");
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

    fn socket(&self) -> PathBuf {
        self.folder.path().join("rollbackd.sock")
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).expect("a file in our folder");
        let daemon = Command::new(env!("CARGO_BIN_EXE_rollbackd"))
            .arg("--config")
            .arg(self.folder.path().join("rollbackd.toml"))
            .args(["run", "--log-format", "json"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon was built");
        self.daemon = Some(Process(daemon));
        self.wait_for("the daemon answers", |world| world.cli(&["status"]).status.success());
    }

    /// `kill -9`.
    pub fn kill_daemon(&mut self) {
        self.daemon.take().expect("it runs");
    }

    /// SIGTERM; it must end well within 10 s.
    pub fn terminate_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        let asked = Instant::now();
        let id = i32::try_from(daemon.0.id()).expect("a process number");
        rustix::process::kill_process(rustix::process::Pid::from_raw(id).expect("not zero"), rustix::process::Signal::TERM)
            .expect("it is ours");
        let status = daemon.0.wait().expect("it is our child");
        assert!(status.success(), "ended with {status}");
        assert!(asked.elapsed() < Duration::from_secs(10), "took {:?} to end", asked.elapsed());
    }

    /// Runs `rollbackd` as an operator would.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_rollbackd"))
            .arg("--socket")
            .arg(self.socket())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the binary was built")
    }

    /// The same, as JSON.
    pub fn cli_json(&self, arguments: &[&str]) -> Value {
        let output = self.cli(&[&["--output", "json"], arguments].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The service as `status` shows it.
    pub fn service(&self) -> Value {
        self.cli_json(&["status", "web"])["services"][0].clone()
    }

    /// The history: status, version and what it is a rollback of, newest first.
    pub fn history(&self) -> Vec<(String, String, Option<u64>)> {
        let rows = self.cli_json(&["history", "web"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rows.as_array()
            .unwrap_or_else(|| panic!("not a list: {rows}"))
            .iter()
            .map(|row| (text(&row["status"]), text(&row["version"]["name"]), row["rollback_of"].as_u64()))
            .collect()
    }

    /// Waits until it is so, or ends the story.
    pub fn wait_for(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the running version has passed its window.
    pub fn wait_until_known_good(&self) {
        self.wait_for("the running version is known good", |world| world.service()["deployment"]["status"] == "deployed");
    }

    /// Waits until a notice of this kind arrived at the webhook.
    pub fn wait_for_notice(&self, kind: &str) {
        self.wait_for(&format!("a notice of kind {kind} arrived"), |world| world.notices().iter().any(|(known, _)| known == kind));
    }

    /// What arrived at the webhook: kind and id, each once, oldest first.
    pub fn notices(&self) -> Vec<(String, String)> {
        let hooks = self.hooks.lock().expect("no story panics with it");
        let mut ids = BTreeSet::new();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = hooks.iter().map(|hook| (text(&hook["kind"]), text(&hook["id"])));
        all.filter(|(_, id)| ids.insert(id.clone())).collect()
    }

    /// The kinds of notices that arrived at the webhook, oldest first, sorted by their entries.
    pub fn kinds(&self) -> Vec<String> {
        let mut notices = self.notices();
        notices.sort_by_key(|(_, id)| id.rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok()));
        notices.into_iter().map(|(kind, _)| kind).collect()
    }

    /// The mails that the mail server took for us.
    pub fn mails(&self) -> Vec<Value> {
        let mails = fs::read_to_string(variable("BED_SMTP_MAILS")).unwrap_or_default();
        let mails = mails.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        mails.filter(|mail| mail["to"].to_string().contains(&format!("{}@", self.namespace))).collect()
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
                "app=web",
                "-o",
                "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}",
            ])
            .output();
        let Ok(listed) = listed else { return };
        if !listed.status.success() {
            return;
        }
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let pods = text.lines().filter_map(|line| line.split_once(' ')).filter(|(_, address)| !address.is_empty());
        let targets: Vec<_> = pods.map(|(pod, address)| json!({"targets": [format!("{address}:8080")], "labels": {"pod": pod}})).collect();
        let aside = file.with_extension("new");
        if fs::write(&aside, Value::from(targets).to_string()).is_ok() {
            let _ = fs::rename(&aside, file);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A tiny GET on loopback, for what the harness itself wants to know.
pub fn http_get(port: u16, path: &str) -> String {
    let output = Command::new("curl").args(["-s", "-g", "-m", "2", &format!("http://127.0.0.1:{port}{path}")]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Receives webhooks and keeps their bodies.
async fn receive(hooks: Arc<Mutex<Vec<Value>>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    let keep = move |axum::Json(body): axum::Json<Value>| async move {
        hooks.lock().expect("no story panics with it").push(body);
    };
    let router = axum::Router::new().route("/", axum::routing::post(keep));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}
