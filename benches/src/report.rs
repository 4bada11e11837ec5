//! Figures, their floors, and how they are shown.

use serde::{Deserialize, Serialize};

use crate::server::Way;

/// Collects what is measured, and shows it line by line.
#[derive(Debug)]
pub(crate) struct Report {
    json: bool,
    /// How often everything is measured.
    pub(crate) runs: u32,
    /// How many jobs to measure with, if not as many as the bench thinks best.
    jobs: Option<u32>,
    /// Which way jobs are to go, if not each.
    pub(crate) way: Option<Way>,
}

/// Direction in which a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    More,
    Less,
}

/// A figure as it is shown, and as one run of the benches tells it to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) bench: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    pub(crate) floor: Option<f64>,
    /// Part of what is possible that was reached, or the excess that was used.
    pub(crate) ratio: Option<f64>,
    pub(crate) better: Option<Better>,
}

impl Row {
    pub(crate) fn new(bench: &str, value: f64, unit: &str, floor: Option<(f64, Better)>) -> Self {
        Self {
            bench: bench.to_owned(),
            value,
            unit: unit.to_owned(),
            floor: floor.map(|(floor, _)| floor),
            ratio: floor.map(|(floor, _)| value / floor),
            better: floor.map(|(_, better)| better),
        }
    }

    /// The middle of several measurements of the same: of their figures, and of their floors.
    pub(crate) fn middle(rows: &[Self]) -> Option<Self> {
        let first = rows.first()?;
        let value = median(rows.iter().map(|row| row.value).collect());
        let floors: Vec<_> = rows.iter().filter_map(|row| row.floor).collect();
        let floor = first.better.filter(|_| !floors.is_empty()).map(|better| (median(floors), better));
        Some(Self::new(&first.bench, value, &first.unit, floor))
    }
}

impl Report {
    pub(crate) fn new(json: bool, runs: u32, jobs: Option<u32>, way: Option<Way>) -> Self {
        if !json {
            println!("{:34} {:>14} {:>14} {:>7}  unit", "bench", "figure", "floor", "ratio");
        }
        Self { json, runs, jobs, way }
    }

    /// Number of jobs to measure with.
    pub(crate) fn jobs(&self, best: u32) -> u32 {
        self.jobs.unwrap_or(best)
    }

    /// Measures a figure and its floor in turns, and shows the medians and their ratio.
    pub(crate) fn measure(
        &mut self,
        bench: &str,
        unit: &str,
        better: Better,
        mut figure: impl FnMut() -> anyhow::Result<f64>,
        mut floor: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<f64> {
        let (mut figures, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            floors.push(floor()?);
            figures.push(figure()?);
        }
        let (figure, floor) = (median(figures), median(floors));
        self.show(bench, figure, unit, Some((floor, better)));
        Ok(figure)
    }

    /// Shows a figure. Its ratio to the floor is how much of what is possible was reached, or how much more was used.
    pub(crate) fn show(&self, bench: &str, value: f64, unit: &str, floor: Option<(f64, Better)>) {
        self.show_row(&Row::new(bench, value, unit, floor));
    }

    /// Shows a figure that was measured by another process.
    pub(crate) fn show_row(&self, row: &Row) {
        if self.json {
            println!("{}", serde_json::json!(row));
        } else {
            let text = |number: Option<f64>| number.map_or_else(|| "-".into(), readable);
            let ratio = row.ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
            let note = match row.better {
                Some(Better::More) => " (more is better)",
                Some(Better::Less) => " (less is better)",
                None => "",
            };
            let Row { bench, value, unit, floor, .. } = row;
            println!("{bench:34} {:>14} {:>14} {ratio:>7}  {unit}{note}", readable(*value), text(*floor));
        }
    }

    /// Says why there is no figure.
    pub(crate) fn show_reason(&self, bench: &str, reason: &str) {
        if self.json {
            println!("{}", serde_json::json!({ "bench": bench, "reason": reason }));
        } else {
            println!("{bench:34} {reason}");
        }
    }
}

/// With three digits that count, or all before the point.
pub(crate) fn short(number: f64) -> String {
    match number.abs() {
        1_000.0.. => grouped(number),
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

fn readable(number: f64) -> String {
    if number.abs() >= 1_000.0 { grouped(number) } else { format!("{number:.3}") }
}

/// A whole number, its digits in groups of three.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The middle one; of an even number, the upper of the two.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
