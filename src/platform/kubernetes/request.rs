//! The requests that this adapter makes, each bounded in time, each fault a value that says what was attempted. No decision is made here.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use rollbackd_core::observation::Missing;

use super::words::message;
use super::{Kind, Settings, revision};

/// A read that takes longer counts as no answer. Two reads and a write with its second look stay within the 30 s of `Platform::apply`.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(5);
/// A write that takes longer has an unknown outcome.
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// The most revisions that are looked at; Kubernetes keeps ten unless told otherwise.
const REVISIONS: u32 = 500;
/// The most pods that are looked at. Whether a version comes up shows in fewer.
const PODS: u32 = 500;

/// A request that failed.
#[derive(Debug)]
pub(super) struct Fault {
    attempt: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    /// No answer within this time.
    Silence(Duration),
    /// The client's error.
    Client(Box<kube::Error>),
    /// The answer came and makes no sense, in words.
    Nonsense(String),
}

impl Fault {
    /// An answer that can't be understood.
    pub fn nonsense(attempt: String, why: String) -> Self {
        Self { attempt, cause: Cause::Nonsense(why) }
    }

    /// The HTTP status of the server's answer, if it was one.
    pub fn status(&self) -> Option<u16> {
        match &self.cause {
            Cause::Client(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Cause::Silence(_) | Cause::Nonsense(_) => None,
        }
    }

    /// Why there is no evidence.
    pub fn missing(&self) -> Missing {
        let words = self.to_string();
        match &self.cause {
            Cause::Nonsense(_) => Missing::Malformed(words),
            Cause::Silence(_) => Missing::Unreachable(words),
            Cause::Client(error) => match error.as_ref() {
                kube::Error::Api(_) => Missing::Refused(words),
                kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Missing::Malformed(words),
                _ => Missing::Unreachable(words),
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match &self.cause {
            Cause::Silence(limit) => format!("no answer within {}s", limit.as_secs()),
            Cause::Client(error) => client_words(error),
            Cause::Nonsense(why) => message(why),
        };
        write!(formatter, "cannot {}: {why}", self.attempt)
    }
}

/// A client's error in words. Errors of the login are not repeated: they hold the whole output of credential plugins.
fn client_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => message(&status.message),
        kube::Error::Api(status) => message(&format!("status {} {}", status.code, status.reason)),
        kube::Error::Auth(_) => "the login to the cluster failed".to_owned(),
        kube::Error::Service(cause) if cause.is::<kube::client::AuthError>() => "the login to the cluster failed".to_owned(),
        _ => {
            let mut words = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source.filter(|_| words.len() < 1024) {
                let text = cause.to_string();
                if !words.contains(&text) {
                    words = format!("{words}: {text}");
                }
                source = cause.source();
            }
            message(&words)
        }
    }
}

/// The requests about one workload, made with one client.
pub(super) struct Requests<'a> {
    pub client: &'a Client,
    pub settings: &'a Settings,
}

impl Requests<'_> {
    /// The workload, by a quorum read. `None` when it doesn't exist.
    pub async fn workload(&self) -> Result<Option<DynamicObject>, Fault> {
        let attempt = || format!("read {}", self.settings);
        bounded(READ_LIMIT, attempt, self.api(&self.settings.kind.resource()).get_opt(&self.settings.name)).await
    }

    /// Everything among the kept revisions that matches `selector`.
    pub async fn revisions(&self, kind: Kind, selector: &str) -> Result<Vec<DynamicObject>, Fault> {
        let attempt = || format!("list the revisions of {}", self.settings);
        let parameters = ListParams::default().labels(selector).limit(REVISIONS);
        let list = bounded(READ_LIMIT, attempt, self.api(&revision::resource(kind)).list(&parameters)).await?;
        Ok(list.items)
    }

    /// The pods that match `selector`.
    pub async fn pods(&self, selector: &str) -> Result<Vec<Pod>, Fault> {
        let attempt = || format!("list the pods of {}", self.settings);
        let parameters = ListParams::default().labels(selector).limit(PODS);
        let list = bounded(READ_LIMIT, attempt, self.pod_api().list(&parameters)).await?;
        Ok(list.items)
    }

    /// Sends a patch of the workload, once.
    pub async fn patch(&self, patch: json_patch::Patch) -> Result<DynamicObject, Fault> {
        let attempt = || format!("patch {}", self.settings);
        let parameters = PatchParams { field_manager: Some("rollbackd".to_owned()), ..PatchParams::default() };
        let patch = Patch::Json::<()>(patch);
        let api = self.api(&self.settings.kind.resource());
        bounded(WRITE_LIMIT, attempt, api.patch(&self.settings.name, &parameters, &patch)).await
    }

    /// Deletes a pod, if it is still exactly what was looked at.
    pub async fn delete_pod(&self, pod: &Pod) -> Result<(), Fault> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: pod.metadata.resource_version.clone() };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let attempt = || format!("delete pod {name}");
        bounded(WRITE_LIMIT, attempt, self.pod_api().delete(&name, &parameters)).await.map(|_| ())
    }

    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.settings.namespace, resource)
    }

    fn pod_api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }
}

async fn bounded<T>(limit: Duration, attempt: impl Fn() -> String, call: impl Future<Output = kube::Result<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Fault { attempt: attempt(), cause: Cause::Client(Box::new(error)) }),
        Err(_) => Err(Fault { attempt: attempt(), cause: Cause::Silence(limit) }),
    }
}
