//! `benches/results.svg`: a panel for each line, a bar for each system, on scales of powers of ten.

use anyhow::anyhow;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::benches::{LINES, Line};
use super::figures::{Figure, Figures};
use super::systems::{SYSTEMS, System};
use crate::report::{Better, short};

/// Of a panel, in pixels; there are two beside each other.
const PANEL: (u32, u32) = (560, 320);
const COLUMNS: usize = 2;
/// Room for the names of systems on the left, and for figures on the right.
const NAMES: u32 = 160;
const VALUES: u32 = 80;
const FONT: &str = "sans-serif";

/// Drawn on a light ground of its own, so that it is readable on any page.
const GROUND: RGBColor = RGBColor(250, 250, 248);
const INK: RGBColor = RGBColor(38, 38, 38);
const GRID: RGBColor = RGBColor(222, 222, 220);
const OURS: RGBColor = RGBColor(206, 92, 32);
const PEER: RGBColor = RGBColor(122, 138, 158);

pub(crate) fn draw(figures: &Figures) -> anyhow::Result<String> {
    let panels: Vec<_> = LINES.iter().filter(|line| line.plotted).collect();
    let rows = panels.len().div_ceil(COLUMNS);
    let size = (PANEL.0 * COLUMNS as u32, PANEL.1 * rows as u32);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&GROUND).map_err(failed)?;
        for (line, area) in panels.into_iter().zip(root.split_evenly((rows, COLUMNS))) {
            panel(&area, figures, line)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Error of plotters as text, since it cannot be passed on between threads.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw the plot: {error}")
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel(area: &Area<'_>, figures: &Figures, line: &Line) -> anyhow::Result<()> {
    let bars = bars(figures, line);
    let wanted = if line.better == Better::Less { "less is better" } else { "more is better" };
    let title = format!("{} ({}, {wanted})", line.title, line.unit);
    let style = |size: f64, color: RGBColor| (FONT, size).into_font().color(&color);
    area.draw(&Text::new(title, (14, 14), style(15.0, INK))).map_err(failed)?;
    let Some((low, high)) = powers_of_ten(&bars) else { return Ok(()) };
    let mut chart = ChartBuilder::on(area)
        .margin_top(40)
        .margin_left(NAMES)
        .margin_right(VALUES)
        .margin_bottom(8)
        .x_label_area_size(22)
        .build_cartesian_2d((low..high).log_scale(), 0.0..bars.len() as f64)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_label_style(style(11.0, INK))
        .x_label_formatter(&|value| rounded(*value))
        .draw()
        .map_err(failed)?;
    // Few bars are not much thicker than many.
    let half = 0.36 * (bars.len() as f64 / SYSTEMS.len() as f64).clamp(0.5, 1.0);
    for (index, (system, value)) in bars.iter().enumerate() {
        let (middle, color) =
            (bars.len() as f64 - index as f64 - 0.5, if system.is_ours() { OURS } else { PEER });
        let corners = [(low, middle - half), (*value, middle + half)];
        chart.draw_series([Rectangle::new(corners, color.filled())]).map_err(failed)?;
        let beside = |side| style(12.0, INK).pos(Pos::new(side, VPos::Center));
        let name = EmptyElement::at((low, middle)) + Text::new(system.name, (-6, 0), beside(HPos::Right));
        let figure =
            EmptyElement::at((*value, middle)) + Text::new(short(*value), (5, 0), beside(HPos::Left));
        chart.plotting_area().draw(&name).map_err(failed)?;
        chart.plotting_area().draw(&figure).map_err(failed)?;
    }
    Ok(())
}

/// A power of ten in few characters.
fn rounded(value: f64) -> String {
    match value {
        1e9.. => format!("{}G", value / 1e9),
        1e6.. => format!("{}M", value / 1e6),
        1e3.. => format!("{}k", value / 1e3),
        _ => value.to_string(),
    }
}

/// The systems that have a figure, the best first.
fn bars(figures: &Figures, line: &Line) -> Vec<(&'static System, f64)> {
    let ours = SYSTEMS.iter().filter(|system| system.is_ours());
    let ours = ours.filter_map(|system| match figures.figure(system, line) {
        Figure::Measured(value) => Some((system, value)),
        _ => None,
    });
    let mut bars: Vec<_> = ours.chain(figures.peers(line)).filter(|(_, value)| *value > 0.0).collect();
    bars.sort_by(|one, other| other.1.total_cmp(&one.1));
    if line.better == Better::Less {
        bars.reverse();
    }
    bars
}

/// The powers of ten around all bars, with some room below the least, so that it is a bar too.
fn powers_of_ten(bars: &[(&'static System, f64)]) -> Option<(f64, f64)> {
    let least = bars.iter().map(|(_, value)| *value).min_by(f64::total_cmp)?;
    let most = bars.iter().map(|(_, value)| *value).max_by(f64::total_cmp)?;
    Some((10_f64.powf((least / 2.0).log10().floor()), 10_f64.powf(most.log10().ceil())))
}
