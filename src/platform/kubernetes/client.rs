//! Clients of a cluster, from a configuration. Nothing else in the adapter cares where they come from.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::Cluster;

/// A connection that takes longer to make counts as none.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest silence on a connection that reads: longer than the server keeps a watch open (60 s), with room for a slow one.
const READ_SILENCE: Duration = Duration::from_secs(90);
/// The longest silence on a connection that writes, and the longest time that sending may take.
const WRITE_SILENCE: Duration = Duration::from_secs(10);

/// Why there are no clients.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The kubeconfig file can't be used.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KubeconfigError,
    },
    /// The context is in none of the kubeconfig files that were looked at.
    #[error("cannot use the context {context:?}")]
    Context {
        /// Its name.
        context: String,
        /// Why.
        #[source]
        source: KubeconfigError,
    },
    /// There is neither a service account nor a kubeconfig.
    #[error("cannot find a cluster: not inside a pod ({in_cluster}), and no kubeconfig that can be used")]
    NoCluster {
        /// Why not inside a pod.
        in_cluster: String,
        /// Why not by a kubeconfig.
        #[source]
        source: KubeconfigError,
    },
    /// A client can't be made: certificates, keys.
    #[error("cannot make a client for the cluster {url}")]
    Client {
        /// The cluster's address.
        url: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Makes two clients: the first to read and to watch, the second to write.
///
/// Neither ever repeats a request by itself: `kube` would repeat a write of unknown outcome, up to 15 times.
///
/// # Errors
/// When no cluster is configured, or its configuration can't be used. The cluster itself is not asked.
pub async fn clients(config: &Cluster) -> Result<(Client, Client), KubernetesError> {
    let cluster = cluster(config).await?;
    let reads = limited(cluster.clone(), READ_SILENCE);
    let writes = limited(cluster, WRITE_SILENCE);
    Ok((client(reads)?, client(writes)?))
}

async fn cluster(config: &Cluster) -> Result<Config, KubernetesError> {
    let options = KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &config.kubeconfig {
        let unusable = |source| KubernetesError::Kubeconfig { path: path.clone(), source };
        let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable);
    }
    if let Some(context) = &config.context {
        let unusable = |source| KubernetesError::Context { context: context.clone(), source };
        return Config::from_kubeconfig(&options).await.map_err(unusable);
    }
    match Config::incluster() {
        Ok(cluster) => Ok(cluster),
        Err(in_cluster) => {
            let none = |source| KubernetesError::NoCluster { in_cluster: in_cluster.to_string(), source };
            Config::from_kubeconfig(&options).await.map_err(none)
        }
    }
}

fn limited(mut cluster: Config, silence: Duration) -> Config {
    cluster.connect_timeout = Some(CONNECT);
    cluster.read_timeout = Some(silence);
    cluster.write_timeout = Some(WRITE_SILENCE);
    // Otherwise the time that a connection lay idle counts against the next answer on it.
    cluster.reset_reader_on_write = true;
    cluster.default_retry = false;
    cluster
}

fn client(cluster: Config) -> Result<Client, KubernetesError> {
    let url = cluster.cluster_url.to_string();
    Client::try_from(cluster).map_err(|source| KubernetesError::Client { url, source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: one, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: me, user: {token: not-a-real-one}}]
contexts: [{name: here, context: {cluster: one, user: me}}]
";

    #[tokio::test]
    async fn a_kubeconfig_gives_two_clients_and_a_context_that_is_not_in_it_none() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), KUBECONFIG).expect("written");
        let mut config = Cluster { kubeconfig: Some(file.path().to_owned()), context: None };

        assert!(clients(&config).await.is_ok());

        config.context = Some("elsewhere".to_owned());
        let error = clients(&config).await.err().expect("no such context").to_string();
        assert!(error.starts_with("cannot use the kubeconfig "), "{error}");
    }

    #[tokio::test]
    async fn no_request_is_repeated_or_waits_for_ever() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), KUBECONFIG).expect("written");
        let config = Cluster { kubeconfig: Some(file.path().to_owned()), context: None };

        let limited = limited(cluster(&config).await.expect("usable"), WRITE_SILENCE);

        assert!(!limited.default_retry);
        assert_eq!(
            (limited.connect_timeout, limited.read_timeout, limited.write_timeout),
            (Some(CONNECT), Some(WRITE_SILENCE), Some(WRITE_SILENCE))
        );
    }
}
