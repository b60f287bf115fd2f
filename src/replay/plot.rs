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
    /// The time that is drawn; what was counted before or after it is left out.
    pub span: (Timestamp, Timestamp),
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
const LEFT: f64 = 62.0;
/// To the right of it stand the words of the levels.
const RIGHT: f64 = 742.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 190.0;
const TRAFFIC: f64 = 232.0;
const HEIGHT: f64 = 252.0;

/// Words that stand beneath each other are at least so far apart.
const LINE: f64 = 12.0;

/// There are no more ticks than this on the axis of time.
const MOST_TICKS: i64 = 8;

/// How far apart ticks may be, in minutes.
const TICKS: [i64; 12] = [1, 2, 5, 10, 15, 20, 30, 60, 120, 240, 720, 1440];

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
        let (from, to) = (self.span.0.as_millisecond(), self.span.1.as_millisecond());
        let drawn: Vec<Point> = self.points.iter().filter(|point| (from..=to).contains(&point.at)).copied().collect();
        let points = thinned(&drawn);
        let Some(scale) = self.scale(&points) else { return String::new() };
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} over time\">", said(self.measure));
        axes(&mut svg, &scale);
        times(&mut svg, &scale, from, to);
        traffic(&mut svg, &scale, &points, self.every);
        self.levels(&mut svg, &scale);
        let _ = write!(svg, "<path class=\"ratio\" d=\"{}\"/>", line(&scale, &points));
        self.marks(&mut svg, &scale);
        svg.push_str("</svg>");
        svg
    }

    fn scale(&self, points: &[Point]) -> Option<Scale> {
        points.first()?;
        let from = milliseconds(self.span.0);
        let to = milliseconds(self.span.1).max(from + 1.0);
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

    /// Their words stand beside the drawing, beneath each other.
    fn levels(&self, svg: &mut String, scale: &Scale) {
        let mut levels: Vec<&Level> = self.levels.iter().filter(|level| level.ratio <= scale.top).collect();
        levels.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        let lines: Vec<f64> = levels.iter().map(|level| scale.y(level.ratio)).collect();
        for ((level, y), words_y) in levels.iter().zip(&lines).zip(apart(&lines)) {
            let _ = write!(svg, "<path class=\"{}\" d=\"M{LEFT} {y:.1}H{RIGHT}L{:.1} {words_y:.1}\"/>", level.name, RIGHT + 6.0);
            let words = format!("{} {}", level.words, scale.words(level.ratio));
            let _ = write!(svg, "<text class=\"{}\" x=\"{:.1}\" y=\"{:.1}\">{words}</text>", level.name, RIGHT + 9.0, words_y + 4.0);
        }
    }

    fn marks(&self, svg: &mut String, scale: &Scale) {
        for (place, mark) in self.marks.iter().enumerate() {
            let x = scale.x(milliseconds(mark.at));
            // Each on a line of its own, so that moments that are near each other can be read.
            let y = 11.0 + 12.0 * f64::from(u32::try_from(place % 3).unwrap_or(0));
            let anchor = if x > RIGHT - 80.0 { " end" } else { "" };
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
}

/// Ticks at whole minutes, and the date where the axis begins and where a day does.
fn times(svg: &mut String, scale: &Scale, from: i64, to: i64) {
    let minute = 60_000;
    let every = TICKS.iter().map(|minutes| minutes * minute).find(|every| (to - from) / every < MOST_TICKS);
    let every = every.unwrap_or_else(|| ((to - from) / MOST_TICKS).max(minute));
    let words =
        |at: i64, format: &str| Timestamp::from_millisecond(at).map_or_else(|_| String::new(), |at| at.strftime(format).to_string());
    let _ = write!(svg, "<text x=\"0\" y=\"{HEIGHT}\" dy=\"-4\">{}</text>", words(from, "%Y-%m-%d"));
    let first = from.saturating_add(every - 1).div_euclid(every) * every;
    for at in (0..=MOST_TICKS).map(|step| first.saturating_add(step * every)).take_while(|at| *at <= to) {
        let x = scale.x(number(at));
        let _ = write!(svg, "<path class=\"grid\" d=\"M{x:.1} {TRAFFIC}v4\"/>");
        // The date stands there.
        if x > LEFT + 20.0 {
            let format = if at.rem_euclid(1440 * minute) == 0 { "%Y-%m-%d" } else { "%H:%M" };
            let _ = write!(svg, "<text class=\"middle\" x=\"{x:.1}\" y=\"{HEIGHT}\" dy=\"-4\">{}</text>", words(at, format));
        }
    }
}

/// The same places, from top to bottom, so far apart that words at them can be read.
fn apart(places: &[f64]) -> Vec<f64> {
    let mut apart = places.to_vec();
    for place in 1..apart.len() {
        apart[place] = apart[place].max(apart[place - 1] + LINE);
    }
    apart
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
    (point.judged > 0.0).then(|| (point.failed / point.judged).max(0.0))
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
            judged: points.iter().map(|point| point.judged).sum::<f64>() / number,
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

    fn steps(number: i64, failed: impl Fn(i64) -> f64) -> Vec<Point> {
        (0..number).map(|step| Point { at: step * 15_000, requests: 150.0, judged: 150.0, failed: failed(step) }).collect()
    }

    /// An hour and forty minutes, a deployment at its first quarter past.
    fn plot<'a>(points: &'a [Point], levels: &[(f64, &'static str)]) -> Plot<'a> {
        let levels = levels.iter().map(|&(ratio, words)| Level { ratio, name: "severity", words }).collect();
        let marks = vec![Mark { at: moment(1830), name: "deployed", words: "deployed" }];
        Plot { points, every: SignedDuration::from_secs(15), span: (moment(930), moment(3930)), measure: Measure::Share, marks, levels }
    }

    /// The places of the words that begin so.
    fn places(svg: &str, words: &str) -> Vec<(f64, f64)> {
        let number = |text: &str, name: &str| text.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok();
        let texts = svg.split("<text").skip(1).filter(|text| text.split('>').nth(1).is_some_and(|said| said.starts_with(words)));
        texts.filter_map(|text| Some((number(text, "x")?, number(text, "y")?))).collect()
    }

    #[test]
    fn a_drawing_shows_the_course_the_levels_and_the_moments() {
        let points = steps(1000, |step| if step < 122 { 1.0 } else { 90.0 });
        let svg = plot(&points, &[(0.5, "bad from")]).svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
        for part in [">deployed<", ">bad from 50 %<", "up to 10 requests a second", ">80 %<"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(svg.len() < 40_000, "{}", svg.len());
    }

    #[test]
    fn what_lies_outside_of_its_time_is_not_drawn_and_takes_no_room() {
        let hours = steps(3000, |step| if step < 122 { 1.0 } else { 90.0 });
        let within: Vec<Point> = hours.iter().filter(|point| (930_000..=3_930_000).contains(&point.at)).copied().collect();
        assert_eq!(plot(&hours, &[]).svg(), plot(&within, &[]).svg());
        assert_eq!(plot(&within, &[]).svg().matches('L').count(), 2 * within.len() - 1);
    }

    #[test]
    fn times_are_whole_minutes_and_the_date_is_said_once_and_where_a_day_begins() {
        let points = steps(300, |_| 1.0);
        let svg = plot(&points, &[]).svg();
        for time in [">00:20<", ">00:30<", ">01:00<"] {
            assert_eq!(svg.matches(time).count(), 1, "{time} in {svg}");
        }
        assert_eq!(svg.matches(">1970-01-01<").count(), 1);
        let night =
            Plot { span: (moment(86_400 - 930), moment(86_400 + 930)), points: &[Point { at: 86_400_000, ..points[0] }], ..plot(&[], &[]) };
        assert!(night.svg().contains(">1970-01-02<") && night.svg().contains(">23:50<"), "{}", night.svg());
    }

    #[test]
    fn levels_that_are_near_each_other_have_words_that_can_be_read() {
        let points = steps(300, |_| 60.0);
        let svg = plot(&points, &[(0.05, "bad from"), (0.0625, "tolerated"), (0.06, "third")]).svg();
        let mut heights: Vec<f64> =
            ["bad from", "tolerated", "third"].into_iter().flat_map(|words| places(&svg, words)).map(|place| place.1).collect();
        heights.sort_by(f64::total_cmp);
        assert_eq!(heights.len(), 3, "{svg}");
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= 10.0), "{heights:?}");
        assert!(places(&svg, "tolerated")[0].0 > RIGHT, "they stand beside what is drawn");
    }

    #[test]
    fn nothing_counted_is_nothing_drawn() {
        assert_eq!(plot(&[], &[]).svg(), "");
    }
}
