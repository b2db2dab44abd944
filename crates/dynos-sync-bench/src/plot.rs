//! The plot: each workload's ratio as a bar, the limit being 1.

use std::fmt::Write as _;

use crate::figures::Figures;

const LEFT: usize = 270;
const UNIT: f64 = 360.0;
const LINE: usize = 24;

/// A drawing of the ratios.
pub(crate) fn bars(figures: &Figures) -> String {
    let shown: Vec<_> = figures.workloads.iter().filter_map(|w| Some((w, w.ratio?))).collect();
    let height = 40 + shown.len() * LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"760\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (place, (workload, ratio)) in shown.iter().enumerate() {
        let top = 30 + place * LINE;
        let width = (ratio.min(1.3) * UNIT).round();
        let text = top + 13;
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"16\" fill=\"#3b6ea5\"/>\n\
             <text x=\"{}\" y=\"{text}\">{ratio:.2}</text>\n",
            LEFT - 8,
            workload.title,
            LEFT as f64 + width + 6.0,
        );
    }
    let limit = LEFT as f64 + UNIT;
    let _ = write!(
        svg,
        "<line x1=\"{limit}\" y1=\"22\" x2=\"{limit}\" y2=\"{}\" stroke=\"#c03030\" stroke-dasharray=\"4 3\"/>\n\
         <text x=\"{limit}\" y=\"16\" text-anchor=\"middle\" fill=\"#c03030\">the machine's limit</text>\n</svg>\n",
        height - 8
    );
    svg
}
