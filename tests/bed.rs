//! Stories on real parts: a real Kubernetes with real pods, a real Prometheus, a real mail server, the real binary. Each asserts on what
//! the cluster, the mail server, the webhook's receiver and the ledger then hold. `tests/run` starts the bed and runs them; a cluster to
//! work with by hand is told of in `tests/bed/README.md`.
//!
//! Every duration is configuration, so that a story takes seconds; the default durations are proved on virtual time (`tests/sim`).

#[path = "bed/world.rs"]
mod world;
#[path = "bed/proxy.rs"]
mod proxy;
#[path = "bed/kubernetes_stories.rs"]
mod kubernetes_stories;
#[path = "bed/measure.rs"]
mod measure;
