//! `benches/RESULTS.md`: all that was measured, for people to read.

use std::fmt::Write;

use super::benches::{LINES, Line};
use super::figures::{Faster, Figure, Figures, times_better};
use super::systems::{SYSTEMS, System};
use super::{benches, machine};
use crate::report::{Better, short};

/// Guide to reading it, the same each time.
const READING: &str = "\
* Every system has two workers on this machine, and does the same work, in a process of its own for every measurement. The
  systems take turns within each bench, and the figures are medians over the runs. The machine is never quiet: what differs
  by a few percent is the same.
* Peers call Python functions, ours are compiled. The jobs do nothing, add one, or give back what they got, so that what is
  measured is the way to them and back. CPU-bound jobs are compared to one thread of the same language.
* *ours, local* are worker processes of the program itself, as those of the pools, and of pp and ppft where it says *local*.
  *ours, ppserver* goes through the daemon over TCP on loopback, authenticated and encrypted. No peer encrypts here.
* *pp, TCP* and *ppft, TCP* go through their own ppserver. They leave Nagle's algorithm on, and wait for a delayed
  acknowledgement of 40 ms in every job. *no delay* is what they would do if they set `TCP_NODELAY`: it is forced on them
  from outside, which nobody has who just installs them.
* Chunks are 1,000 calls for multiprocessing.Pool and for ours, 5,000 for concurrent.futures, which does best with more.
  Other peers have no chunk size for plain calls.
* Memory is that of all processes of a system, what they share in parts, while a no-op job waits behind others.
";

pub(crate) fn text(figures: &Figures, runs: u32) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let often = if runs == 1 { "measured once".to_owned() } else { format!("medians of {runs} runs") };
    writeln!(text, "# Results\n")?;
    writeln!(
        text,
        "Written by `cargo run --release -p pp-benches -- compare`; [how to repeat it](README.md).\n"
    )?;
    writeln!(text, "{}, {}; {}.\n", machine::today(), machine::describe(), often)?;
    writeln!(text, "![Jobs a second, latency, throughput and memory of each system](results.svg)\n")?;
    against_the_best(&mut text, figures)?;
    faster_peers(&mut text, figures, runs)?;
    every_system(&mut text, figures)?;
    writeln!(text, "## Versions\n")?;
    versions(&mut text)?;
    writeln!(text, "## How to read them\n\n{READING}")?;
    floors(&mut text, figures)?;
    Ok(text)
}

fn heading(line: &Line) -> String {
    let wanted = if line.better == Better::Less { ", less is better" } else { "" };
    format!("{} ({}{wanted})", line.title, line.unit)
}

fn ours() -> impl Iterator<Item = &'static System> {
    SYSTEMS.iter().filter(|system| system.is_ours())
}

fn against_the_best(text: &mut String, figures: &Figures) -> std::fmt::Result {
    writeln!(text, "## Ours, and the best peer of each line\n")?;
    let names: Vec<_> = ours().map(|system| system.name).collect();
    writeln!(text, "| | {} | best peer | | ratios |\n|---|--:|--:|--:|---|--:|", names.join(" | "))?;
    for line in LINES {
        let best = figures.peers(line).first().copied();
        let own: Vec<_> = ours().map(|system| figures.figure(system, line)).collect();
        let cells: Vec<_> = own.iter().map(cell).collect();
        let times = own.iter().filter_map(|figure| match (figure, best) {
            (Figure::Measured(own), Some((_, peer))) => {
                Some(format!("{} x", short(times_better(line.better, *own, peer))))
            }
            _ => None,
        });
        let (name, value) = best.map_or(("-", "-".into()), |(peer, value)| (peer.name, short(value)));
        let times: Vec<_> = times.collect();
        let heading = heading(line);
        writeln!(text, "| {heading} | {} | {value} | {name} | {} |", cells.join(" | "), times.join(", "))?;
    }
    writeln!(text, "\nThe ratios are how many times better each way of ours is than the best peer.\n")
}

fn cell(figure: &Figure) -> String {
    match figure {
        Figure::Measured(value) => short(*value),
        Figure::Missing => "n/a".into(),
        Figure::Absent => "-".into(),
    }
}

fn faster_peers(text: &mut String, figures: &Figures, runs: u32) -> std::fmt::Result {
    writeln!(text, "## Where a peer does better than we do\n")?;
    let mut nowhere = true;
    for line in LINES {
        let faster =
            figures.faster_peers(line).into_iter().map(|Faster { ours, peer, times, runs: better }| {
                let (ours, peer) = (ours.name, peer.name);
                format!(
                    "{peer} is {times:.2} times better than *{ours}* (and better in {better} of {runs} runs)"
                )
            });
        let faster: Vec<_> = faster.collect();
        if !faster.is_empty() {
            nowhere = false;
            let note = if line.note.is_empty() { String::new() } else { format!(" {}", line.note) };
            writeln!(text, "* {}: {}.{note}", line.title, faster.join("; "))?;
        }
    }
    if LINES.iter().all(|line| figures.peers(line).is_empty()) {
        writeln!(text, "No peer was measured.")?;
    } else if nowhere {
        writeln!(text, "Nowhere, beyond the 5 % that one run or another would show.")?;
    }
    writeln!(text)
}

fn every_system(text: &mut String, figures: &Figures) -> std::fmt::Result {
    writeln!(text, "## Every system\n")?;
    let headings: Vec<_> = LINES.iter().map(heading).collect();
    writeln!(text, "| | {} |", headings.join(" | "))?;
    writeln!(text, "|---|{}", "--:|".repeat(LINES.len()))?;
    for system in SYSTEMS {
        let cells: Vec<_> = LINES.iter().map(|line| cell(&figures.figure(system, line))).collect();
        let name = if system.is_ours() { format!("**{}**", system.name) } else { system.name.to_owned() };
        writeln!(text, "| {name} | {} |", cells.join(" | "))?;
    }
    writeln!(
        text,
        "\n\"-\": it has no such thing, or it is measured in its other way. \"n/a\": it was never measured."
    )?;
    for system in SYSTEMS.iter().filter(|system| system.installed().is_ok()) {
        for bench in benches::BENCHES {
            let (reasons, name) = (figures.missing(system, bench.name), system.name);
            if let Some(last) = reasons.last() {
                writeln!(
                    text,
                    "\n{name}, {}: not measured {} times, at last: {last}",
                    bench.name,
                    reasons.len()
                )?;
            }
        }
    }
    writeln!(text)
}

fn versions(text: &mut String) -> std::fmt::Result {
    let mut told = Vec::new();
    for system in SYSTEMS {
        let Some(environment) = system.environment().filter(|name| !told.contains(name)) else { continue };
        told.push(environment);
        let versions = system.installed().unwrap_or_else(|reason| reason);
        writeln!(text, "* {environment}: {versions}")?;
    }
    writeln!(text)
}

fn floors(text: &mut String, figures: &Figures) -> std::fmt::Result {
    writeln!(text, "## Ours, beside their floors\n")?;
    writeln!(text, "A floor is what the same machine does at the same time without any of this.\n")?;
    writeln!(text, "| | figure | floor | ratio | unit |\n|---|--:|--:|--:|---|")?;
    for row in figures.our_rows() {
        let floor = row.floor.map_or_else(|| "-".into(), short);
        let ratio = row.ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
        let wanted = if row.better == Some(Better::Less) { ", less is better" } else { "" };
        let (bench, value, unit) = (&row.bench, short(row.value), &row.unit);
        writeln!(text, "| {bench} | {value} | {floor} | {ratio} | {unit}{wanted} |")?;
    }
    Ok(())
}
