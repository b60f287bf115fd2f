//! The plot of the document: false rollbacks, on a logarithmic scale, against delay. Readable on light and on dark ground.

use std::fmt::Write as _;

/// A rule.
pub struct Point {
    pub label: String,
    /// How often it is wrong in its worst family, 0 to 1.
    pub share: f64,
    /// Its mean delay, in seconds.
    pub delay: f64,
    pub ours: bool,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 56.0;

/// Less often is drawn as this often: more deployments would be needed to tell.
const LEAST: f64 = 0.000_1;

/// The longest delay on the plot, in seconds.
const LONGEST: f64 = 1800.0;

fn x(delay: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * delay.clamp(0.0, LONGEST) / LONGEST
}

fn y(share: f64) -> f64 {
    let down = share.clamp(LEAST, 1.0).log10() / LEAST.log10();
    TOP + (HEIGHT - TOP - BOTTOM) * down
}

/// The plot as SVG.
pub fn svg(points: &[Point]) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"False rollbacks against delay\">\n\
         <style>\n\
         text {{ font: 13px system-ui, sans-serif; fill: #24292f; }}\n\
         .grid {{ stroke: #d0d7de; }} .bar {{ stroke: #cf222e; stroke-dasharray: 6 4; }} .bar-text {{ fill: #cf222e; }}\n\
         .rule {{ fill: #57606a; }} .ours {{ fill: #1a7f37; }} .ours-text {{ fill: #1a7f37; font-weight: 600; }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         text {{ fill: #e6edf3; }} .grid {{ stroke: #3d444d; }} .bar {{ stroke: #ff7b72; }} .bar-text {{ fill: #ff7b72; }}\n\
         .rule {{ fill: #9198a1; }} .ours {{ fill: #3fb950; }} .ours-text {{ fill: #3fb950; }}\n\
         }}\n\
         </style>\n"
    );
    axes(&mut text);
    let mut taken: Vec<(f64, f64)> = Vec::new();
    for point in points {
        dot(&mut text, point, &mut taken);
    }
    text.push_str("</svg>\n");
    text
}

fn axes(text: &mut String) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (share, label) in [(1.0, "100 %"), (0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %"), (LEAST, "0.01 % or less")] {
        let line = y(share);
        let _ = writeln!(text, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>");
        let (first, rest) = label.split_once(" or").unwrap_or((label, ""));
        let _ = writeln!(text, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{first}</text>", LEFT - 8.0, line + 4.0);
        if !rest.is_empty() {
            let _ = writeln!(text, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">or{rest}</text>", LEFT - 8.0, line + 19.0);
        }
    }
    for minutes in [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0] {
        let line = x(minutes * 60.0);
        let _ = writeln!(text, "<line class=\"grid\" x1=\"{line:.1}\" x2=\"{line:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let _ = writeln!(text, "<text x=\"{line:.1}\" y=\"{}\" text-anchor=\"middle\">{minutes} min</text>", bottom + 20.0);
    }
    let bar = y(0.001);
    let _ = writeln!(text, "<line class=\"bar\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bar:.1}\" y2=\"{bar:.1}\"/>");
    let _ = writeln!(
        text,
        "<text class=\"bar-text\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">one false rollback in a thousand deployments</text>",
        bar - 6.0
    );
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">mean delay of finding a broken deployment</text>",
        f64::midpoint(LEFT, right),
        HEIGHT - 10.0
    );
    let _ = writeln!(
        text,
        "<text transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">healthy ones rolled back, worst family</text>",
        f64::midpoint(TOP, bottom)
    );
}

/// A dot with its name beside it, below where there is one already.
fn dot(text: &mut String, point: &Point, taken: &mut Vec<(f64, f64)>) {
    let (across, down) = (x(point.delay), y(point.share));
    let left = across > WIDTH * 0.62;
    let mut line = down + 4.0;
    while taken.iter().any(|(other, used)| (other - across).abs() < 260.0 && (used - line).abs() < 15.0) {
        line += 15.0;
    }
    taken.push((across, line));
    let (dot, words) = if point.ours { ("ours", "ours-text") } else { ("rule", "") };
    let radius = if point.ours { 7 } else { 5 };
    let _ = writeln!(text, "<circle class=\"{dot}\" cx=\"{across:.1}\" cy=\"{down:.1}\" r=\"{radius}\"/>");
    let (at, anchor) = if left { (across - 10.0, "end") } else { (across + 10.0, "start") };
    let _ = writeln!(text, "<text class=\"{words}\" x=\"{at:.1}\" y=\"{line:.1}\" text-anchor=\"{anchor}\">{}</text>", point.label);
}
