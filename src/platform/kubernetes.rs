//! Kubernetes: Deployment, `StatefulSet` and `DaemonSet`, treated alike. A version is a pod template; going back writes an earlier one (or only its
//! images) with a patch that the server ties to the object's uid and generation. Replica counts, and everything else outside of the
//! template, are never written.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::Client;
use kube::api::ApiResource;
use rollbackd_core::observation::Missing;
use rollbackd_core::plan::Effect;

use super::{Applied, Platform, Report};

mod client;
mod words;
mod template;
mod record;
mod object;
mod rollout;
mod revision;
mod trouble;
mod request;
mod look;
mod watch;
mod unstick;
mod apply;
#[cfg(test)]
mod testing;

pub use client::{KubernetesError, clients};

/// How the cluster is reached. Without a file: the service account inside a pod, else `$KUBECONFIG`, else `~/.kube/config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// A kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// A context in it; the current one unless said.
    pub context: Option<String>,
}

/// Which kind of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

/// Which workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// One workload on a cluster.
///
/// Guarantees: those of [`Platform`]. A look is a quorum read, never a cache. The watch also deletes broken pods of a `StatefulSet` that
/// stand in the way of a rollback of ours (and only of ours, see `unstick`). Assumptions: the uid and generation of an object behave as
/// the API conventions say. Caveats: of more than 500 pods or revisions only the first 500 are looked at; `StatefulSets` and `DaemonSets`
/// tell nobody but their events that they may not make pods, so a quota shows there only as a version that never gets ready; after a
/// rollback `kubectl.kubernetes.io/last-applied-configuration` still names the version that was left.
#[derive(Clone)]
pub struct Kubernetes {
    read_client: Client,
    write_client: Client,
    settings: Settings,
}

impl Kubernetes {
    /// Guards the workload that `settings` name. The write client must not repeat requests by itself ([`clients`]).
    #[must_use]
    pub const fn new(read_client: Client, write_client: Client, settings: Settings) -> Self {
        Self { read_client, write_client, settings }
    }

    const fn reads(&self) -> request::Requests<'_> {
        request::Requests { client: &self.read_client, settings: &self.settings }
    }

    const fn writes(&self) -> request::Requests<'_> {
        request::Requests { client: &self.write_client, settings: &self.settings }
    }

    fn report(looked: Result<Option<look::Sight>, Missing>) -> Report {
        match looked {
            Ok(Some(sight)) => Report::Seen(Box::new(sight.workload)),
            Ok(None) => Report::Gone,
            Err(missing) => Report::Missing(missing),
        }
    }
}

#[async_trait]
impl Platform for Kubernetes {
    fn watch(&self) -> BoxStream<'static, Report> {
        watch::watch(self.clone())
    }

    async fn look(&self) -> Report {
        Self::report(look::look(&self.reads()).await)
    }

    async fn apply(&self, effect: &Effect) -> Applied {
        apply::apply(&self.writes(), effect).await
    }
}

impl Kind {
    fn resource(self) -> ApiResource {
        match self {
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
        })
    }
}

/// As a command line wants it: `deployment shop/checkout`.
impl fmt::Display for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}
