//! The tables: what each family promised, what was seen, and how sure that is.

use std::fmt::{self, Write as _};

use crate::comparison::Comparison;
use crate::cost::Cost;
use crate::families::{Bar, Family};
use crate::{Arguments, Played};

/// What was seen of one family.
pub struct Row {
    pub name: &'static str,
    bar: Bar,
    deployments: usize,
    fired: usize,
    /// Delays, in seconds, shortest first.
    delays: Vec<f64>,
}

/// What is less likely than this is not taken for chance.
const CHANCE: f64 = 0.01;

/// The normal quantile of 97.5 %.
const Z: f64 = 1.959_963_984_540_054;

impl Row {
    /// Sums up the outcomes of a family.
    pub fn of(family: &Family, played: &[Played]) -> Self {
        let mut delays: Vec<f64> = played.iter().filter_map(|one| one.outcome.fired).map(|(_, delay)| delay).collect();
        delays.sort_by(f64::total_cmp);
        Self { name: family.name, bar: family.bar, deployments: played.len(), fired: delays.len(), delays }
    }

    /// Whether the promise may be kept: a judge that only just kept it would be seen as bad as this by one chance in a hundred. One chance
    /// hit among few deployments says nothing; many of them say it soon.
    pub fn holds(&self) -> bool {
        let may_be_at_most = |most| at_least(self.fired, self.deployments, most) >= CHANCE;
        match self.bar {
            Bar::LeftAlone => may_be_at_most(0.001),
            Bar::MostlyLeftAlone(most) | Bar::SeldomProved(most) => may_be_at_most(most),
            Bar::Found { power, median, p95 } => {
                at_least(self.deployments - self.fired, self.deployments, 1.0 - power) >= CHANCE
                    && self.least_quantile(0.5) <= median
                    && p95.is_none_or(|p95| self.least_quantile(0.95) <= p95)
            }
            Bar::Told => true,
        }
    }

    /// Whether what was seen keeps the promise, whatever chance did.
    fn is_kept(&self) -> bool {
        match self.bar {
            Bar::LeftAlone => self.share() <= 0.001,
            Bar::MostlyLeftAlone(most) | Bar::SeldomProved(most) => self.share() <= most,
            Bar::Found { power, median, p95 } => {
                self.share() >= power && self.quantile(0.5) <= median && p95.is_none_or(|p95| self.quantile(0.95) <= p95)
            }
            Bar::Told => true,
        }
    }

    /// The share of the deployments in which it fired.
    pub fn share(&self) -> f64 {
        interval(self.fired, self.deployments).0
    }

    /// The delay that this share of all deployments does not exceed; those that were never found take for ever.
    pub fn quantile(&self, share: f64) -> f64 {
        self.delay_at(share * as_float(self.deployments))
    }

    /// The lower end of the interval of a quantile.
    fn least_quantile(&self, share: f64) -> f64 {
        let count = as_float(self.deployments);
        self.delay_at(count * share - Z * (count * share * (1.0 - share)).sqrt())
    }

    fn delay_at(&self, place: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of a list")]
        let place = place.max(1.0).ceil() as usize;
        self.delays.get(place.saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
    }

    fn promise(&self) -> String {
        match self.bar {
            Bar::LeftAlone => "at most 0.1 %".to_owned(),
            Bar::MostlyLeftAlone(most) | Bar::SeldomProved(most) => format!("at most {:.0} %", most * 100.0),
            Bar::Found { power, median, p95 } => {
                let p95 = p95.map_or_else(String::new, |p95| format!(", 95 % in {p95:.0} s"));
                format!("{:.1} %, median {median:.0} s{p95}", power * 100.0)
            }
            Bar::Told => "none".to_owned(),
        }
    }

    fn seen(&self) -> String {
        let (share, low, high) = interval(self.fired, self.deployments);
        format!("{:.3} % ({:.3} to {:.3})", share * 100.0, low * 100.0, high * 100.0)
    }

    fn delay(&self) -> String {
        let seconds = |share| match self.quantile(share) {
            never if never.is_infinite() => "never".to_owned(),
            found => format!("{found:.0} s"),
        };
        match self.bar {
            Bar::Found { .. } => format!("{}, {}", seconds(0.5), seconds(0.95)),
            _ => String::new(),
        }
    }

    fn kept(&self) -> &'static str {
        match (self.is_kept(), self.holds()) {
            _ if self.bar == Bar::Told => "",
            (true, _) => "yes",
            (false, true) => "within chance",
            (false, false) => "**no**",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match (self.is_kept(), self.holds()) {
            (true, _) => ' ',
            (false, true) => '~',
            (false, false) => '!',
        };
        write!(formatter, "{mark} {:34} {:28} {:16} promised: {}", self.name, self.seen(), self.delay(), self.promise())
    }
}

/// The probability of at least `part` hits in `all`, each of which has the probability `share`: the exact binomial tail.
fn at_least(part: usize, all: usize, share: f64) -> f64 {
    if part == 0 || share >= 1.0 {
        return 1.0;
    }
    let mut term = as_float(all) * (-share).ln_1p();
    let mut fewer = term.exp();
    for hits in 1..part {
        term += (as_float(all - hits + 1) / as_float(hits)).ln() + share.ln() - (-share).ln_1p();
        fewer += term.exp();
    }
    1.0 - fewer
}

/// A share, and Wilson's score interval of it at 95 % (Wilson 1927).
pub fn interval(part: usize, all: usize) -> (f64, f64, f64) {
    let (share, count) = (as_float(part) / as_float(all.max(1)), as_float(all.max(1)));
    let middle = share + Z * Z / (2.0 * count);
    let half = Z * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    let scale = 1.0 + Z * Z / count;
    (share, ((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
}

/// A share in words.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 1.0 { format!("{percent:.3} %") } else { format!("{percent:.1} %") }
}

/// The document.
pub fn document(arguments: &Arguments, rows: &[Row], comparison: &Comparison, cost: &Cost) -> String {
    let mut text = format!(
        "# How often the judge is wrong, and how fast it is right\n\n\
         This file is written by\n\n\
         ```sh\n\
         cargo bench -p rollbackd-core --bench decision -- --deployments {} --seed {} --write\n\
         ```\n\n\
         {} simulated deployments of each family, by the judge that the daemon runs, on raw counters of a day before and half an hour after.\n\
         The same seed gives the same numbers. A share comes with its 95 % interval (Wilson). A P2, which by default asks, counts as a\n\
         rollback here. The families are those of `core/benches/decision/families.rs`.\n\n",
        arguments.deployments, arguments.seed, arguments.deployments
    );
    let _ = writeln!(text, "{}\n", comparison.headline(rows));
    text.push_str("![False rollbacks against delay](decision-benchmark.svg)\n\n");
    table(&mut text, "Healthy deployments", "rolled back", rows, |bar| matches!(bar, Bar::LeftAlone | Bar::MostlyLeftAlone(_)));
    table(&mut text, "Broken deployments, and proofs", "found", rows, |bar| matches!(bar, Bar::Found { .. }));
    table(&mut text, "Wrong proofs", "proved", rows, |bar| matches!(bar, Bar::SeldomProved(_)));
    text.push_str(
        "## Without a promise\n\n\
         No statistic on a service alone can tell these from a broken deployment, or from a healthy one; a control group or old replicas can.\n\n",
    );
    rows_of(&mut text, "rolled back", rows, |bar| bar == Bar::Told);
    text.push_str(
        "## Against the rules of the field\n\n\
         The same deployments, by what others do as they ship (`core/benches/decision/peers.rs` says where that is documented; they see the\n\
         first 1,000 of each family). Compared are the healthy families that a rule on errors alone could get right (N1 to N6, N10), and\n\
         the broken ones that are scraped every 15 s. The delay is the mean over the families of the median, from the onset; what is not found\n\
         counts as the whole window. The best fixed rule is the fastest of 960 (share of an interval, intervals in a row) that keep 0.1 % in\n\
         each of those families; of 2,880 if it may take the share over 4 or 20 intervals. The last table gives the fastest rule for each service alone, chosen by somebody who\n\
         knows what that service does when nothing is the matter.\n\n",
    );
    text.push_str(&comparison.text(rows));
    let _ = write!(text, "\n## What it costs\n\n{cost}\n");
    text
}

fn table(text: &mut String, title: &str, what: &str, rows: &[Row], which: impl Fn(Bar) -> bool) {
    let _ = writeln!(text, "## {title}\n");
    rows_of(text, what, rows, which);
}

fn rows_of(text: &mut String, what: &str, rows: &[Row], which: impl Fn(Bar) -> bool) {
    let _ = writeln!(text, "| family | {what} | delay: median, 95 % | promised | kept |\n|---|---|---|---|---|");
    for row in rows.iter().filter(|row| which(row.bar)) {
        let _ = writeln!(text, "| {} | {} | {} | {} | {} |", row.name, row.seen(), row.delay(), row.promise(), row.kept());
    }
    text.push('\n');
}

#[expect(clippy::cast_precision_loss, reason = "a number of deployments")]
fn as_float(count: usize) -> f64 {
    count as f64
}
