//! One panel of the picture: axes, lines, legend.

use std::fmt::Write;

pub(crate) const WIDTH: f64 = 960.0;
pub(crate) const HEIGHT: f64 = 230.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 34.0;

/// What a panel shows.
pub(crate) struct Panel<'a> {
    pub(crate) title: &'a str,
    pub(crate) unit: &'a str,
    /// Powers of ten on the axis; else it begins at 0.
    pub(crate) logarithmic: bool,
    pub(crate) times_s: &'a [f64],
    /// Name, class of colour, values.
    pub(crate) lines: Vec<(&'a str, &'a str, Vec<f64>)>,
    /// Moments that get a thin upright line, and what they are.
    pub(crate) marks_s: Vec<f64>,
    pub(crate) marks_are: &'a str,
}

/// The values of an axis from end to end, and its ticks.
struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Axis {
    fn linear(most: f64, ticks: f64) -> Axis {
        let rough = most.max(1e-9) / ticks;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|times| times * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(power * 10.0);
        let count = (most / step).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|tick| f64::from(tick) * step).collect();
        Axis { from: 0.0, to: count * step, logarithmic: false, ticks }
    }

    fn powers(least: f64, most: f64) -> Axis {
        let from = least.max(0.01).log10().floor() as i32;
        let to = (most.max(0.01).log10().ceil() as i32).max(from + 1);
        let ticks = (from..=to).map(|power| 10f64.powi(power)).collect();
        Axis { from: 10f64.powi(from), to: 10f64.powi(to), logarithmic: true, ticks }
    }

    /// From 0 to 1.
    fn share(&self, value: f64) -> f64 {
        match self.logarithmic {
            true => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        }
    }
}

/// Draws a panel below the ones before.
pub(crate) fn draw(svg: &mut String, panel: &Panel<'_>, top: f64) {
    let values = || panel.lines.iter().flat_map(|(_, _, values)| values.iter().copied());
    let most = values().fold(0.0, f64::max);
    let least = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    let y_axis = match panel.logarithmic {
        true => Axis::powers(least, most),
        false => Axis::linear(most * 1.05, 5.0),
    };
    let end_s = panel.times_s.last().copied().unwrap_or(1.0);
    let (minute_s, minutes) = if end_s > 5.0 * 3600.0 { (3600.0, "h") } else { (60.0, "min") };
    let mut x_axis = Axis::linear(end_s / minute_s, 10.0);
    x_axis.to = end_s / minute_s;
    x_axis.ticks.retain(|tick| *tick <= x_axis.to);
    let x = |time_s: f64| LEFT + x_axis.share(time_s / minute_s) * (WIDTH - LEFT - RIGHT);
    let bottom = top + HEIGHT - BOTTOM;
    let y = |value: f64| bottom - y_axis.share(value) * (bottom - top - TOP);

    text(svg, "title", LEFT, top + 20.0, &format!("{}, {}", panel.title, panel.unit));
    for tick in &y_axis.ticks {
        let at = y(*tick);
        line(svg, "grid", (LEFT, at), (WIDTH - RIGHT, at));
        text(svg, "end", LEFT - 8.0, at + 4.0, &number(*tick));
    }
    for tick in &x_axis.ticks {
        let at = x(tick * minute_s);
        line(svg, "tick", (at, bottom), (at, bottom + 5.0));
        text(svg, "middle", at, bottom + 18.0, &number(*tick));
    }
    line(svg, "tick", (LEFT, bottom), (WIDTH - RIGHT, bottom));
    text(svg, "end", WIDTH - RIGHT, bottom + 31.0, &format!("time, {minutes}"));
    for mark in &panel.marks_s {
        line(svg, "mark", (x(*mark), top + TOP), (x(*mark), bottom));
    }
    for (_, colour, values) in &panel.lines {
        let mut points = String::new();
        for (time_s, value) in panel.times_s.iter().zip(values) {
            write!(points, "{:.1},{:.1} ", x(*time_s), y(*value)).unwrap();
        }
        writeln!(svg, r#"<polyline class="{colour}" points="{}"/>"#, points.trim_end()).unwrap();
    }
    legend(svg, panel, top + 38.0);
}

/// Names of the lines, one beside the other.
fn legend(svg: &mut String, panel: &Panel<'_>, y: f64) {
    let names = panel.lines.iter().map(|(name, colour, _)| (*name, *colour));
    let marks = (!panel.marks_s.is_empty()).then_some((panel.marks_are, "mark"));
    let mut x = LEFT;
    for (name, class) in names.chain(marks) {
        line(svg, class, (x, y - 4.0), (x + 22.0, y - 4.0));
        text(svg, "", x + 28.0, y, name);
        x += 28.0 + name.chars().count() as f64 * 6.8 + 24.0;
    }
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    writeln!(svg, r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#)
        .unwrap();
}

pub(crate) fn text(svg: &mut String, class: &str, x: f64, y: f64, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(svg, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{words}</text>"#).unwrap();
}

/// As few digits as it takes.
fn number(value: f64) -> String {
    match value {
        value if value >= 1e4 => format!("{}k", number((value / 10.0).round() / 100.0)),
        value => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}
