//! Figures measured of each system, and those that could not be.

use std::collections::BTreeMap;

use super::benches::{Bench, Line};
use super::systems::{Kind, SYSTEMS, System};
use crate::report::{Better, Row};

/// A peer is called faster beyond this; what is less, one run or another would show.
const NOTABLE: f64 = 1.05;

/// Every measurement of every system.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// By the system's name and the row's, in the order in which they came.
    measured: Vec<((&'static str, String), Vec<Row>)>,
    /// Reasons why something was not measured, each time, by the system's name and the bench's.
    missing: BTreeMap<(&'static str, &'static str), Vec<String>>,
}

/// Figure of a system in a line of a table or plot.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    Measured(f64),
    /// There is none, for a reason told elsewhere.
    Missing,
    /// It has no such thing.
    Absent,
}

/// A peer that does better than we do.
#[derive(Debug)]
pub(crate) struct Faster {
    pub(crate) ours: &'static System,
    pub(crate) peer: &'static System,
    /// Number of times it is better.
    pub(crate) times: f64,
    /// In how many of the runs it was better at all.
    pub(crate) runs: usize,
}

impl Figures {
    pub(crate) fn add(&mut self, system: &'static System, row: Row) {
        let key = (system.name, row.bench.clone());
        match self.measured.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rows)) => rows.push(row),
            None => self.measured.push((key, vec![row])),
        }
    }

    pub(crate) fn lacks(&mut self, system: &'static System, bench: &Bench, reason: String) {
        self.missing.entry((system.name, bench.name)).or_default().push(reason);
    }

    /// Reasons why a bench was not measured, each time that it was not.
    pub(crate) fn missing(&self, system: &'static System, bench: &'static str) -> &[String] {
        self.missing.get(&(system.name, bench)).map_or(&[], Vec::as_slice)
    }

    /// Figures of a system, run by run.
    fn rows(&self, system: &'static System, line: &Line) -> &[Row] {
        let row = match system.kind {
            Kind::Ours(way) => line.our_row.replace("WAY", way),
            Kind::Peer(_) => line.peer_row.to_owned(),
        };
        let is_it = |(name, bench): &(&str, String)| *name == system.name && *bench == row;
        self.measured.iter().find(|(key, _)| is_it(key)).map_or(&[], |(_, rows)| rows)
    }

    /// The median of what was measured of a system.
    pub(crate) fn figure(&self, system: &'static System, line: &Line) -> Figure {
        match (Row::middle(self.rows(system, line)), self.missing(system, line.bench)) {
            (Some(row), _) => Figure::Measured(row.value),
            (None, [_, ..]) => Figure::Missing,
            (None, []) => Figure::Absent,
        }
    }

    /// Figures of peers in a line, the best first.
    pub(crate) fn peers(&self, line: &Line) -> Vec<(&'static System, f64)> {
        let measured = |system: &'static System| match self.figure(system, line) {
            Figure::Measured(value) if !system.is_ours() => Some((system, value)),
            _ => None,
        };
        let mut peers: Vec<_> = SYSTEMS.iter().filter_map(measured).collect();
        peers.sort_by(|one, other| {
            let order = other.1.total_cmp(&one.1);
            if line.better == Better::More { order } else { order.reverse() }
        });
        peers
    }

    /// Every peer that does notably better than one of ours in a line.
    pub(crate) fn faster_peers(&self, line: &'static Line) -> Vec<Faster> {
        let mut found = Vec::new();
        for ours in SYSTEMS.iter().filter(|system| system.is_ours()) {
            let Figure::Measured(own) = self.figure(ours, line) else { continue };
            for (peer, value) in self.peers(line) {
                let times = times_better(line.better, value, own);
                if times > NOTABLE {
                    let runs = self.rows(peer, line).iter().zip(self.rows(ours, line));
                    let better =
                        runs.filter(|(peer, ours)| times_better(line.better, peer.value, ours.value) > 1.0);
                    found.push(Faster { ours, peer, times, runs: better.count() });
                }
            }
        }
        found
    }

    /// Our rows, each the middle of its measurements, with their floors.
    pub(crate) fn our_rows(&self) -> Vec<Row> {
        let is_ours = |name| SYSTEMS.iter().any(|system| system.is_ours() && system.name == name);
        let ours = self.measured.iter().filter(|((name, _), _)| is_ours(*name));
        ours.filter_map(|(_, rows)| Row::middle(rows)).collect()
    }
}

/// Number of times one figure is better than another.
pub(crate) fn times_better(better: Better, one: f64, other: f64) -> f64 {
    if better == Better::More { one / other } else { other / one }
}

#[cfg(test)]
mod tests {
    use super::super::benches::LINES;
    use super::*;

    /// Figures of ours and of the first peer in the first line, run by run.
    fn figures(ours: &[f64], peers: &[f64]) -> Figures {
        let mut figures = Figures::default();
        let peer = SYSTEMS.iter().find(|system| !system.is_ours()).expect("there are peers");
        for (system, name, values) in [(&SYSTEMS[0], "noop local", ours), (peer, "noop", peers)] {
            values.iter().for_each(|value| figures.add(system, Row::new(name, *value, "jobs/s", None)));
        }
        figures
    }

    #[test]
    fn a_peer_is_faster_if_its_median_is_notably_better() {
        let faster = figures(&[100.0, 90.0, 300.0], &[120.0, 200.0, 110.0]).faster_peers(&LINES[0]);
        let told: Vec<_> = faster.iter().map(|faster| (faster.times, faster.runs)).collect();
        assert_eq!(told, [(1.2, 2)]);
    }

    #[test]
    fn a_peer_that_is_better_by_chance_is_not_faster() {
        assert!(figures(&[100.0; 3], &[104.0, 90.0, 200.0]).faster_peers(&LINES[0]).is_empty());
    }
}
