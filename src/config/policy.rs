//! `[matrix]`, `[decision]` and `verification`: how a service is judged. The global tables change the defaults, a service's own change
//! those for it.

use std::time::Duration;

use jiff::SignedDuration;
use rollbackd_core::service::{Decision, Verification};
use rollbackd_core::severity::{Choice, Impact, Matrix, Response, Row, Severity};

use super::document::Problem;
use super::reader::{Table, written};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);

/// From this share of failed requests on all of them fail: a complete outage (DECISION 2.2).
const OUTAGE: f64 = 0.95;

pub(super) const SEVERITIES: [(&str, Severity); 4] =
    [("P0", Severity::P0), ("P1", Severity::P1), ("P2", Severity::P2), ("P3", Severity::P3)];

pub(super) const RESPONSES: [(&str, Response); 3] =
    [("roll_back", Response::RollBack), ("ask", Response::Ask), ("notify", Response::Notify)];

const CHOICES: [(&str, Choice); 2] = [("keep", Choice::Keep), ("roll_back", Choice::RollBack)];

/// `[matrix.IMPACT]`, over what `matrix` holds.
pub(super) fn edit_matrix(matrix: &mut Matrix, table: Option<Table<'_>>) {
    let Some(table) = table else { return };
    for impact in Impact::ALL {
        if let Some(row) = table.table(impact.key()) {
            edit_row(matrix, impact, row);
        }
    }
    if matrix.feature_broken.above >= matrix.error_ratio.above {
        let message = "`feature_broken` begins no lower than `error_ratio`, so that it would never be found";
        table.report(Problem::warning(table.span.clone(), message).help("give `feature_broken` the smaller `above`"));
    }
    table.finish();
}

fn edit_row(matrix: &mut Matrix, impact: Impact, table: Table<'_>) {
    let row = matrix.row_mut(impact);
    if let Some(value) = table.optional("above") {
        if row.above.is_none() {
            let message = format!("`{}` has no level, so that `above` says nothing there", impact.key());
            table.report(Problem::error(value.key_span(), message).help("remove it"));
        } else if let Some(above) = value.number_between(0.0, 1.0) {
            row.above = Some(above);
            if impact == Impact::ErrorRatio && above >= OUTAGE {
                let message = format!("`error_ratio` begins at {above}, no lower than a complete outage, which is told from {OUTAGE} on");
                table.report(Problem::warning(value.span.clone(), message).help("give it a smaller `above`; the default is 0.5"));
            }
        }
    }
    if let Some(severity) = table.optional("severity").and_then(|value| value.choice(&SEVERITIES)) {
        row.severity = severity;
    }
    if let Some(response) = table.optional("response").and_then(|value| value.choice(&RESPONSES)) {
        row.response = response;
    }
    edit_answer(row, &table);
    if let Some(within) = table.optional("within").and_then(|value| value.signed_duration(Duration::ZERO..=24 * HOUR)) {
        row.within = Some(within);
    }
    table.finish();
}

/// How long an answer is waited for, and what is done without one; said only where somebody is asked.
fn edit_answer(row: &mut Row, table: &Table<'_>) {
    let (within, default) = (table.optional("answer_within"), table.optional("answer_default"));
    for value in [&within, &default].into_iter().flatten().filter(|_| row.response != Response::Ask) {
        let message = format!("nobody is asked here, so that `{}` says nothing", value.path);
        table.report(Problem::warning(value.key_span(), message).help("set `response = \"ask\"`, or remove it"));
    }
    if let Some(within) = within.and_then(|value| value.signed_duration(MINUTE..=7 * 24 * HOUR)) {
        row.answer_within = within;
    }
    if let Some(choice) = default.and_then(|value| value.choice(&CHOICES)) {
        row.answer_default = choice;
    }
}

/// `[decision]`, over what `decision` holds.
pub(super) fn edit_decision(decision: &mut Decision, table: Option<Table<'_>>) {
    let Some(table) = table else { return };
    let hold = SECOND..=HOUR;
    let durations = [
        ("grace", hold.clone(), &mut decision.grace),
        ("startup_deadline", hold.clone(), &mut decision.startup_deadline),
        ("ready_deadline", SECOND..=24 * HOUR, &mut decision.ready_deadline),
        ("hold_p0", hold.clone(), &mut decision.hold_p0),
        ("hold_p1", hold.clone(), &mut decision.hold_p1),
        ("hold_p2", hold.clone(), &mut decision.hold_p2),
        ("hold_latency", hold, &mut decision.hold_latency),
        ("history", MINUTE..=7 * 24 * HOUR, &mut decision.history),
    ];
    for (key, range, field) in durations {
        if let Some(duration) = table.optional(key).and_then(|value| value.signed_duration(range)) {
            *field = duration;
        }
    }
    if let Some(rounds) = table.optional("hold_probe_rounds").and_then(|value| value.integer(1..=60)) {
        decision.hold_probe_rounds = rounds;
    }
    if let Some(alpha) = table.optional("alpha").and_then(|value| value.number_between(0.0, 0.05)) {
        decision.alpha = alpha;
    }
    table.finish();
}

/// `[services.NAME.verification]`.
pub(super) fn verification(table: Option<Table<'_>>) -> Verification {
    let mut verification = Verification::default();
    let Some(table) = table else { return verification };
    let durations = [
        ("timeout", &mut verification.timeout),
        ("rollout_timeout", &mut verification.rollout_timeout),
        ("watch", &mut verification.watch),
    ];
    for (key, field) in durations {
        if let Some(duration) = table.optional(key).and_then(|value| value.signed_duration(SECOND..=24 * HOUR)) {
            *field = duration;
        }
    }
    table.finish();
    verification
}

/// A duration as people write it.
pub(super) fn words(duration: SignedDuration) -> String {
    written(duration.unsigned_abs())
}
