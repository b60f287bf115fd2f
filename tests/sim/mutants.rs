//! The net holds: daemons with something deliberately wrong in them, each of which an invariant must catch within a few seeds. What is wrong
//! is wrapped around shipped code and never in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use rollbackd::ledger::{Ledger, LedgerError};
use rollbackd::notify::{Notifier, NotifyError};
use rollbackd::platform::kubernetes::Kubernetes;
use rollbackd::platform::{Applied, Platform, Report};
use rollbackd::signal::Signal;
use rollbackd_core::entry::{Entry, Mark, Record};
use rollbackd_core::notice::Notice;
use rollbackd_core::observation::{Binding, ProbeOutcome, ProbeRound, Reading, Rollout, Scrape};
use rollbackd_core::plan::Effect;
use rollbackd_core::service::SignalKind;
use serde_json::{Value, json};

use super::host::Mutation;
use super::inbox::Inbox;
use super::script::{Asked, play};
use super::server;
use super::store::Store;
use super::world::{Fault, World};

/// So many seeds are tried before a mutation counts as missed.
const SEEDS: u64 = 40;

/// Plays seeds until one of the invariants is broken; `likely` first, the seed that was the first to break one when this was written.
fn caught(likely: u64, invariants: &[&str], only: &'static [Fault], mutation: Mutation) {
    let mut others = BTreeSet::new();
    for seed in std::iter::once(likely).chain(0..SEEDS) {
        let violations = play(seed, Asked { mutation, only: Some(only) }).violations;
        if let Some(found) = violations.iter().find(|violation| invariants.contains(&violation.invariant)) {
            println!("caught by seed {seed}: {} {}", found.invariant, found.words.chars().take(200).collect::<String>());
            return;
        }
        others.extend(violations.into_iter().map(|violation| violation.invariant));
    }
    panic!("none of {invariants:?} was broken in {SEEDS} seeds, only {others:?}");
}

/// Says that entries are durable, and writes them only with the next ones.
struct Forgetful {
    store: Store,
    owed: Option<(Timestamp, Vec<Entry>)>,
    next: u64,
}

impl Ledger for Forgetful {
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), LedgerError> {
        let next = &mut self.next;
        self.store.replay(&mut |record| {
            *next = record.seq + 1;
            each(record);
        })
    }

    fn append(&mut self, at: Timestamp, entries: Vec<Entry>) -> Result<Vec<Record>, LedgerError> {
        if let Some((at, owed)) = self.owed.take() {
            self.store.append(at, owed)?;
        }
        let records: Vec<Record> = (self.next..).zip(&entries).map(|(seq, entry)| Record { seq, at, entry: entry.clone() }).collect();
        self.next += records.len() as u64;
        self.owed = Some((at, entries));
        Ok(records)
    }
}

#[test]
fn a_ledger_that_says_durable_before_it_is() {
    let ledger = |_: &World, store| -> Box<dyn Ledger> { Box::new(Forgetful { store, owed: None, next: 1 }) };
    caught(0, &["S3"], &[Fault::Crash], Mutation { ledger: Some(ledger), ..Mutation::default() });
}

/// Leaves some entries out.
struct Selective {
    store: Store,
    left_out: fn(&Entry) -> bool,
}

impl Ledger for Selective {
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), LedgerError> {
        self.store.replay(each)
    }

    fn append(&mut self, at: Timestamp, mut entries: Vec<Entry>) -> Result<Vec<Record>, LedgerError> {
        entries.retain(|entry| !(self.left_out)(entry));
        self.store.append(at, entries)
    }
}

#[test]
fn bad_marks_are_forgotten() {
    let ledger = |_: &World, store| -> Box<dyn Ledger> {
        Box::new(Selective { store, left_out: |entry| matches!(entry, Entry::Marked { mark: Mark::Bad, .. }) })
    };
    caught(0, &["S5"], &[], Mutation { ledger: Some(ledger), ..Mutation::default() });
}

#[test]
fn a_pause_is_acknowledged_and_forgotten() {
    let ledger =
        |_: &World, store| -> Box<dyn Ledger> { Box::new(Selective { store, left_out: |entry| matches!(entry, Entry::Held { .. }) }) };
    caught(17, &["S7"], &[Fault::Operators], Mutation { ledger: Some(ledger), ..Mutation::default() });
}

#[test]
fn what_happened_to_a_notice_is_forgotten() {
    let ledger = |_: &World, store| -> Box<dyn Ledger> {
        Box::new(Selective { store, left_out: |entry| matches!(entry, Entry::NoticeDelivered { .. }) })
    };
    caught(0, &["N1"], &[], Mutation { ledger: Some(ledger), ..Mutation::default() });
}

/// A platform with something wrong in how it applies or reports.
struct Wrong {
    inner: Kubernetes,
    apply: ApplyWrong,
    complete: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum ApplyWrong {
    /// It does as it should.
    Not,
    /// Binds to whatever is there now.
    Rebinds,
    /// Says that it is done.
    Lies,
}

#[async_trait]
impl Platform for Wrong {
    fn watch(&self) -> BoxStream<'static, Report> {
        let complete = self.complete;
        let as_seen = move |report| match report {
            Report::Seen(mut workload) if complete => {
                workload.rollout = Rollout::Complete;
                Report::Seen(workload)
            }
            report => report,
        };
        self.inner.watch().map(as_seen).boxed()
    }

    async fn look(&self) -> Report {
        self.inner.look().await
    }

    async fn apply(&self, effect: &Effect) -> Applied {
        let mut effect = effect.clone();
        match self.apply {
            ApplyWrong::Not => {}
            ApplyWrong::Lies => return Applied::Done(Binding::Object { uid: "uid-1".to_owned(), generation: 99 }),
            ApplyWrong::Rebinds => {
                if let Report::Seen(workload) = self.inner.look().await {
                    effect.binding = workload.binding;
                }
            }
        }
        self.inner.apply(&effect).await
    }
}

fn wrong(inner: Kubernetes, apply: ApplyWrong, complete: bool) -> Arc<dyn Platform> {
    Arc::new(Wrong { inner, apply, complete })
}

#[test]
fn an_effect_is_bound_to_what_is_there_instead_of_what_was_decided_on() {
    let platform = |_: &World, inner| wrong(inner, ApplyWrong::Rebinds, false);
    let only = &[Fault::Meddling, Fault::Scaling, Fault::ServerErrors, Fault::SilentWatch];
    caught(25, &["S4", "S6"], only, Mutation { platform: Some(platform), ..Mutation::default() });
}

#[test]
fn an_effect_is_called_done_that_never_happened() {
    let platform = |_: &World, inner| wrong(inner, ApplyWrong::Lies, false);
    caught(0, &["S3"], &[], Mutation { platform: Some(platform), ..Mutation::default() });
}

#[test]
fn a_rollout_is_called_complete_from_its_first_moment() {
    let platform = |_: &World, inner| wrong(inner, ApplyWrong::Not, true);
    caught(2, &["N5"], &[], Mutation { platform: Some(platform), ..Mutation::default() });
}

/// Leaves the tests out of a patch.
fn untested(_: &World, _: &str, patch: &mut Value) {
    if let Some(operations) = patch.as_array_mut() {
        operations.retain(|operation| operation["op"] != "test");
    }
}

#[test]
fn a_patch_tests_nothing() {
    caught(6, &["S2", "S4", "S6"], &[Fault::Meddling, Fault::LateWrites], Mutation { patch: Some(untested), ..Mutation::default() });
}

/// A client that repeats a write whose answer was lost, with the generation as it is then.
fn repeated(world: &World, name: &str, patch: &mut Value) {
    if !world.is_broken(Fault::LostAnswers) {
        return;
    }
    let plan = patch
        .as_array()
        .into_iter()
        .flatten()
        .find(|operation| operation["path"] == "/metadata/annotations/rollbackd.dev~1plan")
        .and_then(|operation| operation["value"].as_str())
        .unwrap_or_default()
        .to_owned();
    server::apply(world, name, &plan, patch.clone());
    let generation = world.lock().cluster.workloads.get(name).map_or(0, |workload| workload.generation);
    for operation in patch.as_array_mut().into_iter().flatten() {
        if operation["path"] == "/metadata/generation" {
            operation["value"] = json!(generation);
        }
    }
}

#[test]
fn a_write_is_repeated_with_a_fresh_generation() {
    caught(0, &["S2", "S4"], &[Fault::LostAnswers], Mutation { patch: Some(repeated), ..Mutation::default() });
}

/// Takes silence for failure.
struct Pessimist {
    inner: Arc<dyn Signal>,
    kind: SignalKind,
}

#[async_trait]
impl Signal for Pessimist {
    async fn read(&self, now: Timestamp) -> Reading {
        let failed = || Reading::Probe(ProbeRound { targets: vec![("target".to_owned(), ProbeOutcome::Failed("silence".to_owned()))] });
        match self.inner.read(now).await {
            Reading::Missing(_) if self.kind == SignalKind::Probe => failed(),
            Reading::Probe(round) if round.targets.iter().any(|(_, outcome)| matches!(outcome, ProbeOutcome::Missing(_))) => failed(),
            reading => reading,
        }
    }

    async fn history(&self, from: Timestamp, to: Timestamp) -> Reading {
        self.inner.history(from, to).await
    }
}

#[test]
fn silence_is_taken_for_failure() {
    let signal = |_: &World, kind, inner| -> Arc<dyn Signal> { Arc::new(Pessimist { inner, kind }) };
    caught(2, &["healthy"], &[Fault::ProbeMissing], Mutation { signal: Some(signal), ..Mutation::default() });
}

/// Every counter says that all is well.
struct Optimist(Arc<dyn Signal>);

#[async_trait]
impl Signal for Optimist {
    async fn read(&self, now: Timestamp) -> Reading {
        match self.0.read(now).await {
            Reading::Scrape(scrape) => Reading::Scrape(Scrape { total: scrape.total, failed: Vec::new() }),
            Reading::Probe(mut round) => {
                for (_, outcome) in &mut round.targets {
                    *outcome = ProbeOutcome::Passed { latency: jiff::SignedDuration::ZERO };
                }
                Reading::Probe(round)
            }
            other => other,
        }
    }

    async fn history(&self, from: Timestamp, to: Timestamp) -> Reading {
        self.0.history(from, to).await
    }
}

#[test]
fn failures_are_overlooked() {
    let signal = |_: &World, _, inner| -> Arc<dyn Signal> { Arc::new(Optimist(inner)) };
    caught(1, &["L1"], &[], Mutation { signal: Some(signal), ..Mutation::default() });
}

#[test]
fn a_version_that_fails_is_promoted() {
    let signal = |_: &World, _, inner| -> Arc<dyn Signal> { Arc::new(Optimist(inner)) };
    caught(0, &["promotion"], &[], Mutation { signal: Some(signal), ..Mutation::default() });
}

/// A destination that is not what it says.
struct Deaf {
    inner: Inbox,
    renames: bool,
}

#[async_trait]
impl Notifier for Deaf {
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        if self.renames {
            let id = format!("{}-{}", notice.id, self.inner.world.now().as_millisecond());
            return self.inner.deliver(&Notice { id, ..notice.clone() }).await;
        }
        Ok(())
    }

    async fn check(&self) -> Result<(), NotifyError> {
        Ok(())
    }
}

#[test]
fn a_notice_is_called_delivered_that_never_was() {
    let notifier = |_: &World, inner| -> Arc<dyn Notifier> { Arc::new(Deaf { inner, renames: false }) };
    caught(0, &["N1"], &[], Mutation { notifier: Some(notifier), ..Mutation::default() });
}

#[test]
fn every_attempt_at_a_notice_has_a_new_name() {
    let notifier = |_: &World, inner| -> Arc<dyn Notifier> { Arc::new(Deaf { inner, renames: true }) };
    caught(0, &["N2"], &[], Mutation { notifier: Some(notifier), ..Mutation::default() });
}

#[test]
fn there_is_no_brake() {
    let limits = |limits: &mut rollbackd_core::guard::Limits| (limits.brake_services, limits.brake_percent) = (u32::MAX, 0);
    caught(16, &["S12"], &[], Mutation { limits: Some(limits), ..Mutation::default() });
}

#[test]
fn dry_run_is_overlooked() {
    let policy = |service: &mut rollbackd_core::service::Service| service.dry_run = false;
    caught(22, &["S7"], &[], Mutation { policy: Some(policy), ..Mutation::default() });
}

#[test]
fn the_daily_limit_is_overlooked() {
    let policy = |service: &mut rollbackd_core::service::Service| service.rollbacks_per_day = u32::MAX;
    caught(3, &["S10"], &[], Mutation { policy: Some(policy), ..Mutation::default() });
}
