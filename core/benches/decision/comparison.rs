//! The judge against the rules of the field, against the best rule of their kind, and against somebody who knows each service (DECISION 4.3).
//! A rule that looks at errors now and nothing else can't know a control group, or that it was bad before; so only those healthy days count
//! for the comparison that such a rule could get right, and of all families only those scraped every 15 s.

use std::fmt::Write as _;

use crate::chance::Chance;
use crate::families::{Bar, Family, bursts};
use crate::peers::Rule;
use crate::plot::Point;
use crate::report::{Row, interval, percent};
use crate::sweep::{self, Firings, RULES, Sums};
use crate::trial::{WINDOW, window_only};
use crate::{Arguments, Played, in_parallel};

/// At most so often.
const BAR: f64 = 0.001;

/// The families of healthy days that a rule on errors alone could get right.
const HEALTHY: [&str; 7] = ["N1 ", "N2 ", "N3 ", "N4 ", "N5 ", "N6 ", "N10 "];

/// The families of broken deployments.
const BROKEN: [&str; 8] = ["R2 ", "R3 ", "R4 ", "R5 ", "R6 ", "R7 ", "R8 ", "R10 "];

fn healthy(name: &str) -> bool {
    HEALTHY.iter().any(|prefix| name.starts_with(prefix))
}

fn broken(name: &str) -> bool {
    BROKEN.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a family is one of those.
pub fn compares(family: &Family) -> bool {
    healthy(family.name) || broken(family.name)
}

/// All that was seen.
pub struct Comparison {
    names: Vec<&'static str>,
    seen: Vec<Seen>,
}

/// One family.
struct Seen {
    name: &'static str,
    healthy: bool,
    onset: f64,
    /// Of each rule of the field: how many of how many fired, and the median delay.
    peers: Vec<(usize, usize, f64)>,
    sums: Sums,
    oracle: Option<Oracle>,
}

/// Somebody who knows the service chooses the fastest rule that leaves it alone when nothing is the matter.
struct Oracle {
    /// With nothing but what the family itself does.
    calm: (usize, f64),
    /// It has to survive one rare burst every two hours, too.
    with_bursts: (usize, f64),
}

impl Comparison {
    /// Nothing seen yet.
    pub fn new(peers: &[Box<dyn Rule>]) -> Self {
        Self { names: peers.iter().map(|rule| rule.name()).collect(), seen: Vec::new() }
    }

    /// Takes in a family.
    pub fn take(&mut self, family: &Family, played: &[Played], arguments: &Arguments) {
        if !compares(family) {
            return;
        }
        let onset = played.first().map_or(0.0, |one| one.onset);
        let of_peer = |peer: usize| {
            let fired = played.iter().filter_map(|one| one.peers.get(peer).copied());
            let mut seconds: Vec<f64> = fired.map(|fired| fired.unwrap_or(WINDOW)).collect();
            let number = played.iter().filter(|one| one.peers.get(peer).is_some_and(Option::is_some)).count();
            seconds.sort_by(f64::total_cmp);
            let median = seconds.get(seconds.len().div_ceil(2).saturating_sub(1)).copied().unwrap_or(WINDOW);
            (number, seconds.len(), median - onset)
        };
        let firings: Vec<&Firings> = played.iter().filter_map(|one| one.firings.as_ref()).collect();
        let sums = Sums::of(&firings);
        let oracle = matches!(family.bar, Bar::Found { .. }).then(|| oracle(family, &sums, onset, arguments));
        let peers = (0..self.names.len()).map(of_peer).collect();
        self.seen.push(Seen { name: family.name, healthy: healthy(family.name), onset, peers, sums, oracle });
    }

    fn healthy(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| seen.healthy)
    }

    fn broken(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| !seen.healthy)
    }

    /// The rule that is fastest in the mean, of those on single intervals or of all, that are wrong at most once in a thousand deployments of each family.
    fn best_rule(&self, plain: bool) -> Option<(usize, f64, f64)> {
        let worst = |rule: usize| self.healthy().map(|seen| seen.sums.share(rule)).fold(0.0, f64::max);
        let delay = |rule: usize| mean(self.broken().map(|seen| seen.sums.delay(rule, seen.onset)));
        let kept = (0..RULES).filter(|&rule| (!plain || sweep::is_plain(rule)) && worst(rule) <= BAR);
        kept.map(|rule| (rule, worst(rule), delay(rule))).min_by(|a, b| a.2.total_cmp(&b.2))
    }

    /// How often a rule of the field is wrong in its worst family, there, and its mean median delay.
    fn peer(&self, peer: usize) -> (f64, &'static str, f64) {
        let share = |seen: &Seen| ratio(seen.peers[peer].0, seen.peers[peer].1);
        let worst = self.healthy().max_by(|a, b| share(a).total_cmp(&share(b)));
        (worst.map_or(0.0, share), worst.map_or("", |seen| seen.name), mean(self.broken().map(|seen| seen.peers[peer].2)))
    }

    /// The judge, on the same families.
    fn judge(rows: &[Row]) -> (f64, &'static str, f64) {
        let worst = rows.iter().filter(|row| healthy(row.name)).max_by(|a, b| a.share().total_cmp(&b.share()));
        let delays = rows.iter().filter(|row| broken(row.name)).map(|row| row.quantile(0.5).min(WINDOW));
        (worst.map_or(0.0, Row::share), worst.map_or("", |row| row.name), mean(delays))
    }

    /// The points of the plot.
    pub fn points(&self, rows: &[Row]) -> Vec<Point> {
        let (share, _, delay) = Self::judge(rows);
        let ours = Point { label: "rollbackd".to_owned(), share, delay, ours: true };
        let best = [true, false].into_iter().filter_map(|plain| self.best_rule(plain)).map(|(rule, share, delay)| Point {
            label: format!("best fixed rule: {}", sweep::words(rule)),
            share,
            delay,
            ours: false,
        });
        let peers = self.names.iter().enumerate().map(|(peer, name)| {
            let (share, _, delay) = self.peer(peer);
            Point { label: (*name).to_owned(), share, delay, ours: false }
        });
        [ours].into_iter().chain(best).chain(peers).collect()
    }

    /// The section of the document.
    pub fn text(&self, rows: &[Row]) -> String {
        let mut text = String::new();
        if self.healthy().next().is_none() || self.broken().next().is_none() {
            return text;
        }
        let (share, family, delay) = Self::judge(rows);
        let _ = writeln!(text, "| rule | wrong, in its worst family | which is | mean delay | against ours |\n|---|---|---|---|---|");
        let mut line = |name: &str, share: f64, family: &str, rule_delay: f64| {
            let _ = writeln!(text, "| {name} | {} | {family} | {rule_delay:.0} s | {:.1} |", percent(share), rule_delay / delay);
        };
        line("**rollbackd**", share, family, delay);
        for (plain, name) in [(true, "best fixed rule"), (false, "best fixed rule that takes means")] {
            let Some((rule, share, delay)) = self.best_rule(plain) else { continue };
            let worst = self.healthy().max_by(|a, b| a.sums.share(rule).total_cmp(&b.sums.share(rule)));
            line(&format!("{name}: {}", sweep::words(rule)), share, worst.map_or("", |seen| seen.name), delay);
        }
        for (peer, name) in self.names.iter().enumerate() {
            let (share, family, delay) = self.peer(peer);
            line(name, share, family, delay);
        }
        text.push('\n');
        self.peers_by_family(&mut text, rows);
        text.push('\n');
        self.oracles(&mut text, rows);
        text
    }

    /// The headline.
    pub fn headline(&self, rows: &[Row]) -> String {
        let (share, _, delay) = Self::judge(rows);
        let Some((rule, _, best)) = self.best_rule(true) else { return String::new() };
        let kept = if best >= 3.0 * delay { "kept" } else { "**missed**" };
        format!(
            "A healthy deployment is rolled back at most in {} of the cases in every family that others could get right, and a broken one is found \
             after {delay:.0} s in the mean of the families' medians. The best fixed rule that is wrong at most once in a thousand deployments ({}) \
             takes {best:.0} s, {:.1} times as long (promised: at least 3 times; {kept}).",
            percent(share),
            sweep::words(rule),
            best / delay
        )
    }

    fn peers_by_family(&self, text: &mut String, rows: &[Row]) {
        let _ = writeln!(text, "| family | rollbackd | {} |\n|---|---|{}", self.names.join(" | "), "---|".repeat(self.names.len()));
        for seen in &self.seen {
            let row = rows.iter().find(|row| row.name == seen.name);
            let ours = row.map_or_else(String::new, |row| cell(seen.healthy, row.share(), row.quantile(0.5).min(WINDOW)));
            let cells = seen.peers.iter().map(|(fired, all, delay)| cell(seen.healthy, ratio(*fired, *all), *delay));
            let _ = writeln!(text, "| {} | {ours} | {} |", seen.name, cells.collect::<Vec<_>>().join(" | "));
        }
    }

    fn oracles(&self, text: &mut String, rows: &[Row]) {
        let _ = writeln!(
            text,
            "| family | rollbackd | best rule for this service alone | its delay | if it must survive a rare burst | its delay |\n\
             |---|---|---|---|---|---|"
        );
        for seen in self.broken() {
            let (Some(oracle), Some(row)) = (&seen.oracle, rows.iter().find(|row| row.name == seen.name)) else { continue };
            let of = |(rule, delay): (usize, f64)| format!("{} | {delay:.0} s", sweep::words(rule));
            let _ = writeln!(
                text,
                "| {} | {:.0} s | {} | {} |",
                seen.name,
                row.quantile(0.5).min(WINDOW),
                of(oracle.calm),
                of(oracle.with_bursts)
            );
        }
    }
}

fn cell(healthy: bool, share: f64, delay: f64) -> String {
    if healthy { percent(share) } else { format!("{delay:.0} s") }
}

fn oracle(family: &Family, sums: &Sums, onset: f64, arguments: &Arguments) -> Oracle {
    let healthy = |with_bursts: bool| {
        let firings = in_parallel(arguments, |number| {
            let mut chance = Chance::new(arguments.seed, &format!("{} when healthy", family.name), number as u64);
            let mut day = (family.day)(&mut chance, number);
            day.breaks = None;
            if with_bursts {
                let seconds = chance.one_of(&[30.0, 60.0]);
                day.bursts.extend(bursts(&mut chance, 0.5, seconds, (0.1, 0.9)));
            }
            Firings::of(&window_only(&day, &mut chance))
        });
        Sums::of(&firings.iter().collect::<Vec<_>>())
    };
    let best = |healthy: &Sums| {
        let kept = (0..RULES).filter(|&rule| healthy.share(rule) <= BAR && sums.share(rule) >= 0.99);
        kept.map(|rule| (rule, sums.delay(rule, onset))).min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, WINDOW))
    };
    Oracle { calm: best(&healthy(false)), with_bursts: best(&healthy(true)) }
}

fn ratio(part: usize, all: usize) -> f64 {
    interval(part, all).0
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, number) = values.fold((0.0, 0.0), |(sum, number), value| (sum + value, number + 1.0));
    if number > 0.0 { sum / number } else { 0.0 }
}
