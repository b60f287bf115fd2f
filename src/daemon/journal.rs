//! The log: each entry of the ledger in one line, with the same fields every time. A rollback has one line at its start (`rollback_start`,
//! from, to) and one at its end (`rollback_end`, success).

use std::error::Error;

use rollbackd_core::entry::{Entry, Record};
use rollbackd_core::lifecycle::State;
use rollbackd_core::plan::Outcome;
use rollbackd_core::words;

/// An error with everything behind it, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Logs one entry. `state` has it folded in already.
pub fn record(state: &State, record: &Record) {
    let seq = record.seq;
    match &record.entry {
        Entry::LedgerBegun { ledger } => tracing::info!(seq, ledger, "a new ledger begins"),
        Entry::DestinationsKnown { names } => tracing::info!(seq, ?names, "notices go to these destinations"),
        Entry::DeploymentSeen { service, version, arrival, .. } => {
            tracing::info!(seq, %service, %version, ?arrival, "deployment seen");
        }
        Entry::DeploymentAnnounced { service, by, .. } => tracing::info!(seq, %service, %by, "deployment announced"),
        Entry::RolledOut { service, deployment } => tracing::info!(seq, %service, %deployment, "rolled out"),
        Entry::BaselineTaken { service, deployment, baselines } => {
            let baselines: Vec<_> = baselines.iter().map(|(signal, baseline)| format!("{signal}: {}", words::baseline(baseline))).collect();
            tracing::info!(seq, %service, %deployment, baselines = baselines.join("; "), "baseline taken");
        }
        Entry::VerdictReached { service, deployment, verdict, .. } => {
            tracing::warn!(seq, %service, %deployment, severity = %verdict.severity, impact = %verdict.impact, reason = words::verdict(verdict), "verdict reached");
        }
        Entry::ImpactDeclared { service, deployment, declaration } => {
            tracing::warn!(seq, %service, %deployment, impact = %declaration.impact, by = %declaration.by, reason = declaration.reason, since = %declaration.since, "impact declared");
        }
        Entry::ImpactWithdrawn { service, deployment, declaration, by, .. } => {
            tracing::info!(seq, %service, %deployment, impact = %declaration.impact, declared_by = %declaration.by, %by, "impact withdrawn");
        }
        Entry::QuestionAnswered { service, deployment, choice, by, reason } => {
            tracing::warn!(seq, %service, %deployment, choice = words::choice(*choice), %by, reason, "question answered");
        }
        Entry::RollbackRefused { service, deployment, refusal } => {
            tracing::warn!(seq, %service, %deployment, guard = refusal.name(), reason = words::refusal(refusal), "not rolled back");
        }
        Entry::Warned { service, deployment, warning } => {
            tracing::warn!(seq, %service, %deployment, severity = %warning.severity(), reason = words::warning(warning), "operators are warned");
        }
        Entry::RollbackPlanned { plan } => {
            let name = state.global(seq);
            tracing::warn!(seq, event = "rollback_start", service = %plan.service, plan = name, from = %plan.from, to = %plan.to, reason = words::cause(&plan.cause), "rolling back");
        }
        Entry::RollbackApplied { service, plan, .. } => tracing::info!(seq, %service, %plan, "rollback carried out on the platform"),
        Entry::RollbackRolledOut { service, plan } => tracing::info!(seq, %service, %plan, "rollback rolled out, looking for the proof"),
        Entry::RollbackEnded { service, plan, outcome } => {
            let success = *outcome == Outcome::Recovered;
            let rollback = state.service(service).and_then(|known| known.rollback.as_ref());
            let from = rollback.map(|rollback| rollback.plan.from.to_string()).unwrap_or_default();
            let to = rollback.map(|rollback| rollback.plan.to.to_string()).unwrap_or_default();
            tracing::warn!(seq, event = "rollback_end", %service, %plan, from, to, success, outcome = words::outcome(outcome), "rollback ended");
        }
        Entry::AllClear { service, plan } => tracing::info!(seq, %service, %plan, "all clear"),
        Entry::WindowPassed { service, deployment, .. } => tracing::info!(seq, %service, %deployment, "passed its window"),
        Entry::WindowExtended { service, deployment, until, lacks } => {
            let lacks: Vec<_> = lacks.iter().map(words::lack).collect();
            tracing::info!(seq, %service, %deployment, %until, lacks = lacks.join("; "), "window extended, nothing proves it good or bad");
        }
        Entry::WindowFailed { service, deployment } => tracing::warn!(seq, %service, %deployment, "window ended while it is bad"),
        Entry::Superseded { service, deployment } => tracing::info!(seq, %service, %deployment, "superseded"),
        Entry::Marked { service, version, mark, by, reason } => {
            tracing::info!(seq, %service, %version, mark = words::mark(*mark), %by, reason = words::mark_reason(reason), "marked");
        }
        Entry::Held { by, reason, .. } => tracing::info!(seq, service = ?record.entry.service(), %by, reason, "paused"),
        Entry::Resumed { by, .. } => tracing::info!(seq, service = ?record.entry.service(), %by, "resumed"),
        Entry::BrakeTripped { services } => tracing::error!(seq, ?services, "many services went bad together, the brake is on"),
        Entry::BrakeReleased { by } => tracing::info!(seq, %by, "the brake is released"),
        Entry::Blinded { service, signal, missing, .. } => tracing::warn!(seq, %service, %signal, %missing, "blind"),
        Entry::Sighted { service, signal } => tracing::info!(seq, %service, %signal, "not blind any more"),
        Entry::NoticeDelivered { notice, destination } => tracing::info!(seq, notice, destination, "notice delivered"),
        Entry::NoticeAbandoned { notice, destination, why } => tracing::error!(seq, notice, destination, why, "notice abandoned"),
    }
}
