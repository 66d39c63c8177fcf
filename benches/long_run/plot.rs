//! The samples as a picture: four panels over the same time.
//!
//! SVG is text, and this takes lines and words only, so it is written by hand: a library would be
//! a dependency for what two short files do, and could not follow the reader's dark or light.

use std::path::Path;

use crate::panel::{HEIGHT, Panel, WIDTH, draw, text};
use crate::sample::Sample;

const HEAD: f64 = 58.0;
/// Colours that can be told apart, also by those who see few, on white and on dark.
const STYLE: &str = "
text { font: 12px sans-serif; fill: #24292f; }
.head { font-size: 17px; font-weight: bold; } .title { font-size: 14px; font-weight: bold; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.paper { fill: #ffffff; } .grid { stroke: #d8dee4; } .tick { stroke: #57606a; }
.mark { stroke: #8250df; stroke-width: 1; stroke-dasharray: 2 3; }
polyline { fill: none; }
.a { stroke: #0969da; stroke-width: 1.8; } .b { stroke: #d4610a; stroke-width: 1.8; }
.c { stroke: #6e7781; stroke-width: 1.8; stroke-dasharray: 6 3; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .paper { fill: #0d1117; } .grid { stroke: #30363d; }
.tick { stroke: #8b949e; } .mark { stroke: #bc8cff; }
.a { stroke: #58a6ff; } .b { stroke: #f0883e; } .c { stroke: #9aa4ae; }
}
";

pub(crate) fn write(samples: &[Sample], to: &Path) {
    std::fs::write(to, picture(samples)).unwrap();
    println!("picture: {}", to.display());
}

fn picture(samples: &[Sample]) -> String {
    let times_s: Vec<f64> = samples.iter().map(|sample| sample.at_s).collect();
    let values = |value: fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<f64>>();
    let compactions = samples.iter().filter(|sample| sample.compactions > 0);
    let marks_s: Vec<f64> = compactions.map(|sample| sample.at_s).collect();
    let panel = |title, unit, logarithmic, lines| Panel {
        title,
        unit,
        logarithmic,
        times_s: &times_s,
        lines,
        marks_s: marks_s.clone(),
        marks_are: "compaction of the database",
    };
    let panels = [
        panel(
            "Memory of the node, resident",
            "MB",
            false,
            vec![("RSS", "a", values(|sample| sample.resident_mb))],
        ),
        panel(
            "Disk, without the reserve",
            "MB",
            false,
            vec![
                ("data directory", "a", values(|sample| sample.disk_mb)),
                ("live records", "b", values(|sample| sample.live_mb)),
                ("payloads of stragglers kept", "c", values(|sample| sample.stragglers_mb)),
            ],
        ),
        panel(
            "Latency, 99 % of the calls of a sample are below",
            "ms (logarithmic)",
            true,
            vec![
                ("enqueue", "a", values(|sample| sample.enqueue.p99_ms)),
                ("claim with acks", "b", values(|sample| sample.claim.p99_ms)),
                ("fdatasync of the disk alone", "c", values(|sample| sample.fdatasync.p99_ms)),
            ],
        ),
        panel(
            "Rate",
            "jobs/s",
            false,
            vec![
                ("done", "a", values(|sample| sample.done_per_s)),
                ("enqueued", "b", values(|sample| sample.enqueued_per_s)),
                ("offered", "c", values(|sample| sample.offered_per_s)),
            ],
        ),
    ];
    let height = HEAD + HEIGHT * panels.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n"
    );
    head(&mut svg, &samples[samples.len() - 1]);
    for (number, panel) in panels.iter().enumerate() {
        draw(&mut svg, panel, HEAD + HEIGHT * number as f64);
    }
    svg.push_str("</svg>\n");
    svg
}

fn head(svg: &mut String, last: &Sample) {
    let minutes = last.at_s / 60.0;
    let time = match minutes >= 120.0 {
        true => format!("{:.1} hours", minutes / 60.0),
        false => format!("{} minutes", (minutes * 10.0).round() / 10.0),
    };
    let (offered, peak) = (last.offered_per_s, last.peak_per_s);
    text(svg, "head", 20.0, 28.0, &format!("pulk under mixed load for {time}"));
    let under = format!(
        "{offered:.0} jobs/s offered by the clock, {:.0} % of the peak of {peak:.0}; \
         1 % stragglers: {} delayed jobs and dead letters kept at the end",
        offered / peak * 100.0,
        last.stragglers,
    );
    text(svg, "", 20.0, 48.0, &under);
}
