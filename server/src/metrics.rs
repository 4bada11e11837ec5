//! Metrics of a node, as Prometheus reads them.
//!
//! There is one table of them: the text, `docs/metrics.md` and the tests are made of it. Whatever is counted
//! is counted anyway; a scrape reads it.

mod table;

use std::fmt::{self, Write as _};
use std::time::Duration;

use pp_node::Statistics;
use pp_protocol::Tally;
use pp_protocol::tally::RUN_TIME_BOUNDS_MS;

pub use self::table::METRICS;
use crate::listener::RefusalCounts;

/// A metric.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, with the unit in it and `_total` at its end where it only rises.
    pub name: &'static str,
    /// What it measures, and what to make of it.
    pub help: &'static str,
    /// Unit, for people.
    pub unit: &'static str,
    /// Where its value is found, which says what it is.
    reading: Reading,
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rises only, until the daemon is started again.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Values that were seen, counted by their size.
    Histogram,
}

/// Values by words of a closed set. There is nothing else by which values are told apart: no name of a job, a function, a
/// program or a peer makes a series.
type ByWord = Vec<(&'static str, u64)>;

#[derive(Clone, Copy)]
enum Reading {
    Count(fn(&Seen) -> u64),
    Counts(&'static str, fn(&Seen) -> ByWord),
    Level(fn(&Seen) -> f64),
    Levels(&'static str, fn(&Seen) -> ByWord),
    RunTimes(fn(&Seen) -> Tally),
    /// Always 1; what it is about is in the labels.
    Information(fn() -> String),
}

/// What a scrape looks at.
pub(crate) struct Seen {
    pub(crate) statistics: Statistics,
    pub(crate) refusals: RefusalCounts,
    /// When the daemon was started, since 1970.
    pub(crate) started: Duration,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().name())
    }
}

impl Kind {
    /// It as Prometheus writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Reading {
    fn kind(self) -> Kind {
        match self {
            Self::Count(_) | Self::Counts(..) => Kind::Counter,
            Self::Level(_) | Self::Levels(..) | Self::Information(_) => Kind::Gauge,
            Self::RunTimes(_) => Kind::Histogram,
        }
    }
}

impl Metric {
    /// Its type.
    pub fn kind(&self) -> Kind {
        self.reading.kind()
    }

    /// The label that its values are told apart by.
    pub fn label(&self) -> Option<&'static str> {
        match self.reading {
            Reading::Counts(label, _) | Reading::Levels(label, _) => Some(label),
            Reading::RunTimes(_) => Some("le"),
            Reading::Information(_) => Some("version, target"),
            Reading::Count(_) | Reading::Level(_) => None,
        }
    }

    fn write(&self, seen: &Seen, out: &mut String) -> fmt::Result {
        let name = self.name;
        writeln!(out, "# HELP {name} {}", self.help)?;
        writeln!(out, "# TYPE {name} {}", self.kind().name())?;
        match self.reading {
            Reading::Count(read) => writeln!(out, "{name} {}", read(seen)),
            Reading::Level(read) => writeln!(out, "{name} {}", read(seen)),
            Reading::Counts(label, read) | Reading::Levels(label, read) => read(seen)
                .into_iter()
                .try_for_each(|(word, value)| writeln!(out, "{name}{{{label}=\"{word}\"}} {value}")),
            Reading::RunTimes(read) => write_run_times(name, &read(seen), out),
            Reading::Information(labels) => writeln!(out, "{name}{{{}}} 1", labels()),
        }
    }
}

fn write_run_times(name: &str, tally: &Tally, out: &mut String) -> fmt::Result {
    let mut sum = 0;
    for (bound, count) in RUN_TIME_BOUNDS_MS.iter().zip(tally.run_times) {
        sum += count;
        writeln!(out, "{name}_bucket{{le=\"{}\"}} {sum}", *bound as f64 / 1_000.0)?;
    }
    writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {}", tally.ran())?;
    writeln!(out, "{name}_sum {}", tally.run_time().as_secs_f64())?;
    writeln!(out, "{name}_count {}", tally.ran())
}

/// All metrics as text.
pub(crate) fn text(seen: &Seen) -> String {
    let mut out = String::with_capacity(16 << 10);
    // Writing to text does not fail.
    let _ = METRICS.iter().try_for_each(|metric| metric.write(seen, &mut out));
    out
}

#[cfg(test)]
mod tests;
