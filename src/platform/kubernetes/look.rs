//! One look at a workload: the object by a quorum read, and, while it is not settled, its revisions and the pods of the present version.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use rollbackd_core::observation::{Missing, Replicas, Rollout, Workload};

use super::object::Object;
use super::request::{Fault, Requests};
use super::revision::{self, Revision};
use super::{rollout, trouble};

/// What a look saw.
pub(super) struct Sight {
    pub object: Object,
    pub workload: Workload,
    /// All kept revisions, when the workload is not settled.
    pub revisions: Vec<Revision>,
}

/// Reads and understands the workload. `None` when it doesn't exist or is on its way out.
pub(super) async fn object(requests: &Requests<'_>) -> Result<Option<Object>, Fault> {
    let Some(found) = requests.workload().await?.filter(|found| found.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let malformed = |why| Fault::nonsense(format!("understand {}", requests.settings), why);
    Object::parse(requests.settings.kind, found).map(Some).map_err(malformed)
}

/// The revisions that the cluster keeps of a workload.
pub(super) async fn revisions(requests: &Requests<'_>, object: &Object) -> Result<Vec<Revision>, Fault> {
    Ok(revision::of(object, requests.revisions(object.kind, &object.selector).await?))
}

/// Looks once.
pub(super) async fn look(requests: &Requests<'_>) -> Result<Option<Sight>, Missing> {
    let Some(object) = object(requests).await.map_err(|fault| fault.missing())? else {
        return Ok(None);
    };
    let rollout = rollout::judge(&object);
    let settled = rollout == Rollout::Complete && object.status.ready >= object.desired();
    let revisions = if settled { Vec::new() } else { allowed(revisions(requests, &object).await)?.unwrap_or_default() };
    let present = revision::present(&object, &revisions);
    let rollout = rollout::of_present(rollout, present, &revisions);
    let pods = match present {
        Some(present) => allowed(pods(requests, &object, present).await)?,
        None => None,
    };
    let workload = Workload {
        version: object.template.version(),
        artifact: object.template.artifact(),
        binding: object.binding(),
        rollout,
        replicas: replicas(&object, pods.as_deref()),
        ready_is_checked: object.template.checks_readiness(),
        troubles: if settled { Vec::new() } else { trouble::of(&object, present, pods.as_deref().unwrap_or_default()) },
        record: object.record.clone(),
        change: object.change,
        unseen_for: SignedDuration::ZERO,
    };
    Ok(Some(Sight { object, workload, revisions }))
}

/// The live pods of a revision.
async fn pods(requests: &Requests<'_>, object: &Object, revision: &Revision) -> Result<Vec<Pod>, Fault> {
    let (key, value) = &revision.pod_label;
    let mut pods = requests.pods(&format!("{},{key}={value}", object.selector)).await?;
    pods.retain(|pod| revision::is_owned_by(pod, &revision.pod_owner) && trouble::is_live(pod));
    Ok(pods)
}

/// Being forbidden to see revisions or pods must not blind us to the workload itself: then its own counts have to do. Any other fault
/// may pass, and a look that is half blind would make troubles come and go.
fn allowed<T>(result: Result<T, Fault>) -> Result<Option<T>, Missing> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(fault) if fault.status() == Some(403) => {
            tracing::warn!(%fault, "crash loops and image errors can't be seen");
            Ok(None)
        }
        Err(fault) => Err(fault.missing()),
    }
}

/// Without pods, as many as can be are taken to be ready: a version must not look dead for want of sight.
fn replicas(object: &Object, pods: Option<&[Pod]>) -> Replicas {
    let status = &object.status;
    let updated = if object.is_observed() { status.updated } else { status.updated.min(pods.map_or(0, count)) };
    let ready = match pods {
        Some(pods) => i64::try_from(pods.iter().filter(|pod| trouble::is_ready(pod)).count()).unwrap_or(i64::MAX),
        None => updated.min(status.ready),
    };
    Replicas { desired: natural(object.desired()), updated: natural(updated), ready: natural(ready), available: natural(status.available) }
}

fn count(pods: &[Pod]) -> i64 {
    i64::try_from(pods.len()).unwrap_or(i64::MAX)
}

/// A count that a server made negative or absurdly large is nothing to stumble over.
fn natural(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}
