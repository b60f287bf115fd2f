//! The table: what each family promised, what was seen, and how sure that is.

use std::fmt::{self, Write as _};

use crate::families::{Bar, Family};
use crate::trial::Outcome;

/// What was seen of one family.
pub struct Row {
    name: &'static str,
    bar: Bar,
    deployments: usize,
    fired: usize,
    /// Delays, in seconds, shortest first.
    delays: Vec<f64>,
}

impl Row {
    /// Sums up the outcomes of a family.
    pub fn of(family: &Family, outcomes: &[Outcome]) -> Self {
        let mut delays: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.fired).map(|(_, delay)| delay).collect();
        delays.sort_by(f64::total_cmp);
        Self { name: family.name, bar: family.bar, deployments: outcomes.len(), fired: delays.len(), delays }
    }

    /// Whether the promise is kept. Where a share is promised, chance is allowed for: the lower end of the interval has to keep it.
    pub fn holds(&self) -> bool {
        let (low, high) = self.interval();
        match self.bar {
            Bar::LeftAlone => low <= 0.001,
            Bar::MostlyLeftAlone(most) => low <= most,
            Bar::Found { power, median, p95 } => {
                high >= power && self.quantile(0.5) <= median && p95.is_none_or(|p95| self.quantile(0.95) <= p95)
            }
            Bar::Told => true,
        }
    }

    fn share(&self) -> f64 {
        as_float(self.fired) / as_float(self.deployments.max(1))
    }

    /// Wilson's score interval at 95 % (Wilson 1927).
    fn interval(&self) -> (f64, f64) {
        const Z: f64 = 1.959_963_984_540_054;
        let (count, share) = (as_float(self.deployments.max(1)), self.share());
        let middle = share + Z * Z / (2.0 * count);
        let half = Z * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
        let scale = 1.0 + Z * Z / count;
        ((middle - half) / scale, (middle + half) / scale)
    }

    /// The delay that this share of all deployments does not exceed; those that were never found take for ever.
    fn quantile(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of a list")]
        let place = (share * as_float(self.deployments)).ceil() as usize;
        self.delays.get(place.saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
    }

    fn promise(&self) -> String {
        match self.bar {
            Bar::LeftAlone => "at most 0.1 %".to_owned(),
            Bar::MostlyLeftAlone(most) => format!("at most {:.0} %", most * 100.0),
            Bar::Found { power, median, p95 } => {
                let p95 = p95.map_or_else(String::new, |p95| format!(", 95 % in {p95:.0} s"));
                format!("{:.1} %, median {median:.0} s{p95}", power * 100.0)
            }
            Bar::Told => "none".to_owned(),
        }
    }

    fn seen(&self) -> String {
        let (low, high) = self.interval();
        format!("{:.3} % ({:.3} to {:.3})", self.share() * 100.0, low.max(0.0) * 100.0, high * 100.0)
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
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.holds() { "  " } else { "! " };
        write!(formatter, "{mark}{:34} {:28} {:16} promised: {}", self.name, self.seen(), self.delay(), self.promise())
    }
}

/// The table of a document.
pub fn markdown(rows: &[Row], deployments: usize, seed: u64) -> String {
    let mut text = format!("{deployments} deployments of each family, seed {seed}.\n\n");
    text.push_str("| family | rolled back (95 % interval) | delay: median, 95 % | promised | kept |\n|---|---|---|---|---|\n");
    for row in rows {
        let kept = if row.holds() { "yes" } else { "**no**" };
        let _ = writeln!(text, "| {} | {} | {} | {} | {kept} |", row.name, row.seen(), row.delay(), row.promise());
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "a number of deployments")]
fn as_float(count: usize) -> f64 {
    count as f64
}
