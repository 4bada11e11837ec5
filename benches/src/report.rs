//! Figures, their floors, and how they are shown.

use serde_json::json;

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

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Report {
    pub(crate) fn new(json: bool, runs: u32, jobs: Option<u32>, way: Option<Way>) -> Self {
        if !json {
            println!("{:34} {:>14} {:>14} {:>7}  unit", "bench", "figure", "floor", "ratio");
        }
        Self { json, runs, jobs, way }
    }

    /// How many jobs to measure with.
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
        let ratio = floor.map(|(floor, _)| value / floor);
        let (limit, wanted) = match floor {
            Some((floor, better)) => (Some(floor), if better == Better::More { "more" } else { "less" }),
            None => (None, ""),
        };
        if self.json {
            println!(
                "{}",
                json!({ "bench": bench, "value": value, "unit": unit, "floor": limit, "ratio": ratio })
            );
        } else {
            let text = |number: Option<f64>| number.map_or_else(|| "-".into(), readable);
            let ratio = ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
            let note = if wanted.is_empty() { String::new() } else { format!(" ({wanted} is better)") };
            println!("{bench:34} {:>14} {:>14} {ratio:>7}  {unit}{note}", readable(value), text(limit));
        }
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
