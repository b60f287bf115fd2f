//! The daemon's service account with exactly the rights that `deploy/kubernetes` gives it, and what it did with them: the audit log of the
//! API server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::parts::{variable, wait_for};
use crate::world::World;

/// As the API server calls it.
const USER: &str = "system:serviceaccount:rollbackd:rollbackd";

/// A request of the service account, as the API server noted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `get`, `patch`.
    pub verb: String,
    /// `deployments`, `pods`.
    pub resource: String,
    /// The status of the answer.
    pub status: u64,
}

impl World {
    /// From now on the daemon is the service account, with the rights of `rbac.yaml` in this namespace.
    pub fn with_its_service_account(self) -> Self {
        let manifests = deploy("rollbackd.yaml");
        let text = fs::read_to_string(&manifests).expect("it is in the repository");
        let account = text.split("\n---\n").find(|document| document.contains("kind: ServiceAccount")).expect("it has the account");
        let file = self.folder.path().join("account.yaml");
        fs::write(&file, account).expect("a file in our folder");
        // The namespace and the account belong to all stories, and another one may be making them at this moment.
        wait_for("there is a service account", || {
            let quiet = |arguments: &[&str]| {
                let ran = Command::new("kubectl").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
                ran.expect("kubectl is in the bed's PATH").success()
            };
            quiet(&["create", "namespace", "rollbackd"]);
            quiet(&["apply", "-f", &file.display().to_string()]) && quiet(&["-n", "rollbackd", "get", "serviceaccount", "rollbackd"])
        });
        self.kubectl(&["apply", "-f", &deploy("rbac.yaml").display().to_string()]);
        let token = Self::kubectl_anywhere(&["-n", "rollbackd", "create", "token", "rollbackd"]);
        let ours: Value =
            serde_json::from_str(&Self::kubectl_anywhere(&["config", "view", "--raw", "--minify", "--output", "json"])).expect("JSON");
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "bed",
            "clusters": [{"name": "bed", "cluster": ours["clusters"][0]["cluster"]}],
            "users": [{"name": "rollbackd", "user": {"token": token.trim()}}],
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "rollbackd"}}]});
        fs::write(self.own_kubeconfig(), kubeconfig.to_string()).expect("a file in our folder");
        self
    }

    /// What the service account asked of the API server about this namespace, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        let log = fs::read_to_string(Path::new(&variable("ROLLBACKD_BED")).join("log/audit.log")).expect("the API server writes it");
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ours = events.filter(|event| event["user"]["username"] == USER && event["objectRef"]["namespace"] == *self.namespace);
        // A watch is noted twice, when it begins and when it ends.
        let once = ours.filter(|event| event["verb"] != "watch" || event["stage"] == "ResponseStarted");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let request = |event: Value| Request {
            verb: text(&event["verb"]),
            resource: text(&event["objectRef"]["resource"]),
            status: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        };
        once.map(request).collect()
    }

    /// What it asked for, each once: `get deployments`.
    pub fn asked_for(&self) -> BTreeSet<String> {
        self.requests().into_iter().map(|request| format!("{} {}", request.verb, request.resource)).collect()
    }

    /// The status of the answer to each patch.
    pub fn patches(&self) -> Vec<u64> {
        self.requests().into_iter().filter(|request| request.verb == "patch").map(|request| request.status).collect()
    }
}

/// A manifest that operators are given.
pub fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes").join(name)
}
