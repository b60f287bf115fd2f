//! Stories on real parts: a real Kubernetes with real pods, a real systemd, real processes, a real Prometheus, a real mail server, the real
//! binary. Each asserts on what the cluster or the host, the mail server, the webhook's receiver and the ledger then hold. `tests/run` starts the bed and runs them; a cluster to
//! work with by hand is told of in `tests/bed/README.md`.
//!
//! Every duration is configuration, so that a story takes seconds; the default durations are proved on virtual time (`tests/sim`).

#[path = "bed/account.rs"]
mod account;
#[path = "bed/audience.rs"]
mod audience;
#[path = "bed/booted.rs"]
mod booted;
#[path = "bed/daemon.rs"]
mod daemon;
#[path = "bed/host.rs"]
mod host;
#[path = "bed/host_stories.rs"]
mod host_stories;
#[path = "bed/hostile.rs"]
mod hostile;
#[path = "bed/hostile_stories.rs"]
mod hostile_stories;
#[path = "bed/judge_stories.rs"]
mod judge_stories;
#[path = "bed/kubernetes_stories.rs"]
mod kubernetes_stories;
#[path = "bed/measure.rs"]
mod measure;
#[path = "bed/parts.rs"]
mod parts;
#[path = "bed/proxy.rs"]
mod proxy;
#[path = "bed/refusal_stories.rs"]
mod refusal_stories;
#[path = "bed/replay_stories.rs"]
mod replay_stories;
#[path = "bed/rights_stories.rs"]
mod rights_stories;
#[path = "bed/systemd_stories.rs"]
mod systemd_stories;
#[path = "bed/world.rs"]
mod world;
