//! `[matrix]`, `[decision]` and `verification`: how a service is judged. The global tables change the defaults, a service's own change
//! those for it.

use std::time::Duration;

use jiff::SignedDuration;
use rollbackd_core::service::{Decision, Verification};
use rollbackd_core::severity::{Impact, Matrix, Response, Severity};

use super::document::Problem;
use super::reader::{Table, Value};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);

pub(super) const SEVERITIES: [(&str, Severity); 4] =
    [("P0", Severity::P0), ("P1", Severity::P1), ("P2", Severity::P2), ("P3", Severity::P3)];

const RESPONSES: [(&str, Response); 3] = [("roll_back", Response::RollBack), ("ask", Response::Ask), ("notify", Response::Notify)];

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
        }
    }
    if let Some(severity) = table.optional("severity").and_then(|value| value.choice(&SEVERITIES)) {
        row.severity = severity;
    }
    if let Some(response) = table.optional("response").and_then(|value| value.choice(&RESPONSES)) {
        row.response = response;
    }
    if let Some(within) = table.optional("within").and_then(|value| value.signed_duration(Duration::ZERO..=24 * HOUR)) {
        row.within = Some(within);
    }
    table.finish();
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
        ("hold_p2", hold, &mut decision.hold_p2),
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

/// Checks that a window can hold what the policy promises. `window` is where the user set it, if they did.
pub(super) fn check_window(table: &Table<'_>, window: Option<&Value<'_>>, length: SignedDuration, matrix: &Matrix, decision: &Decision) {
    let span = window.map_or_else(|| table.span.clone(), |value| value.span.clone());
    let longest = matrix.longest_within();
    let promised = Impact::ALL.into_iter().find(|&impact| {
        let row = matrix.row(impact);
        row.response == Response::RollBack && row.within == Some(longest)
    });
    if let Some(impact) = promised.filter(|_| length < longest) {
        let message =
            format!("the window of {} is shorter than the {} within which `{}` is to be over", words(length), words(longest), impact.key());
        let help = format!("make `window` at least \"{}\", or shorten `matrix.{}.within`", words(longest), impact.key());
        table.report(Problem::error(span.clone(), message).help(help));
    }
    if length <= decision.grace {
        let message = format!("the window of {} ends before the grace of {} does", words(length), words(decision.grace));
        table.report(Problem::error(span, message).help("make `window` longer, or shorten `decision.grace`"));
    }
}

/// Checks that a promise is longer than the time for which its evidence must persist. `table` holds the `matrix` and the `decision` that
/// were changed; where neither was, nothing new can be wrong.
pub(super) fn check_holds(table: &Table<'_>, matrix: &Matrix, decision: &Decision) {
    let hold = table.optional("decision").and_then(|value| value.get("hold_p1"));
    let changed = hold.map(|value| value.span).or_else(|| table.optional("matrix").map(|value| value.key_span()));
    let row = &matrix.error_ratio;
    let promised = row.within.filter(|within| within.is_positive() && row.response == Response::RollBack);
    let (Some(span), Some(within)) = (changed, promised) else { return };
    if decision.hold_p1 >= within {
        let (hold, within) = (words(decision.hold_p1), words(within));
        let message = format!("an error ratio must persist for {hold} before it is acted on, and is to be over within {within}");
        table.report(Problem::error(span, message).help("shorten `decision.hold_p1`, or lengthen `matrix.error_ratio.within`"));
    }
}

/// A duration as people write it.
pub(super) fn words(duration: SignedDuration) -> String {
    humantime::format_duration(duration.unsigned_abs()).to_string()
}
