//! Where services run: how their version is read and redeployed. One adapter value guards one service.

use async_trait::async_trait;
use futures::stream::BoxStream;
use rollbackd_core::observation::{Binding, Missing, Workload};
use rollbackd_core::plan::Effect;

pub mod kubernetes;
pub mod command;

/// What a platform reports of a workload.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A look at it.
    Seen(Box<Workload>),
    /// It does not exist (any more).
    Gone,
    /// Nothing can be said just now.
    Missing(Missing),
}

/// What became of an effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// It happened (now, or at an earlier attempt): the workload's binding since.
    Done(Binding),
    /// The workload is not what the effect was bound to; nothing was changed.
    Moved,
    /// The workload does not exist; nothing was changed.
    Gone,
    /// The platform refused it for good; nothing was changed. Its words.
    Rejected(String),
    /// It was begun, did not bring the target, and is not to be tried again; what it changed on the way is not known. Its words.
    Failed(String),
    /// Neither the platform nor the effect has what it needs to redeploy; nothing was changed.
    TargetGone,
    /// It is not known whether it happened: the answer was lost. Its words. Ask again: the next attempt reads first.
    Unknown(String),
}

/// A place where one service runs.
///
/// Guarantees: `apply` has its effect at most once for each plan, however often it is called, and only on exactly what the effect is bound
/// to: it reads first, finds its own plan's name if an earlier attempt succeeded, and makes at most one write, which the platform itself
/// (where it can) ties to the binding. Assumptions: nobody else writes this plan's name. Caveats: an answer can be lost at any moment.
#[async_trait]
pub trait Platform: Send + Sync {
    /// Looks at the workload, again and again: at once, at each change, and at least once a minute. Never ends, survives every error
    /// (back-off inside), and reports `Missing` when it has been blind for longer than one look takes.
    fn watch(&self) -> BoxStream<'static, Report>;

    /// Looks at the workload once, not from a cache.
    async fn look(&self) -> Report;

    /// Carries out an effect. Bounded in time: it ends within 30 s, or within the configured limit of a program.
    async fn apply(&self, effect: &Effect) -> Applied;
}
