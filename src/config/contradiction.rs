//! Settings that are each fine and together make no sense: a promise that no hold can meet, a class that ends after its window, levels in the
//! wrong order. What can never work is an error, what can work and was hardly meant a warning. What a single value may be stands with its key.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::SignedDuration;
use rollbackd_core::service::{Decision, Role, SignalKind, SignalName, SignalPolicy, Verification};
use rollbackd_core::severity::{Impact, Matrix, Response};

use super::document::Problem;
use super::policy::words;
use super::reader::{Table, Value, alternatives};

/// From a history of this length on, a baseline knows every hour of the day, and the holds of P0 and P1 are halved (DECISION 2.2).
const DAY: SignedDuration = SignedDuration::from_hours(22);

/// Of 23 minutes without a bad one a third may be bad all the same, by the limit at 1e-4 (1 - 1e-4^(1/23) = 0.33); with its factor of 1.5
/// that is a half, from which on bad intervals are nothing unusual and the lens on them is given up (DECISION 2.2).
const SHORTEST_HISTORY: SignedDuration = SignedDuration::from_mins(23);

/// More than this is more than one false rollback in a thousand deployments, with the about ten limits of one deployment.
const LARGEST_ALPHA: f64 = 1e-3;

/// Below this, each further power of ten only costs time: no history of a day supports such odds.
const SMALLEST_ALPHA: f64 = 1e-9;

/// Odds of 100 against "still slow half of the time", in stretches of a minute as slowness comes, take eight fast minutes (DECISION 2.9); with
/// the look in which the target becomes ready it is nine.
const PROOF_OF_LATENCY: SignedDuration = SignedDuration::from_mins(9);

/// What is to be over at once should not be waited for longer than this.
const LONGEST_AT_ONCE: SignedDuration = SignedDuration::from_mins(5);

/// What stands in one table, `[decision]` and `[matrix]` of all services or of one. Where the table says nothing, nothing new can be wrong.
pub(super) fn of_settings(table: &Table<'_>, matrix: &Matrix, decision: &Decision) {
    hold_within_promise(table, None, matrix, decision, |impact| impact == Impact::ErrorRatio);
    sense_of_settings(table, matrix, decision);
}

fn sense_of_settings(table: &Table<'_>, matrix: &Matrix, decision: &Decision) {
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
    pub verification: &'a Verification,
    pub signals: &'a BTreeMap<SignalName, SignalPolicy>,
    /// The table that holds `[decision]` and `[matrix]` of all services.
    pub common: &'a Table<'d>,
}

/// What stands in `[services.NAME]`, with what holds for all services.
pub(super) fn of_service(table: &Table<'_>, judged: &Judged<'_, '_>) {
    hold_within_promise(table, Some(judged.common), judged.matrix, judged.decision, |impact| judged.waits(impact));
    sense_of_settings(table, judged.matrix, judged.decision);
    settings_without_signal(table);
    order_of_holds(table, judged);
    ready_within_window(table, judged);
    window_holds_promises(table, judged);
    if judged.window > judged.decision.grace {
        let (never, found): (Vec<Class>, Vec<Class>) = judged.classes().into_iter().partition(|class| judged.never_finds(class));
        never
            .chunk_by(|one, other| (one.kind, one.hold) == (other.kind, other.hold))
            .for_each(|alike| classes_within_window(table, judged, alike));
        for class in found {
            earliest_decision(table, judged, &class);
            found_at_first(table, judged, &class);
            looks_within_hold(table, judged, &class);
        }
        rounds_within_window(table, judged);
    }
    proof_within_timeout(table, judged);
    history_suffices(table, judged);
    history_of_features(table, judged);
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
    /// The same as long as less than a day is known.
    hold_at_first: SignedDuration,
    every: SignedDuration,
}

impl<'d> Judged<'_, 'd> {
    /// The classes of request counters and of their durations; none without a signal of them.
    fn classes(&self) -> Vec<Class> {
        let Decision { hold_p0, hold_p1, hold_p2, hold_latency, history, .. } = *self.decision;
        let halved = if history >= DAY { 2 } else { 1 };
        let class = |kind, impact, hold_key, configured: SignedDuration, divisor: i32| {
            let every = self.every(kind)?;
            let two_looks = every.saturating_mul(2);
            let (hold, hold_at_first) = ((configured / divisor).max(two_looks), configured.max(two_looks));
            Some(Class { impact, hold_key, kind, configured, hold, hold_at_first, every })
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

    /// Whether a signal tells a row that has to persist for the hold of that row.
    fn waits(&self, impact: Impact) -> bool {
        let has = |kind| self.every(kind).is_some();
        match impact {
            Impact::ErrorRatio => has(SignalKind::Errors) || has(SignalKind::Probe),
            Impact::FeatureBroken => has(SignalKind::Errors),
            Impact::Performance => has(SignalKind::Latency),
            _ => false,
        }
    }

    /// Where a setting stands that the service has, its own or that of all services.
    fn set<'t>(&self, table: &Table<'t>, key: &'static str) -> Option<Value<'t>>
    where
        'd: 't,
    {
        set(table, key).or_else(|| set(self.common, key))
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

/// A promise is longer than the time for which its evidence must persist. `waits` says whether some signal tells a row after its hold: what
/// nothing tells may promise what it likes. It is told where the service's own tables say it, else where the `common` ones do.
fn hold_within_promise(
    table: &Table<'_>,
    common: Option<&Table<'_>>,
    matrix: &Matrix,
    decision: &Decision,
    waits: impl Fn(Impact) -> bool,
) {
    for (impact, what, key, hold) in [
        (Impact::ErrorRatio, "an error ratio", "hold_p1", decision.hold_p1),
        (Impact::Performance, "slowness", "hold_latency", decision.hold_latency),
        (Impact::FeatureBroken, "a broken feature", "hold_p2", decision.hold_p2),
    ] {
        let row_in = |table: &Table<'_>| table.optional("matrix").and_then(|rows| rows.get(impact.key())).map(|row| row.key_span());
        let place_in = |table: &Table<'_>| set(table, key).map(|value| value.span).or_else(|| row_in(table));
        let changed = place_in(table).or_else(|| place_in(common?)).filter(|_| waits(impact));
        let row = matrix.row(impact);
        let promised = row.within.filter(|within| within.is_positive() && row.response == Response::RollBack);
        let (Some(span), Some(within)) = (changed, promised.filter(|within| hold >= *within)) else { continue };
        let (hold, within) = (words(hold), words(within));
        let message = format!("{what} must persist for {hold} before it is acted on, and is to be over within {within}");
        let help = format!("shorten `decision.{key}`, or lengthen `matrix.{}.within`", impact.key());
        table.document.report_once(Problem::error(span, message).help(help));
    }
}

/// What a service sets for itself says something about it.
fn settings_without_signal(table: &Table<'_>) {
    let has = |keys: &[&'static str]| keys.iter().any(|key| table.optional(key).is_some_and(|value| !value.is_empty_table()));
    let above = |impact: Impact| table.optional("matrix").and_then(|rows| rows.get(impact.key())?.get("above"));
    for (value, keys) in [
        (set(table, "hold_p0"), &["errors"][..]),
        (set(table, "hold_p1"), &["errors", "probes"]),
        (set(table, "hold_p2"), &["errors"]),
        (set(table, "hold_latency"), &["latency"]),
        (set(table, "hold_probe_rounds"), &["probes"]),
        (above(Impact::ErrorRatio), &["errors"]),
        (above(Impact::FeatureBroken), &["errors"]),
        (above(Impact::Performance), &["latency"]),
    ] {
        if let Some(value) = value.filter(|_| !has(keys)) {
            let signals = alternatives(keys);
            let message = format!("`{}` says nothing: the service has no {signals}", value.path);
            value.report(Problem::warning(value.key_span(), message).help(format!("add {signals}, or remove it")));
        }
    }
}

/// An outage is acted on no later than what is less than one, and soon where it is to be over at once.
fn order_of_holds(table: &Table<'_>, judged: &Judged<'_, '_>) {
    let Decision { hold_p0, hold_p1, .. } = *judged.decision;
    let place = judged.set(table, "hold_p0").or_else(|| judged.set(table, "hold_p1"));
    let Some(value) = place.filter(|_| judged.every(SignalKind::Errors).is_some()) else { return };
    let outage = judged.matrix.row(Impact::CompleteOutage);
    let is_at_once = outage.response == Response::RollBack && outage.within == Some(SignedDuration::ZERO);
    let (message, help) = if hold_p0 > hold_p1 {
        let message =
            format!("a complete outage must persist for {}, longer than the {} of an error ratio", words(hold_p0), words(hold_p1));
        (message, "make `hold_p0` no longer than `hold_p1`: whatever is an outage is an error ratio, too, and acted on as that first")
    } else if is_at_once && hold_p0 > LONGEST_AT_ONCE {
        let message = format!("a complete outage is to be over at once, and must persist for {} before it is acted on", words(hold_p0));
        (message, "shorten `decision.hold_p0`; the default is \"1m\"")
    } else {
        return;
    };
    table.document.report_once(Problem::warning(value.span, message).help(help));
}

/// A rollout that never becomes ready is found before the window is over. The default of `ready_deadline` is for the usual window.
fn ready_within_window(table: &Table<'_>, judged: &Judged<'_, '_>) {
    let (ready, window) = (judged.decision.ready_deadline, judged.window);
    if let Some(value) = judged.set(table, "ready_deadline").filter(|_| ready >= window) {
        let message = format!("a rollout may take {} to become ready, and the window of {} is over by then", words(ready), words(window));
        let help = "shorten `ready_deadline`, or lengthen `window`: what never becomes ready would not be found";
        table.document.report_once(Problem::warning(value.span, message).help(help));
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
    let earliest = |hold| grace.saturating_add(hold).saturating_add(every);
    let promised = row.within.filter(|within| within.is_positive() && row.response == Response::RollBack);
    // A hold that is longer than the promise by itself is an error; but an outage is told by probes and the platform, too.
    let promised = promised.filter(|within| class.configured < *within || impact == Impact::CompleteOutage);
    let Some(within) = promised.filter(|within| earliest(class.hold_at_first) > *within) else { return };
    let (hold, until) = if earliest(hold) > within { (hold, "") } else { (class.hold_at_first, ", half of it once a day is known") };
    let message = format!(
        "`{}` is to be over within {}, but a release that is bad from its start is decided after {} at the earliest: a grace of {}, a hold \
         of {}{until}, a look every {}",
        impact.key(),
        words(within),
        words(earliest(hold)),
        words(grace),
        words(hold),
        words(every)
    );
    let help = format!("shorten `decision.grace`, `decision.{hold_key}` or `every`, or lengthen `matrix.{}.within`", impact.key());
    let span = if hold > class.configured { place_of_every(table, kind) } else { place(table, hold_key) };
    table.report(Problem::warning(span, message).help(help));
}

/// What can be told in time once a day is known can be told before, too. What is promised a time is told by [`earliest_decision`].
fn found_at_first(table: &Table<'_>, judged: &Judged<'_, '_>, class: &Class) {
    let Class { impact, hold_key, hold_at_first, .. } = *class;
    let row = judged.matrix.row(impact);
    let is_promised = row.response == Response::RollBack && row.within.is_some_and(|within| within.is_positive());
    if is_promised || judged.decision.grace.saturating_add(hold_at_first) <= judged.window {
        return;
    }
    let message = format!(
        "`{}` would not be found while less than a day is known: after the grace of {} it must persist for {} then, and the window of {} is \
         over before",
        impact.key(),
        words(judged.decision.grace),
        words(hold_at_first),
        words(judged.window)
    );
    let help = format!("shorten `decision.grace` or `decision.{hold_key}`, or lengthen `window`");
    let span = judged.set(table, hold_key).map_or_else(|| table.span.clone(), |value| value.span);
    table.report(Problem::warning(span, message).help(help));
}

/// A hold that somebody set has at least two looks in it.
fn looks_within_hold(table: &Table<'_>, judged: &Judged<'_, '_>, class: &Class) {
    let two_looks = class.every.saturating_mul(2);
    if let Some(value) = judged.set(table, class.hold_key).filter(|_| class.configured < two_looks) {
        let message = format!(
            "a hold of {} has fewer than two looks in it, one every {}; it becomes {}",
            words(class.configured),
            words(class.every),
            words(two_looks)
        );
        let help = format!("write \"{}\", or look more often", words(two_looks));
        table.document.report_once(Problem::warning(value.span, message).help(help));
    }
}

/// An outage that only probes see can be told before the window is over.
fn rounds_within_window(table: &Table<'_>, judged: &Judged<'_, '_>) {
    let Judged { window, decision, .. } = *judged;
    let Some(every) = judged.every(SignalKind::Probe) else { return };
    let rounds = decision.hold_probe_rounds;
    let hold = every.saturating_mul(i32::try_from(rounds).unwrap_or(i32::MAX));
    let (every, hold_words, window_words) = (words(every), words(hold), words(window));
    let rounds = format!("{rounds} rounds, one every {every}, take {hold_words}, and the window of {window_words} is over by then");
    let span = || set(table, "hold_probe_rounds").map_or_else(|| place_of_every(table, SignalKind::Probe), |value| value.span);
    let help = "probe more often (`every`), or lengthen `window`";
    if hold >= window {
        let message = format!("an outage that only probes see would never be found: {rounds}");
        table.report(Problem::error(span(), message).help(help));
    } else if decision.startup_deadline.saturating_add(hold) >= window {
        let message = format!(
            "a version that never answers a probe would not be found: its rounds count after {} at the latest (`startup_deadline`), {rounds}",
            words(decision.startup_deadline)
        );
        table.report(Problem::warning(span(), message).help(help));
    }
}

/// That a rollback helped against slowness can be proved in the time for it.
fn proof_within_timeout(table: &Table<'_>, judged: &Judged<'_, '_>) {
    let timeout = judged.verification.timeout;
    let value = table.optional("verification").and_then(|verification| verification.get("timeout"));
    if let Some(value) = value.filter(|_| timeout < PROOF_OF_LATENCY && judged.every(SignalKind::Latency).is_some()) {
        let message = format!(
            "that requests are fast again after a rollback may take {} to be proved, and is given up after {}",
            words(PROOF_OF_LATENCY),
            words(timeout)
        );
        value.report(Problem::warning(value.span.clone(), message).help("make it longer; the default is \"10m\""));
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

/// A broken feature is rolled back only where a whole day was seen: at some hour one of them may always be.
fn history_of_features(table: &Table<'_>, judged: &Judged<'_, '_>) {
    let history = judged.decision.history;
    let is_rolled_back = judged.matrix.row(Impact::FeatureBroken).response == Response::RollBack;
    let place = judged.set(table, "history").filter(|_| is_rolled_back && history < DAY && judged.every(SignalKind::Errors).is_some());
    if let Some(value) = place {
        let message = format!("`feature_broken` would never be rolled back: that takes a day of history, and {} are read", words(history));
        let help = "make `decision.history` at least \"24h\", or set `matrix.feature_broken.response = \"ask\"`";
        table.document.report_once(Problem::warning(value.span, message).help(help));
    }
}
