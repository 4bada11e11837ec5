//! This system and its peers, measured in turns: one process for each measurement of each, all of the same bench one after
//! the other, as often as there are runs. Written to `benches/RESULTS.md` and `benches/results.svg`.
//!
//! Our own figures are those of the other benches: this program is started for it too.

mod benches;
mod figures;
mod machine;
mod plot;
mod process;
mod results;
mod systems;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use self::benches::{BENCHES, Bench, OURS_ALONE};
use self::figures::Figures;
use self::systems::{SYSTEMS, System};
use crate::report::{Report, Row};

/// Longest measurement of one system.
const LIMIT: Duration = Duration::from_secs(60);
/// Longest run of the benches that are ours alone; they are not divided into runs here.
const LIMIT_ALONE: Duration = Duration::from_secs(600);

/// This folder of the source tree, in which the peers are and the results go.
fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn run(report: &Report) -> anyhow::Result<()> {
    let mut figures = Figures::default();
    for system in SYSTEMS {
        match system.installed() {
            Ok(versions) => report.show_reason(system.name, &versions),
            Err(reason) => report.show_reason(system.name, &reason),
        }
    }
    for round in 0..report.runs {
        for bench in BENCHES.iter().filter(|bench| round == 0 || !bench.once) {
            for system in SYSTEMS {
                measure(report, &mut figures, bench, system);
            }
        }
    }
    for bench in OURS_ALONE {
        let command = systems::ourselves(&[bench, "--runs", &report.runs.to_string()])?;
        match process::rows(command, LIMIT_ALONE) {
            Ok(rows) => rows.into_iter().for_each(|row| {
                report.show_row(&row);
                figures.add(&SYSTEMS[0], row);
            }),
            Err(error) => report.show_reason(bench, &format!("failed: {error:#}")),
        }
    }
    write("results.svg", &plot::draw(&figures)?)?;
    write("RESULTS.md", &results::text(&figures, report.runs)?)?;
    Ok(())
}

/// Measures one bench of one system once, unless it cannot be. What fails may work the next time.
fn measure(report: &Report, figures: &mut Figures, bench: &Bench, system: &'static System) {
    if !system.takes_part(bench) {
        return;
    }
    if let Err(reason) = system.installed() {
        figures.lacks(system, bench, reason);
        return;
    }
    let measured = system.commands(bench).and_then(|commands| {
        let rows = commands.into_iter().map(|command| process::rows(command, LIMIT));
        Ok(rows.collect::<anyhow::Result<Vec<_>>>()?.concat())
    });
    match measured {
        Ok(rows) => {
            for row in rows {
                let peer = if system.is_ours() { String::new() } else { format!(", {}", system.name) };
                report.show_row(&Row { bench: format!("{}{peer}", row.bench), ..row.clone() });
                figures.add(system, row);
            }
        }
        Err(error) => {
            let reason = format!("failed: {error:#}");
            report.show_reason(&format!("{}, {}", bench.name, system.name), &reason);
            figures.lacks(system, bench, reason);
        }
    }
}

fn write(name: &str, text: &str) -> anyhow::Result<()> {
    let path = home().join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
