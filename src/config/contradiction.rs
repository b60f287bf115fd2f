//! Settings that are each fine and together make no sense: a promise that no hold can meet, a class that ends after its window, levels in the
//! wrong order. What can never work is an error, what can work and was hardly meant a warning. What a single value may be stands with its key.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::SignedDuration;
use rollbackd_core::service::{Decision, Role, SignalKind, SignalName, SignalPolicy};
use rollbackd_core::severity::{Impact, Matrix, Response};

use super::document::Problem;
use super::policy::words;
use super::reader::{Table, Value};

/// From a history of this length on, a baseline knows every hour of the day, and the holds of P0 and P1 are halved (DECISION 2.2).
const DAY: SignedDuration = SignedDuration::from_hours(22);

/// Of 23 minutes without a bad one a third may be bad all the same, by the limit at 1e-4 (1 - 1e-4^(1/23) = 0.33); with its factor of 1.5
/// that is a half, from which on bad intervals are nothing unusual and the lens on them is given up (DECISION 2.2).
const SHORTEST_HISTORY: SignedDuration = SignedDuration::from_mins(23);

/// More than this is more than one false rollback in a thousand deployments, with the about ten limits of one deployment.
const LARGEST_ALPHA: f64 = 1e-3;

/// Below this, each further power of ten only costs time: no history of a day supports such odds.
const SMALLEST_ALPHA: f64 = 1e-9;

/// What stands in one table, `[decision]` and `[matrix]` of all services or of one. Where the table says nothing, nothing new can be wrong.
pub(super) fn of_settings(table: &Table<'_>, matrix: &Matrix, decision: &Decision) {
    sense_of_settings(table, matrix, decision, |impact| impact == Impact::ErrorRatio);
}

/// What `tells` says that a row can be told at all: what nothing tells may promise what it likes.
fn sense_of_settings(table: &Table<'_>, matrix: &Matrix, decision: &Decision, tells: impl Fn(Impact) -> bool) {
    hold_within_promise(table, matrix, decision, tells);
    if let Some(settings) = table.optional("decision") {
        sense_of_alpha(&settings, decision);
        deadlines(&settings, decision);
    }
    if let Some(rows) = table.optional("matrix") {
        order_of_rows(&rows, matrix);
    }
}

/// A service as far as it could be read.
pub(super) struct Judged<'a, 'd> {
    pub window: SignedDuration,
    /// Where the window is set, if it is.
    pub window_value: Option<&'a Value<'d>>,
    pub matrix: &'a Matrix,
    pub decision: &'a Decision,
    pub signals: &'a BTreeMap<SignalName, SignalPolicy>,
}

/// What stands in `[services.NAME]`, with what holds for all services.
pub(super) fn of_service(table: &Table<'_>, judged: &Judged<'_, '_>) {
    sense_of_settings(table, judged.matrix, judged.decision, |impact| judged.tells(impact));
    window_holds_promises(table, judged);
    if judged.window > judged.decision.grace {
        let (never, found): (Vec<Class>, Vec<Class>) = judged.classes().into_iter().partition(|class| judged.never_finds(class));
        never
            .chunk_by(|one, other| (one.kind, one.hold) == (other.kind, other.hold))
            .for_each(|alike| classes_within_window(table, judged, alike));
        for class in found {
            earliest_decision(table, judged, &class);
            looks_within_hold(table, &class);
        }
        rounds_within_window(table, judged);
    }
    history_suffices(table, judged);
}

/// A class of the matrix that is told from counters or histograms, and the hold that it waits for.
struct Class {
    impact: Impact,
    hold_key: &'static str,
    /// What it is told from.
    kind: SignalKind,
    configured: SignedDuration,
    /// Not shorter than two looks, and halved where a whole day is known.
    hold: SignedDuration,
    every: SignedDuration,
}

impl Judged<'_, '_> {
    /// The classes of request counters and of their durations; none without a signal of them.
    fn classes(&self) -> Vec<Class> {
        let Decision { hold_p0, hold_p1, hold_p2, hold_latency, history, .. } = *self.decision;
        let halved = if history >= DAY { 2 } else { 1 };
        let class = |kind, impact, hold_key, configured: SignedDuration, divisor: i32| {
            let every = self.every(kind)?;
            let hold = (configured / divisor).max(every.saturating_mul(2));
            Some(Class { impact, hold_key, kind, configured, hold, every })
        };
        let classes = [
            class(SignalKind::Errors, Impact::CompleteOutage, "hold_p0", hold_p0, halved),
            class(SignalKind::Errors, Impact::ErrorRatio, "hold_p1", hold_p1, halved),
            class(SignalKind::Errors, Impact::FeatureBroken, "hold_p2", hold_p2, 1),
            class(SignalKind::Latency, Impact::Performance, "hold_latency", hold_latency, 1),
        ];
        classes.into_iter().flatten().collect()
    }

    /// Whether a row can be told at all: by a signal, or by the platform.
    fn tells(&self, impact: Impact) -> bool {
        impact == Impact::CompleteOutage || self.signals.values().any(|policy| policy.tells().contains(&impact))
    }

    /// Whether the window is over before the hold of a class is.
    fn never_finds(&self, class: &Class) -> bool {
        self.decision.grace.saturating_add(class.hold) > self.window
    }

    /// The time from one look to the next at the service's own signal of a kind.
    fn every(&self, kind: SignalKind) -> Option<SignedDuration> {
        let own = self.signals.values().filter(|policy| policy.role == Role::Own && policy.kind == kind);
        own.map(|policy| policy.every).min()
    }
}

/// Where a setting of the service stands, else where the service does.
fn place(table: &Table<'_>, key: &'static str) -> Range<usize> {
    set(table, key).map_or_else(|| table.span.clone(), |value| value.span)
}

fn set<'a>(table: &Table<'a>, key: &'static str) -> Option<Value<'a>> {
    table.optional("decision").and_then(|value| value.get(key))
}

/// Where it is set how often the service's counters are looked at, or its probes.
fn place_of_every(table: &Table<'_>, kind: SignalKind) -> Range<usize> {
    let every = match kind {
        SignalKind::Probe => table.optional("probes").filter(Value::is_table).and_then(|probes| probes.table()).and_then(|probes| {
            let mut each = probes.values().into_iter();
            each.find_map(|(_, probe)| probe.get("every"))
        }),
        SignalKind::Latency => table.optional("latency").and_then(|latency| latency.get("every")),
        SignalKind::Errors | SignalKind::Query { .. } => table.optional("errors").and_then(|errors| errors.get("every")),
    };
    every.map_or_else(|| table.span.clone(), |every| every.span)
}

/// A promise is longer than the time for which its evidence must persist.
fn hold_within_promise(table: &Table<'_>, matrix: &Matrix, decision: &Decision, tells: impl Fn(Impact) -> bool) {
    for (impact, what, key, hold) in [
        (Impact::ErrorRatio, "an error ratio", "hold_p1", decision.hold_p1),
        (Impact::Performance, "slowness", "hold_latency", decision.hold_latency),
    ] {
        let changed_row = || table.optional("matrix").filter(|rows| tells(impact) && rows.get(impact.key()).is_some());
        let changed = set(table, key).map(|value| value.span).or_else(|| changed_row().map(|value| value.key_span()));
        let row = matrix.row(impact);
        let promised = row.within.filter(|within| within.is_positive() && row.response == Response::RollBack);
        let (Some(span), Some(within)) = (changed, promised.filter(|within| hold >= *within)) else { continue };
        let (hold, within) = (words(hold), words(within));
        let message = format!("{what} must persist for {hold} before it is acted on, and is to be over within {within}");
        let help = format!("shorten `decision.{key}`, or lengthen `matrix.{}.within`", impact.key());
        table.report(Problem::error(span, message).help(help));
    }
}

fn sense_of_alpha(settings: &Value<'_>, decision: &Decision) {
    let Some(value) = settings.get("alpha") else { return };
    let alpha = decision.alpha;
    if alpha > LARGEST_ALPHA {
        let message = format!("an alpha of {alpha} may roll back one healthy release in {:.0}, for each severity and signal", 1.0 / alpha);
        value.report(
            Problem::warning(value.span.clone(), message).help("a tenth of it costs only a fifth more requests; the default is 0.0001"),
        );
    } else if alpha < SMALLEST_ALPHA {
        let message = format!("an alpha of {alpha:e} asks for odds that no history supports, and makes every decision later");
        value.report(Problem::warning(value.span.clone(), message).help("the default is 0.0001, one in ten thousand"));
    }
}

fn deadlines(settings: &Value<'_>, decision: &Decision) {
    let (startup, ready) = (decision.startup_deadline, decision.ready_deadline);
    let value = settings.get("startup_deadline").or_else(|| settings.get("ready_deadline"));
    if let Some(value) = value.filter(|_| startup > ready) {
        let message =
            format!("obvious trouble may last {}, longer than any rollout may take to become ready, {}", words(startup), words(ready));
        value.report(Problem::warning(value.span.clone(), message).help("make `startup_deadline` the shorter one"));
    }
}

/// What is worse is no less severe, and no less is done about it.
fn order_of_rows(rows: &Value<'_>, matrix: &Matrix) {
    for (worse, lesser) in [(Impact::CompleteOutage, Impact::ErrorRatio), (Impact::ErrorRatio, Impact::FeatureBroken)] {
        let (row, other) = (matrix.row(worse), matrix.row(lesser));
        let value = rows.get(worse.key()).or_else(|| rows.get(lesser.key()));
        let Some(value) = value else { continue };
        let help = "whoever has the one has the other, too: the lesser of the two should not weigh more";
        if row.severity > other.severity {
            let message = format!("`{}` is {}, less than the {} of `{}`", worse.key(), row.severity, other.severity, lesser.key());
            value.report(Problem::warning(value.key_span(), message).help(help));
        } else if row.response > other.response {
            let message = format!("less is done about `{}` than about `{}`", worse.key(), lesser.key());
            value.report(Problem::warning(value.key_span(), message).help(help));
        }
    }
}

/// A window can hold what the policy promises.
fn window_holds_promises(table: &Table<'_>, judged: &Judged<'_, '_>) {
    let Judged { window, matrix, decision, .. } = *judged;
    let span = judged.window_value.map_or_else(|| table.span.clone(), |value| value.span.clone());
    // What no signal tells is told by people and alerts, who need no window.
    let told = Impact::ALL.into_iter().filter(|&impact| judged.tells(impact)).filter_map(|impact| {
        let row = matrix.row(impact);
        Some((row.within.filter(|_| row.response == Response::RollBack)?, impact))
    });
    if let Some((longest, impact)) = told.rev().max_by_key(|(within, _)| *within).filter(|(longest, _)| window < *longest) {
        let message =
            format!("the window of {} is shorter than the {} within which `{}` is to be over", words(window), words(longest), impact.key());
        let help = format!("make `window` at least \"{}\", or shorten `matrix.{}.within`", words(longest), impact.key());
        table.report(Problem::error(span.clone(), message).help(help));
    }
    if window <= decision.grace {
        let message = format!("the window of {} ends before the grace of {} does", words(window), words(decision.grace));
        table.report(Problem::error(span, message).help("make `window` longer, or shorten `decision.grace`"));
    }
}

/// Classes of one hold can be told before the window is over.
fn classes_within_window(table: &Table<'_>, judged: &Judged<'_, '_>, alike: &[Class]) {
    let Some(Class { hold_key, kind, configured, hold, .. }) = alike.first() else { return };
    let keys: Vec<String> = alike.iter().map(|class| format!("`{}`", class.impact.key())).collect();
    let message = format!(
        "{} would never be found: after the grace of {} it must persist for {}, and the window of {} is over by then",
        keys.join(", "),
        words(judged.decision.grace),
        words(*hold),
        words(judged.window)
    );
    let (span, help) = if hold > configured {
        let help = "look more often, since a hold is never under two looks, or lengthen `window`".to_owned();
        (place_of_every(table, *kind), help)
    } else {
        (place(table, hold_key), format!("shorten `decision.grace` or `decision.{hold_key}`, or lengthen `window`"))
    };
    table.report(Problem::error(span, message).help(help));
}

/// A release that is bad from the start can be decided before the promise is broken.
fn earliest_decision(table: &Table<'_>, judged: &Judged<'_, '_>, class: &Class) {
    let Class { impact, hold_key, kind, hold, every, .. } = *class;
    let row = judged.matrix.row(impact);
    let grace = judged.decision.grace;
    let earliest = grace.saturating_add(hold).saturating_add(every);
    let promised = row.within.filter(|within| within.is_positive() && row.response == Response::RollBack);
    let Some(within) = promised.filter(|within| earliest > *within && class.configured < *within) else { return };
    let message = format!(
        "`{}` is to be over within {}, but a release that is bad from its start is decided after {} at the earliest: a grace of {}, a hold \
         of {}, a look every {}",
        impact.key(),
        words(within),
        words(earliest),
        words(grace),
        words(hold),
        words(every)
    );
    let help = format!("shorten `decision.grace`, `decision.{hold_key}` or `every`, or lengthen `matrix.{}.within`", impact.key());
    let span = if hold > class.configured { place_of_every(table, kind) } else { place(table, hold_key) };
    table.report(Problem::warning(span, message).help(help));
}

/// A hold that the service sets itself has at least two looks in it.
fn looks_within_hold(table: &Table<'_>, class: &Class) {
    let two_looks = class.every.saturating_mul(2);
    if let Some(value) = set(table, class.hold_key).filter(|_| class.configured < two_looks) {
        let message = format!(
            "a hold of {} has fewer than two looks in it, one every {}; it becomes {}",
            words(class.configured),
            words(class.every),
            words(two_looks)
        );
        value.report(Problem::warning(value.span.clone(), message).help(format!("write \"{}\", or look more often", words(two_looks))));
    }
}

/// An outage that only probes see can be told before the window is over.
fn rounds_within_window(table: &Table<'_>, judged: &Judged<'_, '_>) {
    let Judged { window, decision, .. } = *judged;
    let Some(every) = judged.every(SignalKind::Probe) else { return };
    let rounds = decision.hold_probe_rounds;
    let hold = every.saturating_mul(i32::try_from(rounds).unwrap_or(i32::MAX));
    if hold > window {
        let message = format!(
            "an outage that only probes see would never be found: {rounds} rounds, one every {}, take {}, longer than the window of {}",
            words(every),
            words(hold),
            words(window)
        );
        let help = "probe more often (`every`), or lengthen `window`";
        let span = set(table, "hold_probe_rounds").map_or_else(|| place_of_every(table, SignalKind::Probe), |value| value.span);
        table.report(Problem::error(span, message).help(help));
    }
}

/// A history is long enough to say how the service is by itself.
fn history_suffices(table: &Table<'_>, judged: &Judged<'_, '_>) {
    let history = judged.decision.history;
    if judged.every(SignalKind::Errors).is_some() && history < SHORTEST_HISTORY {
        let message = format!("a history of {} is too short to tell how often the service is bad by itself", words(history));
        let help = format!("make `decision.history` at least \"{}\"; the default is \"24h\"", words(SHORTEST_HISTORY));
        table.report(Problem::warning(place(table, "history"), message).help(help));
    }
}
