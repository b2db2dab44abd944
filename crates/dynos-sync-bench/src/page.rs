//! The table of `docs/performance.md`.

use std::{fs, path::Path};

use crate::{
    figures::{Figures, Sample, Workload, median},
    plot,
};

const BEGIN: &str = "<!-- figures: begin -->\n";
const END: &str = "<!-- figures: end -->";

/// Puts the table between the page's marks, and the plot beside the page.
pub(crate) fn write(figures: &Figures, into: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", into.display());
    let page = fs::read_to_string(into).map_err(failed)?;
    let marks = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = marks else { return Err(format!("{} has no marks", into.display())) };
    fs::write(into, format!("{before}{BEGIN}{}{END}{after}", table(figures))).map_err(failed)?;
    fs::write(into.with_extension("svg"), plot::bars(figures)).map_err(failed)
}

fn table(figures: &Figures) -> String {
    let mut text = format!(
        "{} cores, records of the shape `{}`, the median of {} runs of each side, taken in turns (a million rows: of 3; `idle`: one).\\\n\
         Rows a second, or calls; times in ms; sizes in MiB, of the engine's side.\n\n\
         | | workload | beside | rows | limit/s | ours/s | ratio | p50 | p99 | memory | wire | disk | |\n\
         |---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
        figures.cores, figures.shape, figures.runs
    );
    for workload in &figures.workloads {
        text.push_str(&line(workload));
    }
    text
}

fn line(measured: &Workload) -> String {
    let Workload { workload, title, limit_title, rows, ratio, limit, ours } = measured;
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    let rate = |samples: &[Sample]| {
        median(samples, |s| Some(s.rate())).map_or_else(String::new, |rate| grouped(rate.round() as u64))
    };
    let mib = |of: fn(&Sample) -> Option<u64>| {
        number(median(ours, |s| of(s).map(|bytes| bytes as f64 / f64::from(1 << 20))), 1)
    };
    let remark = ours.last().and_then(|sample| sample.remark.clone()).unwrap_or_default();
    format!(
        "| `{workload}` | {title} | {limit_title} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {remark} |\n",
        grouped(*rows),
        rate(limit),
        rate(ours),
        number(*ratio, 2),
        number(median(ours, |s| s.p50_ms), 3),
        number(median(ours, |s| s.p99_ms), 3),
        mib(|s| s.peak_bytes),
        mib(|s| s.wire_bytes),
        mib(|s| s.disk_bytes),
    )
}

/// 1,234,567
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let all = [0, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
