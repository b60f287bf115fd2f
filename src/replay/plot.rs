//! The course of one signal around one deployment, as a drawing in SVG: the share of failed requests or the mean time of all, the traffic
//! beneath it, when it was deployed, when it went wrong and when that was decided, and the levels that counted. Colours come from the page's style sheet.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use rollbackd_core::verdict::Measure;
use rollbackd_core::words;

use super::play::Point;

/// A drawing.
#[derive(Clone, Debug)]
pub struct Plot<'a> {
    /// What was counted, in order of time.
    pub points: &'a [Point],
    /// A step of it.
    pub every: SignedDuration,
    /// Whether it is a share of requests, or seconds.
    pub measure: Measure,
    /// Moments that are marked: their style and their name.
    pub marks: Vec<Mark>,
    /// Levels that are marked.
    pub levels: Vec<Level>,
}

/// A moment.
#[derive(Clone, Debug)]
pub struct Mark {
    /// When.
    pub at: Timestamp,
    /// Its name, which is also its style: `deployed`, `onset`, `decided`, `window`.
    pub name: &'static str,
    /// Its words.
    pub words: &'static str,
}

/// A level.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// The share of failed requests, or seconds.
    pub ratio: f64,
    /// Its name, which is also its style: `tolerance`, `severity`.
    pub name: &'static str,
    /// Its words.
    pub words: &'static str,
}

/// No drawing has more points; of more, neighbours are put together.
const MOST_POINTS: usize = 480;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 848.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 190.0;
const TRAFFIC: f64 = 232.0;
const HEIGHT: f64 = 252.0;

/// Where times and shares lie on the drawing.
struct Scale {
    from: f64,
    to: f64,
    top: f64,
    most: f64,
    measure: Measure,
}

impl Scale {
    fn x(&self, at: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * ((at - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    fn words(&self, level: f64) -> String {
        match self.measure {
            Measure::Share => words::percent(level),
            Measure::Seconds if level <= 0.0 => "0 s".to_owned(),
            Measure::Seconds if level >= 10.0 => format!("{level:.0} s"),
            Measure::Seconds if level >= 1.0 => format!("{level:.1} s"),
            Measure::Seconds if level >= 0.01 => format!("{:.0} ms", level * 1e3),
            Measure::Seconds => format!("{:.2} ms", level * 1e3),
        }
    }

    fn y(&self, ratio: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (ratio / self.top).clamp(0.0, 1.0)
    }
}

impl Plot<'_> {
    /// The drawing; nothing where nothing was counted.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = thinned(self.points);
        let Some(scale) = self.scale(&points) else { return String::new() };
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} over time\">", said(self.measure));
        axes(&mut svg, &scale);
        traffic(&mut svg, &scale, &points, self.every);
        for level in self.levels.iter().filter(|level| level.ratio <= scale.top) {
            let y = scale.y(level.ratio);
            let _ = write!(svg, "<path class=\"{}\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>", level.name);
            let words = format!("{} {}", level.words, scale.words(level.ratio));
            let _ = write!(svg, "<text class=\"{} end\" x=\"{RIGHT}\" y=\"{:.1}\">{words}</text>", level.name, y - 4.0);
        }
        let _ = write!(svg, "<path class=\"ratio\" d=\"{}\"/>", line(&scale, &points));
        self.marks(&mut svg, &scale);
        svg.push_str("</svg>");
        svg
    }

    fn scale(&self, points: &[Point]) -> Option<Scale> {
        let (first, last) = (points.first()?, points.last()?);
        let marked = self.marks.iter().map(|mark| milliseconds(mark.at));
        let from = marked.clone().fold(number(first.at), f64::min);
        let to = marked.fold(number(last.at), f64::max).max(from + 1.0);
        let highest = points
            .iter()
            .filter_map(ratio)
            .map(|ratio| if self.measure == Measure::Share { ratio.min(1.0) } else { ratio })
            .fold(0.0, f64::max);
        let tolerance = self.levels.iter().map(|level| level.ratio).filter(|level| *level <= 4.0 * highest).fold(highest, f64::max);
        let top = match self.measure {
            Measure::Share => even(tolerance * 1.1).clamp(0.001, 1.0),
            Measure::Seconds => even(tolerance * 1.1).max(1e-6),
        };
        let most = points.iter().map(|point| point.requests).fold(0.0, f64::max);
        Some(Scale { from, to, top, most, measure: self.measure })
    }

    fn marks(&self, svg: &mut String, scale: &Scale) {
        for (place, mark) in self.marks.iter().enumerate() {
            let x = scale.x(milliseconds(mark.at));
            // Each on a line of its own, so that moments that are near each other can be read.
            let y = 11.0 + 12.0 * f64::from(u32::try_from(place % 3).unwrap_or(0));
            let anchor = if x > RIGHT - 120.0 { " end" } else { "" };
            let shift = if anchor.is_empty() { 4.0 } else { -4.0 };
            let _ = write!(svg, "<path class=\"mark {}\" d=\"M{x:.1} {:.1}V{BOTTOM}\"/>", mark.name, y - 9.0);
            let _ = write!(svg, "<text class=\"mark {}{anchor}\" x=\"{:.1}\" y=\"{y}\">{}</text>", mark.name, x + shift, mark.words);
        }
    }
}

fn axes(svg: &mut String, scale: &Scale) {
    for step in 0..=4 {
        let ratio = scale.top * f64::from(step) / 4.0;
        let y = scale.y(ratio);
        let _ = write!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
        let _ = write!(svg, "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>", LEFT - 6.0, y + 4.0, scale.words(ratio));
    }
    for step in 0..=4 {
        let at = scale.from + (scale.to - scale.from) * f64::from(step) / 4.0;
        let anchor = match step {
            0 => "",
            4 => "end",
            _ => "middle",
        };
        #[expect(clippy::cast_possible_truncation, reason = "times are of four-digit years")]
        let time = Timestamp::from_millisecond(at as i64).map_or_else(|_| String::new(), |at| at.strftime("%H:%M:%S").to_string());
        let _ = write!(svg, "<text class=\"{anchor}\" x=\"{:.1}\" y=\"{HEIGHT}\" dy=\"-4\">{time}</text>", scale.x(at));
    }
}

fn traffic(svg: &mut String, scale: &Scale, points: &[Point], every: SignedDuration) {
    if scale.most <= 0.0 {
        return;
    }
    let mut path = format!("M{LEFT} {TRAFFIC}");
    for point in points {
        let y = TRAFFIC - (TRAFFIC - BOTTOM - 8.0) * point.requests / scale.most;
        let _ = write!(path, "L{:.1} {y:.1}", scale.x(number(point.at)));
    }
    let _ = write!(svg, "<path class=\"traffic\" d=\"{path}V{TRAFFIC}Z\"/>");
    let rate = scale.most / every.as_secs_f64().max(0.1);
    let _ = write!(svg, "<text x=\"{LEFT}\" y=\"{:.1}\">up to {} requests a second</text>", BOTTOM + 16.0, rounded(rate));
}

/// Broken where nothing was counted.
fn line(scale: &Scale, points: &[Point]) -> String {
    let mut path = String::new();
    let mut command = 'M';
    for point in points {
        let Some(ratio) = ratio(point) else {
            command = 'M';
            continue;
        };
        let _ = write!(path, "{command}{:.1} {:.1}", scale.x(number(point.at)), scale.y(ratio));
        command = 'L';
    }
    path
}

fn ratio(point: &Point) -> Option<f64> {
    (point.requests > 0.0).then(|| (point.failed / point.requests).max(0.0))
}

/// What is drawn.
#[must_use]
pub const fn said(measure: Measure) -> &'static str {
    match measure {
        Measure::Share => "share of failed requests",
        Measure::Seconds => "mean duration of requests",
    }
}

/// The next of 1, 2, 4 and 8 times a power of ten, which a quarter of is short.
fn even(least: f64) -> f64 {
    let decade = 10_f64.powf(least.max(1e-9).log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0].into_iter().map(|factor| factor * decade).find(|even| *even >= least * 0.999).unwrap_or(10.0 * decade)
}

fn thinned(points: &[Point]) -> Vec<Point> {
    let together = points.len().div_ceil(MOST_POINTS).max(1);
    let sum = |points: &[Point]| {
        let at = points.last().map_or(0, |point| point.at);
        // A share of steps, so that the traffic stays what it was.
        #[expect(clippy::cast_precision_loss, reason = "there are few")]
        let number = points.len().max(1) as f64;
        Point {
            at,
            requests: points.iter().map(|point| point.requests).sum::<f64>() / number,
            failed: points.iter().map(|point| point.failed).sum::<f64>() / number,
        }
    };
    points.chunks(together).map(sum).collect()
}

fn rounded(rate: f64) -> String {
    if rate >= 10.0 { format!("{rate:.0}") } else { format!("{rate:.2}") }
}

fn milliseconds(at: Timestamp) -> f64 {
    number(at.as_millisecond())
}

#[expect(clippy::cast_precision_loss, reason = "times are of four-digit years")]
fn number(milliseconds: i64) -> f64 {
    milliseconds as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time in range")
    }

    #[test]
    fn a_drawing_shows_the_course_the_levels_and_the_moments() {
        let points: Vec<Point> =
            (0..1000).map(|step| Point { at: step * 15_000, requests: 150.0, failed: if step < 500 { 1.0 } else { 90.0 } }).collect();
        let marks = vec![Mark { at: moment(7500), name: "deployed", words: "deployed" }];
        let levels = vec![Level { ratio: 0.5, name: "severity", words: "bad from" }];
        let svg = Plot { points: &points, every: SignedDuration::from_secs(15), measure: Measure::Share, marks, levels }.svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
        for part in [">deployed<", ">bad from 50 %<", "up to 10 requests a second", ">80 %<"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(svg.len() < 40_000, "{}", svg.len());
    }

    #[test]
    fn nothing_counted_is_nothing_drawn() {
        let plot =
            Plot { points: &[], every: SignedDuration::from_secs(15), measure: Measure::Seconds, marks: Vec::new(), levels: Vec::new() };
        assert_eq!(plot.svg(), "");
    }
}
