//! The guard: ratios of one run, taken on one machine, do not depend on how fast that is.

use crate::figures::Figures;

/// How low the ratio of a workload may be: about two thirds of what it is in quiet, since in CI something else is going on.
const FLOORS: [(&str, f64); 7] =
    [("w1", 0.3), ("wb", 0.5), ("wc", 0.45), ("p", 0.18), ("d", 0.38), ("ds", 2.0), ("dc", 0.2)];

/// Fails where a ratio is lower than it may be, or was not measured.
pub(crate) fn check(figures: &Figures) -> Result<(), String> {
    let mut problems = Vec::new();
    for (workload, floor) in FLOORS {
        let ratio =
            figures.workloads.iter().find(|measured| measured.workload == workload).and_then(|w| w.ratio);
        match ratio {
            Some(ratio) if ratio >= floor => {}
            Some(ratio) => problems.push(format!("{workload}: {ratio:.3}, at least {floor} is expected")),
            None => problems.push(format!("{workload} was not measured")),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n       ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(ratio: f64) -> Figures {
        let workload = |(name, floor): &(&str, f64)| {
            format!(
                r#"{{"workload": "{name}", "title": "", "limit_title": "", "rows": 1, "ratio": {}, "limit": [], "ours": []}}"#,
                floor * ratio
            )
        };
        let workloads: Vec<String> = FLOORS.iter().map(workload).collect();
        let text =
            format!(r#"{{"shape": "usual", "runs": 1, "cores": 2, "workloads": [{}]}}"#, workloads.join(","));
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_ratio_below_its_floor_fails_and_names_the_workload() {
        assert_eq!(check(&figures(1.01)), Ok(()));
        assert!(check(&figures(0.99)).unwrap_err().contains("w1: 0.297"));
    }

    #[test]
    fn what_was_not_measured_fails() {
        let none = Figures { workloads: Vec::new(), ..figures(1.0) };
        assert!(check(&none).unwrap_err().contains("d was not measured"));
    }
}
